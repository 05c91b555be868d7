//! `bowline topics`.

use std::fmt::Write as _;

use clap::Args as ClapArgs;

use super::{
    exit::Stop,
    json,
    pages::{self, Topics},
    server::ServerArgs,
};
use crate::{
    proto::v1::{ListTopicsRequest, ListTopicsResponse, Topic},
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
    let first = args.after(String::new());
    let ask = async |topics: &mut Topics, request| topics.list_topics(request).await;
    let show = |page: ListTopicsResponse, text: &mut Vec<u8>| {
        for topic in &page.topics {
            if args.json {
                json::line(text, &object(topic));
            } else {
                text.extend_from_slice(row(topic).as_bytes());
            }
        }
        (!page.next_page_token.is_empty()).then(|| args.after(page.next_page_token))
    };
    pages::print(&args.server, first, ask, show).await
}

impl Args {
    fn after(&self, page_token: String) -> ListTopicsRequest {
        ListTopicsRequest { prefix: self.prefix.clone(), page_size: pages::SIZE, page_token }
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
