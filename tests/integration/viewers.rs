//! Many viewers, stalled viewers, slow viewers: nobody harms anybody else.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::support::{Daemon, PATIENCE, Start, frames, send_request, wait_until};

fn replay(folder: &tempfile::TempDir, bytes: usize) -> Start {
    frames(folder.path(), 10, bytes);
    let path = format!("camera.replay.path={}", folder.path().display());
    Start::with(&["camera.source=replay", "camera.frame_rate=30", &path])
}

/// A viewer that asks and reads nothing.
fn stalled(daemon: &Daemon) -> TcpStream {
    let mut connection = daemon.connect();
    send_request(&mut connection, "GET", "/stream", "");
    connection
}

fn rss(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Bytes in the kernel's send queues of connections from `server`.
fn send_queues(server: SocketAddr) -> Vec<u64> {
    let local = format!(":{:04X} ", server.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table
        .lines()
        .filter(|line| line.split_whitespace().nth(1).is_some_and(|address| format!("{address} ").ends_with(&local)))
        .filter(|line| line.split_whitespace().nth(3) == Some("01"))
        .map(|line| {
            u64::from_str_radix(line.split_whitespace().nth(4).unwrap().split(':').next().unwrap(), 16).unwrap()
        })
        .collect()
}

#[test]
fn stalled_viewers_cost_little_and_nobody_else_anything() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = replay(&folder, 30_000).set("http.write_timeout=60s").spawn();
    let good: Vec<_> = (0..4).map(|_| daemon.stream("/stream").collect(120)).collect();
    daemon.wait_for("frames", |status| status["frames"]["sent"].as_u64() > Some(40));
    let before = rss(&daemon);
    let bad: Vec<_> = (0..4).map(|_| stalled(&daemon)).collect();
    std::thread::sleep(Duration::from_millis(2500));
    let growth = rss(&daemon).saturating_sub(before);
    assert!(growth <= 4 * 512 * 1024, "{growth} bytes for four stalled viewers");
    let queues = send_queues(daemon.address);
    assert!(queues.iter().all(|&bytes| bytes <= 256 * 1024), "{queues:?}");
    assert!(queues.iter().filter(|&&bytes| bytes > 0).count() >= 4, "they are stalled: {queues:?}");
    let status = daemon.status();
    let skipped: Vec<u64> =
        status["viewers"]["list"].as_array().unwrap().iter().map(|v| v["frames_skipped"].as_u64().unwrap()).collect();
    assert!(skipped[4..].iter().all(|&n| n > 30), "stalled viewers' frames are counted: {skipped:?}");
    for viewer in good {
        let sequences = viewer.join().unwrap();
        // A busy machine may cost anybody a frame; stalled viewers would cost nearly all.
        assert!(sequences[119] - sequences[0] <= 125, "frames are missed beside stalled viewers: {sequences:?}");
    }
    drop(bad);
    daemon.wait_for("no viewers", |status| status["viewers"]["count"] == 0);
}

#[test]
fn a_viewer_that_takes_nothing_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = replay(&folder, 90_000).set("http.write_timeout=2s").spawn();
    let mut good = daemon.stream("/stream");
    let start = Instant::now();
    let mut bad = stalled(&daemon);
    daemon.wait_for("both", |status| status["viewers"]["count"] == 2);
    while daemon.status()["viewers"]["count"] == 2 {
        good.part();
        assert!(start.elapsed() < PATIENCE, "the stalled viewer stays");
    }
    assert!(start.elapsed() >= Duration::from_secs(2), "not before its time");
    assert!(daemon.get("/metrics").text().contains("pinhole_viewers_timed_out_total 1\n"));
    // It is told by a reset, and the kernel keeps nothing for it.
    let mut rest = Vec::new();
    assert!(bad.read_to_end(&mut rest).is_err());
    assert!(send_queues(daemon.address).iter().all(|&bytes| bytes < 200_000));
    good.part();
}

#[test]
fn a_slow_viewer_sees_the_present() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = replay(&folder, 30_000).spawn();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket.connect(&daemon.address.into()).unwrap();
    let mut connection: TcpStream = socket.into();
    send_request(&mut connection, "GET", "/stream", "");
    // Half the stream's rate, in small steps.
    let (step, rate) = (7_500, 30.0 * 30_000.0 / 2.0);
    let (mut bytes, mut ages) = (Vec::new(), Vec::new());
    let start = Instant::now();
    let mut buffer = vec![0; step];
    let mut total = 0.0;
    while start.elapsed() < Duration::from_secs(6) {
        let n = connection.read(&mut buffer).unwrap();
        total += n as f64;
        bytes.extend_from_slice(&buffer[..n]);
        // A part is complete when its end of image has come.
        while let Some(end) = bytes.windows(4).position(|w| w == b"\xff\xd9\r\n") {
            let part = bytes.drain(..end + 4).collect::<Vec<_>>();
            let text = String::from_utf8_lossy(&part);
            let stamp: f64 = text.split("X-Timestamp: ").nth(1).unwrap().split('\r').next().unwrap().parse().unwrap();
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
            ages.push(now - stamp);
        }
        let due = Duration::from_secs_f64(total / rate);
        std::thread::sleep(due.saturating_sub(start.elapsed()));
    }
    let mut ages = ages.split_off(ages.len() / 2);
    ages.sort_by(f64::total_cmp);
    let median = ages[ages.len() / 2];
    assert!(median <= 0.45, "pictures are {median:.2} s old; all: {ages:.2?}");
}

