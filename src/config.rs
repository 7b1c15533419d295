//! Configuration: what can be set, its defaults, and how files and `--set` are laid over each other.
//!
//! The table of settings, below, is the only place that names them: structs, defaults, layers, what can be changed while the
//! program runs, the JSON Schema, the page's fields, `config/pinhole.yaml` and the manual's table come from it. Each layer
//! (the system's file, the user's file on the FAT partition, each `--set`) is parsed and checked by itself, so that an error
//! names its file, line and column, and only then laid over what came before.

mod choices;
mod entry;
mod fault;
mod layers;
mod live;
mod mistakes;
mod names;
mod node;
mod outline;
mod problem;
#[cfg(test)]
mod reference;
mod schema;
mod section;
mod switch;
mod values;
pub mod web;
mod wrong;

use serde::{Deserialize, Serialize};

use node::{Node, Wrong};
use section::{at, entry, key, settings};
use web::{AllowedHost, AllowedOrigin, List, Prefix};

pub use choices::{EncoderKind, Idle, LogLevel, Orientation, OverlayBackground, OverlayPosition, Source};
pub use entry::{Choice, Entry, Layered, Shape, Takes, Value, Who};
pub use fault::Fault;
pub use layers::{ConfigError, Loaded, Sources, load, load_leniently};
pub use live::fields;
pub use names::{Hostname, Secret, SshKey, Ssid, Timezone, WifiCountry};
pub use schema::schema;
pub use switch::Switch;
pub use values::{Controls, Count, FrameRate, Interval, Listen, OverlayText, Resolution};

/// The table: every section and every setting, a section before its settings.
pub fn table() -> &'static [Entry] {
    TABLE
}

