//! Device memory, pinned host memory, copies, and questions about pointers.

use super::streams::{Source, Task};
use super::{Driver, Handle, Kind};
use crate::error::{
    Code, HOST_MEMORY_ALREADY_REGISTERED, HOST_MEMORY_NOT_REGISTERED, ILLEGAL_ADDRESS, INVALID_VALUE, OUT_OF_MEMORY,
};
use crate::memory::Allocation;
use std::sync::Arc;

/// Bytes of the program that calls. Only `abi.rs` makes one, and only there is it read and written.
pub(crate) trait HostBytes: Send {
    /// The address of the first byte.
    fn address(&self) -> u64;
    /// How many.
    fn length(&self) -> usize;
    /// What they are now.
    fn read(&self) -> Vec<u8>;
    /// Replaces them all.
    fn write(&self, bytes: &[u8]);
}

/// See [`HostBytes`].
pub(crate) type HostRange = Box<dyn HostBytes>;

/// Host memory that the driver knows: a copy from it runs when its turn comes, and reads what is there then.
pub(super) struct HostBlock {
    length: u64,
    kind: Kind,
}

/// What `cuPointerGetAttribute` can be asked.
pub(crate) enum PointerFact {
    /// 1 for host memory, 2 for device memory.
    MemoryType(u32),
    Address(u64),
    Ordinal(i32),
    Flag(bool),
    Size(usize),
}

impl Driver {
    pub(crate) fn allocate(&mut self, bytes: u64) -> Result<u64, Code> {
        let device = self.current()?;
        // The manual does not say what CUDA answers where no address space is so large: what a program expects less.
        if bytes == 0 || bytes > 1 << 47 {
            return Err(INVALID_VALUE);
        }
        if bytes > self.devices[device].kind.memory - self.devices[device].used {
            self.drain(device); // there may be frees among what is queued
        }
        let device = &mut self.devices[device];
        if bytes > device.kind.memory - device.used {
            return Err(OUT_OF_MEMORY);
        }
        let allocation = Allocation::new(bytes).ok_or(OUT_OF_MEMORY)?;
        let address = allocation.start();
        device.used += bytes;
        device.allocations.insert(address, Arc::new(allocation));
        self.report.created(Kind::Allocation, address);
        Ok(address)
    }

    /// `cuMemAllocAsync`: the address is there at once; the order of the stream does not matter to fresh memory.
    pub(crate) fn allocate_async(&mut self, bytes: u64, stream: Handle) -> Result<u64, Code> {
        let device = self.current()?;
        self.known_stream(stream, device)?;
        self.allocate(bytes)
    }

    /// `cuMemFree`: waits for everything on the device.
    pub(crate) fn free(&mut self, address: u64) -> Result<(), Code> {
        let device = self.current_even_if_broken()?;
        self.drain(device);
        if !self.devices[device].allocations.contains_key(&address) {
            return Err(INVALID_VALUE);
        }
        self.remove(device, address);
        self.report.destroyed(Kind::Allocation, address);
        self.settled(device)
    }

    pub(crate) fn free_async(&mut self, address: u64, stream: Handle) -> Result<(), Code> {
        let device = self.current_even_if_broken()?;
        if !self.devices[device].allocations.contains_key(&address) {
            return Err(INVALID_VALUE);
        }
        if self.is_being_freed(address) {
            return Err(INVALID_VALUE);
        }
        self.enqueue(device, stream, Task::Free(address))?;
        self.report.destroyed(Kind::Allocation, address);
        self.devices[device].reported_fault().map_or(Ok(()), Err)
    }

    /// Takes an allocation away, and looks whether somebody wrote around it.
    pub(super) fn remove(&mut self, device: usize, address: u64) {
        if let Some(allocation) = self.devices[device].allocations.remove(&address) {
            self.devices[device].used -= allocation.length();
            self.check_red_zones(device, &allocation);
        }
    }

    pub(super) fn check_red_zones(&mut self, device: usize, allocation: &Allocation) {
        if !allocation.is_intact() {
            eprintln!("[fakecuda] something wrote around the allocation at {:#x}", allocation.start());
            self.devices[device].fail(ILLEGAL_ADDRESS);
        }
    }

