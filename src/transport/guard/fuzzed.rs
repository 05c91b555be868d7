//! What a guard is held to, whatever bytes it sees: for `fuzz/`, and for this module's own tests.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Debts, Guard, GuardConfig, frames};

/// Bytes of both ends, in pieces: of each, the first byte says whose it is (its highest bit) and how many bytes it has, and
/// how long after the last one it comes. Panics if a guard is not as it is described.
///
/// One guard gets the pieces whole, another byte by byte: both let the same through and come to the same verdict. No guard
/// lets through more than it was given, nor anything of a peer's after its verdict; and its last words are a GOAWAY.
pub fn hold_guard(bytes: &[u8]) {
    let config = Arc::new(GuardConfig::default());
    let mut now = Instant::now();
    let new = || {
        let mut guard = Guard::new(config.clone(), Debts::default(), now);
        guard.received(&[b'P'; frames::PREFACE as usize], || now);
        guard
    };
    let (mut whole, mut split, mut rest) = (new(), new(), bytes);
    while let Some((&head, after)) = rest.split_first() {
        let (piece, after) = after.split_at(after.len().min(usize::from(head & 0x3f)));
        rest = after;
        now += Duration::from_secs(u64::from(head >> 6 & 1) * 16);
        let judged = whole.has_judged();
        let feed = |guard: &mut Guard, piece: &[u8]| {
            if head & 0x80 == 0 { guard.received(piece, || now) } else { guard.sent(piece, || now) }
        };
        let passed = feed(&mut whole, piece);
        assert!(passed <= piece.len(), "more is let through than came");
        assert!(!judged || head & 0x80 != 0 || passed == 0, "something is let through after the verdict");
        let in_bytes: usize = piece.iter().map(|byte| feed(&mut split, std::slice::from_ref(byte))).sum();
        assert_eq!((passed, whole.verdict()), (in_bytes, split.verdict()), "a split makes a difference");
        assert_eq!(
            (whole.debts(now), whole.greeted()),
            (split.debts(now), split.greeted()),
            "a split makes a difference"
        );
    }
    if let (Some(words), Some(verdict)) = (whole.last_words(), whole.verdict()) {
        assert_eq!((words[3], &words[17..]), (frames::kind::GOAWAY, verdict.as_str().as_bytes()));
    }
}
