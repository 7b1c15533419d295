//! Reading layers and laying them over each other.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::node::{Kind, Node};
use super::outline::Outline;
use super::problem::{Problem, shortened};
use super::{Config, ConfigLayer, Layered, Rule, Section, Wifi, WifiLayer, mistakes, table};

/// Where the system's own configuration lies.
pub const SYSTEM_FILE: &str = "/etc/pinhole/pinhole.yaml";
/// Where the user's lies: the FAT partition, which any computer can edit.
pub const USER_FILE: &str = "/boot/pinhole.yaml";
/// A configuration is a page of text; anything much larger is another file by mistake.
const MAX_FILE_SIZE: u64 = 64 * 1024;

/// Which layers to read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`: read instead of [`SYSTEM_FILE`], and must be there.
    pub file: Option<PathBuf>,
    /// `--user-config`: read instead of [`USER_FILE`].
    pub user_file: Option<PathBuf>,
    /// `--set key=value`, in order.
    pub set: Vec<String>,
    /// `--default key=value`, in order: in place of a key's own default, so that any file wins.
    pub defaults: Vec<String>,
}

impl Sources {
    /// The user's file where it was named and is not there: else nobody would learn of a slip in its name.
    pub fn missing_user_file(&self) -> Option<&Path> {
        self.user_file.as_deref().filter(|path| matches!(path.try_exists(), Ok(false)))
    }

    /// What holds where no file says otherwise.
    fn base(&self) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        for argument in &self.defaults {
            set(&mut config, argument).map_err(|(argument, reason)| ConfigError::Default { argument, reason })?;
        }
        Ok(config)
    }
}

/// The configuration, and what of the user's file could not be used.
#[derive(Debug)]
pub struct Loaded {
    /// What is in force.
    pub config: Config,
    /// One sentence for each part of the user's file that was left out.
    pub problems: Vec<String>,
}

/// A layer that cannot be used.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// Its path.
        path: String,
        /// What is wrong with the file as a whole.
        reason: String,
    },
    /// The file was read, but something in it is wrong.
    #[error("{path}:{line}:{column}: {reason}")]
    At {
        /// Its path.
        path: String,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A `--set` is wrong.
    #[error("--set {argument}: {reason}")]
    Set {
        /// The argument; without its value where that is a secret.
        argument: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A `--default` is wrong.
    #[error("--default {argument}: {reason}")]
    Default {
        /// As of `Set`.
        argument: String,
        /// As of `Set`.
        reason: String,
    },
}

/// Reads all layers.
///
/// # Errors
/// An unusable system file or `--set`. The user's file never fails: what is wrong in it is left out, section by
/// section, and reported in [`Loaded::problems`].
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let (path, must_exist) = match &sources.file {
        Some(path) => (path.as_path(), true),
        None => (Path::new(SYSTEM_FILE), false),
    };
    let system = read(path, must_exist)?.unwrap_or_default();
    let mut config = sources.base()?;
    let text = text_of(&system).map_err(|problem| problem.in_file(path))?;
    let mut problems = Vec::new();
    for problem in apply(&mut config, &text, None) {
        let is_note = problem.is_note;
        let error = problem.in_file(path);
        if !is_note {
            return Err(error);
        }
        problems.push(error.to_string());
    }

    let user_path = sources.user_file.as_deref().unwrap_or(Path::new(USER_FILE));
    let mut with_user = config.clone();
    match read(user_path, false) {
        Ok(bytes) => problems.extend(
            apply_leniently(&mut with_user, &bytes.unwrap_or_default())
                .into_iter()
                .map(|problem| problem.in_file(user_path).to_string()),
        ),
        Err(error) => {
            problems.push(error.to_string());
            return finish(config, sources, path, problems);
        }
    }

    // Keys that need each other may stand in different layers, so they are checked when all are together. Sections of
    // the user's file that make no sense then are left out like others with a mistake.
    let violated = |config: &Config| -> Result<Option<Rule>, ConfigError> {
        let mut whole = config.clone();
        for argument in &sources.set {
            set(&mut whole, argument).map_err(wrong_set)?;
        }
        Ok(whole.validate().err())
    };
    while let Some(rule) = violated(&with_user)? {
        match rule.section {
            Section::Camera if with_user.camera != config.camera => with_user.camera = config.camera.clone(),
            Section::Overlay if with_user.overlay != config.overlay => with_user.overlay = config.overlay.clone(),
            Section::Overlay if with_user.encoder != config.encoder => with_user.encoder = config.encoder.clone(),
            Section::System if with_user.system != config.system => with_user.system = config.system.clone(),
            // Not the user's file's fault.
            Section::Camera | Section::Overlay | Section::System => break,
        }
        problems.push(Problem::new(None, rule.reason).in_file(user_path).to_string());
    }
    finish(with_user, sources, path, problems)
}

