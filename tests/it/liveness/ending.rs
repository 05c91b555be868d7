//! Ways to end, and that each takes everything with it.

use bowline::proto::v1::{
    DisconnectRequest, OpenSession, disconnect_request::Target, stream_data_request::Frame as Sent,
    stream_data_response::Frame,
};
use tonic::Code;

use crate::support::{RawTransport, TestClient, TestServer, assert_bad_field, assert_status, earliest, open, publish};

/// Ends a connection in the middle of a flood, with sessions of every kind, and looks for what is left. Returns how many
/// sessions were over before their connection was.
async fn leaves_nothing(end: impl Fn(TestClient)) -> f64 {
    let server = TestServer::start().await;
    server.store("flood", &vec![vec![0; 1024]; 2000]).await;
    let mut clients = Vec::new();
    for n in 0..10 {
        let mut client = server.connect(&format!("c{n}")).await;
        // Of its own: what its neighbours publish would come in between.
        let topic = format!("t{n}");
        client.open(OpenSession { session_id: "named".to_owned(), ..open(1, &topic) }).await;
        client.open(OpenSession { mode: 2, ..open(2, &topic) }).await;
        client.open(OpenSession { start: earliest(), ..open(3, "flood") }).await;
        client.send(publish(2, 1, "x")).await;
        client.delivery().await;
        clients.push(client);
    }
    assert_eq!((server.connections(), server.sessions()), (10, 30));
    for client in clients {
        end(client);
    }
    server.emptied().await;
    assert_eq!(server.metrics().connections_opened.get(), 10);
    let closed = |reason| server.sample(&format!("bowline_sessions_closed_total{{reason=\"{reason}\"}}"));
    let (detached, finished) = (closed("DETACHED"), closed("OK"));
    assert_eq!(detached + finished, 30.0);
    let topics = bowline::proto::v1::ListTopicsRequest::default();
    let listed = server.topics().await.list_topics(topics).await.unwrap().into_inner().topics;
    assert!(listed.iter().all(|topic| topic.reader_count == 0), "{listed:?}");
    server.leave().await;
    finished
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_leaves_nothing() {
    // What the call is sent through is dropped a moment before what it is read from: see below.
    leaves_nothing(drop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_transport_leaves_nothing() {
    assert_eq!(leaves_nothing(TestClient::sever).await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_closed_call_that_is_dropped_leaves_nothing() {
    // Whether a session that has nothing more to say comes to its end before the call is reset is a matter of moments.
    leaves_nothing(|mut client| client.half_close()).await;
}

#[tokio::test]
async fn calls_on_one_transport_are_connections_of_their_own_and_end_with_it() {
    let server = TestServer::start().await;
    let transport = RawTransport::open(server.address, 65_535).await;
    let mut calls = Vec::new();
    for n in 0..5 {
        let mut call = transport.call().await;
        call.send_frame(Sent::Hello(crate::support::hello(&format!("c{n}"))));
        assert!(call.take().await > 0);
        calls.push(call);
    }
    assert_eq!(server.connections(), 5);
    drop(calls.pop());
    crate::support::eventually("one is gone", || server.connections() == 4).await;
    calls[0].half_close();
    assert_eq!(calls[0].end().await.unwrap().code(), Code::Ok);
    crate::support::eventually("two are gone", || server.connections() == 3).await;
    drop((calls, transport));
    server.emptied().await;
    server.leave().await;
}

#[tokio::test]
async fn a_half_closed_call_that_is_read_to_its_end_leaves_nothing() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    client.half_close();
    client.ended_well().await;
    server.emptied().await;
    assert_eq!(server.sample("bowline_connections_closed_total{cause=\"OK\"}"), 1.0);
    server.leave().await;
}

#[tokio::test]
async fn a_call_that_broke_the_rules_leaves_nothing() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    client.send(open(1, "t")).await;
    client.ended_with(Code::InvalidArgument, "PROTOCOL").await;
    server.emptied().await;
    server.leave().await;
}

#[tokio::test]
async fn an_operator_closes_one_connection_by_its_id() {
    let server = TestServer::start().await;
    let mut victim = server.call().await;
    victim.send(crate::support::hello("alice")).await;
    let id = victim.welcomed().await.connection_id;
    let mut neighbour = server.connect("alice").await;
    let mut operator = server.operator().await;
    let request = || DisconnectRequest { target: Some(Target::ConnectionId(id.clone())) };
    assert_eq!(operator.disconnect(request()).await.unwrap().get_ref().disconnected_count, 1);
    victim.ended_with(Code::Unavailable, "DISCONNECTED").await;
    crate::support::eventually("it is gone", || server.connections() == 1).await;
    assert!(neighbour.is_quiet().await);
    assert_status(&operator.disconnect(request()).await.unwrap_err(), Code::NotFound, "NOT_FOUND");
    server.leave().await;
}

#[tokio::test]
async fn an_operator_closes_all_connections_of_a_client() {
    let server = TestServer::start().await;
    let mut victims = [server.connect("alice").await, server.connect("alice").await, server.connect("alice").await];
    let mut neighbour = server.connect("bob").await;
    let mut operator = server.operator().await;
    let target = |name: &str| DisconnectRequest { target: Some(Target::ClientId(name.to_owned())) };
    assert_eq!(operator.disconnect(target("alice")).await.unwrap().get_ref().disconnected_count, 3);
    for victim in &mut victims {
        victim.ended_with(Code::Unavailable, "DISCONNECTED").await;
    }
    crate::support::eventually("they are gone", || server.connections() == 1).await;
    assert!(neighbour.is_quiet().await);
    assert_eq!(operator.disconnect(target("nobody")).await.unwrap().get_ref().disconnected_count, 0);
    let nobody = operator.disconnect(DisconnectRequest { target: None }).await.unwrap_err();
    assert_bad_field(&nobody, "target");
    server.leave().await;
}

#[tokio::test]
async fn sessions_of_a_client_that_was_disconnected_can_be_resumed() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    let desk = || OpenSession { session_id: "desk".to_owned(), ..open(1, "t") };
    client.open(desk()).await;
    let target = Some(Target::ClientId("alice".to_owned()));
    server.operator().await.disconnect(DisconnectRequest { target }).await.unwrap();
    client.end().await;
    let mut client = server.connect("alice").await;
    assert_eq!(client.open(desk()).await.attach, 2);
    client.send(publish(1, 1, "x")).await;
    assert!(matches!(client.frame().await, Frame::Delivery(_)));
    server.leave().await;
}
