//! The V4L2 camera source: real code of ours down to the system call, below it a stand-in for cameras
//! (`tests/instruments/v4l2_standin`). A real `uvcvideo` camera is in `make test-usb`.

use std::path::Path;
use std::time::Duration;

use pinhole::jpeg;
use serde_json::{Value, json};

use crate::support::{Daemon, Decoded, Start, frame_rate, frames};

/// The camera `/dev/video0`, a folder of JPEG files.
fn mjpeg(folder: &Path, more: &str) -> Start {
    let standin = format!("nodes=none;camera=0:MJPG:{};{more}", folder.display());
    Start::with(&["camera.source=v4l2", "camera.resolution=640x480"]).standin(&standin)
}

/// The camera `/dev/video2`, which delivers raw pictures of the test pattern.
fn raw(format: &str, more: &str) -> Start {
    Start::with(&["camera.source=v4l2", "camera.resolution=640x480"]).standin(&format!("camera=2:{format};{more}"))
}

/// Files of which every other lacks its Huffman tables, as those of most cameras do; with what must come out.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    frames(folder, 6, 20_000);
    (0..6)
        .map(|i| {
            let path = folder.join(format!("{i:04}.jpg"));
            let whole = std::fs::read(&path).unwrap();
            if i % 2 == 1 {
                return whole;
            }
            let cut = without_tables(&whole);
            std::fs::write(path, &cut).unwrap();
            let at = jpeg::inspect(&cut).unwrap().insert_tables_at.unwrap();
            [&cut[..at], jpeg::HUFFMAN_TABLES, &cut[at..]].concat()
        })
        .collect()
}

/// Without its DHT segments.
fn without_tables(jpeg: &[u8]) -> Vec<u8> {
    let mut out = jpeg[..2].to_vec();
    let mut at = 2;
    while jpeg[at + 1] != 0xda {
        let length = 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        if jpeg[at + 1] != 0xc4 {
            out.extend_from_slice(&jpeg[at..at + length]);
        }
        at += length;
    }
    out.extend_from_slice(&jpeg[at..]);
    out
}

#[test]
fn mjpeg_is_passed_through_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let expected = files(folder.path());
    // By name, by number, by path, and where libcamera finds none.
    for (source, id) in [("v4l2", ""), ("v4l2", "/dev/video0"), ("v4l2", "0"), ("auto", "")] {
        let daemon =
            mjpeg(folder.path(), "").set(format!("camera.source={source}")).set(format!("camera.id={id}")).spawn();
        // libcamera, where it is built in, is given a moment to find the camera.
        daemon.wait_for("the camera", |status| status["camera"]["running"] == true);
        let mut stream = daemon.stream("/stream");
        let indices: Vec<usize> = (0..30)
            .map(|_| {
                let jpeg = stream.part().jpeg;
                expected.iter().position(|file| *file == jpeg).expect("one of the files, byte for byte")
            })
            .collect();
        // A busy machine skips a frame now and then.
        let in_order = indices.windows(2).filter(|pair| (pair[0] + 1) % 6 == pair[1]).count();
        assert!(in_order > 15, "{indices:?}");
        let status = daemon.status();
        assert_eq!(status["camera"]["source"], "v4l2");
        assert_eq!(status["camera"]["id"], "/dev/video0");
        assert_eq!((&status["encoder"]["kind"], &status["frames"]["dropped"]), (&json!("passthrough"), &json!(0)));
    }
}

#[test]
fn raw_pictures_go_to_the_software_encoder() {
    for format in ["YUYV", "NV12", "YU12", "UYVY", "YVYU", "GREY"] {
        for more in ["nodes=none", "nodes=none;cam_stride_pad=40"] {
            for size in ["640x480", "648x486"] {
                let daemon = raw(format, more).set(format!("camera.resolution={size}")).spawn();
                let mut stream = daemon.stream("/stream");
                let mut last = -1;
                for _ in 0..4 {
                    let picture = Decoded::of(&stream.part().jpeg);
                    assert_eq!(picture.size.to_string(), size);
                    let number = i64::from(picture.frame_number());
                    assert!(number > last && number < 10_000, "{format} {more} {size}: {number} after {last}");
                    last = number;
                }
                assert_eq!(daemon.status()["encoder"]["kind"], "software");
            }
        }
    }
}

