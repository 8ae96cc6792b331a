//! A folder of our own, gone when we are.

use std::path::{Path, PathBuf};

use crate::bench::Failure;

/// A new folder that nobody else had before, removed with everything in it when this is dropped.
#[derive(Debug)]
pub struct Work {
    folder: PathBuf,
}

impl Work {
    /// Makes one inside `parent`, or where temporary files go, if there is room for `bytes` bytes and something to spare.
    ///
    /// # Errors
    /// [`Failure::Io`] if `parent` is no folder that can be written to, [`Failure::Room`].
    pub fn new(parent: Option<&Path>, bytes: u64) -> Result<Self, Failure> {
        let _ = (parent, bytes);
        unimplemented!()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }
}
