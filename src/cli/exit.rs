//! How a command ends: its exit code, and the one sentence on stderr that says why.

use std::{fmt, io, process::ExitCode};

/// Every exit code of every command but `probe`, which has those of `grpc_health_probe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done, or nobody reads our output any more.
    Ok = 0,
    /// Something went wrong on this side: a file, the input, a bug.
    Failure = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// No server there, or it went away and did not come back.
    Unreachable = 3,
    /// The server said no.
    Refused = 4,
    /// Ctrl-C.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

/// The end of `bowline --help`.
pub(super) const TABLE: &str = "\
Exit codes:
  0    done; also when nobody reads the output any more (a closed pipe)
  1    something went wrong on this side: a file, the input
  2    the command line makes no sense
  3    no server there, or it went away and did not come back
  4    the server refused
  130  interrupted (Ctrl-C)
  143  terminated (SIGTERM)
`bowline probe` has those of grpc_health_probe instead: see `bowline probe --help`.";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command stopped short.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stop {
    /// The code to exit with.
    pub(super) exit: Exit,
    /// One sentence for people; empty where there is nothing to say.
    pub(super) sentence: String,
}

impl Stop {
    /// Ends with a code and a sentence.
    pub(super) fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, sentence: sentence.into() }
    }

    /// Something went wrong on this side.
    pub(super) fn failure(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Failure, sentence)
    }

    /// A value that cannot be meant.
    pub(super) fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Usage, sentence)
    }

    /// What a failed write to stdout means: a closed pipe is the reader's wish to stop, everything else is an error.
    pub(super) fn stdout(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Exit::Ok, ""),
            _ => Self::failure(format!("cannot write to stdout: {error}")),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// Tells people something on stderr. That stderr may be closed is no reason to fail.
pub(super) fn notice(sentence: impl fmt::Display) {
    use io::Write as _;
    writeln!(io::stderr(), "bowline: {sentence}").ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_code() {
        use Exit::*;
        for exit in [Ok, Failure, Usage, Unreachable, Refused, Interrupted, Terminated] {
            assert!(TABLE.contains(&format!("\n  {:<4} ", exit as u8)), "{exit:?}");
        }
    }

    #[test]
    fn a_closed_pipe_is_a_quiet_success() {
        let stop = Stop::stdout(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(stop, Stop::new(Exit::Ok, ""));
        assert_eq!(Stop::stdout(&io::Error::from(io::ErrorKind::StorageFull)).exit, Exit::Failure);
    }
}