#[test]
fn the_hardware_encoder_reads_the_cameras_buffers() {
    for format in ["YU12", "NV12", "YUYV", "UYVY", "YVYU"] {
        let mut daemon = raw(format, "").spawn();
        let mut stream = daemon.stream("/stream");
        let mut last = -1;
        for _ in 0..40 {
            let number = i64::from(Decoded::of(&stream.part().jpeg).frame_number());
            assert!(number > last, "{format}: {number} after {last}");
            last = number;
        }
        let status = daemon.status();
        assert_eq!(status["encoder"]["kind"], "v4l2-m2m", "{format}: {status:#}");
        assert_eq!(status["encoder"]["memory"], "dma-buf", "{format}: {status:#}");
        daemon.terminate();
        let report = daemon.report();
        assert!(report["violation"].is_null(), "{report:#}");
        assert_eq!(report["memory"]["output"], "dmabuf");
        // Each buffer is mapped once, not for every frame.
        assert!(report["dmabuf_attached"].as_u64().unwrap() <= 8, "{format}: {report:#}");
    }
}

#[test]
fn what_the_encoder_cannot_read_is_copied() {
    for (standin, words) in [
        ("dmabuf=refuse-reqbufs", "it takes no dma-bufs"),
        ("dmabuf=refuse-qbuf", "does not take the camera's buffers: Invalid argument"),
        ("stride_align=1024", "it wants rows of 1024 bytes, the camera has 640"),
        ("height_align=128", "it wants planes at"),
    ] {
        let mut daemon = raw("YU12", standin).spawn();
        let mut stream = daemon.stream("/stream");
        let mut last = -1;
        for _ in 0..10 {
            let number = i64::from(Decoded::of(&stream.part().jpeg).frame_number());
            assert!(number > last, "{standin}: {number} after {last}");
            last = number;
        }
        let status = daemon.status();
        assert_eq!(
            (&status["encoder"]["kind"], &status["encoder"]["memory"]),
            (&json!("v4l2-m2m"), &json!("copy")),
            "{standin}: {status:#}"
        );
        let said = status["encoder"]["reason"].as_str().unwrap();
        assert!(said.contains(words), "{standin}: {said}");
        daemon.terminate();
        assert!(daemon.report()["violation"].is_null(), "{standin}");
    }
}

#[test]
fn text_is_drawn_into_shared_buffers_before_the_encoder_reads_them() {
    let mut daemon = raw("YU12", "").set("overlay.text=MMMMMMMMMM").set("overlay.position=top-right").spawn();
    let mut stream = daemon.stream("/stream");
    for _ in 0..5 {
        let picture = Decoded::of(&stream.part().jpeg);
        picture.frame_number();
        let black = (0..24).filter(|y| (480..620).filter(|x| picture.at(*x, *y) < 30).count() > 40).count();
        assert!(black > 10, "{black} dark rows in the corner");
    }
    let status = daemon.status();
    assert_eq!((&status["encoder"]["memory"], &status["encoder"]["overlay"]), (&json!("dma-buf"), &json!(true)));
    daemon.terminate();
    assert!(daemon.report()["violation"].is_null(), "a picture changed while the encoder had it");
}

#[test]
fn an_unplugged_camera_comes_back_in_the_same_connection() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let daemon = mjpeg(folder.path(), "cam_unplug@30:2").spawn();
    let mut stream = daemon.stream("/stream");
    let gone = stream.until("a placeholder", |part| part.size() == "640x480" && part.jpeg.len() < 19_000);
    let back = stream.until("the camera", |part| part.jpeg.len() >= 19_000);
    assert!(back.received - gone.received < Duration::from_secs(6), "{:?}", back.received - gone.received);
    daemon.wait_for_log("no picture");
    assert_eq!(daemon.get("/snapshot").status, 200);
}

#[test]
fn stalls_and_damage_are_mended() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let daemon = mjpeg(folder.path(), "cam_stall@20").set("camera.stall_timeout=1s").spawn();
    let mut stream = daemon.stream("/stream");
    stream.until("pictures after the stall", |part| part.sequence() > 40 && part.jpeg.len() >= 19_000);
    daemon.wait_for_log("sent no frame for 1 s");
    drop(daemon);
    let daemon = mjpeg(folder.path(), "cam_error_flag@10:3;cam_truncated@20:2;cam_empty@30").spawn();
    let mut stream = daemon.stream("/stream");
    // Each part is checked to be a whole JPEG.
    for _ in 0..60 {
        stream.part();
    }
    assert_eq!(daemon.status()["frames"]["dropped"], 6, "{}", daemon.log());
}

