//! One viewer's connection.

use std::cell::{Ref, RefCell, RefMut};
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::Interest;

use super::super::connection::Connection;
use super::StreamOptions;
use super::broadcaster::Newest;
use super::flow::{Flow, Look, Offer};
use super::places::{Admission, ViewerStats};
use crate::os;
use crate::publish::{Demand, JpegFrame};

/// Sums over viewers, added to the metrics once.
#[derive(Debug, Default)]
pub struct Sent {
    /// Frames.
    pub frames: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Frames that viewers missed.
    pub skipped: u64,
}

/// One viewer. Driven by its [`Broadcaster`](super::Broadcaster), owned by it and by the response's body.
#[derive(Debug)]
pub struct Viewer {
    /// While the answer is open, nobody else writes to its socket.
    connection: Rc<Connection>,
    admission: Admission,
    _demand: Demand,
    flow: RefCell<Flow>,
    body_waker: RefCell<Option<Waker>>,
}

impl Viewer {
    /// A viewer whose answer goes to this connection.
    pub fn new(connection: Rc<Connection>, admission: Admission, demand: Demand, options: StreamOptions) -> Self {
        let flow = RefCell::new(Flow::new(options, Instant::now()));
        Self { connection, admission, _demand: demand, flow, body_waker: RefCell::default() }
    }

    /// What is told about it.
    pub fn stats(&self) -> &ViewerStats {
        self.admission.stats()
    }

    /// What it does.
    pub fn flow(&self) -> Ref<'_, Flow> {
        self.flow.borrow()
    }

    /// Its connection is nobody else's from now on.
    pub fn begin(&self, sent: &mut Sent) {
        self.connection.becomes_viewer();
        self.flush(&mut self.flow.borrow_mut(), Instant::now(), sent);
    }

    /// A new frame is there: sends it, or leaves it in the mailbox.
    pub fn offer(&self, frame: &JpegFrame, now: Instant, sent: &mut Sent) {
        let mut flow = self.flow.borrow_mut();
        let mut offer = flow.offer(frame.sequence, now);
        if offer == Offer::SendIfLeft && self.has_left() {
            offer = flow.accept();
        }
        match offer {
            Offer::Send => self.send(&mut flow, frame, now, sent),
            Offer::Skips => self.skip(1, sent),
            Offer::Nothing | Offer::SendIfLeft => {}
        }
    }

    /// Counts frames that came and went while the worker was busy.
    pub fn miss(&self, n: u64, sent: &mut Sent) {
        if self.flow.borrow().misses() {
            self.skip(n, sent);
        }
    }

    /// True if the client has closed its sending side. It may still be reading, but most often it is gone.
    fn has_left(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let socket = SockRef::from(self.connection.socket());
        matches!(socket.recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT), Ok(0))
    }

    /// The viewer's last frame once more, if nothing newer has come.
    pub fn repeat(&self, frame: &JpegFrame, now: Instant, sent: &mut Sent) {
        let mut flow = self.flow.borrow_mut();
        if flow.start_again(frame) {
            self.flush(&mut flow, now, sent);
        }
    }

    fn send(&self, flow: &mut RefMut<'_, Flow>, frame: &JpegFrame, now: Instant, sent: &mut Sent) {
        flow.start(frame, now);
        self.stats().sent.fetch_add(1, Ordering::Relaxed);
        sent.frames += 1;
        self.flush(flow, now, sent);
    }

    fn skip(&self, n: u64, sent: &mut Sent) {
        self.stats().skipped.fetch_add(n, Ordering::Relaxed);
        sent.skipped += n;
    }

    /// Writes as much of what is going out as the connection takes. `now` is when the round of viewers began.
    fn flush(&self, flow: &mut RefMut<'_, Flow>, now: Instant, sent: &mut Sent) {
        let socket = self.connection.socket();
        loop {
            let outgoing = flow.outgoing();
            if outgoing.is_empty() {
                return;
            }
            let pieces = [IoSlice::new(&outgoing.part), IoSlice::new(outgoing.tail)];
            let pieces = if outgoing.tail.is_empty() { &pieces[..1] } else { &pieces[..] };
            let written =
                SockRef::from(socket).send_vectored_with_flags(pieces, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
            match written {
                Ok(n) => {
                    flow.took(n, now);
                    sent.bytes += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Tells tokio that the socket is full, so that it is waited for.
                    let _ = socket.try_io(Interest::WRITABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
                    flow.block();
                    return;
                }
                // The viewer is gone; that is how streams end.
                Err(_) => {
                    self.end(flow, true);
                    return;
                }
            }
        }
    }

    /// Goes on if the connection takes more; tells whether it did.
    pub fn poll_writable(&self, cx: &mut Context<'_>, newest: &mut Newest<'_>, sent: &mut Sent) -> bool {
        let mut flow = self.flow.borrow_mut();
        while let Poll::Ready(ready) = self.connection.socket().poll_write_ready(cx) {
            if ready.is_err() {
                self.end(&mut flow, false);
                return true;
            }
            let now = Instant::now();
            self.flush(&mut flow, now, sent);
            if flow.outgoing().is_empty()
                && flow.unblock()
                && let Some(frame) = newest.get()
            {
                self.send(&mut flow, frame, now, sent);
            }
            if !flow.is_blocked() {
                return true;
            }
        }
        false
    }

    /// What is to be done about it besides new frames; it has stalled if it took nothing for `timeout`.
    pub fn look(&self, now: Instant, timeout: Duration) -> Look {
        self.flow.borrow_mut().look(now, timeout, || self.send_queue())
    }

    /// Bytes in the kernel's send queue.
    fn send_queue(&self) -> i32 {
        os::bytes_unacknowledged(self.connection.socket().as_fd())
    }

    /// Ends the stream; what was written is still delivered.
    pub fn close(&self) {
        self.end(&mut self.flow.borrow_mut(), false);
    }

    /// Ends the stream at once; what the viewer has not taken is thrown away, so that the kernel keeps nothing.
    pub fn abort(&self) {
        self.connection.abort();
        self.end(&mut self.flow.borrow_mut(), true);
    }

    /// The connection ended on actix-web's side.
    pub fn let_go(&self) {
        self.flow.borrow_mut().close(false);
    }

    fn end(&self, flow: &mut RefMut<'_, Flow>, is_gone: bool) {
        flow.close(is_gone);
        if let Some(waker) = self.body_waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Who is to be woken when the stream ends.
    pub fn note_waker(&self, waker: &Waker) {
        *self.body_waker.borrow_mut() = Some(waker.clone());
    }
}
