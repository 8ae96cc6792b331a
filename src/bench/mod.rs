//! How fast this machine hashes, loads, signs and verifies: measured, with the digest asserted each time, beside what the
//! device could do at most and beside the other programs on the machine.
//!
//! What was measured is a [`Report`], the same for people, for machines (`docs/bench.md` has its schema) and as a page.

mod bound;
mod device;
#[cfg(feature = "cuda")]
mod nvml;
mod oracle;
pub mod report;
mod resident;
mod sensors;
pub mod shapes;
mod times;

pub use device::{DeviceOptions, on_device};
pub use report::Report;
pub use times::{NoTimes, Times};

use report::{Bound, Line, Skipped, What};

use crate::device::{DeviceError, DeviceKind};

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
}
