//! Symbolic links: which are followed, and which are refused how.

use std::os::unix::net::UnixListener;

use super::*;
use SymlinkPolicy::{Anywhere, Inside, Refuse};

fn followed(scan: &Scan) -> Vec<(&str, PathBuf, bool)> {
    scan.followed.iter().map(|link| (link.name.as_str(), link.target.clone(), link.leaves_root)).collect()
}

#[test]
fn links_inside_the_model_are_followed_to_files_and_folders() {
    let tree = Tree::new(&["data/x", "data/sub/y", "ld-x", "ld.x", "weights"]);
    tree.link("ld", "data");
    tree.link("alias", "weights");
    // A chain, and one that goes out and back in: only where it ends counts.
    tree.link("chain", "alias");
    tree.link("round", tree.base().join("out/back"));
    fs::create_dir(tree.base().join("out")).unwrap();
    symlink(tree.root().join("weights"), tree.base().join("out/back")).unwrap();
    tree.link("data/sub/up", "../x");
    let root = tree.root();
    for links in [Inside, Anywhere] {
        let scan = tree.scan(links).unwrap();
        // The order is that of whole names although `ld` only turns out to be a folder on the way.
        let expected = [
            ("alias", "weights"),
            ("chain", "weights"),
            ("data/sub/up", "data/x"),
            ("data/sub/y", "data/sub/y"),
            ("data/x", "data/x"),
            ("ld-x", "ld-x"),
            ("ld.x", "ld.x"),
            ("ld/sub/up", "data/x"),
            ("ld/sub/y", "data/sub/y"),
            ("ld/x", "data/x"),
            ("round", "weights"),
            ("weights", "weights"),
        ];
        for (file, (name, real)) in scan.files.iter().zip(expected) {
            assert_eq!((file.name(), file.path()), (name, root.join(real)));
        }
        assert_eq!(contents(&scan), expected.map(|(_, real)| real));
        let expected = [
            ("alias", root.join("weights"), false),
            ("chain", root.join("weights"), false),
            ("data/sub/up", root.join("data/x"), false),
            ("ld", root.join("data"), false),
            ("ld/sub/up", root.join("data/x"), false),
            ("round", root.join("weights"), false),
        ];
        assert_eq!(followed(&scan), expected);
    }
    assert!(matches!(tree.scan(Refuse), Err(SourceError::Symlink { path }) if path == root.join("alias")));
}

#[test]
fn a_link_that_leaves_the_model_is_followed_only_if_that_is_allowed() {
    // `m2` only looks as if it lay in `m`.
    for (target, is_file) in [("m2/f", true), ("m2", false)] {
        let tree = Tree::new(&["a"]);
        fs::create_dir(tree.base().join("m2")).unwrap();
        fs::write(tree.base().join("m2/f"), "outside").unwrap();
        tree.link("out", Path::new("..").join(target));
        let real = tree.base().join(target);
        assert!(matches!(tree.scan(Refuse), Err(SourceError::Symlink { path }) if path == tree.root().join("out")));
        match tree.scan(Inside) {
            Err(error @ SourceError::LinkLeavesModel { .. }) => {
                let text = error.to_string();
                assert!(text.contains("--allow-external-symlinks") && text.contains("/m/out\""), "{text}");
                let SourceError::LinkLeavesModel { link, target } = error else { panic!() };
                assert_eq!((link, target), (tree.root().join("out"), real.clone()));
            }
            other => panic!("{other:?}"),
        }
        let scan = tree.scan(Anywhere).unwrap();
        assert_eq!(names(&scan), ["a", if is_file { "out" } else { "out/f" }]);
        assert_eq!(contents(&scan), ["a", "outside"]);
        assert_eq!(followed(&scan), [("out", real, true)]);
    }
}

