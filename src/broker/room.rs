//! Room for new events, once all histories together hold nearly as much as they may: the longest are cut down.

use std::{cmp::Reverse, sync::Arc};

use parking_lot::RwLock;

use crate::log::{Log, Total};

/// Something with a log.
pub(super) type Logged = dyn AsRef<RwLock<Log>> + Send + Sync;

/// Cuts the longest histories down to one length, such that there is room again; returns the bytes dropped. Nothing is
/// done, and nothing looked at, while there is room.
pub(super) fn make(total: &Total, logs: impl FnOnce() -> Vec<Arc<Logged>>) -> u64 {
    let surplus = total.surplus();
    if surplus == 0 {
        return 0;
    }
    let sized = logs().into_iter().map(|logged| {
        let (_, bytes) = (*logged).as_ref().read().size();
        (bytes, logged)
    });
    let mut sized: Vec<_> = sized.filter(|(bytes, _)| *bytes > 0).collect();
    sized.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
    let sizes: Vec<_> = sized.iter().map(|(bytes, _)| *bytes).collect();
    let length = common_length(&sizes, surplus);
    let longer = sized.iter().take_while(|(bytes, _)| *bytes > length);
    longer.map(|(_, logged)| (**logged).as_ref().write().trim_to(length)).sum()
}

/// The length to cut histories down to, so that they are `surplus` bytes shorter together: those that are no longer than
/// it lose nothing. `sizes` are theirs, the longest first.
fn common_length(sizes: &[u64], surplus: u64) -> u64 {
    let mut sum = 0;
    for (index, size) in sizes.iter().enumerate() {
        sum += size;
        let next = sizes.get(index + 1).copied().unwrap_or(0);
        let length = sum.saturating_sub(surplus) / (index as u64 + 1);
        if sum >= surplus && length >= next {
            return length;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_longest_are_cut_to_one_length_and_no_further_than_they_must(
            mut sizes in prop::collection::vec(1_u64..10_000, 1..40),
            surplus in 1_u64..100_000,
        ) {
            sizes.sort_unstable_by_key(|size| std::cmp::Reverse(*size));
            let length = common_length(&sizes, surplus);
            let cut = |length: u64| sizes.iter().map(|size| size.saturating_sub(length)).sum::<u64>();
            prop_assert!(cut(length) >= surplus || length == 0);
            // One byte more of each would be too little.
            prop_assert!(cut(length + 1) < surplus || surplus >= sizes.iter().sum());
        }
    }
}
