//! Raw frames to JPEG. [`choose`] picks the encoder by what the camera delivers.

use crate::config;
use crate::frame::{PixelFormat, RawFrame, Size};
use crate::jpeg::JpegError;

mod passthrough;
pub mod reencode;
mod software;
mod turbo;
pub mod turn;

pub use passthrough::Passthrough;
pub use software::Software;

/// Turns frames into JPEG. One per opened camera, used by the capture thread only.
pub trait Encoder {
    /// The configuration's word for it.
    fn kind(&self) -> &'static str;

    /// Encodes one frame. The result borrows the encoder's buffer or the frame itself, so that the only copy made
    /// is the one into the published part.
    fn encode<'a>(&'a mut self, frame: &'a RawFrame<'_>) -> Result<Encoded<'a>, EncodeError>;
}

/// One JPEG, in up to three pieces to be put one after the other.
#[derive(Debug)]
pub struct Encoded<'a> {
    /// The pieces; unused ones are empty.
    pub pieces: [&'a [u8]; 3],
    /// Picture size.
    pub size: Size,
}

/// Why a frame gave no JPEG.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The camera's JPEG is damaged; the next may be right.
    #[error(transparent)]
    Jpeg(#[from] JpegError),
    /// A raw frame with fewer bytes than its format needs; the next may be right.
    #[error("truncated {format} frame: plane {plane} has {have} bytes, {size} with stride {stride} needs {need}")]
    ShortPlane {
        /// Pixel format.
        format: PixelFormat,
        /// Plane index.
        plane: usize,
        /// Bytes there are.
        have: usize,
        /// Bytes needed.
        need: usize,
        /// Picture size.
        size: Size,
        /// Bytes per row.
        stride: usize,
    },
    /// This encoder cannot take what the camera delivers, now or later.
    #[error("encoder.kind {encoder} cannot take {format} frames: {remedy}")]
    WrongFormat {
        /// Encoder name.
        encoder: &'static str,
        /// Pixel format.
        format: PixelFormat,
        /// What to do.
        remedy: &'static str,
    },
    /// The encoder library refused.
    #[error("{call} failed for a frame of {size}: {reason}")]
    Library {
        /// The call.
        call: &'static str,
        /// Picture size.
        size: Size,
        /// Its message.
        reason: String,
    },
}

/// An encoder and the reason it was taken, for the status document.
pub struct Choice {
    /// The encoder.
    pub encoder: Box<dyn Encoder>,
    /// Why this one.
    pub reason: &'static str,
}

impl std::fmt::Debug for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Choice").field("encoder", &self.encoder.kind()).field("reason", &self.reason).finish()
    }
}

/// Picks the encoder for a camera that delivers `format`.
///
/// # Errors
/// A configured encoder that cannot take the format, or one the library cannot make.
pub fn choose(config: &config::Encoder, format: PixelFormat) -> Result<Choice, EncodeError> {
    use config::EncoderKind::{Auto, Passthrough as ConfiguredPassthrough, Software as ConfiguredSoftware};
    let quality = config.quality.get();
    match (config.kind, format) {
        (Auto, PixelFormat::Mjpeg) => {
            Ok(Choice { encoder: Box::new(Passthrough::default()), reason: "the camera delivers MJPEG" })
        }
        (ConfiguredPassthrough, PixelFormat::Mjpeg) => {
            Ok(Choice { encoder: Box::new(Passthrough::default()), reason: "encoder.kind is passthrough" })
        }
        (ConfiguredPassthrough, format) => Err(EncodeError::WrongFormat {
            encoder: "passthrough",
            format,
            remedy: "set encoder.kind to auto, or use a camera that delivers MJPEG",
        }),
        (config::EncoderKind::V4l2M2m, format) => {
            Err(EncodeError::WrongFormat { encoder: "v4l2-m2m", format, remedy: "set encoder.kind to auto" })
        }
        (ConfiguredSoftware, PixelFormat::Mjpeg) => Err(EncodeError::WrongFormat {
            encoder: "software",
            format,
            remedy: "set encoder.kind to auto to pass the camera's JPEG through",
        }),
        (Auto, _) => {
            Ok(Choice { encoder: Box::new(Software::new(quality)?), reason: "the camera delivers raw pictures" })
        }
        (ConfiguredSoftware, _) => {
            Ok(Choice { encoder: Box::new(Software::new(quality)?), reason: "encoder.kind is software" })
        }
    }
}
