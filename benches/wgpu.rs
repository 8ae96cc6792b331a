//! The WebGPU engine on strings that lie in its memory, by size. `benches/wgpu_resident.rs` compares it with `b3sum`.
//!
//! On the adapter that `TENSORSEAL_BENCH_ADAPTER` names, or the first that is not software, or Mesa's llvmpipe.
#![allow(clippy::unwrap_used, reason = "a program of its own, which may fail by panicking")]

mod made;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tensorseal::device::{Backend, Job, Want, Wgpu};
use tensorseal::layout::{Extent, Layout};

fn resident(c: &mut Criterion) {
    let wgpu = match std::env::var("TENSORSEAL_BENCH_ADAPTER") {
        Ok(named) => Wgpu::open(Some(&named)),
        Err(_) => Wgpu::open(None).or_else(|_| Wgpu::open(Some("llvmpipe"))),
    };
    let wgpu = wgpu.unwrap_or_else(|error| {
        println!("nothing is measured: {error}");
        std::process::exit(3)
    });
    println!("on {}", wgpu.kind());
    let bytes = made::noise(1, 64 << 20);
    let mut memory = wgpu.alloc(bytes.len() as u64).unwrap();
    let mut at = 0;
    while at < bytes.len() {
        let mut block = wgpu.staging().unwrap();
        let size = block.as_mut().len().min(bytes.len() - at);
        block.as_mut()[..size].copy_from_slice(&bytes[at..at + size]);
        wgpu.upload(block, size, &mut memory, at as u64).unwrap();
        at += size;
    }
    let part = |at: usize, len: usize| {
        Layout::new(vec![Extent::Range { buffer: &memory, at: at as u64, len: len as u64 }]).unwrap()
    };

    let mut group = c.benchmark_group("wgpu/one string in its memory");
    group.sample_size(10);
    for len in [64 << 10, 1 << 20, 64 << 20] {
        let hash = || wgpu.hash(&[Job { layout: part(0, len), want: Want::Root }]).unwrap();
        assert_eq!(hash(), [Want::Root.of(&bytes[..len])]);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{} KiB", len >> 10)), |b| b.iter(hash));
    }
    group.finish();

    let mut group = c.benchmark_group("wgpu/strings in its memory");
    group.sample_size(10);
    for (count, len) in [(1000, 64 << 10), (10_000, 4096)] {
        let hash = || {
            let jobs: Vec<_> = (0..count).map(|i| Job { layout: part(i * len, len), want: Want::Root }).collect();
            wgpu.hash(&jobs).unwrap()
        };
        assert!(hash().into_iter().eq((0..count).map(|i| Want::Root.of(&bytes[i * len..(i + 1) * len]))));
        group.throughput(Throughput::Bytes((count * len) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{count} of {} KiB", len >> 10)), |b| b.iter(hash));
    }
    group.finish();
}

criterion_group!(benches, resident);
criterion_main!(benches);
