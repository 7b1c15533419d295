//! The controls as they were last read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::camera::control::Control;

/// The camera's controls with their values.
pub type Controls = Arc<Vec<Control>>;

/// Values younger than this are told as they are: questions without end ask the camera four times a second.
const FRESH: Duration = Duration::from_millis(250);

/// The controls as they were last read, for whoever asks while the camera is stopped or opened anew.
#[derive(Debug)]
pub struct Known {
    controls: watch::Sender<Option<(Instant, Controls)>>,
    /// A camera is running that can be asked.
    is_live: AtomicBool,
    /// They were read from the camera as it was opened last.
    is_current: AtomicBool,
}

impl Default for Known {
    fn default() -> Self {
        Self { controls: watch::Sender::new(None), is_live: AtomicBool::new(false), is_current: AtomicBool::new(false) }
    }
}

impl Known {
    /// They are these.
    pub fn tell(&self, controls: Controls) {
        self.is_current.store(true, Ordering::Relaxed);
        self.controls.send_replace(Some((Instant::now(), controls)));
    }

    /// There is no camera any more.
    pub fn forget(&self) {
        self.controls.send_replace(None);
    }

    /// A camera has been opened.
    pub fn opened(&self) {
        self.is_current.store(false, Ordering::Relaxed);
        self.set_live(true);
    }

    /// Whether questions are answered with the next frame.
    pub fn set_live(&self, is_live: bool) {
        self.is_live.store(is_live, Ordering::Release);
    }

    /// See [`set_live`](Self::set_live).
    pub fn is_live(&self) -> bool {
        self.is_live.load(Ordering::Acquire)
    }

    /// What is known.
    pub fn get(&self) -> Option<Controls> {
        self.controls.borrow().as_ref().map(|(_, controls)| Arc::clone(controls))
    }

    /// What is known, if there is no use in asking the camera again.
    pub fn fresh(&self) -> Option<Controls> {
        let known = self.controls.borrow();
        let (at, controls) = known.as_ref()?;
        (self.is_current.load(Ordering::Relaxed) && at.elapsed() < FRESH).then(|| Arc::clone(controls))
    }

    /// News of them.
    pub fn subscribe(&self) -> watch::Receiver<Option<(Instant, Controls)>> {
        self.controls.subscribe()
    }
}
