//! What a viewer does next, decided without a connection.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::StreamOptions;
use crate::cadence::Cadence;
use crate::publish::{JpegFrame, multipart};

/// A viewer with `dual_final_frames` gets a frame again after this silence.
const FINAL_AFTER: Duration = Duration::from_millis(150);
/// A viewer that wants few frames is looked at this often: is it still there?
const PRESENCE_ROUND: Duration = Duration::from_secs(1);
/// A viewer that was sent nothing for this long gets its last picture once more: with the round in which such viewers are looked
/// for (1 s) less than 5 s, as Home Assistant gives up after 10.
const REPEAT_AFTER: Duration = Duration::from_millis(3500);

/// See the module's text.
#[derive(Debug)]
pub struct Flow {
    options: StreamOptions,
    state: State,
    outgoing: Outgoing,
    last_sequence: u64,
    /// Keeps to `fps`.
    cadence: Option<Cadence>,
    /// When the connection last took something.
    progress: Instant,
    last_sent: Instant,
    /// With `dual_final_frames`: when the last frame is sent again.
    repeat_at: Option<Instant>,
    /// For one whose `fps` lets newer pictures than its last into the hub before it is repeated: that last one.
    kept: Option<JpegFrame>,
}

/// The one state a viewer is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The connection has taken everything.
    Ready,
    /// It takes no more; the rest of what is going out waits for it.
    Blocked {
        /// The mailbox is full: the newest frame is for this viewer as soon as it is not blocked.
        is_waiting: bool,
        /// Bytes the viewer's host had not acknowledged when that was last looked at; 0 if not since the connection last took
        /// something.
        unacknowledged: i32,
    },
    /// The stream is over.
    Closed {
        /// Because the connection is of no use any more.
        is_gone: bool,
    },
}

/// What a new frame means to a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// To be sent.
    Send,
    /// It has replaced another one in the mailbox, which the viewer has missed.
    Skips,
    /// Nothing, for now.
    Nothing,
    /// Nothing, unless the client has closed its sending side: then it is most likely gone, and only sending finds out.
    SendIfLeft,
}

/// What is to be done about a viewer besides new frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing.
    Well,
    /// It takes nothing any more.
    Stalled,
    /// It has had no frame yet.
    New,
    /// It is time, once, to send its last frame again.
    RepeatDue,
}

/// What is left of the frame being sent.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// The part, or what is left of it.
    pub part: Bytes,
    /// What follows it.
    pub tail: &'static [u8],
}

