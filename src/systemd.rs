//! What systemd is told, and what it hands over.

use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::capture::Shared;
use crate::health::State;
use crate::http::Pulse;
use crate::http::stream::Viewers;
use crate::led::{Led, Signal};

/// Without a watchdog, how often things are looked at.
const PERIOD: Duration = Duration::from_secs(2);
/// A status that only differs in its figures is sent again after this long.
const STATUS_PERIOD: Duration = Duration::from_secs(10);

/// The listening socket systemd opened for us, if it did (socket activation).
///
/// # Errors
/// A descriptor that is not a listening TCP socket.
pub fn listener() -> std::io::Result<Option<TcpListener>> {
    let mut sockets: Vec<_> = sd_notify::listen_fds()?.collect();
    if sockets.is_empty() {
        return Ok(None);
    }
    if sockets.len() > 1 {
        return Err(std::io::Error::other(format!(
            "systemd passed {} sockets, pinholed takes one: keep a single ListenStream= in pinhole.socket",
            sockets.len()
        )));
    }
    // SAFETY: sd_listen_fds(3): the descriptor is open and ours; `listen_fds` gives each once.
    let socket = socket2::Socket::from(unsafe { OwnedFd::from_raw_fd(sockets.remove(0)) });
    if !socket.is_listener()? || socket.r#type()? != socket2::Type::STREAM {
        return Err(std::io::Error::other("the socket systemd passed is not a listening TCP socket"));
    }
    Ok(Some(socket.into()))
}

/// The interval within which systemd wants to hear from us (`WatchdogSec=`).
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Tells systemd; without systemd, nobody.
fn notify(states: &[NotifyState<'_>]) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if let Err(error) = sd_notify::notify(states)
        && !TOLD.swap(true, Ordering::Relaxed)
    {
        log::warn!("systemd cannot be notified: {error}");
    }
}

/// Tells systemd that the program is going to end.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Feeds the watchdog, on real progress only, and keeps `STATUS=` and the board's light up to date.
#[derive(Debug)]
pub struct Supervisor {
    shared: Arc<Shared>,
    viewers: Arc<Viewers>,
    pulse: Pulse,
    address: String,
    /// Shown in the status: what of the configuration is wrong.
    problems: usize,
    rounds_seen: u64,
    led: Led,
    status: Option<(State, String, Instant)>,
}

impl Supervisor {
    /// A supervisor; `address` is where the server listens, for people.
    pub fn new(shared: Arc<Shared>, viewers: Arc<Viewers>, pulse: Pulse, address: String, problems: usize) -> Self {
        Self { shared, viewers, pulse, address, problems, rounds_seen: 0, led: Led::from_environment(), status: None }
    }

    /// Says READY as soon as all loops turn, then supervises for ever.
    pub async fn run(mut self, watchdog: Option<Duration>) {
        while !self.progressed() {
            actix_rt::time::sleep(Duration::from_millis(5)).await;
        }
        notify(&[NotifyState::Ready]);
        // Four chances within each interval.
        let period = watchdog.map_or(PERIOD, |interval| (interval / 4).min(PERIOD));
        loop {
            self.tell_status();
            // What was held back as it came too often.
            log::logger().flush();
            actix_rt::time::sleep(period).await;
            if self.progressed() {
                notify(&[NotifyState::Watchdog]);
            }
        }
    }

    /// True if the capture loop came round and the HTTP worker answered since the last time this was true.
    fn progressed(&mut self) -> bool {
        let rounds = self.shared.health.rounds();
        let progressed = rounds != self.rounds_seen && self.pulse.check();
        if progressed {
            self.rounds_seen = rounds;
        }
        progressed
    }

    fn tell_status(&mut self) {
        let (state, _) = self.shared.health.state();
        match &state {
            // What it shows while the machine starts stays until there is something to say.
            State::Starting => {}
            // A mistake in the configuration may have taken the network, and with it every other way to say so.
            state if state.is_healthy() && self.problems == 0 => self.led.show(Signal::Well),
            _ => self.led.show(Signal::Attention),
        }
        let text = self.status_text(&state);
        let due = match &self.status {
            None => true,
            Some((old, old_text, at)) => *old != state || (*old_text != text && at.elapsed() >= STATUS_PERIOD),
        };
        if due {
            notify(&[NotifyState::Status(&text)]);
            self.status = Some((state, text, Instant::now()));
        }
    }

    fn status_text(&self, state: &State) -> String {
        use std::fmt::Write;
        let metrics = &self.shared.metrics;
        let mut text = match state.reason() {
            Some(reason) => format!("{}: {reason}", state.name()),
            None => state.name().to_owned(),
        };
        // Writing to a String cannot fail.
        if let Some(pipeline) = self.shared.pipeline() {
            let _ = write!(text, ", {} {:.0} fps", pipeline.camera.size, metrics.captured.rate());
        }
        let _ = write!(text, ", {} viewers, {}", self.viewers.list().len(), self.address);
        if self.problems > 0 {
            let _ = write!(text, ", {} problems in the configuration (see the journal)", self.problems);
        }
        // STATUS= is one line.
        text.replace(['\n', '\r'], " ")
    }
}
