//! From layouts to what kernels are told. Pure: no device here, and no bytes.
//!
//! *Where a chunk is read.* A chunk that lies in one region, whose neighbourhood up to the kernel's load size may be
//! read too, is hashed where it lies. Every other full chunk (it straddles regions, or ends at the end of memory, or
//! lies in rows that the kernel cannot follow) is *gathered* into scratch first. So the hash kernel has no edge case,
//! and "no read outside the memory" is one comparison here.
//!
//! *What comes back.* Values of complete aligned subtrees of `1 << level` chunks, never the root. Sorted by size,
//! largest first, they lie on a line of *slots*, one a chunk, dense and aligned without padding: a thousand small
//! strings fill blocks as well as one large string. The ragged end of a string is its binary digits, and its last,
//! short chunk comes back as bytes, a *tail*, for the host to hash; so do strings of at most one chunk.
//!
//! *Batches.* The line is cut where a launch would pass its limits of slots or scratch.

mod assemble;
mod line;
mod place;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::ops::Range;

pub(crate) use assemble::{POISON, Results};
pub(crate) use line::{Block, SLOTS, blocks};
use place::Places;

use super::{DeviceError, Want};
use crate::tree::{CHUNK_LEN, Span};

/// What the kernels of a device can do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Bytes of a chunk that are fetched from one computed address: rows in place consist of whole ones, at most 2^24.
    pub(crate) segment: u64,
    /// The size and alignment of loads, a power of two: memory is read in whole ones.
    pub(crate) cell: u64,
    /// Rows in place have a pitch that is a multiple of this.
    pub(crate) pitch: u64,
    /// The logarithm of the chunks in the largest subtree whose value is returned.
    pub(crate) levels: u8,
    /// Chunks in one batch at most; at least those of the largest subtree.
    pub(crate) slots: u64,
    /// Bytes gathered in one batch at most, but for one subtree or tail that is larger. Less than 2^32 by a subtree.
    pub(crate) scratch: u64,
}

/// Equally long pieces of memory at a fixed distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Bytes in each, not 0.
    pub(crate) row: u64,
    /// From the start of one to the start of the next, at least `row`.
    pub(crate) pitch: u64,
}

/// Memory that holds a part of a string.
#[derive(Debug, Clone)]
pub(crate) struct Region {
    /// Which memory: a buffer's index, for devices that cannot compare addresses across buffers.
    pub(crate) space: u32,
    /// The address of the first byte in that memory.
    pub(crate) at: u64,
    /// Bytes of the string.
    pub(crate) len: u64,
    /// How they lie, if not one after the other.
    pub(crate) rows: Option<Rows>,
    /// The addresses that may be read around them.
    pub(crate) readable: Range<u64>,
}

/// One string, in addresses.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) regions: Vec<Region>,
    pub(crate) want: Want,
}

/// A complete aligned subtree of one string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subtree {
    /// The string's index.
    pub(crate) text: usize,
    /// Its first chunk, counted from the string's first byte.
    pub(crate) chunk: u64,
    /// The logarithm of its chunks.
    pub(crate) level: u8,
    /// Its place among all subtrees, in the order of strings and chunks.
    ordinal: usize,
}

impl Subtree {
    const fn chunks(&self) -> u64 {
        1 << self.level
    }
}

/// Where a run of chunks is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// One after the other from address `at`.
    Plain { space: u32, at: u64 },
    /// Along rows, from byte `column` of the row that begins at address `at`.
    Rows { space: u32, at: u64, column: u64, rows: Rows },
    /// One after the other from byte `at` of scratch, a multiple of a chunk.
    Scratch { at: u64 },
}

/// Consecutive slots that are read from one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first slot in the batch.
    pub(crate) slot: u32,
    /// How many.
    pub(crate) chunks: u32,
    /// The BLAKE3 counter of the first chunk.
    pub(crate) counter: u64,
    pub(crate) source: Source,
}

