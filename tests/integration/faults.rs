//! Each fault provoked against the running daemon, with viewers connected.

use std::time::{Duration, Instant};

use crate::support::{Start, Stream};

/// A placeholder is told by its size here: cameras in these tests are 640x480 and deliver larger pictures of bars.
fn is_placeholder(daemon: &crate::support::Daemon) -> bool {
    daemon.status()["frame"]["placeholder"] == true
}

/// Numbers of the frames a stream delivers up to the first placeholder and after it.
fn watch_through_fault(stream: &mut Stream, daemon: &crate::support::Daemon) -> Duration {
    let start = Instant::now();
    daemon.wait_for("a placeholder", |status| status["frame"]["placeholder"] == true);
    let fault = Instant::now();
    daemon.wait_for("the picture", |status| status["health"]["state"] == "streaming");
    let recovered = fault.elapsed();
    // The same connection goes on.
    let behind = stream.part().sequence();
    stream.until("a picture after the fault", |part| part.sequence() > behind + 5);
    assert!(start.elapsed() < Duration::from_secs(15));
    recovered
}

#[test]
fn a_camera_that_opens_late_is_waited_for() {
    // For six seconds: all that is looked at before it opens takes a busy machine a while.
    let daemon = Start::test_pattern().faults("{kind: open-fails, times: 6}").spawn();
    let mut stream = daemon.stream("/stream");
    let first = stream.part();
    assert!(is_placeholder(&daemon), "the first part tells what is going on");
    assert_eq!(first.size(), "320x240");
    let status = daemon.status();
    assert_eq!(status["health"]["state"], "degraded");
    assert!(status["health"]["reason"].as_str().unwrap().contains("scripted fault"), "{status}");
    let health = daemon.get("/healthz");
    assert_eq!(health.status, 503);
    assert!(health.text().contains("scripted fault"), "{}", health.text());
    let snapshot = daemon.get("/snapshot");
    assert_eq!((snapshot.status, snapshot.header("content-type")), (503, Some("image/jpeg")));
    assert!(snapshot.header("x-reason").unwrap().contains("scripted fault"));
    pinhole::jpeg::inspect(&snapshot.body).unwrap();
    watch_through_fault(&mut stream, &daemon);
    assert_eq!(daemon.get("/snapshot").status, 200);
}

#[test]
fn a_camera_on_hold_is_left_alone() {
    let reason = "A call to the camera hung 3 times, also after a reboot.";
    // It would hang once opened.
    let daemon = Start::test_pattern().faults("{kind: hang, at: 1, for: 1h}").hold(reason).spawn();
    let mut stream = daemon.stream("/stream");
    assert_eq!(stream.part().size(), "320x240");
    assert!(is_placeholder(&daemon));
    let status = daemon.wait_for("degraded", |status| status["health"]["state"] == "degraded");
    assert_eq!(status["health"]["reason"], reason);
    assert_eq!(status["health"]["cause"], "left_alone");
    assert!(daemon.get("/metrics").text().contains("pinhole_cause{cause=\"left_alone\"} 1\n"));
    assert_eq!(daemon.get("/healthz").status, 503);
    // Attempts to open it go on, and end there.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(stream.part().size(), "320x240");
    assert_eq!(daemon.status()["frames"]["captured"], 0);
}

#[test]
fn a_hold_ends_by_itself() {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let until = uptime.split('.').next().unwrap().parse::<u64>().unwrap() + 4;
    let daemon = Start::test_pattern()
        .hold("A call to the camera hung.")
        .environment("PINHOLE_HOLD_UNTIL", until.to_string())
        .spawn();
    let mut stream = daemon.stream("/stream");
    stream.part();
    assert!(is_placeholder(&daemon));
    daemon.wait_for("the camera", |status| status["health"]["state"] == "streaming");
    daemon.wait_for_log("it is tried again");
    assert!(!is_placeholder(&daemon), "{}", daemon.log());
    // Over before the program started: nothing is held.
    let daemon =
        Start::test_pattern().hold("A call to the camera hung.").environment("PINHOLE_HOLD_UNTIL", "1").spawn();
    daemon.wait_for("the camera", |status| status["health"]["state"] != "starting");
    assert_eq!(daemon.get("/healthz").status, 200);
}

#[test]
fn a_placeholder_is_a_picture_for_whoever_says_so() {
    let without = Start::with(&["camera.source=replay", "camera.replay.path=/nonexistent/frames"]).spawn();
    // The capture thread cannot draw one while a call hangs.
    let hanging = Start::test_pattern().faults("{kind: open-takes, for: 1h}").spawn();
    assert_eq!(without.get("/snapshot?placeholder=0").status, 503);
    for (daemon, target, reason) in [
        (&without, "/snapshot?placeholder=1", "/nonexistent/frames"),
        (&without, "/?action=snapshot&placeholder", "/nonexistent/frames"),
        (&without, "/webcam/snapshot.jpg?placeholder=1", "/nonexistent/frames"),
        (&hanging, "/snapshot?placeholder=1", "the camera"),
    ] {
        let snapshot = daemon.get(target);
        assert_eq!((snapshot.status, snapshot.header("content-type")), (200, Some("image/jpeg")), "{target}");
        let told = snapshot.header("x-reason").unwrap();
        assert!(told.contains(reason), "{target}: {told}");
        assert_eq!(snapshot.header("retry-after"), None);
        pinhole::jpeg::inspect(&snapshot.body).unwrap();
    }
    // Where there is a picture it changes nothing.
    let daemon = Start::test_pattern().spawn();
    let snapshot = daemon.get("/snapshot?placeholder=1");
    assert!(snapshot.status == 200 && snapshot.header("x-reason").is_none());
}

