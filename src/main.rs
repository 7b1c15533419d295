//! `pinholed`: arguments, logging, [`pinhole::app::run`], exit code.

use std::process::ExitCode;

use pinhole::args::{self, Action};
use pinhole::{app, camera, config, logging};

/// `EX_CONFIG` of sysexits.h: systemd shows it by name.
const EXIT_CONFIG: u8 = 78;
/// `EX_USAGE`.
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    // SAFETY: the program has just begun, with this thread only.
    unsafe { camera::quieten_libcamera() };
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
        Action::ListCameras => return list_cameras(),
        Action::Run | Action::CheckConfig | Action::PrintConfig => {}
    }
    let loaded = match config::load(&arguments.sources) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("pinholed: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    match arguments.action {
        Action::CheckConfig => {
            for problem in &loaded.problems {
                eprintln!("pinholed: {problem}");
            }
            if loaded.problems.is_empty() {
                println!("the configuration is right");
                ExitCode::SUCCESS
            } else {
                ExitCode::from(EXIT_CONFIG)
            }
        }
        Action::PrintConfig => {
            for problem in &loaded.problems {
                eprintln!("pinholed: {problem}");
            }
            print!("{}", loaded.config.to_yaml());
            ExitCode::SUCCESS
        }
        _ => {
            logging::init(loaded.config.log.level.into());
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
