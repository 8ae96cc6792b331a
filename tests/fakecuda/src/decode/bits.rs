//! Logic, shifts, fields of bits, comparisons and selections.

use super::op::{Binary, Combine, Compare, Comparison, Comparison::*, Count, Funnel, Logic, Op, Shift, Unary};
use super::{Decoder, Refused, not_modelled, operands};
use crate::ptx::Operand;

/// `setp`'s comparisons: the name, what it compares, whether it is for unsigned types alone.
pub(crate) const COMPARISONS: [(&str, Comparison, bool); 10] = [
    ("eq", Equal, false),
    ("ne", NotEqual, false),
    ("lt", Less, false),
    ("le", LessOrEqual, false),
    ("gt", Greater, false),
    ("ge", GreaterOrEqual, false),
    ("lo", Less, true),
    ("ls", LessOrEqual, true),
    ("hi", Greater, true),
    ("hs", GreaterOrEqual, true),
];

impl Decoder {
    pub(super) fn bits(&mut self, name: &str, list: &[Operand]) -> Result<Op, Refused> {
        if let Some(rest) = name.strip_prefix("setp.") {
            return self.comparison(rest, list);
        }
        Ok(match (name, list) {
            ("and.b16" | "and.b32" | "and.b64", _) => self.binary(name, Binary::And, list)?,
            ("or.b16" | "or.b32" | "or.b64", _) => self.binary(name, Binary::Or, list)?,
            ("xor.b16" | "xor.b32" | "xor.b64", _) => self.binary(name, Binary::Xor, list)?,
            ("and.pred", [to, a, b]) => Op::Logic(Logic::And, self.p(to)?, self.p(a)?, self.p(b)?),
            ("or.pred", [to, a, b]) => Op::Logic(Logic::Or, self.p(to)?, self.p(a)?, self.p(b)?),
            ("xor.pred", [to, a, b]) => Op::Logic(Logic::Xor, self.p(to)?, self.p(a)?, self.p(b)?),
            ("not.pred", [to, a]) => Op::NotPredicate(self.p(to)?, self.p(a)?),
            ("not.b32", [to, a]) => Op::Unary32(Unary::Not, self.n(to)?, self.n(a)?),
            ("not.b64", [to, a]) => Op::Unary64(Unary::Not, self.w(to)?, self.w(a)?),
            ("brev.b32", [to, a]) => Op::Unary32(Unary::ReverseBits, self.n(to)?, self.n(a)?),
            ("brev.b64", [to, a]) => Op::Unary64(Unary::ReverseBits, self.w(to)?, self.w(a)?),
            ("popc.b32", [to, a]) => Op::Count32(Count::Ones, self.n(to)?, self.n(a)?),
            ("popc.b64", [to, a]) => Op::Count64(Count::Ones, self.n(to)?, self.w(a)?),
            ("clz.b32", [to, a]) => Op::Count32(Count::LeadingZeros, self.n(to)?, self.n(a)?),
            ("clz.b64", [to, a]) => Op::Count64(Count::LeadingZeros, self.n(to)?, self.w(a)?),
            ("shl.b32", [to, a, by]) => Op::Shift32(Shift::Left, self.n(to)?, self.n(a)?, self.amount(by)?),
            ("shl.b64", [to, a, by]) => Op::Shift64(Shift::Left, self.w(to)?, self.w(a)?, self.amount(by)?),
            ("shr.b32" | "shr.u32", [to, a, by]) => {
                Op::Shift32(Shift::Right, self.n(to)?, self.n(a)?, self.amount(by)?)
            }
            ("shr.b64" | "shr.u64", [to, a, by]) => {
                Op::Shift64(Shift::Right, self.w(to)?, self.w(a)?, self.amount(by)?)
            }
            ("shr.s32", [to, a, by]) => Op::Shift32(Shift::RightSigned, self.n(to)?, self.n(a)?, self.amount(by)?),
            ("shr.s64", [to, a, by]) => Op::Shift64(Shift::RightSigned, self.w(to)?, self.w(a)?, self.amount(by)?),
            ("shf.l.wrap.b32", _) => self.funnel(Funnel { left: true, clamp: false }, list)?,
            ("shf.l.clamp.b32", _) => self.funnel(Funnel { left: true, clamp: true }, list)?,
            ("shf.r.wrap.b32", _) => self.funnel(Funnel { left: false, clamp: false }, list)?,
            ("shf.r.clamp.b32", _) => self.funnel(Funnel { left: false, clamp: true }, list)?,
            ("prmt.b32", [to, a, b, selector]) => {
                Op::Permute { to: self.n(to)?, a: self.n(a)?, b: self.n(b)?, selector: self.n(selector)? }
            }
            ("lop3.b32", [to, a, b, c, Operand::Immediate(table)]) => Op::Lop3 {
                table: u8::try_from(*table).map_err(|_| operands())?,
                to: self.n(to)?,
                a: self.n(a)?,
                b: self.n(b)?,
                c: self.n(c)?,
            },
            ("bfi.b32", [to, field, into, position, length]) => Op::Insert32 {
                to: self.n(to)?,
                field: self.n(field)?,
                into: self.n(into)?,
                position: self.n(position)?,
                length: self.n(length)?,
            },
            ("bfi.b64", [to, field, into, position, length]) => Op::Insert64 {
                to: self.w(to)?,
                field: self.w(field)?,
                into: self.w(into)?,
                position: self.n(position)?,
                length: self.n(length)?,
            },
            ("bfe.u32" | "bfe.s32", [to, from, position, length]) => Op::Extract32 {
                signed: name == "bfe.s32",
                to: self.n(to)?,
                from: self.n(from)?,
                position: self.n(position)?,
                length: self.n(length)?,
            },
            ("bfe.u64" | "bfe.s64", [to, from, position, length]) => Op::Extract64 {
                signed: name == "bfe.s64",
                to: self.w(to)?,
                from: self.w(from)?,
                position: self.n(position)?,
                length: self.n(length)?,
            },
            ("selp.b32" | "selp.u32" | "selp.s32", [to, yes, no, by]) => {
                Op::Select32 { to: self.n(to)?, yes: self.n(yes)?, no: self.n(no)?, by: self.p(by)? }
            }
            ("selp.b64" | "selp.u64" | "selp.s64", [to, yes, no, by]) => {
                Op::Select64 { to: self.w(to)?, yes: self.w(yes)?, no: self.w(no)?, by: self.p(by)? }
            }
            _ => return Err(not_modelled()),
        })
    }

