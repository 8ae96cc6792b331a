//! How bytes get out of files: one reader for each thread.

use crate::device::file::OpenFile;
use crate::error::Error;

/// How files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ReadMode {
    /// `pread` through the page cache, by several threads.
    #[default]
    Buffered,
}

impl ReadMode {
    /// A reader for the thread that calls.
    ///
    /// # Errors
    /// Why this machine has no such way of reading. There is no other in its place.
    #[allow(clippy::unnecessary_wraps, reason = "the other ways can be missing")]
    pub(crate) fn reader(self) -> Result<Box<dyn Fetch>, Error> {
        match self {
            Self::Buffered => Ok(Box::new(Buffered)),
        }
    }
}

/// One thread's way to get bytes out of files.
///
/// The engine asks for a slab at a time: up to 4 MiB, or a staging block. In whole files slabs begin at multiples of
/// 1 KiB or, from 8 MiB on, of 4 MiB, both in the file and, on the CPU device, in page-aligned memory. Shards, staging
/// blocks and the ends of files can lie anywhere: a reader that needs alignment brings a way for what has none.
pub(crate) trait Fetch {
    /// Fills `to` from byte `at` of the file, and calls `each` with all of `to`, in order, in pieces that it has just
    /// written: small ones, so that they are hashed while they are in the core's cache.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::FileChanged`] for a file that ends too early. `to` can hold anything then, and `each`
    /// may have been called with a part of it.
    fn read(&mut self, file: &OpenFile, at: u64, to: &mut [u8], each: &mut dyn FnMut(&[u8])) -> Result<(), Error>;
}

/// `pread` through the page cache.
struct Buffered;

impl Buffered {
    /// Bytes that are read before they are hashed: they are still in the core's own cache then.
    const PIECE: usize = 512 << 10;
}

impl Fetch for Buffered {
    fn read(&mut self, file: &OpenFile, at: u64, to: &mut [u8], each: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        let mut at = at;
        for piece in to.chunks_mut(Self::PIECE) {
            file.read_at(piece, at)?;
            each(piece);
            at += piece.len() as u64;
        }
        Ok(())
    }
}
