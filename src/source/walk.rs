//! The walk: one reading of each folder, and no question about a file that the reading already answered.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec;

use super::{
    FileId, FollowedLink, IgnoreSet, IgnoredFile, IgnoredKind, Kind, Model, Scan, SourceError, SourceFile,
    SymlinkPolicy, below, file_id, leads_nowhere,
};

/// How many entries are listed at most below links to folders, all of them together.
///
/// Twenty folders with two links each, every one to the next folder, are a million names: without a bound a small
/// model could keep a verifier busy for ever. What the disk itself holds needs no bound, and no model we know of
/// comes near this one.
pub(super) const MAX_ENTRIES_THROUGH_LINKS: usize = 1_000_000;

/// How long a name may become below links, in bytes: what the kernel allows for a path (`PATH_MAX`). The path that
/// is opened starts anew at each link, so the kernel itself would let names grow with every link.
const MAX_NAME_THROUGH_LINKS: usize = 4096;

pub(super) fn walk(
    model: &Model,
    ignore: &IgnoreSet,
    links: SymlinkPolicy,
    list_ignored: bool,
    limit: usize,
) -> Result<Scan, SourceError> {
    let mut walk = Walk {
        model,
        ignore,
        links,
        list_ignored,
        limit,
        name: String::new(),
        through_links: 0,
        entered: HashSet::new(),
        entered_link: false,
        scan: Scan::default(),
    };
    walk.run()?;
    let mut scan = walk.scan;
    if walk.entered_link {
        // Folders come in order by themselves (see `order`), except through links, which only reveal themselves as
        // folders after their siblings were sorted.
        scan.files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    }
    scan.followed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    scan.ignored.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(scan)
}

struct Walk<'a> {
    model: &'a Model,
    ignore: &'a IgnoreSet,
    links: SymlinkPolicy,
    list_ignored: bool,
    limit: usize,
    // Model-relative name of what is in hand; each folder's name is a prefix of what it holds.
    name: String,
    through_links: usize,
    // The folders from the root down to the one in hand. Filled only where links are followed: else there is no
    // way to come back to one of them.
    entered: HashSet<FileId>,
    entered_link: bool,
    scan: Scan,
}

/// A folder that is being gone through. They are kept in a `Vec`, as a deep tree would overflow the call stack.
struct Folder {
    entries: vec::IntoIter<Entry>,
    /// How much of `Walk::name` is this folder with its `/`.
    name_len: usize,
    place: Place,
    id: Option<FileId>,
}

/// Where things with model-relative names lie on disk: below `base`, under their name from `skip` on.
#[derive(Clone)]
struct Place {
    base: Arc<Path>,
    skip: usize,
    /// If a link led here, the length of its name, which is a prefix of every name here.
    link: Option<usize>,
}

