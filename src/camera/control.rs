//! A camera's own controls (exposure, white balance, zoom …), whoever reports them: types, ranges, and the check of what
//! a person wants to set.

use std::fmt;

use serde_json::{Number, Value as Json, json};

/// A control as the camera reports it.
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    /// The driver's or libcamera's number.
    pub id: u32,
    /// The driver's or libcamera's name.
    pub name: String,
    /// What its values are.
    pub kind: Kind,
    /// `Some(n)` for an array: its number of values, 0 where any will do.
    pub array: Option<usize>,
    /// Least value, element by element for arrays; `None` where the camera does not say.
    pub min: Option<Value>,
    /// Largest value.
    pub max: Option<Value>,
    /// Distance between allowed values, from `min` on; 0 and 1 allow all.
    pub step: u64,
    /// Value after a start.
    pub default: Option<Value>,
    /// Value in force.
    pub value: Option<Value>,
    /// The values of [`Kind::Enum`] with their names.
    pub options: Vec<(i64, String)>,
    /// True if it cannot be set.
    pub read_only: bool,
}

impl Control {
    /// A control that takes one value, without known bounds.
    pub fn new(id: u32, name: &str, kind: Kind) -> Self {
        Self {
            id,
            name: name.to_owned(),
            kind,
            array: None,
            min: None,
            max: None,
            step: 1,
            default: None,
            value: None,
            options: Vec::new(),
            read_only: false,
        }
    }
}

/// Types of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Boolean,
    /// Whole number.
    Integer,
    /// Number.
    Float,
    /// One of [`Control::options`].
    Enum,
    /// Text.
    String,
    /// `[x, y, width, height]`.
    Rectangle,
    /// `[width, height]`.
    Size,
    /// `[x, y]`.
    Point,
    /// Does something when it is set, to whatever value.
    Button,
}

impl Kind {
    /// The word used in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Enum => "enum",
            Self::String => "string",
            Self::Rectangle => "rectangle",
            Self::Size => "size",
            Self::Point => "point",
            Self::Button => "button",
        }
    }

    /// Numbers a compound value has, with what they are called.
    fn parts(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Rectangle => Some(&["x", "y", "width", "height"]),
            Self::Size => Some(&["width", "height"]),
            Self::Point => Some(&["x", "y"]),
            _ => None,
        }
    }
}

/// A value of a control.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of [`Kind::Boolean`].
    Bool(bool),
    /// Of [`Kind::Integer`] and [`Kind::Enum`].
    Integer(i64),
    /// Of [`Kind::Float`].
    Float(f64),
    /// Of [`Kind::String`].
    Text(String),
    /// The numbers of [`Kind::Rectangle`], [`Kind::Size`] and [`Kind::Point`].
    Parts(Vec<i64>),
    /// Of an array.
    List(Vec<Value>),
}

impl Value {
    /// For the API. A number JSON has no word for (infinity) becomes null.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Bool(value) => json!(value),
            Self::Integer(value) => json!(value),
            // As a person would write it: 0.1, not 0.10000000149011612.
            Self::Float(value) => {
                (*value as f32).to_string().parse().ok().and_then(Number::from_f64).map_or(Json::Null, Json::Number)
            }
            Self::Text(value) => json!(value),
            Self::Parts(values) => json!(values),
            Self::List(values) => values.iter().map(Self::to_json).collect(),
        }
    }

    /// The value as a number, where it is one.
    fn number(&self) -> Option<f64> {
        match self {
            Self::Bool(value) => Some(f64::from(u8::from(*value))),
            Self::Integer(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The element of a list; a scalar stands for every element.
    fn element(&self, index: usize) -> Option<&Self> {
        match self {
            Self::List(values) => values.get(index),
            scalar => Some(scalar),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, values: &mut dyn Iterator<Item = String>| {
            write!(f, "[{}]", values.collect::<Vec<_>>().join(","))
        };
        match self {
            // 1 and 0.1, not 1.0 and 0.10000000149011612.
            Self::Float(value) => write!(f, "{}", *value as f32),
            Self::Parts(values) => list(f, &mut values.iter().map(ToString::to_string)),
            Self::List(values) => list(f, &mut values.iter().map(ToString::to_string)),
            other => write!(f, "{}", other.to_json()),
        }
    }
}

/// A value that cannot be set, or a control that is not there.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// The control's name as it was given.
    pub control: String,
    /// What was to be set.
    pub value: Json,
    /// Control, value, range and remedy in words.
    pub reason: String,
    /// Least value, where there is one.
    pub min: Option<Value>,
    /// Largest value.
    pub max: Option<Value>,
}

/// Names of controls are compared without case, spaces and punctuation: `exposure-time-absolute` is
/// `Exposure Time, Absolute`.
pub fn is_same_name(one: &str, other: &str) -> bool {
    let plain =
        |name: &str| -> String { name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect() };
    plain(one) == plain(other)
}

/// Inserts `values`, each in place of one for the same control, however that is spelt.
pub fn replace(wanted: &mut serde_json::Map<String, Json>, values: serde_json::Map<String, Json>) {
    wanted.retain(|name, _| !values.keys().any(|other| is_same_name(name, other)));
    wanted.extend(values);
}

/// The control a name means.
pub fn find<'a>(controls: &'a [Control], name: &str) -> Option<&'a Control> {
    controls
        .iter()
        .find(|control| control.name == name)
        .or_else(|| controls.iter().find(|control| is_same_name(&control.name, name)))
}

