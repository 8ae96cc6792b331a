//! Signing: hash the model, write the statement, sign it.

mod certificate;
mod key;
pub mod pkcs11;
#[cfg(feature = "sigstore-sign")]
pub mod sigstore;
mod tensors;
#[cfg(feature = "sigstore-sign")]
mod timestamp;
mod writer;
mod written;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

pub use certificate::{CertificateSigner, SigningCertificate, SigningCertificateError};
pub use key::KeySigner;
use pkcs11::Pkcs11Error;
pub use tensors::{SignedTensors, TensorManifestError, Tensors};
#[cfg(feature = "sigstore-sign")]
pub use timestamp::{StampingError, Timestamped};
pub use writer::{DifferingTensor, Finished, HashingWriter, MeantTensor, WrittenDiffers};
use written::Taken;
pub use written::{Written, WrittenError, sign_written, sweep_leftovers, withdraw};

use crate::bundle::{Bundle, Evidence, VerificationMaterial};
use crate::device::cpu::{Algorithms, Progress, Wanted};
use crate::device::{Device, DeviceKind};
use crate::digest::Algorithm;
use crate::envelope::Envelope;
use crate::error::Error;
use crate::format::{Pickles, pickled};
use crate::key::KeyError;
use crate::manifest::{Manifest, Method, Resource, SINGLE_FILE, Serialization, ShardNaming};
use crate::measure::{Measured, Measurement, measure};
use crate::outboard::{self, OutboardFile, OutboardOptions};
use crate::output::{Existing, same_place, write_whole};
use crate::report::Note;
use crate::source::{FollowedLink, IgnoreSet, IgnoredFile, Model, ModelKind, Relative, SourceFile, SymlinkPolicy};
use crate::statement;
use crate::verify::{GitFiles, ignore_more};

/// A signature over a statement, and all that a verifier will need beside the statement.
#[derive(Debug, Clone)]
pub struct Signature {
    /// The signature itself; for ECDSA in DER.
    pub bytes: Vec<u8>,
    /// Whom it is from.
    pub material: VerificationMaterial,
    /// What third parties say of it.
    pub evidence: Evidence,
}

/// Who signs. One implementation a method.
pub trait Signer {
    /// Signs `payload`, a statement, under DSSE: the signature is over [`pae`](crate::envelope::pae) of it.
    ///
    /// # Errors
    /// [`SignError`] if there is no signature.
    fn sign(&self, payload: &[u8]) -> Result<Signature, SignError>;
}

/// Why there is no signature. Each message says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] SigningCertificateError),
    /// There is no timestamp.
    #[cfg(feature = "sigstore-sign")]
    #[error(transparent)]
    Timestamp(#[from] StampingError),
    /// Sigstore gave no signature.
    #[cfg(feature = "sigstore-sign")]
    #[error(transparent)]
    Sigstore(#[from] Box<sigstore::SigstoreSignError>),
    /// The token cannot be used.
    #[error(transparent)]
    Pkcs11(#[from] Pkcs11Error),
}

impl<S: Signer + ?Sized> Signer for Rc<S> {
    fn sign(&self, payload: &[u8]) -> Result<Signature, SignError> {
        (**self).sign(payload)
    }
}

impl Bundle {
    /// Has `payload` signed.
    ///
    /// # Errors
    /// [`SignError`] if the signer fails.
    pub(crate) fn sign(payload: Vec<u8>, signer: &dyn Signer) -> Result<Self, SignError> {
        let Signature { bytes, material, evidence } = signer.sign(&payload)?;
        Ok(Self::new(material, Envelope { payload, signature: bytes }, evidence))
    }
}

/// Whether a BLAKE3 digest and the size are signed beside each OMS digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Annotations {
    /// They are, where the OMS digest is not BLAKE3 itself.
    #[default]
    Blake3,
    /// They are not.
    None,
}

/// The name of the only file of a single-file model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SingleFileName {
    /// `.`, which every implementation verifies.
    #[default]
    Dot,
    /// The file's own name, as the specification has it; Python's does not verify that.
    Basename,
}

/// How to sign.
#[derive(Debug, Clone)]
pub struct SignOptions {
    /// Files or shards.
    pub method: Method,
    /// The OMS digest.
    pub hash: Algorithm,
    /// The algorithm string of shards.
    pub shard_naming: ShardNaming,
    /// BLAKE3 beside it.
    pub annotations: Annotations,
    /// Which links are followed.
    pub symlinks: SymlinkPolicy,
    /// Paths to leave out, relative to the current folder.
    pub ignore_paths: Vec<PathBuf>,
    /// Files of git: left out unless [`GitFiles::Keep`].
    pub git_files: GitFiles,
    /// The name of a single file.
    pub single_file_name: SingleFileName,
    /// What becomes of tensor manifests.
    pub tensors: Tensors,
    /// Trees to keep beside the model. The BLAKE3 digests that prove them are signed, also where BLAKE3 is the OMS digest.
    pub outboard: Option<OutboardOptions>,
}

