//! The house's own rules, held by reading its source as text. Each rule has a test that the source keeps it, and a test
//! that a planted violation is caught.

#![allow(unreachable_pub, reason = "its modules are its own")]

#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::{fs, io::Write as _, process::Command};

use source::{Source, root};

/// The library and the program, without their tests.
fn src() -> Vec<Source> {
    Source::under("src", "rs").into_iter().filter(|source| !source.is_test()).collect()
}

/// What is written for this repository, tests and benchmarks included.
fn everything() -> Vec<Source> {
    ["src", "tests", "benches", "examples"].iter().flat_map(|folder| Source::under(folder, "rs")).collect()
}

/// The rule holds, or every violation is listed.
#[track_caller]
fn kept(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// A warning, past the test harness, which would swallow what a passing test prints.
fn say(what: &str, places: &[String]) {
    for place in places {
        writeln!(std::io::stderr(), "warning: {what}: {place}").ok();
    }
}

/// The rule sees a violation in a file of this path and text.
#[track_caller]
fn caught(rule: fn(&[Source]) -> Vec<String>, path: &str, text: &str) {
    assert_eq!(rule(&[Source::planted(path, text)]).len(), 1, "not caught, or more than once: {path}: {text}");
}

/// The rule sees nothing wrong there.
#[track_caller]
fn passed(rule: fn(&[Source]) -> Vec<String>, path: &str, text: &str) {
    assert_eq!(rule(&[Source::planted(path, text)]), Vec::<String>::new(), "{path}: {text}");
}

#[test]
fn no_module_imports_upward() {
    assert!(src().len() > 20, "the source was found");
    kept(layers::upward_imports(&src()));
}

#[test]
fn a_planted_upward_import_is_caught() {
    let rule = layers::upward_imports;
    caught(rule, "src/broker/memory.rs", "use crate::hub::Hub;");
    caught(rule, "src/session.rs", "use crate::{types::Topic, connection::Actor};");
    caught(rule, "src/health.rs", "fn f() { crate::registry::len() }");
    caught(rule, "src/hub/topic.rs", "use super::super::session::Session;");
    caught(rule, "src/connection/outbox.rs", "use crate::transport::guard::Guard as G;");
    caught(rule, "src/client/worker.rs", "use crate::hub::Hub;");
    caught(rule, "src/cli/publish.rs", "use crate::config::Config;");
    caught(rule, "src/service.rs", "use crate::client::Client;");
    caught(rule, "src/main.rs", "fn main() { bowline::hub::go() }");
}

#[test]
fn a_downward_import_passes_and_so_does_one_in_a_test() {
    let rule = layers::upward_imports;
    passed(rule, "src/hub.rs", "use crate::{broker::{Broker, memory}, types::Topic};\nuse super::log::Log;");
    passed(rule, "src/cli/serve.rs", "use crate::{app, config::Config, lifecycle::Signals};");
    passed(rule, "src/broker.rs", "// use crate::app;\nconst S: &str = \"use crate::app\";");
    passed(rule, "src/broker.rs", "#[cfg(test)]\nmod tests {\n    use crate::app;\n}");
    passed(rule, "src/connection/inbound.rs", "use super::{outbox, state::State};");
}

#[test]
fn every_module_has_a_layer() {
    kept(layers::homeless_modules(&src()));
    caught(layers::homeless_modules, "src/cache.rs", "");
}

#[test]
fn only_proto_the_edges_and_the_client_name_generated_types() {
    kept(layers::generated_types(&src()));
    caught(layers::generated_types, "src/hub.rs", "use crate::proto::v1::Event;");
    caught(layers::generated_types, "src/session.rs", "use crate::{proto::{v1, DESCRIPTORS}};");
    passed(layers::generated_types, "src/service/topic.rs", "use crate::proto::v1::Event;");
}

#[test]
fn only_the_whole_sees_the_whole_configuration() {
    kept(layers::whole_configuration(&src()));
    caught(layers::whole_configuration, "src/hub.rs", "use crate::config::{Config};");
    caught(layers::whole_configuration, "src/cli/history.rs", "fn f(c: crate::config::Config) {}");
    passed(layers::whole_configuration, "src/app.rs", "use crate::config::Config;");
}

#[test]
fn the_core_knows_no_socket_no_tls_no_http() {
    kept(layers::foreign_crates(&src()));
    caught(layers::foreign_crates, "src/session/credit.rs", "use tonic::Code;");
    caught(layers::foreign_crates, "src/connection.rs", "use tokio::net::TcpStream;");
    passed(layers::foreign_crates, "src/hub.rs", "use tokio::sync::Notify;");
}

#[test]
fn only_error_builds_a_status() {
    kept(rules::built_statuses(&src()));
    caught(rules::built_statuses, "src/service.rs", "fn f() { tonic::Status::internal(\"x\") }");
    caught(rules::built_statuses, "src/auth.rs", "use tonic::{Request, Status};\nfn f() { Status::new(Code::Ok, s) }");
    passed(rules::built_statuses, "src/service.rs", "use tonic::Status;\nfn f() { Status::from(failure) }");
    passed(rules::built_statuses, "src/health.rs", "fn f() { Status::new() }");
}

#[test]
fn every_task_is_spawned_through_the_lifecycle() {
    kept(rules::detached_tasks(&src()));
    caught(rules::detached_tasks, "src/hub.rs", "fn f() { tokio::spawn(async {}); }");
    caught(rules::detached_tasks, "src/hub.rs", "use tokio::task;\nfn f() { task::spawn(async {}); }");
    passed(rules::detached_tasks, "src/lifecycle.rs", "fn f() { tokio::spawn(async {}); }");
    passed(rules::detached_tasks, "src/hub.rs", "fn f() { tasks.spawn(\"sweep\", async {}); }");
}

#[test]
fn no_file_is_over_its_budget() {
    let all = everything();
    say("near the ceiling", &rules::files_over(&all, rules::FILE_LINES.0));
    kept(rules::long_files(&all));
    caught(rules::long_files, "src/hub.rs", &"//! Line.\n".repeat(401));
    let tests = format!("//! Short.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "// line\n".repeat(500));
    passed(rules::long_files, "src/hub.rs", &tests);
}

#[test]
fn no_function_is_over_its_budget() {
    let all = everything();
    say("near the ceiling", &rules::functions_over(&all, rules::FUNCTION_LINES.0));
    kept(rules::long_functions(&all));
    let long = format!("fn long(x: [u8; 4]) {{\n{}}}", "    x();\n".repeat(60));
    caught(rules::long_functions, "src/hub.rs", &long);
    passed(rules::long_functions, "src/hub.rs", &format!("fn a();\nfn b() {{}}\n{}", "\n".repeat(90)));
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    kept(rules::silent_files(&everything()));
    caught(rules::silent_files, "src/hub.rs", "use std::fs;\n//! Late.");
}

#[test]
fn no_file_is_called_mod() {
    kept(rules::mod_files(&everything()));
    caught(rules::mod_files, "src/hub/mod.rs", "");
}

#[test]
fn no_name_says_nothing() {
    kept(rules::empty_names(&everything()));
    caught(rules::empty_names, "src/hub.rs", "pub struct HubManager;");
    caught(rules::empty_names, "src/hub.rs", "type EventInfo = ();");
    caught(rules::empty_names, "src/hub/util.rs", "");
    passed(rules::empty_names, "src/hub.rs", "struct Datagram; enum Utility {}");
    passed(rules::empty_names, "src/hub.rs", "impl Body for X {\n    type Data = Bytes;\n}");
}

#[test]
fn there_is_one_tonic_one_prost_one_rustls() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    kept(rules::doubled_packages(&lock));
    let planted = format!("{lock}\n[[package]]\nname = \"tonic\"\nversion = \"0.12.0\"\n");
    assert_eq!(rules::doubled_packages(&planted), ["tonic: 2 versions"]);
}

/// From the resolved tree and not the lock file, which also lists optional dependencies that nothing switches on.
#[test]
fn aws_lc_rs_is_the_only_tls_provider() {
    let arguments = ["tree", "--locked", "--offline", "--prefix", "none", "--format", "{p}"];
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("text");
    assert!(tree.lines().any(|line| line.starts_with("aws-lc-rs ")), "the tree was read");
    kept(rules::other_tls(&tree));
    assert_eq!(rules::other_tls("tokio v1.0.0\nring v0.17.14\n"), ["ring is in the tree"]);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let documents = Source::under("docs", "md").into_iter().chain(Source::under("benches", "md"));
    let at_root = fs::read_dir(root()).expect("the repository").filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.ends_with(".md")
            .then(|| Source::planted(&name, &fs::read_to_string(root().join(&name)).expect("a document")))
    });
    for document in documents.chain(at_root) {
        let folder = root().join(&document.path).parent().expect("a folder").to_owned();
        let dead = rules::dead_links(&document.text, |target| folder.join(target).exists());
        kept(dead.into_iter().map(|d| format!("{}: {d}", document.path)).collect());
    }
    assert_eq!(rules::dead_links("see [a](a.md#b) and [w](https://x.y)", |_| false).len(), 1);
}
