//! What other code of the process lends: its device memory, and its streams. The one place where a caller must promise
//! what nobody can check.

#![allow(unsafe_code)]

use std::any::Any;
use std::ptr;

use super::super::DeviceError;
use super::Cuda;
use super::api::Handle;
use super::context::Context;
use super::memory::{self, Buffer, Memory};

/// A stream of other code in this process, torch's for example: jobs can be put behind what is queued in it
/// ([`Backend::submit`](super::super::Backend::submit)), and what is queued in it behind jobs
/// ([`Ticket::hold_back`](super::Ticket::hold_back)).
#[derive(Debug)]
pub struct Stream {
    device: usize,
    handle: Handle,
}

// SAFETY: a stream's handle may be used by any thread in which its context is current.
unsafe impl Send for Stream {}
// SAFETY: as above; the driver serialises what several threads queue.
unsafe impl Sync for Stream {}

impl Stream {
    /// The stream with this `CUstream` handle (in torch: `torch.cuda.Stream.cuda_stream`) on the device with this
    /// ordinal. 0 and 1 are the legacy default stream, 2 is the calling thread's.
    ///
    /// # Safety
    /// The stream belongs to the primary context of that device, and is not destroyed before this is dropped. It is
    /// not being captured into a graph when it is used here.
    #[must_use]
    pub const unsafe fn from_raw(device: usize, handle: u64) -> Self {
        Self { device, handle: ptr::without_provenance_mut(handle as usize) }
    }

    /// The handle, if it is a stream of this device.
    pub(super) fn handle(&self, context: &Context) -> Result<Handle, DeviceError> {
        if self.device == context.facts.ordinal {
            return Ok(self.handle);
        }
        let why = format!("the stream is one of cuda:{}; use a stream of the device that hashes", self.device);
        Err(DeviceError::Refused { device: context.kind(), why })
    }
}

impl Cuda {
    /// Memory that other code allocated on this device, to be hashed where it is: a torch tensor's `data_ptr()`, or what
    /// DLPack names. It is not copied, and `owner` is dropped when neither the buffer nor a job needs it any more.
    ///
    /// A hash of such memory says what was in it when the job ran. The caller orders the job behind whatever writes
    /// there, with a [`Stream`].
    ///
    /// # Errors
    /// [`DeviceError::Refused`] if the driver says that the memory is not this device's: host memory, another device's,
    /// freed, shorter than `len`, or managed where the device cannot read that.
    ///
    /// # Safety
    /// The `len` bytes from `address` on are allocated until `owner` is dropped, in the device's primary context or where
    /// its kernels may read them: the driver is not asked which context they are of, and reading those of another ends
    /// this one. While a job that reads them is under way, nothing writes to them; while they are uploaded to, nothing
    /// else uses them.
    pub unsafe fn foreign(
        &self,
        address: u64,
        len: u64,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Result<Buffer, DeviceError> {
        // SAFETY: as the caller promises.
        let memory = unsafe { Memory::foreign(&self.engine.context, address, len, owner) }?;
        Ok(Buffer { memory })
    }

    /// The ordinal of the device that memory at `address` is on, for memory of which only the address is known.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] for an address that the driver knows nothing of.
    pub fn ordinal_of(&self, address: u64) -> Result<usize, DeviceError> {
        let context = &self.engine.context;
        let known = memory::ordinal_of(context, address)?.and_then(|ordinal| usize::try_from(ordinal).ok());
        known.ok_or_else(|| {
            let why = format!("address {address:#x} is none that CUDA knows: it is host memory, or was freed");
            DeviceError::Refused { device: context.kind(), why }
        })
    }
}
