//! What systemd is told, with a socket of ours in its place.

use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Daemon, PATIENCE, Start};

const WATCHDOG: Duration = Duration::from_secs(2);

#[test]
fn ready_status_and_stopping_are_told() {
    let mut daemon = Start::test_pattern().notify().spawn();
    let notify = daemon.notify.take().unwrap();
    notify.expect("READY=1");
    let status = notify.expect("STATUS=");
    assert!(status.contains(&format!("http://{}/", daemon.address)), "{status}");
    let mut streams: Vec<_> = (0..3).map(|_| daemon.stream("/stream")).collect();
    for stream in &mut streams {
        stream.part();
    }
    let (exit, took) = daemon.terminate();
    assert!(exit.success(), "{exit}");
    assert!(took < Duration::from_secs(2), "stopped in {took:?} with viewers");
    notify.expect("STOPPING=1");
    for stream in &mut streams {
        while stream.try_part().is_some() {}
    }
}

#[test]
fn interrupt_stops_too() {
    let mut daemon = Start::test_pattern().spawn();
    daemon.signal(libc::SIGINT);
    let exit = daemon.child.wait().unwrap();
    assert!(exit.success(), "{exit}");
}

#[test]
fn the_watchdog_is_fed_while_streaming_idle_and_without_a_camera() {
    let without_camera = ["camera.source=replay", "camera.replay.path=/nonexistent"];
    for (what, daemon) in [
        ("idle", Start::test_pattern().set("camera.idle_after=0s")),
        ("without a camera", Start::with(&without_camera)),
        ("stalled", Start::test_pattern().faults("{kind: stall, at: 5, for: 1h}")),
    ] {
        let daemon = daemon.watchdog(WATCHDOG).spawn();
        let notify = daemon.notify.as_ref().unwrap();
        notify.expect("READY=1");
        let fed = notify.count("WATCHDOG=1", 2 * WATCHDOG);
        assert!(fed >= 4, "{what}: fed {fed} times in two intervals");
    }
    let daemon = Start::test_pattern().watchdog(WATCHDOG).spawn();
    let mut stream = daemon.stream("/stream");
    let reader = std::thread::spawn(move || while stream.try_part().is_some() {});
    let notify = daemon.notify.as_ref().unwrap();
    assert!(notify.count("WATCHDOG=1", 2 * WATCHDOG) >= 4, "streaming");
    drop(daemon);
    reader.join().unwrap();
}

#[test]
fn a_hung_camera_misses_the_watchdog() {
    let daemon = Start::test_pattern().faults("{kind: hang, at: 40, for: 1h}").watchdog(WATCHDOG).spawn();
    let notify = daemon.notify.as_ref().unwrap();
    notify.expect("WATCHDOG=1");
    let mut stream = daemon.stream("/stream");
    stream.until("the last frame", |part| part.sequence() == 39);
    // For `escalate`, which must not take anything else for it.
    notify.expect("ERRNO=110");
    daemon.wait_for_log("a call to the camera has not returned");
    while notify.receive(Duration::from_millis(1)).is_some() {}
    assert_eq!(notify.count("WATCHDOG=1", 2 * WATCHDOG), 0);
    // The program itself still answers, and ends when it is told, whoever waits.
    assert_eq!(daemon.get("/api/v1/status").status, 200);
    let mut waiting = daemon.connect();
    crate::support::send_request(&mut waiting, "GET", "/snapshot?max_age_ms=0", "");
    let mut daemon = daemon;
    let (_, took) = daemon.terminate();
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_hung_camera_at_start_misses_the_watchdog() {
    let daemon = Start::test_pattern().faults("{kind: hang, at: 1, for: 1h}").watchdog(WATCHDOG).spawn();
    let notify = daemon.notify.as_ref().unwrap();
    notify.expect("READY=1");
    std::thread::sleep(WATCHDOG);
    while notify.receive(Duration::from_millis(1)).is_some() {}
    assert_eq!(notify.count("WATCHDOG=1", 2 * WATCHDOG), 0);
}

#[test]
fn a_camera_that_was_only_slow_is_taken_back() {
    let daemon = Start::test_pattern().faults("{kind: hang, at: 20, for: 3s}").watchdog(WATCHDOG).spawn();
    let notify = daemon.notify.as_ref().unwrap();
    let mut stream = daemon.stream("/stream");
    stream.part();
    notify.expect("ERRNO=110");
    notify.expect("ERRNO=0");
    notify.expect("WATCHDOG=1");
    stream.until("pictures after it", |part| part.sequence() > 20);
}

/// One thread of the daemon, made to stand still.
struct Stopped(libc::pid_t);

impl Stopped {
    /// The server's: it is the one that answers.
    fn server(daemon: &Daemon) -> Self {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
        let name = |task: &std::path::Path| std::fs::read_to_string(task.join("comm")).unwrap();
        let mut threads = tasks.map(|task| task.unwrap().path()).filter(|task| name(task).starts_with("actix-"));
        let thread = threads.next().expect("no thread of the server's");
        let thread: libc::pid_t = thread.file_name().unwrap().to_str().unwrap().parse().unwrap();
        // SAFETY: calls about a thread of our own child; no memory is passed.
        unsafe {
            let none = std::ptr::null_mut::<libc::c_void>();
            assert_eq!(libc::ptrace(libc::PTRACE_SEIZE, thread, none, none), 0, "{}", std::io::Error::last_os_error());
            assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, thread, none, none), 0);
            assert_eq!(libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL), thread);
        }
        Self(thread)
    }

    /// Waits until it has ended: the kernel keeps a process until whoever watches one of its threads has seen that.
    fn see_its_end(&self) {
        // SAFETY: as above.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL) };
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: as above. One that has ended is not there any more, which is no matter.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, none, none) };
    }
}

