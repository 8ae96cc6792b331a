//! The file: `docs/locate.md` is its specification.

use crate::digest::{Algorithm, Digest};
use crate::error::quoted;
use crate::manifest::{Manifest, ResourceName};
use crate::tree::{ChainingValue, GroupSize, Tree};

use super::kept::Kept;

/// With these bytes a file of trees begins.
pub const MAGIC: &[u8; 16] = b"tensorseal/trees";
/// The version that this code reads and writes.
pub const VERSION: u32 = 1;
/// The largest groups that trees are kept of, 1 MiB: larger ones would say little.
pub const MAX_GROUP: GroupSize = GroupSize::at_most(1 << 20);
/// The longest name of a resource, in bytes: what a path of any system can have, and the range of a shard.
const MAX_NAME: u32 = 1 << 16;
/// Name's length, length, root and number of fine groups.
const LEAST_ENTRY: usize = 4 + 8 + 32 + 8;

/// Why a file is not the trees of a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutboardFault {
    /// It begins otherwise.
    #[error("it is no outboard of tensorseal")]
    NotOne,
    /// It is of another version.
    #[error("it is of version {found}, and this program reads version {VERSION}")]
    Version {
        /// As it says.
        found: u32,
    },
    /// It is longer than what is read.
    #[error("it has {len} bytes, and at most {limit} are read; have it made with larger groups")]
    TooLong {
        /// Its length.
        len: u64,
        /// The limit.
        limit: u64,
    },
    /// It ends in the middle of something.
    #[error("it ends at byte {at}, in {what}")]
    Short {
        /// In what.
        what: &'static str,
        /// Where.
        at: u64,
    },
    /// It goes on behind its end.
    #[error("it ends at byte {at}, and {left} bytes follow")]
    Trailing {
        /// Where.
        at: u64,
        /// How many.
        left: u64,
    },
    /// A field says what it may not.
    #[error("at byte {at}: {what}")]
    Field {
        /// What.
        what: &'static str,
        /// Where.
        at: u64,
    },
    /// A resource's values do not make its root: they were altered, or are those of other bytes.
    #[error("its values for {} do not make the root {root}: it was altered, or is broken", quoted(.name))]
    Values {
        /// The resource.
        name: String,
        /// The root that they should make.
        root: Digest,
    },
    /// It is about a resource that the signature does not name.
    #[error("it is about {}, which is not signed: it is another model's", quoted(.name))]
    NotSigned {
        /// The resource.
        name: String,
    },
    /// It lacks a resource that the signature names.
    #[error("it lacks {}, which is signed: it is another model's, or was cut", quoted(.name))]
    Lacks {
        /// The resource.
        name: String,
    },
    /// It is about other bytes than the signature.
    #[error("it is about other bytes than were signed as {}: root {found}, signed {signed}", quoted(.name))]
    OtherRoot {
        /// The resource.
        name: String,
        /// As signed.
        signed: Digest,
        /// As it says.
        found: Digest,
    },
    /// It is about a string of another length than the signature.
    #[error("it says that {} has {found} bytes, and signed were {signed}", quoted(.name))]
    OtherLength {
        /// The resource.
        name: String,
        /// As signed.
        signed: u64,
        /// As it says.
        found: u64,
    },
    /// The signature has no BLAKE3 digest, or no length, of a resource: nothing proves its tree.
    #[error(
        "the signature has no BLAKE3 digest and length of {}, by which it could be proven; have it signed anew, with --outboard",
        quoted(.name)
    )]
    Unprovable {
        /// The resource.
        name: String,
    },
}

/// The trees of a model's resources, as a file has them: each makes the root that it gives, and nothing says yet that
/// this root was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboardFile {
    group: GroupSize,
    kept: Vec<Kept>,
}

impl OutboardFile {
    /// `kept` has each name once, in the order of names.
    pub(super) const fn new(group: GroupSize, kept: Vec<Kept>) -> Self {
        Self { group, kept }
    }

    /// The size of groups.
    #[must_use]
    pub const fn group(&self) -> GroupSize {
        self.group
    }

    /// Reads it. There is one encoding of each content, and memory stays within twice its length.
    ///
    /// # Errors
    /// [`OutboardFault`]: it is malformed, or some of its values do not make the root beside them.
    pub fn parse(bytes: &[u8]) -> Result<Self, OutboardFault> {
        let mut input = Input { bytes, at: 0 };
        if input.array::<16>("its magic").ok().as_ref() != Some(MAGIC) {
            return Err(OutboardFault::NotOne);
        }
        let found = input.u32("its version")?;
        if found != VERSION {
            return Err(OutboardFault::Version { found });
        }
        let log = input.u32("its group size")?;
        let group = u8::try_from(log).ok().and_then(GroupSize::from_chunk_log).filter(|group| *group <= MAX_GROUP);
        let group = group.ok_or_else(|| input.field("the groups are too large", 4))?;
        let count = input.u64("its number of resources")?;
        if count == 0 || count > (input.left() / LEAST_ENTRY) as u64 {
            return Err(input.field("so many resources are not in it", 8));
        }
        let mut kept: Vec<Kept> = Vec::new();
        for _ in 0..count {
            let next = input.kept(group)?;
            if kept.last().is_some_and(|last| last.name() >= next.name()) {
                return Err(input.field("its resources are not in the order of their names", 0));
            }
            kept.push(next);
        }
        match input.left() {
            0 => Ok(Self { group, kept }),
            left => Err(OutboardFault::Trailing { at: input.at as u64, left: left as u64 }),
        }
    }

