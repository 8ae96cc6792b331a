//! From byte ranges of a file to the tensors that they touch.

use std::ops::Range;
use std::sync::Arc;

use crate::format::{Header, Tensor};

/// Where a file differs from what was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Located {
    /// The file, by its name in the model.
    pub file: String,
    /// Its length in bytes, as signed.
    pub signed_len: u64,
    /// Its length as found.
    pub found_len: u64,
    /// Bytes in a group: what is said is not narrower, but about the header.
    pub group: u64,
    /// Bytes from the beginning on that could be compared. What was signed of the file beyond them is not there, or
    /// in part: if the length differs, the last group cannot be compared.
    pub compared: u64,
    /// What is known of the header.
    pub header: HeaderState,
    /// Where it differs, among what was compared, in order. Each of these ranges holds a changed byte.
    pub places: Vec<Place>,
    /// What kept more from being said, such as that the file could not be read again.
    pub hindrance: Option<String>,
}

/// What is known of the header of a file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderState {
    /// The file's name is not that of a file of tensors.
    None,
    /// It is as signed, and so tensors are known.
    AsSigned,
    /// It is not as signed, or something is not that cannot be told apart from it; no tensors are known.
    Differs,
    /// It cannot be read as what the file's name says; no tensors are known.
    Unreadable(String),
}

/// A part of a file with a difference in it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// Its bytes in the file: a group, or neighbouring ones that lie in one and the same tensor and each differ.
    pub range: Range<u64>,
    /// What lies there, in the order of bytes. If there is more than one, any of them may be what differs. Empty if it
    /// is not known.
    pub touches: Vec<Touched>,
}

/// What a [`Place`] touches.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Touched {
    /// The header.
    Header,
    /// Bytes that belong to no tensor.
    Padding,
    /// A tensor.
    Tensor(TouchedTensor),
}

/// The part of a tensor that lies in a [`Place`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TouchedTensor {
    /// The tensor.
    pub tensor: Arc<Tensor>,
    /// The touched bytes, counted from the tensor's first.
    pub bytes: Range<u64>,
    /// The rows with a touched byte: indices of the slowest dimension. `None` for a scalar.
    pub rows: Option<Range<u64>>,
}

/// A file as it is laid out: header, tensors, what is between them.
pub(super) struct Map {
    header: u64,
    tensors: Vec<Arc<Tensor>>,
}

impl Map {
    pub(super) fn new(header: Header) -> Self {
        // A tensor without a byte is touched by nothing.
        let tensors = header.tensors.into_iter().filter(|tensor| !tensor.range.is_empty()).map(Arc::new).collect();
        Self { header: header.len, tensors }
    }

    /// What lies in a range.
    fn touched(&self, range: &Range<u64>) -> Vec<Touched> {
        let (mut touches, mut at) = (Vec::new(), range.start);
        if at < self.header {
            touches.push(Touched::Header);
            at = self.header;
        }
        let first = self.tensors.partition_point(|tensor| tensor.range.end <= at);
        for tensor in self.tensors[first..].iter().take_while(|tensor| tensor.range.start < range.end) {
            if at < tensor.range.start {
                touches.push(Touched::Padding);
            }
            let bytes =
                at.max(tensor.range.start) - tensor.range.start..range.end.min(tensor.range.end) - tensor.range.start;
            let rows = rows(tensor, &bytes);
            touches.push(Touched::Tensor(TouchedTensor { tensor: Arc::clone(tensor), bytes, rows }));
            at = tensor.range.end;
        }
        if at < range.end {
            touches.push(Touched::Padding);
        }
        touches
    }
}

/// The indices of the slowest dimension whose elements have a byte in `bytes` of the tensor.
fn rows(tensor: &Tensor, bytes: &Range<u64>) -> Option<Range<u64>> {
    let rows = *tensor.shape.first().filter(|rows| **rows > 0)?;
    let (elements, bytes_of) = (u128::from(tensor.dtype.block_elements()), u128::from(tensor.dtype.block_bytes()));
    // Elements of one block cannot be told apart, and rows of less than a byte share one.
    let first = u128::from(bytes.start) / bytes_of * elements;
    let end = u128::from(bytes.end).div_ceil(bytes_of) * elements;
    let row = u128::from(tensor.elements()) / u128::from(rows);
    let index = |row: u128| u64::try_from(row).unwrap_or(rows).min(rows);
    (row > 0).then(|| index(first / row)..index(end.div_ceil(row)))
}

/// What lies in ranges with a difference each, in order; `map` is that of the file, if it is known.
pub(super) fn places(ranges: Vec<Range<u64>>, map: Option<&Map>) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for range in ranges {
        let touches = map.map(|map| map.touched(&range)).unwrap_or_default();
        match places.last_mut() {
            Some(last) if last.range.end == range.start && same(&last.touches, &touches) => {
                last.range.end = range.end;
                if let (Some(map), [Touched::Tensor(_)]) = (map, &touches[..]) {
                    last.touches = map.touched(&last.range);
                }
            }
            _ => places.push(Place { range, touches }),
        }
    }
    places
}

/// Whether two neighbours can be told as one: nothing is lost that way if it is clear what differs in both.
fn same(a: &[Touched], b: &[Touched]) -> bool {
    match (a, b) {
        ([Touched::Tensor(a)], [Touched::Tensor(b)]) => Arc::ptr_eq(&a.tensor, &b.tensor),
        ([Touched::Header], [Touched::Header]) | ([Touched::Padding], [Touched::Padding]) | ([], []) => true,
        _ => false,
    }
}

impl Located {
    /// Each tensor that a place touches, in the order of their bytes; whether it differs for sure, since some place lies
    /// in it alone; and what is touched of it.
    #[must_use]
    pub fn tensors(&self) -> Vec<(&Tensor, bool, Vec<&TouchedTensor>)> {
        let mut tensors: Vec<(&Tensor, bool, Vec<&TouchedTensor>)> = Vec::new();
        for place in &self.places {
            for touched in &place.touches {
                let Touched::Tensor(touched) = touched else { continue };
                let alone = place.touches.len() == 1;
                match tensors.last_mut().filter(|(last, ..)| last.range == touched.tensor.range) {
                    Some((_, certain, parts)) => {
                        *certain |= alone;
                        parts.push(touched);
                    }
                    None => tensors.push((&touched.tensor, alone, vec![touched])),
                }
            }
        }
        tensors
    }
}
