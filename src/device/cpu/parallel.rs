//! A long string of which only the BLAKE3 digest is wanted: slabs in any order, each hashed where it is fetched.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::groups::{Slab, SlabHasher, Taken, slab_of};
use super::map::{LeasedMap, SlabError};
use super::stream::{Monitor, READ, Source, Stream};
use super::{Progress, Tapped};
use crate::device::file::changed;
use crate::error::Error;
use crate::tree::{ChainingValue, Frontier, GroupSize, Tree};

pub(super) struct Parallel<'a> {
    source: Arc<Source>,
    /// Where the string lies in its file.
    range: Range<u64>,
    /// Of slabs.
    tree: Tree,
    /// The groups whose values are wanted: a slab is one or many.
    group: Option<GroupSize>,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
    state: Monitor<State>,
}

struct State {
    /// Slabs that somebody has begun.
    claimed: u64,
    /// The values of the first slabs, merged.
    frontier: Frontier,
    /// The values of their groups, if wanted.
    groups: Vec<ChainingValue>,
    /// Later ones, which wait for those before them.
    early: BTreeMap<u64, Slab>,
}

impl State {
    fn take(&mut self, index: u64, slab: Slab) {
        self.early.insert(index, slab);
        while let Some(mut slab) = self.early.remove(&self.frontier.groups()) {
            self.frontier.push(slab.value);
            self.groups.append(&mut slab.groups);
        }
    }
}

impl<'a> Parallel<'a> {
    /// A string of more than [`READ`] bytes at `range` of the file.
    pub(super) fn new(
        source: Arc<Source>,
        range: Range<u64>,
        group: Option<GroupSize>,
        threads: usize,
        progress: &'a dyn Progress,
        stop: &'a AtomicBool,
    ) -> Self {
        // Mapped pages count as memory in use: all workers together stay within 32 MiB (1 MiB each on large machines).
        const MIB: u64 = 1 << 20;
        let slab = GroupSize::at_most((32 * MIB / threads as u64).clamp(MIB, 16 * MIB));
        let len = range.end - range.start;
        let group = group.map(|group| Tree::new(len, group).group());
        let tree = Tree::new(len, slab.max(group.unwrap_or(slab)));
        let state = State { claimed: 0, frontier: Frontier::default(), groups: Vec::new(), early: BTreeMap::new() };
        Self { source, range, tree, group, progress, stop, state: Monitor::new(state) }
    }

    /// Hashes the first slabs in order, as far as a tap wants their bytes. Before anybody assists.
    pub(super) fn begin(&self, tapped: &Tapped<'_>) -> Result<(), Error> {
        let mut buffer = Vec::new();
        let mut at = 0;
        while at < tapped.first() && !self.stopped() {
            let Some(index) = self.claim() else { break };
            let slab = self.tree.range(index);
            let value = self.value_by_reading(&slab, &mut buffer, Some(tapped))?;
            self.state.lock().take(index, value);
            self.progress.tell(slab.end - slab.start, 0)?;
            at = slab.end;
        }
        Ok(())
    }

    fn hash_slabs(&self, leave: &dyn Fn() -> bool) -> Result<(), Error> {
        let (mut buffer, mut ways) = (Vec::new(), Ways::default());
        while !self.stopped() && !leave() {
            let Some(index) = self.claim() else { break };
            let slab = self.tree.range(index);
            let value = self.value(&slab, &mut buffer, &mut ways)?;
            let mut state = self.state.lock();
            state.take(index, value);
            let done = state.frontier.groups() == self.tree.groups();
            drop(state);
            if done {
                self.state.notify();
            }
            self.progress.tell(slab.end - slab.start, 0)?;
        }
        Ok(())
    }

    fn claim(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if state.claimed == self.tree.groups() {
            return None;
        }
        state.claimed += 1;
        Some(state.claimed - 1)
    }

