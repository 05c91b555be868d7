//! A back end that knows only NATS and clients that know only gRPC, with two replicas and a bridge between them. What is
//! said of NATS here is said by its own client library.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Subscriber};
use bowline::proto::v1::{NewEvent, PublishRequest, ReadHistoryRequest};
use futures_util::StreamExt as _;
use tokio::time::sleep;

use crate::{
    nats::NatsServer,
    replicas::{connect, replica_with},
    support::{TestServer, changes, event, eventually, named, payloads, publish, put, scoped, with, within},
};

const BRIDGES: &str = r#"[
    { topics = "orders.>", subject = "acme.orders.>", direction = "both" },
    { topics = "prices.*", subject = "market.*.price", direction = "in" },
    { topics = "state.>", subject = "acme.state.>", direction = "both" },
    { topics = "said.*", subject = "acme.said.*", direction = "out" },
]"#;

async fn replica(nats: &NatsServer) -> TestServer {
    replica_with(nats, &[("broker.nats.bridges", BRIDGES)]).await
}

/// A program that is not ours.
async fn back_end(nats: &NatsServer) -> Client {
    async_nats::connect(nats.url()).await.unwrap()
}

async fn hear(client: &Client, subject: &'static str) -> Subscriber {
    let heard = client.subscribe(subject).await.unwrap();
    client.flush().await.unwrap();
    heard
}

/// The next messages: subject and payload.
async fn next(heard: &mut Subscriber, count: usize) -> Vec<(String, String)> {
    let messages = heard.take(count).map(|message| {
        let payload = String::from_utf8(message.payload.to_vec()).unwrap();
        (message.subject.to_string(), payload)
    });
    within("messages", messages.collect()).await
}

/// How many messages the replicas have counted so, all together.
fn counted(servers: &[&TestServer], direction: &str, outcome: &str) -> f64 {
    let name = format!("bowline_bridge_messages_{direction}_total{{outcome=\"{outcome}\"}}");
    servers.iter().map(|server| server.sample(&name)).sum()
}

