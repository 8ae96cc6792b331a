//! Every fuzz target on its seeds, and on what becomes of them when they are cut, flipped and put together, with stable
//! Rust and without libFuzzer: `./test` cannot wait for a build of everything with instrumentation. `./test --all` fuzzes.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub, unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

// The targets name these crates; here they are this one.
extern crate self as invariants;
extern crate self as libfuzzer_sys;

#[path = "../fuzz/src/lib.rs"]
mod shared;
pub(crate) use shared::*;

#[global_allocator]
static COUNTING: counting::Counting = counting::Counting;

macro_rules! targets {
    ($($name:ident $path:literal),* $(,)?) => {
        $(
            #[path = $path]
            #[allow(unused_attributes, reason = "`no_main` is for the program that libFuzzer makes of it")]
            mod $name;

            #[test]
            fn $name() {
                bears(stringify!($name), $name::run);
            }
        )*
        const TARGETS: &[&str] = &[$(stringify!($name)),*];
    };
}

targets! {
    bench_report "../fuzz/fuzz_targets/bench_report.rs",
    bundle "../fuzz/fuzz_targets/bundle.rs",
    certificate "../fuzz/fuzz_targets/certificate.rs",
    gguf "../fuzz/fuzz_targets/gguf.rs",
    key_pem "../fuzz/fuzz_targets/key_pem.rs",
    outboard "../fuzz/fuzz_targets/outboard.rs",
    pkcs11_uri "../fuzz/fuzz_targets/pkcs11_uri.rs",
    policy "../fuzz/fuzz_targets/policy.rs",
    receipt "../fuzz/fuzz_targets/receipt.rs",
    safetensors "../fuzz/fuzz_targets/safetensors.rs",
    shard_name "../fuzz/fuzz_targets/shard_name.rs",
    statement "../fuzz/fuzz_targets/statement.rs",
    tensor_manifest "../fuzz/fuzz_targets/tensor_manifest.rs",
}

// Below the targets, so that they have it by the name under which they import it.
/// A target's body as a function of bytes. One that takes text gets what libFuzzer would give it: nothing, for bytes that
/// are none.
macro_rules! fuzz_target {
    (|$text:ident: &str| $body:block) => {
        pub(crate) fn run(data: &[u8]) {
            if let Ok($text) = std::str::from_utf8(data) {
                body($text);
            }
        }
        fn body($text: &str) $body
    };
    (|$data:ident: &[u8]| $body:block) => {
        pub(crate) fn run($data: &[u8]) $body
    };
}
pub(crate) use fuzz_target;

/// Altered forms of each seed.
const FORMS: u64 = 1000;

/// Numbers that only look random, so that a failure comes again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

/// `seed`, altered in up to four places.
fn altered(seed: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(data.len());
        match numbers.below(6) {
            0 => data.truncate(at),
            1 if !data.is_empty() => data[at] ^= 1 << numbers.below(8),
            2 => data.insert(at, numbers.below(256) as u8),
            3 if !data.is_empty() => data[at] = *b"0-9\"{}[],:\0\x7f\xff".get(numbers.below(13)).unwrap(),
            4 => {
                let from = numbers.below(other.len());
                let until = (from + numbers.below(64)).min(other.len());
                data.splice(at..at, other[from..until].iter().copied());
            }
            _ => {
                let end = (at + 1 + numbers.below(16)).min(data.len());
                data.drain(at..end);
            }
        }
    }
    data
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The target bears its seeds, and what becomes of them.
fn bears(target: &str, run: fn(&[u8])) {
    let seeds: Vec<_> = sorted(&folder("seeds").join(target)).iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(seeds.len() > 4, "{target} has hardly any seeds");
    run(b"");
    for (index, seed) in seeds.iter().enumerate() {
        run(seed);
        let other = &seeds[(index + 1) % seeds.len()];
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ index as u64);
        for _ in 0..FORMS {
            run(&altered(seed, other, &mut numbers));
        }
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

#[test]
fn every_target_is_here() {
    let files = sorted(&folder("fuzz_targets"));
    let names: Vec<_> = files.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, TARGETS, "files in fuzz/fuzz_targets, and those that this program runs");
}
