//! Any bytes as a certificate: as PEM, as they are, and in the place of the leaf or of the intermediate of a good chain.
//!
//! What is accepted under the root of the seeds must be signed there: its signed part is that of a seed, byte for byte.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tensorseal::time::UnixTime;
use tensorseal::x509::{Certificate, EkuRule, MAX_PER_FILE, PathOptions, SignatureHash, validate, verify_signature};

static LEAF: LazyLock<Certificate> = LazyLock::new(|| seed(include_bytes!("../seeds/certificate/leaf")));
static INTERMEDIATE: LazyLock<Certificate> =
    LazyLock::new(|| seed(include_bytes!("../seeds/certificate/intermediate")));
static ROOT: LazyLock<Certificate> = LazyLock::new(|| seed(include_bytes!("../seeds/certificate/root")));

fn seed(der: &[u8]) -> Certificate {
    Certificate::from_der(der).expect("a seed")
}

/// 2026-06-01, at which the seeds are valid.
const THEN: UnixTime = UnixTime(1_780_272_000);

fuzz_target!(|data: &[u8]| {
    if let Ok(certificates) = Certificate::all_from_pem(data) {
        assert!((1..=MAX_PER_FILE).contains(&certificates.len()));
        certificates.iter().for_each(check);
        if let [leaf, others @ ..] = &certificates[..] {
            let _ = validate(leaf, others, &certificates, &PathOptions::at(THEN));
        }
    }
    if let Ok(certificate) = Certificate::from_der(data) {
        assert_eq!(certificate.der(), data, "nothing is left out");
        check(&certificate);
    }
});

fn check(certificate: &Certificate) {
    let again = Certificate::from_der(certificate.der()).expect("what was read can be read");
    assert_eq!(&again, certificate);
    assert_eq!(again.fingerprint(), certificate.fingerprint());
    assert_eq!(
        (again.subject(), again.issuer(), again.serial()),
        (certificate.subject(), certificate.issuer(), certificate.serial())
    );
    assert_eq!(again.names(), certificate.names());
    let text = certificate.names().iter().map(ToString::to_string).collect::<String>()
        + &certificate.subject()
        + &certificate.issuer();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(!format!("{certificate:?}").is_empty() && certificate.spki_der().len() < certificate.der().len());
    let _ = certificate.public_key();
    for hash in [SignatureHash::OfCurve, SignatureHash::Sha256] {
        assert!(verify_signature(certificate, b"message", certificate.der(), hash).is_err());
    }

    let seeds = [&*LEAF, &*INTERMEDIATE, &*ROOT];
    let known = |one: &Certificate| seeds.iter().any(|seed| signed(seed.der()) == signed(one.der()));
    for eku in [EkuRule::CodeSigningIfPresent, EkuRule::Any] {
        let options = PathOptions { eku, ..PathOptions::at(THEN) };
        let roots = [ROOT.clone()];
        let others = [certificate.clone(), INTERMEDIATE.clone()];
        if let Ok(path) = validate(certificate, &others, &roots, &options) {
            assert!(path.certificates().all(known), "{certificate:?} was accepted");
        }
        if let Ok(path) = validate(&LEAF, &others[..1], &roots, &options) {
            assert!(path.certificates().all(known), "{certificate:?} was accepted as a CA");
        }
        // Whom the caller trusts may issue; it must still not make anything panic or hang.
        let _ = validate(certificate, &others, &[certificate.clone(), ROOT.clone()], &options);
        let _ = validate(&LEAF, &others, std::slice::from_ref(certificate), &options);
    }
}

/// The first value in the outer SEQUENCE.
fn signed(der: &[u8]) -> &[u8] {
    let inner = &der[header(der).0..];
    let (start, len) = header(inner);
    &inner[..start + len]
}

/// Length of the identifier and length octets, and of the content.
fn header(der: &[u8]) -> (usize, usize) {
    match der[1] {
        short @ 0..0x80 => (2, usize::from(short)),
        long => {
            let count = usize::from(long & 0x7f);
            (2 + count, der[2..2 + count].iter().fold(0, |len, byte| len << 8 | usize::from(*byte)))
        }
    }
}
