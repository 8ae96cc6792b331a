//! Who is one signer, and which statements are one.

use super::*;
use crate::bundle::Evidence;
use crate::envelope::{Envelope, pae};
use crate::key::Curve;
use crate::key::PrivateKey;
use crate::verify::{CertificateIdentity, KeyVerifier, SigningTime};

#[test]
fn a_denied_name_is_known_in_every_form() {
    for (denied, name, is) in [
        ("a@example.com", "email:A@example.com", true),
        ("email:a@example.com", "email:A@Example.com", true),
        ("email:a@example.com", "a@example.com", true),
        ("\u{c4}rger@example.com", "email:\u{e4}rger@example.com", true),
        ("CN=Mallory", "CN=mallory", true),
        ("https://example.com/a", "uri:https://example.com/a", true),
        ("uri:https://example.com/a", "https://example.com/a", true),
        ("dns:example.com", "email:example.com", false),
        ("https://example.com/a", "http://example.com/a", false),
        ("example.com", "a@example.com", false),
        ("a@example.com", "ba@example.com", false),
    ] {
        assert_eq!(is_name(denied, name), is, "{denied} {name}");
    }
}

fn certificate(names: &[&str]) -> Identity {
    Identity::Certificate(Box::new(CertificateIdentity {
        subject: String::new(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        fingerprint: String::new(),
        root: String::new(),
        root_fingerprint: String::new(),
        judged_at: SigningTime::Now(UnixTime(0)),
        notes: vec![],
    }))
}

/// A statement over files with these digests and BLAKE3 digests, each a byte over and over.
fn signed(files: &[(&str, u8, Option<u8>)]) -> Verified<Manifest> {
    let hex = |byte: u8| format!("{byte:02x}").repeat(32);
    let digests: Vec<u8> = files.iter().flat_map(|(_, byte, _)| [*byte; 32]).collect();
    let root = crate::digest::hex(&<sha2::Sha256 as sha2::Digest>::digest(&digests));
    let resource = |(name, byte, blake3): &(&str, u8, Option<u8>)| {
        let mut resource = serde_json::json!({"name": name, "algorithm": "sha256", "digest": hex(*byte)});
        if let Some(blake3) = blake3 {
            resource["annotations"] = serde_json::json!({"tensorseal/v1": {"blake3": hex(*blake3), "size": 1}});
        }
        resource
    };
    let statement = serde_json::json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "m", "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": false, "ignore_paths": []},
            "resources": files.iter().map(resource).collect::<Vec<_>>(),
        },
    });
    let key = PrivateKey::generate(Curve::P256).unwrap();
    let payload = statement.to_string().into_bytes();
    let envelope = Envelope { signature: key.sign(&pae(&payload)).unwrap(), payload };
    let material = VerificationMaterial::PublicKey { hint: None, old: false };
    Bundle::new(material, envelope, Evidence::default()).verify(&KeyVerifier::new(key.public_key())).unwrap()
}

#[test]
fn statements_are_one_if_no_bytes_could_satisfy_one_of_them_alone() {
    let one = signed(&[("a", 1, Some(3)), ("b", 2, None)]);
    assert_eq!(differs(&one, &signed(&[("a", 1, Some(3)), ("b", 2, None)])), None);
    assert_eq!(differs(&one, &signed(&[("a", 1, None), ("b", 2, Some(9))])), None, "BLAKE3 in one of them only");
    for (other, words) in [
        (signed(&[("a", 1, Some(4)), ("b", 2, None)]), "the digests of \"a\" are different"),
        (signed(&[("a", 1, Some(3)), ("b", 5, None)]), "the digests of \"b\" are different"),
        (signed(&[("a", 1, Some(3))]), "\"b\" is in one of them only"),
        (signed(&[("b", 2, None), ("a", 1, Some(3))]), "the roots are"),
    ] {
        for found in [differs(&one, &other), differs(&other, &one)] {
            assert!(found.as_deref().is_some_and(|found| found.contains(words)), "{words}: {found:?}");
        }
    }
}

#[test]
fn signatures_that_share_a_name_by_way_of_a_third_are_one_signers() {
    let of = |names: &[&str]| Signature {
        path: PathBuf::from("s"),
        signed: signed(&[("a", 1, None)]),
        signers: vec![(0, certificate(names))],
        carried: Carried { certificates: vec![], key: None },
    };
    let (left, right, both) = (of(&["email:a@x"]), of(&["email:b@x"]), of(&["email:B@x", "email:A@x"]));
    let groups = people(&[left, right]);
    assert_ne!(groups[0], groups[1]);
    let groups = people(&[of(&["email:a@x"]), of(&["email:b@x"]), both, of(&["email:c@x"])]);
    assert!(groups[0] == groups[1] && groups[1] == groups[2] && groups[3] != groups[0], "{groups:?}");
}

#[test]
fn each_signer_needs_a_person_of_their_own() {
    let sets = |all: &[&[usize]]| all.iter().map(|of| of.iter().copied().collect()).collect::<Vec<BTreeSet<usize>>>();
    for (candidates, wanted) in [
        (&[&[0][..], &[1]][..], true),
        (&[&[0, 1], &[0]], true),
        (&[&[0], &[0, 1]], true),
        (&[&[0, 1], &[0, 1], &[0, 1]], false),
        (&[&[0], &[0]], false),
        (&[&[0, 1], &[0, 2], &[0], &[2, 3]], true),
        (&[&[0], &[]], false),
    ] {
        assert_eq!(matched(&sets(candidates)), wanted, "{candidates:?}");
    }
}

#[test]
fn a_name_is_one_signer_whichever_method_says_it() {
    let one = names(&certificate(&["dns:signer.example.com", "email:A@example.com"]));
    assert_eq!(one, BTreeSet::from(["signer.example.com".to_owned(), "a@example.com".to_owned()]));
    assert!(names(&certificate(&[])).is_empty());
    assert!(names(&Identity::Key { curve: Curve::P256, fingerprint: "f".to_owned() }).is_empty());
}
