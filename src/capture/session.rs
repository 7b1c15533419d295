//! One opened camera with its encoder, from the first frame to whatever ends it.

use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json};

use super::encoding::{Encoding, Fate, Harvest, History, Shortfall};
use super::outlet::Outlet;
use super::wanted::Wanted;
use crate::board::Pipeline;
use crate::board::settings::ChangeError;
use crate::cadence::Cadence;
use crate::camera::control::{self, Control, Refusal};
use crate::camera::{BufferIndex, Camera, CameraError, Cause, Opener, govern, rate};
use crate::encoder::EncodeError;
use crate::frame::Size;

/// Why there is no session, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No camera may be opened now.
    #[error("{0}")]
    Held(String),
    /// The camera failed.
    #[error(transparent)]
    Camera(#[from] CameraError),
    /// The encoder failed, and there is no other.
    #[error(transparent)]
    Encoder(#[from] EncodeError),
    /// Frames ceased to come.
    #[error("the camera has sent no frame for {} s", silence.as_secs_f32())]
    Silent {
        /// How long it was waited for.
        silence: Duration,
    },
    /// None of the frames that came was good.
    #[error("the camera has sent no usable frame for {} s: {last_error}", silence.as_secs_f32())]
    Unusable {
        /// How long it was waited for.
        silence: Duration,
        /// What was wrong with the last one.
        last_error: String,
    },
}

impl SessionError {
    /// The cause, for programs.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Held(_) => Cause::LeftAlone,
            Self::Camera(error) => error.cause(),
            Self::Encoder(error) => error.cause(),
            Self::Silent { .. } => Cause::Stalled,
            Self::Unusable { .. } => Cause::Damaged,
        }
    }
}

/// What one step led to.
#[derive(Debug)]
pub enum Outcome {
    /// On with the next step.
    Goes {
        /// A good picture came since the last one.
        is_good: bool,
    },
    /// The software encoder, which stands in, is too slow for pictures of this size.
    TooLarge(Shortfall),
}

/// What a session works with, and what outlives it.
#[derive(Debug)]
pub struct Surroundings<'s, 'a> {
    /// What is wanted now.
    pub wanted: &'s Wanted,
    /// What is remembered of encoders.
    pub history: &'s mut History,
    /// Where pictures go.
    pub outlet: &'s mut Outlet<'a>,
}

/// See the module's text. The encoder goes first: it may hold the camera's buffers.
pub struct Session {
    encoding: Encoding,
    camera: Box<dyn Camera>,
    /// When the last good frame came (or good ones could first be expected).
    last_good: Instant,
    /// Why frames since then were not good.
    last_error: Option<String>,
    is_good: bool,
    /// In force when the controls were last looked at.
    exposure: Duration,
    errored_frames: u64,
    /// For a camera with a rate of its own: which frames to take.
    cadence: Option<Cadence>,
    /// Frames the camera delivered since it was opened.
    frames: u64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("camera", self.camera.info()).finish_non_exhaustive()
    }
}

impl Session {
    /// Opens the camera, selects an encoder and sets the controls; with what the status tells of them.
    ///
    /// # Errors
    /// [`SessionError::Camera`] or [`SessionError::Encoder`].
    pub fn open(opener: &Opener, wanted: &Wanted, history: &mut History) -> Result<(Self, Pipeline), SessionError> {
        let mut camera = opener.open(wanted.size(history.hardware.is_given_up(Instant::now())))?;
        let encoding = Encoding::new(&*camera, wanted, history)?;
        let info = camera.info().clone();
        let mut notes = start_controls(&mut *camera, wanted.controls());
        notes.extend(encoding.notes(&info, wanted));
        notes.extend(camera.notes());
        // Asked first: some cameras take long to answer, which is no silence of theirs.
        let exposure = camera.exposure();
        let session = Self {
            last_good: Instant::now(),
            last_error: None,
            is_good: false,
            exposure,
            errored_frames: 0,
            cadence: info.frame_rate.thinned_to().map(Cadence::new),
            frames: 0,
            encoding,
            camera,
        };
        let pipeline = session.encoding.pipeline(info, wanted, notes);
        Ok((session, pipeline))
    }

    /// Camera and encoder in words.
    pub fn describe(&self) -> String {
        let info = self.camera.info();
        format!(
            "camera {} ({}): {} {} at {}, {}",
            info.id,
            info.model,
            info.size,
            info.pixel_format,
            info.frame_rate,
            self.encoding.describe()
        )
    }

    /// From one frame to the next.
    pub fn period(&self) -> Duration {
        self.camera.info().frame_rate.period()
    }

    /// Picture size the camera delivers.
    pub fn size(&self) -> Size {
        self.camera.info().size
    }

    /// Frames the camera has delivered since it was opened.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// True while the encoder works on a frame.
    pub fn is_busy(&self) -> bool {
        self.encoding.is_busy()
    }

    /// True if the encoder stands in for a hardware encoder that failed.
    pub fn is_fallback(&self) -> bool {
        self.encoding.is_fallback()
    }

    /// The camera was not asked for frames meanwhile: it has not stalled.
    pub fn excuse_silence(&mut self) {
        self.last_good = Instant::now();
    }

