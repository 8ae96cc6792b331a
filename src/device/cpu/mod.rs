//! The CPU engine: SHA-256, BLAKE2b and BLAKE3 of many files in one pass over each, on all cores, in bounded memory.
//!
//! Small files are spread over the workers. A large file is cut into slabs: any idle worker may fetch a slab and take
//! its BLAKE3 value, while the one that owns the file runs the sequential digests over the slabs in order.

mod batch;
mod facts;
mod groups;
mod lent;
mod map;
mod memory;
mod ordered;
mod parallel;
mod pool;
mod resident;
pub(crate) mod sequential;
mod stream;
pub(super) mod tap;

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

pub use self::memory::Memory;
pub(crate) use self::pool::part_of;
pub use self::resident::Ticket;
use self::sequential::Sequential;
pub(crate) use self::tap::Tap;
pub(super) use self::tap::Tapped;
pub use super::file::Stamp;
use super::{DeviceError, DeviceKind};
use crate::digest::{Algorithm, Digest};
use crate::error::Error;
use crate::tree::{ChainingValue, GroupSize, Tree, group_value};

/// A set of algorithms: which digests one pass shall take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Algorithms(u8);

impl Algorithms {
    /// The set with one member.
    #[must_use]
    pub const fn only(algorithm: Algorithm) -> Self {
        Self(1 << algorithm as u8)
    }

    /// This set and one more.
    #[must_use]
    pub const fn with(self, algorithm: Algorithm) -> Self {
        Self(self.0 | Self::only(algorithm).0)
    }

    /// Whether `algorithm` is in the set.
    #[must_use]
    pub const fn has(self, algorithm: Algorithm) -> bool {
        self.0 & Self::only(algorithm).0 != 0
    }

    /// The members, in the order in which reports list them.
    pub fn iter(self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL.into_iter().filter(move |&algorithm| self.has(algorithm))
    }

    /// Whether a digest is wanted that must see the bytes in order.
    pub(crate) const fn sequential(self) -> bool {
        self.has(Algorithm::Sha256) || self.has(Algorithm::Blake2b)
    }
}

impl FromIterator<Algorithm> for Algorithms {
    fn from_iter<I: IntoIterator<Item = Algorithm>>(algorithms: I) -> Self {
        algorithms.into_iter().fold(Self::default(), Self::with)
    }
}

/// The digests of one byte string, those that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digests([Option<Digest>; 3]);

impl Digests {
    /// The digest by `algorithm`, if it was asked for.
    #[must_use]
    pub const fn get(&self, algorithm: Algorithm) -> Option<Digest> {
        self.0[algorithm as usize]
    }

    pub(crate) fn set(&mut self, digest: Digest) {
        self.0[digest.algorithm() as usize] = Some(digest);
    }
}

/// How the engine gets at the bytes of large files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Io {
    /// A map under a read lease where one is to be had, else reads.
    #[default]
    Auto,
    /// Reads only.
    Read,
}

/// Settings of the engine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// Worker threads; all that this process may use, if `None`.
    pub threads: Option<NonZeroUsize>,
    /// How bytes are fetched.
    pub io: Io,
}

/// Sees a file that is in memory whole: by its place in the list, and all its bytes.
pub(crate) type Look<'a> = dyn Fn(usize, &[u8]) + Sync + 'a;

/// What one pass over files shall give.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Digests.
    pub(crate) algorithms: Algorithms,
    /// Of each so many bytes of a file, and not of the whole.
    pub(crate) shard: Option<NonZeroU64>,
    /// The BLAKE3 values of groups of this size, too, in [`Part::groups`].
    pub(crate) groups: Option<GroupSize>,
    /// Who sees the bytes on the way. Not with `shard`.
    pub(crate) tap: Option<&'a dyn Tap>,
    /// Who may see files that are in memory whole at some moment: by their places in the list, and all their bytes. No
    /// promise is made that this is any file: long ones are not, nor those that go to another device.
    pub(crate) look: Option<&'a Look<'a>>,
}

impl Wanted<'_> {
    /// Whether this is something that can be given.
    pub(super) fn check(&self, device: DeviceKind) -> Result<(), DeviceError> {
        if self.tap.is_some() && self.shard.is_some() {
            let why = "the bytes of a file do not come in order where it is hashed in shards".to_owned();
            return Err(DeviceError::Refused { device, why });
        }
        Ok(())
    }
}

/// One file to hash.
#[derive(Debug, Clone)]
pub struct FileJob {
    /// The file. It is opened without following a symlink in the last component.
    pub path: PathBuf,
    /// Its length, if known: used to order the work, never trusted.
    pub size_hint: Option<u64>,
    /// The length that the file must have, if that is known. A file of another length is not read: its result has no
    /// parts.
    pub expected_len: Option<u64>,
}

impl FileJob {
    /// The bytes of all files, if the length of each is known.
    pub(crate) fn total(jobs: &[Self]) -> Option<u64> {
        jobs.iter().try_fold(0, |sum: u64, job| job.size_hint.map(|len| sum.saturating_add(len)))
    }
}

/// The digests of one byte range of a file: the whole of it, or a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// Digests of these bytes as a string of their own.
    pub digests: Digests,
    /// The BLAKE3 values of its groups, in order, where they were asked for and the string is longer than a chunk. The
    /// groups are those of [`Tree::new`](crate::tree::Tree::new).
    pub groups: Vec<ChainingValue>,
}

