//! RPC metrics, named and labelled as go-grpc-middleware names them, so that existing dashboards and alerts fit.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tonic::Code;

use super::{Histogram, Metrics};

/// Which RPC. The caller gives only names of services this process has, `unknown` for all others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rpc {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handled {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
    grpc_code: &'static str,
}

#[derive(Debug)]
pub(super) struct Instruments {
    started: Family<Rpc, Counter>,
    handled: Family<Handled, Counter>,
    received: Family<Rpc, Counter>,
    sent: Family<Rpc, Counter>,
    handling: Family<Rpc, Histogram>,
}

impl Instruments {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = Self {
            started: Family::default(),
            handled: Family::default(),
            received: Family::default(),
            sent: Family::default(),
            handling: Family::default(),
        };
        registry.register("grpc_server_started", "RPCs started on the server", all.started.clone());
        registry.register("grpc_server_handled", "RPCs completed on the server, by status code", all.handled.clone());
        registry.register("grpc_server_msg_received", "Messages received from clients", all.received.clone());
        registry.register("grpc_server_msg_sent", "Messages sent to clients", all.sent.clone());
        registry.register(
            "grpc_server_handling_seconds",
            "Seconds that unary RPCs took until their answer was complete",
            all.handling.clone(),
        );
        all
    }
}

/// `grpc_type` is `unary`, `client_stream`, `server_stream` or `bidi_stream`.
impl Metrics {
    /// An RPC began.
    pub fn rpc_started(&self, grpc_type: &'static str, grpc_service: &'static str, grpc_method: &'static str) {
        self.rpc.started.get_or_create(&Rpc { grpc_type, grpc_service, grpc_method }).inc();
    }

    /// An RPC ended, with the status its client saw or would have seen.
    pub fn rpc_handled(
        &self,
        grpc_type: &'static str,
        grpc_service: &'static str,
        grpc_method: &'static str,
        code: Code,
    ) {
        let grpc_code = code_name(code);
        self.rpc.handled.get_or_create(&Handled { grpc_type, grpc_service, grpc_method, grpc_code }).inc();
    }

    /// An RPC ended after `duration`. Of use for those that are meant to end soon.
    pub fn rpc_duration(
        &self,
        grpc_type: &'static str,
        grpc_service: &'static str,
        grpc_method: &'static str,
        duration: Duration,
    ) {
        self.rpc.handling.get_or_create(&Rpc { grpc_type, grpc_service, grpc_method }).observe(duration);
    }

    /// The counter of messages received by an RPC, to be looked up once for a stream and counted up per message.
    pub fn rpc_msg_received(
        &self,
        grpc_type: &'static str,
        grpc_service: &'static str,
        grpc_method: &'static str,
    ) -> Counter {
        self.rpc.received.get_or_create_owned(&Rpc { grpc_type, grpc_service, grpc_method })
    }

    /// The counter of messages sent by an RPC, to be looked up once for a stream and counted up per message.
    pub fn rpc_msg_sent(
        &self,
        grpc_type: &'static str,
        grpc_service: &'static str,
        grpc_method: &'static str,
    ) -> Counter {
        self.rpc.sent.get_or_create_owned(&Rpc { grpc_type, grpc_service, grpc_method })
    }
}

/// A status code as Go writes it, which is what dashboards match on.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rpc_is_named_as_go_grpc_middleware_names_it() {
        let metrics = Metrics::new();
        metrics.rpc_started("bidi_stream", "bowline.v1.StreamService", "StreamData");
        metrics.rpc_handled("bidi_stream", "bowline.v1.StreamService", "StreamData", Code::Cancelled);
        metrics.rpc_msg_sent("bidi_stream", "bowline.v1.StreamService", "StreamData").inc_by(3);
        let text = metrics.encode_text();
        let labels = "grpc_type=\"bidi_stream\",grpc_service=\"bowline.v1.StreamService\",grpc_method=\"StreamData\"";
        assert!(text.contains(&format!("grpc_server_started_total{{{labels}}} 1\n")), "{text}");
        assert!(text.contains(&format!("grpc_server_handled_total{{{labels},grpc_code=\"Canceled\"}} 1\n")), "{text}");
        assert!(text.contains(&format!("grpc_server_msg_sent_total{{{labels}}} 3\n")), "{text}");
    }
}
