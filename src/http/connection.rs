//! One connection, between the kernel and actix-http: lets one request through at a time, and in time.
//!
//! actix-http decodes whatever it has read (up to 128 KiB of pipelined requests, about 6 KB of memory each), times only a
//! connection's first head, and never a body. So it reads from a [`Guard`], which hands it one whole head, then that
//! request's body, and the next head only when the answer is with the kernel. What waits meanwhile is bounded here, and what
//! comes behind that stays with the sender.
//!
//! A head that comes too slowly or is too large is replaced by one of the guard's own, and [`Connection::refusal`] says what
//! to answer: so the refusal takes its turn behind earlier answers and looks like any other.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix_web::http::StatusCode;
use bytes::BufMut as _;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::connections::Place;
use super::framing::{ChunkScanner, HeadScanner};

/// A head is complete this long after its first byte (the first one after the connection was made), or it is refused.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// No head is longer. It is also all that is kept of what a client sends ahead.
pub const HEAD_MAX: usize = 16 * 1024;
/// A body is complete this long after its head (see `body`), or the request is refused.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection without a request is kept this long.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// A new connection counts as one with a request for so long: its request is on its way.
const SETTLING: Duration = Duration::from_secs(1);
/// Bytes asked of the kernel at a time: most heads are shorter.
const READ_STEP: usize = 2048;
/// So long, and for so many bytes, a client that was refused is still listened to: closing with unread bytes would reset the
/// connection, and the client might lose the answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_MAX: usize = 256 * 1024;
/// Stands for a head that is refused.
const REFUSED_HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n";

/// Where a connection is between one request and the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of the next request has come.
    Idle,
    /// A part of a head has come.
    Head,
    /// The head is complete; the request is being answered.
    Answering,
    /// It was answered before its body was complete: the connection ends.
    Ending,
}

/// How a connection stands when room must be made for another. Those at the front go first, of equals the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Without a request, since then.
    Idle(Instant),
    /// With a part of a request, since then.
    Unfinished(Instant),
    /// Its client does not take its answer; being answered since then.
    Blocked(Instant),
    /// Being answered.
    Busy,
    /// A stream.
    Viewer,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks; so many bytes with their framing are let through at the most.
    Chunked(ChunkScanner, u64),
    /// A head that actix-http has not read yet.
    Unknown,
}

impl Body {
    fn is_complete(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(ChunkScanner::Over, _))
    }

    /// How many of these bytes go to the request.
    fn take(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Length(left) => {
                let n = (*left).min(bytes.len() as u64);
                *left -= n;
                n as usize
            }
            Self::Chunked(scanner, left) => {
                let n = scanner.take(&bytes[..bytes.len().min(*left as usize)]);
                *left -= n as u64;
                n
            }
            Self::Unknown => 0,
        }
    }
}

