//! `bowline history`.

use clap::Args as ClapArgs;

use super::{
    exit::{Stop, notice},
    json,
    pages::{self, Topics},
    server::ServerArgs,
};
use crate::{
    proto::v1::{self, ReadHistoryRequest},
    types::{Cursor, Timestamp},
};

/// The end of `bowline history --help`.
const EXAMPLES: &str = "\
Examples:
  bowline history prices              everything the server keeps
  bowline history prices --last 10    the newest ten
  bowline history prices --after 5f0c2d9e81a4b763:559 --json

Ends at what is the newest event when it starts. To go on from there:
`bowline sub TOPIC --from CURSOR`.";

/// Print the stored events of a topic, oldest first, and end.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The topic.
    topic: String,
    /// Only the newest N events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "after")]
    last: Option<u32>,
    /// Only events after this one, EPOCH:OFFSET.
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
    /// Print JSON objects, one a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs it.
pub(super) async fn run(args: Args) -> Result<(), Stop> {
    let request = |after, last| ReadHistoryRequest { topic: args.topic.clone(), after, last, limit: pages::SIZE };
    let first = request(args.after.map(wire), args.last.unwrap_or_default());
    let ask = async |topics: &mut Topics, request| topics.read_history(request).await;
    let mut end = None;
    let show = |page: v1::ReadHistoryResponse, text: &mut Vec<u8>| {
        let (next, head) = (page.next.unwrap_or_default(), page.head.unwrap_or_default());
        // What comes while we read is for the next time: otherwise a busy topic would never end.
        let end = *end.get_or_insert(head);
        args.page(&page, end, text);
        let done = next.epoch != end.epoch || next.offset >= end.offset || page.events.is_empty();
        (!done).then(|| request(Some(next), 0))
    };
    pages::print(&args.server, first, ask, show).await
}

fn wire(cursor: Cursor) -> v1::Cursor {
    v1::Cursor { epoch: cursor.epoch, offset: cursor.offset, time_us: cursor.time.0 }
}

impl Args {
    fn page(&self, page: &v1::ReadHistoryResponse, end: v1::Cursor, text: &mut Vec<u8>) {
        let epoch = page.next.unwrap_or_default().epoch;
        // A reader that names no place to begin after has nothing to miss.
        if page.gap && self.after.is_some() {
            if self.json {
                json::line(text, &serde_json::json!({ "gap": {} }));
            } else {
                notice("events before the first one here are gone: the server no longer has them");
            }
        }
        for event in page.events.iter().take_while(|event| event.offset <= end.offset) {
            if self.json {
                let cursor = Cursor { epoch, offset: event.offset, time: Timestamp(event.time_us) };
                json::line(text, &json::EventLine::new(cursor, event));
            } else {
                text.extend_from_slice(&event.payload);
                text.push(b'\n');
            }
        }
    }
}
