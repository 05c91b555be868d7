//! Every instrument of the process.
//!
//! Names are `bowline_<noun>_<unit>[_total]`, except where a convention of the ecosystem says otherwise (`grpc_server_*`
//! as go-grpc-middleware, `process_*` as every client library). Labels come from closed sets, so the number of series
//! does not grow with clients, sessions or topics. What is counted per event or frame is a bare atomic; only rare
//! things (an end, a refusal, a unary call) look their series up.

mod exemplar;
mod histogram;
mod process;
mod rpc;
mod runtime;
mod text;
pub mod words;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};

use self::words::{
    BridgeIn, BridgeOut, BrokerPublish, ConnectionEnd, Gap, HandshakeEnd, Link, Recovery, Refusal, SessionEnd,
    SlowAction, TlsCertificate, TlsReload, TransportEnd,
};
pub use self::{
    histogram::{CountHistogram, Histogram},
    process::resident_bytes,
};
use crate::{error::Reason, lifecycle::Phase, types::Timestamp};

/// Counters by why something ended.
type ByCause = Family<Cause, Counter>;
/// Counters by why something was refused or lost.
type ByReason = Family<Because, Counter>;
/// Counters by what was done.
type ByAction = Family<Action, Counter>;
/// Gauges by whose certificate it is.
type ByCertificate = Family<Whose, Gauge>;
/// Gauges by which connection to the broker it is.
type ByLink = Family<Which, Gauge>;
/// Counters by what came of it.
type ByOutcome = Family<Outcome, Counter>;
/// Counters by how a session came back.
type ByRecovery = Family<Recovered, Counter>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cause {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Because {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Action {
    action: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Whose {
    certificate: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Which {
    link: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Recovered {
    recovery: &'static str,
}

/// One line for each instrument: its documentation is also its help text.
macro_rules! instruments {
    ($($(#[doc = $doc:literal])* $vis:vis $field:ident: $type:ty = $name:literal;)*) => {
        /// Every instrument. One for a process, shared as `Arc<Metrics>`.
        #[derive(Debug)]
        pub struct Metrics {
            $($(#[doc = $doc])* $vis $field: $type,)*
            rpc: rpc::Instruments,
            registry: Registry,
        }

        impl Metrics {
            fn register(mut registry: Registry) -> Self {
                $(
                    let $field = <$type>::default();
                    registry.register($name, help(concat!($($doc),*)), $field.clone());
                )*
                Self { $($field,)* rpc: rpc::Instruments::register(&mut registry), registry }
            }
        }
    };
}

instruments! {
    /// Connections (StreamData calls) being served.
    pub connections_active: Gauge = "bowline_connections_active";
    /// Most connections that are admitted: the setting `registry.max_connections`.
    pub connections_limit: Gauge = "bowline_connections_limit";
    /// Connections admitted since the start.
    pub connections_opened: Counter = "bowline_connections_opened";
    /// Connections that ended, by cause.
    connections_closed: ByCause = "bowline_connections_closed";
    /// Connections refused, by reason.
    connections_rejected: ByReason = "bowline_connections_rejected";
    /// Sessions open on a connection.
    pub sessions_active: Gauge = "bowline_sessions_active";
    /// Sessions opened or resumed, by how much of what they missed was there.
    session_opens: ByRecovery = "bowline_session_opens";
    /// Sessions closed, by reason.
    sessions_closed: ByReason = "bowline_sessions_closed";
    /// Gaps announced to sessions, by reason.
    gaps: ByReason = "bowline_gaps";
    /// Topics active on this replica.
    pub topics_active: Gauge = "bowline_topics_active";
    /// Memory that the histories of all topics take, bytes, with what is remembered of their publishes and keys.
    pub history_bytes: Gauge = "bowline_history_bytes";
    /// Bytes dropped from the longest histories, because all together held what they may (`topics.max_total_history`).
    pub history_trimmed_bytes: Counter = "bowline_history_trimmed_bytes";
    /// Events stored by publishes that came through this replica.
    pub events_published: Counter = "bowline_events_published";
    /// Payload bytes of the events published.
    pub events_published_bytes: Counter = "bowline_events_published_bytes";
    /// Events handed to HTTP/2, counted once for each session that got them.
    pub events_delivered: Counter = "bowline_events_delivered";
    /// Payload bytes of the events delivered.
    pub events_delivered_bytes: Counter = "bowline_events_delivered_bytes";
    /// Events left out of deliveries by a conflating policy.
    pub events_skipped: Counter = "bowline_events_skipped";
    /// Times a delivery policy acted on a session that did not keep up, by what it did.
    slow_sessions: ByAction = "bowline_slow_sessions";
    /// Sessions forgotten because nobody came back for them in time.
    pub sessions_expired: Counter = "bowline_sessions_expired";
    /// Publishes refused or failed, by reason.
    publishes_failed: ByReason = "bowline_publishes_failed";
    /// Seconds from the acceptance of a publish to the write of its delivery; of what a session reads as history, or made
    /// wait by a pause, by its credit or by its rate, nothing is counted.
    pub delivery_latency: Histogram = "bowline_delivery_latency_seconds";
    /// Events between a session's place and the newest, looked at with each heartbeat of its connection.
    pub session_lag: CountHistogram = "bowline_session_lag_events";
    /// Frames received from clients.
    pub frames_received: Counter = "bowline_frames_received";
    /// Bytes of the frames received.
    pub frames_received_bytes: Counter = "bowline_frames_received_bytes";
    /// Frames sent to clients.
    pub frames_sent: Counter = "bowline_frames_sent";
    /// Bytes of the frames sent.
    pub frames_sent_bytes: Counter = "bowline_frames_sent_bytes";
    /// Connections whose receiving half failed, other than by a polite end.
    pub receive_errors: Counter = "bowline_receive_errors";
    /// Connections whose sending half failed or made no progress in time.
    pub send_errors: Counter = "bowline_send_errors";
    /// Heartbeats not sent because data was waiting.
    pub heartbeats_missed: Counter = "bowline_heartbeats_missed";
    /// Probes sent to silent clients.
    pub probes_sent: Counter = "bowline_probes_sent";
    /// Sockets with a finished handshake.
    pub transports_active: Gauge = "bowline_transports_active";
    /// Sockets accepted since the start.
    pub transports_opened: Counter = "bowline_transports_opened";
    /// Sockets closed, by cause.
    transports_closed: ByCause = "bowline_transports_closed";
    /// Handshakes that failed, by cause.
    handshakes_failed: ByCause = "bowline_handshakes_failed";
    /// When a certificate ends, seconds since the Unix epoch: of the server's own, and of the authority for clients that
    /// ends first.
    tls_not_after: ByCertificate = "bowline_tls_not_after_seconds";
    /// Times that what is in the TLS files had changed, by what became of it.
    tls_reloads: ByOutcome = "bowline_tls_reloads";
    /// 1 while what is in the TLS files cannot be used, and what was there before is served; else 0.
    pub tls_files_refused: Gauge = "bowline_tls_files_refused";
    /// Phase of the process: 0 starting, 1 serving, 2 lame duck, 3 draining, 4 drained, 5 stopped.
    pub drain_state: Gauge = "bowline_drain_state";
    /// Connections that a drain has yet to see leave; 0 until clients are being told to move.
    pub drain_remaining: Gauge = "bowline_drain_remaining";
    /// Settings spelt `insecure_` that are on.
    pub insecure_settings: Gauge = "bowline_insecure_settings";
    /// Times that files with keys, rules or names had changed and could not be used: what they said before stays in force.
    pub auth_reload_failures: Counter = "bowline_auth_reload_failures";
    /// 1 while that connection to the broker is up, else 0. Not there where topics are in memory; the rest of these is 0 there.
    broker_connected: ByLink = "bowline_broker_connected";
    /// Times that a connection to the broker came back after it was lost.
    pub broker_reconnects: Counter = "bowline_broker_reconnects";
    /// Publishes given to the broker, by what became of them; those of the server's own are among them.
    broker_publishes: ByOutcome = "bowline_broker_publishes";
    /// Publishes given to the broker whose outcome is not known yet.
    pub broker_publishes_active: Gauge = "bowline_broker_publishes_active";
    /// Times that a publish was sent to the broker again, under the same id, because it had not said what became of it.
    pub broker_publish_retries: Counter = "bowline_broker_publish_retries";
    /// Seconds from sending a publish to the broker to its answer, of each time that one came.
    pub broker_round_trip: Histogram = "bowline_broker_round_trip_seconds";
    /// Times that events were fetched that had not come by themselves, or not in their order.
    pub broker_holes_filled: Counter = "bowline_broker_holes_filled";
    /// Events fetched from the broker: histories of topics that were opened, and what had not come by itself.
    pub broker_events_fetched: Counter = "bowline_broker_events_fetched";
    /// Times that a part of what the broker keeps was found to be lost or another: its topics have a new epoch.
    pub broker_epochs_changed: Counter = "bowline_broker_epochs_changed";
    /// Messages that came by bridges from NATS, by what became of them; each is counted by one replica.
    bridge_messages_received: ByOutcome = "bowline_bridge_messages_received";
    /// Events that were to leave by bridges to NATS, by what became of them; each is counted by one replica.
    bridge_messages_sent: ByOutcome = "bowline_bridge_messages_sent";
    /// Spans that could not be exported.
    pub telemetry_dropped: Counter = "bowline_telemetry_dropped";
    /// Publishes and calls whose caller asked for a trace when too many did.
    pub traces_unfollowed: Counter = "bowline_traces_unfollowed";
}

impl Metrics {
    /// All at zero. Reports on the tokio runtime it is made on, if it is made on one.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        // Information has its suffix added when it is encoded, as counters have.
        registry.register("bowline_build", "Version of the running program", build_info());
        registry.register_collector(Box::new(process::Collector::new()));
        if let Ok(handle) = tokio::runtime::Handle::try_current() {
            registry.register_collector(Box::new(runtime::Collector::new(handle)));
        }
        let metrics = Self::register(registry);
        metrics.announce();
        metrics
    }

    /// Makes the series of the small sets, so that a first time is seen as a rise, and a silence is a zero. Any reason
    /// can end a connection, a session or a publish in theory; of those sets only what comes to pass has a series.
    fn announce(&self) {
        for refusal in Refusal::ALL {
            self.connections_rejected.get_or_create(&Because { reason: refusal.as_str() }).inc_by(0);
        }
        for recovery in Recovery::ALL {
            self.session_opens.get_or_create(&Recovered { recovery: recovery.as_str() }).inc_by(0);
        }
        for reason in Gap::ALL {
            self.gaps.get_or_create(&Because { reason: reason.as_str() }).inc_by(0);
        }
        for action in SlowAction::ALL {
            self.slow_sessions.get_or_create(&Action { action: action.as_str() }).inc_by(0);
        }
        for end in TransportEnd::ALL {
            self.transports_closed.get_or_create(&Cause { cause: end.as_str() }).inc_by(0);
        }
        for end in HandshakeEnd::ALL {
            self.handshakes_failed.get_or_create(&Cause { cause: end.as_str() }).inc_by(0);
        }
        for outcome in BrokerPublish::ALL {
            self.broker_publishes.get_or_create(&Outcome { outcome: outcome.as_str() }).inc_by(0);
        }
        for outcome in BridgeIn::ALL {
            self.bridge_messages_received.get_or_create(&Outcome { outcome: outcome.as_str() }).inc_by(0);
        }
        for outcome in BridgeOut::ALL {
            self.bridge_messages_sent.get_or_create(&Outcome { outcome: outcome.as_str() }).inc_by(0);
        }
        for outcome in TlsReload::ALL {
            self.tls_reloads.get_or_create(&Outcome { outcome: outcome.as_str() }).inc_by(0);
        }
    }

    /// A connection ended.
    pub fn connection_closed(&self, end: ConnectionEnd) {
        self.connections_closed.get_or_create(&Cause { cause: end.as_str() }).inc();
    }

    /// A connection was refused.
    pub fn rejected(&self, refusal: Refusal) {
        self.connections_rejected.get_or_create(&Because { reason: refusal.as_str() }).inc();
    }

    /// A session was opened or resumed.
    pub fn session_opened(&self, recovery: Recovery) {
        self.session_opens.get_or_create(&Recovered { recovery: recovery.as_str() }).inc();
    }

    /// A session was closed, or not opened.
    pub fn session_closed(&self, end: SessionEnd) {
        self.sessions_closed.get_or_create(&Because { reason: end.as_str() }).inc();
    }

    /// A Gap was announced.
    pub fn gap(&self, reason: Gap) {
        self.gaps.get_or_create(&Because { reason: reason.as_str() }).inc();
    }

    /// A delivery policy acted.
    pub fn slow_session(&self, action: SlowAction) {
        self.slow_sessions.get_or_create(&Action { action: action.as_str() }).inc();
    }

    /// A publish was refused or failed.
    pub fn publish_failed(&self, reason: Reason) {
        self.publishes_failed.get_or_create(&Because { reason: reason.as_str() }).inc();
    }

    /// A socket was closed.
    pub fn transport_closed(&self, end: TransportEnd) {
        self.transports_closed.get_or_create(&Cause { cause: end.as_str() }).inc();
    }

    /// A handshake (TLS, preface) failed.
    pub fn handshake_failed(&self, end: HandshakeEnd) {
        self.handshakes_failed.get_or_create(&Cause { cause: end.as_str() }).inc();
    }

    /// A certificate ends at `end`.
    pub fn tls_not_after(&self, certificate: TlsCertificate, end: Timestamp) {
        let seconds = i64::try_from(end.0 / 1_000_000).unwrap_or(i64::MAX);
        self.tls_not_after.get_or_create(&Whose { certificate: certificate.as_str() }).set(seconds);
    }

    /// The TLS files had changed.
    pub fn tls_reload(&self, outcome: TlsReload) {
        self.tls_reloads.get_or_create(&Outcome { outcome: outcome.as_str() }).inc();
    }

    /// A connection to the broker is up, or is not.
    pub fn broker_link(&self, link: Link, is_up: bool) {
        self.broker_connected.get_or_create(&Which { link: link.as_str() }).set(i64::from(is_up));
    }

    /// A publish that was given to the broker is over.
    pub fn broker_publish(&self, outcome: BrokerPublish) {
        self.broker_publishes.get_or_create(&Outcome { outcome: outcome.as_str() }).inc();
    }

    /// A message came by a bridge.
    pub fn bridge_in(&self, outcome: BridgeIn) {
        self.bridge_messages_received.get_or_create(&Outcome { outcome: outcome.as_str() }).inc();
    }

    /// An event was to leave by a bridge.
    pub fn bridge_out(&self, outcome: BridgeOut) {
        self.bridge_messages_sent.get_or_create(&Outcome { outcome: outcome.as_str() }).inc();
    }

    /// The process entered `phase`.
    pub fn phase_entered(&self, phase: Phase) {
        self.drain_state.set(i64::from(phase as u8));
    }

    /// Everything, in the OpenMetrics 1.0 text format, with exemplars.
    pub fn encode_openmetrics(&self) -> String {
        self.delivery_latency.annotate(self.encode(), "bowline_delivery_latency_seconds")
    }

    fn encode(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        // Writing to a String does not fail, and our own encoders return no other error.
        if prometheus_client::encoding::text::encode(&mut out, &self.registry).is_err() {
            tracing::error!("metrics could not be encoded");
        }
        out
    }

    /// Everything, in the Prometheus text format 0.0.4.
    pub fn encode_text(&self) -> String {
        text::from_openmetrics(&self.encode())
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The commit the program was built from, `unknown` if the build was not told.
pub const REVISION: &str = match env!("BOWLINE_GIT_REVISION") {
    revision if revision.is_empty() => "unknown",
    revision => revision,
};

fn build_info() -> Info<[(&'static str, &'static str); 2]> {
    Info::new([("version", env!("CARGO_PKG_VERSION")), ("revision", REVISION)])
}

/// A doc comment as a help text: the registry sets the full stop itself.
fn help(doc: &'static str) -> &'static str {
    doc.trim().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_their_suffix_in_every_line_of_the_text_format() {
        let metrics = Metrics::new();
        metrics.connections_opened.inc();
        metrics.connection_closed(ConnectionEnd::Ok);
        metrics.rejected(Refusal::MaxConnections);
        let text = metrics.encode_text();
        assert!(text.contains("# TYPE bowline_connections_opened_total counter\nbowline_connections_opened_total 1\n"));
        assert!(text.contains("bowline_connections_closed_total{cause=\"OK\"} 1\n"), "{text}");
        assert!(text.contains("bowline_connections_rejected_total{reason=\"MAX_CONNECTIONS\"} 1\n"), "{text}");
        assert!(text.contains("# TYPE bowline_build_info gauge\nbowline_build_info{version="), "{text}");
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    }

    #[test]
    fn open_metrics_ends_with_its_end_mark() {
        let text = Metrics::new().encode_openmetrics();
        assert!(text.ends_with("# EOF\n"));
        assert!(text.contains("# TYPE bowline_connections_opened counter\nbowline_connections_opened_total 0\n"));
        assert!(text.contains("# TYPE bowline_build info\nbowline_build_info{"), "{text}");
    }

    #[test]
    fn every_family_has_one_type_and_a_help_text_and_its_samples_belong_to_it() {
        let metrics = Metrics::new();
        metrics.rpc_started("unary", "bowline.v1.TopicService", "Publish");
        metrics.rpc_duration("unary", "bowline.v1.TopicService", "Publish", std::time::Duration::from_millis(3));
        let text = metrics.encode_text();
        let mut seen = std::collections::HashSet::new();
        let (mut helped, mut family) = ("", "");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, words) = rest.split_once(' ').unwrap();
                assert!(words.len() > 5 && words.ends_with('.') && !words.ends_with(".."), "{line}");
                helped = name;
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split_once(' ').unwrap().0;
                assert_eq!(family, helped);
                assert!(seen.insert(family), "{family} twice");
                assert_eq!(family.ends_with("_total"), rest.ends_with(" counter"), "{line}");
            } else {
                assert!(line.starts_with(family), "{line} is not of {family}");
            }
        }
        assert!(seen.len() > 25);
    }

    #[tokio::test]
    async fn the_runtime_it_is_made_on_is_reported() {
        let text = Metrics::new().encode_text();
        assert!(text.contains("\ntokio_workers 1.0\n"), "{text}");
    }
}
