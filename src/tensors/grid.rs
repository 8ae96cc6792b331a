//! How a tensor is cut into tiles: equal parts along each dimension, so that a slice of whole parts can be checked.

use std::ops::Range;

use crate::format::Dtype;

/// Dimensions of a tensor at most, as many as torch allows.
pub const MAX_DIMS: usize = 64;

/// Tiles of a tensor at most: 8 along each of three dimensions.
pub const MAX_TILES: u64 = 512;

/// Parts along a dimension at most, as a logarithm.
const MOST_PARTS: u32 = 3;

/// From this many bytes on, a tile has at least [`LEAST_TILE`].
const LARGE: u64 = 16 << 20;

/// With it, the digests of a large tensor take at most 32 bytes in 65,536: 0.0488%.
const LEAST_TILE: u64 = 64 << 10;

/// Bytes of a tensor, which has to be whole bytes. `None` if that is no number.
#[must_use]
pub fn bytes_of(dtype: Dtype, shape: &[u64]) -> Option<u64> {
    if shape.contains(&0) {
        return Some(0);
    }
    let elements = shape.iter().try_fold(1_u64, |product, &size| product.checked_mul(size))?;
    dtype.bytes_of(elements)
}

/// The tiles of a tensor: into how many parts each dimension is cut, and how many elements each part has.
///
/// Tiles are numbered in C order, the last dimension fastest. The bytes of a tile are those of its elements in the
/// tensor's own order: rows ascending, of each row the part that is the tile's, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    parts: Box<[u8]>,
    steps: Box<[u64]>,
}

impl Grid {
    /// The grid of every tensor of this type and shape; nothing else decides it.
    ///
    /// Along each dimension the largest power of two up to 8 that divides it, counted in the type's blocks along the last;
    /// for a tensor of more than 16 MiB, then halved until a tile has 64 KiB on average, and for any tensor until there are
    /// at most 512 tiles: each time the largest number of parts, the first of those that are equal. A tensor without
    /// elements, and one whose rows are no whole blocks, is one tile.
    ///
    /// `None` if the tensor's bytes are no number, or it has more than 64 dimensions.
    #[must_use]
    pub fn of(dtype: Dtype, shape: &[u64]) -> Option<Self> {
        let bytes = bytes_of(dtype, shape).filter(|_| shape.len() <= MAX_DIMS)?;
        let mut logs = vec![0_u32; shape.len()];
        let block = dtype.block_elements();
        if bytes > 0 && shape.last().is_none_or(|row| row.is_multiple_of(block)) {
            for (index, (log, &size)) in logs.iter_mut().zip(shape).enumerate() {
                let units = if index + 1 == shape.len() { size / block } else { size };
                *log = units.trailing_zeros().min(MOST_PARTS);
            }
            let most = if bytes > LARGE { (bytes / LEAST_TILE).min(MAX_TILES) } else { MAX_TILES };
            // As logarithms, since 64 dimensions of 8 parts are no number.
            while logs.iter().sum::<u32>() > most.ilog2() {
                let largest = logs.iter().copied().max()?;
                let first = logs.iter_mut().find(|log| **log == largest)?;
                *first -= 1;
            }
        }
        let parts: Box<[u8]> = logs.iter().map(|&log| 1 << log).collect();
        let steps = shape.iter().zip(&parts).map(|(&size, &parts)| size / u64::from(parts)).collect();
        Some(Self { parts, steps })
    }

    /// Parts along each dimension.
    #[must_use]
    pub fn parts(&self) -> &[u8] {
        &self.parts
    }

    /// Elements in each part, by dimension.
    #[must_use]
    pub fn steps(&self) -> &[u64] {
        &self.steps
    }

    /// How many tiles there are, at least one.
    #[must_use]
    pub fn tiles(&self) -> usize {
        self.parts.iter().map(|&parts| usize::from(parts)).product()
    }

    /// The elements of a tile, by dimension.
    #[must_use]
    pub fn ranges(&self, tile: usize) -> Vec<Range<u64>> {
        let mut left = tile;
        let mut ranges: Vec<_> = self
            .parts
            .iter()
            .zip(&self.steps)
            .rev()
            .map(|(&parts, &step)| {
                let part = (left % usize::from(parts)) as u64;
                left /= usize::from(parts);
                part * step..(part + 1) * step
            })
            .collect();
        ranges.reverse();
        ranges
    }

    /// The tiles that a slice consists of, in order.
    ///
    /// # Errors
    /// The first dimension along which the slice is not whole parts, and at least one. The slice has to lie in the tensor
    /// and to have as many dimensions.
    pub(super) fn tiles_of(&self, slice: &[Range<u64>]) -> Result<Vec<usize>, usize> {
        let mut tiles = vec![0];
        for (dimension, (range, (&parts, &step))) in slice.iter().zip(self.parts.iter().zip(&self.steps)).enumerate() {
            let parts = usize::from(parts);
            let of = if step == 0 {
                // No elements along it: one part, which is empty.
                0..1
            } else if range.start < range.end && range.start.is_multiple_of(step) && range.end.is_multiple_of(step) {
                (range.start / step) as usize..(range.end / step) as usize
            } else {
                return Err(dimension);
            };
            tiles = tiles.iter().flat_map(|tile| of.clone().map(move |part| tile * parts + part)).collect();
        }
        Ok(tiles)
    }
}
