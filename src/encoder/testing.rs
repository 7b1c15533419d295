//! Pictures for tests: components, JPEGs as cameras make them, and what becomes of them. Compiled for tests only.

use std::ffi::c_int;

use turbojpeg_sys as tj;

use super::turbo::{Turbo, worst_jpeg};
use crate::config::Orientation;
use crate::frame::Size;
use crate::jpeg::{self, Bound};

pub(crate) const ALL: [Orientation; 6] = [
    Orientation::Rotate0,
    Orientation::Rotate180,
    Orientation::MirrorHorizontal,
    Orientation::MirrorVertical,
    Orientation::Rotate90,
    Orientation::Rotate270,
];

/// One component: rows without gaps.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Component {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) samples: Vec<u8>,
}

impl Component {
    pub(crate) fn new(width: usize, height: usize, sample: impl Fn(usize, usize) -> u8) -> Self {
        let samples = (0..width * height).map(|i| sample(i % width, i / width)).collect();
        Self { width, height, samples }
    }

    pub(crate) fn at(&self, x: usize, y: usize) -> u8 {
        self.samples[y * self.width + x]
    }

    /// By the definition of each orientation, sample by sample.
    pub(crate) fn turned(&self, orientation: Orientation) -> Self {
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
    pub(crate) fn rows(&self, gap: usize) -> (Vec<u8>, usize) {
        let mut data = Vec::new();
        for row in self.samples.chunks(self.width) {
            data.extend_from_slice(row);
            data.extend(std::iter::repeat_n(0xee, gap));
        }
        data.truncate(data.len() - gap);
        (data, self.width + gap)
    }
}

/// The components of a JPEG and their subsampling.
pub(crate) struct Decoded {
    pub(crate) size: Size,
    pub(crate) subsampling: tj::TJSAMP,
    pub(crate) components: Vec<Component>,
}

impl Decoded {
    pub(crate) fn samples(&self, component: usize) -> &[u8] {
        &self.components[component].samples
    }
}

pub(crate) fn plane_size(component: usize, size: Size, subsampling: tj::TJSAMP) -> (usize, usize) {
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
