//! Pictures as odd cameras send them, and as nobody should: shown where they can be, dropped where not, and neither costs
//! more memory than the pictures that were agreed on.

use std::path::Path;

use serde_json::json;

use crate::support::{Daemon, Start, frames, padded_jpeg};

/// A picture of 640x480, as this program makes them.
fn picture() -> Vec<u8> {
    padded_jpeg(3, 0)
}

/// Where the frame header is: its precision, height and width.
fn frame_header(jpeg: &[u8]) -> usize {
    jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap() + 4
}

fn lying(width: u16, height: u16) -> Vec<u8> {
    let mut lie = picture();
    let at = frame_header(&lie) + 1;
    lie[at..at + 2].copy_from_slice(&height.to_be_bytes());
    lie[at + 2..at + 4].copy_from_slice(&width.to_be_bytes());
    lie
}

/// One bit of the frame header flipped, each in turn: precision, size, components, how often each is sampled; also where
/// the JPEG says that it is progressive.
fn flipped_bits() -> Vec<Vec<u8>> {
    let at = frame_header(&picture());
    let flip = |at: usize, bit: u8, marker: u8| {
        let mut flipped = picture();
        flipped[frame_header(&picture()) - 3] = marker;
        flipped[at] ^= 1 << bit;
        flipped
    };
    (0..15)
        .flat_map(|byte| (0..8).flat_map(move |bit| [0xc0, 0xc2].map(|marker| flip(at + byte, bit, marker))))
        .collect()
}

fn write(folder: &Path, files: &[Vec<u8>]) {
    for (number, file) in files.iter().enumerate() {
        std::fs::write(folder.join(format!("{number:04}.jpg")), file).unwrap();
    }
}

/// A daemon that replays these files.
fn replay(folder: &Path, more: &[&str]) -> Start {
    let path = format!("camera.replay.path={}", folder.display());
    Start::with(&[&["camera.source=replay", "camera.resolution=640x480", &path], more].concat())
}

/// One with a webcam that agrees to 640x480 and sends these files.
fn webcam(offered: &Path, sent: &Path, more: &[&str]) -> Start {
    let standin = format!("nodes=none;cam_fps=100;camera=0:MJPG:{};cam_sends={}", offered.display(), sent.display());
    let settings = ["camera.source=v4l2", "camera.resolution=640x480", "camera.frame_rate=100"];
    Start::with(&[&settings, more].concat()).standin(&standin)
}

