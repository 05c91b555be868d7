//! How a call begins: who may call, what the first word must be, what is answered.

use std::time::Duration;

use bowline::proto::v1::{Hello, StreamDataRequest, stream_data_request::Frame as Sent, stream_data_response::Frame};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{
    Heard, RawCall, TestServer, assert_failure, assert_status, eventually, grpc_message, heartbeat, hello, open,
    publish,
};

#[tokio::test]
async fn a_call_that_says_no_hello_in_time_is_ended() {
    let server = TestServer::with(&[("connection.hello_timeout", "100ms")]).await;
    let mut client = server.call().await;
    client.ended_with(Code::DeadlineExceeded, "HELLO_TIMEOUT").await;
    server.emptied().await;
    server.leave().await;
}

#[tokio::test]
async fn the_first_frame_must_be_hello() {
    let server = TestServer::start().await;
    for early in [Sent::OpenSession(open(1, "t").into()), Sent::Heartbeat(heartbeat(1))] {
        let mut client = server.call().await;
        client.send_raw(StreamDataRequest { request_id: 7, frame: Some(early) }).await;
        client.ended_with(Code::InvalidArgument, "PROTOCOL").await;
    }
    server.emptied().await;
    server.leave().await;
}

#[tokio::test]
async fn hello_comes_once() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.send(hello("alice")).await;
    client.ended_with(Code::InvalidArgument, "PROTOCOL").await;
    server.leave().await;
}

#[tokio::test]
async fn a_frame_of_no_kind_ends_the_call_before_and_after_hello() {
    let server = TestServer::start().await;
    let mut strangers = [server.call().await, server.connect("alice").await];
    for client in &mut strangers {
        client.send_raw(StreamDataRequest::default()).await;
        client.ended_with(Code::InvalidArgument, "PROTOCOL").await;
    }
    server.leave().await;
}

#[tokio::test]
async fn a_kind_of_frame_from_a_later_version_ends_the_call() {
    let server = TestServer::start().await;
    let mut call = RawCall::open(server.address).await;
    call.send_frame(Sent::Hello(hello("future")));
    // Field 99, a message of no bytes.
    call.send(grpc_message(&[0x9a, 0x06, 0x00]));
    assert_status(&call.end().await.unwrap(), Code::InvalidArgument, "PROTOCOL");
    server.leave().await;
}

#[tokio::test]
async fn bytes_that_are_no_message_end_the_call_and_no_other() {
    let server = TestServer::start().await;
    let mut neighbour = server.connect("neighbour").await;
    for greeted in [false, true] {
        let mut call = RawCall::open(server.address).await;
        if greeted {
            call.send_frame(Sent::Hello(hello("raw")));
        }
        call.send(grpc_message(&[0xff; 40]));
        assert_status(&call.end().await.unwrap(), Code::InvalidArgument, "PROTOCOL");
    }
    assert!(neighbour.is_quiet().await);
    assert_eq!(server.connections(), 1);
    server.leave().await;
}

#[tokio::test]
async fn a_message_that_says_it_is_compressed_ends_the_call() {
    let server = TestServer::start().await;
    let mut call = RawCall::open(server.address).await;
    call.send(vec![1, 0, 0, 0, 1, 0].into());
    let status = call.end().await.unwrap();
    assert_status(&status, Code::InvalidArgument, "PROTOCOL");
    server.leave().await;
}

#[tokio::test]
async fn a_version_nobody_speaks_is_refused_and_a_range_that_covers_ours_is_not() {
    let server = TestServer::start().await;
    let versions = |version_min, version_max| Hello { version_min, version_max, ..Hello::default() };
    for (min, max) in [(0, 0), (1, 1), (0, 9), (1, 2)] {
        let mut client = server.call().await;
        client.send(versions(min, max)).await;
        assert_eq!(client.welcomed().await.version, 1);
    }
    for (min, max) in [(2, 2), (2, 9), (9, 2)] {
        let mut client = server.call().await;
        client.send(versions(min, max)).await;
        client.ended_with(Code::FailedPrecondition, "VERSION").await;
    }
    server.leave().await;
}

