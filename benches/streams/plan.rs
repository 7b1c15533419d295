//! What is measured, in which order, and the figures that come out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::frames::Frames;
use crate::measure::{self, Callgrind, KernelCounter, Strace};
use crate::servers::{FRAME_RATE, Kind, Programs, Server};

/// Good viewers in the scenarios with bad ones beside them, and how many of those.
const GOOD: usize = 8;
const BAD: usize = 4;
/// Viewers while instructions are counted.
const CALLGRIND_VIEWERS: usize = 16;

/// How long things take.
pub struct Times {
    /// Measured per server and scenario, all rounds together.
    pub seconds: f64,
    /// Rounds, each with fresh servers: what else the machine does then hits all servers alike.
    pub rounds: u32,
    /// Streaming before a measurement starts.
    pub warm_up: f64,
    /// Without a viewer, before idling is measured: longer than `camera.idle_after`.
    pub idle_wait: f64,
    /// How long a stalled viewer is watched at most.
    pub stall: f64,
    /// Slow viewers before their pictures' age is measured: the peers' queues take that long to fill.
    pub slow_wait: f64,
}

/// What can be asked for with `--scenario`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scenario {
    /// So many viewers, small pictures or large ones.
    Viewers {
        count: usize,
        large: bool,
    },
    /// User instructions by callgrind.
    Instructions,
    Idle,
    Stalled,
    Slow,
}

impl Scenario {
    pub const ALL: [Self; 9] = [
        Self::Viewers { count: 1, large: false },
        Self::Viewers { count: 16, large: false },
        Self::Viewers { count: 64, large: false },
        Self::Viewers { count: 128, large: false },
        Self::Viewers { count: 16, large: true },
        Self::Instructions,
        Self::Idle,
        Self::Stalled,
        Self::Slow,
    ];

    pub fn name(self) -> String {
        match self {
            Self::Viewers { count, large: false } => format!("n{count}"),
            Self::Viewers { count, large: true } => format!("hd{count}"),
            Self::Instructions => "instructions".to_owned(),
            Self::Idle => "idle".to_owned(),
            Self::Stalled => "stalled".to_owned(),
            Self::Slow => "slow".to_owned(),
        }
    }

    pub fn title(self, frames: &FrameSets) -> String {
        let set = frames.of(self);
        let size = format!("{}x{} ({:.0} KB)", set.width, set.height, set.mean_bytes / 1000.0);
        match self {
            Self::Viewers { count, .. } => format!("{size}, N = {count}"),
            Self::Instructions => format!("{size}, N = {CALLGRIND_VIEWERS} under callgrind"),
            Self::Idle => "no viewer, after one has left".to_owned(),
            Self::Stalled => format!("{size}, {GOOD} good viewers beside {BAD} stalled"),
            Self::Slow => format!("{size}, {GOOD} good viewers beside {BAD} at half rate"),
        }
    }
}

/// The two folders of pictures.
pub struct FrameSets {
    pub small: Frames,
    pub large: Frames,
}

impl FrameSets {
    fn of(&self, scenario: Scenario) -> &Frames {
        if matches!(scenario, Scenario::Viewers { large: true, .. }) { &self.large } else { &self.small }
    }
}

/// Figures of one server in one scenario, by the names in report.rs. `None`: not measurable here, as the notes say.
pub type Figures = BTreeMap<&'static str, Option<f64>>;

/// Everything measured.
#[derive(Default)]
pub struct Results {
    pub figures: Vec<(Scenario, Kind, Figures)>,
    /// What was not measured, or with lesser means.
    pub notes: Vec<String>,
    /// Scenarios that failed outright.
    pub failures: Vec<String>,
}

impl Results {
    pub fn get(&self, scenario: &str, kind: Kind, figure: &str) -> Option<f64> {
        let (_, _, figures) = self.figures.iter().find(|(at, server, _)| at.name() == scenario && *server == kind)?;
        figures.get(figure).copied().flatten()
    }

    fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }
}

/// A run of the benchmark.
pub struct Plan<'a> {
    pub programs: &'a Programs,
    pub frames: &'a FrameSets,
    pub times: &'a Times,
    pub servers: &'a [Kind],
}

