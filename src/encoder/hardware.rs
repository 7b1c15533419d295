//! When the hardware encoder is used, given up and tried again.

use std::time::{Duration, Instant};

use super::EncodeError;

/// The retry policy of the hardware encoder, kept from one opening to the next. It knows no device and no clock: whoever
/// asks gives the time.
#[derive(Debug, Default)]
pub struct HardwarePolicy {
    /// Failures since it last worked.
    failures: u32,
    /// What it failed with.
    last_error: String,
    /// It failed before it had encoded a single frame from the camera's dma-bufs.
    import_failed: bool,
    retry: Option<Retry>,
}

/// The software encoder stands in until then.
#[derive(Clone, Copy, Debug)]
struct Retry {
    at: Instant,
    pause: Duration,
}

/// How a failed encoder had been used since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// It read the camera's dma-bufs.
    pub imports: bool,
    /// Pictures it made.
    pub encoded: u64,
}

impl HardwarePolicy {
    /// Failures in a row after which the software encoder takes over.
    const FAILURES_MAX: u32 = 3;
    /// How long it does at first, doubling up to [`Self::PAUSE_MAX`].
    const PAUSE_MIN: Duration = Duration::from_secs(60);
    const PAUSE_MAX: Duration = Duration::from_secs(3600);
    /// Pictures after which earlier failures are forgotten.
    const WORKS_AFTER: u64 = 100;

    /// Records that the encoder failed while it was in use.
    pub fn failed(&mut self, error: &EncodeError, usage: Usage, now: Instant) {
        self.failures += 1;
        self.last_error = error.to_string();
        self.import_failed |= usage.imports && usage.encoded == 0;
        if self.failures >= Self::FAILURES_MAX {
            self.give_up(now);
        }
    }

    /// Records that the encoder could not even be set up, which another try at once would not change.
    pub fn refused(&mut self, error: &EncodeError, now: Instant) {
        self.failures = Self::FAILURES_MAX;
        self.last_error = error.to_string();
        self.give_up(now);
    }

    fn give_up(&mut self, now: Instant) {
        let pause = self.retry.map_or(Self::PAUSE_MIN, |retry| (retry.pause * 2).min(Self::PAUSE_MAX));
        log::warn!("the hardware encoder is given up for {} s: {}", pause.as_secs(), self.last_error);
        self.retry = Some(Retry { at: now + pause, pause });
    }

    /// Records how many pictures the encoder has made since it was opened, after each.
    pub fn encoded(&mut self, encoded: u64) {
        if encoded == Self::WORKS_AFTER {
            self.failures = 0;
            self.retry = None;
        }
    }

    /// True while the software encoder stands in.
    pub fn is_given_up(&self, now: Instant) -> bool {
        self.gave_up_until().is_some_and(|at| now < at)
    }

    /// True once the hardware encoder is worth another try.
    pub fn is_due(&self, now: Instant) -> bool {
        self.gave_up_until().is_some_and(|at| now >= at)
    }

    fn gave_up_until(&self) -> Option<Instant> {
        self.retry.filter(|_| self.failures >= Self::FAILURES_MAX).map(|retry| retry.at)
    }

    /// Whether it may be given the camera's dma-bufs.
    pub fn may_import(&self) -> bool {
        !self.import_failed
    }

    /// What the encoder failed with last.
    pub fn last_error(&self) -> &str {
        &self.last_error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USED: Usage = Usage { imports: true, encoded: 7 };

    fn error() -> EncodeError {
        EncodeError::Ended { path: "/dev/video11".to_owned() }
    }

    /// A policy that has given up at this moment.
    fn given_up(now: Instant) -> HardwarePolicy {
        let mut policy = HardwarePolicy::default();
        for _ in 0..HardwarePolicy::FAILURES_MAX {
            policy.failed(&error(), USED, now);
        }
        policy
    }

    /// How long the software encoder stands in from `now` on.
    fn pause(policy: &HardwarePolicy, now: Instant) -> u64 {
        let due = |seconds: &u64| policy.is_due(now + Duration::from_secs(*seconds));
        let pause = (0..=4000).find(due).expect("it is tried again");
        let just_before = now + Duration::from_millis(1000 * pause - 1);
        assert!(policy.is_given_up(just_before) && !policy.is_due(just_before));
        assert!(!policy.is_given_up(now + Duration::from_secs(pause)));
        pause
    }

    #[test]
    fn two_failures_are_forgiven_and_the_third_is_not() {
        let (mut policy, now) = (HardwarePolicy::default(), Instant::now());
        for failures in 1..=HardwarePolicy::FAILURES_MAX {
            assert!(!policy.is_given_up(now), "after {} failures", failures - 1);
            policy.failed(&error(), USED, now);
        }
        assert!(policy.is_given_up(now));
        assert_eq!(policy.last_error(), "/dev/video11 has ended its stream");
        // Nothing has failed yet: there is nothing to be retried.
        let fresh = HardwarePolicy::default();
        assert!(!fresh.is_given_up(now) && !fresh.is_due(now + Duration::from_secs(1_000_000)));
    }

    #[test]
    fn it_is_tried_again_after_60_s() {
        let now = Instant::now();
        assert_eq!(pause(&given_up(now), now), 60);
    }

    #[test]
    fn one_that_cannot_be_set_up_is_given_up_at_once() {
        let (mut policy, now) = (HardwarePolicy::default(), Instant::now());
        policy.refused(&error(), now);
        assert_eq!(pause(&policy, now), 60);
    }

    #[test]
    fn pauses_double_up_to_an_hour() {
        let mut now = Instant::now();
        let mut policy = given_up(now);
        let mut pauses = Vec::new();
        for round in 0..9 {
            pauses.push(pause(&policy, now));
            now += Duration::from_secs(pauses[round]);
            // One failure of either kind ends the retry: it is on probation.
            if round % 2 == 0 {
                policy.failed(&error(), USED, now);
            } else {
                policy.refused(&error(), now);
            }
        }
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
    }

    #[test]
    fn what_works_for_100_pictures_is_trusted_anew() {
        let start = Instant::now();
        let mut policy = given_up(start);
        policy.failed(&error(), USED, start);
        assert_eq!(pause(&policy, start), 120);
        let later = start + Duration::from_secs(120);
        for encoded in 1..100 {
            policy.encoded(encoded);
        }
        assert!(policy.is_due(later), "99 are not enough");
        policy.encoded(100);
        assert!(!policy.is_due(later) && !policy.is_given_up(later));
        // Three failures are needed again, and the pause begins anew.
        policy.failed(&error(), USED, later);
        policy.failed(&error(), USED, later);
        assert!(!policy.is_given_up(later));
        policy.failed(&error(), USED, later);
        assert_eq!(pause(&policy, later), 60);
    }

    #[test]
    fn dma_bufs_are_given_up_only_where_none_was_ever_encoded() {
        let now = Instant::now();
        for (imports, encoded, may_import) in [(true, 0, false), (true, 1, true), (false, 0, true)] {
            let mut policy = HardwarePolicy::default();
            policy.failed(&error(), Usage { imports, encoded }, now);
            assert_eq!(policy.may_import(), may_import, "imports {imports}, encoded {encoded}");
            // Forgetting failures does not bring them back: they would fail the same way.
            policy.encoded(HardwarePolicy::WORKS_AFTER);
            assert_eq!(policy.may_import(), may_import);
        }
    }
}
