//! The registers of a warp, 32 lanes each, and how an operation goes over the lanes.

use crate::decode::Files;
use crate::decode::op::{N, P, Slot, W};

/// Lanes of a warp.
pub(crate) const LANES: usize = 32;
/// A bit for each lane.
pub(crate) type Mask = u32;
/// What a register holds before it is written.
const POISON: u64 = 0xDEAD_BEEF_DEAD_BEEF;

/// The three register files.
pub(crate) struct Registers {
    /// A predicate is a bit in each lane.
    pub(crate) predicates: Vec<Mask>,
    pub(crate) narrow: Vec<[u32; LANES]>,
    pub(crate) wide: Vec<[u64; LANES]>,
}

/// The lanes whose bit is set.
pub(crate) fn lanes(mask: Mask) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        let lane = rest.trailing_zeros() as usize;
        rest &= rest.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}

/// Applies `f` in the lanes of `active`: all 32 in a loop that the compiler turns into vector instructions, else
/// one by one. The result is complete before it is written, because `to` may be an operand too.
macro_rules! each_lane {
    ($file:expr, $active:expr, $to:expr, |$lane:ident| $f:expr) => {{
        if $active == u32::MAX {
            let mut all = [Default::default(); crate::exec::registers::LANES];
            for ($lane, one) in all.iter_mut().enumerate() {
                *one = $f;
            }
            $file[$to] = all;
        } else {
            for $lane in crate::exec::registers::lanes($active) {
                let one = $f;
                $file[$to][$lane] = one;
            }
        }
    }};
}
pub(crate) use each_lane;

impl Registers {
    pub(crate) fn new(files: &Files) -> Self {
        let mut registers = Self {
            predicates: vec![0; files.predicates.into()],
            narrow: vec![[0; LANES]; files.narrow.into()],
            wide: vec![[0; LANES]; files.wide.into()],
        };
        registers.reset(files);
        registers
    }

    /// Poison, and the constants; the special registers are the warp's to fill.
    pub(crate) fn reset(&mut self, files: &Files) {
        self.predicates.fill(POISON as u32);
        self.narrow.fill([POISON as u32; LANES]);
        self.wide.fill([POISON; LANES]);
        for &(slot, value) in &files.constant_predicates {
            self.predicates[usize::from(slot.0)] = if value { Mask::MAX } else { 0 };
        }
        for &(slot, value) in &files.constants32 {
            self.narrow[usize::from(slot.0)] = [value; LANES];
        }
        for &(slot, value) in &files.constants64 {
            self.wide[usize::from(slot.0)] = [value; LANES];
        }
    }

    pub(crate) fn predicate(&self, slot: P) -> Mask {
        self.predicates[usize::from(slot.0)]
    }

    pub(crate) fn set_predicate(&mut self, slot: P, active: Mask, value: Mask) {
        let bits = &mut self.predicates[usize::from(slot.0)];
        *bits = *bits & !active | value & active;
    }

    pub(crate) fn n(&self, slot: N) -> &[u32; LANES] {
        &self.narrow[usize::from(slot.0)]
    }

    pub(crate) fn w(&self, slot: W) -> &[u64; LANES] {
        &self.wide[usize::from(slot.0)]
    }

    /// One lane of an operand of any width.
    pub(crate) fn lane(&self, slot: Slot, lane: usize) -> u64 {
        match slot {
            Slot::Half(slot) | Slot::Narrow(slot) => self.n(slot)[lane].into(),
            Slot::Wide(slot) => self.w(slot)[lane],
            Slot::Nowhere => 0,
        }
    }

    /// Writes one lane, cut to what the register holds.
    pub(crate) fn set_lane(&mut self, slot: Slot, lane: usize, value: u64) {
        match slot {
            Slot::Half(slot) => self.narrow[usize::from(slot.0)][lane] = value as u32 & 0xFFFF,
            Slot::Narrow(slot) => self.narrow[usize::from(slot.0)][lane] = value as u32,
            Slot::Wide(slot) => self.wide[usize::from(slot.0)][lane] = value,
            Slot::Nowhere => {}
        }
    }
}
