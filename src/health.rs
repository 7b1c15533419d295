//! What state the camera is in, as people, systemd and monitors are told it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing has been tried yet.
    Starting,
    /// Frames are published.
    Streaming,
    /// The camera is well and nobody watches.
    Idle,
    /// No picture, for this reason; it is being tried again.
    Degraded(Arc<str>),
    /// The camera was opened but delivers nothing.
    Stalled(Arc<str>),
}

impl State {
    /// One word, as in the status document.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Streaming => "streaming",
            Self::Idle => "idle",
            Self::Degraded(_) => "degraded",
            Self::Stalled(_) => "stalled",
        }
    }

    /// Why there is no picture.
    pub fn reason(&self) -> Option<&Arc<str>> {
        match self {
            Self::Degraded(reason) | Self::Stalled(reason) => Some(reason),
            Self::Starting | Self::Streaming | Self::Idle => None,
        }
    }

    /// False where somebody should look.
    pub fn is_healthy(&self) -> bool {
        self.reason().is_none()
    }
}

/// The state with its history, shared by all threads.
#[derive(Debug)]
pub struct Health {
    state: RwLock<(State, Instant)>,
    /// Rounds the capture loop has made: the proof that no call to the camera hangs.
    rounds: AtomicU64,
    /// When it made the last one, in milliseconds after `started`.
    last_round: AtomicU64,
    started: Instant,
}

/// A capture loop that has not come round for this long hangs in a call to the camera. (Its longest wait is 2 s.)
const HANG_AFTER: Duration = Duration::from_secs(10);

impl Default for Health {
    fn default() -> Self {
        let started = Instant::now();
        Self {
            state: RwLock::new((State::Starting, started)),
            rounds: AtomicU64::new(0),
            last_round: AtomicU64::new(0),
            started,
        }
    }
}

impl Health {
    /// Sets the state; tells whether that changed it.
    pub fn set(&self, state: State) -> bool {
        let mut current = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if current.0 == state {
            return false;
        }
        *current = (state, Instant::now());
        true
    }

    /// The state and how long it has lasted. A capture thread that hangs cannot say so itself; this does.
    pub fn state(&self) -> (State, Duration) {
        if self.hangs() {
            let quiet = self.since_last_round();
            let reason = "a call to the camera has not returned; the watchdog restarts the program";
            return (State::Stalled(reason.into()), quiet);
        }
        let (state, since) = &*self.state.read().unwrap_or_else(PoisonError::into_inner);
        (state.clone(), since.elapsed())
    }

    /// The capture loop came round.
    pub fn round(&self) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        self.last_round.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// True if a call to the camera has not returned for long.
    pub fn hangs(&self) -> bool {
        self.since_last_round() > HANG_AFTER
    }

    /// Rounds so far.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Time since the program started.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn since_last_round(&self) -> Duration {
        self.uptime().saturating_sub(Duration::from_millis(self.last_round.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_changes_are_told_once() {
        let health = Health::default();
        health.round();
        assert_eq!(health.state().0, State::Starting);
        assert!(health.set(State::Degraded("unplugged".into())));
        assert!(!health.set(State::Degraded("unplugged".into())));
        assert!(health.set(State::Degraded("in use".into())));
        assert!(!health.state().0.is_healthy());
        assert!(health.set(State::Idle));
        assert!(health.state().0.is_healthy());
        assert_eq!(health.rounds(), 1);
    }
}