#[test]
fn why_a_camera_cannot_be_used_is_told() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    for (start, words) in [
        (mjpeg(folder.path(), "cam_busy=open"), "camera /dev/video0 is in use by another program"),
        (mjpeg(folder.path(), "cam_busy=streamon"), "camera /dev/video0 is in use by another program"),
        (mjpeg(folder.path(), "").set("camera.id=/dev/video7"), "camera.id \"/dev/video7\" not found"),
        (mjpeg(folder.path(), "").set("camera.id=logitech"), "camera.id \"logitech\" not found; cameras present: 0:"),
        (Start::with(&["camera.source=v4l2"]).standin("nodes=11:encoder+12:isp"), "no camera found"),
        (
            raw("H264", ""),
            "camera /dev/video2 (Stand-in camera: Stand-in camer) cannot deliver pictures: it offers only H264; taken are MJPG, JPEG, YU12, NV12, YUYV, UYVY, YVYU, GREY",
        ),
        (raw("RGB3", "").set("camera.source=auto"), "it offers only RGB3; taken are MJPG"),
        (raw("RGB3", "").set("camera.id=/dev/video2"), "it offers only RGB3; taken are MJPG"),
        (raw("RGB3", "camera=0:YU12").set("camera.id=/dev/video2"), "it offers only RGB3; taken are MJPG"),
        (
            raw("YU12", "cam_denied"),
            "camera /dev/video2 may not be opened: Permission denied (os error 13); it belongs to group video: run `sudo usermod -aG video $USER`",
        ),
        (raw("YU12", "cam_denied").set("camera.id=/dev/video2"), "run `sudo usermod -aG video $USER` and log in again"),
        (raw("YU12", "cam_denied").set("camera.source=auto"), "run `sudo usermod -aG video $USER` and log in again"),
        (
            raw("YUYV", "cam_enospc"),
            "the USB bus has no bandwidth left for camera /dev/video2 with YUYV 640x480 at 30 fps: set a smaller camera.resolution or a lower camera.frame_rate",
        ),
        (
            raw("YUYV", "enomem_reqbufs=camera"),
            "camera /dev/video2 with YUYV 640x480: there is no memory for 4 buffers of 0.6 MB, 2.3 MB in all",
        ),
        (
            Start::with(&["camera.source=v4l2", "camera.id=/dev/video11"]).standin("nodes=11:encoder"),
            "camera /dev/video11 cannot deliver video",
        ),
    ] {
        let start = if words.contains("in use") { start.set("camera.id=/dev/video0") } else { start };
        let daemon = start.spawn();
        let snapshot = daemon.get("/snapshot");
        let reason = snapshot.header("x-reason").unwrap_or_default().to_owned();
        assert!(snapshot.status == 503 && reason.contains(words), "{words}: {reason}");
    }
}

fn controls(daemon: &Daemon) -> Vec<Value> {
    let document: Value = serde_json::from_slice(&daemon.get("/api/v1/controls").body).unwrap();
    document["controls"].as_array().unwrap().clone()
}

