//! Log lines on standard error: with the journal's priority prefix under systemd, readable elsewhere. The last of them are
//! kept in memory too, for the page: the appliance lets nobody in to read a journal.

use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::frame::MonotonicTime;
use repeats::Repeats;

mod repeats;

/// Bytes of lines kept, in all.
const KEPT: usize = 16 * 1024;
/// Bytes kept of one line.
const LINE_MAX: usize = 1024;

static REPEATS: Mutex<Repeats> = Mutex::new(Repeats::new());
static RING: Mutex<Ring> = Mutex::new(Ring(VecDeque::new()));

struct StderrLog {
    to_journal: bool,
}

/// Installs the logger. Messages of our own crate pass down to `level`; libraries only warn.
pub fn init(level: LevelFilter) {
    let logger = StderrLog { to_journal: stderr_is_journal() };
    RING.lock().unwrap_or_else(PoisonError::into_inner).0.reserve_exact(KEPT);
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
        let text = record.args().to_string();
        if record.level() <= Level::Warn {
            let told =
                REPEATS.lock().unwrap_or_else(PoisonError::into_inner).tell(record.level(), text, Instant::now());
            self.write_all(told);
        } else {
            self.write(record.level(), &text);
        }
    }

    fn flush(&self) {
        let over = REPEATS.lock().unwrap_or_else(PoisonError::into_inner).over(Instant::now());
        self.write_all(over);
    }
}

impl StderrLog {
    fn write_all(&self, messages: Vec<(Level, String)>) {
        for (level, text) in messages {
            self.write(level, &text);
        }
    }

    fn write(&self, level: Level, text: &str) {
        let (priority, name) = match level {
            // sd-daemon(3): 3 error, 4 warning, 6 informational, 7 debug.
            Level::Error => (3, "error: "),
            Level::Warn => (4, "warning: "),
            Level::Info => (6, ""),
            Level::Debug | Level::Trace => (7, "debug: "),
        };
        // Those of debugging come by the dozen, and would drive out the others.
        if level <= Level::Info {
            let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let monotonic = MonotonicTime::now().since(MonotonicTime::from_nanos(0));
            RING.lock().unwrap_or_else(PoisonError::into_inner).push(level, unix, monotonic, text);
        }
        let line = if self.to_journal {
            // Each line is an entry of its own to the journal, so each needs the prefix.
            format!("<{priority}>{}\n", text.replace('\n', &format!("\n<{priority}>")))
        } else {
            format!("pinholed: {name}{text}\n")
        };
        // One write, so that lines of threads do not mix. There is nobody to tell that logging failed.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

/// A line that was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When, by the wall clock as it stood then.
    pub unix: Duration,
    /// When, by the clock that is never set (`CLOCK_MONOTONIC`).
    pub monotonic: Duration,
    /// Error, warning or information.
    pub level: Level,
    /// What.
    pub text: String,
}

/// The last lines, oldest first.
pub fn recent() -> Vec<Line> {
    // Taken apart only after others may log again.
    let bytes = RING.lock().unwrap_or_else(PoisonError::into_inner).0.clone();
    Ring(bytes).lines()
}

/// Lines one behind the other, in memory that is allocated once. Each is its level, two times in milliseconds, its length,
/// and its text.
struct Ring(VecDeque<u8>);

impl Ring {
    const HEADER: usize = 1 + 8 + 8 + 2;

    fn push(&mut self, level: Level, unix: Duration, monotonic: Duration, text: &str) {
        let text = &text[..text.floor_char_boundary(LINE_MAX)];
        while self.0.len() + Self::HEADER + text.len() > KEPT {
            // Room for at least one line is always left, so there is one to take out.
            let Some(length) = self.length() else { return };
            self.0.drain(..Self::HEADER + length);
        }
        self.0.push_back(level as u8);
        self.0.extend((unix.as_millis() as u64).to_ne_bytes());
        self.0.extend((monotonic.as_millis() as u64).to_ne_bytes());
        self.0.extend((text.len() as u16).to_ne_bytes());
        self.0.extend(text.as_bytes());
    }

    /// Length of the oldest line's text.
    fn length(&self) -> Option<usize> {
        let byte = |at: usize| self.0.get(at).copied();
        Some(usize::from(u16::from_ne_bytes([byte(17)?, byte(18)?])))
    }

    fn lines(mut self) -> Vec<Line> {
        let bytes = &*self.0.make_contiguous();
        let mut rest = bytes;
        let mut lines = Vec::new();
        while let Some((header, behind)) = rest.split_first_chunk::<{ Self::HEADER }>() {
            let (level, times) = header.split_at(1);
            let (times, length) = times.split_at(16);
            let time = |bytes: &[u8]| Duration::from_millis(bytes.try_into().map_or(0, u64::from_ne_bytes));
            let length = usize::from(length.try_into().map_or(0, u16::from_ne_bytes));
            let Some((text, behind)) = behind.split_at_checked(length) else { break };
            rest = behind;
            lines.push(Line {
                unix: time(&times[..8]),
                monotonic: time(&times[8..]),
                level: Level::iter().find(|known| *known as u8 == level[0]).unwrap_or(Level::Info),
                text: String::from_utf8_lossy(text).into_owned(),
            });
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64, text: &str) -> Line {
        let level = if number.is_multiple_of(2) { Level::Warn } else { Level::Info };
        let (unix, monotonic) = (Duration::from_millis(1_790_000_000_123 + number), Duration::from_millis(number));
        Line { unix, monotonic, level, text: text.to_owned() }
    }

    fn push(ring: &mut Ring, line: &Line) {
        ring.push(line.level, line.unix, line.monotonic, &line.text);
    }

    #[test]
    fn the_newest_lines_are_kept_within_bounds_and_nothing_is_allocated() {
        let mut ring = Ring(VecDeque::new());
        ring.0.reserve_exact(KEPT);
        let capacity = ring.0.capacity();
        let mut all = Vec::new();
        for number in 0..5000_u64 {
            // Of all lengths, none among them.
            let line = line(number, &"é ".repeat(number as usize * 7 % 300));
            push(&mut ring, &line);
            all.push(line);
            assert!(ring.0.len() <= KEPT && ring.0.capacity() == capacity);
        }
        let kept = ring.lines();
        assert!(kept.len() > 20, "{}", kept.len());
        assert_eq!(kept, all[all.len() - kept.len()..]);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let mut ring = Ring(VecDeque::new());
        push(&mut ring, &line(1, &("x".to_owned() + &"é".repeat(10_000))));
        push(&mut ring, &line(2, "short"));
        let lines = ring.lines();
        assert_eq!((lines[0].text.len(), lines[1].text.as_str()), (LINE_MAX - 1, "short"));
        assert!(lines[0].text.ends_with('é'));
    }

    #[test]
    fn what_is_logged_is_kept() {
        init(LevelFilter::Info);
        log::warn!("a line of the test of the ring");
        log::debug!("another one");
        let found: Vec<_> = recent().into_iter().filter(|line| line.text.contains("of the ring")).collect();
        assert_eq!((found.len(), found[0].level), (1, Level::Warn));
        assert!(!recent().iter().any(|line| line.text == "another one"));
    }
}
