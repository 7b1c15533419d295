//! The cameras libcamera knows: the Pi's own through the ISP, USB cameras, and its virtual ones for tests.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use ::libcamera::camera::ActiveCamera;
use ::libcamera::control::ControlList;
use ::libcamera::framebuffer::{AsFrameBuffer, FrameMetadataStatus};
use ::libcamera::framebuffer_allocator::{FrameBuffer, FrameBufferAllocator};
use ::libcamera::request::{Request, RequestStatus, ReuseFlag};
use ::libcamera::stream::Stream;

use super::control::{Control, Value};
use super::memory::Shortage;
use super::pace::Pace;
use super::pending::Pending;
use super::rate::Rate;
use super::stamp::Stamps;
use super::{BufferIndex, Camera, CameraError, CameraInfo, CameraSummary, RefusedControl, govern};
pub use super::{Orientation, StreamRequest};
use crate::frame::{MonotonicTime, PixelFormat, RawFrame, RawFrameMut};
use crate::os::Mapping;

mod buffers;
mod controls;
mod events;
mod manager;
mod negotiation;

use buffers::{Slot, common_offsets, layout, make_slots};
use controls::{from_libcamera, to_libcamera};
use events::{Event, Events};
use manager::Manager;
pub use manager::{list, version};
use negotiation::{Granted, frame_duration, is_virtual, negotiate};

/// Frames the IPA marks as unusable while exposure settles are passed over, but not for ever.
const STARTUP_FRAMES_MAX: u32 = 60;

/// A camera of libcamera's, streaming.
///
/// The order of the fields is the order in which they are dropped, after [`Drop`] has stopped the camera: requests
/// (which own the buffers), then the camera (released), then the allocator, then the manager. Nothing here borrows:
/// the crate hands out `ActiveCamera<'static>`, so this order is all that keeps the manager alive long enough.
pub struct LibcameraSource {
    slots: Vec<Slot>,
    events: Events,
    camera: ActiveCamera<'static>,
    _allocator: FrameBufferAllocator,
    _manager: Manager,
    stream: Stream,
    info: CameraInfo,
    stamps: Stamps,
    errored_frames: u64,
    startup_frames: u32,
    /// For a camera that is only as slow as it is asked: its beat. A request is queued when the next frame is due, not
    /// before, so the frame is of that moment.
    pace: Option<Pace>,
    /// With `pace`: slots that are neither queued nor with the caller.
    spare: Vec<usize>,
    /// Controls for the next requests.
    pending: Pending,
    /// What was set since the start.
    set_values: Vec<(u32, Value)>,
}

impl LibcameraSource {
    /// Opens, configures and starts a camera.
    ///
    /// `id` is empty for the first camera, a number for that place in the list, else a camera's id or model: equal, or
    /// a part of it that only one camera has, upper or lower case.
    ///
    /// The camera delivers the best format it has. A size it does not have becomes one it has: see [`CameraInfo`].
    pub fn open(id: &str, request: &StreamRequest) -> Result<Self, CameraError> {
        // Locals are dropped last to first, so a failure half-way takes things down in the right order as well.
        let manager = Manager::get()?;
        let (mut camera, CameraSummary { id, model, .. }) = manager.acquire(id)?;
        let is_virtual = is_virtual(&camera);
        let mut negotiated = negotiate(&camera, &id, request)?;
        let pixel_format = negotiated.pixel_format;
        let wanted = || format!("{pixel_format} {}", request.size);
        let buffers = negotiated.buffers();
        let failed_for_memory = |call| failed_for_memory(&id, call, wanted(), buffers);
        camera.configure(&mut negotiated.configuration).map_err(failed_for_memory("Camera::configure"))?;
        let unsupported = |reason: String| CameraError::Unsupported { id: id.clone(), wanted: wanted(), reason };
        let Granted { stream, size, stride, limited_range } =
            negotiated.granted().ok_or_else(|| unsupported("it has no stream".to_owned()))?;

        let mut allocator = FrameBufferAllocator::new(&camera);
        let allocated = allocator.alloc(&stream).map_err(failed_for_memory("FrameBufferAllocator::allocate"))?;
        let slots = make_slots(&mut camera, stream, allocated, |planes| {
            layout(planes, pixel_format, size, stride).map_err(unsupported)
        })?;
        let events = Events::of(&mut camera, slots.len()).map_err(failed(&id, "eventfd"))?;

        let duration = frame_duration(&camera, request.frame_rate);
        // Virtual cameras ignore FrameDurationLimits and are paced here.
        let granted = if is_virtual { Some(request.frame_rate) } else { duration.as_ref().map(|(_, rate)| *rate) };
        let frame_rate = Rate::new(request.frame_rate, granted);
        let info = CameraInfo {
            source: "libcamera",
            id,
            model,
            pixel_format,
            size,
            stride,
            frame_rate,
            buffer_count: slots.len(),
            dma_buf_offsets: common_offsets(&slots),
            // The virtual pipeline validates every orientation and ignores it.
            turns: negotiated.turns && !(is_virtual && request.orientation != Orientation::Rotate0),
            limited_range,
        };
        let mut source = Self {
            slots,
            events,
            stamps: Stamps::new(frame_rate),
            camera,
            _allocator: allocator,
            _manager: manager,
            stream,
            info,
            errored_frames: 0,
            startup_frames: 0,
            // It completes requests as fast as they are queued.
            pace: is_virtual.then(|| Pace::new(request.frame_rate)),
            spare: Vec::new(),
            pending: Pending::default(),
            set_values: Vec::new(),
        };
        source.start(duration.as_ref().map(|(controls, _)| &**controls), buffers.1)?;
        Ok(source)
    }

