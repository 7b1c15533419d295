//! Frames to JPEG. [`choose`] picks the encoder by what the camera delivers and what the hardware can do.

use std::time::{Duration, Instant};

use crate::camera::memory::Shortage;
use crate::camera::{CameraError, CameraInfo, Cause};
use crate::config::{self, Orientation};
use crate::frame::{PixelFormat, RawFrame, Size};
use crate::jpeg::{Bound, JpegError};
use crate::v4l2::V4l2Error;

mod intake;
mod passthrough;
mod reencode;
mod software;
mod turbo;
pub mod turn;
pub mod v4l2_m2m;

pub use intake::{Endless, Intake, Seen};
pub use passthrough::Passthrough;
pub use reencode::Reencode;
pub use software::Software;
use v4l2_m2m::M2m;

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
        matches!(self, Self::Jpeg(_) | Self::ShortPlane { .. } | Self::Damaged { .. } | Self::Library { .. })
    }

    /// The cause, for programs.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Camera(error) => error.cause(),
            Self::Memory { .. } | Self::NoRoom { .. } => Cause::NoMemory,
            Self::Jpeg(_) | Self::ShortPlane { .. } | Self::Damaged { .. } | Self::Library { .. } => Cause::Damaged,
            Self::WrongFormat { .. }
            | Self::Device(_)
            | Self::NoDevice { .. }
            | Self::WrongFormatGranted { .. }
            | Self::Timeout { .. }
            | Self::Ended { .. } => Cause::Encoder,
        }
    }
}

/// The encoder taken.
pub enum Engine {
    /// One that is done when its call returns.
    Immediate(Box<dyn Encoder>),
    /// One that takes the camera's own JPEG apart, so that something can be drawn on it.
    Reencode(Box<Reencode>, Orientation),
    /// The hardware's, which works while the camera fills its next buffer.
    Queued(Box<M2m>),
}

/// What is wanted beyond a JPEG.
#[derive(Clone, Debug)]
pub struct Extras {
    /// How the picture is still to be turned.
    pub orientation: Orientation,
    /// To draw on it, and that the camera's own JPEG may be encoded again for that.
    pub reencode: bool,
    /// The most a picture may have.
    pub bound: Bound,
    /// Whether the camera leaves the end of its JPEGs out.
    pub endless: Endless,
}

/// An encoder and the reason it was taken, for the status document.
pub struct Choice {
    /// The encoder.
    pub engine: Engine,
    /// Why this one.
    pub reason: String,
    /// True if it stands in for a hardware encoder that failed.
    pub is_fallback: bool,
}

