//! Encoding one camera's frames: the encoder that was selected for it, what is drawn and turned before or after it, and another
//! encoder in its place where it fails.

use std::time::{Duration, Instant};

use super::oddities::Oddities;
use super::outlet::{Outlet, Times};
use super::wanted::Wanted;
use crate::board::{Board, Pipeline};
use crate::camera::{BufferIndex, Camera, CameraInfo};
use crate::config::{self, Orientation};
use crate::encoder::load::Load;
use crate::encoder::turn::JpegTurner;
use crate::encoder::v4l2_m2m::{self, Submitted};
use crate::encoder::{self, EncodeError, Endless, Engine, HardwarePolicy, PictureWork, SelectedEncoder, Usage};
use crate::frame::{MonotonicTime, PixelFormat, Size};
use crate::overlay::Overlay;

/// A hardware encoder that gives this many damaged pictures in a row has failed.
const DAMAGED_MAX: u32 = 5;
/// A descriptor that is ready again and again with nothing to be had for it is looked at this seldom.
const STORM_PAUSE: Duration = Duration::from_millis(1);
/// So many times in a row are a storm.
const STORM_MIN: u32 = 3;

/// What is remembered of encoders from one session to the next.
#[derive(Debug, Default)]
pub struct History {
    /// Whether the hardware's is worth a try.
    pub hardware: HardwarePolicy,
    /// Whether the camera leaves the end of its JPEGs out.
    pub endless: Endless,
}

/// See the module's text.
#[derive(Debug)]
pub struct Encoding {
    selected: SelectedEncoder,
    overlay: Option<Overlay>,
    /// For what neither camera nor encoder turns.
    turner: Option<(JpegTurner, Orientation)>,
    /// For the software encoder: keeps it from taking all of the processor.
    load: Option<Load>,
    odd: Oddities,
    /// Pictures in a row that the encoder spoiled.
    damaged: u32,
    /// Times in a row that the encoder's descriptor was ready for nothing.
    storm: u32,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its JPEG is with the hub.
    Published,
    /// The hardware encoder has it, and holds the camera's buffer where `holds_buffer`.
    Submitted {
        /// See above.
        holds_buffer: bool,
    },
    /// Not taken: the processor has no time for it.
    NoTime,
    /// Not taken: the encoder has as many as it should.
    NoRoom,
}

/// What collecting from the hardware encoder brought.
#[derive(Debug, Default)]
pub struct Harvest {
    /// A good picture came.
    pub is_good: bool,
    /// Why the last one was not.
    pub error: Option<String>,
}

/// How much too slow the software encoder is.
#[derive(Clone, Copy, Debug)]
pub struct Shortfall {
    /// Frames per second that it could do.
    pub possible: f64,
    /// Those that are wanted at least.
    pub least: f64,
    /// The size at which it could do them.
    pub smaller: Size,
}

impl Encoding {
    /// Selects the encoder for an opened camera.
    ///
    /// # Errors
    /// What was configured cannot take the camera's frames, or is not there.
    pub fn new(camera: &dyn Camera, wanted: &Wanted, history: &mut History) -> Result<Self, EncodeError> {
        let info = camera.info();
        let orientation = wanted.orientation_left(info);
        let selected = encoder::select(
            wanted.encoder(),
            info,
            &picture_work(camera, wanted, &history.endless),
            &mut history.hardware,
        )?;
        let turner = if orientation == Orientation::Rotate0 || selected.turns() {
            None
        } else {
            Some((JpegTurner::new(camera.bound())?, orientation))
        };
        Ok(Self {
            load: load(&selected, wanted),
            odd: Oddities::new(info.size),
            overlay: if leaves_overlay_out(info, wanted) { None } else { Overlay::new(wanted.overlay()) },
            selected,
            turner,
            damaged: 0,
            storm: 0,
        })
    }

