//! What is asked of the capture thread, kept until it is settled, whatever is opened anew meanwhile.
//!
//! [`Mailbox`] holds what waits. [`Trial`] finds out which of the changes that were merged the camera refuses. [`Pace`] keeps
//! openings apart, so that changes without end leave viewers their pictures. [`Known`] has the controls for whoever only reads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json};
use tokio::sync::{oneshot, watch};

use crate::camera::control::Control;
use crate::settings::{Change, ChangeError, Settings};

mod trial;

pub use trial::{Answers, Trial, Verdict};

/// So many of a kind may wait; more are told to come again.
const WAITING_MAX: usize = 32;
/// A change that others have kept waiting for so long is told to come again: whoever asked does not wait for ever.
const EXPIRES: Duration = Duration::from_secs(6);

/// The camera's controls with their values.
pub type Controls = Arc<Vec<Control>>;
/// Where an answer comes from.
pub type Answer<T> = oneshot::Receiver<Result<T, ChangeError>>;

/// A change of settings, and who waits for the answer. An answer nobody waits for is dropped.
#[derive(Debug)]
pub struct Asked {
    /// What is to be changed.
    pub change: Change,
    since: Instant,
    answer: oneshot::Sender<Result<Settings, ChangeError>>,
}

impl Asked {
    /// Tells what is in force, or why not.
    pub fn answer(self, result: Result<Settings, ChangeError>) {
        drop(self.answer.send(result));
    }
}

/// A change of the camera's controls.
#[derive(Clone, Debug, PartialEq)]
pub enum ControlChange {
    /// By name (null: the default), all or none.
    Set(Map<String, Json>),
    /// Everything set since the start is taken back.
    Reset,
}

/// The same with who waits for the answer.
pub type ControlsAsked = (ControlChange, oneshot::Sender<Result<Controls, ChangeError>>);

/// What waits for the capture thread.
#[derive(Debug, Default)]
pub struct Mailbox {
    waiting: Mutex<Waiting>,
    /// Looked at for every frame, so it must cost nothing.
    is_full: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    changes: Vec<Asked>,
    controls: VecDeque<ControlsAsked>,
    /// Somebody wants to know the controls' values.
    read_controls: bool,
}

impl Mailbox {
    /// Asks for other settings. The capture thread looks at least four times a second.
    ///
    /// # Errors
    /// Too many wait.
    pub fn change(&self, change: Change) -> Result<Answer<Settings>, ChangeError> {
        let (answer, result) = oneshot::channel();
        let mut waiting = self.waiting();
        waiting.changes.retain(|asked| !asked.answer.is_closed());
        if waiting.changes.len() >= WAITING_MAX {
            return Err(ChangeError::Crowded);
        }
        waiting.changes.push(Asked { change, since: Instant::now(), answer });
        self.note(&waiting);
        Ok(result)
    }

    /// Asks for other values of controls.
    ///
    /// # Errors
    /// Too many wait.
    pub fn change_controls(&self, change: ControlChange) -> Result<Answer<Controls>, ChangeError> {
        let (answer, result) = oneshot::channel();
        let mut waiting = self.waiting();
        waiting.controls.retain(|(_, answer)| !answer.is_closed());
        if waiting.controls.len() >= WAITING_MAX {
            return Err(ChangeError::Crowded);
        }
        waiting.controls.push_back((change, answer));
        self.note(&waiting);
        Ok(result)
    }

    /// Asks for the values of the controls, which [`Known`] then has.
    pub fn read_controls(&self) {
        let mut waiting = self.waiting();
        waiting.read_controls = true;
        self.note(&waiting);
    }

    /// True if nobody asks for anything; costs one load.
    pub fn is_empty(&self) -> bool {
        !self.is_full.load(Ordering::Acquire)
    }

    /// The change of controls that has waited longest.
    pub fn next_controls(&self) -> Option<ControlsAsked> {
        let mut waiting = self.waiting();
        let next = waiting.controls.pop_front();
        self.note(&waiting);
        next
    }

    /// True if the controls' values are wanted; not again for the same asking.
    pub fn take_read_controls(&self) -> bool {
        let mut waiting = self.waiting();
        let wanted = std::mem::take(&mut waiting.read_controls);
        self.note(&waiting);
        wanted
    }

    /// What the settings would be with all changes that wait; `None` without any.
    pub fn merged(&self, settings: &Settings) -> Option<Settings> {
        let waiting = self.waiting();
        let changes = waiting.changes.iter().filter(|asked| !asked.answer.is_closed());
        changes.fold(None, |merged, asked| Some(asked.change.applied_to(merged.as_ref().unwrap_or(settings))))
    }

