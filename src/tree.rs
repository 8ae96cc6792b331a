//! The shape of BLAKE3's tree, apart from the data, and the only place that knows ROOT.
//!
//! BLAKE3 splits a string into 1,024-byte chunks and hashes pairs upwards; the left subtree of a node always holds the
//! largest power of two of chunks that leaves something on the right (BLAKE3 paper, section 2.1). A device returns
//! *non-root* chaining values of aligned groups of chunks; a [`Frontier`] merges them.

mod together;

use std::ops::Range;

use blake3::hazmat::{self, HasherExt, Mode};

use crate::digest::{Algorithm, Digest};

pub(crate) use together::{LANES, SHORT, digests_of};

/// A node's 32-byte value below the root, as BLAKE3 passes it upwards (little-endian words).
pub use blake3::hazmat::ChainingValue;

/// Bytes in one chunk, the leaf of BLAKE3's tree.
pub const CHUNK_LEN: u64 = 1024;

/// How many chunks one chaining value stands for: a power of two, stored as its logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupSize(u8);

impl GroupSize {
    /// The largest group, 2^40 chunks (one pebibyte). Larger ones have no use and would overflow byte counts.
    pub const MAX: Self = Self(40);

    /// `1 << log` chunks, or `None` above [`GroupSize::MAX`].
    #[must_use]
    pub const fn from_chunk_log(log: u8) -> Option<Self> {
        if log <= Self::MAX.0 { Some(Self(log)) } else { None }
    }

    /// The largest group of at most `bytes` bytes, but at least one chunk.
    #[must_use]
    pub const fn at_most(bytes: u64) -> Self {
        let chunks = bytes / CHUNK_LEN;
        if chunks < 2 {
            return Self(0);
        }
        let log = chunks.ilog2() as u8;
        if log > Self::MAX.0 { Self::MAX } else { Self(log) }
    }

    /// Bytes in a whole group.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        CHUNK_LEN << self.0
    }

    /// Chunks in a whole group.
    #[must_use]
    pub const fn chunks(self) -> u64 {
        1 << self.0
    }

    /// The logarithm of the chunks in a whole group.
    #[must_use]
    pub const fn chunk_log(self) -> u8 {
        self.0
    }
}

/// Consecutive groups of one tree, apart from their bytes: where they stand in it, and how many bytes they have. Only
/// the last byte of the string may end a group short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    first_chunk: u64,
    len: u64,
    group: GroupSize,
}

impl Span {
    /// `len` bytes from chunk `first_chunk` of their string on. `None` unless the span begins where a group begins, and
    /// ends before chunk 2^54, the last that a BLAKE3 string can have.
    #[must_use]
    pub const fn new(first_chunk: u64, len: u64, group: GroupSize) -> Option<Self> {
        match first_chunk.checked_add(len.div_ceil(CHUNK_LEN)) {
            Some(end) if end <= 1 << 54 && first_chunk.is_multiple_of(group.chunks()) => {
                Some(Self { first_chunk, len, group })
            }
            _ => None,
        }
    }

    /// The first chunk's index in its string: its BLAKE3 counter.
    #[must_use]
    pub const fn first_chunk(&self) -> u64 {
        self.first_chunk
    }

    /// Bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes, and so no groups.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The size of its groups.
    #[must_use]
    pub const fn group(&self) -> GroupSize {
        self.group
    }

    /// How many groups there are; the last may be short.
    #[must_use]
    pub const fn groups(&self) -> u64 {
        self.len.div_ceil(self.group.bytes())
    }
}

/// The tree of one byte string: its length, and how it is cut into groups. No data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    len: u64,
    group: GroupSize,
}

impl Tree {
    /// The tree over `len` bytes. The group shrinks until no single group is the whole string, since a group's value
    /// is never the root.
    #[must_use]
    pub const fn new(len: u64, group: GroupSize) -> Self {
        let mut log = group.0;
        while log > 0 && CHUNK_LEN << log >= len {
            log -= 1;
        }
        Self { len, group: GroupSize(log) }
    }

