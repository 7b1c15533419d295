//! Where pictures come from. Each source is a [`Camera`]; [`Opener`] chooses and opens one.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::appliance::sensors;
use crate::config;
pub use crate::config::Orientation;
use crate::frame::{PixelFormat, RawFrame, RawFrameMut, Size};
use crate::jpeg::Bound;

pub mod control;
mod error;
mod faults;
mod find;
pub mod govern;
#[cfg(feature = "libcamera")]
pub mod libcamera;
pub mod memory;
mod pace;
pub mod pending;
pub mod rate;
pub mod replay;
mod stamp;
pub mod test_pattern;
pub mod v4l2;

use control::{Control, Value};
pub use error::{CameraError, Cause, RefusedControl};
use rate::Rate;
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

    /// The largest JPEG that is accepted from it. Raw pictures are bounded by the bytes there are
    /// ([`RawFrame::checked_plane`]).
    fn bound(&self) -> Bound {
        Bound::of(self.info().size)
    }

    /// What in the configuration does not fit this camera.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Waits up to `timeout` for a completed buffer. `Ok(None)` means none came in that time (perhaps a stall; the
    /// caller decides), or `also` has become readable. Never waits much longer than `timeout`.
    fn acquire(&mut self, timeout: Duration, also: Option<BorrowedFd<'_>>) -> Result<Option<BufferIndex>, CameraError>;

    /// The frame in an acquired buffer. Its bytes are right only within [`begin_cpu_access`](Self::begin_cpu_access).
    fn view(&self, buffer: BufferIndex) -> RawFrame<'_>;

    /// The same frame to draw on, within a CPU access that writes; `None` where the camera cannot lend it so.
    fn view_mut(&mut self, _buffer: BufferIndex) -> Option<RawFrameMut<'_>> {
        None
    }

    /// Begins an access of the processor to an acquired buffer: makes its cache coherent (`DMA_BUF_IOCTL_SYNC`) for reading,
    /// and for writing too where `writes` is true. There is nothing to do where there is no dma-buf.
    fn begin_cpu_access(&mut self, _buffer: BufferIndex, _writes: bool) -> Result<(), CameraError> {
        Ok(())
    }

    /// Ends the access, before another device or the camera gets the buffer.
    fn end_cpu_access(&mut self, _buffer: BufferIndex, _writes: bool) -> Result<(), CameraError> {
        Ok(())
    }

    /// Gives an acquired buffer back to the device.
    fn queue(&mut self, buffer: BufferIndex) -> Result<(), CameraError>;

    /// Frames completed with an error (or cancelled) since opening, which `acquire` passed over and queued again.
    fn errored_frames(&self) -> u64 {
        0
    }

    /// The camera's controls with the values in force.
    fn controls(&mut self) -> Result<Vec<Control>, CameraError> {
        Ok(Vec::new())
    }

    /// The exposure in force, zero where the camera does not report it.
    fn exposure(&mut self) -> Duration {
        self.controls().map_or(Duration::ZERO, |controls| rate::exposure(&controls))
    }

    /// Sets controls, from the next request on, all or none as far as the camera lets it. The values have been checked
    /// ([`control::check_all`]) and brought into order ([`govern::order`]).
    ///
    /// # Errors
    /// The camera refused them; the message names the control.
    fn set_controls(&mut self, _values: &[(Control, Value)]) -> Result<(), CameraError> {
        Ok(())
    }
}

/// One of a camera's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferIndex(pub usize);

/// What a camera is and what was negotiated with it.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraInfo {
    /// The configuration's word for the source: `libcamera`, `v4l2`, `test-pattern`, `replay`.
    pub source: &'static str,
    /// Stable identifier: libcamera's camera id, the device's or the replayed path.
    pub id: String,
    /// Model name for people, such as `imx219`.
    pub model: String,
    /// Layout the camera delivers.
    pub pixel_format: PixelFormat,
    /// Picture size the camera delivers.
    pub size: Size,
    /// Bytes per row of the first plane; 0 for MJPEG.
    pub stride: usize,
    /// Frames per second: asked for and granted.
    pub frame_rate: Rate,
    /// Buffers in the camera's queue.
    pub buffer_count: usize,
    /// Where the planes begin in the dma-buf of each buffer; `None` where buffers are not one dma-buf each.
    pub dma_buf_offsets: Option<[usize; 3]>,
    /// True if the camera turns the picture as asked; false if the encoder has to.
    pub turns: bool,
    /// Raw pictures whose black is 16 and white 235 (chroma 16 to 240), where a JPEG has 0 to 255.
    pub limited_range: bool,
}

