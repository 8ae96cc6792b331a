//! The CPU engine: SHA-256, BLAKE2b and BLAKE3 of many files in one pass over each, on all cores, in bounded memory.
//!
//! Small files are spread over the workers. A large file is cut into slabs: any idle worker may fetch a slab and take
//! its BLAKE3 value, while the one that owns the file runs the sequential digests over the slabs in order.

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
        self.hash_files_for(files, &Wanted { algorithms, shard, groups: None, tap: None }, progress)
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
    let pattern: Vec<u8> = (0..=250).cycle().take(102_400).collect();
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
mod tests {
    use super::*;
    use blake2::digest::Digest as _;
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    fn cpu(threads: usize, io: Io) -> Cpu {
        Cpu::open(Settings { threads: NonZeroUsize::new(threads), io }).unwrap()
    }

    fn all() -> Algorithms {
        Algorithm::ALL.into_iter().collect()
    }

    /// The three crates' one-shot digests.
    fn oracle(bytes: &[u8]) -> Digests {
        let mut digests = Digests::default();
        digests.set(Digest::of32(Algorithm::Sha256, sha2::Sha256::digest(bytes).into()));
        digests.set(Digest::of64(blake2::Blake2b512::digest(bytes).into()));
        digests.set(Digest::of32(Algorithm::Blake3, *blake3::hash(bytes).as_bytes()));
        digests
    }

    fn file(dir: &Path, name: &str, len: usize) -> (FileJob, Vec<u8>) {
        let bytes: Vec<u8> = (0..len).map(|i| ((i * 31) ^ (i >> 9) ^ len) as u8).collect();
        let path = dir.join(name);
        std::fs::write(&path, &bytes).unwrap();
        (FileJob { path, size_hint: Some(len as u64), expected_len: None }, bytes)
    }

    #[derive(Default)]
    struct Count(AtomicU64, AtomicUsize);

    impl Progress for Count {
        fn advance(&self, bytes: u64, files: usize) {
            self.0.fetch_add(bytes, Ordering::Relaxed);
            self.1.fetch_add(files, Ordering::Relaxed);
        }
    }

