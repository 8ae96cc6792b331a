//! Signing a model of which some files were hashed while they were written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::tensors::{check_target, unlisted};
use super::writer::MeantTensor;
use super::{SignOptions, Signed, Signer, hash_for};
use crate::bundle::Bundle;
use crate::device::cpu::{Algorithms, Cpu, Digests, FileJob, HashedFile, Progress, Settings, Stamp, Tap, Wanted};
use crate::device::{Device, DeviceError, DeviceKind};
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, quoted};
use crate::format::Format;
use crate::json;
use crate::manifest::ResourceName;
use crate::measure::Measured;
use crate::output::{remove, stands_in_for, sweep};
use crate::source::SourceFile;
use crate::statement;
use crate::tensors::{FILE_NAME, FileTensors, FileTiles};

/// Why a file that was written is not published, or not signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WrittenError {
    /// No file that is written can have this name.
    #[error("{} cannot be written: {why}", quoted(.name))]
    Name {
        /// The name.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// Not as many bytes came as were announced.
    #[error(
        "{path:?} was to have {expected} bytes, and {found} came; nothing of it stays. Announce the length that is written"
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes announced.
        expected: u64,
        /// Bytes that came, or would have.
        found: u64,
    },
    /// An earlier call failed.
    #[error("writing {path:?} failed before, so that nothing more is taken; begin the file anew")]
    Broken {
        /// The file.
        path: PathBuf,
    },
    /// The file is not the one that was written.
    #[error(
        "{path:?} is not as it was written: {how}. Nothing was signed; stop whoever else writes there, and write it anew"
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// What was seen.
        how: String,
    },
    /// A file that would not be signed.
    #[error("{} is listed as written, and is no file of the model that would be signed: it is missing, or ignored", quoted(.name))]
    NotInModel {
        /// Its name.
        name: String,
    },
    /// One file, listed twice.
    #[error("{} is listed as written twice", quoted(.name))]
    Twice {
        /// Its name.
        name: String,
    },
    /// A tensor manifest is wanted, and nobody took the tiles.
    #[error("the tiles of {} were not taken when it was written, and the tensor manifest wants them: write it with tensors", quoted(.name))]
    NoTiles {
        /// Its name.
        name: String,
    },
    /// A digest is wanted that nobody took.
    #[error("the {algorithm} digest of {} was not taken when it was written: sign with sha256 or blake3", quoted(.name))]
    NoDigest {
        /// Its name.
        name: String,
        /// The digest.
        algorithm: Algorithm,
    },
    /// What is wanted takes a reading of the whole file.
    #[error("files that were hashed while they were written cannot be signed {0}: sign without it, or read them again")]
    Unfit(&'static str),
    /// A file that somebody began to write lies in the model.
    #[error(
        "{path:?} was left by a writer that was interrupted, or is still at work; wait for it, or remove the file, and sign again"
    )]
    Leftover {
        /// The file.
        path: PathBuf,
    },
    /// Bytes that are to describe a written file do not.
    #[error("what should describe a written file does not: {why}")]
    Malformed {
        /// Why.
        why: String,
    },
}

/// A file that was hashed while it was written, and published.
///
/// It is known again by its [`Stamp`]: device, number, length, and the times of the last change as they were right after
/// it was published. A file that was changed since is not signed. (What is changed within one tick of the file system's clock
/// is not seen here. Nobody is deceived by that: the signature is over the bytes that were written, and a verifier refuses others.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    name: ResourceName,
    digests: Digests,
    tensors: Option<FileTensors>,
    stamp: Stamp,
    /// Whether the stamp is of this machine.
    here: bool,
}

impl Written {
    pub(super) const fn new(name: ResourceName, digests: Digests, tensors: Option<FileTensors>, stamp: Stamp) -> Self {
        Self { name, digests, tensors, stamp, here: true }
    }

