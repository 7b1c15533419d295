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

/// The camera's controls with their values.
pub type Controls = Arc<Vec<Control>>;

/// Where an answer comes from.
#[derive(Debug)]
pub struct Answer<T> {
    /// What became of the change. Whoever drops this does not ask any more.
    pub result: oneshot::Receiver<Result<T, ChangeError>>,
    is_tried: Arc<AtomicBool>,
}

impl<T> Answer<T> {
    fn new() -> (oneshot::Sender<Result<T, ChangeError>>, Self) {
        let (sender, result) = oneshot::channel();
        (sender, Self { result, is_tried: Arc::default() })
    }

    /// For whoever does not wait any longer: why there is no answer.
    pub fn given_up(mut self) -> ChangeError {
        // First this: what is taken up from now on is not this change.
        self.result.close();
        if self.is_tried.load(Ordering::SeqCst) { ChangeError::StillTried } else { ChangeError::Silent }
    }
}

/// A change of settings, and who waits for the answer. An answer nobody waits for is dropped.
#[derive(Debug)]
pub struct Asked {
    /// What is to be changed.
    pub change: Change,
    /// Overruled by somebody whose change the camera refused.
    is_again: bool,
    is_tried: Arc<AtomicBool>,
    answer: oneshot::Sender<Result<Settings, ChangeError>>,
}

impl Asked {
    /// Tells what is in force, or why not.
    pub fn answer(self, result: Result<Settings, ChangeError>) {
        drop(self.answer.send(result));
    }

    fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
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

impl Waiting {
    fn is_again(&self) -> bool {
        self.changes.iter().any(|asked| asked.is_again && asked.is_wanted())
    }

    /// Whose turn it is.
    fn next(&self) -> impl Iterator<Item = &Asked> {
        let is_again = self.is_again();
        self.changes.iter().filter(move |asked| asked.is_again == is_again && asked.is_wanted())
    }
}

impl Mailbox {
    /// Asks for other settings. The capture thread looks at least four times a second.
    ///
    /// # Errors
    /// Too many wait.
    pub fn change(&self, change: Change) -> Result<Answer<Settings>, ChangeError> {
        let (sender, answer) = Answer::new();
        let mut waiting = self.waiting();
        waiting.changes.retain(Asked::is_wanted);
        if waiting.changes.len() >= WAITING_MAX {
            return Err(ChangeError::Crowded);
        }
        let is_tried = Arc::clone(&answer.is_tried);
        waiting.changes.push(Asked { change, is_again: false, is_tried, answer: sender });
        self.note(&waiting);
        Ok(answer)
    }

    /// Asks for other values of controls.
    ///
    /// # Errors
    /// Too many wait.
    pub fn change_controls(&self, change: ControlChange) -> Result<Answer<Controls>, ChangeError> {
        let (sender, answer) = Answer::new();
        let mut waiting = self.waiting();
        waiting.controls.retain(|(_, answer)| !answer.is_closed());
        if waiting.controls.len() >= WAITING_MAX {
            return Err(ChangeError::Crowded);
        }
        waiting.controls.push_back((change, sender));
        self.note(&waiting);
        Ok(answer)
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

    /// What the settings would be with the changes whose turn it is; `None` without any.
    pub fn merged(&self, settings: &Settings) -> Option<Settings> {
        let waiting = self.waiting();
        waiting.next().fold(None, |merged, asked| Some(asked.change.applied_to(merged.as_ref().unwrap_or(settings))))
    }

    /// Takes the changes of settings whose turn it is, oldest first, but those whose askers have gone.
    pub fn take_changes(&self) -> Vec<Asked> {
        let mut waiting = self.waiting();
        // Before it is looked who has gone: nobody is told that a change is not tried, and it is.
        for asked in waiting.next() {
            asked.is_tried.store(true, Ordering::SeqCst);
        }
        let is_again = waiting.is_again();
        let changes = std::mem::take(&mut waiting.changes).into_iter().filter(Asked::is_wanted);
        let (taken, left) = changes.partition(|asked| asked.is_again == is_again);
        waiting.changes = left;
        self.note(&waiting);
        taken
    }

    /// Puts changes back that are still to be settled. It is their turn before those that came meanwhile, which could overrule
    /// them for ever.
    pub fn put_back(&self, mut changes: Vec<Asked>) {
        let mut waiting = self.waiting();
        for asked in &mut changes {
            asked.is_again = true;
            asked.is_tried.store(false, Ordering::SeqCst);
        }
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
