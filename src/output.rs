//! Files that we write: whole or not at all.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
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
    let staged = Staged::new(path, mode, fill)?;
    match existing {
        Existing::Replace => fs::rename(&staged.temporary.0, &staged.target),
        // A second name is given only where there is none: nobody can come in between, as after a look.
        Existing::Keep => fs::hard_link(&staged.temporary.0, &staged.target),
    }
}

/// Whether [`write_whole`] could replace what is at `path`, as far as can be known without doing it.
///
/// # Errors
/// What the system says.
pub(crate) fn could_write(path: &Path, mode: u32) -> io::Result<()> {
    Staged::new(path, mode, |_| Ok(())).map(drop)
}

/// Writes two files, each as [`write_whole`] would and in place of what is there: both or neither. Whoever is killed
/// between the two renames leaves the new first file beside the old second one.
///
/// # Errors
/// What the system says, and about which path; what was at both paths is then as it was.
pub(crate) fn write_both(first: (&Path, &[u8]), second: (&Path, &[u8])) -> Result<(), (PathBuf, io::Error)> {
    put_both(first, second, &|from, to| fs::rename(from, to))
}

fn put_both(
    first: (&Path, &[u8]),
    second: (&Path, &[u8]),
    put: &dyn Fn(&Path, &Path) -> io::Result<()>,
) -> Result<(), (PathBuf, io::Error)> {
    let stage = |(path, bytes): (&Path, &[u8])| {
        Staged::new(path, 0o666, |file| file.write_all(bytes)).map_err(|error| (path.to_owned(), error))
    };
    let (staged, last) = (stage(first)?, stage(second)?);
    let of_first = |error| (first.0.to_owned(), error);
    let old = staged.keep_old().map_err(of_first)?;
    put(&staged.temporary.0, &staged.target).map_err(of_first)?;
    put(&last.temporary.0, &last.target).map_err(|error| {
        // The first error is the one to tell.
        let _ = match &old {
            Some(old) => fs::rename(&old.0, &staged.target),
            None => fs::remove_file(&staged.target),
        };
        (second.0.to_owned(), error)
    })
}

/// A file that is removed when nobody needs it any more, unless it has another name by then.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // A file that cannot be removed is named by its own remains.
        let _ = fs::remove_file(&self.0);
    }
}

/// A file that is written whole, under a temporary name beside the one that it is for.
struct Staged {
    temporary: Temporary,
    target: PathBuf,
}

impl Staged {
    fn new(path: &Path, mode: u32, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<Self> {
        // A link is followed to what it stands for, as opening it for writing would.
        let target = if path.is_symlink() { fs::canonicalize(path)? } else { path.to_owned() };
        if let Ok(there) = fs::symlink_metadata(&target)
            && !there.is_file()
        {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it exists and is not a regular file"));
        }
        let (temporary, mut file) = create_beside(&target, mode)?;
        fill(&mut file)?;
        // Closing would swallow what a network file system has to say about a full disk; this does not.
        file.sync_all()?;
        Ok(Self { temporary, target })
    }

    /// Another name for what is at the target, or a copy where files have one name only. `None` if nothing is.
    fn keep_old(&self) -> io::Result<Option<Temporary>> {
        let (old, _) = create_beside(&self.target, 0o600)?;
        match fs::symlink_metadata(&self.target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            there => there?,
        };
        fs::remove_file(&old.0)?;
        fs::hard_link(&self.target, &old.0).or_else(|_| fs::copy(&self.target, &old.0).map(drop))?;
        Ok(Some(old))
    }
}

/// A file that is written piece by piece under a temporary name beside the one that it is for, and removed when this is
/// dropped. It stays locked as long: whoever finds such a file without a lock knows that its writer is gone.
pub(crate) struct Pending {
    temporary: Temporary,
    file: File,
    target: PathBuf,
}

impl Pending {
    /// Begins one for `target`, at which no file or a regular one is. What killed writers of the same file left is removed.
    pub(crate) fn create(target: &Path, mode: u32) -> io::Result<Self> {
        // Through a link, somebody else's file would be replaced, such as a cache's.
        if fs::symlink_metadata(target).is_ok_and(|there| !there.is_file()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it exists and is not a regular file"));
        }
        sweep(folder_of(target), &|name| target.file_name() == Some(OsStr::new(name)))?;
        let (temporary, file) = create_beside(target, mode)?;
        match file.lock() {
            // As on some file systems of clusters.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            locked => locked?,
        }
        Ok(Self { temporary, file, target: target.to_owned() })
    }

    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Gives the file its name, in place of what has it, and the file itself, open. What was written must be synced.
    pub(crate) fn publish(self) -> io::Result<File> {
        fs::rename(&self.temporary.0, &self.target)?;
        sync_folder(&self.target)?;
        // The temporary name is nobody's now.
        Ok(self.file)
    }
}

/// The name of the file that a temporary one stands in for, if this is the name of a temporary one.
pub(crate) fn stands_in_for(name: &str) -> Option<&str> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let (target, number) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
    let (process, attempt) = number.split_once('-')?;
    (is_number(process) && is_number(attempt)).then_some(target)
}

