//! Slices of signed tensors in device memory, checked where they lie.

use std::fmt;
use std::ops::Range;
use std::time::SystemTime;

use super::compare::MOST_TILES;
use super::memory::{Asked, Place, PlaceFault, digests, whole_tiles};
use super::{ManifestFault, TensorManifest, TensorRefusal, TileDigest};
use crate::device::{Backend, DeviceError, DeviceKind};
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, VerifyError, quoted};
use crate::format::Dtype;
use crate::manifest::ResourceName;
use crate::verify::Verified;

/// A slice of a tensor of a manifest, in the memory of a device.
#[derive(Debug)]
pub struct Slice<'a, B> {
    /// The tensor's name in the manifest, whatever the parameter is called where it lies.
    pub tensor: &'a str,
    /// Its elements, by dimension. Whoever holds all of the tensor names all: see [`Slice::whole`].
    pub ranges: Vec<Range<u64>>,
    /// Where they lie.
    pub place: Place<'a, B>,
}

impl<'a, B> Slice<'a, B> {
    /// All of a tensor; `None` if the manifest has none of that name.
    #[must_use]
    pub fn whole(manifest: &TensorManifest, tensor: &'a str, place: Place<'a, B>) -> Option<Self> {
        let ranges = manifest.tensor(tensor)?.shape().iter().map(|&size| 0..size).collect();
        Some(Self { tensor, ranges, place })
    }
}

/// Why slices could not be checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SliceError {
    /// Nothing to check is never a yes.
    #[error("no slice was named, so nothing was checked")]
    Nothing,
    /// Ranges for another number of dimensions.
    #[error(
        "the slice of {} has {found} ranges, and the tensor has {expected} dimensions: give one range for each",
        quoted(.tensor)
    )]
    Dimensions {
        /// The tensor.
        tensor: String,
        /// Its dimensions.
        expected: usize,
        /// Ranges given.
        found: usize,
    },
    /// A range that is empty, backwards, or leaves the tensor.
    #[error(
        "the slice of {} has the range {}..{} along dimension {dimension}, which has {size} elements: \
         give one that is in it and not empty",
        quoted(.tensor), .range.start, .range.end
    )]
    Range {
        /// The tensor.
        tensor: String,
        /// Which dimension, from 0.
        dimension: usize,
        /// The range.
        range: Range<u64>,
        /// Elements along that dimension.
        size: u64,
    },
    /// A slice that cuts a tile. Nothing signed is about a part of one.
    #[error(
        "the slice of {} has the range {}..{} along dimension {dimension}, where tiles end at multiples of {step} only: \
         {}..{} can be checked. Its own ends would take a grid of {parts} parts along that dimension",
        quoted(.tensor), .range.start, .range.end, .nearest.start, .nearest.end
    )]
    NotTiles {
        /// The tensor.
        tensor: String,
        /// Which dimension, from 0.
        dimension: usize,
        /// The range.
        range: Range<u64>,
        /// Tiles end at multiples of so many elements.
        step: u64,
        /// The smallest range of whole tiles around it.
        nearest: Range<u64>,
        /// Into how many equal parts the dimension would have to be cut, at least.
        parts: u64,
    },
    /// Where it is said to lie cannot be.
    #[error("the slice of {} cannot be read: {fault}", quoted(.tensor))]
    Place {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        fault: PlaceFault,
    },
    /// A type and shape of which there is no grid.
    #[error(transparent)]
    Shape(#[from] ManifestFault),
    /// A result of another manifest.
    #[error("what was checked of {} belongs to another manifest than the one that is to be covered", quoted(.tensor))]
    OtherManifest {
        /// The tensor.
        tensor: String,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl SliceError {
    pub(super) fn not_tiles(tensor: String, dimension: usize, range: Range<u64>, size: u64, step: u64) -> Self {
        let gcd = |mut a: u64, mut b: u64| {
            while b > 0 {
                (a, b) = (b, a % b);
            }
            a
        };
        let parts = size / gcd(size, gcd(range.start, range.end)).max(1);
        let nearest = range.start / step * step..range.end.div_ceil(step) * step;
        Self::NotTiles { tensor, dimension, range, step, nearest, parts }
    }
}

/// What was found of one slice: when it was read, each of its tiles had the signed digest.
///
/// It is no `Verified`: the memory is the caller's, who can write to it afterwards, and whose word it is that this memory
/// is what the model computes with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredSlice {
    pub(super) manifest: Digest,
    pub(super) tensor: usize,
    pub(super) name: String,
    pub(super) ranges: Vec<Range<u64>>,
    pub(super) tiles: Vec<usize>,
    pub(super) bytes: u64,
    pub(super) at: SystemTime,
    pub(super) device: DeviceKind,
}

impl MeasuredSlice {
    /// Of which tensor.
    #[must_use]
    pub fn tensor(&self) -> &str {
        &self.name
    }

    /// Which elements, by dimension.
    #[must_use]
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Which of the tensor's tiles.
    #[must_use]
    pub fn tiles(&self) -> &[usize] {
        &self.tiles
    }

    /// Bytes that were read.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the device had read them; it began to when it was asked.
    #[must_use]
    pub const fn at(&self) -> SystemTime {
        self.at
    }

    /// Which device.
    #[must_use]
    pub const fn device(&self) -> &DeviceKind {
        &self.device
    }
}

/// A tile that is not as signed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TileDifference {
    /// The tensor.
    pub tensor: String,
    /// The tile's number, and how many the tensor has.
    pub tile: (usize, usize),
    /// Its elements, by dimension: of a matrix, rows and columns.
    pub ranges: Vec<Range<u64>>,
    /// The file that the tensor lies in.
    pub file: ResourceName,
    /// From the tile's first byte in that file to the one behind its last.
    pub bytes: Range<u64>,
    /// The digest in the manifest.
    pub expected: Digest,
    /// The digest of the bytes found.
    pub found: Digest,
}