/// A connection, as handlers, viewers and the table of connections see it.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    peer: SocketAddr,
    phase: Cell<Phase>,
    /// Since when it is in its phase.
    since: Cell<Instant>,
    body: Cell<Body>,
    refusal: Cell<Option<StatusCode>>,
    /// The kernel takes no more of an answer.
    blocked: Cell<bool>,
    is_viewer: Cell<bool>,
    /// It has brought a whole head.
    served: Cell<bool>,
    aborted: Cell<bool>,
    /// Wakes actix-http's dispatcher, where the guard has told it to wait.
    waker: RefCell<Option<Waker>>,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(socket: TcpStream, peer: SocketAddr) -> Rc<Self> {
        Rc::new(Self {
            socket,
            peer,
            phase: Cell::new(Phase::Idle),
            since: Cell::new(Instant::now()),
            body: Cell::new(Body::Length(0)),
            refusal: Cell::default(),
            blocked: Cell::default(),
            is_viewer: Cell::default(),
            served: Cell::default(),
            aborted: Cell::default(),
            waker: RefCell::default(),
        })
    }

    /// Its socket. While a stream's answer is open, only the viewer writes to it.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The address of its other end.
    pub fn address(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }

    /// How it stands when room must be made.
    pub fn standing(&self) -> Standing {
        let since = self.since.get();
        match self.phase.get() {
            _ if self.is_viewer.get() => Standing::Viewer,
            Phase::Idle if self.served.get() || since.elapsed() >= SETTLING => Standing::Idle(since),
            Phase::Idle | Phase::Head | Phase::Ending => Standing::Unfinished(since),
            Phase::Answering if self.awaits_body() => Standing::Unfinished(since),
            Phase::Answering if self.blocked.get() => Standing::Blocked(since),
            Phase::Answering => Standing::Busy,
        }
    }

    /// A stream goes out on it, until it ends.
    pub fn becomes_viewer(&self) {
        self.is_viewer.set(true);
    }

    /// True once it was [aborted](Self::abort).
    pub fn is_aborted(&self) -> bool {
        self.aborted.get()
    }

    /// True while not all of the request's body has come.
    pub fn awaits_body(&self) -> bool {
        !self.body.get().is_complete()
    }

    /// What to answer to the request at hand, whatever it asks for: its head came too slowly or was too large.
    pub fn refusal(&self) -> Option<StatusCode> {
        self.refusal.get()
    }

    /// actix-http has read the head: says what follows. The request is answered until the returned value is dropped.
    pub fn answer(self: &Rc<Self>, body: Body) -> Answering {
        self.body.set(body);
        if !body.is_complete() {
            // It may have come with the head.
            self.wake();
        }
        Answering(Rc::clone(self))
    }

    /// Ends it at once; what the client has not taken is thrown away, so that the kernel keeps nothing.
    pub fn abort(&self) {
        self.aborted.set(true);
        let socket = SockRef::from(&self.socket);
        // Only a socket that is gone already refuses.
        let _ = socket.set_linger(Some(Duration::ZERO));
        let _ = socket.shutdown(std::net::Shutdown::Both);
        self.wake();
    }

    /// Reads once, at most `room` bytes. False if there was nothing, and `cx` is told when there is.
    fn read_some(
        &self,
        cx: &mut Context<'_>,
        received: &mut Vec<u8>,
        room: usize,
        ended: &mut bool,
    ) -> io::Result<bool> {
        if self.socket.poll_read_ready(cx)?.is_pending() {
            return Ok(false);
        }
        received.reserve(room);
        match self.socket.try_read_buf(&mut received.limit(room)) {
            Ok(0) => *ended = true,
            Ok(n) if n < room => {
                // All there was: spares the call that would find nothing, as tokio's own reading does. (It keeps in mind that
                // the other end has closed.)
                let _ = self.socket.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(Instant::now());
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A request is being answered. Held by the answer's body.
#[derive(Debug)]
pub struct Answering(Rc<Connection>);

impl Answering {
    /// See [`Connection::awaits_body`].
    pub fn awaits_body(&self) -> bool {
        self.0.awaits_body()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let Self(connection) = self;
        if connection.body.get().is_complete() {
            connection.enter(Phase::Idle);
        } else {
            connection.enter(Phase::Ending);
        }
        connection.wake();
    }
}

/// What actix-http reads from and writes to.
#[derive(Debug)]
pub struct Guard {
    connection: Rc<Connection>,
    /// Makes room for others when the connection ends.
    _place: Place,
    /// What has come and was not let through yet.
    received: Vec<u8>,
    scanner: HeadScanner,
    /// Bytes of `received` that may go through.
    granted: usize,
    /// The client has closed its sending side.
    ended: bool,
    timer: Option<Pin<Box<Sleep>>>,
    /// While closing: bytes that are still read and thrown away.
    lingers: Option<usize>,
}

impl Guard {
    /// Guards a connection that has a place.
    pub fn new(connection: Rc<Connection>, place: Place) -> Self {
        Self {
            connection,
            _place: place,
            received: Vec::new(),
            scanner: HeadScanner::default(),
            granted: 0,
            ended: false,
            timer: None,
            lingers: None,
        }
    }

    /// The connection.
    pub fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    /// Takes from the kernel what there is room for.
    fn receive(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // Nothing is heard any more of a client that was refused.
        while !self.ended && self.received.len() < HEAD_MAX && self.connection.refusal.get().is_none() {
            let room = (HEAD_MAX - self.received.len()).min(READ_STEP);
            if !self.connection.read_some(cx, &mut self.received, room, &mut self.ended)? {
                break;
            }
        }
        Ok(())
    }

    /// Says how much of what was received may go through now.
    fn grant(&mut self) {
        let connection = &self.connection;
        if self.granted > 0 {
            return;
        }
        match connection.phase.get() {
            // The client is to take the answer to its last request first.
            Phase::Idle | Phase::Head if connection.blocked.get() => {}
            Phase::Idle | Phase::Head => self.grant_head(),
            Phase::Answering => {
                let mut body = connection.body.get();
                self.granted = body.take(&self.received);
                connection.body.set(body);
            }
            Phase::Ending => {}
        }
    }

    fn grant_head(&mut self) {
        if self.connection.phase.get() == Phase::Idle {
            // Line ends ahead of a request are passed over (RFC 9112, 2.2).
            let start = self.received.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
            self.received.drain(..start.unwrap_or(self.received.len()));
            if self.received.is_empty() {
                return;
            }
            self.scanner = HeadScanner::default();
            if self.connection.served.get() {
                self.connection.enter(Phase::Head);
            } else {
                // The first head's time began with the connection.
                self.connection.phase.set(Phase::Head);
            }
        }
        match self.scanner.end(&self.received) {
            Some(end) => self.hand_over(end),
            None if self.received.len() >= HEAD_MAX => self.refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            None => {}
        }
    }

    fn hand_over(&mut self, head: usize) {
        self.granted = head;
        self.connection.served.set(true);
        self.connection.body.set(Body::Unknown);
        self.connection.enter(Phase::Answering);
    }

    fn refuse(&mut self, status: StatusCode) {
        self.connection.refusal.set(Some(status));
        self.received = REFUSED_HEAD.to_vec();
        self.hand_over(REFUSED_HEAD.len());
    }

    /// When the client will have kept us waiting for too long.
    fn deadline(&self) -> Option<Instant> {
        let connection = &self.connection;
        let patience = match connection.phase.get() {
            Phase::Idle if connection.served.get() => KEEP_ALIVE,
            Phase::Idle | Phase::Head => HEAD_TIMEOUT,
            // Only a head that actix-http takes for incomplete stays unknown.
            Phase::Answering if connection.body.get() == Body::Unknown => HEAD_TIMEOUT,
            Phase::Answering | Phase::Ending => return None,
        };
        Some(connection.since.get() + patience)
    }

    /// True if [`deadline`](Self::deadline) is over.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.deadline() else { return false };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).is_ready()
    }

    /// Nothing more is to be let through: the client has closed its sending side, or it has had its answer too early.
    fn is_over(&self) -> bool {
        let may_go_through_later = match self.connection.phase.get() {
            Phase::Idle | Phase::Head => self.connection.blocked.get(),
            Phase::Answering => self.connection.body.get().is_complete(),
            // Nothing more is read.
            Phase::Ending => return true,
        };
        self.ended && (self.received.is_empty() || !may_go_through_later)
    }
}

impl AsyncRead for Guard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.connection.aborted.get() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        this.receive(cx)?;
        this.grant();
        if this.granted == 0 && this.is_late(cx) {
            match this.connection.phase.get() {
                Phase::Head => this.refuse(StatusCode::REQUEST_TIMEOUT),
                Phase::Idle if !this.connection.served.get() => this.refuse(StatusCode::REQUEST_TIMEOUT),
                Phase::Idle => return Poll::Ready(Ok(())),
                Phase::Answering | Phase::Ending => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            }
        }
        if this.granted > 0 {
            let n = this.granted.min(buf.remaining());
            buf.put_slice(&this.received[..n]);
            this.received.drain(..n);
            this.granted -= n;
            if this.received.is_empty() {
                // Connections that wait for their next request keep no memory.
                this.received = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        if this.is_over() {
            return Poll::Ready(Ok(()));
        }
        let mut waker = this.connection.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl AsyncWrite for Guard {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let connection = &self.connection;
        loop {
            if connection.socket.poll_write_ready(cx)?.is_pending() {
                connection.blocked.set(true);
                return Poll::Pending;
            }
            match connection.socket.try_write(bytes) {
                Ok(n) => {
                    if connection.blocked.replace(n < bytes.len()) && n == bytes.len() {
                        // A request may have waited for this.
                        connection.wake();
                    }
                    return Poll::Ready(Ok(n));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let connection = &this.connection;
        if this.lingers.is_none() {
            if let Err(error) = SockRef::from(&connection.socket).shutdown(std::net::Shutdown::Write)
                && error.kind() != io::ErrorKind::NotConnected
            {
                return Poll::Ready(Err(error));
            }
            let is_sending = connection.refusal.get().is_some()
                || connection.phase.get() == Phase::Ending
                || !this.received.is_empty();
            this.lingers = Some(if is_sending && !this.ended { LINGER_MAX } else { 0 });
            this.received = Vec::new();
            this.timer = Some(Box::pin(sleep_until(Instant::now() + LINGER)));
        }
        let (Some(left), Some(timer)) = (&mut this.lingers, &mut this.timer) else { return Poll::Ready(Ok(())) };
        while *left > 0 && !this.ended && connection.read_some(cx, &mut this.received, READ_STEP, &mut this.ended)? {
            *left = left.saturating_sub(this.received.len());
            this.received.clear();
        }
        if *left == 0 || this.ended { Poll::Ready(Ok(())) } else { timer.as_mut().poll(cx).map(Ok) }
    }
}
