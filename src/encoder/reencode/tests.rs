use super::*;
use crate::encoder::testing::{ALL, SUBSAMPLINGS, damage, decode, jpeg_of, scans_repeated, scene, without_tables};
use crate::jpeg::tests::lying;

fn mjpeg(data: &[u8]) -> RawFrame<'_> {
    // The negotiated size is not the JPEG's: that has the last word.
    let negotiated = Size { width: 1280, height: 720 };
    let plane = Plane { data, stride: 0, fd: None, offset: 0 };
    RawFrame::new(PixelFormat::Mjpeg, negotiated, [plane], 3, MonotonicTime::from_nanos(5))
}

fn reencode(quality: u32) -> Result<Reencode, EncodeError> {
    Reencode::new(quality, Bound::of(Size { width: 640, height: 480 }), Endless::default())
}

const SIZES: [(u32, u32); 6] = [(64, 48), (65, 49), (16, 16), (1, 1), (33, 7), (640, 480)];

#[test]
fn every_subsampling_and_size_comes_out_as_it_went_in() {
    let mut reencode = reencode(95).unwrap();
    for (width, height) in SIZES {
        for subsampling in SUBSAMPLINGS {
            let size = Size { width, height };
            let colour = |component: usize, x: usize| [60 + (x / 8 % 100) as u8, 90, 200][component];
            let jpeg = jpeg_of(size, subsampling, false, |component, x, _| colour(component, x));
            let bare = without_tables(&jpeg);
            for source in [&jpeg, &bare] {
                reencode.decode(&mjpeg(source)).unwrap();
                let encoded = reencode.encode(Orientation::Rotate0).unwrap();
                assert_eq!(encoded.size, size);
                let got = decode(encoded.pieces[0]);
                assert_eq!((got.size, got.subsampling), (size, tj::TJSAMP_TJSAMP_420));
                let grey = subsampling == tj::TJSAMP_TJSAMP_GRAY;
                for (component, neutral) in [(1, 90), (2, 200)] {
                    let expected: u8 = if grey { 128 } else { neutral };
                    let off = got.samples(component).iter().map(|got| got.abs_diff(expected)).max();
                    assert!(off <= Some(4), "{size} {subsampling}: component {component} off by {off:?}");
                }
                let stride = width.next_multiple_of(2) as usize;
                for (at, got) in got.samples(0).iter().enumerate() {
                    let expected = colour(0, (at % stride).min(width as usize - 1));
                    assert!(got.abs_diff(expected) <= 6, "{size} {subsampling}: {got} instead of {expected}");
                }
            }
        }
    }
}

#[test]
fn chroma_is_the_mean_of_what_there_is() {
    use Detail::{Half, One, Two};
    let component = |width: usize, height: usize| Component {
        data: (0..width * height).map(|i| (i * 37 % 251) as u8).collect(),
        width,
        height,
    };
    for (width, height) in [(8_usize, 6_usize), (7, 5), (1, 1), (2, 1), (30, 3)] {
        for detail in [(Two, Two), (One, Two), (Two, One), (Half, Two), (Two, Half)] {
            let samples = |half: usize, detail| match detail {
                Two => 2 * half,
                One => half,
                Half => half.div_ceil(2),
            };
            let from = component(samples(width, detail.0), samples(height, detail.1));
            let mut to = component(width, height);
            resample(&from, detail, &mut to);
            for y in 0..height {
                for x in 0..width {
                    let of = |at: usize, detail| match detail {
                        Two => [2 * at, 2 * at + 1],
                        One => [at, at],
                        Half => [at / 2, at / 2],
                    };
                    let sum: usize = of(y, detail.1)
                        .into_iter()
                        .flat_map(|y| of(x, detail.0).map(|x| usize::from(from.data[y * from.width + x])))
                        .sum();
                    assert_eq!(usize::from(to.data[y * width + x]), (sum + 2) / 4, "{detail:?} at {x}, {y}");
                }
            }
        }
    }
}

