//! The cameras, and a camera's buffers in the encoder.

use std::path::Path;
use std::time::{Duration, Instant};

use pinhole::camera::test_pattern::read_frame_number;
use pinhole::frame::Size;

use crate::client::{self, CAPTURE, Device, Map, OUTPUT, Result};
use crate::{aborts, passes, sys};

/// A client that captures from `/dev/video0`.
struct Client {
    device: Device,
    maps: Vec<Map>,
    size: [u32; 2],
    stride: usize,
}

const NONBLOCK: i32 = libc::O_RDWR | libc::O_NONBLOCK;

fn open() -> Device {
    client::open("/dev/video0", NONBLOCK).unwrap()
}

fn single_planar(memory: u32, index: u32) -> sys::v4l2_buffer {
    let mut buffer: sys::v4l2_buffer = sys::zeroed();
    buffer.type_ = sys::BUF_TYPE_VIDEO_CAPTURE;
    buffer.memory = memory;
    buffer.index = index;
    buffer
}

impl Client {
    fn new(fourcc: [u8; 4], size: [u32; 2]) -> Self {
        Self::try_new(fourcc, size).unwrap()
    }

    fn try_new(fourcc: [u8; 4], size: [u32; 2]) -> Result<Self> {
        let device = client::open("/dev/video0", NONBLOCK)?;
        let mut format: sys::v4l2_format = sys::zeroed();
        format.type_ = sys::BUF_TYPE_VIDEO_CAPTURE;
        format.fmt.pix = sys::zeroed();
        format.fmt.pix.width = size[0];
        format.fmt.pix.height = size[1];
        format.fmt.pix.pixelformat = sys::code(fourcc);
        device.call(sys::S_FMT, &mut format)?;
        // SAFETY: a single-planar type.
        let pix = unsafe { format.fmt.pix };
        assert_eq!(pix.pixelformat, sys::code(fourcc));
        assert_eq!(device.request_buffers(sys::BUF_TYPE_VIDEO_CAPTURE, sys::MEMORY_MMAP, 3)?, 3);
        let mut maps = Vec::new();
        for index in 0..3 {
            let mut buffer = single_planar(sys::MEMORY_MMAP, index);
            device.call(sys::QUERYBUF, &mut buffer)?;
            assert_eq!(buffer.length, pix.sizeimage);
            // SAFETY: with memory MMAP it is the offset.
            let offset = unsafe { buffer.m.offset };
            maps.push(Map::new(device.fd, i64::from(offset), buffer.length as usize, libc::MAP_SHARED));
        }
        let client = Self { device, maps, size: [pix.width, pix.height], stride: pix.bytesperline as usize };
        client.start()?;
        Ok(client)
    }

    fn start(&self) -> Result {
        for index in 0..3 {
            self.queue(index)?;
        }
        self.device.stream(true, sys::BUF_TYPE_VIDEO_CAPTURE)
    }

    fn queue(&self, index: u32) -> Result {
        self.device.call(sys::QBUF, &mut single_planar(sys::MEMORY_MMAP, index))
    }

    fn next(&self) -> Result<sys::v4l2_buffer> {
        self.device.poll(libc::POLLIN, Duration::from_secs(5));
        let mut buffer = single_planar(sys::MEMORY_MMAP, 0);
        self.device.call(sys::DQBUF, &mut buffer)?;
        Ok(buffer)
    }

    /// The next frame's number as drawn, and its buffer, given back.
    fn number(&mut self, flips: [bool; 2]) -> (u32, sys::v4l2_buffer) {
        let buffer = self.next().unwrap();
        let [width, height] = self.size.map(|length| length as usize);
        let packed = self.stride >= 2 * width;
        let bytes = self.maps[buffer.index as usize].bytes();
        let mut rows: Vec<Vec<u8>> = bytes
            .chunks(self.stride)
            .take(height)
            .map(|row| row.iter().step_by(if packed { 2 } else { 1 }).take(width).copied().collect())
            .collect();
        if flips[0] {
            for row in &mut rows {
                row.reverse();
            }
        }
        if flips[1] {
            rows.reverse();
        }
        let size = Size { width: self.size[0], height: self.size[1] };
        let number = read_frame_number(&rows.concat(), width, size).unwrap();
        self.queue(buffer.index).unwrap();
        (number, buffer)
    }
}

macro_rules! cases {
    ($($name:ident($settings:literal) $body:expr;)*) => {
        pub const CASES: &[crate::Case] = &[
            $((concat!("camera ", stringify!($name)), { fn case() { $body } case }),)*
            ("camera files", files),
            ("camera requeued_too_early", requeued_too_early),
        ];
        mod tests {
            $(#[test]
            fn $name() {
                crate::passes(concat!("camera ", stringify!($name)), $settings);
            })*
        }
    };
}

