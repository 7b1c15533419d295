//! Calls to the kernel that std has none for: waiting, signalling, shared memory, sockets.
//!
//! What crate `nix` offers is used (it goes through libc, below which tests put their stand-ins for devices); the rest of
//! the `unsafe` ground of cameras and encoders is here, with its contracts.

pub mod dma_buf;
mod mapping;
mod poll;
mod signal;

use std::os::fd::{AsRawFd, BorrowedFd};

pub use mapping::Mapping;
pub use poll::{Events, wait};
pub use signal::Signal;

/// Bytes in a socket's send queue that its peer has not acknowledged; 0 for a socket that is gone.
pub fn bytes_unacknowledged(socket: BorrowedFd<'_>) -> i32 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (alias TIOCOUTQ, tcp(7)) writes an int; where it fails it leaves it 0.
    unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    bytes
}
