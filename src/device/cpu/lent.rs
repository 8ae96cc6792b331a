//! What other code of the process lends: its memory, to be hashed where it is. The one place where a caller must promise
//! what nobody can check.

#![allow(unsafe_code)]

use std::any::Any;

use super::{Cpu, Memory};
use crate::device::DeviceError;

impl Cpu {
    /// Memory that other code of this process allocated, to be hashed where it is: a tensor's, an array's, a mapped
    /// file's. It is not copied, nothing is written to it, and `owner` is dropped with the buffer.
    ///
    /// A hash of such memory says what was in it when it was read.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] for bytes at address 0, or more than there are addresses.
    ///
    /// # Safety
    /// The `len` bytes from `address` on are allocated, and may be read, until `owner` is dropped; a file that is mapped
    /// there stays as long as it is. Nothing writes to them while a job reads them, or else that job's result is that of
    /// no moment.
    pub unsafe fn foreign(
        &self,
        address: usize,
        len: u64,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Result<Memory, DeviceError> {
        // SAFETY: as the caller promises.
        unsafe { Memory::foreign(address, len, owner) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::device::cpu::Settings;
    use crate::device::{Backend, Hashed, Job, Want};
    use crate::digest::{Algorithm, Digest};
    use crate::layout::{Buffer, Layout};

    #[test]
    fn lent_memory_is_read_where_it_is_kept_alive_and_not_written_to() {
        let cpu = Cpu::open(Settings::default()).unwrap();
        let bytes: Arc<Vec<u8>> =
            Arc::new((0..300_000_u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 13) as u8).collect());
        let address = bytes.as_ptr().expose_provenance();
        // SAFETY: the owner is what they belong to, and it is not written to.
        let mut memory = unsafe { cpu.foreign(address, 300_000, Box::new(Arc::clone(&bytes))) }.unwrap();
        assert_eq!((memory.place(), memory.size()), (address as u64, 300_000));
        let job = Job { layout: Layout::whole(&memory).unwrap(), want: Want::Root };
        let root = Digest::of32(Algorithm::Blake3, *blake3::hash(&bytes).as_bytes());
        assert_eq!(cpu.hash(&[job]).unwrap(), [Hashed::Root(root)]);
        let block = cpu.staging().unwrap();
        assert!(matches!(cpu.upload(block, 1, &mut memory, 0), Err(DeviceError::Layout(_))));
        assert!(cpu.on_host(&mut memory).is_none());
        assert_eq!(Arc::strong_count(&bytes), 2);
        drop(memory);
        assert_eq!(Arc::strong_count(&bytes), 1);
    }

    #[test]
    fn what_is_no_memory_is_refused() {
        let cpu = Cpu::open(Settings::default()).unwrap();
        for (address, len) in [(0, 1), (usize::MAX, 1), (4096, u64::MAX), (4096, 1 << 63)] {
            // SAFETY: nothing is read of what is refused.
            let refused = unsafe { cpu.foreign(address, len, Box::new(())) };
            assert!(matches!(refused, Err(DeviceError::Refused { .. })), "{address} {len}");
        }
        // SAFETY: no byte is read.
        assert_eq!(unsafe { cpu.foreign(0, 0, Box::new(())) }.unwrap().size(), 0);
    }
}
