//! What the kernels are told, byte by byte: a batch of the plan as the structs of `kernels/blake3.cu`. Pure.

use std::ops::Range;

use super::super::plan::{Batch, Block, CELL, Piece, Rules, Run, Source, blocks};
use super::api::Address;
use crate::tree::CHUNK_LEN;

/// What these kernels can do.
pub(super) const RULES: Rules = Rules {
    segment: SEGMENT,
    cell: CELL,
    pitch: CELL,
    // The two steps: 2 and 7, in either order.
    levels: 9,
    slots: 1 << 23,
    scratch: 64 << 20,
};

/// The same with at most so many bytes hashed, and gathered, in a batch; within what the kernels can count.
pub(super) fn rules(batch: u64, scratch: u64) -> Rules {
    let slots = (batch / CHUNK_LEN).clamp(1 << RULES.levels, RULES.slots);
    Rules { slots, scratch: scratch.clamp(CHUNK_LEN, 1 << 30), ..RULES }
}

const SEGMENT: u64 = 128;

/// Bytes of a chaining value.
pub(super) const VALUE: u64 = 32;

/// Bytes of a Run, a Group and a Piece.
const ENTRY: usize = 32;

/// Up to so many slots, 4 MiB, the chunk kernel merges as far as it can: the device is not full anyway, and often that
/// saves a launch. Above it merges as far as all its lanes have work.
const FEW: u32 = 4096;

/// Levels that `chunk_values` merges, and then `merge_values`.
pub(super) const STEPS: [[u8; 2]; 2] = [[7, 2], [2, 7]];

/// The steps for a batch.
pub(super) const fn steps(batch: &Batch) -> [u8; 2] {
    if batch.slots <= FEW { STEPS[0] } else { STEPS[1] }
}

/// The entries of one array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Part {
    /// Its first byte.
    pub(super) at: u64,
    pub(super) entries: u32,
}

/// A batch for the kernels.
#[derive(Debug, Default)]
pub(super) struct Described {
    /// All arrays, one behind the other.
    pub(super) bytes: Vec<u8>,
    pub(super) groups: Part,
    pub(super) runs: Part,
    /// The groups of `merge_values`, if it has anything to do.
    pub(super) merges: Option<Part>,
    pub(super) pieces: Part,
    /// How many values `chunk_values` writes.
    pub(super) first: u32,
    /// How many come out in the end.
    pub(super) values: u32,
}

impl Described {
    /// Describes a batch whose scratch memory begins at an address.
    pub(super) fn new(batch: &Batch, scratch: Address, steps: [u8; 2]) -> Self {
        let levels = || batch.subtrees.iter().map(|subtree| subtree.level);
        let (first, outputs) = blocks(levels(), 0, steps[0]);
        let mut described = Self { first: outputs, values: outputs, ..Self::default() };
        let mut runs = 0..0;
        described.groups = described.part(first.iter().map(|block| {
            runs = runs_of(block, &batch.runs, runs.start);
            group(block, runs.start as u32, runs.len() as u32)
        }));
        described.runs = described.part(batch.runs.iter().map(|source| run(source, scratch)));
        if batch.subtrees.first().is_some_and(|largest| largest.level > steps[0]) {
            let (second, outputs) = blocks(levels(), steps[0], steps[1]);
            described.merges = Some(described.part(second.iter().map(|block| group(block, block.first, 0))));
            described.values = outputs;
        }
        described.pieces = described.part(batch.pieces.iter().map(piece));
        described
    }

    fn part(&mut self, entries: impl Iterator<Item = [u8; ENTRY]>) -> Part {
        let at = self.bytes.len();
        entries.for_each(|entry| self.bytes.extend_from_slice(&entry));
        // A batch has at most 2^23 slots, hence runs and groups, and less than 2^32 bytes of scratch, hence pieces.
        Part { at: at as u64, entries: ((self.bytes.len() - at) / ENTRY) as u32 }
    }
}

