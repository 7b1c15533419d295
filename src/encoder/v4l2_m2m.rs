//! The hardware's JPEG encoder: a V4L2 memory-to-memory device (the kernel's `dev-encoder.rst`), such as the Pi's
//! bcm2835-codec.
//!
//! Frames go in by their dma-buf where the encoder can read the camera's layout, else by one copy. Encoding goes on
//! while the camera fills its next buffer: [`M2m::submit`] queues, [`M2m::collect`] takes what
//! is finished.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use v4l2r::bindings::{V4L2_CID_JPEG_COMPRESSION_QUALITY, V4L2_CID_MPEG_VIDEO_BITRATE};
use v4l2r::ioctl::Capabilities;

use super::{EncodeError, Encoded};
use crate::camera::memory::Shortage;
use crate::camera::{BufferIndex, CameraInfo};
use crate::frame::{Geometry, MonotonicTime, PixelFormat, RawFrame, ShortPlane, Size, copy};
use crate::jpeg;
use crate::v4l2::{self, Device, Format, Fourcc, MemoryType, Payload, PlaneLayout, PlaneMapping, QueueType, V4l2Error};

/// Frames in the encoder at a time: one in work and one waiting, so that it never pauses between two.
const IN_FLIGHT: usize = 2;
/// What a frame may take; the Pi needs about 20 ms. (ustreamer gives as much.)
const DEADLINE: Duration = Duration::from_secs(1);

/// See the module's text.
pub struct M2m {
    device: Device,
    queues: Queues,
    size: Size,
    pixel_format: PixelFormat,
    /// Where the encoder looks for the planes of a frame.
    geometry: Geometry,
    /// Bytes of an OUTPUT buffer.
    input_length: usize,
    memory: Memory,
    /// Why frames are copied, where they are.
    copy_reason: String,
    /// Memory the encoder writes JPEG to.
    captures: Vec<PlaneMapping>,
    /// Frames queued and not yet encoded, oldest first.
    jobs: VecDeque<Job>,
    outputs: Vec<Output>,
    /// A CAPTURE buffer whose JPEG has been handed out, to be queued again.
    requeue: Option<usize>,
    rate: Option<RateControl>,
    frame_rate: f64,
    /// Frames encoded since the device was opened.
    encoded: u64,
}

/// The device's two queues.
#[derive(Clone, Copy, Debug)]
struct Queues {
    output: QueueType,
    capture: QueueType,
}

enum Memory {
    /// OUTPUT buffer n takes the camera's buffer n, so that the kernel's mapping of it is kept.
    DmaBuf,
    /// The encoder's own memory.
    Copy(Vec<PlaneMapping>),
}

/// An OUTPUT buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Free,
    /// Queued, with the encoder's own memory.
    Queued,
    /// Queued, with this buffer of the camera's.
    Holds(BufferIndex),
}

struct Job {
    captured_at: MonotonicTime,
    submitted_at: MonotonicTime,
    deadline: Instant,
}

impl Job {
    fn begin(captured_at: MonotonicTime) -> Self {
        Self { captured_at, submitted_at: MonotonicTime::now(), deadline: Instant::now() + DEADLINE }
    }
}

/// The control that says how good the JPEG is.
#[derive(Clone, Copy, Debug)]
enum RateControl {
    /// As libjpeg counts it.
    Quality { min: i64, max: i64 },
    /// Bits per second.
    Bitrate { min: i64, max: i64, step: i64 },
}

