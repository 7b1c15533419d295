//! The board between the capture thread and everybody else: what capture writes and others read ([`Health`], [`Pipeline`],
//! metrics, frames), and the [`Mailbox`] in which others ask. HTTP and supervisor know the board, not the thread.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::publish::Hub;

pub mod health;
mod known;
pub mod mailbox;
mod pipeline;
pub mod settings;

use health::Health;
pub use known::{Controls, Known};
use mailbox::Mailbox;
pub use pipeline::Pipeline;
use settings::Settings;

/// The longest the capture loop waits while nobody watches; less where the watchdog wants to hear more often.
const IDLE_ROUND: Duration = Duration::from_secs(2);

/// What capture writes and others read, and the mailbox in which others ask.
#[derive(Debug)]
pub struct Board {
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

impl Board {
    /// The board of a program whose capture loop must come round four times within `watchdog`.
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

    /// The longest the capture loop waits while nobody watches: four times within the watchdog's interval it comes round.
    pub fn idle_round(&self) -> Duration {
        self.idle_round
    }

    /// Other settings are in force.
    pub fn set_settings(&self, settings: &Settings) {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone_from(settings);
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

    /// Another camera is open, or none.
    pub fn set_pipeline(&self, pipeline: Option<Pipeline>) {
        *self.pipeline.lock().unwrap_or_else(PoisonError::into_inner) = pipeline;
    }

    /// Something about the open one has changed.
    pub fn change_pipeline(&self, change: impl FnOnce(&mut Pipeline)) {
        if let Some(pipeline) = &mut *self.pipeline.lock().unwrap_or_else(PoisonError::into_inner) {
            change(pipeline);
        }
    }
}
