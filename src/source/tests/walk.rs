//! What belongs to a model, in which order, and what may not be in it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;

use super::*;
use SymlinkPolicy::{Anywhere, Inside, Refuse};

#[test]
fn files_are_sorted_by_the_bytes_of_whole_names() {
    let sorted = [
        "A", "a b/x", "a!", "a-b", "a.b", "a/-", "a/b.c/d", "a/b/c", "a0", "aa", "ab/c", "b", "e\u{301}", "z", "é",
        "\u{ffff}", "😀",
    ];
    assert!(sorted.is_sorted(), "the test itself");
    let backwards: Vec<&str> = sorted.iter().rev().copied().collect();
    let tree = Tree::new(&backwards);
    for links in [Refuse, Inside, Anywhere] {
        let scan = tree.scan(links).unwrap();
        assert_eq!(names(&scan), sorted);
        assert_eq!(contents(&scan), sorted);
    }
}

#[test]
fn names_are_kept_as_they_are_and_empty_folders_do_not_matter() {
    let odd = ["\t", " ", "...", ".hidden", "a:0:5", "back\\slash", "new\nline", "~"];
    let tree = Tree::new(&odd);
    fs::create_dir_all(tree.root().join("empty/er")).unwrap();
    assert_eq!(names(&tree.scan(Refuse).unwrap()), odd);
    let none = Tree::new(&[]);
    assert!(none.scan(Refuse).unwrap().files.is_empty());
}

#[test]
fn git_is_ignored_in_the_root_only() {
    let tree = Tree::new(&[
        ".git/HEAD",
        ".gitattributes",
        ".github/w.yml",
        ".gitignore",
        ".gitmodules",
        ".gitx",
        "sub/.git/HEAD",
        "sub/.gitignore",
    ]);
    let scan = tree.model().scan(&IgnoreSet::with_git_defaults(), Refuse, true).unwrap();
    assert_eq!(names(&scan), [".gitmodules", ".gitx", "sub/.git/HEAD", "sub/.gitignore"]);
    let ignored: Vec<_> = scan.ignored.iter().map(|file| (file.name.as_str(), &*file.under)).collect();
    let expected = [
        (".git/HEAD", ".git"),
        (".gitattributes", ".gitattributes"),
        (".github/w.yml", ".github"),
        (".gitignore", ".gitignore"),
    ];
    assert_eq!(ignored, expected);
    assert_eq!(tree.scan(Refuse).unwrap().files.len(), 8);
}

