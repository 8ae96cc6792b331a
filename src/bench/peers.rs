//! Beside other programs on this machine, whole processes from start to exit, on the same files, in turns.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use super::files::Written;
use super::report::Peers;
use super::{Event, Failure};

/// How to run others.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PeerOptions {
    /// Counted runs of each program at each task; one more comes before.
    pub repeats: NonZeroUsize,
    /// Threads, for ours and for those that can be told; as many as this process may use, if `None`.
    pub threads: Option<NonZeroUsize>,
    /// A program that takes longer is ended, and absent.
    pub limit: Duration,
    /// Where programs are looked for, as `PATH` has it.
    pub path: OsString,
}

impl PeerOptions {
    /// As often, with two minutes for each run, on this process's `PATH`.
    #[must_use]
    pub fn new(repeats: NonZeroUsize) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self { repeats, threads: None, limit: Duration::from_secs(120), path }
    }
}

/// Measures each program that is found beside ours, the `tensorseal` at `ours`.
///
/// # Errors
/// [`Failure::Disagrees`] if a program does not say of the same files what ours says, [`Failure::Ours`] if ours does not
/// run. A program that is not found, fails or takes too long is in [`Peers::absent`].
pub fn beside(
    model: &Written,
    ours: &Path,
    options: &PeerOptions,
    done: &mut dyn FnMut(Event<'_>),
) -> Result<Peers, Failure> {
    let _ = (model, ours, options, done);
    unimplemented!()
}