    #[test]
    fn every_way_through_the_engine_gives_the_crates_digests() {
        let dir = tempfile::tempdir().unwrap();
        let edges = [0, 1, 1025, stream::READ, stream::READ + 1, (4 << 20) - 1, (4 << 20) + 1, (9 << 20) + 77];
        let files: Vec<_> = edges.iter().map(|&len| file(dir.path(), &format!("f{len}"), len)).collect();
        let jobs: Vec<FileJob> = files.iter().map(|(job, _)| job.clone()).collect();
        let total: u64 = edges.iter().map(|&len| len as u64).sum();
        for threads in [1, 2, 5] {
            for io in [Io::Auto, Io::Read] {
                for algorithms in [Algorithms::only(Algorithm::Blake3), all()] {
                    let count = Count::default();
                    let hashed = cpu(threads, io).hash_files(&jobs, algorithms, None, &count).unwrap();
                    assert_eq!(count.0.into_inner(), total);
                    assert_eq!(count.1.into_inner(), edges.len());
                    for ((_, bytes), hashed) in files.iter().zip(hashed) {
                        assert_eq!(hashed.len, bytes.len() as u64);
                        let [part] = &hashed.parts[..] else { panic!("one part") };
                        assert_eq!((part.start, part.end), (0, hashed.len));
                        for algorithm in Algorithm::ALL.into_iter().filter(|&a| algorithms.has(a)) {
                            let expected = oracle(bytes).get(algorithm);
                            assert_eq!(
                                part.digests.get(algorithm),
                                expected,
                                "{} bytes, {threads} threads, {io:?}",
                                hashed.len
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn shards_are_strings_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let (large, bytes) = file(dir.path(), "large", (5 << 20) + 3);
        let (empty, _) = file(dir.path(), "empty", 0);
        let jobs = [large, empty];
        for shard in [1000, 65_536, stream::READ, stream::READ + 1, (4 << 20) + 1, 6 << 20] {
            for algorithms in [Algorithms::only(Algorithm::Blake3), all()] {
                let size = NonZeroU64::new(shard as u64);
                let hashed = cpu(3, Io::Auto).hash_files(&jobs, algorithms, size, &Silent).unwrap();
                assert_eq!(hashed[1].parts, [], "an empty file has no shard");
                assert_eq!(hashed[0].parts.len(), bytes.len().div_ceil(shard));
                for (part, chunk) in hashed[0].parts.iter().zip(bytes.chunks(shard)) {
                    assert_eq!(part.end - part.start, chunk.len() as u64);
                    let blake3 = part.digests.get(Algorithm::Blake3);
                    assert_eq!(blake3, oracle(chunk).get(Algorithm::Blake3), "shards of {shard} bytes");
                    if algorithms == all() {
                        assert_eq!(part.digests, oracle(chunk), "shards of {shard} bytes");
                    }
                }
            }
        }
    }

    #[test]
    fn one_bad_file_among_many_is_an_error_that_names_it_and_no_result() {
        let dir = tempfile::tempdir().unwrap();
        let mut jobs: Vec<FileJob> = (0..200).map(|i| file(dir.path(), &format!("f{i}"), i * 100).0).collect();
        jobs.push(file(dir.path(), "large", 8 << 20).0);
        jobs.push(FileJob { path: dir.path().join("absent"), size_hint: None, expected_len: None });
        for threads in [1, 4] {
            let error = cpu(threads, Io::Auto).hash_files(&jobs, all(), None, &Silent).unwrap_err();
            assert!(error.to_string().contains("absent"), "{error}");
        }
    }

    #[test]
    fn a_file_of_another_length_than_expected_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("huge");
        // Reading it would take minutes, and its shards gigabytes.
        std::fs::File::create(&path).unwrap().set_len(1 << 42).unwrap();
        let job = FileJob { path, size_hint: None, expected_len: Some(3) };
        let hashed = cpu(2, Io::Auto).hash_files(&[job], all(), NonZeroU64::new(4096), &Silent).unwrap();
        assert_eq!((hashed[0].len, hashed[0].parts.len()), (1 << 42, 0));
    }

    /// Panics in a worker, as a defect would.
    struct Defect;

    impl Progress for Defect {
        fn advance(&self, _bytes: u64, files: usize) {
            assert_eq!(files, 0, "planted");
        }
    }

    /// Stops once so many bytes are done.
    struct StopsAt(u64, AtomicU64);

    impl Progress for StopsAt {
        fn advance(&self, bytes: u64, _files: usize) {
            self.1.fetch_add(bytes, Ordering::Relaxed);
        }

        fn stopped(&self) -> bool {
            self.1.load(Ordering::Relaxed) >= self.0
        }
    }

    #[test]
    fn who_stops_it_gets_no_result_and_waits_for_no_more_than_what_was_begun() {
        let dir = tempfile::tempdir().unwrap();
        let mut jobs: Vec<FileJob> = (0..40).map(|i| file(dir.path(), &format!("f{i}"), 100_000).0).collect();
        jobs.extend((0..3).map(|i| file(dir.path(), &format!("large{i}"), 24 << 20).0));
        let total = FileJob::total(&jobs).unwrap();
        for (threads, at) in [(1, 0), (1, 30 << 20), (3, 1), (3, 25 << 20), (3, total)] {
            for algorithms in [Algorithms::only(Algorithm::Blake3), all()] {
                for shard in [None, NonZeroU64::new(1 << 20)] {
                    let stops = StopsAt(at, AtomicU64::new(0));
                    let error = cpu(threads, Io::Auto).hash_files(&jobs, algorithms, shard, &stops).unwrap_err();
                    assert!(matches!(error, Error::Stopped), "{error}");
                    // What each worker had in hand, at most.
                    let most = at.max(1) + threads as u64 * (16 << 20);
                    assert!(stops.1.into_inner() <= most.min(total), "{threads} threads, {at} bytes");
                }
            }
        }
    }

    #[test]
    fn a_worker_that_panics_is_an_error_and_nobody_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let jobs: Vec<FileJob> = (0..4).map(|i| file(dir.path(), &format!("f{i}"), 3 << 20).0).collect();
        let error = cpu(3, Io::Auto).hash_files(&jobs, all(), None, &Defect).unwrap_err();
        assert!(matches!(error, Error::Device(DeviceError::Worker(DeviceKind::Cpu))), "{error}");
    }

    /// Wants it to end after so many bytes.
    struct Until(u64, AtomicU64);

    impl Progress for Until {
        fn advance(&self, bytes: u64, _files: usize) {
            self.1.fetch_add(bytes, Ordering::Relaxed);
        }

        fn stopped(&self) -> bool {
            self.1.load(Ordering::Relaxed) >= self.0
        }
    }

    #[test]
    fn a_caller_who_has_enough_waits_for_no_more() {
        let dir = tempfile::tempdir().unwrap();
        // Reading all of it would take hours.
        let long = FileJob { path: dir.path().join("long"), size_hint: None, expected_len: None };
        std::fs::File::create(&long.path).unwrap().set_len(1 << 43).unwrap();
        let short: Vec<FileJob> = (0..200).map(|i| file(dir.path(), &format!("f{i}"), 1000).0).collect();
        for threads in [1, 3] {
            for io in [Io::Auto, Io::Read] {
                for algorithms in [Algorithms::only(Algorithm::Blake3), all()] {
                    for shard in [None, NonZeroU64::new(1 << 20), NonZeroU64::new(1 << 30)] {
                        let until = Until(4 << 20, AtomicU64::new(0));
                        let error = cpu(threads, io).hash_files(std::slice::from_ref(&long), algorithms, shard, &until);
                        assert!(matches!(error, Err(Error::Stopped)), "{threads} threads, {io:?}, {shard:?}");
                        assert!(until.1.into_inner() < 1 << 32, "it went on");
                    }
                    let until = Until(1, AtomicU64::new(0));
                    let error = cpu(threads, io).hash_files(&short, algorithms, None, &until).unwrap_err();
                    assert!(matches!(error, Error::Stopped), "{error}");
                    assert!(until.1.into_inner() < 200_000, "it went on");
                }
            }
        }
    }
}