/// Opens the configured camera, again and again over the life of the program.
#[derive(Debug)]
pub struct Opener {
    config: config::Camera,
    script: Rc<RefCell<faults::Script>>,
    /// True once libcamera has opened a camera. One that is plugged in again shows in V4L2 first; libcamera is waited for.
    libcamera_works: Cell<bool>,
    /// When V4L2 first had a camera that libcamera does not know.
    known_to_v4l2: Cell<Option<Instant>>,
}

/// udev tells libcamera of a camera a little after the kernel has made its device.
const LIBCAMERA_GRACE: Duration = Duration::from_secs(5);

impl Opener {
    /// An opener for this configuration.
    pub fn new(config: config::Camera) -> Self {
        let script = Rc::new(RefCell::new(faults::Script::new(config.faults.clone())));
        Self { config, script, libcamera_works: Cell::new(false), known_to_v4l2: Cell::new(None) }
    }

    /// True for sources without a sensor: nothing is lost when they pause while nobody watches.
    pub fn is_synthetic(&self) -> bool {
        matches!(self.config.source, config::Source::TestPattern | config::Source::Replay)
    }

    /// The configuration in force.
    pub fn config(&self) -> &config::Camera {
        &self.config
    }

    /// Changes the configuration, from the next opening on.
    pub fn reconfigure(&mut self, config: config::Camera) {
        self.config = config;
    }

    /// Opens, configures and starts the camera, with pictures of `size` where it can.
    pub fn open(&self, size: Size) -> Result<Box<dyn Camera>, CameraError> {
        let config = &self.config;
        let rate = config.frame_rate.get();
        self.script.borrow_mut().opening(config.source.name(), size, rate)?;
        let request = StreamRequest {
            size,
            frame_rate: rate,
            buffer_count: config.buffer_count.get(),
            orientation: config.orientation,
        };
        let camera: Box<dyn Camera> = match config.source {
            config::Source::TestPattern => {
                let script = self.script.borrow();
                let size = script.size.unwrap_or(size);
                test_pattern::check_memory(size)?;
                Box::new(TestPattern::new(size, rate, script.frames + 1))
            }
            config::Source::Replay => Box::new(Replay::open(Path::new(&config.replay.path), rate, size)?),
            config::Source::Libcamera => {
                return open_libcamera(&config.id, &request).map_err(|error| name_sensor(explained(error, &config.id)));
            }
            config::Source::V4l2 => return Ok(Box::new(v4l2::V4l2Source::open(&config.id, &request)?)),
            config::Source::Auto => return self.open_any(&config.id, &request).map_err(name_sensor),
        };
        if config.faults.is_empty() {
            Ok(camera)
        } else {
            Ok(Box::new(faults::Faulty::new(camera, Rc::clone(&self.script))))
        }
    }

    /// Opens libcamera's camera, or V4L2's where libcamera is not built in or does not know the camera that is meant.
    fn open_any(&self, id: &str, request: &StreamRequest) -> Result<Box<dyn Camera>, CameraError> {
        let of_libcamera = match open_libcamera(id, request) {
            Err(error @ (CameraError::NoCamera | CameraError::NotFound { .. } | CameraError::NotBuilt)) => error,
            result => {
                self.libcamera_works.set(self.libcamera_works.get() || result.is_ok());
                return result;
            }
        };
        if matches!(of_libcamera, CameraError::NotBuilt) {
            return Ok(Box::new(v4l2::V4l2Source::open(id, request)?));
        }
        // Where libcamera has worked, V4L2 is not asked: see `libcamera_works`.
        let seen = if self.libcamera_works.get() { Err(CameraError::NoCamera) } else { v4l2::look(id) };
        if let Err(error) = seen {
            self.known_to_v4l2.set(None);
            return Err(if error.names_a_device() { error } else { of_libcamera });
        }
        let since = self.known_to_v4l2.get().unwrap_or_else(Instant::now);
        self.known_to_v4l2.set(Some(since));
        if since.elapsed() < LIBCAMERA_GRACE {
            return Err(of_libcamera);
        }
        Ok(Box::new(v4l2::V4l2Source::open(id, request)?))
    }
}

/// Replaces the error where V4L2 knows more: libcamera does not report devices that it may not open.
fn explained(error: CameraError, id: &str) -> CameraError {
    match error {
        CameraError::NoCamera | CameraError::NotFound { .. } => match v4l2::look(id) {
            Err(denied @ CameraError::NotPermitted { .. }) => denied,
            _ => error,
        },
        other => other,
    }
}

/// Names the unsupported sensor where the device tree shows one, instead of saying that there is no camera.
fn name_sensor(error: CameraError) -> CameraError {
    match error {
        CameraError::NoCamera => sensors::unsupported(&sensors::folder())
            .map_or(CameraError::NoCamera, |sensor| CameraError::SensorUnsupported { sensor }),
        other => other,
    }
}

