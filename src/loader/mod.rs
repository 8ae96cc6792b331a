//! From files into the memory of a device, where they stay locked until they are found to be what was signed.
//!
//! [`load_verified`] reads each byte from disk once, straight into the memory that it will be used from, and takes digests of
//! that memory. Nothing is handed out before all of it is found to be what was signed. docs/loading.md says what that proves
//! and what not.
//!
//! One byte's path: `mod.rs` lists what there is to load, `place.rs` reads it to where it stays in memory of the host,
//! or `staged.rs` reads it into blocks and uploads them, `turns.rs` has the host's digests of blocks, `behind.rs` the
//! device's of what arrived, `locked.rs` keeps both until `src/verify/admit.rs` has compared them, and `model.rs` is what comes
//! out.

mod alignment;
mod behind;
mod direct;
mod fetch;
mod locked;
mod model;
mod parts;
mod place;
mod root;
mod staged;
mod stored;
#[cfg(test)]
mod tests;
mod turns;
#[cfg(feature = "io-uring")]
mod uring;

use std::collections::BTreeSet;
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

pub use fetch::ReadMode;
pub(crate) use locked::Found;
pub use locked::Loaded;
use model::Rest;
pub use model::{LoadReport, LoadedModel, View};
pub use parts::{LoadedFile, ModelParts};
pub use root::{ModelOf, model_of};

use crate::bundle::Bundle;
use crate::device::cpu::{Algorithms, Cpu, Io, Progress, Settings};
use crate::device::{Backend, Device, DeviceError, DeviceKind, Pages, StoragePath};
use crate::digest::Algorithm;
use crate::error::Error;
use crate::format::{Format, Index, IndexFault};
use crate::manifest::{Manifest, ResourceName};
use crate::policy::Policy;
use crate::report::Report;
use crate::source::{IgnoreSet, Model};
use crate::tensors::{FILE_NAME, MAX_LEN};
use crate::verify::{
    Admission, Asked, Decided, DigestChoice, Nobody, ToRead, Verified, Verifier, VerifyOptions, unsigned,
};

/// Runs the page's example.
#[cfg(doctest)]
#[doc = include_str!("../../docs/loading.md")]
struct Page;

/// How to load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// What counts as the model, and which digests are compared. By default [`DigestChoice::Fastest`]: BLAKE3, which a
    /// device takes of its own memory, where it is signed. An outboard is refused: loading does not say where a file differs.
    pub verify: VerifyOptions,
    /// How files are read.
    pub read: ReadMode,
    /// Threads that read, and hash on the host; as many as this process may use, if `None`.
    pub threads: Option<NonZeroUsize>,
    /// What the memory is made of, on the CPU device. Another device has no huge pages and refuses.
    pub pages: Pages,
    /// Files that hold no tensors are kept up to so many bytes each, and 4 times that in all, the shortest first. The
    /// others are verified, and not held: the report names them. An index of shards and a tensor manifest are always kept.
    pub keep: u64,
    /// Only these files of the model, by their names in it: no byte of the others is read. All of the model is listed in any
    /// case. An index of shards and a tensor manifest are looked at if they are named, too.
    pub only: Option<BTreeSet<String>>,
    /// To end it before it is done.
    pub cancel: Cancel,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            verify: VerifyOptions { digests: DigestChoice::Fastest, ..VerifyOptions::default() },
            read: ReadMode::default(),
            threads: None,
            pages: Pages::default(),
            keep: 64 << 20,
            only: None,
            cancel: Cancel::default(),
        }
    }
}

/// Ends a load from elsewhere. Clones are one and the same.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends it: no more is read, and nothing is handed out. What is being read is finished, up to a few megabytes; a file
    /// that is verified and not held, to its end.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether that was asked for.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// One file to load.
#[derive(Debug, Clone)]
struct Item {
    name: ResourceName,
    path: PathBuf,
    len: u64,
}

/// What all that work on one load share.
struct Run<'a> {
    model: &'a Path,
    shard: Option<NonZeroU64>,
    threads: usize,
    read: ReadMode,
    cancel: &'a Cancel,
    progress: &'a dyn Progress,
    /// Which way bytes took that a device read by itself.
    storage: OnceLock<StoragePath>,
}

impl<'a> Run<'a> {
    fn new(
        model: &'a Path,
        shard: Option<NonZeroU64>,
        threads: usize,
        options: &'a LoadOptions,
        progress: &'a dyn Progress,
    ) -> Self {
        Self { model, shard, threads, read: options.read, cancel: &options.cancel, progress, storage: OnceLock::new() }
    }