impl Default for SignOptions {
    fn default() -> Self {
        Self {
            method: Method::Files,
            hash: Algorithm::Sha256,
            shard_naming: ShardNaming::default(),
            annotations: Annotations::default(),
            symlinks: SymlinkPolicy::default(),
            ignore_paths: Vec::new(),
            git_files: GitFiles::default(),
            single_file_name: SingleFileName::default(),
            tensors: Tensors::default(),
            outboard: None,
        }
    }
}

/// What was hashed of a model.
#[derive(Debug)]
#[non_exhaustive]
pub struct Hashed {
    /// Every resource and its digests.
    pub manifest: Manifest,
    /// By which algorithms each resource was hashed.
    pub algorithms: Vec<Algorithm>,
    /// Where.
    pub device: DeviceKind,
    /// Files read.
    pub files: usize,
    /// Bytes read.
    pub bytes: u64,
    /// From the beginning to the end of hashing.
    pub elapsed: Duration,
    /// Empty files, which the `shards` method leaves out.
    pub empty: Vec<String>,
    /// Links that were followed.
    pub followed: Vec<FollowedLink>,
    /// Whatever else should be known.
    pub notes: Vec<Note>,
    /// The tensor manifest: a new one, which is written with the signature, or the one that the model holds.
    pub tensors: Option<SignedTensors>,
    /// The trees, if they were asked for: to be written before the signature.
    pub outboard: Option<OutboardFile>,
}

/// A model's signature, not yet written anywhere.
#[derive(Debug)]
#[non_exhaustive]
pub struct Signed {
    /// The signature.
    pub bundle: Bundle,
    /// What it covers.
    pub hashed: Hashed,
}

impl Signed {
    /// Writes the bundle to `path`: whole or not at all. An older signature there is replaced. A new tensor manifest is
    /// written with it: both, or neither.
    ///
    /// # Errors
    /// What [`Bundle::check_target`] says, [`Error::TensorManifest`] if another file is now where the tensor manifest
    /// goes, and [`Error::Io`]; files at both paths are then as they were.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        Bundle::check_target(path)?;
        let json = self.bundle.to_json();
        if let Some(tensors) = self.hashed.tensors.as_ref().filter(|tensors| tensors.made) {
            return tensors.write_with(path, &json);
        }
        write_whole(path, 0o666, Existing::Replace, |file| file.write_all(&json))
            .map_err(Error::io("write signature", path))
    }
}

/// Hashes the model at `model` as it would be signed, but for a look at whether a tensor manifest in it is stale. `signature` is where the signature will be: it is left out if it
/// lies inside the model.
///
/// # Errors
/// [`Error`] if the model cannot be read, holds what cannot be signed, changes meanwhile, or is empty.
pub fn hash(
    model: &Path,
    signature: Option<&Path>,
    options: &SignOptions,
    device: &Device,
    progress: &dyn Progress,
) -> Result<Hashed, Error> {
    hash_for(model, signature, options, options.tensors != Tensors::AsFound, Vec::new(), device, progress)
}

