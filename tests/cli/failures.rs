//! What is on disk after a failure: what was there before.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::room::Room;

#[test]
fn nothing_half_written_stays() {
    let room = Room::signed();
    // A real one: it may be replaced, so that each line fails for its own reason.
    fs::copy(room.path("model.sig"), room.path("old.sig")).unwrap();
    let older = room.read("old.sig");
    std::os::unix::net::UnixListener::bind(room.path("socket")).unwrap();
    fs::create_dir(room.path("special")).unwrap();
    fs::rename(room.path("socket"), room.path("special/socket")).unwrap();
    let before = room.listing();
    for (line, why) in [
        ("sign key nowhere --private-key key.pem --signature old.sig", "No such file"),
        ("sign key model --private-key key.pub --signature old.sig", "expected a private key"),
        ("sign key special --private-key key.pem --signature old.sig", "is a socket"),
        ("sign key model --private-key key.pem --signature model", "it is a folder"),
        ("sign key model --private-key key.pem --signature special/socket", "special/socket"),
        ("sign key model --private-key key.pem --signature key.pem/x", "there is no folder"),
        ("sign key model --private-key key.pem --signature key.pem", "is not a signature, so it is not replaced"),
        ("sign key model --private-key key.pem --signature no/x", "there is no folder"),
        ("sign key model --private-key key.pem --signature old.sig --device cuda:99", "cuda:99"),
        // No identity token, or, in a build that cannot use one, no such feature.
        ("sign model --identity-token x --signature old.sig", "cannot"),
        ("keygen --out key.pem", "it exists"),
        ("keygen --out new.pem --public no/new.pub", "there is no folder"),
        ("keygen --out no/new.pem", "there is no folder"),
    ] {
        let ran = room.run(line).ended(3);
        assert!(ran.stderr.contains(why), "{line}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{line}");
        assert_eq!(room.listing(), before, "{line}");
        assert_eq!(room.read("old.sig"), older, "{line}");
    }
}

/// The same on a disk that fills up: a file may grow to so many bytes and no more.
#[test]
fn nothing_half_written_stays_on_a_full_disk() {
    let room = Room::signed();
    for i in 0..40 {
        room.write(&format!("model/more/{i}"), "x");
    }
    let (before, signature) = (room.listing(), room.read("model.sig"));
    // SIGXFSZ is ignored, so that the write fails as on a full disk; 512-byte blocks.
    let script = r#"trap '' XFSZ; ulimit -f 4; exec "$@""#;
    let mut command = room.command_of("sh");
    command.args(["-c", script, "sh", crate::room::BIN, "sign", "key", "model", "--private-key", "key.pem"]);
    let ran = crate::room::Ran::of(command.output().unwrap()).ended(3);
    assert!(ran.stderr.contains("cannot write signature \"model.sig\": File too large"), "{}", ran.stderr);
    assert_eq!((ran.stdout, room.listing(), room.read("model.sig")), (String::new(), before, signature));
}

#[test]
fn what_may_not_be_read_is_no_answer() {
    let room = Room::signed();
    let verify = "verify key model --public-key key.pub --signature model.sig";
    for locked in ["model/config.json", "model/layers", "key.pub", "model.sig"] {
        let path = room.path(locked);
        let mode = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        if File::open(&path).is_ok() {
            eprintln!("skipped: this user may read everything");
            fs::set_permissions(&path, mode).unwrap();
            return;
        }
        let ran = room.run(verify);
        fs::set_permissions(&path, mode).unwrap();
        let ran = ran.ended(3);
        assert!(ran.stderr.contains(locked) && ran.stderr.contains("Permission denied"), "{}", ran.stderr);
        assert_eq!(ran.stderr.matches("os error").count(), 1, "said once: {}", ran.stderr);
    }
}
