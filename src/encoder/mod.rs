//! Frames to JPEG. [`select`] picks the encoder by what the camera delivers and what the hardware can do.

use crate::frame::{RawFrame, Size};

mod error;
mod hardware;
mod intake;
pub mod load;
mod passthrough;
mod reencode;
mod selected;
mod software;
#[cfg(test)]
pub(crate) mod testing;
mod turbo;
pub mod turn;
pub mod v4l2_m2m;

pub use error::EncodeError;
pub use hardware::{HardwarePolicy, Usage};
pub use intake::{Endless, Intake, Seen};
pub use passthrough::Passthrough;
pub use reencode::Reencode;
pub use selected::{Engine, PictureWork, SelectedEncoder, select};
pub use software::Software;

/// Turns frames into JPEG at once, on the caller's thread. One per opened camera, used by the capture thread only.
pub trait Encoder {
    /// The configuration's word for it.
    fn kind(&self) -> &'static str;

    /// Encodes one frame. The result borrows the encoder's buffer or the frame itself, so that the only copy made
    /// is the one into the published part.
    fn encode<'a>(&'a mut self, frame: &'a RawFrame<'_>) -> Result<Encoded<'a>, EncodeError>;

    /// Sets the JPEG quality, 1 to 100, from the next frame on.
    fn set_quality(&mut self, _quality: u32) -> Result<(), EncodeError> {
        Ok(())
    }

    /// What the last picture was like, where the camera made it.
    fn seen(&self) -> Option<Seen> {
        None
    }
}

/// One JPEG, in up to four pieces to be put one after the other.
#[derive(Debug)]
pub struct Encoded<'a> {
    /// The pieces; unused ones are empty.
    pub pieces: [&'a [u8]; 4],
    /// Picture size.
    pub size: Size,
}