impl M2m {
    /// Opens the best encoder for what a camera delivers: `path`, or where that is empty any that can do it. One that can
    /// read the camera's buffers is better than one that needs a copy, and one that takes a quality better than one that
    /// takes a bit rate.
    ///
    /// # Errors
    /// [`EncodeError::NoDevice`] if there is none, else what the best one failed with.
    pub fn open(path: &str, camera: &CameraInfo, quality: u32, may_import: bool) -> Result<Self, EncodeError> {
        let mut candidates: Vec<Candidate> = if path.is_empty() {
            v4l2::node_paths().filter_map(|path| Candidate::at(&path, camera.pixel_format).ok()?).collect()
        } else {
            let Some(candidate) = Candidate::at(Path::new(path), camera.pixel_format)? else {
                let reason = format!("{path} (encoder.device) makes no JPEG from {}", camera.pixel_format);
                return Err(EncodeError::NoDevice { reason });
            };
            vec![candidate]
        };
        // JPEG before MJPEG; the order of nodes otherwise.
        candidates.sort_by_key(|candidate| candidate.coded != JPEG);
        let import_wanted = may_import && camera.dma_buf_offsets.is_some();
        let mut needs_copy = None;
        let mut failure = None;
        for candidate in candidates {
            let path = candidate.device.path().to_owned();
            match Self::set_up(candidate, camera, quality, may_import) {
                // Closed again: its buffers come out of memory that the next one needs.
                Ok(encoder) if import_wanted && encoder.reads_frames() => needs_copy = needs_copy.or(Some(path)),
                Ok(encoder) => return Ok(encoder),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if let Some(path) = needs_copy
            && let Some(candidate) = Candidate::at(&path, camera.pixel_format)?
        {
            return Self::set_up(candidate, camera, quality, may_import);
        }
        let reason = format!("no V4L2 memory-to-memory device makes JPEG from {}", camera.pixel_format);
        Err(failure.unwrap_or(EncodeError::NoDevice { reason }))
    }

    fn set_up(candidate: Candidate, camera: &CameraInfo, quality: u32, may_import: bool) -> Result<Self, EncodeError> {
        let Candidate { device, queues, coded } = candidate;
        let (size, wanted) = (camera.size, v4l2::fourcc(camera.pixel_format));
        let plane = PlaneLayout { bytesperline: camera.stride as u32, sizeimage: 0 };
        let raw = Format { width: size.width, height: size.height, pixelformat: wanted, plane_fmt: vec![plane] };
        let output = device.set_format(queues.output, &raw)?.format;
        let wrong = |device: &Device, queue, wanted: String, got: String| EncodeError::WrongFormatGranted {
            path: device.path().display().to_string(),
            queue,
            wanted,
            got,
        };
        let [input] = output.plane_fmt.as_slice() else {
            return Err(wrong(&device, "OUTPUT", "1 plane".to_owned(), format!("{} planes", output.plane_fmt.len())));
        };
        let described = |format: &Format| format!("{} {}x{}", format.pixelformat, format.width, format.height);
        if output.pixelformat != wanted || output.width < size.width || output.height < size.height {
            return Err(wrong(&device, "OUTPUT", described(&raw), described(&output)));
        }
        let input_length = input.sizeimage as usize;
        let stride = input.bytesperline as usize;
        let geometry = Geometry::padded(camera.pixel_format, size, stride, output.height as usize);
        if (output.width, output.height) != (size.width, size.height) {
            // The driver aligned the buffer; what is to be seen stays the same.
            device.set_crop(size.width, size.height)?;
        }
        let jpeg = Format { width: size.width, height: size.height, pixelformat: coded, plane_fmt: Vec::new() };
        let capture = device.set_format(queues.capture, &jpeg)?.format;
        if capture.pixelformat != coded {
            // Old firmware without start_x gives H.264 (picamera2#351).
            return Err(wrong(&device, "CAPTURE", described(&jpeg), described(&capture)));
        }
        // Only a bit rate needs it.
        let delivered = camera.frame_rate.delivered();
        let granted = device.set_frame_rate(queues.output, delivered).filter(|rate| rate.is_finite() && *rate > 0.0);
        let frame_rate = granted.unwrap_or(delivered);
        let rate = RateControl::of(&device);

        let mut encoder = Self {
            device,
            queues,
            size,
            pixel_format: camera.pixel_format,
            geometry,
            input_length,
            memory: Memory::DmaBuf,
            copy_reason: String::new(),
            captures: Vec::new(),
            jobs: VecDeque::with_capacity(IN_FLIGHT),
            outputs: Vec::new(),
            requeue: None,
            rate,
            frame_rate,
            encoded: 0,
        };
        encoder.set_quality(quality)?;
        match encoder.import_refused(camera, may_import) {
            None => match encoder.device.request_buffers(queues.output, MemoryType::DmaBuf, camera.buffer_count as u32)
            {
                // As many as the camera has, or a camera's buffer would have no place.
                Ok(count) if count >= camera.buffer_count => encoder.outputs = vec![Output::Free; count],
                Ok(count) => {
                    let reason = format!("it takes {count} dma-bufs, the camera has {}", camera.buffer_count);
                    encoder.copy_frames(reason)?;
                }
                Err(error) => encoder.copy_frames(format!("it takes no dma-bufs: {}", error.source))?,
            },
            Some(reason) => encoder.copy_frames(reason)?,
        }

        // Two, so that one can be read while the other is written; each is some MB of scarce memory.
        let count = match encoder.device.request_buffers(queues.capture, MemoryType::Mmap, 2) {
            Err(error) if error.errno() == libc::ENOMEM => {
                encoder.device.request_buffers(queues.capture, MemoryType::Mmap, 1)
            }
            result => result,
        }
        .map_err(|error| no_buffers(error, 1, capture.plane_fmt.first().map_or(0, |plane| plane.sizeimage as usize)))?;
        for index in 0..count {
            encoder.captures.push(encoder.device.map(queues.capture, index)?);
            encoder.device.queue(queues.capture, index, Payload::Empty, None)?;
        }
        encoder.device.stream_on(queues.output)?;
        encoder.device.stream_on(queues.capture)?;
        Ok(encoder)
    }

    /// Why the camera's buffers cannot go to the encoder as they are, or `None` if they can.
    fn import_refused(&self, camera: &CameraInfo, may_import: bool) -> Option<String> {
        let Some(offsets) = camera.dma_buf_offsets else {
            return Some("the camera has no dma-bufs".to_owned());
        };
        if !may_import {
            return Some("it failed with dma-bufs".to_owned());
        }
        let wanted = self.geometry.planes()[0].stride;
        if camera.stride != wanted {
            return Some(format!("it wants rows of {wanted} bytes, the camera has {}", camera.stride));
        }
        let wanted = self.geometry.offsets();
        if offsets != wanted {
            return Some(format!("it wants planes at {wanted:?}, the camera has them at {offsets:?}"));
        }
        None
    }

    /// From now on frames go through the encoder's own memory. OUTPUT must not be streaming.
    fn copy_frames(&mut self, reason: String) -> Result<(), EncodeError> {
        let queue = self.queues.output;
        let count = self
            .device
            .request_buffers(queue, MemoryType::Mmap, IN_FLIGHT as u32)
            .map_err(|error| no_buffers(error, IN_FLIGHT, self.input_length))?;
        let mappings = (0..count).map(|index| self.device.map(queue, index)).collect::<Result<Vec<_>, _>>()?;
        self.outputs = vec![Output::Free; count];
        self.memory = Memory::Copy(mappings);
        self.copy_reason = reason;
        Ok(())
    }

    /// The kernel refused the camera's first dma-buf: gives OUTPUT buffers of its own.
    fn stop_importing(&mut self, refusal: &V4l2Error) -> Result<(), EncodeError> {
        log::info!("the encoder does not take the camera's buffers: {refusal}; frames are copied");
        self.device.stream_off(self.queues.output)?;
        self.device.request_buffers(self.queues.output, MemoryType::DmaBuf, 0)?;
        self.copy_frames(format!("it does not take the camera's buffers: {}", refusal.source))?;
        Ok(self.device.stream_on(self.queues.output)?)
    }

    /// Copies a frame's planes to where the encoder looks for them.
    fn fill(&mut self, index: usize, frame: &RawFrame<'_>) -> Result<usize, EncodeError> {
        let Memory::Copy(mappings) = &mut self.memory else { return Ok(0) };
        let buffer: &mut [u8] = &mut mappings[index];
        if !self.geometry.fits(buffer.len()) {
            return Err(self.device.error("fill", std::io::ErrorKind::StorageFull.into()).into());
        }
        let mut end = 0;
        for (number, plane) in self.geometry.planes().iter().enumerate() {
            let from = frame.checked_plane(number)?;
            let to = &mut buffer[plane.offset..];
            if from.stride == plane.stride {
                copy(&mut to[..plane.least()], &from.data[..plane.least()]);
            } else {
                for row in 0..plane.rows {
                    let from = &from.data[row * from.stride..][..plane.row_bytes];
                    copy(&mut to[row * plane.stride..][..plane.row_bytes], from);
                }
            }
            end = plane.offset + plane.least();
        }
        Ok(end.max(self.input_length.min(buffer.len())))
    }

    /// Where frames are read from, for the status document.
    pub fn memory_name(&self) -> &'static str {
        match self.memory {
            Memory::DmaBuf => "dma-buf",
            Memory::Copy(_) => "copy",
        }
    }

    fn memory_type(&self) -> MemoryType {
        match self.memory {
            Memory::DmaBuf => MemoryType::DmaBuf,
            Memory::Copy(_) => MemoryType::Mmap,
        }
    }

    /// What was opened, for people: device and way of memory.
    pub fn describe(&self) -> String {
        let path = self.device.path().display();
        match self.memory {
            Memory::DmaBuf => format!("{path} reads the camera's buffers"),
            Memory::Copy(_) => format!("frames are copied to {path}: {}", self.copy_reason),
        }
    }

    /// Pictures it has made since it was opened.
    pub fn encoded(&self) -> u64 {
        self.encoded
    }

    /// True while it works, or holds a buffer of the camera's.
    pub fn is_busy(&self) -> bool {
        !self.jobs.is_empty() || self.requeue.is_some() || self.outputs.iter().any(|output| *output != Output::Free)
    }

    /// True while it takes no more frames.
    pub fn is_full(&self) -> bool {
        self.jobs.len() >= IN_FLIGHT
    }

    /// The camera's buffers it holds.
    pub fn held_buffers(&self) -> Vec<BufferIndex> {
        let held = |output: &Output| if let Output::Holds(buffer) = output { Some(*buffer) } else { None };
        self.outputs.iter().filter_map(held).collect()
    }

    /// The device's path.
    pub fn path(&self) -> String {
        self.device.path().display().to_string()
    }

    /// Takes a finished OUTPUT buffer back; `None` if none is finished.
    fn take_output(&mut self) -> Result<Option<Output>, EncodeError> {
        if self.outputs.iter().all(|output| *output == Output::Free) {
            return Ok(None);
        }
        let done = match self.device.dequeue(self.queues.output, self.memory_type()) {
            Ok(done) => done,
            Err(error) => return Err(self.ended_or(error)),
        };
        let Some(done) = done else { return Ok(None) };
        Ok(self.outputs.get_mut(done.index).map(|output| std::mem::replace(output, Output::Free)))
    }

    /// `EPIPE` is the end of the stream.
    fn ended_or(&self, error: V4l2Error) -> EncodeError {
        if error.errno() == libc::EPIPE { EncodeError::Ended { path: self.path() } } else { error.into() }
    }
}

/// What became of a frame given to the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It is being encoded. The camera's buffer is held until [`Collected::Released`], or free at once.
    Queued {
        /// Whether the camera's buffer is held.
        holds_buffer: bool,
    },
    /// Not taken: the encoder has as many as it should.
    Busy,
}

