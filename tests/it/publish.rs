//! Publishing in a session: numbers, repeats, limits, answers.

use bowline::proto::v1::{
    Authenticate, Durability, NewEvent, OpenSession, Operation, Publish, PublishRequest,
    stream_data_request::Frame as Sent, stream_data_response::Frame,
};
use tonic::Code;

use crate::support::{
    RawCall, TestServer, assert_failure, assert_status, close, earliest, event, flow, heartbeat, hello, open, payloads,
    publish,
};

/// A session that is delivered nothing, so that only answers come.
fn publisher(session: u32, topic: &str, session_id: &str) -> OpenSession {
    OpenSession { session_id: session_id.to_owned(), mode: 2, ..open(session, topic) }
}

fn with(session: u32, seq: u64, event: NewEvent) -> Publish {
    Publish { session, seq, event: Some(event) }
}

#[tokio::test]
async fn an_event_reaches_everybody_who_reads_as_it_was_published() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = (server.connect("alice").await, server.connect("bob").await);
    alice.open(open(1, "t")).await;
    bob.open(open(1, "t")).await;
    let sent = NewEvent {
        key: "k".into(),
        operation: Operation::Delete as i32,
        headers: [("name".to_owned(), "value".to_owned())].into(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        ..event("x")
    };
    let request = alice.ask(with(1, 1, sent.clone())).await;
    let (mut own, mut answer) = (None, None);
    while own.is_none() || answer.is_none() {
        match alice.frame().await {
            Frame::Delivery(delivery) => own = delivery.events.into_iter().next(),
            Frame::Reply(reply) => answer = Some(reply),
            other => panic!("{other:?}"),
        }
    }
    let (own, answer) = (own.unwrap(), answer.unwrap());
    assert_eq!((answer.request_id, answer.failure, answer.duplicate), (request, None, false));
    let (cursor, durability) = (answer.cursor.unwrap(), Durability::Accepted as i32);
    assert_eq!((cursor.offset, cursor.time_us, answer.durability), (own.offset, own.time_us, durability));
    assert_eq!((own.publisher.as_str(), own.operation()), ("alice", Operation::Delete));
    assert_eq!((&own.key, &own.payload, &own.headers), (&sent.key, &sent.payload, &sent.headers));
    assert_eq!(own.traceparent, sent.traceparent);
    assert_eq!(bob.events(1, 1).await, [own]);
    server.leave().await;
}

#[tokio::test]
async fn the_same_number_is_stored_once_across_connections_and_answered_with_its_first_place() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(publisher(1, "t", "desk")).await;
    let mut first = Vec::new();
    for seq in 1..=5 {
        first.push(client.publish(publish(1, seq, format!("{seq}"))).await);
    }
    let again = client.publish(publish(1, 3, "3")).await;
    assert_eq!((again.duplicate, again.cursor, again.through_seq), (true, first[2].cursor, 5));
    client.sever();
    server.emptied().await;

    let mut client = server.connect("alice").await;
    client.open(publisher(4, "t", "desk")).await;
    for (seq, first) in (1..).zip(&first) {
        let again = client.publish(publish(4, seq, format!("{seq}"))).await;
        assert_eq!((again.failure, again.duplicate, again.cursor), (None, true, first.cursor));
    }
    assert!(!client.publish(publish(4, 6, "6")).await.duplicate);
    client.open(OpenSession { start: earliest(), ..open(1, "t") }).await;
    assert_eq!(payloads(&client.events(1, 6).await), ["1", "2", "3", "4", "5", "6"]);
    assert!(client.is_quiet().await);
    server.leave().await;
}

#[tokio::test]
async fn a_number_that_leaves_a_hole_is_refused_and_told_where_to_go_on() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(publisher(1, "t", "desk")).await;
    let answer = client.publish(publish(1, 2, "x")).await;
    assert_failure(answer.failure.as_ref(), Code::FailedPrecondition, "WRONG_SEQ");
    assert_eq!(answer.through_seq, 0);
    client.publish(publish(1, 1, "x")).await;
    for seq in [3, 4, u64::MAX] {
        let answer = client.publish(publish(1, seq, "x")).await;
        assert_failure(answer.failure.as_ref(), Code::FailedPrecondition, "WRONG_SEQ");
        assert_eq!(answer.through_seq, 1);
    }
    let answer = client.publish(publish(1, 0, "x")).await;
    assert_failure(answer.failure.as_ref(), Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(client.publish(publish(1, 2, "x")).await.through_seq, 2);
    server.leave().await;
}

