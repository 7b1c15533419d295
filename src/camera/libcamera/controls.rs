//! A camera's controls in our terms, and back.

use std::slice;

use ::libcamera::control::{ControlEntry, ControlInfo, ControlInfoMap};
use ::libcamera::control_value::{ControlType, ControlValue};
use ::libcamera::controls::{ControlId, FrameDurationLimits};
use ::libcamera::geometry;

use crate::camera::control::{Control, Kind, Value};

/// The camera's controls but for those of the frame rate, which is a setting of ours.
pub(super) fn describe_all(map: &ControlInfoMap) -> Vec<Control> {
    map.into_iter()
        .filter(|(id, _)| *id != FrameDurationLimits::ID)
        .filter_map(|(number, info)| describe(number, info))
        .collect()
}

/// One control; `None` for one of a newer libcamera than the crate knows, of whose type nothing can be said.
fn describe(number: u32, info: &ControlInfo) -> Option<Control> {
    let id = ControlId::from_id(number)?;
    // Cameras offer some of an enumeration's values.
    let offered: Vec<i64> = info
        .values()
        .iter()
        .filter_map(|value| match from_libcamera(value) {
            Some(Value::Integer(value)) => Some(value),
            _ => None,
        })
        .collect();
    let options: Vec<(i64, String)> = id
        .enumerators()
        .into_iter()
        .flatten()
        .map(|(value, name)| (i64::from(value), name))
        .filter(|(value, _)| offered.is_empty() || offered.contains(value))
        .collect();
    let kind = match id.control_type() {
        ControlType::Bool => Kind::Boolean,
        ControlType::Int32 | ControlType::Byte if !options.is_empty() => Kind::Enum,
        ControlType::Byte | ControlType::Uint16 | ControlType::Uint32 | ControlType::Int32 | ControlType::Int64 => {
            Kind::Integer
        }
        ControlType::Float => Kind::Float,
        ControlType::String => Kind::String,
        ControlType::Rectangle => Kind::Rectangle,
        ControlType::Size => Kind::Size,
        ControlType::Point => Kind::Point,
        ControlType::None => return None,
    };
    Some(Control {
        // libcamera says "as many as you like" with the largest number there is.
        array: id.is_array().then(|| if id.size() > 1024 { 0 } else { id.size() }),
        min: from_libcamera(&info.min()),
        max: from_libcamera(&info.max()),
        default: from_libcamera(&info.def()),
        options,
        read_only: !id.is_input(),
        ..Control::new(number, &id.name(), kind)
    })
}

/// A value of libcamera's in our terms; `None` for no value. Several make a list.
pub(super) fn from_libcamera(value: &ControlValue) -> Option<Value> {
    fn all<T>(values: &[T], convert: impl Fn(&T) -> Value) -> Option<Value> {
        match values {
            [] => None,
            [one] => Some(convert(one)),
            many => Some(Value::List(many.iter().map(convert).collect())),
        }
    }
    match value {
        ControlValue::None => None,
        ControlValue::Bool(values) => all(values, |value| Value::Bool(*value)),
        ControlValue::Byte(values) => all(values, |value| Value::Integer(i64::from(*value))),
        ControlValue::Uint16(values) => all(values, |value| Value::Integer(i64::from(*value))),
        ControlValue::Uint32(values) => all(values, |value| Value::Integer(i64::from(*value))),
        ControlValue::Int32(values) => all(values, |value| Value::Integer(i64::from(*value))),
        ControlValue::Int64(values) => all(values, |value| Value::Integer(*value)),
        ControlValue::Float(values) => all(values, |value| Value::Float(f64::from(*value))),
        ControlValue::String(values) => all(values, |value| Value::Text(value.clone())),
        ControlValue::Rectangle(values) => {
            all(values, |r| Value::Parts(vec![i64::from(r.x), i64::from(r.y), i64::from(r.width), i64::from(r.height)]))
        }
        ControlValue::Size(values) => {
            all(values, |size| Value::Parts(vec![i64::from(size.width), i64::from(size.height)]))
        }
        ControlValue::Point(values) => all(values, |point| Value::Parts(vec![i64::from(point.x), i64::from(point.y)])),
    }
}

/// A value of ours in libcamera's terms; `None` where it does not fit libcamera's type.
pub(super) fn to_libcamera(control: &Control, value: &Value) -> Option<ControlValue> {
    let values = match value {
        Value::List(values) => values.as_slice(),
        one => slice::from_ref(one),
    };
    Some(match ControlId::from_id(control.id)?.control_type() {
        ControlType::None => return None,
        ControlType::Bool => ControlValue::Bool(each(values, |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })?),
        ControlType::Byte => ControlValue::Byte(each(values, integer)?),
        ControlType::Uint16 => ControlValue::Uint16(each(values, integer)?),
        ControlType::Uint32 => ControlValue::Uint32(each(values, integer)?),
        ControlType::Int32 => ControlValue::Int32(each(values, integer)?),
        ControlType::Int64 => ControlValue::Int64(each(values, integer)?),
        ControlType::Float => ControlValue::Float(each(values, |value| match value {
            Value::Float(value) => Some(*value as f32),
            Value::Integer(value) => Some(*value as f32),
            _ => None,
        })?),
        ControlType::String => ControlValue::String(each(values, |value| match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        })?),
        ControlType::Rectangle => ControlValue::Rectangle(each(values, |value| {
            let [x, y, width, height] = parts(value)?;
            let ([x, y], [width, height]) = (narrow([x, y])?, narrow([width, height])?);
            Some(geometry::Rectangle { x, y, width, height })
        })?),
        ControlType::Size => ControlValue::Size(each(values, |value| {
            let [width, height] = narrow(parts(value)?)?;
            Some(geometry::Size::new(width, height))
        })?),
        ControlType::Point => ControlValue::Point(each(values, |value| {
            let [x, y] = narrow(parts(value)?)?;
            Some(geometry::Point { x, y })
        })?),
    })
}

/// All values converted, or `None` where one cannot be.
fn each<T, C: FromIterator<T>>(values: &[Value], convert: impl Fn(&Value) -> Option<T>) -> Option<C> {
    values.iter().map(convert).collect()
}

fn integer<T: TryFrom<i64>>(value: &Value) -> Option<T> {
    if let Value::Integer(value) = value { T::try_from(*value).ok() } else { None }
}

fn parts<const N: usize>(value: &Value) -> Option<[i64; N]> {
    if let Value::Parts(parts) = value { parts.as_slice().try_into().ok() } else { None }
}

fn narrow<T: TryFrom<i64>>(numbers: [i64; 2]) -> Option<[T; 2]> {
    let [first, second] = numbers.map(|number| T::try_from(number).ok());
    Some([first?, second?])
}
