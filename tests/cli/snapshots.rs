//! What each command says, whole.

use std::fs;
use std::os::unix::fs::symlink;

use crate::room::{Room, weights};

/// Every command that can be asked for help.
const COMMANDS: [&str; 26] = [
    "",
    "sign",
    "sign key",
    "sign certificate",
    "sign pkcs11-key",
    "sign pkcs11-certificate",
    "sign sigstore",
    "verify",
    "verify key",
    "verify certificate",
    "verify sigstore",
    "verify policy",
    "locate",
    "locate key",
    "run",
    "trust",
    "trust update",
    "trust show",
    "digest",
    "inspect",
    "keygen",
    "devices",
    "selftest",
    "bench",
    "completions",
    "man",
];

#[test]
fn help() {
    let room = Room::new();
    let mut transcript = room.transcript(&["--version"]);
    for command in COMMANDS {
        let line = format!("{command} --help");
        let long = room.run(&line).ended(0);
        assert_eq!(long.stdout, room.run(&format!("{command} -h")).ended(0).stdout, "-h and --help say the same");
        assert_eq!(long.stderr, "");
        assert!(long.stdout.contains("Example") || command == "devices", "{command}: help comes with an example");
        // The line of usage is as long as the required options make it.
        let mut lines = long.stdout.lines().filter(|line| !line.starts_with("Usage: "));
        assert!(lines.all(|line| line.chars().count() <= 100), "{command}: no line is too long");
        transcript += &room.entry(line.trim_start(), &long);
    }
    room.assert_snapshot("help", transcript);
}

/// The way through that the README shows.
#[test]
fn from_key_to_verdict() {
    let room = Room::new();
    let mut transcript = room.transcript(&[
        "keygen --out key.pem",
        "sign key model --private-key key.pem --signature model/model.sig",
        "verify key model --public-key key.pub --signature model/model.sig",
        "verify key model --public-key key.pub --signature model/model.sig --all-digests --strict",
        "verify key model --public-key key.pub --signature model/model.sig --digest blake3 --log-level WARNING",
        "inspect model/model.sig",
        "inspect model",
        "inspect model/config.json",
    ]);
    room.write("model/layers/it's 0.safetensors", weights("weights of layer O"));
    transcript += &room.transcript(&["verify key model --public-key key.pub --signature model/model.sig"]);
    room.assert_snapshot("flow", transcript);
}

#[test]
fn digests() {
    let room = Room::new();
    let transcript = room.transcript(&[
        "digest model",
        "digest model --hash blake3",
        "digest model --files",
        "digest model --files --hash blake2b",
        "digest model/config.json",
        "digest model/config.json --files",
        "digest model --device auto",
    ]);
    room.assert_snapshot("digest", transcript);
}

/// Exit code 0, with something to be known.
#[test]
fn yes_but() {
    let room = Room::signed();
    room.write("model/.git/HEAD", "ref: refs/heads/main");
    room.write("model/cache/a", "a");
    room.write("model/cache/b", "b");
    room.write("model/empty", "");
    room.write("other/weights.bin", "weights elsewhere");
    let mut transcript = room.transcript(&[
        "sign key model --private-key key.pem --ignore-paths model/cache --ignore-paths other --hash blake3",
        "verify key model --public-key key.pub --signature model.sig",
        "sign key model --private-key key.pem --shards 8 --shards-compat --ignore-paths model/cache",
        "sign key model --private-key key.pem --shards 8 --ignore-paths model/cache",
        "verify key model --public-key key.pub --signature model.sig",
        "inspect model.sig",
        "sign key model/config.json --private-key key.pem --single-file-name basename --signature one.sig",
        "verify key model/config.json --public-key key.pub --signature one.sig",
        "sign key model --private-key key.pem --no-annotations",
    ]);
    room.write("model/new \u{1b}[31m\nname", "x");
    symlink("config.json", room.path("model/link")).unwrap();
    symlink("../other/weights.bin", room.path("model/outside")).unwrap();
    transcript += &room.transcript(&[
        "sign key model --private-key key.pem --allow-external-symlinks",
        "verify key model --public-key key.pub --signature model.sig --allow-external-symlinks",
        "inspect model --allow-external-symlinks",
    ]);
    room.assert_snapshot("yes-but", transcript);
}

