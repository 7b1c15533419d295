//! Viewers: one actor for each open stream, all driven by one loop on their worker.
//!
//! A viewer's response starts like any other: actix-web writes the head. The body then yields nothing, and the viewer
//! writes to the connection's socket itself, frames straight from the one shared part: no copy into the server's write buffer, no
//! wake-up of a task per viewer. That this cannot disturb the order of bytes rests on `h1_write_buffer_size(1)`: actix-web
//! then asks a body for bytes only when its buffer is empty, that is, when the kernel has taken the head.
//!
//! A viewer's mailbox holds one frame, the newest. While its connection is busy, newer frames replace it and are counted
//! as skipped. The kernel is kept from queueing much (`TCP_NOTSENT_LOWAT`), so that what a slow viewer gets is recent.
//!
//! * `places`: how many there may be, and whose they are. `broadcaster`: the loop. `viewer`: one viewer's connection; `flow`: what
//!   it does next, decided without one.

mod body;
mod broadcaster;
mod flow;
mod places;
mod viewer;

pub use broadcaster::Broadcaster;
pub use places::{ViewerStats, Viewers};

/// What a viewer asked for in its query.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StreamOptions {
    /// `fps`: at most so many frames per second.
    pub fps: Option<f64>,
    /// `advance_headers`: the next part's headers come right behind each picture. Chromium's `<img>` shows a picture
    /// only when it has seen them.
    pub advance_headers: bool,
    /// `dual_final_frames`: the last picture before a silence is sent twice. WebKit holds the last one back.
    pub dual_final_frames: bool,
    /// `raw`: the same bytes with a content type that browsers do not interpret. WebKit's `fetch()` refuses to read
    /// `multipart/x-mixed-replace`.
    pub raw: bool,
}
