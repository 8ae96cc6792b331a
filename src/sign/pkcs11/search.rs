//! Which file is the module: from the URI, or from what the caller says in its place.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Pkcs11Error, Pkcs11Uri};

/// Where systems keep modules: those of their packages, and those of SoftHSM, which has a folder of its own.
#[cfg(target_arch = "x86_64")]
const USUAL: [&str; 6] = [
    "/usr/lib64/pkcs11",
    "/usr/lib/x86_64-linux-gnu/pkcs11",
    "/usr/lib/pkcs11",
    "/usr/lib64/softhsm",
    "/usr/lib/x86_64-linux-gnu/softhsm",
    "/usr/lib/softhsm",
];
#[cfg(not(target_arch = "x86_64"))]
const USUAL: [&str; 6] = [
    "/usr/lib64/pkcs11",
    "/usr/lib/aarch64-linux-gnu/pkcs11",
    "/usr/lib/pkcs11",
    "/usr/lib64/softhsm",
    "/usr/lib/aarch64-linux-gnu/softhsm",
    "/usr/lib/softhsm",
];

/// The module that `uri` asks for. `places`, files or folders, stand in place of its `module-path` and of the usual
/// folders; its `module-name` counts with them, too.
pub(super) fn module(uri: &Pkcs11Uri, places: &[PathBuf]) -> Result<PathBuf, Pkcs11Error> {
    let name = uri.module_name.as_deref();
    let named: Vec<PathBuf> =
        if places.is_empty() { uri.module_path.iter().cloned().collect() } else { absolute(places)? };
    if named.is_empty() {
        let name = name.ok_or(Pkcs11Error::NoModuleNamed)?;
        return in_folders(name, USUAL.map(PathBuf::from).to_vec());
    }
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for path in named {
        let cannot = |why: String| Pkcs11Error::ModulePath { path: path.clone(), why };
        let meta = fs::metadata(&path).map_err(|error| cannot(format!("{error}; correct the path, or install it")))?;
        if meta.is_dir() {
            folders.push(path);
        } else if meta.is_file() {
            files.push(path);
        } else {
            return Err(cannot("it is neither a file nor a folder; name the module's file".to_owned()));
        }
    }
    if let [first, second, ..] = &files[..] {
        return Err(Pkcs11Error::SeveralModulesNamed { first: first.clone(), second: second.clone() });
    }
    match (files.pop(), name) {
        (Some(path), None) => Ok(path),
        (Some(path), Some(name)) if fit(&path, name).is_some() => Ok(path),
        (Some(path), Some(name)) => Err(Pkcs11Error::OtherModuleName { path, name: name.to_owned() }),
        (None, Some(name)) => in_folders(name, folders),
        (None, None) => {
            let path = folders.into_iter().next().unwrap_or_default();
            let why = "it is a folder; name the module's file, or add module-name to the URI".to_owned();
            Err(Pkcs11Error::ModulePath { path, why })
        }
    }
}

/// A name without a slash would make the loader search folders of its own.
fn absolute(places: &[PathBuf]) -> Result<Vec<PathBuf>, Pkcs11Error> {
    let absolute = |path: &PathBuf| {
        std::path::absolute(path)
            .map_err(|error| Pkcs11Error::ModulePath { path: path.clone(), why: error.to_string() })
    };
    places.iter().map(absolute).collect()
}

/// The module of that name in the first folder that has one. Libraries for other processors lie in folders further on.
fn in_folders(name: &str, folders: Vec<PathBuf>) -> Result<PathBuf, Pkcs11Error> {
    for folder in &folders {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        let mut found: Vec<(Fit, PathBuf)> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter_map(|path| fit(&path, name).map(|fit| (fit, path)))
            .filter(|(_, path)| path.is_file())
            .collect();
        // The whole name before a part of it; `libx.so` and `libx.so.2`, which is the same file, are one.
        found.sort();
        let best = found.first().map(|(fit, _)| *fit);
        found.retain(|(fit, _)| Some(*fit) == best);
        found.dedup_by_key(|(_, path)| fs::canonicalize(&*path).unwrap_or_else(|_| path.clone()));
        match &found[..] {
            [] => {}
            [(_, path)] => return Ok(path.clone()),
            [(_, first), (_, second), ..] => {
                let (first, second) = (first.clone(), second.clone());
                return Err(Pkcs11Error::SeveralModules { name: name.to_owned(), first, second });
            }
        }
    }
    Err(Pkcs11Error::NoModule { name: name.to_owned(), searched: folders })
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Whole,
    Part,
}

