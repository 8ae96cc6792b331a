//! Opening a model, and where paths lie in it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;

use super::*;
use SymlinkPolicy::{Anywhere, Inside, Refuse};

#[test]
fn however_the_path_is_spelled_the_model_is_the_same() {
    let tree = Tree::new(&["a", "sub/b"]);
    let base = tree.base();
    for (spelling, name) in [
        ("m", "m"),
        ("m/", "m"),
        ("m//", "m"),
        ("m/.", "m"),
        ("./m", "m"),
        ("m/../m", "m"),
        ("m/sub/..", "m"),
        ("m/sub/../../m/", "m"),
    ] {
        let model = Model::open_in(&base, Path::new(spelling), Refuse).unwrap();
        assert_eq!(model.path(), Path::new(spelling));
        assert_eq!(model.path().as_os_str(), spelling, "kept letter for letter");
        assert_eq!((model.root(), model.kind()), (tree.root().as_path(), ModelKind::Directory), "{spelling}");
        assert_eq!(model.name(), name, "{spelling}");
        let scan = model.scan(&IgnoreSet::new(), Refuse, false).unwrap();
        assert_eq!(names(&scan), ["a", "sub/b"]);
        assert_eq!(contents(&scan), ["a", "sub/b"]);
    }
    for (within, spelling, name) in [("m", ".", "m"), ("m/sub", "..", "m"), ("m", "./", "m"), ("m", "sub/..", "m")] {
        let model = Model::open_in(&base.join(within), Path::new(spelling), Refuse).unwrap();
        assert_eq!((model.root(), model.name()), (tree.root().as_path(), name), "{spelling}");
    }
    let absolute = Model::open_in(Path::new("/nowhere"), &tree.root(), Refuse).unwrap();
    assert_eq!(absolute.root(), tree.root());
    assert_eq!(Model::open(Path::new("/"), Refuse).unwrap().name(), "");
}

#[test]
fn a_model_that_is_itself_a_link_is_refused_however_it_is_written() {
    let tree = Tree::new(&["a"]);
    symlink("m", tree.base().join("link")).unwrap();
    symlink("m/a", tree.base().join("one")).unwrap();
    for spelling in ["link", "link/", "link//", "link/.", "./link/./", "m/../link/", "one"] {
        match Model::open_in(&tree.base(), Path::new(spelling), Refuse) {
            Err(SourceError::Symlink { path }) => assert_eq!(path.as_os_str(), spelling),
            other => panic!("{spelling}: {other:?}"),
        }
    }
    for links in [Inside, Anywhere] {
        let model = Model::open_in(&tree.base(), Path::new("link/"), links).unwrap();
        assert_eq!((model.root(), model.name()), (tree.root().as_path(), "link"));
        assert_eq!(contents(&model.scan(&IgnoreSet::new(), links, false).unwrap()), ["a"]);

        let model = Model::open_in(&tree.base(), Path::new("one"), links).unwrap();
        let scan = model.scan(&IgnoreSet::new(), links, false).unwrap();
        assert_eq!((model.kind(), names(&scan)), (ModelKind::File, vec!["one"]));
        assert_eq!(scan.files[0].path(), tree.root().join("a"));
    }
    // A link on the way to the model is not part of it.
    symlink(".", tree.base().join("here")).unwrap();
    assert_eq!(Model::open_in(&tree.base(), Path::new("here/m"), Refuse).unwrap().root(), tree.root());
}

#[test]
fn a_single_file_is_a_model_of_its_own_name_whatever_is_ignored() {
    let tree = Tree::new(&["x.gguf", "y"]);
    let model = Model::open_in(&tree.base(), Path::new("m/x.gguf"), Refuse).unwrap();
    assert_eq!((model.kind(), model.name()), (ModelKind::File, "x.gguf"));
    let scan = model.scan(&ignoring(&["x.gguf"]), Refuse, true).unwrap();
    assert_eq!(names(&scan), ["x.gguf"]);
    assert_eq!(scan.files[0].path(), tree.root().join("x.gguf"));
    let at = |path: &str| model.relative_in(&tree.base(), Path::new(path)).unwrap();
    assert_eq!(at("m/x.gguf"), Relative::Root);
    assert_eq!(at("m/../m/x.gguf"), Relative::Root);
    assert_eq!(at("m/x.gguf/"), Relative::Root);
    for outside in ["m/y", "m", "m/x.gguf/z", "none"] {
        assert_eq!(at(outside), Relative::Outside, "{outside}");
    }
}

#[test]
fn what_cannot_be_a_model_says_why() {
    let tree = Tree::new(&[]);
    for missing in ["none", "", "m/none/..", "none/"] {
        let error = Model::open_in(&tree.base(), Path::new(missing), Refuse).unwrap_err();
        assert!(error.is_io(), "{missing:?}: {error}");
        assert!(error.to_string().contains(&format!("{missing:?}")), "{error}");
    }
    tree.fifo("pipe");
    let _socket = UnixListener::bind(tree.root().join("socket")).unwrap();
    for (path, expected) in [
        (tree.root().join("pipe"), SpecialKind::Fifo),
        (tree.root().join("socket"), SpecialKind::Socket),
        (PathBuf::from("/dev/null"), SpecialKind::CharDevice),
    ] {
        for links in [Refuse, Inside, Anywhere] {
            match Model::open(&path, links) {
                Err(SourceError::Special { path: named, kind }) => assert_eq!((named, kind), (path.clone(), expected)),
                other => panic!("{path:?}: {other:?}"),
            }
        }
    }
    let bad = tree.root().join(OsStr::from_bytes(b"bad\xff"));
    fs::create_dir(&bad).unwrap();
    assert!(matches!(Model::open(&bad, Refuse), Err(SourceError::NonUtf8Name { path }) if path == bad));
    // Nothing records a name above the model.
    fs::create_dir(bad.join("m")).unwrap();
    assert_eq!(Model::open(&bad.join("m"), Refuse).unwrap().name(), "m");
}

