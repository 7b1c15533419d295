//! Spawns the daemon, speaks HTTP to it, reads its streams strictly.

#[path = "../instruments/start.rs"]
mod start;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pinhole::jpeg;
use serde_json::Value;
pub use start::standin_library;

/// Nothing in a test takes longer on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running daemon; stopped when dropped.
pub struct Daemon {
    pub child: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<String>>,
    folder: tempfile::TempDir,
    pub notify: Option<Notify>,
}

/// What to start.
pub struct Start {
    set: Vec<String>,
    user_file: Option<String>,
    user_file_is_missing: bool,
    watchdog: Option<Duration>,
    notify: bool,
    standin: Option<String>,
    hold: Option<String>,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Start {
    /// The test pattern: small and fast.
    pub fn test_pattern() -> Self {
        Self::with(&["camera.source=test-pattern", "camera.resolution=320x240", "camera.frame_rate=30"])
    }

    pub fn with(set: &[&str]) -> Self {
        let set = set.iter().map(|&s| s.to_owned()).collect();
        let (user_file, watchdog, standin, hold) = (None, None, None, None);
        Self {
            set,
            user_file,
            user_file_is_missing: false,
            watchdog,
            notify: false,
            standin,
            hold,
            environment: Vec::new(),
        }
    }

    pub fn set(mut self, argument: impl Into<String>) -> Self {
        self.set.push(argument.into());
        self
    }

    /// `camera.faults`.
    pub fn faults(self, faults: &str) -> Self {
        self.set(format!("camera.faults=[{faults}]"))
    }

    /// Text of the FAT partition's file.
    pub fn user_file(mut self, text: &str) -> Self {
        self.user_file = Some(text.to_owned());
        self
    }

    /// Names a file that is not there.
    pub fn missing_user_file(mut self) -> Self {
        self.user_file_is_missing = true;
        self
    }

    /// Below it, the stand-in for the Pi's codec and for V4L2 cameras, with these settings.
    pub fn standin(mut self, settings: &str) -> Self {
        self.standin = Some(settings.to_owned());
        self
    }

    /// `PINHOLE_HOLD`: the camera is left alone.
    pub fn hold(mut self, reason: &str) -> Self {
        self.hold = Some(reason.to_owned());
        self
    }

    /// A variable that names a file or a folder.
    pub fn environment(mut self, name: &'static str, path: impl Into<PathBuf>) -> Self {
        self.environment.push((name, path.into()));
        self
    }

    /// Gives it a fake `NOTIFY_SOCKET`.
    pub fn notify(mut self) -> Self {
        self.notify = true;
        self
    }

    /// And a watchdog.
    pub fn watchdog(mut self, interval: Duration) -> Self {
        self.watchdog = Some(interval);
        self.notify()
    }

    pub fn command(&self, folder: &Path) -> Command {
        let mut command = pinholed();
        // An empty one where there is none: one that is named and missing is told of.
        let mut user_file = PathBuf::from(if self.user_file_is_missing { "/nonexistent" } else { "/dev/null" });
        if let Some(text) = &self.user_file {
            user_file = folder.join("user.yaml");
            std::fs::write(&user_file, text).unwrap();
        }
        command.arg("--user-config").arg(user_file).args(["--set", "http.listen=127.0.0.1:0"]);
        for argument in &self.set {
            command.args(["--set", argument]);
        }
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "JOURNAL_STREAM"] {
            command.env_remove(name);
        }
        if let Some(settings) = &self.standin {
            let report = folder.join("report.json");
            // The libcamera lane preloads a library of its own.
            let preload = std::env::var("PINHOLE_LIBCAMERA_SHIM").unwrap_or_default();
            command.env("LD_PRELOAD", format!("{preload} {}", standin_library().display()).trim());
            command.env("PINHOLE_V4L2_STANDIN", format!("report={};{settings}", report.display()));
        }
        if let Some(interval) = self.watchdog {
            command.env("WATCHDOG_USEC", interval.as_micros().to_string());
        }
        if let Some(reason) = &self.hold {
            command.env("PINHOLE_HOLD", reason);
        }
        command.envs(self.environment.iter().map(|(name, path)| (name, path)));
        command
    }

    pub fn spawn(self) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let mut command = self.command(folder.path());
        let notify = self.notify.then(|| Notify::new(folder.path()));
        if let Some(notify) = &notify {
            command.env("NOTIFY_SOCKET", &notify.path);
        }
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (tell, told) = std::sync::mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let copy = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on http://") {
                    let _ = tell.send(rest.split('/').next().unwrap().to_owned());
                }
                let mut log = copy.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let Ok(address) = told.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            panic!("pinholed did not listen; it said:\n{}", log.lock().unwrap());
        };
        Daemon { child, address: address.parse().unwrap(), log, folder, notify }
    }
}

