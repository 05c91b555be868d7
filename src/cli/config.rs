//! `bowline config`: what the server would be started with. Also the flags that `serve` shares with it.

use std::path::PathBuf;

use clap::{ArgGroup, Args as ClapArgs};

use super::exit::Stop;
use crate::config::{self, DEFAULTS, Flag, Loaded, Sources};

/// Where configuration comes from, as flags.
#[derive(Debug, ClapArgs)]
pub(super) struct Selection {
    /// A file of settings; may be repeated, later ones win
    #[arg(long = "config", value_name = "FILE", env = "BOWLINE_CONFIG", value_delimiter = ',')]
    files: Vec<PathBuf>,
    /// One setting; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = assignment)]
    set: Vec<Flag>,
    /// Address and port for clients: transport.listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Address and port for operators: admin.listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<String>,
    /// What is logged: telemetry.log
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

fn assignment(text: &str) -> Result<Flag, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            let key = key.trim().to_owned();
            Ok(Flag { name: format!("--set {key}"), key, value: value.to_owned() })
        }
        _ => Err("write SECTION.KEY=VALUE, such as registry.max_connections=20000".to_owned()),
    }
}

impl Selection {
    /// Reads everything these flags, the environment and the files say. The sentence of the error has a line for each
    /// thing that is wrong.
    pub(super) fn load(self) -> Result<Loaded, Stop> {
        config::load(&self.sources(std::env::vars_os().collect())).map_err(|problems| match problems.count() {
            1 => Stop::failure(problems.to_string()),
            count => Stop::failure(format!("the configuration has {count} problems\n{problems}")),
        })
    }

    fn sources(self, environment: Vec<(std::ffi::OsString, std::ffi::OsString)>) -> Sources {
        let short = [
            ("--listen", "transport.listen", self.listen),
            ("--admin-listen", "admin.listen", self.admin_listen),
            ("--log-level", "telemetry.log", self.log_level),
        ];
        let short = short
            .into_iter()
            .filter_map(|(name, key, value)| Some(Flag { name: name.to_owned(), key: key.to_owned(), value: value? }));
        // A variable that is set to nothing is as good as none.
        let files = self.files.into_iter().filter(|file| !file.as_os_str().is_empty()).collect();
        Sources { files, environment, flags: self.set.into_iter().chain(short).collect() }
    }
}

const EXAMPLES: &str = "\
Examples:
  bowline config                                   every setting, its value and where it came from
  bowline config --check --config bowline.toml     is this file right? exit code 0 or 1
  bowline config --defaults > bowline.toml         the documented defaults, to start a file from
  bowline config --memory                          what peers and topics can make the server hold at worst";

/// Print the configuration the server would start with, or check it
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("what").args(["check", "defaults", "memory"]))]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Print nothing; the exit code and stderr tell whether it is valid
    #[arg(long)]
    check: bool,
    /// Print the documented defaults instead
    #[arg(long)]
    defaults: bool,
    /// Print instead what peers and topics can make the server hold at worst, and which settings bound it
    #[arg(long)]
    memory: bool,
}

/// Prints the merged configuration as TOML with the source of each value, secrets redacted.
pub(super) fn run(args: Args) -> Result<(), Stop> {
    let text = if args.defaults {
        DEFAULTS.to_owned()
    } else {
        let loaded = args.selection.load()?;
        match (args.check, args.memory) {
            (true, _) => String::new(),
            (_, true) => loaded.config.worst_case().to_string(),
            _ => loaded.to_toml(),
        }
    };
    use std::io::Write as _;
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| Stop::stdout(&error))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn sources(words: &[&str]) -> Sources {
        let line = Line::try_parse_from(std::iter::once("config").chain(words.iter().copied())).unwrap();
        line.args.selection.sources(Vec::new())
    }

    #[test]
    fn flags_become_settings_in_their_order() {
        let sources = sources(&[
            "--config",
            "a.toml,b.toml",
            "--listen",
            "0.0.0.0:1",
            "--set",
            "server.node=a=b",
            "--config",
            "c",
        ]);
        let files: Vec<_> = sources.files.iter().map(|file| file.to_str().unwrap()).collect();
        assert_eq!(files, ["a.toml", "b.toml", "c"]);
        let flags: Vec<_> = sources.flags.iter().map(|flag| (flag.key.as_str(), flag.value.as_str())).collect();
        assert_eq!(flags, [("server.node", "a=b"), ("transport.listen", "0.0.0.0:1")]);
        assert_eq!(sources.flags[0].name, "--set server.node");
    }

    #[test]
    fn a_setting_without_a_value_is_refused() {
        for bad in ["server.node", "=x", ""] {
            assert!(Line::try_parse_from(["config", "--set", bad]).is_err(), "{bad:?}");
        }
    }
}
