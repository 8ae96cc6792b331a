//! One batch on the device: poison, launches, and the way back of what they wrote.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use wgpu::{BindingResource, BufferBinding, BufferUsages, CommandEncoder};

use super::super::DeviceError;
use super::super::plan::{Batch, POISON, Results};
use super::gpu::{Gpu, Reading};
use super::launch::{Kernel, Launches, Place};
use super::{Limits, Wgpu};

/// Bytes of the receipt: workgroups that have not run, and three words that say which batch's it is.
const RECEIPT: u64 = 16;

/// Bytes of poison that are copied at a time.
const POISONED: u64 = 1 << 20;

const WORK: BufferUsages = BufferUsages::STORAGE.union(BufferUsages::COPY_SRC).union(BufferUsages::COPY_DST);

/// Buffers that batches work in. One after the other: the device keeps submissions apart, so that all threads share
/// them.
#[derive(Debug)]
pub(super) struct Workspace {
    poison: wgpu::Buffer,
    receipt: wgpu::Buffer,
    kept: Mutex<Kept>,
    batches: AtomicU32,
}

#[derive(Debug, Default)]
struct Kept {
    scratch: Option<wgpu::Buffer>,
    /// After so many steps.
    values: Vec<wgpu::Buffer>,
}

/// The buffers that launches name.
#[derive(Debug)]
pub(super) struct Bound<'a> {
    pub(super) spaces: &'a [wgpu::Buffer],
    pub(super) scratch: Option<wgpu::Buffer>,
    pub(super) values: Vec<wgpu::Buffer>,
    pub(super) receipt: &'a wgpu::Buffer,
}

/// A batch under way.
#[derive(Debug)]
pub(super) struct Pending {
    reading: Reading,
    receipt: [u32; 4],
}

/// The size of a buffer of the workspace.
const fn at_least(bytes: u64) -> u64 {
    if bytes < 1 << 16 { 1 << 16 } else { bytes.next_power_of_two() }
}

impl Workspace {
    pub(super) fn new(gpu: &Gpu) -> Result<Self, DeviceError> {
        let poison = gpu.written("poison", POISONED, BufferUsages::COPY_SRC, |view| view.slice(..).fill(POISON))?;
        let receipt = gpu.buffer("the receipt", RECEIPT, WORK)?;
        Ok(Self { poison, receipt, kept: Mutex::default(), batches: AtomicU32::new(0) })
    }

    /// Buffers with room for a batch. They grow in powers of two up to what [`Limits`] lets a batch have.
    fn bind<'a>(
        &'a self,
        gpu: &Gpu,
        batch: &Batch,
        launches: &Launches,
        spaces: &'a [wgpu::Buffer],
    ) -> Result<Bound<'a>, DeviceError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { scratch, values } = &mut *kept;
        let make = |what, bytes| gpu.buffer(what, at_least(bytes), WORK);
        if batch.scratch > scratch.as_ref().map_or(0, wgpu::Buffer::size) {
            *scratch = Some(make("scratch", batch.scratch)?);
        }
        for (step, &bytes) in launches.values.iter().enumerate() {
            match values.get_mut(step) {
                Some(buffer) if bytes > buffer.size() => *buffer = make("values", bytes)?,
                None => values.push(make("values", bytes)?),
                Some(_) => {}
            }
        }
        Ok(Bound { spaces, scratch: scratch.clone(), values: values.clone(), receipt: &self.receipt })
    }

    /// Bytes that it has.
    #[cfg(test)]
    pub(super) fn held(&self) -> u64 {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.values.iter().chain(&kept.scratch).map(wgpu::Buffer::size).sum()
    }

    fn poison(&self, encoder: &mut CommandEncoder, buffer: &wgpu::Buffer, mut start: u64, end: u64) {
        while start < end {
            let here = POISONED.min(end - start);
            encoder.copy_buffer_to_buffer(&self.poison, 0, buffer, start, here);
            start += here;
        }
    }
}

impl Bound<'_> {
    fn get(&self, place: Place) -> Option<&wgpu::Buffer> {
        match place {
            Place::Space(space) => self.spaces.get(space as usize),
            Place::Scratch => self.scratch.as_ref(),
            Place::Values(step) => self.values.get(step),
        }
    }
}

