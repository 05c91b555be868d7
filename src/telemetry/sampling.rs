//! Which spans are kept.
//!
//! Decided before a span is made, so that one that is not kept costs next to nothing. A caller's wish to be traced, its
//! sampled flag, is followed, but only so often: otherwise whoever may call could have everything traced.

use opentelemetry::trace::SpanContext;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

use crate::types::Rate;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sampler {
    /// Follow the caller's decision, where there is one.
    pub(super) parent_based: bool,
    /// Share of streams, otherwise.
    pub(super) streams: f64,
    /// Share of unary calls and of publishes, otherwise.
    pub(super) messages: f64,
}

/// What a span would be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The opening of a stream.
    Stream,
    /// A unary call or a publish.
    Message,
}

/// Decides.
#[derive(Debug)]
pub(super) struct Sampling {
    sampler: Sampler,
    /// None where no wish is followed.
    forced: Option<Mutex<Rate>>,
    /// Wishes that were not followed.
    unfollowed: Counter,
}

impl Sampling {
    /// Follows at most `max_forced_per_second` wishes; counts those beyond in `unfollowed`.
    pub(super) fn new(sampler: Sampler, max_forced_per_second: u32, unfollowed: Counter) -> Self {
        let forced = (max_forced_per_second > 0).then(|| Mutex::new(Rate::new(max_forced_per_second, Instant::now())));
        Self { sampler, forced, unfollowed }
    }

    /// Whether to keep a span under `parent`, which is valid if it is there.
    pub(super) fn keeps(&self, kind: Kind, parent: Option<&SpanContext>) -> bool {
        let ratio = match kind {
            Kind::Stream => self.sampler.streams,
            Kind::Message => self.sampler.messages,
        };
        let Some(parent) = parent else { return draw(ratio) };
        let wished = match self.sampler.parent_based {
            true => parent.is_sampled(),
            // The same trace is kept, or not, by all who look at its id alone.
            false => share(parent.trace_id().to_bytes()) < ratio,
        };
        if !wished || self.forced.as_ref().is_some_and(|rate| rate.lock().take(Instant::now())) {
            return wished;
        }
        self.unfollowed.inc();
        // By chance, and not by an id that the caller has chosen.
        draw(ratio)
    }
}

fn draw(ratio: f64) -> bool {
    ratio >= 1.0 || (ratio > 0.0 && fastrand::f64() < ratio)
}

/// Where a trace id lies in its range, from 0 to 1: by its last seven bytes, which are random (W3C Trace Context, level
/// 2).
fn share(id: [u8; 16]) -> f64 {
    let tail = id[9..].iter().fold(0_u64, |tail, byte| tail << 8 | u64::from(*byte));
    tail as f64 / (1_u64 << 56) as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};

    use super::*;

    fn caller(id: u128, sampled: bool) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(sampled);
        SpanContext::new(TraceId::from(id), SpanId::from(7), flags, true, TraceState::default())
    }

    fn sampling(parent_based: bool, messages: f64, max_forced: u32) -> Sampling {
        Sampling::new(Sampler { parent_based, streams: 1.0, messages }, max_forced, Counter::default())
    }

    #[test]
    fn without_a_caller_the_ratio_decides() {
        let sampling = sampling(true, 0.25, 100);
        assert!((0..100).all(|_| sampling.keeps(Kind::Stream, None)));
        let kept = (0..10_000).filter(|_| sampling.keeps(Kind::Message, None)).count();
        assert!((2000..3000).contains(&kept), "{kept} of 10,000");
        assert!(!self::sampling(true, 0.0, 100).keeps(Kind::Message, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_is_followed_but_only_so_often() {
        let sampling = sampling(true, 0.0, 10);
        assert!(!sampling.keeps(Kind::Stream, Some(&caller(1, false))), "who is not traced is not, whatever the ratio");
        let follow = || (0..1000).filter(|_| sampling.keeps(Kind::Message, Some(&caller(1, true)))).count();
        assert_eq!(follow(), 10);
        assert_eq!(sampling.unfollowed.get(), 990);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(follow(), 5);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(follow(), 10, "an hour of silence saves up no more than a second's worth");
        assert!(
            sampling.keeps(Kind::Stream, Some(&caller(1, true))),
            "the ratio still counts for whoever is beyond it"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_caller_does_not_count_its_trace_id_does() {
        let sampling = sampling(false, 0.5, 100);
        let low = u128::from(u64::MAX >> 10);
        let high = low | 1 << 55;
        assert!(sampling.keeps(Kind::Message, Some(&caller(low, false))));
        assert!(!sampling.keeps(Kind::Message, Some(&caller(high, true))));
    }
}
