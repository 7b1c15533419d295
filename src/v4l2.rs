//! V4L2 devices: what the camera source and the hardware encoder share, over the ioctls of crate `v4l2r`. Nothing here
//! allocates per frame.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use v4l2r::bindings;
pub use v4l2r::ioctl::PlaneMapping;
use v4l2r::ioctl::{self, BufferFlags, Capability, IntoErrno, UncheckedV4l2Buffer};
pub use v4l2r::memory::MemoryType;
pub use v4l2r::{Format, PixelFormat as Fourcc, PlaneLayout, QueueType};

use crate::frame::{MonotonicTime, PixelFormat};

/// Device nodes are `/dev/video0` to this one: `VIDEO_NUM_DEVICES` of the kernel's `v4l2-dev.c`.
const NODE_MAX: u32 = 255;

/// The paths V4L2 devices can have, whether or not they are there.
pub fn node_paths() -> impl Iterator<Item = PathBuf> {
    (0..=NODE_MAX).map(|number| PathBuf::from(format!("/dev/video{number}")))
}

/// V4L2's code for a format.
pub fn fourcc(format: PixelFormat) -> Fourcc {
    Fourcc::from_fourcc(match format {
        PixelFormat::Mjpeg => b"MJPG",
        PixelFormat::Yuv420 => b"YU12",
        PixelFormat::Nv12 => b"NV12",
        PixelFormat::Yuyv => b"YUYV",
        PixelFormat::Uyvy => b"UYVY",
        PixelFormat::Yvyu => b"YVYU",
        PixelFormat::Grey => b"GREY",
    })
}

/// A call to a device that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed for {path}: {source}")]
pub struct V4l2Error {
    /// The device's path.
    pub path: String,
    /// The call, as the kernel's documentation names it.
    pub call: &'static str,
    /// The errno.
    pub source: io::Error,
}

impl V4l2Error {
    /// The error's number.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(libc::EIO)
    }
}

const FULL_RANGE: u32 = bindings::v4l2_quantization_V4L2_QUANTIZATION_FULL_RANGE;
/// Asks a capture device to convert to the colour space named.
const SET_CSC: u32 = bindings::V4L2_PIX_FMT_FLAG_SET_CSC;

/// A format as the driver granted it.
#[derive(Clone, Debug)]
pub struct Granted {
    /// Code, size and layout.
    pub format: Format,
    /// Black is 16 and white 235, where a JPEG has 0 and 255.
    pub limited_range: bool,
}

/// A buffer taken from a queue.
#[derive(Clone, Copy, Debug)]
pub struct Dequeued {
    /// Its index in the queue.
    pub index: usize,
    /// Bytes from its start to the end of what it holds.
    pub bytes_used: usize,
    /// Where what it holds begins.
    pub data_offset: usize,
    /// The driver's frame number.
    pub sequence: u32,
    /// The driver's time stamp, or the one that was queued with the frame (encoders copy it).
    pub timestamp: MonotonicTime,
    /// The driver says that the data is damaged.
    pub has_error: bool,
    /// The last buffer of the stream.
    pub is_last: bool,
}

/// What a buffer is queued with.
#[derive(Clone, Copy, Debug)]
pub enum Payload {
    /// Nothing: the device fills its own memory.
    Empty,
    /// Our data in the device's memory.
    Mmap {
        /// How much.
        bytes_used: usize,
    },
    /// Our data in a dma-buf.
    DmaBuf {
        /// The dma-buf.
        fd: RawFd,
        /// Bytes from its start to the end of the data.
        bytes_used: usize,
    },
}

/// An open device node.
#[derive(Debug)]
pub struct Device {
    file: File,
    path: PathBuf,
}

