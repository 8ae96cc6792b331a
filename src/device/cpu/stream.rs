//! One long byte string, hashed by several workers at once.
//!
//! The string is cut into slabs, each an aligned subtree of BLAKE3's tree. One worker owns the string; whoever is idle
//! assists. [`Parallel`](super::parallel::Parallel) is for BLAKE3 alone, [`Ordered`](super::ordered::Ordered) for
//! strings that SHA-256 or BLAKE2b must see in order.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::groups::Taken;
use super::map::LeasedMap;
use crate::device::file::OpenFile;
use crate::error::Error;

/// Bytes read at once, small enough to stay in a core's own cache until they are hashed.
pub(super) const READ: usize = 512 << 10;

/// An open file and, where one is of use and a lease is to be had, its map.
#[derive(Debug)]
pub(super) struct Source {
    /// First, so that it ends before the file.
    pub(super) map: Option<LeasedMap>,
    pub(super) file: OpenFile,
}

/// What owner and helpers do with one string. After a stop all methods return soon, and what they return is not used.
pub(super) trait Stream: Sync + Send {
    /// Hashes the string to the end, with whoever assists.
    fn own(&self) -> Result<Taken, Error>;

    /// Takes work off the owner until none is left to claim, or `leave` says that there is better work.
    fn assist(&self, leave: &dyn Fn() -> bool) -> Result<(), Error>;

    /// Whether a helper would find work that nobody has claimed.
    fn has_work(&self) -> bool;

    /// Wakes whoever waits, after the stop was set.
    fn wake(&self);
}

/// A mutex with a condition, neither of which minds that a thread has panicked: the pool stops everybody then.
#[derive(Debug, Default)]
pub(super) struct Monitor<T> {
    state: Mutex<T>,
    changed: Condvar,
}

impl<T> Monitor<T> {
    pub(super) const fn new(state: T) -> Self {
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wait<'m>(&self, guard: MutexGuard<'m, T>) -> MutexGuard<'m, T> {
        self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notify(&self) {
        self.changed.notify_all();
    }
}
