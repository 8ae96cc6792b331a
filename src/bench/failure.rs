//! Why there is nothing to tell.

use std::io;
use std::path::PathBuf;

use super::report::What;
use crate::device::{DeviceError, DeviceKind};
use crate::error::{Error, quoted};

/// Why a measurement ended without a number. [`Failure::is_wrong`] tells a wrong answer, whose speed means nothing, from none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A digest or a verdict about files was wrong.
    #[error("{device} gave a wrong {} ({name}): {how}. Its speed means nothing; run `tensorseal selftest --device {device}`", .what.noun())]
    WrongOfFiles {
        /// The device.
        device: DeviceKind,
        /// In which measurement.
        what: What,
        /// Which of that kind.
        name: String,
        /// What was expected, and what came.
        how: String,
    },
    /// Another program and ours do not say the same of the same files.
    #[error("{program} and tensorseal disagree ({task}): {how}. One of them is wrong, and no speed of either means anything until it is known which: compute it with a third")]
    Disagrees {
        /// The other program.
        program: &'static str,
        /// At which task.
        task: String,
        /// What each said, quoted.
        how: String,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The library gave no answer.
    #[error(transparent)]
    Library(Box<Error>),
    /// The system refused something in the folder that we work in.
    #[error("cannot {doing} {path:?}: {source}. Name a folder that can be written to with --work, or measure without files (--no-files)")]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is not enough room for the model.
    #[error("{folder:?} has {free} bytes free, and a model of {needed} bytes is to be written there, with something to spare: free some, name another folder with --work, ask for less with --file-size, or measure without files (--no-files)")]
    Room {
        /// Where.
        folder: PathBuf,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that an ordinary user may still write.
        free: u64,
    },
    /// Our own program does not run.
    #[error("{program:?}, which is to be measured beside others, {}", quoted(.why))]
    Ours {
        /// Where it is.
        program: PathBuf,
        /// What happened.
        why: String,
    },
    /// Nothing was measured where something had to be: a defect of this program.
    #[error("no time was taken for {0}; this is a defect of tensorseal, please report it")]
    Nothing(&'static str),
}

impl Failure {
    /// Whether an answer was had, and it was wrong: exit code 1, where all others are 3.
    #[must_use]
    pub const fn is_wrong(&self) -> bool {
        match self {
            Self::WrongOfFiles { .. } | Self::Disagrees { .. } => true,
            Self::Library(error) => matches!(**error, Error::Verify(_)),
            _ => false,
        }
    }

    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Library(Box::new(error))
    }
}
