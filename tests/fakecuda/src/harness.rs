//! For tests that run a program against this driver: put the library where the program finds it, and read the log
//! afterwards. Needs no GPU, no root, no `unsafe`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where cargo puts the library that belongs to the running test: `target/<profile>/libfakecuda.so`. It is there
/// after `cargo build -p fakecuda` with the same profile and target folder.
#[must_use]
pub fn library() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let folders = test.ancestors().skip(1).take(2);
    folders.map(|folder| folder.join("libfakecuda.so")).find(|library| library.is_file())
}

/// Makes `folder` one that belongs first in `LD_LIBRARY_PATH`: links under the names that programs ask for.
///
/// # Errors
///
/// The folder or a link cannot be made.
pub fn install(library: &Path, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let library = library.canonicalize()?;
    for name in ["libcuda.so", "libcuda.so.1"] {
        let link = folder.join(name);
        if fs::symlink_metadata(&link).is_ok() {
            fs::remove_file(&link)?;
        }
        std::os::unix::fs::symlink(&library, &link)?;
    }
    Ok(())
}

/// What `FAKECUDA_LOG` holds. README.md describes the format.
#[derive(Debug, Default)]
pub struct Log {
    /// Every call: its function, its result, and the words after it.
    pub calls: Vec<Call>,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `cuMemAlloc_v2`, say.
    pub function: String,
    /// The `CUresult`.
    pub result: i32,
    /// `+allocation=0x7f..`, `launch=1:name`, `injected`.
    pub notes: Vec<String>,
}

impl Log {
    /// Reads the file. A last line that was cut by a crash is left out.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        Ok(Self { calls: whole.lines().filter_map(Call::parse).collect() })
    }

    /// How often `function` was called.
    #[must_use]
    pub fn count(&self, function: &str) -> usize {
        self.calls.iter().filter(|call| call.function == function).count()
    }

    /// The kernels that were launched, in order.
    #[must_use]
    pub fn launches(&self) -> Vec<&str> {
        let notes = self.calls.iter().flat_map(|call| &call.notes);
        notes.filter_map(|note| note.strip_prefix("launch=")?.split_once(':').map(|(_, name)| name)).collect()
    }

    /// What was created and never destroyed, as `allocation=0x7f..`; a context once for each reference too many.
    #[must_use]
    pub fn leaks(&self) -> Vec<String> {
        let mut alive: BTreeMap<&str, i64> = BTreeMap::new();
        for note in self.calls.iter().flat_map(|call| &call.notes) {
            if let Some(object) = note.strip_prefix('+') {
                *alive.entry(object).or_default() += 1;
            } else if let Some(object) = note.strip_prefix('-') {
                *alive.entry(object).or_default() -= 1;
            }
        }
        let leaks = alive.into_iter().filter(|(_, count)| *count > 0);
        leaks.flat_map(|(object, count)| vec![object.to_owned(); usize::try_from(count).unwrap_or(0)]).collect()
    }
}

impl Call {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        words.next()?.parse::<u64>().ok()?;
        let (function, result) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        Some(Self { function, result, notes: words.map(str::to_owned).collect() })
    }
}
