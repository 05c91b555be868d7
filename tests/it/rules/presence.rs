//! Rule 12, presence: who is in a topic.

mod events;

use bowline::proto::v1::{
    Advice, CloseSession, GetPresenceRequest, GetPresenceResponse, OpenSession, Presence, PublishRequest,
};
use tonic::Code;

use super::{assert_advised, assert_status_advised, refused, server, server_with};
use crate::support::{
    Settings, TestServer, assert_bad_field, assert_status, changes, close, named, open, present, publish, put,
    snapshot, with,
};

/// So long that nobody is gone because of it.
const NEVER: Settings<'_> = &[("session.key_grace", "1m"), ("session.ttl", "2m")];

/// A session with a name that is in the topic `room`.
fn member(session: u32, session_id: &str, info: &str) -> OpenSession {
    OpenSession { presence: present(info), ..named(session, "room", session_id) }
}

async fn page(server: &TestServer, page_size: u32, page_token: &str) -> GetPresenceResponse {
    let (topic, page_token) = ("room".to_owned(), page_token.to_owned());
    server.topics().await.get_presence(GetPresenceRequest { topic, page_size, page_token }).await.unwrap().into_inner()
}

/// The members of `room`, as `client session=info`.
async fn members(server: &TestServer) -> Vec<String> {
    let page = page(server, 0, "").await;
    assert_eq!((page.member_count, page.next_page_token.as_str()), (page.members.len() as u64, ""));
    let text = |info: &[u8]| String::from_utf8(info.to_vec()).unwrap();
    page.members.iter().map(|m| format!("{} {}={}", m.client_id, m.session_id, text(&m.info))).collect()
}

