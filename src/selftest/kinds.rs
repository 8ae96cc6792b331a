//! Which cases there are. Each is made from the seed, its kind and its number alone, so that one can be run again.

use std::fmt;
use std::str::FromStr;

use super::case::{Case, Fill, Piece, Random, Space, Step, Text};
use crate::device::Want;
use crate::tree::{CHUNK_LEN, GroupSize};

/// What a case is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The lengths and the input of the official BLAKE3 test vectors.
    Vectors,
    /// Every alignment, lengths around every edge of a chunk.
    Alignment,
    /// Strings cut at odd places inside words, blocks and chunks.
    Splits,
    /// Strings of pieces on the host, ranges and rows in several buffers.
    Layouts,
    /// Values of groups of every size.
    Groups,
    /// The counter of chunks around 2^32 and up to the last chunk that BLAKE3 can count.
    Counters,
    /// Thousands of tiny strings in one submit.
    Many,
    /// Many submits before the first result is asked for, and memory overwritten between them.
    Flight,
    /// Bytes to the device and back, at odd places.
    Copies,
    /// Strings of many megabytes.
    Large,
    /// Several threads at once on one device.
    Threads,
}

/// The lengths of the official test vectors.
const VECTORS: [u64; 35] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025, 2048, 2049, 3072, 3073, 4096, 4097, 5120,
    5121, 6144, 6145, 7168, 7169, 8192, 8193, 16384, 31744, 102_400,
];

/// Lengths at which something changes: words, blocks, chunks, small trees.
const EDGES: [u64; 24] = [
    1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 127, 512, 1000, 1023, 1024, 1025, 2047, 2048, 2049, 4095, 4096, 4097, 16385,
];

impl Kind {
    /// All of them, in the order in which they are run.
    pub const ALL: [Self; 11] = [
        Self::Vectors,
        Self::Alignment,
        Self::Splits,
        Self::Layouts,
        Self::Groups,
        Self::Counters,
        Self::Many,
        Self::Flight,
        Self::Copies,
        Self::Large,
        Self::Threads,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vectors => "vectors",
            Self::Alignment => "alignment",
            Self::Splits => "splits",
            Self::Layouts => "layouts",
            Self::Groups => "groups",
            Self::Counters => "counters",
            Self::Many => "many",
            Self::Flight => "flight",
            Self::Copies => "copies",
            Self::Large => "large",
            Self::Threads => "threads",
        }
    }

    /// How many cases a round has.
    #[must_use]
    pub const fn cases(self) -> usize {
        match self {
            Self::Vectors => 4,
            Self::Alignment => 64,
            Self::Splits | Self::Layouts => 60,
            Self::Groups => 39,
            Self::Counters => 40,
            Self::Many | Self::Large => 2,
            Self::Flight | Self::Copies => 10,
            Self::Threads => 32,
        }
    }

    /// Case `index` of this kind: the same for the same numbers, in every build.
    #[must_use]
    pub fn case(self, seed: u64, index: usize) -> Case {
        let mut random = Random(seed ^ ((self as u64) << 56) ^ ((index as u64) << 32));
        let random = &mut Random(random.next());
        match self {
            Self::Vectors => vectors(index),
            Self::Alignment => alignment(index, random),
            Self::Splits => splits(random),
            Self::Layouts | Self::Threads => layouts(random),
            Self::Groups => groups(index, random),
            Self::Counters => counters(random),
            Self::Many => many(random),
            Self::Flight => flight(random),
            Self::Copies => copies(random),
            Self::Large => large(random),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let all: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
            format!("{name:?} is not a kind of case; there are {}", all.join(", "))
        })
    }
}

fn space(len: u64, random: &mut Random) -> Space {
    Space { len, fill: Fill::Random(random.next()) }
}

fn hash(spaces: Vec<Space>, host: Space, texts: Vec<Text>) -> Case {
    Case { spaces, host, steps: vec![Step::Hash(texts)], last_first: false }
}

const NO_HOST: Space = Space { len: 0, fill: Fill::Pattern };

fn root(pieces: Vec<Piece>) -> Text {
    Text { pieces, want: Want::Root }
}

