//! Digests and signatures of bytes that lie in a device's memory, where they lie.
//!
//! What comes out says: at that time these bytes had this digest. The caller's memory can be written to afterwards, and
//! which name belongs to which memory is the caller's word, so a result is [`Measured`], which never becomes
//! [`Verified`](crate::Verified).

mod place;
mod spread;
mod verdict;
mod verify;

use std::collections::HashSet;
use std::time::{Instant, SystemTime};

use crate::bundle::Bundle;
use crate::device::{Backend, DeviceError, DeviceKind, Hashed, Job, Want};
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, FormatError};
use crate::layout::{Extent, Layout};
use crate::manifest::{Manifest, Method, Resource, ResourceName, SINGLE_FILE, Serialization, ShardNaming};
use crate::report::Note;
use crate::sign::{self, Signed, Signer};
use crate::source::IgnoreSet;
use crate::statement;

pub(crate) use spread::chunk;

pub use place::{PlacementError, ResidentTensor, Strides};
pub use verdict::{MeasuredAsSigned, MeasuredFile, Mismatch};
pub use verify::{Head, ResidentFile, verify_resident};

/// A device that holds some of the memory, and the stream behind which that memory is what it shall be.
#[derive(Debug)]
pub struct OnDevice<'a, B: Backend> {
    /// The device.
    pub backend: &'a B,
    /// The caller's queue, if work on the memory may still be in it.
    pub after: Option<&'a B::Stream>,
}

impl<'a, B: Backend> OnDevice<'a, B> {
    /// A device on whose memory no work is under way.
    #[must_use]
    pub const fn idle(backend: &'a B) -> Self {
        Self { backend, after: None }
    }
}

// Derived, these would ask the same of B, of which only a reference is held.
impl<B: Backend> Clone for OnDevice<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for OnDevice<'_, B> {}