impl std::fmt::Debug for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Choice").field("encoder", &self.kind()).field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl Choice {
    /// No encoder: what is in place while one is replaced by another.
    pub fn none() -> Self {
        let intake = Intake::new(Bound::of(turbo::NO_SIZE), Endless::default());
        let engine = Engine::Immediate(Box::new(Passthrough::new(intake)));
        Self { engine, reason: String::new(), is_fallback: false }
    }

    /// The configuration's word for the encoder.
    pub fn kind(&self) -> &'static str {
        match &self.engine {
            Engine::Immediate(encoder) => encoder.kind(),
            Engine::Reencode(..) => "software",
            Engine::Queued(_) => "v4l2-m2m",
        }
    }

    /// Whether the processor does the work.
    pub fn is_software(&self) -> bool {
        self.kind() == "software"
    }

    /// Whether it turns pictures itself, on the way to the JPEG.
    pub fn turns(&self) -> bool {
        self.is_software()
    }

    /// Whether it has the overlay drawn itself.
    pub fn draws(&self) -> bool {
        matches!(self.engine, Engine::Reencode(..))
    }

    /// Whether frames are read by the processor.
    pub fn reads_frames(&self) -> bool {
        match &self.engine {
            Engine::Immediate(_) | Engine::Reencode(..) => true,
            Engine::Queued(encoder) => encoder.reads_frames(),
        }
    }

    /// Says anew how the hardware encoder gets its frames.
    pub fn renew_reason(&mut self) {
        if let Engine::Queued(encoder) = &self.engine {
            self.reason = encoder.describe();
        }
    }

    /// True while it works on a frame or holds a buffer of the camera's.
    pub fn is_busy(&self) -> bool {
        matches!(&self.engine, Engine::Queued(encoder) if encoder.is_busy())
    }

    /// True while it takes no more frames.
    pub fn is_full(&self) -> bool {
        matches!(&self.engine, Engine::Queued(encoder) if encoder.is_full())
    }

    /// The hardware encoder's device and how it gets its frames: `dma-buf` or `copy`.
    pub fn hardware(&self) -> Option<(String, &'static str)> {
        match &self.engine {
            Engine::Queued(encoder) => Some((encoder.path(), encoder.memory_name())),
            Engine::Immediate(_) | Engine::Reencode(..) => None,
        }
    }

    /// What the last picture was like, where the camera made it.
    pub fn seen(&self) -> Option<Seen> {
        match &self.engine {
            Engine::Immediate(encoder) => encoder.seen(),
            Engine::Reencode(encoder, _) => encoder.seen(),
            Engine::Queued(_) => None,
        }
    }

    /// Sets the JPEG quality from the next frame on; no effect on passthrough.
    pub fn set_quality(&mut self, quality: u32) -> Result<(), EncodeError> {
        match &mut self.engine {
            Engine::Immediate(encoder) => encoder.set_quality(quality),
            Engine::Reencode(encoder, _) => encoder.set_quality(quality),
            Engine::Queued(encoder) => encoder.set_quality(quality),
        }
    }
}

/// What is remembered of the hardware encoder from one opening to the next.
#[derive(Debug, Default)]
pub struct Hardware {
    /// Failures since it last worked.
    failures: u32,
    /// What it failed with.
    last: String,
    /// It failed before it encoded a single frame from a dma-bufs of the camera's.
    import_failed: bool,
    retry: Option<Retry>,
}

/// The software encoder stands in until then.
#[derive(Clone, Copy, Debug)]
struct Retry {
    at: Instant,
    pause: Duration,
}

impl Hardware {
    /// Failures in a row after which the software encoder takes over.
    const FAILURES_MAX: u32 = 3;
    /// How long it does at first, doubling up to [`Self::PAUSE_MAX`].
    const PAUSE_MIN: Duration = Duration::from_secs(60);
    const PAUSE_MAX: Duration = Duration::from_secs(3600);

    /// Notes a failure. `worked` says whether the encoder had made a picture since it was opened.
    pub fn failed(&mut self, error: &EncodeError, imports: bool, worked: bool) {
        self.failures += 1;
        self.last = error.to_string();
        self.import_failed |= imports && !worked;
        if self.failures >= Self::FAILURES_MAX {
            self.give_up();
        }
    }

    /// It cannot even be set up.
    fn refused(&mut self, error: &EncodeError) {
        self.failures = Self::FAILURES_MAX;
        self.last = error.to_string();
        self.give_up();
    }

    fn give_up(&mut self) {
        let pause = self.retry.map_or(Self::PAUSE_MIN, |retry| (retry.pause * 2).min(Self::PAUSE_MAX));
        log::warn!("the hardware encoder is given up for {} s: {}", pause.as_secs(), self.last);
        self.retry = Some(Retry { at: Instant::now() + pause, pause });
    }

    /// Notes that it has worked for a while.
    pub fn works(&mut self) {
        self.failures = 0;
        self.retry = None;
    }

    /// True if it has been given up for now.
    pub fn is_given_up(&self) -> bool {
        self.failures >= Self::FAILURES_MAX && self.retry.is_some_and(|retry| Instant::now() < retry.at)
    }

    /// True once it is worth another try.
    pub fn is_due(&self) -> bool {
        self.failures >= Self::FAILURES_MAX && self.retry.is_some_and(|retry| Instant::now() >= retry.at)
    }
}

