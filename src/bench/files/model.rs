//! A model to measure with: files of tensors as the hub has them, and a signature by a key that was made for this run.
//!
//! Its bytes are a BLAKE3 output stream, always the same: no disk compresses them. What the digests have to be is computed
//! while they are written, by the `blake3` and `sha2` crates alone, from the memory that they are written from.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::Work;
use crate::bench::Failure;
use crate::bench::report::Folder;
use crate::bench::shapes::{Shaped, Tensor, header};
use crate::device::Device;
use crate::device::cpu::{Cpu, Settings, Silent};
use crate::digest::{Algorithm, Digest};
use crate::error::Error;
use crate::key::{Curve, PrivateKey};
use crate::manifest::Manifest;
use crate::output::Existing;
use crate::sign::{KeySigner, SignOptions, sign};
use crate::verify::KeyVerifier;

/// Bytes of a file at most, in a model that is whole: the hub's libraries cut there.
const SHARD: u64 = 5_000_000_000;

/// Bytes that are written at once.
const BLOCK: usize = 1 << 20;

/// A file of the model, and what its digests are.
#[derive(Debug, Clone)]
pub(in crate::bench) struct WrittenFile {
    pub(in crate::bench) path: PathBuf,
    pub(in crate::bench) len: u64,
    pub(in crate::bench) sha256: Digest,
    pub(in crate::bench) blake3: Digest,
}

impl WrittenFile {
    pub(in crate::bench) fn digest(&self, algorithm: Algorithm) -> Option<Digest> {
        [self.sha256, self.blake3].into_iter().find(|digest| digest.algorithm() == algorithm)
    }
}

/// A model on disk, signed, and what is known of it. Its folder is gone when this is dropped.
#[derive(Debug)]
pub struct Written {
    work: Work,
    pub(super) name: String,
    /// All files, by the names that they are signed by: files of tensors, and the others.
    pub(super) files: BTreeMap<String, WrittenFile>,
    /// Names of the files of tensors, in order.
    tensor_files: Vec<String>,
    pub(super) signer: KeySigner,
    pub(super) trusted: KeyVerifier,
    pub(super) on: Folder,
}

impl Written {
    /// Writes a model of this shape into `work`, in several files where the whole model would be, signs it, and keeps
    /// `work` as long. All of it is on the disk then, and not on its way there.
    ///
    /// # Errors
    /// [`Failure::Io`], and whatever signing says. [`Failure::WrongOfFiles`] if signing gives other digests than the
    /// crates `blake3` and `sha2`.
    pub fn new(work: Work, shaped: &Shaped) -> Result<Self, Failure> {
        let whole = shaped.family.whole().bytes().max(1);
        // As many files as the whole would be, or about so.
        let most = u128::from(SHARD) * u128::from(shaped.bytes()) / u128::from(whole);
        Self::cut(work, shaped, u64::try_from(most).unwrap_or(u64::MAX))
    }

