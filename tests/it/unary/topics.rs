//! `TopicService`.

use bowline::proto::v1::{
    Cursor, ListTopicsRequest, NewEvent, PublishBatchRequest, PublishRequest, ReadHistoryRequest, TopicClass,
};
use tonic::Code;

use crate::support::{Settings, TestServer, assert_bad_field, assert_failure, assert_status, event, open, payloads};

const SMALL: Settings<'_> = &[(
    "topics.rules",
    r#"[{ pattern = "small", history = { max_events = 3 } }, { pattern = "echo", class = "echo" }, { pattern = "t.>" }]"#,
)];

fn one(topic: &str, event: NewEvent) -> PublishRequest {
    PublishRequest { topic: topic.to_owned(), event: Some(event) }
}

fn history(topic: &str) -> ReadHistoryRequest {
    ReadHistoryRequest { topic: topic.to_owned(), ..ReadHistoryRequest::default() }
}

#[tokio::test]
async fn a_back_end_s_event_is_stored_and_reaches_sessions_without_a_publisher_s_name() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    let stored = server.topics().await.publish(one("t", event("x"))).await.unwrap().into_inner();
    let events = client.events(1, 1).await;
    assert_eq!((events[0].publisher.as_str(), events[0].offset), ("", stored.cursor.unwrap().offset));
    let conditional = NewEvent { if_last: Some(7), ..event("y") };
    let status = server.topics().await.publish(one("t", conditional)).await.unwrap_err();
    assert_status(&status, Code::Aborted, "WRONG_LAST");
    server.leave().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_named_by_its_field() {
    let server = TestServer::with(SMALL).await;
    let mut topics = server.topics().await;
    for bad in ["", "a b", "t..x", "t.*"] {
        assert_bad_field(&topics.publish(one(bad, event("x"))).await.unwrap_err(), "topic");
        assert_bad_field(&topics.read_history(history(bad)).await.unwrap_err(), "topic");
    }
    let key = NewEvent { key: vec![0; 256].into(), ..event("x") };
    assert_bad_field(&topics.publish(one("t.x", key)).await.unwrap_err(), "event.key");
    for count in [0, 1001] {
        let batch = PublishBatchRequest { topic: "t.x".to_owned(), events: vec![event("x"); count] };
        assert_bad_field(&topics.publish_batch(batch).await.unwrap_err(), "events");
    }
    let unknown = topics.publish(one("nowhere", event("x"))).await.unwrap_err();
    assert_status(&unknown, Code::NotFound, "UNKNOWN_TOPIC");
    let large = topics.publish(one("t.x", event(vec![0; 5 << 20]))).await.unwrap_err();
    assert_status(&large, Code::ResourceExhausted, "TOO_LARGE");
    for status in [
        topics.publish(one("echo", event("x"))).await.unwrap_err(),
        topics.read_history(history("echo")).await.unwrap_err(),
    ] {
        assert_status(&status, Code::Unimplemented, "UNSUPPORTED");
    }
    server.leave().await;
}

#[tokio::test]
async fn a_batch_stops_at_the_first_event_that_fails_and_keeps_what_came_before() {
    let server = TestServer::start().await;
    let mut topics = server.topics().await;
    let events = vec![event("1"), event("2"), NewEvent { if_last: Some(9), ..event("3") }, event("4")];
    let answer =
        topics.publish_batch(PublishBatchRequest { topic: "t".to_owned(), events }).await.unwrap().into_inner();
    assert_eq!(answer.stored.len(), 2);
    assert_failure(answer.failure.as_ref(), Code::Aborted, "WRONG_LAST");
    let read = topics.read_history(history("t")).await.unwrap().into_inner();
    assert_eq!(payloads(&read.events), ["1", "2"]);
    server.leave().await;
}

