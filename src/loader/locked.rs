//! What was read and not yet compared: nobody can get at it.

use std::fmt;
use std::ops::Range;

use crate::device::DeviceKind;
use crate::device::cpu::Digests;
use crate::digest::{Algorithm, Digest};

/// A file's bytes in the memory of a device, locked: no method of it gives them out. [`Loaded::admit`] does, once they
/// are found to be what was signed; without the digests that this takes, nothing ever does.
pub struct Loaded<Buf> {
    pub(crate) buffer: Buf,
    pub(crate) device: DeviceKind,
    pub(crate) found: Vec<Found>,
    pub(crate) len: u64,
    /// Whether it was cut into shards.
    pub(crate) shards: bool,
}

// A buffer may show its bytes when it is printed.
impl<Buf> fmt::Debug for Loaded<Buf> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Loaded");
        shown.field("device", &self.device).field("len", &self.len).field("found", &self.found).finish_non_exhaustive()
    }
}

impl<Buf> Loaded<Buf> {
    /// Bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Which device's memory it is.
    #[must_use]
    pub const fn device(&self) -> &DeviceKind {
        &self.device
    }

    /// Whether a digest of the memory itself was taken. What was loaded without can never be admitted.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        !self.found.is_empty() && self.found.iter().all(|found| found.memory != Digests::default())
    }
}

/// The digests of one string: a file, or a shard of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where in the file it lies.
    pub(crate) range: Range<u64>,
    /// Digests of the memory that it will be used from.
    pub(crate) memory: Digests,
    /// Digests of what was read, on its way there; none where it was read right into that memory.
    pub(crate) read: Digests,
}

impl Found {
    /// Whether the copy gave what was read, where both are known.
    pub(crate) fn miscopied(&self) -> Option<(Digest, Digest)> {
        let (read, arrived) = self.read.get(Algorithm::Blake3).zip(self.memory.get(Algorithm::Blake3))?;
        (read != arrived).then_some((read, arrived))
    }

    /// The digest by `algorithm` of the memory; or of what was read, if the memory holds that.
    pub(crate) fn digest(&self, algorithm: Algorithm) -> Option<Digest> {
        self.memory.get(algorithm).or_else(|| {
            let (read, arrived) = self.read.get(Algorithm::Blake3).zip(self.memory.get(Algorithm::Blake3))?;
            if read == arrived { self.read.get(algorithm) } else { None }
        })
    }
}
