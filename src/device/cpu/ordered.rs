//! A long string that SHA-256 or BLAKE2b must see in order, with or without BLAKE3.
//!
//! Whoever fetches a slab takes its BLAKE3 value while it is in that core's cache. Fetched slabs wait in a ring for the
//! owner, who feeds them to the sequential digests; the ring bounds how far the others run ahead. A tap is served slab by
//! slab, too, by whoever has just fetched one, so that it is no work of the owner while anybody assists. Bytes are read, never
//! mapped: the owner is what everybody waits for, and faults and releases of a map would be on its way.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::groups::{self, Taken, slab_of};
use super::sequential::Sequential;
use super::stream::{Monitor, Source, Stream};
use super::{Algorithms, Progress, Tapped};
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
    tapped: Option<Tapped<'a>>,
    /// Slabs that the tap gets.
    to_tap: u64,
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
    /// Slot `i % RING` holds slab `i` once it is fetched, for the owner.
    ready: [Option<Slab>; RING as usize],
    /// Slabs that the tap is done with.
    tapped: u64,
    /// Whether somebody serves the tap now.
    tapping: bool,
    /// Slot `i % RING` holds slab `i` once it is fetched, for the tap.
    untapped: [Option<Arc<Vec<u8>>>; RING as usize],
    /// Buffers that nobody uses now.
    spare: Vec<Vec<u8>>,
}

/// A fetched slab.
struct Slab {
    bytes: Arc<Vec<u8>>,
    /// Its BLAKE3 value and its groups', if BLAKE3 is wanted.
    value: Option<groups::Slab>,
}

impl State {
    /// Takes back a buffer from the owner or the tap: the last of the two frees it.
    fn retire(&mut self, bytes: Arc<Vec<u8>>) {
        self.spare.extend(Arc::into_inner(bytes));
    }
}

/// What there is to do for one who assists.
enum Step {
    Fetch(u64, Vec<u8>),
    Tap(u64, Arc<Vec<u8>>),
}

impl<'a> Ordered<'a> {
    /// A string of more than one slab at `range` of the file.
    pub(super) fn new(
        source: Arc<Source>,
        range: Range<u64>,
        algorithms: Algorithms,
        group: Option<GroupSize>,
        tapped: Option<Tapped<'a>>,
        progress: &'a dyn Progress,
        stop: &'a AtomicBool,
    ) -> Self {
        let (len, slab) = (range.end - range.start, GroupSize::at_most(SLAB));
        let group = group.map(|group| Tree::new(len, group).group());
        let tree = Tree::new(len, slab.max(group.unwrap_or(slab)));
        let state = Monitor::new(State {
            claimed: 0,
            finished: 0,
            helpers: 0,
            ready: std::array::from_fn(|_| None),
            tapped: 0,
            tapping: false,
            untapped: std::array::from_fn(|_| None),
            spare: Vec::new(),
        });
        let to_tap = tapped.map_or(0, |tapped| tapped.first().div_ceil(tree.group().bytes()));
        Self { source, range, tree, group, algorithms, tapped, to_tap, progress, stop, state }
    }

    /// Whether the slot of the next slab is free: neither the owner nor the tap still needs what was in it.
    fn room(&self, state: &State) -> bool {
        let tapped = if state.tapped < self.to_tap { state.tapped } else { u64::MAX };
        state.claimed < state.finished.min(tapped).saturating_add(RING)
    }

    /// The slab that the tap gets next, if it is fetched and nobody serves the tap.
    fn turn(&self, state: &mut State) -> Option<(u64, Arc<Vec<u8>>)> {
        if state.tapping || state.tapped == self.to_tap {
            return None;
        }
        let bytes = state.untapped[(state.tapped % RING) as usize].take()?;
        state.tapping = true;
        Some((state.tapped, bytes))
    }

    /// Passes a slab to the tap. A failure stops the whole run, so that nobody asks again whether the tap is served.
    fn tap(&self, index: u64, bytes: Arc<Vec<u8>>) -> Result<(), Error> {
        if let Some(tapped) = &self.tapped {
            tapped.take(self.range.start + self.tree.range(index).start, &bytes)?;
        }
        let mut state = self.state.lock();
        state.tapped = index + 1;
        state.tapping = false;
        state.retire(bytes);
        drop(state);
        // The owner may wait for the last of them, and for room.
        self.state.notify();
        Ok(())
    }

    /// The owner serves the tap: as long as nobody assists, or at the `end` until it has everything.
    fn tap_alone(&self, end: bool) -> Result<(), Error> {
        loop {
            let mut state = self.state.lock();
            let (index, bytes) = loop {
                if self.stopped() || state.tapped == self.to_tap || (!end && state.helpers > 0) {
                    return Ok(());
                }
                match self.turn(&mut state) {
                    Some(turn) => break turn,
                    None if end => state = self.state.wait(state),
                    None => return Ok(()),
                }
            };
            drop(state);
            self.tap(index, bytes)?;
        }
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
            if state.claimed == index && self.room(&state) {
                state.claimed += 1;
                let spare = state.spare.pop().unwrap_or_default();
                drop(state);
                let slab = self.fetch(index, spare)?;
                if index < self.to_tap {
                    self.state.lock().untapped[(index % RING) as usize] = Some(Arc::clone(&slab.bytes));
                }
                return Ok(Some(slab));
            }
            if let Some((index, bytes)) = self.turn(&mut state) {
                drop(state);
                self.tap(index, bytes)?;
                state = self.state.lock();
                continue;
            }
            state = self.state.wait(state);
        }
    }

    /// What can be done ahead of the owner: a turn of the tap, with bytes that were fetched just now, or the next slab.
    fn step(&self, leave: &dyn Fn() -> bool) -> Option<Step> {
        let mut state = self.state.lock();
        loop {
            if self.stopped() || leave() {
                return None;
            }
            if let Some((index, bytes)) = self.turn(&mut state) {
                return Some(Step::Tap(index, bytes));
            }
            if state.claimed == self.tree.groups() {
                return None;
            }
            if self.room(&state) {
                state.claimed += 1;
                return Some(Step::Fetch(state.claimed - 1, state.spare.pop().unwrap_or_default()));
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
        Ok(Slab { bytes: Arc::new(bytes), value })
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
            state.retire(slab.bytes);
            drop(state);
            self.tap_alone(false)?;
            if (index + 1).is_multiple_of(WAKE_EVERY) {
                self.state.notify();
            }
            self.progress.tell(count, 0)?;
        }
        self.tap_alone(true)?;
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
        while let Some(step) = self.step(leave) {
            // A failure stops the whole run, so that nobody asks for the number of helpers again.
            match step {
                Step::Tap(index, bytes) => self.tap(index, bytes)?,
                Step::Fetch(index, spare) => {
                    let slab = self.fetch(index, spare)?;
                    let mut state = self.state.lock();
                    if index < self.to_tap {
                        state.untapped[(index % RING) as usize] = Some(Arc::clone(&slab.bytes));
                    }
                    state.ready[(index % RING) as usize] = Some(slab);
                    drop(state);
                    self.state.notify();
                }
            }
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
