//! What only this engine can do, and what can only go wrong here; the rest is in the conformance suite.

mod fences;

use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::*;
use crate::{
    broker::{Broker, Line, tests::served::NatsServer},
    lifecycle::{Lifecycle, Phase},
    log::Position,
    types::{ClientId, Cursor, Dedupe, NewEvent, Operation, Producer, Published, Seq, SessionId, Timestamp},
};

const LIMITS: Limits = Limits {
    max_events: 1000,
    max_bytes: 1 << 20,
    max_age: Duration::ZERO,
    dedupe_window: Duration::from_secs(60),
    dedupe_depth: 16,
    max_keys: 0,
    max_lag: 0,
};
const KEYED: Limits = Limits { max_keys: 100, ..LIMITS };
/// Longer than anything here takes; reaching it is a failure.
const LIMIT: Duration = Duration::from_secs(40);

/// Engines whose servers are behind, by their addresses.
static BEHIND: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Whether the servers that are asked by this engine have none of the records it asks for.
pub(super) fn are_behind(engine: &Engine) -> bool {
    BEHIND.lock().contains(&std::ptr::from_ref(engine).addr())
}

/// A replica's engine; it ends with its owner.
pub(crate) struct Replica {
    pub(crate) broker: Broker,
    lifecycle: Lifecycle,
}

impl Replica {
    pub(crate) async fn start(server: &NatsServer, change: impl FnOnce(&mut config::Nats)) -> Result<Self, Unusable> {
        Self::start_for(server, Durability::Accepted, change).await
    }

    /// One that has topics of that durability.
    pub(crate) async fn start_for(
        server: &NatsServer,
        most: Durability,
        change: impl FnOnce(&mut config::Nats),
    ) -> Result<Self, Unusable> {
        let synced = most == Durability::Synced;
        let mut config = config::Nats {
            servers: vec![server.url()],
            partitions: 2,
            replicas: 1,
            check_interval: Duration::from_millis(200),
            synced: if synced { asked_of(server) } else { config::Synced::default() },
            ..config::Nats::default()
        };
        change(&mut config);
        let lifecycle = Lifecycle::default();
        let metrics = Arc::default();
        let dedupe_window = LIMITS.dedupe_window;
        let bounds = Bounds { dedupe_window, synced, max_topics: 3, total: Total::default(), metrics };
        let nats = Nats::start(config, bounds, "test", lifecycle.tasks()).await?;
        Ok(Self { broker: Broker::Nats(nats), lifecycle })
    }

    async fn open(&self, topic: &str, limits: Limits) -> Line {
        let line = self.broker.open(&Topic::parse(topic).unwrap(), limits, Durability::Accepted).unwrap();
        line.seen().await.unwrap();
        line
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.lifecycle.advance(Phase::Stopped);
    }
}

/// Who asks it whether it confirms after the disk.
fn asked_of(server: &NatsServer) -> config::Synced {
    let (user, password_file) = server.system_user();
    config::Synced { tag: "disk".to_owned(), user, password_file, ..config::Synced::default() }
}

async fn replica(server: &NatsServer) -> Replica {
    Replica::start(server, |_| {}).await.unwrap()
}

/// One that finds nothing by looking.
async fn trusting(server: &NatsServer) -> Replica {
    Replica::start(server, |config| config.check_interval = Duration::from_secs(600)).await.unwrap()
}

async fn publish(line: &Line, payload: &str) -> Published {
    line.publish(event(payload)).outcome().await.unwrap()
}

fn event(payload: &str) -> NewEvent {
    NewEvent { payload: payload.to_owned().into(), ..NewEvent::default() }
}

fn producer(session: &str) -> Producer {
    Producer::new(ClientId::parse("c").unwrap(), SessionId::parse(session).unwrap())
}

fn numbered(number: u64) -> NewEvent {
    let seq = Some(Seq { producer: producer("s"), number, through: number - 1 });
    NewEvent { dedupe: Dedupe { id: None, seq }, ..event("numbered") }
}

