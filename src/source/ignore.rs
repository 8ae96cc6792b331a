//! What is left out of a model.

use std::collections::HashSet;

use super::SourceError;

/// Model-relative names that are left out of a model, each with everything below it.
///
/// An entry covers whole components: `a` covers `a` and `a/b`, never `ab`. Anyone may later change what is covered
/// and the signature still holds, so entries that would cover the whole model cannot be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IgnoreSet {
    // Hashed, as the walk asks for every entry of every folder.
    names: HashSet<Box<str>>,
}

impl IgnoreSet {
    /// What git keeps in a repository's root (OMS v1.0, section 6.2). Below the root these are files like any other.
    pub const GIT: [&'static str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The entries of [`GIT`](Self::GIT).
    #[must_use]
    pub fn with_git_defaults() -> Self {
        Self { names: Self::GIT.into_iter().map(Box::from).collect() }
    }

    /// Adds a model-relative name, from [`Model::relative`](super::Model::relative) or as a signed statement records
    /// it. As Python reads them, `a//b/` is `a/b`.
    ///
    /// # Errors
    /// [`SourceError::IgnorePath`] for a name that would cover the whole model (`""`, `.`) or lies outside it
    /// (absolute, or with `..`), that has a component `.`, or holds a NUL.
    pub fn insert(&mut self, name: &str) -> Result<(), SourceError> {
        let refused = |reason| Err(SourceError::IgnorePath { name: name.to_owned(), reason });
        if name.is_empty() || name == "." {
            return refused("covers the whole model");
        }
        if name.starts_with('/') {
            return refused("is an absolute path");
        }
        if name.contains('\0') {
            return refused("holds a NUL, which no file name can");
        }
        let mut normal = String::with_capacity(name.len());
        for part in name.split('/') {
            match part {
                "" => continue,
                "." => return refused("has a component `.`"),
                ".." => return refused("has a component `..`"),
                _ if normal.is_empty() => {}
                _ => normal.push('/'),
            }
            normal.push_str(part);
        }
        self.names.insert(normal.into());
        Ok(())
    }

    /// Whether this very name is an entry.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether some entry covers the model-relative `name`.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        self.covering(name).is_some()
    }

    /// The entry that covers the model-relative `name`, the shortest if there are several.
    #[must_use]
    pub fn covering(&self, name: &str) -> Option<&str> {
        let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
        ends.filter_map(|end| self.names.get(&name[..end])).map(Box::as_ref).next()
    }

    /// The entries, sorted by their bytes.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<&str> = self.names.iter().map(Box::as_ref).collect();
        names.sort_unstable();
        names.into_iter()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_cover_whole_components_only() {
        let mut set = IgnoreSet::new();
        assert!(set.is_empty());
        set.insert("a").unwrap();
        set.insert("b/c").unwrap();
        for covered in ["a", "a/x", "a/x/y", "b/c", "b/c/x"] {
            assert!(set.covers(covered), "{covered}");
        }
        for free in ["", "ab", "a-b", "a.b", "x/a", "b", "b/cc", "b/x/c"] {
            assert!(!set.covers(free), "{free}");
        }
        assert!(set.contains("b/c") && !set.contains("b/c/x") && !set.contains("b"));
        set.insert("a/x").unwrap();
        assert_eq!(set.covering("a/x/y"), Some("a"));
        assert_eq!(set.covering("b/c/x"), Some("b/c"));
    }

    #[test]
    fn entries_come_out_sorted_and_as_python_reads_them() {
        let mut set = IgnoreSet::with_git_defaults();
        for name in ["z", "a//b/", "a-b", "é", "a\\b", "c:\\d", "new\nline", "...", "a/b"] {
            set.insert(name).unwrap();
        }
        let names: Vec<&str> = set.iter().collect();
        let expected = [
            "...",
            ".git",
            ".gitattributes",
            ".github",
            ".gitignore",
            "a-b",
            "a/b",
            "a\\b",
            "c:\\d",
            "new\nline",
            "z",
            "é",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn entries_that_hide_everything_or_lie_outside_are_refused_by_name() {
        for bad in ["", ".", "..", "/", "/etc", "//a", "./a", "a/.", "a/./b", "../a", "a/..", "a/../b", "a\0b"] {
            let mut set = IgnoreSet::new();
            match set.insert(bad) {
                Err(SourceError::IgnorePath { name, .. }) => assert_eq!(name, bad),
                other => panic!("{bad:?}: {other:?}"),
            }
            assert!(set.is_empty());
        }
    }
}
