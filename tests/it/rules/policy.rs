//! Rule 10: what happens to deliveries that a session does not take, and who decides that.

use bowline::proto::v1::{
    Advice, DeliveryPolicy, GapReason, OpenSession, Recovery, stream_data_request::Frame as Sent,
    stream_data_response::Frame,
};
use tonic::Code;

use super::{assert_advised, keyed, numbers, policy, refused, server};
use crate::support::{
    RawTransport, TestClient, TestServer, after, changes, close, credit, earliest, eventually, grant, hello, named,
    open, paused, payloads, publish, snapshot,
};

fn held(topic: &str) -> OpenSession {
    OpenSession { credit: credit(0, 0), ..open(1, topic) }
}

#[tokio::test]
async fn rule_10_a_session_that_does_not_choose_gets_the_topics_policy_and_is_told() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    for (session, topic, own) in [
        (1, "t", DeliveryPolicy::Lag),
        (2, "drop", DeliveryPolicy::DropOldest),
        (3, "cut", DeliveryPolicy::Disconnect),
        (4, "state.t", DeliveryPolicy::Lag),
        (5, "state.fast", DeliveryPolicy::Conflate),
        (6, "signal.t", DeliveryPolicy::DropOldest),
        (7, "echo", DeliveryPolicy::Lag),
    ] {
        let opened = client.open(open(session, topic)).await;
        assert_eq!((topic, opened.delivery_policy()), (topic, own));
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_10_a_client_may_choose_what_the_topic_allows_and_is_refused_anything_else() {
    use DeliveryPolicy::{Conflate, Disconnect, DropOldest, Lag};
    let server = server().await;
    let mut client = server.connect("alice").await;
    let may = [
        ("any", &[Lag, DropOldest, Disconnect][..]),
        ("drop", &[DropOldest, Disconnect]),
        ("state.t", &[Lag, DropOldest, Conflate, Disconnect]),
        ("signal.t", &[DropOldest, Disconnect]),
        ("echo", &[Lag]),
    ];
    for (topic, allowed) in may {
        for chosen in [Lag, DropOldest, Conflate, Disconnect] {
            let wish = policy(open(1, topic), chosen);
            if allowed.contains(&chosen) {
                assert_eq!(client.open(wish).await.delivery_policy(), chosen, "{topic}");
                client.send(close(1)).await;
                client.closed().await;
            } else {
                let failure = refused(&mut client, wish).await;
                assert_advised(Some(&failure), Code::Unimplemented, "UNSUPPORTED", Advice::None);
            }
        }
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_10_lag_waits_and_loses_only_what_the_history_no_longer_has() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    for (topic, gone) in [("any", 0), ("short", 96)] {
        client.open(policy(held(topic), DeliveryPolicy::Lag)).await;
        server.store(topic, &numbers(1, 100)).await;
        client.send(grant(1, 1000)).await;
        if gone > 0 {
            let gap = client.gap().await;
            assert_eq!((gap.reason(), gap.count), (GapReason::Retention, gone));
        }
        assert_eq!(payloads(&client.events(1, 100 - gone as usize).await), numbers(gone + 1, 100));
        client.send(close(1)).await;
        client.closed().await;
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_10_drop_oldest_jumps_so_that_the_newest_remain_and_says_so() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(held("drop")).await;
    server.store("drop", &numbers(1, 10)).await;
    client.send(grant(1, 3)).await;
    // Ten wait, three of them with credit: that leaves seven, and four may.
    let gap = client.gap().await;
    assert_eq!((gap.reason(), gap.count, gap.to.unwrap().offset), (GapReason::Slow, 6, 6));
    assert_eq!(payloads(&client.events(1, 3).await), numbers(7, 9));
    server.store("drop", &numbers(11, 13)).await;
    assert!(client.is_quiet().await, "four wait, as many as may");
    client.send(grant(1, 100)).await;
    assert_eq!(payloads(&client.events(1, 4).await), numbers(10, 13));
    assert_eq!(server.sample("bowline_gaps_total{reason=\"SLOW\"}"), 1.0);
    server.leave().await;
}

#[tokio::test]
async fn rule_10_drop_oldest_acts_on_a_paused_session_too_and_its_gap_waits_for_the_resume() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "drop")).await;
    client.ask(paused(1, true)).await;
    client.reply().await;
    server.store("drop", &numbers(1, 10)).await;
    assert!(client.is_quiet().await);
    client.send(paused(1, false)).await;
    let gap = client.gap().await;
    assert_eq!((gap.reason(), gap.count), (GapReason::Slow, 6));
    assert_eq!(payloads(&client.events(1, 4).await), numbers(7, 10));
    server.leave().await;
}

