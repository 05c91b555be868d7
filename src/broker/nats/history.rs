//! Where the history of a topic begins that a replica keeps: no more of it is fetched than it will hold.

use super::{api::Problem, entry::Entry};

/// How often the beginning is looked for: each look halves what is left.
const LOOKS: usize = 40;

/// The place from which on records are to be fetched, of a topic whose newest is at `newest`; 1 for all there are.
///
/// A keyed topic is fetched as a whole: what was set long ago may be what is latest still.
pub(super) async fn start(entry: &Entry, newest: u64) -> Result<u64, Problem> {
    let most = entry.limits.max_events;
    if entry.limits.max_keys > 0 || count(entry, 1).await? <= most.saturating_mul(2) {
        return Ok(1);
    }
    // More than `most` lie at `low` or after, no more than that at `high`.
    let (mut low, mut high) = (1, newest);
    for _ in 0..LOOKS {
        let middle = low + (high - low) / 2;
        if middle == low {
            break;
        }
        let left = count(entry, middle).await?;
        if left > most {
            low = middle;
        } else {
            high = middle;
        }
        if left > most && left <= most.saturating_mul(2) {
            break;
        }
    }
    Ok(low)
}

/// How many records the topic has at `from` or later.
async fn count(entry: &Entry, from: u64) -> Result<u64, Problem> {
    let batch = entry.engine.records(entry.partition, &entry.topic, from, 1).await?;
    Ok(batch.left + batch.messages.len() as u64)
}
