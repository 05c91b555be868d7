//! A price feed that nobody can fall behind: 560 real prices of five shares are published as fast as they come, and a
//! reader gets the latest of each, so many times a second, with a count of what was left out.
//!
//! Beside a running server: `cargo run --example ticker`, or `cargo run --example ticker -- 2` for two a second.
//! `BOWLINE_SERVER` says where the server is, if not at http://127.0.0.1:50051.

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bowline::client::{Client, DeliveryPolicy, Item, Mirror, NewEvent, Open, Session, Start};
use futures_util::StreamExt as _;

/// The default rules of the server make topics under `state.` keyed.
const TOPIC: &str = "state.ticker";
const PRICES: &str = include_str!("data/stocks.csv");

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("BOWLINE_SERVER").unwrap_or_else(|_| "http://127.0.0.1:50051".to_owned());
    let hertz = std::env::args().nth(1).map_or(Ok(5), |text| text.parse()).context("say a whole number of hertz")?;
    let client = Client::builder(url).client_id("ticker").connect().await?;

    let open = Open::topic(TOPIC).start(Start::Snapshot).read_only();
    let mut session = client.open(open.delivery_policy(DeliveryPolicy::Conflate).max_rate_hz(hertz)).await?;
    let feed = client.open(Open::topic(TOPIC).publish_only()).await?;
    let publishing = publish(&feed);
    tokio::pin!(publishing);

    let mut table = Mirror::new();
    // Where the snapshot ends, where the session is now, and where it will have seen everything.
    let (mut begin, mut place, mut end) = (0, 0, None);
    let (mut delivered, mut skipped) = (0, 0);
    while end.is_none_or(|end| place < end) {
        tokio::select! {
            published = &mut publishing, if end.is_none() => end = Some(published?),
            Some(item) = session.next() => {
                match &item {
                    // Changes count from here. A snapshot comes first, and after a gap.
                    Item::SnapshotEnd(of) => {
                        (begin, place) = (of.offset, of.offset);
                        (delivered, skipped) = (0, 0);
                    }
                    Item::Event(received) if !received.snapshot => {
                        delivered += 1;
                        skipped += received.skipped;
                        place = received.cursor.offset;
                    }
                    Item::Closed(error) => anyhow::bail!("the session ended: {error:?}"),
                    _ => {}
                }
                table.take(&item);
            }
        }
    }

    for symbol in ["AAPL", "AMZN", "GOOG", "IBM", "MSFT"] {
        let shown = table.get(symbol.as_bytes()).with_context(|| format!("no price of {symbol}"))?;
        println!("{}", String::from_utf8_lossy(&shown.payload));
        let last = PRICES.lines().rfind(|line| line.starts_with(symbol));
        ensure!(last.is_some_and(|last| last.as_bytes() == shown.payload), "{symbol} is not at its latest price");
    }
    println!("{delivered} delivered and {skipped} left out of {} changes", place - begin);
    ensure!(delivered + skipped == place - begin, "the count does not add up");
    client.close().await;
    Ok(())
}

/// Publishes every line under its symbol, about 500 a second; returns where the last one is.
async fn publish(feed: &Session) -> anyhow::Result<u64> {
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let mut receipts = Vec::new();
    for line in PRICES.lines() {
        ticks.tick().await;
        let symbol = line.split(',').next().unwrap_or_default();
        let event = NewEvent { key: symbol.into(), payload: line.into(), ..NewEvent::default() };
        receipts.push(feed.publish(event).await?);
    }
    let mut last = 0;
    for receipt in receipts {
        last = receipt.await?.cursor.offset;
    }
    Ok(last)
}
