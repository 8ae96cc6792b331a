//! Any bytes as a file of trees.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tensorseal::outboard::{MAX_GROUP, OutboardFile};
use tensorseal::tree::{ChainingValue, Frontier, GroupSize, Tree};

// One for the program: `tests/seeds.rs` has its own.
#[cfg(not(test))]
#[global_allocator]
static COUNTING: invariants::counting::Counting = invariants::counting::Counting;

fuzz_target!(|data: &[u8]| {
    check(data);
    // What a mutation loses first is the root: a second reading has the one that the values make.
    if let Some(right) = with_roots(data) {
        assert!(OutboardFile::parse(data).is_err() || right == data);
        check(&right);
    }
});

fn check(data: &[u8]) {
    let (read, most) = invariants::counting::most(|| OutboardFile::parse(data));
    // The record of a resource takes a few times the bytes of the shortest one, in a list that grows by doubling.
    assert!(most <= 16 * data.len() as u64 + 4096, "{most} bytes of memory for {}", data.len());
    match read {
        Ok(file) => {
            assert!(file.group() <= MAX_GROUP);
            assert!(OutboardFile::looks_like_one(data));
            assert_eq!(file.to_bytes(), data, "there is one encoding");
        }
        Err(fault) => {
            let said = fault.to_string();
            assert!(!said.contains('\n') && said.len() < 1000, "{said}");
        }
    }
}

/// The same file with the roots that its values make, as far as it can be followed.
fn with_roots(data: &[u8]) -> Option<Vec<u8>> {
    let mut out = data.to_vec();
    let number = |at: usize, len: usize| {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(data.get(at..at.checked_add(len)?)?);
        Some(u64::from_le_bytes(bytes))
    };
    let group = u8::try_from(number(20, 4)?).ok().and_then(GroupSize::from_chunk_log)?;
    let mut at = 32;
    for _ in 0..number(24, 8)? {
        at += 4 + usize::try_from(number(at, 4)?).ok()?;
        let (tree, fine) = (Tree::new(number(at, 8)?, group), number(at.checked_add(40)?, 8)?);
        let chunks = fine.checked_mul(tree.group().chunks())?.min(tree.len().div_ceil(1024));
        let count = usize::try_from(chunks.checked_add(tree.groups().checked_sub(fine)?)?).ok()?;
        let values = data.get(at + 48..(at + 48).checked_add(count.checked_mul(32)?)?)?.as_chunks::<32>().0;
        let (of_chunks, others) = values.split_at(usize::try_from(chunks).ok()?);
        let over = |chunks: &[ChainingValue]| {
            let mut frontier = Frontier::default();
            chunks.iter().for_each(|value| frontier.push(*value));
            frontier.value()
        };
        let mut groups: Vec<_> = of_chunks.chunks(tree.group().chunks() as usize).filter_map(over).collect();
        groups.extend(others);
        if let Some(root) = tree.root(&groups) {
            out[at + 8..at + 40].copy_from_slice(root.as_bytes());
        }
        at += 48 + count * 32;
    }
    Some(out)
}
