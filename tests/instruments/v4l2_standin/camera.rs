//! Cameras: single-planar `VIDEO_CAPTURE` nodes as uvcvideo makes them (`drivers/media/usb/uvc/uvc_{v4l2,queue,video}.c` of
//! Linux 6.12), with a wider choice of controls (vivid's, `vivid-ctrls.c`) than one webcam has.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libc::timeval;
use pinhole::camera::Camera as _;
use pinhole::camera::test_pattern::TestPattern;
use pinhole::frame::Size;

use crate::config::{self, CameraConfig, Place, Stamp};
use crate::controls::{Control, Handler, Many};
use crate::memory::Memory;
use crate::node::{Argument, Node, Wake};
use crate::sys::{
    self, v4l2_buffer, v4l2_capability, v4l2_control, v4l2_exportbuffer, v4l2_ext_controls, v4l2_fmtdesc, v4l2_format,
    v4l2_frmivalenum, v4l2_frmsizeenum, v4l2_input, v4l2_query_ext_ctrl, v4l2_queryctrl, v4l2_querymenu,
    v4l2_requestbuffers, v4l2_streamparm,
};
use crate::vb2::{Need, Queue, State as BufferState};
use crate::{report, violation};

/// Frames given to clients by this process, over all cameras: what faults count.
static FRAMES: AtomicU64 = AtomicU64::new(0);
/// Tells openings apart.
static OPENINGS: AtomicU64 = AtomicU64::new(1);