impl TileDifference {
    /// The difference in a tile of the tensor `of`, an index into the manifest.
    pub(super) fn new(manifest: &TensorManifest, of: usize, tile: usize, found: &TileDigest) -> Option<Self> {
        let tensor = manifest.tensors.get(of)?;
        let expected = tensor.tiles.get(tile)?;
        let digest = |bytes| Digest::of32(Algorithm::Blake3, bytes);
        (expected != found).then(|| Self {
            tensor: tensor.name.to_string(),
            tile: (tile, tensor.tiles.len()),
            ranges: tensor.grid.ranges(tile),
            file: manifest.files[tensor.file as usize].name.clone(),
            bytes: tensor.tile_range(tile),
            expected: digest(*expected),
            found: digest(*found),
        })
    }
}

impl fmt::Display for TileDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", quoted(&self.tensor))?;
        match &self.ranges[..] {
            [] => {}
            [row] => write!(f, " elements {}..{}", row.start, row.end)?,
            [first @ .., rows, columns] => {
                for range in first {
                    write!(f, " [{}..{}]", range.start, range.end)?;
                }
                let (rows, columns) = (rows.clone(), columns.clone());
                write!(f, " rows {}..{}, columns {}..{}", rows.start, rows.end, columns.start, columns.end)?;
            }
        }
        let (tile, of) = self.tile;
        let (file, bytes) = (quoted(self.file.as_str()), self.bytes.clone());
        write!(f, " (tile {tile} of {of}, within bytes {}..{} of {file})", bytes.start, bytes.end)
    }
}

/// Tiles that are not as signed, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TileDifferences {
    /// The first thousand of them, in the order in which they were asked for.
    pub first: Vec<TileDifference>,
    /// How many there are.
    pub count: usize,
}

impl fmt::Display for TileDifferences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A message is no place for 200,000 tiles.
        const NAMED: usize = 5;
        let named: Vec<String> = self.first.iter().take(NAMED).map(ToString::to_string).collect();
        let more = if self.count > NAMED { "; .." } else { "" };
        let (are, count) = (if self.count == 1 { "tile is" } else { "tiles are" }, self.count);
        write!(f, "{count} {are} not as signed: {}{more}", named.join("; "))
    }
}

