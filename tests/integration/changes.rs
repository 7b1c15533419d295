//! Many change things at once: nobody is turned away because of another, viewers keep their pictures, readers do not wait.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Answer, Daemon, PATIENCE, Start};

const SETTINGS: &str = "/api/v1/settings";
const CONTROLS: &str = "/api/v1/controls";

fn change(daemon: &Daemon, target: &str, body: &str) -> Answer {
    daemon.send("PATCH", target, body, "")
}

fn settings(daemon: &Daemon) -> Value {
    serde_json::from_slice(&daemon.get(SETTINGS).body).unwrap()
}

fn reopened(daemon: &Daemon) -> usize {
    let metrics = daemon.get("/metrics").text();
    let line = metrics.lines().find_map(|line| line.strip_prefix("pinhole_camera_reopened_total ")).unwrap();
    line.parse().unwrap()
}

/// Viewers are kept though a test reads nothing of them for long.
fn patient() -> Start {
    Start::test_pattern().set("http.write_timeout=10m")
}

#[test]
fn of_600_who_ask_at_once_none_is_told_that_there_is_no_camera() {
    let daemon = patient().spawn();
    daemon.stream("/stream").part();
    let (start, before) = (Instant::now(), reopened(&daemon));
    let counts: [AtomicUsize; 3] = Default::default();
    std::thread::scope(|scope| {
        for thread in 0..60 {
            let (daemon, counts) = (&daemon, &counts);
            scope.spawn(move || {
                for i in 0..10 {
                    let (target, body) = match (thread + i) % 4 {
                        0 => (SETTINGS, format!(r#"{{"quality": {}}}"#, 30 + thread)),
                        1 => (SETTINGS, format!(r#"{{"resolution": "{}x240"}}"#, 320 + 16 * (thread % 8))),
                        2 => (CONTROLS, r#"{"Brightness": 0.1}"#.to_owned()),
                        _ => (SETTINGS, format!(r#"{{"frame_rate": {}, "orientation": "rotate-180"}}"#, 20 + i)),
                    };
                    let answer = change(daemon, target, &body);
                    let kind = match answer.status {
                        200 => 0,
                        429 => {
                            assert_eq!(answer.header("retry-after"), Some("1"));
                            1
                        }
                        _ => panic!("{body}: {} {}", answer.status, answer.text()),
                    };
                    counts[kind].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let seconds = start.elapsed().as_secs() as usize;
    assert!(counts[0].load(Ordering::Relaxed) >= 32, "{counts:?}");
    let reopened = reopened(&daemon) - before;
    assert!((1..=seconds + 2).contains(&reopened), "opened {reopened} times in {seconds} s");
    // What is said to be in force is what the camera does.
    let width = settings(&daemon)["resolution"].as_str().unwrap().split_once('x').unwrap().0.to_owned();
    daemon.stream("/stream").until("the last size", |part| part.size().starts_with(&width));
}

#[test]
fn a_flood_of_size_changes_leaves_a_viewer_its_pictures() {
    const RATE: f64 = 10.0;
    let daemon = patient().set("camera.frame_rate=10").faults("{kind: open-takes, for: 250ms}").spawn();
    let mut stream = daemon.stream("/stream");
    stream.part();
    let (before, over) = (reopened(&daemon), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (daemon, over) = (&daemon, &over);
            scope.spawn(move || {
                for i in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let body = format!(r#"{{"resolution": "{}x240"}}"#, 320 + 16 * ((thread * 3 + i) % 10));
                    let status = change(daemon, SETTINGS, &body).status;
                    assert!(matches!(status, 200 | 429), "{status}");
                }
            });
        }
        let start = Instant::now();
        let mut frames = 0;
        while start.elapsed() < Duration::from_secs(8) {
            stream.part();
            frames += 1;
        }
        let seconds = start.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        let reopened = reopened(&daemon) - before;
        assert!(reopened >= 3, "{reopened}: was there a flood?");
        assert!(reopened as f64 <= seconds + 1.0, "opened {reopened} times in {seconds} s");
        assert!(f64::from(frames) >= 0.6 * RATE * seconds, "{frames} frames in {seconds} s, opened {reopened} times");
    });
}

#[test]
fn everybody_gets_what_was_asked_for_but_whose_key_the_camera_refuses() {
    let daemon = patient()
        .faults("{kind: open-takes, for: 100ms}, {kind: refuses, resolution: 800x600}, {kind: refuses, frame_rate: 7}")
        .spawn();
    let mut stream = daemon.stream("/stream");
    stream.part();
    for (round, frame_rate) in [(0, 21), (1, 22)] {
        // While this is being made, the others gather.
        daemon.patch(SETTINGS, &format!(r#"{{"orientation": "normal", "frame_rate": {}}}"#, 10 + round), 200);
        let before = reopened(&daemon);
        let asked = [
            (200, format!(r#"{{"frame_rate": {frame_rate}}}"#)),
            (422, r#"{"resolution": "800x600", "quality": 11}"#.to_owned()),
            (200, r#"{"orientation": "flip-vertical"}"#.to_owned()),
            (200, r#"{"quality": 33}"#.to_owned()),
        ];
        std::thread::scope(|scope| {
            for (status, body) in asked {
                let daemon = &daemon;
                scope.spawn(move || {
                    let told = daemon.patch(SETTINGS, &body, status);
                    if status == 422 {
                        let error = told["error"].as_str().unwrap();
                        assert!(error.contains("cannot deliver 800x600"), "{error}");
                    } else {
                        let wanted: Value = serde_json::from_str(&body).unwrap();
                        for (key, value) in wanted.as_object().unwrap() {
                            assert_eq!(&told[key], value, "{body}: {told}");
                        }
                    }
                });
            }
        });
        let told = settings(&daemon);
        assert_eq!((&told["frame_rate"], &told["orientation"]), (&frame_rate.into(), &"flip-vertical".into()));
        assert_eq!((&told["quality"], &told["resolution"]), (&33.into(), &"320x240".into()));
        // They may have come in two groups; each costs a few openings at most.
        let reopened = reopened(&daemon) - before;
        assert!(reopened <= 8, "opened {reopened} times");
    }
    // Alone: refused, and it goes on as before.
    let told = daemon.patch(SETTINGS, r#"{"frame_rate": 7}"#, 422);
    assert!(told["error"].as_str().unwrap().contains("320x240 at 7 fps"), "{told}");
    assert_eq!(settings(&daemon)["frame_rate"], 22);
    let behind = stream.part().sequence();
    stream.until("pictures in the same connection", |part| part.sequence() > behind + 20);
    assert!(!daemon.log().contains("no picture"), "{}", daemon.log());
}

#[test]
fn reading_waits_for_no_opening() {
    let daemon = patient().faults("{kind: open-takes, for: 3s}").spawn();
    daemon.stream("/stream").part();
    let before = daemon.get(CONTROLS).text();
    daemon.patch(CONTROLS, r#"{"Brightness": 0.5}"#, 200);
    let done = AtomicBool::new(false);
    let mut read = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            daemon.patch(SETTINGS, r#"{"resolution": "640x360"}"#, 200);
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let (controls, settings) = (daemon.get(CONTROLS), settings(&daemon));
            assert_eq!(controls.status, 200);
            assert!(controls.text().len().abs_diff(before.len()) < 20, "{}", controls.text());
            // What is in force.
            if settings["resolution"] == "320x240" && !done.load(Ordering::Relaxed) {
                read += 1;
            }
        }
    });
    assert!(read >= 3, "read {read} times while the camera was opened");
    assert_eq!(settings(&daemon)["resolution"], "640x360");
}

#[test]
fn a_stopped_camera_is_never_called_absent_and_reading_does_not_start_it() {
    let daemon = patient().set("camera.idle=stop").set("camera.idle_after=0s").spawn();
    let stopped = || daemon.wait_for("the camera to stop", |status| status["camera"]["running"] == false);
    let captured = stopped()["frames"]["captured"].clone();
    for _ in 0..5 {
        assert_eq!(daemon.get(CONTROLS).status, 200);
    }
    let status = daemon.status();
    assert_eq!((&status["frames"]["captured"], &status["camera"]["running"]), (&captured, &false.into()));
    // At whatever moment of its stopping somebody asks.
    for i in 0..40 {
        let (target, body) = match i % 3 {
            0 => (CONTROLS, r#"{"Brightness": 0.2}"#),
            1 => (SETTINGS, r#"{"quality": 55}"#),
            _ => (CONTROLS, r#"{"Brightness": 0.3}"#),
        };
        daemon.patch(target, body, 200);
        std::thread::sleep(Duration::from_millis(i % 7));
    }
    stopped();
    daemon.patch(SETTINGS, r#"{"resolution": "160x120"}"#, 200);
    assert_eq!(daemon.stream("/stream").part().size(), "160x120");
}

#[test]
fn what_was_asked_for_without_a_camera_is_given_up_if_it_cannot() {
    let daemon = patient().faults("{kind: disappear, at: 20, for: 2s}, {kind: refuses, resolution: 800x600}").spawn();
    let mut stream = daemon.stream("/stream");
    daemon.wait_for("no camera", |status| status["health"]["state"] == "degraded");
    daemon.patch(CONTROLS, r#"{"Brightness": 0.2}"#, 503);
    assert_eq!(daemon.get(CONTROLS).status, 503);
    assert_eq!(daemon.patch(SETTINGS, r#"{"resolution": "800x600"}"#, 200)["resolution"], "800x600");
    let behind = stream.part().sequence();
    daemon.wait_for("the camera", |status| status["health"]["state"] == "streaming");
    assert_eq!(settings(&daemon)["resolution"], "320x240", "it goes on as before");
    let start = Instant::now();
    stream.until("its pictures", |part| part.sequence() > behind + 20);
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn settings_can_be_changed_again_and_again_on_a_camera_that_opens_slowly() {
    let daemon = patient().faults("{kind: open-takes, for: 1500ms}").spawn();
    let mut stream = daemon.stream("/stream");
    stream.part();
    std::thread::scope(|scope| {
        scope.spawn(|| daemon.patch(SETTINGS, r#"{"frame_rate": 10}"#, 200));
        // Asked for while that is being made.
        std::thread::sleep(Duration::from_millis(200));
        daemon.patch(SETTINGS, r#"{"resolution": "160x120"}"#, 200);
    });
    daemon.patch(SETTINGS, r#"{"resolution": "640x360"}"#, 200);
    stream.until("the last size", |part| part.size() == "640x360");
    assert_eq!(settings(&daemon)["frame_rate"], 10);
}

#[test]
fn everybody_is_answered_however_many_openings_it_takes() {
    let daemon = patient().faults("{kind: open-takes, for: 1s}, {kind: refuses, resolution: 160x120}").spawn();
    let mut stream = daemon.stream("/stream");
    stream.part();
    daemon.patch(SETTINGS, r#"{"frame_rate": 15}"#, 200);
    let asked = [
        (422, r#"{"resolution": "160x120"}"#),
        (200, r#"{"frame_rate": 10}"#),
        (200, r#"{"orientation": "rotate-180"}"#),
        (200, r#"{"quality": 40}"#),
    ];
    std::thread::scope(|scope| {
        for (status, body) in asked {
            let daemon = &daemon;
            scope.spawn(move || daemon.patch(SETTINGS, body, status));
        }
    });
    let told = settings(&daemon);
    assert_eq!((&told["frame_rate"], &told["orientation"]), (&10.into(), &"rotate-180".into()));
    assert_eq!((&told["quality"], &told["resolution"]), (&40.into(), &"320x240".into()));
    let behind = stream.part().sequence();
    stream.until("pictures in the same connection", |part| part.sequence() > behind + 5);
}
