//! What can be changed while the program runs. [`super::mailbox`] is how that reaches the capture thread.
//!
//! A change lasts until the program ends; what is to stay belongs into the configuration.

use crate::camera::control::Refusal;

pub use crate::config::{Change, Settings};

/// Why something cannot be changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ChangeError {
    /// A control's value is wrong.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// The camera refused.
    #[error("{0}")]
    Failed(String),
    /// There is no camera to ask.
    #[error("{0}")]
    NoCamera(String),
    /// Too many ask.
    #[error("too many changes are waiting for the camera: try again in a second")]
    Crowded,
    /// Whoever asked has waited long enough, and it is not settled yet.
    #[error("the change is still being tried: GET /api/v1/settings tells what is in force")]
    StillTried,
    /// No answer came.
    #[error("the camera does not answer")]
    Silent,
}
