//! A long string that SHA-256 or BLAKE2b must see in order, with or without BLAKE3.
//!
//! Whoever fetches a slab takes its BLAKE3 value while it is in that core's cache. Fetched slabs wait in a ring for the
//! owner, who feeds them to the sequential digests; the ring bounds how far the others run ahead. Bytes are read, never
//! mapped: the owner is what everybody waits for, and faults and releases of a map would be on its way.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::groups::{self, Taken, slab_of};
use super::sequential::Sequential;
use super::stream::{Monitor, Source, Stream};
use super::{Algorithms, Progress};
use crate::digest::Algorithm;
use crate::error::Error;
use crate::tree::{Frontier, GroupSize, Tree};

/// Bytes in a slab: a fetched one is still in the second-level cache when it is taken.
const SLAB: u64 = 256 << 10;
/// Fetched slabs that may wait.
const RING: u64 = 8;
/// After so many slabs a waiting helper is woken: a wake-up costs the owner a system call.
const WAKE_EVERY: u64 = RING / 2;
/// Fetching and BLAKE3 run at three times the rate of SHA-256: more helpers would only wait, and be woken in vain.
const HELPERS: usize = 2;

pub(super) struct Ordered<'a> {
    source: Arc<Source>,
    /// Where the string lies in its file.
    range: Range<u64>,
    /// Of slabs.
    tree: Tree,
    /// The groups whose values are wanted: a slab is one or many.
    group: Option<GroupSize>,
    algorithms: Algorithms,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
    state: Monitor<State>,
}

struct State {
    /// Slabs that somebody has begun to fetch.
    claimed: u64,
    /// Slabs that the owner is done with.
    finished: u64,
    /// Workers that assist now.
    helpers: usize,
    /// Slot `i % RING` holds slab `i` once it is fetched.
    ready: [Option<Slab>; RING as usize],
    /// Buffers that nobody uses now.
    spare: Vec<Vec<u8>>,
}

/// A fetched slab.
struct Slab {
    bytes: Vec<u8>,
    /// Its BLAKE3 value and its groups', if BLAKE3 is wanted.
    value: Option<groups::Slab>,
}

impl<'a> Ordered<'a> {
    /// A string of more than one slab at `range` of the file.
    pub(super) fn new(
        source: Arc<Source>,
        range: Range<u64>,
        algorithms: Algorithms,
        group: Option<GroupSize>,
        progress: &'a dyn Progress,
        stop: &'a AtomicBool,
    ) -> Self {
        let (len, slab) = (range.end - range.start, GroupSize::at_most(SLAB));
        let group = group.map(|group| Tree::new(len, group).group());
        let tree = Tree::new(len, slab.max(group.unwrap_or(slab)));
        let ready = std::array::from_fn(|_| None);
        let state = Monitor::new(State { claimed: 0, finished: 0, helpers: 0, ready, spare: Vec::new() });
        Self { source, range, tree, group, algorithms, progress, stop, state }
    }

    /// The owner's next slab: fetched by a helper, or by the owner itself if nobody has begun. `None` after a stop.
    fn next(&self, index: u64) -> Result<Option<Slab>, Error> {
        let mut state = self.state.lock();
        loop {
            if self.stopped() {
                return Ok(None);
            }
            if let Some(slab) = state.ready[(index % RING) as usize].take() {
                return Ok(Some(slab));
            }
            if state.claimed == index {
                state.claimed += 1;
                let spare = state.spare.pop().unwrap_or_default();
                drop(state);
                return self.fetch(index, spare).map(Some);
            }
            state = self.state.wait(state);
        }
    }

    /// The next slab that may be fetched ahead of the owner, with a buffer for it.
    fn claim_ahead(&self, leave: &dyn Fn() -> bool) -> Option<(u64, Vec<u8>)> {
        let mut state = self.state.lock();
        loop {
            if self.stopped() || state.claimed == self.tree.groups() || leave() {
                return None;
            }
            if state.claimed < state.finished + RING {
                state.claimed += 1;
                return Some((state.claimed - 1, state.spare.pop().unwrap_or_default()));
            }
            state = self.state.wait(state);
        }
    }

    /// Reads one slab and takes its BLAKE3 value, if wanted.
    fn fetch(&self, index: u64, mut bytes: Vec<u8>) -> Result<Slab, Error> {
        let slab = self.tree.range(index);
        bytes.resize((slab.end - slab.start) as usize, 0);
        self.source.file.read_at(&mut bytes, self.range.start + slab.start)?;
        let value = self.algorithms.has(Algorithm::Blake3).then(|| slab_of(slab.start, &bytes, self.group));
        Ok(Slab { bytes, value })
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Stream for Ordered<'_> {
    fn own(&self) -> Result<Taken, Error> {
        let mut taken = Taken::default();
        let mut sequential = Sequential::new(self.algorithms);
        let mut frontier = Frontier::default();
        for index in 0..self.tree.groups() {
            let Some(slab) = self.next(index)? else { return Ok(taken) };
            sequential.update(&slab.bytes);
            if let Some(mut value) = slab.value {
                frontier.push(value.value);
                taken.groups.append(&mut value.groups);
            }
            let count = slab.bytes.len() as u64;
            let mut state = self.state.lock();
            state.finished = index + 1;
            state.spare.push(slab.bytes);
            drop(state);
            if (index + 1).is_multiple_of(WAKE_EVERY) {
                self.state.notify();
            }
            self.progress.advance(count, 0);
        }
        sequential.finish(&mut taken.digests);
        if let Some(root) = frontier.root() {
            taken.digests.set(root);
        }
        Ok(taken)
    }

    fn assist(&self, leave: &dyn Fn() -> bool) -> Result<(), Error> {
        {
            let mut state = self.state.lock();
            if state.helpers == HELPERS {
                return Ok(());
            }
            state.helpers += 1;
        }
        while let Some((index, spare)) = self.claim_ahead(leave) {
            // A failure stops the whole run, so that nobody asks for the number of helpers again.
            let slab = self.fetch(index, spare)?;
            self.state.lock().ready[(index % RING) as usize] = Some(slab);
            self.state.notify();
        }
        self.state.lock().helpers -= 1;
        Ok(())
    }

    fn has_work(&self) -> bool {
        let state = self.state.lock();
        state.claimed < self.tree.groups() && state.helpers < HELPERS
    }

    fn wake(&self) {
        drop(self.state.lock());
        self.state.notify();
    }
}
