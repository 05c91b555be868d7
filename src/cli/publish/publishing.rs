//! Lines on their way to the server, and their answers on the way back.

use std::{collections::HashMap, future::Future, pin::Pin};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesOrdered};
use tokio::time::{Instant, sleep_until};

use super::{Args, Input};
use crate::{
    cli::{
        exit::{Stop, notice},
        interrupt::Interrupt,
        progress::Progress,
        rate::Pace,
        server::Standing,
        tally::Tally,
    },
    client::{Client, Error, ErrorKind, Item, NewEvent, Published, Session},
};

/// Most keys of a command that puts them again after it was away: so many events are kept in memory.
const MAX_KEPT: usize = 1000;

/// Publishes on their way.
pub(super) struct Publishing<'a> {
    args: &'a Args,
    session: Session,
    lines: Input,
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
    /// With `--session-scoped`: the last event of each key, to be put again after the session was away.
    kept: HashMap<Bytes, NewEvent>,
}

/// What happens next while lines are read and answers come in.
#[allow(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
enum Step {
    Line(Option<Bytes>),
    Answer(Result<Published, Error>),
    Item(Item),
    News(String),
}

type Answer = Pin<Box<dyn Future<Output = Result<Published, Error>> + Send>>;

impl<'a> Publishing<'a> {
    /// Of the lines, all but the first `skip`.
    pub(super) fn new(
        args: &'a Args,
        client: &Client,
        session: Session,
        lines: Input,
        skip: u64,
        progress: Progress,
    ) -> Self {
        Self {
            args,
            session,
            lines,
            skip,
            pace: args.rate.map(Pace::new),
            answers: FuturesOrdered::new(),
            tally: Tally::new(&args.topic),
            progress,
            standing: Standing::new(client),
            given_up: false,
            kept: HashMap::new(),
        }
    }

    /// Publishes everything and waits for the answers.
    pub(super) async fn run(mut self, interrupt: &mut Interrupt) -> Result<(), Stop> {
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
                Some(item) = self.session.next(), if self.args.session_scoped => Step::Item(item),
                Some(answer) = self.answers.next(), if !self.answers.is_empty() => Step::Answer(answer),
                line = self.lines.next(), if reading => {
                    Step::Line(line.map_err(|error| Stop::failure(error.to_string()))?)
                }
            };
            match step {
                Step::News(sentence) => self.progress.aside(|| notice(sentence)),
                Step::Answer(answer) => self.count(answer)?,
                Step::Item(Item::Opened(_)) => interrupt.or(self.put_again()).await??,
                Step::Item(Item::Closed(Some(error))) => return Err(self.args.client.server.stop(&error)),
                Step::Item(_) => {}
                Step::Line(None) => reading = false,
                Step::Line(Some(line)) if self.lines.number() <= self.skip => self.tally.skip(line.len()),
                Step::Line(Some(line)) => self.publish(line, interrupt).await?,
            }
        }
        Ok(())
    }

    async fn publish(&mut self, line: Bytes, interrupt: &mut Interrupt) -> Result<(), Stop> {
        let length = line.len();
        let event = self.args.event(line, self.lines.number())?;
        if self.args.session_scoped {
            self.keep(&event)?;
        }
        if let Some(pace) = &mut self.pace {
            let due = pace.next();
            if due > Instant::now() {
                self.wait(due, interrupt).await?;
            }
        }
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

    fn keep(&mut self, event: &NewEvent) -> Result<(), Stop> {
        self.kept.insert(event.key.clone(), event.clone());
        if self.kept.len() > MAX_KEPT {
            return Err(Stop::failure(format!("more than {MAX_KEPT} keys are too many for --session-scoped")));
        }
        Ok(())
    }

    /// The session was opened. While it was away the server may have removed its keys, and does not say so. The first
    /// time there is none.
    async fn put_again(&mut self) -> Result<(), Stop> {
        for event in self.kept.values() {
            let publishing = self.session.publish(event.clone()).await;
            // Not of a line: nobody counts its answer, and if it is refused, so is the next line.
            drop(publishing.map_err(|error| self.args.client.server.stop(&error))?);
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
