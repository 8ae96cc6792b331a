//! What can be wrong with a tensor manifest, and what it can refuse.

use super::{Gaps, StaleTensors, TileDifferences};
use crate::digest::Digest;
use crate::error::quoted;

/// Why bytes are no tensor manifest, or tensors can have none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestFault {
    /// Something else.
    #[error("it does not begin like a tensor manifest")]
    Magic,
    /// A later format.
    #[error("it has version {found}, and this program knows version 1 alone: use a newer one")]
    Version {
        /// The version.
        found: u32,
    },
    /// It ends before it should.
    #[error("it is cut: {what} needs {needed} bytes at byte {at}, and it has {len}")]
    Cut {
        /// What was being read.
        what: &'static str,
        /// Where that begins.
        at: u64,
        /// Bytes of that.
        needed: u64,
        /// Bytes in the manifest.
        len: u64,
    },
    /// Something follows the end.
    #[error("it ends at byte {expected}, and has {found} bytes")]
    Trailing {
        /// Where it ends.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// More of something than a manifest may have.
    #[error("it has {found} {what}; at most {limit} are accepted")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: u64,
        /// How many may be.
        limit: u64,
    },
    /// Nothing to vouch for.
    #[error("it has no tensors, so it would cover nothing")]
    NoTensors,
    /// A name that is no text.
    #[error("the name at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Where it begins.
        at: u64,
    },
    /// A name that no file of a model has.
    #[error("{} is not the name of a file of a model", quoted(.name))]
    FileName {
        /// The name.
        name: String,
    },
    /// A format that is not known.
    #[error("the file {} has the unknown format {found}", quoted(.file))]
    Format {
        /// The file.
        file: String,
        /// The number of its format.
        found: u8,
    },
    /// A header that is longer than its file.
    #[error("the file {} has {len} bytes, and a header of {header_len}", quoted(.file))]
    HeaderLength {
        /// The file.
        file: String,
        /// Bytes in the file.
        len: u64,
        /// Bytes in its header.
        header_len: u64,
    },
    /// Two of one name. Loaders would take the one or the other.
    #[error("the {what} {} is there twice", quoted(.name))]
    Double {
        /// `file` or `tensor`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Names that are not in order.
    #[error("the {what} {} does not stand where the order of names has it", quoted(.name))]
    Order {
        /// `file` or `tensor`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A name that is too long.
    #[error("the {what} {} has a name of {len} bytes; at most {limit} are accepted", quoted(.name))]
    LongName {
        /// `file` or `tensor`.
        what: &'static str,
        /// The name.
        name: String,
        /// Its bytes.
        len: u64,
        /// How many may be.
        limit: u64,
    },
    /// A tensor in a file that is not there.
    #[error("the tensor {} lies in file {found}, and there are {files}", quoted(.tensor))]
    NoFile {
        /// The tensor.
        tensor: String,
        /// Its file's number, from 0.
        found: u32,
        /// How many files there are.
        files: u64,
    },
    /// A type that files of that format do not have.
    #[error("the tensor {} has the unknown type {}", quoted(.tensor), quoted(.dtype))]
    Dtype {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: String,
    },
    /// A shape that no tensor of its type can have.
    #[error("the tensor {} has {why}", quoted(.tensor))]
    Shape {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Another number of bytes than type and shape take.
    #[error("the tensor {} has {found} bytes, and its type and shape take {expected}", quoted(.tensor))]
    Size {
        /// The tensor.
        tensor: String,
        /// Bytes of its type and shape.
        expected: u64,
        /// Bytes of its place.
        found: u64,
    },
    /// A tensor outside of its file's data.
    #[error("the tensor {} does not lie in the data of its file", quoted(.tensor))]
    Outside {
        /// The tensor.
        tensor: String,
    },
    /// Two tensors share bytes.
    #[error("the tensors {} and {} share bytes", quoted(.tensor), quoted(.other))]
    Overlap {
        /// The tensor that begins first.
        tensor: String,
        /// The other.
        other: String,
    },
    /// Another grid than the tensor's type and shape have.
    #[error("the tensor {} is cut into {found:?} parts, and its type and shape call for {expected:?}", quoted(.tensor))]
    Grid {
        /// The tensor.
        tensor: String,
        /// The parts by dimension that it should have.
        expected: Vec<u8>,
        /// Those that it has.
        found: Vec<u8>,
    },
    /// A digest of a tensor that is not that of its tiles' digests.
    #[error("the digest of the tensor {} is not that of its tiles' digests", quoted(.tensor))]
    Root {
        /// The tensor.
        tensor: String,
    },
}

/// Why tensors, or their manifest, are not what was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorRefusal {
    /// There is no tensor manifest of this name under the signature.
    #[error("{name:?} is not signed, so it vouches for no tensor. Have the model signed with `sign --tensors`")]
    UnsignedManifest {
        /// Its name.
        name: String,
    },
    /// A tensor manifest is not the one that was signed.
    #[error("the tensor manifest {name:?} has the digest {found}, and {expected} was signed: get it anew")]
    OtherManifest {
        /// Its name.
        name: String,
        /// The signed digest.
        expected: Digest,
        /// The digest of the bytes found.
        found: Digest,
    },
    /// A tensor manifest is none, though signed.
    #[error("the tensor manifest {name:?} cannot be used: {source}. It is as signed: have the model signed anew")]
    Malformed {
        /// Its name.
        name: String,
        /// Why.
        source: ManifestFault,
    },
    /// A tensor manifest is about other files than those that were signed with it.
    #[error("the tensor manifest {name:?} is not about this model: {stale}. Have the model signed anew")]
    Stale {
        /// Its name.
        name: String,
        /// Each difference.
        stale: StaleTensors,
    },
    /// The files are as signed and a signed tensor manifest lists other digests of their tiles.
    #[error(
        "signer inconsistent: the files are as signed, and the tensor manifest {name:?}, signed as well, lists other digests of their tiles: {stale}. Have the model signed anew"
    )]
    Inconsistent {
        /// Its name.
        name: String,
        /// Each tile.
        stale: StaleTensors,
    },
    /// A tensor that no manifest lists.
    #[error("the tensor {} is not signed: the model's tensor manifest has none of that name", quoted(.tensor))]
    UnsignedTensor {
        /// Its name.
        tensor: String,
    },
    /// Memory is not of the type and the shape that were signed.
    #[error("the tensor {} is {found} in memory, and {expected} was signed. Do not use this memory", quoted(.tensor))]
    OtherTensor {
        /// Its name.
        tensor: String,
        /// Type and shape as signed, of the elements in question.
        expected: String,
        /// Type and shape of the memory.
        found: String,
    },
    /// Memory of a device does not hold what was signed.
    #[error("{0}. Do not use this memory; load the model anew")]
    Tiles(TileDifferences),
    /// Something of the model was not checked.
    #[error("the check is not whole: {0}. Check the rest, or say for each tensor that is not held why")]
    NotCovered(Box<Gaps>),
}
