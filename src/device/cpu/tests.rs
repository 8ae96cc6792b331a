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