settings! {
    /// Everything that can be configured.
    section [] Config / ConfigLayer {
        /// Which camera, and what to ask of it.
        camera: Camera = Camera::default();
        /// How JPEG is made.
        encoder: Encoder = Encoder::default();
        /// Text drawn into the picture.
        overlay: Overlay = Overlay::default();
        /// The web server.
        http: Http = Http::default();
        /// What reaches the journal.
        log: Log = Log::default();
        /// The appliance's own settings, applied at start. The daemon only checks them.
        system: System = System::default();
    }

    /// `camera`.
    section [camera] Camera / CameraLayer {
        /// Where pictures come from.
        source: Source = Source::Auto => Restart Api;
        /// Which camera, if there are several: its number, id or model as `pinholed --list-cameras` shows them, such as 1 or
        /// imx219; with v4l2 also its device, such as /dev/video0. Empty takes the first.
        id: String = String::new() => Restart Api;
        /// Picture size to ask for. The camera may adjust it; the page and `/api/v1/status` show what it delivers.
        ///
        /// Larger JPEGs are dropped, see [below](#pictures-that-are-not-as-agreed).
        resolution: Resolution = Resolution::new(1280, 720) => Reopening Api as resolution;
        /// Frames per second to ask for; 0.05 is one in 20 s.
        ///
        /// `camera.frame_rate` in the status is what the camera granted.
        frame_rate: FrameRate = FrameRate::new(30.0) => Reopening Api unit "frames per second" as frame_rate;
        /// How the picture is turned. The camera does it at no cost where it can, else the processor.
        ///
        /// See [below](#orientation).
        orientation: Orientation = Orientation::Rotate0 => Reopening Api as orientation;
        /// Buffers in the camera's queue. They come out of a small part of the memory (CMA); more than 4 rarely help.
        buffer_count: Count<2, 16> = Count::new(4) => Restart Api unit "buffers";
        /// What happens while nobody watches.
        ///
        /// With `skip-encode`, pictures that come 2 s or more apart are encoded all the same; test-pattern and replay pause.
        idle: Idle = Idle::SkipEncode => Restart Api;
        /// How long nobody must watch before that happens.
        ///
        /// With `stop`, a camera that takes 2 s or more for a picture gets the time of two.
        idle_after: Interval<0, 3_600_000> = Interval::from_secs(5) => Restart Api;
        /// Frames after each start until the picture has settled (exposure, white balance): snapshots wait for that.
        ///
        /// Streams show them.
        warm_up: Count<0, 300> = Count::new(5) => Restart Api unit "frames";
        /// A camera without a usable frame for this long has stalled and is reopened.
        ///
        /// Never less than three frame times or exposures.
        stall_timeout: Interval<500, 60_000> = Interval::from_secs(3) => Restart Api;
        /// Scripted faults of test-pattern and replay, for tests.
        ///
        /// See [below](#scripted-faults).
        faults: Vec<Fault> = Vec::new() => Restart Card;
        /// The replay source.
        replay: Replay = Replay::default();
        /// Values of the camera's own controls at start, such as `{Brightness: 0.1, AwbMode: AwbDaylight}`. The page and
        /// `/api/v1/controls` list them with their ranges.
        ///
        /// In any order, see [http.md](http.md#controls). Layers are merged name by name.
        controls: Controls = Controls::default() => Restart Api;
    }

    /// `camera.replay`: JPEG files in place of a camera.
    section [camera.replay] Replay / ReplayLayer {
        /// A folder of JPEG files (in name order, looping), or one .mjpeg file. Required by `source: replay`.
        ///
        /// The folder's files end in `.jpg` or `.jpeg`. Pictures keep their size, whatever `camera.resolution` says (a note
        /// tells).
        path: String = String::new() => Restart Card;
    }

    /// `encoder`.
    section [encoder] Encoder / EncoderLayer {
        /// Which encoder.
        ///
        /// See [below](#encoders).
        kind: EncoderKind = EncoderKind::Auto => Restart Api;
        /// JPEG quality, as libjpeg counts it. Has no effect on a camera's own JPEG.
        quality: Count<1, 100> = Count::new(80) => Nothing Api as quality;
        /// v4l2-m2m: the encoder's device, such as /dev/video31. Empty finds it by what it can do.
        device: String = String::new() => Restart Card;
        /// The most of one processor core that libjpeg-turbo may take. It encodes fewer frames to stay within it.
        software_load: Count<5, 100> = Count::new(70) => Restart Api unit "percent";
        /// Where libjpeg-turbo replaces a hardware encoder that failed and cannot make this many frames per second within
        /// `software_load`, pictures get smaller until it can.
        software_frame_rate: FrameRate = FrameRate::new(5.0) => Restart Api unit "frames per second";
    }

    /// `overlay`.
    section [overlay] Overlay / OverlayLayer {
        /// Text in the picture, with the conversions of strftime, such as "%Y-%m-%d %H:%M:%S" (local time). Empty draws
        /// nothing.
        ///
        /// See [below](#overlay).
        text: OverlayText = OverlayText::default() => Restart Api;
        /// Where it stands.
        position: OverlayPosition = OverlayPosition::BottomLeft => Restart Api;
        /// Height of a character. 0 goes by the size of the picture.
        size: Count<0, 20> = Count::new(0) => Restart Api unit "units of 20 pixels";
        /// What is behind the text.
        background: OverlayBackground = OverlayBackground::Box => Restart Api;
        /// A camera that makes JPEG itself (most USB cameras) has its pictures passed on untouched, without text. True
        /// decodes and encodes them again instead, which is a lot of work for a small processor.
        reencode: Switch = Switch::new(false) => Restart Api;
    }

    /// `http`.
    section [http] Http / HttpLayer {
        /// Address and port to listen on. `[::]` is every address, IPv4 and IPv6. Unused where systemd passes a socket, as on
        /// the appliance (port 80).
        listen: Listen = Listen::everywhere(8080) => Restart Card;
        /// Streams served at the same time. The next viewer is told to try again later.
        ///
        /// It gets 503 with `Retry-After`.
        max_viewers: Count<1, 1000> = Count::new(200) => Restart Api unit "streams";
        /// A viewer that takes nothing for this long is dropped.
        write_timeout: Interval<500, 600_000> = Interval::from_secs(10) => Restart Api;
        /// Names the camera may be asked by, besides addresses, its own names and those that end in .local, .lan and the like
        /// (any other name is answered with 421): `cam.example.com`, `"*.example.com"` for all below it, `"*"` for every name.
        ///
        /// See [the names that always work](http.md#host).
        allowed_hosts: List<AllowedHost> = List::default() => Restart Card;
        /// Addresses or prefixes of proxies before the camera, such as "127.0.0.1" or "192.168.1.0/24": what they say of
        /// scheme, name and client (X-Forwarded-Proto, -Host, -For) is believed.
        ///
        /// Loopback is not, unless named. See [proxies.md](proxies.md).
        trusted_proxies: List<Prefix> = List::default() => Restart Card;
        /// Origins whose pages may read stream and snapshot with `fetch()`, such as `http://mainsail.local`; `"*"` is every
        /// origin. Showing them in an img element needs nothing.
        ///
        /// See [http.md](http.md#pages-of-other-origins).
        allow_origins: List<AllowedOrigin> = List::default() => Restart Card;
        /// Origins whose pages may show the camera's page in a frame, besides its own, such as
        /// `http://homeassistant.local:8123`; `"*"` is every origin.
        frame_ancestors: List<AllowedOrigin> = List::default() => Restart Card;
    }

    /// `log`.
    section [log] Log / LogLayer {
        /// The least important message that is shown.
        level: LogLevel = LogLevel::Info => Restart Api;
    }

    /// `system`. The daemon checks it; the appliance's boot service applies it.
    section [system] System / SystemLayer {
        /// Name on the network: `http://<hostname>.local/`. Empty keeps "pinhole".
        ///
        /// Not `localhost`.
        hostname: Hostname = Hostname::default() => Reboot Api;
        /// Time zone, such as Europe/Berlin. Empty is UTC.
        ///
        /// A zone the system does not know is reported and left out.
        timezone: Timezone = Timezone::default() => Reboot Api;
        /// Public keys that may log in, on debug images only.
        ssh_keys: Vec<SshKey> = Vec::new() => Reboot Card;
        /// The wireless network to join.
        wifi: Wifi = Wifi::default();
    }

    /// `system.wifi`. Without a name, Wi-Fi stays off.
    section [system.wifi] Wifi / WifiLayer {
        /// The network's name. Empty leaves Wi-Fi off.
        ///
        /// At most 32 bytes.
        ssid: Ssid = Ssid::default() => Reboot Card;
        /// Its passphrase, or its key (the hexadecimal digits). Never shown or logged. Empty joins an open network.
        ///
        /// A key is for WPA2 only.
        passphrase: Secret = Secret::default() => Reboot Card;
        /// Your country's two letters, such as DE: it decides the channels allowed.
        country: WifiCountry = WifiCountry::default() => Reboot Card;
        /// True also asks for WPA3, and prefers it where a network offers both. Leave it: the chips of Zero and Zero 2 W cannot
        /// do it, and lose networks that offer both.
        wpa3: Switch<true> = Switch::new(false) => Reboot Card;
    }
}

impl Config {
    /// As a configuration file; secrets hidden.
    pub fn to_yaml(&self) -> String {
        // Maps with plain keys and scalars: always representable.
        serde_yaml::to_string(self).unwrap_or_default()
    }

    /// Some settings of it as a configuration file, in the table's order; secrets hidden.
    pub fn to_yaml_of(&self, is_wanted: impl Fn(&Entry) -> bool) -> String {
        let mut root = serde_yaml::Mapping::new();
        for entry in table().iter().filter(|entry| !entry.is_section() && is_wanted(entry)) {
            let mut section = Some(&mut root);
            for name in entry.parent().split('.') {
                let mapping = || serde_yaml::Mapping::new().into();
                section = section.and_then(|above| above.entry(name.into()).or_insert_with(mapping).as_mapping_mut());
            }
            if let (Some(section), Ok(value)) = (section, serde_yaml::to_value(entry.get(self))) {
                section.insert(entry.name().into(), value);
            }
        }
        serde_yaml::to_string(&root).unwrap_or_default()
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

#[cfg(test)]
mod tests;
