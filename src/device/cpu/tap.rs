//! Whoever sees the bytes of files while they are hashed.

use crate::error::Error;

/// Sees the first bytes of files, or all of them, while they are hashed: those very bytes, once, so that nothing is read
/// twice. Of files that are hashed in shards there is none: a shard is read while others are.
pub(crate) trait Tap: Sync {
    /// The file with this index was opened and has `len` bytes: how many of them are wanted, from its first on. Called
    /// once for each file that is read, before its bytes come.
    ///
    /// # Errors
    /// What ends the whole run.
    fn begin(&self, file: usize, len: u64) -> Result<u64, Error>;

    /// The next of the bytes that are wanted of a file, from byte `at` on; they come in order and without a gap, each
    /// once. Different files may come from different threads.
    ///
    /// # Errors
    /// What ends the whole run.
    fn take(&self, file: usize, at: u64, bytes: &[u8]) -> Result<(), Error>;
}

/// A file of which a tap wants bytes.
#[derive(Clone, Copy)]
pub(in crate::device) struct Tapped<'a> {
    tap: &'a dyn Tap,
    file: usize,
    /// How many bytes it wants, at least one and no more than the file has.
    first: u64,
}

impl<'a> Tapped<'a> {
    /// Tells `tap` of a file of `len` bytes. `None` if nothing of it is wanted.
    pub(in crate::device) fn of(tap: Option<&'a dyn Tap>, file: usize, len: u64) -> Result<Option<Self>, Error> {
        let Some(tap) = tap else { return Ok(None) };
        let first = tap.begin(file, len)?.min(len);
        Ok((first > 0).then_some(Self { tap, file, first }))
    }

    pub(in crate::device) const fn first(&self) -> u64 {
        self.first
    }

    /// Passes on what is wanted of bytes that begin at byte `at`.
    pub(in crate::device) fn take(&self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let wanted = self.first.saturating_sub(at);
        let wanted = usize::try_from(wanted).map_or(bytes, |wanted| &bytes[..wanted.min(bytes.len())]);
        if wanted.is_empty() { Ok(()) } else { self.tap.take(self.file, at, wanted) }
    }
}

#[cfg(test)]
pub(in crate::device) mod tests {
    use std::num::NonZeroUsize;
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::stream::READ;
    use super::super::{Algorithms, Cpu, FileJob, Io, Settings, Silent, Wanted};
    use super::*;
    use crate::device::{DeviceError, DeviceKind};
    use crate::digest::Algorithm;
    use crate::tree::GroupSize;

    /// Keeps what it sees, and minds order, gaps and bytes that it did not ask for.
    pub(in crate::device) struct Keeps<F: Fn(usize, u64) -> u64 + Sync> {
        first: F,
        seen: Mutex<Vec<Option<Vec<u8>>>>,
    }

    impl<F: Fn(usize, u64) -> u64 + Sync> Keeps<F> {
        pub(in crate::device) fn new(files: usize, first: F) -> Self {
            Self { first, seen: Mutex::new(vec![None; files]) }
        }

        /// Whether it has seen exactly the first bytes of each of these files.
        #[track_caller]
        pub(in crate::device) fn check(self, files: &[&[u8]], about: &str) {
            let seen = self.seen.into_inner().unwrap();
            for (index, (seen, bytes)) in seen.iter().zip(files).enumerate() {
                let wanted = (self.first)(index, bytes.len() as u64).min(bytes.len() as u64) as usize;
                let seen = seen.as_ref().unwrap_or_else(|| panic!("{about}: file {index} was not begun"));
                assert!(seen[..] == bytes[..wanted], "{about}: {} of {wanted} bytes of file {index}", seen.len());
            }
        }
    }

    impl<F: Fn(usize, u64) -> u64 + Sync> Tap for Keeps<F> {
        fn begin(&self, file: usize, len: u64) -> Result<u64, Error> {
            assert_eq!(self.seen.lock().unwrap()[file].replace(Vec::new()), None, "begun twice");
            Ok((self.first)(file, len))
        }

        fn take(&self, file: usize, at: u64, bytes: &[u8]) -> Result<(), Error> {
            assert!(!bytes.is_empty());
            let mut seen = self.seen.lock().unwrap();
            let seen = seen[file].as_mut().unwrap();
            assert_eq!(seen.len() as u64, at, "in order, without a gap, once");
            seen.extend_from_slice(bytes);
            Ok(())
        }
    }

    fn files(dir: &Path, lens: &[usize]) -> (Vec<FileJob>, Vec<Vec<u8>>) {
        let make = |(i, &len): (usize, &usize)| {
            let bytes: Vec<u8> = (0..len).map(|j| ((j * 31) ^ (j >> 9) ^ i) as u8).collect();
            let path = dir.join(format!("f{i}"));
            std::fs::write(&path, &bytes).unwrap();
            (FileJob { path, size_hint: Some(len as u64), expected_len: None }, bytes)
        };
        lens.iter().enumerate().map(make).unzip()
    }

