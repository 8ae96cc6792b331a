//! Loads and stores, with the checks that a GPU makes and those that it does not.

use super::arithmetic::extend;
use super::registers::{Mask, Registers, lanes};
use super::{Fault, Room, broken};
use crate::decode::op::{Access, Address, Integer, Slot, Space, W};
use crate::error::{ILLEGAL_ADDRESS, MISALIGNED_ADDRESS};
use crate::ptx::SHARED_START;

/// Where shared memory shows in the generic address space: at addresses that no allocation can have.
pub(super) const SHARED_WINDOW: u64 = 1 << 56;

impl Registers {
    pub(super) fn address(&self, address: Address, lane: usize) -> u64 {
        match address.base {
            // Shared addresses are 32 bits and wrap as such.
            Slot::Narrow(base) => u64::from(self.n(base)[lane].wrapping_add(address.offset as u32)),
            base => self.lane(base, lane).wrapping_add_signed(address.offset),
        }
    }

    pub(super) fn generic_to_shared(&mut self, active: Mask, to: W, from: W) {
        for lane in lanes(active) {
            self.wide[usize::from(to.0)][lane] = self.w(from)[lane].wrapping_sub(SHARED_WINDOW);
        }
    }

    pub(super) fn shared_to_generic(&mut self, active: Mask, to: W, from: W) {
        for lane in lanes(active) {
            self.wide[usize::from(to.0)][lane] = self.w(from)[lane].wrapping_add(SHARED_WINDOW);
        }
    }

    pub(super) fn load(&mut self, active: Mask, room: &mut Room<'_>, access: &Access) -> Result<(), Fault> {
        let (bytes, count) = (access.element.bytes, usize::from(access.count));
        for lane in lanes(active) {
            let address = self.address(access.address, lane);
            let place = place(room, access, address)?;
            for (index, slot) in access.registers[..count].iter().enumerate() {
                let step = index * usize::from(bytes);
                let value = match place {
                    Place::Shared(at) => load_shared(&room.shared, at + step, bytes),
                    Place::Global(allocation) => room.launch.memory[allocation].load(address + step as u64, bytes),
                };
                match slot {
                    // As most loads are: words into registers of that size.
                    Slot::Narrow(slot) if bytes == 4 => self.narrow[usize::from(slot.0)][lane] = value as u32,
                    slot => self.set_lane(*slot, lane, extend(access.element, value)),
                }
            }
        }
        Ok(())
    }

    pub(super) fn store(&mut self, active: Mask, room: &mut Room<'_>, access: &Access) -> Result<(), Fault> {
        let bytes = access.element.bytes;
        for lane in lanes(active) {
            let address = self.address(access.address, lane);
            let place = place(room, access, address)?;
            for (index, slot) in access.registers[..access.count.into()].iter().enumerate() {
                let (value, step) = (self.lane(*slot, lane), index * usize::from(bytes));
                match place {
                    Place::Shared(at) => {
                        let to = &mut room.shared[at + step..at + step + usize::from(bytes)];
                        to.copy_from_slice(&value.to_le_bytes()[..bytes.into()]);
                    }
                    Place::Global(allocation) => {
                        room.launch.memory[allocation].store(address + step as u64, bytes, value);
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn load_parameter(
        &mut self,
        active: Mask,
        parameters: &[u8],
        to: &[Slot],
        element: Integer,
        offset: u32,
    ) -> Result<(), Fault> {
        for (index, slot) in to.iter().enumerate() {
            let at = offset as usize + index * usize::from(element.bytes);
            let bytes = parameters.get(at..at + usize::from(element.bytes));
            let bytes = bytes.ok_or_else(|| broken(format!("parameter byte {at} of {}", parameters.len())))?;
            let mut value = [0; 8];
            value[..bytes.len()].copy_from_slice(bytes);
            for lane in lanes(active) {
                self.set_lane(*slot, lane, extend(element, u64::from_le_bytes(value)));
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Place {
    /// The index into the block's shared memory.
    Shared(usize),
    /// Which of the launch's allocations.
    Global(usize),
}

/// Looks at an access: aligned to all that it moves, and inside.
#[inline]
fn place(room: &mut Room<'_>, access: &Access, address: u64) -> Result<Place, Fault> {
    let total = u64::from(access.element.bytes) * u64::from(access.count);
    let shared = match access.space {
        Space::Shared => Some(address),
        Space::Global => None,
        Space::Generic => address.checked_sub(SHARED_WINDOW).filter(|offset| *offset < 1 << 32),
    };
    if address & (total - 1) != 0 {
        return Err(Fault::new(MISALIGNED_ADDRESS, format!("{total} bytes at {address:#x}")));
    }
    let found = match shared {
        Some(offset) => room.in_shared(offset, total).map(Place::Shared),
        None => room.allocation(address, total).map(Place::Global),
    };
    found.ok_or_else(|| outside(room, shared, address, total))
}

#[cold]
fn outside(room: &Room<'_>, shared: Option<u64>, address: u64, total: u64) -> Fault {
    let message = match shared {
        Some(offset) => {
            let end = room.shared.len() as u64 + u64::from(SHARED_START);
            format!("{total} bytes at {offset:#x} of shared memory, which ends at {end:#x}")
        }
        None => format!("{total} bytes at {address:#x}, which no allocation holds"),
    };
    Fault::new(ILLEGAL_ADDRESS, message)
}

#[inline]
fn load_shared(shared: &[u8], at: usize, bytes: u8) -> u64 {
    if let (4, Some(word)) = (bytes, shared.get(at..at + 4).and_then(|word| word.try_into().ok())) {
        return u64::from(u32::from_le_bytes(word));
    }
    let mut value = [0; 8];
    value[..bytes.into()].copy_from_slice(&shared[at..at + usize::from(bytes)]);
    u64::from_le_bytes(value)
}
