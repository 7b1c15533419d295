//! Changes tried on the camera, all at once; where it refuses them, those of each asker for itself.

use crate::board::mailbox::Asked;
use crate::board::settings::{Change, ChangeError, Settings};

/// Changes that are being tried. [`settings`](Self::settings) says with what the camera is to be opened next, and
/// [`verdict`](Self::verdict) is told whether that worked.
///
/// At the first attempt all changes are merged, the later one winning where two name the same key. Where the camera refuses
/// that, only those can be to blame whose values were in it: each of them (there are at most as many as keys) is then tried
/// for itself, on top of what was accepted so far. Whoever is not to blame, but was overruled by one who is, is asked again.
#[derive(Debug)]
pub struct Trial {
    /// What the camera could do before.
    before: Settings,
    /// That with all changes.
    wanted: Settings,
    /// What the next attempt is made with.
    settings: Settings,
    asked: Vec<Asked>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// All at once.
    All,
    /// One for one, `next` being the one that is tried now.
    Each { suspects: Vec<usize>, next: usize, accepted: Settings, refused: Vec<(usize, String)>, error: String },
    /// Back to what worked.
    Back { refused: Vec<(usize, String)> },
}

/// Answers that are due. They are sent when what they say can be read by everybody.
#[derive(Debug)]
#[must_use]
pub struct Answers(Vec<(Asked, Result<Settings, ChangeError>)>);

impl Answers {
    /// Tells everybody.
    pub fn send(self) {
        for (asked, result) in self.0 {
            asked.answer(result);
        }
    }

    fn same(asked: Vec<Asked>, settings: &Settings) -> Self {
        Self(asked.into_iter().map(|asked| (asked, Ok(settings.clone()))).collect())
    }
}

/// What follows an attempt.
#[derive(Debug)]
pub enum Verdict {
    /// Another attempt.
    Try(Trial),
    /// The settings of the last attempt stay in force. Everybody is answered but those who are to be asked again.
    Settled(Vec<Asked>, Answers),
    /// The camera does not open with what worked before either, so no change is to blame: they wait for the camera.
    /// Everybody is answered.
    NoCamera(Trial, Answers),
}

impl Trial {
    /// All of these changes, made to settings that the camera can do.
    pub fn new(before: Settings, asked: Vec<Asked>) -> Self {
        let wanted = merged(&asked).applied_to(&before);
        Self { before, settings: wanted.clone(), wanted, asked, stage: Stage::All }
    }

    /// While there is no camera: the changes are in force, as far as one can tell, and what they are worth shows later.
    /// Those who ask are answered at once.
    pub fn without_camera(before: Settings, asked: Vec<Asked>) -> (Self, Answers) {
        let mut trial = Self::new(before, Vec::new());
        let answers = trial.add(asked);
        (trial, answers)
    }

    /// More changes while there is no camera.
    pub fn add(&mut self, asked: Vec<Asked>) -> Answers {
        self.wanted = merged(&asked).applied_to(&self.wanted);
        self.settings = self.wanted.clone();
        self.stage = Stage::All;
        Answers::same(asked, &self.wanted)
    }

    /// What to open the camera with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// After an attempt with [`settings`](Self::settings), which failed for this reason.
    pub fn verdict(mut self, result: Result<(), String>) -> Verdict {
        match (std::mem::replace(&mut self.stage, Stage::All), result) {
            (Stage::All, Ok(())) => self.settled(&[]),
            (Stage::All, Err(error)) => {
                let suspects = self.suspects();
                if suspects.len() > 1 {
                    let accepted = self.before.clone();
                    self.each(suspects, 0, accepted, Vec::new(), error)
                } else {
                    let refused = suspects.into_iter().map(|index| (index, error.clone())).collect();
                    let before = self.before.clone();
                    self.back(before, refused)
                }
            }
            (Stage::Each { suspects, next, refused, error, .. }, Ok(())) => {
                let accepted = self.settings.clone();
                self.each(suspects, next + 1, accepted, refused, error)
            }
            (Stage::Each { suspects, next, accepted, mut refused, error }, Err(reason)) => {
                refused.push((suspects[next], reason));
                self.each(suspects, next + 1, accepted, refused, error)
            }
            (Stage::Back { refused }, Ok(())) => self.settled(&refused),
            (Stage::Back { .. }, Err(_)) => {
                let answers = Answers::same(std::mem::take(&mut self.asked), &self.wanted);
                self.settings = self.wanted.clone();
                Verdict::NoCamera(self, answers)
            }
        }
    }

    /// Whose values differ from what worked before, in the order in which they asked.
    fn suspects(&self) -> Vec<usize> {
        let differs = |&index: &usize| self.effective(index).applied_to(&self.before) != self.before;
        (0..self.asked.len()).filter(differs).collect()
    }

    /// Of an asker's change, what no later one overruled.
    fn effective(&self, index: usize) -> Change {
        self.asked[index].change.without(&merged(&self.asked[index + 1..]))
    }

    fn each(
        mut self,
        suspects: Vec<usize>,
        next: usize,
        accepted: Settings,
        mut refused: Vec<(usize, String)>,
        error: String,
    ) -> Verdict {
        let Some(&suspect) = suspects.get(next) else {
            // Is the camera open with what is to stay?
            return if self.settings == accepted { self.settled(&refused) } else { self.back(accepted, refused) };
        };
        if next + 1 == suspects.len() && refused.is_empty() {
            // With it all together failed, and without it they do not. The camera is open with the others'.
            refused.push((suspect, error));
            return self.settled(&refused);
        }
        self.settings = self.effective(suspect).applied_to(&accepted);
        self.stage = Stage::Each { suspects, next, accepted, refused, error };
        Verdict::Try(self)
    }

    fn back(mut self, to: Settings, refused: Vec<(usize, String)>) -> Verdict {
        self.settings = to;
        self.stage = Stage::Back { refused };
        Verdict::Try(self)
    }

    /// Everybody who can be answered is.
    fn settled(self, refused: &[(usize, String)]) -> Verdict {
        let again: Vec<Change> = (0..self.asked.len()).map(|index| self.unsettled(index, refused)).collect();
        let changes: Vec<Change> = self.asked.iter().map(|asked| asked.change.clone()).collect();
        let (mut left, mut answers) = (Vec::new(), Vec::new());
        for (index, (mut asked, again)) in self.asked.into_iter().zip(again).enumerate() {
            // Who wanted just what somebody else was refused need not be asked again.
            let reason = refused.iter().find(|(other, _)| *other == index || changes[*other] == again);
            match reason {
                Some((_, reason)) => answers.push((asked, Err(ChangeError::Failed(reason.clone())))),
                None if again.is_empty() => answers.push((asked, Ok(self.settings.clone()))),
                None => {
                    asked.change = again;
                    left.push(asked);
                }
            }
        }
        Verdict::Settled(left, Answers(answers))
    }

    /// Of an asker's change, what was overruled by refused ones.
    fn unsettled(&self, index: usize, refused: &[(usize, String)]) -> Change {
        let refused = refused.iter().map(|(index, _)| self.effective(*index));
        let refused = refused.fold(Change::default(), |merged, change| change.over(&merged));
        let change = &self.asked[index].change;
        change.without(&change.without(&refused))
    }
}

fn merged(asked: &[Asked]) -> Change {
    asked.iter().fold(Change::default(), |merged, asked| asked.change.over(&merged))
}
