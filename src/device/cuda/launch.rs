//! One batch on the device: descriptors up, scratch and results poisoned, gather, chunks, merge, values back.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ops::Range;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::DeviceError;
use super::super::plan::{Batch, CELL, POISON, Results, SLOTS};
use super::api::{Address, Handle};
use super::context::{Context, Current, Event, Function, Module, Queue};
use super::describe::{Described, Part, VALUE};
use super::memory::{Allocation, Pinned};

/// The kernels of one image.
#[derive(Debug)]
pub(super) struct Kernels {
    chunks: Function,
    merge: Function,
    gather: Function,
    /// They live in it.
    _module: Module,
}

/// Threads in a block of `gather`.
const GATHER_THREADS: u32 = 256;
/// Shared memory of a block of `chunk_values`: address tables, two stages a warp, values.
const CHUNKS_SHARED: u32 = 41_984;
/// That of `merge_values`: a value a slot.
const MERGE_SHARED: u32 = SLOTS * VALUE as u32;

/// What the kernels multiply by instead of adding: they must not know that it is one.
const ONE: u32 = 1;

impl Kernels {
    pub(super) fn of(module: Module) -> Result<Self, DeviceError> {
        let chunks = module.function(c"chunk_values")?;
        let merge = module.function(c"merge_values")?;
        let gather = module.function(c"gather")?;
        Ok(Self { chunks, merge, gather, _module: module })
    }
}

/// Device memory that batches use one after the other: all of them run in one stream. Grows, and is kept up to a size.
#[derive(Debug, Default)]
pub(super) struct Space {
    scratch: Option<Arc<Allocation>>,
    work: Option<Arc<Allocation>>,
}

/// Larger memory than this is freed after its use.
const KEPT_SPACE: u64 = 256 << 20;

/// At least `len` bytes: what is there, or new memory in its place. Whoever uses the old one holds it.
fn fit(
    slot: &mut Option<Arc<Allocation>>,
    context: &Arc<Context>,
    len: u64,
    what: &'static str,
) -> Result<Arc<Allocation>, DeviceError> {
    if let Some(there) = slot.as_ref().filter(|there| there.len() >= len) {
        return Ok(Arc::clone(there));
    }
    *slot = None;
    // Some more, so that a little growth does not mean new memory each time.
    let roomy = len.next_multiple_of(1 << 20);
    let made = match Allocation::new(context, roomy, what) {
        Err(DeviceError::OutOfMemory { .. }) if roomy > len => Allocation::new(context, len, what),
        made => made,
    };
    let made = Arc::new(made?);
    if made.len() <= KEPT_SPACE {
        *slot = Some(Arc::clone(&made));
    }
    Ok(made)
}

/// Pinned memory between its uses, so much at most.
#[derive(Debug)]
pub(super) struct Pool {
    context: Arc<Context>,
    free: Mutex<Vec<Pinned>>,
}

const KEPT_PINNED: usize = 64 << 20;

impl Pool {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        Self { context: Arc::clone(context), free: Mutex::default() }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Pinned>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At least `len` bytes.
    pub(super) fn take(&self, len: usize) -> Result<Pinned, DeviceError> {
        {
            let mut free = self.free();
            let fitting = (0..free.len()).filter(|&at| free[at].len() >= len).min_by_key(|&at| free[at].len());
            if let Some(at) = fitting {
                return Ok(free.swap_remove(at));
            }
        }
        Pinned::new(&self.context, len.max(1).next_multiple_of(64 << 10), "pinned host memory for results")
    }

    /// Takes memory back that no copy uses any more.
    pub(super) fn give(&self, pinned: Pinned) {
        let mut free = self.free();
        if free.iter().map(Pinned::len).sum::<usize>() + pinned.len() <= KEPT_PINNED {
            free.push(pinned);
        }
    }
}

/// Where a batch lies on the device.
struct Placed {
    scratch: Address,
    descriptors: Address,
    /// What `chunk_values` writes.
    first: Address,
    /// What `merge_values` writes, or else the same.
    last: Address,
}