    /// The same in files of at most so many bytes of tensors, but that a tensor is never cut.
    pub(super) fn cut(work: Work, shaped: &Shaped, most: u64) -> Result<Self, Failure> {
        let model = work.path().join("model");
        fs::create_dir(&model).map_err(Failure::io("create the folder", &model))?;
        let groups = groups(&shaped.tensors, most);
        let count = groups.len();
        let (mut files, mut tensor_files, mut map) = (BTreeMap::new(), Vec::new(), String::new());
        for (index, tensors) in groups.into_iter().enumerate() {
            let name = match count {
                1 => "model.safetensors".to_owned(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
            };
            for tensor in tensors {
                // Names of tensors are those of our own tables.
                let _ = write!(map, "{}\"{}\":\"{name}\"", if map.is_empty() { "" } else { "," }, tensor.name);
            }
            let bytes = tensors.iter().map(Tensor::bytes).sum();
            files.insert(name.clone(), write_file(model.join(&name), &header(tensors), bytes, index as u64)?);
            tensor_files.push(name);
        }
        let total = shaped.bytes();
        let index = format!(r#"{{"metadata":{{"total_size":{total}}},"weight_map":{{{map}}}}}"#);
        let mut texts = vec![("config.json", r#"{"architectures":["Bench"]}"#.to_owned())];
        if count > 1 {
            texts.push(("model.safetensors.index.json", index));
        }
        for (name, text) in texts {
            files.insert(name.to_owned(), write_file(model.join(name), text.as_bytes(), 0, 0)?);
        }
        let key = PrivateKey::generate(Curve::P256).map_err(|error| Error::Sign(error.into()))?;
        let public = key.public_key();
        public.write(&work.path().join("key.pub"), Existing::Keep)?;
        let on = Folder::of(work.path());
        let (signer, trusted) = (KeySigner::new(key), KeyVerifier::new(public));
        let written = Self { work, name: shaped.name(), files, tensor_files, signer, trusted, on };
        written.sign()?;
        Ok(written)
    }

    /// Signs it, as `sign` does if nothing else is said: SHA-256, and BLAKE3 beside it.
    fn sign(&self) -> Result<(), Failure> {
        let device = Device::Cpu(Cpu::open(Settings::default())?);
        let signed = sign(&self.model(), &self.signature(), &self.signer, &SignOptions::default(), &device, &Silent)?;
        self.check(&signed.hashed.manifest, &[Algorithm::Sha256, Algorithm::Blake3]).map_err(|how| {
            let (device, name) = (device.kind(), "sha256 + blake3".to_owned());
            Failure::WrongOfFiles { device, what: crate::bench::report::What::Sign, name, how }
        })?;
        Ok(signed.write(&self.signature())?)
    }

    /// Whether a manifest has each file with the digests that it has, and no other; how not, otherwise.
    pub(super) fn check(&self, manifest: &Manifest, algorithms: &[Algorithm]) -> Result<(), String> {
        if manifest.resources().len() != self.files.len() {
            return Err(format!("{} files, where there are {}", manifest.resources().len(), self.files.len()));
        }
        for (name, file) in &self.files {
            let resource = manifest.get(name).ok_or_else(|| format!("nothing of {name}"))?;
            for &algorithm in algorithms {
                let (expected, found) = (file.digest(algorithm), resource.digest_by(algorithm));
                if expected.is_none() || found != expected {
                    let hex =
                        |digest: Option<Digest>| digest.map_or_else(|| "none".to_owned(), |digest| digest.to_hex());
                    return Err(format!("{algorithm} of {name} is {}, not {}", hex(expected), hex(found)));
                }
            }
        }
        Ok(())
    }

    /// The folder that everything is in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.work.path()
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> PathBuf {
        self.work.path().join("model")
    }

    /// Its signature: SHA-256, and BLAKE3 beside it.
    #[must_use]
    pub fn signature(&self) -> PathBuf {
        self.work.path().join("model.sig")
    }

    /// The public key of whoever signed it.
    #[must_use]
    pub fn public_key(&self) -> PathBuf {
        self.work.path().join("key.pub")
    }

    /// What it is: a family, and how much of it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of all its files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.len).sum()
    }

    /// Its files of tensors, in order.
    pub(in crate::bench) fn tensor_files(&self) -> impl Iterator<Item = &WrittenFile> {
        self.tensor_files.iter().filter_map(|name| self.files.get(name))
    }

    /// Bytes of its files of tensors.
    #[must_use]
    pub fn tensor_bytes(&self) -> u64 {
        self.tensor_files().map(|file| file.len).sum()
    }
}

/// The tensors of each file: as many in a row as have no more than `most` bytes, or one that has more.
fn groups(tensors: &[Tensor], most: u64) -> Vec<&[Tensor]> {
    let (mut groups, mut begin, mut bytes) = (Vec::new(), 0, 0);
    for (index, tensor) in tensors.iter().enumerate() {
        if index > begin && bytes + tensor.bytes() > most {
            groups.push(&tensors[begin..index]);
            (begin, bytes) = (index, 0);
        }
        bytes += tensor.bytes();
    }
    groups.push(&tensors[begin..]);
    groups
}

/// A new file that begins with `head`, and `noise` bytes of the stream of this number; on the disk when this returns.
fn write_file(path: PathBuf, head: &[u8], noise: u64, stream: u64) -> Result<WrittenFile, Failure> {
    let write = || {
        let mut file = File::create_new(&path)?;
        let (mut blake3, mut sha256) = (blake3::Hasher::new(), Sha256::new());
        let mut put = |bytes: &[u8]| {
            blake3.update(bytes);
            sha256.update(bytes);
            file.write_all(bytes)
        };
        put(head)?;
        let mut stream = blake3::Hasher::new().update(b"tensorseal bench").update(&stream.to_le_bytes()).finalize_xof();
        let (mut block, mut left) = (vec![0; BLOCK], noise);
        while left > 0 {
            let len = left.min(BLOCK as u64);
            let block = &mut block[..len as usize];
            stream.fill(block);
            put(block)?;
            left -= len;
        }
        file.sync_all()?;
        let sha256 = Digest::of32(Algorithm::Sha256, sha256.finalize().into());
        Ok((sha256, Digest::of32(Algorithm::Blake3, *blake3.finalize().as_bytes())))
    };
    let (sha256, blake3) = write().map_err(Failure::io("write", path.as_path()))?;
    Ok(WrittenFile { len: head.len() as u64 + noise, path, sha256, blake3 })
}