/// Bytes to copy into scratch before hashing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) space: u32,
    /// The address of the first byte.
    pub(crate) from: u64,
    /// Where it goes in scratch.
    pub(crate) to: u32,
    /// Bytes.
    pub(crate) len: u32,
    /// Rows, and the column of the first byte; rows and the gap between two have less than 2^32 bytes.
    pub(crate) rows: Option<(Rows, u32)>,
}

/// Bytes that come back as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) text: usize,
    /// Where they are in scratch, a multiple of 16.
    pub(crate) at: u64,
    /// At most 1,024.
    pub(crate) len: u64,
}

/// Alignment of tails in scratch, and the size of the guard behind the last: the unit in which `gather` writes.
pub(crate) const CELL: u64 = 16;

/// One round of launches.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// In slot order, the largest first.
    pub(crate) subtrees: Vec<Subtree>,
    /// In slot order, without a gap.
    pub(crate) runs: Vec<Run>,
    /// In the order of `to`.
    pub(crate) pieces: Vec<Piece>,
    /// Behind the gathered chunks, in order.
    pub(crate) tails: Vec<Tail>,
    /// Slots in use.
    pub(crate) slots: u32,
    /// Bytes of scratch that hold gathered chunks; tails follow them.
    pub(crate) cells: u64,
    /// Bytes of scratch in all, a multiple of 16; 0 if nothing is gathered. The last 16 are the *guard*: no piece writes
    /// to them, so that `gather` makes them zero, and poison that is still there shows that it did not run.
    pub(crate) scratch: u64,
}

/// What must be remembered of a string to make a result of its values.
#[derive(Debug)]
struct Shape {
    want: Want,
    len: u64,
    /// The level of its largest subtree.
    level: u8,
    /// Its subtrees, by ordinal.
    subtrees: Range<usize>,
}

/// All that is to be done.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) batches: Vec<Batch>,
    shapes: Vec<Shape>,
    subtrees: usize,
}

impl Plan {
    /// Plans all of `texts`.
    ///
    /// # Errors
    /// [`DeviceError::Unaligned`] for a part of a string that does not begin where a group begins, or ends past what
    /// BLAKE3 can count.
    pub(crate) fn new(texts: &[Text], rules: &Rules) -> Result<Self, DeviceError> {
        let (mut shapes, mut places, mut subtrees) = (Vec::new(), Vec::new(), Vec::new());
        let mut tails = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let len = text.regions.iter().map(|region| region.len).sum();
            let first = subtrees.len();
            let full = full_chunks(text.want, len);
            let level = largest(text.want, len, rules.levels)?;
            for (chunk, level) in split(full, level) {
                subtrees.push(Subtree { text: index, chunk, level, ordinal: subtrees.len() });
            }
            shapes.push(Shape { want: text.want, len, level, subtrees: first..subtrees.len() });
            places.push(Places::new(&text.regions, full, rules));
            if full * CHUNK_LEN < len {
                tails.push(index);
            }
        }
        let count = subtrees.len();
        subtrees.sort_by_key(|subtree| (Reverse(subtree.level), subtree.ordinal));

        let mut batches = Vec::new();
        let mut batch = Batch::default();
        for subtree in subtrees {
            let place = &places[subtree.text];
            let gathered = place.gathered(subtree.chunk, subtree.chunks()) * CHUNK_LEN;
            let full = u64::from(batch.slots) + subtree.chunks() > rules.slots
                || (gathered > 0 && batch.cells + gathered > rules.scratch);
            if full && batch.slots > 0 {
                batch.close(batch.cells);
                batches.push(std::mem::take(&mut batch));
            }
            batch.add(subtree, place, first_chunk(texts[subtree.text].want));
        }
        let mut end = batch.cells;
        for text in tails {
            let (start, len) = (full_chunks(shapes[text].want, shapes[text].len) * CHUNK_LEN, shapes[text].len);
            if end + CHUNK_LEN > rules.scratch && end > 0 {
                batch.close(end);
                batches.push(std::mem::take(&mut batch));
                end = 0;
            }
            places[text].gather(start..len, end, &mut batch.pieces);
            batch.tails.push(Tail { text, at: end, len: len - start });
            end += (len - start).next_multiple_of(CELL);
        }
        batch.close(end);
        batches.push(batch);
        batches.retain(|batch| batch.slots > 0 || !batch.tails.is_empty());
        Ok(Self { batches, shapes, subtrees: count })
    }
}