impl Wgpu {
    /// Submits a batch.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], or the failure of the device.
    pub(super) fn launch(&self, batch: &Batch, spaces: &[wgpu::Buffer]) -> Result<Pending, DeviceError> {
        let (gpu, work) = (&*self.gpu, &self.workspace);
        let sizes: Vec<u64> = spaces.iter().map(wgpu::Buffer::size).collect();
        let mut launches = Launches::of(batch, &sizes, &self.limits)
            .map_err(|_| gpu.fail("planning", &"a chunk that is longer than a binding"))?;
        #[cfg(test)]
        launches.hinder(self.idle.load(Ordering::Relaxed));
        let number = work.batches.fetch_add(1, Ordering::Relaxed);
        let receipt = [launches.groups(), number, !number, u32::from_le_bytes([POISON; 4])];
        let opening = launches.orders.len() as u64 * 4;
        launches.orders.extend(receipt);
        let bound = work.bind(gpu, batch, &launches, spaces)?;
        let orders = self.orders(&launches)?;

        let values = launches.values.last().copied().unwrap_or_default();
        let results = bound.values.get(launches.values.len().wrapping_sub(1));
        let tails = batch.scratch.saturating_sub(batch.cells);
        let back = values + tails + RECEIPT;
        // Poisoned, too: a copy back that did not happen must not read as zeros.
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let target = gpu.written("results", back, usage, |view| view.slice(..).fill(POISON))?;

        let mut encoder = gpu.checked("encoding", || gpu.device.create_command_encoder(&<_>::default()))?;
        gpu.checked("encoding", || {
            encoder.copy_buffer_to_buffer(&orders, opening, &work.receipt, 0, RECEIPT);
            if let Some(results) = results {
                work.poison(&mut encoder, results, 0, values);
            }
            if let Some(scratch) = bound.scratch.as_ref().filter(|_| tails > 0) {
                work.poison(&mut encoder, scratch, batch.cells, batch.scratch);
            }
        })?;
        self.encode(&mut encoder, &launches, &orders, &bound)?;
        gpu.checked("encoding", || {
            if let Some(results) = results.filter(|_| values > 0) {
                encoder.copy_buffer_to_buffer(results, 0, &target, 0, values);
            }
            if let Some(scratch) = bound.scratch.as_ref().filter(|_| tails > 0) {
                encoder.copy_buffer_to_buffer(scratch, batch.cells, &target, values, tails);
            }
            encoder.copy_buffer_to_buffer(&work.receipt, 0, &target, values + tails, RECEIPT);
        })?;
        let index = gpu.submit(encoder)?;
        Ok(Pending { reading: gpu.read(target, index)?, receipt })
    }

    /// Waits for a batch and takes what it wrote.
    ///
    /// # Errors
    /// [`DeviceError::NoResult`] if it did not run in full, or the failure of the device.
    pub(super) fn take(&self, batch: &Batch, pending: &Pending, results: &mut Results) -> Result<(), DeviceError> {
        self.gpu.finish(&pending.reading, |back| {
            let no_result = || DeviceError::NoResult { device: self.kind() };
            let values = batch.subtrees.len() * 32;
            let tails = batch.scratch.saturating_sub(batch.cells) as usize;
            let (values, back) = back.split_at_checked(values).ok_or_else(no_result)?;
            let (tails, receipt) = back.split_at_checked(tails).ok_or_else(no_result)?;
            let [_, number, complement, seal] = pending.receipt;
            let expected = [0, number, complement, seal].map(u32::to_le_bytes);
            if receipt.get(..RECEIPT as usize) != Some(expected.as_flattened()) {
                return Err(no_result());
            }
            results.take(batch, values, tails, &self.gpu.kind)
        })
    }

    /// The orders of some launches, on the device.
    pub(super) fn orders(&self, launches: &Launches) -> Result<wgpu::Buffer, DeviceError> {
        let bytes: Vec<u8> = launches.orders.iter().flat_map(|word| word.to_le_bytes()).collect();
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        self.gpu.written("orders", bytes.len() as u64, usage, |view| view.slice(..bytes.len()).copy_from_slice(&bytes))
    }

