//! Tensor manifests, written and read.
#![allow(clippy::unwrap_used, reason = "a program of its own, which may fail by panicking")]

mod made;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tensorseal::tensors::TensorManifest;

fn wire(c: &mut Criterion) {
    let mut group = c.benchmark_group("tensors");
    group.sample_size(20);
    for tensors in [300, 10_000] {
        let manifest = made::tensor_manifest(tensors);
        let bytes = manifest.to_bytes();
        let read = TensorManifest::parse(&bytes).unwrap();
        assert!(read == manifest && read.tensors().len() == tensors && read.to_bytes() == bytes);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("written", tensors), |b| b.iter(|| black_box(&manifest).to_bytes()));
        group.bench_function(BenchmarkId::new("read", tensors), |b| {
            b.iter(|| TensorManifest::parse(black_box(&bytes)));
        });
    }
    group.finish();
}

criterion_group!(benches, wire);
criterion_main!(benches);
