//! The codec's nodes: `drivers/staging/vc04_services/bcm2835-codec/bcm2835-v4l2-codec.c` of raspberrypi/linux (see the
//! crate's text for its version) over `drivers/media/v4l2-core/v4l2-mem2mem.c`.

use std::collections::VecDeque;
use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libc::timespec;

use crate::config::{self, NoDmabuf, Place, Role};
use crate::controls::{Control, Handler, Many};
use crate::formats::{self, QueueData};
use crate::jpeg::{self, Layout};
use crate::memory::Memory;
use crate::node::{Argument, Node, Wake};
use crate::sys::{
    self, v4l2_buffer, v4l2_capability, v4l2_control, v4l2_encoder_cmd, v4l2_event, v4l2_event_subscription,
    v4l2_exportbuffer, v4l2_ext_controls, v4l2_fmtdesc, v4l2_format, v4l2_frmsizeenum, v4l2_query_ext_ctrl,
    v4l2_queryctrl, v4l2_querymenu, v4l2_requestbuffers, v4l2_selection, v4l2_streamparm,
};
use crate::vb2::{Need, Queue, State as BufferState};
use crate::{report, violation};

/// Encodes begun in this process.
static ENCODES: AtomicU64 = AtomicU64::new(0);

/// The codec after `gone`.
#[derive(Debug)]
struct Gone {
    /// Grows when it goes: who opened before is cut off.
    epoch: u64,
    /// Openings that fail before it is back.
    opens: u64,
}
static GONE: Mutex<Gone> = Mutex::new(Gone { epoch: 0, opens: 0 });

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An opening of a codec node: a context of its own, as every opening of a memory-to-memory node is.
pub struct M2m {
    name: String,
    role: Role,
    nonblock: bool,
    wake: Wake,
    epoch: u64,
    state: Mutex<State>,
    changed: Condvar,
    worker: Mutex<Option<JoinHandle<()>>>,
}

#[allow(clippy::struct_excessive_bools, reason = "each is a state of its own")]
struct State {
    output: Queue,
    capture: Queue,
    output_data: QueueData,
    capture_data: QueueData,
    /// "A single set of colorspace parameters for both": colorspace, `ycbcr_enc`, quantization, `xfer_func`.
    colour: [u32; 4],
    /// Frames per second: numerator, denominator.
    rate: [u32; 2],
    controls: Handler,
    events: VecDeque<v4l2_event>,
    event_sequence: u32,
    subscribed: Vec<u32>,
    /// A frame is at the VPU.
    busy: bool,
    /// It will stay there.
    hanging: bool,
    /// `ENC_CMD_STOP` waits for the last frame.
    draining: bool,
    /// The rest of a JPEG that did not fit.
    rest: Option<(Vec<u8>, libc::timeval)>,
    closing: bool,
}

/// A frame for the VPU.
struct Job {
    number: u64,
    source: usize,
    target: usize,
    generations: [u64; 2],
    layout: Layout,
    picture: Arc<Memory>,
    quality: i64,
}

impl State {
    fn new(name: &str, role: Role) -> Self {
        let config = config::get();
        Self {
            output: Queue::new(name, sys::BUF_TYPE_VIDEO_OUTPUT_MPLANE, false, sys::BUF_FLAG_TIMESTAMP_COPY),
            capture: Queue::new(name, sys::BUF_TYPE_VIDEO_CAPTURE_MPLANE, false, sys::BUF_FLAG_TIMESTAMP_COPY),
            output_data: QueueData::new(role, false, config),
            capture_data: QueueData::new(role, true, config),
            colour: [sys::COLORSPACE_REC709, 0, 0, 0],
            rate: [30, 1],
            controls: Handler::new(controls(role)),
            events: VecDeque::new(),
            event_sequence: 0,
            subscribed: Vec::new(),
            busy: false,
            hanging: false,
            draining: false,
            rest: None,
            closing: false,
        }
    }

    /// `v4l2_m2m_get_vq`; other types are refused by `check_fmt`.
    fn queue(&mut self, buffer_type: u32) -> Result<&mut Queue, c_int> {
        match buffer_type {
            sys::BUF_TYPE_VIDEO_OUTPUT_MPLANE => Ok(&mut self.output),
            sys::BUF_TYPE_VIDEO_CAPTURE_MPLANE => Ok(&mut self.capture),
            _ => Err(libc::EINVAL),
        }
    }

    fn data(&mut self, buffer_type: u32) -> &mut QueueData {
        if buffer_type == sys::BUF_TYPE_VIDEO_OUTPUT_MPLANE { &mut self.output_data } else { &mut self.capture_data }
    }

