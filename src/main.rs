//! `pinholed`: arguments, logging, [`pinhole::app::run`], exit code.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use pinhole::appliance::system;
use pinhole::args::{self, Action, Arguments};
use pinhole::{app, camera, config, logging, memory};

/// `EX_CONFIG` of sysexits.h: systemd shows it by name.
const EXIT_CONFIG: u8 = 78;
/// `EX_USAGE`.
const EXIT_USAGE: u8 = 64;
/// `EX_CANTCREAT`.
const EXIT_CANNOT_CREATE: u8 = 73;

fn main() -> ExitCode {
    // SAFETY: the program has just begun, with this thread only.
    unsafe { camera::quieten_libcamera() };
    memory::share();
    let arguments = match args::parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            complain(format_args!("{error}; see pinholed --help"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match arguments.action {
        Action::Help => return print(args::HELP),
        Action::Version => return print(&format!("{}\n", args::version())),
        Action::Schema => return print(&format!("{:#}\n", config::schema())),
        Action::ListCameras => return list_cameras(),
        Action::WriteSystemFiles(folder) => return write_system_files(&folder, &arguments.sources),
        Action::Run | Action::CheckConfig | Action::PrintConfig => {}
    }
    act_on_configuration(&arguments)
}

/// What needs the configuration: to check it, to print it, or to run with it.
fn act_on_configuration(arguments: &Arguments) -> ExitCode {
    let mut loaded = match config::load(&arguments.sources) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(format_args!("{error}"));
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    loaded.problems.extend(system::unknown_timezone(&loaded.config.system, system::ZONES.as_ref()));
    let missing = missing_user_file(&arguments.sources);
    if arguments.action != Action::Run {
        for told in loaded.problems.iter().chain(&missing) {
            complain(format_args!("{told}"));
        }
    }
    match arguments.action {
        Action::CheckConfig => {
            if loaded.problems.is_empty() {
                print("the configuration is right\n")
            } else {
                ExitCode::from(EXIT_CONFIG)
            }
        }
        Action::PrintConfig => print(&loaded.config.to_yaml()),
        _ => {
            logging::init(loaded.config.log.level.into());
            if let Some(missing) = missing {
                log::warn!("{missing}");
            }
            match app::run(loaded) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    log::error!("{error:#}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

/// Prints what was asked for. Whoever reads only the beginning, as `head` does, has what he wants.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            complain(format_args!("standard output: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Tells what is wrong; where nobody can read that, the exit status still says so.
fn complain(what: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "pinholed: {what}");
}

/// What is told of a user's file that was named and is not there. It may be: the appliance's card need not have one.
fn missing_user_file(sources: &config::Sources) -> Option<String> {
    let path = sources.missing_user_file()?.display();
    Some(format!("--user-config {path}: there is no such file, so nothing is read from it"))
}

/// Never fails for what is wrong in the configuration: the appliance has to start all the same.
fn write_system_files(folder: &Path, sources: &config::Sources) -> ExitCode {
    let files = system::render(config::load_leniently(sources), system::ZONES.as_ref());
    let _ = write!(std::io::stderr(), "{}", files.problems());
    if let Some(missing) = missing_user_file(sources) {
        complain(format_args!("{missing}"));
    }
    match files.write(folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("{}: {error}", folder.display()));
            ExitCode::from(EXIT_CANNOT_CREATE)
        }
    }
}

fn list_cameras() -> ExitCode {
    match camera::list() {
        Ok(text) => print(&text),
        Err(error) => {
            complain(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}
