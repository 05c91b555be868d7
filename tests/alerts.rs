//! The alerts, the dashboard and `/metrics` of the real program, as Prometheus' own tool judges them.
//!
//! `make alerts` sees to promtool, where it can be had. Where it is missing, a test says so and passes; with
//! BOWLINE_REQUIRE_PROMTOOL=1, as in CI, it fails.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "its modules are its own; a test says no more than where")]

#[path = "support/admin.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod admin;
#[path = "support/served.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod served;

use std::{
    env,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use admin::Admin;
use bowline::client::{Client, NewEvent, Open};
use served::Served;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The tool that `.ci/tools promtool` installed, or else the system's; `None` after saying so, if there is none.
#[track_caller]
fn promtool() -> Option<Command> {
    let paths = env::var_os("PATH").unwrap_or_default();
    let folders = [root().join(".tools/bin")].into_iter().chain(env::split_paths(&paths));
    let found = folders.map(|folder| folder.join("promtool")).find(|path| path.is_file());
    if found.is_none() {
        assert!(env::var_os("BOWLINE_REQUIRE_PROMTOOL").is_none(), "promtool is missing: run .ci/tools promtool");
        // Past the test harness, which would swallow it: a test that did not run must be seen.
        writeln!(std::io::stderr(), "\nNOT RUN: a test of the alerts, for want of promtool: see `make alerts`\n").ok();
    }
    let mut command = Command::new(found?);
    command.current_dir(root().join("deploy/prometheus"));
    Some(command)
}

/// It is content, and has said nothing on stderr.
#[track_caller]
fn content(output: &Output) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && err.trim().is_empty(), "{}\n{out}\n{err}", output.status);
}

#[test]
fn the_rules_are_sound() {
    let Some(mut promtool) = promtool() else { return };
    content(
        &promtool
            .args(["check", "rules", "--lint=all", "--lint-fatal", "bowline.rules.yaml"])
            .output()
            .expect("it runs"),
    );
}

#[test]
fn every_alert_fires_when_it_should_and_is_silent_otherwise() {
    let Some(mut promtool) = promtool() else { return };
    content(&promtool.args(["test", "rules", "bowline.rules.test.yaml"]).output().expect("it runs"));
}

/// As rules that record each: whether they mean what they should, nobody can tell but who looks at them.
#[test]
fn every_expression_of_the_dashboard_is_one() {
    let Some(mut promtool) = promtool() else { return };
    let text = fs::read_to_string(root().join("deploy/grafana/bowline.json")).expect("the dashboard");
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    let panels = dashboard["panels"].as_array().expect("panels");
    let expressions = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut count = 0;
    for expression in expressions.map(|target| target["expr"].as_str().expect("an expression")) {
        let plain = expression.replace("$__rate_interval", "5m").replace("$job", ".+").replace("$instance", ".+");
        assert!(!plain.contains('$'), "an unknown variable: {expression}");
        // JSON's strings are YAML's.
        writeln!(rules, "  - record: dashboard:{count}\n    expr: {}", serde_json::Value::from(plain))
            .expect("a String");
        count += 1;
    }
    assert!(count > 20, "they were found");
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dashboard.rules.yaml");
    fs::write(&path, rules).expect("a file of our own");
    content(&promtool.args(["check", "rules"]).arg(&path).output().expect("it runs"));
}

#[tokio::test]
async fn prometheus_has_nothing_to_say_against_the_metrics() {
    let Some(mut promtool) = promtool() else { return };
    let server = Served::bowline(Command::new(env!("CARGO_BIN_EXE_bowline")), &[]);
    let client =
        Client::builder(format!("http://{}", server.address)).client_id("c").connect().await.expect("a client");
    let session = client.open(Open::topic("t")).await.expect("a session");
    let receipt = session.publish(NewEvent { payload: "x".into(), ..NewEvent::default() }).await.expect("a receipt");
    receipt.await.expect("it is stored");
    Admin::of(&server).wait_for("bowline_events_delivered_total", 1.0).await;

    let mut judge = promtool
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = judge.stdin.take().expect("a pipe");
    stdin.write_all(Admin::of(&server).get("/metrics").as_bytes()).expect("it reads");
    drop(stdin);
    content(&judge.wait_with_output().expect("it ends"));
    client.close().await;
}
