//! What the environment asks for. README.md has the list.

use super::Files;
use crate::error::{Code, DEVICE_UNAVAILABLE};
use crate::exec::Order;
use std::path::PathBuf;

/// All `FAKECUDA_*` variables, read once.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) devices: Vec<DeviceKind>,
    /// 12040 for 12.4.
    pub(crate) driver_version: i32,
    pub(crate) order: Order,
    pub(crate) eager: bool,
    pub(crate) failures: Vec<Failure>,
    /// Launches, counted from 1 in the order of the calls, that fault.
    pub(crate) faults: Vec<(u64, Code)>,
    /// Launches that silently do nothing.
    pub(crate) skipped: Vec<u64>,
    /// Copies to the host, counted from 1 in the order of the calls, that silently do nothing.
    pub(crate) lost: Vec<u64>,
    /// Copies to the device, counted in the same way, that silently do nothing.
    pub(crate) lost_in: Vec<u64>,
    /// Copies to the device of which one bit arrives changed: which copy, and which bit of it.
    pub(crate) flips: Vec<(u64, u64)>,
    /// Reads of cuFile, counted from 1, that give no more than so many bytes.
    pub(crate) short: Vec<(u64, u64)>,
    pub(crate) files: Files,
    /// Whether devices are joined to the processor by NVLink and not by PCI Express.
    pub(crate) chip_to_chip: bool,
    /// From which call on the device that is current is gone, and with what code.
    pub(crate) gone: Option<(u64, Code)>,
    pub(crate) log: Option<PathBuf>,
    pub(crate) kernels: Option<PathBuf>,
    /// PTX that is loaded in place of the program's.
    pub(crate) ptx: Option<PathBuf>,
}

/// One of `FAKECUDA_DEVICES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceKind {
    /// Major and minor.
    pub(crate) capability: (u32, u32),
    /// Bytes.
    pub(crate) memory: u64,
}

/// One of `FAKECUDA_FAIL`: this call returns this code and does nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// `None`: a call of any kind.
    pub(crate) function: Option<String>,
    /// Which one, from 1.
    pub(crate) call: u64,
    pub(crate) code: Code,
}