/// The same, and with `tensors` whatever has to do with these. Files that were `written` by us are not read.
fn hash_for(
    model: &Path,
    signature: Option<&Path>,
    options: &SignOptions,
    tensors: bool,
    written: Vec<Written>,
    device: &Device,
    progress: &dyn Progress,
) -> Result<Hashed, Error> {
    let begun = Instant::now();
    let path = model;
    let model = Model::open(path, options.symlinks)?;
    if let Some(signature) = signature
        && model.relative(signature)? == Relative::Root
    {
        return Err(Error::NotASignature { path: signature.to_owned() });
    }
    let (ignore, mut notes) = left_out(&model, options, signature)?;
    if let Some(outboard) = &options.outboard {
        let tensors = if let Tensors::Detached(path) = &options.tensors { Some(&**path) } else { None };
        outboard_target(&model, &ignore, outboard.path(), [signature, tensors])?;
    }
    let mut scan = model.scan(&ignore, options.symlinks, false)?;
    let all_read = written.is_empty();
    if !all_read {
        notes.extend(Note::pickled(pickled(&scan.files)));
    }

    // A detached tensor manifest is named in the annotation, and an outboard is proven by the length in it, too.
    let more = matches!(options.tensors, Tensors::Detached(_)) || options.outboard.is_some();
    let annotate = options.annotations == Annotations::Blake3 && (options.hash != Algorithm::Blake3 || more);
    let mut algorithms = Algorithms::only(options.hash);
    if annotate {
        algorithms = algorithms.with(Algorithm::Blake3);
    }
    let single = (model.kind() == ModelKind::File).then(|| match options.single_file_name {
        SingleFileName::Dot => SINGLE_FILE,
        SingleFileName::Basename => model.name(),
    });
    let taken = Taken::new(written, &mut scan.files, options)?;
    let plan = match tensors {
        true => tensors::Plan::new(&model, options, signature, &ignore, &mut scan.files, single, &taken)?,
        false => tensors::Plan::none(),
    };
    let pickles = Pickles::of(&scan.files);
    let see = |file: usize, bytes: &[u8]| pickles.see(file, bytes);
    let wanted = Wanted {
        algorithms,
        shard: options.method.shard_size(),
        groups: options.outboard.as_ref().map(OutboardOptions::group),
        tap: plan.tap(),
        look: if all_read { Some(&see) } else { None },
    };
    let mut found = measure(device, &scan.files, single, &wanted, &|_| None, progress)?;
    if all_read {
        notes.extend(Note::pickled(pickles.names(&scan.files)));
    }
    let wanted = Wanted { tap: None, look: None, ..wanted };
    taken.check()?;
    found = found.with(taken.measured(algorithms, single)?);
    let tensors = plan.finish()?;
    if let Some((file, new)) = tensors.as_ref().and_then(|tensors| tensors.measured(&wanted)) {
        scan.files.push(file);
        let at = found.resources.partition_point(|resource| resource.name < new.name);
        found.resources.insert(at, new);
    }
    let outboard = match &options.outboard {
        Some(outboard) => Some(kept(&found, &scan.files, single, options.method, outboard, device)?),
        None => None,
    };
    let mut resources = Vec::with_capacity(found.resources.len());
    for measured in found.resources {
        // The engine gives every digest that was asked for; a resource without one must not be signed.
        let Some(digest) = measured.digests.get(options.hash) else {
            return Err(crate::device::DeviceError::Worker(device.kind()).into());
        };
        let blake3 = if annotate { measured.digests.get(Algorithm::Blake3) } else { None };
        let beside = tensors.as_ref().and_then(|tensors| tensors.digest_beside(&measured.name));
        let size = blake3.map(|_| measured.size);
        resources.push(Resource { name: measured.name, digest, blake3, size, tensors: beside });
    }
    if resources.is_empty() {
        return Err(Error::EmptyModel { path: path.to_owned() });
    }
    let serialization = Serialization {
        method: options.method,
        hash: options.hash,
        shard_naming: options.shard_naming,
        allow_symlinks: options.symlinks != SymlinkPolicy::Refuse,
        ignore_paths: Some(ignore.iter().map(str::to_owned).collect()),
    };
    let manifest = Manifest::new(model.name().to_owned(), serialization, resources).map_err(Error::Statement)?;
    if let (Some(outboard), Some(asked)) = (&outboard, &options.outboard) {
        // What no verifier would use is not written.
        let fault = |source| Error::Outboard { path: asked.path().to_owned(), source };
        outboard.check(&manifest).map_err(fault)?;
    }
    Ok(Hashed {
        manifest,
        algorithms: algorithms.iter().collect(),
        device: device.kind(),
        files: found.files,
        bytes: found.bytes,
        elapsed: begun.elapsed(),
        empty: found.empty,
        followed: scan.followed,
        notes,
        tensors,
        outboard,
    })
}

/// Whether an outboard may be written to `path`, to be asked before hours of hashing.
fn outboard_target(model: &Model, ignore: &IgnoreSet, path: &Path, others: [Option<&Path>; 2]) -> Result<(), Error> {
    if others.into_iter().flatten().any(|other| same_place(path, other)) {
        return Err(Error::OutboardPath { path: path.to_owned() });
    }
    match model.relative(path)? {
        Relative::Inside(name) if !ignore.covers(&name) => Err(Error::OutboardInModel { path: path.to_owned() }),
        _ => OutboardFile::check_target(path),
    }
}

/// The trees of what was measured.
fn kept(
    found: &Measurement,
    files: &[SourceFile],
    single: Option<&str>,
    method: Method,
    asked: &OutboardOptions,
    device: &Device,
) -> Result<OutboardFile, Error> {
    let files: BTreeMap<&str, &SourceFile> = files.iter().map(|file| (single.unwrap_or(file.name()), file)).collect();
    let file_of = |measured: &Measured| {
        let shard = measured.name.shard().filter(|_| method != Method::Files);
        let (name, at) = shard.map_or((measured.name.as_str(), 0), |(path, range)| (path, range.start));
        files.get(name).map(|file| (*file, at))
    };
    outboard::keep(&found.resources, asked.group(), &device.kind(), &file_of)
}