#[tokio::test]
async fn what_follows_a_failed_publish_is_refused_until_it_is_repeated() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(publisher(1, "t", "desk")).await;
    client.publish(publish(1, 1, "1")).await;
    let conditional = client.ask(with(1, 2, NewEvent { if_last: Some(77), ..event("2") })).await;
    let behind = [client.ask(publish(1, 3, "3")).await, client.ask(publish(1, 4, "4")).await];
    let answer = client.answer(conditional).await;
    assert_failure(answer.failure.as_ref(), Code::Aborted, "WRONG_LAST");
    assert_eq!(answer.failure.unwrap().metadata["actual"], "1");
    for request in behind {
        assert_failure(client.answer(request).await.failure.as_ref(), Code::FailedPrecondition, "WRONG_SEQ");
    }
    for seq in 2..=4 {
        let answer = client.publish(with(1, seq, NewEvent { if_last: Some(seq - 1), ..event(seq.to_string()) })).await;
        assert_eq!((answer.failure, answer.through_seq), (None, seq));
    }
    client.open(OpenSession { start: earliest(), ..open(2, "t") }).await;
    assert_eq!(payloads(&client.events(2, 4).await), ["1", "2", "3", "4"]);
    server.leave().await;
}

#[tokio::test]
async fn a_number_stored_too_long_ago_is_not_stored_again() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    let depth = 1024;
    client.open(publisher(1, "t", "desk")).await;
    for seq in 1..=depth {
        client.send(publish(1, seq, "x")).await;
    }
    assert!(client.publish(publish(1, 1, "x")).await.duplicate, "the oldest that can be unanswered");
    client.publish(publish(1, depth + 1, "x")).await;
    let answer = client.publish(publish(1, 1, "x")).await;
    assert_failure(answer.failure.as_ref(), Code::OutOfRange, "FORGOTTEN_SEQ");
    assert_eq!(answer.through_seq, depth + 1);
    server.leave().await;
}

#[tokio::test]
async fn a_payload_over_the_limit_costs_an_answer_and_one_far_over_it_the_stream() {
    let server = TestServer::with(&[("connection.max_message_size", "64KiB")]).await;
    let mut client = server.call().await;
    client.send(hello("alice")).await;
    let limit = client.welcomed().await.limits.unwrap().max_payload_bytes as usize;
    client.open(open(1, "t")).await;
    for size in [limit + 1, 64 << 10, 100 << 10] {
        let answer = client.publish(publish(1, 1, vec![0; size])).await;
        assert_failure(answer.failure.as_ref(), Code::ResourceExhausted, "TOO_LARGE");
    }
    assert_eq!(client.publish(publish(1, 1, vec![7; limit])).await.failure, None);
    let events = client.events(1, 1).await;
    assert!(events[0].payload.len() == limit && events[0].payload.iter().all(|byte| *byte == 7));

    client.send(publish(1, 2, vec![0; 200 << 10])).await;
    client.ended_with(Code::ResourceExhausted, "TOO_LARGE").await;
    server.emptied().await;
    server.leave().await;
}

#[tokio::test]
async fn a_message_that_only_claims_to_be_huge_ends_the_stream_before_it_is_there() {
    let server = TestServer::start().await;
    let mut call = RawCall::open(server.address).await;
    call.send_frame(Sent::Hello(hello("liar")));
    call.send(vec![0, 0xff, 0xff, 0xff, 0xff].into());
    assert_status(&call.end().await.unwrap(), Code::ResourceExhausted, "TOO_LARGE");
    server.leave().await;
}

#[tokio::test]
async fn an_event_whose_parts_are_over_their_limits_is_refused() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(publisher(1, "t", "desk")).await;
    let many = (0..33).map(|n| (n.to_string(), String::new())).collect();
    let cases = [
        NewEvent { key: vec![0; 256].into(), ..event("x") },
        NewEvent { headers: many, ..event("x") },
        NewEvent { headers: [("h".to_owned(), "x".repeat(4096))].into(), ..event("x") },
        NewEvent { dedupe_id: "x".repeat(129), ..event("x") },
    ];
    for refused in cases {
        let answer = client.publish(with(1, 1, refused)).await;
        assert_failure(answer.failure.as_ref(), Code::InvalidArgument, "INVALID_FIELD");
    }
    let nothing = Publish { session: 1, seq: 1, event: None };
    assert_eq!(client.publish(nothing).await.failure, None, "an event without content is an event");
    server.leave().await;
}