    /// Its name in the model.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Bytes in it.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.stamp.len
    }

    /// SHA-256 and BLAKE3 of it.
    #[must_use]
    pub const fn digests(&self) -> &Digests {
        &self.digests
    }

    /// Its tensors with the digests of their tiles, if they were wanted.
    #[must_use]
    pub const fn tensors(&self) -> Option<&FileTensors> {
        self.tensors.as_ref()
    }

    /// Which file it was, after it was published.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Whether it was written on this machine since it was started: only then the whole stamp is compared. Of a file that
    /// another machine wrote, it is the length alone: numbers of devices and cached times are each machine's own.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        self.here
    }

    /// A file that others wrote, as it is now: hashed in one pass, with the tiles of its tensors if these are wanted. It can be
    /// compared with the memory that it was made of, and signed without another reading, if nobody changes it meanwhile.
    ///
    /// # Errors
    /// [`Error::Written`] for a name that no such file has, [`Error::TensorManifest`] or [`Error::Header`] if its tensors cannot
    /// be listed, [`Error::Io`] and [`Error::FileChanged`] if it cannot be read.
    pub fn of_file(model: &Path, name: &str, tensors: bool, progress: &dyn Progress) -> Result<Self, Error> {
        let (name, format) = super::writer::name_of(name, tensors)?;
        let path = model.join(name.as_str());
        let slot =
            format.map(|format| Listed { path: path.clone(), name: name.clone(), format, tiles: Mutex::new(None) });
        let tap = slot.as_ref().map(|slot| -> &dyn Tap { slot });
        let algorithms = Algorithms::only(Algorithm::Sha256).with(Algorithm::Blake3);
        let job = FileJob { path, size_hint: None, expected_len: None };
        let cpu = Cpu::open(Settings::default())?;
        let hashed =
            cpu.hash_files_for(&[job], &Wanted { algorithms, shard: None, groups: None, tap, look: None }, progress)?;
        let Some(HashedFile { stamp, parts, .. }) = hashed.into_iter().next() else {
            return Err(DeviceError::Worker(DeviceKind::Cpu).into());
        };
        let digests = parts.first().map(|part| part.digests).unwrap_or_default();
        let tensors = slot.map(Listed::finish).transpose()?;
        Ok(Self::new(name, digests, tensors, stamp))
    }

    /// Whether the tensors in the file are those in memory, or have these among them.
    ///
    /// # Errors
    /// [`VerifyError::Written`](crate::VerifyError::Written) if any tile is another; [`Error::Written`] if the tiles of the file were not taken.
    pub fn compare(&self, tensors: &BTreeMap<String, MeantTensor>) -> Result<(), Error> {
        super::writer::compare(&self.name, &self.digests, self.tensors.as_ref(), None, tensors)
    }

    /// Whether the file at `path` is still as it was written.
    pub(super) fn check(&self, path: &Path) -> Result<(), Error> {
        let changed = |how: String| Err(WrittenError::Changed { path: path.to_owned(), how }.into());
        let meta = fs::symlink_metadata(path).map_err(Error::io("examine", path))?;
        let found = Stamp::of(&meta);
        let same_file = (found.device, found.inode) == (self.stamp.device, self.stamp.inode);
        if !meta.is_file() {
            changed("it is no regular file any more".to_owned())
        } else if self.here && !same_file {
            changed("another file has its name".to_owned())
        } else if found.len != self.stamp.len {
            changed(format!("it had {} bytes and has {}", self.stamp.len, found.len))
        } else if self.here && found != self.stamp {
            changed("its modification or change time moved".to_owned())
        } else {
            Ok(())
        }
    }
}

/// The tiles of a file that is read.
struct Listed {
    path: PathBuf,
    name: ResourceName,
    format: Format,
    tiles: Mutex<Option<FileTiles>>,
}

impl Listed {
    fn finish(self) -> Result<FileTensors, Error> {
        let tiles = self.tiles.into_inner().unwrap_or_else(PoisonError::into_inner);
        let tiles = tiles.ok_or(DeviceError::Worker(DeviceKind::Cpu))?;
        tiles.finish().map_err(|source| unlisted(&self.path, source))
    }
}

impl Tap for Listed {
    fn begin(&self, _file: usize, len: u64) -> Result<u64, Error> {
        let tiles = FileTiles::new(self.name.clone(), self.format, len);
        *self.tiles.lock().unwrap_or_else(PoisonError::into_inner) = Some(tiles);
        Ok(len)
    }

    fn take(&self, _file: usize, _at: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut tiles = self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = tiles.as_mut().map_or(Ok(()), |tiles| tiles.update(bytes));
        taken.map_err(|source| unlisted(&self.path, source))
    }
}

/// How the bytes of a [`Written`] begin.
const MAGIC: &[u8; 8] = b"tsealwr1";

/// Bytes of its description at most.
const MAX_DESCRIPTION: usize = 64 << 10;

