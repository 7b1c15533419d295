//! The cameras libcamera knows: the Pi's own through the ISP, USB cameras, and its virtual ones for tests.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, slice};

use ::libcamera::camera::{self as lc, ActiveCamera, CameraConfiguration};
use ::libcamera::camera_manager::{CameraList, CameraManager};
use ::libcamera::color_space::{ColorSpace, Range};
use ::libcamera::control::{ControlEntry, ControlList};
use ::libcamera::control_value::{ControlType, ControlValue};
use ::libcamera::controls::{ControlId, FrameDurationLimits};
use ::libcamera::framebuffer::{AsFrameBuffer, FrameMetadataStatus};
use ::libcamera::framebuffer_allocator::{FrameBuffer, FrameBufferAllocator};
use ::libcamera::request::{Request, RequestStatus, ReuseFlag};
use ::libcamera::stream::{Stream, StreamRole};
use ::libcamera::{geometry, pixel_format, properties};

use super::control::{Control, Kind, Value};
use super::memory::Shortage;
use super::pace::Pace;
use super::pending::Pending;
use super::rate::Rate;
use super::stamp::Stamps;
use super::{BufferIndex, Camera, CameraError, CameraInfo, CameraSummary, RefusedControl, choose, govern};
pub use super::{Orientation, StreamRequest};
use crate::frame::{Geometry, MonotonicTime, PixelFormat, Plane, PlaneGeometry, PlaneMut, RawFrame, RawFrameMut, Size};
use crate::v4l2;

/// Frames the IPA marks as unusable while exposure settles are passed over, but not for ever.
const STARTUP_FRAMES_MAX: u32 = 60;

/// The version of the libcamera in use, such as `v0.7.1`.
pub fn version() -> String {
    ::libcamera::version::runtime_version().to_owned()
}

/// The cameras present.
pub fn list() -> Result<Vec<CameraSummary>, CameraError> {
    let manager = Manager::get()?;
    let cameras = manager.cameras();
    Ok(summaries(&cameras, true))
}

fn summaries(cameras: &CameraList<'static>, with_formats: bool) -> Vec<CameraSummary> {
    (0..cameras.len())
        .filter_map(|index| {
            let camera = cameras.get(index)?;
            Some(CameraSummary {
                index,
                id: camera.id().to_owned(),
                model: model(&camera),
                formats: if with_formats { offered_formats(&camera) } else { String::new() },
            })
        })
        .collect()
}

fn model(camera: &lc::Camera<'_>) -> String {
    camera.properties().get::<properties::Model>().map_or_else(|_| camera.id().to_owned(), |model| model.0)
}

fn offered_formats(camera: &lc::Camera<'_>) -> String {
    let Some(configuration) = camera.generate_configuration(&[StreamRole::VideoRecording]) else {
        return String::new();
    };
    let Some(stream) = configuration.get(0) else { return String::new() };
    let offered = stream.formats();
    let pixel_formats = offered.pixel_formats();
    let formats: Vec<String> = (0..pixel_formats.len())
        .filter_map(|index| pixel_formats.get(index))
        .map(|format| {
            let sizes = offered.sizes(format);
            let sizes: Vec<String> = sizes.iter().map(|size| format!("{}x{}", size.width, size.height)).collect();
            format!("{format} {}", sizes.join(" "))
        })
        .collect();
    formats.join("; ")
}

/// libcamera's manager, shared by all that use libcamera in this process at the time.
///
/// Only one may exist at a time (a second one aborts the process), and only a new one is sure to find a camera that
/// appeared later: without udev's monitor libcamera never looks again. So it lives as long as anyone uses it, and each
/// opening after that starts from a fresh enumeration.
struct Manager(());

static MANAGER: Mutex<Shared> = Mutex::new(Shared { users: 0, manager: None });

struct Shared {
    users: usize,
    manager: Option<SendManager>,
}

struct SendManager(CameraManager);

// SAFETY: libcamera's manager is not tied to a thread (its work runs on a thread of its own); what it does ask for is
// that calls do not overlap, and all of ours are made under MANAGER's lock.
unsafe impl Send for SendManager {}

fn shared() -> MutexGuard<'static, Shared> {
    MANAGER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Manager {
    fn get() -> Result<Self, CameraError> {
        let mut shared = shared();
        if shared.manager.is_none() {
            let manager = CameraManager::new().map_err(|source| CameraError::Refused {
                id: "(any)".to_owned(),
                call: "CameraManager::start",
                source,
            })?;
            shared.manager = Some(SendManager(manager));
        }
        shared.users += 1;
        Ok(Self(()))
    }

    /// The list holds references to cameras, which must be gone before the manager is. The crate's types do not say so
    /// (their lifetime is free): whoever keeps one keeps a [`Manager`] longer.
    fn cameras(&self) -> CameraList<'static> {
        let Self(()) = self;
        match &shared().manager {
            Some(SendManager(manager)) => manager.cameras(),
            None => unreachable!("the shared manager lives as long as any Manager"),
        }
    }

    /// Acquires a camera for this process alone: libcamera keeps other processes out, but between threads it checks and
    /// takes in two steps, so two could get the same camera (tried: it aborts the process).
    fn acquire(&self, camera: &lc::Camera<'static>) -> io::Result<ActiveCamera<'static>> {
        let Self(()) = self;
        let _one_at_a_time = shared();
        camera.acquire()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let mut shared = shared();
        shared.users -= 1;
        if shared.users == 0 {
            // Under the lock, for a new one must not start before this one is gone.
            shared.manager = None;
        }
    }
}

