//! The macro behind the table of settings. Each is written once; from that come the section's struct with its `Default` and its
//! layer (the same keys, each of them optional), the [`Entry`](super::Entry), and what can be changed while the program runs.

/// Writes the table: each `section [path] Struct / Layer`, and in it
///
/// ```text
/// /// What it is, for everybody.
/// ///
/// /// What only the manual says.
/// key: Type = default => Takes Who unit "a word" as name_in_api_v1_settings;
/// /// A section below this one has nothing behind its default.
/// key: Section = Section::default();
/// ```
macro_rules! settings {
    ($(
        $(#[doc = $doc:literal])*
        section $path:tt $name:ident / $layer:ident {$(
            $(#[doc = $fdoc:literal])*
            $field:ident: $type:ty = $default:expr
                $(=> $takes:ident $who:ident $(unit $unit:literal)? $(as $live:ident)?)?;
        )*}
    )*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Clone, Debug, PartialEq, Serialize)]
            pub struct $name {
                $($(#[doc = $fdoc])* pub $field: $type,)*
            }

            impl Default for $name {
                fn default() -> Self {
                    Self { $($field: $default,)* }
                }
            }

            /// What a layer says of it.
            #[derive(Clone, Debug, Default, Deserialize)]
            #[serde(deny_unknown_fields, default)]
            pub struct $layer {
                $($field: Option<<$type as Layered>::Layer>,)*
            }

            impl Layered for $name {
                type Layer = $layer;
                const SHAPE: Shape = Shape::Section;
                const IS_SECRET: bool = false;

                fn lay(&mut self, layer: $layer) {
                    $(if let Some(value) = layer.$field { self.$field.lay(value); })*
                }

                fn changes(layer: $layer, before: &Self) -> Option<$layer> {
                    Some($layer {
                        $($field: layer.$field.and_then(|value| <$type as Layered>::changes(value, &before.$field)),)*
                    })
                }
            }
        )*

        /// Every section and every setting, a section before its settings.
        static TABLE: &[Entry] = &[$($(
            entry!($path $field: $type, [$($fdoc)*] $($takes $who $(unit $unit)? $(as $live)?)?),
        )*)*];

        /// The settings in force that can be changed while the program runs.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        pub struct Settings {
            $($($($(
                /// As in the configuration.
                pub $live: $type,
            )?)?)*)*
        }

        impl Settings {
            /// Those of the configuration.
            pub fn of(config: &Config) -> Self {
                Self { $($($($($live: at!($path config $field).clone(),)?)?)*)* }
            }

            /// Puts them into a configuration.
            pub fn put_into(&self, config: &mut Config) {
                $($($($(at!($path config $field).clone_from(&self.$live);)?)?)*)*
            }

            /// What it takes to have these instead of others.
            pub fn takes(&self, others: &Self) -> Takes {
                let mut takes = Takes::Nothing;
                $($($($(if self.$live != others.$live { takes = takes.max(Takes::$takes); })?)?)*)*
                takes
            }
        }

        /// Some settings, to be changed while the program runs.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Change {
            $($($($(
                /// As in the configuration.
                pub $live: Option<$type>,
            )?)?)*)*
        }

        impl Change {
            /// Names a setting's new value; false where there is no such setting.
            fn set(&mut self, name: &str, value: &Node) -> Result<bool, Wrong> {
                $($($($(if name == stringify!($live) {
                    self.$live = Some(<$type>::deserialize(value)?);
                    return Ok(true);
                })?)?)*)*
                Ok(false)
            }

            /// Settings with this change made.
            pub fn applied_to(&self, settings: &Settings) -> Settings {
                Settings { $($($($($live: self.$live.clone().unwrap_or_else(|| settings.$live.clone()),)?)?)*)* }
            }

            /// This change made after another.
            #[must_use]
            pub fn over(&self, earlier: &Self) -> Self {
                Self { $($($($($live: self.$live.clone().or_else(|| earlier.$live.clone()),)?)?)*)* }
            }

            /// What of this change another one does not name.
            #[must_use]
            pub fn without(&self, other: &Self) -> Self {
                Self { $($($($($live: self.$live.clone().filter(|_| other.$live.is_none()),)?)?)*)* }
            }
        }
    };
}

/// One line of the table.
macro_rules! entry {
    ($path:tt $field:ident: $type:ty, [$($doc:literal)*]) => {
        entry!($path $field: $type, [$($doc)*] Nothing Api)
    };
    ($path:tt $field:ident: $type:ty, [$($doc:literal)*] $takes:ident $who:ident $(unit $unit:literal)? $(as $live:ident)?) => {
        Entry {
            key: key!($path $field),
            doc: concat!($($doc, "\n"),*),
            shape: <$type as Layered>::SHAPE,
            unit: concat!($($unit)?),
            takes: Takes::$takes,
            who: Who::$who,
            is_secret: <$type as Layered>::IS_SECRET,
            live: [$(Some(stringify!($live)),)? None][0],
            get: |config| serde_json::to_value(&at!($path config $field)).unwrap_or_default(),
            set: |config, value| {
                at!($path config $field).lay(<$type as Layered>::Layer::deserialize(value)?);
                Ok(())
            },
        }
    };
}

/// A setting's key.
macro_rules! key {
    ([$($part:ident).*] $field:ident) => { concat!($(stringify!($part), ".",)* stringify!($field)) };
}

/// A setting's place in a configuration.
macro_rules! at {
    ([$($part:ident).*] $config:ident $field:ident) => { $config.$($part.)*$field };
}

pub(super) use {at, entry, key, settings};
