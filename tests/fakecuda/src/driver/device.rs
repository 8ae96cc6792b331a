//! Devices and their primary contexts.

use super::config::DeviceKind;
use super::{Driver, Handle, Kind};
use crate::error::{Code, INVALID_CONTEXT, INVALID_VALUE};
use crate::memory::Allocation;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Threads of a block at most.
pub(super) const MAX_THREADS: u32 = 1024;
/// Shared memory of a block without an opt-in.
pub(super) const DEFAULT_SHARED: u32 = 48 << 10;

pub(crate) struct Device {
    number: usize,
    pub(super) kind: DeviceKind,
    /// The primary context, while it is retained, and how often.
    context: Option<(Handle, u32)>,
    /// By address.
    pub(super) allocations: BTreeMap<u64, Arc<Allocation>>,
    /// Bytes of them.
    pub(super) used: u64,
    fault: Option<Code>,
    /// A synchronising call has returned it: from then on every call does.
    fault_reported: bool,
}

/// `CUdevice_attribute`, by its number in `cuda.h`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute(pub(crate) i32);

impl Device {
    pub(super) fn new(number: usize, kind: DeviceKind) -> Self {
        Self { number, kind, context: None, allocations: BTreeMap::new(), used: 0, fault: None, fault_reported: false }
    }

    pub(super) fn context(&self) -> Option<Handle> {
        self.context.map(|(handle, _)| handle)
    }

    /// `cuDevicePrimaryCtxGetState`: is it retained?
    pub(crate) fn is_active(&self) -> bool {
        self.context.is_some()
    }

    pub(crate) fn name(&self) -> String {
        format!("Fake GPU {} (PTX interpreter)", self.number)
    }

    pub(crate) fn uuid(&self) -> [u8; 16] {
        let mut uuid = *b"fakecuda-device\0";
        uuid[15] = b'0' + self.number as u8;
        uuid
    }

    pub(crate) fn bus_id(&self) -> String {
        format!("0000:{:02X}:00.0", self.number + 1)
    }

    pub(crate) fn memory(&self) -> u64 {
        self.kind.memory
    }

    /// The device is broken from now on; the next synchronising call will say so.
    pub(super) fn fail(&mut self, code: Code) {
        self.fault.get_or_insert(code);
    }

    pub(super) fn is_broken(&self) -> bool {
        self.fault.is_some()
    }

    pub(super) fn report_fault(&mut self) {
        self.fault_reported |= self.fault.is_some();
    }

    pub(super) fn reported_fault(&self) -> Option<Code> {
        self.fault.filter(|_| self.fault_reported)
    }

    /// Shared memory of a block with the opt-in of `cuFuncSetAttribute`, in bytes.
    pub(super) fn max_shared(&self) -> u32 {
        self.shared_of_processor() - 1024
    }

    fn shared_of_processor(&self) -> u32 {
        match self.kind.capability {
            (8, 0 | 7) => 164 << 10,
            (8 | 12, _) => 100 << 10,
            (9.., _) => 228 << 10,
            _ => 64 << 10,
        }
    }

    fn threads_of_processor(&self) -> u32 {
        match self.kind.capability {
            (8, 6 | 7 | 9) | (12, _) => 1536,
            (7, 5) => 1024,
            _ => 2048,
        }
    }

    /// Blocks of a kernel on one multiprocessor, by its threads, registers and shared memory.
    pub(super) fn occupancy(&self, threads: u32, registers: u32, shared: u32) -> u32 {
        let by_threads = self.threads_of_processor() / threads.next_multiple_of(32);
        let by_registers = 65536 / (registers.next_multiple_of(8) * threads.next_multiple_of(32));
        // A block costs 1 KiB more than it asks for.
        let by_shared = self.shared_of_processor() / (shared + 1024);
        by_threads.min(by_registers).min(by_shared).min(32)
    }

