//! Merging the values of groups to the root of a file: all at once, and as they come.
#![allow(clippy::unwrap_used, reason = "a program of its own, which may fail by panicking")]

mod made;

use std::hint::black_box;

use blake3::hazmat::HasherExt;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tensorseal::tree::{CHUNK_LEN, ChainingValue, Frontier, GroupSize, Tree};

/// The values of the groups of `bytes`, by the `blake3` crate.
fn values(bytes: &[u8], group: GroupSize) -> Vec<ChainingValue> {
    let value = |(index, part): (usize, &[u8])| {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(index as u64 * group.bytes());
        hasher.update(part).finalize_non_root()
    };
    bytes.chunks(group.bytes() as usize).enumerate().map(value).collect()
}

fn merging(c: &mut Criterion) {
    let bytes = made::noise(1, 16 << 20);
    let digest = blake3::hash(&bytes);
    let mut of_tree = c.benchmark_group("tree/root of 16 MiB");
    for log in [0, 4, 6, 9] {
        let group = GroupSize::from_chunk_log(log).unwrap();
        let (tree, values) = (Tree::new(bytes.len() as u64, group), values(&bytes, group));
        assert_eq!(tree.root(&values).unwrap().as_bytes(), digest.as_bytes());
        of_tree.throughput(Throughput::Elements(values.len() as u64));
        let id = BenchmarkId::new("groups of", format!("{} KiB", group.bytes() / CHUNK_LEN));
        of_tree.bench_with_input(id, &values, |b, values| b.iter(|| tree.root(black_box(values))));
    }
    of_tree.finish();

    let mut of_frontier = c.benchmark_group("tree/frontier");
    for chunks in [2_usize, 1024, 16_384] {
        let bytes = &bytes[..chunks << 10];
        let values = values(bytes, GroupSize::at_most(0));
        let root = |values: &[ChainingValue]| {
            let mut frontier = Frontier::default();
            values.iter().for_each(|value| frontier.push(*value));
            frontier.root()
        };
        assert_eq!(root(&values).unwrap().as_bytes(), blake3::hash(bytes).as_bytes());
        of_frontier.throughput(Throughput::Elements(chunks as u64));
        let id = BenchmarkId::new("values", chunks);
        of_frontier.bench_with_input(id, &values, |b, values| b.iter(|| root(black_box(values))));
    }
    of_frontier.finish();
}

criterion_group!(benches, merging);
criterion_main!(benches);
