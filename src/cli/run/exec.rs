//! From this program to another, in the same process.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The descriptors that were open before we opened any: the command shall have these and no other.
pub(super) struct Inherited(BTreeSet<i32>);

impl Inherited {
    /// Those that are open now.
    pub(super) fn now() -> io::Result<Self> {
        let all = open_now()?;
        // The one that listed them is among them and closed by now.
        let open = |descriptor: &i32| fs::symlink_metadata(format!("/proc/self/fd/{descriptor}")).is_ok();
        Ok(Self(all.into_iter().filter(open).collect()))
    }

    /// Has every other descriptor closed when the command begins: libraries of devices open some of their own.
    fn keep_only(&self) -> io::Result<()> {
        for descriptor in open_now()?.into_iter().filter(|descriptor| !self.0.contains(descriptor)) {
            // SAFETY: fcntl without a pointer argument touches no memory of ours, and a descriptor that is closed by now is
            // an error that changes nothing.
            unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
        Ok(())
    }
}

fn open_now() -> io::Result<Vec<i32>> {
    let names = fs::read_dir("/proc/self/fd")?.map(|entry| entry.map(|entry| entry.file_name()));
    let numbers = names.filter_map(|name| name.map(|name| name.to_str()?.parse().ok()).transpose());
    numbers.collect()
}

/// Why a command cannot be run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// There is none of this name.
    NotFound,
    /// There is one, and it may not be run.
    NotExecutable(PathBuf),
}

/// The file that a command's name stands for, found as execvp(3) finds it: a name with a slash is a path, others are looked
/// for in `PATH`.
pub(super) fn find(name: &OsStr, path: Option<OsString>) -> Result<PathBuf, Fault> {
    if name.is_empty() {
        return Err(Fault::NotFound);
    }
    if name.as_bytes().contains(&b'/') {
        let file = PathBuf::from(name);
        return if is_executable(&file) {
            Ok(file)
        } else if file.exists() {
            Err(Fault::NotExecutable(file))
        } else {
            Err(Fault::NotFound)
        };
    }
    let path = path.unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut refused = None;
    for folder in std::env::split_paths(&path) {
        // An empty element is the current folder; a path without a slash would be looked for once more.
        let file = if folder.as_os_str().is_empty() { Path::new(".").join(name) } else { folder.join(name) };
        if is_executable(&file) {
            return Ok(file);
        }
        if refused.is_none() && file.is_file() {
            refused = Some(file);
        }
    }
    Err(refused.map_or(Fault::NotFound, Fault::NotExecutable))
}

/// Whether it is a file that this process may run.
fn is_executable(file: &Path) -> bool {
    let Ok(path) = CString::new(file.as_os_str().as_bytes()) else { return false };
    // SAFETY: the path is a live string that ends with a zero byte, and the call only reads it.
    let may = unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) } == 0;
    may && file.is_file()
}

/// Becomes the command, in this process, with its streams, its folder and the environment as they are. It returns only if
/// that failed.
///
/// The standard library gives the command SIGPIPE as it is by default, which this program ignores, and no blocked signals.
pub(super) fn become_command(
    file: &Path,
    words: &[OsString],
    receipt: Option<&Path>,
    inherited: &Inherited,
) -> io::Error {
    let Some((name, arguments)) = words.split_first() else { return io::ErrorKind::InvalidInput.into() };
    if let Err(error) = inherited.keep_only() {
        return error;
    }
    let mut command = Command::new(file);
    command.arg0(name).args(arguments);
    match receipt {
        Some(path) => command.env(super::RECEIPT_VARIABLE, path),
        // One that somebody else set is not ours.
        None if std::env::var_os(super::RECEIPT_VARIABLE).is_some() => command.env_remove(super::RECEIPT_VARIABLE),
        // Untouched, the environment is handed on as it is: in its order, with entries that stand twice or are none.
        None => &mut command,
    };
    command.exec()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn commands_are_found_as_shells_find_them() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
        for folder in [&first, &second] {
            fs::create_dir(folder).unwrap();
        }
        let file = |folder: &Path, name: &str, mode: u32| {
            fs::write(folder.join(name), "#!/bin/sh\n").unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        file(&first, "both", 0o644);
        file(&second, "both", 0o755);
        file(&second, "plain", 0o644);
        fs::create_dir(second.join("folder")).unwrap();
        let path = || Some(std::env::join_paths([&first, &second]).unwrap());
        assert_eq!(find("both".as_ref(), path()), Ok(second.join("both")));
        assert_eq!(find("plain".as_ref(), path()), Err(Fault::NotExecutable(second.join("plain"))));
        for none in ["none", "folder", ""] {
            assert_eq!(find(none.as_ref(), path()), Err(Fault::NotFound), "{none}");
        }
        let direct = second.join("both");
        assert_eq!(find(direct.as_os_str(), None), Ok(direct));
        let plain = second.join("plain");
        assert_eq!(find(plain.as_os_str(), None), Err(Fault::NotExecutable(plain)));
        assert_eq!(find(second.join("none").as_os_str(), path()), Err(Fault::NotFound));
        assert!(find("sh".as_ref(), None).is_ok(), "without PATH");
    }
}
