//! Turns JPEGs without decoding them.

use turbojpeg_sys as tj;

use crate::config::Orientation;
use crate::encoder::EncodeError;
use crate::encoder::turbo::{Turbo, worst_jpeg};
use crate::frame::Size;
use crate::jpeg::{self, Bound};
use crate::memory;

/// Turns JPEGs by moving their coefficients: nothing is decoded to pixels, and nothing of the quality is lost.
///
/// Blocks of pixels that the picture's right or lower edge cuts through cannot come to lie on the opposite side. Where
/// a turn would need that they are left out: the picture gets narrower or lower by less than 8 or 16 pixels (32 with
/// 4:1:1), by none if its width and height are multiples of that. Thumbnails, comments and other extras of the camera
/// are left out, and the result is a sequential JPEG with the standard Huffman tables, whatever the camera's was.
#[derive(Debug)]
pub struct JpegTurner {
    turbo: Turbo,
    /// The JPEG in one piece, where it comes in several.
    joined: Vec<u8>,
    buffer: Vec<u8>,
}

impl JpegTurner {
    /// A turner for JPEGs within this bound.
    pub fn new(bound: Bound) -> Result<Self, EncodeError> {
        Ok(Self { turbo: Turbo::transformer(bound)?, joined: Vec::new(), buffer: Vec::new() })
    }

    /// The JPEG, turned, and its size. The pieces are those of [`Encoded`](crate::encoder::Encoded): one after the other
    /// they make a JPEG with Huffman tables.
    ///
    /// # Errors
    /// What is not a whole 8-bit JPEG in colour or grey, or has more pixels than the bound. A JPEG that viewers would show
    /// with a blemish is turned.
    pub fn turn<'a>(
        &'a mut self,
        jpeg_pieces: &[&[u8]],
        orientation: Orientation,
    ) -> Result<(&'a [u8], Size), EncodeError> {
        let Self { turbo, joined, buffer } = self;
        let mut pieces = jpeg_pieces.iter().filter(|piece| !piece.is_empty());
        let source = if let (Some(only), None) = (pieces.next(), pieces.next()) {
            *only
        } else {
            memory::join(joined, jpeg_pieces);
            joined.as_slice()
        };
        jpeg::inspect(source)?;
        let size = turbo.read_header(source)?;
        // Reading the header set these as the source has them; viewers take sequential Huffman code best.
        turbo.set(tj::TJPARAM_TJPARAM_PROGRESSIVE, 0)?;
        turbo.set(tj::TJPARAM_TJPARAM_ARITHMETIC, 0)?;
        // One byte more tells a full buffer from a JPEG.
        let worst = worst_jpeg(size, turbo.get(tj::TJPARAM_TJPARAM_SUBSAMP))? + 1;
        if buffer.len() < worst || memory::is_oversized(buffer.len(), worst) {
            *buffer = vec![0; worst];
        }
        // SAFETY: all of its fields may be zero.
        let mut transform = unsafe { std::mem::zeroed::<tj::tjtransform>() };
        transform.op = operation(orientation) as i32;
        transform.options = (tj::TJXOPT_TRIM | tj::TJXOPT_COPYNONE) as i32;
        let mut out = buffer.as_mut_ptr();
        let mut length = buffer.len() as _;
        // SAFETY: `source` has that many bytes, `out` has `length` of them, and NOREALLOC keeps the library from
        // replacing it. One transform is asked for, and one buffer, length and transform are given.
        let result = unsafe {
            tj::tj3Transform(
                turbo.handle(),
                source.as_ptr(),
                source.len() as _,
                1,
                &raw mut out,
                &raw mut length,
                &raw const transform,
            )
        };
        let length = length as usize;
        // The length is written last: after a warning it tells whether an error followed.
        if result != 0 && !(turbo.warned() && length < buffer.len()) {
            return Err(turbo.failed("tj3Transform", size));
        }
        let turned = &buffer[..length];
        let size = jpeg::inspect(turned)?.size;
        Ok((turned, size))
    }
}

/// libjpeg-turbo's word for it.
fn operation(orientation: Orientation) -> tj::TJXOP {
    match orientation {
        Orientation::Rotate0 => tj::TJXOP_TJXOP_NONE,
        Orientation::Rotate180 => tj::TJXOP_TJXOP_ROT180,
        Orientation::MirrorHorizontal => tj::TJXOP_TJXOP_HFLIP,
        Orientation::MirrorVertical => tj::TJXOP_TJXOP_VFLIP,
        Orientation::Rotate90 => tj::TJXOP_TJXOP_ROT90,
        Orientation::Rotate270 => tj::TJXOP_TJXOP_ROT270,
    }
}

#[cfg(test)]
mod tests;
