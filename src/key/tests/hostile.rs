//! Keys that nobody should accept, and files made to break the reader.

use proptest::prelude::*;

use super::super::der::{self, DerFault};
use super::super::{oid, public};
use super::*;

/// ECPrivateKey of a named curve.
pub(super) fn sec1(curve: Curve, scalar: &[u8], public: Option<&[u8]>) -> Vec<u8> {
    let named = der::write(der::CONTEXT_0, &[&der::write(der::OID, &[curve.oid()])]);
    let public = public.map(|point| der::write(der::CONTEXT_1, &[&der::write(der::BIT_STRING, &[&[0], point])]));
    let public = public.unwrap_or_default();
    der::write(der::SEQUENCE, &[&[2, 1, 1], &der::write(der::OCTET_STRING, &[scalar]), &named, &public]).to_vec()
}

fn read_sec1(curve: Curve, scalar: &[u8], public: Option<&[u8]>) -> Result<PrivateKey, KeyError> {
    plain(&pem("EC PRIVATE KEY", &sec1(curve, scalar, public)))
}

fn spki(curve: Curve, point: &[u8]) -> Vec<u8> {
    let point = der::write(der::BIT_STRING, &[&[0], point]);
    der::write(der::SEQUENCE, &[&public::algorithm(curve), &point]).to_vec()
}

#[test]
fn scalars_are_between_one_and_the_order() {
    for curve in Curve::ALL {
        let invalid = Some(KeyError::InvalidScalar { curve });
        let order = curve.domain().n;
        let mut below = order.to_vec();
        *below.last_mut().unwrap() -= 1;
        let key = read_sec1(curve, &below, None).unwrap();
        // (n - 1) G = -G: the same x, the other y.
        assert_eq!(&key.public_key().to_point()[1..=order.len()], curve.domain().x);
        assert_ne!(&key.public_key().to_point()[1 + order.len()..], curve.domain().y);
        // One, with and without its zeros: G itself.
        let one = [&vec![0; order.len() - 1][..], &[1]].concat();
        for one in [&one[..], &[1], &[0, 1]] {
            let key = read_sec1(curve, one, None).unwrap();
            assert_eq!(key.public_key().to_point(), [&[4], curve.domain().x, curve.domain().y].concat());
        }
        assert_eq!(read_sec1(curve, order, None).err(), invalid);
        assert_eq!(read_sec1(curve, &vec![0xff; order.len()], None).err(), invalid);
        assert_eq!(read_sec1(curve, &vec![0; order.len()], None).err(), invalid);
        assert_eq!(read_sec1(curve, &[], None).err(), invalid);
        assert_eq!(read_sec1(curve, &[&[0], &one[..]].concat(), None).err(), invalid);
    }
}

#[test]
fn points_are_on_the_curve_and_well_encoded() {
    for curve in Curve::ALL {
        let domain = curve.domain();
        let invalid = Err(KeyError::InvalidPoint { curve });
        let odd = domain.y.last().unwrap() & 1;
        let read = |form: u8, parts: &[&[u8]]| {
            PublicKey::from_spki_der(&spki(curve, &[&[form], &parts.concat()[..]].concat()))
        };
        let base = read(4, &[domain.x, domain.y]).unwrap();
        assert_eq!(read(2 + odd, &[domain.x]), Ok(base.clone()));
        assert_eq!(read(6 + odd, &[domain.x, domain.y]), Ok(base.clone()));
        assert_ne!(read(3 - odd, &[domain.x]), Ok(base), "the other point with this x");
        // The hybrid form's bit contradicts y.
        assert_eq!(read(7 - odd, &[domain.x, domain.y]), invalid);
        assert_eq!(read(4, &[domain.x, domain.x]), invalid);
        assert_eq!(read(4, &[domain.x, domain.p]), invalid);
        assert_eq!(read(2, &[domain.p]), invalid);
        assert_eq!(read(4, &[domain.x]), invalid);
        assert_eq!(read(2, &[domain.x, domain.y]), invalid);
        assert_eq!(read(4, &[domain.x, domain.y, &[0]]), invalid);
        // Infinity, "compact", and forms that do not exist.
        assert_eq!(read(0, &[]), invalid);
        for form in [0, 1, 5, 8, 0xff] {
            assert_eq!(read(form, &[domain.x]), invalid, "{form}");
            assert_eq!(read(form, &[domain.x, domain.y]), invalid, "{form}");
        }
        assert_eq!(PublicKey::from_spki_der(&spki(curve, &[])), invalid);
    }
}

