//! Looks after the streams: whether they are still those they were, and whether something was missed.
//!
//! A record that is lost on its way here is found by the next one of its topic. The last one has none that would show it;
//! it is found by looking. What has not changed since it was looked at is not asked for again.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{Engine, api, api::Problem, entry::Entry, names::CANARY};

/// Partitions that are looked at at once.
const AT_ONCE: usize = 4;
/// So long without any answer, and another server is asked. A stream that has lost its leader has another one sooner.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often a look begins anew at most.
const ANEW: usize = 3;
/// A stream that seems to have lost something is looked at so often before it is believed, with so much time between: a
/// new leader may not have caught up with itself.
const DOUBTS: (usize, Duration) = (3, Duration::from_millis(700));

/// Looks at every partition with topics that are open here, again and again, and at once when the alarm rings.
pub(super) async fn run(engine: Arc<Engine>) {
    let mut ticks = interval(engine.config.check_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answered = Instant::now();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = engine.alarm.notified() => {}
        }
        if look_anew(&engine).await {
            answered = Instant::now();
        } else if answered.elapsed() >= PATIENCE {
            // It may be one that has lost the others.
            tracing::warn!("the NATS server answers nothing that it is asked; another one is looked for");
            engine.links.move_on().await;
            answered = Instant::now();
        }
    }
}

/// Looks, and begins anew when the alarm rings meanwhile: what was asked before may never be answered.
async fn look_anew(engine: &Arc<Engine>) -> bool {
    for _ in 0..ANEW {
        tokio::select! {
            answered = look(engine) => return answered,
            () = engine.alarm.notified() => {}
        }
    }
    look(engine).await
}

/// Looks at every partition with topics that are open here. True if anybody has answered.
async fn look(engine: &Arc<Engine>) -> bool {
    let mut entries = engine.open_entries();
    // There is always one to look at, by which it is seen whether anybody answers.
    entries.entry(engine.names.partition(CANARY)).or_default();
    let checks = stream::iter(entries).map(async |(partition, entries)| {
        let checked = check(engine, partition, &entries).await;
        if let Err(problem) = &checked {
            tracing::warn!(partition, %problem, "a stream could not be looked at");
        }
        checked.is_ok()
    });
    checks.buffer_unordered(AT_ONCE).fold(false, |any, answered| std::future::ready(any || answered)).await
}

async fn check(engine: &Arc<Engine>, partition: u16, entries: &[Arc<Entry>]) -> Result<(), Problem> {
    let (epoch, before) = (engine.epoch(partition), engine.seen(partition));
    let description = match engine.description_after(partition, Instant::now()).await {
        // Somebody has deleted it, or the servers have lost it.
        Err(problem) if problem.is_no_stream() => return engine.prepare(partition).await,
        other => other?,
    };
    let last = description.state.last_seq;
    if last < before && !engine.is_another(partition, &description) {
        return doubt(engine, partition, before).await;
    }
    match engine.agree(partition, description, None).await {
        Err(problem) if problem.is_no_stream() => return engine.prepare(partition).await,
        other => other?,
    }
    if engine.epoch(partition) != epoch {
        return Ok(());
    }
    engine.saw(partition, last);
    let since = engine.verified(partition);
    if since == last {
        return Ok(());
    }
    let by_subject: HashMap<String, &Arc<Entry>> =
        entries.iter().map(|entry| (engine.names.log(partition, &entry.topic), entry)).collect();
    let subjects: Vec<String> = by_subject.keys().cloned().collect();
    let mut up_to = Some(last);
    for chunk in subjects.chunks(api::MAX_SUBJECTS) {
        let heads = engine.heads(partition, chunk, since + 1).await?;
        for subject in chunk {
            if let Some(entry) = by_subject.get(subject) {
                entry.compare(heads.places.get(subject).copied(), heads.up_to);
            }
        }
        up_to = up_to.min(heads.up_to);
    }
    if let Some(up_to) = up_to {
        engine.verify(partition, epoch, up_to);
    }
    Ok(())
}

/// A stream says that it is shorter than it was. If it stands by that, it has lost something.
async fn doubt(engine: &Arc<Engine>, partition: u16, before: u64) -> Result<(), Problem> {
    for _ in 0..DOUBTS.0 {
        sleep(DOUBTS.1).await;
        if engine.state_after(partition, Instant::now()).await?.last_seq >= before {
            return Ok(());
        }
    }
    // Whoever answers may have lost the others, and not know it. Where a majority stores something says how long it is.
    if engine.probe(partition).await?.seq > before {
        return Ok(());
    }
    engine.renew(partition).await
}
