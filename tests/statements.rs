//! Statements that are properly signed and must still be refused: each hole of OMS.md, section (e), one by one.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::forge::{Forge, fix_root, resources};
use serde_json::{Value, json};

type Edit = fn(&mut Value);

fn again(statement: &mut Value, name: &str) {
    let mut copy = resources(statement)[0].clone();
    copy["name"] = name.into();
    resources(statement).push(copy);
}

fn ours_of_third(statement: &mut Value) -> &mut Value {
    &mut resources(statement)[2]["annotations"]["tensorseal/v1"]
}

fn ours_of_first(statement: &mut Value) -> &mut Value {
    &mut resources(statement)[0]["annotations"]["tensorseal/v1"]
}

/// Signs each edited statement and compares the verdict: words that must be said, or nothing for a yes.
fn signed(sign: &str, verify: &str, cases: &[(&str, Edit, &str)]) {
    let forge = Forge::new();
    let statement = forge.statement(sign);
    for (about, edit, words) in cases {
        let mut statement = statement.clone();
        edit(&mut statement);
        fix_root(&mut statement);
        let run = forge.verify_payload(&statement.to_string(), verify);
        let words = if words.is_empty() { "Verification succeeded" } else { *words };
        run.expect(i32::from(words != "Verification succeeded"), words, &format!("{about} [{sign}] [{verify}]"));
    }
}

