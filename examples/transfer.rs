//! A file through a topic, with both ends free to die at any moment: run the same command again and it goes on. The
//! receiver holds the sender back, so that a file of any size passes through a history of a few megabytes. Beside
//! `bowline serve --config examples/bowline.toml`:
//!
//! ```text
//! cargo run --example transfer -- receive transfer.movie copy.mkv    place kept in copy.mkv.place
//! cargo run --example transfer -- send movie.mkv transfer.movie      a topic for each file
//! ```
//!
//! SIGUSR1 pauses the receiver, and another one lets it go on. `BOWLINE_SERVER` says where the server is.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is what the program is for")]

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Read as _,
    os::unix::fs::FileExt as _,
};

use anyhow::{Context as _, bail, ensure};
use aws_lc_rs::digest;
use bowline::client::{Client, Cursor, Error, GapReason, Item, Mirror, NewEvent, Open, Start};
use futures_util::{StreamExt as _, stream::FuturesOrdered};
use tokio::signal::unix::{SignalKind, signal};

/// A little under 64 KiB: with what the server adds to it, a chunk still fits the 64 KiB that an allocator hands out in one
/// piece; the next larger piece would waste a fifth of the history's memory.
const CHUNK: u64 = 60 * 1024;
/// Chunks on their way; below the rule's `max_lag`, so that holding back is the exception.
const WINDOW: usize = 16;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("BOWLINE_SERVER").unwrap_or_else(|_| "http://127.0.0.1:50051".to_owned());
    let args: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = args.iter().map(String::as_str).collect();
    let client = Client::builder(url).client_id("transfer").wait_for_server().connect().await?;
    let done = match words[..] {
        ["send", file, topic] => send(&client, file, topic).await,
        ["receive", topic, out] => receive(&client, topic, out).await,
        _ => bail!("say send FILE TOPIC or receive TOPIC OUT"),
    };
    client.close().await;
    done
}

/// Event n of the topic is chunk n of the file, and the one after the last chunk its length and sum. So the topic itself
/// says how far we are: the sender keeps nothing.
async fn send(client: &Client, path: &str, topic: &str) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| path.to_owned())?;
    let (size, sum) = (file.metadata()?.len(), sha256(path)?);
    let last = size.div_ceil(CHUNK);
    let mut people = client.open(Open::presence_of(topic)).await?;
    let mut receivers = Mirror::new();
    let mut session = client.open(Open::topic(topic).session_id(format!("send-{topic}")).publish_only()).await?;
    let Some(Item::Opened(opened)) = session.next().await else { bail!("the session has ended") };
    let mut next = opened.head.offset;
    let mut answers = FuturesOrdered::new();
    while next <= last || !answers.is_empty() {
        // Without a receiver nobody holds us back, and the topic would forget what it has no room for.
        let may_send = next <= last && answers.len() < WINDOW && !receivers.is_empty();
        tokio::select! {
            item = people.next() => drop(receivers.take(&item.context("the session has ended")?)),
            Some(answer) = answers.next(), if !answers.is_empty() => if let Err(error) = answer {
                let Some(head) = head_instead(&error) else { return Err(error.into()) };
                // Those behind it fail in the same way.
                while answers.next().await.is_some() {}
                next = head;
            },
            () = std::future::ready(()), if may_send => {
                let at = next * CHUNK;
                let mut chunk = vec![0; CHUNK.min(size.saturating_sub(at)) as usize];
                file.read_exact_at(&mut chunk, at)?;
                let mut headers = HashMap::from([("at".to_owned(), at.to_string())]);
                if next == last {
                    headers = [("size".to_owned(), size.to_string()), ("sha256".to_owned(), sum.clone())].into();
                }
                // Stored only behind the chunk before it, whoever else sends and whatever the server has forgotten.
                let event = NewEvent { payload: chunk.into(), headers, if_last: Some(next), ..NewEvent::default() };
                answers.push_back(session.publish(event).await?);
                next += 1;
            }
        }
    }
    println!("sent {size} bytes");
    Ok(())
}

/// Where the topic is, if not where we thought: the server was restarted, and has forgotten the file.
fn head_instead(error: &Error) -> Option<u64> {
    let refusal = error.refusal().filter(|refusal| refusal.reason == "WRONG_LAST")?;
    refusal.metadata.get("actual")?.parse().ok()
}

async fn receive(client: &Client, topic: &str, out: &str) -> anyhow::Result<()> {
    let place = format!("{out}.place");
    let start = match fs::read_to_string(&place) {
        Ok(text) => Start::After(text.parse::<Cursor>().context(place.clone())?),
        Err(_) => Start::Earliest,
    };
    // `required`: publishers wait for what we have not acknowledged. `presence`: the sender sees that we are there.
    let open = Open::topic(topic).session_id(format!("receive-{topic}")).start(start).read_only();
    // At most 1 MiB is sent ahead of what we have written.
    let mut session = client.open(open.required().presence("").credit(1000, 1024 * 1024)).await?;
    let file = File::options().write(true).create(true).truncate(false).open(out)?;
    let (mut toggled, mut paused) = (signal(SignalKind::user_defined1())?, false);
    loop {
        let item = tokio::select! {
            Some(()) = toggled.recv() => {
                paused = !paused;
                eprintln!("{}", if paused { "paused" } else { "going on" });
                if paused { session.pause().await? } else { session.resume().await? }
                continue;
            }
            item = session.next() => item,
        };
        match item {
            Some(Item::Event(received)) => {
                let headers = &received.event.headers;
                if let (Some(size), Some(sum)) = (headers.get("size"), headers.get("sha256")) {
                    file.set_len(size.parse()?)?;
                    ensure!(sha256(out)? == *sum, "{out} is not what was sent");
                    session.ack(received.cursor);
                    fs::remove_file(&place)?;
                    println!("received {size} bytes, sha256 {sum}");
                    return Ok(());
                }
                // Killed in between, we write the same to the same place again.
                file.write_all_at(&received.event.payload, headers.get("at").context("no place")?.parse()?)?;
                fs::write(format!("{place}.new"), received.cursor.to_string())?;
                fs::rename(format!("{place}.new"), &place)?;
                session.ack(received.cursor);
            }
            // The server was restarted: the sender begins anew, and so do we.
            Some(Item::Gap(gap)) if gap.reason == GapReason::Epoch => eprintln!("beginning anew"),
            Some(Item::Gap(gap)) => bail!("chunks {} to {} are lost", gap.from.offset, gap.to.offset),
            Some(Item::Closed(Some(error))) => return Err(error.into()),
            Some(_) => {}
            None => bail!("the session has ended"),
        }
    }
}

fn sha256(path: &str) -> anyhow::Result<String> {
    let (mut file, mut buffer) = (File::open(path)?, vec![0; 1024 * 1024]);
    let mut sum = digest::Context::new(&digest::SHA256);
    while let length @ 1.. = file.read(&mut buffer)? {
        sum.update(&buffer[..length]);
    }
    Ok(sum.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}
