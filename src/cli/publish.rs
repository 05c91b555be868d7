//! `bowline pub`.

mod publishing;

use std::{num::NonZeroUsize, path::PathBuf, pin::Pin, time::Duration};

use bytes::Bytes;
use clap::Args as ClapArgs;
use futures_util::StreamExt as _;
use tokio::io::{AsyncBufRead, BufReader};

use super::{
    csv,
    exit::{Stop, plain},
    interrupt::Interrupt,
    line::Lines,
    progress::Progress,
    rate::Rate,
    server::ClientArgs,
};
use crate::client::{Client, Item, NewEvent, Open, Operation, Session, Status};

use publishing::Publishing;

/// How long a server may be away before a publisher gives up, unless told otherwise.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
/// Read from the input at a time, bytes.
const READ_BUFFER: usize = 64 * 1024;

/// Where lines come from.
type Input = Lines<Pin<Box<dyn AsyncBufRead + Send>>>;

/// The end of `bowline pub --help`.
const EXAMPLES: &str = "\
Examples:
  bowline pub prices --file examples/data/stocks.csv
  bowline pub prices --file stocks.csv --key-column 1    first column as key
  bowline pub prices --file stocks.csv --rate 100/s      at a steady pace
  echo 'hello' | bowline pub chat.lobby
  tail -F access.log | bowline pub logs.web --give-up-after 1h
  bowline pub prices --file big.csv --session load --resume
      and after a failure the same again: goes on with the first missing line
  echo 'MSFT' | bowline pub state.prices --delete
  (echo 'desk-7,busy'; cat) | bowline pub state.desks --key-column 1 --session-scoped
      desk-7 is there until Ctrl-D ends the input

Lines:
  A line is what stands between line ends (\\n); a carriage return belongs to
  it. Empty lines are events too, so that `bowline sub` prints the same file
  again. A line longer than the server's limit ends the command.

Keys:
  Topics of class state have keys: --key-column N says where the key is in a
  line, and the line is the key's value. With --delete the line, or its column
  N, is a key to be removed. With --session-scoped the server removes the keys
  when the command ends, or 15 s (session.key_grace) after its connection was
  lost; when it is back it puts them again, as they were last.

Certainty:
  Exit code 0 means that the server has acknowledged every line; otherwise
  stderr says how many are stored. Lines that are unanswered when a connection
  breaks are sent again, and never stored twice; the command ends if the server
  stays away for --give-up-after (60 s). A later run of the command publishes
  everything anew, unless --session and --resume leave out what is stored.";

/// Publish lines of a file or of standard input, each as an event.
///
/// Ends when the server has acknowledged all of them.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The topic, such as prices or chat.room-7.
    topic: String,
    /// Read this file instead of standard input.
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The lines are CSV: make column N, counted from 1, the event's key.
    #[arg(long, value_name = "N")]
    key_column: Option<NonZeroUsize>,
    /// Remove keys: each line is one, or its column if --key-column is given.
    #[arg(long)]
    delete: bool,
    /// Let the keys go when the command ends; hold its input open for as long as they are to stay.
    #[arg(long, requires = "key_column", conflicts_with_all = ["delete", "resume"])]
    session_scoped: bool,
    /// Publish at a steady pace, such as 100/s or 30/m. At most a second's delay is caught up.
    #[arg(long, value_name = "N/s")]
    rate: Option<Rate>,
    /// Give the publishing session a name, so that its numbering goes on where it was.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Line N is publish N of the session: leave out the lines it has stored already.
    #[arg(long, requires = "session")]
    resume: bool,
    /// Print the summary as a JSON object on standard output.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Runs it.
pub(super) async fn run(args: Args) -> Result<(), Stop> {
    let mut interrupt = Interrupt::listen()?;
    // Opened first: a file that is not there should be told before anything about servers.
    let (input, size): (Pin<Box<dyn AsyncBufRead + Send>>, _) = match &args.file {
        None => (Box::pin(BufReader::with_capacity(READ_BUFFER, tokio::io::stdin())), None),
        Some(path) => {
            let failed =
                |error: std::io::Error| Stop::failure(format!("cannot read {}: {}", path.display(), plain(&error)));
            let file = tokio::fs::File::open(path).await.map_err(failed)?;
            let metadata = file.metadata().await.map_err(failed)?;
            let size = metadata.is_file().then_some(metadata.len());
            (Box::pin(BufReader::with_capacity(READ_BUFFER, file)), size)
        }
    };
    let connecting = args.client.connect(Some(GIVE_UP_AFTER));
    let client = interrupt.or(connecting).await??;
    let lines = Lines::new(input, max_payload(&client));
    let ended = args.publish_all(&client, lines, Progress::new(size), &mut interrupt).await;
    interrupt.or(client.close()).await.ok();
    ended
}

/// What the server takes in one event, bytes.
fn max_payload(client: &Client) -> usize {
    let limit = match &*client.status().borrow() {
        Status::Connected(welcome) => welcome.limits.as_ref().map_or(0, |limits| limits.max_payload_bytes),
        _ => 0,
    };
    // A server that tells no limit still has that of a frame.
    usize::try_from(limit).ok().filter(|&limit| limit > 0).unwrap_or(5 * 1024 * 1024)
}

impl Args {
    async fn publish_all(
        &self,
        client: &Client,
        lines: Input,
        progress: Progress,
        interrupt: &mut Interrupt,
    ) -> Result<(), Stop> {
        let mut open = Open::topic(&self.topic).publish_only();
        if let Some(session) = &self.session {
            open = open.session_id(session);
        }
        let opening = client.open(open);
        let mut session = interrupt.or(opening).await?.map_err(|error| self.client.server.stop(&error))?;
        let skip = if self.resume { interrupt.or(published_seq(&mut session)).await? } else { 0 };
        let publishing = Publishing::new(self, client, session, lines, skip, progress);
        publishing.run(interrupt).await
    }

    fn event(&self, line: Bytes, number: u64) -> Result<NewEvent, Stop> {
        let mut event = NewEvent { session_scoped: self.session_scoped, ..NewEvent::default() };
        if let Some(column) = self.key_column {
            let key = csv::column(&line, column.get())
                .map_err(|missing| Stop::failure(format!("line {number} has no column {column}: {missing}")))?;
            event.key = Bytes::copy_from_slice(&key);
        }
        if self.delete {
            event.set_operation(Operation::Delete);
            if self.key_column.is_none() {
                event.key = line;
            }
        } else {
            event.payload = line;
        }
        Ok(event)
    }
}

/// The highest publish of the session that is stored.
async fn published_seq(session: &mut Session) -> u64 {
    match session.next().await {
        Some(Item::Opened(opened)) => opened.published_seq,
        _ => 0,
    }
}
