//! libjpeg-turbo, fed with planes as they are: no detour over RGB.

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

use turbojpeg_sys as tj;

use super::{EncodeError, Encoded, Encoder};
use crate::frame::{PixelFormat, Plane, RawFrame, Size};

/// See the module's text.
#[derive(Debug)]
pub struct Software {
    handle: NonNull<std::ffi::c_void>,
    /// As large as the worst JPEG of the current size, so that libjpeg-turbo never allocates.
    buffer: Vec<u8>,
    /// NV12's U and V, taken apart: libjpeg-turbo wants a plane each.
    chroma: [Vec<u8>; 2],
    /// Luma of a picture with an odd width or height, made even: libjpeg-turbo reads a luma sample for each of a chroma
    /// sample's four.
    even_luma: Vec<u8>,
    size: Size,
}

impl Software {
    /// An encoder with a JPEG quality from 1 to 100.
    pub fn new(quality: u32) -> Result<Self, EncodeError> {
        let none = Size { width: 0, height: 0 };
        // SAFETY: no arguments to be wrong; the handle is checked.
        let handle = unsafe { tj::tj3Init(tj::TJINIT_TJINIT_COMPRESS as c_int) };
        let handle = NonNull::new(handle).ok_or_else(|| EncodeError::Library {
            call: "tj3Init",
            size: none,
            reason: "out of memory".to_owned(),
        })?;
        let encoder =
            Self { handle, buffer: Vec::new(), chroma: [Vec::new(), Vec::new()], even_luma: Vec::new(), size: none };
        encoder.set(tj::TJPARAM_TJPARAM_QUALITY, quality as i32)?;
        encoder.set(tj::TJPARAM_TJPARAM_SUBSAMP, tj::TJSAMP_TJSAMP_420)?;
        encoder.set(tj::TJPARAM_TJPARAM_NOREALLOC, 1)?;
        // The ARM11 has no vector unit, so the transform counts; the fast one differs by less than a grey level.
        encoder.set(tj::TJPARAM_TJPARAM_FASTDCT, 1)?;
        Ok(encoder)
    }

    fn set(&self, parameter: tj::TJPARAM, value: i32) -> Result<(), EncodeError> {
        // SAFETY: the handle is live until drop; libjpeg-turbo checks parameter and value.
        match unsafe { tj::tj3Set(self.handle.as_ptr(), parameter as c_int, value) } {
            0 => Ok(()),
            _ => Err(self.failed("tj3Set")),
        }
    }

    fn failed(&self, call: &'static str) -> EncodeError {
        // SAFETY: the handle is live; the string is valid until the next call on it and copied here.
        let reason = unsafe { CStr::from_ptr(tj::tj3GetErrorStr(self.handle.as_ptr())) };
        EncodeError::Library { call, size: self.size, reason: reason.to_string_lossy().into_owned() }
    }

    fn resize(&mut self, size: Size) {
        if self.size != size {
            // SAFETY: pure arithmetic; a size it cannot handle gives 0, and compressing then fails with a message.
            let worst = unsafe {
                tj::tj3JPEGBufSize(size.width as c_int, size.height as c_int, tj::TJSAMP_TJSAMP_420 as c_int)
            };
            self.buffer = vec![0; worst as usize];
            self.size = size;
        }
    }
}

