//! A stream's opening and close; unary calls.

use futures_util::StreamExt as _;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tonic::{Code, Request};

use bowline::{
    client::{Client, Item, Open},
    proto::v1::{NewEvent, PublishRequest},
};

use super::{exporting, hex, links, traced, traceparent};
use crate::{
    collector::{Collector, Manner, attribute},
    support::{Heard, TestClient, event, eventually, hello, named, open, with, within},
};

const STREAM: &str = "bowline.v1.StreamService/StreamData";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn a_streams_opening_is_seen_while_it_is_open_and_its_close_links_to_it() {
    let (server, collector) = traced(&[]).await;
    let mut client = server.connect("alice").await;
    client.open(named(1, "t", "desk")).await;
    eventually("the opening was exported", || collector.named("open session").len() == 1).await;
    let opening = collector.named(STREAM).remove(0);
    assert_eq!((opening.kind(), opening.parent_span_id.len()), (SpanKind::Server, 0));
    assert_eq!(attribute(&opening, "rpc.system.name"), "grpc");
    assert_eq!(attribute(&opening, "rpc.method"), STREAM);
    assert_eq!(attribute(&opening, "network.peer.address"), "127.0.0.1");
    assert_eq!(attribute(&opening, "server.port"), server.address.port().to_string());
    assert_eq!(attribute(&opening, "bowline.client.id"), "alice");
    let session = collector.named("open session").remove(0);
    assert_eq!((&session.trace_id, &session.parent_span_id), (&opening.trace_id, &opening.span_id));
    assert_eq!(attribute(&session, "bowline.recovery"), "FRESH");
    assert!(collector.named(&format!("{STREAM} close")).is_empty(), "it is still open");

    client.publish(with(1, 1, event("x"))).await;
    client.events(1, 1).await;
    client.half_close();
    client.ended_well().await;
    server.leave().await;
    let close = collector.named(&format!("{STREAM} close")).remove(0);
    assert_eq!(links(&close), [traceparent(&opening)]);
    assert_ne!(close.trace_id, opening.trace_id);
    for (key, value) in [
        ("rpc.response.status_code", "OK"),
        ("bowline.cause", "OK"),
        ("bowline.frames.received", "3"),
        ("bowline.frames.sent", "5"),
        ("bowline.events.published", "1"),
        ("bowline.events.delivered", "1"),
        ("bowline.client.id", "alice"),
        ("bowline.connection.id", &attribute(&opening, "bowline.connection.id")),
    ] {
        assert_eq!(attribute(&close, key), value, "{key}");
    }
    for key in ["bowline.bytes.received", "bowline.bytes.sent", "bowline.duration"] {
        assert!(attribute(&close, key).parse::<f64>().unwrap() > 0.0, "{key}");
    }
    assert!(attribute(&close, "bowline.duration").parse::<f64>().unwrap() < 20.0);
    assert!(collector.spans().iter().all(|span| span.end_time_unix_nano - span.start_time_unix_nano < 5_000_000_000));
}

#[tokio::test]
async fn an_opening_continues_the_trace_of_its_caller() {
    let (server, collector) = traced(&[("telemetry.traces.stream_ratio", "0")]).await;
    let metadata = [("traceparent", PARENT), ("tracestate", "vendor=opaque")];
    let mut client = TestClient::call(server.address, &metadata).await.unwrap();
    client.send(hello("alice")).await;
    client.welcomed().await;
    let _unasked = server.connect("bob").await;
    server.leave().await;
    let openings = collector.named(STREAM);
    assert_eq!(openings.len(), 1, "nobody asked for bob's, and the ratio is zero");
    assert_eq!(hex(&openings[0].trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&openings[0].parent_span_id), "b7ad6b7169203331");
    assert_eq!(openings[0].trace_state, "vendor=opaque");
}

#[tokio::test]
async fn the_client_library_sends_contexts_and_gives_them_to_who_reads() {
    let (server, collector) = traced(&[("telemetry.traces.stream_ratio", "0")]).await;
    let client =
        Client::builder(format!("http://{}", server.address)).trace_context(PARENT, "").connect().await.unwrap();
    let mut session = client.open(Open::topic("t")).await.unwrap();
    let other = "00-11111111111111111111111111111111-2222222222222222-01";
    let sent = NewEvent { traceparent: other.to_owned(), tracestate: "a=b".to_owned(), ..event("x") };
    session.publish(sent).await.unwrap().await.unwrap();
    let received = loop {
        if let Some(Item::Event(received)) = within("an item", session.next()).await {
            break received;
        }
    };
    assert_eq!((received.event.traceparent.as_str(), received.event.tracestate.as_str()), (other, "a=b"));
    session.close().await.unwrap();
    server.leave().await;
    assert_eq!(hex(&collector.named(STREAM)[0].parent_span_id), "b7ad6b7169203331");
    assert_eq!(hex(&collector.named("publish")[0].parent_span_id), "2222222222222222");
}

