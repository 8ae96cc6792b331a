//! The digests of all tiles of a file, from its bytes in order: no byte is kept longer than until it is hashed.
//!
//! Along a row of a matrix one tile follows the other, each with a piece of perhaps a kilobyte. BLAKE3 is fast only over
//! many chunks at once, so that each open tile gathers its pieces until it has a *block* of whole chunks to hash.

use crate::format::{Dtype, Format, Header, HeaderFault, Tensor};
use crate::manifest::ResourceName;

use super::derive::root_of;
use super::grid::Grid;
use super::wire::UNCOUNTED;
use super::{ManifestFault, SourceFile, TensorRecord, TileDigest, blake3_of};

/// Bytes that a tile gathers at most before they are hashed: a power of two of chunks, so that BLAKE3 hashes whole
/// subtrees.
const BLOCK: usize = 64 << 10;

/// All open tiles together gather no more than this while each has at least [`LEAST_BLOCK`], to stay in a core's cache.
const GATHERED: usize = 512 << 10;

/// Sixteen chunks: as many as BLAKE3 hashes at once on any processor.
const LEAST_BLOCK: usize = 16 << 10;

/// Why the tiles of a file cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TilesFault {
    /// Its header cannot be used.
    #[error(transparent)]
    Header(#[from] HeaderFault),
    /// A tensor can have no place in a manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestFault),
    /// There were not as many bytes as the file was said to have.
    #[error("the file has {expected} bytes, and {found} came")]
    Length {
        /// Bytes in the file.
        expected: u64,
        /// Bytes that came, if no more than that, or the least that it would be with those.
        found: u64,
    },
}

/// What the header of a file says, with the header's digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHeader {
    /// The file.
    pub file: SourceFile,
    /// Its tensors, in the order of their bytes.
    pub tensors: Vec<Tensor>,
}

impl FileHeader {
    /// Reads the header of a file of `len` bytes, of which `head` is the beginning.
    ///
    /// # Errors
    /// [`HeaderFault::Short`] if `head` is not the whole header: come again with as many bytes as it says. Any other if
    /// the header cannot be used.
    pub fn of_bytes(name: ResourceName, format: Format, head: &[u8], len: u64) -> Result<Self, HeaderFault> {
        let header = Header::of_bytes(format, head, len)?;
        let file = SourceFile::of_header(name, &header, head, len)?;
        Ok(Self { file, tensors: header.tensors })
    }
}

impl SourceFile {
    /// A file of `len` bytes of which `head` is the beginning, and `header` what was read from there.
    ///
    /// # Errors
    /// [`HeaderFault::Short`] if `head` is not the whole header.
    pub(crate) fn of_header(name: ResourceName, header: &Header, head: &[u8], len: u64) -> Result<Self, HeaderFault> {
        let short = HeaderFault::Short { needed: header.len };
        let own = usize::try_from(header.len).ok().and_then(|end| head.get(..end)).ok_or(short)?;
        Ok(Self { name, format: header.format, len, header_len: header.len, header: blake3_of(own) })
    }
}

/// What a manifest says of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTensors {
    pub(crate) file: SourceFile,
    pub(super) tensors: Vec<TensorRecord>,
}

impl FileTensors {
    /// The file.
    #[must_use]
    pub const fn file(&self) -> &SourceFile {
        &self.file
    }

    /// Its tensors, in the order of their bytes.
    #[must_use]
    pub fn tensors(&self) -> &[TensorRecord] {
        &self.tensors
    }
}

/// Takes the bytes of a file, from the first on and in pieces of any size, and gives its tensors with the digests of
/// their tiles.
///
/// It holds the header until that is whole, and at most 66 KiB for each tile that is open: as many as a band of rows has, 8 at
/// most for a matrix.
#[derive(Debug)]
pub struct FileTiles {
    name: ResourceName,
    format: Format,
    len: u64,
    seen: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The header is not whole yet: what came of it, and how many bytes it takes at least.
    Head {
        bytes: Vec<u8>,
        needed: u64,
    },
    Data(Box<Data>),
}

