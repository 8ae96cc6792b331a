//! Listing the files of a model.
#![allow(clippy::unwrap_used, reason = "a program of its own, which may fail by panicking")]

mod made;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tensorseal::source::{IgnoreSet, Model, SymlinkPolicy};

fn listing(c: &mut Criterion) {
    let mut group = c.benchmark_group("walk");
    group.sample_size(10);
    for files in [10, 1000, 50_000] {
        let folder = tempfile::tempdir().unwrap();
        made::files(folder.path(), files, 0);
        let scan = || {
            let model = Model::open(folder.path(), SymlinkPolicy::Refuse).unwrap();
            model.scan(&IgnoreSet::new(), SymlinkPolicy::Refuse, false).unwrap()
        };
        let found = scan();
        assert!(found.files.iter().map(|file| file.name().to_owned()).eq((0..files).map(made::file_name)));
        group.throughput(Throughput::Elements(files as u64));
        group.bench_function(BenchmarkId::new("files", files), |b| b.iter(scan));
    }
    group.finish();
}

criterion_group!(benches, listing);
criterion_main!(benches);
