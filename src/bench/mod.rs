//! How fast this machine hashes, loads, signs and verifies: measured, with the digest asserted each time, beside what the
//! device could do at most and beside the other programs on the machine.
//!
//! What was measured is a [`Report`], the same for people, for machines (`docs/bench.md` has its schema) and as a page.

mod adds;
mod bound;
mod compare;
mod device;
mod doubt;
pub mod files;
#[doc(hidden)]
pub mod inside;
mod machine;
mod noise;
#[cfg(feature = "cuda")]
mod nvml;
mod oracle;
mod page;
mod peers;
mod read;
pub mod report;
mod resident;
mod run;
mod sensors;
pub mod shapes;
mod system;
mod times;

pub use adds::{ASSUMED, Added, Adds, Checked, HashedAs, Loading, adds};
pub use compare::{ALARM, Apart, Compared, Comparison, FLOOR, Key, SCHEMA as COMPARISON_SCHEMA, Verdict, compare};
pub use device::{DeviceOptions, on_device};
pub use doubt::doubts;
pub use page::page;
pub use peers::{PeerOptions, beside};
pub use read::{Fault, MOST_BYTES, ReadError};
pub use report::{Report, What};
pub use run::{Files, Options, run};
pub use times::{NoTimes, Times};

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use report::{Absent, Beside, Bound, Line, Skipped};

use crate::device::{DeviceError, DeviceKind};
use crate::error::{Error, quoted};
use crate::output::{self, Existing};

/// What comes to pass while something is measured, in this order for each line: begun, then measured or skipped.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// It takes a while from here on.
    Begun {
        /// What is measured.
        what: What,
        /// Which of that kind, as in [`Line::name`].
        name: &'a str,
    },
    /// It was measured, and its digest was right each time.
    Line(&'a Line),
    /// It was not.
    Skipped(&'a Skipped),
    /// A bound of what follows was found.
    Bound(&'a Bound),
    /// Another program runs beside ours from here on.
    Running {
        /// Which.
        program: &'a str,
        /// At what.
        task: &'a str,
    },
    /// Another program was measured beside ours, and both said the same each time.
    Beside(&'a Beside),
    /// Another program was not.
    Absent(&'a Absent),
}

/// Why there is nothing to tell.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A digest was wrong: that outweighs all that was measured.
    #[error(
        "{device} gave a wrong digest of {bytes} bytes, from byte {at} on, in repeat {repeat} of {name}: its speed means nothing. Run `tensorseal selftest --device '{device}'`"
    )]
    Wrong {
        /// Which device.
        device: DeviceKind,
        /// In which measurement.
        what: What,
        /// Which of that kind.
        name: String,
        /// Bytes hashed.
        bytes: u64,
        /// The first byte's place.
        at: u64,
        /// Which repeat, the first that counts is 1; 0 for the one before.
        repeat: usize,
    },
    /// Memory of the host did not give back what was written to it.
    #[error(
        "{device}: {bytes} bytes of memory, read through several times, are not what was written there: this machine is broken, and nothing that it computes can be used"
    )]
    Memory {
        /// Which device.
        device: DeviceKind,
        /// Bytes read.
        bytes: u64,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A digest or a verdict about files was wrong.
    #[error("{device} gave a wrong {} ({name}): {how}. Its speed means nothing; run `tensorseal selftest --device '{device}'`", noun(.what))]
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
    #[error(
        "{program} and tensorseal disagree ({task}): {how}. One of them is wrong, and no speed of either means anything until it is known which: compute it with a third"
    )]
    Disagrees {
        /// The other program.
        program: &'static str,
        /// At which task.
        task: String,
        /// What each said, quoted.
        how: String,
    },
    /// The library gave no answer.
    #[error(transparent)]
    Library(Box<Error>),
    /// The system refused something in the folder that we work in.
    #[error(
        "cannot {doing} {path:?}: {source}. Name a folder that can be written to with --work, or measure without files (--no-files)"
    )]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is not enough room for the model.
    #[error(
        "{folder:?} has {free} bytes free, and a model of {needed} bytes is to be written there, with something to spare: free some, name another folder with --work, ask for less with --file-size, or measure without files (--no-files)"
    )]
    Room {
        /// Where.
        folder: PathBuf,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that an ordinary user may still write.
        free: u64,
    },
    /// No model is so small.
    #[error(
        "no model fits in {bytes} bytes, not even its header: ask for more with --file-size, or measure without files (--no-files)"
    )]
    TooSmall {
        /// Bytes that it was to have at most.
        bytes: u64,
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
            Self::Wrong { .. } | Self::WrongOfFiles { .. } | Self::Disagrees { .. } => true,
            // Its known-answer test.
            Self::Device(DeviceError::SelfTest { .. }) => true,
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

/// Writes the [`page`] of a report to a file, whole or not at all, in place of what is there.
///
/// # Errors
/// What the system says.
pub fn write_page(report: &Report, path: &Path) -> io::Result<()> {
    let text = page(report);
    output::write_whole(path, 0o666, Existing::Replace, |file| file.write_all(text.as_bytes()))
}

/// Whether [`write_page`] could write there, found out before anything is measured. What is there stays.
///
/// # Errors
/// What the system says.
pub fn can_write(path: &Path) -> io::Result<()> {
    output::could_write(path, 0o666)
}

/// What a measurement of files gives.
const fn noun(what: &What) -> &'static str {
    match what {
        What::Digest => "digest",
        What::Load | What::VerifiedLoad => "load",
        What::Sign => "signature",
        What::Verify => "verdict",
        _ => "answer",
    }
}

/// A line of what another program or the system says, to be kept: short, and nothing in it that a terminal acts on.
fn told(text: &str) -> String {
    const MOST: usize = 200;
    let mut line = String::new();
    for c in text.trim().chars() {
        if line.len() >= MOST {
            line.push_str(" ..");
            break;
        }
        match c {
            '\'' | '"' | '\\' => line.push(c),
            // Behind a letter, so that a combining accent counts as part of it.
            _ if String::from_iter(['a', c]).escape_debug().count() > 2 => line.extend(c.escape_debug()),
            _ => line.push(c),
        }
    }
    line
}
