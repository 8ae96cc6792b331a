//! Two questions that only `ioctl` answers: the fs-verity digest of a file, and the table of a dm-verity device.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

/// `FS_IOC_MEASURE_VERITY` of `linux/fsverity.h`: `_IOWR('f', 134, struct fsverity_digest)`.
const MEASURE_VERITY: u64 = 0xc004_6686;
/// The longest digest that fs-verity knows, SHA-512's.
const LONGEST_DIGEST: usize = 64;

/// What the kernel fills in: `struct fsverity_digest` with room for a digest.
#[repr(C)]
struct VerityDigest {
    algorithm: u16,
    /// In: the room; out: the length.
    size: u16,
    digest: [u8; LONGEST_DIGEST],
}

/// The fs-verity digest of an open file as the kernel knows it, with the number of its algorithm; `None` if the file has
/// none, or its file system knows nothing of the matter.
pub(super) fn fs_verity(file: &File) -> io::Result<Option<(u16, Vec<u8>)>> {
    let mut out = VerityDigest { algorithm: 0, size: LONGEST_DIGEST as u16, digest: [0; LONGEST_DIGEST] };
    // SAFETY: the descriptor is open, and the argument is a live `struct fsverity_digest` followed by as many bytes as its
    // `size` says, which is the most that the kernel writes.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), MEASURE_VERITY as _, &raw mut out) };
    if done == 0 {
        let digest = out.digest.get(..usize::from(out.size)).filter(|digest| !digest.is_empty());
        let digest = digest.ok_or_else(|| io::Error::other("the kernel gave a digest of an impossible length"))?;
        return Ok(Some((out.algorithm, digest.to_vec())));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // No digest; an ioctl that the file system does not know; one that the kernel was built without.
        Some(libc::ENODATA | libc::ENOTTY | libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => Ok(None),
        _ => Err(error),
    }
}

/// `DM_TABLE_STATUS` of `linux/dm-ioctl.h`: `_IOWR(0xfd, 12, struct dm_ioctl)`.
const TABLE_STATUS: u64 = 0xc138_fd0c;
/// Length of `struct dm_ioctl`.
pub(super) const DM_HEAD: usize = 312;
/// Room for the answer: a verity target's line has a few hundred bytes.
const DM_ROOM: usize = 16 << 10;
/// `DM_STATUS_TABLE_FLAG`: the table, not its state.
const WANT_TABLE: u32 = 1 << 4;

/// The kernel's answer about the live table of the device mapper's device `device` (as `st_dev` has it): `struct dm_ioctl`
/// and what follows it. It takes the right CAP_SYS_ADMIN to ask.
pub(super) fn dm_table(device: u64) -> io::Result<Vec<u8>> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/mapper/control")?;
    // In words, so that the kernel's 64-bit fields are aligned.
    let mut words = vec![0_u64; DM_ROOM / 8];
    let set = |words: &mut [u64], at: usize, value: u32| {
        let shift = if at.is_multiple_of(8) == cfg!(target_endian = "little") { 0 } else { 32 };
        words[at / 8] |= u64::from(value) << shift;
    };
    // Version 4.0.0, the length of all, where the answer goes, what is asked.
    for (at, value) in [(0, 4), (12, DM_ROOM as u32), (16, DM_HEAD as u32), (28, WANT_TABLE)] {
        set(&mut words, at, value);
    }
    words[40 / 8] = device;
    // SAFETY: the descriptor is open, and the argument is a live `struct dm_ioctl` whose `data_size` is the length of the
    // buffer, beyond which the kernel neither reads nor writes.
    let done = unsafe { libc::ioctl(control.as_raw_fd(), TABLE_STATUS as _, words.as_mut_ptr()) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(words.iter().flat_map(|word| word.to_ne_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_digest_has_none() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(fs_verity(&file).unwrap(), None);
        assert_eq!(fs_verity(&File::open("/proc/version").unwrap()).unwrap(), None);
        assert_eq!(fs_verity(&File::open("/dev/null").unwrap()).unwrap(), None);
    }

    #[test]
    fn a_device_that_is_not_there_has_no_table() {
        // Without the device mapper, without the right to ask, or with both: never an answer.
        assert!(dm_table(0x00ff_ffff).is_err());
    }
}
