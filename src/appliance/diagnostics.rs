//! What the machine can say of itself, for whoever looks for the cause of a trouble.
//!
//! Read when somebody asks, and not in between. The files are a few bytes each, from registers and memory; but what
//! stands behind them is drivers (the firmware of a Pi may be given a second to answer, by its kernel), and the thread
//! that serves viewers must not wait for one: the reading is done on another, by one request at a time. The journal, which
//! only the appliance gives away, is read by a process of its own.

mod clock;
mod mask;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::process::Command;
use tokio::sync::Mutex;

pub use clock::Clock;

use crate::appliance::sensors::{self, Sensor};

/// How long a request waits for the machine's answers before it goes without.
const PATIENCE: Duration = Duration::from_secs(3);
/// The journal is read no more often: that takes a process, and a good part of a second on a Pi Zero.
const JOURNAL_PERIOD: Duration = Duration::from_secs(2);
/// None of the files has more.
const FILE_MAX: u64 = 4096;
/// Characters of a line of the journal.
const LINE_MAX: usize = 500;

/// Where the answers are.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The processor's temperature in thousandths of a degree.
    temperature: PathBuf,
    /// The Pi firmware's bits of what slows it down.
    throttled: PathBuf,
    /// The kernel's files on the processor's clock.
    clock: PathBuf,
    /// What is on the I²C buses.
    i2c: PathBuf,
    /// The board's name, from the device tree.
    model: PathBuf,
    /// Where the appliance notes starts and failures.
    run: PathBuf,
    /// The program that reads the machine's journal, where the machine has no other business than this one.
    journalctl: Option<PathBuf>,
}

impl Sources {
    /// The appliance's places, or those that `PINHOLE_TEMPERATURE`, `PINHOLE_THROTTLED`, `PINHOLE_CPUFREQ`,
    /// `PINHOLE_I2C`, `PINHOLE_MODEL` and `PINHOLE_RUN` name; and `PINHOLE_JOURNALCTL`, which only the appliance sets:
    /// what else a machine has in its journal is nobody's business in the network.
    pub fn from_environment() -> Self {
        let place = |variable: &str, usual: &str| std::env::var_os(variable).unwrap_or_else(|| usual.into()).into();
        Self {
            temperature: place("PINHOLE_TEMPERATURE", "/sys/class/thermal/thermal_zone0/temp"),
            throttled: place("PINHOLE_THROTTLED", "/sys/devices/platform/soc/soc:firmware/get_throttled"),
            clock: place("PINHOLE_CPUFREQ", "/sys/devices/system/cpu/cpu0/cpufreq"),
            i2c: sensors::folder(),
            model: place("PINHOLE_MODEL", "/sys/firmware/devicetree/base/model"),
            run: place("PINHOLE_RUN", "/run/pinhole"),
            journalctl: std::env::var_os("PINHOLE_JOURNALCTL").map(PathBuf::from),
        }
    }
}

/// What could be learned. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// This program.
    pub program: Program,
    /// The machine.
    pub machine: Machine,
    /// Why either started last.
    pub restarts: Restarts,
}

/// A line of the machine's journal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MachineLine {
    /// When, since the machine's start.
    pub monotonic_s: f64,
    /// Who says what: `wpa_supplicant[123]: …`.
    pub text: String,
}

/// This program.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Program {
    /// Memory it has in hand.
    pub resident_bytes: Option<u64>,
    /// The most it has had.
    pub peak_bytes: Option<u64>,
    /// What it has used of the processor.
    pub processor_s: Option<f64>,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// Such as `Raspberry Pi Zero W Rev 1.1`.
    pub model: Option<String>,
    /// The name in the network that is this machine's whatever it is called, such as `pinhole-1a2b`.
    pub unique_name: Option<String>,
    /// The kernel's version.
    pub kernel: Option<String>,
    /// Since it started.
    pub uptime_s: Option<u64>,
    /// Over 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
    /// Its memory.
    pub memory: Option<Memory>,
    /// The processor's clock.
    pub clock: Option<Clock>,
    /// The processor's temperature.
    pub temperature_c: Option<f64>,
    /// What slows it down.
    pub throttling: Option<Throttling>,
    /// The image sensors that the device tree names.
    pub sensors: Vec<Sensor>,
}

