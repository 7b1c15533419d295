//! Feeds systemd's watchdog, on real progress only, and keeps `STATUS=` and the board's light up to date.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::appliance::light::{Light, Signal};
use crate::board::Board;
use crate::board::health::State;
use crate::http::WorkerProbe;
use crate::systemd::notify;

/// Without a watchdog, how often things are looked at.
const PERIOD: Duration = Duration::from_secs(2);
/// `ERRNO=` while a call to the camera does not return. `escalate` asks for it (`StatusErrno`): only then may a watchdog that
/// bites lead to a reboot.
const CAMERA_HANGS: u32 = libc::ETIMEDOUT.cast_unsigned();
/// `EX_SOFTWARE`: the program ended itself because its server did not answer. `escalate` knows it, too.
pub const EXIT_SERVER_STUCK: i32 = 70;
/// A status that only differs in its figures is sent again after this long.
const STATUS_PERIOD: Duration = Duration::from_secs(10);

/// Feeds the watchdog, on real progress only, and keeps `STATUS=` and the board's light up to date.
#[derive(Debug)]
pub struct Supervisor {
    board: Arc<Board>,
    probe: WorkerProbe,
    address: String,
    /// Shown in the status: what of the configuration is wrong.
    problems: usize,
    progress: Progress,
    light: Light,
    status: Option<(State, String, Instant)>,
}

impl Supervisor {
    /// A supervisor; `address` is where the server listens, for people.
    pub fn new(board: Arc<Board>, probe: WorkerProbe, address: String, problems: usize) -> Self {
        Self {
            board,
            probe,
            address,
            problems,
            progress: Progress::default(),
            light: Light::from_environment(),
            status: None,
        }
    }

    /// Says READY as soon as all loops turn, then supervises for ever.
    pub async fn run(mut self, watchdog: Option<Duration>) {
        while !self.probe.check() {
            actix_rt::time::sleep(Duration::from_millis(5)).await;
        }
        while self.board.health.rounds() == 0 {
            actix_rt::time::sleep(Duration::from_millis(5)).await;
        }
        notify(&[NotifyState::Ready]);
        // Four chances within each interval.
        let period = watchdog.map_or(PERIOD, |interval| (interval / 4).min(PERIOD));
        self.progress =
            Progress::new(watchdog.map(|interval| (interval.as_millis() / period.as_millis().max(1)) as u32));
        loop {
            self.tell_status();
            // What was held back as it came too often.
            log::logger().flush();
            actix_rt::time::sleep(period).await;
            match self.progress.look(self.board.health.rounds(), self.probe.check()) {
                Seen::Progress => notify(&[NotifyState::Watchdog]),
                Seen::Nothing => {}
                Seen::CameraHangs => {
                    log::error!("a call to the camera has not returned: the watchdog is going to end the program");
                    notify(&[NotifyState::Errno(CAMERA_HANGS)]);
                }
                Seen::CameraBack { server_answers } => {
                    log::warn!("the call to the camera has returned after all");
                    notify(&[NotifyState::Errno(0)]);
                    // The watchdog may bite before the next look.
                    if server_answers {
                        notify(&[NotifyState::Watchdog]);
                    }
                }
                Seen::ServerStuck => {
                    log::error!("the HTTP server does not answer: the program ends, to be started again");
                    // SAFETY: ends the process at once. Exit handlers might wait for the thread that does not answer.
                    unsafe { libc::_exit(EXIT_SERVER_STUCK) };
                }
            }
        }
    }

    fn tell_status(&mut self) {
        let (state, _) = self.board.health.state();
        match &state {
            // What it shows while the machine starts stays until there is something to say.
            State::Starting => {}
            // A mistake in the configuration may have taken the network, and with it every other way to say so.
            state if state.is_healthy() && self.problems == 0 => self.light.show(Signal::Well),
            _ => self.light.show(Signal::Attention),
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
        let metrics = &self.board.metrics;
        let mut text = match state.reason() {
            Some(reason) => format!("{}: {reason}", state.name()),
            None => state.name().to_owned(),
        };
        // Writing to a String cannot fail.
        if let Some(pipeline) = self.board.pipeline() {
            let _ = write!(text, ", {} {:.0} fps", pipeline.camera.size, metrics.captured.rate());
        }
        let _ = write!(text, ", {} viewers, {}", metrics.viewers.get(), self.address);
        if self.problems > 0 {
            let _ = write!(text, ", {} problems in the configuration (see the journal)", self.problems);
        }
        // STATUS= is one line.
        text.replace(['\n', '\r'], " ")
    }
}

/// What one look at the loops shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Both came round.
    Progress,
    /// One did not, which need not mean anything yet.
    Nothing,
    /// The capture loop has not for so long that the watchdog will bite; told once.
    CameraHangs,
    /// It does again; with a server that answers that is progress, too.
    CameraBack {
        /// The server came round as well.
        server_answers: bool,
    },
    /// The server has not for so long, and no camera is to blame.
    ServerStuck,
}

