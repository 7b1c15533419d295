//! What can be changed while the program runs, and how that reaches the capture thread.
//!
//! A change lasts until the program ends; what is to stay belongs into the configuration.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::{Map, Value as Json};
use tokio::sync::oneshot;

use crate::camera::control::{Control, Refusal};
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
}

/// What the capture thread is asked to do, with where the answer goes. An answer nobody waits for is dropped.
#[derive(Debug)]
pub enum Command {
    /// Tell the controls.
    GetControls(oneshot::Sender<Result<Vec<Control>, ChangeError>>),
    /// Set controls by name (null: the default), all or none, and tell them.
    SetControls(Map<String, Json>, oneshot::Sender<Result<Vec<Control>, ChangeError>>),
    /// Set all controls to their defaults, and tell them.
    ResetControls(oneshot::Sender<Result<Vec<Control>, ChangeError>>),
    /// Change settings, and tell those in force.
    Change(Change, oneshot::Sender<Result<Settings, ChangeError>>),
}

/// Commands on their way to the capture thread.
#[derive(Debug, Default)]
pub struct Mailbox {
    commands: Mutex<Vec<Command>>,
    /// Looked at for every frame, so it must cost nothing.
    is_full: AtomicBool,
}

impl Mailbox {
    /// Puts a command in. The capture thread looks at least four times a second.
    pub fn send(&self, command: Command) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        self.is_full.store(true, Ordering::Release);
    }

    /// Takes all commands out; without any, at the cost of one load.
    pub fn take(&self) -> Vec<Command> {
        if !self.is_full.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut *self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
