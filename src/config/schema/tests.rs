use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::config::tests::{load_set, load_text};
use crate::config::{Takes, Who};

/// What of draft 7 the schema uses; anything else in it fails the test.
fn check(schema: &Json, value: &Json, path: &str) -> Result<(), String> {
    let number = |word: &str| schema.get(word).and_then(Json::as_f64);
    for (word, rule) in schema.as_object().unwrap() {
        let holds = match (word.as_str(), value) {
            ("type", _) => {
                let types = rule.as_array().map_or_else(|| vec![rule], |types| types.iter().collect());
                types.iter().any(|name| is_of(name.as_str().unwrap(), value))
            }
            ("enum", _) => rule.as_array().unwrap().contains(value),
            ("minimum", Json::Number(value)) => value.as_f64() >= number("minimum"),
            ("maximum", Json::Number(value)) => value.as_f64() <= number("maximum"),
            ("maxLength", Json::String(text)) => text.chars().count() as u64 <= rule.as_u64().unwrap(),
            ("pattern", Json::String(text)) => regex_lite::Regex::new(rule.as_str().unwrap()).unwrap().is_match(text),
            ("items", Json::Array(values)) => {
                values.iter().try_for_each(|value| check(rule, value, &format!("{path}[]")))?;
                true
            }
            ("required", Json::Object(values)) => {
                rule.as_array().unwrap().iter().all(|name| values.contains_key(name.as_str().unwrap()))
            }
            ("properties", Json::Object(values)) => {
                for (name, value) in values {
                    if let Some(rule) = rule.get(name) {
                        check(rule, value, &format!("{path}.{name}"))?;
                    }
                }
                true
            }
            ("additionalProperties", Json::Object(values)) => {
                assert_eq!(rule, &json!(false));
                values.keys().all(|name| schema["properties"].get(name).is_some())
            }
            ("anyOf", _) => rule.as_array().unwrap().iter().any(|rule| check(rule, value, path).is_ok()),
            // What says nothing, or nothing of values of this type.
            (
                "$schema"
                | "title"
                | "description"
                | "default"
                | "minimum"
                | "maximum"
                | "maxLength"
                | "pattern"
                | "items"
                | "required"
                | "properties"
                | "additionalProperties",
                _,
            ) => true,
            _ => panic!("{word} at {path}: the test does not know it"),
        };
        if !holds {
            return Err(format!("{path}: {value} is against {word} {rule}"));
        }
    }
    Ok(())
}

fn is_of(name: &str, value: &Json) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|value| value.fract() == 0.0),
        "null" => value.is_null(),
        _ => panic!("{name} is no type"),
    }
}

fn check_text(yaml: &str) -> Result<(), String> {
    check(&schema(), &serde_yaml::from_str(yaml).unwrap(), "")
}

#[test]
fn the_shipped_file_is_right_by_the_schema() {
    check_text(include_str!("../../../config/pinhole.yaml")).unwrap();
    check_text(&Config::default().to_yaml()).unwrap();
}

