//! Long work, away from Python: the GIL is released, progress is told, Ctrl-C is heeded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use tensorseal::Error;
use tensorseal::device::cpu::Progress;
use tensorseal::loader::Cancel;

use crate::error::{no_answer, to_python};

/// How often the caller is told how far it is, and signals are looked for.
const OFTEN: Duration = Duration::from_millis(100);

/// No number of bytes.
const UNKNOWN: u64 = u64::MAX;

/// What the work tells, for the caller to look at; and whether it shall end.
pub(crate) struct Watch {
    told: bool,
    done: AtomicU64,
    total: AtomicU64,
    cancel: Cancel,
}

impl Watch {
    /// For [`LoadOptions`](tensorseal::loader::LoadOptions): ends a load with everything else.
    pub(crate) fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    /// Calls `progress(done, total)`, in bytes; `total` is `None` while it is not known.
    fn tell(&self, progress: &Bound<'_, PyAny>) -> PyResult<()> {
        let total = Some(self.total.load(Ordering::Relaxed)).filter(|&total| total != UNKNOWN);
        progress.call1((self.done.load(Ordering::Relaxed), total)).map(drop)
    }
}

impl Progress for Watch {
    fn wants_total(&self) -> bool {
        self.told
    }

    fn begin(&self, _files: usize, bytes: Option<u64>) {
        // A model may be read in two goes: a total is of all that is known of.
        let done = self.done.load(Ordering::Relaxed);
        let total = bytes.and_then(|bytes| done.checked_add(bytes)).unwrap_or(UNKNOWN);
        self.total.store(total, Ordering::Relaxed);
    }

    fn advance(&self, bytes: u64, _files: usize) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn stopped(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

/// Does `work` on a thread of its own, without the GIL, and waits for it. `progress` is called on the caller's thread, so
/// that what it raises ends the work and is raised. So does a signal whose handler raises, such as Ctrl-C.
pub(crate) fn away<T: Send>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&Watch) -> Result<T, Error> + Send,
) -> PyResult<Result<T, Error>> {
    let watch = Watch {
        told: progress.is_some(),
        done: AtomicU64::new(0),
        total: AtomicU64::new(UNKNOWN),
        cancel: Cancel::default(),
    };
    thread::scope(|scope| {
        let (ended, mut end) = sync_channel::<()>(1);
        let watched = &watch;
        let worker = thread::Builder::new().name("tensorseal".to_owned()).spawn_scoped(scope, move || {
            // Dropped, and so told, however the work ends.
            let _ended = ended;
            work(watched)
        });
        let worker = worker.map_err(|error| no_answer(py, "thread", format!("no thread can be started: {error}")))?;
        let mut raised = None;
        let mut waits = || {
            // A receiver may be lent to another thread, not shared with it.
            let end = &mut end;
            py.detach(|| {
                let end = &mut *end;
                end.recv_timeout(OFTEN)
            }) == Err(RecvTimeoutError::Timeout)
        };
        while waits() {
            if raised.is_none() {
                raised = py.check_signals().and_then(|()| progress.map_or(Ok(()), |told| watch.tell(told))).err();
                if raised.is_some() {
                    watch.cancel.cancel();
                }
            }
        }
        let done = py.detach(|| worker.join());
        if let Some(raised) = raised {
            return Err(raised);
        }
        match done {
            Ok(Ok(value)) => {
                // The last word: all of it.
                progress.map_or(Ok(()), |told| watch.tell(told))?;
                Ok(Ok(value))
            }
            Ok(Err(error)) => Ok(Err(error)),
            Err(_) => Err(no_answer(py, "internal", "the work ended in a defect of tensorseal; please report it")),
        }
    })
}

/// The same for work whose errors need no report of their own.
pub(crate) fn away_or_raise<T: Send>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&Watch) -> Result<T, Error> + Send,
) -> PyResult<T> {
    away(py, progress, work)?.map_err(|error| to_python(py, &error))
}
