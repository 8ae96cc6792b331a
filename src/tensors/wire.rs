//! A tensor manifest as bytes, in the one way that docs/tensor-manifest.md allows.

use super::derive::root_of;
use super::grid::{Grid, MAX_DIMS, bytes_of};
use super::{FileTensors, ManifestFault, SourceFile, TensorManifest, TensorRecord, TileDigest, VERSION, blake3_of};
use crate::digest::{Algorithm, Digest};
use crate::format::{Dtype, Format};
use crate::manifest::ResourceName;

/// How every tensor manifest begins.
pub const MAGIC: [u8; 8] = *b"tsealtns";

/// Bytes in a manifest at most. That of a model with 92,000 tensors has 200 MB.
pub const MAX_LEN: u64 = 1 << 30;

/// Files in a manifest at most.
pub const MAX_FILES: u64 = 1 << 16;

/// Tensors in a manifest at most.
pub const MAX_TENSORS: u64 = 1 << 22;

/// Bytes in the name of a file or tensor at most.
const MAX_NAME: u64 = 1 << 12;

/// The fewest bytes that a file takes, and a tensor: what bounds the room made for so many before they are read.
const LEAST_FILE: usize = 2 + 1 + 1 + 8 + 8 + 32;
const LEAST_TENSOR: usize = 2 + 4 + 1 + 2 + 1 + 8 + 8 + 32 + 32;

/// The number of a format.
const fn number_of(format: Format) -> u8 {
    match format {
        Format::Safetensors => 1,
        Format::Gguf => 2,
    }
}

/// The type with this name among those that files of `format` have.
fn dtype_of(format: Format, name: &str) -> Option<Dtype> {
    /// The numbers of types in GGUF are below this.
    const GGUF_TYPES: u32 = 64;
    match format {
        Format::Safetensors => Dtype::from_safetensors(name),
        Format::Gguf => (0..GGUF_TYPES).filter_map(Dtype::from_gguf).find(|dtype| dtype.name() == name),
    }
}

impl TensorManifest {
    /// Reads a manifest. It is not one that anybody vouches for yet.
    ///
    /// # Errors
    /// [`ManifestFault`] for anything but the one way to write a manifest whose parts agree with each other.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestFault> {
        let read = Self::read(bytes)?;
        read.check()?;
        Ok(read)
    }

    /// All but what must hold of the parts together.
    fn read(bytes: &[u8]) -> Result<Self, ManifestFault> {
        let len = bytes.len() as u64;
        limit("bytes", len, MAX_LEN)?;
        let mut reader = Reader { bytes, at: 0 };
        if reader.take("the magic", MAGIC.len()).ok() != Some(&MAGIC) {
            return Err(ManifestFault::Magic);
        }
        let version = reader.u32("the version")?;
        if version != VERSION {
            return Err(ManifestFault::Version { found: version });
        }
        let (file_count, tensor_count) = (reader.u32("the number of files")?, reader.u32("the number of tensors")?);
        limit("files", file_count.into(), MAX_FILES)?;
        limit("tensors", tensor_count.into(), MAX_TENSORS)?;
        let mut files = Vec::with_capacity(reader.room(file_count, LEAST_FILE));
        for _ in 0..file_count {
            files.push(reader.file()?);
        }
        let mut tensors = Vec::with_capacity(reader.room(tensor_count, LEAST_TENSOR));
        for _ in 0..tensor_count {
            tensors.push(reader.tensor(&files)?);
        }
        if reader.at < bytes.len() {
            return Err(ManifestFault::Trailing { expected: reader.at as u64, found: len });
        }
        Ok(Self { files, tensors, digest: blake3_of(bytes) })
    }

    /// The bytes of the manifest.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        // The numbers fit, as do the lengths below: that was checked when this was made.
        for number in [VERSION, self.files.len() as u32, self.tensors.len() as u32] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for file in &self.files {
            name(&mut out, file.name.as_str());
            out.push(number_of(file.format));
            out.extend_from_slice(&file.len.to_le_bytes());
            out.extend_from_slice(&file.header_len.to_le_bytes());
            out.extend_from_slice(file.header.as_bytes());
        }
        for tensor in &self.tensors {
            name(&mut out, &tensor.name);
            out.extend_from_slice(&tensor.file.to_le_bytes());
            out.push(tensor.dtype.name().len() as u8);
            out.extend_from_slice(tensor.dtype.name().as_bytes());
            out.push(tensor.shape.len() as u8);
            for size in &tensor.shape {
                out.extend_from_slice(&size.to_le_bytes());
            }
            out.extend_from_slice(tensor.grid.parts());
            out.extend_from_slice(&tensor.range.start.to_le_bytes());
            out.extend_from_slice(&(tensor.range.end - tensor.range.start).to_le_bytes());
            out.extend_from_slice(tensor.tiles.as_flattened());
            out.extend_from_slice(tensor.root.as_bytes());
        }
        out
    }

    /// What must hold of all files and tensors together.
    pub(super) fn check(&self) -> Result<(), ManifestFault> {
        if self.tensors.is_empty() {
            return Err(ManifestFault::NoTensors);
        }
        self.check_parts()
    }

    fn check_parts(&self) -> Result<(), ManifestFault> {
        limit("files", self.files.len() as u64, MAX_FILES)?;
        limit("tensors", self.tensors.len() as u64, MAX_TENSORS)?;
        in_order("file", self.files.iter().map(|file| file.name.as_str()))?;
        in_order("tensor", self.tensors.iter().map(|tensor| &*tensor.name))?;
        for file in &self.files {
            if file.header_len > file.len {
                let (file, len, header_len) = (file.name.to_string(), file.len, file.header_len);
                return Err(ManifestFault::HeaderLength { file, len, header_len });
            }
        }
        let mut places: Vec<&TensorRecord> = Vec::with_capacity(self.tensors.len());
        for tensor in &self.tensors {
            let Some(file) = self.files.get(tensor.file as usize) else {
                let (found, files) = (tensor.file, self.files.len() as u64);
                return Err(ManifestFault::NoFile { tensor: tensor.name.to_string(), found, files });
            };
            if tensor.range.start < file.header_len || tensor.range.end > file.len {
                return Err(ManifestFault::Outside { tensor: tensor.name.to_string() });
            }
            // One without bytes may lie anywhere in the data.
            if !tensor.range.is_empty() {
                places.push(tensor);
            }
        }
        places.sort_unstable_by_key(|tensor| (tensor.file, tensor.range.start));
        for pair in places.windows(2) {
            if pair[0].file == pair[1].file && pair[1].range.start < pair[0].range.end {
                let [tensor, other] = [pair[0], pair[1]].map(|tensor| tensor.name.to_string());
                return Err(ManifestFault::Overlap { tensor, other });
            }
        }
        Ok(())
    }
}

