//! The simulated network: who can reach which replica, over what kind of link, and what goes wrong on it.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use fastrand::Rng;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{sync::mpsc, time::sleep};
use tonic::transport::{Channel, Endpoint};

use super::pipe::{End, Pipe, Shape};
use crate::{
    client::{
        self,
        network::{Dialled, Stream},
    },
    transport::Socket,
};

/// Connections that may wait to be accepted.
const BACKLOG: usize = 64;

/// Bytes that may be on their way to a client that speaks by hand.
const WINDOW: u32 = 4096;

/// What a replica accepts from.
pub(super) type Peers = mpsc::Receiver<(Box<dyn Socket>, SocketAddr)>;

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Network(Arc<Mutex<State>>);

struct State {
    rng: Rng,
    /// Where new connections go; none while no replica can be reached.
    route: Option<usize>,
    replicas: Vec<mpsc::Sender<(Box<dyn Socket>, SocketAddr)>>,
    links: BTreeMap<u64, Link>,
    next: u64,
}

/// A connection that was made.
#[derive(Clone)]
struct Link {
    caller: String,
    replica: usize,
    /// From the client to the replica, and back.
    up: Arc<Pipe>,
    down: Arc<Pipe>,
}

/// Whom a lost connection is lost for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Both hear of it at once.
    Both,
    /// The client hears of it, the server does not: it will find out by its own clocks.
    ClientOnly,
    /// The server hears of it, the client does not.
    ServerOnly,
    /// Nobody hears of it.
    Nobody,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
    Both,
}

impl Link {
    fn pipes(&self, way: Way) -> impl Iterator<Item = &Arc<Pipe>> {
        let (up, down) = (way != Way::Down, way != Way::Up);
        up.then_some(&self.up).into_iter().chain(down.then_some(&self.down))
    }

    fn lose(&self, loss: Loss) {
        self.up.swallow();
        self.down.swallow();
        if matches!(loss, Loss::Both | Loss::ClientOnly) {
            self.up.break_off(false, true);
            self.down.break_off(true, false);
        }
        if matches!(loss, Loss::Both | Loss::ServerOnly) {
            self.up.break_off(true, false);
            self.down.break_off(false, true);
        }
    }
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        let rng = Rng::with_seed(seed);
        Self(Arc::new(Mutex::new(State { rng, route: None, replicas: Vec::new(), links: BTreeMap::new(), next: 0 })))
    }

    /// A place for a replica: its number, and its peers to come.
    pub(super) fn join(&self) -> (usize, Peers) {
        let (sender, peers) = mpsc::channel(BACKLOG);
        let mut state = self.0.lock();
        state.replicas.push(sender);
        (state.replicas.len() - 1, peers)
    }

    /// New connections go to this replica from now on, or nowhere.
    pub(super) fn route(&self, replica: Option<usize>) {
        self.0.lock().route = replica;
    }

    /// Ends all that hangs on a replica, as if its machine had lost power: its clients are told by the next packet.
    pub(super) fn lose_replica(&self, replica: usize) -> usize {
        let links: Vec<_> = self.0.lock().links.values().filter(|link| link.replica == replica).cloned().collect();
        links.iter().for_each(|link| link.lose(Loss::Both));
        links.len()
    }

    /// A connection of `caller` to wherever new ones go.
    pub(super) fn dial(&self, caller: &str) -> Dialled {
        let (network, caller) = (self.clone(), caller.to_owned());
        Box::pin(async move {
            let round_trip = Duration::from_millis(network.0.lock().rng.u64(1..40));
            sleep(round_trip).await;
            let (peers, server, client, peer) = network.link(caller)?;
            peers.try_send((Box::new(server), peer)).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok(TokioIo::new(Box::new(client) as Box<dyn Stream>))
        })
    }

    /// A channel with the smallest windows there are, so that whoever does not read is soon not written to.
    pub(super) async fn channel(&self, caller: &str, patience: Duration) -> Result<Channel, String> {
        let (network, caller) = (self.clone(), caller.to_owned());
        let endpoint = Endpoint::from_static("http://sim")
            .connect_timeout(patience)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(65_535);
        let connector = client::network::Network::new(move || network.dial(&caller));
        endpoint.connect_with_connector(connector).await.map_err(|error| error.to_string())
    }

    #[expect(clippy::type_complexity, reason = "four things that are made together and used at once")]
    fn link(&self, caller: String) -> io::Result<(mpsc::Sender<(Box<dyn Socket>, SocketAddr)>, End, End, SocketAddr)> {
        let mut state = self.0.lock();
        let replica = state.route.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (up, down) = (Pipe::new(state.shape(&caller)), Pipe::new(state.shape(&caller)));
        let (server, client) = (End::new(up.clone(), down.clone()), End::new(down.clone(), up.clone()));
        state.links.retain(|_, link| !(link.up.is_over() && link.down.is_over()));
        state.next += 1;
        let number = state.next;
        state.links.insert(number, Link { caller, replica, up, down });
        let port = u16::try_from(1024 + number % 60_000).unwrap_or(1024);
        Ok((state.replicas[replica].clone(), server, client, (Ipv4Addr::LOCALHOST, port).into()))
    }

    /// Lets the connections of `caller` stand still for a time. How many there were.
    pub(super) fn stall(&self, caller: &str, way: Way, time: Duration) -> usize {
        self.with(caller, |link| link.pipes(way).for_each(|pipe| pipe.hold(time)))
    }

    /// Gives the connections of `caller` another rate.
    pub(super) fn set_rate(&self, caller: &str, rate: u64) -> usize {
        self.with(caller, |link| link.pipes(Way::Both).for_each(|pipe| pipe.set_rate(rate)))
    }

    /// Loses the connections of `caller`.
    pub(super) fn lose(&self, caller: &str, loss: Loss) -> usize {
        self.with(caller, |link| link.lose(loss))
    }

    fn with(&self, caller: &str, act: impl Fn(&Link)) -> usize {
        let over = |link: &Link| link.up.is_over() && link.down.is_over();
        let links: Vec<_> =
            self.0.lock().links.values().filter(|link| link.caller == caller && !over(link)).cloned().collect();
        links.iter().for_each(act);
        links.len()
    }
}

impl State {
    /// Most links are good, some are slow, some are far away. Who looks at the end of a run must not disturb it.
    fn shape(&mut self, caller: &str) -> Shape {
        if caller == "operator" {
            return Shape { latency: Duration::ZERO, rate: 1 << 30, capacity: 64 * 1024 };
        }
        let latency = if self.rng.u8(..8) == 0 { 50..250 } else { 0..20 };
        let rate = if self.rng.u8(..8) == 0 { 20_000 } else { 10_000_000 };
        Shape { latency: Duration::from_millis(self.rng.u64(latency)), rate, capacity: self.rng.usize(2..64) * 1024 }
    }
}
