//! How many sessions there may be, how long their places are kept, and fields that ask for what cannot be.

use bowline::proto::v1::{Advice, CloseSession, OpenSession};
use tonic::Code;

use super::{assert_advised, refused, server, server_with};
use crate::support::{acked, close, eventually, hello, named, open, present};

#[tokio::test]
async fn rule_05_a_client_has_so_many_named_sessions_on_all_its_connections_and_no_more() {
    let server = server_with(&[("session.max_per_client", "3")]).await;
    let mut first = server.call().await;
    first.send(hello("alice")).await;
    assert_eq!(first.welcomed().await.limits.unwrap().max_sessions_per_client, 3);
    let mut second = server.connect("alice").await;
    first.open(named(1, "t", "1")).await;
    first.open(named(2, "t", "2")).await;
    second.open(named(1, "t", "3")).await;
    for client in [&mut first, &mut second] {
        let failure = refused(client, named(9, "t", "4")).await;
        assert_advised(Some(&failure), Code::ResourceExhausted, "SESSION_LIMIT", Advice::None);
        assert_eq!(failure.metadata["limit"], "3");
        client.open(open(8, "t")).await;
    }
    server.connect("bob").await.open(named(1, "t", "4")).await;
    server.leave().await;
}

#[tokio::test]
async fn rule_05_sessions_that_are_only_kept_count_until_they_are_closed_or_forgotten() {
    let server =
        server_with(&[("session.max_per_client", "2"), ("session.ttl", "1s"), ("session.key_grace", "1s")]).await;
    let mut client = server.connect("alice").await;
    client.open(named(1, "t", "1")).await;
    client.open(named(2, "t", "2")).await;
    client.send(CloseSession { session: 1, keep: true }).await;
    client.closed().await;
    let failure = refused(&mut client, named(3, "t", "3")).await;
    assert_advised(Some(&failure), Code::ResourceExhausted, "SESSION_LIMIT", Advice::None);
    assert_eq!(client.open(named(1, "t", "1")).await.attach, 2, "one may always come back to its own");
    client.send(close(1)).await;
    client.closed().await;
    client.open(named(3, "t", "3")).await;
    client.send(CloseSession { session: 3, keep: true }).await;
    client.closed().await;
    eventually("it is forgotten", || server.metrics().sessions_expired.get() == 1).await;
    client.open(named(4, "t", "4")).await;
    server.leave().await;
}

#[tokio::test]
async fn rule_05_a_session_whose_place_is_gone_is_not_taken_for_a_new_one() {
    let server = server_with(&[("session.ttl", "50ms"), ("session.key_grace", "50ms")]).await;
    let mut client = server.connect("alice").await;
    let attach = client.open(named(1, "t", "desk")).await.attach;
    client.sever();
    eventually("it has expired", || server.metrics().sessions_expired.get() == 1).await;
    let mut client = server.connect("alice").await;
    let back = || OpenSession { start: acked(), last_attach: attach, ..named(1, "t", "desk") };
    let failure = refused(&mut client, back()).await;
    assert_advised(Some(&failure), Code::NotFound, "SESSION_EXPIRED", Advice::NewSession);
    // On another topic nothing was ever kept; with a position of its own, or none, it opens.
    let failure = refused(&mut client, OpenSession { topic: "other".to_owned(), ..back() }).await;
    assert_advised(Some(&failure), Code::NotFound, "SESSION_EXPIRED", Advice::NewSession);
    assert_eq!(client.open(OpenSession { start: None, ..back() }).await.attach, attach + 1);
    server.leave().await;
}

#[tokio::test]
async fn rule_05_a_fencing_number_that_nobody_can_have_seen_is_refused() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    let failure = refused(&mut client, OpenSession { last_attach: u64::MAX, ..named(1, "t", "desk") }).await;
    assert_advised(Some(&failure), Code::InvalidArgument, "INVALID_FIELD", Advice::None);
    server.leave().await;
}

#[tokio::test]
async fn rule_14_words_of_a_later_version_are_refused_and_not_guessed_at() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    for wish in [OpenSession { delivery_policy: 99, ..open(1, "t") }, OpenSession { mode: 99, ..open(1, "t") }] {
        let failure = refused(&mut client, wish).await;
        assert_advised(Some(&failure), Code::Unimplemented, "UNSUPPORTED", Advice::None);
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_14_a_topic_whose_presence_could_not_be_named_has_none() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    let longest = "x".repeat(255);
    let failure = refused(&mut client, OpenSession { presence: present("x"), ..named(1, &longest, "desk") }).await;
    assert_advised(Some(&failure), Code::InvalidArgument, "INVALID_FIELD", Advice::None);
    assert_eq!(client.open(named(1, &longest, "desk")).await.attach, 1, "it opens without");
    server.leave().await;
}

#[tokio::test]
async fn rule_14_an_open_that_is_refused_takes_nothing_from_who_holds_the_session() {
    let server = server().await;
    let (mut holder, mut other) = (server.connect("alice").await, server.connect("alice").await);
    holder.open(named(1, "t", "desk")).await;
    for wish in [
        OpenSession { delivery_policy: 99, ..named(1, "t", "desk") },
        OpenSession { required: true, ..named(1, "t", "desk") },
        OpenSession { topic: "no..such".to_owned(), ..named(1, "t", "desk") },
        OpenSession { presence: present(&"x".repeat(2000)), ..named(1, "t", "desk") },
    ] {
        refused(&mut other, wish).await;
        assert!(holder.is_quiet().await);
    }
    server.leave().await;
}