/// Removes temporary files in `folder` that nobody writes any more, if their targets are `of` interest. Where files cannot
/// be locked, nobody can tell, and they stay.
pub(crate) fn sweep(folder: &Path, of: &dyn Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_str().and_then(stands_in_for).is_some_and(of) {
            continue;
        }
        let open = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(entry.path());
        match open.map(|file| file.try_lock().map(|()| file)) {
            Ok(Ok(_locked)) => fs::remove_file(entry.path())?,
            Ok(Err(fs::TryLockError::WouldBlock)) => {}
            Ok(Err(fs::TryLockError::Error(error))) if error.kind() == io::ErrorKind::Unsupported => {}
            Ok(Err(fs::TryLockError::Error(error))) => return Err(error),
            // Its writer was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes a file, so that it stays removed. Whether there was one.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Has the system write down which names the folder of `path` has.
fn sync_folder(path: &Path) -> io::Result<()> {
    match File::open(folder_of(path))?.sync_all() {
        // File systems that have no such thing keep names in order by other means, or not at all.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

/// The folder that a path names a file in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether two paths lead to one place, where a file need not be yet.
pub(crate) fn same_place(a: &Path, b: &Path) -> bool {
    let place = |path: &Path| {
        let new = || Some(fs::canonicalize(folder_of(path)).ok()?.join(path.file_name()?));
        fs::canonicalize(path).ok().or_else(new)
    };
    a == b || place(a).is_some_and(|a| place(b) == Some(a))
}

/// A new file beside `path` under a name that nobody else has.
fn create_beside(path: &Path, mode: u32) -> io::Result<(Temporary, File)> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is not a file name"))?;
    let folder = folder_of(path);
    let mut attempt = 0;
    loop {
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{attempt}.tmp", std::process::id()));
        let temporary = folder.join(temporary);
        match OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary) {
            Ok(file) => return Ok((Temporary(temporary), file)),
            // Left by a process of the same number that was killed, or made by another thread of this one.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn two_files_are_written_or_neither() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("tensors"), dir.path().join("model.sig"));
        let names = || {
            let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
            names.collect::<std::collections::BTreeSet<_>>().len()
        };
        let fails = |at: usize| {
            let calls = std::cell::Cell::new(0);
            move |from: &Path, to: &Path| {
                calls.set(calls.get() + 1);
                if calls.get() == at { Err(io::Error::other("planted")) } else { fs::rename(from, to) }
            }
        };
        for at in [1, 2] {
            let error = put_both((&first, b"1"), (&second, b"2"), &fails(at)).unwrap_err();
            assert_eq!(error.0, if at == 1 { first.clone() } else { second.clone() });
            assert_eq!(names(), 0, "nothing was there and nothing is");
        }
        write_both((&first, b"old 1"), (&second, b"old 2")).unwrap();
        for at in [1, 2] {
            put_both((&first, b"new"), (&second, b"new"), &fails(at)).unwrap_err();
            assert_eq!((fs::read(&first).unwrap(), fs::read(&second).unwrap()), (b"old 1".into(), b"old 2".into()));
            assert_eq!(names(), 2);
        }
        write_both((&first, b"new 1"), (&second, b"new 2")).unwrap();
        assert_eq!((fs::read(&first).unwrap(), fs::read(&second).unwrap()), (b"new 1".into(), b"new 2".into()));
        assert_eq!(names(), 2);
        assert!(write_both((&first, b"newer"), (dir.path(), b"x")).is_err());
        assert_eq!(fs::read(&first).unwrap(), b"new 1");
        assert_eq!(names(), 2);
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
