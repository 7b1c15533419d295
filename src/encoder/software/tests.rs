use super::*;
use crate::encoder::testing;
use crate::frame::{MonotonicTime, Plane};
use crate::jpeg;

/// Planes with a gap between row and stride, the last row cut right after its pixels, as drivers deliver them.
struct Picture {
    size: Size,
    planes: [Vec<u8>; 3],
    strides: [usize; 3],
}

impl Picture {
    /// A brightness ramp with one colour.
    fn new(size: Size, gap: usize, u: u8, v: u8) -> Self {
        let (width, height) = (size.width as usize, size.height as usize);
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let plane = |width: usize, height: usize, value: &dyn Fn(usize) -> u8| {
            let mut rows = Vec::new();
            for _ in 0..height {
                rows.extend((0..width).map(value));
                // What stands in the gap must not be seen.
                rows.extend(std::iter::repeat_n(0xee, gap));
            }
            rows.truncate(rows.len() - gap);
            rows
        };
        Self {
            size,
            planes: [
                plane(width, height, &|x| (40 + x * 160 / width) as u8),
                plane(half_width, half_height, &|_| u),
                plane(half_width, half_height, &|_| v),
            ],
            strides: [width + gap, half_width + gap, half_width + gap],
        }
    }

    fn yuv420(&self) -> RawFrame<'_> {
        let planes = (0..3).map(|i| Plane { data: &self.planes[i], stride: self.strides[i], fd: None, offset: 0 });
        RawFrame::new(PixelFormat::Yuv420, self.size, planes, 1, MonotonicTime::now())
    }

    fn interleaved(&self) -> (Vec<u8>, usize) {
        let half_width = self.size.width.div_ceil(2) as usize;
        let stride = 2 * half_width + 6;
        let mut uv = Vec::new();
        for (u, v) in self.planes[1].chunks(self.strides[1]).zip(self.planes[2].chunks(self.strides[2])) {
            uv.extend(u.iter().zip(v).take(half_width).flat_map(|(u, v)| [*u, *v]));
            uv.extend([0xee; 6]);
        }
        uv.truncate(uv.len() - 6);
        (uv, stride)
    }
}

/// Y, U and V after decoding, without what makes luma even.
fn decode(jpeg: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>, Size) {
    let decoded = testing::decode(jpeg);
    let (size, width) = (decoded.size, decoded.size.width as usize);
    let rows = decoded.samples(0).chunks(size.made_even().width as usize).take(size.height as usize);
    let luma = rows.flat_map(|row| row[..width].to_vec()).collect();
    (luma, decoded.samples(1).to_vec(), decoded.samples(2).to_vec(), size)
}

fn assert_shows(jpeg: &[u8], picture: &Picture, u: u8, v: u8) {
    let (decoded_y, decoded_u, decoded_v, size) = decode(jpeg);
    assert_eq!(size, picture.size);
    let width = size.width as usize;
    for (row, expected) in decoded_y.chunks(width).zip(picture.planes[0].chunks(picture.strides[0])) {
        for (got, expected) in row.iter().zip(expected) {
            assert!(got.abs_diff(*expected) <= 6, "{got} instead of {expected} in {size}");
        }
    }
    assert!(decoded_u.iter().all(|got| got.abs_diff(u) <= 4), "{size}: {:?}", decoded_u.iter().max());
    assert!(decoded_v.iter().all(|got| got.abs_diff(v) <= 4), "{size}: {:?}", decoded_v.iter().max());
}

const SIZES: [(u32, u32); 6] = [(64, 48), (65, 49), (16, 16), (17, 31), (640, 480), (1, 1)];

#[test]
fn yuv420_of_any_size_and_stride_decodes_to_itself() {
    let mut encoder = Software::new(95).unwrap();
    for (width, height) in SIZES {
        for gap in [0, 32] {
            let picture = Picture::new(Size { width, height }, gap, 90, 200);
            let jpeg = encoder.encode(&picture.yuv420()).unwrap().pieces.concat();
            assert_shows(&jpeg, &picture, 90, 200);
        }
    }
}

