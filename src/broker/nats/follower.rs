//! What keeps a topic's log in sight: it listens first, then fetches what there is up to the newest record, and from
//! then on takes in what it hears. What does not follow is fetched; what cannot be is announced.

use std::{sync::Arc, time::Duration};

use async_nats::{Message, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, sleep};

use super::{
    BATCH,
    api::{self, Problem},
    entry::Entry,
    history, message, publish,
};
use crate::{
    log::{Arrival, Log, Taken},
    types::Timestamp,
};

/// The pause before it begins anew, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How many events are taken in before readers are told.
const AT_ONCE: usize = 64;
/// How often a record that must be there is looked for on servers that may be behind, and how long it takes between. Then the
/// stream's leader is asked, for one record after the other: a server that was parted from the others can be behind for half a
/// minute after it has found them again, and it answers what it is asked meanwhile.
const LOOKS: (usize, Duration) = (5, Duration::from_millis(100));
/// Records that are asked of the leader before another look elsewhere: it takes ten times as long.
const LED: usize = 500;

/// Follows a topic until nobody needs it.
pub(super) async fn run(entry: Arc<Entry>) {
    let mut pause = PAUSE.0;
    while !entry.closed.is_cancelled() {
        let followed = entry.closed.run_until_cancelled(follow(&entry)).await;
        if entry.is_in_sight() {
            pause = PAUSE.0;
        }
        entry.set_sight(false);
        match followed {
            None => break,
            Some(Ended::Epoch) => {}
            Some(Ended::Problem(problem)) => {
                tracing::warn!(topic = entry.topic, %problem, "a topic is out of sight");
                let pause = pause.mul_f64(0.5 + fastrand::f64());
                entry.closed.run_until_cancelled(sleep(pause)).await;
            }
        }
        pause = PAUSE.1.min(pause * 2);
    }
}

/// Why following a topic came to an end.
enum Ended {
    /// The stream has another epoch: all begins anew.
    Epoch,
    /// Something did not work.
    Problem(Problem),
}