#[tokio::test]
async fn rule_12_get_presence_names_the_sessions_that_are_in_a_topic() {
    let server = server_with(NEVER).await;
    assert!(members(&server).await.is_empty(), "a topic nobody is in");
    let (mut alice, mut bob) = (server.connect("alice").await, server.connect("bob").await);
    bob.open(member(1, "phone", "b")).await;
    alice.open(member(1, "phone", "p")).await;
    alice.open(member(2, "desk", "d")).await;
    alice.open(named(3, "room", "not-in-it")).await;
    assert_eq!(members(&server).await, ["alice desk=d", "alice phone=p", "bob phone=b"]);
    let page = page(&server, 0, "").await;
    assert!(page.members[2].since_us < page.members[1].since_us && page.members[1].since_us < page.members[0].since_us);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_get_presence_comes_in_pages_ordered_by_client_and_session() {
    let server = server_with(NEVER).await;
    let mut expected = Vec::new();
    let mut clients = Vec::new();
    // Names of which one begins like another come in the order of the names, not of what separates them.
    for client_id in ["a", "a!", "b"] {
        let mut client = server.connect(client_id).await;
        for session in 1..=7 {
            let session_id = format!("s{}", 8 - session);
            client.open(member(session, &session_id, "x")).await;
            expected.push((client_id.to_owned(), session_id));
        }
        clients.push(client);
    }
    expected.sort();
    let (mut seen, mut token, mut sizes) = (Vec::new(), String::new(), Vec::new());
    loop {
        let page = page(&server, 5, &token).await;
        assert_eq!(page.member_count, 21);
        sizes.push(page.members.len());
        seen.extend(page.members.into_iter().map(|member| (member.client_id, member.session_id)));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((seen, sizes), (expected, vec![5, 5, 5, 5, 1]));
    server.leave().await;
}

#[tokio::test]
async fn rule_12_get_presence_of_a_name_that_is_no_topic_is_refused() {
    let server = TestServer::with(&[("topics.rules", r#"[{ pattern = "known.>" }]"#)]).await;
    let mut topics = server.topics().await;
    let of = |topic: &str| GetPresenceRequest { topic: topic.to_owned(), ..GetPresenceRequest::default() };
    assert_bad_field(&topics.get_presence(of("no..such")).await.unwrap_err(), "topic");
    let unknown = topics.get_presence(of("unknown")).await.unwrap_err();
    assert_status(&unknown, Code::NotFound, "UNKNOWN_TOPIC");
    let nobody = topics.get_presence(of("known.t")).await.unwrap().into_inner();
    assert_eq!(nobody, GetPresenceResponse::default());
    let mut client = server.connect("alice").await;
    let failure = refused(&mut client, open(1, "~presence.unknown")).await;
    assert_advised(Some(&failure), Code::NotFound, "UNKNOWN_TOPIC", Advice::None);
    client.open(open(1, "~presence.known.t")).await;
    server.leave().await;
}

#[tokio::test]
async fn rule_12_presence_is_written_by_the_server_alone() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "~presence.room")).await;
    let answer = client.publish(with(1, 1, put("alice desk", "x"))).await;
    assert_advised(answer.failure.as_ref(), Code::FailedPrecondition, "READ_ONLY", Advice::None);
    let request = PublishRequest { topic: "~presence.room".to_owned(), event: Some(put("alice desk", "x")) };
    let status = server.topics().await.publish(request).await.unwrap_err();
    assert_status_advised(&status, Code::FailedPrecondition, "READ_ONLY", "NONE");
    assert!(members(&server).await.is_empty());
    server.leave().await;
}

#[tokio::test]
async fn rule_12_nobody_can_be_in_a_presence_topic() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    let wish = OpenSession { presence: present("x"), ..open(1, "~presence.room") };
    let failure = refused(&mut client, wish).await;
    assert_advised(Some(&failure), Code::Unimplemented, "UNSUPPORTED", Advice::None);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_what_a_member_says_of_itself_has_a_limit() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    let failure = refused(&mut client, member(1, "desk", &"x".repeat(1025))).await;
    assert_advised(Some(&failure), Code::InvalidArgument, "INVALID_FIELD", Advice::None);
    assert_eq!(failure.metadata["field"], "presence.info");
    client.open(member(1, "desk", &"x".repeat(1024))).await;
    let nothing = OpenSession { presence: Some(Presence::default()), ..named(2, "room", "silent") };
    client.open(nothing).await;
    assert_eq!(members(&server).await.len(), 2);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_names_of_the_greatest_length_can_be_members() {
    let server = server().await;
    let (client_id, session_id) = ("c".repeat(128), "s".repeat(128));
    let mut client = server.connect(&client_id).await;
    client.open(member(1, &session_id, "x")).await;
    assert_eq!(members(&server).await, [format!("{client_id} {session_id}=x")]);
    client.send(close(1)).await;
    client.closed().await;
    assert!(members(&server).await.is_empty());
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_topic_has_so_many_members_and_refuses_one_more_until_one_leaves() {
    let server = server_with(&[&[("topics.max_members", "2")], NEVER].concat()).await;
    let mut client = server.connect("alice").await;
    client.open(member(1, "a", "x")).await;
    client.open(member(2, "b", "x")).await;
    let failure = refused(&mut client, member(3, "c", "x")).await;
    assert_advised(Some(&failure), Code::ResourceExhausted, "KEY_LIMIT", Advice::None);
    assert_eq!(server.sessions(), 2);
    let opened = client.open(named(3, "room", "c")).await;
    assert_eq!(opened.attach, 1, "nothing is left of the open that was refused");
    client.send(close(1)).await;
    client.closed().await;
    client.open(member(4, "d", "x")).await;
    assert_eq!(members(&server).await, ["alice b=x", "alice d=x"]);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_an_open_refused_for_want_of_room_costs_the_session_of_that_name_nothing() {
    let server = server_with(&[&[("topics.max_members", "1")], NEVER].concat()).await;
    let (mut holder, mut other) = (server.connect("alice").await, server.connect("alice").await);
    holder.open(named(1, "room", "desk")).await;
    other.open(member(1, "phone", "x")).await;
    let failure = refused(&mut other, member(2, "desk", "x")).await;
    assert_advised(Some(&failure), Code::ResourceExhausted, "KEY_LIMIT", Advice::None);
    other.send(CloseSession { session: 1, keep: true }).await;
    other.closed().await;
    assert_eq!(other.open(member(3, "phone", "x")).await.attach, 2, "who is in has its room");
    assert_eq!(holder.publish(publish(1, 1, "still here")).await.failure, None);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_any_topic_has_presence_and_any_session_can_be_in_it() {
    let server = server_with(NEVER).await;
    let mut client = server.connect("alice").await;
    for (session, topic) in [(1, "t"), (2, "state.t"), (3, "signal.t"), (4, "echo")] {
        for (alias, mode) in [(session * 10, 0), (session * 10 + 1, 1), (session * 10 + 2, 2)] {
            let id = format!("s{alias}");
            client.open(OpenSession { mode, presence: present("x"), ..named(alias, topic, &id) }).await;
        }
        let request = GetPresenceRequest { topic: topic.to_owned(), ..GetPresenceRequest::default() };
        let page = server.topics().await.get_presence(request).await.unwrap().into_inner();
        assert_eq!(page.member_count, 3, "{topic}");
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_12_presence_is_a_keyed_topic_like_any_other() {
    let server = server_with(NEVER).await;
    let mut alice = server.connect("alice").await;
    alice.open(member(1, "desk", "busy")).await;
    alice.open(member(2, "phone", "idle")).await;
    let mut reader = server.connect("reader").await;
    reader.open(OpenSession { start: snapshot(), ..open(1, "~presence.room") }).await;
    let there = reader.snapshot(1).await;
    assert_eq!(changes(&there), ["alice desk=busy", "alice phone=idle"]);
    assert!(there.iter().all(|event| event.publisher == "alice"));
    // To be in a topic is not to publish to it.
    assert_eq!(alice.publish(publish(1, 1, "x")).await.cursor.unwrap().offset, 1);
    assert!(reader.is_quiet().await);
    server.leave().await;
}
