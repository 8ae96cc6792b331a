//! Files of tensors: from their headers to the name, type, shape and place of each tensor.

use std::collections::BTreeMap;
use std::ops::Range;

/// The type of a tensor's elements: so many elements take so many bytes. One element is a block of its own, but for
/// types of less than a byte and for the quantized ones of GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dtype {
    name: &'static str,
    elements: u32,
    bytes: u32,
}

impl Dtype {
    /// The name, as safetensors or GGUF spell it: `BF16`, `F8_E4M3`, `Q4_K`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Elements in a block, the least that can be cut off along a row.
    #[must_use]
    pub const fn block_elements(self) -> u64 {
        self.elements as u64
    }

    /// Bytes in a block.
    #[must_use]
    pub const fn block_bytes(self) -> u64 {
        self.bytes as u64
    }

    /// Bytes of so many elements that lie in a row. `None` if they are no whole blocks, or too many.
    #[must_use]
    pub const fn bytes_of(self, elements: u64) -> Option<u64> {
        if elements.is_multiple_of(self.elements as u64) {
            (elements / self.elements as u64).checked_mul(self.bytes as u64)
        } else {
            None
        }
    }
}

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

/// Which format a file of tensors has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// <https://github.com/huggingface/safetensors>.
    Safetensors,
    /// <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
    Gguf,
}

/// What a file of tensors says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its format.
    pub format: Format,
    /// Bytes of the file before its tensors' data.
    pub len: u64,
    /// All tensors, in the order of their bytes in the file.
    pub tensors: Vec<Tensor>,
    /// What else the header says, where that is text.
    pub metadata: BTreeMap<String, String>,
}
