//! Rule 15: whoever is to move is told by Drain and by GOAWAY, and both ends work until it has.

use bowline::proto::v1::{OpenSession, stream_data_request::Frame as Sent};
use tonic::Code;

use super::{assert_status_advised, server_with};
use crate::support::{RawTransport, TestClient, hello, open, payloads, publish};

#[tokio::test]
async fn rule_15_a_client_is_told_by_drain_when_to_come_elsewhere_and_is_served_until_then() {
    let server = server_with(&[("drain.grace", "8s")]).await;
    let address = server.address;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    let moving = async {
        let drain = client.drain().await;
        assert!(drain.reconnect_delay_ms < drain.deadline_ms && !drain.reason.is_empty(), "{drain:?}");
        let Err(refused) = TestClient::call(address, &[]).await else { panic!("a new call was not refused") };
        assert_status_advised(&refused, Code::Unavailable, "DRAINING", "RECONNECT");
        client.open(OpenSession { mode: 2, ..open(2, "t") }).await;
        client.send(publish(2, 1, "still here")).await;
        assert_eq!(payloads(&client.events(1, 1).await), ["still here"]);
        client.half_close();
        client.ended_well().await;
    };
    tokio::join!(server.leave_politely(), moving);
}

#[tokio::test]
async fn rule_15_the_transport_of_a_call_is_told_by_goaway_so_that_no_new_call_comes_on_it() {
    let server = server_with(&[]).await;
    let transport = RawTransport::open(server.address, 65_535).await;
    let mut call = transport.call().await;
    call.send_frame(Sent::Hello(hello("raw")));
    assert!(call.take().await > 0, "the welcome");
    let moving = async {
        assert!(call.take().await > 0, "the drain");
        transport.refuses_calls().await;
        call.half_close();
        assert_eq!(call.end().await.unwrap().code(), Code::Ok);
    };
    tokio::join!(server.leave_politely(), moving);
}

#[tokio::test]
async fn rule_15_who_does_not_move_is_ended_at_the_deadline() {
    let server = server_with(&[("drain.grace", "200ms")]).await;
    let mut client = server.connect("alice").await;
    let staying = async {
        client.drain().await;
        let status = client.ended_with(Code::Unavailable, "DRAINING").await;
        assert_status_advised(&status, Code::Unavailable, "DRAINING", "RECONNECT");
    };
    tokio::join!(server.leave_politely(), staying);
}
