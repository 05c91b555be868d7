//! Log lines that whoever calls can cause: so many a second, and then a number. What is left out is counted by metrics, and
//! can be had by logging at `debug`.

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::types::Rate;

/// One kind of line.
#[derive(Debug)]
pub struct Sparing(Mutex<State>);

#[derive(Debug)]
struct State {
    rate: Rate,
    left_out: u64,
}

/// What is to become of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// It is written.
    Written {
        /// With how many were left out before it, if any were.
        left_out: Option<u64>,
    },
    /// It is left out.
    LeftOut,
}

impl Sparing {
    /// At most so many a second.
    pub fn new(per_second: u32) -> Self {
        Self(Mutex::new(State { rate: Rate::new(per_second, Instant::now()), left_out: 0 }))
    }

    /// The next line.
    pub fn next(&self) -> Line {
        let mut state = self.0.lock();
        if state.rate.take(Instant::now()) {
            let left_out = std::mem::take(&mut state.left_out);
            Line::Written { left_out: (left_out > 0).then_some(left_out) }
        } else {
            state.left_out += 1;
            Line::LeftOut
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_left_out_is_said_with_the_next_line() {
        let lines = Sparing::new(2);
        let next = || lines.next();
        let written = |left_out| Line::Written { left_out };
        assert_eq!([next(), next(), next(), next()], [written(None), written(None), Line::LeftOut, Line::LeftOut]);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!([next(), next(), next()], [written(Some(2)), written(None), Line::LeftOut]);
    }
}
