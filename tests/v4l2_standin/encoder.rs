//! It answers as the driver does.

use std::time::Duration;

use pinhole::jpeg;

use crate::client::{self, CAPTURE, Encoder, OUTPUT, SIZE};
use crate::{passes, sys};

pub const CASES: &[(&str, fn())] = &[("encodes", encodes)];

#[test]
fn encodes_pictures() {
    passes("encodes", "");
}

fn encodes() {
    let mut encoder = Encoder::streaming();
    assert_eq!(encoder.device.dequeue(CAPTURE, sys::MEMORY_MMAP).err(), Some(libc::EAGAIN));
    assert_eq!(encoder.device.poll(libc::POLLIN, Duration::ZERO), 0);
    for grey in [30, 200] {
        let jpeg = encoder.encode(grey);
        let seen = jpeg::inspect(&jpeg).unwrap();
        assert_eq!([seen.size.width, seen.size.height], SIZE);
    }
    encoder.submit(1, 99).unwrap();
    let done = encoder.result().unwrap();
    assert_eq!((done.buffer.timestamp.tv_sec, done.buffer.timestamp.tv_usec), (7, 1));
    assert_eq!(done.buffer.sequence, 0);
    assert!(done.buffer.flags & sys::BUF_FLAG_KEYFRAME != 0);
    assert_eq!(done.buffer.flags & sys::BUF_FLAG_TIMESTAMP_MASK, sys::BUF_FLAG_TIMESTAMP_COPY);
    encoder.device.stream(false, OUTPUT).unwrap();
    encoder.device.stream(false, CAPTURE).unwrap();
    encoder.device.close();
    assert_eq!(client::open("/dev/video0", libc::O_RDWR).err(), Some(libc::ENOENT));
}
