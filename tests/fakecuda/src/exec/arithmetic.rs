//! Moves, arithmetic and conversions, lane by lane.

use super::registers::{LANES, Mask, Registers, each_lane};
use crate::decode::op::{Binary, Integer, N, Slot, Unary, W};

/// A binary operation on one file of registers: the same text for 32 and 64 bits.
macro_rules! binary {
    ($name:ident, $file:ident, $slot:ident, $unsigned:ty, $signed:ty, $double:ty, $signed_double:ty) => {
        pub(super) fn $name(&mut self, active: Mask, what: Binary, to: $slot, a: $slot, b: $slot) {
            let (to, a, b) = (usize::from(to.0), usize::from(a.0), usize::from(b.0));
            let file = &mut self.$file;
            macro_rules! go {
                (|$x:ident, $y:ident| $f:expr) => {
                    each_lane!(file, active, to, |lane| {
                        let ($x, $y) = (file[a][lane], file[b][lane]);
                        $f
                    })
                };
            }
            match what {
                Binary::Add => go!(|x, y| x.wrapping_add(y)),
                Binary::Subtract => go!(|x, y| x.wrapping_sub(y)),
                Binary::MultiplyLow => go!(|x, y| x.wrapping_mul(y)),
                Binary::MultiplyHighUnsigned => {
                    go!(|x, y| ((<$double>::from(x) * <$double>::from(y)) >> <$unsigned>::BITS) as $unsigned)
                }
                Binary::MultiplyHighSigned => go!(|x, y| {
                    let (x, y) = (<$signed_double>::from(x as $signed), <$signed_double>::from(y as $signed));
                    ((x * y) >> <$unsigned>::BITS) as $unsigned
                }),
                // By zero: all ones, as NVIDIA's division routines give.
                Binary::DivideUnsigned => go!(|x, y| x.checked_div(y).unwrap_or(<$unsigned>::MAX)),
                Binary::RemainderUnsigned => go!(|x, y| x.checked_rem(y).unwrap_or(x)),
                Binary::MinUnsigned => go!(|x, y| x.min(y)),
                Binary::MaxUnsigned => go!(|x, y| x.max(y)),
                Binary::MinSigned => go!(|x, y| (x as $signed).min(y as $signed) as $unsigned),
                Binary::MaxSigned => go!(|x, y| (x as $signed).max(y as $signed) as $unsigned),
                Binary::And => go!(|x, y| x & y),
                Binary::Or => go!(|x, y| x | y),
                Binary::Xor => go!(|x, y| x ^ y),
            }
        }
    };
}

/// An operation on one operand.
macro_rules! unary {
    ($name:ident, $file:ident, $slot:ident) => {
        pub(super) fn $name(&mut self, active: Mask, what: Unary, to: $slot, a: $slot) {
            let (to, a) = (usize::from(to.0), usize::from(a.0));
            let file = &mut self.$file;
            match what {
                Unary::Not => each_lane!(file, active, to, |lane| !file[a][lane]),
                Unary::Negate => each_lane!(file, active, to, |lane| file[a][lane].wrapping_neg()),
                Unary::ReverseBits => each_lane!(file, active, to, |lane| file[a][lane].reverse_bits()),
            }
        }
    };
}

impl Registers {
    binary!(binary32, narrow, N, u32, i32, u64, i64);
    binary!(binary64, wide, W, u64, i64, u128, i128);
    unary!(unary32, narrow, N);
    unary!(unary64, wide, W);

    /// As in 32 bits, and cut: what is modelled in 16 bits has the same low bits either way.
    pub(super) fn binary16(&mut self, active: Mask, what: Binary, to: N, a: N, b: N) {
        self.binary32(active, what, to, a, b);
        let (to, file) = (usize::from(to.0), &mut self.narrow);
        each_lane!(file, active, to, |lane| file[to][lane] & 0xFFFF);
    }

    pub(super) fn move32(&mut self, active: Mask, to: N, from: N) {
        let (to, from, file) = (usize::from(to.0), usize::from(from.0), &mut self.narrow);
        each_lane!(file, active, to, |lane| file[from][lane]);
    }

    pub(super) fn move64(&mut self, active: Mask, to: W, from: W) {
        let (to, from, file) = (usize::from(to.0), usize::from(from.0), &mut self.wide);
        each_lane!(file, active, to, |lane| file[from][lane]);
    }

    pub(super) fn pack(&mut self, active: Mask, to: W, low: N, high: N) {
        let (to, file) = (usize::from(to.0), &mut self.wide);
        let (low, high) = (&self.narrow[usize::from(low.0)], &self.narrow[usize::from(high.0)]);
        each_lane!(file, active, to, |lane| u64::from(low[lane]) | u64::from(high[lane]) << 32);
    }

