//! Keeps openings of the camera apart that changes of settings take.

use std::time::{Duration, Instant};

/// Viewers have pictures for at least so long for each opening that changes took: one a second at most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// And for no longer than this for each: whoever asks next waits for it.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Between these, so many times as long as they had none: they keep two of three.
const PAUSE_SHARE: u32 = 2;

/// Keeps the openings for changes apart.
#[derive(Debug, Default)]
pub struct Pace {
    /// Since when there are no pictures because of a change.
    interrupted: Option<Instant>,
    /// How often the camera was opened meanwhile.
    openings: u32,
    next: Option<Instant>,
}

impl Pace {
    /// The camera is closed for a change, and opened; again while it is tried in other ways.
    pub fn interrupt(&mut self, now: Instant) {
        self.interrupted.get_or_insert(now);
        self.openings += 1;
    }

    /// It delivers again, or nobody watches.
    pub fn resume(&mut self, now: Instant) {
        let openings = std::mem::take(&mut self.openings);
        if let Some(since) = self.interrupted.take() {
            let pause = now.saturating_duration_since(since).saturating_mul(PAUSE_SHARE);
            self.next = Some(now + pause.clamp(PAUSE_MIN * openings, PAUSE_MAX * openings));
        }
    }

    /// True if viewers may be interrupted again.
    pub fn is_due(&self, now: Instant) -> bool {
        self.interrupted.is_none() && self.next.is_none_or(|next| now >= next)
    }
}
