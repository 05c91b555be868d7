//! Whether the peer has said hello in HTTP/2: its preface and a whole SETTINGS frame.

/// Bytes of the client preface. What they are is checked by HTTP/2 itself.
const PREFACE: usize = 24;
/// Bytes of a frame header; the first three are the payload's length.
const HEADER: usize = 9;

/// Counts what the peer has sent so far.
///
/// It reads the decrypted bytes on their way to HTTP/2, which has no clock of its own for them. The frame guard, which
/// will judge all later frames, belongs in the same place.
#[derive(Debug, Default)]
pub(super) struct Greeting {
    /// Bytes seen, until the greeting is complete.
    seen: usize,
    /// Payload length of the first frame.
    length: usize,
}

impl Greeting {
    /// Takes the next bytes, in any split. Cheap once complete.
    pub(super) fn observe(&mut self, bytes: &[u8]) {
        if self.is_complete() {
            return;
        }
        for (position, byte) in (self.seen..).zip(bytes) {
            if (PREFACE..PREFACE + 3).contains(&position) {
                self.length = self.length << 8 | usize::from(*byte);
            } else if position >= PREFACE + 3 {
                break;
            }
        }
        self.seen = self.seen.saturating_add(bytes.len());
    }

    /// Whether both have arrived.
    pub(super) fn is_complete(&self) -> bool {
        self.seen >= PREFACE + HEADER + self.length
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_split_completes_at_the_same_byte(length in 0_usize..200, cuts in prop::collection::vec(1_usize..40, 1..80)) {
            let mut wire = vec![b'P'; PREFACE];
            wire.extend([0, 0, u8::try_from(length).unwrap(), 4, 0, 0, 0, 0, 0]);
            wire.extend(vec![7; length + 50]);
            let mut greeting = Greeting::default();
            let mut sent = 0;
            for cut in cuts {
                let end = (sent + cut).min(wire.len());
                greeting.observe(&wire[sent..end]);
                sent = end;
                prop_assert_eq!(greeting.is_complete(), sent >= PREFACE + HEADER + length);
            }
        }
    }
}
