//! Each rule ends the process that breaks it.

use crate::aborts;
use crate::client::{CAPTURE, Encoder};

pub const CASES: &[(&str, fn())] = &[("queued_twice", queued_twice)];

#[test]
fn queueing_twice_is_a_violation() {
    aborts("queued_twice", "", "though it is queued");
}

fn queued_twice() {
    let encoder = Encoder::prepared();
    encoder.device.queue(CAPTURE, 0, 0).unwrap();
    let _ = encoder.device.queue(CAPTURE, 0, 0);
}
