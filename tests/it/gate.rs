//! What is no call, what takes too long and what cannot be read: how it is turned away, from bare HTTP/2.

use bowline::proto::{
    health::{HealthCheckRequest, health_client::HealthClient},
    v1::{NewEvent, PublishRequest, stream_data_request::Frame, topic_service_client::TopicServiceClient},
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, StatusCode};
use prost::Message as _;
use tokio::{
    net::TcpStream,
    time::{Duration, Instant},
};
use tonic::{Code, Status};

use crate::support::{RawTransport, TestServer, assert_status, grpc_message, hello, within};

const PUBLISH: &str = "/bowline.v1.TopicService/Publish";

/// HTTP/2 to the server, on which anything can be asked.
struct Caller {
    http: SendRequest<Bytes>,
}

/// An answer, read to its end.
#[derive(Debug)]
struct Answer {
    http: StatusCode,
    headers: HeaderMap,
    /// The status of gRPC, wherever it stood; none if there was none.
    status: Option<Status>,
}

impl Caller {
    async fn new(server: &TestServer) -> Self {
        let socket = TcpStream::connect(server.address).await.unwrap();
        let (http, connection) = within("HTTP/2", h2::client::handshake(socket)).await.unwrap();
        drop(bowline::lifecycle::Tasks::default().spawn("caller", connection));
        Self { http }
    }

    /// Sends these bytes, and says that they are all if `ends`.
    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8], ends: bool) -> Answer {
        let named = Request::builder().method(method).uri(format!("http://test{path}"));
        let request = headers.iter().fold(named, |request, (name, value)| request.header(*name, *value));
        let mut http = within("readiness", self.http.clone().ready()).await.unwrap();
        let (response, mut send) = http.send_request(request.body(()).unwrap(), false).unwrap();
        // The server may have answered already.
        send.send_data(Bytes::copy_from_slice(body), ends).ok();
        let (head, mut data) = within("an answer", response).await.unwrap().into_parts();
        while let Some(chunk) = within("the rest", data.data()).await {
            data.flow_control().release_capacity(chunk.unwrap().len()).unwrap();
        }
        let trailers = data.trailers().await.unwrap().unwrap_or_default();
        let status = Status::from_header_map(&head.headers).or_else(|| Status::from_header_map(&trailers));
        Answer { http: head.status, headers: head.headers, status }
    }

    async fn grpc(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let headers: Vec<_> =
            [("content-type", "application/grpc"), ("te", "trailers")].iter().chain(headers).copied().collect();
        self.ask(Method::POST, path, &headers, body, true).await
    }
}

fn publish() -> Bytes {
    let event = Some(NewEvent { payload: "hello".into(), ..NewEvent::default() });
    grpc_message(&PublishRequest { topic: "t".into(), event }.encode_to_vec())
}

#[tokio::test]
async fn what_is_no_grpc_is_turned_away_in_http() {
    let server = TestServer::start().await;
    let caller = Caller::new(&server).await;
    for (method, headers, expected) in [
        (Method::GET, &[("content-type", "application/grpc")][..], 405),
        (Method::PUT, &[("content-type", "application/grpc")], 405),
        (Method::POST, &[], 415),
        (Method::POST, &[("content-type", "text/plain")], 415),
        (Method::POST, &[("content-type", "application/json")], 415),
        (Method::POST, &[("content-type", "application/grpc-web")], 415),
        (Method::POST, &[("content-type", "application/grpc"), ("content-type", "text/plain")], 415),
    ] {
        let answer = caller.ask(method.clone(), PUBLISH, headers, &publish(), true).await;
        assert_eq!(answer.http, expected, "{method} {headers:?}: {answer:?}");
        assert!(answer.status.is_none(), "{answer:?}");
    }
    for good in ["application/grpc", "application/grpc+proto"] {
        let answer = caller.ask(Method::POST, PUBLISH, &[("content-type", good)], &publish(), true).await;
        assert_eq!((answer.http, answer.status.unwrap().code()), (StatusCode::OK, Code::Ok), "{good}");
    }
    server.leave().await;
}