/// Reads all layers and never fails: what cannot be used is left out and reported, whichever layer it stands in. For
/// the appliance's boot service, which has to go on with what is left.
pub fn load_leniently(sources: &Sources) -> Loaded {
    if let Ok(loaded) = load(sources) {
        return loaded;
    }
    let system = (sources.file.as_deref().unwrap_or(Path::new(SYSTEM_FILE)), sources.file.is_some());
    let user = (sources.user_file.as_deref().unwrap_or(Path::new(USER_FILE)), false);
    let (mut config, mut problems) = match sources.base() {
        Ok(config) => (config, Vec::new()),
        Err(error) => (Config::default(), vec![error.to_string()]),
    };
    for (path, must_exist) in [system, user] {
        match read(path, must_exist) {
            Ok(bytes) => {
                let found = apply_leniently(&mut config, &bytes.unwrap_or_default());
                problems.extend(found.into_iter().map(|problem| problem.in_file(path).to_string()));
            }
            Err(error) => problems.push(error.to_string()),
        }
    }
    for argument in &sources.set {
        if let Err(wrong) = set(&mut config, argument) {
            problems.push(wrong_set(wrong).to_string());
        }
    }
    // Each round gives a section its defaults, with which no rule is violated in it.
    while let Err(rule) = config.validate() {
        match rule.section {
            Section::Camera => config.camera = super::Camera::default(),
            Section::Overlay => config.overlay = super::Overlay::default(),
            Section::System => config.system = super::System::default(),
        }
        problems.push(rule.reason);
    }
    Loaded { config, problems }
}

fn wrong_set((argument, reason): (String, String)) -> ConfigError {
    ConfigError::Set { argument, reason }
}

/// Lays `--set` over the files' configuration and checks the whole.
fn finish(mut config: Config, sources: &Sources, path: &Path, problems: Vec<String>) -> Result<Loaded, ConfigError> {
    for argument in &sources.set {
        set(&mut config, argument).map_err(wrong_set)?;
    }
    match (config.validate(), sources.set.last()) {
        (Ok(()), _) => Ok(Loaded { config, problems }),
        (Err(rule), Some(last)) => Err(ConfigError::Set { argument: without_secret(last), reason: rule.reason }),
        (Err(rule), None) => Err(Problem::new(None, rule.reason).in_file(path)),
    }
}

/// The bytes of a file; `None` if it is not there and need not be.
fn read(path: &Path, must_exist: bool) -> Result<Option<Vec<u8>>, ConfigError> {
    let failed = |reason: String| ConfigError::File { path: path.display().to_string(), reason };
    let mut bytes = Vec::new();
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => return Ok(None),
        Err(error) => return Err(failed(format!("cannot be opened: {error}"))),
    };
    // One byte more than allowed tells a file that is too large without reading all of it.
    file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes).map_err(|error| failed(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err(failed(format!(
            "is larger than {} KiB, the most a configuration may be: is it the right file?",
            MAX_FILE_SIZE / 1024
        )));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(failed("is UTF-16: save it as UTF-8 (in Notepad: Save as, Encoding)".to_owned()));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    Ok(Some(bytes))
}

/// Bytes as text.
fn text_of(bytes: &[u8]) -> Result<String, Problem> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
            let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
            let reason = format!("not UTF-8 (byte 0x{:02x}): save the file as UTF-8", bytes[error.valid_up_to()]);
            Err(Problem::new(Some((line, before.len() - line_start + 1)), reason))
        }
    }
}

