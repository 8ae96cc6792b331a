//! What the benches of this repository measure alone and the interface has no name for. No part of the interface: it may change
//! with any release.

use crate::manifest::Manifest;
use crate::statement;

/// The text that a signature of this manifest is over.
#[must_use]
pub fn statement_of(manifest: &Manifest) -> Vec<u8> {
    statement::write(manifest)
}

/// Plans strings of these lengths, in bytes, one behind the other from address `at` on, for CUDA's kernels, and describes each batch
/// to them. Returns the descriptors, batch by batch.
///
/// # Errors
/// [`DeviceError`](crate::device::DeviceError) if a string is longer than BLAKE3 can count.
#[cfg(feature = "cuda")]
pub fn planned_for_cuda(at: u64, lengths: &[u64]) -> Result<Vec<Vec<u8>>, crate::device::DeviceError> {
    crate::device::cuda::describe_lengths(at, lengths)
}
