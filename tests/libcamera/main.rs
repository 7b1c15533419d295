//! Against real libcamera and its virtual cameras (`tests/instruments/virtual.yaml`). Run by `make test-libcamera`.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::large_stack_arrays,
    reason = "tests stop at what is wrong"
)]
#![cfg(feature = "libcamera")]

#[allow(dead_code)]
#[path = "../integration/support.rs"]
mod support;

use std::time::{Duration, Instant};

use pinhole::camera::libcamera::{self, LibcameraSource};
use pinhole::camera::{Camera, CameraError, Orientation, StreamRequest};
use pinhole::frame::Size;
use support::Start;

const VGA: Size = Size { width: 640, height: 480 };
const HD: Size = Size { width: 1280, height: 720 };
/// Luma of the virtual pipeline's colour bars, left to right (BT.709, limited range): what the hardware's encoder makes a
/// JPEG of.
const LIMITED_BARS: [u8; 8] = [235, 210, 169, 144, 107, 82, 41, 16];
/// The same in the full range of a JPEG, which the software encoder makes of them where libcamera tells their range.
const FULL_BARS: [u8; 8] = [255, 226, 178, 149, 106, 77, 29, 0];

/// What the software encoder makes of the bars: before libcamera 0.6 the virtual pipeline tells no colour space.
fn bars() -> [u8; 8] {
    let version = pinhole::camera::libcamera_version().unwrap();
    let mut numbers = version.trim_start_matches('v').split('.').map(|number| number.parse::<u32>().unwrap());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    if version < (0, 6) { LIMITED_BARS } else { FULL_BARS }
}

fn request(size: Size) -> StreamRequest {
    StreamRequest { size, frame_rate: 30.0, buffer_count: 4, orientation: Orientation::Rotate0 }
}

fn start(id: &str, size: Size) -> Start {
    Start::with(&["camera.source=libcamera", &format!("camera.id={id}"), &format!("camera.resolution={size}")])
}

/// Decodes the luma of a picture.
fn luma(jpeg: &[u8]) -> (Vec<u8>, Size) {
    use turbojpeg_sys as tj;
    let size = pinhole::jpeg::inspect(jpeg).unwrap().size;
    let mut planes = [
        vec![0; (size.width * size.height) as usize],
        vec![0; (size.width * size.height / 4) as usize],
        vec![0; (size.width * size.height / 4) as usize],
    ];
    let mut pointers = planes.each_mut().map(Vec::as_mut_ptr);
    // SAFETY: three planes of a 4:2:0 picture of even size.
    unsafe {
        let handle = tj::tj3Init(tj::TJINIT_TJINIT_DECOMPRESS as i32);
        let (data, length, strides) = (jpeg.as_ptr(), jpeg.len() as _, std::ptr::null_mut());
        assert_eq!(tj::tj3DecompressToYUVPlanes8(handle, data, length, pointers.as_mut_ptr(), strides), 0);
        tj::tj3Destroy(handle);
    }
    let [luma, _, _] = planes;
    (luma, size)
}

fn assert_bars(jpeg: &[u8], expected_size: Size) {
    assert_these_bars(jpeg, expected_size, bars());
}

fn assert_these_bars(jpeg: &[u8], expected_size: Size, bars: [u8; 8]) {
    let (luma, size) = luma(jpeg);
    assert_eq!(size, expected_size);
    for (i, expected) in bars.iter().enumerate() {
        let x = (2 * i + 1) * size.width as usize / 16;
        for y in [size.height as usize / 4, size.height as usize / 2] {
            let got = luma[y * size.width as usize + x];
            assert!(got.abs_diff(*expected) <= 6, "bar {i} is {got}, not {expected}, at row {y} of {size}");
        }
    }
}

#[test]
fn cameras_are_listed_and_the_version_is_told() {
    let output = support::pinholed().arg("--list-cameras").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("Virtual0") && text.contains("NV12"), "{output:?}");
    let daemon = start("0", VGA).spawn();
    let version = daemon.status()["libcamera"].as_str().unwrap().to_owned();
    assert!(libcamera::version().contains(&version) && !version.is_empty(), "{version}");
}