impl Config {
    /// Reads the variables through `get`.
    ///
    /// # Errors
    ///
    /// A variable with a value that is not understood.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let list = |name: &str| -> Vec<String> {
            let text = get(name).unwrap_or_default();
            text.split(';').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
        };
        let wrong = |name: &str, text: &str| format!("{name}={text} is not understood");
        let numbers = |name: &str| -> Result<Vec<u64>, String> {
            list(name).iter().map(|part| part.parse().map_err(|_| wrong(name, part))).collect()
        };
        let devices = get("FAKECUDA_DEVICES").unwrap_or_else(|| "9.0".to_owned());
        let devices = devices
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| device(part).ok_or_else(|| wrong("FAKECUDA_DEVICES", part)));
        let driver_version = get("FAKECUDA_DRIVER").unwrap_or_else(|| "12040".to_owned());
        let order = get("FAKECUDA_ORDER").unwrap_or_default();
        let streams = get("FAKECUDA_STREAMS").unwrap_or_default();
        Ok(Self {
            devices: devices.collect::<Result<_, _>>()?,
            driver_version: driver_version.parse().map_err(|_| wrong("FAKECUDA_DRIVER", &driver_version))?,
            order: match order.as_str() {
                "" | "lockstep" => Order::Lockstep,
                "serial" => Order::Serial,
                "adverse" => Order::Adverse,
                other => return Err(wrong("FAKECUDA_ORDER", other)),
            },
            eager: match streams.as_str() {
                "" | "lazy" => false,
                "eager" => true,
                other => return Err(wrong("FAKECUDA_STREAMS", other)),
            },
            failures: list("FAKECUDA_FAIL")
                .iter()
                .map(|part| failure(part).ok_or_else(|| wrong("FAKECUDA_FAIL", part)))
                .collect::<Result<_, _>>()?,
            faults: list("FAKECUDA_FAULT")
                .iter()
                .map(|part| fault(part).ok_or_else(|| wrong("FAKECUDA_FAULT", part)))
                .collect::<Result<_, _>>()?,
            skipped: numbers("FAKECUDA_SKIP")?,
            lost: numbers("FAKECUDA_LOSE")?,
            lost_in: numbers("FAKECUDA_LOSE_IN")?,
            flips: list("FAKECUDA_FLIP")
                .iter()
                .map(|part| flip(part).ok_or_else(|| wrong("FAKECUDA_FLIP", part)))
                .collect::<Result<_, _>>()?,
            short: list("FAKECUDA_SHORT")
                .iter()
                .map(|part| short(part).ok_or_else(|| wrong("FAKECUDA_SHORT", part)))
                .collect::<Result<_, _>>()?,
            files: match get("FAKECUDA_CUFILE").unwrap_or_default().as_str() {
                "" | "either" => Files::Either,
                "strict" => Files::Strict,
                "compatible" => Files::Compatible,
                other => return Err(wrong("FAKECUDA_CUFILE", other)),
            },
            chip_to_chip: match get("FAKECUDA_LINK").unwrap_or_default().as_str() {
                "" | "pcie" => false,
                "c2c" => true,
                other => return Err(wrong("FAKECUDA_LINK", other)),
            },
            gone: match list("FAKECUDA_GONE").as_slice() {
                [] => None,
                [one] => Some(gone(one).ok_or_else(|| wrong("FAKECUDA_GONE", one))?),
                [_, more, ..] => return Err(wrong("FAKECUDA_GONE", more)),
            },
            log: get("FAKECUDA_LOG").filter(|path| !path.is_empty()).map(PathBuf::from),
            kernels: get("FAKECUDA_KERNELS").filter(|path| !path.is_empty()).map(PathBuf::from),
            ptx: get("FAKECUDA_PTX").filter(|path| !path.is_empty()).map(PathBuf::from),
        })
    }
}

/// `9.0` or `8.0:2GiB`.
fn device(text: &str) -> Option<DeviceKind> {
    let (capability, memory) = match text.split_once(':') {
        None => (text, 8 << 30),
        Some((capability, size)) => (capability, bytes(size)?),
    };
    let (major, minor) = capability.split_once('.')?;
    Some(DeviceKind { capability: (major.parse().ok()?, minor.parse().ok()?), memory })
}

fn bytes(text: &str) -> Option<u64> {
    let (number, shift) = [("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
        .unwrap_or((text, 0));
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `cuMemcpyDtoHAsync_v2:3:719` or `*:17:2`.
fn failure(text: &str) -> Option<Failure> {
    let mut parts = text.split(':');
    let function = parts.next().filter(|name| !name.is_empty())?;
    let (call, code) = (parts.next()?.parse().ok()?, Code(parts.next()?.parse().ok()?));
    let function = if function == "*" { None } else { Some(function.to_owned()) };
    parts.next().is_none().then_some(Failure { function, call, code })
}

/// `2` or `2:4097`: the copy, and the bit, the first if it is not said.
fn flip(text: &str) -> Option<(u64, u64)> {
    let (copy, bit) = text.split_once(':').unwrap_or((text, "0"));
    Some((copy.parse().ok()?, bit.parse().ok()?))
}

/// `2:100`: the read, and the bytes.
fn short(text: &str) -> Option<(u64, u64)> {
    let (read, bytes) = text.split_once(':')?;
    Some((read.parse().ok()?, bytes.parse().ok()?))
}

/// `40` or `40:719`: the call, and what it and all after it return.
fn gone(text: &str) -> Option<(u64, Code)> {
    if text.contains(':') { fault(text) } else { Some((text.parse().ok()?, DEVICE_UNAVAILABLE)) }
}

/// `2:700`.
fn fault(text: &str) -> Option<(u64, Code)> {
    let (launch, code) = text.split_once(':')?;
    Some((launch.parse().ok()?, Code(code.parse().ok()?)))
}
