mod guarded;
mod over_tls;
mod support;

use std::io::ErrorKind;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use support::{LIMIT, Server, get, read};

const MILLI: Duration = Duration::from_millis(1);

#[tokio::test]
async fn a_megabyte_comes_back_unchanged_on_each_of_many_streams() {
    let server = Server::start(Config::default());
    let (client, _connection) = server.client(20_000).await;
    let echo = async |seed: u8| {
        let mut client = client.clone().ready().await.unwrap();
        let request = Request::post("http://test/echo").body(()).unwrap();
        let (response, mut sending) = client.send_request(request, false).unwrap();
        let sent: Vec<u8> = (0..1_000_000_u32).map(|i| seed.wrapping_add((i % 251) as u8)).collect();
        let upward = async {
            for chunk in sent.chunks(9_973) {
                sending.reserve_capacity(chunk.len());
                let mut rest = Bytes::copy_from_slice(chunk);
                while !rest.is_empty() {
                    let capacity = std::future::poll_fn(|cx| sending.poll_capacity(cx)).await.unwrap().unwrap();
                    sending.send_data(rest.split_to(capacity.min(rest.len())), false).unwrap();
                }
            }
            sending.send_data(Bytes::new(), true).unwrap();
        };
        let downward = async { read(response.await.unwrap().body_mut()).await.unwrap().0 };
        let ((), received) = tokio::join!(upward, downward);
        assert!(received == sent, "stream {seed} differs");
    };
    let all = futures_util::future::join_all((0..8).map(echo));
    timeout(LIMIT, all).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_reads_slowly_gets_everything_in_order() {
    let mut server = Server::start(Config::default());
    let socket = narrow(&server).await;
    flood(&mut server, socket).await;
}

/// A socket with so little room on the way that the server blocks again and again in the middle of a turn.
async fn narrow(server: &Server) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(server.address).await.unwrap()
}

/// Four streams of 900 kB each at once, checked byte by byte.
async fn flood<T>(server: &mut Server, socket: T)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (client, _connection) = server.speak(socket, 1 << 20).await;
    let mut bodies = Vec::new();
    for seed in 0..4_u8 {
        let body = get(&client, "/open").await.unwrap().into_body();
        let call = server.calls.recv().await.unwrap();
        bodies.push((seed, body));
        drop(server.lifecycle.tasks().spawn("feed", async move {
            for chunk in 0..100_u8 {
                call.body.send(vec![seed ^ chunk; 9_000].into()).await.unwrap();
            }
        }));
    }
    for (seed, mut body) in bodies {
        let (received, _) = read(&mut body).await.unwrap();
        assert_eq!(received.len(), 900_000);
        let in_order = received.chunks(9_000).zip(0..100_u8).all(|(got, chunk)| got.iter().all(|b| *b == seed ^ chunk));
        assert!(in_order, "stream {seed} differs");
    }
}

