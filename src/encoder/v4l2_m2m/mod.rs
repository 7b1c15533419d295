//! The hardware's JPEG encoder: a V4L2 memory-to-memory device (the kernel's `dev-encoder.rst`), such as the Pi's
//! bcm2835-codec.
//!
//! Frames go in by their dma-buf where the encoder can read the camera's layout, else by one copy. Encoding goes on while
//! the camera fills its next buffer: [`M2m::submit`] queues, [`M2m::collect`] takes what is finished.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::{EncodeError, Encoded};
use crate::camera::BufferIndex;
use crate::frame::{Geometry, MonotonicTime, PixelFormat, Plane, RawFrame, ShortPlane, Size, copy};
use crate::v4l2::{Dequeued, Device, MemoryType, Payload, PlaneMapping, QueueType, V4l2Error};

mod exif;
mod open;
mod quality;

use exif::without_exif;
use quality::RateControl;

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
            return self.import(frame, plane, buffer, stamp);
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

    /// Gives the encoder the camera's buffer itself.
    fn import(
        &mut self,
        frame: &RawFrame<'_>,
        plane: &Plane<'_>,
        buffer: BufferIndex,
        stamp: MonotonicTime,
    ) -> Result<Submitted, EncodeError> {
        let bytes_used = self.input_length;
        let Some(fd) = plane.fd else {
            let (format, size, stride) = (frame.pixel_format, frame.size, plane.stride);
            return Err(ShortPlane { format, plane: 0, have: 0, need: bytes_used, size, stride }.into());
        };
        if self.outputs.get(buffer.0).is_none_or(|output| *output != Output::Free) {
            return Ok(Submitted::Busy);
        }
        let payload = Payload::DmaBuf { fd: fd.as_raw_fd(), bytes_used };
        match self.device.queue(self.queues.output, buffer.0, payload, Some(stamp)) {
            Ok(()) => {
                self.outputs[buffer.0] = Output::Holds(buffer);
                self.jobs.push_back(Job::begin(frame.captured_at));
                Ok(Submitted::Queued { holds_buffer: true })
            }
            // The device itself is gone: nothing to be mended here.
            Err(error) if self.encoded > 0 || !self.jobs.is_empty() || error.errno() == libc::ENODEV => {
                Err(error.into())
            }
            Err(error) => {
                // This frame is not accessible to the processor; the next will be.
                self.stop_importing(&error)?;
                Ok(Submitted::Busy)
            }
        }
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
        let Some(job) = self.job_of(&done) else {
            // The rest of a JPEG that was larger than its buffer.
            return self.collect();
        };
        let result = jpeg_in(&self.captures[done.index], &done, self.size, &self.device);
        self.encoded += u64::from(result.is_ok());
        let Job { captured_at, submitted_at, .. } = job;
        Ok(Some(Collected::Encoded { result, captured_at, submitted_at }))
    }

    /// The job whose frame a CAPTURE buffer has. It is done then, as are all before it.
    fn job_of(&mut self, done: &Dequeued) -> Option<Job> {
        // Frames come back in order, with the time stamp they were queued with: it tells where one is missing. A buffer in
        // error has none, and neither has any of a driver that does not copy them.
        let unstamped = done.has_error || done.timestamp == MonotonicTime::from_nanos(0);
        let position = self
            .jobs
            .iter()
            .position(|job| same_moment(job.captured_at, done.timestamp))
            .or_else(|| (unstamped && !self.jobs.is_empty()).then_some(0))?;
        self.jobs.drain(..=position).next_back()
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

    /// Sets the JPEG quality, 1 to 100, from the next frame on; for an encoder that takes a bit rate what comes to about
    /// the same.
    pub fn set_quality(&mut self, quality: u32) -> Result<(), EncodeError> {
        let Some(rate) = self.rate else { return Ok(()) };
        let (id, value) = rate.value(quality, self.size, self.frame_rate);
        Ok(self.device.set_control(id, value, false)?)
    }
}

/// The JPEG in a CAPTURE buffer, of a frame of `size`.
fn jpeg_in<'a>(
    buffer: &'a PlaneMapping,
    done: &Dequeued,
    size: Size,
    device: &Device,
) -> Result<Encoded<'a>, EncodeError> {
    let path = || device.path().display().to_string();
    let data = buffer.get(done.data_offset..done.bytes_used).unwrap_or_default();
    if done.has_error || data.is_empty() {
        return Err(EncodeError::Damaged { path: path() });
    }
    let encoded = without_exif(data)?;
    if encoded.size == size {
        return Ok(encoded);
    }
    let (wanted, got) = (size.to_string(), encoded.size.to_string());
    Err(EncodeError::WrongFormatGranted { path: path(), queue: "CAPTURE", wanted, got })
}

/// A time stamp comes back cut to microseconds.
fn same_moment(frame: MonotonicTime, stamp: MonotonicTime) -> bool {
    frame.since(stamp) < Duration::from_micros(1) && stamp <= frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stamps_are_matched_to_the_microsecond() {
        let frame = MonotonicTime::from_nanos(1_000_001_999);
        assert!(same_moment(frame, MonotonicTime::from_nanos(1_000_001_000)));
        assert!(!same_moment(frame, MonotonicTime::from_nanos(1_000_000_000)));
        assert!(!same_moment(frame, MonotonicTime::from_nanos(1_000_002_000)));
    }
}