    /// Waits for a frame or a JPEG, up to `timeout`, and passes on what came; without encoding unless `is_wanted`.
    ///
    /// # Errors
    /// The camera must be opened anew.
    pub fn step(
        &mut self,
        timeout: Duration,
        is_wanted: bool,
        around: &mut Surroundings<'_, '_>,
    ) -> Result<Outcome, SessionError> {
        let buffer = self.wait(timeout, around.outlet)?;
        let is_settled = self.frames > u64::from(around.wanted.camera().warm_up.get());
        let hardware = &mut around.history.hardware;
        match self.encoding.collect(&mut *self.camera, is_wanted, is_settled, hardware, around.outlet) {
            Ok(Harvest { is_good, error }) => {
                if is_good {
                    self.mark_healthy();
                }
                self.last_error = error.or(self.last_error.take());
            }
            Err(error) => self.replace_encoder(error, around)?,
        }
        if let Some(buffer) = buffer {
            self.take_in(buffer, is_wanted, is_settled, around)?;
        }
        if let Some(shortfall) = self.encoding.shortfall(self.size(), around.wanted, around.outlet.board()) {
            return Ok(Outcome::TooLarge(shortfall));
        }
        if let Some(silence) = self.exceeded_silence(around.wanted) {
            return Err(match self.last_error.take() {
                Some(last_error) => SessionError::Unusable { silence, last_error },
                None => SessionError::Silent { silence },
            });
        }
        Ok(Outcome::Goes { is_good: std::mem::take(&mut self.is_good) })
    }

    fn wait(&mut self, timeout: Duration, outlet: &Outlet<'_>) -> Result<Option<BufferIndex>, CameraError> {
        let metrics = &outlet.board().metrics;
        let buffer = self.encoding.wait(&mut *self.camera, timeout)?;
        let errored = self.camera.errored_frames();
        metrics.dropped.inc_by(errored - self.errored_frames);
        self.errored_frames = errored;
        if buffer.is_some() {
            metrics.captured.add(1);
            self.frames += 1;
        }
        Ok(buffer)
    }

    /// Deals with a frame of the camera's: encodes it, or gives it back.
    fn take_in(
        &mut self,
        buffer: BufferIndex,
        is_wanted: bool,
        is_settled: bool,
        around: &mut Surroundings<'_, '_>,
    ) -> Result<(), SessionError> {
        let now = Instant::now();
        let is_taken = self.cadence.as_mut().is_none_or(|cadence| cadence.take(now));
        let fate = if is_taken && is_wanted {
            self.encoding.encode(&mut *self.camera, buffer, now, is_settled, around.outlet)
        } else {
            if is_taken {
                // Only now: a camera that was opened but delivers nothing is not well.
                around.outlet.rest();
                self.mark_healthy();
            }
            Ok(Fate::NoRoom)
        };
        if !matches!(fate, Ok(Fate::Submitted { holds_buffer: true })) {
            self.camera.queue(buffer)?;
        }
        match fate {
            Ok(Fate::Published) => self.mark_healthy(),
            // The camera is well all the same.
            Ok(Fate::NoTime) => self.last_good = now,
            Ok(Fate::Submitted { .. } | Fate::NoRoom) => {}
            Err(error) if error.is_of_one_frame() => {
                around.outlet.drop_frame(&error);
                self.last_error = Some(error.to_string());
            }
            Err(error) => {
                around.outlet.board().metrics.dropped.inc();
                self.replace_encoder(error, around)?;
            }
        }
        Ok(())
    }

    fn replace_encoder(&mut self, error: EncodeError, around: &mut Surroundings<'_, '_>) -> Result<(), SessionError> {
        let board = around.outlet.board();
        self.encoding.replace(error, &mut *self.camera, around.wanted, around.history, board)?;
        // The camera is not to blame for the pause.
        self.last_good = Instant::now();
        Ok(())
    }

    fn mark_healthy(&mut self) {
        self.last_good = Instant::now();
        self.last_error = None;
        self.is_good = true;
    }

    /// How long the camera was waited for in vain, if that was too long.
    fn exceeded_silence(&self, wanted: &Wanted) -> Option<Duration> {
        let silence = self.last_good.elapsed();
        // It is never less than configured: nearly always that is all there is to compare.
        let configured = Some(wanted.camera().stall_timeout.get()).filter(|&configured| silence > configured)?;
        let stall_timeout = rate::stall_timeout(configured, self.camera.info().frame_rate, self.exposure);
        (silence > stall_timeout).then_some(stall_timeout)
    }

    /// Sets the JPEG quality from the next frame on.
    ///
    /// # Errors
    /// The encoder refused it.
    pub fn set_quality(&mut self, quality: u32) -> Result<(), EncodeError> {
        self.encoding.set_quality(quality)
    }

    /// The camera's controls with the values in force.
    ///
    /// # Errors
    /// The camera did not tell.
    pub fn controls(&mut self) -> Result<Vec<Control>, CameraError> {
        let controls = self.camera.controls()?;
        self.exposure = rate::exposure(&controls);
        Ok(controls)
    }

    /// Sets controls by name, all or none, and tells how they all are then. `is_reset` says that they are to be as they were at
    /// the start.
    ///
    /// # Errors
    /// A value that is not right, or that the camera refused.
    pub fn set_controls(&mut self, values: &Map<String, Json>, is_reset: bool) -> Result<Vec<Control>, ChangeError> {
        let known = self.controls().map_err(refused)?;
        let mut checked: Vec<_> =
            control::check_all(&known, values)?.into_iter().map(|(control, value)| (control.clone(), value)).collect();
        govern::order(&mut checked);
        let mut result = self.camera.set_controls(&checked);
        if result.is_err() && is_reset {
            // What is automatic again need not have its number back.
            govern::leave_out_moot(&mut checked);
            result = self.camera.set_controls(&checked);
        }
        result.map_err(refused)?;
        self.controls().map_err(refused)
    }
}

/// Sets the controls to begin with. What does not fit this camera comes back.
fn start_controls(camera: &mut dyn Camera, wanted: Map<String, Json>) -> Vec<String> {
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
