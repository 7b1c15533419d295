//! What can be changed while the program runs: the settings of the table that have a name in `/api/v1/settings`.

use serde_json::{Map, Value as Json, json};

use super::node::Node;
use super::{Change, Choice, Config, Entry, Settings, Shape, Takes, table};

impl Settings {
    /// True if the camera must be opened anew to have these instead of others.
    pub fn needs_reopening(&self, others: &Self) -> bool {
        self.takes(others) >= Takes::Reopening
    }

    /// As lines for a configuration file.
    pub fn to_yaml(&self) -> String {
        let mut config = Config::default();
        self.put_into(&mut config);
        config.to_yaml_of(|entry| entry.live.is_some())
    }
}

impl Change {
    /// Of a JSON object.
    ///
    /// # Errors
    /// A name that is no setting, or a value that is not right for its setting, in words.
    pub fn from_json(object: &Map<String, Json>) -> Result<Self, String> {
        let mut change = Self::default();
        for (name, value) in object {
            let is_known = change.set(name, &Node::from(value)).map_err(|wrong| wrong.within(name).to_client())?;
            if !is_known {
                return Err(format!("unknown setting {name:?}: settings are {}", names()));
            }
        }
        Ok(change)
    }

    /// True if it names nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the page needs to know of these settings to let somebody change them, in the form of `/api/v1/controls`.
pub fn fields() -> Json {
    table().iter().filter(|entry| entry.live.is_some()).map(field).collect()
}

fn field(entry: &Entry) -> Json {
    let mut field =
        json!({"name": entry.live, "label": label(entry.name()), "hint": entry.summary(), "unit": entry.unit});
    let kind = match entry.shape {
        Shape::Whole { min, max } => {
            (field["min"], field["max"]) = (json!(min), json!(max));
            "integer"
        }
        Shape::Number { min, max } => {
            (field["min"], field["max"]) = (json!(min), json!(max));
            "float"
        }
        Shape::Choice(choices) => {
            let option =
                |choice: &Choice| json!({"value": choice.word, "name": choice.doc.trim().trim_end_matches('.')});
            field["options"] = choices.iter().map(option).collect();
            "enum"
        }
        Shape::Switch => "boolean",
        Shape::Size { .. } => "size",
        _ => "string",
    };
    field["type"] = json!(kind);
    field
}

/// A key's name as people write: "Frame rate".
fn label(name: &str) -> String {
    let mut label = name.replace('_', " ");
    if let Some(first) = label.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    label
}

/// The names of all such settings, as in "a, b and c".
fn names() -> String {
    let names: Vec<_> = table().iter().filter_map(|entry| entry.live).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(json: &Json) -> Result<Change, String> {
        Change::from_json(json.as_object().unwrap())
    }

    #[test]
    fn every_such_setting_is_changed_by_its_name() {
        let before = Settings::of(&Config::default());
        for (json, takes) in [
            (json!({"resolution": "640x480"}), Takes::Reopening),
            (json!({"frame_rate": 12.5}), Takes::Reopening),
            (json!({"quality": 33}), Takes::Nothing),
            (json!({"orientation": "rotate-90", "quality": 1}), Takes::Reopening),
            (json!({}), Takes::Nothing),
        ] {
            let change = change(&json).unwrap();
            let after = change.applied_to(&before);
            assert_eq!(after.takes(&before), takes, "{json}");
            assert_eq!(after.needs_reopening(&before), takes == Takes::Reopening, "{json}");
            for (name, value) in json.as_object().unwrap() {
                assert_eq!(&serde_json::to_value(&after).unwrap()[name], value);
            }
            let mut config = Config::default();
            after.put_into(&mut config);
            assert_eq!(Settings::of(&config), after);
            // What it names, another one may overrule.
            assert!(change.without(&change).is_empty());
            assert_eq!(change.over(&Change::default()), change);
        }
    }

    #[test]
    fn a_change_that_is_none_is_told_with_its_name() {
        for (json, told) in [
            (json!({"quality": 0}), "quality must be between 1 and 100, got 0"),
            (json!({"quality": null}), "quality: invalid type: null, expected a whole number"),
            (json!({"frame_rate": "fast"}), "frame_rate: invalid type: string \"fast\", expected a number"),
            (json!({"resolution": "big"}), "resolution must be a size such as 1280x720, got \"big\""),
            (
                json!({"orientation": "rotate-80"}),
                "orientation: unknown variant `rotate-80`: did you mean rotate-180? (choose one of: normal",
            ),
            (json!({"volume": 1}), "unknown setting \"volume\": settings are resolution, frame_rate, "),
        ] {
            let error = change(&json).unwrap_err();
            assert!(error.starts_with(told), "{error}\ninstead of\n{told}");
        }
    }

    #[test]
    fn what_is_in_force_can_be_kept_in_a_file() {
        let mut config = Config::default();
        config.camera.id = "not this".to_owned();
        let settings =
            change(&json!({"resolution": "640x360", "frame_rate": 7.5})).unwrap().applied_to(&Settings::of(&config));
        let kept = settings.to_yaml();
        assert!(kept.starts_with("camera:\n  resolution: 640x360\n  frame_rate: 7.5\n"), "{kept}");
        assert!(kept.contains("\nencoder:\n  quality: 80\n") && !kept.contains("id:"), "{kept}");
    }

    #[test]
    fn the_page_knows_names_ranges_and_words() {
        let fields = fields();
        let field = |name: &str| fields.as_array().unwrap().iter().find(|field| field["name"] == name).unwrap().clone();
        assert_eq!(field("frame_rate")["label"], "Frame rate");
        let quality = field("quality");
        assert_eq!((&quality["type"], &quality["min"], &quality["max"]), (&json!("integer"), &json!(1), &json!(100)));
        assert_eq!(field("frame_rate")["unit"], "frames per second");
        assert_eq!(field("resolution")["type"], "size");
        let turned = json!({"value": "rotate-180", "name": "Upside down (180°)"});
        assert!(field("orientation")["options"].as_array().unwrap().contains(&turned));
    }
}
