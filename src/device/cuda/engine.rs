//! Jobs and uploads in their order: one stream hashes, one copies, and events keep them apart where they touch.

#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::plan::{Plan, Region, Results, Rows, Rules, Text};
use super::super::{DeviceError, Hashed, Job};
use super::api::Address;
use super::context::{Context, Current, Event, Queue};
use super::describe::steps;
use super::launch::{Flight, Here, Kernels, Pool, Space};
use super::lent::Stream;
use super::memory::{Buffer, Memory, Pinned};
use super::staging::{Ring, Staging};
use crate::layout::{Extent, LayoutError};

/// What hashes in the memory of one device.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) context: Arc<Context>,
    rules: Rules,
    /// Where all jobs run, one after the other.
    compute: Queue,
    /// Where uploads run, beside them.
    copy: Queue,
    line: Mutex<Line>,
    pool: Pool,
    pub(super) ring: Arc<Ring>,
    /// The highest number of a ticket whose jobs are known to be done. Those before it then are, too.
    finished: AtomicU64,
}

/// What was queued, in order.
#[derive(Debug, Default)]
struct Line {
    space: Space,
    /// Behind the last upload.
    uploaded: Option<Arc<Event>>,
    reads: Vec<Read>,
    tickets: u64,
}

/// Memory that a job reads.
#[derive(Debug)]
struct Read {
    addresses: Range<Address>,
    ticket: u64,
    done: Arc<Event>,
}

/// Host bytes of jobs go up in pieces of at most this.
const HOST_PIECE: usize = 8 << 20;
/// Bytes come down in pieces of at most this.
const DOWN_PIECE: usize = 4 << 20;