/// What hashing one file gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashedFile {
    /// Length in bytes, the same before and after.
    pub len: u64,
    /// Which file it was that was read, in which state.
    pub stamp: Stamp,
    /// One part, or one a shard in order; no shard at all for an empty file, and nothing for a file of another length
    /// than expected.
    pub parts: Vec<Part>,
}

/// Told how far the work has come. Called from several threads.
pub trait Progress: Sync {
    /// Whether it is worth a look at every file beforehand to know the number of bytes.
    fn wants_total(&self) -> bool {
        false
    }

    /// The work begins: so many files, of so many bytes if that is known.
    fn begin(&self, _files: usize, _bytes: Option<u64>) {}

    /// `bytes` more have been hashed, and `files` more are done.
    fn advance(&self, bytes: u64, files: usize);

    /// Whether the caller wants it to end before it is done: it then fails with [`Error::Stopped`] before long.
    fn stopped(&self) -> bool {
        false
    }
}

impl dyn Progress + '_ {
    /// Tells of `bytes` and `files`.
    ///
    /// # Errors
    /// [`Error::Stopped`] if that is where it shall end.
    pub(crate) fn tell(&self, bytes: u64, files: usize) -> Result<(), Error> {
        self.advance(bytes, files);
        if self.stopped() { Err(Error::Stopped) } else { Ok(()) }
    }
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn advance(&self, _bytes: u64, _files: usize) {}
}

/// No machine has more cores, and every thread takes memory.
const MOST_THREADS: usize = 1024;

/// The CPU as a device.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    threads: usize,
    io: Io,
}

impl Cpu {
    /// Opens the engine after a known-answer test of each algorithm.
    ///
    /// # Errors
    /// [`DeviceError::SelfTest`] if a digest of a known input is wrong.
    pub fn open(settings: Settings) -> Result<Self, DeviceError> {
        known_answers()?;
        let threads = settings
            .threads
            .or_else(|| std::thread::available_parallelism().ok())
            .map_or(1, NonZeroUsize::get)
            .min(MOST_THREADS);
        Ok(Self { threads, io: settings.io })
    }

    /// Worker threads at most.
    #[must_use]
    pub const fn threads(&self) -> usize {
        self.threads
    }

    /// Hashes every file once: results in the order of `files`, each with all digests of `algorithms`, of the whole
    /// file or, with `shard`, of each range of `shard` bytes.
    ///
    /// Memory stays under about 64 MiB plus the results, whatever the sizes.
    ///
    /// # Errors
    /// The first failure stops the rest: [`Error::Io`] for a file that cannot be opened or read,
    /// [`Error::FileChanged`] for one that was not the same before and after.
    pub fn hash_files(
        &self,
        files: &[FileJob],
        algorithms: Algorithms,
        shard: Option<NonZeroU64>,
        progress: &dyn Progress,
    ) -> Result<Vec<HashedFile>, Error> {
        self.hash_files_for(files, &Wanted { algorithms, shard, groups: None, tap: None, look: None }, progress)
    }

    /// The same, with more to give than digests.
    pub(crate) fn hash_files_for(
        &self,
        files: &[FileJob],
        wanted: &Wanted<'_>,
        progress: &dyn Progress,
    ) -> Result<Vec<HashedFile>, Error> {
        wanted.check(DeviceKind::Cpu)?;
        pool::Pool::new(files, wanted, *self, progress).run()
    }
}

/// Digests of 102,400 bytes of the pattern 0, 1, .. 250, 0, .. of the BLAKE3 test vectors, long enough for the wide code
/// of each algorithm. The BLAKE3 digest stands in those vectors; the others are Python's `hashlib`.
fn known_answers() -> Result<(), DeviceError> {
    const KNOWN: [(Algorithm, &str); 3] = [
        (Algorithm::Sha256, "74588b7f0bcc354ac14d9cf199fa3a20c05f0c7293b9075b2f2e146e718de800"),
        (
            Algorithm::Blake2b,
            "cbd9d7d77a4d66c0a2ddea931b1e7d91271005545f56f444decea823f7adc9bb\
             0791bead840bdd341f04bc1baf1847248aa536baeafa40bda3a06229ae62ffd5",
        ),
        (Algorithm::Blake3, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"),
    ];
    let once: Vec<u8> = (0..=250).collect();
    let mut pattern = once.repeat(102_400 / once.len() + 1);
    pattern.truncate(102_400);
    let mut digests = Digests::default();
    let mut sequential = Sequential::new(KNOWN.iter().map(|(known, _)| *known).collect());
    sequential.update(&pattern);
    sequential.finish(&mut digests);
    let tree = Tree::new(pattern.len() as u64, GroupSize::at_most(16 << 10));
    let group = |index| {
        let range = tree.range(index);
        group_value(range.start, &pattern[range.start as usize..range.end as usize])
    };
    let values: Vec<_> = (0..tree.groups()).map(group).collect();
    tree.root(&values).into_iter().for_each(|root| digests.set(root));
    for (algorithm, known) in KNOWN {
        if digests.get(algorithm).is_none() || digests.get(algorithm) != Digest::from_hex(algorithm, known) {
            return Err(DeviceError::SelfTest { device: DeviceKind::Cpu, algorithm });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
