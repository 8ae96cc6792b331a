//! Tests of the driver itself: every opcode against a computation written another way, then the rules.

mod arithmetic;
mod bits;
mod copies;
mod driver;
mod memory;
mod refused;
mod streams;
mod warp;

use crate::decode::decode;
use crate::exec::{self, Fault, Launch, Order};
use crate::memory::Allocation;
use crate::ptx;
use std::sync::Arc;

/// What a register of a tested instruction is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// A predicate: 0 or 1.
    P,
    /// 16, 32 and 64 bits.
    H,
    N,
    W,
}
use Kind::{H, N, P, W};

impl Kind {
    fn register(self, number: usize) -> String {
        match self {
            P => format!("%p{number}"),
            H => format!("%h{number}"),
            N => format!("%r{number}"),
            W => format!("%rd{number}"),
        }
    }

    fn cut(self, value: u64) -> u64 {
        match self {
            P => value & 1,
            H => value & 0xFFFF,
            N => value & 0xFFFF_FFFF,
            W => value,
        }
    }
}

const ORDERS: [Order; 3] = [Order::Lockstep, Order::Serial, Order::Adverse];

/// The header that every PTX text has.
const HEADER: &str = ".version 7.4\n.target sm_80\n.address_size 64\n";

/// The registers that the tests use.
const REGISTERS: &str = ".reg .pred %p<20>;\n.reg .b16 %h<20>;\n.reg .b32 %r<60>;\n.reg .b64 %rd<40>;\n";

/// Runs `text`'s kernel `k`; its parameters are u64.
fn launch(
    text: &str,
    blocks: u32,
    threads: u32,
    parameters: &[u64],
    memory: &[Arc<Allocation>],
    order: Order,
) -> Result<(), Fault> {
    let module = ptx::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let kernel = module.kernels.into_iter().find(|kernel| kernel.name == "k").unwrap();
    let program = decode(kernel).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut sorted = memory.to_vec();
    sorted.sort_by_key(|allocation| allocation.start());
    let parameters: Vec<u8> = parameters.iter().flat_map(|value| value.to_le_bytes()).collect();
    exec::run(&Launch {
        program: &program,
        grid: [blocks, 1, 1],
        block: [threads, 1, 1],
        shared: 4096,
        parameters: &parameters,
        memory: &sorted,
        order,
    })
}

/// A kernel `k(in, out)` whose body finds `%rd30` and `%rd31` at this thread's 8 bytes of each, and `%r50` its number.
fn kernel(body: &str) -> String {
    format!(
        "{HEADER}.extern .shared .align 16 .b8 dynamic[];
         .visible .entry k(.param .u64 in, .param .u64 out) {{
         {REGISTERS}
         .shared .align 16 .b8 fixed[512];
         ld.param.u64 %rd30, [in]; ld.param.u64 %rd31, [out];
         mov.u32 %r50, %tid.x; mul.wide.u32 %rd32, %r50, 8;
         add.s64 %rd30, %rd30, %rd32; add.s64 %rd31, %rd31, %rd32;
         {body}
         ret; }}"
    )
}

/// Runs `kernel(body)` in one block: thread t reads input t, and what it stores is output t.
fn run(body: &str, inputs: &[u64], order: Order) -> Result<Vec<u64>, Fault> {
    let bytes = inputs.len() as u64 * 8;
    let (given, got) = (Arc::new(Allocation::new(bytes).unwrap()), Arc::new(Allocation::new(bytes).unwrap()));
    for (index, value) in inputs.iter().enumerate() {
        given.store(given.start() + 8 * index as u64, 8, *value);
    }
    let threads = inputs.len() as u32;
    let parameters = [given.start(), got.start()];
    launch(&kernel(body), 1, threads, &parameters, &[given, got.clone()], order)?;
    Ok((0..inputs.len()).map(|index| got.load(got.start() + 8 * index as u64, 8)).collect())
}

/// Numbers without a pattern, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ self.0 >> 29
    }

    /// A value of `kind`: half of them where mistakes live.
    fn value(&mut self, kind: Kind) -> u64 {
        const EDGES: [u64; 20] = [
            0,
            1,
            2,
            3,
            7,
            8,
            15,
            31,
            32,
            33,
            63,
            64,
            65,
            255,
            256,
            0x7FFF_FFFF,
            0x8000_0000,
            0xFFFF_FFFF,
            0x7FFF_FFFF_FFFF_FFFF,
            0x8000_0000_0000_0000,
        ];
        let (choice, random) = (self.next(), self.next());
        kind.cut(match choice % 8 {
            0..4 => EDGES[(choice >> 8) as usize % EDGES.len()],
            4 => u64::MAX - random % 4,
            5 => random % 70,
            _ => random,
        })
    }
}

