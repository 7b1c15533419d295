//! The cameras libcamera knows: the Pi's own through the ISP, USB cameras, and its virtual ones for tests.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};

use ::libcamera::camera::{self as lc, ActiveCamera, CameraConfiguration};
use ::libcamera::camera_manager::{CameraList, CameraManager};
use ::libcamera::color_space::ColorSpace;
use ::libcamera::control::{ControlEntry, ControlList};
use ::libcamera::control_value::ControlValue;
use ::libcamera::controls::FrameDurationLimits;
use ::libcamera::framebuffer::{AsFrameBuffer, FrameMetadataStatus};
use ::libcamera::framebuffer_allocator::{FrameBuffer, FrameBufferAllocator};
use ::libcamera::request::{Request, RequestStatus, ReuseFlag};
use ::libcamera::stream::{Stream, StreamRole};
use ::libcamera::{geometry, pixel_format, properties};

use super::pace::Pace;
use super::{BufferIndex, Camera, CameraError, CameraInfo};
pub use super::{Orientation, StreamRequest};
use crate::frame::{MonotonicTime, PixelFormat, Plane, RawFrame, Size};

/// Frames the IPA marks as unusable while exposure settles are passed over, but not for ever.
const STARTUP_FRAMES_MAX: u32 = 60;
/// A time stamp older than this comes from another clock.
const TIMESTAMP_AGE_MAX: Duration = Duration::from_secs(10);

/// A camera libcamera found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraSummary {
    /// Its place in libcamera's list; `camera.id` may be this number.
    pub index: usize,
    /// libcamera's id: stable, tells where the camera is attached.
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

