//! The servers under test and the load client, as child processes that cannot outlive the benchmark.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::client::Clock;
use crate::frames::Frames;
use crate::measure::Callgrind;

/// Pictures a second, everywhere.
pub const FRAME_RATE: u32 = 30;

/// A server to measure.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// `pinholed`, replaying the folder.
    Ours,
    /// Debian's ustreamer on a fake V4L2 camera.
    Ustreamer,
    /// The Python recipe.
    Seed,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Ours, Self::Ustreamer, Self::Seed];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Ustreamer => "ustreamer",
            Self::Seed => "seed",
        }
    }

    pub fn path(self) -> &'static str {
        match self {
            Self::Ours | Self::Ustreamer => "/stream",
            Self::Seed => "/stream.mjpg",
        }
    }

    /// Ours says the capture time in the part's header; into the others' pictures it is stamped by what feeds them.
    pub fn clock(self) -> Clock {
        match self {
            Self::Ours => Clock::Header,
            Self::Ustreamer | Self::Seed => Clock::Stamp,
        }
    }
}

/// Where the programs are.
pub struct Programs {
    pub pinholed: PathBuf,
    /// ustreamer, or its loader with all that must stand before ustreamer's own arguments.
    pub ustreamer: Vec<String>,
    pub fakecam: PathBuf,
    pub seed: PathBuf,
    pub python: PathBuf,
    /// For everything written during the run.
    pub folder: PathBuf,
}

impl Programs {
    fn command(&self, kind: Kind, frames: &Frames, port: u16) -> Vec<String> {
        let directory = frames.dir.display();
        let (width, height) = (frames.width, frames.height);
        match kind {
            Kind::Ours => {
                // This machine's own configuration files must not have a say.
                let mut command = vec![self.pinholed.display().to_string()];
                command.extend(["--config", "/dev/null", "--user-config", "/dev/null"].map(str::to_owned));
                for setting in [
                    "camera.source=replay".to_owned(),
                    format!("camera.replay.path={directory}"),
                    format!("camera.frame_rate={FRAME_RATE}"),
                    format!("camera.resolution={width}x{height}"),
                    format!("http.listen=127.0.0.1:{port}"),
                    "http.max_viewers=200".to_owned(),
                ] {
                    command.extend(["--set".to_owned(), setting]);
                }
                command
            }
            Kind::Ustreamer => {
                let mut command = self.ustreamer.clone();
                command.extend([
                    "--device=/dev/video0".to_owned(),
                    "--format=MJPEG".to_owned(),
                    // The camera's JPEGs are passed on as they are.
                    "--encoder=HW".to_owned(),
                    format!("--resolution={width}x{height}"),
                    format!("--desired-fps={FRAME_RATE}"),
                    "--host=127.0.0.1".to_owned(),
                    format!("--port={port}"),
                    "--tcp-nodelay".to_owned(),
                ]);
                command
            }
            Kind::Seed => vec![
                self.python.display().to_string(),
                self.seed.display().to_string(),
                directory.to_string(),
                FRAME_RATE.to_string(),
                "127.0.0.1".to_owned(),
                port.to_string(),
            ],
        }
    }

    /// What the server says it is.
    pub fn version(&self, kind: Kind) -> Result<String> {
        let mut command: Vec<String> = match kind {
            Kind::Ours => vec![self.pinholed.display().to_string()],
            Kind::Ustreamer => self.ustreamer.clone(),
            Kind::Seed => vec![self.python.display().to_string()],
        };
        command.push("--version".to_owned());
        let output = Command::new(&command[0])
            .args(&command[1..])
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .with_context(|| missing(kind, &command[0]))?;
        ensure!(
            output.status.success(),
            "{} failed: {}",
            command.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().next().unwrap_or("unknown").trim().to_owned())
    }

    /// Starts the server, under callgrind if asked, and waits until it accepts connections.
    pub fn start(&self, kind: Kind, frames: &Frames, under_callgrind: bool) -> Result<Server> {
        let port = free_port()?;
        let mut command = self.command(kind, frames, port);
        if under_callgrind {
            let mut wrapped = vec!["valgrind".to_owned()];
            wrapped.extend(Callgrind::arguments(&self.folder));
            wrapped.append(&mut command);
            command = wrapped;
        }
        let log = self.folder.join(format!("{}.log", kind.name()));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut process = Command::new(&command[0]);
        process
            .args(&command[1..])
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // cargo sets the first for its own libraries; the others would tie the server to who supervises us.
            .env_remove("LD_LIBRARY_PATH")
            .env_remove("NOTIFY_SOCKET")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID")
            .env_remove("WATCHDOG_USEC");
        if under_callgrind {
            // Else glibc copies with `rep movsb` here, and callgrind counts that as one instruction per byte, which no
            // processor does.
            process.env("GLIBC_TUNABLES", "glibc.cpu.x86_rep_movsb_threshold=1073741824");
        }
        if kind == Kind::Ustreamer {
            process
                .env("LD_PRELOAD", &self.fakecam)
                .env("FAKECAM_DIR", &frames.dir)
                .env("FAKECAM_FPS", FRAME_RATE.to_string());
        }
        let child = spawn(&mut process, 0).with_context(|| missing(kind, &command[0]))?;
        let mut server = Server { kind, port, process: Process(child), log };
        server.wait_until_listening(Duration::from_secs(if under_callgrind { 60 } else { 15 }))?;
        Ok(server)
    }
}

