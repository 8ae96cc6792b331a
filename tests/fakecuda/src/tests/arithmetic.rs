//! Moves, arithmetic, conversions: against integers that are too wide to overflow.

use super::{H, Kind, N, P, W, check, one_warp};
use crate::decode::TYPES;

/// `value` as a signed number of `bits` bits.
fn signed(value: u64, bits: u32) -> i128 {
    let value = i128::from(value) % (1 << bits);
    if value >= 1 << (bits - 1) { value - (1 << bits) } else { value }
}

/// `value` in `bits` bits, as two's complement.
fn modulo(value: i128, bits: u32) -> u64 {
    value.rem_euclid(1 << bits) as u64
}

fn kind_of(bits: u32) -> Kind {
    match bits {
        16 => H,
        32 => N,
        _ => W,
    }
}

/// A row of the table below: two operands, each read as `signed` says.
fn two(mnemonic: &str, bits: u32, is_signed: bool, expected: impl Fn(i128, i128) -> i128) {
    let read = |value: u64| if is_signed { signed(value, bits) } else { i128::from(value) };
    let kind = kind_of(bits);
    check(&format!("{mnemonic} $0, $1, $2;"), kind, &[kind, kind], |of| {
        modulo(expected(read(of[0]), read(of[1])), bits)
    });
}

#[test]
fn add_and_sub() {
    two("add.u32", 32, false, |a, b| a + b);
    two("add.s32", 32, true, |a, b| a + b);
    two("add.u64", 64, false, |a, b| a + b);
    two("add.s64", 64, true, |a, b| a + b);
    two("sub.u32", 32, false, |a, b| a - b);
    two("sub.s32", 32, true, |a, b| a - b);
    two("sub.u64", 64, false, |a, b| a - b);
    two("sub.s64", 64, true, |a, b| a - b);
    check("add.s32 $0, $1, -5;", N, &[N], |of| modulo(i128::from(of[0]) - 5, 32));
    check("add.s64 $0, $1, -5;", W, &[W], |of| modulo(i128::from(of[0]) - 5, 64));
    check("sub.s32 $0, 0xFFFFFFFF, $1;", N, &[N], |of| modulo(-1 - i128::from(of[0]), 32));
    check("neg.s32 $0, $1;", N, &[N], |of| modulo(-i128::from(of[0]), 32));
    check("neg.s64 $0, $1;", W, &[W], |of| modulo(-i128::from(of[0]), 64));
}

/// Long multiplication in base 2^16, so that no product is taken the way the interpreter takes it.
fn long_product(a: u64, b: u64) -> [u64; 8] {
    let digits = |value: u64| [value & 0xFFFF, value >> 16 & 0xFFFF, value >> 32 & 0xFFFF, value >> 48];
    let mut result = [0; 8];
    for (i, x) in digits(a).into_iter().enumerate() {
        let mut carry = 0;
        for (j, y) in digits(b).into_iter().enumerate() {
            let sum = result[i + j] + x * y + carry;
            (result[i + j], carry) = (sum & 0xFFFF, sum >> 16);
        }
        result[i + 4] = carry;
    }
    result
}

/// The bits of a product from `start` (a multiple of 16) on.
fn product_bits(a: u64, b: u64, start: usize) -> u64 {
    let digits = long_product(a, b);
    (0..4).rev().fold(0, |value, at| value << 16 | digits.get(start / 16 + at).copied().unwrap_or(0))
}

#[test]
fn multiplication() {
    for mnemonic in ["mul.lo.u32", "mul.lo.s32"] {
        check(&format!("{mnemonic} $0, $1, $2;"), N, &[N, N], |of| product_bits(of[0], of[1], 0));
    }
    for mnemonic in ["mul.lo.u64", "mul.lo.s64"] {
        check(&format!("{mnemonic} $0, $1, $2;"), W, &[W, W], |of| product_bits(of[0], of[1], 0));
    }
    for mnemonic in ["mul.lo.u16", "mul.lo.s16"] {
        check(&format!("{mnemonic} $0, $1, $2;"), H, &[H, H], |of| product_bits(of[0], of[1], 0));
        check(&format!("{mnemonic} $0, $1, -3;"), H, &[H], |of| modulo(-3 * i128::from(of[0]), 16));
    }
    check("mul.hi.u32 $0, $1, $2;", N, &[N, N], |of| product_bits(of[0], of[1], 32));
    check("mul.hi.u64 $0, $1, $2;", W, &[W, W], |of| product_bits(of[0], of[1], 64));
    two("mul.hi.s32", 32, true, |a, b| (a * b).div_euclid(1 << 32));
    // The high half of a signed product: that of the unsigned one, less the other factor for each negative one.
    check("mul.hi.s64 $0, $1, $2;", W, &[W, W], |of| {
        let correction = |x: u64, other: u64| if x >> 63 == 1 { other } else { 0 };
        let high = product_bits(of[0], of[1], 64);
        high.wrapping_sub(correction(of[0], of[1])).wrapping_sub(correction(of[1], of[0]))
    });
    check("mul.wide.u16 $0, $1, $2;", N, &[H, H], |of| product_bits(of[0], of[1], 0));
    check("mul.wide.u32 $0, $1, $2;", W, &[N, N], |of| product_bits(of[0], of[1], 0));
    check("mul.wide.u32 $0, $1, 32;", W, &[N], |of| of[0] << 5);
    check("mul.wide.s32 $0, $1, $2;", W, &[N, N], |of| modulo(signed(of[0], 32) * signed(of[1], 32), 64));
}

