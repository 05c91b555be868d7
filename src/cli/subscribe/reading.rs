//! Items of a session, on their way to the output.

use tokio::{task::spawn_blocking, time::timeout};

use super::{Args, describe};
use crate::{
    cli::{
        exit::{Stop, notice},
        interrupt::{GRACE, Interrupt},
        json,
        printer::{Batch, Printer},
        start::From,
    },
    client::{Cursor, Gap, Item, Opened, Received, Session, TopicClass},
};

/// Most bytes gathered before they are printed, however much is ready.
const BATCH_BYTES: usize = 256 * 1024;

/// A session being printed.
pub(super) struct Reading<'a> {
    args: &'a Args,
    /// Away while it prints.
    printer: Option<Printer>,
    /// Events still to be printed.
    left: Option<u64>,
    /// The session has not been opened before.
    first: bool,
    /// The topic is keyed: after a gap a snapshot follows.
    keyed: bool,
    /// A snapshot is due or under way. Its lines count for nothing before its end: whoever starts again before that
    /// needs all of it, and begins where the place was.
    snapshot: bool,
}

impl<'a> Reading<'a> {
    pub(super) fn new(args: &'a Args, printer: Printer) -> Self {
        let snapshot = args.from == From::Snapshot && printer.cursor().is_none();
        Self { args, printer: Some(printer), left: args.count, first: true, keyed: false, snapshot }
    }

    /// Prints items; true if that was all.
    pub(super) async fn take(
        &mut self,
        items: Vec<Item>,
        session: &Session,
        interrupt: &mut Interrupt,
    ) -> Result<bool, Stop> {
        let mut batch = Batch::default();
        for item in items {
            match item {
                Item::Event(received) => {
                    batch.push(received.cursor, |text| self.args.event(text, &received));
                    self.left = self.left.map(|left| left - 1);
                    if self.left == Some(0) {
                        self.events(&mut batch, session, interrupt).await?;
                        return Ok(true);
                    }
                    if batch.len() >= BATCH_BYTES {
                        self.events(&mut batch, session, interrupt).await?;
                    }
                }
                Item::Closed(None) => {
                    self.events(&mut batch, session, interrupt).await?;
                    return Ok(true);
                }
                Item::Closed(Some(error)) => {
                    self.events(&mut batch, session, interrupt).await?;
                    return Err(self.args.client.server.stop(&error));
                }
                other => {
                    self.events(&mut batch, session, interrupt).await?;
                    self.remark(other, session, interrupt).await?;
                }
            }
        }
        self.events(&mut batch, session, interrupt).await?;
        Ok(false)
    }

    async fn events(&mut self, batch: &mut Batch, session: &Session, interrupt: &mut Interrupt) -> Result<(), Stop> {
        let Some(last) = batch.last() else { return Ok(()) };
        let mut full = std::mem::take(batch);
        if self.snapshot {
            return self.print(interrupt, move |printer| printer.remark(full.text())).await;
        }
        self.print(interrupt, move |printer| printer.events(&mut full)).await?;
        self.ack(session, last);
        Ok(())
    }

    fn ack(&self, session: &Session, place: Cursor) {
        if self.args.session.is_some() {
            session.ack(place);
        }
    }

    async fn remark(&mut self, item: Item, session: &Session, interrupt: &mut Interrupt) -> Result<(), Stop> {
        let mut text = Vec::new();
        match item {
            Item::Opened(opened) => self.opened(opened, interrupt).await,
            Item::Gap(gap) => self.gap(gap, interrupt).await,
            Item::SnapshotBegin(of) if self.args.json => {
                json::snapshot_begin(&mut text, of);
                self.print(interrupt, move |printer| printer.remark(&text)).await
            }
            Item::SnapshotEnd(of) => {
                self.snapshot = false;
                if self.args.json {
                    json::snapshot_end(&mut text, of);
                }
                self.print(interrupt, move |printer| printer.jump(of, &text)).await?;
                self.ack(session, of);
                Ok(())
            }
            Item::Broken(broken) => {
                let (expected, found) = (broken.expected, broken.found);
                notice(format!("the server broke the chain at {expected} with {found}; reading again from there"));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn opened(&mut self, opened: Opened, interrupt: &mut Interrupt) -> Result<(), Stop> {
        let first = std::mem::replace(&mut self.first, false);
        self.keyed = opened.topic_class == TopicClass::State;
        let begins = first && !self.snapshot;
        let mut text = Vec::new();
        if self.args.json {
            json::opened(&mut text, &opened);
        } else if first {
            self.announce(&opened);
        }
        self.print(interrupt, move |printer| {
            if begins {
                printer.begin(opened.start)?;
            }
            printer.remark(&text)
        })
        .await
    }

    async fn gap(&mut self, gap: Gap, interrupt: &mut Interrupt) -> Result<(), Stop> {
        let mut text = Vec::new();
        if self.args.json {
            json::gap(&mut text, &gap);
        } else {
            notice(describe(&gap));
        }
        if self.keyed {
            self.snapshot = true;
            return self.print(interrupt, move |printer| printer.lose(&text)).await;
        }
        self.print(interrupt, move |printer| printer.jump(gap.to, &text)).await
    }

    fn announce(&self, opened: &Opened) {
        let place = self.printer.as_ref().and_then(Printer::cursor);
        if let (Some(session), Some(place)) = (&self.args.session, place) {
            let behind =
                if place.epoch == opened.head.epoch { opened.head.offset.saturating_sub(place.offset) } else { 0 };
            notice(format!(
                "session {session} goes on after {place}, {behind} behind the newest (--fresh begins anew)"
            ));
        }
    }

    /// Prints on a thread that may block, as it does when nobody takes the output; an interrupt ends that wait.
    async fn print<F>(&mut self, interrupt: &mut Interrupt, print: F) -> Result<(), Stop>
    where
        F: FnOnce(&mut Printer) -> Result<(), Stop> + Send + 'static,
    {
        let Some(mut printer) = self.printer.take() else { return Ok(()) };
        let mut printing = spawn_blocking(move || {
            let result = print(&mut printer);
            (printer, result)
        });
        let printed = tokio::select! {
            printed = &mut printing => printed,
            stop = interrupt.next() => {
                // A write that is not stuck gets the moment it needs to be put down as well.
                timeout(GRACE, printing).await.ok();
                return Err(stop);
            }
        };
        let (printer, result) = printed.map_err(|error| Stop::failure(error.to_string()))?;
        self.printer = Some(printer);
        result
    }
}

impl Args {
    fn event(&self, text: &mut Vec<u8>, received: &Received) {
        if self.json {
            return json::line(text, &json::EventLine::received(received));
        }
        if self.cursor {
            text.extend_from_slice(received.cursor.to_string().as_bytes());
            text.push(b'\t');
        }
        text.extend_from_slice(&received.event.payload);
        text.push(b'\n');
    }
}
