//! The capture thread: camera to encoder to hub, for ever.
//!
//! It alone touches camera and encoder. Every wait in it is bounded by [`ROUND`], so that the rounds of
//! [`Health`](crate::board::health::Health) stand still only when a call into the camera or the encoder does not return.
//! Whatever fails is closed and opened again with a growing pause; until it works, viewers get a placeholder with the reason.
//! What is changed while the program runs is changed here, between two frames.
//!
//! * `session`: one opened camera with its encoder, step by step; `encoding`: the encoder's half of it.
//! * `wanted`: what is wanted now. `requests`: what was asked for, kept over a reopening.
//! * `outlet`: what goes out to the hub. `recovery`, `hold`: when a camera is opened again. `oddities`: what is odd about its
//!   pictures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::board::Board;
use crate::board::health::{State, Trouble};
use crate::camera::Opener;
use crate::config::{self, Config};
use crate::memory;

mod encoding;
mod hold;
mod oddities;
mod outlet;
mod recovery;
mod requests;
mod session;
mod wanted;

use encoding::{History, Shortfall};
use hold::Hold;
use outlet::Outlet;
use recovery::Recovery;
use requests::{Attempt, Requests};
use session::{Outcome, Session, SessionError, Surroundings};
use wanted::Wanted;

/// The longest the loop waits for a frame before it looks round.
const ROUND: Duration = Duration::from_millis(250);

/// Starts the capture thread. It ends when the hub is closed.
///
/// `notes` are shown below the reason on placeholders: what is wrong with the configuration.
///
/// # Errors
/// The thread cannot be started.
pub fn spawn(config: &Config, notes: Vec<String>, board: Arc<Board>) -> std::io::Result<std::thread::JoinHandle<()>> {
    let config = config.clone();
    std::thread::Builder::new().name("capture".to_owned()).spawn(move || Capture::new(&config, notes, &board).run())
}

/// What outlives a session.
struct Capture<'a> {
    board: &'a Board,
    outlet: Outlet<'a>,
    wanted: Wanted,
    requests: Requests,
    opener: Opener,
    history: History,
    recovery: Recovery,
    /// While no camera may be opened.
    hold: Option<Hold>,
    /// What was last logged of an opened camera; empty before the first.
    description: String,
}

/// Why a session ended.
enum End {
    /// The program ends.
    Closed,
    /// Something failed; it is tried again after a pause.
    Failed(SessionError),
    /// To be opened anew at once, with other settings.
    Reopen,
    /// Nobody watches, and `camera.idle` is `stop`.
    Idle,
}

impl<'a> Capture<'a> {
    fn new(config: &Config, notes: Vec<String>, board: &'a Board) -> Self {
        Self {
            board,
            outlet: Outlet::new(board, notes, config.camera.resolution.size()),
            wanted: Wanted::new(config),
            requests: Requests::default(),
            opener: Opener::new(config.camera.clone()),
            history: History::default(),
            recovery: Recovery::default(),
            hold: Hold::from_environment(),
            description: String::new(),
        }
    }

    fn run(mut self) {
        while !self.board.hub.is_closed() {
            self.board.health.round();
            let end = self.run_session();
            // What camera and encoder had is not needed again, or in another size.
            memory::give_back();
            match end {
                End::Closed => break,
                End::Reopen => {}
                End::Idle => {
                    log::info!("nobody watches: the camera is stopped");
                    self.board.change_pipeline(|pipeline| pipeline.running = false);
                    self.wait_idle();
                }
                End::Failed(error) => {
                    self.board.set_pipeline(None);
                    self.board.controls.forget();
                    self.outlet.fail(state_of(&error));
                    self.back_off();
                }
            }
        }
        self.board.hub.clear();
    }

    /// One camera with one encoder, from opening to end.
    fn run_session(&mut self) -> End {
        self.requests.take_up(&self.board.mailbox, self.wanted.settings(), Instant::now());
        if let Some(settings) = self.requests.to_try() {
            self.wanted.put_in_force(settings.clone());
            // Whoever comes once the change is answered is not to be shown what was before it.
            self.board.hub.clear();
        }
        let opened = self.open();
        let result = opened.as_ref().map(|_| ()).map_err(ToString::to_string);
        match (self.requests.attempted(result, &mut self.wanted, self.board), opened) {
            (Attempt::Settled, Ok(session)) => self.stream(session),
            (Attempt::Settled | Attempt::NoCamera, Err(error)) => End::Failed(error),
            (Attempt::Again | Attempt::NoCamera, _) => End::Reopen,
        }
    }

