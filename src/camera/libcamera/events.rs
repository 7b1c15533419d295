//! What libcamera's thread tells the capture thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use ::libcamera::camera::ActiveCamera;
use ::libcamera::request::Request;

use crate::os::{self, Signal};

/// One thing that happened.
pub(super) enum Event {
    Completed(Request),
    Disconnected,
}

/// What a camera's events come through.
pub(super) struct Events {
    queue: Receiver<Event>,
    disconnected: Arc<AtomicBool>,
    /// Readable when a request has completed, for who waits for something else as well; see `signal_wanted`.
    signal: Arc<Signal>,
    /// Set once somebody does: the signal costs a system call per frame.
    signal_wanted: Arc<AtomicBool>,
}

impl Events {
    /// Has libcamera tell of completed requests, of which there are at most `requests`, and of the disconnection.
    pub(super) fn of(camera: &mut ActiveCamera<'static>, requests: usize) -> io::Result<Self> {
        // Room for every request there is and the one disconnection: sending never waits and never allocates.
        let (sender, queue) = mpsc::sync_channel(requests + 1);
        let events = Self {
            queue,
            disconnected: Arc::default(),
            signal: Arc::new(Signal::new()?),
            signal_wanted: Arc::default(),
        };
        // Both run on libcamera's thread, under a mutex that queue_request takes as well.
        let (signal, signal_wanted) = (Arc::clone(&events.signal), Arc::clone(&events.signal_wanted));
        let (disconnected, disconnected_sender) = (Arc::clone(&events.disconnected), sender.clone());
        camera.on_request_completed(move |request| {
            drop(sender.try_send(Event::Completed(request)));
            if signal_wanted.load(Ordering::Acquire) {
                signal.raise();
            }
        });
        camera.on_disconnected(move || {
            disconnected.store(true, Ordering::Release);
            drop(disconnected_sender.try_send(Event::Disconnected));
        });
        Ok(events)
    }

    /// True once the camera was unplugged.
    pub(super) fn is_disconnected(&self) -> bool {
        self.disconnected.load(Ordering::Acquire)
    }

    /// The next event, unless the time is over or `also` becomes readable before. (The sender lives in the camera, which
    /// its source owns: it cannot hang up before.)
    pub(super) fn next(&self, timeout: Duration, also: Option<BorrowedFd<'_>>) -> Option<Event> {
        let Some(also) = also else { return self.queue.recv_timeout(timeout).ok() };
        if !self.signal_wanted.swap(true, Ordering::AcqRel) {
            // What came before was not signalled.
            self.signal.raise();
        }
        if let Ok(event) = self.queue.try_recv() {
            return Some(event);
        }
        let (ours, _) = os::wait(Some(self.signal.as_fd()), Some(also), timeout);
        if !ours.is_empty() {
            // Before looking: whatever comes after is signalled anew.
            self.signal.lower();
        }
        self.queue.try_recv().ok()
    }

    /// Takes in what has come so far and throws it away.
    pub(super) fn drain(&self) {
        while self.queue.try_recv().is_ok() {}
    }
}