/// A part of a longer string, that begins where it may.
fn some_groups(pieces: Vec<Piece>, first_chunk: u64, log: u8) -> Text {
    let group = GroupSize::from_chunk_log(log).unwrap_or(GroupSize::MAX);
    Text { pieces, want: Want::Groups { first_chunk: first_chunk / group.chunks() * group.chunks(), group } }
}

fn vectors(index: usize) -> Case {
    let longest = VECTORS[VECTORS.len() - 1];
    // The input begins at any multiple of its period.
    let at = [0, 251, 0, 251 * 3][index % 4];
    let piece = |len| match index % 4 {
        2 => Piece::Host { at, len },
        _ => Piece::Range { space: 0, at, len },
    };
    let texts: Vec<Text> = VECTORS.iter().map(|&len| root(vec![piece(len)])).collect();
    let space = Space { len: at + longest, fill: Fill::Pattern };
    let steps = if index.is_multiple_of(2) {
        vec![Step::Hash(texts)]
    } else {
        texts.into_iter().map(|text| Step::Hash(vec![text])).collect()
    };
    Case { spaces: vec![space], host: space, steps, last_first: false }
}

fn alignment(index: usize, random: &mut Random) -> Case {
    let offset = (index % 64) as u64;
    let mut texts = Vec::new();
    let longest = 65_543;
    for len in EDGES.into_iter().chain([longest]) {
        // From the beginning on, and up to the last byte of the memory.
        for at in [offset, longest - len + 64 - offset] {
            texts.push(root(vec![Piece::Range { space: 0, at, len }]));
            let pieces = vec![Piece::Range { space: 0, at, len }];
            texts.push(some_groups(pieces, random.below(1 << 34), random.below(4) as u8));
        }
    }
    hash(vec![space(longest + 64, random)], NO_HOST, texts)
}

/// Two spaces, of odd lengths, and a host.
fn spaces(random: &mut Random) -> (Vec<Space>, Space) {
    (vec![space(70_001, random), space(31_337, random)], space(9_001, random))
}

/// `len` bytes somewhere, consecutive or in rows. Perhaps fewer, where they do not fit.
fn somewhere(spaces: &[Space], host: Space, len: u64, random: &mut Random) -> Piece {
    let place = |size: u64, len: u64, random: &mut Random| {
        let len = len.min(size);
        let at = random.below(size - len + 1);
        // Half of them aligned as allocations are.
        if random.below(2) == 0 { (at / 16 * 16, len) } else { (at, len) }
    };
    match random.below(4) {
        0 => {
            let (at, len) = place(host.len, len, random);
            Piece::Host { at, len }
        }
        1 => {
            let index = random.below(spaces.len() as u64) as usize;
            let row = random.of(&[1, 2, 7, 64, 96, 100, 128, 1000, 1024, 1920]).min(len.max(1));
            let gap = random.of(&[0, 1, 8, 16, 33, 128]);
            let rows = (len / row).clamp(1, (spaces[index].len - row) / (row + gap) + 1);
            let (at, _) = place(spaces[index].len, (rows - 1) * (row + gap) + row, random);
            Piece::Rows { space: index, at, row, stride: row + gap, rows }
        }
        _ => {
            let index = random.below(spaces.len() as u64) as usize;
            let (at, len) = place(spaces[index].len, len, random);
            Piece::Range { space: index, at, len }
        }
    }
}

fn splits(random: &mut Random) -> Case {
    let (spaces, host) = spaces(random);
    let text = |random: &mut Random| {
        let pieces = (0..1 + random.below(40)).map(|_| {
            let len = random.of(&EDGES[..21]);
            somewhere(&spaces, host, len, random)
        });
        let pieces = pieces.collect();
        if random.below(3) > 0 {
            root(pieces)
        } else {
            some_groups(pieces, random.below(1 << 33), random.below(4) as u8)
        }
    };
    let texts = (0..4).map(|_| text(random)).collect();
    hash(spaces, host, texts)
}

fn layouts(random: &mut Random) -> Case {
    let (spaces, host) = spaces(random);
    let text = |random: &mut Random| {
        let pieces = (0..random.below(6)).map(|_| {
            let len = random.below(40_000);
            somewhere(&spaces, host, len, random)
        });
        let pieces = pieces.collect();
        if random.below(2) > 0 {
            root(pieces)
        } else {
            some_groups(pieces, random.below(1 << 44), random.below(7) as u8)
        }
    };
    let texts = (0..1 + random.below(6)).map(|_| text(random)).collect();
    hash(spaces, host, texts)
}

