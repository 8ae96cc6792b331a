//! Loads and stores of every type, in every space, and what happens outside.

use super::{HEADER, ORDERS, Random, W, kernel, launch, run};
use crate::decode::TYPES;
use crate::error::{Code, ILLEGAL_ADDRESS, MISALIGNED_ADDRESS};
use crate::exec::Order;
use crate::memory::Allocation;
use std::sync::Arc;

fn bytes_of(kind: &str) -> usize {
    kind[1..].parse::<usize>().unwrap() / 8
}

/// The value of `kind` in these bytes, as a 64-bit register holds it.
fn read(kind: &str, bytes: &[u8]) -> u64 {
    let unsigned = bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
    let negative = kind.starts_with('s') && bytes.last().is_some_and(|byte| *byte >= 0x80);
    if negative && bytes.len() < 8 { unsigned.wrapping_sub(1 << (8 * bytes.len())) } else { unsigned }
}

#[test]
fn every_type_in_every_space() {
    let mut random = Random(9);
    let inputs: Vec<u64> = (0..32).map(|_| random.value(W)).collect();
    let input_bytes: Vec<u8> = inputs.iter().flat_map(|value| value.to_le_bytes()).collect();
    let untyped = ["b8", "b16", "b32", "b64"];
    for kind in TYPES.into_iter().chain(untyped) {
        let size = bytes_of(kind);
        // Through each space: the bytes go in as they are and come out as the type says.
        let spaces = [
            ("global", "mov.u64 %rd2, %rd31;", "%rd2"),
            ("shared", "mov.u32 %r2, fixed; mad.lo.u32 %r2, %r50, 8, %r2;", "%r2"),
            ("shared", "mov.u64 %rd2, dynamic; add.u64 %rd2, %rd2, %rd32;", "%rd2"),
            ("shared::cta", "mov.u32 %r2, fixed; mad.lo.u32 %r2, %r50, 8, %r2;", "%r2"),
            ("", "mov.u64 %rd2, fixed; cvta.shared.u64 %rd2, %rd2; add.u64 %rd2, %rd2, %rd32;", "%rd2"),
            ("", "mov.u64 %rd2, %rd31;", "%rd2"),
        ];
        for (space, address, base) in spaces {
            let space = if space.is_empty() { String::new() } else { format!(".{space}") };
            let body = format!(
                "{address} ld.global.{kind} %rd1, [%rd30]; st{space}.{kind} [{base}], %rd1;
                 ld{space}.{kind} %rd3, [{base}+0]; st.global.u64 [%rd31], %rd3;"
            );
            for order in ORDERS {
                let got = run(&body, &inputs, order).unwrap_or_else(|fault| panic!("{}: {body}", fault.message));
                for (lane, got) in got.iter().enumerate() {
                    let wanted = read(kind, &input_bytes[8 * lane..8 * lane + size]);
                    assert_eq!(*got, wanted, "{kind} {space}");
                }
            }
        }
        // Only the bytes of the type are written: the rest of fresh memory stays poison.
        let got =
            run(&format!("ld.global.u64 %rd1, [%rd30]; st.global.{kind} [%rd31], %rd1;"), &inputs, Order::Lockstep);
        for (lane, got) in got.unwrap().iter().enumerate() {
            let bytes = got.to_le_bytes();
            assert_eq!(bytes[..size], input_bytes[8 * lane..8 * lane + size]);
            assert!(bytes[size..].iter().all(|byte| *byte == 0xCD));
        }
    }
    let _ = ["ld.global.u64", "st.global.u64"];
}