impl FileTiles {
    /// For a file of `len` bytes.
    #[must_use]
    pub const fn new(name: ResourceName, format: Format, len: u64) -> Self {
        Self { name, format, len, seen: 0, state: State::Head { bytes: Vec::new(), needed: 0 } }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`TilesFault`] if the header cannot be used, or there are more bytes than the file was said to have. Nothing comes
    /// of it then.
    pub fn update(&mut self, mut bytes: &[u8]) -> Result<(), TilesFault> {
        let seen = self.seen.saturating_add(bytes.len() as u64);
        if seen > self.len {
            return Err(TilesFault::Length { expected: self.len, found: seen });
        }
        self.seen = seen;
        loop {
            match &mut self.state {
                State::Data(data) => {
                    data.update(bytes);
                    return Ok(());
                }
                State::Head { bytes: head, needed } => {
                    let more = usize::try_from(*needed).unwrap_or(usize::MAX).saturating_sub(head.len());
                    let (more, rest) = bytes.split_at(more.min(bytes.len()));
                    head.extend_from_slice(more);
                    bytes = rest;
                    if (head.len() as u64) < *needed {
                        return Ok(());
                    }
                    match FileHeader::of_bytes(self.name.clone(), self.format, head, self.len) {
                        Ok(header) => {
                            let own = usize::try_from(header.file.header_len).unwrap_or(usize::MAX).min(head.len());
                            let mut data = Box::new(Data::new(header)?);
                            data.update(&head[own..]);
                            self.state = State::Data(data);
                        }
                        // No reader may ask for what it has, or for more than there is: that would never end.
                        Err(HeaderFault::Short { needed: next }) if next > *needed && next <= self.len => {
                            *needed = next;
                        }
                        Err(fault) => return Err(fault.into()),
                    }
                }
            }
        }
    }

    /// What the manifest says of the file, when all its bytes have come.
    ///
    /// # Errors
    /// [`TilesFault`] if bytes are missing, or the header cannot be used.
    pub fn finish(mut self) -> Result<FileTensors, TilesFault> {
        if self.seen != self.len {
            return Err(TilesFault::Length { expected: self.len, found: self.seen });
        }
        // For a file without a byte nothing was read yet.
        self.update(&[])?;
        match self.state {
            State::Data(data) => data.finish().ok_or(TilesFault::Length { expected: self.len, found: self.seen }),
            State::Head { needed, .. } => Err(HeaderFault::BeyondFile { needed, file_len: self.len }.into()),
        }
    }
}

/// The part of a file behind its header.
#[derive(Debug)]
struct Data {
    file: SourceFile,
    /// Where in the file the next byte lies.
    at: u64,
    /// Tensors to come, the next one last.
    left: Vec<(Tensor, Grid)>,
    open: Option<Open>,
    done: Vec<TensorRecord>,
    /// Hashers and their buffers, which go from tensor to tensor.
    lanes: Vec<Lane>,
}

impl Data {
    fn new(header: FileHeader) -> Result<Self, ManifestFault> {
        let cut = |tensor: Tensor| match Grid::of(tensor.dtype, &tensor.shape) {
            Some(grid) => Ok((tensor, grid)),
            None => Err(ManifestFault::Shape { tensor: tensor.name, why: UNCOUNTED }),
        };
        let left = header.tensors.into_iter().rev().map(cut).collect::<Result<Vec<_>, _>>()?;
        let done = Vec::with_capacity(left.len());
        let at = header.file.header_len;
        let mut data = Self { file: header.file, at, left, open: None, done, lanes: Vec::new() };
        data.open_next();
        Ok(data)
    }

