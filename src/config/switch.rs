//! A setting that is on or off.

use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

use super::entry::{Shape, Value};

/// True or false. What else is given for a private one, below `system`, is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Switch<const IS_PRIVATE: bool = false>(bool);

impl<const IS_PRIVATE: bool> Switch<IS_PRIVATE> {
    pub(super) const fn new(value: bool) -> Self {
        Self(value)
    }

    /// The value.
    pub fn get(self) -> bool {
        self.0
    }
}

impl<const IS_PRIVATE: bool> Value for Switch<IS_PRIVATE> {
    const SHAPE: Shape = Shape::Switch;
}

impl<'de, const IS_PRIVATE: bool> Deserialize<'de> for Switch<IS_PRIVATE> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SwitchVisitor<const IS_PRIVATE: bool>;
        impl<const IS_PRIVATE: bool> Visitor<'_> for SwitchVisitor<IS_PRIVATE> {
            type Value = Switch<IS_PRIVATE>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("true or false")
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Switch(value))
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
                // Other programs' words for the same, which YAML no longer takes.
                let meant = match value.to_lowercase().as_str() {
                    "yes" | "on" | "y" | "true" => ": write true, without quotes",
                    "no" | "off" | "n" | "false" => ": write false, without quotes",
                    _ => "",
                };
                if IS_PRIVATE {
                    return Err(E::custom(format_args!("must be true or false{meant}")));
                }
                Err(E::custom(format_args!("must be true or false, got {value:?}{meant}")))
            }
        }
        deserializer.deserialize_any(SwitchVisitor::<IS_PRIVATE>)
    }
}
