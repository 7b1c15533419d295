//! Waiting for descriptors.

use std::os::fd::BorrowedFd;
use std::time::Duration;

pub use nix::poll::PollFlags as Events;
use nix::poll::{PollFd, ppoll};

/// Waits until one of two descriptors is readable (or in error), at most for `timeout`. Interrupted by a signal it returns
/// as if the time were over. Gives what happened to each: `POLLIN`, `POLLERR` …
pub fn wait(first: Option<BorrowedFd<'_>>, second: Option<BorrowedFd<'_>>, timeout: Duration) -> (Events, Events) {
    let nothing = (Events::empty(), Events::empty());
    let Some(one) = first.or(second) else {
        std::thread::sleep(timeout);
        return nothing;
    };
    let entry = |fd| PollFd::new(fd, Events::POLLIN);
    let mut entries = [entry(one), entry(second.unwrap_or(one))];
    let count = usize::from(first.is_some()) + usize::from(second.is_some());
    if !ppoll(&mut entries[..count], Some(timeout.into()), None).is_ok_and(|ready| ready > 0) {
        return nothing;
    }
    // None are events that nix has no name for: something happened that was not asked for.
    let events = |at: usize| entries[at].revents().unwrap_or(Events::POLLERR);
    (first.map_or(Events::empty(), |_| events(0)), second.map_or(Events::empty(), |_| events(count - 1)))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::os::Signal;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(1);

    #[test]
    fn whichever_is_readable_is_told() {
        let [quiet, raised] = [(); 2].map(|()| Signal::new().unwrap());
        raised.raise();
        let (quiet, raised) = (Some(quiet.as_fd()), Some(raised.as_fd()));
        let (none, readable) = (Events::empty(), Events::POLLIN);
        assert_eq!(wait(quiet, raised, LONG), (none, readable));
        assert_eq!(wait(raised, quiet, LONG), (readable, none));
        assert_eq!(wait(raised, raised, LONG), (readable, readable));
        assert_eq!(wait(raised, None, LONG), (readable, none));
        assert_eq!(wait(None, raised, LONG), (none, readable));
        for (first, second) in [(quiet, quiet), (quiet, None), (None, quiet), (None, None)] {
            assert_eq!(wait(first, second, SHORT), (none, none));
        }
    }

    #[test]
    fn a_pipe_without_a_writer_is_in_error() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(writer);
        assert_eq!(wait(Some(reader.as_fd()), None, LONG), (Events::POLLHUP, Events::empty()));
    }
}
