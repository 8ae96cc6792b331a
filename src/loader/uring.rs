//! Reads through io_uring: several in flight for one thread, which meanwhile hashes what has arrived.
//!
//! The kernel writes into memory that a caller has lent. So nothing leaves [`Ring::read`], by return or by panic, while
//! the kernel still has a read for that memory: see [`Run`].

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use io_uring::{IoUring, Probe, opcode, types};

use super::direct::{Door, Fault, Parts};
use super::fetch::{CACHED, Fetch, ReadMode};
use crate::device::file::OpenFile;
use crate::error::Error;

/// Reads in flight at most.
const DEPTH: usize = 8;
/// How often in a row the kernel may say that it is short of something, a millisecond apart.
const PATIENCE: u32 = 5000;

/// A ring of one thread.
pub(super) struct Ring {
    ring: IoUring,
    /// Bytes of one read.
    piece: usize,
    /// A call of the ring failed, and what the kernel has not taken yet it must never take.
    broken: bool,
}

impl Ring {
    /// A ring, if the kernel gives this process one that can read; else what is missing.
    pub(super) fn new(piece: usize) -> Result<Self, String> {
        let ring = IoUring::new(DEPTH as u32).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOSYS) => "the kernel has no io_uring, or a filter of system calls hides it".to_owned(),
            Some(libc::EPERM | libc::EACCES) => "the kernel does not let this process have an io_uring \
                (the setting kernel.io_uring_disabled, or the filter of system calls of a container)"
                .to_owned(),
            _ => format!("the kernel gave no io_uring: {error}"),
        })?;
        let mut probe = Probe::new();
        let asked = ring.submitter().register_probe(&mut probe);
        if asked.is_err() || !probe.is_supported(opcode::Read::CODE) {
            return Err("the io_uring of this kernel cannot read files (Linux 5.6 and later can)".to_owned());
        }
        Ok(Self { ring, piece, broken: false })
    }

    /// Fills `to` from byte `at` of `file`, and calls `each` with all of it, in order, a read at a time. Where direct
    /// reads want `align`, all of it is aligned.
    pub(super) fn read(
        &mut self,
        file: &File,
        at: u64,
        to: &mut [u8],
        align: usize,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Fault> {
        if self.broken {
            return Err(Fault::System(io::Error::other("an earlier read through this io_uring failed")));
        }
        let (piece, len) = (self.piece, to.len());
        let range = |index: usize| index * piece..len.min((index + 1) * piece);
        let pieces = len.div_ceil(piece);
        // What is still to come of the pieces that were begun and not handed on.
        let mut left: [Range<usize>; DEPTH] = std::array::from_fn(|_| 0..0);
        let (mut oldest, mut next) = (0, 0);
        // From here on the memory is reached through the pointer alone.
        let mut run = Run { ring: self, start: to.as_mut_ptr(), flying: 0, short: 0 };
        while oldest < pieces {
            while next < pieces && next < oldest + DEPTH {
                left[next % DEPTH] = range(next);
                // SAFETY: the range lies in `to`, which outlives the run, and nobody reads or writes it before it landed.
                unsafe { run.begin(file, at, next, range(next)) }?;
                next += 1;
            }
            run.enter(left[oldest % DEPTH].is_empty())?;
            while let Some((index, result)) = run.landed() {
                let mine = &mut left[index % DEPTH];
                match result {
                    0 => return Err(Fault::Ended(at + mine.start as u64)),
                    count if count > 0 => {
                        mine.start = mine.end.min(mine.start + count.unsigned_abs() as usize);
                        // A direct read that ends within a block has met the end of the file.
                        if mine.start < mine.end && !mine.start.is_multiple_of(align) {
                            return Err(Fault::Ended(at + mine.start as u64));
                        }
                    }
                    code if matches!(-code, libc::EINTR | libc::EAGAIN) => {
                        run.again(io::Error::from_raw_os_error(-code))?;
                    }
                    code => return Err(Fault::System(io::Error::from_raw_os_error(-code))),
                }
                if mine.start < mine.end {
                    let rest = mine.clone();
                    // SAFETY: as above.
                    unsafe { run.begin(file, at, index, rest) }?;
                }
            }
            if oldest < next && left[oldest % DEPTH].is_empty() {
                let done = range(oldest);
                // SAFETY: it lies in `to`, all of it was written, and no read is under way that would write there.
                each(unsafe { std::slice::from_raw_parts(run.start.add(done.start), done.len()) });
                oldest += 1;
            }
        }
        Ok(())
    }
}

/// One call of [`Ring::read`]. Dropped, by whatever end of that call, it waits until the kernel is done with its memory.
struct Run<'a> {
    ring: &'a mut Ring,
    start: *mut u8,
    /// Reads that were begun and have not landed.
    flying: usize,
    /// How often in a row the kernel was short of something.
    short: u32,
}