#[tokio::test]
async fn a_client_is_whom_metadata_and_hello_agree_on() {
    let server = TestServer::start().await;
    for (metadata, said) in [("alice", ""), ("alice", "alice"), ("", "alice")] {
        let named = [("x-client-id", metadata)];
        let mut client = server.try_call(if metadata.is_empty() { &[] } else { &named }).await.unwrap();
        client.send(hello(said)).await;
        assert_eq!(client.welcomed().await.client_id, "alice");
    }
    let mut client = server.try_call(&[("x-client-id", "alice")]).await.unwrap();
    client.send(hello("bob")).await;
    client.ended_with(Code::InvalidArgument, "PROTOCOL").await;
    server.leave().await;
}

#[tokio::test]
async fn a_client_that_cannot_be_named_so_is_refused() {
    let server = TestServer::start().await;
    for named in [&[("x-client-id", "two words")][..], &[("x-client-id", "a"), ("x-client-id", "b")]] {
        assert_status(&server.refused_call(named).await, Code::InvalidArgument, "PROTOCOL");
    }
    for said in ["two words", "\u{fc}mlaut", &"x".repeat(129)] {
        let mut client = server.call().await;
        client.send(hello(said)).await;
        client.ended_with(Code::InvalidArgument, "PROTOCOL").await;
    }
    let mut client = server.call().await;
    client.send(Hello { agent: "x".repeat(129), ..hello("alice") }).await;
    client.ended_with(Code::InvalidArgument, "PROTOCOL").await;
    server.leave().await;
}

#[tokio::test]
async fn a_client_without_a_name_is_given_one_of_its_own() {
    let server = TestServer::start().await;
    let mut names = Vec::new();
    for _ in 0..2 {
        let mut client = server.call().await;
        client.send(hello("")).await;
        names.push(client.welcomed().await.client_id);
    }
    assert!(!names[0].is_empty() && names[0] != names[1], "{names:?}");
    server.leave().await;
}

#[tokio::test]
async fn the_welcome_says_what_the_server_was_configured_with() {
    let server = TestServer::with(&[
        ("server.node", "n1"),
        ("registry.heartbeat_interval", "7s"),
        ("registry.receive_timeout", "9s"),
        ("connection.max_sessions", "5"),
        ("connection.max_message_size", "1MiB"),
        ("session.ttl", "11s"),
        ("topics.dedupe_window", "13s"),
    ])
    .await;
    let mut client = server.call().await;
    client.ask(Hello { features: vec!["telepathy".to_owned()], ..hello("alice") }).await;
    let welcome = client.welcomed().await;
    let limits = welcome.limits.unwrap();
    assert_eq!((welcome.node.as_str(), welcome.features.len(), welcome.token_expires_us), ("n1", 0, 0));
    assert_eq!((welcome.heartbeat_interval_ms, welcome.receive_timeout_ms), (7_000, 9_000));
    assert_eq!((limits.max_sessions, limits.session_ttl_ms, limits.dedupe_window_ms), (5, 11_000, 13_000));
    assert!((900 << 10..1 << 20).contains(&limits.max_payload_bytes), "{limits:?}");
    assert!(limits.max_inflight_publishes >= 100);
    assert_eq!(client.reply().await.failure, None, "a request id on hello is answered as on any frame");
    server.leave().await;
}

#[tokio::test]
async fn a_client_that_half_closes_without_a_word_gets_a_good_end() {
    let server = TestServer::start().await;
    let mut client = server.call().await;
    client.half_close();
    assert!(matches!(client.heard().await, Heard::End(None)));
    server.emptied().await;
    server.leave().await;
}

#[tokio::test]
async fn everything_may_be_sent_before_the_welcome_comes() {
    let server = TestServer::start().await;
    let mut client = server.call().await;
    client.send(hello("eager")).await;
    client.send(open(1, "t")).await;
    let request = client.ask(publish(1, 1, "x")).await;
    client.half_close();
    client.welcomed().await;
    client.opened().await;
    let answer = client.answer(request).await;
    assert_eq!((answer.failure, answer.through_seq), (None, 1));
    assert_eq!(client.events(1, 1).await.len(), 1);
    client.ended_well().await;
    server.leave().await;
}

