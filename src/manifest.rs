//! What is signed of a model: a name and a digest for each resource, and how files became resources.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

use sha2::Digest as _;

use crate::digest::{Algorithm, Digest};
use crate::error::FormatError;
use crate::statement::StatementVersion;

/// The name of the only resource of a single-file model, in the form that every implementation verifies.
pub const SINGLE_FILE: &str = ".";

/// A resource's name: a path relative to the model, `/`-separated and in UTF-8, followed for a shard by `:start:end`.
///
/// Never absolute, never with `..`, never with an empty component. Names are compared byte by byte: no Unicode
/// normalisation, no case folding. Their order, by UTF-8 bytes, is the order of OMS v1.0, section 6.4.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName(Arc<str>);

impl ResourceName {
    /// Reads a name from a statement. `./a` and `a//b` are read as `a` and `a/b`, which is what they mean everywhere.
    ///
    /// # Errors
    /// [`FormatError::Name`] for names that are empty, absolute, end in `/`, or hold `..` or a NUL.
    pub fn parse(name: &str) -> Result<Self, FormatError> {
        let fault = |why| Err(FormatError::Name { name: name.to_owned(), why });
        if name == SINGLE_FILE {
            return Ok(Self(name.into()));
        }
        if name.starts_with('/') {
            return fault("it is absolute");
        }
        if name.ends_with('/') || name.ends_with("/.") {
            return fault("it names a directory");
        }
        if name.contains('\0') {
            return fault("it holds a NUL");
        }
        if name.split('/').any(|part| part == "..") {
            return fault("it climbs out with `..`");
        }
        let plain = !name.split('/').any(|part| part.is_empty() || part == ".");
        if plain {
            return Ok(Self(name.into()));
        }
        let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.is_empty() { fault("it is empty") } else { Ok(Self(parts.join("/").into())) }
    }

    /// A name that the walk over a model made, or one of a shard of such a file.
    pub(crate) fn of_file(name: &str, shard: Option<Range<u64>>) -> Self {
        Self::of_shared(&name.into(), shard)
    }

    /// The same of a name that others keep, too.
    pub(crate) fn of_shared(name: &Arc<str>, shard: Option<Range<u64>>) -> Self {
        Self(shard.map_or_else(|| Arc::clone(name), |shard| format!("{name}:{}:{}", shard.start, shard.end).into()))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// File and byte range of a shard: everything before the last two colons, since a path may hold colons itself
    /// (OMS v1.0, section 6.3.2). Numbers are plain decimal, without sign or leading zero.
    #[must_use]
    pub fn shard(&self) -> Option<(&str, Range<u64>)> {
        let (rest, end) = self.0.rsplit_once(':')?;
        let (path, start) = rest.rsplit_once(':')?;
        let number = |text: &str| {
            let plain = text.bytes().all(|digit| digit.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
            plain.then(|| text.parse().ok()).flatten()
        };
        // The path is a name of its own, and as strictly so.
        let normal = Self::parse(path).is_ok_and(|name| name.as_str() == path);
        normal.then_some((path, number(start)?..number(end)?))
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for ResourceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// How files become resources (OMS v1.0, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// One resource a file.
    Files,
    /// One resource for each `size` bytes of a file; none for an empty file.
    Shards {
        /// Bytes in a whole shard.
        size: NonZeroU64,
    },
}

impl Method {
    /// Bytes in a shard, if files are cut.
    #[must_use]
    pub const fn shard_size(self) -> Option<NonZeroU64> {
        match self {
            Self::Files => None,
            Self::Shards { size } => Some(size),
        }
    }
}

/// Which algorithm string stands in a shard's descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShardNaming {
    /// The specification's: `sha256`.
    #[default]
    Spec,
    /// That of the Python and Go implementations: `sha256-sharded-<size>`.
    Compat,
}

/// How a model was turned into resources, recorded so that a verifier can do the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serialization {
    /// Files or shards.
    pub method: Method,
    /// Algorithm of every resource's digest.
    pub hash: Algorithm,
    /// The algorithm string of shards.
    pub shard_naming: ShardNaming,
    /// Whether symlinks were followed.
    pub allow_symlinks: bool,
    /// Model-relative paths left out, sorted. `None` in bundles of before 1.1, which did not record them.
    pub ignore_paths: Option<Vec<String>>,
}

/// One signed resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: ResourceName,
    /// The OMS digest.
    pub digest: Digest,
    /// The BLAKE3 digest that Tensorseal signs beside it, if any.
    pub blake3: Option<Digest>,
    /// Bytes, where the signer recorded them.
    pub size: Option<u64>,
    /// The BLAKE3 digest of the tensor manifest that lists this file and lies outside of the model, where there is one.
    pub tensors: Option<Digest>,
}

