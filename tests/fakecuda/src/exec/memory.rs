//! Loads and stores, with the checks that a GPU makes and those that it does not.

use super::arithmetic::extend;
use super::registers::{Mask, Registers, lanes};
use super::{Fault, Room, broken};
use crate::decode::op::{Access, Address, Integer, Slot, Space, W};
use crate::error::{ILLEGAL_ADDRESS, MISALIGNED_ADDRESS};

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
        let bytes = access.element.bytes;
        for lane in lanes(active) {
            let address = self.address(access.address, lane);
            let mut values = [0; 4];
            let values = &mut values[..access.count.into()];
            match place(room, access, address)? {
                Place::Shared(at) => {
                    for (index, value) in values.iter_mut().enumerate() {
                        *value = load_shared(&room.shared, at + index * usize::from(bytes), bytes);
                    }
                }
                Place::Global => {
                    let allocation = room.allocation(address, 1).ok_or_else(|| illegal("load", address, access))?;
                    for (value, step) in values.iter_mut().zip(0..) {
                        *value = allocation.load(address + step * u64::from(bytes), bytes);
                    }
                }
            }
            for (slot, value) in access.registers.iter().zip(values) {
                self.set_lane(*slot, lane, extend(access.element, *value));
            }
        }
        Ok(())
    }

    pub(super) fn store(&mut self, active: Mask, room: &mut Room<'_>, access: &Access) -> Result<(), Fault> {
        let bytes = access.element.bytes;
        for lane in lanes(active) {
            let address = self.address(access.address, lane);
            let found = place(room, access, address)?;
            for (slot, index) in access.registers[..access.count.into()].iter().zip(0_u8..) {
                let (value, step) = (self.lane(*slot, lane), index * bytes);
                match found {
                    Place::Shared(at) => {
                        let at = at + usize::from(step);
                        room.shared[at..at + usize::from(bytes)].copy_from_slice(&value.to_le_bytes()[..bytes.into()]);
                    }
                    Place::Global => {
                        let allocation = room.allocation(address, 1);
                        let allocation = allocation.ok_or_else(|| illegal("store", address, access))?;
                        allocation.store(address + u64::from(step), bytes, value);
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

enum Place {
    /// The index into the block's shared memory.
    Shared(usize),
    Global,
}

/// Looks at an access: aligned to all that it moves, and inside.
fn place(room: &mut Room<'_>, access: &Access, address: u64) -> Result<Place, Fault> {
    let total = u64::from(access.element.bytes) * u64::from(access.count);
    let shared = match access.space {
        Space::Shared => Some(address),
        Space::Global => None,
        Space::Generic => address.checked_sub(SHARED_WINDOW).filter(|offset| *offset < 1 << 32),
    };
    if !address.is_multiple_of(total) {
        return Err(Fault::new(MISALIGNED_ADDRESS, format!("{total} bytes at {address:#x}")));
    }
    match shared {
        Some(offset) => match room.in_shared(offset, total) {
            Some(at) => Ok(Place::Shared(at)),
            None => {
                let size = room.shared.len();
                Err(Fault::new(ILLEGAL_ADDRESS, format!("{total} bytes at {offset:#x} of {size:#x} of shared memory")))
            }
        },
        None if room.allocation(address, total).is_some() => Ok(Place::Global),
        None => Err(illegal("access", address, access)),
    }
}

fn illegal(what: &str, address: u64, access: &Access) -> Fault {
    let total = u16::from(access.element.bytes) * u16::from(access.count);
    Fault::new(ILLEGAL_ADDRESS, format!("{what} of {total} bytes at {address:#x}, which no allocation holds"))
}

fn load_shared(shared: &[u8], at: usize, bytes: u8) -> u64 {
    let mut value = [0; 8];
    value[..bytes.into()].copy_from_slice(&shared[at..at + usize::from(bytes)]);
    u64::from_le_bytes(value)
}
