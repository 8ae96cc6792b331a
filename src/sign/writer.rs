//! A file that is hashed while it is written: what is signed are the bytes that were handed to the system, not those
//! that some later reading gives.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use super::written::{Written, WrittenError};
use crate::device::cpu::sequential::Sequential;
use crate::device::cpu::{Algorithms, Digests, Stamp};
use crate::device::{DeviceError, DeviceKind};
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, VerifyError, quoted};
use crate::format::{Dtype, Format};
use crate::manifest::{ResourceName, SINGLE_FILE};
use crate::output::Pending;
use crate::tensors::{FILE_NAME, FileTensors, FileTiles, TensorRecord, TileDigest, TilesFault};

/// Bytes that go to the disk and to the hashes at a time.
const BLOCK: usize = 4 << 20;

/// Blocks that may wait for a hash: with these a file takes no more than some 30 MiB.
const AHEAD: usize = 4;

/// Writes a file of a model, and takes SHA-256, BLAKE3 and, if wanted, the tiles of its tensors of exactly those bytes.
///
/// Each block of bytes is written and hashed from the same memory, which nobody changes meanwhile. The hashes run beside
/// the writing, each in a thread of its own: SHA-256 is what all wait for, so that more threads for BLAKE3 would not pay.
/// Short files take no thread.
///
/// The file has a temporary name until [`Finished::publish`]. Whoever drops this, or the [`Finished`], removes it.
pub struct HashingWriter {
    name: ResourceName,
    size: u64,
    seen: u64,
    pending: Pending,
    block: Vec<u8>,
    sha256: Feed<Sequential>,
    blake3: Feed<blake3::Hasher>,
    tiles: Option<Feed<Tiles>>,
    broken: bool,
}

/// No more is taken after a fault, which is told at the end.
type Tiles = Result<FileTiles, TilesFault>;

impl fmt::Debug for HashingWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, size, seen, .. } = self;
        f.debug_struct("HashingWriter").field("name", name).field("size", size).field("seen", seen).finish()
    }
}

impl HashingWriter {
    /// Begins the file `name` of the model in the folder `model`: it will have `size` bytes. With `tensors` the digests of
    /// their tiles are taken, too, for a tensor manifest. A regular file that is there stays until the new one is published.
    ///
    /// # Errors
    /// [`Error::Written`] for a name that no written file may have, [`Error::Io`] if nothing can be written there.
    pub fn create(model: &Path, name: &str, size: u64, tensors: bool) -> Result<Self, Error> {
        let (resource, format) = name_of(name, tensors)?;
        let tiles = format.map(|format| FileTiles::new(resource.clone(), format, size));
        let path = model.join(name);
        let start = || -> io::Result<Self> {
            let pending = Pending::create(&path, 0o666)?;
            let short = size <= BLOCK as u64;
            Ok(Self {
                name: resource,
                size,
                seen: 0,
                pending,
                block: Vec::new(),
                sha256: Feed::start(short, Sequential::new(Algorithms::only(Algorithm::Sha256)), Sequential::update)?,
                blake3: Feed::start(short, blake3::Hasher::new(), |hasher, bytes| {
                    hasher.update(bytes);
                })?,
                tiles: tiles.map(|tiles| Feed::start(short, Ok(tiles), take_tiles)).transpose()?,
                broken: false,
            })
        };
        start().map_err(Error::io("write", &path))
    }