    /// What of the configuration does not fit this camera and encoder.
    pub fn notes(&self, info: &CameraInfo, wanted: &Wanted) -> Vec<String> {
        let mut notes = Vec::new();
        if info.limited_range && !self.selected.is_software() {
            notes.push(
                "this camera's black is 16 and its white 235, which the hardware encoder passes on: pictures look pale; \
                 encoder.kind: software corrects it"
                    .to_owned(),
            );
        }
        if leaves_overlay_out(info, wanted) && !wanted.overlay().text.is_empty() {
            notes.push(
                "overlay.text is not drawn: this camera makes JPEG itself; overlay.reencode: true allows to decode and \
                 encode it again"
                    .to_owned(),
            );
        }
        notes
    }

    /// What the status tells of it and the camera.
    pub fn pipeline(&self, camera: CameraInfo, wanted: &Wanted, notes: Vec<String>) -> Pipeline {
        let turned_by = match (wanted.settings().orientation, camera.turns, &self.turner) {
            (Orientation::Rotate0, ..) => None,
            (_, true, _) => Some("camera"),
            (_, false, Some(_)) => Some("jpeg"),
            (_, false, None) => Some("encoder"),
        };
        Pipeline {
            camera,
            running: true,
            encoder: self.selected.kind(),
            encoder_reason: self.selected.reason.clone(),
            hardware: self.selected.hardware(),
            rate_limit: None,
            turned_by,
            overlay: self.overlay.is_some(),
            notes,
        }
    }

    /// The encoder's name and why it was selected.
    pub fn describe(&self) -> String {
        format!("encoder {} ({})", self.selected.kind(), self.selected.reason)
    }

    /// True while frames are on their way through it.
    pub fn is_busy(&self) -> bool {
        self.selected.is_busy()
    }

    /// True if it stands in for a hardware encoder that failed.
    pub fn is_fallback(&self) -> bool {
        self.selected.is_fallback
    }

    /// Sets the JPEG quality from the next frame on.
    ///
    /// # Errors
    /// The encoder refused it.
    pub fn set_quality(&mut self, quality: u32) -> Result<(), EncodeError> {
        self.selected.set_quality(quality)
    }

    /// Waits for the camera's next frame, the encoder's next JPEG, or up to `timeout`.
    ///
    /// # Errors
    /// The camera failed.
    pub fn wait(
        &self,
        camera: &mut dyn Camera,
        mut timeout: Duration,
    ) -> Result<Option<BufferIndex>, crate::camera::CameraError> {
        let (fd, deadline) = match &self.selected.engine {
            Engine::Queued(encoder) => (encoder.wait_fd(), encoder.deadline()),
            Engine::Immediate(_) | Engine::Reencode(..) => (None, None),
        };
        if let Some(deadline) = deadline {
            timeout = timeout.min(deadline.saturating_duration_since(Instant::now()));
        }
        if self.storm > STORM_MIN {
            std::thread::sleep(STORM_PAUSE);
        }
        camera.acquire(timeout, fd)
    }

    /// Has a frame encoded.
    ///
    /// # Errors
    /// Of this frame alone ([`EncodeError::is_of_one_frame`]), or of the encoder.
    pub fn encode(
        &mut self,
        camera: &mut dyn Camera,
        buffer: BufferIndex,
        now: Instant,
        is_settled: bool,
        outlet: &mut Outlet<'_>,
    ) -> Result<Fate, EncodeError> {
        if self.load.as_mut().is_some_and(|load| !load.allows(now)) {
            return Ok(Fate::NoTime);
        }
        if self.selected.is_full() {
            // Newer ones will come.
            outlet.board().metrics.dropped.inc();
            return Ok(Fate::NoRoom);
        }
        let start = Instant::now();
        if self.overlay.is_some() && !self.selected.draws() {
            // Over before the encoder gets the buffer: it may read it past the processor's cache.
            camera.begin_cpu_access(buffer, true)?;
            self.draw(camera, buffer);
            camera.end_cpu_access(buffer, true)?;
        }
        let reads = self.selected.reads_frames();
        if reads {
            camera.begin_cpu_access(buffer, false)?;
        }
        let fate = self.encode_accessible(camera, buffer, is_settled, outlet);
        if reads {
            camera.end_cpu_access(buffer, false)?;
        }
        if let Some(load) = &mut self.load {
            load.note(start, start.elapsed());
        }
        if self.selected.reads_frames() != reads {
            // The kernel refused the camera's first dma-buf.
            self.selected.renew_reason();
            self.tell(outlet.board());
        }
        match fate? {
            Fate::Published => {
                self.tell_oddities(outlet.board());
                Ok(Fate::Published)
            }
            fate => Ok(fate),
        }
    }

