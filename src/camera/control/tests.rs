use super::*;

fn control(kind: Kind, min: Option<Value>, max: Option<Value>) -> Control {
    Control { min, max, ..Control::new(1, "Some Control, Absolute", kind) }
}

/// Each type with what it takes, and what it refuses with which words.
#[test]
fn values_are_checked_by_type_and_range() {
    let int = |value| Some(Value::Integer(value));
    let float = |value| Some(Value::Float(value));
    let parts = |values: &[i64]| Some(Value::Parts(values.to_vec()));
    let boolean = control(Kind::Boolean, None, None);
    let integer = control(Kind::Integer, int(-10), int(10));
    let unbounded = control(Kind::Integer, None, None);
    let unknown = control(Kind::Integer, int(0), int(0));
    let wide = control(Kind::Integer, int(i64::MIN), int(i64::MAX));
    let stepped = Control { step: 4, ..control(Kind::Integer, int(2), int(100)) };
    let number = control(Kind::Float, float(-1.0), float(1.0));
    let menu = Control {
        options: vec![(0, "Manual Mode".to_owned()), (3, "Aperture".to_owned())],
        ..control(Kind::Enum, int(0), int(3))
    };
    let text = control(Kind::String, None, None);
    let crop = control(Kind::Rectangle, parts(&[0, 0, 64, 64]), parts(&[0, 0, 3280, 2464]));
    let size = control(Kind::Size, parts(&[16, 16]), parts(&[1920, 1080]));
    let point = control(Kind::Point, None, None);
    let button = control(Kind::Button, None, None);
    let gains = Control { array: Some(2), ..control(Kind::Float, float(0.0), float(8.0)) };
    let windows = Control { array: Some(0), ..control(Kind::Rectangle, None, parts(&[0, 0, 100, 100])) };

    let list = |values: &[f64]| Value::List(values.iter().copied().map(Value::Float).collect());
    for (control, json, expected) in [
        (&boolean, json!(true), Value::Bool(true)),
        (&boolean, json!("false"), Value::Bool(false)),
        (&boolean, json!(1), Value::Bool(true)),
        (&integer, json!(-10), Value::Integer(-10)),
        (&integer, json!(10.0), Value::Integer(10)),
        (&integer, json!(" 7 "), Value::Integer(7)),
        (&unbounded, json!(1i64 << 40), Value::Integer(1 << 40)),
        (&unknown, json!(5), Value::Integer(5)),
        (&wide, json!(i64::MIN), Value::Integer(i64::MIN)),
        (&stepped, json!(6), Value::Integer(6)),
        (&number, json!(1), Value::Float(1.0)),
        (&number, json!("-0.5"), Value::Float(-0.5)),
        (&menu, json!(3), Value::Integer(3)),
        (&menu, json!("manual-mode"), Value::Integer(0)),
        (&menu, json!("3"), Value::Integer(3)),
        (&text, json!(""), Value::Text(String::new())),
        (&crop, json!([10, 20, 640, 480]), Value::Parts(vec![10, 20, 640, 480])),
        (&crop, json!({"x": 0, "y": 0, "width": 3280, "height": 2464}), Value::Parts(vec![0, 0, 3280, 2464])),
        (&crop, json!("[1,2,100,100]"), Value::Parts(vec![1, 2, 100, 100])),
        (&size, json!([16, 1080]), Value::Parts(vec![16, 1080])),
        (&point, json!([-5, 5]), Value::Parts(vec![-5, 5])),
        (&button, json!("whatever"), Value::Integer(1)),
        (&gains, json!([1.5, 2]), list(&[1.5, 2.0])),
        (
            &windows,
            json!([[0, 0, 10, 10], [5, 5, 95, 95]]),
            Value::List(vec![Value::Parts(vec![0, 0, 10, 10]), Value::Parts(vec![5, 5, 95, 95])]),
        ),
        (&windows, json!([]), Value::List(vec![])),
    ] {
        assert_eq!(control.check("x", &json), Ok(expected), "{:?} {json}", control.kind);
    }

    for (control, json, words) in [
        (&boolean, json!("yes"), "must be true or false, got \"yes\""),
        (&boolean, json!(2), "must be true or false, got 2"),
        (&integer, json!(11), "must be between -10 and 10, got 11"),
        (&integer, json!(-11), "must be between -10 and 10, got -11"),
        (&integer, json!(1.5), "must be a whole number, got 1.5"),
        (&integer, json!("x"), "must be a whole number, got \"x\""),
        (&integer, json!(true), "must be a whole number, got true"),
        (&integer, json!([1]), "must be a whole number, got [1]"),
        (&stepped, json!(7), "must be 2 or a multiple of 4 more, got 7"),
        (&number, json!(1.01), "must be between -1 and 1, got 1.01"),
        (&number, json!("nan"), "must be a number, got \"nan\""),
        (&number, json!({}), "must be a number, got {}"),
        (&menu, json!(1), "must be one of 0 (Manual Mode), 3 (Aperture), got 1"),
        (&menu, json!("auto"), "must be one of 0 (Manual Mode), 3 (Aperture), got \"auto\""),
        (&text, json!(5), "must be text, got 5"),
        (&crop, json!([0, 0, 5000, 480]), "must lie within [0,0,3280,2464], got [0,0,5000,480]"),
        (&crop, json!([3000, 0, 640, 480]), "must lie within"),
        (&crop, json!([-1, 0, 640, 480]), "must lie within"),
        (&crop, json!([0, 0, 10, 480]), "must be at least as large as [0,0,64,64]"),
        (&crop, json!([0, 0, 0, 480]), "must be [x, y, width, height] in whole numbers"),
        (&crop, json!([0, 0, 640]), "must be [x, y, width, height] in whole numbers"),
        (&crop, json!([0, 0, 640, i64::MAX]), "must be [x, y, width, height] in whole numbers"),
        (&crop, json!({"x": 0, "y": 0, "w": 1, "h": 1}), "must be [x, y, width, height] in whole numbers"),
        (&size, json!([1921, 1080]), "must lie within [1920,1080]"),
        (&size, json!([8, 1080]), "must be at least as large as [16,16]"),
        (&point, json!("5,5"), "must be [x, y] in whole numbers"),
        (&gains, json!([1.5]), "must be a list of 2, got 1 values"),
        (&gains, json!(1.5), "must be a list, got 1.5"),
        (&gains, json!([1.5, 9]), "must be between 0 and 8, got 9"),
        (&windows, json!([[0, 0, 101, 10]]), "must lie within [0,0,100,100]"),
        (&integer, Json::Null, "has no default: give a value"),
    ] {
        let refusal = control.check("x", &json).unwrap_err();
        assert!(refusal.reason.starts_with(&format!("control Some Control, Absolute {words}")), "{json}: {refusal}");
        assert_eq!((&refusal.min, &refusal.max, refusal.control.as_str()), (&control.min, &control.max, "x"));
    }
}