#[tokio::test]
async fn only_the_path_of_a_method_is_one() {
    let server = TestServer::start().await;
    let caller = Caller::new(&server).await;
    for path in [
        "/bowline.v1.TopicService/Publish?x=1",
        "/bowline.v1.TopicService/Publish?",
        "/bowline.v1.TopicService/Publish/",
        "/bowline.v1.TopicService/publish",
        "//bowline.v1.TopicService/Publish",
        "/bowline.v1.TopicService/../TopicService/Publish",
        "/bowline.v1.TopicService/%50ublish",
        "/bowline.v1.TopicService",
        "/bowline.v1.StreamService/StreamDatas",
        "/",
    ] {
        let answer = caller.grpc(path, &[], &publish()).await;
        assert_eq!(answer.http, 200, "{path}");
        assert_status(&answer.status.unwrap(), Code::Unimplemented, "UNSUPPORTED");
    }
    assert_eq!(server.sample("bowline_events_published_total"), 0.0);
    server.leave().await;
}

#[tokio::test]
async fn a_request_that_cannot_be_taken_is_the_clients_fault() {
    let server = TestServer::with(&[("connection.max_message_size", "64KiB")]).await;
    let caller = Caller::new(&server).await;
    let (half, lie) = (publish().slice(..7), grpc_message(&[0; 9])[..5].to_vec());
    for (body, code, reason) in [
        (&grpc_message(&vec![0; 200_000])[..], Code::ResourceExhausted, "TOO_LARGE"),
        (b"\0\xff\xff\xff\xff", Code::ResourceExhausted, "TOO_LARGE"),
        (&grpc_message(b"\xff\xff\xff"), Code::InvalidArgument, "PROTOCOL"),
        (&half, Code::InvalidArgument, "PROTOCOL"),
        (&lie, Code::InvalidArgument, "PROTOCOL"),
        (b"", Code::InvalidArgument, "PROTOCOL"),
        (b"\x01\0\0\0\0", Code::InvalidArgument, "PROTOCOL"),
        (b"\x07\0\0\0\0", Code::InvalidArgument, "PROTOCOL"),
    ] {
        let answer = caller.grpc(PUBLISH, &[], body).await;
        assert_status(&answer.status.unwrap(), code, reason);
    }
    let squeezed = caller.grpc(PUBLISH, &[("grpc-encoding", "gzip")], &publish()).await;
    assert_status(&squeezed.status.unwrap(), Code::Unimplemented, "UNSUPPORTED");
    assert_eq!(squeezed.headers["content-type"], "application/grpc");
    assert_eq!(caller.grpc(PUBLISH, &[], &publish()).await.status.unwrap().code(), Code::Ok, "and the transport lives");
    server.leave().await;
}

#[tokio::test]
async fn a_call_that_never_comes_to_its_message_has_an_end() {
    let server = TestServer::with(&[("transport.unary_timeout", "200ms")]).await;
    let caller = Caller::new(&server).await;
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let begun = Instant::now();
    let answer = caller.ask(Method::POST, PUBLISH, &headers, &publish()[..3], false).await;
    assert_status(&answer.status.unwrap(), Code::DeadlineExceeded, "DEADLINE");
    assert!(begun.elapsed() >= Duration::from_millis(200));

    let wish = [headers[0], headers[1], ("grpc-timeout", "20m")];
    let answer = caller.ask(Method::POST, PUBLISH, &wish, b"", false).await;
    assert_status(&answer.status.unwrap(), Code::DeadlineExceeded, "DEADLINE");
    for bad in ["soon", "1", "-1S", "123456789S"] {
        let answer = caller.grpc(PUBLISH, &[("grpc-timeout", bad)], &publish()).await;
        assert_status(&answer.status.unwrap(), Code::InvalidArgument, "PROTOCOL");
    }
    assert_eq!(server.sample("grpc_server_handled_total{grpc_type=\"unary\",grpc_service=\"bowline.v1.TopicService\",grpc_method=\"Publish\",grpc_code=\"DeadlineExceeded\"}"), 2.0);
    server.leave().await;
}

