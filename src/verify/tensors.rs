//! From a signed manifest of files to a verified one of tensors.

use std::collections::BTreeSet;
use std::path::Path;

use blake2::Digest as _;

use super::Verified;
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, VerifyError};
use crate::format::Format;
use crate::input::read_small;
use crate::manifest::{Manifest, Resource, ResourceName};
use crate::tensors::{FILE_NAME, MAX_LEN, SourceFile, Stale, StaleTensors, TensorManifest, TensorRefusal};

impl Verified<Manifest> {
    /// The tensor manifest that was signed as the file `name` of the model, of which `bytes` are all.
    ///
    /// # Errors
    /// [`TensorRefusal`] if it is not signed, not as signed, no tensor manifest, lists a file that is not signed or was
    /// signed with another length, or leaves out a signed file of tensors.
    pub fn tensor_manifest(
        &self,
        name: &ResourceName,
        bytes: &[u8],
    ) -> Result<Verified<TensorManifest>, TensorRefusal> {
        let own = resources_of(self, name);
        if own.is_empty() {
            return Err(TensorRefusal::UnsignedManifest { name: name.to_string() });
        }
        let mut at = 0;
        for (resource, end) in own {
            // A single resource, or the shards one after the other.
            let part = bytes.get(at..).unwrap_or_default();
            let len = end.map_or(part.len(), |end| usize::try_from(end).unwrap_or(usize::MAX).saturating_sub(at));
            let found = digest_of(resource.digest.algorithm(), &part[..len.min(part.len())]);
            if found != resource.digest {
                let (name, expected) = (resource.name.to_string(), resource.digest);
                return Err(TensorRefusal::OtherManifest { name, expected, found });
            }
            at = at.saturating_add(len);
        }
        if at != bytes.len() {
            let source = crate::tensors::ManifestFault::Trailing { expected: at as u64, found: bytes.len() as u64 };
            return Err(TensorRefusal::Malformed { name: name.to_string(), source });
        }
        self.tensors_of(name.as_str(), bytes)
    }

    /// The tensor manifest that was signed with the model and lies outside of it, of which `bytes` are all. `name` is what
    /// errors call it.
    ///
    /// # Errors
    /// [`TensorRefusal`] if the signature names none, or another one, if it is no tensor manifest, or if it lists other
    /// files than those beside whose digests it is named, or leaves out a signed file of tensors.
    pub fn detached_tensor_manifest(
        &self,
        name: &str,
        bytes: &[u8],
    ) -> Result<Verified<TensorManifest>, TensorRefusal> {
        let Some(expected) = self.detached_tensors() else {
            return Err(TensorRefusal::UnsignedManifest { name: name.to_owned() });
        };
        let found = digest_of(expected.algorithm(), bytes);
        if found != expected {
            return Err(TensorRefusal::OtherManifest { name: name.to_owned(), expected, found });
        }
        let read = self.tensors_of(name, bytes)?;
        let listed = |name: &ResourceName| read.files().binary_search_by(|file| file.name.cmp(name)).is_ok();
        let stale: Vec<Stale> = self
            .resources()
            .iter()
            .filter_map(|resource| {
                let how = match (resource.tensors.is_some(), listed(&resource.name)) {
                    (false, true) => "is listed and signed without naming it",
                    (true, false) => "names it and is not listed",
                    _ => return None,
                };
                Some(Stale::File { name: resource.name.to_string(), how })
            })
            .collect();
        if stale.is_empty() {
            Ok(read)
        } else {
            Err(TensorRefusal::Stale { name: name.to_owned(), stale: StaleTensors(stale) })
        }
    }

    /// Reads what is known to be signed.
    fn tensors_of(&self, name: &str, bytes: &[u8]) -> Result<Verified<TensorManifest>, TensorRefusal> {
        let malformed = |source| TensorRefusal::Malformed { name: name.to_string(), source };
        let read = TensorManifest::parse(bytes).map_err(malformed)?;
        let mut stale: Vec<Stale> = read.files().iter().filter_map(|file| unlike_signed(self, file)).collect();
        // A file of tensors that was signed with it and is not in it would be one of which no tensor can be missed.
        let listed: BTreeSet<&str> = read.files().iter().map(|file| file.name.as_str()).collect();
        let unlisted =
            files_of(self).into_iter().filter(|name| Format::of_name(name).is_some() && !listed.contains(name));
        stale.extend(unlisted.map(|name| Stale::File { name: name.to_owned(), how: "is there and not listed" }));
        if !stale.is_empty() {
            return Err(TensorRefusal::Stale { name: name.to_string(), stale: StaleTensors(stale) });
        }
        Ok(self.vouches_for(read))
    }
}