impl Plan<'_> {
    pub fn run(&self, scenario: Scenario, results: &mut Results) {
        let rounds = if matches!(scenario, Scenario::Viewers { .. }) { self.times.rounds } else { 1 };
        let mut samples: Vec<(Kind, Vec<Figures>)> = self.servers.iter().map(|kind| (*kind, Vec::new())).collect();
        for round in 0..rounds {
            // Another server goes first in each round.
            for turn in 0..samples.len() {
                let index = (turn + round as usize) % samples.len();
                let (kind, sample) = &mut samples[index];
                eprintln!("{}: {} ({}/{rounds})", scenario.name(), kind.name(), round + 1);
                match self.once(scenario, *kind, round == 0, results) {
                    Ok(figures) => sample.push(figures),
                    Err(error) => {
                        let failure = format!("{}, {}: {error:#}", scenario.name(), kind.name());
                        eprintln!("  failed: {failure}");
                        results.failures.push(failure);
                    }
                }
            }
        }
        for (kind, sample) in samples {
            if !sample.is_empty() {
                results.figures.push((scenario, kind, combine(&sample)));
            }
        }
    }

    fn once(&self, scenario: Scenario, kind: Kind, first_round: bool, results: &mut Results) -> Result<Figures> {
        let under_callgrind = scenario == Scenario::Instructions;
        let frames = self.frames.of(scenario);
        let mut server = self.programs.start(kind, frames, under_callgrind)?;
        let (start, busy) = (Instant::now(), measure::machine_busy_ns()?);
        let cpu = measure::cpu_ns(server.pid())?;
        let outcome = match scenario {
            Scenario::Viewers { count, .. } => self.viewers(&server, frames, count, first_round, results),
            Scenario::Instructions => self.instructions(&server, frames),
            Scenario::Idle => self.idle(&server),
            Scenario::Stalled => self.stalled(&server, frames, results),
            Scenario::Slow => self.slow(&server, frames, results),
        };
        let mut figures = outcome.map_err(|error| match server.obituary() {
            Some(words) => error.context(words),
            None => error,
        })?;
        let cpu = measure::cpu_ns(server.pid())? - cpu;
        let others = (measure::machine_busy_ns()? - busy - cpu).max(0) as f64;
        figures.insert("others_cpu_percent", Some(others / 1e7 / start.elapsed().as_secs_f64()));
        Ok(figures)
    }

    fn viewers(
        &self,
        server: &Server,
        frames: &Frames,
        count: usize,
        first_round: bool,
        results: &mut Results,
    ) -> Result<Figures> {
        let pid = server.pid();
        let mut figures = Figures::new();
        let mut load = server.load()?;
        load.open(&format!("good {count}"))?;
        sleep(self.times.warm_up);

        load.mark()?;
        let cpu = measure::cpu_ns(pid)?;
        sleep(self.times.seconds / f64::from(self.times.rounds));
        let cpu = measure::cpu_ns(pid)? - cpu;
        let report = load.report()?;
        let good = Group::of(&report, "good", results)?;
        good.expect(frames)?;
        figures.insert("cpu_us", Some(cpu as f64 / 1000.0 / good.frames));
        good.delivery(&mut figures);
        figures.insert("rss_peak_kb", Some(measure::status_kb(pid, "VmHWM")? as f64));

        // Counted apart, so that counting does not show in the CPU time, and once: these figures hardly vary.
        if first_round {
            let window = (self.times.seconds / 3.0).clamp(1.0, 5.0);
            figures.insert("syscalls", Some(self.syscalls(pid, &mut load, window, results)?));
            match KernelCounter::user_instructions(pid) {
                Ok(counter) => {
                    load.mark()?;
                    sleep(window);
                    let value = counter.value()? as f64;
                    let frames = Group::of(&load.report()?, "good", results)?.frames;
                    figures.insert("instructions_hw", Some(value / frames));
                }
                Err(error) => results.note(format!("no hardware counter of user instructions here ({error:#})")),
            }
        }
        Ok(figures)
    }

    fn syscalls(&self, pid: u32, load: &mut crate::servers::Load, window: f64, results: &mut Results) -> Result<f64> {
        let calls = match KernelCounter::syscalls(pid) {
            Ok(counter) => {
                load.mark()?;
                let before = counter.value()?;
                sleep(window);
                counter.value()? - before
            }
            Err(error) => {
                results.note(format!("system calls counted by strace, which disturbs ({error:#})"));
                let strace = Strace::attach(pid, &self.programs.folder)?;
                load.mark()?;
                sleep(window);
                strace.finish()?
            }
        };
        Ok(calls as f64 / Group::of(&load.report()?, "good", results)?.frames)
    }

    fn instructions(&self, server: &Server, frames: &Frames) -> Result<Figures> {
        let mut load = server.load()?;
        load.open(&format!("good {CALLGRIND_VIEWERS}"))?;
        // Valgrind translates each piece of code as it is first run.
        sleep(self.times.warm_up + 2.0);
        let callgrind = Callgrind::new(server.pid(), &self.programs.folder);
        callgrind.zero()?;
        load.mark()?;
        // Both commands reach the server some milliseconds late: the longer between them, the better.
        sleep(self.times.seconds.max(5.0));
        let instructions = callgrind.instructions()?;
        let report = load.report()?;
        let good = Group::of(&report, "good", &mut Results::default())?;
        good.expect(frames)?;
        let mut figures = Figures::new();
        figures.insert("instructions", Some(instructions as f64 / good.frames));
        // Far below 30 the server could not keep up under valgrind, and per-frame costs are shared by fewer viewers.
        figures.insert("fps_mean", good.fps_mean);
        Ok(figures)
    }

    fn idle(&self, server: &Server) -> Result<Figures> {
        let mut load = server.load()?;
        load.open("good 1")?;
        drop(load);
        sleep(self.times.idle_wait);
        let pid = server.pid();
        let start = Instant::now();
        let (cpu, switches) = (measure::cpu_ns(pid)?, measure::context_switches(pid)?);
        sleep(self.times.seconds.max(5.0));
        let seconds = start.elapsed().as_secs_f64();
        let (cpu, switches) = (measure::cpu_ns(pid)? - cpu, measure::context_switches(pid)? - switches);
        let mut figures = Figures::new();
        figures.insert("idle_cpu_ms", Some(cpu as f64 / 1e6 / seconds));
        figures.insert("idle_wakeups", Some(switches as f64 / seconds));
        Ok(figures)
    }

    fn stalled(&self, server: &Server, frames: &Frames, results: &mut Results) -> Result<Figures> {
        let pid = server.pid();
        let mut figures = Figures::new();
        let mut load = server.load()?;
        load.open(&format!("good {GOOD}"))?;
        sleep(self.times.warm_up);
        load.mark()?;
        sleep(3.0);
        figures.insert("fps_before", Group::of(&load.report()?, "good", results)?.fps_min);
        let rss_before = measure::status_kb(pid, "VmRSS")?;
        load.open(&format!("stalled {BAD}"))?;
        load.mark()?;
        let start = Instant::now();

        let report = load.report()?;
        let ports: Vec<u16> = (report["stalled"].as_array().into_iter().flatten())
            .filter_map(|viewer| viewer["port"].as_u64()?.try_into().ok())
            .collect();
        ensure!(ports.len() == BAD, "the load client named {} stalled viewers, not {BAD}", ports.len());
        let (mut rss, mut bytes, mut memory) = (rss_before, 0, Some(0));
        let mut dropped_after = None;
        while start.elapsed().as_secs_f64() < self.times.stall {
            sleep(0.25);
            rss = rss.max(measure::status_kb(pid, "VmRSS")?);
            let queues = measure::send_queues(server.port)?;
            let of = |port: &u16| queues.get(port).map_or(0, |queue| queue.bytes);
            bytes = bytes.max(ports.iter().map(of).max().unwrap_or(0));
            match measure::send_memory(server.port) {
                Ok(all) => {
                    let largest = ports.iter().filter_map(|port| all.get(port)).max().copied().unwrap_or(0);
                    memory = memory.map(|memory: u64| memory.max(largest));
                }
                Err(error) => {
                    memory = None;
                    results.note(format!("kernel memory of send queues not read ({error:#})"));
                }
            }
            // What counts is that the server let go of it. Its data may stay in the kernel a while longer.
            if !ports.iter().any(|port| queues.get(port).is_some_and(|queue| queue.open)) {
                dropped_after = Some(start.elapsed().as_secs_f64());
                break;
            }
        }
        // A drop must not hurt the others either.
        sleep(1.0);
        let good = Group::of(&load.report()?, "good", results)?;
        good.expect(frames)?;
        good.delivery(&mut figures);
        figures.insert("rss_growth_kb", Some(rss.saturating_sub(rss_before) as f64 / BAD as f64));
        figures.insert("send_queue_kb", Some(bytes as f64 / 1024.0));
        figures.insert("send_memory_kb", memory.map(|memory| memory as f64 / 1024.0));
        figures.insert("dropped_after_s", dropped_after);
        Ok(figures)
    }

    fn slow(&self, server: &Server, frames: &Frames, results: &mut Results) -> Result<Figures> {
        let mut figures = Figures::new();
        let mut load = server.load()?;
        load.open(&format!("good {GOOD}"))?;
        sleep(self.times.warm_up);
        // The pictures alone: the servers' part headers differ by some ten bytes of 30,000.
        let rate = frames.mean_bytes * f64::from(FRAME_RATE) / 2.0;
        load.open(&format!("slow {BAD} {rate:.0}"))?;
        sleep(self.times.slow_wait);
        load.mark()?;
        sleep(self.times.seconds.max(5.0));
        let report = load.report()?;
        let good = Group::of(&report, "good", results)?;
        good.expect(frames)?;
        good.delivery(&mut figures);
        let slow = Group::of(&report, "slow", results)?;
        figures.insert("slow_age_p50_s", slow.age_p50_us.map(|age| age / 1e6));
        figures.insert("slow_age_p99_s", slow.age_p99_us.map(|age| age / 1e6));
        figures.insert("slow_fps_mean", slow.fps_mean);
        Ok(figures)
    }
}