/// Picks the encoder for what `camera` delivers.
///
/// # Errors
/// A configured encoder that cannot take the format or is not there, or one the library cannot make.
pub fn choose(
    config: &config::Encoder,
    camera: &CameraInfo,
    extras: &Extras,
    hardware: &mut Hardware,
) -> Result<Choice, EncodeError> {
    use config::EncoderKind::{Auto, Passthrough as ConfiguredPassthrough, Software as ConfiguredSoftware, V4l2M2m};
    let (quality, format) = (config.quality.get(), camera.pixel_format);
    let immediate = |encoder: Box<dyn Encoder>, reason: &str| Choice {
        engine: Engine::Immediate(encoder),
        reason: reason.to_owned(),
        is_fallback: false,
    };
    let new_software = || -> Result<Box<dyn Encoder>, EncodeError> {
        software::check_memory(camera.size)?;
        let mut encoder = Software::new(quality)?;
        encoder.set_orientation(extras.orientation);
        encoder.set_limited_range(camera.limited_range);
        Ok(Box::new(encoder))
    };
    let new_passthrough =
        || Box::new(Passthrough::new(Intake::new(extras.bound, extras.endless.clone()))) as Box<dyn Encoder>;
    match (config.kind, format) {
        (Auto | ConfiguredSoftware, PixelFormat::Mjpeg) if extras.reencode => Ok(Choice {
            engine: Engine::Reencode(
                Box::new(Reencode::new(quality, extras.bound, extras.endless.clone())?),
                extras.orientation,
            ),
            reason: "the camera delivers MJPEG, which is decoded to draw on it".to_owned(),
            is_fallback: false,
        }),
        (Auto, PixelFormat::Mjpeg) => Ok(immediate(new_passthrough(), "the camera delivers MJPEG")),
        (ConfiguredPassthrough, PixelFormat::Mjpeg) => Ok(immediate(new_passthrough(), "encoder.kind is passthrough")),
        (ConfiguredPassthrough, format) => Err(EncodeError::WrongFormat {
            encoder: "passthrough",
            format,
            remedy: "set encoder.kind to auto, or use a camera that delivers MJPEG",
        }),
        (ConfiguredSoftware, PixelFormat::Mjpeg) => Err(EncodeError::WrongFormat {
            encoder: "software",
            format,
            remedy: "set encoder.kind to auto to pass the camera's JPEG through",
        }),
        (V4l2M2m, PixelFormat::Mjpeg) => Err(EncodeError::WrongFormat {
            encoder: "v4l2-m2m",
            format,
            remedy: "set encoder.kind to auto to pass the camera's JPEG through",
        }),
        (ConfiguredSoftware, _) => Ok(immediate(new_software()?, "encoder.kind is software")),
        (V4l2M2m, _) => {
            let encoder = M2m::open(&config.device, camera, quality, !hardware.import_failed)?;
            let reason = format!("encoder.kind is v4l2-m2m; {}", encoder.describe());
            Ok(Choice { engine: Engine::Queued(Box::new(encoder)), reason, is_fallback: false })
        }
        (Auto, _) => {
            let software = |reason, is_fallback| -> Result<Choice, EncodeError> {
                Ok(Choice { engine: Engine::Immediate(new_software()?), reason, is_fallback })
            };
            if hardware.is_given_up() {
                return software(format!("the hardware encoder failed: {}", hardware.last), true);
            }
            match M2m::open(&config.device, camera, quality, !hardware.import_failed) {
                Ok(encoder) => {
                    let reason = encoder.describe();
                    Ok(Choice { engine: Engine::Queued(Box::new(encoder)), reason, is_fallback: false })
                }
                Err(EncodeError::NoDevice { reason }) => {
                    software(format!("the camera delivers raw pictures, and {reason}"), false)
                }
                Err(error) => {
                    hardware.refused(&error);
                    software(format!("the hardware encoder failed: {error}"), true)
                }
            }
        }
    }
}
