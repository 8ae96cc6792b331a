//! Files that we write: whole or not at all.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What to do with a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and writing fails.
    Keep,
    /// It is replaced.
    Replace,
}

/// Writes `path` through a temporary file beside it, which takes its name only when everything is in it.
///
/// `mode` is what the file may at most be (the process's umask takes from it). On any error the temporary file is
/// removed, and whatever was at `path` is as it was.
///
/// # Errors
/// What the system says. A path that is a directory, a device or a pipe is refused: renaming over it would replace it.
pub(crate) fn write_whole(
    path: &Path,
    mode: u32,
    existing: Existing,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    // A link is followed to what it stands for, as opening it for writing would.
    let target = if path.is_symlink() { fs::canonicalize(path)? } else { path.to_owned() };
    let path = &target;
    if let Ok(there) = fs::symlink_metadata(path)
        && !there.is_file()
    {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it exists and is not a regular file"));
    }
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is not a file name"))?;
    let folder = folder_of(path);
    let (temporary, mut file) = create_beside(folder, name, mode)?;
    let written = fill(&mut file).and_then(|()| {
        // Closing would swallow what a network file system has to say about a full disk; this does not.
        file.sync_all()?;
        match existing {
            Existing::Replace => fs::rename(&temporary, path),
            // A second name is given only where there is none: nobody can come in between, as after a look.
            Existing::Keep => fs::hard_link(&temporary, path),
        }
    });
    if written.is_err() || existing == Existing::Keep {
        // The first error is the one to tell; a file that cannot be removed is named by its own remains.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The folder that a path names a file in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A new file in `folder` under a name that nobody else has.
fn create_beside(folder: &Path, name: &OsStr, mode: u32) -> io::Result<(PathBuf, File)> {
    let mut attempt = 0;
    loop {
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{attempt}.tmp", std::process::id()));
        let temporary = folder.join(temporary);
        match OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            // Left by a process of the same number that was killed, or made by another thread of this one.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.sig");
        write_whole(&path, 0o600, Existing::Replace, |file| file.write_all(b"first")).unwrap();
        let error = write_whole(&path, 0o600, Existing::Replace, |file| {
            file.write_all(b"half of the sec")?;
            Err(io::Error::other("disk full"))
        });
        assert_eq!(error.unwrap_err().to_string(), "disk full");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
        write_whole(&path, 0o600, Existing::Replace, |file| file.write_all(b"second")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
    }

    #[test]
    fn what_is_there_stays_if_it_shall() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        write_whole(&path, 0o600, Existing::Keep, |file| file.write_all(b"first")).unwrap();
        let again = write_whole(&path, 0o600, Existing::Keep, |file| file.write_all(b"second")).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_link_stays_and_its_target_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (link, target) = (dir.path().join("link"), dir.path().join("target"));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink("target", &link).unwrap();
        write_whole(&link, 0o600, Existing::Replace, |file| file.write_all(b"new")).unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"new");
        fs::remove_file(&target).unwrap();
        assert!(write_whole(&link, 0o600, Existing::Replace, |_| Ok(())).is_err(), "a link to nowhere");
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write_whole(dir.path(), 0o600, Existing::Replace, |_| Ok(())).is_err());
        assert!(write_whole(Path::new("/dev/null"), 0o600, Existing::Replace, |_| Ok(())).is_err());
        assert!(write_whole(Path::new("/"), 0o600, Existing::Replace, |_| Ok(())).is_err());
        assert!(write_whole(&dir.path().join("no/such/folder"), 0o600, Existing::Replace, |_| Ok(())).is_err());
    }
}
