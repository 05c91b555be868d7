//! A cursor that another replica has given out may be ahead of what has come here: events are heard a moment later, and of
//! another epoch only the next look at the stream tells.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use super::{
    api,
    entry::{Entry, unreachable},
};
use crate::{error::Failure, types::Cursor};

/// How long what is known to be there may take to come here.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(4);

/// See [`crate::broker::Line::reaches`].
pub(super) async fn reach(entry: &Arc<Entry>, cursor: Cursor) -> Result<(), Failure> {
    if is_other_epoch(entry, cursor) {
        look_for_epoch(entry).await?;
        if is_other_epoch(entry, cursor) {
            return Ok(());
        }
    }
    if !is_ahead(entry, cursor) {
        return Ok(());
    }
    // If the topic ends before it, it is a place that never was, or is no more.
    let newest = newest_after(entry, Instant::now()).await?;
    if newest >= cursor.offset { arrive(entry, newest).await } else { Ok(()) }
}

/// See [`crate::broker::Line::current`].
pub(super) async fn current(entry: &Arc<Entry>) -> Result<(), Failure> {
    let newest = newest_after(entry, Instant::now()).await?;
    arrive(entry, newest).await
}

/// The topic's newest record, as the stream's leader says it when it is asked after `moment`; 0 if there is none. Whoever
/// needs no newer answer does not ask again.
async fn newest_after(entry: &Arc<Entry>, moment: Instant) -> Result<u64, Failure> {
    let mut answer = entry.newest.lock().await;
    if let Some((_, newest)) = answer.filter(|(asked, _)| *asked >= moment) {
        return Ok(newest);
    }
    let (engine, asked) = (&entry.engine, Instant::now());
    let _turn = engine.questions.acquire().await;
    let (stream, subject) = (engine.names.stream(entry.partition), engine.names.log(entry.partition, &entry.topic));
    let newest = api::newest(&engine.links.asking, &stream, &subject).await.map_err(|problem| {
        tracing::debug!(topic = entry.topic, %problem, "nobody says what the newest record is");
        unreachable()
    })?;
    let newest = newest.map_or(0, |stored| stored.seq);
    *answer = Some((asked, newest));
    Ok(newest)
}

/// Waits until a record is here that is known to be there.
async fn arrive(entry: &Arc<Entry>, offset: u64) -> Result<(), Failure> {
    entry.want(offset);
    timeout(ARRIVAL_TIMEOUT, entry.arrived(offset)).await.map_err(|_| unreachable())
}

fn is_other_epoch(entry: &Entry, cursor: Cursor) -> bool {
    entry.log().read().head().epoch != cursor.epoch
}

/// Of a topic of which nothing is known, every place is as good.
fn is_ahead(entry: &Entry, cursor: Cursor) -> bool {
    let log = entry.log().read();
    log.last() != 0 && cursor.offset > log.head().offset.max(log.last())
}

/// Takes the epoch that there is by now, and waits for its log to be in sight.
async fn look_for_epoch(entry: &Arc<Entry>) -> Result<(), Failure> {
    let engine = &entry.engine;
    let looked = async {
        let description = engine.description_after(entry.partition, Instant::now()).await?;
        engine.agree(entry.partition, description, None).await
    };
    if let Err(problem) = looked.await {
        tracing::debug!(topic = entry.topic, %problem, "a cursor is of another epoch, and nobody says which there is");
        return Err(unreachable());
    }
    // It may be known already, by somebody else's look, and the log be on its way to it.
    let shown = timeout(ARRIVAL_TIMEOUT, entry.shows(engine.epoch(entry.partition))).await;
    shown.map_err(|_| unreachable())
}
