//! `sign --tensors`: a tensor manifest, made in the pass that hashes the files.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::written::Taken;
use super::{Annotations, SignOptions};
use crate::device::cpu::{Tap, Wanted, part_of};
use crate::digest::{Algorithm, Digest};
use crate::error::Error;
use crate::format::Format;
use crate::manifest::ResourceName;
use crate::measure::Measured;
use crate::output::{same_place, write_both};
use crate::source::{IgnoreSet, Model, ModelKind, Relative, SourceFile};
use crate::tensors::{
    FILE_NAME, FileTensors, FileTiles, MAGIC, MAX_LEN, ManifestFault, Stale, StaleTensors, TensorManifest, TilesFault,
};

/// What becomes of tensor manifests when a model is signed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Tensors {
    /// None is made. One that the model holds must be about the files that are signed with it.
    #[default]
    AsFound,
    /// One is made and signed as a file of the model, [`FILE_NAME`] at its root, in place of one that is there.
    InModel,
    /// One is made, to lie at this path outside of the model. Its digest is signed beside those of the files that it
    /// lists.
    Detached(PathBuf),
}

/// A model's tensor manifest.
#[derive(Debug)]
#[non_exhaustive]
pub struct SignedTensors {
    /// What it says.
    pub manifest: TensorManifest,
    /// Where it lies, or will when the signature is written.
    pub path: PathBuf,
    /// Whether that is outside of the model.
    pub detached: bool,
    /// Whether it was made now.
    pub made: bool,
}

impl SignedTensors {
    /// Tiles of all tensors.
    #[must_use]
    pub fn tiles(&self) -> usize {
        self.manifest.tensors().iter().map(|tensor| tensor.tiles().len()).sum()
    }

    /// The digest that is signed beside those of this resource, if any is.
    pub(super) fn digest_beside(&self, resource: &ResourceName) -> Option<Digest> {
        let listed = || self.manifest.files().binary_search_by(|file| file.name.cmp(resource)).is_ok();
        (self.detached && self.made && listed()).then(|| self.manifest.digest())
    }

    /// The file that is new in the model, as if it had been read.
    pub(super) fn measured(&self, wanted: &Wanted<'_>) -> Option<(SourceFile, Measured)> {
        if self.detached || !self.made {
            return None;
        }
        let part = part_of(&self.manifest.to_bytes(), wanted);
        let name = ResourceName::of_file(FILE_NAME, None);
        let measured = Measured { name, size: part.end, digests: part.digests, groups: part.groups };
        Some((SourceFile::at(FILE_NAME, &self.path), measured))
    }

    /// Writes it, and `signature` to its own path: both, or neither.
    pub(super) fn write_with(&self, path: &Path, signature: &[u8]) -> Result<(), Error> {
        check_target(&self.path)?;
        let bytes = self.manifest.to_bytes();
        write_both((&self.path, &bytes), (path, signature)).map_err(|(path, source)| Error::Io {
            doing: "write",
            path,
            source,
        })
    }
}

/// Why a model is not signed for the sake of its tensor manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorManifestError {
    /// Without BLAKE3 a rank could not check what it is about.
    #[error("a tensor manifest goes with signed BLAKE3 digests: leave out --no-annotations")]
    NoBlake3,
    /// Shards have no order.
    #[error("a tensor manifest is made of whole files: leave out --shards")]
    Shards,
    /// A model that is a file has no room for another.
    #[error(
        "{model:?} is a single file, which nothing can be added to: --tensors-out PATH writes the tensor manifest elsewhere"
    )]
    SingleFile {
        /// The model.
        model: PathBuf,
    },
    /// It would be a file of the model.
    #[error(
        "{path:?} lies in the model: give --tensors-out a path outside of it, or use --tensors, which signs it as a file of the model"
    )]
    Inside {
        /// Where it should go.
        path: PathBuf,
    },
    /// It would not be signed.
    #[error(
        "{name:?} lies under the ignored path {under:?} and would not be signed: do not ignore it, or use --tensors-out"
    )]
    Ignored {
        /// Its name in the model.
        name: &'static str,
        /// The ignored path.
        under: String,
    },
    /// It would replace the signature, or be replaced by it.
    #[error("{path:?} is where the signature goes, too: give the tensor manifest another path")]
    Signature {
        /// The path.
        path: PathBuf,
    },
    /// What it would replace is something else.
    #[error("{path:?} is there and is no tensor manifest, so it is not replaced. Rename or remove it first")]
    Occupied {
        /// The file.
        path: PathBuf,
    },
    /// A file of the model has the name, and is something else.
    #[error(
        "{path:?} has the name of tensor manifests and is none: {source}. Nobody would verify this model: rename or remove it, or have --tensors write it anew if it once was one"
    )]
    NotOne {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ManifestFault,
    },
    /// A tensor manifest in a model that is signed in shards.
    #[error("{path:?} cannot be checked in a model that is signed in shards: remove it, or leave out --shards")]
    InShards {
        /// The file.
        path: PathBuf,
    },
    /// The one in the model is about other files.
    #[error("{path:?} is stale: {stale}. Nobody would verify this model: --tensors makes it anew, or remove it")]
    Stale {
        /// The file.
        path: PathBuf,
        /// Each difference.
        stale: StaleTensors,
    },
    /// There is nothing to list.
    #[error(
        "{model:?} holds no file of tensors (.safetensors or .gguf) that would be signed, so a tensor manifest would be about nothing"
    )]
    NoFiles {
        /// The model.
        model: PathBuf,
    },
    /// A file of tensors that cannot be listed.
    #[error("no tensor manifest can be made of {path:?}: {source}. Sign without --tensors, or have the file put right")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TilesFault,
    },
    /// Files that cannot be listed together.
    #[error("no tensor manifest can be made of this model: {0}. Sign without --tensors")]
    Model(ManifestFault),
}