    /// Opens the next tensor. One without bytes is whole already.
    fn open_next(&mut self) {
        while self.open.is_none() {
            let Some((tensor, grid)) = self.left.pop() else {
                // What is left is kept until all files of a model are done.
                self.lanes = Vec::new();
                return;
            };
            let open = Open::new(tensor, grid, &mut self.lanes);
            if open.left == 0 {
                self.done.push(open.close(&mut self.lanes));
            } else {
                self.open = Some(open);
            }
        }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while let (Some(open), false) = (&mut self.open, bytes.is_empty()) {
            // Before a tensor may be padding.
            let gap = open.begin.saturating_sub(self.at).min(bytes.len() as u64);
            let own = open.left.min(bytes.len() as u64 - gap);
            let (taken, rest) = bytes.split_at((gap + own) as usize);
            open.update(&taken[gap as usize..], &mut self.lanes);
            self.at += gap + own;
            bytes = rest;
            if open.left == 0 {
                self.done.extend(self.open.take().map(|open| open.close(&mut self.lanes)));
                self.open_next();
            }
        }
        self.at += bytes.len() as u64;
    }

    /// `None` if a tensor is not whole.
    fn finish(self) -> Option<FileTensors> {
        self.open.is_none().then_some(FileTensors { file: self.file, tensors: self.done })
    }
}

/// One tile that is being hashed.
#[derive(Debug)]
struct Lane {
    hasher: blake3::Hasher,
    /// Room for a block, or for a whole tile that is shorter, and how much of it is taken.
    gathered: Vec<u8>,
    len: usize,
    /// Bytes in a block.
    block: usize,
}

impl Lane {
    fn new() -> Self {
        Self { hasher: blake3::Hasher::new(), gathered: Vec::new(), len: 0, block: BLOCK }
    }

    /// Makes room for blocks of so many bytes of a tile of so many.
    fn make_room(&mut self, block: usize, tile: u64) {
        self.block = block;
        let room = usize::try_from(tile).map_or(block, |tile| tile.min(block));
        if self.gathered.len() < room {
            self.gathered = vec![0; room];
        }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        if self.len > 0 || bytes.len() < self.block {
            let (first, rest) = bytes.split_at(bytes.len().min(self.block - self.len));
            self.gather(first);
            if self.len < self.block {
                return;
            }
            self.hasher.update(&self.gathered[..self.block]);
            self.len = 0;
            bytes = rest;
        }
        let (blocks, rest) = bytes.split_at(bytes.len() / self.block * self.block);
        self.hasher.update(blocks);
        self.gather(rest);
    }

