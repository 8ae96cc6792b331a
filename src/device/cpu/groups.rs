//! The values of a string's groups, on the way to the value of the slab that they lie in.

use blake3::hazmat::{ChainingValue, HasherExt};

use super::{Algorithms, Digests};
use crate::digest::{Algorithm, Digest};
use crate::tree::{Frontier, GroupSize, Tree};

/// What a pass over one string gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) digests: Digests,
    /// The values of its groups, in order, if they were asked for.
    pub(super) groups: Vec<ChainingValue>,
}

/// The value of a slab, and those of its groups, if they were asked for. The first is made of the others then.
#[derive(Debug)]
pub(super) struct Slab {
    pub(super) value: ChainingValue,
    pub(super) groups: Vec<ChainingValue>,
}

/// Takes them, from bytes that come in order.
pub(super) struct SlabHasher {
    hasher: blake3::Hasher,
    group: Option<Grouping>,
}

struct Grouping {
    /// Bytes in a group.
    size: u64,
    /// Where the current group begins in the string, and how many of its bytes have come.
    at: u64,
    come: u64,
    frontier: Frontier,
    values: Vec<ChainingValue>,
}

impl SlabHasher {
    /// For the slab at byte `at` of its string: a slab is one group or many.
    pub(super) fn new(at: u64, group: Option<GroupSize>) -> Self {
        let group = group.map(|group| Grouping {
            size: group.bytes(),
            at,
            come: 0,
            frontier: Frontier::default(),
            values: Vec::new(),
        });
        Self { hasher: hasher_at(at), group }
    }

    /// The next bytes.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        let Some(group) = &mut self.group else {
            self.hasher.update(bytes);
            return;
        };
        while !bytes.is_empty() {
            let count = usize::try_from(group.size - group.come).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (now, rest) = bytes.split_at(count);
            if group.come == 0 {
                self.hasher = hasher_at(group.at);
            }
            self.hasher.update(now);
            group.come += count as u64;
            if group.come == group.size {
                group.close(&self.hasher);
            }
            bytes = rest;
        }
    }

    pub(super) fn finish(self) -> Slab {
        let Some(mut group) = self.group else {
            return Slab { value: self.hasher.finalize_non_root(), groups: Vec::new() };
        };
        if group.come > 0 {
            group.close(&self.hasher);
        }
        // A slab has at least a byte; without one its value would be that of no bytes.
        let value = group.frontier.value().unwrap_or_else(|| self.hasher.finalize_non_root());
        Slab { value, groups: group.values }
    }
}

impl Grouping {
    fn close(&mut self, hasher: &blake3::Hasher) {
        let value = hasher.finalize_non_root();
        self.values.push(value);
        self.frontier.push(value);
        self.at += self.come;
        self.come = 0;
    }
}

fn hasher_at(at: u64) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(at);
    hasher
}

/// The value of a slab that lies in memory.
pub(super) fn slab_of(at: u64, bytes: &[u8], group: Option<GroupSize>) -> Slab {
    let mut hasher = SlabHasher::new(at, group);
    hasher.update(bytes);
    hasher.finish()
}

/// Adds the BLAKE3 digest of a string that lies in memory, made of its groups' values if they were asked for.
pub(super) fn take_blake3(bytes: &[u8], group: Option<GroupSize>, taken: &mut Taken) {
    let tree = group.map(|group| Tree::new(bytes.len() as u64, group)).filter(|tree| !tree.is_single_chunk());
    let root = tree.and_then(|tree| {
        taken.groups = slab_of(0, bytes, Some(tree.group())).groups;
        tree.root(&taken.groups)
    });
    let whole = || Digest::of32(Algorithm::Blake3, *blake3::hash(bytes).as_bytes());
    taken.digests.set(root.unwrap_or_else(whole));
}

/// Groups are of BLAKE3: who wants them wants that digest.
pub(super) const fn algorithms_for(algorithms: Algorithms, group: Option<GroupSize>) -> Algorithms {
    if group.is_some() { algorithms.with(Algorithm::Blake3) } else { algorithms }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU64, NonZeroUsize};

    use super::super::{Cpu, FileJob, Io, Settings, Silent, Wanted};
    use super::*;
    use crate::device::{Hashed, Want};

    /// Values as the `blake3` crate has them, of groups no longer than leaves two.
    fn oracle(bytes: &[u8], mut log: u8) -> Vec<ChainingValue> {
        while log > 0 && 1024 << log >= bytes.len() {
            log -= 1;
        }
        let want = Want::Groups { first_chunk: 0, group: GroupSize::from_chunk_log(log).unwrap() };
        match want.of(bytes) {
            Hashed::Groups(values) if bytes.len() > 1024 => values,
            _ => Vec::new(),
        }
    }

    #[test]
    fn the_values_of_groups_are_the_crates_by_every_way_through_the_engine() {
        const MIB: usize = 1 << 20;
        let folder = tempfile::tempdir().unwrap();
        let lengths = [0, 1, 1023, 1024, 1025, 2048, 65_536, 65_537, 131_073, MIB / 2, MIB / 2 + 1, 4 * MIB + 777];
        let file = |&len: &usize| {
            let bytes: Vec<u8> = (0..len).map(|i| ((i * 31) ^ (i >> 9) ^ len) as u8).collect();
            let path = folder.path().join(len.to_string());
            std::fs::write(&path, &bytes).unwrap();
            (FileJob { path, size_hint: Some(len as u64), expected_len: None }, bytes)
        };
        let (jobs, texts): (Vec<_>, Vec<_>) = lengths.iter().map(file).unzip();
        let blake3 = Algorithms::only(Algorithm::Blake3);
        for (threads, io) in [(1, Io::Read), (3, Io::Read), (3, Io::Auto)] {
            let cpu = Cpu::open(Settings { threads: NonZeroUsize::new(threads), io }).unwrap();
            for algorithms in [blake3, Algorithms::only(Algorithm::Sha256)] {
                for shard in [None, Some(3000), Some(65_537), Some(MIB + 5)] {
                    // Of a chunk, of the usual size, of two buffers, of more than a slab.
                    for log in [0, 6, 10, 12] {
                        let groups = GroupSize::from_chunk_log(log);
                        let size = shard.and_then(|shard| NonZeroU64::new(shard as u64));
                        let wanted = Wanted { algorithms, shard: size, groups, tap: None, look: None };
                        let hashed = cpu.hash_files_for(&jobs, &wanted, &Silent).unwrap();
                        for (hashed, text) in hashed.iter().zip(&texts) {
                            let about = format!("{} bytes, 2^{log}, {shard:?}, {algorithms:?}, {io:?}", text.len());
                            let strings: Vec<&[u8]> = match shard {
                                Some(shard) => text.chunks(shard).collect(),
                                None => vec![text],
                            };
                            assert_eq!(hashed.parts.len(), strings.len(), "{about}");
                            for (part, bytes) in hashed.parts.iter().zip(strings) {
                                assert_eq!(part.groups, oracle(bytes, log), "{about}");
                                let digest = Digest::of32(Algorithm::Blake3, *blake3::hash(bytes).as_bytes());
                                assert_eq!(part.digests.get(Algorithm::Blake3), Some(digest), "{about}");
                                assert_eq!(part.digests.get(Algorithm::Sha256).is_some(), algorithms != blake3);
                            }
                        }
                    }
                }
            }
        }
    }
}
