//! Stands between the kernel and actix-http: lets one request through at a time, and in time.
//!
//! actix-http decodes whatever it has read (up to 128 KiB of pipelined requests, about 6 KB of memory each), times only a
//! connection's first head, and never a body. So it reads from a [`Guard`], which hands it one whole head, then that
//! request's body, and the next head only when the answer is with the kernel. What waits meanwhile is bounded here, and what
//! comes behind that stays with the sender.
//!
//! A head that comes too slowly or is too large is replaced by one of the guard's own, and [`Connection::refusal`] says what
//! to answer: so the refusal takes its turn behind earlier answers and looks like any other.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::http::StatusCode;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::connection::{Body, Connection, Phase};
use super::connections::Place;
use super::framing::HeadScanner;

/// A head is complete this long after its first byte (the first one after the connection was made), or it is refused.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// No head is longer. It is also all that is kept of what a client sends ahead.
pub const HEAD_MAX: usize = 16 * 1024;
/// A body is complete this long after its head (see `body`), or the request is refused.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection without a request is kept this long.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Bytes asked of the kernel at a time: most heads are shorter.
const READ_STEP: usize = 2048;
/// So long, and for so many bytes, a client that was refused is still listened to: closing with unread bytes would reset the
/// connection, and the client might lose the answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_MAX: usize = 64 * 1024;
/// Stands for a head that is refused.
const REFUSED_HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n";

/// What actix-http reads from and writes to.
#[derive(Debug)]
pub struct Guard {
    connection: Rc<Connection>,
    /// Makes room for others when the connection ends.
    place: Place,
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
            place,
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
            Some(end) if self.place.may_ask() => self.hand_over(end),
            None if self.received.len() >= HEAD_MAX => self.refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            _ => {}
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
            // Waits for its turn.
            Phase::Head if self.scanner.is_over() => return None,
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
            Phase::Idle => self.connection.blocked.get(),
            Phase::Head => self.connection.blocked.get() || self.scanner.is_over(),
            // Its body, if there is one, may have come with it.
            Phase::Answering if self.connection.body.get() == Body::Unknown => return false,
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
        loop {
            this.receive(cx)?;
            let was_full = this.received.len() == HEAD_MAX;
            this.grant();
            // Line ends that were passed over have made room, and nobody would tell when more comes.
            if !was_full || this.received.len() == HEAD_MAX || this.granted > 0 {
                break;
            }
        }
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
                if !connection.blocked.replace(true) {
                    self.place.is_blocked();
                }
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
        while *left > 0 && !this.ended && connection.read_some(cx, &mut this.received, HEAD_MAX, &mut this.ended)? {
            *left = left.saturating_sub(this.received.len());
            this.received.clear();
        }
        if *left == 0 || this.ended { Poll::Ready(Ok(())) } else { timer.as_mut().poll(cx).map(Ok) }
    }
}
