//! Types of elements, as safetensors and GGUF name and number them.

/// The type of a tensor's elements: so many elements take so many bytes. One element is a block of its own, but for
/// types of less than a byte and for the quantized ones of GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dtype {
    name: &'static str,
    elements: u32,
    bytes: u32,
}

/// All types of safetensors 0.8 (`Dtype` in its `tensor.rs`).
const SAFETENSORS: [Dtype; 22] = [
    dtype("BOOL", 1, 1),
    dtype("F4", 2, 1),
    dtype("F6_E2M3", 4, 3),
    dtype("F6_E3M2", 4, 3),
    dtype("U8", 1, 1),
    dtype("I8", 1, 1),
    dtype("F8_E5M2", 1, 1),
    dtype("F8_E4M3", 1, 1),
    dtype("F8_E8M0", 1, 1),
    dtype("F8_E4M3FNUZ", 1, 1),
    dtype("F8_E5M2FNUZ", 1, 1),
    dtype("I16", 1, 2),
    dtype("U16", 1, 2),
    dtype("F16", 1, 2),
    dtype("BF16", 1, 2),
    dtype("I32", 1, 4),
    dtype("U32", 1, 4),
    dtype("F32", 1, 4),
    dtype("C64", 1, 8),
    dtype("F64", 1, 8),
    dtype("I64", 1, 8),
    dtype("U64", 1, 8),
];

/// All types of GGUF by their number (`GGMLQuantizationType` and `GGML_QUANT_SIZES` of Python's gguf 0.19). The numbers
/// between stood for types that ggml has given up.
const GGUF: [(u32, Dtype); 34] = [
    (0, dtype("F32", 1, 4)),
    (1, dtype("F16", 1, 2)),
    (2, dtype("Q4_0", 32, 18)),
    (3, dtype("Q4_1", 32, 20)),
    (6, dtype("Q5_0", 32, 22)),
    (7, dtype("Q5_1", 32, 24)),
    (8, dtype("Q8_0", 32, 34)),
    (9, dtype("Q8_1", 32, 40)),
    (10, dtype("Q2_K", 256, 84)),
    (11, dtype("Q3_K", 256, 110)),
    (12, dtype("Q4_K", 256, 144)),
    (13, dtype("Q5_K", 256, 176)),
    (14, dtype("Q6_K", 256, 210)),
    (15, dtype("Q8_K", 256, 292)),
    (16, dtype("IQ2_XXS", 256, 66)),
    (17, dtype("IQ2_XS", 256, 74)),
    (18, dtype("IQ3_XXS", 256, 98)),
    (19, dtype("IQ1_S", 256, 50)),
    (20, dtype("IQ4_NL", 32, 18)),
    (21, dtype("IQ3_S", 256, 110)),
    (22, dtype("IQ2_S", 256, 82)),
    (23, dtype("IQ4_XS", 256, 136)),
    (24, dtype("I8", 1, 1)),
    (25, dtype("I16", 1, 2)),
    (26, dtype("I32", 1, 4)),
    (27, dtype("I64", 1, 8)),
    (28, dtype("F64", 1, 8)),
    (29, dtype("IQ1_M", 256, 56)),
    (30, dtype("BF16", 1, 2)),
    (34, dtype("TQ1_0", 256, 54)),
    (35, dtype("TQ2_0", 256, 66)),
    (39, dtype("MXFP4", 32, 17)),
    (40, dtype("NVFP4", 64, 36)),
    (41, dtype("Q1_0", 128, 18)),
];

const fn dtype(name: &'static str, elements: u32, bytes: u32) -> Dtype {
    Dtype { name, elements, bytes }
}

impl Dtype {
    /// The type that safetensors calls so.
    #[must_use]
    pub fn from_safetensors(name: &str) -> Option<Self> {
        SAFETENSORS.into_iter().find(|dtype| dtype.name == name)
    }

    /// The type that GGUF numbers so. `None` also for those that ggml has given up.
    #[must_use]
    pub fn from_gguf(number: u32) -> Option<Self> {
        GGUF.into_iter().find(|&(of, _)| of == number).map(|(_, dtype)| dtype)
    }

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
