//! What a device can do, the same few verbs for each.

use std::fs::File;
use std::ops::Range;

use blake3::hazmat::HasherExt;

use super::{DeviceError, DeviceKind};
use crate::digest::{Algorithm, Digest};
use crate::layout::{Buffer, Layout};
use crate::tree::{CHUNK_LEN, ChainingValue, GroupSize};

/// What is wanted of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Its BLAKE3 digest.
    Root,
    /// The non-root value of each group, the last perhaps short. The string is then a part of a longer one.
    Groups {
        /// The chunk of the longer string with which this part begins, a multiple of the group's chunks.
        first_chunk: u64,
        /// The size of groups.
        group: GroupSize,
    },
}

impl Want {
    /// What the `blake3` crate says of a string on the host: what a device has to agree with. It uses nothing of ours.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> Hashed {
        match self {
            Self::Root => Hashed::Root(Digest::of32(Algorithm::Blake3, *blake3::hash(bytes).as_bytes())),
            Self::Groups { first_chunk, group } => {
                let value = |(index, part): (usize, &[u8])| {
                    let mut hasher = blake3::Hasher::new();
                    hasher.set_input_offset(first_chunk * CHUNK_LEN + index as u64 * group.bytes());
                    hasher.update(part).finalize_non_root()
                };
                let size = usize::try_from(group.bytes()).unwrap_or(usize::MAX);
                Hashed::Groups(bytes.chunks(size).enumerate().map(value).collect())
            }
        }
    }
}

/// One string to hash.
#[derive(Debug)]
pub struct Job<'a, B> {
    /// Where its bytes lie.
    pub layout: Layout<'a, B>,
    /// What is wanted of it.
    pub want: Want,
}

/// What came of a [`Job`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hashed {
    /// For [`Want::Root`].
    Root(Digest),
    /// For [`Want::Groups`], in order; none for an empty string.
    Groups(Vec<ChainingValue>),
}

/// What memory is made of, where that is the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pages {
    /// As the system is set up.
    #[default]
    Ordinary,
    /// Huge ones, which the system gives where it has some (`MADV_HUGEPAGE`): fewer faults while memory is filled.
    Huge,
}

/// What a device, or its driver, says of how it is built: what bounds its speed follows from that. Nothing where it does
/// not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceFacts {
    /// CUDA's compute capability: 90 for 9.0.
    pub architecture: Option<u32>,
    /// Multiprocessors.
    pub processors: Option<u32>,
    /// Threads that compute, where those are of the host.
    pub threads: Option<usize>,
    /// The highest clock of what computes, in Hz.
    pub clock: Option<u64>,
    /// The highest clock of its memory, in Hz.
    pub memory_clock: Option<u64>,
    /// Wires to its memory, each for two bits a clock.
    pub memory_bus: Option<u32>,
    /// Bytes of the last cache before its memory.
    pub cache: Option<u64>,
    /// Bytes of its memory that are free at the moment.
    pub free: Option<u64>,
    /// Where it is plugged in: `0000:01:00.0`. Nothing for one that shares the host's memory.
    pub pci: Option<String>,
}

/// A device that hashes strings where they lie in its memory.
///
/// Work is done in the order in which it was asked for: a job sees every upload before it, and an upload waits for
/// every job before it. Nothing is handed out before it was checked: a value comes out of [`Backend::wait`] only if
/// every copy and launch that it rests on succeeded and wrote it.
pub trait Backend {
    /// A block of host memory that the device copies from without a bounce.
    type Staging: AsMut<[u8]> + Send;
    /// Device memory.
    type Buffer: Buffer;
    /// A queue of the caller's that work can be put behind. Uninhabited where there is no such thing.
    type Stream;
    /// Jobs under way. Dropped without a wait, they are finished before their memory is freed, and give nothing.
    type Ticket;

    /// Which device it is.
    fn kind(&self) -> DeviceKind;

    /// What is known of how it is built.
    fn facts(&self) -> DeviceFacts {
        DeviceFacts::default()
    }

    /// Names of the kernels among which this device can choose, the one in use first; none where there is no choice.
    fn variants(&self) -> Vec<String> {
        Vec::new()
    }

    /// The same device with another of [`Backend::variants`], for measuring.
    ///
    /// # Errors
    /// [`DeviceError`] if it has none of that name, or the kernel's known-answer test fails.
    fn with_variant(&self, name: &str) -> Result<Self, DeviceError>
    where
        Self: Sized,
    {
        Err(DeviceError::Refused { device: self.kind(), why: format!("it has no kernel called {name:?}") })
    }

    /// A free block; waits for one in flight if all are.
    ///
    /// # Errors
    /// [`DeviceError`] if the device has failed or memory is short.
    fn staging(&self) -> Result<Self::Staging, DeviceError>;

