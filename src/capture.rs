//! The capture thread: camera to encoder to hub, for ever.
//!
//! It alone touches camera and encoder. Every wait in it is bounded by [`ROUND`], so that [`Health::round`] stands still
//! only when a call into the camera or the encoder does not return. Whatever fails is closed and opened again with a
//! growing pause; until it works, viewers get a placeholder with the reason.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cadence::Cadence;
use crate::camera::{BufferIndex, Camera, CameraInfo, Opener};
use crate::config::{self, Config};
use crate::encoder::{self, Choice, EncodeError};
use crate::frame::{MonotonicTime, PartPool, Size};
use crate::health::{Health, State};
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::placeholder::Placeholder;

/// The longest the loop waits for a frame before it looks round.
const ROUND: Duration = Duration::from_millis(250);
/// The longest it waits while nobody watches; less where the watchdog wants to hear more often.
const IDLE_ROUND: Duration = Duration::from_secs(2);
/// Placeholders come at this pace: often enough for clients that give up on silence, rare enough to cost nothing.
const PLACEHOLDER_PERIOD: Duration = Duration::from_secs(1);
/// Pauses between attempts to open the camera.
const BACK_OFF: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// What the capture thread shares with everybody else.
#[derive(Debug)]
pub struct Shared {
    /// Where frames go.
    pub hub: Arc<Hub>,
    /// What state the camera is in.
    pub health: Health,
    /// What was counted.
    pub metrics: Metrics,
    pipeline: Mutex<Option<Pipeline>>,
    idle_round: Duration,
}

/// The opened camera and its encoder, for the status document.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The camera.
    pub camera: CameraInfo,
    /// The encoder's name.
    pub encoder: &'static str,
    /// Why this encoder.
    pub encoder_reason: &'static str,
}

impl Shared {
    /// Shared state of a program whose capture loop must come round four times within `watchdog`.
    pub fn new(watchdog: Option<Duration>) -> Self {
        Self {
            hub: Arc::default(),
            health: Health::default(),
            metrics: Metrics::default(),
            pipeline: Mutex::new(None),
            idle_round: watchdog.map_or(IDLE_ROUND, |interval| (interval / 4).min(IDLE_ROUND)),
        }
    }

    /// The opened camera and its encoder, if one is open.
    pub fn pipeline(&self) -> Option<Pipeline> {
        self.pipeline.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_pipeline(&self, pipeline: Option<Pipeline>) {
        *self.pipeline.lock().unwrap_or_else(PoisonError::into_inner) = pipeline;
    }
}

/// Starts the capture thread. It ends when the hub is closed.
///
/// `notes` are shown below the reason on placeholders: what is wrong with the configuration.
pub fn spawn(config: &Config, notes: Vec<String>, shared: Arc<Shared>) -> std::io::Result<std::thread::JoinHandle<()>> {
    let (camera, encoder) = (config.camera.clone(), config.encoder.clone());
    std::thread::Builder::new()
        .name("capture".to_owned())
        .spawn(move || Capture::new(camera, encoder, notes, &shared).run())
}

struct Capture<'a> {
    config: config::Camera,
    encoder_config: config::Encoder,
    opener: Opener,
    shared: &'a Shared,
    pool: PartPool,
    placeholder: Placeholder,
    placeholder_due: Instant,
    /// Size of the camera's last picture: placeholders keep the layout of pages.
    size: Size,
    /// Failed attempts in a row.
    failures: usize,
    opened_before: bool,
    /// What was last logged of an opened camera.
    description: String,
}

/// An opened camera with its encoder.
struct Open {
    camera: Box<dyn Camera>,
    choice: Choice,
    /// When the last good frame came (or good ones could first be expected).
    last_good: Instant,
    /// Why frames since then were not good.
    last_error: Option<String>,
    errored_frames: u64,
    /// For a camera with a rate of its own: which frames to take.
    cadence: Option<Cadence>,
}