/// Runs `instruction` on many values and holds its result against `expected`. `$0` stands for the destination of
/// kind `to`, `$1` and so on for the operands. Runs it for a whole warp, and for some of its lanes: the others must
/// keep what they had.
fn check(instruction: &str, to: Kind, from: &[Kind], expected: impl Fn(&[u64]) -> u64) {
    let mut text = instruction.replace("$0", &to.register(0));
    for (index, kind) in from.iter().enumerate() {
        text = text.replace(&format!("${}", index + 1), &kind.register(index + 1));
    }
    let load: String = from.iter().enumerate().map(|(index, kind)| load(*kind, index + 1, 256 * index)).collect();
    let before = match to {
        P => "setp.ne.u32 %p0, %r50, %r50;".to_owned(),
        H => "mov.b16 %h0, 21845;".to_owned(),
        N => "mov.b32 %r0, 21845;".to_owned(),
        W => "mov.b64 %rd0, 21845;".to_owned(),
    };
    let save = match to {
        P => "selp.u32 %r49, 1, 0, %p0; cvt.u64.u32 %rd33, %r49;".to_owned(),
        H => "cvt.u64.u16 %rd33, %h0;".to_owned(),
        N => "cvt.u64.u32 %rd33, %r0;".to_owned(),
        W => "mov.b64 %rd33, %rd0;".to_owned(),
    };
    let mut random = Random(instruction.len() as u64 * 77);
    for guard in ["", "@%p18 "] {
        for _ in 0..12 {
            // 32 values for each operand, one after the other: thread t reads the t-th of each.
            let values: Vec<Vec<u64>> =
                from.iter().map(|kind| (0..32).map(|_| random.value(*kind)).collect()).collect();
            let mut inputs = values.concat();
            inputs.resize(inputs.len().max(32), 0);
            let got = one_warp(
                &format!(
                    "{load} {before} and.b32 %r48, %r50, 5; setp.eq.u32 %p18, %r48, 4;
                     {guard}{text}
                     {save} st.global.u64 [%rd31], %rd33;"
                ),
                &inputs,
            );
            for (lane, got) in got.iter().enumerate() {
                let operands: Vec<u64> = values.iter().map(|all| all[lane]).collect();
                let runs = guard.is_empty() || lane & 5 == 4;
                let untouched = if to == P { 0 } else { 21845 };
                let wanted = if runs { to.cut(expected(&operands)) } else { untouched };
                assert_eq!(*got, wanted, "{guard}{text} in lane {lane} of {operands:x?}");
            }
        }
    }
}

/// One warp whose thread t finds input t at `%rd30`, as [`run`], but with more inputs than threads.
fn one_warp(body: &str, inputs: &[u64]) -> Vec<u64> {
    let (given, got) =
        (Arc::new(Allocation::new(inputs.len() as u64 * 8).unwrap()), Arc::new(Allocation::new(256).unwrap()));
    for (index, value) in inputs.iter().enumerate() {
        given.store(given.start() + 8 * index as u64, 8, *value);
    }
    let memory = [given.clone(), got.clone()];
    launch(&kernel(body), 1, 32, &[given.start(), got.start()], &memory, Order::Lockstep).unwrap();
    (0..32).map(|lane| got.load(got.start() + 8 * lane, 8)).collect()
}

fn load(kind: Kind, register: usize, offset: usize) -> String {
    let name = kind.register(register);
    match kind {
        P => format!("ld.global.u32 %r47, [%rd30+{offset}]; setp.ne.u32 {name}, %r47, 0;"),
        H => format!("ld.global.u16 {name}, [%rd30+{offset}];"),
        N => format!("ld.global.u32 {name}, [%rd30+{offset}];"),
        W => format!("ld.global.u64 {name}, [%rd30+{offset}];"),
    }
}

#[test]
fn every_mnemonic_of_the_tables_stands_in_a_test() {
    let tables = [
        include_str!("../decode/arithmetic.rs"),
        include_str!("../decode/bits.rs"),
        include_str!("../decode/memory.rs"),
        include_str!("../decode/control.rs"),
    ];
    let tests = [
        include_str!("arithmetic.rs"),
        include_str!("bits.rs"),
        include_str!("copies.rs"),
        include_str!("memory.rs"),
        include_str!("warp.rs"),
    ];
    let mut seen = 0;
    for literal in tables.iter().flat_map(|table| table.split('"').skip(1).step_by(2)) {
        let is_mnemonic = literal.contains('.') && !literal.ends_with('.') && !literal.contains(' ');
        if is_mnemonic {
            seen += 1;
            assert!(tests.iter().any(|test| test.contains(literal)), "{literal} is modelled, but no test names it");
        }
    }
    assert!(seen > 120, "only {seen} mnemonics were found in the tables");
}

#[test]
fn unsafe_stands_in_one_file_and_no_file_is_long() {
    let (mut folders, mut files) = (vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.lines().count() <= 500, "{} wants to be two files", path.display());
            let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
            let holds = code.filter(|line| line.contains("unsafe ") || line.contains("unsafe(")).count() > 0;
            let may = path.ends_with("abi.rs") || path.ends_with("tests/mod.rs");
            assert!(may || !holds, "{} holds unsafe code", path.display());
            files += 1;
        }
    }
    assert!(files > 30);
}
