//! What can be changed while the program runs. [`super::mailbox`] is how that reaches the capture thread.
//!
//! A change lasts until the program ends; what is to stay belongs into the configuration.

use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::camera::control::Refusal;
use crate::config::{Config, Count, FrameRate, Orientation, Resolution};

/// The settings in force.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Picture size asked for.
    pub resolution: Resolution,
    /// Frames per second asked for.
    pub frame_rate: FrameRate,
    /// JPEG quality.
    pub quality: Count<1, 100>,
    /// How the picture is turned.
    pub orientation: Orientation,
}

impl Settings {
    /// Those of the configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            resolution: config.camera.resolution,
            frame_rate: config.camera.frame_rate,
            quality: config.encoder.quality,
            orientation: config.camera.orientation,
        }
    }

    /// True if the camera need not be opened anew to have these instead.
    pub fn only_quality_differs(&self, other: &Self) -> bool {
        *self == Self { quality: self.quality, ..other.clone() }
    }
}

/// Some settings, to be changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// See [`Settings`].
    pub resolution: Option<Resolution>,
    /// See [`Settings`].
    pub frame_rate: Option<FrameRate>,
    /// See [`Settings`].
    pub quality: Option<Count<1, 100>>,
    /// See [`Settings`].
    pub orientation: Option<Orientation>,
}

impl Change {
    /// Of a JSON object.
    ///
    /// # Errors
    /// A name that is no setting, or a value that is not right for its setting, in words.
    pub fn from_json(object: Map<String, Json>) -> Result<Self, String> {
        fn read<T: serde::de::DeserializeOwned>(name: &str, value: Json) -> Result<Option<T>, String> {
            serde_json::from_value(value).map(Some).map_err(|error| {
                let error = error.to_string();
                // Ours say "must be …".
                if error.starts_with("must ") { format!("{name} {error}") } else { format!("{name}: {error}") }
            })
        }
        let mut change = Self::default();
        for (name, value) in object {
            match name.as_str() {
                "resolution" => change.resolution = read(&name, value)?,
                "frame_rate" => change.frame_rate = read(&name, value)?,
                "quality" => change.quality = read(&name, value)?,
                "orientation" => change.orientation = read(&name, value)?,
                _ => {
                    return Err(format!(
                        "unknown setting {name:?}: settings are resolution, frame_rate, quality and orientation"
                    ));
                }
            }
        }
        Ok(change)
    }

    /// Settings with this change made.
    pub fn applied_to(&self, settings: &Settings) -> Settings {
        Settings {
            resolution: self.resolution.unwrap_or(settings.resolution),
            frame_rate: self.frame_rate.unwrap_or(settings.frame_rate),
            quality: self.quality.unwrap_or(settings.quality),
            orientation: self.orientation.unwrap_or(settings.orientation),
        }
    }

    /// This change made after another.
    #[must_use]
    pub fn over(&self, earlier: &Self) -> Self {
        Self {
            resolution: self.resolution.or(earlier.resolution),
            frame_rate: self.frame_rate.or(earlier.frame_rate),
            quality: self.quality.or(earlier.quality),
            orientation: self.orientation.or(earlier.orientation),
        }
    }

    /// What of this change another one does not name.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        fn keep<T: Copy>(own: Option<T>, other: Option<T>) -> Option<T> {
            own.filter(|_| other.is_none())
        }
        Self {
            resolution: keep(self.resolution, other.resolution),
            frame_rate: keep(self.frame_rate, other.frame_rate),
            quality: keep(self.quality, other.quality),
            orientation: keep(self.orientation, other.orientation),
        }
    }

    /// True if it names nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

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
