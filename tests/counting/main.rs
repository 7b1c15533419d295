//! What a frame costs on the capture thread, counted: allocations, and bytes copied.
//!
//! The allocator and, on `x86_64`, `memcpy` and `memmove` of this program count what the capture thread does. Below it is
//! the stand-in for V4L2 devices, a library with an allocator of its own; each case runs in a process of its own, with
//! the library preloaded: this program starts itself again.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests stop at what is wrong")]

#[path = "../instruments/start.rs"]
mod start;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pinhole::board::Board;
use pinhole::capture;
use pinhole::config::{self, Sources};

/// The thread whose doings are counted; 0 for none.
static COUNTED: AtomicI32 = AtomicI32::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static COPIED: AtomicU64 = AtomicU64::new(0);
/// Smaller copies are of structs and text, not of pictures.
#[cfg(target_arch = "x86_64")]
const PICTURE: usize = 1024;

fn is_counted() -> bool {
    let counted = COUNTED.load(Ordering::Relaxed);
    // SAFETY: asks for the thread's number.
    counted != 0 && counted == unsafe { libc::gettid() }
}

struct Counting;

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_counted() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_counted() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// In front of the C library's, for all of this program.
#[cfg(target_arch = "x86_64")]
mod copying {
    use super::{COPIED, Ordering, PICTURE, is_counted};

    fn count(length: usize) {
        if length >= PICTURE && is_counted() {
            COPIED.fetch_add(length as u64, Ordering::Relaxed);
        }
    }

    unsafe fn forwards(to: *mut u8, from: *const u8, length: usize) {
        // SAFETY: the caller's; written in assembly, as the compiler would make a call of memcpy of any loop.
        unsafe {
            std::arch::asm!("rep movsb", inout("rcx") length => _, inout("rdi") to => _, inout("rsi") from => _,
                options(nostack, preserves_flags));
        }
    }

    /// As the C library's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        count(length);
        // SAFETY: the caller's.
        unsafe { forwards(to, from, length) };
        to
    }

    /// As the C library's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        count(length);
        if (to as usize).wrapping_sub(from as usize) >= length {
            // SAFETY: the caller's; the target does not begin within the source.
            unsafe { forwards(to, from, length) };
        } else {
            let (last_to, last_from) =
                (to.wrapping_add(length).wrapping_sub(1), from.wrapping_add(length).wrapping_sub(1));
            // SAFETY: the caller's; from the last byte to the first, as the target begins within the source.
            unsafe {
                std::arch::asm!("std", "rep movsb", "cld", inout("rcx") length => _, inout("rdi") last_to => _,
                    inout("rsi") last_from => _, options(nostack));
            }
        }
        to
    }
}

/// What was counted over some frames.
#[derive(Debug)]
struct Count {
    frames: u64,
    allocations: f64,
    /// Bytes copied by anybody on the capture thread, and as the program itself counts them.
    copied: f64,
    own: f64,
    /// Bytes of a JPEG, of those seen meanwhile.
    jpeg: f64,
}

/// Runs the real capture loop and counts what a hundred frames of its steady state cost each.
fn count(set: &[&str]) -> Count {
    let set = set.iter().map(|&argument| argument.to_owned()).collect();
    let sources = Sources { user_file: Some("/nonexistent".into()), set, ..Sources::default() };
    let config = config::load(&sources).unwrap().config;
    let board = Arc::new(Board::new(&config, None));
    let demand = board.hub.demand();
    let mut frames = board.hub.subscribe();
    let thread = capture::spawn(&config, Vec::new(), Arc::clone(&board)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let count = runtime.block_on(async {
        let start = Instant::now();
        // Until everything has been allocated once.
        let (mut seen, mut bytes) = (0, 0);
        let mut next = async |at_least: u64| loop {
            let frame = frames.borrow_and_update().clone();
            if let Some(frame) = &frame {
                (seen, bytes) = (seen + 1, bytes + frame.jpeg().len());
            }
            if let Some(frame) = frame.filter(|frame| frame.sequence >= at_least) {
                assert!(frame.placeholder.is_none(), "{:?}", frame.placeholder);
                let mean = bytes as f64 / f64::from(seen);
                (seen, bytes) = (0, 0);
                return (frame.sequence, mean);
            }
            assert!(start.elapsed() < Duration::from_secs(30), "no frames: {:?}", board.health.state());
            frames.changed().await.unwrap();
        };
        let (first, _) = next(30).await;
        COUNTED.store(capture_thread(), Ordering::Relaxed);
        let before = (ALLOCATIONS.load(Ordering::Relaxed), COPIED.load(Ordering::Relaxed));
        let own_before = pinhole::frame::copied_bytes();
        let (last, jpeg) = next(first + 100).await;
        let frames = (last - first) as f64;
        let per_frame = |after: u64, before: u64| (after - before) as f64 / frames;
        Count {
            frames: last - first,
            allocations: per_frame(ALLOCATIONS.load(Ordering::Relaxed), before.0),
            copied: per_frame(COPIED.load(Ordering::Relaxed), before.1),
            own: per_frame(pinhole::frame::copied_bytes(), own_before),
            jpeg,
        }
    });
    COUNTED.store(0, Ordering::Relaxed);
    println!("{set:?}: {count:?}, {:?}", board.pipeline().map(|p| (p.encoder, p.hardware)), set = sources.set);
    drop(demand);
    board.hub.close();
    thread.join().unwrap();
    count
}

fn capture_thread() -> i32 {
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        if std::fs::read_to_string(path.join("comm")).unwrap().trim() == "capture" {
            return path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        }
    }
    panic!("no capture thread");
}