    /// Where the file will be.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.pending.target()
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`Error::Written`] if there are more than the file was said to have, [`Error::Io`] if they cannot be written. The file
    /// is then lost: every later call fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = self.write_on(bytes);
        self.broken |= written.is_err();
        written
    }

    fn write_on(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        if self.broken {
            return Err(WrittenError::Broken { path: self.path().to_owned() }.into());
        }
        self.seen = self.seen.saturating_add(bytes.len() as u64);
        if self.seen > self.size {
            return Err(self.length());
        }
        while !bytes.is_empty() {
            let (taken, rest) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            if self.block.capacity() == 0 {
                self.block.reserve_exact(usize::try_from(self.size).map_or(BLOCK, |size| size.min(BLOCK)));
            }
            self.block.extend_from_slice(taken);
            bytes = rest;
            if self.block.len() == BLOCK {
                self.put()?;
            }
        }
        Ok(())
    }

    /// Writes the block, and has it hashed.
    fn put(&mut self) -> Result<(), Error> {
        let block = Arc::new(std::mem::take(&mut self.block));
        self.pending.file().write_all(&block).map_err(Error::io("write", self.path()))?;
        self.sha256.take(&block)?;
        self.blake3.take(&block)?;
        self.tiles.as_mut().map_or(Ok(()), |tiles| tiles.take(&block))?;
        Ok(())
    }

    fn length(&self) -> Error {
        WrittenError::Length { path: self.path().to_owned(), expected: self.size, found: self.seen }.into()
    }

    /// When all bytes were taken: has the system write them down, and gives their digests.
    ///
    /// # Errors
    /// [`Error::Written`] if bytes are missing or an earlier call failed, [`Error::TensorManifest`] if the tensors cannot be
    /// listed, [`Error::Io`] if the bytes cannot be written.
    pub fn finish(mut self) -> Result<Finished, Error> {
        self.write(&[])?;
        if self.seen != self.size {
            return Err(self.length());
        }
        self.put()?;
        let path = self.path().to_owned();
        self.pending.file().sync_all().map_err(Error::io("write", &path))?;
        let stamp = stamp_of(&self.pending, &path)?;
        if stamp.len != self.size {
            let how = format!("{} bytes were written, and it has {}", self.size, stamp.len);
            return Err(WrittenError::Changed { path, how }.into());
        }
        let mut digests = Digests::default();
        self.sha256.finish()?.finish(&mut digests);
        digests.set(Digest::of32(Algorithm::Blake3, *self.blake3.finish()?.finalize().as_bytes()));
        let tensors = match self.tiles {
            Some(tiles) => Some(
                tiles
                    .finish()?
                    .and_then(FileTiles::finish)
                    .map_err(|source| super::tensors::unlisted(&path, source))?,
            ),
            None => None,
        };
        Ok(Finished { name: self.name, digests, tensors, stamp, pending: self.pending })
    }
}

/// The name of a file that can be written, and its format if its tensors are wanted.
pub(super) fn name_of(name: &str, tensors: bool) -> Result<(ResourceName, Option<Format>), Error> {
    let refused = |why| Error::from(WrittenError::Name { name: name.to_owned(), why });
    let resource = ResourceName::parse(name).ok().filter(|read| read.as_str() == name && name != SINGLE_FILE);
    let resource = resource.ok_or_else(|| refused("it is not the name of a file of the model"))?;
    if name == FILE_NAME {
        return Err(refused("this file is made when the model is signed"));
    }
    match Format::of_name(name) {
        _ if !tensors => Ok((resource, None)),
        None => Err(refused("its tensors are wanted, and it is no .safetensors or .gguf")),
        format => Ok((resource, format)),
    }
}

fn take_tiles(tiles: &mut Tiles, bytes: &[u8]) {
    if let Ok(taking) = tiles
        && let Err(fault) = taking.update(bytes)
    {
        *tiles = Err(fault);
    }
}

fn stamp_of(pending: &Pending, path: &Path) -> Result<Stamp, Error> {
    pending.file().metadata().map(|meta| Stamp::of(&meta)).map_err(Error::io("examine", path))
}

/// A hash, and who computes it.
enum Feed<T> {
    Here { state: T, take: fn(&mut T, &[u8]) },
    There { to: SyncSender<Arc<Vec<u8>>>, worker: JoinHandle<T> },
}