async fn history(server: &TestServer, topic: &str) -> Vec<String> {
    let request = ReadHistoryRequest { topic: topic.to_owned(), ..ReadHistoryRequest::default() };
    payloads(&server.topics().await.read_history(request).await.unwrap().into_inner().events)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_only_nats_and_who_knows_only_grpc_talk_and_nothing_is_doubled() {
    let Some(nats) = NatsServer::start().await else { return };
    let (one, two, back_end) = (replica(&nats).await, replica(&nats).await, back_end(&nats).await);
    let mut heard = hear(&back_end, "acme.orders.>").await;
    let (mut alice, mut bob) = (connect(&one, "alice").await, connect(&two, "bob").await);
    let (mut here, mut there) = (connect(&one, "here").await, connect(&two, "there").await);
    for client in [&mut alice, &mut bob, &mut here, &mut there] {
        client.open(named(1, "orders.eu.1", "desk")).await;
    }

    let all: Vec<String> = (0..40).map(|n| format!("from nats {n:02}")).collect();
    for text in &all {
        back_end.publish("acme.orders.eu.1", text.clone().into()).await.unwrap();
    }
    for client in [&mut here, &mut there] {
        let mut got = payloads(&client.events(1, all.len()).await);
        got.sort_unstable();
        assert_eq!(got, all);
    }
    let both = [&one, &two];
    for replica in both {
        assert!(counted(&[replica], "received", "stored") > 0.0, "each replica takes its part");
    }
    // What it hears now is what it said itself.
    assert_eq!(next(&mut heard, all.len()).await.len(), all.len());

    // At each replica, and without a session.
    alice.publish(publish(1, 1, "from alice")).await;
    bob.publish(publish(1, 1, "from bob")).await;
    one.store("orders.eu.1", &["from a service"]).await;
    for client in [&mut here, &mut there] {
        assert_eq!(payloads(&client.events(1, 3).await), ["from alice", "from bob", "from a service"]);
    }
    let mut got = next(&mut heard, 3).await;
    got.sort_unstable();
    let subject = || "acme.orders.eu.1".to_owned();
    assert_eq!(got, ["from a service", "from alice", "from bob"].map(|text| (subject(), text.to_owned())));

    // A message of ours comes back to us on its subject, and is not taken in. Whatever comes next shows that nothing else was.
    eventually("replicas have seen their own", || counted(&both, "received", "own") >= 3.0).await;
    back_end.publish("acme.orders.eu.1", "last".into()).await.unwrap();
    for client in [&mut here, &mut there] {
        assert_eq!(payloads(&client.events(1, 1).await), ["last"]);
    }
    assert_eq!(next(&mut heard, 1).await, [(subject(), "last".to_owned())]);
    for (direction, outcome, count) in [("received", "own", 3.0), ("received", "stored", 41.0), ("sent", "sent", 3.0)] {
        assert_eq!(counted(&both, direction, outcome), count, "{direction} {outcome}");
    }
    for server in [one, two] {
        server.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_a_client_published_says_whose_it_is() {
    let Some(nats) = NatsServer::start().await else { return };
    let (server, back_end) = (replica(&nats).await, back_end(&nats).await);
    let mut heard = hear(&back_end, "acme.said.*").await;
    let mut alice = connect(&server, "alice").await;
    alice.open(named(1, "said.hello", "desk")).await;
    let own = [("colour", "red"), ("Bowline-Client", "mallory"), ("nats-rollup", "all")];
    let headers = own.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let cursor = alice.publish(with(1, 1, NewEvent { headers, ..event("hello") })).await.cursor.unwrap();
    let message = within("a message", heard.next()).await.unwrap();
    let headers = message.headers.unwrap();
    let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    let place = format!("{:016x}:{}", cursor.epoch, cursor.offset);
    for (name, value) in [
        ("Bowline-Client", "alice"),
        ("Bowline-Session", "desk"),
        ("Bowline-Topic", "said.hello"),
        ("Bowline-Cursor", &place),
        ("colour", "red"),
    ] {
        assert_eq!(header(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(header("nats-rollup"), None, "nobody speaks to the servers for us");
    assert!(alice.publish(with(1, 1, event("hello"))).await.duplicate);
    alice.publish(publish(1, 2, "next")).await;
    let next = next(&mut heard, 1).await;
    assert_eq!(next, [("acme.said.hello".to_owned(), "next".to_owned())], "a repeat is no second message");

    // This bridge leads out only, and another one in only.
    back_end.publish("acme.said.hello", "from outside".into()).await.unwrap();
    back_end.publish("market.gold.price", "100".into()).await.unwrap();
    eventually("what leads in was taken", || counted(&[&server], "received", "stored") == 1.0).await;
    assert_eq!(history(&server, "said.hello").await, ["hello", "next"]);
    assert_eq!(history(&server, "prices.gold").await, ["100"]);
    server.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_under_an_id_is_one_event_however_often_it_is_sent() {
    let Some(nats) = NatsServer::start().await else { return };
    let (one, two, back_end) = (replica(&nats).await, replica(&nats).await, back_end(&nats).await);
    let mut bob = connect(&two, "bob").await;
    bob.open(named(1, "orders.a", "desk")).await;
    let send = async |id: &str, text: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        back_end.publish_with_headers("acme.orders.a", headers, text.into()).await.unwrap();
    };
    for _ in 0..10 {
        send("1", "first").await;
    }
    let both = [&one, &two];
    eventually("nine are repeats", || counted(&both, "received", "repeat") == 9.0).await;
    send("2", "second").await;
    assert_eq!(payloads(&bob.events(1, 2).await), ["first", "second"]);
    eventually("two are events", || counted(&both, "received", "stored") == 2.0).await;
    for server in [one, two] {
        server.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_topic_cannot_take_is_dropped_and_counted() {
    let Some(nats) = NatsServer::start().await else { return };
    let rules = r#"[{ pattern = "orders.eu" }]"#;
    let own = [("broker.nats.bridges", BRIDGES), ("topics.rules", rules), ("connection.max_message_size", "64KiB")];
    let (server, back_end) = (replica_with(&nats, &own).await, back_end(&nats).await);
    back_end.publish("acme.orders.us", "no rule is for it".into()).await.unwrap();
    back_end.publish("acme.orders.a/b", "no topic has a slash".into()).await.unwrap();
    back_end.publish("acme.orders.eu", vec![0; 100_000].into()).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("Bowline-Operation", "rename");
    back_end.publish_with_headers("acme.orders.eu", headers, "no such operation".into()).await.unwrap();
    back_end.publish("acme.orders.eu", "good".into()).await.unwrap();
    let read = |outcome| counted(&[&server], "received", outcome);
    eventually("all were taken", || (read("refused"), read("unfit"), read("stored")) == (1.0, 3.0, 1.0)).await;
    assert_eq!(history(&server, "orders.eu").await, ["good"]);
    server.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_cross_a_bridge_and_so_does_the_end_of_their_session() {
    let Some(nats) = NatsServer::start().await else { return };
    let own = [("broker.nats.bridges", BRIDGES), ("session.key_grace", "100ms")];
    let (server, back_end) = (replica_with(&nats, &own).await, back_end(&nats).await);
    let mut heard = hear(&back_end, "acme.state.>").await;
    let (mut alice, mut bob) = (connect(&server, "alice").await, connect(&server, "bob").await);
    alice.open(named(1, "state.desks", "desk")).await;
    alice.publish(with(1, 1, put("a", "free"))).await;
    alice.publish(with(1, 2, scoped("b", "taken"))).await;
    let mut seen = async || {
        let headers = within("a message", heard.next()).await.unwrap().headers.unwrap();
        let header = |name: &str| headers.get(name).map_or_else(String::new, |value| value.as_str().to_owned());
        (header("Bowline-Key"), header("Bowline-Operation"), header("Bowline-Client"))
    };
    let words = |key: &str, operation: &str| (key.to_owned(), operation.to_owned(), "alice".to_owned());
    assert_eq!((seen().await, seen().await), (words("a", ""), words("b", "")));
    bob.open(named(1, "state.desks", "desk")).await;
    alice.sever();
    assert_eq!(seen().await, words("b", "delete"));
    let mut headers = HeaderMap::new();
    headers.insert("Bowline-Key", "a");
    headers.insert("Bowline-Operation", "delete");
    back_end.publish_with_headers("acme.state.desks", headers, "".into()).await.unwrap();
    assert_eq!(changes(&bob.events(1, 2).await), ["-b", "-a"]);
    server.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_leaves_loses_nothing_of_what_it_has_heard() {
    let Some(nats) = NatsServer::start().await else { return };
    let (one, two, back_end) = (replica(&nats).await, replica(&nats).await, back_end(&nats).await);
    let mut bob = connect(&two, "bob").await;
    bob.open(named(1, "orders.a", "desk")).await;
    let sending = async {
        for n in 0..300 {
            back_end.publish("acme.orders.a", n.to_string().into()).await.unwrap();
            back_end.flush().await.unwrap();
            sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::join!(sending, one.leave_politely());
    let mut got: Vec<u32> = payloads(&bob.events(1, 300).await).iter().map(|text| text.parse().unwrap()).collect();
    got.sort_unstable();
    assert_eq!(got, (0..300).collect::<Vec<_>>());
    two.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_goes_on_when_its_broker_is_back() {
    let Some(mut nats) = NatsServer::start().await else { return };
    let server = replica(&nats).await;
    nats.kill();
    nats.run().await;
    let back_end = back_end(&nats).await;
    let mut heard = hear(&back_end, "acme.orders.>").await;
    let request = PublishRequest { topic: "orders.a".to_owned(), event: Some(event("out")) };
    server.topics().await.publish(request).await.unwrap();
    assert_eq!(next(&mut heard, 1).await, [("acme.orders.a".to_owned(), "out".to_owned())]);
    // What is sent before it listens again is nobody's.
    let sending = async {
        loop {
            back_end.publish("acme.orders.b", "in".into()).await.unwrap();
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = sending => {}
        () = eventually("a message is taken in again", || counted(&[&server], "received", "stored") > 0.0) => {}
    }
    server.leave().await;
}

#[tokio::test]
async fn bridges_that_would_double_or_loop_stop_the_start_with_a_sentence() {
    let refused = async |bridges: &str| {
        TestServer::refused_start(&[("broker.kind", "nats"), ("broker.nats.bridges", bridges)]).await
    };
    let said = refused(r#"[{ topics = "a.>", subject = "bowline.log.>", direction = "in" }]"#).await;
    assert!(said.contains("broker.nats.bridges[0].subject") && said.contains("our own subjects"), "{said}");
    let two = r#"[{ topics = "a.>", subject = "x.>", direction = "in" },
                  { topics = "b.>", subject = "x.>", direction = "out" }]"#;
    let said = refused(two).await;
    assert!(said.contains("broker.nats.bridges[1].subject") && said.contains("come back in"), "{said}");
    let said = refused(r#"[{ topics = "a.>", subject = "x.>", direction = "through" }]"#).await;
    assert!(said.contains("must be one of \"in\", \"out\", \"both\""), "{said}");
    let said = refused(r#"[{ topics = "a.>", subject = "x.>" }]"#).await;
    assert!(said.contains("direction is missing"), "{said}");
}
