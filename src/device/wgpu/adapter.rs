//! Which adapter: hardware, or one that is named.

use wgpu::{Adapter, AdapterInfo, Backends, DeviceType, Instance, InstanceDescriptor, InstanceFlags};

use super::super::{DeviceError, DeviceKind};

/// All adapters, in the order in which they are preferred: discrete, integrated, virtual, unknown, software; those of a
/// kind as their drivers list them.
pub(super) fn all() -> Vec<(Adapter, AdapterInfo)> {
    let descriptor = InstanceDescriptor {
        backends: Backends::PRIMARY,
        // No validation layers, which a debug build would look for.
        flags: InstanceFlags::empty(),
        ..InstanceDescriptor::new_without_display_handle()
    };
    let instance = Instance::new(descriptor);
    let adapters = pollster::block_on(instance.enumerate_adapters(Backends::PRIMARY));
    let mut adapters: Vec<_> = adapters.into_iter().map(|adapter| (adapter.get_info(), adapter)).collect();
    adapters.sort_by_key(|(info, _)| rank(info.device_type));
    adapters.into_iter().map(|(info, adapter)| (adapter, info)).collect()
}

const fn rank(kind: DeviceType) -> u8 {
    match kind {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    }
}

/// What kind of adapter it is, in a word.
pub(super) const fn word(kind: DeviceType) -> &'static str {
    match kind {
        DeviceType::DiscreteGpu => "discrete",
        DeviceType::IntegratedGpu => "integrated",
        DeviceType::VirtualGpu => "virtual",
        DeviceType::Other => "unknown",
        DeviceType::Cpu => "software",
    }
}

/// The first of some adapters whose name contains `name`, in any case; without a name the first that is hardware.
///
/// # Errors
/// [`DeviceError::Absent`] if there is none, [`DeviceError::Refused`] if there is software only and it was not named.
pub(super) fn choose(adapters: &[(String, DeviceType)], name: Option<&str>) -> Result<usize, DeviceError> {
    let name = name.filter(|name| !name.is_empty());
    let device = DeviceKind::Wgpu(name.map(str::to_owned));
    let Some((first, _)) = adapters.first() else {
        return Err(DeviceError::Absent { device, why: absent() });
    };
    if let Some(name) = name {
        let name = name.to_lowercase();
        return adapters.iter().position(|(known, _)| known.to_lowercase().contains(&name)).ok_or_else(|| {
            let known: Vec<&str> = adapters.iter().map(|(name, _)| name.as_str()).collect();
            let why = format!("no adapter has this in its name; there is {}", known.join(", "));
            DeviceError::Absent { device, why }
        });
    }
    adapters.iter().position(|(_, kind)| *kind != DeviceType::Cpu).ok_or_else(|| {
        let word = first.split_whitespace().next().unwrap_or(first);
        let why = format!(
            "there is no GPU that Vulkan can reach, only software ({first}), which is slower than --device cpu; to use \
             it all the same, name it: --device wgpu:{word}"
        );
        DeviceError::Refused { device, why }
    })
}

/// What is missing where there is no adapter.
pub(super) fn absent() -> String {
    "Vulkan finds no adapter: either its loader is missing (install libvulkan1, or vulkan-loader) or the driver of the \
     GPU is (on Debian mesa-vulkan-drivers, or NVIDIA's with its nvidia_icd.json); or use --device cpu"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapters(list: &[(&str, DeviceType)]) -> Vec<(String, DeviceType)> {
        list.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect()
    }

    #[test]
    fn software_is_used_only_by_its_name() {
        let both = adapters(&[("NVIDIA H100", DeviceType::DiscreteGpu), ("llvmpipe (LLVM 15)", DeviceType::Cpu)]);
        assert_eq!(choose(&both, None), Ok(0));
        assert_eq!(choose(&both, Some("LLVMpipe")), Ok(1));
        assert_eq!(choose(&both, Some("h100")), Ok(0));
        assert!(matches!(choose(&both, Some("radeon")), Err(DeviceError::Absent { .. })));
        let error = choose(&both[1..], None).unwrap_err();
        assert!(matches!(error, DeviceError::Refused { .. }));
        assert!(error.to_string().contains("--device wgpu:llvmpipe"), "{error}");
        assert_eq!(choose(&both[1..], Some("")), Err(error), "an empty name names nothing");
        for name in [None, Some("llvmpipe")] {
            let error = choose(&[], name).unwrap_err();
            assert!(matches!(error, DeviceError::Absent { .. }) && error.to_string().contains("libvulkan1"), "{error}");
        }
    }

    #[test]
    fn of_several_the_first_in_order_is_taken() {
        let kinds = [
            DeviceType::Cpu,
            DeviceType::Other,
            DeviceType::VirtualGpu,
            DeviceType::IntegratedGpu,
            DeviceType::DiscreteGpu,
        ];
        assert!(kinds.iter().rev().is_sorted_by_key(|kind| rank(*kind)));
        let twins = adapters(&[("Arc A770", DeviceType::DiscreteGpu), ("Arc A380", DeviceType::DiscreteGpu)]);
        assert_eq!(choose(&twins, Some("arc")), Ok(0));
        assert_eq!(choose(&twins, Some("a380")), Ok(1));
    }
}