#[test]
fn null_is_the_default_and_read_only_is_refused() {
    let control = Control { default: Some(Value::Integer(4)), ..control(Kind::Integer, None, None) };
    assert_eq!(control.check("x", &Json::Null), Ok(Value::Integer(4)));
    let fixed = Control { read_only: true, ..control };
    assert!(fixed.check("x", &json!(4)).unwrap_err().reason.ends_with("can only be read"));
}

#[test]
fn names_are_found_as_people_write_them() {
    let controls = [control(Kind::Boolean, None, None)];
    let map = |name: &str| serde_json::Map::from_iter([(name.to_owned(), json!(true))]);
    for name in ["Some Control, Absolute", "some-control-absolute", "someControlAbsolute", "some_control_absolute"] {
        assert_eq!(check_all(&controls, &map(name)).unwrap()[0].1, Value::Bool(true), "{name}");
    }
    let refusal = check_all(&controls, &map("Some Contrl, Absolute")).unwrap_err();
    assert!(refusal.reason.ends_with("did you mean Some Control, Absolute?"), "{refusal}");
    let refusal = check_all(&controls, &map("Zoom")).unwrap_err();
    assert!(refusal.reason.ends_with("it has Some Control, Absolute"), "{refusal}");
    assert!(check_all(&[], &map("Zoom")).unwrap_err().reason.ends_with("it has none"));
}

#[test]
fn numbers_are_told_as_people_write_them() {
    assert_eq!(Value::Float(f64::from(0.1f32)).to_json(), json!(0.1));
    assert_eq!(Value::Float(f64::INFINITY).to_json(), Json::Null);
    let object = Control { step: 4, array: Some(3), ..control(Kind::Integer, Some(Value::Integer(1)), None) }.to_json();
    assert_eq!(object["type"], "integer[3]");
    assert_eq!(object["step"], 4);
    assert_eq!(object["max"], Json::Null);
}
