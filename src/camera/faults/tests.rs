use super::*;
use crate::config;

fn faults(yaml: &str) -> Vec<Fault> {
    serde_yaml::from_str(yaml).unwrap()
}

fn camera(yaml: &str) -> (Faulty, Rc<RefCell<Script>>) {
    let script = Rc::new(RefCell::new(Script::new(faults(yaml))));
    let inner = TestPattern::new(SIZE, 120.0, 1);
    (Faulty::new(Box::new(inner), Rc::clone(&script)), script)
}

const SIZE: Size = Size { width: 64, height: 48 };
const SHORT: Duration = Duration::from_millis(20);

#[test]
fn opening_fails_as_often_as_scripted() {
    let mut script = Script::new(faults("[{kind: open-fails, times: 2}]"));
    assert!(script.opening("x", SIZE, 30.0).unwrap_err().to_string().contains("scripted"));
    assert!(script.opening("x", SIZE, 30.0).is_err());
    assert!(script.opening("x", SIZE, 30.0).is_ok());
}

#[test]
fn a_stall_gives_nothing_but_returns() {
    let (mut camera, _) = camera("[{kind: stall, at: 2, for: 100ms}]");
    let buffer = camera.acquire(SHORT, None).unwrap().unwrap();
    camera.queue(buffer).unwrap();
    let stalled = Instant::now();
    while camera.acquire(SHORT, None).unwrap().is_none() {}
    assert!(stalled.elapsed() >= Duration::from_millis(100));
}

#[test]
fn a_camera_that_disappeared_stays_away_for_a_while() {
    let (mut camera, script) = camera("[{kind: disappear, at: 1, for: 50ms}]");
    assert!(matches!(camera.acquire(SHORT, None), Err(CameraError::Unplugged { .. })));
    assert!(matches!(script.borrow_mut().opening("x", SIZE, 30.0), Err(CameraError::NoCamera)));
    std::thread::sleep(Duration::from_millis(60));
    assert!(script.borrow_mut().opening("x", SIZE, 30.0).is_ok());
}

#[test]
fn a_truncated_frame_is_half_a_frame() {
    let (mut camera, _) = camera("[{kind: truncate, at: 2}]");
    let mut lengths = Vec::new();
    for _ in 0..3 {
        let buffer = camera.acquire(SHORT, None).unwrap().unwrap();
        lengths.push(camera.view(buffer).plane(0).unwrap().data.len());
        camera.queue(buffer).unwrap();
    }
    assert_eq!(lengths, [64 * 48, 64 * 24, 64 * 48]);
}

#[test]
fn the_size_changes_on_the_way() {
    let (mut camera, _) = camera("[{kind: size, at: 2, to: 32x16}]");
    let mut sizes = Vec::new();
    while sizes.len() < 3 {
        if let Some(buffer) = camera.acquire(SHORT, None).unwrap() {
            sizes.push(camera.view(buffer).size.to_string());
            camera.queue(buffer).unwrap();
        }
    }
    assert_eq!(sizes, ["64x48", "32x16", "32x16"]);
}

#[test]
fn faults_need_a_camera_of_ours() {
    let sources = config::Sources {
        user_file: Some("/nonexistent".into()),
        set: vec!["camera.faults=[{kind: truncate, at: 1}]".to_owned()],
        ..Default::default()
    };
    let error = config::load(&sources).unwrap_err().to_string();
    assert!(error.contains("camera.faults is for tests"), "{error}");
}

#[test]
fn opening_takes_time_and_refuses_what_is_scripted() {
    let mut script = Script::new(faults(
        "[{kind: open-takes, for: 30ms}, {kind: refuses, resolution: 64x48, frame_rate: 15}, {kind: refuses, frame_rate: 7}]",
    ));
    let other = Size { width: 32, height: 16 };
    let start = Instant::now();
    assert!(script.opening("x", SIZE, 30.0).is_ok() && start.elapsed() >= Duration::from_millis(30));
    assert!(script.opening("x", other, 15.0).is_ok());
    for (size, rate) in [(SIZE, 15.0), (other, 7.0)] {
        let error = script.opening("x", size, rate).unwrap_err().to_string();
        assert_eq!(error, format!("camera x cannot deliver {size} at {rate} fps: scripted fault"));
    }
}
