//! A setting that is on or off.

use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

/// True or false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Switch(bool);

impl Switch {
    pub(super) const fn new(value: bool) -> Self {
        Self(value)
    }

    /// The value.
    pub fn get(self) -> bool {
        self.0
    }
}

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SwitchVisitor;
        impl Visitor<'_> for SwitchVisitor {
            type Value = Switch;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("true or false")
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Switch, E> {
                Ok(Switch(value))
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Switch, E> {
                // Other programs' words for the same, which YAML no longer takes.
                let meant = match value.to_lowercase().as_str() {
                    "yes" | "on" | "y" | "true" => ": write true, without quotes",
                    "no" | "off" | "n" | "false" => ": write false, without quotes",
                    _ => "",
                };
                Err(E::custom(format_args!("must be true or false, got {value:?}{meant}")))
            }
        }
        deserializer.deserialize_any(SwitchVisitor)
    }
}
