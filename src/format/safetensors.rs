//! safetensors: a length, a JSON object, and the tensors' bytes without a gap.
//!
//! The format is that of <https://github.com/huggingface/safetensors#format>; the reader to compare with is that of
//! release 0.8. JSON is read once, into the tensors themselves; what this refuses and that accepts is in docs/formats.md.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Dtype, Format, Header, HeaderFault, Tensor, in_order};
use crate::error::tame;
use crate::json::{Object, Texts};

/// Bytes of the length before the JSON text, little endian.
const LENGTH: u64 = 8;
/// The longest JSON text that the reference accepts.
const LONGEST: u64 = 100_000_000;
/// The most dimensions of a tensor in torch and numpy. Without a limit two bytes of JSON would become eight of memory.
const MOST_DIMENSIONS: usize = 64;
/// The key that is no tensor.
const METADATA: &str = "__metadata__";

/// The whole JSON text.
struct Wire<'a> {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(Cow<'a, str>, WireTensor<'a>)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTensor<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Shape,
    /// Begin and end, counted from the end of the header.
    data_offsets: [u64; 2],
}

struct Shape(Vec<u64>);

/// A key, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Wire<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Wire<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Wire<'de>, A::Error> {
                let (mut metadata, mut tensors) = (None, Vec::new());
                while let Some(Key(key)) = map.next_key()? {
                    if key != METADATA {
                        let Object(tensor) = map.next_value()?;
                        tensors.push((key, tensor));
                    } else if metadata.is_none() {
                        let Texts(texts) = map.next_value()?;
                        metadata = Some(texts);
                    } else {
                        return Err(de::Error::duplicate_field(METADATA));
                    }
                }
                Ok(Wire { metadata: metadata.unwrap_or_default(), tensors })
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dimensions;

        impl<'de> Visitor<'de> for Dimensions {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an array of at most {MOST_DIMENSIONS} dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(dimension) = seq.next_element()? {
                    if shape.len() == MOST_DIMENSIONS {
                        return Err(de::Error::invalid_length(MOST_DIMENSIONS + 1, &self));
                    }
                    shape.push(dimension);
                }
                shape.shrink_to_fit();
                Ok(Shape(shape))
            }
        }

        deserializer.deserialize_seq(Dimensions)
    }
}

/// See [`Header::of_bytes`].
pub(super) fn read(head: &[u8], file_len: u64) -> Result<Header, HeaderFault> {
    if file_len < LENGTH {
        return Err(HeaderFault::BeyondFile { needed: LENGTH, file_len });
    }
    let Some((length, rest)) = head.split_first_chunk::<{ LENGTH as usize }>() else {
        return Err(HeaderFault::Short { needed: LENGTH });
    };
    let len = u64::from_le_bytes(*length);
    if len > LONGEST {
        return Err(HeaderFault::TooLong { len, limit: LONGEST });
    }
    let data = LENGTH + len;
    if data > file_len {
        return Err(HeaderFault::BeyondFile { needed: data, file_len });
    }
    // At most LONGEST, so it fits.
    let Some(text) = rest.get(..len as usize) else {
        return Err(HeaderFault::Short { needed: data });
    };
    let text = std::str::from_utf8(text).map_err(|_| HeaderFault::NotUtf8 { what: "header", at: LENGTH })?;
    if !text.starts_with('{') {
        return Err(HeaderFault::NoObject);
    }
    let wire: Wire<'_> =
        serde_json::from_str(text).map_err(|error| HeaderFault::Json { why: tame(&error.to_string()) })?;
    let mut tensors = Vec::with_capacity(wire.tensors.len());
    for (name, tensor) in wire.tensors {
        tensors.push(placed(name, tensor, data)?);
    }
    in_order(&mut tensors, data, file_len, Some)?;
    Ok(Header { format: Format::Safetensors, len: data, tensors, metadata: wire.metadata })
}

/// The tensor of which the header says so much, in a file whose data begins at `data`.
fn placed(name: Cow<'_, str>, wire: WireTensor<'_>, data: u64) -> Result<Tensor, HeaderFault> {
    let (tensor, Shape(shape), [begin, end]) = (name.into_owned(), wire.shape, wire.data_offsets);
    let Some(dtype) = Dtype::from_safetensors(&wire.dtype) else {
        return Err(HeaderFault::Dtype { tensor, dtype: wire.dtype.into_owned() });
    };
    // In this order, as the reference multiplies: what overflows on the way is refused, even if a 0 follows.
    let Some(elements) = shape.iter().try_fold(1_u64, |product, &dimension| product.checked_mul(dimension)) else {
        return Err(HeaderFault::Overflow { tensor });
    };
    if !elements.is_multiple_of(dtype.block_elements()) {
        return Err(HeaderFault::Blocks { tensor, elements, block: dtype.block_elements() });
    }
    let (Some(expected), Some(first), Some(last)) =
        (dtype.bytes_of(elements), data.checked_add(begin), data.checked_add(end))
    else {
        return Err(HeaderFault::Overflow { tensor });
    };
    if last < first {
        return Err(HeaderFault::Backwards { tensor, begin: first, end: last });
    }
    if last - first != expected {
        return Err(HeaderFault::Size { tensor, expected, found: last - first });
    }
    Ok(Tensor { name: tensor, dtype, shape, range: first..last })
}
