//! One open file, and the proof that it was the same file before and after it was read.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A regular file, opened for reading.
#[derive(Debug)]
pub(crate) struct OpenFile<P = PathBuf> {
    pub(crate) file: File,
    pub(crate) path: P,
    before: Stamp,
}

/// What must not change while a file is read. The change time is there because the modification time can be set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes.
    pub len: u64,
    /// The file system, as `st_dev` has it.
    pub device: u64,
    /// The file in it.
    pub inode: u64,
    /// When its bytes were last written: seconds since 1970, and nanoseconds. Whoever owns it can set it.
    pub modified: (i64, i64),
    /// When anything of it last changed. Only the kernel sets it.
    pub changed: (i64, i64),
}

impl Stamp {
    /// That of an open file.
    pub(crate) fn of(meta: &Metadata) -> Self {
        Self {
            len: meta.len(),
            device: meta.dev(),
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

impl OpenFile {
    /// Opens `path` without following a symlink in its last component, and without waiting for a writer should the
    /// path have become a FIFO since it was listed.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        OpenFile::of(path).map(OpenFile::owned)
    }
}

impl<'p> OpenFile<&'p Path> {
    /// The same, of a path that is kept elsewhere as long.
    pub(crate) fn of(path: &'p Path) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::ELOOP) => changed(path, "it was a file when listed and is a symlink now"),
                _ => Error::io("open", path)(error),
            })?;
        let meta = file.metadata().map_err(Error::io("examine", path))?;
        if !meta.is_file() {
            return Err(changed(path, "it was a regular file when listed and is none now"));
        }
        Ok(Self { file, path, before: Stamp::of(&meta) })
    }

    pub(crate) fn owned(self) -> OpenFile {
        OpenFile { file: self.file, path: self.path.to_owned(), before: self.before }
    }
}

impl<P: AsRef<Path>> OpenFile<P> {
    /// What it was when opened, and has to be after the last read.
    pub(super) const fn stamp(&self) -> Stamp {
        self.before
    }

    /// Length when opened.
    pub(crate) const fn len(&self) -> u64 {
        self.before.len
    }

    /// Fills `buffer` from byte `at`. A file that has become too short for that has changed.
    pub(crate) fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<(), Error> {
        self.file.read_exact_at(buffer, at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => changed(
                self.path.as_ref(),
                &format!("it ends before byte {}, but had {} bytes when opened", at + buffer.len() as u64, self.len()),
            ),
            _ => self.read_error(error),
        })
    }

    /// All bytes of a file that was short when opened. It must end where it should: some file systems give a length of
    /// zero for files that have contents.
    pub(crate) fn read_whole<'b>(&self, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], Error> {
        let len = self.len() as usize;
        buffer.resize(len + 1, 0);
        self.read_to_end(buffer)?;
        Ok(&buffer[..len])
    }

    /// The same, into memory that has room for one byte more than the file.
    pub(crate) fn read_to_end(&self, room: &mut [u8]) -> Result<(), Error> {
        let len = self.len() as usize;
        let mut filled = 0;
        while filled < len + 1 {
            match self.file.read_at(&mut room[filled..len + 1], filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.read_error(error)),
            }
            // A regular file gives less than it was asked for only at its end.
            if filled == len && len > 0 {
                break;
            }
        }
        match filled {
            _ if filled == len => Ok(()),
            _ => Err(changed(
                self.path.as_ref(),
                &format!("it had {len} bytes when opened, and {filled} or more were read"),
            )),
        }
    }

    /// To be asked of a long file after the last read: it ends where it should.
    pub(crate) fn check_end(&self) -> Result<(), Error> {
        match self.file.read_at(&mut [0], self.len()) {
            Ok(0) => Ok(()),
            Ok(_) => {
                Err(changed(self.path.as_ref(), &format!("it goes on after the {} bytes that it had", self.len())))
            }
            Err(error) => Err(self.read_error(error)),
        }
    }

    pub(crate) fn read_error(&self, error: io::Error) -> Error {
        Error::io("read", self.path.as_ref())(error)
    }

    /// To be asked after the last read.
    pub(crate) fn check_unchanged(&self) -> Result<(), Error> {
        let meta = self.file.metadata().map_err(Error::io("examine", self.path.as_ref()))?;
        let after = Stamp::of(&meta);
        if after == self.before {
            return Ok(());
        }
        Err(if after.len == self.before.len {
            changed(self.path.as_ref(), "its modification or change time moved")
        } else {
            changed(self.path.as_ref(), &format!("it had {} bytes before and {} after", self.before.len, after.len))
        })
    }
}

