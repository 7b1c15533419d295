//! The real daemon, spawned on a port of its own, spoken to over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::large_stack_arrays,
    reason = "tests stop at what is wrong"
)]

mod appliance;
mod attacks;
mod changes;
mod configuration;
mod controls;
mod damage;
mod documents;
mod faults;
mod front_door;
mod fuzz;
mod hardware;
mod http;
mod idle;
mod picture;
mod support;
mod systemd;
mod viewers;
mod web;
mod webcam;
