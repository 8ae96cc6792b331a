//! The objects of the driver: devices, contexts, memory, modules, streams, events. All of it is safe code behind
//! one lock; `abi.rs` turns C calls into calls of these methods.

pub(crate) mod config;
mod device;
mod events;
mod files;
mod launch;
mod memory;
mod module;
mod report;
mod streams;

pub(crate) use device::Attribute;
pub(crate) use files::Files;
pub(crate) use launch::{HostKernels, Shape};
pub(crate) use memory::{HostBytes, HostRange, PointerFact};
pub(crate) use report::Kind;

use crate::error::{CONTEXT_IS_DESTROYED, Code, INVALID_CONTEXT, INVALID_DEVICE, NO_DEVICE, NOT_INITIALIZED};
use config::Config;
use device::Device;
use std::collections::BTreeMap;
use std::fs::File;

/// An opaque number that names an object. None is given twice, so one that was destroyed is known as such.
pub(crate) type Handle = u64;

/// The driver.
pub(crate) struct Driver {
    pub(crate) config: Config,
    initialised: bool,
    devices: Vec<Device>,
    streams: BTreeMap<Handle, streams::Stream>,
    events: BTreeMap<Handle, events::Event>,
    /// What events recorded, by a number that rises.
    recordings: Vec<events::Recording>,
    modules: BTreeMap<Handle, module::Module>,
    functions: BTreeMap<Handle, module::Function>,
    host: BTreeMap<u64, memory::HostBlock>,
    /// The contexts of the thread that calls, the current one last.
    pub(crate) stack: Vec<Handle>,
    next_handle: Handle,
    launches: u64,
    /// Copies to the host, and to the device, of those that passed their checks.
    copies_out: u64,
    copies_in: u64,
    /// Files that cuFile knows, and its reads.
    files: BTreeMap<Handle, files::Registered>,
    files_open: bool,
    file_reads: u64,
    host_kernels: Option<HostKernels>,
    pub(crate) report: report::Report,
}

impl Driver {
    /// A driver as `config` wants it. `host_kernels` are those of `FAKECUDA_KERNELS`.
    ///
    /// # Errors
    ///
    /// The log cannot be opened.
    pub(crate) fn new(config: Config, host_kernels: Option<HostKernels>) -> Result<Self, String> {
        let open = |path: &std::path::PathBuf| File::options().create(true).append(true).open(path);
        let log = match config.log.as_ref().map(open) {
            None => None,
            Some(Ok(log)) => Some(log),
            Some(Err(error)) => return Err(format!("FAKECUDA_LOG: {error}")),
        };
        let devices = config.devices.iter().enumerate().map(|(number, kind)| Device::new(number, *kind)).collect();
        Ok(Self {
            config,
            initialised: false,
            devices,
            streams: BTreeMap::new(),
            events: BTreeMap::new(),
            recordings: Vec::new(),
            modules: BTreeMap::new(),
            functions: BTreeMap::new(),
            host: BTreeMap::new(),
            stack: Vec::new(),
            next_handle: 0x5EA1_0000,
            launches: 0,
            copies_out: 0,
            copies_in: 0,
            files: BTreeMap::new(),
            files_open: false,
            file_reads: 0,
            host_kernels,
            report: report::Report::new(log),
        })
    }

    pub(crate) fn init(&mut self) -> Result<(), Code> {
        if self.devices.is_empty() {
            return Err(NO_DEVICE);
        }
        self.initialised = true;
        Ok(())
    }

    fn initialised(&self) -> Result<(), Code> {
        if self.initialised { Ok(()) } else { Err(NOT_INITIALIZED) }
    }

    fn new_handle(&mut self) -> Handle {
        self.next_handle += 16;
        self.next_handle
    }

    /// The device whose ordinal this is.
    pub(crate) fn device(&mut self, ordinal: i32) -> Result<&mut Device, Code> {
        self.initialised()?;
        usize::try_from(ordinal).ok().and_then(|at| self.devices.get_mut(at)).ok_or(INVALID_DEVICE)
    }

    /// The device of the current context, which must be alive and not broken.
    fn current(&self) -> Result<usize, Code> {
        let device = self.current_even_if_broken()?;
        match self.devices[device].reported_fault() {
            Some(code) => Err(code),
            None => Ok(device),
        }
    }

    /// As [`Self::current`], for what a program may still do after a fault: give things back.
    fn current_even_if_broken(&self) -> Result<usize, Code> {
        self.initialised()?;
        let context = *self.stack.last().filter(|context| **context != 0).ok_or(INVALID_CONTEXT)?;
        self.device_of(context)
    }

    /// The device whose primary context `context` is.
    fn device_of(&self, context: Handle) -> Result<usize, Code> {
        let found = self.devices.iter().position(|device| device.context() == Some(context));
        found.ok_or(CONTEXT_IS_DESTROYED)
    }

    /// Breaks the device that is current, if the environment says that it goes at this call or went before.
    fn lose_device(&mut self, call: u64) {
        let Some((_, code)) = self.config.gone.filter(|(from, _)| *from <= call) else { return };
        // Only one goes: where there are several, the others are what a program may turn to.
        if let (false, Ok(device)) = (self.devices.iter().any(Device::is_broken), self.current_even_if_broken()) {
            self.devices[device].fail(code);
            self.devices[device].report_fault();
            self.report.note(format_args!("gone"));
        }
    }

    /// An injected error of the sticky kind breaks the device that is current, as if it had come from there.
    fn break_current(&mut self, code: Code) {
        if let (true, Ok(device)) = (code.is_sticky(), self.current_even_if_broken()) {
            self.devices[device].fail(code);
            self.devices[device].report_fault();
        }
    }
}
