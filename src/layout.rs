//! Where the bytes of one string lie: an ordered list of extents whose concatenation is the string.
//!
//! A safetensors file that has become a header on the host and three hundred tensors in device memory is still one
//! string, and a [`Layout`] says so without a copy. Extents begin and end at any byte.

use std::ops::Range;

/// Memory of a device, as far as a layout has to know it.
pub trait Buffer {
    /// Bytes that may be read.
    fn size(&self) -> u64;

    /// Where it is: an address, or a number, that no other memory of the same device has as long as this exists.
    fn place(&self) -> u64;
}

/// One piece of a string.
#[derive(Debug)]
pub enum Extent<'a, B> {
    /// Bytes on the host; they are copied when the job is submitted.
    Host(&'a [u8]),
    /// Consecutive bytes of a buffer.
    Range {
        /// The buffer.
        buffer: &'a B,
        /// Its first byte that counts.
        at: u64,
        /// Bytes.
        len: u64,
    },
    /// A rectangle: rows of bytes at a fixed distance, as a slice of a matrix is.
    Rows {
        /// The buffer.
        buffer: &'a B,
        /// The first byte of the first row.
        at: u64,
        /// Bytes in each row.
        row: u64,
        /// Bytes from the start of a row to the start of the next, at least `row` if there is a next.
        stride: u64,
        /// How many rows.
        rows: u64,
    },
}

// Derived, these would ask the same of B, of which only a reference is held.
impl<B> Clone for Extent<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Extent<'_, B> {}

impl<B: Buffer> Extent<'_, B> {
    /// Bytes of the string in it. `None` if that is no number, or if the extent leaves its buffer or its rows overlap.
    fn checked_len(&self) -> Option<u64> {
        match *self {
            Self::Host(bytes) => Some(bytes.len() as u64),
            Self::Range { buffer, at, len } => (at.checked_add(len)? <= buffer.size()).then_some(len),
            Self::Rows { row, rows, .. } if row == 0 || rows == 0 => Some(0),
            Self::Rows { buffer, at, row, stride, rows } => {
                let end = stride.checked_mul(rows - 1)?.checked_add(row)?.checked_add(at)?;
                if (rows > 1 && stride < row) || end > buffer.size() { None } else { row.checked_mul(rows) }
            }
        }
    }
}

impl<'a, B> Extent<'a, B> {
    /// Bytes of the string in it, for an extent that was checked.
    fn len(&self) -> u64 {
        match *self {
            Self::Host(bytes) => bytes.len() as u64,
            Self::Range { len, .. } => len,
            Self::Rows { row, rows, .. } => row * rows,
        }
    }

    /// Adds the extents of bytes `range` of its string: of rows these may be three, since the first and the last can be
    /// cut. The extent was checked, and the range lies in it.
    fn cut(&self, range: Range<u64>, to: &mut Vec<Self>) {
        match *self {
            Self::Host(bytes) => to.push(Self::Host(&bytes[range.start as usize..range.end as usize])),
            Self::Range { buffer, at, .. } => {
                to.push(Self::Range { buffer, at: at + range.start, len: range.end - range.start });
            }
            Self::Rows { buffer, at, row, stride, .. } => {
                let mut from = range.start;
                while from < range.end {
                    let (first, column) = (from / row, from % row);
                    let at = at + first * stride + column;
                    let whole = (range.end - from) / row;
                    if column == 0 && whole > 0 {
                        to.push(Self::Rows { buffer, at, row, stride, rows: whole });
                        from += whole * row;
                    } else {
                        let len = (row - column).min(range.end - from);
                        to.push(Self::Range { buffer, at, len });
                        from += len;
                    }
                }
            }
        }
    }
}

/// An extent does not lie in its buffer, or a string would be longer than BLAKE3 can count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "extent {index} of a layout leaves its buffer, has rows that overlap, or makes the string longer than 2^63 bytes; nothing was read"
)]
pub struct LayoutError {
    /// Which extent, from 0.
    pub index: usize,
}

/// The extents of one string, checked: each lies within its buffer.
#[derive(Debug)]
pub struct Layout<'a, B> {
    extents: Vec<Extent<'a, B>>,
    len: u64,
}

impl<B> Clone for Layout<'_, B> {
    fn clone(&self) -> Self {
        Self { extents: self.extents.clone(), len: self.len }
    }
}

impl<'a, B: Buffer> Layout<'a, B> {
    /// The string made of `extents`, in order.
    ///
    /// # Errors
    /// [`LayoutError`] for an extent that leaves its buffer.
    pub fn new(extents: Vec<Extent<'a, B>>) -> Result<Self, LayoutError> {
        let mut len = 0_u64;
        for (index, extent) in extents.iter().enumerate() {
            let total = extent.checked_len().and_then(|more| len.checked_add(more)).filter(|&total| total < 1 << 63);
            len = total.ok_or(LayoutError { index })?;
        }
        Ok(Self { extents, len })
    }

    /// The string that is `buffer`, whole.
    ///
    /// # Errors
    /// [`LayoutError`] if that is longer than any memory.
    pub fn whole(buffer: &'a B) -> Result<Self, LayoutError> {
        Self::new(vec![Extent::Range { buffer, at: 0, len: buffer.size() }])
    }

