//! Progress, from the library's threads to a function of the caller.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, TryLockError};

use tensorseal::device::cpu::Progress;

use crate::lent::Callback;

/// What the total is while it is not known.
const UNKNOWN: u64 = u64::MAX;

/// One call of a verb, whose caller may want to know how far it is.
pub(crate) struct Telling {
    callback: Option<Callback>,
    done: AtomicU64,
    total: AtomicU64,
    cancelled: AtomicBool,
    /// What was told last. Held while it is told: one thread at a time.
    told: Mutex<u64>,
}

impl Telling {
    pub(crate) fn new(callback: Option<Callback>) -> Self {
        let (done, total) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { callback, done, total, cancelled: AtomicBool::new(false), told: Mutex::new(0) }
    }

    fn tell(&self, callback: &Callback) {
        let mut told = match self.told.try_lock() {
            Ok(told) => told,
            Err(TryLockError::Poisoned(told)) => told.into_inner(),
            // Another thread tells just now; whoever is next tells of this, too.
            Err(TryLockError::WouldBlock) => return,
        };
        let done = self.done.load(Ordering::Relaxed);
        *told = done.max(*told);
        let total = match self.total.load(Ordering::Relaxed) {
            UNKNOWN => 0,
            total => total,
        };
        if callback.call(*told, total) {
            self.cancelled.store(true, Ordering::Relaxed);
        }
    }
}

impl Progress for Telling {
    fn wants_total(&self) -> bool {
        self.callback.is_some()
    }

    fn begin(&self, _files: usize, bytes: Option<u64>) {
        // Work may come in several lots.
        let sum = |total: u64| Some(bytes.map_or(UNKNOWN, |bytes| total.saturating_add(bytes)));
        // The closure always gives a value.
        let _ = self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
    }

    fn advance(&self, bytes: u64, _files: usize) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        if let Some(callback) = &self.callback {
            self.tell(callback);
        }
    }

    fn stopped(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}
