//! An event as it is kept, and what it takes.

use std::sync::Arc;

use bytes::Bytes;

use crate::types::{PublishTrace, Timestamp};

/// What [`Bytes`] allocates beside the bytes, once it is shared.
const SHARED: usize = 32;

/// One stored event.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its position.
    pub offset: u64,
    /// When it was stored.
    pub time: Timestamp,
    /// Length of its payload, bytes: what credit counts.
    pub payload_len: usize,
    /// The event as an element of `Delivery.events`; see [`crate::proto::encode_event`].
    pub encoded: Bytes,
    /// The span in which it was published, if that was traced.
    pub trace: Option<Arc<PublishTrace>>,
}

impl Record {
    /// Bytes of memory it takes.
    pub fn weight(&self) -> u64 {
        weight(self.encoded.len())
    }
}

/// Bytes of memory that a record of so many encoded bytes takes: the piece that an allocator hands out for them, the
/// count of who shares it, its entry in the ring, and an eighth for what is lost between pieces and for what is
/// on its way to become a record or has just stopped to be one.
pub(super) fn weight(encoded_len: usize) -> u64 {
    let sum = piece(encoded_len) + SHARED + size_of::<Record>();
    (sum + sum / 8) as u64
}

/// What an allocator hands out for `len` bytes: there are four sizes to a doubling, as in jemalloc.
fn piece(len: usize) -> usize {
    let step = (len.next_power_of_two() / 8).max(16);
    len.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_as_the_piece_of_memory_it_is_given() {
        let classes = [(1, 16), (17, 32), (128, 128), (129, 160), (61_500, 65_536), (65_536, 65_536), (65_537, 81_920)];
        assert_eq!(classes.map(|(len, _)| piece(len)), classes.map(|(_, size)| size));
        assert!(classes.iter().all(|(len, size)| weight(*len) > *size as u64));
    }
}
