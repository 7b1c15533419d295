//! The environment variable, see the crate's text for its grammar.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::report;

/// The variable.
pub const VARIABLE: &str = "PINHOLE_V4L2_STANDIN";

/// What a memory-to-memory node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Compressed to raw: not for us.
    Decode,
    /// H.264 and MJPEG.
    Encode,
    /// Raw to raw: not for us.
    Isp,
    /// JPEG.
    EncodeImage,
}

/// A camera.
#[derive(Debug, Clone)]
pub struct CameraConfig {
    /// N of `/dev/videoN`.
    pub number: u32,
    /// Four characters.
    pub fourcc: [u8; 4],
    /// JPEG files, for MJPG.
    pub folder: Option<PathBuf>,
}

/// A fault for some encodes (or camera frames), counted from 1.
#[derive(Debug)]
pub struct Fault {
    name: String,
    first: u64,
    /// How many, or `u64::MAX`.
    times: u64,
    /// The text behind the colon.
    argument: Option<String>,
}

/// Where a scripted refusal strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `open`.
    Open,
    /// `STREAMON`.
    StreamOn,
}

/// A refusal that strikes so many times.
#[derive(Debug)]
pub struct Refusal {
    place: Place,
    left: AtomicU64,
}

impl Refusal {
    fn parse(text: &str) -> Option<Self> {
        let (place, times) = text.split_once(':').unwrap_or((text, "forever"));
        let place = match place {
            "open" => Place::Open,
            "streamon" => Place::StreamOn,
            _ => return None,
        };
        Some(Self { place, left: AtomicU64::new(count(times)?) })
    }

    fn strikes(&self, place: Place) -> bool {
        self.place == place && take(&self.left)
    }
}

/// The clock of a camera's time stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// `CLOCK_MONOTONIC`, as it should be.
    Monotonic,
    /// The same for all frames: that of the first.
    Constant,
    /// So many milliseconds beside it.
    Shifted(i64),
}

/// How DMABUF is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoDmabuf {
    /// By `REQBUFS`.
    Reqbufs,
    /// By `QBUF`.
    Qbuf,
}

/// Application data in front of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exif {
    /// None.
    None,
    /// An empty Exif segment.
    Plain,
    /// One with a thumbnail: a whole JPEG with its own FFD9.
    Thumbnail,
}

/// All settings.
#[derive(Debug)]
pub struct Config {
    /// Memory-to-memory nodes.
    pub nodes: Vec<(u32, Role)>,
    /// Cameras.
    pub cameras: Vec<CameraConfig>,
    /// Where to write the report.
    pub report: Option<PathBuf>,
    /// Time of one encode.
    pub delay: Duration,
    /// How much later than CAPTURE's the OUTPUT buffer comes back.
    pub src_lag: Duration,
    /// How DMABUF is refused.
    pub dmabuf: Option<NoDmabuf>,
    /// What `S_FMT` on CAPTURE gives instead of the format asked for.
    pub wrong_fourcc: Option<[u8; 4]>,
    /// Replaces the driver's stride alignment.
    pub stride_align: Option<u32>,
    /// Replaces the driver's height alignment.
    pub height_align: Option<u32>,
    /// Raw `sizeimage` is at least this.
    pub sizeimage_min: u32,
    /// Replaces the driver's size of a compressed buffer.
    pub capture_size: Option<u32>,
    /// The firmware's least number of buffers.
    pub min_buffers: u32,
    /// Exif.
    pub exif: Exif,
    /// `STREAMOFF` takes this long while a frame hangs.
    pub hang_streamoff: Duration,
    /// Bytes added to a camera's stride.
    pub camera_padding: u32,
    /// Time per frame of the cameras until `S_PARM`, as numerator and denominator.
    pub camera_interval: [u32; 2],
    /// What is put into a camera's time stamps.
    pub camera_stamp: Stamp,
    camera_denied: AtomicU64,
    camera_no_space: AtomicU64,
    /// What MJPG cameras send, whatever they offer: the files of this folder, byte for byte.
    pub camera_sends: Option<PathBuf>,
    enomem: Option<String>,
    busy: Option<Refusal>,
    camera_busy: Option<Refusal>,
    eagain: AtomicU64,
    eintr: u64,
    calls: AtomicU64,
    faults: Vec<Fault>,
}

/// Of the faults, those whose number counts encodes or camera frames.
const FAULTS: [&str; 17] = [
    "not_jpeg",
    "truncated",
    "empty",
    "error_flag",
    "hang",
    "eio",
    "gone",
    "eos",
    "capture_small",
    "split",
    "bad_size",
    "cam_unplug",
    "cam_stall",
    "cam_error_flag",
    "cam_truncated",
    "cam_empty",
    "cam_eio",
];

static CONFIG: OnceLock<Config> = OnceLock::new();

