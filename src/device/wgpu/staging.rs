//! Blocks of host memory on their way to the device, a bounded number of them.
//!
//! A block is plain memory with a mapped buffer beside it. The caller fills and may read the former (it takes digests of
//! what it read from a file); the latter may be write-combined, which is why wgpu lets nobody read it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use wgpu::{BufferUsages, SubmissionIndex};

use super::super::DeviceError;
use super::gpu::Gpu;

/// Blocks that are made before one is waited for.
pub(super) const BLOCKS: usize = 4;

/// Blocks in the hands of callers at most: when none is in flight, waiting for one would be waiting for ever.
const MOST: usize = 64;

/// How long to sleep for a block that the device is done with, and another thread is about to put back.
const NAP: Duration = Duration::from_millis(20);

/// A block of host memory that can be uploaded.
#[derive(Debug)]
pub struct Staging {
    block: Option<Block>,
    ring: Arc<Ring>,
}

#[derive(Debug)]
struct Block {
    bytes: Box<[u8]>,
    mapped: wgpu::Buffer,
    /// Where it counts as long as it exists.
    ring: Weak<Ring>,
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(ring) = self.ring.upgrade() {
            ring.lock().total -= 1;
            ring.returned.notify_all();
        }
    }
}

/// All blocks.
#[derive(Debug, Default)]
pub(super) struct Ring {
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    free: Vec<Block>,
    /// How many there are, wherever they are.
    total: usize,
    /// When those in flight will be free, the first first.
    flying: VecDeque<SubmissionIndex>,
}

impl AsMut<[u8]> for Staging {
    fn as_mut(&mut self) -> &mut [u8] {
        self.block.as_mut().map_or(&mut [], |block| &mut block.bytes)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.ring.put_back(block);
        }
    }
}

impl Staging {
    /// Whether it comes from there.
    pub(super) fn is_of(&self, ring: &Arc<Ring>) -> bool {
        Arc::ptr_eq(&self.ring, ring)
    }

    /// Copies the first `len` bytes to where the device can fetch them.
    ///
    /// # Errors
    /// The failure of the device.
    pub(super) fn fill(mut self, gpu: &Gpu, len: u64) -> Result<Flight, DeviceError> {
        let Some(block) = self.block.take() else { return Err(gpu.fail("uploading", &"a block without memory")) };
        if len > 0 {
            gpu.checked("filling a block", || {
                block.mapped.get_mapped_range_mut(..).map(|mut view| {
                    view.slice(..len as usize).copy_from_slice(&block.bytes[..len as usize]);
                })
            })?
            .map_err(|error| gpu.fail("filling a block", &error))?;
        }
        gpu.checked("handing over a block", || block.mapped.unmap())?;
        Ok(Flight { block, ring: Arc::clone(&self.ring) })
    }
}

/// A block that the device fetches, or will.
#[derive(Debug)]
pub(super) struct Flight {
    block: Block,
    ring: Arc<Ring>,
}

impl Flight {
    pub(super) const fn buffer(&self) -> &wgpu::Buffer {
        &self.block.mapped
    }

    /// Puts the block back once the submission `after` has fetched it.
    ///
    /// # Errors
    /// The failure of the device.
    pub(super) fn recycle(self, gpu: &Gpu, after: SubmissionIndex) -> Result<(), DeviceError> {
        let Self { block, ring } = self;
        ring.lock().flying.push_back(after);
        let buffer = block.mapped.clone();
        gpu.checked("mapping a block", || {
            buffer.map_async(wgpu::MapMode::Write, .., move |result| {
                ring.lock().flying.pop_front();
                if result.is_ok() {
                    ring.put_back(block);
                }
            });
        })
    }
}

impl Ring {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many blocks there are.
    #[cfg(test)]
    pub(super) fn total(&self) -> usize {
        self.lock().total
    }

    fn put_back(&self, block: Block) {
        self.lock().free.push(block);
        self.returned.notify_all();
    }

    /// A free block of `len` bytes.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], or the failure of the device.
    pub(super) fn take(self: &Arc<Self>, gpu: &Gpu, len: u64) -> Result<Staging, DeviceError> {
        loop {
            gpu.usable()?;
            let mut state = self.lock();
            if let Some(block) = state.free.pop() {
                return Ok(Staging { block: Some(block), ring: Arc::clone(self) });
            }
            let Some(first) = state.flying.front().cloned().filter(|_| state.total >= BLOCKS) else {
                if state.total >= MOST {
                    return Err(DeviceError::OutOfMemory { device: gpu.kind.clone(), what: "staging", bytes: len });
                }
                // Counted before it is there: others who come meanwhile make theirs, too.
                state.total += 1;
                drop(state);
                return self.make(gpu, len).inspect_err(|_| self.lock().total -= 1);
            };
            drop(state);
            gpu.wait(&first)?;
            let state = self.lock();
            if state.free.is_empty() {
                // Another thread fetched it, or has not put it back yet.
                drop(self.returned.wait_timeout(state, NAP).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    fn make(self: &Arc<Self>, gpu: &Gpu, len: u64) -> Result<Staging, DeviceError> {
        let usage = BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC;
        let mapped = gpu.mapped("staging", len, usage)?;
        let bytes = vec![0; len as usize].into_boxed_slice();
        let block = Block { bytes, mapped, ring: Arc::downgrade(self) };
        Ok(Staging { block: Some(block), ring: Arc::clone(self) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::super::tests::open;
    use super::*;

    #[test]
    fn blocks_are_as_few_when_all_threads_ask_at_once() {
        let Some(wgpu) = open(|limits| Limits { block: 1 << 20, ..Limits::of(limits) }) else { return };
        let all = std::sync::Barrier::new(200);
        let take = || (all.wait(), wgpu.ring.take(&wgpu.gpu, 1 << 20)).1;
        let held: Vec<Staging> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..200).map(|_| scope.spawn(take)).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect()
        });
        assert_eq!(held.len(), 64);
    }
}
