//! Lines of any length from input of any size, in bounded memory.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Why there is no next line.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// The input failed.
    #[error("cannot read the input: {0}")]
    Input(#[from] io::Error),
    /// The line is longer than allowed.
    #[error("line {number} is longer than {limit} bytes, the most this server takes in one event")]
    TooLong {
        /// Which, from 1.
        number: u64,
        /// The limit, bytes.
        limit: usize,
    },
}

/// Splits input at `\n`. A last line needs none; a carriage return is content; an empty line is a line.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: R,
    limit: usize,
    number: u64,
    partial: BytesMut,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// Lines of at most `limit` bytes.
    pub(super) fn new(input: R, limit: usize) -> Self {
        Self { input, limit, number: 0, partial: BytesMut::new() }
    }

    /// The number of the last line returned, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next line, without its end; `None` at the end of the input. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        loop {
            let ready = self.input.fill_buf().await?;
            let end = ready.iter().position(|&b| b == b'\n');
            let part = &ready[..end.unwrap_or(ready.len())];
            if self.partial.len() + part.len() > self.limit {
                return Err(LineError::TooLong { number: self.number + 1, limit: self.limit });
            }
            let at_end_of_input = ready.is_empty();
            self.partial.extend_from_slice(part);
            let used = part.len() + usize::from(end.is_some());
            self.input.consume(used);
            if end.is_some() || (at_end_of_input && !self.partial.is_empty()) {
                self.number += 1;
                return Ok(Some(self.partial.split().freeze()));
            }
            if at_end_of_input {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8], limit: usize) -> Result<Vec<Bytes>, LineError> {
        // A tiny buffer, so that lines span several reads.
        let mut lines = Lines::new(tokio::io::BufReader::with_capacity(3, input), limit);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await? {
            all.push(line);
            assert_eq!(lines.number(), all.len() as u64);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn every_line_comes_as_it_is() {
        assert_eq!(lines(b"one\n\ntwo\r\nlast", 100).await.unwrap(), ["one", "", "two\r", "last"]);
        assert_eq!(lines(b"one\n", 3).await.unwrap(), ["one"]);
        assert!(lines(b"", 3).await.unwrap().is_empty());
        assert_eq!(lines(b"\n\n", 3).await.unwrap(), ["", ""]);
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_named() {
        let error = lines(b"ok\ntoo long\n", 7).await.unwrap_err();
        assert!(matches!(error, LineError::TooLong { number: 2, limit: 7 }), "{error}");
    }
}
