//! Reading layers and laying them over each other.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::{CameraLayer, Config, EncoderLayer, HttpLayer, LogLayer, SystemLayer};

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
    let mut config = Config::default();

    let (path, must_exist) = match &sources.file {
        Some(path) => (path.as_path(), true),
        None => (Path::new(SYSTEM_FILE), false),
    };
    if let Some(text) = read(path, must_exist)? {
        let problems = apply(&mut config, &text, Validate::Sections);
        if let Some(problem) = problems.into_iter().next() {
            return Err(problem.in_file(path));
        }
    }

    let path = sources.user_file.as_deref().unwrap_or(Path::new(USER_FILE));
    let problems = match read(path, false) {
        Ok(None) => Vec::new(),
        Ok(Some(text)) => {
            apply(&mut config, &text, Validate::Sections).into_iter().map(|p| p.in_file(path).to_string()).collect()
        }
        Err(error) => vec![error.to_string()],
    };

    for argument in &sources.set {
        set(&mut config, argument)?;
    }
    // Together, not one by one: a source and the path it needs come as two arguments.
    if let (Some(last), Err(reason)) = (sources.set.last(), config.validate()) {
        return Err(ConfigError::Set { argument: without_secret(last), reason });
    }
    Ok(Loaded { config, problems })
}

/// The text of a file without a byte order mark; `None` if it is not there and need not be.
fn read(path: &Path, must_exist: bool) -> Result<Option<String>, ConfigError> {
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
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
            Err(ConfigError::At {
                path: path.display().to_string(),
                line: before.iter().filter(|&&b| b == b'\n').count() + 1,
                column: before.len() - line_start + 1,
                reason: format!("not UTF-8 (byte 0x{:02x}): save the file as UTF-8", bytes[error.valid_up_to()]),
            })
        }
    }
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
        let at = error.location().map(|location| (location.line(), location.column()));
        let mut reason = error.to_string();
        // The location is told apart from the text; serde_yaml appends it.
        if let Some(end) = reason.rfind(" at line ").filter(|_| at.is_some()) {
            reason.truncate(end);
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
        let (shown, valid) = if self.what == "key" {
            (format!("{prefix}{}", self.name), format!("valid keys here: {}", self.valid.join(", ")))
        } else {
            let key = prefix.trim_end_matches('.');
            (format!("{:?} for {key}", self.name), format!("choose one of: {}", self.valid.join(", ")))
        };
        let what = self.what;
        match nearest {
            Some((_, nearest)) => format!("unknown {what} {shown}: did you mean {nearest}? ({valid})"),
            None => format!("unknown {what} {shown} ({valid})"),
        }
    }
}

/// When keys that need each other are checked.
#[derive(Clone, Copy, PartialEq)]
enum Validate {
    /// With each section of this layer.
    Sections,
    /// Later, by the caller.
    Later,
}

/// Parses `text` as one layer and lays each section that is right over `config`. What is wrong comes back, and the
/// rest of the configuration stays as it was there.
fn apply(config: &mut Config, text: &str, validate: Validate) -> Vec<Problem> {
    /// The top level with the sections unread: finds text that is no YAML at all, and unknown sections.
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Names {
        #[serde(rename = "camera")]
        _camera: IgnoredAny,
        #[serde(rename = "encoder")]
        _encoder: IgnoredAny,
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
                    let before = config.$section.clone();
                    layer.apply(&mut config.$section);
                    if validate == Validate::Sections && let Err(reason) = config.validate() {
                        problems.push(Problem { at: None, reason });
                        config.$section = before;
                    }
                },
                Err(problem) => problems.push(problem),
            }
        })*};
    }
    sections! {
        camera: CameraLayer;
        encoder: EncoderLayer;
        http: HttpLayer;
        log: LogLayer;
        system: SystemLayer;
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
    if apply(&mut attempt, &nested(key, &quoted), Validate::Later).is_empty() {
        *config = attempt;
        return Ok(());
    }
    match apply(config, &nested(key, value), Validate::Later).into_iter().next() {
        None => Ok(()),
        Some(problem) => Err(failed(problem.reason)),
    }
}

/// A `--set` argument fit to be shown: what names a passphrase loses its value.
fn without_secret(argument: &str) -> String {
    match argument.split_once('=') {
        Some((key, _)) if argument.contains("passphrase") => format!("{key}=…"),
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