fn draws(fourcc: [u8; 4]) {
    let mut client = Client::new(fourcc, [320, 240]);
    assert_eq!(client.size, [320, 240]);
    for expected in 0..3 {
        let (number, buffer) = client.number([false, false]);
        assert_eq!((number, buffer.sequence), (expected, expected));
        assert_eq!(buffer.flags & sys::BUF_FLAG_TIMESTAMP_MASK, sys::BUF_FLAG_TIMESTAMP_MONOTONIC);
        assert!(buffer.timestamp.tv_sec > 0 || buffer.timestamp.tv_usec > 0);
    }
}

cases! {
    yuyv("camera=0:YUYV;cam_fps=100") draws(*b"YUYV");
    nv12("camera=0:NV12;cam_fps=100;cam_stride_pad=32") draws(*b"NV12");
    yu12("camera=/dev/video0:YU12;cam_fps=100;cam_stride_pad=64") draws(*b"YU12");
    flips("camera=0:YU12;cam_fps=100") {
        for flips in [[true, false], [false, true], [true, true]] {
            let mut client = Client::new(*b"YU12", [320, 240]);
            client.device.set(sys::CID_HFLIP, i32::from(flips[0])).unwrap();
            client.device.set(sys::CID_VFLIP, i32::from(flips[1])).unwrap();
            // All three buffers may have been filled before.
            for _ in 0..3 {
                let before = client.next().unwrap();
                client.queue(before.index).unwrap();
            }
            let (number, buffer) = client.number(flips);
            assert_eq!(number, buffer.sequence);
            client.device.close();
        }
    };
    enumerates("camera=0:YUYV") {
        let device = open();
        let mut sizes = Vec::new();
        let mut size: sys::v4l2_frmsizeenum = sys::zeroed();
        size.pixel_format = sys::code(*b"YUYV");
        while device.call(sys::ENUM_FRAMESIZES, &mut size).is_ok() {
            // SAFETY: a discrete size.
            let discrete = unsafe { size.size.discrete };
            sizes.push([discrete.width, discrete.height]);
            size.index += 1;
        }
        assert_eq!(sizes.len(), 5);
        let mut interval: sys::v4l2_frmivalenum = sys::zeroed();
        interval.pixel_format = size.pixel_format;
        [interval.width, interval.height] = sizes[0];
        device.call(sys::ENUM_FRAMEINTERVALS, &mut interval).unwrap();
        assert_eq!((interval.interval[0].numerator, interval.interval[0].denominator), (1, 30));
        // The nearest size, as uvcvideo counts.
        assert_eq!(Client::new(*b"YUYV", [1920, 1080]).size, [1280, 720]);
        assert_eq!(device.request_buffers(sys::BUF_TYPE_VIDEO_CAPTURE, sys::MEMORY_MMAP, 1), Err(libc::EBUSY));
        let mut parm: sys::v4l2_streamparm = sys::zeroed();
        parm.type_ = sys::BUF_TYPE_VIDEO_CAPTURE;
        device.call(sys::G_PARM, &mut parm).unwrap();
        // SAFETY: a capture type.
        assert_eq!(unsafe { parm.parm.capture }.timeperframe.denominator, 30);
    };
    controls("camera=0:YUYV") {
        let device = open();
        let mut query: sys::v4l2_query_ext_ctrl = sys::zeroed();
        query.id = sys::CTRL_FLAG_NEXT_CTRL | sys::CTRL_FLAG_NEXT_COMPOUND;
        let mut kinds = Vec::new();
        while device.call(sys::QUERY_EXT_CTRL, &mut query).is_ok() {
            kinds.push(query.type_);
            query.id |= sys::CTRL_FLAG_NEXT_CTRL | sys::CTRL_FLAG_NEXT_COMPOUND;
        }
        for kind in [1, 2, 3, 4, 5, 6, 9] {
            assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
        }
        assert_eq!(device.set(sys::CID_BRIGHTNESS, 1000), Ok(64));
        assert_eq!(device.set(sys::CID_EXPOSURE_AUTO, 2), Err(libc::EINVAL));
        assert_eq!(device.set(sys::CID_EXPOSURE_AUTO, 4), Err(libc::ERANGE));
        assert_eq!(device.set(sys::CID_TILT_ABSOLUTE, 5), Err(libc::EBUSY));
        assert_eq!(device.set(0x0098_f009, 5), Err(libc::EACCES));
        assert_eq!(device.get(sys::CID_DO_WHITE_BALANCE), Err(libc::EACCES));
        let mut menu: sys::v4l2_querymenu = sys::zeroed();
        menu.id = sys::CID_EXPOSURE_AUTO;
        assert_eq!(device.call(sys::QUERYMENU, &mut menu), Err(libc::EINVAL));
        menu.index = 1;
        device.call(sys::QUERYMENU, &mut menu).unwrap();
        let name = menu.name;
        assert!(name.starts_with(b"Manual Mode\0"));
    };
    slow_client("camera=0:YU12;cam_fps=200") {
        let mut client = Client::new(*b"YU12", [320, 240]);
        std::thread::sleep(Duration::from_millis(100));
        let numbers: Vec<u32> = (0..4).map(|_| client.number([false, false]).0).collect();
        assert_eq!(numbers[..3], [0, 1, 2]);
        assert!(numbers[3] > 10, "{numbers:?}");
    };
    unplugged("camera=0:YU12;cam_fps=100;cam_unplug@3:2") {
        let client = Client::new(*b"YU12", [320, 240]);
        while client.next().is_ok() {}
        assert_eq!(client.device.poll(libc::POLLIN, Duration::from_secs(5)), libc::POLLERR | libc::POLLHUP);
        assert_eq!(client.next().err(), Some(libc::ENODEV));
        client.device.close();
        assert_eq!(client::open("/dev/video0", NONBLOCK).err(), Some(libc::ENOENT));
        while client::open("/dev/video0", NONBLOCK).map(|device| device.close()).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Client::new(*b"YU12", [320, 240]).number([false, false]);
    };
    stalled("camera=0:YU12;cam_fps=100;cam_stall@2") {
        let mut client = Client::new(*b"YU12", [320, 240]);
        client.number([false, false]);
        assert_eq!(client.device.poll(libc::POLLIN, Duration::from_millis(50)), 0);
        client.device.stream(false, sys::BUF_TYPE_VIDEO_CAPTURE).unwrap();
        client.start().unwrap();
        client.number([false, false]);
    };
    bad_frames("camera=0:YU12;cam_fps=100;cam_error_flag@1;cam_truncated@2;cam_empty@3;cam_eio@4") {
        let client = Client::new(*b"YU12", [320, 240]);
        let frames: Vec<_> = (0..3).map(|_| client.next().unwrap()).collect();
        assert!(frames[0].flags & sys::BUF_FLAG_ERROR != 0);
        assert!(frames[1].flags & sys::BUF_FLAG_ERROR == 0 && frames[1].bytesused < 320 * 240 * 3 / 2);
        assert_eq!(frames[2].bytesused, 0);
        client.queue(0).unwrap();
        assert_eq!(client.device.poll(libc::POLLIN, Duration::from_secs(5)), libc::POLLERR);
        assert_eq!(client.next().err(), Some(libc::EIO));
    };
    busy("camera=0:YU12;cam_busy=streamon:1") {
        assert_eq!(Client::try_new(*b"YU12", [320, 240]).err(), Some(libc::EBUSY));
    };
    poll_before_anything("camera=0:YU12") {
        assert_eq!(open().poll(libc::POLLIN, Duration::from_secs(5)), libc::POLLERR);
    };
    waits_blocking("camera=0:YU12;cam_fps=2") {
        let start = Instant::now();
        let client = Client::new(*b"YU12", [320, 240]);
        assert_eq!(client.device.poll(libc::POLLIN, Duration::from_secs(5)), libc::POLLIN);
        assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    };
    into_the_encoder_uncopied("camera=0:YU12;cam_fps=50") {
        let mut client = Client::new(*b"YU12", [320, 240]);
        let encoder = encoder();
        for _ in 0..3 {
            let (buffer, jpeg) = encode(&client, &encoder);
            let (number, size) = decode(&jpeg);
            assert_eq!((number, size), (buffer.sequence, Size { width: 320, height: 240 }));
            client.queue(buffer.index).unwrap();
        }
        client.maps.clear();
    };
}

