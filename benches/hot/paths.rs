//! The ways that are walked.

use anyhow::{Result, ensure};
use bowline::proto::v1::SessionMode;
use futures_util::future::LocalBoxFuture;

use crate::stand::{Client, Stand};

/// One way of a message.
pub struct Path {
    pub name: &'static str,
    /// How often it is walked in the shorter of two runs.
    pub count: u64,
    /// Messages each time: what the cost is divided by.
    pub each: u64,
    /// Events that must have been delivered each time.
    delivers: u64,
    walk: fn(Stand, u64) -> LocalBoxFuture<'static, Stand>,
}

const READERS: usize = 50;
const BURST: u64 = 8;

/// Publishes in flight.
const WINDOW: u64 = 64;

pub const PATHS: [Path; 6] = [
    Path {
        name: "publish, acknowledged",
        count: 3000,
        each: 1,
        delivers: 0,
        walk: |stand, count| Box::pin(publish(stand, count, 1)),
    },
    Path {
        name: "publish, 64 in flight",
        count: 100,
        each: WINDOW,
        delivers: 0,
        walk: |stand, count| Box::pin(publish(stand, count, WINDOW)),
    },
    Path {
        name: "publish, delivered to itself",
        count: 3000,
        each: 1,
        delivers: 1,
        walk: |stand, count| Box::pin(echo(stand, count)),
    },
    Path {
        name: "delivery, one event to 50 connections",
        count: 300,
        each: READERS as u64,
        delivers: READERS as u64,
        walk: |stand, count| Box::pin(fan_out(stand, count, 1)),
    },
    Path {
        name: "delivery, 8 events to 50 connections",
        count: 100,
        each: READERS as u64 * BURST,
        delivers: READERS as u64 * BURST,
        walk: |stand, count| Box::pin(fan_out(stand, count, BURST)),
    },
    Path {
        name: "a session, opened and closed",
        count: 1000,
        each: 1,
        delivers: 0,
        walk: |stand, count| Box::pin(open_and_close(stand, count)),
    },
];

pub fn find(name: &str) -> Option<&'static Path> {
    PATHS.iter().find(|path| path.name == name)
}

impl Path {
    /// Walks it so often. Everything that was to be delivered must have been.
    pub fn walk(&self, count: u64) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let stand = runtime.block_on(async { (self.walk)(Stand::new(), count).await });
        let delivered = stand.delivered();
        ensure!(delivered == self.delivers * count, "{delivered} events were delivered, not {}", self.delivers * count);
        Ok(())
    }
}

/// So many at a time, the next when the last of them is answered.
async fn publish(stand: Stand, count: u64, window: u64) -> Stand {
    let mut alice = stand.join("alice").await;
    alice.open(1, "t", SessionMode::PublishOnly).await;
    for number in 0..count {
        for event in 1..=window {
            alice.publish(1, number * window + event, true);
        }
        alice.next().await;
    }
    stand
}

async fn echo(stand: Stand, count: u64) -> Stand {
    let mut alice = stand.join("alice").await;
    alice.open(1, "t", SessionMode::Unspecified).await;
    for number in 1..=count {
        alice.publish(1, number, false);
        alice.next().await;
    }
    stand
}

/// So many events at a time, the next when everybody has them.
async fn fan_out(stand: Stand, count: u64, events: u64) -> Stand {
    let mut readers: Vec<Client> = Vec::new();
    for number in 0..READERS {
        let mut reader = stand.join(&format!("reader-{number}")).await;
        reader.open(1, "t", SessionMode::ReadOnly).await;
        readers.push(reader);
    }
    let mut alice = stand.join("alice").await;
    alice.open(1, "t", SessionMode::PublishOnly).await;
    for number in 0..count {
        for event in 1..=events {
            alice.publish(1, number * events + event, event == events);
        }
        alice.next().await;
        for reader in &mut readers {
            reader.next().await;
        }
    }
    stand
}

async fn open_and_close(stand: Stand, count: u64) -> Stand {
    let mut alice = stand.join("alice").await;
    for _ in 0..count {
        alice.open(1, "t", SessionMode::Unspecified).await;
        alice.close(1).await;
    }
    stand
}
