use std::ffi::c_int;

use super::*;
use crate::frame::MonotonicTime;

pub(crate) const ALL: [Orientation; 6] = [
    Orientation::Rotate0,
    Orientation::Rotate180,
    Orientation::MirrorHorizontal,
    Orientation::MirrorVertical,
    Orientation::Rotate90,
    Orientation::Rotate270,
];

const FORMATS: [PixelFormat; 6] = [
    PixelFormat::Yuv420,
    PixelFormat::Nv12,
    PixelFormat::Yuyv,
    PixelFormat::Uyvy,
    PixelFormat::Yvyu,
    PixelFormat::Grey,
];

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

/// One component: rows without gaps.
#[derive(Clone, Debug, PartialEq)]
struct Component {
    width: usize,
    height: usize,
    samples: Vec<u8>,
}

impl Component {
    fn new(width: usize, height: usize, sample: impl Fn(usize, usize) -> u8) -> Self {
        let samples = (0..width * height).map(|i| sample(i % width, i / width)).collect();
        Self { width, height, samples }
    }

    fn at(&self, x: usize, y: usize) -> u8 {
        self.samples[y * self.width + x]
    }

    /// By the definition of each orientation, sample by sample.
    fn turned(&self, orientation: Orientation) -> Self {
        let (w, h) = (self.width, self.height);
        match orientation {
            Orientation::Rotate0 => self.clone(),
            Orientation::Rotate180 => Self::new(w, h, |x, y| self.at(w - 1 - x, h - 1 - y)),
            Orientation::MirrorHorizontal => Self::new(w, h, |x, y| self.at(w - 1 - x, y)),
            Orientation::MirrorVertical => Self::new(w, h, |x, y| self.at(x, h - 1 - y)),
            // Clockwise: the left column, from below, becomes the upper row.
            Orientation::Rotate90 => Self::new(h, w, |x, y| self.at(y, h - 1 - x)),
            Orientation::Rotate270 => Self::new(h, w, |x, y| self.at(w - 1 - y, x)),
        }
    }