#[cfg(feature = "libcamera")]
fn open_libcamera(id: &str, request: &StreamRequest) -> Result<Box<dyn Camera>, CameraError> {
    Ok(Box::new(libcamera::LibcameraSource::open(id, request)?))
}

#[cfg(not(feature = "libcamera"))]
fn open_libcamera(_: &str, _: &StreamRequest) -> Result<Box<dyn Camera>, CameraError> {
    Err(CameraError::NotBuilt)
}

/// A camera that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraSummary {
    /// Its place in the list; `camera.id` may be this number.
    pub index: usize,
    /// Its id: libcamera's tells where the camera is attached, V4L2's is the device's path.
    pub id: String,
    /// Model name for people, such as `imx219`; the id where the camera does not say.
    pub model: String,
    /// What it offers for video: `MJPEG 640x480 1280x720; NV12 640x480`.
    pub formats: String,
}

impl fmt::Display for CameraSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?} ({})", self.index, self.id, self.model)
    }
}

/// Finds the camera that `id` means. An empty one means the first camera, a number that place in the list. Any other must be
/// a camera's id or model, or a part of it that only one camera has, in upper or lower case.
fn choose(summaries: &[CameraSummary], id: &str) -> Result<usize, CameraError> {
    let wanted = id.trim();
    if summaries.is_empty() {
        return Err(CameraError::NoCamera);
    }
    let not_found = |hint: &str| {
        let present: Vec<String> = summaries.iter().map(ToString::to_string).collect();
        CameraError::NotFound { wanted: wanted.to_owned(), present: format!("{}{hint}", present.join(", ")) }
    };
    if wanted.is_empty() {
        return Ok(0);
    }
    if let Ok(index) = wanted.parse::<usize>() {
        return if index < summaries.len() { Ok(index) } else { Err(not_found("")) };
    }
    let lower = wanted.to_lowercase();
    let holds = |text: &str| text.to_lowercase().contains(&lower);
    // From the strictest rule to the loosest; the first that any camera meets must meet just one.
    let rules: [&dyn Fn(&CameraSummary) -> bool; 3] =
        [&|s| s.id == wanted, &|s| s.model == wanted, &|s| holds(&s.id) || holds(&s.model)];
    for rule in rules {
        let mut matching = summaries.iter().filter(|s| rule(s));
        match (matching.next(), matching.next()) {
            (Some(one), None) => return Ok(one.index),
            (Some(_), Some(_)) => return Err(not_found(" (it fits several of them: give the whole id)")),
            (None, _) => {}
        }
    }
    Err(not_found(""))
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

/// A list of cameras for people, one a line with its formats below.
pub fn list() -> Result<String, CameraError> {
    use std::fmt::Write;
    let mut text = String::new();
    let mut add = |source: &str, cameras: Vec<CameraSummary>| {
        for camera in cameras {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}: {} ({}), camera.source {source}", camera.index, camera.model, camera.id);
            let _ = writeln!(text, "   {}", camera.formats);
        }
    };
    #[cfg(feature = "libcamera")]
    let failure = match libcamera::list() {
        Ok(cameras) => {
            add("libcamera", cameras);
            CameraError::NoCamera
        }
        // Those V4L2 knows can be used all the same.
        Err(error) => error,
    };
    #[cfg(not(feature = "libcamera"))]
    let failure = CameraError::NoCamera;
    let survey = find::Survey::now();
    add("v4l2", survey.summaries());
    if text.is_empty() {
        return Err(survey.why_not("").unwrap_or(failure));
    }
    for problem in survey.problems() {
        let _ = writeln!(text, "{problem}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(index: usize, id: &str, model: &str) -> CameraSummary {
        CameraSummary { index, id: id.to_owned(), model: model.to_owned(), formats: String::new() }
    }

    #[test]
    fn chooses_by_index_id_model_or_unique_part() {
        let list = [
            camera(0, "/base/soc/i2c0mux/i2c@1/imx219@10", "imx219"),
            camera(1, "/base/soc/usb-1:1-046d:0825", "Webcam C270"),
            camera(2, "/base/soc/usb-2:1-046d:0825", "Webcam"),
        ];
        for (wanted, index) in
            [("", 0), (" ", 0), ("2", 2), ("imx219", 0), ("c270", 1), ("Webcam", 2), ("USB-2", 2), (&list[1].id, 1)]
        {
            assert_eq!(choose(&list, wanted).ok(), Some(index), "{wanted:?}");
        }
        for wanted in ["3", "ov5647", "webcam", "046d"] {
            let error = choose(&list, wanted).expect_err(wanted).to_string();
            assert!(error.contains("0: \"/base/soc/i2c0mux/i2c@1/imx219@10\" (imx219)"), "{error}");
        }
        assert!(matches!(choose(&[], "x"), Err(CameraError::NoCamera)));
    }
}