    /// Its one encoding.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&u32::from(self.group.chunk_log()).to_le_bytes());
        out.extend_from_slice(&(self.kept.len() as u64).to_le_bytes());
        for kept in &self.kept {
            let name = kept.name().as_str().as_bytes();
            out.extend_from_slice(&(name.len() as u32).to_le_bytes());
            out.extend_from_slice(name);
            out.extend_from_slice(&kept.tree().len().to_le_bytes());
            out.extend_from_slice(kept.root().as_bytes());
            out.extend_from_slice(&kept.fine_groups().to_le_bytes());
            kept.values().for_each(|value| out.extend_from_slice(value));
        }
        out
    }

    /// Whether a file that begins so is one.
    #[must_use]
    pub fn looks_like_one(head: &[u8]) -> bool {
        head.starts_with(MAGIC)
    }

    /// The same, once it is clear that it is about exactly what was signed.
    ///
    /// # Errors
    /// What [`OutboardFile::check`] says.
    pub(crate) fn of(self, signed: &Manifest) -> Result<Trees, OutboardFault> {
        self.check(signed)?;
        Ok(Trees { group: self.group, kept: self.kept })
    }

    /// Whether it is about exactly these resources, each with its BLAKE3 digest and its length. Values that make a digest
    /// under a length that is known, too, are that string's and no other's.
    ///
    /// # Errors
    /// [`OutboardFault`] that says in what it differs.
    pub fn check(&self, signed: &Manifest) -> Result<(), OutboardFault> {
        let mut kept = self.kept.iter();
        for resource in signed.resources() {
            let name = || resource.name.to_string();
            let shard = resource.name.shard().filter(|_| signed.serialization().method.shard_size().is_some());
            let len = shard.map(|(_, range)| range.end - range.start).or(resource.size);
            let (Some(root), Some(len)) = (resource.digest_by(Algorithm::Blake3), len) else {
                return Err(OutboardFault::Unprovable { name: name() });
            };
            let tree = match kept.next() {
                Some(tree) if *tree.name() == resource.name => tree,
                Some(tree) if *tree.name() < resource.name => {
                    return Err(OutboardFault::NotSigned { name: tree.name().to_string() });
                }
                _ => return Err(OutboardFault::Lacks { name: name() }),
            };
            if tree.tree().len() != len {
                return Err(OutboardFault::OtherLength { name: name(), signed: len, found: tree.tree().len() });
            }
            if tree.root() != root {
                return Err(OutboardFault::OtherRoot { name: name(), signed: root, found: tree.root() });
            }
        }
        match kept.next() {
            None => Ok(()),
            Some(tree) => Err(OutboardFault::NotSigned { name: tree.name().to_string() }),
        }
    }
}

/// The trees of what was signed.
#[derive(Debug)]
pub(crate) struct Trees {
    group: GroupSize,
    kept: Vec<Kept>,
}

impl Trees {
    /// The size of groups.
    pub(crate) const fn group(&self) -> GroupSize {
        self.group
    }

    /// All, in the order of names.
    pub(crate) fn kept(&self) -> &[Kept] {
        &self.kept
    }
}

/// What is left of a file.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    const fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// A fault in the field that ends `back` bytes after its beginning, here.
    const fn field(&self, what: &'static str, back: usize) -> OutboardFault {
        OutboardFault::Field { what, at: (self.at - back) as u64 }
    }

    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], OutboardFault> {
        let short = OutboardFault::Short { what, at: self.bytes.len() as u64 };
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len()).ok_or(short)?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], OutboardFault> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, OutboardFault> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, OutboardFault> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// One resource.
    fn kept(&mut self, group: GroupSize) -> Result<Kept, OutboardFault> {
        let len = self.u32("the length of a name")?;
        if len > MAX_NAME {
            return Err(self.field("a name is too long", 4));
        }
        let text = self.take(len as usize, "a name")?;
        let text = std::str::from_utf8(text).ok();
        let name = text.and_then(|text| ResourceName::parse(text).ok().filter(|name| name.as_str() == text));
        let name = name.ok_or_else(|| self.field("a name is not one that a signature can have", len as usize))?;
        let tree = Tree::new(self.u64("the length of a resource")?, group);
        let root = Digest::of32(Algorithm::Blake3, self.array("a root")?);
        let fine = self.u64("the number of fine groups")?;
        let count = Kept::count(tree, fine).ok_or_else(|| self.field("so many fine groups are not in it", 8))?;
        let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(32));
        let short = OutboardFault::Short { what: "values", at: self.bytes.len() as u64 };
        let values: Vec<ChainingValue> = self.take(bytes.ok_or(short)?, "values")?.as_chunks::<32>().0.to_vec();
        let fault = OutboardFault::Values { name: name.to_string(), root };
        Kept::new(name, root, tree, fine, values).ok_or(fault)
    }
}
