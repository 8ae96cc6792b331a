//! `--json`: exactly one document on standard output, whatever happens, with the fields of docs/json.md.

use serde_json::Value;

use crate::room::Room;

/// The document of a run, after the checks that hold for every one.
fn report(room: &Room, line: &str, code: i32) -> Value {
    let ran = room.run(&format!("{line} --json")).ended(code);
    let json = ran.json();
    assert!(ran.stdout.ends_with("}\n"), "{line}");
    assert_eq!(json["schema"], "tensorseal/report/v1");
    assert_eq!(json["tool"], concat!("tensorseal ", env!("CARGO_PKG_VERSION")));
    assert_eq!(json["command"], line.split(' ').next().unwrap());
    assert_eq!(json["exit_code"], code);
    let verdict = match code {
        0 if json["command"] != "inspect" => "yes",
        1 => "no",
        _ => "none",
    };
    assert_eq!(json["verdict"], verdict, "{line}");
    assert_eq!(json["error"].is_object(), code != 0, "{line}");
    if code != 0 {
        assert!(json["error"]["kind"].is_string() && json["error"]["message"].is_string(), "{line}");
        assert!(!ran.stderr.is_empty(), "people are told too");
    }
    json
}

#[test]
fn snapshots() {
    let room = Room::signed();
    room.run("keygen --out other.pem").ended(0);
    let mut transcript = String::new();
    for line in [
        "sign key model --private-key key.pem",
        "verify key model --public-key key.pub --signature model.sig",
        "verify key model --public-key other.pub --signature model.sig",
        "digest model",
        "inspect model",
        "inspect model.sig",
        "keygen --out enc.pem --curve P-384 --password-env PATH",
    ] {
        transcript += &room.transcript(&[&format!("{line} --json --log-level ERROR")]);
    }
    room.write("model/config.json", "{\"layers\": 3}\n");
    room.write("model/new", "x");
    room.write("model/.git/HEAD", "x");
    std::fs::remove_file(room.path("model/layers/it's 0.safetensors")).unwrap();
    transcript += &room.transcript(&["verify key model --public-key key.pub --signature model.sig --json"]);
    room.assert_snapshot("json", transcript);
}

#[test]
fn one_document_for_every_outcome() {
    let room = Room::signed();
    room.run("keygen --out other.pem").ended(0);
    for (line, code, kind) in [
        ("sign key model --private-key key.pem --hash blake3", 0, ""),
        ("sign key model --private-key none.pem", 3, "io"),
        ("sign key model --private-key key.pub", 3, "key"),
        ("sign key nowhere --private-key key.pem", 3, "model"),
        ("sign key model --private-key key.pem --signature no/x", 3, "io"),
        ("sign key model --private-key key.pem --device cuda:99", 3, "device"),
        ("sign key model --private-key key.pem --device tpu", 2, "device"),
        ("sign key model --private-key key.pem --ignore-paths model", 2, "ignores-everything"),
        ("verify key model --public-key key.pub --signature model.sig", 0, ""),
        ("verify key model --public-key other.pub --signature model.sig", 1, "signature"),
        ("verify key model --public-key key.pub --signature key.pem", 1, "format"),
        ("verify key model --public-key key.pub --signature model.sig --max-bundle-size 9", 1, "bundle-too-large"),
        ("verify key model --public-key key.pub --signature none.sig", 3, "io"),
        ("verify key nowhere --public-key key.pub --signature model.sig", 3, "model"),
    ] {
        let json = report(&room, line, code);
        assert_eq!(json["error"]["kind"].as_str().unwrap_or_default(), kind, "{line}");
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(json["model"], words[2], "{line}");
        let at = words.iter().position(|word| *word == "--signature");
        assert_eq!(json["signature"], at.map_or("model.sig", |at| words[at + 1]), "{line}");
    }
    for (line, code, kind) in [
        ("verify certificate model --signature model.sig --certificate-chain none.pem", 3, "io"),
        ("verify certificate model --signature model.sig --certificate-chain key.pub", 3, "certificate"),
        ("digest model", 0, ""),
        ("digest nowhere", 3, "model"),
        ("digest model --device tpu", 2, "device"),
        ("inspect model", 0, ""),
        ("inspect model.sig", 0, ""),
        ("inspect nowhere", 3, "model"),
        ("devices", 0, ""),
        ("keygen --out new.pem", 0, ""),
        ("keygen --out new.pem", 3, "io"),
        ("keygen --out new.pub", 2, "usage"),
        ("keygen --out x.pem --curve P-999", 2, "usage"),
    ] {
        assert_eq!(report(&room, line, code)["error"]["kind"].as_str().unwrap_or_default(), kind, "{line}");
    }
}

#[test]
fn a_verdict_says_what_was_checked_and_what_was_not() {
    let room = Room::signed();
    let json = report(&room, "verify key model --public-key key.pub --signature model.sig", 0);
    for field in ["identity", "serialization"] {
        assert!(json[field].is_object(), "{field}");
    }
    for field in ["checked", "not_checked", "ignored", "not_covered", "unsigned", "followed", "notes"] {
        assert!(json[field].is_array(), "{field}");
    }
    for field in ["resources", "files", "bytes"] {
        assert!(json[field].is_u64(), "{field}");
    }
    assert!(json["seconds"].is_f64());
    assert_eq!(json["checked"][0]["algorithm"], "sha256");
    assert_eq!(json["not_checked"][0], "blake3");
    assert_eq!(json["root"].as_str().unwrap().len(), "sha256:".len() + 64);
}

#[test]
fn names_in_json_have_no_power_over_the_terminal() {
    let room = Room::new();
    let name = "c1 \u{9b}31m del \u{7f} esc \u{1b} bidi \u{202e} back\\slash é";
    room.write(&format!("model/{name}"), "x");
    let ran = room.run("digest model --json").ended(0);
    assert!(!ran.stdout.contains(['\u{9b}', '\u{7f}', '\u{1b}', '\u{202e}']), "{}", ran.stdout);
    let names: Vec<Value> = ran.json()["digests"].as_array().unwrap().iter().map(|d| d["name"].clone()).collect();
    assert!(names.contains(&name.into()), "and read back as they are: {names:?}");
}

#[test]
fn warnings_go_to_standard_error() {
    let room = Room::signed();
    let ran = room.run("sign key model --private-key key.pem --hash blake3 --ignore-paths /nowhere --json").ended(0);
    assert_eq!(ran.stderr.matches("warning: ").count(), 2, "{}", ran.stderr);
    assert_eq!(ran.json()["cannot_be_verified_by"].as_array().unwrap().len(), 1);
    assert_eq!(ran.json()["notes"].as_array().unwrap().len(), 1);
}
