//! While no camera may be opened: the appliance found that calls to it hang again and again (`escalate`).

use std::time::Duration;

/// A camera is left alone no longer than this at a time.
const LONGEST: Duration = Duration::from_secs(3600);

/// A camera that is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    reason: String,
    /// When it ends, after the machine's start: a program that starts again meanwhile does not prolong it.
    until: Duration,
}

impl Hold {
    /// That of `PINHOLE_HOLD`, the reason, and `PINHOLE_HOLD_UNTIL`, in seconds after the machine's start.
    pub fn from_environment() -> Option<Self> {
        let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        Some(Self::new(variable("PINHOLE_HOLD")?, variable("PINHOLE_HOLD_UNTIL").as_deref(), since_boot()))
    }

    fn new(reason: String, until: Option<&str>, now: Duration) -> Self {
        let latest = now + LONGEST;
        let until = until.and_then(|text| text.trim().parse().ok()).map_or(latest, Duration::from_secs);
        Self { reason, until: until.min(latest) }
    }

    /// Why it is left alone; `None` once that is over.
    pub fn reason(&self) -> Option<&str> {
        self.reason_at(since_boot())
    }

    fn reason_at(&self, now: Duration) -> Option<&str> {
        (now < self.until).then_some(&*self.reason)
    }
}

/// What `/proc/uptime` says, which the sandbox hides.
fn since_boot() -> Duration {
    // SAFETY: a timespec of zeros is a valid one, and one to write to. Every kernel the program runs on has this clock.
    let time = unsafe {
        let mut time = std::mem::zeroed::<libc::timespec>();
        libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time);
        time
    };
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_ends_at_its_time_and_within_an_hour() {
        let now = Duration::from_secs(1000);
        for (until, ends) in [
            (Some("1300"), 1300),
            (Some(" 1300\n"), 1300),
            (Some("4600"), 4600),
            (Some("999999"), 4600),
            (Some("99999999999999999999999"), 4600),
            (Some("soon"), 4600),
            (None, 4600),
        ] {
            let hold = Hold::new("it hung".to_owned(), until, now);
            let ends = Duration::from_secs(ends);
            assert_eq!(hold.reason_at(ends.saturating_sub(Duration::from_nanos(1))), Some("it hung"), "{until:?}");
            assert_eq!(hold.reason_at(ends), None, "{until:?}");
        }
        assert_eq!(Hold::new("it hung".to_owned(), Some("999"), now).reason_at(now), None, "over before this start");
    }

    #[test]
    fn the_clock_is_the_machines() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        assert!((since_boot().as_secs_f64() - uptime).abs() < 5.0);
    }
}