/// A kind of viewers in the load client's report.
struct Group {
    frames: f64,
    bytes: f64,
    fps_min: Option<f64>,
    fps_mean: Option<f64>,
    age_p50_us: Option<f64>,
    age_p99_us: Option<f64>,
}

impl Group {
    fn of(report: &Value, name: &str, results: &mut Results) -> Result<Self> {
        let group = &report[name];
        let number = |key: &str| group[key].as_f64();
        let closed: Vec<&Value> = group["closed"].as_array().into_iter().flatten().collect();
        ensure!(closed.is_empty(), "{} of the {name} viewers lost the stream: {}", closed.len(), closed[0]);
        let frames = number("frames").unwrap_or(0.0);
        ensure!(frames > 0.0, "the {name} viewers got no picture");
        let unstamped = number("unstamped").unwrap_or(0.0);
        ensure!(unstamped < frames, "no picture of the {name} viewers has a capture time");
        if unstamped > 0.0 {
            results.note(format!("{unstamped} of {frames} pictures had no capture time and are left out of latencies"));
        }
        let step = report["clock_step_us"].as_f64().unwrap_or(0.0);
        if step.abs() > 500.0 {
            results
                .note(format!("the wall clock was stepped by {step} µs in a measurement: latencies of ours are off"));
        }
        Ok(Self {
            frames,
            bytes: number("bytes").unwrap_or(0.0),
            fps_min: number("fps_min"),
            fps_mean: number("fps_mean"),
            age_p50_us: number("age_p50_us"),
            age_p99_us: number("age_p99_us"),
        })
    }

