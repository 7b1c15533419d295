//! A client of V4L2, with bare system calls.

use std::ffi::CString;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::sys::{self, v4l2_buffer, v4l2_control, v4l2_exportbuffer, v4l2_format, v4l2_plane, v4l2_requestbuffers};

pub const OUTPUT: u32 = sys::BUF_TYPE_VIDEO_OUTPUT_MPLANE;
pub const CAPTURE: u32 = sys::BUF_TYPE_VIDEO_CAPTURE_MPLANE;

/// A call's error number.
pub type Result<T = ()> = std::result::Result<T, i32>;

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

/// Opens a path.
pub fn open(path: &str, flags: i32) -> Result<Device> {
    let path = CString::new(path).unwrap();
    // SAFETY: a string that ends in NUL.
    match unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, 0) } {
        -1 => Err(errno()),
        fd => Ok(Device { fd }),
    }
}

/// An open node; not closed by itself, a test may want to see what closing does.
pub struct Device {
    pub fd: RawFd,
}

/// A buffer with one plane.
pub struct Buffer {
    pub buffer: v4l2_buffer,
    pub plane: v4l2_plane,
}

impl Buffer {
    pub fn new(buffer_type: u32, memory: u32, index: u32) -> Self {
        let mut buffer: v4l2_buffer = sys::zeroed();
        buffer.type_ = buffer_type;
        buffer.memory = memory;
        buffer.index = index;
        buffer.length = 1;
        Self { buffer, plane: sys::zeroed() }
    }
}

/// A mapping.
pub struct Map {
    at: *mut u8,
    pub len: usize,
}

impl Map {
    pub fn new(fd: RawFd, offset: i64, len: usize, flags: i32) -> Self {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the system's choice.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, fd, offset as libc::off_t) };
        assert_ne!(at, libc::MAP_FAILED, "mmap: {}", errno());
        Self { at: at.cast(), len }
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: mapped for as long as the process lives.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
    }
}

/// Memory that stands for a dma-buf.
pub fn dmabuf(len: usize) -> RawFd {
    // SAFETY: a string that ends in NUL; a size for our own descriptor.
    unsafe {
        let fd = libc::memfd_create(c"picture".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0 && libc::ftruncate(fd, len as libc::off_t) == 0);
        fd
    }
}

impl Device {
    pub fn call<T>(&self, request: u32, argument: &mut T) -> Result {
        // SAFETY: the request's argument.
        match unsafe { libc::ioctl(self.fd, request.into(), std::ptr::from_mut(argument)) } {
            -1 => Err(errno()),
            _ => Ok(()),
        }
    }

    pub fn close(&self) {
        // SAFETY: ours.
        assert_eq!(unsafe { libc::close(self.fd) }, 0);
    }

    /// `S_FMT` (or another of its kind); gives what came back.
    pub fn format(&self, call: u32, buffer_type: u32, fourcc: [u8; 4], size: [u32; 2]) -> Result<v4l2_format> {
        let mut format: v4l2_format = sys::zeroed();
        format.type_ = buffer_type;
        format.fmt.pix_mp = sys::zeroed();
        format.fmt.pix_mp.width = size[0];
        format.fmt.pix_mp.height = size[1];
        format.fmt.pix_mp.pixelformat = sys::code(fourcc);
        format.fmt.pix_mp.num_planes = 1;
        self.call(call, &mut format)?;
        Ok(format)
    }

    pub fn request_buffers(&self, buffer_type: u32, memory: u32, count: u32) -> Result<u32> {
        let mut request: v4l2_requestbuffers = sys::zeroed();
        request.type_ = buffer_type;
        request.memory = memory;
        request.count = count;
        self.call(sys::REQBUFS, &mut request)?;
        assert!(request.capabilities & sys::BUF_CAP_SUPPORTS_MMAP != 0);
        Ok(request.count)
    }

    pub fn buffer(&self, call: u32, buffer: &mut Buffer) -> Result {
        buffer.buffer.m.planes = &raw mut buffer.plane;
        self.call(call, &mut buffer.buffer)
    }

    pub fn map(&self, buffer_type: u32, index: u32) -> Map {
        let mut buffer = Buffer::new(buffer_type, sys::MEMORY_MMAP, index);
        self.buffer(sys::QUERYBUF, &mut buffer).unwrap();
        // SAFETY: with memory MMAP it is the offset.
        let offset = unsafe { buffer.plane.m.mem_offset };
        Map::new(self.fd, i64::from(offset), buffer.plane.length as usize, libc::MAP_SHARED)
    }

    pub fn queue(&self, buffer_type: u32, index: u32, bytes_used: u32) -> Result {
        let mut buffer = Buffer::new(buffer_type, sys::MEMORY_MMAP, index);
        buffer.plane.bytesused = bytes_used;
        #[allow(clippy::cast_lossless, reason = "its width differs between systems")]
        let tv_usec = index as libc::suseconds_t;
        buffer.buffer.timestamp = libc::timeval { tv_sec: 7, tv_usec };
        self.buffer(sys::QBUF, &mut buffer)
    }