    fn encode_accessible(
        &mut self,
        camera: &dyn Camera,
        buffer: BufferIndex,
        is_settled: bool,
        outlet: &mut Outlet<'_>,
    ) -> Result<Fate, EncodeError> {
        let raw = camera.view(buffer);
        let times = Times { captured_at: raw.captured_at, encoding_began: MonotonicTime::now() };
        match &mut self.selected.engine {
            Engine::Immediate(encoder) => {
                let picture = encoder.encode(&raw)?;
                outlet.publish(
                    &picture,
                    self.turner.as_mut().map(|(turner, orientation)| (turner, *orientation)),
                    times,
                    is_settled,
                )?;
            }
            Engine::Reencode(encoder, orientation) => {
                encoder.decode(&raw)?;
                if let Some(overlay) = &mut self.overlay {
                    overlay.draw(&mut encoder.planes_mut(), raw.captured_at.to_system_time());
                }
                let picture = encoder.encode(*orientation)?;
                outlet.publish(&picture, None, times, is_settled)?;
            }
            Engine::Queued(encoder) => {
                return Ok(match encoder.submit(&raw, buffer)? {
                    Submitted::Queued { holds_buffer } => Fate::Submitted { holds_buffer },
                    Submitted::Busy => {
                        outlet.board().metrics.dropped.inc();
                        Fate::NoRoom
                    }
                });
            }
        }
        Ok(Fate::Published)
    }

    /// Draws the text onto a raw frame, where it lies.
    fn draw(&mut self, camera: &mut dyn Camera, buffer: BufferIndex) {
        let captured_at = camera.view(buffer).captured_at;
        if let (Some(overlay), Some(mut frame)) = (&mut self.overlay, camera.view_mut(buffer)) {
            overlay.draw(&mut frame, captured_at.to_system_time());
        }
    }

