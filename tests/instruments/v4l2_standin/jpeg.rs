//! Compresses a picture as it lies in an OUTPUT buffer, with libjpeg-turbo, tables and all.

use std::ffi::{c_int, c_uchar};

use turbojpeg_sys as tj;

use crate::config::Exif;
use crate::sys::code;

/// Where a picture lies.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// V4L2's pixel format.
    pub pixel_format: u32,
    /// Pixels to encode: the crop rectangle.
    pub width: usize,
    /// Lines to encode.
    pub height: usize,
    /// `bytesperline`.
    pub stride: usize,
    /// Lines of the buffer: where chroma begins.
    pub rows: usize,
}

/// Sampling of the formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Three planes; V before U if so said.
    Planar { v_first: bool },
    /// Luma, and U and V in turn; V first if so said.
    SemiPlanar { v_first: bool },
    /// Four bytes for two pixels: where Y, U, V of the first are.
    Packed { luma: usize, u: usize, v: usize },
    /// Bytes a pixel, and libjpeg-turbo's name.
    Rgb { bytes: usize, format: tj::TJPF },
}

fn kind(pixel_format: u32) -> Option<Kind> {
    const TABLE: [([u8; 4], Kind); 12] = [
        (*b"YU12", Kind::Planar { v_first: false }),
        (*b"YV12", Kind::Planar { v_first: true }),
        (*b"NV12", Kind::SemiPlanar { v_first: false }),
        (*b"NV21", Kind::SemiPlanar { v_first: true }),
        (*b"YUYV", Kind::Packed { luma: 0, u: 1, v: 3 }),
        (*b"YVYU", Kind::Packed { luma: 0, u: 3, v: 1 }),
        (*b"UYVY", Kind::Packed { luma: 1, u: 0, v: 2 }),
        (*b"VYUY", Kind::Packed { luma: 1, u: 2, v: 0 }),
        (*b"RGB3", Kind::Rgb { bytes: 3, format: tj::TJPF_TJPF_RGB }),
        (*b"BGR3", Kind::Rgb { bytes: 3, format: tj::TJPF_TJPF_BGR }),
        (*b"BGR4", Kind::Rgb { bytes: 4, format: tj::TJPF_TJPF_BGRX }),
        (*b"AB24", Kind::Rgb { bytes: 4, format: tj::TJPF_TJPF_RGBX }),
    ];
    TABLE.iter().find(|(fourcc, _)| code(*fourcc) == pixel_format).map(|&(_, kind)| kind)
}

impl Layout {
    /// Bytes from the first of the picture to the last that is needed; `None` for a format that is not modelled.
    pub fn needed(&self) -> Option<usize> {
        let (luma, chroma) = (self.stride * self.rows, self.stride / 2 * (self.rows / 2));
        let (half_width, half_rows) = (self.width.div_ceil(2), self.height.div_ceil(2));
        Some(match kind(self.pixel_format)? {
            Kind::Planar { .. } => luma + chroma + self.stride / 2 * (half_rows - 1) + half_width,
            Kind::SemiPlanar { .. } => luma + self.stride * (half_rows - 1) + 2 * half_width,
            Kind::Packed { .. } => self.stride * (self.height - 1) + 4 * half_width,
            Kind::Rgb { bytes, .. } => self.stride * (self.height - 1) + bytes * self.width,
        })
    }
}

/// Rows of one plane, brought together: each of `width` bytes, the last byte and row doubled up to an even number if
/// `even` (libjpeg-turbo reads luma for every chroma sample).
fn rows(data: &[u8], stride: usize, width: usize, height: usize, even: bool) -> Vec<u8> {
    let (full_width, full_height) =
        if even { (width.next_multiple_of(2), height.next_multiple_of(2)) } else { (width, height) };
    let mut out = Vec::with_capacity(full_width * full_height);
    for row in 0..full_height {
        let row = &data[stride * row.min(height - 1)..][..width];
        out.extend_from_slice(row);
        out.extend(std::iter::repeat_n(row[width - 1], full_width - width));
    }
    out
}

/// A JPEG of the picture in `data`.
pub fn compress(data: &[u8], layout: &Layout, quality: i64, exif: Exif) -> Result<Vec<u8>, String> {
    let kind = kind(layout.pixel_format).ok_or("this format is not modelled")?;
    if layout.needed().is_none_or(|needed| needed > data.len()) {
        return Err("the buffer is shorter than the picture".to_owned());
    }
    let (width, height, stride) = (layout.width, layout.height, layout.stride);
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    let chroma = &data[(stride * layout.rows).min(data.len())..];
    let jpeg = match kind {
        Kind::Planar { v_first } => {
            let luma = rows(data, stride, width, height, true);
            let first = rows(chroma, stride / 2, half_width, half_height, false);
            let second = &chroma[stride / 2 * (layout.rows / 2)..];
            let second = rows(second, stride / 2, half_width, half_height, false);
            let (u, v) = if v_first { (second, first) } else { (first, second) };
            planes([&luma, &u, &v], width, height, tj::TJSAMP_TJSAMP_420, quality)?
        }
        Kind::SemiPlanar { v_first } => {
            let luma = rows(data, stride, width, height, true);
            let both = rows(chroma, stride, 2 * half_width, half_height, false);
            let pick = |at: usize| both.iter().skip(at).step_by(2).copied().collect::<Vec<_>>();
            let (u, v) = (pick(usize::from(v_first)), pick(usize::from(!v_first)));
            planes([&luma, &u, &v], width, height, tj::TJSAMP_TJSAMP_420, quality)?
        }
        Kind::Packed { luma, u, v } => {
            let packed = rows(data, stride, 4 * half_width, height, false);
            let pick = |at: usize, step: usize| packed.iter().skip(at).step_by(step).copied().collect::<Vec<_>>();
            let planes_ = [pick(luma, 2), pick(u, 4), pick(v, 4)];
            planes([&planes_[0], &planes_[1], &planes_[2]], width, height, tj::TJSAMP_TJSAMP_422, quality)?
        }
        Kind::Rgb { bytes, format } => {
            let pixels = rows(data, stride, bytes * width, height, false);
            rgb(&pixels, width, height, format, quality)?
        }
    };
    Ok(with_exif(jpeg, exif))
}

