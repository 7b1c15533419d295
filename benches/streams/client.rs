//! The load client: up to some hundreds of viewers in one thread of a process of its own.
//!
//! It takes one command a line on standard input and answers each with one line of JSON:
//!
//! | command | meaning |
//! |---|---|
//! | `open good N` | N viewers that read whatever there is; answered when each has its first picture |
//! | `open slow N RATE` | N viewers that read RATE bytes a second through a receive buffer of 64 KB; answered likewise |
//! | `open stalled N` | N viewers that read the response's head and nothing more; answered when each has it |
//! | `mark` | forget what was counted so far |
//! | `report` | what was counted since the mark |
//!
//! It ends when its input does, so it never outlives the benchmark.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

/// Connections waiting for their first answer at one time. The Python server's listen backlog is 5; more than it takes
/// would be retried by the kernel after a second and tell nothing about streaming.
const OPENING_AT_ONCE: usize = 4;
/// What a slow viewer lets its kernel hold back for it.
const SLOW_RECEIVE_BUFFER: usize = 64 * 1024;
/// How often slow viewers read.
const SLOW_TICK_NS: i64 = 10_000_000;
/// Where fakecam.c and seed.py stamp the time into the JPEG, and how.
const STAMP: std::ops::Range<usize> = 28..44;
const STAMP_MARK: std::ops::Range<usize> = 24..28;

const STDIN_TOKEN: u64 = u64::MAX;
const TIMER_TOKEN: u64 = u64::MAX - 1;

/// Where a picture's capture time is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The part's `X-Timestamp`: Unix seconds with microseconds.
    Header,
    /// The stamp in the JPEG's comment: `CLOCK_MONOTONIC`, nanoseconds.
    Stamp,
}

impl Clock {
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Stamp => "stamp",
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Good,
    Slow { rate: f64 },
    Stalled,
}

#[derive(PartialEq, Eq)]
enum Phase {
    Connecting,
    ResponseHead,
    PartHead,
    Body { left: usize },
}

struct Viewer {
    socket: Socket,
    kind: Kind,
    phase: Phase,
    /// Header bytes so far.
    text: Vec<u8>,
    /// First bytes of the picture being read, as far as the stamp reaches.
    start: Vec<u8>,
    /// `X-Timestamp` of that picture, in nanoseconds.
    header_time: Option<i64>,
    /// Bytes a slow viewer may read now.
    allowance: f64,
    local_port: u16,
    /// Its `open` command is not answered before this.
    opened: bool,
    closed: Option<String>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    frames: u64,
    bytes: u64,
    first: i64,
    last: i64,
    /// Microseconds from capture to the last byte read.
    ages: Vec<u32>,
    /// Pictures without a readable capture time.
    unstamped: u64,
}

fn clock_ns(id: libc::clockid_t) -> i64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid timespec to write to, and both clocks used here exist on every Linux.
    unsafe { libc::clock_gettime(id, &raw mut ts) };
    ts.tv_sec * 1_000_000_000 + ts.tv_nsec
}

fn monotonic_ns() -> i64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// `CLOCK_REALTIME` ahead of `CLOCK_MONOTONIC`: constant unless somebody steps the clock.
fn clock_offset_ns() -> i64 {
    clock_ns(libc::CLOCK_REALTIME) - monotonic_ns()
}

/// The process's `main`: `HOST:PORT PATH header|stamp`.
pub fn main(arguments: &[String]) -> Result<()> {
    let [address, path, clock] = arguments else { bail!("usage: --load-client HOST:PORT PATH header|stamp") };
    let clock = match clock.as_str() {
        "header" => Clock::Header,
        "stamp" => Clock::Stamp,
        other => bail!("no clock named {other:?}: header or stamp"),
    };
    let address = address.parse().with_context(|| format!("not an address: {address:?}"))?;
    let mut client = Client::new(address, path, clock)?;
    client.run().inspect_err(|error| {
        // The benchmark waits for an answer: give it the reason instead.
        println!("{}", json!({ "error": format!("{error:#}") }));
    })
}

struct Client {
    address: SocketAddr,
    request: String,
    clock: Clock,
    epoll: i32,
    viewers: Vec<Viewer>,
    to_open: VecDeque<Kind>,
    opening: usize,
    open_command_pending: bool,
    /// Ticks for the slow viewers, once there are any.
    slow_timer: Option<OwnedFd>,
    slow_last_tick: i64,
    marked_at: i64,
    offset_at_mark: i64,
}

