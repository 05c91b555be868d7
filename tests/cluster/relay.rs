//! A way from one process to another that can be stalled, each direction by itself, as a network that swallows packets
//! does it.

use std::net::SocketAddr;

use bowline::lifecycle::Tasks;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// Carries for as long as the process lives.
#[derive(Clone)]
pub struct Relay {
    address: SocketAddr,
    /// Where it leads, once that is known.
    target: watch::Sender<Option<SocketAddr>>,
    /// Whether what is said there, and back, goes no further.
    there: watch::Sender<bool>,
    back: watch::Sender<bool>,
}

impl Relay {
    pub async fn open(tasks: &Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let relay = Self {
            address,
            target: watch::Sender::default(),
            there: watch::Sender::default(),
            back: watch::Sender::default(),
        };
        let (this, carrying) = (relay.clone(), tasks.clone());
        tasks.spawn_until_stopped("relay", async move {
            while let Ok((socket, _)) = listener.accept().await {
                let this = this.clone();
                carrying.spawn_until_stopped("carry", async move { this.carry(socket).await.unwrap_or_default() });
            }
        });
        relay
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(Some(target));
    }

    /// What is said waits, also what opens and what ends a connection, until it is not stalled any more.
    pub fn stall(&self, there: bool, back: bool) {
        self.there.send_replace(there);
        self.back.send_replace(back);
    }

    /// Until one side ends; none if there was no other.
    async fn carry(&self, near: TcpStream) -> Option<()> {
        let target = (*self.target.subscribe().wait_for(Option::is_some).await.ok()?)?;
        let (mut there, back) = (self.there.subscribe(), self.back.subscribe());
        there.wait_for(|stalled| !stalled).await.ok()?;
        let far = TcpStream::connect(target).await.ok()?;
        near.set_nodelay(true).ok()?;
        far.set_nodelay(true).ok()?;
        let ((near_reads, near_writes), (far_reads, far_writes)) = (near.into_split(), far.into_split());
        tokio::select! {
            () = pass(near_reads, far_writes, there) => {}
            () = pass(far_reads, near_writes, back) => {}
        }
        Some(())
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut stalled: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let goes_on = stalled.wait_for(|stalled| !stalled).await.is_ok();
        if !goes_on || read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