#[tokio::test]
async fn rule_10_drop_oldest_drops_nothing_the_session_has_credit_for() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { credit: credit(96, 0), ..open(1, "drop") }).await;
    server.store("drop", &numbers(1, 100)).await;
    assert_eq!(payloads(&client.events(1, 96).await), numbers(1, 96));
    assert!(client.is_quiet().await, "four wait, as many as may");
    client.send(grant(1, 97)).await;
    assert_eq!(payloads(&client.events(1, 1).await), ["97"]);
    server.leave().await;
}

#[tokio::test]
async fn rule_10_history_that_was_asked_for_is_not_dropped_for_being_much() {
    let server = server().await;
    server.store("drop", &numbers(1, 100)).await;
    server.store("cut", &numbers(1, 100)).await;
    let mut client = server.connect("alice").await;
    for (session, topic) in [(1, "drop"), (2, "cut")] {
        client.open(OpenSession { start: earliest(), credit: credit(1, 0), ..open(session, topic) }).await;
        client.events(session, 1).await;
    }
    server.store("drop", &numbers(101, 104)).await;
    server.store("cut", &numbers(101, 104)).await;
    assert!(client.is_quiet().await, "four new ones wait, as many as may");
    for session in [1, 2] {
        client.send(grant(session, 104)).await;
        assert_eq!(payloads(&client.events(session, 103).await), numbers(2, 104));
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_10_drop_oldest_in_a_keyed_topic_jumps_to_the_head_and_a_snapshot_follows() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(policy(held("state.t"), DeliveryPolicy::DropOldest)).await;
    server.publish("state.t", keyed(&["a=1", "b=1", "c=1", "a=2", "-b", "d=1"])).await;
    client.send(grant(1, 1)).await;
    let gap = client.gap().await;
    assert_eq!((gap.reason(), gap.count, gap.to.unwrap().offset), (GapReason::Slow, 6, 6));
    client.send(grant(1, 3)).await;
    assert_eq!(changes(&client.snapshot(1).await), ["c=1", "a=2", "d=1"]);
    server.leave().await;
}

#[tokio::test]
async fn rule_10_a_strict_session_ends_where_drop_oldest_would_jump() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { strict: true, ..held("drop") }).await;
    server.store("drop", &numbers(1, 10)).await;
    client.send(grant(1, 1)).await;
    let closed = client.closed().await;
    assert_advised(closed.failure.as_ref(), Code::ResourceExhausted, "SLOW_SESSION", Advice::Retry);
    server.leave().await;
}

/// Five events wait where four may: the session ends by itself. It is opened again at its cursor.
async fn is_cut(mut client: TestClient, server: &TestServer, topic: &str) {
    server.publish(topic, keyed(&["a=1", "a=2", "a=3", "a=4"])).await;
    assert!(client.is_quiet().await, "as many as may wait");
    let cursor = client.cursor(1);
    server.publish(topic, keyed(&["a=5"])).await;
    let closed = client.closed().await;
    assert_advised(closed.failure.as_ref(), Code::ResourceExhausted, "SLOW_SESSION", Advice::Retry);
    let opened = client.open(OpenSession { start: after(cursor), ..open(1, topic) }).await;
    assert_eq!(opened.recovery(), Recovery::Full);
    assert_eq!(client.events(1, 5).await.len(), 5);
}

