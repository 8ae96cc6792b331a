//! Certificates made by others: the Python reference's fixtures, NVIDIA's skills, and shapes made for model-signing 1.1.1.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tensorseal::bundle::VerificationMaterial;
use tensorseal::time::UnixTime;
use tensorseal::x509::{Certificate, EkuRule, PathError, PathOptions, SignatureHash, validate, verify_signature};
use tensorseal::{Bundle, bundle::DEFAULT_MAX_BUNDLE};

use crate::common::vectors;

/// 2026-06-01.
const THEN: UnixTime = UnixTime(1_780_272_000);

fn pem(path: impl AsRef<Path>) -> Vec<Certificate> {
    Certificate::all_from_pem(&fs::read(path).unwrap()).unwrap()
}

/// The chain of a bundle.
fn chain(path: impl AsRef<Path>) -> Vec<Certificate> {
    let VerificationMaterial::CertificateChain(chain) =
        Bundle::read(path.as_ref(), DEFAULT_MAX_BUNDLE).unwrap().material().clone()
    else {
        panic!("no chain")
    };
    chain.iter().map(|der| Certificate::from_der(der).unwrap()).collect()
}

#[test]
fn the_shapes_of_the_python_package() {
    let Some(vectors) = vectors() else { return };
    let pki = vectors.join("python-1.1.1/pki");
    let one = |name: &str| pem(pki.join(format!("{name}.crt"))).remove(0);
    let (root, inter) = ([one("root")], [one("inter")]);
    let verdict = |name: &str, roots: &[Certificate], eku| {
        let options = PathOptions { eku, ..PathOptions::at(THEN) };
        validate(&one(name), &inter, roots, &options).map(|path| path.leaf_is_ca)
    };
    for (name, is_ca) in [
        ("good", false),
        ("p521", false),
        ("nods_codesign", false),
        ("noku_codesign", false),
        ("leaf_ca", true),
        // It signs, and says so in its keyUsage.
        ("inter", true),
        ("root", true),
    ] {
        assert_eq!(verdict(name, &root, EkuRule::CodeSigningIfPresent), Ok(is_ca), "{name}");
        assert_eq!(verdict(name, &root, EkuRule::Any), Ok(is_ca), "{name}");
    }
    type Is = fn(&PathError) -> bool;
    for (name, is) in [
        ("expired", (|why| matches!(why, PathError::Expired { .. })) as Is),
        ("future", |why| matches!(why, PathError::NotYetValid { .. })),
        ("noku", |why| matches!(why, PathError::LeafUsage { .. })),
        ("nods", |why| matches!(why, PathError::LeafUsage { .. })),
        ("self", |why| matches!(why, PathError::UntrustedRoot { .. })),
        ("rsa", |why| matches!(why, PathError::LeafKey { .. }) && why.to_string().contains("RSA keys")),
        ("k256", |why| matches!(why, PathError::LeafKey { .. }) && why.to_string().contains("secp256k1")),
    ] {
        for eku in [EkuRule::CodeSigningIfPresent, EkuRule::Any] {
            let why = verdict(name, &root, eku).unwrap_err();
            assert!(is(&why), "{name}: {why}");
        }
    }
    let why = verdict("serverauth_ds", &root, EkuRule::CodeSigningIfPresent).unwrap_err();
    assert!(matches!(&why, PathError::LeafPurpose { found, .. } if found == &["serverAuth"]), "{why}");
    assert_eq!(verdict("serverauth_ds", &root, EkuRule::Any), Ok(false));
    // What is given as a root and is none.
    for (name, given) in [("good", "inter"), ("good", "good")] {
        let why = verdict(name, &[one(given)], EkuRule::CodeSigningIfPresent).unwrap_err();
        assert!(matches!(why, PathError::NotARoot { .. }), "{why}");
    }
    assert_eq!(verdict("self", &[one("self")], EkuRule::CodeSigningIfPresent), Ok(false));
    let alone = validate(&one("good"), &[], &root, &PathOptions::at(THEN)).map(|_| ());
    assert!(matches!(alone, Err(PathError::NoIssuer { .. })));
    let unrelated = pem(vectors.join("nvidia-skills/nv-agent-root-cert.pem"));
    let why = verdict("good", &unrelated, EkuRule::CodeSigningIfPresent).unwrap_err();
    assert!(matches!(&why, PathError::NoIssuer { certificate, .. } if certificate == "CN=inter"), "{why}");
    let none = validate(&one("good"), &inter, &[], &PathOptions::at(THEN)).map(|_| ());
    assert_eq!(none, Err(PathError::NoRoots));
}

