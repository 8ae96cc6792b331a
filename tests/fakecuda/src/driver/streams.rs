//! Streams: queues of what is to be done. Lazy ones (the default) do it only when something waits for it, so that a
//! program that reads a result or reuses a buffer too early sees it; eager ones do it at once.

use super::launch::Work;
use super::memory::HostRange;
use super::{Driver, Handle, Kind};
use crate::error::{Code, INVALID_HANDLE, NOT_READY};
use crate::memory::Allocation;
use std::collections::VecDeque;
use std::sync::Arc;

/// The stream that is always there. `cuda.h` names it 0, 1 (legacy) and 2 (per thread); here they are one.
const DEFAULT_STREAMS: [Handle; 3] = [0, 1, 2];

pub(super) struct Stream {
    pub(super) context: Handle,
    /// Made without `CU_STREAM_NON_BLOCKING`: it and the default stream wait for each other.
    blocking: bool,
    queue: VecDeque<Task>,
    /// It was asked whether it is done, and said no.
    asked: bool,
}

/// Something to be done in its turn.
pub(super) enum Task {
    /// From the host: bytes that were taken at the call, or a place to read when this runs.
    CopyIn {
        to: Arc<Allocation>,
        at: u64,
        from: Source,
        /// The bit that arrives changed.
        flip: Option<u64>,
    },
    CopyOut {
        from: Arc<Allocation>,
        at: u64,
        to: HostRange,
    },
    CopyWithin {
        from: Arc<Allocation>,
        source: u64,
        to: Arc<Allocation>,
        target: u64,
        bytes: u64,
    },
    /// `pattern` (1 or 4 bytes) over and over.
    Fill {
        to: Arc<Allocation>,
        at: u64,
        pattern: Vec<u8>,
        count: u64,
    },
    Launch(Box<Work>),
    Record(usize),
    Wait(usize),
    Free(u64),
}

/// See [`Task::CopyIn`].
pub(super) enum Source {
    Taken(Vec<u8>),
    Pinned(HostRange),
}

impl Driver {
    pub(crate) fn create_stream(&mut self, flags: u32) -> Result<Handle, Code> {
        let device = self.current()?;
        let context = self.devices[device].context().ok_or(INVALID_HANDLE)?;
        let handle = self.new_handle();
        let stream = Stream { context, blocking: flags & 1 == 0, queue: VecDeque::new(), asked: false };
        self.streams.insert(handle, stream);
        self.report.created(Kind::Stream, handle);
        Ok(handle)
    }

    /// What is queued is still done: CUDA returns at once and lets the work end.
    pub(crate) fn destroy_stream(&mut self, stream: Handle) -> Result<(), Code> {
        let device = self.current_even_if_broken()?;
        self.known_stream(stream, device)?;
        if DEFAULT_STREAMS.contains(&stream) {
            return Err(INVALID_HANDLE);
        }
        self.run_stream(stream, None);
        self.streams.remove(&stream);
        self.report.destroyed(Kind::Stream, stream);
        self.settled(device)
    }

    pub(crate) fn synchronize_stream(&mut self, stream: Handle) -> Result<(), Code> {
        let device = self.current()?;
        let stream = self.known_stream(stream, device)?;
        self.run_stream(stream, None);
        self.settled(device)
    }

    pub(crate) fn synchronize_context(&mut self) -> Result<(), Code> {
        let device = self.current()?;
        self.drain(device);
        self.settled(device)
    }

    /// A stream with work says once that it is not ready; the next time the work is done. So a program that polls
    /// gets on, and one that takes the first answer for the last does not.
    pub(crate) fn query_stream(&mut self, stream: Handle) -> Result<(), Code> {
        let device = self.current()?;
        let handle = self.known_stream(stream, device)?;
        if let Some(stream) = self.streams.get_mut(&handle) {
            if !stream.queue.is_empty() && !std::mem::replace(&mut stream.asked, true) {
                return Err(NOT_READY);
            }
            stream.asked = false;
        }
        self.run_stream(handle, None);
        self.settled(device)
    }

    pub(crate) fn context_of_stream(&mut self, stream: Handle) -> Result<Handle, Code> {
        let device = self.current()?;
        let stream = self.known_stream(stream, device)?;
        self.streams.get(&stream).map(|stream| stream.context).ok_or(INVALID_HANDLE)
    }

    /// After waiting: the fault that there may be, which from now on every call returns.
    pub(super) fn settled(&mut self, device: usize) -> Result<(), Code> {
        self.devices[device].report_fault();
        self.devices[device].reported_fault().map_or(Ok(()), Err)
    }

