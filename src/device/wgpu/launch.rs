//! From a batch to launches: which kernel, over which window of which buffer, told what. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::plan::{Batch, Block, CELL, blocks};
use super::Limits;
use super::windows::Part;

/// Threads in a workgroup, as in the shader.
const THREADS: u64 = 64;

/// Bytes of the header of orders, and of each record behind it.
const HEADER: u64 = 16;
const RECORD: u64 = 32;

/// No guard to clear; and the length of the row of what has no rows.
const NONE: u32 = u32::MAX;

/// Levels that one launch of `merge` merges at most.
pub(super) const STEP: u8 = 7;

/// A compiled entry point of the shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kernel {
    /// Chunks from a multiple of 16 bytes on.
    Aligned,
    /// Chunks from any byte on.
    Shifted,
    /// Chunks along rows, which begin at any byte.
    Rows,
    /// Levels of the tree.
    Merge,
    /// Bytes to scratch.
    Gather,
}

impl Kernel {
    pub(super) const ALL: [Self; 5] = [Self::Aligned, Self::Shifted, Self::Rows, Self::Merge, Self::Gather];
}

/// A buffer of the engine, or one that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A space of the plan.
    Space(u32),
    Scratch,
    /// The values after so many steps.
    Values(usize),
}

/// One dispatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Launch {
    pub(super) kernel: Kernel,
    pub(super) input: Place,
    /// The bytes of the input that it sees.
    pub(super) window: Range<u64>,
    pub(super) output: Place,
    /// The bytes of the output that it sees.
    pub(super) target: Range<u64>,
    /// The bytes of the orders that are for it.
    pub(super) orders: Range<u64>,
    /// Workgroups in both directions.
    pub(super) groups: (u32, u32),
}

/// What is launched for a batch, in order.
#[derive(Debug, Default)]
pub(super) struct Launches {
    pub(super) list: Vec<Launch>,
    /// What is written into the buffer of orders.
    pub(super) orders: Vec<u32>,
    /// Bytes of values after each step; the last are the results.
    pub(super) values: Vec<u64>,
}

/// A chunk of some string is longer than a binding may be: [`super::regions`] lets none through.
#[derive(Debug)]
pub(super) struct TooLong;

impl Launches {
    /// Everything for `batch`, where the spaces have these sizes.
    pub(super) fn of(batch: &Batch, sizes: &[u64], limits: &Limits) -> Result<Self, TooLong> {
        let mut launches = Self::default();
        launches.gather(batch, sizes, limits)?;
        launches.chunks(batch, sizes, limits)?;
        launches.merge(batch, limits);
        Ok(launches)
    }

    /// Workgroups over all launches.
    pub(super) fn groups(&self) -> u32 {
        self.list.iter().fold(0, |sum, launch| sum.wrapping_add(launch.groups.0 * launch.groups.1))
    }

    /// Asserts what a device may insist on and a software adapter, whose limits are wide, does not: sizes and alignments of
    /// bindings, grids, and that no two threads of a launch write one word.
    #[cfg(test)]
    pub(super) fn check(&self, limits: &Limits) {
        for launch in &self.list {
            for binding in [&launch.window, &launch.target, &launch.orders] {
                let len = binding.end - binding.start;
                assert!(len > 0 && len <= limits.binding && len.is_multiple_of(4), "{launch:?} {limits:?}");
                assert!(binding.start.is_multiple_of(limits.align), "{launch:?} {limits:?}");
            }
            let (across, down) = launch.groups;
            assert!((1..=limits.groups).contains(&across) && (1..=limits.groups).contains(&down), "{launch:?}");
            let orders = &self.orders[(launch.orders.start / 4) as usize..(launch.orders.end / 4) as usize];
            let (header, records) = orders.split_at(4);
            let blocks = if launch.kernel == Kernel::Merge { 1 } else { THREADS };
            assert!(u64::from(across) * u64::from(down) * blocks >= u64::from(header[1]), "{launch:?}");
            let (mut next, mut threads) = (0, 0);
            for record in records.chunks(8).filter(|_| launch.kernel == Kernel::Gather) {
                let (thread, end, word) = (record[0], record[1] + record[2], record[3]);
                // The words of the one before end before those of this one.
                assert!(word >= next && thread >= threads, "{launch:?} {record:?}");
                (next, threads) = (end.div_ceil(4).max(word), thread + (end.div_ceil(4).max(word) - word));
            }
            assert!(threads <= header[1], "{launch:?}");
        }
    }

