//! Shifts, fields of bits, comparisons and selections, lane by lane.

use super::registers::{LANES, Mask, Registers, each_lane, lanes};
use crate::decode::op::{Amount, Compare, Comparison, Count, Funnel, Logic, N, P, Shift, W};

/// `shl` and `shr` on one file: amounts over the width give 0, or the sign all over.
macro_rules! shift {
    ($name:ident, $file:ident, $slot:ident, $unsigned:ty, $signed:ty) => {
        pub(super) fn $name(&mut self, active: Mask, what: Shift, to: $slot, a: $slot, by: Amount) {
            let (to, a) = (usize::from(to.0), usize::from(a.0));
            let bits = <$unsigned>::BITS;
            let shift = |x: $unsigned, by: u32| match what {
                Shift::Left => x.checked_shl(by).unwrap_or(0),
                Shift::Right => x.checked_shr(by).unwrap_or(0),
                Shift::RightSigned => ((x as $signed) >> by.min(bits - 1)) as $unsigned,
            };
            match by {
                Amount::Same(by) => {
                    let file = &mut self.$file;
                    match (what, by < bits) {
                        (Shift::Left, true) => each_lane!(file, active, to, |lane| file[a][lane] << by),
                        (Shift::Right, true) => each_lane!(file, active, to, |lane| file[a][lane] >> by),
                        _ => each_lane!(file, active, to, |lane| shift(file[a][lane], by)),
                    }
                }
                Amount::PerLane(by) => {
                    let by = self.narrow[usize::from(by.0)];
                    let file = &mut self.$file;
                    each_lane!(file, active, to, |lane| shift(file[a][lane], by[lane]));
                }
            }
        }
    };
}

/// `setp` on one file.
macro_rules! compare {
    ($name:ident, $slot:ident, $signed:ty) => {
        pub(super) fn $name(&mut self, active: Mask, compare: Compare, a: $slot, b: $slot) {
            let (x, y) = (self.$slot(a), self.$slot(b));
            macro_rules! all {
                (|$x:ident, $y:ident| $f:expr) => {{
                    let mut holds: Mask = 0;
                    for lane in 0..LANES {
                        let ($x, $y) = (x[lane], y[lane]);
                        holds |= Mask::from($f) << lane;
                    }
                    holds
                }};
            }
            let holds = match (compare.comparison, compare.signed) {
                (Comparison::Equal, _) => all!(|x, y| x == y),
                (Comparison::NotEqual, _) => all!(|x, y| x != y),
                (Comparison::Less, false) => all!(|x, y| x < y),
                (Comparison::LessOrEqual, false) => all!(|x, y| x <= y),
                (Comparison::Greater, false) => all!(|x, y| x > y),
                (Comparison::GreaterOrEqual, false) => all!(|x, y| x >= y),
                (Comparison::Less, true) => all!(|x, y| (x as $signed) < (y as $signed)),
                (Comparison::LessOrEqual, true) => all!(|x, y| (x as $signed) <= (y as $signed)),
                (Comparison::Greater, true) => all!(|x, y| (x as $signed) > (y as $signed)),
                (Comparison::GreaterOrEqual, true) => all!(|x, y| (x as $signed) >= (y as $signed)),
            };
            self.set_compared(active, compare, holds);
        }
    };
}

#[allow(non_snake_case)] // `compare!` names the accessor by the slot's type
impl Registers {
    shift!(shift32, narrow, N, u32, i32);
    shift!(shift64, wide, W, u64, i64);
    compare!(compare32, N, i32);
    compare!(compare64, W, i64);

    fn N(&self, slot: N) -> &[u32; LANES] {
        self.n(slot)
    }

    fn W(&self, slot: W) -> &[u64; LANES] {
        self.w(slot)
    }

    /// `p = holds COMBINE c`, `q = !holds COMBINE c`.
    fn set_compared(&mut self, active: Mask, compare: Compare, holds: Mask) {
        let combined = |registers: &Self, holds: Mask| match compare.combine {
            None => holds,
            Some(combine) => {
                let with = registers.predicate(combine.with) ^ if combine.negated { Mask::MAX } else { 0 };
                logic(combine.logic, holds, with)
            }
        };
        let (first, second) = (combined(self, holds), combined(self, !holds));
        self.set_predicate(compare.to, active, first);
        if let Some(opposite) = compare.opposite {
            self.set_predicate(opposite, active, second);
        }
    }

    pub(super) fn logic(&mut self, active: Mask, what: Logic, to: P, a: P, b: P) {
        let value = logic(what, self.predicate(a), self.predicate(b));
        self.set_predicate(to, active, value);
    }

