//! How fast the WebGPU engine hashes bytes that are already in its memory, beside `b3sum` on the same bytes.
//!
//! `cargo bench --features wgpu --bench wgpu_resident -- [ADAPTER] [GIB]`: by default llvmpipe and 1 GiB. `b3sum` is that
//! of `B3SUM`, or of `~/.cache/tensorseal/bin`. It reads the page cache with as many threads as the software adapter
//! has; both take turns, so that noise of the machine hits both. Every digest is asserted.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a program of its own, which may fail by panicking")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tensorseal::device::{Backend, Hashed, Job, Want, Wgpu};
use tensorseal::layout::{Extent, Layout};

const ROUNDS: usize = 7;

fn main() {
    // Cargo adds `--bench`.
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let adapter = args.next().unwrap_or_else(|| "llvmpipe".to_owned());
    let len = args.next().map_or(1.0, |gib| gib.parse().unwrap()) * (1_u64 << 30) as f64;
    let len = len as u64;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    write_noise(&path, len);

    let start = Instant::now();
    let wgpu = Wgpu::open(Some(&adapter)).unwrap();
    println!("{}: opened in {:.2} s", wgpu.kind(), start.elapsed().as_secs_f64());
    let start = Instant::now();
    let mut memory = wgpu.alloc(len + 16).unwrap();
    let mut file = std::fs::File::open(&path).unwrap();
    let mut at = 0;
    while at < len {
        let mut block = wgpu.staging().unwrap();
        let size = block.as_mut().len().min((len - at) as usize);
        file.read_exact(&mut block.as_mut()[..size]).unwrap();
        wgpu.upload(block, size, &mut memory, at).unwrap();
        at += size as u64;
    }
    wgpu.download(&memory, 0..1).unwrap();
    println!("uploaded at {:.2} GB/s", len as f64 / start.elapsed().as_secs_f64() / 1e9);

    let b3sum = std::env::var_os("B3SUM").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/tensorseal/bin/b3sum"),
        PathBuf::from,
    );
    let resident = |at, stride| {
        let extent = match stride {
            None => Extent::Range { buffer: &memory, at, len: len - at },
            // The left half of a matrix of rows of 8 KiB.
            Some(row) => Extent::Rows { buffer: &memory, at, row, stride: 2 * row, rows: (len - at) / (2 * row) },
        };
        let layout = Layout::new(vec![extent]).unwrap();
        let bytes = layout.len();
        let start = Instant::now();
        let hashed = wgpu.hash(&[Job { layout, want: Want::Root }]).unwrap();
        let rate = bytes as f64 / start.elapsed().as_secs_f64() / 1e9;
        let Hashed::Root(digest) = &hashed[0] else { panic!("{hashed:?}") };
        (digest.to_string(), rate)
    };
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let before = ticks();
    for _ in 0..ROUNDS {
        let (digest, rate) = resident(0, None);
        ours.push(rate);
        let start = Instant::now();
        let output = Command::new(&b3sum).args(["--num-threads", "2", "--no-names"]).arg(&path).output();
        let Ok(output) = output else {
            println!("no b3sum at {}", b3sum.display());
            continue;
        };
        theirs.push(len as f64 / start.elapsed().as_secs_f64() / 1e9);
        let hex = String::from_utf8(output.stdout).unwrap();
        assert!(digest.ends_with(hex.trim()), "{digest} and {hex}");
        ratios.push(ours[ours.len() - 1] / theirs[theirs.len() - 1]);
    }
    println!("resident: median {:.2} GB/s of {ours:.2?}", median(&mut ours));
    if !theirs.is_empty() {
        println!("b3sum:    median {:.2} GB/s of {theirs:.2?}", median(&mut theirs));
        println!("ratio:    median {:.3} of {ratios:.3?}", median(&mut ratios));
        let after = ticks();
        println!("ratio:    {:.3} by processor time", (after.1 - before.1) / (after.0 - before.0));
    }
    let bytes = std::fs::read(&path).unwrap();
    // From 0 once more: there may be no b3sum.
    for at in [0, 3, 8] {
        let (digest, rate) = resident(at, None);
        assert!(digest.ends_with(&blake3::hash(&bytes[at as usize..]).to_hex().to_string()));
        println!("from byte {at}: {rate:.2} GB/s");
    }
    let halves: Vec<u8> = bytes.chunks_exact(8192).flat_map(|row| &row[..4096]).copied().collect();
    let (digest, rate) = resident(0, Some(4096));
    assert!(digest.ends_with(&blake3::hash(&halves).to_hex().to_string()));
    println!("half of each row: {rate:.2} GB/s");
}

/// Processor time of this process, and of the children that it has waited for: on a busy machine a better measure, for a
/// software adapter, than the time that passed.
fn ticks() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<f64> = stat.rsplit(')').next().unwrap().split(' ').filter_map(|field| field.parse().ok()).collect();
    // Without the state, which is a letter: utime, stime, cutime, cstime are the 10th on.
    (fields[10] + fields[11], fields[12] + fields[13])
}

fn median(rates: &mut [f64]) -> f64 {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn write_noise(path: &Path, len: u64) {
    let mut file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(path).unwrap());
    let mut noise = blake3::Hasher::new().finalize_xof();
    let mut block = vec![0; 1 << 20];
    let mut left = len;
    while left > 0 {
        let here = left.min(block.len() as u64) as usize;
        noise.fill(&mut block[..here]);
        file.write_all(&block[..here]).unwrap();
        left -= here as u64;
    }
    file.flush().unwrap();
}
