//! Small files that we read: whole, within a bound, and never a pipe that would keep us waiting.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The bytes of a regular file of at most `limit` bytes.
///
/// # Errors
/// What the system says; one of our own for what is no regular file, and for a longer one.
pub(crate) fn read_small(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let (file, meta) = open_regular(path)?;
    read_bounded(file, &meta, limit)
}

/// Opens a regular file. A FIFO must not make us wait for a writer.
pub(crate) fn open_regular(path: &Path) -> io::Result<(File, Metadata)> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok((file, meta))
}

/// All bytes of an open file, if there are no more than `limit`.
pub(crate) fn read_bounded(file: File, meta: &Metadata, limit: u64) -> io::Result<Vec<u8>> {
    /// Enough for most at once; a length that is not true must not be believed.
    const AT_ONCE: u64 = 1 << 20;
    let mut bytes = Vec::with_capacity(meta.len().min(limit).min(AT_ONCE) as usize + 1);
    // One byte more than allowed tells a file that is too long from one that ends.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for len in [0, 1, 99, 100] {
            std::fs::write(&path, vec![7; len]).unwrap();
            assert_eq!(read_small(&path, 100).unwrap(), vec![7; len]);
        }
        std::fs::write(&path, vec![7; 101]).unwrap();
        assert_eq!(read_small(&path, 100).unwrap_err().to_string(), "it has more than 100 bytes");
        // A file that hides its length.
        assert!(!read_small(Path::new("/proc/version"), 4096).unwrap().is_empty());
        assert!(read_small(Path::new("/proc/version"), 4).is_err());
    }

    #[test]
    fn what_is_no_file_is_neither_read_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        for path in [&fifo, dir.path(), Path::new("/dev/zero")] {
            assert!(read_small(path, 100).is_err(), "{path:?}");
        }
    }
}