/// What a replica has of a topic: offsets and bytes.
fn content(line: &Line) -> Vec<(u64, bytes::Bytes)> {
    line.log().read().after(0).map(|record| (record.offset, record.encoded.clone())).collect()
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "it never came to be that {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A client that is not ours.
async fn outsider(server: &NatsServer) -> async_nats::Client {
    async_nats::connect(server.url()).await.unwrap()
}

async fn call(client: &async_nats::Client, what: &str, content: &Value) -> Value {
    let answer = client.request(format!("$JS.API.{what}"), content.to_string().into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert!(answer.get("error").is_none(), "{what}: {answer}");
    answer
}

/// What is published meanwhile is kept, and nobody hears of it.
async fn unheard<T>(client: &async_nats::Client, topic: &str, publish: impl Future<Output = T>) -> T {
    let stream = Names::new("bowline", 2).stream(Names::new("bowline", 2).partition(topic));
    let config = call(client, &format!("STREAM.INFO.{stream}"), &json!({})).await["config"].clone();
    let mut deaf = config.clone();
    deaf.as_object_mut().unwrap().remove("republish");
    call(client, &format!("STREAM.UPDATE.{stream}"), &deaf).await;
    let outcome = publish.await;
    call(client, &format!("STREAM.UPDATE.{stream}"), &config).await;
    outcome
}

/// Publishes as another replica would.
async fn publish_unseen(client: &async_nats::Client, topic: &str, payload: &str) -> u64 {
    send(client, topic, &event(payload)).await
}

async fn send(client: &async_nats::Client, topic: &str, event: &NewEvent) -> u64 {
    let names = Names::new("bowline", 2);
    let headers = message::headers(event, &names::MessageId::of(topic, event));
    let subject = names.log(names.partition(topic), topic);
    let content = crate::proto::encode_content(event);
    let answer = client.request_with_headers(subject, headers, content).await.unwrap();
    serde_json::from_slice::<Value>(&answer.payload).unwrap()["seq"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_lacks_that_is_behind_is_had_from_the_leader() {
    let Some(server) = NatsServer::start().await else { return };
    let (one, two) = (replica(&server).await, replica(&server).await);
    let here = one.open("a", LIMITS).await;
    for number in 1..=3 {
        here.publish(numbered(number)).outcome().await.unwrap();
    }
    let Broker::Nats(nats) = &two.broker else { unreachable!("it is one") };
    BEHIND.lock().push(Arc::as_ptr(&nats.engine).addr());
    let there = two.open("a", LIMITS).await;
    assert_eq!(content(&there), content(&here), "what was there before");
    assert_eq!(there.log().read().head(), here.log().read().head());
    assert_eq!(there.log().read().published_seq(&producer("s")), 3, "and whose it was");
    for number in 4..=6 {
        here.publish(numbered(number)).outcome().await.unwrap();
    }
    eventually("what comes later is here", || content(&there) == content(&here)).await;
    BEHIND.lock().retain(|engine| *engine != Arc::as_ptr(&nats.engine).addr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_replica_sees_every_event_in_one_order() {
    let Some(server) = NatsServer::start().await else { return };
    let (one, two) = (replica(&server).await, replica(&server).await);
    let (here, there) = (one.open("a", LIMITS).await, two.open("a", LIMITS).await);
    // Another topic of the same stream, and of the other one.
    let (other, third) = (one.open("b", LIMITS).await, one.open("c", LIMITS).await);
    for n in 0..50 {
        let (first, second) = (format!("one {n}"), format!("two {n}"));
        tokio::join!(publish(&here, &first), publish(&there, &second), publish(&other, "x"), publish(&third, "x"));
    }
    eventually("both have all", || content(&here).len() == 100 && content(&there).len() == 100).await;
    assert_eq!(content(&here), content(&there));
    let late = replica(&server).await;
    let line = late.open("a", LIMITS).await;
    assert_eq!(content(&line), content(&here), "whoever comes late sees the same");
    let (mine, theirs) = (line.log().read().head(), here.log().read().head());
    assert_eq!(mine, theirs, "place, time and epoch");
    let few = Limits { max_events: 10, ..LIMITS };
    let small = replica(&server).await;
    let line = small.open("a", few).await;
    assert_eq!(content(&line), content(&here)[90..], "no more than the rule says");
    assert_eq!(line.log().read().floor().offset, content(&here)[89].0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_is_filled_before_what_comes_after_it() {
    let Some(server) = NatsServer::start().await else { return };
    let (replica, client) = (trusting(&server).await, outsider(&server).await);
    let line = replica.open("a", LIMITS).await;
    publish(&line, "first").await;
    unheard(&client, "a", async {
        for n in 0..3 {
            publish_unseen(&client, "a", &format!("unheard {n}")).await;
        }
    })
    .await;
    assert_eq!(content(&line).len(), 1, "nobody has heard of them");
    publish_unseen(&client, "a", "heard").await;
    eventually("all are there", || content(&line).len() == 5).await;
    assert!(content(&line).is_sorted_by_key(|(offset, _)| *offset));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_event_is_found_if_nobody_heard_of_it() {
    let Some(server) = NatsServer::start().await else { return };
    let (replica, client) = (replica(&server).await, outsider(&server).await);
    let (line, empty) = (replica.open("a", LIMITS).await, replica.open("b", LIMITS).await);
    publish(&line, "first").await;
    for topic in ["a", "b"] {
        unheard(&client, topic, publish_unseen(&client, topic, "unheard")).await;
    }
    eventually("it is there", || content(&line).len() == 2 && content(&empty).len() == 1).await;
    assert_eq!(line.log().read().floor().offset, 0, "and nothing is said to be lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_is_answered_also_if_its_event_does_not_come_back() {
    let Some(server) = NatsServer::start().await else { return };
    let (replica, client) = (trusting(&server).await, outsider(&server).await);
    let line = replica.open("a", LIMITS).await;
    let published = unheard(&client, "a", publish(&line, "unheard")).await;
    assert_eq!(line.log().read().head(), published.cursor, "it was fetched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_that_is_ahead_is_waited_for_and_one_that_leads_nowhere_is_not() {
    let Some(server) = NatsServer::start().await else { return };
    let (replica, client) = (trusting(&server).await, outsider(&server).await);
    let line = replica.open("a", LIMITS).await;
    let first = publish(&line, "first").await.cursor;
    let place = unheard(&client, "a", publish_unseen(&client, "a", "shown elsewhere")).await;
    let cursor = |offset| Cursor { offset, time: Timestamp(0), ..first };
    assert_eq!(line.log().read().position(cursor(place)), Position::Diverged, "nobody has heard of it");
    line.reaches(cursor(place)).await.unwrap();
    assert_eq!((line.log().read().position(cursor(place)), content(&line).len()), (Position::Kept, 2));
    line.reaches(cursor(place + 100)).await.unwrap();
    assert_eq!(line.log().read().position(cursor(place + 100)), Position::Diverged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_far_a_session_has_published_elsewhere_is_known_once_what_is_stored_is_here() {
    let Some(server) = NatsServer::start().await else { return };
    let (two, client) = (trusting(&server).await, outsider(&server).await);
    let there = two.open("a", LIMITS).await;
    send(&client, "a", &numbered(1)).await;
    eventually("the first is heard", || there.log().read().published_seq(&producer("s")) == 1).await;
    unheard(&client, "a", send(&client, "a", &numbered(2))).await;
    assert_eq!(there.log().read().published_seq(&producer("s")), 1, "nobody has heard of the second");
    there.current().await.unwrap();
    assert_eq!(there.log().read().published_seq(&producer("s")), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_of_an_epoch_that_is_not_known_here_yet_leads_to_it() {
    let Some(server) = NatsServer::start().await else { return };
    let (one, two, client) = (replica(&server).await, trusting(&server).await, outsider(&server).await);
    let (here, there) = (one.open("a", LIMITS).await, two.open("a", LIMITS).await);
    let before = publish(&here, "before").await.cursor;
    let stream = Names::new("bowline", 2).stream(Names::new("bowline", 2).partition("a"));
    call(&client, &format!("STREAM.DELETE.{stream}"), &json!({})).await;
    eventually("it has changed", || here.log().read().head().epoch != before.epoch).await;
    here.seen().await.unwrap();
    let after = publish(&here, "after").await.cursor;
    there.reaches(after).await.unwrap();
    assert_eq!((there.log().read().head(), content(&there).len()), (after, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_fails_at_once_when_nobody_was_reached_for_as_long_as_one_is_tried() {
    let Some(mut server) = NatsServer::start().await else { return };
    let replica = Replica::start(&server, |config| config.publish_timeout = Duration::from_secs(1)).await.unwrap();
    let line = replica.open("a", LIMITS).await;
    server.kill();
    line.publish(event("x")).outcome().await.unwrap_err();
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    let failure = line.publish(event("x")).outcome().await.unwrap_err();
    assert_eq!(failure.reason, Reason::Broker, "nothing was done");
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    server.run().await;
    let begun = Instant::now();
    while line.publish(event("x")).outcome().await.is_err() {
        assert!(begun.elapsed() < LIMIT, "it never goes on");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_replica_has_stored_is_a_repeat_here() {
    let Some(server) = NatsServer::start().await else { return };
    let (one, two) = (replica(&server).await, replica(&server).await);
    let here = one.open("a", LIMITS).await;
    let mut cursors = Vec::new();
    for number in 1..=3 {
        cursors.push(here.publish(numbered(number)).outcome().await.unwrap().cursor);
    }
    let there = two.open("a", LIMITS).await;
    assert_eq!(there.log().read().published_seq(&producer("s")), 3);
    let again = there.publish(numbered(3)).outcome().await.unwrap();
    assert_eq!((again.cursor, again.duplicate), (cursors[2], true));
    let next = there.publish(numbered(4)).outcome().await.unwrap();
    assert!(!next.duplicate && next.cursor.offset > cursors[2].offset);
    let seq = Some(Seq { producer: producer("s"), number: 9, through: 4 });
    let hole = NewEvent { dedupe: Dedupe { id: None, seq }, ..event("x") };
    let failure = there.publish(hole).outcome().await.unwrap_err();
    assert_eq!(failure.reason, Reason::WrongSeq);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_goes_on_when_the_server_is_back_and_the_epoch_stays() {
    let Some(mut server) = NatsServer::start().await else { return };
    let (one, two) = (replica(&server).await, replica(&server).await);
    let (here, there) = (one.open("a", LIMITS).await, two.open("a", LIMITS).await);
    let before = publish(&here, "before").await;
    server.kill();
    let waiting = here.publish(numbered(1));
    sleep(Duration::from_millis(500)).await;
    server.run().await;
    let during = waiting.outcome().await.unwrap();
    assert_eq!((during.cursor.epoch, during.duplicate), (before.cursor.epoch, false));
    let again = there.publish(numbered(1)).outcome().await.unwrap();
    assert_eq!((again.cursor.offset, again.duplicate), (during.cursor.offset, true));
    eventually("the other replica has it", || content(&there).len() == 2).await;
    assert_eq!(content(&here), content(&there));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_that_nobody_confirms_fails_in_time() {
    let Some(mut server) = NatsServer::start().await else { return };
    let replica = Replica::start(&server, |config| config.publish_timeout = Duration::from_secs(1)).await.unwrap();
    let line = replica.open("a", LIMITS).await;
    server.kill();
    let failure = line.publish(numbered(1)).outcome().await.unwrap_err();
    assert!(matches!(failure.reason, Reason::UnknownOutcome | Reason::Broker), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_lost_is_another_log() {
    let Some(mut server) = NatsServer::start().await else { return };
    let replica = replica(&server).await;
    let line = replica.open("a", LIMITS).await;
    let before = publish(&line, "before").await;
    server.kill();
    server.lose();
    server.run().await;
    eventually("the epoch has changed", || line.log().read().head().epoch != before.cursor.epoch).await;
    line.seen().await.unwrap();
    assert_eq!(content(&line).len(), 0);
    let after = publish(&line, "after").await;
    assert_eq!(after.cursor.epoch, line.log().read().head().epoch);
    assert_eq!(content(&line).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_cut_short_is_another_log_that_holds_what_is_left() {
    let Some(mut server) = NatsServer::start().await else { return };
    let (one, two) = (replica(&server).await, replica(&server).await);
    let (here, there) = (one.open("a", LIMITS).await, two.open("a", LIMITS).await);
    let mut last = publish(&here, "0").await.cursor;
    for n in 1..100 {
        last = publish(&here, &n.to_string()).await.cursor;
    }
    eventually("both have all", || content(&there).len() == 100).await;
    let before = content(&here);
    server.kill();
    assert_eq!(server.cut_short("bowline-L", 2000), 2, "each partition has a file");
    server.run().await;
    eventually("the epoch has changed", || here.log().read().head().epoch != last.epoch).await;
    eventually("for both", || there.log().read().head().epoch == here.log().read().head().epoch).await;
    here.seen().await.unwrap();
    there.seen().await.unwrap();
    let left = content(&here);
    assert!((1..100).contains(&left.len()) && left[..] == before[..left.len()], "{} are left", left.len());
    assert_eq!(content(&there), left);
    let after = publish(&there, "after").await.cursor;
    eventually("it goes on", || here.log().read().head() == after).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_made_anew_is_another_log_for_all() {
    let Some(server) = NatsServer::start().await else { return };
    let (one, two, client) = (replica(&server).await, replica(&server).await, outsider(&server).await);
    let (here, there) = (one.open("a", LIMITS).await, two.open("a", LIMITS).await);
    let before = publish(&here, "before").await;
    let stream = Names::new("bowline", 2).stream(Names::new("bowline", 2).partition("a"));
    call(&client, &format!("STREAM.DELETE.{stream}"), &json!({})).await;
    let epoch = |line: &Line| line.log().read().head().epoch;
    let (old, changed) = (before.cursor.epoch, |line: &Line| epoch(line) != before.cursor.epoch);
    eventually("both have another epoch", || changed(&here) && changed(&there)).await;
    eventually("the same one", || epoch(&here) == epoch(&there)).await;
    there.seen().await.unwrap();
    assert_ne!(publish(&there, "after").await.cursor.epoch, old);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_cut_short_and_written_on_is_another_log() {
    let Some(server) = NatsServer::start().await else { return };
    let (replica, client) = (trusting(&server).await, outsider(&server).await);
    let line = replica.open("a", LIMITS).await;
    let mut last = publish(&line, "1").await;
    for n in 2..6 {
        last = publish(&line, &n.to_string()).await;
    }
    // As if another record had been stored in the place of the last one: it names the one that was before it.
    let names = Names::new("bowline", 2);
    let partition = names.partition("a");
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Sequence", (last.cursor.offset + 1).to_string());
    headers.insert("Nats-Time-Stamp", "2030-01-01T00:00:00Z");
    headers.insert("Nats-Last-Sequence", (last.cursor.offset - 1).to_string());
    let content = crate::proto::encode_content(&event("other"));
    client.publish_with_headers(names.live(partition, "a"), headers, content).await.unwrap();
    eventually("the epoch has changed", || line.log().read().head().epoch != last.cursor.epoch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_set_otherwise_stops_the_start_with_a_sentence() {
    let Some(server) = NatsServer::start().await else { return };
    drop(replica(&server).await);
    let refused = Replica::start(&server, |config| config.max_age = Duration::from_secs(7200)).await;
    let sentence = refused.err().unwrap().to_string();
    assert!(sentence.contains("bowline-L0") && sentence.contains("max_age") && sentence.contains("7200"), "{sentence}");
    let refused = Replica::start(&server, |config| config.partitions = 4).await;
    assert!(refused.err().unwrap().to_string().contains("metadata"));
    let refused = Replica::start(&server, |config| config.replicas = 3).await;
    assert!(refused.err().unwrap().to_string().contains("num_replicas"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_is_met_or_the_real_place_is_told() {
    let Some(server) = NatsServer::start().await else { return };
    let replica = replica(&server).await;
    publish(&replica.open("b", LIMITS).await, "so that offsets are not those of the topic").await;
    publish(&replica.open("c", LIMITS).await, "the same").await;
    let line = replica.open("a", LIMITS).await;
    let conditional = |if_last| NewEvent { if_last: Some(if_last), ..event("x") };
    let head = line.log().read().head().offset;
    let first = line.publish(conditional(head)).outcome().await.unwrap();
    let refused = line.publish(conditional(head)).outcome().await.unwrap_err();
    let actual = first.cursor.offset.to_string();
    assert_eq!((refused.reason, &refused.metadata[..]), (Reason::WrongLast, &[("actual", actual)][..]));
    let named =
        |id: &str| NewEvent { dedupe: Dedupe { id: Some(id.into()), seq: None }, ..conditional(first.cursor.offset) };
    let second = line.publish(named("x")).outcome().await.unwrap();
    let again = line.publish(named("x")).outcome().await.unwrap();
    assert_eq!((again.cursor, again.duplicate), (second.cursor, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_die_with_their_session_on_every_replica_unless_they_are_set_again() {
    let Some(server) = NatsServer::start().await else { return };
    let (one, two) = (replica(&server).await, replica(&server).await);
    let (here, there) = (one.open("a", KEYED).await, two.open("a", KEYED).await);
    let put = async |line: &Line, key: &str, session: &str| {
        let scoped = NewEvent { key: key.to_owned().into(), scope: Some(producer(session)), ..event("x") };
        line.publish(scoped).outcome().await.unwrap()
    };
    put(&here, "mine", "s").await;
    put(&here, "theirs", "s").await;
    let last = put(&there, "theirs", "t").await;
    eventually("it is known here", || here.log().read().last() == last.cursor.offset).await;
    here.remove_owned(&producer("s"), None);
    let names = |line: &Line| -> Vec<bytes::Bytes> {
        line.log().read().keys().unwrap().list(b"", 10).into_iter().map(|(key, ..)| key.clone()).collect()
    };
    eventually("one is left on both", || [&here, &there].iter().all(|line| names(line) == ["theirs"])).await;
    let delete = NewEvent { key: "theirs".into(), operation: Operation::Delete, ..NewEvent::default() };
    there.publish(delete).outcome().await.unwrap();
    eventually("none is left", || names(&here).is_empty() && names(&there).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_stored_after_the_end_of_its_session_is_removed() {
    let Some(server) = NatsServer::start().await else { return };
    let replica = Replica::start(&server, |config| config.publish_timeout = Duration::from_secs(1)).await.unwrap();
    let line = replica.open("a", KEYED).await;
    server.signal("-STOP");
    let put = NewEvent { key: "mine".into(), scope: Some(producer("s")), ..event("x") };
    let failure = line.publish(put).outcome().await.unwrap_err();
    assert_eq!(failure.reason, Reason::UnknownOutcome);
    line.remove_owned(&producer("s"), None);
    server.signal("-CONT");
    eventually("it was set", || line.log().read().head().offset > 0).await;
    eventually("it is removed", || line.log().read().keys().map(crate::log::Keys::len) == Some(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_kept_on_the_servers_for_those_who_read() {
    let Some(server) = NatsServer::start().await else { return };
    let (replica, client) = (replica(&server).await, outsider(&server).await);
    for topic in ["a", "b", "c"] {
        publish(&replica.open(topic, LIMITS).await, "x").await;
    }
    let account = call(&client, "INFO", &json!({})).await;
    assert_eq!(account["consumers"], 0, "{account}");
    assert_eq!(account["streams"], 4, "two partitions and two buckets");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_whose_events_are_on_disk_first_have_streams_of_their_own() {
    let Some(mut server) = NatsServer::start_syncing().await else { return };
    let replica = Replica::start_for(&server, Durability::Synced, |_| {}).await.unwrap();
    let open = async |topic: &str, least| {
        let line = replica.broker.open(&Topic::parse(topic).unwrap(), LIMITS, least).unwrap();
        line.seen().await.unwrap();
        line
    };
    let (synced, other) = (open("a", Durability::Synced).await, open("b", Durability::Accepted).await);
    let stored = publish(&synced, "x").await;
    assert_eq!((stored.durability, publish(&other, "x").await.durability), (Durability::Synced, Durability::Accepted));
    server.kill();
    server.run().await;
    let again = publish(&synced, "y").await;
    assert_eq!(again.cursor.epoch, stored.cursor.epoch, "nothing was lost");
    assert_eq!(content(&synced).len(), 2);

    let client = outsider(&server).await;
    let names = Names::new("bowline", 2);
    let stream = names.stream(names.synced("a"));
    let info = call(&client, &format!("STREAM.INFO.{stream}"), &json!({})).await;
    assert_eq!((&info["state"]["messages"], &info["config"]["placement"]["tags"]), (&json!(2), &json!(["disk"])));
    let moved = Replica::start_for(&server, Durability::Synced, |config| config.synced.tag = "other".into()).await;
    let sentence = moved.err().unwrap().to_string();
    assert!(
        sentence.contains("bowline-S0") && sentence.contains("placement") && sentence.contains("other"),
        "{sentence}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_nobody_needs_goes_out_of_sight_and_comes_back_whole() {
    let Some(server) = NatsServer::start().await else { return };
    let replica = replica(&server).await;
    let Broker::Nats(nats) = &replica.broker else { panic!("another engine") };
    let (line, topic) = (replica.open("a", LIMITS).await, Topic::parse("a").unwrap());
    publish(&line, "x").await;
    let (before, head) = (content(&line), line.log().read().head());
    let age = || *nats.find(&topic).unwrap().needed.lock() = Instant::now().checked_sub(KEPT).unwrap();
    age();
    assert!(replica.broker.sweep().is_empty(), "somebody holds a line to it");
    drop(line);
    eventually("nobody else holds it", || {
        age();
        replica.broker.sweep() == [topic.clone()]
    })
    .await;
    assert!(replica.broker.find(&topic).is_none());
    let line = replica.open("a", LIMITS).await;
    assert_eq!((content(&line), line.log().read().head()), (before, head));
}
