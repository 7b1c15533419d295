//! Viewers: one actor for each open stream, all driven by one loop on their worker.
//!
//! A viewer's response starts like any other: actix-web writes the head. The body then yields nothing, and the viewer
//! writes to the connection's socket itself, frames straight from the one shared part: no copy into the server's write buffer, no
//! wake-up of a task per viewer. That this cannot disturb the order of bytes rests on `h1_write_buffer_size(1)`: actix-web
//! then asks a body for bytes only when its buffer is empty, that is, when the kernel has taken the head.
//!
//! A viewer's mailbox holds one frame, the newest. While its connection is busy, newer frames replace it and are counted
//! as skipped. The kernel is kept from queueing much (`TCP_NOTSENT_LOWAT`), so that what a slow viewer gets is recent.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use socket2::SockRef;
use tokio::io::Interest;

use super::connection::Connection;
use super::multipart;
use crate::cadence::Cadence;
use crate::capture::Shared;
use crate::frame::JpegFrame;
use crate::hub::Demand;
use crate::shutdown::Shutdown;

/// How old a frame may be to greet a new viewer; an older one is from before a pause.
const GREETING_MAX_AGE: Duration = Duration::from_secs(2);
/// A viewer with `dual_final_frames` gets a frame again after this silence.
const FINAL_AFTER: Duration = Duration::from_millis(150);
/// A viewer that wants few frames is looked at this often: is it still there?
const PRESENCE_ROUND: Duration = Duration::from_secs(1);
/// A viewer that was sent nothing for this long gets its last picture once more: with [`REPEAT_ROUND`] less than 5 s, as
/// Home Assistant gives up after 10.
const REPEAT_AFTER: Duration = Duration::from_millis(3500);
/// How often such viewers are looked for, and those whose places were given away.
const REPEAT_ROUND: Duration = Duration::from_secs(1);
/// Stalled viewers are looked for at least this often.
const STALL_ROUND: Duration = Duration::from_secs(1);

/// What a viewer asked for in its query.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StreamOptions {
    /// `fps`: at most so many frames per second.
    pub fps: Option<f64>,
    /// `advance_headers`: the next part's headers come right behind each picture. Chromium's `<img>` shows a picture
    /// only when it has seen them.
    pub advance_headers: bool,
    /// `dual_final_frames`: the last picture before a silence is sent twice. WebKit holds the last one back.
    pub dual_final_frames: bool,
    /// `raw`: the same bytes with a content type that browsers do not interpret. WebKit's `fetch()` refuses to read
    /// `multipart/x-mixed-replace`.
    pub raw: bool,
}

/// What is told about a viewer in the status document.
#[derive(Debug)]
pub struct ViewerStats {
    /// Counts viewers, from 1.
    pub id: u64,
    /// Where it connects from.
    pub peer: Option<SocketAddr>,
    /// Since when.
    pub connected: Instant,
    /// Its `fps`.
    pub fps: Option<f64>,
    /// Frames it was sent.
    pub sent: AtomicU64,
    /// Frames it missed.
    pub skipped: AtomicU64,
    /// Its place is another's now: it ends within a second.
    ended: AtomicBool,
}

/// The viewers: their number is limited, and the status document lists them.
#[derive(Debug)]
pub struct Viewers {
    shared: Arc<Shared>,
    max: usize,
    next_id: AtomicU64,
    list: Mutex<Vec<Arc<ViewerStats>>>,
}

impl Viewers {
    /// At most `max` at a time.
    pub fn new(shared: Arc<Shared>, max: usize) -> Self {
        Self { shared, max, next_id: AtomicU64::new(0), list: Mutex::default() }
    }

    /// The limit.
    pub fn max(&self) -> usize {
        self.max
    }

