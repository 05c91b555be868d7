use std::{
    future::{Ready, poll_fn, ready},
    panic::{AssertUnwindSafe, catch_unwind},
};

use futures_util::{FutureExt as _, task::noop_waker_ref};

use super::*;

const PUBLISH: &str = "/bowline.v1.TopicService/Publish";
const STREAM: &str = "/bowline.v1.StreamService/StreamData";

/// What the service's response does.
#[derive(Debug, Clone)]
enum Script {
    Trailers(Code),
    TrailersOnly(Code),
    Endless,
    BodyPanic,
}

struct Scripted(Script);

impl Body for Scripted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.0 {
            Script::Trailers(code) => {
                let mut trailers = HeaderMap::new();
                Status::new(code, "").add_header(&mut trailers).unwrap();
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Script::BodyPanic => panic!("as the script says"),
            _ => Poll::Pending,
        }
    }
}

/// Calls `path`, polls the body once, drops everything, and returns the metrics.
fn run(path: &str, script: Script) -> String {
    let metrics = Arc::new(Metrics::new());
    let methods = Methods::default().with(crate::proto::DESCRIPTORS).unwrap();
    let service = tower::service_fn(move |_| -> Ready<Result<_, Infallible>> {
        ready(Ok(match &script {
            Script::TrailersOnly(code) => Status::new(*code, "").into_http(),
            other => Response::new(tonic::body::Body::new(Scripted(other.clone()))),
        }))
    });
    let mut service = ObserveLayer::new(methods, metrics.clone()).layer(service);
    let called = catch_unwind(AssertUnwindSafe(|| {
        let response = service.call(Request::get(path).body(()).unwrap()).now_or_never().unwrap().unwrap();
        let mut body = response.into_body();
        let _ = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).now_or_never();
    }));
    drop(called);
    metrics.encode_text()
}

#[track_caller]
fn assert_handled(text: &str, grpc_type: &str, service: &str, method: &str, code: &str) {
    let labels = format!("grpc_type=\"{grpc_type}\",grpc_service=\"{service}\",grpc_method=\"{method}\"");
    for line in [
        format!("grpc_server_started_total{{{labels}}} 1"),
        format!("grpc_server_handled_total{{{labels},grpc_code=\"{code}\"}} 1"),
    ] {
        assert!(text.contains(&line), "{line} is missing in\n{text}");
    }
}

#[test]
fn the_status_is_read_from_trailers_or_from_headers() {
    let text = run(PUBLISH, Script::Trailers(Code::Ok));
    assert_handled(&text, "unary", "bowline.v1.TopicService", "Publish", "OK");
    assert!(text.contains("grpc_server_handling_seconds_count{"), "{text}");
    let text = run(STREAM, Script::TrailersOnly(Code::NotFound));
    assert_handled(&text, "bidi_stream", "bowline.v1.StreamService", "StreamData", "NotFound");
    assert!(!text.contains("grpc_server_handling_seconds_count{"), "only unary calls are timed\n{text}");
}

#[test]
fn a_stream_dropped_before_its_end_was_cancelled() {
    let text = run(STREAM, Script::Endless);
    assert_handled(&text, "bidi_stream", "bowline.v1.StreamService", "StreamData", "Canceled");
}

#[test]
fn a_body_that_panics_was_internal() {
    let text = run(STREAM, Script::BodyPanic);
    assert_handled(&text, "bidi_stream", "bowline.v1.StreamService", "StreamData", "Internal");
}

#[test]
fn what_does_not_exist_is_unknown_whatever_its_name() {
    let text = run("/a.Thing/Made.Up", Script::TrailersOnly(Code::Unimplemented));
    assert_handled(&text, "unary", "unknown", "unknown", "Unimplemented");
}

#[test]
fn a_handler_that_panics_was_internal() {
    let metrics = Arc::new(Metrics::new());
    let record = Record::open(Methods::default().find(PUBLISH), None, metrics.clone());
    let future = poll_fn(|_| -> Poll<Result<Response<tonic::body::Body>, Infallible>> { panic!("as the script says") });
    let mut observed = Observed { future, record: Some(record) };
    let mut cx = Context::from_waker(noop_waker_ref());
    assert!(catch_unwind(AssertUnwindSafe(|| Pin::new(&mut observed).poll(&mut cx).is_ready())).is_err());
    drop(observed);
    assert!(metrics.encode_text().contains("grpc_code=\"Internal\""));
}