/// Exit code 1.
#[test]
fn no() {
    let room = Room::signed();
    room.run("keygen --out other.pem").ended(0);
    let verify = "verify key model --public-key key.pub --signature model.sig";
    let mut transcript = room.transcript(&[
        "verify key model --public-key other.pub --signature model.sig",
        "verify key model --public-key key.pub --signature model.sig --max-bundle-size 100",
        "verify key model --public-key key.pub --signature key.pub",
        "verify key model --public-key key.pub --signature model/config.json",
        "inspect model.sig --max-bundle-size 100",
    ]);
    room.write("model/config.json", "{\"layers\": 3 }\n");
    fs::remove_file(room.path("model/layers/it's 0.safetensors")).unwrap();
    room.write("model/layers/ünï 1.safetensors", weights("weights of layer l"));
    room.write("model/new \u{1b}[31m\nname", "x");
    room.write("model/.git/HEAD", "ref: refs/heads/main");
    transcript += &room.transcript(&[verify]);

    let room = Room::signed();
    for name in ["extra.bin", "more/extra.bin"] {
        room.write(&format!("model/{name}"), "x");
    }
    transcript += &room.transcript(&[verify, &format!("{verify} --ignore-unsigned-files")]);

    let room = Room::signed();
    room.write("model/.git/HEAD", "ref: refs/heads/main");
    transcript += &room.transcript(&[
        &format!("{verify} --strict"),
        &format!("{verify} --strict --allow-ignored model/.git"),
        "sign key model --private-key key.pem --no-annotations",
        &format!("{verify} --digest blake3"),
    ]);
    symlink("config.json", room.path("model/link")).unwrap();
    transcript += &room.transcript(&[verify]);

    // A signature whose last byte is another one: the statement and the key are the same.
    let room = Room::signed();
    let bundle = room.read("model.sig");
    let at = bundle.find("\"sig\":\"").unwrap() + 40;
    let other = if bundle.as_bytes()[at] == b'A' { "B" } else { "A" };
    room.write("model.sig", format!("{}{other}{}", &bundle[..at], &bundle[at + 1..]));
    transcript += &room.transcript(&[verify]);
    room.assert_snapshot("no", transcript);
}

#[test]
fn a_long_list_of_differences_is_cut_for_people_and_whole_for_machines() {
    let room = Room::signed();
    for i in 0..25 {
        room.write(&format!("model/more/{i:02}"), "x");
    }
    let verify = "verify key model --public-key key.pub --signature model.sig --log-level ERROR";
    room.assert_snapshot("many", room.transcript(&[verify]));
    let json = room.run(&format!("{verify} --json")).ended(1).json();
    assert_eq!(json["differences"].as_array().unwrap().len(), 25);
}

/// Exit code 3.
#[test]
fn no_answer() {
    let room = Room::signed();
    room.run("keygen --out enc.pem --password-env PATH").ended(0);
    room.write("rsa.pub", include_str!("keys/rsa.pub"));
    room.write("secp256k1.pem", include_str!("keys/secp256k1.pem"));
    room.write("empty/.gitignore", "");
    let transcript = room.transcript(&[
        "sign key nowhere --private-key key.pem",
        "sign key model --private-key nokey.pem",
        "sign key model --private-key key.pub",
        "sign key model --private-key secp256k1.pem",
        "sign key model --private-key enc.pem",
        "sign key model --private-key enc.pem --password wrong",
        "sign key model --private-key enc.pem --password-file nowhere",
        "sign key model --private-key enc.pem --password-env NOT_SET",
        "sign key model --private-key key.pem --signature no/folder/model.sig",
        "sign key model --private-key key.pem --signature model",
        "sign key empty --private-key key.pem",
        "sign certificate model --private-key key.pem --signing-certificate cert.pem",
        "verify model --signature model.sig --identity me --identity-provider https://example.com",
        "verify key nowhere --public-key key.pub --signature model.sig",
        "verify key model --public-key nokey.pub --signature model.sig",
        "verify key model --public-key key.pem --signature model.sig",
        "verify key model --public-key rsa.pub --signature model.sig",
        "verify key model --public-key key.pub --signature nowhere.sig",
        "verify key model --public-key key.pub --signature model",
        "digest nowhere",
        "inspect nowhere",
        "keygen --out key.pem",
        "keygen --out no/folder/key.pem",
    ]);
    room.assert_snapshot("no-answer", transcript);
}

/// Exit code 2.
#[test]
fn usage() {
    let room = Room::new();
    let mut transcript = room.transcript(&[
        "",
        "sign",
        "frobnicate",
        "sign key model",
        "sign key model --private-key key.pem --hash md5",
        "sign key model --private-key key.pem --shards 64M",
        "sign key model --private-key key.pem --shards-compat",
        "sign key model --private-key key.pem --password a --password-file b",
        "verify key model --public-key key.pub",
        "verify key model --public-key key.pub --signature model.sig --strict --ignore-unsigned-files",
        "verify key model --public-key key.pub --signature model.sig --digest blake3 --all-digests",
        "verify key model --public-key key.pub --signature model.sig --allow-ignored x",
        "digest model --device tpu",
        "digest model --threads 0",
        "digest model --ignore-paths model",
        "keygen --curve P-999 --out key.pem",
        "keygen --out key.pub",
    ]);
    let words = ["digest", "model", "red \u{1b}[31m\r\nerror: forged"];
    transcript += &room.entry("digest model [ARGUMENT WITH CONTROL CHARACTERS]", &room.run_words(&words));
    room.assert_snapshot("usage", transcript);
}