impl Engine {
    pub(super) fn new(
        context: &Arc<Context>,
        rules: Rules,
        block: usize,
        blocks: usize,
    ) -> Result<Arc<Self>, DeviceError> {
        Ok(Arc::new(Self {
            context: Arc::clone(context),
            rules,
            compute: Queue::new(context)?,
            copy: Queue::new(context)?,
            line: Mutex::default(),
            pool: Pool::new(context),
            ring: Ring::new(context, block, blocks),
            finished: AtomicU64::new(0),
        }))
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    const fn compute<'a>(&'a self, current: &'a Current<'a>) -> Here<'a> {
        Here { current, queue: &self.compute }
    }

    /// That `memory` was allocated or lent here: only then is the order of uploads into it known.
    fn knows(&self, memory: &Memory) -> Result<(), DeviceError> {
        if Arc::ptr_eq(&memory.context, &self.context) {
            return Ok(());
        }
        let why =
            format!("the memory at {:#x} belongs to another open device: use the one it came from", memory.address);
        Err(DeviceError::Refused { device: self.context.kind(), why })
    }

    /// Queues a copy of the first `len` bytes of a block, behind the jobs that read where it goes.
    pub(super) fn upload(&self, block: Staging, len: usize, to: &Memory, at: u64) -> Result<(), DeviceError> {
        self.knows(to)?;
        let Some((addresses, pinned)) = to.addresses(at, len as u64).zip(block.block()).filter(|(_, b)| len <= b.len())
        else {
            return Err(LayoutError { index: 0 }.into());
        };
        let current = self.context.enter()?;
        if len == 0 {
            return Ok(());
        }
        let mut line = self.line();
        let finished = self.finished.load(Ordering::Acquire);
        line.reads.retain(|read| read.ticket > finished);
        let touches = |read: &&Read| read.addresses.start < addresses.end && addresses.start < read.addresses.end;
        let copied = || {
            // Jobs run one after the other: the last of them is behind the others.
            if let Some(read) = line.reads.iter().filter(touches).max_by_key(|read| read.ticket) {
                self.copy.wait_for(&current, &read.done)?;
            }
            let here = Here { current: &current, queue: &self.copy };
            // SAFETY: the block stays in the ring until `copied`, and the memory waits for it before it is freed. Jobs that
            // read there came before, and are waited for; jobs that come later wait for this.
            unsafe { here.up(pinned, 0..len, addresses.start) }?;
            self.copy.mark(&current)
        };
        match copied() {
            Ok(event) => {
                to.note_upload(&event);
                line.uploaded = Some(Arc::clone(&event));
                drop(line);
                block.fly(event);
                Ok(())
            }
            Err(error) => {
                // The copy may be queued without anything to say when it is done.
                if !self.context.settled(None) {
                    block.leak();
                }
                Err(error)
            }
        }
    }

    /// Waits for what was queued that reads or writes these bytes: somebody who knows no streams writes there next.
    pub(super) fn settle(&self, memory: &Memory, at: u64, len: u64) -> Result<Range<Address>, DeviceError> {
        self.knows(memory)?;
        let addresses = memory.addresses(at, len).ok_or(LayoutError { index: 0 })?;
        let current = self.context.enter()?;
        let finished = self.finished.load(Ordering::Acquire);
        let line = self.line();
        let touches = |read: &&Read| {
            read.ticket > finished && read.addresses.start < addresses.end && addresses.start < read.addresses.end
        };
        let read = line.reads.iter().filter(touches).max_by_key(|read| read.ticket).map(|read| Arc::clone(&read.done));
        drop(line);
        for event in read.into_iter().chain(memory.uploaded()) {
            event.synchronize(&current)?;
        }
        Ok(addresses)
    }

    /// Queues jobs behind all uploads so far and behind the stream `after`.
    pub(super) fn submit(
        self: &Arc<Self>,
        kernels: &Arc<Kernels>,
        jobs: &[Job<'_, Buffer>],
        after: Option<&Stream>,
        forced: Option<[u8; 2]>,
    ) -> Result<Ticket, DeviceError> {
        self.context.healthy()?;
        let after = after.map(|stream| stream.handle(&self.context)).transpose()?;
        let hosts: Vec<&[u8]> = jobs.iter().flat_map(|job| job.layout.extents()).filter_map(Extent::host).collect();
        let host_len = hosts.iter().map(|bytes| bytes.len() as u64).sum();
        let host = Memory::new(&self.context, host_len, "bytes of the host that belong to strings on it")?;
        let (texts, memories) = self.texts(jobs, &host)?;
        let plan = Plan::new(&texts, &self.rules)?;
        let (engine, code) = (Arc::clone(self), Arc::clone(kernels));
        let mut ticket = Ticket {
            engine,
            _kernels: code,
            plan,
            flights: Vec::new(),
            held: Vec::new(),
            memories,
            number: 0,
            landed: false,
        };
        if ticket.plan.batches.is_empty() {
            return Ok(ticket);
        }
        ticket.memories.push(Arc::clone(&host));

        let current = self.context.enter()?;
        let here = self.compute(&current);
        let mut line = self.line();
        self.up(&hosts, &host, &here, &mut ticket.held)?;
        if let Some(stream) = after {
            // SAFETY: whoever made the `Stream` promised that it is alive, and `handle` saw that it is of this device.
            let event = unsafe { Event::behind(stream, &self.context, &current) }?;
            self.compute.wait_for(&current, &event)?;
        }
        if let Some(uploaded) = &line.uploaded {
            self.compute.wait_for(&current, uploaded)?;
        }
        for batch in &ticket.plan.batches {
            let (steps, space) = (forced.unwrap_or_else(|| steps(batch)), (&mut line.space, &self.pool));
            // SAFETY: the ticket holds the memory and the flights until all is done. Uploads into it wait for that, and
            // whoever lent memory promised not to write to it meanwhile.
            unsafe { here.batch(kernels, batch, steps, &self.context, space, &mut ticket.flights) }?;
        }
        let Some(done) = ticket.done().cloned() else { return Err(DeviceError::Worker(self.context.kind())) };
        line.tickets += 1;
        ticket.number = line.tickets;
        let finished = self.finished.load(Ordering::Acquire);
        line.reads.retain(|read| read.ticket > finished);
        for region in texts.iter().flat_map(|text| &text.regions) {
            let read = Read { addresses: region.addresses(), ticket: ticket.number, done: Arc::clone(&done) };
            line.reads.push(read);
        }
        Ok(ticket)
    }

    /// Layouts in addresses, and the memory that they are in. Host bytes are, one after the other, in `host`.
    fn texts(&self, jobs: &[Job<'_, Buffer>], host: &Memory) -> Result<(Vec<Text>, Vec<Arc<Memory>>), DeviceError> {
        let (mut texts, mut memories) = (Vec::with_capacity(jobs.len()), Vec::new());
        let mut next = host.address;
        for job in jobs {
            let mut regions = Vec::new();
            for (index, extent) in job.layout.extents().iter().enumerate() {
                let (memory, at, len, rows) = match *extent {
                    Extent::Host(bytes) => {
                        let (at, len) = (next, bytes.len() as u64);
                        next += len;
                        regions.push(Region { space: 0, at, len, rows: None, readable: host.readable.clone() });
                        continue;
                    }
                    Extent::Range { buffer, at, len } => (&buffer.memory, at, len, None),
                    // The layout has seen that this is no more than the buffer.
                    Extent::Rows { buffer, at, row, stride, rows } => {
                        let apart = rows > 1 && stride != row;
                        (&buffer.memory, at, row * rows, apart.then_some(Rows { row, pitch: stride }))
                    }
                };
                if len == 0 {
                    continue;
                }
                self.knows(memory)?;
                let first = rows.map_or(len, |rows| rows.row);
                let at = memory.addresses(at, first).ok_or(LayoutError { index })?.start;
                regions.push(Region { space: 0, at, len, rows, readable: memory.readable.clone() });
                if !memories.iter().any(|held| Arc::ptr_eq(held, memory)) {
                    memories.push(Arc::clone(memory));
                }
            }
            regions.retain(|region| region.len > 0);
            texts.push(Text { regions, want: job.want });
        }
        Ok((texts, memories))
    }

    /// Queues the copy of host bytes, one after the other, to the device. Pinned memory in use goes to `held`.
    fn up(&self, hosts: &[&[u8]], to: &Memory, here: &Here<'_>, held: &mut Vec<Pinned>) -> Result<(), DeviceError> {
        let total: usize = hosts.iter().map(|bytes| bytes.len()).sum();
        if total == 0 {
            return Ok(());
        }
        let size = total.min(HOST_PIECE);
        held.push(self.pool.take(size)?);
        let Some(pinned) = held.last_mut() else { return Ok(()) };
        let (mut filled, mut sent) = (0, 0);
        for mut bytes in hosts.iter().copied() {
            while !bytes.is_empty() {
                let (now, later) = bytes.split_at(bytes.len().min(size - filled));
                pinned.bytes_mut()[filled..filled + now.len()].copy_from_slice(now);
                filled += now.len();
                bytes = later;
                if filled == size || sent + filled == total {
                    // SAFETY: the memory is the ticket's own and as long as all bytes; the pinned memory is held by the
                    // ticket, and not written to again before the copy is done.
                    unsafe { here.up(pinned, 0..filled, to.address + sent as u64) }?;
                    (sent, filled) = (sent + filled, 0);
                    if sent < total {
                        here.queue.synchronize(here.current)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads bytes back, behind everything queued so far.
    pub(super) fn download(&self, from: &Memory, range: Range<u64>) -> Result<Vec<u8>, DeviceError> {
        self.knows(from)?;
        let len = range.end.checked_sub(range.start).ok_or(LayoutError { index: 0 })?;
        let addresses = from.addresses(range.start, len).ok_or(LayoutError { index: 0 })?;
        let what = "a copy on the host";
        let size = usize::try_from(len).map_err(|_| self.context.out_of_memory(what, len))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| self.context.out_of_memory(what, len))?;
        let current = self.context.enter()?;
        let here = self.compute(&current);
        while bytes.len() < size {
            let piece = (size - bytes.len()).min(DOWN_PIECE);
            let pinned = self.pool.take(piece)?;
            let copy = || {
                let line = self.line();
                if let Some(uploaded) = &line.uploaded {
                    self.compute.wait_for(&current, uploaded)?;
                }
                // SAFETY: the memory is borrowed until this returns, and the pinned bytes are not touched before.
                unsafe { here.down(addresses.start + bytes.len() as u64, &pinned, 0..piece) }?;
                let copied = self.compute.mark(&current)?;
                drop(line);
                copied.synchronize(&current)
            };
            if let Err(error) = copy() {
                pinned.free_after(None);
                return Err(error);
            }
            self.context.healthy()?;
            bytes.extend_from_slice(&pinned.bytes()[..piece]);
            self.pool.give(pinned);
        }
        Ok(bytes)
    }

    /// Milliseconds that these kernels take for the first `len` bytes of `memory`, several times over.
    pub(super) fn time(
        &self,
        kernels: &Kernels,
        memory: &Memory,
        len: u64,
        times: &mut [f32],
    ) -> Result<(), DeviceError> {
        let want = super::super::Want::Root;
        let region = Region { space: 0, at: memory.address, len, rows: None, readable: memory.readable.clone() };
        let plan = Plan::new(&[Text { regions: vec![region], want }], &self.rules)?;
        let current = self.context.enter()?;
        let mut line = self.line();
        for batch in plan.batches.iter().take(1) {
            let here = self.compute(&current);
            let space = (&mut line.space, &self.pool);
            // SAFETY: the memory is borrowed until all is done, and nobody knows it who could write to it.
            unsafe { here.time(kernels, batch, steps(batch), &self.context, space, times) }?;
        }
        Ok(())
    }
}

impl Extent<'_, Buffer> {
    /// Its bytes, if they are on the host.
    const fn host(&self) -> Option<&[u8]> {
        match self {
            Self::Host(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl Region {
    /// All addresses from its first byte to its last.
    fn addresses(&self) -> Range<Address> {
        let span = self.rows.map_or(self.len, |Rows { row, pitch }| (self.len / row - 1) * pitch + row);
        self.at..self.at + span
    }
}

/// Jobs under way. Dropped without a wait, it waits for them, and gives nothing.
#[derive(Debug)]
pub struct Ticket {
    engine: Arc<Engine>,
    _kernels: Arc<Kernels>,
    plan: Plan,
    flights: Vec<Flight>,
    /// Pinned memory with bytes of the host.
    held: Vec<Pinned>,
    /// What the jobs read.
    memories: Vec<Arc<Memory>>,
    number: u64,
    /// All of it is known to be done.
    landed: bool,
}

impl Ticket {
    /// Behind all of it, if there is anything and it was queued.
    fn done(&self) -> Option<&Arc<Event>> {
        self.flights.last()?.done.as_ref()
    }

    /// Waits for the results.
    pub(super) fn wait(mut self) -> Result<Vec<Hashed>, DeviceError> {
        let context = Arc::clone(&self.engine.context);
        context.healthy()?;
        let mut results = Results::new(&self.plan);
        for (flight, batch) in self.flights.iter().zip(&self.plan.batches) {
            let Some(done) = &flight.done else { return Err(DeviceError::Worker(context.kind())) };
            let current = context.enter()?;
            done.synchronize(&current)?;
            drop(current);
            // Another thread may have met an error that lies behind these results, too.
            context.healthy()?;
            flight.take(batch, &mut results, &context).map_err(|error| context.close(error))?;
        }
        self.landed = true;
        results.finish(&self.plan, &context.kind()).map_err(|error| context.close(error))
    }

    /// Has what is queued in `stream` from now on wait until the jobs have read their memory. The host does not wait.
    ///
    /// # Errors
    /// [`DeviceError`] if the stream is another device's, or the device has failed.
    pub fn hold_back(&self, stream: &Stream) -> Result<(), DeviceError> {
        let context = &self.engine.context;
        let handle = stream.handle(context)?;
        let current = context.enter()?;
        let Some(done) = self.done() else { return Ok(()) };
        // SAFETY: whoever made the `Stream` promised that it is alive, and `handle` saw that it is of this device.
        unsafe { done.hold_back(handle, &current) }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.flights.is_empty() && self.held.is_empty() {
            return;
        }
        let context = &self.engine.context;
        // If queueing broke off, the last flight has no event, and everything is waited for.
        let settled = self.landed || context.settled(self.done().map(|done| &**done));
        let flights = self.flights.drain(..).map(|flight| flight.pinned);
        for pinned in flights.chain(self.held.drain(..)) {
            if settled {
                self.engine.pool.give(pinned);
            } else {
                // Asked again and left alone: a copy may still write to it.
                pinned.free_after(None);
            }
        }
        self.memories.clear();
        self.engine.finished.fetch_max(self.number, Ordering::AcqRel);
    }
}