/// What the encoder has finished.
#[derive(Debug)]
pub enum Collected<'a> {
    /// The encoder has read this buffer of the camera's.
    Released(BufferIndex),
    /// A JPEG, or why there is none; the next frame may be right.
    Encoded {
        /// The JPEG, in the encoder's memory until the next call.
        result: Result<Encoded<'a>, EncodeError>,
        /// When its frame was captured.
        captured_at: MonotonicTime,
        /// When it was given to the encoder.
        submitted_at: MonotonicTime,
    },
}

impl M2m {
    /// Whether frames are read by the processor rather than by the encoder itself.
    pub fn reads_frames(&self) -> bool {
        matches!(self.memory, Memory::Copy(_))
    }

    /// Gives a frame to the encoder. `buffer` is the camera's buffer it lies in.
    ///
    /// # Errors
    /// The device failed: it is to be closed and opened again.
    pub fn submit(&mut self, frame: &RawFrame<'_>, buffer: BufferIndex) -> Result<Submitted, EncodeError> {
        if self.is_full() {
            return Ok(Submitted::Busy);
        }
        if frame.size != self.size || frame.pixel_format != self.pixel_format {
            let (wanted, got) =
                (format!("{} {}", self.pixel_format, self.size), format!("{} {}", frame.pixel_format, frame.size));
            return Err(EncodeError::WrongFormatGranted { path: self.path(), queue: "OUTPUT", wanted, got });
        }
        let queue = self.queues.output;
        // Whole microseconds, which is what a v4l2_buffer holds: the time stamp comes back and tells which frame it was.
        let stamp =
            MonotonicTime::from_nanos(frame.captured_at.since(MonotonicTime::from_nanos(0)).as_micros() as u64 * 1000);
        if let (Memory::DmaBuf, Some(plane)) = (&self.memory, frame.plane(0)) {
            let Some(fd) = plane.fd else {
                let no_dma_buf = ShortPlane {
                    format: frame.pixel_format,
                    plane: 0,
                    have: 0,
                    need: self.input_length,
                    size: self.size,
                    stride: plane.stride,
                };
                return Err(no_dma_buf.into());
            };
            if self.outputs.get(buffer.0).is_none_or(|output| *output != Output::Free) {
                return Ok(Submitted::Busy);
            }
            let payload = Payload::DmaBuf { fd: std::os::fd::AsRawFd::as_raw_fd(&fd), bytes_used: self.input_length };
            match self.device.queue(queue, buffer.0, payload, Some(stamp)) {
                Ok(()) => {
                    self.outputs[buffer.0] = Output::Holds(buffer);
                    self.jobs.push_back(Job::begin(frame.captured_at));
                    return Ok(Submitted::Queued { holds_buffer: true });
                }
                // The device itself is gone: nothing to be mended here.
                Err(error) if self.encoded > 0 || !self.jobs.is_empty() || error.errno() == libc::ENODEV => {
                    return Err(error.into());
                }
                Err(error) => {
                    // This frame is not accessible to the processor; the next will be.
                    self.stop_importing(&error)?;
                    return Ok(Submitted::Busy);
                }
            }
        }
        let Some(index) = self.outputs.iter().position(|output| *output == Output::Free) else {
            return Ok(Submitted::Busy);
        };
        let bytes_used = self.fill(index, frame)?;
        self.device.queue(queue, index, Payload::Mmap { bytes_used }, Some(stamp))?;
        self.outputs[index] = Output::Queued;
        self.jobs.push_back(Job::begin(frame.captured_at));
        Ok(Submitted::Queued { holds_buffer: false })
    }