/// KiB from `/proc/PID/status`.
fn memory(daemon: &Daemon, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Everything that may be done to a camera's own pictures.
const WAYS: [&[&str]; 5] = [
    &[],
    &["camera.orientation=rotate-90"],
    &["camera.orientation=rotate-180"],
    &["overlay.text=x", "overlay.reencode=true"],
    &["overlay.text=x", "overlay.reencode=true", "camera.orientation=flip-vertical"],
];

/// Good pictures, and as many of which most lie.
fn good_and_lying() -> [tempfile::TempDir; 2] {
    let mut files = vec![picture(), lying(65000, 65000), lying(65535, 1), lying(1, 65535), lying(8192, 8192)];
    files.extend([lying(640, 4800), lying(12800, 480)]);
    files.extend(flipped_bits());
    let [good, bad] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    write(bad.path(), &files);
    write(good.path(), &vec![picture(); files.len()]);
    [good, bad]
}

/// The most memory (KiB) taken for all of some files. None of what is shown is larger than agreed.
fn peak(start: Start, is_good: bool) -> u64 {
    let daemon = start.set("encoder.software_load=100").set("camera.frame_rate=100").spawn();
    let mut stream = daemon.stream("/stream");
    stream.part();
    daemon.wait_for("all pictures", |status| status["frames"]["captured"].as_u64() > Some(260));
    for _ in 0..10 {
        let part = stream.part();
        let size = pinhole::jpeg::inspect(&part.jpeg).unwrap().size;
        assert!(size.width * size.height <= 640 * 480, "{size}");
    }
    let dropped = daemon.status()["frames"]["dropped"].as_u64().unwrap();
    assert!(if is_good { dropped == 0 } else { dropped > 20 }, "{dropped} dropped");
    memory(&daemon, "VmHWM:")
}

#[test]
fn headers_that_lie_are_dropped_and_cost_no_memory() {
    let [good, bad] = good_and_lying();
    for way in WAYS {
        let (usual, odd) = (peak(replay(good.path(), way), true), peak(replay(bad.path(), way), false));
        assert!(odd < usual + (4 << 10), "{way:?}: {odd} KiB, {usual} with good pictures only");
    }
}

#[test]
fn a_webcam_whose_headers_lie_costs_no_memory() {
    let [good, bad] = good_and_lying();
    for way in [WAYS[1], WAYS[3]] {
        let (offered, usual) = (good.path(), peak(webcam(good.path(), good.path(), way), true));
        let odd = peak(webcam(offered, bad.path(), way), false);
        assert!(odd < usual + (4 << 10), "{way:?}: {odd} KiB, {usual} with good pictures only");
    }
}

#[test]
fn pictures_are_cut_out_of_what_comes_with_them() {
    let [good, odd] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let picture = picture();
    write(good.path(), std::slice::from_ref(&picture));
    // Of a longer picture that was in the buffer before, with its end of image.
    let stale = [&picture[..], &padded_jpeg(4, 60_000)[picture.len()..], &[0; 500]].concat();
    let zeros = [&picture[..], &vec![0; 614_400 - picture.len()]].concat();
    let cases: [&[Vec<u8>]; 4] = [
        &[[&picture[..2], &picture].concat(), [&picture[..2], &picture[..2], &picture].concat()],
        std::slice::from_ref(&zeros),
        &[[&picture[..], b"left over", &[0xff; 33]].concat(), zeros.clone()],
        &[stale],
    ];
    for files in cases {
        write(odd.path(), files);
        for start in [replay(odd.path(), &[]), webcam(good.path(), odd.path(), &[])] {
            let daemon = start.spawn();
            let mut stream = daemon.stream("/stream");
            for _ in 0..50 {
                assert!(stream.part().jpeg == picture);
            }
            assert_eq!(daemon.status()["frames"]["dropped"], 0);
        }
        for way in &WAYS[1..] {
            replay(odd.path(), way).spawn().stream("/stream").part();
        }
    }
}

#[test]
fn stray_bytes_between_segments_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let picture = picture();
    let at = frame_header(&picture) - 4;
    let strays: [&[u8]; 4] = [b"\0", b"\x12\x34\x56\x78\x9a", b"\xff\0\xff\0", &[0; 300]];
    write(folder.path(), &strays.map(|stray| [&picture[..at], stray, &picture[at..]].concat()));
    for way in WAYS {
        let daemon = replay(folder.path(), way).spawn();
        let mut stream = daemon.stream("/stream");
        for _ in 0..8 {
            stream.part();
        }
        assert_eq!(daemon.status()["frames"]["dropped"], 0, "{way:?}: {}", daemon.log());
    }
}

#[test]
fn a_camera_that_never_sends_the_end_of_its_pictures_is_shown_after_a_while() {
    let [good, cut] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let picture = picture();
    write(good.path(), std::slice::from_ref(&picture));
    write(cut.path(), &[picture[..picture.len() - 2].to_vec()]);
    for way in WAYS {
        for start in [replay(cut.path(), way), webcam(good.path(), cut.path(), way)] {
            let daemon = start.spawn();
            let mut stream = daemon.stream("/stream");
            let shown = stream.until("a picture", |part| part.size() != "1280x720");
            assert!(!way.is_empty() || shown.jpeg == picture, "with its end, and nothing else");
            let status = daemon.wait_for("the note", |status| status["camera"]["notes"] != json!([]));
            let note = status["camera"]["notes"][0].as_str().unwrap();
            assert!(note.contains("no end of image (EOI): it is appended"), "{note}");
            assert!(status["frames"]["dropped"].as_u64() > Some(2), "not at once: {status}");
        }
    }
    // Where others are whole, those are damaged.
    std::fs::write(cut.path().join("9999.jpg"), &picture).unwrap();
    let daemon = replay(cut.path(), &[]).spawn();
    let mut stream = daemon.stream("/stream");
    stream.until("many pictures", |part| part.sequence() > 90);
    let status = daemon.status();
    let (dropped, encoded) = (&status["frames"]["dropped"], &status["frames"]["encoded"]);
    assert!(dropped.as_u64().unwrap().abs_diff(encoded.as_u64().unwrap()) <= 2, "{status}");
    assert_eq!(status["camera"]["notes"], json!([]));
}

