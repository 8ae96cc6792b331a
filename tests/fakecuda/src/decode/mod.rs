//! Mnemonics into [`op::Op`]. The tables in the files below name every opcode that is modelled, with its type and
//! modifiers in full; whatever they do not name is refused when a module is loaded, never approximated.

mod arithmetic;
mod bits;
mod control;
mod memory;
pub(crate) mod op;

use crate::ptx::{Base, Class, Instruction, Kernel, Operand, Special, compact};
use op::{Amount, N, Op, P, Slot, W};
use std::collections::HashMap;

#[cfg(test)]
pub(crate) use bits::COMPARISONS;
#[cfg(test)]
pub(crate) use memory::TYPES;

/// A kernel that can run.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) kernel: Kernel,
    pub(crate) code: Vec<Step>,
    pub(crate) files: Files,
}

/// An instruction with its guard, and the line of the PTX text for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// Runs in the lanes whose predicate is set; with `true`, in those whose predicate is not.
    pub(crate) guard: Option<(P, bool)>,
    pub(crate) op: Op,
    pub(crate) line: u32,
}

/// How large the register files of a warp are, and what stands in them from the start.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) predicates: u16,
    pub(crate) narrow: u16,
    pub(crate) wide: u16,
    pub(crate) constant_predicates: Vec<(P, bool)>,
    pub(crate) constants32: Vec<(N, u32)>,
    pub(crate) constants64: Vec<(W, u64)>,
    pub(crate) specials: Vec<(N, Special)>,
}

/// Makes a kernel ready to run.
///
/// # Errors
///
/// An instruction that is not modelled, or whose operands are not what its type says.
pub(crate) fn decode(mut kernel: Kernel) -> Result<Program, String> {
    compact(&mut kernel);
    let mut decoder = Decoder::new(&kernel.registers)?;
    let mut code = Vec::with_capacity(kernel.instructions.len());
    for instruction in &kernel.instructions {
        let step = decoder.step(instruction);
        code.push(step.map_err(|error| {
            format!("{}, line {}: {error}: {}", kernel.name, instruction.line, instruction.mnemonic)
        })?);
    }
    let files = decoder.files;
    Ok(Program { kernel, code, files })
}

/// Finds slots for operands: registers have theirs; immediates and special registers get constant ones.
pub(crate) struct Decoder {
    slots: Vec<(Class, u16)>,
    files: Files,
    known32: HashMap<u32, N>,
    known64: HashMap<u64, W>,
}

/// Why an instruction was refused.
pub(crate) type Refused = String;

impl Decoder {
    fn new(registers: &[Class]) -> Result<Self, Refused> {
        let mut files = Files::default();
        let mut slots = Vec::with_capacity(registers.len());
        for class in registers {
            slots.push((*class, take(files.file(*class))?));
        }
        Ok(Self { slots, files, known32: HashMap::new(), known64: HashMap::new() })
    }

    fn step(&mut self, instruction: &Instruction) -> Result<Step, Refused> {
        let guard = match instruction.guard {
            None => None,
            Some(guard) => Some((self.p(&Operand::Register(guard.register))?, guard.negated)),
        };
        let (name, operands) = (instruction.mnemonic.as_str(), instruction.operands.as_slice());
        let op = match instruction.opcode() {
            "mov" | "add" | "sub" | "mul" | "mad" | "div" | "rem" | "min" | "max" | "neg" | "cvt" => {
                self.arithmetic(name, operands)
            }
            "and" | "or" | "xor" | "not" | "shl" | "shr" | "shf" | "prmt" | "lop3" | "bfi" | "bfe" | "popc" | "clz"
            | "brev" | "setp" | "selp" => self.bits(name, operands),
            "ld" | "st" | "cvta" | "cp" => self.memory(name, operands),
            "bra" | "ret" | "exit" | "trap" | "bar" | "barrier" | "shfl" | "redux" | "vote" | "match"
            | "activemask" => self.control(name, operands),
            _ => Err(not_modelled()),
        }?;
        Ok(Step { guard, op, line: instruction.line })
    }

    fn register(&self, register: u32, wanted: &[Class]) -> Result<u16, Refused> {
        let (class, slot) = self.slots[register as usize];
        if wanted.contains(&class) { Ok(slot) } else { Err(format!("a {class:?} register where {wanted:?} is due")) }
    }

    /// A predicate, or the constant 0 or 1.
    fn p(&mut self, operand: &Operand) -> Result<P, Refused> {
        match operand {
            Operand::Register(register) => Ok(P(self.register(*register, &[Class::Predicate])?)),
            Operand::Immediate(value) => {
                let slot = P(take(&mut self.files.predicates)?);
                self.files.constant_predicates.push((slot, *value != 0));
                Ok(slot)
            }
            _ => Err(operands()),
        }
    }

