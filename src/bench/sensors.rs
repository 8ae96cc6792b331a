//! Clocks, temperature, power at a moment: of CUDA devices by NVML, of the processor by Linux, of others nothing. What is not
//! told is left out.

use std::fs;
use std::path::{Path, PathBuf};

use super::bound::Link;
#[cfg(feature = "cuda")]
use super::nvml::Nvml;
use super::report::Reading;
use crate::device::{DeviceFacts, DeviceKind};

/// Who can be asked about a device.
pub(super) enum Sensors {
    /// Nobody.
    None,
    /// The system, about processors.
    Linux(PathBuf),
    /// NVIDIA's library.
    #[cfg(feature = "cuda")]
    Nvml(Nvml),
}

impl Sensors {
    /// Those of a device.
    pub(super) fn of(kind: &DeviceKind, facts: &DeviceFacts) -> Self {
        match kind {
            DeviceKind::Cpu => Self::Linux("/sys".into()),
            #[cfg(feature = "cuda")]
            DeviceKind::Cuda(_) => facts.pci.as_deref().and_then(Nvml::of).map_or(Self::None, Self::Nvml),
            _ => {
                let _ = facts;
                Self::None
            }
        }
    }

    /// What they say now; none if that is nothing.
    pub(super) fn read(&self) -> Option<Reading> {
        let reading = match self {
            Self::None => return None,
            Self::Linux(root) => linux(root),
            #[cfg(feature = "cuda")]
            Self::Nvml(nvml) => nvml.read(),
        };
        (reading != Reading::default()).then_some(reading)
    }

    /// The link between the host and the device, at its best: in a pause it is slower, to save power.
    pub(super) fn link(&self) -> Option<Link> {
        #[cfg(feature = "cuda")]
        if let Self::Nvml(nvml) = self {
            return nvml.link();
        }
        None
    }
}

/// The mean of all processors' clocks, and the highest temperature of a processor.
fn linux(root: &Path) -> Reading {
    let clocks =
        entries(&root.join("devices/system/cpu")).filter_map(|cpu| number(&cpu.join("cpufreq/scaling_cur_freq")));
    let clocks: Vec<f64> = clocks.collect();
    // In kHz.
    let clock_mhz = (!clocks.is_empty()).then(|| clocks.iter().sum::<f64>() / clocks.len() as f64 / 1e3);
    // In thousandths of a degree, both. The first input of these drivers is the whole package.
    let named = |path: &Path, name: &str| {
        fs::read_to_string(path.join(name)).map(|text| text.trim().to_owned()).unwrap_or_default()
    };
    let chips = entries(&root.join("class/hwmon"))
        .filter(|chip| ["coretemp", "k10temp", "zenpower"].contains(&&*named(chip, "name")));
    let zones = entries(&root.join("class/thermal")).filter(|zone| {
        let kind = named(zone, "type");
        kind == "x86_pkg_temp" || kind.starts_with("cpu")
    });
    let inputs = chips.map(|chip| chip.join("temp1_input")).chain(zones.map(|zone| zone.join("temp")));
    let celsius = inputs.filter_map(|input| number(&input)).map(|value| value / 1e3).reduce(f64::max);
    Reading { clock_mhz, celsius, ..Reading::default() }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn number(path: &Path) -> Option<f64> {
    fs::read_to_string(path).ok()?.trim().parse::<u32>().ok().map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_read_in_its_units_and_only_where_it_means_a_processor() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "3000000\n"),
            ("devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "2000000\n"),
            ("devices/system/cpu/cpu2/online", "0\n"),
            ("class/hwmon/hwmon0/name", "nvme\n"),
            ("class/hwmon/hwmon0/temp1_input", "90000\n"),
            ("class/hwmon/hwmon1/name", "k10temp\n"),
            ("class/hwmon/hwmon1/temp1_input", "61250\n"),
            ("class/thermal/thermal_zone0/type", "acpitz\n"),
            ("class/thermal/thermal_zone0/temp", "95000\n"),
            ("class/thermal/thermal_zone1/type", "x86_pkg_temp\n"),
            ("class/thermal/thermal_zone1/temp", "60000\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let reading = Sensors::Linux(root.path().to_owned()).read().unwrap();
        assert_eq!(reading, Reading { clock_mhz: Some(2500.0), celsius: Some(61.25), ..Reading::default() });
        assert_eq!(Sensors::Linux(root.path().join("class")).read(), None);
        let nobody = Sensors::of(&DeviceKind::Wgpu(None), &DeviceFacts::default());
        assert!(nobody.read().is_none() && nobody.link().is_none());
    }
}