/// What all openings of a camera share.
#[derive(Debug, Default)]
struct Shared {
    /// Grows when it is unplugged.
    epoch: u64,
    /// Until then there is no node; `None` with `gone` set: for ever.
    back: Option<Instant>,
    gone: bool,
    /// `uvc_acquire_privileges`: the opening that set it up.
    owner: u64,
    stalled: Stall,
    /// The frame it stalled at, which comes all the same once the stall is over.
    stalled_at: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Stall {
    #[default]
    No,
    /// Until the stream is started anew.
    Stream,
    Until(Instant),
    Forever,
}

static CAMERAS: Mutex<BTreeMap<u32, Shared>> = Mutex::new(BTreeMap::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shared<T>(number: u32, look: impl FnOnce(&mut Shared) -> T) -> T {
    look(lock(&CAMERAS).entry(number).or_default())
}

/// Sizes of a camera that draws. The one in the middle has a width that no alignment likes.
const SIZES: [[u32; 2]; 5] = [[640, 480], [320, 240], [648, 486], [1280, 720], [160, 120]];
/// Times per frame each size can have, besides the configured one.
const INTERVALS: [[u32; 2]; 4] = [[1, 30], [1, 15], [1, 10], [1, 5]];

/// An opening of a camera.
pub struct Camera {
    number: u32,
    name: String,
    fourcc: u32,
    opening: u64,
    epoch: u64,
    nonblock: bool,
    wake: Wake,
    /// For MJPG: the files, with their sizes.
    files: Vec<([u32; 2], Vec<u8>)>,
    /// What comes instead of them.
    sends: Vec<Vec<u8>>,
    state: Mutex<State>,
    changed: Condvar,
    worker: Mutex<Option<JoinHandle<()>>>,
}

struct State {
    queue: Queue,
    size: [u32; 2],
    set: bool,
    /// Numerator and denominator of the time per frame.
    interval: [u32; 2],
    controls: Handler,
    /// For time stamps that stand still.
    first_stamp: Option<timeval>,
    closing: bool,
}

/// Opens a camera; gives the client's descriptor.
pub fn open(camera: &CameraConfig, flags: c_int) -> Result<c_int, c_int> {
    let config = config::get();
    let name = format!("/dev/video{}", camera.number);
    let refuse = |error| {
        let name = name.clone();
        report::note(|report| *report.opens_refused.entry(name).or_default() += 1);
        report::write(true);
        Err(error)
    };
    let epoch = shared(camera.number, |shared| {
        if shared.gone && shared.back.is_some_and(|back| back <= Instant::now()) {
            shared.gone = false;
        }
        (!shared.gone).then_some(shared.epoch)
    });
    let Some(epoch) = epoch else { return refuse(libc::ENOENT) };
    if config.camera_denied() {
        return refuse(libc::EACCES);
    }
    if config.camera_busy(Place::Open) {
        return refuse(libc::EBUSY);
    }
    let files = camera.folder.as_ref().map_or_else(Vec::new, |folder| read_files(folder));
    let sends = config.camera_sends.as_ref().map_or_else(Vec::new, |folder| contents(folder));
    let wake = Wake::new(flags)?;
    let mut queue = Queue::new(
        &name,
        sys::BUF_TYPE_VIDEO_CAPTURE,
        false,
        sys::BUF_FLAG_TIMESTAMP_MONOTONIC | sys::BUF_FLAG_TSTAMP_SRC_SOE,
    );
    queue.name = "camera";
    let size = files.first().map_or(SIZES[0], |(size, _)| *size);
    let state = State {
        queue,
        size,
        set: false,
        interval: config.camera_interval,
        first_stamp: None,
        controls: Handler::new(controls(camera.folder.is_none())),
        closing: false,
    };
    let node = Camera {
        number: camera.number,
        name: name.clone(),
        fourcc: sys::code(camera.fourcc),
        opening: OPENINGS.fetch_add(1, Ordering::Relaxed),
        epoch,
        nonblock: flags & libc::O_NONBLOCK != 0,
        wake,
        files,
        sends,
        state: Mutex::new(state),
        changed: Condvar::new(),
        worker: Mutex::new(None),
    };
    report::note(|report| *report.opens.entry(name).or_default() += 1);
    report::write(true);
    Ok(wake.publish(Arc::new(node)))
}

/// The JPEG files of a folder in the order of their names.
fn read_files(folder: &std::path::Path) -> Vec<([u32; 2], Vec<u8>)> {
    let files: Vec<_> = contents(folder)
        .into_iter()
        .filter_map(|data| {
            let size = pinhole::jpeg::inspect(&data).ok()?.size;
            Some(([size.width, size.height], data))
        })
        .collect();
    if files.is_empty() {
        violation!("no JPEG in {}", folder.display());
    }
    files
}

/// The files of a folder in the order of their names.
fn contents(folder: &std::path::Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

/// One of each kind a client may meet. Compressed pictures cannot be turned over.
fn controls(raw: bool) -> Vec<Control> {
    const CUSTOM: u32 = sys::CTRL_CLASS_USER | 0xf000;
    let flips =
        [Control::boolean(sys::CID_HFLIP, "Horizontal Flip", 0), Control::boolean(sys::CID_VFLIP, "Vertical Flip", 0)];
    let mut controls = vec![
        Control::integer(sys::CID_BRIGHTNESS, "Brightness", [-64, 64], 1, 0),
        Control::integer(sys::CID_CONTRAST, "Contrast", [0, 95], 5, 50),
        Control::boolean(sys::CID_AUTO_WHITE_BALANCE, "White Balance, Automatic", 1),
        Control::button(sys::CID_DO_WHITE_BALANCE, "Do White Balance"),
        Control::integer(sys::CID_GAIN, "Gain", [0, 100], 1, 0).flags(sys::CTRL_FLAG_INACTIVE),
        Control::integer(sys::CID_HUE, "Hue", [-180, 180], 1, 0).governed(sys::CID_HUE_AUTO, 0),
        Control::boolean(sys::CID_HUE_AUTO, "Hue, Automatic", 1),
        Control::integer(sys::CID_WHITE_BALANCE_TEMPERATURE, "White Balance Temperature", [2800, 6500], 10, 4000)
            .governed(sys::CID_AUTO_WHITE_BALANCE, 0),
        Control::menu(
            sys::CID_POWER_LINE_FREQUENCY,
            "Power Line Frequency",
            &["Disabled", "50 Hz", "60 Hz", "Auto"],
            1,
        ),
        Control::menu(sys::CID_EXPOSURE_AUTO, "Auto Exposure", &["", "Manual Mode", "", "Aperture Priority Mode"], 3),
        Control::integer(sys::CID_EXPOSURE_ABSOLUTE, "Exposure Time, Absolute", [3, 2047], 1, 250)
            .governed(sys::CID_EXPOSURE_AUTO, 1),
        Control::integer(sys::CID_FOCUS_ABSOLUTE, "Focus, Absolute", [0, 250], 5, 0).governed(sys::CID_FOCUS_AUTO, 0),
        Control::boolean(sys::CID_FOCUS_AUTO, "Focus, Automatic Continuous", 1),
        Control::integer(sys::CID_TILT_ABSOLUTE, "Tilt, Absolute", [0, 250], 5, 0).flags(sys::CTRL_FLAG_GRABBED),
        Control::integer(sys::CID_ZOOM_ABSOLUTE, "Zoom, Absolute", [100, 500], 1, 100).flags(sys::CTRL_FLAG_DISABLED),
        Control::integer64(CUSTOM | 3, "Integer 64 Bits", [-0x0001_0000_0000, 0x0002_0000_0000], 2, 0),
        Control::integer_menu(CUSTOM | 6, "Integer Menu", &[1, 1, 2, 3, 5, 8, 13, 21, 42], 4),
        Control::integer(CUSTOM | 9, "Read-Only Integer 32 Bits", [0, 255], 1, 0).flags(sys::CTRL_FLAG_READ_ONLY),
    ];
    controls.extend(flips.into_iter().filter(|_| raw));
    controls
}

/// Bytes per line and sizeimage.
fn sizes(fourcc: u32, [width, height]: [u32; 2]) -> (u32, u32) {
    let padding = config::get().camera_padding;
    match &fourcc.to_le_bytes() {
        b"YUYV" | b"UYVY" | b"YVYU" => (2 * width + padding, (2 * width + padding) * height),
        // dwMaxVideoFrameSize of a usual webcam
        b"MJPG" | b"JPEG" => (0, width * height * 2),
        b"GREY" => (width + padding, (width + padding) * height),
        _ => {
            let stride = (width + padding).next_multiple_of(2);
            (stride, stride * height * 3 / 2)
        }
    }
}

/// What a camera shows: a test pattern that is only drawn where a frame is delivered.
struct Scene {
    size: [u32; 2],
    pattern: TestPattern,
}

impl Scene {
    fn new(size: [u32; 2]) -> Self {
        // So fast that it never waits: the camera keeps the time.
        let pattern = TestPattern::new(Size { width: size[0], height: size[1] }, 100_000.0, 0);
        Self { size, pattern }
    }

    /// Goes on to the next frame.
    fn advance(&mut self) {
        // It has nothing to fail with.
        let _ = self.pattern.queue(pinhole::camera::BufferIndex(0));
    }

    /// The frame, as the format has it.
    fn frame(&mut self, fourcc: u32, flips: [bool; 2]) -> Vec<u8> {
        let Ok(Some(index)) = self.pattern.acquire(Duration::from_secs(1), None) else { return Vec::new() };
        let view = self.pattern.view(index);
        let [width, height] = self.size.map(|length| length as usize);
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let plane = |number: usize, width: usize, height: usize| {
            let plane = view.plane(number);
            let rows = plane.iter().flat_map(|plane| plane.data.chunks(plane.stride.max(1)).take(height));
            let mut rows: Vec<Vec<u8>> = rows.map(|row| row[..width].to_vec()).collect();
            if flips[0] {
                for row in &mut rows {
                    row.reverse();
                }
            }
            if flips[1] {
                rows.reverse();
            }
            rows
        };
        let luma = plane(0, width, height);
        let [u, v] = [1, 2].map(|number| plane(number, half_width, half_height));
        let (stride, size) = sizes(fourcc, self.size);
        let stride = stride as usize;
        let mut out = vec![0; size as usize];
        let mut at = 0;
        let mut put = |row: &[u8], stride: usize| {
            out[at..at + row.len()].copy_from_slice(row);
            at += stride;
        };
        match &fourcc.to_le_bytes() {
            format @ (b"YUYV" | b"UYVY" | b"YVYU") => {
                for (y, row) in luma.iter().enumerate() {
                    let pairs = row.chunks_exact(2).zip(u[y / 2].iter().zip(&v[y / 2]));
                    let packed = pairs.flat_map(|(luma, (u, v))| match format {
                        b"YUYV" => [luma[0], *u, luma[1], *v],
                        b"UYVY" => [*u, luma[0], *v, luma[1]],
                        _ => [luma[0], *v, luma[1], *u],
                    });
                    put(&packed.collect::<Vec<_>>(), stride);
                }
            }
            b"GREY" => {
                for row in &luma {
                    put(row, stride);
                }
            }
            b"NV12" => {
                for row in &luma {
                    put(row, stride);
                }
                for (u, v) in u.iter().zip(&v) {
                    put(&u.iter().zip(v).flat_map(|(u, v)| [*u, *v]).collect::<Vec<_>>(), stride);
                }
            }
            _ => {
                for row in &luma {
                    put(row, stride);
                }
                for row in u.iter().chain(&v) {
                    put(row, stride / 2);
                }
            }
        }
        out
    }
}

fn now() -> timeval {
    // SAFETY: numbers only, for which zero is a value.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: a valid pointer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    timeval { tv_sec: time.tv_sec, tv_usec: (time.tv_nsec / 1000) as libc::suseconds_t }
}

impl Camera {
    fn gone(&self) -> bool {
        shared(self.number, |shared| shared.epoch != self.epoch)
    }

    fn notify(&self) {
        self.changed.notify_all();
        self.wake.wake();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    fn is_raw(&self) -> bool {
        self.files.is_empty()
    }

    /// Sizes this camera offers.
    fn offers(&self) -> Vec<[u32; 2]> {
        let mut sizes = Vec::new();
        for (size, _) in &self.files {
            if !sizes.contains(size) {
                sizes.push(*size);
            }
        }
        if sizes.is_empty() { SIZES.to_vec() } else { sizes }
    }

    fn intervals() -> Vec<[u32; 2]> {
        let mut intervals = INTERVALS.to_vec();
        let own = config::get().camera_interval;
        if !intervals.contains(&own) {
            intervals.insert(0, own);
        }
        intervals
    }

    /// What the client is told of when a frame was captured.
    fn stamp(state: &mut State) -> timeval {
        let now = now();
        match config::get().camera_stamp {
            Stamp::Monotonic => now,
            Stamp::Constant => *state.first_stamp.get_or_insert(now),
            Stamp::Shifted(milliseconds) => {
                let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_usec);
                let micros = (micros + i128::from(milliseconds) * 1000).max(0);
                timeval {
                    tv_sec: (micros / 1_000_000) as libc::time_t,
                    tv_usec: (micros % 1_000_000) as libc::suseconds_t,
                }
            }
        }
    }

    /// The sensor: makes a frame at every tick, whether somebody has a buffer for it or not.
    fn run(&self) {
        let mut state = lock(&self.state);
        while !state.closing {
            if !state.queue.streaming || self.gone() {
                state = self.wait(state, Duration::from_millis(200));
                report::write(false);
                continue;
            }
            let generation = state.queue.generation;
            let period = Duration::from_secs(1) * state.interval[0] / state.interval[1].max(1);
            let mut scene = Scene::new(state.size);
            let start = Instant::now();
            for sequence in 0_u32.. {
                let due = start + period * (sequence + 1);
                while state.queue.generation == generation && !state.closing && Instant::now() < due {
                    state = self.wait(state, due.saturating_duration_since(Instant::now()));
                }
                if state.queue.generation != generation || state.closing || self.gone() {
                    break;
                }
                self.tick(&mut state, &mut scene, sequence);
                scene.advance();
            }
        }
    }

    fn stalls(&self, number: u64) -> bool {
        shared(self.number, |shared| {
            if shared.stalled_at != number
                && let Some(time) = config::get().strikes_once("cam_stall", number)
            {
                shared.stalled_at = number;
                shared.stalled = match time {
                    "" => Stall::Stream,
                    "forever" => Stall::Forever,
                    seconds => Stall::Until(Instant::now() + Duration::from_secs_f64(seconds.parse().unwrap_or(1.0))),
                };
            }
            match shared.stalled {
                Stall::No => false,
                Stall::Until(time) => Instant::now() < time,
                Stall::Stream | Stall::Forever => true,
            }
        })
    }

    fn tick(&self, state: &mut State, scene: &mut Scene, sequence: u32) {
        let config = config::get();
        let number = FRAMES.load(Ordering::Relaxed) + 1;
        if state.queue.error || self.stalls(number) {
            return;
        }
        let Some(index) = state.queue.take() else {
            report::note(|report| report.camera_dropped += 1);
            return;
        };
        FRAMES.store(number, Ordering::Relaxed);
        if let Some(seconds) = config.strikes_once("cam_unplug", number) {
            self.unplug(state, index, seconds);
            return;
        }
        if config.strikes("cam_eio", number) {
            state.queue.error = true;
            self.notify();
            return;
        }
        let mut data = if self.is_raw() {
            let flips = [sys::CID_HFLIP, sys::CID_VFLIP].map(|id| state.controls.value(id) != 0);
            scene.frame(self.fourcc, flips)
        } else if !self.sends.is_empty() {
            self.sends[sequence as usize % self.sends.len()].clone()
        } else {
            let files: Vec<_> = self.files.iter().filter(|(size, _)| *size == state.size).collect();
            files[sequence as usize % files.len()].1.clone()
        };
        let error = config.strikes("cam_error_flag", number);
        if error || config.strikes("cam_truncated", number) {
            data.truncate(data.len() * 2 / 3);
        }
        if config.strikes("cam_empty", number) {
            data.clear();
        }
        let timestamp = Self::stamp(state);
        let buffer = &mut state.queue.buffers[index];
        let fits = data.len().min(buffer.length as usize);
        if let Some(memory) = &buffer.memory {
            memory.write(0, &data[..fits]);
        }
        buffer.bytes_used = fits as u32;
        buffer.sequence = sequence;
        buffer.timestamp = timestamp;
        // uvc_video_decode_start and _end: an overflow or an incomplete frame is an error.
        let error = error || fits < data.len();
        state.queue.finish(index, if error { BufferState::Error } else { BufferState::Done });
        report::note(|report| *report.camera_frames.entry(self.name.clone()).or_default() += 1);
        report::write(false);
        self.notify();
    }

    /// `uvc_disconnect`: all buffers come back as errors (which nobody can fetch any more), the node vanishes.
    fn unplug(&self, state: &mut State, index: usize, seconds: &str) {
        state.queue.finish(index, BufferState::Error);
        shared(self.number, |shared| {
            shared.epoch += 1;
            shared.gone = true;
            shared.back = seconds.parse().ok().map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
            shared.owner = 0;
        });
        self.notify();
        report::write(true);
    }

    /// `uvc_acquire_privileges`.
    fn acquire(&self) -> Result<(), c_int> {
        shared(self.number, |shared| {
            if shared.owner == 0 || shared.owner == self.opening {
                shared.owner = self.opening;
                Ok(())
            } else {
                Err(libc::EBUSY)
            }
        })
    }

    /// `uvc_has_privileges`.
    fn owns(&self) -> Result<(), c_int> {
        if shared(self.number, |shared| shared.owner == self.opening) { Ok(()) } else { Err(libc::EBUSY) }
    }

    fn release(&self) {
        shared(self.number, |shared| {
            if shared.owner == self.opening {
                shared.owner = 0;
            }
        });
    }

    /// `uvc_v4l2_try_format`, `uvc_v4l2_set_format`, `uvc_v4l2_get_format`.
    fn format(&self, state: &mut State, format: &mut v4l2_format, call: u32) -> Result<(), c_int> {
        if format.type_ != sys::BUF_TYPE_VIDEO_CAPTURE {
            return Err(libc::EINVAL);
        }
        // SAFETY: the type says which member it is; any bytes are numbers.
        let mut user = unsafe { format.fmt.pix };
        let size = if call == sys::G_FMT {
            state.size
        } else {
            // The size with the least area that only one of the two has.
            let wanted = [user.width, user.height];
            let area = |[width, height]: [u32; 2]| u64::from(width) * u64::from(height);
            let distance = |size: &[u32; 2]| {
                area(*size) + area(wanted) - 2 * area([size[0].min(wanted[0]), size[1].min(wanted[1])])
            };
            self.offers().into_iter().min_by_key(distance).ok_or(libc::EINVAL)?
        };
        if call == sys::S_FMT {
            self.acquire()?;
            if state.queue.is_busy() {
                report::note(|report| report.s_fmt_busy += 1);
                return Err(libc::EBUSY);
            }
            state.size = size;
            state.set = true;
        }
        let (stride, size_image) = sizes(self.fourcc, size);
        user = sys::zeroed();
        [user.width, user.height] = size;
        user.pixelformat = self.fourcc;
        user.field = sys::FIELD_NONE;
        user.bytesperline = stride;
        user.sizeimage = size_image;
        user.colorspace = sys::COLORSPACE_SRGB;
        user.priv_ = sys::PIX_FMT_PRIV_MAGIC;
        format.fmt.raw = [0; 200];
        format.fmt.pix = user;
        if call == sys::S_FMT {
            report::note(|report| {
                report.formats.push(report::Format {
                    node: self.name.clone(),
                    queue: "camera",
                    fourcc: sys::text(self.fourcc),
                    width: size[0],
                    height: size[1],
                    stride,
                    size: size_image,
                });
            });
        }
        Ok(())
    }

    /// `uvc_v4l2_set_streamparm`, `uvc_v4l2_get_streamparm`.
    fn parm(&self, state: &mut State, parm: &mut v4l2_streamparm, set: bool) -> Result<(), c_int> {
        if parm.type_ != sys::BUF_TYPE_VIDEO_CAPTURE {
            return Err(libc::EINVAL);
        }
        if set {
            self.acquire()?;
            if state.queue.streaming {
                return Err(libc::EBUSY);
            }
            // SAFETY: any bytes are numbers.
            let wanted = unsafe { parm.parm.capture.timeperframe };
            // v4l2_fraction_to_interval makes the longest interval of nonsense.
            let wanted = f64::from(wanted.numerator) / f64::from(wanted.denominator);
            let wanted = if wanted.is_finite() { wanted } else { f64::from(u32::MAX) };
            let distance = |[time, per]: &[u32; 2]| (f64::from(*time) / f64::from(*per) - wanted).abs();
            let nearest = Self::intervals().into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
            state.interval = nearest.unwrap_or(INTERVALS[0]);
        }
        parm.parm.raw = [0; 200];
        parm.parm.capture = sys::zeroed();
        // SAFETY: just written.
        let capture = unsafe { &mut parm.parm.capture };
        capture.capability = sys::CAP_TIMEPERFRAME;
        capture.timeperframe = sys::v4l2_fract { numerator: state.interval[0], denominator: state.interval[1] };
        Ok(())
    }

    fn enum_fmt(&self, description: &mut v4l2_fmtdesc) -> Result<(), c_int> {
        let (index, type_) = (description.index, description.type_);
        if type_ != sys::BUF_TYPE_VIDEO_CAPTURE || index != 0 {
            return Err(libc::EINVAL);
        }
        *description = sys::zeroed();
        description.type_ = type_;
        description.pixelformat = self.fourcc;
        let (name, flags) = match &self.fourcc.to_le_bytes() {
            b"MJPG" => ("Motion-JPEG", sys::FMT_FLAG_COMPRESSED),
            b"JPEG" => ("JFIF JPEG", sys::FMT_FLAG_COMPRESSED),
            b"YUYV" => ("YUYV 4:2:2", 0),
            b"UYVY" => ("UYVY 4:2:2", 0),
            b"YVYU" => ("YVYU 4:2:2", 0),
            b"NV12" => ("Y/UV 4:2:0", 0),
            b"GREY" => ("8-bit Greyscale", 0),
            b"YU12" => ("Planar YUV 4:2:0", 0),
            _ => ("Something else", 0),
        };
        description.flags = flags;
        sys::put(&mut description.description, name);
        Ok(())
    }

    fn enum_framesizes(&self, sizes: &mut v4l2_frmsizeenum) -> Result<(), c_int> {
        let offers = self.offers();
        let size = offers.get(sizes.index as usize).filter(|_| sizes.pixel_format == self.fourcc);
        let [width, height] = *size.ok_or(libc::EINVAL)?;
        sizes.type_ = sys::FRMSIZE_TYPE_DISCRETE;
        sizes.size.discrete = sys::v4l2_frmsize_discrete { width, height };
        sizes.reserved = [0; 2];
        Ok(())
    }

    fn enum_frameintervals(&self, intervals: &mut v4l2_frmivalenum) -> Result<(), c_int> {
        let known =
            intervals.pixel_format == self.fourcc && self.offers().contains(&[intervals.width, intervals.height]);
        let all = Self::intervals();
        let &[numerator, denominator] = all.get(intervals.index as usize).filter(|_| known).ok_or(libc::EINVAL)?;
        intervals.type_ = sys::FRMIVAL_TYPE_DISCRETE;
        intervals.interval = [sys::v4l2_fract { numerator, denominator }; 3];
        intervals.reserved = [0; 2];
        Ok(())
    }

    fn querycap(&self, capability: &mut v4l2_capability) {
        *capability = sys::zeroed();
        sys::put(&mut capability.driver, "uvcvideo");
        sys::put(&mut capability.card, "Stand-in camera: Stand-in camera");
        sys::put(&mut capability.bus_info, &format!("usb-standin-{}", self.number));
        capability.version = 6 << 16 | 12 << 8;
        capability.device_caps = sys::CAP_VIDEO_CAPTURE | sys::CAP_STREAMING | sys::CAP_EXT_PIX_FORMAT;
        capability.capabilities = capability.device_caps | sys::CAP_DEVICE_CAPS;
    }

    fn reqbufs(&self, state: &mut State, request: &mut v4l2_requestbuffers) -> Result<(), c_int> {
        if request.type_ != sys::BUF_TYPE_VIDEO_CAPTURE {
            return Err(libc::EINVAL);
        }
        self.acquire()?;
        let size_image = sizes(self.fourcc, state.size).1;
        let no_memory = request.count > 0 && config::get().no_memory("camera");
        state.queue.reqbufs(request, size_image, 1, state.set, no_memory)?;
        if request.count == 0 {
            self.release();
        }
        Ok(())
    }

    fn stream(&self, state: &mut State, buffer_type: u32, on: bool) -> Result<(), c_int> {
        if buffer_type != sys::BUF_TYPE_VIDEO_CAPTURE {
            return Err(libc::EINVAL);
        }
        self.owns()?;
        if on {
            if config::get().camera_busy(Place::StreamOn) {
                return Err(libc::EBUSY);
            }
            if config::get().camera_no_space() {
                return Err(libc::ENOSPC);
            }
            state.queue.stream_on();
            shared(self.number, |shared| {
                if shared.stalled == Stall::Stream {
                    shared.stalled = Stall::No;
                }
            });
            self.start_worker();
        } else {
            state.queue.stream_off();
        }
        self.notify();
        Ok(())
    }

    fn dqbuf(&self, mut state: MutexGuard<'_, State>, buffer: &mut v4l2_buffer) -> Result<(), c_int> {
        if buffer.type_ != sys::BUF_TYPE_VIDEO_CAPTURE {
            return Err(libc::EINVAL);
        }
        loop {
            if self.gone() {
                return Err(libc::ENODEV);
            }
            match state.queue.dqbuf(buffer) {
                Err(libc::EAGAIN) if !self.nonblock => state = self.wait(state, Duration::from_millis(50)),
                other => return other,
            }
        }
    }

    fn start_worker(&self) {
        let mut worker = lock(&self.worker);
        if worker.is_some() {
            return;
        }
        let Some(node) = crate::node::find(self.wake.descriptor()) else { return };
        let start = std::thread::Builder::new().name("v4l2-standin".to_owned()).spawn(move || node.work());
        match start {
            Ok(handle) => *worker = Some(handle),
            Err(error) => violation!("{}: no thread: {error}", self.name),
        }
    }

    fn set_controls(controls: &[Control]) {
        report::note(|report| {
            for control in controls {
                let name = control.name.to_owned();
                report.controls.push(report::Control { name, value: control.value, encodes: 0 });
            }
        });
    }
}

impl Node for Camera {
    fn ioctl(&self, request: u32, mut argument: Argument) -> Result<(), c_int> {
        if self.gone() {
            return Err(libc::ENODEV);
        }
        let mut guard = lock(&self.state);
        if request == sys::DQBUF {
            self.owns()?;
            return self.dqbuf(guard, argument.of::<v4l2_buffer>());
        }
        let state = &mut *guard;
        match request {
            sys::QUERYCAP => {
                self.querycap(argument.of::<v4l2_capability>());
                Ok(())
            }
            sys::ENUM_FMT => self.enum_fmt(argument.of::<v4l2_fmtdesc>()),
            sys::ENUM_FRAMESIZES => self.enum_framesizes(argument.of::<v4l2_frmsizeenum>()),
            sys::ENUM_FRAMEINTERVALS => self.enum_frameintervals(argument.of::<v4l2_frmivalenum>()),
            sys::G_FMT | sys::TRY_FMT | sys::S_FMT => self.format(state, argument.of::<v4l2_format>(), request),
            sys::G_PARM => self.parm(state, argument.of::<v4l2_streamparm>(), false),
            sys::S_PARM => self.parm(state, argument.of::<v4l2_streamparm>(), true),
            sys::ENUMINPUT => {
                let input = argument.of::<v4l2_input>();
                if input.index != 0 {
                    return Err(libc::EINVAL);
                }
                *input = sys::zeroed();
                sys::put(&mut input.name, "Camera 1");
                input.type_ = 2;
                Ok(())
            }
            sys::G_INPUT => {
                *argument.of::<i32>() = 0;
                Ok(())
            }
            sys::S_INPUT if *argument.of::<i32>() == 0 => Ok(()),
            sys::S_INPUT => Err(libc::EINVAL),
            sys::REQBUFS => self.reqbufs(state, argument.of::<v4l2_requestbuffers>()),
            sys::QUERYBUF | sys::QBUF => {
                let buffer = argument.of::<v4l2_buffer>();
                if buffer.type_ != sys::BUF_TYPE_VIDEO_CAPTURE {
                    return Err(libc::EINVAL);
                }
                if request == sys::QUERYBUF {
                    return state.queue.querybuf(buffer);
                }
                if !state.queue.is_busy() {
                    violation!("{}: QBUF before REQBUFS", self.name);
                }
                self.owns()?;
                let need = Need { size_image: sizes(self.fourcc, state.size).1, picture: 0 };
                state.queue.qbuf(buffer, need, false).map(drop)
            }
            sys::EXPBUF => {
                let export = argument.of::<v4l2_exportbuffer>();
                if export.type_ == sys::BUF_TYPE_VIDEO_CAPTURE { state.queue.expbuf(export) } else { Err(libc::EINVAL) }
            }
            sys::STREAMON => {
                if !state.queue.is_busy() {
                    violation!("{}: STREAMON before REQBUFS", self.name);
                }
                self.stream(state, *argument.of::<u32>(), true)
            }
            sys::STREAMOFF => self.stream(state, *argument.of::<u32>(), false),
            sys::QUERYCTRL => state.controls.queryctrl(argument.of::<v4l2_queryctrl>()),
            sys::QUERY_EXT_CTRL => state.controls.query_ext_ctrl(argument.of::<v4l2_query_ext_ctrl>()),
            sys::QUERYMENU => state.controls.querymenu(argument.of::<v4l2_querymenu>()),
            sys::G_CTRL => state.controls.get(argument.of::<v4l2_control>()),
            sys::S_CTRL => {
                let control = state.controls.set(argument.of::<v4l2_control>())?;
                Self::set_controls(&[control]);
                Ok(())
            }
            sys::G_EXT_CTRLS => state.controls.many(argument.of::<v4l2_ext_controls>(), Many::Get).map(drop),
            sys::TRY_EXT_CTRLS => state.controls.many(argument.of::<v4l2_ext_controls>(), Many::Try).map(drop),
            sys::S_EXT_CTRLS => {
                let controls = state.controls.many(argument.of::<v4l2_ext_controls>(), Many::Set)?;
                Self::set_controls(&controls);
                Ok(())
            }
            _ => Err(libc::ENOTTY),
        }
    }

    /// `vb2_core_poll`, and `v4l2_poll` for a node that is gone.
    fn poll(&self, events: i16) -> i16 {
        if self.gone() {
            return libc::POLLERR | libc::POLLHUP | libc::POLLPRI;
        }
        let state = lock(&self.state);
        let input = libc::POLLIN | libc::POLLRDNORM;
        if events & input == 0 {
            0
        } else if state.queue.poll_error() {
            libc::POLLERR
        } else if state.queue.has_done() || config::get().spurious_poll() {
            input
        } else {
            0
        }
    }

    fn mmap(&self, cookie: u32, len: usize, prot: c_int, flags: c_int) -> Result<Arc<Memory>, c_int> {
        if self.gone() {
            return Err(libc::ENODEV);
        }
        let memory = lock(&self.state).queue.mmap(cookie, len, prot, flags);
        memory.ok_or_else(|| violation!("{}: mmap at {cookie:#x}, which is no buffer's", self.name))
    }

    fn work(&self) {
        self.run();
    }

    fn close(&self) {
        let mut state = lock(&self.state);
        state.closing = true;
        state.queue.cancel();
        drop(state);
        self.notify();
        if let Some(worker) = lock(&self.worker).take() {
            // It panicked only where it already ended the process.
            let _ = worker.join();
        }
        self.release();
    }
}
