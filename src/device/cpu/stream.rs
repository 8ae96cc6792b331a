//! One long byte string, hashed by several workers at once.
//!
//! The string is cut into slabs, each an aligned subtree of BLAKE3's tree. A worker claims a slab, fetches it and takes
//! its BLAKE3 value; that part runs in any order. Where SHA-256 or BLAKE2b is wanted too, fetched slabs wait in a ring
//! for the owner, which feeds them to the sequential digests in order; the ring bounds how far the others run ahead.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use blake3::hazmat::ChainingValue;

use super::file::{OpenFile, changed};
use super::map::{LeasedMap, SlabError};
use super::sequential::Sequential;
use super::{Algorithms, Digests, Progress};
use crate::digest::Algorithm;
use crate::error::Error;
use crate::tree::{GroupSize, Tree, group_value};

/// Bytes read at once, small enough to stay in a core's own cache until they are hashed.
pub(super) const READ: usize = 512 << 10;

/// An open file and, where a lease is to be had, its map.
#[derive(Debug)]
pub(super) struct Source {
    /// First, so that it ends before the file.
    pub(super) map: Option<LeasedMap>,
    pub(super) file: OpenFile,
}

/// How a string is cut.
#[derive(Debug, Clone, Copy)]
struct Cut {
    slab: u64,
    /// Fetched slabs that may wait for the owner; `u64::MAX` where nothing is sequential.
    ring: u64,
}

impl Cut {
    /// All slabs that `threads` workers hold at once stay within about 32 MiB.
    fn new(mapped: bool, sequential: bool, threads: usize) -> Self {
        const MIB: u64 = 1 << 20;
        match (mapped, sequential) {
            (true, false) => Self { slab: slab_for(32 * MIB / threads as u64, MIB, 16 * MIB), ring: u64::MAX },
            (true, true) => Self { slab: slab_for(16 * MIB / threads as u64, MIB, 4 * MIB), ring: 3 },
            // Read in pieces of READ bytes; the slab is only the subtree they belong to.
            (false, false) => Self { slab: 4 * MIB, ring: u64::MAX },
            (false, true) => Self { slab: MIB / 4, ring: 8 },
        }
    }
}

fn slab_for(bytes: u64, least: u64, most: u64) -> u64 {
    GroupSize::at_most(bytes.clamp(least, most)).bytes()
}

/// A fetched slab on its way to the owner.
enum Slab {
    Buffer(Vec<u8>),
    Mapped,
}

struct State {
    /// Slabs that somebody has begun to fetch.
    claimed: u64,
    /// Slabs that need no more attention.
    finished: u64,
    /// Slot `i % ring` holds slab `i`.
    ready: Vec<Option<Slab>>,
    /// Values of the slabs, if BLAKE3 is wanted.
    values: Vec<ChainingValue>,
    /// Buffers that nobody uses now.
    spare: Vec<Vec<u8>>,
}

pub(super) struct Stream<'a> {
    source: Arc<Source>,
    /// Where the string lies in its file.
    range: Range<u64>,
    tree: Tree,
    cut: Cut,
    algorithms: Algorithms,
    progress: &'a dyn Progress,
    /// Set when the whole run has failed: nobody shall begin or wait for anything.
    stop: &'a AtomicBool,
    state: Mutex<State>,
    moved: Condvar,
}

impl<'a> Stream<'a> {
    /// A string of more than [`READ`] bytes at `range` of the file.
    pub(super) fn new(
        source: Arc<Source>,
        range: Range<u64>,
        algorithms: Algorithms,
        threads: usize,
        progress: &'a dyn Progress,
        stop: &'a AtomicBool,
    ) -> Self {
        let sequential = algorithms.sequential();
        let cut = Cut::new(source.map.is_some(), sequential, threads);
        let tree = Tree::new(range.end - range.start, GroupSize::at_most(cut.slab));
        let values = if algorithms.has(Algorithm::Blake3) { vec![[0; 32]; tree.groups() as usize] } else { Vec::new() };
        let ready = if sequential { (0..cut.ring).map(|_| None).collect() } else { Vec::new() };
        let state = State { claimed: 0, finished: 0, ready, values, spare: Vec::new() };
        let (state, moved) = (Mutex::new(state), Condvar::new());
        Self { source, range, tree, cut, algorithms, progress, stop, state, moved }
    }

