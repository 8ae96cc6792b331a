//! Lanes that part and meet, and what they do together.

use super::{ORDERS, run};
use crate::error::LAUNCH_FAILED;
use crate::exec::Order;

/// Thread numbers, as inputs for kernels that need none.
fn threads(count: usize) -> Vec<u64> {
    (0..count as u64).collect()
}

/// Every order must give `expected(thread)`.
fn everywhere(body: &str, inputs: &[u64], expected: impl Fn(usize) -> u64) {
    for order in ORDERS {
        let got = run(body, inputs, order).unwrap_or_else(|fault| panic!("{order:?}: {}", fault.message));
        for (thread, got) in got.iter().enumerate() {
            assert_eq!(*got, expected(thread), "thread {thread}, {order:?}: {body}");
        }
    }
}

#[test]
fn paths_part_and_join() {
    // Collatz steps: every lane leaves the loop at its own time.
    let body = "ld.global.u64 %rd1, [%rd30]; mov.u64 %rd2, 0;
        NEXT: setp.le.u64 %p1, %rd1, 1; @%p1 bra DONE;
        and.b64 %rd3, %rd1, 1; setp.eq.u64 %p2, %rd3, 0; @%p2 bra EVEN;
        mad.lo.u64 %rd1, %rd1, 3, 1; bra.uni JOINED;
        EVEN: shr.u64 %rd1, %rd1, 1;
        JOINED: add.u64 %rd2, %rd2, 1; bra NEXT;
        DONE: st.global.u64 [%rd31], %rd2;";
    let steps = |start: usize| {
        std::iter::successors(Some(start as u64), |n| (*n > 1).then(|| if n % 2 == 0 { n / 2 } else { 3 * n + 1 }))
            .count() as u64
            - 1
    };
    everywhere(body, &threads(97), steps);
}

#[test]
fn lanes_may_end_early_and_guards_hold_them() {
    let body = "st.global.u64 [%rd31], 1; setp.gt.u32 %p1, %r50, 40; @%p1 ret;
        setp.gt.u32 %p1, %r50, 20; @%p1 exit; @!%p1 st.global.u64 [%rd31], 2; ret.uni;";
    everywhere(body, &threads(50), |thread| if thread > 20 { 1 } else { 2 });
    let fault = run("setp.eq.u32 %p1, %r50, 3; @%p1 trap;", &threads(32), Order::Lockstep).unwrap_err();
    assert_eq!(fault.code, LAUNCH_FAILED);
}

/// `shfl` by the words of the manual: segments of lanes, each with a last lane.
fn shuffled(mode: &str, lane: u32, by: u32, clamp: u32) -> (u32, bool) {
    let segment = clamp >> 8 & 31;
    let mates: Vec<u32> = (0..32).filter(|other| other & segment == lane & segment).collect();
    let last = lane & segment | clamp & 31 & !segment;
    let wanted = match mode {
        "idx" => Some(mates[0] & segment | by & !segment & 31),
        "up" => lane.checked_sub(by),
        "down" => Some(lane + by),
        _ => Some(lane ^ by),
    };
    let inside = |wanted: u32| if mode == "up" { wanted >= last } else { wanted <= last };
    match wanted {
        Some(wanted) if inside(wanted) => (wanted, true),
        _ => (lane, false),
    }
}

#[test]
fn shuffles() {
    // shfl.sync.idx.b32, shfl.sync.up.b32, shfl.sync.down.b32, shfl.sync.bfly.b32
    for (mode, clamps) in
        [("idx", [31, 7 | 24 << 8]), ("up", [0, 24 << 8]), ("down", [31, 7 | 24 << 8]), ("bfly", [31, 15 | 16 << 8])]
    {
        for clamp in clamps {
            for by in [0, 1, 3, 8, 16, 31] {
                let body = format!(
                    "cvt.u32.u64 %r1, %rd30; ld.global.u32 %r1, [%rd30];
                     shfl.sync.{mode}.b32 %r2|%p1, %r1, {by}, {clamp}, -1;
                     selp.u32 %r3, 1, 0, %p1; mov.b64 %rd1, {{%r2, %r3}}; st.global.u64 [%rd31], %rd1;"
                );
                let inputs: Vec<u64> = (0..32).map(|lane| 100 + lane).collect();
                everywhere(&body, &inputs, |lane| {
                    let (source, valid) = shuffled(mode, lane as u32, by, clamp);
                    inputs[source as usize] + (u64::from(valid) << 32)
                });
            }
        }
    }
    // Each lane names another one, and the result without the predicate.
    let body = "ld.global.u32 %r1, [%rd30]; xor.b32 %r4, %r50, 5; shfl.sync.idx.b32 %r2, %r1, %r4, 31, -1;
        cvt.u64.u32 %rd1, %r2; st.global.u64 [%rd31], %rd1;";
    everywhere(body, &threads(32), |lane| lane as u64 ^ 5);
}

