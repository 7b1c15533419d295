//! How tests start programs: as they are or, where `tests/armv6/run` says so, in an emulator.
//!
//! `PINHOLE_TEST_RUNNER` has words to put before a program (`qemu-arm -cpu arm1176 -L ROOT`; a static one: it must not
//! load what is to be preloaded in the program), `PINHOLED` the daemon to test in place of cargo's, `PINHOLE_TEST_STANDIN`
//! the stand-in for V4L2 devices in place of the one built with the test.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

/// A program, below the runner if there is one.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let runner = std::env::var("PINHOLE_TEST_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace();
    let Some(first) = words.next() else { return Command::new(program) };
    let mut command = Command::new(first);
    command.args(words).arg(program);
    command
}

/// The library to preload, where cargo built `tests/instruments/v4l2_standin`.
pub fn standin_library() -> PathBuf {
    let path = std::env::var_os("PINHOLE_TEST_STANDIN").map_or_else(
        || {
            // Cargo builds it into the folder that this program is in: it is a dependency of the tests.
            std::env::current_exe().unwrap().with_file_name("libv4l2_standin.so")
        },
        PathBuf::from,
    );
    assert!(path.exists(), "{} is not there", path.display());
    path
}