    fn layout(&self) -> Layout {
        let data = &self.output_data;
        Layout {
            pixel_format: data.format.pixelformat,
            width: data.crop_width as usize,
            height: data.crop_height as usize,
            stride: data.stride as usize,
            rows: data.height as usize,
        }
    }

    fn need(&self, buffer_type: u32) -> Need {
        if buffer_type == sys::BUF_TYPE_VIDEO_OUTPUT_MPLANE {
            let picture = self.layout().needed().unwrap_or_default() as u32;
            Need { size_image: self.output_data.size_image, picture }
        } else {
            Need { size_image: self.capture_data.size_image, picture: 0 }
        }
    }

    /// The JPEG quality that the firmware would come to. It aims at a bitrate by means nobody has published; what counts
    /// here is that more bits give a larger JPEG.
    fn quality(&self, role: Role) -> i64 {
        if role == Role::EncodeImage {
            return self.controls.value(sys::CID_JPEG_COMPRESSION_QUALITY);
        }
        let pixels = i64::from(self.output_data.crop_width) * i64::from(self.output_data.crop_height);
        let bits = self.controls.value(sys::CID_MPEG_VIDEO_BITRATE) * i64::from(self.rate[1]) / i64::from(self.rate[0]);
        (bits * 100 / pixels.max(1)).clamp(5, 95)
    }