#[test]
fn another_size_than_was_agreed_is_shown_with_a_note() {
    let [good, small] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    write(good.path(), &[picture()]);
    // A single field, and a turned one.
    for (width, height, ways) in [(640, 240, &WAYS[..]), (480, 640, &WAYS[..2])] {
        write(small.path(), &[lying(width, height)]);
        for way in ways {
            let daemon = webcam(good.path(), small.path(), way).spawn();
            let mut stream = daemon.stream("/stream");
            let turned = way.contains(&"camera.orientation=rotate-90");
            let expected = if turned { format!("{height}x{width}") } else { format!("{width}x{height}") };
            assert_eq!(stream.part().size(), expected, "{way:?}");
            let note = format!("the camera agreed to pictures of 640x480 and sends {width}x{height}");
            let status = daemon.wait_for("the note", |status| status["camera"]["notes"] != json!([]));
            assert_eq!(status["camera"]["notes"], json!([note]));
            daemon.wait_for_log(&note);
        }
    }
}

#[test]
fn a_camera_that_only_sends_more_than_it_agreed_to_is_named() {
    let [good, large] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    write(good.path(), &[picture()]);
    write(large.path(), &[lying(1920, 1080)]);
    let daemon = webcam(good.path(), large.path(), &["camera.stall_timeout=1s"]).spawn();
    let snapshot = daemon.get("/snapshot");
    assert_eq!(snapshot.status, 503);
    let reason = snapshot.header("x-reason").unwrap();
    assert!(
        reason.contains("1920x1080, which is more than 640x480") && reason.contains("camera.resolution"),
        "{reason}"
    );
}

#[test]
fn replay_says_that_its_files_have_the_size_they_have() {
    let folder = tempfile::tempdir().unwrap();
    frames(folder.path(), 2, 0);
    let daemon = replay(folder.path(), &["camera.resolution=320x240"]).spawn();
    assert_eq!(daemon.stream("/stream").part().size(), "640x480");
    let status = daemon.status();
    assert_eq!(status["camera"]["width"], 640);
    let note = status["camera"]["notes"][0].as_str().unwrap();
    assert!(note.contains("camera.resolution 320x240 has no effect") && note.contains("640x480"), "{note}");
    assert_eq!(replay(folder.path(), &[]).spawn().status()["camera"]["notes"], json!([]));
}

#[test]
fn memory_for_large_pictures_is_given_back() {
    const LARGE: usize = 3_000_000;
    let folder = tempfile::tempdir().unwrap();
    // Of the size that was agreed on, but long.
    let mut files: Vec<_> = (0..5).map(|number| padded_jpeg(number, LARGE)).collect();
    files.extend((0..300).map(|number| padded_jpeg(number, 0)));
    write(folder.path(), &files);
    let daemon = replay(folder.path(), &["camera.frame_rate=60"]).spawn();
    let mut stream = daemon.stream("/stream");
    let (mut during, mut after, mut small) = (0, u64::MAX, 0);
    for _ in 0..400 {
        if stream.part().jpeg.len() > LARGE / 2 {
            (during, small) = (during.max(memory(&daemon, "RssAnon:")), 0);
        } else {
            small += 1;
            if small > 150 {
                after = after.min(memory(&daemon, "RssAnon:"));
            }
        }
    }
    // Two parts at least were that long.
    assert!(after + LARGE as u64 * 3 / 2 / 1024 < during, "{during} KiB, and {after} after that");
}
