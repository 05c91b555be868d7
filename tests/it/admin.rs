//! The port for operators, over real HTTP.

mod listings;
mod log_level;

use std::collections::HashMap;

use tonic::Code;

use crate::support::{TestServer, ask, eventually, get, open, publish};

#[tokio::test]
async fn a_server_that_serves_is_alive_ready_and_started() {
    let server = TestServer::start().await;
    for path in ["/livez", "/readyz", "/startupz"] {
        let answer = get(server.admin, path, "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"), "{path}");
        assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
    }
    let verbose = get(server.admin, "/readyz?verbose", "").await;
    assert!(verbose.status == 200 && verbose.body.contains("[+]"), "{}", verbose.body);
    assert_eq!(get(server.admin, "/nothing", "").await.status, 404);
    server.leave().await;
}

/// Samples by name and labels; every line must be a comment or a sample whose value is a number.
fn samples(text: &str) -> HashMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
        })
        .collect()
}

#[tokio::test]
async fn metrics_come_in_both_formats_and_count_what_happens() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    for seq in 1..=3 {
        client.publish(publish(1, seq, "12345")).await;
    }
    server.store("other", &["x"]).await;
    eventually("three events were delivered", || server.metrics().events_delivered.get() == 3).await;
    for (accept, kind, end) in [
        ("", "text/plain; version=0.0.4", false),
        ("accept: application/openmetrics-text", "application/openmetrics-text; version=1.0.0", true),
    ] {
        let answer = get(server.admin, "/metrics", accept).await;
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains(kind), "{}", answer.head);
        assert_eq!(answer.body.ends_with("# EOF\n"), end);
        let samples = samples(&answer.body);
        for (name, value) in [
            ("bowline_connections_active", 1.0),
            ("bowline_connections_opened_total", 1.0),
            ("bowline_sessions_active", 1.0),
            ("bowline_events_published_total", 4.0),
            ("bowline_events_published_bytes_total", 16.0),
            ("bowline_events_delivered_total", 3.0),
            ("bowline_frames_received_total", 5.0),
            ("bowline_session_opens_total{recovery=\"FRESH\"}", 1.0),
            ("bowline_drain_state", 1.0),
        ] {
            assert_eq!(samples.get(name), Some(&value), "{name}");
        }
        assert!(samples.keys().any(|name| name.starts_with("grpc_server_handled_total{")), "unary calls are counted");
        assert!(samples.keys().any(|name| name.starts_with("bowline_delivery_latency_seconds_bucket{")));
        assert!(samples.contains_key("process_open_fds"));
    }
    server.leave().await;
}

#[tokio::test]
async fn connections_are_listed_with_what_an_operator_wants_to_know() {
    let server = TestServer::start().await;
    let mut clients = Vec::new();
    for n in 0..5 {
        let mut client = server.connect(&format!("c{}", n % 2)).await;
        client.open(open(1, "t")).await;
        clients.push(client);
    }
    let first = get(server.admin, "/connections?limit=3", "").await.json();
    assert_eq!((first["total"].as_u64(), first["connections"].as_array().unwrap().len()), (Some(5), 3));
    let row = &first["connections"][0];
    assert_eq!((row["client_id"].as_str(), row["state"].as_str()), (Some("c0"), Some("connected")));
    assert_eq!((row["sessions"].as_u64(), row["received"].as_u64()), (Some(1), Some(2)));
    let rest = get(server.admin, &format!("/connections?limit=3&after={}", first["next"]), "").await.json();
    assert_eq!(rest["connections"].as_array().unwrap().len(), 2);
    assert!(rest.get("next").is_none());
    let one = get(server.admin, "/connections?client_id=c1", "").await.json();
    assert_eq!(one["connections"].as_array().unwrap().len(), 2);
    assert_eq!(get(server.admin, "/connections?limit=many", "").await.status, 400);
    server.leave().await;
}

#[tokio::test]
async fn the_configuration_in_force_is_shown_with_its_sources_and_without_secrets() {
    let server =
        TestServer::with(&[("registry.max_connections", "7"), ("telemetry.otlp.headers", "authorization=Bearer-123")])
            .await;
    let answer = get(server.admin, "/config", "").await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("max_connections") && answer.body.contains("--set registry.max_connections"));
    assert!(!answer.body.contains("Bearer-123"), "{}", answer.body);
    answer.json();
    server.leave().await;
}

#[tokio::test]
async fn the_version_is_that_of_the_program() {
    let server = TestServer::start().await;
    let version = get(server.admin, "/version", "").await.json();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    server.leave().await;
}

#[tokio::test]
async fn an_operator_closes_one_connection_and_its_client_is_told_why() {
    let server = TestServer::start().await;
    let (mut alice, _bob) = (server.connect("alice").await, server.connect("bob").await);
    let rows = get(server.admin, "/connections?client_id=alice", "").await.json();
    let path = format!("/connections/{}", rows["connections"][0]["connection_id"].as_str().unwrap());
    let foreign = ask(server.admin, "DELETE", &path, "origin: http://evil.example", "").await;
    assert_eq!((foreign.status, server.connections()), (403, 2));
    let done = ask(server.admin, "DELETE", &path, "", "{\"reason\": \"too loud\"}").await;
    assert_eq!(done.status, 204, "{}", done.body);
    let status = alice.ended_with(Code::Unavailable, "DISCONNECTED").await;
    assert_eq!(status.message(), "an operator closed the connection: too loud");
    eventually("one is left", || server.connections() == 1).await;
    assert_eq!(ask(server.admin, "DELETE", &path, "", "").await.status, 404);
    assert_eq!(ask(server.admin, "DELETE", "/connections/nonsense", "", "").await.status, 404);
    server.leave().await;
}

#[tokio::test]
async fn a_token_that_was_configured_is_not_shown_and_a_wrong_one_changes_nothing() {
    let server = TestServer::with(&[("admin.token", "secretword-0123456789")]).await;
    let _alice = server.connect("alice").await;
    assert!(!get(server.admin, "/config", "").await.body.contains("secretword"));
    let rows = get(server.admin, "/connections", "").await.json();
    let path = format!("/connections/{}", rows["connections"][0]["connection_id"].as_str().unwrap());
    let close = |header: &'static str| ask(server.admin, "DELETE", &path, header, "");
    assert_eq!(close("authorization: Bearer secretword-0123456780").await.status, 401);
    assert_eq!(server.connections(), 1);
    assert_eq!(close("authorization: Bearer secretword-0123456789").await.status, 204);
    eventually("it was closed", || server.connections() == 0).await;
    server.leave().await;
}
