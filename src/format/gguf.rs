//! GGUF, versions 2 and 3, little endian: keys with typed values, tensor infos, and the tensors' bytes, each aligned.
//!
//! The format is that of <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>; the readers to compare with are
//! Python's gguf 0.19 and ggml's own. Nothing tells how long the header is, so one may come with more of the file
//! several times; each time it is read from the beginning, and twice as much is asked for.

use std::collections::BTreeMap;

use super::{Dtype, Format, Header, HeaderFault, Tensor, in_order};
use crate::error::tame;

const MAGIC: [u8; 4] = *b"GGUF";
/// Several times the longest header that a vocabulary makes.
const LONGEST: u64 = 256 << 20;
/// `GGML_MAX_DIMS`.
const MOST_DIMENSIONS: u32 = 4;
/// The specification's limit.
const LONGEST_KEY: usize = 65_535;
/// Arrays within arrays. The specification sets no limit; ggml reads none of them at all.
const DEEPEST: u32 = 4;
/// `GGUF_DEFAULT_ALIGNMENT`, and the key of another one.
const ALIGNMENT: (u32, &str) = (32, "general.alignment");

// Numbers of value types.
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Bytes of a value, or of the shortest one: a string is at least its length, an array its type and its count.
const fn least_bytes(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | BOOL => 1,
        2 | 3 => 2,
        4..=6 => 4,
        STRING | 10..=12 => 8,
        ARRAY => 12,
        _ => return None,
    })
}

/// Where in the file the next bytes are.
struct Cursor<'a> {
    head: &'a [u8],
    at: usize,
    file_len: u64,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: u64) -> Result<&'a [u8], HeaderFault> {
        let end = (self.at as u64).saturating_add(len);
        if end > self.file_len {
            return Err(HeaderFault::BeyondFile { needed: end, file_len: self.file_len });
        }
        if end > LONGEST {
            return Err(HeaderFault::TooLong { len: end, limit: LONGEST });
        }
        // At most LONGEST, so it fits.
        let Some(bytes) = self.head.get(self.at..end as usize) else {
            let twice = 2 * self.head.len() as u64;
            return Err(HeaderFault::Short { needed: end.max(twice).min(self.file_len) });
        };
        self.at = end as usize;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HeaderFault> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, HeaderFault> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, HeaderFault> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8], HeaderFault> {
        let len = self.u64()?;
        self.take(len)
    }

    fn text(&mut self, what: &'static str) -> Result<&'a str, HeaderFault> {
        let at = self.at as u64;
        std::str::from_utf8(self.bytes()?).map_err(|_| HeaderFault::NotUtf8 { what, at })
    }

    /// A count of things that take at least so many bytes each: what the file has no room for is not begun with.
    fn count(&mut self, least: u64) -> Result<u64, HeaderFault> {
        let count = self.u64()?;
        let needed = count.checked_mul(least).and_then(|bytes| bytes.checked_add(self.at as u64));
        match needed {
            Some(needed) if needed <= self.file_len => Ok(count),
            _ => Err(HeaderFault::BeyondFile { needed: needed.unwrap_or(u64::MAX), file_len: self.file_len }),
        }
    }
}

/// See [`Header::of_bytes`].
pub(super) fn read(head: &[u8], file_len: u64) -> Result<Header, HeaderFault> {
    let mut from = Cursor { head, at: 0, file_len };
    if from.array()? != MAGIC {
        return Err(HeaderFault::NoGguf);
    }
    match from.u32()? {
        2 | 3 => {}
        version if matches!(version.swap_bytes(), 1..=0xffff) => return Err(HeaderFault::BigEndian),
        version => return Err(HeaderFault::Version { version }),
    }
    // A tensor is at least a name's length, the number of dimensions, the type and the offset; a pair is a key's length,
    // the type, and a value of a byte.
    let tensor_count = from.count(8 + 4 + 4 + 8)?;
    let pair_count = from.count(8 + 4 + 1)?;
    let (metadata, alignment) = pairs(&mut from, pair_count)?;

    let mut tensors = Vec::new();
    for _ in 0..tensor_count {
        tensors.push(tensor(&mut from)?);
    }
    let end = from.at as u64;
    let padded = |end: u64| end.checked_next_multiple_of(alignment);
    let mut data = padded(end).ok_or(HeaderFault::BeyondFile { needed: u64::MAX, file_len })?;
    if tensors.is_empty() {
        // There is nothing to align: whoever writes a vocabulary alone may end there.
        data = data.min(file_len);
    }
    for tensor in &mut tensors {
        let (offset, bytes) = (tensor.range.start, tensor.range.end);
        if !offset.is_multiple_of(alignment) {
            return Err(HeaderFault::Unaligned { tensor: tensor.name.clone(), offset, alignment });
        }
        let begin = data.checked_add(offset);
        let Some((begin, end)) = begin.and_then(|begin| Some((begin, begin.checked_add(bytes)?))) else {
            return Err(HeaderFault::Overflow { tensor: tensor.name.clone() });
        };
        tensor.range = begin..end;
    }
    in_order(&mut tensors, data, file_len, padded)?;
    tensors.shrink_to_fit();
    Ok(Header { format: Format::Gguf, len: data, tensors, metadata })
}

