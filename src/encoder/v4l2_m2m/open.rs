//! Opens the device: which one, its formats, its buffers.

use std::collections::VecDeque;
use std::path::Path;

use v4l2r::ioctl::Capabilities;

use super::quality::RateControl;
use super::{IN_FLIGHT, M2m, Memory, Output, Queues};
use crate::camera::CameraInfo;
use crate::camera::memory::Shortage;
use crate::encoder::EncodeError;
use crate::frame::{Geometry, PixelFormat};
use crate::v4l2::{self, Device, Format, Fourcc, MemoryType, Payload, PlaneLayout, QueueType, V4l2Error};

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
        let formats = candidate.set_formats(camera)?;
        let Candidate { device, queues, .. } = candidate;
        // Only a bit rate needs it.
        let delivered = camera.frame_rate.delivered();
        let granted = device.set_frame_rate(queues.output, delivered).filter(|rate| rate.is_finite() && *rate > 0.0);
        let rate = RateControl::of(&device);
        let mut encoder = Self {
            device,
            queues,
            size: camera.size,
            pixel_format: camera.pixel_format,
            geometry: formats.geometry,
            input_length: formats.input_length,
            memory: Memory::DmaBuf,
            copy_reason: String::new(),
            captures: Vec::new(),
            jobs: VecDeque::with_capacity(IN_FLIGHT),
            outputs: Vec::new(),
            requeue: None,
            rate,
            frame_rate: granted.unwrap_or(delivered),
            encoded: 0,
        };
        encoder.set_quality(quality)?;
        encoder.request_outputs(camera, may_import)?;
        encoder.request_captures(formats.jpeg_length)?;
        encoder.device.stream_on(queues.output)?;
        encoder.device.stream_on(queues.capture)?;
        Ok(encoder)
    }

    /// Has OUTPUT take the camera's buffers, or gives it buffers of its own.
    fn request_outputs(&mut self, camera: &CameraInfo, may_import: bool) -> Result<(), EncodeError> {
        if let Some(reason) = self.import_refused(camera, may_import) {
            return self.copy_frames(reason);
        }
        let count = camera.buffer_count;
        match self.device.request_buffers(self.queues.output, MemoryType::DmaBuf, count as u32) {
            // As many as the camera has, or a camera's buffer would have no place.
            Ok(granted) if granted >= count => {
                self.outputs = vec![Output::Free; granted];
                Ok(())
            }
            Ok(granted) => self.copy_frames(format!("it takes {granted} dma-bufs, the camera has {count}")),
            Err(error) => self.copy_frames(format!("it takes no dma-bufs: {}", error.source)),
        }
    }

    /// Gives CAPTURE two buffers, so that one can be read while the other is written; each is some MB of scarce memory, so
    /// one has to do where there is no more.
    fn request_captures(&mut self, bytes: usize) -> Result<(), EncodeError> {
        let queue = self.queues.capture;
        let count = match self.device.request_buffers(queue, MemoryType::Mmap, 2) {
            Err(error) if error.errno() == libc::ENOMEM => self.device.request_buffers(queue, MemoryType::Mmap, 1),
            result => result,
        }
        .map_err(|error| no_buffers(error, 1, bytes))?;
        for index in 0..count {
            self.captures.push(self.device.map(queue, index)?);
            self.device.queue(queue, index, Payload::Empty, None)?;
        }
        Ok(())
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
    pub(super) fn stop_importing(&mut self, refusal: &V4l2Error) -> Result<(), EncodeError> {
        log::info!("the encoder does not take the camera's buffers: {refusal}; frames are copied");
        self.device.stream_off(self.queues.output)?;
        self.device.request_buffers(self.queues.output, MemoryType::DmaBuf, 0)?;
        self.copy_frames(format!("it does not take the camera's buffers: {}", refusal.source))?;
        Ok(self.device.stream_on(self.queues.output)?)
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

    /// Sets the formats of both queues to what the camera delivers and to JPEG.
    fn set_formats(&self, camera: &CameraInfo) -> Result<Formats, EncodeError> {
        let Self { device, queues, coded } = self;
        let (size, wanted) = (camera.size, v4l2::fourcc(camera.pixel_format));
        let plane = PlaneLayout { bytesperline: camera.stride as u32, sizeimage: 0 };
        let raw = Format { width: size.width, height: size.height, pixelformat: wanted, plane_fmt: vec![plane] };
        let output = device.set_format(queues.output, &raw)?.format;
        let wrong = |queue, wanted: String, got: String| EncodeError::WrongFormatGranted {
            path: device.path().display().to_string(),
            queue,
            wanted,
            got,
        };
        let [input] = output.plane_fmt.as_slice() else {
            return Err(wrong("OUTPUT", "1 plane".to_owned(), format!("{} planes", output.plane_fmt.len())));
        };
        let described = |format: &Format| format!("{} {}x{}", format.pixelformat, format.width, format.height);
        if output.pixelformat != wanted || output.width < size.width || output.height < size.height {
            return Err(wrong("OUTPUT", described(&raw), described(&output)));
        }
        if (output.width, output.height) != (size.width, size.height) {
            // The driver aligned the buffer; what is to be seen stays the same.
            device.set_crop(size.width, size.height)?;
        }
        let jpeg = Format { width: size.width, height: size.height, pixelformat: *coded, plane_fmt: Vec::new() };
        let capture = device.set_format(queues.capture, &jpeg)?.format;
        if capture.pixelformat != *coded {
            // Old firmware without start_x gives H.264 (picamera2#351).
            return Err(wrong("CAPTURE", described(&jpeg), described(&capture)));
        }
        let (stride, rows) = (input.bytesperline as usize, output.height as usize);
        Ok(Formats {
            geometry: Geometry::padded(camera.pixel_format, size, stride, rows),
            input_length: input.sizeimage as usize,
            jpeg_length: capture.plane_fmt.first().map_or(0, |plane| plane.sizeimage as usize),
        })
    }
}

/// What the driver made of the formats it was asked for.
struct Formats {
    /// Where it looks for the planes of a frame.
    geometry: Geometry,
    /// Bytes of an OUTPUT buffer.
    input_length: usize,
    /// Bytes of a CAPTURE buffer.
    jpeg_length: usize,
}