    /// Whether to go on.
    fn check(&self) -> Result<(), Error> {
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled { path: self.model.to_owned() });
        }
        if self.progress.stopped() { Err(Error::Stopped) } else { Ok(()) }
    }
}

/// The strings of a file of `len` bytes: itself, or its shards.
fn strings(len: u64, shard: Option<NonZeroU64>) -> impl Iterator<Item = Range<u64>> {
    let size = shard.map_or(u64::MAX, NonZeroU64::get);
    let count = if shard.is_none() { 1 } else { len.div_ceil(size) };
    (0..count).map(move |index| index * size..(index * size).saturating_add(size).min(len))
}

/// What has been read: its name, and the memory. The companions come last.
type Locked<B> = Vec<(ResourceName, Loaded<Held<B>>)>;

/// Where a file's bytes are held.
enum Held<B: Backend> {
    Device(B::Buffer),
    Host(Vec<u8>),
}

/// Loads the model at `model` into the memory of `backend`, and gives it out if it is what the bundle at `signature` says.
///
/// The model is a folder or a single file. Files of tensors (safetensors and GGUF, by their names) become one buffer
/// each; see [`LoadOptions::keep`] for the others. Files that are missing, that are not signed, or of another length are
/// found before anything is read. A tensor manifest that was signed with the model must be about the files that were loaded:
/// their headers are compared with it, and no tile.
///
/// # Errors
/// [`Error::Verify`] if the answer is no, [`Error::Header`], [`Error::Index`] and [`Error::Parts`] for signed files of tensors
/// that cannot be used, [`Error::Cancelled`]; any other error if no answer could be had. Every buffer has been dropped then.
pub fn load_verified<B: Backend>(
    model: &Path,
    signature: &Path,
    verifier: &dyn Verifier,
    options: &LoadOptions,
    backend: &B,
    progress: &dyn Progress,
) -> Result<Verified<LoadedModel<B>>, Error> {
    let begun = Instant::now();
    let bundle = Bundle::read(signature, options.verify.max_bundle.get())?;
    let signed = bundle.verify(verifier)?;
    let (signatures, claims) = (&[signature], vec![(&bundle, &signed)]);
    let claimed = Claimed { model, resolved: None, signatures, claims, verify: &options.verify, begun };
    load_claimed(claimed, options, backend, progress, |_| {})
}

/// Loads the model at `model` as [`load_verified`] does, and gives it out if it is what the bundles at `signatures` say, and
/// `policy` accepts these for it.
///
/// [`verify_with_policy`](crate::verify_with_policy) says which signatures that takes. `options` may ask for more than the
/// rules do, not for less; the device that a rule asks for is that of `backend`. The report tells which rule was satisfied
/// by whom ([`Report::policy`]).
///
/// # Errors
/// Those of [`load_verified`], and [`VerifyError::Policy`](crate::VerifyError::Policy) where it is the policy that says no.
pub fn load_with_policy<B: Backend>(
    model: &Path,
    signatures: &[&Path],
    policy: &Policy,
    options: &LoadOptions,
    backend: &B,
    progress: &dyn Progress,
) -> Result<Verified<LoadedModel<B>>, Error> {
    let begun = Instant::now();
    let decided = Decided::new(model, signatures, policy, &options.verify, &backend.kind(), &mut Nobody)?;
    let claims = decided.claims().collect();
    let (resolved, verify) = (Some(decided.resolved()), decided.options());
    let claimed = Claimed { model, resolved, signatures, claims, verify, begun };
    load_claimed(claimed, options, backend, progress, |report| decided.tell(report))
}

/// What is said of a model, by those who are believed.
struct Claimed<'a> {
    model: &'a Path,
    resolved: Option<&'a Path>,
    signatures: &'a [&'a Path],
    claims: Vec<(&'a Bundle, &'a Verified<Manifest>)>,
    verify: &'a VerifyOptions,
    begun: Instant,
}

