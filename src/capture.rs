//! The capture thread: camera to encoder to hub, for ever.
//!
//! It alone touches camera and encoder. Every wait in it is bounded by [`ROUND`], so that [`Health::round`] stands still
//! only when a call into the camera or the encoder does not return. Whatever fails is closed and opened again with a
//! growing pause; until it works, viewers get a placeholder with the reason. What is changed while the program runs
//! ([`crate::settings`]) is changed here, between two frames.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json};

use crate::cadence::Cadence;
use crate::camera::control::{self, Control, Refusal};
use crate::camera::{BufferIndex, Camera, CameraError, CameraInfo, Opener, govern, rate};
use crate::config::{self, Config, Orientation};
use crate::encoder::load::Load;
use crate::encoder::turn::JpegTurner;
use crate::encoder::v4l2_m2m::{Collected, Submitted};
use crate::encoder::{
    self, EncodeError, Encoded, Endless, Engine, HardwarePolicy, PictureWork, SelectedEncoder, Usage,
};
use crate::frame::{MonotonicTime, PartPool, PixelFormat, Size};
use crate::health::{Health, State};
use crate::hold::Hold;
use crate::hub::Hub;
use crate::memory;
use crate::metrics::Metrics;
use crate::oddities::Oddities;
use crate::overlay::Overlay;
use crate::placeholder::Placeholder;
use crate::requests::{Answers, Asked, ControlChange, ControlsAsked, Known, Mailbox, Pace, Trial, Verdict};
use crate::settings::{ChangeError, Settings};

/// The longest the loop waits for a frame before it looks round.
const ROUND: Duration = Duration::from_millis(250);
/// The longest it waits while nobody watches; less where the watchdog wants to hear more often.
const IDLE_ROUND: Duration = Duration::from_secs(2);
/// A hardware encoder that gives this many damaged pictures in a row has failed.
const DAMAGED_MAX: u32 = 5;
/// How often dropped frames are told of in the journal.
const DROPS_TOLD_EVERY: Duration = Duration::from_secs(60);
/// A descriptor that is ready again and again with nothing to be had for it is looked at this seldom.
const STORM_PAUSE: Duration = Duration::from_millis(1);
/// Cameras this slow are encoded also while nobody watches.
const SLOW_PERIOD: Duration = Duration::from_secs(2);
/// Changes of controls get so much time between two frames.
const CONTROLS_BUDGET: Duration = Duration::from_millis(20);
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
    /// Changes on their way to the capture thread.
    pub mailbox: Mailbox,
    /// The camera's controls, as far as they are known.
    pub controls: Known,
    settings: Mutex<Settings>,
    pipeline: Mutex<Option<Pipeline>>,
    idle_round: Duration,
}

/// The opened camera and its encoder, for the status document.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The camera.
    pub camera: CameraInfo,
    /// False while it is stopped because nobody watches.
    pub running: bool,
    /// The encoder's name.
    pub encoder: &'static str,
    /// Why this encoder.
    pub encoder_reason: String,
    /// The hardware encoder's device and how it gets its frames.
    pub hardware: Option<(String, &'static str)>,
    /// The frame rate the software encoder is kept to, where that is less than what was asked for.
    pub rate_limit: Option<f64>,
    /// Who turns the picture, if anybody does.
    pub turned_by: Option<&'static str>,
    /// True if text is drawn into the picture.
    pub overlay: bool,
    /// What of the configuration does not fit this camera.
    pub notes: Vec<String>,
}

impl Shared {
    /// Shared state of a program whose capture loop must come round four times within `watchdog`.
    pub fn new(config: &Config, watchdog: Option<Duration>) -> Self {
        Self {
            hub: Arc::default(),
            health: Health::default(),
            metrics: Metrics::default(),
            mailbox: Mailbox::default(),
            controls: Known::default(),
            settings: Mutex::new(Settings::of(config)),
            pipeline: Mutex::new(None),
            idle_round: watchdog.map_or(IDLE_ROUND, |interval| (interval / 4).min(IDLE_ROUND)),
        }
    }

