//! Rule 10: what happens to a session that does not keep up.

use bowline::proto::v1::{DeliveryPolicy, Flow, GapReason, OpenSession};
use tonic::Code;

use crate::support::{
    TestClient, TestServer, assert_failure, credit, earliest, flow, keyed, open, pair, payloads, snapshot,
};

const RULES: &str = r#"[
    { pattern = "state.>", class = "state", delivery = { queue_size = 3 } },
    { pattern = "only.>", delivery = { policy = "disconnect", allow = [], queue_size = 3 } },
    { pattern = ">", delivery = { queue_size = 3 } },
]"#;

async fn server() -> TestServer {
    TestServer::with(&[("topics.rules", RULES)]).await
}

fn wanting(policy: DeliveryPolicy, open: OpenSession) -> OpenSession {
    OpenSession { delivery_policy: policy as i32, ..open }
}

async fn resume(client: &mut TestClient, total: u64) {
    client.send(Flow { credit: credit(total, 0), ..flow(1) }).await;
}

#[tokio::test]
async fn rule_10_lag_waits_in_the_history() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    let opened = client.open(OpenSession { credit: credit(1, 0), ..open(1, "t") }).await;
    assert_eq!(opened.delivery_policy(), DeliveryPolicy::Lag);
    server.store("t", &vec!["x"; 50]).await;
    client.events(1, 1).await;
    resume(&mut client, 100).await;
    client.events(1, 49).await;
    server.leave().await;
}

#[tokio::test]
async fn rule_10_drop_oldest_jumps_so_that_the_newest_remain_and_says_so() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    let opened =
        client.open(wanting(DeliveryPolicy::DropOldest, OpenSession { credit: credit(1, 0), ..open(1, "t") })).await;
    assert_eq!(opened.delivery_policy(), DeliveryPolicy::DropOldest);
    server.store("t", &["1"]).await;
    client.events(1, 1).await;
    server.store("t", &["2", "3", "4", "5", "6"]).await;
    resume(&mut client, 2).await;
    let gap = client.gap().await;
    assert_eq!((gap.reason(), gap.from.unwrap().offset, gap.to.unwrap().offset, gap.count), (GapReason::Slow, 1, 3, 2));
    assert_eq!(payloads(&client.events(1, 1).await), ["4"]);
    resume(&mut client, 9).await;
    assert_eq!(payloads(&client.events(1, 2).await), ["5", "6"]);
    assert_eq!(server.sample("bowline_slow_sessions_total{action=\"DROP_OLDEST\"}"), 1.0);
    server.leave().await;
}

#[tokio::test]
async fn rule_10_drop_oldest_acts_in_a_pause_and_its_gap_comes_when_the_session_is_resumed() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(wanting(DeliveryPolicy::DropOldest, open(1, "t"))).await;
    let request = client.ask(Flow { paused: Some(true), ..flow(1) }).await;
    client.answer(request).await;
    server.store("t", &["1", "2", "3", "4", "5"]).await;
    assert!(client.is_quiet().await, "a gap waits as well");
    client.send(Flow { paused: Some(false), ..flow(1) }).await;
    assert_eq!(client.gap().await.count, 2);
    assert_eq!(payloads(&client.events(1, 3).await), ["3", "4", "5"]);
    server.leave().await;
}

#[tokio::test]
async fn rule_10_history_that_was_asked_for_is_not_dropped() {
    let server = server().await;
    server.store("t", &vec!["x"; 40]).await;
    let mut client = server.connect("alice").await;
    let slow = OpenSession { start: earliest(), credit: credit(10, 0), ..open(1, "t") };
    client.open(wanting(DeliveryPolicy::DropOldest, slow)).await;
    client.events(1, 10).await;
    resume(&mut client, 40).await;
    client.events(1, 30).await;
    server.leave().await;
}

