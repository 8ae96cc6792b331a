//! Memory of the device: buffers, and copies to and from them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wgpu::BufferUsages;

use super::super::DeviceError;
use super::batch::Bound;
use super::gpu::Gpu;
use super::launch::{Launches, Place};
use super::staging::Staging;
use super::windows::Part;
use super::{Limits, Wgpu};
use crate::layout::Buffer;

/// Copies between buffers begin and end at multiples of this.
const COPY: u64 = wgpu::COPY_BUFFER_ALIGNMENT;

/// Buffers that one memory may be.
const MOST_PARTS: u64 = 4096;

/// Bytes that are read back at a time.
const DOWNLOAD: u64 = 32 << 20;

/// How many memories there were.
static MEMORIES: AtomicU64 = AtomicU64::new(0);

/// Memory of a WebGPU device. It is several buffers where it is larger than one may be.
#[derive(Debug)]
pub struct DeviceMemory {
    pub(super) parts: Vec<wgpu::Buffer>,
    /// Bytes in each part but the last.
    pub(super) part: u64,
    len: u64,
    /// No other memory of this process has it, or ever had: WebGPU tells no addresses.
    number: u64,
    owner: Arc<Gpu>,
}

impl Buffer for DeviceMemory {
    fn size(&self) -> u64 {
        self.len
    }

    fn place(&self) -> u64 {
        self.number
    }
}

impl DeviceMemory {
    /// Where these bytes are: for each part the place of the first among them, the part, and the range in it.
    fn places(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &wgpu::Buffer, Range<u64>)> {
        let (part, mut at) = (self.part, range.start);
        std::iter::from_fn(move || {
            (at < range.end).then(|| {
                let start = at % part;
                let end = part.min(start + (range.end - at));
                let place = (at - range.start, &self.parts[(at / part) as usize], start..end);
                at += end - start;
                place
            })
        })
    }

    /// The buffers that it is, for a pipeline of the caller's that computes with the very bytes that were hashed. There is
    /// one, of [`Buffer::size`](crate::layout::Buffer::size) bytes and up to 15 more, unless the memory is larger than a
    /// buffer may be: then each but the last has [`DeviceMemory::part_len`] bytes. They may be bound as storage and copied
    /// from, on [`Wgpu::device`](super::Wgpu::device).
    ///
    /// Nothing in this crate writes through them. The caller could (WebGPU has no buffer that only some may write to): who
    /// binds one as `read_write`, or copies into it, changes bytes that were verified, and nobody is told. Bind it as
    /// `read`; a [`Seal`](crate::seal::Seal) finds later whether all did.
    #[must_use]
    pub fn buffers(&self) -> &[wgpu::Buffer] {
        &self.parts
    }

    /// Bytes of this memory in each of its buffers but the last.
    #[must_use]
    pub const fn part_len(&self) -> u64 {
        self.part
    }

    fn holds(&self, at: u64, len: u64) -> bool {
        at.checked_add(len).is_some_and(|end| end <= self.len)
    }
}

impl Wgpu {
    pub(super) fn owns(&self, memory: &DeviceMemory) -> Result<(), DeviceError> {
        if Arc::ptr_eq(&self.gpu, &memory.owner) { Ok(()) } else { Err(self.misused("memory of another device")) }
    }

    /// A call that cannot be done. The device is as good as before.
    pub(super) fn misused(&self, why: &str) -> DeviceError {
        DeviceError::Driver { device: self.kind(), call: "the caller", why: why.to_owned() }
    }