/// Has the jobs of each device done, on all devices at once, each behind its stream: one result a job, in order.
///
/// # Errors
/// [`DeviceError`]; there is no result then, of any device.
pub(crate) fn hash_on_all<B: Backend>(
    devices: &[OnDevice<'_, B>],
    jobs: &[Vec<Job<'_, B::Buffer>>],
) -> Result<Vec<Vec<Hashed>>, DeviceError> {
    let mut tickets = Vec::with_capacity(devices.len());
    for (device, jobs) in devices.iter().zip(jobs) {
        tickets.push(if jobs.is_empty() { None } else { Some(device.backend.submit(jobs, device.after)?) });
    }
    let mut results = Vec::with_capacity(devices.len());
    for ((device, jobs), ticket) in devices.iter().zip(jobs).zip(tickets) {
        let hashed = ticket.map_or(Ok(Vec::new()), |ticket| device.backend.wait(ticket))?;
        if hashed.len() != jobs.len() {
            return Err(DeviceError::NoResult { device: device.backend.kind() });
        }
        results.push(hashed);
    }
    Ok(results)
}

/// The digest of one string in a device's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measured {
    /// When the device had read the bytes; it began to when it was asked.
    pub at: SystemTime,
    /// Which device.
    pub device: DeviceKind,
    /// Bytes.
    pub len: u64,
    /// Their BLAKE3 digest.
    pub digest: Digest,
}

/// BLAKE3 digests of strings in device memory, in order, all in one submit behind the work in `after`.
///
/// # Errors
/// [`DeviceError`]; there is no digest then, of any string.
pub fn digest_resident<B: Backend>(
    backend: &B,
    layouts: &[Layout<'_, B::Buffer>],
    after: Option<&B::Stream>,
) -> Result<Vec<Measured>, DeviceError> {
    let jobs: Vec<_> = layouts.iter().map(|layout| Job { layout: layout.clone(), want: Want::Root }).collect();
    let hashed = backend.wait(backend.submit(&jobs, after)?)?;
    let at = SystemTime::now();
    let device = backend.kind();
    let none = || DeviceError::NoResult { device: device.clone() };
    if hashed.len() != layouts.len() {
        return Err(none());
    }
    let measured = |(layout, hashed): (&Layout<'_, _>, Hashed)| match hashed {
        Hashed::Root(digest) if digest.algorithm() == Algorithm::Blake3 => {
            Ok(Measured { at, device: device.clone(), len: layout.len(), digest })
        }
        _ => Err(none()),
    };
    layouts.iter().zip(hashed).map(measured).collect()
}

/// One piece of a string: the index of its device, `None` for bytes of the host, and where it lies.
pub type Part<'a, B> = (Option<usize>, Extent<'a, B>);

/// The BLAKE3 digest of a string whose pieces lie on several devices, or on the host: see [`verify_resident`], which asks the
/// same of files.
///
/// # Errors
/// [`DeviceError`]; there is no digest then.
pub fn digest_of_parts<B: Backend>(
    devices: &[OnDevice<'_, B>],
    parts: Vec<Part<'_, B::Buffer>>,
) -> Result<Digest, DeviceError> {
    let whole = spread::Spread::new(parts)?;
    let none = || DeviceError::NoResult { device: devices.first().map_or(DeviceKind::Cpu, |on| on.backend.kind()) };
    if devices.is_empty() {
        return Err(none());
    }
    spread::digests(devices, &[whole])?.pop().ok_or_else(none)
}

/// How to sign what lies in device memory.
#[derive(Debug, Clone)]
pub struct ResidentOptions {
    /// The OMS digest. A device takes BLAKE3 and no other.
    pub hash: Algorithm,
    /// Model-relative paths that verifiers shall not count as part of the model, such as its configuration, of which
    /// nothing lies on a device. Nothing is signed of them.
    pub ignore_paths: Vec<String>,
}

impl Default for ResidentOptions {
    fn default() -> Self {
        Self { hash: Algorithm::Blake3, ignore_paths: Vec::new() }
    }
}

/// Signs weights as they lie on a device: each layout is the bytes of the file of that name. Nothing is read from disk,
/// and the key never comes near the device.
///
/// The bundle verifies like any other, against files with these bytes. It says what the caller says: that these names
/// belong to this memory, and that the memory held the weights when it was read. A [`Note::MeasuredInMemory`] in the
/// result records where and when that was.
///
/// # Errors
/// [`DeviceError::Algorithm`] for another hash than BLAKE3, [`Error::Statement`] for an empty list, a name that stands
/// twice, that is ignored, or that no file can have beside the others, [`Error::Source`] for an ignored path that is none, [`Error::Device`] if the device fails,
/// [`Error::Sign`] if the signer does.
pub fn sign_resident<B: Backend>(
    backend: &B,
    model: &str,
    resources: &[(ResourceName, Layout<'_, B::Buffer>)],
    signer: &dyn Signer,
    options: &ResidentOptions,
    after: Option<&B::Stream>,
) -> Result<Signed, Error> {
    let begun = Instant::now();
    if options.hash != Algorithm::Blake3 {
        return Err(DeviceError::Algorithm { device: backend.kind(), algorithm: options.hash }.into());
    }
    let mut ignore = IgnoreSet::new();
    for path in &options.ignore_paths {
        ignore.insert(path)?;
    }
    let manifest = |digests: &mut dyn Iterator<Item = Digest>| {
        let resource = |((name, _), digest): (&(ResourceName, _), Digest)| Resource {
            name: name.clone(),
            digest,
            blake3: None,
            size: None,
            tensors: None,
        };
        let mut resources: Vec<Resource> = resources.iter().zip(digests).map(resource).collect();
        resources.sort_by(|a, b| a.name.cmp(&b.name));
        let serialization = Serialization {
            method: Method::Files,
            hash: options.hash,
            shard_naming: ShardNaming::default(),
            allow_symlinks: false,
            ignore_paths: Some(ignore.iter().map(str::to_owned).collect()),
        };
        Manifest::new(model.to_owned(), serialization, resources).map_err(Error::Statement)
    };
    // What cannot be signed is refused before the device is asked.
    let nothing = Digest::of32(Algorithm::Blake3, [0; 32]);
    manifest(&mut std::iter::repeat_n(nothing, resources.len()))?;
    if let Some((name, path)) = resources.iter().find_map(|(name, _)| Some((name, ignore.covering(name.as_str())?))) {
        let (name, path) = (name.to_string(), path.to_owned());
        return Err(Error::Statement(FormatError::SignedAndIgnored { name, path }));
    }
    one_folder(resources.iter().map(|(name, _)| name.as_str())).map_err(Error::Statement)?;

    let layouts: Vec<_> = resources.iter().map(|(_, layout)| layout.clone()).collect();
    let measured = digest_resident(backend, &layouts, after)?;
    let bytes = measured.iter().map(|measured| measured.len).sum();
    let at = measured.iter().map(|measured| measured.at).max().unwrap_or(SystemTime::UNIX_EPOCH);
    let manifest = manifest(&mut measured.into_iter().map(|measured| measured.digest))?;
    let payload = statement::write(&manifest);
    let hashed = sign::Hashed {
        manifest,
        algorithms: vec![options.hash],
        device: backend.kind(),
        files: 0,
        bytes,
        elapsed: begun.elapsed(),
        empty: Vec::new(),
        followed: Vec::new(),
        notes: vec![Note::MeasuredInMemory { device: backend.kind(), at }],
        tensors: None,
        outboard: None,
    };
    Ok(Signed { bundle: Bundle::sign(payload, signer)?, hashed })
}

/// Whether there can be files of all these names at once. If not, what is signed could be verified nowhere.
fn one_folder<'a>(names: impl ExactSizeIterator<Item = &'a str> + Clone) -> Result<(), FormatError> {
    let all: HashSet<&str> = names.clone().collect();
    for name in names {
        if name == SINGLE_FILE && all.len() > 1 {
            let why = "it names the only file of a model, and there are others";
            return Err(FormatError::Name { name: name.to_owned(), why });
        }
        let mut folders = name.match_indices('/').map(|(at, _)| &name[..at]);
        if let Some(folder) = folders.find(|folder| all.contains(folder)) {
            let why = "it is a file, and another name lies below it";
            return Err(FormatError::Name { name: folder.to_owned(), why });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
