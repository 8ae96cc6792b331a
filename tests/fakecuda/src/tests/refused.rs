//! What is not modelled is refused when a module is loaded, and so is what is no PTX.

use super::{HEADER, kernel};
use crate::decode::decode;
use crate::ptx;

fn load(text: &str) -> Result<(), String> {
    for kernel in ptx::parse(text)?.kernels {
        decode(kernel)?;
    }
    Ok(())
}

#[test]
fn instructions_that_are_not_modelled() {
    let rows = [
        "add.cc.u32 %r1, %r2, %r3;",
        "addc.u32 %r1, %r2, %r3;",
        "add.sat.s32 %r1, %r2, %r3;",
        "add.u16 %h1, %h2, %h3;",
        "add.f32 %r1, %r2, %r3;",
        "mad.hi.s32 %r1, %r2, %r3, %r4;",
        "mad.lo.cc.u32 %r1, %r2, %r3, %r4;",
        "mul24.lo.u32 %r1, %r2, %r3;",
        "mul.wide.s16 %r1, %h2, %h3;",
        "div.s32 %r1, %r2, %r3;",
        "div.u16 %h1, %h2, %h3;",
        "rem.s64 %rd1, %rd2, %rd3;",
        "min.s16 %h1, %h2, %h3;",
        "shl.b16 %h1, %h2, 1;",
        "shr.s16 %h1, %h2, 1;",
        "shf.r.b32 %r1, %r2, %r3, 1;",
        "prmt.b32.f4e %r1, %r2, %r3, 1;",
        "lop3.or.b32 %r1|%p1, %r2, %r3, %r4, 1, %p2;",
        "setp.eq.s16 %p1, %h1, %h2;",
        "setp.lt.b32 %p1, %r1, %r2;",
        "setp.lo.s32 %p1, %r1, %r2;",
        "setp.eq.ftz.u32 %p1, %r1, %r2;",
        "set.eq.u32.u32 %r1, %r2, %r3;",
        "slct.u32.s32 %r1, %r2, %r3, %r4;",
        "cvt.sat.u8.u32 %r1, %r2;",
        "cvt.rn.f32.u32 %r1, %r2;",
        "cvta.local.u64 %rd1, %rd2;",
        "ld.local.u32 %r1, [%rd1];",
        "ld.const.u32 %r1, [%rd1];",
        "ld.global.L2::cache_hint.u32 %r1, [%rd1], %rd2;",
        "ld.acquire.gpu.global.u32 %r1, [%rd1];",
        "ld.shared::cluster.u32 %r1, [%r2];",
        "ld.shared.nc.u32 %r1, [%r2];",
        "ld.global.v4.u64 {%rd1, %rd2, %rd3, %rd4}, [%rd5];",
        "ld.global.v8.u32 {%r1, %r2, %r3, %r4, %r5, %r6, %r7, %r8}, [%rd5];",
        "st.async.global.u32 [%rd1], %r1;",
        "st.param.u32 [in], %r1;",
        "atom.global.add.u32 %r1, [%rd1], %r2;",
        "red.global.add.u32 [%rd1], %r2;",
        "bar.sync 1;",
        "bar.sync 0, 64;",
        "bar.arrive 0, 64;",
        "barrier.sync 0;",
        "barrier.cluster.arrive;",
        "membar.gl;",
        "fence.acq_rel.gpu;",
        "shfl.idx.b32 %r1, %r2, 0, 31;",
        "vote.all.pred %p1, %p2;",
        "match.all.sync.b32 %r1|%p1, %r2, -1;",
        "redux.sync.add.f32 %r1, %r2, -1;",
        "elect.sync %r1|%p1, -1;",
        "cp.async.cg.shared.global [%r1], [%rd1], 8;",
        "cp.async.ca.shared.global [%r1], [%rd1], 12;",
        "cp.async.ca.shared.global.L2::cache_hint [%r1], [%rd1], 8, %rd2;",
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1], %r2, [%r3];",
        "cp.async.mbarrier.arrive.shared.b64 [%r1];",
        "mbarrier.init.shared::cta.b64 [%r1], 1;",
        "call f, ();",
        "nanosleep.u32 20;",
        "mov.u64 %rd1, %clock64;",
        "mov.u32 %r1, %smid;",
        "not.b16 %h1, %h2;",
        "bfind.u32 %r1, %r2;",
        "dp4a.u32.u32 %r1, %r2, %r3, %r4;",
        "nonsense.u32 %r1, %r2;",
    ];
    for row in rows {
        assert!(load(&kernel(row)).is_err(), "{row} was taken");
    }
}