#[test]
fn a_signed_statement_with_a_hole_is_refused() {
    signed(
        "",
        "",
        &[
            ("as it is", |_| {}, ""),
            ("the same name", |s| again(s, "a"), "\"a\" is listed twice"),
            ("the same name in other words", |s| again(s, "./a"), "\"a\" is listed twice"),
            (
                "a doubled slash",
                |s| {
                    resources(s)[2]["name"] = "d//c".into();
                    again(s, "d/c");
                },
                "\"d/c\" is listed twice",
            ),
            ("harmless spelling", |s| resources(s)[2]["name"] = "./d/./c".into(), ""),
            ("another order", |s| resources(s).reverse(), ""),
            (
                "upper-case digests",
                |s| {
                    for resource in resources(s) {
                        resource["digest"] = resource["digest"].as_str().unwrap().to_uppercase().into();
                    }
                },
                "",
            ),
            ("parent", |s| again(s, "../a"), "climbs out"),
            ("parent inside", |s| again(s, "d/../a"), "climbs out"),
            ("only parent", |s| again(s, ".."), "climbs out"),
            ("absolute", |s| again(s, "/etc/hostname"), "it is absolute"),
            ("empty name", |s| again(s, ""), "it is empty"),
            ("folder", |s| again(s, "d/"), "names a directory"),
            ("nul", |s| again(s, "a\0"), "holds a NUL"),
            ("the folder itself as a file", |s| again(s, "."), "missing     ."),
            ("no resources", |s| resources(s).clear(), "lists no resources"),
            (
                "two subjects",
                |s| {
                    let one = s["subject"][0].clone();
                    s["subject"].as_array_mut().unwrap().push(one);
                },
                "exactly one subject and has 2",
            ),
            ("method", |s| s["predicate"]["serialization"]["method"] = "Files".into(), "method \"Files\""),
            ("hash_type", |s| s["predicate"]["serialization"]["hash_type"] = "SHA256".into(), "hash_type \"SHA256\""),
            (
                "another hash_type",
                |s| s["predicate"]["serialization"]["hash_type"] = "blake3".into(),
                "has the algorithm \"sha256\"",
            ),
            ("algorithm", |s| resources(s)[1]["algorithm"] = "blake3".into(), "has the algorithm \"blake3\""),
            (
                "sharded algorithm of a file",
                |s| resources(s)[1]["algorithm"] = "sha256-sharded-4".into(),
                "sha256-sharded-4",
            ),
            (
                "shard_size of files",
                |s| s["predicate"]["serialization"]["shard_size"] = 4.into(),
                "the shard_size is 4",
            ),
            ("short digest", |s| resources(s)[0]["digest"] = "00".into(), "malformed sha256 digest"),
            ("empty digest", |s| resources(s)[0]["digest"] = "".into(), "malformed sha256 digest"),
            ("long digest", |s| resources(s)[0]["digest"] = "0".repeat(128).into(), "malformed sha256 digest"),
            ("odd digest", |s| resources(s)[0]["digest"] = "0".repeat(63).into(), "malformed sha256 digest"),
            ("no hexadecimal", |s| resources(s)[0]["digest"] = "g".repeat(64).into(), "malformed sha256 digest"),
            (
                "ignore nothing",
                |s| s["predicate"]["serialization"]["ignore_paths"] = json!([".git", ""]),
                "ignore path \"\"",
            ),
            (
                "ignore all",
                |s| s["predicate"]["serialization"]["ignore_paths"] = json!([".git", "."]),
                "ignore path \".\"",
            ),
            (
                "ignore all, longer",
                |s| s["predicate"]["serialization"]["ignore_paths"] = json!([".git", "./."]),
                "ignore path \"./.\"",
            ),
            (
                "ignore the parent",
                |s| s["predicate"]["serialization"]["ignore_paths"] = json!([".git", ".."]),
                "ignore path \"..\"",
            ),
            (
                "ignore around",
                |s| s["predicate"]["serialization"]["ignore_paths"] = json!([".git", "x/../d"]),
                "ignore path \"x/../d\"",
            ),
            (
                "ignore absolute",
                |s| s["predicate"]["serialization"]["ignore_paths"] = json!([".git", "/tmp"]),
                "ignore path \"/tmp\"",
            ),
            (
                "signed and ignored",
                |s| s["predicate"]["serialization"]["ignore_paths"] = json!([".git", "a"]),
                "signed and not signed at once",
            ),
            (
                "a folder signed and ignored",
                |s| s["predicate"]["serialization"]["ignore_paths"] = json!([".git", "d"]),
                "signed and not signed at once",
            ),
            (
                "two spellings of a folder",
                |s| s["predicate"]["serialization"]["ignore_paths"] = json!([".git", "./d"]),
                "has a component `.`",
            ),
            (
                "similar names",
                |s| s["predicate"]["serialization"]["ignore_paths"] = json!([".git", "d/cc", "aa", "A"]),
                "",
            ),
            ("not ignored", |s| s["predicate"]["serialization"]["ignore_paths"] = json!([]), "not signed  .git/x"),
            (
                "later predicate",
                |s| s["predicateType"] = "https://model_signing/signature/v1.1".into(),
                "predicateType",
            ),
            ("other statement", |s| s["_type"] = "https://in-toto.io/Statement/v0.1".into(), "_type"),
            ("bad hexadecimal of ours", |s| ours_of_first(s)["blake3"] = "xy".into(), "malformed blake3 digest"),
            ("negative size", |s| ours_of_first(s)["size"] = (-1).into(), "malformed tensorseal/v1 annotation"),
            ("size with a fraction", |s| ours_of_first(s)["size"] = json!(1.5), "malformed tensorseal/v1 annotation"),
            ("size as text", |s| ours_of_first(s)["size"] = "1".into(), "malformed tensorseal/v1 annotation"),
            (
                "no size",
                |s| {
                    ours_of_first(s).as_object_mut().unwrap().remove("size");
                },
                "missing field `size`",
            ),
            ("wrong size", |s| ours_of_first(s)["size"] = 2.into(), "changed a (1 byte, 2 when signed)"),
            ("another field of ours", |s| ours_of_first(s)["later"] = json!({"x": 1}), ""),
            ("a BLAKE3 that is not looked at", |s| ours_of_first(s)["blake3"] = "0".repeat(64).into(), ""),
        ],
    );
    let wrong: [(&str, Edit, &str); 2] = [
        (
            "a BLAKE3 of other bytes",
            |s| ours_of_first(s)["blake3"] = "0".repeat(64).into(),
            "signer inconsistent: \"a\" has",
        ),
        (
            "a SHA-256 of other bytes",
            |s| resources(s)[0]["digest"] = "0".repeat(64).into(),
            "signer inconsistent: \"a\" has",
        ),
    ];
    signed("", "--all-digests", &wrong);
    signed("--hash blake2b", "--all-digests", &wrong[..1]);
    signed(
        "",
        "--digest blake3",
        &[
            ("a BLAKE3 of other bytes", |s| ours_of_first(s)["blake3"] = "0".repeat(64).into(), "changed     a"),
            (
                "none for one file",
                |s| {
                    resources(s)[1].as_object_mut().unwrap().remove("annotations");
                },
                "\"b\" has no signed blake3",
            ),
        ],
    );
    signed(
        "--hash blake3",
        "",
        &[(
            "two BLAKE3 digests",
            |s| {
                resources(s)[0]["annotations"] = json!({"tensorseal/v1": {"blake3": "0".repeat(64), "size": 1}});
            },
            "another BLAKE3 digest than the resource",
        )],
    );
}