#[test]
fn a_public_key_that_is_not_the_private_keys_is_refused() {
    for curve in Curve::ALL {
        let scalar = [7];
        let own = read_sec1(curve, &scalar, None).unwrap().public_key().to_point();
        let other = read_sec1(curve, &[8], None).unwrap().public_key().to_point();
        assert!(read_sec1(curve, &scalar, Some(&own)).is_ok());
        assert_eq!(read_sec1(curve, &scalar, Some(&other)).err(), Some(KeyError::PublicKeyMismatch));
        assert_eq!(read_sec1(curve, &scalar, Some(&own[1..])).err(), Some(KeyError::InvalidPoint { curve }));
        // RFC 5958 has a second place for it.
        let inner = der::write(der::OCTET_STRING, &[&sec1(curve, &scalar, Some(&own))]);
        let outer = |version, point: &[u8]| {
            let point = der::write(der::CONTEXT_1_PRIMITIVE, &[&[0], point]);
            let parts = [&[2, 1, version], &public::algorithm(curve)[..], &inner, &point];
            plain(&pem("PRIVATE KEY", &der::write(der::SEQUENCE, &parts)))
        };
        assert!(outer(1, &own).is_ok());
        assert_eq!(outer(1, &other).err(), Some(KeyError::PublicKeyMismatch));
        assert_eq!(outer(2, &own).err(), Some(KeyError::Malformed(DerFault::Version)));
    }
}

#[test]
fn a_file_names_one_curve() {
    let [p256, p384] = [Curve::P256, Curve::P384].map(|curve| der::write(der::OID, &[curve.oid()]));
    let key = |curve| pem("EC PRIVATE KEY", &sec1(curve, &[7], None));
    let nameless = der::write(der::SEQUENCE, &[&[2, 1, 1, 4, 1, 7]]);
    let nameless = pem("EC PRIVATE KEY", &nameless);
    let contradiction = Some(KeyError::ContradictoryCurves { first: Curve::P384, second: Curve::P256 });

    let file = [pem("EC PARAMETERS", &p384), key(Curve::P256)].concat();
    assert_eq!(plain(&file).err(), contradiction);
    let inside = der::write(der::OCTET_STRING, &[&sec1(Curve::P256, &[7], None)]);
    let pkcs8 = der::write(der::SEQUENCE, &[&[2, 1, 0], &public::algorithm(Curve::P384), &inside]);
    assert_eq!(plain(&pem("PRIVATE KEY", &pkcs8)).err(), contradiction);
    let pkcs8 = der::write(der::SEQUENCE, &[&[2, 1, 0], &public::algorithm(Curve::P256), &inside]);
    let pkcs8 = pem("PRIVATE KEY", &pkcs8);
    assert!(plain(&pkcs8).is_ok());
    assert_eq!(plain(&[pem("EC PARAMETERS", &p384), pkcs8].concat()).err(), contradiction);

    assert_eq!(plain(&nameless).err(), Some(KeyError::MissingCurve));
    let named_before = plain(&[pem("EC PARAMETERS", &p256), nameless].concat());
    assert_same("named before", named_before, &plain(&key(Curve::P256)).unwrap());

    // implicitCA: "the curve is the one we all know".
    let inherited = der::write(der::SEQUENCE, &[&der::write(der::OID, &[oid::EC_PUBLIC_KEY]), &[der::NULL, 0]]);
    let point = der::write(der::BIT_STRING, &[&[0, 4]]);
    let inherited = der::write(der::SEQUENCE, &[&inherited, &point]);
    assert_eq!(PublicKey::from_spki_der(&inherited), Err(KeyError::MissingCurve));
}

#[test]
fn spelled_out_parameters_are_a_known_curves_to_the_last_bit() {
    for curve in Curve::ALL {
        let folder = Folder::new();
        folder.openssl(&format!("ecparam -name {} -genkey -noout -out key", openssl_name(curve)));
        folder.openssl("ec -in key -pubout -param_enc explicit -out pub");
        let spki = der_of(&folder.read("pub"));
        assert!(PublicKey::from_spki_der(&spki).is_ok());
        let domain = curve.domain();
        // b of P-521 begins with a zero byte, which OpenSSL may leave out.
        for number in [domain.p, domain.a, domain.b, domain.x, domain.y, domain.n] {
            let number = &number[2..];
            let at = spki.windows(number.len()).position(|bytes| bytes == number).unwrap();
            for bit in [1, 0x40] {
                let mut forged = spki.clone();
                forged[at + number.len() - 1] ^= bit;
                assert_eq!(PublicKey::from_spki_der(&forged), Err(KeyError::UnknownParameters));
            }
        }
        let order_end = spki.windows(40 - 8).position(|bytes| domain.n.ends_with(bytes)).unwrap() + 32;
        assert_eq!(spki[order_end..order_end + 3], [2, 1, 1], "the cofactor");
        let mut forged = spki.clone();
        forged[order_end + 2] = 2;
        assert_eq!(PublicKey::from_spki_der(&forged), Err(KeyError::UnknownParameters));
    }
}

