//! The tree of one string.

use std::ops::Range;

use crate::digest::{Algorithm, Digest};
use crate::manifest::ResourceName;
use crate::tree::{CHUNK_LEN, ChainingValue, Frontier, Outboard, Tree, group_value};

/// The tree of one resource: the values of its groups, and in its first groups those of their chunks.
///
/// It exists only if its values make its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    name: ResourceName,
    root: Digest,
    tree: Tree,
    /// None of a string of at most a chunk.
    groups: Option<Outboard>,
    /// Of the first groups, one value for each of their chunks.
    chunks: Vec<ChainingValue>,
    /// So many first groups.
    fine: u64,
}

impl Kept {
    /// How many values a string of `len` bytes has, of which `fine` groups are given by chunks. `None` if it has not so
    /// many groups, or if its groups are chunks anyway.
    pub(super) fn count(tree: Tree, fine: u64) -> Option<u64> {
        let chunks = Self::chunks_in(tree, fine);
        let one_way = fine == 0 || tree.group().chunk_log() > 0;
        (fine <= tree.groups() && one_way).then(|| chunks + (tree.groups() - fine))
    }

    /// Chunks in the first `fine` groups.
    fn chunks_in(tree: Tree, fine: u64) -> u64 {
        fine.saturating_mul(tree.group().chunks()).min(tree.len().div_ceil(CHUNK_LEN))
    }

    /// `values`: those of the chunks of the first `fine` groups, then those of the other groups. `None` unless they are
    /// as many as there must be, and make `root`.
    pub(super) fn new(
        name: ResourceName,
        root: Digest,
        tree: Tree,
        fine: u64,
        mut values: Vec<ChainingValue>,
    ) -> Option<Self> {
        if Self::count(tree, fine)? != values.len() as u64 || root.algorithm() != Algorithm::Blake3 {
            return None;
        }
        if tree.is_single_chunk() {
            return Some(Self { name, root, tree, groups: None, chunks: Vec::new(), fine: 0 });
        }
        let others = values.split_off(Self::chunks_in(tree, fine) as usize);
        let chunks = values;
        let of_chunks = chunks.chunks(usize::try_from(tree.group().chunks()).ok()?).map(merged);
        let values = of_chunks.chain(others.into_iter().map(Some)).collect::<Option<Vec<_>>>()?;
        let groups = Some(Outboard::proven(tree, values, &root)?);
        Some(Self { name, root, tree, groups, chunks, fine })
    }

    /// The resource.
    #[must_use]
    pub const fn name(&self) -> &ResourceName {
        &self.name
    }

    /// Its BLAKE3 digest.
    #[must_use]
    pub const fn root(&self) -> Digest {
        self.root
    }

    /// Its length, and how it is cut.
    #[must_use]
    pub const fn tree(&self) -> Tree {
        self.tree
    }

    /// The first groups of which the values of all chunks are kept.
    #[must_use]
    pub const fn fine_groups(&self) -> u64 {
        self.fine
    }

    /// All values in the order in which a file has them.
    pub(super) fn values(&self) -> impl Iterator<Item = &ChainingValue> {
        self.chunks.iter().chain(self.group_values().iter().skip(self.fine as usize))
    }

    /// One value a group; none of a string of at most a chunk.
    #[must_use]
    pub fn group_values(&self) -> &[ChainingValue] {
        self.groups.as_ref().map_or(&[], Outboard::values)
    }

    /// The shortest range around byte `at` of which it can be said whether it is as signed: a chunk, a group, or a short
    /// string as a whole.
    pub(super) fn unit(&self, at: u64) -> Range<u64> {
        let len = self.tree.len();
        let size = match self.tree.group().bytes() {
            _ if self.tree.is_single_chunk() => return 0..len,
            group if at / group < self.fine => CHUNK_LEN,
            group => group,
        };
        let start = at / size * size;
        start..start.saturating_add(size).min(len)
    }

    /// Whether `bytes` are the signed ones of `unit`, a range that [`Kept::unit`] gave.
    pub(super) fn is(&self, unit: &Range<u64>, bytes: &[u8]) -> bool {
        if self.tree.is_single_chunk() {
            return Digest::of32(Algorithm::Blake3, *blake3::hash(bytes).as_bytes()) == self.root;
        }
        let group = self.tree.group().bytes();
        let expected = if unit.start / group < self.fine {
            self.chunks.get((unit.start / CHUNK_LEN) as usize)
        } else {
            self.group_values().get((unit.start / group) as usize)
        };
        bytes.len() as u64 == unit.end - unit.start && expected == Some(&group_value(unit.start, bytes))
    }

    /// The units of a group, each a range of the string.
    pub(super) fn units(&self, group: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let mut at = group.start;
        let end = group.end;
        std::iter::from_fn(move || {
            let unit = (at < end).then(|| self.unit(at))?;
            at = unit.end;
            Some(unit)
        })
    }
}

/// The value over the chunks of a group.
fn merged(chunks: &[ChainingValue]) -> Option<ChainingValue> {
    let mut frontier = Frontier::default();
    chunks.iter().for_each(|value| frontier.push(*value));
    frontier.value()
}