impl Resource {
    /// The signed digest by `algorithm`, if there is one.
    #[must_use]
    pub fn digest_by(&self, algorithm: Algorithm) -> Option<Digest> {
        if self.digest.algorithm() == algorithm {
            Some(self.digest)
        } else {
            self.blake3.filter(|d| d.algorithm() == algorithm)
        }
    }
}

/// Every resource of a model: at least one, no name twice, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    model: String,
    serialization: Serialization,
    resources: Vec<Resource>,
    root: Digest,
    version: StatementVersion,
}

impl Manifest {
    /// A manifest of resources in the order in which they are, or will be, listed.
    ///
    /// # Errors
    /// [`FormatError`] if there is none, if two have one name or name two tensor manifests, or if shards do not tile their files.
    pub fn new(model: String, serialization: Serialization, mut resources: Vec<Resource>) -> Result<Self, FormatError> {
        if resources.is_empty() {
            return Err(FormatError::NoResources);
        }
        let root = root_of(resources.iter().map(|resource| &resource.digest));
        if !resources.is_sorted_by(|a, b| a.name <= b.name) {
            resources.sort_by(|a, b| a.name.cmp(&b.name));
        }
        if let Some(pair) = resources.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(FormatError::DoubleName { name: pair[0].name.to_string() });
        }
        let mut named = resources.iter().filter_map(|resource| Some((resource, resource.tensors?)));
        if let Some((_, first)) = named.next()
            && let Some((other, found)) = named.find(|(_, found)| *found != first)
        {
            return Err(FormatError::TwoTensorManifests { name: other.name.to_string(), expected: first, found });
        }
        if let Method::Shards { size } = serialization.method {
            check_tiling(&resources, size)?;
        }
        Ok(Self { model, serialization, resources, root, version: StatementVersion::Signature10 })
    }

    /// The model's name, as the signer wrote it. It identifies nothing.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Which generation of statement it was read from.
    #[must_use]
    pub const fn version(&self) -> StatementVersion {
        self.version
    }

    pub(crate) fn of_version(self, version: StatementVersion) -> Self {
        Self { version, ..self }
    }

    /// How the model was turned into resources.
    #[must_use]
    pub const fn serialization(&self) -> &Serialization {
        &self.serialization
    }

    /// All resources, sorted by name.
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// The resource with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Resource> {
        let at = self.resources.binary_search_by(|resource| resource.name.as_str().cmp(name)).ok()?;
        self.resources.get(at)
    }

    /// The BLAKE3 digest of the tensor manifest that was signed with the model and lies outside of it.
    #[must_use]
    pub fn detached_tensors(&self) -> Option<Digest> {
        self.resources.iter().find_map(|resource| resource.tensors)
    }

    /// The model's digest: SHA-256 over the resources' digests as bytes, in the order listed, without names or
    /// separators (OMS v1.0, section 6.5.1).
    #[must_use]
    pub const fn root(&self) -> Digest {
        self.root
    }
}

/// SHA-256 over digests, one after the other.
fn root_of<'a>(digests: impl Iterator<Item = &'a Digest>) -> Digest {
    let mut hasher = sha2::Sha256::new();
    digests.for_each(|digest| hasher.update(digest.as_bytes()));
    Digest::of32(Algorithm::Sha256, hasher.finalize().into())
}

