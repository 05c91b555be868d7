//! The program with `OTEL_*` in its environment.

use std::{
    io::{BufRead as _, BufReader, Lines},
    process::{ChildStderr, Command, Stdio},
};

use super::traceparent;
use crate::{
    collector::{Collector, Manner},
    support::{TestClient, eventually, hello},
};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn serve(environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--set", "admin.enabled=false", "--log-level", "debug"]);
    command.envs(environment.iter().copied()).stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

/// The next log line with these words in it.
fn said(lines: &mut Lines<BufReader<ChildStderr>>, words: &str) -> serde_json::Value {
    let line = tokio::task::block_in_place(|| lines.map(Result::unwrap).find(|line| line.contains(words)));
    serde_json::from_str(&line.expect("such a line")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platforms_variables_are_all_it_takes_and_logs_carry_the_ids_of_their_span() {
    let collector = Collector::start(Manner::Takes).await;
    let address = collector.address.to_string();
    let mut child = serve(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &address),
        ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20abc"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_SERVICE_NAME", "edge"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
    ])
    .spawn()
    .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let listening = said(&mut lines, "listening for clients");
    let server = listening["address"].as_str().unwrap().parse().unwrap();
    let _untraced = TestClient::call(server, &[]).await.unwrap();
    let mut client = TestClient::call(server, &[("traceparent", PARENT)]).await.unwrap();
    client.send(hello("alice")).await;
    client.welcomed().await;
    eventually("the opening was exported", || !collector.spans().is_empty()).await;

    let spans = collector.spans();
    assert_eq!(spans.len(), 1, "only the caller wanted one");
    assert_eq!(
        (collector.resource("service.name"), collector.resource("deployment.environment.name")),
        ("edge".into(), "test".into())
    );
    assert_eq!(collector.header("authorization").as_deref(), Some("Basic abc"));
    let open = said(&mut lines, "connection open");
    let ids = format!("00-{}-{}-{}", open["trace_id"].as_str().unwrap(), open["span_id"].as_str().unwrap(), "01");
    assert_eq!(ids, traceparent(&spans[0]));
    assert_eq!(open["client.id"], "alice");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_cannot_be_done_stops_the_start_with_a_sentence_for_each() {
    let output = serve(&[
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_PROPAGATORS", "b3"),
    ])
    .output()
    .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains(r#"OTEL_EXPORTER_OTLP_PROTOCOL is "http/protobuf"; it must be grpc"#), "{said}");
    assert!(
        said.contains(r#"OTEL_PROPAGATORS is "b3"; it must be a list of tracecontext and baggage, or none"#),
        "{said}"
    );
}
