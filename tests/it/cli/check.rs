//! `bowline check`: what it says, and the code it ends with.

use std::process::{Command, Output};

use super::BOWLINE;

const OPENED: &str = r#"{"at":1,"client":"c","program":"c","connection":0,"op":"opened","session":"s","topic":"t","attach":1,
    "start":[7,0],"head":[7,2],"recovery":"RECOVERY_FRESH","published_seq":0}"#;

/// A history of one program, and one that another has recorded: two publishes, read by somebody else.
struct Run {
    home: tempfile::TempDir,
}

impl Run {
    fn new() -> Self {
        let run = Self { home: tempfile::tempdir().unwrap() };
        let publish = |at: u64, id: &str| {
            format!(
                r#"{{"at":{at},"client":"b","program":"b","connection":0,"op":"publish","session":"","topic":"t","id":"{id}","request":0}}"#
            )
        };
        run.write("writer", &[publish(1, "e1"), publish(3, "e2")]);
        run.write("reader", &[OPENED.replace('\n', ""), delivery(2, 0, 1), delivery(4, 1, 2)]);
        run
    }

    fn write(&self, name: &str, lines: &[String]) {
        std::fs::write(self.home.path().join(name), lines.join("\n") + "\n").unwrap();
    }

    fn check(&self, arguments: &[&str]) -> Output {
        Command::new(BOWLINE).arg("check").args(arguments).current_dir(self.home.path()).output().unwrap()
    }
}

fn delivery(at: u64, prev: u64, offset: u64) -> String {
    format!(
        r#"{{"at":{at},"client":"c","program":"c","connection":0,"op":"deliver","session":"s","topic":"t","prev":{prev},"skipped":0,"snapshot":false,"events":[{{"offset":{offset},"time":{at},"id":"e{offset}","key":"","removes":false,"length":2}}]}}"#
    )
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_several_saw_of_one_run_is_held_against_each_other() {
    let run = Run::new();
    let apart = run.check(&["writer", "reader"]);
    assert_eq!(apart.status.code(), Some(1), "who has read what nobody published has read phantoms");
    assert!(text(&apart.stdout).contains("G9NoPhantom: nobody published \"e1\""), "{}", text(&apart.stdout));
    let together = run.check(&["writer", "reader", "--together"]);
    assert_eq!(together.status.code(), Some(0), "{}", text(&together.stdout));
}

#[test]
fn a_broken_promise_is_told_with_what_broke_it() {
    let run = Run::new();
    run.write("reader", &[OPENED.replace('\n', ""), delivery(4, 1, 2)]);
    let checked = run.check(&["writer", "reader", "--together", "--json"]);
    assert_eq!(
        (checked.status.code(), text(&checked.stderr).trim()),
        (Some(1), "bowline: 1 times a promise was broken")
    );
    let report: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    let violation = &report["violations"][0];
    assert_eq!(violation["guarantee"], "G3Reliable");
    assert_eq!(violation["example"][0]["op"], "deliver");
}

#[test]
fn a_run_in_which_too_little_happened_proves_nothing() {
    let run = Run::new();
    let checked = run.check(&["writer", "reader", "--together", "--min-faults", "2", "--min-exercised", "1"]);
    assert_eq!(checked.status.code(), Some(1));
    let why = text(&checked.stderr);
    assert!(why.contains("faults that took hold: 0, at least 2") && why.contains("G4Resumable"), "{why}");
}

#[test]
fn a_session_that_waits_too_long_breaks_a_promise_where_that_is_asked_for() {
    let run = Run::new();
    run.write(
        "reader",
        &[
            OPENED.replace('\n', ""),
            delivery(2, 0, 1),
            delivery(2_000_004, 1, 2).replace("\"time\":2000004", "\"time\":4"),
        ],
    );
    assert_eq!(run.check(&["writer", "reader", "--together"]).status.code(), Some(0));
    assert_eq!(run.check(&["writer", "reader", "--together", "--max-wait", "1s"]).status.code(), Some(1));
}

#[test]
fn a_bad_line_and_a_file_that_is_not_there_are_named() {
    let run = Run::new();
    run.write("bad", &[OPENED.replace('\n', ""), "{\"at\":1}".to_owned()]);
    let checked = run.check(&["bad"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(text(&checked.stderr).contains("bad: line 2: "), "{}", text(&checked.stderr));
    assert!(text(&run.check(&["nowhere"]).stderr).contains("nowhere: "));
    assert_eq!(run.check(&[]).status.code(), Some(2), "no file at all makes no sense");
}