#[test]
fn signed_shards_must_tile_their_files() {
    // b has five bytes: b:0:4 and b:4:5, the resources 1 and 2.
    signed(
        "--shards 4",
        "--all-digests",
        &[
            ("as it is", |_| {}, ""),
            ("a whole number as a double", |s| s["predicate"]["serialization"]["shard_size"] = json!(4.0), ""),
            ("size 0", |s| s["predicate"]["serialization"]["shard_size"] = 0.into(), "the shard_size is 0"),
            ("size -1", |s| s["predicate"]["serialization"]["shard_size"] = (-1).into(), "the shard_size is -1"),
            ("size 1.5", |s| s["predicate"]["serialization"]["shard_size"] = json!(1.5), "the shard_size is 1.5"),
            (
                "size 2^60 as a double",
                |s| s["predicate"]["serialization"]["shard_size"] = json!(1_152_921_504_606_846_976.0),
                "the shard_size is",
            ),
            ("size as text", |s| s["predicate"]["serialization"]["shard_size"] = "4".into(), "malformed"),
            (
                "no size",
                |s| {
                    s["predicate"]["serialization"].as_object_mut().unwrap().remove("shard_size");
                },
                "the shard_size is absent",
            ),
            ("another size", |s| s["predicate"]["serialization"]["shard_size"] = 5.into(), "another size"),
            (
                "a gap",
                |s| {
                    resources(s)[2]["name"] = "b:5:6".into();
                },
                "leave a gap",
            ),
            (
                "an overlap",
                |s| {
                    resources(s)[2]["name"] = "b:3:4".into();
                },
                "overlap",
            ),
            (
                "no beginning",
                |s| {
                    resources(s).remove(1);
                },
                "leave a gap",
            ),
            (
                "no end",
                |s| {
                    resources(s).pop();
                },
                "not signed  d/c",
            ),
            (
                "no last shard",
                |s| {
                    resources(s).remove(2);
                },
                "changed b (5 bytes, 4 when signed)",
            ),
            (
                "nothing in it",
                |s| {
                    resources(s)[2]["name"] = "b:4:4".into();
                    ours_of_third(s)["size"] = 0.into();
                },
                "overlap",
            ),
            (
                "backwards",
                |s| {
                    resources(s)[2]["name"] = "b:5:4".into();
                    ours_of_third(s)["size"] = 0.into();
                },
                "overlap",
            ),
            ("another spelling", |s| resources(s)[2]["name"] = "b:04:5".into(), "path:start:end"),
            ("beyond 64 bits", |s| resources(s)[2]["name"] = "b:4:18446744073709551621".into(), "path:start:end"),
            ("a sign", |s| resources(s)[2]["name"] = "b:4:+5".into(), "path:start:end"),
            ("a file among shards", |s| resources(s)[2]["name"] = "b".into(), "path:start:end"),
            ("a size that is not the shard's", |s| ours_of_third(s)["size"] = 2.into(), "not that of the shard"),
            (
                "two ways to name the algorithm",
                |s| resources(s)[2]["algorithm"] = "sha256-sharded-4".into(),
                "has the algorithm",
            ),
            (
                "the size in the algorithm",
                |s| {
                    resources(s).iter_mut().for_each(|resource| resource["algorithm"] = "sha256-sharded-5".into());
                },
                "has the algorithm",
            ),
            (
                "the old algorithm throughout",
                |s| {
                    resources(s).iter_mut().for_each(|resource| resource["algorithm"] = "sha256-sharded-4".into());
                },
                "",
            ),
            (
                "signed and ignored",
                |s| s["predicate"]["serialization"]["ignore_paths"] = json!([".git", "b"]),
                "signed and not signed at once",
            ),
        ],
    );
}

/// The values of an object's keys, as the array that serde would take for the struct.
fn as_array(object: &mut Value, keys: &[&str]) {
    *object = keys.iter().map(|key| object[key].take()).collect();
}

#[test]
fn an_array_in_place_of_an_object_is_refused() {
    let serialization = |s: &mut Value| {
        let keys = ["method", "hash_type", "allow_symlinks", "shard_size", "ignore_paths"];
        as_array(&mut s["predicate"]["serialization"], &keys);
    };
    let resource = |s: &mut Value| as_array(&mut resources(s)[0], &["name", "algorithm", "digest", "annotations"]);
    let subject = |s: &mut Value| as_array(&mut s["subject"][0], &["name", "digest", "annotations"]);
    let predicate = |s: &mut Value| as_array(&mut s["predicate"], &["serialization", "resources"]);
    let statement = |s: &mut Value| as_array(s, &["_type", "subject", "predicateType", "predicate"]);
    let forge = Forge::new();
    let whole = forge.statement("");
    for edit in [serialization, resource, subject, predicate, statement] as [fn(&mut Value); 5] {
        let mut statement = whole.clone();
        edit(&mut statement);
        forge.verify_payload(&statement.to_string(), "").expect(1, "expected an object", &statement.to_string());
    }
}

#[test]
fn our_annotation_is_found_however_its_key_is_written() {
    let forge = Forge::new();
    let mut statement = forge.statement("");
    ours_of_first(&mut statement)["blake3"] = "0".repeat(64).into();
    for key in [r"tensorseal\/v1", r"\u0074ensorseal/v1", r"tensorseal/v1"] {
        let payload = statement.to_string().replace("tensorseal/v1", key);
        forge.verify_payload(&payload, "--all-digests").expect(1, "signer inconsistent", key);
    }
}