/// Applies a file of which any part may be unusable: what cannot be read as a whole is read section by section.
fn apply_leniently(config: &mut Config, bytes: &[u8]) -> Vec<Problem> {
    let outline = text_of(bytes).map(|text| (Outline::of(&text), text));
    let mut fault = None;
    let is_broken = match outline {
        Ok((Ok(outline), text)) if !outline.is_no_mapping && outline.section_twice().is_none() => {
            return apply_sections(config, &text, None);
        }
        Ok((Ok(_), _)) => false,
        Ok((Err(whole), _)) => {
            fault = Some(whole);
            true
        }
        Err(_) => true,
    };
    let mut problems = Vec::new();
    let before = config.clone();
    let mut seen: Vec<(&[u8], usize)> = Vec::new();
    for (number, (lines_before, section)) in top_level_sections(bytes).into_iter().enumerate() {
        if number >= SECTIONS_MAX || problems.len() >= SECTIONS_MAX {
            let reason = "nothing from here on was read: too much above is wrong".to_owned();
            problems.push(Problem::new(Some((lines_before + 1, 1)), reason));
            break;
        }
        // Empty lines in place of what came before, so that errors keep their place.
        let padded = [vec![b'\n'; lines_before].as_slice(), section].concat();
        let text = match text_of(&padded) {
            Ok(text) => text,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        // Pasted into a file that has the section already: a person's values hold, be they above what was there or below.
        let name = section.split(|byte| b":\n".contains(byte)).next().unwrap_or_default().trim_ascii();
        if is_broken && let Some(problem) = anchor_problem(name, &text) {
            problems.push(problem);
            continue;
        }
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == name) {
            let name = String::from_utf8_lossy(name);
            let reason = format!("{name} is there twice, first on line {first}: keep one of them");
            problems.push(Problem::new(Some((lines_before + 1, 1)), reason));
            // Only what it says otherwise than it would be without the file: the card's file says all there is.
            problems.extend(apply_sections(config, &text, Some(&before)));
            continue;
        }
        if section.contains(&b':') {
            seen.push((name, lines_before + 1));
        }
        problems.extend(apply_sections(config, &text, None));
    }
    // An alias by itself says less than one whose anchor is known.
    if let Some(fault) = fault.filter(|fault| !fault.is_syntax)
        && let Some(problem) = problems.iter_mut().find(|problem| problem.at == Some(fault.at))
    {
        problem.reason = fault.reason;
    }
    problems
}

/// Why a section of a broken file is not read: the value that it names may be used where it cannot be seen.
fn anchor_problem(name: &[u8], text: &str) -> Option<Problem> {
    // `system` may use such a value, and nothing below that is to be told.
    let Ok(Outline { anchor: Some(at), .. }) = Outline::of(text) else { return None };
    let reason = "an anchor (&name) is read only where the whole file is right: write out what is meant";
    (name != b"system").then(|| Problem::new(Some(at), reason.to_owned()))
}

/// There are six sections; a file with many more pieces is something else, and not worth the time to read them all.
const SECTIONS_MAX: usize = 20;

/// Cuts a file at its lines that start in the first column; each piece with the number of lines before it.
fn top_level_sections(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut sections: Vec<(usize, &[u8])> = Vec::new();
    let (mut start, mut lines_before, mut at) = (0, 0, 0);
    for (number, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
        let opens = line.first().is_some_and(|first| !first.is_ascii_whitespace() && !b"#-]}".contains(first));
        if opens && at > 0 {
            sections.push((lines_before, &bytes[start..at]));
            (start, lines_before) = (at, number);
        }
        at += line.len();
    }
    sections.push((lines_before, &bytes[start..]));
    sections
}

/// Parses `text` as one layer and lays each section that is right over `config`. What is wrong comes back, and the
/// rest of the configuration stays as it was there. Given `before`, only what differs from that is laid over.
fn apply(config: &mut Config, text: &str, before: Option<&Config>) -> Vec<Problem> {
    let mut outline = match Outline::of(text) {
        Ok(outline) => outline,
        Err(fault) => return vec![mistakes::explained(text, fault)],
    };
    if let Some((again, first)) = outline.section_twice() {
        let is_known = table().iter().any(|entry| entry.key == again.path);
        let name = if is_known { &*again.path } else { "a key" };
        let reason = format!("{name} is there twice, first on line {}: keep one of them", first.at.0);
        return vec![Problem::new(Some(again.at), reason)];
    }
    let (at, sections) = match outline.root.take() {
        Some(Node { at, kind: Kind::Map(sections) }) => (at, sections),
        // A list or a sentence where sections should be: nothing below could be told apart.
        Some(root) => {
            let wrong = Option::<ConfigLayer>::deserialize(&root).err();
            return wrong.into_iter().map(|wrong| mistakes::refined(text, wrong.into())).collect();
        }
        None => return Vec::new(),
    };
    // Keys that are none come first: they may be why something else is wrong.
    let (mut unknown, mut wrong): (Vec<Problem>, Vec<Problem>) = Default::default();
    for section in sections {
        // Each by itself, with its name, so that errors have it.
        match ConfigLayer::deserialize(&Node { at, kind: Kind::Map(vec![section]) }) {
            Ok(layer) => lay(config, layer, before),
            Err(error) if !error.is_unknown_section() => wrong.push(mistakes::refined(text, error.into())),
            Err(error) if unknown.len() < SECTIONS_MAX => unknown.push(error.into()),
            Err(_) => {}
        }
    }
    unknown.append(&mut wrong);
    unknown.extend(mistakes::notes(text, &outline));
    unknown
}

