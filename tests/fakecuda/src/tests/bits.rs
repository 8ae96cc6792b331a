//! Logic, shifts, fields, comparisons: bit by bit, or by multiplication and division.

use super::{H, Kind, N, P, Random, W, check};
use crate::decode::COMPARISONS;

fn width(kind: Kind) -> u32 {
    match kind {
        P => 1,
        H => 16,
        N => 32,
        W => 64,
    }
}

/// A number from its bits, each from the bits of the operands in the same place.
fn by_bit(of: &[u64], bit: impl Fn(&[bool]) -> bool) -> u64 {
    (0..64).rev().fold(0, |value, at| {
        let bits: Vec<bool> = of.iter().map(|operand| operand >> at & 1 == 1).collect();
        value * 2 + u64::from(bit(&bits))
    })
}

#[test]
fn logic() {
    for kind in [H, N, W] {
        let bits = width(kind);
        check(&format!("and.b{bits} $0, $1, $2;"), kind, &[kind, kind], |of| by_bit(of, |bit| bit[0] && bit[1]));
        check(&format!("or.b{bits} $0, $1, $2;"), kind, &[kind, kind], |of| by_bit(of, |bit| bit[0] || bit[1]));
        check(&format!("xor.b{bits} $0, $1, $2;"), kind, &[kind, kind], |of| by_bit(of, |bit| bit[0] != bit[1]));
    }
    let _ = ["and.b16", "and.b32", "and.b64", "or.b16", "or.b32", "or.b64", "xor.b16", "xor.b32", "xor.b64"];
    check("not.b32 $0, $1;", N, &[N], |of| 0xFFFF_FFFF - of[0]);
    check("not.b64 $0, $1;", W, &[W], |of| u64::MAX - of[0]);
    check("and.pred $0, $1, $2;", P, &[P, P], |of| of[0] * of[1]);
    check("or.pred $0, $1, $2;", P, &[P, P], |of| of[0].max(of[1]));
    check("xor.pred $0, $1, $2;", P, &[P, P], |of| (of[0] + of[1]) % 2);
    check("not.pred $0, $1;", P, &[P], |of| 1 - of[0]);
}

#[test]
fn counts() {
    let ones = |value: u64| (0..64).filter(|bit| value >> bit & 1 == 1).count() as u64;
    let zeros = |value: u64, bits: u64| bits - (0..=bits).find(|n| *n == bits || value >> n == 0).unwrap();
    check("popc.b32 $0, $1;", N, &[N], |of| ones(of[0]));
    check("popc.b64 $0, $1;", N, &[W], |of| ones(of[0]));
    check("clz.b32 $0, $1;", N, &[N], |of| zeros(of[0], 32));
    check("clz.b64 $0, $1;", N, &[W], |of| if of[0] >> 63 == 1 { 0 } else { zeros(of[0], 64) });
    let reversed = |value: u64, bits: u32| (0..bits).fold(0, |all, bit| all * 2 + (value >> bit & 1));
    check("brev.b32 $0, $1;", N, &[N], |of| reversed(of[0], 32));
    check("brev.b64 $0, $1;", W, &[W], |of| reversed(of[0], 64));
}

/// Shifts by multiplying and dividing; too far gives 0, or -1 for a negative number to the right.
fn shifted(left: bool, signed: bool, bits: u32, value: u64, by: u64) -> u64 {
    let by = by.min(u64::from(bits)) as u32;
    let factor = 2_u128.pow(by);
    if left {
        (u128::from(value) * factor % 2_u128.pow(bits)) as u64
    } else if signed {
        let negative = value >> (bits - 1) & 1 == 1;
        let value = i128::from(value) - if negative { 2_i128.pow(bits) } else { 0 };
        value.div_euclid(factor as i128).rem_euclid(2_i128.pow(bits)) as u64
    } else {
        (u128::from(value) / factor) as u64
    }
}

