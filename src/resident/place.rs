//! A tensor as it lies in memory: from shape and strides to the extents that are its bytes in the file.

use crate::error::quoted;
use crate::format::{Dtype, Tensor};
use crate::layout::{Buffer, Extent, Layout};

/// Extents that one tensor may be. Fewer than there are rows: those at one distance are a single extent.
const MOST_EXTENTS: u64 = 1 << 18;

/// From one element to the next along each dimension, the slowest first, as many as there are dimensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strides {
    /// In C order, without a gap.
    Contiguous,
    /// Counted in elements, as torch does.
    Elements(Vec<i64>),
    /// Counted in bytes, as NumPy does. For types whose block holds several elements, the last is the bytes of a block.
    Bytes(Vec<i64>),
}

/// A tensor in device memory.
#[derive(Debug)]
pub struct ResidentTensor<'a, B> {
    /// Its name in the file's header.
    pub name: &'a str,
    /// The file, by its [`ResidentFile::name`](super::ResidentFile), if tensors of several files have this name.
    pub file: Option<&'a str>,
    /// The index of its device, among those of the call.
    pub device: usize,
    /// The memory that it lies in.
    pub buffer: &'a B,
    /// The byte of that memory with which its first element begins.
    pub at: u64,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions, the slowest first, in elements as the header counts them.
    pub shape: Vec<u64>,
    /// How its elements lie.
    pub strides: Strides,
}

/// Why a tensor cannot be measured where it lies. There is no answer then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlacementError {
    /// There is no device to measure on, or no tensor, or no file.
    #[error("there is no {what} to measure; nothing was covered")]
    Nothing {
        /// What there is none of: `device`, `file` or `byte in device memory`.
        what: &'static str,
    },
    /// It is said to be on a device that was not given.
    #[error("tensor {} is said to be on device number {index}, and {devices} devices were given", quoted(.tensor))]
    NoDevice {
        /// The tensor.
        tensor: String,
        /// The index given.
        index: usize,
        /// Devices given.
        devices: usize,
    },
    /// Its bytes are not all in its buffer.
    #[error(
        "tensor {} ends at byte {end} of a buffer of {size} bytes; check its offset, shape and strides",
        quoted(.tensor)
    )]
    Outside {
        /// The tensor.
        tensor: String,
        /// One past its last byte; `u64::MAX` if that is no number.
        end: u64,
        /// Bytes in the buffer.
        size: u64,
    },
    /// Another number of strides than of dimensions.
    #[error("tensor {} has {dimensions} dimensions and {strides} strides", quoted(.tensor))]
    Rank {
        /// The tensor.
        tensor: String,
        /// Dimensions.
        dimensions: usize,
        /// Strides given.
        strides: usize,
    },
    /// Strides of which nothing that was saved to a file has the like: zero, negative, or such that elements overlap.
    #[error(
        "tensor {} has stride {stride} in dimension {dimension}, so that its elements overlap or run backwards; give the \
         tensor that it is a view of, or a contiguous copy: `.contiguous()`",
        quoted(.tensor)
    )]
    Overlap {
        /// The tensor.
        tensor: String,
        /// The dimension, from 0.
        dimension: usize,
        /// Its stride, as given.
        stride: i64,
    },
    /// Elements of less than a byte, or blocks, that do not lie in whole bytes or blocks.
    #[error(
        "tensor {} is of type {dtype}, of which {block} elements are one block, and its rows or strides are no whole \
         blocks; give a contiguous one",
        quoted(.tensor)
    )]
    Blocks {
        /// The tensor.
        tensor: String,
        /// The type.
        dtype: &'static str,
        /// Elements in a block.
        block: u64,
    },
    /// It lies in too many pieces.
    #[error(
        "tensor {} lies in {extents} pieces, and at most {most} are measured in place; give a contiguous copy \
         (`.contiguous()`), or the tensor before it was transposed",
        quoted(.tensor)
    )]
    Scattered {
        /// The tensor.
        tensor: String,
        /// How many pieces.
        extents: u64,
        /// How many there may be.
        most: u64,
    },
    /// A file has more bytes that belong to no tensor than a header and padding have.
    #[error(
        "{} bytes of {} are neither header nor tensor; at most {most} are taken from the host, so measure this file on disk",
        gaps, quoted(.file)
    )]
    Gaps {
        /// The file.
        file: String,
        /// Such bytes.
        gaps: u64,
        /// How many there may be.
        most: u64,
    },
}