impl<'a> Capture<'a> {
    fn new(config: config::Camera, encoder_config: config::Encoder, notes: Vec<String>, shared: &'a Shared) -> Self {
        Self {
            opener: Opener::new(config.clone()),
            size: config.resolution.size(),
            config,
            encoder_config,
            shared,
            pool: PartPool::default(),
            placeholder: Placeholder::new(notes),
            placeholder_due: Instant::now(),
            failures: 0,
            opened_before: false,
            description: String::new(),
        }
    }

    fn run(mut self) {
        while !self.shared.hub.is_closed() {
            self.shared.health.round();
            let failure = match self.open() {
                Ok(mut open) => {
                    let failure = self.stream(&mut open);
                    self.shared.set_pipeline(None);
                    failure
                }
                Err(reason) => Some(State::Degraded(reason.into())),
            };
            if let Some(state) = failure {
                self.fail(state);
                self.back_off();
            }
        }
        self.shared.hub.clear();
    }

    fn open(&mut self) -> Result<Open, String> {
        let camera = self.opener.open().map_err(|error| error.to_string())?;
        let info = camera.info().clone();
        let choice = encoder::choose(&self.encoder_config, info.pixel_format).map_err(|error| error.to_string())?;
        // Attempts that fail are not counted: what is told is how often the camera came back.
        if self.opened_before {
            self.shared.metrics.reopened.inc();
        }
        self.opened_before = true;
        let description = format!(
            "camera {} ({}): {} {} at {} fps, encoder {} ({})",
            info.id,
            info.model,
            info.size,
            info.pixel_format,
            info.frame_rate,
            choice.encoder.kind(),
            choice.reason
        );
        // A camera that stalls is opened again and again; that it is the same one is no news.
        if self.description != description {
            log::info!("{description}");
            self.description = description;
        }
        self.shared.set_pipeline(Some(Pipeline {
            camera: info,
            encoder: choice.encoder.kind(),
            encoder_reason: choice.reason,
        }));
        let cadence = (!camera.info().paced).then(|| Cadence::new(self.config.frame_rate.get()));
        Ok(Open { camera, choice, last_good: Instant::now(), last_error: None, errored_frames: 0, cadence })
    }

    /// Frame after frame, until the camera fails. `None` when the program ends.
    fn stream(&mut self, open: &mut Open) -> Option<State> {
        let idle_after = self.config.idle_after.get();
        // At the lowest frame rates silence between two frames is no stall.
        let period = Duration::from_secs_f64(1.0 / self.config.frame_rate.get());
        let stall_timeout = self.config.stall_timeout.get().max(3 * period);
        while !self.shared.hub.is_closed() {
            self.shared.health.round();
            let wanted = self.config.idle == config::Idle::Run || self.shared.hub.is_wanted(idle_after);
            if !wanted && self.opener.is_synthetic() {
                self.enter_idle();
                self.shared.hub.wait_wanted(self.shared.idle_round);
                open.last_good = Instant::now();
                continue;
            }
            let buffer = match open.camera.acquire(ROUND.min(self.shared.idle_round)) {
                Ok(buffer) => buffer,
                Err(error) => return Some(State::Degraded(error.to_string().into())),
            };
            let errored = open.camera.errored_frames();
            self.shared.metrics.dropped.inc_by(errored - open.errored_frames);
            open.errored_frames = errored;
            if let Some(buffer) = buffer {
                self.shared.metrics.captured.add(1);
                let taken = open.cadence.as_mut().is_none_or(|cadence| cadence.take(Instant::now()));
                // A frame the cadence leaves out says nothing about the camera.
                let result = taken.then(|| if wanted { self.publish(open, buffer) } else { Ok(()) });
                if let Err(error) = open.camera.queue(buffer) {
                    return Some(State::Degraded(error.to_string().into()));
                }
                match result {
                    None => {}
                    Some(Ok(())) => {
                        if !wanted {
                            // Only now: a camera that was opened but delivers nothing is not well.
                            self.enter_idle();
                        }
                        open.last_good = Instant::now();
                        open.last_error = None;
                        self.failures = 0;
                    }
                    Some(Err(error)) => {
                        self.shared.metrics.dropped.inc();
                        if !matches!(error, EncodeError::Jpeg(_) | EncodeError::ShortPlane { .. }) {
                            return Some(State::Degraded(error.to_string().into()));
                        }
                        let error = error.to_string();
                        // Once for a run of bad frames: a camera with a loose cable must not fill the journal.
                        if open.last_error.is_none() {
                            log::warn!("frame dropped: {error}");
                        }
                        open.last_error = Some(error);
                    }
                }
            }
            if open.last_good.elapsed() > stall_timeout {
                let seconds = stall_timeout.as_secs_f32();
                let reason = match open.last_error.take() {
                    Some(error) => format!("the camera has sent no usable frame for {seconds} s: {error}"),
                    None => format!("the camera has sent no frame for {seconds} s"),
                };
                return Some(State::Stalled(reason.into()));
            }
        }
        None
    }