#[test]
fn operands_that_do_not_fit() {
    let rows = [
        "add.u32 %r1, %r2, %rd3;",
        "add.u32 %rd1, %r2, %r3;",
        "add.u64 %rd1, %rd2, %r3;",
        "add.u32 %r1, %r2;",
        "add.u32 %r1, %r2, %r3, %r4;",
        "add.u32 %r1, %r2, 4294967296;",
        "add.u32 5, %r2, %r3 x;",
        "mov.u16 %h1, 70000;",
        "mov.u32 %r1, %p1;",
        "mov.u32 %r1, %h1;",
        "mov.u32 %r1, %r99;",
        "mov.u32 %r1, unknown;",
        "mov.u64 %rd1, in;",
        "ld.global.u64 %r1, [%rd1];",
        "ld.global.u32 %r1, [%r2];",
        "ld.global.v2.u32 {%r1, %r2, %r3}, [%rd1];",
        "ld.param.u32 %r1, [%rd1];",
        "@%r1 mov.u32 %r1, 0;",
        "setp.eq.and.u32 %p1, %r1, %r2;",
        "bra NOWHERE;",
        "{ INSIDE: } bra INSIDE;",
        "shl.b32 %r1, %r2, -1;",
        "lop3.b32 %r1, %r2, %r3, %r4, 256;",
    ];
    for row in rows {
        assert!(load(&kernel(row)).is_err(), "{row} was taken");
    }
}

#[test]
fn texts_that_are_no_modules() {
    let whole = |body: &str| format!("{HEADER}{body}");
    let rows = [
        String::new(),
        "nonsense".to_owned(),
        ".version 7.4\n.visible .entry k() { ret; }".to_owned(),
        ".version 7.4\n.target sm_80\n.address_size 32".to_owned(),
        ".version 7.4\n.target compute_80".to_owned(),
        whole(".visible .entry k() { ret;"),
        whole(".visible .entry k( { ret; }"),
        whole(".visible .entry k() { ret }"),
        whole(".visible .func f() { ret; }"),
        whole(".global .align 4 .b8 data[16];"),
        whole(".const .u32 x = 5;"),
        whole(".visible .entry k() { .reg .f32 %f<4>; ret; }"),
        whole(".visible .entry k() { .local .align 4 .b8 x[16]; ret; }"),
        whole(".visible .entry k() .reqnctapercluster 2 { ret; }"),
        whole(".visible .entry k() { A: A: ret; }"),
        whole(".visible .entry k() { .reg .b32 %a; .reg .b32 %a; ret; }"),
        whole(".visible .entry k() { ret; } /* no end"),
        whole(".visible .entry k() { ret; } #"),
    ];
    for text in rows {
        assert!(load(&text).is_err(), "{text} was taken");
    }
}

#[test]
fn a_text_with_everything_that_is_understood() {
    let text = "// a comment
        .version 8.4
        .target sm_90, debug
        .address_size 64
        .extern .shared .align 16 .b8 dynamic[];
        .shared .align 8 .b8 outer[24];
        .visible .entry first(.param .u32 a, .param .align 8 .b8 b[16]) .maxntid 128, 2 .maxnreg 64
        {
            .reg .pred p; .reg .b32 %r<4>, x; .reg .b64 %rd<3>;
            .shared .align 4 .u32 one;
            .pragma \"nounroll\";
            .loc 1 20 3, function_name somewhere
            ld.param.u32 %r1, [a];
            { .reg .b32 x; .reg .pred inner; mov.u32 x, 0x10; setp.ne.u32 inner, x, 020; @inner bra OUT; bra AGAIN;
              AGAIN: }
            mov.u32 x, one;
            OUT: mov.u64 %rd1, dynamic;
            ret;
        }
        .weak .entry second() .reqntid 32 { bar.sync 0; }";
    load(text).unwrap();
    let module = ptx::parse(text).unwrap();
    assert_eq!((module.version, module.target), ((8, 4), 90));
    let [first, second] = module.kernels.as_slice() else { panic!() };
    assert_eq!((first.max_threads, first.parameter_bytes, first.parameters.len()), (256, 24, 2));
    // 24 bytes of the module and 4 of the kernel; dynamic memory starts aligned after them.
    assert_eq!(first.static_shared, 128);
    assert_eq!(second.required_block, Some([32, 1, 1]));
}

#[test]
fn registers_are_packed_without_harm() {
    // Values that live around a loop, across a branch, and in a loop's own turn.
    let body = "ld.global.u32 %r1, [%rd30]; mov.u32 %r2, 0; mov.u32 %r3, 0;
        L: add.u32 %r4, %r2, %r1; mov.u32 %r5, %r4; setp.ne.u32 %p1, %r3, 0; @%p1 add.u32 %r5, %r5, %r6;
        mov.u32 %r6, 1000; mov.u32 %r2, %r5; add.u32 %r3, %r3, 1; setp.lt.u32 %p2, %r3, 4; @%p2 bra L;
        cvt.u64.u32 %rd1, %r2; st.global.u64 [%rd31], %rd1;";
    let inputs: Vec<u64> = (0..32).collect();
    let got = super::run(body, &inputs, crate::exec::Order::Lockstep).unwrap();
    assert!(got.iter().zip(inputs).all(|(got, input)| *got == 4 * input + 3000), "{got:?}");
    let mut module = ptx::parse(&kernel(body)).unwrap();
    let before = module.kernels[0].registers.len();
    ptx::compact(&mut module.kernels[0]);
    assert!(module.kernels[0].registers.len() < before / 4, "{}", module.kernels[0].registers.len());
}