impl<T: Send + 'static> Feed<T> {
    fn start(here: bool, mut state: T, take: fn(&mut T, &[u8])) -> io::Result<Self> {
        if here {
            return Ok(Self::Here { state, take });
        }
        let (to, from) = sync_channel::<Arc<Vec<u8>>>(AHEAD);
        let work = move || {
            from.into_iter().for_each(|block| take(&mut state, &block));
            state
        };
        Ok(Self::There { to, worker: Builder::new().name("tensorseal-write".to_owned()).spawn(work)? })
    }

    fn take(&mut self, block: &Arc<Vec<u8>>) -> Result<(), DeviceError> {
        match self {
            Self::Here { state, take } => take(state, block),
            Self::There { to, .. } => to.send(Arc::clone(block)).map_err(|_| DeviceError::Worker(DeviceKind::Cpu))?,
        }
        Ok(())
    }

    fn finish(self) -> Result<T, DeviceError> {
        match self {
            Self::Here { state, .. } => Ok(state),
            Self::There { to, worker } => {
                drop(to);
                worker.join().map_err(|_| DeviceError::Worker(DeviceKind::Cpu))
            }
        }
    }
}

/// A file whose bytes are all on the disk, under a temporary name: to be compared with what they were made from, and then
/// published. Dropped, it is removed.
pub struct Finished {
    name: ResourceName,
    digests: Digests,
    tensors: Option<FileTensors>,
    stamp: Stamp,
    pending: Pending,
}

impl fmt::Debug for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, digests, stamp, .. } = self;
        f.debug_struct("Finished").field("name", name).field("digests", digests).field("stamp", stamp).finish()
    }
}

impl Finished {
    /// Bytes in it.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.stamp.len
    }

    /// SHA-256 and BLAKE3 of the bytes.
    #[must_use]
    pub const fn digests(&self) -> &Digests {
        &self.digests
    }

    /// Its tensors with the digests of their tiles, if they were wanted.
    #[must_use]
    pub const fn tensors(&self) -> Option<&FileTensors> {
        self.tensors.as_ref()
    }

    /// Whether the bytes written are those that were meant: `blake3` is of the file as it was computed from the memory it
    /// was made of. `tensors` are those in that memory, or some of them, by name, with the digests of their tiles.
    ///
    /// # Errors
    /// [`VerifyError::Written`] if any digest is another; [`Error::Written`] if tiles are to be compared that were not taken
    /// of the file.
    pub fn compare(&self, blake3: &Digest, tensors: &BTreeMap<String, MeantTensor>) -> Result<(), Error> {
        compare(&self.name, &self.digests, self.tensors.as_ref(), Some(blake3), tensors)
    }

    /// Gives the file its name, in place of an older one. A signature over the older one has to be gone by then: see
    /// [`withdraw`](super::withdraw).
    ///
    /// # Errors
    /// [`Error::Written`] if the file is not as it was written, [`Error::Io`] if it cannot be renamed.
    pub fn publish(self) -> Result<Written, Error> {
        let path = self.pending.target().to_owned();
        let changed = |how: &str| Error::from(WrittenError::Changed { path: path.clone(), how: how.to_owned() });
        if stamp_of(&self.pending, &path)? != self.stamp {
            return Err(changed("somebody wrote to it before it was published"));
        }
        let file = self.pending.publish().map_err(Error::io("publish", &path))?;
        // A new name moves the change time, and nothing else.
        let stamp = file.metadata().map(|meta| Stamp::of(&meta)).map_err(Error::io("examine", &path))?;
        if (Stamp { changed: self.stamp.changed, ..stamp }) != self.stamp {
            return Err(changed("somebody wrote to it while it was published"));
        }
        let written = Written::new(self.name, self.digests, self.tensors, stamp);
        written.check(&path)?;
        Ok(written)
    }
}

/// A tensor as it lay in the memory that a file was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeantTensor {
    /// Its type.
    pub dtype: Dtype,
    /// Its dimensions, the slowest first.
    pub shape: Vec<u64>,
    /// Digests of its tiles, by their numbers: all of them, whoever took them.
    pub tiles: BTreeMap<usize, TileDigest>,
}