#[tokio::test]
async fn the_kill_switch_ends_a_stalled_stream_and_no_other() {
    let mut server = Server::start(Config::default());
    let (client, _connection) = server.client(10).await;
    let mut stalled = get(&client, "/open").await.unwrap().into_body();
    let stalled_call = server.calls.recv().await.unwrap();
    let mut other = get(&client, "/open").await.unwrap().into_body();
    let other_call = server.calls.recv().await.unwrap();

    // Ten bytes fit; what follows waits for a window that never opens, and the end of the body waits behind it.
    stalled_call.body.send(vec![1; 100_000].into()).await.unwrap();
    assert_eq!(stalled.data().await.unwrap().unwrap().len(), 10);
    drop(stalled_call.body);

    stalled_call.switch.pull();
    let error = timeout(LIMIT, stalled.data()).await.expect("a reset in time").unwrap().unwrap_err();
    assert!(error.is_reset() && error.reason() == Some(h2::Reason::CANCEL), "{error}");

    other_call.body.send(Bytes::from_static(b"alive")).await.unwrap();
    assert_eq!(other.data().await.unwrap().unwrap(), "alive");
    assert_eq!(get(&client, "/").await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_stream_with_a_window_of_zero_can_be_killed_too() {
    let mut server = Server::start(Config::default());
    let (client, _connection) = server.client(0).await;
    let mut body = get(&client, "/open").await.unwrap().into_body();
    let call = server.calls.recv().await.unwrap();
    call.body.send(Bytes::from_static(b"never seen")).await.unwrap();
    call.switch.pull();
    assert!(timeout(LIMIT, body.data()).await.expect("a reset in time").unwrap().unwrap_err().is_reset());
    timeout(LIMIT, call.body.closed()).await.expect("the response is dropped");
}

/// Logs at every level, by whoever writes any on this thread: HTTP/2 and the runtime among them.
#[tokio::test]
async fn a_panic_leaves_nothing_in_the_log_of_what_the_call_said() {
    let written = crate::telemetry::written::Written::default();
    let writer = written.clone();
    let layer = tracing_subscriber::fmt::layer().json().with_writer(move || writer.clone());
    let logs = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let server = Server::start(Config::default());
    let (client, _connection) = server.client(1 << 16).await;
    let mut client = client.ready().await.unwrap();
    let request = Request::post("http://test/panic?token=canary-query").header("authorization", "Bearer canary-token");
    let (response, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
    body.send_data(Bytes::from_static(b"canary-body"), true).unwrap();
    let answer = timeout(LIMIT, response).await.unwrap().unwrap();
    assert_eq!(answer.headers()["grpc-message"], "internal%20error");
    drop(logs);
    let text = written.text();
    assert!(text.contains("a call panicked") && text.contains("TRACE"), "{text}");
    for secret in ["canary-query", "canary-token", "canary-body"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn a_panic_is_the_end_of_its_call_only() {
    let mut server = Server::start(Config::default());
    let (client, _connection) = server.client(1000).await;
    let mut bystander = get(&client, "/open").await.unwrap().into_body();
    let bystander_call = server.calls.recv().await.unwrap();

    let response = get(&client, "/panic").await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "13");
    let mut response = get(&client, "/panic/body").await.unwrap().into_body();
    let (_, trailers) = read(&mut response).await.unwrap();
    assert_eq!(trailers.unwrap()["grpc-status"], "13");

    bystander_call.body.send(Bytes::from_static(b"alive")).await.unwrap();
    assert_eq!(bystander.data().await.unwrap().unwrap(), "alive");
}

#[tokio::test]
async fn a_peer_that_does_not_greet_is_dropped_at_the_clock() {
    let config = Config { greeting_timeout: 80 * MILLI, ..Config::default() };
    for sent in [&b""[..], b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0"] {
        let server = Server::start(config.clone());
        let mut socket = server.connect().await;
        socket.write_all(sent).await.unwrap();
        let mut received = Vec::new();
        // It gets our SETTINGS, perhaps, and then the end; a reset is one too.
        match timeout(LIMIT, socket.read_to_end(&mut received)).await.expect("dropped in time") {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        server.ended("greeting_timeout").await;
        assert!(server.metrics.encode_text().contains("handshakes_failed_total{cause=\"greeting_timeout\"} 1"));
    }
}

#[tokio::test]
async fn trickling_the_greeting_does_not_extend_its_clock() {
    let server = Server::start(Config { greeting_timeout: 100 * MILLI, ..Config::default() });
    let mut socket = server.connect().await;
    let begun = tokio::time::Instant::now();
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        if socket.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(20 * MILLI).await;
    }
    server.ended("greeting_timeout").await;
    assert!(begun.elapsed() < LIMIT);
}

#[tokio::test]
async fn go_away_lets_calls_finish_and_new_ones_go_elsewhere() {
    let mut server = Server::start(Config::default());
    let (client, connection) = server.client(1000).await;
    let mut body = get(&client, "/open").await.unwrap().into_body();
    let call = server.calls.recv().await.unwrap();
    call.transport.go_away();
    let refused = async { while get(&client, "/").await.is_ok() {} };
    timeout(LIMIT, refused).await.expect("GOAWAY arrives");

    call.body.send(Bytes::from_static(b"last words")).await.unwrap();
    drop(call);
    assert_eq!(read(&mut body).await.unwrap().0, b"last words");
    timeout(LIMIT, connection).await.expect("the connection ends").unwrap().unwrap();
    server.ended("goaway").await;
    assert_eq!(server.metrics.transports_active.get(), 0);
}

#[tokio::test]
async fn a_transport_that_does_not_leave_after_go_away_is_cut() {
    let mut server = Server::start(Config { goaway_timeout: 50 * MILLI, ..Config::default() });
    let (client, _connection) = server.client(1000).await;
    let _body = get(&client, "/open").await.unwrap();
    let call = server.calls.recv().await.unwrap();
    call.transport.go_away();
    server.ended("cut").await;
    timeout(LIMIT, call.body.closed()).await.expect("the call is dropped with it");
}

#[tokio::test]
async fn shutdown_closes_the_listener_and_cuts_what_does_not_end() {
    let mut server = Server::start(Config::default());
    let _silent = server.connect().await;
    let (_idle, idle) = server.client(1000).await;
    let (stuck, _connection) = server.client(0).await;
    let _body = get(&stuck, "/open").await.unwrap();
    let call = server.calls.recv().await.unwrap();
    call.body.send(Bytes::from_static(b"stalled")).await.unwrap();
    let unanswered = Request::get("http://test/never").body(()).unwrap();
    let _unanswered = stuck.clone().ready().await.unwrap().send_request(unanswered, true).unwrap();

    server.stop.cancel();
    timeout(LIMIT, idle).await.expect("an idle peer is let go at once").unwrap().unwrap();
    assert_eq!(TcpStream::connect(server.address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    timeout(LIMIT, &mut server.served).await.expect("serving ends").unwrap();
    timeout(LIMIT, call.body.closed()).await.expect("the stalled call is dropped");
    server.ended("cut").await;
    assert_eq!(server.metrics.transports_active.get(), 0);
    timeout(LIMIT, server.lifecycle.ended()).await.expect("every task ends, streams included");
}

#[tokio::test]
async fn shutdown_with_nothing_open_does_not_wait_for_the_grace() {
    let server = Server::start(Config::default());
    let begun = tokio::time::Instant::now();
    server.stop.cancel();
    timeout(LIMIT, server.served).await.unwrap().unwrap();
    assert!(begun.elapsed() < 200 * MILLI);
}

#[tokio::test]
async fn one_transport_too_many_is_turned_away_and_a_freed_place_is_used() {
    let server = Server::start(Config { max_transports: 1, ..Config::default() });
    let (client, connection) = server.client(1000).await;
    assert_eq!(get(&client, "/").await.unwrap().status(), 200);

    server.turns_away("refused").await;

    server.has_room_after(client, connection).await;
}

#[tokio::test]
async fn a_call_whose_client_vanishes_is_dropped() {
    let mut server = Server::start(Config::default());
    let (client, connection) = server.client(1000).await;
    let _body = get(&client, "/open").await.unwrap();
    let call = server.calls.recv().await.unwrap();
    connection.abort();
    timeout(LIMIT, call.body.closed()).await.expect("dropped");
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_given_up() {
    let config = Config { keepalive_interval: 50 * MILLI, keepalive_timeout: 50 * MILLI, ..Config::default() };
    let server = Server::start(config);
    let mut socket = server.connect().await;
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut received = Vec::new();
    drop(timeout(LIMIT, socket.read_to_end(&mut received)).await.expect("closed in time"));
    server.ended("keepalive_timeout").await;
}