    /// Length of the string in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether the string is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The group size in force.
    #[must_use]
    pub const fn group(&self) -> GroupSize {
        self.group
    }

    /// Strings of at most one chunk have no groups: the host hashes them whole.
    #[must_use]
    pub const fn is_single_chunk(&self) -> bool {
        self.len <= CHUNK_LEN
    }

    /// How many groups there are; the last may be short. Zero for a single chunk.
    #[must_use]
    pub const fn groups(&self) -> u64 {
        if self.is_single_chunk() { 0 } else { self.len.div_ceil(self.group.bytes()) }
    }

    /// The byte range of group `index`.
    #[must_use]
    pub fn range(&self, index: u64) -> Range<u64> {
        let start = index.saturating_mul(self.group.bytes());
        start.min(self.len)..start.saturating_add(self.group.bytes()).min(self.len)
    }

    /// All of the tree as one span. `None` for a single chunk, which has no groups, and for strings longer than 2^64
    /// bytes could be hashed.
    #[must_use]
    pub const fn span(&self) -> Option<Span> {
        if self.is_single_chunk() { None } else { Span::new(0, self.len, self.group) }
    }

    /// The root digest from the values of all groups, in order. `None` unless there is exactly one value a group.
    #[must_use]
    pub fn root(&self, values: &[ChainingValue]) -> Option<Digest> {
        if self.is_single_chunk() || values.len() as u64 != self.groups() {
            return None;
        }
        let mut frontier = Frontier::default();
        values.iter().for_each(|value| frontier.push(*value));
        frontier.root()
    }
}

/// The values of all groups of a string, kept beside its root to say later which range of it differs.
///
/// It needs no signature: merged, its values give the root, or it is not that string's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outboard {
    tree: Tree,
    values: Vec<ChainingValue>,
}

impl Outboard {
    /// The outboard of a string that has these groups' values, in order. `None` unless they merge to `root`: what does
    /// not prove itself cannot be held.
    #[must_use]
    pub fn proven(tree: Tree, values: Vec<ChainingValue>, root: &Digest) -> Option<Self> {
        (tree.root(&values).as_ref() == Some(root)).then_some(Self { tree, values })
    }

    /// The shape.
    #[must_use]
    pub const fn tree(&self) -> Tree {
        self.tree
    }

    /// One value a group, in order.
    #[must_use]
    pub fn values(&self) -> &[ChainingValue] {
        &self.values
    }

    /// The byte ranges whose groups have other values in `found`: neighbours joined, in order. `None` unless there is
    /// one value a group.
    #[must_use]
    pub fn differing(&self, found: &[ChainingValue]) -> Option<Vec<Range<u64>>> {
        if found.len() != self.values.len() {
            return None;
        }
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (index, _) in self.values.iter().zip(found).enumerate().filter(|(_, (expected, found))| expected != found) {
            let range = self.tree.range(index as u64);
            match ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        Some(ranges)
    }
}

/// The right edge of a tree that grows from left to right: one value for each complete subtree that still waits for its
/// sibling, so that memory is the logarithm of the length.
///
/// What is pushed are aligned subtrees in order, all complete but perhaps the last. Merging is put off by one subtree,
/// as in the BLAKE3 paper's section 5.1.2, because the merge that turns out to be the last is the root's.
#[derive(Debug, Clone, Default)]
pub struct Frontier {
    /// Complete subtrees, the largest first: the logarithm of the size, and the value.
    subtrees: Vec<(u8, ChainingValue)>,
    /// The newest subtree, not yet among them.
    last: Option<(u8, ChainingValue)>,
    /// Subtrees pushed before it.
    merged: u64,
}

impl Frontier {
    /// The next group's value, where all groups are of one size.
    pub fn push(&mut self, value: ChainingValue) {
        self.push_subtree(0, value);
    }