    pub(super) fn select32(&mut self, active: Mask, to: N, yes: N, no: N, by: P) {
        let [to, yes, no] = [to, yes, no].map(|slot| usize::from(slot.0));
        let (by, file) = (self.predicates[usize::from(by.0)], &mut self.narrow);
        each_lane!(file, active, to, |lane| if by >> lane & 1 == 1 { file[yes][lane] } else { file[no][lane] });
    }

    pub(super) fn select64(&mut self, active: Mask, to: W, yes: W, no: W, by: P) {
        let [to, yes, no] = [to, yes, no].map(|slot| usize::from(slot.0));
        let (by, file) = (self.predicates[usize::from(by.0)], &mut self.wide);
        each_lane!(file, active, to, |lane| if by >> lane & 1 == 1 { file[yes][lane] } else { file[no][lane] });
    }

    pub(super) fn count32(&mut self, active: Mask, what: Count, to: N, from: N) {
        let (to, from, file) = (usize::from(to.0), usize::from(from.0), &mut self.narrow);
        match what {
            Count::Ones => each_lane!(file, active, to, |lane| file[from][lane].count_ones()),
            Count::LeadingZeros => each_lane!(file, active, to, |lane| file[from][lane].leading_zeros()),
        }
    }

    pub(super) fn count64(&mut self, active: Mask, what: Count, to: N, from: W) {
        let (to, from, file) = (usize::from(to.0), &self.wide[usize::from(from.0)], &mut self.narrow);
        match what {
            Count::Ones => each_lane!(file, active, to, |lane| from[lane].count_ones()),
            Count::LeadingZeros => each_lane!(file, active, to, |lane| from[lane].leading_zeros()),
        }
    }

    /// The upper or lower half of `high:low` shifted.
    pub(super) fn funnel(&mut self, active: Mask, how: Funnel, to: N, [low, high]: [N; 2], by: Amount) {
        let [to, low, high] = [to, low, high].map(|slot| usize::from(slot.0));
        let reduced = |by: u32| if how.clamp { by.min(32) } else { by & 31 };
        let same = |by: N| uniform(self.n(by)).map(Amount::Same);
        let by = if let Amount::PerLane(slot) = by { same(slot).unwrap_or(by) } else { by };
        match by {
            Amount::Same(by) => {
                // To 32 bits at a time: `by` is the distance from the end that is kept, 1 to 31, else a plain move.
                let (by, file) = (reduced(by), &mut self.narrow);
                match (by, how.left) {
                    (0, true) | (32, false) => each_lane!(file, active, to, |lane| file[high][lane]),
                    (0, false) | (32, true) => each_lane!(file, active, to, |lane| file[low][lane]),
                    (_, true) => {
                        each_lane!(file, active, to, |lane| file[high][lane] << by | file[low][lane] >> (32 - by));
                    }
                    (_, false) => {
                        each_lane!(file, active, to, |lane| file[low][lane] >> by | file[high][lane] << (32 - by));
                    }
                }
            }
            Amount::PerLane(by) => {
                let (by, file) = (self.narrow[usize::from(by.0)], &mut self.narrow);
                each_lane!(file, active, to, |lane| {
                    let (pair, by) =
                        (u64::from(file[high][lane]) << 32 | u64::from(file[low][lane]), reduced(by[lane]));
                    if how.left { ((pair << by) >> 32) as u32 } else { (pair >> by) as u32 }
                });
            }
        }
    }

    /// Each nibble of the selector names a byte of `b:a`, or with its top bit the sign of that byte, eight times.
    ///
    /// A rotation by whole bytes, which is what hashes want of it, is a funnel shift: the same several times as fast.
    pub(super) fn permute(&mut self, active: Mask, to: N, a: N, b: N, selector: N) {
        let rotation = match uniform(self.n(selector)) {
            Some(0x0321) => 8,
            Some(0x1032) => 16,
            Some(0x2103) => 24,
            _ => 0,
        };
        if rotation > 0 {
            return self.funnel(active, Funnel { left: false, clamp: false }, to, [a, a], Amount::Same(rotation));
        }
        let [to, a, b, selector] = [to, a, b, selector].map(|slot| usize::from(slot.0));
        let file = &mut self.narrow;
        each_lane!(file, active, to, |lane| {
            let pair = u64::from(file[b][lane]) << 32 | u64::from(file[a][lane]);
            let picked = |at: u32| {
                let nibble = file[selector][lane] >> (4 * at) & 15;
                let byte = (pair >> (8 * (nibble & 7))) as u8;
                if nibble & 8 == 0 { byte } else { (byte.cast_signed() >> 7).cast_unsigned() }
            };
            u32::from_le_bytes([picked(0), picked(1), picked(2), picked(3)])
        });
    }

