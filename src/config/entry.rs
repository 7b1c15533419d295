//! What the table of settings says of one setting, and what its value may be.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::Config;
use super::node::{Node, Wrong};

/// One setting, or a section of them.
#[derive(Debug)]
pub struct Entry {
    /// Such as `camera.frame_rate`.
    pub key: &'static str,
    /// The documentation as it is written in the table: see [`Entry::summary`] and [`Entry::details`].
    pub(super) doc: &'static str,
    /// What its value may be.
    pub shape: Shape,
    /// The unit of a number, in a word; empty where there is none.
    pub unit: &'static str,
    /// What changing it takes.
    pub takes: Takes,
    /// Who may change it.
    pub who: Who,
    /// True for a value that is shown nowhere.
    pub is_secret: bool,
    /// Its name in `/api/v1/settings`, where it can be tried while the program runs.
    pub live: Option<&'static str>,
    pub(super) get: fn(&Config) -> Json,
    pub(super) set: fn(&mut Config, &Node) -> Result<(), Wrong>,
}

impl Entry {
    /// What it is, in a sentence or two: for a file, an editor, the page.
    pub fn summary(&self) -> String {
        self.paragraphs().next().unwrap_or_default()
    }

    /// What else there is to know of it, in Markdown: for the manual. Often empty.
    pub fn details(&self) -> String {
        self.paragraphs().skip(1).collect::<Vec<_>>().join(" ")
    }

    fn paragraphs(&self) -> impl Iterator<Item = String> {
        let lines = |paragraph: &str| paragraph.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned();
        self.doc.split("\n\n").map(lines)
    }

    /// The last part of the key.
    pub fn name(&self) -> &'static str {
        self.key.rsplit('.').next().unwrap_or_default()
    }

    /// The key of the section it is in; empty at the top.
    pub fn parent(&self) -> &'static str {
        self.key.rsplit_once('.').map_or("", |(parent, _)| parent)
    }

    /// True for a section, which has settings and no value of its own.
    pub fn is_section(&self) -> bool {
        matches!(self.shape, Shape::Section)
    }

    /// Its value in a configuration. Of a secret only whether there is one: it is hidden, or empty.
    pub fn get(&self, config: &Config) -> Json {
        (self.get)(config)
    }

    /// Lays a value over that in a configuration. Rules between keys are not checked.
    ///
    /// # Errors
    /// The value is not right, with the key and the reason in words.
    pub fn set(&self, config: &mut Config, value: &Json) -> Result<(), String> {
        (self.set)(config, &Node::from(value)).map_err(|wrong| wrong.within(self.key).to_string())
    }
}

/// What it takes until a changed value is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// The camera is opened anew.
    Reopening,
    /// The program is started anew.
    Restart,
    /// The machine is.
    Reboot,
}

impl Takes {
    /// When a change is in force, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Nothing => "at once",
            Self::Reopening => "when the camera reopens",
            Self::Restart => "after a restart",
            Self::Reboot => "after a reboot",
        }
    }
}

/// Who may change a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever has the card, or the machine's files.
    Card,
    /// The API's clients too.
    Api,
}

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A section.
    Section,
    /// True or false.
    Switch,
    /// A whole number.
    Whole {
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
    /// Any number.
    Number {
        /// The least.
        min: f64,
        /// The most.
        max: f64,
    },
    /// A time, such as `500ms`, or a number of seconds.
    Time {
        /// The least, in milliseconds.
        min: u64,
        /// The most, in milliseconds.
        max: u64,
    },
    /// A picture's size, such as `1280x720`.
    Size {
        /// The least width or height.
        min: u32,
        /// The most.
        max: u32,
    },
    /// One of these words.
    Choice(&'static [Choice]),
    /// What a person likes to write.
    Text {
        /// The most characters.
        max: Option<usize>,
    },
    /// A word of a certain form: what that is, where the documentation does not say it, and a regular expression that each such
    /// word matches, and little else.
    Word(&'static str, &'static str),
    /// Several.
    List {
        /// Each of them.
        of: &'static Shape,
        /// True where one alone may stand without brackets.
        or_one: bool,
    },
    /// Values of the camera's controls by name.
    Controls,
    /// Scripted faults.
    Faults,
}

/// A word and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// As it is written.
    pub word: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// A single value.
pub trait Value: Clone + PartialEq + Serialize + DeserializeOwned {
    /// What it may be.
    const SHAPE: Shape;
    /// True for a value that is shown nowhere.
    const IS_SECRET: bool = false;

    /// Lays it over an earlier one.
    fn lay_over(self, earlier: &mut Self) {
        *earlier = self;
    }

    /// What of it is otherwise than it was before.
    fn changed_from(self, before: &Self) -> Option<Self> {
        (self != *before).then_some(self)
    }
}

/// What a layer may say something of: a single value, or a section.
pub trait Layered: Sized {
    /// What a layer says: the value, or some of a section's.
    type Layer: for<'de> Deserialize<'de>;
    /// Of the values, what each may be.
    const SHAPE: Shape;
    /// See [`Value::IS_SECRET`].
    const IS_SECRET: bool;

    /// Lays a layer over what was said before.
    fn lay(&mut self, layer: Self::Layer);

    /// What of a layer is otherwise than it was before.
    fn changes(layer: Self::Layer, before: &Self) -> Option<Self::Layer>;
}

impl<T: Value> Layered for T {
    type Layer = T;
    const SHAPE: Shape = <T as Value>::SHAPE;
    const IS_SECRET: bool = <T as Value>::IS_SECRET;

    fn lay(&mut self, layer: T) {
        layer.lay_over(self);
    }

    fn changes(layer: T, before: &T) -> Option<T> {
        layer.changed_from(before)
    }
}
