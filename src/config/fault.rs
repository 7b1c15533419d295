//! Faults of test-pattern and replay, for tests.

use serde::{Deserialize, Serialize};

use super::entry::{Shape, Value};
use super::{FrameRate, Interval, Resolution};

impl Value for Vec<Fault> {
    const SHAPE: Shape = Shape::Faults;
}

/// One scripted fault. Frames are counted from 1 over the life of the program, not of the camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// The first `times` attempts to open fail.
    OpenFails {
        /// How many.
        times: u32,
    },
    /// Every attempt to open takes so long.
    OpenTakes {
        /// How long.
        #[serde(rename = "for")]
        lasting: Interval<0, 3_600_000>,
    },
    /// The camera cannot be opened with all of these.
    Refuses {
        /// Picture size.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resolution: Option<Resolution>,
        /// Frames per second.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        frame_rate: Option<FrameRate>,
    },
    /// From frame `at` no frame comes for `for`; calls return.
    Stall {
        /// Frame number.
        at: u64,
        /// How long.
        #[serde(rename = "for")]
        lasting: Interval<0, 3_600_000>,
    },
    /// At frame `at` the camera is unplugged; it can be opened again after `for`.
    Disappear {
        /// Frame number.
        at: u64,
        /// How long.
        #[serde(rename = "for")]
        lasting: Interval<0, 3_600_000>,
    },
    /// Frame `at` is cut in half.
    Truncate {
        /// Frame number.
        at: u64,
    },
    /// From frame `at` pictures have another size (test-pattern only).
    Size {
        /// Frame number.
        at: u64,
        /// The new size.
        to: Resolution,
    },
    /// At frame `at` the call to the camera does not return for `for`.
    Hang {
        /// Frame number.
        at: u64,
        /// How long.
        #[serde(rename = "for")]
        lasting: Interval<0, 3_600_000>,
    },
}