    /// A server that sends something else, a placeholder say, must not look cheap.
    fn expect(&self, frames: &Frames) -> Result<()> {
        let (mean, wanted) = (self.bytes / self.frames, frames.mean_bytes);
        let right = (0.8 * wanted..1.25 * wanted).contains(&mean);
        ensure!(right, "the viewers got {mean:.0} bytes a picture instead of {wanted:.0}: a placeholder?");
        Ok(())
    }

    fn delivery(&self, figures: &mut Figures) {
        figures.insert("fps_min", self.fps_min);
        figures.insert("fps_mean", self.fps_mean);
        figures.insert("latency_p50_ms", self.age_p50_us.map(|age| age / 1000.0));
        figures.insert("latency_p99_ms", self.age_p99_us.map(|age| age / 1000.0));
    }
}

/// Rounds into one: the median; for bounds that must hold always, the worst.
fn combine(rounds: &[Figures]) -> Figures {
    let mut combined = Figures::new();
    for name in rounds.iter().flat_map(|figures| figures.keys()) {
        let mut values: Vec<f64> = rounds.iter().filter_map(|figures| figures.get(name).copied().flatten()).collect();
        values.sort_by(f64::total_cmp);
        let value = match *name {
            "fps_min" => values.first().copied(),
            "rss_peak_kb" | "others_cpu_percent" => values.last().copied(),
            _ if values.is_empty() => None,
            _ => Some(f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])),
        };
        combined.insert(name, value);
    }
    combined
}

fn sleep(seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(seconds));
}