/// What sysinfo(2) tells of the memory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Memory {
    /// All the kernel has.
    pub total_bytes: u64,
    /// Used for nothing; the kernel would give up more (files read before) where it is needed.
    pub free_bytes: u64,
    /// The kernel's buffers.
    pub buffers_bytes: u64,
    /// Files in memory: `/run`, `/tmp`, `/var`.
    pub shared_bytes: u64,
}

/// What the Pi's firmware says of power and heat.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Throttling {
    /// As it says it.
    pub bits: String,
    /// What is the matter at this moment.
    pub now: Vec<&'static str>,
    /// What has been: since the start, or since the kernel's driver looked last (every 2 s) where it has one.
    pub recent: Vec<&'static str>,
    /// False for boards that have no means to notice under-voltage; `None` for unknown ones.
    pub sees_under_voltage: Option<bool>,
}

/// Starts and failures, as the appliance's services note them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Restarts {
    /// How often this card has started.
    pub boots: Option<u64>,
    /// Why the machine started.
    pub why_booted: Option<String>,
    /// How the program has failed since, the newest first.
    pub failures: Vec<Failure>,
    /// The last of all of them, if any is known.
    pub last: Option<Restart>,
}

/// One way in which the program has failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// The appliance's word for it.
    pub cause: &'static str,
    /// In a row, less than an hour apart each.
    pub count: u64,
    /// When last.
    pub ago_s: Option<u64>,
}

/// A start that followed an end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Restart {
    /// `program` or `machine`.
    pub of: &'static str,
    /// In words.
    pub why: String,
    /// When.
    pub ago_s: Option<u64>,
}

/// The failures the appliance counts, by `escalate`'s names (mostly systemd's `SERVICE_RESULT`), and what they mean.
const CAUSES: [(&str, &str); 7] = [
    ("watchdog", "a call to the camera did not return"),
    ("frozen", "the program stood still"),
    ("server", "the server did not answer, and the program ended itself"),
    ("oom-kill", "the machine had no memory left"),
    ("core-dump", "the program crashed"),
    ("signal", "the program was ended by a signal"),
    ("timeout", "the program did not start or stop in time"),
];

/// Bits of the firmware's answer; 16 bits higher the same have been.
const THROTTLING: [&str; 4] = ["under-voltage", "frequency capped", "throttled", "temperature limit"];

/// Asks, one request at a time, away from the thread that serves viewers.
#[derive(Debug)]
pub struct Reader {
    sources: Sources,
    busy: Arc<Mutex<()>>,
    journal: Arc<Mutex<Journal>>,
}

/// What the reader of the journal said last.
#[derive(Debug, Default)]
struct Journal {
    /// When it ended, or was given up.
    read: Option<Instant>,
    lines: Option<Arc<[MachineLine]>>,
}

impl Reader {
    /// One that asks there.
    pub fn new(sources: Sources) -> Self {
        Self { sources, busy: Arc::default(), journal: Arc::default() }
    }

    /// The report; `None` where a driver keeps it waiting.
    pub async fn report(&self) -> Option<Report> {
        let sources = self.sources.clone();
        let busy = Arc::clone(&self.busy);
        let reading = async {
            // Held until the reading is over, also where nobody waits for it any more: what hangs, hangs once.
            let busy = busy.lock_owned().await;
            let read = move || {
                let report = sources.report();
                drop(busy);
                report
            };
            actix_rt::task::spawn_blocking(read).await.ok()
        };
        actix_rt::time::timeout(PATIENCE, reading).await.ok().flatten()
    }

