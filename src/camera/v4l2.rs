//! A camera spoken to through V4L2 itself: webcams, on machines with or without libcamera.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use v4l2r::bindings::{self, V4L2_CID_HFLIP, V4L2_CID_VFLIP};

use super::control::{Control, Kind, Value};
use super::find::{self, Found, Survey};
use super::memory::Shortage;
use super::rate::{self, Rate};
use super::stamp::Stamps;
use super::{
    BufferIndex, Camera, CameraError, CameraInfo, CameraSummary, Orientation, RefusedControl, StreamRequest, govern,
};
use crate::frame::{Geometry, MonotonicTime, PixelFormat, Plane, PlaneMut, RawFrame, RawFrameMut, Size};
use crate::os::{self, Events, dma_buf};
use crate::v4l2::{
    self, Dequeued, Device, Format, Fourcc, MemoryType, Payload, PlaneLayout, PlaneMapping, QueueType, V4l2Error,
    until_zero,
};

/// The formats that can be encoded or passed on, best first, as with libcamera. `JPEG` is what some drivers call `MJPG`.
const CANDIDATES: [(&[u8; 4], PixelFormat); 8] = [
    (b"MJPG", PixelFormat::Mjpeg),
    (b"JPEG", PixelFormat::Mjpeg),
    (b"YU12", PixelFormat::Yuv420),
    (b"NV12", PixelFormat::Nv12),
    (b"YUYV", PixelFormat::Yuyv),
    (b"UYVY", PixelFormat::Uyvy),
    (b"YVYU", PixelFormat::Yvyu),
    (b"GREY", PixelFormat::Grey),
];

/// Whether a format is one of them.
pub(super) fn is_taken(format: Fourcc) -> bool {
    CANDIDATES.iter().any(|(fourcc, _)| format == Fourcc::from_fourcc(fourcc))
}

/// Their names.
pub(super) fn taken() -> String {
    let names = CANDIDATES.map(|(fourcc, _)| Fourcc::from_fourcc(fourcc).to_string());
    names.join(", ")
}

/// A V4L2 capture device, streaming.
pub struct V4l2Source {
    device: Device,
    queue: QueueType,
    info: CameraInfo,
    geometry: Geometry,
    buffers: Vec<Buffer>,
    stamps: Stamps,
    errored_frames: u64,
}

struct Buffer {
    mapping: PlaneMapping,
    /// The same as a dma-buf, where the driver exports it.
    dma_buf: Option<OwnedFd>,
    /// What it holds, while the driver does not have it.
    content: Option<Dequeued>,
    /// When it was last taken from the queue: what it holds next is not older.
    taken_at: MonotonicTime,
}

/// Whether there is a camera that `id` means; if not, why.
pub fn look(id: &str) -> Result<(), CameraError> {
    find(id).map(drop)
}

fn find(id: &str) -> Result<Found, CameraError> {
    if id.trim().starts_with("/dev/") {
        return find::at(Path::new(id.trim()));
    }
    let mut survey = Survey::now();
    let index = survey.choose(id)?;
    Ok(survey.cameras.swap_remove(index))
}

