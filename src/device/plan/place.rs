//! Where each chunk of one string is read: in place, or gathered.

use std::ops::Range;

use super::{Piece, Region, Rows, Rules, Source};
use crate::tree::CHUNK_LEN;

/// Rows longer than this are gathered one by one: their number of bytes need not fit into a piece then.
const LONG_ROW: u64 = 64 << 10;

/// Chunks that are read in place, from one source.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    chunk: u64,
    chunks: u64,
    source: Source,
}

/// The chunks of one string that are read in place, in order. The others are gathered.
#[derive(Debug)]
pub(super) struct Places<'a> {
    regions: &'a [Region],
    /// The place of each region's first byte in the string.
    starts: Vec<u64>,
    stretches: Vec<Stretch>,
    full: u64,
}

impl<'a> Places<'a> {
    /// Looks at every region of a string that has `full` whole chunks for a device.
    pub(super) fn new(regions: &'a [Region], full: u64, rules: &Rules) -> Self {
        let (mut starts, mut stretches, mut start) = (Vec::with_capacity(regions.len()), Vec::new(), 0);
        for region in regions {
            starts.push(start);
            stretches.extend(in_place(region, start, full, rules));
            start += region.len;
        }
        Self { regions, starts, stretches, full }
    }

    /// The source of `chunk`, if it is read in place, and how many chunks on that holds.
    pub(super) fn at(&self, chunk: u64) -> (Option<Source>, u64) {
        let next = self.stretches.partition_point(|stretch| stretch.chunk <= chunk);
        if let Some(stretch) = next.checked_sub(1).map(|last| self.stretches[last])
            && chunk < stretch.chunk + stretch.chunks
        {
            let passed = chunk - stretch.chunk;
            return (Some(stretch.source.skip(passed * CHUNK_LEN)), stretch.chunks - passed);
        }
        (None, self.stretches.get(next).map_or(self.full, |stretch| stretch.chunk) - chunk)
    }

    /// How many of the `chunks` from `chunk` on are gathered.
    pub(super) fn gathered(&self, chunk: u64, chunks: u64) -> u64 {
        let (mut at, mut missing) = (chunk, 0);
        while at < chunk + chunks {
            let (source, here) = self.at(at);
            let here = here.min(chunk + chunks - at);
            missing += if source.is_none() { here } else { 0 };
            at += here;
        }
        missing
    }

    /// The pieces that copy these bytes of the string to byte `to` of scratch on.
    pub(super) fn gather(&self, bytes: Range<u64>, to: u64, pieces: &mut Vec<Piece>) {
        let first = self.starts.partition_point(|&start| start <= bytes.start).saturating_sub(1);
        for (region, &start) in self.regions.iter().zip(&self.starts).skip(first) {
            if start >= bytes.end {
                break;
            }
            let (from, end) = (bytes.start.max(start), bytes.end.min(start + region.len));
            if from < end {
                region.pieces(from - start..end - start, to + (from - bytes.start), pieces);
            }
        }
    }
}

impl Source {
    /// The source `bytes` further on.
    const fn skip(self, bytes: u64) -> Self {
        match self {
            Self::Plain { space, at } => Self::Plain { space, at: at + bytes },
            Self::Scratch { at } => Self::Scratch { at: at + bytes },
            Self::Rows { space, at, column, rows } => {
                let passed = column + bytes;
                Self::Rows { space, at: at + passed / rows.row * rows.pitch, column: passed % rows.row, rows }
            }
        }
    }

    /// Whether `next` is `bytes` further on.
    pub(super) fn reaches(self, bytes: u64, next: Self) -> bool {
        self.skip(bytes) == next
    }
}

impl Region {
    /// The address of byte `offset` of the region.
    const fn address(&self, offset: u64) -> u64 {
        match self.rows {
            None => self.at + offset,
            Some(Rows { row, pitch }) => self.at + offset / row * pitch + offset % row,
        }
    }

    /// The pieces for these of its bytes.
    fn pieces(&self, bytes: Range<u64>, to: u64, pieces: &mut Vec<Piece>) {
        let mut piece = |offset: u64, len: u64, rows| {
            // Scratch has less than 2^32 bytes, and a piece lies in it.
            let to = (to + (offset - bytes.start)) as u32;
            pieces.push(Piece { space: self.space, from: self.address(offset), to, len: len as u32, rows });
        };
        match self.rows {
            None => piece(bytes.start, bytes.end - bytes.start, None),
            Some(rows) if rows.row <= LONG_ROW && rows.pitch - rows.row < 1 << 32 => {
                piece(bytes.start, bytes.end - bytes.start, Some((rows, (bytes.start % rows.row) as u32)));
            }
            Some(rows) => {
                let mut offset = bytes.start;
                while offset < bytes.end {
                    let len = (rows.row - offset % rows.row).min(bytes.end - offset);
                    piece(offset, len, None);
                    offset += len;
                }
            }
        }
    }
}

/// The chunks of a region, which begins at byte `start` of its string, that a kernel can read where they are.
fn in_place(region: &Region, start: u64, full: u64, rules: &Rules) -> Option<Stretch> {
    let mut first = start.div_ceil(CHUNK_LEN);
    let mut end = ((start + region.len) / CHUNK_LEN).min(full);
    if first >= end {
        return None;
    }
    if let Some(rows) = region.rows {
        let follows = rows.row % rules.segment == 0
            && (first * CHUNK_LEN - start).is_multiple_of(rules.segment)
            && rows.pitch % rules.pitch == 0
            && rows.pitch - rows.row < 1 << 32
            && rows.row / rules.segment < 1 << 24;
        if !follows {
            return None;
        }
    }
    // Whole cells are loaded, so only the first and the last chunk can reach out of what may be read: addresses rise.
    let down = |at: u64| at & !(rules.cell - 1);
    let up = |at: u64| at.checked_next_multiple_of(rules.cell);
    let head = |chunk: u64| down(region.address(chunk * CHUNK_LEN - start)) >= region.readable.start;
    let foot = |chunk: u64| {
        let last = region.address((chunk + 1) * CHUNK_LEN - start - 1);
        up(last + 1).is_some_and(|end| end <= region.readable.end)
    };
    if !head(first) {
        first += 1;
    }
    if first < end && !foot(end - 1) {
        end -= 1;
    }
    if first >= end {
        return None;
    }
    let offset = first * CHUNK_LEN - start;
    let source = match region.rows {
        None => Source::Plain { space: region.space, at: region.address(offset) },
        Some(rows) => {
            let at = region.at + offset / rows.row * rows.pitch;
            Source::Rows { space: region.space, at, column: offset % rows.row, rows }
        }
    };
    Some(Stretch { chunk: first, chunks: end - first, source })
}
