//! All that is measured in one run: each device in its memory, then with files; then others beside this program.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::files::{FileOptions, Work, Written, on_files};
use super::peers::{PeerOptions, beside};
use super::report::{Asked, Machine, OfDevice, PassedOver, Report, SCHEMA, What};
use super::shapes::Family;
use super::{DeviceOptions, Event, Failure, on_device};
use crate::device::cpu::{Cpu, Settings};
use crate::device::{Device, DeviceError, DeviceKind, Listed};
use crate::time::UnixTime;

/// What to measure, and how much.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// These devices, each of which must open; none: all that can be used, but software in the part of a GPU.
    pub devices: Vec<DeviceKind>,
    /// These measurements alone.
    pub only: Option<BTreeSet<What>>,
    /// Bytes of a device's memory to use at most.
    pub most: Option<u64>,
    /// Counted repeats of each measurement.
    pub repeats: NonZeroUsize,
    /// What is over quickly is repeated for so long, more often than was asked.
    pub patience: Duration,
    /// Threads of the CPU; all, if none is said.
    pub threads: Option<NonZeroUsize>,
    /// The model to write and read, if files are to be measured.
    pub files: Option<Files>,
    /// The program that is measured beside others, if any are to be.
    pub ours: Option<PathBuf>,
}

impl Options {
    /// All devices in their memory, so often; no files, no other programs.
    #[must_use]
    pub const fn new(repeats: NonZeroUsize) -> Self {
        Self {
            devices: Vec::new(),
            only: None,
            most: None,
            repeats,
            patience: Duration::ZERO,
            threads: None,
            files: None,
            ours: None,
        }
    }
}

/// What to write to disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Bytes of the model at most.
    pub bytes: u64,
    /// In which folder; that of temporary files, if none is said.
    pub work: Option<PathBuf>,
}

/// The model that is written: as many tensors as it has, in the same proportions.
const MODEL: Family = Family::Llama31With8B;

