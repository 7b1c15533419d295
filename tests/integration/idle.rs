//! Nobody watching costs nothing, and whoever comes then sees the present.

use std::time::{Duration, Instant};

use crate::support::{Daemon, Start, unix_time};

/// CPU time of the process in nanoseconds and its context switches, over all threads.
fn cost(daemon: &Daemon) -> (u64, u64) {
    let (mut cpu, mut switches) = (0, 0);
    for task in std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap() {
        let task = task.unwrap().path();
        let read = |name: &str| std::fs::read_to_string(task.join(name)).unwrap_or_default();
        cpu += read("schedstat").split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        switches += read("status")
            .lines()
            .filter(|line| line.contains("ctxt_switches"))
            .filter_map(|line| line.split('\t').nth(1)?.parse::<u64>().ok())
            .sum::<u64>();
    }
    (cpu, switches)
}

#[test]
fn nobody_watching_costs_nothing() {
    let daemon = Start::test_pattern().set("camera.idle_after=0s").spawn();
    drop(daemon.stream("/stream").part());
    daemon.wait_for("idle", |status| status["health"]["state"] == "idle");
    // The status request itself must be over.
    std::thread::sleep(Duration::from_millis(500));
    let (cpu, switches) = cost(&daemon);
    let encoded = {
        std::thread::sleep(Duration::from_secs(4));
        let after = cost(&daemon);
        let (milliseconds, wakeups) = ((after.0 - cpu) as f64 / 4e6, (after.1 - switches) as f64 / 4.0);
        assert!(wakeups <= 10.0, "{wakeups} context switches per second");
        assert!(milliseconds <= 5.0, "{milliseconds} ms of CPU per second");
        daemon.status()["frames"]["encoded"].as_u64().unwrap()
    };
    assert_eq!(daemon.status()["frames"]["encoded"].as_u64().unwrap(), encoded);
    assert_eq!(daemon.get("/healthz").status, 200, "idle is healthy");
}

#[test]
fn the_first_viewer_after_a_pause_sees_the_present() {
    let daemon = Start::test_pattern().set("camera.idle_after=0s").spawn();
    let before = daemon.stream("/stream").part().sequence();
    daemon.wait_for("idle", |status| status["health"]["state"] == "idle");
    std::thread::sleep(Duration::from_secs(1));
    for _ in 0..2 {
        let asked = unix_time();
        let part = daemon.stream("/stream").part();
        let early = asked - part.timestamp();
        assert!(early < 0.5, "captured {early} s before it was asked for");
        assert!(part.sequence() > before);
        daemon.wait_for("idle", |status| status["health"]["state"] == "idle");
    }
    let snapshot = daemon.get("/snapshot");
    let age: u64 = snapshot.headers["x-age-ms"].parse().unwrap();
    assert!(snapshot.status == 200 && age < 500, "{age} ms old");
}

#[test]
fn run_goes_on_without_viewers() {
    let daemon = Start::test_pattern().set("camera.idle=run").set("camera.idle_after=0s").spawn();
    let first = daemon.status()["frames"]["encoded"].as_u64().unwrap();
    daemon.wait_for("more frames", |status| status["frames"]["encoded"].as_u64().unwrap() > first + 10);
    assert_eq!(daemon.status()["health"]["state"], "streaming");
}

#[test]
fn a_camera_that_may_stop_does_and_starts_for_whoever_comes() {
    let daemon = Start::test_pattern()
        .set("camera.idle=stop")
        .set("camera.idle_after=0s")
        .set("camera.warm_up=3")
        .faults("{kind: open-fails, times: 0}")
        .spawn();
    let status = daemon.wait_for("the camera to stop", |status| status["camera"]["running"] == false);
    assert_eq!(status["health"]["state"], "idle");
    assert_eq!(daemon.get("/healthz").status, 200);
    let captured = status["frames"]["captured"].as_u64().unwrap();
    // The requests themselves must be over.
    std::thread::sleep(Duration::from_millis(500));
    let (_, before) = cost(&daemon);
    std::thread::sleep(Duration::from_secs(2));
    assert!(cost(&daemon).1 - before < 20, "a stopped camera wakes nobody");
    assert_eq!(daemon.status()["frames"]["captured"].as_u64().unwrap(), captured);
    for _ in 0..2 {
        let asked = unix_time();
        let part = daemon.stream("/stream").part();
        assert!(part.timestamp() > asked, "the camera was stopped when it was asked for");
        daemon.wait_for("the camera to stop again", |status| status["camera"]["running"] == false);
    }
    daemon.wait_for_log("the camera is stopped");
}

#[test]
fn snapshots_wait_until_a_started_camera_has_settled() {
    let daemon = Start::test_pattern()
        .set("camera.idle=stop")
        .set("camera.idle_after=0s")
        .set("camera.frame_rate=20")
        .set("camera.warm_up=10")
        .spawn();
    daemon.wait_for("the camera to stop", |status| status["camera"]["running"] == false);
    let before = daemon.status()["frames"]["captured"].as_u64().unwrap();
    // A stream does not wait, a snapshot does.
    let mut stream = daemon.stream("/stream");
    let first = stream.part();
    let asked = Instant::now();
    let snapshot = daemon.get("/snapshot");
    assert_eq!(snapshot.status, 200);
    if asked.elapsed() > Duration::from_millis(900) {
        // On a busy machine so few frames may take a second, and no snapshot waits longer.
        return;
    }
    let frames = daemon.status()["frames"]["captured"].as_u64().unwrap() - before;
    assert!(frames >= 10, "a snapshot of frame {frames} after the start");
    let sequence: u64 = snapshot.headers["x-sequence"].parse().unwrap();
    assert!(sequence >= first.sequence() + 5, "{sequence} after {}", first.sequence());
}

#[test]
fn a_snapshot_of_a_slow_camera_waits_no_second_for_it_to_settle() {
    let daemon = Start::test_pattern()
        .set("camera.idle=stop")
        .set("camera.idle_after=0s")
        .set("camera.frame_rate=1")
        .set("camera.warm_up=60")
        .spawn();
    for _ in 0..2 {
        let before = daemon.wait_for("the camera to stop", |status| status["camera"]["running"] == false);
        let start = std::time::Instant::now();
        let snapshot = daemon.get("/snapshot");
        assert_eq!(snapshot.status, 200, "{}", snapshot.text());
        // At most two seconds' frames: the 60 it would take to settle are not waited for, nor the patience of 5 s.
        let frames =
            daemon.status()["frames"]["captured"].as_u64().unwrap() - before["frames"]["captured"].as_u64().unwrap();
        assert!(frames <= 3 && start.elapsed() < Duration::from_secs(4), "{frames} frames in {:?}", start.elapsed());
    }
}

#[test]
fn a_slow_camera_that_may_stop_does_not_before_its_picture_can_be_fetched() {
    let daemon = Start::test_pattern()
        .set("camera.idle=stop")
        .set("camera.idle_after=0s")
        .set("camera.warm_up=0")
        .set("camera.frame_rate=0.2")
        .set("camera.stall_timeout=60s")
        // The first picture is not there at once, as with a sensor.
        .faults("{kind: stall, at: 1, for: 3s}")
        .spawn();
    // Somebody who gives up before.
    drop(daemon.stream("/stream"));
    daemon.wait_for("the first picture", |status| status["frames"]["encoded"].as_u64() >= Some(1));
    // And asks again.
    let snapshot = daemon.get("/snapshot");
    assert_eq!(snapshot.status, 200, "{}", snapshot.text());
    daemon.wait_for("the camera to stop", |status| status["camera"]["running"] == false);
}