/// The tensor manifest of the model at `model`, as all of `signed` vouch for it: that in the model, or the one in the
/// file `detached`. `None` if none was signed.
///
/// # Errors
/// [`TensorRefusal`] in [`VerifyError::Tensors`] if it is not what was signed, or not about these files; [`Error::TensorsElsewhere`] if one
/// was signed that is in no file of the model, and `detached` does not say where it is; [`Error::Io`].
pub fn tensor_manifest<'a>(
    model: &Path,
    signed: impl IntoIterator<Item = &'a Verified<Manifest>>,
    detached: Option<&Path>,
) -> Result<Option<Verified<TensorManifest>>, Error> {
    let signed: Vec<_> = signed.into_iter().collect();
    let own = ResourceName::of_file(FILE_NAME, None);
    let of_model = signed.iter().any(|signed| !resources_of(signed, &own).is_empty());
    let path = match detached {
        Some(path) => path.to_owned(),
        None if of_model => model.join(FILE_NAME),
        None if signed.iter().any(|signed| signed.detached_tensors().is_some()) => {
            return Err(Error::TensorsElsewhere { path: model.to_owned() });
        }
        None => return Ok(None),
    };
    let bytes = read_small(&path, MAX_LEN).map_err(Error::io("read tensor manifest", &path))?;
    let mut read = None;
    for signed in signed {
        let this = match detached {
            Some(path) => signed.detached_tensor_manifest(&path.to_string_lossy(), &bytes),
            None => signed.tensor_manifest(&own, &bytes),
        };
        let this = this.map_err(VerifyError::Tensors)?;
        read.get_or_insert(this);
    }
    Ok(read)
}

/// The names of all signed files.
fn files_of(signed: &Manifest) -> BTreeSet<&str> {
    let sharded = signed.serialization().method.shard_size().is_some();
    let names = signed.resources().iter().map(|resource| &resource.name);
    names.map(|name| name.shard().filter(|_| sharded).map_or(name.as_str(), |(file, _)| file)).collect()
}

/// The resource of a file, or its shards in order, each with the byte behind its last.
fn resources_of<'a>(signed: &'a Manifest, name: &ResourceName) -> Vec<(&'a Resource, Option<u64>)> {
    if signed.serialization().method.shard_size().is_none() {
        return signed.get(name.as_str()).into_iter().map(|resource| (resource, None)).collect();
    }
    let shard = |resource: &'a Resource| {
        let (file, range) = resource.name.shard()?;
        (file == name.as_str()).then_some((range.start, resource, range.end))
    };
    let mut shards: Vec<_> = signed.resources().iter().filter_map(shard).collect();
    shards.sort_unstable_by_key(|(start, ..)| *start);
    shards.into_iter().map(|(_, resource, end)| (resource, Some(end))).collect()
}

/// How a file that a tensor manifest lists is not one of the signed ones, as far as the statement says.
fn unlike_signed(signed: &Manifest, file: &SourceFile) -> Option<Stale> {
    let resources = resources_of(signed, &file.name);
    let size = match resources.last() {
        None => return Some(Stale::File { name: file.name.to_string(), how: "is listed and not signed" }),
        Some((_, Some(end))) => Some(*end),
        Some((resource, None)) => resource.size,
    };
    let other = size.is_some_and(|size| size != file.len);
    other.then(|| Stale::File { name: file.name.to_string(), how: "was signed with another length than is listed" })
}

/// The digest of bytes that are in memory.
fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    match algorithm {
        Algorithm::Sha256 => Digest::of32(algorithm, sha2::Sha256::digest(bytes).into()),
        Algorithm::Blake2b => Digest::of64(blake2::Blake2b512::digest(bytes).into()),
        Algorithm::Blake3 => Digest::of32(algorithm, *blake3::hash(bytes).as_bytes()),
    }
}