struct Turbo(*mut std::ffi::c_void);

impl Drop for Turbo {
    fn drop(&mut self) {
        // SAFETY: made by tj3Init, destroyed once.
        unsafe { tj::tj3Destroy(self.0) };
    }
}

impl Turbo {
    fn new(quality: i64, sampling: tj::TJSAMP) -> Result<Self, String> {
        // SAFETY: no arguments to be wrong; the handle is checked.
        let turbo = Self(unsafe { tj::tj3Init(tj::TJINIT_TJINIT_COMPRESS as c_int) });
        if turbo.0.is_null() {
            return Err("tj3Init failed".to_owned());
        }
        for (parameter, value) in
            [(tj::TJPARAM_TJPARAM_QUALITY, quality as c_int), (tj::TJPARAM_TJPARAM_SUBSAMP, sampling as c_int)]
        {
            // SAFETY: the handle is live; the library checks parameter and value.
            if unsafe { tj::tj3Set(turbo.0, parameter as c_int, value) } != 0 {
                return Err("tj3Set failed".to_owned());
            }
        }
        Ok(turbo)
    }

    /// Runs `compress` with where to put pointer and length of the JPEG, and takes it over.
    fn run(&self, compress: impl FnOnce(*mut *mut c_uchar, *mut tj::size_t) -> c_int) -> Result<Vec<u8>, String> {
        let mut out: *mut c_uchar = std::ptr::null_mut();
        let mut length: tj::size_t = 0;
        let result = compress(&raw mut out, &raw mut length);
        if result != 0 {
            // SAFETY: the handle is live; the string is copied at once.
            let reason = unsafe { std::ffi::CStr::from_ptr(tj::tj3GetErrorStr(self.0)) };
            return Err(reason.to_string_lossy().into_owned());
        }
        // SAFETY: the library allocated `length` bytes at `out`.
        let jpeg = unsafe { std::slice::from_raw_parts(out, length as usize) }.to_vec();
        // SAFETY: allocated by the library, freed once.
        unsafe { tj::tj3Free(out.cast()) };
        Ok(jpeg)
    }
}

fn planes(
    planes: [&[u8]; 3],
    width: usize,
    height: usize,
    sampling: tj::TJSAMP,
    quality: i64,
) -> Result<Vec<u8>, String> {
    let turbo = Turbo::new(quality, sampling)?;
    let pointers = planes.map(<[u8]>::as_ptr);
    // Rows are packed: luma of even width, chroma of half that.
    let strides = [width.next_multiple_of(2) as c_int, width.div_ceil(2) as c_int, width.div_ceil(2) as c_int];
    turbo.run(|out, length| {
        // SAFETY: `rows` made the planes as large as the library reads them at these strides.
        unsafe {
            tj::tj3CompressFromYUVPlanes8(
                turbo.0,
                pointers.as_ptr(),
                width as c_int,
                strides.as_ptr(),
                height as c_int,
                out,
                length,
            )
        }
    })
}

fn rgb(pixels: &[u8], width: usize, height: usize, format: tj::TJPF, quality: i64) -> Result<Vec<u8>, String> {
    let turbo = Turbo::new(quality, tj::TJSAMP_TJSAMP_420)?;
    turbo.run(|out, length| {
        // SAFETY: `rows` made the pixels as many as the library reads (pitch 0: packed).
        unsafe { tj::tj3Compress8(turbo.0, pixels.as_ptr(), width as c_int, 0, height as c_int, format, out, length) }
    })
}

/// Puts an Exif segment behind SOI.
fn with_exif(jpeg: Vec<u8>, exif: Exif) -> Vec<u8> {
    if exif == Exif::None {
        return jpeg;
    }
    let mut data = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0".to_vec();
    if exif == Exif::Thumbnail {
        let grey = vec![128; 16 * 16 * 2];
        let thumbnail = planes([&grey[..256], &grey[..64], &grey[..64]], 16, 16, tj::TJSAMP_TJSAMP_420, 50);
        data.extend(thumbnail.unwrap_or_default());
    }
    let mut out = jpeg[..2].to_vec();
    out.extend([0xff, 0xe1]);
    out.extend((data.len() as u16 + 2).to_be_bytes());
    out.extend(data);
    out.extend(&jpeg[2..]);
    out
}