    pub(super) fn allocate(&self, len: u64) -> Result<DeviceMemory, DeviceError> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        self.parts(len, |_, len| self.gpu.buffer("weights", len, usage))
    }

    /// Memory that holds `bytes`, each at its place; they are in order.
    pub(super) fn inbox(&self, len: u64, bytes: &[(u64, &[u8])]) -> Result<DeviceMemory, DeviceError> {
        self.parts(len, |start, len| {
            self.gpu.written("bytes of the host", len, BufferUsages::STORAGE, |view| {
                let first = bytes.partition_point(|(at, bytes)| at + bytes.len() as u64 <= start);
                for (at, bytes) in &bytes[first..] {
                    let (from, to) = (start.saturating_sub(*at), at.saturating_sub(start));
                    if to >= len {
                        break;
                    }
                    let count = (bytes.len() as u64 - from).min(len - to);
                    let source = &bytes[from as usize..(from + count) as usize];
                    view.slice(to as usize..(to + count) as usize).copy_from_slice(source);
                }
            })
        })
    }

    fn parts(
        &self,
        len: u64,
        make: impl Fn(u64, u64) -> Result<wgpu::Buffer, DeviceError>,
    ) -> Result<DeviceMemory, DeviceError> {
        let part = self.limits.part;
        // A driver that lends memory before it has it must not be asked for ever.
        if len > part.saturating_mul(MOST_PARTS) {
            return Err(DeviceError::OutOfMemory { device: self.kind(), what: "weights", bytes: len });
        }
        let parts = (0..len.div_ceil(part).max(1)).map(|index| make(index * part, part.min(len - index * part)));
        let number = MEMORIES.fetch_add(1, Ordering::Relaxed);
        Ok(DeviceMemory { parts: parts.collect::<Result<_, _>>()?, part, len, number, owner: Arc::clone(&self.gpu) })
    }

    pub(super) fn copy_in(
        &self,
        staging: Staging,
        len: usize,
        memory: &DeviceMemory,
        at: u64,
    ) -> Result<(), DeviceError> {
        self.owns(memory)?;
        // Another instance of WebGPU numbers its buffers as it likes: a block of it would be taken for one of these.
        if !staging.is_of(&self.ring) {
            return Err(self.misused("a block of another device"));
        }
        let total = len as u64;
        if !memory.holds(at, total) || total > self.limits.block {
            return Err(self.misused("an upload that does not fit"));
        }
        let block = staging.fill(&self.gpu, total)?;
        let mut encoder = self.gpu.checked("encoding", || self.gpu.device.create_command_encoder(&<_>::default()))?;
        for (from, buffer, to) in memory.places(at..at + total) {
            // Behind the last byte of a buffer is nothing that matters.
            let to_end = memory.len - at == total && from + (to.end - to.start) == total;
            let whole = if from % COPY != 0 || to.start % COPY != 0 {
                0
            } else if to_end {
                (to.end - to.start).next_multiple_of(COPY)
            } else {
                (to.end - to.start) / COPY * COPY
            };
            if whole > 0 {
                self.gpu.checked("copying to the device", || {
                    encoder.copy_buffer_to_buffer(block.buffer(), from, buffer, to.start, whole);
                })?;
            }
            let rest = to.start + whole..to.end;
            if rest.start < rest.end {
                self.shift_in(&mut encoder, block.buffer(), from + whole, buffer, rest)?;
            }
        }
        let index = self.gpu.submit(encoder)?;
        block.recycle(&self.gpu, index)
    }

    /// Copies bytes between places that a copy of the device cannot do, and changes none beside them.
    fn shift_in(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        block: &wgpu::Buffer,
        from: u64,
        buffer: &wgpu::Buffer,
        to: Range<u64>,
    ) -> Result<(), DeviceError> {
        // Kernels cannot read a block, so it goes by way of a buffer that they can.
        let start = from / COPY * COPY;
        let end = (from + (to.end - to.start)).next_multiple_of(COPY).min(block.size());
        let bounce = self.gpu.buffer("an upload", end - start, BufferUsages::STORAGE | BufferUsages::COPY_DST)?;
        let receipt = self.gpu.buffer("an upload", 16, BufferUsages::STORAGE)?;
        self.gpu.checked("copying to the device", || {
            encoder.copy_buffer_to_buffer(block, start, &bounce, 0, end - start);
        })?;
        let mut launches = Launches::default();
        let mut at = to.start;
        while at < to.end {
            let target = self.limits.window(at, buffer.size());
            let count = (to.end - at).min(target.end - at);
            // The source has a window of its own, which must show as many bytes.
            let source = from - start + (at - to.start);
            let window = self.limits.window(source, bounce.size());
            let count = count.min(window.end - source);
            let part = Part::of_bytes(source, at - target.start, count);
            launches.copy(&[part], Place::Space(0), &window, Place::Space(1), target, &self.limits);
            at += count;
        }
        let spaces = [bounce, buffer.clone()];
        let bound = Bound { spaces: &spaces, scratch: None, values: Vec::new(), receipt: &receipt };
        self.encode(encoder, &launches, &self.orders(&launches)?, &bound)
    }

    pub(super) fn copy_out(&self, memory: &DeviceMemory, range: Range<u64>) -> Result<Vec<u8>, DeviceError> {
        self.owns(memory)?;
        if range.start > range.end || range.end > memory.len {
            return Err(self.misused("a download that leaves its memory"));
        }
        let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
        for (_, buffer, part) in memory.places(range) {
            let mut at = part.start;
            while at < part.end {
                let start = at / COPY * COPY;
                let end = part.end.min(start + DOWNLOAD);
                let len = (end - start).next_multiple_of(COPY);
                let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
                let target = self.gpu.buffer("a download", len, usage)?;
                let mut encoder =
                    self.gpu.checked("encoding", || self.gpu.device.create_command_encoder(&<_>::default()))?;
                self.gpu.checked("copying from the device", || {
                    encoder.copy_buffer_to_buffer(buffer, start, &target, 0, len);
                })?;
                let index = self.gpu.submit(encoder)?;
                let reading = self.gpu.read(target, index)?;
                self.gpu.finish(&reading, |view| {
                    bytes.extend_from_slice(&view[(at - start) as usize..(end - start) as usize]);
                    Ok(())
                })?;
                at = end;
            }
        }
        Ok(bytes)
    }
}

impl Limits {
    /// Bytes that a part of memory may have.
    pub(super) const fn part_of(max_buffer_size: u64) -> u64 {
        // Parts end where chunks of most strings end.
        let step = if max_buffer_size >= 1 << 20 { 1 << 20 } else { 16 };
        max_buffer_size / step * step
    }
}