/// Which runs the slots of a block lie in; none before `from`, the first of the block before it.
fn runs_of(block: &Block, runs: &[Run], from: usize) -> Range<usize> {
    let rest = runs.get(from..).unwrap_or_default();
    let before = |slot: u32| from + rest.iter().take_while(|run| run.slot <= slot).count();
    let start = before(block.first).saturating_sub(1);
    let end = start + runs[start..].iter().take_while(|run| run.slot < block.first + block.used).count();
    start..end
}

/// Eight words, little-endian.
fn entry(words: [u32; 8]) -> [u8; ENTRY] {
    let mut bytes = [0; ENTRY];
    for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

const fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// A Group: the work of one block.
fn group(block: &Block, run: u32, runs: u32) -> [u8; ENTRY] {
    let [a, b, c, d] = block.starts;
    entry([run, runs | u32::from(block.levels) << 24, block.out, block.used, a, b, c, d])
}

/// A Run: where consecutive slots are read. Segment `y` of a row of `d` lies in row `y * magic >> shift`.
fn run(run: &Run, scratch: Address) -> [u8; ENTRY] {
    let [counter, counter_high] = halves(run.counter);
    let (base, skip, magic, place) = match run.source {
        Source::Plain { at, .. } => (at, 0, 0, 32),
        Source::Scratch { at } => (scratch + at, 0, 0, 32),
        Source::Rows { at, column, rows, .. } => {
            let (magic, shift) = divisor((rows.row / SEGMENT) as u32);
            // Both fit: the plan's rules say so.
            (at, (rows.pitch - rows.row) as u32, magic, ((column / SEGMENT) as u32) << 8 | shift)
        }
    };
    let [base, base_high] = halves(base);
    entry([base, base_high, counter, counter_high, run.slot, skip, magic, place])
}

/// `magic` and `shift` with `y / by == y * magic >> shift` for all y below 2^30, where `by` is below 2^24.
const fn divisor(by: u32) -> (u32, u32) {
    let shift = 31 + by.ilog2();
    ((1_u64 << shift).div_ceil(by as u64) as u32, shift)
}

/// A Piece: what is gathered to one place.
fn piece(piece: &Piece) -> [u8; ENTRY] {
    let [from, from_high] = halves(piece.from);
    let (row, skip, column) = match piece.rows {
        None => (0, 0, 0),
        // Both fit: the plan makes other pieces of longer rows.
        Some((rows, column)) => (rows.row as u32, (rows.pitch - rows.row) as u32, column),
    };
    entry([from, from_high, piece.to, piece.len, row, skip, column, 0])
}

#[cfg(test)]
mod tests {
    use super::super::super::Want;
    use super::super::super::plan::{Plan, Region, Rows, SLOTS, Text};
    use super::*;

    fn words(bytes: &[u8]) -> Vec<[u32; 8]> {
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
        bytes.chunks(ENTRY).map(|entry| std::array::from_fn(|i| word(&entry[i * 4..i * 4 + 4]))).collect()
    }

    fn part(described: &Described, part: Part) -> Vec<[u32; 8]> {
        words(&described.bytes[part.at as usize..part.at as usize + part.entries as usize * ENTRY])
    }

    #[test]
    fn a_multiplication_divides_by_every_length_of_rows() {
        for by in 1..1 << 24 {
            let (magic, shift) = divisor(by);
            assert!(shift < 64);
            // A division can go wrong only where the quotient changes: look there, at both ends of what may come.
            let last = ((1_u32 << 30) - 1) / by * by;
            for y in [0, by - 1, by, last - 1, last, (1 << 30) - 1] {
                assert_eq!(((u64::from(y) * u64::from(magic)) >> shift) as u32, y / by, "{y} / {by}");
            }
            // magic * by is at most `by` above 2^shift: with y < 2^30 that stays below one step.
            let above = u64::from(magic) * u64::from(by) - (1 << shift);
            assert!(above < u64::from(by) && above << 30 <= 1 << shift, "{by}");
        }
    }

    #[test]
    fn what_a_row_needs_fits_into_its_fields() {
        let rows = Rows { row: ((1 << 24) - 1) * SEGMENT, pitch: ((1 << 24) - 1) * SEGMENT + (1 << 32) - 16 };
        let source = Source::Rows { space: 0, at: 0x1234_5678_9ABC_DEF0, column: rows.row - SEGMENT, rows };
        let entry = run(&Run { slot: 77, chunks: 1, counter: 0x0123_4567_89AB_CDEF, source }, 0);
        let [fields] = words(&entry)[..] else { panic!("one entry") };
        let (magic, shift) = divisor((1 << 24) - 1);
        let place = ((1 << 24) - 2) << 8 | shift;
        assert_eq!(fields, [0x9ABC_DEF0, 0x1234_5678, 0x89AB_CDEF, 0x0123_4567, 77, u32::MAX - 15, magic, place]);
        let plain = run(&Run { slot: 1, chunks: 1, counter: 2, source: Source::Scratch { at: 1024 } }, 1 << 32);
        assert_eq!(words(&plain), [[1024, 1, 2, 0, 1, 0, 0, 32]]);
        let rows = Some((Rows { row: 10, pitch: 13 }, 7));
        let piece = piece(&Piece { space: 0, from: 5 << 32 | 1, to: 2, len: 3, rows });
        assert_eq!(words(&piece), [[1, 5, 2, 3, 10, 3, 7, 0]]);
    }

    #[test]
    fn each_group_has_all_runs_of_its_slots_and_no_other() {
        // Many short regions, so that blocks begin and end within runs and between them.
        let region = |i: u64| Region {
            space: 0,
            at: 0x1_0000_0000 + i * 0x10_0000 + i % 3,
            len: 1024 * (1 + i * 37 % 90) + i % 5,
            rows: None,
            readable: 0..u64::MAX,
        };
        for regions in [1, 2, 7, 60] {
            let text = Text { regions: (0..regions).map(region).collect(), want: Want::Root };
            let plan = Plan::new(&[text.clone(), text], &RULES).unwrap();
            let [batch] = &plan.batches[..] else { panic!("one batch") };
            for steps in STEPS {
                let described = Described::new(batch, 1 << 40, steps);
                let runs = part(&described, described.runs);
                assert_eq!(runs.len(), batch.runs.len());
                let mut used = 0;
                for (index, group) in part(&described, described.groups).into_iter().enumerate() {
                    let (first, count) = (group[0] as usize, (group[1] & 0xFF_FFFF) as usize);
                    let slots = index as u32 * SLOTS..index as u32 * SLOTS + group[3];
                    assert!(batch.runs[first].slot <= slots.start, "the first slot is in the first run");
                    let touches = |run: &&Run| run.slot < slots.end && run.slot + run.chunks > slots.start;
                    assert_eq!(batch.runs.iter().filter(touches).count(), count);
                    assert!(batch.runs[first..first + count].iter().all(|run| touches(&run)));
                    used += group[3];
                }
                assert_eq!(used, batch.slots);
                let merges = described.merges.map(|merges| part(&described, merges)).unwrap_or_default();
                let merged: u32 = merges.iter().map(|group| group[3]).sum();
                assert!(merges.is_empty() || merged == described.first, "every value of the first step goes on");
                assert_eq!(described.values as usize, batch.subtrees.len());
                assert_eq!(described.pieces.entries as usize, batch.pieces.len());
                assert_eq!(described.bytes.len() % ENTRY, 0);
            }
        }
    }

    #[test]
    fn what_is_small_is_done_in_one_launch() {
        let plan = |len| {
            let region = Region { space: 0, at: 0, len, rows: None, readable: 0..len };
            Plan::new(&[Text { regions: vec![region], want: Want::Root }], &RULES).unwrap()
        };
        let merges =
            |len| plan(len).batches.iter().any(|batch| Described::new(batch, 0, steps(batch)).merges.is_some());
        assert!(!merges(255 << 10) && merges(257 << 10));
        assert_eq!(steps(&plan(4 << 20).batches[0]), [7, 2]);
        assert_eq!(steps(&plan((4 << 20) + 1024).batches[0]), [2, 7]);
    }
}