/// The description, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    name: String,
    size: u64,
    sha256: String,
    blake3: String,
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    machine: Option<String>,
    tensors: bool,
}

/// For rank 0 of several processes that write one model.
///
/// Rank 0 believes what its peers say of the files that they wrote: that is what signing without reading again means. A rank
/// that says something wrong makes a signature that nobody can verify, or one over other bytes than the training gave, which the
/// ranks' own digests of their shards have to rule out.
impl Written {
    /// For another process: a magic, the length of a description, the description in JSON, and the tensors in the
    /// form of a tensor manifest.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let hex = |algorithm| self.digests.get(algorithm).map(|digest| digest.to_hex()).unwrap_or_default();
        let Stamp { len, device, inode, modified, changed } = self.stamp;
        let wire = Wire {
            name: self.name.to_string(),
            size: len,
            sha256: hex(Algorithm::Sha256),
            blake3: hex(Algorithm::Blake3),
            device,
            inode,
            modified,
            changed,
            machine: if self.here { machine() } else { None },
            tensors: self.tensors.is_some(),
        };
        // Strings and numbers can always be written.
        let json = serde_json::to_vec(&wire).unwrap_or_default();
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&json);
        bytes.extend(self.tensors.iter().flat_map(FileTensors::to_bytes));
        bytes
    }

    /// Reads what [`Written::to_bytes`] gave.
    ///
    /// # Errors
    /// [`Error::Written`] for anything else, and for tensors that do not agree with the file that they are said to be in.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let malformed = |why: String| Error::from(WrittenError::Malformed { why });
        let cut = || malformed("it has another form, or was cut".to_owned());
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(cut)?;
        let (len, rest) = rest.split_first_chunk().ok_or_else(cut)?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok().filter(|len| *len <= MAX_DESCRIPTION);
        let (description, rest) = len.and_then(|len| rest.split_at_checked(len)).ok_or_else(cut)?;
        let wire: json::Object<Wire> =
            json::read("description of a written file", description).map_err(|fault| malformed(fault.to_string()))?;
        let wire = wire.0;
        let name = ResourceName::parse(&wire.name).ok().filter(|name| name.as_str() == wire.name);
        let name = name.ok_or_else(|| malformed(format!("{} is no name of a file", quoted(&wire.name))))?;
        let mut digests = Digests::default();
        for (algorithm, hex) in [(Algorithm::Sha256, &wire.sha256), (Algorithm::Blake3, &wire.blake3)] {
            let digest = Digest::from_hex(algorithm, hex);
            digests.set(digest.ok_or_else(|| malformed(format!("{} is no {algorithm} digest", quoted(hex))))?);
        }
        let tensors = match wire.tensors {
            true => Some(FileTensors::from_bytes(rest).map_err(|fault| malformed(fault.to_string()))?),
            false if rest.is_empty() => None,
            false => return Err(cut()),
        };
        if let Some(FileTensors { file, .. }) = &tensors
            && (file.name != name || file.len != wire.size)
        {
            return Err(malformed("its tensors are of another file".to_owned()));
        }
        let Wire { size, device, inode, modified, changed, .. } = wire;
        let stamp = Stamp { len: size, device, inode, modified, changed };
        let here = wire.machine.is_some() && wire.machine == machine();
        Ok(Self { name, digests, tensors, stamp, here })
    }
}

/// Which machine this is, since it was started: all its processes see the same files in the same state.
fn machine() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = id.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

/// Files of a model that need not be read any more.
#[derive(Debug, Default)]
pub(super) struct Taken {
    files: Vec<(SourceFile, Written)>,
}

impl Taken {
    /// Takes the files that were `written` out of those to read.
    pub(super) fn new(
        written: Vec<Written>,
        files: &mut Vec<SourceFile>,
        options: &SignOptions,
    ) -> Result<Self, Error> {
        if written.is_empty() {
            return Ok(Self::default());
        }
        if options.method.shard_size().is_some() {
            return Err(WrittenError::Unfit("in shards").into());
        }
        if options.outboard.is_some() {
            return Err(WrittenError::Unfit("with an outboard").into());
        }
        let base = |file: &SourceFile| file.name().rsplit('/').next().and_then(stands_in_for).is_some();
        if let Some(left) = files.iter().find(|file| base(file)) {
            return Err(WrittenError::Leftover { path: left.path() }.into());
        }
        let mut taken: Vec<(SourceFile, Written)> = Vec::with_capacity(written.len());
        for written in written {
            let name = || written.name().to_owned();
            let Ok(at) = files.binary_search_by(|file| file.name().cmp(written.name())) else {
                return Err(match taken.iter().any(|(file, _)| file.name() == written.name()) {
                    true => WrittenError::Twice { name: name() },
                    false => WrittenError::NotInModel { name: name() },
                }
                .into());
            };
            if written.name() == FILE_NAME {
                return Err(
                    WrittenError::Name { name: name(), why: "this file is made when the model is signed" }.into()
                );
            }
            taken.push((files.remove(at), written));
        }
        let taken = Self { files: taken };
        taken.check()?;
        Ok(taken)
    }

