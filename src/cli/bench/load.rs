//! The load itself: who publishes when, and who checks what has come.

use std::{cell::RefCell, rc::Rc, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{
    StreamExt as _,
    future::{self, Either, try_join, try_join_all},
    pin_mut,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{Placed, Rate, outcome::Outcome};
use crate::client::{Error, Item, NewEvent, Publisher, Reader, Receipt};

/// Bytes of what stands first in each payload.
pub(super) const STAMP: usize = 28;
/// How long what has been published may take to arrive once everything has been.
const STRAGGLERS: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(5);
/// Timers are no finer.
const TIMER: Duration = Duration::from_millis(2);
/// Answers that one publisher may be waiting for; the client library allows fewer.
const UNANSWERED: usize = 4096;

/// What a payload says of its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    /// Tells the events of this run from others in the topic.
    run: u64,
    publisher: u32,
    /// Counts the events of the publisher from 1.
    number: u64,
    /// When it was due, microseconds from the origin.
    due_us: u64,
}

impl Stamp {
    /// As a payload of this size.
    fn write(self, size: usize) -> Bytes {
        let mut payload = BytesMut::with_capacity(size);
        payload.put_u64(self.run);
        payload.put_u32(self.publisher);
        payload.put_u64(self.number);
        payload.put_u64(self.due_us);
        payload.resize(size.max(STAMP), 0);
        payload.freeze()
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let (run, rest) = payload.split_first_chunk()?;
        let (publisher, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (due_us, _) = rest.split_first_chunk()?;
        Some(Self {
            run: u64::from_be_bytes(*run),
            publisher: u32::from_be_bytes(*publisher),
            number: u64::from_be_bytes(*number),
            due_us: u64::from_be_bytes(*due_us),
        })
    }
}

/// What is to be done.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    run: u64,
    origin: Instant,
    /// Between two events of all publishers.
    interval: Duration,
    /// Who publish.
    pub(super) publishers: u32,
    /// Of a payload.
    pub(super) size: u32,
    warm_up: Duration,
    /// How long is measured.
    pub(super) duration: Duration,
}

impl Plan {
    /// Begins with the first event of [`run`].
    pub(super) fn new(rate: Rate, publishers: u32, size: u32, warm_up: Duration, duration: Duration) -> Self {
        let interval = Duration::from_secs_f64(1.0 / rate.per_second());
        Self { run: fastrand::u64(..), origin: Instant::now(), interval, publishers, size, warm_up, duration }
    }

    /// When a publisher's event is due, from the origin; nothing after the end.
    fn due(&self, publisher: u32, number: u64) -> Option<Duration> {
        let place = (number - 1) * u64::from(self.publishers) + u64::from(publisher);
        let due = Duration::from_secs_f64(self.interval.as_secs_f64() * place as f64);
        (due < self.warm_up + self.duration).then_some(due)
    }

    fn counts(&self, due: Duration) -> bool {
        due >= self.warm_up
    }

    fn since(&self, due: Duration) -> Duration {
        (self.origin + due).elapsed()
    }
}

/// What is found, as it is found.
type Found = Rc<RefCell<Outcome>>;

/// Publishes all of it, and waits until it has arrived, for a bounded time.
pub(super) async fn run(
    plan: &Plan,
    publishing: Vec<Placed>,
    reading: Vec<Placed>,
    echo: bool,
    found: &Found,
) -> Result<(), Error> {
    let plan = Plan { origin: Instant::now() + TIMER, ..plan.clone() };
    let (mut publishers, mut readers, mut held) = (Vec::new(), Vec::new(), Vec::new());
    for (client, session) in publishing {
        let (publisher, reader) = session.split();
        publishers.push(publisher);
        if echo {
            readers.push(reader);
        }
        held.push(client);
    }
    for (client, session) in reading {
        readers.push(session.split().1);
        held.push(client);
    }
    let reads = readers.into_iter().enumerate().map(|(n, reader)| read(&plan, n, reader, echo, found));
    let reads = try_join_all(reads);
    let publishes = (0..).zip(&publishers).map(|(n, publisher)| publish(&plan, n, publisher, found));
    let load = async {
        try_join_all(publishes).await?;
        let published = Instant::now();
        while !found.borrow().complete() && published.elapsed() < STRAGGLERS {
            sleep(LOOK).await;
        }
        Ok(())
    };
    pin_mut!(reads, load);
    match future::select(load, reads).await {
        Either::Left((ended, _)) => ended,
        // Without readers there is nothing to wait for but the load.
        Either::Right((Ok(_), load)) => load.await,
        Either::Right((Err(error), _)) => Err(error),
    }
}

/// Publishes when it is due, and notes how long each answer took.
async fn publish(plan: &Plan, number: u32, publisher: &Publisher, found: &Found) -> Result<(), Error> {
    let (receipts, answers) = mpsc::channel(UNANSWERED);
    try_join(send(plan, number, publisher, receipts, found), answer(plan, answers, found)).await.map(drop)
}

async fn send(
    plan: &Plan,
    publisher: u32,
    session: &Publisher,
    receipts: mpsc::Sender<(Duration, Receipt)>,
    found: &Found,
) -> Result<(), Error> {
    for number in 1.. {
        let Some(due) = plan.due(publisher, number) else { break };
        wait_until(plan.origin + due).await;
        let due_us = u64::try_from(due.as_micros()).unwrap_or(u64::MAX);
        let stamp = Stamp { run: plan.run, publisher, number, due_us };
        let event = NewEvent { payload: stamp.write(plan.size as usize), ..NewEvent::default() };
        found.borrow_mut().sent(publisher, plan.counts(due));
        let receipt = session.publish(event).await?;
        // Only a publisher that has failed does not take it, and that ends this too.
        receipts.send((due, receipt)).await.ok();
    }
    Ok(())
}

async fn answer(plan: &Plan, mut receipts: mpsc::Receiver<(Duration, Receipt)>, found: &Found) -> Result<(), Error> {
    while let Some((due, receipt)) = receipts.recv().await {
        receipt.await?;
        if plan.counts(due) {
            found.borrow_mut().acknowledged(plan.since(due));
        }
    }
    Ok(())
}

/// Takes what comes, for ever: it ends with the session.
async fn read(plan: &Plan, reader: usize, mut session: Reader, echo: bool, found: &Found) -> Result<(), Error> {
    while let Some(item) = session.next().await {
        match item {
            Item::Event(received) => match Stamp::read(&received.event.payload).filter(|stamp| stamp.run == plan.run) {
                Some(stamp) => {
                    let due = Duration::from_micros(stamp.due_us);
                    let wait = plan.counts(due).then(|| plan.since(due));
                    // Of an echo, only its own publisher's.
                    let publisher = if echo { 0 } else { stamp.publisher };
                    found.borrow_mut().delivered(reader, publisher, stamp.number, wait);
                }
                None => found.borrow_mut().foreign += 1,
            },
            Item::Gap(_) => found.borrow_mut().gaps += 1,
            Item::Broken(_) => found.borrow_mut().broken += 1,
            Item::Closed(Some(error)) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// By the clock itself where a timer would be too coarse.
async fn wait_until(moment: Instant) {
    if let Some(early) = moment.checked_duration_since(Instant::now() + TIMER) {
        sleep(early).await;
    }
    while Instant::now() < moment {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(publishers: u32) -> Plan {
        let second = Duration::from_secs(1);
        Plan::new("10/s".parse().unwrap(), publishers, 64, second, 2 * second)
    }

    #[test]
    fn publishers_take_turns_at_the_rate_until_the_end() {
        let plan = plan(2);
        let millis = |due: Option<Duration>| due.map(|due| due.as_millis());
        assert_eq!(millis(plan.due(0, 1)), Some(0));
        assert_eq!(millis(plan.due(1, 1)), Some(100));
        assert_eq!(millis(plan.due(0, 2)), Some(200));
        assert_eq!(millis(plan.due(1, 15)), Some(2900));
        assert_eq!(plan.due(0, 16), None);
        assert!(!plan.counts(Duration::from_millis(900)) && plan.counts(Duration::from_secs(1)));
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let stamp = Stamp { run: 1 << 60, publisher: 7, number: 3, due_us: 1_000_001 };
        let payload = stamp.write(100);
        assert_eq!((payload.len(), Stamp::read(&payload)), (100, Some(stamp)));
        assert_eq!(Stamp::read(&payload[..STAMP - 1]), None);
    }
}