impl TensorManifestError {
    /// Whether it is the options that cannot be followed, whatever the files are.
    pub(crate) const fn is_usage(&self) -> bool {
        use TensorManifestError::{Ignored, Inside, NoBlake3, Shards, Signature, SingleFile};
        matches!(self, NoBlake3 | Shards | SingleFile { .. } | Inside { .. } | Ignored { .. } | Signature { .. })
    }
}

/// What is wanted of tensors in one signing.
#[derive(Debug)]
pub(super) struct Plan {
    model: PathBuf,
    /// The new manifest's path, and whether that is outside of the model.
    target: Option<(PathBuf, bool)>,
    slots: Vec<Option<Mutex<Slot>>>,
    /// Of files that are not read, since they were listed when they were written.
    written: Vec<FileTensors>,
}

/// What is done with the bytes of one file.
#[derive(Debug)]
struct Slot {
    path: PathBuf,
    name: ResourceName,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Wait(Format),
    Tiles(FileTiles),
    /// Bytes of the manifest that the model holds.
    Keep(Vec<u8>),
}

impl Plan {
    /// Nothing is wanted.
    pub(super) const fn none() -> Self {
        Self { model: PathBuf::new(), target: None, slots: Vec::new(), written: Vec::new() }
    }

    /// Looks at what is asked for and at what is there, before any file is read. A manifest that will be made anew is
    /// taken out of `files`.
    pub(super) fn new(
        model: &Model,
        options: &SignOptions,
        signature: Option<&Path>,
        ignore: &IgnoreSet,
        files: &mut Vec<SourceFile>,
        single: Option<&str>,
        taken: &Taken,
    ) -> Result<Self, Error> {
        let target = target(model, options, signature, ignore)?;
        if matches!(target, Some((_, false))) {
            files.retain(|file| file.name() != FILE_NAME);
        }
        let own = |file: &&SourceFile| single.is_none() && file.name() == FILE_NAME;
        let there = files.iter().find(own);
        if let Some(file) = there.filter(|_| options.method.shard_size().is_some()) {
            return Err(TensorManifestError::InShards { path: file.path() }.into());
        }
        let slot = |file: &SourceFile| {
            let work = match Format::of_name(file.name()) {
                _ if own(&file) => Work::Keep(Vec::new()),
                Some(format) if target.is_some() || there.is_some() => Work::Wait(format),
                _ => return None,
            };
            let name = ResourceName::of_file(single.unwrap_or_else(|| file.name()), None);
            Some(Mutex::new(Slot { path: file.path(), name, work }))
        };
        let slots: Vec<_> = files.iter().map(slot).collect();
        let wanted = target.is_some() || there.is_some();
        let written = if wanted { taken.tensors(single)? } else { Vec::new() };
        if target.is_some() && written.is_empty() && slots.iter().all(Option::is_none) {
            return Err(TensorManifestError::NoFiles { model: model.path().to_owned() }.into());
        }
        Ok(Self { model: model.path().to_owned(), target, slots, written })
    }

    /// Who is to see the bytes of files, if anything is wanted of them.
    pub(super) fn tap(&self) -> Option<&dyn Tap> {
        self.slots.iter().any(Option::is_some).then_some(self)
    }

