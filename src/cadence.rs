//! Thins a flow of frames to a rate.

use std::time::{Duration, Instant};

/// Says which frames of a faster flow to take, so that the rate is right on average.
#[derive(Clone, Copy, Debug)]
pub struct Cadence {
    period: Duration,
    due: Option<Instant>,
}

impl Cadence {
    /// Takes `rate` frames per second.
    pub fn new(rate: f64) -> Self {
        Self { period: Duration::from_secs_f64(1.0 / rate), due: None }
    }

    /// True if a frame that is there `now` is to be taken.
    pub fn take(&mut self, now: Instant) -> bool {
        let due = self.due.unwrap_or(now);
        // Frames come when the camera has them: one a little early is as good as the next is late.
        if now + self.period / 4 < due {
            return false;
        }
        // After a pause the beat starts anew instead of catching up.
        self.due = Some(if now > due + self.period { now + self.period } else { due + self.period });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames taken in ten seconds of a flow of `flow` per second.
    fn taken(rate: f64, flow: f64) -> usize {
        let (mut cadence, start) = (Cadence::new(rate), Instant::now());
        (0..(flow * 10.0) as u32)
            .filter(|&i| {
                // Camera frames jitter by a few milliseconds.
                let jitter = f64::from(i * 7 % 5) / 1000.0;
                cadence.take(start + Duration::from_secs_f64(f64::from(i) / flow + jitter))
            })
            .count()
    }

    #[test]
    fn rates_are_kept_on_average() {
        for (rate, flow, expected) in [
            (5.0, 30.0, 50),
            (10.0, 30.0, 100),
            (20.0, 30.0, 200),
            (30.0, 30.0, 300),
            (120.0, 30.0, 300),
            (25.0, 30.0, 250),
        ] {
            let got = taken(rate, flow);
            assert!(got.abs_diff(expected) <= 3, "{got} of {flow}/s taken at {rate}/s, not {expected}");
        }
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let (mut cadence, start) = (Cadence::new(10.0), Instant::now());
        assert!(cadence.take(start));
        let later = start + Duration::from_secs(5);
        assert!(cadence.take(later));
        assert!(!cadence.take(later + Duration::from_millis(10)));
    }
}
