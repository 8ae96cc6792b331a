//! Digests of tiles that lie in the memory of a device, where they lie.

use std::ops::Range;

use super::grid::{Grid, bytes_of};
use super::slice::SliceError;
use super::{ManifestFault, TileDigest};
use crate::device::{Backend, DeviceError, Hashed, Job, Want};
use crate::digest::Algorithm;
use crate::format::Dtype;
use crate::layout::{Buffer, Extent, Layout};

/// Where the elements of a slice lie in a buffer: perhaps as a part of a larger parameter, such as the rows of the queries
/// in a fused QKV, or the slab of one expert among many.
#[derive(Debug)]
pub struct Place<'a, B> {
    buffer: &'a B,
    at: u64,
    strides: Option<Vec<u64>>,
}

impl<B> Clone for Place<'_, B> {
    fn clone(&self) -> Self {
        Self { buffer: self.buffer, at: self.at, strides: self.strides.clone() }
    }
}

impl<'a, B: Buffer> Place<'a, B> {
    /// From byte `at` on, the rows of the slice one right after the other.
    #[must_use]
    pub const fn dense(buffer: &'a B, at: u64) -> Self {
        Self { buffer, at, strides: None }
    }

    /// From byte `at` on, with so many bytes from one index to the next along each dimension but the last, slowest first.
    /// Along the last, elements lie one right after the other: no digest of a file's order can be had of any other.
    #[must_use]
    pub const fn strided(buffer: &'a B, at: u64, strides: Vec<u64>) -> Self {
        Self { buffer, at, strides: Some(strides) }
    }

    /// The layout of the elements `of`, of a slice that consists of the elements `slice` and lies here.
    fn layout(&self, dtype: Dtype, slice: &[Range<u64>], of: &[Range<u64>]) -> Result<Layout<'a, B>, PlaceFault> {
        let sizes: Vec<u64> = slice.iter().map(|range| range.end - range.start).collect();
        let lens: Vec<u64> = of.iter().map(|range| range.end - range.start).collect();
        let bytes = bytes_of(dtype, &lens).ok_or(PlaceFault::Count)?;
        let whole = |at, len| Layout::new(vec![Extent::Range { buffer: self.buffer, at, len }]);
        if bytes == 0 {
            return whole(self.at, 0).map_err(|_| PlaceFault::Outside);
        }
        if of == slice && self.strides.is_none() {
            return whole(self.at, bytes).map_err(|_| PlaceFault::Outside);
        }
        let outer = slice.len().saturating_sub(1);
        let strides = match &self.strides {
            Some(strides) if strides.len() == outer => strides.clone(),
            Some(strides) => return Err(PlaceFault::Strides { expected: outer, found: strides.len() }),
            None => dense(dtype, &sizes).ok_or(PlaceFault::Count)?,
        };
        let along = |from: u64, to: u64| dtype.bytes_of(to - from).ok_or(PlaceFault::Count);
        // What is the slice's first element along each dimension lies at `at`.
        let (mut at, mut row) = (self.at, 0);
        if let (Some(slice), Some(of)) = (slice.last(), of.last()) {
            at = at.checked_add(along(slice.start, of.start)?).ok_or(PlaceFault::Count)?;
            row = along(of.start, of.end)?;
        } else {
            row += bytes;
        }
        // Of the slice, not of the tile alone: two tiles may not share a byte either.
        let slice_row = sizes.last().map_or(Some(bytes), |&last| dtype.bytes_of(last)).ok_or(PlaceFault::Count)?;
        let repeated = |&(len, _): &(u64, u64)| len > 1;
        apart(slice_row, sizes.iter().copied().zip(strides.iter().copied()).filter(repeated).collect())?;
        let mut dimensions = Vec::with_capacity(outer);
        for (index, &stride) in strides.iter().enumerate() {
            let skipped = (of[index].start - slice[index].start).checked_mul(stride);
            at = skipped.and_then(|skipped| at.checked_add(skipped)).ok_or(PlaceFault::Count)?;
            if lens[index] > 1 {
                dimensions.push((lens[index], stride));
            }
        }
        self.extents(at, row, dimensions).and_then(|extents| Layout::new(extents).map_err(|_| PlaceFault::Outside))
    }

    /// Rows of `row` bytes, the first at `at`, repeated along `dimensions` (how often, how far apart), slowest first.
    fn extents(&self, at: u64, row: u64, mut dimensions: Vec<(u64, u64)>) -> Result<Vec<Extent<'a, B>>, PlaceFault> {
        let buffer = self.buffer;
        // The last byte of all: it is in the buffer, so neither is any number below too large, nor are there more
        // extents than the buffer has bytes.
        let last = dimensions.iter().try_fold(at.checked_add(row), |end, &(count, stride)| {
            Some(end?.checked_add(stride.checked_mul(count - 1)?))
        });
        if last.flatten().is_none_or(|end| end > buffer.size()) {
            return Err(PlaceFault::Outside);
        }
        // Whatever lies right after the other is one piece.
        let mut row = row;
        while let Some((count, _)) = dimensions.pop_if(|&mut (_, stride)| stride == row) {
            row *= count;
        }
        let Some((rows, stride)) = dimensions.pop() else {
            return Ok(vec![Extent::Range { buffer, at, len: row }]);
        };
        let mut starts = vec![at];
        for (count, stride) in dimensions {
            starts = starts.iter().flat_map(|start| (0..count).map(move |index| start + index * stride)).collect();
        }
        Ok(starts.into_iter().map(|at| Extent::Rows { buffer, at, row, stride, rows }).collect())
    }
}