/// Loads it, if that is so.
fn load_claimed<B: Backend>(
    claimed: Claimed<'_>,
    options: &LoadOptions,
    backend: &B,
    progress: &dyn Progress,
    tell: impl FnOnce(&mut Report),
) -> Result<Verified<LoadedModel<B>>, Error> {
    let Claimed { model, resolved, signatures, claims, verify, begun } = claimed;
    let Some(&(_, signed)) = claims.first() else { return Err(unsigned()) };
    let cpu = Cpu::open(Settings { threads: options.threads, io: Io::Auto })?;
    let host = Device::Cpu(cpu);
    let (kind, quiet) = (backend.kind(), Quiet(progress));
    let admission = Admission::new(Asked {
        model,
        resolved,
        signatures,
        claims,
        options: verify,
        only: options.only.as_ref(),
        host: &host,
        kind,
        progress: &quiet,
        begun,
    })?;
    let sorted = Sorted::new(admission.files(), admission.is_single(), options.keep)?;
    progress.begin(admission.files().len(), Some(admission.files().iter().map(|file| file.len).sum()));
    let run = Run::new(model, signed.serialization().method.shard_size(), cpu.threads(), options, progress);
    run.check()?;
    let others = admission.measure(|file| sorted.others.binary_search(&file.name).is_ok())?;
    run.check()?;

    let items = |files: &[&ToRead]| -> Vec<Item> {
        let item = |file: &&ToRead| Item {
            name: ResourceName::of_file(&file.name, None),
            path: file.path.clone(),
            len: file.len,
        };
        files.iter().map(item).collect()
    };
    let (tensors, companions) = (items(&sorted.tensors), items(&sorted.companions));
    let names = sorted.tensors.iter().chain(&sorted.companions).zip(tensors.iter().chain(&companions));
    let names = names.map(|(file, item)| (file.title.clone(), item.name.clone())).collect();
    let Sorted { others: not_held, manifest, .. } = sorted;
    let (single, not_asked) = (admission.is_single(), admission.not_asked().iter().cloned().collect());
    let locked = load(backend, &tensors, &companions, admission.algorithms(), &run, options.pages)?;
    let admitted = admission.admit(locked, others)?;
    let storage = run.storage.get().copied();
    admitted.derive(|(mut report, held, asked)| {
        tell(&mut report);
        let mut loaded = LoadedModel::new(backend, model, names, held, report, Rest { not_held, not_asked }, options)?;
        if !single {
            loaded.check_parts()?;
        }
        loaded.check_tensors(asked, signed, manifest)?;
        Ok(loaded.read_by(storage))
    })
}

/// Files by their names, each locked in memory of a device.
pub type LockedFiles<B> = Vec<(ResourceName, Loaded<<B as Backend>::Buffer>)>;

/// Reads the files of tensors of a model into the memory of `backend`, and gives none of it out: there is nothing yet to
/// compare it with. With `measure`, digests are taken, and [`Loaded::admit`] can open what was signed as whole files;
/// without, nobody ever can, and the time that it takes is that of a load without a check.
///
/// # Errors
/// Those of [`load_verified`], but for what speaks against a model.
pub fn load_locked<B: Backend>(
    model: &Path,
    measure: Option<Algorithm>,
    options: &LoadOptions,
    backend: &B,
    progress: &dyn Progress,
) -> Result<LockedFiles<B>, Error> {
    let links = options.verify.symlinks;
    let cpu = Cpu::open(Settings { threads: options.threads, io: Io::Auto })?;
    let scan = Model::open(model, links)?.scan(&IgnoreSet::new(), links, false)?;
    let mut items = Vec::new();
    for file in scan.files.iter().filter(|file| Format::of_name(file.name()).is_some()) {
        let path = file.path();
        let len = std::fs::symlink_metadata(&path).map_err(Error::io("examine", path.as_path()))?.len();
        items.push(Item { name: ResourceName::of_file(file.name(), None), path, len });
    }
    progress.begin(items.len(), Some(items.iter().map(|item| item.len).sum()));
    let run = Run::new(model, None, cpu.threads(), options, progress);
    run.check()?;
    let locked = load(backend, &items, &[], measure.into_iter().collect(), &run, options.pages)?;
    let open = |(name, loaded): (ResourceName, Loaded<Held<B>>)| match loaded.buffer {
        Held::Device(buffer) => {
            let Loaded { device, found, len, shards, .. } = loaded;
            Some((name, Loaded { buffer, device, found, len, shards }))
        }
        Held::Host(_) => None,
    };
    Ok(locked.into_iter().filter_map(open).collect())
}

/// Tells how far it is; that it begins is told once, for everything.
struct Quiet<'a>(&'a dyn Progress);

impl Progress for Quiet<'_> {
    fn advance(&self, bytes: u64, files: usize) {
        self.0.advance(bytes, files);
    }

    fn stopped(&self) -> bool {
        self.0.stopped()
    }
}

