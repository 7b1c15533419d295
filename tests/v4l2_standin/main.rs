//! Tests of the stand-in for the Pi's codec (`tests/instruments/v4l2_standin`) itself: it answers as the driver does, and
//! each rule it is there to watch over ends the process when it is broken.
//!
//! Each case runs in a process of its own, with the library preloaded: this program starts itself again.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests stop at what is wrong")]

mod camera;
mod client;
mod encoder;
mod report;
mod rules;
#[path = "../instruments/start.rs"]
mod start;
#[allow(dead_code)]
#[path = "../instruments/v4l2_standin/sys.rs"]
mod sys;

use std::os::unix::process::ExitStatusExt;
use std::process::Output;

/// Names the case the process is to run.
const CASE: &str = "PINHOLE_V4L2_STANDIN_CASE";

/// What runs below the library, by its name.
type Case = (&'static str, fn());

/// All cases that run below the library.
const CASES: &[&[Case]] = &[camera::CASES, encoder::CASES, report::CASES, rules::CASES];

/// Not a test of its own: what the others start.
#[test]
fn child() {
    let Ok(name) = std::env::var(CASE) else { return };
    let case = CASES.iter().copied().flatten().find(|(known, _)| *known == name);
    case.unwrap_or_else(|| panic!("no case {name}")).1();
}

fn run(case: &str, settings: &str) -> Output {
    start::command(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env("LD_PRELOAD", start::standin_library())
        .env("PINHOLE_V4L2_STANDIN", settings)
        .env(CASE, case)
        .output()
        .unwrap()
}

/// The case succeeds with these settings.
fn passes(case: &str, settings: &str) {
    let output = run(case, settings);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{case} with {settings:?}: {}\n{text}",
        output.status
    );
}

/// The case ends the process, with these words.
fn aborts(case: &str, settings: &str, words: &str) {
    let output = run(case, settings);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let violation = text.lines().find(|line| line.starts_with("v4l2_standin: VIOLATION: "));
    assert!(
        output.status.signal() == Some(libc::SIGABRT) && violation.is_some_and(|line| line.contains(words)),
        "{case}: {}, wanted {words:?}\n{text}",
        output.status
    );
}