    /// Takes what the hardware encoder has finished: gives the camera its buffers back and, where they are wanted, publishes
    /// JPEGs.
    ///
    /// # Errors
    /// The encoder or the camera failed.
    pub fn collect(
        &mut self,
        camera: &mut dyn Camera,
        is_wanted: bool,
        is_settled: bool,
        hardware: &mut HardwarePolicy,
        outlet: &mut Outlet<'_>,
    ) -> Result<Harvest, EncodeError> {
        let mut harvest = Harvest::default();
        let mut got_something = false;
        loop {
            let Engine::Queued(encoder) = &mut self.selected.engine else { return Ok(harvest) };
            if !encoder.is_busy() {
                // Nothing to be had, and no call for it.
                self.storm = 0;
                return Ok(harvest);
            }
            let Some(finished) = encoder.collect()? else { break };
            got_something = true;
            let result = match finished {
                v4l2_m2m::Collected::Released(buffer) => {
                    camera.queue(buffer)?;
                    continue;
                }
                v4l2_m2m::Collected::Encoded { result: Ok(picture), captured_at, submitted_at } if is_wanted => {
                    let times = Times { captured_at, encoding_began: submitted_at };
                    outlet.publish(
                        &picture,
                        self.turner.as_mut().map(|(turner, orientation)| (turner, *orientation)),
                        times,
                        is_settled,
                    )
                }
                // Nobody watches any more.
                v4l2_m2m::Collected::Encoded { result, .. } => result.map(|_| ()),
            };
            match result {
                Ok(()) => {
                    self.damaged = 0;
                    hardware.encoded(encoder.encoded());
                    harvest = Harvest { is_good: true, error: None };
                }
                Err(error) if error.is_of_one_frame() && self.damaged < DAMAGED_MAX => {
                    self.damaged += 1;
                    outlet.drop_frame(&error);
                    harvest.error = Some(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        self.storm = if got_something { 0 } else { self.storm.saturating_add(1) };
        Ok(harvest)
    }

    /// Closes an encoder that failed and takes another: the same once more, or the software encoder.
    ///
    /// # Errors
    /// There is no other one, or the camera failed: it must be opened anew.
    pub fn replace(
        &mut self,
        error: EncodeError,
        camera: &mut dyn Camera,
        wanted: &Wanted,
        history: &mut History,
        board: &Board,
    ) -> Result<(), EncodeError> {
        let Engine::Queued(encoder) = &mut self.selected.engine else { return Err(error) };
        if matches!(error, EncodeError::Camera(_)) {
            return Err(error);
        }
        log::warn!("hardware encoder: {error}");
        board.metrics.encoder_failures.inc();
        let held = encoder.held_buffers();
        let usage = Usage { imports: !encoder.reads_frames(), encoded: encoder.encoded() };
        history.hardware.failed(&error, usage, Instant::now());
        // Closing it stops its queues: the kernel lets go of all buffers.
        self.selected = SelectedEncoder::none();
        for buffer in held {
            camera.queue(buffer)?;
        }
        if wanted.encoder().kind == config::EncoderKind::V4l2M2m {
            return Err(error);
        }
        let work = picture_work(camera, wanted, &history.endless);
        self.selected = encoder::select(wanted.encoder(), camera.info(), &work, &mut history.hardware)?;
        if self.selected.turns() {
            self.turner = None;
        }
        log::info!("{}", self.describe());
        self.load = load(&self.selected, wanted);
        (self.damaged, self.storm) = (0, 0);
        self.tell(board);
        Ok(())
    }

    /// Puts another encoder, or another way of it, into the status.
    fn tell(&self, board: &Board) {
        board.change_pipeline(|pipeline| {
            pipeline.encoder = self.selected.kind();
            pipeline.encoder_reason.clone_from(&self.selected.reason);
            pipeline.hardware = self.selected.hardware();
            pipeline.rate_limit = None;
            if self.selected.turns() && pipeline.turned_by == Some("jpeg") {
                pipeline.turned_by = Some("encoder");
            }
        });
    }

    /// Puts what is odd about the camera's pictures into the status.
    fn tell_oddities(&mut self, board: &Board) {
        let Some(change) = self.selected.seen().and_then(|seen| self.odd.note(seen, Instant::now)) else { return };
        for note in change.now.iter().filter(|note| !change.before.contains(note)) {
            log::warn!("{note}");
        }
        board.change_pipeline(|pipeline| {
            pipeline.notes.retain(|note| !change.before.contains(note));
            pipeline.notes.extend(change.now);
        });
    }

    /// Tells of the software encoder's limit; `Some` where it stands in for the hardware and cannot do enough at this size.
    pub fn shortfall(&mut self, size: Size, wanted: &Wanted, board: &Board) -> Option<Shortfall> {
        let possible = self.load.as_mut()?.new_limit()?;
        let asked = wanted.settings().frame_rate.get();
        board.change_pipeline(|pipeline| pipeline.rate_limit = (possible < asked).then_some(possible));
        let least = wanted.encoder().software_frame_rate.get().min(asked);
        if possible >= least || !self.selected.is_fallback {
            return None;
        }
        Some(Shortfall { possible, least, smaller: Load::smaller(size, least / possible)? })
    }
}

/// True where text cannot be drawn: the camera makes JPEG itself, and that may not be decoded.
fn leaves_overlay_out(info: &CameraInfo, wanted: &Wanted) -> bool {
    info.pixel_format == PixelFormat::Mjpeg && !wanted.overlay().reencode.get()
}

fn picture_work(camera: &dyn Camera, wanted: &Wanted, endless: &Endless) -> PictureWork {
    let info = camera.info();
    PictureWork {
        orientation: wanted.orientation_left(info),
        // To raw frames it does not apply.
        reencode: !wanted.overlay().text.is_empty() && wanted.overlay().reencode.get(),
        bound: camera.bound(),
        endless: endless.of_period(info.frame_rate.period()),
    }
}

fn load(selected: &SelectedEncoder, wanted: &Wanted) -> Option<Load> {
    selected.is_software().then(|| Load::new(wanted.encoder().software_load.get()))
}
