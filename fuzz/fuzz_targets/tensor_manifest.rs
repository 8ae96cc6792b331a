//! Any bytes as a tensor manifest.
#![no_main]

use std::collections::BTreeMap;

use invariants::{counting, is_plain};
use libfuzzer_sys::fuzz_target;
use tensorseal::format::Dtype;
use tensorseal::tensors::{Grid, TensorManifest, bytes_of, tensor_root};

// One for the program: `tests/seeds.rs` has its own.
#[cfg(not(test))]
#[global_allocator]
static COUNTING: counting::Counting = counting::Counting;

fuzz_target!(|data: &[u8]| {
    read(data);
    // Hardly a mutation leaves the digest of a tensor right: the second reading has all of them made anew.
    let mut repaired = data.to_vec();
    let _ = repair(&mut repaired);
    if repaired != data {
        read(&repaired);
    }
});

fn read(data: &[u8]) {
    let (read, most) = counting::most(|| TensorManifest::parse(data));
    assert!(most <= 16 * data.len() as u64 + 4096, "{most} bytes for {}", data.len());
    let Ok(manifest) = read else { return };
    assert!(manifest.to_bytes() == data, "one content, one encoding");
    assert!(manifest.files().is_sorted_by(|a, b| a.name.as_str().as_bytes() < b.name.as_str().as_bytes()));
    assert!(manifest.files().iter().all(|file| is_plain(file.name.as_str()) && file.header_len <= file.len));
    assert!(manifest.tensors().is_sorted_by(|a, b| a.name().as_bytes() < b.name().as_bytes()));
    assert!(!manifest.tensors().is_empty());
    let mut places: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for tensor in manifest.tensors() {
        let file = manifest.file_of(tensor).expect("a file of the manifest");
        let range = tensor.range();
        assert!(file.header_len <= range.start && range.end <= file.len);
        assert_eq!(bytes_of(tensor.dtype(), tensor.shape()), Some(range.end - range.start));
        assert_eq!(Grid::of(tensor.dtype(), tensor.shape()).as_ref(), Some(tensor.grid()));
        assert_eq!(tensor.tiles().len(), tensor.grid().tiles());
        let root = tensor_root(tensor.name(), tensor.dtype(), tensor.shape(), tensor.tiles());
        assert_eq!(root, Some(tensor.root()));
        for tile in [0, tensor.tiles().len() - 1] {
            let of = tensor.tile_range(tile);
            assert!(range.start <= of.start && of.start <= of.end && of.end <= range.end);
        }
        if range.start < range.end {
            places.entry(file.name.as_str()).or_default().push((range.start, range.end));
        }
        assert_eq!(manifest.tensor(tensor.name()), Some(tensor));
    }
    for places in places.values_mut() {
        places.sort_unstable();
        assert!(places.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    }
}

/// Walks over a manifest as the document has it, and makes the digests of its tensors right as far as it comes.
fn repair(data: &mut [u8]) -> Option<()> {
    let number = |data: &[u8], at: usize, len: usize| {
        let bytes = data.get(at..at.checked_add(len)?)?;
        Some(bytes.iter().rev().fold(0_u64, |number, &byte| number << 8 | u64::from(byte)))
    };
    let (files, tensors) = (number(data, 12, 4)?, number(data, 16, 4)?);
    let mut at = 20;
    for _ in 0..files {
        at += 2 + number(data, at, 2)? as usize + 49;
    }
    for _ in 0..tensors {
        let name_len = number(data, at, 2)? as usize;
        let name = std::str::from_utf8(data.get(at + 2..at + 2 + name_len)?).ok()?.to_owned();
        at += 2 + name_len + 4;
        let type_len = number(data, at, 1)? as usize;
        let text = std::str::from_utf8(data.get(at + 1..at + 1 + type_len)?).ok()?;
        let gguf = || (0..64).filter_map(Dtype::from_gguf).find(|dtype| dtype.name() == text);
        let dtype = Dtype::from_safetensors(text).or_else(gguf)?;
        at += 1 + type_len;
        let dimensions = number(data, at, 1)? as usize;
        let shape: Vec<u64> = (0..dimensions).map(|i| number(data, at + 1 + 8 * i, 8)).collect::<Option<_>>()?;
        at += 1 + 9 * dimensions + 16;
        let len = Grid::of(dtype, &shape)?.tiles() * 32;
        let tiles: Vec<[u8; 32]> = data.get(at..at + len)?.as_chunks().0.to_vec();
        at += len;
        let root = tensor_root(&name, dtype, &shape, &tiles)?;
        data.get_mut(at..at + 32)?.copy_from_slice(root.as_bytes());
        at += 32;
    }
    Some(())
}
