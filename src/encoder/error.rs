//! Why a frame gave no JPEG.

use std::time::Duration;

use crate::camera::memory::Shortage;
use crate::camera::{CameraError, Cause};
use crate::frame::{PixelFormat, ShortPlane, Size};
use crate::jpeg::JpegError;
use crate::v4l2::V4l2Error;

/// Why a frame gave no JPEG.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The camera's JPEG is damaged; the next may be right.
    #[error(transparent)]
    Jpeg(#[from] JpegError),
    /// A raw frame with fewer bytes than its format needs; the next may be right.
    #[error(transparent)]
    ShortPlane(#[from] ShortPlane),
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
    /// A device call failed.
    #[error(transparent)]
    Device(#[from] V4l2Error),
    /// There is no memory for the device's buffers.
    #[error("{error}: {shortage}")]
    Memory {
        /// The call that failed.
        error: V4l2Error,
        /// How much of it there is not.
        shortage: Shortage,
    },
    /// There is no memory for the software encoder's buffers.
    #[error(
        "there is no memory for the software encoder with {size}, which takes {} MB: set a smaller camera.resolution",
        bytes >> 20
    )]
    NoRoom {
        /// Picture size.
        size: Size,
        /// Bytes it takes.
        bytes: usize,
    },
    /// The camera failed while its frame was encoded.
    #[error(transparent)]
    Camera(#[from] CameraError),
    /// There is no hardware encoder for this.
    #[error("{reason}")]
    NoDevice {
        /// What was looked for.
        reason: String,
    },
    /// The driver granted something else than was asked for.
    #[error("{path} gives {got} on its {queue} queue instead of {wanted}")]
    WrongFormatGranted {
        /// The device.
        path: String,
        /// `OUTPUT` (frames in) or `CAPTURE` (JPEG out).
        queue: &'static str,
        /// What was asked for.
        wanted: String,
        /// What came.
        got: String,
    },
    /// A frame took too long.
    #[error("{path} has not encoded a frame within {after:?}")]
    Timeout {
        /// The device.
        path: String,
        /// How long it was given.
        after: Duration,
    },
    /// The device says that its stream is over, which nobody asked for.
    #[error("{path} has ended its stream")]
    Ended {
        /// The device.
        path: String,
    },
    /// The device says that a picture is damaged; the next may be right.
    #[error("{path} has marked a picture as damaged")]
    Damaged {
        /// The device.
        path: String,
    },
    /// The encoder library refused a frame; a damaged one, or a size it cannot do.
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

impl EncodeError {
    /// True if only this frame is lost.
    pub fn is_of_one_frame(&self) -> bool {
        matches!(self, Self::Jpeg(_) | Self::ShortPlane(_) | Self::Damaged { .. } | Self::Library { .. })
    }

    /// The cause, for programs.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Camera(error) => error.cause(),
            Self::Memory { .. } | Self::NoRoom { .. } => Cause::NoMemory,
            Self::Jpeg(_) | Self::ShortPlane(_) | Self::Damaged { .. } | Self::Library { .. } => Cause::Damaged,
            Self::WrongFormat { .. }
            | Self::Device(_)
            | Self::NoDevice { .. }
            | Self::WrongFormatGranted { .. }
            | Self::Timeout { .. }
            | Self::Ended { .. } => Cause::Encoder,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(errno: i32) -> V4l2Error {
        let source = std::io::Error::from_raw_os_error(errno);
        V4l2Error { path: "/dev/video11".to_owned(), call: "VIDIOC_REQBUFS", source }
    }

    #[test]
    fn the_cameras_cause_is_told_from_the_encoders() {
        let path = || "/dev/video11".to_owned();
        let unplugged = CameraError::Unplugged { id: "x".to_owned() };
        let shortage = Shortage { count: 1, bytes: 1, cma: None };
        for (error, cause) in [
            (EncodeError::from(unplugged), Cause::Unplugged),
            (JpegError::NoStart.into(), Cause::Damaged),
            (EncodeError::Damaged { path: path() }, Cause::Damaged),
            (EncodeError::Memory { error: device(libc::ENOMEM), shortage }, Cause::NoMemory),
            // Another program's encoder is not another program's camera.
            (device(libc::EBUSY).into(), Cause::Encoder),
            (EncodeError::Ended { path: path() }, Cause::Encoder),
            (EncodeError::Timeout { path: path(), after: Duration::from_secs(1) }, Cause::Encoder),
        ] {
            assert_eq!(error.cause(), cause, "{error}");
        }
    }
}