#[tokio::test]
async fn rule_10_disconnect_ends_a_session_that_has_no_credit_for_what_waits() {
    let server = server().await;
    for topic in ["cut", "any", "state.t"] {
        let mut client = server.connect("alice").await;
        client.open(policy(held(topic), DeliveryPolicy::Disconnect)).await;
        is_cut(client, &server, topic).await;
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_10_disconnect_ends_a_session_that_is_paused_while_too_much_waits() {
    let server = server().await;
    for topic in ["cut", "state.t"] {
        let mut client = server.connect("alice").await;
        client.open(policy(open(1, topic), DeliveryPolicy::Disconnect)).await;
        client.ask(paused(1, true)).await;
        client.reply().await;
        is_cut(client, &server, topic).await;
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_10_disconnect_ends_a_session_that_takes_neither_its_snapshot_nor_the_changes() {
    let server = server().await;
    server.publish("state.t", keyed(&["a=1", "b=1"])).await;
    for pauses in [false, true] {
        let mut client = server.connect("alice").await;
        let wish = OpenSession { start: snapshot(), credit: credit(1, 0), ..open(1, "state.t") };
        client.open(policy(wish, DeliveryPolicy::Disconnect)).await;
        client.events(1, 1).await;
        client.ask(paused(1, pauses)).await;
        client.reply().await;
        server.publish("state.t", keyed(&["c=1", "c=2", "c=3", "c=4"])).await;
        assert!(client.is_quiet().await, "as many as may wait");
        server.publish("state.t", keyed(&["c=5"])).await;
        let closed = client.closed().await;
        assert_advised(closed.failure.as_ref(), Code::ResourceExhausted, "SLOW_SESSION", Advice::Retry);
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_10_without_a_limit_of_credit_what_http2_does_not_take_is_what_waits() {
    let server = server().await;
    for (topic, metric) in [
        ("drop", "bowline_gaps_total{reason=\"SLOW\"}"),
        ("cut", "bowline_sessions_closed_total{reason=\"SLOW_SESSION\"}"),
    ] {
        let transport = RawTransport::open(server.address, 0).await;
        let mut stuck = transport.call().await;
        stuck.send_frame(Sent::Hello(hello("stuck")));
        stuck.send_frame(Sent::OpenSession(open(1, topic).into()));
        eventually("its session is open", || server.sessions() == 1).await;
        server.store(topic, &numbers(1, 100)).await;
        transport.widen();
        eventually("it is taken for slow", || server.sample(metric) > 0.0).await;
        stuck.half_close();
        assert_eq!(stuck.end().await.unwrap().code(), Code::Ok);
        server.emptied().await;
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_10_a_session_that_was_cut_leaves_its_neighbours_and_its_place_alone() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { credit: credit(0, 0), ..named(1, "cut", "desk") }).await;
    client.open(open(2, "cut")).await;
    assert_eq!(client.publish(publish(1, 1, "own")).await.failure, None);
    server.store("cut", &numbers(2, 3)).await;
    server.store("cut", &numbers(4, 5)).await;
    let mut cut = false;
    while !cut || client.cursor(2).offset < 5 {
        match client.frame().await {
            Frame::Delivery(delivery) => assert_eq!(delivery.session, 2),
            Frame::SessionClosed(closed) => cut = closed.session == 1,
            other => panic!("{other:?}"),
        }
    }
    let opened = client.open(OpenSession { last_attach: 1, ..named(1, "cut", "desk") }).await;
    assert_eq!((opened.attach, opened.published_seq), (2, 1));
    server.leave().await;
}

#[tokio::test]
async fn rule_10_on_a_signal_topic_disconnect_ends_the_session_that_would_have_missed_something() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    // Its history holds no more than may wait: it must not be trimmed over in silence instead.
    client.open(policy(held("signal.t"), DeliveryPolicy::Disconnect)).await;
    server.store("signal.t", &numbers(1, 65)).await;
    let closed = client.closed().await;
    assert_advised(closed.failure.as_ref(), Code::ResourceExhausted, "SLOW_SESSION", Advice::Retry);
    server.leave().await;
}