    pub(super) fn unpack(&mut self, active: Mask, low: Slot, high: Slot, from: W) {
        for lane in super::registers::lanes(active) {
            let value = self.w(from)[lane];
            self.set_lane(low, lane, value);
            self.set_lane(high, lane, value >> 32);
        }
    }

    pub(super) fn multiply_wide(&mut self, active: Mask, signed: bool, to: W, a: N, b: N) {
        let (to, file) = (usize::from(to.0), &mut self.wide);
        let (a, b) = (&self.narrow[usize::from(a.0)], &self.narrow[usize::from(b.0)]);
        each_lane!(file, active, to, |lane| wide_product(signed, a[lane], b[lane]));
    }

    pub(super) fn multiply_add_wide(&mut self, active: Mask, signed: bool, to: W, [a, b]: [N; 2], c: W) {
        let (to, c, file) = (usize::from(to.0), usize::from(c.0), &mut self.wide);
        let (a, b) = (&self.narrow[usize::from(a.0)], &self.narrow[usize::from(b.0)]);
        each_lane!(file, active, to, |lane| wide_product(signed, a[lane], b[lane]).wrapping_add(file[c][lane]));
    }

    pub(super) fn multiply_add32(&mut self, active: Mask, to: N, a: N, b: N, c: N) {
        let [to, a, b, c] = [to, a, b, c].map(|slot| usize::from(slot.0));
        let file = &mut self.narrow;
        each_lane!(file, active, to, |lane| file[a][lane].wrapping_mul(file[b][lane]).wrapping_add(file[c][lane]));
    }

    pub(super) fn multiply_add64(&mut self, active: Mask, to: W, a: W, b: W, c: W) {
        let [to, a, b, c] = [to, a, b, c].map(|slot| usize::from(slot.0));
        let file = &mut self.wide;
        each_lane!(file, active, to, |lane| file[a][lane].wrapping_mul(file[b][lane]).wrapping_add(file[c][lane]));
    }

    pub(super) fn multiply_add_high(&mut self, active: Mask, to: N, a: N, b: N, c: N) {
        let [to, a, b, c] = [to, a, b, c].map(|slot| usize::from(slot.0));
        let file = &mut self.narrow;
        each_lane!(file, active, to, |lane| {
            let high = (u64::from(file[a][lane]) * u64::from(file[b][lane])) >> 32;
            (high as u32).wrapping_add(file[c][lane])
        });
    }

    /// Cuts or extends: the low bits that the source type names, extended as it says, cut to the target type, and
    /// that extended to the register as *it* says.
    pub(super) fn convert(&mut self, active: Mask, to: Slot, target: Integer, from: Slot, source: Integer) {
        match (to, target, from, source) {
            // What nearly every kernel does with addresses, for all lanes at once.
            (Slot::Wide(to), Integer { bytes: 8, .. }, Slot::Narrow(from), Integer { bytes: 4, signed: false }) => {
                let (to, file, from) = (usize::from(to.0), &mut self.wide, &self.narrow[usize::from(from.0)]);
                each_lane!(file, active, to, |lane| u64::from(from[lane]));
            }
            (Slot::Narrow(to), Integer { bytes: 4, .. }, Slot::Wide(from), Integer { bytes: 8, .. }) => {
                let (to, file, from) = (usize::from(to.0), &mut self.narrow, &self.wide[usize::from(from.0)]);
                each_lane!(file, active, to, |lane| from[lane] as u32);
            }
            _ => {
                for lane in super::registers::lanes(active) {
                    let value = extend(target, extend(source, self.lane(from, lane)));
                    self.set_lane(to, lane, value);
                }
            }
        }
    }

    /// Every lane gets `value(lane)`.
    pub(super) fn fill32(&mut self, to: N, value: impl Fn(usize) -> u32) {
        let register = &mut self.narrow[usize::from(to.0)];
        for (lane, one) in register.iter_mut().enumerate() {
            *one = value(lane);
        }
        debug_assert_eq!(register.len(), LANES);
    }
}

#[inline]
fn wide_product(signed: bool, a: u32, b: u32) -> u64 {
    if signed {
        (i64::from(a.cast_signed()) * i64::from(b.cast_signed())).cast_unsigned()
    } else {
        u64::from(a) * u64::from(b)
    }
}

/// The low bits of `value` that `kind` has, extended to 64 with zeros or the sign.
pub(super) fn extend(kind: Integer, value: u64) -> u64 {
    match (kind.bytes, kind.signed) {
        (1, false) => u64::from(value as u8),
        (1, true) => i64::from(value as i8).cast_unsigned(),
        (2, false) => u64::from(value as u16),
        (2, true) => i64::from(value as i16).cast_unsigned(),
        (4, false) => u64::from(value as u32),
        (4, true) => i64::from(value as i32).cast_unsigned(),
        _ => value,
    }
}