impl Device {
    /// Opens a node; calls on it do not block.
    pub fn open(path: &Path) -> Result<Self, V4l2Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|source| V4l2Error { path: path.display().to_string(), call: "open", source })?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a call, again if a signal interrupted it, and names the device in its error.
    fn call<T, E: IntoErrno>(
        &self,
        name: &'static str,
        mut call: impl FnMut(&File) -> Result<T, E>,
    ) -> Result<T, V4l2Error> {
        loop {
            match call(&self.file).map_err(IntoErrno::into_errno) {
                Ok(value) => return Ok(value),
                Err(libc::EINTR) => {}
                Err(errno) => return Err(self.error(name, io::Error::from_raw_os_error(errno))),
            }
        }
    }

    /// An error of this device.
    pub fn error(&self, call: &'static str, source: io::Error) -> V4l2Error {
        V4l2Error { path: self.path.display().to_string(), call, source }
    }

    /// Driver, card and capabilities.
    pub fn capability(&self) -> Result<Capability, V4l2Error> {
        self.call("VIDIOC_QUERYCAP", ioctl::querycap)
    }

    /// The formats a queue offers.
    pub fn formats(&self, queue: QueueType) -> Vec<Fourcc> {
        let described = |index| {
            let description: ioctl::FmtDesc =
                self.call("VIDIOC_ENUM_FMT", |file| ioctl::enum_fmt(file, queue, index)).ok()?;
            Some(description.pixelformat)
        };
        // No driver has as many; one that never ends must not keep us here.
        (0..256).map_while(described).collect()
    }

    /// Asks for a format, with the full range of brightness that a JPEG has. Returns what the driver made of it.
    pub fn set_format(&self, queue: QueueType, format: &Format) -> Result<Granted, V4l2Error> {
        let mut raw = bindings::v4l2_format { type_: queue as u32, ..Default::default() };
        let field = bindings::v4l2_field_V4L2_FIELD_NONE;
        if queue.is_multiplanar() {
            let mut pix = bindings::v4l2_pix_format_mplane {
                width: format.width,
                height: format.height,
                pixelformat: format.pixelformat.to_u32(),
                field,
                num_planes: 1,
                ..Default::default()
            };
            pix.colorspace = bindings::v4l2_colorspace_V4L2_COLORSPACE_JPEG;
            pix.quantization = FULL_RANGE as u8;
            pix.flags = SET_CSC as u8;
            if let Some(plane) = format.plane_fmt.first() {
                pix.plane_fmt[0].bytesperline = plane.bytesperline;
                pix.plane_fmt[0].sizeimage = plane.sizeimage;
            }
            raw.fmt.pix_mp = pix;
        } else {
            raw.fmt.pix = bindings::v4l2_pix_format {
                width: format.width,
                height: format.height,
                pixelformat: format.pixelformat.to_u32(),
                field,
                bytesperline: format.plane_fmt.first().map_or(0, |plane| plane.bytesperline),
                sizeimage: format.plane_fmt.first().map_or(0, |plane| plane.sizeimage),
                colorspace: bindings::v4l2_colorspace_V4L2_COLORSPACE_JPEG,
                quantization: FULL_RANGE,
                flags: SET_CSC,
                // Without it the kernel takes the fields above for old garbage.
                priv_: bindings::V4L2_PIX_FMT_PRIV_MAGIC,
                ..Default::default()
            };
        }
        let granted: bindings::v4l2_format =
            self.call("VIDIOC_S_FMT", |file| ioctl::s_fmt(&mut file.as_raw_fd(), raw))?;
        // SAFETY: the queue's type says which member the driver filled; both hold plain numbers.
        let (colorspace, quantization) = unsafe {
            if queue.is_multiplanar() {
                (granted.fmt.pix_mp.colorspace, u32::from(granted.fmt.pix_mp.quantization))
            } else {
                (granted.fmt.pix.colorspace, granted.fmt.pix.quantization)
            }
        };
        // V4L2_MAP_QUANTIZATION_DEFAULT of videodev2.h, for YCbCr.
        let is_full = match quantization {
            bindings::v4l2_quantization_V4L2_QUANTIZATION_DEFAULT => {
                colorspace == bindings::v4l2_colorspace_V4L2_COLORSPACE_JPEG
            }
            quantization => quantization == FULL_RANGE,
        };
        let format = Format::try_from(granted)
            .map_err(|error| self.error("VIDIOC_S_FMT", io::Error::other(error.to_string())))?;
        Ok(Granted { format, limited_range: !is_full })
    }

    /// Asks for a frame rate, in frames per second. Returns the granted one, or `None` where the driver has none.
    pub fn set_frame_rate(&self, queue: QueueType, rate: f64) -> Option<f64> {
        let mut parm = bindings::v4l2_streamparm { type_: queue as u32, ..Default::default() };
        let interval = bindings::v4l2_fract { numerator: 1000, denominator: (rate * 1000.0).round() as u32 };
        let is_output = matches!(queue, QueueType::VideoOutput | QueueType::VideoOutputMplane);
        if is_output {
            parm.parm.output = bindings::v4l2_outputparm { timeperframe: interval, ..Default::default() };
        } else {
            parm.parm.capture = bindings::v4l2_captureparm { timeperframe: interval, ..Default::default() };
        }
        let granted: bindings::v4l2_streamparm = self.call("VIDIOC_S_PARM", |file| ioctl::s_parm(file, parm)).ok()?;
        // SAFETY: the driver filled the member that belongs to the queue's direction; both hold plain numbers.
        let interval =
            unsafe { if is_output { granted.parm.output.timeperframe } else { granted.parm.capture.timeperframe } };
        (interval.numerator > 0).then(|| f64::from(interval.denominator) / f64::from(interval.numerator))
    }

    /// Sets the visible part of what is encoded.
    pub fn set_crop(&self, width: u32, height: u32) -> Result<(), V4l2Error> {
        let wanted = v4l2r::Rect::new(0, 0, width, height);
        let granted: v4l2r::Rect = self.call("VIDIOC_S_SELECTION", |file| {
            ioctl::s_selection(
                file,
                // Not the MPLANE type, on either kind of queue: VIDIOC_G_SELECTION's documentation.
                ioctl::SelectionType::Output,
                ioctl::SelectionTarget::Crop,
                bindings::v4l2_rect { left: 0, top: 0, width, height },
                ioctl::SelectionFlags::empty(),
            )
        })?;
        if granted == wanted {
            Ok(())
        } else {
            Err(self.error("VIDIOC_S_SELECTION", io::Error::other(format!("it crops to {granted:?}"))))
        }
    }

    /// Allocates buffers and returns their number. A `count` of 0 frees them.
    pub fn request_buffers(&self, queue: QueueType, memory: MemoryType, count: u32) -> Result<usize, V4l2Error> {
        self.call("VIDIOC_REQBUFS", |file| ioctl::reqbufs(file, queue, memory, count))
    }

    /// Maps a buffer of ours into memory.
    pub fn map(&self, queue: QueueType, index: usize) -> Result<PlaneMapping, V4l2Error> {
        let buffer: ioctl::QueryBuffer = self.call("VIDIOC_QUERYBUF", |file| ioctl::querybuf(file, queue, index))?;
        let [plane] = buffer.planes.as_slice() else {
            let reason = format!("a buffer of {} planes, 1 is supported", buffer.planes.len());
            return Err(self.error("VIDIOC_QUERYBUF", io::Error::other(reason)));
        };
        self.call("mmap", |file| ioctl::mmap(file, plane.mem_offset, plane.length))
    }

    /// A buffer of ours as a dma-buf, for another device.
    pub fn export(&self, queue: QueueType, index: usize) -> Result<OwnedFd, V4l2Error> {
        self.call("VIDIOC_EXPBUF", |file| {
            ioctl::expbuf(file, queue, index, 0, ioctl::ExpbufFlags::CLOEXEC | ioctl::ExpbufFlags::RDONLY)
        })
    }

    /// Gives a buffer to the device.
    pub fn queue(
        &self,
        queue: QueueType,
        index: usize,
        payload: Payload,
        timestamp: Option<MonotonicTime>,
    ) -> Result<(), V4l2Error> {
        let mut buffer = UncheckedV4l2Buffer::new_for_querybuf(queue, Some(index as u32));
        let (memory, bytes_used) = match payload {
            Payload::Empty => (MemoryType::Mmap, 0),
            Payload::Mmap { bytes_used } => (MemoryType::Mmap, bytes_used),
            Payload::DmaBuf { bytes_used, .. } => (MemoryType::DmaBuf, bytes_used),
        };
        let raw = &mut buffer.0;
        raw.memory = memory as u32;
        raw.field = bindings::v4l2_field_V4L2_FIELD_NONE;
        if let Some(timestamp) = timestamp {
            let since = timestamp.since(MonotonicTime::from_nanos(0));
            // On the Pi both are 32 bits wide, elsewhere 64; CLOCK_MONOTONIC fits for 68 years.
            raw.timestamp.tv_sec = since.as_secs() as _;
            raw.timestamp.tv_usec = (since.subsec_micros() as i32).into();
            raw.flags = bindings::V4L2_BUF_FLAG_TIMESTAMP_COPY;
        }
        if let Some(planes) = &mut buffer.1 {
            raw.length = 1;
            planes[0].bytesused = bytes_used as u32;
            if let Payload::DmaBuf { fd, .. } = payload {
                planes[0].m.fd = fd;
            }
        } else {
            raw.bytesused = bytes_used as u32;
            if let Payload::DmaBuf { fd, .. } = payload {
                raw.m.fd = fd;
            }
        }
        // A length of 0 means all of a dma-buf (vb2's __prepare_dmabuf).
        let raw: *mut bindings::v4l2_buffer = buffer.as_mut();
        self.raw_call(VIDIOC_QBUF, raw).map_err(|error| self.error("VIDIOC_QBUF", error))
    }

    /// A call for which v4l2r has no fitting types or functions.
    fn raw_call(&self, request: libc::Ioctl, buffer: *mut bindings::v4l2_buffer) -> io::Result<()> {
        loop {
            // SAFETY: both requests read and write this struct, with its planes where it has any; the callers keep both.
            if unsafe { libc::ioctl(self.file.as_raw_fd(), request, buffer) } == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINTR) {
                return Err(error);
            }
        }
    }

    /// Takes a finished buffer back; `None` if none is finished.
    ///
    /// # Errors
    /// `EPIPE` after the last buffer of a stream that ended.
    pub fn dequeue(&self, queue: QueueType, memory: MemoryType) -> Result<Option<Dequeued>, V4l2Error> {
        // v4l2r's own function leaves `memory` at 0; the documentation of VIDIOC_QBUF wants it set, whatever vb2 does.
        let mut buffer = UncheckedV4l2Buffer::new_for_querybuf(queue, None);
        buffer.0.memory = memory as u32;
        let raw: *mut bindings::v4l2_buffer = buffer.as_mut();
        match self.raw_call(VIDIOC_DQBUF, raw) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return Ok(None),
            Err(error) => return Err(self.error("VIDIOC_DQBUF", error)),
        }
        let raw = &buffer.0;
        let flags = BufferFlags::from_bits_truncate(raw.flags);
        let (bytes_used, data_offset) = match &buffer.1 {
            Some(planes) => (planes[0].bytesused, planes[0].data_offset),
            None => (raw.bytesused, 0),
        };
        let stamp = Duration::from_secs(u64::try_from(raw.timestamp.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(raw.timestamp.tv_usec).unwrap_or(0));
        Ok(Some(Dequeued {
            index: raw.index as usize,
            bytes_used: bytes_used as usize,
            data_offset: data_offset as usize,
            sequence: raw.sequence,
            timestamp: MonotonicTime::from_nanos(stamp.as_nanos() as u64),
            has_error: flags.contains(BufferFlags::ERROR),
            is_last: flags.contains(BufferFlags::LAST),
        }))
    }

    /// Starts a queue.
    pub fn stream_on(&self, queue: QueueType) -> Result<(), V4l2Error> {
        self.call("VIDIOC_STREAMON", |file| ioctl::streamon(file, queue))
    }

    /// Stops a queue: all its buffers are ours again.
    pub fn stream_off(&self, queue: QueueType) -> Result<(), V4l2Error> {
        self.call("VIDIOC_STREAMOFF", |file| ioctl::streamoff(file, queue))
    }

    /// Describes a control; `None` if the device does not have it.
    pub fn query_control(&self, id: u32) -> Option<bindings::v4l2_query_ext_ctrl> {
        self.query(id, ioctl::QueryCtrlFlags::empty())
    }

    fn query(&self, id: u32, flags: ioctl::QueryCtrlFlags) -> Option<bindings::v4l2_query_ext_ctrl> {
        self.call("VIDIOC_QUERY_EXT_CTRL", |file| match ioctl::CtrlId::new(id) {
            Ok(id) => ioctl::query_ext_ctrl(file, id, flags),
            Err(_) => Err(ioctl::QueryCtrlError::IoctlError(v4l2r::nix::errno::Errno::EINVAL)),
        })
        .ok()
    }

    /// All controls, in the driver's order.
    pub fn controls(&self) -> Vec<bindings::v4l2_query_ext_ctrl> {
        let mut all: Vec<bindings::v4l2_query_ext_ctrl> = Vec::new();
        let mut last = 0;
        while let Some(control) = self.query(last, ioctl::QueryCtrlFlags::NEXT) {
            // Ids grow; a driver that does not keep to that must not keep us here.
            if control.id <= last {
                break;
            }
            last = control.id;
            all.push(control);
        }
        all
    }

    /// A menu control's entry: its number for integer menus, its name for others. `None` for one that is not offered.
    pub fn menu_entry(&self, id: u32, index: u32, is_integer: bool) -> Option<String> {
        let entry: bindings::v4l2_querymenu =
            self.call("VIDIOC_QUERYMENU", |file| ioctl::querymenu(file, id, index)).ok()?;
        // SAFETY: the kind of menu says which member of the union the driver filled; both are plain bytes. The struct is
        // packed, so they are copied out.
        unsafe {
            if is_integer {
                let value = entry.__bindgen_anon_1.value;
                return Some(value.to_string());
            }
            let name = entry.__bindgen_anon_1.name;
            Some(until_zero(&name))
        }
    }

    /// A control's value, of 64 bits where `is_wide`.
    pub fn control(&self, id: u32, is_wide: bool) -> Result<i64, V4l2Error> {
        if !is_wide {
            return self.call("VIDIOC_G_CTRL", |file| ioctl::g_ctrl(file, id)).map(i64::from);
        }
        let mut control = bindings::v4l2_ext_control { id, ..Default::default() };
        self.call("VIDIOC_G_EXT_CTRLS", |file| {
            let one = std::slice::from_mut(&mut control);
            ioctl::g_ext_ctrls(file, ioctl::CtrlWhich::Current, one).map_err(|error| error.error)
        })?;
        // SAFETY: a 64-bit control is asked for, so the driver filled this member; it is a plain number.
        Ok(unsafe { control.__bindgen_anon_1.value64 })
    }

    /// Sets a control.
    pub fn set_control(&self, id: u32, value: i64, is_wide: bool) -> Result<(), V4l2Error> {
        if !is_wide {
            // A bit mask may use all 32 bits.
            let value = value.clamp(i64::from(i32::MIN), i64::from(u32::MAX)) as u32 as i32;
            return self.call("VIDIOC_S_CTRL", |file| ioctl::s_ctrl(file, id, value)).map(drop);
        }
        let mut control = bindings::v4l2_ext_control { id, ..Default::default() };
        control.__bindgen_anon_1.value64 = value;
        self.call("VIDIOC_S_EXT_CTRLS", |file| {
            let one = std::slice::from_mut(&mut control);
            ioctl::s_ext_ctrls(file, ioctl::CtrlWhich::Current, one).map_err(|error| error.error)
        })
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A C string in a fixed array.
pub fn until_zero(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
}

/// `_IOWR('V', number, struct v4l2_buffer)`, whose size depends on the machine.
const fn buffer_request(number: usize) -> libc::Ioctl {
    (3 << 30 | size_of::<bindings::v4l2_buffer>() << 16 | (b'V' as usize) << 8 | number) as libc::Ioctl
}
const VIDIOC_QBUF: libc::Ioctl = buffer_request(15);
const VIDIOC_DQBUF: libc::Ioctl = buffer_request(17);
