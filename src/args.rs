//! The command line.

use std::path::PathBuf;

use crate::config::Sources;

/// What `--help` prints.
pub const HELP: &str = "\
pinholed: streams a camera as MJPEG over HTTP

Usage: pinholed [OPTIONS]

  --config FILE        read FILE instead of /etc/pinhole/pinhole.yaml; it must exist and be right
  --user-config FILE   read FILE instead of /boot/pinhole.yaml; what is wrong in it is reported and left out
  --set KEY=VALUE      set one key, such as camera.frame_rate=15 (may be repeated; wins over files)
  --default KEY=VALUE  set one key where no file does (may be repeated)
  --check-config       check the configuration and exit (status 78 if something is wrong)
  --print-config       print the configuration in force, secrets hidden, and exit
  --schema             print a JSON Schema of configuration files, by which editors complete and check them, and exit
  --write-system-files DIR
                       write the system section as files for the appliance's boot service into DIR, and exit; what is
                       wrong in the configuration is left out
  --list-cameras       list the cameras found and exit (status 1 if there is none)
  --version            print version numbers and exit
  --help               print this and exit

All keys: docs/configuration.md
";

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Serve.
    Run,
    /// `--check-config`.
    CheckConfig,
    /// `--print-config`.
    PrintConfig,
    /// `--schema`.
    Schema,
    /// `--write-system-files`, with the folder to write to.
    WriteSystemFiles(PathBuf),
    /// `--list-cameras`.
    ListCameras,
    /// `--version`.
    Version,
    /// `--help`.
    Help,
}

/// A command line, read.
#[derive(Debug)]
pub struct Arguments {
    /// What to do.
    pub action: Action,
    /// Where the configuration comes from.
    pub sources: Sources,
}

/// Reads the program's arguments.
pub fn parse() -> Result<Arguments, lexopt::Error> {
    parse_from(lexopt::Parser::from_env())
}

fn parse_from(mut parser: lexopt::Parser) -> Result<Arguments, lexopt::Error> {
    use lexopt::prelude::*;
    let mut arguments = Arguments { action: Action::Run, sources: Sources::default() };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("config") => arguments.sources.file = Some(parser.value()?.into()),
            Long("user-config") => arguments.sources.user_file = Some(parser.value()?.into()),
            Long("set") => arguments.sources.set.push(parser.value()?.string()?),
            Long("default") => arguments.sources.defaults.push(parser.value()?.string()?),
            Long("check-config") => arguments.action = Action::CheckConfig,
            Long("print-config") => arguments.action = Action::PrintConfig,
            Long("schema") => arguments.action = Action::Schema,
            // The second is its old name.
            Long("write-system-files" | "render-system") => {
                arguments.action = Action::WriteSystemFiles(parser.value()?.into());
            }
            Long("list-cameras") => arguments.action = Action::ListCameras,
            Long("version") | Short('V') => arguments.action = Action::Version,
            Long("help") | Short('h') => arguments.action = Action::Help,
            other => return Err(other.unexpected()),
        }
    }
    Ok(arguments)
}

/// Version of the program and of the libcamera it runs with.
pub fn version() -> String {
    let own = env!("CARGO_PKG_VERSION");
    match crate::camera::libcamera_version() {
        Some(libcamera) => format!("pinholed {own} (libcamera {libcamera})"),
        None => format!("pinholed {own} (without libcamera)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, lexopt::Error> {
        parse_from(lexopt::Parser::from_args(arguments))
    }

    #[test]
    fn options_are_read() {
        let arguments = parse(&["--config", "a.yaml", "--set", "a.b=c=d", "--set=x.y=z", "--check-config"]).unwrap();
        assert_eq!(arguments.action, Action::CheckConfig);
        assert_eq!(arguments.sources.file.unwrap().to_str(), Some("a.yaml"));
        assert_eq!(arguments.sources.set, ["a.b=c=d", "x.y=z"]);
        assert_eq!(parse(&["--schema"]).unwrap().action, Action::Schema);
        assert_eq!(parse(&[]).unwrap().action, Action::Run);
        for option in ["--write-system-files", "--render-system"] {
            assert_eq!(parse(&[option, "/x"]).unwrap().action, Action::WriteSystemFiles("/x".into()));
        }
    }

    #[test]
    fn unknown_options_are_refused() {
        assert!(parse(&["--confg", "x"]).unwrap_err().to_string().contains("--confg"));
        assert!(parse(&["--set"]).is_err());
        assert!(parse(&["file"]).is_err());
    }
}
