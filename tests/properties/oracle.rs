//! What the product computes, computed without it.

use std::num::NonZeroU64;

use sha2::Digest as _;
use tensorseal::Algorithm;

pub(crate) fn one_shot(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
    match algorithm {
        Algorithm::Sha256 => sha2::Sha256::digest(bytes).to_vec(),
        Algorithm::Blake2b => blake2::Blake2b512::digest(bytes).to_vec(),
        _ => blake3::hash(bytes).as_bytes().to_vec(),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As many bytes as wanted, the same for the same seed.
pub(crate) fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// `start..end` of each shard, or of the whole.
pub(crate) fn cut(len: u64, shard: Option<NonZeroU64>) -> Vec<(u64, u64)> {
    let Some(size) = shard.map(NonZeroU64::get) else { return vec![(0, len)] };
    (0..len.div_ceil(size)).map(|i| (i * size, len.min((i + 1) * size))).collect()
}