    fn send_eos(&mut self) {
        self.capture.last_dequeued = false;
        if !self.subscribed.contains(&sys::EVENT_EOS) {
            return;
        }
        let mut event: v4l2_event = sys::zeroed();
        event.type_ = sys::EVENT_EOS;
        event.sequence = self.event_sequence;
        event.timestamp = now();
        self.event_sequence += 1;
        // v4l2_event_subscribe(fh, sub, 2, NULL): room for two, the oldest goes.
        if self.events.len() == 2 {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

fn now() -> timespec {
    // SAFETY: numbers only, for which zero is a value.
    let mut time: timespec = unsafe { std::mem::zeroed() };
    // SAFETY: a valid pointer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time
}

/// `bcm2835_codec_open`.
fn controls(role: Role) -> Vec<Control> {
    const LEVELS: &[&str] =
        &["1", "1b", "1.1", "1.2", "1.3", "2", "2.1", "2.2", "3", "3.1", "3.2", "4", "4.1", "4.2", "5", "5.1"];
    const PROFILES: &[&str] = &["Baseline", "Constrained Baseline", "Main", "", "High"];
    match role {
        Role::Encode => vec![
            Control::menu(
                sys::CID_MPEG_VIDEO_BITRATE_MODE,
                "Video Bitrate Mode",
                &["Variable Bitrate", "Constant Bitrate"],
                0,
            ),
            Control::integer(sys::CID_MPEG_VIDEO_BITRATE, "Video Bitrate", [25_000, 25_000_000], 25_000, 10_000_000),
            Control::menu(
                sys::CID_MPEG_VIDEO_HEADER_MODE,
                "Sequence Header Mode",
                &["Separate Buffer", "Joined With 1st Frame"],
                1,
            ),
            Control::boolean(sys::CID_MPEG_VIDEO_REPEAT_SEQ_HEADER, "Repeat Sequence Header", 0),
            Control::integer(sys::CID_MPEG_VIDEO_H264_I_PERIOD, "H264 I-Frame Period", [0, 0x7fff_ffff], 1, 60),
            Control::menu(sys::CID_MPEG_VIDEO_H264_LEVEL, "H264 Level", LEVELS, 11),
            Control::menu(sys::CID_MPEG_VIDEO_H264_PROFILE, "H264 Profile", PROFILES, 4),
            Control::integer(sys::CID_MPEG_VIDEO_H264_MIN_QP, "H264 Minimum QP Value", [0, 51], 1, 20),
            Control::integer(sys::CID_MPEG_VIDEO_H264_MAX_QP, "H264 Maximum QP Value", [0, 51], 1, 51),
            Control::button(sys::CID_MPEG_VIDEO_FORCE_KEY_FRAME, "Force Key Frame"),
            Control::integer(sys::CID_MPEG_VIDEO_B_FRAMES, "Video B Frames", [0, 0], 1, 0).flags(sys::CTRL_FLAG_UPDATE),
            Control::integer(sys::CID_MPEG_VIDEO_GOP_SIZE, "Video GOP Size", [0, 0x7fff_ffff], 1, 60),
        ],
        Role::EncodeImage => {
            vec![Control::integer(sys::CID_JPEG_COMPRESSION_QUALITY, "Compression Quality", [1, 100], 1, 80)]
        }
        Role::Isp => vec![
            Control::boolean(sys::CID_HFLIP, "Horizontal Flip", 0),
            Control::boolean(sys::CID_VFLIP, "Vertical Flip", 0),
        ],
        Role::Decode => vec![
            Control::integer(sys::CID_MIN_BUFFERS_FOR_CAPTURE, "Min Number of Capture Buffers", [1, 1], 1, 1)
                .flags(sys::CTRL_FLAG_READ_ONLY),
        ],
    }
}

/// Opens a node; gives the client's descriptor.
pub fn open(number: u32, role: Role, flags: c_int) -> Result<c_int, c_int> {
    let config = config::get();
    let name = format!("/dev/video{number}");
    let refuse = |error| {
        let name = name.clone();
        report::note(|report| *report.opens_refused.entry(name).or_default() += 1);
        report::write(true);
        Err(error)
    };
    let epoch = {
        let mut gone = lock(&GONE);
        if gone.opens > 0 {
            gone.opens = if gone.opens == u64::MAX { u64::MAX } else { gone.opens - 1 };
            return refuse(libc::ENOENT);
        }
        gone.epoch
    };
    let encoder = matches!(role, Role::Encode | Role::EncodeImage);
    if encoder && config.busy(Place::Open) {
        return refuse(libc::EBUSY);
    }
    let wake = Wake::new(flags)?;
    let m2m = Arc::new(M2m {
        state: Mutex::new(State::new(&name, role)),
        name: name.clone(),
        role,
        nonblock: flags & libc::O_NONBLOCK != 0,
        wake,
        epoch,
        changed: Condvar::new(),
        worker: Mutex::new(None),
    });
    report::note(|report| *report.opens.entry(name).or_default() += 1);
    report::write(true);
    Ok(wake.publish(m2m))
}

impl M2m {
    fn gone(&self) -> bool {
        lock(&GONE).epoch != self.epoch
    }

    fn notify(&self) {
        self.changed.notify_all();
        self.wake.wake();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Option<Duration>) -> MutexGuard<'a, State> {
        match time {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(time) => self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    /// Waits for something to do; the report is behind by a moment at most.
    fn idle<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let state = self.wait(state, Some(report::PAUSE * 5));
        report::write(false);
        state
    }

    /// Whether the frame is to be given up: a queue was stopped, or all.
    fn void(&self, state: &State, job: &Job) -> bool {
        state.closing || [state.output.generation, state.capture.generation] != job.generations || self.gone()
    }

    /// The VPU: takes a frame and a buffer for it, and gives both back.
    fn run(&self) {
        let mut state = lock(&self.state);
        while !state.closing {
            if self.gone() {
                state = self.idle(state);
            } else if state.rest.is_some() && state.capture.streaming && !state.capture.ready.is_empty() {
                let Some(((rest, time), target)) = state.rest.take().zip(state.capture.take()) else { continue };
                self.deliver(&mut state, target, time, &rest);
            } else if state.output.streaming
                && state.capture.streaming
                && !state.output.ready.is_empty()
                && !state.capture.ready.is_empty()
            {
                state = self.encode(state);
            } else if state.draining && state.output.ready.is_empty() && !state.capture.ready.is_empty() {
                let Some(target) = state.capture.take() else { continue };
                state.draining = false;
                state.send_eos();
                state.capture.buffers[target].flags |= sys::BUF_FLAG_LAST;
                state.capture.finish(target, BufferState::Done);
                self.notify();
            } else {
                state = self.idle(state);
            }
        }
    }

    fn begin(&self, state: &mut State) -> Option<Job> {
        let number = ENCODES.fetch_add(1, Ordering::Relaxed) + 1;
        report::note(|report| report.encodes_started = number);
        let config = config::get();
        if let Some(opens) = config.strikes_once("gone", number) {
            let mut gone = lock(&GONE);
            gone.epoch += 1;
            gone.opens = if opens == "forever" { u64::MAX } else { opens.parse().unwrap_or(0) };
            return None;
        }
        if config.strikes("eio", number) {
            // vb2_queue_error: until STREAMOFF
            state.output.error = true;
            state.capture.error = true;
            state.output.ready.clear();
            return None;
        }
        let source = state.output.take()?;
        let target = state.capture.take()?;
        let picture = state.output.buffers[source].memory.clone()?;
        let used = state.output.buffers[source].bytes_used;
        report::note(|report| report.output_bytes = used);
        Some(Job {
            number,
            source,
            target,
            generations: [state.output.generation, state.capture.generation],
            layout: state.layout(),
            picture,
            quality: state.quality(self.role),
        })
    }

    fn encode<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let config = config::get();
        let Some(job) = self.begin(&mut state) else {
            self.notify();
            return state;
        };
        state.busy = true;
        if config.strikes("hang", job.number) {
            state.hanging = true;
            while !self.void(&state, &job) {
                state = self.wait(state, None);
            }
        }
        let deadline = Instant::now() + config.delay;
        while !self.void(&state, &job) && Instant::now() < deadline {
            state = self.wait(state, Some(deadline.saturating_duration_since(Instant::now())));
        }
        let mut jpeg = Vec::new();
        if !self.void(&state, &job) {
            drop(state);
            let mut layout = job.layout;
            if config.strikes("bad_size", job.number) {
                layout.width = (layout.width / 2).max(2);
            }
            jpeg = jpeg::compress(job.picture.bytes(), &layout, job.quality, config.exif)
                .unwrap_or_else(|error| violation!("{}: cannot encode {layout:?}: {error}", self.name));
            state = lock(&self.state);
        }
        state.busy = false;
        state.hanging = false;
        if self.void(&state, &job) {
            // STREAMOFF has taken the buffers of its own queue back; the other queue's waits for the next frame.
            if state.output.generation == job.generations[0] {
                state.output.requeue(job.source);
            }
            if state.capture.generation == job.generations[1] {
                state.capture.requeue(job.target);
            }
            self.notify();
            return state;
        }
        let time = state.output.buffers[job.source].timestamp;
        if config.src_lag.is_zero() {
            state.output.check_unchanged(job.source);
            state.output.finish(job.source, BufferState::Done);
        }
        self.complete(&mut state, &job, jpeg, time);
        if !config.src_lag.is_zero() {
            let until = Instant::now() + config.src_lag;
            while !state.closing && Instant::now() < until && state.output.generation == job.generations[0] {
                state = self.wait(state, Some(until.saturating_duration_since(Instant::now())));
            }
            if state.output.generation == job.generations[0] {
                state.output.check_unchanged(job.source);
                state.output.finish(job.source, BufferState::Done);
                self.notify();
            }
        }
        state
    }

    /// `op_buffer_cb`, with the faults.
    fn complete(&self, state: &mut State, job: &Job, mut jpeg: Vec<u8>, time: libc::timeval) {
        let config = config::get();
        let (number, target) = (job.number, job.target);
        report::note(|report| {
            report.jpegs += 1;
            report.encodes_done += 1;
            report.jpeg_bytes = jpeg.len() as u32;
        });
        let compressed = state.capture_data.format.pixelformat;
        let asked_for_jpeg = compressed == sys::code(*b"JPEG") || compressed == sys::code(*b"MJPG");
        if config.strikes("not_jpeg", number) || !asked_for_jpeg {
            jpeg = b"\0\0\0\x01\x67this is no JPEG".repeat(64);
        }
        if config.strikes("truncated", number) {
            jpeg.truncate(jpeg.len() * 2 / 3);
        }
        if config.strikes("empty", number) {
            jpeg.clear();
        }
        let small = config.strikes("capture_small", number);
        if config.strikes("error_flag", number) || small {
            // "error in transfer": the payload stays what bcm2835_codec_buf_prepare set it to, sizeimage.
            let buffer = &mut state.capture.buffers[target];
            buffer.bytes_used = state.capture_data.size_image.min(buffer.length);
            if let Some(memory) = buffer.memory.as_ref().filter(|_| small) {
                memory.write(0, &jpeg[..jpeg.len() / 2]);
            }
            state.capture.finish(target, BufferState::Error);
            self.notify();
            return;
        }
        if config.strikes("eos", number) {
            state.send_eos();
            state.capture.buffers[target].flags |= sys::BUF_FLAG_LAST;
        }
        if config.strikes("split", number) {
            state.rest = Some((jpeg.split_off(jpeg.len() / 2), time));
        }
        self.deliver(state, target, time, &jpeg);
    }

    /// Gives a CAPTURE buffer back with these bytes. What does not fit goes into the next one, without a word: the
    /// firmware cuts a frame larger than its buffer into several (`MMAL_PARAMETER_MINIMISE_FRAGMENTATION` "unless the frame
    /// is bigger than the whole buffer"), and the driver does not look at the flag of a frame's end.
    fn deliver(&self, state: &mut State, target: usize, time: libc::timeval, jpeg: &[u8]) {
        let buffer = &mut state.capture.buffers[target];
        let fits = jpeg.len().min(buffer.length as usize);
        if let Some(memory) = &buffer.memory {
            memory.write(0, &jpeg[..fits]);
        }
        buffer.bytes_used = fits as u32;
        buffer.timestamp = time;
        // The driver copies neither the sequence number nor any other flag; it leaves the sequence at 0 for ever.
        buffer.flags |= sys::BUF_FLAG_KEYFRAME;
        if fits < jpeg.len() {
            state.rest = Some((jpeg[fits..].to_vec(), time));
        }
        state.capture.finish(target, BufferState::Done);
        self.notify();
        report::write(false);
    }

    fn s_fmt(&self, state: &mut State, format: &mut v4l2_format, try_only: bool) -> Result<(), c_int> {
        let config = config::get();
        let capture = format.type_ == sys::BUF_TYPE_VIDEO_CAPTURE_MPLANE;
        let busy = state.queue(format.type_)?.is_busy();
        // SAFETY: the type says which member it is; any bytes are numbers.
        let mut user = unsafe { format.fmt.pix_mp };
        let reserved = user.reserved;
        if reserved != [0; 7] {
            violation!("{}: a format with reserved fields that are not zero", self.name);
        }
        let requested = user.height;
        let found = QueueData::try_format(&mut user, self.role, capture, state.colour[0], config);
        format.fmt.pix_mp = user;
        if try_only {
            return Ok(());
        }
        if busy {
            report::note(|report| report.s_fmt_busy += 1);
            return Err(libc::EBUSY);
        }
        state.colour =
            [user.colorspace, u32::from(user.ycbcr_enc), u32::from(user.quantization), u32::from(user.xfer_func)];
        let role = self.role;
        state.data(format.type_).set(&user, found, requested, role, config);
        let data = *state.data(format.type_);
        report::note(|report| {
            report.formats.push(report::Format {
                node: self.name.clone(),
                queue: if capture { "capture" } else { "output" },
                fourcc: sys::text(data.format.pixelformat),
                width: data.crop_width,
                height: data.height,
                stride: data.stride,
                size: data.size_image,
            });
        });
        Ok(())
    }

    fn g_fmt(state: &mut State, format: &mut v4l2_format) -> Result<(), c_int> {
        state.queue(format.type_)?;
        let data = *state.data(format.type_);
        let mut user: sys::v4l2_pix_format_mplane = sys::zeroed();
        user.width = data.crop_width;
        user.height = data.height;
        user.pixelformat = data.format.pixelformat;
        user.field = sys::FIELD_NONE;
        user.num_planes = 1;
        user.plane_fmt[0].sizeimage = data.size_image;
        user.plane_fmt[0].bytesperline = data.stride;
        let [colorspace, encoding, quantization, transfer] = state.colour;
        user.colorspace = colorspace;
        user.ycbcr_enc = encoding as u8;
        user.quantization = quantization as u8;
        user.xfer_func = transfer as u8;
        format.fmt.raw = [0; 200];
        format.fmt.pix_mp = user;
        Ok(())
    }

    fn selection(&self, state: &mut State, selection: &mut v4l2_selection, set: bool) -> Result<(), c_int> {
        // The V4L2 core turns the multi-planar type into the other before the driver sees it.
        let output = matches!(selection.type_, sys::BUF_TYPE_VIDEO_OUTPUT | sys::BUF_TYPE_VIDEO_OUTPUT_MPLANE);
        if !output || !matches!(self.role, Role::Encode | Role::EncodeImage) {
            return Err(libc::EINVAL);
        }
        let data = &mut state.output_data;
        let whole = sys::v4l2_rect { left: 0, top: 0, width: data.stride, height: data.height };
        let crop = sys::v4l2_rect { left: 0, top: 0, width: data.crop_width, height: data.crop_height };
        selection.r = match (set, selection.target) {
            (false, sys::SEL_TGT_CROP_DEFAULT | sys::SEL_TGT_CROP_BOUNDS) => whole,
            (false, sys::SEL_TGT_CROP) => crop,
            (true, sys::SEL_TGT_CROP) => {
                data.crop_width = selection.r.width.min(data.crop_width);
                data.crop_height = selection.r.height.min(data.height);
                data.selection_set = true;
                sys::v4l2_rect { left: 0, top: 0, width: data.crop_width, height: data.crop_height }
            }
            _ => return Err(libc::EINVAL),
        };
        Ok(())
    }

    fn parm(&self, state: &mut State, parm: &mut v4l2_streamparm, set: bool) -> Result<(), c_int> {
        let encoder = matches!(self.role, Role::Encode | Role::EncodeImage);
        if !encoder {
            // v4l2_disable_ioctl
            return Err(libc::ENOTTY);
        }
        if parm.type_ != sys::BUF_TYPE_VIDEO_OUTPUT_MPLANE {
            return Err(libc::EINVAL);
        }
        // struct v4l2_outputparm begins like v4l2_captureparm.
        // SAFETY: any bytes are numbers.
        let mut output = unsafe { parm.parm.capture };
        if set {
            let interval = output.timeperframe;
            if interval.numerator == 0 || interval.denominator == 0 {
                return Err(libc::EINVAL);
            }
            state.rate = [interval.denominator, interval.numerator];
        } else {
            parm.parm.raw = [0; 200];
            output = sys::zeroed();
        }
        output.capability = sys::CAP_TIMEPERFRAME;
        output.timeperframe = sys::v4l2_fract { numerator: state.rate[1], denominator: state.rate[0] };
        parm.parm.capture = output;
        Ok(())
    }

    fn encoder_command(&self, state: &mut State, command: &mut v4l2_encoder_cmd, try_only: bool) -> Result<(), c_int> {
        if self.role == Role::Decode {
            return Err(libc::ENOTTY);
        }
        command.raw = [0; 8];
        match command.cmd {
            sys::ENC_CMD_STOP if !try_only && state.output.streaming && state.capture.streaming => {
                state.draining = true;
                self.notify();
            }
            // START: "do we need to do anything here?" It does nothing, so CAPTURE stays at its end until STREAMOFF.
            sys::ENC_CMD_START | sys::ENC_CMD_STOP => {}
            _ => return Err(libc::EINVAL),
        }
        Ok(())
    }

    fn stream_on(&self, state: &mut State, buffer_type: u32) -> Result<(), c_int> {
        if config::get().busy(Place::StreamOn) {
            return Err(libc::EBUSY);
        }
        state.queue(buffer_type)?.stream_on();
        if state.output.streaming && state.capture.streaming && matches!(self.role, Role::Encode | Role::EncodeImage) {
            let (output, capture) = (&state.output_data, &state.capture_data);
            let sizes = [(output.crop_width, output.crop_height), (capture.crop_width, capture.crop_height)];
            // dev-encoder.rst has CAPTURE's size ignored. This driver gives it to the firmware as the output port's, and
            // what that makes of a difference is not known: the programs known to work set both alike.
            if sizes[0] != sizes[1] {
                violation!(
                    "{}: OUTPUT is {:?}, CAPTURE {:?}: unknown what the firmware does",
                    self.name,
                    sizes[0],
                    sizes[1]
                );
            }
        }
        Ok(())
    }

    /// `v4l2_m2m_streamoff` and `bcm2835_codec_stop_streaming`, which waits until the VPU has given the buffers back.
    fn stream_off<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        buffer_type: u32,
    ) -> (MutexGuard<'a, State>, Result<(), c_int>) {
        let hanging = state.hanging;
        match state.queue(buffer_type) {
            Ok(queue) => queue.stream_off(),
            Err(error) => return (state, Err(error)),
        }
        state.draining = false;
        if buffer_type == sys::BUF_TYPE_VIDEO_CAPTURE_MPLANE {
            state.rest = None;
        }
        self.notify();
        while state.busy && !state.closing {
            state = self.wait(state, None);
        }
        if hanging {
            drop(state);
            std::thread::sleep(config::get().hang_streamoff);
            state = lock(&self.state);
        }
        (state, Ok(()))
    }

    fn reqbufs(&self, state: &mut State, request: &mut v4l2_requestbuffers) -> Result<(), c_int> {
        let config = config::get();
        if !matches!(self.role, Role::Encode | Role::EncodeImage) {
            violation!("{}: taken for an encoder, it is {:?}", self.name, self.role);
        }
        let data = *state.data(request.type_);
        let queue = state.queue(request.type_)?;
        if request.memory == sys::MEMORY_DMABUF && config.dmabuf == Some(NoDmabuf::Reqbufs) {
            report::fault("dmabuf");
            return Err(libc::EINVAL);
        }
        let no_memory = request.count > 0 && config.no_memory(queue.name);
        queue.reqbufs(request, data.size_image, config.min_buffers, data.set, no_memory)
    }

    fn note_controls(controls: &[Control]) {
        report::note(|report| {
            for control in controls {
                let encodes = ENCODES.load(Ordering::Relaxed);
                report.controls.push(report::Control { name: control.name.to_owned(), value: control.value, encodes });
            }
        });
    }

    fn qbuf(&self, state: &mut State, buffer: &mut v4l2_buffer) -> Result<(), c_int> {
        self.start_worker();
        let need = state.need(buffer.type_);
        let refuse = config::get().dmabuf == Some(NoDmabuf::Qbuf);
        if refuse {
            report::fault("dmabuf");
        }
        let queue = state.queue(buffer.type_)?;
        queue.qbuf(buffer, need, refuse)?;
        self.changed.notify_all();
        Ok(())
    }

    fn dqbuf(&self, mut state: MutexGuard<'_, State>, buffer: &mut v4l2_buffer) -> Result<(), c_int> {
        loop {
            if self.gone() {
                return Err(libc::ENODEV);
            }
            match state.queue(buffer.type_)?.dqbuf(buffer) {
                Err(libc::EAGAIN) if !self.nonblock => state = self.wait(state, Some(Duration::from_millis(50))),
                other => return other,
            }
        }
    }

    /// Only a node that is used needs its thread.
    fn start_worker(&self) {
        let mut worker = lock(&self.worker);
        if worker.is_some() {
            return;
        }
        let Some(node) = crate::node::find(self.wake.descriptor()) else { return };
        // The thread keeps the node alive; it ends when the node is closed.
        let start = std::thread::Builder::new().name("v4l2-standin".to_owned()).spawn(move || node.work());
        match start {
            Ok(handle) => *worker = Some(handle),
            Err(error) => violation!("{}: no thread: {error}", self.name),
        }
    }
}

impl Node for M2m {
    fn ioctl(&self, request: u32, mut argument: Argument) -> Result<(), c_int> {
        if self.gone() {
            return Err(libc::ENODEV);
        }
        let mut guard = lock(&self.state);
        if request == sys::DQBUF {
            return self.dqbuf(guard, argument.of::<v4l2_buffer>());
        }
        if request == sys::STREAMOFF {
            return self.stream_off(guard, *argument.of::<u32>()).1;
        }
        let state = &mut *guard;
        match request {
            sys::QUERYCAP => {
                querycap(argument.of::<v4l2_capability>(), self.role);
                Ok(())
            }
            sys::ENUM_FMT => enum_fmt(argument.of::<v4l2_fmtdesc>(), self.role),
            sys::ENUM_FRAMESIZES => enum_framesizes(argument.of::<v4l2_frmsizeenum>(), self.role),
            sys::G_FMT => Self::g_fmt(state, argument.of::<v4l2_format>()),
            sys::TRY_FMT => self.s_fmt(state, argument.of::<v4l2_format>(), true),
            sys::S_FMT => self.s_fmt(state, argument.of::<v4l2_format>(), false),
            sys::G_SELECTION => self.selection(state, argument.of::<v4l2_selection>(), false),
            sys::S_SELECTION => self.selection(state, argument.of::<v4l2_selection>(), true),
            sys::G_PARM => self.parm(state, argument.of::<v4l2_streamparm>(), false),
            sys::S_PARM => self.parm(state, argument.of::<v4l2_streamparm>(), true),
            sys::REQBUFS => self.reqbufs(state, argument.of::<v4l2_requestbuffers>()),
            sys::QUERYBUF => {
                let buffer = argument.of::<v4l2_buffer>();
                state.queue(buffer.type_)?.querybuf(buffer)
            }
            sys::EXPBUF => {
                let export = argument.of::<v4l2_exportbuffer>();
                state.queue(export.type_)?.expbuf(export)
            }
            sys::QBUF => self.qbuf(state, argument.of::<v4l2_buffer>()),
            sys::STREAMON => {
                let result = self.stream_on(state, *argument.of::<u32>());
                self.notify();
                result
            }
            sys::ENCODER_CMD => self.encoder_command(state, argument.of::<v4l2_encoder_cmd>(), false),
            sys::TRY_ENCODER_CMD => self.encoder_command(state, argument.of::<v4l2_encoder_cmd>(), true),
            sys::SUBSCRIBE_EVENT => {
                let event = argument.of::<v4l2_event_subscription>().type_;
                let known = matches!(event, sys::EVENT_EOS | sys::EVENT_SOURCE_CHANGE | sys::EVENT_CTRL);
                state.subscribed.extend(known.then_some(event));
                if known { Ok(()) } else { Err(libc::EINVAL) }
            }
            sys::UNSUBSCRIBE_EVENT => {
                let event = argument.of::<v4l2_event_subscription>().type_;
                state.subscribed.retain(|&subscribed| subscribed != event);
                Ok(())
            }
            sys::DQEVENT => {
                let event = argument.of::<v4l2_event>();
                // __v4l2_event_dequeue: ENOENT. A blocking wait for events is not modelled.
                *event = state.events.pop_front().ok_or(libc::ENOENT)?;
                event.pending = state.events.len() as u32;
                Ok(())
            }
            sys::QUERYCTRL => state.controls.queryctrl(argument.of::<v4l2_queryctrl>()),
            sys::QUERY_EXT_CTRL => state.controls.query_ext_ctrl(argument.of::<v4l2_query_ext_ctrl>()),
            sys::QUERYMENU => state.controls.querymenu(argument.of::<v4l2_querymenu>()),
            sys::G_CTRL => state.controls.get(argument.of::<v4l2_control>()),
            sys::S_CTRL => {
                let control = state.controls.set(argument.of::<v4l2_control>())?;
                Self::note_controls(&[control]);
                Ok(())
            }
            sys::G_EXT_CTRLS => state.controls.many(argument.of::<v4l2_ext_controls>(), Many::Get).map(drop),
            sys::TRY_EXT_CTRLS => state.controls.many(argument.of::<v4l2_ext_controls>(), Many::Try).map(drop),
            sys::S_EXT_CTRLS => {
                let controls = state.controls.many(argument.of::<v4l2_ext_controls>(), Many::Set)?;
                Self::note_controls(&controls);
                Ok(())
            }
            _ => Err(libc::ENOTTY),
        }
    }

