//! `bowline sub`.

mod reading;

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::{
    exit::{Stop, notice},
    interrupt::{GRACE, Interrupt},
    output::Output,
    printer::Printer,
    rate::Hertz,
    server::{ClientArgs, Standing},
    start::From,
    state::{Key, State},
};
use crate::client::{Client, DeliveryPolicy, Gap, GapReason, Open, Start, Timestamp};

use reading::Reading;

/// Most items taken from the session at a time.
const BATCH_ITEMS: usize = 512;
/// Payload bytes that may wait to be printed.
const CREDIT_BYTES: u64 = 1024 * 1024;

/// The end of `bowline sub --help`.
const EXAMPLES: &str = "\
Examples:
  bowline sub prices                          what is published from now on
  bowline sub prices --from last:20           the newest 20 events, then follow
  bowline sub prices --from since:10m --json  with cursor, key and time
  bowline sub prices --from earliest --no-follow > prices.csv
  bowline sub prices --session desk >> prices.csv
      and however it ended, the same again: goes on where it was
  bowline sub state.prices --from snapshot --policy conflate --max-rate 2/s --json
      a keyed topic: the latest of each key, twice a second

Sessions:
  With --session the place is kept in a state file after every batch of lines.
  Run again, the command goes on there; --from is for the first run. Killed at
  any moment, even by SIGKILL, it prints each line exactly once over all its
  runs if the output is a file. Into a pipe, a kill in the instant between a
  write and its record makes the next run print the lines of that write (at
  most 4 KiB) again; with --json their cursors tell. A snapshot is no place:
  one that was cut is printed anew from its beginning.

Policies, for when this reader does not keep up (its output is not taken):
  lag          it reads on where it was, as long as the server keeps the events
  drop-oldest  the server passes over old events, which is announced
  conflate     keyed topics: only the latest event of each key, at most at
               --max-rate; what was left out is counted
  disconnect   the server ends the session, and the command opens it again

Losses:
  What the server no longer has is announced: on stderr, or with --json in its
  place in the output. In a keyed topic a snapshot follows.

JSON, an object a line:
  {\"cursor\", \"time_us\", \"payload\"} is an event; \"key\", \"operation\": \"delete\",
  \"publisher\", \"headers\", \"traceparent\", \"tracestate\", \"skipped\" and
  \"snapshot\": true are there if they say something; \"key_base64\" and
  \"payload_base64\" if it is no text
  {\"opened\": {\"start\", \"head\", \"recovery\"}} at the start and after a reconnect
  {\"gap\": {\"from\", \"to\", \"reason\", \"count\", \"possible\"}}
  {\"snapshot_begin\": {\"cursor\"}} and {\"snapshot_end\": {\"cursor\"}}: what is between
  them takes the place of all that was known of the topic's keys";

/// Read a topic: print its events, one a line, and follow it.
///
/// Prints payloads as they are. Reconnects by itself and goes on where it was.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The topic, such as prices or chat.room-7.
    topic: String,
    /// Where to begin: live, earliest, last:N, since:DURATION, snapshot (keyed topics), or EPOCH:OFFSET, which is after
    /// that event; --json and --cursor print them.
    #[arg(long, value_name = "WHERE", default_value = "live")]
    from: From,
    /// Give the session a name and remember its place: the same command goes on where it was.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Keep the place in this file instead of one under $XDG_STATE_HOME or ~/.local/state.
    #[arg(long, value_name = "FILE", requires = "session")]
    state_file: Option<PathBuf>,
    /// Forget the session's place and begin with --from.
    #[arg(long, requires = "session")]
    fresh: bool,
    /// What happens if this reader does not keep up; the topic's default unless chosen.
    #[arg(long, value_name = "POLICY")]
    policy: Option<Policy>,
    /// With --policy conflate: most deliveries a second, such as 5/s.
    #[arg(long, value_name = "N/s")]
    max_rate: Option<Hertz>,
    /// Events that may be under way or wait to be printed: 1,024 unless chosen.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    credit: Option<u64>,
    /// Let publishers wait for this reader, on topics whose rule has max_lag.
    #[arg(long, requires = "session")]
    required: bool,
    /// Be seen in the topic's presence, with this about yourself.
    #[arg(long, value_name = "TEXT")]
    presence: Option<String>,
    /// End after so many events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End at what is the newest event when the command starts.
    #[arg(long)]
    no_follow: bool,
    /// Print JSON objects, one a line.
    #[arg(long)]
    json: bool,
    /// Print each event's cursor and a tab before it.
    #[arg(long, conflicts_with = "json")]
    cursor: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// The values of `--policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Policy {
    Lag,
    DropOldest,
    Conflate,
    Disconnect,
}

impl std::convert::From<Policy> for DeliveryPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Lag => Self::Lag,
            Policy::DropOldest => Self::DropOldest,
            Policy::Conflate => Self::Conflate,
            Policy::Disconnect => Self::Disconnect,
        }
    }
}

