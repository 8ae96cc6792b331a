//! How bytes get out of files: one reader for each thread.

#[cfg(test)]
mod tests;

use std::fmt;

use super::direct::Direct;
use crate::device::file::OpenFile;
use crate::error::Error;

/// How files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ReadMode {
    /// `pread` through the page cache, by several threads.
    #[default]
    Buffered,
    /// `pread` past the page cache (`O_DIRECT`). For models that are not in it, where it is for others to use. Not every
    /// file system has it, and memory (tmpfs) has none.
    Direct,
    /// io_uring through the page cache: several reads in flight for each thread. Feature `io-uring`; containers often
    /// forbid it.
    Uring,
    /// io_uring past the page cache.
    DirectUring,
    /// The device reads files of tensors by itself (cuFile: GPUDirect Storage), and takes their digests where they then
    /// lie. For CUDA devices, and where BLAKE3 alone is compared: host memory sees no byte of them. What is not loaded
    /// into the device's memory is read as by `Buffered`.
    CuFile,
}

impl fmt::Display for ReadMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Buffered => "pread",
            Self::Direct => "direct reads",
            Self::Uring => "io_uring",
            Self::DirectUring => "direct reads through io_uring",
            Self::CuFile => "cuFile",
        })
    }
}

impl ReadMode {
    /// A reader for the thread that calls.
    ///
    /// # Errors
    /// Why this machine has no such way of reading. There is no other in its place.
    pub(crate) fn reader(self) -> Result<Box<dyn Fetch>, Error> {
        match self {
            // For companions, which no device reads.
            Self::Buffered | Self::CuFile => Ok(Box::new(Buffered)),
            Self::Direct => Ok(Box::new(Direct::new())),
            #[cfg(feature = "io-uring")]
            Self::Uring | Self::DirectUring => match super::uring::Uring::new(self) {
                Ok(uring) => Ok(Box::new(uring)),
                Err(why) => Err(Error::NoReadMode { mode: self, why }),
            },
            #[cfg(not(feature = "io-uring"))]
            Self::Uring | Self::DirectUring => {
                Err(Error::NoFeature { what: "read files through io_uring", feature: "io-uring" })
            }
        }
    }

    /// Whether it goes past the page cache.
    pub(super) const fn is_direct(self) -> bool {
        matches!(self, Self::Direct | Self::DirectUring)
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

/// Bytes that are read before they are hashed: they are still in the core's own cache then.
pub(super) const CACHED: usize = 512 << 10;

/// `pread` through the page cache.
struct Buffered;

impl Fetch for Buffered {
    fn read(&mut self, file: &OpenFile, at: u64, to: &mut [u8], each: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        let mut at = at;
        for piece in to.chunks_mut(CACHED) {
            file.read_at(piece, at)?;
            each(piece);
            at += piece.len() as u64;
        }
        Ok(())
    }
}