impl FileTensors {
    /// In the form of a manifest of this file alone, also if it has no tensor.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut tensors: Vec<_> =
            self.tensors.iter().map(|tensor| TensorRecord { file: 0, ..tensor.clone() }).collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        TensorManifest { files: vec![self.file.clone()], tensors, digest: blake3_of(&[]) }.to_bytes()
    }

    /// Reads that again.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestFault> {
        let read = TensorManifest::read(bytes)?;
        read.check_parts()?;
        let TensorManifest { files, mut tensors, .. } = read;
        let found = files.len() as u64;
        let one: Result<[SourceFile; 1], _> = files.try_into();
        let [file] = one.map_err(|_| ManifestFault::TooMany { what: "files", found, limit: 1 })?;
        tensors.sort_by_key(|tensor| (tensor.range.start, tensor.range.end));
        Ok(Self { file, tensors })
    }
}

fn limit(what: &'static str, found: u64, limit: u64) -> Result<(), ManifestFault> {
    if found <= limit { Ok(()) } else { Err(ManifestFault::TooMany { what, found, limit }) }
}

/// Names ascend by their bytes, and none is too long for its length's two bytes.
fn in_order<'a>(what: &'static str, names: impl Iterator<Item = &'a str> + Clone) -> Result<(), ManifestFault> {
    for (before, name) in names.clone().zip(names.clone().skip(1)) {
        match before.cmp(name) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => return Err(ManifestFault::Double { what, name: name.to_owned() }),
            std::cmp::Ordering::Greater => return Err(ManifestFault::Order { what, name: name.to_owned() }),
        }
    }
    for name in names {
        let len = name.len() as u64;
        if len > MAX_NAME {
            return Err(ManifestFault::LongName { what, name: name.to_owned(), len, limit: MAX_NAME });
        }
    }
    Ok(())
}

fn name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(&(name.len() as u16).to_le_bytes());
    out.extend_from_slice(name.as_bytes());
}