    /// Free and total bytes.
    pub(crate) fn memory_info(&mut self) -> Result<(u64, u64), Code> {
        let device = self.current()?;
        let device = &self.devices[device];
        Ok((device.kind.memory - device.used, device.kind.memory))
    }

    /// The allocation of the current device that holds these bytes.
    pub(super) fn holding(&self, device: usize, address: u64, bytes: u64) -> Result<Arc<Allocation>, Code> {
        let before = self.devices[device].allocations.range(..=address).next_back();
        let found = before.map(|(_, allocation)| allocation).filter(|allocation| allocation.holds(address, bytes));
        let found = found.ok_or(INVALID_VALUE)?;
        if self.is_being_freed(found.start()) { Err(INVALID_VALUE) } else { Ok(found.clone()) }
    }

    /// For tests that write where no kernel may.
    #[cfg(test)]
    pub(crate) fn allocation(&self, address: u64) -> Arc<Allocation> {
        self.holding(0, address, 1).unwrap()
    }

    /// The start and length of the allocation that holds `address`.
    pub(crate) fn range_of(&self, address: u64) -> Result<(u64, u64), Code> {
        let allocation = self.holding(self.current()?, address, 1)?;
        Ok((allocation.start(), allocation.length()))
    }

    // ---- copies ----------------------------------------------------------------------------------------------

    /// `stream` is `None` for the calls that wait.
    pub(crate) fn copy_in(&mut self, to: u64, from: HostRange, stream: Option<Handle>) -> Result<(), Code> {
        let device = self.current()?;
        let bytes = from.length();
        if bytes == 0 {
            return Ok(());
        }
        let allocation = self.holding(device, to, bytes as u64)?;
        // Pageable memory is taken at the call, as the driver stages it; pinned memory when the copy runs.
        let pinned = self.pinned(from.address(), bytes as u64).is_some();
        let from = if pinned && stream.is_some() { Source::Pinned(from) } else { Source::Taken(from.read()) };
        let (lost, flip) = self.fate_of_copy(bytes as u64);
        if !lost {
            self.enqueue(device, stream.unwrap_or(0), Task::CopyIn { to: allocation, at: to, from, flip })?;
        }
        if stream.is_none() { self.finish_default_stream(device) } else { Ok(()) }
    }

    /// Counts a copy to the device: whether it is lost, and which bit of it changes.
    pub(super) fn fate_of_copy(&mut self, bytes: u64) -> (bool, Option<u64>) {
        self.copies_in += 1;
        let number = self.copies_in;
        self.report.note(format_args!("in={number}:{bytes}"));
        let flip = self.config.flips.iter().find(|(copy, _)| *copy == number).map(|(_, bit)| *bit);
        (self.config.lost_in.contains(&number), flip)
    }

    /// As [`Self::copy_in`]; into pageable memory every copy waits, as the driver does.
    pub(crate) fn copy_out(&mut self, to: HostRange, from: u64, stream: Option<Handle>) -> Result<(), Code> {
        let device = self.current()?;
        let bytes = to.length();
        if bytes == 0 {
            return Ok(());
        }
        let allocation = self.holding(device, from, bytes as u64)?;
        let pinned = self.pinned(to.address(), bytes as u64).is_some();
        self.copies_out += 1;
        self.report.note(format_args!("out={}:{bytes}", self.copies_out));
        if !self.config.lost.contains(&self.copies_out) {
            self.enqueue(device, stream.unwrap_or(0), Task::CopyOut { from: allocation, at: from, to })?;
        }
        match stream {
            None => self.finish_default_stream(device),
            Some(_) if pinned => Ok(()),
            Some(stream) => {
                let stream = self.known_stream(stream, device)?;
                self.run_stream(stream, None);
                self.settled(device)
            }
        }
    }

    pub(crate) fn copy_within(&mut self, to: u64, from: u64, bytes: u64, stream: Option<Handle>) -> Result<(), Code> {
        let device = self.current()?;
        if bytes == 0 {
            return Ok(());
        }
        let (target, source) = (to, from);
        let (to, from) = (self.holding(device, to, bytes)?, self.holding(device, from, bytes)?);
        self.enqueue(device, stream.unwrap_or(0), Task::CopyWithin { from, source, to, target, bytes })?;
        if stream.is_none() { self.finish_default_stream(device) } else { Ok(()) }
    }