/// Shards of a file must cover it from byte 0 on without a gap, all but the last of full size. Otherwise bytes that no
/// shard covers could be anything.
fn check_tiling(resources: &[Resource], size: NonZeroU64) -> Result<(), FormatError> {
    let mut files: BTreeMap<&str, Vec<Range<u64>>> = BTreeMap::new();
    for resource in resources {
        let (path, range) = resource.name.shard().ok_or_else(|| FormatError::Shard {
            name: resource.name.to_string(),
            why: "it is not of the form path:start:end",
        })?;
        files.entry(path).or_default().push(range);
    }
    for (path, mut ranges) in files {
        ranges.sort_by_key(|range| range.start);
        let mut at = 0;
        for (i, range) in ranges.iter().enumerate() {
            let full = range.start.checked_add(size.get()) == Some(range.end);
            let short_last = i + 1 == ranges.len() && range.start < range.end && range.end - range.start < size.get();
            if range.start != at || !(full || short_last) {
                let name = format!("{path}:{}:{}", range.start, range.end);
                return Err(FormatError::Shard {
                    name,
                    why: "the shards of this file leave a gap, overlap or have another size",
                });
            }
            at = range.end;
        }
    }
    Ok(())
}

/// One way in which a resource is not what was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// Other bytes.
    Changed {
        /// The signed digest.
        expected: Digest,
        /// The digest of the bytes found.
        found: Digest,
        /// Bytes as signed, where recorded.
        expected_size: Option<u64>,
        /// Bytes found.
        found_size: u64,
    },
    /// A file of another length than was signed. It was not read, since no digest of it could be the signed one.
    Resized {
        /// Bytes as signed.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// Signed, and not there.
    Missing,
    /// There, and not signed.
    Unsigned,
    /// What arrived in a device's memory is not what was read from the file: the copy is at fault, not the file.
    Miscopied {
        /// The digest of what was read.
        read: Digest,
        /// The digest of what arrived.
        arrived: Digest,
    },
    /// None of the signed digests was taken of these bytes.
    NotMeasured,
}

/// Every difference of a model from its manifest, sorted by name. A name may stand twice: that of a shard that changed
/// can be that of a file that is not signed. Shown as counts and the first names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences(pub Vec<(ResourceName, Difference)>);

