//! Where pictures come from. Each source is a [`Camera`]; [`Opener`] chooses and opens one.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::config;
pub use crate::config::Orientation;
use crate::frame::{PixelFormat, RawFrame, Size};

mod faults;
#[cfg(feature = "libcamera")]
pub mod libcamera;
mod pace;
pub mod replay;
pub mod test_pattern;

use replay::Replay;
use test_pattern::TestPattern;

/// A camera that has been configured and started. Dropping it stops and releases the device.
///
/// A frame is borrowed, not owned: [`acquire`](Self::acquire) hands out the index of a completed buffer,
/// [`view`](Self::view) shows it, [`queue`](Self::queue) gives it back to the device. Between the two an encoder may
/// hold several buffers while the camera fills others, and nothing is allocated per frame.
pub trait Camera {
    /// What was opened and negotiated.
    fn info(&self) -> &CameraInfo;

    /// Waits up to `timeout` for a completed buffer. `Ok(None)` means none came in that time (perhaps a stall; the
    /// caller decides). Never waits much longer than `timeout`.
    fn acquire(&mut self, timeout: Duration) -> Result<Option<BufferIndex>, CameraError>;

    /// The frame in an acquired buffer.
    ///
    /// CPU access to a dma-buf is bracketed (`DMA_BUF_IOCTL_SYNC`) between `acquire` and `queue`.
    fn view(&self, buffer: BufferIndex) -> RawFrame<'_>;

    /// Gives an acquired buffer back to the device.
    fn queue(&mut self, buffer: BufferIndex) -> Result<(), CameraError>;

    /// Frames completed with an error (or cancelled) since opening, which `acquire` passed over and queued again.
    fn errored_frames(&self) -> u64 {
        0
    }
}

/// One of a camera's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferIndex(pub usize);

/// What a camera is and what was negotiated with it.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraInfo {
    /// The configuration's word for the source: `libcamera`, `test-pattern`, `replay`.
    pub source: &'static str,
    /// Stable identifier: libcamera's camera id, the replayed path.
    pub id: String,
    /// Model name for people, such as `imx219`.
    pub model: String,
    /// Layout the camera delivers.
    pub pixel_format: PixelFormat,
    /// Picture size the camera delivers.
    pub size: Size,
    /// Bytes per row of the first plane; 0 for MJPEG.
    pub stride: usize,
    /// Frames per second asked for; the camera may deliver fewer.
    pub frame_rate: f64,
    /// Buffers in the camera's queue.
    pub buffer_count: usize,
    /// True if the camera keeps to `frame_rate`; false if it has a rate of its own, which the capture loop thins.
    pub paced: bool,
}

/// Why a camera cannot be opened or went away.
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    /// No camera at all.
    #[error("no camera found: check the cable and that the sensor is supported")]
    NoCamera,
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
        "this program was built without libcamera: build it with the libcamera feature, or set camera.source to \
         test-pattern or replay"
    )]
    NotBuilt,
}

/// Opens the configured camera, again and again over the life of the program.
#[derive(Debug)]
pub struct Opener {
    config: config::Camera,
    script: Rc<RefCell<faults::Script>>,
}

impl Opener {
    /// An opener for this configuration.
    pub fn new(config: config::Camera) -> Self {
        let script = Rc::new(RefCell::new(faults::Script::new(config.faults.clone())));
        Self { config, script }
    }

    /// True for sources without a sensor: nothing is lost when they pause while nobody watches.
    pub fn is_synthetic(&self) -> bool {
        matches!(self.config.source, config::Source::TestPattern | config::Source::Replay)
    }

    /// Opens, configures and starts the camera.
    pub fn open(&self) -> Result<Box<dyn Camera>, CameraError> {
        let config = &self.config;
        self.script.borrow_mut().opening(config.source.name())?;
        let (size, rate) = (config.resolution.size(), config.frame_rate.get());
        let camera: Box<dyn Camera> = match config.source {
            config::Source::TestPattern => {
                let script = self.script.borrow();
                Box::new(TestPattern::new(script.size.unwrap_or(size), rate, script.frames + 1))
            }
            config::Source::Replay => Box::new(Replay::open(Path::new(&config.replay.path), rate)?),
            config::Source::Auto | config::Source::Libcamera | config::Source::V4l2 => return open_libcamera(config),
        };
        if config.faults.is_empty() {
            Ok(camera)
        } else {
            Ok(Box::new(faults::Faulty::new(camera, Rc::clone(&self.script))))
        }
    }
}

#[cfg(feature = "libcamera")]
fn open_libcamera(config: &config::Camera) -> Result<Box<dyn Camera>, CameraError> {
    let request = libcamera::StreamRequest {
        size: config.resolution.size(),
        frame_rate: config.frame_rate.get(),
        buffer_count: config.buffer_count.get(),
        orientation: config.orientation,
    };
    Ok(Box::new(libcamera::LibcameraSource::open(&config.id, &request)?))
}

#[cfg(not(feature = "libcamera"))]
fn open_libcamera(_: &config::Camera) -> Result<Box<dyn Camera>, CameraError> {
    Err(CameraError::NotBuilt)
}

/// What a camera is asked for. A camera may deliver another size or fewer frames: [`CameraInfo`] says what it granted.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamRequest {
    /// Picture size.
    pub size: Size,
    /// Frames per second.
    pub frame_rate: f64,
    /// Buffers in the camera's queue. Each is a whole frame of contiguous memory, scarce on a small Pi.
    pub buffer_count: u32,
    /// How the picture is turned.
    pub orientation: Orientation,
}

/// Keeps libcamera from filling the journal: it tells of every camera at every enumeration, and an appliance without one
/// looks for it every two seconds. Of what is left, a missing dma-buf provider shows as an error of ours where it matters.
/// Whoever sets `LIBCAMERA_LOG_LEVELS` gets what that says. (libcamera's functions for this know no wildcard, and reach
/// only categories already in use.)
///
/// # Safety
/// To be called before there is a second thread: it sets an environment variable.
pub unsafe fn quieten_libcamera() {
    const NAME: &str = "LIBCAMERA_LOG_LEVELS";
    if std::env::var_os(NAME).is_none() {
        // SAFETY: nobody else reads or writes the environment, by this function's contract.
        unsafe { std::env::set_var(NAME, "*:WARN,DmaBufAllocator:FATAL") };
    }
}

/// The version of libcamera in use, if this build has it.
pub fn libcamera_version() -> Option<String> {
    #[cfg(feature = "libcamera")]
    return Some(libcamera::version());
    #[cfg(not(feature = "libcamera"))]
    None
}

/// A list of cameras for people, one a line.
pub fn list() -> Result<String, CameraError> {
    #[cfg(feature = "libcamera")]
    {
        use std::fmt::Write;
        let cameras = libcamera::list()?;
        if cameras.is_empty() {
            return Err(CameraError::NoCamera);
        }
        let mut text = String::new();
        for camera in cameras {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}: {} ({})", camera.index, camera.model, camera.id);
            let _ = writeln!(text, "   {}", camera.formats);
        }
        Ok(text)
    }
    #[cfg(not(feature = "libcamera"))]
    Err(CameraError::NotBuilt)
}