#[tokio::test]
async fn a_refused_opening_says_why() {
    let (server, collector) = traced(&[("registry.max_connections", "1"), ("connection.hello_timeout", "1s")]).await;
    let mut silent = server.call().await;
    server.refused_call(&[]).await;
    silent.ended_with(Code::DeadlineExceeded, "HELLO_TIMEOUT").await;
    server.leave().await;
    let openings = collector.named(STREAM);
    let with = |key: &str, value: &str| openings.iter().filter(|span| attribute(span, key) == value).count();
    assert_eq!(openings.len(), 2);
    assert_eq!(with("rpc.response.status_code", "RESOURCE_EXHAUSTED"), 1);
    assert_eq!(with("error.type", "HELLO_TIMEOUT"), 1);
    let close = collector.named(&format!("{STREAM} close")).remove(0);
    assert_eq!(attribute(&close, "rpc.response.status_code"), "DEADLINE_EXCEEDED");
    assert_eq!(attribute(&close, "bowline.cause"), "HELLO_TIMEOUT");
    assert_eq!(close.status.unwrap().code, 2, "an error");
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_a_close_with_its_cause() {
    let (server, collector) = traced(&[]).await;
    server.connect("alice").await.sever();
    server.emptied().await;
    server.leave().await;
    let close = collector.named(&format!("{STREAM} close")).remove(0);
    assert_eq!(attribute(&close, "bowline.cause"), "PEER_GONE");
}

#[tokio::test]
async fn sessions_that_are_opened_without_end_cost_only_so_many_spans() {
    let (server, collector) = traced(&[]).await;
    let mut client = server.connect("alice").await;
    for alias in 1..=20 {
        client.open(open(alias, "t")).await;
    }
    server.leave().await;
    assert_eq!(collector.named("open session").len(), 8);
}

#[tokio::test]
async fn a_unary_call_is_a_span_and_the_publish_in_it_another() {
    let (server, collector) = traced(&[]).await;
    let mut topics = server.topics().await;
    let request = |traceparent: &'static str| {
        let event = Some(event("x"));
        let mut request = Request::new(PublishRequest { topic: "t".to_owned(), event });
        request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
        request
    };
    topics.publish(request(PARENT)).await.unwrap();
    topics.publish(request("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")).await.unwrap();
    let mut bad = request(PARENT);
    bad.get_mut().topic = "no topic".to_owned();
    topics.publish(bad).await.unwrap_err();
    server.leave().await;
    let calls = collector.named("bowline.v1.TopicService/Publish");
    let codes: Vec<_> = calls.iter().map(|call| attribute(call, "rpc.response.status_code")).collect();
    assert_eq!(codes, ["OK", "INVALID_ARGUMENT"], "who does not want a trace gets none");
    assert_eq!(attribute(&calls[1], "error.type"), "INVALID_ARGUMENT");
    assert!(calls[1].status.clone().unwrap_or_default().code != 2, "a caller's mistake is no error of the server");
    let publish = collector.named("publish").remove(0);
    assert_eq!((&publish.trace_id, &publish.parent_span_id), (&calls[0].trace_id, &calls[0].span_id));
    assert_eq!(hex(&calls[0].trace_id), "0af7651916cd43dd8448eb211c80319c");
}

#[tokio::test]
async fn a_server_without_traces_sends_nothing_and_passes_contexts_on() {
    let collector = Collector::start(Manner::Takes).await;
    let server = exporting(&collector.url(), &[("telemetry.otlp.enabled", "false")]).await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    let mut sent = event("x");
    sent.traceparent = PARENT.to_owned();
    client.ask(with(1, 1, sent)).await;
    let got = loop {
        if let Heard::Frame(bowline::proto::v1::stream_data_response::Frame::Delivery(delivery)) = client.heard().await
        {
            break delivery;
        }
    };
    assert_eq!(got.events[0].traceparent, PARENT);
    server.leave().await;
    assert!(collector.spans().is_empty());
}
