//! Log lines that whoever calls can cause: so many in any one second, and then a number. What is left out is counted by
//! metrics, and can be had by logging at `debug`.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// What the lines are counted over. Not a rate with a burst: that would let twice as many through in the second in which a
/// silence ends, and several kinds of lines may begin in the same.
const SPAN: Duration = Duration::from_secs(1);

/// One kind of line.
#[derive(Debug)]
pub struct Sparing {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the last were written, of those that are not older than the span.
    written: VecDeque<Instant>,
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
    /// At most so many in any one second.
    pub fn new(per_second: usize) -> Self {
        Self { most: per_second, state: Mutex::default() }
    }

    /// The next line.
    pub fn next(&self) -> Line {
        let (mut state, now) = (self.state.lock(), Instant::now());
        while state.written.front().is_some_and(|at| now.saturating_duration_since(*at) >= SPAN) {
            state.written.pop_front();
        }
        if state.written.len() < self.most {
            state.written.push_back(now);
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

    #[tokio::test(start_paused = true)]
    async fn no_second_has_more_whenever_it_begins() {
        let (lines, mut written) = (Sparing::new(3), Vec::new());
        for at in 0..500 {
            if at % 150 < 100 && lines.next() != Line::LeftOut {
                written.push(at);
            }
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        assert!(written.len() >= 9, "{written:?}");
        assert!(written.windows(4).all(|four| four[3] - four[0] >= 100), "{written:?}");
    }
}