#[test]
fn narrow_registers() {
    let inputs = [0x8081_8283_8485_8687; 32];
    let rows = [
        ("ld.global.s8 %h1, [%rd30]; cvt.u64.u16 %rd1, %h1;", 0xFF87),
        ("ld.global.u8 %h1, [%rd30+1]; cvt.u64.u16 %rd1, %h1;", 0x86),
        ("ld.global.s16 %r1, [%rd30]; cvt.u64.u32 %rd1, %r1;", 0xFFFF_8687),
        ("ld.global.u16 %h1, [%rd30]; mov.u64 %rd1, 0; cvt.u64.u16 %rd1, %h1;", 0x8687),
        ("ld.global.s32 %r1, [%rd30]; cvt.u64.u32 %rd1, %r1;", 0x8485_8687),
    ];
    for (body, wanted) in rows {
        let got = run(&format!("{body} st.global.u64 [%rd31], %rd1;"), &inputs, Order::Lockstep).unwrap();
        assert!(got.iter().all(|got| *got == wanted), "{body}: {got:x?}");
    }
    let got = run("st.global.u64 [%rd31], 0; st.global.u16 [%rd31+2], 0x1234;", &inputs, Order::Lockstep).unwrap();
    assert!(got.iter().all(|got| *got == 0x1234_0000));
}

#[test]
fn vectors_and_hints() {
    let inputs: Vec<u64> = (0..64).map(|index| index * 0x0101_0000_0101 + 5).collect();
    let rows = [
        "ld.global.v2.u32 {%r1, %r2}, [%rd30]; st.global.v2.u32 [%rd31], {%r1, %r2};",
        "ld.global.nc.v2.b32 {%r1, %r2}, [%rd30]; st.global.wb.v2.b32 [%rd31], {%r1, %r2};",
        "ld.global.nc.L1::no_allocate.L2::128B.u64 %rd1, [%rd30]; st.global.cs.u64 [%rd31], %rd1;",
        "ld.volatile.global.u64 %rd1, [%rd30]; st.volatile.global.u64 [%rd31], %rd1;",
        "ld.global.nc.L1::evict_first.u64 %rd1, [%rd30]; st.global.L1::evict_last.u64 [%rd31], %rd1;",
        "ld.global.v4.u16 {%h1, %h2, %h3, %h4}, [%rd30]; st.global.v4.u16 [%rd31], {%h1, %h2, %h3, %h4};",
        "ld.global.v4.u8 {%r1, %r2, %r3, %r4}, [%rd30]; st.global.v4.u8 [%rd31], {%r1, %r2, %r3, %r4};
         ld.global.v4.u8 {%r1, %r2, %r3, %r4}, [%rd30+4]; st.global.v4.u8 [%rd31+4], {%r1, %r2, %r3, %r4};",
        // Two threads' worth at once, in every second thread.
        "and.b32 %r9, %r50, 1; setp.eq.u32 %p1, %r9, 0; @%p1 ld.global.v2.u64 {%rd1, %rd2}, [%rd30];
         @%p1 st.global.v2.u64 [%rd31], {%rd1, %rd2};",
        "and.b32 %r9, %r50, 1; setp.eq.u32 %p1, %r9, 0; @%p1 ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd30];
         mov.u32 %r5, dynamic; mad.lo.u32 %r5, %r50, 8, %r5; @%p1 st.shared.v4.u32 [%r5], {%r1, %r2, %r3, %r4};
         @%p1 ld.shared.v4.u32 {%r11, %r12, %r13, %r14}, [%r5]; @%p1 st.global.v4.u32 [%rd31], {%r11, %r12, %r13, %r14};",
    ];
    for body in rows {
        assert_eq!(
            run(body, &inputs, Order::Lockstep).unwrap_or_else(|fault| panic!("{}", fault.message)),
            inputs,
            "{body}"
        );
    }
    let got = run("ld.global.v2.u32 {_, %r2}, [%rd30]; st.global.v2.u32 [%rd31], {%r2, 7};", &inputs, Order::Lockstep);
    let swapped: Vec<u64> = inputs.iter().map(|value| value >> 32 | 7 << 32).collect();
    assert_eq!(got.unwrap(), swapped);
}

