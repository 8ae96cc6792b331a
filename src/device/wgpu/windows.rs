//! What a launch can see at once: a *window*, a part of one buffer that is no longer than a binding may be.

use std::ops::Range;

use super::super::plan::{Piece, Rows, Run, Source};
use super::Limits;
use crate::tree::CHUNK_LEN;

/// A run of chunks or a piece, as far as it lies in one space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// The first slot, or the first byte of scratch.
    pub(super) to: u64,
    /// Chunks, or bytes.
    pub(super) count: u64,
    /// The bytes of one.
    unit: u64,
    /// The counter of the first chunk.
    pub(super) counter: u64,
    /// The address of its first byte, or of the first byte of that byte's row.
    pub(super) at: u64,
    /// The first byte's place in its row.
    pub(super) column: u64,
    pub(super) rows: Option<Rows>,
}

impl Part {
    /// The chunks of a run: with the space, or `None` for scratch.
    pub(super) const fn of_run(run: &Run) -> (Option<u32>, Self) {
        let (space, at, column, rows) = match run.source {
            Source::Plain { space, at } => (Some(space), at, 0, None),
            Source::Rows { space, at, column, rows } => (Some(space), at, column, Some(rows)),
            Source::Scratch { at } => (None, at, 0, None),
        };
        let (to, count) = (run.slot as u64, run.chunks as u64);
        (space, Self { to, count, unit: CHUNK_LEN, counter: run.counter, at, column, rows })
    }

    /// The bytes of a piece.
    pub(super) const fn of_piece(piece: &Piece) -> Self {
        let (rows, column) = match piece.rows {
            None => (None, 0),
            Some((rows, column)) => (Some(rows), column as u64),
        };
        let (to, count, at) = (piece.to as u64, piece.len as u64, piece.from - column);
        Self { to, count, unit: 1, counter: 0, at, column, rows }
    }

    /// A part that is nothing but bytes to copy.
    pub(super) const fn of_bytes(from: u64, to: u64, len: u64) -> Self {
        Self { to, count: len, unit: 1, counter: 0, at: from, column: 0, rows: None }
    }

    /// The address of its first byte.
    pub(super) const fn first(&self) -> u64 {
        self.at + self.column
    }

    /// One past the address of the last byte of the first `count`, at least one.
    const fn end_of(&self, count: u64) -> u64 {
        let last = self.column + count * self.unit - 1;
        1 + match self.rows {
            None => self.at + last,
            Some(Rows { row, pitch }) => self.at + last / row * pitch + last % row,
        }
    }

    /// How many of its chunks or bytes end at or before the address `end`, counted from the first.
    fn before(&self, end: u64) -> u64 {
        let room = end.saturating_sub(self.at);
        let bytes = match self.rows {
            None => room,
            Some(Rows { row, pitch }) => room / pitch * row + (room % pitch).min(row),
        };
        (bytes.saturating_sub(self.column) / self.unit).min(self.count)
    }

    /// The first `count`, and the rest.
    fn split(self, count: u64) -> (Self, Self) {
        let mut rest = Self { to: self.to + count, count: self.count - count, counter: self.counter + count, ..self };
        match self.rows {
            None => rest.at += count * self.unit,
            Some(Rows { row, pitch }) => {
                let passed = self.column + count * self.unit;
                (rest.at, rest.column) = (self.at + passed / row * pitch, passed % row);
            }
        }
        (Self { count, ..self }, rest)
    }
}

/// Bytes between the first and the last of any chunk that a run may have.
pub(super) const fn reach(row: u64, pitch: u64) -> u64 {
    (CHUNK_LEN / row + 1).saturating_mul(pitch).saturating_add(row)
}

/// What the windows on a buffer may be.
impl Limits {
    /// Bytes that a window can show from any address on.
    pub(super) const fn sight(&self) -> u64 {
        self.binding - self.align
    }

    /// The window from `at` on in a buffer of `size` bytes.
    pub(super) fn window(&self, at: u64, size: u64) -> Range<u64> {
        let start = at / self.align * self.align;
        start..size.min(start + self.binding)
    }

    /// Cuts parts of one buffer of `size` bytes so that each lies in a window: a few windows, the parts of each in the
    /// order of where they go. `None` if one chunk alone is longer than a window.
    pub(super) fn windows(&self, mut parts: Vec<Part>, size: u64) -> Option<Vec<(Range<u64>, Vec<Part>)>> {
        let mut windows = Vec::new();
        parts.retain(|part| part.count > 0);
        while let Some(first) = parts.iter().map(Part::first).min() {
            let window = self.window(first, size);
            if parts.iter().all(|part| part.end_of(part.count) <= window.end) {
                windows.push((window, parts));
                break;
            }
            let (mut seen, mut left) = (Vec::new(), Vec::new());
            for part in parts {
                let (here, rest) = part.split(part.before(window.end));
                if here.count > 0 {
                    seen.push(here);
                }
                if rest.count > 0 {
                    left.push(rest);
                }
            }
            if seen.is_empty() {
                return None;
            }
            windows.push((window, seen));
            parts = left;
        }
        Some(windows)
    }
}
