//! A few slabs of device memory in rotation, and the tickets of what is being hashed in them.

use std::collections::VecDeque;

use super::{ALIGN, Results, Sizes};
use crate::device::cpu::Progress;
use crate::device::{Backend, DeviceError, DeviceKind, Job, Want};
use crate::layout::{Extent, Layout};

pub(super) struct Slabs<'a, B: Backend> {
    backend: &'a B,
    sizes: Sizes,
    progress: &'a dyn Progress,
    /// Where results go.
    pub(super) results: Results,
    /// The oldest first. Before the slabs, so that work ends before its memory does.
    in_flight: VecDeque<InFlight<B>>,
    /// Slabs that nobody fills and nothing is hashed in.
    free: Vec<B::Buffer>,
    /// What is being filled.
    filling: Filling<B>,
}

/// A slab that is being filled.
struct Filling<B: Backend> {
    slab: Option<B::Buffer>,
    /// Bytes in it, the block's included.
    filled: u64,
    /// Bytes in it that were uploaded: where the block will go.
    uploaded: u64,
    block: Option<B::Staging>,
    batch: Batch,
}

/// The strings in one slab.
#[derive(Debug, Default)]
struct Batch {
    strings: Vec<Piece>,
    bytes: u64,
    files: usize,
}

/// Bytes of one string in a slab.
#[derive(Debug, Clone, Copy)]
struct Piece {
    text: usize,
    at: u64,
    len: u64,
    want: Want,
}

struct InFlight<B: Backend> {
    ticket: B::Ticket,
    slab: B::Buffer,
    batch: Batch,
}

impl<'a, B: Backend> Slabs<'a, B> {
    pub(super) fn new(backend: &'a B, sizes: Sizes, progress: &'a dyn Progress) -> Self {
        let filling = Filling { slab: None, filled: 0, uploaded: 0, block: None, batch: Batch::default() };
        let (results, in_flight) = (Results::default(), VecDeque::new());
        Self { backend, sizes, progress, results, in_flight, free: Vec::new(), filling }
    }

    pub(super) fn kind(&self) -> DeviceKind {
        self.backend.kind()
    }

    /// Bytes that the next string may have in this slab.
    pub(super) const fn room(&self) -> u64 {
        self.sizes.slab.saturating_sub(self.filling.filled.next_multiple_of(ALIGN))
    }

    pub(super) fn room_for_jobs(&self) -> usize {
        self.sizes.jobs.saturating_sub(self.filling.batch.strings.len())
    }

    /// Where the next string begins.
    pub(super) const fn begin(&mut self) -> u64 {
        self.filling.filled = self.filling.filled.next_multiple_of(ALIGN);
        self.filling.filled
    }

    /// Room in host memory for the next bytes, at most `len` of them and at least one. [`Slabs::filled`] follows.
    pub(super) fn block(&mut self, len: u64) -> Result<&mut [u8], DeviceError> {
        let filling = &mut self.filling;
        let mut block = match filling.block.take() {
            Some(block) => block,
            None => {
                // Copies begin where strings do, not in the gaps between them.
                filling.uploaded = filling.filled;
                self.backend.staging()?
            }
        };
        let start = filling.filled - filling.uploaded;
        let size = block.as_mut().len() as u64;
        if start >= size {
            // Only a gap went over the end of the block: it is full as it is.
            self.upload(block, size)?;
            return self.block(len);
        }
        let end = size.min(start + len);
        Ok(&mut self.filling.block.insert(block).as_mut()[start as usize..end as usize])
    }

    /// So many bytes of the block have been filled.
    pub(super) fn filled(&mut self, len: u64) -> Result<(), DeviceError> {
        self.filling.filled += len;
        self.filling.batch.bytes += len;
        let pending = self.filling.filled - self.filling.uploaded;
        if let Some(mut block) = self.filling.block.take() {
            if block.as_mut().len() as u64 <= pending {
                self.upload(block, pending)?;
            } else {
                self.filling.block = Some(block);
            }
        }
        Ok(())
    }

    /// A string, or a piece of one, whose bytes are in the slab.
    pub(super) fn add(&mut self, text: usize, at: u64, len: u64, want: Want) {
        self.filling.batch.strings.push(Piece { text, at, len, want });
    }

    /// A file has been read to its end.
    pub(super) const fn file_done(&mut self) {
        self.filling.batch.files += 1;
    }

    /// Hands the slab to the device, and takes the oldest results if all slabs are with it.
    pub(super) fn submit(&mut self) -> Result<(), DeviceError> {
        if let Some(block) = self.filling.block.take() {
            let len = self.filling.filled - self.filling.uploaded;
            self.upload(block, len)?;
        }
        let batch = std::mem::take(&mut self.filling.batch);
        self.filling.filled = 0;
        self.filling.uploaded = 0;
        if batch.strings.is_empty() {
            // Empty files under shards have no strings.
            self.progress.advance(batch.bytes, batch.files);
            return Ok(());
        }
        // Strings without a byte need no memory, but jobs need a slab to go with.
        let slab = match self.filling.slab.take() {
            Some(slab) => slab,
            None => self.slab()?,
        };
        let job = |piece: &Piece| {
            let extent = Extent::Range { buffer: &slab, at: piece.at, len: piece.len };
            Ok(Job { layout: Layout::new(vec![extent])?, want: piece.want })
        };
        let jobs = batch.strings.iter().map(job).collect::<Result<Vec<_>, DeviceError>>()?;
        let ticket = self.backend.submit(&jobs, None)?;
        drop(jobs);
        self.in_flight.push_back(InFlight { ticket, slab, batch });
        if self.in_flight.len() >= self.sizes.slabs {
            self.take()?;
        }
        Ok(())
    }

    /// Waits for everything.
    pub(super) fn finish(&mut self) -> Result<(), DeviceError> {
        self.submit()?;
        while !self.in_flight.is_empty() {
            self.take()?;
        }
        Ok(())
    }

    /// Waits for the oldest work.
    fn take(&mut self) -> Result<(), DeviceError> {
        let Some(InFlight { ticket, slab, batch }) = self.in_flight.pop_front() else { return Ok(()) };
        let hashed = self.backend.wait(ticket)?;
        self.free.push(slab);
        let device = self.backend.kind();
        let none = || DeviceError::NoResult { device: device.clone() };
        if hashed.len() != batch.strings.len() {
            return Err(none());
        }
        for (piece, hashed) in batch.strings.iter().zip(hashed) {
            self.results.take(piece.text, piece.len, piece.want, hashed).ok_or_else(none)?;
        }
        self.progress.advance(batch.bytes, batch.files);
        Ok(())
    }

    fn upload(&mut self, block: B::Staging, len: u64) -> Result<(), DeviceError> {
        let mut slab = match self.filling.slab.take() {
            Some(slab) => slab,
            None => self.slab()?,
        };
        let uploaded = self.backend.upload(block, len as usize, &mut slab, self.filling.uploaded);
        self.filling.slab = Some(slab);
        self.filling.uploaded += len;
        uploaded
    }

    fn slab(&mut self) -> Result<B::Buffer, DeviceError> {
        if let Some(slab) = self.free.pop() {
            return Ok(slab);
        }
        match self.backend.alloc(self.sizes.slab) {
            // Fewer slabs do as well, only with less at once.
            Err(DeviceError::OutOfMemory { .. }) if !self.in_flight.is_empty() => {
                self.sizes.slabs = self.in_flight.len();
                self.take()?;
                self.slab()
            }
            slab => slab,
        }
    }
}
