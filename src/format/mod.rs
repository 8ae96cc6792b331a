//! Files of tensors: from their headers to the name, type, shape and place of each tensor.
//!
//! A [`Header`] is all that is read here; no byte of a tensor is. Headers are hostile until they are found to be well
//! formed: what has two readings, leaves the file, overlaps, or leaves bytes that belong to no tensor is a
//! [`HeaderFault`], and memory stays within a small multiple of the header's own length. docs/formats.md has the rules, and where the
//! readers of others differ.

use std::collections::BTreeMap;
use std::ops::Range;

mod dtype;
mod fault;
mod gguf;
mod index;
mod model;
mod parts;
mod pickle;
mod safetensors;
#[cfg(test)]
mod tests;

pub use dtype::Dtype;
pub use fault::HeaderFault;
pub use index::{Index, IndexFault};
pub use model::{Survey, survey};
pub use parts::{Part, check_parts, part_of};
pub(crate) use pickle::{Pickles, pickled};

/// A tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions, the slowest first (as in torch, also for GGUF, which stores them the other way round). Elements
    /// lie in C order; a scalar has no dimensions.
    pub shape: Vec<u64>,
    /// Its bytes in the file.
    pub range: Range<u64>,
}

impl Tensor {
    /// How many elements it has.
    #[must_use]
    pub fn elements(&self) -> u64 {
        // A header with a shape that overflows is refused.
        self.shape.iter().fold(1, |product: u64, &dimension| product.saturating_mul(dimension))
    }

    /// How many bytes it takes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// Which format a file of tensors has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// <https://github.com/huggingface/safetensors>.
    Safetensors,
    /// <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
    Gguf,
}

impl Format {
    /// The format that a file's name says it has. Case counts, as for those who load it.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        // `.safetensors` alone is a hidden file without an extension.
        match name.rsplit('/').next().and_then(|file| file.rsplit_once('.')) {
            Some(("", _)) | None => None,
            Some((_, "safetensors")) => Some(Self::Safetensors),
            Some((_, "gguf")) => Some(Self::Gguf),
            Some(_) => None,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
        }
    }
}

/// What a file of tensors says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its format.
    pub format: Format,
    /// Bytes of the file before its tensors' data.
    pub len: u64,
    /// All tensors, in the order of their bytes in the file; of those without any, by their names. None leaves the
    /// file, none overlaps another, and no name stands twice.
    pub tensors: Vec<Tensor>,
    /// What else the header says: strings as they are, numbers of GGUF in decimal; its arrays are left out.
    pub metadata: BTreeMap<String, String>,
}

/// So much is read at first: the whole header of most files.
const FIRST_READ: u64 = 64 << 10;

impl Header {
    /// Reads the header of a file of `file_len` bytes, of which `head` is the beginning.
    ///
    /// # Errors
    /// [`HeaderFault::Short`] if `head` is not the whole header: come again with as many bytes as it says. Any other
    /// [`HeaderFault`]: this file is not to be loaded.
    pub fn of_bytes(format: Format, head: &[u8], file_len: u64) -> Result<Self, HeaderFault> {
        match format {
            Format::Safetensors => safetensors::read(head, file_len),
            Format::Gguf => gguf::read(head, file_len),
        }
    }

    /// Reads the header of a file of `file_len` bytes. `read` gives the bytes of a range of the file; it is asked for
    /// each byte once, in order, for at least one, and never beyond `file_len`.
    ///
    /// # Errors
    /// What `read` says, and a [`HeaderFault`] that is never [`Short`](HeaderFault::Short).
    pub fn read<E: From<HeaderFault>>(
        format: Format,
        file_len: u64,
        read: &mut dyn FnMut(Range<u64>) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E> {
        let mut head = Vec::new();
        let mut needed = FIRST_READ.min(file_len);
        loop {
            let have = head.len() as u64;
            if have < needed {
                let more = read(have..needed)?;
                if more.len() as u64 != needed - have {
                    return Err(HeaderFault::Cut { expected: needed, found: have + more.len() as u64 }.into());
                }
                if head.is_empty() {
                    head = more;
                } else {
                    head.extend_from_slice(&more);
                }
            }
            match Self::of_bytes(format, &head, file_len) {
                // A reader that asks for what it has, or for what the file has not, would ask for ever.
                Err(HeaderFault::Short { needed: more }) if more > needed && more <= file_len => needed = more,
                Err(HeaderFault::Short { needed }) => {
                    return Err(HeaderFault::BeyondFile { needed, file_len }.into());
                }
                Err(fault) => return Err(fault.into()),
                Ok(header) => return Ok(header),
            }
        }
    }

    /// The tensor of this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}

/// Puts tensors into the order of their bytes and checks what must hold in any format: no name twice, the first at
/// `data`, each one behind it at the padded end of the one before, and the end of the file not beyond that of the last.
fn in_order(
    tensors: &mut [Tensor],
    data: u64,
    file_len: u64,
    padded: impl Fn(u64) -> Option<u64>,
) -> Result<(), HeaderFault> {
    let place = |tensor: &Tensor| (tensor.range.start, tensor.range.end);
    tensors.sort_unstable_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.name.cmp(&b.name)));
    let mut names: Vec<&str> = tensors.iter().map(|tensor| &*tensor.name).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(HeaderFault::DoubleName { name: pair[0].to_owned() });
    }
    let mut end = data;
    for (i, tensor) in tensors.iter().enumerate() {
        let begin = tensor.range.start;
        // Nothing lies before the data: places are counted from there.
        let expected = if i == 0 { Some(data) } else { padded(end) };
        if begin < end {
            let other = i.checked_sub(1).map_or("", |before| &*tensors[before].name);
            return Err(HeaderFault::Overlap { tensor: tensor.name.clone(), other: other.to_owned(), at: begin });
        }
        if expected != Some(begin) {
            return Err(HeaderFault::Hole { tensor: tensor.name.clone(), expected: end, found: begin });
        }
        end = tensor.range.end;
    }
    if file_len < end {
        return Err(HeaderFault::DataCut { expected: end, found: file_len });
    }
    if padded(end).is_none_or(|padded| file_len > padded) {
        return Err(HeaderFault::Trailing { expected: end, found: file_len });
    }
    Ok(())
}
