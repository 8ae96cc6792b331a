//! NVIDIA's management library, `libnvidia-ml.so.1`, which comes with the driver and is looked for when first asked. Without it, or
//! without one of its functions, there is one reading less and never an error.

#![allow(unsafe_code)]

use std::ffi::{CString, c_uint, c_ulonglong};
use std::ptr;
use std::sync::OnceLock;

use nvml_wrapper_sys::bindings::{
    NvmlLib, nvmlC2cModeInfo_v1_t, nvmlClockType_enum_NVML_CLOCK_MEM, nvmlClockType_enum_NVML_CLOCK_SM, nvmlDevice_t,
    nvmlReturn_enum_NVML_SUCCESS as SUCCESS, nvmlReturn_t, nvmlTemperatureSensors_enum_NVML_TEMPERATURE_GPU,
};

use super::bound::Link;
use super::report::Reading;

const LIBRARY: &str = if cfg!(windows) { "nvml.dll" } else { "libnvidia-ml.so.1" };

/// Why clocks are lower than they could be, by bit, in the words of nvidia-smi.
const REASONS: [(c_ulonglong, &str); 9] = [
    (0x1, "idle"),
    (0x2, "applications clocks setting"),
    (0x4, "SW power cap"),
    (0x8, "HW slowdown"),
    (0x10, "sync boost"),
    (0x20, "SW thermal slowdown"),
    (0x40, "HW thermal slowdown"),
    (0x80, "HW power brake slowdown"),
    (0x100, "display clock setting"),
];

/// A device, as the library knows it.
pub(super) struct Nvml {
    library: &'static NvmlLib,
    device: nvmlDevice_t,
}

/// The library, loaded and started once, and never closed.
fn library() -> Option<&'static NvmlLib> {
    static LOADED: OnceLock<Option<NvmlLib>> = OnceLock::new();
    let load = || {
        // SAFETY: it loads the driver's library, whose initialisers we trust as all of it; the bindings were made from its header.
        let library = unsafe { NvmlLib::new(LIBRARY) }.ok()?;
        let start = *library.nvmlInit_v2.as_ref().ok()?;
        // SAFETY: the first call, as the manual wants it.
        (unsafe { start() } == SUCCESS).then_some(library)
    };
    LOADED.get_or_init(load).as_ref()
}

impl Nvml {
    /// The device that is plugged in there (`0000:01:00.0`). Not by its number: the driver's and the library's differ.
    pub(super) fn of(pci: &str) -> Option<Self> {
        let library = library()?;
        let (find, place) = (*library.nvmlDeviceGetHandleByPciBusId_v2.as_ref().ok()?, CString::new(pci).ok()?);
        let mut device: nvmlDevice_t = ptr::null_mut();
        // SAFETY: a string that ends with a zero byte, and room for one handle.
        let code = unsafe { find(place.as_ptr(), &raw mut device) };
        (code == SUCCESS).then_some(Self { library, device })
    }

    pub(super) fn read(&self) -> Reading {
        let clock = |which| {
            let get = *self.library.nvmlDeviceGetClockInfo.as_ref().ok()?;
            // SAFETY: a device that the library named, which lives as long as it, and room for one number.
            number(|to| unsafe { get(self.device, which, to) })
        };
        let celsius = || {
            let get = *self.library.nvmlDeviceGetTemperature.as_ref().ok()?;
            // SAFETY: as above.
            number(|to| unsafe { get(self.device, nvmlTemperatureSensors_enum_NVML_TEMPERATURE_GPU, to) })
        };
        let milliwatts = || {
            let get = *self.library.nvmlDeviceGetPowerUsage.as_ref().ok()?;
            // SAFETY: as above.
            number(|to| unsafe { get(self.device, to) })
        };
        Reading {
            clock_mhz: clock(nvmlClockType_enum_NVML_CLOCK_SM).map(f64::from),
            memory_clock_mhz: clock(nvmlClockType_enum_NVML_CLOCK_MEM).map(f64::from),
            celsius: celsius().map(f64::from),
            watts: milliwatts().map(|power: c_uint| f64::from(power) / 1e3),
            slowed_by: self.slowed_by().map(reasons).unwrap_or_default(),
        }
    }

    /// Bits of [`REASONS`]. Drivers before R535 have the function under its old name alone.
    fn slowed_by(&self) -> Option<c_ulonglong> {
        let new = self.library.nvmlDeviceGetCurrentClocksEventReasons.as_ref();
        let get = *new.or(self.library.nvmlDeviceGetCurrentClocksThrottleReasons.as_ref()).ok()?;
        // SAFETY: as above, with room for 64 bits.
        number(|to| unsafe { get(self.device, to) })
    }

    /// PCI Express at its best. None for a device that is joined to the processor by NVLink: that is faster, and how fast
    /// the library does not say.
    pub(super) fn link(&self) -> Option<Link> {
        if let Ok(get) = self.library.nvmlDeviceGetC2cModeInfoV.as_ref() {
            let mut mode = nvmlC2cModeInfo_v1_t { isC2cEnabled: 0 };
            // SAFETY: a device that the library named, and room for what the function of this version writes.
            if unsafe { get(self.device, &raw mut mode) } == SUCCESS && mode.isC2cEnabled != 0 {
                return None;
            }
        }
        let generation = *self.library.nvmlDeviceGetMaxPcieLinkGeneration.as_ref().ok()?;
        let width = *self.library.nvmlDeviceGetMaxPcieLinkWidth.as_ref().ok()?;
        // SAFETY: as in `read`, both.
        let generation = number(|to| unsafe { generation(self.device, to) })?;
        // SAFETY: as above.
        let lanes = number(|to| unsafe { width(self.device, to) })?;
        Some(Link { generation, lanes })
    }
}

/// What a function writes, if it says that it did.
fn number<T: Default>(get: impl FnOnce(*mut T) -> nvmlReturn_t) -> Option<T> {
    let mut value = T::default();
    (get(&raw mut value) == SUCCESS).then_some(value)
}

fn reasons(bits: c_ulonglong) -> Vec<String> {
    let known = REASONS.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, words)| (*words).to_owned());
    let rest = REASONS.iter().fold(bits, |bits, (bit, _)| bits & !bit);
    known.chain((rest != 0).then(|| format!("reasons {rest:#x}, which have no name here"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_words_and_unknown_ones_are_not_lost() {
        assert_eq!(reasons(0), Vec::<String>::new());
        assert_eq!(reasons(0x24), ["SW power cap", "SW thermal slowdown"]);
        assert_eq!(reasons(0x1201), ["idle", "reasons 0x1200, which have no name here"]);
    }
}