    /// Puts launches into a pass, in order: each sees what those before it wrote.
    ///
    /// # Errors
    /// The failure of the device.
    pub(super) fn encode(
        &self,
        encoder: &mut CommandEncoder,
        launches: &Launches,
        orders: &wgpu::Buffer,
        bound: &Bound<'_>,
    ) -> Result<(), DeviceError> {
        let binding = |number, buffer, range: &std::ops::Range<u64>| {
            let size = std::num::NonZeroU64::new(range.end - range.start);
            let resource = BindingResource::Buffer(BufferBinding { buffer, offset: range.start, size });
            wgpu::BindGroupEntry { binding: number, resource }
        };
        #[cfg(test)]
        launches.check(&self.limits);
        let device = &self.gpu.device;
        let encoded = self.gpu.checked("encoding", || {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (index, launch) in launches.list.iter().enumerate() {
                if self.skips(index) {
                    continue;
                }
                let (input, output) = (bound.get(launch.input)?, bound.get(launch.output)?);
                let entries = [
                    binding(0, orders, &launch.orders),
                    binding(1, input, &launch.window),
                    binding(2, output, &launch.target),
                    binding(3, bound.receipt, &(0..RECEIPT)),
                ];
                let layout = &self.pipelines.layout;
                let group = wgpu::BindGroupDescriptor { label: None, layout, entries: &entries };
                pass.set_pipeline(self.pipelines.get(launch.kernel)?);
                pass.set_bind_group(0, &device.create_bind_group(&group), &[]);
                pass.dispatch_workgroups(launch.groups.0, launch.groups.1, 1);
            }
            Some(())
        })?;
        encoded.ok_or_else(|| self.gpu.fail("encoding", &"a launch without its buffers"))
    }
}

/// The compiled shader.
#[derive(Debug)]
pub(super) struct Pipelines {
    layout: wgpu::BindGroupLayout,
    kernels: Vec<(Kernel, wgpu::ComputePipeline)>,
}

impl Pipelines {
    pub(super) fn new(gpu: &Gpu) -> Result<Self, DeviceError> {
        gpu.checked("compiling the shader", || {
            let device = &gpu.device;
            let source = wgpu::ShaderSource::Wgsl(include_str!("../../../shaders/blake3.wgsl").into());
            let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some("blake3"), source });
            let entry = |binding, read_only| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            };
            let entries = [entry(0, true), entry(1, true), entry(2, false), entry(3, false)];
            let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some("launch"),
                entries: &entries,
            });
            let whole = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some("launch"),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
            let kernels = Kernel::ALL.map(|kernel| {
                let (entry_point, shift, rows) = match kernel {
                    Kernel::Aligned => ("chunks", 0.0, 0.0),
                    Kernel::Shifted => ("chunks", 1.0, 0.0),
                    Kernel::Rows => ("chunks", 1.0, 1.0),
                    Kernel::Merge => ("merge", 0.0, 0.0),
                    Kernel::Gather => ("gather", 0.0, 0.0),
                };
                let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                    label: Some(entry_point),
                    layout: Some(&whole),
                    module: &module,
                    entry_point: Some(entry_point),
                    compilation_options: wgpu::PipelineCompilationOptions {
                        constants: &[("SHIFT", shift), ("ROWS", rows)],
                        // Each slot that is read has been written.
                        zero_initialize_workgroup_memory: false,
                    },
                    cache: None,
                });
                (kernel, pipeline)
            });
            Self { layout, kernels: kernels.into() }
        })
    }

    fn get(&self, kernel: Kernel) -> Option<&wgpu::ComputePipeline> {
        self.kernels.iter().find(|(known, _)| *known == kernel).map(|(_, pipeline)| pipeline)
    }
}

impl Limits {
    /// Bytes that the workspace can have at most: three buffers of values, each up to the next power of two, and scratch.
    #[cfg(test)]
    pub(super) const fn workspace(&self) -> u64 {
        3 * at_least(self.slots * 32) + at_least(self.scratch + 2048)
    }
}
