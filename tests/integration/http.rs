//! The HTTP contract, row by row.

use std::io::{BufReader, Read, Write};
use std::time::Duration;

use pinhole::jpeg;

use crate::support::{Answer, Start, Stream, frame_rate, frames, send_request};

#[test]
fn page_is_whole_and_needs_nothing_from_elsewhere() {
    let daemon = Start::test_pattern().spawn();
    for target in ["/", "/index.html", "/webcam/", "/?unknown=1"] {
        let answer = daemon.get(target);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html; charset=utf-8")), "{target}");
        let page = answer.text();
        assert!(page.starts_with("<!doctype html>") || page.starts_with("<!DOCTYPE html>"));
        for outside in ["src=\"http", "href=\"http", "@import", "//cdn"] {
            assert!(!page.contains(outside), "{outside} in the page");
        }
        assert!(answer.header("content-security-policy").unwrap().contains("default-src 'none'"));
    }
}

#[test]
fn streams_are_the_same_on_every_path_and_version() {
    let daemon = Start::test_pattern().spawn();
    for target in [
        "/stream",
        "/stream.mjpg",
        "/?action=stream",
        "/webcam/?action=stream",
        "/webcam/stream",
        "/stream?timestamp=123&bypassCache",
        "/webcam/?action=stream&cacheBust=9",
        "/stream?123",
    ] {
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            let mut stream = Stream::open(&daemon, target, version);
            for name in ["cache-control", "pragma", "expires"] {
                assert!(stream.headers.contains_key(name), "{name} of {target}");
            }
            let first = stream.part();
            let second = stream.part();
            assert!(second.sequence() > first.sequence());
            assert_ne!(first.jpeg, second.jpeg, "the picture moves");
            assert!(second.age() < Duration::from_secs(1));
        }
    }
}

#[test]
fn head_says_what_get_would() {
    let daemon = Start::test_pattern().spawn();
    for target in [
        "/",
        "/stream",
        "/snapshot",
        "/?action=stream",
        "/?action=snapshot",
        "/api/v1/status",
        "/api/v1/diagnostics",
        "/healthz",
    ] {
        let head = daemon.request("HEAD", target);
        assert_eq!((head.status, head.body.len()), (200, 0), "{target}");
        let content_type = match target {
            "/stream" | "/?action=stream" => {
                assert_eq!(head.header("content-length"), None, "a stream has no length");
                daemon.stream("/stream").headers["content-type"].clone()
            }
            _ => daemon.get(target).headers["content-type"].clone(),
        };
        assert_eq!(head.header("content-type"), Some(content_type.as_str()), "{target}");
    }
}

#[test]
fn snapshots_are_pictures_of_now() {
    let daemon = Start::test_pattern().spawn();
    for target in
        ["/snapshot", "/snapshot.jpg", "/?action=snapshot", "/webcam/?action=snapshot", "/?action=snapshot&123"]
    {
        let answer = daemon.get(target);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("image/jpeg")), "{target}");
        assert_eq!(answer.headers["content-length"], answer.body.len().to_string());
        assert_eq!(jpeg::inspect(&answer.body).unwrap().size.to_string(), "320x240");
        let age: u64 = answer.headers["x-age-ms"].parse().unwrap();
        assert!(age < 1000, "{age} ms old");
    }
}

#[test]
fn snapshot_can_ask_for_a_frame_newer_than_the_request() {
    let daemon = Start::test_pattern().set("camera.frame_rate=5").spawn();
    let mut stream = daemon.stream("/stream");
    for _ in 0..5 {
        let seen = stream.part().sequence();
        let answer = daemon.get("/snapshot?max_age_ms=0");
        let sequence: u64 = answer.headers["x-sequence"].parse().unwrap();
        assert!(sequence > seen, "{sequence} after {seen}");
    }
    assert_eq!(daemon.get("/snapshot?max_age_ms=soon").status, 400);
}

#[test]
fn connections_are_kept_for_everything_but_streams() {
    let daemon = Start::test_pattern().spawn();
    let mut connection = daemon.connect();
    for _ in 0..3 {
        for (method, target) in
            [("GET", "/snapshot"), ("HEAD", "/snapshot"), ("GET", "/api/v1/status"), ("GET", "/"), ("GET", "/nothing")]
        {
            send_request(&mut connection, method, target, "");
            let mut reader = BufReader::new(connection.try_clone().unwrap());
            let answer = Answer::read(&mut reader, method == "GET");
            assert_ne!(answer.header("connection"), Some("close"), "{target}");
            assert!(reader.buffer().is_empty(), "nothing is left over after {method} {target}");
        }
    }
}