    /// The viewers there are, oldest first.
    pub fn list(&self) -> Vec<Arc<ViewerStats>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A place for one more viewer, or `None` if all are taken.
    ///
    /// Who holds more than a quarter of all places makes room for others, unless `is_exempt` knows the address as one that
    /// many people may be behind.
    pub fn admit(
        self: &Arc<Self>,
        peer: Option<SocketAddr>,
        options: &StreamOptions,
        is_exempt: impl Fn(IpAddr) -> bool,
    ) -> Option<Admission> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let address = peer.map(|peer| peer.ip().to_canonical());
        if list.iter().filter(|viewer| viewer.has_place()).count() >= self.max {
            let Some(newest) = self.largest_holder(&list, address, is_exempt) else {
                self.shared.metrics.refused.inc();
                return None;
            };
            newest.ended.store(true, Ordering::Relaxed);
        }
        let stats = Arc::new(ViewerStats {
            id: self.next_id.fetch_add(1, Ordering::Relaxed) + 1,
            peer,
            connected: Instant::now(),
            fps: options.fps,
            sent: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        list.push(Arc::clone(&stats));
        self.shared.metrics.viewers.inc();
        Some(Admission { viewers: Arc::clone(self), stats })
    }

    /// The newest viewer of the address with the most places, if these are more than a quarter and more than `address` has.
    fn largest_holder<'a>(
        &self,
        list: &'a [Arc<ViewerStats>],
        address: Option<IpAddr>,
        is_exempt: impl Fn(IpAddr) -> bool,
    ) -> Option<&'a ViewerStats> {
        let held_by = |address| list.iter().filter(|other| other.has_place() && other.address() == address).count();
        let is_exempt = |address: Option<IpAddr>| address.is_some_and(&is_exempt);
        let quarter = self.max.div_ceil(4);
        if held_by(address) >= quarter && !is_exempt(address) {
            return None;
        }
        let others = list.iter().filter(|viewer| viewer.has_place()).map(|viewer| viewer.address());
        let others = others.filter(|&other| other != address && !is_exempt(other));
        let holder = others.max_by_key(|&other| held_by(other)).filter(|&holder| held_by(holder) > quarter)?;
        list.iter().rev().find(|viewer| viewer.has_place() && viewer.address() == holder).map(|viewer| &**viewer)
    }
}

impl ViewerStats {
    fn address(&self) -> Option<IpAddr> {
        self.peer.map(|peer| peer.ip().to_canonical())
    }

    fn has_place(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }
}

/// A viewer's place. Dropping it makes room.
#[derive(Debug)]
pub struct Admission {
    viewers: Arc<Viewers>,
    stats: Arc<ViewerStats>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.viewers.list.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| other.id != self.stats.id);
        self.viewers.shared.metrics.viewers.dec();
    }
}

/// Drives the viewers of one worker.
///
/// Its loop runs only while there are viewers.
#[derive(Debug)]
pub struct Broadcaster {
    shared: Arc<Shared>,
    shutdown: Shutdown,
    write_timeout: Duration,
    viewers: RefCell<Vec<Rc<Viewer>>>,
    running: Cell<bool>,
    /// Wakes the loop when a viewer has come, or was sent something outside of it.
    arrived: tokio::sync::Notify,
}

impl Broadcaster {
    /// A broadcaster without viewers.
    pub fn new(shared: Arc<Shared>, shutdown: Shutdown, write_timeout: Duration) -> Rc<Self> {
        Rc::new(Self {
            shared,
            shutdown,
            write_timeout,
            viewers: RefCell::default(),
            running: Cell::new(false),
            arrived: tokio::sync::Notify::new(),
        })
    }

    /// True while there are viewers.
    pub fn is_running(&self) -> bool {
        self.running.get()
    }

    /// The body of a stream's response. `connection` is the socket the response goes to.
    pub fn body(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        admission: Admission,
        options: StreamOptions,
    ) -> StreamBody {
        let opening = if options.advance_headers { multipart::OPENING_WITH_HEADERS } else { multipart::OPENING };
        let viewer = Rc::new(Viewer {
            connection: Rc::clone(connection),
            admission,
            _demand: self.shared.hub.demand(),
            options,
            outgoing: RefCell::new(Outgoing { part: Bytes::new(), tail: opening }),
            blocked: Cell::new(false),
            waiting: Cell::new(false),
            last_sequence: Cell::new(0),
            cadence: Cell::new(options.fps.map(Cadence::new)),
            progress: Cell::new(Instant::now()),
            unacknowledged: Cell::new(0),
            last_sent: Cell::new(Instant::now()),
            repeat_at: Cell::new(None),
            kept: RefCell::default(),
            closed: Cell::new(false),
            gone: Cell::new(false),
            body_waker: RefCell::default(),
        });
        StreamBody { broadcaster: Rc::clone(self), viewer, attached: false }
    }

    fn attach(self: &Rc<Self>, viewer: &Rc<Viewer>) {
        viewer.connection.becomes_viewer();
        let mut sent = Sent::default();
        viewer.flush(Instant::now(), &mut sent);
        self.count(&sent);
        self.viewers.borrow_mut().push(Rc::clone(viewer));
        if self.running.replace(true) {
            self.arrived.notify_one();
        } else {
            actix_rt::spawn(Rc::clone(self).run());
        }
    }