#[test]
fn a_hugging_face_cache_needs_links_that_leave_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().canonicalize().unwrap().join("models--x");
    let snapshot = cache.join("snapshots/rev");
    fs::create_dir_all(snapshot.join("onnx")).unwrap();
    fs::create_dir(cache.join("blobs")).unwrap();
    for (name, blob, up) in [("config.json", "abc", "../../blobs"), ("onnx/model.onnx", "def", "../../../blobs")] {
        fs::write(cache.join("blobs").join(blob), blob).unwrap();
        symlink(Path::new(up).join(blob), snapshot.join(name)).unwrap();
    }
    let model = Model::open(&snapshot, Refuse).unwrap();
    let scan = |links| model.scan(&IgnoreSet::with_git_defaults(), links, false);
    let first = snapshot.join("config.json");
    assert!(matches!(scan(Refuse), Err(SourceError::Symlink { path }) if path == first));
    match scan(Inside) {
        Err(SourceError::LinkLeavesModel { link, target }) => {
            assert_eq!((link, target), (first, cache.join("blobs/abc")));
        }
        other => panic!("{other:?}"),
    }
    let scan = scan(Anywhere).unwrap();
    assert_eq!(names(&scan), ["config.json", "onnx/model.onnx"]);
    assert_eq!(contents(&scan), ["abc", "def"]);
    let expected = [("config.json", cache.join("blobs/abc"), true), ("onnx/model.onnx", cache.join("blobs/def"), true)];
    assert_eq!(followed(&scan), expected);
    // The whole repository as the model: the same links stay inside.
    let whole = Model::open(&cache, Refuse).unwrap().scan(&IgnoreSet::new(), Inside, false).unwrap();
    assert_eq!(names(&whole), ["blobs/abc", "blobs/def", "snapshots/rev/config.json", "snapshots/rev/onnx/model.onnx"]);
    assert!(whole.followed.iter().all(|link| !link.leaves_root));
}

/// The scan with each policy that follows links must say that `link` leads in a circle.
fn is_cycle(tree: &Tree, policies: &[SymlinkPolicy], link: &str) {
    for &links in policies {
        match tree.scan(links) {
            Err(SourceError::LinkCycle { link: found, .. }) => assert_eq!(found, tree.root().join(link)),
            other => panic!("{link}: {other:?}"),
        }
    }
    assert!(matches!(tree.scan(Refuse), Err(SourceError::Symlink { .. })));
}

#[test]
fn links_in_a_circle_are_refused() {
    let both = [Inside, Anywhere];

    let itself = Tree::new(&["a"]);
    itself.link("me", "me");
    is_cycle(&itself, &both, "me");

    let here = Tree::new(&["a"]);
    here.link("sub/here", ".");
    is_cycle(&here, &both, "sub/here");

    let root = Tree::new(&["a"]);
    root.link("sub/deep/up", "../..");
    is_cycle(&root, &both, "sub/deep/up");

    let mutual = Tree::new(&["a/x", "b/y"]);
    mutual.link("a/to-b", "../b");
    mutual.link("b/to-a", "../a");
    is_cycle(&mutual, &both, "a/to-b/to-a");

    let files = Tree::new(&["a"]);
    files.link("one", "two");
    files.link("two", "one");
    is_cycle(&files, &both, "one");

    // The folder above holds the model: coming back to it there is no link at all.
    let above = Tree::new(&["a"]);
    above.link("sub/out", "../..");
    is_cycle(&above, &[Anywhere], "sub/out");
    assert!(matches!(above.scan(Inside), Err(SourceError::LinkLeavesModel { .. })));
}

#[test]
fn two_links_to_one_folder_are_no_circle() {
    let tree = Tree::new(&["a/x"]);
    tree.link("b", "a");
    tree.link("c/d", "../a");
    tree.link("c/e", "../a");
    let scan = tree.scan(Inside).unwrap();
    assert_eq!(names(&scan), ["a/x", "b/x", "c/d/x", "c/e/x"]);
    assert_eq!(contents(&scan), ["a/x"; 4]);
}

