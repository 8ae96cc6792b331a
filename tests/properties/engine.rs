//! Any length, on any number of threads, by any way to read: the digests of the crates' own one-shot functions.

use std::fs;
use std::num::{NonZeroU64, NonZeroUsize};

use proptest::prelude::*;
use proptest::sample::select;
use tensorseal::Algorithm;
use tensorseal::device::cpu::{Algorithms, Cpu, FileJob, HashedFile, Io, Settings, Silent};

use crate::config;
use crate::oracle::{content, cut, one_shot};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

struct Files {
    _folder: tempfile::TempDir,
    jobs: Vec<FileJob>,
    contents: Vec<Vec<u8>>,
}

impl Files {
    fn new(lengths: impl IntoIterator<Item = usize>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut jobs, mut contents) = (Vec::new(), Vec::new());
        for (i, len) in lengths.into_iter().enumerate() {
            let (path, bytes) = (folder.path().join(i.to_string()), content(i as u64, len));
            fs::write(&path, &bytes).unwrap();
            // A hint orders the work and must not matter, even if it is wrong.
            let size_hint = [None, Some(len as u64), Some(0), Some(u64::MAX)][i % 4];
            jobs.push(FileJob { path, size_hint, expected_len: None });
            contents.push(bytes);
        }
        Self { _folder: folder, jobs, contents }
    }

    /// What each file must hash to, by all algorithms.
    fn expected(&self, shard: Option<NonZeroU64>) -> Vec<Vec<[Vec<u8>; 3]>> {
        let file = |bytes: &Vec<u8>| {
            let part = |(start, end): (u64, u64)| {
                Algorithm::ALL.map(|algorithm| one_shot(algorithm, &bytes[start as usize..end as usize]))
            };
            cut(bytes.len() as u64, shard).into_iter().map(part).collect()
        };
        self.contents.iter().map(file).collect()
    }
}

fn set(algorithms: &[Algorithm]) -> Algorithms {
    algorithms.iter().fold(Algorithms::default(), |set, &algorithm| set.with(algorithm))
}

fn compare(
    hashed: &[HashedFile],
    files: &Files,
    expected: &[Vec<[Vec<u8>; 3]>],
    algorithms: Algorithms,
    shard: Option<NonZeroU64>,
    what: &str,
) {
    assert_eq!(hashed.len(), files.contents.len());
    for ((hashed, bytes), expected) in hashed.iter().zip(&files.contents).zip(expected) {
        let len = bytes.len() as u64;
        assert_eq!(hashed.len, len, "{what}");
        let found: Vec<(u64, u64)> = hashed.parts.iter().map(|part| (part.start, part.end)).collect();
        assert!(found == cut(len, shard), "{what}: {len} bytes: {found:?}");
        for (part, expected) in hashed.parts.iter().zip(expected) {
            for (algorithm, expected) in Algorithm::ALL.into_iter().zip(expected) {
                let found = part.digests.get(algorithm);
                let wanted = algorithms.has(algorithm);
                assert_eq!(found.is_some(), wanted, "{what}: {algorithm} of {len} bytes");
                assert!(
                    found.is_none_or(|digest| digest.algorithm() == algorithm && digest.as_bytes() == &expected[..]),
                    "{what}: {algorithm} of bytes {}..{} of {len}",
                    part.start,
                    part.end
                );
            }
        }
    }
}

fn engine(threads: usize, io: Io) -> Cpu {
    Cpu::open(Settings { threads: NonZeroUsize::new(threads), io }).unwrap()
}

#[test]
fn the_engine_agrees_with_the_one_shot_hashes_around_every_edge() {
    let mut lengths = vec![0, 1, 1023, 1024, 1025, 8 * MIB + 3, 20 * MIB + 1];
    for edge in [512 * KIB, 4 * MIB] {
        lengths.extend([edge - 1, edge, edge + 1]);
    }
    let all = set(&Algorithm::ALL);
    let sets = [all, set(&[Algorithm::Blake3]), set(&[Algorithm::Sha256, Algorithm::Blake3])];
    for shard in [0, 1, 7, 1000, 1024, 512 * KIB, 512 * KIB + 1, 5 * MIB + 3] {
        // Thousands of tiny shards of a long file show nothing that hundreds do not.
        let longest = if shard == 0 { usize::MAX } else { shard * 1200 };
        let files = Files::new(lengths.iter().copied().filter(|&len| len <= longest));
        let shard = NonZeroU64::new(shard as u64);
        let expected = files.expected(shard);
        for threads in [1, 2, 3, 8] {
            for io in [Io::Auto, Io::Read] {
                // Every set for whole files; for shards one set a thread count, so that each meets each.
                for (i, algorithms) in sets.into_iter().enumerate() {
                    if shard.is_none() || i == threads % 3 {
                        let hashed = engine(threads, io).hash_files(&files.jobs, algorithms, shard, &Silent).unwrap();
                        let what = format!("{threads} threads, {io:?}, shards {shard:?}, {algorithms:?}");
                        compare(&hashed, &files, &expected, algorithms, shard, &what);
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn the_engine_agrees_with_the_one_shot_hashes_on_any_length(
        lengths in prop::collection::vec(prop_oneof![3 => 0..5000_usize, 2 => 0..2 * MIB, 1 => 0..9 * MIB], 1..6),
        shard in prop::option::of(1..3 * MIB as u64),
        algorithms in prop::sample::subsequence(Algorithm::ALL.to_vec(), 1..=3),
        threads in 1..9_usize,
        io in select(vec![Io::Auto, Io::Read]),
    ) {
        let total: usize = lengths.iter().sum();
        let shard = shard.map(|size| size.max(total as u64 / 300)).and_then(NonZeroU64::new);
        let files = Files::new(lengths);
        let hashed = engine(threads, io).hash_files(&files.jobs, set(&algorithms), shard, &Silent).unwrap();
        compare(&hashed, &files, &files.expected(shard), set(&algorithms), shard, "any length");
    }
}