impl V4l2Source {
    /// Opens, configures and starts a camera. `id` is as for libcamera; a path such as `/dev/video2` names a device.
    ///
    /// Takes the first of [`CANDIDATES`] that the camera accepts. A size the camera does not have becomes one it has: see
    /// [`CameraInfo`].
    pub fn open(id: &str, request: &StreamRequest) -> Result<Self, CameraError> {
        let Found { device, queue, summary } = find(id)?;
        let CameraSummary { id, model, .. } = summary;
        let failed = |error: V4l2Error| failed(&id, error);

        let (pixel_format, v4l2::Granted { format, limited_range }) = negotiate(&device, queue, &id, request)?;
        let size = Size { width: format.width, height: format.height };
        if size != request.size {
            log::info!("camera {id} delivers {size} instead of {}", request.size);
        }
        let stride = match (pixel_format, format.plane_fmt.first()) {
            (PixelFormat::Mjpeg, _) | (_, None) => 0,
            (_, Some(plane)) => plane.bytesperline as usize,
        };
        let geometry = Geometry::new(pixel_format, size, stride);
        let frame_rate = Rate::new(request.frame_rate, device.set_frame_rate(queue, request.frame_rate));
        let turns = turn(&device, request.orientation);

        let wanted = || format!("{pixel_format} {size}");
        let requested = device.request_buffers(queue, MemoryType::Mmap, request.buffer_count);
        let count = requested.map_err(|error| match error.errno() {
            libc::ENOMEM => {
                let bytes = format.plane_fmt.first().map_or(0, |plane| plane.sizeimage as usize);
                let shortage = Shortage::now(request.buffer_count as usize, bytes);
                CameraError::NoMemory { id: id.clone(), wanted: wanted(), shortage }
            }
            _ => failed(error),
        })?;
        let mut buffers = Vec::with_capacity(count);
        for index in 0..count {
            let mapping = device.map(queue, index).map_err(failed)?;
            // Only an encoder has a use for it, and not every driver can.
            let dma_buf = if pixel_format == PixelFormat::Mjpeg { None } else { device.export(queue, index).ok() };
            device.queue(queue, index, Payload::Empty, None).map_err(failed)?;
            buffers.push(Buffer { mapping, dma_buf, content: None, taken_at: MonotonicTime::now() });
        }
        let exported = !buffers.is_empty() && buffers.iter().all(|buffer| buffer.dma_buf.is_some());
        let info = CameraInfo {
            source: "v4l2",
            model,
            pixel_format,
            size,
            stride,
            frame_rate,
            buffer_count: count,
            dma_buf_offsets: exported.then(|| geometry.offsets()),
            turns,
            limited_range: limited_range && pixel_format != PixelFormat::Mjpeg,
            id: id.clone(),
        };
        device.stream_on(queue).map_err(|error| match error.errno() {
            libc::ENOSPC => {
                CameraError::NoBandwidth { id: id.clone(), wanted: format!("{} at {frame_rate}", wanted()) }
            }
            _ => failed(error),
        })?;
        Ok(Self { device, queue, info, geometry, buffers, stamps: Stamps::new(frame_rate), errored_frames: 0 })
    }

