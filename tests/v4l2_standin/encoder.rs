//! It answers as the driver does, and its faults are what they are called.

use std::time::{Duration, Instant};

use pinhole::jpeg;

use crate::client::{self, Buffer, CAPTURE, Device, Encoder, Map, OUTPUT, SIZE, dmabuf};
use crate::rules::{imports, queue_dmabuf};
use crate::sys::{self, v4l2_capability, v4l2_encoder_cmd, v4l2_event, v4l2_event_subscription, v4l2_fmtdesc};

macro_rules! cases {
    ($($name:ident($settings:literal) $body:expr;)*) => {
        pub const CASES: &[crate::Case] = &[$((stringify!($name), { fn case() { $body } case })),*];
        mod tests {
            $(#[test]
            fn $name() {
                crate::passes(stringify!($name), $settings);
            })*
        }
    };
}

const NONBLOCK: i32 = libc::O_RDWR | libc::O_NONBLOCK;

fn open(number: u32) -> Device {
    client::open(&format!("/dev/video{number}"), NONBLOCK).unwrap()
}

/// Bytes per line, lines, sizeimage and fourcc that came back.
fn adjusted(device: &Device, buffer_type: u32, fourcc: [u8; 4], size: [u32; 2]) -> (u32, u32, u32, String) {
    let format = device.format(sys::S_FMT, buffer_type, fourcc, size).unwrap();
    // SAFETY: a multi-planar type.
    let format = unsafe { format.fmt.pix_mp };
    let plane = format.plane_fmt[0];
    assert_eq!(format.num_planes, 1);
    (plane.bytesperline, format.height, plane.sizeimage, sys::text(format.pixelformat))
}

fn formats(device: &Device, buffer_type: u32) -> Vec<String> {
    let describe = |index| {
        let mut format: v4l2_fmtdesc = sys::zeroed();
        format.type_ = buffer_type;
        format.index = index;
        device.call(sys::ENUM_FMT, &mut format).ok().map(|()| sys::text(format.pixelformat))
    };
    (0..).map_while(describe).collect()
}

fn is_jpeg(bytes: &[u8]) -> bool {
    jpeg::inspect(bytes).is_ok_and(|seen| [seen.size.width, seen.size.height] == SIZE)
}

/// Gives what became of one frame: its bytes and flags.
fn outcome(encoder: &mut Encoder) -> (Vec<u8>, u32) {
    encoder.submit(0, 90).unwrap();
    let done = encoder.result().unwrap();
    let index = done.buffer.index;
    let bytes = encoder.capture[index as usize].bytes()[..done.plane.bytesused as usize].to_vec();
    encoder.device.dequeue(OUTPUT, sys::MEMORY_MMAP).unwrap();
    encoder.device.queue(CAPTURE, index, 0).unwrap();
    (bytes, done.buffer.flags)
}

fn restart(encoder: &Encoder) {
    for buffer_type in [OUTPUT, CAPTURE] {
        encoder.device.stream(false, buffer_type).unwrap();
    }
    for index in 0..2 {
        encoder.device.queue(CAPTURE, index, 0).unwrap();
    }
    for buffer_type in [OUTPUT, CAPTURE] {
        encoder.device.stream(true, buffer_type).unwrap();
    }
}