    /// What came of it, when all files were read.
    pub(super) fn finish(self) -> Result<Option<SignedTensors>, Error> {
        let (mut files, mut there) = (self.written, None);
        for slot in self.slots.into_iter().flatten() {
            let Slot { path, work, .. } = slot.into_inner().unwrap_or_else(PoisonError::into_inner);
            match work {
                Work::Keep(bytes) => there = Some((path, bytes)),
                Work::Tiles(tiles) => files.push(tiles.finish().map_err(|source| unlisted(&path, source))?),
                // The engine begins every file that it reads.
                Work::Wait(_) => {}
            }
        }
        if self.target.is_none() && there.is_none() {
            return Ok(None);
        }
        let none = || TensorManifestError::NoFiles { model: self.model.clone() };
        let made = TensorManifest::new(files).map_err(|fault| match fault {
            ManifestFault::NoTensors => none(),
            fault => TensorManifestError::Model(fault),
        });
        if let Some((path, bytes)) = there {
            let read = TensorManifest::parse(&bytes)
                .map_err(|source| TensorManifestError::NotOne { path: path.clone(), source })?;
            let stale = match &made {
                Ok(made) if *made == read => Vec::new(),
                Ok(made) => {
                    let mut stale = read.stale_tensors(made);
                    // What is unequal is never taken for equal, even if the comparison had nothing to tell.
                    if stale.is_empty() {
                        stale.push(Stale::File { name: FILE_NAME.to_owned(), how: "is not as it would be made" });
                    }
                    stale
                }
                // A model without a tensor, which this is not about.
                Err(TensorManifestError::NoFiles { .. }) => read.stale_headers(&[]),
                Err(_) => return Err(made.err().unwrap_or_else(none).into()),
            };
            if !stale.is_empty() {
                return Err(TensorManifestError::Stale { path, stale: StaleTensors(stale) }.into());
            }
            if self.target.is_none() {
                return Ok(Some(SignedTensors { manifest: read, path, detached: false, made: false }));
            }
        }
        let manifest = made?;
        let len = manifest.to_bytes().len() as u64;
        if len > MAX_LEN {
            let fault = ManifestFault::TooMany { what: "bytes", found: len, limit: MAX_LEN };
            return Err(TensorManifestError::Model(fault).into());
        }
        Ok(self.target.map(|(path, detached)| SignedTensors { manifest, path, detached, made: true }))
    }
}

impl Tap for Plan {
    fn begin(&self, file: usize, len: u64) -> Result<u64, Error> {
        let Some(Some(slot)) = self.slots.get(file) else { return Ok(0) };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.work {
            Work::Wait(format) => slot.work = Work::Tiles(FileTiles::new(slot.name.clone(), format, len)),
            Work::Keep(_) if len > MAX_LEN => {
                let source = ManifestFault::TooMany { what: "bytes", found: len, limit: MAX_LEN };
                return Err(TensorManifestError::NotOne { path: slot.path.clone(), source }.into());
            }
            Work::Keep(_) | Work::Tiles(_) => {}
        }
        Ok(len)
    }

    fn take(&self, file: usize, _at: u64, bytes: &[u8]) -> Result<(), Error> {
        let Some(Some(slot)) = self.slots.get(file) else { return Ok(()) };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let Slot { path, work, .. } = &mut *slot;
        match work {
            Work::Tiles(tiles) => tiles.update(bytes).map_err(|source| unlisted(path, source)),
            Work::Keep(kept) => {
                kept.extend_from_slice(bytes);
                Ok(())
            }
            Work::Wait(_) => Ok(()),
        }
    }
}

/// A file of tensors cannot be listed.
pub(super) fn unlisted(path: &Path, source: TilesFault) -> Error {
    let path = path.to_owned();
    match source {
        TilesFault::Header(source) => Error::Header { path, source },
        source => TensorManifestError::File { path, source }.into(),
    }
}

/// Where a new manifest goes, if one is asked for and may go there, and whether that is outside of the model.
fn target(
    model: &Model,
    options: &SignOptions,
    signature: Option<&Path>,
    ignore: &IgnoreSet,
) -> Result<Option<(PathBuf, bool)>, Error> {
    let (path, detached) = match &options.tensors {
        Tensors::AsFound => return Ok(None),
        Tensors::InModel => (model.path().join(FILE_NAME), false),
        Tensors::Detached(path) => (path.clone(), true),
    };
    if options.method.shard_size().is_some() {
        return Err(TensorManifestError::Shards.into());
    }
    // Beside BLAKE3 as the OMS digest there is none but to name a detached manifest.
    if options.annotations == Annotations::None && (detached || options.hash != Algorithm::Blake3) {
        return Err(TensorManifestError::NoBlake3.into());
    }
    if detached {
        if model.relative(&path)? != Relative::Outside {
            return Err(TensorManifestError::Inside { path }.into());
        }
    } else if model.kind() == ModelKind::File {
        return Err(TensorManifestError::SingleFile { model: model.path().to_owned() }.into());
    } else if let Some(under) = ignore.covering(FILE_NAME) {
        return Err(TensorManifestError::Ignored { name: FILE_NAME, under: under.to_owned() }.into());
    }
    if signature.is_some_and(|signature| same_place(signature, &path)) {
        return Err(TensorManifestError::Signature { path }.into());
    }
    check_target(&path)?;
    Ok(Some((path, detached)))
}

/// Whether a tensor manifest may be written to `path`: nothing is there, or a regular file that begins as one.
pub(super) fn check_target(path: &Path) -> Result<(), Error> {
    let occupied = || TensorManifestError::Occupied { path: path.to_owned() };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("look at", path)(error)),
        // Behind a link is somebody else's file, such as a cache's.
        Ok(there) if !there.is_file() => return Err(occupied().into()),
        Ok(_) => {}
    }
    let mut head = Vec::new();
    let file = fs::File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    file.and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut head)).map_err(Error::io("look at", path))?;
    if head == MAGIC { Ok(()) } else { Err(occupied().into()) }
}