#[test]
fn an_ignored_link_leaves_what_it_leads_to_in_the_model() {
    let tree = Tree::new(&["a", "d/x"]);
    tree.link("in", "a");
    tree.link("ld", "d");
    let mut ignore = IgnoreSet::new();
    for path in ["m/in", "m/ld"] {
        match tree.model().relative_in(&tree.base(), Path::new(path)).unwrap() {
            Relative::Inside(name) => ignore.insert(&name).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    for links in [Refuse, Inside, Anywhere] {
        let scan = tree.model().scan(&ignore, links, true).unwrap();
        assert_eq!(names(&scan), ["a", "d/x"]);
        assert!(scan.followed.is_empty());
        let ignored: Vec<_> = scan.ignored.iter().map(|file| (file.name.as_str(), file.kind)).collect();
        assert_eq!(ignored, [("in", IgnoredKind::Symlink), ("ld", IgnoredKind::Symlink)]);
    }
}

#[test]
fn nothing_in_an_ignored_folder_is_an_error_and_all_of_it_is_listed() {
    let tree = Tree::new(&["a", "skip/f", "skip/deep/g", "skipped"]);
    fs::create_dir(tree.root().join("skip/empty")).unwrap();
    fs::write(tree.root().join(OsStr::from_bytes(b"skip/bad\xff")), "").unwrap();
    tree.fifo("skip/pipe");
    let _socket = UnixListener::bind(tree.root().join("skip/socket")).unwrap();
    tree.link("skip/cycle", ".");
    tree.link("skip/none", "none");
    tree.link("skip/out", "/etc");
    for links in [Refuse, Inside, Anywhere] {
        assert!(tree.scan(links).is_err());
        let scan = tree.scan_ignoring(&["skip", "gone"], links).unwrap();
        assert_eq!(names(&scan), ["a", "skipped"]);
        let ignored: Vec<_> = scan.ignored.iter().map(|file| (file.name.as_str(), file.kind)).collect();
        let expected = [
            ("skip/bad\u{fffd}", IgnoredKind::File),
            ("skip/cycle", IgnoredKind::Symlink),
            ("skip/deep/g", IgnoredKind::File),
            ("skip/f", IgnoredKind::File),
            ("skip/none", IgnoredKind::Symlink),
            ("skip/out", IgnoredKind::Symlink),
            ("skip/pipe", IgnoredKind::Special(SpecialKind::Fifo)),
            ("skip/socket", IgnoredKind::Special(SpecialKind::Socket)),
        ];
        assert_eq!(ignored, expected);
        assert!(scan.ignored.iter().all(|file| &*file.under == "skip"));

        let quiet = tree.model().scan(&ignoring(&["skip"]), links, false).unwrap();
        assert_eq!(names(&quiet), ["a", "skipped"]);
        assert!(quiet.ignored.is_empty());
    }
}

#[test]
fn special_files_are_refused_by_path_and_kind() {
    let tree = Tree::new(&["a"]);
    tree.fifo("sub/pipe");
    for links in [Refuse, Inside, Anywhere] {
        match tree.scan(links) {
            Err(SourceError::Special { path, kind: SpecialKind::Fifo }) => {
                assert_eq!(path, tree.root().join("sub/pipe"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(names(&tree.scan_ignoring(&["sub/pipe"], Refuse).unwrap()), ["a"]);

    let tree = Tree::new(&["a"]);
    let _socket = UnixListener::bind(tree.root().join("s")).unwrap();
    let error = tree.scan(Refuse).unwrap_err();
    assert!(matches!(error, SourceError::Special { kind: SpecialKind::Socket, .. }));
    assert!(!error.is_io());
    let text = error.to_string();
    assert!(text.contains("/m/s\"") && text.contains("a socket") && text.contains("ignore it"), "{text}");
}

#[test]
fn a_name_that_is_not_utf8_is_refused_wherever_it_stands() {
    for (bad, at) in
        [(&b"sub/f\xff"[..], &b"sub/f\xff"[..]), (b"sub/d\xff/f", b"sub/d\xff"), (b"\xc3\x28", b"\xc3\x28")]
    {
        let tree = Tree::new(&["a", "sub/b"]);
        let path = tree.root().join(OsStr::from_bytes(bad));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        for links in [Refuse, Inside] {
            match tree.scan(links) {
                Err(SourceError::NonUtf8Name { path }) => assert_eq!(path, tree.root().join(OsStr::from_bytes(at))),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn the_first_thing_wrong_by_name_is_the_one_that_is_reported() {
    let tree = Tree::new(&[]);
    for name in ["z", "b/x", "y", "c"] {
        tree.link(name, "none");
    }
    assert!(matches!(tree.scan(Refuse), Err(SourceError::Symlink { path }) if path == tree.root().join("b/x")));
}

#[test]
fn an_error_shows_a_hostile_name_escaped() {
    let tree = Tree::new(&[]);
    tree.link("\x1b[2J\n", "x");
    let text = tree.scan(Refuse).unwrap_err().to_string();
    assert!(!text.contains('\x1b') && !text.contains('\n'), "{text:?}");
    assert!(text.contains("--allow-symlinks"), "{text}");
}

/// Folders `d`, each holding the next, below `m`. Deeper than any path may be long, so they are put together, and
/// taken apart, in pieces.
struct Deep {
    tree: Tree,
    pieces: usize,
}

const PIECE: usize = 100;

impl Deep {
    fn new(pieces: usize) -> Self {
        let tree = Tree::new(&["z"]);
        let piece: PathBuf = std::iter::repeat_n("d", PIECE).collect();
        for _ in 0..pieces {
            let next = tree.base().join("next");
            fs::create_dir_all(next.join(&piece)).unwrap();
            let whole = tree.root().join("d");
            if whole.exists() {
                fs::rename(whole, next.join(&piece).join("d")).unwrap();
            }
            fs::rename(next.join("d"), tree.root().join("d")).unwrap();
            fs::remove_dir(next).unwrap();
        }
        Self { tree, pieces }
    }
}

impl Drop for Deep {
    fn drop(&mut self) {
        // What `TempDir` does would itself go too deep.
        let piece: PathBuf = std::iter::repeat_n("d", PIECE).collect();
        for _ in 1..self.pieces {
            let rest = self.tree.base().join("rest");
            fs::rename(self.tree.root().join(&piece).join("d"), &rest).unwrap();
            fs::remove_dir_all(self.tree.root().join("d")).unwrap();
            fs::rename(rest, self.tree.root().join("d")).unwrap();
        }
    }
}

#[test]
fn a_deep_tree_overflows_no_stack() {
    let deep = Deep::new(10);
    let end = format!("{}end", "d/".repeat(10 * PIECE));
    deep.tree.file(&end);
    for links in [Refuse, Inside] {
        let scan = std::thread::scope(|scope| {
            let small = std::thread::Builder::new().stack_size(128 << 10);
            small.spawn_scoped(scope, || deep.tree.scan(links).unwrap()).unwrap().join().unwrap()
        });
        assert_eq!(names(&scan), [end.as_str(), "z"]);
        assert!(scan.files[0].path().exists());
    }
}

#[test]
fn a_tree_deeper_than_a_path_can_say_is_an_error_or_ignored() {
    let deep = Deep::new(100);
    for links in [Refuse, Inside, Anywhere] {
        match deep.tree.scan(links) {
            Err(SourceError::Io { source, .. }) => assert_eq!(source.raw_os_error(), Some(libc::ENAMETOOLONG)),
            other => panic!("{other:?}"),
        }
    }
    let scan = deep.tree.scan_ignoring(&["d"], Refuse).unwrap();
    assert_eq!(names(&scan), ["z"]);
    // What nobody could look into is said to be there.
    assert_eq!(scan.ignored.len(), 1);
    assert_eq!((scan.ignored[0].kind, &*scan.ignored[0].under), (IgnoredKind::Unreadable, "d"));
}

/// Run with `cargo test --release -- --ignored --nocapture fifty_thousand`.
#[test]
#[ignore = "a measurement"]
fn fifty_thousand_files_take_milliseconds() {
    let tree = Tree::new(&[]);
    for folder in 0..100 {
        fs::create_dir(tree.root().join(format!("layer-{folder:03}"))).unwrap();
        for file in 0..500 {
            fs::write(tree.root().join(format!("layer-{folder:03}/model-{file:05}-of-00500.safetensors")), "").unwrap();
        }
    }
    for links in [Refuse, Inside] {
        for _ in 0..5 {
            let start = std::time::Instant::now();
            let scan = tree.model().scan(&IgnoreSet::with_git_defaults(), links, true).unwrap();
            println!("{links:?}: {} files in {:?}", scan.files.len(), start.elapsed());
            assert_eq!(scan.files.len(), 50_000);
        }
    }
}
