//! What the driver says of how a device is built. Nobody depends on it: what the driver does not say is left out, and a
//! question that it refuses does not close the device.

use cudarc::driver::sys::CUdevice_attribute as Attribute;

use super::super::DeviceFacts;
use super::context::Context;

pub(super) fn of(context: &Context) -> DeviceFacts {
    // Zero is what drivers say where there is no such thing.
    let positive = |which| context.ask(which).and_then(|value| u32::try_from(value).ok()).filter(|&value| value > 0);
    // Clocks are told in kHz.
    let clock = |which| positive(which).map(|khz| u64::from(khz) * 1000);
    let place = |which| context.ask(which).and_then(|value| u32::try_from(value).ok());
    let pci = || {
        let domain = place(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID)?;
        let bus = place(Attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID)?;
        let device = place(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID)?;
        Some(format!("{domain:04x}:{bus:02x}:{device:02x}.0"))
    };
    let shares_memory = context.ask(Attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED).is_some_and(|value| value != 0);
    DeviceFacts {
        architecture: Some(context.facts.architecture),
        processors: positive(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
        clock: clock(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE),
        memory_clock: clock(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE),
        memory_bus: positive(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH),
        cache: positive(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE).map(u64::from),
        free: context.enter().and_then(|current| current.free_memory()).ok(),
        pci: if shares_memory { None } else { pci() },
        ..DeviceFacts::default()
    }
}