    /// Encodes one frame into a part and hands it to the hub.
    fn publish(&mut self, open: &mut Open, buffer: BufferIndex) -> Result<(), EncodeError> {
        let metrics = &self.shared.metrics;
        let start = MonotonicTime::now();
        let raw = open.camera.view(buffer);
        let encoded = open.choice.encoder.encode(&raw)?;
        let frame = self.pool.assemble(&encoded.pieces, encoded.size, raw.captured_at);
        self.size = encoded.size;
        let done = MonotonicTime::now();
        metrics.encode_time.observe(done.since(start).as_secs_f64());
        metrics.publish_delay.observe(done.since(raw.captured_at).as_secs_f64());
        metrics.encoded.add(1);
        self.shared.hub.publish(frame);
        if self.shared.health.set(State::Streaming) {
            log::info!("streaming {}", self.size);
        }
        Ok(())
    }

    fn enter_idle(&mut self) {
        if self.shared.health.set(State::Idle) {
            self.shared.hub.clear();
            log::debug!("nobody watches: encoding pauses");
        }
    }

    fn fail(&mut self, state: State) {
        self.failures += 1;
        let reason = state.reason().cloned().unwrap_or_default();
        if self.shared.health.set(state) {
            log::warn!("no picture: {reason}");
            // The first placeholder with a new reason comes at once.
            self.placeholder_due = Instant::now();
        }
    }

    /// Waits before the next attempt to open the camera, with placeholders for whoever watches.
    fn back_off(&mut self) {
        let pause = BACK_OFF[(self.failures - 1).min(BACK_OFF.len() - 1)];
        let until = Instant::now() + pause;
        loop {
            self.shared.health.round();
            self.publish_placeholder();
            let now = Instant::now();
            if now >= until || self.shared.hub.is_closed() {
                return;
            }
            // With nobody there one wait will do, but somebody who comes is not kept waiting.
            let left = until - now;
            if self.shared.hub.is_wanted_now() {
                self.shared.hub.wait_closed(left.min(ROUND));
            } else {
                self.shared.hub.wait_wanted(left.min(self.shared.idle_round));
            }
        }
    }

    fn publish_placeholder(&mut self) {
        if !self.shared.hub.is_wanted_now() {
            self.shared.hub.clear();
            self.placeholder_due = Instant::now();
            return;
        }
        if Instant::now() < self.placeholder_due {
            return;
        }
        self.placeholder_due = Instant::now() + PLACEHOLDER_PERIOD;
        let (state, _) = self.shared.health.state();
        let Some(reason) = state.reason() else { return };
        match self.placeholder.frame(&mut self.pool, reason, self.size) {
            Ok(frame) => self.shared.hub.publish(frame),
            Err(error) => log::error!("the placeholder cannot be made: {error}"),
        }
    }
}
