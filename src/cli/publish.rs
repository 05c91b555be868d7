//! `bowline pub`.

use std::{future::Future, num::NonZeroUsize, path::PathBuf, pin::Pin, time::Duration};

use bytes::Bytes;
use clap::Args as ClapArgs;
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesOrdered};
use tokio::{
    io::{AsyncBufRead, BufReader},
    time::{Instant, sleep_until},
};

use super::{
    csv,
    exit::{Stop, notice, plain},
    interrupt::Interrupt,
    line::Lines,
    progress::Progress,
    rate::{Pace, Rate},
    server::{ClientArgs, Standing},
    tally::Tally,
};
use crate::client::{Client, Error, ErrorKind, Item, NewEvent, Open, Published, Session, Status};

/// How long a server may be away before a publisher gives up, unless told otherwise.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
/// Read from the input at a time, bytes.
const READ_BUFFER: usize = 64 * 1024;

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

Lines:
  A line is what stands between line ends (\\n); a carriage return belongs to
  it. Empty lines are events too, so that `bowline sub` prints the same file
  again. A line longer than the server's limit ends the command.

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

/// What happens next while lines are read and answers come in.
enum Step {
    Line(Option<Bytes>),
    Answer(Result<Published, Error>),
    News(String),
}

impl Args {
    async fn publish_all(
        &self,
        client: &Client,
        lines: Lines<Pin<Box<dyn AsyncBufRead + Send>>>,
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
        let publishing = Publishing {
            args: self,
            session,
            lines,
            skip,
            pace: self.rate.map(Pace::new),
            answers: FuturesOrdered::new(),
            tally: Tally::new(&self.topic),
            progress,
            standing: Standing::new(client),
            given_up: false,
        };
        publishing.run(interrupt).await
    }

    fn event(&self, line: Bytes, number: u64) -> Result<NewEvent, Stop> {
        let mut event = NewEvent::default();
        if let Some(column) = self.key_column {
            let key = csv::column(&line, column.get())
                .map_err(|missing| Stop::failure(format!("line {number} has no column {column}: {missing}")))?;
            event.key = Bytes::copy_from_slice(&key);
        }
        event.payload = line;
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

/// Publishes on their way.
struct Publishing<'a> {
    args: &'a Args,
    session: Session,
    lines: Lines<Pin<Box<dyn AsyncBufRead + Send>>>,
    /// Lines to leave out.
    skip: u64,
    pace: Option<Pace>,
    /// In the order of the lines. Bounded: the library lets no more publishes out than the server allows, and what is
    /// answered is taken out after each.
    answers: FuturesOrdered<Answer>,
    tally: Tally,
    progress: Progress,
    standing: Standing,
    /// Publishes failed because the client is ending.
    given_up: bool,
}

type Answer = Pin<Box<dyn Future<Output = Result<Published, Error>> + Send>>;

impl Publishing<'_> {
    async fn run(mut self, interrupt: &mut Interrupt) -> Result<(), Stop> {
        let mut stop = self.send_and_count(interrupt).await.err();
        // What was sent before an end is still answered; whoever does not want to wait for it interrupts (again).
        while let Some(answer) = interrupt.or(self.answers.next()).await.ok().flatten() {
            stop = stop.or(self.count(answer).err());
        }
        self.progress.finish();
        self.tally.report(self.args.json)?;
        let Some(mut stop) = stop else { return Ok(()) };
        if self.given_up
            && let Some(error) = self.standing.end().await
        {
            stop = self.args.client.server.stop(&error);
        }
        Err(Stop { sentence: self.tally.epitaph(&stop.sentence, self.lines.number()), ..stop })
    }

    async fn send_and_count(&mut self, interrupt: &mut Interrupt) -> Result<(), Stop> {
        let mut reading = true;
        while reading || !self.answers.is_empty() {
            let step = tokio::select! {
                biased;
                stop = interrupt.next() => return Err(stop),
                news = self.standing.next() => Step::News(news),
                Some(answer) = self.answers.next(), if !self.answers.is_empty() => Step::Answer(answer),
                line = self.lines.next(), if reading => {
                    Step::Line(line.map_err(|error| Stop::failure(error.to_string()))?)
                }
            };
            match step {
                Step::News(sentence) => self.progress.aside(|| notice(sentence)),
                Step::Answer(answer) => self.count(answer)?,
                Step::Line(None) => reading = false,
                Step::Line(Some(line)) if self.lines.number() <= self.skip => self.tally.skip(line.len()),
                Step::Line(Some(line)) => self.publish(line, interrupt).await?,
            }
        }
        Ok(())
    }

    async fn publish(&mut self, line: Bytes, interrupt: &mut Interrupt) -> Result<(), Stop> {
        let event = self.args.event(line, self.lines.number())?;
        if let Some(pace) = &mut self.pace {
            let due = pace.next();
            if due > Instant::now() {
                self.wait(due, interrupt).await?;
            }
        }
        let length = event.payload.len();
        let receipt = loop {
            let publishing = self.session.publish(event.clone());
            tokio::select! {
                biased;
                stop = interrupt.next() => return Err(stop),
                news = self.standing.next() => self.progress.aside(|| notice(news)),
                receipt = publishing => break receipt.map_err(|error| self.args.client.server.stop(&error))?,
            }
        };
        self.answers.push_back(Box::pin(receipt));
        self.tally.sent(length);
        while let Some(Some(answer)) = self.answers.next().now_or_never() {
            self.count(answer)?;
        }
        Ok(())
    }

    /// Waits for the next line's moment, and counts answers meanwhile.
    async fn wait(&mut self, due: Instant, interrupt: &mut Interrupt) -> Result<(), Stop> {
        loop {
            tokio::select! {
                biased;
                stop = interrupt.next() => return Err(stop),
                Some(answer) = self.answers.next(), if !self.answers.is_empty() => self.count(answer)?,
                () = sleep_until(due) => return Ok(()),
            }
        }
    }

    fn count(&mut self, answer: Result<Published, Error>) -> Result<(), Stop> {
        match answer {
            Ok(published) => {
                self.tally.stored(&published);
                self.progress.set(self.tally.bytes(), self.tally.lines());
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::UnknownOutcome => {
                self.given_up = true;
                Err(self.args.client.server.stop(&error))
            }
            Err(error) => {
                let line = self.tally.failed();
                let stop = self.args.client.server.stop(&error);
                Err(Stop { sentence: format!("line {line}: {}", stop.sentence), ..stop })
            }
        }
    }
}
