//! Loads, stores, addresses and asynchronous copies.

use super::op::{Access, Address, Integer, Op, Slot, Space};
use super::{Decoder, Refused, not_modelled, operands};
use crate::ptx::{Base, Operand};

/// The types that loads, stores and conversions know, besides the untyped ones.
#[cfg(test)]
pub(crate) const TYPES: [&str; 8] = ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"];

/// What may stand between `ld` or `st` and the type without changing the result: hints, and `.nc`, which promises
/// that nobody writes. `.L2::cache_hint` is not here: it has an operand of its own.
const HINTS: [&str; 18] = [
    "nc",
    "ca",
    "cg",
    "cs",
    "lu",
    "cv",
    "wb",
    "wt",
    "volatile",
    "L1::evict_normal",
    "L1::evict_unchanged",
    "L1::evict_first",
    "L1::evict_last",
    "L1::no_allocate",
    "L2::64B",
    "L2::128B",
    "L2::256B",
    "weak",
];

impl Decoder {
    pub(super) fn memory(&mut self, name: &str, list: &[Operand]) -> Result<Op, Refused> {
        Ok(match (name, list) {
            // A global address is the same number in the generic space.
            ("cvta.global.u64" | "cvta.to.global.u64", [to, from]) => Op::Move64(self.w(to)?, self.w(from)?),
            ("cvta.shared.u64", [to, from]) => Op::SharedToGeneric(self.w(to)?, self.w(from)?),
            ("cvta.to.shared.u64", [to, from]) => Op::GenericToShared(self.w(to)?, self.w(from)?),
            ("cp.async.commit_group", []) => Op::CopyCommit,
            ("cp.async.wait_all", []) => Op::CopyWaitAll,
            ("cp.async.wait_group", [Operand::Immediate(groups)]) => {
                Op::CopyWait(u32::try_from(*groups).map_err(|_| operands())?)
            }
            _ => match name.split_once('.') {
                Some(("ld", rest)) if rest.starts_with("param.") => self.parameter(&rest[6..], list)?,
                Some(("ld", rest)) => match list {
                    [to, from] => Op::Load(self.access(rest, to, from, false)?),
                    _ => return Err(operands()),
                },
                Some(("st", rest)) => match list {
                    [to, from] => Op::Store(self.access(rest, from, to, true)?),
                    _ => return Err(operands()),
                },
                Some(("cp", rest)) => self.copy(rest, list)?,
                _ => return Err(not_modelled()),
            },
        })
    }

    /// The space, hints, `.v2` or `.v4`, and the type, in that order.
    fn access(
        &mut self,
        modifiers: &str,
        registers: &Operand,
        address: &Operand,
        store: bool,
    ) -> Result<Access, Refused> {
        let mut parts: Vec<&str> = modifiers.split('.').collect();
        let element = integer(parts.pop().ok_or_else(not_modelled)?)?;
        let count = vector(&mut parts);
        let (mut space, mut read_only) = (Space::Generic, false);
        for part in parts {
            match part {
                "global" if space == Space::Generic => space = Space::Global,
                "shared" | "shared::cta" if space == Space::Generic => space = Space::Shared,
                "nc" if store || space != Space::Global => return Err(not_modelled()),
                "nc" => read_only = true,
                "volatile" if read_only => return Err(not_modelled()),
                _ if HINTS.contains(&part) => {}
                _ => return Err(not_modelled()),
            }
        }
        let (base, offset) = self.address(address)?;
        match (base, address, space) {
            (Slot::Wide(_), ..) | (Slot::Narrow(_), _, Space::Shared) => {}
            _ => return Err("a 32-bit address outside shared memory".to_owned()),
        }
        let registers = self.list(registers, count, element, store)?;
        Ok(Access { space, element, count, registers, address: Address { base, offset } })
    }

