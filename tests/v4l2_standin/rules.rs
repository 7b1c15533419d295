//! Each rule ends the process that breaks it.

use crate::client::{self, Buffer, CAPTURE, Device, Encoder, Map, OUTPUT, SIZE, dmabuf};
use crate::{aborts, sys};

macro_rules! rules {
    ($($name:ident($settings:literal, $words:literal) $body:expr;)*) => {
        pub const CASES: &[crate::Case] = &[$((concat!("rule ", stringify!($name)), { fn case() { $body } case })),*];
        mod tests {
            $(#[test]
            fn $name() {
                super::aborts(concat!("rule ", stringify!($name)), $settings, $words);
            })*
        }
    };
}

rules! {
    queued_twice("", "though it is queued") {
        let encoder = Encoder::prepared();
        encoder.device.queue(CAPTURE, 0, 0).unwrap();
        let _ = encoder.device.queue(CAPTURE, 0, 0);
    };
    index_out_of_range("", "QBUF of buffer 2, there are 2") {
        let _ = Encoder::prepared().device.queue(CAPTURE, 2, 0);
    };
    other_memory("", "QBUF with memory 4") {
        let mut buffer = Buffer::new(CAPTURE, sys::MEMORY_DMABUF, 0);
        let _ = Encoder::prepared().device.buffer(sys::QBUF, &mut buffer);
    };
    no_planes("", "with 0 planes") {
        let mut buffer = Buffer::new(CAPTURE, sys::MEMORY_MMAP, 0);
        buffer.buffer.length = 0;
        let _ = Encoder::prepared().device.buffer(sys::QBUF, &mut buffer);
    };
    no_plane_pointer("", "planes at 0x0") {
        let mut buffer = Buffer::new(CAPTURE, sys::MEMORY_MMAP, 0);
        let _ = Encoder::prepared().device.call(sys::QBUF, &mut buffer.buffer);
    };
    no_bytes_used("", "without bytesused") {
        let _ = Encoder::prepared().device.queue(OUTPUT, 0, 0);
    };
    too_many_bytes_used("", "with bytesused") {
        let encoder = Encoder::prepared();
        let _ = encoder.device.queue(OUTPUT, 0, encoder.bytes_used + 1);
    };
    less_than_a_picture("", "a picture has") {
        // All rows of luma, none of chroma.
        let _ = Encoder::prepared().device.queue(OUTPUT, 0, 320 * 240);
    };
    data_offset("", "data_offset 16") {
        let encoder = Encoder::prepared();
        let mut buffer = Buffer::new(OUTPUT, sys::MEMORY_MMAP, 0);
        buffer.plane.bytesused = encoder.bytes_used;
        buffer.plane.data_offset = 16;
        let _ = encoder.device.buffer(sys::QBUF, &mut buffer);
    };
    reserved_field("", "reserved fields") {
        let mut buffer = Buffer::new(CAPTURE, sys::MEMORY_MMAP, 0);
        buffer.buffer.reserved2 = 1;
        let _ = Encoder::prepared().device.buffer(sys::QBUF, &mut buffer);
    };
    reserved_field_of_plane("", "reserved fields of its plane") {
        let mut buffer = Buffer::new(CAPTURE, sys::MEMORY_MMAP, 0);
        buffer.plane.reserved[3] = 1;
        let _ = Encoder::prepared().device.buffer(sys::QBUF, &mut buffer);
    };
    no_format("", "REQBUFS before S_FMT") {
        let _ = encoder().request_buffers(CAPTURE, sys::MEMORY_MMAP, 1);
    };
    no_buffers("", "QBUF before REQBUFS") {
        let _ = encoder().queue(CAPTURE, 0, 0);
    };
    stream_without_buffers("", "STREAMON before REQBUFS") {
        let _ = encoder().stream(true, CAPTURE);
    };
    changed_while_queued("delay_us=500000", "changed while it was queued") {
        let mut encoder = Encoder::streaming();
        encoder.submit(0, 100).unwrap();
        encoder.output[0].bytes()[4711] = 7;
        let _ = encoder.result();
    };
    changed_dmabuf_while_queued("delay_us=500000", "changed while it was queued") {
        let encoder = imports();
        let fd = dmabuf(320 * 240 * 3 / 2);
        queue_dmabuf(&encoder, fd, 320 * 240 * 3 / 2).unwrap();
        Map::new(fd, 0, 4096, libc::MAP_SHARED).bytes()[0] = 1;
        encoder.poll(libc::POLLIN, std::time::Duration::from_secs(5));
    };
    dmabuf_said_longer_than_it_is("", "it has 4096") {
        let _ = queue_dmabuf(&imports(), dmabuf(4096), 320 * 240 * 3 / 2);
    };
    no_dmabuf("", "which is no dma-buf") {
        let _ = queue_dmabuf(&imports(), 4000, 320 * 240 * 3 / 2);
    };
    private_mapping("", "mmap without MAP_SHARED") {
        Map::new(Encoder::prepared().device.fd, 0, 4096, libc::MAP_PRIVATE);
    };
    mapping_longer_than_the_buffer("", "mmap of") {
        Map::new(Encoder::prepared().device.fd, 0, 1 << 20, libc::MAP_SHARED);
    };
    mapping_of_nothing("", "which is no buffer's") {
        Map::new(Encoder::prepared().device.fd, 0x10_0000, 4096, libc::MAP_SHARED);
    };
    decoder("", "taken for an encoder") {
        let device = client::open("/dev/video10", libc::O_RDWR).unwrap();
        device.format(sys::S_FMT, OUTPUT, *b"MJPG", SIZE).unwrap();
        let _ = device.request_buffers(OUTPUT, sys::MEMORY_MMAP, 1);
    };
    different_sizes("", "unknown what the firmware does") {
        let device = encoder();
        device.format(sys::S_FMT, OUTPUT, *b"YU12", SIZE).unwrap();
        device.format(sys::S_FMT, CAPTURE, *b"JPEG", [640, 480]).unwrap();
        for buffer_type in [OUTPUT, CAPTURE] {
            device.request_buffers(buffer_type, sys::MEMORY_MMAP, 1).unwrap();
            let _ = device.stream(true, buffer_type);
        }
    };
    setting_that_does_not_exist("dleay_us=1", "is wrong at \"dleay_us=1\"") {
        encoder();
    };
}

fn encoder() -> Device {
    client::open("/dev/video31", libc::O_RDWR | libc::O_NONBLOCK).unwrap()
}

/// An encoder that imports pictures, with one of each buffer, streaming.
pub fn imports() -> Device {
    let device = encoder();
    device.format(sys::S_FMT, CAPTURE, *b"JPEG", SIZE).unwrap();
    device.format(sys::S_FMT, OUTPUT, *b"YU12", SIZE).unwrap();
    device.request_buffers(OUTPUT, sys::MEMORY_DMABUF, 1).unwrap();
    device.request_buffers(CAPTURE, sys::MEMORY_MMAP, 1).unwrap();
    device.queue(CAPTURE, 0, 0).unwrap();
    device.stream(true, OUTPUT).unwrap();
    device.stream(true, CAPTURE).unwrap();
    device
}

pub fn queue_dmabuf(device: &Device, fd: i32, length: u32) -> client::Result {
    let mut buffer = Buffer::new(OUTPUT, sys::MEMORY_DMABUF, 0);
    buffer.plane.m.fd = fd;
    buffer.plane.length = length;
    buffer.plane.bytesused = 320 * 240 * 3 / 2;
    device.buffer(sys::QBUF, &mut buffer)
}