    /// `pattern` is one byte or one 32-bit word, `count` how often.
    pub(crate) fn fill(&mut self, to: u64, pattern: &[u8], count: u64, stream: Option<Handle>) -> Result<(), Code> {
        let device = self.current()?;
        let bytes = count.checked_mul(pattern.len() as u64).ok_or(INVALID_VALUE)?;
        if bytes == 0 {
            return Ok(());
        }
        if !to.is_multiple_of(pattern.len() as u64) {
            return Err(INVALID_VALUE);
        }
        let allocation = self.holding(device, to, bytes)?;
        let task = Task::Fill { to: allocation, at: to, pattern: pattern.to_vec(), count };
        self.enqueue(device, stream.unwrap_or(0), task)?;
        if stream.is_none() { self.finish_default_stream(device) } else { Ok(()) }
    }

    // ---- host memory -----------------------------------------------------------------------------------------

    /// The driver now knows `length` bytes from `address`, which it gave out itself (`Kind::Host`) or which the
    /// program registers (`Kind::Registered`).
    pub(crate) fn add_host(&mut self, address: u64, length: u64, kind: Kind) -> Result<(), Code> {
        self.current()?;
        if length == 0 || address == 0 {
            return Err(INVALID_VALUE);
        }
        let before = self.host.range(..address + length).next_back();
        if before.is_some_and(|(start, block)| start + block.length > address) {
            return Err(HOST_MEMORY_ALREADY_REGISTERED);
        }
        self.host.insert(address, HostBlock { length, kind });
        self.report.created(kind, address);
        Ok(())
    }

    /// The counterpart: waits for all that may still use it. Returns its length.
    pub(crate) fn remove_host(&mut self, address: u64, kind: Kind) -> Result<u64, Code> {
        let device = self.current_even_if_broken()?;
        let wrong = if kind == Kind::Host { INVALID_VALUE } else { HOST_MEMORY_NOT_REGISTERED };
        let length = self.host.get(&address).filter(|block| block.kind == kind).ok_or(wrong)?.length;
        (0..self.devices.len()).for_each(|device| self.drain(device));
        self.host.remove(&address);
        self.report.destroyed(kind, address);
        self.devices[device].report_fault();
        Ok(length)
    }

    /// The start of the pinned block that holds all of these bytes.
    fn pinned(&self, address: u64, bytes: u64) -> Option<u64> {
        let (start, block) = self.host.range(..=address).next_back()?;
        (address - start <= block.length && bytes <= block.length - (address - start)).then_some(*start)
    }

    // ---- questions -------------------------------------------------------------------------------------------

    /// Which device, and which of its allocations, holds `address`.
    fn owner(&self, address: u64) -> Option<(usize, Arc<Allocation>)> {
        (0..self.devices.len()).find_map(|device| Some((device, self.holding(device, address, 1).ok()?)))
    }

    /// `cuPointerGetAttribute`, by the attribute's number in `cuda.h`.
    pub(crate) fn pointer_fact(&self, attribute: i32, address: u64) -> Result<PointerFact, Code> {
        self.initialised()?;
        if let Some((device, allocation)) = self.owner(address) {
            return Ok(match attribute {
                1 => PointerFact::Address(self.devices[device].context().unwrap_or(0)),
                2 => PointerFact::MemoryType(2),
                3 => PointerFact::Address(address),
                7 => PointerFact::Address(allocation.start()), // an id of the buffer: never of two at once
                8 => PointerFact::Flag(false),                 // managed
                9 => PointerFact::Ordinal(i32::try_from(device).unwrap_or(-1)),
                11 => PointerFact::Address(allocation.start()),
                12 => PointerFact::Size(usize::try_from(allocation.length()).unwrap_or(0)),
                13 => PointerFact::Flag(true), // mapped
                _ => return Err(INVALID_VALUE),
            });
        }
        let start = self.pinned(address, 1).ok_or(INVALID_VALUE)?;
        Ok(match attribute {
            2 => PointerFact::MemoryType(1),
            3 | 4 => PointerFact::Address(address),
            8 => PointerFact::Flag(false),
            11 => PointerFact::Address(start),
            12 => PointerFact::Size(usize::try_from(self.host[&start].length).unwrap_or(0)),
            13 => PointerFact::Flag(true),
            _ => return Err(INVALID_VALUE),
        })
    }
}