#[test]
fn shifts() {
    let rows = [
        ("shl.b32", true, false, N),
        ("shl.b64", true, false, W),
        ("shr.b32", false, false, N),
        ("shr.u32", false, false, N),
        ("shr.s32", false, true, N),
        ("shr.b64", false, false, W),
        ("shr.u64", false, false, W),
        ("shr.s64", false, true, W),
    ];
    for (mnemonic, left, signed, kind) in rows {
        let bits = width(kind);
        check(&format!("{mnemonic} $0, $1, $2;"), kind, &[kind, N], |of| shifted(left, signed, bits, of[0], of[1]));
        for by in [0, 1, 5, 31, 32, 33, 63, 64, 200] {
            check(&format!("{mnemonic} $0, $1, {by};"), kind, &[kind], |of| shifted(left, signed, bits, of[0], by));
        }
    }
}

#[test]
fn funnel_shifts() {
    let rows = [
        ("shf.l.wrap.b32", true, false),
        ("shf.l.clamp.b32", true, true),
        ("shf.r.wrap.b32", false, false),
        ("shf.r.clamp.b32", false, true),
    ];
    for (mnemonic, left, clamp) in rows {
        let expected = |low: u64, high: u64, by: u64| {
            let by = if clamp { by.min(32) } else { by % 32 };
            let pair = u128::from(high) * (1 << 32) + u128::from(low);
            let shifted = if left { pair * (1 << by) / (1 << 32) } else { pair / (1 << by) };
            (shifted % (1 << 32)) as u64
        };
        check(&format!("{mnemonic} $0, $1, $2, $3;"), N, &[N, N, N], |of| expected(of[0], of[1], of[2]));
        for by in [0, 1, 7, 12, 16, 31, 32, 33, 40, 64] {
            check(&format!("{mnemonic} $0, $1, $2, {by};"), N, &[N, N], |of| expected(of[0], of[1], by));
        }
    }
}

#[test]
fn permutations() {
    let expected = |a: u64, b: u64, selector: u64| {
        let bytes: Vec<u8> = [(a as u32).to_le_bytes(), (b as u32).to_le_bytes()].concat();
        let picked = |at: u32| {
            let nibble = selector / 16_u64.pow(at) % 16;
            let byte = bytes[nibble as usize % 8];
            if nibble < 8 {
                byte
            } else if byte < 128 {
                0
            } else {
                255
            }
        };
        u64::from(u32::from_le_bytes([picked(0), picked(1), picked(2), picked(3)]))
    };
    check("prmt.b32 $0, $1, $2, $3;", N, &[N, N, N], |of| expected(of[0], of[1], of[2]));
    let mut random = Random(3);
    let chosen = [0x3210, 0x0321, 0x1032, 0x2103, 0x7654, 0x0123, 0x4567, 0x8888, 0xFEDC, 0xBA98];
    for selector in chosen.into_iter().chain((0..30).map(|_| random.next() % 0x1_0000)) {
        check(&format!("prmt.b32 $0, $1, $2, {selector};"), N, &[N, N], |of| expected(of[0], of[1], selector));
        check(&format!("prmt.b32 $0, $1, 0, {selector};"), N, &[N], |of| expected(of[0], 0, selector));
    }
}

#[test]
fn any_function_of_three_bits() {
    for table in 0..256_u64 {
        check(&format!("lop3.b32 $0, $1, $2, $3, {table};"), N, &[N, N, N], |of| {
            by_bit(of, |bit| table >> (4 * u32::from(bit[0]) + 2 * u32::from(bit[1]) + u32::from(bit[2])) & 1 == 1)
        });
    }
}

