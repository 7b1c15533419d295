//! What is done to the picture: turning it, and drawing text into it. Shown by decoding it.

use crate::support::{Decoded, Start, standin_library};

/// The test pattern with its bars, upright: where on the picture, as shares of width and height, is how bright. The
/// sweeping bar and the text are elsewhere.
fn quadrants(picture: &Decoded) -> [u8; 4] {
    let (width, height) = (picture.size.width, picture.size.height);
    // The median of some columns: the sweeping bar covers one at the most.
    let place = |x: u32, y: u32| {
        let mut values: Vec<u8> = (0..5).map(|i| picture.at(x + i * width / 80, y + i * height / 80)).collect();
        values.sort_unstable();
        values[2]
    };
    [
        place(width / 32, height / 2),
        place(width * 15 / 16, height / 2),
        place(width / 2, height / 32),
        place(width / 2, height * 15 / 16),
    ]
}

/// Left, right, top and bottom of a turned picture. Upright, the left bar is light (180), the right one dark (35), and the
/// bottom edge has black and white blocks.
fn check_turned(picture: &Decoded, orientation: &str, size: &str) {
    assert_eq!(picture.size.to_string(), size, "{orientation}");
    let [left, right, top, bottom] = quadrants(picture);
    let is_light = |value: u8| value > 160;
    let is_dark = |value: u8| value < 60;
    let (light, dark) = match orientation {
        "normal" | "flip-vertical" => (left, right),
        "rotate-180" | "flip-horizontal" => (right, left),
        "rotate-90" => (top, bottom),
        _ => (bottom, top),
    };
    assert!(is_light(light) && is_dark(dark), "{orientation}: {left} {right} {top} {bottom}");
}

/// Turns a decoded picture back and reads the frame number.
fn number_turned_back(picture: &Decoded, orientation: &str) -> u32 {
    let (width, height) = (picture.size.width as usize, picture.size.height as usize);
    let upright =
        if orientation.ends_with("90") || orientation.ends_with("270") { (height, width) } else { (width, height) };
    let mut luma = vec![0; upright.0 * upright.1];
    for y in 0..upright.1 {
        for x in 0..upright.0 {
            let (from_x, from_y) = match orientation {
                "rotate-180" => (width - 1 - x, height - 1 - y),
                "flip-horizontal" => (width - 1 - x, y),
                "flip-vertical" => (x, height - 1 - y),
                "rotate-90" => (width - 1 - y, x),
                "rotate-270" => (y, height - 1 - x),
                _ => (x, y),
            };
            luma[y * upright.0 + x] = picture.luma[from_y * width + from_x];
        }
    }
    let size = pinhole::frame::Size { width: upright.0 as u32, height: upright.1 as u32 };
    pinhole::camera::test_pattern::read_frame_number(&luma, upright.0, size).unwrap()
}

const ORIENTATIONS: [&str; 6] = ["normal", "rotate-180", "flip-horizontal", "flip-vertical", "rotate-90", "rotate-270"];

#[test]
fn raw_pictures_are_turned_before_they_are_encoded() {
    for orientation in ORIENTATIONS {
        let daemon = Start::test_pattern().set(format!("camera.orientation={orientation}")).spawn();
        let size = if orientation.ends_with('0') && !orientation.ends_with("180") { "240x320" } else { "320x240" };
        let mut stream = daemon.stream("/stream");
        let mut last = 0;
        for _ in 0..4 {
            let picture = Decoded::of(&stream.part().jpeg);
            check_turned(&picture, orientation, size);
            let number = number_turned_back(&picture, orientation);
            assert!(number > last && number < 1000, "{orientation}: {number} after {last}");
            last = number;
        }
        let expected = if orientation == "normal" { serde_json::Value::Null } else { "encoder".into() };
        assert_eq!(daemon.status()["camera"]["turned_by"], expected);
    }
}

/// Frames of the test pattern as JPEG files.
fn recorded(size: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Start::test_pattern().set(format!("camera.resolution={size}")).spawn();
    let mut stream = daemon.stream("/stream");
    for i in 0..5 {
        std::fs::write(folder.path().join(format!("{i}.jpg")), stream.part().jpeg).unwrap();
    }
    folder
}