#[tokio::test]
async fn history_is_read_to_its_end_page_by_page() {
    let server = TestServer::start().await;
    let numbers: Vec<_> = (1..=25).map(|n| n.to_string()).collect();
    let stored = server.store("t", &numbers).await;
    let mut topics = server.topics().await;
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page =
            topics.read_history(ReadHistoryRequest { after, limit: 10, ..history("t") }).await.unwrap().into_inner();
        assert!(!page.gap && page.head == stored[24].cursor);
        seen.push(page.events.len());
        after = page.next;
        if page.next == page.head {
            break;
        }
    }
    assert_eq!(seen, [10, 10, 5]);
    let end = topics.read_history(ReadHistoryRequest { after, ..history("t") }).await.unwrap().into_inner();
    assert!(end.events.is_empty() && end.next == end.head);
    let newest = ReadHistoryRequest { last: 3, after: Some(Cursor::default()), ..history("t") };
    assert_eq!(payloads(&topics.read_history(newest).await.unwrap().into_inner().events), ["23", "24", "25"]);
    let nothing = topics.read_history(history("never.seen")).await.unwrap().into_inner();
    assert!(nothing.events.is_empty() && nothing.next == nothing.head && !nothing.gap);
    server.leave().await;
}

#[tokio::test]
async fn a_page_of_history_is_bounded_in_events_and_in_bytes() {
    let server = TestServer::start().await;
    server.store("many", &vec!["x"; 1500]).await;
    server.store("large", &vec![vec![0; 300 << 10]; 6]).await;
    server.store("huge", &vec![vec![0; 2 << 20]; 2]).await;
    let mut topics = server.topics().await;
    for (topic, limit, count) in
        [("many", 0, 100), ("many", 5000, 1000), ("large", 0, 3), ("large", 2, 2), ("huge", 0, 1)]
    {
        let page = topics.read_history(ReadHistoryRequest { limit, ..history(topic) }).await.unwrap().into_inner();
        assert_eq!(page.events.len(), count, "{topic} {limit}");
        assert_ne!(page.next, page.head);
    }
    server.leave().await;
}

#[tokio::test]
async fn history_says_when_something_before_it_is_gone() {
    let server = TestServer::with(SMALL).await;
    let stored = server.store("small", &["1", "2", "3", "4", "5"]).await;
    let mut topics = server.topics().await;
    let first = stored[0].cursor.unwrap();
    for (after, gap) in [
        (None, false),
        (Some(first), true),
        (Some(Cursor { epoch: first.epoch ^ 1, ..first }), true),
        (stored[1].cursor, false),
    ] {
        let page = topics.read_history(ReadHistoryRequest { after, ..history("small") }).await.unwrap().into_inner();
        assert_eq!((page.gap, payloads(&page.events)), (gap, vec!["3".into(), "4".into(), "5".into()]));
    }
    server.leave().await;
}

#[tokio::test]
async fn topics_are_listed_by_name_a_page_at_a_time() {
    let server = TestServer::start().await;
    for n in 0..25 {
        server.store(&format!("list.{n:02}"), &["x", "y"]).await;
    }
    server.store("other", &["x"]).await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "list.07")).await;
    let mut topics = server.topics().await;
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListTopicsRequest { prefix: "list.".to_owned(), page_size: 10, page_token };
        let page = topics.list_topics(request).await.unwrap().into_inner();
        assert!(page.topics.len() <= 10);
        names.extend(page.topics.iter().map(|topic| topic.name.clone()));
        for topic in &page.topics {
            assert_eq!((topic.class(), topic.event_count, topic.first_offset), (TopicClass::Log, 2, 1));
            assert_eq!((topic.head.unwrap().offset, topic.reader_count), (2, u32::from(topic.name == "list.07")));
            assert!(topic.byte_count > 2);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, (0..25).map(|n| format!("list.{n:02}")).collect::<Vec<_>>());
    let all = topics.list_topics(ListTopicsRequest::default()).await.unwrap().into_inner();
    assert_eq!((all.topics.len(), all.next_page_token.as_str()), (26, ""));
    server.leave().await;
}

#[tokio::test]
async fn a_message_far_over_the_limit_is_refused_before_it_is_decoded() {
    let server = TestServer::with(&[("connection.max_message_size", "64KiB")]).await;
    let status = server.topics().await.publish(one("t", event(vec![0; 1 << 20]))).await.unwrap_err();
    assert!(matches!(status.code(), Code::ResourceExhausted | Code::OutOfRange), "{status:?}");
    server.leave().await;
}
