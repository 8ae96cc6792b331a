//! From a file into a staging block, by several threads where there is much to read.

use crate::device::file::OpenFile;
use crate::device::{DeviceError, DeviceKind};
use crate::error::Error;

/// Bytes that one thread reads at least: less is done before another has started.
const PIECE: usize = 1 << 20;

/// Bytes that are read before they are hashed, small enough to stay in a core's own cache until then.
const STEP: usize = 512 << 10;

/// Gets bytes of a file, and where in it they begin.
type Take<'a> = dyn FnMut(u64, &[u8]) -> Result<(), Error> + 'a;

#[derive(Debug, Clone, Copy)]
pub(super) struct Reader {
    pub(super) threads: usize,
}

impl Reader {
    /// Fills `block` from byte `at` of the file and calls `take` with all of it, in order, piece by piece,
    /// and where each piece begins in the file.
    pub(super) fn read(
        self,
        file: &OpenFile,
        at: u64,
        block: &mut [u8],
        take: &mut Take<'_>,
        kind: &DeviceKind,
    ) -> Result<(), Error> {
        let pieces = self.threads.min(block.len() / PIECE).max(1);
        if pieces == 1 {
            let mut at = at;
            for step in block.chunks_mut(STEP) {
                file.read_at(step, at)?;
                take(at, step)?;
                at += step.len() as u64;
            }
            return Ok(());
        }
        let piece = block.len().div_ceil(pieces);
        std::thread::scope(|scope| {
            let pieces: Vec<_> = block
                .chunks_mut(piece)
                .enumerate()
                .map(|(index, piece_of)| {
                    let at = at + (index * piece) as u64;
                    scope.spawn(move || -> Result<&[u8], Error> {
                        file.read_at(piece_of, at)?;
                        Ok(piece_of)
                    })
                })
                .collect();
            // The first pieces are hashed while the others are still being read. After an error the scope waits.
            let mut at = at;
            for piece in pieces {
                let piece = piece.join().map_err(|_| DeviceError::Worker(kind.clone()))??;
                take(at, piece)?;
                at += piece.len() as u64;
            }
            Ok(())
        })
    }
}