    /// The value of the next subtree, of `1 << log` units; a short one at the end counts as one of any size.
    pub fn push_subtree(&mut self, log: u8, value: ChainingValue) {
        let Some((mut size, mut node)) = self.last.replace((log, value)) else { return };
        self.merged += 1;
        // Subtrees are aligned, so two neighbours of one size are always the two children of a node.
        while let Some((_, left)) = self.subtrees.pop_if(|(left, _)| *left == size) {
            node = hazmat::merge_subtrees_non_root(&left, &node, Mode::Hash);
            size += 1;
        }
        self.subtrees.push((size, node));
    }

    /// How many subtrees there were.
    #[must_use]
    pub const fn groups(&self) -> u64 {
        self.merged + self.last.is_some() as u64
    }

    /// The non-root value over all of them, as of a part of a longer string. `None` if there were none.
    #[must_use]
    pub fn value(&self) -> Option<ChainingValue> {
        let (_, last) = self.last?;
        Some(over(&self.subtrees, last))
    }

    /// The root over all of them. `None` for fewer than two: one subtree's value is never the root.
    #[must_use]
    pub fn root(&self) -> Option<Digest> {
        let ((_, top), rest) = self.subtrees.split_first()?;
        let (_, last) = self.last?;
        Some(root_over(top, &over(rest, last)))
    }
}

/// The root over the two subtrees below it, and nothing more: for those that keep values of subtrees apart from a [`Frontier`].
pub(crate) fn root_over(left: &ChainingValue, right: &ChainingValue) -> Digest {
    Digest::of32(Algorithm::Blake3, *hazmat::merge_subtrees_root(left, right, Mode::Hash).as_bytes())
}

/// The value over subtrees that shrink from left to right, and what stands right of them.
fn over(subtrees: &[(u8, ChainingValue)], last: ChainingValue) -> ChainingValue {
    subtrees.iter().rev().fold(last, |right, (_, left)| hazmat::merge_subtrees_non_root(left, &right, Mode::Hash))
}

/// The non-root value of one group: `bytes` starts at byte `at` of its string, a multiple of the group size.
pub(crate) fn group_value(at: u64, bytes: &[u8]) -> ChainingValue {
    group_value_of(at, |take| take(bytes))
}

/// The same of bytes that come in several slices: `each` calls what it is given with one after the other.
pub(crate) fn group_value_of(at: u64, each: impl FnOnce(&mut dyn FnMut(&[u8]))) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(at);
    each(&mut |bytes| {
        hasher.update(bytes);
    });
    hasher.finalize_non_root()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn root_by_groups(data: &[u8], log: u8) -> Digest {
        let tree = Tree::new(data.len() as u64, GroupSize::from_chunk_log(log).unwrap());
        if tree.is_single_chunk() {
            assert_eq!(tree.root(&[]), None);
            return Digest::of32(Algorithm::Blake3, *blake3::hash(data).as_bytes());
        }
        let values: Vec<_> = (0..tree.groups())
            .map(|i| {
                let range = tree.range(i);
                group_value(range.start, &data[range.start as usize..range.end as usize])
            })
            .collect();
        assert_eq!(tree.root(&values[1..]), None, "one value too few");
        tree.root(&values).unwrap()
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn groups_merge_to_the_crates_digest_at_every_edge() {
        for len in [0, 1, 1023, 1024, 1025, 2047, 2048, 2049, 3072, 4096, 4097, 16384, 16385, 65536 * 3 + 1, 1 << 20] {
            let data = pattern(len);
            let expected = Digest::of32(Algorithm::Blake3, *blake3::hash(&data).as_bytes());
            for log in 0..12 {
                assert_eq!(root_by_groups(&data, log), expected, "length {len}, group 2^{log}");
            }
        }
    }

    #[test]
    fn an_outboard_proves_itself_and_says_which_ranges_differ() {
        let group = GroupSize::from_chunk_log(1).unwrap();
        let mut data = pattern(20_000);
        let tree = Tree::new(data.len() as u64, group);
        let span = tree.span().unwrap();
        assert_eq!((span.first_chunk(), span.len(), span.groups(), span.is_empty()), (0, 20_000, 10, false));
        let values = |data: &[u8]| -> Vec<_> {
            data.chunks(2048).enumerate().map(|(i, bytes)| group_value(i as u64 * 2048, bytes)).collect()
        };
        let root = Digest::of32(Algorithm::Blake3, *blake3::hash(&data).as_bytes());
        let outboard = Outboard::proven(tree, values(&data), &root).unwrap();
        assert_eq!((outboard.tree(), outboard.values().len()), (tree, 10));
        assert_eq!(outboard.differing(&values(&data)), Some(vec![]));
        for byte in [0, 2048, 4095, 8192, 19_999] {
            data[byte] ^= 1;
        }
        assert_eq!(outboard.differing(&values(&data)), Some(vec![0..4096, 8192..10_240, 18_432..20_000]));
        assert_eq!(outboard.differing(&values(&data[..18_000])), None, "another number of groups");
        assert_eq!(Outboard::proven(tree, values(&data), &root), None, "not that string's");
        assert_eq!(Tree::new(1024, group).span(), None);
    }

    #[test]
    fn subtrees_of_many_sizes_merge_as_groups_do() {
        let data = pattern(77 * 1024 + 9);
        let mut frontier = Frontier::default();
        let mut at = 0;
        // 77 chunks are 64 + 8 + 4 + 1; the short one comes last. Cutting the first further changes nothing.
        for log in [4, 4, 5, 3, 2, 0] {
            let len = 1024 << log;
            frontier.push_subtree(log, group_value(at as u64, &data[at..at + len]));
            at += len;
        }
        frontier.push_subtree(0, group_value(at as u64, &data[at..]));
        assert_eq!(frontier.root(), Some(Digest::of32(Algorithm::Blake3, *blake3::hash(&data).as_bytes())));
        // The same chunks as the right part of a longer string.
        let first = 1_u64 << 39;
        let mut part = Frontier::default();
        assert_eq!((part.value(), part.root()), (None, None));
        for (index, bytes) in data.chunks(4096).enumerate() {
            part.push_subtree(2, group_value(first + index as u64 * 4096, bytes));
        }
        assert_eq!(part.value(), Some(group_value(first, &data)));
    }

    #[test]
    fn the_shape_of_huge_strings_does_not_overflow() {
        // 5 TiB passes 2^32 chunks; u64::MAX bytes is past anything that exists.
        let tree = Tree::new(5 << 40, GroupSize::at_most(16 << 20));
        assert_eq!(tree.groups(), (5 << 40) / (16 << 20));
        assert_eq!(tree.range(tree.groups() - 1).end, 5 << 40);
        let tree = Tree::new(u64::MAX, GroupSize::MAX);
        assert_eq!(tree.range(tree.groups() - 1).end, u64::MAX);
        assert_eq!(GroupSize::at_most(0).bytes(), CHUNK_LEN);
        assert_eq!(GroupSize::at_most(u64::MAX), GroupSize::MAX);
        assert_eq!(GroupSize::from_chunk_log(41), None);
    }

    #[test]
    fn the_counter_of_a_group_is_its_position() {
        // The same bytes at another offset have another value, also across the 32-bit edge of the chunk counter.
        let bytes = pattern(4096);
        let edge = (1_u64 << 32) * CHUNK_LEN;
        let values = [0, 4096, edge - 4096, edge, edge + 4096].map(|at| group_value(at, &bytes));
        for (i, a) in values.iter().enumerate() {
            for b in &values[i + 1..] {
                assert_ne!(a, b);
            }
        }
    }

    proptest! {
        #[test]
        fn random_lengths_and_groups_agree(len in 0_usize..400_000, log in 0_u8..10, seed: u8) {
            let data: Vec<u8> = (0..len).map(|i| (i as u8).wrapping_mul(31) ^ (i >> 8) as u8 ^ seed).collect();
            let expected = Digest::of32(Algorithm::Blake3, *blake3::hash(&data).as_bytes());
            prop_assert_eq!(root_by_groups(&data, log), expected);
        }
    }
}
