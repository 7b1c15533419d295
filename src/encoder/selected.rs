//! The encoder in use, and how it is selected.

use std::time::Instant;

use super::software::check_memory;
use super::turbo::NO_SIZE;
use super::v4l2_m2m::M2m;
use super::{EncodeError, Encoder, Endless, HardwarePolicy, Intake, Passthrough, Reencode, Seen, Software};
use crate::camera::CameraInfo;
use crate::config::{self, EncoderKind, Orientation};
use crate::frame::PixelFormat;
use crate::jpeg::Bound;

/// The ways encoders work.
pub enum Engine {
    /// One that is done when its call returns.
    Immediate(Box<dyn Encoder>),
    /// One that takes the camera's own JPEG apart, so that something can be drawn on it.
    Reencode(Box<Reencode>, Orientation),
    /// The hardware's, which works while the camera fills its next buffer.
    Queued(Box<M2m>),
}

/// What has to be done to a picture besides encoding it.
#[derive(Clone, Debug)]
pub struct PictureWork {
    /// How the picture is turned after the camera.
    pub orientation: Orientation,
    /// Text is drawn on it, for which the camera's own JPEG may be decoded and encoded again.
    pub reencode: bool,
    /// The largest picture that is accepted.
    pub bound: Bound,
    /// Whether the camera leaves out the end of its JPEGs.
    pub endless: Endless,
}

/// An encoder, with the reason it was selected for the status document.
pub struct SelectedEncoder {
    /// The encoder.
    pub engine: Engine,
    /// Why this one.
    pub reason: String,
    /// True if it stands in for a hardware encoder that failed.
    pub is_fallback: bool,
}