/// Runs it.
pub(super) async fn run(args: Args) -> Result<(), Stop> {
    let mut interrupt = Interrupt::listen()?;
    let printer = args.printer()?;
    let connecting = args.client.connect(None);
    let client = interrupt.or(connecting).await??;
    let ended = args.read(&client, printer, &mut interrupt).await;
    interrupt.or(client.close()).await.ok();
    ended
}

impl Args {
    fn printer(&self) -> Result<Printer, Stop> {
        let output = Output::stdout().map_err(|error| Stop::stdout(&error))?;
        let Some(session) = &self.session else { return Ok(Printer::new(output, None)) };
        let key = Key {
            server: self.client.server.server.clone(),
            client: self.client.client_id(),
            topic: self.topic.clone(),
            session: session.clone(),
        };
        let path = self.state_file.clone().map_or_else(|| key.default_path(), Ok)?;
        let mut state = State::open(&path, key)?;
        if self.fresh {
            state.forget();
        }
        Ok(Printer::new(output, Some(state)))
    }

    fn open(&self, printer: &Printer) -> Open {
        let start = match (printer.cursor(), self.from) {
            (Some(place), _) => Start::After(place),
            (None, From::Live) => Start::Live,
            (None, From::Earliest) => Start::Earliest,
            (None, From::Last(count)) => Start::Last(count),
            (None, From::Since(age)) => Start::Since(Timestamp::now().minus(age)),
            (None, From::After(cursor)) => Start::After(cursor),
            (None, From::Snapshot) => Start::Snapshot,
        };
        let mut open = Open::topic(&self.topic).start(start).read_only();
        if let Some(session) = &self.session {
            open = open.session_id(session);
        }
        if let Some(policy) = self.policy {
            open = open.delivery_policy(policy.into());
        }
        if let Some(Hertz(rate)) = self.max_rate {
            open = open.max_rate_hz(rate);
        }
        if let Some(events) = self.credit {
            open = open.credit(events, CREDIT_BYTES);
        }
        if self.required {
            open = open.required();
        }
        if let Some(text) = &self.presence {
            open = open.presence(text.clone());
        }
        if self.no_follow { open.no_follow() } else { open }
    }

    async fn read(&self, client: &Client, printer: Printer, interrupt: &mut Interrupt) -> Result<(), Stop> {
        let open = client.open(self.open(&printer));
        let session = interrupt.or(open).await?.map_err(|error| self.client.server.stop(&error))?;
        let mut standing = Standing::new(client);
        let mut reading = Reading::new(self, printer);
        let mut items = session.ready_chunks(BATCH_ITEMS);
        let ended = loop {
            let ready = tokio::select! {
                biased;
                stop = interrupt.next() => break Err(stop),
                sentence = standing.next() => {
                    notice(sentence);
                    continue;
                }
                ready = items.next() => ready,
            };
            let Some(ready) = ready else { break Ok(()) };
            match reading.take(ready, items.get_ref(), interrupt).await {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(stop) => break Err(stop),
            }
        };
        if self.session.is_some() {
            // The server keeps the place too, for programs that begin with `Start::Acked`.
            interrupt.or(timeout(GRACE, items.into_inner().detach())).await.ok();
        }
        ended
    }
}

/// A gap, for people.
pub(super) fn describe(gap: &Gap) -> String {
    let what = match (gap.possible, gap.count) {
        (true, _) => "events may be missing".to_owned(),
        (false, 0) => "events are missing".to_owned(),
        (false, 1) => "1 event is missing".to_owned(),
        (false, count) => format!("{count} events are missing"),
    };
    let why = match gap.reason {
        GapReason::Retention => "the server no longer has them",
        GapReason::Slow => "this reader was too slow",
        GapReason::Epoch => "the topic's log is another one now, as after a restart of the server",
        GapReason::Diverged => "the log has another event at this place",
        GapReason::Broker => "the broker has a hole there",
        GapReason::Unspecified => "the server does not say why",
    };
    format!("{what} after {} ({why}); going on after {}", gap.from, gap.to)
}
