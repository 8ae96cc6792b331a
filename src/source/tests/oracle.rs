//! Random trees, with random links and ignore entries, against the plainest recursion that can be written.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Name to file, by the letter of the rules and without regard to cost; `None` where the model is to be refused.
fn oracle(root: &Path, ignored: &[String], links: SymlinkPolicy) -> Option<BTreeMap<Vec<u8>, PathBuf>> {
    let mut found = BTreeMap::new();
    recurse(root, root, "", ignored, links, &mut vec![root.to_owned()], &mut found)?;
    Some(found)
}

fn recurse(
    root: &Path,
    folder: &Path,
    prefix: &str,
    ignored: &[String],
    links: SymlinkPolicy,
    above: &mut Vec<PathBuf>,
    found: &mut BTreeMap<Vec<u8>, PathBuf>,
) -> Option<()> {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if ignored.iter().any(|i| Path::new(&name).starts_with(i)) {
            continue;
        }
        if links == SymlinkPolicy::Refuse && entry.path().is_symlink() {
            return None;
        }
        let real = entry.path().canonicalize().ok()?;
        if links == SymlinkPolicy::Inside && !real.starts_with(root) {
            return None;
        }
        if real.is_file() {
            found.insert(name.into_bytes(), real);
        } else {
            if above.contains(&real) {
                return None;
            }
            above.push(real.clone());
            recurse(root, &real, &format!("{name}/"), ignored, links, above, found)?;
            above.pop();
        }
    }
    Some(())
}

fn name() -> impl Strategy<Value = String> {
    // Few names, so that they meet; and those around `/` in the order of bytes.
    let part = prop::sample::select(vec!["a", "a-", "a.b", "a0", "b", "é", ".git"]);
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
}

fn build(tree: &Tree, files: &[String], wanted: &[(String, String)]) {
    fs::create_dir_all(tree.base().join("out/a")).unwrap();
    fs::write(tree.base().join("out/a/b"), "").unwrap();
    for name in files {
        let path = tree.root().join(name);
        if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.exists() {
            fs::write(path, name).unwrap();
        }
    }
    for (name, target) in wanted {
        let path = tree.root().join(name);
        if fs::create_dir_all(path.parent().unwrap()).is_ok() {
            // A name that is taken keeps what it has.
            let _ = symlink(tree.base().join(target), path);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_walk_finds_what_plain_recursion_finds(
        files in prop::collection::vec(name(), 0..25),
        wanted in prop_oneof![
            Just(vec![]),
            prop::collection::vec((name(), prop_oneof![
                9 => name().prop_map(|name| format!("m/{name}")),
                1 => Just("out/a".to_owned()),
            ]), 0..5),
        ],
        ignored in prop::collection::vec(name(), 0..4),
    ) {
        let tree = Tree::new(&[]);
        build(&tree, &files, &wanted);
        for links in [SymlinkPolicy::Refuse, SymlinkPolicy::Inside, SymlinkPolicy::Anywhere] {
            let mut set = IgnoreSet::new();
            for name in &ignored {
                set.insert(name).unwrap();
            }
            let scan = tree.model().scan(&set, links, true);
            match (oracle(&tree.root(), &ignored, links), scan) {
                (None, Err(error)) => prop_assert!(!error.is_io(), "{error}"),
                (Some(expected), Ok(scan)) => {
                    let found: Vec<_> = scan.files.iter().map(|f| (f.name().as_bytes().to_vec(), f.path())).collect();
                    prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
                    prop_assert!(scan.files.iter().all(|file| !set.covers(file.name())));
                    prop_assert!(scan.ignored.iter().all(|file| set.covers(&file.name)));
                }
                (expected, found) => prop_assert!(false, "expected {expected:?}, found {found:?}"),
            }
        }
    }
}