/// How many times more time a picture is given to be made and encoded than on this machine itself:
/// `PINHOLE_TEST_SLOWNESS`, for the daemon in an emulator.
pub fn slowness() -> u32 {
    std::env::var("PINHOLE_TEST_SLOWNESS").map_or(1, |text| text.parse().unwrap())
}

/// The daemon under test, without arguments.
pub fn pinholed() -> Command {
    start::command(std::env::var_os("PINHOLED").unwrap_or_else(|| env!("CARGO_BIN_EXE_pinholed").into()))
}

impl Daemon {
    /// One request with a JSON body.
    pub fn send(&self, method: &str, target: &str, body: &str, headers: &str) -> Answer {
        let mut connection = self.connect();
        let headers = format!(
            "Connection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}",
            body.len()
        );
        send_request(&mut connection, method, target, &headers);
        connection.write_all(body.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        connection.read_to_end(&mut bytes).unwrap();
        Answer::parse(&bytes)
    }

    /// PATCH with a JSON body; the answer must have this status.
    pub fn patch(&self, target: &str, body: &str, status: u16) -> Value {
        let answer = self.send("PATCH", target, body, "");
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// What the stand-in noted.
    pub fn report(&self) -> Value {
        let text = std::fs::read_to_string(self.folder.path().join("report.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log has this: it comes by a pipe, later than what it tells of may be seen.
    pub fn wait_for_log(&self, text: &str) {
        let start = Instant::now();
        while !self.log().contains(text) {
            assert!(start.elapsed() < PATIENCE, "never logged: {text}; log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One request on a connection of its own.
    pub fn request(&self, method: &str, target: &str) -> Answer {
        let mut connection = self.connect();
        send_request(&mut connection, method, target, "Connection: close\r\n");
        let mut bytes = Vec::new();
        connection.read_to_end(&mut bytes).unwrap();
        Answer::parse(&bytes)
    }

    pub fn get(&self, target: &str) -> Answer {
        self.request("GET", target)
    }

    pub fn connect(&self) -> TcpStream {
        let connection = TcpStream::connect(self.address).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection
    }

    pub fn status(&self) -> Value {
        let answer = self.get("/api/v1/status");
        assert_eq!(answer.status, 200);
        serde_json::from_slice(&answer.body).unwrap()
    }

    pub fn stream(&self, target: &str) -> Stream {
        Stream::open(self, target, "HTTP/1.1")
    }

    /// Waits until `condition` holds for the status document.
    pub fn wait_for(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.status();
            if condition(&status) {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "never came: {what}; status is {status:#}\nlog:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn open_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// SIGTERM, and how the program ended.
    pub fn terminate(&mut self) -> (std::process::ExitStatus, Duration) {
        self.signal(libc::SIGTERM);
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, start.elapsed());
            }
            assert!(start.elapsed() < PATIENCE, "pinholed does not end; log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a signal to our own child, which has not been waited for.
        unsafe { libc::kill(self.pid().cast_signed(), signal) };
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of pinholed:\n{}", self.log());
        } else {
            assert!(!self.log().contains("panicked"), "{}", self.log());
            assert!(!self.log().contains("VIOLATION"), "{}", self.log());
        }
    }
}

pub fn send_request(connection: &mut TcpStream, method: &str, target: &str, headers: &str) {
    let request = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
    connection.write_all(request.as_bytes()).unwrap();
}

/// A whole HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("no end of the head");
        let (status, headers) = parse_head(&bytes[..end]);
        Self { status, headers, body: bytes[end + 4..].to_vec() }
    }

    /// From a connection that stays open.
    pub fn read(connection: &mut BufReader<TcpStream>, has_body: bool) -> Self {
        let (status, headers) = read_head(connection);
        let mut body = Vec::new();
        if has_body {
            body.resize(headers["content-length"].parse().unwrap(), 0);
            connection.read_exact(&mut body).unwrap();
        }
        Self { status, headers, body }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn read_head(connection: &mut impl BufRead) -> (u16, HashMap<String, String>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let n = connection.read_until(b'\n', &mut head).unwrap();
        assert!(n > 0, "the connection ended in the head: {:?}", String::from_utf8_lossy(&head));
    }
    parse_head(&head[..head.len() - 4])
}

fn parse_head(head: &[u8]) -> (u16, HashMap<String, String>) {
    let text = std::str::from_utf8(head).unwrap();
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap();
    assert!(first.starts_with("HTTP/1."), "{first}");
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no colon in {line:?}"));
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    (first.split(' ').nth(1).unwrap().parse().unwrap(), headers.collect())
}

/// One part of a stream.
#[derive(Debug)]
pub struct Part {
    pub headers: HashMap<String, String>,
    pub jpeg: Vec<u8>,
    pub received: Instant,
}

impl Part {
    pub fn sequence(&self) -> u64 {
        self.headers["x-sequence"].parse().unwrap()
    }

    pub fn age(&self) -> Duration {
        Duration::from_secs_f64((unix_time() - self.received.elapsed().as_secs_f64() - self.timestamp()).max(0.0))
    }

    pub fn size(&self) -> String {
        jpeg::inspect(&self.jpeg).unwrap().size.to_string()
    }

    /// When it was captured, in seconds since 1970.
    pub fn timestamp(&self) -> f64 {
        self.headers["x-timestamp"].parse().unwrap()
    }
}

/// Pictures per second by the camera's clock. The pause in the middle counts: neither a machine that stands still for a
/// moment nor a reader that comes late changes it.
pub fn frame_rate(parts: &[Part]) -> f64 {
    let mut pauses: Vec<f64> = parts.windows(2).map(|pair| pair[1].timestamp() - pair[0].timestamp()).collect();
    pauses.sort_by(f64::total_cmp);
    1.0 / pauses[pauses.len() / 2]
}

/// A stream, read as strictly as the strictest client.
pub struct Stream {
    pub reader: BufReader<TcpStream>,
    pub headers: HashMap<String, String>,
    boundary: String,
}

impl Stream {
    pub fn open(daemon: &Daemon, target: &str, version: &str) -> Self {
        let mut connection = daemon.connect();
        connection.write_all(format!("GET {target} {version}\r\nHost: test\r\n\r\n").as_bytes()).unwrap();
        let mut reader = BufReader::new(connection);
        let (status, headers) = read_head(&mut reader);
        assert_eq!(status, 200, "{headers:?}");
        assert!(!headers.contains_key("transfer-encoding") && !headers.contains_key("content-length"), "{headers:?}");
        // HTTP/1.0 closes unless it says otherwise.
        let connection = headers.get("connection").map(|value| value.to_ascii_lowercase());
        assert_eq!(connection.as_deref(), (version == "HTTP/1.1").then_some("close"));
        let boundary = headers["content-type"].strip_prefix("multipart/x-mixed-replace;boundary=").unwrap().to_owned();
        assert!(boundary.bytes().all(|b| b.is_ascii_alphanumeric()), "{boundary}");
        let mut stream = Self { reader, headers, boundary };
        stream.expect(&format!("--{}\r\n", stream.boundary));
        stream
    }

    fn expect(&mut self, text: &str) {
        let mut bytes = vec![0; text.len()];
        self.reader.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), text);
    }

    pub fn part(&mut self) -> Part {
        self.try_part().expect("the stream ended")
    }

    pub fn parts(&mut self, count: usize) -> Vec<Part> {
        (0..count).map(|_| self.part()).collect()
    }

    /// The next part, or `None` at the end of the stream.
    pub fn try_part(&mut self) -> Option<Part> {
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.strip_suffix("\r\n").expect("a line without CRLF");
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no header: {line:?}"));
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        assert_eq!(headers["content-type"], "image/jpeg");
        let mut jpeg = vec![0; headers["content-length"].parse().unwrap()];
        self.reader.read_exact(&mut jpeg).ok()?;
        let received = Instant::now();
        let delimiter = format!("\r\n--{}\r\n", self.boundary);
        let mut bytes = vec![0; delimiter.len()];
        self.reader.read_exact(&mut bytes).ok()?;
        assert_eq!(String::from_utf8_lossy(&bytes), delimiter);
        jpeg::inspect(&jpeg).unwrap();
        Some(Part { headers, jpeg, received })
    }

    /// Reads `count` parts on a thread of its own, so that no viewer waits for another; gives their sequence numbers.
    pub fn collect(mut self, count: usize) -> std::thread::JoinHandle<Vec<u64>> {
        std::thread::spawn(move || (0..count).map(|_| self.part().sequence()).collect())
    }

    /// Reads parts until one fulfils `condition`.
    pub fn until(&mut self, what: &str, condition: impl Fn(&Part) -> bool) -> Part {
        let start = Instant::now();
        loop {
            let part = self.part();
            if condition(&part) {
                return part;
            }
            assert!(start.elapsed() < PATIENCE, "never came: {what}");
        }
    }
}

/// Seconds since 1970.
pub fn unix_time() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Waits until `condition` holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never came: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A decoded picture: luma, its stride, and the two chroma planes.
pub struct Decoded {
    pub size: pinhole::frame::Size,
    pub stride: usize,
    pub luma: Vec<u8>,
}

impl Decoded {
    /// Decodes the luma of a JPEG of any subsampling.
    pub fn of(jpeg: &[u8]) -> Self {
        use turbojpeg_sys as tj;
        let size = jpeg::inspect(jpeg).unwrap().size;
        let (width, height) = (size.width as usize, size.height as usize);
        let mut luma = vec![0u8; width * height];
        // SAFETY: the buffer holds a picture of one byte a pixel; the handle is made, used and destroyed here.
        unsafe {
            let handle = tj::tj3Init(tj::TJINIT_TJINIT_DECOMPRESS as i32);
            let (data, length) = (jpeg.as_ptr(), jpeg.len() as _);
            assert_eq!(tj::tj3DecompressHeader(handle, data, length), 0);
            let format = tj::TJPF_TJPF_GRAY;
            assert_eq!(tj::tj3Decompress8(handle, data, length, luma.as_mut_ptr(), width as i32, format), 0);
            tj::tj3Destroy(handle);
        }
        Self { size, stride: width, luma }
    }

    pub fn at(&self, x: u32, y: u32) -> u8 {
        self.luma[y as usize * self.stride + x as usize]
    }

    /// The number the test pattern draws into its pictures.
    pub fn frame_number(&self) -> u32 {
        pinhole::camera::test_pattern::read_frame_number(&self.luma, self.stride, self.size).unwrap()
    }
}

/// A fake `NOTIFY_SOCKET`.
pub struct Notify {
    socket: UnixDatagram,
    path: std::path::PathBuf,
}

impl Notify {
    fn new(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { socket, path }
    }

    /// The next message within `timeout`.
    pub fn receive(&self, timeout: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(timeout.max(Duration::from_millis(1)))).unwrap();
        let mut buffer = [0; 4096];
        let n = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..n]).into_owned())
    }

    /// Waits for a message that starts with `prefix`.
    pub fn expect(&self, prefix: &str) -> String {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(message) = self.receive(PATIENCE.saturating_sub(start.elapsed()))
                && message.starts_with(prefix)
            {
                return message;
            }
        }
        panic!("systemd was never told {prefix}");
    }

