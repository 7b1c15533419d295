//! `pinholed`: arguments, logging, [`pinhole::app::run`], exit code.

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
            eprintln!("pinholed: {error}; see pinholed --help");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match arguments.action {
        Action::Help => {
            print!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Action::Version => {
            println!("{}", args::version());
            return ExitCode::SUCCESS;
        }
        Action::Schema => {
            println!("{:#}", config::schema());
            return ExitCode::SUCCESS;
        }
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
            eprintln!("pinholed: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    loaded.problems.extend(system::unknown_timezone(&loaded.config.system, system::ZONES.as_ref()));
    let missing = missing_user_file(&arguments.sources);
    if arguments.action != Action::Run {
        for told in loaded.problems.iter().chain(&missing) {
            eprintln!("pinholed: {told}");
        }
    }
    match arguments.action {
        Action::CheckConfig => {
            if loaded.problems.is_empty() {
                println!("the configuration is right");
                ExitCode::SUCCESS
            } else {
                ExitCode::from(EXIT_CONFIG)
            }
        }
        Action::PrintConfig => {
            print!("{}", loaded.config.to_yaml());
            ExitCode::SUCCESS
        }
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

/// What is told of a user's file that was named and is not there. It may be: the appliance's card need not have one.
fn missing_user_file(sources: &config::Sources) -> Option<String> {
    let path = sources.missing_user_file()?.display();
    Some(format!("--user-config {path}: there is no such file, so nothing is read from it"))
}

/// Never fails for what is wrong in the configuration: the appliance has to start all the same.
fn write_system_files(folder: &Path, sources: &config::Sources) -> ExitCode {
    let files = system::render(config::load_leniently(sources), system::ZONES.as_ref());
    eprint!("{}", files.problems());
    if let Some(missing) = missing_user_file(sources) {
        eprintln!("pinholed: {missing}");
    }
    match files.write(folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pinholed: {}: {error}", folder.display());
            ExitCode::from(EXIT_CANNOT_CREATE)
        }
    }
}

fn list_cameras() -> ExitCode {
    match camera::list() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pinholed: {error}");
            ExitCode::FAILURE
        }
    }
}
