//! `ConnectionService`.

use bowline::proto::v1::{ConnectionState, Flow, GetConnectionRequest, Hello, ListConnectionsRequest, OpenSession};
use tonic::Code;

use crate::support::{TestServer, assert_bad_field, assert_status, earliest, flow, hello, open, publish};

#[tokio::test]
async fn connections_are_listed_oldest_first_a_page_at_a_time() {
    let server = TestServer::start().await;
    let mut clients = Vec::new();
    for n in 0..12 {
        clients.push(server.connect(["even", "odd"][n % 2]).await);
    }
    let mut operator = server.operator().await;
    for (client_id, expected) in [("", 12), ("even", 6), ("nobody", 0)] {
        let (mut rows, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListConnectionsRequest { client_id: client_id.to_owned(), page_size: 5, page_token };
            let page = operator.list_connections(request).await.unwrap().into_inner();
            assert_eq!(page.total_count, 12);
            rows.extend(page.connections);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(rows.len(), expected);
        assert!(rows.is_sorted_by_key(|row| row.opened_us));
        assert!(rows.iter().all(|row| client_id.is_empty() || row.client_id == client_id));
        rows.dedup_by(|a, b| a.connection_id == b.connection_id);
        assert_eq!(rows.len(), expected);
    }
    let request = |client_id: &str, page_token: &str| ListConnectionsRequest {
        client_id: client_id.to_owned(),
        page_token: page_token.to_owned(),
        page_size: 0,
    };
    let status = operator.list_connections(request("", "x")).await.unwrap_err();
    assert_bad_field(&status, "page_token");
    assert_bad_field(&operator.list_connections(request("two words", "")).await.unwrap_err(), "client_id");
    server.leave().await;
}

#[tokio::test]
async fn a_connection_is_shown_with_its_sessions() {
    let server = TestServer::start().await;
    server.store("t", &["1", "2", "3"]).await;
    let mut client = server.call().await;
    client.send(Hello { agent: "tester/1".to_owned(), ..hello("alice") }).await;
    let id = client.welcomed().await.connection_id;
    let held = OpenSession { session_id: "desk".to_owned(), start: earliest(), ..open(1, "t") };
    client.open(OpenSession { credit: crate::support::credit(2, 0), ..held }).await;
    client.events(1, 2).await;
    client.open(open(2, "other")).await;
    let request = client.ask(Flow { paused: Some(true), ..flow(2) }).await;
    client.answer(request).await;
    client.publish(publish(2, 1, "x")).await;

    let mut operator = server.operator().await;
    let request = GetConnectionRequest { connection_id: id.clone() };
    let shown = operator.get_connection(request).await.unwrap().into_inner();
    let row = shown.connection.unwrap();
    assert_eq!((row.connection_id, row.client_id.as_str(), row.agent.as_str()), (id, "alice", "tester/1"));
    assert_eq!((row.state, row.session_count, row.received_count), (ConnectionState::Connected as i32, 2, 5));
    assert!(row.peer.starts_with("127.0.0.1:") && row.sent_count >= 5, "{row:?}", row = row.peer);
    // Ordered by id; a nameless session goes by one that was made up for it.
    let [desk, nameless] = &shown.sessions[..] else { panic!("{:?}", shown.sessions) };
    assert_eq!((desk.session_id.as_str(), desk.topic.as_str(), desk.attach), ("desk", "t", 1));
    assert_eq!((desk.cursor_offset, desk.lag_events, desk.delivered_count, desk.paused), (2, 1, 2, false));
    assert_eq!((nameless.topic.as_str(), nameless.paused, nameless.lag_events), ("other", true, 1));

    let mut get = async |id: &str| {
        operator.get_connection(GetConnectionRequest { connection_id: id.to_owned() }).await.unwrap_err()
    };
    assert_bad_field(&get("not an id").await, "connection_id");
    drop(client);
    server.emptied().await;
    server.leave().await;
}

#[tokio::test]
async fn a_connection_that_is_gone_is_not_found() {
    let server = TestServer::start().await;
    let mut client = server.call().await;
    client.send(hello("alice")).await;
    let connection_id = client.welcomed().await.connection_id;
    drop(client);
    server.emptied().await;
    let status = server.operator().await.get_connection(GetConnectionRequest { connection_id }).await.unwrap_err();
    assert_status(&status, Code::NotFound, "NOT_FOUND");
    server.leave().await;
}