#[test]
fn the_pattern_arrives_decoded_at_two_sizes() {
    for size in [VGA, HD] {
        let daemon = start("Virtual0", size).spawn();
        let mut stream = daemon.stream("/stream");
        for _ in 0..5 {
            assert_bars(&stream.part().jpeg, size);
        }
        assert_bars(&daemon.get("/snapshot").body, size);
        let status = daemon.status();
        assert_eq!(status["camera"]["pixel_format"], "NV12", "{status}");
        assert_eq!(status["encoder"]["kind"], "software");
        assert_eq!(status["camera"]["source"], "libcamera");
    }
}

#[test]
fn auto_takes_the_first_camera() {
    let daemon = Start::with(&["camera.source=auto", "camera.resolution=640x480"]).spawn();
    assert_bars(&daemon.stream("/stream").part().jpeg, VGA);
}

#[test]
fn thirty_frames_a_second_at_720p() {
    let daemon = start("Virtual0", HD).spawn();
    let mut stream = daemon.stream("/stream");
    stream.part();
    let start = Instant::now();
    let mut ages = Vec::new();
    for _ in 0..90 {
        ages.push(stream.part().age());
    }
    let rate = 90.0 / start.elapsed().as_secs_f64();
    assert!((28.0..32.0).contains(&rate), "{rate:.1} fps");
    ages.sort();
    assert!(ages[45] < Duration::from_millis(100), "frames are {:?} old", ages[45]);
}

#[test]
fn frame_rate_is_kept() {
    let daemon = start("Virtual0", VGA).set("camera.frame_rate=10").spawn();
    let mut stream = daemon.stream("/stream");
    stream.part();
    let start = Instant::now();
    for _ in 0..20 {
        stream.part();
    }
    let rate = 20.0 / start.elapsed().as_secs_f64();
    assert!((9.0..11.0).contains(&rate), "{rate:.1} fps");
}

#[test]
fn a_wrong_name_is_told_with_the_right_ones() {
    let daemon = start("imx219", VGA).spawn();
    let snapshot = daemon.get("/snapshot");
    assert_eq!(snapshot.status, 503);
    let reason = snapshot.header("x-reason").unwrap();
    assert!(reason.contains("camera.id \"imx219\" not found") && reason.contains("Virtual0"), "{reason}");
    assert_eq!(daemon.status()["health"]["state"], "degraded");
}

#[test]
fn the_journal_is_quiet() {
    let daemon = start("nowhere", VGA).spawn();
    // Three attempts or so to open the camera.
    daemon.wait_for("attempts", |_| daemon.log().contains("no picture") && daemon.get("/healthz").status == 503);
    std::thread::sleep(Duration::from_secs(2));
    let log = daemon.log();
    assert!(log.lines().all(|line| line.starts_with("pinholed: ")), "{log}");
    assert_eq!(log.matches("no picture").count(), 1, "{log}");
}

#[test]
fn an_orientation_it_cannot_do_is_done_by_the_encoder() {
    let daemon = start("Virtual0", VGA).set("camera.orientation=rotate-180").spawn();
    let jpeg = daemon.stream("/stream").part().jpeg;
    let (mut luma, size) = luma(&jpeg);
    luma.reverse();
    for (i, expected) in bars().iter().enumerate() {
        let got = luma[size.height as usize / 2 * size.width as usize + (2 * i + 1) * size.width as usize / 16];
        assert!(got.abs_diff(*expected) <= 6, "bar {i} is {got}, not {expected}");
    }
    assert_eq!(daemon.status()["camera"]["turned_by"], "encoder");
}