/// The camera `id` means: see [`LibcameraSource::open`].
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
            let manager = CameraManager::new().map_err(|source| CameraError::Io {
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
    errored_frames: u64,
    startup_frames: u32,
    /// For a camera that is only as slow as it is asked: its beat. A request is queued when the next frame is due, not
    /// before, so the frame is of that moment.
    pace: Option<Pace>,
    /// With `pace`: slots that are neither queued nor with the caller.
    spare: Vec<usize>,
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
    /// MJPEG is taken where the camera makes it, else YUV420, else NV12. A size the camera does not have becomes one
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
        if virtual_pipeline && request.orientation != Orientation::Rotate0 {
            // It validates every orientation and ignores it.
            return Err(unsupported_orientation(
                &id,
                request.orientation,
                "the virtual pipeline delivers it not turned",
            ));
        }
        let (mut configuration, pixel_format) = negotiate(&active, &id, request)?;
        active.configure(&mut configuration).map_err(failed(&id, "Camera::configure"))?;

        let unsupported = |reason: String| CameraError::Unsupported {
            id: id.clone(),
            wanted: format!("{pixel_format} {}", request.size),
            reason,
        };
        let (size, stride, stream) = {
            let granted = configuration.get(0).ok_or_else(|| unsupported("it has no stream".to_owned()))?;
            let size = Size { width: granted.get_size().width, height: granted.get_size().height };
            let stream = granted.stream().ok_or_else(|| unsupported("it has no stream".to_owned()))?;
            (size, granted.get_stride() as usize, stream)
        };
        let stride = match pixel_format {
            PixelFormat::Mjpeg => 0,
            // Some pipelines leave it 0 for "no padding".
            _ if stride == 0 => size.width as usize,
            _ => stride,
        };

        let mut allocator = FrameBufferAllocator::new(&active);
        let buffers = allocator.alloc(&stream).map_err(failed(&id, "FrameBufferAllocator::allocate"))?;
        let slots = make_slots(&mut active, stream, buffers, |planes| {
            layout(planes, pixel_format, size, stride).map_err(unsupported)
        })?;

        // Room for every request there is and the one disconnection: sending never waits and never allocates.
        let (sender, events) = mpsc::sync_channel(slots.len() + 1);
        let disconnected = Arc::new(AtomicBool::new(false));
        let disconnected_flag = Arc::clone(&disconnected);
        let disconnected_sender = sender.clone();
        // Both run on libcamera's thread, under a mutex that queue_request takes as well.
        active.on_request_completed(move |request| drop(sender.try_send(Event::Completed(request))));
        active.on_disconnected(move || {
            disconnected_flag.store(true, Ordering::Release);
            drop(disconnected_sender.try_send(Event::Disconnected));
        });

        let controls = frame_duration(&active, request.frame_rate);
        let info = CameraInfo {
            source: "libcamera",
            id,
            model,
            pixel_format,
            size,
            stride,
            frame_rate: request.frame_rate,
            buffer_count: slots.len(),
            paced: controls.is_some() || virtual_pipeline,
        };
        let mut source = Self {
            slots,
            events,
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
        };
        source.camera.start(controls.as_deref()).map_err(failed(&source.info.id, "Camera::start"))?;
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
        let Some(request) = self.slots.get_mut(index).and_then(|slot| slot.request.take()) else {
            return Err(self.failed("Camera::queueRequest")(io::ErrorKind::InvalidInput.into()));
        };
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
    fn take_in(&mut self, index: usize, request: Request) -> Result<bool, CameraError> {
        let usable = if request.status() == RequestStatus::Complete {
            self.read_metadata(index, &request)
        } else {
            self.errored_frames += 1;
            false
        };
        let slot = &mut self.slots[index];
        slot.request = Some(request);
        if usable {
            for mapping in &slot.mappings {
                mapping.sync(SYNC_START).map_err(|error| failed(&self.info.id, "DMA_BUF_IOCTL_SYNC")(error))?;
            }
        }
        Ok(usable)
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
        slot.captured_at = plausible(metadata.timestamp(), MonotonicTime::now());
        if !whole {
            self.errored_frames += 1;
        }
        whole
    }

    fn failed(&self, call: &'static str) -> impl FnOnce(io::Error) -> CameraError + use<> {
        let disconnected = self.disconnected.load(Ordering::Acquire);
        let to_error = failed(&self.info.id, call);
        let id = self.info.id.clone();
        move |error| if disconnected { CameraError::Disconnected { id } } else { to_error(error) }
    }
}

impl Camera for LibcameraSource {
    fn info(&self) -> &CameraInfo {
        &self.info
    }

    fn acquire(&mut self, timeout: Duration) -> Result<Option<BufferIndex>, CameraError> {
        let mut passed_over = 0;
        if let Some(pace) = &mut self.pace {
            if pace.wait(timeout).is_none() {
                return Ok(None);
            }
            if let Some(index) = self.spare.pop() {
                self.submit(index)?;
            }
        }
        let deadline = Instant::now() + timeout;
        loop {
            if self.disconnected.load(Ordering::Acquire) {
                return Err(CameraError::Disconnected { id: self.info.id.clone() });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let request = match self.events.recv_timeout(left) {
                Ok(Event::Completed(request)) => request,
                Ok(Event::Disconnected) => continue,
                // The sender lives in the camera, which we own: it cannot hang up before we do.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(None),
            };
            let index = request.cookie() as usize;
            if index >= self.slots.len() {
                continue; // Not one of ours.
            }
            if self.take_in(index, request)? {
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

    fn queue(&mut self, buffer: BufferIndex) -> Result<(), CameraError> {
        if let Some(slot) = self.slots.get(buffer.0).filter(|slot| slot.request.is_some()) {
            for mapping in &slot.mappings {
                mapping.sync(SYNC_END).map_err(|error| failed(&self.info.id, "DMA_BUF_IOCTL_SYNC")(error))?;
            }
        }
        self.recycle(buffer.0)
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
    move |source| match source.raw_os_error() {
        Some(libc::EBUSY) => CameraError::Busy { id },
        Some(libc::ENODEV) => CameraError::Disconnected { id },
        _ => CameraError::Io { id, call, source },
    }
}

fn unsupported_orientation(id: &str, wanted: Orientation, reason: &str) -> CameraError {
    CameraError::Unsupported {
        id: id.to_owned(),
        wanted: format!("camera.orientation {wanted}"),
        reason: reason.to_owned(),
    }
}

/// A validated configuration in the best format the camera has.
fn negotiate(
    camera: &lc::Camera<'_>,
    id: &str,
    request: &StreamRequest,
) -> Result<(CameraConfiguration, PixelFormat), CameraError> {
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
        let status = configuration.validate();
        let Some(stream) = configuration.get(0) else { continue };
        let (granted, size) = (stream.get_pixel_format(), stream.get_size());
        if status.is_invalid() || granted.to_raw() != wanted.to_raw() {
            refused.push(name.name());
            continue;
        }
        if configuration.orientation() != orientation {
            let reason = format!("it offers {:?} instead", configuration.orientation());
            if request.orientation != Orientation::Rotate0 {
                return Err(unsupported_orientation(id, request.orientation, &reason));
            }
            // Nothing was asked for; a sensor mounted sideways is better than none.
            log::warn!("camera {id} cannot deliver an upright picture: {reason}");
        }
        if (size.width, size.height) != (request.size.width, request.size.height) {
            log::info!("camera {id} delivers {}x{} instead of {}", size.width, size.height, request.size);
        }
        return Ok((configuration, name));
    }
    Err(CameraError::Unsupported {
        id: id.to_owned(),
        wanted: format!("{} at {}", refused.join(", "), request.size),
        reason: format!("it offers {}", offered_formats(camera)),
    })
}

/// The formats we can encode or pass on, best first: JPEG costs nothing; the Pi's encoder takes both others, and
/// YUV420 is what the software encoder reads without a detour.
const CANDIDATES: [(pixel_format::PixelFormat, PixelFormat); 3] = [
    (fourcc(*b"MJPG"), PixelFormat::Mjpeg),
    (fourcc(*b"YU12"), PixelFormat::Yuv420),
    (fourcc(*b"NV12"), PixelFormat::Nv12),
];

/// The crate's own constants are empty with libcamera 0.4.
const fn fourcc(code: [u8; 4]) -> pixel_format::PixelFormat {
    pixel_format::PixelFormat::new(u32::from_le_bytes(code), 0)
}

/// The controls that set the frame rate, where the camera has them.
fn frame_duration(camera: &lc::Camera<'_>, rate: f64) -> Option<::libcamera::utils::UniquePtr<ControlList>> {
    if camera.controls().count(FrameDurationLimits::ID) == 0 || !(rate.is_finite() && rate > 0.0) {
        return None;
    }
    let micros = (1_000_000.0 / rate).round() as i64;
    let mut controls = ControlList::new();
    controls.set(FrameDurationLimits([micros, micros])).ok()?;
    Some(controls)
}

/// The driver's time stamp, or now where it cannot be one of `CLOCK_MONOTONIC`'s.
fn plausible(nanos: u64, now: MonotonicTime) -> MonotonicTime {
    let stamp = MonotonicTime::from_nanos(nanos);
    if nanos == 0 || stamp > now || now.since(stamp) > TIMESTAMP_AGE_MAX { now } else { stamp }
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
    let (width, height) = (size.width as usize, size.height as usize);
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    // Stride, bytes of a row, rows.
    let wanted: &[(usize, usize, usize)] = match format {
        PixelFormat::Mjpeg => &[(0, 0, 0)],
        PixelFormat::Yuv420 => {
            &[(stride, width, height), (stride / 2, half_width, half_height), (stride / 2, half_width, half_height)]
        }
        PixelFormat::Nv12 => &[(stride, width, height), (stride, half_width * 2, half_height)],
        PixelFormat::Yuyv => &[(stride, half_width * 4, height)],
    };
    let mut divided = Vec::new();
    let given = match planes {
        &[(mapping, mut offset, length)] if wanted.len() > 1 => {
            let end = offset + length;
            for &(stride, _, rows) in wanted {
                divided.push((mapping, offset, (stride * rows).min(end.saturating_sub(offset))));
                offset += stride * rows;
            }
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
        .map(|(&(mapping, offset, length), &(stride, row, rows))| {
            let least = if rows == 0 { 0 } else { stride * (rows - 1) + row };
            if stride < row || length < least || length == 0 {
                return Err(format!(
                    "a plane of {length} bytes with stride {stride} is too small for {rows} rows of {row}"
                ));
            }
            Ok(PlaneLayout { mapping, offset, length, stride, least })
        })
        .collect()
}

/// A dma-buf (or the memfd standing in for one), mapped for reading from its start.
struct Mapping {
    address: NonNull<u8>,
    length: usize,
    /// Our own copy of the descriptor: the one in the request may be gone when we are not.
    fd: OwnedFd,
    /// False for memory without a device behind it, which has no such ioctl.
    syncs: bool,
}

/// `struct dma_buf_sync` of `linux/dma-buf.h`.
#[repr(C)]
struct DmaBufSync {
    flags: u64,
}

const DMA_BUF_IOCTL_SYNC: libc::Ioctl = 0x4008_6200;
const SYNC_READ: u64 = 1;
const SYNC_START: u64 = SYNC_READ;
const SYNC_END: u64 = SYNC_READ | (1 << 2);

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
        // SAFETY: a new read-only mapping of an open descriptor, at an address the kernel chooses; the result is
        // checked before use.
        let address =
            unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(address) = NonNull::new(address.cast()) else {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        };
        let mut mapping = Self { address, length, fd, syncs: true };
        // Found out now, so that a camera without it costs no useless call per frame.
        let tried = mapping.sync(SYNC_START).and_then(|()| mapping.sync(SYNC_END));
        mapping.syncs = !tried.is_err_and(|error| matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)));
        Ok(mapping)
    }

    fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        if offset.checked_add(length).is_none_or(|end| end > self.length) {
            return &[];
        }
        // SAFETY: within the mapping, which is readable until we are dropped. The device does not write to a buffer's
        // planes while its request is ours, and only then does `view` show them.
        unsafe { std::slice::from_raw_parts(self.address.add(offset).as_ptr(), length) }
    }

    /// Tells the kernel that the processor starts or ends reading, so that its cache is right.
    fn sync(&self, flags: u64) -> io::Result<()> {
        if !self.syncs {
            return Ok(());
        }
        let argument = DmaBufSync { flags };
        loop {
            // SAFETY: the descriptor is open and the argument is the struct this ioctl reads.
            if unsafe { libc::ioctl(self.fd.as_raw_fd(), DMA_BUF_IOCTL_SYNC, &raw const argument) } == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) {
                return Err(error);
            }
        }
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

    #[test]
    fn replaces_implausible_time_stamps() {
        let now = MonotonicTime::from_nanos(100_000_000_000);
        for (nanos, kept) in [(0, false), (100_000_000_001, false), (89_999_999_999, false), (90_000_000_000, true)] {
            let stamp = plausible(nanos, now);
            assert_eq!(stamp, if kept { MonotonicTime::from_nanos(nanos) } else { now }, "{nanos}");
        }
    }
}