struct Entry {
    name: OsString,
    kind: Kind,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), SourceError> {
        let root = Place { base: Arc::from(self.model.root.as_path()), skip: 0, link: None };
        let mut folders = vec![self.enter(root)?];
        while let Some(folder) = folders.last_mut() {
            self.name.truncate(folder.name_len);
            if let Some(entry) = folder.entries.next() {
                if let Some(found) = self.visit(&entry, &folder.place)? {
                    folders.push(self.enter(found)?);
                }
            } else {
                if let Some(id) = folder.id {
                    self.entered.remove(&id);
                }
                folders.pop();
            }
        }
        Ok(())
    }

    /// Reads the folder that `self.name` names and that lies at `place`.
    fn enter(&mut self, place: Place) -> Result<Folder, SourceError> {
        let path = below(&place.base, &self.name, place.skip);
        let cannot = |source| SourceError::io("read the folder", &path, source);
        let mut id = None;
        if self.links != SymlinkPolicy::Refuse {
            let found = file_id(&fs::metadata(&path).map_err(cannot)?);
            if !self.entered.insert(found) {
                // Not always at the link itself: a link to a folder above the model comes back through plain folders.
                let link = self.name.get(..place.link.unwrap_or(self.name.len())).unwrap_or_default();
                return Err(SourceError::LinkCycle { link: self.model.path.join(link), target: path });
            }
            id = Some(found);
        }
        if place.link.is_some() && self.name.len() > MAX_NAME_THROUGH_LINKS {
            return Err(cannot(io::Error::from_raw_os_error(libc::ENAMETOOLONG)));
        }
        let mut entries = Vec::new();
        for entry in fs::read_dir(&path).map_err(cannot)? {
            let entry = entry.map_err(cannot)?;
            // The system tells the type with the name; where it does not, this asks for it without following links.
            let kind = Kind::of(entry.file_type().map_err(cannot)?);
            entries.push(Entry { name: entry.file_name(), kind });
            if place.link.is_some() {
                self.through_links += 1;
                if self.through_links > self.limit {
                    return Err(SourceError::TooManyEntries { path: self.model.path.clone(), limit: self.limit });
                }
            }
        }
        entries.sort_unstable_by(order);
        if !self.name.is_empty() {
            self.name.push('/');
        }
        Ok(Folder { entries: entries.into_iter(), name_len: self.name.len(), place, id })
    }

    /// Files and ignored entries are noted; for a folder, the answer is where it lies.
    fn visit(&mut self, entry: &Entry, place: &Place) -> Result<Option<Place>, SourceError> {
        let Some(name) = entry.name.to_str() else {
            // Ignore entries are UTF-8, so none can be this one.
            return Err(SourceError::NonUtf8Name { path: self.model.path.join(&self.name).join(&entry.name) });
        };
        self.name.push_str(name);
        if self.ignore.contains(&self.name) {
            if self.list_ignored {
                self.list_ignored(entry.kind, place);
            }
            return Ok(None);
        }
        match entry.kind {
            Kind::File => {
                self.note_file(Arc::clone(&place.base), place.skip);
                Ok(None)
            }
            Kind::Folder => Ok(Some(place.clone())),
            Kind::Link => self.follow(place),
            Kind::Special(kind) => Err(SourceError::Special { path: self.shown(), kind }),
        }
    }

    fn follow(&mut self, place: &Place) -> Result<Option<Place>, SourceError> {
        if self.links == SymlinkPolicy::Refuse {
            return Err(SourceError::Symlink { path: self.shown() });
        }
        let path = below(&place.base, &self.name, place.skip);
        let target = match fs::canonicalize(&path) {
            Ok(target) => target,
            Err(error) if leads_nowhere(&error) => return Err(SourceError::DanglingLink { link: self.shown() }),
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return Err(SourceError::LinkCycle { link: self.shown(), target: path });
            }
            Err(error) => return Err(SourceError::io("follow the link", &path, error)),
        };
        let leaves_root = !target.starts_with(&self.model.root);
        if leaves_root && self.links == SymlinkPolicy::Inside {
            return Err(SourceError::LinkLeavesModel { link: self.shown(), target });
        }
        let found = fs::symlink_metadata(&target).map_err(|e| SourceError::io("look at", &target, e))?;
        let base = Arc::from(target.as_path());
        let end = self.name.len();
        self.scan.followed.push(FollowedLink { name: self.name.clone(), target, leaves_root });
        match Kind::of(found.file_type()) {
            Kind::File => {
                self.note_file(base, end);
                Ok(None)
            }
            Kind::Folder => {
                self.entered_link = true;
                // What the folder holds comes after the link's name and a `/`; the folder itself is `base`.
                Ok(Some(Place { base, skip: end + 1, link: Some(end) }))
            }
            Kind::Special(kind) => Err(SourceError::Special { path: self.shown(), kind }),
            // A canonical path holds no link, unless someone put one there just now.
            Kind::Link => Err(SourceError::Symlink { path: self.shown() }),
        }
    }

    fn note_file(&mut self, base: Arc<Path>, skip: usize) {
        self.scan.files.push(SourceFile { name: self.name.as_str().into(), base, skip });
    }

    /// The path of what is in hand, spelled as the caller spells the model.
    fn shown(&self) -> PathBuf {
        self.model.path.join(&self.name)
    }

    /// Lists what the ignore entry in hand covers. Nothing in there is an error: it was ignored for some reason.
    fn list_ignored(&mut self, kind: Kind, place: &Place) {
        let under: Arc<str> = self.name.as_str().into();
        let mut rest = vec![(self.name.clone(), below(&place.base, &self.name, place.skip), kind)];
        while let Some((name, path, kind)) = rest.pop() {
            let kind = match kind {
                Kind::File => IgnoredKind::File,
                Kind::Link => IgnoredKind::Symlink,
                Kind::Special(kind) => IgnoredKind::Special(kind),
                Kind::Folder => match read_ignored(&name, &path, &mut rest) {
                    Ok(()) => continue,
                    Err(_) => IgnoredKind::Unreadable,
                },
            };
            self.scan.ignored.push(IgnoredFile { name, under: Arc::clone(&under), kind });
        }
    }
}

fn read_ignored(name: &str, path: &Path, found: &mut Vec<(String, PathBuf, Kind)>) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        found.push((name, entry.path(), Kind::of(entry.file_type()?)));
    }
    Ok(())
}

/// The order of siblings in which going down into each folder yields whole names in the order of their bytes: a
/// folder counts as its name with the `/` that will follow, so `a-b` and `a.b` come before what `a` holds.
fn order(a: &Entry, b: &Entry) -> Ordering {
    let (left, right) = (a.name.as_bytes(), b.name.as_bytes());
    let common = left.len().min(right.len());
    let next = |entry: &Entry, name: &[u8]| name.get(common).copied().or((entry.kind == Kind::Folder).then_some(b'/'));
    left[..common].cmp(&right[..common]).then_with(|| next(a, left).cmp(&next(b, right)))
}
