//! The text that is signed, and the bundle around it: written and read.
#![allow(clippy::unwrap_used, reason = "a program of its own, which may fail by panicking")]

mod made;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::Value;
use tensorseal::bench::inside;
use tensorseal::bundle::Bundle;

fn resources(c: &mut Criterion) {
    for files in [10, 1000, 50_000] {
        let manifest = made::manifest(files);
        let statement = inside::statement_of(&manifest);
        let text = made::bundle(&statement);
        let bundle = Bundle::parse(&text).unwrap();
        assert_eq!(bundle.unverified_manifest().unwrap(), manifest);
        let [given, written]: [Value; 2] = [&text, &bundle.to_json()].map(|text| serde_json::from_slice(text).unwrap());
        assert_eq!(given["dsseEnvelope"]["payload"], written["dsseEnvelope"]["payload"]);

        let mut group = c.benchmark_group("manifest");
        group.sample_size(20).throughput(Throughput::Elements(files as u64));
        group.bench_function(BenchmarkId::new("statement written", files), |b| {
            b.iter(|| inside::statement_of(black_box(&manifest)));
        });
        group.bench_function(BenchmarkId::new("statement read", files), |b| {
            b.iter(|| black_box(&bundle).unverified_manifest());
        });
        group.bench_function(BenchmarkId::new("bundle written", files), |b| b.iter(|| black_box(&bundle).to_json()));
        group.bench_function(BenchmarkId::new("bundle read", files), |b| b.iter(|| Bundle::parse(black_box(&text))));
        group.finish();
    }
}

criterion_group!(benches, resources);
criterion_main!(benches);