    /// What is not listed is 0, as for a feature that is not there.
    pub(crate) fn attribute(&self, attribute: Attribute) -> i32 {
        let small = |value: u32| value.cast_signed();
        match attribute.0 {
            1..=3 => small(MAX_THREADS),         // threads of a block; of its x and y
            4 => 64,                             // and z
            5 => i32::MAX,                       // blocks of a grid: x
            6 | 7 => 65535,                      // y and z
            8 => small(DEFAULT_SHARED),          // shared memory of a block
            9 => 64 << 10,                       // constant memory
            10 => 32,                            // lanes of a warp
            11 => i32::MAX,                      // pitch
            12 | 82 => 65536,                    // registers of a block, of a multiprocessor
            13 => 1_755_000,                     // clock, kHz
            15 | 40 | 41 => 1, // copies beside kernels; engines for that; one address space with the host
            16 => 4,           // multiprocessors
            19 => 1,           // can map host memory
            31 => 1,           // kernels at the same time
            33 => small(self.number as u32 + 1), // PCI bus
            34 | 50 => 0,      // PCI device and domain
            36 => 2_619_000,   // memory clock, kHz
            37 => 5120,        // memory bus, bits
            38 => 50 << 20,    // second-level cache
            39 => small(self.threads_of_processor()),
            75 => small(self.kind.capability.0),
            76 => small(self.kind.capability.1),
            81 => small(self.shared_of_processor()),
            97 => small(self.max_shared()),
            106 => 32,   // blocks of a multiprocessor
            111 => 1024, // shared memory that the driver keeps of each block
            115 => 1,    // memory pools: cuMemAllocAsync
            _ => 0,
        }
    }
}

impl Driver {
    pub(crate) fn device_count(&self) -> Result<i32, Code> {
        self.initialised()?;
        i32::try_from(self.devices.len()).map_err(|_| INVALID_VALUE)
    }

    pub(crate) fn retain(&mut self, ordinal: i32) -> Result<Handle, Code> {
        let fresh = self.new_handle();
        let device = self.device(ordinal)?;
        let (handle, count) = device.context.get_or_insert((fresh, 0));
        *count += 1;
        let handle = *handle;
        self.report.created(Kind::Context, handle);
        Ok(handle)
    }

    /// Gives back one reference; the last one takes all that the context holds with it.
    pub(crate) fn release(&mut self, ordinal: i32) -> Result<(), Code> {
        let device = self.device(ordinal)?;
        let (handle, count) = device.context.ok_or(INVALID_CONTEXT)?;
        self.report.destroyed(Kind::Context, handle);
        if count > 1 {
            self.device(ordinal)?.context = Some((handle, count - 1));
            return Ok(());
        }
        self.drain(self.device_of(handle)?);
        let device = self.device(ordinal)?;
        device.context = None;
        device.allocations.clear();
        device.used = 0;
        self.streams.retain(|_, stream| stream.context != handle);
        self.events.retain(|_, event| event.context != handle);
        self.functions.retain(|_, function| function.context != handle);
        self.modules.retain(|_, module| module.context != handle);
        Ok(())
    }

    /// `None` leaves the thread without a context.
    pub(crate) fn set_current(&mut self, context: Handle) -> Result<(), Code> {
        self.initialised()?;
        if context != 0 {
            self.device_of(context).map_err(|_| INVALID_CONTEXT)?;
        }
        self.stack.pop();
        self.stack.push(context);
        Ok(())
    }

    /// 0 if there is none.
    pub(crate) fn get_current(&self) -> Result<Handle, Code> {
        self.initialised()?;
        Ok(self.stack.last().copied().unwrap_or(0))
    }

    pub(crate) fn push_current(&mut self, context: Handle) -> Result<(), Code> {
        self.initialised()?;
        self.device_of(context).map_err(|_| INVALID_CONTEXT)?;
        self.stack.push(context);
        Ok(())
    }

    pub(crate) fn pop_current(&mut self) -> Result<Handle, Code> {
        self.initialised()?;
        self.stack.pop().filter(|context| *context != 0).ok_or(INVALID_CONTEXT)
    }

    pub(crate) fn current_ordinal(&self) -> Result<i32, Code> {
        i32::try_from(self.current_even_if_broken()?).map_err(|_| INVALID_VALUE)
    }
}
