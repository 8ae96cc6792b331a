//! BLAKE3 by the device, behind the uploads: of what arrived, where it lies.

use std::collections::{BTreeMap, VecDeque};

use super::staged::Text;
use crate::device::cpu::Digests;
use crate::device::{Backend, DeviceError, Hashed, Job, Want};
use crate::digest::{Algorithm, Digest};
use crate::layout::{Extent, Layout};
use crate::tree::{CHUNK_LEN, Frontier, GroupSize, Tree};

/// How work is cut. Tests make all of it small.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Strings up to here are hashed when they have arrived whole.
    pub(super) whole: u64,
    /// Longer ones are hashed by groups of this size.
    pub(super) group: GroupSize,
    /// Bytes, and pieces of strings, in one submit.
    pub(super) batch: u64,
    pub(super) jobs: usize,
    /// Submits under way.
    pub(super) in_flight: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { whole: 4 << 20, group: GroupSize::at_most(1 << 20), batch: 64 << 20, jobs: 4096, in_flight: 3 }
    }
}

/// A piece of a string that has arrived.
#[derive(Debug, Clone, Copy)]
struct Piece {
    text: usize,
    /// Where in the string it begins.
    at: u64,
    len: u64,
    want: Want,
}

/// How far a string is.
#[derive(Debug, Default)]
struct Line {
    /// Bytes from its beginning that have arrived without a gap.
    whole: u64,
    /// Where others that have arrived begin and end.
    early: BTreeMap<u64, u64>,
    /// Bytes from its beginning that were given to the device to hash.
    given: u64,
    frontier: Frontier,
    root: Option<Digest>,
}

pub(super) struct Behind<'a, B: Backend> {
    backend: &'a B,
    texts: &'a [Text],
    sizes: Sizes,
    lines: Vec<Line>,
    pending: Vec<Piece>,
    /// Bytes of them.
    bytes: u64,
    /// The oldest first.
    in_flight: VecDeque<(B::Ticket, Vec<Piece>)>,
}

impl<'a, B: Backend> Behind<'a, B> {
    pub(super) fn new(backend: &'a B, texts: &'a [Text], sizes: Sizes) -> Self {
        let lines = texts.iter().map(|_| Line::default()).collect();
        Self { backend, texts, sizes, lines, pending: Vec::new(), bytes: 0, in_flight: VecDeque::new() }
    }

    /// Bytes of a string have been uploaded, from byte `at` of it on. No byte comes twice.
    pub(super) fn arrived(&mut self, buffers: &[B::Buffer], text: usize, at: u64, len: u64) -> Result<(), DeviceError> {
        let range = &self.texts[text].range;
        let total = range.end - range.start;
        let line = &mut self.lines[text];
        line.early.insert(at, at + len);
        while let Some(end) = line.early.remove(&line.whole) {
            line.whole = end;
            if end == at {
                // Nothing, of a string without a byte.
                break;
            }
        }
        let complete = line.whole == total;
        let piece = if total <= self.sizes.whole.max(CHUNK_LEN) {
            complete.then_some(Piece { text, at: 0, len: total, want: Want::Root })
        } else {
            let group = Tree::new(total, self.sizes.group).group();
            let end = if complete { total } else { line.whole / group.bytes() * group.bytes() };
            let (at, len) = (line.given, end - line.given);
            line.given = end;
            let first_chunk = at / CHUNK_LEN;
            (len > 0).then_some(Piece { text, at, len, want: Want::Groups { first_chunk, group } })
        };
        let Some(piece) = piece else { return Ok(()) };
        self.bytes += piece.len;
        self.pending.push(piece);
        if self.bytes >= self.sizes.batch || self.pending.len() >= self.sizes.jobs {
            self.submit(buffers)?;
        }
        Ok(())
    }

    fn submit(&mut self, buffers: &[B::Buffer]) -> Result<(), DeviceError> {
        let pieces = std::mem::take(&mut self.pending);
        self.bytes = 0;
        if pieces.is_empty() {
            return Ok(());
        }
        let job = |piece: &Piece| {
            let Text { file, range } = &self.texts[piece.text];
            let extent = Extent::Range { buffer: &buffers[*file], at: range.start + piece.at, len: piece.len };
            Ok(Job { layout: Layout::new(vec![extent])?, want: piece.want })
        };
        let jobs = pieces.iter().map(job).collect::<Result<Vec<_>, DeviceError>>()?;
        let ticket = self.backend.submit(&jobs, None)?;
        drop(jobs);
        self.in_flight.push_back((ticket, pieces));
        if self.in_flight.len() >= self.sizes.in_flight { self.take() } else { Ok(()) }
    }

    /// Waits for the oldest submit.
    fn take(&mut self) -> Result<(), DeviceError> {
        let Some((ticket, pieces)) = self.in_flight.pop_front() else { return Ok(()) };
        let hashed = self.backend.wait(ticket)?;
        let none = || DeviceError::NoResult { device: self.backend.kind() };
        if hashed.len() != pieces.len() {
            return Err(none());
        }
        for (piece, hashed) in pieces.into_iter().zip(hashed) {
            let line = &mut self.lines[piece.text];
            match (piece.want, hashed) {
                (Want::Root, Hashed::Root(digest)) if digest.algorithm() == Algorithm::Blake3 => {
                    line.root = Some(digest);
                }
                (Want::Groups { group, .. }, Hashed::Groups(values))
                    if values.len() as u64 == piece.len.div_ceil(group.bytes()) =>
                {
                    values.into_iter().for_each(|value| line.frontier.push(value));
                }
                _ => return Err(none()),
            }
        }
        Ok(())
    }

    /// The digest of every string.
    pub(super) fn finish(mut self, buffers: &[B::Buffer]) -> Result<Vec<Digests>, DeviceError> {
        self.submit(buffers)?;
        while !self.in_flight.is_empty() {
            self.take()?;
        }
        let sizes = self.sizes;
        let digests = self.lines.iter().zip(self.texts).map(|(line, text)| {
            let total = text.range.end - text.range.start;
            let groups = Tree::new(total, sizes.group).groups();
            let root = || (line.frontier.groups() == groups).then(|| line.frontier.root()).flatten();
            let mut digests = Digests::default();
            digests.set(line.root.or_else(root)?);
            Some(digests)
        });
        let digests: Option<Vec<_>> = digests.collect();
        digests.ok_or_else(|| DeviceError::NoResult { device: self.backend.kind() })
    }
}