/// What libcamera's thread tells us.
enum Event {
    Completed(Request),
    Disconnected,
}

/// A camera of libcamera's, streaming.
///
/// The order of the fields is the order in which they are dropped, after [`Drop`] has stopped the camera: requests
/// (which own the buffers), then the camera (released), then the allocator, then the manager. Nothing here borrows:
/// the crate hands out `ActiveCamera<'static>`, so this order is all that keeps the manager alive long enough.
pub struct LibcameraSource {
    slots: Vec<Slot>,
    events: Receiver<Event>,
    camera: ActiveCamera<'static>,
    _allocator: FrameBufferAllocator,
    _manager: Manager,
    stream: Stream,
    disconnected: Arc<AtomicBool>,
    info: CameraInfo,
    stamps: Stamps,
    errored_frames: u64,
    startup_frames: u32,
    /// For a camera that is only as slow as it is asked: its beat. A request is queued when the next frame is due, not
    /// before, so the frame is of that moment.
    pace: Option<Pace>,
    /// With `pace`: slots that are neither queued nor with the caller.
    spare: Vec<usize>,
    /// Readable when a request has completed, for who waits for something else as well; see `signal_wanted`.
    signal: Arc<OwnedFd>,
    /// Set once somebody does: the signal costs a system call per frame.
    signal_wanted: Arc<AtomicBool>,
    /// Controls for the next requests.
    pending: Pending,
    /// What was set since the start.
    set_values: Vec<(u32, Value)>,
}

/// A buffer, its request and, once completed, what it holds.
struct Slot {
    /// Here before the start and between `acquire` and `queue`; otherwise libcamera has it, or `events`.
    request: Option<Request>,
    mappings: Vec<Mapping>,
    planes: Vec<PlaneLayout>,
    bytes_used: [usize; 3],
    sequence: u64,
    captured_at: MonotonicTime,
    /// When it last came home: what it holds next is not older.
    taken_at: MonotonicTime,
}

/// Where a plane lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PlaneLayout {
    /// Index in the slot's mappings: planes may share a dma-buf.
    mapping: usize,
    offset: usize,
    length: usize,
    stride: usize,
    /// Fewer bytes than this are not a picture; 0 for MJPEG.
    least: usize,
}

impl LibcameraSource {
    /// Opens, configures and starts a camera.
    ///
    /// `id` is empty for the first camera, a number for that place in the list, else a camera's id or model: equal, or
    /// a part of it that only one camera has, upper or lower case.
    ///
    /// The first of [`CANDIDATES`] that the camera grants is taken. A size the camera does not have becomes one
    /// it has: see [`CameraInfo`].
    pub fn open(id: &str, request: &StreamRequest) -> Result<Self, CameraError> {
        // Locals are dropped last to first, so a failure half-way takes things down in the right order as well.
        let manager = Manager::get()?;
        let cameras = manager.cameras();
        let found = summaries(&cameras, false);
        let chosen = choose(&found, id)?;
        let Some(camera) = cameras.get(chosen) else { return Err(CameraError::NoCamera) };
        let CameraSummary { id, model, .. } = found[chosen].clone();
        drop(cameras);

        let mut active = manager.acquire(&camera).map_err(failed(&id, "Camera::acquire"))?;
        drop(camera);
        let virtual_pipeline = is_virtual(&active);
        let (mut configuration, pixel_format, turns) = negotiate(&active, &id, request)?;
        // The virtual pipeline validates every orientation and ignores it.
        let turns = turns && !(virtual_pipeline && request.orientation != Orientation::Rotate0);
        let (count, bytes) =
            configuration.get(0).map_or((0, 0), |stream| (stream.get_buffer_count(), stream.get_frame_size()));
        let shortage = |error: io::Error, call| match error.raw_os_error() {
            Some(libc::ENOMEM) => CameraError::NoMemory {
                id: id.clone(),
                wanted: format!("{pixel_format} {}", request.size),
                shortage: Shortage::now(count as usize, bytes as usize),
            },
            _ => failed(&id, call)(error),
        };
        active.configure(&mut configuration).map_err(|error| shortage(error, "Camera::configure"))?;

        let unsupported = |reason: String| CameraError::Unsupported {
            id: id.clone(),
            wanted: format!("{pixel_format} {}", request.size),
            reason,
        };
        let (size, stride, stream, range) = {
            let granted = configuration.get(0).ok_or_else(|| unsupported("it has no stream".to_owned()))?;
            let size = Size { width: granted.get_size().width, height: granted.get_size().height };
            let stream = granted.stream().ok_or_else(|| unsupported("it has no stream".to_owned()))?;
            (size, granted.get_stride() as usize, stream, granted.get_color_space().map(|space| space.range))
        };
        let stride = match pixel_format {
            PixelFormat::Mjpeg => 0,
            // Some pipelines leave it 0 for "no padding".
            _ if stride == 0 => size.width as usize,
            _ => stride,
        };

        let mut allocator = FrameBufferAllocator::new(&active);
        let buffers = allocator.alloc(&stream).map_err(|error| shortage(error, "FrameBufferAllocator::allocate"))?;
        let slots = make_slots(&mut active, stream, buffers, |planes| {
            layout(planes, pixel_format, size, stride).map_err(unsupported)
        })?;

        let Wires { events, disconnected, signal, signal_wanted } = listen(&mut active, slots.len(), &id)?;

        let duration = frame_duration(&active, request.frame_rate);
        // Its virtual cameras ignore FrameDurationLimits and are paced here.
        let granted =
            if virtual_pipeline { Some(request.frame_rate) } else { duration.as_ref().map(|(_, rate)| *rate) };
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
            turns,
            limited_range: pixel_format != PixelFormat::Mjpeg && matches!(range, Some(Range::Limited)),
        };
        let mut source = Self {
            slots,
            events,
            stamps: Stamps::new(frame_rate),
            camera: active,
            _allocator: allocator,
            _manager: manager,
            stream,
            disconnected,
            info,
            errored_frames: 0,
            startup_frames: 0,
            // It ignores FrameDurationLimits and completes requests as fast as they are queued.
            pace: virtual_pipeline.then(|| Pace::new(request.frame_rate)),
            spare: Vec::new(),
            signal,
            signal_wanted,
            pending: Pending::default(),
            set_values: Vec::new(),
        };
        source
            .camera
            .start(duration.as_ref().map(|(controls, _)| &**controls))
            .map_err(|error| cannot_start(&source.info, bytes as usize, error))?;
        if source.pace.is_some() {
            source.spare.extend(0..source.slots.len());
        } else {
            for index in 0..source.slots.len() {
                source.submit(index)?;
            }
        }
        Ok(source)
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

