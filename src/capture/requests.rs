//! What was asked for, kept until it is settled, whatever is opened anew meanwhile.
//!
//! [`Trial`] finds out which of the changes that were merged the camera refuses. [`Pace`] keeps openings apart, so that changes
//! without end leave viewers their pictures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::session::Session;
use super::wanted::Wanted;
use crate::board::Board;
use crate::board::mailbox::{Asked, ControlChange, ControlsAsked, Mailbox};
use crate::board::settings::{ChangeError, Settings};

mod pace;
mod trial;

use pace::Pace;
use trial::{Answers, Trial, Verdict};

/// Changes of controls get so much time between two frames.
const CONTROLS_BUDGET: Duration = Duration::from_millis(20);

/// See the module's text.
#[derive(Debug, Default)]
pub struct Requests {
    /// Changes that the next opening tries.
    trial: Option<Trial>,
    /// Keeps such openings apart.
    pace: Pace,
}

/// What an attempt to open the camera meant for the changes that were tried with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// They are settled, or there were none.
    Settled,
    /// To be opened anew, to try others of them.
    Again,
    /// The camera does not open with what worked before either: they wait for it.
    NoCamera,
}

impl Requests {
    /// Takes up the changes that wait, if viewers may be interrupted for them.
    pub fn take_up(&mut self, mailbox: &Mailbox, settings: &Settings, now: Instant) {
        if self.trial.is_some() {
            return;
        }
        let Some(wanted) = mailbox.merged(settings) else { return };
        if wanted.needs_reopening(settings) && !self.pace.is_due(now) {
            return;
        }
        // Some may have gone meanwhile: what was taken counts.
        let asked = mailbox.take_changes();
        if asked.is_empty() {
            return;
        }
        let trial = Trial::new(settings.clone(), asked);
        if trial.settings().needs_reopening(settings) {
            self.pace.interrupt(now);
        }
        self.trial = Some(trial);
    }

    /// What the next opening is to be tried with, where changes are.
    pub fn to_try(&self) -> Option<&Settings> {
        self.trial.as_ref().map(Trial::settings)
    }

    /// The camera delivers, or nobody watches: viewers miss nothing now.
    pub fn resume(&mut self) {
        self.pace.resume(Instant::now());
    }

    /// Does what was asked for meanwhile. True where the camera must be opened anew for it.
    pub fn handle(&mut self, session: &mut Session, wanted: &mut Wanted, board: &Board) -> bool {
        let mailbox = &board.mailbox;
        if mailbox.is_empty() && self.trial.is_none() {
            return false;
        }
        let start = Instant::now();
        while let Some(asked) = mailbox.next_controls() {
            change_controls(session, wanted, board, asked);
            if start.elapsed() > CONTROLS_BUDGET {
                break;
            }
        }
        if mailbox.take_read_controls() {
            tell_controls(session, board);
        }
        self.take_up(mailbox, wanted.settings(), Instant::now());
        self.settle_running(wanted, board, |quality| session.set_quality(quality).map_err(|error| error.to_string()))
    }

    /// Settles what takes no other opening. True where something is left that does.
    fn settle_running(
        &mut self,
        wanted: &mut Wanted,
        board: &Board,
        mut set_quality: impl FnMut(u32) -> Result<(), String>,
    ) -> bool {
        while let Some(trial) = self.trial.take() {
            let settings = trial.settings().clone();
            if settings.needs_reopening(wanted.settings()) {
                self.trial = Some(trial);
                return true;
            }
            let result = set_quality(settings.quality.get());
            wanted.put_in_force(settings);
            if self.follow(trial.verdict(result), wanted, board) == Attempt::NoCamera {
                return true;
            }
        }
        false
    }

    /// An attempt to open the camera worked, or failed for this reason.
    pub fn attempted(&mut self, result: Result<(), String>, wanted: &mut Wanted, board: &Board) -> Attempt {
        let Some(trial) = self.trial.take() else { return Attempt::Settled };
        let attempt = self.follow(trial.verdict(result), wanted, board);
        if attempt == Attempt::Again {
            self.pace.interrupt(Instant::now());
        }
        attempt
    }

    fn follow(&mut self, verdict: Verdict, wanted: &mut Wanted, board: &Board) -> Attempt {
        match verdict {
            Verdict::Settled(again, answers) => {
                settle(again, answers, wanted, board);
                Attempt::Settled
            }
            Verdict::Try(trial) => {
                self.trial = Some(trial);
                Attempt::Again
            }
            Verdict::NoCamera(trial, answers) => {
                self.wait_for_camera(trial, answers, wanted, board);
                Attempt::NoCamera
            }
        }
    }

    /// While there is no camera: controls have none to ask, settings wait for it.
    pub fn handle_without_camera(&mut self, wanted: &mut Wanted, board: &Board) {
        let mailbox = &board.mailbox;
        if mailbox.is_empty() {
            return;
        }
        while let Some((_, answer)) = mailbox.next_controls() {
            let (state, _) = board.health.state();
            let reason = state.reason().map_or("the camera is not running", |reason| reason);
            drop(answer.send(Err(ChangeError::NoCamera(reason.to_owned()))));
        }
        mailbox.take_read_controls();
        let asked = mailbox.take_changes();
        if asked.is_empty() {
            return;
        }
        let (trial, answers) = match self.trial.take() {
            Some(mut trial) => {
                let answers = trial.add(asked);
                (trial, answers)
            }
            None => Trial::without_camera(wanted.settings().clone(), asked),
        };
        self.wait_for_camera(trial, answers, wanted, board);
    }

    /// These changes are in force as far as one can tell without a camera.
    fn wait_for_camera(&mut self, trial: Trial, answers: Answers, wanted: &mut Wanted, board: &Board) {
        wanted.put_in_force(trial.settings().clone());
        board.set_settings(wanted.settings());
        self.trial = Some(trial);
        // It is not for them that there are no pictures.
        self.pace = Pace::default();
        answers.send();
    }
}

/// The settings stay as they are now; these changes are still to be made.
fn settle(again: Vec<Asked>, answers: Answers, wanted: &Wanted, board: &Board) {
    board.mailbox.put_back(again);
    board.set_settings(wanted.settings());
    answers.send();
}

fn change_controls(session: &mut Session, wanted: &mut Wanted, board: &Board, (change, answer): ControlsAsked) {
    let (values, is_reset) = match change {
        ControlChange::Set(values) => (values, false),
        ControlChange::Reset => (wanted.controls_at_start(), true),
    };
    let result = session.set_controls(&values, is_reset).map(Arc::new);
    if is_reset {
        wanted.reset_controls();
    }
    if let Ok(controls) = &result {
        board.controls.tell(Arc::clone(controls));
        if !is_reset {
            wanted.set_controls(values);
        }
    }
    drop(answer.send(result));
}

/// Puts the controls' values on the board.
pub fn tell_controls(session: &mut Session, board: &Board) {
    match session.controls() {
        Ok(controls) => board.controls.tell(Arc::new(controls)),
        Err(error) => {
            log::debug!("controls: {error}");
            board.controls.forget();
        }
    }
}

#[cfg(test)]
mod tests;
