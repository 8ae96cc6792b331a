//! Exit codes.

use tensorseal::Error;
use tensorseal::error::Failure;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// The answer is yes, or the work is done.
    Yes,
    /// The answer is no.
    No,
    /// The command line was wrong.
    Usage,
    /// No answer could be had.
    NoAnswer,
    /// The command to run cannot be run.
    NotExecutable,
    /// There is no such command to run.
    NotFound,
}

impl Exit {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Yes => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::NoAnswer => 3,
            // As env(1), nohup(1) and shells have them.
            Self::NotExecutable => 126,
            Self::NotFound => 127,
        }
    }

    /// For JSON reports.
    pub(super) const fn verdict(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Usage | Self::NoAnswer | Self::NotExecutable | Self::NotFound => "none",
        }
    }
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Self {
        match error.failure() {
            Failure::No => Self::No,
            Failure::Usage => Self::Usage,
            Failure::NoAnswer => Self::NoAnswer,
        }
    }
}