/// Checks values by name; null means the default. Returns control and value of each.
///
/// # Errors
/// The first value that cannot be set; then none should be.
pub fn check_all<'a>(
    controls: &'a [Control],
    wanted: &serde_json::Map<String, Json>,
) -> Result<Vec<(&'a Control, Value)>, Box<Refusal>> {
    wanted
        .iter()
        .map(|(name, json)| {
            if let Some(control) = find(controls, name) {
                return Ok((control, control.check(name, json)?));
            }
            let names: Vec<&str> = controls.iter().map(|control| control.name.as_str()).collect();
            let nearest = names
                .iter()
                .map(|known| (strsim::damerau_levenshtein(&known.to_lowercase(), &name.to_lowercase()), known))
                .min()
                .filter(|(distance, known)| *distance <= known.len().div_ceil(2));
            let remedy = match nearest {
                Some((_, nearest)) => format!("did you mean {nearest}?"),
                None if names.is_empty() => "it has none".to_owned(),
                None => format!("it has {}", names.join(", ")),
            };
            let reason = format!("the camera has no control {name:?}: {remedy}");
            Err(Box::new(Refusal { control: name.clone(), value: json.clone(), reason, min: None, max: None }))
        })
        .collect()
}

impl Control {
    /// The type for the API: `integer`, or `integer[3]` for an array.
    pub fn type_name(&self) -> String {
        match self.array {
            None => self.kind.name().to_owned(),
            Some(0) => format!("{}[]", self.kind.name()),
            Some(length) => format!("{}[{length}]", self.kind.name()),
        }
    }

    /// For the API.
    pub fn to_json(&self) -> Json {
        let value = |value: &Option<Value>| value.as_ref().map_or(Json::Null, Value::to_json);
        let mut object = json!({
            "name": self.name,
            "type": self.type_name(),
            "min": value(&self.min),
            "max": value(&self.max),
            "default": value(&self.default),
            "value": value(&self.value),
            "read_only": self.read_only,
        });
        if self.step > 1 {
            object["step"] = json!(self.step);
        }
        if !self.options.is_empty() {
            object["options"] =
                self.options.iter().map(|(value, name)| json!({"value": value, "name": name})).collect();
        }
        object
    }

    /// What `json` means for this control; null means its default.
    ///
    /// # Errors
    /// A value of another type, or out of range.
    pub fn check(&self, name: &str, json: &Json) -> Result<Value, Box<Refusal>> {
        let refuse = |reason: String| {
            Box::new(Refusal {
                control: name.to_owned(),
                value: json.clone(),
                reason: format!("control {} {reason}", self.name),
                min: self.min.clone(),
                max: self.max.clone(),
            })
        };
        if self.read_only {
            return Err(refuse("can only be read".to_owned()));
        }
        if json.is_null() {
            return self.default.clone().ok_or_else(|| refuse("has no default: give a value".to_owned()));
        }
        let Some(length) = self.array else {
            return self.check_one(json, 0).map_err(refuse);
        };
        // One number for all is a convenience; text from a command line may hold a list.
        let list = match json {
            Json::Array(list) => list.clone(),
            Json::String(text) => match serde_json::from_str::<Json>(text) {
                Ok(Json::Array(list)) => list,
                _ => return Err(refuse(format!("must be a list, got {json}"))),
            },
            _ => return Err(refuse(format!("must be a list, got {json}"))),
        };
        if length != 0 && list.len() != length {
            return Err(refuse(format!("must be a list of {length}, got {} values", list.len())));
        }
        let values = list.iter().enumerate().map(|(index, json)| self.check_one(json, index));
        Ok(Value::List(values.collect::<Result<_, _>>().map_err(refuse)?))
    }