/// A batch on its way. Everything that the device may still use is in it.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) pinned: Pinned,
    /// Behind its last copy, when that is queued.
    pub(super) done: Option<Arc<Event>>,
    values: Range<usize>,
    /// The first and the last value that `chunk_values` left to `merge_values`: poison there would not show in results.
    witnesses: Range<usize>,
    /// What comes back of scratch.
    tails: Range<usize>,
    _memory: [Arc<Allocation>; 2],
}

impl Flight {
    /// Reserves all that a batch needs. Nothing is queued yet.
    fn new(
        context: &Arc<Context>,
        space: &mut Space,
        pool: &Pool,
        batch: &Batch,
        steps: [u8; 2],
    ) -> Result<(Self, Described, Placed), DeviceError> {
        let scratch = fit(&mut space.scratch, context, batch.scratch, "gathered bytes")?;
        let described = Described::new(batch, scratch.address(), steps);
        let values = u64::from(described.values) * VALUE;
        let between = if described.merges.is_some() { u64::from(described.first) * VALUE } else { 0 };
        let descriptors = described.bytes.len() as u64;
        let work = fit(&mut space.work, context, descriptors + between + values, "values and descriptors")?;
        let first = work.address() + descriptors;
        let placed = Placed { scratch: scratch.address(), descriptors: work.address(), first, last: first + between };
        // Sizes of memory that was allocated, or of a part of it: usize holds them.
        let mut end = descriptors as usize;
        let mut part = |len: u64| {
            let start = end;
            end += len as usize;
            start..end
        };
        let values = part(values);
        let witnesses = part(if between > 0 { 2 * VALUE } else { 0 });
        let tails = part(batch.scratch.saturating_sub(batch.cells));
        let mut pinned = pool.take(end)?;
        let (descriptions, results) = pinned.bytes_mut()[..end].split_at_mut(described.bytes.len());
        descriptions.copy_from_slice(&described.bytes);
        // What an earlier batch left here must not pass for what comes back of this one.
        results.fill(POISON);
        let flight = Self { pinned, done: None, values, witnesses, tails, _memory: [scratch, work] };
        Ok((flight, described, placed))
    }

    /// What came back, after `done`.
    ///
    /// # Errors
    /// [`DeviceError::NoResult`] if anything was not written.
    pub(super) fn take(&self, batch: &Batch, results: &mut Results, context: &Context) -> Result<(), DeviceError> {
        let bytes = self.pinned.bytes();
        let unwritten = |value: &[u8]| value.iter().all(|&byte| byte == POISON);
        if bytes[self.witnesses.clone()].chunks(VALUE as usize).any(unwritten) {
            return Err(DeviceError::NoResult { device: context.kind() });
        }
        results.take(batch, &bytes[self.values.clone()], &bytes[self.tails.clone()], &context.kind())
    }
}

/// A stream, and the thread in which its context is current.
pub(super) struct Here<'a> {
    pub(super) current: &'a Current<'a>,
    pub(super) queue: &'a Queue,
}