/// What these options leave out of the model.
fn left_out(model: &Model, options: &SignOptions, signature: Option<&Path>) -> Result<(IgnoreSet, Vec<Note>), Error> {
    let (mut ignore, mut notes) = (IgnoreSet::new(), Vec::new());
    let git = options.git_files != GitFiles::Keep;
    ignore_more(&mut ignore, model, git, &options.ignore_paths, signature.as_slice(), &mut notes)?;
    Ok((ignore, notes))
}

/// A file that would be signed.
#[derive(Debug)]
#[non_exhaustive]
pub struct ListedFile {
    /// Its name in the model.
    pub name: String,
    /// Its path.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
}

/// What of a model would be signed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Listing {
    /// What would be signed, sorted by name.
    pub files: Vec<ListedFile>,
    /// What would be left out.
    pub ignored: Vec<IgnoredFile>,
    /// Links that would be followed.
    pub followed: Vec<FollowedLink>,
    /// Whatever else should be known.
    pub notes: Vec<Note>,
}

/// Lists what [`hash`] would read. Of the files, no more is read than it takes to tell pickled ones.
///
/// # Errors
/// [`Error`] if the model cannot be read or holds what cannot be signed.
pub fn list(model: &Path, options: &SignOptions) -> Result<Listing, Error> {
    let model = Model::open(model, options.symlinks)?;
    let (ignore, mut notes) = left_out(&model, options, None)?;
    let scan = model.scan(&ignore, options.symlinks, true)?;
    notes.extend(Note::pickled(pickled(&scan.files)));
    let mut files = Vec::with_capacity(scan.files.len());
    for file in &scan.files {
        let path = file.path();
        let meta = std::fs::symlink_metadata(&path).map_err(Error::io("examine", path.as_path()))?;
        files.push(ListedFile { name: file.name().to_owned(), path, size: meta.len() });
    }
    Ok(Listing { files, ignored: scan.ignored, followed: scan.followed, notes })
}

/// Signs the model at `model`; `signature` is where the caller will write the bundle.
///
/// # Errors
/// As [`hash`] and [`Bundle::check_target`], [`Error::TensorManifest`] if the model holds a stale tensor manifest, and [`Error::Sign`] if the signer fails.
pub fn sign(
    model: &Path,
    signature: &Path,
    signer: &dyn Signer,
    options: &SignOptions,
    device: &Device,
    progress: &dyn Progress,
) -> Result<Signed, Error> {
    Bundle::check_target(signature)?;
    let hashed = hash_for(model, Some(signature), options, true, Vec::new(), device, progress)?;
    let payload = statement::write(&hashed.manifest);
    Ok(Signed { bundle: Bundle::sign(payload, signer)?, hashed })
}

/// Who cannot verify what these options make. The Python rows are held by `tests/interop.rs`; those of Go come from
/// reading its source (OMS.md, a.8).
#[must_use]
pub fn who_cannot_verify(options: &SignOptions, single_file: bool) -> Vec<&'static str> {
    use Algorithm::{Blake2b, Blake3, Sha256};
    let shards = options.method.shard_size().map(|_| options.shard_naming);
    let mut who: Vec<&'static str> = match (shards, options.hash) {
        (None, Sha256) => vec![],
        (None, Blake3) => vec![
            "--hash blake3: the Python command line and the Go implementation cannot verify this (the Python library can)",
        ],
        (None, Blake2b) => vec![
            "--hash blake2b: the Python command line cannot verify this, and the Python library only if it is told the hash",
        ],
        (Some(ShardNaming::Spec), _) => vec![
            "--shards: neither the Python nor the Go implementation verifies the specification's form; --shards-compat writes theirs",
        ],
        (Some(ShardNaming::Compat), Sha256) => vec![
            "--shards-compat: the Python command line cannot verify this (the Python library and Go can), and the OMS schema refuses it",
        ],
        (Some(ShardNaming::Compat), Blake2b) => vec![
            "--shards-compat with blake2b: the Python command line cannot verify this, the Python library only if it is told the hash, and the OMS schema refuses it",
        ],
        (Some(ShardNaming::Compat), Blake3) => vec![
            "--shards-compat with blake3: neither the Python nor the Go implementation can verify this, and the OMS schema refuses it",
        ],
    };
    if single_file && options.single_file_name == SingleFileName::Basename {
        who.push("--single-file-name basename: the Python implementation cannot verify this");
    }
    who
}
