//! The beat of cameras without a sensor.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::frame::MonotonicTime;
use crate::os;

/// Says when the next frame is due.
#[derive(Debug)]
pub struct Pace {
    period: Duration,
    due: MonotonicTime,
}

impl Pace {
    /// A beat of `frame_rate` per second, starting now.
    pub fn new(frame_rate: f64) -> Self {
        Self { period: Duration::from_secs_f64(1.0 / frame_rate), due: MonotonicTime::now() }
    }

    /// Sleeps until the next frame is due, at most for `timeout`. Gives the moment it was due, or `None` where the time
    /// ran out or `also` became readable before.
    ///
    /// After a pause (nobody watched) the beat starts anew instead of catching up.
    pub fn wait(&mut self, timeout: Duration, also: Option<BorrowedFd<'_>>) -> Option<MonotonicTime> {
        let now = MonotonicTime::now();
        if now.since(self.due) > self.period {
            self.due = now;
        }
        let left = self.due.since(now);
        match also {
            // Ready to be looked at; the frame is due later.
            Some(_) if !os::wait(None, also, left.min(timeout)).1.is_empty() => return None,
            Some(_) => {}
            None => std::thread::sleep(left.min(timeout)),
        }
        if left > timeout {
            return None;
        }
        let due = self.due;
        self.due = due + self.period;
        Some(due)
    }
}