#[test]
fn settings_and_controls_change_while_it_runs() {
    let daemon = start("Virtual0", VGA).spawn();
    let mut stream = daemon.stream("/stream");
    stream.part();
    let answer = daemon.patch("/api/v1/settings", r#"{"resolution": "1280x720", "frame_rate": 15}"#, 200);
    assert_eq!(answer["camera"]["width"], 1280);
    stream.until("the new size", |part| part.size() == "1280x720");
    // The virtual pipeline has this control, with one value, and passes that over.
    let answer = daemon.patch("/api/v1/controls", r#"{"FaceDetectMode": "face-detect-mode-off"}"#, 200);
    let mode = answer["controls"].as_array().unwrap().iter().find(|c| c["name"] == "FaceDetectMode").unwrap().clone();
    assert_eq!((&mode["type"], &mode["value"]), (&"enum".into(), &0.into()), "{answer:#}");
    let answer = daemon.patch("/api/v1/controls", r#"{"FaceDetectMode": "FaceDetectModeFast"}"#, 422);
    assert!(answer["error"].as_str().unwrap().contains("must be one of 0 (FaceDetectModeOff)"), "{answer}");
    let answer = daemon.patch("/api/v1/controls", r#"{"Brightness": 1}"#, 422);
    assert!(answer["error"].as_str().unwrap().contains("FaceDetectMode"), "{answer}");
    stream.part();
}

#[test]
fn a_hardware_encoder_reads_libcameras_buffers() {
    // In libcamera 0.4 the bars move by a pixel with every frame; half a bar is too far.
    let frames = 30 / support::slowness();
    let mut daemon = start("Virtual0", VGA).standin("").set(format!("camera.frame_rate={frames}")).spawn();
    let mut stream = daemon.stream("/stream");
    for _ in 0..frames {
        assert_these_bars(&stream.part().jpeg, VGA, LIMITED_BARS);
    }
    let status = daemon.status();
    assert_eq!(status["encoder"]["kind"], "v4l2-m2m", "{status:#}");
    assert_eq!(status["encoder"]["memory"], "dma-buf", "{status:#}");
    daemon.terminate();
    let report = daemon.report();
    assert!(report["violation"].is_null() && report["jpegs"].as_u64().unwrap() >= u64::from(frames), "{report:#}");
}

#[test]
fn text_is_drawn_into_libcameras_buffers() {
    for standin in [None, Some("")] {
        let begin = start("Virtual0", VGA).set("overlay.text=MMMMMMMMMM").set("overlay.position=top-right");
        let daemon = if let Some(settings) = standin { begin.standin(settings) } else { begin }.spawn();
        let (luma, size) = luma(&daemon.stream("/stream").part().jpeg);
        // The bars are dark there.
        let white = |x: usize, y: usize| luma[y * size.width as usize + x] > 200;
        let rows = (0..32).filter(|y| (500..640).filter(|x| white(*x, *y)).count() > 8).count();
        assert!(rows > 6, "{rows} rows with white in the corner, {:?}", daemon.status()["encoder"]);
    }
}

#[test]
fn a_camera_that_may_stop_starts_again() {
    let daemon = start("Virtual0", VGA).set("camera.idle=stop").set("camera.idle_after=0s").spawn();
    for _ in 0..3 {
        assert_bars(&daemon.stream("/stream").part().jpeg, VGA);
        daemon.wait_for("the camera to stop", |status| status["camera"]["running"] == false);
    }
}

#[test]
fn stop_and_open_again_leaves_nothing_behind() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let run = |size: Size, frames: usize| {
        let mut camera = LibcameraSource::open("", &request(size)).unwrap();
        assert_eq!(camera.info().size, size);
        let mut last = None;
        for _ in 0..frames {
            let buffer = camera.acquire(Duration::from_secs(2), None).unwrap().expect("a frame");
            let frame = camera.view(buffer);
            assert!(frame.plane(0).unwrap().data.len() >= (size.width * size.height) as usize);
            assert!(last.is_none_or(|last| frame.sequence > last), "{last:?} then {}", frame.sequence);
            last = Some(frame.sequence);
            assert!(frame.captured_at.elapsed() < Duration::from_secs(1));
            camera.queue(buffer).unwrap();
        }
    };
    // What is made once, by an emulator too.
    run(VGA, 3);
    run(HD, 3);
    // A thread that has been joined may be listed a moment longer: also before, when the count must not begin with it.
    std::thread::sleep(Duration::from_millis(500));
    let before = (descriptors(), threads());
    for i in 0..20 {
        run(if i % 2 == 0 { HD } else { VGA }, 3);
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while (descriptors(), threads()) != before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((descriptors(), threads()), before);
}

#[test]
fn a_camera_in_use_says_so() {
    let held = LibcameraSource::open("0", &request(VGA)).unwrap();
    assert!(matches!(LibcameraSource::open("0", &request(VGA)), Err(CameraError::Busy { .. })));
    // The other camera is free.
    let _other = LibcameraSource::open("1", &request(VGA)).unwrap();
    drop(held);
    LibcameraSource::open("0", &request(VGA)).unwrap();
}