    /// The last lines of the machine's journal but this program's, oldest first; `None` where there is none for the network,
    /// or it cannot be read. Whoever asks meanwhile, or within [`JOURNAL_PERIOD`] of another, is told the same; where it takes
    /// too long, what was read before.
    pub async fn journal(&self) -> Option<Arc<[MachineLine]>> {
        let mut reader = Command::new(self.sources.journalctl.as_deref()?);
        let mut journal = Arc::clone(&self.journal).lock_owned().await;
        if journal.read.is_some_and(|read| read.elapsed() < JOURNAL_PERIOD) {
            return journal.lines.clone();
        }
        // Read to its end also where whoever asked goes away: others wait for it.
        let reading = actix_rt::spawn(async move {
            let output = reader
                .args(["--quiet", "--no-pager", "--no-hostname", "--output=short-monotonic", "--lines=200"])
                // It has its own at hand.
                .arg("--exclude-identifier=pinholed")
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .output();
            if let Ok(output) = actix_rt::time::timeout(PATIENCE, output).await {
                let output = output.ok().filter(|output| output.status.success());
                journal.lines = output.map(|output| journal_lines(&String::from_utf8_lossy(&output.stdout)).into());
            }
            journal.read = Some(Instant::now());
            journal.lines.clone()
        });
        reading.await.ok().flatten()
    }
}

impl Sources {
    /// Reads everything.
    pub fn report(&self) -> Report {
        let system = system();
        let model = read(&self.model);
        let uptime = system.map(|system| system.uptime as u64);
        let sees_under_voltage = model.as_deref().and_then(sees_under_voltage);
        Report {
            program: program(),
            machine: Machine {
                unique_name: read(&self.run.join("unique-name")),
                kernel: kernel(),
                uptime_s: uptime,
                load: system.map(|system| system.loads.map(|load| (load as f64 / 655.36).round() / 100.0)),
                memory: system.map(memory),
                clock: clock::read(&self.clock),
                temperature_c: read(&self.temperature).as_deref().and_then(celsius),
                throttling: read(&self.throttled).and_then(|text| throttling(&text, sees_under_voltage)),
                sensors: sensors::list(&self.i2c),
                model,
            },
            restarts: restarts(&self.run, uptime),
        }
    }
}

/// `[    5.123456] systemd[1]: Started …`, one a line. What an entry says in further lines, which are indented, is left out.
fn journal_lines(text: &str) -> Vec<MachineLine> {
    let line = |line: &str| {
        let (when, said) = line.strip_prefix('[')?.split_once("] ")?;
        let text = mask::masked(without_secret(said)).chars().filter(|c| !c.is_control()).take(LINE_MAX).collect();
        Some(MachineLine { monotonic_s: when.trim().parse().ok()?, text })
    };
    text.lines().filter_map(line).collect()
}

/// `wpa_supplicant` quotes what it does not understand of a person's own file, which may be a passphrase without its quotation
/// marks. What it says of the network begins with the interface's name (the kernel's, `wlan0`).
fn without_secret(said: &str) -> &str {
    match said.strip_prefix("wpa_supplicant[").and_then(|rest| rest.split_once("]: ")) {
        Some((_, message)) if !message.starts_with("wlan") => said.split(['\'', '"']).next().unwrap_or_default(),
        _ => said,
    }
}

/// A small file as text without what surrounds it.
fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes)).ok()?;
    // Texts of the device tree end in a NUL.
    let text = String::from_utf8_lossy(&bytes).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned();
    (!text.is_empty()).then_some(text)
}

fn celsius(text: &str) -> Option<f64> {
    let degrees = text.parse::<i32>().ok()? / 100;
    // A sensor that is not there or broken says anything.
    (-1000..2000).contains(&degrees).then(|| f64::from(degrees) / 10.0)
}

/// All Pis since 2014 (B+) measure their supply, but for the Zeros; of compute modules it is not said.
fn sees_under_voltage(model: &str) -> Option<bool> {
    let name = model.strip_prefix("Raspberry Pi ")?;
    let starts = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
    (!starts(&["Compute Module"])).then(|| !starts(&["Zero", "Model A Rev", "Model B Rev"]))
}

