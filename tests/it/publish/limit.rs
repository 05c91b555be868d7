//! Publishing too much.

use bowline::proto::v1::{
    Flow, NewEvent, OpenSession, Publish, stream_data_request::Frame as Sent, stream_data_response::Frame,
};
use tonic::Code;

use super::publisher;
use crate::support::{
    RawCall, TestServer, assert_failure, assert_status, credit, event, flow, hello, open, payloads, publish, with,
};

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
async fn echoes_that_are_not_taken_are_bounded_and_their_loss_is_announced() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { credit: credit(0, 0), ..open(1, "echo") }).await;
    for seq in 1..=1000 {
        client.send(publish(1, seq, seq.to_string())).await;
    }
    client.send(Flow { credit: credit(u64::MAX, 0), ..flow(1) }).await;
    let (mut lost, mut taken) = (0, Vec::new());
    while lost + taken.len() as u64 != 1000 {
        match client.frame().await {
            Frame::Gap(gap) => lost += gap.count,
            Frame::Delivery(delivery) => taken.extend(payloads(&delivery.events)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((lost, taken.len()), (488, 512), "as many are kept as the rule of the topic says");
    assert!(taken.into_iter().eq((489..=1000).map(|seq| seq.to_string())));
    server.leave().await;
}
