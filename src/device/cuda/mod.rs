//! BLAKE3 in the memory of CUDA devices.

use super::{DeviceError, DeviceKind, Listed};

/// An open device.
#[derive(Debug)]
pub struct Cuda {
    kind: DeviceKind,
}

impl Cuda {
    /// Opens it.
    ///
    /// # Errors
    /// [`DeviceError`] if there is none, or it cannot be used.
    pub fn open(ordinal: usize) -> Result<Self, DeviceError> {
        Err(DeviceError::NotCompiled(DeviceKind::Cuda(ordinal)))
    }

    /// All of them.
    #[must_use]
    pub fn list() -> Vec<Listed> {
        vec![Listed::absent(DeviceKind::Cuda(0), DeviceError::NotCompiled(DeviceKind::Cuda(0)))]
    }

    /// Which it is.
    #[must_use]
    pub fn kind(&self) -> DeviceKind {
        self.kind.clone()
    }
}