pub(crate) fn changed(path: &Path, how: &str) -> Error {
    Error::FileChanged { path: path.to_owned(), how: how.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn growth_shrinkage_and_rewriting_in_place_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        for (name, act) in [
            (
                "growth",
                (|p: &Path| OpenOptions::new().append(true).open(p).unwrap().write_all(b"x").unwrap()) as fn(&Path),
            ),
            ("shrinkage", |p| OpenOptions::new().write(true).open(p).unwrap().set_len(3).unwrap()),
            ("rewriting", |p| std::fs::write(p, b"other bytes").unwrap()),
        ] {
            std::fs::write(&path, b"these bytes").unwrap();
            let file = OpenFile::open(&path).unwrap();
            file.check_unchanged().unwrap();
            // Time stamps move in steps of the kernel's tick.
            std::thread::sleep(std::time::Duration::from_millis(20));
            act(&path);
            assert!(matches!(file.check_unchanged(), Err(Error::FileChanged { .. })), "{name}");
        }
    }

    #[test]
    fn a_link_or_a_directory_in_place_of_the_file_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::fs::write(dir.path().join("w"), b"w").unwrap();
        std::os::unix::fs::symlink("w", &link).unwrap();
        assert!(matches!(OpenFile::open(&link), Err(Error::FileChanged { .. })));
        assert!(matches!(OpenFile::open(dir.path()), Err(Error::FileChanged { .. })));
        assert!(matches!(OpenFile::open(&dir.path().join("none")), Err(Error::Io { .. })));
    }

    #[test]
    fn a_file_that_hides_its_length_is_not_taken_for_an_empty_one() {
        let mut buffer = Vec::new();
        let file = OpenFile::open(Path::new("/proc/version")).unwrap();
        assert_eq!(file.len(), 0, "what procfs says");
        assert!(matches!(file.read_whole(&mut buffer), Err(Error::FileChanged { .. })));
        assert!(matches!(file.check_end(), Err(Error::FileChanged { .. })));

        let dir = tempfile::tempdir().unwrap();
        for len in [0, 1, 4096, 4097] {
            let path = dir.path().join("w");
            std::fs::write(&path, vec![7; len]).unwrap();
            let file = OpenFile::open(&path).unwrap();
            assert_eq!(file.read_whole(&mut buffer).unwrap(), vec![7; len]);
            file.check_end().unwrap();
            OpenOptions::new().append(true).open(&path).unwrap().write_all(b"x").unwrap();
            assert!(matches!(file.check_end(), Err(Error::FileChanged { .. })));
            assert!(matches!(file.read_whole(&mut buffer), Err(Error::FileChanged { .. })));
            std::fs::write(&path, vec![7; len / 2]).unwrap();
            assert_eq!(file.read_whole(&mut buffer).is_err(), len > 0);
        }
    }

    #[test]
    fn reading_past_the_end_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        std::fs::write(&path, b"0123456789").unwrap();
        let file = OpenFile::open(&path).unwrap();
        let mut buffer = [0; 4];
        file.read_at(&mut buffer, 6).unwrap();
        assert_eq!(&buffer, b"6789");
        let error = file.read_at(&mut buffer, 7).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}