    /// `v4l2_m2m_poll`, and `v4l2_poll` for a node that is gone.
    fn poll(&self, events: i16) -> i16 {
        if self.gone() {
            return libc::POLLERR | libc::POLLHUP | libc::POLLPRI;
        }
        let state = lock(&self.state);
        let mut ready = 0;
        let input = libc::POLLIN | libc::POLLRDNORM;
        let output = libc::POLLOUT | libc::POLLWRNORM;
        if events & (input | output) != 0 {
            let idle = |queue: &Queue| !queue.streaming || queue.error || !(queue.has_queued() || queue.last_dequeued);
            if idle(&state.output) && idle(&state.capture) {
                ready |= libc::POLLERR;
            } else {
                if state.output.has_done() {
                    ready |= output;
                }
                let spurious = || events & input != 0 && config::get().spurious_poll();
                if state.capture.has_done() || state.capture.last_dequeued || spurious() {
                    ready |= input;
                }
            }
        }
        if !state.events.is_empty() {
            ready |= libc::POLLPRI;
        }
        ready
    }

    fn mmap(&self, cookie: u32, len: usize, prot: c_int, flags: c_int) -> Result<Arc<Memory>, c_int> {
        if self.gone() {
            return Err(libc::ENODEV);
        }
        let mut state = lock(&self.state);
        if let Some(memory) = state.capture.mmap(cookie, len, prot, flags) {
            return Ok(memory);
        }
        state
            .output
            .mmap(cookie, len, prot, flags)
            .ok_or_else(|| violation!("{}: mmap at {cookie:#x}, which is no buffer's", self.name))
    }

