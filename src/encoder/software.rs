//! libjpeg-turbo, fed with planes as they are: no detour over RGB.

use std::ffi::c_int;

use turbojpeg_sys as tj;

use super::turbo::{NO_SIZE, Turbo, worst_jpeg};
use super::turn::RawTurner;
use super::{EncodeError, Encoded, Encoder};
use crate::config::Orientation;
use crate::frame::{PixelFormat, RawFrame, Size};
use crate::memory;

/// See the module's text.
///
/// The JPEG of a grey picture has no chroma, all others have 4:2:0. YUYV's is made while the picture is taken apart, by
/// averaging pairs of chroma rows: coding it as 4:2:2 would take a third more blocks, 32 % more instructions and 13 % more
/// bytes, measured at 1280x720.
#[derive(Debug)]
pub struct Software {
    turbo: Turbo,
    /// As large as the worst JPEG of the current size, so that libjpeg-turbo never allocates.
    buffer: Vec<u8>,
    /// Takes pictures apart that are not planes of even size, and turns them in the same pass.
    turner: RawTurner,
    orientation: Orientation,
    /// What comes has a limited range.
    limited_range: bool,
    /// The planes with their range made full.
    expanded: [Vec<u8>; 3],
    /// Of the JPEG.
    size: Size,
    subsampling: tj::TJSAMP,
}

impl Software {
    /// An encoder with a JPEG quality from 1 to 100.
    pub fn new(quality: u32) -> Result<Self, EncodeError> {
        let turbo = Turbo::compressor()?;
        turbo.set(tj::TJPARAM_TJPARAM_SUBSAMP, tj::TJSAMP_TJSAMP_420)?;
        let mut encoder = Self {
            turbo,
            buffer: Vec::new(),
            turner: RawTurner::default(),
            orientation: Orientation::Rotate0,
            limited_range: false,
            expanded: Default::default(),
            size: NO_SIZE,
            subsampling: tj::TJSAMP_TJSAMP_420,
        };
        encoder.set_quality(quality)?;
        Ok(encoder)
    }

    /// JPEG quality of the pictures from now on, 1 to 100.
    pub fn set_quality(&mut self, quality: u32) -> Result<(), EncodeError> {
        self.turbo.set(tj::TJPARAM_TJPARAM_QUALITY, i32::try_from(quality).unwrap_or(i32::MAX))
    }

    /// How pictures are turned from now on before they are encoded.
    pub fn set_orientation(&mut self, orientation: Orientation) {
        self.orientation = orientation;
    }

    /// Whether pictures from now on have a limited range (black 16, white 235), to be made full: JPEG knows no other.
    pub fn set_limited_range(&mut self, limited: bool) {
        self.limited_range = limited;
    }

    fn resize(&mut self, size: Size, subsampling: tj::TJSAMP) -> Result<(), EncodeError> {
        if (self.size, self.subsampling) != (size, subsampling) {
            let worst = worst_jpeg(size, subsampling)?;
            self.turbo.set(tj::TJPARAM_TJPARAM_SUBSAMP, subsampling)?;
            self.buffer = vec![0; worst];
            (self.size, self.subsampling) = (size, subsampling);
        }
        Ok(())
    }
}

/// To be asked where a camera is opened: at its first frame the encoder could only end the program.
///
/// # Errors
/// There is no memory for pictures of this size.
pub(super) fn check_memory(size: Size) -> Result<(), EncodeError> {
    // The worst JPEG, and the planes twice: taken apart, and with their range made full.
    let worst = worst_jpeg(size, tj::TJSAMP_TJSAMP_420)?;
    let bytes = worst + 2 * (size.made_even().pixels() + 2 * size.halved().pixels());
    if memory::has_room(bytes) { Ok(()) } else { Err(EncodeError::NoRoom { size, bytes }) }
}

impl Encoder for Software {
    fn kind(&self) -> &'static str {
        "software"
    }

    fn set_quality(&mut self, quality: u32) -> Result<(), EncodeError> {
        Self::set_quality(self, quality)
    }

    fn encode<'a>(&'a mut self, frame: &'a RawFrame<'_>) -> Result<Encoded<'a>, EncodeError> {
        self.compress(frame)
    }
}

