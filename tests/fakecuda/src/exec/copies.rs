//! `cp.async`: copies from global to shared memory that land later.
//!
//! A copy lands when its own lane waits for its group, as late as CUDA allows; other lanes may count on it only
//! after a barrier that follows. In the adverse order it lands when it is issued, as early as CUDA allows. The
//! source is read when the copy lands.

use super::registers::{LANES, Mask, lanes};
use super::warp::Warp;
use super::{Fault, Room};
use crate::decode::op::{Address, N};
use crate::error::{ILLEGAL_ADDRESS, MISALIGNED_ADDRESS};

/// The copies that the lanes of a warp have not seen land.
pub(super) struct Copies {
    pending: [Vec<Copy>; LANES],
    /// How many groups each lane has committed.
    groups: [u32; LANES],
    land_at_once: bool,
}

#[derive(Clone, Copy)]
struct Copy {
    /// The index into the block's shared memory.
    to: usize,
    from: u64,
    bytes: u8,
    /// How many of the bytes come from memory; the rest are 0.
    read: u8,
    group: u32,
}

impl Copies {
    pub(super) fn new(land_at_once: bool) -> Self {
        Self { pending: [const { Vec::new() }; LANES], groups: [0; LANES], land_at_once }
    }

    pub(super) fn clear(&mut self) {
        self.pending.iter_mut().for_each(Vec::clear);
        self.groups = [0; LANES];
    }

    /// What was issued since the last commit becomes a group, also if it is nothing.
    pub(super) fn commit(&mut self, active: Mask) {
        lanes(active).for_each(|lane| self.groups[lane] += 1);
    }

    /// Until at most `groups` groups are pending; `None`: until nothing is, committed or not.
    pub(super) fn wait(&mut self, active: Mask, groups: Option<u32>, room: &mut Room<'_>) -> Result<(), Fault> {
        for lane in lanes(active) {
            let committed = self.groups[lane];
            let due = |copy: &Copy| groups.is_none_or(|groups| copy.group + groups < committed);
            let pending = std::mem::take(&mut self.pending[lane]);
            for copy in pending {
                if due(&copy) {
                    copy.land(room)?;
                } else {
                    self.pending[lane].push(copy);
                }
            }
        }
        Ok(())
    }
}

impl Warp {
    pub(super) fn copy_async(
        &mut self,
        room: &mut Room<'_>,
        active: Mask,
        [to, from]: [Address; 2],
        bytes: u8,
        read: Option<N>,
    ) -> Result<(), Fault> {
        for lane in lanes(active) {
            let (to, from) = (self.registers.address(to, lane), self.registers.address(from, lane));
            let read = read.map_or(bytes, |read| self.registers.n(read)[lane].min(bytes.into()) as u8);
            let size = u64::from(bytes);
            if !to.is_multiple_of(size) || !from.is_multiple_of(size) {
                let message = format!("cp.async of {bytes} bytes from {from:#x} to {to:#x} in shared memory");
                return Err(Fault::new(MISALIGNED_ADDRESS, message));
            }
            let Some(to) = room.in_shared(to, size) else {
                let end = room.shared.len();
                let message = format!("cp.async of {bytes} bytes to {to:#x} of {end:#x} of shared memory");
                return Err(Fault::new(ILLEGAL_ADDRESS, message));
            };
            if read > 0 && room.allocation(from, read.into()).is_none() {
                let message = format!("cp.async of {read} bytes from {from:#x}, which no allocation holds");
                return Err(Fault::new(ILLEGAL_ADDRESS, message));
            }
            let copy = Copy { to, from, bytes, read, group: self.copies.groups[lane] };
            if self.copies.land_at_once {
                copy.land(room)?;
            } else {
                self.copies.pending[lane].push(copy);
            }
        }
        Ok(())
    }
}

impl Copy {
    fn land(self, room: &mut Room<'_>) -> Result<(), Fault> {
        let mut data = [0; 16];
        let read = usize::from(self.read);
        if read > 0 {
            // Looked at when it was issued; allocations do not go while a kernel runs.
            let allocation = room.allocation(self.from, read as u64);
            let gone = || Fault::new(ILLEGAL_ADDRESS, format!("cp.async from {:#x}", self.from));
            room.launch.memory[allocation.ok_or_else(gone)?].read(self.from, &mut data[..read]);
        }
        room.shared[self.to..self.to + usize::from(self.bytes)].copy_from_slice(&data[..self.bytes.into()]);
        Ok(())
    }
}