    fn wanted(algorithms: Algorithms, tap: &dyn Tap) -> Wanted<'_> {
        Wanted { algorithms, shard: None, groups: None, tap: Some(tap), look: None }
    }

    fn cpu(threads: usize) -> Cpu {
        Cpu::open(Settings { threads: NonZeroUsize::new(threads), io: Io::Auto }).unwrap()
    }

    fn blake3() -> Algorithms {
        Algorithms::only(Algorithm::Blake3)
    }

    #[test]
    fn a_tap_sees_the_bytes_it_wants_in_order_and_once() {
        const SLAB: usize = 256 << 10;
        let dir = tempfile::tempdir().unwrap();
        let lens =
            [0, 1, READ - 1, READ, READ + 1, 3 * SLAB, 3 * SLAB + 1, (4 << 20) + 1, (5 << 20) + 77, 20 * SLAB + 3];
        let lens: Vec<usize> = lens.into_iter().chain((0..300).map(|i| i * 7)).collect();
        let (jobs, bytes) = files(dir.path(), &lens);
        let bytes: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        type First = fn(usize, u64) -> u64;
        let firsts: [(&str, First); 5] = [
            ("all", |_, _| u64::MAX),
            ("nothing", |_, _| 0),
            ("of some", |file, len| if file % 2 == 0 { len } else { 0 }),
            ("a head", |file, _| [1, SLAB as u64, SLAB as u64 + 1, 1_100_000][file % 4]),
            ("all but one byte", |_, len| len.saturating_sub(1)),
        ];
        for threads in [1, 2, 5] {
            for algorithms in [blake3(), Algorithms::only(Algorithm::Sha256), blake3().with(Algorithm::Sha256)] {
                for groups in [None, Some(GroupSize::at_most(1 << 20))] {
                    for (name, first) in firsts {
                        let about = format!("{name}, {threads} threads, {algorithms:?}, {groups:?}");
                        let tap = Keeps::new(jobs.len(), first);
                        let wanted = Wanted { groups, ..wanted(algorithms, &tap) };
                        let hashed = cpu(threads).hash_files_for(&jobs, &wanted, &Silent).unwrap();
                        for (hashed, bytes) in hashed.iter().zip(&bytes).filter(|_| algorithms.has(Algorithm::Blake3)) {
                            let digest = hashed.parts[0].digests.get(Algorithm::Blake3).unwrap();
                            assert_eq!(digest.as_bytes(), blake3::hash(bytes).as_bytes(), "{about}");
                        }
                        tap.check(&bytes, &about);
                    }
                }
            }
        }
    }

    /// Slow, so that a ring fills up behind it.
    struct Slow<'a>(&'a dyn Tap);

    impl Tap for Slow<'_> {
        fn begin(&self, file: usize, len: u64) -> Result<u64, Error> {
            self.0.begin(file, len)
        }

        fn take(&self, file: usize, at: u64, bytes: &[u8]) -> Result<(), Error> {
            std::thread::sleep(std::time::Duration::from_millis(2));
            self.0.take(file, at, bytes)
        }
    }

    #[test]
    fn nobody_overtakes_a_slow_tap() {
        let dir = tempfile::tempdir().unwrap();
        let (jobs, bytes) = files(dir.path(), &[12 << 20, (9 << 20) + 5]);
        let bytes: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        for threads in [1, 2, 4] {
            for algorithms in [blake3(), Algorithms::only(Algorithm::Sha256)] {
                let tap = Keeps::new(2, |_, len| len);
                cpu(threads).hash_files_for(&jobs, &wanted(algorithms, &Slow(&tap)), &Silent).unwrap();
                tap.check(&bytes, "slow");
            }
        }
    }

    /// Fails at its call with this number, by an error or by a panic.
    struct Fails {
        at: usize,
        panics: bool,
        calls: AtomicUsize,
    }

    impl Fails {
        fn call(&self) -> Result<u64, Error> {
            if self.calls.fetch_add(1, Ordering::Relaxed) < self.at {
                return Ok(u64::MAX);
            }
            assert!(!self.panics, "planted");
            Err(Error::UnknownDevice("planted".to_owned()))
        }
    }

    impl Tap for Fails {
        fn begin(&self, _file: usize, _len: u64) -> Result<u64, Error> {
            self.call()
        }

        fn take(&self, _file: usize, _at: u64, _bytes: &[u8]) -> Result<(), Error> {
            self.call().map(drop)
        }
    }

    #[test]
    fn a_tap_that_fails_ends_the_run_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (jobs, _) = files(dir.path(), &[6 << 20, 5 << 20, 100, 1000]);
        for threads in [1, 2, 4] {
            for algorithms in [blake3(), Algorithms::only(Algorithm::Sha256)] {
                for at in [0, 1, 2, 10, 30, 44] {
                    for panics in [false, true] {
                        let tap = Fails { at, panics, calls: AtomicUsize::new(0) };
                        let error = cpu(threads).hash_files_for(&jobs, &wanted(algorithms, &tap), &Silent).unwrap_err();
                        let planted = matches!(&error, Error::UnknownDevice(why) if why == "planted");
                        let worker = matches!(error, Error::Device(DeviceError::Worker(DeviceKind::Cpu)));
                        assert!(if panics { worker } else { planted }, "call {at}, {threads} threads: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_file_that_is_not_read_is_not_begun_and_shards_have_no_order() {
        let dir = tempfile::tempdir().unwrap();
        let (mut jobs, _) = files(dir.path(), &[100]);
        jobs[0].expected_len = Some(3);
        let tap = Keeps::new(1, |_, len| len);
        cpu(1).hash_files_for(&jobs, &wanted(blake3(), &tap), &Silent).unwrap();
        assert_eq!(tap.seen.lock().unwrap()[0], None);
        let wanted = Wanted { shard: std::num::NonZeroU64::new(10), ..wanted(blake3(), &tap) };
        let error = cpu(1).hash_files_for(&jobs, &wanted, &Silent).unwrap_err();
        assert!(matches!(error, Error::Device(DeviceError::Refused { device: DeviceKind::Cpu, .. })), "{error}");
    }
}