    fn open(&mut self) -> Result<Session, SessionError> {
        if let Some(hold) = &self.hold {
            if let Some(reason) = hold.reason() {
                return Err(SessionError::Held(reason.to_owned()));
            }
            log::info!("the camera was left alone for long enough: it is tried again");
            self.hold = None;
        }
        self.opener.reconfigure(self.wanted.camera().clone());
        let (session, pipeline) = Session::open(&self.opener, &self.wanted, &mut self.history)?;
        // Attempts that fail are not counted: what is told is how often the camera came back.
        if !self.description.is_empty() {
            self.board.metrics.reopened.inc();
        }
        let description = session.describe();
        // A camera that stalls is opened again and again; that it is the same one is no news.
        if self.description != description {
            log::info!("{description}");
            for note in &pipeline.notes {
                log::warn!("{note}");
            }
            self.description = description;
        }
        self.board.set_pipeline(Some(pipeline));
        Ok(session)
    }

    fn stream(&mut self, mut session: Session) -> End {
        self.board.controls.opened();
        let end = self.step_on(&mut session);
        self.board.controls.set_live(false);
        // Whoever asks for them before there is a camera again gets these.
        if matches!(end, End::Idle | End::Reopen) && self.board.controls.get().is_none() {
            requests::tell_controls(&mut session, self.board);
        }
        end
    }

    /// Frame after frame, until something ends it.
    fn step_on(&mut self, session: &mut Session) -> End {
        let board = self.board;
        let round = ROUND.min(board.idle_round());
        let encodes_always = self.wanted.encodes_always(session.period());
        let linger = self.wanted.linger(session.period());
        let mut has_delivered = false;
        while !board.hub.is_closed() {
            board.health.round();
            if self.requests.handle(session, &mut self.wanted, board) {
                return End::Reopen;
            }
            if session.is_fallback() && self.history.hardware.is_due(Instant::now()) {
                log::info!("the hardware encoder is tried again");
                return End::Reopen;
            }
            let is_wanted = encodes_always || board.hub.is_wanted(linger);
            if !is_wanted && !session.is_busy() {
                // Not before its first frame: a camera that was opened but delivers nothing is not well.
                let may_stop = session.frames() > 0 || self.opener.is_synthetic();
                if may_stop && self.wanted.camera().idle == config::Idle::Stop {
                    return End::Idle;
                }
                if self.opener.is_synthetic() {
                    self.rest();
                    session.excuse_silence();
                    continue;
                }
            }
            let mut around =
                Surroundings { wanted: &self.wanted, history: &mut self.history, outlet: &mut self.outlet };
            match session.step(round, is_wanted, &mut around) {
                Ok(Outcome::Goes { is_good: true }) => self.recovery.succeeded(),
                Ok(Outcome::Goes { is_good: false }) => {}
                Ok(Outcome::TooLarge(Shortfall { possible, least, smaller })) => {
                    let size = session.size();
                    if self.wanted.limit_size(smaller, size) {
                        log::info!(
                            "the software encoder makes {possible:.1} of {least} fps at {size}: {smaller} from now on"
                        );
                        return End::Reopen;
                    }
                }
                Err(error) => return End::Failed(error),
            }
            if !has_delivered && session.frames() > 0 {
                has_delivered = true;
                self.requests.resume();
            }
        }
        End::Closed
    }

    /// A source without a sensor pauses while nobody watches.
    fn rest(&mut self) {
        self.outlet.rest();
        self.requests.resume();
        // Whoever only reads controls does not wake it.
        self.board.controls.set_live(false);
        self.board.hub.wait_wanted(self.board.idle_round());
        self.board.controls.set_live(true);
    }

    /// Waits, with the camera closed, until somebody watches.
    fn wait_idle(&mut self) {
        self.outlet.rest();
        self.requests.resume();
        // Whoever asks for a change wants frames as well: it is kept for the camera.
        while !self.board.hub.is_closed() && !self.board.hub.is_wanted_now() {
            self.board.health.round();
            self.board.hub.wait_wanted(self.board.idle_round());
        }
    }

    /// Waits before the next attempt to open the camera, with placeholders for whoever watches.
    fn back_off(&mut self) {
        let until = Instant::now() + self.recovery.failed();
        let hub = &self.board.hub;
        loop {
            self.board.health.round();
            self.requests.handle_without_camera(&mut self.wanted, self.board);
            self.outlet.publish_placeholder();
            let now = Instant::now();
            if now >= until || hub.is_closed() {
                return;
            }
            // With nobody there one wait will do, but somebody who comes is not kept waiting.
            let left = until - now;
            if hub.is_wanted_now() {
                hub.wait_closed(left.min(ROUND));
            } else {
                hub.wait_wanted(left.min(self.board.idle_round()));
            }
        }
    }
}

fn state_of(error: &SessionError) -> State {
    let trouble = Trouble { cause: error.cause(), reason: error.to_string().into() };
    match error {
        SessionError::Silent { .. } | SessionError::Unusable { .. } => State::Stalled(trouble),
        SessionError::Held(_) | SessionError::Camera(_) | SessionError::Encoder(_) => State::Degraded(trouble),
    }
}