    fn work(&self) {
        self.run();
    }

    fn close(&self) {
        let mut state = lock(&self.state);
        state.closing = true;
        state.output.cancel();
        state.capture.cancel();
        drop(state);
        self.notify();
        if let Some(worker) = lock(&self.worker).take() {
            // It panicked only where it already ended the process.
            let _ = worker.join();
        }
    }
}

/// `v4l_querycap` and `vidioc_querycap`.
fn querycap(capability: &mut v4l2_capability, role: Role) {
    *capability = sys::zeroed();
    sys::put(&mut capability.driver, "bcm2835-codec");
    let role = match role {
        Role::Decode => "decode",
        Role::Encode => "encode",
        Role::Isp => "isp",
        Role::EncodeImage => "encode_image",
    };
    sys::put(&mut capability.card, &format!("bcm2835-codec-{role}"));
    sys::put(&mut capability.bus_info, "platform:bcm2835-codec");
    capability.version = 6 << 16 | 12 << 8;
    capability.device_caps = sys::CAP_VIDEO_M2M_MPLANE | sys::CAP_STREAMING | sys::CAP_EXT_PIX_FORMAT;
    capability.capabilities = capability.device_caps | sys::CAP_DEVICE_CAPS;
}

/// `v4l_enum_fmt` and `enum_fmt`.
fn enum_fmt(description: &mut v4l2_fmtdesc, role: Role) -> Result<(), c_int> {
    let capture = match description.type_ {
        sys::BUF_TYPE_VIDEO_CAPTURE_MPLANE => true,
        sys::BUF_TYPE_VIDEO_OUTPUT_MPLANE => false,
        _ => return Err(libc::EINVAL),
    };
    let (index, type_) = (description.index, description.type_);
    let format = formats::list(role, capture).get(index as usize).ok_or(libc::EINVAL)?;
    *description = sys::zeroed();
    description.index = index;
    description.type_ = type_;
    description.pixelformat = format.pixelformat;
    description.flags = if format.compressed { sys::FMT_FLAG_COMPRESSED } else { 0 };
    sys::put(&mut description.description, format.description);
    Ok(())
}

/// `vidioc_enum_framesizes`.
fn enum_framesizes(sizes: &mut v4l2_frmsizeenum, role: Role) -> Result<(), c_int> {
    let known = [true, false]
        .iter()
        .any(|&capture| formats::list(role, capture).iter().any(|format| format.pixelformat == sizes.pixel_format));
    if !known || sizes.index != 0 {
        return Err(libc::EINVAL);
    }
    sizes.type_ = sys::FRMSIZE_TYPE_STEPWISE;
    sizes.size.stepwise = sys::v4l2_frmsize_stepwise {
        min_width: formats::MIN,
        max_width: formats::maximum(role),
        step_width: 2,
        min_height: formats::MIN,
        max_height: formats::maximum(role),
        step_height: 2,
    };
    sizes.reserved = [0; 2];
    Ok(())
}