#[test]
fn controls_of_every_type_are_told_and_set() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let mut daemon = mjpeg(folder.path(), "").set("camera.controls.Contrast=60").spawn();
    daemon.stream("/stream").part();
    let all = controls(&daemon);
    let names: Vec<&str> = all.iter().map(|control| control["name"].as_str().unwrap()).collect();
    for absent in ["Zoom, Absolute", "User Controls", "Horizontal Flip"] {
        assert!(!names.contains(&absent), "{absent} in {names:?}");
    }
    for expected in [
        json!({"name": "Brightness", "type": "integer", "min": -64, "max": 64, "default": 0, "value": 0}),
        json!({"name": "Contrast", "type": "integer", "min": 0, "max": 95, "step": 5, "default": 50, "value": 60}),
        json!({"name": "White Balance, Automatic", "type": "boolean", "default": true, "value": true}),
        json!({"name": "Do White Balance", "type": "button", "value": null}),
        json!({"name": "Auto Exposure", "type": "enum", "default": 3, "options": [
            {"value": 1, "name": "Manual Mode"}, {"value": 3, "name": "Aperture Priority Mode"}]}),
        json!({"name": "Integer 64 Bits", "type": "integer", "max": 0x0002_0000_0000_i64}),
        json!({"name": "Read-Only Integer 32 Bits", "read_only": true}),
    ] {
        let got = all.iter().find(|control| control["name"] == expected["name"]).unwrap_or_else(|| panic!("{names:?}"));
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&got[key], value, "{key} of {got}");
        }
    }
    let menu = all.iter().find(|control| control["name"] == "Integer Menu").unwrap();
    assert_eq!(menu["options"][8], json!({"value": 8, "name": "42"}));

    // The mode before what it governs, whatever the order they are given in.
    daemon.patch(
        "/api/v1/controls",
        r#"{"Exposure Time, Absolute": 500, "auto-exposure": "Manual Mode", "Integer 64 Bits": 6000000000,
            "Do White Balance": true, "Brightness": -3}"#,
        200,
    );
    let answer = daemon.patch("/api/v1/controls", r#"{"Brightness": 65}"#, 422);
    assert_eq!((&answer["control"], &answer["max"]), (&json!("Brightness"), &json!(64)));
    daemon.patch("/api/v1/controls", r#"{"Contrast": 61}"#, 422);
    daemon.patch("/api/v1/controls", r#"{"Contrast": null}"#, 200);
    let all = controls(&daemon);
    let value = |name: &str| all.iter().find(|control| control["name"] == name).unwrap()["value"].clone();
    assert_eq!(value("Exposure Time, Absolute"), 500);
    assert_eq!(value("Integer 64 Bits"), 6_000_000_000_u64);
    assert_eq!((value("Brightness"), value("Contrast")), (json!(-3), json!(50)));
    daemon.terminate();
    assert!(daemon.report()["violation"].is_null());
}

#[test]
fn size_and_rate_change_and_viewers_stay() {
    let daemon = raw("YUYV", "nodes=none").spawn();
    let mut stream = daemon.stream("/stream");
    assert_eq!(stream.part().size(), "640x480");
    let answer = daemon.patch("/api/v1/settings", r#"{"resolution": "320x240", "frame_rate": 10}"#, 200);
    assert_eq!(answer["camera"]["width"], 320);
    stream.until("the new size", |part| part.size() == "320x240");
    let fps = frame_rate(&stream.parts(11));
    assert!((10.0 / 1.5..10.0 / 0.7).contains(&fps), "{fps} fps");
    // What the camera does not have becomes what it has.
    let answer = daemon.patch("/api/v1/settings", r#"{"resolution": "330x250"}"#, 200);
    assert_eq!((&answer["resolution"], &answer["camera"]["width"]), (&json!("330x250"), &json!(320)));
}

#[test]
fn the_camera_flips_where_it_can_and_the_encoder_where_not() {
    for (orientation, turned_by) in
        [("rotate-180", "camera"), ("flip-horizontal", "camera"), ("flip-vertical", "camera"), ("rotate-90", "encoder")]
    {
        let daemon = raw("YU12", "nodes=none").set(format!("camera.orientation={orientation}")).spawn();
        let picture = Decoded::of(&daemon.stream("/stream").part().jpeg);
        assert_eq!(daemon.status()["camera"]["turned_by"], turned_by, "{orientation}");
        let (width, height) = (picture.size.width, picture.size.height);
        let [left, right] = [picture.at(width / 40, height / 2), picture.at(width * 39 / 40, height / 2)];
        match orientation {
            "rotate-180" | "flip-horizontal" => assert!(right > 160 && left < 60, "{orientation}: {left} {right}"),
            "flip-vertical" => assert!(left > 160 && right < 60, "{orientation}: {left} {right}"),
            _ => assert_eq!((width, height), (480, 640)),
        }
        // And back.
        let answer = daemon.patch("/api/v1/settings", r#"{"orientation": "normal"}"#, 200);
        assert_eq!(answer["orientation"], "normal");
        let number = Decoded::of(&daemon.get("/snapshot?max_age_ms=0").body).frame_number();
        assert!(number < 10_000, "{number}");
    }
}

#[test]
fn cameras_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let output = mjpeg(folder.path(), "camera=3:NV12").command(folder.path()).arg("--list-cameras").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("(/dev/video0), camera.source v4l2") && text.contains("MJPG"), "{text}");
    assert!(text.contains("(/dev/video3)") && text.contains("NV12"), "{text}");
}

#[test]
fn what_cannot_be_used_is_listed_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let list = |standin: &str| {
        let start = Start::with(&[]).standin(&format!("nodes=none;{standin}"));
        let output = start.command(folder.path()).arg("--list-cameras").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, error) = list("camera=4:H264");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(error.contains("/dev/video4") && error.contains("it offers only H264; taken are MJPG"), "{error}");
    let (code, out, error) = list("camera=4:YU12;cam_denied");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(error.contains("camera /dev/video4 may not be opened: Permission denied"), "{error}");
    assert!(error.contains("sudo usermod -aG video $USER"), "{error}");
    // The first node asked for is refused, the second can be used.
    let (code, out, _) = list("camera=4:YU12;camera=5:NV12;camera=6:RGB3;cam_denied=1");
    assert_eq!(code, Some(0));
    assert!(
        out.contains("(/dev/video5), camera.source v4l2") && out.contains("/dev/video4 may not be opened"),
        "{out}"
    );
    assert!(out.contains("/dev/video6") && out.contains("it offers only RGB3"), "{out}");
}

#[test]
fn jpeg_by_its_other_name_is_passed_through() {
    let folder = tempfile::tempdir().unwrap();
    let expected = files(folder.path());
    let daemon = Start::with(&["camera.source=v4l2", "camera.resolution=640x480"])
        .standin(&format!("nodes=none;camera=0:JPEG:{}", folder.path().display()))
        .spawn();
    let mut stream = daemon.stream("/stream");
    for _ in 0..6 {
        let jpeg = stream.part().jpeg;
        assert!(expected.contains(&jpeg), "one of the files, byte for byte");
    }
    let status = daemon.status();
    assert_eq!(
        (&status["encoder"]["kind"], &status["camera"]["pixel_format"]),
        (&json!("passthrough"), &json!("MJPEG"))
    );
}

#[test]
fn every_raw_format_shows_the_same_picture_turned_and_written_on() {
    // Of YUYV, which was there before.
    let mut first: Option<(Decoded, [f64; 3])> = None;
    for format in ["YUYV", "UYVY", "YVYU", "NV12", "GREY"] {
        let daemon = raw(format, "nodes=none")
            .set("camera.orientation=rotate-90")
            .set("overlay.text=MMMMMMMMMM")
            .set("overlay.position=bottom-left")
            .spawn();
        let jpeg = daemon.stream("/stream").part().jpeg;
        let picture = Decoded::of(&jpeg);
        assert_eq!((picture.size.width, picture.size.height), (480, 640), "{format}");
        let colours = mean_colour(&jpeg);
        let status = daemon.status();
        assert_eq!(
            (&status["camera"]["pixel_format"], &status["encoder"]["overlay"]),
            (&json!(format), &json!(true)),
            "{format}"
        );
        let Some((other, expected)) = &first else {
            first = Some((picture, colours));
            continue;
        };
        // Grey is grey; the colours of the others are the same, and not swapped.
        let expected = if format == "GREY" { [colours[0]; 3] } else { *expected };
        let apart = colours.iter().zip(expected).map(|(one, other)| (one - other).abs()).fold(0.0, f64::max);
        assert!(apart < 6.0, "{format}: {colours:?}, not {expected:?}");
        let far = picture.luma.iter().zip(&other.luma).filter(|(one, other)| one.abs_diff(**other) > 40).count();
        // The number, the time and the sweeping bar differ.
        assert!(far * 6 < picture.luma.len(), "{format}: {far} pixels differ");
    }
}

/// Mean red, green and blue of a lower part of the picture, where nothing moves: three of the bars, turned.
fn mean_colour(jpeg: &[u8]) -> [f64; 3] {
    use turbojpeg_sys as tj;
    let size = jpeg::inspect(jpeg).unwrap().size;
    let (width, height) = (size.width as usize, size.height as usize);
    let mut pixels = vec![0_u8; 3 * width * height];
    // SAFETY: a handle of our own; `pixels` has three bytes for each pixel.
    unsafe {
        let handle = tj::tj3Init(tj::TJINIT_TJINIT_DECOMPRESS as i32);
        let format = tj::TJPF_TJPF_RGB;
        assert_eq!(tj::tj3Decompress8(handle, jpeg.as_ptr(), jpeg.len() as _, pixels.as_mut_ptr(), 0, format), 0);
        tj::tj3Destroy(handle);
    }
    let mut sums = [0.0; 3];
    let mut count = 0.0;
    for pixel in pixels.chunks_exact(3).skip(width * height / 3).take(width * height / 3) {
        for (sum, value) in sums.iter_mut().zip(pixel) {
            *sum += f64::from(*value);
        }
        count += 1.0;
    }
    sums.map(|sum| sum / count)
}

#[test]
fn governed_controls_are_set_behind_their_governors() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let daemon = mjpeg(folder.path(), "")
        .user_file(
            "camera:\n  controls:\n    Focus, Absolute: 30\n    Focus, Automatic Continuous: false\n    Hue, Automatic: true\n",
        )
        .spawn();
    daemon.stream("/stream").part();
    let value = |name: &str| {
        controls(&daemon).iter().find(|control| control["name"] == name).unwrap_or_else(|| panic!("{name}"))["value"]
            .clone()
    };
    assert_eq!((value("Focus, Absolute"), value("Focus, Automatic Continuous")), (json!(30), json!(false)));
    assert_eq!(daemon.status()["camera"]["notes"], json!([]));
    daemon.patch(
        "/api/v1/controls",
        r#"{"Hue": 5, "Hue, Automatic": false, "White Balance Temperature": 5000, "White Balance, Automatic": false,
            "Exposure Time, Absolute": 100, "Auto Exposure": 1}"#,
        200,
    );
    assert_eq!((value("Hue"), value("White Balance Temperature")), (json!(5), json!(5000)));
    // Automatic again: what it governs first.
    daemon.patch("/api/v1/controls", r#"{"Hue, Automatic": true, "Hue": 7}"#, 200);
    assert_eq!((value("Hue"), value("Hue, Automatic")), (json!(7), json!(true)));
    // All back: to the configuration's values, and Hue, which is automatic already, cannot be and need not be.
    let answer = daemon.send("DELETE", "/api/v1/controls", "", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!((value("Auto Exposure"), value("Focus, Absolute")), (json!(3), json!(30)));
}

#[test]
fn a_refusal_names_the_switch_and_leaves_all_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let daemon = mjpeg(folder.path(), "").set("camera.controls.Hue=9").spawn();
    daemon.stream("/stream").part();
    let notes = daemon.status()["camera"]["notes"].to_string();
    assert!(
        notes.contains("refused Hue 9: Permission denied (os error 13): set \\\"Hue, Automatic\\\" to false first"),
        "{notes}"
    );
    let value = |name: &str| {
        controls(&daemon).iter().find(|control| control["name"] == name).unwrap_or_else(|| panic!("{name}"))["value"]
            .clone()
    };
    for (name, number, switch) in [
        ("Focus, Absolute", 30, r#"set "Focus, Automatic Continuous" to false first"#),
        ("Exposure Time, Absolute", 30, r#"set "Auto Exposure" to Manual Mode first"#),
        ("White Balance Temperature", 5000, r#"set "White Balance, Automatic" to false first"#),
    ] {
        let before = value(name);
        let body = json!({"Brightness": 7, "Contrast": 60, (name): number}).to_string();
        let answer = daemon.patch("/api/v1/controls", &body, 422);
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(&format!("refused {name} {number}")) && error.ends_with(switch), "{error}");
        assert_eq!(answer["control"], name);
        assert_eq!((value("Brightness"), value("Contrast"), value(name)), (json!(0), json!(50), before), "{error}");
    }
    // A button cannot be taken back.
    let body = r#"{"White Balance, Automatic": false, "Do White Balance": true, "Focus, Absolute": 30}"#;
    let answer = daemon.patch("/api/v1/controls", body, 422);
    let error = answer["error"].as_str().unwrap();
    assert!(error.ends_with("; it could not take back Do White Balance"), "{error}");
    assert_eq!(value("White Balance, Automatic"), true);
}

#[test]
fn time_stamps_of_another_clock_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    for stamp in ["constant", "-3000", "-100000000", "60000"] {
        let daemon = mjpeg(folder.path(), &format!("cam_stamp={stamp}")).spawn();
        let mut stream = daemon.stream("/stream");
        // Far more than the queue holds: what was believed at first is long in the past.
        for _ in 0..60 {
            stream.part();
        }
        for target in ["/snapshot", "/snapshot?max_age_ms=0"] {
            let answer = daemon.get(target);
            assert_eq!(answer.status, 200, "{stamp}: {}", answer.text());
            let age: u64 = answer.header("x-age-ms").unwrap().parse().unwrap();
            assert!(age < 1000, "{stamp}: {age} ms");
        }
        assert!(stream.part().age() < Duration::from_secs(2), "{stamp}");
        daemon.wait_for_log("time stamps are not of this machine's clock");
    }
    let daemon = mjpeg(folder.path(), "").spawn();
    for _ in 0..30 {
        daemon.get("/snapshot?max_age_ms=0");
    }
    assert!(!daemon.log().contains("time stamps"), "{}", daemon.log());
}

#[test]
fn the_granted_rate_is_reported_and_not_the_one_asked_for() {
    for (asked, granted) in [("20", 15.0), ("120", 30.0), ("0.05", 5.0)] {
        let daemon = raw("YUYV", "nodes=none").set(format!("camera.frame_rate={asked}")).spawn();
        let status = daemon.wait_for("the camera", |status| status["camera"]["running"] == true);
        assert_eq!(status["camera"]["frame_rate"], granted, "{asked}");
        assert_eq!(status["settings"]["frame_rate"].to_string(), asked);
    }
    let daemon = raw("YUYV", "nodes=none;cam_fps=29.97").spawn();
    let answer = daemon.patch("/api/v1/settings", r#"{"frame_rate": 29.5}"#, 200);
    assert_eq!(answer["camera"]["frame_rate"], 29.97);
    // What it says is read by another thread.
    daemon.wait_for_log("at 29.97 fps (29.5 asked for)");
}

#[test]
fn a_camera_of_one_picture_in_seven_seconds_is_well() {
    let daemon = raw("YUYV", "nodes=none;cam_fps=0.14")
        .set("camera.frame_rate=0.14")
        .set("camera.stall_timeout=1s")
        .set("camera.idle_after=0s")
        .set("camera.warm_up=0")
        .spawn();
    let status = daemon.wait_for("the camera", |status| status["camera"]["running"] == true);
    assert_eq!(status["camera"]["frame_rate"], 0.14);
    // Nobody watches, and still there is a picture for who comes.
    daemon.wait_for("a picture", |status| status["frame"]["placeholder"] == false);
    let mut stream = daemon.stream("/stream");
    let first = stream.part();
    assert_eq!(daemon.get("/snapshot").status, 200);
    let mut last = first.received;
    let mut numbers = vec![first.sequence()];
    while *numbers.last().unwrap() < numbers[0] + 2 {
        let part = stream.part();
        assert!(part.received - last < Duration::from_secs(6), "{:?} of silence", part.received - last);
        last = part.received;
        numbers.push(part.sequence());
    }
    assert!(numbers.windows(2).any(|pair| pair[0] == pair[1]), "the last picture is repeated: {numbers:?}");
    assert!(!daemon.log().contains("no picture"), "{}", daemon.log());
    assert_eq!(daemon.status()["health"]["state"], "streaming");
}

#[test]
fn a_dead_camera_is_noticed_by_its_own_rate() {
    // It gives 5 pictures a second, of which one in 20 s is taken.
    let daemon =
        raw("YUYV", "nodes=none;cam_stall@3").set("camera.frame_rate=0.05").set("camera.stall_timeout=1s").spawn();
    let status = daemon.wait_for("the camera", |status| status["camera"]["running"] == true);
    assert_eq!(status["camera"]["frame_rate"], 5.0);
    daemon.wait_for_log("the camera has sent no frame for 1 s");
    daemon.wait_for("the camera to be opened anew", |status| status["camera"]["running"] == true);
}
