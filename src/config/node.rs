//! Values as a text has them, each with its place, and what serde makes of them. A mistake keeps its place, its key and its
//! type: see [`Wrong`].

use std::cell::Cell;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value as Json;

use super::outline::Place;
pub use super::wrong::Wrong;

/// A value of a YAML text, or of JSON.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it stands; JSON's stand nowhere.
    pub(super) at: Option<Place>,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Without quotes: text, a number, true, nothing, whatever is wanted and fits.
    Plain(String),
    /// Text.
    Text(String),
    List(Vec<Node>),
    /// In the text's order.
    Map(Vec<(Node, Node)>),
}

impl From<&Json> for Node {
    fn from(json: &Json) -> Self {
        let kind = match json {
            Json::Null => Kind::Plain(String::new()),
            Json::Bool(value) => Kind::Plain(value.to_string()),
            Json::Number(value) => Kind::Plain(value.to_string()),
            Json::String(text) => Kind::Text(text.clone()),
            Json::Array(values) => Kind::List(values.iter().map(Self::from).collect()),
            Json::Object(values) => {
                let key = |name: &str| Self { at: None, kind: Kind::Text(name.to_owned()) };
                Kind::Map(values.iter().map(|(name, value)| (key(name), Self::from(value))).collect())
            }
        };
        Self { at: None, kind }
    }
}

impl Node {
    /// A text below a key, such as `camera.id`.
    pub(super) fn at_key(key: &str, value: &str) -> Self {
        let text = |text: &str| Self { at: None, kind: Kind::Text(text.to_owned()) };
        key.rsplit('.').fold(text(value), |below, name| Self { at: None, kind: Kind::Map(vec![(text(name), below)]) })
    }

    /// The value of a map's key.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let Kind::Map(entries) = &self.kind else { return None };
        entries.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
    }

    /// Its text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Plain(text) | Kind::Text(text) => Some(text),
            Kind::List(_) | Kind::Map(_) => None,
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(&self.kind, Kind::Plain(text) if Scalar::of(text) == Scalar::Nothing)
    }

    /// What it is, for a message.
    fn found(&self) -> Unexpected<'_> {
        match &self.kind {
            Kind::List(_) => Unexpected::Seq,
            Kind::Map(_) => Unexpected::Map,
            Kind::Text(text) => Unexpected::Str(text),
            Kind::Plain(text) => match Scalar::of(text) {
                Scalar::Nothing => Unexpected::Unit,
                Scalar::Bool(value) => Unexpected::Bool(value),
                Scalar::Unsigned(value) => Unexpected::Unsigned(value),
                Scalar::Signed(value) => Unexpected::Signed(value),
                Scalar::Float(value) => Unexpected::Float(value),
                Scalar::Text => Unexpected::Str(text),
            },
        }
    }
}

/// What a text without quotes is, by the rules of YAML 1.2.
#[derive(Debug, PartialEq)]
enum Scalar {
    Nothing,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

impl Scalar {
    fn of(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Nothing,
            "true" | "True" | "TRUE" => return Self::Bool(true),
            "false" | "False" | "FALSE" => return Self::Bool(false),
            ".nan" | ".NaN" | ".NAN" => return Self::Float(f64::NAN),
            _ => {}
        }
        let (is_negative, digits) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return Self::Text;
        }
        for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
            if let Some(digits) = digits.strip_prefix(prefix).filter(|digits| !digits.starts_with(['+', '-'])) {
                return u64::from_str_radix(digits, radix).map_or(Self::Text, |value| Self::whole(is_negative, value));
            }
        }
        // A zero in front makes a text of it, such as a passphrase.
        let is_whole = digits.bytes().all(|b| b.is_ascii_digit());
        if is_whole && digits.len() > 1 && digits.starts_with('0') {
            return Self::Text;
        }
        if is_whole && let Ok(value) = digits.parse() {
            return Self::whole(is_negative, value);
        }
        let sign = if is_negative { -1.0 } else { 1.0 };
        match digits {
            ".inf" | ".Inf" | ".INF" => Self::Float(sign * f64::INFINITY),
            _ => match digits.parse::<f64>() {
                Ok(value) if value.is_finite() => Self::Float(sign * value),
                _ => Self::Text,
            },
        }
    }

    fn whole(is_negative: bool, value: u64) -> Self {
        match 0_i64.checked_sub_unsigned(value) {
            _ if !is_negative => Self::Unsigned(value),
            Some(value) => Self::Signed(value),
            None => Self::Float(-(value as f64)),
        }
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.kind {
            Kind::Text(text) => visitor.visit_str(text),
            Kind::Plain(text) => match Scalar::of(text) {
                Scalar::Nothing => visitor.visit_unit(),
                Scalar::Bool(value) => visitor.visit_bool(value),
                Scalar::Unsigned(value) => visitor.visit_u64(value),
                Scalar::Signed(value) => visitor.visit_i64(value),
                Scalar::Float(value) => visitor.visit_f64(value),
                Scalar::Text => visitor.visit_str(text),
            },
            Kind::List(nodes) => visitor.visit_seq(Items { nodes: nodes.iter(), index: 0 }),
            Kind::Map(entries) => {
                let key_at = Cell::new(None);
                let pairs = Pairs { rest: entries.iter(), open: None, key_at: &key_at };
                visitor.visit_map(pairs).map_err(|wrong| wrong.or_at(key_at.get()))
            }
        }
        .map_err(|wrong| wrong.or_at(self.at))
    }

    /// Digits, true and nothing are text where text is wanted.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.text() {
            Some(text) => visitor.visit_str(text).map_err(|wrong: Wrong| wrong.or_at(self.at)),
            None => Err(Wrong::invalid_type(self.found(), &visitor).or_at(self.at)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.text().is_none() {
            return Err(Wrong::invalid_type(self.found(), &"a key").or_at(self.at));
        }
        self.deserialize_str(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.is_nothing() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match self.kind {
            Kind::Map(_) => self.deserialize_any(visitor),
            _ => Err(Wrong::no_section(self.found()).or_at(self.at)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match self.text() {
            Some(text) => visitor.visit_enum(StrDeserializer::<Wrong>::new(text)),
            None => Err(Wrong::invalid_type(self.found(), &&*format!("one of: {}", variants.join(", ")))),
        }
        .map_err(|wrong| wrong.or_at(self.at))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple tuple_struct
        map ignored_any
    }
}

/// A list on its way to serde.
struct Items<'de> {
    nodes: std::slice::Iter<'de, Node>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        let Some(node) = self.nodes.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(node).map(Some).map_err(|wrong| wrong.at_index(index))
    }
}

/// A map on its way to serde.
struct Pairs<'de, 'a> {
    rest: std::slice::Iter<'de, (Node, Node)>,
    /// Whose key has been read.
    open: Option<&'de (Node, Node)>,
    /// Where that key stands: what the whole complains of before its value is asked for is about the key.
    key_at: &'a Cell<Option<Place>>,
}

impl<'de> MapAccess<'de> for Pairs<'de, '_> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        self.open = self.rest.next();
        self.key_at.set(self.open.and_then(|(key, _)| key.at));
        let Some((key, _)) = self.open else { return Ok(None) };
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        let Some((key, value)) = self.open else { return Err(Wrong::custom("has a value without a key")) };
        seed.deserialize(value).map_err(|wrong| wrong.within(key.text().unwrap_or("?")))
    }
}

#[cfg(test)]
mod tests;
