//! A flag that can be waited for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// A descriptor that is readable once it was raised, until it is lowered.
#[derive(Debug)]
pub struct Signal(EventFd);

impl Signal {
    /// A signal that is not raised.
    pub fn new() -> io::Result<Self> {
        Ok(Self(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?))
    }

    /// Makes the descriptor readable.
    pub fn raise(&self) {
        // It can fail only if it is raised 2^64 times over.
        let _ = self.0.write(1);
    }

    /// Makes it unreadable until it is raised again.
    pub fn lower(&self) {
        // It fails where the signal was not raised.
        let _ = self.0.read();
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::os::{Events, wait};

    #[test]
    fn a_signal_is_readable_until_it_is_lowered() {
        let signal = Signal::new().unwrap();
        let is_raised = || wait(Some(signal.as_fd()), None, Duration::ZERO).0 == Events::POLLIN;
        assert!(!is_raised());
        signal.lower();
        assert!(!is_raised());
        signal.raise();
        signal.raise();
        assert!(is_raised());
        signal.lower();
        assert!(!is_raised());
    }
}
