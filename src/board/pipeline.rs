//! What is open now.

use crate::camera::CameraInfo;

/// The opened camera and its encoder, for the status document.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The camera.
    pub camera: CameraInfo,
    /// False while it is stopped because nobody watches.
    pub running: bool,
    /// The encoder's name.
    pub encoder: &'static str,
    /// Why this encoder.
    pub encoder_reason: String,
    /// The hardware encoder's device and how it gets its frames.
    pub hardware: Option<(String, &'static str)>,
    /// The frame rate the software encoder is kept to, where that is less than what was asked for.
    pub rate_limit: Option<f64>,
    /// Who turns the picture, if anybody does.
    pub turned_by: Option<&'static str>,
    /// True if text is drawn into the picture.
    pub overlay: bool,
    /// What of the configuration does not fit this camera.
    pub notes: Vec<String>,
}
