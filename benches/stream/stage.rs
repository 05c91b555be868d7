//! Where work is done: by whom, and how they are talked to.

use std::{io, net::SocketAddr, time::Duration};

use futures_util::{FutureExt as _, future::LocalBoxFuture};

use crate::{
    cpu, served,
    talker::{Dialect, Role, Shape},
};

/// Servers that do one work together; mostly it is one.
#[derive(Debug, Clone)]
pub struct Stage {
    /// How they are talked to.
    pub dial: Dial,
    /// Where their clients come.
    pub clients: SocketAddr,
    /// Where their publishers come.
    pub publishers: SocketAddr,
    /// The processes of the servers.
    pub servers: Vec<u32>,
    /// Those of their broker.
    pub brokers: Vec<u32>,
    /// Whether a core is the generator's alone.
    pub has_own_core: bool,
}

impl Stage {
    /// One server, on the other core.
    pub fn alone(dial: Dial, address: SocketAddr, process: u32) -> Self {
        let (servers, brokers) = (vec![process], Vec::new());
        Self { dial, clients: address, publishers: address, servers, brokers, has_own_core: true }
    }

    /// CPU time of its servers so far.
    pub fn used(&self) -> Duration {
        cpu::used_by_all(&self.servers)
    }

    /// Resident memory of its servers, KiB.
    pub fn resident_kib(&self) -> u64 {
        self.servers.iter().map(|process| served::resident_kib(*process)).sum()
    }

    /// Connects somebody, and waits until the server is ready for it.
    pub async fn open(&self, role: Role, topic: &str, shape: Shape) -> io::Result<Box<dyn Dialect>> {
        let address = if role == Role::Publisher { self.publishers } else { self.clients };
        (self.dial)(address, role, topic.to_owned(), shape).await
    }
}

/// How a kind of server is connected to.
pub type Dial = fn(SocketAddr, Role, String, Shape) -> Dialling;
/// A connection on its way.
pub type Dialling = LocalBoxFuture<'static, io::Result<Box<dyn Dialect>>>;

/// Of a kind of client whatever stands for any.
pub fn any<D: Dialect + 'static>(opening: impl Future<Output = io::Result<D>> + 'static) -> Dialling {
    opening.map(|opened| opened.map(|dialect| Box::new(dialect) as Box<dyn Dialect>)).boxed_local()
}
