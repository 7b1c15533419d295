//! systemd's protocol: what it is told, and what it hands over.

use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

/// The listening socket systemd opened for us, if it did (socket activation).
///
/// # Errors
/// A descriptor that is not a listening TCP socket.
pub fn listener() -> std::io::Result<Option<TcpListener>> {
    let mut sockets: Vec<_> = sd_notify::listen_fds()?.collect();
    if sockets.is_empty() {
        return Ok(None);
    }
    if sockets.len() > 1 {
        return Err(std::io::Error::other(format!(
            "systemd passed {} sockets, pinholed takes one: keep a single ListenStream= in pinhole.socket",
            sockets.len()
        )));
    }
    // SAFETY: sd_listen_fds(3): the descriptor is open and ours; `listen_fds` gives each once.
    let socket = socket2::Socket::from(unsafe { OwnedFd::from_raw_fd(sockets.remove(0)) });
    if !socket.is_listener()? || socket.r#type()? != socket2::Type::STREAM {
        return Err(std::io::Error::other("the socket systemd passed is not a listening TCP socket"));
    }
    Ok(Some(socket.into()))
}

/// The interval within which systemd wants to hear from us (`WatchdogSec=`).
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Tells systemd; without systemd, nobody.
pub fn notify(states: &[NotifyState<'_>]) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if let Err(error) = sd_notify::notify(states)
        && !TOLD.swap(true, Ordering::Relaxed)
    {
        log::warn!("systemd cannot be notified: {error}");
    }
}

/// Tells systemd that the program is going to end.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}
