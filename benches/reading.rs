//! How fast a file of tensors gets into fresh memory by each way of reading, out of the page cache and into it.
//!
//! `cargo bench --all-features --bench reading -- FOLDER [MIB]`: the file, 1,536 MiB if nothing else is said, is made in
//! FOLDER, which must be on a disk. Loads without a check (`load_locked`), on the CPU device. The ways take turns, so that
//! noise of the machine hits all of them; `dd oflag=nocache` (coreutils) takes the file out of the cache before each cold load.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a program of its own, which may fail by panicking")]

use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use tensorseal::device::Cpu;
use tensorseal::device::cpu::{Settings, Silent};
use tensorseal::digest::Algorithm;
use tensorseal::loader::{LoadOptions, ReadMode, load_locked};

const ROUNDS: usize = 5;

/// A way, the threads that read, and whether BLAKE3 is taken.
const CASES: [(ReadMode, usize, Option<Algorithm>); 10] = [
    (ReadMode::Buffered, 2, None),
    (ReadMode::Buffered, 4, None),
    (ReadMode::Direct, 2, None),
    (ReadMode::Direct, 4, None),
    (ReadMode::Uring, 2, None),
    (ReadMode::DirectUring, 1, None),
    (ReadMode::DirectUring, 2, None),
    (ReadMode::Buffered, 2, Some(Algorithm::Blake3)),
    (ReadMode::Direct, 4, Some(Algorithm::Blake3)),
    (ReadMode::DirectUring, 2, Some(Algorithm::Blake3)),
];

fn main() {
    // Cargo adds `--bench`.
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let folder = PathBuf::from(args.next().expect("FOLDER, on a disk"));
    let mib: u64 = args.next().map_or(1536, |mib| mib.parse().unwrap());
    let folder = tempfile::tempdir_in(folder).unwrap();
    let path = folder.path().join("weights.safetensors");
    write(&path, mib);
    let cpu = Cpu::open(Settings::default()).unwrap();
    let load = |read: ReadMode, threads, measure| {
        let options = LoadOptions { read, threads: NonZeroUsize::new(threads), ..LoadOptions::default() };
        let start = Instant::now();
        let loaded = load_locked(folder.path(), measure, &options, &cpu, &Silent).unwrap();
        let seconds = start.elapsed().as_secs_f64();
        assert!(loaded.len() == 1 && loaded[0].1.len() == std::fs::metadata(&path).unwrap().len());
        seconds
    };
    println!("| way | threads | BLAKE3 | cold, s: median (min .. max) | GB/s | warm, s: median (min .. max) | GB/s |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mut times = vec![[Vec::new(), Vec::new()]; CASES.len()];
    for round in 0..=ROUNDS {
        for place in 0..CASES.len() {
            // Another order each round.
            let index = (place * 7 + round * 3) % CASES.len();
            let (read, threads, measure) = CASES[index];
            for (warm, times) in times[index].iter_mut().enumerate() {
                if warm == 0 {
                    evict(&path);
                } else {
                    fill_cache(&path);
                }
                let seconds = load(read, threads, measure);
                // The first round is not counted.
                if round > 0 {
                    times.push(seconds);
                }
            }
        }
    }
    let bytes = std::fs::metadata(&path).unwrap().len() as f64;
    for ((read, threads, measure), mut times) in CASES.into_iter().zip(times) {
        let cells = times.each_mut().map(|times| {
            times.sort_by(f64::total_cmp);
            let (min, median, max) = (times[0], times[times.len() / 2], times[times.len() - 1]);
            format!("{median:.2} ({min:.2} .. {max:.2}) | {:.2}", bytes / median / 1e9)
        });
        let [cold, warm] = cells;
        let taken = if measure.is_some() { "yes" } else { "" };
        println!("| {read} | {threads} | {taken} | {cold} | {warm} |");
    }
}

/// One tensor of bytes that no disk compresses.
fn write(path: &Path, mib: u64) {
    let len = mib << 20;
    let header = format!(r#"{{"w":{{"dtype":"U8","shape":[{len}],"data_offsets":[0,{len}]}}}}"#);
    let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    let (mut noise, mut block) = (blake3::Hasher::new().finalize_xof(), vec![0; 1 << 20]);
    for _ in 0..mib {
        noise.fill(&mut block);
        file.write_all(&block).unwrap();
    }
    file.sync_all().unwrap();
}

fn evict(path: &Path) {
    let mut to = std::ffi::OsString::from("of=");
    to.push(path);
    let done = Command::new("dd")
        .arg(to)
        .args(["oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"])
        .stdin(Stdio::null())
        .status();
    assert!(done.unwrap().success());
}

fn fill_cache(path: &Path) {
    std::io::copy(&mut File::open(path).unwrap(), &mut std::io::sink()).unwrap();
}
