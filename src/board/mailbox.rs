//! What is asked of the capture thread, kept until it is settled, whatever is opened anew meanwhile.
//!
//! [`Mailbox`] holds what waits; the capture thread merges and tries it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value as Json};
use tokio::sync::oneshot;

use super::known::Controls;
use super::settings::{Change, ChangeError, Settings};

/// So many of a kind may wait; more are told to come again.
pub const WAITING_MAX: usize = 32;

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

    /// Asks for the values of the controls, which [`Known`](super::Known) then has.
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
