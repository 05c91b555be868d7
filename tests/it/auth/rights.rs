//! The matrix of rights: every role, every action, every kind of topic.

use bowline::proto::v1::{
    GetPresenceRequest, ListConnectionsRequest, ListTopicsRequest, OpenSession, PublishRequest, ReadHistoryRequest,
    SessionMode, connection_service_client::ConnectionServiceClient, stream_data_response::Frame,
    topic_service_client::TopicServiceClient,
};
use serde_json::json;
use tonic::transport::Channel;

use super::{Files, bearer, enter, jwt, reason, token, with};
use crate::support::{Settings, TestClient, TestServer, earliest, event, open, present, publish};

/// By the claim `role`; nobody has no rule.
const RULES: &str = "[
    { claim = \"role=reader\", topics = [\"chat.>\", \"lost.>\"], allow = [\"read\"] },
    { claim = \"role=writer\", topics = [\"chat.>\", \"lost.>\"], allow = [\"publish\"] },
    { claim = \"role=both\", topics = [\"chat.>\", \"lost.>\"], allow = [\"publish\", \"read\"] },
    { claim = \"role=historian\", topics = [\"chat.>\", \"lost.>\"], allow = [\"read\", \"history\"] },
    { claim = \"role=watcher\", topics = [\"chat.>\", \"lost.>\"], allow = [\"read\", \"presence\"] },
    { claim = \"role=operator\", allow = [\"operate\"] },
]";
/// `lost.a` may not exist, whatever rights one has; nor may `void.a`, to which nobody has any.
const TOPICS: Settings<'_> =
    &[("topics.rules", "[{ pattern = \"chat.>\" }, { pattern = \"other.>\" }]"), ("session.ttl", "0s")];

const ACTIONS: [&str; 8] = ["read", "write", "both", "earliest", "present", "Publish", "ReadHistory", "GetPresence"];

/// A role, and for each action: `.` done, `D` denied, `U` for what may be done to a topic that may not exist.
const CHAT: [(&str, &str); 7] = [
    ("reader", ".DDDDDDD"),
    ("writer", "D.DDD.DD"),
    ("both", "...DD.DD"),
    ("historian", ".DD.DD.D"),
    ("watcher", ".DDD.DD."),
    ("operator", "DDDDDDDD"),
    ("nobody", "DDDDDDDD"),
];

/// The same where the topic may not exist: whoever may read finds that out before anything else of a session fails.
fn lost(done: &str) -> String {
    let reads = done.starts_with('.');
    let letter = |(index, done)| if done == '.' || (reads && [2, 3].contains(&index)) { 'U' } else { done };
    done.chars().enumerate().map(letter).collect()
}

struct Caller {
    client: TestClient,
    topics: TopicServiceClient<Channel>,
    bearer: String,
    alias: u32,
}

impl Caller {
    async fn new(server: &TestServer, role: &str) -> Self {
        let token = token(role, json!({"role": role}));
        let client = enter(server, &token).await;
        let topics = TopicServiceClient::new(server.channel().await);
        Self { client, topics, bearer: bearer(&token), alias: 0 }
    }

    /// Does it, and says in a letter what came of it.
    async fn act(&mut self, action: &str, topic: &str) -> char {
        let done = match action {
            "Publish" | "ReadHistory" | "GetPresence" => self.ask(action, topic).await,
            _ => self.open(action, topic).await,
        };
        match &*done {
            "OK" => '.',
            "DENIED" => 'D',
            "UNKNOWN_TOPIC" => 'U',
            other => panic!("{action} of {topic}: {other}"),
        }
    }

    async fn ask(&mut self, action: &str, topic: &str) -> String {
        let metadata = [("authorization", &*self.bearer)];
        let topic = topic.to_owned();
        match action {
            "Publish" => {
                let request = PublishRequest { topic, event: Some(event("x")) };
                reason(&self.topics.publish(with(request, &metadata)).await)
            }
            "ReadHistory" => {
                let request = ReadHistoryRequest { topic, ..ReadHistoryRequest::default() };
                reason(&self.topics.read_history(with(request, &metadata)).await)
            }
            _ => {
                let request = GetPresenceRequest { topic, ..GetPresenceRequest::default() };
                reason(&self.topics.get_presence(with(request, &metadata)).await)
            }
        }
    }

    async fn open(&mut self, action: &str, topic: &str) -> String {
        self.alias += 1;
        let both = open(self.alias, topic);
        let (read_only, publish_only) = (SessionMode::ReadOnly as i32, SessionMode::PublishOnly as i32);
        let wish = match action {
            "read" => OpenSession { mode: read_only, ..both },
            "write" => OpenSession { mode: publish_only, ..both },
            "earliest" => OpenSession { mode: read_only, start: earliest(), ..both },
            "present" => OpenSession { mode: read_only, presence: present("here"), ..both },
            _ => both,
        };
        self.client.send(wish).await;
        match self.client.frame().await {
            Frame::SessionOpened(_) if action == "both" => {
                let request = self.client.ask(publish(self.alias, 1, "x")).await;
                self.client.answer(request).await.failure.map_or("OK".to_owned(), |failure| failure.reason)
            }
            Frame::SessionOpened(_) => "OK".to_owned(),
            Frame::SessionClosed(closed) => closed.failure.unwrap().reason,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn every_role_may_do_what_its_rules_allow_and_cannot_tell_what_is_forbidden_from_what_is_not_there() {
    let files = Files::new();
    let server = jwt(&files.issuer(""), RULES, TOPICS).await;
    // So that there is a history; and the topic that is forbidden exists.
    let mut writer = Caller::new(&server, "writer").await;
    assert_eq!(writer.act("Publish", "chat.a").await, '.');
    let mut cases = 0;
    for (role, done) in CHAT {
        let lost = lost(done);
        for (topic, expected) in [("chat.a", done), ("lost.a", &*lost), ("other.a", "DDDDDDDD"), ("void.a", "DDDDDDDD")]
        {
            for (action, expected) in ACTIONS.into_iter().zip(expected.chars()) {
                // A session of its own each time: what one action leaves behind is not to help another.
                let mut caller = Caller::new(&server, role).await;
                assert_eq!(caller.act(action, topic).await, expected, "{role}: {action} of {topic}");
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 224);
    server.leave().await;
}

#[tokio::test]
async fn what_is_denied_is_denied_in_the_same_words_whether_it_exists_or_not() {
    let files = Files::new();
    let server = jwt(&files.issuer(""), RULES, &[]).await;
    let mut caller = Caller::new(&server, "both").await;
    let mut said = Vec::new();
    for topic in ["other.a", "void.a", "~presence.chat.a", "~presence.void"] {
        caller.client.send(open(caller.alias + 1, topic)).await;
        said.push(caller.client.closed().await.failure.unwrap());
        let request = ReadHistoryRequest { topic: topic.to_owned(), ..ReadHistoryRequest::default() };
        let status = caller.topics.read_history(with(request, &[("authorization", &caller.bearer)])).await.unwrap_err();
        assert_eq!(status.message(), said[0].message);
    }
    assert!(said.iter().all(|failure| failure == &said[0] && failure.reason == "DENIED"), "{said:?}");
    server.leave().await;
}

#[tokio::test]
async fn only_an_operator_may_see_and_close_connections_and_no_list_shows_what_one_may_not_see() {
    let files = Files::new();
    let server = jwt(&files.issuer(""), RULES, &[]).await;
    for role in ["writer", "reader", "operator"] {
        let token = bearer(&token(role, json!({"role": role})));
        let mut operators = ConnectionServiceClient::new(server.channel().await);
        let asked = operators.list_connections(with(ListConnectionsRequest::default(), &[("authorization", &token)]));
        let expected = if role == "operator" { "OK" } else { "DENIED" };
        assert_eq!(reason(&asked.await), expected, "{role}");
    }
    let mut writer = Caller::new(&server, "writer").await;
    for topic in ["chat.a", "chat.b", "chat.c"] {
        assert_eq!(writer.act("Publish", topic).await, '.');
    }
    for (role, expected) in [("reader", &["chat.a", "chat.b", "chat.c"][..]), ("writer", &[]), ("nobody", &[])] {
        let metadata = bearer(&token(role, json!({"role": role})));
        let (mut names, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let request = ListTopicsRequest { page_size: 2, page_token, ..ListTopicsRequest::default() };
            let page = writer.topics.list_topics(with(request, &[("authorization", &metadata)])).await.unwrap();
            let page = page.into_inner();
            names.extend(page.topics.into_iter().map(|topic| topic.name));
            (page_token, pages) = (page.next_page_token, pages + 1);
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(
            (names, pages),
            (expected.iter().map(ToString::to_string).collect(), expected.len() / 2 + 1),
            "{role}"
        );
    }
    server.leave().await;
}

/// The modes in which callers name themselves.
#[tokio::test]
async fn whoever_names_itself_may_do_everything_but_operate_unless_rules_say_less() {
    let read = "[{ topics = [\"chat.>\"], allow = [\"read\"] }]";
    for (settings, operate, chat, other) in [
        (&[][..], '.', ".......", "......."),
        (&[("auth.mode", "anonymous")], 'D', ".......", "......."),
        (&[("auth.mode", "anonymous"), ("auth.insecure_operators", "true")], '.', ".......", "......."),
        (&[("auth.mode", "anonymous"), ("auth.rules", read)], 'D', ".DD.DDD", "DDDDDDD"),
        (&[("auth.rules", read)], '.', ".DD.DDD", "DDDDDDD"),
    ] {
        let server = TestServer::with(settings).await;
        for (topic, expected) in [("chat.a", chat), ("other.a", other)] {
            let actions = ["read", "write", "both", "earliest", "Publish", "ReadHistory", "GetPresence"];
            for (action, expected) in actions.into_iter().zip(expected.chars()) {
                let client = server.connect("alice").await;
                let topics = TopicServiceClient::new(server.channel().await);
                let mut caller = Caller { client, topics, bearer: "Bearer nothing".to_owned(), alias: 0 };
                assert_eq!(caller.act(action, topic).await, expected, "{settings:?}: {action} of {topic}");
            }
        }
        let mut operators = server.operator().await;
        let asked = reason(&operators.list_connections(ListConnectionsRequest::default()).await);
        assert_eq!(asked, if operate == '.' { "OK" } else { "DENIED" }, "{settings:?}");
        server.leave().await;
    }
}
