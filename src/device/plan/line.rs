//! The line of slots in blocks: what each block of threads merges, one step of levels after the other.

/// Slots in a block: one thread each.
pub(crate) const SLOTS: u32 = 128;

/// What one block does in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// The first of its inputs.
    pub(crate) first: u32,
    /// How many inputs it has, at most [`SLOTS`].
    pub(crate) used: u32,
    /// Levels that it merges.
    pub(crate) levels: u8,
    /// Where the first of its results goes. The others follow, one for each bit of `starts`.
    pub(crate) out: u32,
    /// A bit for each input with which a subtree starts, from the lowest bit of the first word on. Inputs `a` and
    /// `a + half` merge unless one starts at the latter.
    pub(crate) starts: [u32; 4],
}

/// The blocks of a step that merges up to `step` levels, at most 7, where `done` levels have been merged before, and how
/// many values come out of it. `levels` are those of all subtrees in slot order, largest first.
///
/// A subtree of `k` levels comes as `2^(k - done)` inputs, or as one if `k` is not more than `done`, and leaves as
/// `2^(k - done - step)`, or one. Either way the sizes are powers of two that never grow, so that what is merged never
/// crosses the end of a block.
pub(crate) fn blocks(levels: impl Iterator<Item = u8>, done: u8, step: u8) -> (Vec<Block>, u32) {
    debug_assert!(1 << step <= SLOTS);
    let mut line = Line { blocks: Vec::new(), inputs: 0, outputs: 0 };
    for level in levels {
        let rest = level.saturating_sub(done);
        let merged = rest.min(step);
        let mut inputs = 1_u32 << rest;
        // A large subtree fills whole blocks, all alike.
        while inputs >= SLOTS {
            let (starts, ends) = full(merged);
            line.blocks.push(Block { first: line.inputs, used: SLOTS, levels: merged, out: line.outputs, starts });
            line.inputs += SLOTS;
            line.outputs += ends;
            inputs -= SLOTS;
        }
        for _ in 0..inputs >> merged {
            line.add(merged);
        }
    }
    (line.blocks, line.outputs)
}

/// The starts in a block full of subtrees of `merged` levels, and how many there are.
const fn full(merged: u8) -> ([u32; 4], u32) {
    match merged {
        7 => ([1, 0, 0, 0], 1),
        6 => ([1, 0, 1, 0], 2),
        merged => {
            // u32::MAX / (2^2^n - 1) has every 2^n-th bit set.
            let word = if merged == 5 { 1 } else { u32::MAX / ((1 << (1 << merged)) - 1) };
            ([word; 4], SLOTS >> merged)
        }
    }
}

struct Line {
    blocks: Vec<Block>,
    inputs: u32,
    outputs: u32,
}

impl Line {
    /// The next inputs, `1 << merged` of them, which become one.
    fn add(&mut self, merged: u8) {
        let slot = self.inputs % SLOTS;
        if slot == 0 {
            let block = Block { first: self.inputs, used: 0, levels: 0, out: self.outputs, starts: [0; 4] };
            self.blocks.push(block);
        }
        if let Some(block) = self.blocks.last_mut() {
            block.starts[(slot / 32) as usize] |= 1 << (slot % 32);
            block.used += 1 << merged;
            block.levels = block.levels.max(merged);
        }
        self.inputs += 1 << merged;
        self.outputs += 1;
    }
}
