//! Probes of the admin port, while the server rests and while clients take all the CPU they can get.

use std::{net::SocketAddr, thread, time::Duration};

use bowline::proto::v1::{NewEvent, OpenSession};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime,
    task::JoinSet,
    time::{Instant, interval, timeout},
};

use crate::{
    admin::Admin,
    duration, quantile, serve,
    talker::{BackEnd, Talker},
};

const READERS: usize = 4;
const PUBLISHERS: usize = 4;
const PROBE_EVERY: Duration = Duration::from_millis(5);
/// Where a kubelet's patience ends, by default. What is aimed at, 1 ms at rest and 100 ms under load, is printed: how long
/// a thread waits for a core is for the machine to say.
const LONGEST: Duration = Duration::from_secs(1);
const REQUEST: &[u8] = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// How long each probe took, microseconds, sorted. On a thread of its own: what waits here is not to count.
fn probe(admin: SocketAddr, whole: Duration) -> thread::JoinHandle<Vec<u64>> {
    thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut socket = TcpStream::connect(admin).await.unwrap();
            socket.set_nodelay(true).unwrap();
            let (mut waits, mut ticks, begun) = (Vec::new(), interval(PROBE_EVERY), Instant::now());
            while begun.elapsed() < whole {
                ticks.tick().await;
                let asked = Instant::now();
                timeout(LONGEST, answered(&mut socket)).await.expect("a probe is answered in time");
                waits.push(u64::try_from(asked.elapsed().as_micros()).unwrap());
            }
            waits.sort_unstable();
            waits
        })
    })
}

async fn answered(socket: &mut TcpStream) {
    socket.write_all(REQUEST).await.unwrap();
    let (mut answer, mut piece) = (Vec::new(), [0; 1024]);
    while !answer.ends_with(b"\r\n\r\nok\n") {
        let length = socket.read(&mut piece).await.unwrap();
        assert!(length > 0 && answer.len() < 4096, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&piece[..length]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
}

async fn joined(probing: thread::JoinHandle<Vec<u64>>) -> Vec<u64> {
    tokio::task::spawn_blocking(move || probing.join().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_are_answered_while_clients_take_all_the_cpu_there_is() {
    let server = serve(&[]);
    let (admin, address) = (Admin::of(&server), server.admin.unwrap());
    let at_rest = joined(probe(address, duration())).await;

    let mut clients = JoinSet::new();
    for number in 0..READERS {
        let mut client = Talker::connect(&server, &format!("reader-{number}")).await;
        client.open(OpenSession { session: 1, topic: "flood".to_owned(), ..OpenSession::default() }).await;
        clients.spawn(async move {
            loop {
                client.frame().await;
            }
        });
    }
    for _ in 0..PUBLISHERS {
        let mut back_end = BackEnd::connect(&server).await;
        let events = vec![NewEvent { payload: vec![7; 64].into(), ..NewEvent::default() }; 100];
        clients.spawn(async move {
            loop {
                back_end.publish("flood", events.clone()).await;
            }
        });
    }
    let (cpu, begun) = (admin.metric("process_cpu_seconds_total"), Instant::now());
    let loaded = joined(probe(address, duration())).await;
    let cores = (admin.metric("process_cpu_seconds_total") - cpu) / begun.elapsed().as_secs_f64();
    assert!(admin.metric("bowline_events_delivered_total") > 1000.0, "there was no load");
    clients.shutdown().await;
    let line = |waits: &[u64]| {
        let [half, most] = [0.5, 0.99].map(|share| quantile(waits, share));
        format!("{} probes, p50 {half} µs, p99 {most} µs, longest {} µs", waits.len(), waits.last().unwrap())
    };
    println!("at rest: {}; with {cores:.2} cores taken by clients: {}", line(&at_rest), line(&loaded));
}
