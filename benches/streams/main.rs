//! Stream benchmark: what `pinholed` costs per frame and viewer, beside ustreamer and a Python server like the seed.
//!
//! All servers are fed the same JPEG files at 30 fps: ours by its replay source, ustreamer by a fake V4L2 camera
//! (tests/instruments/fakecam.c), the Python one by itself. The servers run on CPU 0, the load client, a process of its
//! own, on CPU 1, where there are two. One server runs at a time; each scenario takes them in turn, in several rounds.
//!
//! Run it with `benches/run`, which installs what this needs, or `cargo bench --bench streams -- --help`.

mod client;
mod frames;
mod measure;
mod plan;
mod report;
mod servers;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use plan::{FrameSets, Plan, Results, Scenario, Times};
use servers::{Kind, Programs};

const HELP: &str = "\
cargo bench --bench streams -- [OPTIONS]

  --quick                less time per measurement; slow viewers' ages of the peers come out too small
  --seconds N            measured per server and scenario, all rounds together (12; quick: 3)
  --rounds N             rounds of the scenarios n1 to hd16, each with fresh servers (3; quick: 1)
  --servers A,B          of ours, ustreamer, seed (all)
  --scenario A,B         of n1, n16, n64, n128, hd16, instructions, idle, stalled, slow (all)
  --idle-wait N          seconds without a viewer before idling is measured (10; quick: 8)
  --stall N              seconds a stalled viewer is watched at most (40; quick: 20)
  --slow-wait N          seconds before slow viewers' ages are measured (20; quick: 6)
  --pinholed PATH        our daemon (the one cargo builds)
  --ustreamer-root DIR   a Debian root folder with ustreamer; without one, this machine's ustreamer
                         (PINHOLE_CACHE's or ~/.cache/pinhole's bench-root, if it is there)
  --json PATH            where the figures go as JSON (target/bench/streams.json; PINHOLE_BENCH_JSON)
  --check                compare with what is promised; exit 1 where that is missed

Exit status: 0 all measured, 1 a promise missed (--check), 2 something could not be measured.
";

struct Options {
    times: Times,
    servers: Vec<Kind>,
    scenarios: Vec<Scenario>,
    pinholed: PathBuf,
    ustreamer_root: Option<PathBuf>,
    json: PathBuf,
    check: bool,
}

/// The folder cargo builds into: its `CARGO_TARGET_TMPDIR` is `target/tmp`.
fn target_dir() -> &'static Path {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().unwrap_or(tmp)
}

fn options(arguments: &[String]) -> Result<Options> {
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let pick = |normal, short| if quick { short } else { normal };
    let cache = std::env::var_os("PINHOLE_CACHE").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        home.map(|home| home.join("pinhole"))
    });
    let mut options = Options {
        times: Times {
            seconds: pick(12.0, 3.0),
            rounds: if quick { 1 } else { 3 },
            warm_up: pick(1.5, 1.0),
            idle_wait: pick(10.0, 8.0),
            stall: pick(40.0, 20.0),
            slow_wait: pick(20.0, 6.0),
        },
        servers: Kind::ALL.to_vec(),
        scenarios: Scenario::ALL.to_vec(),
        pinholed: option_env!("CARGO_BIN_EXE_pinholed")
            .map_or_else(|| target_dir().join("release/pinholed"), PathBuf::from),
        ustreamer_root: cache.map(|cache| cache.join("bench-root")),
        json: std::env::var_os("PINHOLE_BENCH_JSON")
            .map_or_else(|| target_dir().join("bench/streams.json"), PathBuf::from),
        check: false,
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        let times = &mut options.times;
        match argument.as_str() {
            "--quick" | "--bench" => {}
            "--check" => options.check = true,
            "--seconds" => times.seconds = seconds(argument, value()?)?,
            "--idle-wait" => times.idle_wait = seconds(argument, value()?)?,
            "--stall" => times.stall = seconds(argument, value()?)?,
            "--slow-wait" => times.slow_wait = seconds(argument, value()?)?,
            "--rounds" => {
                let rounds = value()?.parse().ok().filter(|rounds| (1..=100).contains(rounds));
                times.rounds = rounds.context("--rounds must be between 1 and 100")?;
            }
            "--servers" => options.servers = choose(argument, value()?, &Kind::ALL, |kind| kind.name().to_owned())?,
            "--scenario" => options.scenarios = choose(argument, value()?, &Scenario::ALL, Scenario::name)?,
            "--pinholed" => options.pinholed = value()?.into(),
            "--ustreamer-root" => options.ustreamer_root = Some(value()?.into()),
            "--json" => options.json = value()?.into(),
            _ => bail!("no option {argument}; see --help"),
        }
    }
    // Servers run in a folder of their own: relative paths would be looked for there.
    options.pinholed = std::path::absolute(&options.pinholed)?;
    options.ustreamer_root = options.ustreamer_root.map(std::path::absolute).transpose()?;
    Ok(options)
}

fn seconds(option: &str, text: &str) -> Result<f64> {
    let value = text.parse().ok().filter(|value| (0.5..=600.0).contains(value));
    value.with_context(|| format!("{option} must be between 0.5 and 600 seconds, got {text:?}"))
}