#[test]
fn multiply_and_add() {
    for mnemonic in ["mad.lo.u32", "mad.lo.s32"] {
        check(&format!("{mnemonic} $0, $1, $2, $3;"), N, &[N, N, N], |of| {
            product_bits(of[0], of[1], 0).wrapping_add(of[2])
        });
        check(&format!("{mnemonic} $0, $1, 1, $2;"), N, &[N, N], |of| of[0] + of[1]);
    }
    for mnemonic in ["mad.lo.u64", "mad.lo.s64"] {
        check(&format!("{mnemonic} $0, $1, $2, $3;"), W, &[W, W, W], |of| {
            product_bits(of[0], of[1], 0).wrapping_add(of[2])
        });
    }
    check("mad.hi.u32 $0, $1, $2, $3;", N, &[N, N, N], |of| product_bits(of[0], of[1], 32) + of[2]);
    check("mad.wide.u32 $0, $1, $2, $3;", W, &[N, N, W], |of| product_bits(of[0], of[1], 0).wrapping_add(of[2]));
    check("mad.wide.s32 $0, $1, $2, $3;", W, &[N, N, W], |of| {
        modulo(signed(of[0], 32) * signed(of[1], 32) + i128::from(of[2]), 64)
    });
}

/// Division by subtracting shifted divisors, the way it is done on paper.
fn on_paper(a: u64, b: u64) -> (u64, u64) {
    let (mut rest, mut quotient) = (u128::from(a), 0);
    for shift in (0..64).rev() {
        if rest >= u128::from(b) << shift {
            rest -= u128::from(b) << shift;
            quotient |= 1 << shift;
        }
    }
    (quotient, rest as u64)
}

#[test]
fn division() {
    for (mnemonic, kind) in [("div.u32", N), ("div.u64", W)] {
        check(&format!("{mnemonic} $0, $1, $2;"), kind, &[kind, kind], |of| {
            if of[1] == 0 { u64::MAX } else { on_paper(of[0], of[1]).0 }
        });
    }
    for (mnemonic, kind) in [("rem.u32", N), ("rem.u64", W)] {
        check(&format!("{mnemonic} $0, $1, $2;"), kind, &[kind, kind], |of| {
            if of[1] == 0 { of[0] } else { on_paper(of[0], of[1]).1 }
        });
    }
}

#[test]
fn smallest_and_largest() {
    for (bits, unsigned, of_signed) in [(32, "u32", "s32"), (64, "u64", "s64")] {
        two(&format!("min.{unsigned}"), bits, false, |a, b| if a < b { a } else { b });
        two(&format!("max.{unsigned}"), bits, false, |a, b| if a < b { b } else { a });
        two(&format!("min.{of_signed}"), bits, true, |a, b| if a < b { a } else { b });
        two(&format!("max.{of_signed}"), bits, true, |a, b| if a < b { b } else { a });
    }
    // By name, for the test that every mnemonic is tested.
    let _ = ["min.u32", "min.u64", "min.s32", "min.s64", "max.u32", "max.u64", "max.s32", "max.s64"];
}

#[test]
fn moves() {
    for mnemonic in ["mov.b16", "mov.u16", "mov.s16"] {
        check(&format!("{mnemonic} $0, $1;"), H, &[H], |of| of[0]);
    }
    for mnemonic in ["mov.b32", "mov.u32", "mov.s32"] {
        check(&format!("{mnemonic} $0, $1;"), N, &[N], |of| of[0]);
        check(&format!("{mnemonic} $0, -2;"), N, &[], |_| 0xFFFF_FFFE);
    }
    for mnemonic in ["mov.b64", "mov.u64", "mov.s64"] {
        check(&format!("{mnemonic} $0, $1;"), W, &[W], |of| of[0]);
        check(&format!("{mnemonic} $0, -2;"), W, &[], |_| u64::MAX - 1);
    }
    check("mov.pred $0, $1;", P, &[P], |of| of[0].min(1));
    check("mov.pred $0, 1;", P, &[], |_| 1);
    check("mov.b64 $0, {$1, $2};", W, &[N, N], |of| of[1] * (1 << 32) + of[0]);
    check("mov.b64 {$0, %r40}, $1;", N, &[W], |of| of[0] % (1 << 32));
    check("mov.b64 {_, $0}, $1;", N, &[W], |of| of[0] / (1 << 32));
}

#[test]
fn conversions() {
    for target in TYPES {
        for source in TYPES {
            let bits = |name: &str| name[1..].parse::<u32>().unwrap();
            let holds = |name: &str| match bits(name) {
                8 | 16 => H,
                32 => N,
                _ => W,
            };
            for (to, from) in [(holds(target), holds(source)), (W, W)] {
                check(&format!("cvt.{target}.{source} $0, $1;"), to, &[from], |of| {
                    let read = |name: &str, value: u64| {
                        if name.starts_with('s') {
                            signed(value, bits(name))
                        } else {
                            i128::from(value) % (1 << bits(name))
                        }
                    };
                    let cut = modulo(read(source, of[0]), bits(target));
                    modulo(read(target, cut), 64)
                });
            }
        }
    }
    assert_eq!(
        one_warp("cvt.u64.u32 %rd1, %laneid; st.global.u64 [%rd31], %rd1;", &[0; 32]),
        (0..32).collect::<Vec<u64>>()
    );
}
