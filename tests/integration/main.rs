//! The real daemon, spawned on a port of its own, spoken to over real sockets.

mod configuration;
mod faults;
mod fuzz;
mod http;
mod idle;
mod support;
mod systemd;
mod viewers;
