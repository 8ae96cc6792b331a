//! Cases as data: what lies where, what is hashed, in which order; and what must come of it.
//!
//! The oracle is the `blake3` crate over the host's copy of the bytes. It knows nothing of this crate's trees.

use std::fmt;

use crate::device::{Hashed, Want};
use crate::digest::hex;

/// Bytes that both sides can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// 0, 1, .. 250, 0, ..: the input of the official test vectors.
    Pattern,
    /// From a seed.
    Random(u64),
}

impl Fill {
    /// So many of them.
    #[must_use]
    pub fn bytes(self, len: u64) -> Vec<u8> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        match self {
            Self::Pattern => (0..=250).cycle().take(len).collect(),
            Self::Random(seed) => {
                let mut random = Random(seed);
                let mut bytes = Vec::with_capacity(len.next_multiple_of(8));
                while bytes.len() < len {
                    bytes.extend_from_slice(&random.next().to_le_bytes());
                }
                bytes.truncate(len);
                bytes
            }
        }
    }
}

/// Consecutive memory of the device, or of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes.
    pub len: u64,
    /// Which.
    pub fill: Fill,
}

/// A piece of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the host.
    Host {
        /// The first.
        at: u64,
        /// How many.
        len: u64,
    },
    /// Consecutive bytes of a space.
    Range {
        /// Which.
        space: usize,
        /// The first.
        at: u64,
        /// How many.
        len: u64,
    },
    /// Rows of bytes at a fixed distance.
    Rows {
        /// Of which space.
        space: usize,
        /// The first byte of the first row.
        at: u64,
        /// Bytes in each.
        row: u64,
        /// From the start of one to that of the next.
        stride: u64,
        /// How many.
        rows: u64,
    },
}

/// A string and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Where its bytes lie, in order.
    pub pieces: Vec<Piece>,
    /// What is wanted.
    pub want: Want,
}

/// What is done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// One submit. Nobody waits for it before the last step.
    Hash(Vec<Text>),
    /// Other bytes are put into a space: submits before this saw the old ones, those after it see these.
    Overwrite {
        /// The space.
        space: usize,
        /// The first byte.
        at: u64,
        /// How many, and which.
        with: Space,
    },
    /// Bytes are read back.
    Download {
        /// From which space.
        space: usize,
        /// The first byte.
        at: u64,
        /// How many.
        len: u64,
    },
}

/// One test: spaces are made and filled, then the steps are done in order, then all results are waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Memory of the device.
    pub spaces: Vec<Space>,
    /// Memory of the host.
    pub host: Space,
    /// What is done.
    pub steps: Vec<Step>,
    /// Whether the last submit is waited for first.
    pub last_first: bool,
}

/// The bytes of a case as the host knows them.
#[derive(Debug, Clone)]
pub struct Bytes {
    /// One for each space.
    pub spaces: Vec<Vec<u8>>,
    /// The host's.
    pub host: Vec<u8>,
}

impl Case {
    /// Its bytes before the first step.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let bytes = |space: &Space| space.fill.bytes(space.len);
        Bytes { spaces: self.spaces.iter().map(bytes).collect(), host: bytes(&self.host) }
    }
}

impl Bytes {
    /// One string, gathered.
    #[must_use]
    pub fn text(&self, text: &Text) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in &text.pieces {
            match *piece {
                Piece::Host { at, len } => bytes.extend_from_slice(part(&self.host, at, len)),
                Piece::Range { space, at, len } => bytes.extend_from_slice(part(&self.spaces[space], at, len)),
                Piece::Rows { space, at, row, stride, rows } => {
                    for index in 0..rows {
                        bytes.extend_from_slice(part(&self.spaces[space], at + index * stride, row));
                    }
                }
            }
        }
        bytes
    }
}

/// `len` bytes from `at` on.
pub(super) fn part(bytes: &[u8], at: u64, len: u64) -> &[u8] {
    &bytes[at as usize..(at + len) as usize]
}

/// What the `blake3` crate says of a string.
#[must_use]
pub fn oracle(bytes: &[u8], want: Want) -> Hashed {
    want.of(bytes)
}

/// A result, as a failure shows it: the digest, or the number of values and the first that is another in `other`.
pub(super) fn shown(hashed: &Hashed, other: &Hashed) -> String {
    match (hashed, other) {
        (Hashed::Root(digest), _) => digest.to_hex(),
        (Hashed::Groups(values), Hashed::Groups(others)) => {
            let first = values.iter().zip(others).position(|(a, b)| a != b);
            let value = first.map_or(String::new(), |index| format!(", value {index} is {}", hex(&values[index])));
            format!("{} values{value}", values.len())
        }
        (Hashed::Groups(values), Hashed::Root(_)) => format!("{} values", values.len()),
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.want {
            Want::Root => f.write_str("root of")?,
            Want::Groups { first_chunk, group } => {
                write!(f, "groups of {} chunks from chunk {first_chunk} on, of", group.chunks())?;
            }
        }
        for piece in self.pieces.iter().take(8) {
            match *piece {
                Piece::Host { at, len } => write!(f, " host[{at}..{}]", at + len)?,
                Piece::Range { space, at, len } => write!(f, " space{space}[{at}..{}]", at + len)?,
                Piece::Rows { space, at, row, stride, rows } => {
                    write!(f, " space{space}[{rows} rows of {row} from {at} every {stride}]")?;
                }
            }
        }
        if self.pieces.len() > 8 {
            write!(f, " and {} more pieces", self.pieces.len() - 8)?;
        }
        Ok(())
    }
}

/// Numbers that are the same in every run (SplitMix64).
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// One of 0, .. `end - 1`.
    pub(super) const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// One of these.
    pub(super) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}