    /// The next event, unless `also` becomes readable before or the time is over.
    fn receive_or(&self, timeout: Duration, also: BorrowedFd<'_>) -> Option<Event> {
        if !self.signal_wanted.swap(true, Ordering::AcqRel) {
            // What came before was not signalled.
            raise(&self.signal);
        }
        if let Ok(event) = self.events.try_recv() {
            return Some(event);
        }
        let (ours, _) = v4l2::wait(Some(self.signal.as_fd()), Some(also), timeout);
        if ours != 0 {
            // Before looking: whatever comes after is signalled anew.
            lower(&self.signal);
        }
        self.events.try_recv().ok()
    }

    /// Tells the kernel of an access to an acquired buffer.
    fn sync(&self, buffer: BufferIndex, flags: u64) -> Result<(), CameraError> {
        for mapping in self.slots.get(buffer.0).into_iter().flat_map(|slot| &slot.mappings) {
            mapping.sync(flags).map_err(|error| failed(&self.info.id, "DMA_BUF_IOCTL_SYNC")(error))?;
        }
        Ok(())
    }

    fn failed(&self, call: &'static str) -> impl FnOnce(io::Error) -> CameraError + use<> {
        let disconnected = self.disconnected.load(Ordering::Acquire);
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
            if self.disconnected.load(Ordering::Acquire) {
                return Err(CameraError::Unplugged { id: self.info.id.clone() });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let event = match also {
                None => self.events.recv_timeout(left).ok(),
                Some(also) => self.receive_or(left, also),
            };
            let request = match event {
                Some(Event::Completed(request)) => request,
                Some(Event::Disconnected) => continue,
                // The sender lives in the camera, which we own: it cannot hang up before we do.
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
        let planes = slot.into_iter().flat_map(|slot| {
            slot.planes.iter().zip(slot.bytes_used).map(|(plane, used)| {
                let mapping = &slot.mappings[plane.mapping];
                Plane {
                    data: mapping.bytes(plane.offset, used),
                    stride: plane.stride,
                    fd: Some(mapping.fd.as_fd()),
                    offset: plane.offset,
                }
            })
        });
        let (sequence, captured_at) =
            slot.map_or((0, MonotonicTime::from_nanos(0)), |slot| (slot.sequence, slot.captured_at));
        RawFrame::new(self.info.pixel_format, self.info.size, planes, sequence, captured_at)
    }

    fn view_mut(&mut self, buffer: BufferIndex) -> Option<RawFrameMut<'_>> {
        let slot = self.slots.get_mut(buffer.0).filter(|slot| slot.request.is_some())?;
        let mut planes = [const { None }; 3];
        for ((to, plane), used) in planes.iter_mut().zip(&slot.planes).zip(slot.bytes_used) {
            let mapping = slot.mappings.get(plane.mapping)?;
            // SAFETY: planes lie beside each other (`layout` and the kernel's drivers see to that), the slot is borrowed
            // for as long as the slices are, and nobody else writes to an acquired buffer.
            let data = unsafe { mapping.bytes_mut(plane.offset, used) };
            *to = Some(PlaneMut { data, stride: plane.stride });
        }
        Some(RawFrameMut { pixel_format: self.info.pixel_format, size: self.info.size, planes })
    }

    fn begin_cpu_access(&mut self, buffer: BufferIndex, writes: bool) -> Result<(), CameraError> {
        self.sync(buffer, if writes { v4l2::SYNC_START_WRITE } else { v4l2::SYNC_START_READ })
    }

    fn end_cpu_access(&mut self, buffer: BufferIndex, writes: bool) -> Result<(), CameraError> {
        self.sync(buffer, if writes { v4l2::SYNC_END_WRITE } else { v4l2::SYNC_END_READ })
    }

    fn queue(&mut self, buffer: BufferIndex) -> Result<(), CameraError> {
        self.recycle(buffer.0)
    }

    fn controls(&mut self) -> Result<Vec<Control>, CameraError> {
        let mut controls = describe_controls(self.camera.controls());
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
        // Stopping completes every queued request as cancelled, into `events`: they must come home before the camera
        // goes, and not be destroyed on libcamera's thread.
        if let Err(error) = self.camera.stop() {
            log::warn!("Camera::stop failed for camera {}: {error}", self.info.id);
        }
        while self.events.try_recv().is_ok() {}
    }
}

/// Cameras of libcamera's virtual pipeline have whatever ids their description gives them, by custom "Virtual0"; from
/// 0.7.1 on the pipeline's name is among the properties (with an id this version of the crate has no name for).
fn is_virtual(camera: &lc::Camera<'_>) -> bool {
    let named =
        |value: ControlValue| matches!(value, ControlValue::String(text) if text.iter().any(|t| t == "virtual"));
    camera.id().starts_with("Virtual") || camera.properties().into_iter().any(|(_, value)| named(value))
}

/// What a camera's events come through.
struct Wires {
    events: Receiver<Event>,
    disconnected: Arc<AtomicBool>,
    signal: Arc<OwnedFd>,
    signal_wanted: Arc<AtomicBool>,
}

/// Has libcamera tell us of completed requests, of which there are at most `requests`, and of the disconnection.
fn listen(camera: &mut ActiveCamera<'static>, requests: usize, id: &str) -> Result<Wires, CameraError> {
    // Room for every request there is and the one disconnection: sending never waits and never allocates.
    let (sender, events) = mpsc::sync_channel(requests + 1);
    let disconnected = Arc::new(AtomicBool::new(false));
    let disconnected_flag = Arc::clone(&disconnected);
    let disconnected_sender = sender.clone();
    let signal = Arc::new(event_fd().map_err(failed(id, "eventfd"))?);
    let signal_wanted = Arc::new(AtomicBool::new(false));
    // Both run on libcamera's thread, under a mutex that queue_request takes as well.
    let (signal_there, wanted_there) = (Arc::clone(&signal), Arc::clone(&signal_wanted));
    camera.on_request_completed(move |request| {
        drop(sender.try_send(Event::Completed(request)));
        if wanted_there.load(Ordering::Acquire) {
            raise(&signal_there);
        }
    });
    camera.on_disconnected(move || {
        disconnected_flag.store(true, Ordering::Release);
        drop(disconnected_sender.try_send(Event::Disconnected));
    });
    Ok(Wires { events, disconnected, signal, signal_wanted })
}

/// A request for each buffer, with the buffer mapped.
fn make_slots(
    camera: &mut ActiveCamera<'static>,
    stream: Stream,
    buffers: Vec<FrameBuffer>,
    layout: impl Fn(&[(usize, usize, usize)]) -> Result<Vec<PlaneLayout>, CameraError>,
) -> Result<Vec<Slot>, CameraError> {
    let id = camera.id().to_owned();
    let mut slots = Vec::with_capacity(buffers.len());
    for (index, buffer) in buffers.into_iter().enumerate() {
        let mappings = Mapping::all_of(&buffer).map_err(failed(&id, "mmap"))?;
        let planes = layout(&buffer_planes(&buffer, &mappings))?;
        let cookie = index as u64;
        let mut slot_request = camera
            .create_request(Some(cookie))
            .ok_or_else(|| failed(&id, "Camera::createRequest")(io::Error::from_raw_os_error(libc::ENOMEM)))?;
        slot_request.add_buffer(&stream, buffer).map_err(failed(&id, "Request::addBuffer"))?;
        slots.push(Slot {
            request: Some(slot_request),
            mappings: mappings.into_iter().map(|(_, mapping)| mapping).collect(),
            planes,
            bytes_used: [0; 3],
            sequence: 0,
            captured_at: MonotonicTime::from_nanos(0),
            taken_at: MonotonicTime::now(),
        });
    }
    if slots.is_empty() {
        return Err(failed(&id, "FrameBufferAllocator::allocate")(io::Error::from_raw_os_error(libc::ENOMEM)));
    }

    Ok(slots)
}

/// An error of libcamera's, with the call and the camera in it.
fn failed(id: &str, call: &'static str) -> impl FnOnce(io::Error) -> CameraError + use<> {
    let id = id.to_owned();
    move |source| CameraError::of_call(&id, call, source)
}

/// What keeps a camera from starting. Pipelines take memory of their own then (the sensor's raw pictures), and USB its
/// bandwidth.
fn cannot_start(info: &CameraInfo, bytes: usize, error: io::Error) -> CameraError {
    let (id, wanted) = (info.id.clone(), format!("{} {}", info.pixel_format, info.size));
    match error.raw_os_error() {
        Some(libc::ENOSPC) => CameraError::NoBandwidth { id, wanted: format!("{wanted} at {}", info.frame_rate) },
        Some(libc::ENOMEM) => CameraError::NoMemory { id, wanted, shortage: Shortage::now(info.buffer_count, bytes) },
        _ => failed(&id, "Camera::start")(error),
    }
}

/// A validated configuration in the best format the camera has, and whether it turns the picture as asked.
fn negotiate(
    camera: &lc::Camera<'_>,
    id: &str,
    request: &StreamRequest,
) -> Result<(CameraConfiguration, PixelFormat, bool), CameraError> {
    let orientation = match request.orientation {
        Orientation::Rotate0 => lc::Orientation::Rotate0,
        Orientation::Rotate180 => lc::Orientation::Rotate180,
        Orientation::MirrorHorizontal => lc::Orientation::Rotate0Mirror,
        Orientation::MirrorVertical => lc::Orientation::Rotate180Mirror,
        Orientation::Rotate90 => lc::Orientation::Rotate90,
        Orientation::Rotate270 => lc::Orientation::Rotate270,
    };
    let mut refused = Vec::new();
    for (wanted, name) in CANDIDATES {
        // A new configuration each time: validation leaves traces.
        let Some(mut configuration) = camera.generate_configuration(&[StreamRole::VideoRecording]) else {
            return Err(CameraError::Unsupported {
                id: id.to_owned(),
                wanted: "video".to_owned(),
                reason: "it has no video stream".to_owned(),
            });
        };
        if let Some(mut stream) = configuration.get_mut(0) {
            stream.set_pixel_format(wanted);
            stream.set_size(geometry::Size::new(request.size.width, request.size.height));
            stream.set_buffer_count(request.buffer_count.max(1));
            // What a JPEG holds: the role's default has a limited range, which viewers would show washed out.
            stream.set_color_space(Some(ColorSpace::sycc()));
        }
        configuration.set_orientation(orientation);
        let mut status = configuration.validate();
        let turns = configuration.orientation() == orientation;
        if !turns {
            // All or nothing: it delivers the picture as it is, and it is turned here.
            configuration.set_orientation(lc::Orientation::Rotate0);
            status = configuration.validate();
            if configuration.orientation() != lc::Orientation::Rotate0 {
                // A sensor mounted sideways is better than none.
                log::warn!(
                    "camera {id} cannot deliver an upright picture: it offers {:?}",
                    configuration.orientation()
                );
            }
        }
        let Some(stream) = configuration.get(0) else { continue };
        let (granted, size) = (stream.get_pixel_format(), stream.get_size());
        if status.is_invalid() || granted.to_raw() != wanted.to_raw() {
            refused.push(name.name());
            continue;
        }
        if (size.width, size.height) != (request.size.width, request.size.height) {
            log::info!("camera {id} delivers {}x{} instead of {}", size.width, size.height, request.size);
        }
        return Ok((configuration, name, turns));
    }
    Err(CameraError::Unsupported {
        id: id.to_owned(),
        wanted: format!("{} at {}", refused.join(", "), request.size),
        reason: format!("it offers {}", offered_formats(camera)),
    })
}

/// The formats we can encode or pass on, best first: JPEG costs nothing; the Pi's encoder takes both others, and
/// YUV420 is what the software encoder reads without a detour.
const CANDIDATES: [(pixel_format::PixelFormat, PixelFormat); 7] = [
    (fourcc(*b"MJPG"), PixelFormat::Mjpeg),
    (fourcc(*b"YU12"), PixelFormat::Yuv420),
    (fourcc(*b"NV12"), PixelFormat::Nv12),
    (fourcc(*b"YUYV"), PixelFormat::Yuyv),
    (fourcc(*b"UYVY"), PixelFormat::Uyvy),
    (fourcc(*b"YVYU"), PixelFormat::Yvyu),
    // DRM's name for V4L2's GREY.
    (fourcc(*b"R8  "), PixelFormat::Grey),
];

/// The crate's own constants are empty with libcamera 0.4.
const fn fourcc(code: [u8; 4]) -> pixel_format::PixelFormat {
    pixel_format::PixelFormat::new(u32::from_le_bytes(code), 0)
}

/// Readable once raised, until lowered.
fn event_fd() -> io::Result<OwnedFd> {
    // SAFETY: a new descriptor, checked before it is owned.
    match unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) } {
        fd if fd < 0 => Err(io::Error::last_os_error()),
        // SAFETY: just made, and nobody else's.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

fn raise(signal: &OwnedFd) {
    let one = 1u64;
    // SAFETY: eight bytes to an open eventfd. It can fail only if it is raised 2^64 times over.
    unsafe { libc::write(signal.as_raw_fd(), (&raw const one).cast(), 8) };
}

fn lower(signal: &OwnedFd) {
    let mut count = 0u64;
    // SAFETY: eight bytes from an open eventfd that does not block.
    unsafe { libc::read(signal.as_raw_fd(), (&raw mut count).cast(), 8) };
}

/// Where the planes lie in each buffer's one dma-buf, if that is the same for all.
fn common_offsets(slots: &[Slot]) -> Option<[usize; 3]> {
    let of = |slot: &Slot| {
        let mut offsets = [0; 3];
        for (offset, plane) in offsets.iter_mut().zip(&slot.planes) {
            *offset = plane.offset;
        }
        (slot.mappings.len() == 1).then_some(offsets)
    };
    let first = slots.first().and_then(of)?;
    slots.iter().all(|slot| of(slot) == Some(first)).then_some(first)
}

/// The camera's controls but for those of the frame rate, which is a setting of ours.
fn describe_controls(map: &::libcamera::control::ControlInfoMap) -> Vec<Control> {
    map.into_iter()
        .filter(|(id, _)| *id != FrameDurationLimits::ID)
        .filter_map(|(number, info)| {
            // One of a newer libcamera than the crate knows: nothing can be said of its type.
            let id = ControlId::from_id(number)?;
            let options: Vec<(i64, String)> =
                id.enumerators().into_iter().flatten().map(|(value, name)| (i64::from(value), name)).collect();
            let (min, max, default) = (info.min(), info.max(), info.def());
            // Cameras offer some of an enumeration's values.
            let offered: Vec<i64> = info
                .values()
                .iter()
                .filter_map(|value| match from_libcamera(value) {
                    Some(Value::Integer(value)) => Some(value),
                    _ => None,
                })
                .collect();
            let options: Vec<(i64, String)> =
                options.into_iter().filter(|(value, _)| offered.is_empty() || offered.contains(value)).collect();
            let kind = match id.control_type() {
                ControlType::Bool => Kind::Boolean,
                ControlType::Int32 | ControlType::Byte if !options.is_empty() => Kind::Enum,
                ControlType::Byte
                | ControlType::Uint16
                | ControlType::Uint32
                | ControlType::Int32
                | ControlType::Int64 => Kind::Integer,
                ControlType::Float => Kind::Float,
                ControlType::String => Kind::String,
                ControlType::Rectangle => Kind::Rectangle,
                ControlType::Size => Kind::Size,
                ControlType::Point => Kind::Point,
                ControlType::None => return None,
            };
            // libcamera says "as many as you like" with the largest number there is.
            let array = id.is_array().then(|| if id.size() > 1024 { 0 } else { id.size() });
            Some(Control {
                id: number,
                name: id.name(),
                kind,
                array,
                min: from_libcamera(&min),
                max: from_libcamera(&max),
                step: 1,
                default: from_libcamera(&default),
                value: None,
                options,
                read_only: !id.is_input(),
            })
        })
        .collect()
}

/// A value of libcamera's in our terms; `None` for no value. Several make a list.
fn from_libcamera(value: &ControlValue) -> Option<Value> {
    fn all<T>(values: &[T], convert: impl Fn(&T) -> Value) -> Option<Value> {
        match values {
            [] => None,
            [one] => Some(convert(one)),
            many => Some(Value::List(many.iter().map(convert).collect())),
        }
    }
    match value {
        ControlValue::None => None,
        ControlValue::Bool(values) => all(values, |value| Value::Bool(*value)),
        ControlValue::Byte(values) => all(values, |value| Value::Integer(i64::from(*value))),
        ControlValue::Uint16(values) => all(values, |value| Value::Integer(i64::from(*value))),
        ControlValue::Uint32(values) => all(values, |value| Value::Integer(i64::from(*value))),
        ControlValue::Int32(values) => all(values, |value| Value::Integer(i64::from(*value))),
        ControlValue::Int64(values) => all(values, |value| Value::Integer(*value)),
        ControlValue::Float(values) => all(values, |value| Value::Float(f64::from(*value))),
        ControlValue::String(values) => all(values, |value| Value::Text(value.clone())),
        ControlValue::Rectangle(values) => {
            all(values, |r| Value::Parts(vec![i64::from(r.x), i64::from(r.y), i64::from(r.width), i64::from(r.height)]))
        }
        ControlValue::Size(values) => {
            all(values, |size| Value::Parts(vec![i64::from(size.width), i64::from(size.height)]))
        }
        ControlValue::Point(values) => all(values, |point| Value::Parts(vec![i64::from(point.x), i64::from(point.y)])),
    }
}

/// The way back; `None` where a number does not fit libcamera's type.
fn to_libcamera(control: &Control, value: &Value) -> Option<ControlValue> {
    let values = match value {
        Value::List(values) => values.as_slice(),
        one => slice::from_ref(one),
    };
    let integers = || values.iter().map(|value| if let Value::Integer(value) = value { Some(*value) } else { None });
    let parts = |count: usize| -> Option<Vec<&[i64]>> {
        let parts = values.iter().map(|value| match value {
            Value::Parts(parts) if parts.len() == count => Some(parts.as_slice()),
            _ => None,
        });
        parts.collect()
    };
    let narrow = |number: i64| u32::try_from(number).ok();
    Some(match ControlId::from_id(control.id)?.control_type() {
        ControlType::None => return None,
        ControlType::Bool => ControlValue::Bool(
            values
                .iter()
                .map(|value| if let Value::Bool(value) = value { Some(*value) } else { None })
                .collect::<Option<_>>()?,
        ),
        ControlType::Byte => ControlValue::Byte(integers().map(|n| u8::try_from(n?).ok()).collect::<Option<_>>()?),
        ControlType::Uint16 => ControlValue::Uint16(integers().map(|n| u16::try_from(n?).ok()).collect::<Option<_>>()?),
        ControlType::Uint32 => ControlValue::Uint32(integers().map(|n| u32::try_from(n?).ok()).collect::<Option<_>>()?),
        ControlType::Int32 => ControlValue::Int32(integers().map(|n| i32::try_from(n?).ok()).collect::<Option<_>>()?),
        ControlType::Int64 => ControlValue::Int64(integers().collect::<Option<_>>()?),
        ControlType::Float => ControlValue::Float(
            values
                .iter()
                .map(|value| match value {
                    Value::Float(value) => Some(*value as f32),
                    Value::Integer(value) => Some(*value as f32),
                    _ => None,
                })
                .collect::<Option<_>>()?,
        ),
        ControlType::String => ControlValue::String(
            values
                .iter()
                .map(|value| if let Value::Text(text) = value { Some(text.clone()) } else { None })
                .collect::<Option<_>>()?,
        ),
        ControlType::Rectangle => ControlValue::Rectangle(
            parts(4)?
                .into_iter()
                .map(|r| {
                    Some(geometry::Rectangle {
                        x: i32::try_from(r[0]).ok()?,
                        y: i32::try_from(r[1]).ok()?,
                        width: narrow(r[2])?,
                        height: narrow(r[3])?,
                    })
                })
                .collect::<Option<_>>()?,
        ),
        ControlType::Size => ControlValue::Size(
            parts(2)?
                .into_iter()
                .map(|s| Some(geometry::Size::new(narrow(s[0])?, narrow(s[1])?)))
                .collect::<Option<_>>()?,
        ),
        ControlType::Point => ControlValue::Point(
            parts(2)?
                .into_iter()
                .map(|p| Some(geometry::Point { x: i32::try_from(p[0]).ok()?, y: i32::try_from(p[1]).ok()? }))
                .collect::<Option<_>>()?,
        ),
    })
}

/// The controls that set the frame rate, where the camera has them, with the rate nearest to `rate` that its limits
/// allow.
fn frame_duration(camera: &lc::Camera<'_>, rate: f64) -> Option<(::libcamera::utils::UniquePtr<ControlList>, f64)> {
    let (_, info) = camera.controls().into_iter().find(|(id, _)| *id == FrameDurationLimits::ID)?;
    if !(rate.is_finite() && rate > 0.0) {
        return None;
    }
    let limit = |value: &ControlValue| match value {
        ControlValue::Int64(values) => values.first().copied().filter(|micros| *micros > 0),
        _ => None,
    };
    let micros = (1_000_000.0 / rate).round() as i64;
    let (least, most) = (limit(&info.min()).unwrap_or(1), limit(&info.max()).unwrap_or(i64::MAX));
    let micros = micros.min(most).max(least);
    let mut controls = ControlList::new();
    controls.set(FrameDurationLimits([micros, micros])).ok()?;
    Some((controls, 1_000_000.0 / micros as f64))
}

/// A buffer's planes as `(mapping, offset, length)`, in the camera's order.
fn buffer_planes(buffer: &FrameBuffer, mappings: &[(i32, Mapping)]) -> Vec<(usize, usize, usize)> {
    let planes = buffer.planes();
    (0..planes.len())
        .filter_map(|index| {
            // libcamera 0.4's virtual pipeline gives NV12 a third plane, of no bytes.
            let plane = planes.get(index).filter(|plane| !plane.is_empty())?;
            let mapping = mappings.iter().position(|(fd, _)| *fd == plane.fd())?;
            Some((mapping, plane.offset()?, plane.len()))
        })
        .collect()
}

/// Where a format's planes lie in a buffer. A camera that gives one plane for all has them one behind the other.
fn layout(
    planes: &[(usize, usize, usize)],
    format: PixelFormat,
    size: Size,
    stride: usize,
) -> Result<Vec<PlaneLayout>, String> {
    let geometry = Geometry::new(format, size, stride);
    let wanted = geometry.planes();
    let divided: Vec<_>;
    let given = match planes {
        &[(mapping, offset, length)] if wanted.len() > 1 => {
            let part = |number| {
                let range = geometry.range(number, length);
                (mapping, offset + range.start, range.len())
            };
            divided = (0..wanted.len()).map(part).collect();
            &divided[..]
        }
        _ => planes,
    };
    if given.len() != wanted.len() {
        return Err(format!("its buffers have {} planes instead of {}", planes.len(), wanted.len()));
    }
    given
        .iter()
        .zip(wanted)
        .map(|(&(mapping, offset, length), plane)| {
            if !plane.fits(length) || length == 0 {
                let PlaneGeometry { stride, row_bytes, rows, .. } = plane;
                return Err(format!(
                    "a plane of {length} bytes with stride {stride} is too small for {rows} rows of {row_bytes}"
                ));
            }
            Ok(PlaneLayout { mapping, offset, length, stride: plane.stride, least: plane.least() })
        })
        .collect()
}

/// A dma-buf (or the memfd standing in for one), mapped from its start.
struct Mapping {
    address: NonNull<u8>,
    length: usize,
    /// Our own copy of the descriptor: the one in the request may be gone when we are not.
    fd: OwnedFd,
    /// False for memory without a device behind it, which has no such ioctl.
    syncs: bool,
}

impl Mapping {
    /// The dma-bufs of a buffer, each once, with the descriptor libcamera knows it by.
    fn all_of(buffer: &FrameBuffer) -> io::Result<Vec<(i32, Self)>> {
        let planes = buffer.planes();
        let mut ends: Vec<(i32, usize)> = Vec::new();
        for plane in (0..planes.len()).filter_map(|index| planes.get(index)).filter(|plane| !plane.is_empty()) {
            let Some(end) = plane.offset().and_then(|offset| offset.checked_add(plane.len())) else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a plane without a valid offset"));
            };
            match ends.iter_mut().find(|(fd, _)| *fd == plane.fd()) {
                Some((_, length)) => *length = end.max(*length),
                None => ends.push((plane.fd(), end)),
            }
        }
        ends.into_iter()
            .map(|(raw, length)| {
                if raw < 0 {
                    return Err(io::Error::from_raw_os_error(libc::EBADF));
                }
                // SAFETY: `planes` holds the descriptor open during this call.
                let fd = unsafe { BorrowedFd::borrow_raw(raw) }.try_clone_to_owned()?;
                Ok((raw, Self::new(fd, length)?))
            })
            .collect()
    }

    fn new(fd: OwnedFd, length: usize) -> io::Result<Self> {
        // SAFETY: lseek on an open descriptor touches no memory. dma-bufs and memfds both tell their size this way.
        let size = unsafe { libc::lseek(fd.as_raw_fd(), 0, libc::SEEK_END) };
        // Reading a mapping past the end of its file would kill the process.
        if usize::try_from(size).is_ok_and(|size| size < length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes of planes in {size}")));
        }
        // Writable for what is drawn into the picture.
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of an open descriptor, at an address the kernel chooses; the result is checked before use.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(address) = NonNull::new(address.cast()) else {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        };
        let mut mapping = Self { address, length, fd, syncs: true };
        // Found out now, so that a camera without it costs no useless call per frame.
        let tried = mapping.sync(v4l2::SYNC_START_READ).and_then(|()| mapping.sync(v4l2::SYNC_END_READ));
        mapping.syncs = !tried.is_err_and(|error| matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)));
        Ok(mapping)
    }

    fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        if offset.checked_add(length).is_none_or(|end| end > self.length) {
            return &[];
        }
        // SAFETY: within the mapping, which is readable until we are dropped. The device does not write to a buffer's
        // planes while its request is ours, and only then does `view` show them.
        unsafe { slice::from_raw_parts(self.address.add(offset).as_ptr(), length) }
    }

    /// The same to write to.
    ///
    /// # Safety
    /// No other slice of these bytes exists while this one does.
    unsafe fn bytes_mut<'a>(&self, offset: usize, length: usize) -> &'a mut [u8] {
        if offset.checked_add(length).is_none_or(|end| end > self.length) {
            return &mut [];
        }
        // SAFETY: within the mapping, which is writable until we are dropped; alone by this function's contract.
        unsafe { slice::from_raw_parts_mut(self.address.add(offset).as_ptr(), length) }
    }

    /// Tells the kernel that the processor starts or ends an access, so that its cache is right.
    fn sync(&self, flags: u64) -> io::Result<()> {
        if !self.syncs {
            return Ok(());
        }
        v4l2::dma_buf_sync(self.fd.as_fd(), flags)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`, and no slice of it outlives us.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lays_out_planes_and_refuses_short_ones() {
        let size = Size { width: 640, height: 480 };
        // The Pi's: one dma-buf, padded rows.
        let planes = [(0, 0, 704 * 480), (0, 704 * 480, 352 * 240), (0, 704 * 600, 352 * 240)];
        let laid = layout(&planes, PixelFormat::Yuv420, size, 704).expect("fits");
        assert_eq!(
            laid[2],
            PlaneLayout { mapping: 0, offset: 704 * 600, length: 352 * 240, stride: 352, least: 84_448 }
        );
        // One plane for everything.
        let laid = layout(&[(0, 64, 640 * 720)], PixelFormat::Nv12, size, 640).expect("fits");
        assert_eq!((laid[1].offset, laid[1].length), (64 + 640 * 480, 640 * 240));
        assert!(layout(&[(0, 0, 640 * 719)], PixelFormat::Nv12, size, 640).is_err());
        assert!(layout(&[(0, 0, 640 * 480), (0, 0, 10)], PixelFormat::Nv12, size, 640).is_err());
        assert!(layout(&[(0, 0, 640 * 720)], PixelFormat::Nv12, size, 320).is_err());
        assert!(layout(&[], PixelFormat::Mjpeg, size, 0).is_err());
        assert_eq!(layout(&[(0, 0, 100)], PixelFormat::Mjpeg, size, 0).expect("fits")[0].least, 0);
    }
}
