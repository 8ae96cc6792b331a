//! The compiled kernels that this program carries, and which of them a device runs.

#![allow(unsafe_code)]

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::super::DeviceError;
use super::api::{INVALID_IMAGE, NO_BINARY_FOR_GPU, OUT_OF_MEMORY};
use super::context::{Context, Module};
use super::launch::Kernels;

/// How the kernels add. All give the same digests; which is the fastest depends on the device, and is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// By additions.
    Plain,
    /// Half of the three-way additions by a multiplication and an addition, on another pipe.
    Mad,
    /// All additions so.
    MadAll,
}

impl Policy {
    const ALL: [Self; 3] = [Self::Plain, Self::Mad, Self::MadAll];

    /// Those among which a device of this compute capability (90 for 9.0) chooses.
    pub(super) const fn of(architecture: u32) -> [Self; 2] {
        if architecture < 120 { [Self::Plain, Self::Mad] } else { [Self::Plain, Self::MadAll] }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Mad => "mad",
            Self::MadAll => "mad_all",
        }
    }

    /// PTX, which the driver compiles for any device from sm_80 on. A zero byte ends it.
    const fn ptx(self) -> &'static str {
        match self {
            Self::Plain => concat!(include_str!("../../../kernels/blake3_plain.ptx"), "\0"),
            Self::Mad => concat!(include_str!("../../../kernels/blake3_mad.ptx"), "\0"),
            Self::MadAll => concat!(include_str!("../../../kernels/blake3_mad_all.ptx"), "\0"),
        }
    }

    /// Machine code for exactly this compute capability.
    const fn cubin(self, architecture: u32) -> Option<&'static [u8]> {
        macro_rules! cubin {
            ($name:literal) => {
                Some(include_bytes!(concat!("../../../kernels/cubin/", $name, ".cubin")))
            };
        }
        match (self, architecture) {
            (Self::Plain, 80) => cubin!("plain_sm_80"),
            (Self::Plain, 86) => cubin!("plain_sm_86"),
            (Self::Plain, 89) => cubin!("plain_sm_89"),
            (Self::Plain, 90) => cubin!("plain_sm_90"),
            (Self::Plain, 100) => cubin!("plain_sm_100"),
            (Self::Plain, 120) => cubin!("plain_sm_120"),
            (Self::Mad, 80) => cubin!("mad_sm_80"),
            (Self::Mad, 86) => cubin!("mad_sm_86"),
            (Self::Mad, 89) => cubin!("mad_sm_89"),
            (Self::Mad, 90) => cubin!("mad_sm_90"),
            (Self::Mad, 100) => cubin!("mad_sm_100"),
            (Self::MadAll, 120) => cubin!("mad_all_sm_120"),
            _ => None,
        }
    }

    /// Loads the image for a device: the machine code for it, or else PTX, which the driver compiles.
    pub(super) fn load(self, context: &Arc<Context>) -> Result<Kernels, DeviceError> {
        let refuse = |code, what: &str, why: &str| match code {
            OUT_OF_MEMORY => context.out_of_memory("kernels", self.ptx().len() as u64),
            _ => {
                let call = "cuModuleLoadDataEx";
                DeviceError::Driver { device: context.kind(), call, why: format!("{what} of kernels {self}: {why}") }
            }
        };
        if let Some(cubin) = self.cubin(context.facts.architecture) {
            // SAFETY: a whole cubin, made from our kernels.
            match unsafe { Module::load(context, cubin) }? {
                Ok(module) => return Kernels::of(module),
                // A driver that is older than the compiler, or one that interprets PTX.
                Err((INVALID_IMAGE | NO_BINARY_FOR_GPU, _)) => {}
                Err((code, why)) => return Err(refuse(code, "machine code", &why)),
            }
        }
        // SAFETY: PTX of our kernels, with a zero byte behind it.
        match unsafe { Module::load(context, self.ptx().as_bytes()) }? {
            Ok(module) => Kernels::of(module),
            Err((code, why)) => Err(refuse(code, "PTX", &why)),
        }
    }

    /// A number that is another one as soon as one of the images for this compute capability is.
    pub(super) fn images(architecture: u32) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for policy in Self::of(architecture) {
            for image in [policy.ptx().as_bytes(), policy.cubin(architecture).unwrap_or_default()] {
                hasher.update(&(image.len() as u64).to_le_bytes()).update(image);
            }
        }
        hasher.finalize()
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|policy| policy.name() == text);
        named.ok_or_else(|| format!("{text:?} is not a way to add; known are plain, mad and mad_all"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_has_an_image_of_each_policy_it_may_choose() {
        for architecture in [80, 86, 87, 89, 90, 100, 103, 110, 120, 121, 999] {
            for policy in Policy::of(architecture) {
                assert!(policy.ptx().contains(".visible .entry chunk_values(") && policy.ptx().ends_with('\0'));
                assert_eq!(policy.ptx().matches('\0').count(), 1);
                let cubin = policy.cubin(architecture);
                assert_eq!(
                    cubin.is_some(),
                    [80, 86, 89, 90, 100, 120].contains(&architecture),
                    "{policy} {architecture}"
                );
                assert!(cubin.is_none_or(|cubin| cubin.starts_with(b"\x7fELF")));
                assert_eq!(policy.to_string().parse(), Ok(policy));
            }
        }
        assert_ne!(Policy::images(80), Policy::images(90));
        assert!("Plain".parse::<Policy>().is_err());
    }
}