    /// Readable when a JPEG is finished; `None` while there is nothing to wait for.
    pub fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        // A device without work is never ready: poll would tell of an error at once.
        (!self.jobs.is_empty()).then(|| self.device.as_fd())
    }

    /// When the oldest frame must be finished.
    pub fn deadline(&self) -> Option<Instant> {
        self.jobs.front().map(|job| job.deadline)
    }

    /// What is finished; `None` if nothing more is.
    ///
    /// # Errors
    /// The device failed, took too long or ended its stream: it is to be closed and opened again.
    pub fn collect(&mut self) -> Result<Option<Collected<'_>>, EncodeError> {
        if let Some(index) = self.requeue.take() {
            self.device.queue(self.queues.capture, index, Payload::Empty, None)?;
        }
        while let Some(output) = self.take_output()? {
            if let Output::Holds(buffer) = output {
                return Ok(Some(Collected::Released(buffer)));
            }
        }
        if self.jobs.is_empty() {
            return Ok(None);
        }
        let done = match self.device.dequeue(self.queues.capture, MemoryType::Mmap) {
            Ok(done) => done,
            Err(error) => return Err(self.ended_or(error)),
        };
        let Some(done) = done else {
            return match self.jobs.front() {
                Some(job) if Instant::now() >= job.deadline => {
                    Err(EncodeError::Timeout { path: self.path(), after: DEADLINE })
                }
                _ => Ok(None),
            };
        };
        if done.index >= self.captures.len() {
            return Err(self.device.error("VIDIOC_DQBUF", std::io::ErrorKind::InvalidData.into()).into());
        }
        self.requeue = Some(done.index);
        if done.is_last && done.bytes_used <= done.data_offset {
            return Err(EncodeError::Ended { path: self.path() });
        }
        // Frames come back in order, with the time stamp they were queued with: it tells where one is missing. A buffer in
        // error has none, and neither has any of a driver that does not copy them.
        let unstamped = done.has_error || done.timestamp == MonotonicTime::from_nanos(0);
        let position = self
            .jobs
            .iter()
            .position(|job| same_moment(job.captured_at, done.timestamp))
            .or_else(|| (unstamped && !self.jobs.is_empty()).then_some(0));
        let Some(job) = position.and_then(|position| self.jobs.drain(..=position).next_back()) else {
            // The rest of a JPEG that was larger than its buffer.
            return self.collect();
        };
        let data = self.captures[done.index].get(done.data_offset..done.bytes_used).unwrap_or_default();
        let result = if done.has_error || data.is_empty() {
            Err(EncodeError::Damaged { path: self.path() })
        } else {
            without_exif(data).and_then(|encoded| {
                if encoded.size == self.size {
                    return Ok(encoded);
                }
                let (wanted, got) = (self.size.to_string(), encoded.size.to_string());
                Err(EncodeError::WrongFormatGranted { path: self.path(), queue: "CAPTURE", wanted, got })
            })
        };
        self.encoded += u64::from(result.is_ok());
        Ok(Some(Collected::Encoded { result, captured_at: job.captured_at, submitted_at: job.submitted_at }))
    }

    /// Sets the JPEG quality, 1 to 100, from the next frame on; for an encoder that takes a bit rate what comes to about
    /// the same.
    pub fn set_quality(&mut self, quality: u32) -> Result<(), EncodeError> {
        let Some(rate) = self.rate else { return Ok(()) };
        let (id, value) = match rate {
            RateControl::Quality { min, max } => {
                (V4L2_CID_JPEG_COMPRESSION_QUALITY, i64::from(quality).clamp(min, max))
            }
            RateControl::Bitrate { min, max, step } => {
                let wanted = bit_rate(quality, self.size, self.frame_rate).clamp(min, max);
                (V4L2_CID_MPEG_VIDEO_BITRATE, min + (wanted - min) / step * step)
            }
        };
        Ok(self.device.set_control(id, value, false)?)
    }
}

