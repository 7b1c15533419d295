use super::*;
use crate::encoder::testing::{ALL, Component};
use crate::frame::MonotonicTime;

const SIZES: [(usize, usize); 12] = [
    (64, 48),
    (65, 49),
    (16, 16),
    (17, 31),
    (2, 2),
    (1, 1),
    (3, 1),
    (1, 5),
    (66, 34),
    (130, 98),
    (2048, 33),
    (31, 1025),
];

fn noise(seed: usize) -> impl Fn(usize, usize) -> u8 {
    move |x, y| (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503) ^ seed.wrapping_mul(97)).to_le_bytes()[1]
}

/// A frame of `format` and the components it should give.
fn frame(format: PixelFormat, size: (usize, usize), gap: usize) -> (Vec<(Vec<u8>, usize)>, [Component; 3]) {
    let (width, height) = size;
    let half = (width.div_ceil(2), height.div_ceil(2));
    let luma = Component::new(width, height, noise(1));
    let chroma = [Component::new(half.0, half.1, noise(2)), Component::new(half.0, half.1, noise(3))];
    let join = |luma: Component, [u, v]: [Component; 2]| [luma, u, v];
    match format {
        PixelFormat::Yuv420 => {
            ([&luma, &chroma[0], &chroma[1]].map(|component| component.rows(gap)).to_vec(), join(luma, chroma))
        }
        PixelFormat::Nv12 => {
            let uv = Component::new(2 * half.0, half.1, |x, y| chroma[x % 2].at(x / 2, y));
            (vec![luma.rows(gap), uv.rows(gap)], join(luma, chroma))
        }
        PixelFormat::Grey => {
            let neutral = [Component::new(half.0, half.1, |_, _| 128), Component::new(half.0, half.1, |_, _| 128)];
            (vec![luma.rows(gap)], join(luma, neutral))
        }
        _ => {
            let luma_at = format.packed_luma().unwrap();
            let tall = [Component::new(half.0, height, noise(4)), Component::new(half.0, height, noise(5))];
            let yuyv = Component::new(4 * half.0, height, |x, row| match (x % 2 == luma_at, format) {
                (true, _) => luma.at((x / 2).min(width - 1), row),
                (false, PixelFormat::Yvyu) => tall[1 - x / 2 % 2].at(x / 4, row),
                (false, _) => tall[x / 2 % 2].at(x / 4, row),
            });
            let chroma = tall.map(|tall| {
                Component::new(half.0, half.1, |x, row| {
                    let pair = [2 * row, (2 * row + 1).min(height - 1)].map(|row| u16::from(tall.at(x, row)));
                    (pair[0] + pair[1]).div_ceil(2) as u8
                })
            });
            (vec![yuyv.rows(gap)], join(luma, chroma))
        }
    }
}

#[test]
fn every_format_size_and_stride_is_turned_sample_by_sample() {
    let mut turner = RawTurner::default();
    for format in PixelFormat::RAW {
        for size in SIZES {
            for gap in [0, 1, 30] {
                let (planes, components) = frame(format, size, gap);
                let raw = RawFrame::new(
                    format,
                    Size { width: size.0 as u32, height: size.1 as u32 },
                    planes.iter().map(|(data, stride)| Plane { data, stride: *stride, fd: None, offset: 0 }),
                    7,
                    MonotonicTime::from_nanos(9),
                );
                for orientation in ALL {
                    let result = turner.turn(&raw, orientation).unwrap();
                    assert_eq!(result.pixel_format, PixelFormat::Yuv420);
                    assert_eq!((result.sequence, result.captured_at), (7, MonotonicTime::from_nanos(9)));
                    for (index, component) in components.iter().enumerate() {
                        let expected = component.turned(orientation);
                        let plane = result.plane(index).unwrap();
                        let got =
                            Component::new(expected.width, expected.height, |x, y| plane.data[y * plane.stride + x]);
                        assert!(got == expected, "{format} {size:?} gap {gap} {orientation}: plane {index}");
                    }
                    let Size { width, height } = result.size;
                    let expected = components[0].turned(orientation);
                    assert_eq!((width as usize, height as usize), (expected.width, expected.height));
                    // What libjpeg-turbo reads beyond an odd edge.
                    let luma = result.plane(0).unwrap();
                    let at = |x: usize, y: usize| luma.data[y * luma.stride + x];
                    let (even_width, even_height) =
                        (expected.width.next_multiple_of(2), expected.height.next_multiple_of(2));
                    assert_eq!(luma.data.len(), even_width * even_height);
                    let corner = expected.at(expected.width - 1, expected.height - 1);
                    assert_eq!(at(even_width - 1, even_height - 1), corner);
                }
            }
        }
    }
}

