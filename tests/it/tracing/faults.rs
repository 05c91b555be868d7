//! A collector that does not do its part costs spans, and nothing else.

use std::{net::TcpListener, time::Duration};

use tokio::time::{Instant, timeout};

use bowline::proto::v1::NewEvent;

use super::exporting;
use crate::{
    collector::{Collector, Manner},
    support::{TestServer, event, eventually, open, with},
};

/// Longest time the end may take: the five seconds for the last spans, and the rest of the way.
const END: Duration = Duration::from_secs(8);

/// Everything is traced, and an export is given up after a second.
const SETTINGS: &[(&str, &str)] = &[
    ("telemetry.traces.sample_ratio", "1"),
    ("telemetry.otlp.timeout", "1s"),
    ("telemetry.traces.max_forced_per_second", "1000000"),
];

/// Events go through, each within a bound that no export could meet; far more spans are made than may wait.
async fn goes_on(server: &TestServer) {
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    for seq in 1..=20 {
        let trip = async {
            client.ask(with(1, seq, event("x"))).await;
            while client.cursor(1).offset < seq {
                client.frame().await;
            }
        };
        timeout(Duration::from_millis(900), trip).await.expect("a delivery waited for the collector");
    }
    let many: Vec<NewEvent> = (0..6000).map(|_| event("x")).collect();
    server.publish("flood", many).await;
}

async fn dropped(server: &TestServer, at_least: f64) {
    eventually("spans were dropped and counted", || server.sample("bowline_telemetry_dropped_total") >= at_least).await;
}

async fn ends(server: TestServer) {
    let begun = Instant::now();
    server.leave().await;
    assert!(begun.elapsed() < END, "the end took {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_not_there_costs_spans_only() {
    // Taken, so that nobody else takes it, and closed again.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = exporting(&format!("http://{address}"), SETTINGS).await;
    goes_on(&server).await;
    dropped(&server, 3000.0).await;
    ends(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_refuses_costs_spans_only() {
    let collector = Collector::start(Manner::Refuses).await;
    let server = exporting(&collector.url(), SETTINGS).await;
    goes_on(&server).await;
    dropped(&server, 3000.0).await;
    ends(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_costs_spans_only() {
    let collector = Collector::start(Manner::Silent).await;
    let server = exporting(&collector.url(), SETTINGS).await;
    goes_on(&server).await;
    dropped(&server, 3000.0).await;
    ends(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_collector_gets_what_it_can_take_and_the_rest_is_counted() {
    let collector = Collector::start(Manner::Slow(Duration::from_millis(700))).await;
    let server = exporting(&collector.url(), SETTINGS).await;
    goes_on(&server).await;
    dropped(&server, 1000.0).await;
    eventually("some spans came", || collector.spans().len() >= 512).await;
    ends(server).await;
}