/// What became of asking for buffers, with how much memory that was.
fn no_buffers(error: V4l2Error, count: usize, bytes: usize) -> EncodeError {
    if error.errno() == libc::ENOMEM {
        EncodeError::Memory { error, shortage: Shortage::now(count, bytes) }
    } else {
        error.into()
    }
}

/// The JPEG without Exif data, which the Pi's encoder may put in: programs that look for the first end of an image would
/// find that of its thumbnail.
fn without_exif(data: &[u8]) -> Result<Encoded<'_>, EncodeError> {
    const APP1: [u8; 2] = [0xff, 0xe1];
    let info = jpeg::headers(data)?;
    let data = &data[..info.end(data)?];
    let whole = Encoded::of_jpeg(data, &info, false);
    // Behind SOI, or behind the JFIF segment there.
    let jfif = if data.get(2..4) == Some(&[0xff, 0xe0]) { segment_length(data, 2) } else { Some(0) };
    let exif = jfif.map(|length| 2 + length).filter(|at| data.get(*at..at + 2) == Some(&APP1));
    let Some((at, end)) = exif.and_then(|at| Some((at, at + segment_length(data, at)?))) else { return Ok(whole) };
    match whole.pieces {
        // Tables that had to be inserted come later in the file than Exif data, if they are missing at all.
        [_, [], ..] if info.start == 0 => {
            Ok(Encoded { pieces: [&data[..at], data.get(end..).unwrap_or_default(), &[], &[]], size: whole.size })
        }
        _ => Ok(whole),
    }
}

