//! What is wrong with a value, as a type: serde's complaints keep what they are about, and become words only here.

use std::fmt;

use serde::de::{Error, Expected, Unexpected};

use super::outline::Place;
use super::problem::{nearest, unknown_key};

/// A value that cannot be used, and why.
#[derive(Debug)]
pub struct Wrong {
    /// Where the value stands in its text.
    pub(super) at: Option<Place>,
    /// Such as `http.trusted_proxies[1]`; empty for the whole.
    path: String,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    /// In the value's own words, which go on from its key: "must be …".
    Refused(String),
    /// Of another kind than expected.
    Kind { is_type: bool, found: &'static str, shown: String, expected: String },
    /// A key there is not.
    UnknownKey { name: String, valid: &'static [&'static str] },
    /// A word that is none to choose.
    UnknownChoice { name: String, valid: &'static [&'static str] },
    /// A key is not there.
    Missing(&'static str),
    /// A key is there again.
    Twice(&'static str),
}

impl Wrong {
    fn new(reason: Reason) -> Self {
        Self { at: None, path: String::new(), reason }
    }

    /// Where keys and values are expected, and there is something else.
    pub(super) fn no_section(found: Unexpected) -> Self {
        Self::invalid_type(found, &"keys and values, as in \"camera:\" and below it \"  frame_rate: 15\"")
    }

    /// Of a value below this key.
    #[must_use]
    pub(super) fn within(mut self, key: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{key}{dot}{}", self.path);
        self
    }

    /// Of one of several.
    #[must_use]
    pub(super) fn at_index(self, index: usize) -> Self {
        self.within(&format!("[{index}]"))
    }

    /// Standing here, unless it is known better.
    #[must_use]
    pub(super) fn or_at(mut self, place: Option<Place>) -> Self {
        self.at = self.at.or(place);
        self
    }

    /// In words for the API's clients, who know a word that is none in this form.
    pub(super) fn to_client(&self) -> String {
        match &self.reason {
            Reason::UnknownChoice { name, valid } => {
                format!("{}: unknown variant `{name}`{}", self.path, choices(name, valid))
            }
            _ => self.to_string(),
        }
    }

    /// True for a section there is not.
    pub(super) fn is_unknown_section(&self) -> bool {
        self.path.is_empty() && matches!(self.reason, Reason::UnknownKey { .. })
    }

    /// True for a value of another type than expected.
    pub(super) fn is_type(&self) -> bool {
        matches!(self.reason, Reason::Kind { is_type: true, .. })
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let path = &self.path;
        // Nothing below `system` is repeated, nor what stands where nothing is known.
        let is_private = path.is_empty() || path.starts_with("system");
        match &self.reason {
            Reason::Refused(reason) if path.is_empty() => f.write_str(reason),
            Reason::Refused(reason) => write!(f, "{path} {reason}"),
            Reason::Kind { is_type, found, shown, expected } => {
                if !path.is_empty() {
                    write!(f, "{path}: ")?;
                }
                let what = if *is_type { "type" } else { "value" };
                let found = if is_private { found } else { &**shown };
                write!(f, "invalid {what}: {found}, expected {expected}")
            }
            Reason::UnknownKey { name, valid } => f.write_str(&unknown_key(path, name, valid)),
            Reason::UnknownChoice { name, valid } => {
                let shown = if is_private { String::new() } else { format!(" {name:?}") };
                write!(f, "unknown value{shown} for {path}{}", choices(name, valid))
            }
            Reason::Missing(name) => write!(f, "{path} needs {name}"),
            Reason::Twice(name) => {
                let dot = if path.is_empty() { "" } else { "." };
                write!(f, "{path}{dot}{name} is there twice: keep one of them")
            }
        }
    }
}

/// The words to choose from, and the one that was meant, very likely.
fn choices(name: &str, valid: &[&str]) -> String {
    let meant = nearest(name, valid.iter().copied()).map(|(nearest, _)| format!(": did you mean {nearest}?"));
    format!("{} (choose one of: {})", meant.unwrap_or_default(), valid.join(", "))
}

impl std::error::Error for Wrong {}

impl Error for Wrong {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::new(Reason::Refused(reason.to_string()))
    }

    fn invalid_type(found: Unexpected, expected: &dyn Expected) -> Self {
        Self::new(kind(true, found, expected))
    }

    fn invalid_value(found: Unexpected, expected: &dyn Expected) -> Self {
        Self::new(kind(false, found, expected))
    }

    fn unknown_variant(name: &str, valid: &'static [&'static str]) -> Self {
        Self::new(Reason::UnknownChoice { name: name.to_owned(), valid })
    }

    fn unknown_field(name: &str, valid: &'static [&'static str]) -> Self {
        Self::new(Reason::UnknownKey { name: name.to_owned(), valid })
    }

    fn missing_field(name: &'static str) -> Self {
        Self::new(Reason::Missing(name))
    }

    fn duplicate_field(name: &'static str) -> Self {
        Self::new(Reason::Twice(name))
    }
}

fn kind(is_type: bool, found: Unexpected, expected: &dyn Expected) -> Reason {
    let word = match found {
        Unexpected::Bool(_) => "boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "integer",
        Unexpected::Float(_) => "number",
        Unexpected::Str(_) | Unexpected::Char(_) => "string",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq => "sequence",
        Unexpected::Map => "map",
        _ => "value",
    };
    let shown = if word == "null" { word.to_owned() } else { found.to_string() };
    Reason::Kind { is_type, found: word, shown, expected: expected.to_string() }
}
