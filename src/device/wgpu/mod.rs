//! BLAKE3 in the memory of any GPU that WebGPU reaches: Vulkan here.
//!
//! The planner (`device/plan`) says which chunks are hashed where they lie and which are gathered first. This engine turns
//! each of its batches into one submission (`launch.rs`, `batch.rs`): poison, the launches of the shader, a copy back.
//! A launch sees one *window* of one buffer (`windows.rs`), since a binding has a limit that buffers pass. That every
//! workgroup ran is counted in a *receipt*, so that stale values of an earlier batch are never results.

mod adapter;
mod batch;
mod gpu;
mod known;
mod launch;
mod memory;
mod regions;
mod staging;
#[cfg(test)]
mod tests;
mod windows;

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use self::batch::{Pending, Pipelines, Workspace};
use self::gpu::Gpu;
use self::staging::Ring;
use super::plan::{Plan, Results, Rules, SLOTS};
use super::{Backend, DeviceError, DeviceKind, Hashed, Job, Listed};
use crate::tree::CHUNK_LEN;

/// The version of `wgpu` to which the types of [`Wgpu::device`] and [`DeviceMemory::buffers`] belong.
pub use ::wgpu as api;

pub use self::memory::DeviceMemory;
pub use self::staging::Staging;

/// Bytes that the shader reads from one address on: a BLAKE3 block.
const SEGMENT: u64 = 64;

/// The shader loads 16 bytes at a time. Buffers are multiples of it, so that no load leaves one.
const CELL: u64 = 16;

/// Subtrees of up to 16 MiB come back as one value: two steps of merging.
const LEVELS: u32 = 14;

/// Chunks of one batch: 256 MiB, so that a submission is short for a watchdog and its values take 8 MiB.
const CHUNKS: u64 = 1 << 18;

/// Bytes that one batch gathers.
const SCRATCH: u64 = 32 << 20;

/// Bytes of a block of staging.
const STAGING: u64 = 8 << 20;

/// What an adapter allows, and what is made of it.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Bytes that a launch sees of a buffer.
    binding: u64,
    /// What they begin at a multiple of.
    align: u64,
    /// Workgroups in each direction of a launch.
    groups: u32,
    /// Bytes of one buffer.
    part: u64,
    /// Bytes of a block of staging.
    block: u64,
    /// Chunks of a batch.
    slots: u64,
    /// Bytes that a batch gathers.
    scratch: u64,
    /// The logarithm of the chunks in the largest subtree.
    levels: u8,
}

impl Limits {
    fn of(limits: &wgpu::Limits) -> Self {
        // Addresses in a window are u32, with room for the step from a window's last byte to the next.
        let binding = limits.max_storage_buffer_binding_size.min(1 << 31);
        let align = u64::from(limits.min_storage_buffer_offset_alignment).max(CELL);
        Self::new(binding, align, limits.max_compute_workgroups_per_dimension, limits.max_buffer_size, STAGING)
    }

    /// `binding` has room for a chunk and its alignment, at least 4 KiB.
    fn new(binding: u64, align: u64, groups: u32, buffer: u64, block: u64) -> Self {
        let binding = binding / align * align;
        let part = Self::part_of(buffer);
        let mut limits = Self { binding, align, groups, part, block, slots: 0, scratch: 0, levels: 0 };
        // Scratch and values are bound whole. A batch may pass its limit of scratch by a tail and the guard.
        let room = binding.min(limits.most_threads() * 4).min(part) - 2 * CHUNK_LEN;
        limits.levels = (room / CHUNK_LEN).max(1).ilog2().min(LEVELS) as u8;
        limits.scratch = room.min(SCRATCH.max(CHUNK_LEN << limits.levels));
        let most = (binding / 32).min(limits.most_threads()).min(limits.most_threads() / 64 * u64::from(SLOTS));
        limits.slots = most.clamp(1, CHUNKS);
        limits.levels = limits.levels.min(limits.slots.ilog2() as u8);
        limits
    }

    const fn rules(&self) -> Rules {
        let (levels, slots, scratch) = (self.levels, self.slots, self.scratch);
        Rules { segment: SEGMENT, cell: CELL, pitch: 1, levels, slots, scratch }
    }
}

/// A device that is reached through WebGPU, after its known-answer test. It may be shared between threads.
#[derive(Debug)]
pub struct Wgpu {
    gpu: Arc<Gpu>,
    limits: Limits,
    pipelines: Pipelines,
    workspace: Workspace,
    ring: Arc<Ring>,
    #[cfg(test)]
    skip: std::sync::atomic::AtomicUsize,
    #[cfg(test)]
    idle: std::sync::atomic::AtomicUsize,
}

/// Jobs under way on a [`Wgpu`].
#[derive(Debug)]
pub struct Ticket {
    plan: Plan,
    pending: Vec<Pending>,
    owner: Arc<Gpu>,
}

impl Wgpu {
    /// Opens the first adapter whose name contains `name`, in any case, or without a name the first that is hardware. They
    /// are ordered: discrete, integrated, virtual, unknown, software; then as their drivers list them. So a software
    /// adapter is opened only by name: `llvmpipe`.
    ///
    /// # Errors
    /// [`DeviceError::Absent`] and [`DeviceError::Refused`] if there is no such adapter,
    /// [`DeviceError::SelfTest`] if it computes wrong digests.
    pub fn open(name: Option<&str>) -> Result<Self, DeviceError> {
        let mut adapters = adapter::all();
        let names: Vec<_> = adapters.iter().map(|(_, info)| (info.name.clone(), info.device_type)).collect();
        let index = adapter::choose(&names, name)?;
        let (adapter, info) = adapters.swap_remove(index);
        Self::of(&adapter, &info, Limits::of)
    }