impl Client {
    fn new(address: SocketAddr, path: &str, clock: Clock) -> Result<Self> {
        // SAFETY: no pointers are passed; the result is checked below.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        ensure!(epoll >= 0, "epoll_create1: {}", std::io::Error::last_os_error());
        let client = Self {
            address,
            request: format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: pinhole-bench\r\n\r\n"),
            clock,
            epoll,
            viewers: Vec::new(),
            to_open: VecDeque::new(),
            opening: 0,
            open_command_pending: false,
            slow_timer: None,
            slow_last_tick: 0,
            marked_at: monotonic_ns(),
            offset_at_mark: clock_offset_ns(),
        };
        client.watch(libc::EPOLL_CTL_ADD, 0, libc::EPOLLIN, STDIN_TOKEN)?;
        Ok(client)
    }

    fn watch(&self, operation: i32, fd: i32, events: i32, token: u64) -> Result<()> {
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: token };
        // SAFETY: `event` is valid for the call, which copies it.
        let result = unsafe { libc::epoll_ctl(self.epoll, operation, fd, &raw mut event) };
        ensure!(result == 0, "epoll_ctl: {}", std::io::Error::last_os_error());
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
        let mut buffer = vec![0; 256 * 1024];
        let mut commands = Vec::new();
        loop {
            while self.opening < OPENING_AT_ONCE {
                let Some(kind) = self.to_open.pop_front() else { break };
                self.connect(kind)?;
            }
            if self.open_command_pending && self.opening == 0 {
                self.open_command_pending = false;
                answer(&json!({}))?;
            }
            // SAFETY: the kernel writes at most as many events as the array holds.
            let count = unsafe { libc::epoll_wait(self.epoll, events.as_mut_ptr(), 256, -1) };
            if count < 0 {
                let error = std::io::Error::last_os_error();
                ensure!(error.kind() == ErrorKind::Interrupted, "epoll_wait: {error}");
                continue;
            }
            for event in &events[..count.cast_unsigned() as usize] {
                let (token, flags) = (event.u64, event.events.cast_signed());
                match token {
                    STDIN_TOKEN => {
                        // Longer than Stdin's own buffer, so nothing stays behind in that unseen by epoll.
                        let count = std::io::stdin().read(&mut buffer).context("standard input")?;
                        if count == 0 {
                            return Ok(());
                        }
                        commands.extend_from_slice(&buffer[..count]);
                        while let Some(end) = commands.iter().position(|byte| *byte == b'\n') {
                            let line: Vec<u8> = commands.drain(..=end).collect();
                            self.command(String::from_utf8_lossy(&line).trim())?;
                        }
                    }
                    TIMER_TOKEN => self.slow_tick(&mut buffer)?,
                    index => self.ready(index as usize, flags, &mut buffer)?,
                }
            }
        }
    }

    fn command(&mut self, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["open", kind, count, rest @ ..] => {
                let kind = match (*kind, rest) {
                    ("good", []) => Kind::Good,
                    ("stalled", []) => Kind::Stalled,
                    ("slow", [rate]) => {
                        self.start_slow_timer()?;
                        Kind::Slow { rate: rate.parse().context("rate of slow viewers")? }
                    }
                    _ => bail!("command not understood: {line:?}"),
                };
                let count: usize = count.parse().context("number of viewers")?;
                self.to_open.extend(std::iter::repeat_n(kind, count));
                self.open_command_pending = true;
                Ok(())
            }
            ["mark"] => {
                for viewer in &mut self.viewers {
                    viewer.counters = Counters::default();
                }
                self.marked_at = monotonic_ns();
                self.offset_at_mark = clock_offset_ns();
                answer(&json!({}))
            }
            ["report"] => answer(&self.report()),
            _ => bail!("command not understood: {line:?}"),
        }
    }

    fn connect(&mut self, kind: Kind) -> Result<()> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None).context("socket")?;
        if matches!(kind, Kind::Slow { .. }) {
            // Before connect: the window scale is agreed in the handshake.
            socket.set_recv_buffer_size(SLOW_RECEIVE_BUFFER).context("SO_RCVBUF")?;
        }
        socket.set_nonblocking(true)?;
        if let Err(error) = socket.connect(&self.address.into()) {
            ensure!(error.raw_os_error() == Some(libc::EINPROGRESS), "connecting to {}: {error}", self.address);
        }
        let local_port = socket.local_addr()?.as_socket().map_or(0, |address| address.port());
        self.watch(libc::EPOLL_CTL_ADD, socket.as_raw_fd(), libc::EPOLLOUT, self.viewers.len() as u64)?;
        self.opening += 1;
        self.viewers.push(Viewer {
            socket,
            kind,
            phase: Phase::Connecting,
            text: Vec::with_capacity(1024),
            start: Vec::with_capacity(STAMP.end),
            header_time: None,
            allowance: 0.0,
            local_port,
            opened: false,
            closed: None,
            counters: Counters::default(),
        });
        Ok(())
    }

    fn ready(&mut self, index: usize, flags: i32, buffer: &mut [u8]) -> Result<()> {
        let viewer = &mut self.viewers[index];
        let fd = viewer.socket.as_raw_fd();
        if viewer.phase == Phase::Connecting {
            if let Some(error) = viewer.socket.take_error()? {
                bail!("connecting to {}: {error}", self.address);
            }
            viewer.socket.write_all(self.request.as_bytes()).context("sending the request")?;
            viewer.phase = Phase::ResponseHead;
            let interest = match viewer.kind {
                Kind::Good => libc::EPOLLIN,
                Kind::Stalled => libc::EPOLLIN | libc::EPOLLRDHUP,
                // Read by the timer.
                Kind::Slow { .. } => 0,
            };
            return self.watch(libc::EPOLL_CTL_MOD, fd, interest, index as u64);
        }
        if viewer.kind == Kind::Stalled && !viewer.opened && viewer.read_head_only(buffer)? {
            self.opening -= 1;
            viewer.opened = true;
            return self.watch(libc::EPOLL_CTL_MOD, fd, libc::EPOLLRDHUP, index as u64);
        }
        match viewer.kind {
            Kind::Good => {
                // As much as there was, but once: the level-triggered epoll comes back, and no viewer starves another.
                viewer.read(buffer, self.clock)?;
                if viewer.closed.is_some() {
                    self.watch(libc::EPOLL_CTL_DEL, fd, 0, 0)?;
                }
            }
            Kind::Stalled | Kind::Slow { .. } => {
                if flags & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0 {
                    let error = viewer.socket.take_error()?;
                    viewer.closed = Some(error.map_or_else(|| "end of stream".to_owned(), |error| error.to_string()));
                    self.watch(libc::EPOLL_CTL_DEL, fd, 0, 0)?;
                }
            }
        }
        self.settle(index)
    }

    /// Notes that a viewer has got what its `open` waited for; a viewer closed before that is an error.
    fn settle(&mut self, index: usize) -> Result<()> {
        let viewer = &mut self.viewers[index];
        if viewer.opened {
            return Ok(());
        }
        if let Some(reason) = &viewer.closed {
            bail!("viewer {index} was closed before its first picture: {reason}");
        }
        if viewer.counters.frames > 0 {
            viewer.opened = true;
            self.opening -= 1;
        }
        Ok(())
    }

    fn start_slow_timer(&mut self) -> Result<()> {
        if self.slow_timer.is_some() {
            return Ok(());
        }
        self.slow_last_tick = monotonic_ns();
        let tick = libc::timespec { tv_sec: 0, tv_nsec: SLOW_TICK_NS };
        let timer = libc::itimerspec { it_interval: tick, it_value: tick };
        // SAFETY: `timer` is valid for the call; the descriptor is checked, and ours alone.
        let fd = unsafe {
            let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
            ensure!(fd >= 0, "timerfd_create: {}", std::io::Error::last_os_error());
            libc::timerfd_settime(fd, 0, &raw const timer, std::ptr::null_mut());
            OwnedFd::from_raw_fd(fd)
        };
        self.watch(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), libc::EPOLLIN, TIMER_TOKEN)?;
        self.slow_timer = Some(fd);
        Ok(())
    }

    fn slow_tick(&mut self, buffer: &mut [u8]) -> Result<()> {
        if let Some(timer) = &self.slow_timer {
            // The count does not matter, time is measured below; but unread, a timerfd does not start its next interval.
            // SAFETY: the kernel writes at most eight bytes, and the buffer is longer.
            unsafe { libc::read(timer.as_raw_fd(), buffer.as_mut_ptr().cast(), 8) };
        }
        let now = monotonic_ns();
        let passed = (now - self.slow_last_tick) as f64 / 1e9;
        self.slow_last_tick = now;
        for index in 0..self.viewers.len() {
            let viewer = &mut self.viewers[index];
            let Kind::Slow { rate } = viewer.kind else { continue };
            if viewer.phase == Phase::Connecting || viewer.closed.is_some() {
                continue;
            }
            // What it could not use is lost, but for a tenth of a second: else it would catch up in bursts.
            viewer.allowance = (viewer.allowance + rate * passed).min(rate / 10.0);
            while viewer.allowance >= 1.0 {
                let size = (viewer.allowance as usize).min(buffer.len());
                let count = viewer.read(&mut buffer[..size], self.clock)?;
                if count == 0 {
                    break;
                }
                viewer.allowance -= count as f64;
            }
            self.settle(index)?;
        }
        Ok(())
    }

    fn report(&self) -> Value {
        let now = monotonic_ns();
        let seconds = (now - self.marked_at) as f64 / 1e9;
        let is_slow = |viewer: &&Viewer| matches!(viewer.kind, Kind::Slow { .. });
        let good: Vec<&Viewer> = self.viewers.iter().filter(|viewer| viewer.kind == Kind::Good).collect();
        let slow: Vec<&Viewer> = self.viewers.iter().filter(is_slow).collect();
        let stalled: Vec<Value> = (self.viewers.iter())
            .filter(|viewer| viewer.kind == Kind::Stalled)
            .map(|viewer| json!({ "port": viewer.local_port, "closed": viewer.closed }))
            .collect();
        json!({
            "seconds": seconds,
            "clock_step_us": (clock_offset_ns() - self.offset_at_mark) / 1000,
            "good": summary(&good, self.marked_at, now),
            "slow": summary(&slow, self.marked_at, now),
            "stalled": stalled,
        })
    }
}