impl From<Problem> for Ended {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

async fn follow(entry: &Arc<Entry>) -> Ended {
    match begin(entry).await {
        Ok((mut heard, epoch)) => go_on(entry, &mut heard, epoch).await,
        Err(ended) => ended,
    }
}

/// Listens, and brings the log in sight.
async fn begin(entry: &Arc<Entry>) -> Result<(Subscriber, u64), Ended> {
    let engine = &entry.engine;
    let Some(epoch) = engine.epoch(entry.partition) else {
        return Err(Problem::Unreachable("the stream's epoch is not known".into()).into());
    };
    // A position that the stream has reached: of a topic of which nothing is found from here on, it is the newest.
    let reached = engine.seen(entry.partition);
    let live = engine.names.live(entry.partition, &entry.topic);
    let listening = &engine.links.listening;
    let heard = listening.subscribe(live).await.map_err(|error| Problem::Unreachable(error.to_string()))?;
    // Asked on the connection that listens: whoever answers has heard of the subscription before the question.
    let (stream, subject) = (engine.names.stream(entry.partition), engine.names.log(entry.partition, &entry.topic));
    let newest = api::newest(listening, &stream, &subject).await?.map_or(0, |stored| stored.seq);

    let mut log = Log::mirroring(entry.limits).counted(entry.total.clone());
    let first = history::start(entry, newest).await?;
    let mut take = |arrival| {
        log.take(arrival, None, Timestamp::now());
    };
    fetch(entry, first, newest, &mut take).await?;
    let state = engine.state_after(entry.partition, Instant::now()).await?;
    log.settle(epoch, first.max(state.first_seq).saturating_sub(1), reached);
    entry.begin_anew(reached.max(newest));
    entry.log().write().succeed(log);
    // Whoever writes the epoch looks at it first, and so do we: one of the two notices.
    if engine.epoch(entry.partition) != Some(epoch) {
        return Err(Ended::Epoch);
    }
    entry.set_sight(true);
    entry.tell();
    Ok((heard, epoch))
}

async fn go_on(entry: &Arc<Entry>, heard: &mut Subscriber, epoch: u64) -> Ended {
    let mut epochs = entry.engine.epochs(entry.partition);
    loop {
        if *epochs.borrow_and_update() != epoch {
            return Ended::Epoch;
        }
        let outcome = tokio::select! {
            biased;
            _ = epochs.changed() => continue,
            message = heard.next() => match message {
                Some(message) => take_all(entry, message, heard).await,
                None => Err(Problem::Unreachable("the connection has ended".into()).into()),
            },
            missing = entry.missing() => catch_up(entry, missing).await,
        };
        if let Err(ended) = outcome {
            return ended;
        }
    }
}

/// Takes in a message, and what has come behind it.
async fn take_all(entry: &Arc<Entry>, first: Message, heard: &mut Subscriber) -> Result<(), Ended> {
    let (mut next, mut count, mut grown) = (Some(first), 0, false);
    while let Some(message) = next {
        let arrival = message::arrival(&message).ok_or(Problem::Strange)?;
        let offset = arrival.offset;
        let taken = entry.log().write().take(arrival, message::previous(&message), Timestamp::now());
        match taken {
            Taken::Stored => grown = true,
            Taken::Known => {}
            Taken::Hole => catch_up(entry, offset).await?,
            Taken::Contradiction => return Err(contradiction(entry).await),
        }
        publish::stored(entry, &message);
        count += 1;
        next = if count < AT_ONCE { heard.next().now_or_never().flatten() } else { None };
    }
    entry.engine.saw(entry.partition, entry.log().read().last());
    if grown {
        entry.tell();
    }
    Ok(())
}

/// Fetches what is missing up to `until`, where there is said to be a record.
async fn catch_up(entry: &Arc<Entry>, until: u64) -> Result<(), Ended> {
    let from = entry.log().read().last();
    if from >= until {
        return Ok(());
    }
    let (engine, sure) = (&entry.engine, entry.sure_through().max(from));
    let mut contradicted = false;
    let mut take = |arrival| {
        let taken = entry.log().write().take(arrival, None, Timestamp::now());
        contradicted |= taken == Taken::Contradiction;
    };
    fetch(entry, from + 1, until, &mut take).await?;
    engine.metrics.broker_holes_filled.inc();
    if contradicted {
        return Err(contradiction(entry).await);
    }
    // What lies between may have run out before it was fetched.
    let first = engine.state_after(entry.partition, Instant::now()).await?.first_seq;
    if first > sure + 1 {
        tracing::warn!(topic = entry.topic, after = sure, first, "what was missed may have run out meanwhile");
        entry.log().write().forget_through(first - 1);
    }
    engine.saw(entry.partition, entry.log().read().last());
    entry.tell();
    Ok(())
}

/// Hands over the records from `from` on, in order, until `until` is reached. Servers that are behind are asked again, and
/// then the one that leads; a record that is not found in the end is no longer there.
async fn fetch(
    entry: &Arc<Entry>,
    from: u64,
    until: u64,
    take: &mut (dyn FnMut(Arrival) + Send),
) -> Result<(), Problem> {
    let (mut next, mut looks) = (from, 0);
    while next <= until {
        let batch = entry.engine.records(entry.partition, &entry.topic, next, BATCH).await?;
        let came = batch.messages.len();
        entry.engine.metrics.broker_events_fetched.inc_by(came as u64);
        for message in &batch.messages {
            let arrival = message::arrival(message).ok_or(Problem::Strange)?;
            next = next.max(arrival.offset + 1);
            take(arrival);
            publish::stored(entry, message);
        }
        if came > 0 {
            continue;
        }
        looks += 1;
        if looks < LOOKS.0 {
            sleep(LOOKS.1).await;
        } else {
            (next, looks) = (fetch_led(entry, next, until, take).await?, 0);
        }
    }
    Ok(())
}

/// The same from the stream's leader, some of it. Where to go on.
async fn fetch_led(
    entry: &Arc<Entry>,
    from: u64,
    until: u64,
    take: &mut (dyn FnMut(Arrival) + Send),
) -> Result<u64, Problem> {
    let (mut next, mut had) = (from, 0);
    while next <= until && had < LED {
        let Some(stored) = entry.engine.led(entry.partition, &entry.topic, next).await? else {
            next = until + 1;
            break;
        };
        let message = stored.into_message();
        let arrival = message::arrival(&message).ok_or(Problem::Strange)?;
        next = arrival.offset + 1;
        entry.engine.metrics.broker_events_fetched.inc();
        take(arrival);
        publish::stored(entry, &message);
        had += 1;
    }
    if had > 0 {
        tracing::debug!(topic = entry.topic, had, "the server that is asked is behind: it was had from the leader");
    }
    Ok(next)
}

/// What was stored is not what is stored now.
async fn contradiction(entry: &Entry) -> Ended {
    match entry.engine.renew(entry.partition).await {
        Ok(()) => Ended::Epoch,
        Err(problem) => problem.into(),
    }
}