#[test]
fn der_that_could_be_written_otherwise_is_refused() {
    let key = PrivateKey::generate(Curve::P256).unwrap();
    let spki = key.public_key().to_spki_der();
    let pkcs8 = der_of(key.to_pem(None).unwrap().as_bytes());
    let public = |der: &[u8]| PublicKey::from_pem(&pem("PUBLIC KEY", der)).err();
    let private = |der: &[u8]| plain(&pem("PRIVATE KEY", der)).err();
    assert_eq!((public(&spki), private(&pkcs8)), (None, None));
    assert_eq!(public(&[&spki[..], &[0]].concat()), Some(KeyError::Malformed(DerFault::TrailingData)));
    assert_eq!(private(&[&pkcs8[..], &[0]].concat()), Some(KeyError::Malformed(DerFault::TrailingData)));
    assert_eq!(public(&spki[..spki.len() - 1]), Some(KeyError::Malformed(DerFault::Truncated)));
    // The same, with one byte of length more than is needed; and inside the outer SEQUENCE.
    assert_eq!(spki[1], 0x59);
    let long = [&[0x30, 0x81], &spki[1..]].concat();
    assert_eq!(public(&long), Some(KeyError::Malformed(DerFault::Length)));
    let inside = der::write(der::SEQUENCE, &[&spki[2..], &[5, 0]]);
    assert_eq!(public(&inside), Some(KeyError::Malformed(DerFault::TrailingData)));
    let at = spki.len() - 66;
    assert_eq!(spki[at..at + 2], [0, 4], "unused bits, then the point");
    let mut bits = spki;
    bits[at] = 1;
    assert_eq!(public(&bits), Some(KeyError::Malformed(DerFault::BitString)));
    assert_eq!(private(&pkcs8[..40]), Some(KeyError::Malformed(DerFault::Truncated)));
    assert_eq!(private(&[4, 0]), Some(KeyError::Malformed(DerFault::Tag { expected: 0x30, found: 4 })));
}

#[test]
fn a_high_s_is_accepted() {
    let key = PrivateKey::generate(Curve::P256).unwrap();
    let signature = p256::ecdsa::Signature::from_der(&key.sign(MESSAGE).unwrap()).unwrap();
    let (r, s) = signature.split_scalars();
    for s in [s, -s] {
        let signature = p256::ecdsa::Signature::from_scalars(r, s).unwrap();
        assert_eq!(key.public_key().verify(MESSAGE, signature.to_der().as_bytes()), Ok(()));
    }
}

/// Reads `file` as everything it might be. Encrypted files are opened, too.
fn read_as_everything(file: &[u8]) {
    let _ = PrivateKey::is_encrypted(file);
    let _ = PrivateKey::from_pem(file, &mut || Ok(Zeroizing::new("secret".to_owned())));
    let _ = PublicKey::from_pem(file);
    let _ = PublicKey::from_spki_der(file);
}

fn corpus() -> &'static [Vec<u8>] {
    static CORPUS: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    CORPUS.get_or_init(|| {
        let folder = Folder::new();
        folder.openssl("ecparam -name prime256v1 -genkey -out 0");
        folder.openssl("ec -in 0 -param_enc explicit -out 1");
        folder.openssl("pkcs8 -topk8 -nocrypt -in 0 -out 2");
        folder.openssl("pkcs8 -topk8 -in 0 -v2 aes-256-cbc -iter 1 -passout pass:secret -out 3");
        folder.openssl("pkcs8 -topk8 -in 0 -scrypt -scrypt_N 2 -scrypt_r 1 -passout pass:secret -out 4");
        folder.openssl("ec -in 0 -aes256 -passout pass:secret -out 5");
        folder.openssl("ec -in 0 -pubout -out 6");
        folder.openssl("ec -in 0 -pubout -param_enc explicit -conv_form hybrid -out 7");
        (0..8).map(|name| folder.read(&name.to_string())).collect()
    })
}

proptest! {
    #[test]
    fn random_bytes_never_panic(label in "[A-Z ]{0,8}(PRIVATE|PUBLIC) KEY", bytes: Vec<u8>) {
        read_as_everything(&bytes);
        for label in [&label, "PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "PUBLIC KEY", "EC PARAMETERS"] {
            read_as_everything(&pem(label, &bytes));
        }
    }

    #[test]
    fn mutated_files_never_panic(which in 0..8_usize, changes: Vec<(prop::sample::Index, u8)>, inside: bool) {
        let file = &corpus()[which];
        let blocks = pem::blocks(file).unwrap();
        let block = blocks.last().unwrap();
        let mut bytes = if inside { block.decode().unwrap().to_vec() } else { file.clone() };
        for (at, byte) in changes.into_iter().take(4) {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_as_everything(&if inside { pem(&block.label(), &bytes) } else { bytes });
    }
}
