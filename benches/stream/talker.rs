//! A client of any of the servers: sends numbered messages, and says which numbers came back, checking order on the way.

use std::io;

use futures_util::future::try_join_all;
use tokio_rustls::TlsConnector;

use crate::{socket::Socket, stage::Stage};

/// Bytes of a message's content; its number stands in the first eight.
pub const PAYLOAD: usize = 64;

/// What a talker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Gets back what it sends.
    Echo,
    /// Gets an acknowledgement for what it sends.
    Publisher,
    /// Gets what a publisher of the topic sends.
    Subscriber,
}

/// How much there is on one connection.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Calls; of a server that knows none, as many subscriptions.
    pub streams: usize,
    /// Sessions in each of them. A server that knows none has as many streams instead.
    pub sessions: usize,
    /// Whether the kernel takes little for it that it does not read.
    pub small: bool,
    /// Whom it trusts, if it speaks TLS.
    pub tls: Option<fn() -> &'static TlsConnector>,
}

impl Shape {
    /// One of everything.
    pub const ONE: Self = Self { streams: 1, sessions: 1, small: false, tls: None };

    /// How many there are that receive.
    pub fn receivers(self) -> usize {
        self.streams * self.sessions
    }
}

/// How one kind of server is talked to.
pub trait Dialect {
    /// What carries it.
    fn socket(&mut self) -> &mut Socket;
    /// Queues the message of this number.
    fn queue(&mut self, number: u64);
    /// Takes one message that has been read, if there is one.
    fn take(&mut self, numbers: &mut Numbers) -> io::Result<bool>;
}

/// Which numbers have come.
pub struct Numbers {
    /// The newest that each receiver has.
    newest: Vec<u64>,
    /// All that all of them have.
    count: u64,
}

impl Numbers {
    /// Of so many receivers, none of which has anything.
    pub fn new(receivers: usize) -> Self {
        Self { newest: vec![0; receivers], count: 0 }
    }

    /// How many all of them have.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// A receiver has a message of this content. Numbers rise by one: nothing was lost, doubled or reordered.
    pub fn take(&mut self, receiver: usize, content: &[u8]) -> io::Result<()> {
        let number = content.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let newest = &mut self.newest[receiver];
        if number != *newest + 1 {
            return Err(io::Error::other(format!("{number} came after {newest}")));
        }
        *newest = number;
        self.count += 1;
        Ok(())
    }
}

/// The content of the message of this number.
pub fn content(number: u64) -> [u8; PAYLOAD] {
    let mut content = [0; PAYLOAD];
    content[..8].copy_from_slice(&number.to_le_bytes());
    content
}

/// One client on one connection.
pub struct Talker {
    dialect: Box<dyn Dialect>,
    sent: u64,
    numbers: Numbers,
}

impl Talker {
    /// Connects, and waits until the server is ready for it. Each session of a publisher has a topic of its own, if it
    /// has several.
    pub async fn open(stage: &Stage, role: Role, topic: &str, shape: Shape) -> io::Result<Self> {
        let dialect = stage.open(role, topic, shape).await?;
        Ok(Self { dialect, sent: 0, numbers: Numbers::new(shape.receivers()) })
    }

    /// Opens so many; some at once, as the backlog of a server allows.
    pub async fn open_all(stage: &Stage, role: Role, topic: &str, shape: Shape, count: usize) -> io::Result<Vec<Self>> {
        const AT_ONCE: usize = 64;
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            let batch = (count - all.len()).min(AT_ONCE);
            all.extend(try_join_all((0..batch).map(|_| Self::open(stage, role, topic, shape))).await?);
        }
        Ok(all)
    }

    /// Queues the next number.
    pub fn send(&mut self) {
        self.sent += 1;
        self.dialect.queue(self.sent);
    }

    /// Writes what is queued, and waits until something has come: how many numbers.
    pub async fn receive(&mut self) -> io::Result<u64> {
        let before = self.numbers.count;
        loop {
            while self.dialect.take(&mut self.numbers)? {}
            if self.numbers.count > before {
                return Ok(self.numbers.count - before);
            }
            self.dialect.socket().read().await?;
        }
    }

    /// How many numbers have come in all: where there is one receiver, the newest of them.
    pub fn seen(&self) -> u64 {
        self.numbers.count
    }
}
