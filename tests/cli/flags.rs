//! `alias model_signing=tensorseal`: the flags of Python's model_signing 1.1.1 and of its successor, in both spellings.

use crate::room::Room;

#[test]
fn every_flag_of_sign_key_and_verify_key_in_both_spellings() {
    let spellings: [fn(&str) -> String; 2] = [
        |line| line.replace('_', "-"),
        |line| line.replace('_', "-").replace("--", "__").replace('-', "_").replace("__", "--"),
    ];
    for spelled in spellings {
        let room = Room::new();
        room.run("keygen --out key.pem").ended(0);
        room.write("model/skipped", "x");
        let ignore = spelled("--ignore-paths");
        let sign = format!(
            "{} ERROR sign key {} {} model.sig {} key.pem {ignore} model/skipped {ignore} model/absent {} model",
            spelled("--log-level"),
            spelled("--ignore-git-paths"),
            "--signature",
            spelled("--private-key"),
            spelled("--allow-symlinks"),
        );
        let signed = room.run(&sign).ended(0);
        assert_eq!((&*signed.stdout, &*signed.stderr), ("Signing succeeded\n", ""), "{sign}");
        let verify = format!(
            "{} error verify key --signature=model.sig {}=key.pub {ignore}=model/skipped {} {} {} model",
            spelled("--log-level"),
            spelled("--public-key"),
            spelled("--no-ignore-git-paths"),
            spelled("--allow-symlinks"),
            spelled("--ignore-unsigned-files"),
        );
        let verified = room.run(&verify).ended(0);
        assert_eq!((&*verified.stdout, &*verified.stderr), ("Verification succeeded\n", ""), "{verify}");
        // As in Python's, the last of a repeated option counts.
        let twice = format!("--signature nowhere {} {}", spelled("--allow-symlinks"), spelled("--allow-symlinks"));
        room.run(&format!("verify key model {twice} --signature model.sig --public-key key.pub")).ended(0);
        // The later of two contradicting switches counts.
        let (yes, no) = (spelled("--ignore-unsigned-files"), spelled("--no-ignore-unsigned-files"));
        room.write("model/new", "x");
        room.run(&format!("verify key model --signature model.sig --public-key key.pub {yes} {no}")).ended(1);
        room.run(&format!("verify key model --signature model.sig --public-key key.pub {no} {yes}")).ended(0);
        room.run(&format!(
            "digest model {ignore} model/new {} {}",
            spelled("--no-ignore-git-paths"),
            spelled("--allow-symlinks")
        ))
        .ended(0);
    }
    // 1.1.1 spells one switch in both ways at once.
    let room = Room::signed();
    room.run("verify key model --signature model.sig --public_key key.pub --no-ignore_unsigned_files").ended(0);
}

#[test]
fn a_signature_goes_to_model_sig_in_the_current_folder() {
    let room = Room::new();
    room.run("keygen --out key.pem").ended(0);
    room.run("sign key model --private-key key.pem").ended(0);
    assert!(room.path("model.sig").is_file());
    // What it holds is replaced, as Python does.
    let before = room.read("model.sig");
    room.write("model/new", "x");
    room.run("sign key model --private-key key.pem").ended(0);
    assert_ne!(before, room.read("model.sig"));
}

#[test]
fn sigstore_is_implied_and_its_flags_lead_to_a_clear_answer() {
    let room = Room::new();
    // Sigstore is there, under Python's names for its options. The token is none, and found to be so before any server is asked.
    for line in [
        "sign model --identity_token x",
        "sign --use_staging model --identity_token x",
        "sign sigstore model --use_ambient_credentials --identity_token x --oauth_force_oob",
        "sign sigstore model --client_id x --client_secret y --identity_token x",
    ] {
        let ran = room.run(line).ended(3);
        let feature =
            if cfg!(feature = "sigstore-sign") { "no identity token" } else { "without the feature sigstore-sign" };
        assert!(ran.stderr.contains(feature), "{line}: {}", ran.stderr);
    }
    assert!(!room.path("model.sig").exists());
    let ran = room.run("verify model --signature s --identity i --identity_provider p --trust_config none").ended(3);
    assert!(ran.stderr.contains("cannot read trust root \"none\""), "{}", ran.stderr);
    assert!(room.run("verify sigstore --help").ended(0).stdout.contains("--identity-provider"));
}

#[test]
fn the_certificate_methods_flags_are_read_in_pythons_spelling() {
    let room = Room::new();
    for (line, missing) in [
        ("sign certificate model --private_key k --signing_certificate c --certificate_chain d", "\"c\""),
        ("verify certificate model --signature s --certificate_chain d --log_fingerprints", "\"d\""),
    ] {
        let ran = room.run(line).ended(3);
        assert!(ran.stderr.contains(&format!("cannot read certificates {missing}")), "{line}: {}", ran.stderr);
    }
}

#[test]
fn the_pkcs11_methods_flags_are_read_in_pythons_spelling() {
    let room = Room::new();
    let ran = room.run("sign pkcs11-key model --pkcs11_uri pkcs11:object=x").ended(3);
    assert!(ran.stderr.contains("nothing says which PKCS#11 module to load"), "{}", ran.stderr);
    let line =
        "sign pkcs11-certificate model --pkcs11_uri pkcs11:object=x --signing_certificate c --certificate_chain d";
    let ran = room.run(line).ended(3);
    assert!(ran.stderr.contains("cannot read certificates \"c\""), "{}", ran.stderr);
    room.run("sign pkcs11-key model --pkcs11_uri pkcs11:x").ended(2);
}

#[test]
fn log_levels_say_less_and_less() {
    let room = Room::signed();
    room.run("sign key model --private-key key.pem --hash blake3").ended(0);
    let verify = |level: &str, key: &str| {
        room.run(&format!("--log-level {level} verify key model --signature model.sig --public-key {key}"))
    };
    let sign =
        |level: &str| room.run(&format!("sign key model --private-key key.pem --hash blake3 --log-level {level}"));
    assert!(sign("INFO").ended(0).stderr.contains("  root "));
    let warned = sign("warning").ended(0).stderr;
    assert!(warned.starts_with("warning: ") && warned.lines().count() == 1, "{warned}");
    assert_eq!(sign("ERROR").ended(0).stderr, "");
    for level in ["ERROR", "CRITICAL"] {
        assert_eq!(verify(level, "key.pub").ended(0).stdout, "Verification succeeded\n");
        assert!(verify(level, "none.pub").ended(3).stderr.contains("none.pub"), "why it failed is always said");
    }
}