fn groups(index: usize, random: &mut Random) -> Case {
    let log = (index % 13) as u8;
    let group = CHUNK_LEN << log;
    let most = (1_500_000 / group).max(1);
    let len = group * (1 + random.below(most.min(40))) + [0, 1, group - 1][index / 13 % 3];
    let at = random.below(20);
    let pieces = vec![Piece::Range { space: 0, at, len }];
    let texts = vec![some_groups(pieces.clone(), random.below(1 << 30), log), root(pieces)];
    hash(vec![space(at + len, random)], NO_HOST, texts)
}

fn counters(random: &mut Random) -> Case {
    let len = 1 + random.below(200_000);
    let log = random.below(6) as u8;
    let chunks = len.div_ceil(CHUNK_LEN) >> log << log;
    let edge = 1_u64 << 32;
    // Before the edge, over it, behind it, and with a carry out of each half.
    let firsts = [edge - chunks - 1, edge - chunks / 2, edge - 1, edge, edge * 2 - 2, edge * 5 + 7, (1 << 54) - 256];
    let text = |first: u64| {
        let (at, len) = if first > 1 << 53 { (0, len.min(1 << 17)) } else { (0, len) };
        some_groups(vec![Piece::Range { space: 0, at, len }], first, log)
    };
    let texts = firsts.into_iter().map(text).collect();
    hash(vec![space(len, random)], NO_HOST, texts)
}

fn many(random: &mut Random) -> Case {
    let size = 2 << 20;
    let text = |random: &mut Random| {
        let len = if random.below(8) == 0 { random.below(12_000) } else { random.below(2100) };
        root(vec![Piece::Range { space: 0, at: random.below(size - len), len }])
    };
    let texts = (0..4000).map(|_| text(random)).collect();
    hash(vec![space(size, random)], NO_HOST, texts)
}

fn flight(random: &mut Random) -> Case {
    let size = 1 << 19;
    let mut steps = Vec::new();
    for _ in 0..8 {
        let text = |random: &mut Random| {
            let len = random.below(size);
            root(vec![Piece::Range { space: random.below(2) as usize, at: random.below(size - len + 1), len }])
        };
        steps.push(Step::Hash((0..1 + random.below(5)).map(|_| text(random)).collect()));
        let len = 1 + random.below(size);
        let with = space(len, random);
        steps.push(Step::Overwrite { space: random.below(2) as usize, at: random.below(size - len + 1), with });
    }
    let last_first = random.below(2) > 0;
    Case { spaces: vec![space(size, random), space(size, random)], host: NO_HOST, steps, last_first }
}

fn copies(random: &mut Random) -> Case {
    let size = 100_003;
    let mut steps = Vec::new();
    for _ in 0..12 {
        let len = random.of(&[1, 3, 4, 5, 16, 17, 1000, 4096, 50_001]);
        let with = space(len, random);
        steps.push(Step::Overwrite { space: 0, at: random.below(size - len + 1), with });
        let len = random.of(&[0, 1, 3, 4, 7, 64, 999, 99_999]);
        steps.push(Step::Download { space: 0, at: random.below(size - len + 1), len });
    }
    steps.push(Step::Hash(vec![root(vec![Piece::Range { space: 0, at: 0, len: size }])]));
    Case { spaces: vec![space(size, random)], host: NO_HOST, steps, last_first: false }
}

fn large(random: &mut Random) -> Case {
    let size = (24 << 20) + 1234;
    let at = 1 + random.below(64);
    let whole = vec![Piece::Range { space: 0, at, len: size - at - random.below(3000) }];
    let rows = vec![
        Piece::Host { at: 1, len: 777 },
        Piece::Rows { space: 0, at: 64, row: 4096, stride: 4096 + 1024, rows: 4000 },
        Piece::Rows { space: 0, at: 3, row: 1001, stride: 1500, rows: 9000 },
    ];
    let texts = vec![root(whole.clone()), some_groups(whole, 1 << 22, 10), root(rows)];
    hash(vec![space(size, random)], space(1000, random), texts)
}