fn missing(kind: Kind, program: &str) -> String {
    let remedy = match kind {
        Kind::Ours => "build it (cargo build --release) or name it with --pinholed",
        Kind::Ustreamer => "install ustreamer, or run benches/run, or leave it out with --servers",
        Kind::Seed => "install python3 or leave it out with --servers",
    };
    format!("cannot run {program}: {remedy}")
}

fn free_port() -> Result<u16> {
    // Free a moment ago is free enough on loopback: the kernel hands such ports out in turn.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// Starts a child that dies with us, on the given CPU where there is more than one.
fn spawn(command: &mut Command, cpu: usize) -> std::io::Result<Child> {
    let pin = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
    // SAFETY: only async-signal-safe calls between fork and exec, on memory of this closure.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            // Ahead of what else the machine does, compiling say. Refused without root, which costs steadiness only.
            libc::setpriority(libc::PRIO_PROCESS, 0, -10);
            if pin {
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(cpu, &mut set);
                // Refused where this CPU is not ours to use: measuring unpinned is better than not at all.
                libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
            }
            Ok(())
        });
    }
    command.spawn()
}

/// A child process, ended when dropped: asked first, killed two seconds later.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        // SAFETY: the child has not been waited for, so the id is still its own.
        unsafe { libc::kill(self.0.id().cast_signed(), libc::SIGTERM) };
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server.
pub struct Server {
    pub kind: Kind,
    pub port: u16,
    process: Process,
    log: PathBuf,
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    fn wait_until_listening(&mut self, patience: Duration) -> Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.process.0.try_wait()? {
                bail!("{} ended at once ({status}):\n{}", self.kind.name(), self.log_tail());
            }
            if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let seconds = patience.as_secs();
                bail!("{} does not listen after {seconds} s:\n{}", self.kind.name(), self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The last words of a server that has ended, for error messages.
    pub fn obituary(&mut self) -> Option<String> {
        let status = self.process.0.try_wait().ok()??;
        Some(format!("the server has ended ({status}):\n{}", self.log_tail()))
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Starts a load client for this server.
    pub fn load(&self) -> Result<Load> {
        let program = std::env::current_exe().context("where is this program?")?;
        let mut command = Command::new(program);
        command
            .arg("--load-client")
            .arg(format!("127.0.0.1:{}", self.port))
            .arg(self.kind.path())
            .arg(self.kind.clock().name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = spawn(&mut command, 1).context("cannot start the load client")?;
        let input = child.stdin.take().context("load client without input")?;
        let output = BufReader::new(child.stdout.take().context("load client without output")?);
        Ok(Load { input, output, _process: Process(child) })
    }
}

/// The load client. See client.rs for its commands.
pub struct Load {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    // Last, so that a drop closes the pipes first and the client can leave by itself.
    _process: Process,
}

impl Load {
    /// Gives a command and returns the answer, which has to come within `patience`.
    pub fn ask(&mut self, command: &str, patience: Duration) -> Result<Value> {
        writeln!(self.input, "{command}").context("the load client has ended")?;
        // Answers are single lines and asked for one by one, so nothing is ever left in the reader's buffer.
        let mut poll = libc::pollfd { fd: self.output.get_ref().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let timeout = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one valid pollfd is passed.
        let ready = unsafe { libc::poll(&raw mut poll, 1, timeout) };
        ensure!(ready > 0, "no answer to {command:?} within {} s", patience.as_secs());
        let mut line = String::new();
        self.output.read_line(&mut line).context("reading the load client's answer")?;
        ensure!(!line.is_empty(), "the load client ended at {command:?}");
        let value: Value = serde_json::from_str(&line).with_context(|| format!("answer to {command:?}: {line}"))?;
        if let Some(error) = value.get("error").and_then(Value::as_str) {
            bail!("{command}: {error}");
        }
        Ok(value)
    }

    /// Opens viewers and waits until each has its first picture.
    pub fn open(&mut self, what: &str) -> Result<()> {
        self.ask(&format!("open {what}"), Duration::from_mins(1)).map(drop)
    }

    pub fn mark(&mut self) -> Result<()> {
        self.ask("mark", Duration::from_secs(10)).map(drop)
    }

    pub fn report(&mut self) -> Result<Value> {
        self.ask("report", Duration::from_secs(10))
    }
}

/// How to start ustreamer: from the given Debian root through that root's own loader, which leaves it in our network,
/// on our CPU and under our `LD_PRELOAD`; else this machine's.
pub fn find_ustreamer(root: Option<&Path>) -> Result<Vec<String>> {
    let Some(root) = root.filter(|root| root.join("usr/bin/ustreamer").exists()) else {
        return Ok(vec!["ustreamer".to_owned()]);
    };
    let libraries = root.join("usr/lib");
    let entries = std::fs::read_dir(&libraries).with_context(|| format!("cannot read {}", libraries.display()))?;
    for entry in entries.flatten() {
        // The multiarch folder is the one with the C library in it.
        let folder = entry.path();
        if !folder.join("libc.so.6").exists() {
            continue;
        }
        let is_loader =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"));
        let loader = std::fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path())).find(is_loader);
        let Some(loader) = loader else { continue };
        return Ok(vec![
            loader.display().to_string(),
            "--library-path".to_owned(),
            folder.display().to_string(),
            root.join("usr/bin/ustreamer").display().to_string(),
        ]);
    }
    bail!("{} has ustreamer but no C library: remove that folder, benches/run makes it anew", root.display())
}
