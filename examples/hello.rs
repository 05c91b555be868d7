//! The client library in one page: publish an event, wait until it is stored, read the topic until it comes back.
//!
//! Beside a running server: `cargo run --example hello`, or `cargo run --example hello -- http://HOST:PORT`.

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use bowline::client::{Client, Error, Item, NewEvent, Open, Start};
use futures_util::StreamExt as _;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:50051".to_owned());
    let client = Client::builder(url).client_id("hello").connect().await?;
    let mut session = client.open(Open::topic("greetings").session_id("hello-1").start(Start::Last(5))).await?;

    let receipt = session.publish(NewEvent { payload: "hello".into(), ..NewEvent::default() }).await?;
    let stored = receipt.await?;
    println!("stored at {}, {:?}", stored.cursor, stored.durability);

    while let Some(item) = session.next().await {
        match item {
            Item::Event(received) => {
                println!("{} {}", received.cursor, String::from_utf8_lossy(&received.event.payload));
                if received.cursor.offset >= stored.cursor.offset {
                    break;
                }
            }
            Item::Gap(gap) => println!("from {} to {} nothing will come: {:?}", gap.from, gap.to, gap.reason),
            Item::Closed(Some(error)) => return Err(error),
            _ => {}
        }
    }
    client.close().await;
    Ok(())
}
