//! A chat room: the newest 20 messages, who is there, who comes and goes, and what you type.
//!
//! Beside a running server: `cargo run --example chat -- ROOM NAME` in two terminals; Ctrl-D leaves. `BOWLINE_SERVER`
//! says where the server is, if not at http://127.0.0.1:50051. `bowline chat chat.ROOM --as NAME` joins too.

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use bowline::client::{Change, Client, Item, Mirror, NewEvent, Open, Start};
use futures_util::StreamExt as _;
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("BOWLINE_SERVER").unwrap_or_else(|_| "http://127.0.0.1:50051".to_owned());
    let mut args = std::env::args().skip(1);
    let room = format!("chat.{}", args.next().unwrap_or_else(|| "lobby".to_owned()));
    let name = args.next().unwrap_or_else(|| format!("guest-{}", fastrand::u16(..)));

    let client = Client::builder(url).client_id(name).connect().await?;
    // Who is in a topic is a keyed topic itself. The mirror makes a map of it, which survives reconnects.
    let mut people = client.open(Open::presence_of(&room)).await?;
    let mut here = Mirror::new();
    // With `presence` others see us, for as long as the session lives.
    let mut session = client.open(Open::topic(&room).start(Start::Last(20)).presence("")).await?;
    let mut lines = BufReader::new(stdin()).lines();

    loop {
        tokio::select! {
            Some(item) = people.next() => {
                for change in here.take(&item) {
                    match change {
                        Change::Put { key, .. } => {
                            let member = here.get(&key).map(|event| event.publisher.as_str());
                            println!("* {} is here", member.unwrap_or_default());
                        }
                        Change::Removed { before } => println!("* {} left", before.publisher),
                    }
                }
            }
            Some(item) = session.next() => match item {
                Item::Event(received) => {
                    let text = String::from_utf8_lossy(&received.event.payload);
                    println!("{}: {text}", received.event.publisher);
                }
                Item::Gap(gap) => println!("* messages are missing here: {:?}", gap.reason),
                Item::Closed(Some(error)) => return Err(error.into()),
                _ => {}
            },
            line = lines.next_line() => {
                let Some(line) = line? else { break };
                let receipt = session.publish(NewEvent { payload: line.into(), ..NewEvent::default() }).await?;
                // Until the server has stored it. A program with more to say collects its receipts instead.
                receipt.await?;
            }
        }
    }
    client.close().await;
    Ok(())
}