/// Items of `all` named in a list with commas, in the order of `all`.
fn choose<T: Copy>(option: &str, list: &str, all: &[T], name: impl Fn(T) -> String) -> Result<Vec<T>> {
    let wanted: Vec<&str> = list.split(',').map(str::trim).collect();
    let names: Vec<String> = all.iter().map(|item| name(*item)).collect();
    if let Some(unknown) = wanted.iter().find(|wanted| !names.iter().any(|name| name == *wanted)) {
        bail!("{option}: no {unknown:?}; there are {}", names.join(", "));
    }
    Ok(all.iter().copied().filter(|item| wanted.contains(&name(*item).as_str())).collect())
}

/// A folder for everything written during the run, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        // Not /tmp: valgrind's pipes and the frames belong where `cargo clean` finds them if we are killed.
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("streams-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        // Interrupted, the folder goes too. The children die with us: see servers.rs.
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot handle signals")?;
        let doomed = path.clone();
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                let _ = std::fs::remove_dir_all(&doomed);
                std::process::exit(128 + signal);
            }
        });
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on it being gone.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn build_fakecam(folder: &Path) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/instruments/fakecam.c");
    let library = folder.join("fakecam.so");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let status = Command::new(&compiler)
        .args(["-O2", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .args(["-lpthread", "-ldl"])
        .status()
        .with_context(|| {
            format!("cannot run {compiler}: install a C compiler, or leave ustreamer out with --servers")
        })?;
    ensure!(status.success(), "{compiler} could not build {}", source.display());
    Ok(library)
}

fn find_python() -> PathBuf {
    // Debian's own first: `python3` may be a version manager's script.
    let debian = PathBuf::from("/usr/bin/python3");
    if debian.exists() { debian } else { "python3".into() }
}

fn machine() -> serde_json::Value {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    json!({
        "cpu": model.map(str::trim),
        "cpus": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "architecture": std::env::consts::ARCH,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_average_at_start": read("/proc/loadavg").split(' ').next(),
    })
}

fn run(options: &Options) -> Result<ExitCode> {
    let scratch = Scratch::new()?;
    let folder = &scratch.0;
    let uses = |kind| options.servers.contains(&kind);
    let programs = Programs {
        pinholed: options.pinholed.clone(),
        ustreamer: servers::find_ustreamer(options.ustreamer_root.as_deref())?,
        fakecam: if uses(Kind::Ustreamer) { build_fakecam(folder)? } else { PathBuf::new() },
        seed: Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/streams/seed.py"),
        python: find_python(),
        folder: folder.clone(),
    };
    let mut versions = serde_json::Map::new();
    for kind in &options.servers {
        versions.insert(kind.name().to_owned(), programs.version(*kind)?.into());
    }
    let frames = FrameSets {
        small: frames::generate(&folder.join("640x480"), 640, 480, 30_000)?,
        large: frames::generate(&folder.join("1280x720"), 1280, 720, 90_000)?,
    };
    let settings = json!({
        "machine": machine(),
        "versions": versions,
        "frame_rate": servers::FRAME_RATE,
        "seconds": options.times.seconds,
        "rounds": options.times.rounds,
        "frames": { "small_mean_bytes": frames.small.mean_bytes, "large_mean_bytes": frames.large.mean_bytes },
    });
    println!("{settings:#}");

    let plan = Plan { programs: &programs, frames: &frames, times: &options.times, servers: &options.servers };
    let mut results = Results::default();
    for scenario in &options.scenarios {
        plan.run(*scenario, &mut results);
    }

    println!("{}", report::table(&results, &options.scenarios, &options.servers, &frames));
    for note in &results.notes {
        println!("note: {note}");
    }
    let document = report::json(&results, &options.scenarios, &settings, &frames);
    if let Some(parent) = options.json.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    std::fs::write(&options.json, format!("{document:#}\n"))
        .with_context(|| format!("cannot write {}", options.json.display()))?;
    println!("figures as JSON: {}", options.json.display());

    let mut code = ExitCode::SUCCESS;
    if options.check {
        let (text, missed) = report::check(&results, &options.scenarios);
        print!("\n{text}");
        if missed > 0 {
            println!("{missed} missed");
            code = ExitCode::from(1);
        }
    }
    for failure in &results.failures {
        eprintln!("could not be measured: {failure}");
        code = ExitCode::from(2);
    }
    Ok(code)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    let result = if arguments.first().is_some_and(|first| first == "--load-client") {
        client::main(&arguments[1..]).map(|()| ExitCode::SUCCESS)
    } else if has("--help") {
        print!("{HELP}");
        Ok(ExitCode::SUCCESS)
    } else if !has("--bench") {
        // `cargo test --all-targets` and nextest run benches too: minutes of measuring are not what they want.
        println!("nothing measured: run benches/run or `cargo bench --bench streams`");
        Ok(ExitCode::SUCCESS)
    } else {
        options(&arguments).and_then(|options| run(&options))
    };
    result.unwrap_or_else(|error| {
        eprintln!("streams: {error:#}");
        ExitCode::from(2)
    })
}
