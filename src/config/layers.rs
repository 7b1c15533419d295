//! Reading layers and laying them over each other.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::{
    CameraLayer, Config, EncoderLayer, HttpLayer, LogLayer, OverlayLayer, Rule, Section, SystemLayer, SystemWifiLayer,
};

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
    let mut config = Config::default();
    let text = text_of(&system).map_err(|problem| problem.in_file(path))?;
    if let Some(problem) = apply(&mut config, &text).into_iter().next() {
        return Err(problem.in_file(path));
    }

    let user_path = sources.user_file.as_deref().unwrap_or(Path::new(USER_FILE));
    let mut with_user = config.clone();
    let mut problems: Vec<String> = match read(user_path, false) {
        Ok(bytes) => apply_leniently(&mut with_user, &bytes.unwrap_or_default()),
        Err(error) => return finish(config, sources, path, vec![error.to_string()]),
    }
    .into_iter()
    .map(|problem| problem.in_file(user_path).to_string())
    .collect();

    // Keys that need each other may stand in different layers, so they are checked when all are together. Sections of
    // the user's file that make no sense then are left out like others with a mistake.
    let violated = |config: &Config| -> Result<Option<Rule>, ConfigError> {
        let mut whole = config.clone();
        for argument in &sources.set {
            set(&mut whole, argument)?;
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
        problems.push(Problem { at: None, reason: rule.reason }.in_file(user_path).to_string());
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
    let mut config = Config::default();
    let mut problems = Vec::new();
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
        if let Err(error) = set(&mut config, argument) {
            problems.push(error.to_string());
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

/// Lays `--set` over the files' configuration and checks the whole.
fn finish(mut config: Config, sources: &Sources, path: &Path, problems: Vec<String>) -> Result<Loaded, ConfigError> {
    for argument in &sources.set {
        set(&mut config, argument)?;
    }
    match (config.validate(), sources.set.last()) {
        (Ok(()), _) => Ok(Loaded { config, problems }),
        (Err(rule), Some(last)) => Err(ConfigError::Set { argument: without_secret(last), reason: rule.reason }),
        (Err(rule), None) => Err(Problem { at: None, reason: rule.reason }.in_file(path)),
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
            Err(Problem { at: Some((line, before.len() - line_start + 1)), reason })
        }
    }
}

/// Applies a file of which any part may be unusable: what cannot be read as a whole is read section by section.
fn apply_leniently(config: &mut Config, bytes: &[u8]) -> Vec<Problem> {
    let mut attempt = config.clone();
    if let Ok(text) = text_of(bytes)
        && serde_yaml::from_str::<Option<serde_yaml::Mapping>>(&text).is_ok()
    {
        let problems = apply_sections(&mut attempt, &text);
        *config = attempt;
        return problems;
    }
    let mut problems = Vec::new();
    let before = config.clone();
    let mut seen: Vec<(&[u8], usize)> = Vec::new();
    for (number, (lines_before, section)) in top_level_sections(bytes).into_iter().enumerate() {
        if number >= SECTIONS_MAX || problems.len() >= SECTIONS_MAX {
            let reason = "nothing from here on was read: too much above is wrong".to_owned();
            problems.push(Problem { at: Some((lines_before + 1, 1)), reason });
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
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == name) {
            let name = String::from_utf8_lossy(name);
            let reason = format!("{name} is there twice, first on line {first}: keep one of them");
            problems.push(Problem { at: Some((lines_before + 1, 1)), reason });
            problems.extend(apply_changes(config, &before, &text));
            continue;
        }
        if section.contains(&b':') {
            seen.push((name, lines_before + 1));
        }
        problems.extend(apply_sections(config, &text));
    }
    problems
}

/// Applies a section that is there for the second time: only what it says otherwise than it would be without the file. (The
/// card's file says all there is.)
fn apply_changes(config: &mut Config, before: &Config, text: &str) -> Vec<Problem> {
    let problems = apply_sections(&mut before.clone(), text);
    if problems.is_empty()
        && let Ok(section) = serde_yaml::from_str(text)
    {
        for value in single_values(section) {
            let mut alone = before.clone();
            // No mistake is in a part of what has none.
            if let Ok(text) = serde_yaml::to_string(&value)
                && apply_sections(&mut alone, &text).is_empty()
                && alone != *before
            {
                apply_sections(config, &text);
            }
        }
    }
    problems
}

/// For each value in mappings of mappings a document of its own: `{a: {b: 1, c: 2}}` gives `{a: {b: 1}}` and `{a: {c: 2}}`.
fn single_values(value: serde_yaml::Value) -> Vec<serde_yaml::Value> {
    let serde_yaml::Value::Mapping(mapping) = value else { return vec![value] };
    let mut all = Vec::new();
    for (key, value) in mapping {
        for value in single_values(value) {
            all.push(serde_yaml::Value::Mapping([(key.clone(), value)].into_iter().collect()));
        }
    }
    all
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

/// What is wrong in a text, before it is known which file the text came from.
#[derive(Debug)]
struct Problem {
    at: Option<(usize, usize)>,
    reason: String,
}

impl Problem {
    fn in_file(self, path: &Path) -> ConfigError {
        let path = path.display().to_string();
        match self.at {
            Some((line, column)) => ConfigError::At { path, line, column, reason: self.reason },
            None => ConfigError::File { path, reason: self.reason },
        }
    }
}

impl From<serde_yaml::Error> for Problem {
    fn from(error: serde_yaml::Error) -> Self {
        let mut at = error.location().map(|location| (location.line(), location.column()));
        let mut reason = error.to_string();
        // The places are told apart from the text. A syntax error has two: where the reader gave up, which may be the
        // next line, and behind it where what it was reading began, which is the one to look at.
        while let Some((start, length, place)) = at.and_then(|_| last_place(&reason)) {
            at = if reason[start + length..].is_empty() { Some(place) } else { at };
            reason.replace_range(start..start + length, "");
        }
        // "camera.quality: must be …" reads better without the colon.
        if let Some((key, rest)) = reason.split_once(": ") {
            if rest.starts_with("must ") {
                reason = format!("{key} {rest}");
            } else if let Some(field) = unknown_field(rest) {
                let prefix = format!("{key}.");
                reason = field.describe(if key.contains(' ') { "" } else { &prefix });
            }
        }
        if let Some(field) = unknown_field(&reason) {
            reason = field.describe("");
        }
        // A passphrase may stand anywhere a person mistyped: below "system" no value is shown, nor where the reader
        // could not tell where it belongs.
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
        Self { at, reason }
    }
}

/// The last " at line 3 column 5" in a text: where it starts, how long it is, line and column.
fn last_place(text: &str) -> Option<(usize, usize, (usize, usize))> {
    let start = text.rfind(" at line ")?;
    let rest = &text[start + " at line ".len()..];
    let (line, rest) = rest.split_once(" column ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let place = (line.parse().ok()?, rest[..digits].parse().ok()?);
    Some((start, text.len() - start - (rest.len() - digits), place))
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

/// serde's complaint about a key (or a choice) it does not know, taken apart.
struct Unknown<'a> {
    what: &'a str,
    name: &'a str,
    valid: Vec<&'a str>,
}

/// Takes "unknown field `x`, expected one of `a`, `b`" apart; there is no other way to learn the valid names.
fn unknown_field(message: &str) -> Option<Unknown<'_>> {
    let (what, rest) = match message.strip_prefix("unknown field `") {
        Some(rest) => ("key", rest),
        None => ("value", message.strip_prefix("unknown variant `")?),
    };
    let (name, expected) = rest.split_once('`')?;
    let valid = expected.split('`').skip(1).step_by(2).collect();
    Some(Unknown { what, name, valid })
}

impl Unknown<'_> {
    fn describe(&self, prefix: &str) -> String {
        let nearest = self
            .valid
            .iter()
            .map(|valid| (strsim::damerau_levenshtein(valid, &self.name.to_lowercase()), valid))
            .min_by_key(|(distance, _)| *distance)
            .filter(|(distance, valid)| *distance <= valid.len().div_ceil(2));
        let secret_place = prefix.starts_with("system") || prefix.is_empty();
        let (shown, valid) = if self.what == "key" && secret_place && nearest.is_none() {
            // Not even close to a key: it may be a passphrase that lost its own.
            let place = if prefix.is_empty() { String::new() } else { format!("in {}", prefix.trim_end_matches('.')) };
            (place, format!("valid keys here: {}", self.valid.join(", ")))
        } else if self.what == "key" {
            (format!("{prefix}{}", self.name), format!("valid keys here: {}", self.valid.join(", ")))
        } else {
            let key = prefix.trim_end_matches('.');
            (format!("{:?} for {key}", self.name), format!("choose one of: {}", self.valid.join(", ")))
        };
        let what = self.what;
        match nearest {
            Some((_, nearest)) => format!("unknown {what} {shown}: did you mean {nearest}? ({valid})"),
            None if shown.is_empty() => format!("unknown {what} ({valid})"),
            None => format!("unknown {what} {shown} ({valid})"),
        }
    }
}

/// Parses `text` as one layer and lays each section that is right over `config`. What is wrong comes back, and the
/// rest of the configuration stays as it was there.
fn apply(config: &mut Config, text: &str) -> Vec<Problem> {
    /// The top level with the sections unread: finds text that is no YAML at all, and unknown sections.
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Names {
        #[serde(rename = "camera")]
        _camera: IgnoredAny,
        #[serde(rename = "encoder")]
        _encoder: IgnoredAny,
        #[serde(rename = "overlay")]
        _overlay: IgnoredAny,
        #[serde(rename = "http")]
        _http: IgnoredAny,
        #[serde(rename = "log")]
        _log: IgnoredAny,
        #[serde(rename = "system")]
        _system: IgnoredAny,
    }

    let mut problems = Vec::new();
    if let Err(error) = serde_yaml::from_str::<Option<Names>>(text) {
        problems.push(Problem::from(error));
        // A list or a sentence where sections should be: nothing below could be told apart.
        if !matches!(serde_yaml::from_str::<Option<serde_yaml::Mapping>>(text), Ok(Some(_))) {
            return problems;
        }
    }

    /// One section read by itself, the others passed over, so that its errors keep their place in the file.
    macro_rules! sections {
        ($($section:ident: $layer:ty;)*) => {$({
            #[derive(Default, Deserialize)]
            #[serde(default)]
            struct Only {
                $section: Option<$layer>,
            }
            match parse::<Only>(text) {
                Ok(only) => if let Some(layer) = only.$section {
                    layer.apply(&mut config.$section);
                },
                Err(problem) => problems.push(problem),
            }
        })*};
    }
    sections! {
        camera: CameraLayer;
        encoder: EncoderLayer;
        overlay: OverlayLayer;
        http: HttpLayer;
        log: LogLayer;
        system: SystemLayer;
    }
    problems
}

/// As [`apply`], but a `system.wifi` that is right applies also where something else below `system` is wrong: for many
/// an appliance it is the only way to the page that says what.
fn apply_sections(config: &mut Config, text: &str) -> Vec<Problem> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Only {
        system: Option<SystemWifiLayer>,
    }
    let problems = apply(config, text);
    if !problems.is_empty()
        && let Ok(Only { system: Some(SystemWifiLayer { wifi: Some(layer) }) }) = parse::<Only>(text)
    {
        layer.apply(&mut config.system.wifi);
    }
    problems
}

fn parse<T: DeserializeOwned + Default>(text: &str) -> Result<T, Problem> {
    Ok(serde_yaml::from_str::<Option<T>>(text)?.unwrap_or_default())
}

/// Lays one `--set key=value` over `config`.
fn set(config: &mut Config, argument: &str) -> Result<(), ConfigError> {
    let failed = |reason: String| ConfigError::Set { argument: without_secret(argument), reason };
    let Some((key, value)) = argument.split_once('=') else {
        return Err(failed("must be key=value, such as camera.frame_rate=15".to_owned()));
    };
    let key_character = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if key.is_empty() || !key.chars().all(key_character) || key.split('.').any(str::is_empty) {
        return Err(failed(format!("{key:?} is not a key; keys look like camera.frame_rate")));
    }
    // As text first, so that no character of a value has a meaning in YAML ("[::]:80", "a #b"); what is not text
    // (numbers, lists) is then read as YAML. A JSON string is a YAML double-quoted scalar.
    let quoted = serde_json::Value::from(value).to_string();
    let mut attempt = config.clone();
    let Some(as_text) = apply(&mut attempt, &nested(key, &quoted)).pop() else {
        *config = attempt;
        return Ok(());
    };
    if value.trim().is_empty() {
        return Err(failed(format!("{key} needs a value")));
    }
    let Some(as_yaml) = apply(config, &nested(key, value)).pop() else { return Ok(()) };
    // A key that takes no text complains of the type; what the value itself has wrong is then in the other message. Nor is a
    // list meant as text.
    let is_list = value.trim_start().starts_with(['[', '{']);
    let problem = if is_list || as_text.reason.contains("invalid type") { as_yaml } else { as_text };
    Err(failed(problem.reason))
}

/// A `--set` argument fit to be shown: below `system`, where passphrases are, without its value.
fn without_secret(argument: &str) -> String {
    match argument.split_once('=') {
        Some((key, _)) if key.trim_start().starts_with("system") => format!("{key}=…"),
        _ => argument.to_owned(),
    }
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
