//! Leaving: who is told what, who is still served, and that it ends whatever clients do.

mod bounded;
mod http;
mod program;

use std::time::Duration;

use bowline::proto::{
    health::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient},
    v1::stream_data_request::Frame as Sent,
};
use tokio::time::Instant;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{RawTransport, TestClient, TestServer, assert_status, get, hello, open, publish, within};

#[tokio::test]
async fn a_server_that_leaves_tells_everybody_and_serves_who_is_there_until_they_have_moved() {
    let server = TestServer::with(&[("drain.grace", "8s")]).await;
    let (address, admin) = (server.address, server.admin);
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    let mut health = HealthClient::new(server.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    let observe = async {
        let drain = client.drain().await;
        assert!(!drain.reason.is_empty() && (8000..8200).contains(&drain.deadline_ms), "{drain:?}");
        assert!(drain.reconnect_delay_ms <= 50, "{drain:?}");
        assert_eq!(within("a status", watch.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
        assert!(within("the end of the watch", watch.message()).await.unwrap().is_none());
        let ready = get(admin, "/readyz", "").await;
        assert!(ready.status == 503 && ready.body.contains("draining"), "{}", ready.body);
        assert_eq!(get(admin, "/livez", "").await.status, 200);

        let Err(refused) = TestClient::call(address, &[]).await else { panic!("a new stream was not refused") };
        assert_status(&refused, Code::Unavailable, "DRAINING");
        let wait = refused.get_error_details().retry_info().and_then(|retry| retry.retry_delay).expect("RetryInfo");
        assert!(wait >= Duration::from_millis(500), "{wait:?}");

        assert_eq!(client.publish(publish(1, 1, "still served")).await.failure, None);
        client.half_close();
        client.ended_well().await;
    };
    let (took, ()) = tokio::join!(server.leave_politely(), observe);
    assert!(took < Duration::from_secs(7), "everybody had moved, but it waited on: {took:?}");
}

#[tokio::test]
async fn a_lame_duck_is_not_ready_but_serves_as_ever() {
    let server = TestServer::with(&[("drain.lame_duck", "400ms")]).await;
    let (address, admin) = (server.address, server.admin);
    let begun = Instant::now();
    let observe = async {
        while get(admin, "/readyz", "").await.status != 503 {}
        let mut client = TestClient::call(address, &[]).await.unwrap();
        client.send(hello("late")).await;
        client.welcomed().await;
        client.open(open(1, "t")).await;
        client.drain().await;
        assert!(begun.elapsed() >= Duration::from_millis(350), "drained too early: {:?}", begun.elapsed());
        client.half_close();
        client.ended_well().await;
    };
    tokio::join!(server.leave_politely(), observe);
}

#[tokio::test]
async fn the_transport_of_a_call_is_told_to_go_away_and_the_call_goes_on() {
    let server = TestServer::start().await;
    let transport = RawTransport::open(server.address, 65_535).await;
    let mut call = transport.call().await;
    call.send_frame(Sent::Hello(hello("raw")));
    assert!(call.take().await > 0, "the welcome");
    let observe = async {
        assert!(call.take().await > 0, "the drain");
        transport.refuses_calls().await;
        call.send_frame(Sent::Heartbeat(crate::support::heartbeat(1)));
        assert!(call.take().await > 0, "the answer to a heartbeat");
        call.half_close();
        assert_eq!(call.end().await.unwrap().code(), Code::Ok);
    };
    tokio::join!(server.leave_politely(), observe);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_not_told_to_come_back_all_at_once() {
    let server = TestServer::with(&[("drain.max_reconnects_per_second", "10"), ("drain.grace", "10s")]).await;
    let mut clients = Vec::new();
    for n in 0..10 {
        clients.push(server.connect(&format!("c{n}")).await);
    }
    let observe = async {
        let begun = Instant::now();
        let told = clients.iter_mut().map(async |client| {
            client.drain().await;
            begun.elapsed()
        });
        let mut told = futures_util::future::join_all(told).await;
        told.sort_unstable();
        for client in &mut clients {
            client.half_close();
            client.ended_well().await;
        }
        assert!(told[9] - told[0] >= Duration::from_millis(700), "ten at ten a second: {told:?}");
        assert!(told[0] < Duration::from_millis(500), "the first waits for nobody: {told:?}");
    };
    tokio::join!(server.leave_politely(), observe);
}