#[test]
fn the_references_own_fixtures() {
    let Some(vectors) = vectors() else { return };
    let keys = vectors.join("historical/keys/certificate");
    let roots = pem(keys.join("ca-cert.pem"));
    for (version, hash) in [
        ("v0.2.0", SignatureHash::Sha256),
        ("v0.3.1", SignatureHash::OfCurve),
        ("v1.0.0", SignatureHash::OfCurve),
        ("v1.0.1", SignatureHash::OfCurve),
        ("v1.1.0", SignatureHash::OfCurve),
    ] {
        let path = vectors.join(format!("historical/{version}-certificate/model.sig"));
        let chain = chain(&path);
        assert_eq!(chain[..1], pem(keys.join("signing-key-cert.pem")));
        let found = validate(&chain[0], &chain[1..], &roots, &PathOptions::at(THEN)).unwrap();
        assert!(found.leaf_is_ca && found.leaf_looks_self_signed && !found.eku_waived);
        assert_eq!(found.certificates().count(), 3);
        let bundle: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let signature = &bundle["dsseEnvelope"]["signatures"][0]["sig"];
        let signature = STANDARD.decode(signature.as_str().unwrap()).unwrap();
        let envelope = Bundle::read(&path, DEFAULT_MAX_BUNDLE).unwrap().envelope().clone();
        let signed = if version == "v0.2.0" { envelope.old_pae() } else { envelope.pae() };
        assert_eq!(verify_signature(&chain[0], &signed, &signature, hash), Ok(()), "{version}");
        let other = if hash == SignatureHash::OfCurve { SignatureHash::Sha256 } else { SignatureHash::OfCurve };
        assert!(verify_signature(&chain[0], &signed, &signature, other).is_err(), "{version}");
    }
}

#[test]
fn the_chains_of_nvidias_skills() {
    let Some(vectors) = vectors() else { return };
    let folder = vectors.join("nvidia-skills");
    let roots = pem(folder.join("nv-agent-root-cert.pem"));
    let expected: Value = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let expected = expected.as_object().unwrap();
    assert_eq!(expected.len(), 8);
    for (name, answer) in expected {
        let chain = chain(folder.join(name).join("skill.oms.sig"));
        let found = validate(&chain[0], &chain[1..], &roots, &PathOptions::at(THEN));
        match found {
            Ok(path) => {
                assert_eq!(answer["strict"], "pass", "{name}");
                assert!(!path.leaf_is_ca && !path.leaf_looks_self_signed);
                assert_eq!((path.intermediates.len(), path.root), (1, &roots[0]));
            }
            Err(why) => {
                assert_eq!(answer["strict"], "fail: chain", "{name}");
                assert!(matches!(why, PathError::UntrustedRoot { .. }), "{why}");
            }
        }
    }
}

/// What public authorities have got away with for decades is read: no root of this machine's store is left out.
#[test]
fn the_roots_of_this_machine() {
    let store = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if !store.is_file() {
        eprintln!("skipped: no {store:?}");
        return;
    }
    let roots = pem(store);
    assert!(roots.len() > 50);
    assert!(roots.iter().all(|root| root.is_self_issued() && !root.subject().is_empty()));
}
