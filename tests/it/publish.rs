//! Publishing in a session: who gets it, what is answered.

mod limit;
mod number;

use bowline::proto::v1::{
    Authenticate, Durability, NewEvent, OpenSession, Operation, StreamDataRequest, stream_data_request::Frame as Sent,
    stream_data_response::Frame,
};

use crate::support::{TestServer, close, earliest, event, flow, heartbeat, open, payloads, publish, with};

/// A session that is delivered nothing, so that only answers come.
fn publisher(session: u32, topic: &str, session_id: &str) -> OpenSession {
    OpenSession { session_id: session_id.to_owned(), mode: 2, ..open(session, topic) }
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
        tracestate: "vendor=opaque".to_owned(),
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
    assert_eq!((&own.traceparent, &own.tracestate), (&sent.traceparent, &sent.tracestate));
    assert_eq!(bob.events(1, 1).await, [own]);
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
            let frame = Sent::Publish(publish(u32::try_from(alias).unwrap(), seq, "x").into());
            let request = StreamDataRequest { request_id: n + 1, frame: Some(frame) };
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
            Sent::Publish(publish(1, 1, "x").into()),
            Sent::Publish(publish(1, 9, "x").into()),
            Sent::Publish(publish(9, 1, "x").into()),
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
            client.send_raw(StreamDataRequest { request_id, frame: Some(frame) }).await;
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
