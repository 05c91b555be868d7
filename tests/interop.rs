//! Programs of others against the real server: stock Python, stock Go, grpcurl, each from the protocol alone; and a
//! browser, on the page for people.
//!
//! `make test` sets up what they need, where it can be had. Where it is missing, a test says so and passes; with
//! BOWLINE_REQUIRE_INTEROP=1, as in CI, it fails.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "its modules are its own; a test says no more than where")]
#![allow(clippy::print_stdout, reason = "what was measured is shown with --nocapture")]

#[path = "support/admin.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod admin;
#[path = "attack/frames.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod frames;
#[path = "interop/pings.rs"]
mod pings;
#[path = "interop/programs.rs"]
mod programs;
#[path = "interop/proxies.rs"]
mod proxies;
#[path = "interop/relay.rs"]
mod relay;
#[path = "support/served.rs"]
mod served;
#[path = "support/signals.rs"]
mod signals;
#[path = "support/tools.rs"]
mod tools;

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use served::Served;
use tools::find as tool;

/// Probes come after a second of silence, so that a test sees some; and what is only kept is gone after two.
const SETTINGS: &[(&str, &str)] = &[
    ("BOWLINE__REGISTRY__RECEIVE_TIMEOUT", "1s"),
    ("BOWLINE__REGISTRY__PROBE_TIMEOUT", "5s"),
    ("BOWLINE__REGISTRY__HEARTBEAT_INTERVAL", "1s"),
    ("BOWLINE__SESSION__KEY_GRACE", "2s"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn server() -> Served {
    Served::bowline(Command::new(env!("CARGO_BIN_EXE_bowline")), SETTINGS)
}

/// Transports that ended for this cause.
fn ended(server: &Served, cause: &str) -> f64 {
    admin::Admin::of(server).metric(&format!("bowline_transports_closed_total{{cause=\"{cause}\"}}"))
}

/// The guard has ended nobody's transport: whatever stock clients do on their own account, bandwidth probes among it, is
/// right.
fn nobody_went_too_far(server: &Served) {
    for cause in ["too_many_pings", "too_many_resets", "too_many_glitches", "too_many_continuations", "write_stalled"] {
        assert_eq!(ended(server, cause), 0.0, "{cause}");
    }
}

/// A folder of our own under `target/`, empty.
fn workshop(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop").join(name);
    fs::remove_dir_all(&folder).ok();
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    output
}

#[test]
fn a_stock_python_client_converses() {
    let Some(mut python) = programs::python() else { return };
    let server = server();
    let output = run(python.args(["-m", "unittest", "-v"]).env("BOWLINE_ADDRESS", server.address.to_string()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Ran 32 tests"), "all of them ran: {said}");
    nobody_went_too_far(&server);
}

#[test]
fn a_stock_go_client_converses() {
    let Some(mut go) = programs::go() else { return };
    let server = server();
    // Those that need a server of their own are asked for elsewhere.
    let output = run(go.arg("-test.skip=^TestGuard").env("BOWLINE_ADDRESS", server.address.to_string()));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.matches("--- PASS").count() == 14, "all of them ran: {said}");
    nobody_went_too_far(&server);
}

/// Told to leave, the server gives its clients longer than the browser needs to look at that.
const SLOW_DRAIN: &[(&str, &str)] = &[("BOWLINE__DRAIN__SPREAD", "1s"), ("BOWLINE__DRAIN__GRACE", "45s")];

#[test]
fn the_page_of_the_admin_port_works_in_a_browser() {
    let (Some(python), Some(browser)) = (tool("python"), tool("chromium")) else { return };
    let server = Served::bowline(Command::new(env!("CARGO_BIN_EXE_bowline")), SLOW_DRAIN);
    let mut story = Command::new(&python);
    story.args(["-B", "-m", "unittest", "-v"]).current_dir(root().join("tests/interop/browser"));
    run(story
        .env("BOWLINE_BROWSER", browser)
        .env("BOWLINE_PROGRAM", env!("CARGO_BIN_EXE_bowline"))
        .env("BOWLINE_PID", server.child.id().to_string())
        .env("BOWLINE_ADDRESS", server.address.to_string())
        .env("BOWLINE_ADMIN", server.admin.expect("an admin port").to_string()));
}

/// Runs grpcurl with these arguments before the address, and these after; returns what it printed.
#[track_caller]
fn grpcurl(program: &Path, server: &Served, before: &[&str], after: &[&str]) -> String {
    let address = server.address.to_string();
    let mut command = Command::new(program);
    command.args(["-plaintext", "-max-time", "15"]).args(before).arg(address).args(after);
    String::from_utf8(run(&mut command).stdout).expect("text")
}

#[test]
fn grpcurl_needs_no_proto_files() {
    let Some(program) = tool("grpcurl") else { return };
    let server = server();
    let listed = grpcurl(&program, &server, &[], &["list"]);
    for service in ["StreamService", "TopicService", "ConnectionService"] {
        let name = format!("bowline.v1.{service}");
        assert!(listed.lines().any(|line| line == name), "{listed}");
        let described = grpcurl(&program, &server, &[], &["describe", &name]);
        assert!(described.contains(&format!("service {service} {{")), "{described}");
    }
    assert!(listed.contains("grpc.health.v1.Health"), "{listed}");
    for method in ["Check", "List"] {
        let health = grpcurl(&program, &server, &[], &[&format!("grpc.health.v1.Health/{method}")]);
        assert!(health.contains("SERVING") && !health.contains("NOT_SERVING"), "{health}");
    }
    let event = r#"{"topic": "interop.grpcurl", "event": {"payload": "aGVsbG8="}}"#;
    let published = grpcurl(&program, &server, &["-d", event], &["bowline.v1.TopicService/Publish"]);
    assert!(published.contains("\"offset\": \"1\"") && published.contains("DURABILITY_ACCEPTED"), "{published}");
    let nobody = r#"{"topic": "interop.grpcurl"}"#;
    let present = grpcurl(&program, &server, &["-d", nobody], &["bowline.v1.TopicService/GetPresence"]);
    assert_eq!(present.trim(), "{}", "nobody is there");
}

#[test]
fn grpcurl_watches_the_health_of_a_server_until_it_leaves() {
    let Some(program) = tool("grpcurl") else { return };
    let mut server = server();
    let mut child = Command::new(&program)
        .args(["-plaintext", "-max-time", "15", &server.address.to_string(), "grpc.health.v1.Health/Watch"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("grpcurl starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut status = || lines.by_ref().map(|line| line.expect("text")).find(|line| line.contains("status"));
    assert_eq!(status().expect("a status").trim(), r#""status": "SERVING""#);
    signals::send(server.child.id(), "-TERM");
    assert_eq!(status().expect("a status").trim(), r#""status": "NOT_SERVING""#);
    assert_eq!(status(), None, "the watch ends");
    assert!(child.wait().expect("grpcurl ends").success());
    assert!(server.child.wait().expect("the server ends").success());
}

#[test]
fn grpcurl_holds_a_conversation_from_stdin_and_sees_who_is_in_it() {
    let Some(program) = tool("grpcurl") else { return };
    let server = server();
    let mut child = Command::new(&program)
        .args(["-plaintext", "-max-time", "15", "-d", "@", &server.address.to_string()])
        .arg("bowline.v1.StreamService/StreamData")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("grpcurl starts");
    let (mut stdin, mut stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let frames = r#"
        {"hello": {"client_id": "grpcurl"}}
        {"open_session": {"session": 1, "session_id": "typed", "topic": "interop.typed", "presence": {"info": "aGVyZQ=="}}}
        {"request_id": 7, "publish": {"session": 1, "seq": 1, "event": {"payload": "aGVsbG8="}}}
    "#;
    stdin.write_all(frames.as_bytes()).expect("written");
    let mut said = String::new();
    let mut lines = BufReader::new(&mut stdout).lines();
    // Until the publish is answered: then the session is open.
    while !said.contains("\"requestId\": \"7\"") {
        said.push_str(&lines.next().expect("an answer").expect("text"));
    }
    let topic = r#"{"topic": "interop.typed"}"#;
    let present = grpcurl(&program, &server, &["-d", topic], &["bowline.v1.TopicService/GetPresence"]);
    for part in
        [r#""clientId": "grpcurl""#, r#""sessionId": "typed""#, r#""info": "aGVyZQ==""#, r#""memberCount": "1""#]
    {
        assert!(present.contains(part), "{part} is missing: {present}");
    }
    stdin.write_all(br#"{"close_session": {"session": 1}}"#).expect("written");
    // Dropping the pipe ends the input, which half-closes the stream.
    drop(stdin);
    lines.for_each(|line| said.push_str(&line.expect("text")));
    assert!(child.wait().expect("grpcurl ends").success(), "{said}");
    for frame in ["\"welcome\"", "\"sessionOpened\"", "\"sessionClosed\""] {
        assert!(said.contains(frame), "{frame} is missing: {said}");
    }
}