/// The reference count of the published part, and room for a second one.
fn assert_allocations(count: &Count) {
    assert!(count.allocations <= 2.0, "{count:?}");
    assert!(count.frames >= 100);
}

fn near(value: f64, expected: f64) -> bool {
    // The pictures differ a little in size, and one more or less is under way.
    (value - expected).abs() <= expected * 0.05
}

const RAW: f64 = 640.0 * 480.0 * 1.5;

/// Cases, each run below the stand-in.
const CASES: &[(&str, fn())] = &[
    ("zero-copy", || {
        let count = count(&["camera.source=v4l2", "camera.resolution=640x480"]);
        assert_allocations(&count);
        assert!(near(count.own, count.jpeg), "the JPEG once, and nothing else: {count:?}");
        if cfg!(target_arch = "x86_64") {
            assert!(near(count.copied, count.jpeg), "the JPEG once, and nothing else: {count:?}");
        }
    }),
    ("copy", || {
        let count = count(&["camera.source=v4l2", "camera.resolution=640x480"]);
        assert_allocations(&count);
        assert!(near(count.own, count.jpeg + RAW), "the picture and the JPEG: {count:?}");
    }),
    ("passthrough", || {
        let count = count(&["camera.source=v4l2", "camera.resolution=640x480"]);
        assert_allocations(&count);
        assert!(near(count.own, count.jpeg), "{count:?}");
        if cfg!(target_arch = "x86_64") {
            assert!(near(count.copied, count.jpeg), "{count:?}");
        }
    }),
    ("software", || {
        let count = count(&["camera.source=test-pattern", "camera.resolution=640x480", "camera.frame_rate=60"]);
        // The pattern writes two lines of text of its own for every frame.
        assert!(count.allocations <= 6.0, "{count:?}");
        assert!(near(count.own, count.jpeg), "{count:?}");
    }),
    ("overlay", || {
        let count = count(&[
            "camera.source=v4l2",
            "camera.resolution=640x480",
            "overlay.text=%H:%M:%S",
            "overlay.position=top-right",
        ]);
        // Once a second the text is drawn anew.
        assert!(count.allocations <= 3.0, "{count:?}");
        assert!(near(count.own, count.jpeg), "{count:?}");
    }),
];

const CASE: &str = "PINHOLE_COUNTING_CASE";

/// Not a test of its own: what the others start.
#[test]
fn child() {
    let Ok(name) = std::env::var(CASE) else { return };
    CASES.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no case {name}")).1();
}

fn run(case: &str, standin: &str) {
    let output = start::command(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env("LD_PRELOAD", start::standin_library())
        .env("PINHOLE_V4L2_STANDIN", standin)
        .env(CASE, case)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{case}: {}\n{text}", output.status);
    println!("{}", text.lines().find(|line| line.contains("Count {")).unwrap_or_default());
}

#[test]
fn the_hardware_path_allocates_next_to_nothing_and_copies_the_jpeg_once() {
    run("zero-copy", "camera=2:YU12");
}

#[test]
fn the_copying_path_copies_the_picture_once_more() {
    run("copy", "camera=2:YU12;dmabuf=refuse-reqbufs");
}

#[test]
fn the_overlay_adds_no_copy() {
    run("overlay", "camera=2:YU12");
}

#[test]
fn the_software_path_allocates_next_to_nothing() {
    run("software", "nodes=none");
}

#[test]
fn passthrough_copies_the_jpeg_once() {
    let folder = tempfile::tempdir().unwrap();
    let jpeg = {
        use pinhole::encoder::{Encoder, Software};
        use pinhole::frame::{MonotonicTime, PixelFormat, Plane, RawFrame, Size};
        let luma: Vec<u8> = (0..640 * 480u32).map(|i| (i / 640 + i % 640) as u8).collect();
        let chroma = vec![128; 320 * 240];
        let planes = [(&luma, 640), (&chroma, 320), (&chroma, 320)].map(|(data, stride)| Plane {
            data,
            stride,
            fd: None,
            offset: 0,
        });
        let size = Size { width: 640, height: 480 };
        let frame = RawFrame::new(PixelFormat::Yuv420, size, planes, 0, MonotonicTime::now());
        Software::new(80).unwrap().encode(&frame).unwrap().pieces.concat()
    };
    std::fs::write(folder.path().join("0.jpg"), jpeg).unwrap();
    run("passthrough", &format!("nodes=none;camera=0:MJPG:{}", folder.path().display()));
}
