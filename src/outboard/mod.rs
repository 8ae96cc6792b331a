//! Trees kept beside a model, which say where in it a difference lies.
//!
//! A BLAKE3 digest is the root of a tree. Who keeps the values of that tree's groups, some 64 KiB each, can compare
//! them later, one by one, with those of a file that is no longer what was signed. Nobody has to sign or trust them:
//! they make the signed digest, or they are not that file's. `docs/locate.md` says what can be learned so, and
//! specifies the file.
//!
//! [`OutboardFile`] is that file, [`Kept`] the tree of one resource. [`sign`](crate::sign()) makes one if it is asked to,
//! and [`verify`](crate::verify()), given one, says where: [`Located`].

mod file;
mod kept;
mod locate;
mod make;
mod place;
#[cfg(test)]
mod tests;

pub(crate) use file::Trees;
pub use file::{MAGIC, MAX_GROUP, OutboardFault, OutboardFile, VERSION};
pub use kept::Kept;
pub(crate) use locate::{Seen, Suspect, Text};
pub(crate) use make::keep;
pub use place::{HeaderState, Located, Place, Touched, TouchedTensor};

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::tree::GroupSize;

/// The groups that trees are kept of unless somebody asks for others: 64 KiB, so that trees take 0.05% of a model.
pub const DEFAULT_GROUP: GroupSize = GroupSize::at_most(64 << 10);

/// That trees shall be kept of a model that is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboardOptions {
    path: PathBuf,
    group: GroupSize,
}

impl OutboardOptions {
    /// In groups of the default size. They will be written to `path`, which may not be a file of the model.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path, group: DEFAULT_GROUP }
    }

    /// In groups of this size, of at most [`MAX_GROUP`].
    #[must_use]
    pub fn with_group(self, group: GroupSize) -> Option<Self> {
        (group <= MAX_GROUP).then_some(Self { group, ..self })
    }

    /// Where they will be written.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size of groups.
    #[must_use]
    pub const fn group(&self) -> GroupSize {
        self.group
    }
}

/// The longest file that is read: it holds the groups of 64 KiB of 4 TiB.
const MAX_FILE: u64 = 2 << 30;

impl OutboardFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Outboard`] if it is too long or malformed.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { doing: "read outboard", path: path.to_owned(), source };
        let fault = |source| Error::Outboard { path: path.to_owned(), source };
        // What is no file must not make us wait.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let too_long = |len| fault(OutboardFault::TooLong { len, limit: MAX_FILE });
        if len > MAX_FILE {
            return Err(too_long(len));
        }
        let mut bytes = Vec::with_capacity(len as usize);
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(too_long(bytes.len() as u64));
        }
        Self::parse(&bytes).map_err(fault)
    }

    /// Whether trees may be written to `path`: what stands there, if anything, is a file of trees.
    ///
    /// # Errors
    /// [`Error::NotAnOutboard`] if another file stands there; [`Error::Io`] if it cannot be looked at.
    pub fn check_target(path: &Path) -> Result<(), Error> {
        let mut head = Vec::new();
        match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
            Ok(file) if !file.metadata().is_ok_and(|meta| meta.is_file()) => {
                return Err(Error::NotAnOutboard { path: path.to_owned() });
            }
            Ok(file) => file.take(MAGIC.len() as u64).read_to_end(&mut head).map_err(Error::io("look at", path))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("look at", path)(error)),
        };
        if head.is_empty() || Self::looks_like_one(&head) {
            Ok(())
        } else {
            Err(Error::NotAnOutboard { path: path.to_owned() })
        }
    }

    /// Writes it to `path`: whole or not at all. An older one there is replaced.
    ///
    /// # Errors
    /// What [`OutboardFile::check_target`] says, and [`Error::Io`]; a file at `path` is then as it was.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        use std::io::Write;
        Self::check_target(path)?;
        let bytes = self.to_bytes();
        crate::output::write_whole(path, 0o666, crate::output::Existing::Replace, |file| file.write_all(&bytes))
            .map_err(Error::io("write outboard", path))
    }
}