    pub fn dequeue(&self, buffer_type: u32, memory: u32) -> Result<Buffer> {
        let mut buffer = Buffer::new(buffer_type, memory, 0);
        self.buffer(sys::DQBUF, &mut buffer)?;
        Ok(buffer)
    }

    pub fn stream(&self, on: bool, buffer_type: u32) -> Result {
        self.call(if on { sys::STREAMON } else { sys::STREAMOFF }, &mut { buffer_type })
    }

    pub fn set(&self, id: u32, value: i32) -> Result<i32> {
        let mut control = v4l2_control { id, value };
        self.call(sys::S_CTRL, &mut control)?;
        Ok(control.value)
    }

    pub fn get(&self, id: u32) -> Result<i32> {
        let mut control = v4l2_control { id, value: -1 };
        self.call(sys::G_CTRL, &mut control)?;
        Ok(control.value)
    }

    pub fn export(&self, buffer_type: u32, index: u32) -> Result<RawFd> {
        let mut export: v4l2_exportbuffer = sys::zeroed();
        export.type_ = buffer_type;
        export.index = index;
        export.flags = (libc::O_CLOEXEC | libc::O_RDWR) as u32;
        self.call(sys::EXPBUF, &mut export)?;
        Ok(export.fd)
    }

    pub fn poll(&self, events: i16, timeout: Duration) -> i16 {
        let mut entry = libc::pollfd { fd: self.fd, events, revents: 0 };
        // SAFETY: one entry.
        let result = unsafe { libc::poll(&raw mut entry, 1, timeout.as_millis() as i32) };
        assert!(result >= 0, "poll: {}", errno());
        entry.revents
    }
}

/// An encoder with everything set up: buffers of both queues mapped, CAPTURE queued, streaming.
pub struct Encoder {
    pub device: Device,
    pub output: Vec<Map>,
    pub capture: Vec<Map>,
    pub stride: usize,
    pub rows: usize,
    pub bytes_used: u32,
}

pub const SIZE: [u32; 2] = [320, 240];

impl Encoder {
    /// Of `/dev/video31`, not yet streaming.
    pub fn prepared() -> Self {
        let device = open("/dev/video31", libc::O_RDWR | libc::O_NONBLOCK).unwrap();
        device.format(sys::S_FMT, CAPTURE, *b"JPEG", SIZE).unwrap();
        let format = device.format(sys::S_FMT, OUTPUT, *b"YU12", SIZE).unwrap();
        // SAFETY: a multi-planar type.
        let format = unsafe { format.fmt.pix_mp };
        for (buffer_type, count) in [(OUTPUT, 2), (CAPTURE, 2)] {
            assert!(device.request_buffers(buffer_type, sys::MEMORY_MMAP, count).unwrap() >= count);
        }
        let output = (0..2).map(|index| device.map(OUTPUT, index)).collect();
        let capture = (0..2).map(|index| device.map(CAPTURE, index)).collect();
        Self {
            device,
            output,
            capture,
            stride: format.plane_fmt[0].bytesperline as usize,
            rows: format.height as usize,
            bytes_used: format.plane_fmt[0].sizeimage,
        }
    }

    pub fn streaming() -> Self {
        let encoder = Self::prepared();
        for index in 0..2 {
            encoder.device.queue(CAPTURE, index, 0).unwrap();
        }
        encoder.device.stream(true, OUTPUT).unwrap();
        encoder.device.stream(true, CAPTURE).unwrap();
        encoder
    }

    /// Draws a grey picture and queues it.
    pub fn submit(&mut self, index: u32, grey: u8) -> Result {
        let (luma, chroma) = self.output[index as usize].bytes().split_at_mut(self.stride * self.rows);
        luma.fill(grey);
        chroma.fill(128);
        self.device.queue(OUTPUT, index, self.bytes_used)
    }

    /// Waits for the next CAPTURE buffer.
    pub fn result(&self) -> Result<Buffer> {
        let revents = self.device.poll(libc::POLLIN, Duration::from_secs(5));
        assert!(revents & libc::POLLIN != 0, "{revents:#x}");
        self.device.dequeue(CAPTURE, sys::MEMORY_MMAP)
    }

    /// One frame from queueing to the JPEG, buffers given back.
    pub fn encode(&mut self, grey: u8) -> Vec<u8> {
        self.submit(0, grey).unwrap();
        let done = self.result().unwrap();
        assert_eq!(done.buffer.flags & sys::BUF_FLAG_ERROR, 0);
        let index = done.buffer.index;
        let jpeg = self.capture[index as usize].bytes()[..done.plane.bytesused as usize].to_vec();
        self.device.dequeue(OUTPUT, sys::MEMORY_MMAP).unwrap();
        self.device.queue(CAPTURE, index, 0).unwrap();
        jpeg
    }
}
