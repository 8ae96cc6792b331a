//! Files: hashed, loaded, signed and verified, out of the page cache and from the disk.

mod model;
mod work;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

pub use model::Written;
pub use work::Work;

use super::report::{Bound, Line, Skipped, What};
use super::{Event, Failure};
use crate::device::Device;

/// What to measure of files.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FileOptions {
    /// Counted repeats of each measurement; one more comes before.
    pub repeats: NonZeroUsize,
    /// Threads that read and hash on the host; as many as this process may use, if `None`. Devices other than the CPU
    /// decide for themselves when they hash files.
    pub threads: Option<NonZeroUsize>,
    /// Of [`What::Digest`], [`What::Load`], [`What::VerifiedLoad`], [`What::Sign`] and [`What::Verify`] these alone.
    pub only: Option<BTreeSet<What>>,
    /// Bounds of the device that are known already: loads to a device cannot be faster than its link.
    pub known: Vec<Bound>,
}

impl FileOptions {
    /// Everything, so often.
    #[must_use]
    pub const fn new(repeats: NonZeroUsize) -> Self {
        Self { repeats, threads: None, only: None, known: Vec::new() }
    }
}

/// What was measured of files.
pub type OnFiles = (Vec<Line>, Vec<Skipped>, Vec<Bound>);

/// Measures what `device` does with the files of `model`.
///
/// # Errors
/// [`Failure`]; a digest or verdict that is wrong is [`Failure::is_wrong`].
pub fn on_files(
    device: &Device,
    model: &Written,
    options: &FileOptions,
    done: &mut dyn FnMut(Event<'_>),
) -> Result<OnFiles, Failure> {
    let _ = (device, model, options, done);
    unimplemented!()
}
