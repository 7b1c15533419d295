//! Strangers who want to take the camera down: requests without end, without answer, too slow, too large, too many.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Answer, Daemon, PATIENCE, Start, send_request, slowness};

/// As the daemon's debugging build has it: code that ships is smaller, and the bound on what ships is 20 MB.
const MEMORY_MAX: u64 = 20_000_000;

/// The most memory the daemon ever had, in bytes.
fn peak_memory(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// Processor time the daemon has used.
fn cpu_time(daemon: &Daemon) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    // utime and stime of proc(5), in ticks of 10 ms; the name before them ends with the last parenthesis.
    let ticks: u64 =
        stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}

/// Reads until the connection ends, and says what came.
fn rest(connection: &mut TcpStream) -> String {
    let mut text = String::new();
    // What comes is ASCII.
    match connection.read_to_string(&mut text) {
        Ok(_) => {}
        // An answer to what was not read is followed by a reset.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the connection does not end: {error}; so far: {text}"),
    }
    text
}

/// Sends without end until the other side takes no more, at most `max` bytes.
fn flood(connection: &mut TcpStream, bytes: &[u8], max: usize) -> usize {
    connection.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut sent = 0;
    while sent < max {
        match connection.write(bytes) {
            Ok(n) => sent += n,
            Err(_) => break,
        }
    }
    sent
}

#[test]
fn bursts_of_pipelined_requests_cost_little_memory_and_no_frames() {
    let daemon = Start::test_pattern().spawn();
    let mut stream = daemon.stream("/stream");
    let mut busy_for = |frames: u64| {
        let before = cpu_time(&daemon);
        (0..frames).for_each(|_| drop(stream.part()));
        cpu_time(&daemon).saturating_sub(before)
    };
    busy_for(10);
    let calm = busy_for(60);
    let burst = b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n".repeat(131_072 / 31);
    let attackers: Vec<_> = (0..20)
        .map(|_| {
            let mut connection = daemon.connect();
            flood(&mut connection, &burst, burst.len());
            connection
        })
        .collect();
    // A few requests are answered until nothing more fits between there and here; then what nobody reads costs nothing.
    let mut attacked = Vec::new();
    while attacked.last().is_none_or(|&busy| busy > 2 * calm + Duration::from_millis(50)) {
        assert!(attacked.len() < 10, "60 frames took {calm:?} of CPU, and then {attacked:?}");
        attacked.push(busy_for(60));
    }
    assert!(peak_memory(&daemon) < MEMORY_MAX, "{} bytes", peak_memory(&daemon));
    drop(attackers);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let daemon = Start::test_pattern().spawn();
    let targets = ["/healthz", "/nothing", "/api/v1/status", "/favicon.ico", "/snapshot", "/a?b"];
    let statuses = [200, 404, 200, 204, 200, 404];
    let requests = targets.map(|target| format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n")).concat();
    let rounds = 200;
    let mut connection = daemon.connect();
    let mut writer = connection.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        for _ in 0..rounds {
            writer.write_all(requests.as_bytes()).unwrap();
        }
        // A body, with a request right behind it.
        let body = "{\"quality\": 50}";
        let patch = format!(
            "PATCH /api/v1/settings HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let chunked = "PATCH /api/v1/settings HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n\
                       Transfer-Encoding: chunked\r\n\r\n5\r\n{\"qua\r\na\r\nlity\": 51}\r\n0\r\n\r\n";
        let last = "GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        writer.write_all(format!("{patch}{chunked}\r\n\r\n{last}").as_bytes()).unwrap();
    });
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    for _ in 0..rounds {
        for (target, status) in targets.iter().zip(statuses) {
            let answer = Answer::read(&mut reader, status != 204);
            assert_eq!(answer.status, status, "{target}");
        }
    }
    for quality in [50, 51] {
        let answer = Answer::read(&mut reader, true);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains(&format!("\"quality\":{quality}")), "{}", answer.text());
    }
    assert_eq!(Answer::read(&mut reader, true).status, 200);
    writing.join().unwrap();
    assert_eq!(rest(&mut connection), "");
}

#[test]
fn answers_on_a_kept_connection_come_at_once() {
    let daemon = Start::test_pattern().spawn();
    let mut reader = BufReader::new(daemon.connect());
    let mut quickest = Duration::MAX;
    // Of one that waits for the client's delayed acknowledgement, each takes 40 ms.
    for _ in 0..50 {
        let began = Instant::now();
        send_request(reader.get_mut(), "GET", "/", "");
        let answer = Answer::read(&mut reader, true);
        assert_eq!(answer.status, 200);
        quickest = quickest.min(began.elapsed());
    }
    assert!(quickest < Duration::from_millis(5) * slowness(), "{quickest:?} at best");
}

