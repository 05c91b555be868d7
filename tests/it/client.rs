//! The client library against the real server, over a network that breaks.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bowline::{
    app::App,
    client::{Backoff, Client, ErrorKind, Item, NewEvent, Open, Session, Start},
    config::{self, Flag, Sources},
    telemetry::metrics::Metrics,
};
use futures_util::StreamExt;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

const LIMIT: Duration = Duration::from_secs(60);

fn start() -> App {
    start_with(&[("transport.listen", "127.0.0.1:0")])
}

fn start_with(settings: &[(&str, &str)]) -> App {
    let always = [("admin.enabled", "false"), ("drain.deadline", "1s")];
    let flag = |(key, value): &(&str, &str)| Flag { name: "--set".into(), key: (*key).into(), value: (*value).into() };
    let sources = Sources { flags: always.iter().chain(settings).map(flag).collect(), ..Sources::default() };
    App::start(&config::load(&sources).unwrap(), Arc::new(Metrics::new())).unwrap()
}

fn client(address: SocketAddr) -> bowline::client::Builder {
    let backoff = Backoff { first: Duration::from_millis(5), max: Duration::from_millis(20), ..Backoff::default() };
    Client::builder(format!("http://{address}")).backoff(backoff).wait_for_server()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("takes too long")
}

async fn leave(app: App) {
    within(app.leave(std::future::pending())).await;
}

fn numbered(n: u64) -> NewEvent {
    NewEvent { payload: n.to_string().into(), ..NewEvent::default() }
}

/// A network whose every connection can be cut at once.
struct Network {
    address: SocketAddr,
    cut: watch::Sender<u64>,
    _tasks: JoinSet<()>,
}

impl Network {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = watch::Sender::new(0);
        let watched = cut.subscribe();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut pipes = JoinSet::new();
            loop {
                let (mut inside, _) = listener.accept().await.unwrap();
                let mut watched = watched.clone();
                watched.mark_unchanged();
                pipes.spawn(async move {
                    let mut outside = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut inside, &mut outside) => {}
                        _ = watched.changed() => {}
                    }
                });
            }
        });
        Self { address, cut, _tasks: tasks }
    }

    fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

async fn read(session: &mut Session, count: u64) -> (Vec<u64>, u64) {
    let (mut numbers, mut opens) = (Vec::new(), 0);
    while (numbers.len() as u64) < count {
        match within(session.next()).await.expect("the session goes on") {
            Item::Event(received) => {
                numbers.push(std::str::from_utf8(&received.event.payload).unwrap().parse().unwrap());
                session.ack(received.cursor.offset);
            }
            Item::Opened(_) => opens += 1,
            other => panic!("{other:?}"),
        }
    }
    (numbers, opens)
}