impl std::fmt::Debug for SelectedEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SelectedEncoder")
            .field("encoder", &self.kind())
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl SelectedEncoder {
    /// No encoder: what is in place while one is replaced by another.
    pub fn none() -> Self {
        let intake = Intake::new(Bound::of(NO_SIZE), Endless::default());
        Self::new(Engine::Immediate(Box::new(Passthrough::new(intake))), "")
    }

    fn new(engine: Engine, reason: impl Into<String>) -> Self {
        Self { engine, reason: reason.into(), is_fallback: false }
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

/// The kind of encoder that suits a camera's frames, before any device is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// The camera's own JPEG, for this reason.
    Passthrough(&'static str),
    /// The camera's own JPEG, decoded and encoded again.
    Reencode,
    /// The software encoder, for this reason.
    Software(&'static str),
    /// The hardware's.
    Hardware {
        /// Whether the software encoder may stand in for it.
        may_fall_back: bool,
    },
}

impl Plan {
    /// # Errors
    /// A configured encoder that cannot take the format.
    fn of(kind: EncoderKind, format: PixelFormat, reencode: bool) -> Result<Self, EncodeError> {
        const PASS_THROUGH: &str = "set encoder.kind to auto to pass the camera's JPEG through";
        use EncoderKind::{Auto, Passthrough, Software, V4l2M2m};
        let unsuited = |encoder, remedy| Err(EncodeError::WrongFormat { encoder, format, remedy });
        match (kind, format) {
            (Auto | Software, PixelFormat::Mjpeg) if reencode => Ok(Self::Reencode),
            (Auto, PixelFormat::Mjpeg) => Ok(Self::Passthrough("the camera delivers MJPEG")),
            (Passthrough, PixelFormat::Mjpeg) => Ok(Self::Passthrough("encoder.kind is passthrough")),
            (Passthrough, _) => {
                unsuited("passthrough", "set encoder.kind to auto, or use a camera that delivers MJPEG")
            }
            (Software, PixelFormat::Mjpeg) => unsuited("software", PASS_THROUGH),
            (V4l2M2m, PixelFormat::Mjpeg) => unsuited("v4l2-m2m", PASS_THROUGH),
            (Software, _) => Ok(Self::Software("encoder.kind is software")),
            (V4l2M2m, _) => Ok(Self::Hardware { may_fall_back: false }),
            (Auto, _) => Ok(Self::Hardware { may_fall_back: true }),
        }
    }
}

/// Selects the encoder for what `camera` delivers.
///
/// # Errors
/// A configured encoder that cannot take the format or is not there, or one the library cannot make.
pub fn select(
    config: &config::Encoder,
    camera: &CameraInfo,
    work: &PictureWork,
    policy: &mut HardwarePolicy,
) -> Result<SelectedEncoder, EncodeError> {
    let quality = config.quality.get();
    match Plan::of(config.kind, camera.pixel_format, work.reencode)? {
        Plan::Passthrough(reason) => {
            let encoder = Passthrough::new(Intake::new(work.bound, work.endless.clone()));
            Ok(SelectedEncoder::new(Engine::Immediate(Box::new(encoder)), reason))
        }
        Plan::Reencode => {
            let encoder = Reencode::new(quality, work.bound, work.endless.clone())?;
            let engine = Engine::Reencode(Box::new(encoder), work.orientation);
            Ok(SelectedEncoder::new(engine, "the camera delivers MJPEG, which is decoded to draw on it"))
        }
        Plan::Software(reason) => software(quality, camera, work, reason),
        Plan::Hardware { may_fall_back: false } => {
            let encoder = M2m::open(&config.device, camera, quality, policy.may_import())?;
            let reason = format!("encoder.kind is v4l2-m2m; {}", encoder.describe());
            Ok(SelectedEncoder::new(Engine::Queued(Box::new(encoder)), reason))
        }
        Plan::Hardware { may_fall_back: true } => {
            let fallback = |reason| -> Result<SelectedEncoder, EncodeError> {
                Ok(SelectedEncoder { is_fallback: true, ..software(quality, camera, work, reason)? })
            };
            if policy.is_given_up(Instant::now()) {
                return fallback(format!("the hardware encoder failed: {}", policy.last_error()));
            }
            match M2m::open(&config.device, camera, quality, policy.may_import()) {
                Ok(encoder) => {
                    let reason = encoder.describe();
                    Ok(SelectedEncoder::new(Engine::Queued(Box::new(encoder)), reason))
                }
                Err(EncodeError::NoDevice { reason }) => {
                    software(quality, camera, work, format!("the camera delivers raw pictures, and {reason}"))
                }
                Err(error) => {
                    policy.refused(&error, Instant::now());
                    fallback(format!("the hardware encoder failed: {error}"))
                }
            }
        }
    }
}

/// The software encoder for raw pictures.
fn software(
    quality: u32,
    camera: &CameraInfo,
    work: &PictureWork,
    reason: impl Into<String>,
) -> Result<SelectedEncoder, EncodeError> {
    check_memory(camera.size)?;
    let mut encoder = Software::new(quality)?;
    encoder.set_orientation(work.orientation);
    encoder.set_limited_range(camera.limited_range);
    Ok(SelectedEncoder::new(Engine::Immediate(Box::new(encoder)), reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_goes_by_configuration_and_format() {
        use EncoderKind::{Auto, Passthrough, Software, V4l2M2m};
        let plan = |kind, format, reencode| Plan::of(kind, format, reencode).ok();
        for format in [PixelFormat::Yuv420, PixelFormat::Nv12, PixelFormat::Yuyv, PixelFormat::Grey] {
            for reencode in [false, true] {
                assert_eq!(plan(Auto, format, reencode), Some(Plan::Hardware { may_fall_back: true }));
                assert_eq!(plan(V4l2M2m, format, reencode), Some(Plan::Hardware { may_fall_back: false }));
                assert!(matches!(plan(Software, format, reencode), Some(Plan::Software(_))));
                assert_eq!(plan(Passthrough, format, reencode), None);
            }
        }
        assert!(matches!(plan(Auto, PixelFormat::Mjpeg, false), Some(Plan::Passthrough(_))));
        assert!(matches!(plan(Passthrough, PixelFormat::Mjpeg, true), Some(Plan::Passthrough(_))));
        assert_eq!(plan(Auto, PixelFormat::Mjpeg, true), Some(Plan::Reencode));
        assert_eq!(plan(Software, PixelFormat::Mjpeg, true), Some(Plan::Reencode));
        for kind in [Software, V4l2M2m] {
            let error = Plan::of(kind, PixelFormat::Mjpeg, false).unwrap_err().to_string();
            assert!(error.ends_with("set encoder.kind to auto to pass the camera's JPEG through"), "{error}");
        }
    }
}
