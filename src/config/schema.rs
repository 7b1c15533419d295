//! The table of settings as a JSON Schema, for editors: they complete and check `pinhole.yaml` by it.
//!
//! What the schema refuses, the program refuses too, but for a key without a value: that is complained of while it is written,
//! and read as not there. The program knows more: rules between keys, and what a pattern cannot say.

use serde_json::{Map, Value as Json, json};

use super::values::Milliseconds;
use super::{Choice, Config, Entry, FrameRate, Resolution, Shape, Value, table};

/// The schema, of draft 7, which is what editors know best.
pub fn schema() -> Json {
    let mut root = section("");
    root["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    root["title"] = json!("Pinhole's configuration");
    root
}

/// Of the settings right below a key.
fn section(key: &str) -> Json {
    let defaults = Config::default();
    let entries = table().iter().filter(|entry| entry.parent() == key);
    let properties: Map<String, Json> = entries.map(|entry| (entry.name().to_owned(), one(entry, &defaults))).collect();
    json!({"type": ["object", "null"], "additionalProperties": false, "properties": properties})
}

fn one(entry: &Entry, defaults: &Config) -> Json {
    if entry.is_section() {
        let mut schema = section(entry.key);
        schema["description"] = json!(entry.summary());
        return schema;
    }
    let mut lines = vec![entry.summary()];
    if let Shape::Choice(choices) = entry.shape {
        lines.extend(choices.iter().map(|Choice { word, doc }| format!("{word}: {}", doc.trim())));
    }
    if !entry.unit.is_empty() {
        lines.push(format!("Unit: {}.", entry.unit));
    }
    lines.push(format!("In force {}.", entry.takes.words()));
    let mut schema = entry.shape.schema();
    schema["description"] = json!(lines.join("\n"));
    schema["default"] = entry.get(defaults);
    schema
}

impl Shape {
    /// What a value of it looks like, as a JSON Schema.
    fn schema(self) -> Json {
        match self {
            Self::Switch => json!({"type": "boolean"}),
            Self::Whole { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
            Self::Number { min, max } => json!({"type": "number", "minimum": min, "maximum": max}),
            Self::Time { min, max } => json!({
                "type": ["string", "number"],
                "pattern": "^[0-9]*\\.?[0-9]*\\s*(ms|s|m|min|h)?\\s*$",
                "minimum": min as f64 / 1000.0,
                "maximum": max as f64 / 1000.0,
            }),
            Self::Size { .. } => json!({"type": "string", "pattern": "^\\s*[0-9]+\\s*[xX×]\\s*[0-9]+\\s*$"}),
            Self::Choice(choices) => {
                json!({"type": "string", "enum": choices.iter().map(|choice| choice.word).collect::<Vec<_>>()})
            }
            // Without quotes a text may look like a number, or like true.
            Self::Text { max } => {
                let mut schema = json!({"type": ["string", "number", "boolean"]});
                if let Some(max) = max {
                    schema["maxLength"] = json!(max);
                }
                schema
            }
            Self::Word(_, pattern) => json!({"type": ["string", "number", "boolean"], "pattern": pattern}),
            Self::List { of, or_one: false } => json!({"type": "array", "items": of.schema()}),
            Self::List { of, or_one: true } => {
                let one = of.schema();
                json!({"anyOf": [{"type": "array", "items": one}, one]})
            }
            Self::Section | Self::Controls => json!({"type": "object"}),
            Self::Faults => json!({"type": "array", "items": fault()}),
        }
    }

    /// The range in words; empty where there is none.
    pub fn range(self) -> String {
        match self {
            Self::Whole { min, max } => format!("{min} to {max}"),
            Self::Number { min, max } => format!("{min} to {max}"),
            Self::Time { min, max } => format!("{} to {}", time(min), time(max)),
            Self::Size { min, max } => format!("{min}x{min} to {max}x{max}"),
            Self::Text { max: Some(max) } => format!("up to {max} characters"),
            _ => String::new(),
        }
    }
}

/// Milliseconds in the largest unit that fits.
fn time(milliseconds: u64) -> String {
    match milliseconds {
        0 => "0s".to_owned(),
        _ if milliseconds.is_multiple_of(3_600_000) => format!("{}h", milliseconds / 3_600_000),
        _ if milliseconds.is_multiple_of(60_000) => format!("{}m", milliseconds / 60_000),
        _ => Milliseconds(milliseconds).to_string(),
    }
}

/// One of `camera.faults`. Which of the values belong to which kind only the program says.
fn fault() -> Json {
    let kinds = ["open-fails", "open-takes", "refuses", "stall", "disappear", "truncate", "size", "hang"];
    json!({
        "type": "object",
        "required": ["kind"],
        "additionalProperties": false,
        "properties": {
            "kind": {"type": "string", "enum": kinds},
            "times": {"type": "integer", "minimum": 0},
            "at": {"type": "integer", "minimum": 0},
            "for": Shape::Time { min: 0, max: 3_600_000 }.schema(),
            "to": Resolution::SHAPE.schema(),
            "resolution": Resolution::SHAPE.schema(),
            "frame_rate": FrameRate::SHAPE.schema(),
        },
    })
}

#[cfg(test)]
mod tests;
