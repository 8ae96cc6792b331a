use std::time::Instant;

use super::*;
use crate::bundle::Evidence;
use crate::envelope::{Envelope, pae};
use crate::key::PrivateKey;

const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// A statement of model-signing 0.2.
fn old_statement() -> String {
    format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"it's","digest":{{"sha256":"{DIGEST}"}},
        "annotations":{{"actual_hash_algorithm":"file-sha256"}}}}],
        "predicateType":"https://model_signing/Digests/v0.1","predicate":{{"unused":"x"}}}}"#
    )
}

/// The same of today. The root is SHA-256 over the one digest (`sha256sum` of its 32 bytes).
fn statement() -> String {
    const ROOT: &str = "4f8b42c22dd3729b519ba6f68d2da7cc5b2d606d05daed5ad5128cc03e6c6358";
    format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"m","digest":{{"sha256":"{ROOT}"}}}}],
        "predicateType":"https://model_signing/signature/v1.0","predicate":{{
        "serialization":{{"method":"files","hash_type":"sha256","allow_symlinks":false}},
        "resources":[{{"name":"it's","algorithm":"sha256","digest":"{DIGEST}"}}]}}}}"#
    )
}

fn verified(payload: &str, old_encoding: bool) -> Result<Verified<Manifest>, VerifyError> {
    let key = PrivateKey::generate(Curve::P384).unwrap();
    let payload = payload.as_bytes().to_vec();
    let mut envelope = Envelope { payload, signature: vec![] };
    envelope.signature = key.sign(&if old_encoding { envelope.old_pae() } else { pae(&envelope.payload) }).unwrap();
    let material = VerificationMaterial::PublicKey { hint: None, old: true };
    Bundle::new(material, envelope, Evidence::default()).verify(&KeyVerifier::new(key.public_key()))
}

#[test]
fn the_old_encoding_is_for_the_old_statement_alone() {
    for old_encoding in [true, false] {
        let manifest = verified(&old_statement(), old_encoding).unwrap();
        assert_eq!(manifest.version(), StatementVersion::Digests01);
        assert_eq!(manifest.resources()[0].name.as_str(), "it's");
        assert_eq!(manifest.serialization().ignore_paths, None);
    }
    let manifest = verified(&statement(), false).unwrap();
    assert_eq!(manifest.version(), StatementVersion::Signature10);
    let answer = verified(&statement(), true);
    assert!(matches!(answer, Err(VerifyError::Signature(SignatureError::Invalid))));
    // A statement of today that holds the old one's name somewhere.
    let named = statement().replace("\"m\"", "\"https://model_signing/Digests/v0.1\"");
    assert!(verified(&named, false).is_ok());
    assert!(matches!(verified(&named, true), Err(VerifyError::Format(FormatError::OldEncoding))));
}

#[test]
fn nothing_is_parsed_before_the_signature_is_checked() {
    // Not JSON at all: with a bad signature the answer is about the signature, with a good one about the text.
    assert!(matches!(verified("no json", false), Err(VerifyError::Format(FormatError::Json { .. }))));
    let key = PrivateKey::generate(Curve::P256).unwrap();
    let envelope = Envelope { payload: b"no json".to_vec(), signature: key.sign(b"something else").unwrap() };
    let bundle = Bundle::new(VerificationMaterial::PublicKey { hint: None, old: false }, envelope, Evidence::default());
    let answer = bundle.verify(&KeyVerifier::new(key.public_key()));
    assert!(matches!(answer, Err(VerifyError::Signature(SignatureError::Invalid))));
}

#[test]
fn another_key_and_another_method_are_named() {
    let key = PrivateKey::generate(Curve::P256).unwrap();
    let other = PrivateKey::generate(Curve::P256).unwrap().public_key();
    let payload = statement().into_bytes();
    let envelope = Envelope { signature: key.sign(&pae(&payload)).unwrap(), payload };
    let hint = Some(key.public_key().hint().to_uppercase());
    let bundle =
        Bundle::new(VerificationMaterial::PublicKey { hint, old: false }, envelope.clone(), Evidence::default());
    assert!(bundle.verify(&KeyVerifier::new(key.public_key())).is_ok(), "the case of the hint does not matter");
    let answer = bundle.verify(&KeyVerifier::new(other.clone()));
    assert!(matches!(answer, Err(VerifyError::Signature(SignatureError::OtherKey { .. }))));
    let unnamed = VerificationMaterial::PublicKey { hint: None, old: false };
    let answer = Bundle::new(unnamed, envelope.clone(), Evidence::default()).verify(&KeyVerifier::new(other.clone()));
    assert!(matches!(answer, Err(VerifyError::Signature(SignatureError::Invalid))));
    let answer = Bundle::new(VerificationMaterial::Certificate(vec![]), envelope, Evidence::default())
        .verify(&KeyVerifier::new(other));
    assert!(matches!(answer, Err(VerifyError::Signature(SignatureError::OtherMethod { found: "sigstore", .. }))));
}

#[test]
fn a_model_that_lies_elsewhere_than_when_the_policy_was_asked_gives_no_answer() {
    use crate::device::DeviceKind;
    use crate::device::cpu::Silent;
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().canonicalize().unwrap();
    for model in ["first", "second"] {
        std::fs::create_dir(home.join(model)).unwrap();
        std::fs::write(home.join(model).join("it's"), "abc").unwrap();
    }
    let link = home.join("link");
    std::os::unix::fs::symlink("second", &link).unwrap();
    let key = PrivateKey::generate(Curve::P256).unwrap();
    let payload = statement().into_bytes();
    let envelope = Envelope { signature: key.sign(&pae(&payload)).unwrap(), payload };
    let bundle = Bundle::new(VerificationMaterial::PublicKey { hint: None, old: false }, envelope, Evidence::default());
    let signed = bundle.verify(&KeyVerifier::new(key.public_key())).unwrap();
    let options = VerifyOptions { symlinks: SymlinkPolicy::Inside, ..VerifyOptions::default() };
    let device = Device::open(DeviceKind::Cpu).unwrap();
    let run = |resolved: &Path| {
        let check = model::Check {
            model: &link,
            resolved: Some(resolved),
            signatures: &[],
            bundle: &bundle,
            signed: &signed,
            options: &options,
            device: &device,
            kind: device.kind(),
            progress: &Silent,
            begun: Instant::now(),
        };
        model::run(&check, &[], &mut Nobody)
    };
    assert!(run(&home.join("second")).is_ok());
    let error = run(&home.join("first")).unwrap_err();
    assert!(matches!(&error, Error::FileChanged { .. }) && error.refusal().is_none(), "{error}");
    assert!(error.to_string().contains("when the policy was asked"), "{error}");
}
