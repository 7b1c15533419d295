//! What is wrong in a text, in words: where, what, and what to write instead.
//!
//! No value below `system` is repeated, nor what stands where nothing is known: it may be a passphrase in the wrong line.

use std::path::Path;
use std::sync::LazyLock;

use super::outline::Place;
use super::{Config, ConfigError};

/// Longer messages are cut in the middle: a value may have the length of the file.
const REASON_MAX: usize = 800;

/// What is wrong in a text, before it is known which file the text came from.
#[derive(Debug)]
pub(super) struct Problem {
    pub at: Option<Place>,
    pub reason: String,
    /// True where the value applies, but may not be what was meant.
    pub is_note: bool,
}

impl Problem {
    /// With its place, where one is known.
    pub fn new(at: Option<Place>, reason: String) -> Self {
        Self { at, reason, is_note: false }
    }

    pub fn in_file(self, path: &Path) -> ConfigError {
        let path = path.display().to_string();
        let reason = shortened(self.reason);
        match self.at {
            Some((line, column)) => ConfigError::At { path, line, column, reason },
            None => ConfigError::File { path, reason },
        }
    }
}

/// A message without the middle of what is too long to be read.
pub(super) fn shortened(mut reason: String) -> String {
    if reason.len() > REASON_MAX {
        let (mut start, mut end) = (REASON_MAX / 2, reason.len() - REASON_MAX / 2);
        while !reason.is_char_boundary(start) {
            start -= 1;
        }
        while !reason.is_char_boundary(end) {
            end += 1;
        }
        reason.replace_range(start..end, " … ");
    }
    reason
}

impl From<serde_yaml::Error> for Problem {
    fn from(error: serde_yaml::Error) -> Self {
        let at = error.location().map(|location| (location.line(), location.column()));
        let mut reason = error.to_string();
        // The place is told apart from the text.
        if let Some((line, column)) = at
            && let Some(text) = reason.strip_suffix(&format!(" at line {line} column {column}"))
        {
            reason.truncate(text.len());
        }
        // "camera.quality: must be …" reads better without the colon.
        if let Some((key, rest)) = reason.split_once(": ") {
            if rest.starts_with("must ") {
                reason = format!("{key} {rest}");
            } else if let Some(unknown) = Unknown::of(rest) {
                reason = unknown.describe(if key.contains(' ') { "" } else { key });
            }
        }
        if let Some(unknown) = Unknown::of(&reason) {
            reason = unknown.describe("");
        }
        let place = reason.split(": ").next().unwrap_or_default();
        if place.starts_with("system") || place.starts_with("invalid ") {
            reason = without_value(&reason);
        }
        // Names of our own types mean nothing to a reader.
        if let Some(at) = reason.find("expected struct ") {
            reason.replace_range(at.., "expected keys and values, as in \"camera:\" and below it \"  frame_rate: 15\"");
        }
        if let Some((_, key)) = reason.split_once("duplicate field `") {
            reason = format!("{} is there twice: keep one of them", key.trim_end_matches('`'));
        }
        Self::new(at, reason)
    }
}

/// serde's "invalid type: string \"…\", expected …" without what is quoted.
fn without_value(reason: &str) -> String {
    for kind in ["invalid type: ", "invalid value: "] {
        if let (Some(start), Some(end)) = (reason.find(kind), reason.rfind(", expected "))
            && let Some(what) = reason.get(start + kind.len()..end)
        {
            let what = what.split([' ', '`', '"']).next().unwrap_or_default();
            return format!("{}{kind}{what}{}", &reason[..start], &reason[end..]);
        }
    }
    reason.to_owned()
}

/// serde's complaint about a key (or a choice) it does not know, taken apart; there is no other way to learn the valid
/// names.
struct Unknown<'a> {
    is_key: bool,
    name: &'a str,
    valid: Vec<&'a str>,
}