/// The settings; a bad variable ends the process.
pub fn get() -> &'static Config {
    CONFIG.get_or_init(|| {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        match Config::parse(&text) {
            Ok(config) => config,
            Err(item) => {
                // Not `violation`: that wants the configuration.
                report::say(format_args!("VIOLATION: {VARIABLE} is wrong at {item:?}"));
                std::process::abort()
            }
        }
    })
}

fn count(text: &str) -> Option<u64> {
    if text == "forever" { Some(u64::MAX) } else { text.parse().ok() }
}

/// Takes one of what is left.
fn take(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| match left {
        0 => None,
        u64::MAX => Some(u64::MAX),
        n => Some(n - 1),
    })
    .is_ok()
}

/// Four characters as text, padded.
pub fn fourcc(text: &str) -> Option<[u8; 4]> {
    let mut code = [b' '; 4];
    let bytes = text.as_bytes();
    if bytes.is_empty() || bytes.len() > 4 {
        return None;
    }
    code[..bytes.len()].copy_from_slice(bytes);
    Some(code)
}

fn nodes(text: &str) -> Option<Vec<(u32, Role)>> {
    if text == "none" {
        return Some(Vec::new());
    }
    let node = |item: &str| {
        let (number, role) = item.split_once(':')?;
        let role = match role {
            "decoder" => Role::Decode,
            "encoder" => Role::Encode,
            "isp" => Role::Isp,
            "image" => Role::EncodeImage,
            _ => return None,
        };
        Some((number.parse().ok()?, role))
    };
    text.split('+').map(node).collect()
}

fn camera(text: &str) -> Option<CameraConfig> {
    let mut fields = text.splitn(3, ':');
    let number = fields.next()?.trim_start_matches("/dev/video").parse().ok()?;
    let fourcc = fourcc(fields.next()?)?;
    let folder = fields.next().map(PathBuf::from);
    // Any other format is one that the client is not to take.
    let known = folder.is_some() == matches!(&fourcc, b"MJPG" | b"JPEG");
    known.then_some(CameraConfig { number, fourcc, folder })
}

impl Config {
    fn parse(text: &str) -> Result<Self, String> {
        let mut config = Self {
            nodes: vec![(10, Role::Decode), (11, Role::Encode), (12, Role::Isp), (31, Role::EncodeImage)],
            cameras: Vec::new(),
            report: None,
            delay: Duration::from_millis(2),
            src_lag: Duration::ZERO,
            dmabuf: None,
            wrong_fourcc: None,
            stride_align: None,
            height_align: None,
            sizeimage_min: 0,
            capture_size: None,
            min_buffers: 1,
            exif: Exif::None,
            hang_streamoff: Duration::ZERO,
            camera_padding: 0,
            camera_interval: [1, 30],
            camera_stamp: Stamp::Monotonic,
            camera_denied: AtomicU64::new(0),
            camera_no_space: AtomicU64::new(0),
            camera_sends: None,
            enomem: None,
            busy: None,
            camera_busy: None,
            eagain: AtomicU64::new(0),
            eintr: 0,
            calls: AtomicU64::new(0),
            faults: Vec::new(),
        };
        for item in text.split([';', ',']).map(str::trim).filter(|item| !item.is_empty()) {
            config.item(item).ok_or_else(|| item.to_owned())?;
        }
        Ok(config)
    }

