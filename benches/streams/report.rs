//! The table, the JSON, and the comparison with what the project promises.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::plan::{FrameSets, Results, Scenario};
use crate::servers::Kind;

/// Figure, what a person reads, digits after the point; in the table's order.
const ROWS: &[(&str, &str, usize)] = &[
    ("cpu_us", "CPU per frame per viewer, µs", 1),
    ("syscalls", "system calls per frame per viewer", 2),
    ("instructions", "user instructions per frame per viewer", 0),
    ("instructions_hw", "the same by the hardware's counter", 0),
    ("idle_cpu_ms", "CPU, ms per second", 2),
    ("idle_wakeups", "wake-ups per second", 1),
    ("fps_before", "fps, worst good viewer, before", 2),
    ("fps_min", "fps, worst good viewer", 2),
    ("fps_mean", "fps, mean of the good viewers", 2),
    ("latency_p50_ms", "capture to client, p50, ms", 2),
    ("latency_p99_ms", "capture to client, p99, ms", 2),
    ("rss_peak_kb", "peak RSS, KB", 0),
    ("rss_growth_kb", "RSS growth per stalled viewer, KB", 0),
    ("send_queue_kb", "send queue per stalled viewer, KB", 0),
    ("send_memory_kb", "kernel memory of that queue, KB", 0),
    ("dropped_after_s", "stalled viewers dropped after, s", 1),
    ("slow_age_p50_s", "age of slow viewers' pictures, p50, s", 2),
    ("slow_age_p99_s", "age of slow viewers' pictures, p99, s", 2),
    ("slow_fps_mean", "fps of slow viewers", 2),
    ("others_cpu_percent", "others' use of the server's CPU, %", 0),
];

enum Limit {
    AtLeast(f64),
    AtMost(f64),
    /// Ours is at most so many times ustreamer's.
    OfPeer(f64),
    /// Any value: it happened.
    Happened,
}
use Limit::{AtLeast, AtMost, Happened, OfPeer};

/// What is promised (issue 2, "Must show" 3 to 5): point and words, scenario, figure, limit.
const PROMISES: &[(&str, &str, &str, Limit)] = &[
    ("3: 128 viewers, fps of the worst", "n128", "fps_min", AtLeast(29.5)),
    ("3: fps of the worst good viewer beside stalled ones", "stalled", "fps_min", AtLeast(29.5)),
    ("3: RSS growth per stalled viewer, KB", "stalled", "rss_growth_kb", AtMost(512.0)),
    ("3: send queue per stalled viewer, KB", "stalled", "send_queue_kb", AtMost(256.0)),
    ("3: kernel memory of that queue, KB", "stalled", "send_memory_kb", AtMost(256.0)),
    ("3: stalled viewers are dropped, after s", "stalled", "dropped_after_s", Happened),
    ("4: age of slow viewers' pictures, p50, s", "slow", "slow_age_p50_s", AtMost(0.45)),
    ("5: CPU, N = 1, part of ustreamer's", "n1", "cpu_us", OfPeer(0.55)),
    ("5: CPU, N = 16, part of ustreamer's", "n16", "cpu_us", OfPeer(0.45)),
    ("5: CPU, N = 64, part of ustreamer's", "n64", "cpu_us", OfPeer(0.45)),
    ("5: CPU, N = 128, part of ustreamer's", "n128", "cpu_us", OfPeer(0.45)),
    ("5: CPU, 1280x720, N = 16, part of ustreamer's", "hd16", "cpu_us", OfPeer(0.45)),
    ("5: system calls, N = 16", "n16", "syscalls", AtMost(1.5)),
    ("5: user instructions, N = 16", "instructions", "instructions", AtMost(6000.0)),
    ("5: CPU without a viewer, ms per second", "idle", "idle_cpu_ms", AtMost(1.0)),
    ("5: wake-ups per second without a viewer", "idle", "idle_wakeups", AtMost(10.0)),
];

