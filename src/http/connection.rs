//! A connection, as handlers, viewers and the table of connections see it. Its [`Guard`](super::guard::Guard) moves it from
//! phase to phase.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use actix_web::http::StatusCode;
use bytes::BufMut as _;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::framing::ChunkScanner;
use super::turnstile::{Queues, Turn};

/// A new connection counts as one with a request for so long: its request is on its way.
const SETTLING: Duration = Duration::from_secs(1);

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
    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(ChunkScanner::Over, _))
    }

    /// How many of these bytes go to the request.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
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
    pub(super) socket: TcpStream,
    peer: SocketAddr,
    pub(super) phase: Cell<Phase>,
    /// Since when it is in its phase.
    pub(super) since: Cell<Instant>,
    pub(super) body: Cell<Body>,
    pub(super) refusal: Cell<Option<StatusCode>>,
    /// The kernel takes no more of an answer.
    pub(super) blocked: Cell<bool>,
    is_viewer: Cell<bool>,
    /// It has brought a whole head.
    pub(super) served: Cell<bool>,
    pub(super) aborted: Cell<bool>,
    turn: Cell<Turn>,
    /// Wakes actix-http's dispatcher, where the guard has told it to wait.
    pub(super) waker: RefCell<Option<Waker>>,
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
            turn: Cell::default(),
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
    pub fn standing(&self, now: Instant) -> Standing {
        let since = self.since.get();
        match self.phase.get() {
            _ if self.is_viewer.get() => Standing::Viewer,
            Phase::Ending => Standing::Idle(since),
            Phase::Idle if self.served.get() || now.saturating_duration_since(since) >= SETTLING => {
                Standing::Idle(since)
            }
            // Complete, but it is not its turn yet.
            Phase::Head if self.turn.get() != Turn::Away => Standing::Busy,
            Phase::Idle | Phase::Head => Standing::Unfinished(since),
            Phase::Answering if self.awaits_body() => Standing::Unfinished(since),
            Phase::Answering if self.blocked.get() => Standing::Blocked(since),
            Phase::Answering => Standing::Busy,
        }
    }

    /// A stream goes out on it, until it ends.
    pub fn becomes_viewer(&self) {
        self.is_viewer.set(true);
    }

    /// True for a stream.
    pub fn is_viewer(&self) -> bool {
        self.is_viewer.get()
    }

    /// Since when it is in its phase.
    pub fn since(&self) -> Instant {
        self.since.get()
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
    pub(super) fn read_some(
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

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(Instant::now());
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Queues for Connection {
    fn turn(&self) -> &Cell<Turn> {
        &self.turn
    }

    fn call(&self) -> bool {
        self.wake();
        !self.aborted.get()
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