/// Asks where `path`, relative to the folder that holds `m`, lies in `m`.
fn at(tree: &Tree, path: &str) -> Relative {
    tree.model().relative_in(&tree.base(), Path::new(path)).unwrap()
}

fn inside(name: &str) -> Relative {
    Relative::Inside(name.to_owned())
}

#[test]
fn a_path_is_placed_by_where_it_lies_not_by_how_it_is_spelled() {
    let tree = Tree::new(&["a", "sub/b", "sub/deep/c"]);
    for (path, name) in [
        ("m/a", "a"),
        ("./m//a", "a"),
        ("m/./sub/", "sub"),
        ("m/../m/sub/b", "sub/b"),
        ("m/sub/../a", "a"),
        ("m/sub/deep/../b", "sub/b"),
        ("m/sub/deep/..", "sub"),
        ("m/not/there", "not/there"),
    ] {
        assert_eq!(at(&tree, path), inside(name), "{path}");
    }
    for root in ["m", "m/", "m/.", "m/sub/..", "m/../m", "m/sub/deep/../.."] {
        assert_eq!(at(&tree, root), Relative::Root, "{root}");
    }
    for outside in ["", ".", "..", "/", "mm", "m2/a", "m/..", "m/../a", "none/m/a", "m/none/../a", "m/a/../sub"] {
        assert_eq!(at(&tree, outside), Relative::Outside, "{outside}");
    }
    assert_eq!(tree.model().relative(&tree.root().join("a")).unwrap(), inside("a"));
    assert_eq!(tree.model().relative(&tree.base()).unwrap(), Relative::Outside);
    // From within the model, as when the model is `.`.
    let within = |path: &str| tree.model().relative_in(&tree.root().join("sub"), Path::new(path)).unwrap();
    assert_eq!((within("b"), within("../a"), within("..")), (inside("sub/b"), inside("a"), Relative::Root));
    // The model `/` holds everything.
    let all = Model::open(Path::new("/"), Refuse).unwrap();
    assert_eq!(all.relative(Path::new("/etc/hostname")).unwrap(), inside("etc/hostname"));
    assert_eq!(all.relative(Path::new("/")).unwrap(), Relative::Root);
}

#[test]
fn a_link_is_placed_by_its_own_name_and_dot_dot_leaves_what_it_leads_to() {
    let tree = Tree::new(&["a", "sub/b", "sub/deep/c"]);
    fs::create_dir_all(tree.base().join("out/side")).unwrap();
    tree.link("in", "a");
    tree.link("dangling", "none");
    tree.link("ld", "sub/deep");
    tree.link("away", tree.base().join("out/side"));
    tree.link("sub/back", "..");
    symlink("m", tree.base().join("link")).unwrap();
    symlink("m/sub", tree.base().join("short")).unwrap();
    for (path, name) in [
        ("m/in", "in"),
        ("m/in/", "in"),
        ("m/dangling", "dangling"),
        ("m/away", "away"),
        ("m/ld/c", "ld/c"),
        ("m/away/x", "away/x"),
        ("link/in", "in"),
        ("link/ld/c", "ld/c"),
        ("m/sub/../in", "in"),
        ("short/b", "sub/b"),
        ("m/sub/back", "sub/back"),
        ("short/back", "sub/back"),
        ("m/sub/back/a", "sub/back/a"),
        // The spelling says `a`; the system says `sub/a`.
        ("m/ld/../a", "sub/a"),
    ] {
        assert_eq!(at(&tree, path), inside(name), "{path}");
    }
    for outside in ["m/away/..", "m/away/../a", "link/..", "short/../.."] {
        assert_eq!(at(&tree, outside), Relative::Outside, "{outside}");
    }
    for root in ["link", "short/.."] {
        assert_eq!(at(&tree, root), Relative::Root, "{root}");
    }
    // A model that was opened through a link is found by either name.
    let model = Model::open_in(&tree.base(), Path::new("link"), Inside).unwrap();
    for path in ["link/in", "m/in"] {
        assert_eq!(model.relative_in(&tree.base(), Path::new(path)).unwrap(), inside("in"));
    }
}

#[test]
fn a_path_that_cannot_be_recorded_or_followed_is_an_error() {
    let tree = Tree::new(&["a"]);
    let bad = tree.root().join(OsStr::from_bytes(b"bad\xff"));
    let error = tree.model().relative(&bad).unwrap_err();
    assert!(matches!(&error, SourceError::NonUtf8Name { path } if *path == bad), "{error}");
    assert_eq!(tree.model().relative(&tree.base().join(OsStr::from_bytes(b"\xff"))).unwrap(), Relative::Outside);
    symlink("loop", tree.base().join("loop")).unwrap();
    let error = tree.model().relative(&tree.base().join("loop/a")).unwrap_err();
    assert!(error.is_io(), "{error}");
}