    /// Makes all threads of one launch too many: its workgroups run, and write nothing.
    #[cfg(test)]
    pub(super) fn hinder(&mut self, launch: usize) {
        if let Some(launch) = self.list.get(launch) {
            self.orders[(launch.orders.start / 4) as usize + 1] = 0;
        }
    }

    fn gather(&mut self, batch: &Batch, sizes: &[u64], limits: &Limits) -> Result<(), TooLong> {
        let mut spaces: BTreeMap<u32, Vec<Part>> = BTreeMap::new();
        for piece in &batch.pieces {
            spaces.entry(piece.space).or_default().push(Part::of_piece(piece));
        }
        for (space, parts) in spaces {
            for (window, parts) in limits.windows(parts, sizes[space as usize]).ok_or(TooLong)? {
                self.copy(&parts, Place::Space(space), &window, Place::Scratch, 0..batch.scratch, limits);
            }
        }
        // The last one clears the guard. That the others ran is in the receipt.
        if let Some(last) = self.list.last() {
            self.orders[(last.orders.start / 4) as usize + 3] = ((batch.scratch - CELL) / 4) as u32;
        }
        Ok(())
    }

    /// Copies parts, in the order of where they go in `target`.
    pub(super) fn copy(
        &mut self,
        parts: &[Part],
        input: Place,
        window: &Range<u64>,
        output: Place,
        target: Range<u64>,
        limits: &Limits,
    ) {
        for parts in parts.chunks(limits.records()) {
            let (mut records, mut words, mut owned) = (Vec::with_capacity(8 * parts.len()), 0, 0);
            for part in parts {
                let start = (part.to / 4).max(owned);
                let end = (part.to + part.count).div_ceil(4).max(start);
                let (row, pitch) = rows(part, window.end);
                records.extend([words as u32, part.to as u32, part.count as u32, start as u32]);
                records.extend([relative(part, window, row), column(part, row), row, pitch]);
                words += end - start;
                owned = end;
            }
            self.add(Kernel::Gather, input, window.clone(), output, target.clone(), &records, words, limits);
        }
    }

    fn chunks(&mut self, batch: &Batch, sizes: &[u64], limits: &Limits) -> Result<(), TooLong> {
        let bytes = u64::from(batch.slots) * 32;
        self.values.push(bytes);
        let mut spaces: BTreeMap<Option<u32>, Vec<Part>> = BTreeMap::new();
        for (space, part) in batch.runs.iter().map(Part::of_run) {
            spaces.entry(space).or_default().push(part);
        }
        for (space, parts) in spaces {
            let (input, size) = match space {
                None => (Place::Scratch, batch.scratch),
                Some(space) => (Place::Space(space), sizes[space as usize]),
            };
            for (window, parts) in limits.windows(parts, size).ok_or(TooLong)? {
                let mut kernels: BTreeMap<Kernel, Vec<Part>> = BTreeMap::new();
                for part in parts {
                    let kernel = match part.rows {
                        Some(_) => Kernel::Rows,
                        None if part.at.is_multiple_of(16) => Kernel::Aligned,
                        None => Kernel::Shifted,
                    };
                    kernels.entry(kernel).or_default().push(part);
                }
                for (kernel, parts) in kernels {
                    for parts in parts.chunks(limits.records()) {
                        let (mut records, mut threads) = (Vec::with_capacity(8 * parts.len()), 0);
                        for part in parts {
                            let (row, pitch) = rows(part, window.end);
                            let counter = part.counter;
                            records.extend([threads as u32, part.to as u32, counter as u32, (counter >> 32) as u32]);
                            records.extend([relative(part, &window, row), column(part, row), row, pitch]);
                            threads += part.count;
                        }
                        let output = Place::Values(0);
                        self.add(kernel, input, window.clone(), output, 0..bytes, &records, threads, limits);
                    }
                }
            }
        }
        Ok(())
    }