#[test]
fn reductions() {
    let inputs: Vec<u64> = (0..32).map(|lane: u64| (lane * 0x9E37_79B9 + 7) % (1 << 32)).collect();
    type Fold = fn(&[u32]) -> u32;
    let rows: [(&str, Fold); 9] = [
        ("redux.sync.add.u32", |all| all.iter().map(|value| u64::from(*value)).sum::<u64>() as u32),
        ("redux.sync.add.s32", |all| all.iter().map(|value| i64::from(*value as i32)).sum::<i64>() as u32),
        ("redux.sync.min.u32", |all| *all.iter().min().unwrap()),
        ("redux.sync.max.u32", |all| *all.iter().max().unwrap()),
        ("redux.sync.min.s32", |all| {
            *all.iter().map(|value| *value as i32).collect::<Vec<_>>().iter().min().unwrap() as u32
        }),
        ("redux.sync.max.s32", |all| {
            *all.iter().map(|value| *value as i32).collect::<Vec<_>>().iter().max().unwrap() as u32
        }),
        ("redux.sync.and.b32", |all| {
            (0..32).filter(|bit| all.iter().all(|value| value >> bit & 1 == 1)).map(|bit| 1 << bit).sum()
        }),
        ("redux.sync.or.b32", |all| {
            (0..32).filter(|bit| all.iter().any(|value| value >> bit & 1 == 1)).map(|bit| 1 << bit).sum()
        }),
        ("redux.sync.xor.b32", |all| {
            (0..32)
                .filter(|bit| all.iter().filter(|value| **value >> bit & 1 == 1).count() % 2 == 1)
                .map(|bit| 1 << bit)
                .sum()
        }),
    ];
    for (mnemonic, fold) in rows {
        let whole = format!(
            "ld.global.u32 %r1, [%rd30]; {mnemonic} %r2, %r1, -1; cvt.u64.u32 %rd1, %r2; st.global.u64 [%rd31], %rd1;"
        );
        let all: Vec<u32> = inputs.iter().map(|value| *value as u32).collect();
        everywhere(&whole, &inputs, |_| fold(&all).into());
        // The two halves of the warp each for themselves, at one instruction.
        let halves = format!(
            "ld.global.u32 %r1, [%rd30]; setp.lt.u32 %p1, %r50, 16; selp.b32 %r3, 0xFFFF, 0xFFFF0000, %p1;
             {mnemonic} %r2, %r1, %r3; cvt.u64.u32 %rd1, %r2; st.global.u64 [%rd31], %rd1;"
        );
        everywhere(&halves, &inputs, |lane| fold(if lane < 16 { &all[..16] } else { &all[16..] }).into());
    }
}

#[test]
fn votes_and_matches() {
    let inputs: Vec<u64> = (0..32).map(|lane| lane % 3).collect();
    let rows: [(&str, &str, u64); 6] = [
        ("vote.sync.all.pred", "ne.u32 %p1, %r1, 9", 1),
        ("vote.sync.all.pred", "ne.u32 %p1, %r1, 2", 0),
        ("vote.sync.any.pred", "eq.u32 %p1, %r1, 2", 1),
        ("vote.sync.any.pred", "eq.u32 %p1, %r1, 9", 0),
        ("vote.sync.uni.pred", "eq.u32 %p1, %r1, 9", 1),
        ("vote.sync.uni.pred", "eq.u32 %p1, %r1, 2", 0),
    ];
    for (mnemonic, test, expected) in rows {
        let body = format!(
            "ld.global.u32 %r1, [%rd30]; setp.{test}; {mnemonic} %p2, %p1, -1;
             selp.u64 %rd1, 1, 0, %p2; st.global.u64 [%rd31], %rd1;"
        );
        everywhere(&body, &inputs, |_| expected);
    }
    let mask = |value: u64| (0..32).filter(|lane| lane % 3 == value).map(|lane| 1 << lane).sum::<u64>();
    let body = "ld.global.u32 %r1, [%rd30]; setp.eq.u32 %p1, %r1, 1; vote.sync.ballot.b32 %r2, !%p1, -1;
        cvt.u64.u32 %rd1, %r2; st.global.u64 [%rd31], %rd1;";
    everywhere(body, &inputs, |_| mask(0) + mask(2));
    let body = "ld.global.u32 %r1, [%rd30]; match.any.sync.b32 %r2, %r1, -1;
        cvt.u64.u32 %rd1, %r2; st.global.u64 [%rd31], %rd1;";
    everywhere(body, &inputs, |lane| mask(inputs[lane]));
    let body = "setp.lt.u32 %p1, %r50, 8; mov.u32 %r2, 0; @%p1 activemask.b32 %r2;
        cvt.u64.u32 %rd1, %r2; st.global.u64 [%rd31], %rd1;";
    let got = run(body, &threads(32), Order::Lockstep).unwrap();
    assert!(got.iter().enumerate().all(|(lane, mask)| *mask == if lane < 8 { 0xFF } else { 0 }));
}

