//! Moves, arithmetic and conversions.

use super::memory::integer;
use super::op::Unary::Negate;
use super::op::{Binary, Binary::*, Op, Slot};
use super::{Decoder, Refused, not_modelled, operands};
use crate::ptx::Operand;

impl Decoder {
    pub(super) fn arithmetic(&mut self, name: &str, list: &[Operand]) -> Result<Op, Refused> {
        if let Some(types) = name.strip_prefix("cvt.") {
            return self.conversion(types, list);
        }
        if let Some(binary) = binary(name) {
            return self.binary(name, binary, list);
        }
        Ok(match (name, list) {
            ("mov.pred", [to, from]) => Op::MovePredicate(self.p(to)?, self.p(from)?),
            ("mov.b16" | "mov.u16" | "mov.s16", [to, from]) => Op::Move32(self.h(to)?, self.h(from)?),
            ("mov.b32" | "mov.u32" | "mov.s32", [to, from]) => Op::Move32(self.n(to)?, self.n(from)?),
            ("mov.b64", [to, Operand::Vector(parts)]) => match parts.as_slice() {
                [low, high] => Op::Pack(self.w(to)?, self.n(low)?, self.n(high)?),
                _ => return Err(operands()),
            },
            ("mov.b64", [Operand::Vector(parts), from]) => match parts.as_slice() {
                [low, high] => Op::Unpack(self.half(low)?, self.half(high)?, self.w(from)?),
                _ => return Err(operands()),
            },
            ("mov.b64" | "mov.u64" | "mov.s64", [to, from]) => Op::Move64(self.w(to)?, self.w(from)?),
            ("neg.s32", [to, from]) => Op::Unary32(Negate, self.n(to)?, self.n(from)?),
            ("neg.s64", [to, from]) => Op::Unary64(Negate, self.w(to)?, self.w(from)?),
            ("mul.wide.u16", [to, a, b]) => Op::MultiplyWide16(self.n(to)?, self.h(a)?, self.h(b)?),
            ("mul.wide.u32", [to, a, b]) => {
                Op::MultiplyWide { signed: false, to: self.w(to)?, a: self.n(a)?, b: self.n(b)? }
            }
            ("mul.wide.s32", [to, a, b]) => {
                Op::MultiplyWide { signed: true, to: self.w(to)?, a: self.n(a)?, b: self.n(b)? }
            }
            ("mad.lo.u32" | "mad.lo.s32", [to, a, b, c]) => {
                Op::MultiplyAdd32(self.n(to)?, self.n(a)?, self.n(b)?, self.n(c)?)
            }
            ("mad.lo.u64" | "mad.lo.s64", [to, a, b, c]) => {
                Op::MultiplyAdd64(self.w(to)?, self.w(a)?, self.w(b)?, self.w(c)?)
            }
            ("mad.hi.u32", [to, a, b, c]) => Op::MultiplyAddHigh(self.n(to)?, self.n(a)?, self.n(b)?, self.n(c)?),
            ("mad.wide.u32", [to, a, b, c]) => {
                Op::MultiplyAddWide { signed: false, to: self.w(to)?, a: self.n(a)?, b: self.n(b)?, c: self.w(c)? }
            }
            ("mad.wide.s32", [to, a, b, c]) => {
                Op::MultiplyAddWide { signed: true, to: self.w(to)?, a: self.n(a)?, b: self.n(b)?, c: self.w(c)? }
            }
            _ => return Err(not_modelled()),
        })
    }

    /// `.u16`, `.b32`, `.s64`: the width alone is left to see, `binary` has looked at the rest.
    pub(super) fn binary(&mut self, name: &str, what: Binary, list: &[Operand]) -> Result<Op, Refused> {
        let [to, a, b] = list else { return Err(operands()) };
        Ok(match name.get(name.len().saturating_sub(2)..) {
            Some("16") => Op::Binary16(what, self.h(to)?, self.h(a)?, self.h(b)?),
            Some("32") => Op::Binary32(what, self.n(to)?, self.n(a)?, self.n(b)?),
            Some("64") => Op::Binary64(what, self.w(to)?, self.w(a)?, self.w(b)?),
            _ => return Err(not_modelled()),
        })
    }

    fn half(&mut self, operand: &Operand) -> Result<Slot, Refused> {
        Ok(if *operand == Operand::Nothing { Slot::Nowhere } else { Slot::Narrow(self.n(operand)?) })
    }

    /// `cvt.TO.FROM` between integers: cut or extend; no saturation, no rounding.
    fn conversion(&mut self, types: &str, list: &[Operand]) -> Result<Op, Refused> {
        let (target, source) = types.split_once('.').ok_or_else(not_modelled)?;
        let (target, source) = (integer(target)?, integer(source)?);
        let [to, from] = list else { return Err(operands()) };
        Ok(Op::Convert {
            to: self.at_least(to, target.bytes)?,
            target,
            from: match from {
                Operand::Special(_) => Slot::Narrow(self.n(from)?),
                _ => self.at_least(from, source.bytes)?,
            },
            source,
        })
    }
}

/// Two operands of the type of the result. Where the low bits of signed and unsigned are the same, so is the row.
fn binary(name: &str) -> Option<Binary> {
    Some(match name {
        "add.u32" | "add.s32" | "add.u64" | "add.s64" => Add,
        "sub.u32" | "sub.s32" | "sub.u64" | "sub.s64" => Subtract,
        "mul.lo.u16" | "mul.lo.s16" | "mul.lo.u32" | "mul.lo.s32" | "mul.lo.u64" | "mul.lo.s64" => MultiplyLow,
        "mul.hi.u32" | "mul.hi.u64" => MultiplyHighUnsigned,
        "mul.hi.s32" | "mul.hi.s64" => MultiplyHighSigned,
        "div.u32" | "div.u64" => DivideUnsigned,
        "rem.u32" | "rem.u64" => RemainderUnsigned,
        "min.u32" | "min.u64" => MinUnsigned,
        "min.s32" | "min.s64" => MinSigned,
        "max.u32" | "max.u64" => MaxUnsigned,
        "max.s32" | "max.s64" => MaxSigned,
        _ => return None,
    })
}