/// Bytes of the segment whose marker is at `at`, marker included.
fn segment_length(data: &[u8], at: usize) -> Option<usize> {
    let length = data.get(at + 2..at + 4)?;
    Some(2 + usize::from(u16::from_be_bytes([length[0], length[1]])))
}

/// A time stamp comes back cut to microseconds.
fn same_moment(frame: MonotonicTime, stamp: MonotonicTime) -> bool {
    frame.since(stamp) < Duration::from_micros(1) && stamp <= frame
}

/// Bits per second for a JPEG quality. 0.48 bits per pixel, the 30 Mb/s at 1080p30 that picamera2 calls good, stand for
/// quality 80; the others are of libjpeg's usual sizes in proportion to that.
fn bit_rate(quality: u32, size: Size, frame_rate: f64) -> i64 {
    const BITS_PER_PIXEL: [(f64, f64); 7] =
        [(1.0, 0.05), (25.0, 0.17), (50.0, 0.27), (70.0, 0.37), (80.0, 0.48), (90.0, 0.75), (100.0, 2.0)];
    let quality = f64::from(quality.clamp(1, 100));
    let bits = BITS_PER_PIXEL.windows(2).find(|pair| quality <= pair[1].0).map_or(BITS_PER_PIXEL[6].1, |pair| {
        let [(q0, b0), (q1, b1)] = [pair[0], pair[1]];
        b0 + (b1 - b0) * (quality - q0) / (q1 - q0)
    });
    (bits * f64::from(size.width) * f64::from(size.height) * frame_rate) as i64
}

