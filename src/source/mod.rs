//! From a model path to its sorted files: names, ignore rules and the rules for symbolic links.
//!
//! A [`Model`] is a folder or a single file. [`Model::scan`] lists what belongs to it, in the order in which OMS
//! records it, and refuses what a signature cannot stand for: a device, a name that is not UTF-8, a link that the
//! caller did not allow. It reads folders only; no file is opened here.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

mod error;
mod ignore;
#[cfg(test)]
mod tests;
mod walk;

pub use error::SourceError;
pub use ignore::IgnoreSet;

/// What to do with symbolic links that no ignore entry covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SymlinkPolicy {
    /// A link anywhere is an error, the model's own path included.
    #[default]
    Refuse,
    /// Links to files and to folders are followed if what they finally lead to lies inside the model.
    Inside,
    /// As [`Inside`](Self::Inside), and links that leave the model are followed too.
    Anywhere,
}

/// What the model is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelKind {
    /// A folder: every file below it belongs to the model.
    Directory,
    /// A single file, for instance a `.gguf`.
    File,
}

/// What kind of entry is neither a file, a folder nor a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpecialKind {
    /// A named pipe: reading it could wait for ever.
    Fifo,
    /// A Unix domain socket.
    Socket,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharDevice,
    /// Something that this program does not know.
    Unknown,
}

impl fmt::Display for SpecialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fifo => "a named pipe",
            Self::Socket => "a socket",
            Self::BlockDevice => "a block device",
            Self::CharDevice => "a character device",
            Self::Unknown => "a file of unknown type",
        })
    }
}

/// Where a path lies, as seen from a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relative {
    /// Inside the model, under this model-relative name with `/` between its components.
    Inside(String),
    /// It is the model itself.
    Root,
    /// Not in the model.
    Outside,
}

/// A model on disk: its path as given, and the folder or file that the path leads to.
#[derive(Debug, Clone)]
pub struct Model {
    path: PathBuf,
    root: PathBuf,
    kind: ModelKind,
    name: String,
    id: FileId,
}

/// Device and inode: the same for every path that leads to one folder.
type FileId = (u64, u64);

impl Model {
    /// Looks at the model at `path`.
    ///
    /// # Errors
    /// [`SourceError::Symlink`] if the path itself is a link and links are refused, [`SourceError::Special`] if it
    /// is neither a folder nor a file, [`SourceError::NonUtf8Name`] if its name cannot be recorded, and
    /// [`SourceError::Io`] if it is missing or cannot be looked at.
    pub fn open(path: &Path, links: SymlinkPolicy) -> Result<Self, SourceError> {
        Self::open_in(Path::new(""), path, links)
    }

