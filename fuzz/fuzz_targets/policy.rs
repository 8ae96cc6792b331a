//! Any text as a policy: reading it has one result, and no policy accepts a signature by a key that nobody else has.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tensorseal::device::cpu::Silent;
use tensorseal::key::{Curve, PrivateKey};
use tensorseal::policy::{Policy, verify_with_policy};
use tensorseal::sign::KeySigner;
use tensorseal::{Device, DeviceKind, Error, SignOptions, VerifyOptions, sign};

/// A model, and a signature by a key that is made for this run and thrown away.
fn signed() -> &'static (PathBuf, PathBuf, Device) {
    static SIGNED: OnceLock<(PathBuf, PathBuf, Device)> = OnceLock::new();
    SIGNED.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("fuzz-policy-{}", std::process::id()));
        let (model, signature) = (folder.join("model"), folder.join("model.sig"));
        fs::create_dir_all(&model).expect("a folder");
        fs::write(model.join("weights"), "weights").expect("a file");
        let device = Device::open(DeviceKind::Cpu).expect("the CPU");
        let signer = KeySigner::new(PrivateKey::generate(Curve::P256).expect("a key"));
        let made = sign(&model, &signature, &signer, &SignOptions::default(), &device, &Silent).expect("a signature");
        made.write(&signature).expect("a file");
        (model, signature, device)
    })
}

fuzz_target!(|text: &str| {
    // No file is there: what can be read is in the text.
    let base = Path::new("/nonexistent");
    let read = Policy::parse(text, base);
    match (&read, &Policy::parse(text, base)) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
        _ => panic!("read once, and not again"),
    }
    match read {
        Ok(policy) => {
            // What changes no meaning changes nothing but lines.
            assert!(Policy::parse(&format!("{text}\n# the end"), base).is_ok());
            let (model, signature, device) = signed();
            for path in [model.as_path(), Path::new("/")] {
                let answer =
                    verify_with_policy(path, &[signature], &policy, &VerifyOptions::default(), device, &Silent);
                assert!(matches!(answer, Err(Error::Verify(_))), "accepted, or no answer: {answer:?}");
            }
        }
        Err(error) => {
            let said = error.to_string();
            assert!(!said.contains('\n') && said.len() < 100_000, "{said}");
        }
    }
});