    /// The string that is bytes `range` of this one. `None` if it has no such bytes.
    #[must_use]
    pub fn part(&self, range: Range<u64>) -> Option<Self> {
        if range.start > range.end || range.end > self.len {
            return None;
        }
        let (mut extents, mut start) = (Vec::new(), 0);
        for extent in &self.extents {
            let end = start + extent.len();
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                extent.cut(from - start..to - start, &mut extents);
            }
            if end >= range.end {
                break;
            }
            start = end;
        }
        Some(Self { extents, len: range.end - range.start })
    }

    /// The extents, in order.
    #[must_use]
    pub fn extents(&self) -> &[Extent<'a, B>] {
        &self.extents
    }

    /// Bytes in the string.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether the string is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sized(u64);

    impl Buffer for Sized {
        fn size(&self) -> u64 {
            self.0
        }

        fn place(&self) -> u64 {
            0
        }
    }

    fn len(extent: Extent<'_, Sized>) -> Option<u64> {
        Layout::new(vec![Extent::Host(b"head"), extent]).ok().map(|layout| layout.len() - 4)
    }

    #[test]
    fn extents_end_where_their_buffer_ends() {
        let buffer = &Sized(100);
        assert_eq!(len(Extent::Range { buffer, at: 0, len: 100 }), Some(100));
        assert_eq!(len(Extent::Range { buffer, at: 100, len: 0 }), Some(0));
        for (at, len_) in [(0, 101), (1, 100), (101, 0), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!(len(Extent::Range { buffer, at, len: len_ }), None, "{at} {len_}");
        }
        let rows = |at, row, stride, rows| len(Extent::Rows { buffer, at, row, stride, rows });
        // The last row ends where its bytes end, not where the next would start.
        assert_eq!(rows(0, 10, 30, 4), Some(40));
        assert_eq!(rows(0, 10, 10, 10), Some(100));
        assert_eq!(rows(7, 0, 0, u64::MAX), Some(0));
        assert_eq!(rows(7, 5, 0, 1), Some(5));
        for (at, row, stride, count) in [
            (1, 10, 30, 4),
            (0, 11, 30, 4),
            (0, 10, 31, 4),
            (0, 10, 9, 2),
            (0, 10, u64::MAX, 2),
            (0, 1, 1, u64::MAX),
            (u64::MAX, 1, 1, 1),
        ] {
            assert_eq!(rows(at, row, stride, count), None, "{at} {row} {stride} {count}");
        }
    }

    #[test]
    fn a_string_of_impossible_length_is_refused_by_its_extent() {
        let buffer = &Sized(u64::MAX);
        let half = Extent::Range { buffer, at: 0, len: 1 << 62 };
        assert!(Layout::new(vec![half]).is_ok());
        assert_eq!(Layout::new(vec![half, half]).err(), Some(LayoutError { index: 1 }));
        assert!(Layout::whole(buffer).is_err());
    }

    #[test]
    fn a_part_of_a_string_has_the_bytes_of_that_part() {
        let (memory, host): (Vec<u8>, &[u8]) = ((0..=255).collect(), b"twelve bytes");
        let buffer = &Sized(256);
        let extents = vec![
            Extent::Range { buffer, at: 3, len: 5 },
            Extent::Host(host),
            Extent::Range { buffer, at: 9, len: 0 },
            Extent::Rows { buffer, at: 50, row: 4, stride: 7, rows: 6 },
            Extent::Rows { buffer, at: 50, row: 4, stride: 0, rows: 0 },
            Extent::Rows { buffer, at: 200, row: 3, stride: 3, rows: 1 },
        ];
        let bytes_of = |layout: &Layout<'_, Sized>| -> Vec<u8> {
            let mut bytes = Vec::new();
            for extent in layout.extents() {
                match *extent {
                    Extent::Host(host) => bytes.extend(host),
                    Extent::Range { at, len, .. } => bytes.extend(&memory[at as usize..(at + len) as usize]),
                    Extent::Rows { at, row, stride, rows, .. } => {
                        let rows = (0..rows).map(|nth| (at + nth * stride) as usize);
                        rows.for_each(|at| bytes.extend(&memory[at..at + row as usize]));
                    }
                }
            }
            bytes
        };
        let whole = Layout::new(extents).unwrap();
        let bytes = bytes_of(&whole);
        assert_eq!(bytes.len() as u64, whole.len());
        for start in 0..=bytes.len() {
            for end in start..=bytes.len() {
                let part = whole.part(start as u64..end as u64).unwrap();
                assert_eq!((bytes_of(&part), part.len()), (bytes[start..end].to_vec(), (end - start) as u64));
                assert!(Layout::new(part.extents().to_vec()).is_ok_and(|again| again.len() == part.len()));
            }
        }
        #[allow(clippy::reversed_empty_ranges)]
        for range in [0..whole.len() + 1, 3..2, u64::MAX..u64::MAX] {
            assert!(whole.part(range).is_none());
        }
    }
}
