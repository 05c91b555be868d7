//! `/status`: the state of the whole in one answer, from memory: what the page for people shows.

use std::sync::Arc;

use axum::{Json, extract::State};
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use serde_json::Value;

use super::{Parts, drain, log_level};
use crate::{
    telemetry::metrics::{self, REVISION},
    types::Timestamp,
};

/// Counters are since the start of the process; times are microseconds since the Unix epoch.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    node: String,
    version: &'static str,
    revision: &'static str,
    now_us: u64,
    started_us: u64,
    phase: &'static str,
    ready: bool,
    connections: Connections,
    sessions: i64,
    topics: i64,
    transports: i64,
    events: Events,
    frames: Frames,
    latency: Latency,
    /// Resident memory; absent where the system does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    /// What peers and topics can take at worst, as `bowline config --memory` shows it.
    memory_at_worst: Value,
    /// Absent where the process writes no logs of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_level: Option<log_level::Shown>,
    /// As `/drain` shows it.
    drain: Value,
}

#[derive(Debug, Serialize)]
struct Connections {
    active: i64,
    limit: usize,
    opened: u64,
}

#[derive(Debug, Serialize)]
struct Events {
    published: u64,
    published_bytes: u64,
    delivered: u64,
    delivered_bytes: u64,
    skipped: u64,
}

#[derive(Debug, Serialize)]
struct Frames {
    received: u64,
    received_bytes: u64,
    sent: u64,
    sent_bytes: u64,
}

/// From the acceptance of a publish to the write of its delivery: how many took no longer than each bound, and longer than
/// the one before; then how many took longer than all.
#[derive(Debug, Serialize)]
struct Latency {
    /// Seconds.
    bounds: &'static [f64],
    counts: Vec<u64>,
}

pub(super) async fn status(State(parts): State<Arc<Parts>>) -> Json<Status> {
    let metrics = &parts.metrics;
    let count = Counter::get;
    let (bounds, counts) = metrics.delivery_latency.buckets();
    Json(Status {
        node: parts.node.clone(),
        version: env!("CARGO_PKG_VERSION"),
        revision: REVISION,
        now_us: Timestamp::now().0,
        started_us: parts.started.0,
        phase: parts.lifecycle.phase().as_str(),
        ready: parts.health.ready(),
        connections: Connections {
            active: metrics.connections_active.get(),
            limit: parts.connections.limit(),
            opened: count(&metrics.connections_opened),
        },
        sessions: metrics.sessions_active.get(),
        topics: metrics.topics_active.get(),
        transports: metrics.transports_active.get(),
        events: Events {
            published: count(&metrics.events_published),
            published_bytes: count(&metrics.events_published_bytes),
            delivered: count(&metrics.events_delivered),
            delivered_bytes: count(&metrics.events_delivered_bytes),
            skipped: count(&metrics.events_skipped),
        },
        frames: Frames {
            received: count(&metrics.frames_received),
            received_bytes: count(&metrics.frames_received_bytes),
            sent: count(&metrics.frames_sent),
            sent_bytes: count(&metrics.frames_sent_bytes),
        },
        latency: Latency { bounds, counts },
        memory_bytes: metrics::resident_bytes(),
        memory_at_worst: parts.memory.clone(),
        log_level: log_level::Shown::now(),
        drain: drain::shown(&parts.drain.status()),
    })
}