    /// Makes the cache coherent around writing to a buffer, for another device. For reading the kernel does so when a buffer
    /// is taken from the queue.
    fn sync(
        &self,
        buffer: BufferIndex,
        access: impl FnOnce(BorrowedFd<'_>, bool) -> io::Result<()>,
    ) -> Result<(), CameraError> {
        let Some(dma_buf) = self.buffers.get(buffer.0).and_then(|buffer| buffer.dma_buf.as_ref()) else {
            return Ok(());
        };
        match access(dma_buf.as_fd(), true) {
            Err(source) if !dma_buf::is_unsupported(&source) => {
                Err(CameraError::of_call(&self.info.id, "DMA_BUF_IOCTL_SYNC", source))
            }
            _ => Ok(()),
        }
    }
}

/// A device's error as a camera's.
pub(super) fn failed(id: &str, error: V4l2Error) -> CameraError {
    CameraError::of_call(id, error.call, error.source)
}

/// Picks the first supported format the driver accepts and returns its adjusted size.
fn negotiate(
    device: &Device,
    queue: QueueType,
    id: &str,
    request: &StreamRequest,
) -> Result<(PixelFormat, v4l2::Granted), CameraError> {
    let offered = device.formats(queue);
    let mut reasons = Vec::new();
    for (fourcc, candidate) in CANDIDATES {
        let fourcc = Fourcc::from_fourcc(fourcc);
        if !offered.contains(&fourcc) {
            continue;
        }
        let wanted = Format {
            width: request.size.width,
            height: request.size.height,
            pixelformat: fourcc,
            plane_fmt: vec![PlaneLayout::default()],
        };
        let answer = device.set_format(queue, &wanted).map_err(|error| failed(id, error))?;
        let granted = &answer.format;
        let size = Size { width: granted.width, height: granted.height };
        let Some(plane) = granted.plane_fmt.first() else { continue };
        let (stride, length) = (plane.bytesperline as usize, plane.sizeimage as usize);
        if granted.pixelformat != fourcc || size.width == 0 || size.height == 0 {
            reasons.push(format!("{fourcc} becomes {}", granted.pixelformat));
        } else if !Geometry::new(candidate, size, stride).fits(length) {
            reasons.push(format!("{fourcc} {size} with stride {stride} does not fit {length} bytes"));
        } else {
            return Ok((candidate, answer));
        }
    }
    let offered: Vec<String> = offered.iter().map(ToString::to_string).collect();
    Err(CameraError::Unsupported {
        id: id.to_owned(),
        wanted: format!("any of {} at {}", taken(), request.size),
        reason: format!("it offers {}; {}", offered.join(", "), reasons.join(", ")),
    })
}

/// Asks the driver to turn the picture, where it has the controls. Returns whether it does.
fn turn(device: &Device, orientation: Orientation) -> bool {
    let (horizontal, vertical) = match orientation {
        Orientation::MirrorHorizontal => (1, 0),
        Orientation::MirrorVertical => (0, 1),
        Orientation::Rotate180 => (1, 1),
        // Also taken back where an earlier program left it.
        Orientation::Rotate0 | Orientation::Rotate90 | Orientation::Rotate270 => (0, 0),
    };
    let set = |id, value| match device.set_control(id, value, false) {
        Ok(()) => device.control(id, false).is_ok_and(|now| now == value),
        // A control that is not there is as good as one that is off.
        Err(_) => value == 0,
    };
    let done = set(V4L2_CID_HFLIP, horizontal) & set(V4L2_CID_VFLIP, vertical);
    if !done {
        // All or nothing: the rest of the program turns it.
        set(V4L2_CID_HFLIP, 0);
        set(V4L2_CID_VFLIP, 0);
    }
    done && !orientation.transposes()
}

impl Camera for V4l2Source {
    fn info(&self) -> &CameraInfo {
        &self.info
    }

    fn acquire(&mut self, timeout: Duration, also: Option<BorrowedFd<'_>>) -> Result<Option<BufferIndex>, CameraError> {
        let deadline = Instant::now() + timeout;
        loop {
            let done =
                self.device.dequeue(self.queue, MemoryType::Mmap).map_err(|error| failed(&self.info.id, error))?;
            if let Some(done) = done {
                let Some(buffer) = self.buffers.get_mut(done.index) else { continue };
                let empty = done.bytes_used == 0 && self.info.pixel_format == PixelFormat::Mjpeg;
                if done.has_error || empty {
                    self.errored_frames += 1;
                    self.queue(BufferIndex(done.index))?;
                    if Instant::now() >= deadline {
                        return Ok(None);
                    }
                    continue;
                }
                let stamp = done.timestamp.since(MonotonicTime::from_nanos(0)).as_nanos() as u64;
                let now = MonotonicTime::now();
                let timestamp = self.stamps.judge(stamp, buffer.taken_at, now);
                buffer.taken_at = now;
                buffer.content = Some(Dequeued { timestamp, ..done });
                return Ok(Some(BufferIndex(done.index)));
            }
            self.stamps.found_empty();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let (ours, other) = os::wait(Some(self.device.as_fd()), also, left);
            if ours.intersects(Events::POLLERR | Events::POLLHUP) && !ours.contains(Events::POLLIN) {
                // Either it is gone, which the next call tells, or all its buffers are with us.
                std::thread::sleep(left.min(Duration::from_millis(5)));
            }
            if !other.is_empty() {
                return Ok(None);
            }
        }
    }