    /// The opened camera and its encoder, if one is open.
    pub fn pipeline(&self) -> Option<Pipeline> {
        self.pipeline.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From one frame of the camera's to the next.
    pub fn frame_period(&self) -> Duration {
        let pipeline = self.pipeline.lock().unwrap_or_else(PoisonError::into_inner);
        pipeline.as_ref().map_or(Duration::ZERO, |pipeline| pipeline.camera.frame_rate.period())
    }

    fn set_pipeline(&self, pipeline: Option<Pipeline>) {
        *self.pipeline.lock().unwrap_or_else(PoisonError::into_inner) = pipeline;
    }

    fn change_pipeline(&self, change: impl FnOnce(&mut Pipeline)) {
        if let Some(pipeline) = &mut *self.pipeline.lock().unwrap_or_else(PoisonError::into_inner) {
            change(pipeline);
        }
    }
}

/// Starts the capture thread. It ends when the hub is closed.
///
/// `notes` are shown below the reason on placeholders: what is wrong with the configuration.
pub fn spawn(config: &Config, notes: Vec<String>, shared: Arc<Shared>) -> std::io::Result<std::thread::JoinHandle<()>> {
    let config = config.clone();
    std::thread::Builder::new().name("capture".to_owned()).spawn(move || Capture::new(&config, notes, &shared).run())
}

struct Capture<'a> {
    config: config::Camera,
    encoder_config: config::Encoder,
    overlay_config: config::Overlay,
    /// While no camera may be opened.
    hold: Option<Hold>,
    opener: Opener,
    shared: &'a Shared,
    pool: PartPool,
    placeholder: Placeholder,
    placeholder_due: Instant,
    /// Size of the camera's last picture: placeholders keep the layout of pages.
    size: Size,
    /// Failed attempts in a row.
    failures: usize,
    /// When a dropped frame was last told of.
    drop_told: Option<Instant>,
    opened_before: bool,
    /// What was last logged of an opened camera.
    description: String,
    hardware: HardwarePolicy,
    endless: Endless,
    /// While the software encoder stands in for the hardware's: what it can do.
    size_limit: Option<Size>,
    settings: Settings,
    /// Changes that the next opening tries.
    trial: Option<Trial>,
    /// Keeps such openings apart.
    pace: Pace,
    /// Controls set while the program runs.
    controls: Map<String, Json>,
}

/// An opened camera with its encoder. The encoder goes first: it may hold the camera's buffers.
struct Open {
    choice: SelectedEncoder,
    camera: Box<dyn Camera>,
    overlay: Option<Overlay>,
    /// For what neither camera nor encoder turns.
    turner: Option<(JpegTurner, Orientation)>,
    /// For the software encoder: keeps it from taking all of the processor.
    load: Option<Load>,
    /// When the last good frame came (or good ones could first be expected).
    last_good: Instant,
    /// Why frames since then were not good.
    last_error: Option<String>,
    /// In force when the controls were last looked at.
    exposure: Duration,
    errored_frames: u64,
    /// For a camera with a rate of its own: which frames to take.
    cadence: Option<Cadence>,
    odd: Oddities,
    /// Frames the camera delivered since it was opened.
    frames: u64,
    /// Pictures in a row that the encoder spoiled.
    damaged: u32,
    /// Times in a row that the encoder's descriptor was ready for nothing.
    storm: u32,
}

/// Why streaming ended.
enum End {
    /// The program ends.
    Closed,
    /// Something failed; it is tried again after a pause.
    Failed(State),
    /// To be opened anew at once, with other settings.
    Reopen,
    /// Nobody watches, and `camera.idle` is `stop`.
    Idle,
}

impl End {
    fn degraded(error: impl std::fmt::Display) -> Self {
        Self::Failed(State::Degraded(error.to_string().into()))
    }
}

impl<'a> Capture<'a> {
    fn new(config: &Config, notes: Vec<String>, shared: &'a Shared) -> Self {
        Self {
            hold: Hold::from_environment(),
            opener: Opener::new(config.camera.clone()),
            size: config.camera.resolution.size(),
            config: config.camera.clone(),
            encoder_config: config.encoder.clone(),
            overlay_config: config.overlay.clone(),
            shared,
            pool: PartPool::default(),
            placeholder: Placeholder::new(notes),
            placeholder_due: Instant::now(),
            failures: 0,
            drop_told: None,
            opened_before: false,
            description: String::new(),
            hardware: HardwarePolicy::default(),
            endless: Endless::default(),
            size_limit: None,
            settings: Settings::of(config),
            trial: None,
            pace: Pace::default(),
            controls: Map::new(),
        }
    }

    fn run(mut self) {
        while !self.shared.hub.is_closed() {
            self.shared.health.round();
            self.begin_trial();
            if let Some(settings) = self.trial.as_ref().map(|trial| trial.settings().clone()) {
                self.put_in_force(settings);
            }
            let opened = self.open();
            let end = match self.trial.take() {
                Some(trial) => self.end_attempt(trial, opened),
                None => self.stream_opened(opened),
            };
            // What camera and encoder had is not needed again, or in another size.
            memory::give_back();
            match end {
                End::Closed => break,
                End::Reopen => {}
                End::Idle => {
                    log::info!("nobody watches: the camera is stopped");
                    self.shared.change_pipeline(|pipeline| pipeline.running = false);
                    self.wait_idle();
                }
                End::Failed(state) => {
                    self.shared.set_pipeline(None);
                    self.shared.controls.forget();
                    self.fail(state);
                    self.back_off();
                }
            }
        }
        self.shared.hub.clear();
    }

