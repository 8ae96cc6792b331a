//! Asynchronous copies: when they land, and what they refuse.

use super::{ORDERS, run};
use crate::error::{ILLEGAL_ADDRESS, MISALIGNED_ADDRESS};
use crate::exec::Order;

fn inputs() -> Vec<u64> {
    (0..32).map(|index| 0x0102_0304_0506_0708 + index).collect()
}

/// `%r2` and `%r3` at this thread's 16 bytes of `fixed`; `%rd1` at 16 bytes of the input.
const PLACES: &str = "mov.u32 %r1, fixed; and.b32 %r4, %r50, 15; mad.lo.u32 %r2, %r4, 16, %r1;
    ld.param.u64 %rd9, [in]; mul.wide.u32 %rd1, %r4, 16; add.u64 %rd1, %rd1, %rd9;";

/// The 8 bytes of shared memory at `%r2`.
const RESULT: &str = "ld.shared.u64 %rd5, [%r2]; st.global.u64 [%rd31], %rd5;";

const UNTOUCHED: u64 = 0xAAAA_AAAA_AAAA_AAAA;

#[test]
fn sizes_and_zero_fill() {
    let first = |lane: usize| inputs()[2 * (lane % 16)];
    let low = |lane: usize| first(lane) % (1 << 32) + (UNTOUCHED >> 32 << 32);
    type Expected<'a> = &'a dyn Fn(usize) -> u64;
    let rows: [(&str, Expected<'_>); 7] = [
        ("cp.async.ca.shared.global [%r2], [%rd1], 4;", &low),
        ("cp.async.ca.shared.global [%r2], [%rd1], 8;", &first),
        ("cp.async.ca.shared.global [%r2], [%rd1], 16;", &first),
        ("cp.async.cg.shared.global [%r2], [%rd1], 16;", &first),
        ("cp.async.cg.shared::cta.global.L2::128B [%r2], [%rd1], 16;", &first),
        ("mov.u32 %r7, 4; cp.async.cg.shared.global [%r2], [%rd1], 16, %r7;", &|lane| first(lane) % (1 << 32)),
        ("cp.async.ca.shared.global [%r2], [%rd1], 8, 0;", &|_| 0),
    ];
    for (copy, expected) in rows {
        for wait in ["cp.async.wait_all;", "cp.async.commit_group; cp.async.wait_group 0;"] {
            for order in ORDERS {
                let got = run(&format!("{PLACES} {copy} {wait} {RESULT}"), &inputs(), order).unwrap();
                for (lane, got) in got.iter().enumerate() {
                    assert_eq!(*got, expected(lane), "{copy} {wait} lane {lane} {order:?}");
                }
            }
        }
    }
}

#[test]
fn copies_land_at_the_wait_for_their_group() {
    let copy = |offset: u32| format!("cp.async.ca.shared.global [%r2+{offset}], [%rd1], 8; cp.async.commit_group;");
    let (first, second) = (copy(0), copy(8));
    let both = "ld.shared.u64 %rd5, [%r2]; ld.shared.u64 %rd6, [%r2+8];
        setp.eq.u64 %p1, %rd5, 0xAAAAAAAAAAAAAAAA; setp.eq.u64 %p2, %rd6, 0xAAAAAAAAAAAAAAAA;
        selp.u64 %rd5, 0, 1, %p1; selp.u64 %rd6, 0, 2, %p2; add.u64 %rd5, %rd5, %rd6; st.global.u64 [%rd31], %rd5;";
    // Which of the two have landed: 1 the first, 2 the second.
    let rows = [
        ("", 0),
        ("cp.async.wait_group 2;", 0),
        ("cp.async.wait_group 1;", 1),
        ("cp.async.wait_group 0;", 3),
        ("cp.async.wait_all;", 3),
        ("cp.async.commit_group; cp.async.wait_group 1;", 3), // an empty group counts
    ];
    for (wait, landed) in rows {
        for order in ORDERS {
            let body = format!("setp.lt.u32 %p3, %r50, 16; @!%p3 ret; {PLACES} {first} {second} {wait} {both}");
            let got = run(&body, &inputs(), order).unwrap();
            let landed = if order == Order::Adverse { 3 } else { landed };
            assert!(got[..16].iter().all(|got| *got == landed), "{wait} {order:?}: {got:?}");
        }
    }
    // What was not committed is not waited for, but by wait_all.
    let body = format!("{PLACES} cp.async.ca.shared.global [%r2], [%rd1], 8; cp.async.wait_group 0; {RESULT}");
    assert!(run(&body, &inputs(), Order::Lockstep).unwrap().iter().all(|got| *got == UNTOUCHED));
}

#[test]
fn another_lane_must_have_waited() {
    // Lane n copies for lane n + 1: only after the wait and a barrier is it there.
    let body = |barrier: &str| {
        format!(
            "{PLACES} add.u32 %r5, %r50, 1; and.b32 %r5, %r5, 31; mad.lo.u32 %r6, %r5, 8, %r1; mad.lo.u32 %r7, %r50, 8, %r1;
             cp.async.ca.shared.global [%r6], [%rd30], 8; cp.async.wait_all; {barrier}
             ld.shared.u64 %rd5, [%r7]; st.global.u64 [%rd31], %rd5;"
        )
    };
    for order in ORDERS {
        let got = run(&body("bar.warp.sync -1;"), &inputs(), order).unwrap();
        assert!((0..32).all(|lane| got[(lane + 1) % 32] == inputs()[lane]), "{order:?}");
    }
    assert_eq!(run(&body(""), &inputs(), Order::Serial).unwrap()[0], UNTOUCHED);
}

#[test]
fn a_tile_that_is_still_read_must_not_be_copied_into() {
    // A copy into what is read before the wait: right where copies land late, wrong where they land at once.
    let body = format!(
        "{PLACES} st.shared.u64 [%r2], 5; cp.async.ca.shared.global [%r2], [%rd1], 8; {RESULT} cp.async.wait_all;"
    );
    assert_eq!(run(&body, &inputs(), Order::Lockstep).unwrap()[0], 5);
    assert_ne!(run(&body, &inputs(), Order::Adverse).unwrap()[0], 5);
}

#[test]
fn copies_outside() {
    let rows = [
        ("cp.async.cg.shared.global [%r2], [%rd1+8], 16;", MISALIGNED_ADDRESS),
        ("cp.async.ca.shared.global [%r2+4], [%rd1], 8;", MISALIGNED_ADDRESS),
        ("cp.async.cg.shared.global [%r2], [%rd1+256], 16;", ILLEGAL_ADDRESS),
        ("cp.async.cg.shared.global [%r2+8192], [%rd1], 16;", ILLEGAL_ADDRESS),
    ];
    for (copy, code) in rows {
        for order in ORDERS {
            let fault = run(&format!("{PLACES} {copy}"), &inputs(), order).expect_err(copy);
            assert_eq!(fault.code, code, "{copy}: {}", fault.message);
        }
    }
    // What is not read need not be there.
    let nothing = format!("{PLACES} cp.async.ca.shared.global [%r2], [%rd1+4096], 8, 0; cp.async.wait_all; {RESULT}");
    assert!(run(&nothing, &inputs(), Order::Lockstep).unwrap().iter().all(|got| *got == 0));
}
