//! Log lines on standard error: with the journal's priority prefix under systemd, readable elsewhere.

use std::io::Write;
use std::os::unix::fs::MetadataExt;

use log::{Level, LevelFilter, Log, Metadata, Record};

struct StderrLog {
    to_journal: bool,
}

/// Installs the logger. Messages of our own crate pass down to `level`; libraries only warn.
pub fn init(level: LevelFilter) {
    let logger = StderrLog { to_journal: stderr_is_journal() };
    // A second call (in tests) leaves the first logger in place.
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
    }
}

/// systemd names the device and inode of the stream it connected to the journal (systemd.exec(5)).
fn stderr_is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/dev/stderr").is_ok_and(|stderr| named == format!("{}:{}", stderr.dev(), stderr.ino()))
}

impl Log for StderrLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        // actix-http calls every request it cannot parse an error; port scanners must not fill the journal.
        let noisy = target.starts_with("actix_http") && log::max_level() < LevelFilter::Debug;
        target.starts_with("pinhole") || (metadata.level() <= Level::Warn && !noisy)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (priority, name) = match record.level() {
            // sd-daemon(3): 3 error, 4 warning, 6 informational, 7 debug.
            Level::Error => (3, "error: "),
            Level::Warn => (4, "warning: "),
            Level::Info => (6, ""),
            Level::Debug | Level::Trace => (7, "debug: "),
        };
        // One write, so that lines of threads do not mix. There is nobody to tell that logging failed.
        let text = record.args().to_string();
        let line = if self.to_journal {
            // Each line is an entry of its own to the journal, so each needs the prefix.
            format!("<{priority}>{}\n", text.replace('\n', &format!("\n<{priority}>")))
        } else {
            format!("pinholed: {name}{text}\n")
        };
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}
