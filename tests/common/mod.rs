//! What the integration tests share: temporary models, the command line, and the peers that may be missing.
// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code)]

#[cfg(feature = "cuda")]
pub(crate) mod fakecuda;
pub(crate) mod forge;
pub(crate) mod pki;
pub(crate) mod resident;
pub(crate) mod server;
#[cfg(feature = "sigstore-verify")]
pub(crate) mod sigstore;
pub(crate) mod x509;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// How a program ended and what it said.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// The JSON report on standard output.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// Whether what was printed contains `words`. Columns are a matter of layout, which the snapshots of tests/cli hold.
    pub(crate) fn said(&self, words: &str) -> bool {
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        [&self.stdout, &self.stderr].iter().any(|text| plain(text).contains(&plain(words)))
    }

    /// Panics unless the exit code is `code` and what was printed contains `words`.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, words: &str, about: &str) {
        assert!(
            self.code == Some(code) && self.said(words),
            "{about}: wanted exit {code} and {words:?}, got {self:#?}"
        );
    }
}

/// Runs `tensorseal` in `folder`.
pub(crate) fn tensorseal<S: AsRef<OsStr>>(folder: &Path, args: &[S]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tensorseal"));
    Run::of(&command.current_dir(folder).args(args).output().unwrap())
}

/// The same in an environment of its own: `HOME`, nothing that a CI system would set, and `more`.
pub(crate) fn tensorseal_in(folder: &Path, args: &[&str], more: &[(&str, &str)]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tensorseal"));
    let kept = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", kept).env("HOME", folder).envs(more.iter().copied());
    Run::of(&command.current_dir(folder).args(args).stdin(std::process::Stdio::null()).output().unwrap())
}

/// The same with arguments in one string, split at spaces.
pub(crate) fn seal(folder: &Path, args: &str) -> Run {
    tensorseal(folder, &args.split_whitespace().collect::<Vec<_>>())
}

/// Runs another program in `folder`; it must succeed.
pub(crate) fn program<S: AsRef<OsStr>>(folder: &Path, name: impl AsRef<OsStr>, args: &[S]) -> Run {
    let run = Run::of(&Command::new(name).current_dir(folder).args(args).output().unwrap());
    assert_eq!(run.code, Some(0), "{run:#?}");
    run
}

/// Says that a test did not run, or fails where the caller demands that all do.
pub(crate) fn missing(what: &str) {
    assert!(std::env::var_os("TENSORSEAL_REQUIRE_PEERS").is_none_or(|v| v != "1"), "{what}, and it is required");
    // Printed past the test harness' capture: a test that did not run must not look like one that passed.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("skipped: {what}\n").as_bytes());
}

/// The folder of bundles made elsewhere.
pub(crate) fn vectors() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors");
    let path = std::env::var_os("TENSORSEAL_VECTORS").map_or_else(beside, PathBuf::from);
    if path.join("README.md").is_file() {
        return Some(path.canonicalize().unwrap());
    }
    missing(&format!("no vectors at {} (set TENSORSEAL_VECTORS)", path.display()));
    None
}

/// A Python that has `model_signing` and `jsonschema`.
pub(crate) fn python() -> Option<PathBuf> {
    let cache =
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/tensorseal/venv/bin/python");
    let path = std::env::var_os("TENSORSEAL_PYTHON").map_or_else(cache, PathBuf::from);
    // Whether it is the right Python shows when it is used: importing the package only to ask costs half a second.
    if path.is_file() {
        return Some(path);
    }
    missing(&format!("no Python at {} (set TENSORSEAL_PYTHON; ./test makes one)", path.display()));
    None
}

/// Writes a file and the folders that it needs.
pub(crate) fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Copies a tree of files and folders, all writable.
pub(crate) fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name));
        }
    } else {
        write(to, fs::read(from).unwrap());
    }
}

/// Changes the byte at `at`.
pub(crate) fn flip(path: impl AsRef<Path>, at: usize) {
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// A folder for one test with a P-256 key pair `key.pem`, `key.pub` in it.
pub(crate) fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    seal(folder.path(), "keygen --out key.pem").expect(0, "", "keygen");
    folder
}

/// Numbers that are the same in every run (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }
}
