//! Events: marks in streams. Recording one again makes a new mark; who waits, waits for the mark of that moment.

use super::streams::Task;
use super::{Driver, Handle, Kind};
use crate::error::{Code, INVALID_HANDLE, NOT_READY};
use std::time::Instant;

pub(super) struct Event {
    pub(super) context: Handle,
    /// The number of its latest recording.
    latest: Option<usize>,
    /// Made without `CU_EVENT_DISABLE_TIMING`.
    timed: bool,
    asked: bool,
}

/// One `cuEventRecord`.
pub(super) struct Recording {
    stream: Handle,
    done: Option<Instant>,
}

impl Recording {
    pub(super) fn is_done(&self) -> bool {
        self.done.is_some()
    }

    pub(super) fn finish(&mut self) {
        self.done = Some(Instant::now());
    }

    /// The stream that it stands in, if it was not reached yet.
    pub(super) fn stream(&self) -> Option<Handle> {
        if self.is_done() { None } else { Some(self.stream) }
    }
}

impl Driver {
    pub(crate) fn create_event(&mut self, flags: u32) -> Result<Handle, Code> {
        let device = self.current()?;
        let context = self.devices[device].context().ok_or(INVALID_HANDLE)?;
        let handle = self.new_handle();
        self.events.insert(handle, Event { context, latest: None, timed: flags & 2 == 0, asked: false });
        self.report.created(Kind::Event, handle);
        Ok(handle)
    }

    pub(crate) fn destroy_event(&mut self, event: Handle) -> Result<(), Code> {
        self.events.remove(&event).ok_or(INVALID_HANDLE)?;
        self.report.destroyed(Kind::Event, event);
        Ok(())
    }

    pub(crate) fn record_event(&mut self, event: Handle, stream: Handle) -> Result<(), Code> {
        let device = self.current()?;
        let stream = self.known_stream(stream, device)?;
        let recording = self.recordings.len();
        let context = self.devices[device].context();
        let found = self.events.get_mut(&event).filter(|found| Some(found.context) == context);
        let found = found.ok_or(INVALID_HANDLE)?;
        (found.latest, found.asked) = (Some(recording), false);
        self.recordings.push(Recording { stream, done: None });
        self.enqueue_known(device, stream, Task::Record(recording))
    }

    /// The event may be of another context: that is how devices wait for each other.
    pub(crate) fn wait_event(&mut self, stream: Handle, event: Handle) -> Result<(), Code> {
        let device = self.current()?;
        let stream = self.known_stream(stream, device)?;
        match self.events.get(&event).ok_or(INVALID_HANDLE)?.latest {
            None => Ok(()),
            Some(recording) => self.enqueue_known(device, stream, Task::Wait(recording)),
        }
    }

    pub(crate) fn synchronize_event(&mut self, event: Handle) -> Result<(), Code> {
        let device = self.current()?;
        if let Some(recording) = self.events.get(&event).ok_or(INVALID_HANDLE)?.latest {
            self.reach(recording);
        }
        self.settled(device)
    }

    /// As with streams: not ready once, then done.
    pub(crate) fn query_event(&mut self, event: Handle) -> Result<(), Code> {
        let device = self.current()?;
        let found = self.events.get_mut(&event).ok_or(INVALID_HANDLE)?;
        if let Some(recording) = found.latest.filter(|recording| !self.recordings[*recording].is_done()) {
            if !std::mem::replace(&mut found.asked, true) {
                return Err(NOT_READY);
            }
            self.reach(recording);
        }
        self.settled(device)
    }

    /// Milliseconds from `start` to `end`, both of which must have been reached.
    pub(crate) fn elapsed(&mut self, start: Handle, end: Handle) -> Result<f32, Code> {
        self.current()?;
        let instant = |handle: Handle| {
            let event = self.events.get(&handle).filter(|event| event.timed).ok_or(INVALID_HANDLE)?;
            let recording = event.latest.ok_or(INVALID_HANDLE)?;
            self.recordings[recording].done.ok_or(NOT_READY)
        };
        let (start, end) = (instant(start)?, instant(end)?);
        // 0 would divide somebody's throughput.
        Ok((end.saturating_duration_since(start).as_secs_f32() * 1e3).max(0.001))
    }

    fn reach(&mut self, recording: usize) {
        if let Some(stream) = self.recordings[recording].stream() {
            self.run_stream(stream, Some(recording));
        }
    }

    /// As `enqueue`, for the handle that `known_stream` gave, which for a default stream is that of its context.
    fn enqueue_known(&mut self, device: usize, stream: Handle, task: Task) -> Result<(), Code> {
        let default = self.devices[device].context() == Some(stream);
        self.enqueue(device, if default { 0 } else { stream }, task)
    }
}
