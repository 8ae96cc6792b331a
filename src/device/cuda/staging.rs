//! Pinned blocks on their way from a file to the device: a ring of a few, each used again when its copy is done.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::DeviceError;
use super::context::{Context, Event};
use super::memory::Pinned;

/// How long to sleep at most before asking again.
const NAP: Duration = Duration::from_millis(50);

/// All blocks of a device.
#[derive(Debug)]
pub(super) struct Ring {
    context: Arc<Context>,
    /// Bytes in a block.
    size: usize,
    /// Blocks at most.
    most: usize,
    blocks: Mutex<Blocks>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct Blocks {
    free: Vec<Pinned>,
    /// In the order of their copies.
    flying: VecDeque<(Pinned, Arc<Event>)>,
    made: usize,
}

impl Blocks {
    /// Whether there is nothing to be had before somebody gives a block back.
    fn all_lent(&self, most: usize) -> bool {
        self.free.is_empty() && self.flying.is_empty() && self.made >= most
    }
}

impl Ring {
    pub(super) fn new(context: &Arc<Context>, size: usize, most: usize) -> Arc<Self> {
        let blocks = Mutex::default();
        Arc::new(Self {
            context: Arc::clone(context),
            size: size.max(1),
            most: most.max(1),
            blocks,
            returned: Condvar::new(),
        })
    }

    /// Bytes in a block.
    pub(super) const fn block(&self) -> usize {
        self.size
    }

    /// Blocks at most.
    pub(super) const fn most(&self) -> usize {
        self.most
    }

    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A free block: one that lies there, else a new one, else the one whose copy began first, when that is done. If
    /// all are lent, waits for one to be dropped.
    pub(super) fn take(self: &Arc<Self>) -> Result<Staging, DeviceError> {
        loop {
            if let Some(block) = self.take_if_any()? {
                return Ok(block);
            }
            let blocks = self.blocks();
            if blocks.all_lent(self.most) {
                // With a limit, since a device that closes may have said so before this thread listened.
                drop(self.returned.wait_timeout(blocks, NAP).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    /// The same, but `None` if all are lent.
    pub(super) fn take_if_any(self: &Arc<Self>) -> Result<Option<Staging>, DeviceError> {
        self.context.healthy()?;
        let mut blocks = self.blocks();
        if let Some(block) = blocks.free.pop() {
            return Ok(Some(self.lend(block)));
        }
        if blocks.made < self.most {
            blocks.made += 1;
            drop(blocks);
            return match Pinned::new(&self.context, self.size, "a block of pinned host memory") {
                Ok(block) => Ok(Some(self.lend(block))),
                Err(error) => {
                    self.blocks().made -= 1;
                    self.returned.notify_all();
                    Err(error)
                }
            };
        }
        let Some((block, copied)) = blocks.flying.pop_front() else { return Ok(None) };
        drop(blocks);
        // On an error the block goes with its event: see `Flying`.
        let landed = Flying(Some((block, copied))).land(&self.context);
        if landed.is_err() {
            // Nobody else need wait: the device is closed.
            self.returned.notify_all();
        }
        landed.map(|block| Some(self.lend(block)))
    }

    fn lend(self: &Arc<Self>, block: Pinned) -> Staging {
        Staging { block: Some(block), ring: Arc::clone(self) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let blocks = self.blocks.get_mut().unwrap_or_else(PoisonError::into_inner);
        for flying in blocks.flying.drain(..) {
            drop(Flying(Some(flying)));
        }
    }
}

/// A block with a copy out of it under way. It is not freed before that is done; if nobody can say when, never.
struct Flying(Option<(Pinned, Arc<Event>)>);

impl Flying {
    fn land(mut self, context: &Context) -> Result<Pinned, DeviceError> {
        if let Some((_, copied)) = &self.0 {
            copied.synchronize(&context.enter()?)?;
        }
        match self.0.take() {
            Some((block, _)) => Ok(block),
            None => Err(DeviceError::Worker(context.kind())),
        }
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        let Some((block, copied)) = self.0.take() else { return };
        block.free_after(Some(&copied));
    }
}

/// A block of pinned host memory.
#[derive(Debug)]
pub struct Staging {
    block: Option<Pinned>,
    ring: Arc<Ring>,
}

impl AsMut<[u8]> for Staging {
    fn as_mut(&mut self) -> &mut [u8] {
        self.block.as_mut().map_or(&mut [], Pinned::bytes_mut)
    }
}

impl Staging {
    /// Its memory.
    pub(super) const fn block(&self) -> Option<&Pinned> {
        self.block.as_ref()
    }

    /// Gives it back to the ring, to be used again when `copied` has come to pass.
    pub(super) fn fly(mut self, copied: Arc<Event>) {
        if let Some(block) = self.block.take() {
            self.ring.blocks().flying.push_back((block, copied));
            self.ring.returned.notify_all();
        }
    }

    /// Leaves its memory to a copy of which nobody can say when it ends.
    pub(super) fn leak(mut self) {
        if let Some(block) = self.block.take() {
            block.leave_alone();
        }
        self.ring.blocks().made -= 1;
        self.ring.returned.notify_all();
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.ring.blocks().free.push(block);
            self.ring.returned.notify_all();
        }
    }
}