#[tokio::test]
async fn one_connection_more_than_there_may_be_is_refused_and_told_when_to_come_again() {
    let server = TestServer::with(&[("registry.max_connections", "2")]).await;
    let (first, mut second) = (server.connect("a").await, server.connect("b").await);
    let status = server.refused_call(&[]).await;
    assert_status(&status, Code::ResourceExhausted, "MAX_CONNECTIONS");
    assert_eq!(status.message(), "maximum connections reached");
    let wait = status.get_error_details().retry_info().and_then(|retry| retry.retry_delay).expect("RetryInfo");
    assert!((Duration::from_millis(100)..Duration::from_secs(60)).contains(&wait), "{wait:?}");
    assert!(second.is_quiet().await, "those who are in are not disturbed");
    assert!(server.sample("bowline_connections_rejected_total{reason=\"MAX_CONNECTIONS\"}") >= 1.0);
    // Other services are not conversations, and have no limit.
    server.store("t", &["x"]).await;

    drop(first);
    eventually("the place is free again", || server.connections() == 1).await;
    let mut third = server.connect("c").await;
    assert!(third.is_quiet().await);
    assert_status(&server.refused_call(&[]).await, Code::ResourceExhausted, "MAX_CONNECTIONS");
    server.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_all_come_at_once_are_told_to_come_again_one_by_one() {
    let server = TestServer::with(&[("registry.max_opens_per_second", "5")]).await;
    let begun = tokio::time::Instant::now();
    let calls = futures_util::future::join_all((0..40).map(|_| server.try_call(&[]))).await;
    let admitted = calls.iter().filter(|call| call.is_ok()).count();
    let most = 5 + 5 * (begun.elapsed().as_secs() as usize + 1);
    assert!((5..=most).contains(&admitted), "{admitted} were admitted in {:?}", begun.elapsed());
    let mut waits = Vec::new();
    for refused in calls.iter().filter_map(|call| call.as_ref().err()) {
        assert_status(refused, Code::ResourceExhausted, "OPEN_RATE");
        waits.push(refused.get_error_details().retry_info().and_then(|retry| retry.retry_delay).expect("RetryInfo"));
    }
    assert!(waits.iter().all(|wait| *wait >= Duration::from_secs(1)), "{waits:?}");
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 1, "all at the same moment again");
    let counted = server.sample("bowline_connections_rejected_total{reason=\"OPEN_RATE\"}");
    assert_eq!(counted, (40 - admitted) as f64);
    server.leave().await;
}

#[tokio::test]
async fn a_client_of_the_library_that_is_refused_for_a_moment_is_let_in_later() {
    let server = TestServer::with(&[("registry.max_opens_per_second", "1")]).await;
    let _first = server.connect("first").await;
    let client = bowline::client::Client::builder(format!("http://{}", server.address)).wait_for_server();
    let begun = tokio::time::Instant::now();
    let client = crate::support::within("a place", client.connect()).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(900), "it did not wait: {:?}", begun.elapsed());
    client.close().await;
    server.leave().await;
}

#[tokio::test]
async fn a_call_that_was_not_greeted_takes_a_place_like_any_other() {
    let settings = [("registry.max_connections", "1"), ("connection.hello_timeout", "200ms")];
    let server = TestServer::with(&settings).await;
    let mut silent = server.call().await;
    assert_status(&server.refused_call(&[]).await, Code::ResourceExhausted, "MAX_CONNECTIONS");
    silent.ended_with(Code::DeadlineExceeded, "HELLO_TIMEOUT").await;
    server.emptied().await;
    server.connect("next").await;
    server.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_may_connect_at_once_and_exactly_so_many_as_there_may_be() {
    let server = TestServer::with(&[("registry.max_connections", "50")]).await;
    let calls = futures_util::future::join_all((0..80).map(|_| server.try_call(&[]))).await;
    assert_eq!(calls.iter().filter(|call| call.is_ok()).count(), 50);
    for refused in calls.iter().filter_map(|call| call.as_ref().err()) {
        assert_status(refused, Code::ResourceExhausted, "MAX_CONNECTIONS");
    }
    assert_eq!(server.connections(), 50);
    drop(calls);
    server.emptied().await;
    server.leave().await;
}

#[tokio::test]
async fn a_token_is_told_that_nobody_asks_for_it() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    let request = client.ask(bowline::proto::v1::Authenticate { token: "x".to_owned() }).await;
    let answer = client.answer(request).await;
    assert_failure(answer.failure.as_ref(), Code::Unimplemented, "UNSUPPORTED");
    client.send(open(1, "t")).await;
    assert!(matches!(client.frame().await, Frame::SessionOpened(_)), "the call goes on");
    server.leave().await;
}
