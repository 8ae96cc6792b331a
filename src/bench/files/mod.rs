//! Files: hashed, loaded, signed and verified, out of the page cache and from the disk.
//!
//! `work.rs` is the folder, `model.rs` writes a signed model there, `cache.rs` sees to it that files are in the page cache or
//! out of it, `bound.rs` reads them without hashing, `run.rs` and `load.rs` measure, and `watched.rs` tells when a load got how far.

mod bound;
mod cache;
mod load;
mod model;
mod run;
#[cfg(test)]
mod tests;
mod watched;
mod work;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

pub use model::Written;
pub use work::Work;

use super::report::{Bound, Line, Skipped, What};
use super::{Event, Failure};
use crate::device::{Backend, Device};
use run::Run;

/// What to measure of files.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FileOptions {
    /// Counted repeats of each measurement; one more comes before.
    pub repeats: NonZeroUsize,
    /// Threads that read and hash on the host while a model is loaded; as many as this process may use, if `None`. How many
    /// hash files is a matter of the device.
    pub threads: Option<NonZeroUsize>,
    /// Of [`What::Digest`], [`What::Load`], [`What::VerifiedLoad`], [`What::Sign`] and [`What::Verify`] these alone.
    pub only: Option<BTreeSet<What>>,
    /// Bounds of the device that are known already: nothing gets to a device faster than its link.
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

/// Measures what `device` does with the files of `model`: digests, loads, signatures and verdicts, each compared with what it
/// has to be, every time, outside of the time. A line says [`Cache::Cold`](super::report::Cache::Cold) or `Warm` only if the
/// files were found to be so before each repeat.
///
/// # Errors
/// [`Failure`]; a digest or verdict that is wrong is [`Failure::is_wrong`].
pub fn on_files(
    device: &Device,
    model: &Written,
    options: &FileOptions,
    done: &mut dyn FnMut(Event<'_>),
) -> Result<OnFiles, Failure> {
    match device {
        Device::Cpu(cpu) => all(device, cpu, model, options, done),
        #[cfg(feature = "wgpu")]
        Device::Wgpu(wgpu) => all(device, wgpu, model, options, done),
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => all(device, cuda, model, options, done),
    }
}

/// The same. `backend` is what is loaded to: what is in `device`.
fn all<B: Backend>(
    device: &Device,
    backend: &B,
    model: &Written,
    options: &FileOptions,
    done: &mut dyn FnMut(Event<'_>),
) -> Result<OnFiles, Failure> {
    let mut run = Run::new(device, model, options, done);
    run.bounds()?;
    run.digests()?;
    load::loads(&mut run, backend)?;
    run.signatures()?;
    run.verdicts()?;
    Ok(run.finish())
}
