//! Transports that grow old, and honest clients that measure as they go.

use bowline::proto::v1::{NewEvent, PublishRequest, topic_service_client::TopicServiceClient};
use tokio::time::{Duration, Instant};
use tonic::{Code, transport::Endpoint};

use crate::support::{TestServer, earliest, open, within};

#[tokio::test]
async fn the_clients_of_an_old_transport_are_told_to_move_and_may_take_their_time() {
    let server = TestServer::with(&[("transport.max_age", "300ms")]).await;
    let begun = Instant::now();
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    let drain = client.drain().await;
    assert!((Duration::from_millis(270)..Duration::from_secs(5)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!((drain.reconnect_delay_ms, drain.deadline_ms), (0, 59_000));
    // Until it goes it is served as ever, and it can come back at once.
    server.store("t", &["x"]).await;
    assert_eq!(client.events(1, 1).await.len(), 1);
    let _elsewhere = server.connect("alice").await;
    client.half_close();
    client.ended_well().await;
    server.leave().await;
}

#[tokio::test]
async fn who_stays_on_an_old_transport_is_closed_at_the_time_it_was_told() {
    let settings = [
        ("transport.max_age", "100ms"),
        ("transport.goaway_timeout", "1500ms"),
        ("drain.spread", "100ms"),
        ("drain.grace", "100ms"),
    ];
    let server = TestServer::with(&settings).await;
    let mut client = server.connect("alice").await;
    assert_eq!(client.drain().await.deadline_ms, 500);
    let told = Instant::now();
    client.ended_with(Code::Unavailable, "DRAINING").await;
    assert!(
        (Duration::from_millis(450)..Duration::from_millis(1400)).contains(&told.elapsed()),
        "{:?}",
        told.elapsed()
    );
    server.leave().await;
}

#[tokio::test]
async fn a_client_that_probes_its_bandwidth_is_never_struck() {
    let server = TestServer::start().await;
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap().http2_adaptive_window(true);
    let channel = within("a transport", endpoint.connect()).await.unwrap();
    let mut topics = TopicServiceClient::new(channel.clone());
    let mut reader = server.connect("alice").await;
    reader.open(bowline::proto::v1::OpenSession { start: earliest(), ..open(1, "t") }).await;
    for n in 0..1000_u32 {
        let event = Some(NewEvent { payload: vec![b'x'; 2000].into(), ..NewEvent::default() });
        let answer = topics.publish(PublishRequest { topic: "t".to_owned(), event }).await;
        assert!(answer.is_ok(), "publish {n}: {answer:?}");
    }
    reader.events(1, 1000).await;
    let history = bowline::proto::v1::ReadHistoryRequest { topic: "t".to_owned(), last: 400, limit: 1000, after: None };
    for _ in 0..20 {
        assert!(!topics.read_history(history.clone()).await.unwrap().get_ref().events.is_empty());
    }
    for cause in ["too_many_pings", "too_many_glitches", "too_many_resets"] {
        assert_eq!(server.sample(&format!("bowline_transports_closed_total{{cause=\"{cause}\"}}")), 0.0, "{cause}");
    }
    server.leave().await;
}