    /// Makes sure that all of them are still as they were written.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.files.iter().try_for_each(|(file, written)| written.check(&file.path()))
    }

    /// What a tensor manifest says of them. `single` is the name of the only file of a single-file model.
    pub(super) fn tensors(&self, single: Option<&str>) -> Result<Vec<FileTensors>, Error> {
        let of_tensors = self.files.iter().filter(|(file, _)| Format::of_name(file.name()).is_some());
        let one = |(_, written): &(SourceFile, Written)| {
            let name = || written.name().to_owned();
            let mut tensors = written.tensors.clone().ok_or_else(|| WrittenError::NoTiles { name: name() })?;
            if let Some(single) = single {
                tensors.file.name = ResourceName::of_file(single, None);
            }
            Ok(tensors)
        };
        of_tensors.map(one).collect()
    }

    /// What hashing them would have given.
    pub(super) fn measured(&self, algorithms: Algorithms, single: Option<&str>) -> Result<Vec<Measured>, Error> {
        let one = |(file, written): &(SourceFile, Written)| {
            for algorithm in algorithms.iter() {
                if written.digests.get(algorithm).is_none() {
                    return Err(WrittenError::NoDigest { name: written.name().to_owned(), algorithm }.into());
                }
            }
            let name = ResourceName::of_file(single.unwrap_or_else(|| file.name()), None);
            Ok(Measured { name, size: written.size(), digests: written.digests, groups: Vec::new() })
        };
        self.files.iter().map(one).collect()
    }
}

/// Signs the model at `model` as [`sign`](super::sign) does, except that the files in `written` are not read: what is signed of
/// them is what was hashed while they were written. Each has to be as it was then, before and after the other files
/// are read. `signature` is where the caller will write the bundle.
///
/// # Errors
/// As [`sign`](super::sign), and [`Error::Written`] if a file in `written` was changed, replaced or removed, would not be signed, is listed
/// twice, lacks what the options want of it, or if a writer left a temporary file in the model.
pub fn sign_written(
    model: &Path,
    signature: &Path,
    signer: &dyn Signer,
    options: &SignOptions,
    written: Vec<Written>,
    device: &Device,
    progress: &dyn Progress,
) -> Result<Signed, Error> {
    Bundle::check_target(signature)?;
    let hashed = hash_for(model, Some(signature), options, true, written, device, progress)?;
    let payload = statement::write(&hashed.manifest);
    Ok(Signed { bundle: Bundle::sign(payload, signer)?, hashed })
}

/// Removes an older signature, and the tensor manifest that is a file of the model, before files that they are about are
/// replaced. It is on the disk that they are gone when this returns: nobody finds an old signature beside new files.
///
/// # Errors
/// [`Error::NotASignature`] or [`Error::TensorManifest`] if another file stands in such a place, [`Error::Io`] if it
/// cannot be removed. Nothing is removed in the former cases.
pub fn withdraw(model: &Path, signature: &Path) -> Result<(), Error> {
    let tensors = model.join(FILE_NAME);
    Bundle::check_target(signature)?;
    check_target(&tensors)?;
    for path in [signature, &tensors] {
        remove(path).map_err(Error::io("remove", path))?;
    }
    Ok(())
}

/// Removes what writers of files of tensors, or of their index, left in the folder `model` when they were killed. To be called before any
/// file of the model is begun. Files that somebody writes are locked, and stay.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be read, or a file not removed.
pub fn sweep_leftovers(model: &Path) -> Result<(), Error> {
    let of_weights = |name: &str| Format::of_name(name).is_some() || name.ends_with(".safetensors.index.json");
    sweep(model, &of_weights).map_err(Error::io("remove unfinished files in", model))
}