impl Here<'_> {
    /// Queues a copy of bytes of pinned memory to the device.
    ///
    /// # Safety
    /// Until the copy is done nobody writes to the pinned bytes or frees them or the device memory, which is valid and
    /// is written to by nobody else.
    pub(super) unsafe fn up(&self, from: &Pinned, bytes: Range<usize>, to: Address) -> Result<(), DeviceError> {
        let Some(source) = from.bytes().get(bytes) else {
            return Err(DeviceError::Worker(self.current.context.kind()));
        };
        if source.is_empty() {
            return Ok(());
        }
        let api = self.current.context.api;
        // SAFETY: the source is that long; the rest is the caller's promise.
        let code = unsafe { (api.cuMemcpyHtoDAsync_v2)(to, source.as_ptr().cast(), source.len(), self.queue.raw()) };
        self.current.context.check("cuMemcpyHtoDAsync", code)
    }

    /// Queues a copy of device memory to bytes of pinned memory.
    ///
    /// # Safety
    /// Until the copy is done nobody reads or writes the pinned bytes or frees them or the device memory, which is valid.
    pub(super) unsafe fn down(&self, from: Address, to: &Pinned, bytes: Range<usize>) -> Result<(), DeviceError> {
        if bytes.end > to.len() {
            return Err(DeviceError::Worker(self.current.context.kind()));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let api = self.current.context.api;
        // SAFETY: the bytes lie in the pinned memory; the rest is the caller's promise.
        let code = unsafe {
            let to = to.pointer().add(bytes.start).cast();
            (api.cuMemcpyDtoHAsync_v2)(to, from, bytes.len(), self.queue.raw())
        };
        self.current.context.check("cuMemcpyDtoHAsync", code)
    }

    /// Queues the filling of device memory with poison.
    ///
    /// # Safety
    /// The memory is valid until that is done, and used by nobody else.
    unsafe fn poison(&self, at: Address, len: u64) -> Result<(), DeviceError> {
        if len == 0 {
            return Ok(());
        }
        let api = self.current.context.api;
        // SAFETY: as the caller promises.
        let code = unsafe { (api.cuMemsetD8Async)(at, POISON, len as usize, self.queue.raw()) };
        self.current.context.check("cuMemsetD8Async", code)
    }

    /// Queues a launch.
    ///
    /// # Safety
    /// The arguments are those of the kernel, in number and type, and what they point to on the device is valid until
    /// the kernel is done.
    unsafe fn launch(
        &self,
        function: Function,
        blocks: u32,
        threads: u32,
        shared: u32,
        arguments: &mut [*mut c_void],
    ) -> Result<(), DeviceError> {
        let (api, stream): (_, Handle) = (self.current.context.api, self.queue.raw());
        // SAFETY: the arguments are read during the call; the rest is the caller's promise.
        let code = unsafe {
            let (arguments, none) = (arguments.as_mut_ptr(), ptr::null_mut());
            (api.cuLaunchKernel)(function.0, blocks, 1, 1, threads, 1, 1, shared, stream, arguments, none)
        };
        self.current.context.check("cuLaunchKernel", code)
    }

    /// # Safety
    /// The batch, as described, is on the device, and all that it points to is valid until the kernels are done.
    unsafe fn chunks_and_merge(
        &self,
        kernels: &Kernels,
        described: &Described,
        at: &Placed,
    ) -> Result<(), DeviceError> {
        let address = |part: Part| at.descriptors + part.at;
        let (mut groups, mut runs, mut first, mut one) =
            (address(described.groups), address(described.runs), at.first, ONE);
        let mut arguments = [pointer(&mut groups), pointer(&mut runs), pointer(&mut first), pointer(&mut one)];
        // SAFETY: chunk_values(const Group *, const Run *, u32 *, u32), a block a group; the rest is the caller's promise.
        unsafe { self.launch(kernels.chunks, described.groups.entries, SLOTS, CHUNKS_SHARED, &mut arguments) }?;
        let Some(merges) = described.merges else { return Ok(()) };
        let (mut groups, mut last) = (address(merges), at.last);
        let mut arguments = [pointer(&mut groups), pointer(&mut first), pointer(&mut last), pointer(&mut one)];
        // SAFETY: merge_values(const Group *, const u32 *, u32 *, u32), a block a group; the rest as above.
        unsafe { self.launch(kernels.merge, merges.entries, SLOTS, MERGE_SHARED, &mut arguments) }
    }

    /// # Safety
    /// As for `chunks_and_merge`; scratch is that of the batch.
    unsafe fn gather(
        &self,
        kernels: &Kernels,
        described: &Described,
        batch: &Batch,
        at: &Placed,
    ) -> Result<(), DeviceError> {
        let (mut pieces, mut scratch) = (at.descriptors + described.pieces.at, at.scratch);
        // Scratch has less than 2^32 bytes.
        let (mut count, mut cells) = (described.pieces.entries, (batch.scratch / CELL) as u32);
        let mut arguments = [pointer(&mut pieces), pointer(&mut count), pointer(&mut cells), pointer(&mut scratch)];
        // SAFETY: gather(const Piece *, u32, u32, uint4 *), a thread a cell; the rest is the caller's promise.
        unsafe { self.launch(kernels.gather, cells.div_ceil(GATHER_THREADS), GATHER_THREADS, 0, &mut arguments) }
    }

    /// Queues a batch. What it uses goes into `flights` before anything is queued, and must stay there until it is done,
    /// also if this fails.
    ///
    /// # Safety
    /// The memory that the batch reads is valid until then, and nothing that runs at the same time writes to it. All
    /// batches that use `space` run in one stream.
    pub(super) unsafe fn batch(
        &self,
        kernels: &Kernels,
        batch: &Batch,
        steps: [u8; 2],
        context: &Arc<Context>,
        (space, pool): (&mut Space, &Pool),
        flights: &mut Vec<Flight>,
    ) -> Result<(), DeviceError> {
        let (flight, described, at) = Flight::new(context, space, pool, batch, steps)?;
        flights.push(flight);
        let Some(flight) = flights.last_mut() else { return Err(DeviceError::Worker(context.kind())) };
        let first = at.last - at.first;
        // SAFETY: the pinned memory stays with the flight, and the device memory too, which batches of this stream share
        // one after the other. The ranges are those that `Flight::new` made room for; what the descriptors point to is
        // in this memory, or is what the caller promises to be valid.
        unsafe {
            self.up(&flight.pinned, 0..described.bytes.len(), at.descriptors)?;
            if batch.scratch > 0 {
                self.poison(at.scratch, batch.scratch)?;
                self.gather(kernels, &described, batch, &at)?;
            }
            if described.groups.entries > 0 {
                if first > 0 {
                    self.poison(at.first, VALUE)?;
                    self.poison(at.last - VALUE, VALUE)?;
                }
                self.poison(at.last, u64::from(described.values) * VALUE)?;
                self.chunks_and_merge(kernels, &described, &at)?;
            }
            self.down(at.last, &flight.pinned, flight.values.clone())?;
            if first > 0 {
                let (start, middle) = (flight.witnesses.start, flight.witnesses.start + VALUE as usize);
                self.down(at.first, &flight.pinned, start..middle)?;
                self.down(at.last - VALUE, &flight.pinned, middle..flight.witnesses.end)?;
            }
            self.down(at.scratch + batch.cells, &flight.pinned, flight.tails.clone())?;
        }
        flight.done = Some(self.queue.mark(self.current)?);
        Ok(())
    }

    /// Milliseconds that the kernels take for a batch, several times over.
    ///
    /// # Safety
    /// As for `batch`.
    pub(super) unsafe fn time(
        &self,
        kernels: &Kernels,
        batch: &Batch,
        steps: [u8; 2],
        context: &Arc<Context>,
        (space, pool): (&mut Space, &Pool),
        times: &mut [f32],
    ) -> Result<(), DeviceError> {
        let (flight, described, at) = Flight::new(context, space, pool, batch, steps)?;
        let mut run = || {
            // SAFETY: as in `batch`; the flight is kept below until everything is done.
            unsafe { self.up(&flight.pinned, 0..described.bytes.len(), at.descriptors) }?;
            for time in &mut *times {
                let start = Event::timed(self.queue, self.current)?;
                // SAFETY: as in `batch`.
                unsafe { self.chunks_and_merge(kernels, &described, &at) }?;
                let end = Event::timed(self.queue, self.current)?;
                end.synchronize(self.current)?;
                *time = end.since(&start, self.current)?;
            }
            Ok(())
        };
        let timed = run();
        if timed.is_ok() || context.settled(None) {
            pool.give(flight.pinned);
        } else {
            flight.pinned.free_after(None);
        }
        timed
    }
}

/// A kernel's argument, as the driver wants it: where it is.
const fn pointer<T>(argument: &mut T) -> *mut c_void {
    ptr::from_mut(argument).cast()
}
