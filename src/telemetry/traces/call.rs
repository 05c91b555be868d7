//! Spans of calls: a unary one is one span, a stream is its opening, the opening of its first sessions, and its close.

use std::{net::SocketAddr, time::Duration};

use http::HeaderMap;
use opentelemetry::{
    KeyValue,
    trace::{Link, SpanBuilder, SpanContext, SpanKind},
};
use tonic::Code;

use super::{Kind, Span, Traces};
use crate::telemetry::propagate;

const SYSTEM: (&str, &str) = ("rpc.system.name", "grpc");
const METHOD: &str = "rpc.method";
const CLOSE: &str = "bowline.v1.StreamService/StreamData close";

/// A call, as it begins.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// `package.Service/Method` of one that this server has, `_OTHER` for any other: peers choose such names.
    pub method: &'static str,
    /// Whether it is over with one answer.
    pub unary: bool,
    /// Its metadata.
    pub headers: &'a HeaderMap,
    /// The server as the caller calls it.
    pub authority: Option<&'a str>,
    /// The remote end.
    pub peer: Option<SocketAddr>,
}

/// A stream that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Closing<'a> {
    /// The connection.
    pub connection_id: &'a str,
    /// Whom it served, if that was ever said.
    pub client_id: Option<&'a str>,
    /// How long it lived.
    pub lived: Duration,
    /// Why it ended: `OK`, or a word of the closed vocabulary.
    pub cause: &'static str,
    /// The status its client saw, or would have seen.
    pub code: Code,
    /// Frames received and sent.
    pub frames: (u64, u64),
    /// Their bytes.
    pub bytes: (u64, u64),
    /// Events published and delivered.
    pub events: (u64, u64),
}

impl Traces {
    /// The span of a call that begins: all of a unary one, the opening of a stream. A child of its caller's, if there is
    /// one.
    pub fn call(&self, call: Call<'_>) -> Span {
        let Some(live) = &self.0 else { return Span::default() };
        let caller = live.propagate.then(|| propagate::from_headers(call.headers)).flatten();
        let kind = if call.unary { Kind::Message } else { Kind::Stream };
        live.span(kind, caller, || {
            let mut attributes = vec![KeyValue::new(SYSTEM.0, SYSTEM.1), KeyValue::new(METHOD, call.method)];
            if let Some(peer) = call.peer {
                attributes.push(KeyValue::new("network.peer.address", peer.ip().to_string()));
                attributes.push(KeyValue::new("network.peer.port", i64::from(peer.port())));
            }
            if let Some((host, port)) = call.authority.map(server_address) {
                attributes.push(KeyValue::new("server.address", host));
                attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
            }
            // A method that this server does not have is `grpc`, as the conventions have it.
            let name = if call.method == "_OTHER" { "grpc" } else { call.method };
            SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_attributes(attributes)
        })
    }

    /// The span of a session's opening, under that of its stream; nothing if that is not traced.
    pub fn open_session(&self, stream: Option<&SpanContext>, topic: &str) -> Span {
        let (Some(live), Some(stream)) = (&self.0, stream) else { return Span::default() };
        let attributes = [KeyValue::new("messaging.destination.name", topic.to_owned())];
        live.start(Some(stream.clone()), SpanBuilder::from_name("open session").with_attributes(attributes))
    }

    /// Records the end of a stream whose opening is traced, in a trace of its own: the opening's has long been put away.
    pub fn closed(&self, opening: &SpanContext, closing: Closing<'_>) {
        let Some(live) = &self.0 else { return };
        let Closing { connection_id, client_id, lived, cause, code, frames, bytes, events } = closing;
        let count = |key, count: u64| KeyValue::new(key, i64::try_from(count).unwrap_or(i64::MAX));
        let mut attributes = vec![
            KeyValue::new(SYSTEM.0, SYSTEM.1),
            KeyValue::new(METHOD, CLOSE.trim_end_matches(" close")),
            KeyValue::new("bowline.connection.id", connection_id.to_owned()),
            KeyValue::new("bowline.cause", cause),
            KeyValue::new("bowline.duration", lived.as_secs_f64()),
            count("bowline.frames.received", frames.0),
            count("bowline.frames.sent", frames.1),
            count("bowline.bytes.received", bytes.0),
            count("bowline.bytes.sent", bytes.1),
            count("bowline.events.published", events.0),
            count("bowline.events.delivered", events.1),
        ];
        attributes.extend(client_id.map(|client| KeyValue::new("bowline.client.id", client.to_owned())));
        let link = Link::with_context(opening.clone());
        // Not a second server span: a call must not count twice where spans are counted.
        let builder = SpanBuilder::from_name(CLOSE).with_kind(SpanKind::Internal).with_attributes(attributes);
        let span = live.start(None, builder.with_links(vec![link]));
        span.answered(code);
    }
}

/// Host and port of an `:authority`.
fn server_address(authority: &str) -> (String, Option<u16>) {
    let split = authority.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = split.map_or((authority, None), |(host, port)| (host, Some(port)));
    (host.trim_matches(['[', ']']).to_owned(), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        let host = |host: &str| host.to_owned();
        assert_eq!(server_address("bowline.example:50051"), (host("bowline.example"), Some(50051)));
        assert_eq!(server_address("bowline.example"), (host("bowline.example"), None));
        assert_eq!(server_address("[::1]:50051"), (host("::1"), Some(50051)));
    }
}