fn throttling(text: &str, sees_under_voltage: Option<bool>) -> Option<Throttling> {
    let bits = u32::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()?;
    let words = |bits: u32| THROTTLING.iter().enumerate().filter(move |(n, _)| bits >> n & 1 == 1).map(|(_, w)| *w);
    Some(Throttling {
        bits: format!("{bits:#x}"),
        now: words(bits).collect(),
        recent: words(bits >> 16).collect(),
        sees_under_voltage,
    })
}

fn restarts(run: &Path, uptime: Option<u64>) -> Restarts {
    let boot = read(&run.join("boot")).unwrap_or_default();
    let value = |key: &str| boot.lines().filter_map(|line| line.split_once('=')).find(|(k, _)| k.trim() == key);
    let value = |key: &str| value(key).map(|(_, value)| value.trim()).filter(|value| !value.is_empty());
    let ago = |at: u64| uptime.map(|uptime| uptime.saturating_sub(at));

    let mut failures: Vec<(u64, &str, Failure)> = CAUSES
        .iter()
        .filter_map(|(cause, meaning)| {
            // "count uptime", by `escalate`.
            let text = read(&run.join(cause))?;
            let mut words = text.split_whitespace();
            let (count, at) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            Some((at, *meaning, Failure { cause, count, ago_s: ago(at) }))
        })
        .collect();
    failures.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));

    let boots = value("boots").and_then(|text| text.parse().ok());
    let why_booted = value("why").map(|text| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>());
    // The notes on failures begin anew with each start of the machine, so each of them is the later one.
    let last = match (failures.first(), &why_booted) {
        (Some((_, meaning, failure)), _) => {
            Some(Restart { of: "program", why: (*meaning).to_owned(), ago_s: failure.ago_s })
        }
        (None, Some(why)) => Some(Restart { of: "machine", why: why.clone(), ago_s: uptime }),
        (None, None) => None,
    };
    Restarts { boots, why_booted, failures: failures.into_iter().map(|(.., failure)| failure).collect(), last }
}

/// sysinfo(2): the sandbox shows nothing of `/proc` but processes.
fn system() -> Option<libc::sysinfo> {
    // SAFETY: a sysinfo of zeros is a valid one, and one to write to.
    unsafe {
        let mut system = std::mem::zeroed::<libc::sysinfo>();
        (libc::sysinfo(&raw mut system) == 0).then_some(system)
    }
}

#[allow(clippy::unnecessary_cast, reason = "a c_ulong has 32 bits on the Pi")]
fn memory(system: libc::sysinfo) -> Memory {
    let bytes = |units: libc::c_ulong| units as u64 * u64::from(system.mem_unit.max(1));
    Memory {
        total_bytes: bytes(system.totalram),
        free_bytes: bytes(system.freeram),
        buffers_bytes: bytes(system.bufferram),
        shared_bytes: bytes(system.sharedram),
    }
}

fn kernel() -> Option<String> {
    // SAFETY: a utsname of zeros is a valid one, and one to write to; what uname(2) writes ends in NUL.
    unsafe {
        let mut names = std::mem::zeroed::<libc::utsname>();
        if libc::uname(&raw mut names) != 0 {
            return None;
        }
        Some(std::ffi::CStr::from_ptr(names.release.as_ptr()).to_string_lossy().into_owned())
    }
}

fn program() -> Program {
    // SAFETY: an rusage of zeros is a valid one, and one to write to; sysconf takes a number.
    let (usage, page) = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        ((libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) == 0).then_some(usage), libc::sysconf(libc::_SC_PAGESIZE))
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let pages = read(Path::new("/proc/self/statm")).and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    Program {
        resident_bytes: pages.map(|pages| pages * page.max(0) as u64),
        // In KiB.
        peak_bytes: usage.map(|usage| usage.ru_maxrss as u64 * 1024),
        processor_s: usage.map(|usage| {
            let used = seconds(usage.ru_utime) + seconds(usage.ru_stime);
            (used * 1000.0).round() / 1000.0
        }),
    }
}

#[cfg(test)]
mod tests;
