//! Configuration: what can be set, its defaults, and how files and `--set` are laid over each other.
//!
//! [`Config::default`] is the only source of defaults. Each layer (the system's file, the user's file on the FAT
//! partition, each `--set`) is parsed and checked by itself, so that an error names its file, line and column, and
//! only then laid over what came before.

mod layers;
mod mistakes;
mod outline;
mod problem;
mod switch;
mod values;
pub mod web;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use values::ControlsLayer;
use web::{AllowedHost, AllowedOrigin, List, Prefix};

pub use layers::{ConfigError, Loaded, Sources, load, load_leniently};
pub use switch::Switch;
pub use values::{
    Controls, Count, FrameRate, Hostname, Interval, Listen, Orientation, OverlayBackground, OverlayPosition,
    OverlayText, Resolution, Secret, SshKey, Ssid, Timezone, WifiCountry,
};

/// Writes a section once: its struct, its `Default`, and its layer (the same keys, each of them optional).
macro_rules! section {
    ($(#[$doc:meta])* $name:ident / $layer:ident {
        $($(#[$fdoc:meta])* $field:ident: $type:ty = $default:expr,)*
    } $(nested { $($(#[$ndoc:meta])* $nfield:ident: $ntype:ident / $nlayer:ident,)* })?) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize)]
        pub struct $name {
            $($(#[$fdoc])* pub $field: $type,)*
            $($($(#[$ndoc])* pub $nfield: $ntype,)*)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* $($($nfield: $ntype::default(),)*)? }
            }
        }

        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct $layer {
            $($field: Option<$type>,)*
            $($($nfield: Option<$nlayer>,)*)?
        }

        impl $layer {
            fn apply(self, to: &mut $name) {
                $(if let Some(value) = self.$field { to.$field = value; })*
                $($(if let Some(layer) = self.$nfield { layer.apply(&mut to.$nfield); })*)?
            }

            /// What of it is otherwise than in `before`.
            fn changes(self, before: &$name) -> Self {
                Self {
                    $($field: self.$field.filter(|value| *value != before.$field),)*
                    $($($nfield: self.$nfield.map(|layer| layer.changes(&before.$nfield)),)*)?
                }
            }
        }
    };
}

section! {
    /// `camera`: which camera, and what to ask of it.
    Camera / CameraLayer {
        /// Kind of source.
        source: Source = Source::Auto,
        /// Index, id or model of the camera, for v4l2 also its device path; empty takes the first.
        id: String = String::new(),
        /// Picture size to ask for; the camera may adjust it.
        resolution: Resolution = Resolution::new(1280, 720),
        /// Frames per second to ask for.
        frame_rate: FrameRate = FrameRate::new(30.0),
        /// How the picture is turned: by the camera where it can, else here.
        orientation: Orientation = Orientation::Rotate0,
        /// Buffers in the camera's queue. Few, as they come out of the small contiguous memory (CMA).
        buffer_count: Count<2, 16> = Count::new(4),
        /// What happens while nobody watches.
        idle: Idle = Idle::SkipEncode,
        /// How long nobody must watch before that happens.
        idle_after: Interval<0, 3_600_000> = Interval::from_secs(5),
        /// Frames after a start before one counts as settled (exposure, white balance) and answers a snapshot.
        warm_up: Count<0, 300> = Count::new(5),
        /// A camera that delivers nothing for this long has stalled and is opened again.
        stall_timeout: Interval<500, 60_000> = Interval::from_secs(3),
        /// Scripted faults of test-pattern and replay, for tests.
        faults: Vec<Fault> = Vec::new(),
    } nested {
        /// Settings of the replay source.
        replay: Replay / ReplayLayer,
        /// Values of the camera's own controls (exposure, brightness, zoom …) at start.
        controls: Controls / ControlsLayer,
    }
}

section! {
    /// `camera.replay`: JPEG files in place of a camera.
    Replay / ReplayLayer {
        /// A folder of JPEG files (name order, looping), or one `.mjpeg` file.
        path: String = String::new(),
    }
}

section! {
    /// `encoder`: how JPEG is made.
    Encoder / EncoderLayer {
        /// Which encoder.
        kind: EncoderKind = EncoderKind::Auto,
        /// JPEG quality, as libjpeg counts it.
        quality: Count<1, 100> = Count::new(80),
        /// v4l2-m2m: path of the encoder's device; empty finds it by what it can do.
        device: String = String::new(),
        /// The most of one processor core the software encoder takes, in percent: it encodes fewer frames to keep to it.
        software_load: Count<5, 100> = Count::new(70),
        /// Where it stands in for the hardware encoder and cannot make so many frames per second, pictures get smaller.
        software_frame_rate: FrameRate = FrameRate::new(5.0),
    }
}

section! {
    /// `overlay`: text drawn into the picture.
    Overlay / OverlayLayer {
        /// What to draw, with strftime's conversions (`%Y-%m-%d %H:%M:%S`); empty draws nothing.
        text: OverlayText = OverlayText::default(),
        /// Where.
        position: OverlayPosition = OverlayPosition::BottomLeft,
        /// Height of a character as a multiple of 20 pixels; 0 goes by the size of the picture.
        size: Count<0, 20> = Count::new(0),
        /// What is behind the text.
        background: OverlayBackground = OverlayBackground::Box,
        /// True allows to decode and encode again the pictures of a camera that makes JPEG itself.
        reencode: Switch = Switch::new(false),
    }
}

section! {
    /// `http`: the web server.
    Http / HttpLayer {
        /// Address and port to listen on, unless systemd passes a socket. `[::]` takes IPv4 too.
        listen: Listen = Listen::everywhere(8080),
        /// Streams served at the same time; the next one gets 503.
        max_viewers: Count<1, 1000> = Count::new(200),
        /// A viewer that takes nothing for this long is dropped.
        write_timeout: Interval<500, 600_000> = Interval::from_secs(10),
        /// Names the camera may be asked by, beside its own and those of home networks.
        allowed_hosts: List<AllowedHost> = List::default(),
        /// Proxies that are believed what they say of whom they ask for (`X-Forwarded-…`).
        trusted_proxies: List<Prefix> = List::default(),
        /// Origins whose pages may read stream and snapshot; others can only show them.
        allow_origins: List<AllowedOrigin> = List::default(),
        /// Origins whose pages may show the page in a frame, beside its own.
        frame_ancestors: List<AllowedOrigin> = List::default(),
    }
}

section! {
    /// `log`: what reaches the journal.
    Log / LogLayer {
        /// Least important message shown.
        level: LogLevel = LogLevel::Info,
    }
}

section! {
    /// `system`: the appliance's own settings. The daemon checks them; the appliance's boot service applies them.
    System / SystemLayer {
        /// Name on the network (`<hostname>.local`).
        hostname: Hostname = Hostname::default(),
        /// Time zone, such as `Europe/Berlin`.
        timezone: Timezone = Timezone::default(),
        /// Public keys that may log in, on debug images.
        ssh_keys: Vec<SshKey> = Vec::new(),
    } nested {
        /// Wireless network to join.
        wifi: Wifi / WifiLayer,
    }
}

section! {
    /// `system.wifi`: the wireless network. Without an SSID, Wi-Fi stays off.
    Wifi / WifiLayer {
        /// Network name, up to 32 bytes.
        ssid: Ssid = Ssid::default(),
        /// WPA passphrase, 8 to 63 characters, or 64 hexadecimal digits; empty for an open network.
        passphrase: Secret = Secret::default(),
        /// Two-letter country code, which decides the channels allowed.
        country: WifiCountry = WifiCountry::default(),
        /// Ask for WPA3 as well, where the access point offers both. The Pi's own chips up to the Zero 2 W's cannot do it.
        wpa3: Switch<true> = Switch::new(false),
    }
}

/// `system` with all but `wifi` passed over.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SystemWifiLayer {
    wifi: Option<WifiLayer>,
}

/// Everything that can be configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Config {
    /// Which camera, and what to ask of it.
    pub camera: Camera,
    /// How JPEG is made.
    pub encoder: Encoder,
    /// Text drawn into the picture.
    pub overlay: Overlay,
    /// The web server.
    pub http: Http,
    /// What reaches the journal.
    pub log: Log,
    /// The appliance's own settings.
    pub system: System,
}

impl Config {
    /// As a configuration file; secrets hidden.
    pub fn to_yaml(&self) -> String {
        // Maps with plain keys and scalars: always representable.
        serde_yaml::to_string(self).unwrap_or_default()
    }

    /// Checks what no single key can: keys that need each other.
    fn validate(&self) -> Result<(), Rule> {
        self.camera.validate().map_err(|reason| Rule { section: Section::Camera, reason })?;
        if self.encoder.kind == EncoderKind::Passthrough && !self.overlay.text.is_empty() {
            let reason = "overlay.text cannot be drawn while encoder.kind is passthrough: set encoder.kind to auto and \
                          overlay.reencode to true, or leave overlay.text empty";
            return Err(Rule { section: Section::Overlay, reason: reason.to_owned() });
        }
        self.system.validate().map_err(|reason| Rule { section: Section::System, reason })
    }
}

/// A violated rule between keys.
#[derive(Debug)]
struct Rule {
    section: Section,
    reason: String,
}

/// Sections with rules between their keys.
#[derive(Clone, Copy, Debug)]
enum Section {
    Camera,
    Overlay,
    System,
}

impl Camera {
    fn validate(&self) -> Result<(), String> {
        if self.source == Source::Replay && self.replay.path.is_empty() {
            return Err("camera.source is replay, so camera.replay.path must name a folder of JPEG files or a .mjpeg \
                        file; it is empty"
                .to_owned());
        }
        if !self.faults.is_empty() && !matches!(self.source, Source::TestPattern | Source::Replay) {
            return Err(format!(
                "camera.faults is for tests and needs camera.source test-pattern or replay, got {}",
                self.source.name()
            ));
        }
        if self.source == Source::Replay && self.faults.iter().any(|fault| matches!(fault, Fault::Size { .. })) {
            return Err("camera.faults: kind size needs camera.source test-pattern; give replay files of two sizes \
                        instead"
                .to_owned());
        }
        Ok(())
    }
}

impl System {
    fn validate(&self) -> Result<(), String> {
        if self.wifi.ssid.is_empty() && !self.wifi.passphrase.is_empty() {
            return Err("system.wifi.passphrase is set but system.wifi.ssid is empty: name the network".to_owned());
        }
        Ok(())
    }
}

/// `camera.source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// libcamera, where this build has it and it finds a camera, else V4L2.
    Auto,
    /// A camera found by libcamera.
    Libcamera,
    /// A camera spoken to through V4L2 itself: webcams.
    V4l2,
    /// A moving test picture.
    TestPattern,
    /// JPEG files.
    Replay,
}

impl Source {
    /// The configuration's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Libcamera => "libcamera",
            Self::V4l2 => "v4l2",
            Self::TestPattern => "test-pattern",
            Self::Replay => "replay",
        }
    }
}

/// `camera.idle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Idle {
    /// Capture and encode as if somebody watched.
    Run,
    /// The camera runs on (exposure stays settled) but nothing is encoded; synthetic sources pause.
    SkipEncode,
    /// The camera is stopped; whoever comes first waits for it to start.
    Stop,
}

/// `encoder.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderKind {
    /// Passthrough for MJPEG cameras, else the hardware encoder where there is one, else the software encoder.
    Auto,
    /// The camera's own JPEG, untouched.
    Passthrough,
    /// A hardware encoder, such as the Pi's: a V4L2 memory-to-memory device.
    #[serde(rename = "v4l2-m2m")]
    V4l2M2m,
    /// libjpeg-turbo.
    Software,
}

/// `log.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Only what needs a person.
    Error,
    /// Also what mends itself.
    Warn,
    /// Also changes of state.
    Info,
    /// Also each viewer.
    Debug,
}

impl From<LogLevel> for log::LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
        }
    }
}