    /// One value, or the element `index` of an array.
    fn check_one(&self, json: &Json, index: usize) -> Result<Value, String> {
        let bound = |bound: &Option<Value>| bound.as_ref().and_then(|bound| bound.element(index)).cloned();
        let (min, max) = (bound(&self.min), bound(&self.max));
        // What comes from a command line is text.
        let text = json.as_str().map(str::trim);
        let number = || json.as_f64().or_else(|| text?.parse::<f64>().ok()).filter(|number| number.is_finite());
        let whole = || json.as_i64().or_else(|| text?.parse::<i64>().ok());
        match self.kind {
            Kind::Button => Ok(Value::Integer(1)),
            Kind::Boolean => match (json.as_bool(), text, json.as_i64()) {
                (Some(value), _, _) => Ok(Value::Bool(value)),
                (_, Some("true"), _) | (_, _, Some(1)) => Ok(Value::Bool(true)),
                (_, Some("false"), _) | (_, _, Some(0)) => Ok(Value::Bool(false)),
                _ => Err(format!("must be true or false, got {json}")),
            },
            Kind::Integer => {
                // 5.0 is whole.
                let as_whole =
                    whole().or_else(|| number().filter(|n| n.fract() == 0.0 && n.abs() < 9e15).map(|n| n as i64));
                let Some(value) = as_whole else { return Err(format!("must be a whole number, got {json}")) };
                in_range(value as f64, min.as_ref(), max.as_ref(), json)?;
                if let (true, Some(Value::Integer(min))) = (self.step > 1, &min)
                    && (i128::from(value) - i128::from(*min)) % i128::from(self.step) != 0
                {
                    return Err(format!("must be {min} or a multiple of {} more, got {value}", self.step));
                }
                Ok(Value::Integer(value))
            }
            Kind::Float => {
                let Some(value) = number() else { return Err(format!("must be a number, got {json}")) };
                in_range(value, min.as_ref(), max.as_ref(), json)?;
                Ok(Value::Float(value))
            }
            Kind::Enum => {
                let by_name = text.and_then(|text| self.options.iter().find(|(_, name)| is_same_name(name, text)));
                let by_value = || whole().and_then(|value| self.options.iter().find(|(option, _)| *option == value));
                by_name.or_else(by_value).map(|(value, _)| Value::Integer(*value)).ok_or_else(|| {
                    let options: Vec<String> =
                        self.options.iter().map(|(value, name)| format!("{value} ({name})")).collect();
                    format!("must be one of {}, got {json}", options.join(", "))
                })
            }
            Kind::String => {
                let Some(text) = json.as_str() else { return Err(format!("must be text, got {json}")) };
                Ok(Value::Text(text.to_owned()))
            }
            Kind::Rectangle | Kind::Size | Kind::Point => self.check_parts(json, min.as_ref(), max.as_ref()),
        }
    }

    fn check_parts(&self, json: &Json, min: Option<&Value>, max: Option<&Value>) -> Result<Value, String> {
        let names = self.kind.parts().unwrap_or_default();
        let shape = || format!("must be [{}] in whole numbers, got {json}", names.join(", "));
        let from_text = json.as_str().and_then(|text| serde_json::from_str::<Json>(text).ok());
        let json = from_text.as_ref().unwrap_or(json);
        let numbers: Option<Vec<i64>> = match json {
            Json::Array(list) => list.iter().map(Json::as_i64).collect(),
            Json::Object(object) if object.len() == names.len() => {
                names.iter().map(|name| object.get(*name)?.as_i64()).collect()
            }
            _ => None,
        };
        let numbers = numbers.filter(|numbers| numbers.len() == names.len()).ok_or_else(shape)?;
        // What is negative in x and y may be right; a width never is. libcamera's numbers are 32 bits wide.
        let fits = numbers.iter().zip(names).all(|(number, name)| {
            let least = if matches!(*name, "x" | "y") { i64::from(i32::MIN) } else { 1 };
            (least..=i64::from(u32::MAX >> 1)).contains(number)
        });
        if !fits {
            return Err(shape());
        }
        let value = Value::Parts(numbers);
        let within = |outer: &Value| match (outer, &value, self.kind) {
            (Value::Parts(outer), Value::Parts(inner), Kind::Rectangle) => {
                inner[0] >= outer[0]
                    && inner[1] >= outer[1]
                    && inner[0] + inner[2] <= outer[0] + outer[2]
                    && inner[1] + inner[3] <= outer[1] + outer[3]
            }
            (Value::Parts(outer), Value::Parts(inner), _) => {
                inner.iter().zip(outer).all(|(inner, outer)| inner <= outer)
            }
            _ => true,
        };
        let large_enough = |least: &Value| match (least, &value, self.kind) {
            (Value::Parts(least), Value::Parts(inner), Kind::Rectangle) => inner[2] >= least[2] && inner[3] >= least[3],
            (Value::Parts(least), Value::Parts(inner), _) => {
                inner.iter().zip(least).all(|(inner, least)| inner >= least)
            }
            _ => true,
        };
        match (min, max) {
            (_, Some(max)) if !within(max) => Err(format!("must lie within {max}, got {json}")),
            (Some(min), _) if !large_enough(min) => Err(format!("must be at least as large as {min}, got {json}")),
            _ => Ok(value),
        }
    }
}

fn in_range(value: f64, min: Option<&Value>, max: Option<&Value>, json: &Json) -> Result<(), String> {
    let (least, most) = (min.and_then(Value::number), max.and_then(Value::number));
    // A range of nothing (0 to 0) is how some cameras say that they do not know it.
    if least.is_some() && least == most && least == Some(0.0) {
        return Ok(());
    }
    if least.is_some_and(|least| value < least) || most.is_some_and(|most| value > most) {
        let show = |bound: Option<&Value>| bound.map_or_else(|| "anything".to_owned(), ToString::to_string);
        return Err(format!("must be between {} and {}, got {json}", show(min), show(max)));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
