//! Keys: their passwords, their permissions.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::room::{Ran, Room};

const IN_ARGV: &str = "warning: a password on the command line can be seen by every user";

fn with_encrypted_key() -> Room {
    let room = Room::new();
    room.write("password", "correct horse\nanything else\n");
    room.run("keygen --out enc.pem --password-file password").ended(0);
    assert!(room.read("enc.pem").starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    room
}

fn sign(room: &Room, words: &[&str], secret: Option<&str>) -> Ran {
    let mut command = room.command();
    command.args(["sign", "key", "model", "--private-key", "enc.pem", "--log-level", "WARNING"]).args(words);
    command.envs(secret.map(|secret| ("MODEL_PASSWORD", secret)));
    Ran::of(command.output().unwrap())
}

#[test]
fn a_password_comes_from_a_file_the_environment_or_under_protest_the_command_line() {
    let room = with_encrypted_key();
    for (words, secret) in
        [(&["--password-file", "password"][..], None), (&["--password-env", "MODEL_PASSWORD"], Some("correct horse"))]
    {
        let ran = sign(&room, words, secret).ended(0);
        assert_eq!((&*ran.stdout, &*ran.stderr), ("Signing succeeded\n", ""));
    }
    let ran = sign(&room, &["--password", "correct horse"], None).ended(0);
    assert!(ran.stderr.starts_with(IN_ARGV) && ran.stderr.lines().count() == 1, "{}", ran.stderr);
    room.run("verify key model --signature model.sig --public-key enc.pub").ended(0);
}

#[test]
fn without_the_password_nothing_is_signed() {
    let room = with_encrypted_key();
    room.write("wrong", "incorrect horse");
    let before = room.listing();
    for (words, secret, why) in [
        (&[][..], None, "no password was given"),
        (&["--password", "correct hors"], None, "wrong password"),
        (&["--password", ""], None, "wrong password"),
        (&["--password-file", "wrong"], None, "wrong password"),
        (&["--password-file", "nowhere"], None, "nowhere: No such file"),
        (&["--password-env", "MODEL_PASSWORD"], Some("x"), "wrong password"),
        (&["--password-env", "MODEL_PASSWORD"], None, "$MODEL_PASSWORD: environment variable not found"),
    ] {
        let ran = sign(&room, words, secret).ended(3);
        assert!(ran.stderr.contains(why), "{words:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains("correct hors"), "no password is ever shown: {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
    assert_eq!(room.listing(), before);
}

#[test]
fn a_password_for_a_key_without_one_is_remarked_on() {
    let room = Room::signed();
    let ran = room.run("sign key model --private-key key.pem --password x --log-level WARNING").ended(0);
    assert!(ran.stderr.starts_with(IN_ARGV), "{}", ran.stderr);
    assert!(ran.stderr.contains("key.pem is not encrypted; the password was not used"), "{}", ran.stderr);
}

#[test]
fn a_key_that_others_can_read_gets_a_warning() {
    let room = Room::signed();
    let mode = |name: &str| fs::metadata(room.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("key.pem"), 0o600, "keygen makes it private");
    let sign = || room.run("sign key model --private-key key.pem --log-level WARNING").ended(0).stderr;
    for (mode, warns) in [(0o600, false), (0o400, false), (0o644, true), (0o640, true), (0o604, true)] {
        fs::set_permissions(room.path("key.pem"), Permissions::from_mode(mode)).unwrap();
        let said = sign();
        assert_eq!(said.contains("other users can read the private key key.pem"), warns, "{mode:o}: {said}");
        assert_eq!(said.is_empty(), !warns, "{mode:o}: {said}");
    }
}

/// Two names of one file: the public key would be all that is left.
#[test]
fn the_two_keys_never_share_a_file() {
    let room = Room::signed();
    let (before, key) = (room.listing(), room.read("key.pem"));
    std::os::unix::fs::symlink("key.pem", room.path("link")).unwrap();
    std::os::unix::fs::symlink(".", room.path("here")).unwrap();
    for (out, public) in [
        ("new.pem", "new.pem"),
        ("new.pem", "./new.pem"),
        ("new.pem", "model/../new.pem"),
        ("new.pem", "here/new.pem"),
        ("key.pem", "link"),
        ("link", "key.pem"),
    ] {
        let ran = room.run(&format!("keygen --force --out {out} --public {public}")).ended(2);
        assert!(ran.stderr.contains("both keys"), "{}", ran.stderr);
        assert_eq!(room.read("key.pem"), key, "{out} {public}");
    }
    fs::remove_file(room.path("link")).unwrap();
    fs::remove_file(room.path("here")).unwrap();
    assert_eq!(room.listing(), before);
}

#[test]
fn keygen_replaces_nothing_unless_told_to() {
    let room = Room::signed();
    let key = room.read("key.pem");
    room.run("keygen --out key.pem").ended(3);
    room.run("keygen --out new.pem --public key.pub").ended(3);
    assert_eq!(room.read("key.pem"), key);
    assert!(!room.path("new.pem").exists(), "half a pair is not left behind");
    room.run("keygen --out key.pem --force").ended(0);
    assert_ne!(room.read("key.pem"), key);
    let made = room.run("keygen --out key.pem --force --curve p384").ended(0).stdout;
    let hint = room.run("inspect model.sig --json").ended(0).json()["key_hint"].clone();
    assert_ne!(made, format!("{}  key.pub\n", hint.as_str().unwrap()), "the old signature is not of the new key");
}

#[test]
fn every_curve_signs_and_verifies() {
    let room = Room::new();
    for curve in ["P-256", "p384", "secp521r1"] {
        room.run(&format!("keygen --out key.pem --curve {curve} --force")).ended(0);
        room.run("sign key model --private-key key.pem").ended(0);
        room.run("verify key model --public-key key.pub --signature model.sig").ended(0);
    }
}
