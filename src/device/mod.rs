//! Devices: what is asked for ([`DeviceKind`]), what is got ([`Device`]), and never one for the other.

pub mod cpu;

use std::fmt;
use std::str::FromStr;

pub use cpu::Cpu;

use crate::digest::Algorithm;

/// A device that can be asked for. Every kind exists in every build, so that asking has a clear answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// The processor that runs this program.
    Cpu,
    /// A GPU through WebGPU.
    Wgpu,
    /// The CUDA device with this ordinal.
    Cuda(usize),
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Wgpu => f.write_str("wgpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for DeviceKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "wgpu" => Ok(Self::Wgpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", ordinal)) => {
                ordinal.parse().map(Self::Cuda).map_err(|_| format!("{ordinal:?} is not a CUDA device number"))
            }
            _ => Err(format!("{text:?} is not a device; known are cpu, wgpu, cuda and cuda:N")),
        }
    }
}

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// This build has no code for it.
    #[error("this build of tensorseal has no {0} engine; use --device cpu")]
    NotCompiled(DeviceKind),
    /// The known-answer test at opening gave another digest.
    #[error(
        "{device} computed a wrong {algorithm} digest of a known input; its hardware or this build is broken, and nothing it says can be used"
    )]
    SelfTest {
        /// The device.
        device: DeviceKind,
        /// Which digest was wrong.
        algorithm: Algorithm,
    },
    /// A thread of the engine ended by a panic: a defect of this program.
    #[error("a worker of the {0} engine failed; this is a defect of tensorseal, please report it")]
    Worker(DeviceKind),
}

/// A device that passed its known-answer test.
#[derive(Debug)]
#[non_exhaustive]
pub enum Device {
    /// The processor.
    Cpu(Cpu),
}

impl Device {
    /// Opens exactly the device that was asked for.
    ///
    /// # Errors
    /// [`DeviceError::NotCompiled`] for a kind without code in this build, [`DeviceError::SelfTest`] for a device that
    /// computes wrong digests. Never another device in its place.
    pub fn open(kind: DeviceKind) -> Result<Self, DeviceError> {
        match kind {
            DeviceKind::Cpu => Cpu::open(cpu::Settings::default()).map(Self::Cpu),
            DeviceKind::Wgpu | DeviceKind::Cuda(_) => Err(DeviceError::NotCompiled(kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_an_error_and_not_the_cpu() {
        assert!(matches!(Device::open(DeviceKind::Cpu), Ok(Device::Cpu(_))));
        for kind in [DeviceKind::Wgpu, DeviceKind::Cuda(3)] {
            assert_eq!(Device::open(kind).err(), Some(DeviceError::NotCompiled(kind)));
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU", "cpu:0"] {
            assert!(text.parse::<DeviceKind>().is_err(), "{text}");
        }
    }
}
