//! Which device: the one that was asked for, or, for `auto`, the first that can be used, and why not those before it.

use tensorseal::device::cpu::{Cpu, Io, Settings};
use tensorseal::device::{DeviceError, DeviceKind, Listed};
use tensorseal::{Algorithm, Device, Error};

use super::args::{CheckArgs, EngineArgs, IoArg};
use super::say;

/// What will be computed, as far as that is known before the work begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// BLAKE3 and nothing else.
    Blake3,
    /// This, which takes a CPU, perhaps with BLAKE3 beside it.
    Sequential(&'static str),
    /// Whatever was signed, which is not known before the signature is checked; most often it takes a CPU.
    AsSigned,
}

impl Work {
    pub(super) fn of(algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        let other = algorithms.into_iter().find(|&algorithm| algorithm != Algorithm::Blake3);
        other.map_or(Self::Blake3, |algorithm| Self::Sequential(algorithm.name()))
    }
}

/// The device for files on disk.
pub(super) fn open(args: &EngineArgs, work: Work) -> Result<Device, Error> {
    let device = if args.device == "auto" {
        auto(args, work)?
    } else {
        open_kind(args, args.device.parse().map_err(Error::UnknownDevice)?)?
    };
    if device.kind() != DeviceKind::Cpu && (args.threads.is_some() || matches!(args.io, IoArg::Read)) {
        say::warning(format_args!("--threads and --io are for the CPU; {} does not heed them", device.kind()));
    }
    Ok(device)
}

fn open_kind(args: &EngineArgs, kind: DeviceKind) -> Result<Device, Error> {
    if kind != DeviceKind::Cpu {
        return Ok(Device::open(kind)?);
    }
    let io = match args.io {
        IoArg::Auto => Io::Auto,
        IoArg::Read => Io::Read,
    };
    Ok(Device::Cpu(Cpu::open(Settings { threads: args.threads, io })?))
}

/// The first of CUDA, hardware through WebGPU, and the CPU that can be used. What is passed over is named.
fn auto(args: &EngineArgs, work: Work) -> Result<Device, Error> {
    match work {
        Work::Blake3 => {}
        Work::Sequential(algorithm) => {
            say::detail("device", format_args!("cpu, chosen since {algorithm} must see the bytes in order"));
            return open_kind(args, DeviceKind::Cpu);
        }
        Work::AsSigned => {
            let why = "it can check whatever was signed; a GPU can for --digest blake3";
            say::detail("device", format_args!("cpu, chosen since {why}"));
            return open_kind(args, DeviceKind::Cpu);
        }
    }
    for listed in in_order(Device::list()) {
        if listed.usable.is_ok() && listed.is_software() {
            say::detail(
                "",
                format_args!("passed over {}: it is software, which is used only if it is named", listed.kind),
            );
            continue;
        }
        let opened = listed.usable.clone().and_then(|()| Device::open(listed.kind.clone()));
        match opened {
            Ok(device) => {
                say::detail("device", format_args!("{}, {}, the first that can be used", device.kind(), listed.name));
                return Ok(device);
            }
            Err(error) if error.is_absence() => say::detail("", format_args!("passed over {}: {error}", listed.kind)),
            // It is there, and somebody counts on it: said also where only warnings are.
            Err(error) => say::warning(format_args!("passed over {}: {error}", listed.kind)),
        }
    }
    say::detail("device", "cpu, since no GPU can be used");
    open_kind(args, DeviceKind::Cpu)
}

/// GPUs in the order in which `auto` tries them.
fn in_order(mut list: Vec<Listed>) -> Vec<Listed> {
    let rank = |kind: &DeviceKind| match kind {
        DeviceKind::Cuda(_) => 0,
        DeviceKind::Wgpu(_) => 1,
        _ => 2,
    };
    list.retain(|listed| listed.kind != DeviceKind::Cpu);
    list.sort_by_key(|listed| rank(&listed.kind));
    list
}

/// What to do about a device that cannot take what was asked of it, where its message does not say.
pub(super) fn next(error: &Error, verifying: Option<&CheckArgs>) {
    if let Error::Device(DeviceError::Algorithm { algorithm, .. }) = error {
        let advice = match verifying {
            // All that were signed were asked for, and BLAKE3 is not among them.
            Some(check) if check.all_digests => {
                format!("no BLAKE3 digest was signed; check {algorithm} with --device cpu")
            }
            Some(_) => format!(
                "--digest blake3 or --all-digests checks the BLAKE3 digests, if they were signed; {algorithm} alone takes --device cpu"
            ),
            None => format!("ask for BLAKE3 with --hash blake3, or for {algorithm} with --device cpu"),
        };
        say::reason("next", advice);
    }
}
