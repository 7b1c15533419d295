//! The camera's own JPEG, otherwise untouched.

use super::intake::{Intake, Seen};
use super::{EncodeError, Encoded, Encoder};
use crate::frame::RawFrame;

/// See the module's text.
#[derive(Debug)]
pub struct Passthrough(Intake);

impl Passthrough {
    /// For a camera whose pictures `intake` checks.
    pub fn new(intake: Intake) -> Self {
        Self(intake)
    }
}

impl Encoder for Passthrough {
    fn kind(&self) -> &'static str {
        "passthrough"
    }

    fn encode<'a>(&'a mut self, frame: &'a RawFrame<'_>) -> Result<Encoded<'a>, EncodeError> {
        self.0.take(frame, self.kind())
    }

    fn seen(&self) -> Option<Seen> {
        self.0.seen()
    }
}
