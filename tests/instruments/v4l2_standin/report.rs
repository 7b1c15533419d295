//! What happened, for the tests: counters, and the end of a process that breaks a rule.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Everything a test may want to know. Written as JSON to the file named by `report=`.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Process that wrote it.
    pub pid: u32,
    /// Successful openings, by node.
    pub opens: BTreeMap<String, u32>,
    /// Openings refused by a fault (`busy`, `gone`), by node.
    pub opens_refused: BTreeMap<String, u32>,
    /// Closings.
    pub closes: u32,
    /// Result of each `S_FMT`, in order.
    pub formats: Vec<Format>,
    /// `S_FMT` refused because the queue had buffers.
    pub s_fmt_busy: u32,
    /// Memory of the last `REQBUFS` that gave buffers, by queue (`output`, `capture`): `mmap` or `dmabuf`.
    pub memory: BTreeMap<String, String>,
    /// Buffers it gave.
    pub buffers: BTreeMap<String, u32>,
    /// Imports of a dma-buf that was not attached to that buffer before.
    pub dmabuf_attached: u32,
    /// QBUFs refused because the dma-buf is shorter than `sizeimage`.
    pub dmabuf_too_short: u32,
    /// Encodes begun and ended (ended: a CAPTURE buffer was given back for it, with or without a picture).
    pub encodes_started: u64,
    /// See `encodes_started`.
    pub encodes_done: u64,
    /// Pictures really compressed.
    pub jpegs: u64,
    /// Most buffers queued at one time, by queue.
    pub max_queued: BTreeMap<String, usize>,
    /// `bytesused` of the last OUTPUT buffer.
    pub output_bytes: u32,
    /// Bytes of the last JPEG.
    pub jpeg_bytes: u32,
    /// Calls, by name.
    pub ioctls: BTreeMap<String, u64>,
    /// Polls that included a node of ours.
    pub polls: u64,
    /// Controls set, with the number of encodes begun before.
    pub controls: Vec<Control>,
    /// Faults that came into force, by name.
    pub faults: BTreeMap<String, u64>,
    /// Camera frames delivered, by node.
    pub camera_frames: BTreeMap<String, u64>,
    /// Camera frames lost because no buffer was queued.
    pub camera_dropped: u64,
    /// The broken rule that ended the process.
    pub violation: Option<String>,
}

/// A format as `S_FMT` left it.
#[derive(Debug, Serialize)]
pub struct Format {
    /// `/dev/videoN`.
    pub node: String,
    /// `output` or `capture`.
    pub queue: &'static str,
    /// Four characters.
    pub fourcc: String,
    /// Pixels.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// `bytesperline`.
    pub stride: u32,
    /// `sizeimage`.
    pub size: u32,
}

/// A control set.
#[derive(Debug, Serialize)]
pub struct Control {
    /// Its name in V4L2.
    pub name: String,
    /// The value it has now.
    pub value: i64,
    /// Encodes begun before.
    pub encodes: u64,
}

static REPORT: Mutex<Option<Report>> = Mutex::new(None);
static WRITTEN: Mutex<Option<Instant>> = Mutex::new(None);
/// One writer at a time.
static WRITING: Mutex<()> = Mutex::new(());
/// Something was noted since it was written.
static NEWS: AtomicBool = AtomicBool::new(false);
/// A report written after every frame would cost more than the frames.
pub const PAUSE: Duration = Duration::from_millis(20);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes the report.
pub fn note(change: impl FnOnce(&mut Report)) {
    change(lock(&REPORT).get_or_insert_with(Report::default));
    NEWS.store(true, Ordering::Relaxed);
}

/// Has the report written at the process's end, too.
pub fn write_at_exit() {
    extern "C" fn last() {
        write(true);
    }
    static ONCE: Once = Once::new();
    // SAFETY: a function that lives as long as the library, which is not unloaded.
    ONCE.call_once(|| unsafe {
        libc::atexit(last);
    });
}

/// Counts a fault that came into force.
pub fn fault(name: &str) {
    note(|report| *report.faults.entry(name.to_owned()).or_default() += 1);
}

/// Writes the report, if one is wanted and `now` or the last one is old enough.
pub fn write(now: bool) {
    let Some(path) = crate::config::get().report.as_ref() else { return };
    if !now && !NEWS.load(Ordering::Relaxed) {
        return;
    }
    {
        let mut written = lock(&WRITTEN);
        if !now && written.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        *written = Some(Instant::now());
    }
    let text = {
        NEWS.store(false, Ordering::Relaxed);
        let mut report = lock(&REPORT);
        let report = report.get_or_insert_with(Report::default);
        report.pid = std::process::id();
        serde_json::to_string_pretty(report).unwrap_or_default()
    };
    // Whole or not at all: a test reads it at any time.
    let _one = lock(&WRITING);
    let part = path.with_extension("part");
    if std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, path)).is_err() {
        say(format_args!("cannot write {}", path.display()));
    }
}

/// A line on stderr, in one write.
pub fn say(what: fmt::Arguments<'_>) {
    let line = format!("v4l2_standin: {what}\n");
    // SAFETY: the bytes of a string; stderr may be closed, then nobody reads it.
    unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
}

/// The program broke a rule of V4L2: says which and ends it, so that any test fails.
pub fn violation(what: fmt::Arguments<'_>) -> ! {
    say(format_args!("VIOLATION: {what}"));
    // The lock may be held by the very code that found the violation.
    if let Ok(mut report) = REPORT.try_lock() {
        report.get_or_insert_with(Report::default).violation = Some(what.to_string());
        drop(report);
        write(true);
    }
    std::process::abort()
}

/// `violation!("…", …)`, see [`violation`].
#[macro_export]
macro_rules! violation {
    ($($what:tt)*) => { $crate::report::violation(format_args!($($what)*)) };
}
