//! Answers that come word by word, as a language model gives them: a topic for each answer, so that a late joiner reads
//! it from the beginning, a lost connection misses nothing, and nobody works on for an answer nobody listens to.
//!
//! Beside a running server:
//!
//! ```text
//! cargo run --example tokens -- serve               the model, which only says the prompt again
//! cargo run --example tokens -- ask 'to be or not'  prints the topic, then the answer; Ctrl-C cancels it
//! cargo run --example tokens -- join TOPIC          the same answer, from its beginning
//! ```
//!
//! `BOWLINE_SERVER` says where the server is, if not at http://127.0.0.1:50051.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is what the program is for")]

use std::{io::Write as _, time::Duration};

use anyhow::{Context as _, bail};
use bowline::client::{Client, Item, Mirror, NewEvent, Open, Start};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::interval;

const PROMPTS: &str = "prompts";
/// The header of a prompt that names the topic of its answer.
const ANSWER: &str = "answer";
/// The header of an answer's last event that says how it ended.
const END: &str = "end";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("BOWLINE_SERVER").unwrap_or_else(|_| "http://127.0.0.1:50051".to_owned());
    let args: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = args.iter().map(String::as_str).collect();
    let client = Client::builder(url).client_id("tokens").connect().await?;
    let work = async {
        match words[..] {
            ["serve"] => serve(&client).await,
            ["ask", prompt] => ask(&client, prompt).await,
            ["join", topic] => listen(&client, topic).await,
            _ => bail!("say serve, ask PROMPT or join TOPIC"),
        }
    };
    let ended = tokio::select! {
        ended = work => ended,
        stopped = tokio::signal::ctrl_c() => stopped.map_err(Into::into),
    };
    // Closes the sessions, and with them our presence: this is what cancels an answer.
    client.close().await;
    ended
}

async fn ask(client: &Client, prompt: &str) -> anyhow::Result<()> {
    let topic = format!("answers.{:016x}", fastrand::u64(..));
    eprintln!("{topic}");
    // There before the answer is asked for, so that it is never taken for one nobody waits for.
    let session = client.open(Open::topic(&topic).start(Start::Earliest).read_only().presence("")).await?;
    let prompts = client.open(Open::topic(PROMPTS).publish_only()).await?;
    let headers = [(ANSWER.to_owned(), topic)].into();
    let event = NewEvent { payload: prompt.to_owned().into(), headers, ..NewEvent::default() };
    prompts.publish(event).await?.await?;
    print(session).await
}

async fn listen(client: &Client, topic: &str) -> anyhow::Result<()> {
    print(client.open(Open::topic(topic).start(Start::Earliest).read_only().presence("")).await?).await
}

async fn print(mut session: bowline::client::Session) -> anyhow::Result<()> {
    while let Some(item) = session.next().await {
        match item {
            Item::Event(received) => {
                let mut stdout = std::io::stdout();
                stdout.write_all(&received.event.payload)?;
                if let Some(how) = received.event.headers.get(END) {
                    writeln!(stdout)?;
                    eprintln!("{how}");
                    return Ok(());
                }
                stdout.flush()?;
            }
            Item::Gap(gap) => bail!("a part of the answer is lost: {:?}", gap.reason),
            Item::Closed(Some(error)) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

async fn serve(client: &Client) -> anyhow::Result<()> {
    let mut prompts = client.open(Open::topic(PROMPTS).session_id("model").read_only()).await?;
    let mut answers = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(item) = prompts.next() => match item {
                Item::Event(received) => {
                    let topic = received.event.headers.get(ANSWER).context("a prompt without a topic")?.clone();
                    answers.push(answer(client, topic, String::from_utf8_lossy(&received.event.payload).into_owned()));
                }
                Item::Closed(Some(error)) => return Err(error.into()),
                _ => {}
            },
            Some(answered) = answers.next() => println!("{}", answered?),
        }
    }
}

/// Says the prompt again, 20 words a second, for as long as somebody listens; returns how that went.
async fn answer(client: &Client, topic: String, prompt: String) -> anyhow::Result<String> {
    let session = client.open(Open::topic(&topic).publish_only()).await?;
    let mut people = client.open(Open::presence_of(&topic)).await?;
    let mut listeners = Mirror::new();
    let mut words = prompt.split_inclusive(' ');
    let mut pace = interval(Duration::from_millis(50));
    let how = loop {
        tokio::select! {
            Some(item) = people.next() => {
                listeners.take(&item);
                if listeners.is_complete() && listeners.is_empty() {
                    break "cancelled";
                }
            }
            _ = pace.tick() => match words.next() {
                Some(word) => {
                    let event = NewEvent { payload: word.to_owned().into(), ..NewEvent::default() };
                    // Its receipt is not awaited: what is published in a session is stored in order.
                    drop(session.publish(event).await?);
                }
                None => break "done",
            }
        }
    };
    let headers = [(END.to_owned(), how.to_owned())].into();
    session.publish(NewEvent { headers, ..NewEvent::default() }).await?.await?;
    Ok(format!("{topic} {how}"))
}
