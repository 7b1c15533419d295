use super::*;
use crate::encoder::testing::{
    ALL, Component, SUBSAMPLINGS, damage, decode, jpeg_of, plane_size, scans_repeated, scene, without_tables,
};
use crate::encoder::turn::turned;

/// A picture's size, and that of the part of it that can be turned.
fn trimmed(size: Size, subsampling: tj::TJSAMP, orientation: Orientation) -> Size {
    let (block_width, block_height) = match subsampling {
        tj::TJSAMP_TJSAMP_422 => (16, 8),
        tj::TJSAMP_TJSAMP_420 => (16, 16),
        tj::TJSAMP_TJSAMP_440 => (8, 16),
        tj::TJSAMP_TJSAMP_411 => (32, 8),
        tj::TJSAMP_TJSAMP_441 => (8, 32),
        _ => (8, 8),
    };
    let (left, top) = match orientation {
        Orientation::Rotate0 => (false, false),
        Orientation::Rotate180 => (true, true),
        Orientation::MirrorHorizontal | Orientation::Rotate270 => (true, false),
        Orientation::MirrorVertical | Orientation::Rotate90 => (false, true),
    };
    let trim = |length: u32, block: u32, trim: bool| if trim { length / block * block } else { length };
    Size { width: trim(size.width, block_width, left), height: trim(size.height, block_height, top) }
}