#[test]
fn viewers_that_come_and_go_leave_nothing_behind() {
    let daemon = Start::test_pattern().spawn();
    drop(daemon.stream("/stream").part());
    daemon.wait_for("no viewer", |status| status["viewers"]["count"] == 0);
    let before = daemon.open_descriptors();
    for _ in 0..5 {
        let mut streams: Vec<_> = (0..20).map(|_| daemon.stream("/stream")).collect();
        for stream in &mut streams {
            stream.part();
        }
        // Some go without having read anything.
        let _unread: Vec<_> = (0..5).map(|_| stalled(&daemon)).collect();
    }
    daemon.wait_for("no viewer", |status| status["viewers"]["count"] == 0);
    // Connections are closed a little later than their viewers.
    wait_until("the connections' end", || daemon.open_descriptors() <= before + 1);
    assert!(daemon.get("/metrics").text().contains("pinhole_viewers 0\n"));
}

#[test]
fn many_viewers_get_every_frame() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = replay(&folder, 5_000).set("camera.frame_rate=10").spawn();
    let threads: Vec<_> = (0..64).map(|_| daemon.stream("/stream").collect(20)).collect();
    for thread in threads {
        let sequences = thread.join().unwrap();
        assert!(sequences[19] - sequences[0] <= 22, "{sequences:?}");
    }
}

/// CPU time of the process in milliseconds per second: what a loop that never sleeps shows.
fn cpu_milliseconds(daemon: &Daemon, time: Duration) -> f64 {
    let cpu = || -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
        let of = |path: std::path::PathBuf| std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        tasks.map(|task| of(task.unwrap().path()).split(' ').next().unwrap_or("0").parse::<u64>().unwrap_or(0)).sum()
    };
    let before = cpu();
    std::thread::sleep(time);
    (cpu() - before) as f64 / 1e6 / time.as_secs_f64()
}

#[test]
fn no_viewer_keeps_the_worker_spinning() {
    let daemon = Start::test_pattern().spawn();
    // A repeat that never comes due properly: capped, or stalled.
    let capped = daemon.stream("/stream?fps=1&dual_final_frames=1");
    let mut stalled = daemon.connect();
    send_request(&mut stalled, "GET", "/stream?dual_final_frames=1", "");
    std::thread::sleep(Duration::from_secs(1));
    let busy = cpu_milliseconds(&daemon, Duration::from_secs(2));
    assert!(busy < 400.0, "{busy} ms of CPU per second");
    drop((capped, stalled));

    // Requests without end behind a stream, which never lets them be answered.
    let mut connection = daemon.connect();
    send_request(&mut connection, "GET", "/stream", "");
    connection.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    for _ in 0..200 {
        if std::io::Write::write_all(&mut connection, request.as_bytes()).is_err() {
            break;
        }
    }
    std::thread::sleep(Duration::from_secs(2));
    let busy = cpu_milliseconds(&daemon, Duration::from_secs(2));
    assert!(busy < 400.0, "{busy} ms of CPU per second");
}

#[test]
fn a_slow_but_steady_viewer_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = replay(&folder, 90_000).set("http.write_timeout=1s").spawn();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket.connect(&daemon.address.into()).unwrap();
    let mut connection: TcpStream = socket.into();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    send_request(&mut connection, "GET", "/stream", "");
    let start = Instant::now();
    let mut buffer = [0; 6_000];
    while start.elapsed() < Duration::from_secs(5) {
        let n = connection.read(&mut buffer).expect("the viewer is dropped while it reads");
        assert!(n > 0, "the stream ended");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_viewer_that_wants_few_frames_is_missed_when_it_goes() {
    let daemon = Start::test_pattern().spawn();
    let mut stream = daemon.stream("/stream?fps=0.1");
    stream.part();
    drop(stream);
    let start = Instant::now();
    daemon.wait_for("no viewer", |status| status["viewers"]["count"] == 0);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_viewer_of_few_pictures_is_shown_its_last_one_again() {
    let daemon = Start::test_pattern().spawn();
    let mut stream = daemon.stream("/stream?fps=0.05");
    let first = stream.part();
    let mut last = first.received;
    for _ in 0..2 {
        let part = stream.part();
        let silence = part.received - last;
        assert!((Duration::from_secs(2)..Duration::from_secs(6)).contains(&silence), "{silence:?}");
        assert_eq!((part.sequence(), part.jpeg == first.jpeg), (first.sequence(), true));
        last = part.received;
    }
    assert_eq!(daemon.status()["viewers"]["list"][0]["frames_sent"], 1, "a repeated picture is not a new one");
    // Nobody else is sent anything twice.
    let mut quick = daemon.stream("/stream");
    let numbers: Vec<u64> = (0..150).map(|_| quick.part().sequence()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
}
