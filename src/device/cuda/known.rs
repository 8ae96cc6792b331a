//! The known-answer test: every way in which the kernels read and merge, against the blake3 crate.

use std::sync::Arc;

use super::super::{DeviceError, Hashed, Job, Want};
use super::describe::STEPS;
use super::engine::Engine;
use super::launch::Kernels;
use super::memory::{Buffer, Memory};
use crate::digest::Algorithm;
use crate::layout::{Extent, Layout};
use crate::tree::{CHUNK_LEN, GroupSize};

/// Bytes that the test has in device memory: enough for a subtree of the most levels, and a half.
const LEN: usize = 768 << 10;

/// Bytes among which none repeats that a wrong address could find.
fn pattern() -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..LEN / 8).flat_map(|_| word()).collect()
}

/// What is hashed: an extent of the memory, or two with bytes of the host between them.
#[derive(Clone, Copy)]
enum Text {
    Range {
        at: u64,
        len: u64,
    },
    Rows {
        at: u64,
        row: u64,
        stride: u64,
        rows: u64,
    },
    /// A range, bytes of the host, and another range: chunks that straddle them are gathered.
    Pieces {
        at: u64,
        len: u64,
        host: usize,
        then: u64,
        more: u64,
    },
}

/// The cases, with the steps that merge their values. The last counts from so many chunks below the place where the
/// 32-bit counter turns.
fn cases() -> Vec<(Text, Want, usize)> {
    let range = |at, len| Text::Range { at, len };
    let turn = Want::Groups { first_chunk: (1 << 32) - 32, group: GroupSize::at_most(4 * CHUNK_LEN) };
    // All 9 levels: a subtree of 512 chunks on the left, and one of 64 for what is below the root on the right.
    let tall = (512 + 64) * CHUNK_LEN + 777;
    vec![
        (range(0, tall), Want::Root, 0),
        (range(16, tall), Want::Root, 1),
        (range(8, 40 * CHUNK_LEN + 5), Want::Root, 0),
        (range(5, 70 * CHUNK_LEN), Want::Root, 0),
        (range(1 << 16, 64 * CHUNK_LEN), turn, 0),
        (range((1 << 16) + 3, 64 * CHUNK_LEN), turn, 1),
        (range(77, 1000), Want::Root, 0),
        (range(0, 0), Want::Root, 0),
        (Text::Rows { at: 128, row: 384, stride: 1040, rows: 90 }, Want::Root, 0),
        (Text::Rows { at: 24, row: 31 * 1024 + 512, stride: 32 << 10, rows: 3 }, Want::Root, 1),
        (Text::Rows { at: 7, row: 333, stride: 1001, rows: 50 }, Want::Root, 0),
        (Text::Pieces { at: 1 << 17, len: 3333, host: 1111, then: 9, more: 5 * CHUNK_LEN }, Want::Root, 0),
    ]
}

impl Text {
    fn layout<'a>(self, buffer: &'a Buffer, bytes: &'a [u8]) -> Result<Layout<'a, Buffer>, DeviceError> {
        let extents = match self {
            Self::Range { at, len } => vec![Extent::Range { buffer, at, len }],
            Self::Rows { at, row, stride, rows } => vec![Extent::Rows { buffer, at, row, stride, rows }],
            Self::Pieces { at, len, host, then, more } => {
                let (first, last) = (Extent::Range { buffer, at, len }, Extent::Range { buffer, at: then, len: more });
                vec![first, Extent::Host(&bytes[..host]), last]
            }
        };
        Ok(Layout::new(extents)?)
    }

    fn bytes(self, bytes: &[u8]) -> Vec<u8> {
        let part = |at: u64, len: u64| &bytes[at as usize..(at + len) as usize];
        match self {
            Self::Range { at, len } => part(at, len).to_vec(),
            Self::Rows { at, row, stride, rows } => {
                (0..rows).flat_map(|nth| part(at + nth * stride, row)).copied().collect()
            }
            Self::Pieces { at, len, host, then, more } => [part(at, len), &bytes[..host], part(then, more)].concat(),
        }
    }
}

/// Runs the test with each of `variants`.
///
/// # Errors
/// [`DeviceError::SelfTest`] if one result is another than the crate's.
pub(super) fn test<'a>(
    engine: &Arc<Engine>,
    variants: impl Iterator<Item = &'a Arc<Kernels>>,
) -> Result<(), DeviceError> {
    let bytes = pattern();
    let memory = Memory::new(&engine.context, LEN as u64, "the known-answer test")?;
    for (nth, part) in bytes.chunks(engine.ring.block()).enumerate() {
        let mut block = engine.ring.take()?;
        block.as_mut()[..part.len()].copy_from_slice(part);
        engine.upload(block, part.len(), &memory, (nth * engine.ring.block()) as u64)?;
    }
    let buffer = Buffer { memory };
    let cases = cases();
    let answers: Vec<Hashed> = cases.iter().map(|(text, want, _)| want.of(&text.bytes(&bytes))).collect();
    for kernels in variants {
        for (nth, steps) in STEPS.into_iter().enumerate() {
            let mine = cases.iter().zip(&answers).filter(|((_, _, steps), _)| *steps == nth);
            let (jobs, answers): (Vec<_>, Vec<_>) = mine
                .map(|((text, want, _), answer)| {
                    (text.layout(&buffer, &bytes).map(|layout| Job { layout, want: *want }), answer)
                })
                .unzip();
            let jobs = jobs.into_iter().collect::<Result<Vec<_>, _>>()?;
            let results = engine.submit(kernels, &jobs, None, Some(steps))?.wait()?;
            if results.iter().ne(answers) {
                let error = DeviceError::SelfTest { device: engine.context.kind(), algorithm: Algorithm::Blake3 };
                return Err(engine.context.close(error));
            }
        }
    }
    Ok(())
}
