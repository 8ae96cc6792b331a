//! Every way to change a signed model: each is refused, and the report names what was changed and how.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use common::{Random, copy, flip, program, seal, workplace, write};
use serde_json::{Value, json};

const MIB: usize = 1 << 20;
const SMALL: usize = 10;
const MIDDLE: usize = 600 << 10; // more than one block of the reader
const LARGE: usize = 4 * MIB + 70_001; // more than one shard, and more than one piece of work
const SHARD: usize = MIB;

/// How to sign, and how to verify what was signed so.
const WAYS: [(&str, &str); 10] = [
    ("", ""),
    ("", "--digest blake3"),
    ("", "--all-digests"),
    ("--no-annotations", ""),
    ("--hash blake3", ""),
    ("--hash blake2b", "--all-digests"),
    ("--shards 1MiB", ""),
    ("--shards 1MiB", "--digest blake3"),
    ("--shards 1MiB --hash blake2b --shards-compat", "--all-digests"),
    ("--shards 1MiB --hash blake3", ""),
];

fn model(root: &Path) {
    let mut random = Random(5);
    write(root.join("small"), random.bytes(SMALL));
    write(root.join("middle"), random.bytes(MIDDLE));
    write(root.join("dir/large"), random.bytes(LARGE));
    write(root.join("dir/one"), "1111");
    write(root.join("dir/two"), "2222");
    write(root.join("config.json"), "{}");
    write(root.join("dir/copy"), "1111");
}

