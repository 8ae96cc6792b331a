//! What a file wants of reads that go past the page cache.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

/// What the kernel says of direct reads of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alignment {
    /// Place in the file, length, and address in memory are to be multiples of this, a power of two.
    Known(usize),
    /// It does not say: kernels before 6.1, and network file systems.
    Unknown,
    /// There are none.
    None,
    /// The file is in memory, and reading past the cache would be reading the cache.
    InMemory,
}

impl Alignment {
    /// Asks the kernel.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        if in_memory(file)? {
            return Ok(Self::InMemory);
        }
        let mut facts = MaybeUninit::<libc::statx>::zeroed();
        // SAFETY: the descriptor is open, the empty path ends with a zero byte and means it, and one statx is written.
        let done = unsafe {
            let (path, flags) = (c"".as_ptr(), libc::AT_EMPTY_PATH);
            libc::statx(file.as_raw_fd(), path, flags, libc::STATX_DIOALIGN, facts.as_mut_ptr())
        };
        if done != 0 {
            let error = io::Error::last_os_error();
            // Kernels before 4.11, and filters of system calls that do not know it.
            return if error.raw_os_error() == Some(libc::ENOSYS) { Ok(Self::Unknown) } else { Err(error) };
        }
        // SAFETY: numbers alone, all of them zero or written.
        let facts = unsafe { facts.assume_init() };
        if facts.stx_mask & libc::STATX_DIOALIGN == 0 {
            return Ok(Self::Unknown);
        }
        Ok(Self::from_statx(facts.stx_dio_mem_align, facts.stx_dio_offset_align))
    }

    /// One number for both: they are powers of two. None is zeros in both.
    fn from_statx(memory: u32, offset: u32) -> Self {
        match memory.max(offset) {
            0 => Self::None,
            most => usize::try_from(most).ok().filter(|most| most.is_power_of_two()).map_or(Self::Unknown, Self::Known),
        }
    }
}

/// Whether it lies in a tmpfs. That opens files for direct reads from Linux 6.6 on, and reads the page cache.
fn in_memory(file: &File) -> io::Result<bool> {
    let mut facts = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the descriptor is open, and one statfs is written.
    if unsafe { libc::fstatfs(file.as_raw_fd(), facts.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: numbers alone, all of them zero or written.
    let facts = unsafe { facts.assume_init() };
    // Signed or not, by C library: a magic number is 32 bits.
    Ok(facts.f_type as u32 == libc::TMPFS_MAGIC as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_taken_at_its_word() {
        for (memory, offset, expected) in [
            (0, 0, Alignment::None),
            (4, 512, Alignment::Known(512)),
            (4096, 512, Alignment::Known(4096)),
            (512, 0, Alignment::Known(512)),
            (3, 3, Alignment::Unknown),
        ] {
            assert_eq!(Alignment::from_statx(memory, offset), expected);
        }
    }
}
