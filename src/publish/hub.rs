//! The slot between the capture thread and everybody who looks: newest wins, nobody waits for anybody.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::publish::JpegFrame;

/// The newest frame, and how many want the next.
#[derive(Debug)]
pub struct Hub {
    newest: watch::Sender<Option<JpegFrame>>,
    demand: Mutex<DemandState>,
    changed: Condvar,
}

#[derive(Debug)]
struct DemandState {
    wanted_by: usize,
    /// When somebody last wanted a frame.
    last_wanted: Instant,
    closed: bool,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            newest: watch::Sender::new(None),
            demand: Mutex::new(DemandState { wanted_by: 0, last_wanted: Instant::now(), closed: false }),
            changed: Condvar::new(),
        }
    }
}

impl Hub {
    /// Puts a frame into the slot. Never waits: whoever has not taken the last one has missed it.
    pub fn publish(&self, frame: JpegFrame) {
        self.newest.send_replace(Some(frame));
    }

    /// Empties the slot when capture pauses, so that nobody who comes later is shown the past.
    pub fn clear(&self) {
        // Only when there is something: a change would wake every receiver.
        self.newest.send_if_modified(|newest| newest.take().is_some());
    }

    /// The newest frame and news of the next. Look at it only while holding a [`Demand`], or capture may be paused.
    pub fn subscribe(&self) -> watch::Receiver<Option<JpegFrame>> {
        self.newest.subscribe()
    }

    /// The newest frame.
    pub fn newest(&self) -> Option<JpegFrame> {
        self.newest.borrow().clone()
    }

    /// Says that frames are wanted, until the answer is dropped.
    pub fn demand(self: &Arc<Self>) -> Demand {
        let mut state = self.state();
        state.wanted_by += 1;
        if state.wanted_by == 1 {
            self.changed.notify_all();
        }
        Demand { hub: Arc::clone(self) }
    }

    /// True while frames are wanted, and for `linger` after.
    pub fn is_wanted(&self, linger: Duration) -> bool {
        let state = self.state();
        state.wanted_by > 0 || state.last_wanted.elapsed() < linger
    }

    /// True while frames are wanted now.
    pub fn is_wanted_now(&self) -> bool {
        self.state().wanted_by > 0
    }

    /// Waits until frames are wanted, the hub is closed, or `timeout` is over. The first two end it early.
    pub fn wait_wanted(&self, timeout: Duration) {
        let state = self.state();
        let waiting = |state: &mut DemandState| state.wanted_by == 0 && !state.closed;
        // A poisoned lock means a panic elsewhere; the numbers are still right.
        drop(self.changed.wait_timeout_while(state, timeout, waiting).unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits for `timeout`, or until the hub is closed.
    pub fn wait_closed(&self, timeout: Duration) {
        let state = self.state();
        drop(
            self.changed
                .wait_timeout_while(state, timeout, |state| !state.closed)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// Tells the capture thread to end.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// True after [`close`](Self::close).
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    fn state(&self) -> MutexGuard<'_, DemandState> {
        self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody wants frames. See [`Hub::demand`].
#[derive(Debug)]
pub struct Demand {
    hub: Arc<Hub>,
}

impl Drop for Demand {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        state.wanted_by -= 1;
        state.last_wanted = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{MonotonicTime, Size};
    use crate::publish::PartPool;

    fn frame(pool: &mut PartPool) -> JpegFrame {
        pool.assemble(&[b"jpeg"], Size { width: 1, height: 1 }, MonotonicTime::now())
    }

    #[test]
    fn newest_wins() {
        let hub = Hub::default();
        let mut pool = PartPool::default();
        let receiver = hub.subscribe();
        hub.publish(frame(&mut pool));
        hub.publish(frame(&mut pool));
        assert_eq!(receiver.borrow().as_ref().unwrap().sequence, 2);
        hub.clear();
        assert!(hub.newest().is_none());
    }

    #[test]
    fn demand_is_counted_and_lingers() {
        let hub = Arc::new(Hub::default());
        let first = hub.demand();
        let second = hub.demand();
        drop(first);
        assert!(hub.is_wanted(Duration::ZERO));
        drop(second);
        assert!(!hub.is_wanted(Duration::ZERO));
        assert!(hub.is_wanted(Duration::from_secs(60)));
        assert!(!hub.is_wanted_now());
    }

    #[test]
    fn waiting_ends_with_demand_or_closing() {
        let hub = Arc::new(Hub::default());
        let other = Arc::clone(&hub);
        let (tell, told) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn(move || {
            other.wait_wanted(Duration::from_secs(60));
            let wanted = other.is_wanted_now();
            let _ = tell.send(());
            other.wait_closed(Duration::from_secs(60));
            (wanted, other.is_closed())
        });
        let demand = hub.demand();
        told.recv().unwrap();
        drop(demand);
        hub.close();
        assert_eq!(waiter.join().unwrap(), (true, true));
    }
}