    fn gather(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.gathered[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    /// The digest, after which it is as new.
    fn close(&mut self) -> TileDigest {
        self.hasher.update(&self.gathered[..self.len]);
        self.len = 0;
        let digest = *self.hasher.finalize().as_bytes();
        self.hasher.reset();
        digest
    }
}

/// A dimension before the last one that is cut.
#[derive(Debug)]
struct Outer {
    size: u64,
    step: u64,
    /// How far the tiles of two neighbouring parts are apart.
    tiles: usize,
    /// Where we are.
    index: u64,
}

/// One tensor that is being hashed.
///
/// Behind the last dimension that is cut, the bytes of a tile lie in one piece, a *segment*; along that dimension lie as
/// many segments as it has parts, each of another tile. The dimensions before it say which tiles those are. A *band* is a
/// part of the first dimension that is longer than one: its tiles are complete when it ends, before the next begins.
#[derive(Debug)]
struct Open {
    name: String,
    dtype: Dtype,
    shape: Vec<u64>,
    grid: Grid,
    begin: u64,
    end: u64,
    /// Bytes to come.
    left: u64,
    tiles: Vec<TileDigest>,

    outer: Vec<Outer>,
    /// Bytes in a segment, and those of the current one to come.
    segment: u64,
    segment_left: u64,
    /// Segments in a row, and the current one.
    segments: usize,
    current: usize,
    /// The lane of the row's first segment.
    first_lane: usize,
    /// Tiles in a band, bytes in one, and those of the current one to come.
    lanes: usize,
    band: u64,
    band_left: u64,
}

impl Open {
    fn new(tensor: Tensor, grid: Grid, lanes: &mut Vec<Lane>) -> Self {
        let Tensor { name, dtype, shape, range } = tensor;
        let total = range.end - range.start;
        let parts = grid.parts();
        // The dimension along which segments lie; the tensor is one segment if none is cut.
        let cut = parts.iter().rposition(|&parts| parts > 1);
        let segments = cut.map_or(1, |cut| usize::from(parts[cut]));
        let mut outer = Vec::new();
        let mut before = segments;
        for index in (0..cut.unwrap_or(0)).rev() {
            outer.push(Outer { size: shape[index], step: grid.steps()[index], tiles: before, index: 0 });
            before *= usize::from(parts[index]);
        }
        // The slowest of them last: that is where the odometer below ends.
        let rows: u64 = outer.iter().map(|outer| outer.size).product();
        let segment = total / rows.max(1) / segments as u64;
        let long = shape.iter().position(|&size| size > 1).unwrap_or(0);
        let bands = parts.get(long).map_or(1, |&parts| usize::from(parts));
        let (in_band, band) = (grid.tiles() / bands, total / bands as u64);
        while lanes.len() < in_band {
            lanes.push(Lane::new());
        }
        // A power of two, since the number of tiles is.
        let block = (GATHERED / in_band).clamp(LEAST_BLOCK, BLOCK);
        lanes.iter_mut().take(in_band).for_each(|lane| lane.make_room(block, total / grid.tiles() as u64));
        Self {
            name,
            dtype,
            shape,
            begin: range.start,
            end: range.end,
            left: total,
            tiles: Vec::with_capacity(grid.tiles()),
            grid,
            outer,
            segment,
            segment_left: segment,
            segments,
            current: 0,
            first_lane: 0,
            lanes: in_band,
            band,
            band_left: band,
        }
    }

    /// Takes bytes of the tensor, no more than are left.
    fn update(&mut self, mut bytes: &[u8], lanes: &mut [Lane]) {
        while !bytes.is_empty() {
            let (taken, rest) = bytes.split_at(self.segment_left.min(bytes.len() as u64) as usize);
            // In a band of one tile segments are bands. Otherwise a row's tiles are neighbours.
            let lane = if self.lanes == 1 { 0 } else { self.first_lane + self.current };
            lanes[lane].update(taken);
            let taken = taken.len() as u64;
            self.segment_left -= taken;
            self.band_left -= taken;
            self.left -= taken;
            bytes = rest;
            if self.segment_left == 0 {
                self.segment_left = self.segment;
                self.current += 1;
                if self.current == self.segments {
                    self.current = 0;
                    self.next_row();
                }
            }
            if self.band_left == 0 {
                self.band_left = self.band;
                self.tiles.extend(lanes[..self.lanes].iter_mut().map(Lane::close));
            }
        }
    }

    fn next_row(&mut self) {
        for outer in &mut self.outer {
            outer.index += 1;
            if outer.index < outer.size {
                break;
            }
            outer.index = 0;
        }
        let tiles = |outer: &Outer| (outer.index / outer.step) as usize * outer.tiles;
        self.first_lane = self.outer.iter().map(tiles).sum::<usize>() % self.lanes;
    }

    fn close(mut self, lanes: &mut [Lane]) -> TensorRecord {
        if self.tiles.is_empty() {
            // A tensor without bytes has one tile, without bytes.
            self.tiles.extend(lanes[..self.lanes].iter_mut().map(Lane::close));
        }
        let root = root_of(&self.name, self.dtype, &self.shape, &self.grid, &self.tiles);
        TensorRecord {
            name: self.name.into(),
            file: 0,
            dtype: self.dtype,
            shape: self.shape.into(),
            range: self.begin..self.end,
            grid: self.grid,
            tiles: self.tiles.into(),
            root,
        }
    }
}
