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
    let methods = Arc::new(Methods::default().with(crate::proto::DESCRIPTORS).unwrap());
    let service = tower::service_fn(move |_| -> Ready<Result<_, Infallible>> {
        ready(Ok(match &script {
            Script::TrailersOnly(code) => Status::new(*code, "").into_http(),
            other => Response::new(tonic::body::Body::new(Scripted(other.clone()))),
        }))
    });
    let mut service = ObserveLayer::new(methods, metrics.clone(), Traces::default()).layer(service);
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
    let mut observed = Observed { future, span: Span::default(), record: Some(record) };
    let mut cx = Context::from_waker(noop_waker_ref());
    assert!(catch_unwind(AssertUnwindSafe(|| Pin::new(&mut observed).poll(&mut cx).is_ready())).is_err());
    drop(observed);
    assert!(metrics.encode_text().contains("grpc_code=\"Internal\""));
}

mod over_a_transport {
    use tokio_util::sync::CancellationToken;
    use tonic::{service::Routes, transport::Endpoint};

    use super::*;
    use crate::{
        health::Health,
        lifecycle::{Lifecycle, Phase},
        proto::health::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient},
        transport::{Config, Listener, Shutdown, serve},
    };

    #[tokio::test]
    async fn a_stock_client_asks_for_health_and_every_call_is_recorded() {
        let lifecycle = Lifecycle::default();
        let metrics = Arc::new(Metrics::new());
        let config = Config { listen: ([127, 0, 0, 1], 0).into(), ..Config::default() };
        let listener = Listener::bind(&config).unwrap();
        let url = format!("http://{}", listener.local_addr());
        let methods = Arc::new(Methods::default().with(crate::proto::DESCRIPTORS).unwrap());
        let routes = Routes::new(crate::service::health::service(Health::new(&lifecycle))).prepare();
        let service = ObserveLayer::new(methods, metrics.clone(), Traces::default()).layer(routes);
        let shutdown = Shutdown { begin: CancellationToken::new(), grace: std::time::Duration::from_secs(5) };
        let (tasks, counted, ending) = (lifecycle.tasks().clone(), metrics.clone(), shutdown.clone());
        let served = lifecycle.tasks().spawn("serve", async move {
            serve(listener, service, &config, &tasks, counted, ending).await;
        });

        lifecycle.advance(Phase::Serving);
        let channel = Endpoint::new(url).unwrap().connect().await.unwrap();
        let mut client = HealthClient::new(channel);
        let ours = HealthCheckRequest::default();
        let answer = client.check(ours.clone()).await.unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
        let stranger = HealthCheckRequest { service: "no.Such".to_owned() };
        assert_eq!(client.check(stranger).await.unwrap_err().code(), Code::NotFound);
        let mut watched = client.watch(ours).await.unwrap().into_inner();
        assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

        // The drain ends the watch, so that the shutdown finds nothing to wait for.
        lifecycle.advance(Phase::Draining);
        assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        assert_eq!(watched.message().await.unwrap(), None);
        shutdown.begin.cancel();
        served.await.unwrap();
        lifecycle.advance(Phase::Stopped);
        lifecycle.ended().await;

        let text = metrics.encode_text();
        for (kind, method, code) in
            [("unary", "Check", "OK"), ("unary", "Check", "NotFound"), ("server_stream", "Watch", "OK")]
        {
            let line = format!(
                "grpc_server_handled_total{{grpc_type=\"{kind}\",grpc_service=\"grpc.health.v1.Health\",\
                 grpc_method=\"{method}\",grpc_code=\"{code}\"}} 1"
            );
            assert!(text.contains(&line), "{line} is missing in\n{text}");
        }
    }
}