    /// Every adapter, each after an attempt to open it; or why there is none.
    #[must_use]
    pub fn list() -> Vec<Listed> {
        let adapters = adapter::all();
        if adapters.is_empty() {
            let device = DeviceKind::Wgpu(None);
            return vec![Listed::absent(device.clone(), DeviceError::Absent { device, why: adapter::absent() })];
        }
        let listed = adapters.iter().map(|(adapter, info)| Listed {
            kind: DeviceKind::Wgpu(Some(info.name.clone())),
            name: info.name.clone(),
            // WebGPU does not say.
            memory: None,
            capability: Some(adapter::word(info.device_type).to_owned()),
            driver: Some(format!("{} {} ({})", info.driver, info.driver_info, info.backend)),
            usable: Self::of(adapter, info, Limits::of).map(drop),
        });
        listed.collect()
    }

    fn of(
        adapter: &wgpu::Adapter,
        info: &wgpu::AdapterInfo,
        limits: impl Fn(&wgpu::Limits) -> Limits,
    ) -> Result<Self, DeviceError> {
        let kind = DeviceKind::Wgpu(Some(info.name.clone()));
        let required = adapter.limits();
        let limits = limits(&required);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("tensorseal"),
            required_limits: required,
            // Small blocks: what is large here has memory of its own.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).map_err(|error| {
            DeviceError::Driver { device: kind.clone(), call: "opening the adapter", why: error.to_string() }
        })?;
        let gpu = Arc::new(Gpu::new(device, queue, kind));
        let wgpu = Self {
            pipelines: Pipelines::new(&gpu)?,
            workspace: Workspace::new(&gpu)?,
            gpu,
            limits,
            ring: Arc::default(),
            #[cfg(test)]
            skip: usize::MAX.into(),
            #[cfg(test)]
            idle: usize::MAX.into(),
        };
        known::answers(&wgpu)?;
        Ok(wgpu)
    }

    /// The device, to which [`DeviceMemory`] belongs: pipelines that use verified memory are made on it. What they do
    /// wrong (an error that no scope of theirs takes, a lost device) is a failure of this engine, too, which then gives
    /// no digest any more.
    #[must_use]
    pub fn device(&self) -> &wgpu::Device {
        &self.gpu.device
    }

    /// The queue. Work submitted to it runs before or behind this engine's, in the order of the calls.
    #[must_use]
    pub fn queue(&self) -> &wgpu::Queue {
        &self.gpu.queue
    }

    /// Which device it is, by the whole name of its adapter.
    #[must_use]
    pub fn kind(&self) -> DeviceKind {
        self.gpu.kind.clone()
    }

    /// Whether a test wants this launch left out.
    #[cfg(test)]
    fn skips(&self, launch: usize) -> bool {
        self.skip.load(std::sync::atomic::Ordering::Relaxed) == launch
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, reason = "the other one needs it")]
    const fn skips(&self, _launch: usize) -> bool {
        false
    }
}

impl Drop for Wgpu {
    fn drop(&mut self) {
        // Blocks in flight come back and are freed; whatever fails now has no one to be told.
        let _ = self.gpu.checked("closing", || self.gpu.device.poll(wgpu::PollType::wait_indefinitely()));
    }
}

impl Backend for Wgpu {
    type Staging = Staging;
    type Buffer = DeviceMemory;
    type Stream = Infallible;
    type Ticket = Ticket;

    fn kind(&self) -> DeviceKind {
        Self::kind(self)
    }

    /// A free block of 8 MiB. There are four, and more only if callers hold those; 64 at most.
    fn staging(&self) -> Result<Staging, DeviceError> {
        self.ring.take(&self.gpu, self.limits.block)
    }

    fn blocks(&self) -> usize {
        staging::BLOCKS
    }

    /// Memory for `len` bytes. Where that is more than one buffer may have (2 GiB with most drivers), it is several, and
    /// the few chunks that straddle two are gathered: nothing else differs.
    fn alloc(&self, len: u64) -> Result<DeviceMemory, DeviceError> {
        self.allocate(len)
    }

    fn upload(&self, block: Staging, len: usize, to: &mut DeviceMemory, at: u64) -> Result<(), DeviceError> {
        self.copy_in(block, len, to, at)
    }

    fn submit(&self, jobs: &[Job<'_, DeviceMemory>], after: Option<&Infallible>) -> Result<Ticket, DeviceError> {
        if let Some(never) = after {
            match *never {}
        }
        self.gpu.usable()?;
        let (texts, spaces) = regions::texts(self, jobs)?;
        let plan = Plan::new(&texts, &self.limits.rules())?;
        let pending = plan.batches.iter().map(|batch| self.launch(batch, &spaces.buffers));
        Ok(Ticket { pending: pending.collect::<Result<_, _>>()?, plan, owner: Arc::clone(&self.gpu) })
    }

    fn wait(&self, ticket: Ticket) -> Result<Vec<Hashed>, DeviceError> {
        if !Arc::ptr_eq(&self.gpu, &ticket.owner) {
            return Err(self.misused("a ticket of another device"));
        }
        let mut results = Results::new(&ticket.plan);
        for (batch, pending) in ticket.plan.batches.iter().zip(&ticket.pending) {
            self.take(batch, pending, &mut results)?;
        }
        self.gpu.usable()?;
        results.finish(&ticket.plan, &self.gpu.kind)
    }

    fn download(&self, from: &DeviceMemory, range: Range<u64>) -> Result<Vec<u8>, DeviceError> {
        self.copy_out(from, range)
    }
}
