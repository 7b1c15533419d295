use super::super::control::Kind;
use super::*;

fn control(id: u32, name: &str, value: Value) -> Control {
    let kind = if matches!(value, Value::Bool(_)) { Kind::Boolean } else { Kind::Integer };
    Control { value: Some(value), ..Control::new(id, name, kind) }
}

fn focus(auto: bool) -> [Control; 2] {
    [
        control(bindings::V4L2_CID_FOCUS_ABSOLUTE, "Focus, Absolute", Value::Integer(0)),
        control(bindings::V4L2_CID_FOCUS_AUTO, "Focus, Automatic Continuous", Value::Bool(auto)),
    ]
}

fn names(values: &[(Control, Value)]) -> Vec<&str> {
    values.iter().map(|(control, _)| control.name.as_str()).collect()
}

#[test]
fn what_governs_comes_first_whatever_the_numbers() {
    let [distance, auto] = focus(true);
    let hue = control(bindings::V4L2_CID_HUE, "Hue", Value::Integer(0));
    let hue_auto = control(bindings::V4L2_CID_HUE_AUTO, "Hue, Automatic", Value::Bool(true));
    let brightness = control(bindings::V4L2_CID_BRIGHTNESS, "Brightness", Value::Integer(0));
    let mut values = vec![
        (distance, Value::Integer(30)),
        (hue, Value::Integer(5)),
        (brightness, Value::Integer(1)),
        (hue_auto, Value::Bool(false)),
        (auto, Value::Bool(false)),
    ];
    order(&mut values);
    let order = names(&values);
    let place = |name: &str| order.iter().position(|other| *other == name).unwrap();
    assert!(place("Focus, Automatic Continuous") < place("Focus, Absolute"), "{order:?}");
    assert!(place("Hue, Automatic") < place("Hue"), "{order:?}");
}

#[test]
fn what_becomes_automatic_comes_last() {
    let [distance, auto] = focus(false);
    let mut values = vec![(auto, Value::Bool(true)), (distance, Value::Integer(30))];
    order(&mut values);
    assert_eq!(names(&values), ["Focus, Absolute", "Focus, Automatic Continuous"]);
    leave_out_moot(&mut values);
    assert_eq!(names(&values), ["Focus, Automatic Continuous"]);
}

#[test]
fn libcameras_names_are_ordered_too() {
    // Numbers against the grain.
    let time = control(1, "ExposureTime", Value::Integer(100));
    let mode = control(2, "ExposureTimeMode", Value::Integer(0));
    let lens = control(3, "LensPosition", Value::Float(1.0));
    let focus = control(4, "AfMode", Value::Integer(2));
    let mut values = vec![
        (time, Value::Integer(10_000)),
        (mode, Value::Integer(1)),
        (lens, Value::Float(2.0)),
        (focus, Value::Integer(0)),
    ];
    order(&mut values);
    assert_eq!(names(&values), ["ExposureTimeMode", "AfMode", "ExposureTime", "LensPosition"]);
    assert_eq!(stages(&values).map(<[_]>::len).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn the_switch_in_the_way_is_named() {
    let [distance, auto] = focus(true);
    let known = [distance.clone(), auto];
    assert_eq!(remedy(&known, &distance).as_deref(), Some("set \"Focus, Automatic Continuous\" to false first"));
    let [distance, auto] = focus(false);
    assert_eq!(remedy(&[distance.clone(), auto], &distance), None);
    assert_eq!(remedy(std::slice::from_ref(&distance), &distance), None);
    let time = control(bindings::V4L2_CID_EXPOSURE_ABSOLUTE, "Exposure Time, Absolute", Value::Integer(3));
    let mode = Control {
        kind: Kind::Enum,
        options: vec![(1, "Manual Mode".to_owned()), (3, "Aperture Priority Mode".to_owned())],
        ..control(bindings::V4L2_CID_EXPOSURE_AUTO, "Auto Exposure", Value::Integer(3))
    };
    assert_eq!(remedy(&[mode], &time).as_deref(), Some("set \"Auto Exposure\" to Manual Mode first"));
}

#[test]
fn one_of_several_governors_will_do() {
    let time = control(1, "ExposureTime", Value::Integer(100));
    let mode = control(2, "ExposureTimeMode", Value::Integer(0));
    let known = |ae: bool| [time.clone(), mode.clone(), control(3, "AeEnable", Value::Bool(ae))];
    let value = [(time.clone(), Value::Integer(10_000))];
    let (refused, _, remedy) = first_ignored(&known(true), &value).unwrap();
    assert_eq!((refused.name.as_str(), remedy.as_str()), ("ExposureTime", "set \"ExposureTimeMode\" to 1 first"));
    assert!(first_ignored(&known(false), &value).is_none());
    // Switched off by the same change.
    let both = [(known(true)[2].clone(), Value::Bool(false)), value[0].clone()];
    assert!(first_ignored(&known(true), &both).is_none());
    // Cameras that know no such mode take the time all the same.
    assert!(first_ignored(&[time.clone(), known(true)[2].clone()], &value).is_none());
}

#[test]
fn a_refusal_sets_back_what_was_set_and_names_what_stays() {
    let button = Control { kind: Kind::Button, value: None, ..control(9, "Do White Balance", Value::Integer(0)) };
    let values = [
        (control(1, "Brightness", Value::Integer(5)), Value::Integer(7)),
        (button, Value::Integer(1)),
        (control(2, "Contrast", Value::Integer(50)), Value::Integer(50)),
        (control(3, "Sharpness", Value::Integer(3)), Value::Integer(4)),
        (control(4, "Focus", Value::Integer(0)), Value::Integer(30)),
        (control(5, "Never", Value::Integer(0)), Value::Integer(1)),
    ];
    let mut calls = Vec::new();
    let refused = set_all(&values, |control, value| {
        calls.push(format!("{} {value}", control.name));
        if control.name == "Focus" || (control.name == "Sharpness" && *value == Value::Integer(3)) {
            Err("no")
        } else {
            Ok(())
        }
    })
    .unwrap_err();
    assert_eq!((refused.at, refused.error), (4, "no"));
    assert_eq!(refused.stuck, ["Sharpness", "Do White Balance"]);
    assert_eq!(
        calls,
        ["Brightness 7", "Do White Balance 1", "Contrast 50", "Sharpness 4", "Focus 30", "Sharpness 3", "Brightness 5"]
    );
}