#[test]
fn what_is_drawn_is_seen_and_turned() {
    let mut reencode = reencode(90).unwrap();
    for subsampling in SUBSAMPLINGS {
        let jpeg = jpeg_of(Size { width: 96, height: 64 }, subsampling, true, |_, _, _| 100);
        for orientation in ALL {
            reencode.decode(&mjpeg(&jpeg)).unwrap();
            {
                let mut frame = reencode.planes_mut();
                assert_eq!((frame.pixel_format, frame.size), (PixelFormat::Yuv420, Size { width: 96, height: 64 }));
                for (index, (plane, value)) in frame.planes.iter_mut().flatten().zip([250, 30, 220]).enumerate() {
                    // The upper left quarter.
                    let (width, height) = if index == 0 { (48, 32) } else { (24, 16) };
                    for row in plane.data.chunks_mut(plane.stride).take(height) {
                        row[..width].fill(value);
                    }
                }
            }
            let encoded = reencode.encode(orientation).unwrap();
            let got = decode(encoded.pieces[0]);
            let (width, height) = (got.size.width as usize, got.size.height as usize);
            assert_eq!((width, height), if orientation.transposes() { (64, 96) } else { (96, 64) });
            let (right, lower) = match orientation {
                Orientation::Rotate0 => (false, false),
                Orientation::MirrorHorizontal | Orientation::Rotate90 => (true, false),
                Orientation::MirrorVertical | Orientation::Rotate270 => (false, true),
                Orientation::Rotate180 => (true, true),
            };
            for (component, value) in [(0, 250), (1, 30), (2, 220)] {
                let (width, height) = if component == 0 { (width, height) } else { (width / 2, height / 2) };
                let middle = |far: bool, length: usize| if far { length * 3 / 4 } else { length / 4 };
                let at = |right, lower| got.samples(component)[middle(lower, height) * width + middle(right, width)];
                assert!(at(right, lower).abs_diff(value) < 8, "{subsampling} {orientation} {component}");
                assert!(at(!right, !lower).abs_diff(value) > 50, "{subsampling} {orientation} {component}");
            }
        }
    }
}

#[test]
fn refuses_what_is_no_jpeg_and_forgets_the_picture_before() {
    let mut reencode = reencode(80).unwrap();
    assert!(reencode.encode(Orientation::Rotate0).is_err());
    let jpeg = jpeg_of(Size { width: 64, height: 48 }, tj::TJSAMP_TJSAMP_422, false, scene);
    reencode.decode(&mjpeg(&jpeg)).unwrap();
    assert!(reencode.decode(&mjpeg(&jpeg[..jpeg.len() / 2])).is_err());
    assert!(reencode.encode(Orientation::Rotate180).is_err());
    let plane = Plane { data: &jpeg, stride: 64, fd: None, offset: 0 };
    let size = Size { width: 8, height: 8 };
    let raw = RawFrame::new(PixelFormat::Nv12, size, [plane], 1, MonotonicTime::from_nanos(0));
    assert!(matches!(reencode.decode(&raw), Err(EncodeError::WrongFormat { .. })));
    assert!(reencode.set_quality(0).is_err());
    reencode.set_quality(20).unwrap();
    reencode.decode(&mjpeg(&jpeg)).unwrap();
    assert!(reencode.encode(Orientation::Rotate0).is_ok());
}

#[test]
fn damaged_jpegs_are_decoded_or_refused() {
    let mut reencode = reencode(80).unwrap();
    let (mut taken, mut refused) = (0, 0);
    for subsampling in SUBSAMPLINGS {
        for progressive in [false, true] {
            let jpeg = jpeg_of(Size { width: 48, height: 32 }, subsampling, progressive, scene);
            for seed in 1000..1300 {
                let damaged = damage(&jpeg, seed);
                if reencode.decode(&mjpeg(&damaged)).is_ok() {
                    let size = reencode.planes_mut().size;
                    assert_eq!(reencode.encode(Orientation::Rotate0).unwrap().size, size);
                    taken += 1;
                } else {
                    assert!(reencode.encode(Orientation::Rotate0).is_err());
                    // One bad frame is one bad frame: the next is decoded as if nothing had been.
                    reencode.decode(&mjpeg(&jpeg)).unwrap();
                    refused += 1;
                }
            }
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} taken, {refused} refused");
}

#[test]
fn steady_state_keeps_its_memory() {
    let mut reencode = reencode(80).unwrap();
    let jpeg = without_tables(&jpeg_of(Size { width: 64, height: 48 }, tj::TJSAMP_TJSAMP_422, false, scene));
    let mut addresses = || {
        reencode.decode(&mjpeg(&jpeg)).unwrap();
        let planes = reencode.planes_mut().planes.map(|plane| plane.map(|plane| plane.data.as_ptr()));
        (planes, reencode.completed.as_ptr(), reencode.encode(Orientation::Rotate90).unwrap().pieces[0].as_ptr())
    };
    assert_eq!(addresses(), addresses());
}

#[test]
fn what_takes_more_memory_or_time_than_was_agreed_is_refused() {
    let size = Size { width: 64, height: 48 };
    let jpeg = jpeg_of(size, tj::TJSAMP_TJSAMP_422, true, scene);
    let mut reencode = Reencode::new(80, Bound::of(size), Endless::default()).unwrap();
    for (width, height) in [(65000, 65000), (64, 33000), (65535, 1), (128, 64)] {
        assert!(reencode.decode(&mjpeg(&lying(&jpeg, width, height))).is_err());
        assert!(reencode.decoded.iter().all(|component| component.data.capacity() == 0), "{width}x{height}");
    }
    assert!(reencode.decode(&mjpeg(&scans_repeated(&jpeg, 2))).is_ok());
    assert!(reencode.decode(&mjpeg(&scans_repeated(&jpeg, 3))).is_err());
    assert!(reencode.decode(&mjpeg(&jpeg)).is_ok());
}
