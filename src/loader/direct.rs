//! Reads past the page cache (`O_DIRECT`): for models that are read once and leave the cache to others.
//!
//! The kernel wants places, lengths and addresses to be aligned. What is, is read where it is to lie; what is not (a
//! shard that begins anywhere, the end of a file) goes through a small aligned buffer.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

use super::alignment::Alignment;
use super::fetch::{CACHED, Fetch, ReadMode};
use crate::device::file::{OpenFile, changed};
use crate::error::Error;

/// What is assumed where the kernel does not say: no disk has larger blocks.
const ASSUMED: usize = 4096;
/// Bytes that are asked for at once: more brings nothing, and less than all leaves the first to be hashed earlier.
const MOST: usize = 4 << 20;

/// A second description of an open file, which reads past the cache.
#[derive(Debug)]
pub(super) struct Uncached {
    pub(super) file: File,
    device: u64,
    inode: u64,
    /// What places, lengths and addresses are to be multiples of.
    pub(super) align: usize,
}

impl Uncached {
    /// Opens it: the same file, whatever its path names by now.
    pub(super) fn of(file: &OpenFile, mode: ReadMode) -> Result<Self, Error> {
        let refuse = |why: &str| Error::ReadMode { path: file.path.clone(), mode, why: why.to_owned() };
        let align = match Alignment::of(&file.file).map_err(Error::io("examine", file.path.as_path()))? {
            Alignment::Known(align) => align,
            Alignment::Unknown => ASSUMED,
            Alignment::None => return Err(refuse("its file system offers no direct reads of it")),
            Alignment::InMemory => {
                return Err(refuse("it lies in memory (tmpfs), where the page cache is all there is"));
            }
        };
        let known = file.file.metadata().map_err(Error::io("examine", file.path.as_path()))?;
        let link = format!("/proc/self/fd/{}", file.file.as_raw_fd());
        let uncached = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(&link)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::EINVAL) => refuse("its file system has no O_DIRECT"),
                Some(libc::ENOENT | libc::ENOTDIR) => refuse("/proc is not mounted, through which it is opened again"),
                _ => Error::io("open for direct reads", file.path.as_path())(error),
            })?;
        let found = uncached.metadata().map_err(Error::io("examine", file.path.as_path()))?;
        if (found.dev(), found.ino()) != (known.dev(), known.ino()) {
            return Err(changed(&file.path, "opened again through /proc, it was another file"));
        }
        Ok(Self { file: uncached, device: known.dev(), inode: known.ino(), align })
    }

    /// Fills the first `need` bytes of `to` and perhaps more, from byte `at` on. All but `need` is aligned.
    fn fill(&self, at: u64, to: &mut [u8], need: usize) -> Result<(), Fault> {
        let mut filled = 0;
        while filled < need {
            match self.file.read_at(&mut to[filled..], at + filled as u64) {
                Ok(0) => return Err(Fault::Ended(at + filled as u64)),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Fault::System(error)),
            }
            // Only the end of a file is within a block.
            if filled < need && !filled.is_multiple_of(self.align) {
                return Err(Fault::Ended(at + filled as u64));
            }
        }
        Ok(())
    }
}

/// Why a read did not fill its buffer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The file ends here.
    Ended(u64),
    /// What the system said.
    System(io::Error),
}

impl Fault {
    /// As what it is told; `to` is where in the file the read was to end.
    pub(super) fn told(self, file: &OpenFile, to: u64, mode: ReadMode) -> Error {
        match self {
            Self::Ended(at) => changed(
                &file.path,
                &format!("it ends at byte {at}, before byte {to}, but had {} bytes when opened", file.len()),
            ),
            Self::System(error) if mode.is_direct() && error.raw_os_error() == Some(libc::EINVAL) => Error::ReadMode {
                path: file.path.clone(),
                mode,
                why: "its file system refused an aligned direct read".to_owned(),
            },
            Self::System(error) => file.read_error(error),
        }
    }
}

/// Memory in which direct reads can land.
#[derive(Debug)]
struct Bounce {
    /// Never grown, so that it stays where it is.
    memory: Vec<u8>,
}

