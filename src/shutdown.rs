//! SIGTERM or SIGINT, as one token everybody can wait for.

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

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// Where the handlers cannot be installed.
pub async fn signal() -> std::io::Result<&'static str> {
    use actix_rt::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
