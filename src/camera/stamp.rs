//! Which of a driver's time stamps to believe.

use std::time::Duration;

use crate::frame::MonotonicTime;

/// After a stamp that cannot be right, so many that can are passed over too: a clock that is only nearly another one
/// must not make frames jump to and fro in time.
const DISTRUST: u32 = 100;

/// Judges the time stamps of one opened camera.
#[derive(Clone, Copy, Debug)]
pub struct Stamps {
    /// How much older than its buffer's queueing a stamp may be: cameras stamp the start of an exposure, and have a frame
    /// or two on the way.
    slack: Duration,
    last: MonotonicTime,
    /// Stamps still passed over.
    distrusted: u32,
    told: bool,
}

impl Stamps {
    /// For a camera that delivers a frame each `period`.
    pub fn new(period: Duration) -> Self {
        let slack = 3 * period + Duration::from_millis(250);
        Self { slack, last: MonotonicTime::from_nanos(0), distrusted: 0, told: false }
    }

    /// When a frame was captured: the driver's stamp (in nanoseconds), or `now` where that cannot be one of
    /// `CLOCK_MONOTONIC`'s. `queued` is a moment before which its buffer was not with the camera, so that nothing older
    /// can be in it.
    pub fn judge(&mut self, nanos: u64, queued: MonotonicTime, now: MonotonicTime) -> MonotonicTime {
        let stamp = MonotonicTime::from_nanos(nanos);
        let too_old = queued.since(stamp) > self.slack;
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

    const PERIOD: Duration = Duration::from_millis(33);

    fn at(millis: u64) -> MonotonicTime {
        MonotonicTime::from_nanos(millis * 1_000_000)
    }

    /// What is made of a stamp that comes first, at 100 s, of a buffer queued 132 ms before.
    fn first(stamp_millis: u64) -> MonotonicTime {
        Stamps::new(PERIOD).judge(stamp_millis * 1_000_000, at(99_868), at(100_000))
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
        assert_eq!(Stamps::new(PERIOD).judge(92_050 * 1_000_000, at(92_000), at(100_000)), at(92_050));
    }

    #[test]
    fn a_constant_stamp_is_not_believed_twice() {
        let mut stamps = Stamps::new(PERIOD);
        assert_eq!(stamps.judge(99_990_000_000, at(99_868), at(100_000)), at(99_990));
        for millis in [100_033, 100_066, 100_100] {
            assert_eq!(stamps.judge(99_990_000_000, at(millis - 132), at(millis)), at(millis));
        }
    }

    #[test]
    fn trust_comes_back_slowly() {
        let mut stamps = Stamps::new(PERIOD);
        assert_eq!(stamps.judge(1, at(99_868), at(100_000)), at(100_000));
        let believed = (0..200u64)
            .map(|i| 100_033 + 33 * i)
            .filter(|now| stamps.judge((now - 10) * 1_000_000, at(now - 132), at(*now)) == at(now - 10))
            .count();
        assert_eq!(believed, 101);
    }

    #[test]
    fn slow_frames_are_given_their_time() {
        let mut stamps = Stamps::new(Duration::from_secs(20));
        assert_eq!(stamps.judge(80_000_000_000, at(80_100), at(100_000)), at(80_000));
    }
}
