use proptest::prelude::*;

use super::*;
use crate::encoder::{Encoder, Software};
use crate::frame::{MonotonicTime, PixelFormat, Plane, RawFrame};

/// A real JPEG, from the encoder.
pub(crate) fn real() -> Vec<u8> {
    let luma: Vec<u8> = (0..64 * 48).map(|i| (i * 7 % 251) as u8).collect();
    let chroma = vec![128; 32 * 24];
    let planes =
        [(&luma, 64), (&chroma, 32), (&chroma, 32)].map(|(data, stride)| Plane { data, stride, fd: None, offset: 0 });
    let size = Size { width: 64, height: 48 };
    let frame = RawFrame::new(PixelFormat::Yuv420, size, planes, 0, MonotonicTime::now());
    Software::new(75).unwrap().encode(&frame).unwrap().pieces.concat()
}

/// Takes the DHT segments out, as UVC cameras do.
fn without_tables(jpeg: &[u8]) -> Vec<u8> {
    let mut out = jpeg[..2].to_vec();
    let mut at = 2;
    loop {
        let Segment { marker, next, .. } = segment(jpeg, at).unwrap();
        if marker != DHT {
            out.extend(&jpeg[at..next]);
        }
        at = next;
        if marker == SOS {
            out.extend(&jpeg[at..]);
            return out;
        }
    }
}

#[test]
fn whole_jpeg_is_accepted() {
    let jpeg = real();
    let info = inspect(&jpeg).unwrap();
    assert_eq!((info.size, info.start, info.insert_tables_at), (Size { width: 64, height: 48 }, 0, None));
    assert_eq!(info.end(&jpeg), Ok(jpeg.len()));
    assert_eq!(length(&jpeg), Ok(jpeg.len()));
}

#[test]
fn the_picture_ends_before_what_pads_the_frame() {
    let jpeg = real();
    let stale = &[&jpeg[200..], &[0; 77]].concat();
    for padding in [&[0; 4096][..], &[0; 1], &[0; 64], b"trailing garbage", &[0xff; 7], &[0xff, 0x00], &[0xd9], stale] {
        let padded = [&jpeg, padding].concat();
        let info = inspect(&padded).unwrap();
        assert_eq!(info.first_end(&padded), Ok(jpeg.len()));
        assert_eq!(length(&padded), Ok(jpeg.len()));
        if padding != stale {
            assert_eq!(info.end(&padded), Ok(jpeg.len()), "{padding:x?}");
        }
    }
}

#[test]
fn zeros_at_the_end_are_taken_off() {
    for zeros in 0..200 {
        for body in [&b""[..], b"\x01", &[7; 63], &[7; 64], &[7; 65]] {
            assert_eq!(without_zeros(&[body, &vec![0; zeros]].concat()), body);
        }
    }
}

#[test]
fn a_second_start_of_image_begins_the_picture_anew() {
    let jpeg = real();
    let tables = jpeg.windows(2).position(|two| two == [0xff, DHT]).unwrap();
    // Twice, three times, with fill bytes, behind stray bytes, and behind the beginning of a picture that was lost.
    for before in [&jpeg[..2], b"\xff\xd8\xff\xd8", b"\xff\xd8\xff\xff", b"\xff\xd8\0\0\x01\x02", &jpeg[..tables]] {
        let doubled = [before, &jpeg].concat();
        let info = inspect(&doubled).unwrap();
        assert_eq!((info.start, info.size), (before.len(), Size { width: 64, height: 48 }), "{before:x?}");
        assert_eq!(info.end(&doubled), Ok(doubled.len()));
    }
}

#[test]
fn stray_bytes_between_segments_are_passed_over() {
    let jpeg = real();
    let clean = decode_luma(&jpeg);
    // Where segments begin, by a walk along the clean picture.
    let mut places = vec![2];
    loop {
        let Segment { marker, next, .. } = segment(&jpeg, *places.last().unwrap()).unwrap();
        if marker == SOS {
            break;
        }
        places.push(next);
    }
    assert!(places.len() > 5, "{places:?}");
    for at in places {
        for stray in
            [&b"\0"[..], b"\x12\x34\x56", b"\xff", b"\xff\xff\xff", b"\xff\0", b"\x01\xff\0\x02\xff", &[0; 1000]]
        {
            let data = [&jpeg[..at], stray, &jpeg[at..]].concat();
            let info = inspect(&data).unwrap_or_else(|error| panic!("{stray:x?} at {at}: {error}"));
            assert_eq!((info.size, info.insert_tables_at), (Size { width: 64, height: 48 }, None));
            assert!(decode_luma(&data) == clean, "libjpeg passes {stray:x?} at {at} over");
        }
    }
}

