//! Controls and settings, changed while the daemon runs, shown in decoded pictures of the test pattern.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, Decoded, Start, frame_rate, slowness};

fn control(document: &Value, name: &str) -> Value {
    let controls = document["controls"].as_array().unwrap();
    controls
        .iter()
        .find(|control| control["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {document:#}"))
        .clone()
}

fn get(daemon: &Daemon, target: &str) -> Value {
    let answer = daemon.get(target);
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

/// Brightness of the green bar, the fourth, in the middle of the picture, where neither text nor blocks are.
fn green(daemon: &Daemon) -> u8 {
    let picture = Decoded::of(&daemon.get("/snapshot?max_age_ms=0").body);
    // The sweeping bar may be there: the darker of two places a bar's width apart.
    let (x, y) = (picture.size.width * 7 / 14, picture.size.height * 6 / 10);
    picture.at(x, y).min(picture.at(x + picture.size.width / 18, y))
}

#[test]
fn every_control_is_told_with_type_range_default_and_value() {
    let daemon = Start::test_pattern().spawn();
    let document = get(&daemon, "/api/v1/controls");
    assert_eq!(document["lasts"], "until restart");
    for expected in [
        json!({"name": "AeEnable", "type": "boolean", "min": null, "max": null, "default": true, "value": true}),
        json!({"name": "ExposureTime", "type": "integer", "min": 100, "max": 1_000_000, "default": 20_000, "value": 20_000}),
        json!({"name": "Brightness", "type": "float", "min": -1.0, "max": 1.0, "default": 0.0, "value": 0.0}),
        json!({"name": "ColourGains", "type": "float[2]", "default": [1.0, 1.0], "value": [1.0, 1.0]}),
        json!({"name": "ScalerCrop", "type": "rectangle", "min": [0, 0, 16, 16], "max": [0, 0, 320, 240], "read_only": false}),
        json!({"name": "SensorTemperature", "type": "float", "read_only": true}),
    ] {
        let got = control(&document, expected["name"].as_str().unwrap());
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&got[key], value, "{key} of {got}");
        }
    }
    let mode = control(&document, "AwbMode");
    assert_eq!((&mode["type"], &mode["options"][5]), (&json!("enum"), &json!({"value": 5, "name": "AwbDaylight"})));
    assert_eq!(daemon.request("HEAD", "/api/v1/controls").status, 200);
}