    fn view(&self, buffer: BufferIndex) -> RawFrame<'_> {
        let geometry = &self.geometry;
        let held = self.buffers.get(buffer.0).and_then(|buffer| Some((buffer, buffer.content?)));
        let planes = held.into_iter().flat_map(|(buffer, content)| {
            let fd = buffer.dma_buf.as_ref().map(AsFd::as_fd);
            let used = content.bytes_used.min(buffer.mapping.len());
            // Drivers that leave bytes_used at 0 for raw pictures mean all of it.
            let used = if used == 0 { buffer.mapping.len() } else { used };
            geometry.planes().iter().enumerate().map(move |(number, plane)| {
                let data = buffer.mapping.get(geometry.range(number, used)).unwrap_or_default();
                Plane { data, stride: plane.stride, fd, offset: plane.offset }
            })
        });
        let (sequence, captured_at) = held
            .map_or((0, MonotonicTime::from_nanos(0)), |(_, content)| (u64::from(content.sequence), content.timestamp));
        RawFrame::new(self.info.pixel_format, self.info.size, planes, sequence, captured_at)
    }

    fn view_mut(&mut self, buffer: BufferIndex) -> Option<RawFrameMut<'_>> {
        let buffer = self.buffers.get_mut(buffer.0).filter(|buffer| buffer.content.is_some())?;
        let mut planes = [const { None }; 3];
        let length = buffer.mapping.len();
        let mut rest: &mut [u8] = &mut buffer.mapping;
        for (number, (to, plane)) in planes.iter_mut().zip(self.geometry.planes()).enumerate() {
            let length = self.geometry.range(number, length).len();
            let (data, behind) = std::mem::take(&mut rest).split_at_mut_checked(length)?;
            *to = Some(PlaneMut { data, stride: plane.stride });
            rest = behind;
        }
        Some(RawFrameMut { pixel_format: self.info.pixel_format, size: self.info.size, planes })
    }

    fn begin_cpu_access(&mut self, buffer: BufferIndex, writes: bool) -> Result<(), CameraError> {
        if writes { self.sync(buffer, dma_buf::begin_cpu_access) } else { Ok(()) }
    }

    fn end_cpu_access(&mut self, buffer: BufferIndex, writes: bool) -> Result<(), CameraError> {
        if writes { self.sync(buffer, dma_buf::end_cpu_access) } else { Ok(()) }
    }

    fn queue(&mut self, buffer: BufferIndex) -> Result<(), CameraError> {
        if let Some(buffer) = self.buffers.get_mut(buffer.0) {
            buffer.content = None;
        }
        self.device.queue(self.queue, buffer.0, Payload::Empty, None).map_err(|error| failed(&self.info.id, error))
    }

    fn errored_frames(&self) -> u64 {
        self.errored_frames
    }

    fn controls(&mut self) -> Result<Vec<Control>, CameraError> {
        Ok(self.device.controls().iter().filter_map(|raw| describe(&self.device, raw)).collect())
    }

    fn exposure(&mut self) -> Duration {
        // One question, where asking for all controls takes a USB camera dozens.
        let value = self.device.control(bindings::V4L2_CID_EXPOSURE_ABSOLUTE, false).unwrap_or(0);
        rate::of_v4l2(value)
    }

    fn set_controls(&mut self, values: &[(Control, Value)]) -> Result<(), CameraError> {
        let device = &self.device;
        let set = |control: &Control, value: &Value| {
            let number = match value {
                Value::Bool(value) => i64::from(*value),
                Value::Integer(value) => *value,
                _ => 0,
            };
            let is_wide = device.query_control(control.id).is_some_and(|raw| raw.type_ == TYPE_INTEGER64);
            device.set_control(control.id, number, is_wide)
        };
        // What was in the way must be looked at before anything is set back.
        let mut remedy = None;
        let noting = |control: &Control, value: &Value| {
            let result = set(control, value);
            if result.is_err() {
                remedy.get_or_insert_with(|| {
                    let known: Vec<Control> =
                        device.controls().iter().filter_map(|raw| describe(device, raw)).collect();
                    govern::remedy(&known, control)
                });
            }
            result
        };
        govern::set_all(values, noting).map_err(|refused| {
            let (control, value) = &values[refused.at];
            CameraError::Control(Box::new(RefusedControl {
                id: self.info.id.clone(),
                name: control.name.clone(),
                value: value.clone(),
                source: refused.error.source,
                remedy: remedy.flatten(),
                stuck: refused.stuck,
            }))
        })
    }
}