/// Takes a manifest apart from its beginning.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, what: &'static str, len: usize) -> Result<&'a [u8], ManifestFault> {
        let taken = self.at.checked_add(len).and_then(|end| self.bytes.get(self.at..end));
        let cut = ManifestFault::Cut { what, at: self.at as u64, needed: len as u64, len: self.bytes.len() as u64 };
        self.at += taken.map_or(0, <[u8]>::len);
        taken.ok_or(cut)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ManifestFault> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(what, N)?);
        Ok(array)
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, ManifestFault> {
        self.array(what).map(u8::from_le_bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, ManifestFault> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, ManifestFault> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Room to make for `count` things of at least `least` bytes each: no more than the rest can hold.
    fn room(&self, count: u32, least: usize) -> usize {
        (count as usize).min((self.bytes.len() - self.at) / least)
    }

    fn name(&mut self, what: &'static str) -> Result<&'a str, ManifestFault> {
        let len = self.array(what).map(u16::from_le_bytes)?;
        let at = self.at as u64;
        std::str::from_utf8(self.take(what, len.into())?).map_err(|_| ManifestFault::NotUtf8 { at })
    }

    fn file(&mut self) -> Result<SourceFile, ManifestFault> {
        let text = self.name("the name of a file")?;
        // Another spelling of the same name would be another encoding of the same content.
        let name = ResourceName::parse(text).ok().filter(|name| name.as_str() == text);
        let name = name.ok_or_else(|| ManifestFault::FileName { name: text.to_owned() })?;
        let format = match self.u8("the format of a file")? {
            1 => Format::Safetensors,
            2 => Format::Gguf,
            found => return Err(ManifestFault::Format { file: text.to_owned(), found }),
        };
        let (len, header_len) = (self.u64("the length of a file")?, self.u64("the length of a header")?);
        let header = Digest::of32(Algorithm::Blake3, self.array("the digest of a header")?);
        Ok(SourceFile { name, format, len, header_len, header })
    }

    fn tensor(&mut self, files: &[SourceFile]) -> Result<TensorRecord, ManifestFault> {
        let name = self.name("the name of a tensor")?;
        let tensor = || name.to_owned();
        let file = self.u32("the file of a tensor")?;
        let Some(source) = files.get(file as usize) else {
            return Err(ManifestFault::NoFile { tensor: tensor(), found: file, files: files.len() as u64 });
        };
        let len = self.u8("the type of a tensor")?;
        let text = self.take("the type of a tensor", len.into())?;
        let dtype = std::str::from_utf8(text).ok().and_then(|text| dtype_of(source.format, text));
        let dtype = dtype.ok_or_else(|| ManifestFault::Dtype {
            tensor: tensor(),
            dtype: String::from_utf8_lossy(text).into_owned(),
        })?;
        let dimensions = usize::from(self.u8("the dimensions of a tensor")?);
        if dimensions > MAX_DIMS {
            return Err(ManifestFault::Shape { tensor: tensor(), why: "more than 64 dimensions" });
        }
        let shape = self.take("the shape of a tensor", dimensions * 8)?;
        let shape: Box<[u64]> = shape.as_chunks().0.iter().map(|size| u64::from_le_bytes(*size)).collect();
        let found = self.take("the grid of a tensor", dimensions)?;
        let begin = self.u64("the place of a tensor")?;
        let len = self.u64("the length of a tensor")?;
        let uncounted = || ManifestFault::Shape { tensor: tensor(), why: UNCOUNTED };
        let expected = bytes_of(dtype, &shape).ok_or_else(uncounted)?;
        if len != expected {
            return Err(ManifestFault::Size { tensor: tensor(), expected, found: len });
        }
        let end = begin.checked_add(len).ok_or_else(|| ManifestFault::Outside { tensor: tensor() })?;
        let grid = Grid::of(dtype, &shape).ok_or_else(uncounted)?;
        if grid.parts() != found {
            let (expected, found) = (grid.parts().to_vec(), found.to_vec());
            return Err(ManifestFault::Grid { tensor: tensor(), expected, found });
        }
        let tiles = self.take("the digests of tiles", grid.tiles() * size_of::<TileDigest>())?;
        let tiles: Box<[TileDigest]> = tiles.as_chunks().0.into();
        let root = Digest::of32(Algorithm::Blake3, self.array("the digest of a tensor")?);
        if root != root_of(name, dtype, &shape, &grid, &tiles) {
            return Err(ManifestFault::Root { tensor: tensor() });
        }
        Ok(TensorRecord { name: name.into(), file, dtype, shape, range: begin..end, grid, tiles, root })
    }
}

/// What is wrong with a shape that [`Grid::of`] refuses.
pub(super) const UNCOUNTED: &str = "a shape whose bytes are no number, or no whole bytes of its type";
