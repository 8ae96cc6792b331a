//! What can be wrong with a header.

use crate::error::quoted;

/// Why a file's header cannot be used. Offsets and lengths are bytes of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// What was given is not the whole header. No fault of the file: more of it is needed.
    #[error("the first {needed} bytes of the file are needed to read its header")]
    Short {
        /// Bytes from the beginning of the file to come again with. Never more than the file has.
        needed: u64,
    },
    /// The file gave fewer bytes than it has.
    #[error("the file has only {found} of the {expected} bytes that were asked for: it was cut while it was read")]
    Cut {
        /// Bytes asked for, from the beginning.
        expected: u64,
        /// Bytes there were.
        found: u64,
    },
    /// The file ends inside its header.
    #[error("the header needs {needed} bytes, and the file has {file_len}: it is cut, or no file of this format")]
    BeyondFile {
        /// Bytes that the header needs at least.
        needed: u64,
        /// Bytes in the file.
        file_len: u64,
    },
    /// The header is longer than any reader accepts.
    #[error("the header has {len} bytes; at most {limit} are accepted")]
    TooLong {
        /// Bytes in the header.
        len: u64,
        /// Bytes accepted.
        limit: u64,
    },
    /// The header of a safetensors file is text that begins with `{`.
    #[error("the header does not begin with '{{': this is no safetensors file, or not a whole one")]
    NoObject,
    /// Text that is not UTF-8.
    #[error("the {what} at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Of what.
        what: &'static str,
        /// Where the text begins in the file.
        at: u64,
    },
    /// Not JSON, or not that of a header: members missing, unknown, of another type or double, or something behind it.
    #[error("the header is malformed: {why}")]
    Json {
        /// What the parser said, with line and column in the header's text, fit to be shown.
        why: String,
    },
    /// Not the first four bytes of GGUF.
    #[error("the file does not begin with \"GGUF\": it is no GGUF file")]
    NoGguf,
    /// GGUF for machines that store the other end of a number first.
    #[error("this GGUF file is big-endian, which is not read; get the little-endian one")]
    BigEndian,
    /// A version of GGUF that is not known.
    #[error("the file is of GGUF version {version}; versions 2 and 3 are read")]
    Version {
        /// The version.
        version: u32,
    },
    /// A key of GGUF that stands twice, is none, or has a value that is none.
    #[error("the key {key:?} {why}")]
    Key {
        /// The key, cut if it is long.
        key: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A value of GGUF whose type is not known, so that nobody can say where the next one begins.
    #[error("the key {key:?} has a value of the unknown type {kind}")]
    ValueType {
        /// The key, cut if it is long.
        key: String,
        /// The number of the type.
        kind: u32,
    },
    /// A name of GGUF in which some readers see an end before its end.
    #[error("the name of the tensor {} holds a byte 0, where some readers end it", quoted(tensor))]
    Nul {
        /// The tensor.
        tensor: String,
    },
    /// More dimensions than ggml has.
    #[error("the tensor {} has {found} dimensions; at most {limit} are accepted", quoted(tensor))]
    Dimensions {
        /// The tensor.
        tensor: String,
        /// Its dimensions.
        found: u32,
        /// Those accepted.
        limit: u32,
    },
    /// A tensor of GGUF that is not aligned as the file says all are.
    #[error("the tensor {} is at offset {offset}, which is no multiple of {alignment}", quoted(tensor))]
    Unaligned {
        /// The tensor.
        tensor: String,
        /// Where it begins, from the beginning of the data.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// Two tensors of one name.
    #[error("the tensor {} is listed twice", quoted(name))]
    DoubleName {
        /// The name.
        name: String,
    },
    /// A type that is not known, so that nobody can say how many bytes the tensor has.
    #[error("the tensor {} has the type {}, which is not known", quoted(tensor), quoted(dtype))]
    Dtype {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: String,
    },
    /// A tensor of more elements or bytes than can be counted.
    #[error("the tensor {} has a shape or a place beyond 2^64", quoted(tensor))]
    Overflow {
        /// The tensor.
        tensor: String,
    },
    /// A tensor that ends before it begins.
    #[error("the tensor {} ends at {end}, before it begins at {begin}", quoted(tensor))]
    Backwards {
        /// The tensor.
        tensor: String,
        /// Its first byte, as the header has it.
        begin: u64,
        /// The byte behind its last.
        end: u64,
    },
    /// The elements of a tensor, or of its rows, do not fill whole blocks or whole bytes.
    #[error("the tensor {} has rows of {elements} elements, which are no whole blocks of {block}", quoted(tensor))]
    Blocks {
        /// The tensor.
        tensor: String,
        /// Elements in a row; for safetensors, in the tensor.
        elements: u64,
        /// Elements in a block.
        block: u64,
    },
    /// A tensor has another length than its type and shape take.
    #[error("the tensor {} has {found} bytes, and its type and shape take {expected}", quoted(tensor))]
    Size {
        /// The tensor.
        tensor: String,
        /// Bytes of its type and shape.
        expected: u64,
        /// Bytes of its place.
        found: u64,
    },
    /// Two tensors share bytes.
    #[error("the tensor {} begins at byte {at}, inside {}", quoted(tensor), quoted(other))]
    Overlap {
        /// The tensor.
        tensor: String,
        /// The tensor before it.
        other: String,
        /// Where it begins.
        at: u64,
    },
    /// Bytes that belong to no tensor, before one.
    #[error(
        "the tensor {} begins at byte {found}, and what comes before it ends at {expected}: the bytes between belong to nothing",
        quoted(tensor)
    )]
    Hole {
        /// The tensor.
        tensor: String,
        /// Where it could begin at the earliest.
        expected: u64,
        /// Where it begins.
        found: u64,
    },
    /// The file ends before its last tensor does.
    #[error("the last tensor ends at byte {expected}, and the file has {found}: it is cut")]
    DataCut {
        /// Where the last tensor ends.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// Bytes that belong to no tensor, behind the last one.
    #[error("the last tensor ends at byte {expected}, and the file has {found}: what follows belongs to nothing")]
    Trailing {
        /// Where the last tensor ends.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
}