    /// As a plane of a driver's: `gap` bytes after each row but the last.
    fn rows(&self, gap: usize) -> (Vec<u8>, usize) {
        let mut data = Vec::new();
        for row in self.samples.chunks(self.width) {
            data.extend_from_slice(row);
            data.extend(std::iter::repeat_n(0xee, gap));
        }
        data.truncate(data.len() - gap);
        (data, self.width + gap)
    }
}

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
    for format in FORMATS {
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
    for format in FORMATS {
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

/// The components of a JPEG and their subsampling.
pub(crate) struct Decoded {
    pub(crate) size: Size,
    pub(crate) subsampling: tj::TJSAMP,
    components: Vec<Component>,
}

impl Decoded {
    pub(crate) fn samples(&self, component: usize) -> &[u8] {
        &self.components[component].samples
    }
}

fn plane_size(component: usize, size: Size, subsampling: tj::TJSAMP) -> (usize, usize) {
    // SAFETY: pure arithmetic.
    unsafe {
        (
            tj::tj3YUVPlaneWidth(component as c_int, size.width as c_int, subsampling) as usize,
            tj::tj3YUVPlaneHeight(component as c_int, size.height as c_int, subsampling) as usize,
        )
    }
}

/// Decodes with the exact transform.
pub(crate) fn decode(jpeg: &[u8]) -> Decoded {
    let mut turbo = Turbo::decompressor(Bound::MAX).unwrap();
    turbo.set(tj::TJPARAM_TJPARAM_FASTDCT, 0).unwrap();
    let size = turbo.read_header(jpeg).unwrap();
    let subsampling = turbo.get(tj::TJPARAM_TJPARAM_SUBSAMP);
    let count = if subsampling == tj::TJSAMP_TJSAMP_GRAY { 1 } else { 3 };
    let mut components: Vec<_> = (0..count)
        .map(|index| {
            let (width, height) = plane_size(index, size, subsampling);
            Component::new(width, height, |_, _| 0)
        })
        .collect();
    let mut pointers = [std::ptr::null_mut(); 3];
    for (pointer, component) in pointers.iter_mut().zip(&mut components) {
        *pointer = component.samples.as_mut_ptr();
    }
    // SAFETY: planes as large as the library says they must be, without gaps.
    let result = unsafe {
        tj::tj3DecompressToYUVPlanes8(
            turbo.handle(),
            jpeg.as_ptr(),
            jpeg.len() as _,
            pointers.as_mut_ptr(),
            std::ptr::null_mut(),
        )
    };
    assert_eq!(result, 0, "{}", turbo.failed("decompress", size));
    Decoded { size, subsampling, components }
}

pub(crate) const SUBSAMPLINGS: [tj::TJSAMP; 7] = [
    tj::TJSAMP_TJSAMP_444,
    tj::TJSAMP_TJSAMP_422,
    tj::TJSAMP_TJSAMP_420,
    tj::TJSAMP_TJSAMP_GRAY,
    tj::TJSAMP_TJSAMP_440,
    tj::TJSAMP_TJSAMP_411,
    tj::TJSAMP_TJSAMP_441,
];

/// A JPEG as a camera would make it, of components given by `sample(component, x, y)`.
pub(crate) fn jpeg_of(
    size: Size,
    subsampling: tj::TJSAMP,
    progressive: bool,
    sample: impl Fn(usize, usize, usize) -> u8,
) -> Vec<u8> {
    let turbo = Turbo::compressor().unwrap();
    turbo.set(tj::TJPARAM_TJPARAM_QUALITY, 85).unwrap();
    turbo.set(tj::TJPARAM_TJPARAM_SUBSAMP, subsampling).unwrap();
    turbo.set(tj::TJPARAM_TJPARAM_PROGRESSIVE, i32::from(progressive)).unwrap();
    let count = if subsampling == tj::TJSAMP_TJSAMP_GRAY { 1 } else { 3 };
    let planes: Vec<_> = (0..count)
        .map(|index| {
            let (width, height) = plane_size(index, size, subsampling);
            Component::new(width, height, |x, y| sample(index, x, y))
        })
        .collect();
    let mut pointers = [std::ptr::null(); 3];
    for (pointer, plane) in pointers.iter_mut().zip(&planes) {
        *pointer = plane.samples.as_ptr();
    }
    let mut buffer = vec![0; worst_jpeg(size, tj::TJSAMP_TJSAMP_444).unwrap()];
    let mut out = buffer.as_mut_ptr();
    let mut length = buffer.len() as _;
    // SAFETY: planes as large as the library says they must be, without gaps, and a buffer that NOREALLOC keeps.
    let result = unsafe {
        tj::tj3CompressFromYUVPlanes8(
            turbo.handle(),
            pointers.as_ptr(),
            size.width as c_int,
            std::ptr::null(),
            size.height as c_int,
            &raw mut out,
            &raw mut length,
        )
    };
    assert_eq!(result, 0, "{}", turbo.failed("compress", size));
    buffer.truncate(length as usize);
    buffer
}

/// Without its Huffman tables, as webcams send them.
pub(crate) fn without_tables(jpeg: &[u8]) -> Vec<u8> {
    let mut out = jpeg[..2].to_vec();
    let mut at = 2;
    while jpeg[at + 1] != 0xda {
        let end = at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        if jpeg[at + 1] != 0xc4 {
            out.extend_from_slice(&jpeg[at..end]);
        }
        at = end;
    }
    out.extend_from_slice(&jpeg[at..]);
    out
}

/// Smooth in places, so that both kinds of coefficients occur, and different at each edge.
pub(crate) fn scene(component: usize, x: usize, y: usize) -> u8 {
    let wave = (x * 3 + y * 2 + component * 50) % 200;
    let spots = if x / 7 % 3 == y / 5 % 4 { 40 } else { 0 };
    (wave + spots) as u8
}

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

/// Bytes changed, cut out and doubled; the marker walk of [`jpeg::inspect`] is not to catch it all, so the end stays.
pub(crate) fn damage(jpeg: &[u8], seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed);
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut out = jpeg.to_vec();
    for _ in 0..=random(3) {
        let end = out.len() - 2;
        // Half of it in the headers.
        let at = if random(2) == 0 { random(end.min(700)) } else { random(end) };
        match random(5) {
            0 => out[at] ^= 1 << random(8),
            1 => out[at] = random(256) as u8,
            2 => {
                out.drain(at..(at + random(40)).min(end));
            }
            3 => {
                let piece = out[at..(at + random(400)).min(end)].to_vec();
                out.splice(at..at, piece);
            }
            _ => out[at] = 0xff,
        }
    }
    out
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

/// A progressive JPEG with every scan so many times.
pub(crate) fn scans_repeated(jpeg: &[u8], times: usize) -> Vec<u8> {
    let starts: Vec<usize> = memchr::memmem::find_iter(jpeg, b"\xff\xda").collect();
    let end = jpeg.len() - 2;
    let mut out = jpeg[..starts[0]].to_vec();
    for (at, next) in starts.iter().zip(starts[1..].iter().chain([&end])) {
        for _ in 0..times {
            out.extend_from_slice(&jpeg[*at..*next]);
        }
    }
    out.extend_from_slice(jpeg::END);
    out
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