#[test]
fn several_are_set_at_once_and_shown_in_the_picture() {
    let daemon = Start::test_pattern().spawn();
    let _viewer = daemon.stream("/stream").collect(60);
    let before = green(&daemon);
    let document = daemon.patch(
        "/api/v1/controls",
        r#"{"Brightness": 0.5, "awb-mode": "awb_daylight", "ColourGains": [2, 1.5], "AeEnable": false}"#,
        200,
    );
    assert_eq!(control(&document, "Brightness")["value"], 0.5);
    assert_eq!(control(&document, "AwbMode")["value"], 5);
    assert_eq!(control(&document, "ColourGains")["value"], json!([2.0, 1.5]));
    assert_eq!(control(&document, "AeEnable")["value"], false);
    let kept = document["to_keep"].as_str().unwrap();
    assert!(kept.contains("controls:\n") && kept.contains("\"Brightness\": 0.5"), "{kept}");
    let after = green(&daemon);
    assert!(after.abs_diff(before + 50) <= 8, "{before} became {after}");
    // Null is the default.
    let document = daemon.patch("/api/v1/controls", r#"{"Brightness": null}"#, 200);
    assert_eq!(control(&document, "Brightness")["value"], 0.0);
    assert!(green(&daemon).abs_diff(before) <= 8);
    // All of them.
    daemon.patch("/api/v1/controls", r#"{"Brightness": 0.3}"#, 200);
    let answer = daemon.send("DELETE", "/api/v1/controls", "", "");
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(control(&document, "Brightness")["value"], 0.0);
    assert_eq!(control(&document, "AeEnable")["value"], true);
}

#[test]
fn zoom_shows_a_part_of_the_picture() {
    let daemon = Start::test_pattern().spawn();
    daemon.patch("/api/v1/controls", r#"{"ScalerCrop": [0, 0, 45, 34]}"#, 200);
    let picture = Decoded::of(&daemon.get("/snapshot?max_age_ms=0").body);
    // The first bar, 75 % white, fills the picture.
    let white = (1..15).filter(|i| picture.at(picture.size.width * i / 16, 140) > 165).count();
    assert!(white >= 13, "{white} of 14 places are white");
}

#[test]
fn what_cannot_be_set_is_named_and_nothing_is_set() {
    let daemon = Start::test_pattern().spawn();
    for (body, status, words) in [
        (r#"{"Brightness": 7}"#, 422, "control Brightness must be between -1 and 1, got 7"),
        (r#"{"ExposureTime": 99}"#, 422, "control ExposureTime must be between 100 and 1000000, got 99"),
        (r#"{"AeEnable": "perhaps"}"#, 422, "control AeEnable must be true or false"),
        (r#"{"ColourGains": [1]}"#, 422, "control ColourGains must be a list of 2"),
        (r#"{"ScalerCrop": [0, 0, 999, 10]}"#, 422, "control ScalerCrop must lie within [0,0,320,240]"),
        (r#"{"SensorTemperature": 1}"#, 422, "control SensorTemperature can only be read"),
        (r#"{"Brightnes": 1}"#, 422, "no control \"Brightnes\": did you mean Brightness?"),
        (r#"{"AwbMode": 2, "Brightness": 7}"#, 422, "control Brightness"),
        ("[]", 422, "the body must be a JSON object"),
        ("{", 400, "the body is not JSON"),
        ("", 400, "the body is not JSON"),
    ] {
        let answer = daemon.patch("/api/v1/controls", body, status);
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(words), "{body}: {error}");
    }
    let answer = daemon.patch("/api/v1/controls", r#"{"Brightness": 7}"#, 422);
    assert_eq!(
        (&answer["control"], &answer["value"], &answer["min"], &answer["max"]),
        (&json!("Brightness"), &json!(7), &json!(-1.0), &json!(1.0))
    );
    assert_eq!(control(&get(&daemon, "/api/v1/controls"), "AwbMode")["value"], 0, "all or none");
}

#[test]
fn controls_of_the_configuration_are_set_at_start_and_kept_through_openings() {
    let daemon = Start::test_pattern()
        .set("camera.controls={Brightness: 0.4, Sharpness: 3}")
        .set("camera.controls.ExposureTime=500")
        .faults("{kind: disappear, at: 40, for: 500ms}")
        .spawn();
    let mut stream = daemon.stream("/stream");
    let document = get(&daemon, "/api/v1/controls");
    assert_eq!(control(&document, "Brightness")["value"], 0.4);
    assert_eq!(control(&document, "ExposureTime")["value"], 500);
    let notes = daemon.status()["camera"]["notes"][0].as_str().unwrap().to_owned();
    assert!(notes.contains("camera.controls: the camera has no control \"Sharpness\""), "{notes}");
    daemon.patch("/api/v1/controls", r#"{"AnalogueGain": 4}"#, 200);
    stream.until("pictures after the camera was away", |part| part.sequence() > 50);
    let document = get(&daemon, "/api/v1/controls");
    assert_eq!(control(&document, "Brightness")["value"], 0.4);
    assert_eq!(control(&document, "AnalogueGain")["value"], 4.0);
    // Taken back, it is as it was configured.
    daemon.patch("/api/v1/controls", r#"{"Brightness": -0.4}"#, 200);
    let answer = daemon.send("DELETE", "/api/v1/controls", "", "");
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(control(&document, "Brightness")["value"], 0.4);
    assert_eq!(control(&document, "AnalogueGain")["value"], 1.0);
}

#[test]
fn settings_change_without_dropping_viewers() {
    let daemon = Start::test_pattern().spawn();
    let mut stream = daemon.stream("/stream");
    assert_eq!(stream.part().size(), "320x240");
    let rate = 12 / slowness();
    let change = json!({
        "resolution": "640x360", "frame_rate": rate, "quality": 50, "orientation": "flip-horizontal"
    });
    let answer = daemon.patch("/api/v1/settings", &change.to_string(), 200);
    assert_eq!(answer["lasts"], "until restart");
    assert_eq!((&answer["resolution"], &answer["frame_rate"]), (&json!("640x360"), &json!(rate)));
    assert_eq!(answer["camera"]["width"], 640);
    assert!(answer["to_keep"].as_str().unwrap().contains("resolution: 640x360"), "{answer}");
    stream.until("the new size", |part| part.size() == "640x360");
    assert_eq!(get(&daemon, "/api/v1/settings")["orientation"], "flip-horizontal");
    let log = daemon.log();
    assert!(!log.contains("no picture"), "{log}");
    stream.part();
    let fps = frame_rate(&stream.parts(rate as usize + 1));
    assert!((0.7..1.25).contains(&(fps / f64::from(rate))), "{fps} fps instead of {rate}");
    for (body, status, words) in [
        (r#"{"resolution": "8x8"}"#, 422, "resolution must be between 16x16 and 8192x8192, got 8x8"),
        (r#"{"frame_rate": 0}"#, 422, "frame_rate must be between 0.05 and 120, got 0"),
        (r#"{"quality": 101}"#, 422, "quality must be between 1 and 100, got 101"),
        (r#"{"orientation": "sideways"}"#, 422, "orientation: unknown variant `sideways`"),
        (r#"{"size": 1}"#, 422, "unknown setting \"size\": settings are resolution, frame_rate"),
    ] {
        let answer = daemon.patch("/api/v1/settings", body, status);
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(words), "{body}: {error}");
    }
    assert_eq!(get(&daemon, "/api/v1/settings")["resolution"], "640x360");
}

#[test]
fn other_origins_are_refused_and_methods_told() {
    let daemon = Start::test_pattern().spawn();
    for path in ["/api/v1/controls", "/api/v1/settings"] {
        for headers in ["Origin: http://evil.example\r\n", "Origin: null\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
            for method in ["PATCH", "GET"] {
                let answer = daemon.send(method, path, "{}", headers);
                assert_eq!(answer.status, 403, "{method} {path} {headers}");
                assert!(answer.header("access-control-allow-origin").is_none());
            }
        }
        let answer = daemon.send("PATCH", path, "{}", "Origin: http://test\r\nSec-Fetch-Site: same-origin\r\n");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = daemon.request("PUT", path);
        assert_eq!(answer.status, 405);
        assert!(answer.header("allow").unwrap().contains("PATCH"), "{answer:?}");
        let answer = daemon.request("OPTIONS", path);
        assert!(answer.header("allow").unwrap().contains("PATCH"));
        assert!(answer.header("access-control-allow-origin").is_none(), "{answer:?}");
    }
}

#[test]
fn without_a_camera_controls_say_so_and_settings_wait() {
    let daemon = Start::with(&["camera.source=replay", "camera.replay.path=/nonexistent"]).spawn();
    let answer = daemon.patch("/api/v1/controls", r#"{"Brightness": 0}"#, 503);
    assert!(answer["error"].as_str().unwrap().contains("camera.replay.path /nonexistent"), "{answer}");
    let answer = daemon.patch("/api/v1/settings", r#"{"quality": 30}"#, 200);
    assert_eq!(answer["quality"], 30);
}

#[test]
fn a_stopped_camera_starts_for_a_change() {
    let daemon = Start::test_pattern().set("camera.idle=stop").set("camera.idle_after=0s").spawn();
    daemon.wait_for("the camera to stop", |status| status["camera"]["running"] == false);
    let document = daemon.patch("/api/v1/controls", r#"{"Brightness": 0.2}"#, 200);
    assert_eq!(control(&document, "Brightness")["value"], 0.2);
    daemon.wait_for("the camera to stop again", |status| status["camera"]["running"] == false);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(control(&get(&daemon, "/api/v1/controls"), "Brightness")["value"], 0.2, "kept while it was stopped");
}

#[test]
fn a_later_value_counts_in_whatever_spelling_when_the_camera_is_opened_anew() {
    let daemon = Start::test_pattern().set("camera.controls={brightness: -0.25}").spawn();
    let brightness = || control(&get(&daemon, "/api/v1/controls"), "Brightness")["value"].clone();
    let _viewer = daemon.stream("/stream");
    assert_eq!(brightness(), -0.25);
    for (name, value, resolution) in
        [("Brightness", 0.5, "640x360"), ("BRIGHTNESS", 0.25, "320x240"), ("brightness", 0.75, "640x480")]
    {
        daemon.patch("/api/v1/controls", &json!({ name: value }).to_string(), 200);
        daemon.patch("/api/v1/settings", &json!({"resolution": resolution}).to_string(), 200);
        assert_eq!(brightness(), value, "{name} at {resolution}");
    }
    assert_eq!(daemon.send("DELETE", "/api/v1/controls", "", "").status, 200);
    assert_eq!(brightness(), -0.25, "as configured");
}

#[test]
fn a_size_there_is_no_memory_for_is_refused_and_viewers_stay() {
    let daemon = Start::test_pattern().spawn();
    let mut stream = daemon.stream("/stream");
    stream.part();
    let pid = libc::pid_t::try_from(daemon.pid()).unwrap();
    // The unit has LimitDATA=256M.
    for (megabytes, resolution, what) in [
        (128, "8192x8192", "camera test-pattern with YUV420 8192x8192: there is no memory for"),
        (256, "8192x8192", "there is no memory for"),
        (256, "7000x7000", "there is no memory for the software encoder with 7000x7000"),
    ] {
        let limit = libc::rlimit { rlim_cur: megabytes << 20, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: `limit` is read, and no old limit is asked for.
        assert_eq!(unsafe { libc::prlimit(pid, libc::RLIMIT_DATA, &raw const limit, std::ptr::null_mut()) }, 0);
        let answer = daemon.patch("/api/v1/settings", &json!({"resolution": resolution}).to_string(), 422);
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(what) && error.contains(" MB"), "{error}");
        assert!(error.contains("set a smaller camera.resolution"), "{error}");
        stream.part();
    }
    assert_eq!(get(&daemon, "/api/v1/settings")["resolution"], "320x240");
    // What fits is taken all the same, and encoded.
    daemon.patch("/api/v1/settings", r#"{"resolution": "2592x1944"}"#, 200);
    stream.until("a large picture", |part| Decoded::of(&part.jpeg).size.width == 2592);
}
