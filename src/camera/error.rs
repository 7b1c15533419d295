//! Why a camera cannot be used: the [`Cause`] for programs, the text with the remedy for people.

use std::{fmt, io};

use super::control::Value;
use super::memory::Shortage;

/// What keeps pictures from coming. The text for people stands beside it, in the error it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// There is no camera.
    NoCamera,
    /// Nothing here can drive the sensor on the cable.
    SensorUnsupported,
    /// There are cameras, but not the configured one.
    NotFound,
    /// Another program holds the camera.
    Busy,
    /// The camera offers nothing that can be used.
    Unsupported,
    /// The kernel does not let this program open the camera.
    NotPermitted,
    /// The USB bus has no bandwidth left.
    NoBandwidth,
    /// There is no memory for buffers.
    NoMemory,
    /// The camera was unplugged.
    Unplugged,
    /// The camera is open and sends no frames.
    Stalled,
    /// The camera sends frames, but none of them can be used.
    Damaged,
    /// A call to the camera does not return.
    Hung,
    /// The camera hung again and again and is left alone for a while.
    LeftAlone,
    /// A call to a driver or a library failed.
    Refused {
        /// The call, as its library names it.
        call: &'static str,
        /// The error's number, if it has one.
        errno: Option<i32>,
    },
    /// The files to replay cannot be used.
    Unreadable,
    /// This build has no libcamera.
    NotBuilt,
    /// The encoder failed, or cannot take what the camera delivers.
    Encoder,
}

impl Cause {
    /// The cause as one word, for the status document and for labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoCamera => "no_camera",
            Self::SensorUnsupported => "sensor_unsupported",
            Self::NotFound => "not_found",
            Self::Busy => "busy",
            Self::Unsupported => "unsupported",
            Self::NotPermitted => "not_permitted",
            Self::NoBandwidth => "no_bandwidth",
            Self::NoMemory => "no_memory",
            Self::Unplugged => "unplugged",
            Self::Stalled => "stalled",
            Self::Damaged => "damaged",
            Self::Hung => "hung",
            Self::LeftAlone => "left_alone",
            Self::Refused { .. } => "refused",
            Self::Unreadable => "unreadable",
            Self::NotBuilt => "not_built",
            Self::Encoder => "encoder",
        }
    }

    /// The cause behind a failed call to a camera.
    pub fn of_call(call: &'static str, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EBUSY) => Self::Busy,
            Some(libc::ENODEV | libc::ENXIO) => Self::Unplugged,
            Some(libc::EACCES | libc::EPERM) => Self::NotPermitted,
            Some(libc::ENOMEM) => Self::NoMemory,
            errno => Self::Refused { call, errno },
        }
    }
}

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
    NotPermitted {
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
    NoBandwidth {
        /// Camera id.
        id: String,
        /// Format, size and rate.
        wanted: String,
    },
    /// There is no memory for its buffers.
    #[error("camera {id} with {wanted}: {shortage}")]
    NoMemory {
        /// Camera id.
        id: String,
        /// Format and size.
        wanted: String,
        /// How much of it there is not.
        shortage: Shortage,
    },
    /// The camera was unplugged.
    #[error("camera {id} was disconnected")]
    Unplugged {
        /// Camera id.
        id: String,
    },
    /// A call failed.
    #[error("{call} failed for camera {id}: {source}")]
    Refused {
        /// Camera id or path.
        id: String,
        /// The call, as its library names it.
        call: &'static str,
        /// The errno.
        source: io::Error,
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
    /// The error of a call to a camera that failed.
    pub(super) fn of_call(id: &str, call: &'static str, source: io::Error) -> Self {
        let id = id.to_owned();
        match Cause::of_call(call, &source) {
            Cause::Busy => Self::Busy { id },
            Cause::Unplugged => Self::Unplugged { id },
            _ => Self::Refused { id, call, source },
        }
    }

    /// The cause, for programs.
    pub fn cause(&self) -> Cause {
        match self {
            Self::NoCamera => Cause::NoCamera,
            Self::SensorUnsupported { .. } => Cause::SensorUnsupported,
            Self::NotFound { .. } => Cause::NotFound,
            Self::Busy { .. } => Cause::Busy,
            Self::Unsupported { .. } => Cause::Unsupported,
            Self::NotPermitted { .. } => Cause::NotPermitted,
            Self::NoBandwidth { .. } => Cause::NoBandwidth,
            Self::NoMemory { .. } => Cause::NoMemory,
            Self::Unplugged { .. } => Cause::Unplugged,
            Self::Refused { call, source, .. } => Cause::of_call(call, source),
            Self::Control(refused) => {
                Cause::Refused { call: "setting a control", errno: refused.source.raw_os_error() }
            }
            Self::Replay { .. } => Cause::Unreadable,
            Self::NotBuilt => Cause::NotBuilt,
        }
    }

    /// True where there is a device, and something about it that keeps it from being used.
    pub(super) fn names_a_device(&self) -> bool {
        matches!(self, Self::NotPermitted { .. } | Self::Unsupported { .. })
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
    pub source: io::Error,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(errno: i32) -> CameraError {
        CameraError::of_call("/dev/video0", "VIDIOC_STREAMON", io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn an_errno_stays_a_cause() {
        let refused = |errno| Cause::Refused { call: "VIDIOC_STREAMON", errno: Some(errno) };
        for (errno, cause) in [
            (libc::EBUSY, Cause::Busy),
            (libc::ENODEV, Cause::Unplugged),
            (libc::ENXIO, Cause::Unplugged),
            (libc::EACCES, Cause::NotPermitted),
            (libc::EPERM, Cause::NotPermitted),
            (libc::ENOMEM, Cause::NoMemory),
            (libc::EIO, refused(libc::EIO)),
            (libc::EINVAL, refused(libc::EINVAL)),
        ] {
            assert_eq!(of(errno).cause(), cause, "{errno}");
        }
        let without = CameraError::of_call("x", "Camera::start", io::ErrorKind::Other.into());
        assert_eq!(without.cause(), Cause::Refused { call: "Camera::start", errno: None });
    }

    #[test]
    fn the_text_of_a_failed_call_names_it() {
        let text = of(libc::EIO).to_string();
        assert!(text.starts_with("VIDIOC_STREAMON failed for camera /dev/video0: "), "{text}");
        assert_eq!(of(libc::EBUSY).to_string(), "camera /dev/video0 is in use by another program");
    }
}