    fn value(&self, slab: &Range<u64>, buffer: &mut Vec<u8>, ways: &mut Ways) -> Result<Slab, Error> {
        let Some(map) = &self.source.map else { return self.value_by_reading(slab, buffer, None) };
        let mapped = ways.choose_map();
        let begun = Instant::now();
        let value = if mapped { self.value_in_map(slab, map) } else { self.value_by_reading(slab, buffer, None) };
        ways.took(mapped, begun.elapsed().as_secs_f64() / (slab.end - slab.start) as f64);
        value
    }

    fn value_in_map(&self, slab: &Range<u64>, map: &LeasedMap) -> Result<Slab, Error> {
        let place = self.range.start + slab.start..self.range.start + slab.end;
        let bytes = map.slab(&place).map_err(|error| match error {
            SlabError::LeaseBroken => changed(&self.source.file.path, "another process opened it for writing"),
            SlabError::Io(error) => self.source.file.read_error(error),
        })?;
        let value = slab_of(slab.start, bytes, self.group);
        map.release(&place);
        Ok(value)
    }

    fn value_by_reading(
        &self,
        slab: &Range<u64>,
        buffer: &mut Vec<u8>,
        tapped: Option<&Tapped<'_>>,
    ) -> Result<Slab, Error> {
        buffer.resize(READ, 0);
        let mut hasher = SlabHasher::new(slab.start, self.group);
        let mut at = slab.start;
        while at < slab.end {
            let piece = &mut buffer[..(slab.end - at).min(READ as u64) as usize];
            self.source.file.read_at(piece, self.range.start + at)?;
            hasher.update(piece);
            if let Some(tapped) = tapped {
                tapped.take(self.range.start + at, piece)?;
            }
            at += piece.len() as u64;
        }
        Ok(hasher.finish())
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Stream for Parallel<'_> {
    fn own(&self) -> Result<Taken, Error> {
        self.hash_slabs(&|| false)?;
        let mut state = self.state.lock();
        while state.frontier.groups() < self.tree.groups() && !self.stopped() {
            state = self.state.wait(state);
        }
        let mut taken = Taken::default();
        if let Some(root) = state.frontier.root().filter(|_| !self.stopped()) {
            taken.digests.set(root);
            taken.groups = std::mem::take(&mut state.groups);
        }
        Ok(taken)
    }

    fn assist(&self, leave: &dyn Fn() -> bool) -> Result<(), Error> {
        self.hash_slabs(leave)
    }

    fn has_work(&self) -> bool {
        self.state.lock().claimed < self.tree.groups()
    }

    fn wake(&self) {
        drop(self.state.lock());
        self.state.notify();
    }
}

/// Which way to the bytes is the faster one: through the map, or by reading. That depends on how the page cache was
/// filled (large folios make a map cheap, single pages make it dearer than a copy), so each worker tries both and then
/// looks again now and then.
#[derive(Debug, Default)]
struct Ways {
    slabs: u32,
    /// Seconds a byte, by the map.
    map: f64,
    /// Seconds a byte, by reading.
    read: f64,
}

impl Ways {
    fn choose_map(&mut self) -> bool {
        const LOOK_AGAIN: u32 = 48;
        let turn = self.slabs;
        self.slabs += 1;
        match turn {
            0 => true,
            1 => false,
            _ => (self.map <= self.read) != (turn.is_multiple_of(LOOK_AGAIN)),
        }
    }

    fn took(&mut self, mapped: bool, seconds: f64) {
        let way = if mapped { &mut self.map } else { &mut self.read };
        // A slab may have waited for the processor: the better of the last measurements is nearer to the truth, and
        // fades so that a change is noticed.
        *way = if *way == 0.0 { seconds } else { seconds.min(*way * 1.2) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_way_is_taken_and_the_other_tried_now_and_then() {
        for (map, read) in [(1.0, 2.0), (2.0, 1.0)] {
            let mut ways = Ways::default();
            let mut by_map = 0;
            for _ in 0..1000 {
                let mapped = ways.choose_map();
                by_map += usize::from(mapped);
                ways.took(mapped, if mapped { map } else { read });
            }
            let faster = if map < read { by_map } else { 1000 - by_map };
            assert!((950..1000).contains(&faster), "{faster} of 1000 by the faster way");
        }
    }
}
