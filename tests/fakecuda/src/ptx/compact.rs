//! Fewer registers: PTX is nearly in single-assignment form, with thousands of names of which some dozens live at
//! once. Packing those into few slots keeps a warp's registers in the first-level cache of the machine that interprets.
//!
//! A register gets a slot from the first to the last instruction at which some thread may still read it (liveness
//! over the control flow, so a loop keeps what it carries). One that may be read before it is written lives from the
//! start, shares its slot with none before that, and so shows the poison that slots start with.

use super::{Class, Effects, Instruction, Kernel};

/// Renumbers the registers of `kernel`; afterwards `kernel.registers` are the slots.
pub(crate) fn compact(kernel: &mut Kernel) {
    let ranges = live_ranges(kernel);
    let mut order: Vec<(usize, (usize, usize))> =
        ranges.iter().enumerate().filter_map(|(register, range)| Some((register, (*range)?))).collect();
    order.sort_by_key(|(_, (first, _))| *first);
    let mut map = vec![0; ranges.len()];
    let mut slots: Vec<(Class, usize)> = Vec::new(); // what each slot is, and the last instruction that needs it
    for (register, (first, last)) in order {
        let class = kernel.registers[register];
        // Strictly before: no instruction reads one register and writes another through one slot.
        let free = slots.iter().position(|&(of, busy_until)| of == class && busy_until < first);
        let slot = free.unwrap_or_else(|| {
            slots.push((class, last));
            slots.len() - 1
        });
        slots[slot].1 = last;
        map[register] = u32::try_from(slot).unwrap_or(u32::MAX);
    }
    for instruction in &mut kernel.instructions {
        instruction.renumber(&map);
    }
    kernel.registers = slots.into_iter().map(|(class, _)| class).collect();
}

/// The first and last instruction at which each register matters; `None` for one that is not used.
fn live_ranges(kernel: &Kernel) -> Vec<Option<(usize, usize)>> {
    let code = &kernel.instructions;
    let effects: Vec<Effects> = code.iter().map(Instruction::effects).collect();
    let mut ranges: Vec<Option<(usize, usize)>> = vec![None; kernel.registers.len()];
    let mut touch = |register: usize, at: usize| {
        let range = ranges[register].get_or_insert((at, at));
        *range = (range.0.min(at), range.1.max(at));
    };
    for (at, live) in live_before(code, &effects, kernel.registers.len()).iter().enumerate() {
        live.members().for_each(|register| touch(register, at));
        effects[at].written.iter().for_each(|&register| touch(register as usize, at));
    }
    ranges
}

/// For each instruction the registers that may be read there or later before they are written.
fn live_before(code: &[Instruction], effects: &[Effects], registers: usize) -> Vec<Set> {
    let mut live = vec![Set::new(registers); code.len()];
    let mut changed = true;
    while changed {
        changed = false;
        for at in (0..code.len()).rev() {
            let mut now = Set::new(registers);
            if !code[at].ends() && at + 1 < code.len() {
                now.add_all(&live[at + 1]);
            }
            if let Some(target) = code[at].target() {
                now.add_all(&live[target as usize]);
            }
            if code[at].guard.is_none() {
                effects[at].written.iter().for_each(|&register| now.remove(register as usize));
            }
            effects[at].read.iter().for_each(|&register| now.add(register as usize));
            if now != live[at] {
                live[at] = now;
                changed = true;
            }
        }
    }
    live
}

/// A set of register numbers.
#[derive(Clone, PartialEq, Eq)]
struct Set(Vec<u64>);

impl Set {
    fn new(size: usize) -> Self {
        Self(vec![0; size.div_ceil(64)])
    }

    fn add(&mut self, member: usize) {
        self.0[member / 64] |= 1 << (member % 64);
    }

    fn remove(&mut self, member: usize) {
        self.0[member / 64] &= !(1 << (member % 64));
    }

    fn add_all(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine |= theirs);
    }

    fn members(&self) -> impl Iterator<Item = usize> + '_ {
        let in_word = |word: u64| (0..64).filter(move |bit| word >> bit & 1 == 1);
        self.0.iter().enumerate().flat_map(move |(at, &word)| in_word(word).map(move |bit| at * 64 + bit))
    }
}