#[test]
fn a_cameras_own_jpeg_is_turned_without_loss() {
    let folder = recorded("320x240");
    let path = format!("camera.replay.path={}", folder.path().display());
    for orientation in ORIENTATIONS {
        let daemon =
            Start::with(&["camera.source=replay", &path]).set(format!("camera.orientation={orientation}")).spawn();
        let size = if orientation.ends_with('0') && !orientation.ends_with("180") { "240x320" } else { "320x240" };
        let jpeg = daemon.stream("/stream").part().jpeg;
        let picture = Decoded::of(&jpeg);
        check_turned(&picture, orientation, size);
        assert!(number_turned_back(&picture, orientation) < 1000);
        let expected = if orientation == "normal" { serde_json::Value::Null } else { "jpeg".into() };
        let status = daemon.status();
        assert_eq!(status["camera"]["turned_by"], expected);
        assert_eq!(status["encoder"]["kind"], "passthrough");
        let original = std::fs::read(folder.path().join("0.jpg")).unwrap();
        if orientation == "normal" {
            // Untouched, byte for byte.
            assert!((0..5).any(|i| std::fs::read(folder.path().join(format!("{i}.jpg"))).unwrap() == jpeg));
        } else {
            // The same coefficients in another order: about as many bytes.
            assert!(jpeg.len().abs_diff(original.len()) < original.len() / 8, "{} and {}", jpeg.len(), original.len());
        }
    }
}

#[test]
fn the_hardwares_jpeg_is_turned_as_well() {
    let daemon = Start::test_pattern().standin("").set("camera.orientation=rotate-90").spawn();
    let picture = Decoded::of(&daemon.stream("/stream").part().jpeg);
    check_turned(&picture, "rotate-90", "240x320");
    let status = daemon.status();
    assert_eq!((&status["encoder"]["kind"], &status["camera"]["turned_by"]), (&"v4l2-m2m".into(), &"jpeg".into()));
    assert!(standin_library().exists());
}

/// Share of black and of white pixels in the upper right corner, where the pattern has neither.
fn corner(picture: &Decoded) -> (f64, f64) {
    let (width, height) = (picture.size.width / 2, picture.size.height / 8);
    let (mut black, mut white) = (0, 0);
    for y in 0..height {
        for x in width..picture.size.width {
            black += u32::from(picture.at(x, y) < 30);
            white += u32::from(picture.at(x, y) > 220);
        }
    }
    let all = f64::from(width * height);
    (f64::from(black) / all, f64::from(white) / all)
}

#[test]
fn text_is_drawn_into_raw_pictures() {
    for standin in [None, Some("")] {
        let start = || {
            let start = Start::with(&["camera.source=test-pattern", "camera.resolution=640x480"]);
            if let Some(settings) = standin { start.standin(settings) } else { start }
        };
        let plain = start().spawn();
        let without = corner(&Decoded::of(&plain.stream("/stream").part().jpeg));
        assert_eq!(plain.status()["encoder"]["overlay"], false);
        let daemon = start().set("overlay.text=%Y-%m-%d MMMMMM").set("overlay.position=top-right").spawn();
        let mut stream = daemon.stream("/stream");
        let picture = Decoded::of(&stream.part().jpeg);
        let with = corner(&picture);
        assert!(with.0 > without.0 + 0.1 && with.1 > 0.02, "{without:?} became {with:?}");
        assert_eq!(daemon.status()["encoder"]["overlay"], true);
        // What is drawn on one frame does not stay in the next: the pattern below it is whole.
        assert!(picture.frame_number() < Decoded::of(&stream.part().jpeg).frame_number());
    }
}

#[test]
fn a_passthrough_cameras_text_needs_leave() {
    let folder = recorded("640x480");
    let path = format!("camera.replay.path={}", folder.path().display());
    let refused = Start::with(&["camera.source=replay", &path]).set("overlay.text=MMMMMMMMMMMM").spawn();
    let jpeg = refused.stream("/stream").part().jpeg;
    assert!((0..5).any(|i| std::fs::read(folder.path().join(format!("{i}.jpg"))).unwrap() == jpeg), "untouched");
    let status = refused.status();
    let note = status["camera"]["notes"][0].as_str().unwrap();
    assert!(note.contains("overlay.text is not drawn") && note.contains("overlay.reencode: true"), "{note}");
    let without = corner(&Decoded::of(&jpeg));

    let daemon = Start::with(&["camera.source=replay", &path])
        .set("overlay.text=MMMMMMMMMMMMMMMMM")
        .set("overlay.position=top-right")
        .set("overlay.reencode=true")
        .set("camera.orientation=rotate-180")
        .spawn();
    let jpeg = daemon.stream("/stream").part().jpeg;
    let picture = Decoded::of(&jpeg);
    assert!(number_turned_back(&picture, "rotate-180") < 1000);
    let status = daemon.status();
    assert_eq!((&status["encoder"]["kind"], &status["encoder"]["overlay"]), (&"software".into(), &true.into()));
    assert!(status["encoder"]["reason"].as_str().unwrap().contains("decoded to draw on it"), "{status}");
    // Turned with the picture: the text stands in the picture's own upper right corner, upside down at the lower left.
    let mut turned_back = picture;
    turned_back.luma.reverse();
    let with = corner(&turned_back);
    assert!(with.0 > without.0 + 0.1, "{without:?} became {with:?}");

    let refused = Start::with(&["camera.source=replay", &path])
        .set("overlay.text=x")
        .set("encoder.kind=passthrough")
        .command(folder.path())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("set encoder.kind to auto and overlay.reencode to true"));
}
