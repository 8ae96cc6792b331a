//! BLAKE3 on GPUs through WebGPU.

use std::convert::Infallible;
use std::ops::Range;

use super::{Backend, DeviceError, DeviceKind, Hashed, Job, Listed};
use crate::layout::Buffer;

/// An open device. There is none yet.
#[derive(Debug)]
pub struct Wgpu(Infallible);

/// Its memory.
#[derive(Debug)]
pub struct Memory(Infallible);

impl Buffer for Memory {
    fn size(&self) -> u64 {
        match self.0 {}
    }
}

impl Wgpu {
    /// Opens it.
    ///
    /// # Errors
    /// [`DeviceError`] if there is none, or it cannot be used.
    pub fn open(name: Option<&str>) -> Result<Self, DeviceError> {
        Err(DeviceError::NotCompiled(DeviceKind::Wgpu(name.map(str::to_owned))))
    }

    /// All of them.
    #[must_use]
    pub fn list() -> Vec<Listed> {
        vec![Listed::absent(DeviceKind::Wgpu(None), DeviceError::NotCompiled(DeviceKind::Wgpu(None)))]
    }
}

impl Backend for Wgpu {
    type Staging = Vec<u8>;
    type Buffer = Memory;
    type Stream = Infallible;
    type Ticket = Infallible;

    fn kind(&self) -> DeviceKind {
        match self.0 {}
    }

    fn staging(&self) -> Result<Self::Staging, DeviceError> {
        match self.0 {}
    }

    fn alloc(&self, _len: u64) -> Result<Self::Buffer, DeviceError> {
        match self.0 {}
    }

    fn upload(&self, _block: Vec<u8>, _len: usize, _to: &mut Memory, _at: u64) -> Result<(), DeviceError> {
        match self.0 {}
    }

    fn submit(&self, _jobs: &[Job<'_, Memory>], _after: Option<&Infallible>) -> Result<Infallible, DeviceError> {
        match self.0 {}
    }

    fn wait(&self, ticket: Infallible) -> Result<Vec<Hashed>, DeviceError> {
        match ticket {}
    }

    fn download(&self, _from: &Memory, _range: Range<u64>) -> Result<Vec<u8>, DeviceError> {
        match self.0 {}
    }
}