    /// Takes all changes of settings, oldest first, but those whose askers have gone, or waited too long and are told so.
    pub fn take_changes(&self, now: Instant) -> Vec<Asked> {
        let mut waiting = self.waiting();
        let (late, changes) = std::mem::take(&mut waiting.changes)
            .into_iter()
            .filter(|asked| !asked.answer.is_closed())
            .partition(|asked| now.saturating_duration_since(asked.since) > EXPIRES);
        self.note(&waiting);
        drop(waiting);
        let late: Vec<Asked> = late;
        for asked in late {
            asked.answer(Err(ChangeError::Crowded));
        }
        changes
    }

    /// Puts changes back that are still to be settled, before those that came meanwhile.
    pub fn put_back(&self, mut changes: Vec<Asked>) {
        let mut waiting = self.waiting();
        changes.append(&mut waiting.changes);
        waiting.changes = changes;
        self.note(&waiting);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, waiting: &Waiting) {
        let is_full = !waiting.changes.is_empty() || !waiting.controls.is_empty() || waiting.read_controls;
        self.is_full.store(is_full, Ordering::Release);
    }
}

/// The least time from one interruption for a change to the next.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A pause is so many times as long as the interruption before it: viewers keep four of five pictures.
const PAUSE_SHARE: u32 = 4;

/// Keeps the openings for changes apart.
#[derive(Debug, Default)]
pub struct Pace {
    /// Since when there are no pictures because of a change.
    interrupted: Option<Instant>,
    next: Option<Instant>,
}

impl Pace {
    /// The camera is closed for a change.
    pub fn interrupt(&mut self, now: Instant) {
        self.interrupted.get_or_insert(now);
    }

    /// It delivers again, or nobody watches.
    pub fn resume(&mut self, now: Instant) {
        if let Some(since) = self.interrupted.take() {
            let pause = now.saturating_duration_since(since).saturating_mul(PAUSE_SHARE);
            self.next = Some(now + pause.clamp(PAUSE_MIN, PAUSE_MAX));
        }
    }

    /// True if viewers may be interrupted again.
    pub fn is_due(&self, now: Instant) -> bool {
        self.interrupted.is_none() && self.next.is_none_or(|next| now >= next)
    }
}

/// Values younger than this are told as they are: questions without end ask the camera four times a second.
const FRESH: Duration = Duration::from_millis(250);

/// The controls as they were last read, for whoever asks while the camera is stopped or opened anew.
#[derive(Debug)]
pub struct Known {
    controls: watch::Sender<Option<(Instant, Controls)>>,
    /// A camera is running that can be asked.
    is_live: AtomicBool,
    /// They were read from the camera as it was opened last.
    is_current: AtomicBool,
}

impl Default for Known {
    fn default() -> Self {
        Self { controls: watch::Sender::new(None), is_live: AtomicBool::new(false), is_current: AtomicBool::new(false) }
    }
}

impl Known {
    /// They are these.
    pub fn tell(&self, controls: Controls) {
        self.is_current.store(true, Ordering::Relaxed);
        self.controls.send_replace(Some((Instant::now(), controls)));
    }

    /// There is no camera any more.
    pub fn forget(&self) {
        self.controls.send_replace(None);
    }

    /// A camera has been opened.
    pub fn opened(&self) {
        self.is_current.store(false, Ordering::Relaxed);
        self.set_live(true);
    }

    /// Whether questions are answered with the next frame.
    pub fn set_live(&self, is_live: bool) {
        self.is_live.store(is_live, Ordering::Release);
    }

    /// See [`set_live`](Self::set_live).
    pub fn is_live(&self) -> bool {
        self.is_live.load(Ordering::Acquire)
    }

    /// What is known.
    pub fn get(&self) -> Option<Controls> {
        self.controls.borrow().as_ref().map(|(_, controls)| Arc::clone(controls))
    }

    /// What is known, if there is no use in asking the camera again.
    pub fn fresh(&self) -> Option<Controls> {
        let known = self.controls.borrow();
        let (at, controls) = known.as_ref()?;
        (self.is_current.load(Ordering::Relaxed) && at.elapsed() < FRESH).then(|| Arc::clone(controls))
    }

    /// News of them.
    pub fn subscribe(&self) -> watch::Receiver<Option<(Instant, Controls)>> {
        self.controls.subscribe()
    }
}

#[cfg(test)]
mod tests;
