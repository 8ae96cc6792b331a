//! A device, and when it was last waited for: so that the time of a load can be told apart without timers in the loader.

use std::fs::File;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::device::cpu::Progress;
use crate::device::{Backend, DeviceError, DeviceKind, Hashed, Job, Pages, Storage, StorageError};

/// When a load got how far.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<Moments>);

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Moments {
    /// The first file was about to be read: all is listed, and the signature holds.
    pub(super) listed: Option<Instant>,
    /// The last byte was read, or the last result came from the device, whichever is later.
    pub(super) hashed: Option<Instant>,
}

impl Marks {
    /// What there is so far, which is forgotten.
    pub(super) fn take(&self) -> Moments {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn now(&self, which: impl FnOnce(&mut Moments) -> &mut Option<Instant>) {
        *which(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)) = Some(Instant::now());
    }
}

/// Files are hashed as they are read where memory is the host's, so that it is told of a byte that is hashed.
impl Progress for Marks {
    fn begin(&self, _files: usize, _bytes: Option<u64>) {
        self.now(|moments| &mut moments.listed);
    }

    fn advance(&self, _bytes: u64, _files: usize) {
        self.now(|moments| &mut moments.hashed);
    }
}

/// The same device in all that it does.
pub(super) struct Watched<'a, B> {
    pub(super) backend: &'a B,
    pub(super) marks: &'a Marks,
}

impl<B: Backend> Backend for Watched<'_, B> {
    type Staging = B::Staging;
    type Buffer = B::Buffer;
    type Stream = B::Stream;
    type Ticket = B::Ticket;

    fn kind(&self) -> DeviceKind {
        self.backend.kind()
    }

    fn staging(&self) -> Result<B::Staging, DeviceError> {
        self.backend.staging()
    }

    fn try_staging(&self) -> Result<Option<B::Staging>, DeviceError> {
        self.backend.try_staging()
    }

    fn blocks(&self) -> usize {
        self.backend.blocks()
    }

    fn alloc(&self, len: u64) -> Result<B::Buffer, DeviceError> {
        self.backend.alloc(len)
    }

    fn alloc_on(&self, len: u64, pages: Pages) -> Result<B::Buffer, DeviceError> {
        self.backend.alloc_on(len, pages)
    }

    fn on_host<'m>(&self, memory: &'m mut B::Buffer) -> Option<&'m mut [u8]> {
        self.backend.on_host(memory)
    }

    fn upload(&self, block: B::Staging, len: usize, to: &mut B::Buffer, at: u64) -> Result<(), DeviceError> {
        self.backend.upload(block, len, to, at)
    }

    fn submit(&self, jobs: &[Job<'_, B::Buffer>], after: Option<&B::Stream>) -> Result<B::Ticket, DeviceError> {
        self.backend.submit(jobs, after)
    }

    fn wait(&self, ticket: B::Ticket) -> Result<Vec<Hashed>, DeviceError> {
        let hashed = self.backend.wait(ticket);
        self.marks.now(|moments| &mut moments.hashed);
        hashed
    }

    fn download(&self, from: &B::Buffer, range: Range<u64>) -> Result<Vec<u8>, DeviceError> {
        self.backend.download(from, range)
    }

    fn storage(&self, file: File) -> Result<Box<dyn Storage<B::Buffer> + '_>, StorageError> {
        self.backend.storage(file)
    }
}
