//! What `/metrics` says, held against what was done to the server.

use std::collections::{BTreeMap, BTreeSet};

use bowline::{proto::v1::OpenSession, telemetry::metrics::words};
use futures_util::{StreamExt as _, stream};

use crate::support::{
    Heard, Settings, TestServer, credit, earliest, event, eventually, get, grant, named, open, publish, with, within,
};

/// A sampled one, as a client's library of traces writes it.
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

const OPEN_METRICS: &str = "accept: application/openmetrics-text; version=1.0.0";

/// Heartbeats come often, and with each a look at the sessions.
const OFTEN: Settings<'_> = &[("registry.heartbeat_interval", "40ms")];

/// Names of series, without those that the number of tasks or threads could decide.
async fn series(server: &TestServer) -> BTreeSet<String> {
    let text = get(server.admin, "/metrics", "").await.body;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}")).0.to_owned()).collect()
}

/// Clients of names, sessions and topics of their own; each publishes, reads, leaves. Some of them at a time.
async fn visit(server: &TestServer, names: std::ops::Range<usize>) {
    let visits = stream::iter(names).map(|number| async move {
        let mut client = server.connect(&format!("client-{number}")).await;
        client.open(named(1, &format!("topic-{number}"), &format!("session-{number}"))).await;
        client.publish(publish(1, 1, "hello")).await;
        if number % 3 == 0 {
            client.sever();
        } else {
            client.half_close();
            while !matches!(client.heard().await, Heard::End(_)) {}
        }
    });
    visits.buffer_unordered(20).collect::<()>().await;
    server.emptied().await;
}

#[tokio::test]
async fn more_clients_do_not_make_more_series() {
    let server = TestServer::start().await;
    visit(&server, 0..10).await;
    let few = series(&server).await;
    visit(&server, 10..300).await;
    assert_eq!(server.metrics().connections_opened.get(), 300);
    let many = series(&server).await;
    assert_eq!(many.difference(&few).collect::<Vec<_>>(), Vec::<&String>::new());
    server.leave().await;
}

#[tokio::test]
async fn every_value_of_a_label_is_a_word_of_the_closed_set() {
    let server = TestServer::with(&[("registry.max_connections", "2")]).await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    client.publish(publish(1, 5, "a seq with a hole")).await;
    let mut lost = server.connect("bob").await;
    lost.open(open(1, "t")).await;
    assert_eq!(server.refused_call(&[]).await.message(), "maximum connections reached");
    lost.sever();
    client.half_close();
    while !matches!(client.heard().await, Heard::End(_)) {}
    server.emptied().await;

    let known: BTreeMap<_, _> =
        words::vocabularies().into_iter().map(|(family, label, words)| ((family, label), words)).collect();
    let mut seen = BTreeSet::new();
    for sample in series(&server).await.iter().filter(|sample| sample.starts_with("bowline_")) {
        let Some((family, labels)) = sample.strip_suffix('}').and_then(|sample| sample.split_once('{')) else {
            continue;
        };
        for (label, value) in labels.split(',').filter_map(|label| label.split_once('=')) {
            let Some(words) = known.get(&(family, label)) else { continue };
            assert!(words.contains(&value.trim_matches('"')), "{sample}");
            seen.insert(family.to_owned());
        }
    }
    // Without TLS, no certificate ends; without a broker elsewhere, there is nothing to be connected to.
    let missing: Vec<_> = known.keys().map(|(family, _)| *family).filter(|family| !seen.contains(*family)).collect();
    assert_eq!(missing, ["bowline_broker_connected", "bowline_tls_not_after_seconds"]);
    for (sample, value) in [
        ("bowline_connections_rejected_total{reason=\"MAX_CONNECTIONS\"}", 1.0),
        ("bowline_connections_closed_total{cause=\"OK\"}", 1.0),
        ("bowline_connections_closed_total{cause=\"PEER_GONE\"}", 1.0),
        ("bowline_sessions_closed_total{reason=\"DETACHED\"}", 1.0),
        ("bowline_publishes_failed_total{reason=\"WRONG_SEQ\"}", 1.0),
        ("bowline_connections_limit", 2.0),
    ] {
        assert_eq!(server.sample(sample), value, "{sample}");
    }
    server.leave().await;
}

