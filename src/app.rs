//! Wiring: socket, capture thread, server, supervisor; and the way down.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::appliance::diagnostics::{self, Reader};
use crate::board::Board;
use crate::capture;
use crate::config::Loaded;
use crate::http::viewers::Viewers;
use crate::http::{self, WorkerProbe};
use crate::shutdown::{self, Shutdown};
use crate::supervisor::Supervisor;
use crate::systemd;

/// Connections waiting to be accepted: everybody reconnects at once after a restart.
const BACKLOG: i32 = 1024;
/// How long a graceful stop may take, all in all, before the program just ends.
const STOP_TIMEOUT: Duration = Duration::from_millis(1500);

/// Runs until SIGTERM or SIGINT.
pub fn run(loaded: Loaded) -> anyhow::Result<()> {
    let Loaded { config, problems } = loaded;
    for problem in &problems {
        log::error!("configuration: {problem}");
    }
    let (listener, address) = listen(config.http.listen.address())?;
    let watchdog = systemd::watchdog_interval();
    let board = Arc::new(Board::new(&config, watchdog));
    let capture = capture::spawn(&config, problems.clone(), Arc::clone(&board)).context("capture thread")?;

    let (switch, token) = Shutdown::new();
    let limits = http::Limits::of_this_process(config.http.max_viewers.get() as usize);
    let viewers = Arc::new(Viewers::new(Arc::clone(&board), limits.viewers));
    let probe = WorkerProbe::default();
    let problem_count = problems.len();
    let context = http::Context {
        access: http::access::Access::new(&config.http),
        board: Arc::clone(&board),
        config,
        problems,
        diagnostics: Reader::new(diagnostics::Sources::from_environment()),
        viewers,
        shutdown: token,
    };
    let deadline = actix_rt::System::new().block_on(async {
        // First, so that whoever reads that we listen can stop us.
        let mut signals = shutdown::Signals::new().context("signal handlers")?;
        let server = http::server(Arc::new(context), listener, limits, probe.clone()).context("HTTP server")?;
        let handle = server.handle();
        let server = actix_rt::spawn(server);
        log::info!("listening on {address}");
        let supervisor = Supervisor::new(Arc::clone(&board), probe, address, problem_count);
        let supervisor = actix_rt::spawn(supervisor.run(watchdog));

        let signal = signals.next().await;
        let deadline = Instant::now() + STOP_TIMEOUT;
        log::info!("{signal}: stopping");
        systemd::stopping();
        supervisor.abort();
        board.hub.close();
        // Streams end first; a graceful stop of the server would wait for them.
        let _ = switch.send(true);
        let stopped = async {
            handle.stop(true).await;
            server.await
        };
        tokio::select! {
            result = stopped => result.context("HTTP server")?.context("HTTP server")?,
            () = actix_rt::time::sleep_until(deadline.into()) => log::warn!("the HTTP server does not stop in time"),
        }
        anyhow::Ok(deadline)
    })?;

    wait_for_capture(&capture, deadline);
    Ok(())
}

/// Waits until the capture thread has closed the camera.
fn wait_for_capture(capture: &JoinHandle<()>, deadline: Instant) {
    while !capture.is_finished() {
        if Instant::now() >= deadline {
            // A call into the camera hangs; there is nothing to be saved by waiting for it.
            log::warn!("the camera does not stop in time");
            // SAFETY: ends the process at once. Exit handlers would take libcamera apart below the thread that hangs.
            unsafe { libc::_exit(0) };
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The socket systemd holds for us, else one of our own. Also says where it can be reached.
fn listen(address: SocketAddr) -> anyhow::Result<(TcpListener, String)> {
    let listener = match systemd::listener().context("socket activation")? {
        Some(listener) => listener,
        None => bind(address).with_context(|| {
            format!("cannot listen on {address}: is another program using the port? http.listen names another")
        })?,
    };
    let bound = listener.local_addr().context("local address")?;
    let place = if bound.ip().is_unspecified() {
        format!("http://localhost:{}/ and all addresses of this machine", bound.port())
    } else {
        format!("http://{bound}/")
    };
    Ok((listener, place))
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let bind = |address: SocketAddr| -> std::io::Result<TcpListener> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        if address.is_ipv6() {
            // [::] takes IPv4 connections too, whatever net.ipv6.bindv6only says.
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    match bind(address) {
        // A kernel without IPv6: the wildcard can still be served.
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && no_ipv6(&error) => {
            bind(SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, address.port())))
        }
        result => result,
    }
}

fn no_ipv6(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}