#[test]
fn fields() {
    // As the manual of PTX writes them: bit by bit.
    let inserted = |bits: u64, field: u64, into: u64, position: u64, length: u64| {
        let (position, length) = (position % 256, length % 256);
        let mut result = into;
        let mut at = 0;
        while at < length && position + at < bits {
            result = result & !(1 << (position + at)) | (field >> at & 1) << (position + at);
            at += 1;
        }
        result
    };
    let extracted = |bits: u64, signed: bool, value: u64, position: u64, length: u64| {
        let (position, length) = (position % 256, length % 256);
        let sign = if !signed || length == 0 { 0 } else { value >> (position + length - 1).min(bits - 1) & 1 };
        (0..bits).rev().fold(0, |result, at| {
            let inside = at < length && position + at < bits;
            result * 2 + if inside { value >> (position + at) & 1 } else { sign }
        })
    };
    for (mnemonic, kind) in [("bfi.b32", N), ("bfi.b64", W)] {
        let bits = width(kind).into();
        check(&format!("{mnemonic} $0, $1, $2, $3, $4;"), kind, &[kind, kind, N, N], |of| {
            inserted(bits, of[0], of[1], of[2], of[3])
        });
        check(&format!("{mnemonic} $0, $1, $2, 8, 24;"), kind, &[kind, kind], |of| inserted(bits, of[0], of[1], 8, 24));
    }
    for (mnemonic, kind) in [("bfe.u32", N), ("bfe.s32", N), ("bfe.u64", W), ("bfe.s64", W)] {
        let (bits, signed) = (width(kind).into(), mnemonic.contains('s'));
        check(&format!("{mnemonic} $0, $1, $2, $3;"), kind, &[kind, N, N], |of| {
            extracted(bits, signed, of[0], of[1], of[2])
        });
        check(&format!("{mnemonic} $0, $1, 4, 9;"), kind, &[kind], |of| extracted(bits, signed, of[0], 4, 9));
    }
}

#[test]
fn comparisons() {
    for kind in ["u32", "s32", "b32", "u64", "s64", "b64"] {
        let (register, bits) = if kind.ends_with("32") { (N, 32) } else { (W, 64) };
        for (name, ..) in COMPARISONS {
            let equality = matches!(name, "eq" | "ne");
            let unsigned_only = matches!(name, "lo" | "ls" | "hi" | "hs");
            if kind.starts_with('b') && !equality || kind.starts_with('s') && unsigned_only {
                continue;
            }
            // From the sign of the difference of numbers that are wide enough.
            let holds = |a: u64, b: u64| {
                let read = |value: u64| {
                    let negative = kind.starts_with('s') && value >> (bits - 1) & 1 == 1;
                    i128::from(value) - if negative { 1_i128 << bits } else { 0 }
                };
                let sign = (read(a) - read(b)).signum();
                u64::from(match name {
                    "eq" => sign == 0,
                    "ne" => sign != 0,
                    "lt" | "lo" => sign < 0,
                    "le" | "ls" => sign < 1,
                    "gt" | "hi" => sign > 0,
                    _ => sign > -1,
                })
            };
            let two = [register, register];
            let three = [register, register, P];
            check(&format!("setp.{name}.{kind} $0, $1, $2;"), P, &two, |of| holds(of[0], of[1]));
            check(&format!("setp.{name}.{kind} $0, $1, 31;"), P, &two[..1], |of| holds(of[0], 31));
            check(&format!("setp.{name}.{kind} $0|%p10, $1, $2;"), P, &two, |of| holds(of[0], of[1]));
            check(&format!("setp.{name}.{kind} %p10|$0, $1, $2;"), P, &two, |of| 1 - holds(of[0], of[1]));
            check(&format!("setp.{name}.and.{kind} $0, $1, $2, $3;"), P, &three, |of| holds(of[0], of[1]) * of[2]);
            check(&format!("setp.{name}.or.{kind} $0, $1, $2, $3;"), P, &three, |of| holds(of[0], of[1]).max(of[2]));
            check(&format!("setp.{name}.xor.{kind} $0, $1, $2, !$3;"), P, &three, |of| {
                (holds(of[0], of[1]) + 1 - of[2]) % 2
            });
            check(&format!("setp.{name}.and.{kind} %p10|$0, $1, $2, !$3;"), P, &three, |of| {
                (1 - holds(of[0], of[1])) * (1 - of[2])
            });
        }
    }
}

#[test]
fn selections() {
    for mnemonic in ["selp.b32", "selp.u32", "selp.s32"] {
        check(&format!("{mnemonic} $0, $1, $2, $3;"), N, &[N, N, P], |of| of[of[2] as usize ^ 1]);
        check(&format!("{mnemonic} $0, 9, -1, $1;"), N, &[P], |of| [0xFFFF_FFFF, 9][of[0] as usize]);
    }
    for mnemonic in ["selp.b64", "selp.u64", "selp.s64"] {
        check(&format!("{mnemonic} $0, $1, $2, $3;"), W, &[W, W, P], |of| of[of[2] as usize ^ 1]);
    }
}