/// Which of the loops comes round.
///
/// Counted in looks, not in time: a program that was suspended, or a machine that stood still, has missed none.
#[derive(Debug, Default)]
struct Progress {
    /// Looks within the watchdog's interval; `None` without a watchdog: then nothing is ended.
    looks: Option<u32>,
    rounds: u64,
    /// Looks in a row at which the capture loop had not come round.
    capture_missed: u32,
    server_missed: u32,
    camera_hangs: bool,
}

impl Progress {
    fn new(looks: Option<u32>) -> Self {
        Self { looks, ..Self::default() }
    }

    /// The capture loop has made so many rounds; the server has answered since the last look.
    fn look(&mut self, rounds: u64, answered: bool) -> Seen {
        self.capture_missed = if rounds == self.rounds { self.capture_missed + 1 } else { 0 };
        self.server_missed = if answered { 0 } else { self.server_missed + 1 };
        self.rounds = rounds;
        let Some(looks) = self.looks else {
            return if self.capture_missed + self.server_missed == 0 { Seen::Progress } else { Seen::Nothing };
        };
        // Both before the watchdog bites.
        let hangs = self.capture_missed >= (looks / 2).max(2);
        if hangs != self.camera_hangs && (hangs || self.capture_missed == 0) {
            self.camera_hangs = hangs;
            return if hangs { Seen::CameraHangs } else { Seen::CameraBack { server_answers: answered } };
        }
        match (self.capture_missed, self.server_missed) {
            (0, 0) => Seen::Progress,
            // A camera that hangs is the watchdog's business, whatever else is the matter.
            (missed, stuck) if missed < 2 && stuck >= (looks * 3 / 4).max(3) => Seen::ServerStuck,
            _ => Seen::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen at each look; `c` where the capture loop came round, `s` where the server answered.
    fn seen(looks: &str) -> Vec<Seen> {
        let (mut progress, mut rounds) = (Progress::new(Some(10)), 0);
        let look = |look: &str| {
            rounds += u64::from(look.contains('c'));
            progress.look(rounds, look.contains('s'))
        };
        looks.split(' ').map(look).collect()
    }

    #[test]
    fn a_camera_that_hangs_is_told_of_once_and_before_the_watchdog_bites() {
        use Seen::{CameraBack, CameraHangs, Nothing, Progress};
        assert_eq!(
            seen("cs s s s s s s s s"),
            [Progress, Nothing, Nothing, Nothing, Nothing, CameraHangs, Nothing, Nothing, Nothing]
        );
        assert_eq!(
            seen("cs s s s s s s cs cs s cs")[5..],
            [CameraHangs, Nothing, CameraBack { server_answers: true }, Progress, Nothing, Progress]
        );
        // Back at the last look before the watchdog bites: the next would be too late. A server that does not answer is none
        // the better for it.
        assert_eq!(seen("cs s s s s s s s s cs")[9], CameraBack { server_answers: true });
        assert_eq!(seen("cs s s s s s s s s c cs")[9..], [CameraBack { server_answers: false }, Progress]);
        // A server that stands still as well does not end it before its time.
        assert_eq!(seen("cs - - - - - - - - - -").iter().filter(|seen| **seen != Nothing).count(), 2);
    }

    #[test]
    fn a_server_that_does_not_answer_is_told_from_a_camera() {
        use Seen::{Nothing, Progress, ServerStuck};
        let seen = seen("cs c c - c c c c");
        assert_eq!(seen, [Progress, Nothing, Nothing, Nothing, Nothing, Nothing, Nothing, ServerStuck]);
        assert!(seen.len() < 10, "before the watchdog bites");
    }

    #[test]
    fn without_a_watchdog_nothing_is_ended() {
        let mut progress = super::Progress::new(None);
        assert_eq!(progress.look(1, true), Seen::Progress);
        assert!((0..100).all(|_| progress.look(1, false) == Seen::Nothing));
    }
}