#[test]
fn a_stuck_server_ends_the_program_with_a_status_of_its_own() {
    let mut daemon = Start::test_pattern().watchdog(WATCHDOG).spawn();
    let notify = daemon.notify.take().unwrap();
    notify.expect("WATCHDOG=1");
    let server = Stopped::server(&daemon);
    let start = Instant::now();
    server.see_its_end();
    let exit = daemon.child.wait().unwrap();
    assert_eq!(exit.code(), Some(pinhole::supervisor::EXIT_SERVER_STUCK), "{exit}; log:\n{}", daemon.log());
    assert!(start.elapsed() < PATIENCE);
    daemon.wait_for_log("the HTTP server does not answer");
    while let Some(message) = notify.receive(Duration::from_millis(1)) {
        assert!(!message.contains("ERRNO=110"), "no camera is to blame");
    }
}

#[test]
fn a_server_that_stands_still_beside_a_hanging_camera_does_not_hide_it() {
    let daemon = Start::test_pattern().faults("{kind: hang, at: 30, for: 1h}").watchdog(WATCHDOG).spawn();
    let notify = daemon.notify.as_ref().unwrap();
    daemon.stream("/stream").until("the last frame", |part| part.sequence() == 29);
    let _server = Stopped::server(&daemon);
    notify.expect("ERRNO=110");
    assert_eq!(notify.count("WATCHDOG=1", 2 * WATCHDOG), 0, "the watchdog's business");
    assert!(std::path::Path::new(&format!("/proc/{}/task", daemon.pid())).exists());
    assert!(!daemon.log().contains("the HTTP server does not answer"), "{}", daemon.log());
}

#[test]
fn a_socket_from_systemd_is_used() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let inner = Start::test_pattern().command(folder.path());
    // The shell knows its own pid, which is the program's after exec.
    let mut command = Command::new("sh");
    let script = format!("exec 3<&{fd} {fd}<&-; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", fd = 9);
    command.args(["-c", &script, "sh"]).arg(inner.get_program()).args(inner.get_args());
    // SAFETY: dup2 is async-signal-safe; the copy loses close-on-exec.
    unsafe {
        let fd = listener.as_raw_fd();
        std::os::unix::process::CommandExt::pre_exec(&mut command, move || match libc::dup2(fd, 9) {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    // Connections made before the program runs are not lost.
    let mut connection = std::net::TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    crate::support::send_request(&mut connection, "GET", "/healthz", "");
    let mut reader = std::io::BufReader::new(connection);
    let answer = crate::support::Answer::read(&mut reader, true);
    assert_eq!(answer.status, 200);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_port_in_use_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let start = Instant::now();
    let output = Start::test_pattern().set(format!("http.listen={address}")).command(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(start.elapsed() < Duration::from_secs(5));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&format!("cannot listen on {address}")) && text.contains("http.listen"), "{text}");
}
