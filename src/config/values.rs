//! Types of single values. Each checks itself while it is read, so that the YAML reader can say where it stands.
//!
//! Messages start with "must": [`super::layers`] puts the key in front.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::web::{AllowedHost, AllowedOrigin, Prefix};
use crate::frame::Size;

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Count<MIN, MAX> {
    /// For defaults; the range is checked when the program is compiled.
    pub(super) const fn new(value: u32) -> Self {
        assert!(value >= MIN && value <= MAX);
        Self(value)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> Serialize for Count<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Count<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number(deserializer, "a whole number", |value| {
            if value.fract() != 0.0 {
                return Err(format!("must be a whole number, got {value}"));
            }
            between(value, f64::from(MIN), f64::from(MAX)).map(|value| Self(value as u32))
        })
    }
}

/// Frames per second, 0.05 (one in 20 s) to 120.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameRate(f64);

impl FrameRate {
    const MIN: f64 = 0.05;
    const MAX: f64 = 120.0;

    pub(super) const fn new(fps: f64) -> Self {
        assert!(fps >= Self::MIN && fps <= Self::MAX);
        Self(fps)
    }

    /// Frames per second.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Serialize for FrameRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // "30", not "30.0": as a person would write it.
        if self.0.fract() == 0.0 { serializer.serialize_u32(self.0 as u32) } else { serializer.serialize_f64(self.0) }
    }
}

impl<'de> Deserialize<'de> for FrameRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number(deserializer, "a number of frames per second", |value| between(value, Self::MIN, Self::MAX).map(Self))
    }
}

/// Reads any YAML number and checks it. The check runs within the reader's call, which then knows where the value stands.
fn number<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expecting: &'static str,
    check: impl Fn(f64) -> Result<T, String>,
) -> Result<T, D::Error> {
    struct NumberVisitor<F>(&'static str, F);
    impl<T, F: Fn(f64) -> Result<T, String>> Visitor<'_> for NumberVisitor<F> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
            self.visit_f64(value as f64)
        }
        fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
            self.visit_f64(value as f64)
        }
        fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
            (self.1)(value).map_err(E::custom)
        }
    }
    deserializer.deserialize_any(NumberVisitor(expecting, check))
}

fn between(value: f64, min: f64, max: f64) -> Result<f64, String> {
    // A NaN lies in no range.
    if (min..=max).contains(&value) { Ok(value) } else { Err(format!("must be between {min} and {max}, got {value}")) }
}

/// Reads a string and checks it. A plain scalar comes as it is written: a passphrase of digits keeps its leading zeros.
fn text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    check: impl Fn(String) -> Result<T, String>,
) -> Result<T, D::Error> {
    struct TextVisitor<F>(F);
    impl<T, F: Fn(String) -> Result<T, String>> Visitor<'_> for TextVisitor<F> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a string")
        }
        fn visit_str<E: Error>(self, value: &str) -> Result<T, E> {
            (self.0)(value.to_owned()).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(TextVisitor(check))
}

/// A time from `MIN` to `MAX` milliseconds, written `500ms`, `10s`, `2m` or as a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval<const MIN: u64, const MAX: u64>(Duration);

impl<const MIN: u64, const MAX: u64> Interval<MIN, MAX> {
    pub(super) const fn from_secs(seconds: u64) -> Self {
        assert!(seconds * 1000 >= MIN && seconds * 1000 <= MAX);
        Self(Duration::from_secs(seconds))
    }

    /// The time.
    pub fn get(self) -> Duration {
        self.0
    }

    fn checked<E: Error>(milliseconds: f64, written: &dyn fmt::Display) -> Result<Self, E> {
        if (MIN as f64..=MAX as f64).contains(&milliseconds) {
            // In range, so neither negative nor too large.
            Ok(Self(Duration::from_millis(milliseconds.round() as u64)))
        } else {
            Err(E::custom(format_args!(
                "must be between {} and {}, got {written}",
                Milliseconds(MIN),
                Milliseconds(MAX)
            )))
        }
    }
}

struct Milliseconds(u64);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.0.is_multiple_of(1000) { write!(f, "{}s", self.0 / 1000) } else { write!(f, "{}ms", self.0) }
    }
}

impl<const MIN: u64, const MAX: u64> Serialize for Interval<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Milliseconds(self.0.as_millis() as u64))
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Interval<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntervalVisitor<const MIN: u64, const MAX: u64>;
        impl<const MIN: u64, const MAX: u64> Visitor<'_> for IntervalVisitor<MIN, MAX> {
            type Value = Interval<MIN, MAX>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a time such as 10s, 500ms or 2m")
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
                Interval::checked(value as f64 * 1000.0, &format_args!("{value}s"))
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
                Interval::checked(value as f64 * 1000.0, &format_args!("{value}s"))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
                Interval::checked(value * 1000.0, &format_args!("{value}s"))
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
                let unit_at = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
                let (number, unit) = value.split_at(unit_at);
                let factor = match unit.trim() {
                    "ms" => 1.0,
                    "" | "s" => 1000.0,
                    "m" | "min" => 60_000.0,
                    "h" => 3_600_000.0,
                    _ => return Err(E::invalid_value(Unexpected::Str(value), &self)),
                };
                let number: f64 = number.parse().map_err(|_| E::invalid_value(Unexpected::Str(value), &self))?;
                Interval::checked(number * factor, &value)
            }
        }
        deserializer.deserialize_any(IntervalVisitor)
    }
}

/// A picture size, written `1280x720`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution(Size);

