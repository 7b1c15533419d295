//! What state the camera is in, as people, systemd and monitors are told it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::camera::Cause;

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
    Degraded(Trouble),
    /// The camera was opened but delivers nothing.
    Stalled(Trouble),
}

/// Why there is no picture: for programs, and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What no program has to read out of `reason`.
    pub cause: Cause,
    /// What to do about it, in words.
    pub reason: Arc<str>,
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
            Self::Degraded(trouble) | Self::Stalled(trouble) => Some(&trouble.reason),
            Self::Starting | Self::Streaming | Self::Idle => None,
        }
    }

    /// The same for programs.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Degraded(trouble) | Self::Stalled(trouble) => Some(trouble.cause),
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
            let reason = "a call to the camera has not returned; the watchdog restarts the program".into();
            return (State::Stalled(Trouble { cause: Cause::Hung, reason }), quiet);
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
        let trouble = |reason: &str| Trouble { cause: Cause::Unplugged, reason: reason.into() };
        let health = Health::default();
        health.round();
        assert_eq!(health.state().0, State::Starting);
        assert!(health.set(State::Degraded(trouble("unplugged"))));
        assert!(!health.set(State::Degraded(trouble("unplugged"))));
        assert!(health.set(State::Degraded(trouble("in use"))));
        assert!(!health.state().0.is_healthy());
        assert!(health.set(State::Idle));
        assert!(health.state().0.is_healthy());
        assert_eq!(health.rounds(), 1);
    }
}