    async fn run(self: Rc<Self>) {
        // However this ends, the next viewer starts it again.
        let _running =
            Running { running: &self.running, looking_after: actix_rt::spawn(Rc::clone(&self).look_after()) };
        let mut frames = self.shared.hub.subscribe();
        let mut last_sequence = None;
        let mut shutdown = self.shutdown.clone();
        loop {
            self.tend();
            if self.viewers.borrow().is_empty() {
                return;
            }
            let deadline = self.next_deadline();
            tokio::select! {
                // In this order: a new frame is the usual reason to wake up.
                biased;
                changed = frames.changed() => {
                    if changed.is_err() {
                        self.close_all();
                        continue;
                    }
                    let newest = frames.borrow_and_update().clone();
                    if let Some(frame) = newest {
                        let missed = last_sequence.map_or(0, |last| frame.sequence.saturating_sub(last + 1));
                        last_sequence = Some(frame.sequence);
                        self.deliver(&frame, missed);
                    }
                }
                () = poll_fn(|cx| self.poll_writable(cx)) => {}
                () = self.arrived.notified() => {
                    // Newcomers are greeted by `tend`.
                }
                () = shutdown.requested() => self.close_all(),
                () = sleep_until(deadline) => {}
            }
        }
    }

    /// Gives a frame to every viewer. `missed` frames came and went while this worker was busy.
    fn deliver(&self, frame: &JpegFrame, missed: u64) {
        let now = Instant::now();
        let mut sent = Sent::default();
        for viewer in self.viewers.borrow().iter() {
            if missed > 0 && viewer.options.fps.is_none() && viewer.last_sequence.get() != 0 {
                viewer.skip(missed, &mut sent);
            }
            viewer.offer(frame, now, &mut sent);
        }
        self.count(&sent);
    }

    /// Goes on with viewers whose connections take more. Ready when any of them did.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut newest = Newest::new(&self.shared);
        let mut sent = Sent::default();
        let mut any = false;
        for viewer in self.viewers.borrow().iter().filter(|viewer| viewer.blocked.get()) {
            any |= viewer.poll_writable(cx, &mut newest, &mut sent);
        }
        self.count(&sent);
        if any { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Lets viewers go that are gone or stalled, greets new ones, repeats final frames.
    fn tend(&self) {
        let now = Instant::now();
        let mut sent = Sent::default();
        let mut newest = Newest::new(&self.shared);
        for viewer in self.viewers.borrow().iter() {
            if viewer.is_stalled(now, self.write_timeout) {
                self.shared.metrics.timed_out.inc();
                log::debug!("viewer {} took nothing for {:?}: dropped", viewer.admission.stats.id, self.write_timeout);
                viewer.abort();
            } else if viewer.last_sequence.get() == 0 {
                let is_recent = |age: Duration| age < GREETING_MAX_AGE || age < self.shared.frame_period() * 2;
                if let Some(frame) = newest.get().filter(|frame| is_recent(frame.captured_at.elapsed())) {
                    viewer.offer(frame, now, &mut sent);
                }
            } else if viewer.repeat_at.get().is_some_and(|at| at <= now) {
                viewer.repeat_at.set(None);
                if let Some(frame) = newest.get() {
                    viewer.repeat(frame, now, &mut sent);
                }
            }
        }
        self.count(&sent);
        self.viewers.borrow_mut().retain(|viewer| !viewer.closed.get());
    }

    /// Once a second ends viewers whose places were given away, and shows those in a long silence that the stream still lives.
    /// A task of its own: one more timer in the loop would be paid for with each frame.
    async fn look_after(self: Rc<Self>) {
        let mut rounds = actix_rt::time::interval(REPEAT_ROUND);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            self.end_displaced();
            self.refresh();
        }
    }

    fn end_displaced(&self) {
        for viewer in self.viewers.borrow().iter().filter(|viewer| !viewer.admission.stats.has_place()) {
            log::debug!("viewer {} makes room for another address", viewer.admission.stats.id);
            viewer.abort();
            self.arrived.notify_one();
        }
    }