    fn check_hold(&mut self) -> Result<(), String> {
        if let Some(hold) = &self.hold {
            if let Some(reason) = hold.reason() {
                return Err(reason.to_owned());
            }
            log::info!("the camera was left alone for long enough: it is tried again");
            self.hold = None;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<Open, String> {
        self.check_hold()?;
        let limit = self.size_limit.filter(|_| self.hardware.is_given_up(Instant::now()));
        let mut camera =
            self.opener.open(limit.unwrap_or(self.settings.resolution.size())).map_err(|error| error.to_string())?;
        let info = camera.info().clone();
        let orientation = if info.turns { Orientation::Rotate0 } else { self.settings.orientation };
        let choice =
            encoder::select(&self.encoder_config, &info, &self.picture_work(&*camera, orientation), &mut self.hardware)
                .map_err(|error| error.to_string())?;
        // Attempts that fail are not counted: what is told is how often the camera came back.
        if self.opened_before {
            self.shared.metrics.reopened.inc();
        }
        self.opened_before = true;

        let mut notes = self.start_controls(&mut *camera);
        if info.limited_range && !choice.is_software() {
            notes.push(
                "this camera's black is 16 and its white 235, which the hardware encoder passes on: pictures look pale; \
                 encoder.kind: software corrects it"
                    .to_owned(),
            );
        }
        let overlay = if info.pixel_format == PixelFormat::Mjpeg && !self.overlay_config.reencode.get() {
            if !self.overlay_config.text.is_empty() {
                notes.push(
                    "overlay.text is not drawn: this camera makes JPEG itself; overlay.reencode: true allows to decode \
                     and encode it again"
                        .to_owned(),
                );
            }
            None
        } else {
            Overlay::new(&self.overlay_config)
        };
        notes.extend(camera.notes());
        let turner = if orientation == Orientation::Rotate0 || choice.turns() {
            None
        } else {
            Some((JpegTurner::new(camera.bound()).map_err(|error| error.to_string())?, orientation))
        };
        let turned_by = match (self.settings.orientation, info.turns, &turner) {
            (Orientation::Rotate0, ..) => None,
            (_, true, _) => Some("camera"),
            (_, false, Some(_)) => Some("jpeg"),
            (_, false, None) => Some("encoder"),
        };
        let description = format!(
            "camera {} ({}): {} {} at {}, encoder {} ({})",
            info.id,
            info.model,
            info.size,
            info.pixel_format,
            info.frame_rate,
            choice.kind(),
            choice.reason
        );
        // A camera that stalls is opened again and again; that it is the same one is no news.
        if self.description != description {
            log::info!("{description}");
            for note in &notes {
                log::warn!("{note}");
            }
            self.description = description;
        }
        self.shared.set_pipeline(Some(Pipeline {
            camera: info,
            running: true,
            encoder: choice.kind(),
            encoder_reason: choice.reason.clone(),
            hardware: choice.hardware(),
            rate_limit: None,
            turned_by,
            overlay: overlay.is_some(),
            notes,
        }));
        let cadence = camera.info().frame_rate.thinned_to().map(Cadence::new);
        let exposure = camera.exposure();
        Ok(Open {
            load: self.load(&choice),
            odd: Oddities::new(camera.info().size),
            choice,
            camera,
            overlay,
            turner,
            last_good: Instant::now(),
            last_error: None,
            exposure,
            errored_frames: 0,
            cadence,
            frames: 0,
            damaged: 0,
            storm: 0,
        })
    }

    fn picture_work(&self, camera: &dyn Camera, orientation: Orientation) -> PictureWork {
        let reencode = !self.overlay_config.text.is_empty() && self.overlay_config.reencode.get();
        let endless = self.endless.of_period(camera.info().frame_rate.period());
        PictureWork { orientation, reencode, bound: camera.bound(), endless }
    }

    fn load(&self, choice: &SelectedEncoder) -> Option<Load> {
        choice.is_software().then(|| Load::new(self.encoder_config.software_load.get()))
    }

    /// Sets the controls of the configuration and those set since. What does not fit this camera comes back.
    fn start_controls(&self, camera: &mut dyn Camera) -> Vec<String> {
        let mut wanted = self.config.controls.0.clone();
        control::replace(&mut wanted, self.controls.clone());
        if wanted.is_empty() {
            return Vec::new();
        }
        let known = match camera.controls() {
            Ok(known) => known,
            Err(error) => return vec![format!("camera.controls: {error}")],
        };
        let mut notes = Vec::new();
        let mut values = Vec::new();
        for (name, value) in wanted {
            match control::check_all(&known, &Map::from_iter([(name, value)])) {
                Ok(checked) => values.extend(checked.into_iter().map(|(control, value)| (control.clone(), value))),
                Err(refusal) => notes.push(format!("camera.controls: {refusal}")),
            }
        }
        govern::leave_out_moot(&mut values);
        govern::order(&mut values);
        // One by one: a camera that refuses one takes the others.
        for value in values {
            if let Err(error) = camera.set_controls(&[value]) {
                notes.push(format!("camera.controls: {error}"));
            }
        }
        notes
    }

    fn stream_opened(&mut self, opened: Result<Open, String>) -> End {
        let mut open = match opened {
            Ok(open) => open,
            Err(reason) => return End::degraded(reason),
        };
        self.shared.controls.opened();
        let end = self.stream(&mut open);
        self.shared.controls.set_live(false);
        // Whoever asks for them before there is a camera again gets these.
        if matches!(end, End::Idle | End::Reopen) && self.shared.controls.get().is_none() {
            self.tell_controls(&mut open);
        }
        end
    }

    /// Frame after frame, until something ends it.
    fn stream(&mut self, open: &mut Open) -> End {
        let frame_rate = open.camera.info().frame_rate;
        let period = frame_rate.period();
        // Encoding so few costs nothing, and waiting for one is long.
        let is_slow = period >= SLOW_PERIOD && self.config.idle == config::Idle::SkipEncode;
        let idle_after = linger(&self.config, period);
        while !self.shared.hub.is_closed() {
            self.shared.health.round();
            if let Some(end) = self.obey(open) {
                return end;
            }
            if open.choice.is_fallback && self.hardware.is_due(Instant::now()) {
                log::info!("the hardware encoder is tried again");
                return End::Reopen;
            }
            let wanted = self.config.idle == config::Idle::Run || is_slow || self.shared.hub.is_wanted(idle_after);
            let at_rest = !wanted && !open.choice.is_busy();
            // Not before its first frame: a camera that was opened but delivers nothing is not well.
            if at_rest && self.config.idle == config::Idle::Stop && (open.frames > 0 || self.opener.is_synthetic()) {
                return End::Idle;
            }
            if at_rest && self.opener.is_synthetic() {
                self.enter_idle();
                self.pace.resume(Instant::now());
                // Whoever only reads controls does not wake it.
                self.shared.controls.set_live(false);
                self.shared.hub.wait_wanted(self.shared.idle_round);
                self.shared.controls.set_live(true);
                open.last_good = Instant::now();
                continue;
            }
            let buffer = match self.wait(open) {
                Ok(buffer) => buffer,
                Err(error) => return End::degraded(error),
            };
            if let Err(error) = self.collect(open, wanted)
                && let Some(end) = self.replace_encoder(open, &error)
            {
                return end;
            }
            if let Some(buffer) = buffer
                && let Some(end) = self.take_in(open, buffer, wanted)
            {
                return end;
            }
            if let Some(end) = self.limit_size(open) {
                return end;
            }
            if let Some(stall_timeout) = self.exceeded_silence(open) {
                let seconds = stall_timeout.as_secs_f32();
                let reason = match open.last_error.take() {
                    Some(error) => format!("the camera has sent no usable frame for {seconds} s: {error}"),
                    None => format!("the camera has sent no frame for {seconds} s"),
                };
                return End::Failed(State::Stalled(reason.into()));
            }
        }
        End::Closed
    }

    /// How long the camera was waited for in vain, if that was too long.
    fn exceeded_silence(&self, open: &Open) -> Option<Duration> {
        let silence = open.last_good.elapsed();
        // It is never less than configured: nearly always that is all there is to compare.
        let configured = Some(self.config.stall_timeout.get()).filter(|&configured| silence > configured)?;
        let stall_timeout = rate::stall_timeout(configured, open.camera.info().frame_rate, open.exposure);
        (silence > stall_timeout).then_some(stall_timeout)
    }

    /// Waits for the camera's next frame, the encoder's next JPEG, or the end of the round.
    fn wait(&mut self, open: &mut Open) -> Result<Option<BufferIndex>, CameraError> {
        let mut timeout = ROUND.min(self.shared.idle_round);
        let (fd, deadline) = match &open.choice.engine {
            Engine::Queued(encoder) => (encoder.wait_fd(), encoder.deadline()),
            Engine::Immediate(_) | Engine::Reencode(..) => (None, None),
        };
        if let Some(deadline) = deadline {
            timeout = timeout.min(deadline.saturating_duration_since(Instant::now()));
        }
        if open.storm > 3 {
            std::thread::sleep(STORM_PAUSE);
        }
        let buffer = open.camera.acquire(timeout, fd)?;
        let errored = open.camera.errored_frames();
        self.shared.metrics.dropped.inc_by(errored - open.errored_frames);
        open.errored_frames = errored;
        if buffer.is_some() {
            self.shared.metrics.captured.add(1);
            open.frames += 1;
            if open.frames == 1 {
                self.pace.resume(Instant::now());
            }
        }
        Ok(buffer)
    }

    /// Deals with a frame of the camera's: encodes it, or gives it back.
    fn take_in(&mut self, open: &mut Open, buffer: BufferIndex, wanted: bool) -> Option<End> {
        let now = Instant::now();
        let taken = open.cadence.as_mut().is_none_or(|cadence| cadence.take(now));
        let result = if !taken {
            Ok(false)
        } else if !wanted {
            // Only now: a camera that was opened but delivers nothing is not well.
            self.enter_idle();
            self.note_good(open);
            Ok(false)
        } else if open.load.as_mut().is_some_and(|load| !load.allows(now)) {
            // The camera is well all the same.
            open.last_good = now;
            Ok(false)
        } else {
            self.encode(open, buffer)
        };
        let is_held = matches!(result, Ok(true));
        if !is_held && let Err(error) = open.camera.queue(buffer) {
            return Some(End::degraded(error));
        }
        let error = result.err()?;
        if error.is_of_one_frame() {
            self.drop_frame(open, &error);
            return None;
        }
        self.shared.metrics.dropped.inc();
        self.replace_encoder(open, &error)
    }

    /// Has a frame encoded. True if the encoder holds the camera's buffer.
    fn encode(&mut self, open: &mut Open, buffer: BufferIndex) -> Result<bool, EncodeError> {
        if open.choice.is_full() {
            // Newer ones will come.
            self.shared.metrics.dropped.inc();
            return Ok(false);
        }
        let start = Instant::now();
        if open.overlay.is_some() && !open.choice.draws() {
            // Over before the encoder gets the buffer: it may read it past the processor's cache.
            open.camera.begin_cpu_access(buffer, true)?;
            draw(open, buffer);
            open.camera.end_cpu_access(buffer, true)?;
        }
        let reads = open.choice.reads_frames();
        if reads {
            open.camera.begin_cpu_access(buffer, false)?;
        }
        let result = self.encode_accessible(open, buffer);
        if reads {
            open.camera.end_cpu_access(buffer, false)?;
        }
        if let Some(load) = &mut open.load {
            load.note(start, start.elapsed());
        }
        if open.choice.reads_frames() != reads {
            // The kernel refused the camera's first dma-buf.
            open.choice.renew_reason();
            self.tell_encoder(&open.choice);
        }
        match result? {
            Outcome::Published => {
                self.note_good(open);
                self.tell_oddities(open);
                Ok(false)
            }
            Outcome::Submitted(Submitted::Queued { holds_buffer }) => Ok(holds_buffer),
            Outcome::Submitted(Submitted::Busy) => {
                self.shared.metrics.dropped.inc();
                Ok(false)
            }
        }
    }

    fn encode_accessible(&mut self, open: &mut Open, buffer: BufferIndex) -> Result<Outcome, EncodeError> {
        let settled = open.frames > u64::from(self.config.warm_up.get());
        let Open { choice, camera, overlay, turner, .. } = open;
        let raw = camera.view(buffer);
        let start = MonotonicTime::now();
        match &mut choice.engine {
            Engine::Immediate(encoder) => {
                let picture = encoder.encode(&raw)?;
                self.publish(&picture, turner, raw.captured_at, start, settled)?;
            }
            Engine::Reencode(encoder, orientation) => {
                encoder.decode(&raw)?;
                if let Some(overlay) = overlay {
                    overlay.draw(&mut encoder.planes_mut(), raw.captured_at.to_system_time());
                }
                let picture = encoder.encode(*orientation)?;
                self.publish(&picture, &mut None, raw.captured_at, start, settled)?;
            }
            Engine::Queued(encoder) => return Ok(Outcome::Submitted(encoder.submit(&raw, buffer)?)),
        }
        Ok(Outcome::Published)
    }

    /// Takes what the hardware encoder has finished: gives the camera its buffers back and publishes JPEGs.
    fn collect(&mut self, open: &mut Open, wanted: bool) -> Result<(), EncodeError> {
        let settled = open.frames > u64::from(self.config.warm_up.get());
        let mut got_something = false;
        loop {
            let Open { choice, camera, turner, .. } = &mut *open;
            let Engine::Queued(encoder) = &mut choice.engine else { return Ok(()) };
            if !encoder.is_busy() {
                // Nothing to be had, and no call for it.
                open.storm = 0;
                return Ok(());
            }
            let error = match encoder.collect()? {
                None => break,
                Some(Collected::Released(buffer)) => {
                    camera.queue(buffer)?;
                    got_something = true;
                    continue;
                }
                Some(Collected::Encoded { result, captured_at, submitted_at }) => {
                    got_something = true;
                    match result {
                        Ok(picture) if wanted => {
                            self.publish(&picture, turner, captured_at, submitted_at, settled).err()
                        }
                        // Nobody watches any more.
                        Ok(_) => None,
                        Err(error) => Some(error),
                    }
                }
            };
            match error {
                None => {
                    open.damaged = 0;
                    if let Engine::Queued(encoder) = &open.choice.engine {
                        self.hardware.encoded(encoder.encoded());
                    }
                    self.note_good(open);
                }
                Some(error) if error.is_of_one_frame() && open.damaged < DAMAGED_MAX => {
                    open.damaged += 1;
                    self.drop_frame(open, &error);
                }
                Some(error) => return Err(error),
            }
        }
        open.storm = if got_something { 0 } else { open.storm.saturating_add(1) };
        Ok(())
    }

    /// Hands one JPEG to the hub, turned if that is left to be done.
    fn publish(
        &mut self,
        picture: &Encoded<'_>,
        turner: &mut Option<(JpegTurner, Orientation)>,
        captured_at: MonotonicTime,
        start: MonotonicTime,
        settled: bool,
    ) -> Result<(), EncodeError> {
        let (mut frame, size) = match turner {
            None => (self.pool.assemble(&picture.pieces, picture.size, captured_at), picture.size),
            Some((turner, orientation)) => {
                let (jpeg, size) = turner.turn(&picture.pieces, *orientation)?;
                (self.pool.assemble(&[jpeg], size, captured_at), size)
            }
        };
        frame.settled = settled;
        self.size = size;
        let metrics = &self.shared.metrics;
        let done = MonotonicTime::now();
        metrics.encode_time.observe(done.since(start).as_secs_f64());
        metrics.publish_delay.observe(done.since(captured_at).as_secs_f64());
        metrics.encoded.add(1);
        self.shared.hub.publish(frame);
        if self.shared.health.set(State::Streaming) {
            log::info!("streaming {}", self.size);
        }
        Ok(())
    }

    fn note_good(&mut self, open: &mut Open) {
        open.last_good = Instant::now();
        open.last_error = None;
        self.failures = 0;
    }

    /// Puts what is odd about the camera's pictures into the status.
    fn tell_oddities(&self, open: &mut Open) {
        let Some(change) = open.choice.seen().and_then(|seen| open.odd.note(seen, Instant::now)) else { return };
        for note in change.now.iter().filter(|note| !change.before.contains(note)) {
            log::warn!("{note}");
        }
        self.shared.change_pipeline(|pipeline| {
            pipeline.notes.retain(|note| !change.before.contains(note));
            pipeline.notes.extend(change.now);
        });
    }

    fn drop_frame(&mut self, open: &mut Open, error: &EncodeError) {
        self.shared.metrics.dropped.inc();
        let error = error.to_string();
        // A camera with a loose cable must not fill the journal.
        if self.drop_told.is_none_or(|told| told.elapsed() > DROPS_TOLD_EVERY) {
            self.drop_told = Some(Instant::now());
            log::warn!("frame dropped: {error} (/metrics counts them; told at most once a minute)");
        }
        open.last_error = Some(error);
    }

    /// Closes an encoder that failed and takes another: the same once more, or the software encoder. `Some` where that
    /// cannot be.
    fn replace_encoder(&mut self, open: &mut Open, error: &EncodeError) -> Option<End> {
        let Engine::Queued(encoder) = &mut open.choice.engine else { return Some(End::degraded(error)) };
        if let EncodeError::Camera(error) = error {
            return Some(End::degraded(error));
        }
        log::warn!("hardware encoder: {error}");
        self.shared.metrics.encoder_failures.inc();
        let held = encoder.held_buffers();
        let usage = Usage { imports: !encoder.reads_frames(), encoded: encoder.encoded() };
        self.hardware.failed(error, usage, Instant::now());
        // Closing it stops its queues: the kernel lets go of all buffers.
        open.choice = SelectedEncoder::none();
        for buffer in held {
            if let Err(error) = open.camera.queue(buffer) {
                return Some(End::degraded(error));
            }
        }
        if self.encoder_config.kind == config::EncoderKind::V4l2M2m {
            return Some(End::degraded(error));
        }
        let info = open.camera.info().clone();
        let orientation = if info.turns { Orientation::Rotate0 } else { self.settings.orientation };
        // For raw frames, to which reencoding does not apply.
        let work = self.picture_work(&*open.camera, orientation);
        match encoder::select(&self.encoder_config, &info, &work, &mut self.hardware) {
            Ok(choice) => open.choice = choice,
            Err(error) => return Some(End::degraded(error)),
        }
        if open.choice.turns() {
            open.turner = None;
        }
        log::info!("encoder {} ({})", open.choice.kind(), open.choice.reason);
        open.load = self.load(&open.choice);
        (open.damaged, open.storm) = (0, 0);
        // The camera is not to blame for the pause.
        open.last_good = Instant::now();
        self.tell_encoder(&open.choice);
        None
    }

    /// Puts another encoder, or another way of it, into the status.
    fn tell_encoder(&self, choice: &SelectedEncoder) {
        self.shared.change_pipeline(|pipeline| {
            pipeline.encoder = choice.kind();
            pipeline.encoder_reason.clone_from(&choice.reason);
            pipeline.hardware = choice.hardware();
            pipeline.rate_limit = None;
            if choice.turns() && pipeline.turned_by == Some("jpeg") {
                pipeline.turned_by = Some("encoder");
            }
        });
    }

    /// Tells of the software encoder's limit, and where it stands in for the hardware and is too slow, asks the camera for
    /// smaller pictures.
    fn limit_size(&mut self, open: &mut Open) -> Option<End> {
        let possible = open.load.as_mut()?.new_limit()?;
        let asked = self.settings.frame_rate.get();
        self.shared.change_pipeline(|pipeline| pipeline.rate_limit = (possible < asked).then_some(possible));
        let least = self.encoder_config.software_frame_rate.get().min(asked);
        if possible >= least || !open.choice.is_fallback {
            return None;
        }
        let size = open.camera.info().size;
        let smaller = Load::smaller(size, least / possible)?;
        if self.size_limit.is_some_and(|limit| limit == smaller || size.width > limit.width) {
            // The camera did not follow the last time.
            return None;
        }
        log::info!("the software encoder makes {possible:.1} of {least} fps at {size}: {smaller} from now on");
        self.size_limit = Some(smaller);
        Some(End::Reopen)
    }

    /// Does what was asked for meanwhile. `Some` where the camera must be opened anew for it.
    fn obey(&mut self, open: &mut Open) -> Option<End> {
        if self.shared.mailbox.is_empty() {
            return None;
        }
        let start = Instant::now();
        while let Some(asked) = self.shared.mailbox.next_controls() {
            self.change_controls(open, asked);
            if start.elapsed() > CONTROLS_BUDGET {
                break;
            }
        }
        if self.shared.mailbox.take_read_controls() {
            self.tell_controls(open);
        }
        self.begin_trial();
        // What does not need another opening is settled at once.
        while let Some(trial) = self.trial.take() {
            let settings = trial.settings().clone();
            if !settings.only_quality_differs(&self.settings) {
                self.size_limit = None;
                self.trial = Some(trial);
                return Some(End::Reopen);
            }
            let result = open.choice.set_quality(settings.quality.get()).map_err(|error| error.to_string());
            self.put_in_force(settings);
            match trial.verdict(result) {
                Verdict::Settled(again, answers) => self.settle(again, answers),
                Verdict::Try(trial) => self.trial = Some(trial),
                Verdict::NoCamera(trial, answers) => {
                    self.wait_for_camera(trial, answers);
                    return Some(End::Reopen);
                }
            }
        }
        None
    }

    /// While there is no camera: controls have none to ask, settings wait for it.
    fn obey_without_camera(&mut self) {
        let mailbox = &self.shared.mailbox;
        if mailbox.is_empty() {
            return;
        }
        while let Some((_, answer)) = mailbox.next_controls() {
            let (state, _) = self.shared.health.state();
            let reason = state.reason().map_or("the camera is not running", |reason| reason);
            drop(answer.send(Err(ChangeError::NoCamera(reason.to_owned()))));
        }
        mailbox.take_read_controls();
        let asked = mailbox.take_changes();
        if asked.is_empty() {
            return;
        }
        let (trial, answers) = match self.trial.take() {
            Some(mut trial) => {
                let answers = trial.add(asked);
                (trial, answers)
            }
            None => Trial::without_camera(self.settings.clone(), asked),
        };
        self.wait_for_camera(trial, answers);
    }

    /// These changes are in force as far as one can tell without a camera.
    fn wait_for_camera(&mut self, trial: Trial, answers: Answers) {
        self.put_in_force(trial.settings().clone());
        self.tell_settings();
        self.trial = Some(trial);
        // It is not for them that there are no pictures.
        self.pace = Pace::default();
        answers.send();
    }

    /// Takes up the changes that wait, if viewers may be interrupted for them.
    fn begin_trial(&mut self) {
        if self.trial.is_some() {
            return;
        }
        let Some(wanted) = self.shared.mailbox.merged(&self.settings) else { return };
        let now = Instant::now();
        if !wanted.only_quality_differs(&self.settings) && !self.pace.is_due(now) {
            return;
        }
        // Some may have gone meanwhile: what was taken counts.
        let asked = self.shared.mailbox.take_changes();
        if asked.is_empty() {
            return;
        }
        let trial = Trial::new(self.settings.clone(), asked);
        if !trial.settings().only_quality_differs(&self.settings) {
            self.pace.interrupt(now);
        }
        self.trial = Some(trial);
    }

    /// What follows from an attempt to open the camera with changed settings.
    fn end_attempt(&mut self, trial: Trial, opened: Result<Open, String>) -> End {
        let result = opened.as_ref().map(|_| ()).map_err(Clone::clone);
        match trial.verdict(result) {
            Verdict::Settled(again, answers) => {
                self.settle(again, answers);
                self.stream_opened(opened)
            }
            Verdict::Try(trial) => {
                self.pace.interrupt(Instant::now());
                self.trial = Some(trial);
                End::Reopen
            }
            Verdict::NoCamera(trial, answers) => {
                self.wait_for_camera(trial, answers);
                opened.map_or_else(End::degraded, |_| End::Reopen)
            }
        }
    }

    /// The settings stay as they are now; these changes are still to be made.
    fn settle(&self, again: Vec<Asked>, answers: Answers) {
        self.shared.mailbox.put_back(again);
        self.tell_settings();
        answers.send();
    }

    fn tell_settings(&self) {
        self.shared.settings.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.settings);
    }

    fn change_controls(&mut self, open: &mut Open, (change, answer): ControlsAsked) {
        let (values, is_reset) = match change {
            ControlChange::Set(values) => (values, false),
            ControlChange::Reset => (self.controls_at_start(), true),
        };
        let result = set_controls(open, &values, is_reset).map(Arc::new);
        if is_reset {
            self.controls.clear();
        }
        if let Ok(controls) = &result {
            self.shared.controls.tell(Arc::clone(controls));
            if !is_reset {
                control::replace(&mut self.controls, values);
            }
        }
        drop(answer.send(result));
    }

    /// What was set since, as it was before.
    fn controls_at_start(&self) -> Map<String, Json> {
        let configured = |name: &str| {
            let mut configured = self.config.controls.0.iter();
            configured
                .find(|(other, _)| control::is_same_name(other, name))
                .map_or(Json::Null, |(_, value)| value.clone())
        };
        self.controls.keys().map(|name| (name.clone(), configured(name))).collect()
    }

    fn tell_controls(&self, open: &mut Open) {
        match open.camera.controls() {
            Ok(controls) => {
                open.exposure = rate::exposure(&controls);
                self.shared.controls.tell(Arc::new(controls));
            }
            Err(error) => {
                log::debug!("controls: {error}");
                self.shared.controls.forget();
            }
        }
    }

    fn put_in_force(&mut self, settings: Settings) {
        self.config.resolution = settings.resolution;
        self.config.frame_rate = settings.frame_rate;
        self.config.orientation = settings.orientation;
        self.encoder_config.quality = settings.quality;
        self.opener.reconfigure(self.config.clone());
        self.settings = settings;
    }

    fn enter_idle(&mut self) {
        if self.shared.health.set(State::Idle) {
            self.shared.hub.clear();
            log::debug!("nobody watches: encoding pauses");
        }
    }

    /// Waits, with the camera closed, until somebody watches.
    fn wait_idle(&mut self) {
        self.enter_idle();
        self.pace.resume(Instant::now());
        // Whoever asks for a change wants frames as well: it is kept for the camera.
        while !self.shared.hub.is_closed() && !self.shared.hub.is_wanted_now() {
            self.shared.health.round();
            self.shared.hub.wait_wanted(self.shared.idle_round);
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
            self.obey_without_camera();
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

/// How long frames are wanted after the last viewer has left. Programs give up before a slow camera's first picture and ask
/// again some seconds later: a camera that stopped meanwhile would never show them one.
fn linger(config: &config::Camera, period: Duration) -> Duration {
    let idle_after = config.idle_after.get();
    let is_slow = period >= SLOW_PERIOD && config.idle == config::Idle::Stop;
    if is_slow { idle_after.max(2 * period) } else { idle_after }
}

/// What became of a frame given to an encoder.
enum Outcome {
    /// Its JPEG is with the hub.
    Published,
    /// The hardware encoder was given it.
    Submitted(Submitted),
}

/// Draws the text onto a raw frame, where it lies.
fn draw(open: &mut Open, buffer: BufferIndex) {
    let captured_at = open.camera.view(buffer).captured_at;
    if let (Some(overlay), Some(mut frame)) = (&mut open.overlay, open.camera.view_mut(buffer)) {
        overlay.draw(&mut frame, captured_at.to_system_time());
    }
}

fn controls_of(open: &mut Open) -> Result<Vec<Control>, ChangeError> {
    open.camera.controls().map_err(|error| ChangeError::Failed(error.to_string()))
}

fn refused(error: CameraError) -> ChangeError {
    let reason = error.to_string();
    match error {
        CameraError::Control(refused) => ChangeError::Refused(Box::new(Refusal {
            control: refused.name,
            value: refused.value.to_json(),
            reason,
            min: None,
            max: None,
        })),
        _ => ChangeError::Failed(reason),
    }
}

/// Sets controls by name, all or none, and tells how they all are then.
fn set_controls(open: &mut Open, values: &Map<String, Json>, is_reset: bool) -> Result<Vec<Control>, ChangeError> {
    let known = controls_of(open)?;
    let mut checked: Vec<_> =
        control::check_all(&known, values)?.into_iter().map(|(control, value)| (control.clone(), value)).collect();
    govern::order(&mut checked);
    let mut result = open.camera.set_controls(&checked);
    if result.is_err() && is_reset {
        // What is automatic again need not have its number back.
        govern::leave_out_moot(&mut checked);
        result = open.camera.set_controls(&checked);
    }
    result.map_err(refused)?;
    let controls = controls_of(open)?;
    open.exposure = rate::exposure(&controls);
    Ok(controls)
}
