//! Bytes and digests, apart from what is signed.

use std::fs;

use super::*;
use crate::digest::Digest;
use crate::loader::behind::Sizes;
use crate::tree::GroupSize;

/// Files of these lengths, to read as they are.
struct Files {
    _folder: tempfile::TempDir,
    items: Vec<Item>,
    texts: Vec<Vec<u8>>,
}

impl Files {
    fn new(lengths: &[usize]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut items, mut texts) = (Vec::new(), Vec::new());
        for (index, &len) in lengths.iter().enumerate() {
            let (text, path) = (pattern(len, index), folder.path().join(index.to_string()));
            fs::write(&path, &text).unwrap();
            items.push(Item { name: ResourceName::of_file(&index.to_string(), None), path, len: len as u64 });
            texts.push(text);
        }
        Self { _folder: folder, items, texts }
    }

    /// Every string was found, with the digests that the crates give.
    fn check(&self, found: &[Vec<Found>], shard: Option<u64>, wanted: Algorithms, staged: bool) {
        use sha2::Digest as _;
        assert_eq!(found.len(), self.texts.len());
        for (found, text) in found.iter().zip(&self.texts) {
            let strings: Vec<&[u8]> = match shard {
                None => vec![text],
                Some(shard) => text.chunks(shard as usize).collect(),
            };
            assert_eq!(found.len(), strings.len());
            let mut start = 0;
            for (found, bytes) in found.iter().zip(strings) {
                assert_eq!(found.range, start..start + bytes.len() as u64);
                start = found.range.end;
                for algorithm in Algorithm::ALL {
                    let digest = |_: &()| match algorithm {
                        Algorithm::Sha256 => Digest::new(algorithm, &sha2::Sha256::digest(bytes)),
                        Algorithm::Blake2b => Digest::new(algorithm, &blake2::Blake2b512::digest(bytes)),
                        Algorithm::Blake3 => Digest::new(algorithm, blake3::hash(bytes).as_bytes()),
                    };
                    let blake3 = algorithm == Algorithm::Blake3;
                    let memory = if staged { blake3 && wanted != Algorithms::default() } else { wanted.has(algorithm) };
                    let read = staged && wanted.sequential() && (blake3 || wanted.has(algorithm));
                    assert_eq!(
                        found.memory.get(algorithm),
                        memory.then_some(()).as_ref().and_then(digest),
                        "{algorithm} {:?}",
                        found.range
                    );
                    assert_eq!(
                        found.read.get(algorithm),
                        read.then_some(()).as_ref().and_then(digest),
                        "{algorithm} {:?}",
                        found.range
                    );
                }
            }
        }
    }
}

pub(super) const SMALL: Sizes =
    Sizes { whole: 4096, group: GroupSize::at_most(2048), batch: 8192, jobs: 5, in_flight: 2 };

fn sets() -> [Algorithms; 4] {
    let only = Algorithms::only;
    [Algorithms::default(), only(Algorithm::Blake3), only(Algorithm::Sha256), Algorithm::ALL.into_iter().collect()]
}

#[test]
fn every_byte_arrives_and_every_digest_is_the_crates_around_all_edges() {
    let mut lengths = vec![0, 1, 3, 1023, 1024, 1025, 0, 2047, 2048, 2049, 4095, 4096, 4097, 8191, 8193, 100_001];
    lengths.extend([50_000, 7, 65_536, 12_345]);
    let files = Files::new(&lengths);
    let total: u64 = lengths.iter().map(|&len| len as u64).sum();
    let items: Vec<&Item> = files.items.iter().collect();
    for shard in [None, Some(1000), Some(2048), Some(30_000)] {
        for wanted in sets() {
            for (block, blocks, threads) in [(1000, 1, 1), (4096, 3, 2), (1 << 20, 2, 4)] {
                let (device, count, cancel) =
                    (Planted { blocks, ..Planted::new(block) }, Count::default(), Cancel::default());
                let mut buffers: Vec<_> = lengths.iter().map(|&len| device.alloc(len as u64).unwrap()).collect();
                let run = run(shard, threads, &cancel, &count);
                let found = staged::fill(&device, &items, &mut buffers, wanted, &run, SMALL).unwrap();
                files.check(&found, shard, wanted, true);
                for (buffer, text) in buffers.iter().zip(&files.texts) {
                    assert_eq!(buffer.0.bytes(), text);
                }
                assert_eq!(device.uploaded.get(), total, "each byte goes up once");
                assert_eq!((count.0.into_inner(), count.1.into_inner()), (total, lengths.len() as u64));
                assert_eq!(device.count(Verb::Submit), device.count(Verb::Wait));
            }
        }
    }
}

#[test]
fn in_place_every_byte_arrives_and_every_digest_is_the_crates() {
    const MIB: usize = 1 << 20;
    let mut lengths = vec![0, 1, 1024, 1025, 512 << 10, MIB - 1, MIB, MIB + 1, 2 * MIB + 77, 4 * MIB, 9 * MIB + 5];
    lengths.extend((0..100).map(|i| i * 37));
    let files = Files::new(&lengths);
    let cuts =
        [(None, 1), (None, 4), (Some(1000), 3), (Some(65_536), 1), (Some(MIB as u64 + 1), 4), (Some(3 << 20), 2)];
    for (shard, threads) in cuts {
        for wanted in sets() {
            let (count, cancel) = (Count::default(), Cancel::default());
            let mut memory: Vec<_> = lengths.iter().map(|&len| cpu().alloc(len as u64).unwrap()).collect();
            let places = files.items.iter().zip(memory.iter_mut().map(Memory::bytes_mut)).collect();
            let found = place::fill(places, wanted, &run(shard, threads, &cancel, &count)).unwrap();
            files.check(&found, shard, wanted, false);
            for (memory, text) in memory.iter().zip(&files.texts) {
                assert_eq!(memory.bytes(), text);
            }
            assert_eq!(count.1.into_inner(), lengths.len() as u64);
        }
    }
}
