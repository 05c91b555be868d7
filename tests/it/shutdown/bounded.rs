//! Clients that do nothing of what they are told.

use std::time::Duration;

use bowline::proto::{
    health::{HealthCheckRequest, health_client::HealthClient},
    v1::{OpenSession, stream_data_request::Frame as Sent},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};
use tonic::Code;

use crate::support::{RawTransport, Settings, TestServer, earliest, hello, open, within};

/// Clients have 300 ms to move. What then is left has a second for a good end, then two to be cut.
const SHORT: Settings<'_> = &[("drain.grace", "300ms")];
/// 300 ms, and what comes after them.
const BOUND: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_client_that_ignores_the_drain_is_closed_with_a_reason() {
    let server = TestServer::with(SHORT).await;
    let mut client = server.connect("deaf").await;
    client.open(open(1, "t")).await;
    let observe = async {
        client.drain().await;
        client.ended_with(Code::Unavailable, "DRAINING").await;
    };
    let (took, ()) = tokio::join!(server.leave_politely(), observe);
    assert!((Duration::from_millis(250)..BOUND).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut() {
    let server = TestServer::with(SHORT).await;
    server.store("t", &vec![vec![0; 1024]; 1000]).await;
    let transport = RawTransport::open(server.address, 0).await;
    let mut call = transport.call().await;
    call.send_frame(Sent::Hello(hello("stuck")));
    call.send_frame(Sent::OpenSession(OpenSession { start: earliest(), ..open(1, "t") }.into()));
    crate::support::eventually("its session is open", || server.sessions() == 1).await;
    let took = server.leave_politely().await;
    assert!(took < BOUND, "{took:?}");
    assert!(call.end().await.is_err());
}

#[tokio::test]
async fn one_who_only_watches_health_holds_nothing_up() {
    let server = TestServer::with(SHORT).await;
    let mut health = HealthClient::new(server.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap();
    let took = server.leave_politely().await;
    assert!(took < BOUND, "{took:?}");
}

#[tokio::test]
async fn sockets_that_say_nothing_or_little_hold_nothing_up() {
    let server = TestServer::with(SHORT).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut halting = TcpStream::connect(server.address).await.unwrap();
    halting.write_all(b"PRI * HTTP/2.0").await.unwrap();
    let mut admin = TcpStream::connect(server.admin).await.unwrap();
    admin.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    let took = server.leave_politely().await;
    assert!(took < BOUND, "{took:?}");
    for socket in [&mut silent, &mut halting, &mut admin] {
        // Closed or reset: both are an end.
        within("the end of a socket", socket.read_to_end(&mut Vec::new())).await.ok();
    }
}

#[tokio::test]
async fn whoever_is_in_a_hurry_waits_for_nobody() {
    let server = TestServer::with(&[("drain.grace", "20s"), ("drain.lame_duck", "1m")]).await;
    let mut client = server.connect("deaf").await;
    let begun = Instant::now();
    let (end, ()) = tokio::join!(client.ended_with(Code::Unavailable, "DRAINING"), server.leave());
    assert!(begun.elapsed() < BOUND, "{end:?} {:?}", begun.elapsed());
}

#[tokio::test]
async fn nothing_listens_any_more_once_a_server_has_left() {
    let server = TestServer::start().await;
    let (address, admin) = (server.address, server.admin);
    server.leave().await;
    for address in [address, admin] {
        assert!(TcpStream::connect(address).await.is_err(), "{address} still accepts");
    }
}