#[test]
fn an_unplugged_camera_comes_back_in_the_same_connection() {
    let daemon = Start::test_pattern().faults("{kind: disappear, at: 30, for: 2s}").spawn();
    let mut stream = daemon.stream("/stream");
    for _ in 0..20 {
        stream.part();
    }
    let recovered = watch_through_fault(&mut stream, &daemon);
    assert!(recovered < Duration::from_secs(5), "{recovered:?}");
    let status = daemon.status();
    assert_eq!(status["health"]["state"], "streaming");
    daemon.wait_for_log("was disconnected");
    assert!(!daemon.get("/metrics").text().contains("pinhole_camera_reopened_total 0\n"));
}

#[test]
fn a_stalled_camera_is_opened_again() {
    let daemon = Start::test_pattern().set("camera.stall_timeout=1s").faults("{kind: stall, at: 30, for: 3s}").spawn();
    let mut stream = daemon.stream("/stream");
    watch_through_fault(&mut stream, &daemon);
    daemon.wait_for_log("sent no frame for 1 s");
}

#[test]
fn damaged_frames_are_dropped_and_counted() {
    let daemon = Start::test_pattern().faults("{kind: truncate, at: 10}, {kind: truncate, at: 12}").spawn();
    let mut stream = daemon.stream("/stream");
    // Every part that arrives is checked to be a whole JPEG.
    stream.until("frames after the damaged ones", |part| part.sequence() > 20);
    assert_eq!(daemon.status()["frames"]["dropped"], 2);
    // Told of once: a loose cable must not fill the journal.
    assert_eq!(daemon.log().matches("frame dropped: truncated YUV420 frame").count(), 1, "{}", daemon.log());
}

#[test]
fn a_camera_that_sends_only_damage_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut jpeg = crate::support::padded_jpeg(1, 10_000);
    jpeg.truncate(5_000);
    std::fs::write(folder.path().join("1.jpg"), &jpeg).unwrap();
    let path = format!("camera.replay.path={}", folder.path().display());
    let daemon = Start::with(&["camera.source=replay", "camera.stall_timeout=1s", &path]).spawn();
    let snapshot = daemon.get("/snapshot");
    assert_eq!(snapshot.status, 503);
    let reason = snapshot.header("x-reason").unwrap();
    assert!(reason.contains("no usable frame") && reason.contains("truncated JPEG"), "{reason}");
    assert!(daemon.log().matches("frame dropped").count() < 10, "the journal is not filled:\n{}", daemon.log());
}

#[test]
fn the_picture_may_change_its_size() {
    let daemon = Start::test_pattern().faults("{kind: size, at: 20, to: 160x120}").spawn();
    let mut stream = daemon.stream("/stream");
    assert_eq!(stream.part().size(), "320x240");
    stream.until("the new size", |part| part.size() == "160x120");
    assert_eq!(daemon.get("/snapshot").status, 200);
}

#[test]
fn an_encoder_that_cannot_take_the_camera_is_named() {
    let daemon = Start::test_pattern().set("encoder.kind=passthrough").spawn();
    let snapshot = daemon.get("/snapshot");
    assert_eq!(snapshot.status, 503);
    let reason = snapshot.header("x-reason").unwrap();
    assert!(
        reason.contains("encoder.kind passthrough cannot take YUV420 frames: set encoder.kind to auto"),
        "{reason}"
    );
}

#[test]
fn the_journal_is_quiet_about_a_fault_that_lasts() {
    let daemon = Start::with(&["camera.source=replay", "camera.replay.path=/nonexistent/frames"]).spawn();
    let mut stream = daemon.stream("/stream");
    for _ in 0..4 {
        stream.part();
    }
    let log = daemon.log();
    assert_eq!(log.matches("no picture").count(), 1, "{log}");
    assert!(log.contains("camera.replay.path /nonexistent/frames: cannot be opened"), "{log}");
}

#[test]
fn placeholders_come_at_a_slow_rate() {
    let daemon = Start::with(&["camera.source=replay", "camera.replay.path=/nonexistent/frames"]).spawn();
    let mut stream = daemon.stream("/stream");
    let start = stream.part().received;
    for _ in 0..3 {
        stream.part();
    }
    let time = start.elapsed();
    assert!((2.0..6.0).contains(&time.as_secs_f64()), "three more in {time:?}");
}
