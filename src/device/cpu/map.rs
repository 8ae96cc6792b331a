//! A file mapped under a read lease: as fast as a map, and as safe as reading.
//!
//! A plain map of a file that somebody truncates ends in SIGBUS, and its bytes may change under a `&[u8]`. A read lease
//! (`fcntl(2)`, `F_SETLEASE`) is granted only while nobody has the file open for writing, and makes whoever then opens
//! or truncates it wait until we let go (at most `/proc/sys/fs/lease-break-time`, 45 s as shipped). The lease is
//! polled before each slab; a slab takes milliseconds. Where no lease is to be had (a file of another owner, a file
//! open for writing, most network file systems) there is no map, and the caller reads.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};

/// Sets the signal that announces a broken lease (`fcntl(2)`); not in the `libc` crate for every target.
const F_SETSIG: libc::c_int = 10;

/// Why a slab cannot be had.
#[derive(Debug)]
pub(super) enum SlabError {
    /// Somebody wants to write to the file.
    LeaseBroken,
    /// The pages could not be read.
    Io(io::Error),
}

/// A read-only map of a whole file, held under a read lease that ends with it.
#[derive(Debug)]
pub(super) struct LeasedMap {
    start: NonNull<u8>,
    len: usize,
    page: usize,
    file: File,
}

// SAFETY: the map is only read, and reading memory needs no thread of its own; the pointer is valid until drop.
unsafe impl Send for LeasedMap {}
// SAFETY: as above: all methods take `&self` and none writes to the map.
unsafe impl Sync for LeasedMap {}

impl LeasedMap {
    /// A map of the `len` bytes of `file`, or `None` where no lease can be had or the kernel cannot pre-fault a map.
    pub(super) fn new(file: &File, len: u64) -> Option<Self> {
        let len = usize::try_from(len).ok().filter(|&len| len > 0)?;
        // A duplicate shares the open file description, which is what holds the lease.
        let file = file.try_clone().ok()?;
        // The default signal, SIGIO, kills; SIGURG is ignored unless somebody handles it.
        // SAFETY: fcntl with an integer argument touches no memory of ours; the descriptor is open.
        let leased = unsafe {
            libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) == 0
                && libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) == 0
        };
        if !leased {
            return None;
        }
        // SAFETY: a new read-only map at an address of the kernel's choice aliases nothing of ours.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        let start = (start != libc::MAP_FAILED).then(|| NonNull::new(start.cast::<u8>())).flatten();
        let Some(start) = start else {
            release_lease(&file);
            return None;
        };
        // SAFETY: sysconf reads a constant of the system.
        let page =
            usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok().filter(|&page| page > 0).unwrap_or(4096);
        let map = Self { start, len, page, file };
        // MADV_POPULATE_READ is of Linux 5.14; without it a bad disk would end in SIGBUS.
        map.advise(0..1, libc::MADV_POPULATE_READ).ok()?;
        Some(map)
    }

    /// The bytes of `range`, all of them present in memory, while the lease holds.
    pub(super) fn slab(&self, range: &Range<u64>) -> Result<&[u8], SlabError> {
        let (start, end) = (range.start as usize, range.end as usize);
        assert!(start <= end && end <= self.len, "a slab lies inside its map");
        if !self.lease_holds() {
            return Err(SlabError::LeaseBroken);
        }
        self.advise(start..end, libc::MADV_POPULATE_READ).map_err(SlabError::Io)?;
        // Reading from a slow disk may have taken long; what is left to do with the slab takes milliseconds.
        if !self.lease_holds() {
            return Err(SlabError::LeaseBroken);
        }
        // SAFETY: the range lies in the map, which lives as long as `self`. The lease was granted because no writer had
        // the file open, and new writers wait for us as long as `lease-break-time` (45 s as shipped). Only a process
        // that is stopped for longer than that, between here and the end of hashing this slab, loses that protection;
        // docs/threat-model.md says what happens then.
        Ok(unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(start), end - start) })
    }

    /// Lets go of the pages of `range`, so that memory in use stays bounded. They can be had again.
    pub(super) fn release(&self, range: &Range<u64>) {
        // It is only advice: if it fails, the pages stay until the map ends.
        let _ = self.advise(range.start as usize..range.end as usize, libc::MADV_DONTNEED);
    }

    /// Whether still nobody wants to write.
    pub(super) fn lease_holds(&self) -> bool {
        // SAFETY: fcntl without a pointer argument touches no memory of ours; the descriptor is open.
        unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_GETLEASE) == libc::F_RDLCK }
    }

    fn advise(&self, range: Range<usize>, advice: libc::c_int) -> io::Result<()> {
        // madvise wants a page's start. Shards begin anywhere, so neighbours may share a page: harmless for both advices.
        let start = range.start / self.page * self.page;
        loop {
            // SAFETY: the pages lie in our map (it ends with the page that holds its last byte), and neither advice
            // changes what the map of a file contains.
            let done = unsafe { libc::madvise(self.start.as_ptr().add(start).cast(), range.end - start, advice) };
            if done == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

impl Drop for LeasedMap {
    fn drop(&mut self) {
        // The map goes first: once the lease is gone a waiting writer may truncate.
        // SAFETY: this is the whole of our own map, and no slice of it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        release_lease(&self.file);
    }
}

fn release_lease(file: &File) {
    // SAFETY: fcntl with an integer argument touches no memory of ours; the descriptor is open.
    unsafe {
        libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::time::{Duration, Instant};

    #[test]
    fn a_writer_waits_for_the_map_and_the_map_notices_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        std::fs::write(&path, vec![7; 3 << 20]).unwrap();
        let file = File::open(&path).unwrap();
        let Some(map) = LeasedMap::new(&file, 3 << 20) else {
            println!("skipped: no read lease on the file system of {}", path.display());
            return;
        };
        let range = (1 << 20)..(2 << 20);
        assert!(map.slab(&range).unwrap().iter().all(|&b| b == 7));
        map.release(&range);
        assert!(map.slab(&range).unwrap().iter().all(|&b| b == 7), "released pages come back");

        let writer = std::thread::spawn(move || {
            OpenOptions::new().write(true).open(&path).unwrap().set_len(10).unwrap();
        });
        let begun = Instant::now();
        while map.lease_holds() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the writer never asked");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(file.metadata().unwrap().len(), 3 << 20, "the writer still waits");
        assert!(matches!(map.slab(&range), Err(SlabError::LeaseBroken)));
        drop(map);
        writer.join().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 10);
    }

    #[test]
    fn there_is_no_map_of_a_file_that_somebody_writes_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        std::fs::write(&path, b"some bytes").unwrap();
        let writer = OpenOptions::new().write(true).open(&path).unwrap();
        assert!(LeasedMap::new(&File::open(&path).unwrap(), 10).is_none());
        drop(writer);
        assert!(LeasedMap::new(&File::open(&path).unwrap(), 0).is_none(), "nothing to map");
    }
}
