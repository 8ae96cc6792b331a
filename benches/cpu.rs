//! The CPU engine by size and threads: strings in memory, and files out of the page cache.
#![allow(clippy::unwrap_used, reason = "a program of its own, which may fail by panicking")]

mod made;

use std::hint::black_box;
use std::num::NonZeroUsize;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sha2::{Digest as _, Sha256};
use tensorseal::device::cpu::{Algorithms, Cpu, FileJob, Settings, Silent};
use tensorseal::device::{Backend, Hashed, Job, Want};
use tensorseal::digest::Algorithm;
use tensorseal::layout::{Extent, Layout};

/// One thread, two, and all that there are.
fn engines() -> Vec<Cpu> {
    let open = |threads| Cpu::open(Settings { threads: NonZeroUsize::new(threads), ..Settings::default() }).unwrap();
    let all = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut threads = vec![1, 2, all];
    threads.sort_unstable();
    threads.dedup();
    threads.into_iter().map(open).collect()
}

fn in_memory(c: &mut Criterion) {
    let bytes = made::noise(1, 64 << 20);
    let mut group = c.benchmark_group("cpu/one string in memory, BLAKE3");
    group.sample_size(10);
    for size in [4 << 10, 1 << 20, 64 << 20] {
        let bytes = &bytes[..size];
        group.throughput(Throughput::Bytes(size as u64));
        for cpu in engines() {
            let hash = || {
                let layout = Layout::new(vec![Extent::Host(black_box(bytes))]).unwrap();
                cpu.hash(&[Job { layout, want: Want::Root }]).unwrap()
            };
            assert_eq!(hash(), [Want::Root.of(bytes)]);
            let id = BenchmarkId::new(format!("{} threads", cpu.threads()), format!("{} KiB", size >> 10));
            group.bench_function(id, |b| b.iter(hash));
        }
    }
    group.finish();

    let mut group = c.benchmark_group("cpu/10,000 strings in memory, BLAKE3");
    group.sample_size(10);
    let size = 4096;
    group.throughput(Throughput::Bytes(10_000 * size as u64));
    let strings: Vec<&[u8]> = bytes.chunks(size).take(10_000).collect();
    let expected: Vec<Hashed> = strings.iter().map(|bytes| Want::Root.of(bytes)).collect();
    for cpu in engines() {
        let hash = || {
            let job = |bytes| Job { layout: Layout::new(vec![Extent::Host(bytes)]).unwrap(), want: Want::Root };
            cpu.hash(&strings.iter().map(|bytes| job(bytes)).collect::<Vec<_>>()).unwrap()
        };
        assert_eq!(hash(), expected);
        group.bench_function(format!("{} threads", cpu.threads()), |b| b.iter(hash));
    }
    group.finish();
}

/// What others say that the files are.
fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
    match algorithm {
        Algorithm::Sha256 => Sha256::digest(bytes).to_vec(),
        _ => blake3::hash(bytes).as_bytes().to_vec(),
    }
}

fn from_files(c: &mut Criterion) {
    for (files, size) in [(1, 64 << 20), (20, 1 << 20), (10_000, 4096)] {
        let folder = tempfile::tempdir().unwrap();
        made::files(folder.path(), files, size);
        let job = |index| {
            let path = folder.path().join(made::file_name(index));
            FileJob { path, size_hint: Some(size as u64), expected_len: None }
        };
        let jobs: Vec<FileJob> = (0..files).map(job).collect();
        let mut group = c.benchmark_group(format!("cpu/{files} files of {} KiB", size >> 10));
        group.sample_size(10).throughput(Throughput::Bytes((files * size) as u64));
        for algorithm in [Algorithm::Blake3, Algorithm::Sha256] {
            for cpu in engines() {
                let hash = || cpu.hash_files(black_box(&jobs), Algorithms::only(algorithm), None, &Silent).unwrap();
                for (index, file) in hash().iter().enumerate() {
                    let expected = digest_of(algorithm, &made::noise(index as u64, size));
                    assert_eq!(file.parts[0].digests.get(algorithm).unwrap().as_bytes(), expected);
                }
                group.bench_function(format!("{algorithm}, {} threads", cpu.threads()), |b| b.iter(hash));
            }
        }
        group.finish();
    }
}

criterion_group!(benches, in_memory, from_files);
criterion_main!(benches);