/// Publishes 1 to `count`, with some among them that must fail and leave no trace.
async fn publish_all(publisher: Session, count: u64) {
    let mut receipts = Vec::new();
    for n in 1..=count {
        receipts.push(within(publisher.publish(numbered(n))).await.unwrap());
        if fastrand::u8(..) < 8 {
            // One that must fail, among them.
            let refused = NewEvent { if_last: Some(u64::MAX), ..numbered(0) };
            let receipt = within(publisher.publish(refused)).await.unwrap();
            if fastrand::bool() {
                within(receipt).await.unwrap_err();
            }
        }
    }
    let mut last = 0;
    for receipt in receipts {
        let offset = within(receipt).await.unwrap().cursor.offset;
        assert!(offset > last);
        last = offset;
    }
    publisher.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_over_a_network_that_keeps_breaking() {
    const COUNT: u64 = 10_000;
    let app = start();
    let network = Network::to(app.address()).await;
    let writer = within(client(network.address).client_id("w").connect()).await.unwrap();
    let reader = within(client(network.address).client_id("r").connect()).await.unwrap();
    let publisher = within(writer.open(Open::topic("prices").publish_only())).await.unwrap();
    let mut session = within(reader.open(Open::topic("prices").start(Start::Earliest).credit(64, 4096))).await.unwrap();

    let breaking = async {
        for _ in 0..40 {
            sleep(Duration::from_millis(fastrand::u64(1..60))).await;
            network.cut();
        }
    };
    let ((numbers, opens), (), ()) = tokio::join!(read(&mut session, COUNT), publish_all(publisher, COUNT), breaking);
    assert_eq!(numbers, (1..=COUNT).collect::<Vec<_>>());
    assert!(opens > 3, "the network did break");
    drop((network, writer, reader, session));
    leave(app).await;
}

#[tokio::test]
async fn a_failed_publish_does_not_spoil_those_behind_it() {
    let app = start();
    let client = client(app.address()).connect().await.unwrap();
    let session = client.open(Open::topic("prices").start(Start::Earliest)).await.unwrap();
    let mut receipts = Vec::new();
    for n in 1..=20 {
        let event = if n % 5 == 0 { NewEvent { if_last: Some(99_999), ..numbered(n) } } else { numbered(n) };
        receipts.push(session.publish(event).await.unwrap());
    }
    let mut failed = Vec::new();
    for (n, receipt) in (1..).zip(receipts) {
        if let Err(error) = within(receipt).await {
            assert_eq!((error.kind(), error.reason()), (ErrorKind::PublishFailed, Some("WRONG_LAST")));
            failed.push(n);
        }
    }
    assert_eq!(failed, [5, 10, 15, 20]);
    let mut session = session;
    let (numbers, _) = read(&mut session, 16).await;
    assert_eq!(numbers, (1..=20).filter(|n| n % 5 != 0).collect::<Vec<_>>());
    session.close().await.unwrap();
    drop(client);
    leave(app).await;
}

#[tokio::test]
async fn a_second_open_takes_the_session_over_and_numbers_on_from_it() {
    let app = start();
    let first = client(app.address()).client_id("a").connect().await.unwrap();
    let second = client(app.address()).client_id("a").connect().await.unwrap();
    let named = || Open::topic("prices").session_id("s").start(Start::Acked);
    let mut held = first.open(named()).await.unwrap();
    held.publish(numbered(1)).await.unwrap().await.unwrap();
    held.publish(numbered(2)).await.unwrap().await.unwrap();
    held.ack(1);
    let mut taken = second.open(named()).await.unwrap();
    loop {
        if let Item::Closed(error) = within(held.next()).await.unwrap() {
            assert_eq!(error.unwrap().reason(), Some("TAKEN_OVER"));
            break;
        }
    }
    let published = taken.publish(numbered(3)).await.unwrap().await.unwrap();
    assert!(!published.duplicate);
    match within(taken.next()).await.unwrap() {
        Item::Opened(opened) => assert_eq!((opened.attach, opened.published_seq), (2, 2)),
        other => panic!("{other:?}"),
    }
    taken.detach().await.unwrap();
    drop((first, second, held));
    leave(app).await;
}

#[tokio::test]
async fn history_ends_by_itself_and_pause_holds() {
    let app = start();
    let client = client(app.address()).connect().await.unwrap();
    let mut session = client.open(Open::topic("prices")).await.unwrap();
    for n in 1..=100 {
        drop(session.publish(numbered(n)).await.unwrap());
    }
    session.publish(numbered(101)).await.unwrap().await.unwrap();
    session.pause().await.unwrap();
    let at = session.cursor().unwrap().offset;
    session.publish(numbered(102)).await.unwrap().await.unwrap();
    assert_eq!(session.cursor().unwrap().offset, at);
    session.resume().await.unwrap();
    let (numbers, _) = read(&mut session, 102).await;
    assert_eq!(numbers.len(), 102);
    let mut history = client.open(Open::topic("prices").start(Start::Last(10)).no_follow().read_only()).await.unwrap();
    let mut count = 0;
    loop {
        match within(history.next()).await.unwrap() {
            Item::Event(_) => count += 1,
            Item::Closed(None) => break,
            _ => {}
        }
    }
    assert_eq!(count, 10);
    drop((client, session, history));
    leave(app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_is_another_log_and_that_is_said() {
    let app = start();
    let address = app.address();
    let client = client(address).connect().await.unwrap();
    let mut session = client.open(Open::topic("prices").start(Start::Earliest)).await.unwrap();
    for n in 1..=3 {
        session.publish(numbered(n)).await.unwrap().await.unwrap();
    }
    read(&mut session, 3).await;
    leave(app).await;
    let receipts = vec![session.publish(numbered(4)).await.unwrap(), session.publish(numbered(5)).await.unwrap()];
    let app = start_with(&[("transport.listen", &address.to_string())]);
    for receipt in receipts {
        within(receipt).await.unwrap();
    }
    let mut said = Vec::new();
    loop {
        match within(session.next()).await.unwrap() {
            Item::Opened(opened) => said.push(format!("{:?}", opened.recovery)),
            Item::Gap(gap) => said.push(format!("{:?}", gap.reason)),
            Item::Event(received) => {
                said.push(String::from_utf8(received.event.payload.into()).unwrap());
                if said.last().unwrap() == "5" {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(said, ["Partial", "Epoch", "4", "5"]);
    drop((client, session));
    leave(app).await;
}

#[tokio::test]
async fn tls_is_trusted_by_the_authority_file_alone() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (cert, private) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&cert, key.cert.pem()).unwrap();
    std::fs::write(&private, key.signing_key.serialize_pem()).unwrap();
    let app = start_with(&[
        ("transport.listen", "127.0.0.1:0"),
        ("transport.tls.enabled", "true"),
        ("transport.tls.cert_file", cert.to_str().unwrap()),
        ("transport.tls.key_file", private.to_str().unwrap()),
    ]);
    let url = format!("https://127.0.0.1:{}", app.address().port());
    let stranger = within(Client::builder(&url).tls_name("localhost").connect()).await.unwrap_err();
    assert_eq!(stranger.kind(), ErrorKind::Connect);
    let client = within(Client::builder(&url).tls_name("localhost").tls_ca_file(&cert).connect()).await.unwrap();
    let session = client.open(Open::topic("prices")).await.unwrap();
    session.publish(numbered(1)).await.unwrap().await.unwrap();
    drop((client, session));
    leave(app).await;
}