#[test]
fn turning_there_and_back_gives_the_picture_again() {
    let (planes, _) = frame(PixelFormat::Yuv420, (70, 50), 6);
    let planes = planes.iter().map(|(data, stride)| Plane { data, stride: *stride, fd: None, offset: 0 });
    let size = Size { width: 70, height: 50 };
    let raw = RawFrame::new(PixelFormat::Yuv420, size, planes, 1, MonotonicTime::from_nanos(0));
    let (mut there, mut back, mut straight) = (RawTurner::default(), RawTurner::default(), RawTurner::default());
    straight.take(&raw, Orientation::Rotate0).unwrap();
    for (one, other) in [
        (Orientation::Rotate90, Orientation::Rotate270),
        (Orientation::Rotate270, Orientation::Rotate90),
        (Orientation::Rotate180, Orientation::Rotate180),
        (Orientation::MirrorVertical, Orientation::MirrorVertical),
        (Orientation::MirrorHorizontal, Orientation::MirrorHorizontal),
    ] {
        back.take(&there.turn(&raw, one).unwrap(), other).unwrap();
        assert_eq!(back.planes(), straight.planes(), "{one}");
    }
}

#[test]
fn short_frames_mjpeg_and_empty_pictures_are_refused() {
    let mut turner = RawTurner::default();
    for format in PixelFormat::RAW {
        let (planes, _) = frame(format, (33, 17), 3);
        for short in 0..planes.len() {
            let planes = planes.iter().enumerate().map(|(index, (data, stride))| {
                let data = if index == short { &data[1..] } else { data };
                Plane { data, stride: *stride, fd: None, offset: 0 }
            });
            let raw = RawFrame::new(format, Size { width: 33, height: 17 }, planes, 1, MonotonicTime::from_nanos(0));
            for orientation in ALL {
                let error = turner.turn(&raw, orientation).unwrap_err().to_string();
                assert!(error.contains(&format!("truncated {format} frame: plane {short}")), "{error}");
            }
        }
    }
    let data = [0; 64];
    let plane = Plane { data: &data, stride: usize::MAX / 2, fd: None, offset: 0 };
    for (format, width, height) in [
        (PixelFormat::Mjpeg, 16, 16),
        (PixelFormat::Yuv420, 0, 16),
        (PixelFormat::Nv12, 16, 0),
        (PixelFormat::Yuyv, 0, 0),
        (PixelFormat::Yuyv, 4, u32::MAX),
    ] {
        let raw = RawFrame::new(format, Size { width, height }, [plane; 3], 1, MonotonicTime::from_nanos(0));
        assert!(turner.turn(&raw, Orientation::Rotate90).is_err());
    }
}

#[test]
fn steady_state_keeps_its_memory() {
    let mut turner = RawTurner::default();
    let (planes, _) = frame(PixelFormat::Yuyv, (64, 48), 0);
    let plane = Plane { data: &planes[0].0, stride: planes[0].1, fd: None, offset: 0 };
    let raw =
        RawFrame::new(PixelFormat::Yuyv, Size { width: 64, height: 48 }, [plane], 1, MonotonicTime::from_nanos(0));
    let addresses = |turner: &RawTurner| turner.planes().map(|(data, _)| data.as_ptr());
    turner.take(&raw, Orientation::Rotate90).unwrap();
    let first = addresses(&turner);
    turner.take(&raw, Orientation::Rotate270).unwrap();
    assert_eq!(addresses(&turner), first);
}