    /// As [`open`](Self::open), for a `path` that is relative to the folder `base` instead of the current one.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_in(base: &Path, path: &Path, links: SymlinkPolicy) -> Result<Self, SourceError> {
        let cannot = |source| SourceError::io("look at the model", path, source);
        if path.as_os_str().is_empty() {
            return Err(cannot(io::ErrorKind::NotFound.into()));
        }
        let full = base.join(path);
        if links == SymlinkPolicy::Refuse {
            // The kernel follows `link/` and `link/.`; the same path without that tail is the link itself.
            let bare: PathBuf = full.components().collect();
            if fs::symlink_metadata(bare).map_err(cannot)?.is_symlink() {
                return Err(SourceError::Symlink { path: path.to_owned() });
            }
        }
        let root = fs::canonicalize(&full).map_err(cannot)?;
        let found = fs::symlink_metadata(&root).map_err(cannot)?;
        let kind = match Kind::of(found.file_type()) {
            Kind::Folder => ModelKind::Directory,
            Kind::File => ModelKind::File,
            Kind::Special(kind) => return Err(SourceError::Special { path: path.to_owned(), kind }),
            // A canonical path holds no link, unless someone put one there just now.
            Kind::Link => return Err(SourceError::Symlink { path: path.to_owned() }),
        };
        // `file_name` is the final component as Python sees it: `m/` and `m/.` are `m`; `.`, `..` and `/` have none.
        let name = path.file_name().or_else(|| root.file_name()).unwrap_or_default();
        let name = name.to_str().ok_or_else(|| SourceError::NonUtf8Name { path: path.to_owned() })?.to_owned();
        Ok(Self { path: path.to_owned(), root, kind, name, id: file_id(&found) })
    }

    /// The path as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The absolute path without links that the given path leads to.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder or a single file.
    #[must_use]
    pub fn kind(&self) -> ModelKind {
        self.kind
    }

    /// The name that a statement gives to the model: the final component of the path as given, and where that says
    /// nothing (`.`, `..`), of the path that it leads to. Empty only for the folder `/`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where `path`, relative to the current folder, lies in the model. It need not exist.
    ///
    /// A link in the final component is never followed, so that to ignore `in`, a link to `a`, is to ignore the
    /// link and to keep `a`. Links before it keep their own names where the path enters the model first: under a
    /// followed link `ld`, `model/ld/x` is `ld/x`.
    ///
    /// # Errors
    /// [`SourceError::NonUtf8Name`] if it lies inside under a name that cannot be recorded, [`SourceError::Io`] if
    /// the system would not say where it leads.
    pub fn relative(&self, path: &Path) -> Result<Relative, SourceError> {
        let base = std::env::current_dir().map_err(|e| SourceError::io("find the current folder for", path, e))?;
        self.relative_in(&base, path)
    }

    /// As [`relative`](Self::relative), for a `path` that is relative to the folder `base`.
    ///
    /// # Errors
    /// As [`relative`](Self::relative).
    pub fn relative_in(&self, base: &Path, path: &Path) -> Result<Relative, SourceError> {
        // Rebuilt from its components, so without `//`, `/./` or a tail that would make the kernel follow a link.
        let full: PathBuf = base.join(path).components().collect();
        if self.kind == ModelKind::File {
            let here = fs::canonicalize(&full).is_ok_and(|found| found == self.root);
            return Ok(if here { Relative::Root } else { Relative::Outside });
        }

        // By its spelling, where some folder on the way is the model. `..` cannot be cancelled by spelling: after a
        // link it does not lead back.
        let mut way = PathBuf::new();
        let mut parts = full.components();
        while let Some(part) = parts.next() {
            way.push(part);
            let rest = parts.as_path();
            if rest.as_os_str().is_empty() {
                break;
            }
            match fs::metadata(&way) {
                Ok(found) if file_id(&found) == self.id && rest.components().all(is_plain) => {
                    return self.inside(rest);
                }
                Ok(_) => {}
                // Nothing below can be reached either; whether that matters shows below.
                Err(_) => break,
            }
        }

        // By where it leads: with `..` on the way, or into the model through a link from outside.
        let led = match (full.parent(), full.file_name()) {
            (Some(parent), Some(last)) => fs::canonicalize(parent).map(|parent| parent.join(last)),
            _ => fs::canonicalize(&full),
        };
        match led {
            Ok(led) => match led.strip_prefix(&self.root) {
                Ok(rest) if rest.as_os_str().is_empty() => Ok(Relative::Root),
                Ok(rest) => self.inside(rest),
                // A link from elsewhere to the model: the caller means the model.
                Err(_) if fs::metadata(&full).is_ok_and(|found| file_id(&found) == self.id) => Ok(Relative::Root),
                Err(_) => Ok(Relative::Outside),
            },
            Err(error) if leads_nowhere(&error) => Ok(Relative::Outside),
            Err(error) => Err(SourceError::io("follow the path", path, error)),
        }
    }

    fn inside(&self, rest: &Path) -> Result<Relative, SourceError> {
        // Only plain components are left, so the text is the name with `/` between them.
        let name = rest.to_str().ok_or_else(|| SourceError::NonUtf8Name { path: self.path.join(rest) })?;
        Ok(Relative::Inside(name.to_owned()))
    }

    /// Lists the files of the model, sorted by the UTF-8 bytes of their names.
    ///
    /// Ignore entries do not apply to a single-file model. An empty list is not an error here, but nothing was
    /// covered then: callers refuse it. With `list_ignored`, [`Scan::ignored`] holds what lies under the ignore
    /// entries, which is otherwise not looked at.
    ///
    /// # Errors
    /// [`SourceError::Io`] if some folder could not be read, and any other variant if the model holds something
    /// that it may not hold.
    pub fn scan(&self, ignore: &IgnoreSet, links: SymlinkPolicy, list_ignored: bool) -> Result<Scan, SourceError> {
        self.scan_within(ignore, links, list_ignored, walk::MAX_ENTRIES_THROUGH_LINKS)
    }

    /// The file of this model-relative name, if it is there, without a look at anything else in the model, and the link
    /// that leads to it, if one does.
    ///
    /// # Errors
    /// As [`scan`](Self::scan), for what lies on the way to the file and for the file itself.
    pub fn find(
        &self,
        name: &str,
        links: SymlinkPolicy,
    ) -> Result<Option<(SourceFile, Option<FollowedLink>)>, SourceError> {
        let path = self.root.join(name);
        let found = match fs::canonicalize(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return if path.is_symlink() { Err(SourceError::DanglingLink { link: path }) } else { Ok(None) };
            }
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return Err(SourceError::LinkCycle { link: path.clone(), target: path });
            }
            Err(error) if leads_nowhere(&error) => return Ok(None),
            Err(error) => return Err(SourceError::io("look at", &path, error)),
        };
        let leaves_root = !found.starts_with(&self.root);
        match links {
            SymlinkPolicy::Refuse if found != path => return Err(SourceError::Symlink { path }),
            SymlinkPolicy::Inside if leaves_root => {
                return Err(SourceError::LinkLeavesModel { link: path, target: found });
            }
            _ => {}
        }
        let meta = fs::symlink_metadata(&found).map_err(|error| SourceError::io("look at", &found, error))?;
        match Kind::of(meta.file_type()) {
            Kind::File => {
                let link = FollowedLink { name: name.to_owned(), target: found.clone(), leaves_root };
                let link = (found != path).then_some(link);
                Ok(Some((SourceFile { name: name.into(), base: Arc::from(found), skip: name.len() }, link)))
            }
            Kind::Special(kind) => Err(SourceError::Special { path: found, kind }),
            Kind::Folder | Kind::Link => Ok(None),
        }
    }

    fn scan_within(
        &self,
        ignore: &IgnoreSet,
        links: SymlinkPolicy,
        list_ignored: bool,
        limit: usize,
    ) -> Result<Scan, SourceError> {
        match self.kind {
            ModelKind::Directory => walk::walk(self, ignore, links, list_ignored, limit),
            ModelKind::File => {
                let base = Arc::from(self.root.as_path());
                let file = SourceFile { name: self.name.as_str().into(), base, skip: self.name.len() };
                Ok(Scan { files: vec![file], ..Scan::default() })
            }
        }
    }
}

