//! Which incarnation of a stream this is: a number that all replicas agree on, and that changes when what was stored is
//! no longer there, or the stream is another one.
//!
//! It lies in a key-value bucket, and is written by compare-and-set: of replicas that notice at once, one writes, and the
//! others find that it has changed already.

use async_nats::Client;
use serde::{Deserialize, Serialize};

use super::{
    api::{self, Problem},
    names::Names,
};

/// How often it is tried again after somebody else was quicker.
const ATTEMPTS: usize = 10;

/// What the bucket holds for each stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// Sixteen hexadecimal digits.
    epoch: String,
    /// When the stream was created that it is for, in the server's words.
    created: String,
}

/// The epoch of a partition, whose stream was created at `created`. A new one if the stream is another than the one
/// that is known, and if the known one is `lost`: that, and no other, is no longer what the stream is.
pub(super) async fn agree(
    client: &Client,
    names: &Names,
    partition: u16,
    created: &str,
    lost: Option<u64>,
) -> Result<u64, Problem> {
    for _ in 0..ATTEMPTS {
        let held = api::newest(client, &names.bucket_stream(), &names.epoch(partition)).await?;
        let revision = held.as_ref().map_or(0, |stored| stored.seq);
        let entry = held.and_then(|stored| serde_json::from_slice::<Entry>(&stored.content()).ok());
        let known = entry.filter(|entry| entry.created == created);
        let known = known.and_then(|entry| u64::from_str_radix(&entry.epoch, 16).ok()).filter(|epoch| *epoch != 0);
        if let Some(epoch) = known.filter(|epoch| lost != Some(*epoch)) {
            return Ok(epoch);
        }
        let epoch = fastrand::u64(1..);
        let entry = Entry { epoch: format!("{epoch:016x}"), created: created.to_owned() };
        let content = serde_json::to_vec(&entry).map_err(|_| Problem::Strange)?.into();
        match api::put(client, names.epoch(partition), content, Some(revision)).await {
            Ok(_) => {
                tracing::warn!(
                    partition,
                    epoch = entry.epoch,
                    "a stream has a new epoch: it is new, or was lost in part"
                );
                return Ok(epoch);
            }
            Err(problem) if problem.wrong_last().is_some() => {}
            Err(problem) => return Err(problem),
        }
    }
    Err(Problem::Late)
}

/// When the stream was created whose epoch is known for the partition; none if there is no epoch.
pub(super) async fn known(client: &Client, names: &Names, partition: u16) -> Result<Option<String>, Problem> {
    let held = api::newest(client, &names.bucket_stream(), &names.epoch(partition)).await?;
    Ok(held.and_then(|stored| serde_json::from_slice::<Entry>(&stored.content()).ok()).map(|entry| entry.created))
}