/// Lays a layer over `to`; given `before`, only what differs from that.
fn lay<T: Layered>(to: &mut T, layer: T::Layer, before: Option<&T>) {
    let layer = match before {
        Some(before) => T::changes(layer, before),
        None => Some(layer),
    };
    if let Some(layer) = layer {
        to.lay(layer);
    }
}

/// As [`apply`], but a `system.wifi` that is right applies also where something else below `system` is wrong: for many
/// an appliance it is the only way to the page that says what.
fn apply_sections(config: &mut Config, text: &str, before: Option<&Config>) -> Vec<Problem> {
    let problems = apply(config, text, before);
    if problems.iter().any(|problem| !problem.is_note)
        && let Ok(Outline { root: Some(root), .. }) = Outline::of(text)
        && let Some(wifi) = root.get("system").and_then(|system| system.get("wifi"))
        && let Ok(Some(layer)) = Option::<WifiLayer>::deserialize(wifi)
    {
        lay::<Wifi>(&mut config.system.wifi, layer, before.map(|before| &before.system.wifi));
    }
    problems
}

/// Lays one `key=value` over `config`; gives the argument, as it may be shown, and what is wrong with it.
fn set(config: &mut Config, argument: &str) -> Result<(), (String, String)> {
    let failed = |reason: String| (shortened(without_secret(argument)), shortened(reason));
    let Some((key, value)) = argument.split_once('=') else {
        return Err(failed("must be key=value, such as camera.frame_rate=15".to_owned()));
    };
    let key_character = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    // Four is more than any key has.
    let is_key = key.chars().all(key_character) && !key.split('.').any(str::is_empty) && key.split('.').count() <= 4;
    if !is_key {
        return Err(failed(format!("{key:?} is not a key; keys look like camera.frame_rate")));
    }
    // As text first, so that no character of a value has a meaning in YAML ("[::]:80", "a #b"); what is not text
    // (numbers, lists) is then read as YAML.
    let as_text = match ConfigLayer::deserialize(&Node::at_key(key, value)) {
        Ok(layer) => {
            config.lay(layer);
            return Ok(());
        }
        Err(wrong) => wrong,
    };
    if value.trim().is_empty() {
        return Err(failed(format!("{key} needs a value")));
    }
    let in_yaml = nested(key, value);
    let problems = apply(config, &in_yaml, None);
    let Some(as_yaml) = problems.into_iter().rfind(|problem| !problem.is_note) else { return Ok(()) };
    // A key that takes no text complains of the type; what the value itself has wrong is then in the other message. Nor is a
    // list meant as text.
    let is_list = value.trim_start().starts_with(['[', '{']) && Outline::of(&in_yaml).is_ok();
    Err(failed(if is_list || as_text.is_type() { as_yaml.reason } else { as_text.to_string() }))
}

/// A `--set` argument fit to be shown: without its value below `system`, where passphrases are, and where nobody can say.
fn without_secret(argument: &str) -> String {
    match argument.split_once('=') {
        Some((key, _)) if !is_public(key.split('.').next().unwrap_or_default()) => format!("{key}=…"),
        _ => argument.to_owned(),
    }
}

/// True for a section whose values may be shown.
fn is_public(section: &str) -> bool {
    section != "system" && table().iter().any(|entry| entry.key == section)
}

/// `a.b.c` and a value as nested flow-free YAML.
fn nested(key: &str, value: &str) -> String {
    use fmt::Write;
    let mut text = String::new();
    for (depth, name) in key.split('.').enumerate() {
        if depth > 0 {
            text.push('\n');
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{:depth$}{name}:", "");
    }
    text.push(' ');
    text.push_str(value);
    text.push('\n');
    text
}