#[test]
fn what_the_program_takes_is_right_by_the_schema() {
    for text in [
        "",
        "camera:\n",
        "camera: {id: 1, frame_rate: 12.5, resolution: 640X480, idle_after: 1500ms, stall_timeout: 2.5, warm_up: 0}",
        "camera: {controls: {Brightness: 0.1, AwbMode: AwbDaylight, AfWindows: [[0, 0, 10, 10]]}}",
        "camera: {source: test-pattern, faults: [{kind: stall, at: 60, for: 5s}, {kind: refuses, frame_rate: 60}]}",
        "http: {listen: '127.0.0.1:80', allowed_hosts: '*', trusted_proxies: [127.0.0.1, '::1', 10.0.0.0/8]}",
        "http: {allow_origins: ['http://mainsail.local/', '*'], frame_ancestors: 'https://ha.example:8123'}",
        "http: {allowed_hosts: [cam.example.com, '*.example.com', 192.0.2.1, '[::1]']}",
        "system: {hostname: garden-cam, timezone: America/Argentina/Buenos_Aires, wifi: {ssid: 007, passphrase: 0012345678}}",
        "system: {ssh_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0123456789 me], wifi: {wpa3: true, country: NO}}",
        "overlay: {text: 5, size: 20, position: top}",
    ] {
        load_text(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        check_text(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn what_the_schema_refuses_the_program_refuses() {
    for text in [
        "camra: {}",
        "camera: {frame_rat: 5}",
        "camera: {frame_rate: 0}",
        "camera: {frame_rate: 121}",
        "camera: {frame_rate: fast}",
        "camera: {resolution: big}",
        "camera: {source: usb}",
        "camera: {buffer_count: 4.5}",
        "camera: {idle_after: 5 days}",
        "camera: {stall_timeout: 0.1}",
        "camera: {replay: {path: [a]}}",
        "camera: {replay: {folder: a}}",
        "camera: {faults: [{kind: fire}]}",
        "camera: {faults: {kind: stall}}",
        "camera: {controls: [1]}",
        "camera: fast",
        "encoder: {quality: 101}",
        "encoder: {quality: '80'}",
        "overlay: {reencode: yes}",
        "overlay: {text: [a]}",
        "http: {listen: here}",
        "http: {allowed_hosts: [http://cam/]}",
        "http: {trusted_proxies: nginx}",
        "http: {allow_origins: [mainsail.local]}",
        "log: {level: 5}",
        "system: {hostname: my_pi}",
        "system: {timezone: ../etc}",
        "system: {ssh_keys: [password]}",
        "system: {wifi: {country: Germany}}",
        "system: {wifi: {ssid: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx}}",
        "system: {wifi: {passphrase: short}}",
        "[a]",
    ] {
        assert!(check_text(text).is_err(), "{text} is right by the schema");
        assert!(load_text(text).is_err(), "{text} is right by the program");
    }
}

#[test]
fn kinds_of_faults_are_those_of_the_program() {
    let error = load_text("camera: {source: test-pattern, faults: [{kind: fire}]}").unwrap_err();
    let kinds = fault()["properties"]["kind"]["enum"].clone();
    let words: Vec<_> = kinds.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert!(error.contains(&format!("(choose one of: {})", words.join(", "))), "{error}");
}

#[test]
fn every_setting_says_what_it_is() {
    for entry in table() {
        let summary = entry.summary();
        assert!(summary.ends_with('.') && summary.len() > 8, "{}: {summary:?}", entry.key);
        assert!(!summary.contains('\n') && !summary.contains("  "), "{}: {summary:?}", entry.key);
        assert!(table().iter().filter(|other| other.key == entry.key).count() == 1, "{} is there twice", entry.key);
        if !entry.parent().is_empty() {
            assert!(table().iter().any(|other| other.key == entry.parent() && other.is_section()), "{}", entry.key);
        }
        match entry.shape {
            // JPEG's quality alone has no unit.
            Shape::Whole { .. } | Shape::Number { .. } => {
                assert_eq!(entry.unit.is_empty(), entry.key == "encoder.quality", "{}: its unit", entry.key);
            }
            _ => assert_eq!(entry.unit, "", "{}", entry.key),
        }
        if let Shape::Choice(choices) = entry.shape {
            assert!(choices.len() > 1 && choices.iter().all(|choice| !choice.doc.is_empty()), "{}", entry.key);
        }
        // Where the machine has to start anew, the program does not apply it, and it is below system.
        if !entry.is_section() {
            assert_eq!(entry.takes == Takes::Reboot, entry.key.starts_with("system."), "{}", entry.key);
        }
        assert!(entry.live.is_none_or(|name| name == entry.name()), "{}", entry.key);
    }
    assert!(Config::default().to_yaml_of(|entry| entry.is_secret).contains("passphrase: ''"));
    let secrets: Vec<_> = table().iter().filter(|entry| entry.is_secret).map(|entry| entry.key).collect();
    assert_eq!(secrets, ["system.wifi.passphrase"]);
}

#[test]
fn who_may_ask_and_what_is_read_is_said_on_the_card_only() {
    for key in [
        "camera.faults",
        "camera.replay.path",
        "encoder.device",
        "http.listen",
        "http.allowed_hosts",
        "http.trusted_proxies",
        "http.allow_origins",
        "http.frame_ancestors",
        "system.ssh_keys",
        "system.wifi.passphrase",
    ] {
        assert!(table().iter().any(|entry| entry.key == key && entry.who == Who::Card), "{key}");
    }
}

#[test]
fn ranges_are_those_that_are_checked() {
    for entry in table() {
        let set = |value: String| load_set(&[&format!("{}={value}", entry.key)]);
        match entry.shape {
            Shape::Whole { min, max } => {
                assert!(set(min.to_string()).is_ok() && set(max.to_string()).is_ok(), "{}", entry.key);
                let error = set((max + 1).to_string()).unwrap_err();
                assert!(error.contains(&format!("{} must be between {min} and {max}", entry.key)), "{error}");
            }
            Shape::Number { min, max } => {
                assert!(set(min.to_string()).is_ok() && set(max.to_string()).is_ok(), "{}", entry.key);
                assert!(set((max + 1.0).to_string()).is_err() && set((min / 2.0).to_string()).is_err());
            }
            Shape::Time { min, max } => {
                assert!(set(format!("{min}ms")).is_ok() && set(format!("{max}ms")).is_ok(), "{}", entry.key);
                assert!(set(format!("{}ms", max + 1)).is_err(), "{}", entry.key);
            }
            Shape::Size { min, max } => {
                assert!(set(format!("{min}x{max}")).is_ok() && set(format!("{max}x{}", max + 1)).is_err());
            }
            Shape::Text { max: Some(max) } => {
                assert!(set("x".repeat(max)).is_ok() && set("x".repeat(max + 1)).is_err(), "{}", entry.key);
            }
            Shape::Choice(choices) => {
                for choice in choices {
                    let mut config = Config::default();
                    entry.set(&mut config, &json!(choice.word)).unwrap();
                    assert_eq!(entry.get(&config), json!(choice.word));
                }
            }
            _ => {}
        }
    }
}

#[test]
fn settings_are_read_and_set_by_key() {
    let entry = |key: &str| table().iter().find(|entry| entry.key == key).unwrap();
    let mut config = Config::default();
    entry("camera.replay.path").set(&mut config, &json!("/srv")).unwrap();
    entry("camera.controls").set(&mut config, &json!({"A": 1})).unwrap();
    entry("camera.controls").set(&mut config, &json!({"B": null})).unwrap();
    entry("camera.id").set(&mut config, &json!(1)).unwrap();
    entry("system.wifi.passphrase").set(&mut config, &json!("correct horse")).unwrap();
    assert_eq!((&*config.camera.replay.path, &*config.camera.id), ("/srv", "1"));
    assert_eq!(entry("camera.controls").get(&config), json!({"A": 1, "B": null}));
    assert_eq!(entry("system.wifi.passphrase").get(&config), json!("(hidden)"));
    for (key, value, told) in [
        ("camera.frame_rate", json!(0), "camera.frame_rate must be between 0.05 and 120, got 0"),
        ("camera.source", json!("tset-pattern"), "unknown value \"tset-pattern\" for camera.source: did you mean"),
        ("http.trusted_proxies", json!(["::1", "x"]), "http.trusted_proxies[1] must be an address or a prefix"),
        ("http.listen", json!([1]), "http.listen: invalid type: sequence, expected a string"),
        ("camera.replay", json!({"pat": 1}), "unknown key camera.replay.pat: did you mean path?"),
        ("camera.replay", json!(1), "camera.replay: invalid type: integer `1`, expected keys and values"),
        (
            "system.wifi.passphrase",
            json!(["geheim"]),
            "system.wifi.passphrase: invalid type: sequence, expected a string",
        ),
        ("system.wifi.wpa3", json!(5), "system.wifi.wpa3: invalid type: integer, expected true or false"),
    ] {
        let before = config.clone();
        let error = entry(key).set(&mut config, &value).unwrap_err();
        assert!(error.starts_with(told), "{error}\ninstead of\n{told}");
        assert_eq!(config, before);
    }
}

proptest! {
    #[test]
    fn a_time_is_right_by_the_schema_where_it_is_by_the_program(text in "[0-9.]{0,4} ?(ms|s|m|min|h|d)?") {
        let value = json!({"camera": {"idle_after": text}});
        if load_text(value.to_string()).is_ok() {
            prop_assert_eq!(check(&schema(), &value, ""), Ok(()));
        }
    }
}
