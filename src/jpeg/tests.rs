use proptest::prelude::*;

use super::*;
use crate::encoder::{Encoder, Software};
use crate::frame::{MonotonicTime, PixelFormat, Plane, RawFrame};

/// A real JPEG, from the encoder.
fn real() -> Vec<u8> {
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
        let (marker, _, next) = segment(jpeg, at).unwrap();
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
    assert_eq!(info, JpegInfo { size: Size { width: 64, height: 48 }, insert_tables_at: None });
    assert_eq!(length(&jpeg), Ok(jpeg.len()));
}

#[test]
fn padding_after_the_end_is_accepted() {
    for padding in [&[0_u8; 4096][..], b"trailing garbage", &[0xff; 7]] {
        let jpeg = real();
        let padded = [&jpeg, padding].concat();
        assert!(inspect(&padded).is_ok());
        assert_eq!(length(&padded), Ok(jpeg.len()));
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
        assert_eq!(result, 0, "{:?}", std::ffi::CStr::from_ptr(tj::tj3GetErrorStr(handle)));
        tj::tj3Destroy(handle);
    }
    pixels
}

#[test]
fn damage_is_named() {
    assert_eq!(inspect(b""), Err(JpegError::NoStart));
    assert_eq!(inspect(b"GIF89a"), Err(JpegError::NoStart));
    assert_eq!(inspect(&[0xff, 0xd8]), Err(JpegError::Truncated { length: 2 }));
    assert_eq!(inspect(&[0xff, 0xd8, 0x12, 0x34]), Err(JpegError::NoMarker { offset: 2 }));
    assert_eq!(inspect(&[0xff, 0xd8, 0xff, 0xd9]), Err(JpegError::NoSize));
    // A segment shorter than its own length field.
    assert_eq!(inspect(&[0xff, 0xd8, 0xff, 0xe0, 0, 1, 0]), Err(JpegError::NoMarker { offset: 4 }));
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
            prop_assert!(info.insert_tables_at.is_none_or(|at| at < data.len()));
        }
        if let Ok(length) = length(&data) {
            prop_assert!(length <= data.len());
        }
    }
}
