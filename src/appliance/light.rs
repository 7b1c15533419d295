//! A light on the board says whether somebody has to look: steady while all is well, blinking where something is wrong.
//!
//! `PINHOLE_LED` names its folder below `/sys/class/leds`. Until the camera has been tried the light is left alone: what
//! it shows while the machine starts is the kernel's business. It is written to only when what it shows changes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How long a blinking light is on and off: a little more than three times a second, so that no kernel's own blinking
/// (once a second) or heartbeat is taken for it.
const BLINK_MS: u32 = 150;
/// How often it is tried to set the light: its attributes are root's until udev hands them to us, also `delay_on` and
/// `delay_off`, which are made as it begins to blink.
const ATTEMPTS: u8 = 5;

/// What the light shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// On: all is well.
    Well,
    /// Blinking: somebody should look at the page.
    Attention,
}

/// The light, if there is one.
#[derive(Debug, Default)]
pub struct Light {
    folder: Option<PathBuf>,
    shown: Option<Signal>,
    /// Its trigger is set. Setting it again would make its attributes anew.
    begun: bool,
    /// How often more it may be tried.
    attempts: u8,
    told: bool,
}

impl Light {
    /// The one `PINHOLE_LED` names.
    pub fn from_environment() -> Self {
        let folder = std::env::var_os("PINHOLE_LED").filter(|name| !name.is_empty()).map(PathBuf::from);
        Self { folder, ..Self::default() }
    }

    /// Makes the light show `signal`, if it does not. To be called now and then, also while nothing changes. A light that
    /// cannot be set is told of once.
    pub fn show(&mut self, signal: Signal) {
        let Some(folder) = &self.folder else { return };
        if self.shown != Some(signal) {
            self.shown = Some(signal);
            self.begun = false;
            self.attempts = ATTEMPTS;
        }
        if self.attempts == 0 {
            return;
        }
        self.attempts -= 1;
        match set(folder, signal, &mut self.begun) {
            Ok(()) => self.attempts = 0,
            Err(error) if self.attempts == 0 && !self.told => {
                log::warn!(
                    "the light {} cannot be set: {error}; PINHOLE_LED must name a folder of /sys/class/leds whose files \
                     this program's user may write to",
                    folder.display()
                );
                self.told = true;
            }
            Err(_) => {}
        }
    }
}

fn set(folder: &Path, signal: Signal, begun: &mut bool) -> io::Result<()> {
    if !*begun {
        write(folder, "trigger", if signal == Signal::Well { "none" } else { "timer" })?;
        *begun = true;
    }
    match signal {
        Signal::Well => {
            // 1 for lights that know only on and off.
            let most = std::fs::read_to_string(folder.join("max_brightness")).unwrap_or_default();
            write(folder, "brightness", if most.trim().is_empty() { "1" } else { most.trim() })
        }
        // Until these can be written it blinks at the kernel's pace.
        Signal::Attention => {
            write(folder, "delay_on", &BLINK_MS.to_string())?;
            write(folder, "delay_off", &BLINK_MS.to_string())
        }
    }
}

/// Writes an attribute that is there; nothing is made.
fn write(folder: &Path, attribute: &str, value: &str) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(folder.join(attribute))?;
    file.write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like a light's.
    fn light(attributes: &[&str]) -> (tempfile::TempDir, Light) {
        let folder = tempfile::tempdir().unwrap();
        for attribute in attributes {
            std::fs::write(folder.path().join(attribute), "").unwrap();
        }
        std::fs::write(folder.path().join("max_brightness"), "255\n").unwrap();
        let led = Light { folder: Some(folder.path().to_owned()), ..Light::default() };
        (folder, led)
    }

    fn read(folder: &tempfile::TempDir, attribute: &str) -> String {
        std::fs::read_to_string(folder.path().join(attribute)).unwrap()
    }

    #[test]
    fn it_shows_what_is_the_matter_and_writes_only_changes() {
        let (folder, mut led) = light(&["trigger", "brightness", "delay_on", "delay_off"]);
        led.show(Signal::Well);
        assert_eq!((read(&folder, "trigger"), read(&folder, "brightness")), ("none".into(), "255".into()));
        assert_eq!(read(&folder, "delay_on"), "");

        led.show(Signal::Attention);
        assert_eq!(read(&folder, "trigger"), "timer");
        assert_eq!((read(&folder, "delay_on"), read(&folder, "delay_off")), ("150".into(), "150".into()));

        // Had it written again, this would be gone.
        for attribute in ["trigger", "brightness", "delay_on", "delay_off"] {
            std::fs::write(folder.path().join(attribute), "untouched").unwrap();
        }
        for _ in 0..10 {
            led.show(Signal::Attention);
        }
        for attribute in ["trigger", "brightness", "delay_on", "delay_off"] {
            assert_eq!(read(&folder, attribute), "untouched");
        }
        led.show(Signal::Well);
        assert_eq!(read(&folder, "trigger"), "none");
    }

    #[test]
    fn the_pace_is_set_as_soon_as_it_can_be() {
        let (folder, mut led) = light(&["trigger", "brightness"]);
        led.show(Signal::Attention);
        assert_eq!(read(&folder, "trigger"), "timer");
        assert!(!folder.path().join("delay_on").exists(), "nothing is made");
        for attribute in ["trigger", "delay_on", "delay_off"] {
            std::fs::write(folder.path().join(attribute), "").unwrap();
        }
        led.show(Signal::Attention);
        assert_eq!((read(&folder, "trigger"), read(&folder, "delay_off")), (String::new(), "150".into()));

        // One that never can be does not keep anybody busy.
        let (folder, mut led) = light(&["trigger", "brightness"]);
        for _ in 0..ATTEMPTS {
            led.show(Signal::Attention);
        }
        for attribute in ["delay_on", "delay_off"] {
            std::fs::write(folder.path().join(attribute), "").unwrap();
        }
        led.show(Signal::Attention);
        assert_eq!(read(&folder, "delay_on"), "");
        led.show(Signal::Well);
        assert_eq!(read(&folder, "brightness"), "255");
    }

    #[test]
    fn no_light_is_no_matter() {
        Light::default().show(Signal::Well);
        let mut led = Light { folder: Some("/nonexistent/led".into()), ..Light::default() };
        for _ in 0..2 * ATTEMPTS {
            led.show(Signal::Attention);
        }
        led.show(Signal::Well);
        assert!(led.told && led.attempts > 0);
    }
}