/// One scripted fault. Frames are counted from 1 over the life of the program, not of the camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// The first `times` attempts to open fail.
    OpenFails {
        /// How many.
        times: u32,
    },
    /// Every attempt to open takes so long.
    OpenTakes {
        /// How long.
        #[serde(rename = "for")]
        lasting: Interval<0, 3_600_000>,
    },
    /// The camera cannot be opened with all of these.
    Refuses {
        /// Picture size.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resolution: Option<Resolution>,
        /// Frames per second.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        frame_rate: Option<FrameRate>,
    },
    /// From frame `at` no frame comes for `for`; calls return.
    Stall {
        /// Frame number.
        at: u64,
        /// How long.
        #[serde(rename = "for")]
        lasting: Interval<0, 3_600_000>,
    },
    /// At frame `at` the camera is unplugged; it can be opened again after `for`.
    Disappear {
        /// Frame number.
        at: u64,
        /// How long.
        #[serde(rename = "for")]
        lasting: Interval<0, 3_600_000>,
    },
    /// Frame `at` is cut in half.
    Truncate {
        /// Frame number.
        at: u64,
    },
    /// From frame `at` pictures have another size (test-pattern only).
    Size {
        /// Frame number.
        at: u64,
        /// The new size.
        to: Resolution,
    },
    /// At frame `at` the call to the camera does not return for `for`.
    Hang {
        /// Frame number.
        at: u64,
        /// How long.
        #[serde(rename = "for")]
        lasting: Interval<0, 3_600_000>,
    },
}

impl<const MIN: u64, const MAX: u64> From<Interval<MIN, MAX>> for Duration {
    fn from(interval: Interval<MIN, MAX>) -> Self {
        interval.get()
    }
}

#[cfg(test)]
mod tests;