impl Software {
    /// [`Encoder::encode`] for a frame that need not live as long as the result: that is all in the encoder's buffer.
    pub fn compress(&mut self, frame: &RawFrame<'_>) -> Result<Encoded<'_>, EncodeError> {
        let (lent, size) = self.take(frame)?;
        let is_grey = frame.pixel_format == PixelFormat::Grey;
        self.resize(size, if is_grey { tj::TJSAMP_TJSAMP_GRAY } else { tj::TJSAMP_TJSAMP_420 })?;
        let taken = self.turner.planes();
        let mut planes: [Rows; 3] = std::array::from_fn(|i| lent[i].unwrap_or(taken[i]));
        if self.limited_range {
            make_full(&mut planes, &mut self.expanded, size, is_grey);
        }
        let pointers = planes.map(|(data, _)| data.as_ptr());
        let strides = planes.map(|(_, stride)| stride as c_int);
        let mut out = self.buffer.as_mut_ptr();
        let mut length = self.buffer.len() as _;
        // SAFETY: the library reads luma of even width and height and chroma of half that (`tj3YUVPlaneSize`), for a grey
        // JPEG luma of the picture's size and no chroma. `checked_plane` made sure that each lent plane holds all rows at
        // its stride, and the turner made its own that size. `out` has `length` bytes, and NOREALLOC keeps the library from
        // replacing it.
        let result = unsafe {
            tj::tj3CompressFromYUVPlanes8(
                self.turbo.handle(),
                pointers.as_ptr(),
                size.width as c_int,
                strides.as_ptr(),
                size.height as c_int,
                &raw mut out,
                &raw mut length,
            )
        };
        if result != 0 {
            return Err(self.turbo.failed("tj3CompressFromYUVPlanes8", size));
        }
        Ok(Encoded { pieces: [&self.buffer[..length as usize], &[], &[], &[]], size })
    }

    /// Lends the planes that can stay where they are and has the turner take the others. Gives the size of the picture after
    /// turning it as well.
    fn take<'a>(&mut self, frame: &RawFrame<'a>) -> Result<([Option<Rows<'a>>; 3], Size), EncodeError> {
        let size = frame.size;
        let upright = self.orientation == Orientation::Rotate0;
        let mut lent = [None; 3];
        let mut keep = |index: usize| -> Result<(), EncodeError> {
            let plane = frame.checked_plane(index)?;
            lent[index] = Some((plane.data, plane.stride));
            Ok(())
        };
        match frame.pixel_format {
            format @ (PixelFormat::Yuv420 | PixelFormat::Nv12) if upright => {
                if size == size.made_even() {
                    keep(0)?;
                } else {
                    // libjpeg-turbo reads a luma sample for each of a chroma sample's four.
                    self.turner.take_luma(frame.checked_plane(0)?, size);
                }
                if format == PixelFormat::Nv12 {
                    self.turner.take_chroma(frame.checked_plane(1)?, size);
                } else {
                    keep(1)?;
                    keep(2)?;
                }
                Ok((lent, size))
            }
            PixelFormat::Grey if upright => {
                keep(0)?;
                Ok((lent, size))
            }
            PixelFormat::Mjpeg => Err(EncodeError::WrongFormat {
                encoder: "software",
                format: frame.pixel_format,
                remedy: "set encoder.kind to auto",
            }),
            _ => Ok((lent, self.turner.take(frame, self.orientation)?)),
        }
    }
}

/// A plane's bytes and its stride.
type Rows<'a> = (&'a [u8], usize);

/// Has `planes` point to copies with the full range, in `expanded`.
fn make_full<'a>(planes: &mut [Rows<'a>; 3], expanded: &'a mut [Vec<u8>; 3], size: Size, is_grey: bool) {
    // A grey picture that is lent has no column or row more than it shows.
    let sides = [if is_grey { size } else { size.made_even() }, size.halved(), size.halved()];
    let tables = [&FULL_LUMA, &FULL_CHROMA, &FULL_CHROMA];
    let count = if is_grey { 1 } else { 3 };
    for (((plane, to), size), table) in planes.iter_mut().zip(expanded).zip(sides).zip(tables).take(count) {
        expand(*plane, size.width as usize, size.height as usize, table, to);
        *plane = (to.as_slice(), size.width as usize);
    }
}

/// Full-range values of limited-range ones (ITU-R BT.601, 219 and 224 steps).
const FULL_LUMA: [u8; 256] = full_range(16, 219, 0, 255);
const FULL_CHROMA: [u8; 256] = full_range(128, 224, 128, 255);

const fn full_range(origin: i32, steps: i32, target: i32, span: i32) -> [u8; 256] {
    let mut table = [0; 256];
    let mut value = 0;
    while value < 256 {
        let scaled = (value - origin) * span;
        // Rounded to the nearest, below zero too.
        let full = target + (scaled + if scaled < 0 { -steps / 2 } else { steps / 2 }) / steps;
        table[value as usize] = if full < 0 {
            0
        } else if full > 255 {
            255
        } else {
            full as u8
        };
        value += 1;
    }
    table
}

/// Copies a plane through a table, rows one behind the other.
fn expand((data, stride): Rows<'_>, width: usize, rows: usize, table: &[u8; 256], to: &mut Vec<u8>) {
    memory::resize(to, width * rows);
    for (to, from) in to.chunks_exact_mut(width.max(1)).zip(data.chunks(stride.max(1))) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = table[usize::from(*from)];
        }
    }
}

#[cfg(test)]
mod tests;
