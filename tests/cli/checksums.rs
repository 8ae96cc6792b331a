//! What `digest --files` prints is read by the tools that people have.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::room::{Ran, Room, program};

const NAMES: [&str; 9] = [
    "plain",
    "two words",
    " leading and trailing ",
    "back\\slash",
    "back\\nslash",
    "new\nline",
    "carriage\rreturn",
    "ends in return\r",
    "ünï-模型-e\u{301}",
];

fn check(hash: &str, tool: &Path) {
    let room = Room::new();
    for name in NAMES {
        room.write(&format!("model/odd/{name}"), name);
    }
    room.write("model/nothing", "");
    for model in ["model", "model/", "./model/odd", "model/config.json"] {
        let lines = room.run(&format!("digest {model} --files --hash {hash}")).ended(0).stdout;
        let checked = |lines: &str| {
            let mut child = room.command_of(tool);
            child.arg("--check").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = child.spawn().unwrap();
            child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
            Ran::of(child.wait_with_output().unwrap())
        };
        let found = checked(&lines).ended(0).stdout;
        assert_eq!(found.lines().filter(|line| line.ends_with(": OK")).count(), lines.lines().count(), "{found}");
        let other = if lines.contains('0') { lines.replace('0', "1") } else { lines.replace('1', "0") };
        assert_ne!(checked(&other).code, 0, "{} looks at the digests", tool.display());
    }
}

/// Where everything that tests compare with is said to be there, as `./test` says it, a skip is a failure.
fn skipped(what: &str) {
    assert!(
        std::env::var_os("TENSORSEAL_REQUIRE_PEERS").is_none_or(|value| value != "1"),
        "{what}, and it is required"
    );
    eprintln!("skipped: {what}");
}

#[test]
fn a_path_that_no_line_can_hold_is_no_answer() {
    use std::os::unix::ffi::OsStrExt;
    let room = Room::new();
    let parent = room.path("x").with_file_name(std::ffi::OsStr::from_bytes(b"odd\xff"));
    std::fs::create_dir(&parent).unwrap();
    std::fs::rename(room.path("model"), parent.join("model")).unwrap();
    let run = |flags: &[&str]| {
        let mut command = room.command_of(crate::room::BIN);
        Ran::of(command.arg("digest").arg(parent.join("model")).args(flags).output().unwrap())
    };
    run(&[]).ended(0);
    let ran = run(&["--files"]).ended(3);
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("is not UTF-8"), "{}", ran.stderr);
}

fn check_with(hash: &str, name: &str) {
    match program(name) {
        Some(tool) => check(hash, &tool),
        None => skipped(&format!("there is no {name} here")),
    }
}

#[test]
fn sha256sum() {
    check_with("sha256", "sha256sum");
}

#[test]
fn b2sum() {
    check_with("blake2b", "b2sum");
}

#[test]
fn b3sum() {
    let named = std::env::var_os("TENSORSEAL_B3SUM").map(PathBuf::from);
    let cache = std::env::var_os("TENSORSEAL_CACHE").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/tensorseal"));
    let cached = cache.or(home).map(|cache| cache.join("bin/b3sum")).filter(|path| path.is_file());
    match named.or(cached).or_else(|| program("b3sum")) {
        Some(tool) => check("blake3", &tool),
        None => skipped("there is no b3sum here"),
    }
}