#[test]
fn wrong_requests_get_clear_answers() {
    let daemon = Start::test_pattern().spawn();
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for target in ["/", "/stream", "/snapshot", "/api/v1/status", "/api/v1/diagnostics", "/metrics", "/healthz"] {
            let answer = daemon.request(method, target);
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, OPTIONS")), "{method} {target}");
        }
    }
    assert_eq!(daemon.get("/nothing").status, 404);
    assert_eq!(daemon.get("/streamx").status, 404);
    let answer = daemon.get("/stream?fps=lots");
    assert_eq!(answer.status, 400);
    assert_eq!(answer.text(), "fps must be a number between 0.05 and 120, got \"lots\"\n");
    assert_eq!(daemon.get("/?action=reboot").status, 400);
}

#[test]
fn status_health_and_metrics_agree() {
    let daemon = Start::test_pattern().spawn();
    let mut streams = [daemon.stream("/stream"), daemon.stream("/stream?fps=5")];
    for stream in &mut streams {
        for _ in 0..5 {
            stream.part();
        }
    }
    let status = daemon.status();
    assert_eq!(status["health"]["state"], "streaming");
    assert_eq!(status["camera"]["source"], "test-pattern");
    assert_eq!((&status["camera"]["width"], &status["camera"]["height"]), (&320.into(), &240.into()));
    assert_eq!(status["encoder"]["kind"], "software");
    assert_eq!(status["viewers"]["count"], 2);
    assert_eq!(status["viewers"]["list"][1]["fps_limit"], 5.0);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let health = daemon.get("/healthz");
    assert_eq!((health.status, health.text().as_str()), (200, "streaming\n"));
    let metrics = daemon.get("/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let metrics = metrics.text();
    for line in ["pinhole_viewers 2", "pinhole_state{state=\"streaming\"} 1", "pinhole_camera_reopened_total 0"] {
        assert!(metrics.lines().any(|l| l == line), "{line} in\n{metrics}");
    }
}

#[test]
fn fps_caps_one_viewer() {
    let daemon = Start::test_pattern().spawn();
    let mut capped = daemon.stream("/stream?fps=5");
    let free = daemon.stream("/stream").collect(60);
    let rate = frame_rate(&capped.parts(11));
    assert!((4.0..6.0).contains(&rate), "{rate} fps");
    let capped = &daemon.status()["viewers"]["list"][0];
    assert_eq!(capped["frames_skipped"], 0, "what it did not want it has not missed");
    let free = free.join().unwrap();
    assert!(free[59] - free[0] <= 65, "the other viewer is not capped: {free:?}");
}

#[test]
fn viewer_limit_says_when_to_come_back() {
    let daemon = Start::test_pattern().set("http.max_viewers=2").spawn();
    let first = daemon.stream("/stream");
    let _second = daemon.stream("/stream");
    let refused = daemon.get("/stream");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    assert!(refused.text().contains("http.max_viewers"), "{}", refused.text());
    assert_eq!(daemon.get("/snapshot").status, 200, "snapshots are not viewers");
    drop(first);
    daemon.wait_for("a free place", |status| status["viewers"]["count"] == 1);
    daemon.stream("/stream").part();
}

/// Reads so many bytes of the raw body, and what has come with them.
fn body(daemon: &crate::support::Daemon, target: &str, at_least: usize) -> Vec<u8> {
    let mut connection = daemon.connect();
    send_request(&mut connection, "GET", target, "");
    let (mut bytes, mut buffer) = (Vec::new(), [0; 65536]);
    while bytes.len() < at_least {
        let n = connection.read(&mut buffer).unwrap();
        assert!(n > 0, "the stream ended");
        bytes.extend_from_slice(&buffer[..n]);
    }
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    bytes.split_off(head + 4)
}

#[test]
fn advance_headers_come_right_behind_each_picture() {
    let folder = tempfile::tempdir().unwrap();
    frames(folder.path(), 3, 20_000);
    let path = format!("camera.replay.path={}", folder.path().display());
    let daemon = Start::with(&["camera.source=replay", "camera.frame_rate=20", &path]).spawn();
    let bytes = body(&daemon, "/stream?advance_headers=1", 130_000);
    let headers = "Content-Type: image/jpeg\r\n\r\n";
    let delimiter = format!("\r\n--{}\r\n{headers}", pinhole::publish::multipart::BOUNDARY);
    let mut rest = bytes.strip_prefix(&delimiter.as_bytes()[2..]).expect("opening with headers");
    let mut pictures = 0;
    // At every moment nothing but a whole delimiter follows a picture, though its own size is not told.
    while let Ok(length) = jpeg::length(rest) {
        let Some(after) = rest[length..].strip_prefix(delimiter.as_bytes()) else {
            assert!(rest.len() - length < delimiter.len(), "something else after picture {pictures}");
            break;
        };
        rest = after;
        pictures += 1;
    }
    assert!(pictures >= 5, "{pictures} pictures");
}

#[test]
fn dual_final_frames_repeat_the_last_picture_before_a_silence() {
    let daemon =
        Start::test_pattern().set("camera.stall_timeout=60s").faults("{kind: stall, at: 20, for: 30s}").spawn();
    let mut stream = daemon.stream("/stream?dual_final_frames=1");
    let mut plain = daemon.stream("/stream");
    let last = stream.until("the last frame", |part| part.sequence() == 19);
    let repeated = stream.part();
    assert_eq!((repeated.sequence(), &repeated.jpeg), (19, &last.jpeg));
    plain.until("the last frame", |part| part.sequence() == 19);
    plain.reader.get_ref().set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(plain.try_part().is_none(), "others get it once");
}

#[test]
fn a_client_that_closes_its_sending_side_still_gets_the_stream() {
    let daemon = Start::test_pattern().spawn();
    let mut stream = daemon.stream("/stream");
    stream.reader.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    for _ in 0..10 {
        stream.part();
    }
}

#[test]
fn a_second_request_on_a_streaming_connection_does_not_disturb_it() {
    let daemon = Start::test_pattern().spawn();
    let mut stream = daemon.stream("/stream");
    for i in 0..20 {
        stream.reader.get_mut().write_all(b"GET /snapshot HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        assert!(stream.part().sequence() > 0, "part {i}");
    }
}

#[test]
fn replayed_bytes_arrive_untouched() {
    let folder = tempfile::tempdir().unwrap();
    frames(folder.path(), 4, 50_000);
    let path = format!("camera.replay.path={}", folder.path().display());
    let daemon = Start::with(&["camera.source=replay", "camera.frame_rate=30", &path]).spawn();
    let mut stream = daemon.stream("/stream");
    let files: Vec<Vec<u8>> =
        (0..4).map(|i| std::fs::read(folder.path().join(format!("{i:04}.jpg"))).unwrap()).collect();
    let first = stream.part();
    let at = files.iter().position(|file| *file == first.jpeg).expect("one of the files");
    for i in 1..10 {
        assert!(stream.part().jpeg == files[(at + i) % 4], "frame {i} in name order");
    }
    assert_eq!(daemon.status()["encoder"]["kind"], "passthrough");
}

#[test]
fn pipelined_head_requests_leave_streams_whole() {
    let daemon = Start::test_pattern().spawn();
    let mut connection = daemon.connect();
    connection
        .write_all(
            b"GET /snapshot?max_age_ms=0 HTTP/1.1\r\nHost: x\r\n\r\nGET /stream HTTP/1.1\r\nHost: x\r\n\r\n\
              HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
        )
        .unwrap();
    let opening = [b"\r\n\r\n", pinhole::publish::multipart::OPENING, b"Content-Type: image/jpeg\r\n"].concat();
    let (mut bytes, mut buffer) = (Vec::new(), [0; 65536]);
    while !bytes.windows(opening.len()).any(|window| window == opening) {
        let n = connection.read(&mut buffer).unwrap();
        assert!(n > 0 && bytes.len() < 1_000_000, "no opening: {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&buffer[..n]);
    }
}

#[test]
fn addresses_are_forgiven_their_slashes() {
    let daemon = Start::test_pattern().spawn();
    for target in ["//snapshot", "/snapshot/", "/webcam//?action=snapshot", "/webcam/index.html", "/?action"] {
        assert_eq!(daemon.get(target).status, 200, "{target}");
    }
    daemon.stream("//stream/").part();
}

#[test]
fn requests_for_an_upgrade_are_answered_plainly() {
    let daemon = Start::test_pattern().spawn();
    let mut connection = daemon.connect();
    send_request(&mut connection, "GET", "/healthz", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n");
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes).to_lowercase();
    assert!(text.starts_with("http/1.1 200") && text.contains("connection: close"), "{text}");
}

#[test]
fn the_page_under_webcam_finds_what_it_asks_for() {
    let daemon = Start::test_pattern().spawn();
    for path in [
        "/webcam/",
        "/webcam/index.html",
        "/webcam/api/v1/status",
        "/webcam/api/v1/diagnostics",
        "/webcam/api/v1/settings",
    ] {
        assert_eq!(daemon.get(path).status, 200, "{path}");
    }
    daemon.patch("/webcam/api/v1/controls", r#"{"Brightness": 0.1}"#, 200);
    let answer = daemon.request("OPTIONS", "/webcam/api/v1/controls");
    assert!(answer.header("allow").unwrap().contains("PATCH"));
    assert!(answer.header("access-control-allow-origin").is_none(), "{answer:?}");
}
