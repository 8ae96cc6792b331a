//! What docs/architecture.md says about files, and the invariants that a search through the sources can see.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../docs/architecture.md");
const LIB: &str = include_str!("../src/lib.rs");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where code is that users run: the library with the program, and the bindings.
const CRATES: [&str; 3] = ["src", "python/src", "capi/src"];

/// Every file with that extension under these folders, by its path from the root, with its text.
fn files_under(folders: &[&str], extension: &str) -> Vec<(String, String)> {
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files
}

/// Every Rust file of `CRATES`.
fn sources() -> Vec<(String, String)> {
    let files = files_under(&CRATES, "rs");
    for folder in CRATES {
        assert!(files.iter().any(|(name, _)| name.starts_with(folder)), "the sources under {folder} were not found");
    }
    files
}

/// The files whose code, comments aside, holds `word` with no letter, digit or `_` beside it.
fn files_with(word: &str) -> BTreeSet<String> {
    let part_of_a_name = |c: char| c.is_alphanumeric() || c == '_';
    let stands_in = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        code.match_indices(word).any(|(at, _)| {
            let (before, after) = (&code[..at], &code[at + word.len()..]);
            !before.ends_with(part_of_a_name) && !after.starts_with(part_of_a_name)
        })
    };
    sources().into_iter().filter(|(_, text)| text.lines().any(stands_in)).map(|(name, _)| name).collect()
}

/// The files in the list below the heading about `unsafe`.
fn listed_as_unsafe() -> BTreeSet<String> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with("Files that may hold `unsafe`")).unwrap();
    let files = section.lines().filter_map(|line| line.strip_prefix("- `")?.split('`').next());
    files.map(str::to_owned).collect()
}

#[test]
fn unsafe_stands_only_in_the_files_that_the_page_lists() {
    let listed = listed_as_unsafe();
    assert!(!listed.is_empty());
    assert_eq!(files_with("unsafe"), listed, "files with unsafe code, and those that docs/architecture.md lists");
    assert_eq!(
        files_with("unsafe_code"),
        listed,
        "files that lift the lint, and those that docs/architecture.md lists"
    );
    for crate_of in CRATES {
        let manifest = root().join(crate_of).with_file_name("Cargo.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        assert!(text.contains("\nunsafe_code = \"deny\"\n"), "the lint itself, in {}", manifest.display());
    }
}

#[test]
fn no_source_file_passes_500_lines() {
    for (name, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 500, "{name} has {lines} lines: it wants to be two files");
    }
}

#[test]
fn no_python_module_passes_400_lines() {
    let files = files_under(&["python/tensorseal"], "py");
    assert!(!files.is_empty());
    for (name, text) in files {
        let lines = text.lines().count();
        assert!(lines <= 400, "{name} has {lines} lines: it wants to be two modules");
    }
}

#[test]
fn every_file_that_the_page_names_exists() {
    const FOLDERS: [&str; 4] = ["src/", "tests/", "python/", "capi/"];
    // Between backticks: the odd pieces.
    let named = PAGE.split('`').skip(1).step_by(2).filter(|text| FOLDERS.iter().any(|folder| text.starts_with(folder)));
    for name in named {
        assert!(root().join(name).exists(), "docs/architecture.md names {name}, which does not exist");
    }
}

#[test]
fn the_page_lists_the_modules_of_the_crate_in_their_order() {
    let declared: Vec<String> = LIB
        .lines()
        .filter_map(|line| line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect();
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `src/")?.split('`').next());
    let listed: Vec<String> = rows
        // Modules of a module have rows, too.
        .filter(|file| *file == "device/mod.rs" || !file.starts_with("device/"))
        .map(|file| file.trim_end_matches("/mod.rs").trim_end_matches(".rs").to_owned())
        .collect();
    assert_eq!(listed, declared, "the table of docs/architecture.md, and the `mod` lines of src/lib.rs");
}

#[test]
fn verifying_brings_no_http_stack() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = |features: &str| {
        let args = ["tree", "--offline", "--locked", "-e", "normal", "--prefix", "none", "--no-default-features"];
        let run =
            std::process::Command::new(&cargo).current_dir(root()).args(args).args(["--features", features]).output();
        let run = run.unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let names = String::from_utf8(run.stdout).unwrap();
        names.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    const NETWORK: [&str; 8] = ["reqwest", "hyper", "tokio", "rustls", "ureq", "h2", "native-tls", "openssl"];
    let default = tree("cli,cuda,pkcs11,sigstore-verify");
    assert!(default.contains("sigstore-verify") && default.contains("cryptoki"));
    let with_network = tree("cli,sigstore-sign");
    assert!(with_network.contains("reqwest"), "the test can see one");
    let found: Vec<_> = NETWORK.into_iter().filter(|name| default.contains(*name)).collect();
    assert_eq!(found, [""; 0], "what the default features bring in");
}

#[test]
fn what_may_stand_in_one_place_stands_in_one_place() {
    for (code, file) in [
        ("merge_subtrees_root", "src/tree.rs"),       // the root of a BLAKE3 tree
        ("IncrementCounter", "src/tree/together.rs"), // compressions whose flags are ours, that of a root among them
        ("statement::parse", "src/verify/mod.rs"),    // parsing what was signed
        ("Verified {", "src/verify/mod.rs"),          // making a `Verified`
        ("fs::rename", "src/output.rs"),              // putting a file in its place
    ] {
        let found = files_with(code);
        let found: Vec<&String> = found.iter().filter(|name| !name.contains("/tests")).collect();
        assert_eq!(found, [file], "{code}");
    }
}