/// Checks slices in device memory against a manifest, all in one submit behind the work in `after`. One result each, in
/// order, and only if every tile of every slice is as signed.
///
/// # Errors
/// [`TensorRefusal::Tiles`] names each tile that is not as signed, [`TensorRefusal::UnsignedTensor`] a tensor that the manifest
/// has not; [`Error::Slice`] if a slice cannot be checked: it cuts tiles, leaves its tensor or its buffer, or the device
/// failed, or there is none.
pub fn verify_slices<B: Backend>(
    backend: &B,
    manifest: &Verified<TensorManifest>,
    slices: &[Slice<'_, B::Buffer>],
    after: Option<&B::Stream>,
) -> Result<Vec<MeasuredSlice>, Error> {
    if slices.is_empty() {
        return Err(SliceError::Nothing.into());
    }
    let mut asked = Vec::with_capacity(slices.len());
    let mut indices = Vec::with_capacity(slices.len());
    for slice in slices {
        let unsigned = || refused(TensorRefusal::UnsignedTensor { tensor: slice.tensor.to_owned() });
        let index = manifest.index(slice.tensor).ok_or_else(unsigned)?;
        let tensor = &manifest.tensors[index];
        let tiles = whole_tiles(slice.tensor, &tensor.shape, &tensor.grid, &slice.ranges)?;
        let (name, grid) = (slice.tensor.to_owned(), tensor.grid.clone());
        asked.push(Asked { name, dtype: tensor.dtype, grid, tiles, ranges: &slice.ranges, place: &slice.place });
        indices.push(index);
    }
    let found = digests(backend, &asked, after)?;
    let at = SystemTime::now();
    let tiles = indices.iter().zip(&found).flat_map(|(&index, tiles)| tiles.iter().map(move |tile| (index, tile)));
    let mut differences =
        tiles.filter_map(|(index, (tile, digest))| TileDifference::new(manifest, index, *tile, digest));
    let first: Vec<_> = differences.by_ref().take(MOST_TILES).collect();
    if !first.is_empty() {
        let count = first.len() + differences.count();
        return Err(refused(TensorRefusal::Tiles(TileDifferences { first, count })));
    }
    let (digest, device) = (manifest.digest(), backend.kind());
    let measured = |(asked, tensor): (Asked<'_, '_, _>, usize)| {
        let record = &manifest.tensors[tensor];
        let total = record.range.end - record.range.start;
        MeasuredSlice {
            manifest: digest,
            tensor,
            name: asked.name,
            ranges: asked.ranges.to_vec(),
            bytes: total / record.tiles.len() as u64 * asked.tiles.len() as u64,
            tiles: asked.tiles,
            at,
            device: device.clone(),
        }
    };
    Ok(asked.into_iter().zip(indices).map(measured).collect())
}

/// Whether memory of this type and shape can be those elements of a signed tensor, before any byte of it is looked at. The
/// digests of tiles are of bytes alone, and memory that says of itself what it is can say something else.
///
/// # Errors
/// [`TensorRefusal::UnsignedTensor`], and [`TensorRefusal::OtherTensor`] if it is of another type, or its dimensions are not
/// those of `ranges`.
pub fn expect(
    manifest: &Verified<TensorManifest>,
    tensor: &str,
    ranges: &[Range<u64>],
    dtype: Dtype,
    shape: &[u64],
) -> Result<(), Error> {
    let unsigned = || refused(TensorRefusal::UnsignedTensor { tensor: tensor.to_owned() });
    let record = manifest.tensor(tensor).ok_or_else(unsigned)?;
    let sizes: Vec<u64> = ranges.iter().map(|range| range.end.saturating_sub(range.start)).collect();
    if dtype == record.dtype && shape == sizes {
        return Ok(());
    }
    let describe = |dtype: Dtype, shape: &[u64]| format!("{} {shape:?}", dtype.name());
    let (expected, found) = (describe(record.dtype, &sizes), describe(dtype, shape));
    Err(refused(TensorRefusal::OtherTensor { tensor: tensor.to_owned(), expected, found }))
}

/// One slice: see [`verify_slices`], which is faster for many.
///
/// # Errors
/// Those of [`verify_slices`].
pub fn verify_slice<B: Backend>(
    backend: &B,
    manifest: &Verified<TensorManifest>,
    slice: Slice<'_, B::Buffer>,
    after: Option<&B::Stream>,
) -> Result<MeasuredSlice, Error> {
    let slices = [slice];
    let measured = verify_slices(backend, manifest, &slices, after)?;
    measured.into_iter().next().ok_or_else(|| SliceError::Nothing.into())
}

pub(super) fn refused(why: TensorRefusal) -> Error {
    VerifyError::from(why).into()
}
