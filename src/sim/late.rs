//! A broker that takes its time changes when answers come, and nothing of what they mean.

mod talker;

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::{Code, transport::Channel};
use tonic_types::StatusExt as _;

use self::talker::{Talker, assert_took, named, open};
use super::{network::Network, replica::Replica};
use crate::{
    broker::late::{self, Fate, PATIENCE, Planned},
    proto::v1::{
        GetPresenceRequest, NewEvent, OpenSession, Operation, Presence, PublishBatchRequest, PublishRequest,
        ReadHistoryRequest, topic_service_client::TopicServiceClient,
    },
};

/// What becomes of a publish, by what its payload begins with.
fn fate(payload: &[u8]) -> Option<Fate> {
    let after = |stored: Option<u64>, answered: Option<u64>| {
        Some(Fate { stored: stored.map(Duration::from_secs), answered: answered.map(Duration::from_secs) })
    };
    match payload {
        // Takes three seconds.
        [b'3', ..] => after(Some(3), Some(3)),
        // Is not stored, and a second later that is known.
        b"fails" => after(None, Some(1)),
        // Is stored, or is not, and nobody knows.
        b"stored" => after(Some(1), None),
        b"lost" => after(None, None),
        _ => None,
    }
}

struct Bench {
    network: Network,
    replica: Replica,
    planned: Planned,
}

impl Bench {
    fn start() -> Self {
        let planned = late::plan(|event| fate(&event.payload));
        let network = Network::new(1);
        let replica = Replica::start(&network);
        Self { network, replica, planned }
    }

    async fn connect(&self, client_id: &str) -> Talker {
        Talker::connect(&self.network, client_id).await
    }

    async fn topics(&self) -> TopicServiceClient<Channel> {
        TopicServiceClient::new(self.network.channel("operator", Duration::from_secs(5)).await.expect("it is reached"))
    }

    /// What a topic holds: payloads, or `-` where a key is removed.
    async fn stored(&self, topic: &str) -> Vec<String> {
        let request = ReadHistoryRequest { topic: topic.to_owned(), ..ReadHistoryRequest::default() };
        let history = self.topics().await.read_history(request).await.expect("it can be read").into_inner();
        let text = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
        let change = |event: &crate::proto::v1::Event| match event.operation() {
            Operation::Delete => "-".to_owned(),
            _ => text(&event.payload),
        };
        history.events.iter().map(change).collect()
    }

    async fn leave(self) {
        self.replica.leave().await;
    }
}

fn ok(request: u64) -> (u64, String) {
    (request, "OK".to_owned())
}

