//! Pipes that close, disks that are full, colours, shells, the manual.

use std::fs::File;
use std::io::Write;
use std::process::Stdio;

use crate::room::{BIN, Ran, Room, program};

const ALL: [&str; 8] = [
    "sign key model --private-key key.pem",
    "verify key model --public-key key.pub --signature model.sig",
    "digest model --files",
    "inspect model.sig --json",
    "devices",
    "man",
    "completions bash",
    "--help",
];

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let room = Room::signed();
    for line in ALL {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = room.command();
        command.args(line.split(' ')).args(if line.contains("key ") { &["--log-level", "WARNING"][..] } else { &[] });
        let ran = Ran::of(command.stdout(writer).output().unwrap()).ended(0);
        assert_eq!(ran.stderr, "", "{line}");
    }
    // The same where nobody reads the story.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = room.command();
    let ran = Ran::of(command.args(ALL[1].split(' ')).stderr(writer).output().unwrap()).ended(0);
    assert_eq!(ran.stdout, "Verification succeeded\n");
}

#[test]
fn a_result_that_cannot_be_written_is_no_answer() {
    let room = Room::signed();
    if !std::path::Path::new("/dev/full").exists() {
        eprintln!("skipped: there is no /dev/full here");
        return;
    }
    for line in ALL {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ran = Ran::of(room.command().args(line.split(' ')).stdout(full).output().unwrap()).ended(3);
        assert!(ran.stderr.contains("cannot write to standard output: No space left"), "{line}: {}", ran.stderr);
    }
}

#[test]
fn colours_only_where_they_are_wanted() {
    let room = Room::signed();
    let verify = |env: &[(&str, &str)]| {
        let mut command = room.command();
        command.args(["verify", "key", "model", "--public-key", "none.pub", "--signature", "model.sig"]);
        Ran::of(command.envs(env.iter().copied()).output().unwrap()).stderr
    };
    assert!(!verify(&[]).contains('\u{1b}'), "not into a pipe");
    assert!(verify(&[("CLICOLOR_FORCE", "1")]).contains("\u{1b}[1m"), "unless forced");
    assert!(!verify(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).contains('\u{1b}'), "NO_COLOR has the last word");
}

/// `script` gives the program a terminal to write to.
#[test]
fn colours_on_a_terminal() {
    let room = Room::signed();
    if program("script").is_none() {
        eprintln!("skipped: there is no script(1) here to make a terminal");
        return;
    }
    let on_terminal = |env: &str| {
        let line = format!("{env} TERM=xterm {BIN} verify key model --public-key key.pub --signature model.sig");
        Ran::of(room.command_of("script").args(["-qec", &line, "/dev/null"]).output().unwrap()).ended(0).stdout
    };
    assert!(on_terminal("").contains("\u{1b}[32mVerification succeeded"), "{}", on_terminal(""));
    assert!(!on_terminal("NO_COLOR=1").contains('\u{1b}'));
}

/// A sparse file of 1 GiB: long enough for a bar, which a terminal sees and a file never does.
#[test]
fn progress_is_for_terminals() {
    let room = Room::new();
    File::create(room.path("big")).unwrap().set_len(1 << 30).unwrap();
    let line = "digest big --hash blake3 --threads 1";
    let ran = room.run(line).ended(0);
    assert_eq!((ran.stdout.lines().count(), &*ran.stderr), (1, ""));
    if program("script").is_none() {
        eprintln!("skipped: there is no script(1) here to make a terminal");
        return;
    }
    let on_terminal = |line: &str| {
        let line = format!("TERM=xterm {BIN} {line}");
        Ran::of(room.command_of("script").args(["-qec", &line, "/dev/null"]).output().unwrap()).ended(0).stdout
    };
    let seen = on_terminal(line);
    assert!(seen.contains(" of 1.07 GB  ") && seen.contains("B/s  ") && seen.contains(" left"), "{seen:?}");
    let (bar, rest) = seen.rsplit_once(" left").unwrap();
    assert!(!bar.contains("sha256:") && rest.contains("\u{1b}[2K"), "it is gone before the result comes: {seen:?}");
    assert!(rest.trim_end().ends_with(ran.stdout.trim_end()), "{seen:?}");
    assert!(!on_terminal(&format!("{line} --json")).contains(" left"), "machines have no use for it");
}

#[test]
fn shells_understand_the_completions() {
    let room = Room::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = room.run(&format!("completions {shell}")).ended(0).stdout;
        assert!(script.contains("public-key") && script.contains("keygen"), "{shell}");
        assert!(script.contains("pkcs11-uri"), "{shell}");
        if let (Some(shell), true) = (program(shell), ["bash", "zsh", "fish"].contains(&shell)) {
            room.write("script", &script);
            let ran = Ran::of(room.command_of(shell).args(["-n", "script"]).output().unwrap()).ended(0);
            assert_eq!(ran.stderr, "");
        }
    }
}

#[test]
fn the_manual_is_one_page_with_a_part_for_each_command() {
    let room = Room::new();
    let page = room.run("man").ended(0).stdout;
    for command in [
        "sign key",
        "sign pkcs11-key",
        "sign pkcs11-certificate",
        "verify key",
        "digest",
        "inspect",
        "keygen",
        "devices",
        "completions",
        "man",
    ] {
        assert_eq!(page.matches(&format!("\n.SS tensorseal {command}\n")).count(), 1, "{command}");
    }
    for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "\"EXIT STATUS\"", "EXAMPLE"] {
        let found = page
            .lines()
            .filter(|line| line.strip_prefix(".SH ").is_some_and(|h| h.trim_matches('"') == heading.trim_matches('"')));
        assert_eq!(found.count(), 1, "{heading}");
    }
    assert!(!page.contains('\u{1b}'));
    let Some(groff) = program("groff") else {
        eprintln!("skipped: there is no groff here to read the page");
        return;
    };
    let mut child = room.command_of(groff);
    child.args(["-man", "-ww", "-Tutf8", "-z"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap()).ended(0);
    assert_eq!(ran.stderr, "", "groff has nothing to remark");
}

#[test]
fn arguments_need_not_be_utf_8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let room = Room::signed();
    let odd = OsStr::from_bytes(b"fold\xff");
    std::fs::create_dir(room.path("").join(odd)).unwrap();
    let model = std::path::Path::new(odd).join("model");
    std::fs::rename(room.path("model"), room.path("").join(&model)).unwrap();
    let mut command = room.command();
    command.args(["verify", "key"]).arg(&model).args(["--public-key", "key.pub", "--signature", "model.sig"]);
    Ran::of(command.output().unwrap()).ended(0);
    let ran = Ran::of(room.command().arg("digest").arg(OsStr::from_bytes(b"\xfe")).output().unwrap()).ended(3);
    assert!(ran.stderr.contains("\"\\xFE\""), "{}", ran.stderr);
    let ran = Ran::of(room.command().arg("digest").arg("model").arg(odd).output().unwrap()).ended(2);
    assert!(ran.stderr.contains("unexpected argument"), "{}", ran.stderr);
}