impl Bounce {
    /// As many bytes as are handed on at once, or one block, if that is more, at a multiple of `align`.
    fn aligned(&mut self, align: usize) -> &mut [u8] {
        let len = CACHED.max(align);
        if self.memory.len() < len + align {
            self.memory = vec![0; len + align];
        }
        let start = self.memory.as_ptr().align_offset(align).min(align);
        &mut self.memory[start..start + len]
    }
}

/// The state of one thread's direct reads: the file that it read last, and a buffer for what is not aligned.
#[derive(Debug)]
pub(super) struct Door {
    mode: ReadMode,
    last: Option<Uncached>,
    bounce: Bounce,
}

/// How a read falls apart: so many bytes through the buffer, so many in place, the rest through the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) head: usize,
    pub(super) middle: usize,
}

impl Parts {
    /// Of `len` bytes from byte `at` of a file to address `address`.
    fn of(at: u64, address: usize, len: usize, align: usize) -> Self {
        let within = |place: usize| place & (align - 1);
        // `align` is less than 2^32, so the cut of the cast is no loss.
        let head = (align - within(at as usize)) & (align - 1);
        if head >= len || within(address.wrapping_add(head)) != 0 {
            return Self { head: len, middle: 0 };
        }
        let middle = len - head;
        Self { head, middle: middle - within(middle) }
    }
}

impl Door {
    pub(super) const fn new(mode: ReadMode) -> Self {
        Self { mode, last: None, bounce: Bounce { memory: Vec::new() } }
    }

    /// The file's other description. The file that it is of cannot be another with the same number: this one keeps it.
    pub(super) fn open(&mut self, file: &OpenFile) -> Result<&Uncached, Error> {
        let meta = file.file.metadata().map_err(Error::io("examine", file.path.as_path()))?;
        let known = self.last.take_if(|last| (last.device, last.inode) == (meta.dev(), meta.ino()));
        let uncached = match known {
            Some(uncached) => uncached,
            None => Uncached::of(file, self.mode)?,
        };
        Ok(self.last.insert(uncached))
    }

    pub(super) fn parts(&mut self, file: &OpenFile, at: u64, to: &[u8]) -> Result<Parts, Error> {
        let align = self.open(file)?.align;
        Ok(Parts::of(at, to.as_ptr().addr(), to.len(), align))
    }

    /// Reads through the buffer, and hands on what was read.
    pub(super) fn bounce(
        &mut self,
        file: &OpenFile,
        at: u64,
        to: &mut [u8],
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Error> {
        let mode = self.mode;
        let align = self.open(file)?.align;
        let (Some(uncached), end) = (&self.last, at + to.len() as u64) else { return Ok(()) };
        let memory = self.bounce.aligned(align);
        let (mut at, mut to) = (at, to);
        while !to.is_empty() {
            let before = (at & (align as u64 - 1)) as usize;
            let count = to.len().min(memory.len() - before);
            let window = (before + count).next_multiple_of(align);
            let start = at - before as u64;
            uncached.fill(start, &mut memory[..window], before + count).map_err(|fault| fault.told(file, end, mode))?;
            let (now, later) = to.split_at_mut(count);
            now.copy_from_slice(&memory[before..before + count]);
            each(now);
            (at, to) = (at + count as u64, later);
        }
        Ok(())
    }
}

/// Direct reads by `pread`.
pub(super) struct Direct {
    door: Door,
}

impl Direct {
    pub(super) const fn new() -> Self {
        Self { door: Door::new(ReadMode::Direct) }
    }
}

impl Fetch for Direct {
    fn read(&mut self, file: &OpenFile, at: u64, to: &mut [u8], each: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        let Parts { head, middle } = self.door.parts(file, at, to)?;
        let end = at + to.len() as u64;
        let (first, rest) = to.split_at_mut(head);
        let (aligned, last) = rest.split_at_mut(middle);
        self.door.bounce(file, at, first, each)?;
        let mut at = at + first.len() as u64;
        for piece in aligned.chunks_mut(MOST) {
            let len = piece.len();
            self.door.open(file)?.fill(at, piece, len).map_err(|fault| fault.told(file, end, ReadMode::Direct))?;
            piece.chunks(CACHED).for_each(&mut *each);
            at += len as u64;
        }
        self.door.bounce(file, at, last, each)
    }
}
