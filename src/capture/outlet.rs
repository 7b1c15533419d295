//! What goes out to the hub: the camera's pictures, or a placeholder that says why there are none.

use std::time::{Duration, Instant};

use crate::board::Board;
use crate::board::health::State;
use crate::config::Orientation;
use crate::encoder::turn::JpegTurner;
use crate::encoder::{EncodeError, Encoded};
use crate::frame::{MonotonicTime, Size};
use crate::placeholder::Placeholder;
use crate::publish::PartPool;

/// Placeholders come at this pace: often enough for clients that give up on silence, rare enough to cost nothing.
const PLACEHOLDER_PERIOD: Duration = Duration::from_secs(1);
/// How often dropped frames are told of in the journal.
const DROPS_TOLD_EVERY: Duration = Duration::from_secs(60);

/// When a picture was made.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// When its frame was captured.
    pub captured_at: MonotonicTime,
    /// When encoding began.
    pub encoding_began: MonotonicTime,
}

/// See the module's text.
#[derive(Debug)]
pub struct Outlet<'a> {
    board: &'a Board,
    pool: PartPool,
    placeholder: Placeholder,
    placeholder_due: Instant,
    /// Size of the camera's last picture: placeholders keep the layout of pages.
    size: Size,
    /// When a dropped frame was last told of.
    drop_told: Option<Instant>,
}

impl<'a> Outlet<'a> {
    /// An outlet; `notes` are shown below the reason on placeholders, which have about this size until there is a picture.
    pub fn new(board: &'a Board, notes: Vec<String>, size: Size) -> Self {
        Self {
            board,
            pool: PartPool::default(),
            placeholder: Placeholder::new(notes),
            placeholder_due: Instant::now(),
            size,
            drop_told: None,
        }
    }

    /// The board.
    pub fn board(&self) -> &'a Board {
        self.board
    }

    /// Publishes one JPEG, turned by `turner` if that is left to be done. `is_settled` says that the camera's exposure is.
    ///
    /// # Errors
    /// A JPEG that cannot be turned.
    pub fn publish(
        &mut self,
        picture: &Encoded<'_>,
        turner: Option<(&mut JpegTurner, Orientation)>,
        times: Times,
        is_settled: bool,
    ) -> Result<(), EncodeError> {
        let (mut frame, size) = match turner {
            None => (self.pool.assemble(&picture.pieces, picture.size, times.captured_at), picture.size),
            Some((turner, orientation)) => {
                let (jpeg, size) = turner.turn(&picture.pieces, orientation)?;
                (self.pool.assemble(&[jpeg], size, times.captured_at), size)
            }
        };
        frame.settled = is_settled;
        self.size = size;
        let metrics = &self.board.metrics;
        let done = MonotonicTime::now();
        metrics.encode_time.observe(done.since(times.encoding_began).as_secs_f64());
        metrics.publish_delay.observe(done.since(times.captured_at).as_secs_f64());
        metrics.encoded.add(1);
        self.board.hub.publish(frame);
        if self.board.health.set(State::Streaming) {
            log::info!("streaming {}", self.size);
        }
        Ok(())
    }

    /// Counts a frame that gave no picture, and tells of it now and then: a camera with a loose cable must not fill the
    /// journal.
    pub fn drop_frame(&mut self, error: &EncodeError) {
        self.board.metrics.dropped.inc();
        if self.drop_told.is_none_or(|told| told.elapsed() > DROPS_TOLD_EVERY) {
            self.drop_told = Some(Instant::now());
            log::warn!("frame dropped: {error} (/metrics counts them; told at most once a minute)");
        }
    }

    /// Puts this state in place of pictures. The first placeholder with a new reason comes at once.
    pub fn fail(&mut self, state: State) {
        let reason = state.reason().cloned().unwrap_or_default();
        if self.board.health.set(state) {
            log::warn!("no picture: {reason}");
            self.placeholder_due = Instant::now();
        }
    }

    /// Nobody is to be shown the past when they come back.
    pub fn rest(&self) {
        if self.board.health.set(State::Idle) {
            self.board.hub.clear();
            log::debug!("nobody watches: encoding pauses");
        }
    }

    /// Publishes a placeholder, if one is due and somebody watches.
    pub fn publish_placeholder(&mut self) {
        let now = Instant::now();
        if !self.board.hub.is_wanted_now() {
            self.board.hub.clear();
            self.placeholder_due = now;
            return;
        }
        if now < self.placeholder_due {
            return;
        }
        self.placeholder_due = now + PLACEHOLDER_PERIOD;
        let (state, _) = self.board.health.state();
        let Some(reason) = state.reason() else { return };
        match self.placeholder.frame(&mut self.pool, reason, self.size) {
            Ok(frame) => self.board.hub.publish(frame),
            Err(error) => log::error!("the placeholder cannot be made: {error}"),
        }
    }
}