#[tokio::test]
async fn a_stream_ends_at_the_time_its_client_set() {
    let server = TestServer::start().await;
    let mut client = server.try_call(&[("grpc-timeout", "300m")]).await.unwrap();
    client.send(hello("alice")).await;
    client.welcomed().await;
    client.ended_with(Code::DeadlineExceeded, "DEADLINE").await;
    server.emptied().await;
    assert_eq!(server.sample("bowline_connections_closed_total{cause=\"DEADLINE\"}"), 1.0);

    let mut health = HealthClient::new(server.channel().await);
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    request.metadata_mut().insert("grpc-timeout", "100m".parse().unwrap());
    let mut watch = health.watch(request).await.unwrap().into_inner();
    assert!(within("a status", watch.message()).await.unwrap().is_some());
    let end = within("an end", watch.message()).await.unwrap_err();
    assert_status(&end, Code::DeadlineExceeded, "DEADLINE");
    server.leave().await;
}

#[tokio::test]
async fn a_stream_nobody_reads_ends_at_its_time_too() {
    let server = TestServer::start().await;
    let caller = RawTransport::open(server.address, 0).await;
    let mut call = caller.timed_call("200m").await;
    call.send_frame(Frame::Hello(hello("alice")));
    // The Welcome waits for a window that never opens, and the end behind it: nothing can be said but a reset.
    assert!(call.end().await.unwrap_err().is_reset());
    server.emptied().await;
    server.leave().await;
}

/// Health and reflection are asked by anybody, and no conversation watches over them.
#[tokio::test]
async fn what_anybody_may_ask_ends_when_nobody_takes_the_answer_or_finishes_asking() {
    const WATCH: &str = "/grpc.health.v1.Health/Watch";
    let server = TestServer::with(&[("transport.write_timeout", "300ms"), ("transport.unary_timeout", "1s")]).await;
    let shut = RawTransport::open(server.address, 0).await;
    let begun = Instant::now();
    for path in [WATCH, "/grpc.health.v1.Health/Check"] {
        let mut answer = shut.unary(path, &HealthCheckRequest::default()).await;
        let end = within("an end", answer.data()).await.expect("a reset is an item").unwrap_err();
        assert!(end.is_reset(), "{path}: {end}");
    }
    assert!(begun.elapsed() >= Duration::from_millis(600));

    // One that takes what it is sent, however little that is, lives on.
    let open = RawTransport::open(server.address, 64).await;
    let mut taken = open.unary(WATCH, &HealthCheckRequest::default()).await;
    assert!(within("a status", taken.data()).await.expect("a status").is_ok());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(taken.data().now_or_never().is_none(), "it has ended");

    let caller = Caller::new(&server).await;
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let answer = caller.ask(Method::POST, WATCH, &headers, b"\0\0", false).await;
    assert_status(&answer.status.unwrap(), Code::DeadlineExceeded, "DEADLINE");
    server.leave().await;
}

#[tokio::test]
async fn two_thousand_calls_at_once_are_two_thousand_answers() {
    let server = TestServer::start().await;
    let channel = server.channel().await;
    let call = |n: u32| {
        let mut topics = TopicServiceClient::new(channel.clone());
        async move {
            let event = Some(NewEvent { payload: n.to_string().into(), ..NewEvent::default() });
            topics.publish(PublishRequest { topic: "t".into(), event }).await
        }
    };
    let answers = within("all answers", futures_util::future::join_all((0..2000).map(call))).await;
    let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert!(refused.is_empty(), "{}: {:?}", refused.len(), refused.first());
    assert_eq!(server.sample("bowline_transports_closed_total{cause=\"too_many_glitches\"}"), 0.0);
    server.leave().await;
}