/// Which file goes where.
struct Sorted<'a> {
    tensors: Vec<&'a ToRead>,
    companions: Vec<&'a ToRead>,
    /// Names of what is not held.
    others: Vec<String>,
    /// How long the model's tensor manifest is.
    manifest: Option<u64>,
}

impl<'a> Sorted<'a> {
    /// In a model of a `single` file no file is a tensor manifest.
    fn new(files: &'a [ToRead], single: bool, keep: u64) -> Result<Self, Error> {
        let (tensors, mut rest): (Vec<_>, Vec<_>) =
            files.iter().partition(|file| Format::of_name(&file.title).is_some());
        rest.sort_by_key(|file| file.len);
        let (mut companions, mut others, mut left) = (Vec::new(), Vec::new(), keep.saturating_mul(4));
        let mut manifest = None;
        for file in rest {
            // Needed whatever its length. One that is too long is refused, but is first of all to be as signed.
            let needed = !single && file.title == FILE_NAME;
            if needed {
                manifest = Some(file.len);
            }
            // An index is looked at in any case.
            let index = Index::is_name(&file.title);
            if index && file.len > Index::MAX_BYTES {
                let source = IndexFault::TooLong { len: file.len, limit: Index::MAX_BYTES };
                return Err(Error::Index { path: file.path.clone(), source });
            }
            if index || (needed && file.len <= MAX_LEN) || file.len <= keep.min(left) {
                left = left.saturating_sub(file.len);
                companions.push(file);
            } else {
                others.push(file.name.clone());
            }
        }
        others.sort();
        Ok(Self { tensors, companions, others, manifest })
    }
}

/// Reads everything, takes the digests, opens nothing.
fn load<B: Backend>(
    backend: &B,
    tensors: &[Item],
    companions: &[Item],
    algorithms: Algorithms,
    run: &Run<'_>,
    pages: Pages,
) -> Result<Locked<B>, Error> {
    if run.read == ReadMode::CuFile {
        stored::refuse(algorithms)?;
    }
    let mut buffers: Vec<B::Buffer> = Vec::with_capacity(tensors.len());
    for item in tensors {
        buffers.push(backend.alloc_on(item.len, pages)?);
    }
    let mut texts = companions.iter().map(zeros).collect::<Result<Vec<_>, _>>()?;
    let mut places: Vec<(&Item, &mut [u8])> = Vec::new();
    places.extend(companions.iter().zip(texts.iter_mut().map(Vec::as_mut_slice)));
    let in_place = buffers.first_mut().is_some_and(|buffer| backend.on_host(buffer).is_some());
    if in_place && run.read == ReadMode::CuFile {
        return Err(stored::refuse_host(&backend.kind()));
    }
    if in_place {
        for (item, buffer) in tensors.iter().zip(&mut buffers) {
            // A buffer of another length would be hashed as another file.
            let to = backend.on_host(buffer).filter(|to| to.len() as u64 == item.len);
            places.push((item, to.ok_or_else(|| DeviceError::NoResult { device: backend.kind() })?));
        }
    }
    let mut of_companions = place::fill(places, algorithms, run)?;
    let mut found = of_companions.split_off(companions.len());
    if !in_place {
        let items: Vec<&Item> = tensors.iter().collect();
        let (buffers, sizes) = (&mut buffers, behind::Sizes::default());
        found = match run.read {
            ReadMode::CuFile => stored::fill(backend, &items, buffers, algorithms, run, sizes)?,
            _ => staged::fill(backend, &items, buffers, algorithms, run, sizes)?,
        };
    }
    let locked = |item: &Item, buffer, device, found| {
        (item.name.clone(), Loaded { buffer, device, found, len: item.len, shards: run.shard.is_some() })
    };
    let on_device = tensors.iter().zip(buffers).zip(found);
    let on_device = on_device.map(|((item, buffer), found)| locked(item, Held::Device(buffer), backend.kind(), found));
    let on_host = companions.iter().zip(texts).zip(of_companions);
    let on_host = on_host.map(|((item, text), found)| locked(item, Held::Host(text), DeviceKind::Cpu, found));
    Ok(on_device.chain(on_host).collect())
}

/// Room for a companion, or an error where the allocator would end the process.
fn zeros(item: &Item) -> Result<Vec<u8>, DeviceError> {
    let none = || DeviceError::OutOfMemory { device: DeviceKind::Cpu, what: "a file", bytes: item.len };
    let len = usize::try_from(item.len).map_err(|_| none())?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| none())?;
    bytes.resize(len, 0);
    Ok(bytes)
}