impl Encoder for Software {
    fn kind(&self) -> &'static str {
        "software"
    }

    fn encode<'a>(&'a mut self, frame: &'a RawFrame<'_>) -> Result<Encoded<'a>, EncodeError> {
        let size = frame.size;
        let (width, height) = (size.width as usize, size.height as usize);
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        self.resize(size);

        let luma = checked(frame, 0, width, height)?;
        let luma = if width % 2 == 0 && height % 2 == 0 {
            (luma.data, luma.stride)
        } else {
            make_even(luma, width, height, &mut self.even_luma);
            (self.even_luma.as_slice(), width.next_multiple_of(2))
        };
        let planes = match frame.pixel_format {
            PixelFormat::Yuv420 => {
                let u = checked(frame, 1, half_width, half_height)?;
                let v = checked(frame, 2, half_width, half_height)?;
                [luma, (u.data, u.stride), (v.data, v.stride)]
            }
            PixelFormat::Nv12 => {
                let uv = checked(frame, 1, 2 * half_width, half_height)?;
                let [u, v] = &mut self.chroma;
                take_apart(uv, half_width, half_height, u, v);
                [luma, (u.as_slice(), half_width), (v.as_slice(), half_width)]
            }
            PixelFormat::Mjpeg | PixelFormat::Yuyv => {
                return Err(EncodeError::WrongFormat {
                    encoder: self.kind(),
                    format: frame.pixel_format,
                    remedy: "set encoder.kind to auto",
                });
            }
        };
        let pointers = planes.map(|(data, _)| data.as_ptr());
        let strides = planes.map(|(_, stride)| stride as c_int);
        let mut out = self.buffer.as_mut_ptr();
        let mut length = self.buffer.len() as _;
        // SAFETY: the library reads luma of even width and height and chroma of half that (`tj3YUVPlaneSize`); `checked`
        // made sure that each plane holds all rows at its stride, `make_even` and `take_apart` made the others that size.
        // `out` has `length` bytes, and NOREALLOC keeps the library from replacing it.
        let result = unsafe {
            tj::tj3CompressFromYUVPlanes8(
                self.handle.as_ptr(),
                pointers.as_ptr(),
                size.width as c_int,
                strides.as_ptr(),
                size.height as c_int,
                &raw mut out,
                &raw mut length,
            )
        };
        if result != 0 {
            return Err(self.failed("tj3CompressFromYUVPlanes8"));
        }
        Ok(Encoded { pieces: [&self.buffer[..length as usize], &[], &[]], size })
    }
}

impl Drop for Software {
    fn drop(&mut self) {
        // SAFETY: made by tj3Init, destroyed once.
        unsafe { tj::tj3Destroy(self.handle.as_ptr()) };
    }
}

/// The plane with this index, if it holds `rows` rows of `row_bytes`. The last row may end before its stride does.
fn checked<'a>(
    frame: &'a RawFrame<'_>,
    index: usize,
    row_bytes: usize,
    rows: usize,
) -> Result<&'a Plane<'a>, EncodeError> {
    let short = |have, need, stride| EncodeError::ShortPlane {
        format: frame.pixel_format,
        plane: index,
        have,
        need,
        size: frame.size,
        stride,
    };
    let plane = frame.plane(index).ok_or_else(|| short(0, row_bytes * rows, row_bytes))?;
    let need = plane.stride * rows.saturating_sub(1) + row_bytes;
    if plane.data.len() < need || plane.stride < row_bytes {
        return Err(short(plane.data.len(), need, plane.stride));
    }
    Ok(plane)
}

/// Copies luma with its last column and row doubled where their number is odd.
fn make_even(luma: &Plane<'_>, width: usize, height: usize, even: &mut Vec<u8>) {
    even.clear();
    for row in 0..height.next_multiple_of(2) {
        let start = row.min(height - 1) * luma.stride;
        let pixels = &luma.data[start..start + width];
        even.extend_from_slice(pixels);
        if width % 2 == 1 {
            even.push(pixels[width - 1]);
        }
    }
}

/// Splits rows of U, V, U, V … into a plane of each.
fn take_apart(uv: &Plane<'_>, width: usize, height: usize, u: &mut Vec<u8>, v: &mut Vec<u8>) {
    u.resize(width * height, 0);
    v.resize(width * height, 0);
    for (row, (u, v)) in u.chunks_exact_mut(width).zip(v.chunks_exact_mut(width)).enumerate() {
        let pairs = uv.data[row * uv.stride..][..2 * width].chunks_exact(2);
        for ((u, v), pair) in u.iter_mut().zip(v).zip(pairs) {
            *u = pair[0];
            *v = pair[1];
        }
    }
}

#[cfg(test)]
mod tests;