    fn refresh(&self) {
        let now = Instant::now();
        let mut sent = Sent::default();
        let mut newest = Newest::new(&self.shared);
        for viewer in self.viewers.borrow().iter().filter(|viewer| viewer.is_silent(now)) {
            let kept = viewer.kept.borrow().clone();
            if let Some(frame) = kept.as_ref().or_else(|| newest.get()) {
                viewer.repeat(frame, now, &mut sent);
                // Their connections may be blocked now, or gone.
                self.arrived.notify_one();
            }
        }
        self.count(&sent);
    }

    fn close_all(&self) {
        for viewer in self.viewers.borrow().iter() {
            viewer.close();
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let viewers = self.viewers.borrow();
        let repeat =
            viewers.iter().filter(|viewer| !viewer.blocked.get()).filter_map(|viewer| viewer.repeat_at.get()).min();
        let stalled = viewers.iter().any(|viewer| viewer.blocked.get()).then(|| Instant::now() + STALL_ROUND);
        repeat.into_iter().chain(stalled).min()
    }

    fn count(&self, sent: &Sent) {
        if sent.frames > 0 {
            self.shared.metrics.sent.add(sent.frames);
        }
        self.shared.metrics.sent_bytes.inc_by(sent.bytes);
        self.shared.metrics.skipped.inc_by(sent.skipped);
    }
}

/// Notes that a broadcaster's loop is over.
struct Running<'a> {
    running: &'a Cell<bool>,
    looking_after: actix_rt::task::JoinHandle<()>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.running.set(false);
        self.looking_after.abort();
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => actix_rt::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// The hub's newest frame, asked for once in a round of viewers and only if one needs it.
struct Newest<'a> {
    shared: &'a Shared,
    asked: bool,
    frame: Option<JpegFrame>,
}

impl<'a> Newest<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self { shared, asked: false, frame: None }
    }

    fn get(&mut self) -> Option<&JpegFrame> {
        if !self.asked {
            self.asked = true;
            self.frame = self.shared.hub.newest();
        }
        self.frame.as_ref()
    }
}

/// Sums over viewers, added to the metrics once.
#[derive(Default)]
struct Sent {
    frames: u64,
    bytes: u64,
    skipped: u64,
}

/// One viewer. Driven by its [`Broadcaster`], owned by it and by the response's body.
#[derive(Debug)]
struct Viewer {
    /// While the answer is open, nobody else writes to its socket.
    connection: Rc<Connection>,
    admission: Admission,
    _demand: Demand,
    options: StreamOptions,
    outgoing: RefCell<Outgoing>,
    /// The connection takes no more; the rest of `outgoing` waits for it.
    blocked: Cell<bool>,
    /// The mailbox is full: the newest frame is for this viewer as soon as it is not blocked.
    waiting: Cell<bool>,
    last_sequence: Cell<u64>,
    /// Keeps to `fps`.
    cadence: Cell<Option<Cadence>>,
    /// When the connection last took something.
    progress: Cell<Instant>,
    /// Bytes the viewer's host had not acknowledged when that was last looked at; 0 if not since the connection last took
    /// something.
    unacknowledged: Cell<i32>,
    last_sent: Cell<Instant>,
    /// With `dual_final_frames`: when the last frame is sent again.
    repeat_at: Cell<Option<Instant>>,
    /// For one whose `fps` lets newer pictures than its last into the hub before it is repeated: that last one.
    kept: RefCell<Option<JpegFrame>>,
    closed: Cell<bool>,
    /// Closed because the connection is of no use any more.
    gone: Cell<bool>,
    body_waker: RefCell<Option<Waker>>,
}

/// What is left of the frame being sent.
#[derive(Debug, Default)]
struct Outgoing {
    part: Bytes,
    tail: &'static [u8],
}

impl Outgoing {
    fn is_empty(&self) -> bool {
        self.part.is_empty() && self.tail.is_empty()
    }

    fn advance(&mut self, n: usize) {
        let of_part = n.min(self.part.len());
        if of_part == self.part.len() {
            // Lets go of the frame, which `advance` would not.
            self.part = Bytes::new();
        } else {
            bytes::Buf::advance(&mut self.part, of_part);
        }
        self.tail = &self.tail[n - of_part..];
    }
}

impl Viewer {
    /// A new frame is there: sends it, or leaves it in the mailbox.
    fn offer(&self, frame: &JpegFrame, now: Instant, sent: &mut Sent) {
        if self.closed.get() || frame.sequence <= self.last_sequence.get() {
            return;
        }
        if !self.may_send(now) && !self.has_left(now) {
            return;
        }
        if self.blocked.get() {
            // The mailbox holds one: the frame that waited there is replaced.
            if self.waiting.replace(true) {
                self.skip(1, sent);
            }
            return;
        }
        self.send(frame, now, sent);
    }

