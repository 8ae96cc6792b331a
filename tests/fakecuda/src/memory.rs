//! Device memory: an allocation with its red zones. A device address is the address of these bytes, so that kernels
//! compiled for the host (`FAKECUDA_KERNELS`) can follow the pointers in their descriptors.
//!
//! Blocks of a kernel run on several threads and may race as they may on a GPU: words are atomic, so a race gives
//! some value of either side and is no undefined behaviour here.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// What fresh device memory holds.
pub(crate) const POISON: u32 = 0xCDCD_CDCD;
/// What stands before and after every allocation.
const RED: u32 = 0xFDFD_FDFD;
/// Words of each red zone, at least; also what allocations are aligned to, in words.
const ZONE: usize = 64;

/// A piece of device memory.
#[derive(Debug)]
pub(crate) struct Allocation {
    words: Box<[AtomicU32]>,
    /// The first word that belongs to the caller.
    first: usize,
    /// Its address.
    start: u64,
    length: u64,
}

impl Allocation {
    /// `length` bytes, aligned to 256 and full of [`POISON`].
    pub(crate) fn new(length: u64) -> Option<Self> {
        let own = usize::try_from(length.div_ceil(4)).ok()?;
        let total = own.checked_add(3 * ZONE)?;
        let mut words = Vec::new();
        words.try_reserve_exact(total).ok()?;
        words.resize_with(total, || AtomicU32::new(POISON));
        let words = words.into_boxed_slice();
        let aside = words.as_ptr().addr() / 4 % ZONE;
        let first = 2 * ZONE - aside;
        let start = words[first..].as_ptr().expose_provenance() as u64;
        let allocation = Self { words, first, start, length };
        for zone in allocation.zones() {
            zone.iter().for_each(|word| word.store(RED, Relaxed));
        }
        Some(allocation)
    }

    /// The device address of the first byte.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Does it hold all of `bytes` bytes from `address`?
    pub(crate) fn holds(&self, address: u64, bytes: u64) -> bool {
        let offset = address.wrapping_sub(self.start);
        offset <= self.length && bytes <= self.length - offset
    }

    fn zones(&self) -> [&[AtomicU32]; 2] {
        let end = self.first + usize::try_from(self.length.div_ceil(4)).unwrap_or(usize::MAX);
        [&self.words[..self.first], &self.words[end..]]
    }

    /// Has nobody written around it? Also the bytes that fill its last word are looked at.
    pub(crate) fn is_intact(&self) -> bool {
        let rest = self.length % 4;
        let last = self.load_word(self.length / 4 * 4) >> (8 * rest);
        let padded = rest == 0 || last == POISON >> (8 * rest);
        padded && self.zones().iter().all(|zone| zone.iter().all(|word| word.load(Relaxed) == RED))
    }

    fn word(&self, offset: u64) -> &AtomicU32 {
        &self.words[self.first + usize::try_from(offset / 4).unwrap_or(usize::MAX)]
    }

    fn load_word(&self, offset: u64) -> u32 {
        self.word(offset).load(Relaxed)
    }

    /// 1, 2, 4 or 8 bytes at an address that is aligned to them and was found to be inside.
    #[inline]
    pub(crate) fn load(&self, address: u64, bytes: u8) -> u64 {
        let offset = address - self.start();
        let word = self.load_word(offset) >> (8 * (offset % 4));
        match bytes {
            1 => u64::from(word & 0xFF),
            2 => u64::from(word & 0xFFFF),
            4 => u64::from(word),
            _ => u64::from(word) | u64::from(self.load_word(offset + 4)) << 32,
        }
    }

    /// The counterpart of [`Self::load`].
    #[inline]
    pub(crate) fn store(&self, address: u64, bytes: u8, value: u64) {
        let offset = address - self.start();
        let low = value as u32;
        let part = |mask: u32| {
            let shift = 8 * (offset % 4);
            let merge = |word: u32| Some(word & !(mask << shift) | (low & mask) << shift);
            // `merge` never refuses.
            let _ = self.word(offset).fetch_update(Relaxed, Relaxed, merge);
        };
        match bytes {
            1 => part(0xFF),
            2 => part(0xFFFF),
            4 => self.word(offset).store(low, Relaxed),
            _ => {
                self.word(offset).store(low, Relaxed);
                self.word(offset + 4).store((value >> 32) as u32, Relaxed);
            }
        }
    }

    /// Bytes from `address` on, which were found to be inside.
    pub(crate) fn read(&self, address: u64, into: &mut [u8]) {
        let mut at = address;
        let mut rest = into;
        while !rest.is_empty() {
            let step = step_at(at, rest.len());
            let (now, later) = rest.split_at_mut(step);
            now.copy_from_slice(&self.load(at, step as u8).to_le_bytes()[..step]);
            (rest, at) = (later, at + step as u64);
        }
    }

    /// The counterpart of [`Self::read`].
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        let (mut at, mut rest) = (address, bytes);
        while !rest.is_empty() {
            let step = step_at(at, rest.len());
            let mut value = [0; 8];
            value[..step].copy_from_slice(&rest[..step]);
            self.store(at, step as u8, u64::from_le_bytes(value));
            (rest, at) = (&rest[step..], at + step as u64);
        }
    }
}

/// The largest of 1 and 4 bytes that is aligned at `address` and not more than `left`.
fn step_at(address: u64, left: usize) -> usize {
    if address.is_multiple_of(4) && left >= 4 { 4 } else { 1 }
}
