//! A folder of our own, gone when we are.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::bench::{Failure, system};

/// A new folder that nobody else had before, removed with everything in it when this is dropped: also while an error or a
/// panic is on its way. A process that is killed leaves it; its name begins with `tensorseal-bench-`.
#[derive(Debug)]
pub struct Work {
    folder: PathBuf,
}

/// What is to be left of a disk.
const SPARE: u64 = 64 << 20;

impl Work {
    /// Makes one inside `parent`, or where temporary files go, if there is room for `bytes` bytes and something to spare.
    ///
    /// # Errors
    /// [`Failure::Io`] if `parent` is no folder that can be written to, [`Failure::Room`].
    pub fn new(parent: Option<&Path>, bytes: u64) -> Result<Self, Failure> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        // Whoever works from another folder, as a program does that we start, has to find it, too.
        let parent = fs::canonicalize(&parent).map_err(Failure::io("find the folder", parent))?;
        let free = system::free(&parent).map_err(Failure::io("ask for the free space of", &parent))?;
        // Signatures and folders take some, and a full disk is slow and everybody's trouble.
        let needed = bytes.saturating_add(bytes / 20).saturating_add(SPARE);
        if free < needed {
            return Err(Failure::Room { folder: parent, needed, free });
        }
        let mut attempt = 0;
        loop {
            let folder = parent.join(format!("tensorseal-bench-{}-{attempt}", std::process::id()));
            // Only if there is nothing of that name.
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => return Ok(Self { folder }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => attempt += 1,
                Err(error) => return Err(Failure::io("create the folder", folder)(error)),
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // There is nobody left to tell; the name says whose it was.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn it_is_new_private_and_gone_afterwards_also_after_a_panic() {
        let parent = tempfile::tempdir().unwrap();
        let count = || fs::read_dir(parent.path()).unwrap().count();
        // What is there already stays: the first names are taken, by a folder, a file and a link.
        let name = |n| parent.path().join(format!("tensorseal-bench-{}-{n}", std::process::id()));
        fs::create_dir(name(0)).unwrap();
        fs::write(name(1), "mine").unwrap();
        std::os::unix::fs::symlink(name(0), name(2)).unwrap();
        {
            let (one, two) = (Work::new(Some(parent.path()), 10).unwrap(), Work::new(Some(parent.path()), 10).unwrap());
            assert_ne!(one.path(), two.path());
            assert_eq!(fs::metadata(one.path()).unwrap().permissions().mode() & 0o777, 0o700);
            fs::create_dir(one.path().join("model")).unwrap();
            fs::write(one.path().join("model/w"), "w").unwrap();
            assert_eq!(count(), 5);
        }
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let work = Work::new(Some(parent.path()), 0).unwrap();
            fs::write(work.path().join("w"), "w").unwrap();
            panic!("planted");
        }));
        assert!(panicked.is_err());
        assert_eq!((count(), fs::read(name(1)).unwrap()), (3, b"mine".to_vec()));
        assert!(name(0).is_dir() && name(2).is_symlink());
        assert!(Work::new(None, 0).unwrap().path().starts_with(fs::canonicalize(std::env::temp_dir()).unwrap()));
    }

    #[test]
    fn no_room_and_no_folder_are_said_with_what_to_do() {
        let parent = tempfile::tempdir().unwrap();
        let error = Work::new(Some(parent.path()), u64::MAX).unwrap_err();
        assert!(matches!(error, Failure::Room { needed: u64::MAX, .. }) && !error.is_wrong(), "{error}");
        for remedy in ["--work", "--file-size", "--no-files"] {
            assert!(error.to_string().contains(remedy), "{error}");
        }
        let file = parent.path().join("f");
        fs::write(&file, "f").unwrap();
        for none in [parent.path().join("none"), file.join("x"), file] {
            let error = Work::new(Some(&none), 0).unwrap_err();
            assert!(matches!(error, Failure::Io { .. }) && error.to_string().contains("--work"), "{error}");
        }
        // Root may write everywhere but there.
        let error = Work::new(Some(Path::new("/proc")), 0).unwrap_err();
        assert!(matches!(error, Failure::Room { .. } | Failure::Io { .. }), "{error}");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "nothing was made");
    }
}
