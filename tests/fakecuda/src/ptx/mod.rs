//! PTX as a tree: what the parser makes of the text, before any opcode is known.

mod compact;
mod lexer;
mod names;
mod parser;

pub(crate) use compact::compact;
pub(crate) use parser::parse;

/// What a PTX text declares.
#[derive(Debug)]
pub(crate) struct Module {
    /// `.version`, major and minor.
    pub(crate) version: (u32, u32),
    /// `.target sm_80` is 80.
    pub(crate) target: u32,
    /// `.target sm_90a`: for that capability alone, not for newer ones.
    pub(crate) exact: bool,
    /// The `.entry` functions, in their order.
    pub(crate) kernels: Vec<Kernel>,
}

/// One `.entry`.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    pub(crate) name: String,
    pub(crate) parameters: Vec<Parameter>,
    /// The bytes of all parameters, with the gaps that alignment leaves.
    pub(crate) parameter_bytes: usize,
    /// The code. A `ret` closes it.
    pub(crate) instructions: Vec<Instruction>,
    /// What each register is, by the number that operands use.
    pub(crate) registers: Vec<Class>,
    /// The bytes of `.shared` variables of known size.
    pub(crate) static_shared: u32,
    /// `.maxntid`: threads of a block at most.
    pub(crate) max_threads: u32,
    /// `.reqntid`: exactly this block.
    pub(crate) required_block: Option<[u32; 3]>,
}

/// Where a kernel parameter lies in the parameter buffer, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) offset: usize,
    pub(crate) size: usize,
}

/// What a register can hold. PTX tells signed from unsigned by the opcode alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Class {
    Predicate,
    Bits16,
    Bits32,
    Bits64,
}

/// One instruction, its operands resolved to numbers.
#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    pub(crate) guard: Option<Guard>,
    /// `ld.global.nc.u32`, say.
    pub(crate) mnemonic: String,
    pub(crate) operands: Vec<Operand>,
    pub(crate) line: u32,
}

/// `@%p1` or `@!%p1`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard {
    pub(crate) register: u32,
    pub(crate) negated: bool,
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Register(u32),
    /// `!%p1`.
    Not(u32),
    /// Wide enough for every immediate that PTX has; the decoder narrows it.
    Immediate(i128),
    Special(Special),
    /// `[base + offset]`.
    Address(Base, i64),
    /// `{a, b}`.
    Vector(Vec<Operand>),
    /// `d|p`.
    Pair(u32, u32),
    /// `_`: the result is not wanted.
    Nothing,
    /// Where a branch goes: the number of an instruction.
    Label(u32),
}

/// What an address starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    Register(u32),
    /// A `.shared` variable, by its address.
    Shared(u32),
    /// A parameter, by its offset.
    Parameter(u32),
    Absolute(u64),
}

/// A special register; the axes are 0, 1, 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Thread(u8),
    BlockSize(u8),
    Block(u8),
    GridSize(u8),
    Lane,
    Warp,
}

/// Where shared memory starts. Not 0: the first KiB is the driver's, and a null pointer must not look like a tile.
pub(crate) const SHARED_START: u32 = 1024;

/// The registers that an instruction writes and those that it reads.
pub(crate) struct Effects {
    pub(crate) written: Vec<u32>,
    pub(crate) read: Vec<u32>,
}

impl Instruction {
    /// Before the first `.`.
    pub(crate) fn opcode(&self) -> &str {
        self.mnemonic.split('.').next().unwrap_or_default()
    }

    /// Where it may jump to.
    pub(crate) fn target(&self) -> Option<u32> {
        self.operands.iter().find_map(|operand| if let Operand::Label(to) = operand { Some(*to) } else { None })
    }

    /// Nothing after it runs, in the threads that run it.
    pub(crate) fn ends(&self) -> bool {
        self.guard.is_none() && matches!(self.opcode(), "bra" | "ret" | "exit" | "trap")
    }

    /// In PTX the first operand is the destination, but for the opcodes that have none.
    fn has_destination(&self) -> bool {
        !matches!(self.opcode(), "st" | "bra" | "ret" | "exit" | "trap" | "bar" | "barrier" | "cp")
    }

    pub(crate) fn effects(&self) -> Effects {
        let mut effects = Effects { written: Vec::new(), read: Vec::new() };
        effects.read.extend(self.guard.map(|guard| guard.register));
        for (at, operand) in self.operands.iter().enumerate() {
            let list = if at == 0 && self.has_destination() { &mut effects.written } else { &mut effects.read };
            operand.registers(list);
        }
        effects
    }

    /// Gives every register the number that `map` has for it.
    pub(crate) fn renumber(&mut self, map: &[u32]) {
        if let Some(guard) = &mut self.guard {
            guard.register = map[guard.register as usize];
        }
        for operand in &mut self.operands {
            operand.renumber(map);
        }
    }
}

impl Operand {
    fn registers(&self, into: &mut Vec<u32>) {
        match self {
            Self::Register(register) | Self::Not(register) | Self::Address(Base::Register(register), _) => {
                into.push(*register);
            }
            Self::Pair(first, second) => into.extend([*first, *second]),
            Self::Vector(parts) => parts.iter().for_each(|part| part.registers(into)),
            _ => {}
        }
    }

    fn renumber(&mut self, map: &[u32]) {
        let renumbered = |register: &mut u32| *register = map[*register as usize];
        match self {
            Self::Register(register) | Self::Not(register) | Self::Address(Base::Register(register), _) => {
                renumbered(register);
            }
            Self::Pair(first, second) => [first, second].into_iter().for_each(renumbered),
            Self::Vector(parts) => parts.iter_mut().for_each(|part| part.renumber(map)),
            _ => {}
        }
    }
}
