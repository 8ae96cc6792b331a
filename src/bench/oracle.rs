//! What lies in a device's memory while it is measured, and what the `blake3` crate says of strings in it.
//!
//! The memory is full of a tile, again and again: the host keeps that alone, and hashes gigabytes of it from its caches, on all its
//! processors, once for each measurement. Nothing of our trees is in that: subtrees are cut and merged by the crate.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use blake3::hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root};

use crate::device::Hashed;
use crate::digest::{Algorithm, Digest};
use crate::tree::root_over;

/// What is in memory repeats after so many bytes. A prime, so that no address that a kernel gets wrong by a power of two
/// has the same bytes.
const PERIOD: u64 = 16_777_213;
/// Longer strings are cut into subtrees for several threads. A power of two, of whole chunks.
const SHARE: u64 = 8 << 20;

/// Where a string lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    /// Consecutive bytes.
    Range {
        /// The first.
        at: u64,
        /// How many.
        len: u64,
    },
    /// Rows of so many bytes, at a distance from start to start. The first begins at byte 0.
    Rows {
        /// Bytes in each.
        row: u64,
        /// From start to start.
        stride: u64,
        /// How many.
        rows: u64,
    },
}

impl Spot {
    /// Bytes of the string.
    pub(super) const fn len(self) -> u64 {
        match self {
            Self::Range { len, .. } => len,
            Self::Rows { row, rows, .. } => row * rows,
        }
    }

    /// The first byte's place.
    pub(super) const fn at(self) -> u64 {
        if let Self::Range { at, .. } = self { at } else { 0 }
    }
}

/// The bytes that memory is full of.
pub(super) struct Tile {
    bytes: Vec<u8>,
    threads: usize,
}

/// A part of the work, and what came of it.
enum Part {
    Root(Spot),
    Subtree { at: u64, len: u64, first: u64 },
}

#[derive(Clone, Copy)]
enum Value {
    Root(Digest),
    Subtree(ChainingValue),
}

impl Tile {
    pub(super) fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut bytes = vec![0; PERIOD as usize];
        // Noise that is made quickly, and is the same each time.
        blake3::Hasher::new().update(b"tensorseal bench").finalize_xof().fill(&mut bytes);
        Self { bytes, threads }
    }

    /// Bytes that follow each other from `at` on, as many as there are before the tile begins again, at most `len`.
    pub(super) fn from(&self, at: u64, len: u64) -> &[u8] {
        let from = at % PERIOD;
        let len = (PERIOD - from).min(len);
        &self.bytes[from as usize..(from + len) as usize]
    }

    /// Puts into `to` what lies from byte `at` on.
    pub(super) fn copy(&self, at: u64, to: &mut [u8]) {
        let mut done = 0;
        while done < to.len() {
            let piece = self.from(at + done as u64, (to.len() - done) as u64);
            to[done..done + piece.len()].copy_from_slice(piece);
            done += piece.len();
        }
    }

    fn feed(&self, hasher: &mut blake3::Hasher, mut at: u64, len: u64) {
        let end = at + len;
        while at < end {
            let piece = self.from(at, end - at);
            hasher.update(piece);
            at += piece.len() as u64;
        }
    }

    /// The sum of `len` bytes from byte 0 on, read as little-endian words of 64 bits; what is over counts as a word.
    pub(super) fn sum(&self, len: u64) -> u64 {
        let (tiles, rest) = (len / PERIOD, len % PERIOD);
        let whole = if tiles > 0 { columns(&self.bytes) } else { [0; 8] };
        let sum = (0..tiles).map(|tile| words(&whole, tile * PERIOD)).fold(0, u64::wrapping_add);
        sum.wrapping_add(words(&columns(self.from(0, rest)), tiles * PERIOD))
    }

    fn part(&self, part: &Part) -> Value {
        let mut hasher = blake3::Hasher::new();
        match *part {
            Part::Root(Spot::Range { at, len }) => self.feed(&mut hasher, at, len),
            Part::Root(Spot::Rows { row, stride, rows }) => {
                (0..rows).for_each(|index| self.feed(&mut hasher, index * stride, row));
            }
            Part::Subtree { at, len, first } => {
                hasher.set_input_offset(first);
                self.feed(&mut hasher, at, len);
                return Value::Subtree(hasher.finalize_non_root());
            }
        }
        Value::Root(Digest::of32(Algorithm::Blake3, *hasher.finalize().as_bytes()))
    }

    /// The digest of each string.
    pub(super) fn digests(&self, spots: &[Spot]) -> Vec<Hashed> {
        let mut parts = Vec::new();
        for spot in spots {
            match *spot {
                Spot::Range { at, len } if len > SHARE => cut(at, len, 0, &mut parts),
                spot => parts.push(Part::Root(spot)),
            }
        }
        let values = self.values(&parts);
        let mut values = values.iter().copied();
        let digest = |spot: &Spot| {
            let root = match *spot {
                Spot::Range { len, .. } if len > SHARE => root(len, &mut values),
                _ => values.next().and_then(|value| if let Value::Root(digest) = value { Some(digest) } else { None }),
            };
            // A missing value equals no digest of 32 bytes: whatever is compared with it is wrong.
            root.map_or_else(|| Hashed::Groups(Vec::new()), Hashed::Root)
        };
        spots.iter().map(digest).collect()
    }

    /// What comes of each part, in order, by all threads.
    fn values(&self, parts: &[Part]) -> Vec<Value> {
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(parts.len())));
        let work = || {
            let mut mine = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(part) = parts.get(index) else { break };
                mine.push((index, self.part(part)));
            }
            if let Ok(mut done) = done.lock() {
                done.append(&mut mine);
            }
        };
        let threads = self.threads.min(parts.len());
        std::thread::scope(|scope| {
            (1..threads).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        let mut done = done.into_inner().unwrap_or_default();
        done.sort_unstable_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, value)| value).collect()
    }
}