#[test]
fn addresses_change_spaces() {
    let inputs: Vec<u64> = (50..82).collect();
    let rows = [
        "cvta.to.global.u64 %rd1, %rd30; cvta.to.global.u64 %rd2, %rd31; ld.global.u64 %rd3, [%rd1]; st.global.u64 [%rd2], %rd3;",
        "cvta.global.u64 %rd1, %rd30; ld.u64 %rd3, [%rd1]; st.u64 [%rd31], %rd3;",
        "mov.u64 %rd4, fixed; add.u64 %rd4, %rd4, %rd32; cvta.shared.u64 %rd5, %rd4; ld.global.u64 %rd3, [%rd30];
         st.u64 [%rd5], %rd3; cvta.to.shared.u64 %rd6, %rd5; ld.shared.u64 %rd7, [%rd6]; st.global.u64 [%rd31], %rd7;",
        "ld.global.u64 %rd3, [%rd30]; cvt.u32.u64 %r1, %rd32; st.shared.u64 [fixed+8], %rd3; mov.u32 %r2, fixed;
         add.u32 %r2, %r2, 16; ld.shared.u64 %rd4, [%r2+-8]; ld.shared.u64 %rd5, [%r2-8]; min.u64 %rd4, %rd4, %rd5;
         ld.global.u64 %rd4, [%rd30]; st.global.u64 [%rd31], %rd4;",
    ];
    for body in rows {
        for order in ORDERS {
            assert_eq!(run(body, &inputs, order).unwrap_or_else(|fault| panic!("{}", fault.message)), inputs, "{body}");
        }
    }
}

#[test]
fn parameters_of_every_kind() {
    let text = format!(
        "{HEADER}.visible .entry k(.param .u8 a, .param .u64 .ptr .global .align 8 out, .param .align 4 .b8 s[12], .param .u16 b)
         .maxntid 32, 1, 1 .minnctapersm 2
         {{ .reg .b32 %r<9>; .reg .b64 %rd<9>;
         ld.param.u64 %rd1, [out]; ld.param.s8 %r1, [a]; ld.param.u32 %r2, [s+8]; ld.param.v2.u32 {{%r3, %r4}}, [s];
         ld.param.u16 %r5, [b]; st.global.u32 [%rd1], %r1; st.global.u32 [%rd1+4], %r2; st.global.u32 [%rd1+8], %r3;
         st.global.u32 [%rd1+12], %r4; st.global.u32 [%rd1+16], %r5; }}"
    );
    let out = Arc::new(Allocation::new(20).unwrap());
    // a at 0, out at 8, s at 16 (12 bytes), b at 28.
    let parameters = [0x80, out.start(), 1 | 2 << 32, 3 | 0x1234 << 32];
    launch(&text, 1, 1, &parameters, std::slice::from_ref(&out), Order::Lockstep).unwrap();
    let words: Vec<u64> = (0..5).map(|index| out.load(out.start() + 4 * index, 4)).collect();
    assert_eq!(words, [0xFFFF_FF80, 3, 1, 2, 0x1234]);
    assert!(out.is_intact());
}

#[test]
fn outside() {
    let rows: [(&str, Code); 14] = [
        ("ld.global.u8 %r1, [%rd30+256];", ILLEGAL_ADDRESS),
        ("ld.global.u64 %rd1, [%rd30+8];", ILLEGAL_ADDRESS), // of the last thread
        ("ld.global.u8 %r1, [%rd30+-1];", ILLEGAL_ADDRESS),
        ("st.global.u8 [%rd31+256], 0;", ILLEGAL_ADDRESS),
        ("mov.u64 %rd1, 0; ld.global.u32 %r1, [%rd1];", ILLEGAL_ADDRESS),
        ("ld.global.u32 %r1, [%rd30+2];", MISALIGNED_ADDRESS),
        ("ld.global.v2.u64 {%rd1, %rd2}, [%rd30];", MISALIGNED_ADDRESS), // of odd threads
        ("st.global.u64 [%rd31+4], 0;", MISALIGNED_ADDRESS),
        ("ld.shared.u32 %r1, [0];", ILLEGAL_ADDRESS),
        ("ld.shared.u8 %r1, [fixed+4608];", ILLEGAL_ADDRESS), // 512 fixed and 4,096 dynamic bytes
        ("st.shared.u8 [fixed+-1], 0;", ILLEGAL_ADDRESS),
        ("ld.shared.u32 %r1, [fixed+2];", MISALIGNED_ADDRESS),
        ("cvta.shared.u64 %rd1, %rd30; ld.u32 %r1, [%rd1];", ILLEGAL_ADDRESS),
        ("mov.u64 %rd1, -8; ld.global.u64 %rd1, [%rd1];", ILLEGAL_ADDRESS),
    ];
    for (body, code) in rows {
        for order in ORDERS {
            let fault = run(body, &[0; 32], order).expect_err(body);
            assert_eq!(fault.code, code, "{body}: {}", fault.message);
        }
    }
    assert!(run("ld.shared.u8 %r1, [fixed+4607];", &[0; 32], Order::Lockstep).is_ok());
}

