//! BLAKE3 on GPUs through WebGPU.

use super::{DeviceError, DeviceKind, Listed};

/// An open device.
#[derive(Debug)]
pub struct Wgpu {
    kind: DeviceKind,
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

    /// Which it is.
    #[must_use]
    pub fn kind(&self) -> DeviceKind {
        self.kind.clone()
    }
}
