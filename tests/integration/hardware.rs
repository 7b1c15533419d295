//! The hardware encoder: real code of ours down to the system call, below it a stand-in for the Pi's codec
//! (`tests/instruments/v4l2_standin`), which ends the daemon where it breaks a rule of V4L2.

use std::time::{Duration, Instant};

use crate::support::{Daemon, Decoded, Part, Start, Stream, frame_rate, slowness};

/// Frames per second that this machine can make and encode.
fn rate() -> u32 {
    30 / slowness()
}

fn start(standin: &str) -> Start {
    let rate = format!("camera.frame_rate={}", rate());
    Start::with(&["camera.source=test-pattern", "camera.resolution=640x480", &rate]).standin(standin)
}

/// Reads parts and decodes them: each must be a picture of the test pattern, newer than the one before.
fn watch(stream: &mut Stream, parts: usize) -> Vec<Part> {
    let mut last = None;
    let check = |part: Part| {
        let number = Decoded::of(&part.jpeg).frame_number();
        assert!(last.is_none_or(|last| number > last), "{number} after {last:?}");
        last = Some(number);
        part
    };
    (0..parts).map(|_| stream.part()).map(check).collect()
}

fn encoder(daemon: &Daemon) -> (String, String) {
    let status = daemon.status();
    let text = |name: &str| status["encoder"][name].as_str().unwrap_or_default().to_owned();
    (text("kind"), text("reason"))
}

#[test]
fn frames_go_through_the_hardware() {
    let mut daemon = start("").spawn();
    let mut stream = daemon.stream("/stream");
    let parts = watch(&mut stream, 60);
    let status = daemon.status();
    assert_eq!(status["encoder"]["kind"], "v4l2-m2m");
    assert_eq!(status["encoder"]["device"], "/dev/video31", "JPEG with a quality is better than MJPEG with a bit rate");
    assert_eq!(status["encoder"]["memory"], "copy", "the test pattern has no dma-bufs");
    // The encoder is quick enough; only a machine that stands still for a moment fills it.
    let count = |name: &str| status["frames"][name].as_u64().unwrap();
    assert!(count("dropped") <= count("captured") / 4, "{status}");
    assert!(count("captured") - count("encoded") - count("dropped") <= 3, "all are accounted for: {status}");
    let fps = frame_rate(&parts);
    assert!(fps > f64::from(rate()) * 0.83, "{fps} fps: {status}");
    daemon.terminate();
    let report = daemon.report();
    assert!(report["violation"].is_null() && report["jpegs"].as_u64().unwrap() >= 60, "{report:#}");
    assert_eq!(report["controls"][0]["value"], 80, "{report:#}");
}

#[test]
fn any_size_and_alignment_gives_a_right_picture() {
    for (size, standin) in [
        ("640x360", ""),
        ("1280x720", ""),
        ("1920x1080", ""),
        ("642x482", "stride_align=64"),
        ("1000x562", "stride_align=128;height_align=16"),
        ("640x480", "stride_align=1024;height_align=64"),
        ("641x481", ""),
        ("128x98", "sizeimage_min=1000000"),
    ] {
        let mut daemon = start(standin).set(format!("camera.resolution={size}")).spawn();
        let mut stream = daemon.stream("/stream");
        for _ in 0..3 {
            let picture = Decoded::of(&stream.part().jpeg);
            assert_eq!(picture.size.to_string(), size, "{standin}");
            // Bars of known brightness: a wrong stride or plane would shear them.
            let (width, height) = (picture.size.width, picture.size.height);
            let bar = picture.at(width * 13 / 14, height / 2);
            assert!(bar.abs_diff(35) < 12 || bar > 200, "{size} {standin}: blue bar is {bar}");
            picture.frame_number();
        }
        assert_eq!(encoder(&daemon).0, "v4l2-m2m", "{size} {standin}: {:?}\n{}", encoder(&daemon), daemon.log());
        daemon.terminate();
        assert!(daemon.report()["violation"].is_null(), "{size} {standin}");
    }
}