/// Each lane writes its number and reads its neighbour's.
fn exchange(barrier: &str) -> String {
    format!(
        "mov.u32 %r1, fixed; mad.lo.u32 %r2, %r50, 4, %r1; st.shared.u32 [%r2], %r50; {barrier}
         add.u32 %r3, %r50, 1; and.b32 %r3, %r3, %r40; mad.lo.u32 %r4, %r3, 4, %r1; ld.shared.u32 %r5, [%r4];
         cvt.u64.u32 %rd1, %r5; st.global.u64 [%rd31], %rd1;"
    )
}

#[test]
fn a_missing_barrier_shows() {
    // Within a warp: bar.warp.sync. Lockstep cannot see it missing, serial lanes can.
    let one_warp = |barrier: &str| format!("mov.u32 %r40, 31; {}", exchange(barrier));
    everywhere(&one_warp("bar.warp.sync -1;"), &threads(32), |lane| (lane as u64 + 1) % 32);
    let right = |got: &[u64], size: u64| got.iter().zip(1..).all(|(got, next)| *got == next % size);
    assert!(right(&run(&one_warp(""), &threads(32), Order::Lockstep).unwrap(), 32));
    assert!(!right(&run(&one_warp(""), &threads(32), Order::Serial).unwrap(), 32));
    // Between warps: bar.sync, also under its other name, barrier.sync.aligned.
    for barrier in ["bar.sync 0;", "barrier.sync.aligned 0;"] {
        let block = format!("mov.u32 %r40, 127; {}", exchange(barrier));
        everywhere(&block, &threads(128), |lane| (lane as u64 + 1) % 128);
    }
    let block = format!("mov.u32 %r40, 127; {}", exchange("bar.warp.sync -1;"));
    assert!(!right(&run(&block, &threads(128), Order::Lockstep).unwrap(), 128));
}

#[test]
fn the_adverse_order_finds_what_goes_from_first_to_last() {
    // Every thread writes, thread 0's value is read by all: in the order of warps it is always there.
    let body = |barrier: &str| {
        format!(
            "setp.eq.u32 %p1, %r50, 0; @%p1 st.shared.u32 [fixed], 77; {barrier}
             ld.shared.u32 %r5, [fixed]; cvt.u64.u32 %rd1, %r5; st.global.u64 [%rd31], %rd1;"
        )
    };
    everywhere(&body("bar.sync 0;"), &threads(64), |_| 77);
    assert_eq!(run(&body(""), &threads(64), Order::Lockstep).unwrap()[63], 77);
    assert_eq!(run(&body(""), &threads(64), Order::Adverse).unwrap()[63], 0xAAAA_AAAA);
}

#[test]
fn lanes_stay_serial_after_a_barrier() {
    // After the barrier everybody reads a neighbour's cell, then writes its own again: without another barrier the
    // first lane writes before the last one has read.
    let body = |barrier: &str| {
        format!(
            "mov.u32 %r1, fixed; mad.lo.u32 %r2, %r50, 4, %r1; st.shared.u32 [%r2], %r50; bar.warp.sync -1;
             add.u32 %r3, %r50, 31; and.b32 %r3, %r3, 31; mad.lo.u32 %r4, %r3, 4, %r1; ld.shared.u32 %r5, [%r4];
             {barrier} st.shared.u32 [%r2], 99;
             cvt.u64.u32 %rd1, %r5; st.global.u64 [%rd31], %rd1;"
        )
    };
    everywhere(&body("bar.warp.sync -1;"), &threads(32), |lane| (lane as u64 + 31) % 32);
    assert_eq!(run(&body(""), &threads(32), Order::Lockstep).unwrap()[1], 0);
    assert_eq!(run(&body(""), &threads(32), Order::Serial).unwrap()[1], 99);
}

#[test]
fn barriers_that_are_broken() {
    let rows = [
        ("half a warp never comes", "setp.lt.u32 %p1, %r50, 16; @%p1 bar.warp.sync -1; @!%p1 bar.sync 0;"),
        ("two barriers at once", "setp.lt.u32 %p1, %r50, 16; @%p1 bar.sync 0; @!%p1 bar.sync 0;"),
        ("a lane outside its mask", "bar.warp.sync 0xFF;"),
        (
            "a reduction without some",
            "setp.lt.u32 %p1, %r50, 16; @%p1 redux.sync.or.b32 %r1, %r50, -1; @!%p1 bar.sync 0;",
        ),
    ];
    for (what, body) in rows {
        for order in ORDERS {
            let fault = run(body, &threads(32), order).expect_err(what);
            assert_eq!(fault.code, LAUNCH_FAILED, "{what}, {order:?}: {}", fault.message);
        }
    }
    // Lanes that have ended are not waited for.
    let body = "st.global.u64 [%rd31], 5; setp.gt.u32 %p1, %r50, 10; @%p1 exit; bar.warp.sync -1; bar.sync 0;";
    everywhere(body, &threads(64), |_| 5);
}