impl Drop for V4l2Source {
    fn drop(&mut self) {
        // Closing does the same; a device that was unplugged refuses both.
        if let Err(error) = self.device.stream_off(self.queue) {
            log::debug!("{error}");
        }
        log::debug!("closed {} (descriptor {})", self.info.id, self.device.as_fd().as_raw_fd());
    }
}

const TYPE_INTEGER64: u32 = bindings::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER64;

/// Converts a control; `None` for headings, disabled controls and types without a number.
fn describe(device: &Device, raw: &bindings::v4l2_query_ext_ctrl) -> Option<Control> {
    // Turning the picture is a setting of ours.
    if raw.flags & bindings::V4L2_CTRL_FLAG_DISABLED != 0 || [V4L2_CID_HFLIP, V4L2_CID_VFLIP].contains(&raw.id) {
        return None;
    }
    let kind = match raw.type_ {
        bindings::v4l2_ctrl_type_V4L2_CTRL_TYPE_BOOLEAN => Kind::Boolean,
        bindings::v4l2_ctrl_type_V4L2_CTRL_TYPE_MENU | bindings::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER_MENU => {
            Kind::Enum
        }
        bindings::v4l2_ctrl_type_V4L2_CTRL_TYPE_BUTTON => Kind::Button,
        bindings::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER
        | bindings::v4l2_ctrl_type_V4L2_CTRL_TYPE_BITMASK
        | TYPE_INTEGER64 => Kind::Integer,
        _ => return None,
    };
    if raw.nr_of_dims != 0 {
        return None;
    }
    let options = if kind == Kind::Enum {
        let is_integer = raw.type_ == bindings::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER_MENU;
        // A menu of more is a driver's mistake.
        (raw.minimum.max(0)..=raw.maximum.min(255))
            .filter_map(|index| Some((index, device.menu_entry(raw.id, index as u32, is_integer)?)))
            .collect()
    } else {
        Vec::new()
    };
    let typed = |number: i64| match kind {
        Kind::Boolean => Value::Bool(number != 0),
        _ => Value::Integer(number),
    };
    let has_range = kind == Kind::Integer;
    let has_value = kind != Kind::Button && raw.flags & bindings::V4L2_CTRL_FLAG_WRITE_ONLY == 0;
    let value = if has_value { device.control(raw.id, raw.type_ == TYPE_INTEGER64).ok() } else { None };
    // A bit mask has no sign; its default and bounds come without, too.
    let is_mask = raw.type_ == bindings::v4l2_ctrl_type_V4L2_CTRL_TYPE_BITMASK;
    let value = value.map(|number| typed(if is_mask { i64::from(number as u32) } else { number }));
    let name: Vec<u8> = raw.name.iter().map(|&c| c as u8).collect();
    Some(Control {
        id: raw.id,
        name: until_zero(&name),
        kind,
        array: None,
        min: has_range.then(|| typed(raw.minimum)),
        max: has_range.then(|| typed(raw.maximum)),
        step: if has_range { raw.step } else { 1 },
        default: (kind != Kind::Button).then(|| typed(raw.default_value)),
        value,
        options,
        read_only: raw.flags & bindings::V4L2_CTRL_FLAG_READ_ONLY != 0,
    })
}