/// Measures, and tells of each step.
///
/// # Errors
/// [`Failure`]: a device that was named and does not open, one that fails, a digest that is wrong.
pub fn run(options: &Options, done: &mut dyn FnMut(Event<'_>)) -> Result<Report, Failure> {
    let (begun, date) = (Instant::now(), UnixTime::now().to_string());
    let (devices, passed_over) = devices(options)?;
    let written = written(options)?;
    // Before anything of ours keeps the machine busy, but once the folder is there.
    let machine = Machine::here(written.as_ref().map(Written::folder));
    let mut all = Vec::new();
    for (device, listed) in &devices {
        all.push(of_device(device, listed, written.as_ref(), options, done)?);
    }
    let peers = match (&written, &options.ours) {
        (Some(model), Some(ours)) => {
            let how = PeerOptions { threads: options.threads, ..PeerOptions::new(options.repeats) };
            Some(beside(model, ours, &how, done)?)
        }
        _ => None,
    };
    Ok(Report {
        schema: SCHEMA.to_owned(),
        tool: concat!("tensorseal ", env!("CARGO_PKG_VERSION")).to_owned(),
        date,
        seconds: begun.elapsed().as_secs_f64(),
        machine,
        settings: Asked {
            repeats: options.repeats.get(),
            most: options.most,
            file: written.as_ref().map(Written::bytes),
            threads: options.threads.map(NonZeroUsize::get),
        },
        devices: all,
        passed_over,
        peers,
    })
}

fn of_device(
    device: &Device,
    listed: &Listed,
    written: Option<&Written>,
    options: &Options,
    done: &mut dyn FnMut(Event<'_>),
) -> Result<OfDevice, Failure> {
    let in_memory = DeviceOptions {
        most: options.most,
        repeats: options.repeats,
        only: options.only.clone(),
        patience: options.patience,
    };
    let mut of = match device {
        Device::Cpu(cpu) => on_device(cpu, listed, &in_memory, done)?,
        #[cfg(feature = "wgpu")]
        Device::Wgpu(wgpu) => on_device(wgpu, listed, &in_memory, done)?,
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => on_device(cuda, listed, &in_memory, done)?,
    };
    if let Some(model) = written {
        let with_files = FileOptions {
            threads: options.threads,
            only: options.only.clone(),
            known: of.bounds.clone(),
            ..FileOptions::new(options.repeats)
        };
        let (lines, skipped, bounds) = on_files(device, model, &with_files, done)?;
        of.lines.extend(lines);
        of.skipped.extend(skipped);
        of.bounds.extend(bounds);
    }
    Ok(of)
}

/// Whether any of this is measured with files.
fn wants_files(only: &BTreeSet<What>) -> bool {
    only.iter().any(|what| what.is_of_files())
}

fn written(options: &Options) -> Result<Option<Written>, Failure> {
    let wanted = options.ours.is_some() || options.only.as_ref().is_none_or(wants_files);
    let Some(files) = options.files.as_ref().filter(|_| wanted) else { return Ok(None) };
    let model = MODEL.within(files.bytes).ok_or(Failure::TooSmall { bytes: files.bytes })?;
    let work = Work::new(files.work.as_deref(), model.file_bytes())?;
    Written::new(work, &model).map(Some)
}

/// What is measured, and what is not and why.
type Chosen = (Vec<(Device, Listed)>, Vec<PassedOver>);

fn devices(options: &Options) -> Result<Chosen, Failure> {
    if options.devices.is_empty() {
        return found(Device::list(), options.threads);
    }
    // Opened before anything is listed: to list a device is to try it, and what fails then must not be what nobody sees.
    let opened = options.devices.iter().map(|kind| open(kind.clone(), options.threads));
    let opened = opened.collect::<Result<Vec<_>, _>>()?;
    let list = Device::list();
    let mut named = BTreeMap::new();
    for (place, (kind, device)) in options.devices.iter().zip(opened).enumerate() {
        let listed = entry(&list, kind, &device);
        // Two names of one device are one device.
        named.entry(listed.kind.to_string()).or_insert((place, (device, listed)));
    }
    let mut named: Vec<_> = named.into_values().collect();
    named.sort_by_key(|(place, _)| *place);
    Ok((named.into_iter().map(|(_, device)| device).collect(), Vec::new()))
}

/// Every device that is there. One that computes wrong digests ends it all: that is no device to be left out in silence.
fn found(list: Vec<Listed>, threads: Option<NonZeroUsize>) -> Result<Chosen, Failure> {
    let (mut chosen, mut passed_over) = (Vec::new(), Vec::new());
    for listed in list {
        let opened = match listed.usable.clone() {
            Ok(()) if listed.is_software() => {
                let why = "it is software in the part of a GPU, which is measured only if it is named";
                Err((why.to_owned(), false))
            }
            usable => match usable.and_then(|()| open(listed.kind.clone(), threads)) {
                Ok(device) => Ok(device),
                Err(error @ DeviceError::SelfTest { .. }) => return Err(error.into()),
                Err(error) => Err((error.to_string(), !error.is_absence())),
            },
        };
        match opened {
            Ok(device) => chosen.push((device, listed)),
            Err((why, broken)) => {
                passed_over.push(PassedOver { device: listed.kind.to_string(), name: listed.name, why, broken });
            }
        }
    }
    Ok((chosen, passed_over))
}

fn open(kind: DeviceKind, threads: Option<NonZeroUsize>) -> Result<Device, DeviceError> {
    match kind {
        DeviceKind::Cpu => Cpu::open(Settings { threads, ..Settings::default() }).map(Device::Cpu),
        kind => Device::open(kind),
    }
}

/// What the list says of a device that was named. An adapter may be named by a part of its name.
fn entry(list: &[Listed], kind: &DeviceKind, device: &Device) -> Listed {
    let named = |listed: &&Listed| match (kind, &listed.kind) {
        (DeviceKind::Wgpu(Some(part)), DeviceKind::Wgpu(_)) => {
            listed.name.to_lowercase().contains(&part.to_lowercase())
        }
        (DeviceKind::Wgpu(None), DeviceKind::Wgpu(_)) => listed.usable.is_ok(),
        (kind, listed) => kind == listed,
    };
    let opened = device.kind();
    let found = list.iter().find(|listed| listed.kind == opened).or_else(|| list.iter().find(named));
    found.cloned().unwrap_or_else(|| Listed {
        name: opened.to_string(),
        kind: opened,
        memory: None,
        capability: None,
        driver: None,
        usable: Ok(()),
    })
}
