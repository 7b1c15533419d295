//! What is wrong in a text, in words: where, what, and what to write instead.
//!
//! No value below `system` is repeated, nor what stands where nothing is known: it may be a passphrase in the wrong line.

use std::path::Path;

use super::outline::Place;
use super::wrong::Wrong;
use super::{ConfigError, table};

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

impl From<Wrong> for Problem {
    fn from(wrong: Wrong) -> Self {
        Self::new(wrong.at, wrong.to_string())
    }
}

/// The valid name most like one that is not, and how many letters they differ in.
pub(super) fn nearest<'a>(name: &str, valid: impl Iterator<Item = &'a str>) -> Option<(&'a str, usize)> {
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
    if let Some(home) = table().iter().find(|entry| entry.key == name || entry.name() == name).map(|entry| entry.key) {
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

/// True for the last part of a key there is, such as `path`.
pub(super) fn is_key(name: &str) -> bool {
    table().iter().any(|entry| entry.name() == name)
}

#[cfg(test)]
mod tests;
