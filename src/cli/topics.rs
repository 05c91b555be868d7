//! `bowline topics`.

use std::fmt::Write as _;

use clap::Args as ClapArgs;

use super::{exit::Stop, interrupt::Interrupt, json, output::Output, server::ServerArgs};
use crate::{
    proto::v1::{ListTopicsRequest, Topic, topic_service_client::TopicServiceClient},
    types::{Cursor, Timestamp},
};

/// List the topics the server knows, with what they hold.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Only topics whose name begins with this.
    #[arg(default_value = "")]
    prefix: String,
    /// Print JSON objects, one a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs it.
pub(super) async fn run(args: Args) -> Result<(), Stop> {
    let mut interrupt = Interrupt::listen()?;
    interrupt.or(print_all(&args)).await?
}

async fn print_all(args: &Args) -> Result<(), Stop> {
    let mut output = Output::stdout().map_err(|error| Stop::stdout(&error))?;
    let mut topics = TopicServiceClient::new(args.server.channel().await?);
    let mut page_token = String::new();
    loop {
        let request = ListTopicsRequest { prefix: args.prefix.clone(), page_size: 1000, page_token };
        let answer = topics.list_topics(args.server.request(request)?).await;
        let page = answer.map_err(|status| args.server.rpc_stop(&status))?.into_inner();
        let mut text = Vec::new();
        for topic in &page.topics {
            if args.json {
                json::line(&mut text, &object(topic));
            } else {
                text.extend_from_slice(row(topic).as_bytes());
            }
        }
        output.write(&text).map_err(|error| Stop::stdout(&error))?;
        if page.next_page_token.is_empty() {
            return Ok(());
        }
        page_token = page.next_page_token;
    }
}

fn class(topic: &Topic) -> String {
    json::short(topic.class().as_str_name(), "TOPIC_CLASS_").to_ascii_lowercase()
}

fn head(topic: &Topic) -> Cursor {
    let head = topic.head.unwrap_or_default();
    Cursor { epoch: head.epoch, offset: head.offset, time: Timestamp(head.time_us) }
}

fn row(topic: &Topic) -> String {
    let mut row = String::new();
    let Topic { name, event_count, byte_count, reader_count, .. } = topic;
    let size = bytesize::ByteSize(*byte_count);
    let (class, head) = (class(topic), head(topic));
    writeln!(row, "{name:<32} {class:<6} {event_count:>9} events {size:>10} {reader_count:>6} readers  head {head}")
        .ok();
    row
}

fn object(topic: &Topic) -> serde_json::Value {
    serde_json::json!({
        "name": topic.name, "class": class(topic), "head": head(topic).to_string(),
        "first_offset": topic.first_offset, "events": topic.event_count, "bytes": topic.byte_count,
        "readers": topic.reader_count,
    })
}
