//! Trees on a real disk: every rule of the walk, and a plain recursion to compare it with.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::*;

mod links;
mod model;
mod oracle;
mod walk;

/// A folder `m` in a folder of its own, with these files: each holds its own name.
struct Tree {
    dir: TempDir,
}

impl Tree {
    fn new(files: &[&str]) -> Self {
        let tree = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(tree.root()).unwrap();
        for name in files {
            tree.file(name);
        }
        tree
    }

    /// The folder that holds `m`, without links.
    fn base(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    fn root(&self) -> PathBuf {
        self.base().join("m")
    }

    fn file(&self, name: &str) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }

    fn link(&self, name: &str, target: impl AsRef<Path>) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn fifo(&self, name: &str) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    fn model(&self) -> Model {
        Model::open(&self.root(), SymlinkPolicy::Refuse).unwrap()
    }

    fn scan(&self, links: SymlinkPolicy) -> Result<Scan, SourceError> {
        self.model().scan(&IgnoreSet::new(), links, false)
    }

    fn scan_ignoring(&self, ignored: &[&str], links: SymlinkPolicy) -> Result<Scan, SourceError> {
        self.model().scan(&ignoring(ignored), links, true)
    }
}

fn ignoring(names: &[&str]) -> IgnoreSet {
    let mut set = IgnoreSet::new();
    for name in names {
        set.insert(name).unwrap();
    }
    set
}

fn names(scan: &Scan) -> Vec<&str> {
    scan.files.iter().map(SourceFile::name).collect()
}

/// What each file to be opened says, to see that the path of a name is the right one.
fn contents(scan: &Scan) -> Vec<String> {
    scan.files.iter().map(|file| fs::read_to_string(file.path()).unwrap()).collect()
}
