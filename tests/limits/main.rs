//! What any text of the size of a configuration costs, counted: memory by the allocator, work by the processor's time for
//! twice the text against once.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests stop at what is wrong")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pinhole::config::{self, Sources};
use proptest::prelude::*;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// One text at a time is counted.
static ALONE: Mutex<()> = Mutex::new(());

struct Counting;

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory that may be in use at once for a text of 64 KiB.
const MEMORY_MAX: usize = 24 << 20;
const TEXT_MAX: usize = 64 * 1024;

/// What a text cost as the system's file and as the user's: memory at its highest, and processor time.
fn cost(text: &str) -> (usize, Duration) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pinhole.yaml");
    std::fs::write(&path, text).unwrap();
    let load = |file: &Path, user: &Path| {
        let sources = Sources { file: Some(file.to_owned()), user_file: Some(user.to_owned()), ..Sources::default() };
        drop(config::load(&sources));
    };
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let start = processor_time();
    load(&path, Path::new("/dev/null"));
    load(Path::new("/dev/null"), &path);
    (PEAK.load(Ordering::Relaxed) - before, processor_time().saturating_sub(start))
}

/// What this thread has used of a processor: unlike a clock's time, no neighbour adds to it.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time outlives the call.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// `unit` again and again, up to a length.
fn filled(head: &str, unit: &str, tail: &str, length: usize) -> String {
    let times = (length - head.len() - tail.len()) / unit.len();
    format!("{head}{}{tail}", unit.repeat(times))
}

/// Head, what is repeated, tail.
const BOMBS: [(&str, &str, &str); 34] = [
    ("", "[", ""),
    ("", "{", ""),
    ("", "[\n", ""),
    ("", "{a: ", ""),
    ("", "- ", ""),
    ("", "? ", ""),
    ("", "? - ", ""),
    ("camera: ", "[", ""),
    ("camera: {controls: {x: [", "[],", "]}}"),
    ("camera: {controls: {x: [", "{},", "]}}"),
    ("camera: {controls: {x: [", "a,", "]}}"),
    ("camera: {controls: {", "? ,", "}}"),
    ("camera:\n  controls:\n", "    ?\n", ""),
    ("camera: {controls: {a: &a [x,x,x,x,x,x,x,x,x,x], b: [", "*a,", "]}}"),
    ("camera: {controls: {a: &a {x: 1, y: 2}, b: [", "*a,", "]}}"),
    ("camera: {controls: {a: [", "&a x,", "]}}"),
    ("camera: {controls: {a: &a x, b: {", "<<: *a, ", "}}}"),
    ("camera: {controls: {a: [", "!t x,", "]}}"),
    ("", "%TAG !a! b\n", ""),
    ("", "---\n", ""),
    ("", "--- a\n...\n", ""),
    ("", "#\n", ""),
    ("", "\n", ""),
    ("", "camera:\n", ""),
    ("", "x:\n", ""),
    ("", "xx: yy\n", ""),
    ("", "\u{e4}: {\n", ""),
    ("camera: {id: \"", "\\L", "\"}"),
    ("camera: {id: \"", "\n", "\"}"),
    ("", "x", ": 1\n"),
    ("camera: {", "x", ": 1}\n"),
    ("camera: {source: ", "x", "}\n"),
    ("system: {ssh_keys: [", "x,", "]}\n"),
    ("camera: {}\ncamera: {controls: {x: {", "? a", ": 1}}}\n"),
];

#[test]
fn no_text_takes_more_memory_than_is_in_proportion_nor_time_with_its_square() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (head, unit, tail) in BOMBS {
        let (memory, once) = cost(&filled(head, unit, tail, TEXT_MAX / 4));
        assert!(memory < MEMORY_MAX, "{head:?}{unit:?}… took {memory} bytes");
        let (memory, whole) = cost(&filled(head, unit, tail, TEXT_MAX));
        assert!(memory < MEMORY_MAX, "{head:?}{unit:?}… took {memory} bytes");
        // Four times in proportion, sixteen with the square; what takes next to nothing cannot be compared.
        let bound = once.max(Duration::from_millis(20)) * 10;
        assert!(whole < bound, "{head:?}{unit:?}… took {whole:?}, a quarter of it {once:?}");
    }
}

#[test]
fn a_second_section_is_not_copied_for_each_of_its_values() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let name = "n".repeat(30_000);
    let text = filled(&format!("camera: {{}}\ncamera: {{controls: {{{name}: {{"), "a,", "}}}\n", TEXT_MAX);
    let (memory, _) = cost(&text);
    assert!(memory < MEMORY_MAX, "{memory} bytes");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Pieces of YAML in any order, some of them very often.
    #[test]
    fn any_text_takes_memory_in_proportion(
        pieces in proptest::collection::vec(
            (
                prop::sample::select(vec![
                    "camera:", "system:", " ", "  ", "\n", "\n  ", "\t", "[", "]", "{", "}", ",", ": ", ":", "- ", "? ",
                    "&a ", "*a", "!t ", "\"", "'", "|\n", ">\n", "#", "%", "---\n", "...\n", "<<: ", "x", "\u{e4}", "a: ",
                    "controls: ", "wifi: ", "ssid: ", "\\", "\u{0}", "\r",
                ]),
                prop::sample::select(vec![1, 1, 1, 1, 1, 2, 3, 20, 1000, 20_000]),
            ),
            1..60,
        ),
    ) {
        let mut text = String::new();
        for (piece, times) in pieces {
            text.push_str(&piece.repeat(times.min((TEXT_MAX - text.len()) / piece.len())));
        }
        let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (memory, took) = cost(&text);
        prop_assert!(memory < MEMORY_MAX, "{} bytes", memory);
        // A hundred times what the slowest needs.
        prop_assert!(took < Duration::from_secs(60), "{:?}", took);
    }
}