fn refused(request: u64, reason: &str) -> (u64, String) {
    (request, reason.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_waits_holds_up_nobody_else() {
    let bench = Bench::start();
    let (mut client, mut other) = (bench.connect("alice").await, bench.connect("bob").await);
    client.open(open(1, "prices.a")).await;
    client.open(open(2, "prices.a")).await;
    other.open(open(1, "prices.a")).await;
    let begun = Instant::now();
    let slow = client.publish(1, 1, "3 seconds").await;
    let quick = client.publish(2, 1, "at once").await;
    assert_eq!(client.reply().await, ok(quick));
    let quick = other.publish(1, 1, "at once too").await;
    assert_eq!(other.reply().await, ok(quick));
    let paused = client.pause(1).await;
    assert_eq!(client.reply().await, ok(paused));
    client.heartbeat().await;
    client.open(open(3, "prices.a")).await;
    assert_took(begun, 0);
    assert_eq!(client.reply().await, ok(slow));
    assert_took(begun, 3);
    assert_eq!(bench.stored("prices.a").await, ["at once", "at once too", "3 seconds"]);
    bench.leave().await;
}

#[tokio::test(start_paused = true)]
async fn publishes_of_a_session_go_one_at_a_time_and_those_of_others_beside_them() {
    let bench = Bench::start();
    let mut client = bench.connect("alice").await;
    client.open(open(1, "prices.a")).await;
    client.open(open(2, "prices.a")).await;
    let begun = Instant::now();
    let mut requests = Vec::new();
    for (seq, payload) in (1..).zip(["3 a", "b", "3 c", "d"]) {
        requests.push(client.publish(1, seq, payload).await);
    }
    let beside = client.publish(2, 1, "3 beside").await;
    let mut replies = Vec::new();
    for _ in 0..5 {
        replies.push(client.reply().await);
    }
    assert_took(begun, 6);
    assert_eq!(bench.stored("prices.a").await.len(), 5);
    let position = |request: u64| replies.iter().position(|reply| *reply == ok(request)).expect("it is stored");
    assert!(requests.is_sorted_by_key(|request| position(*request)), "{replies:?}");
    assert!(position(beside) < position(requests[2]), "{replies:?}");
    let stored = bench.stored("prices.a").await;
    let of_one: Vec<_> = stored.iter().filter(|payload| *payload != "3 beside").collect();
    assert_eq!(of_one, ["3 a", "b", "3 c", "d"]);
    bench.leave().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_publish_that_fails_is_not_stored_before_it() {
    let bench = Bench::start();
    let mut client = bench.connect("alice").await;
    client.open(named(1, "prices.a", "s")).await;
    let requests = [
        client.publish(1, 1, "first").await,
        client.publish(1, 2, "fails").await,
        client.publish(1, 3, "third").await,
        client.publish(1, 4, "fourth").await,
    ];
    assert_eq!(client.reply().await, ok(requests[0]));
    let failed = client.whole_reply().await;
    let failure = failed.failure.expect("a failure");
    assert_eq!((failed.request_id, failure.reason.as_str(), failed.through_seq), (requests[1], "BROKER", 1));
    assert_eq!(failure.code, Code::Unavailable as i32);
    for request in &requests[2..] {
        let reply = client.whole_reply().await;
        let reason = reply.failure.map(|failure| failure.reason);
        assert_eq!((reply.request_id, reason.as_deref(), reply.through_seq), (*request, Some("WRONG_SEQ"), 1));
    }
    for (seq, payload) in (2..).zip(["second", "third", "fourth"]) {
        let request = client.publish(1, seq, payload).await;
        assert_eq!(client.reply().await, ok(request));
    }
    assert_eq!(bench.stored("prices.a").await, ["first", "second", "third", "fourth"]);
    bench.leave().await;
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_nobody_knows_is_found_out_by_the_same_number() {
    for (payload, is_stored) in [("stored", true), ("lost", false)] {
        let bench = Bench::start();
        let mut client = bench.connect("alice").await;
        client.open(named(1, "prices.a", "s")).await;
        let begun = Instant::now();
        let (unknown, behind) = (client.publish(1, 1, payload).await, client.publish(1, 2, "behind").await);
        assert_eq!(client.reply().await, refused(unknown, "UNKNOWN_OUTCOME"));
        assert_took(begun, PATIENCE.as_secs());
        assert_eq!(client.reply().await, refused(behind, "WRONG_SEQ"));
        client.publish(1, 1, "again").await;
        let reply = client.whole_reply().await;
        assert_eq!((reply.failure, reply.duplicate, reply.through_seq), (None, is_stored, 1), "{payload}");
        let behind = client.publish(1, 2, "behind").await;
        assert_eq!(client.reply().await, ok(behind));
        let first = if is_stored { payload } else { "again" };
        assert_eq!(bench.stored("prices.a").await, [first, "behind"]);
        bench.leave().await;
    }
}

#[tokio::test(start_paused = true)]
async fn so_many_publishes_wait_and_no_more() {
    let bench = Bench::start();
    let mut client = bench.connect("alice").await;
    client.open(named(1, "prices.a", "s")).await;
    client.open(open(2, "prices.a")).await;
    // As many as `queue_size` says.
    let mut waiting = vec![client.publish(1, 1, "3 seconds").await];
    for seq in 2..=32 {
        waiting.push(client.publish(1, seq, "x").await);
    }
    let begun = Instant::now();
    for (session, seq) in [(1, 33), (2, 1)] {
        let request = client.publish(session, seq, "x").await;
        let reply = client.whole_reply().await;
        let failure = reply.failure.expect("it is too much");
        assert_eq!((reply.request_id, failure.reason.as_str()), (request, "BACKPRESSURE"));
        assert!(failure.retry_after_ms > 0);
    }
    assert_took(begun, 0);
    for request in waiting {
        assert_eq!(client.reply().await, ok(request));
    }
    let request = client.publish(1, 33, "x").await;
    assert_eq!(client.reply().await, ok(request));
    bench.leave().await;
}

#[tokio::test(start_paused = true)]
async fn so_many_bytes_wait_and_no_more() {
    let bench = Bench::start();
    let mut client = bench.connect("alice").await;
    client.open(OpenSession { mode: 2, ..named(1, "prices.a", "s") }).await;
    // Two of them are more than `max_message_size`, and one alone is not.
    let large = format!("3{}", "x".repeat(3 << 20));
    let first = client.publish(1, 1, &large).await;
    let second = client.publish(1, 2, &large).await;
    assert_eq!(client.reply().await, refused(second, "BACKPRESSURE"));
    assert_eq!(client.reply().await, ok(first));
    let second = client.publish(1, 2, &large).await;
    assert_eq!(client.reply().await, ok(second));
    bench.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_taken_over_goes_on_after_what_its_older_holder_has_begun() {
    let bench = Bench::start();
    let (mut older, mut newer) = (bench.connect("alice").await, bench.connect("alice").await);
    older.open(named(1, "prices.a", "s")).await;
    let begun = Instant::now();
    let (begun_by_it, waits) = (older.publish(1, 1, "3 seconds").await, older.publish(1, 2, "waits").await);
    older.heartbeat().await;
    newer.ask_to_open(named(1, "prices.a", "s")).await;
    assert_eq!(older.closed().await.failure.expect("a reason").reason, "TAKEN_OVER");
    assert_took(begun, 0);
    let opened = newer.opened().await;
    assert_eq!((opened.published_seq, opened.attach), (1, 2));
    assert_took(begun, 3);
    assert_eq!(older.reply().await, ok(begun_by_it));
    assert_eq!(older.reply().await, refused(waits, "UNKNOWN_SESSION"));
    newer.publish(1, 2, "its own").await;
    assert_eq!(newer.payloads(2).await, ["3 seconds", "its own"]);
    assert_eq!(bench.stored("prices.a").await, ["3 seconds", "its own"]);
    bench.leave().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_connection_takes_nothing_back_that_was_begun() {
    let bench = Bench::start();
    let mut client = bench.connect("alice").await;
    client.open(named(1, "prices.a", "s")).await;
    client.publish(1, 1, "3 seconds").await;
    client.publish(1, 2, "waits").await;
    client.heartbeat().await;
    drop(client);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(bench.stored("prices.a").await, ["3 seconds"], "what was not begun is not");
    let opened = bench.connect("alice").await.open(named(1, "prices.a", "s")).await;
    assert_eq!(opened.published_seq, 1);
    bench.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_under_way_when_its_session_ends_goes_with_it() {
    // A session that is nobody's any more at once, and one whose keys have two seconds: less than the publish takes.
    for session_id in ["", "s"] {
        let bench = Bench::start();
        let mut client = bench.connect("alice").await;
        client.open(named(1, "state.e", session_id)).await;
        client.publish_scoped(1, 1, "3 seconds").await;
        client.heartbeat().await;
        drop(client);
        sleep(Duration::from_millis(2900)).await;
        assert_eq!(bench.stored("state.e").await, Vec::<String>::new());
        sleep(Duration::from_secs(2)).await;
        assert_eq!(bench.stored("state.e").await, ["3 seconds", "-"], "{session_id:?}");
        bench.leave().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_under_way_stays_if_its_session_is_resumed() {
    let bench = Bench::start();
    let mut client = bench.connect("alice").await;
    client.open(named(1, "state.e", "s")).await;
    client.publish_scoped(1, 1, "3 seconds").await;
    client.heartbeat().await;
    drop(client);
    // Its keys would have gone by now.
    sleep(Duration::from_millis(2900)).await;
    let mut client = bench.connect("alice").await;
    assert_eq!(client.open(named(1, "state.e", "s")).await.published_seq, 1);
    for _ in 0..3 {
        sleep(Duration::from_millis(1500)).await;
        client.heartbeat().await;
    }
    assert_eq!(bench.stored("state.e").await, ["3 seconds"]);
    bench.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_half_closes_is_answered_first() {
    let bench = Bench::start();
    let mut client = bench.connect("alice").await;
    client.open(open(1, "prices.a")).await;
    let begun = Instant::now();
    let requests =
        [client.publish(1, 1, "3 a").await, client.publish(1, 2, "3 b").await, client.publish(1, 3, "c").await];
    client.half_close();
    for request in requests {
        assert_eq!(client.reply().await, ok(request));
    }
    // Longer than a silent client is borne with: it has said all it had to say.
    assert_took(begun, 6);
    let mut delivered = Vec::new();
    while let Some(frame) = client.frame().await {
        delivered.push(frame);
    }
    assert!(!delivered.is_empty(), "the last of its own comes back too");
    assert_took(begun, 6);
    bench.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_is_closed_behind_its_publishes_and_its_alias_free_for_the_next() {
    let bench = Bench::start();
    let mut client = bench.connect("alice").await;
    client.open(OpenSession { mode: 2, ..named(1, "prices.a", "s") }).await;
    let begun = Instant::now();
    let requests = [
        client.publish(1, 1, "3 a").await,
        client.publish(1, 2, "b").await,
        client.close(1).await,
        client.close(1).await,
        client.publish(1, 3, "c").await,
    ];
    let reopened = client.ask_to_open(OpenSession { mode: 2, ..named(1, "prices.a", "s") }).await;
    assert_eq!(client.reply().await, refused(requests[3], "UNKNOWN_SESSION"), "it was closed before");
    assert_eq!(client.reply().await, ok(requests[0]));
    assert_took(begun, 3);
    assert_eq!(client.reply().await, ok(requests[1]));
    assert_eq!(client.closed().await.failure, None);
    assert_eq!(client.reply().await, ok(requests[2]));
    assert_eq!(client.reply().await, refused(requests[4], "UNKNOWN_SESSION"));
    assert_eq!(client.opened().await.attach, 1, "nothing was kept");
    assert_eq!(client.reply().await, ok(reopened));
    assert_eq!(bench.stored("prices.a").await, ["3 a", "b"]);
    bench.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_not_seen_yet_is_waited_for_and_not_for_ever() {
    let bench = Bench::start();
    let mut client = bench.connect("alice").await;
    client.open(open(1, "prices.a")).await;
    let begun = Instant::now();
    let slow = client.publish(1, 1, "3 seconds").await;
    bench.planned.unseen_for(Duration::from_secs(4));
    client.ask_to_open(open(2, "prices.d")).await;
    assert_eq!(client.reply().await, ok(slow), "answered while another session is being opened");
    assert_took(begun, 3);
    client.opened().await;
    assert_eq!(client.reply().await.1, "OK");
    assert_took(begun, 4);

    bench.planned.unseen_for(Duration::from_secs(60));
    let begun = Instant::now();
    let refusal = client.ask_to_open(open(3, "small.b")).await;
    let failure = client.closed().await.failure.expect("a reason");
    assert_eq!((failure.reason.as_str(), failure.retry_after_ms > 0), ("BROKER", true));
    assert_eq!(client.reply().await, refused(refusal, "BROKER"));
    assert_took(begun, 5);
    let request = ReadHistoryRequest { topic: "prices.a".into(), ..ReadHistoryRequest::default() };
    let status = bench.topics().await.read_history(request).await.expect_err("it is not seen");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "BROKER"));
    bench.leave().await;
}

fn reason(status: &tonic::Status) -> String {
    status.get_error_details().error_info().expect("a reason").reason.clone()
}

#[tokio::test(start_paused = true)]
async fn who_is_in_a_topic_has_joined_once_the_broker_says_so() {
    let bench = Bench::start();
    let present = |session, id, info: &str| {
        let presence = Some(Presence { info: info.to_owned().into() });
        OpenSession { presence, ..named(session, "prices.a", id) }
    };
    let mut client = bench.connect("alice").await;
    let begun = Instant::now();
    client.open(present(1, "one", "3 seconds")).await;
    assert_took(begun, 3);
    for (session, info, why) in [(2, "fails", "BROKER"), (3, "lost", "UNKNOWN_OUTCOME")] {
        client.ask_to_open(present(session, info, info)).await;
        assert_eq!(client.closed().await.failure.expect("a reason").reason, why);
        assert_eq!(client.reply().await.1, why);
    }
    let request = GetPresenceRequest { topic: "prices.a".into(), ..GetPresenceRequest::default() };
    let members = bench.topics().await.get_presence(request).await.expect("it is known").into_inner().members;
    let names: Vec<_> = members.iter().map(|member| member.session_id.as_str()).collect();
    assert_eq!(names, ["one"]);
    bench.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_is_answered_when_its_event_is_stored_and_a_batch_keeps_its_order() {
    let bench = Bench::start();
    let mut topics = bench.topics().await;
    let event = |payload: &str| NewEvent { payload: payload.to_owned().into(), ..NewEvent::default() };
    let begun = Instant::now();
    let request = PublishRequest { topic: "prices.a".into(), event: Some(event("3 seconds")) };
    topics.publish(request).await.expect("it is stored");
    assert_took(begun, 3);
    let events = ["3 a", "b", "fails", "c"].map(event).to_vec();
    let request = PublishBatchRequest { topic: "prices.a".into(), events };
    let answer = topics.publish_batch(request).await.expect("an answer").into_inner();
    assert_eq!((answer.stored.len(), answer.failure.expect("a reason").reason.as_str()), (2, "BROKER"));
    assert_eq!(bench.stored("prices.a").await, ["3 seconds", "3 a", "b"]);
    bench.leave().await;
}
