//! The loop that drives the viewers of one worker.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::super::connection::Connection;
use super::StreamOptions;
use super::body::StreamBody;
use super::flow::Look;
use super::places::Admission;
use super::viewer::{Sent, Viewer};
use crate::board::Board;
use crate::publish::JpegFrame;
use crate::shutdown::Shutdown;

/// How old a frame may be to greet a new viewer; an older one is from before a pause.
const GREETING_MAX_AGE: Duration = Duration::from_secs(2);
/// How often viewers in a silence are looked for, and those whose places were given away.
const ROUND: Duration = Duration::from_secs(1);
/// Stalled viewers are looked for at least this often.
const STALL_ROUND: Duration = Duration::from_secs(1);

/// Drives the viewers of one worker.
///
/// Its loop runs only while there are viewers.
#[derive(Debug)]
pub struct Broadcaster {
    board: Arc<Board>,
    shutdown: Shutdown,
    write_timeout: Duration,
    viewers: RefCell<Vec<Rc<Viewer>>>,
    running: Cell<bool>,
    /// Wakes the loop when a viewer has come, or was sent something outside of it.
    arrived: tokio::sync::Notify,
}

impl Broadcaster {
    /// A broadcaster without viewers.
    pub fn new(board: Arc<Board>, shutdown: Shutdown, write_timeout: Duration) -> Rc<Self> {
        Rc::new(Self {
            board,
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
        let viewer = Viewer::new(Rc::clone(connection), admission, self.board.hub.demand(), options);
        StreamBody::new(Rc::clone(self), Rc::new(viewer))
    }

    /// The head of the viewer's response is with the kernel: its stream begins.
    pub fn attach(self: &Rc<Self>, viewer: &Rc<Viewer>) {
        let mut sent = Sent::default();
        viewer.begin(&mut sent);
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
        let mut frames = self.board.hub.subscribe();
        let mut last_sequence = None;
        let mut shutdown = self.shutdown.clone();
        loop {
            self.sweep();
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
                    // Newcomers are greeted by `sweep`.
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
            if missed > 0 {
                viewer.miss(missed, &mut sent);
            }
            viewer.offer(frame, now, &mut sent);
        }
        self.count(&sent);
    }

    /// Goes on with viewers whose connections take more. Ready when any of them did.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut newest = Newest::new(&self.board);
        let mut sent = Sent::default();
        let mut any = false;
        for viewer in self.viewers.borrow().iter().filter(|viewer| viewer.flow().is_blocked()) {
            any |= viewer.poll_writable(cx, &mut newest, &mut sent);
        }
        self.count(&sent);
        if any { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Lets viewers go that are gone or stalled, greets new ones, repeats final frames.
    fn sweep(&self) {
        let now = Instant::now();
        let mut sent = Sent::default();
        let mut newest = Newest::new(&self.board);
        for viewer in self.viewers.borrow().iter() {
            match viewer.look(now, self.write_timeout) {
                Look::Well => {}
                Look::Stalled => {
                    self.board.metrics.timed_out.inc();
                    log::debug!("viewer {} took nothing for {:?}: dropped", viewer.stats().id, self.write_timeout);
                    viewer.abort();
                }
                Look::New => {
                    let is_recent = |age: Duration| age < GREETING_MAX_AGE || age < self.board.frame_period() * 2;
                    if let Some(frame) = newest.get().filter(|frame| is_recent(frame.captured_at.elapsed())) {
                        viewer.offer(frame, now, &mut sent);
                    }
                }
                Look::RepeatDue => {
                    if let Some(frame) = newest.get() {
                        viewer.repeat(frame, now, &mut sent);
                    }
                }
            }
        }
        self.count(&sent);
        self.viewers.borrow_mut().retain(|viewer| !viewer.flow().is_closed());
    }

    /// Once a second ends viewers whose places were given away, and shows those in a long silence that the stream still lives.
    /// A task of its own: one more timer in the loop would be paid for with each frame.
    async fn look_after(self: Rc<Self>) {
        let mut rounds = actix_rt::time::interval(ROUND);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            self.end_displaced();
            self.refresh();
        }
    }

    fn end_displaced(&self) {
        for viewer in self.viewers.borrow().iter().filter(|viewer| !viewer.stats().has_place()) {
            log::debug!("viewer {} makes room for another address", viewer.stats().id);
            viewer.abort();
            self.arrived.notify_one();
        }
    }

    fn refresh(&self) {
        let now = Instant::now();
        let mut sent = Sent::default();
        let mut newest = Newest::new(&self.board);
        for viewer in self.viewers.borrow().iter().filter(|viewer| viewer.flow().is_silent(now)) {
            let kept = viewer.flow().kept();
            if let Some(frame) = kept.as_ref().or_else(|| newest.get()) {
                viewer.repeat(frame, now, &mut sent);
                // Their connections may be blocked now, or gone.
                self.arrived.notify_one();
            }
        }
        self.count(&sent);
    }

    /// A viewer's response is over.
    pub fn let_go(&self, viewer: &Viewer) {
        viewer.let_go();
        self.arrived.notify_one();
    }

    fn close_all(&self) {
        for viewer in self.viewers.borrow().iter() {
            viewer.close();
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let (mut repeat, mut is_any_blocked) = (None::<Instant>, false);
        for viewer in self.viewers.borrow().iter() {
            let flow = viewer.flow();
            is_any_blocked |= flow.is_blocked();
            if let Some(at) = flow.repeat_at() {
                repeat = Some(repeat.map_or(at, |earlier| earlier.min(at)));
            }
        }
        let stalled = is_any_blocked.then(|| Instant::now() + STALL_ROUND);
        repeat.into_iter().chain(stalled).min()
    }

    fn count(&self, sent: &Sent) {
        if sent.frames > 0 {
            self.board.metrics.sent.add(sent.frames);
        }
        self.board.metrics.sent_bytes.inc_by(sent.bytes);
        self.board.metrics.skipped.inc_by(sent.skipped);
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
#[derive(Debug)]
pub struct Newest<'a> {
    board: &'a Board,
    asked: bool,
    frame: Option<JpegFrame>,
}

impl<'a> Newest<'a> {
    fn new(board: &'a Board) -> Self {
        Self { board, asked: false, frame: None }
    }

    /// It.
    pub fn get(&mut self) -> Option<&JpegFrame> {
        if !self.asked {
            self.asked = true;
            self.frame = self.board.hub.newest();
        }
        self.frame.as_ref()
    }
}
