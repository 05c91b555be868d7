//! Rules 14 and 15: errors reach as few as possible, and moving takes two things.

use bowline::proto::v1::{Advice, OpenSession};
use tonic::Code;

use crate::support::{TestServer, assert_failure, open, publish};

#[tokio::test]
async fn rule_14_errors_take_the_narrowest_scope_a_reply_before_a_session_before_the_stream() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    // One request.
    let answer = client.publish(publish(1, 5, "a hole")).await;
    assert_failure(answer.failure.as_ref(), Code::FailedPrecondition, "WRONG_SEQ");
    assert_eq!(answer.failure.unwrap().advice(), Advice::None);
    // One session.
    client.send(OpenSession { delivery_policy: 99, ..open(2, "t") }).await;
    let closed = client.closed().await;
    assert_failure(closed.failure.as_ref(), Code::Unimplemented, "UNSUPPORTED");
    // The others go on.
    client.send(publish(1, 1, "x")).await;
    client.events(1, 1).await;
    // The stream, for what concerns it all.
    client.send(open(1, "t")).await;
    client.ended_with(Code::InvalidArgument, "PROTOCOL").await;
    server.emptied().await;
    server.leave().await;
}

#[tokio::test]
async fn rule_15_a_client_that_is_to_move_is_told_by_a_frame_and_its_transport_takes_no_new_call() {
    let server = TestServer::with(&[("drain.deadline", "3s")]).await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    let leaving = tokio::join!(server.leave_politely(), async {
        let drain = client.drain().await;
        assert!(drain.deadline_ms > 0 && drain.reconnect_delay_ms <= drain.deadline_ms);
        client.half_close();
        client.ended_well().await;
    });
    assert!(leaving.0 < std::time::Duration::from_secs(3), "it waited for nobody");
}
