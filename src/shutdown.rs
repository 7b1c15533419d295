//! SIGTERM or SIGINT, as one token everybody can wait for.

use actix_rt::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// The token. Clones wait for the same signal.
#[derive(Clone, Debug)]
pub struct Shutdown {
    requested: watch::Receiver<bool>,
}

impl Shutdown {
    /// A token and the switch that sets it.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (switch, requested) = watch::channel(false);
        (switch, Self { requested })
    }

    /// Returns when the program is to end.
    pub async fn requested(&mut self) {
        // A switch that is gone means that the program is ending too.
        let _ = self.requested.wait_for(|requested| *requested).await;
    }
}

/// SIGTERM and SIGINT, caught from the moment this is made: before, they end the program then and there.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches them.
    ///
    /// # Errors
    /// Where the handlers cannot be installed.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next of them; its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