#[tokio::test]
async fn rule_10_disconnect_ends_a_session_that_lags_even_in_a_pause() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    for (alias, paused) in [(1, false), (2, true)] {
        client
            .open(wanting(DeliveryPolicy::Disconnect, OpenSession { credit: credit(1, 0), ..open(alias, "t") }))
            .await;
        let request = client.ask(Flow { paused: Some(paused), ..flow(alias) }).await;
        client.answer(request).await;
    }
    server.store("t", &["1", "2", "3"]).await;
    client.events(1, 1).await;
    assert!(client.is_quiet().await, "so many may wait");
    server.store("t", &["4", "5"]).await;
    let mut closed = [client.closed().await, client.closed().await];
    closed.sort_by_key(|closed| closed.session);
    for (closed, session) in closed.iter().zip(1..) {
        assert_eq!(closed.session, session);
        assert_failure(closed.failure.as_ref(), Code::ResourceExhausted, "SLOW_SESSION");
        assert_eq!(closed.failure.as_ref().unwrap().advice(), bowline::proto::v1::Advice::Retry);
    }
    assert_eq!(server.sample("bowline_slow_sessions_total{action=\"DISCONNECT\"}"), 2.0);
    server.leave().await;
}

#[tokio::test]
async fn rule_10_conflate_gives_the_latest_of_each_key_and_counts_the_rest() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    let slow = OpenSession { start: snapshot(), credit: credit(1, 0), max_rate_hz: 10, ..open(1, "state.t") };
    let opened = client.open(wanting(DeliveryPolicy::Conflate, slow)).await;
    assert_eq!((opened.delivery_policy(), opened.max_rate_hz), (DeliveryPolicy::Conflate, 10));
    assert!(client.snapshot(1).await.is_empty());
    server.store_all("state.t", &[keyed("a", "1")]).await;
    client.events(1, 1).await;
    let burst: Vec<_> = (2..=9).map(|n| keyed(if n % 2 == 0 { "b" } else { "a" }, &n.to_string())).collect();
    server.store_all("state.t", &burst).await;
    resume(&mut client, 9).await;
    let delivery = client.delivery().await;
    assert_eq!((delivery.prev, delivery.skipped), (1, 6));
    let pairs: Vec<_> = delivery.events.iter().map(pair).collect();
    assert_eq!(pairs, [("b".to_owned(), "8".to_owned()), ("a".to_owned(), "9".to_owned())]);
    assert_eq!(server.sample("bowline_events_skipped_total"), 6.0);
    server.leave().await;
}

#[tokio::test]
async fn rule_10_conflate_ends_at_once_with_what_is_latest_when_the_client_half_closes() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    let once = OpenSession { max_rate_hz: 1, ..open(1, "state.t") };
    client.open(wanting(DeliveryPolicy::Conflate, once)).await;
    server.store_all("state.t", &[keyed("a", "1")]).await;
    client.events(1, 1).await;
    server.store_all("state.t", &[keyed("a", "2"), keyed("a", "3")]).await;
    let begun = tokio::time::Instant::now();
    client.half_close();
    let delivery = client.delivery().await;
    assert_eq!((payloads(&delivery.events), delivery.skipped), (vec!["3".to_owned()], 1));
    client.ended_well().await;
    assert!(begun.elapsed() < std::time::Duration::from_millis(900), "it waited for its next round");
    server.leave().await;
}

#[tokio::test]
async fn rule_10_a_client_chooses_among_what_the_topic_allows() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    let opened = client.open(open(1, "only.t")).await;
    assert_eq!(opened.delivery_policy(), DeliveryPolicy::Disconnect);
    for (topic, policy) in [("only.t", DeliveryPolicy::Lag), ("t", DeliveryPolicy::Conflate)] {
        client.send(wanting(policy, open(2, topic))).await;
        assert_failure(client.closed().await.failure.as_ref(), Code::Unimplemented, "UNSUPPORTED");
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_2_a_strict_session_ends_where_it_would_have_to_skip() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    let strict = OpenSession { strict: true, credit: credit(1, 0), ..open(1, "t") };
    client.open(wanting(DeliveryPolicy::DropOldest, strict)).await;
    server.store("t", &["1", "2", "3", "4", "5"]).await;
    let closed = loop {
        if let bowline::proto::v1::stream_data_response::Frame::SessionClosed(closed) = client.frame().await {
            break closed;
        }
    };
    assert_failure(closed.failure.as_ref(), Code::ResourceExhausted, "SLOW_SESSION");
    server.leave().await;
}