    /// A free block if there is one without waiting for other callers to give theirs back. Whoever holds blocks must not
    /// wait for more: another caller may do the same.
    ///
    /// # Errors
    /// Those of [`Backend::staging`].
    fn try_staging(&self) -> Result<Option<Self::Staging>, DeviceError> {
        self.staging().map(Some)
    }

    /// Blocks that are worth holding at once: to hold more would only take memory.
    fn blocks(&self) -> usize {
        2
    }

    /// Memory for `len` bytes. What is in it before an upload is not specified.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], or another if the device has failed.
    fn alloc(&self, len: u64) -> Result<Self::Buffer, DeviceError>;

    /// The same, made of such pages.
    ///
    /// # Errors
    /// Those of [`Backend::alloc`], and [`DeviceError::Refused`] for pages that this device's memory does not have.
    fn alloc_on(&self, len: u64, pages: Pages) -> Result<Self::Buffer, DeviceError> {
        match pages {
            Pages::Ordinary => self.alloc(len),
            Pages::Huge => {
                let why = "huge pages are for memory of the host; load without them".to_owned();
                Err(DeviceError::Refused { device: self.kind(), why })
            }
        }
    }

    /// The bytes of memory that is the host's own: they are read into it, and hashed there, without a copy. `None` for
    /// memory that takes an upload.
    fn on_host<'m>(&self, _memory: &'m mut Self::Buffer) -> Option<&'m mut [u8]> {
        None
    }

    /// Queues a copy of the first `len` bytes of `block` to byte `at` of `to`. The block is taken: nobody can write to
    /// it in flight.
    ///
    /// # Errors
    /// [`DeviceError`] if the bytes do not fit there, or the device has failed.
    fn upload(&self, block: Self::Staging, len: usize, to: &mut Self::Buffer, at: u64) -> Result<(), DeviceError>;

    /// Queues the jobs, all of them in few launches, behind everything queued so far and behind `after`.
    ///
    /// # Errors
    /// [`DeviceError`] if a job cannot be done, memory is short, or the device has failed.
    fn submit(&self, jobs: &[Job<'_, Self::Buffer>], after: Option<&Self::Stream>)
    -> Result<Self::Ticket, DeviceError>;

    /// Waits for the jobs: one result each, in order.
    ///
    /// # Errors
    /// [`DeviceError`] if anything that a result rests on failed. There is no result then, for any job.
    fn wait(&self, ticket: Self::Ticket) -> Result<Vec<Hashed>, DeviceError>;

    /// Reads bytes back, behind everything queued so far.
    ///
    /// # Errors
    /// [`DeviceError`] if the range is not in the buffer, or the device has failed.
    fn download(&self, from: &Self::Buffer, range: Range<u64>) -> Result<Vec<u8>, DeviceError>;

    /// A file as this device reads it by itself, without a staging block. It was opened past the page cache
    /// (`O_DIRECT`).
    ///
    /// # Errors
    /// [`StorageError`], with what is missing. Nothing else reads it in this device's place.
    fn storage(&self, file: File) -> Result<Box<dyn Storage<Self::Buffer> + '_>, StorageError> {
        let _ = file;
        Err(StorageError::Missing("it reads no files by itself: CUDA devices do, through cuFile".to_owned()))
    }

    /// Submits and waits.
    ///
    /// # Errors
    /// Those of [`Backend::submit`] and [`Backend::wait`].
    fn hash(&self, jobs: &[Job<'_, Self::Buffer>]) -> Result<Vec<Hashed>, DeviceError> {
        self.wait(self.submit(jobs, None)?)
    }
}

/// A file that a device reads by itself, into its own memory.
pub trait Storage<B> {
    /// Reads `len` bytes from byte `at` of the file to byte `to_at` of `to`, behind everything that was queued there, and
    /// waits until they are there. Returns how many came: fewer only where the file ends.
    ///
    /// # Errors
    /// [`DeviceError`] if the bytes do not fit there, or a read fails. What is in `to` then is not specified.
    fn read(&self, at: u64, len: u64, to: &mut B, to_at: u64) -> Result<u64, DeviceError>;

    /// Which way the bytes take.
    fn path(&self) -> StoragePath;
}

/// Which way bytes take from a file into a device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoragePath {
    /// Straight there.
    Device,
    /// Through memory of the host: there is no other way on this machine, and the library of the storage takes this one.
    Host,
    /// Straight or through memory of the host, as the library of the storage decides for each file. It does not say.
    Unknown,
}

/// Why a device does not read a file by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// It cannot.
    #[error("{0}")]
    Missing(String),
    /// It failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}
