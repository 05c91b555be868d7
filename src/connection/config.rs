//! `[connection]`.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// An answer that waits, bytes: most are a tenth of it, a failure with its sentence may be nearly all.
const ANSWER: u64 = 1024;
/// A session on its connection, bytes: its lane, its reader, its place in the directory, its estate.
const SESSION: u64 = 4096;

/// `[connection]`: what one connection may do and how it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a client may take to say Hello.
    #[serde(with = "humantime_serde")]
    pub hello_timeout: Duration,
    /// Largest message either way.
    pub max_message_size: ByteSize,
    /// Most sessions open at once.
    pub max_sessions: usize,
    /// Most answers that may wait to be sent before nothing more is read; most publishes that may wait for the broker.
    pub queue_size: usize,
    /// Most bytes of deliveries made ready in one go.
    pub batch_size: ByteSize,
    /// Most bytes of deliveries a second; 0 sets no pace.
    pub max_send_rate: ByteSize,
    /// How long a polite end may take to go out before the stream is reset.
    #[serde(with = "humantime_serde")]
    pub close_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hello_timeout: Duration::from_secs(10),
            max_message_size: ByteSize::mib(5),
            max_sessions: 256,
            queue_size: 512,
            batch_size: ByteSize::kib(32),
            max_send_rate: ByteSize::b(0),
            close_grace: Duration::from_secs(1),
        }
    }
}

impl Config {
    /// What a payload may be, so that the event around it still fits a message: see the limits on keys and headers.
    pub fn max_payload(&self) -> usize {
        let message = usize::try_from(self.max_message_size.as_u64()).unwrap_or(usize::MAX);
        message.saturating_sub(16 * 1024)
    }

    /// What the decoder lets through. Twice the limit, because a decoder's refusal ends the call, and a payload that is
    /// only somewhat too large should cost its sender an answer and not all its sessions.
    pub fn decode_limit(&self) -> usize {
        usize::try_from(self.max_message_size.as_u64()).unwrap_or(usize::MAX).saturating_mul(2)
    }

    /// Most bytes that a connection can take: a message being put together, an event on its way out, answers that wait,
    /// a batch, and what there is of each session.
    pub fn bytes_of_connection(&self) -> u64 {
        let (queue, sessions) = (self.queue_size as u64 * ANSWER, self.max_sessions as u64 * SESSION);
        self.bytes_of_unary_call() + queue + self.batch_size.as_u64() + sessions
    }

    /// Most bytes that a unary call can take: a message being put together, and its answer.
    pub fn bytes_of_unary_call(&self) -> u64 {
        self.decode_limit() as u64 + self.max_message_size.as_u64()
    }

    /// Everything wrong with the section, as `(key, sentence)`.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut check = |wrong: bool, key: &str, sentence: &str| {
            if wrong {
                problems.push((key.to_owned(), sentence.to_owned()));
            }
        };
        let size = self.max_message_size.as_u64();
        check(!(64 * 1024..=256 << 20).contains(&size), "max_message_size", "must be between 64KiB and 256MiB");
        check(self.max_sessions == 0, "max_sessions", "must be at least 1");
        check(self.queue_size < 16, "queue_size", "must be at least 16");
        check(self.batch_size.as_u64() < 1024, "batch_size", "must be at least 1KiB");
        check(self.hello_timeout.is_zero(), "hello_timeout", "must be longer than zero");
        problems
    }
}