/// Whether a shared library has this name: `x` is `x.so` and `libx.so.2` (RFC 7512, section 2.4), and, as in the Python
/// implementation, any file whose name holds it before a dot or the end. Case does not count.
fn fit(path: &Path, name: &str) -> Option<Fit> {
    let file = path.file_name()?.to_str()?.to_ascii_lowercase();
    let name = name.to_ascii_lowercase();
    let (stem, _) = file.rsplit_once(".so").filter(|(_, after)| after.is_empty() || after.starts_with('.'))?;
    if [stem, &file].contains(&name.as_str()) || stem.strip_prefix("lib").is_some_and(|stem| stem == name) {
        return Some(Fit::Whole);
    }
    let ends = |at: usize| matches!(file.as_bytes().get(at + name.len()), None | Some(b'.'));
    file.match_indices(&name).any(|(at, _)| ends(at)).then_some(Fit::Part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_modules_are_those_of_their_files_without_lib_and_so() {
        for (file, name, wanted) in [
            ("libsofthsm2.so", "softhsm2", Some(Fit::Whole)),
            ("libsofthsm2.so", "SoftHSM2", Some(Fit::Whole)),
            ("libsofthsm2.so", "libsofthsm2", Some(Fit::Whole)),
            ("libsofthsm2.so", "libsofthsm2.so", Some(Fit::Whole)),
            ("opensc-pkcs11.so", "opensc-pkcs11", Some(Fit::Whole)),
            ("libykcs11.so.2.5.1", "ykcs11", Some(Fit::Whole)),
            ("onepin-opensc-pkcs11.so", "opensc-pkcs11", Some(Fit::Part)),
            ("onepin-opensc-pkcs11.so", "pkcs11", Some(Fit::Part)),
            ("libsofthsm2.so", "softhsm", None),
            ("softhsm2.module", "softhsm2", None),
            ("softhsm2.source", "softhsm2", None),
        ] {
            assert!(fit(Path::new(file), name) == wanted, "{file} {name}");
        }
    }

    fn found(uri: &str, places: &[PathBuf]) -> Result<PathBuf, String> {
        module(&uri.parse().unwrap(), places).map_err(|error| error.to_string())
    }

    #[test]
    fn a_module_is_found_or_it_is_said_why_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["libone.so", "two.so.1", "a-two.so", "b-two.so", "list.module", "sub/libone.so"] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), "").unwrap();
        }
        std::os::unix::fs::symlink("two.so.1", at("two.so")).unwrap();
        let here = folder.path().to_str().unwrap();

        assert_eq!(found(&format!("pkcs11:?module-path={here}/libone.so"), &[]), Ok(at("libone.so")));
        assert_eq!(found(&format!("pkcs11:?module-path={here}&module-name=one"), &[]), Ok(at("libone.so")));
        assert_eq!(found(&format!("pkcs11:?module-path={here}&module-name=two"), &[]), Ok(at("two.so")));
        let sub = at("sub");
        assert_eq!(found("pkcs11:?module-name=one", &[sub.clone(), at("")]), Ok(at("sub/libone.so")), "in order");
        let elsewhere = format!("pkcs11:?module-path={here}/two.so&module-name=one");
        assert_eq!(found(&elsewhere, &[sub]), Ok(at("sub/libone.so")), "the option stands in place of the path");

        for (uri, places, words) in [
            ("pkcs11:".to_owned(), vec![], "nothing says which PKCS#11 module"),
            ("pkcs11:?module-name=none-such".to_owned(), vec![], "/usr/lib/softhsm"),
            ("pkcs11:?module-name=three".to_owned(), vec![at("")], "no PKCS#11 module \"three\""),
            ("pkcs11:?module-name=list".to_owned(), vec![at("")], "no PKCS#11 module \"list\""),
            ("pkcs11:?module-name=wo".to_owned(), vec![at("")], "fits two modules"),
            ("pkcs11:".to_owned(), vec![at("")], "it is a folder"),
            ("pkcs11:".to_owned(), vec![at("libone.so"), at("two.so")], "several PKCS#11 modules"),
            (format!("pkcs11:?module-path={here}/gone.so"), vec![], "No such file"),
            (format!("pkcs11:?module-path={here}/libone.so&module-name=two"), vec![], "not of the module-name \"two\""),
            ("pkcs11:".to_owned(), vec![PathBuf::from("/dev/null")], "neither a file nor a folder"),
        ] {
            let error = found(&uri, &places).unwrap_err();
            assert!(error.contains(words), "{uri}: {error}");
        }
    }
}