    /// Starts the camera, whose buffers have `bytes` each, and gives it its buffers.
    fn start(&mut self, controls: Option<&ControlList>, bytes: usize) -> Result<(), CameraError> {
        self.camera.start(controls).map_err(|error| cannot_start(&self.info, bytes, error))?;
        if self.pace.is_some() {
            self.spare.extend(0..self.slots.len());
            return Ok(());
        }
        for index in 0..self.slots.len() {
            self.submit(index)?;
        }
        Ok(())
    }

    /// Queues a slot's request. On failure it stays in the slot.
    fn submit(&mut self, index: usize) -> Result<(), CameraError> {
        let Some(mut request) = self.slots.get_mut(index).and_then(|slot| slot.request.take()) else {
            return Err(self.failed("Camera::queueRequest")(io::ErrorKind::InvalidInput.into()));
        };
        for (control, value) in self.pending.next_stage() {
            // That it can be made one of libcamera's was seen when it was set.
            if let Some(raw) = to_libcamera(&control, &value) {
                // Its failures are those of the types it never fails with.
                drop(request.controls_mut().set_raw(control.id, raw));
            }
        }
        self.camera.queue_request(request).map_err(|(request, error)| {
            self.slots[index].request = Some(request);
            self.failed("Camera::queueRequest")(error)
        })
    }

    /// Gives a request with its buffer back to the camera.
    fn recycle(&mut self, index: usize) -> Result<(), CameraError> {
        if let Some(request) = self.slots.get_mut(index).and_then(|slot| slot.request.as_mut()) {
            request.reuse(ReuseFlag::REUSE_BUFFERS);
        }
        if self.pace.is_some() {
            // Never more than there are slots, so this does not allocate.
            self.spare.push(index);
            return Ok(());
        }
        self.submit(index)
    }

    /// Takes in a completed request. True if its slot holds a frame; false if it is to be queued again.
    fn take_in(&mut self, index: usize, request: Request) -> bool {
        let usable = if request.status() == RequestStatus::Complete {
            self.read_metadata(index, &request)
        } else {
            self.errored_frames += 1;
            false
        };
        self.slots[index].request = Some(request);
        usable
    }