impl Outgoing {
    /// True if everything was taken.
    pub fn is_empty(&self) -> bool {
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

impl Flow {
    /// Of a viewer that comes now; the stream's opening is going out.
    pub fn new(options: StreamOptions, now: Instant) -> Self {
        let opening = if options.advance_headers { multipart::OPENING_WITH_HEADERS } else { multipart::OPENING };
        Self {
            options,
            state: State::Ready,
            outgoing: Outgoing { part: Bytes::new(), tail: opening },
            last_sequence: 0,
            cadence: options.fps.map(Cadence::new),
            progress: now,
            last_sent: now,
            repeat_at: None,
            kept: None,
        }
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// True if it waits for its connection.
    pub fn is_blocked(&self) -> bool {
        matches!(self.state, State::Blocked { .. })
    }

    /// True if the stream is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// What is going out.
    pub fn outgoing(&self) -> &Outgoing {
        &self.outgoing
    }

    /// True if frames that nobody offered it count as skipped.
    pub fn misses(&self) -> bool {
        self.options.fps.is_none() && self.last_sequence != 0
    }

    /// A new frame is there.
    pub fn offer(&mut self, sequence: u64, now: Instant) -> Offer {
        if self.is_closed() || sequence <= self.last_sequence {
            return Offer::Nothing;
        }
        if self.cadence.as_mut().is_none_or(|cadence| cadence.take(now)) {
            return self.accept();
        }
        if now.saturating_duration_since(self.last_sent) < PRESENCE_ROUND {
            return Offer::Nothing;
        }
        self.last_sent = now;
        Offer::SendIfLeft
    }

    /// The frame is for this viewer, now or as soon as its connection takes more.
    pub fn accept(&mut self) -> Offer {
        match &mut self.state {
            State::Ready => Offer::Send,
            // The mailbox holds one: the frame that waited there is replaced.
            State::Blocked { is_waiting, .. } => {
                if std::mem::replace(is_waiting, true) {
                    Offer::Skips
                } else {
                    Offer::Nothing
                }
            }
            State::Closed { .. } => Offer::Nothing,
        }
    }

    /// This frame goes out next.
    pub fn start(&mut self, frame: &JpegFrame, now: Instant) {
        self.last_sequence = frame.sequence;
        self.last_sent = now;
        if self.options.dual_final_frames {
            self.repeat_at = Some(now + FINAL_AFTER);
        }
        if self.options.fps.is_some_and(|fps| fps * REPEAT_AFTER.as_secs_f64() < 1.5) {
            self.kept = Some(frame.clone());
        }
        self.load(frame);
    }

    fn load(&mut self, frame: &JpegFrame) {
        self.outgoing = if self.options.advance_headers {
            Outgoing { part: frame.jpeg(), tail: multipart::DELIMITER_WITH_HEADERS }
        } else {
            Outgoing { part: frame.part().clone(), tail: &[] }
        };
    }

    /// The connection took so many bytes.
    pub fn took(&mut self, n: usize, now: Instant) {
        self.outgoing.advance(n);
        self.progress = now;
        if let State::Blocked { unacknowledged, .. } = &mut self.state {
            *unacknowledged = 0;
        }
    }

    /// It takes no more.
    pub fn block(&mut self) {
        if self.state == State::Ready {
            self.state = State::Blocked { is_waiting: false, unacknowledged: 0 };
        }
    }

    /// It has taken everything. True if a frame has waited for that.
    pub fn unblock(&mut self) -> bool {
        match self.state {
            State::Blocked { is_waiting, .. } => {
                self.state = State::Ready;
                is_waiting
            }
            State::Ready | State::Closed { .. } => false,
        }
    }

    /// The stream is over.
    pub fn close(&mut self, is_gone: bool) {
        let is_gone = is_gone || self.state == State::Closed { is_gone: true };
        self.state = State::Closed { is_gone };
        self.outgoing = Outgoing::default();
    }

    /// True if it is ready for more and was sent nothing for long.
    pub fn is_silent(&self, now: Instant) -> bool {
        self.state == State::Ready && now.saturating_duration_since(self.progress) >= REPEAT_AFTER
    }

    /// When its last frame is to be sent again, if the connection has taken it.
    pub fn repeat_at(&self) -> Option<Instant> {
        self.repeat_at.filter(|_| self.state == State::Ready)
    }

    /// Its last frame, where it had to be kept.
    pub fn kept(&self) -> Option<JpegFrame> {
        self.kept.clone()
    }

    /// Its last frame goes out once more, if `frame` is that, and the connection is ready for it.
    pub fn start_again(&mut self, frame: &JpegFrame) -> bool {
        let again = self.state == State::Ready && self.last_sequence == frame.sequence;
        if again {
            self.load(frame);
        }
        again
    }

    /// What is to be done about it. See [`is_stalled`](Self::is_stalled).
    pub fn look(&mut self, now: Instant, timeout: Duration, queued: impl Fn() -> i32) -> Look {
        if self.is_stalled(now, timeout, queued) {
            Look::Stalled
        } else if self.last_sequence == 0 {
            Look::New
        } else if self.repeat_at.take_if(|at| *at <= now).is_some() {
            Look::RepeatDue
        } else {
            Look::Well
        }
    }

    /// True if the viewer took nothing for `timeout`. The kernel accepts bytes from us in large steps; a viewer that reads
    /// slowly but steadily shows in what its host acknowledges: `queued` tells the bytes in the kernel's send queue.
    fn is_stalled(&mut self, now: Instant, timeout: Duration, queued: impl Fn() -> i32) -> bool {
        let State::Blocked { unacknowledged, .. } = &mut self.state else { return false };
        if *unacknowledged == 0 {
            *unacknowledged = queued();
        }
        if now.saturating_duration_since(self.progress) < timeout {
            return false;
        }
        let left = queued();
        let is_stalled = left >= std::mem::replace(unacknowledged, left);
        if !is_stalled {
            self.progress = now;
        }
        is_stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{MonotonicTime, Size};
    use crate::publish::PartPool;

    fn frames(n: usize) -> Vec<JpegFrame> {
        let mut pool = PartPool::default();
        let size = Size { width: 1, height: 1 };
        (0..n).map(|_| pool.assemble(&[b"jpeg"], size, MonotonicTime::now())).collect()
    }

    /// A viewer whose connection has taken the opening.
    fn viewer(options: StreamOptions, now: Instant) -> Flow {
        let mut flow = Flow::new(options, now);
        flow.took(flow.outgoing().tail.len(), now);
        flow
    }

    fn take_all(flow: &mut Flow, now: Instant) {
        flow.took(flow.outgoing().part.len() + flow.outgoing().tail.len(), now);
    }

    #[test]
    fn a_blocked_viewers_mailbox_holds_the_newest_frame() {
        let now = Instant::now();
        let frames = frames(5);
        let mut flow = viewer(StreamOptions::default(), now);
        assert_eq!(flow.offer(frames[0].sequence, now), Offer::Send);
        flow.start(&frames[0], now);
        flow.took(3, now);
        flow.block();
        let offers: Vec<_> = frames[1..4].iter().map(|frame| flow.offer(frame.sequence, now)).collect();
        assert_eq!(offers, [Offer::Nothing, Offer::Skips, Offer::Skips], "the first one waits, then it is replaced");
        assert_eq!(flow.state(), State::Blocked { is_waiting: true, unacknowledged: 0 });
        take_all(&mut flow, now);
        assert!(flow.outgoing().is_empty() && flow.unblock(), "the newest is to be sent now");
        assert_eq!(flow.state(), State::Ready);
        flow.start(&frames[3], now);
        assert_eq!(flow.offer(frames[3].sequence, now), Offer::Nothing, "it has that one");
        take_all(&mut flow, now);
        assert!(!flow.unblock(), "nothing has waited since");
    }

    #[test]
    fn a_closed_viewer_takes_nothing_and_lets_go_of_its_frame() {
        let now = Instant::now();
        let frames = frames(2);
        let mut flow = viewer(StreamOptions::default(), now);
        flow.start(&frames[0], now);
        flow.block();
        flow.close(true);
        assert_eq!(flow.state(), State::Closed { is_gone: true });
        assert!(flow.outgoing().is_empty());
        assert_eq!(flow.offer(frames[1].sequence, now), Offer::Nothing);
        flow.block();
        assert!(flow.is_closed() && !flow.unblock() && !flow.is_silent(now + 10 * REPEAT_AFTER));
    }

    #[test]
    fn a_viewer_of_few_frames_is_kept_to_its_rate_and_looked_at_once_a_second() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut flow = viewer(StreamOptions { fps: Some(0.1), ..StreamOptions::default() }, start);
        let frames = frames(4);
        assert_eq!(flow.offer(frames[0].sequence, at(0.0)), Offer::Send);
        flow.start(&frames[0], at(0.0));
        take_all(&mut flow, at(0.0));
        assert_eq!(flow.offer(frames[1].sequence, at(0.5)), Offer::Nothing);
        assert_eq!(flow.offer(frames[1].sequence, at(1.1)), Offer::SendIfLeft);
        assert_eq!(flow.offer(frames[2].sequence, at(1.5)), Offer::Nothing, "not again so soon");
        assert!(!flow.misses(), "it has asked to miss them");
        // It is repeated its own last picture, not the hub's newer one.
        assert!(flow.is_silent(at(3.5)));
        assert_eq!(flow.kept().unwrap().sequence, frames[0].sequence);
        assert!(!flow.start_again(&frames[2]) && flow.start_again(&frames[0]));
    }

    #[test]
    fn the_last_frame_before_a_silence_is_sent_twice_where_that_was_asked_for() {
        let now = Instant::now();
        let frame = &frames(1)[0];
        let mut flow = viewer(StreamOptions { dual_final_frames: true, ..StreamOptions::default() }, now);
        flow.start(frame, now);
        flow.block();
        assert_eq!(flow.repeat_at(), None, "not before the first is out");
        take_all(&mut flow, now);
        flow.unblock();
        assert_eq!(flow.repeat_at(), Some(now + FINAL_AFTER));
        let mut look = |at| flow.look(at, Duration::MAX, || 0);
        assert_eq!(look(now), Look::Well);
        assert_eq!((look(now + FINAL_AFTER), look(now + FINAL_AFTER)), (Look::RepeatDue, Look::Well), "once");
        assert!(flow.start_again(frame) && !flow.outgoing().is_empty());
    }

    #[test]
    fn who_reads_slowly_has_not_stalled() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let timeout = Duration::from_secs(10);
        let mut flow = viewer(StreamOptions::default(), start);
        flow.start(&frames(1)[0], start);
        assert!(!flow.is_stalled(at(60), timeout, || 0), "it is not blocked");
        flow.block();
        assert!(!flow.is_stalled(at(1), timeout, || 5000), "looked at for the first time");
        assert!(!flow.is_stalled(at(10), timeout, || 4000), "its host has acknowledged some");
        assert!(!flow.is_stalled(at(19), timeout, || 4000), "and has its time anew");
        assert!(flow.is_stalled(at(20), timeout, || 4000));
        flow.took(2, at(20));
        assert!(!flow.is_stalled(at(21), timeout, || 4000));
    }
}
