//! What keeps a camera from being used, with the remedy.

use std::fmt;

use super::control::Value;
use super::memory::Shortage;

/// Why a camera cannot be opened or went away.
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    /// No camera at all.
    #[error("no camera found: check the cable and that the sensor is supported")]
    NoCamera,
    /// There is one, with a sensor that nothing here can drive.
    #[error("no camera found: the sensor {sensor} is not supported; use a camera module with another one")]
    SensorUnsupported {
        /// The sensor's name.
        sensor: String,
    },
    /// The configured camera is not there.
    #[error("camera.id {wanted:?} not found; cameras present: {present}")]
    NotFound {
        /// The configured `camera.id`.
        wanted: String,
        /// What is there instead, for the message.
        present: String,
    },
    /// Another program holds the camera.
    #[error("camera {id} is in use by another program")]
    Busy {
        /// Camera id.
        id: String,
    },
    /// The camera offers nothing we can use.
    #[error("camera {id} cannot deliver {wanted}: {reason}")]
    Unsupported {
        /// Camera id.
        id: String,
        /// What was asked for.
        wanted: String,
        /// What it said.
        reason: String,
    },
    /// The kernel keeps us from opening it.
    #[error("camera {what}; {remedy}")]
    NoPermission {
        /// The device, and what the kernel says.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// `STREAMON`'s `ENOSPC`.
    #[error(
        "the USB bus has no bandwidth left for camera {id} with {wanted}: set a smaller camera.resolution or a lower \
         camera.frame_rate, unplug other cameras, or plug it into another USB controller"
    )]
    Bandwidth {
        /// Camera id.
        id: String,
        /// Format, size and rate.
        wanted: String,
    },
    /// There is no memory for its buffers.
    #[error("camera {id} with {wanted}: {shortage}")]
    Memory {
        /// Camera id.
        id: String,
        /// Format and size.
        wanted: String,
        /// How much of it there is not.
        shortage: Shortage,
    },
    /// The camera was unplugged.
    #[error("camera {id} was disconnected")]
    Disconnected {
        /// Camera id.
        id: String,
    },
    /// A call failed.
    #[error("{call} failed for camera {id}: {source}")]
    Io {
        /// Camera id or path.
        id: String,
        /// The call, as its library names it.
        call: &'static str,
        /// The errno.
        source: std::io::Error,
    },
    /// A control could not be set.
    #[error(transparent)]
    Control(Box<RefusedControl>),
    /// A replay source whose files cannot be used.
    #[error("camera.replay.path {path}: {reason}")]
    Replay {
        /// Configured path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// This build has no libcamera.
    #[error(
        "this program was built without libcamera: build it with the libcamera feature, or set camera.source to v4l2, \
         test-pattern or replay"
    )]
    NotBuilt,
}

impl CameraError {
    /// True where there is a device, and something about it that keeps it from being used.
    pub(super) fn names_a_device(&self) -> bool {
        matches!(self, Self::NoPermission { .. } | Self::Unsupported { .. })
    }
}

/// A control that could not be set.
#[derive(Debug, thiserror::Error)]
pub struct RefusedControl {
    /// Camera id.
    pub id: String,
    /// The control's name.
    pub name: String,
    /// What it was to be set to.
    pub value: Value,
    /// The errno.
    pub source: std::io::Error,
    /// The switch to turn, if there is one.
    pub remedy: Option<String>,
    /// Controls set together with the refused one that could not be set back.
    pub stuck: Vec<String>,
}

impl fmt::Display for RefusedControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, name, value, source, remedy, stuck } = self;
        write!(f, "camera {id} refused {name} {value}: {source}")?;
        if let Some(remedy) = remedy {
            write!(f, ": {remedy}")?;
        }
        if stuck.is_empty() { Ok(()) } else { write!(f, "; it could not take back {}", stuck.join(", ")) }
    }
}