/// Sums of bytes, of each eighth one.
fn columns(bytes: &[u8]) -> [u64; 8] {
    let mut columns = [0_u64; 8];
    for eight in bytes.chunks(8) {
        columns.iter_mut().zip(eight).for_each(|(column, byte)| *column += u64::from(*byte));
    }
    columns
}

/// The sum of words of which those are the bytes, from this place on: a byte counts by its place in its word.
fn words(columns: &[u64; 8], from: u64) -> u64 {
    let weigh = |(index, column): (u64, &u64)| column.wrapping_shl(8 * ((index + from) % 8) as u32);
    (0..).zip(columns).map(weigh).fold(0, u64::wrapping_add)
}

/// Cuts a subtree into those that one thread hashes at once.
fn cut(at: u64, len: u64, first: u64, parts: &mut Vec<Part>) {
    if len <= SHARE {
        parts.push(Part::Subtree { at, len, first });
        return;
    }
    let left = left_subtree_len(len);
    cut(at, left, first, parts);
    cut(at + left, len - left, first + left, parts);
}

fn root(len: u64, values: &mut impl Iterator<Item = Value>) -> Option<Digest> {
    let left = left_subtree_len(len);
    let (left, right) = (subtree(left, values)?, subtree(len - left, values)?);
    Some(root_over(&left, &right))
}

fn subtree(len: u64, values: &mut impl Iterator<Item = Value>) -> Option<ChainingValue> {
    if len <= SHARE {
        return values.next().and_then(|value| if let Value::Subtree(value) = value { Some(value) } else { None });
    }
    let left = left_subtree_len(len);
    let (left, right) = (subtree(left, values)?, subtree(len - left, values)?);
    Some(merge_subtrees_non_root(&left, &right, Mode::Hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Want;

    #[test]
    fn digests_are_those_of_the_bytes_written_out() {
        let tile = Tile::new();
        let size = 3 * PERIOD + 12_345;
        let mut memory = vec![0; size as usize];
        tile.copy(0, &mut memory);
        assert_eq!(memory[..1000], memory[PERIOD as usize..][..1000]);
        let spots = [
            Spot::Range { at: 0, len: 0 },
            Spot::Range { at: 1, len: 1024 },
            Spot::Range { at: PERIOD - 3, len: SHARE },
            Spot::Range { at: 5, len: SHARE + 1 },
            Spot::Range { at: 0, len: 4 * SHARE },
            Spot::Range { at: 7, len: size - 7 },
            Spot::Rows { row: 1000, stride: 1500, rows: (size - 1000) / 1500 },
        ];
        let found = tile.digests(&spots);
        for (spot, found) in spots.iter().zip(found) {
            let bytes: Vec<u8> = match *spot {
                Spot::Range { at, len } => memory[at as usize..(at + len) as usize].to_vec(),
                Spot::Rows { row, stride, rows } => {
                    (0..rows).flat_map(|i| memory[(i * stride) as usize..][..row as usize].to_vec()).collect()
                }
            };
            assert_eq!(bytes.len() as u64, spot.len());
            assert_eq!(found, Want::Root.of(&bytes), "{spot:?}");
        }
        let words = memory.chunks(8).map(|word| word.iter().rev().fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte)));
        assert_eq!(tile.sum(size), words.fold(0, u64::wrapping_add));
    }
}
