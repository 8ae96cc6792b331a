//! The functions of `nvml.h` (`libnvidia-ml.so.1`) that tell clocks, temperature, power and the link of a device. They are in the same
//! library: whoever wants them to be found makes a link of that name to it. What they return are codes of NVML.

use crate::abi::{Out, Text, api};
use crate::error::Code;
use std::ffi::{c_int, c_uint, c_ulonglong};

type Handle = u64;

const INVALID_ARGUMENT: Code = Code(2);
const NOT_SUPPORTED: Code = Code(3);
const NOT_FOUND: Code = Code(6);

api! {
    fn nvmlInit_v2() = |_| Ok(());
    fn nvmlDeviceGetHandleByPciBusId_v2(place: Text, device: Out<Handle>) = |d| {
        let place = std::str::from_utf8(place.bytes()?).map_err(|_| INVALID_ARGUMENT)?;
        let number = (0..d.device_count()?).find(|&number| {
            d.device(number).is_ok_and(|device| device.bus_id().eq_ignore_ascii_case(place))
        });
        device.put(number.map(handle).ok_or(NOT_FOUND)?)
    };
    // The number of the device is in what it says, so that one device's is not taken for another's.
    fn nvmlDeviceGetClockInfo(device: Handle, kind: c_int, megahertz: Out<c_uint>) = |_| match kind {
        1 => megahertz.put(1700 + number(device)?),
        2 => megahertz.put(2619),
        _ => Err(NOT_SUPPORTED),
    };
    fn nvmlDeviceGetTemperature(device: Handle, sensor: c_int, celsius: Out<c_uint>) =
        |_| if sensor == 0 { celsius.put(60 + number(device)?) } else { Err(INVALID_ARGUMENT) };
    fn nvmlDeviceGetPowerUsage(device: Handle, milliwatts: Out<c_uint>) = |_| milliwatts.put(345_600 + number(device)?);
    fn nvmlDeviceGetCurrentClocksEventReasons(device: Handle, reasons: Out<c_ulonglong>) =
        |_| number(device).and_then(|_| reasons.put(0x24));
    fn nvmlDeviceGetMaxPcieLinkGeneration(device: Handle, generation: Out<c_uint>) =
        |_| number(device).and_then(|_| generation.put(5));
    fn nvmlDeviceGetMaxPcieLinkWidth(device: Handle, lanes: Out<c_uint>) = |_| number(device).and_then(|_| lanes.put(16));
    fn nvmlDeviceGetC2cModeInfoV(device: Handle, mode: Out<c_uint>) = |d| {
        number(device)?;
        mode.put(d.config.chip_to_chip.into())
    };
}

/// Null is no device, so the first is 1.
fn handle(number: i32) -> Handle {
    Handle::from(number.unsigned_abs()) + 1
}

fn number(device: Handle) -> Result<c_uint, Code> {
    c_uint::try_from(device).ok().and_then(|device| device.checked_sub(1)).ok_or(INVALID_ARGUMENT)
}
