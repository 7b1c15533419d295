//! What a server costs, read from outside it.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

/// CPU time of the process so far, user and system, all threads dead or alive, in nanoseconds.
///
/// The clock of the process, since `/proc/PID/stat` counts in hundredths of a second and `schedstat` loses the threads
/// that have ended.
pub fn cpu_ns(pid: u32) -> Result<i64> {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both pointers are valid for their call.
    let failed = unsafe {
        libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    ensure!(!failed, "process {pid} has no CPU clock: it has ended");
    Ok(time.tv_sec * 1_000_000_000 + time.tv_nsec)
}

/// How long the servers' CPU (or all, where servers are not pinned) was busy so far, in nanoseconds; stolen time included.
///
/// Less what the server used, it is what else the machine did meanwhile: a look at it tells a slow server from a busy
/// machine.
pub fn machine_busy_ns() -> Result<i64> {
    let pinned = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
    let name = if pinned { "cpu0" } else { "cpu" };
    let stat = read("/proc/stat")?;
    let line = stat.lines().find(|line| line.split(' ').next() == Some(name)).context("/proc/stat without a CPU")?;
    let ticks: Vec<i64> = line.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else {
        bail!("/proc/stat: line not understood: {line:?}");
    };
    // USER_HZ is 100 on every architecture Debian has.
    Ok((user + nice + system + irq + softirq + steal) * 10_000_000)
}

/// A line of `/proc/PID/status` in KB: `VmRSS`, `VmHWM`.
pub fn status_kb(pid: u32, key: &str) -> Result<u64> {
    let status = read(&format!("/proc/{pid}/status"))?;
    status_value(&status, key).with_context(|| format!("/proc/{pid}/status has no {key}"))
}

fn status_value(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn threads(pid: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task");
    let entries = std::fs::read_dir(&path).with_context(|| format!("cannot read {path}: the server has ended"))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Context switches of all threads so far: how often the process was woken (or pushed off its CPU).
pub fn context_switches(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for thread in threads(pid)? {
        // A thread may end between the listing and here.
        let Ok(status) = read(&format!("/proc/{pid}/task/{thread}/status")) else { continue };
        sum += status_value(&status, "voluntary_ctxt_switches").unwrap_or(0);
        sum += status_value(&status, "nonvoluntary_ctxt_switches").unwrap_or(0);
    }
    Ok(sum)
}

/// An event counted by the kernel over all threads of a process, those to come included.
pub struct KernelCounter(Vec<OwnedFd>);

impl KernelCounter {
    /// System calls entered. Costs the server next to nothing, unlike strace.
    pub fn syscalls(pid: u32) -> Result<Self> {
        const TRACEPOINT: u32 = 2;
        let id = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
            .iter()
            .find_map(|root| read(&format!("{root}/events/raw_syscalls/sys_enter/id")).ok())
            .context("the kernel shows no raw_syscalls tracepoint")?;
        Self::open(pid, TRACEPOINT, id.trim().parse().context("tracepoint id")?, 0)
    }

    /// Instructions in user mode, where there is a hardware counter: virtual machines often have none.
    pub fn user_instructions(pid: u32) -> Result<Self> {
        const HARDWARE: u32 = 0;
        const INSTRUCTIONS: u64 = 1;
        const EXCLUDE_KERNEL_AND_HYPERVISOR: u64 = 0b11 << 5;
        Self::open(pid, HARDWARE, INSTRUCTIONS, EXCLUDE_KERNEL_AND_HYPERVISOR)
    }

    fn open(pid: u32, kind: u32, config: u64, flags: u64) -> Result<Self> {
        /// The first published size of `struct perf_event_attr`, which every kernel still takes.
        #[repr(C)]
        #[derive(Default)]
        struct Attributes {
            kind: u32,
            size: u32,
            config: u64,
            sample_period: u64,
            sample_type: u64,
            read_format: u64,
            flags: u64,
            wakeup_events: u32,
            bp_type: u32,
            config1: u64,
        }
        const INHERIT: u64 = 1 << 1;
        const CLOSE_ON_EXEC: u64 = 1 << 3;
        let attributes = Attributes {
            kind,
            size: u32::try_from(size_of::<Attributes>())?,
            config,
            flags: flags | INHERIT,
            ..Attributes::default()
        };
        let mut counters = Vec::new();
        for thread in threads(pid)? {
            // SAFETY: the structure is valid for the call and says its own size; the descriptor is ours alone.
            unsafe {
                let fd = libc::syscall(libc::SYS_perf_event_open, &raw const attributes, thread, -1, -1, CLOSE_ON_EXEC);
                ensure!(fd >= 0, "perf_event_open: {}", std::io::Error::last_os_error());
                counters.push(OwnedFd::from_raw_fd(i32::try_from(fd)?));
            }
        }
        Ok(Self(counters))
    }

    /// Events since the counter was opened.
    pub fn value(&self) -> Result<u64> {
        let mut sum = 0;
        for counter in &self.0 {
            let mut value = 0_u64;
            // SAFETY: the kernel writes eight bytes, the size of `value`.
            let count = unsafe { libc::read(counter.as_raw_fd(), (&raw mut value).cast(), 8) };
            ensure!(count == 8, "reading a kernel counter: {}", std::io::Error::last_os_error());
            sum += value;
        }
        Ok(sum)
    }
}

/// System calls counted by strace, where the kernel's counter may not be used. Slows the server down a lot.
pub struct Strace {
    child: std::process::Child,
    table: PathBuf,
}

impl Strace {
    pub fn attach(pid: u32, folder: &Path) -> Result<Self> {
        let table = folder.join("strace");
        let child = Command::new("strace")
            .args(["-f", "-c", "-U", "calls", "-qq", "-o"])
            .arg(&table)
            .args(["-p", &pid.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("strace: install it, or run as root so that perf_event_open works")?;
        std::thread::sleep(Duration::from_millis(500));
        Ok(Self { child, table })
    }

    /// Detaches; returns the calls counted.
    pub fn finish(mut self) -> Result<u64> {
        // SAFETY: the process is our child and not yet waited for, so the id is still its own.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGINT) };
        self.child.wait().context("strace")?;
        let table =
            std::fs::read_to_string(&self.table).context("strace wrote no table: may it attach to processes?")?;
        let total = table.lines().rev().find_map(|line| line.trim().strip_suffix("total")?.trim().parse().ok());
        total.with_context(|| format!("strace's table has no total:\n{table}"))
    }
}

/// One side of a TCP connection as the kernel shows it.
#[derive(Clone, Copy)]
pub struct SendQueue {
    /// Bytes written by the server and not yet acknowledged.
    pub bytes: u64,
    /// False once the server has closed it, even where the kernel still tries to deliver the rest.
    pub open: bool,
}

/// The server's side of its connections, by the client's port.
pub fn send_queues(server_port: u16) -> Result<HashMap<u16, SendQueue>> {
    const ESTABLISHED: &str = "01";
    let mut queues = HashMap::new();
    for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(table) = std::fs::read_to_string(path) else { continue };
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, remote, state, queue, _, _, _, _, inode, ..] = fields[..] else {
                bail!("{path}: line not understood: {line:?}");
            };
            let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
            if port(local) != Some(server_port) {
                continue;
            }
            let (Some(remote), Some(bytes)) = (port(remote), queue.split(':').next()) else { continue };
            let bytes = u64::from_str_radix(bytes, 16).with_context(|| format!("{path}: {line:?}"))?;
            queues.insert(remote, SendQueue { bytes, open: state == ESTABLISHED && inode != "0" });
        }
    }
    Ok(queues)
}

/// Kernel memory behind each send queue (`sk_wmem_queued`: data and its bookkeeping), by the client's port.
pub fn send_memory(server_port: u16) -> Result<HashMap<u16, u64>> {
    let output = Command::new("ss")
        .args(["-tnmOH", "sport", "=", &format!(":{server_port}")])
        .output()
        .context("ss: install iproute2")?;
    ensure!(output.status.success(), "ss failed: {}", String::from_utf8_lossy(&output.stderr));
    let mut memory = HashMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        // State Recv-Q Send-Q Local:Port Peer:Port … skmem:(r0,rb131072,t0,tb2626560,f0,w0,o0,bl0,d0)
        let port = line.split_whitespace().nth(4).and_then(|peer| peer.rsplit(':').next()?.parse().ok());
        let fields = line.split("skmem:(").nth(1).and_then(|rest| rest.split(')').next());
        let queued =
            fields.and_then(|fields| fields.split(',').find_map(|field| field.strip_prefix('w')?.parse().ok()));
        if let (Some(port), Some(queued)) = (port, queued) {
            memory.insert(port, queued);
        }
    }
    Ok(memory)
}

/// Callgrind's counts for a window of a running server.
pub struct Callgrind {
    pid: u32,
    folder: PathBuf,
}

impl Callgrind {
    /// Arguments to put before the server's own.
    pub fn arguments(folder: &Path) -> Vec<String> {
        vec![
            "--tool=callgrind".to_owned(),
            format!("--callgrind-out-file={}", folder.join("callgrind.%p").display()),
            format!("--vgdb-prefix={}", folder.join("vgdb").display()),
            "--vgdb=yes".to_owned(),
            "--quiet".to_owned(),
        ]
    }

    pub fn new(pid: u32, folder: &Path) -> Self {
        Self { pid, folder: folder.to_path_buf() }
    }

    fn command(&self, command: &str) -> Result<()> {
        let output = Command::new("vgdb")
            .arg(format!("--vgdb-prefix={}", self.folder.join("vgdb").display()))
            .arg(format!("--pid={}", self.pid))
            .arg(command)
            .output()
            .context("vgdb: install valgrind")?;
        ensure!(output.status.success(), "vgdb {command} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// Starts counting anew: what came before, start-up above all, is forgotten.
    pub fn zero(&self) -> Result<()> {
        self.command("zero")
    }

    /// Instructions executed in user mode since `zero`.
    pub fn instructions(&self) -> Result<u64> {
        let before = self.dumps()?;
        self.command("dump")?;
        let name = self.dumps()?.into_iter().find(|name| !before.contains(name)).context("callgrind wrote no dump")?;
        let text = std::fs::read_to_string(&name).with_context(|| format!("cannot read {}", name.display()))?;
        let total = text.lines().find_map(|line| {
            let rest = line.strip_prefix("summary:").or_else(|| line.strip_prefix("totals:"))?;
            rest.trim().parse().ok()
        });
        total.with_context(|| format!("{} has no total", name.display()))
    }

    fn dumps(&self) -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(&self.folder).context("reading callgrind's folder")?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let prefix = format!("callgrind.{}.", self.pid);
        let is_dump = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
        Ok(paths.filter(is_dump).collect())
    }
}
