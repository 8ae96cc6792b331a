//! The tensor manifest: digests of tensors and of tiles of them, so that whoever holds a slice can check it.
//!
//! A digest of a file says nothing to a rank that holds an eighth of each of its tensors. Here every tensor is cut into
//! *tiles* by a [`Grid`] that follows from its type and shape alone, and each tile has a digest of its own: any slice of
//! whole tiles can be checked where it lies, whoever cut it, whatever the parallelism was when the model was signed.
//!
//! A [`TensorManifest`] is made from what [`FileTiles`] gathers while files are hashed, and written in one canonical way
//! (docs/tensor-manifest.md, from which it can be written again by strangers). It is worth what vouches for it: only
//! `src/verify/` makes a `Verified<TensorManifest>`, and [`verify_slices`] takes no other.

mod compare;
mod coverage;
mod derive;
mod fault;
mod grid;
mod memory;
mod slice;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

use std::ops::Range;

pub use compare::{Stale, StaleTensors};
pub use coverage::{Coverage, CoverageReport, Gaps};
pub use derive::{MODEL_CONTEXT, TENSOR_CONTEXT, tensor_root};
pub use fault::{ManifestFault, TensorRefusal};
pub use grid::{Grid, MAX_DIMS, MAX_TILES, bytes_of};
pub use memory::{Piece, Place, PlaceFault, tile_digests};
pub use slice::{
    MeasuredSlice, Slice, SliceError, TileDifference, TileDifferences, expect, verify_slice, verify_slices,
};
pub use stream::{FileHeader, FileTensors, FileTiles, TilesFault};
pub use wire::{MAGIC, MAX_FILES, MAX_LEN, MAX_TENSORS};

use crate::digest::{Algorithm, Digest};
use crate::format::{Dtype, Format};
use crate::manifest::ResourceName;

/// The name that the manifest of a model's tensors has at its root.
pub const FILE_NAME: &str = "tensorseal.tensors";

/// The version of format, grids and derivation.
pub const VERSION: u32 = 1;

/// The BLAKE3 digest of a tile's bytes.
pub type TileDigest = [u8; 32];

/// A file that holds tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name in the model.
    pub name: ResourceName,
    /// Its format.
    pub format: Format,
    /// Bytes in it.
    pub len: u64,
    /// Bytes before its tensors' data.
    pub header_len: u64,
    /// The BLAKE3 digest of those.
    pub header: Digest,
}

/// A tensor of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorRecord {
    name: Box<str>,
    file: u32,
    dtype: Dtype,
    shape: Box<[u64]>,
    range: Range<u64>,
    grid: Grid,
    tiles: Box<[TileDigest]>,
    root: Digest,
}

impl TensorRecord {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of its elements.
    #[must_use]
    pub const fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its dimensions, the slowest first.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Its bytes in its file.
    #[must_use]
    pub const fn range(&self) -> &Range<u64> {
        &self.range
    }

    /// How it is cut into tiles.
    #[must_use]
    pub const fn grid(&self) -> &Grid {
        &self.grid
    }

    /// The digests of its tiles, in order.
    #[must_use]
    pub fn tiles(&self) -> &[TileDigest] {
        &self.tiles
    }

    /// Its digest: see [`tensor_root`].
    #[must_use]
    pub const fn root(&self) -> Digest {
        self.root
    }

    /// From the first byte of a tile in the file to the one behind its last. What is between belongs to other tiles, too,
    /// unless the tile has whole rows.
    #[must_use]
    pub fn tile_range(&self, tile: usize) -> Range<u64> {
        // Of a tensor without bytes the other dimensions may be of any size.
        if self.range.is_empty() || self.tiles.len() == 1 {
            return self.range.clone();
        }
        let ranges = self.grid.ranges(tile);
        // Nothing here can overflow: the tensor's bytes are a number, and places in it are less.
        let (mut first, mut last) = (0, 0);
        for (range, &size) in ranges.iter().zip(&self.shape) {
            first = first * size + range.start;
            last = last * size + range.end.saturating_sub(1);
        }
        let block = |element: u64| element / self.dtype.block_elements() * self.dtype.block_bytes();
        self.range.start + block(first)..self.range.start + block(last) + self.dtype.block_bytes()
    }
}

/// The tensors of a model: which there are, where they lie in which files, and the digests of their tiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorManifest {
    files: Vec<SourceFile>,
    tensors: Vec<TensorRecord>,
    digest: Digest,
}

impl TensorManifest {
    /// The manifest of files, in any order.
    ///
    /// # Errors
    /// [`ManifestFault`] if two files have one name, two tensors have, there is none, or there are more than a manifest
    /// may have.
    pub fn new(mut files: Vec<FileTensors>) -> Result<Self, ManifestFault> {
        files.sort_by(|a, b| a.file.name.cmp(&b.file.name));
        let mut sources = Vec::with_capacity(files.len());
        let mut tensors = Vec::with_capacity(files.iter().map(|file| file.tensors.len()).sum());
        for (index, file) in (0..).zip(files) {
            sources.push(file.file);
            tensors.extend(file.tensors.into_iter().map(|tensor| TensorRecord { file: index, ..tensor }));
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let mut made = Self { files: sources, tensors, digest: blake3_of(&[]) };
        made.check()?;
        made.digest = blake3_of(&made.to_bytes());
        Ok(made)
    }

    /// The files, sorted by name.
    #[must_use]
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// The tensors, sorted by name.
    #[must_use]
    pub fn tensors(&self) -> &[TensorRecord] {
        &self.tensors
    }

    /// The tensor of this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorRecord> {
        self.index(name).map(|index| &self.tensors[index])
    }

    /// The file that a tensor of this manifest lies in.
    #[must_use]
    pub fn file_of(&self, tensor: &TensorRecord) -> Option<&SourceFile> {
        self.files.get(tensor.file as usize)
    }

    /// One digest of all tensors, whichever files they lie in: of the digests of the tensors, in the order of their names.
    #[must_use]
    pub fn root(&self) -> Digest {
        derive::model_root(self.tensors.iter().map(|tensor| &tensor.root))
    }

    /// The BLAKE3 digest of [`TensorManifest::to_bytes`].
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.tensors.binary_search_by(|tensor| (*tensor.name).cmp(name)).ok()
    }
}

fn blake3_of(bytes: &[u8]) -> Digest {
    Digest::of32(Algorithm::Blake3, *blake3::hash(bytes).as_bytes())
}
