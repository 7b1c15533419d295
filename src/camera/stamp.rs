//! Decides which of a driver's time stamps to trust.

use std::time::Duration;

use super::rate::Rate;
use crate::frame::MonotonicTime;

/// After an impossible stamp, this many plausible ones are ignored too: a clock that nearly agrees with ours must not make
/// frames jump back and forth in time.
const DISTRUST: u32 = 100;

/// Judges the time stamps of one opened camera.
#[derive(Clone, Copy, Debug)]
pub struct Stamps {
    /// How much older than its buffer's queueing a stamp may be: cameras stamp the start of an exposure, and have a frame
    /// or two on the way.
    slack: Duration,
    last: MonotonicTime,
    /// When the queue was last found empty: all frames since then are newer.
    emptied: MonotonicTime,
    /// A frame has come since then.
    is_filled: bool,
    /// Stamps still to be ignored.
    distrusted: u32,
    told: bool,
}

impl Stamps {
    /// For a camera of this rate; its own counts, however few of its frames are taken.
    pub fn new(rate: Rate) -> Self {
        let slack = 3 * rate.own_period() + Duration::from_millis(250);
        let zero = MonotonicTime::from_nanos(0);
        Self { slack, last: zero, emptied: zero, is_filled: true, distrusted: 0, told: false }
    }

    /// The camera was asked for a frame and had none. The first such moment after a frame is remembered, not the last: an
    /// exposure longer than the camera's period may have begun then.
    pub fn found_empty(&mut self) {
        if std::mem::take(&mut self.is_filled) {
            self.emptied = MonotonicTime::now();
        }
    }

    /// When a frame was captured: the driver's stamp (in nanoseconds), or `now` where that cannot be one of
    /// `CLOCK_MONOTONIC`'s. `queued` is a moment before which its buffer was not with the camera, so that nothing older
    /// can be in it.
    pub fn judge(&mut self, nanos: u64, queued: MonotonicTime, now: MonotonicTime) -> MonotonicTime {
        let stamp = MonotonicTime::from_nanos(nanos);
        let too_old = queued.max(self.emptied).since(stamp) > self.slack;
        self.is_filled = true;
        if nanos == 0 || stamp > now || too_old || stamp <= self.last {
            self.distrusted = DISTRUST;
            if !self.told {
                self.told = true;
                log::info!("the camera's time stamps are not of this machine's clock: the time of arrival counts");
            }
        } else {
            self.distrusted = self.distrusted.saturating_sub(1);
        }
        self.last = stamp;
        if self.distrusted > 0 { now } else { stamp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps() -> Stamps {
        Stamps::new(Rate::exact(30.0))
    }

    fn at(millis: u64) -> MonotonicTime {
        MonotonicTime::from_nanos(millis * 1_000_000)
    }

    /// The verdict on a first stamp at 100 s, of a buffer queued 132 ms before.
    fn first(stamp_millis: u64) -> MonotonicTime {
        stamps().judge(stamp_millis * 1_000_000, at(99_868), at(100_000))
    }

    #[test]
    fn only_what_the_queue_can_hold_is_believed() {
        for millis in [100_000, 99_960, 99_868, 99_700] {
            assert_eq!(first(millis), at(millis), "{millis}");
        }
        // Another clock: seconds ago, in the future, none at all.
        for millis in [0, 1, 50_000, 98_000, 99_400, 100_001, u64::MAX / 2_000_000] {
            assert_eq!(first(millis), at(100_000), "{millis}");
        }
    }

    #[test]
    fn what_waited_while_nobody_took_it_is_as_old_as_it_is() {
        // The buffer was with the camera for 8 s, filled at once.
        assert_eq!(stamps().judge(92_050 * 1_000_000, at(92_000), at(100_000)), at(92_050));
    }

    #[test]
    fn a_constant_stamp_is_not_believed_twice() {
        let mut stamps = self::stamps();
        assert_eq!(stamps.judge(99_990_000_000, at(99_868), at(100_000)), at(99_990));
        for millis in [100_033, 100_066, 100_100] {
            assert_eq!(stamps.judge(99_990_000_000, at(millis - 132), at(millis)), at(millis));
        }
    }

    #[test]
    fn trust_comes_back_slowly() {
        let mut stamps = self::stamps();
        assert_eq!(stamps.judge(1, at(99_868), at(100_000)), at(100_000));
        let believed = (0..200u64)
            .map(|i| 100_033 + 33 * i)
            .filter(|now| stamps.judge((now - 10) * 1_000_000, at(now - 132), at(*now)) == at(now - 10))
            .count();
        assert_eq!(believed, 101);
    }

    #[test]
    fn a_thinned_cameras_stamps_are_judged_by_its_own_rate() {
        // One in 20 s is taken of 30 in a second.
        let mut stamps = Stamps::new(Rate::new(0.05, Some(30.0)));
        assert_eq!(stamps.judge(60_000_000_000, at(99_868), at(100_000)), at(100_000));
    }

    #[test]
    fn what_comes_after_an_empty_queue_is_not_older() {
        let mut stamps = self::stamps();
        stamps.found_empty();
        let emptied = stamps.emptied;
        // Only the first time counts, until a frame comes.
        stamps.found_empty();
        assert_eq!(stamps.emptied, emptied);
        let before = |millis: u64| emptied.since(at(0)).as_nanos() as u64 - millis * 1_000_000;
        let queued = MonotonicTime::from_nanos(before(5000));
        let now = MonotonicTime::now();
        assert_eq!(stamps.judge(before(200), queued, now), MonotonicTime::from_nanos(before(200)));
        // The buffer was with the camera long enough for this one, but it would have been there.
        let mut other = Stamps { last: at(0), ..stamps };
        assert_eq!(other.judge(before(1000), queued, now), now);
    }

    #[test]
    fn slow_frames_are_given_their_time() {
        let mut stamps = Stamps::new(Rate::exact(0.05));
        assert_eq!(stamps.judge(80_000_000_000, at(80_100), at(100_000)), at(80_000));
    }
}