    /// `ld.param`: the same bytes for every thread, at an offset that stands in the text.
    fn parameter(&mut self, modifiers: &str, list: &[Operand]) -> Result<Op, Refused> {
        let mut parts: Vec<&str> = modifiers.split('.').collect();
        let element = integer(parts.pop().ok_or_else(not_modelled)?)?;
        let count = vector(&mut parts);
        let (true, [to, Operand::Address(Base::Parameter(start), offset)]) = (parts.is_empty(), list) else {
            return Err(not_modelled());
        };
        let offset = u32::try_from(i64::from(*start) + offset).map_err(|_| operands())?;
        Ok(Op::LoadParameter { to: self.list(to, count, element, false)?, count, element, offset })
    }

    /// One register or a vector of them; a store may also write immediates.
    fn list(&mut self, operand: &Operand, count: u8, element: Integer, store: bool) -> Result<[Slot; 4], Refused> {
        let single = [operand.clone()];
        let parts = match operand {
            Operand::Vector(parts) => parts.as_slice(),
            _ => single.as_slice(),
        };
        if parts.len() != usize::from(count) || u32::from(count) * u32::from(element.bytes) > 16 {
            return Err(operands());
        }
        let mut slots = [Slot::Nowhere; 4];
        for (slot, part) in slots.iter_mut().zip(parts) {
            *slot = match part {
                Operand::Nothing if !store => Slot::Nowhere,
                Operand::Immediate(_) if store && element.bytes == 8 => Slot::Wide(self.w(part)?),
                Operand::Immediate(_) if store => Slot::Narrow(self.n(part)?),
                Operand::Special(_) if store && element.bytes == 4 => Slot::Narrow(self.n(part)?),
                _ => self.at_least(part, element.bytes)?,
            };
        }
        Ok(slots)
    }

    /// `cp.async.CACHE.shared.global [to], [from], bytes{, read}`.
    fn copy(&mut self, modifiers: &str, list: &[Operand]) -> Result<Op, Refused> {
        let mut parts = modifiers.split('.');
        let whole_cells = match (parts.next(), parts.next()) {
            (Some("async"), Some("ca")) => false,
            (Some("async"), Some("cg")) => true,
            _ => return Err(not_modelled()),
        };
        let spaces = (parts.next(), parts.next());
        if !matches!(spaces, (Some("shared" | "shared::cta"), Some("global"))) {
            return Err(not_modelled());
        }
        match (parts.next(), parts.next()) {
            (None, _) | (Some("L2::64B" | "L2::128B" | "L2::256B"), None) => {}
            _ => return Err(not_modelled()),
        }
        let (to, from, bytes, read) = match list {
            [to, from, Operand::Immediate(bytes)] => (to, from, *bytes, None),
            [to, from, Operand::Immediate(bytes), read] => (to, from, *bytes, Some(self.n(read)?)),
            _ => return Err(operands()),
        };
        let bytes = match bytes {
            16 => 16,
            4 | 8 if !whole_cells => u8::try_from(bytes).map_err(|_| operands())?,
            _ => return Err(operands()),
        };
        let ((to, to_offset), (from, from_offset)) = (self.address(to)?, self.address(from)?);
        let Slot::Wide(_) = from else { return Err("a 32-bit global address".to_owned()) };
        Ok(Op::CopyAsync {
            to: Address { base: to, offset: to_offset },
            from: Address { base: from, offset: from_offset },
            bytes,
            read,
        })
    }
}

/// Takes `.v2` or `.v4` off the end.
fn vector(parts: &mut Vec<&str>) -> u8 {
    let count = match parts.last() {
        Some(&"v2") => 2,
        Some(&"v4") => 4,
        _ => return 1,
    };
    parts.pop();
    count
}

/// `u32`, `b8` and so on. An untyped one is unsigned: it extends with zeros.
pub(super) fn integer(name: &str) -> Result<Integer, Refused> {
    let (kind, bits) = name.split_at_checked(1).ok_or_else(not_modelled)?;
    let bytes = match bits {
        "8" => 1,
        "16" => 2,
        "32" => 4,
        "64" => 8,
        _ => return Err(not_modelled()),
    };
    match kind {
        "u" | "b" => Ok(Integer { bytes, signed: false }),
        "s" => Ok(Integer { bytes, signed: true }),
        _ => Err(not_modelled()),
    }
}
