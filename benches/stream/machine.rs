//! Where and of what figures were taken.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::contenders::{ALL, Programs, Who};

/// Machine, kernel, commit and the versions of the others.
pub fn describe(programs: &Programs) -> Value {
    let first_of = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let value = text.lines().find_map(|line| Some(line.strip_prefix(key)?.split_once(':')?.1.trim().to_owned()));
        value.unwrap_or_else(|| "unknown".to_owned())
    };
    let memory_kib = first_of("/proc/meminfo", "MemTotal").split(' ').next().and_then(|kib| kib.parse::<u64>().ok());
    json!({
        "date": said("date", &["-u", "+%FT%TZ"]),
        "commit": said("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=12"]),
        "cpu": first_of("/proc/cpuinfo", "model name"),
        "cores": cores(),
        "memory_mib": memory_kib.unwrap_or_default() / 1024,
        "kernel": said("uname", &["-sr"]),
        "compiler": said("rustc", &["--version"]),
        "versions": versions(programs),
    })
}

/// All of the machine: this process itself is kept on one of them.
fn cores() -> usize {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cpus.lines().filter(|line| line.starts_with("processor")).count()
}

fn versions(programs: &Programs) -> Value {
    let of = |who: Who| {
        let file = programs.file(who).ok().flatten()?;
        let said = match who {
            Who::Bowline | Who::Nats => said(&file, &["--version"]),
            // Of itself it only knows what its releases are told.
            Who::Centrifugo => module_of(&file, "github.com/centrifugal/centrifugo/v6"),
            Who::GrpcGo => module_of(&file, "google.golang.org/grpc"),
            Who::Tonic => locked("tonic"),
            Who::Guided | Who::Send => return None,
        };
        Some((who.name().to_owned(), Value::String(said)))
    };
    Value::Object(ALL.iter().copied().filter_map(of).collect())
}

/// The version of a module in a program of Go.
fn module_of(file: &str, module: &str) -> String {
    let all = said_whole("go", &["version", "-m", file]);
    // `dep`, or `mod` for the program itself; module; version.
    let mut lines = all.lines().map(|line| line.trim().split('\t').skip(1));
    let version = lines.find_map(|mut words| words.next().filter(|word| *word == module).and(words.next()));
    version.unwrap_or("unknown").to_owned()
}

/// The version of a package that this was built with.
fn locked(package: &str) -> String {
    let name = format!("name = \"{package}\"\nversion = \"");
    let lock = include_str!("../../Cargo.lock");
    let version = lock.split_once(&name).and_then(|(_, rest)| rest.split('"').next());
    version.unwrap_or("unknown").to_owned()
}

/// The first line that a program says.
fn said(program: &str, arguments: &[&str]) -> String {
    said_whole(program, arguments).lines().next().unwrap_or("unknown").to_owned()
}

fn said_whole(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
