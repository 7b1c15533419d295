//! What is wanted of the camera now: the configuration, with what was changed since. One owner, so that no copy of it can lag
//! behind.

use std::time::Duration;

use serde_json::{Map, Value as Json};

use crate::board::settings::Settings;
use crate::camera::{CameraInfo, control};
use crate::config::{self, Config, Orientation};
use crate::frame::Size;

/// Cameras this slow are encoded also while nobody watches.
const SLOW_PERIOD: Duration = Duration::from_secs(2);

/// See the module's text.
#[derive(Debug)]
pub struct Wanted {
    /// Only what cameras and pictures need of it; the rest is as by default.
    config: Config,
    settings: Settings,
    /// Controls set while the program runs.
    controls: Map<String, Json>,
    /// While the software encoder stands in for the hardware's: what it can do.
    size_limit: Option<Size>,
}

impl Wanted {
    /// What the configuration says.
    pub fn new(config: &Config) -> Self {
        let Config { camera, encoder, overlay, .. } = config.clone();
        Self {
            config: Config { camera, encoder, overlay, ..Config::default() },
            settings: Settings::of(config),
            controls: Map::new(),
            size_limit: None,
        }
    }

    /// `camera`, with the settings in force.
    pub fn camera(&self) -> &config::Camera {
        &self.config.camera
    }

    /// `encoder`, with the settings in force.
    pub fn encoder(&self) -> &config::Encoder {
        &self.config.encoder
    }

    /// `overlay`.
    pub fn overlay(&self) -> &config::Overlay {
        &self.config.overlay
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Puts other settings in force. A limit that was found for the old ones is one no longer.
    pub fn put_in_force(&mut self, settings: Settings) {
        if settings.needs_reopening(&self.settings) {
            self.size_limit = None;
        }
        settings.put_into(&mut self.config);
        self.settings = settings;
    }

    /// The picture size to ask the camera for; smaller where the software encoder stands in and needs that.
    pub fn size(&self, stands_in: bool) -> Size {
        self.size_limit.filter(|_| stands_in).unwrap_or(self.settings.resolution.size())
    }

    /// Asks for smaller pictures from the next opening on. False where that was tried, and the camera did not follow.
    pub fn limit_size(&mut self, limit: Size, camera: Size) -> bool {
        if self.size_limit.is_some_and(|earlier| earlier == limit || camera.width > earlier.width) {
            return false;
        }
        self.size_limit = Some(limit);
        true
    }

    /// How the picture is still to be turned behind the camera.
    pub fn orientation_left(&self, camera: &CameraInfo) -> Orientation {
        if camera.turns { Orientation::Rotate0 } else { self.settings.orientation }
    }

    /// The controls to begin with: those of the configuration, and over them those set since.
    pub fn controls(&self) -> Map<String, Json> {
        let mut wanted = self.config.camera.controls.0.clone();
        control::replace(&mut wanted, self.controls.clone());
        wanted
    }

    /// Controls that were set. They are kept over reopenings.
    pub fn set_controls(&mut self, values: Map<String, Json>) {
        control::replace(&mut self.controls, values);
    }

    /// Forgets what was set since, as far as it could be taken back.
    pub fn reset_controls(&mut self) {
        self.controls.clear();
    }

    /// What was set since, as it was before: null is the camera's default.
    pub fn controls_at_start(&self) -> Map<String, Json> {
        let configured = |name: &str| {
            let mut configured = self.config.camera.controls.0.iter();
            configured
                .find(|(other, _)| control::is_same_name(other, name))
                .map_or(Json::Null, |(_, value)| value.clone())
        };
        self.controls.keys().map(|name| (name.clone(), configured(name))).collect()
    }

    /// True where frames of a camera with this period are encoded whether somebody watches or not. Encoding so few costs
    /// nothing, and waiting for one is long.
    pub fn encodes_always(&self, period: Duration) -> bool {
        match self.config.camera.idle {
            config::Idle::Run => true,
            config::Idle::SkipEncode => period >= SLOW_PERIOD,
            config::Idle::Stop => false,
        }
    }

    /// How long frames are wanted after the last viewer has left. Programs give up before a slow camera's first picture and
    /// ask again some seconds later: a camera that stopped meanwhile would never show them one.
    pub fn linger(&self, period: Duration) -> Duration {
        let idle_after = self.config.camera.idle_after.get();
        let is_slow = period >= SLOW_PERIOD && self.config.camera.idle == config::Idle::Stop;
        if is_slow { idle_after.max(2 * period) } else { idle_after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::settings::Change;

    fn wanted() -> Wanted {
        Wanted::new(&Config::default())
    }

    fn change(json: &Json) -> Change {
        Change::from_json(json.as_object().unwrap()).unwrap()
    }

    #[test]
    fn a_size_limit_lasts_until_another_size_is_asked_for() {
        let mut wanted = wanted();
        let (full, half) = (Size { width: 1280, height: 720 }, Size { width: 640, height: 360 });
        assert!(wanted.limit_size(half, full));
        assert_eq!((wanted.size(true), wanted.size(false)), (half, full), "only where the encoder stands in");
        assert!(!wanted.limit_size(half, full), "the camera did not follow");
        let quality = change(&serde_json::json!({"quality": 50})).applied_to(wanted.settings());
        wanted.put_in_force(quality);
        assert_eq!(wanted.size(true), half);
        assert_eq!(wanted.encoder().quality.get(), 50);
        let rate = change(&serde_json::json!({"frame_rate": 5})).applied_to(wanted.settings());
        wanted.put_in_force(rate);
        assert_eq!((wanted.size(true), wanted.camera().frame_rate.get()), (full, 5.0));
    }

    #[test]
    fn controls_set_since_lie_over_the_configurations_and_can_be_taken_back() {
        let mut config = Config::default();
        config.camera.controls.0.insert("Brightness".to_owned(), Json::from(3));
        let mut wanted = Wanted::new(&config);
        wanted.set_controls(Map::from_iter([
            ("brightness".to_owned(), Json::from(9)),
            ("Gamma".to_owned(), Json::from(1)),
        ]));
        let values = wanted.controls();
        assert_eq!(values.len(), 2, "one name however it is written: {values:?}");
        assert!(values.values().any(|value| *value == 9));
        let before = wanted.controls_at_start();
        assert_eq!(before.get("brightness"), Some(&Json::from(3)));
        assert_eq!(before.get("Gamma"), Some(&Json::Null));
        wanted.reset_controls();
        assert_eq!(wanted.controls().len(), 1);
    }

    #[test]
    fn a_slow_camera_is_not_stopped_between_two_askings() {
        let mut wanted = wanted();
        let (slow, fast) = (Duration::from_secs(10), Duration::from_millis(33));
        assert!(wanted.encodes_always(slow) && !wanted.encodes_always(fast));
        assert_eq!(wanted.linger(slow), wanted.linger(fast));
        wanted.config.camera.idle = config::Idle::Stop;
        assert!(!wanted.encodes_always(slow));
        assert_eq!(wanted.linger(slow), Duration::from_secs(20));
    }
}