#[test]
fn nv12_of_any_size_and_stride_decodes_to_itself() {
    let mut encoder = Software::new(95).unwrap();
    for (width, height) in SIZES {
        let picture = Picture::new(Size { width, height }, 16, 60, 150);
        let (uv, stride) = picture.interleaved();
        let planes = [
            Plane { data: &picture.planes[0], stride: picture.strides[0], fd: None, offset: 0 },
            Plane { data: &uv, stride, fd: None, offset: 0 },
        ];
        let frame = RawFrame::new(PixelFormat::Nv12, picture.size, planes, 1, MonotonicTime::now());
        let jpeg = encoder.encode(&frame).unwrap().pieces.concat();
        assert_shows(&jpeg, &picture, 60, 150);
    }
}

#[test]
fn quality_decides_the_size() {
    let picture = Picture::new(Size { width: 320, height: 240 }, 0, 100, 100);
    let length = |quality| Software::new(quality).unwrap().encode(&picture.yuv420()).unwrap().pieces.concat().len();
    assert!(length(1) < length(50) && length(50) < length(100));
    assert!(Software::new(0).is_err() && Software::new(101).is_err());
}

#[test]
fn short_planes_are_refused_by_name() {
    let picture = Picture::new(Size { width: 64, height: 48 }, 0, 100, 100);
    let mut encoder = Software::new(80).unwrap();
    for index in 0..3 {
        let full = picture.yuv420();
        let planes: Vec<_> = (0..3)
            .map(|i| {
                let plane = *full.plane(i).unwrap();
                let end = if i == index { plane.data.len() - 1 } else { plane.data.len() };
                Plane { data: &plane.data[..end], ..plane }
            })
            .collect();
        let frame = RawFrame::new(PixelFormat::Yuv420, picture.size, planes, 1, MonotonicTime::now());
        let error = encoder.encode(&frame).unwrap_err().to_string();
        assert!(error.contains(&format!("truncated YUV420 frame: plane {index}")), "{error}");
    }
    // A plane that is not there at all, and a stride shorter than a row.
    let luma = *picture.yuv420().plane(0).unwrap();
    let frame = RawFrame::new(PixelFormat::Yuv420, picture.size, [luma], 1, MonotonicTime::now());
    assert!(encoder.encode(&frame).is_err());
    let narrow = Plane { stride: 63, ..luma };
    let frame = RawFrame::new(PixelFormat::Nv12, picture.size, [narrow, luma], 1, MonotonicTime::now());
    assert!(encoder.encode(&frame).is_err());
    // And the encoder still works.
    assert!(encoder.encode(&picture.yuv420()).is_ok());
}

/// A ramp whose chroma differs from row to row, so that only their mean is right.
fn yuyv(size: Size, gap: usize, u: [u8; 2], v: [u8; 2]) -> (Vec<u8>, usize) {
    let (width, pairs) = (size.width as usize, size.width.div_ceil(2) as usize);
    let ramp = |x: usize| (40 + x.min(width - 1) * 160 / width) as u8;
    let mut data = Vec::new();
    for row in 0..size.height as usize {
        for pair in 0..pairs {
            data.extend([ramp(2 * pair), u[row % 2], ramp(2 * pair + 1), v[row % 2]]);
        }
        data.extend(std::iter::repeat_n(0xee, gap));
    }
    data.truncate(data.len() - gap);
    (data, 4 * pairs + gap)
}

#[test]
fn yuyv_of_any_size_and_stride_decodes_to_itself() {
    let mut encoder = Software::new(95).unwrap();
    for (width, height) in SIZES {
        for gap in [0, 12] {
            let size = Size { width, height };
            let picture = Picture::new(size, 0, 90, 200);
            // An odd height's last row stands alone, and its chroma with it.
            let step = if height % 2 == 0 { 10 } else { 0 };
            let (data, stride) = yuyv(size, gap, [90 - step, 90 + step], [200 - step, 200 + step]);
            let plane = Plane { data: &data, stride, fd: None, offset: 0 };
            let frame = RawFrame::new(PixelFormat::Yuyv, size, [plane], 1, MonotonicTime::now());
            let jpeg = encoder.encode(&frame).unwrap().pieces.concat();
            assert_shows(&jpeg, &picture, 90, 200);
            let short = Plane { data: &data[1..], ..plane };
            let frame = RawFrame::new(PixelFormat::Yuyv, size, [short], 1, MonotonicTime::now());
            assert!(encoder.encode(&frame).unwrap_err().to_string().contains("truncated YUYV frame: plane 0"));
        }
    }
}