/// The strides of a slice of these sizes without gaps.
fn dense(dtype: Dtype, sizes: &[u64]) -> Option<Vec<u64>> {
    let (last, outer) = sizes.split_last()?;
    let mut stride = dtype.bytes_of(*last)?;
    let mut strides = Vec::with_capacity(outer.len());
    for size in outer.iter().rev() {
        strides.push(stride);
        stride = stride.checked_mul(*size)?;
    }
    strides.reverse();
    Some(strides)
}

/// No byte may be two elements: that is no memory of a tensor, and a digest of it would read one byte any number of times.
fn apart(row: u64, mut by_stride: Vec<(u64, u64)>) -> Result<(), PlaceFault> {
    by_stride.sort_unstable_by_key(|&(_, stride)| stride);
    let mut extent = row;
    for (count, stride) in by_stride {
        if stride < extent {
            return Err(PlaceFault::Overlap);
        }
        extent = stride.checked_mul(count - 1).and_then(|end| end.checked_add(extent)).ok_or(PlaceFault::Count)?;
    }
    Ok(())
}

/// What is wrong with where a slice is said to lie.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceFault {
    /// Strides for another number of dimensions.
    #[error("{found} strides were given for it, and it takes {expected}: one for each dimension but the last")]
    Strides {
        /// How many it takes.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// Two elements in one place.
    #[error("with these strides some of its elements lie in the same place")]
    Overlap,
    /// Not in the buffer.
    #[error("it does not lie in its buffer")]
    Outside,
    /// Numbers beyond 2^64, or rows of elements that are no whole bytes.
    #[error("its place is no number of whole bytes")]
    Count,
}

/// A slice of some tensor, in memory.
#[derive(Debug)]
pub struct Piece<'a, B> {
    /// The tensor's type.
    pub dtype: Dtype,
    /// The tensor's shape, not the slice's.
    pub shape: &'a [u64],
    /// The elements of the slice, by dimension: whole tiles.
    pub ranges: Vec<Range<u64>>,
    /// Where they lie.
    pub place: Place<'a, B>,
}