    /// Notes what the buffer holds; false if that is not a frame to show.
    fn read_metadata(&mut self, index: usize, request: &Request) -> bool {
        let Some(metadata) = request.buffer::<FrameBuffer>(&self.stream).and_then(AsFrameBuffer::metadata) else {
            self.errored_frames += 1;
            return false;
        };
        let status = metadata.status();
        if status == FrameMetadataStatus::Startup && self.startup_frames < STARTUP_FRAMES_MAX {
            self.startup_frames += 1;
            return false;
        }
        let slot = &mut self.slots[index];
        let used = metadata.planes();
        // The planes we lay out are the camera's own, but for a single plane that we divide ourselves.
        let reported = if used.len() >= slot.planes.len() { used.len() } else { 0 };
        let mut whole = matches!(status, FrameMetadataStatus::Success | FrameMetadataStatus::Startup);
        for (number, plane) in slot.planes.iter().enumerate() {
            let bytes = match used.get(number) {
                Some(plane) if number < reported => plane.bytes_used as usize,
                _ => 0,
            };
            let bytes = match (bytes, self.info.pixel_format) {
                (0, PixelFormat::Mjpeg) => 0,
                (0, _) => plane.length,
                (bytes, _) => bytes.min(plane.length),
            };
            whole &= bytes > 0 && bytes >= plane.least;
            slot.bytes_used[number] = bytes;
        }
        slot.sequence = u64::from(metadata.sequence());
        let now = MonotonicTime::now();
        slot.captured_at = self.stamps.judge(metadata.timestamp(), slot.taken_at, now);
        slot.taken_at = now;
        if !whole {
            self.errored_frames += 1;
        }
        whole
    }

    /// Makes the cache right around an access to an acquired buffer.
    fn sync(
        &self,
        buffer: BufferIndex,
        access: impl Fn(&Mapping, bool) -> io::Result<()>,
        writes: bool,
    ) -> Result<(), CameraError> {
        for mapping in self.slots.get(buffer.0).into_iter().flat_map(|slot| &slot.mappings) {
            access(mapping, writes).map_err(|error| failed(&self.info.id, "DMA_BUF_IOCTL_SYNC")(error))?;
        }
        Ok(())
    }

    fn failed(&self, call: &'static str) -> impl FnOnce(io::Error) -> CameraError + use<> {
        let disconnected = self.events.is_disconnected();
        let to_error = failed(&self.info.id, call);
        let id = self.info.id.clone();
        move |error| if disconnected { CameraError::Unplugged { id } } else { to_error(error) }
    }
}

impl Camera for LibcameraSource {
    fn info(&self) -> &CameraInfo {
        &self.info
    }