    /// Messages that start with `prefix`, in this time.
    pub fn count(&self, prefix: &str, time: Duration) -> usize {
        let start = Instant::now();
        let mut count = 0;
        while let Some(left) = time.checked_sub(start.elapsed()) {
            count += usize::from(self.receive(left).is_some_and(|message| message.starts_with(prefix)));
        }
        count
    }
}

/// A folder of JPEGs of about `bytes` each, for replay. The comment segment tells them apart.
pub fn frames(folder: &Path, count: usize, bytes: usize) {
    for i in 0..count {
        std::fs::write(folder.join(format!("{i:04}.jpg")), padded_jpeg(i, bytes)).unwrap();
    }
}

/// A real JPEG brought to `bytes` with comment segments.
pub fn padded_jpeg(number: usize, bytes: usize) -> Vec<u8> {
    use pinhole::encoder::{Encoder, Software};
    use pinhole::frame::{MonotonicTime, PixelFormat, Plane, RawFrame, Size};
    let luma: Vec<u8> = (0..640 * 480).map(|i| (i / 640 + i % 640 + number * 5) as u8).collect();
    let chroma = vec![128; 320 * 240];
    let planes = [(&luma, 640), (&chroma, 320), (&chroma, 320)].map(|(data, stride)| Plane {
        data,
        stride,
        fd: None,
        offset: 0,
    });
    let size = Size { width: 640, height: 480 };
    let raw = RawFrame::new(PixelFormat::Yuv420, size, planes, 0, MonotonicTime::now());
    let encoded = Software::new(70).unwrap().encode(&raw).unwrap().pieces.concat();
    let mut jpeg = encoded[..2].to_vec();
    let mut missing = bytes.saturating_sub(encoded.len());
    while missing > 4 {
        let length = missing.min(60_000);
        jpeg.extend([0xff, 0xfe]);
        jpeg.extend(((length - 2) as u16).to_be_bytes());
        jpeg.extend(std::iter::repeat_n(b'a' + (number % 26) as u8, length - 4));
        missing -= length;
    }
    jpeg.extend(&encoded[2..]);
    jpeg
}