    /// Any function of three bits: `table` holds its results, `a` being the top bit of the index.
    pub(super) fn lop3(&mut self, active: Mask, table: u8, to: N, [a, b, c]: [N; 3]) {
        let [to, a, b, c] = [to, a, b, c].map(|slot| usize::from(slot.0));
        let file = &mut self.narrow;
        let ones = |bit: u8| if table >> bit & 1 == 1 { u32::MAX } else { 0 };
        let results: [u32; 8] = [0, 1, 2, 3, 4, 5, 6, 7].map(ones);
        each_lane!(file, active, to, |lane| {
            let (x, y, z) = (file[a][lane], file[b][lane], file[c][lane]);
            let by_z = |zero: u32, one: u32| zero & !z | one & z;
            let by_y = |zero: u32, one: u32| zero & !y | one & y;
            let low = by_y(by_z(results[0], results[1]), by_z(results[2], results[3]));
            let high = by_y(by_z(results[4], results[5]), by_z(results[6], results[7]));
            low & !x | high & x
        });
    }

    /// `bfi`: the low `length` bits of `field` over those of `into` from `position` on.
    pub(super) fn insert32(&mut self, active: Mask, to: N, [field, into, position, length]: [N; 4]) {
        for lane in lanes(active) {
            let part = part_of(32, self.n(position)[lane], self.n(length)[lane]) as u32;
            let shifted = self.n(field)[lane].checked_shl(self.n(position)[lane] & 0xFF).unwrap_or(0);
            self.narrow[usize::from(to.0)][lane] = self.n(into)[lane] & !part | shifted & part;
        }
    }

    pub(super) fn insert64(&mut self, active: Mask, to: W, [field, into]: [W; 2], [position, length]: [N; 2]) {
        for lane in lanes(active) {
            let part = part_of(64, self.n(position)[lane], self.n(length)[lane]);
            let shifted = self.w(field)[lane].checked_shl(self.n(position)[lane] & 0xFF).unwrap_or(0);
            self.wide[usize::from(to.0)][lane] = self.w(into)[lane] & !part | shifted & part;
        }
    }

    pub(super) fn extract32(&mut self, active: Mask, signed: bool, to: N, [from, position, length]: [N; 3]) {
        for lane in lanes(active) {
            let value = u64::from(self.n(from)[lane]);
            let found = extract(32, signed, value, self.n(position)[lane], self.n(length)[lane]);
            self.narrow[usize::from(to.0)][lane] = found as u32;
        }
    }

    pub(super) fn extract64(&mut self, active: Mask, signed: bool, to: W, from: W, [position, length]: [N; 2]) {
        for lane in lanes(active) {
            let found = extract(64, signed, self.w(from)[lane], self.n(position)[lane], self.n(length)[lane]);
            self.wide[usize::from(to.0)][lane] = found;
        }
    }
}

/// The value that all lanes have, if it is one.
fn uniform(register: &[u32; LANES]) -> Option<u32> {
    let differing = register.iter().fold(0, |differing, value| differing | (value ^ register[0]));
    (differing == 0).then_some(register[0])
}

fn logic(what: Logic, a: Mask, b: Mask) -> Mask {
    match what {
        Logic::And => a & b,
        Logic::Or => a | b,
        Logic::Xor => a ^ b,
    }
}

/// The bits from `position` on, `length` of them, as far as they are inside `width`. Both count modulo 256.
fn part_of(width: u32, position: u32, length: u32) -> u64 {
    let (position, length) = (position & 0xFF, length & 0xFF);
    let low = if length >= 64 { u64::MAX } else { (1 << length) - 1 };
    let inside = if width == 64 { u64::MAX } else { (1 << width) - 1 };
    low.checked_shl(position).unwrap_or(0) & inside
}

/// `bfe`: bits beyond the value are its sign bit, or with an unsigned type 0; the sign of a field is its top bit, or
/// that of the value if the field passes it.
fn extract(width: u32, signed: bool, value: u64, position: u32, length: u32) -> u64 {
    let (position, length) = (position & 0xFF, length & 0xFF);
    if length == 0 {
        return 0;
    }
    let top = (position + length - 1).min(width - 1);
    let sign = signed && value >> top & 1 == 1;
    let kept = part_of(width, 0, length);
    let field = value.checked_shr(position).unwrap_or(0) & kept;
    let known = if position > top { 0 } else { part_of(width, 0, top - position + 1) };
    if sign { field & known | !known } else { field & known }
}
