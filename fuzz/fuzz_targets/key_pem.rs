//! Any bytes as a key file: as they are, and, so that mutations reach what lies under base64, as DER under each label.
//!
//! Turning a password into a key is slow by design (up to seconds within the caps), and its result is chance: it is
//! left out here, but everything that is read before, costs included, is not.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use tensorseal::key::{KeyError, PasswordError, PrivateKey, PublicKey};

fuzz_target!(|data: &[u8]| {
    if data.starts_with(b"-----") || data.is_empty() {
        check(data);
        return;
    }
    let labels = ["PUBLIC KEY", "PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "EC PARAMETERS"];
    let label = labels[usize::from(data[0]) % labels.len()];
    check(format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(&data[1..])).as_bytes());
});

fn check(pem: &[u8]) {
    if let Ok(key) = PublicKey::from_pem(pem) {
        let text = key.to_pem();
        let again = PublicKey::from_pem(text.as_bytes()).expect("what we write, we read");
        assert_eq!((&again, again.to_pem()), (&key, text));
        assert_eq!(PublicKey::from_spki_der(&key.to_spki_der()).as_ref(), Ok(&key));
    }

    let mut asked = 0;
    let found = PrivateKey::from_pem(pem, &mut || {
        asked += 1;
        Err(PasswordError::NotGiven)
    });
    assert!(asked <= 1 && (asked == 0 || PrivateKey::is_encrypted(pem)), "asked once, and for good reason");
    assert_eq!(asked == 1, matches!(found, Err(KeyError::Password(_))), "no key without the password");
    if asked == 1 && !pem.windows(20).any(|text| text == b"BEGIN ENCRYPTED PRIV") {
        // The form of old OpenSSL: one MD5, so it costs nothing to go on.
        written(PrivateKey::from_pem(pem, &mut || Ok("password".to_owned().into())));
    }
    written(found);
}

fn written(found: Result<PrivateKey, KeyError>) {
    let Ok(key) = found else { return };
    let text = key.to_pem(None).expect("no randomness is needed");
    let again = PrivateKey::from_pem(text.as_bytes(), &mut || Err(PasswordError::NotGiven)).expect("we read it");
    assert_eq!(again.public_key(), key.public_key());
    assert_eq!(*again.to_pem(None).expect("as above"), *text);
}