#[test]
fn a_size_is_told_once() {
    let jpeg = real();
    let at = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    let next = segment(&jpeg, at).unwrap().next;
    let twice = [&jpeg[..next], &jpeg[at..]].concat();
    assert_eq!(inspect(&twice), Err(JpegError::TwoSizes { offset: next }));
}

/// The picture with another size in its frame header.
pub(crate) fn lying(jpeg: &[u8], width: u16, height: u16) -> Vec<u8> {
    let mut lie = jpeg.to_vec();
    let at = (0..jpeg.len()).find(|&at| lie[at] == 0xff && matches!(lie[at + 1], 0xc0..=0xc2)).unwrap() + 5;
    lie[at..at + 2].copy_from_slice(&height.to_be_bytes());
    lie[at + 2..at + 4].copy_from_slice(&width.to_be_bytes());
    lie
}

#[test]
fn a_header_that_lies_is_found_out() {
    let jpeg = real();
    let holds = |jpeg: &[u8]| has_all_of_its_picture(jpeg, &headers(jpeg).unwrap());
    assert!(holds(&jpeg) && holds(&without_tables(&jpeg)) && holds(&jpeg[..jpeg.len() - 2]));
    assert!(holds(&[&jpeg[..2], &jpeg].concat()), "from its own start on");
    // Stray bytes before the end, which some cameras put there.
    assert!(holds(&[&jpeg[..jpeg.len() - 2], &[1, 2, 3], END].concat()));
    for (width, height) in [(64, 65000), (65000, 65000), (64, 112), (128, 48), (96, 48), (8192, 8192), (64, 65535)] {
        assert!(!holds(&lying(&jpeg, width, height)), "{width}x{height}");
    }
    for cut in [jpeg.len() / 2, jpeg.len() * 3 / 4] {
        assert!(!holds(&jpeg[..cut]), "cut at {cut}");
    }
}

#[test]
fn a_large_progressive_picture_is_believed() {
    use crate::encoder::testing::jpeg_of;
    use turbojpeg_sys as tj;
    for (width, height, subsampling) in
        [(4000, 3000, tj::TJSAMP_TJSAMP_444), (16, 3000, tj::TJSAMP_TJSAMP_411), (3001, 17, tj::TJSAMP_TJSAMP_441)]
    {
        let jpeg =
            jpeg_of(crate::frame::Size { width, height }, subsampling, true, |_, x, y| ((x / 3) ^ (y / 5)) as u8);
        assert!(has_all_of_its_picture(&jpeg, &headers(&jpeg).unwrap()), "{width}x{height}");
    }
}

#[test]
fn every_truncation_is_noticed() {
    let jpeg = real();
    for end in 0..jpeg.len() {
        assert!(inspect(&jpeg[..end]).is_err(), "cut at {end} of {}", jpeg.len());
        assert!(length(&jpeg[..end]).is_err(), "cut at {end} of {}", jpeg.len());
    }
}

#[test]
fn a_thumbnails_end_is_not_the_pictures_end() {
    let jpeg = real();
    // An APP1 segment with a whole JPEG in it, as EXIF thumbnails are.
    let mut with_thumbnail = jpeg[..2].to_vec();
    with_thumbnail.extend([0xff, 0xe1]);
    with_thumbnail.extend(((jpeg.len() + 2) as u16).to_be_bytes());
    with_thumbnail.extend(&jpeg);
    let headers = with_thumbnail.len();
    with_thumbnail.extend(&jpeg[2..]);
    assert_eq!(length(&with_thumbnail), Ok(with_thumbnail.len()));
    assert!(inspect(&with_thumbnail).is_ok());
    assert!(inspect(&with_thumbnail[..headers]).is_err(), "ends with the thumbnail's EOI");
}

