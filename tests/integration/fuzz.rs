//! Damaged input from the network and from the camera: nothing panics, nothing leaks.

use std::io::{Read, Write};
use std::time::Duration;

use crate::support::{Daemon, Start, padded_jpeg, wait_until};

/// A small generator: reproducible without a seed file.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*, Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

const REQUESTS: [&str; 8] = [
    "GET /stream?fps=3&advance_headers HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /?action=snapshot&max_age_ms=0 HTTP/1.0\r\n\r\n",
    "HEAD /snapshot HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "POST /api/v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789",
    "POST /stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "GET /metrics HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET http://x/%2e%2e/%00/stream?%zz=&&&=?? HTTP/1.1\r\nHost: x\r\n\r\n",
];

fn mutate(random: &mut Random, text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..random.below(6) {
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes[at] = random.next() as u8,
            1 => drop(bytes.splice(at..at, std::iter::repeat_n(b'A', random.below(300)))),
            2 => bytes.truncate(at.max(1)),
            _ => {
                let other = bytes[random.below(bytes.len())];
                bytes[at] = other;
            }
        }
    }
    bytes
}

fn assert_unharmed(daemon: &mut Daemon, descriptors: usize) {
    daemon.wait_for("no viewer", |status| status["viewers"]["count"] == 0);
    assert!(daemon.child.try_wait().unwrap().is_none(), "the program has ended");
    // Connections are closed a little later than their viewers.
    wait_until("the connections' end", || daemon.open_descriptors() <= descriptors + 1);
}

#[test]
fn damaged_requests_do_no_harm() {
    let mut daemon = Start::test_pattern().spawn();
    drop(daemon.stream("/stream").part());
    daemon.wait_for("no viewer", |status| status["viewers"]["count"] == 0);
    let descriptors = daemon.open_descriptors();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..10_000 {
        let mut connection = daemon.connect();
        connection.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        for _ in 0..=random.below(2) {
            let request = REQUESTS[random.below(REQUESTS.len())];
            let _ = connection.write_all(&mutate(&mut random, request));
        }
        if random.below(50) == 0 {
            let _ = connection.read(&mut [0; 512]);
        }
    }
    assert_eq!(daemon.get("/snapshot").status, 200);
    assert_unharmed(&mut daemon, descriptors);
}

#[test]
fn damaged_pictures_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(42);
    let whole = padded_jpeg(0, 9_000);
    for i in 0..240 {
        let mut jpeg = whole.clone();
        if i % 4 != 0 {
            for _ in 0..=random.below(8) {
                // Mostly headers: that is what the walk reads.
                let headers_only = random.below(3) != 0;
                let at = random.below(if headers_only { 700 } else { jpeg.len() });
                jpeg[at] = random.next() as u8;
            }
            if random.below(3) == 0 {
                jpeg.truncate(random.below(jpeg.len()));
            }
        }
        std::fs::write(folder.path().join(format!("{i:03}.jpg")), jpeg).unwrap();
    }
    let path = format!("camera.replay.path={}", folder.path().display());
    for more in [
        &[][..],
        &["camera.orientation=rotate-90"],
        &["camera.orientation=flip-horizontal"],
        &["overlay.text=x", "overlay.reencode=true"],
        &["overlay.text=x", "overlay.reencode=true", "camera.orientation=rotate-270"],
    ] {
        let set =
            [&["camera.source=replay", "camera.frame_rate=120", "encoder.software_load=100", &path], more].concat();
        let mut daemon = Start::with(&set).spawn();
        drop(daemon.stream("/stream").part());
        let descriptors = daemon.open_descriptors();
        // Each part that arrives is checked.
        let mut stream = daemon.stream("/stream");
        for _ in 0..150 {
            stream.part();
        }
        let frames = &daemon.status()["frames"];
        assert!(frames["dropped"].as_u64().unwrap() > 30, "{more:?}: {frames}");
        drop(stream);
        assert_unharmed(&mut daemon, descriptors);
    }
}

/// Changes that make no sense are refused with a reason; those that do leave a picture.
#[test]
fn any_change_is_made_or_refused() {
    let mut random = Random(0x00c0_ffee);
    let mut daemon = Start::test_pattern().spawn();
    // Only then everything is open that will be.
    daemon.get("/snapshot");
    let descriptors = daemon.open_descriptors();
    let values = [
        "null",
        "true",
        "-1",
        "0",
        "1e999",
        "5e-324",
        "18446744073709551616",
        "\"\"",
        "\"NaN\"",
        "[]",
        "{}",
        "[[1]]",
        "[0,0,1,1]",
        "[0,0,-1,4294967296]",
        "\"640x480\"",
        "\"16x16\"",
        "\"rotate-90\"",
        "[1e308,1e308]",
        "\"\\u0000\"",
        "[9223372036854775807,9223372036854775807,9223372036854775807,9223372036854775807]",
    ];
    let names = [
        "Brightness",
        "AeEnable",
        "ExposureTime",
        "AwbMode",
        "ColourGains",
        "ScalerCrop",
        "SensorTemperature",
        "",
        "\u{1F4F7}",
        "resolution",
        "frame_rate",
        "quality",
        "orientation",
    ];
    for round in 0..400 {
        let path = ["/api/v1/controls", "/api/v1/settings"][random.below(2)];
        let pairs: Vec<String> = (0..random.below(4))
            .map(|_| format!("\"{}\": {}", names[random.below(names.len())], values[random.below(values.len())]))
            .collect();
        let mut body = format!("{{{}}}", pairs.join(", ")).into_bytes();
        if round % 3 == 0 {
            body = mutate(&mut random, &String::from_utf8(body).unwrap());
        }
        let mut connection = daemon.connect();
        let head = format!(
            "PATCH {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        connection.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer);
        let status: u16 = text[9..12].parse().unwrap();
        assert!([200, 400, 422].contains(&status), "{}: {text}", String::from_utf8_lossy(&body));
        assert!(status == 200 || text.contains("\"error\""), "{text}");
    }
    assert_eq!(daemon.get("/snapshot").status, 200, "{}", daemon.log());
    assert_unharmed(&mut daemon, descriptors);
}

#[test]
fn bodies_that_nest_deeply_are_refused() {
    let mut daemon = Start::test_pattern().spawn();
    for unit in ["[", "{\"a\":"] {
        let body = unit.repeat(7000 / unit.len());
        for path in ["/api/v1/settings", "/api/v1/controls"] {
            let mut stream = std::net::TcpStream::connect(daemon.address).unwrap();
            let length = body.len();
            write!(
                stream,
                "PATCH {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            )
            .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 4") && answer.len() < 2000, "{path}: {answer}");
        }
    }
    assert!(daemon.child.try_wait().unwrap().is_none());
}