    /// Hashes the string to the end, with whoever assists.
    pub(super) fn own(&self) -> Result<Digests, Error> {
        let mut digests = Digests::default();
        if self.algorithms.sequential() {
            let mut sequential = Sequential::new(self.algorithms);
            for index in 0..self.tree.groups() {
                let Some(slab) = self.next_in_order(index)? else { return Ok(digests) };
                self.feed(&mut sequential, index, slab)?;
            }
            sequential.finish(&mut digests);
        } else {
            self.fetch_all(&|| false)?;
            let mut state = self.lock();
            while state.finished < self.tree.groups() && !self.stopped() {
                state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        if self.algorithms.has(Algorithm::Blake3)
            && !self.stopped()
            && let Some(root) = self.tree.root(&self.lock().values)
        {
            digests.set(root);
        }
        Ok(digests)
    }

    /// Fetches slabs for the owner until none is left to claim, or `leave` says that there is better work.
    pub(super) fn assist(&self, leave: &dyn Fn() -> bool) -> Result<(), Error> {
        if !self.algorithms.sequential() {
            return self.fetch_all(leave);
        }
        while let Some((index, spare)) = self.claim_ahead(leave) {
            let slab = self.fetch(index, spare)?;
            self.lock().ready[(index % self.cut.ring) as usize] = Some(slab);
            self.moved.notify_all();
        }
        Ok(())
    }

    /// Whether a helper would find a slab that nobody has claimed.
    pub(super) fn has_work(&self) -> bool {
        self.lock().claimed < self.tree.groups()
    }

    /// Wakes whoever waits, after `stop` was set.
    pub(super) fn wake(&self) {
        drop(self.lock());
        self.moved.notify_all();
    }

    /// The order does not matter: claim, hash, forget.
    fn fetch_all(&self, leave: &dyn Fn() -> bool) -> Result<(), Error> {
        let mut buffer = Vec::new();
        while !self.stopped() && !leave() {
            let index = {
                let mut state = self.lock();
                if state.claimed == self.tree.groups() {
                    break;
                }
                state.claimed += 1;
                state.claimed - 1
            };
            let value = self.value(index, &mut buffer)?;
            let mut state = self.lock();
            state.values[index as usize] = value;
            state.finished += 1;
            let done = state.finished == self.tree.groups();
            drop(state);
            if done {
                self.moved.notify_all();
            }
            let range = self.tree.range(index);
            self.progress.advance(range.end - range.start, 0);
        }
        Ok(())
    }

    /// The BLAKE3 value of one slab, which nobody else needs.
    fn value(&self, index: u64, buffer: &mut Vec<u8>) -> Result<ChainingValue, Error> {
        use blake3::hazmat::HasherExt;
        let range = self.tree.range(index);
        if let Some(map) = &self.source.map {
            let place = self.in_file(&range);
            let value = group_value(range.start, self.mapped(map, &place)?);
            map.release(&place);
            return Ok(value);
        }
        buffer.resize(READ, 0);
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(range.start);
        let mut at = range.start;
        while at < range.end {
            let piece = &mut buffer[..(range.end - at).min(READ as u64) as usize];
            self.source.file.read_at(piece, self.range.start + at)?;
            hasher.update(piece);
            at += piece.len() as u64;
        }
        Ok(hasher.finalize_non_root())
    }

    /// The owner's next slab: fetched by a helper, or by the owner itself if nobody has begun. `None` after a stop.
    fn next_in_order(&self, index: u64) -> Result<Option<Slab>, Error> {
        let mut state = self.lock();
        loop {
            if self.stopped() {
                return Ok(None);
            }
            if let Some(slab) = state.ready[(index % self.cut.ring) as usize].take() {
                return Ok(Some(slab));
            }
            if state.claimed == index {
                state.claimed += 1;
                let spare = state.spare.pop().unwrap_or_default();
                drop(state);
                return self.fetch(index, spare).map(Some);
            }
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The owner's work on one slab.
    fn feed(&self, sequential: &mut Sequential, index: u64, slab: Slab) -> Result<(), Error> {
        let range = self.tree.range(index);
        let spare = match (slab, &self.source.map) {
            (Slab::Buffer(buffer), _) => {
                sequential.update(&buffer);
                Some(buffer)
            }
            (Slab::Mapped, Some(map)) => {
                let place = self.in_file(&range);
                sequential.update(self.mapped(map, &place)?);
                map.release(&place);
                None
            }
            (Slab::Mapped, None) => None,
        };
        let mut state = self.lock();
        state.finished = index + 1;
        state.spare.extend(spare);
        drop(state);
        // Waking costs a system call: wait until the helper can do more than one slab.
        if self.cut.ring < 4 || (index + 1).is_multiple_of(self.cut.ring / 2) {
            self.moved.notify_all();
        }
        self.progress.advance(range.end - range.start, 0);
        Ok(())
    }

    /// The next slab that may be fetched ahead of the owner, with a buffer for it.
    fn claim_ahead(&self, leave: &dyn Fn() -> bool) -> Option<(u64, Vec<u8>)> {
        let mut state = self.lock();
        loop {
            if self.stopped() || state.claimed == self.tree.groups() || leave() {
                return None;
            }
            if state.claimed < state.finished + self.cut.ring {
                state.claimed += 1;
                return Some((state.claimed - 1, state.spare.pop().unwrap_or_default()));
            }
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Brings one slab into memory and takes its BLAKE3 value, if wanted.
    fn fetch(&self, index: u64, mut buffer: Vec<u8>) -> Result<Slab, Error> {
        let range = self.tree.range(index);
        let place = self.in_file(&range);
        let (bytes, slab) = if let Some(map) = &self.source.map {
            (self.mapped(map, &place)?, None)
        } else {
            buffer.resize((range.end - range.start) as usize, 0);
            self.source.file.read_at(&mut buffer, place.start)?;
            (&buffer[..], Some(()))
        };
        if self.algorithms.has(Algorithm::Blake3) {
            let value = group_value(range.start, bytes);
            self.lock().values[index as usize] = value;
        }
        Ok(if slab.is_some() { Slab::Buffer(buffer) } else { Slab::Mapped })
    }

    fn mapped<'m>(&self, map: &'m LeasedMap, place: &Range<u64>) -> Result<&'m [u8], Error> {
        map.slab(place).map_err(|error| match error {
            SlabError::LeaseBroken => changed(&self.source.file.path, "another process opened it for writing"),
            SlabError::Io(error) => self.source.file.read_error(error),
        })
    }

    fn in_file(&self, range: &Range<u64>) -> Range<u64> {
        self.range.start + range.start..self.range.start + range.end
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
