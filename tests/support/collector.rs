//! An OpenTelemetry collector in the test: it takes spans over gRPC, or misbehaves as a test wants it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::Span,
};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

/// What becomes of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It is taken.
    Takes,
    /// The socket is accepted, and nothing is ever said.
    Silent,
    /// It is taken, after a while.
    Slow(Duration),
    /// It is refused, every time.
    Refuses,
}

/// See the module. It ends when it is dropped.
pub struct Collector {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    _task: JoinSet<()>,
}

/// What has come.
#[derive(Debug, Default)]
struct Seen {
    spans: Vec<Span>,
    resource: Vec<KeyValue>,
    headers: HeaderMap,
}

impl Collector {
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let mut task = JoinSet::new();
        let to = seen.clone();
        task.spawn(async move {
            let mut sockets = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                sockets.spawn(serve(socket, manner, to.clone()));
            }
        });
        Self { address, seen, _task: task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every span that has come, in that order.
    pub fn spans(&self) -> Vec<Span> {
        self.seen.lock().spans.clone()
    }

    /// Those of a name.
    pub fn named(&self, name: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.name == name).collect()
    }

    /// A text that says what the spans are of.
    pub fn resource(&self, key: &str) -> String {
        text(&self.seen.lock().resource, key)
    }

    /// A header of the last export.
    pub fn header(&self, name: &str) -> Option<String> {
        self.seen.lock().headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }
}

/// An attribute of a span; empty if it has none of that name.
pub fn attribute(span: &Span, key: &str) -> String {
    text(&span.attributes, key)
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
    match value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => text,
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => number.to_string(),
        Some(AnyValue { value: Some(Value::DoubleValue(number)) }) => number.to_string(),
        Some(AnyValue { value: Some(Value::BoolValue(holds)) }) => holds.to_string(),
        _ => String::new(),
    }
}

async fn serve(socket: TcpStream, manner: Manner, seen: Arc<Mutex<Seen>>) {
    if manner == Manner::Silent {
        // Held open, and never read.
        let _socket = socket;
        return std::future::pending().await;
    }
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    let mut exports = JoinSet::new();
    while let Some(Ok((request, reply))) = connection.accept().await {
        exports.spawn(take(request, reply, manner, seen.clone()));
    }
}

async fn take(request: Request<RecvStream>, mut reply: SendResponse<Bytes>, manner: Manner, seen: Arc<Mutex<Seen>>) {
    let (parts, mut body) = request.into_parts();
    let mut message = Vec::new();
    while let Some(Ok(piece)) = body.data().await {
        body.flow_control().release_capacity(piece.len()).unwrap();
        message.extend_from_slice(&piece);
    }
    if let Manner::Slow(wait) = manner {
        sleep(wait).await;
    }
    let mut status = "0";
    if manner == Manner::Refuses {
        // Not one that is worth another try.
        status = "3";
    } else {
        assert_eq!(parts.uri.path(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
        let export = ExportTraceServiceRequest::decode(&message[5..]).unwrap();
        let mut seen = seen.lock();
        seen.headers = parts.headers;
        for of_one in export.resource_spans {
            seen.resource = of_one.resource.unwrap_or_default().attributes;
            seen.spans.extend(of_one.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    // The exporter may have gone.
    if let Ok(mut stream) = reply.send_response(head, false) {
        stream.send_data(Bytes::from_static(&[0; 5]), false).ok();
        let status = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(status))]);
        stream.send_trailers(status).ok();
    }
}