impl Viewer {
    /// One `read`; returns how much came. Nothing yet and the end of the stream are both 0, the latter noted.
    fn read(&mut self, buffer: &mut [u8], clock: Clock) -> Result<usize> {
        match self.socket.read(buffer) {
            Ok(0) => {
                self.closed = Some("end of stream".to_owned());
                Ok(0)
            }
            Ok(count) => {
                self.take(&buffer[..count], clock)?;
                Ok(count)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            Err(error) => {
                self.closed = Some(error.to_string());
                Ok(0)
            }
        }
    }

    /// For a stalled viewer: true once the response's head has been read, and not one byte after it.
    fn read_head_only(&mut self, buffer: &mut [u8]) -> Result<bool> {
        // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
        let count =
            unsafe { libc::recv(self.socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_PEEK) };
        if count == 0 {
            self.closed = Some("end of stream".to_owned());
        }
        let Ok(count) = usize::try_from(count) else { return Ok(false) };
        let Some(end) = buffer[..count].windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
        let size = end + 4;
        self.socket.read_exact(&mut buffer[..size]).context("reading the head")?;
        self.text.extend_from_slice(&buffer[..size]);
        self.check_response_head()?;
        Ok(true)
    }

    fn check_response_head(&self) -> Result<()> {
        let text = String::from_utf8_lossy(&self.text).to_ascii_lowercase();
        let status = text.lines().next().unwrap_or_default();
        ensure!(status.split(' ').nth(1) == Some("200"), "the server answered {status:?} to the stream's request");
        ensure!(text.contains("multipart/x-mixed-replace"), "the answer is no multipart stream:\n{text}");
        ensure!(
            !text.contains("transfer-encoding: chunked"),
            "the stream is chunked: half of the clients cannot read it"
        );
        Ok(())
    }

    fn take(&mut self, mut data: &[u8], clock: Clock) -> Result<()> {
        self.counters.bytes += data.len() as u64;
        while !data.is_empty() {
            match self.phase {
                Phase::Connecting => bail!("data before the connection"),
                Phase::ResponseHead | Phase::PartHead => {
                    data = self.take_header(data)?;
                }
                Phase::Body { left } => {
                    let size = left.min(data.len());
                    let (body, rest) = data.split_at(size);
                    let wanted = STAMP.end - self.start.len();
                    self.start.extend_from_slice(&body[..wanted.min(size)]);
                    data = rest;
                    self.phase = Phase::Body { left: left - size };
                    if left == size {
                        ensure!(self.start.starts_with(&[0xff, 0xd8]), "a part that is no JPEG");
                        self.finish_frame(clock);
                        self.phase = Phase::PartHead;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes bytes up to the end of the header block; returns what is left of `data`.
    fn take_header<'a>(&mut self, data: &'a [u8]) -> Result<&'a [u8]> {
        for (index, byte) in data.iter().enumerate() {
            self.text.push(*byte);
            if !self.text.ends_with(b"\r\n\r\n") {
                continue;
            }
            if self.phase == Phase::ResponseHead {
                self.check_response_head()?;
                self.phase = Phase::PartHead;
            } else {
                self.part_head()?;
            }
            self.text.clear();
            return Ok(&data[index + 1..]);
        }
        ensure!(self.text.len() < 8192, "8 KB of headers without an end: the stream's framing is not understood");
        Ok(&[])
    }

    fn part_head(&mut self) -> Result<()> {
        let text = String::from_utf8_lossy(&self.text);
        let mut length = None;
        self.header_time = None;
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok();
            } else if name.eq_ignore_ascii_case("x-timestamp") {
                self.header_time = parse_seconds(value.trim());
            }
        }
        let left = length.filter(|length| *length > 0);
        let Some(left) = left else { bail!("a part without a usable Content-Length:\n{text}") };
        self.start.clear();
        self.phase = Phase::Body { left };
        Ok(())
    }

    fn finish_frame(&mut self, clock: Clock) {
        let now = monotonic_ns();
        let counters = &mut self.counters;
        if counters.frames == 0 {
            counters.first = now;
        }
        counters.last = now;
        counters.frames += 1;
        let age = match clock {
            Clock::Header => self.header_time.map(|captured| clock_ns(libc::CLOCK_REALTIME) - captured),
            Clock::Stamp => parse_stamp(&self.start).map(|captured| now - captured),
        };
        match age {
            Some(age) => counters.ages.push((age / 1000).clamp(0, i64::from(u32::MAX)) as u32),
            None => counters.unstamped += 1,
        }
    }
}

/// `1700000000.123456` in nanoseconds, without the rounding of a float.
fn parse_seconds(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = fraction.get(..fraction.len().min(9))?;
    let scale = 10_i64.pow(9 - u32::try_from(digits.len()).ok()?);
    Some(seconds.parse::<i64>().ok()? * 1_000_000_000 + digits.parse::<i64>().ok()? * scale)
}

fn parse_stamp(start: &[u8]) -> Option<i64> {
    (start.get(STAMP_MARK)? == b"MJTS").then_some(())?;
    let digits = std::str::from_utf8(start.get(STAMP)?).ok()?;
    i64::from_str_radix(digits, 16).ok().filter(|captured| *captured > 0)
}

fn summary(viewers: &[&Viewer], marked_at: i64, now: i64) -> Value {
    let mut ages: Vec<u32> = viewers.iter().flat_map(|viewer| viewer.counters.ages.iter().copied()).collect();
    ages.sort_unstable();
    let percentile = |share: f64| {
        let index = ((ages.len() as f64 * share) as usize).min(ages.len().saturating_sub(1));
        ages.get(index).copied()
    };
    let rates: Vec<f64> = viewers.iter().map(|viewer| frame_rate(&viewer.counters, marked_at, now)).collect();
    let closed: Vec<&String> = viewers.iter().filter_map(|viewer| viewer.closed.as_ref()).collect();
    json!({
        "viewers": viewers.len(),
        "frames": viewers.iter().map(|viewer| viewer.counters.frames).sum::<u64>(),
        "bytes": viewers.iter().map(|viewer| viewer.counters.bytes).sum::<u64>(),
        "fps_min": rates.iter().copied().reduce(f64::min),
        "fps_mean": (!rates.is_empty()).then(|| rates.iter().sum::<f64>() / rates.len() as f64),
        "age_p50_us": percentile(0.50),
        "age_p99_us": percentile(0.99),
        "unstamped": viewers.iter().map(|viewer| viewer.counters.unstamped).sum::<u64>(),
        "closed": closed,
    })
}

/// Frames per second. Counted between the first and the last frame where the stream ran through the whole window, so
/// that the window's edges do not cost a frame; over the window where there was a gap at either edge.
fn frame_rate(counters: &Counters, marked_at: i64, now: i64) -> f64 {
    const EDGE_NS: i64 = 100_000_000;
    let running = counters.frames > 1 && counters.first - marked_at < EDGE_NS && now - counters.last < EDGE_NS;
    if running {
        (counters.frames - 1) as f64 * 1e9 / (counters.last - counters.first) as f64
    } else {
        counters.frames as f64 * 1e9 / (now - marked_at) as f64
    }
}

fn answer(value: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}").and_then(|()| out.flush()).context("answering")
}