impl Batch {
    /// Puts a subtree behind those that are there, none of which is smaller.
    fn add(&mut self, subtree: Subtree, place: &Places<'_>, first_chunk: u64) {
        let end = subtree.chunk + subtree.chunks();
        let mut chunk = subtree.chunk;
        while chunk < end {
            let (source, chunks) = match place.at(chunk) {
                (Some(source), here) => (source, here.min(end - chunk)),
                (None, missing) => {
                    let chunks = missing.min(end - chunk);
                    let at = self.cells;
                    place.gather(chunk * CHUNK_LEN..(chunk + chunks) * CHUNK_LEN, at, &mut self.pieces);
                    self.cells += chunks * CHUNK_LEN;
                    (Source::Scratch { at }, chunks)
                }
            };
            // Slots of a batch have 32 bits, and so have its chunks.
            let run = Run { slot: self.slots, chunks: chunks as u32, counter: first_chunk + chunk, source };
            match self.runs.last_mut() {
                Some(last) if last.continues_with(&run) => last.chunks += run.chunks,
                _ => self.runs.push(run),
            }
            self.slots += run.chunks;
            chunk += chunks;
        }
        self.subtrees.push(subtree);
    }

    /// Sets the size of scratch, of which `end` bytes are gathered.
    fn close(&mut self, end: u64) {
        self.scratch = if self.pieces.is_empty() { 0 } else { end + CELL };
    }
}

impl Run {
    /// Whether `next` reads on where this one ends.
    fn continues_with(&self, next: &Self) -> bool {
        self.source.reaches(u64::from(self.chunks) * CHUNK_LEN, next.source)
            && self.counter + u64::from(self.chunks) == next.counter
    }
}

/// The chunks of a string that a device hashes: all but a short one at the end, and none of a string that has only one
/// node, since that is its root.
const fn full_chunks(want: Want, len: u64) -> u64 {
    if matches!(want, Want::Root) && len <= CHUNK_LEN { 0 } else { len / CHUNK_LEN }
}

/// The chunk at which a text begins in the string that it is a part of.
const fn first_chunk(want: Want) -> u64 {
    match want {
        Want::Root => 0,
        Want::Groups { first_chunk, .. } => first_chunk,
    }
}

/// The level of the largest subtree of a text: below the root, and within a group.
fn largest(want: Want, len: u64, most: u8) -> Result<u8, DeviceError> {
    match want {
        // The largest power of two that leaves something on its right.
        Want::Root => Ok((len.div_ceil(CHUNK_LEN).max(2) - 1).ilog2().min(u32::from(most)) as u8),
        Want::Groups { first_chunk, group } => match Span::new(first_chunk, len, group) {
            Some(_) => Ok(group.chunk_log().min(most)),
            None => Err(DeviceError::Unaligned { first_chunk, chunks: group.chunks() }),
        },
    }
}

/// Cuts the full chunks of a text into complete aligned subtrees of at most `most` levels: for each the chunk in the
/// text, and the level. They never grow, so each is aligned in the text; the text begins where a group begins and no
/// subtree is larger than a group, so each is aligned in the whole string, which is where siblings are.
fn split(full: u64, most: u8) -> impl Iterator<Item = (u64, u8)> {
    let mut chunk = 0_u64;
    std::iter::from_fn(move || {
        let level = u32::from(most).min((full - chunk).checked_ilog2()?);
        let at = chunk;
        chunk += 1 << level;
        Some((at, level as u8))
    })
}
