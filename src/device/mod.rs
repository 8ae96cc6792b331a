//! Devices: what is asked for ([`DeviceKind`]), what is got ([`Device`]), and never one for the other.

mod any;
mod backend;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub(crate) mod file;
#[cfg_attr(not(any(feature = "cuda", feature = "wgpu")), allow(dead_code, reason = "only GPUs need it"))]
pub(crate) mod files;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod plan;
#[cfg(feature = "wgpu")]
pub mod wgpu;

use std::fmt;
use std::str::FromStr;

pub use any::{AnyBuffer, AnyStaging, AnyStream, AnyTicket};
pub use backend::{Backend, DeviceFacts, Hashed, Job, Pages, Storage, StorageError, StoragePath, Want};
pub use cpu::Cpu;
#[cfg(feature = "cuda")]
pub use cuda::Cuda;
#[cfg(feature = "wgpu")]
pub use wgpu::Wgpu;

use crate::digest::Algorithm;
use crate::layout::LayoutError;

/// A device that can be asked for. Every kind exists in every build, so that asking has a clear answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// The processor that runs this program.
    Cpu,
    /// A GPU through WebGPU: the best hardware adapter, or the one whose name contains this text in any case. A software
    /// adapter must be named.
    Wgpu(Option<String>),
    /// The CUDA device with this ordinal.
    Cuda(usize),
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Wgpu(None) => f.write_str("wgpu"),
            Self::Wgpu(Some(name)) => write!(f, "wgpu:{name}"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl DeviceKind {
    /// Where a file's digest by `algorithm` is computed if this device was asked for: BLAKE3 on the device itself,
    /// what must see the bytes in order on the CPU, from the very block of memory that is copied to the device.
    #[must_use]
    pub fn place_of(&self, algorithm: Algorithm) -> Self {
        if algorithm == Algorithm::Blake3 { self.clone() } else { Self::Cpu }
    }
}

impl FromStr for DeviceKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "wgpu" => Ok(Self::Wgpu(None)),
            Some(("wgpu", name)) if !name.is_empty() => Ok(Self::Wgpu(Some(name.to_owned()))),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", ordinal)) => {
                ordinal.parse().map(Self::Cuda).map_err(|_| format!("{ordinal:?} is not a CUDA device number"))
            }
            _ => Err(format!("{text:?} is not a device; known are cpu, wgpu, wgpu:NAME, cuda and cuda:N")),
        }
    }
}

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// This build has no code for it.
    #[error(
        "this build of tensorseal has no {0} engine: build it with the cargo feature of that name, or use --device cpu"
    )]
    NotCompiled(DeviceKind),
    /// It is not on this machine, or its driver is not.
    #[error("{device} is not available: {why}")]
    Absent {
        /// What was asked for.
        device: DeviceKind,
        /// What is missing, and what to do.
        why: String,
    },
    /// It is there and is not used.
    #[error("{device} is not used: {why}")]
    Refused {
        /// The device.
        device: DeviceKind,
        /// Why, and what to do.
        why: String,
    },
    /// The device has not enough free memory.
    #[error(
        "{device} has no {bytes} bytes of memory left for {what}; free memory there, hash less at a time, or use another device"
    )]
    OutOfMemory {
        /// The device.
        device: DeviceKind,
        /// What for.
        what: &'static str,
        /// How many were asked for.
        bytes: u64,
    },
    /// A call of its driver failed. Nothing that the device computes afterwards is used.
    #[error("{device}: {call} failed: {why}")]
    Driver {
        /// The device.
        device: DeviceKind,
        /// Which call.
        call: &'static str,
        /// What the driver says.
        why: String,
    },
    /// A launch was reported as done and left results unwritten.
    #[error("{device} reported success and did not write its results; they were not used. Update its driver")]
    NoResult {
        /// The device.
        device: DeviceKind,
    },
    /// A job that cannot be done.
    #[error("{0}")]
    Layout(#[from] LayoutError),
    /// A span of a job does not begin where a group begins.
    #[error(
        "a job's part of a string begins at chunk {first_chunk}, which is not a multiple of its groups' {chunks} chunks"
    )]
    Unaligned {
        /// Where it begins.
        first_chunk: u64,
        /// The size of its groups.
        chunks: u64,
    },
    /// The device is not one for this algorithm.
    #[error(
        "{device} computes blake3 only; {algorithm} must see the bytes in order, which is work for a CPU: use --device cpu, or ask for blake3"
    )]
    Algorithm {
        /// The device.
        device: DeviceKind,
        /// The algorithm.
        algorithm: Algorithm,
    },
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