/// An encoder for what a camera of 320x240 gives.
fn encoder() -> Device {
    let device = client::open("/dev/video31", NONBLOCK).unwrap();
    device.format(sys::S_FMT, CAPTURE, *b"JPEG", [320, 240]).unwrap();
    device.format(sys::S_FMT, OUTPUT, *b"YU12", [320, 240]).unwrap();
    device.request_buffers(OUTPUT, sys::MEMORY_DMABUF, 1).unwrap();
    device.request_buffers(CAPTURE, sys::MEMORY_MMAP, 1).unwrap();
    device.stream(true, OUTPUT).unwrap();
    device.stream(true, CAPTURE).unwrap();
    device
}

/// Imports the camera's next buffer as it is.
fn submit(client: &Client, encoder: &Device) -> sys::v4l2_buffer {
    let buffer = client.next().unwrap();
    let fd = client.device.export(sys::BUF_TYPE_VIDEO_CAPTURE, buffer.index).unwrap();
    encoder.queue(CAPTURE, 0, 0).unwrap();
    let mut output = client::Buffer::new(OUTPUT, sys::MEMORY_DMABUF, 0);
    output.plane.m.fd = fd;
    output.plane.bytesused = buffer.bytesused;
    encoder.buffer(sys::QBUF, &mut output).unwrap();
    Device { fd }.close();
    buffer
}