#[test]
fn missing_tables_are_found_and_the_inserted_ones_decode() {
    let jpeg = real();
    let bare = without_tables(&jpeg);
    assert!(bare.len() < jpeg.len());
    let at = inspect(&bare).unwrap().insert_tables_at.expect("no tables before the scan");
    let mended = [&bare[..at], HUFFMAN_TABLES, &bare[at..]].concat();
    assert_eq!(inspect(&mended).unwrap().insert_tables_at, None);
    assert_eq!(decode_luma(&mended), decode_luma(&jpeg));
}

/// Decodes with libjpeg-turbo, which fails on tables that are missing or wrong.
fn decode_luma(jpeg: &[u8]) -> Vec<u8> {
    use turbojpeg_sys as tj;
    let size = inspect(jpeg).unwrap().size;
    let mut pixels = vec![0; (size.width * size.height) as usize];
    // SAFETY: the buffer has a byte for each pixel, as TJPF_GRAY wants.
    unsafe {
        let handle = tj::tj3Init(tj::TJINIT_TJINIT_DECOMPRESS as i32);
        let result = tj::tj3Decompress8(
            handle,
            jpeg.as_ptr(),
            jpeg.len() as _,
            pixels.as_mut_ptr(),
            size.width as i32,
            tj::TJPF_TJPF_GRAY,
        );
        // Stray bytes are only warned of.
        let is_warning = tj::tj3GetErrorCode(handle) == tj::TJERR_TJERR_WARNING as i32;
        assert!(result == 0 || is_warning, "{:?}", std::ffi::CStr::from_ptr(tj::tj3GetErrorStr(handle)));
        tj::tj3Destroy(handle);
    }
    pixels
}

#[test]
fn damage_is_named() {
    assert_eq!(inspect(b""), Err(JpegError::NoStart));
    assert_eq!(inspect(b"GIF89a"), Err(JpegError::NoStart));
    assert_eq!(inspect(&[0xff, 0xd8]), Err(JpegError::Truncated { length: 2 }));
    assert_eq!(inspect(&[0xff, 0xd8, 0x12, 0x34]), Err(JpegError::Truncated { length: 4 }));
    assert_eq!(inspect(&[0xff, 0xd8, 0xff, 0xd9]), Err(JpegError::NoSize));
    // A segment shorter than its own length field.
    assert_eq!(inspect(&[0xff, 0xd8, 0xff, 0xe0, 0, 1, 0]), Err(JpegError::NoRoom { offset: 4 }));
    let jpeg = real();
    let cut = &jpeg[..jpeg.len() - 2];
    assert_eq!(inspect(cut), Err(JpegError::NoEnd { length: cut.len() }));
    // The next picture begins where this one should have ended.
    let two = [&cut[..cut.len() - 9], &jpeg].concat();
    assert_eq!(length(&two), Err(JpegError::NoEnd { length: cut.len() - 9 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(45_000))]

    #[test]
    fn arbitrary_bytes_never_panic(mut data in proptest::collection::vec(any::<u8>(), 0..600), real_start: bool) {
        if real_start {
            data.splice(0..0, [0xff, 0xd8, 0xff]);
        }
        let _ = inspect(&data);
        if let Ok(length) = length(&data) {
            prop_assert!(length <= data.len());
        }
    }

    #[test]
    fn mutated_jpegs_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        thread_local!(static REAL: Vec<u8> = real());
        let mut data = REAL.with(Clone::clone);
        for (at, value) in changes {
            let at = at.index(data.len());
            data[at] = value;
        }
        data.truncate(cut.index(data.len()) + 1);
        if let Ok(info) = inspect(&data) {
            prop_assert!(info.size.width > 0 && info.size.height > 0);
            prop_assert!(info.insert_tables_at.is_none_or(|at| info.start < at && at < data.len()));
            let end = info.end(&data).unwrap();
            prop_assert!(info.start < end && end <= data.len());
            // A damaged segment may skip the end.
            prop_assert!(info.first_end(&data).is_ok_and(|first| info.start < first && first <= end) || data.ends_with(END));
        }
        if let Ok(length) = length(&data) {
            prop_assert!(length <= data.len());
        }
    }
}