impl Resolution {
    /// The least and the largest width or height: a JPEG block, and more than any Pi camera has.
    const RANGE: std::ops::RangeInclusive<u32> = 16..=8192;

    pub(super) const fn new(width: u32, height: u32) -> Self {
        Self(Size { width, height })
    }

    /// The size.
    pub fn size(self) -> Size {
        self.0
    }
}

impl std::str::FromStr for Resolution {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(['x', 'X', '×']).and_then(|(width, height)| {
            Some(Size { width: width.trim().parse().ok()?, height: height.trim().parse().ok()? })
        });
        match parsed {
            Some(size) if Self::RANGE.contains(&size.width) && Self::RANGE.contains(&size.height) => Ok(Self(size)),
            Some(_) => Err(format!("must be between 16x16 and 8192x8192, got {text}")),
            None => Err(format!("must be a size such as 1280x720, got {text:?}")),
        }
    }
}

/// Serialize and Deserialize through `Display` and `FromStr`-like checking of a string.
macro_rules! text_value {
    ($($type:ty, $check:expr, $show:expr;)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&$show(self))
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                text(deserializer, $check)
            }
        }
    )*};
}

text_value! {
    Listen, Listen::check, |value: &Listen| value.0;
    Resolution, |text: String| text.parse::<Resolution>(), |value: &Resolution| value.0;
    Hostname, Hostname::check, |value: &Hostname| value.0.clone();
    OverlayText, OverlayText::check, |value: &OverlayText| value.0.clone();
    Timezone, Timezone::check, |value: &Timezone| value.0.clone();
    SshKey, SshKey::check, |value: &SshKey| value.0.clone();
    Ssid, Ssid::check, |value: &Ssid| value.0.clone();
    Secret, Secret::check, |value: &Secret| if value.0.is_empty() { "" } else { Secret::HIDDEN };
    WifiCountry, WifiCountry::check, |value: &WifiCountry| value.0.clone();
    AllowedHost, AllowedHost::check, |value: &AllowedHost| value.to_string();
    Prefix, Prefix::check, |value: &Prefix| value.to_string();
    AllowedOrigin, AllowedOrigin::check, |value: &AllowedOrigin| value.to_string();
}

/// Where to listen: an IP address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(SocketAddr);

impl Listen {
    pub(super) const fn everywhere(port: u16) -> Self {
        Self(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0)))
    }

    /// The address.
    pub fn address(self) -> SocketAddr {
        self.0
    }

    fn check(text: impl AsRef<str>) -> Result<Self, String> {
        let text = text.as_ref();
        text.parse()
            .map(Self)
            .map_err(|_| format!("must be an address and a port such as \"[::]:8080\" or 127.0.0.1:8080, got {text:?}"))
    }
}

/// How the picture is turned. The names of the variants are libcamera's, those in the file a person's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Orientation {
    /// As the sensor sees it.
    #[serde(rename = "normal")]
    Rotate0,
    /// Upside down.
    #[serde(rename = "rotate-180")]
    Rotate180,
    /// Left and right exchanged.
    #[serde(rename = "flip-horizontal")]
    MirrorHorizontal,
    /// Top and bottom exchanged.
    #[serde(rename = "flip-vertical")]
    MirrorVertical,
    /// A quarter turn clockwise.
    #[serde(rename = "rotate-90")]
    Rotate90,
    /// A quarter turn counter-clockwise.
    #[serde(rename = "rotate-270")]
    Rotate270,
}

impl Orientation {
    /// True where width and height change places.
    pub fn transposes(self) -> bool {
        matches!(self, Self::Rotate90 | Self::Rotate270)
    }
}

impl fmt::Display for Orientation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Rotate0 => "normal",
            Self::Rotate180 => "rotate-180",
            Self::MirrorHorizontal => "flip-horizontal",
            Self::MirrorVertical => "flip-vertical",
            Self::Rotate90 => "rotate-90",
            Self::Rotate270 => "rotate-270",
        })
    }
}

/// Values of a camera's controls by name. What a value must be only the camera knows: they are checked when it is open.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Controls(pub serde_json::Map<String, serde_json::Value>);

/// A layer's [`Controls`]: laid over the earlier ones name by name.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ControlsLayer(serde_json::Map<String, serde_json::Value>);

impl ControlsLayer {
    pub(super) fn apply(self, to: &mut Controls) {
        to.0.extend(self.0);
    }

    pub(super) fn changes(mut self, before: &Controls) -> Self {
        self.0.retain(|name, value| before.0.get(name) != Some(value));
        self
    }
}

/// Text of the overlay: one or two lines with strftime's conversions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverlayText(String);

impl OverlayText {
    /// True where nothing is to be drawn.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text, conversions not yet replaced.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn check(text: String) -> Result<Self, String> {
        const MAX: usize = 200;
        let length = text.chars().count();
        if length > MAX {
            return Err(format!("must be at most {MAX} characters, got {length}"));
        }
        if let Some(other) = text.chars().find(|c| c.is_control() && *c != '\n') {
            return Err(format!("must not contain the control character {other:?}"));
        }
        Ok(Self(text))
    }
}

/// `overlay.position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverlayPosition {
    /// Upper left corner.
    TopLeft,
    /// Upper edge.
    Top,
    /// Upper right corner.
    TopRight,
    /// Lower left corner.
    BottomLeft,
    /// Lower edge.
    Bottom,
    /// Lower right corner.
    BottomRight,
}

/// `overlay.background`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverlayBackground {
    /// A black box.
    Box,
    /// The picture, darkened.
    Shade,
    /// The picture; the letters have a dark rim.
    None,
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
