//! From the digests of tiles to the digest of a tensor, and from those to one of all tensors: BLAKE3 in its mode for
//! deriving keys, whose context says what is derived, over fields that each begin with their length.

use super::grid::Grid;
use super::{TileDigest, VERSION};
use crate::digest::{Algorithm, Digest};
use crate::format::Dtype;

/// The context of a tensor's digest.
pub const TENSOR_CONTEXT: &str = "tensorseal 2026-11-22 tensor manifest v1: digest of a tensor";

/// The context of the digest of all tensors.
pub const MODEL_CONTEXT: &str = "tensorseal 2026-11-22 tensor manifest v1: digest of all tensors";

/// Fields, each after its length as 8 bytes, little endian.
struct Fields(blake3::Hasher);

impl Fields {
    fn new(context: &str) -> Self {
        Self(blake3::Hasher::new_derive_key(context)).field(&VERSION.to_le_bytes())
    }

    fn field(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        self
    }

    fn digest(&self) -> Digest {
        Digest::of32(Algorithm::Blake3, *self.0.finalize().as_bytes())
    }
}

/// The digest of a tensor: of its name, type, shape and grid, and of the digests of its tiles in order.
///
/// `None` if there is no [`Grid`] for that type and shape, or it has another number of tiles.
#[must_use]
pub fn tensor_root(name: &str, dtype: Dtype, shape: &[u64], tiles: &[TileDigest]) -> Option<Digest> {
    let grid = Grid::of(dtype, shape).filter(|grid| grid.tiles() == tiles.len())?;
    Some(root_of(name, dtype, shape, &grid, tiles))
}

pub(super) fn root_of(name: &str, dtype: Dtype, shape: &[u64], grid: &Grid, tiles: &[TileDigest]) -> Digest {
    let sizes: Vec<u8> = shape.iter().flat_map(|size| size.to_le_bytes()).collect();
    Fields::new(TENSOR_CONTEXT)
        .field(name.as_bytes())
        .field(dtype.name().as_bytes())
        .field(&sizes)
        .field(grid.parts())
        .field(tiles.as_flattened())
        .digest()
}

/// The digest of tensors' digests, which are in the order of the tensors' names.
pub(super) fn model_root<'a>(roots: impl Iterator<Item = &'a Digest>) -> Digest {
    let all: Vec<u8> = roots.flat_map(|root| root.as_bytes()).copied().collect();
    Fields::new(MODEL_CONTEXT).field(&all).digest()
}