    fn acquire(&mut self, timeout: Duration, also: Option<BorrowedFd<'_>>) -> Result<Option<BufferIndex>, CameraError> {
        let mut passed_over = 0;
        if let Some(pace) = &mut self.pace {
            if pace.wait(timeout, also).is_none() {
                return Ok(None);
            }
            if let Some(index) = self.spare.pop() {
                self.submit(index)?;
            }
        }
        let deadline = Instant::now() + timeout;
        loop {
            if self.events.is_disconnected() {
                return Err(CameraError::Unplugged { id: self.info.id.clone() });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let request = match self.events.next(left, also) {
                Some(Event::Completed(request)) => request,
                Some(Event::Disconnected) => continue,
                None => {
                    self.stamps.found_empty();
                    return Ok(None);
                }
            };
            let index = request.cookie() as usize;
            if index >= self.slots.len() {
                continue; // Not one of ours.
            }
            if self.take_in(index, request) {
                return Ok(Some(BufferIndex(index)));
            }
            self.recycle(index)?;
            // A device that fails every request at once must not keep the processor busy.
            passed_over += 1;
            if passed_over > self.slots.len() {
                std::thread::sleep(left.min(Duration::from_millis(10)));
            }
            // And must not keep the caller from looking round.
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    fn view(&self, buffer: BufferIndex) -> RawFrame<'_> {
        let slot = self.slots.get(buffer.0).filter(|slot| slot.request.is_some());
        let planes = slot.into_iter().flat_map(Slot::view);
        let (sequence, captured_at) =
            slot.map_or((0, MonotonicTime::from_nanos(0)), |slot| (slot.sequence, slot.captured_at));
        RawFrame::new(self.info.pixel_format, self.info.size, planes, sequence, captured_at)
    }

    fn view_mut(&mut self, buffer: BufferIndex) -> Option<RawFrameMut<'_>> {
        let slot = self.slots.get_mut(buffer.0).filter(|slot| slot.request.is_some())?;
        Some(RawFrameMut { pixel_format: self.info.pixel_format, size: self.info.size, planes: slot.view_mut() })
    }

    fn begin_cpu_access(&mut self, buffer: BufferIndex, writes: bool) -> Result<(), CameraError> {
        self.sync(buffer, Mapping::begin_cpu_access, writes)
    }

    fn end_cpu_access(&mut self, buffer: BufferIndex, writes: bool) -> Result<(), CameraError> {
        self.sync(buffer, Mapping::end_cpu_access, writes)
    }

    fn queue(&mut self, buffer: BufferIndex) -> Result<(), CameraError> {
        self.recycle(buffer.0)
    }

    fn controls(&mut self) -> Result<Vec<Control>, CameraError> {
        let mut controls = controls::describe_all(self.camera.controls());
        for control in &mut controls {
            // What the camera itself reports with its frames counts more than what it was asked for.
            let reported = self
                .slots
                .iter()
                .filter_map(|slot| slot.request.as_ref())
                .flat_map(Request::metadata)
                .find_map(|(id, value)| (id == control.id).then(|| from_libcamera(&value)).flatten());
            let set = self.set_values.iter().find(|(id, _)| *id == control.id).map(|(_, value)| value.clone());
            control.value = reported.or(set).or_else(|| control.default.clone());
        }
        Ok(controls)
    }

    fn set_controls(&mut self, values: &[(Control, Value)]) -> Result<(), CameraError> {
        let known = self.controls()?;
        let id = &self.info.id;
        let refused = |control: &Control, value: &Value, kind: io::ErrorKind, remedy| {
            CameraError::Control(Box::new(RefusedControl {
                id: id.clone(),
                name: control.name.clone(),
                value: value.clone(),
                source: kind.into(),
                remedy,
                stuck: Vec::new(),
            }))
        };
        if let Some((control, value, remedy)) = govern::first_ignored(&known, values) {
            return Err(refused(control, value, io::ErrorKind::PermissionDenied, Some(remedy)));
        }
        // All are looked at before the first is set.
        if let Some((control, value)) = values.iter().find(|(control, value)| to_libcamera(control, value).is_none()) {
            return Err(refused(control, value, io::ErrorKind::InvalidInput, None));
        }
        for (control, value) in values {
            self.set_values.retain(|(id, _)| *id != control.id);
            self.set_values.push((control.id, value.clone()));
        }
        self.pending.set(values);
        Ok(())
    }

    fn errored_frames(&self) -> u64 {
        self.errored_frames
    }
}

impl Drop for LibcameraSource {
    fn drop(&mut self) {
        // Stopping completes every queued request as cancelled, which is an event: they must come home before the camera
        // goes, and not be destroyed on libcamera's thread.
        if let Err(error) = self.camera.stop() {
            log::warn!("Camera::stop failed for camera {}: {error}", self.info.id);
        }
        self.events.drain();
    }
}

/// An error of libcamera's, with the call and the camera in it.
fn failed(id: &str, call: &'static str) -> impl FnOnce(io::Error) -> CameraError + use<> {
    let id = id.to_owned();
    move |source| CameraError::of_call(&id, call, source)
}

/// The same for a call that takes memory for buffers, so many of so many bytes each.
fn failed_for_memory(
    id: &str,
    call: &'static str,
    wanted: String,
    (count, bytes): (usize, usize),
) -> impl FnOnce(io::Error) -> CameraError + use<> {
    let id = id.to_owned();
    move |error| match error.raw_os_error() {
        Some(libc::ENOMEM) => CameraError::NoMemory { id, wanted, shortage: Shortage::now(count, bytes) },
        _ => CameraError::of_call(&id, call, error),
    }
}

/// What keeps a camera from starting. Pipelines take memory of their own then (the sensor's raw pictures), and USB its
/// bandwidth.
fn cannot_start(info: &CameraInfo, bytes: usize, error: io::Error) -> CameraError {
    let wanted = format!("{} {}", info.pixel_format, info.size);
    if error.raw_os_error() == Some(libc::ENOSPC) {
        return CameraError::NoBandwidth { id: info.id.clone(), wanted: format!("{wanted} at {}", info.frame_rate) };
    }
    failed_for_memory(&info.id, "Camera::start", wanted, (info.buffer_count, bytes))(error)
}
