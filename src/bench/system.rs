//! What the standard library does not ask of the system: which of a file's bytes are in the page cache, to let go of them,
//! how much room a folder has, and to end a program with all that it started.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

/// Asks the kernel to drop a file's pages. It keeps those that are not written to disk yet, or mapped; [`resident`] says
/// what came of it.
pub(super) fn forget(file: &File) -> io::Result<()> {
    // SAFETY: numbers alone; the descriptor is open. A length of 0 means all.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// How many of a file's `len` bytes are in the page cache, in whole pages. Of files that the caller neither owns nor may
/// write to the kernel says that all are (mincore(2)).
pub(super) fn resident(file: &File, len: u64) -> io::Result<u64> {
    let Some(len) = usize::try_from(len).ok().filter(|&len| len > 0) else { return Ok(0) };
    // SAFETY: a question about a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let page = usize::try_from(page).ok().filter(|&page| page > 0).ok_or_else(io::Error::last_os_error)?;
    let mut pages = vec![0_u8; len.div_ceil(page)];
    // SAFETY: a new map at an address of the kernel's choice aliases nothing of ours, and nothing reads from it.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the map has `len` bytes, and the vector a byte for each of its pages.
    let asked = unsafe { libc::mincore(start, len, pages.as_mut_ptr().cast()) };
    let asked = if asked == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: it was mapped above with this length, and nobody has a reference into it.
    unsafe { libc::munmap(start, len) };
    asked?;
    // The other bits of each byte are reserved.
    let there = pages.iter().filter(|&&state| state & 1 == 1).count() as u64;
    Ok((there * page as u64).min(len as u64))
}

/// Bytes that an ordinary user may still write into a folder.
pub(super) fn free(folder: &Path) -> io::Result<u64> {
    let path = CString::new(folder.as_os_str().as_bytes())?;
    let mut facts = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends with a zero byte, and one statvfs is written.
    if unsafe { libc::statvfs(path.as_ptr(), facts.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: numbers alone, all of them zero or written.
    let facts = unsafe { facts.assume_init() };
    #[allow(clippy::useless_conversion, reason = "how wide they are depends on the C library")]
    Ok(u64::from(facts.f_bavail).saturating_mul(u64::from(facts.f_frsize)))
}

/// Ends the programs of a group that was made for them (`CommandExt::process_group`), by the number of its first, which
/// nobody has waited for yet.
pub(super) fn end_group(leader: u32) {
    // Not 0, our own group, and not 1, which would mean everybody.
    let Some(leader) = i32::try_from(leader).ok().filter(|&leader| leader > 1) else { return };
    // SAFETY: numbers alone. The group is that of a child which has not been waited for, so its number is nobody else's.
    // That it is gone already is no harm.
    unsafe { libc::kill(-leader, libc::SIGKILL) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// A folder on a disk: where this was built. `/tmp` may be memory.
    fn on_disk() -> tempfile::TempDir {
        tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap()
    }

    #[test]
    fn what_is_in_the_cache_is_counted_and_what_was_dropped_is_not() {
        let dir = on_disk();
        let path = dir.path().join("f");
        let len = (3 << 20) + 1234;
        let mut file = File::create(&path).unwrap();
        file.write_all(&vec![7; len as usize]).unwrap();
        file.sync_all().unwrap();
        let file = File::open(&path).unwrap();
        // Somewhere the kernel takes pages back all the time (DAMON): then they are read again.
        let all = (0..100).any(|_| {
            io::copy(&mut File::open(&path).unwrap(), &mut io::sink()).unwrap();
            resident(&file, len).unwrap() == len
        });
        assert!(all, "just written, and read");
        forget(&file).unwrap();
        let cold = resident(&file, len).unwrap();
        assert_eq!(cold, 0);
        (&file).take(1).read_exact(&mut [0]).unwrap();
        let some = resident(&file, len).unwrap();
        assert!(some > 0 && some < len, "{some}: what was read ahead, and not all");
        assert_eq!(resident(&file, 0).unwrap(), 0);
        assert!(resident(&File::open(dir.path()).unwrap(), 1).is_err(), "a folder cannot be mapped");
    }

    #[test]
    fn room_is_that_of_df() {
        let dir = on_disk();
        let df = std::process::Command::new("df").args(["--output=avail", "-B1"]).arg(dir.path()).output().unwrap();
        let text = String::from_utf8(df.stdout).unwrap();
        let expected: u64 = text.lines().nth(1).unwrap().trim().parse().unwrap();
        let found = free(dir.path()).unwrap();
        // Others write meanwhile.
        assert!(found.abs_diff(expected) < 4 << 30, "{found} and {expected}");
        assert!(free(&dir.path().join("none")).is_err());
        assert!(free(Path::new("a\0b")).is_err());
    }
}
