//! What a peer may not do, and what becomes of it: from bare frames.

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
/// `POST http:/never`.
const CALL: &[u8] = b"\x83\x86\x04\x06/never";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Sends all of this behind a preface; the frames that come back until the end, as kind and payload.
async fn answers(server: &Server, frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<(u8, Vec<u8>)> {
    let mut socket = server.connect().await;
    let all: Vec<u8> = [PREFACE.to_vec()].into_iter().chain(frames).flatten().collect();
    let (mut reading, mut writing) = socket.split();
    let mut received = Vec::new();
    let writes = async { writing.write_all(&all).await.expect("read to the end, so that nothing is reset") };
    let reads = async { reading.read_to_end(&mut received).await.expect("the end, no reset") };
    timeout(LIMIT, async { tokio::join!(writes, reads) }).await.expect("closed in time");
    let (mut rest, mut frames) = (&received[..], Vec::new());
    while let [a, b, c, kind, ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        frames.push((*kind, rest[9..9 + length].to_vec()));
        rest = &rest[9 + length..];
    }
    frames
}

/// The last thing said is GOAWAY with ENHANCE_YOUR_CALM and this.
fn calmed(frames: &[(u8, Vec<u8>)], why: &str) {
    let (kind, payload) = frames.last().unwrap();
    assert_eq!((*kind, &payload[4..8], &payload[8..]), (GOAWAY, &[0, 0, 0, 11][..], why.as_bytes()));
}

#[tokio::test]
async fn too_many_pings_end_a_transport_with_the_word_clients_know() {
    let server = Server::start(Config::default());
    let pings = std::iter::repeat_n(frame(PING, 0, 0, b"12345678"), 1000);
    let frames = answers(&server, pings).await;
    calmed(&frames, "too_many_pings");
    assert!(frames.iter().filter(|(kind, _)| *kind == PING).count() <= 4);
    server.ended("too_many_pings").await;
    assert_eq!(server.metrics.transports_active.get(), 0);
}

#[tokio::test]
async fn streams_opened_and_reset_without_end_end_a_transport() {
    let server = Server::start(Config::default());
    let pair = |n: u32| [frame(HEADERS, 4, 2 * n + 1, CALL), frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])].concat();
    calmed(&answers(&server, (0..10_000).map(pair)).await, "too_many_resets");
}

#[tokio::test]
async fn streams_that_we_have_to_reset_count_as_well() {
    let server = Server::start(Config::default());
    let overflow = (u32::MAX >> 1).to_be_bytes();
    let pair = |n: u32| [frame(HEADERS, 4, 2 * n + 1, CALL), frame(WINDOW_UPDATE, 0, 2 * n + 1, &overflow)].concat();
    let frames = answers(&server, (0..5000).map(pair)).await;
    calmed(&frames, "too_many_resets");
    let resets = frames.iter().filter(|(kind, _)| *kind == RST_STREAM).count();
    assert!((100..=101).contains(&resets), "{resets}");
}

#[tokio::test]
async fn an_allowance_is_not_had_again_by_reconnecting() {
    let server = Server::start(Config::default());
    let pair = |n: u32| [frame(HEADERS, 4, 2 * n + 1, CALL), frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])].concat();
    calmed(&answers(&server, (0..1000).map(pair)).await, "too_many_resets");
    // A tenth is left to whoever comes from there, and what has been given back meanwhile.
    calmed(&answers(&server, (0..50).map(pair)).await, "too_many_resets");

    let config = Config::default();
    let guard = GuardConfig { scores_per_address: false, ..config.guard };
    let server = Server::start(Config { guard, ..config });
    calmed(&answers(&server, (0..1000).map(pair)).await, "too_many_resets");
    let goodbye = frame(GOAWAY, 0, 0, &[0; 8]);
    let frames = answers(&server, (0..50).map(pair).chain([goodbye])).await;
    assert!(frames.iter().all(|(kind, payload)| *kind != GOAWAY || payload[4..8] == [0; 4]), "{frames:?}");
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_cut() {
    let mut server = Server::start(Config { write_timeout: 200 * MILLI, ..Config::default() });
    let socket = narrow(&server).await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 24).initial_connection_window_size(1 << 24);
    let (client, mut connection) = builder.handshake::<_, Bytes>(socket).await.unwrap();
    let opened = tokio::select! {
        _ = &mut connection => panic!("it ended"),
        opened = get(&client, "/open") => opened.unwrap(),
    };
    let call = server.calls.recv().await.unwrap();
    // From here on nobody reads the socket.
    drop(
        server
            .lifecycle
            .tasks()
            .spawn("feed", async move { while call.body.send(vec![1; 9_000].into()).await.is_ok() {} }),
    );
    server.ended("write_stalled").await;
    drop((opened, connection));
}

#[tokio::test]
async fn a_transport_that_is_old_is_told_to_leave_and_so_are_its_calls() {
    let mut server = Server::start(Config { max_age: 100 * MILLI, ..Config::default() });
    let (client, connection) = server.client(1000).await;
    let mut body = get(&client, "/open").await.unwrap().into_body();
    let call = server.calls.recv().await.unwrap();
    timeout(LIMIT, call.transport.retired()).await.expect("its calls hear of it");
    let refused = async { while get(&client, "/").await.is_ok() {} };
    timeout(LIMIT, refused).await.expect("GOAWAY arrives");
    call.body.send(Bytes::from_static(b"last words")).await.unwrap();
    drop(call);
    assert_eq!(read(&mut body).await.unwrap().0, b"last words");
    timeout(LIMIT, connection).await.expect("the connection ends").unwrap().unwrap();
    server.ended("goaway").await;
}

#[tokio::test]
async fn an_address_has_so_many_transports() {
    let server = Server::start(Config { max_transports_per_address: 1, ..Config::default() });
    let (client, connection) = server.client(1000).await;
    server.turns_away("too_many_from_address").await;

    let elsewhere = tokio::net::TcpSocket::new_v4().unwrap();
    elsewhere.bind(([127, 0, 0, 2], 0).into()).unwrap();
    let socket = elsewhere.connect(server.address).await.unwrap();
    let (other, _connection) = server.speak(socket, 1000).await;
    assert_eq!(get(&other, "/").await.unwrap().status(), 200);

    server.has_room_after(client, connection).await;
}

#[tokio::test]
async fn a_request_with_too_many_headers_is_refused_and_the_next_one_is_not() {
    let server = Server::start(Config::default());
    let (client, _connection) = server.client(1000).await;
    for (fields, status) in [(64, 200), (65, 431), (64, 200)] {
        let named = (0..fields).fold(Request::get("http://test/"), |request, n| request.header(format!("x-{n}"), "1"));
        let response = client.clone().ready().await.unwrap().send_request(named.body(()).unwrap(), true).unwrap().0;
        assert_eq!(timeout(LIMIT, response).await.unwrap().unwrap().status(), status, "{fields} fields");
    }
}
