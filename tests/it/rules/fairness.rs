//! Rule 8: sessions of a connection, and connections, do not hold each other up.

use bowline::proto::v1::{OpenSession, stream_data_request::Frame as Sent, stream_data_response::Frame};

use super::server;
use crate::support::{RawTransport, credit, earliest, eventually, grant, hello, open, paused, payloads, publish};

#[tokio::test]
async fn rule_08_of_256_sessions_on_one_connection_each_gets_its_own_beside_one_that_is_flooded() {
    const OTHERS: u32 = 253;
    let server = server().await;
    server.store("flood", &vec![vec![0; 1024]; 8000]).await;
    server.store("t", &["x"]).await;
    let mut client = server.connect("alice").await;
    let held = |session, topic| OpenSession { start: earliest(), credit: credit(0, 0), ..open(session, topic) };
    for session in 1..=OTHERS {
        client.open(held(session, "t")).await;
    }
    let (flooded, halted, broke) = (254, 255, 256);
    client.open(held(flooded, "flood")).await;
    client.open(held(halted, "flood")).await;
    client.open(held(broke, "flood")).await;
    client.send(paused(halted, true)).await;
    client.send(grant(halted, u64::MAX)).await;
    client.send(grant(flooded, u64::MAX)).await;
    for session in 1..=OTHERS {
        client.send(grant(session, 1)).await;
    }
    let (mut bytes, mut served) = (0, vec![0; 257]);
    while served[1..=OTHERS as usize].contains(&0) {
        let delivery = client.delivery().await;
        served[delivery.session as usize] += delivery.events.len();
        if delivery.session == flooded {
            bytes += delivery.events.iter().map(|event| event.payload.len()).sum::<usize>();
        }
    }
    assert!(bytes < 4 << 20, "{bytes} bytes of the flood came first");
    assert_eq!((served[halted as usize], served[broke as usize]), (0, 0));
    assert!(served[1..=OTHERS as usize].iter().all(|count| *count == 1));
    server.leave().await;
}

#[tokio::test]
async fn rule_08_two_sessions_that_are_both_flooded_share_the_connection_evenly() {
    let server = server().await;
    server.store("small", &vec![vec![0; 100]; 9000]).await;
    server.store("large", &vec![vec![0; 9000]; 100]).await;
    let mut client = server.connect("alice").await;
    let held = |session, topic| OpenSession { start: earliest(), credit: credit(0, 0), ..open(session, topic) };
    client.open(held(1, "small")).await;
    client.open(held(2, "large")).await;
    client.send(grant(1, u64::MAX)).await;
    client.send(grant(2, u64::MAX)).await;
    let mut bytes = [0; 2];
    while bytes[0] + bytes[1] < 900_000 {
        let delivery = client.delivery().await;
        bytes[delivery.session as usize - 1] += delivery.events.iter().map(|event| event.payload.len()).sum::<usize>();
    }
    assert!(bytes[0] * 2 > bytes[1] && bytes[1] * 2 > bytes[0], "{bytes:?}");
    server.leave().await;
}

#[tokio::test]
async fn rule_08_a_connection_that_takes_nothing_holds_up_nobody_else() {
    let server = server().await;
    server.store("t", &vec![vec![0; 1024]; 1000]).await;
    let transport = RawTransport::open(server.address, 0).await;
    let mut stuck = transport.call().await;
    stuck.send_frame(Sent::Hello(hello("stuck")));
    stuck.send_frame(Sent::OpenSession(OpenSession { start: earliest(), ..open(1, "t") }.into()));
    eventually("its session is open", || server.sessions() == 1).await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    for seq in 1..=100 {
        client.send(publish(1, seq, seq.to_string())).await;
        assert_eq!(payloads(&client.events(1, 1).await), [seq.to_string()]);
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_08_answers_and_heartbeats_do_not_wait_for_deliveries() {
    let server = server().await;
    server.store("flood", &vec![vec![0; 1024]; 8000]).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { mode: 2, ..open(2, "t") }).await;
    client.open(OpenSession { start: earliest(), ..open(1, "flood") }).await;
    let mut bytes = 0;
    let request = client.ask(publish(2, 1, "x")).await;
    loop {
        match client.frame().await {
            Frame::Delivery(delivery) => {
                bytes += delivery.events.iter().map(|event| event.payload.len()).sum::<usize>();
            }
            Frame::Reply(reply) => break assert_eq!((reply.request_id, reply.failure), (request, None)),
            other => panic!("{other:?}"),
        }
    }
    assert!(bytes < 4 << 20, "{bytes} bytes of the flood came before the answer");
    server.leave().await;
}