impl Run<'_> {
    /// Begins a read of these bytes of the buffer, whose first belongs to byte `at` of the file.
    ///
    /// # Safety
    /// They lie in the buffer, and nobody reads or writes them until the read has landed.
    unsafe fn begin(&mut self, file: &File, at: u64, index: usize, bytes: Range<usize>) -> Result<(), Fault> {
        let len = u32::try_from(bytes.len()).map_err(|_| Fault::System(io::ErrorKind::InvalidInput.into()))?;
        // SAFETY: within the buffer, as the caller promises.
        let to = unsafe { self.start.add(bytes.start) };
        let read = opcode::Read::new(types::Fd(file.as_raw_fd()), to, len).offset(at + bytes.start as u64).build();
        // SAFETY: the memory is the caller's promise and `drop` keeps it until the read has landed; the file is borrowed
        // as long.
        let pushed = unsafe { self.ring.ring.submission().push(&read.user_data(index as u64)) };
        // As many as there are places at most: never full.
        pushed.map_err(|_| Fault::System(io::Error::other("the queue of the io_uring is full")))?;
        self.flying += 1;
        Ok(())
    }

    /// Hands what was begun to the kernel, and unless there is something to hash waits for a read to land.
    fn enter(&mut self, ready: bool) -> Result<(), Fault> {
        if ready && self.ring.ring.submission().is_empty() {
            return Ok(());
        }
        loop {
            match self.ring.ring.submit_and_wait(usize::from(!ready && self.flying > 0)) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Short of memory, or results to be taken first: they are, and then it is tried again.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => {
                    return self.again(error);
                }
                Err(error) => {
                    self.ring.broken = true;
                    return Err(Fault::System(error));
                }
            }
        }
    }

    /// Waits a little before what failed for want of something is tried again; the last time it is an error.
    fn again(&mut self, error: io::Error) -> Result<(), Fault> {
        self.short += 1;
        if self.short > PATIENCE {
            self.ring.broken = true;
            return Err(Fault::System(error));
        }
        thread::sleep(Duration::from_millis(1));
        Ok(())
    }

    /// A read that has landed: its index, and what the kernel says of it.
    fn landed(&mut self) -> Option<(usize, i32)> {
        let entry = self.ring.ring.completion().next()?;
        self.flying -= 1;
        if entry.result() > 0 {
            self.short = 0;
        }
        Some((entry.user_data() as usize, entry.result()))
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        while self.flying > 0 {
            if self.landed().is_some() {
                continue;
            }
            if !self.ring.broken {
                // A failure marks the ring.
                let _ = self.enter(false);
                continue;
            }
            // What the kernel has not taken it will not take: this ring is never entered again.
            if self.flying <= self.ring.ring.submission().len() {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Reads through io_uring, with the page cache or past it.
pub(super) struct Uring {
    ring: Ring,
    mode: ReadMode,
    door: Option<Door>,
}

impl Uring {
    /// `Err` is what is missing.
    pub(super) fn new(mode: ReadMode) -> Result<Self, String> {
        let door = mode.is_direct().then(|| Door::new(mode));
        Ok(Self { ring: Ring::new(CACHED)?, mode, door })
    }
}

impl Fetch for Uring {
    fn read(&mut self, file: &OpenFile, at: u64, to: &mut [u8], each: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        let (mode, end) = (self.mode, at + to.len() as u64);
        let told = |fault: Fault| fault.told(file, end, mode);
        let Some(door) = &mut self.door else {
            return self.ring.read(&file.file, at, to, 1, each).map_err(told);
        };
        let Parts { head, middle } = door.parts(file, at, to)?;
        let (first, rest) = to.split_at_mut(head);
        let (aligned, last) = rest.split_at_mut(middle);
        door.bounce(file, at, first, each)?;
        if !aligned.is_empty() {
            let uncached = door.open(file)?;
            self.ring.read(&uncached.file, at + head as u64, aligned, uncached.align, each).map_err(told)?;
        }
        door.bounce(file, at + (head + middle) as u64, last, each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Has the kernel refuse one system call to this thread, with EPERM, from here on.
    fn forbid(call: libc::c_long) {
        let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
        let mut program = [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: the program is read during the call; both concern this thread alone.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter), 0);
        }
    }

    /// On a thread of its own, which a filter leaves unfit for anything else.
    fn aside(work: impl FnOnce() + Send) {
        thread::scope(|scope| scope.spawn(work).join().unwrap());
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len as u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 13) as u8).collect()
    }

    #[test]
    fn a_kernel_that_gives_no_ring_is_a_reason_and_not_another_way() {
        aside(|| {
            forbid(libc::SYS_io_uring_setup);
            let why = Ring::new(4096).err().unwrap();
            assert!(why.contains("does not let this process"), "{why}");
            for mode in [ReadMode::Uring, ReadMode::DirectUring] {
                let error = mode.reader().err().unwrap();
                assert!(matches!(&error, Error::NoReadMode { mode: found, .. } if *found == mode), "{error}");
                assert!(error.to_string().contains("ReadMode::Buffered"), "{error}");
            }
            assert!(ReadMode::Buffered.reader().is_ok() && ReadMode::Direct.reader().is_ok());
        });
        aside(|| {
            forbid(libc::SYS_io_uring_register);
            assert!(Ring::new(4096).err().unwrap().contains("cannot read files"));
        });
    }

    #[test]
    fn pieces_are_handed_on_in_order_and_whole() {
        let bytes = pattern(100_003);
        let file = file(&bytes);
        for piece in [1, 7, 4096, 50_000, 1 << 20] {
            let mut ring = Ring::new(piece).unwrap();
            for (at, len) in [(0, 0), (0, 1), (0, 100_003), (3, 17 * piece.min(5000)), (99_990, 13)] {
                let (mut to, mut seen) = (vec![0; len], Vec::new());
                ring.read(&file, at as u64, &mut to, 1, &mut |bytes| seen.extend_from_slice(bytes)).unwrap();
                assert!(to == bytes[at..at + len] && seen == to, "{piece} {at} {len}");
            }
        }
    }

    #[test]
    fn a_file_that_ends_early_and_one_that_cannot_be_read_end_the_read_and_not_the_ring() {
        let bytes = pattern(10_000);
        let (short, folder) = (file(&bytes), File::open("/").unwrap());
        let mut ring = Ring::new(1000).unwrap();
        let mut to = vec![0; 20_000];
        for _ in 0..3 {
            match ring.read(&short, 500, &mut to, 1, &mut |_| ()) {
                Err(Fault::Ended(10_000..)) => {}
                other => panic!("{other:?}"),
            }
            match ring.read(&folder, 0, &mut to, 1, &mut |_| ()) {
                Err(Fault::System(error)) => assert_eq!(error.raw_os_error(), Some(libc::EISDIR)),
                other => panic!("{other:?}"),
            }
            ring.read(&short, 0, &mut to[..10_000], 1, &mut |_| ()).unwrap();
            assert_eq!(to[..10_000], bytes);
        }
    }

    /// Reads of a pipe land when somebody writes to it, and each gives what there is: the kernel has the other reads
    /// until then, and reads are short.
    #[test]
    fn nothing_leaves_while_the_kernel_has_a_read_not_even_a_panic() {
        let (reader, mut writer) = io::pipe().unwrap();
        let reader = File::from(std::os::fd::OwnedFd::from(reader));
        let (mut ring, mut to) = (Ring::new(100).unwrap(), vec![0; 300]);
        let written = AtomicBool::new(false);
        thread::scope(|scope| {
            writer.write_all(&[1; 100]).unwrap();
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(200));
                written.store(true, Ordering::SeqCst);
                // The second read, and a third that is short.
                writer.write_all(&[2; 140]).unwrap();
            });
            let ended = catch_unwind(AssertUnwindSafe(|| {
                ring.read(&reader, 0, &mut to, 1, &mut |_| panic!("while others fly"))
            }));
            assert!(ended.is_err() && written.load(Ordering::SeqCst), "it left before its reads had landed");
        });
        assert!(to.iter().filter(|byte| **byte == 2).count() == 140, "{to:?}");
        // The ring has nothing of that left.
        let bytes = pattern(1000);
        let (file, mut to) = (file(&bytes), vec![0; 1000]);
        ring.read(&file, 0, &mut to, 1, &mut |_| ()).unwrap();
        assert_eq!(to, bytes);
    }

    #[test]
    fn short_reads_are_continued() {
        let (reader, mut writer) = io::pipe().unwrap();
        let reader = File::from(std::os::fd::OwnedFd::from(reader));
        // One read at a time, as a pipe has no places in it.
        let (mut ring, mut to, bytes) = (Ring::new(1000).unwrap(), vec![0; 1000], pattern(1000));
        thread::scope(|scope| {
            scope.spawn(|| {
                for piece in bytes.chunks(130) {
                    writer.write_all(piece).unwrap();
                    thread::sleep(Duration::from_millis(5));
                }
            });
            ring.read(&reader, 0, &mut to, 1, &mut |_| ()).unwrap();
        });
        assert_eq!(to, bytes);
    }

    #[test]
    fn a_ring_that_is_taken_away_midway_is_an_error_for_good_and_no_hang() {
        aside(|| {
            let (reader, mut writer) = io::pipe().unwrap();
            let reader = File::from(std::os::fd::OwnedFd::from(reader));
            writer.write_all(&[1; 100]).unwrap();
            let (mut ring, mut to) = (Ring::new(100).unwrap(), vec![0; 1500]);
            let written = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    thread::sleep(Duration::from_millis(200));
                    written.store(true, Ordering::SeqCst);
                    writer.write_all(&[2; 700]).unwrap();
                });
                let mut calls = 0;
                // Eight reads are with the kernel, and the ninth is never taken by it.
                let fault = ring.read(&reader, 0, &mut to, 1, &mut |_| {
                    calls += 1;
                    forbid(libc::SYS_io_uring_enter);
                });
                match fault {
                    Err(Fault::System(error)) => assert_eq!(error.raw_os_error(), Some(libc::EPERM)),
                    other => panic!("{other:?}"),
                }
                assert!(calls == 1 && written.load(Ordering::SeqCst), "{calls}");
            });
            assert_eq!(to.iter().filter(|byte| **byte == 2).count(), 700);
            assert!(matches!(ring.read(&reader, 0, &mut to, 1, &mut |_| ()), Err(Fault::System(_))));
        });
    }
}
