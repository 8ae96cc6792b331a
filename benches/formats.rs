//! Headers of files of tensors.
#![allow(clippy::unwrap_used, reason = "a program of its own, which may fail by panicking")]

mod made;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tensorseal::format::{Format, Header};

fn headers(c: &mut Criterion) {
    let mut group = c.benchmark_group("formats");
    group.sample_size(20);
    for (format, tensors) in [
        (Format::Safetensors, 1),
        (Format::Safetensors, 300),
        (Format::Safetensors, 50_000),
        (Format::Gguf, 300),
        (Format::Gguf, 50_000),
    ] {
        let made = if format == Format::Gguf { made::gguf } else { made::safetensors };
        let (head, len) = made(tensors, 32);
        let header = Header::of_bytes(format, &head, len).unwrap();
        assert_eq!((header.tensors.len(), header.len), (tensors, head.len() as u64));
        let names = header.tensors.iter().map(|tensor| tensor.name.clone());
        assert!(names.eq((0..tensors).map(made::tensor_name)));
        group.throughput(Throughput::Bytes(head.len() as u64));
        let id = BenchmarkId::new(format!("{format:?}"), tensors);
        group.bench_function(id, |b| b.iter(|| Header::of_bytes(format, black_box(&head), len)));
    }
    group.finish();
}

criterion_group!(benches, headers);
criterion_main!(benches);