#[test]
fn the_bit_rate_stands_for_quality_where_there_is_none() {
    let mut daemon = start("nodes=10:decoder+11:encoder+12:isp").spawn();
    let mut stream = daemon.stream("/stream");
    watch(&mut stream, 20);
    assert_eq!(daemon.status()["encoder"]["device"], "/dev/video11");
    daemon.patch("/api/v1/settings", r#"{"quality": 20}"#, 200);
    watch(&mut stream, 5);
    daemon.terminate();
    let report = daemon.report();
    let rates: Vec<u64> =
        report["controls"].as_array().unwrap().iter().map(|control| control["value"].as_u64().unwrap()).collect();
    assert!(rates.len() == 2 && rates[0] > 2 * rates[1], "{report:#}");
}

#[test]
fn quality_changes_while_it_runs() {
    let mut daemon = start("").spawn();
    let mut stream = daemon.stream("/stream");
    watch(&mut stream, 10);
    let before = stream.part().jpeg.len();
    let answer = daemon.patch("/api/v1/settings", r#"{"quality": 10}"#, 200);
    assert_eq!((&answer["quality"], &answer["lasts"]), (&10.into(), &"until restart".into()));
    let small = stream.until("smaller pictures", |part| part.jpeg.len() < before * 2 / 3);
    Decoded::of(&small.jpeg).frame_number();
    assert_eq!(daemon.status()["encoder"]["quality"], 10);
    daemon.terminate();
    let report = daemon.report();
    assert_eq!(report["opens"]["/dev/video31"], 1, "nothing was opened again: {report:#}");
    let last = report["controls"].as_array().unwrap().last().unwrap().clone();
    assert!(last["value"] == 10 && last["encodes"].as_u64().unwrap() > 0, "{report:#}");
}

/// Spoiled pictures are dropped and counted; the hardware goes on.
#[test]
fn spoiled_pictures_are_dropped() {
    for fault in ["not_jpeg", "empty", "error_flag", "truncated", "capture_small", "split"] {
        // Slow enough that the encoder is never full, however busy the machine is: that would count as well.
        let mut daemon = start(&format!("{fault}@4;{fault}@6:2")).set("camera.frame_rate=8").spawn();
        let mut stream = daemon.stream("/stream");
        watch(&mut stream, 12);
        let status = daemon.status();
        assert_eq!(status["encoder"]["kind"], "v4l2-m2m", "{fault}: {status:#}");
        let dropped = status["frames"]["dropped"].as_u64().unwrap();
        assert!((3..=6).contains(&dropped), "{fault}: {dropped} dropped\n{}", daemon.log());
        daemon.terminate();
        assert!(daemon.report()["violation"].is_null(), "{fault}");
    }
}

/// A JPEG larger than its buffer comes in two; the next picture is the next frame all the same.
#[test]
fn what_is_left_of_a_spoiled_picture_is_not_taken_for_the_next() {
    let daemon = start("split@2;split@4;split@6").set("camera.frame_rate=4").spawn();
    let mut stream = daemon.stream("/stream");
    watch(&mut stream, 8);
    let status = daemon.status();
    let mut ages: Vec<_> = stream.parts(9).iter().map(Part::age).collect();
    ages.sort_unstable();
    // Encoding takes 2 ms: a picture that waits for the next frame is 250 ms older.
    assert!(ages[4] < Duration::from_millis(175), "{ages:?}");
    let dropped = status["frames"]["dropped"].as_u64().unwrap();
    assert!((3..=6).contains(&dropped), "{status:#}");
}

#[test]
fn exif_thumbnails_are_left_out() {
    for exif in ["plain", "thumbnail"] {
        let daemon = start(&format!("exif={exif}")).spawn();
        let jpeg = daemon.stream("/stream").part().jpeg;
        Decoded::of(&jpeg).frame_number();
        let ends = jpeg.windows(2).filter(|pair| *pair == [0xff, 0xd9]).count();
        assert_eq!(ends, 1, "{exif}: a reader that cuts at the first end of an image gets the picture");
        assert!(!jpeg.windows(4).any(|word| word == b"Exif"), "{exif}");
    }
}

/// The device is closed and opened again, and viewers stay.
#[test]
fn a_device_that_fails_once_is_opened_again() {
    for (fault, words) in [
        ("hang@20", "has not encoded a frame within 1s"),
        ("eio@20", "failed for /dev/video31"),
        ("eos@20", "has ended its stream"),
        ("gone@20:0", "No such device"),
        ("bad_size@20", "gives 320x480 on its CAPTURE queue instead of 640x480"),
    ] {
        let mut daemon = start(&format!("{fault};nodes=31:image")).spawn();
        let mut stream = daemon.stream("/stream");
        watch(&mut stream, 60);
        let (kind, reason) = encoder(&daemon);
        assert_eq!(kind, "v4l2-m2m", "{fault}: {reason}\n{}", daemon.log());
        daemon.wait_for_log(words);
        let metrics = daemon.get("/metrics").text();
        assert!(metrics.contains("pinhole_encoder_failures_total 1\n"), "{fault}:\n{metrics}");
        daemon.terminate();
        let report = daemon.report();
        assert_eq!(report["opens"]["/dev/video31"], 2, "{fault}: {report:#}");
        assert!(report["violation"].is_null(), "{fault}: {report:#}");
    }
}

#[test]
fn after_repeated_failures_the_software_encoder_takes_over() {
    for (fault, words) in [
        ("hang@10:forever", "has not encoded a frame within 1s"),
        ("eio@10:forever", "failed for /dev/video31"),
        ("error_flag@5:forever", "marked a picture as damaged"),
        ("eos@1:forever", "has ended its stream"),
    ] {
        let mut daemon = start(&format!("{fault};nodes=31:image")).spawn();
        let mut stream = daemon.stream("/stream");
        let status = daemon.wait_for("the software encoder", |status| status["encoder"]["kind"] == "software");
        let reason = status["encoder"]["reason"].as_str().unwrap();
        assert!(reason.contains("the hardware encoder failed") && reason.contains(words), "{fault}: {reason}");
        watch(&mut stream, 20);
        assert_eq!(daemon.status()["health"]["state"], "streaming");
        daemon.terminate();
        assert!(daemon.report()["violation"].is_null(), "{fault}");
    }
}

#[test]
fn what_cannot_be_set_up_is_named() {
    for (standin, words) in [
        ("wrong_fourcc=H264", "gives H264 640x480 on its CAPTURE queue instead of JPEG 640x480"),
        (
            "enomem_reqbufs",
            "VIDIOC_REQBUFS failed for /dev/video31: Cannot allocate memory (os error 12): there is no memory for 2 buffers of",
        ),
        ("busy=streamon", "VIDIOC_STREAMON failed for /dev/video31"),
        ("nodes=none", "no V4L2 memory-to-memory device makes JPEG from YUV420"),
        ("nodes=10:decoder+12:isp", "no V4L2 memory-to-memory device makes JPEG from YUV420"),
    ] {
        let mut daemon = start(standin).spawn();
        let mut stream = daemon.stream("/stream");
        watch(&mut stream, 5);
        let (kind, reason) = encoder(&daemon);
        assert!(kind == "software" && reason.contains(words), "{standin}: {kind}, {reason}");
        daemon.terminate();
        // And where it must be the hardware's, the picture says why there is none.
        let daemon = start(standin).set("encoder.kind=v4l2-m2m").spawn();
        let snapshot = daemon.get("/snapshot");
        let reason = snapshot.header("x-reason").unwrap_or_default().to_owned();
        assert!(snapshot.status == 503 && reason.contains(words), "{standin}: {reason}");
    }
}

#[test]
fn a_named_device_is_taken_and_a_wrong_one_refused() {
    let daemon = start("").set("encoder.device=/dev/video11").spawn();
    watch(&mut daemon.stream("/stream"), 5);
    assert_eq!(daemon.status()["encoder"]["device"], "/dev/video11");
    drop(daemon);
    for (device, words) in [
        ("/dev/video12", "/dev/video12 (encoder.device) makes no JPEG from YUV420"),
        ("/dev/video9", "open failed for /dev/video9: No such file"),
    ] {
        let daemon = start("").set("encoder.kind=v4l2-m2m").set(format!("encoder.device={device}")).spawn();
        let reason = daemon.get("/snapshot").header("x-reason").unwrap_or_default().to_owned();
        assert!(reason.contains(words), "{reason}");
    }
}

#[test]
fn storms_of_readiness_and_signals_cost_little() {
    let daemon = start("eagain=100000;eintr=7").spawn();
    let mut stream = daemon.stream("/stream");
    watch(&mut stream, 30);
    let cpu = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
        let fields: Vec<u64> =
            stat.rsplit(')').next().unwrap().split_whitespace().filter_map(|field| field.parse().ok()).collect();
        // utime and stime, in ticks of 10 ms; the state is no number.
        fields[10] + fields[11]
    };
    let (before, start) = (cpu(), Instant::now());
    watch(&mut stream, 60);
    let share = (cpu() - before) as f64 / 100.0 / start.elapsed().as_secs_f64();
    assert!(share < 0.8, "the storm takes {share:.2} of a core");
    assert_eq!(encoder(&daemon).0, "v4l2-m2m");
}

#[test]
fn nobody_watching_encodes_nothing() {
    let daemon = start("").set("camera.idle_after=0s").spawn();
    watch(&mut daemon.stream("/stream"), 5);
    daemon.wait_for("idle", |status| status["health"]["state"] == "idle");
    let encodes = || daemon.report()["encodes_started"].as_u64().unwrap();
    let before = encodes();
    std::thread::sleep(Duration::from_secs(1));
    // What was under way may be in the report a little later.
    let more = encodes() - before;
    assert!(more <= 2, "{more} pictures encoded for nobody");
    watch(&mut daemon.stream("/stream"), 5);
}

#[test]
fn a_slow_encoder_drops_frames_and_stays_recent() {
    let daemon = start(&format!("delay_us={}", 100_000 * slowness())).spawn();
    let mut stream = daemon.stream("/stream");
    stream.part();
    let mut ages: Vec<_> = stream.parts(15).iter().map(Part::age).collect();
    ages.sort_unstable();
    // Two frames in the encoder and the one on its way.
    assert!(ages[7] < Duration::from_millis(500) * slowness(), "{ages:?}");
    assert!(daemon.status()["frames"]["dropped"].as_u64().unwrap() > 10);
}

#[test]
fn the_software_encoder_keeps_to_its_share_and_asks_for_less() {
    // A load so small that even this machine cannot keep 720p at 60 fps within it.
    let load = format!("encoder.software_load={}", 5 * slowness());
    let daemon = start("wrong_fourcc=H264")
        .set("camera.resolution=1280x720")
        .set("camera.frame_rate=60")
        .set(&load)
        .set("encoder.software_frame_rate=60")
        .spawn();
    let mut stream = daemon.stream("/stream");
    let part = stream.until("smaller pictures", |part| part.size() != "1280x720");
    // How small depends on the machine.
    assert!(["640x360", "320x180", "160x90"].contains(&part.size().as_str()), "{}", part.size());
    let told = format!("at 1280x720: {} from now on", part.size());
    daemon.wait_for_log(&told);
    // A change asks the camera anew.
    let answer = daemon.patch("/api/v1/settings", r#"{"resolution": "800x600"}"#, 200);
    assert_eq!(answer["camera"]["width"], 800);
    drop(stream);
    drop(daemon);
    // Without a hardware encoder that failed, pictures stay as large as they were asked for, only fewer.
    let daemon = start("nodes=none")
        .set("camera.resolution=1280x720")
        .set("camera.frame_rate=60")
        .set(&load)
        .set("encoder.software_frame_rate=60")
        .spawn();
    let mut stream = daemon.stream("/stream");
    let limit_of = |status: &serde_json::Value| status["encoder"]["rate_limit"].as_f64();
    daemon.wait_for("a limit", |status| limit_of(status).is_some_and(|limit| limit < 60.0));
    // The limit follows what the machine can do just now, so the largest one in force meanwhile counts.
    let (mut limit, mut parts) = (0.0_f64, Vec::new());
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) || parts.len() < 10 {
        limit = limit.max(limit_of(&daemon.status()).unwrap_or(60.0));
        parts.push(stream.part());
        assert_eq!(parts.last().unwrap().size(), "1280x720");
    }
    let fps = frame_rate(&parts);
    assert!(fps < limit * 1.5 + 2.0, "{fps} fps with a limit of {limit}");
}
