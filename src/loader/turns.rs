//! The host's digests of what several threads read: each string's blocks in their order, whoever has read them.

use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::device::cpu::sequential::Sequential;
use crate::device::cpu::{Algorithms, Digests};
use crate::digest::{Algorithm, Digest};

/// The strings. A thread that brings a block waits until those before it were taken: as blocks are handed to threads in
/// their order, the first of them never waits.
pub(super) struct Turns {
    /// Nothing is taken without.
    algorithms: Option<Algorithms>,
    state: Mutex<State>,
    moved: Condvar,
}

struct State {
    texts: Vec<Turn>,
    stop: bool,
}

struct Turn {
    /// Where in the file its next block begins, and where it ends.
    left: Range<u64>,
    hashers: Option<Box<(Sequential, blake3::Hasher)>>,
    digests: Digests,
}

impl Turns {
    pub(super) fn new(texts: &[Range<u64>], algorithms: Algorithms, host: bool) -> Self {
        let turn = |range: &Range<u64>| Turn { left: range.clone(), hashers: None, digests: Digests::default() };
        let state = Mutex::new(State { texts: texts.iter().map(turn).collect(), stop: false });
        Self { algorithms: host.then_some(algorithms), state, moved: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody waits any more.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.moved.notify_all();
    }

    /// Takes the block of string `text` that begins at byte `at` of the file, when it is its turn.
    pub(super) fn take(&self, text: usize, at: u64, bytes: &[u8]) {
        let Some(algorithms) = self.algorithms else { return };
        let mut state = self.lock();
        while !state.stop && state.texts[text].left.start != at {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stop {
            return;
        }
        let hashers = state.texts[text].hashers.take();
        drop(state);
        let mut hashers = hashers.unwrap_or_else(|| Box::new((Sequential::new(algorithms), blake3::Hasher::new())));
        hashers.0.update(bytes);
        hashers.1.update(bytes);
        let mut state = self.lock();
        let turn = &mut state.texts[text];
        turn.left.start += bytes.len() as u64;
        turn.hashers = Some(hashers);
        if turn.left.is_empty() {
            turn.close(algorithms);
        }
        drop(state);
        self.moved.notify_all();
    }

    /// The digests of all strings; none of any if nothing was to be taken. `None` if one did not come to its end.
    pub(super) fn finish(self) -> Option<Vec<Digests>> {
        let Self { algorithms, state, .. } = self;
        let texts = state.into_inner().unwrap_or_else(PoisonError::into_inner).texts;
        let finish = |mut turn: Turn| {
            let Some(algorithms) = algorithms else { return Some(Digests::default()) };
            if turn.left.is_empty() && turn.digests == Digests::default() {
                // A string without a byte.
                turn.close(algorithms);
            }
            turn.left.is_empty().then_some(turn.digests)
        };
        texts.into_iter().map(finish).collect()
    }
}

impl Turn {
    fn close(&mut self, algorithms: Algorithms) {
        let hashers = self.hashers.take();
        let (sequential, blake3) =
            *hashers.unwrap_or_else(|| Box::new((Sequential::new(algorithms), blake3::Hasher::new())));
        sequential.finish(&mut self.digests);
        self.digests.set(Digest::of32(Algorithm::Blake3, *blake3.finalize().as_bytes()));
    }
}