/// Reads keys and values: what can be shown, and the alignment of tensors.
fn pairs(from: &mut Cursor<'_>, count: u64) -> Result<(BTreeMap<String, String>, u64), HeaderFault> {
    let (mut texts, mut keys) = (BTreeMap::new(), Vec::new());
    let mut alignment = ALIGNMENT.0;
    for _ in 0..count {
        let key = from.text("key")?;
        let fault = |why| HeaderFault::Key { key: tame(key), why };
        if key.is_empty() {
            return Err(fault("is empty"));
        }
        if key.contains('\0') {
            return Err(fault("holds a byte 0, where some readers end it"));
        }
        if key.len() > LONGEST_KEY {
            return Err(fault("is longer than 65535 bytes"));
        }
        let kind = from.u32()?;
        if key == ALIGNMENT.1 {
            alignment = if kind == 4 { from.u32()? } else { 0 };
            if !alignment.is_power_of_two() {
                return Err(fault("is no power of two, as a number of 32 bits"));
            }
            texts.insert(key.to_owned(), alignment.to_string());
        } else if kind == ARRAY {
            skip_array(from, key, DEEPEST)?;
        } else {
            texts.insert(key.to_owned(), scalar(from, key, kind)?);
        }
        keys.push(key);
    }
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(HeaderFault::Key { key: tame(pair[0]), why: "stands twice" }),
        None => Ok((texts, alignment.into())),
    }
}

/// A value that is no array, as text.
fn scalar(from: &mut Cursor<'_>, key: &str, kind: u32) -> Result<String, HeaderFault> {
    Ok(match kind {
        0 => u8::from_le_bytes(from.array()?).to_string(),
        1 => i8::from_le_bytes(from.array()?).to_string(),
        2 => u16::from_le_bytes(from.array()?).to_string(),
        3 => i16::from_le_bytes(from.array()?).to_string(),
        4 => from.u32()?.to_string(),
        5 => i32::from_le_bytes(from.array()?).to_string(),
        // With an exponent where there would be hundreds of digits.
        6 => format!("{:?}", f32::from_le_bytes(from.array()?)),
        BOOL => match from.array()? {
            [0] => "false".to_owned(),
            [1] => "true".to_owned(),
            _ => return Err(not_a_truth(key)),
        },
        STRING => from.text("value")?.to_owned(),
        10 => from.u64()?.to_string(),
        11 => i64::from_le_bytes(from.array()?).to_string(),
        12 => format!("{:?}", f64::from_le_bytes(from.array()?)),
        _ => return Err(HeaderFault::ValueType { key: tame(key), kind }),
    })
}

fn not_a_truth(key: &str) -> HeaderFault {
    HeaderFault::Key { key: tame(key), why: "has a truth value other than 0 and 1" }
}

/// Goes past an array. Its strings may be any bytes: tokens are.
fn skip_array(from: &mut Cursor<'_>, key: &str, deepest: u32) -> Result<(), HeaderFault> {
    if deepest == 0 {
        return Err(HeaderFault::Key { key: tame(key), why: "has arrays within arrays more than 4 deep" });
    }
    let kind = from.u32()?;
    let Some(least) = least_bytes(kind) else {
        return Err(HeaderFault::ValueType { key: tame(key), kind });
    };
    let count = from.count(least)?;
    match kind {
        STRING => (0..count).try_for_each(|_| from.bytes().map(drop)),
        ARRAY => (0..count).try_for_each(|_| skip_array(from, key, deepest - 1)),
        BOOL if from.take(count)?.iter().any(|&byte| byte > 1) => Err(not_a_truth(key)),
        BOOL => Ok(()),
        // No overflow: the file has room for them.
        _ => from.take(count * least).map(drop),
    }
}

/// A tensor, whose range is not one yet: it begins at its offset in the data and "ends" at its length.
fn tensor(from: &mut Cursor<'_>) -> Result<Tensor, HeaderFault> {
    let name = from.text("tensor's name")?.to_owned();
    // ggml reads names up to there, so that two of them could be one.
    if name.contains('\0') {
        return Err(HeaderFault::Nul { tensor: name });
    }
    let dimensions = from.u32()?;
    if dimensions > MOST_DIMENSIONS {
        return Err(HeaderFault::Dimensions { tensor: name, found: dimensions, limit: MOST_DIMENSIONS });
    }
    let mut shape = Vec::with_capacity(dimensions as usize);
    let mut elements = Some(1_u64);
    for _ in 0..dimensions {
        let dimension = from.u64()?;
        shape.push(dimension);
        // Signed in ggml, and multiplied in this order.
        elements = elements.filter(|_| i64::try_from(dimension).is_ok()).and_then(|some| some.checked_mul(dimension));
    }
    let number = from.u32()?;
    let offset = from.u64()?;
    let Some(dtype) = Dtype::from_gguf(number) else {
        return Err(HeaderFault::Dtype { tensor: name, dtype: number.to_string() });
    };
    let row = shape.first().copied().unwrap_or(1);
    if !row.is_multiple_of(dtype.block_elements()) {
        return Err(HeaderFault::Blocks { tensor: name, elements: row, block: dtype.block_elements() });
    }
    let Some(bytes) = elements.and_then(|elements| dtype.bytes_of(elements)) else {
        return Err(HeaderFault::Overflow { tensor: name });
    };
    shape.reverse();
    Ok(Tensor { name, dtype, shape, range: offset..bytes })
}