#[test]
fn what_was_not_written_is_poison() {
    let got =
        run("add.u32 %r1, %r2, 0; cvt.u64.u32 %rd1, %r1; st.global.u64 [%rd31], %rd1;", &[0; 32], Order::Lockstep);
    assert!(got.unwrap().iter().all(|value| *value == 0xDEAD_BEEF));
    let got = run("ld.shared.u64 %rd1, [fixed+64]; st.global.u64 [%rd31], %rd1;", &[0; 32], Order::Lockstep);
    assert!(got.unwrap().iter().all(|value| *value == 0xAAAA_AAAA_AAAA_AAAA));
    assert!(run("", &[0; 32], Order::Lockstep).unwrap().iter().all(|value| *value == 0xCDCD_CDCD_CDCD_CDCD));
    // Also where the slot of an unwritten register could be one that was used before.
    let body = "mov.u32 %r5, 1; add.u32 %r6, %r5, %r50; cvt.u64.u32 %rd1, %r6; st.global.u64 [%rd31], %rd1;
        add.u32 %r8, %r7, 0; cvt.u64.u32 %rd2, %r8; st.global.u64 [%rd31], %rd2;";
    assert!(run(body, &[0; 32], Order::Lockstep).unwrap().iter().all(|value| *value == 0xDEAD_BEEF));
}

#[test]
fn red_zones() {
    for length in [1, 3, 4, 5, 255, 256, 1000] {
        let allocation = Allocation::new(length).unwrap();
        assert!(allocation.start().is_multiple_of(256) && allocation.is_intact());
        let all = vec![7; length as usize];
        allocation.write(allocation.start(), &all);
        assert!(allocation.is_intact(), "all of {length} bytes");
        let mut back = vec![0; length as usize];
        allocation.read(allocation.start(), &mut back);
        assert_eq!(back, all);
        // One byte further, as a kernel compiled for the host might.
        allocation.store(allocation.start() + length, 1, 7);
        assert!(!allocation.is_intact(), "one byte after {length}");
    }
}

#[test]
fn blocks_are_all_run() {
    let text = kernel(
        "mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mul.wide.u32 %rd1, %r1, %r2; mov.u32 %r3, %nctaid.x;
        shl.b64 %rd2, %rd1, 3; add.u64 %rd31, %rd31, %rd2; cvt.u64.u32 %rd3, %r50; add.u64 %rd1, %rd1, %rd3;
        cvt.u64.u32 %rd4, %r3; mad.lo.u64 %rd1, %rd4, 100000, %rd1; cvt.u64.u32 %rd5, %warpid; shl.b64 %rd5, %rd5, 40;
        add.u64 %rd1, %rd1, %rd5; st.global.u64 [%rd31], %rd1;",
    );
    for order in ORDERS {
        let out = Arc::new(Allocation::new(8 * 37 * 50).unwrap());
        launch(&text, 37, 50, &[out.start(), out.start()], std::slice::from_ref(&out), order).unwrap();
        for index in 0..37 * 50 {
            let warp = index % 50 / 32;
            assert_eq!(out.load(out.start() + 8 * index, 8), 3_700_000 + index + (warp << 40), "thread {index}");
        }
    }
}
