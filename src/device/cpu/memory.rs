//! Memory of the host that weights are used from: an anonymous map of its own, aligned to pages, which the system fills
//! with zeros as it is touched. So it is had at once, and what is read into it is written for the first time. Or memory
//! of other code in this process, which is only read.

#![allow(unsafe_code)]

use std::any::Any;
use std::io;
use std::ptr::{self, NonNull};

use crate::device::{DeviceError, DeviceKind, Pages};
use crate::layout::Buffer;

/// The size of a huge page, and so the alignment of memory that can have some.
const HUGE: usize = 2 << 20;

/// Memory of the host.
#[derive(Debug)]
pub struct Memory {
    start: NonNull<u8>,
    /// Bytes that count.
    len: usize,
    /// What ends with it.
    owner: Owner,
}

/// Whose memory it is.
enum Owner {
    /// Ours: so many bytes are mapped, whole pages.
    Map(usize),
    /// Somebody else's, which this keeps alive.
    Lent { _keep: Box<dyn Any + Send + Sync> },
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Map(mapped) => write!(f, "Map({mapped})"),
            Self::Lent { .. } => f.write_str("Lent"),
        }
    }
}

// SAFETY: it is plain memory with one owner, and unmapping it needs no thread of its own.
unsafe impl Send for Memory {}
// SAFETY: through a shared reference it is only read.
unsafe impl Sync for Memory {}

impl Buffer for Memory {
    fn size(&self) -> u64 {
        self.len as u64
    }

    fn place(&self) -> u64 {
        self.start.as_ptr().addr() as u64
    }
}

impl Memory {
    /// `len` zero bytes, or an error where the allocator would end the process.
    pub(super) fn new(len: u64, pages: Pages) -> Result<Self, DeviceError> {
        let none = || DeviceError::OutOfMemory { device: DeviceKind::Cpu, what: "a buffer", bytes: len };
        // A slice may have no more bytes than that, whatever 32 bits could count.
        let len = usize::try_from(len).ok().filter(|len| isize::try_from(*len).is_ok()).ok_or_else(none)?;
        if len == 0 {
            return Ok(Self { start: NonNull::dangling(), len, owner: Owner::Map(0) });
        }
        let page = page_size();
        let mapped = len.checked_next_multiple_of(page).ok_or_else(none)?;
        // What is too short for a huge page need not lie as if it had one.
        let align = if mapped < HUGE { page } else { HUGE };
        let more = mapped.checked_add(align - page).ok_or_else(none)?;
        let start = map(more).ok_or_else(none)?;
        let skipped = start.as_ptr().align_offset(align);
        // SAFETY: fewer than `align` bytes are skipped, and the map has that many more than `mapped`.
        let first = unsafe { start.add(skipped) };
        let memory = Self { start: first, len, owner: Owner::Map(mapped) };
        unmap(start, skipped);
        // SAFETY: as above: where the memory ends, the rest of the map begins.
        unmap(unsafe { first.add(mapped) }, more - skipped - mapped);
        if pages == Pages::Huge {
            memory.want_huge_pages(mapped)?;
        }
        Ok(memory)
    }

    /// Memory of somebody else, to be read until this is dropped, and `owner` with it.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] for what is no memory: at address 0, or beyond the end of all addresses.
    ///
    /// # Safety
    /// The `len` bytes from `address` on may be read until `owner` is dropped, and nothing writes to them while they are.
    pub(super) unsafe fn foreign(
        address: usize,
        len: u64,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Result<Self, DeviceError> {
        let counted = usize::try_from(len).ok().filter(|&len| isize::try_from(len).is_ok());
        let whole = counted.filter(|&len| address.checked_add(len).is_some());
        let start =
            if len == 0 { Some(NonNull::dangling()) } else { NonNull::new(ptr::with_exposed_provenance_mut(address)) };
        let (Some(len), Some(start)) = (whole, start) else {
            let why = format!("no memory has {len} bytes from address {address:#x} on");
            return Err(DeviceError::Refused { device: DeviceKind::Cpu, why });
        };
        Ok(Self { start, len, owner: Owner::Lent { _keep: owner } })
    }

    fn want_huge_pages(&self, mapped: usize) -> Result<(), DeviceError> {
        // SAFETY: it is the whole of our own map, and the advice changes nothing that it contains.
        if unsafe { libc::madvise(self.start.as_ptr().cast(), mapped, libc::MADV_HUGEPAGE) } == 0 {
            return Ok(());
        }
        let why = format!("the system gives no huge pages: {}; load without them", io::Error::last_os_error());
        Err(DeviceError::Refused { device: DeviceKind::Cpu, why })
    }

    /// Where it begins: for whoever lends it on, to readers and writers that know nothing of this type. As long as they may
    /// write to it, nobody may ask for [`Memory::bytes`].
    #[must_use]
    pub const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes, all of them zero or written, mapped until drop; without a byte any pointer that is not
        // null will do. A mutable slice of them would need `self` for itself. Of lent memory all that is promised by
        // whoever called `foreign`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The same, to write to: none of memory that is lent, to which nobody writes through this.
    pub(crate) const fn bytes_mut(&mut self) -> &mut [u8] {
        let len = if self.is_lent() { 0 } else { self.len };
        // SAFETY: as above, and the reference is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), len) }
    }

    /// Whether it is somebody else's.
    pub(super) const fn is_lent(&self) -> bool {
        matches!(self.owner, Owner::Lent { .. })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Owner::Map(mapped) = self.owner {
            unmap(self.start, mapped);
        }
    }
}

fn map(len: usize) -> Option<NonNull<u8>> {
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: new memory at an address of the kernel's choice aliases nothing of ours.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, prot, flags, -1, 0) };
    if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast()) }
}

/// Gives back a part of a map that nobody refers to. If that fails, it stays until the process ends.
fn unmap(start: NonNull<u8>, len: usize) {
    if len > 0 {
        // SAFETY: the callers own these pages, and are done with them.
        unsafe { libc::munmap(start.as_ptr().cast(), len) };
    }
}

fn page_size() -> usize {
    // SAFETY: sysconf reads a constant of the system.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) })
        .ok()
        .filter(|size| size.is_power_of_two())
        .unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zero_aligned_as_long_as_asked_for_and_writable_to_its_last_byte() {
        for len in [0, 1, 4095, 4096, 4097, HUGE - 1, HUGE, HUGE + 1, 5 * HUGE + 77] {
            for pages in [Pages::Ordinary, Pages::Huge] {
                let mut memory = match Memory::new(len as u64, pages) {
                    Err(DeviceError::Refused { why, .. }) if pages == Pages::Huge => {
                        println!("skipped: {why}");
                        continue;
                    }
                    memory => memory.unwrap(),
                };
                assert_eq!((memory.bytes().len(), memory.size()), (len, len as u64));
                assert!(memory.bytes().iter().all(|&byte| byte == 0));
                if len > 0 {
                    let align = if len.next_multiple_of(page_size()) < HUGE { page_size() } else { HUGE };
                    assert!(memory.bytes().as_ptr().addr().is_multiple_of(align), "{len}");
                    memory.bytes_mut().fill(7);
                    assert!(memory.bytes().iter().all(|&byte| byte == 7));
                }
            }
        }
    }

    #[test]
    fn what_no_machine_has_is_an_error() {
        for len in [u64::MAX, u64::MAX - (4 << 20), 1 << 62] {
            for pages in [Pages::Ordinary, Pages::Huge] {
                assert!(matches!(Memory::new(len, pages), Err(DeviceError::OutOfMemory { bytes, .. }) if bytes == len));
            }
        }
    }
}
