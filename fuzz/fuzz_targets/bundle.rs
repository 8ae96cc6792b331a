//! Any bytes as a bundle file.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tensorseal::bundle::{Bundle, VerificationMaterial};
use tensorseal::key::PublicKey;
use tensorseal::verify::KeyVerifier;

/// The seeds with a true signature, and the key that they verify with, whose private half is in `examples/seeds.rs`.
static SIGNED: LazyLock<(Vec<Vec<u8>>, KeyVerifier)> = LazyLock::new(|| {
    let key = PublicKey::from_pem(include_bytes!("../seeds/key_pem/public")).expect("a seed");
    let verifier = KeyVerifier::new(key);
    let seeds: [&[u8]; 3] = [
        include_bytes!("../seeds/bundle/files"),
        include_bytes!("../seeds/bundle/single"),
        include_bytes!("../seeds/bundle/shards"),
    ];
    let signed = seeds.map(|seed| {
        let bundle = Bundle::parse(seed).expect("a seed");
        bundle.verify(&verifier).expect("the seed's own signature");
        bundle.envelope().pae()
    });
    (signed.to_vec(), verifier)
});

fuzz_target!(|data: &[u8]| {
    let Ok(bundle) = Bundle::parse(data) else { return };
    let written = bundle.to_json();
    let again = Bundle::parse(&written).expect("what we write, we read");
    assert_eq!(again.envelope(), bundle.envelope());
    assert_eq!(again.to_json(), written);
    match (bundle.material(), again.material()) {
        // That a key lay in the bundle, as before 1.1, is not written again.
        (VerificationMaterial::PublicKey { hint, .. }, VerificationMaterial::PublicKey { hint: again, old: false }) => {
            assert_eq!(hint, again);
        }
        (material, again) => assert_eq!(material, again),
    }

    let payload = invariants::payload_of(&bundle);
    let old = bundle.envelope().old_pae();
    assert!(old.starts_with(b"DSSEV1 28 ") && old.is_ascii() && !old.contains(&b'\n'));
    if let Ok(manifest) = bundle.unverified_manifest() {
        invariants::check(&manifest, &payload);
    }
    // Only a signed text may ever verify, whatever else was altered around it.
    let (signed, verifier) = &*SIGNED;
    if let Ok(manifest) = bundle.verify(verifier) {
        assert!(signed.contains(&bundle.envelope().pae()));
        invariants::check(&manifest, &payload);
    }
});