/// What the report must say of a change: these names and kinds, or these words instead of differences.
enum Said {
    /// One byte changed at this place of this file.
    Byte(&'static str, usize),
    Names(&'static [(&'static str, &'static str)]),
    Words(&'static str),
}
use Said::{Byte, Names, Words};

type Change = (&'static str, fn(&Path), Said);

fn resize(path: impl AsRef<Path>, by: i64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let len = i64::try_from(file.metadata().unwrap().len()).unwrap();
    file.set_len(u64::try_from(len + by).unwrap()).unwrap();
}

fn rename(m: &Path, from: &str, to: &str) {
    fs::rename(m.join(from), m.join(to)).unwrap();
}

fn changes() -> Vec<Change> {
    const END: usize = LARGE - 1;
    vec![
        ("first byte, small", |m| flip(m.join("small"), 0), Byte("small", 0)),
        ("middle byte, small", |m| flip(m.join("small"), 5), Byte("small", 5)),
        ("last byte, small", |m| flip(m.join("small"), SMALL - 1), Byte("small", SMALL - 1)),
        ("first byte, middle", |m| flip(m.join("middle"), 0), Byte("middle", 0)),
        ("middle byte, middle", |m| flip(m.join("middle"), MIDDLE / 2), Byte("middle", MIDDLE / 2)),
        ("last byte, middle", |m| flip(m.join("middle"), MIDDLE - 1), Byte("middle", MIDDLE - 1)),
        ("first byte, large", |m| flip(m.join("dir/large"), 0), Byte("dir/large", 0)),
        ("end of a shard", |m| flip(m.join("dir/large"), MIB - 1), Byte("dir/large", MIB - 1)),
        ("begin of a shard", |m| flip(m.join("dir/large"), MIB), Byte("dir/large", MIB)),
        ("middle byte, large", |m| flip(m.join("dir/large"), LARGE / 2), Byte("dir/large", LARGE / 2)),
        ("last byte, large", |m| flip(m.join("dir/large"), END), Byte("dir/large", END)),
        ("truncated by one", |m| resize(m.join("dir/large"), -1), Names(&[("dir/large", "changed")])),
        ("truncated by a shard", |m| resize(m.join("dir/large"), -70_001), Names(&[("dir/large", "changed")])),
        ("truncated to nothing", |m| write(m.join("small"), ""), Names(&[("small", "changed")])),
        ("grown by a zero", |m| resize(m.join("dir/large"), 1), Names(&[("dir/large", "changed")])),
        ("small grown", |m| resize(m.join("small"), 1), Names(&[("small", "changed")])),
        ("extra file", |m| write(m.join("dir/new/x.py"), "import os"), Names(&[("dir/new/x.py", "unsigned")])),
        ("extra hidden file", |m| write(m.join(".x"), "x"), Names(&[(".x", "unsigned")])),
        ("git below the root", |m| write(m.join("dir/.git/HEAD"), "x"), Names(&[("dir/.git/HEAD", "unsigned")])),
        ("missing file", |m| fs::remove_file(m.join("middle")).unwrap(), Names(&[("middle", "missing")])),
        ("renamed", |m| rename(m, "small", "tiny"), Names(&[("small", "missing"), ("tiny", "unsigned")])),
        ("moved", |m| rename(m, "small", "dir/small"), Names(&[("dir/small", "unsigned"), ("small", "missing")])),
        ("case of a name", |m| rename(m, "config.json", "Config.json"), {
            Names(&[("Config.json", "unsigned"), ("config.json", "missing")])
        }),
        (
            "swapped",
            |m| {
                rename(m, "dir/one", "t");
                rename(m, "dir/two", "dir/one");
                rename(m, "t", "dir/two");
            },
            { Names(&[("dir/one", "changed"), ("dir/two", "changed")]) },
        ),
        (
            "file into folder",
            |m| {
                fs::remove_file(m.join("small")).unwrap();
                write(m.join("small/small"), "x");
            },
            { Names(&[("small", "missing"), ("small/small", "unsigned")]) },
        ),
        (
            "a link to the same content inside",
            |m| {
                fs::remove_file(m.join("dir/copy")).unwrap();
                symlink("one", m.join("dir/copy")).unwrap();
            },
            Words("dir/copy\" is a symbolic link"),
        ),
        (
            "a link to the same content outside",
            |m| {
                fs::rename(m.join("small"), m.with_extension("small")).unwrap();
                symlink(m.with_extension("small"), m.join("small")).unwrap();
            },
            Words("small\" is a symbolic link"),
        ),
        (
            "a folder into a link",
            |m| {
                fs::rename(m.join("dir"), m.with_extension("dir")).unwrap();
                symlink(m.with_extension("dir"), m.join("dir")).unwrap();
            },
            Words("dir\" is a symbolic link"),
        ),
        ("a dangling link", |m| symlink("nowhere", m.join("l")).unwrap(), Words("l\" is a symbolic link")),
        (
            "a pipe",
            |m| {
                program(m, "mkfifo", &["pipe"]);
            },
            Words("pipe\" is a named pipe"),
        ),
        ("a socket", |m| drop(UnixListener::bind(m.join("sock")).unwrap()), Words("sock\" is a socket")),
        ("a name of other bytes", |m| write(m.join(OsStr::from_bytes(b"w\xff")), "x"), Words("not UTF-8")),
    ]
}

/// `path:start:end` without the range.
fn file_of(name: &str) -> &str {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mut parts = name.rsplitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(end), Some(start), Some(path)) if number(end) && number(start) => path,
        _ => name,
    }
}

fn names(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = report["differences"].as_array().unwrap_or_else(|| panic!("no differences: {report:#}"));
    all.iter().map(|one| (text(&one["name"]), text(&one["kind"]))).collect()
}

fn check(report: &Value, said: &Said, shards: bool, about: &str) {
    assert_eq!((&report["verdict"], &report["exit_code"]), (&json!("no"), &json!(1)), "{about}: {report:#}");
    match said {
        Words(words) => {
            assert_eq!(report["error"]["kind"], "model", "{about}: {report:#}");
            assert!(report["error"]["message"].as_str().unwrap().contains(words), "{about}: {report:#}");
        }
        Byte(file, at) => {
            let len = match *file {
                "small" => SMALL,
                "middle" => MIDDLE,
                _ => LARGE,
            };
            let (start, end) = (at / SHARD * SHARD, (at / SHARD * SHARD + SHARD).min(len));
            let name = if shards { format!("{file}:{start}:{end}") } else { (*file).to_owned() };
            assert_eq!(names(report), [(name, "changed".to_owned())], "{about}");
            let one = &report["differences"][0];
            assert_ne!(one["expected"], one["found"], "{about}");
            assert_eq!(one["found_size"], if shards { end - start } else { len }, "{about}");
        }
        Names(expected) if shards => {
            // A shard that is gone is named itself; a file of another length as a whole, once.
            let found = names(report);
            let found: BTreeSet<&str> = found.iter().map(|(name, _)| file_of(name)).collect();
            assert_eq!(found, expected.iter().map(|(name, _)| *name).collect(), "{about}: {report:#}");
        }
        Names(expected) => {
            let found = names(report);
            // Where the statement tells the length, a file of another one is not even read.
            let resized = report["differences"].as_array().unwrap().iter().filter(|one| one["kind"] == "resized");
            resized.for_each(|one| assert_ne!(one["expected_size"], one["found_size"], "{about}"));
            let plain = |kind: &str| if kind == "resized" { "changed".to_owned() } else { kind.to_owned() };
            let found: Vec<_> = found.into_iter().map(|(name, kind)| (name, plain(&kind))).collect();
            let found: Vec<(&str, &str)> = found.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
            assert_eq!(found, *expected, "{about}");
        }
    }
}

#[test]
fn every_change_of_the_model_is_refused_and_named() {
    let folder = workplace();
    let folder = folder.path();
    model(&folder.join("original"));
    let changes = changes();
    for (i, (sign, verify)) in WAYS.iter().enumerate() {
        let signed = format!("sign key original --private-key key.pem --signature {i}.sig {sign}");
        seal(folder, &signed).expect(0, "Signing succeeded", sign);
        let command = |model: &str| {
            seal(folder, &format!("verify key {model} --signature {i}.sig --public-key key.pub --json {verify}"))
        };
        command("original").expect(0, "\"verdict\": \"yes\"", verify);
    }
    for (name, change, said) in &changes {
        let place = tempfile::tempdir_in(folder).unwrap();
        let path = place.path().join("m");
        copy(&folder.join("original"), &path);
        change(&path);
        for (i, (sign, verify)) in WAYS.iter().enumerate() {
            let model = path.display();
            let run =
                seal(folder, &format!("verify key {model} --signature {i}.sig --public-key key.pub --json {verify}"));
            let about = format!("{name} [{sign}] [{verify}]");
            assert_eq!(run.code, Some(1), "{about}: {run:#?}");
            check(&run.json(), said, sign.contains("--shards"), &about);
        }
    }
}

#[test]
fn what_the_signature_does_not_cover_is_listed_and_strict_refuses_it() {
    let folder = workplace();
    let folder = folder.path();
    write(folder.join("m/weights"), "w");
    write(folder.join("m/.git/hooks/x"), "sh");
    write(folder.join("m/cache/x.py"), "import os");
    let sign = "sign key m --private-key key.pem --signature m/model.sig --ignore-paths m/cache";
    seal(folder, sign).expect(0, "Signing succeeded", sign);
    let verify = |flags: &str| {
        seal(folder, &format!("verify key m --signature m/model.sig --public-key key.pub --json {flags}"))
    };
    let list = |flags: &str, what: &str| -> Vec<String> {
        let report = verify(flags).json();
        report[what].as_array().unwrap().iter().map(|v| v["name"].as_str().or(v.as_str()).unwrap().to_owned()).collect()
    };
    verify("").expect(0, "\"verdict\": \"yes\"", "as signed");
    assert_eq!(list("", "ignored"), [".git/hooks/x", "cache/x.py"], "all but the signature itself");
    verify("--strict").expect(1, "2 of the model's files lie outside the signature", "strict");
    verify("--strict --allow-ignored m/.git").expect(1, "\\\"cache/x.py\\\" among them", "one of two");
    verify("--strict --allow-ignored m/.git --allow-ignored m/cache").expect(0, "yes", "both");
    verify("--strict --allow-ignored m/.git --allow-ignored m/cach").expect(1, "cache/x.py", "a name is not a prefix");
    // Only the bundle that is verified may lie there.
    fs::copy(folder.join("m/model.sig"), folder.join("m/other.sig")).unwrap();
    verify("").expect(1, "\"unsigned\"", "a second signature");
    assert_eq!(names(&verify("").json()), [("other.sig".to_owned(), "unsigned".to_owned())]);
    fs::remove_file(folder.join("m/other.sig")).unwrap();
    // A caller can ignore more, but nothing that is signed.
    write(folder.join("m/extra"), "x");
    verify("--ignore-paths m/extra").expect(0, "yes", "an extra file");
    verify("--ignore-paths m/extra --ignore-paths m/weights").expect(1, "\"missing\"", "a signed file");
    verify("--ignore-paths m").expect(2, "is the model itself", "the model");
    fs::remove_file(folder.join("m/extra")).unwrap();
    // Empty files have no shards.
    write(folder.join("m/empty"), "");
    seal(folder, &format!("{sign} --shards 4")).expect(0, "not covered empty", "shards");
    let allowed = "--strict --allow-ignored m/.git --allow-ignored m/cache";
    verify("").expect(0, "yes", "shards");
    assert_eq!(list("", "not_covered"), ["empty"]);
    verify(allowed).expect(1, "1 of the model's files lie outside the signature, \\\"empty\\\"", "shards, strict");
    verify(&format!("{allowed} --allow-ignored m/empty")).expect(0, "yes", "shards, strict, allowed");
}

#[test]
fn unsigned_files_are_tolerated_only_where_asked_for() {
    let folder = workplace();
    let folder = folder.path();
    write(folder.join("m/a"), "aaaa");
    write(folder.join("m/d/b"), "bbbb");
    seal(folder, "sign key m --private-key key.pem --signature s.sig").expect(0, "", "sign");
    let verify =
        |flags: &str| seal(folder, &format!("verify key m --signature s.sig --public-key key.pub --json {flags}"));
    let tolerant = "--ignore-unsigned-files";
    write(folder.join("m/d/extra"), "x");
    verify("").expect(1, "\"unsigned\"", "extra");
    verify(tolerant).expect(0, "yes", "extra");
    assert_eq!(verify(tolerant).json()["unsigned"], json!(["d/extra"]));
    verify(&format!("{tolerant} --no-ignore-unsigned-files")).expect(1, "differs", "the last flag wins");
    verify(&format!("{tolerant} --strict")).expect(2, "cannot be used with", "a contradiction");
    symlink("nowhere", folder.join("m/link")).unwrap();
    drop(UnixListener::bind(folder.join("m/sock")).unwrap());
    verify("").expect(1, "", "a link and a socket");
    verify(tolerant).expect(0, "yes", "a link and a socket");
    // The signed files themselves are as strictly checked as ever.
    flip(folder.join("m/d/b"), 0);
    verify(tolerant).expect(1, "\"changed\"", "changed");
    fs::remove_file(folder.join("m/d/b")).unwrap();
    verify(tolerant).expect(1, "\"missing\"", "missing");
    symlink("../a", folder.join("m/d/b")).unwrap();
    verify(tolerant).expect(1, "is a symbolic link", "a link");
    fs::remove_file(folder.join("m/d/b")).unwrap();
    program(folder, "mkfifo", &["m/d/b"]);
    verify(tolerant).expect(1, "named pipe", "a pipe");
    fs::remove_dir_all(folder.join("m/d")).unwrap();
    fs::create_dir(folder.join("other")).unwrap();
    write(folder.join("other/b"), "bbbb");
    symlink("../other", folder.join("m/d")).unwrap();
    verify(tolerant).expect(1, "symbolic link", "behind a link to a folder");
}

#[test]
fn a_hugging_face_cache_signs_and_verifies_with_one_flag() {
    let folder = workplace();
    let folder = folder.path();
    let hub = folder.join("hub/models--org--name");
    let snapshot = "hub/models--org--name/snapshots/0123abcd";
    for (name, blob) in [("config.json", "aa11"), ("sub/model.safetensors", "bb22")] {
        write(hub.join("blobs").join(blob), blob);
        let link = folder.join(snapshot).join(name);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let up = "../".repeat(2 + name.matches('/').count());
        symlink(format!("{up}blobs/{blob}"), link).unwrap();
    }
    let sign = format!("sign key {snapshot} --private-key key.pem --signature hf.sig");
    let verify = format!("verify key {snapshot} --signature hf.sig --public-key key.pub");
    seal(folder, &sign).expect(3, "is a symbolic link", "no flag");
    seal(folder, &format!("{sign} --allow-symlinks")).expect(3, "--allow-external-symlinks", "not enough");
    seal(folder, &format!("{sign} --allow-external-symlinks")).expect(0, "Signing succeeded", "the flag");
    seal(folder, &format!("{verify} --allow-external-symlinks")).expect(0, "lead out of the model", "the flag");
    // The signer allowed links, but only the verifier can let them leave the model.
    seal(folder, &verify).expect(1, "leaves the model", "no flag");
    flip(hub.join("blobs/bb22"), 0);
    seal(folder, &format!("{verify} --allow-external-symlinks")).expect(1, "changed     sub/model", "a blob changed");
}

#[test]
fn a_report_says_which_digests_were_checked_and_which_not() {
    let folder = workplace();
    let folder = folder.path();
    write(folder.join("m/a"), "aaaa");
    for (sign, verify, checked, not) in [
        ("", "", json!(["sha256"]), json!(["blake3"])),
        ("", "--digest blake3", json!(["blake3"]), json!(["sha256"])),
        ("", "--all-digests", json!(["sha256", "blake3"]), json!([])),
        ("--hash blake2b", "--all-digests", json!(["blake2b", "blake3"]), json!([])),
        ("--hash blake3", "--digest blake3", json!(["blake3"]), json!([])),
        ("--no-annotations", "--all-digests", json!(["sha256"]), json!([])),
    ] {
        seal(folder, &format!("sign key m --private-key key.pem --signature s.sig {sign}")).expect(0, "", sign);
        let run = seal(folder, &format!("verify key m --signature s.sig --public-key key.pub --json {verify}"));
        run.expect(0, "yes", verify);
        let report = run.json();
        let found: Value = report["checked"].as_array().unwrap().iter().map(|one| one["algorithm"].clone()).collect();
        assert_eq!((found, report["not_checked"].clone()), (checked, not), "{sign} {verify}");
    }
    let run = seal(folder, "verify key m --signature s.sig --public-key key.pub --digest blake3");
    run.expect(1, "\"a\" has no signed blake3 digest", "a digest that the signer did not write");
}

/// Under shards of 4 bytes `a:0:4` is the name of a's first shard, and may be that of a file as well.
#[test]
fn an_unsigned_file_cannot_hide_a_changed_shard_behind_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write(folder.join("m/a"), "AAAA");
    seal(folder, "keygen --out key.pem").expect(0, "", "keygen");
    seal(folder, "sign key m --private-key key.pem --signature s.sig --shards 4").expect(0, "succeeded", "sign");
    write(folder.join("m/a"), "AAAB");
    write(folder.join("m/a:0:4"), "x");
    let run = seal(folder, "verify key m --public-key key.pub --signature s.sig --json");
    run.expect(1, "1 changed, 1 not signed", "both are told");
    let kinds: Vec<(String, String)> = names(&serde_json::from_str(&run.stdout).unwrap());
    assert_eq!(kinds, [("a:0:4".into(), "changed".into()), ("a:0:4".into(), "unsigned".into())]);
}

#[test]
fn a_report_counts_only_what_was_read() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write(folder.join("m/large"), vec![7; 1_000_000]);
    write(folder.join("m/small"), "ab");
    seal(folder, "keygen --out key.pem").expect(0, "", "keygen");
    seal(folder, "sign key m --private-key key.pem --signature s.sig").expect(0, "succeeded", "sign");
    resize(folder.join("m/large"), -1);
    let run = seal(folder, "verify key m --public-key key.pub --signature s.sig --json");
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&report["files"], &report["bytes"], &report["resources"]), (&json!(1), &json!(2), &json!(2)));
    assert_eq!(names(&report), [("large".into(), "resized".into())]);
}
