//! `docs/operations.md` does what it says: its commands are run, in order, against a real server, and what they are said to
//! print they print; what it names exists.
//!
//! The words behind `sh` say how a block is run: `build` only asks make whether it knows the target, `last` ends the server,
//! any other is a tool without which the block is left out. A block of text after one of commands is what they print, a part
//! of a line on each of its lines.

#[path = "support/served.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with tests that use more of it")]
mod served;
#[path = "support/tools.rs"]
#[allow(unreachable_pub, reason = "shared")]
mod tools;

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use served::Served;

const DOCUMENT: &str = "docs/operations.md";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("the file is there")
}

/// A fenced block: the words behind the fence, and what is in it.
struct Block {
    words: Vec<String>,
    text: String,
}

fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in document.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(words), None) => {
                let words = words.split_whitespace().map(str::to_owned).collect();
                open = Some(Block { words, text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    blocks
}

/// The shell of somebody who reads the page, in a folder of its own, where `bowline` and the tools are found.
struct Reader {
    server: Served,
    home: tempfile::TempDir,
}

impl Reader {
    fn run(&self, script: &str) -> Output {
        let (clients, operators) =
            (self.server.address.to_string(), self.server.admin.expect("an admin port").to_string());
        let script = script.replace("127.0.0.1:50051", &clients).replace("127.0.0.1:9090", &operators);
        let bowline = Path::new(env!("CARGO_BIN_EXE_bowline")).parent().expect("a folder").to_owned();
        let folders = [bowline].into_iter().chain(tools::folders());
        let mut command = Command::new("bash");
        command.args(["-e", "-u", "-o", "pipefail", "-c", &script]).current_dir(self.home.path());
        command.env("PATH", std::env::join_paths(folders).expect("paths"));
        command.env("BOWLINE_SERVER", format!("http://{clients}")).stdin(Stdio::null());
        command.output().expect("bash starts")
    }
}

/// All that was printed, wherever.
fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What make would do, without doing it.
fn is_known_to_make(script: &str) {
    for target in script.lines().map(|line| line.strip_prefix("make ").expect("a make command")) {
        let asked = Command::new("make").args(["--dry-run", target]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        assert!(asked.expect("make starts").status.success(), "make knows no {target}");
    }
}

#[test]
fn every_command_of_the_page_does_what_the_page_says() {
    let settings = [("BOWLINE__DRAIN__LAME_DUCK", "10s")];
    let server = Served::bowline(Command::new(env!("CARGO_BIN_EXE_bowline")), &settings);
    let mut reader = Reader { server, home: tempfile::tempdir().expect("a folder") };
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("helm");
    std::os::unix::fs::symlink(chart, reader.home.path().join("helm")).expect("a link");
    let (mut said, mut run, mut ended) = (None, 0, false);
    for block in blocks(&read(DOCUMENT)) {
        let words: Vec<_> = block.words.iter().map(String::as_str).collect();
        match words[..] {
            ["text"] => {
                // Without the tool there is nothing to compare.
                let Some(said): Option<String> = said.take() else { continue };
                for part in block.text.lines() {
                    assert!(said.contains(part), "{part:?} is not in\n{said}");
                }
            }
            ["sh", "build"] => is_known_to_make(&block.text),
            ["sh", ref how @ ..] => {
                if how.iter().any(|how| *how != "last" && tools::find(how).is_none()) {
                    said = None;
                    continue;
                }
                let output = reader.run(&block.text);
                assert!(output.status.success(), "{}: {}\n{}", output.status, block.text, printed(&output));
                said = Some(printed(&output));
                ended |= how.contains(&"last");
                run += 1;
            }
            _ => panic!("a block of {words:?}"),
        }
    }
    // The first two need nothing that is not ours.
    assert!(run >= 2 && (ended || tools::find("curl").is_none()), "{run} blocks were run");
    if !ended {
        return;
    }
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        if let Some(status) = reader.server.child.try_wait().expect("a process") {
            assert_eq!(status.code(), Some(0));
            return;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    panic!("the server was told to end, and did not");
}

/// Words in backticks.
fn ticked(document: &str) -> Vec<&str> {
    let outside: Vec<_> = document.split("```").step_by(2).collect();
    outside.into_iter().flat_map(|text| text.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_metric_setting_and_reason_that_the_page_names_exists() {
    let (document, metrics, reasons) = (read(DOCUMENT), read("docs/metrics.md"), read("docs/reasons.md"));
    let defaults: toml::Table = read("config.default.toml").parse().expect("TOML");
    let mut found = [0; 3];
    for word in ticked(&document) {
        let is_upper = |c: char| c.is_ascii_uppercase() || c == '_';
        let section = word.split('.').next().unwrap_or_default();
        if word.starts_with("bowline_") {
            assert!(metrics.contains(&format!("`{word}`")), "there is no metric {word}");
            found[0] += 1;
        } else if defaults.contains_key(section) && word.contains('.') && !word.contains([' ', '=']) {
            let value = word.split('.').try_fold(toml::Value::Table(defaults.clone()), |at, key| at.get(key).cloned());
            assert!(value.is_some(), "there is no setting {word}");
            found[1] += 1;
        } else if word.len() > 4 && word.contains('_') && word.chars().all(is_upper) {
            assert!(reasons.contains(&format!("`{word}`")), "there is no reason {word}");
            found[2] += 1;
        }
    }
    assert!(found.iter().all(|count| *count >= 3), "so many were found: {found:?}");
}
