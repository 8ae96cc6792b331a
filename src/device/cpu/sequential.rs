//! The digests that must see every byte in order: SHA-256 and BLAKE2b.

#![allow(unsafe_code)]

use sha2::Digest as _;

use super::{Algorithms, Digests};
use crate::digest::{Algorithm, Digest};

/// Running states of the sequential digests that were asked for.
#[derive(Clone)]
pub(crate) struct Sequential {
    sha256: Option<sha2::Sha256>,
    blake2b: Option<blake2::Blake2b512>,
}

impl Sequential {
    pub(crate) fn new(algorithms: Algorithms) -> Self {
        Self {
            sha256: algorithms.has(Algorithm::Sha256).then(sha2::Sha256::new),
            blake2b: algorithms.has(Algorithm::Blake2b).then(blake2::Blake2b512::new),
        }
    }

    /// The next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        if let Some(sha256) = &mut self.sha256 {
            // SHA-256 waits for memory if the bytes were fetched by another core: the SHA instructions leave the
            // prefetcher no hint early enough. Asking for the lines two steps ahead hides that. 16 lines a step is what
            // the fill buffers hold.
            const STEP: usize = 1024;
            for (i, step) in bytes.chunks(STEP).enumerate() {
                prefetch(bytes.as_ptr().wrapping_add((i + 2) * STEP));
                sha256.update(step);
            }
        }
        if let Some(blake2b) = &mut self.blake2b {
            blake2b.update(bytes);
        }
    }

    pub(crate) fn finish(self, digests: &mut Digests) {
        if let Some(sha256) = self.sha256 {
            digests.set(Digest::of32(Algorithm::Sha256, sha256.finalize().into()));
        }
        if let Some(blake2b) = self.blake2b {
            digests.set(Digest::of64(blake2b.finalize().into()));
        }
    }
}

/// Asks for the 1,024 bytes at `address` to be brought into the cache.
#[cfg(target_arch = "x86_64")]
fn prefetch(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for line in 0..16 {
        // SAFETY: a prefetch never faults and never changes memory, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.wrapping_add(line * 64).cast()) };
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn prefetch(_address: *const u8) {}