#[tokio::test]
async fn an_id_is_stored_once_whoever_publishes_it_and_by_whatever_way() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = (server.connect("alice").await, server.connect("bob").await);
    let order = || NewEvent { dedupe_id: "order-17".to_owned(), ..event("x") };
    alice.open(publisher(1, "t", "a")).await;
    bob.open(publisher(1, "t", "b")).await;
    let first = alice.publish(with(1, 1, order())).await;
    let second = bob.publish(with(1, 1, order())).await;
    assert_eq!((second.failure, second.duplicate, second.cursor), (None, true, first.cursor));
    let request = PublishRequest { topic: "t".to_owned(), event: Some(order()) };
    let third = server.topics().await.publish(request).await.unwrap().into_inner();
    assert_eq!((third.duplicate, third.cursor), (true, first.cursor));
    assert_eq!(bob.publish(publish(1, 2, "y")).await.through_seq, 2, "a repeat by id fills its number");
    server.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_come_in_the_order_of_the_requests() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    let sessions = 4;
    for alias in 1..=sessions {
        client.open(publisher(alias, &format!("t{alias}"), &format!("s{alias}"))).await;
    }
    let sender = client.sender();
    let count = 2000;
    let send = async {
        for n in 0..count {
            let (alias, seq) = (n % u64::from(sessions) + 1, n / u64::from(sessions) + 1);
            let frame = Sent::Publish(publish(u32::try_from(alias).unwrap(), seq, "x"));
            let request = bowline::proto::v1::StreamDataRequest { request_id: n + 1, frame: Some(frame) };
            sender.send(request).await.unwrap();
        }
    };
    let hear = async {
        for n in 0..count {
            let answer = client.reply().await;
            assert_eq!((answer.request_id, answer.failure), (n + 1, None));
        }
    };
    tokio::join!(send, hear);
    server.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_that_race_get_a_place_each_and_every_reader_the_same_order() {
    let server = TestServer::start().await;
    let mut clients = Vec::new();
    for n in 0..5 {
        let mut client = server.connect(&format!("c{n}")).await;
        client.open(open(1, "t")).await;
        clients.push(client);
    }
    for seq in 1..=100 {
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(publish(1, seq, format!("{n}:{seq}"))).await;
        }
    }
    let mut seen = Vec::new();
    for client in &mut clients {
        seen.push(payloads(&client.events(1, 500).await));
    }
    assert!(seen.iter().all(|order| order == &seen[0]));
    for n in 0..5 {
        let own = seen[0].iter().filter(|payload| payload.starts_with(&format!("{n}:")));
        assert!(own.eq((1..=100).map(|seq| format!("{n}:{seq}")).collect::<Vec<_>>().iter()), "each in its own order");
    }
    server.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_echo_topic_answers_the_publisher_alone_and_keeps_nothing() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = (server.connect("alice").await, server.connect("bob").await);
    for client in [&mut alice, &mut bob] {
        client.open(open(1, "echo.room")).await;
    }
    alice.open(open(2, "echo.room")).await;
    for seq in 1..=3000 {
        alice.send(publish(1, seq, "echo")).await;
        if seq % 100 == 0 {
            assert_eq!(alice.events(1, 100).await.len(), 100);
        }
    }
    assert!(bob.is_quiet().await && alice.is_quiet().await);
    let mut late = server.connect("late").await;
    late.open(OpenSession { start: earliest(), ..open(1, "echo.room") }).await;
    assert!(late.is_quiet().await);
    server.leave().await;
}

#[tokio::test]
async fn every_kind_of_frame_is_answered_exactly_once_if_it_asks_and_never_if_not() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    let frames = || {
        [
            Sent::OpenSession(publisher(1, "t", "desk").into()),
            Sent::OpenSession(open(2, "not a topic").into()),
            Sent::Publish(publish(1, 1, "x")),
            Sent::Publish(publish(1, 9, "x")),
            Sent::Publish(publish(9, 1, "x")),
            Sent::Flow(flow(1)),
            Sent::Flow(flow(9)),
            Sent::Heartbeat(heartbeat(1)),
            Sent::Authenticate(Authenticate::default()),
            Sent::CloseSession(close(1)),
            Sent::CloseSession(close(9)),
        ]
    };
    for asks in [true, false] {
        let mut expected = Vec::new();
        for (n, frame) in (1..).zip(frames()) {
            let request_id = if asks { 1000 + n } else { 0 };
            expected.push(request_id);
            client.send_raw(bowline::proto::v1::StreamDataRequest { request_id, frame: Some(frame) }).await;
        }
        client.send(heartbeat(42)).await;
        let mut answered = Vec::new();
        loop {
            match client.any_frame().await {
                Frame::Reply(reply) => answered.push(reply.request_id),
                Frame::Heartbeat(heartbeat) if heartbeat.nonce == 42 => break,
                _ => {}
            }
        }
        expected.retain(|id| *id != 0);
        assert_eq!(answered, expected);
    }
    server.leave().await;
}