impl Differences {
    /// How many there are of each kind: `1 changed, 2 missing, 1 not signed`, and after loading `1 not copied as read`.
    #[must_use]
    pub fn counts(&self) -> String {
        let mut counts =
            [(0, "changed"), (0, "missing"), (0, "not signed"), (0, "not copied as read"), (0, "not measured")];
        for (_, difference) in &self.0 {
            let kind = match difference {
                Difference::Changed { .. } | Difference::Resized { .. } => 0,
                Difference::Missing => 1,
                Difference::Unsigned => 2,
                Difference::Miscopied { .. } => 3,
                Difference::NotMeasured => 4,
            };
            counts[kind].0 += 1;
        }
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        counts.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A message is no place for 200,000 names.
        const NAMED: usize = 5;
        // Names come from a file system or a bundle: quoted, so that they cannot forge lines of their own.
        let named: Vec<String> = self.0.iter().take(NAMED).map(|(name, _)| format!("{:?}", name.as_str())).collect();
        let more = if self.0.len() > NAMED { ", .." } else { "" };
        write!(f, "the model differs from what was signed: {} ({}{more})", self.counts(), named.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str, byte: u8) -> Resource {
        let digest = Digest::new(Algorithm::Sha256, &[byte; 32]).unwrap();
        Resource { name: ResourceName::parse(name).unwrap(), digest, blake3: None, size: None, tensors: None }
    }

    fn files() -> Serialization {
        Serialization {
            method: Method::Files,
            hash: Algorithm::Sha256,
            shard_naming: ShardNaming::Spec,
            allow_symlinks: false,
            ignore_paths: None,
        }
    }

    fn shards(size: u64) -> Serialization {
        Serialization { method: Method::Shards { size: NonZeroU64::new(size).unwrap() }, ..files() }
    }

    #[test]
    fn names_are_relative_and_normal() {
        for (text, normal) in [
            ("a", "a"),
            ("./a", "a"),
            ("a//b", "a/b"),
            ("a/./b", "a/b"),
            (".", "."),
            ("...", "..."),
            ("a..b/c ", "a..b/c "),
        ] {
            assert_eq!(ResourceName::parse(text).unwrap().as_str(), normal);
        }
        for text in ["", "/a", "//", "./", "./.", "a/", "a/.", "..", "../a", "a/../b", "a/..", "a\0b", "/"] {
            assert!(matches!(ResourceName::parse(text), Err(FormatError::Name { .. })), "{text:?}");
        }
    }

    #[test]
    fn shard_names_are_read_from_the_right_and_only_in_one_spelling() {
        let shard =
            |name: &str| ResourceName::parse(name).unwrap().shard().map(|(path, range)| (path.to_owned(), range));
        assert_eq!(shard("w:0:4"), Some(("w".into(), 0..4)));
        assert_eq!(shard("a:1:b:10:20"), Some(("a:1:b".into(), 10..20)));
        assert_eq!(shard("w:1:0:3"), Some(("w:1".into(), 0..3)));
        for bad in [
            "w",
            "w:1",
            ":0:1",
            "w:01:4",
            "w:0:04",
            "w:+0:4",
            "w:0: 4",
            "w:0:",
            "w::4",
            "w:-1:4",
            "w:0:18446744073709551616",
            "w:0:4.0",
            "..:0:4",
            "a/..:0:4",
            "a/:0:4",
            ":0:4",
        ] {
            assert_eq!(shard(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_root_follows_the_listed_order_and_the_resources_are_sorted() {
        let listed = Manifest::new("m".into(), files(), vec![resource("b", 2), resource("a", 1)]).unwrap();
        let sorted = Manifest::new("m".into(), files(), vec![resource("a", 1), resource("b", 2)]).unwrap();
        assert_eq!(listed.resources(), sorted.resources());
        assert_ne!(listed.root(), sorted.root());
        let bytes = [[1; 32], [2; 32]].concat();
        assert_eq!(sorted.root().as_bytes(), &sha2::Sha256::digest(bytes)[..]);
        assert_eq!(sorted.get("b").unwrap().digest, resource("b", 2).digest);
        assert!(sorted.get("c").is_none());
    }

    #[test]
    fn empty_and_double_are_refused() {
        assert!(matches!(Manifest::new("m".into(), files(), vec![]), Err(FormatError::NoResources)));
        let double = vec![resource("a", 1), resource("b", 2), resource("./a", 1)];
        assert!(
            matches!(Manifest::new("m".into(), files(), double), Err(FormatError::DoubleName { name }) if name == "a")
        );
    }

    #[test]
    fn shards_must_tile() {
        let tile = |names: &[&str]| {
            let resources = names.iter().map(|name| resource(name, 1)).collect();
            Manifest::new("m".into(), shards(4), resources).map(|m| m.resources().len())
        };
        assert_eq!(tile(&["w:0:4", "w:4:8", "w:8:12", "w:12:13"]).unwrap(), 4);
        assert_eq!(tile(&["w:8:12", "w:0:4", "w:4:8", "v:0:1"]).unwrap(), 4);
        for bad in [
            &["w:4:8"][..],
            &["w:0:4", "w:8:9"],
            &["w:0:3", "w:3:7"],
            &["w:0:5"],
            &["w:0:0"],
            &["w:0:4", "w:4:4"],
            &["w:4:0"],
            &["w:0:4", "w:2:6"],
            &["w"],
            &["w:0:4", "w:18446744073709551612:18446744073709551615"],
        ] {
            assert!(matches!(tile(bad), Err(FormatError::Shard { .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_name_cannot_forge_a_line_of_the_report() {
        let name = ResourceName::parse("a\nVerification succeeded").unwrap();
        let text = Differences(vec![(name, Difference::Missing)]).to_string();
        assert_eq!(text, "the model differs from what was signed: 1 missing (\"a\\nVerification succeeded\")");
    }
}