/// Ours by ustreamer's, where both were measured, the latter is not nothing, and the figure is the server's doing.
fn ratio(results: &Results, scenario: &str, figure: &str) -> Option<f64> {
    if figure.contains("fps") || figure == "others_cpu_percent" {
        return None;
    }
    let peer = results.get(scenario, Kind::Ustreamer, figure)?;
    (peer > 0.0).then_some(results.get(scenario, Kind::Ours, figure)? / peer)
}

pub fn table(results: &Results, scenarios: &[Scenario], servers: &[Kind], frames: &FrameSets) -> String {
    let mut text = String::new();
    for scenario in scenarios {
        let name = scenario.name();
        let _ = write!(text, "\n{:<56}", scenario.title(frames));
        for kind in servers {
            let _ = write!(text, "{:>12}", kind.name());
        }
        let _ = writeln!(text, "{:>17}", "ours/ustreamer");
        for (figure, label, digits) in ROWS {
            let mut present = results.figures.iter().filter(|(at, ..)| at == scenario);
            if !present.any(|(_, _, figures)| figures.contains_key(figure)) {
                continue;
            }
            let _ = write!(text, "  {label:<54}");
            for kind in servers {
                let cell = match results.get(&name, *kind, figure) {
                    Some(value) => format!("{value:.digits$}"),
                    None if *figure == "dropped_after_s" => "never".to_owned(),
                    None => "-".to_owned(),
                };
                let _ = write!(text, "{cell:>12}");
            }
            let cell = ratio(results, &name, figure).map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let _ = writeln!(text, "{cell:>17}");
        }
    }
    text
}

pub fn json(results: &Results, scenarios: &[Scenario], settings: &Value, frames: &FrameSets) -> Value {
    let mut measured = Map::new();
    for scenario in scenarios {
        let name = scenario.name();
        let mut entry = Map::new();
        entry.insert("title".to_owned(), scenario.title(frames).into());
        let mut ratios = Map::new();
        for (at, kind, figures) in &results.figures {
            if at == scenario {
                entry.insert(kind.name().to_owned(), json!(figures));
                for figure in figures.keys() {
                    if let Some(ratio) = ratio(results, &name, figure) {
                        ratios.insert((*figure).to_owned(), ratio.into());
                    }
                }
            }
        }
        entry.insert("ours_by_ustreamer".to_owned(), ratios.into());
        measured.insert(name, entry.into());
    }
    json!({
        "settings": settings,
        "scenarios": measured,
        "notes": results.notes,
        "failures": results.failures,
    })
}

/// The promises about the scenarios that ran, one line each; and how many were missed.
///
/// Promises "as a part of ustreamer's" need ustreamer: without it they count as missed, for nothing was shown.
pub fn check(results: &Results, scenarios: &[Scenario]) -> (String, usize) {
    let mut text = String::new();
    let mut missed = 0;
    for (what, scenario, figure, limit) in PROMISES {
        if !scenarios.iter().any(|ran| ran.name() == *scenario) {
            continue;
        }
        let value = match limit {
            OfPeer(_) => ratio(results, scenario, figure),
            _ => results.get(scenario, Kind::Ours, figure),
        };
        let (kept, wanted) = match limit {
            AtLeast(limit) => (value.is_some_and(|value| value >= *limit), format!(">= {limit}")),
            AtMost(limit) | OfPeer(limit) => (value.is_some_and(|value| value <= *limit), format!("<= {limit}")),
            Happened => (value.is_some(), "at all".to_owned()),
        };
        missed += usize::from(!kept);
        let verdict = if kept { "ok    " } else { "MISSED" };
        let value = value.map_or_else(|| "not measured".to_owned(), |value| format!("{value:.2}"));
        let _ = writeln!(text, "{verdict}  {what}: {value} (wanted {wanted})");
    }
    (text, missed)
}