#[test]
fn jpegs_are_turned_and_trimmed_where_blocks_are_cut() {
    let mut turner = JpegTurner::new(Bound::MAX).unwrap();
    for subsampling in SUBSAMPLINGS {
        for (width, height) in [(96, 64), (64, 96), (97, 65), (110, 75), (33, 32), (640, 480)] {
            for progressive in [false, true] {
                let size = Size { width, height };
                let jpeg = jpeg_of(size, subsampling, progressive, scene);
                let source = decode(&jpeg);
                for orientation in ALL {
                    let part = trimmed(size, subsampling, orientation);
                    let (result, result_size) = turner.turn(&[&jpeg], orientation).unwrap();
                    assert_eq!(result_size, turned(part, orientation), "{size} {subsampling} {orientation}");
                    let result = decode(result);
                    assert_eq!(result.size, result_size);
                    for (index, (got, source)) in result.components.iter().zip(&source.components).enumerate() {
                        let (w, h) = plane_size(index, part, subsampling);
                        let expected = Component::new(w, h, |x, y| source.at(x, y)).turned(orientation);
                        assert_eq!((got.width, got.height), (expected.width, expected.height));
                        // The inverse transform of a turned block rounds a little differently.
                        let off = got.samples.iter().zip(&expected.samples).map(|(a, b)| a.abs_diff(*b)).max();
                        assert!(off <= Some(2), "{size} {subsampling} {orientation}: component {index} off by {off:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn turning_jpegs_loses_nothing() {
    let mut turner = JpegTurner::new(Bound::MAX).unwrap();
    for subsampling in SUBSAMPLINGS {
        let jpeg = jpeg_of(Size { width: 128, height: 96 }, subsampling, false, scene);
        let before = decode(&jpeg);
        for (there, back) in [
            (Orientation::Rotate180, Orientation::Rotate180),
            (Orientation::Rotate90, Orientation::Rotate270),
            (Orientation::Rotate270, Orientation::Rotate90),
            (Orientation::MirrorHorizontal, Orientation::MirrorHorizontal),
            (Orientation::MirrorVertical, Orientation::MirrorVertical),
        ] {
            let once = turner.turn(&[&jpeg], there).unwrap().0.to_vec();
            assert_ne!(decode(&once).components, before.components);
            let (twice, _) = turner.turn(&[&once], back).unwrap();
            assert!(decode(twice).components == before.components, "{subsampling} {there}");
            // Same coefficients, tables and markers: the same file.
            assert!(twice == jpeg, "{subsampling} {there}");
        }
    }
}

#[test]
fn tables_are_taken_in_pieces_and_extras_left_out() {
    let mut turner = JpegTurner::new(Bound::MAX).unwrap();
    let jpeg = jpeg_of(Size { width: 64, height: 48 }, tj::TJSAMP_TJSAMP_422, false, scene);
    let expected = turner.turn(&[&jpeg], Orientation::Rotate90).unwrap().0.to_vec();
    assert!(jpeg::inspect(&expected).unwrap().insert_tables_at.is_none());
    let bare = without_tables(&jpeg);
    let at = jpeg::inspect(&bare).unwrap().insert_tables_at.unwrap();
    let pieces = [&bare[..at], jpeg::HUFFMAN_TABLES, &bare[at..]];
    assert!(turner.turn(&pieces, Orientation::Rotate90).unwrap().0 == expected);
    let mut exif = jpeg[..2].to_vec();
    exif.extend_from_slice(b"\xff\xe1\x00\x10Exif\0\0thumbnail");
    exif.truncate(2 + 18);
    exif.extend_from_slice(&jpeg[2..]);
    assert!(turner.turn(&[&exif, &[], &[]], Orientation::Rotate90).unwrap().0 == expected);
    // Stray bytes before the end, as some cameras send: a warning to the library, nothing to viewers.
    let (body, end) = jpeg.split_at(jpeg.len() - 2);
    let stray = [body, &[0x12, 0x34, 0x56], end];
    assert!(turner.turn(&stray, Orientation::Rotate90).unwrap().0 == expected);
}

#[test]
fn damaged_jpegs_are_turned_or_refused() {
    let size = Size { width: 48, height: 32 };
    let mut turner = JpegTurner::new(Bound::of(size)).unwrap();
    let (mut taken, mut refused) = (0, 0);
    for subsampling in SUBSAMPLINGS {
        for progressive in [false, true] {
            let jpeg = jpeg_of(size, subsampling, progressive, scene);
            for seed in 0..300 {
                let damaged = damage(&jpeg, seed);
                if let Ok((result, size)) = turner.turn(&[&damaged], ALL[seed as usize % ALL.len()]) {
                    assert_eq!(jpeg::inspect(result).unwrap().size, size);
                    taken += 1;
                } else {
                    // One bad frame is one bad frame: the next is turned as if nothing had been.
                    assert!(turner.turn(&[&jpeg], Orientation::Rotate0).unwrap().0 == jpeg || progressive);
                    refused += 1;
                }
            }
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} taken, {refused} refused");
    let jpeg = jpeg_of(size, tj::TJSAMP_TJSAMP_420, false, scene);
    for cut in 0..jpeg.len() {
        assert!(turner.turn(&[&jpeg[..cut]], Orientation::Rotate180).is_err());
    }
    assert!(turner.turn(&[], Orientation::Rotate180).is_err());
}

#[test]
fn what_takes_more_memory_or_time_than_was_agreed_is_refused() {
    let size = Size { width: 64, height: 48 };
    let jpeg = jpeg_of(size, tj::TJSAMP_TJSAMP_420, true, scene);
    let mut turner = JpegTurner::new(Bound::of(size)).unwrap();
    for (width, height) in [(65000, 65000), (64, 33000), (65535, 1), (128, 64)] {
        assert!(turner.turn(&[&jpeg::tests::lying(&jpeg, width, height)], Orientation::Rotate90).is_err());
        assert_eq!(turner.buffer.capacity(), 0, "{width}x{height}");
    }
    // Ten scans, as libjpeg makes them.
    assert!(turner.turn(&[&scans_repeated(&jpeg, 2)], Orientation::Rotate90).is_ok());
    assert!(turner.turn(&[&scans_repeated(&jpeg, 3)], Orientation::Rotate90).is_err());
    assert!(turner.turn(&[&jpeg], Orientation::Rotate90).is_ok());
    assert!(worst_jpeg(Size { width: 65000, height: 65000 }, tj::TJSAMP_TJSAMP_420).is_err());
    assert!(worst_jpeg(Size { width: 8192, height: 8192 }, tj::TJSAMP_TJSAMP_444).unwrap() > 6 * 8192 * 8192);
}
