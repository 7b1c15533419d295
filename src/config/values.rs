//! Types of single values. Each checks itself while it is read, so that the YAML reader can say where it stands.
//!
//! Messages start with "must": the key comes in front, see [`super::wrong`].

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::entry::{Shape, Value};
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

impl<const MIN: u32, const MAX: u32> Value for Count<MIN, MAX> {
    const SHAPE: Shape = Shape::Whole { min: MIN, max: MAX };
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

impl Value for FrameRate {
    const SHAPE: Shape = Shape::Number { min: Self::MIN, max: Self::MAX };
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
pub(super) fn text<'de, D: Deserializer<'de>, T>(
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

impl<const MIN: u64, const MAX: u64> Value for Interval<MIN, MAX> {
    const SHAPE: Shape = Shape::Time { min: MIN, max: MAX };
}

impl<const MIN: u64, const MAX: u64> From<Interval<MIN, MAX>> for Duration {
    fn from(interval: Interval<MIN, MAX>) -> Self {
        interval.get()
    }
}

/// Milliseconds as a person writes them: `500ms`, `10s`.
pub(super) struct Milliseconds(pub u64);

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

/// Serialize and Deserialize through `Display` and `FromStr`-like checking of a string; and what that may be.
macro_rules! text_value {
    ($($type:ty, $check:expr, $show:expr, $shape:expr $(, is_secret = $is_secret:literal)?;)*) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&$show(self))
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::config::values::text(deserializer, $check)
            }
        }

        impl Value for $type {
            const SHAPE: Shape = $shape;
            const IS_SECRET: bool = [$($is_secret,)? false][0];
        }
    )*};
}
pub(super) use text_value;

text_value! {
    Listen, Listen::check, |value: &Listen| value.0, Shape::Word("an address and a port", r"^.+:[0-9]{1,5}$");
    Resolution, |text: String| text.parse::<Resolution>(), |value: &Resolution| value.0,
        Shape::Size { min: *Resolution::RANGE.start(), max: *Resolution::RANGE.end() };
    OverlayText, OverlayText::check, |value: &OverlayText| value.0.clone(), Shape::Text { max: Some(OverlayText::MAX) };
}

impl Value for String {
    const SHAPE: Shape = Shape::Text { max: None };
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

/// Values of a camera's controls by name. What a value must be only the camera knows: they are checked when it is open.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Controls(pub serde_json::Map<String, serde_json::Value>);

impl Value for Controls {
    const SHAPE: Shape = Shape::Controls;

    /// Name by name.
    fn lay_over(self, earlier: &mut Self) {
        earlier.0.extend(self.0);
    }

    fn changed_from(mut self, before: &Self) -> Option<Self> {
        self.0.retain(|name, value| before.0.get(name) != Some(value));
        Some(self)
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

    /// The most characters.
    const MAX: usize = 200;

    fn check(text: String) -> Result<Self, String> {
        let length = text.chars().count();
        if length > Self::MAX {
            return Err(format!("must be at most {} characters, got {length}", Self::MAX));
        }
        if let Some(other) = text.chars().find(|c| c.is_control() && *c != '\n') {
            return Err(format!("must not contain the control character {other:?}"));
        }
        Ok(Self(text))
    }
}