    fn merge(&mut self, batch: &Batch, limits: &Limits) {
        let most = batch.subtrees.first().map_or(0, |largest| largest.level);
        for done in (0..most).step_by(usize::from(STEP)) {
            let (blocks, outputs) = blocks(batch.subtrees.iter().map(|subtree| subtree.level), done, STEP);
            let step = self.values.len();
            let (input, output) = (self.values[step - 1], u64::from(outputs) * 32);
            self.values.push(output);
            for blocks in blocks.chunks(limits.records().min(limits.most_groups() as usize)) {
                let record = |block: &Block| {
                    let [a, b, c, d] = block.starts;
                    [block.first, block.used, u32::from(block.levels), block.out, a, b, c, d]
                };
                let records: Vec<u32> = blocks.iter().flat_map(record).collect();
                let threads = blocks.len() as u64 * THREADS;
                let (input, output) = ((Place::Values(step - 1), 0..input), (Place::Values(step), 0..output));
                let (kernel, added) = (Kernel::Merge, self.list.len());
                self.add(kernel, input.0, input.1, output.0, output.1, &records, threads, limits);
                // It counts blocks, not threads.
                let header = (self.list[added].orders.start / 4) as usize;
                self.orders[header + 1] = blocks.len() as u32;
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one record, in order")]
    fn add(
        &mut self,
        kernel: Kernel,
        input: Place,
        window: Range<u64>,
        output: Place,
        target: Range<u64>,
        records: &[u32],
        threads: u64,
        limits: &Limits,
    ) {
        let start = self.orders.len() as u64 * 4;
        let groups = limits.grid(threads.div_ceil(THREADS));
        self.orders.extend([(records.len() / 8) as u32, threads as u32, groups.0, NONE]);
        self.orders.extend(records);
        let orders = start..self.orders.len() as u64 * 4;
        // The next orders begin where a binding may begin.
        self.orders.resize((orders.end.next_multiple_of(limits.align) / 4) as usize, 0);
        self.list.push(Launch { kernel, input, window, output, target, orders, groups });
    }
}

/// The row and the pitch of a record. What lies in one row has none: its numbers need not fit.
fn rows(part: &Part, end: u64) -> (u32, u32) {
    match part.rows {
        // A window has less than 2^32 bytes, so a row that is not the last in it has a pitch that is less, too.
        Some(rows) if part.at + rows.pitch < end => (rows.row as u32, rows.pitch as u32),
        _ => (NONE, 0),
    }
}

/// The address of a record: of its row's first byte, or of its own first byte. The former may lie before the window; the
/// shader adds the column modulo 2^32.
const fn relative(part: &Part, window: &Range<u64>, row: u32) -> u32 {
    (if row == NONE { part.first() } else { part.at }).wrapping_sub(window.start) as u32
}

const fn column(part: &Part, row: u32) -> u32 {
    if row == NONE { 0 } else { part.column as u32 }
}

impl Limits {
    /// Records that a launch can have.
    const fn records(&self) -> usize {
        ((self.binding - HEADER) / RECORD) as usize
    }

    /// Workgroups that a launch can have.
    const fn most_groups(&self) -> u64 {
        (self.groups as u64).saturating_mul(self.groups as u64)
    }

    /// Threads that a launch can have.
    pub(super) const fn most_threads(&self) -> u64 {
        self.most_groups().saturating_mul(THREADS)
    }

    /// The smallest grid that has `groups` workgroups.
    fn grid(&self, groups: u64) -> (u32, u32) {
        let groups = groups.max(1);
        let across = groups.min(u64::from(self.groups));
        (across as u32, groups.div_ceil(across) as u32)
    }
}
