//! A load balancer for TCP as a cluster has one: it learns late who is ready and who is to be deleted, and takes any of
//! the others for each new connection.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use bowline::lifecycle::Tasks;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

/// How late it learns of anything.
pub const LAG: Duration = Duration::from_millis(700);
/// How often it asks a server whether it is ready.
const POLL: Duration = Duration::from_millis(200);

/// Balances for as long as it lives.
#[derive(Clone)]
pub struct Balancer {
    address: SocketAddr,
    tasks: Tasks,
    /// By where they serve; whether they were ready when last heard of.
    servers: Arc<Mutex<BTreeMap<SocketAddr, bool>>>,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
}

/// A connection that was carried to a server.
#[derive(Clone, Copy)]
pub struct Arrival {
    pub at: Instant,
    pub server: SocketAddr,
}

impl Balancer {
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tasks, servers, arrivals) = (Tasks::default(), Arc::default(), Arc::default());
        let balancer = Self { address, tasks, servers, arrivals };
        balancer.tasks.spawn_until_stopped("balancer", balancer.clone().accept(listener));
        balancer
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// There is another server. It gets connections once it is ready, and that is known.
    pub fn add(&self, server: SocketAddr, admin: SocketAddr) {
        self.servers.lock().insert(server, false);
        let this = self.clone();
        self.tasks.spawn_until_stopped("readiness", async move { this.follow(server, admin).await });
    }

    /// A server is to be deleted. Known late, as everything.
    pub async fn forget(&self, server: SocketAddr) {
        sleep(LAG).await;
        self.servers.lock().remove(&server);
    }

    /// Waits until a server is known to be ready.
    pub async fn knows(&self, server: SocketAddr) {
        let known = timeout(Duration::from_secs(30), async {
            while self.servers.lock().get(&server) != Some(&true) {
                sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(known.await.is_ok(), "{server} did not become ready");
    }

    /// Connections carried since then.
    pub fn arrivals(&self, since: Instant) -> Vec<Arrival> {
        self.arrivals.lock().iter().filter(|arrival| arrival.at >= since).copied().collect()
    }

    /// What is found now is believed a little later, until the server is not known any more.
    async fn follow(&self, server: SocketAddr, admin: SocketAddr) {
        loop {
            let found = is_ready(admin).await;
            let this = self.clone();
            self.tasks.spawn_until_stopped("news", async move {
                sleep(LAG).await;
                if let Some(ready) = this.servers.lock().get_mut(&server) {
                    *ready = found;
                }
            });
            sleep(POLL).await;
            if !self.servers.lock().contains_key(&server) {
                return;
            }
        }
    }

    fn pick(&self) -> Option<SocketAddr> {
        let servers = self.servers.lock();
        let ready: Vec<_> = servers.iter().filter(|(_, ready)| **ready).map(|(server, _)| *server).collect();
        (!ready.is_empty()).then(|| ready[fastrand::usize(..ready.len())])
    }

    async fn accept(self, listener: TcpListener) {
        loop {
            let Ok((client, _)) = listener.accept().await else { continue };
            // Nobody to take it: the client finds that out by the end of its socket.
            let Some(server) = self.pick() else { continue };
            self.arrivals.lock().push(Arrival { at: Instant::now(), server });
            self.tasks.spawn_until_stopped("carry", carry(client, server));
        }
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    // How it ends is the business of both ends.
    copy_bidirectional(&mut client, &mut server).await.ok();
}

async fn is_ready(admin: SocketAddr) -> bool {
    let asked = async {
        let mut socket = TcpStream::connect(admin).await?;
        socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: balancer\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with("HTTP/1.1 200"))
    };
    matches!(timeout(Duration::from_secs(2), asked).await, Ok(Ok(true)))
}