    /// 32 bits.
    fn n(&mut self, operand: &Operand) -> Result<N, Refused> {
        match operand {
            Operand::Register(register) => Ok(N(self.register(*register, &[Class::Bits32])?)),
            Operand::Immediate(value) => {
                let narrowed = u32::try_from(*value).ok();
                let value = narrowed.or_else(|| i32::try_from(*value).ok().map(i32::cast_unsigned));
                self.constant32(value.ok_or("the immediate is wider than 32 bits")?)
            }
            Operand::Special(special) => self.special(*special),
            _ => Err(operands()),
        }
    }

    /// 16 bits.
    fn h(&mut self, operand: &Operand) -> Result<N, Refused> {
        match operand {
            Operand::Register(register) => Ok(N(self.register(*register, &[Class::Bits16])?)),
            Operand::Immediate(value) => {
                let narrowed = u16::try_from(*value).ok();
                let value = narrowed.or_else(|| i16::try_from(*value).ok().map(i16::cast_unsigned));
                self.constant32(value.ok_or("the immediate is wider than 16 bits")?.into())
            }
            _ => Err(operands()),
        }
    }

    /// 64 bits.
    fn w(&mut self, operand: &Operand) -> Result<W, Refused> {
        match operand {
            Operand::Register(register) => Ok(W(self.register(*register, &[Class::Bits64])?)),
            Operand::Immediate(value) => {
                let narrowed = u64::try_from(*value).ok();
                let value = narrowed.or_else(|| i64::try_from(*value).ok().map(i64::cast_unsigned));
                self.constant64(value.ok_or("the immediate is wider than 64 bits")?)
            }
            _ => Err(operands()),
        }
    }

    /// A register that is at least `bytes` wide, as memory accesses and conversions allow; not an immediate.
    fn at_least(&mut self, operand: &Operand, bytes: u8) -> Result<Slot, Refused> {
        let Operand::Register(register) = operand else { return Err(operands()) };
        let (class, slot) = self.slots[*register as usize];
        match class {
            Class::Bits16 if bytes <= 2 => Ok(Slot::Half(N(slot))),
            Class::Bits32 if bytes <= 4 => Ok(Slot::Narrow(N(slot))),
            Class::Bits64 => Ok(Slot::Wide(W(slot))),
            _ => Err(format!("a {class:?} register for {bytes} bytes")),
        }
    }

    /// A shift amount.
    fn amount(&mut self, operand: &Operand) -> Result<Amount, Refused> {
        match operand {
            Operand::Immediate(value) => {
                Ok(Amount::Same(u32::try_from(*value).map_err(|_| "the amount is no 32-bit number")?))
            }
            _ => Ok(Amount::PerLane(self.n(operand)?)),
        }
    }

    fn address(&mut self, operand: &Operand) -> Result<(Slot, i64), Refused> {
        let Operand::Address(base, offset) = operand else { return Err(operands()) };
        let slot = match base {
            Base::Register(register) => match self.slots[*register as usize] {
                (Class::Bits32, slot) => Slot::Narrow(N(slot)),
                (Class::Bits64, slot) => Slot::Wide(W(slot)),
                (class, _) => return Err(format!("a {class:?} register as an address")),
            },
            Base::Shared(address) => Slot::Narrow(self.constant32(*address)?),
            Base::Absolute(address) => Slot::Wide(self.constant64(*address)?),
            Base::Parameter(_) => return Err("a parameter as an address".to_owned()),
        };
        Ok((slot, *offset))
    }

    fn constant32(&mut self, value: u32) -> Result<N, Refused> {
        if let Some(slot) = self.known32.get(&value) {
            return Ok(*slot);
        }
        let slot = N(take(&mut self.files.narrow)?);
        self.files.constants32.push((slot, value));
        self.known32.insert(value, slot);
        Ok(slot)
    }

    fn constant64(&mut self, value: u64) -> Result<W, Refused> {
        if let Some(slot) = self.known64.get(&value) {
            return Ok(*slot);
        }
        let slot = W(take(&mut self.files.wide)?);
        self.files.constants64.push((slot, value));
        self.known64.insert(value, slot);
        Ok(slot)
    }

    fn special(&mut self, special: Special) -> Result<N, Refused> {
        if let Some((slot, _)) = self.files.specials.iter().find(|(_, known)| *known == special) {
            return Ok(*slot);
        }
        let slot = N(take(&mut self.files.narrow)?);
        self.files.specials.push((slot, special));
        Ok(slot)
    }
}

impl Files {
    fn file(&mut self, class: Class) -> &mut u16 {
        match class {
            Class::Predicate => &mut self.predicates,
            Class::Bits16 | Class::Bits32 => &mut self.narrow,
            Class::Bits64 => &mut self.wide,
        }
    }
}

/// The next slot of a file.
fn take(file: &mut u16) -> Result<u16, Refused> {
    let slot = *file;
    *file = file.checked_add(1).ok_or("too many registers")?;
    Ok(slot)
}

fn not_modelled() -> Refused {
    "not modelled".to_owned()
}

fn operands() -> Refused {
    "the operands are not what the instruction takes".to_owned()
}
