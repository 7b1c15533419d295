//! Values of `system`: names, keys and secrets of the machine.

use std::fmt;

use super::entry::{Shape, Value};
use super::values::text_value;

text_value! {
    Hostname, Hostname::check, |value: &Hostname| value.0.clone(), Shape::Word("one DNS label", r"^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)?$");
    Timezone, Timezone::check, |value: &Timezone| value.0.clone(), Shape::Word("", r"^([A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z][A-Za-z0-9_+-]*)*)?$");
    SshKey, SshKey::check, |value: &SshKey| value.0.clone(), Shape::Word("", r"^(ssh|ecdsa|sk-ssh|sk-ecdsa)-[A-Za-z0-9.@-]* [A-Za-z0-9+/=]{32,}( .*)?$");
    Ssid, Ssid::check, |value: &Ssid| value.0.clone(), Shape::Text { max: Some(32) };
    Secret, Secret::check, |value: &Secret| if value.0.is_empty() { "" } else { Secret::HIDDEN },
        Shape::Word("8 to 63 ASCII characters, or 64 hexadecimal digits", r"^([ -~]{8,63}|[0-9A-Fa-f]{64})?$"), is_secret = true;
    WifiCountry, WifiCountry::check, |value: &WifiCountry| value.0.clone(), Shape::Word("two capital letters", r"^([A-Z]{2})?$");
}

impl Value for Vec<SshKey> {
    const SHAPE: Shape = Shape::List { of: &SshKey::SHAPE, or_one: false };
}

/// A host name: one DNS label. Empty keeps the appliance's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hostname(String);

impl Hostname {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn check(text: String) -> Result<Self, String> {
        let label = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if text.eq_ignore_ascii_case("localhost") {
            // Everywhere else it means the asking machine itself.
            return Err("must be a name of the camera's own, which localhost is not".to_owned());
        }
        if text.len() <= 63 && text.chars().all(label) && !text.starts_with('-') && !text.ends_with('-') {
            Ok(Self(text))
        } else {
            // Here and below the value stays out of the message: a passphrase in the wrong line must not be shown.
            Err("must be up to 63 letters (a to z), digits and inner hyphens, such as garden-cam".to_owned())
        }
    }
}

/// A time zone name. Empty means UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timezone(String);

impl Timezone {
    /// The longest name taken; the longest there is has half of that.
    const MAX: usize = 64;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn check(text: String) -> Result<Self, String> {
        // It becomes the end of a path: no empty parts, no dots, and nothing a command could take for an option.
        let part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic())
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+'))
        };
        if text.is_empty() || (text.len() <= Self::MAX && text.split('/').all(part)) {
            Ok(Self(text))
        } else {
            Err("must be a time zone name such as Europe/Berlin".to_owned())
        }
    }
}

/// An SSH public key, one line as in `authorized_keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshKey(String);

impl SshKey {
    /// The line.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn check(text: String) -> Result<Self, String> {
        let mut words = text.split(' ');
        let kind = words.next().unwrap_or_default();
        let known = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"].iter().any(|prefix| kind.starts_with(prefix))
            && kind.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '@'));
        let base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
        let has_key = words.next().is_some_and(|key| key.len() >= 32 && key.chars().all(base64));
        if known && has_key && !text.contains(char::is_control) {
            Ok(Self(text))
        } else if text.contains("PRIVATE KEY") {
            Err("must be a public key, got a private one".to_owned())
        } else {
            Err("must be a public key such as \"ssh-ed25519 AAAA… name\"".to_owned())
        }
    }
}

/// A network name, up to 32 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ssid(String);

impl Ssid {
    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// True where no network is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn check(text: String) -> Result<Self, String> {
        if text.len() > 32 {
            Err(format!("must be at most 32 bytes, got {}", text.len()))
        } else if text.contains(char::is_control) {
            Err("must not contain control characters or line breaks".to_owned())
        } else {
            Ok(Self(text))
        }
    }
}

/// Two capital letters, or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WifiCountry(String);

impl WifiCountry {
    /// The letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn check(text: String) -> Result<Self, String> {
        if text.is_empty() || (text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase())) {
            Ok(Self(text))
        } else {
            Err("must be a two-letter country code such as DE, in capital letters".to_owned())
        }
    }
}

/// A passphrase: never shown, logged or serialised.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    const HIDDEN: &str = "(hidden)";

    /// True where none is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The passphrase itself: for the file of the program that needs it, and nowhere else.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// True for a key of 64 hexadecimal digits, which is used as it is; false for a passphrase, which a key is made from.
    pub(crate) fn is_key(&self) -> bool {
        // A passphrase has 63 characters at the most.
        self.0.len() == 64
    }

    fn check(text: String) -> Result<Self, String> {
        let hex_key = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let passphrase = (8..=63).contains(&text.len()) && text.bytes().all(|b| (0x20..=0x7e).contains(&b));
        if text.is_empty() || hex_key || passphrase {
            Ok(Self(text))
        } else {
            // The value stays out of the message.
            Err(format!(
                "must be 8 to 63 ASCII characters or 64 hexadecimal digits, got {} characters",
                text.chars().count()
            ))
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(Self::HIDDEN)
    }
}