/// A dimension over which elements are repeated.
#[derive(Clone, Copy)]
struct Loop {
    count: u64,
    /// Bytes.
    stride: u64,
}

impl<'a, B: Buffer> ResidentTensor<'a, B> {
    /// Its bytes in C order, as a file would have them.
    ///
    /// # Errors
    /// [`PlacementError`] if they do not lie in its buffer, if elements share bytes, run backwards or end within a byte, or
    /// if they lie in too many pieces.
    pub fn layout(&self) -> Result<Layout<'a, B>, PlacementError> {
        let elements = self.shape.iter().try_fold(1_u64, |elements, &count| elements.checked_mul(count));
        let bytes =
            if self.shape.contains(&0) { Some(0) } else { elements.and_then(|count| self.dtype.bytes_of(count)) };
        let Some(bytes) = bytes else {
            let (tensor, block) = (self.name.to_owned(), self.dtype.block_elements());
            return Err(if elements.is_some() {
                PlacementError::Blocks { tensor, dtype: self.dtype.name(), block }
            } else {
                self.outside(u64::MAX)
            });
        };
        // The sum of lengths that each lie in the buffer: of rows that lie apart there are no more bytes than in it.
        Layout::new(self.extents_of(bytes)?).map_err(|_| self.outside(u64::MAX))
    }

    /// Its bytes in the order of the file, of which there are as many as the header says. `as_signed` has the same type
    /// and shape.
    pub(super) fn extents(&self, as_signed: &Tensor) -> Result<Vec<Extent<'a, B>>, PlacementError> {
        self.extents_of(as_signed.range.end - as_signed.range.start)
    }

    /// The same, of so many bytes.
    fn extents_of(&self, bytes: u64) -> Result<Vec<Extent<'a, B>>, PlacementError> {
        let (unit, loops) = match self.loops()? {
            // No element, or one after the other.
            None => (bytes, Vec::new()),
            Some(found) => found,
        };
        let extents = self.walk(unit, &loops)?;
        debug_assert!(bytes == 0 || extents.len() as u64 <= MOST_EXTENTS);
        Ok(extents)
    }

    /// Bytes that lie one after the other, and the loops around them, the outermost first. `None` for a tensor in C
    /// order without gaps.
    fn loops(&self) -> Result<Option<(u64, Vec<Loop>)>, PlacementError> {
        let tensor = || self.name.to_owned();
        let (given, in_bytes) = match &self.strides {
            Strides::Contiguous => return Ok(None),
            Strides::Elements(strides) => (strides, false),
            Strides::Bytes(strides) => (strides, true),
        };
        if given.len() != self.shape.len() {
            let (dimensions, strides) = (self.shape.len(), given.len());
            return Err(PlacementError::Rank { tensor: tensor(), dimensions, strides });
        }
        let (block, block_bytes) = (self.dtype.block_elements(), self.dtype.block_bytes());
        let blocks = || PlacementError::Blocks { tensor: tensor(), dtype: self.dtype.name(), block };
        if self.shape.contains(&0) {
            return Ok(None);
        }
        let mut loops = Vec::new();
        for (dimension, (&count, &stride)) in self.shape.iter().zip(given).enumerate() {
            let last = dimension + 1 == self.shape.len();
            // A dimension of one is never stepped along, whatever its stride. Of blocks the last is cut into these.
            let count = if last && count.is_multiple_of(block) { count / block } else { count };
            if count == 1 {
                continue;
            }
            let overlap = || PlacementError::Overlap { tensor: tensor(), dimension, stride };
            let positive = u64::try_from(stride).ok().filter(|&stride| stride > 0).ok_or_else(overlap)?;
            let bytes = if in_bytes {
                positive
            } else if block == 1 {
                positive.checked_mul(block_bytes).ok_or_else(overlap)?
            } else if last {
                // Elements of a block cannot lie apart.
                if positive != 1 {
                    return Err(blocks());
                }
                block_bytes
            } else {
                if !positive.is_multiple_of(block) {
                    return self.contiguous_in_elements(given).then_some(None).ok_or_else(blocks);
                }
                (positive / block).checked_mul(block_bytes).ok_or_else(overlap)?
            };
            loops.push((dimension, stride, Loop { count, stride: bytes }));
        }
        if self.shape.last().is_some_and(|last| !last.is_multiple_of(block)) {
            // Rows end within a block: only the whole of it is bytes.
            return (!in_bytes && self.contiguous_in_elements(given)).then_some(None).ok_or_else(blocks);
        }
        self.no_overlap(block_bytes, &loops)?;
        Ok(Some(joined(block_bytes, loops.into_iter().map(|(_, _, each)| each))))
    }

    /// Whether these strides are those of C order.
    fn contiguous_in_elements(&self, strides: &[i64]) -> bool {
        let mut next = Some(1_u64);
        self.shape.iter().zip(strides).rev().all(|(&count, &stride)| {
            let fits = count == 1 || u64::try_from(stride).ok() == next;
            next = next.and_then(|next| next.checked_mul(count));
            fits
        })
    }

    /// Refuses elements that share bytes: by growing distance, each dimension steps over all that the ones before span.
    fn no_overlap(&self, unit: u64, loops: &[(usize, i64, Loop)]) -> Result<(), PlacementError> {
        let mut sorted = loops.to_vec();
        sorted.sort_by_key(|(_, _, each)| each.stride);
        let mut span = unit;
        for (dimension, stride, each) in sorted {
            if each.stride < span {
                return Err(PlacementError::Overlap { tensor: self.name.to_owned(), dimension, stride });
            }
            let reach = each.stride.checked_mul(each.count - 1).and_then(|reach| reach.checked_add(span));
            span = reach.ok_or_else(|| self.outside(u64::MAX))?;
        }
        Ok(())
    }

    fn outside(&self, end: u64) -> PlacementError {
        PlacementError::Outside { tensor: self.name.to_owned(), end, size: self.buffer.size() }
    }

    /// The extents: of the innermost loop one for all its rows, of the others one a step.
    fn walk(&self, unit: u64, loops: &[Loop]) -> Result<Vec<Extent<'a, B>>, PlacementError> {
        let (buffer, row) = (self.buffer, unit);
        let span = loops.iter().try_fold(unit, |span, each| each.stride.checked_mul(each.count - 1)?.checked_add(span));
        let end = span.and_then(|span| span.checked_add(self.at)).unwrap_or(u64::MAX);
        if end > buffer.size() {
            return Err(self.outside(end));
        }
        let Some((inner, outer)) = loops.split_last() else {
            return Ok(if unit == 0 { Vec::new() } else { vec![Extent::Range { buffer, at: self.at, len: unit }] });
        };
        let count = outer.iter().try_fold(1_u64, |count, each| count.checked_mul(each.count)).unwrap_or(u64::MAX);
        if count > MOST_EXTENTS {
            let tensor = self.name.to_owned();
            return Err(PlacementError::Scattered { tensor, extents: count, most: MOST_EXTENTS });
        }
        let place = |mut index: u64| {
            outer.iter().rev().fold(self.at, |at, each| {
                let step = index % each.count;
                index /= each.count;
                at + step * each.stride
            })
        };
        let rows = |index| Extent::Rows { buffer, at: place(index), row, stride: inner.stride, rows: inner.count };
        Ok((0..count).map(rows).collect())
    }
}

/// Joins what lies without a gap: bytes one after the other, and loops that step on at one distance.
fn joined(mut unit: u64, loops: impl DoubleEndedIterator<Item = Loop>) -> (u64, Vec<Loop>) {
    // The innermost first.
    let mut found: Vec<Loop> = Vec::new();
    for each in loops.rev() {
        match found.last_mut() {
            None if each.stride == unit => unit = unit.saturating_mul(each.count),
            Some(last) if last.stride.checked_mul(last.count) == Some(each.stride) => {
                last.count = last.count.saturating_mul(each.count);
            }
            _ => found.push(each),
        }
    }
    found.reverse();
    (unit, found)
}

#[cfg(test)]
mod tests;