impl<'a> Unknown<'a> {
    /// Of "unknown field `x`, expected one of `a`, `b`".
    fn of(message: &'a str) -> Option<Self> {
        let (is_key, rest) = match message.strip_prefix("unknown field `") {
            Some(rest) => (true, rest),
            None => (false, message.strip_prefix("unknown variant `")?),
        };
        // The name may hold anything, the valid ones nothing odd.
        let (name, expected) = rest.rsplit_once("`, expected ")?;
        Some(Self { is_key, name, valid: expected.split('`').skip(1).step_by(2).collect() })
    }

    fn describe(&self, key: &str) -> String {
        if self.is_key {
            return unknown_key(key, self.name, &self.valid);
        }
        let choices = format!("(choose one of: {})", self.valid.join(", "));
        match nearest(self.name, self.valid.iter().copied()) {
            Some((nearest, _)) => {
                format!("unknown value {:?} for {key}: did you mean {nearest}? {choices}", self.name)
            }
            None => format!("unknown value {:?} for {key} {choices}", self.name),
        }
    }
}

/// The valid name most like one that is not, and how many letters they differ in.
fn nearest<'a>(name: &str, valid: impl Iterator<Item = &'a str>) -> Option<(&'a str, usize)> {
    // Comparing takes memory and time with the product of both lengths.
    if name.len() > 64 {
        return None;
    }
    let name = name.to_lowercase();
    valid
        .map(|valid| (valid, strsim::damerau_levenshtein(valid, &name)))
        .min_by_key(|(_, distance)| *distance)
        .filter(|(valid, distance)| *distance <= valid.len().div_ceil(2))
}

/// Says of a key below `parent` (empty: at the top) that there is none of that name.
pub(super) fn unknown_key(parent: &str, name: &str, valid: &[&str]) -> String {
    let full = if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
    let list = format!("(valid keys here: {})", valid.join(", "));
    if let Some(home) = KNOWN.iter().find(|path| *path == name || path.rsplit('.').next() == Some(name)) {
        return match home.rsplit_once('.') {
            Some((above, _)) => format!("unknown key {full}: it belongs below {above}, as in {} {list}", written(home)),
            None => {
                format!("unknown key {full}: {name} is a section of its own, written at the start of a line {list}")
            }
        };
    }
    let is_private = parent.starts_with("system");
    match nearest(name, valid.iter().copied()) {
        Some((nearest, _)) if is_private => format!("unknown key in {parent}: did you mean {nearest}? {list}"),
        Some((nearest, distance)) if !parent.is_empty() || distance <= 2 => {
            format!("unknown key {full}: did you mean {nearest}? {list}")
        }
        // Not close to a key: it may be a passphrase that lost its own.
        _ if is_private => format!("unknown key in {parent} {list}"),
        _ if parent.is_empty() => format!("unknown key {list}"),
        _ => format!("unknown key {full} {list}"),
    }
}

/// A path as it stands in a file: its names below each other, quoted.
fn written(path: &str) -> String {
    let names: Vec<&str> = path.split('.').collect();
    let lines = names.iter().enumerate().map(|(depth, name)| {
        let value = if depth + 1 == names.len() { " …" } else { "" };
        format!("\"{:indent$}{name}:{value}\"", "", indent = 2 * depth)
    });
    lines.collect::<Vec<_>>().join(" and below it ")
}

/// All keys there are, such as `camera`, `camera.replay` and `camera.replay.path`.
static KNOWN: LazyLock<Vec<String>> = LazyLock::new(|| {
    fn walk(above: &str, value: &serde_json::Value, out: &mut Vec<String>) {
        for (name, value) in value.as_object().into_iter().flatten() {
            let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
            walk(&path, value, out);
            out.push(path);
        }
    }
    let mut out = Vec::new();
    // Maps with plain keys and scalars: always representable.
    walk("", &serde_json::to_value(Config::default()).unwrap_or_default(), &mut out);
    out
});

/// True for the last part of a key there is, such as `path`.
pub(super) fn is_key(name: &str) -> bool {
    KNOWN.iter().any(|path| path.rsplit('.').next() == Some(name))
}

#[cfg(test)]
mod tests;