impl RateControl {
    fn of(device: &Device) -> Option<Self> {
        let usable = |id| device.query_control(id).filter(|c| c.maximum > c.minimum);
        if let Some(control) = usable(V4L2_CID_JPEG_COMPRESSION_QUALITY) {
            return Some(Self::Quality { min: control.minimum, max: control.maximum });
        }
        let control = usable(V4L2_CID_MPEG_VIDEO_BITRATE)?;
        Some(Self::Bitrate { min: control.minimum, max: control.maximum, step: (control.step as i64).max(1) })
    }
}

const JPEG: Fourcc = Fourcc::from_fourcc(b"JPEG");
const MJPEG: Fourcc = Fourcc::from_fourcc(b"MJPG");

/// A device that can encode what the camera delivers.
struct Candidate {
    device: Device,
    queues: Queues,
    coded: Fourcc,
}

impl Candidate {
    /// `None` for a device that is something else.
    fn at(path: &Path, format: PixelFormat) -> Result<Option<Self>, V4l2Error> {
        let device = Device::open(path)?;
        let capabilities = device.capability()?.device_caps();
        let queues = if capabilities.contains(Capabilities::VIDEO_M2M_MPLANE) {
            Queues { output: QueueType::VideoOutputMplane, capture: QueueType::VideoCaptureMplane }
        } else if capabilities.contains(Capabilities::VIDEO_M2M) {
            Queues { output: QueueType::VideoOutput, capture: QueueType::VideoCapture }
        } else {
            return Ok(None);
        };
        if !capabilities.contains(Capabilities::STREAMING)
            || !device.formats(queues.output).contains(&v4l2::fourcc(format))
        {
            return Ok(None);
        }
        let offered = device.formats(queues.capture);
        let coded = [JPEG, MJPEG].into_iter().find(|coded| offered.contains(coded));
        Ok(coded.map(|coded| Self { device, queues, coded }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_rate_grows_with_quality_size_and_rate() {
        let full = Size { width: 1920, height: 1080 };
        let at_80 = bit_rate(80, full, 30.0);
        assert!((29_000_000..31_000_000).contains(&at_80), "{at_80}");
        let rates: Vec<i64> = (1..=100).map(|quality| bit_rate(quality, full, 30.0)).collect();
        assert!(rates.windows(2).all(|pair| pair[0] < pair[1]), "{rates:?}");
        assert_eq!(bit_rate(80, full, 15.0), at_80 / 2);
        assert_eq!(bit_rate(0, full, 30.0), rates[0]);
        assert_eq!(bit_rate(1000, full, 30.0), rates[99]);
    }

    #[test]
    fn time_stamps_are_matched_to_the_microsecond() {
        let frame = MonotonicTime::from_nanos(1_000_001_999);
        assert!(same_moment(frame, MonotonicTime::from_nanos(1_000_001_000)));
        assert!(!same_moment(frame, MonotonicTime::from_nanos(1_000_000_000)));
        assert!(!same_moment(frame, MonotonicTime::from_nanos(1_000_002_000)));
    }
}