cases! {
    nodes("") {
        for (number, card) in [(10, "decode"), (11, "encode"), (12, "isp"), (31, "encode_image")] {
            let device = open(number);
            let mut capability: v4l2_capability = sys::zeroed();
            device.call(sys::QUERYCAP, &mut capability).unwrap();
            let text = String::from_utf8_lossy(&capability.card).into_owned();
            assert_eq!(text.trim_end_matches('\0'), format!("bcm2835-codec-{card}"));
            assert_eq!(capability.capabilities, 0x8420_4000);
            assert_eq!(capability.device_caps, 0x0420_4000);
            device.close();
        }
        for number in [0, 9, 13, 32, 255] {
            assert_eq!(client::open(&format!("/dev/video{number}"), NONBLOCK).err(), Some(libc::ENOENT));
        }
        client::open("/dev/null", NONBLOCK).unwrap().close();
        assert_eq!(formats(&open(11), CAPTURE), ["H264", "MJPG"]);
        assert_eq!(formats(&open(31), CAPTURE), ["JPEG"]);
        assert!(!formats(&open(31), OUTPUT).contains(&"NV12".to_owned()));
        assert!(formats(&open(31), sys::BUF_TYPE_VIDEO_CAPTURE).is_empty());
    };
    adjusts_formats_as_the_driver("") {
        let image = open(31);
        assert_eq!(adjusted(&image, CAPTURE, *b"JPEG", [1920, 1080]), (0, 1080, 4 << 20, "JPEG".into()));
        assert_eq!(adjusted(&image, OUTPUT, *b"YU12", [1920, 1080]), (1920, 1088, 1920 * 1088 * 3 / 2, "YU12".into()));
        assert_eq!(adjusted(&image, OUTPUT, *b"YU12", [648, 480]), (672, 480, 672 * 480 * 3 / 2, "YU12".into()));
        assert_eq!(adjusted(&image, OUTPUT, *b"NV12", [640, 480]), (1280, 480, 640 * 480 * 2, "RGBP".into()));
        let video = open(11);
        assert_eq!(adjusted(&video, CAPTURE, *b"MJPG", [1280, 720]), (0, 720, 512 << 10, "MJPG".into()));
        assert_eq!(adjusted(&video, CAPTURE, *b"MJPG", [1920, 1080]), (0, 1080, 768 << 10, "MJPG".into()));
        assert_eq!(adjusted(&video, CAPTURE, *b"JPEG", [1280, 720]).3, "H264");
        assert_eq!(adjusted(&video, OUTPUT, *b"YU12", [1920, 1080]), (1920, 1080, 1920 * 1080 * 3 / 2, "YU12".into()));
        assert_eq!(adjusted(&video, OUTPUT, *b"YU12", [1296, 972]), (1344, 972, 1344 * 972 * 3 / 2, "YU12".into()));
        assert_eq!(adjusted(&video, OUTPUT, *b"NV12", [1296, 972]), (1312, 972, 1312 * 972 * 3 / 2, "NV12".into()));
        assert_eq!(adjusted(&video, OUTPUT, *b"YUYV", [4000, 8]), (3840, 32, 3840 * 32, "YUYV".into()));
    };
    controls("") {
        let video = open(11);
        assert_eq!(video.get(sys::CID_MPEG_VIDEO_BITRATE), Ok(10_000_000));
        assert_eq!(video.set(sys::CID_MPEG_VIDEO_BITRATE, 4_980_000), Ok(4_975_000));
        assert_eq!(video.set(sys::CID_MPEG_VIDEO_BITRATE, 30_000_000), Ok(25_000_000));
        assert_eq!(video.set(sys::CID_MPEG_VIDEO_BITRATE, 0), Ok(25_000));
        assert_eq!(video.set(sys::CID_MPEG_VIDEO_BITRATE_MODE, 7), Err(libc::ERANGE));
        assert_eq!(video.get(sys::CID_JPEG_COMPRESSION_QUALITY), Err(libc::EINVAL));
        let image = open(31);
        assert_eq!(image.get(sys::CID_JPEG_COMPRESSION_QUALITY), Ok(80));
        assert_eq!(image.set(sys::CID_JPEG_COMPRESSION_QUALITY, 101), Ok(100));
        let mut query: sys::v4l2_query_ext_ctrl = sys::zeroed();
        query.id = sys::CTRL_FLAG_NEXT_CTRL;
        let mut found = Vec::new();
        while image.call(sys::QUERY_EXT_CTRL, &mut query).is_ok() {
            found.push((query.id, query.minimum, query.maximum, query.default_value));
            query.id |= sys::CTRL_FLAG_NEXT_CTRL;
        }
        assert_eq!(found, [(sys::CTRL_CLASS_JPEG | 1, 0, 0, 0), (sys::CID_JPEG_COMPRESSION_QUALITY, 1, 100, 80)]);
        let set = |id| {
            let value = sys::ControlUnion { value: 55 };
            let mut list = [sys::v4l2_ext_control { id, size: 0, reserved2: 0, value }];
            let mut controls: sys::v4l2_ext_controls = sys::zeroed();
            controls.count = 1;
            controls.controls = list.as_mut_ptr();
            (image.call(sys::S_EXT_CTRLS, &mut controls), controls.error_idx)
        };
        assert_eq!(set(sys::CID_JPEG_COMPRESSION_QUALITY).0, Ok(()));
        assert_eq!(image.get(sys::CID_JPEG_COMPRESSION_QUALITY), Ok(55));
        assert_eq!(set(sys::CID_HFLIP), (Err(libc::EINVAL), 1));
    };
    encodes("") {
        let mut encoder = Encoder::streaming();
        assert_eq!(encoder.device.dequeue(CAPTURE, sys::MEMORY_MMAP).err(), Some(libc::EAGAIN));
        assert_eq!(encoder.device.poll(libc::POLLIN, Duration::ZERO), 0);
        for grey in [30, 200] {
            assert!(is_jpeg(&encoder.encode(grey)));
        }
        encoder.submit(1, 99).unwrap();
        let done = encoder.result().unwrap();
        assert_eq!((done.buffer.timestamp.tv_sec, done.buffer.timestamp.tv_usec), (7, 1));
        assert_eq!(done.buffer.sequence, 0);
        assert!(done.buffer.flags & sys::BUF_FLAG_KEYFRAME != 0);
        assert_eq!(done.buffer.flags & sys::BUF_FLAG_TIMESTAMP_MASK, sys::BUF_FLAG_TIMESTAMP_COPY);
        assert_eq!(encoder.device.poll(libc::POLLOUT, Duration::ZERO), libc::POLLOUT);
        assert_eq!(encoder.device.format(sys::S_FMT, OUTPUT, *b"YU12", SIZE).err(), Some(libc::EBUSY));
        assert_eq!(encoder.device.request_buffers(OUTPUT, sys::MEMORY_MMAP, 2), Err(libc::EBUSY));
        restart(&encoder);
        assert!(is_jpeg(&encoder.encode(70)));
        // Closed with buffers queued.
        encoder.device.close();
    };
    a_better_quality_is_larger("") {
        let mut encoder = Encoder::streaming();
        let sizes = [5, 95].map(|quality| {
            encoder.device.set(sys::CID_JPEG_COMPRESSION_QUALITY, quality).unwrap();
            for (i, byte) in encoder.output[0].bytes().iter_mut().enumerate() {
                *byte = (i * i / 7 % 251) as u8;
            }
            encoder.device.queue(OUTPUT, 0, encoder.bytes_used).unwrap();
            let done = encoder.result().unwrap();
            encoder.device.dequeue(OUTPUT, sys::MEMORY_MMAP).unwrap();
            encoder.device.queue(CAPTURE, done.buffer.index, 0).unwrap();
            done.plane.bytesused
        });
        assert!(sizes[0] * 2 < sizes[1], "{sizes:?}");
    };
    poll_says_when_there_is_nothing_to_wait_for("") {
        let mut encoder = Encoder::prepared();
        let device = &encoder.device;
        assert_eq!(device.poll(libc::POLLIN, Duration::from_secs(5)), libc::POLLERR);
        assert_eq!(device.dequeue(CAPTURE, sys::MEMORY_MMAP).err(), Some(libc::EINVAL));
        device.stream(true, OUTPUT).unwrap();
        device.stream(true, CAPTURE).unwrap();
        assert_eq!(device.poll(libc::POLLIN | libc::POLLOUT, Duration::from_secs(5)), libc::POLLERR);
        device.queue(CAPTURE, 0, 0).unwrap();
        assert_eq!(device.poll(libc::POLLIN | libc::POLLOUT, Duration::from_millis(10)), 0);
        encoder.submit(0, 1).unwrap();
        assert_eq!(encoder.device.poll(libc::POLLIN, Duration::from_secs(5)), libc::POLLIN);
        encoder.device.stream(false, OUTPUT).unwrap();
        encoder.device.stream(false, CAPTURE).unwrap();
        assert_eq!(encoder.device.poll(libc::POLLIN, Duration::from_secs(5)), libc::POLLERR);
    };
    blocks_without_nonblock("delay_us=200000") {
        let mut encoder = Encoder::streaming();
        let fast = open(31);
        assert_eq!(fast.dequeue(CAPTURE, sys::MEMORY_MMAP).err(), Some(libc::EINVAL));
        encoder.submit(0, 1).unwrap();
        assert_eq!(encoder.device.dequeue(CAPTURE, sys::MEMORY_MMAP).err(), Some(libc::EAGAIN));
        let start = Instant::now();
        assert_eq!(encoder.device.poll(libc::POLLIN, Duration::from_secs(5)), libc::POLLIN);
        assert!(start.elapsed() >= Duration::from_millis(10) && start.elapsed() < Duration::from_secs(1));
    };
    imports_dmabufs("") {
        let device = imports();
        let len = 320 * 240 * 3 / 2;
        let fd = dmabuf(len);
        Map::new(fd, 0, len, libc::MAP_SHARED).bytes().fill(128);
        // Shorter than sizeimage: the driver says no, and nothing was queued.
        assert_eq!(queue_dmabuf(&device, dmabuf(len - 1), 0), Err(libc::EINVAL));
        queue_dmabuf(&device, fd, 0).unwrap();
        // The driver holds it, not the descriptor.
        Device { fd }.close();
        assert_eq!(device.poll(libc::POLLIN, Duration::from_secs(5)), libc::POLLIN);
        let done = device.dequeue(CAPTURE, sys::MEMORY_MMAP).unwrap();
        assert!(is_jpeg(&device.map(CAPTURE, 0).bytes()[..done.plane.bytesused as usize]));
        device.dequeue(OUTPUT, sys::MEMORY_DMABUF).unwrap();
    };
    exports_the_same_memory("") {
        let mut encoder = Encoder::prepared();
        let fd = encoder.device.export(OUTPUT, 1).unwrap();
        Map::new(fd, 0, encoder.output[1].len, libc::MAP_SHARED).bytes()[5] = 77;
        assert_eq!(encoder.output[1].bytes()[5], 77);
        let importer = imports();
        queue_dmabuf(&importer, fd, 0).unwrap();
        assert_eq!(importer.poll(libc::POLLIN, Duration::from_secs(5)), libc::POLLIN);
    };
    a_requeued_buffer_holds_no_jpeg("") {
        let mut encoder = Encoder::streaming();
        encoder.submit(0, 9).unwrap();
        let index = encoder.result().unwrap().buffer.index;
        assert_eq!(encoder.capture[index as usize].bytes()[..2], [0xff, 0xd8]);
        encoder.device.queue(CAPTURE, index, 0).unwrap();
        assert_eq!(encoder.capture[index as usize].bytes()[..2], [0xee, 0xee]);
    };
    drains("") {
        let mut encoder = Encoder::streaming();
        let mut event: v4l2_event_subscription = sys::zeroed();
        event.type_ = sys::EVENT_EOS;
        encoder.device.call(sys::SUBSCRIBE_EVENT, &mut event).unwrap();
        encoder.submit(0, 50).unwrap();
        let mut command: v4l2_encoder_cmd = sys::zeroed();
        command.cmd = sys::ENC_CMD_STOP;
        encoder.device.call(sys::ENCODER_CMD, &mut command).unwrap();
        assert!(encoder.result().unwrap().plane.bytesused > 0);
        let last = encoder.result().unwrap();
        assert!(last.plane.bytesused == 0 && last.buffer.flags & sys::BUF_FLAG_LAST != 0);
        assert_eq!(encoder.device.poll(libc::POLLIN | libc::POLLPRI, Duration::ZERO), libc::POLLIN | libc::POLLPRI);
        assert_eq!(encoder.device.dequeue(CAPTURE, sys::MEMORY_MMAP).err(), Some(libc::EPIPE));
        let mut event: v4l2_event = sys::zeroed();
        encoder.device.call(sys::DQEVENT, &mut event).unwrap();
        assert_eq!(event.type_, sys::EVENT_EOS);
        assert_eq!(encoder.device.call(sys::DQEVENT, &mut event), Err(libc::ENOENT));
        command.cmd = sys::ENC_CMD_START;
        encoder.device.call(sys::ENCODER_CMD, &mut command).unwrap();
        assert_eq!(encoder.device.dequeue(CAPTURE, sys::MEMORY_MMAP).err(), Some(libc::EPIPE));
        restart(&encoder);
        assert!(is_jpeg(&encoder.encode(70)));
    };
    bad_pictures("not_jpeg@2;truncated@3;empty@4;error_flag@5;capture_small@6;bad_size@7") {
        let mut encoder = Encoder::streaming();
        assert!(is_jpeg(&outcome(&mut encoder).0));
        for number in 2..=7 {
            let (bytes, flags) = outcome(&mut encoder);
            assert!(!is_jpeg(&bytes), "{number}");
            assert_eq!(flags & sys::BUF_FLAG_ERROR != 0, matches!(number, 5 | 6), "{number}");
            assert_eq!(bytes.is_empty(), number == 4);
        }
        assert!(is_jpeg(&outcome(&mut encoder).0));
    };
    split("split@1") {
        let mut encoder = Encoder::streaming();
        let (mut jpeg, _) = outcome(&mut encoder);
        assert!(!is_jpeg(&jpeg));
        let done = encoder.result().unwrap();
        jpeg.extend_from_slice(&encoder.capture[done.buffer.index as usize].bytes()[..done.plane.bytesused as usize]);
        assert!(is_jpeg(&jpeg));
    };
    hang("hang@2:2") {
        let mut encoder = Encoder::streaming();
        assert!(is_jpeg(&outcome(&mut encoder).0));
        for _ in 0..2 {
            encoder.submit(0, 3).unwrap();
            assert_eq!(encoder.device.poll(libc::POLLIN, Duration::from_millis(50)), 0);
            restart(&encoder);
        }
        assert!(is_jpeg(&outcome(&mut encoder).0));
        encoder.submit(0, 3).unwrap();
        encoder.device.close();
    };
    closes_while_it_hangs("hang@1:forever") {
        let mut encoder = Encoder::streaming();
        encoder.submit(0, 3).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        encoder.device.close();
    };
    eio("eio@1") {
        let mut encoder = Encoder::streaming();
        encoder.submit(0, 3).unwrap();
        assert_eq!(encoder.device.poll(libc::POLLIN, Duration::from_secs(5)), libc::POLLERR);
        assert_eq!(encoder.device.dequeue(CAPTURE, sys::MEMORY_MMAP).err(), Some(libc::EIO));
        assert_eq!(encoder.submit(1, 3), Err(libc::EIO));
        restart(&encoder);
        assert!(is_jpeg(&outcome(&mut encoder).0));
    };
    gone_and_back("gone@2:2") {
        let mut encoder = Encoder::streaming();
        assert!(is_jpeg(&outcome(&mut encoder).0));
        encoder.submit(0, 3).unwrap();
        let revents = encoder.device.poll(libc::POLLIN, Duration::from_secs(5));
        assert_eq!(revents, libc::POLLERR | libc::POLLHUP);
        assert_eq!(encoder.device.dequeue(CAPTURE, sys::MEMORY_MMAP).err(), Some(libc::ENODEV));
        assert_eq!(encoder.device.stream(false, CAPTURE), Err(libc::ENODEV));
        encoder.device.close();
        for _ in 0..2 {
            assert_eq!(client::open("/dev/video31", NONBLOCK).err(), Some(libc::ENOENT));
        }
        assert!(is_jpeg(&outcome(&mut Encoder::streaming()).0));
    };
    eos("eos@1") {
        let mut encoder = Encoder::streaming();
        encoder.submit(0, 3).unwrap();
        assert!(encoder.result().unwrap().buffer.flags & sys::BUF_FLAG_LAST != 0);
        assert_eq!(encoder.device.dequeue(CAPTURE, sys::MEMORY_MMAP).err(), Some(libc::EPIPE));
        restart(&encoder);
        assert!(is_jpeg(&outcome(&mut encoder).0));
    };
    refusals("busy=open:1;dmabuf=refuse-reqbufs;wrong_fourcc=H264;enomem_reqbufs=capture;eagain=2") {
        assert_eq!(client::open("/dev/video31", NONBLOCK).err(), Some(libc::EBUSY));
        let device = open(31);
        assert_eq!(adjusted(&device, CAPTURE, *b"JPEG", SIZE).3, "H264");
        adjusted(&device, OUTPUT, *b"YU12", SIZE);
        assert_eq!(device.request_buffers(OUTPUT, sys::MEMORY_DMABUF, 1), Err(libc::EINVAL));
        assert_eq!(device.request_buffers(CAPTURE, sys::MEMORY_MMAP, 1), Err(libc::ENOMEM));
        assert_eq!(device.request_buffers(OUTPUT, sys::MEMORY_MMAP, 40), Ok(32));
        device.stream(true, OUTPUT).unwrap();
        device.queue(OUTPUT, 0, 320 * 240 * 3 / 2).unwrap();
        for expected in [libc::POLLIN, libc::POLLIN, 0] {
            assert_eq!(device.poll(libc::POLLIN, Duration::ZERO), expected);
        }
    };
    signals("eintr=3") {
        let device = open(31);
        let results: Vec<_> = (0..6).map(|_| device.get(sys::CID_JPEG_COMPRESSION_QUALITY)).collect();
        assert_eq!(results, [Ok(80), Ok(80), Err(libc::EINTR), Ok(80), Ok(80), Err(libc::EINTR)]);
    };
    other_alignments("stride_align=256;height_align=64;sizeimage_min=1000000;min_buffers=4;exif=thumbnail") {
        let device = open(31);
        assert_eq!(adjusted(&device, OUTPUT, *b"YU12", SIZE), (512, 256, 1_000_000, "YU12".into()));
        assert_eq!(device.request_buffers(OUTPUT, sys::MEMORY_MMAP, 1), Ok(4));
        let mut encoder = Encoder::streaming();
        let jpeg = encoder.encode(60);
        assert!(is_jpeg(&jpeg));
        assert_eq!(jpeg.windows(2).filter(|pair| pair == b"\xff\xd9").count(), 2);
    };
    every_format("nodes=0:encoder+1:image") {
        for number in [0, 1] {
            for fourcc in formats(&open(number), OUTPUT).iter().filter(|fourcc| *fourcc != "RGBP") {
                let device = open(number);
                let fourcc: [u8; 4] = fourcc.as_bytes().try_into().unwrap();
                device.format(sys::S_FMT, CAPTURE, if number == 0 { *b"MJPG" } else { *b"JPEG" }, [322, 242]).unwrap();
                let size = adjusted(&device, OUTPUT, fourcc, [322, 242]).2;
                for buffer_type in [OUTPUT, CAPTURE] {
                    device.request_buffers(buffer_type, sys::MEMORY_MMAP, 1).unwrap();
                    device.stream(true, buffer_type).unwrap();
                }
                device.queue(CAPTURE, 0, 0).unwrap();
                device.queue(OUTPUT, 0, size).unwrap();
                assert_eq!(device.poll(libc::POLLIN, Duration::from_secs(5)), libc::POLLIN);
                let done = device.dequeue(CAPTURE, sys::MEMORY_MMAP).unwrap();
                let seen = jpeg::inspect(&device.map(CAPTURE, 0).bytes()[..done.plane.bytesused as usize]).unwrap();
                assert_eq!((seen.size.width, seen.size.height), (322, 242));
                let mut export = Buffer::new(CAPTURE, sys::MEMORY_MMAP, 0);
                device.buffer(sys::QUERYBUF, &mut export).unwrap();
                device.close();
            }
        }
    };
}