    fn funnel(&mut self, how: Funnel, list: &[Operand]) -> Result<Op, Refused> {
        let [to, low, high, by] = list else { return Err(operands()) };
        Ok(Op::Funnel { how, to: self.n(to)?, low: self.n(low)?, high: self.n(high)?, by: self.amount(by)? })
    }

    /// `CMP.TYPE` or `CMP.BOOL.TYPE` after `setp.`.
    fn comparison(&mut self, rest: &str, list: &[Operand]) -> Result<Op, Refused> {
        let (comparison, rest) = rest.split_once('.').ok_or_else(not_modelled)?;
        let (logic, kind) = match rest.split_once('.') {
            None => (None, rest),
            Some(("and", kind)) => (Some(Logic::And), kind),
            Some(("or", kind)) => (Some(Logic::Or), kind),
            Some(("xor", kind)) => (Some(Logic::Xor), kind),
            Some(_) => return Err(not_modelled()),
        };
        let known = COMPARISONS.iter().find(|(name, ..)| *name == comparison);
        let (_, comparison, unsigned_only) = *known.ok_or_else(not_modelled)?;
        let equality = matches!(comparison, Equal | NotEqual);
        let signed = match kind {
            "u32" | "u64" => false,
            "s32" | "s64" if !unsigned_only => true,
            "b32" | "b64" if equality => false,
            _ => return Err(not_modelled()),
        };
        let (to, a, b, combine) = match (list, logic) {
            ([to, a, b], None) => (to, a, b, None),
            ([to, a, b, Operand::Not(with)], Some(logic)) => {
                (to, a, b, Some(Combine { logic, with: self.p(&Operand::Register(*with))?, negated: true }))
            }
            ([to, a, b, with], Some(logic)) => (to, a, b, Some(Combine { logic, with: self.p(with)?, negated: false })),
            _ => return Err(operands()),
        };
        let (to, opposite) = match to {
            Operand::Pair(to, opposite) => {
                (self.p(&Operand::Register(*to))?, Some(self.p(&Operand::Register(*opposite))?))
            }
            _ => (self.p(to)?, None),
        };
        let compare = Compare { comparison, signed, to, opposite, combine };
        Ok(if kind.ends_with("32") {
            Op::Compare32(compare, self.n(a)?, self.n(b)?)
        } else {
            Op::Compare64(compare, self.w(a)?, self.w(b)?)
        })
    }
}