impl DeviceError {
    /// Whether there is no such device, or none that is used: not one that is there and does not work.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        matches!(self, Self::NotCompiled(_) | Self::Absent { .. } | Self::Refused { .. })
    }
}

/// A device that passed its known-answer test.
#[derive(Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "a program has one or two, and does not move them about")]
pub enum Device {
    /// The processor.
    Cpu(Cpu),
    /// A GPU through WebGPU.
    #[cfg(feature = "wgpu")]
    Wgpu(Wgpu),
    /// A CUDA device.
    #[cfg(feature = "cuda")]
    Cuda(Cuda),
}

impl Device {
    /// Opens exactly the device that was asked for.
    ///
    /// # Errors
    /// [`DeviceError::NotCompiled`] for a kind without code in this build, [`DeviceError::Absent`] and
    /// [`DeviceError::Refused`] for one that this machine does not have or that is not used,
    /// [`DeviceError::SelfTest`] for a device that computes wrong digests. Never another device in its place.
    pub fn open(kind: DeviceKind) -> Result<Self, DeviceError> {
        match kind {
            DeviceKind::Cpu => Cpu::open(cpu::Settings::default()).map(Self::Cpu),
            #[cfg(feature = "wgpu")]
            DeviceKind::Wgpu(name) => Wgpu::open(name.as_deref()).map(Self::Wgpu),
            #[cfg(feature = "cuda")]
            DeviceKind::Cuda(ordinal) => Cuda::open(ordinal).map(Self::Cuda),
            #[allow(unreachable_patterns, reason = "which kinds are left depends on the features")]
            kind => Err(DeviceError::NotCompiled(kind)),
        }
    }

    /// Which it is.
    #[must_use]
    pub fn kind(&self) -> DeviceKind {
        match self {
            Self::Cpu(cpu) => cpu.kind(),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(wgpu) => wgpu.kind(),
            #[cfg(feature = "cuda")]
            Self::Cuda(cuda) => cuda.kind(),
        }
    }

    /// Every device that this build knows of, each with the reason if it cannot be used; at least one entry a kind.
    #[must_use]
    pub fn list() -> Vec<Listed> {
        let mut list = vec![Listed {
            kind: DeviceKind::Cpu,
            name: "CPU".to_owned(),
            memory: None,
            capability: None,
            driver: None,
            usable: Cpu::open(cpu::Settings::default()).map(drop),
        }];
        #[cfg(feature = "wgpu")]
        list.extend(Wgpu::list());
        #[cfg(not(feature = "wgpu"))]
        list.push(Listed::absent(DeviceKind::Wgpu(None), DeviceError::NotCompiled(DeviceKind::Wgpu(None))));
        #[cfg(feature = "cuda")]
        list.extend(Cuda::list());
        #[cfg(not(feature = "cuda"))]
        list.push(Listed::absent(DeviceKind::Cuda(0), DeviceError::NotCompiled(DeviceKind::Cuda(0))));
        list
    }
}

/// A device as a list shows it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Listed {
    /// What to ask for to get it.
    pub kind: DeviceKind,
    /// What its maker calls it.
    pub name: String,
    /// Bytes of its memory, if it has its own.
    pub memory: Option<u64>,
    /// What it can do, in its maker's terms: `sm_90`, `software`, ..
    pub capability: Option<String>,
    /// Its driver and the driver's version.
    pub driver: Option<String>,
    /// Why it cannot be used, if so.
    pub usable: Result<(), DeviceError>,
}

impl Listed {
    /// Whether it is a processor in the part of a GPU, which is used only by who names it.
    #[must_use]
    pub fn is_software(&self) -> bool {
        matches!(self.kind, DeviceKind::Wgpu(_)) && self.capability.as_deref() == Some("software")
    }

    /// An entry for a kind of which there is none.
    #[allow(dead_code, reason = "with all features every kind has its own list")]
    pub(crate) fn absent(kind: DeviceKind, why: DeviceError) -> Self {
        let name = kind.to_string();
        Self { kind, name, memory: None, capability: None, driver: None, usable: Err(why) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_an_error_and_not_the_cpu() {
        assert!(matches!(Device::open(DeviceKind::Cpu), Ok(Device::Cpu(_))));
        for kind in [DeviceKind::Wgpu(None), DeviceKind::Wgpu(Some("a b:c".to_owned())), DeviceKind::Cuda(3)] {
            assert!(!matches!(Device::open(kind.clone()), Ok(Device::Cpu(_))));
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU", "cpu:0", "wgpu:"] {
            assert!(text.parse::<DeviceKind>().is_err(), "{text}");
        }
    }
}
