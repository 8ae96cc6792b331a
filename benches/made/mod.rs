//! What the benches measure, made the same way each time: names like those of models, bytes from a seed, nothing random.
//!
//! Where a thing can be written without our own code it is, so that what reads it is compared with somebody else.
#![allow(dead_code, reason = "each bench uses a part of this")]

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use tensorseal::digest::{Algorithm, Digest};
use tensorseal::envelope::pae;
use tensorseal::format::Format;
use tensorseal::key::{PasswordError, PrivateKey};
use tensorseal::manifest::{Manifest, Method, Resource, ResourceName, Serialization, ShardNaming};
use tensorseal::tensors::{FileTiles, TensorManifest};

/// A key that signs nothing of value.
const KEY: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIMmJ71K9slZyR9PZnSBq1rNTxbYLACLfpqYBGKSLODhsoAoGCCqGSM49
AwEHoUQDQgAE1covp2uLeBNbOtHldMGvKwlwKUFlT28Iwrd93d71HCDihK3qeq7k
NgI9TCi4S/rdjeDi16Ngu5RUXrjU1BvqVg==
-----END EC PRIVATE KEY-----
";

/// The key, on P-256.
pub(crate) fn key() -> PrivateKey {
    PrivateKey::from_pem(KEY.as_bytes(), &mut || Err(PasswordError::NotGiven)).unwrap()
}

/// `len` bytes that look random and are the same each time.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// 32 bytes of that, as what they are taken for does not depend on what they are.
pub(crate) fn value(seed: u64) -> [u8; 32] {
    noise(seed, 32).try_into().unwrap()
}

fn hex(seed: u64) -> String {
    value(seed).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of file `index` of a model: twenty files to a folder.
pub(crate) fn file_name(index: usize) -> String {
    format!("experts/{:04}/weights-{index:05}.bin", index / 20)
}

/// A model of so many files as it was hashed: by SHA-256, with BLAKE3 and size beside it.
pub(crate) fn manifest(files: usize) -> Manifest {
    let resource = |index: usize| Resource {
        name: ResourceName::parse(&file_name(index)).unwrap(),
        digest: Digest::from_hex(Algorithm::Sha256, &hex(2 * index as u64)).unwrap(),
        blake3: Digest::from_hex(Algorithm::Blake3, &hex(2 * index as u64 + 1)),
        size: Some(index as u64 * 4099),
        tensors: None,
    };
    let serialization = Serialization {
        method: Method::Files,
        hash: Algorithm::Sha256,
        shard_naming: ShardNaming::default(),
        allow_symlinks: false,
        ignore_paths: Some(vec![".git".to_owned(), "model.sig".to_owned()]),
    };
    Manifest::new("made".to_owned(), serialization, (0..files).map(resource).collect()).unwrap()
}

/// The text of a bundle with that statement, signed with [`key`], written without our own code for bundles.
pub(crate) fn bundle(statement: &[u8]) -> Vec<u8> {
    let signature = key().sign(&pae(statement)).unwrap();
    let bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": key().public_key().hint()}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": BASE64_STANDARD.encode(statement),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": BASE64_STANDARD.encode(signature)}],
        },
    });
    serde_json::to_vec(&bundle).unwrap()
}

/// The name of a tensor, as in models with experts.
pub(crate) fn tensor_name(index: usize) -> String {
    format!("model.layers.{}.mlp.experts.{}.gate_proj.weight", index / 64, index % 64)
}

/// The header of a file of so many tensors of `rows` times 64 elements of two bytes, and how many bytes the file has.
pub(crate) fn safetensors(tensors: usize, rows: usize) -> (Vec<u8>, u64) {
    let bytes = rows * 64 * 2;
    let tensor = |index: usize| {
        let (name, at) = (tensor_name(index), index * bytes);
        format!(r#""{name}":{{"dtype":"BF16","shape":[{rows},64],"data_offsets":[{at},{}]}}"#, at + bytes)
    };
    let list: Vec<String> = (0..tensors).map(tensor).collect();
    let mut text = format!(r#"{{"__metadata__":{{"format":"pt"}},{}}}"#, list.join(","));
    while text.len() % 8 != 0 {
        text.push(' ');
    }
    let head = [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let len = (head.len() + tensors * bytes) as u64;
    (head, len)
}

/// The same as a GGUF file of 32-bit elements, with a vocabulary of 1,000 words.
pub(crate) fn gguf(tensors: usize, rows: usize) -> (Vec<u8>, u64) {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut head = [b"GGUF".as_slice(), &3_u32.to_le_bytes()].concat();
    head.extend([tensors as u64, 2].map(u64::to_le_bytes).concat());
    head.extend([text("general.architecture"), 8_u32.to_le_bytes().to_vec(), text("llama")].concat());
    head.extend([text("tokenizer.ggml.tokens"), 9_u32.to_le_bytes().to_vec(), 8_u32.to_le_bytes().to_vec()].concat());
    head.extend(1000_u64.to_le_bytes());
    (0..1000).for_each(|word| head.extend(text(&format!("word{word}"))));
    for index in 0..tensors {
        head.extend(text(&tensor_name(index)));
        head.extend(2_u32.to_le_bytes());
        head.extend([64, rows as u64].map(u64::to_le_bytes).concat());
        head.extend(0_u32.to_le_bytes());
        head.extend(((index * rows * 64 * 4) as u64).to_le_bytes());
    }
    head.resize(head.len().next_multiple_of(32), 0);
    let len = (head.len() + tensors * rows * 64 * 4) as u64;
    (head, len)
}

/// The tensor manifest of a safetensors file of so many tensors.
pub(crate) fn tensor_manifest(tensors: usize) -> TensorManifest {
    let (head, len) = safetensors(tensors, 1);
    let name = ResourceName::parse("model.safetensors").unwrap();
    let mut tiles = FileTiles::new(name, Format::Safetensors, len);
    tiles.update(&head).unwrap();
    tiles.update(&noise(7, len as usize - head.len())).unwrap();
    TensorManifest::new(vec![tiles.finish().unwrap()]).unwrap()
}

/// Writes a model of so many files of `len` bytes each below `folder`.
///
/// In no order that a file system could give back sorted: one that lists files as they were made would save whoever sorts them work.
pub(crate) fn files(folder: &Path, files: usize, len: usize) {
    (0..files.div_ceil(20)).for_each(|sub| fs::create_dir_all(folder.join(format!("experts/{sub:04}"))).unwrap());
    let mut order: Vec<usize> = (0..files).collect();
    order.sort_by_key(|&index| value(index as u64));
    for index in order {
        fs::write(folder.join(file_name(index)), noise(index as u64, len)).unwrap();
    }
}