fn encode(client: &Client, encoder: &Device) -> (sys::v4l2_buffer, Vec<u8>) {
    let buffer = submit(client, encoder);
    assert_eq!(encoder.poll(libc::POLLIN, Duration::from_secs(5)), libc::POLLIN);
    let done = encoder.dequeue(CAPTURE, sys::MEMORY_MMAP).unwrap();
    encoder.dequeue(OUTPUT, sys::MEMORY_DMABUF).unwrap();
    let jpeg = encoder.map(CAPTURE, 0).bytes()[..done.plane.bytesused as usize].to_vec();
    (buffer, jpeg)
}

/// The number drawn in a JPEG.
fn decode(jpeg: &[u8]) -> (u32, Size) {
    use turbojpeg_sys as tj;
    let size = pinhole::jpeg::inspect(jpeg).unwrap().size;
    let mut luma = vec![0; (size.width * size.height) as usize];
    // SAFETY: a handle of our own; the pictures has as many grey pixels as `luma` bytes.
    unsafe {
        let handle = tj::tj3Init(tj::TJINIT_TJINIT_DECOMPRESS as i32);
        let format = tj::TJPF_TJPF_GRAY;
        assert_eq!(tj::tj3Decompress8(handle, jpeg.as_ptr(), jpeg.len() as _, luma.as_mut_ptr(), 0, format), 0);
        tj::tj3Destroy(handle);
    }
    (read_frame_number(&luma, size.width as usize, size).unwrap(), size)
}

#[test]
fn requeueing_a_camera_buffer_that_is_encoded_is_a_violation() {
    let settings = "camera=0:YU12;cam_fps=50;delay_us=500000";
    aborts("camera requeued_too_early", settings, "changed while it was queued");
}

fn requeued_too_early() {
    let client = Client::new(*b"YU12", [320, 240]);
    let encoder = encoder();
    let buffer = submit(&client, &encoder);
    client.queue(buffer.index).unwrap();
    encoder.poll(libc::POLLIN, Duration::from_secs(5));
}

#[test]
fn gives_the_files_of_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    for (i, size) in [[160, 120], [160, 120], [320, 240]].into_iter().enumerate() {
        std::fs::write(folder.path().join(format!("{i}.jpg")), grey_jpeg(size, i)).unwrap();
    }
    passes("camera files", &format!("camera=0:MJPG:{};cam_fps=100", folder.path().display()));
}

fn files() {
    let mut client = Client::new(*b"MJPG", [100, 100]);
    assert_eq!((client.size, client.stride), ([160, 120], 0));
    for _ in 0..4 {
        let buffer = client.next().unwrap();
        let jpeg = &client.maps[buffer.index as usize].bytes()[..buffer.bytesused as usize];
        assert_eq!(jpeg, grey_jpeg([160, 120], buffer.sequence as usize % 2));
        client.queue(buffer.index).unwrap();
    }
    assert_eq!(client.device.get(sys::CID_HFLIP), Err(libc::EINVAL));
}

fn grey_jpeg(size: [u32; 2], grey: usize) -> Vec<u8> {
    use turbojpeg_sys as tj;
    let pixels = vec![grey as u8 * 50; (size[0] * size[1]) as usize];
    let (mut out, mut length) = (std::ptr::null_mut(), 0);
    // SAFETY: a handle of our own; as many grey pixels as the size says; the JPEG is copied before it is freed.
    unsafe {
        let handle = tj::tj3Init(tj::TJINIT_TJINIT_COMPRESS as i32);
        tj::tj3Set(handle, tj::TJPARAM_TJPARAM_QUALITY as i32, 80);
        tj::tj3Set(handle, tj::TJPARAM_TJPARAM_SUBSAMP as i32, tj::TJSAMP_TJSAMP_GRAY);
        let [width, height] = size.map(u32::cast_signed);
        let format = tj::TJPF_TJPF_GRAY;
        let result = tj::tj3Compress8(handle, pixels.as_ptr(), width, 0, height, format, &raw mut out, &raw mut length);
        assert_eq!(result, 0);
        let jpeg = std::slice::from_raw_parts(out, length as usize).to_vec();
        tj::tj3Free(out.cast());
        tj::tj3Destroy(handle);
        jpeg
    }
}

#[test]
fn a_folder_without_pictures_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("camera=0:MJPG:{}", Path::new(folder.path()).display());
    aborts("camera files", &settings, "no JPEG in");
}