    fn item(&mut self, item: &str) -> Option<()> {
        if let Some((name, at)) = item.split_once('@') {
            let (first, argument) = at.split_once(':').map_or((at, None), |(first, rest)| (first, Some(rest)));
            let name = FAULTS.iter().find(|&&known| known == name)?;
            let once_or_more = !matches!(*name, "gone" | "cam_unplug" | "cam_stall");
            let times = argument.filter(|_| once_or_more).map_or(Some(1), count)?;
            let first = first.parse().ok()?;
            self.faults.push(Fault { name: (*name).to_owned(), first, times, argument: argument.map(str::to_owned) });
            return Some(());
        }
        let (key, value) = item.split_once('=').unwrap_or((item, ""));
        let micros = |value: &str| value.parse().ok().map(Duration::from_micros);
        match key {
            "nodes" => self.nodes = nodes(value)?,
            "camera" => self.cameras.push(camera(value)?),
            "report" => self.report = Some(PathBuf::from(value)),
            "delay_us" => self.delay = micros(value)?,
            "src_lag_us" => self.src_lag = micros(value)?,
            "dmabuf" => {
                self.dmabuf = Some(match value {
                    "refuse-reqbufs" => NoDmabuf::Reqbufs,
                    "refuse-qbuf" => NoDmabuf::Qbuf,
                    _ => return None,
                });
            }
            "wrong_fourcc" => self.wrong_fourcc = Some(fourcc(value)?),
            "stride_align" => self.stride_align = Some(value.parse().ok().filter(|n: &u32| n.is_power_of_two())?),
            "height_align" => self.height_align = Some(value.parse().ok().filter(|n: &u32| n.is_power_of_two())?),
            "sizeimage_min" => self.sizeimage_min = value.parse().ok()?,
            "capture_size" => self.capture_size = Some(value.parse().ok()?),
            "min_buffers" => self.min_buffers = value.parse().ok()?,
            "exif" => {
                self.exif = match value {
                    "none" => Exif::None,
                    "plain" => Exif::Plain,
                    "thumbnail" => Exif::Thumbnail,
                    _ => return None,
                };
            }
            "hang_streamoff_ms" => self.hang_streamoff = Duration::from_millis(value.parse().ok()?),
            "enomem_reqbufs" => match value {
                "" | "output" | "capture" | "camera" => self.enomem = Some(value.to_owned()),
                _ => return None,
            },
            "busy" => self.busy = Some(Refusal::parse(value)?),
            "eagain" => self.eagain = AtomicU64::new(count(value)?),
            "eintr" => self.eintr = value.parse().ok()?,
            "cam_busy" => self.camera_busy = Some(Refusal::parse(if value.is_empty() { "open" } else { value })?),
            "cam_stride_pad" => self.camera_padding = value.parse().ok()?,
            "cam_fps" => {
                let rate: f64 = value.parse().ok().filter(|rate| (0.001..=1000.0).contains(rate))?;
                let is_whole = rate.fract() == 0.0;
                self.camera_interval = if is_whole { [1, rate as u32] } else { [1000, (rate * 1000.0).round() as u32] };
            }
            "cam_stamp" => {
                self.camera_stamp = match value {
                    "constant" => Stamp::Constant,
                    milliseconds => Stamp::Shifted(milliseconds.parse().ok()?),
                };
            }
            "cam_denied" => {
                self.camera_denied = AtomicU64::new(count(if value.is_empty() { "forever" } else { value })?);
            }
            "cam_enospc" => {
                self.camera_no_space = AtomicU64::new(count(if value.is_empty() { "forever" } else { value })?);
            }
            "cam_sends" => self.camera_sends = Some(PathBuf::from(value)),
            _ => return None,
        }
        Some(())
    }

    /// Whether this fault strikes now; counts it. `number` is the encode's or the frame's.
    pub fn strikes(&self, name: &str, number: u64) -> bool {
        let strikes = self
            .faults
            .iter()
            .any(|fault| fault.name == name && number >= fault.first && number - fault.first < fault.times);
        if strikes {
            report::fault(name);
        }
        strikes
    }

    /// The text behind the colon of the fault that strikes exactly at this number (empty without one); counts it.
    pub fn strikes_once(&self, name: &str, number: u64) -> Option<&str> {
        let fault = self.faults.iter().find(|fault| fault.name == name && number == fault.first)?;
        report::fault(name);
        Some(fault.argument.as_deref().unwrap_or_default())
    }

    /// Whether a memory-to-memory node is busy at this place.
    pub fn busy(&self, place: Place) -> bool {
        let busy = self.busy.as_ref().is_some_and(|refusal| refusal.strikes(place));
        if busy {
            report::fault("busy");
        }
        busy
    }

    /// Whether a camera is.
    pub fn camera_busy(&self, place: Place) -> bool {
        let busy = self.camera_busy.as_ref().is_some_and(|refusal| refusal.strikes(place));
        if busy {
            report::fault("cam_busy");
        }
        busy
    }

    /// Whether a camera may not be opened.
    pub fn camera_denied(&self) -> bool {
        let denied = take(&self.camera_denied);
        if denied {
            report::fault("cam_denied");
        }
        denied
    }

    /// Whether the bus has no bandwidth left for a camera.
    pub fn camera_no_space(&self) -> bool {
        let none = take(&self.camera_no_space);
        if none {
            report::fault("cam_enospc");
        }
        none
    }

    /// Whether `REQBUFS` on this queue finds no memory.
    pub fn no_memory(&self, queue: &str) -> bool {
        let none = self.enomem.as_ref().is_some_and(|which| which.is_empty() || which == queue);
        if none {
            report::fault("enomem_reqbufs");
        }
        none
    }

    /// Whether to say POLLIN though nothing is done.
    pub fn spurious_poll(&self) -> bool {
        let spurious = take(&self.eagain);
        if spurious {
            report::fault("eagain");
        }
        spurious
    }

    /// Whether this call is interrupted by a signal.
    pub fn interrupted(&self) -> bool {
        let interrupted = self.eintr > 0 && self.calls.fetch_add(1, Ordering::Relaxed) % self.eintr == self.eintr - 1;
        if interrupted {
            report::fault("eintr");
        }
        interrupted
    }
}
