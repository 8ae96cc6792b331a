//! The known-answer test: every path of the shader that a plan can select, against the `blake3` crate.

use super::super::{Backend, DeviceError, Hashed, Job, Want};
use super::Wgpu;
use super::memory::DeviceMemory;
use crate::digest::Algorithm;
use crate::layout::{Extent, Layout};
use crate::tree::{CHUNK_LEN, GroupSize};

/// Bytes on the device.
const LEN: u64 = 96 << 10;

/// # Errors
/// [`DeviceError::SelfTest`] for a wrong answer, or what kept the device from giving one.
pub(super) fn answers(wgpu: &Wgpu) -> Result<(), DeviceError> {
    // No period of a power of two: a chunk read from another place has other bytes.
    let bytes: Vec<u8> = (0..LEN).map(|i| (i % 251) as u8 ^ (i >> 10) as u8).collect();
    let mut memory = wgpu.alloc(LEN)?;
    let mut at = 0;
    for part in bytes.chunks(wgpu.limits.block as usize - 3) {
        // With a piece that no copy of the device can move, if there is more than one.
        let mut block = wgpu.staging()?;
        block.as_mut()[..part.len()].copy_from_slice(part);
        wgpu.upload(block, part.len(), &mut memory, at)?;
        at += part.len() as u64;
    }

    let buffer = &memory;
    let range = |at, len| Extent::Range { buffer, at, len };
    let group = |log| GroupSize::from_chunk_log(log).unwrap_or(GroupSize::at_most(0));
    let mut jobs: Vec<(Vec<Extent<'_, DeviceMemory>>, Want)> = Vec::new();
    // In place from any byte, with a short chunk at the end or without one, and the counter on both sides of 2^32.
    for at in [0, 1, 2, 3, 8, 12, 31] {
        jobs.push((vec![range(at, 40 * CHUNK_LEN)], Want::Root));
        jobs.push((vec![range(at, 9 * CHUNK_LEN + 77)], Want::Root));
        let want = Want::Groups { first_chunk: (1 << 32) - 8, group: group(2) };
        jobs.push((vec![range(at, 16 * CHUNK_LEN)], want));
    }
    // Rows: in place, in place but shifted, gathered.
    for (at, row, stride) in [(0, 64, 128), (5, 192, 1001), (16, 1024, 2048), (3, 50, 333), (7, 2, 9)] {
        let rows = (LEN - at - row) / stride + 1;
        jobs.push((vec![Extent::Rows { buffer, at, row, stride, rows }], Want::Root));
    }
    // Chunks that straddle pieces of every alignment, from the device and the host.
    let pieces = (0..60).map(|i| match i % 3 {
        0 => Extent::Host(&bytes[i * 5..i * 5 + 100 + i * 7]),
        1 => range(i as u64 * 131, 900 + i as u64),
        _ => Extent::Rows { buffer, at: i as u64, row: 30, stride: 31, rows: 5 },
    });
    jobs.push((pieces.collect(), Want::Root));
    jobs.push((vec![Extent::Host(&bytes[3..40_000])], Want::Root));
    jobs.push((vec![range(11, 1000)], Want::Root));
    jobs.push((Vec::new(), Want::Root));
    // All levels of merging, where most chunks are the same few over and over.
    let levels = wgpu.limits.levels;
    let times = (CHUNK_LEN << levels).div_ceil(LEN) as usize + 1;
    let want = Want::Groups { first_chunk: 1 << 40, group: group(levels) };
    jobs.push((vec![range(0, LEN); times], want));

    let expected: Vec<Hashed> = jobs.iter().map(|(extents, want)| answer(&bytes, extents, *want)).collect();
    let jobs = jobs.into_iter().map(|(extents, want)| Ok(Job { layout: Layout::new(extents)?, want }));
    let jobs = jobs.collect::<Result<Vec<_>, DeviceError>>()?;
    if wgpu.hash(&jobs)? == expected && wgpu.download(buffer, 0..LEN)? == bytes {
        return Ok(());
    }
    Err(DeviceError::SelfTest { device: wgpu.kind(), algorithm: Algorithm::Blake3 })
}

/// What the crate says.
fn answer(bytes: &[u8], extents: &[Extent<'_, DeviceMemory>], want: Want) -> Hashed {
    let mut text = Vec::new();
    for extent in extents {
        match *extent {
            Extent::Host(host) => text.extend_from_slice(host),
            Extent::Range { at, len, .. } => text.extend_from_slice(&bytes[at as usize..(at + len) as usize]),
            Extent::Rows { at, row, stride, rows, .. } => {
                for start in (0..rows).map(|index| (at + index * stride) as usize) {
                    text.extend_from_slice(&bytes[start..start + row as usize]);
                }
            }
        }
    }
    want.of(&text)
}
