//! What can be wrong with a model before any byte of it is read.

use std::io;
use std::path::{Path, PathBuf};

use super::SpecialKind;

/// Why a model could not be listed. [`Io`](Self::Io) means that we could not look; every other variant, that the
/// model or an ignore entry holds something that it may not hold.
// Paths are printed with `{:?}`: a name may hold a newline or a terminal's escape codes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The system refused an operation.
    #[error("cannot {action} {path:?}: {source}")]
    Io {
        /// What was tried, as in "cannot read the folder".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A symbolic link, and links are refused.
    #[error(
        "{path:?} is a symbolic link: replace it by what it leads to, ignore it, or pass --allow-symlinks to follow it"
    )]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// A link to something outside the model.
    #[error(
        "the symbolic link {link:?} leaves the model, it leads to {target:?}: copy that into the model, \
         ignore the link, or pass --allow-external-symlinks to follow it"
    )]
    LinkLeavesModel {
        /// The link.
        link: PathBuf,
        /// What it finally leads to.
        target: PathBuf,
    },
    /// A link back to a folder that holds it, or to itself.
    #[error("the symbolic link {link:?} leads in a circle, back to {target:?}: remove it, or ignore it")]
    LinkCycle {
        /// The link.
        link: PathBuf,
        /// The folder that was entered twice, or the link if it leads to itself.
        target: PathBuf,
    },
    /// A link to nothing.
    #[error("the symbolic link {link:?} leads to nothing: remove it, restore what it led to, or ignore it")]
    DanglingLink {
        /// The link.
        link: PathBuf,
    },
    /// Something that is neither a file nor a folder.
    #[error("{path:?} is {kind}, not a file or a folder: remove it, or ignore it")]
    Special {
        /// Where it is.
        path: PathBuf,
        /// What it is.
        kind: SpecialKind,
    },
    /// A name that a statement cannot record.
    #[error("the name of {path:?} is not UTF-8, so it cannot be recorded: rename it, or ignore a folder that holds it")]
    NonUtf8Name {
        /// What has the name.
        path: PathBuf,
    },
    /// Links to folders multiply what there is to list.
    #[error(
        "the folder links of {path:?} lead to more than {limit} entries, which links to each other can bring about \
         without any such number of files: replace the links by what they lead to, or ignore some of them"
    )]
    TooManyEntries {
        /// The model.
        path: PathBuf,
        /// How many entries are listed at most below links.
        limit: usize,
    },
    /// An ignore entry that names nothing inside a model.
    #[error(
        "the ignore entry {name:?} {reason}: give the path of something inside the model; where it is recorded in a \
         signature, do not trust that signature"
    )]
    IgnorePath {
        /// The entry.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl SourceError {
    /// Whether we could not look, as opposed to having seen something that may not be.
    #[must_use]
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Io { .. })
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}