/// The digests of the tiles of slices in device memory, each with its number among the tiles of its tensor: all in one
/// submit, behind the work in `after`. A rank that holds a slice of a tensor computes its part of the tensor's digest so.
///
/// What comes out says that these bytes had these digests when they were read: see [`crate::resident::Measured`].
///
/// # Errors
/// [`SliceError`] if a slice is no whole tiles of its tensor, does not lie in its buffer, or the device fails; nothing
/// comes out then, of any slice.
pub fn tile_digests<B: Backend>(
    backend: &B,
    pieces: &[Piece<'_, B::Buffer>],
    after: Option<&B::Stream>,
) -> Result<Vec<Vec<(usize, TileDigest)>>, SliceError> {
    let mut asked = Vec::with_capacity(pieces.len());
    for (index, piece) in pieces.iter().enumerate() {
        let name = format!("number {index}");
        let grid = Grid::of(piece.dtype, piece.shape)
            .ok_or_else(|| ManifestFault::Shape { tensor: name.clone(), why: super::wire::UNCOUNTED })?;
        let tiles = whole_tiles(&name, piece.shape, &grid, &piece.ranges)?;
        asked.push(Asked { name, dtype: piece.dtype, grid, tiles, ranges: &piece.ranges, place: &piece.place });
    }
    digests(backend, &asked, after)
}

/// Tiles of one slice, checked but for where they lie.
pub(super) struct Asked<'a, 'b, B> {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) grid: Grid,
    pub(super) tiles: Vec<usize>,
    pub(super) ranges: &'a [Range<u64>],
    pub(super) place: &'a Place<'b, B>,
}

/// The tiles of a slice.
pub(super) fn whole_tiles(
    tensor: &str,
    shape: &[u64],
    grid: &Grid,
    ranges: &[Range<u64>],
) -> Result<Vec<usize>, SliceError> {
    let tensor = || tensor.to_owned();
    if ranges.len() != shape.len() {
        return Err(SliceError::Dimensions { tensor: tensor(), expected: shape.len(), found: ranges.len() });
    }
    for (dimension, (range, &size)) in ranges.iter().zip(shape).enumerate() {
        if range.end > size || range.start > range.end || (range.is_empty() && size > 0) {
            return Err(SliceError::Range { tensor: tensor(), dimension, range: range.clone(), size });
        }
    }
    grid.tiles_of(ranges).map_err(|dimension| {
        let (range, size) = (ranges[dimension].clone(), shape[dimension]);
        SliceError::not_tiles(tensor(), dimension, range, size, grid.steps()[dimension])
    })
}

/// The digests of all tiles asked for, in one submit.
pub(super) fn digests<B: Backend>(
    backend: &B,
    asked: &[Asked<'_, '_, B::Buffer>],
    after: Option<&B::Stream>,
) -> Result<Vec<Vec<(usize, TileDigest)>>, SliceError> {
    let mut jobs = Vec::with_capacity(asked.iter().map(|one| one.tiles.len()).sum());
    for one in asked {
        for &tile in &one.tiles {
            let layout = one.place.layout(one.dtype, one.ranges, &one.grid.ranges(tile));
            let layout = layout.map_err(|fault| SliceError::Place { tensor: one.name.clone(), fault })?;
            jobs.push(Job { layout, want: Want::Root });
        }
    }
    let hashed = backend.wait(backend.submit(&jobs, after)?)?;
    let none = || DeviceError::NoResult { device: backend.kind() };
    if hashed.len() != jobs.len() {
        return Err(none().into());
    }
    let mut results = hashed.into_iter().map(|hashed| match hashed {
        Hashed::Root(digest) if digest.algorithm() == Algorithm::Blake3 => {
            digest.as_bytes().first_chunk().copied().ok_or_else(none)
        }
        _ => Err(none()),
    });
    let of = |one: &Asked<'_, '_, _>| {
        let digest = |&tile| Ok((tile, results.next().ok_or_else(none)??));
        one.tiles.iter().map(digest).collect::<Result<Vec<_>, DeviceError>>()
    };
    Ok(asked.iter().map(of).collect::<Result<Vec<_>, _>>()?)
}