    /// The handle under which a stream of the context of `device` is kept. The default stream of a context is made
    /// here, under a number that no `create_stream` gives.
    pub(super) fn known_stream(&mut self, stream: Handle, device: usize) -> Result<Handle, Code> {
        let context = self.devices[device].context().ok_or(INVALID_HANDLE)?;
        if DEFAULT_STREAMS.contains(&stream) {
            let fresh = Stream { context, blocking: true, queue: VecDeque::new(), asked: false };
            self.streams.entry(context).or_insert(fresh);
            return Ok(context);
        }
        match self.streams.get(&stream) {
            Some(found) if found.context == context && stream != context => Ok(stream),
            _ => Err(INVALID_HANDLE),
        }
    }

    /// Puts a task into a stream of the context of `device`.
    pub(super) fn enqueue(&mut self, device: usize, stream: Handle, task: Task) -> Result<(), Code> {
        let stream = self.known_stream(stream, device)?;
        self.respect_default_stream(stream);
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.queue.push_back(task);
        }
        if self.config.eager {
            self.run_stream(stream, None);
        }
        Ok(())
    }

    /// Is its end queued already?
    pub(super) fn is_being_freed(&self, address: u64) -> bool {
        let frees = |task: &Task| matches!(task, Task::Free(other) if *other == address);
        self.streams.values().any(|stream| stream.queue.iter().any(frees))
    }

    /// What a call does that waits for the default stream, and so for all that wait for that one.
    pub(super) fn finish_default_stream(&mut self, device: usize) -> Result<(), Code> {
        let stream = self.known_stream(0, device)?;
        self.respect_default_stream(stream);
        self.run_stream(stream, None);
        self.settled(device)
    }

    /// The default stream and the blocking ones never overlap: what the other side has queued is done first.
    fn respect_default_stream(&mut self, stream: Handle) {
        let Some((context, blocking)) = self.streams.get(&stream).map(|found| (found.context, found.blocking)) else {
            return;
        };
        let others: Vec<Handle> = if stream == context {
            let of_context = self.streams.iter().filter(|(_, other)| other.context == context && other.blocking);
            of_context.map(|(handle, _)| *handle).filter(|handle| *handle != context).collect()
        } else if blocking {
            vec![context]
        } else {
            Vec::new()
        };
        for other in others.into_iter().rev() {
            self.run_stream(other, None);
        }
    }

    /// Does all that is queued on a device: the newest stream first, because that is the order that a program which
    /// forgot an event between two streams expects least.
    pub(super) fn drain(&mut self, device: usize) {
        let Some(context) = self.devices[device].context() else { return };
        let streams = self.streams.iter().filter(|(_, stream)| stream.context == context);
        let streams: Vec<Handle> = streams.map(|(handle, _)| *handle).collect();
        for stream in streams.into_iter().rev() {
            self.run_stream(stream, None);
        }
    }

    /// Does what is queued in one stream; with `until`, only up to this recording.
    pub(super) fn run_stream(&mut self, stream: Handle, until: Option<usize>) {
        while !until.is_some_and(|recording| self.recordings[recording].is_done()) {
            let Some(found) = self.streams.get_mut(&stream) else { return };
            let context = found.context;
            let Some(task) = found.queue.pop_front() else { return };
            if let Ok(device) = self.device_of(context) {
                self.run_task(device, task);
            }
        }
    }

    /// On a broken device nothing happens any more, but what waits for it must not wait for ever.
    fn run_task(&mut self, device: usize, task: Task) {
        let broken = self.devices[device].is_broken();
        match task {
            Task::Record(recording) => self.recordings[recording].finish(),
            Task::Wait(recording) => {
                if let Some(stream) = self.recordings[recording].stream() {
                    self.run_stream(stream, Some(recording));
                }
            }
            Task::Free(address) => self.remove(device, address),
            _ if broken => {}
            Task::CopyIn { to, at, from, flip } => {
                let mut bytes = match from {
                    Source::Taken(bytes) => bytes,
                    Source::Pinned(range) => range.read(),
                };
                self::flip(&mut bytes, flip);
                to.write(at, &bytes);
            }
            Task::CopyOut { from, at, to } => {
                let mut bytes = vec![0; to.length()];
                from.read(at, &mut bytes);
                to.write(&bytes);
            }
            Task::CopyWithin { from, source, to, target, bytes } => {
                let mut through = vec![0; usize::try_from(bytes).unwrap_or(0)];
                from.read(source, &mut through);
                to.write(target, &through);
            }
            Task::Fill { to, at, pattern, count } => {
                to.write(at, &pattern.repeat(usize::try_from(count).unwrap_or(0)));
            }
            Task::Launch(work) => self.run_launch(device, &work),
        }
    }
}

/// Changes a bit. One past the end is one from the start: every copy of a bit or more can be hit.
pub(super) fn flip(bytes: &mut [u8], bit: Option<u64>) {
    if let Some(bit) = bit {
        let bit = bit % (8 * bytes.len() as u64);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
}