/// Compares what was taken of a file with what it was made of: of each tensor that is meant, all tiles, and no other.
pub(super) fn compare(
    name: &ResourceName,
    digests: &Digests,
    tensors: Option<&FileTensors>,
    blake3: Option<&Digest>,
    meant: &BTreeMap<String, MeantTensor>,
) -> Result<(), Error> {
    let records = match tensors {
        Some(tensors) => tensors.tensors(),
        None if meant.is_empty() => &[],
        None => return Err(WrittenError::NoTiles { name: name.to_string() }.into()),
    };
    let by_name: BTreeMap<&str, &TensorRecord> = records.iter().map(|record| (record.name(), record)).collect();
    let mut differing = Vec::new();
    for (tensor, meant) in meant {
        let record = by_name.get(tensor.as_str());
        let same = record.filter(|record| record.dtype() == meant.dtype && *record.shape() == *meant.shape);
        let Some(record) = same else {
            let how = match record {
                Some(record) => format!(
                    "is {} {:?} in place of {} {:?}",
                    record.dtype().name(),
                    record.shape(),
                    meant.dtype.name(),
                    meant.shape
                ),
                None => "is not in it".to_owned(),
            };
            differing.push(DifferingTensor { name: tensor.clone(), how, ranges: Vec::new() });
            continue;
        };
        let own = record.tiles();
        let beyond = meant.tiles.range(own.len()..).count();
        let differs = |tile: &usize| meant.tiles.get(tile) != own.get(*tile);
        let tiles: Vec<usize> = (0..own.len()).filter(differs).collect();
        if beyond > 0 || !tiles.is_empty() {
            let absent = tiles.iter().filter(|tile| !meant.tiles.contains_key(tile)).count();
            let how = match (beyond + absent, tiles.first()) {
                (0, Some(first)) => format!("differs in {} of {} tiles, first in {first}", tiles.len(), own.len()),
                (wrong, _) => format!("was measured in other tiles than it has: {wrong} are missing or too many"),
            };
            let ranges = tiles.iter().map(|tile| record.tile_range(*tile)).collect();
            differing.push(DifferingTensor { name: tensor.clone(), how, ranges });
        }
    }
    let found = digests.get(Algorithm::Blake3);
    let found = found.ok_or(DeviceError::Worker(DeviceKind::Cpu))?;
    let expected = blake3.copied().unwrap_or(found);
    if found == expected && differing.is_empty() {
        return Ok(());
    }
    let name = name.to_string();
    Err(VerifyError::Written(Box::new(WrittenDiffers { name, expected, found, tensors: differing })).into())
}

/// A file that was not written as it was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenDiffers {
    /// The file.
    pub name: String,
    /// BLAKE3 of what it was to be, taken where that lay; the same as `found` if only tensors were compared.
    pub expected: Digest,
    /// BLAKE3 of what was written.
    pub found: Digest,
    /// Which tensors differ, where that is known.
    pub tensors: Vec<DifferingTensor>,
}

/// A tensor that was not written as it lay in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DifferingTensor {
    /// Its name.
    pub name: String,
    /// How it differs, for people.
    pub how: String,
    /// Its bytes in the file that differ, as far as that is known: a tile each.
    pub ranges: Vec<Range<u64>>,
}

impl fmt::Display for WrittenDiffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMED: usize = 5;
        let Self { name, expected, found, tensors } = self;
        write!(f, "written bytes differ: {} is not what lay in memory", quoted(name))?;
        if expected != found {
            write!(f, ", whose BLAKE3 is {} as a file, and {} was written", expected.to_hex(), found.to_hex())?;
        }
        for tensor in tensors.iter().take(NAMED) {
            write!(f, "; the tensor {} {}", quoted(&tensor.name), tensor.how)?;
        }
        if tensors.len() > NAMED {
            write!(f, "; and {} tensors more", tensors.len() - NAMED)?;
        }
        write!(
            f,
            ". It is not signed. Memory, bus or disk changed bytes, or somebody changed the tensors meanwhile: write again"
        )
    }
}