#[test]
fn a_link_to_nothing_is_refused_and_one_to_a_device_too() {
    for target in ["none", "a/below-a-file", "/nonexistent/x"] {
        let tree = Tree::new(&["a"]);
        tree.link("l", target);
        for links in [Inside, Anywhere] {
            let error = tree.scan(links).unwrap_err();
            assert!(matches!(&error, SourceError::DanglingLink { link } if *link == tree.root().join("l")), "{error}");
        }
    }
    let tree = Tree::new(&["a"]);
    tree.link("l", "/dev/null");
    match tree.scan(Anywhere) {
        Err(SourceError::Special { path, kind }) => {
            assert_eq!((path, kind), (tree.root().join("l"), SpecialKind::CharDevice));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(tree.scan(Inside), Err(SourceError::LinkLeavesModel { .. })));

    let tree = Tree::new(&["a"]);
    let _socket = UnixListener::bind(tree.root().join("s")).unwrap();
    tree.link("l", "s");
    let found = tree.model().scan(&ignoring(&["s"]), Inside, false);
    assert!(matches!(found, Err(SourceError::Special { path, .. }) if path == tree.root().join("l")));
}

#[test]
fn ignore_entries_below_a_link_go_by_the_name_in_the_model() {
    let tree = Tree::new(&["d/x", "d/y", "d/s/z"]);
    tree.link("ld", "d");
    let scan = tree.scan_ignoring(&["ld/x", "ld/s"], Inside).unwrap();
    assert_eq!(names(&scan), ["d/s/z", "d/x", "d/y", "ld/y"]);
    let ignored: Vec<_> = scan.ignored.iter().map(|file| (file.name.as_str(), &*file.under)).collect();
    assert_eq!(ignored, [("ld/s/z", "ld/s"), ("ld/x", "ld/x")]);
}

/// `levels` folders, each with two links to the next: twice as many names with every level.
fn bomb(levels: usize) -> Tree {
    let tree = Tree::new(&[&format!("{levels:03}/end")]);
    for level in 0..levels {
        for name in ["x", "y"] {
            tree.link(&format!("{level:03}/{name}"), format!("../{:03}", level + 1));
        }
    }
    tree
}

#[test]
fn links_that_multiply_are_cut_off() {
    let tree = bomb(40);
    match tree.model().scan_within(&IgnoreSet::new(), Inside, false, 1_000) {
        Err(error @ SourceError::TooManyEntries { limit: 1_000, .. }) => {
            assert!(error.to_string().contains("1000 entries"), "{error}");
            assert!(!error.is_io());
        }
        other => panic!("{other:?}"),
    }
    // Three levels: from the first, 2 + 4 + 8 entries below links, from the second 2 + 4, from the third 2, and `end`
    // for each of the 14 ways in place of another two.
    let small = bomb(3);
    let scan = |limit| small.model().scan_within(&IgnoreSet::new(), Inside, false, limit);
    let seen = (1..).find(|&limit| scan(limit).is_ok()).unwrap();
    let expected = (2 * 2 + 4 * 2 + 8) + (2 * 2 + 4) + 2;
    assert_eq!(seen, expected);
    assert_eq!(scan(seen).unwrap().files.len(), 8 + 4 + 2 + 1);
    // What lies in the model without links does not count.
    let plain = Tree::new(&["a", "b", "c/d"]);
    assert_eq!(plain.model().scan_within(&IgnoreSet::new(), Inside, false, 0).unwrap().files.len(), 3);
}

#[test]
fn names_that_only_links_can_make_so_long_are_cut_off() {
    let long = "n".repeat(250);
    let tree = Tree::new(&["20/end"]);
    for level in 0..20 {
        tree.link(&format!("{level:02}/{long}"), format!("../{:02}", level + 1));
    }
    match tree.scan(Inside) {
        Err(SourceError::Io { source, .. }) => assert_eq!(source.raw_os_error(), Some(libc::ENAMETOOLONG)),
        other => panic!("{other:?}"),
    }
}