/// What [`Model::scan`] found. Each list is sorted by name.
#[derive(Debug, Default)]
pub struct Scan {
    /// The files that belong to the model.
    pub files: Vec<SourceFile>,
    /// What lies under the ignore entries, if that was asked for.
    pub ignored: Vec<IgnoredFile>,
    /// The links that were followed.
    pub followed: Vec<FollowedLink>,
}

/// A file of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    name: Arc<str>,
    // Shared by all files that were reached the same way: a path for each of 50,000 files would say it over again.
    base: Arc<Path>,
    // Where in `name` the part below `base` starts; at its end, `base` is the file.
    skip: usize,
}

impl SourceFile {
    /// A file of this model-relative name that is, or will be, at this path.
    pub(crate) fn at(name: &str, path: &Path) -> Self {
        Self { name: name.into(), base: Arc::from(path), skip: name.len() }
    }

    /// The model-relative name with `/` between its components; for a single-file model its [name](Model::name).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same, to be kept.
    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// The path to open. It is absolute, and no component was a link when the folder was read.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        below(&self.base, &self.name, self.skip)
    }
}

/// An entry that is left out of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredFile {
    /// The model-relative name; what is not UTF-8 in it is replaced by U+FFFD.
    pub name: String,
    /// The ignore entry that covers it.
    pub under: Arc<str>,
    /// What it is.
    pub kind: IgnoredKind,
}

/// What an ignored entry is. Ignored folders are not listed, but what they hold is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IgnoredKind {
    /// A regular file.
    File,
    /// A symbolic link, which was not followed.
    Symlink,
    /// A socket, a device or a named pipe.
    Special(SpecialKind),
    /// A folder that could not be read: nobody knows what lies in it.
    Unreadable,
}

/// A link that was followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowedLink {
    /// The model-relative name of the link.
    pub name: String,
    /// What it finally leads to, an absolute path without links.
    pub target: PathBuf,
    /// Whether that lies outside the model.
    pub leaves_root: bool,
}

/// The kinds of entry that have rules of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
    Link,
    Special(SpecialKind),
}

impl Kind {
    fn of(found: FileType) -> Self {
        if found.is_file() {
            Self::File
        } else if found.is_dir() {
            Self::Folder
        } else if found.is_symlink() {
            Self::Link
        } else {
            Self::Special(if found.is_fifo() {
                SpecialKind::Fifo
            } else if found.is_socket() {
                SpecialKind::Socket
            } else if found.is_block_device() {
                SpecialKind::BlockDevice
            } else if found.is_char_device() {
                SpecialKind::CharDevice
            } else {
                SpecialKind::Unknown
            })
        }
    }
}

fn file_id(found: &Metadata) -> FileId {
    (found.dev(), found.ino())
}

fn is_plain(part: Component<'_>) -> bool {
    matches!(part, Component::Normal(_))
}

/// The path of `name` when its part from `skip` on lies below `base`.
fn below(base: &Path, name: &str, skip: usize) -> PathBuf {
    match name.as_bytes().get(skip..) {
        Some(rest) if !rest.is_empty() => {
            // As `join` would make it, in one allocation.
            let mut path = PathBuf::with_capacity(base.as_os_str().len() + 1 + rest.len());
            path.extend([base, Path::new(OsStr::from_bytes(rest))]);
            path
        }
        _ => base.to_owned(),
    }
}

/// Whether the system said that there is nothing at the end of a path, as opposed to not saying what.
fn leads_nowhere(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
