//! `bowline bench`.

mod load;
mod outcome;

use std::{cell::RefCell, num::NonZeroU32, rc::Rc, time::Duration};

use clap::Args as ClapArgs;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{exit::Stop, interrupt::Interrupt, rate::Rate, server::ServerArgs};
use crate::client::{Client, Open, Session};

use load::{Plan, STAMP};
use outcome::Outcome;

/// How long a server may be away before the command gives up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);
/// Clients that connect at once.
const CONNECTING: usize = 64;

/// The end of `bowline bench --help`.
const EXAMPLES: &str = "\
Examples:
  bowline bench bench.load                                  100 events a second, one to one
  bowline bench bench.load --subscribers 1000 --rate 20/s   one to a thousand
  bowline bench bench.load --subscribers 0 --rate 5000/s    stored and acknowledged only
  bowline bench echo.load --echo --publishers 50            there and back
  bowline bench bench.load --rate 2000/s --json             for scripts

What it measures:
  Events are due at fixed moments, whatever has become of those before, and each
  wait counts from when its event was due: a server that stops is charged for
  all that it kept waiting, and so is this program if it is what cannot keep up.
  `acknowledged` is until the server's answer, `delivered` until a subscriber has
  the event. Above about 1,000 events a second one core does nothing but wait
  for the next moment: run it beside the server on no fewer than four.

What it proves:
  Every subscriber must get every event, once and in order, through reconnects
  too. What is lost, doubled or out of order is counted, and ends the command
  with exit code 1.";

/// Load a server in a steady rhythm, and see how long it takes and that nothing is lost.
///
/// Publishes to the topic, which keeps the events as it keeps others: choose one that nobody else reads.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The topic, such as bench.load.
    topic: String,
    /// Clients that publish in turns, each on a connection of its own.
    #[arg(long, value_name = "N", default_value = "1")]
    publishers: NonZeroU32,
    /// Clients that read, each on a connection of its own.
    #[arg(long, value_name = "N", default_value = "1")]
    subscribers: u32,
    /// Each publisher reads what it has published, as topics of class echo let it; there are no other subscribers.
    #[arg(long, conflicts_with = "subscribers")]
    echo: bool,
    /// Events of all publishers together, such as 100/s or 30/m.
    #[arg(long, value_name = "N/s", default_value = "100/s")]
    rate: Rate,
    /// Bytes of each payload, at least 28.
    #[arg(long, value_name = "BYTES", default_value = "128", value_parser = clap::value_parser!(u32).range(STAMP as i64..))]
    size: u32,
    /// How long to measure, such as 10s.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How long to do the same before, without measuring.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs it.
pub(super) async fn run(args: Args) -> Result<(), Stop> {
    let mut interrupt = Interrupt::listen()?;
    let running = args.measure();
    let outcome = interrupt.or(running).await??;
    outcome.print(args.json)?;
    outcome.judge()
}

/// A client, held for as long as its session.
type Placed = (Client, Session);

impl Args {
    async fn measure(&self) -> Result<Outcome, Stop> {
        let publishers = self.publishers.get();
        let subscribers = if self.echo { publishers } else { self.subscribers };
        let reading = self.clients("sub", if self.echo { 0 } else { subscribers }, Open::read_only).await?;
        let mode = if self.echo { |open| open } else { Open::publish_only };
        let publishing = self.clients("pub", publishers, mode).await?;
        let plan = Plan::new(self.rate, publishers, self.size, self.warm_up, self.duration);
        let outcome = Rc::new(RefCell::new(Outcome::new(&self.topic, &plan, subscribers, self.echo)));
        let ended = load::run(&plan, publishing, reading, self.echo, &outcome).await;
        ended.map_err(|error| self.server.stop(&error))?;
        // Nobody else has it any more: what ran has ended.
        Rc::into_inner(outcome).map(RefCell::into_inner).ok_or_else(|| Stop::failure("the load did not end"))
    }

    async fn clients(&self, role: &str, count: u32, mode: fn(Open) -> Open) -> Result<Vec<Placed>, Stop> {
        let connect = |number| async move {
            let id = format!("bench-{}-{role}-{number}", std::process::id());
            let builder = self.server.builder()?.client_id(id).give_up_after(GIVE_UP_AFTER);
            let stop = |error| self.server.stop(&error);
            let client = builder.connect().await.map_err(stop)?;
            let session = client.open(mode(Open::topic(&self.topic))).await.map_err(stop)?;
            Ok::<_, Stop>((client, session))
        };
        stream::iter(0..count).map(connect).buffer_unordered(CONNECTING).try_collect().await
    }
}
