//! Pinhole's daemon as a library, so that tests and benchmarks reach its parts.
//!
//! The way of a frame:
//!
//! ```text
//!  camera ──▶ capture ──▶ encoder ──▶ hub ──▶ viewers ──▶ sockets
//! ```
//!
//! * [`config`]: what can be set, defaults, layers. [`authority`]: hosts and origins.
//! * [`camera`]: sources of frames; each lends buffers of [`frame::RawFrame`].
//! * [`encoder`]: frames to JPEG, by the hardware or in software; [`jpeg`] checks what cameras encoded themselves;
//!   [`encoder::load`] keeps the software encoder from taking all of the processor.
//! * [`v4l2`]: the kernel's devices, for a camera source and the hardware encoder.
//! * [`overlay`]: text drawn into frames.
//! * [`oddities`]: what is odd about a camera's own pictures.
//! * [`capture`]: the thread that owns camera and encoder; [`placeholder`] (drawn with [`draw`]) speaks for it when they
//!   fail. [`settings`]: what can be changed while it runs; [`requests`]: what was asked for, kept until it is settled.
//! * [`frame`]: the finished [`frame::JpegFrame`], one ready multipart part.
//! * [`hub`]: the slot for the newest frame, and who wants one.
//! * [`http`]: routes, viewers, snapshots, status, page.
//! * [`hold`]: a camera that is left alone for a while.
//! * [`health`], [`metrics`], [`systemd`], [`logging`], [`led`], [`diagnostics`]: what is told to whom.
//! * [`sensors`]: what is on the camera's cable, whether it can be used or not.
//! * [`system`]: the appliance's own settings as files for its boot service.
//! * [`cadence`]: thins a flow of frames to a rate. [`memory`]: buffers that get smaller again.
//! * [`app`], [`args`], [`shutdown`]: start and end.

pub mod app;
pub mod args;
pub mod authority;
pub mod cadence;
pub mod camera;
pub mod capture;
pub mod config;
pub mod diagnostics;
pub mod draw;
pub mod encoder;
pub mod frame;
pub mod health;
pub mod hold;
pub mod http;
pub mod hub;
pub mod jpeg;
pub mod led;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod oddities;
pub mod overlay;
pub mod placeholder;
pub mod requests;
pub mod sensors;
pub mod settings;
pub mod shutdown;
pub mod system;
pub mod systemd;
pub mod v4l2;