#[test]
fn a_head_has_ten_seconds_the_second_as_the_first() {
    let daemon = Start::test_pattern().spawn();
    let whole = "GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n";
    let slow = ["", "GET /he", "GET / HTTP/1.1\r\nHost: test\r\nX: "].map(|part| {
        [("", part), (whole, part)].map(|(before, part)| {
            let mut connection = daemon.connect();
            connection.write_all(before.as_bytes()).unwrap();
            if !before.is_empty() {
                let mut reader = BufReader::new(connection.try_clone().unwrap());
                assert_eq!(Answer::read(&mut reader, true).status, 200);
            }
            connection.write_all(part.as_bytes()).unwrap();
            (connection, Instant::now(), before, part)
        })
    });
    for (mut connection, began, before, part) in slow.into_iter().flatten() {
        if !before.is_empty() && part.is_empty() {
            // Nothing was begun: it may wait for its next request.
            continue;
        }
        // Bytes that come one by one do not make it longer.
        let mut dripping = connection.try_clone().unwrap();
        let drip = std::thread::spawn(move || {
            let nonsense = if part.is_empty() { "" } else { "x" };
            while began.elapsed() < Duration::from_secs(9) && dripping.write_all(nonsense.as_bytes()).is_ok() {
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        let answer = rest(&mut connection);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{before:?} {part:?}: {answer:?}");
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(9), "{took:?}");
        drip.join().unwrap();
    }
}

#[test]
fn a_head_has_sixteen_kibibytes_the_second_as_the_first() {
    let daemon = Start::test_pattern().spawn();
    for before in ["", "GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"] {
        let mut connection = daemon.connect();
        let head = format!("{before}GET / HTTP/1.1\r\nHost: test\r\nX: ");
        connection.write_all(head.as_bytes()).unwrap();
        flood(&mut connection, &[b'x'; 4096], 120_000);
        let answers = rest(&mut connection);
        assert!(answers.contains("HTTP/1.1 431 "), "{answers:?}");
        assert_eq!(answers.matches("HTTP/1.1 200 ").count(), usize::from(!before.is_empty()), "{answers:?}");
    }
    // What fits is served.
    let mut connection = daemon.connect();
    let long = "y".repeat(15_000);
    send_request(&mut connection, "GET", "/healthz", &format!("X: {long}\r\nConnection: close\r\n"));
    assert!(rest(&mut connection).starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_body_is_small_and_in_time_and_refused_before_it_is_read() {
    let daemon = Start::test_pattern().spawn();
    let ask = |headers: &str, body: &[u8]| {
        let mut connection = daemon.connect();
        send_request(
            &mut connection,
            "PATCH",
            "/api/v1/settings",
            &format!("Content-Type: application/json\r\n{headers}\r\n"),
        );
        let _ = connection.write_all(body);
        let began = Instant::now();
        let answer = rest(&mut connection);
        (answer, began.elapsed())
    };
    // Of all of these the body never comes.
    for (headers, status) in [
        ("Content-Length: 9000", "413"),
        ("Content-Length: 99999999999", "413"),
        ("Content-Length: 100\r\nOrigin: http://elsewhere.example", "403"),
        ("Transfer-Encoding: chunked\r\nOrigin: http://elsewhere.example", "403"),
    ] {
        let (answer, took) = ask(headers, b"");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}: {answer}");
        assert!(took < Duration::from_secs(4) * slowness(), "{headers}: {took:?}");
    }
    for (headers, body) in [("Content-Length: 100", "{"), ("Transfer-Encoding: chunked", "5\r\n{\"qua\r\n")] {
        let (answer, took) = ask(headers, body.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 408 "), "{headers}: {answer}");
        assert!(took >= Duration::from_secs(4), "{headers}: {took:?}");
    }
    let chunks = format!("1000\r\n{}\r\n", " ".repeat(4096)).repeat(4);
    let (answer, _) = ask("Transfer-Encoding: chunked", chunks.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let (answer, _) =
        ask("Content-Length: 8192\r\nConnection: close", format!("{{\"quality\": 50{}}}", " ".repeat(8177)).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn whoever_comes_finds_a_place_and_no_viewer_loses_his() {
    let daemon = Start::test_pattern().set("http.max_viewers=4").spawn();
    let mut stream = daemon.stream("/stream");
    stream.part();
    let before = daemon.open_descriptors();
    let parts: [&[u8]; 4] = [
        b"",
        b"GET / HTT",
        b"PATCH /api/v1/settings HTTP/1.1\r\nHost: test\r\nContent-Length: 50\r\nContent-Type: application/json\r\n\r\n{",
        b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n",
    ];
    let mut attackers = Vec::new();
    for number in 0..300 {
        let mut connection = daemon.connect();
        // Those that were there longest may have been closed already.
        let _ = connection.write_all(parts[number % parts.len()]);
        attackers.push(connection);
        if number % 50 == 49 {
            assert_eq!(daemon.get("/healthz").status, 200, "behind {number} others");
        }
    }
    // 64 beside the viewers', and a few in passing.
    let taken = daemon.open_descriptors();
    assert!(taken <= before + 80, "{before} descriptors became {taken}");
    assert_eq!(daemon.get("/snapshot").status, 200);
    let first = stream.part().sequence();
    assert!(stream.part().sequence() > first);
    // The first ones made room.
    for connection in &mut attackers[..100] {
        rest(connection);
    }
}

#[test]
fn requests_behind_a_stream_change_nothing() {
    let daemon = Start::test_pattern().spawn();
    let mut stream = daemon.stream("/stream");
    stream.part();
    let mut writer = stream.reader.get_ref().try_clone().unwrap();
    flood(&mut writer, &b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n".repeat(100), 10_000_000);
    let frames = stream.collect(30).join().unwrap();
    assert!(frames.is_sorted());
}

#[test]
fn clients_that_close_their_sending_side_get_all_their_answers() {
    let daemon = Start::test_pattern().spawn();
    let body = "{\"quality\": 50}";
    let patch = |framing: &str, body: &str| {
        format!(
            "PATCH /api/v1/settings HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n{framing}\r\n\r\n{body}"
        )
    };
    let get = "GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n";
    let requests = [
        (get.to_owned(), 1),
        (get.repeat(3), 3),
        (patch(&format!("Content-Length: {}", body.len()), body), 1),
        (patch("Transfer-Encoding: chunked", &format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())), 1),
        (patch(&format!("Content-Length: {}", body.len()), body) + get, 2),
    ];
    // Alone, and while a viewer has requests wait for each other.
    let mut busy = None;
    for _ in 0..2 {
        for (request, answers) in &requests {
            for _ in 0..10 {
                let mut connection = daemon.connect();
                connection.write_all(request.as_bytes()).unwrap();
                connection.shutdown(std::net::Shutdown::Write).unwrap();
                let text = rest(&mut connection);
                assert_eq!(text.matches("HTTP/1.1 200 OK").count(), *answers, "{request}: {text}");
            }
        }
        busy.get_or_insert_with(|| {
            let mut stream = daemon.stream("/stream");
            stream.part();
            let mut pipelining = daemon.connect();
            pipelining.set_write_timeout(Some(PATIENCE)).unwrap();
            let mut reader = pipelining.try_clone().unwrap();
            std::thread::spawn(move || while pipelining.write_all(get.repeat(100).as_bytes()).is_ok() {});
            std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
            std::thread::spawn(move || while stream.try_part().is_some() {})
        });
    }
}

#[test]
fn line_ends_ahead_of_a_request_are_passed_over() {
    let daemon = Start::test_pattern().spawn();
    for length in [2, 16_000, 16_384, 40_000] {
        let mut connection = daemon.connect();
        let began = Instant::now();
        connection.write_all("\r\n".repeat(length / 2).as_bytes()).unwrap();
        send_request(&mut connection, "GET", "/healthz", "Connection: close\r\n");
        assert!(rest(&mut connection).starts_with("HTTP/1.1 200 "), "{length}");
        // Not only when the time for the head is over.
        assert!(began.elapsed() < Duration::from_secs(9), "{length}: {:?}", began.elapsed());
    }
}

#[test]
fn answers_that_nobody_reads_cost_little_memory() {
    let daemon = Start::test_pattern().set("camera.resolution=1280x720").set("encoder.quality=95").spawn();
    let size = daemon.get("/snapshot").body.len();
    assert!(size > 40_000, "{size}");
    let before = peak_memory(&daemon);
    let unread: Vec<_> = (0..200)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_recv_buffer_size(2048).unwrap();
            socket.connect(&daemon.address.into()).unwrap();
            let mut connection: TcpStream = socket.into();
            send_request(&mut connection, "GET", "/snapshot", "");
            connection
        })
        .collect();
    daemon.wait_for("all have been asked", |status| status["frames"]["sent"].is_u64());
    assert_eq!(daemon.get("/snapshot").status, 200);
    // A slice of the picture for each, not all of it: and a few of the pictures themselves.
    let grown = peak_memory(&daemon) - before;
    assert!(grown < 200 * 32_000 + 20 * size as u64, "{grown} bytes for {size} bytes each");
    drop(unread);
}