#[tokio::test]
async fn a_session_that_lags_is_seen_with_every_heartbeat_and_one_that_has_caught_up_too() {
    let server = TestServer::with(OFTEN).await;
    let lags = |bound: &str| server.sample(&format!("bowline_session_lag_events_bucket{{le=\"{bound}\"}}"));
    let mut client = server.connect("alice").await;
    client.open(open(1, "quiet")).await;
    eventually("a session without lag was seen", || lags("0.0") > 0.0).await;
    assert_eq!(lags("0.0"), lags("+Inf"));

    client.open(OpenSession { credit: credit(1, 0), ..open(2, "busy") }).await;
    server.store("busy", &["read", "1", "2", "3", "4", "5"]).await;
    eventually("one that is five behind was seen", || lags("16.0") > lags("4.0")).await;
    assert_eq!(lags("16.0"), lags("+Inf"), "nobody is further behind");
    server.leave().await;
}

#[tokio::test]
async fn latency_is_that_of_live_deliveries() {
    let server = TestServer::start().await;
    let counted = || server.metrics().delivery_latency.count();
    server.store("t", &["old", "older"]).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), ..open(1, "t") }).await;
    client.events(1, 2).await;
    assert_eq!(counted(), 0, "history was not published for this delivery");
    client.publish(publish(1, 1, "live")).await;
    client.events(1, 1).await;
    eventually("a live delivery was counted", || counted() == 1).await;

    client.open(OpenSession { credit: credit(1, 0), ..open(2, "u") }).await;
    server.store("u", &["within the credit"]).await;
    eventually("it was delivered within its credit", || counted() == 2).await;
    server.store("u", &["over it"]).await;
    let before = server.metrics().events_delivered.get();
    client.settled().await;
    client.send(grant(2, 10)).await;
    eventually("the rest came with more credit", || server.metrics().events_delivered.get() == before + 1).await;
    assert_eq!(counted(), 2, "it waited for its client, not for us");
    server.store("u", &["live again"]).await;
    eventually("what comes then is counted", || counted() == 3).await;
    server.leave().await;
}

#[tokio::test]
async fn a_traced_publish_is_the_exemplar_of_its_latency_in_open_metrics_only() {
    // Nobody is at that port: what is traced need not arrive.
    let otlp = [("telemetry.otlp.enabled", "true"), ("telemetry.otlp.endpoint", "http://127.0.0.1:9")];
    let server = TestServer::with(&otlp).await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    let traced = |text: &str| with(1, 1, bowline::proto::v1::NewEvent { traceparent: text.to_owned(), ..event("x") });
    client.publish(traced(TRACEPARENT)).await;
    eventually("it was delivered", || server.metrics().delivery_latency.count() == 1).await;
    let text = get(server.admin, "/metrics", OPEN_METRICS).await.body;
    let noted: Vec<_> = text.lines().filter(|line| line.contains(" # ")).collect();
    let [line] = noted[..] else { panic!("one exemplar: {noted:?}") };
    assert!(line.starts_with("bowline_delivery_latency_seconds_bucket{le=\""), "{line}");
    // The span is the server's own, in the trace of its caller.
    assert!(line.contains(" 1 # {trace_id=\"0af7651916cd43dd8448eb211c80319c\",span_id=\""), "{line}");
    assert!(!get(server.admin, "/metrics", "").await.body.contains("trace_id"));
    server.leave().await;
}

#[tokio::test]
async fn a_drain_shows_how_many_it_still_waits_for() {
    let server = TestServer::with(&[("drain.grace", "8s")]).await;
    let admin = server.admin;
    let remaining = async || {
        let text = get(admin, "/metrics", "").await.body;
        let line = text.lines().find_map(|line| line.strip_prefix("bowline_drain_remaining ").map(str::to_owned));
        line.and_then(|value| value.parse::<usize>().ok()).expect("the gauge")
    };
    let mut clients = [server.connect("alice").await, server.connect("bob").await];
    assert_eq!(remaining().await, 0, "nobody is told to move");
    let observe = async {
        for client in &mut clients {
            client.drain().await;
        }
        assert_eq!(remaining().await, 2);
        let [first, last] = &mut clients;
        first.half_close();
        first.ended_well().await;
        // The client hears of its end a moment before the server has put its things away.
        within("its leaving", async { while remaining().await != 1 {} }).await;
        last.half_close();
        last.ended_well().await;
    };
    tokio::join!(server.leave_politely(), observe);
}