#[test]
fn turned_pictures_are_those_of_the_turner() {
    let mut encoder = Software::new(95).unwrap();
    let mut upright = Software::new(95).unwrap();
    let mut turner = RawTurner::default();
    for (width, height) in SIZES {
        let picture = Picture::new(Size { width, height }, 8, 90, 200);
        let (uv, stride) = picture.interleaved();
        let luma = Plane { data: &picture.planes[0], stride: picture.strides[0], fd: None, offset: 0 };
        let nv12 = [luma, Plane { data: &uv, stride, fd: None, offset: 0 }];
        let nv12 = RawFrame::new(PixelFormat::Nv12, picture.size, nv12, 1, MonotonicTime::now());
        for frame in [picture.yuv420(), nv12] {
            for orientation in crate::encoder::testing::ALL {
                encoder.set_orientation(orientation);
                let reference = turner.turn(&frame, orientation).unwrap();
                let expected = upright.encode(&reference).unwrap();
                let result = encoder.encode(&frame).unwrap();
                assert_eq!(result.size, reference.size);
                assert_eq!(jpeg::inspect(result.pieces[0]).unwrap().size, reference.size);
                assert!(result.pieces == expected.pieces, "{width}x{height} {orientation}");
            }
        }
    }
}

#[test]
fn quality_can_change_between_pictures() {
    let picture = Picture::new(Size { width: 320, height: 240 }, 0, 100, 100);
    let mut encoder = Software::new(90).unwrap();
    let fine = encoder.encode(&picture.yuv420()).unwrap().pieces.concat();
    encoder.set_quality(30).unwrap();
    let coarse = encoder.encode(&picture.yuv420()).unwrap().pieces.concat();
    assert!(coarse.len() < fine.len());
    assert!(
        encoder.set_quality(0).is_err() && encoder.set_quality(101).is_err() && encoder.set_quality(u32::MAX).is_err()
    );
    assert_eq!(encoder.encode(&picture.yuv420()).unwrap().pieces.concat(), coarse, "a refused quality changes nothing");
    encoder.set_quality(90).unwrap();
    assert_eq!(encoder.encode(&picture.yuv420()).unwrap().pieces.concat(), fine);
}

#[test]
fn a_limited_range_becomes_full() {
    for (limited, full) in [(16, 0), (235, 255), (0, 0), (255, 255), (126, 128), (180, 191)] {
        assert_eq!(FULL_LUMA[limited], full, "{limited}");
    }
    for (limited, full) in [(16, 0), (240, 255), (128, 128), (0, 0), (184, 192)] {
        assert_eq!(FULL_CHROMA[limited], full, "{limited}");
    }
    for (width, height) in [(64, 48), (33, 17)] {
        let size = Size { width, height };
        let picture = Picture::new(size, 5, 90, 200);
        let mut encoder = Software::new(95).unwrap();
        let before = decode(encoder.encode(&picture.yuv420()).unwrap().pieces[0]);
        encoder.set_limited_range(true);
        let after = decode(encoder.encode(&picture.yuv420()).unwrap().pieces[0]);
        assert_eq!(after.3, size);
        let brighter = |value: u8| FULL_LUMA[usize::from(value)];
        for (before, after) in before.0.iter().zip(&after.0) {
            assert!(brighter(*before).abs_diff(*after) <= 4, "{before} became {after}");
        }
    }
}

#[test]
fn a_raw_frame_is_as_large_as_its_bytes_whatever_it_says() {
    let bytes = vec![100; 64 * 48 * 2];
    for format in [PixelFormat::Yuv420, PixelFormat::Nv12, PixelFormat::Yuyv] {
        for size in [Size { width: 65000, height: 65000 }, Size { width: 64, height: 8192 }] {
            let mut encoder = Software::new(80).unwrap();
            let planes = [size.width as usize * 2; 3].map(|stride| Plane { data: &bytes, stride, fd: None, offset: 0 });
            let frame = RawFrame::new(format, size, planes, 0, MonotonicTime::from_nanos(0));
            for orientation in [Orientation::Rotate0, Orientation::Rotate90] {
                encoder.set_orientation(orientation);
                assert!(matches!(encoder.encode(&frame), Err(EncodeError::ShortPlane { .. })), "{format} {size}");
                assert_eq!(encoder.buffer.capacity(), 0);
            }
        }
    }
}
