//! What the Python implementation made, from the document alone.

use std::path::PathBuf;

use serde_json::Value;

use super::*;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/tensors")
}

fn cases() -> Value {
    serde_json::from_slice(&std::fs::read(folder().join("cases.json")).unwrap()).unwrap()
}

fn unhex(text: &Value) -> Vec<u8> {
    let digits = text.as_str().unwrap();
    (0..digits.len() / 2).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn any_dtype(name: &str) -> Dtype {
    let gguf = || (0..64).filter_map(Dtype::from_gguf).find(|dtype| dtype.name() == name);
    Dtype::from_safetensors(name).or_else(gguf).unwrap()
}

#[test]
fn grids_are_those_of_the_vectors() {
    for case in cases()["grids"].as_array().unwrap() {
        let shape: Vec<u64> = serde_json::from_value(case["shape"].clone()).unwrap();
        let parts: Vec<u8> = serde_json::from_value(case["parts"].clone()).unwrap();
        let grid = Grid::of(any_dtype(case["dtype"].as_str().unwrap()), &shape).unwrap();
        assert_eq!(grid.parts(), parts, "{case}");
    }
    assert_eq!(Grid::of(dtype("U8"), &[1 << 32, 1 << 32]), None);
    assert_eq!(Grid::of(dtype("F64"), &[1 << 62]), None);
    assert_eq!(Grid::of(dtype("F4"), &[3]), None);
    assert_eq!(Grid::of(dtype("U8"), &[1; 65]), None);
    assert!(Grid::of(dtype("U8"), &[u64::MAX, u64::MAX, 0]).is_some());
}

#[test]
fn models_have_the_manifests_of_the_vectors() {
    for case in cases()["models"].as_array().unwrap() {
        let model = case["model"].as_str().unwrap();
        let file = |text: &Value| {
            let text = text.as_str().unwrap();
            let bytes = std::fs::read(folder().join(model).join(text)).unwrap();
            let format = Format::of_name(text).unwrap();
            let mut tiles = FileTiles::new(name(text), format, bytes.len() as u64);
            bytes.chunks(1000).for_each(|piece| tiles.update(piece).unwrap());
            tiles.finish().unwrap()
        };
        let files = case["files"].as_array().unwrap().iter().rev().map(file).collect();
        let made = TensorManifest::new(files).unwrap();
        let written = std::fs::read(folder().join(format!("{model}.tensors"))).unwrap();
        assert!(made.to_bytes() == written, "{model}");
        let read = TensorManifest::parse(&written).unwrap();
        assert_eq!(read, made);
        assert_eq!(read.root().to_hex(), case["root"], "{model}");
        assert_eq!(read.digest().as_bytes(), blake3::hash(&written).as_bytes());
        assert_eq!(read.stale_tensors(&made), []);
    }
}

#[test]
fn what_is_no_manifest_is_refused_for_what_is_wrong_with_it() {
    let cases = cases();
    assert!(TensorManifest::parse(&unhex(&cases["good"])).is_ok());
    let refused = cases["refused"].as_array().unwrap();
    assert!(refused.len() > 40);
    for case in refused {
        let fault = TensorManifest::parse(&unhex(&case["manifest"])).unwrap_err();
        let name = format!("{fault:?}");
        let name = name.split([' ', '{', '(']).next().unwrap();
        assert_eq!(name, case["fault"], "{fault}");
        assert!(fault.to_string().lines().count() == 1 && fault.to_string().len() < 500, "{fault}");
    }
}

/// No flip goes unseen: the manifest is refused, or says something else. And it says so in one encoding.
#[test]
fn a_flipped_bit_is_refused_or_seen() {
    for model in ["sharded", "gguf"] {
        let bytes = std::fs::read(folder().join(format!("{model}.tensors"))).unwrap();
        let whole = TensorManifest::parse(&bytes).unwrap();
        let mut accepted = 0;
        for at in 0..bytes.len() {
            // All bits of the smaller one, one of each byte of the other: which one makes no difference to a digest.
            for bit in if model == "gguf" { 0..8 } else { at as u32 % 8..at as u32 % 8 + 1 } {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                if let Ok(other) = TensorManifest::parse(&flipped) {
                    accepted += 1;
                    assert!(other.to_bytes() == flipped, "byte {at}");
                    assert!((other.files(), other.tensors()) != (whole.files(), whole.tensors()), "byte {at}");
                    assert_ne!(other.digest(), whole.digest());
                }
            }
        }
        // What only a signature vouches for: names and lengths of files, digests of headers, places that stay apart.
        assert!(accepted > 0 && accepted < bytes.len(), "{accepted} of {}", bytes.len() * 8);
        for len in 0..bytes.len() {
            assert!(TensorManifest::parse(&bytes[..len]).is_err(), "{len}");
        }
    }
}
