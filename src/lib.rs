//! Pinhole's daemon as a library, so that tests and benchmarks reach its parts.
//!
//! The way of a frame:
//!
//! ```text
//!  camera ──▶ capture ──▶ encoder ──▶ publish ──▶ http ──▶ sockets
//! ```
//!
//! The modules below are rooms, in floors from the top down. A room imports rooms of lower floors only, and none of its own;
//! the test in `rooms.rs` reads this file and holds it to that.

// Start, wiring, end.
pub mod app;

// systemd's watchdog and status, the board's light: reads the board.
pub mod supervisor;

// The thread that owns camera and encoder. The web server: routes, viewers, page. They do not know each other.
pub mod capture;
pub mod http;

// What capture writes and others read; the mailbox in which others ask.
pub mod board;

// The picture that says why there is none.
pub mod placeholder;

// Frames to JPEG, by the hardware or in software. Text drawn into frames. The command line.
pub mod args;
pub mod encoder;
pub mod overlay;

// Sources of frames; each lends buffers of a `frame::RawFrame`.
pub mod camera;

// JPEG as a ready multipart part, the slot for the newest one. What concerns the machine: system files, diagnostics, light.
pub mod appliance;
pub mod publish;

// What can be set. The checks of cameras' own JPEGs. The kernel's video devices. Drawing. Messages.
pub mod config;
pub mod draw;
pub mod jpeg;
pub mod logging;
pub mod v4l2;

// The ground: they know nobody.
pub mod authority;
pub mod cadence;
pub mod frame;
pub mod memory;
pub mod metrics;
pub mod os;
pub mod shutdown;
pub mod systemd;

#[cfg(test)]
mod rooms;
