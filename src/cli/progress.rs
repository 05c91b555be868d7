//! A progress bar for work that takes long, on a terminal only.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

/// Work that is done sooner needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far `pub` is, on stderr.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    /// When to show it; `None` once shown, and where it never is.
    due: Option<Instant>,
}

impl Progress {
    /// For an input of `size` bytes, if that is known.
    pub(super) fn new(size: Option<u64>) -> Self {
        // Nothing where nobody looks, and no bar across what somebody types.
        let shown = std::io::stderr().is_terminal() && (size.is_some() || !std::io::stdin().is_terminal());
        let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::hidden());
        let template = match size {
            Some(_) => "{bar:30} {percent}%  {msg}  {eta} left",
            None => "{spinner} {msg}  {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, due: shown.then(|| Instant::now() + PATIENCE) }
    }

    /// So much is done.
    pub(super) fn set(&mut self, bytes: u64, lines: u64) {
        let show = self.due.is_some_and(|due| due <= Instant::now());
        if show || !self.bar.is_hidden() {
            self.bar.set_position(bytes);
            self.bar.set_message(format!("{lines} lines"));
        }
        if show {
            self.due = None;
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
        }
    }

    /// Lets something else be written to the terminal.
    pub(super) fn aside(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