    /// Keeps to `fps`: true if a frame may go out now.
    fn may_send(&self, now: Instant) -> bool {
        let Some(mut cadence) = self.cadence.get() else { return true };
        let may = cadence.take(now);
        self.cadence.set(Some(cadence));
        may
    }

    /// True if the client has closed its sending side and was sent nothing for a while. It may still be reading, but
    /// most often it is gone, and only writing finds out: such a viewer gets a frame in spite of its `fps`.
    fn has_left(&self, now: Instant) -> bool {
        if now.saturating_duration_since(self.last_sent.get()) < PRESENCE_ROUND {
            return false;
        }
        self.last_sent.set(now);
        let mut byte = [std::mem::MaybeUninit::uninit()];
        matches!(
            SockRef::from(self.connection.socket()).recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT),
            Ok(0)
        )
    }

    /// True if it is ready for more and was sent nothing for long.
    fn is_silent(&self, now: Instant) -> bool {
        !self.blocked.get() && now.saturating_duration_since(self.progress.get()) >= REPEAT_AFTER
    }

    /// The viewer's last frame once more, if nothing newer has come.
    fn repeat(&self, frame: &JpegFrame, now: Instant, sent: &mut Sent) {
        if !self.closed.get() && !self.blocked.get() && self.last_sequence.get() == frame.sequence {
            self.start(frame);
            self.flush(now, sent);
        }
    }

    fn send(&self, frame: &JpegFrame, now: Instant, sent: &mut Sent) {
        self.waiting.set(false);
        self.last_sequence.set(frame.sequence);
        self.last_sent.set(now);
        if self.options.dual_final_frames {
            self.repeat_at.set(Some(now + FINAL_AFTER));
        }
        if self.options.fps.is_some_and(|fps| fps * REPEAT_AFTER.as_secs_f64() < 1.5) {
            *self.kept.borrow_mut() = Some(frame.clone());
        }
        self.start(frame);
        self.admission.stats.sent.fetch_add(1, Ordering::Relaxed);
        sent.frames += 1;
        self.flush(now, sent);
    }

    fn start(&self, frame: &JpegFrame) {
        *self.outgoing.borrow_mut() = if self.options.advance_headers {
            Outgoing { part: frame.jpeg(), tail: multipart::DELIMITER_WITH_HEADERS }
        } else {
            Outgoing { part: frame.part().clone(), tail: &[] }
        };
    }

    fn skip(&self, n: u64, sent: &mut Sent) {
        self.admission.stats.skipped.fetch_add(n, Ordering::Relaxed);
        sent.skipped += n;
    }

    /// Writes as much of the current frame as the connection takes. `now` is when the round of viewers began.
    fn flush(&self, now: Instant, sent: &mut Sent) {
        let mut outgoing = self.outgoing.borrow_mut();
        let socket = self.connection.socket();
        while !outgoing.is_empty() {
            let pieces = [IoSlice::new(&outgoing.part), IoSlice::new(outgoing.tail)];
            let pieces = if outgoing.tail.is_empty() { &pieces[..1] } else { &pieces[..] };
            let written =
                SockRef::from(socket).send_vectored_with_flags(pieces, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
            match written {
                Ok(n) => {
                    outgoing.advance(n);
                    sent.bytes += n as u64;
                    self.progress.set(now);
                    self.unacknowledged.set(0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Tells tokio that the socket is full, so that it is waited for.
                    let _ = socket.try_io(Interest::WRITABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
                    self.blocked.set(true);
                    return;
                }
                // The viewer is gone; that is how streams end.
                Err(_) => {
                    drop(outgoing);
                    self.gone.set(true);
                    self.close();
                    return;
                }
            }
        }
        self.blocked.set(false);
    }

    /// Goes on if the connection takes more; tells whether it did.
    fn poll_writable(&self, cx: &mut Context<'_>, newest: &mut Newest<'_>, sent: &mut Sent) -> bool {
        while let Poll::Ready(ready) = self.connection.socket().poll_write_ready(cx) {
            if ready.is_err() {
                self.close();
                return true;
            }
            let now = Instant::now();
            self.flush(now, sent);
            if !self.blocked.get() && self.waiting.get() && !self.closed.get() {
                match newest.get() {
                    Some(frame) => self.send(frame, now, sent),
                    None => self.waiting.set(false),
                }
            }
            if !self.blocked.get() {
                return true;
            }
        }
        false
    }

    /// True if the viewer took nothing for `timeout`. The kernel accepts bytes from us in large steps; a viewer that
    /// reads slowly but steadily shows in what its host acknowledges.
    fn is_stalled(&self, now: Instant, timeout: Duration) -> bool {
        if !self.blocked.get() {
            return false;
        }
        if self.unacknowledged.get() == 0 {
            self.unacknowledged.set(self.send_queue());
        }
        if now.saturating_duration_since(self.progress.get()) < timeout {
            return false;
        }
        let unacknowledged = self.send_queue();
        let stalled = unacknowledged >= self.unacknowledged.replace(unacknowledged);
        if !stalled {
            self.progress.set(now);
        }
        stalled
    }

    /// Bytes in the kernel's send queue.
    fn send_queue(&self) -> i32 {
        let mut bytes: libc::c_int = 0;
        // SAFETY: SIOCOUTQ (alias TIOCOUTQ, tcp(7)) writes an int; a socket that is gone leaves it 0.
        unsafe { libc::ioctl(self.connection.socket().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        bytes
    }

    /// Ends the stream; what was written is still delivered.
    fn close(&self) {
        self.closed.set(true);
        *self.outgoing.borrow_mut() = Outgoing::default();
        if let Some(waker) = self.body_waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Ends the stream at once; what the viewer has not taken is thrown away, so that the kernel keeps nothing.
    fn abort(&self) {
        self.connection.abort();
        self.gone.set(true);
        self.close();
    }
}

/// The body of a stream's response: silent, while the viewer writes for itself.
#[derive(Debug)]
pub struct StreamBody {
    broadcaster: Rc<Broadcaster>,
    viewer: Rc<Viewer>,
    attached: bool,
}

/// Tells actix-web to drop the connection at once, whatever requests are still queued on it.
#[derive(Debug, thiserror::Error)]
#[error("the viewer is gone")]
pub struct ViewerGone;

impl MessageBody for StreamBody {
    type Error = ViewerGone;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.viewer.closed.get() {
            return Poll::Ready(if self.viewer.gone.get() { Some(Err(ViewerGone)) } else { None });
        }
        // Asked for bytes: the head is with the kernel, and the connection is the viewer's.
        *self.viewer.body_waker.borrow_mut() = Some(cx.waker().clone());
        if !self.attached {
            self.attached = true;
            self.broadcaster.attach(&self.viewer);
        }
        Poll::Pending
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        // The connection ended on actix-web's side.
        self.viewer.closed.set(true);
        *self.viewer.outgoing.borrow_mut() = Outgoing::default();
        self.broadcaster.arrived.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_more_than_a_quarter_makes_room() {
        let shared = Arc::new(Shared::new(&crate::config::Config::default(), None));
        let viewers = Arc::new(Viewers::new(shared, 8));
        let from = |last: u8| Some(SocketAddr::from(([192, 0, 2, last], 40_000)));
        let admit =
            |last| viewers.admit(from(last), &StreamOptions::default(), |address| address == from(9).unwrap().ip());
        // One may have all places while nobody else wants in, but not more.
        let mut greedy: Vec<_> = (0..8).map(|_| admit(1).unwrap()).collect();
        assert!(admit(1).is_none());
        // Others get in, each up to a quarter.
        let others = [admit(2), admit(2), admit(3)];
        assert!(others.iter().all(Option::is_some) && admit(2).is_none());
        let ended = |admission: &Admission| !admission.stats.has_place();
        assert_eq!(greedy.iter().map(ended).collect::<Vec<_>>(), [false, false, false, false, false, true, true, true]);
        // Down to a quarter, which is everybody's.
        let more = [admit(3), admit(4), admit(4), admit(5)];
        assert_eq!(more.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, true, false]);
        assert_eq!(greedy.iter().filter(|admission| !ended(admission)).count(), 2);
        greedy.clear();
        drop((others, more));
        assert_eq!(viewers.list().len(), 0);
        // Behind an exempt address are many people.
        let mut many: Vec<_> = (0..8).map(|_| admit(9).unwrap()).collect();
        assert!(admit(1).is_none());
        // That it holds the most protects nobody else.
        many.truncate(5);
        let _greedy: Vec<_> = (0..3).map(|_| admit(1).unwrap()).collect();
        assert!(admit(2).is_some());
    }
}
