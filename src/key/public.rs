//! Public keys.

use std::fmt;

use p256::ecdsa::signature::Verifier as _;
use sha2::{Digest as _, Sha256};

use super::der::{self, Reader};
use super::{Curve, KeyError, oid, pem};
use crate::digest::hex;

/// A point of one of the three curves, which signatures are verified against.
///
/// Two keys are equal if they are the same point of the same curve, in whatever form they were read.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Point);

#[derive(Clone, PartialEq, Eq)]
enum Point {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
}

/// The signature is not one of this key over this message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not belong to this message and key; verify with the signer's key, over what was signed")]
pub struct BadSignature;

impl PublicKey {
    /// Reads a `BEGIN PUBLIC KEY` file, with the point in any form and the curve named or spelled out.
    ///
    /// # Errors
    /// If the file holds something else (a certificate or a private key is told by name), several public keys, a key
    /// that is not on one of the three curves, or one that is malformed.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let blocks = pem::blocks(pem)?;
        let mut keys = blocks.iter().filter(|block| block.is("PUBLIC KEY"));
        match (keys.next(), keys.count()) {
            (Some(key), 0) => Self::from_spki_der(&key.decode()?),
            (Some(_), others) => Err(KeyError::SeveralKeys { count: others + 1 }),
            (None, _) => Err(not_a_public_key(&blocks)),
        }
    }

    /// Reads a DER SubjectPublicKeyInfo, as certificates hold one.
    ///
    /// # Errors
    /// If the key is not on one of the three curves, or is malformed.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, KeyError> {
        let mut key = der::whole_sequence(spki)?;
        let curve = curve_of_algorithm(key.sequence()?)?;
        let point = der::bits(key.value(der::BIT_STRING)?)?;
        key.finish()?;
        Self::from_point(curve, point)
    }

    /// Reads a point compressed (2, 3), uncompressed (4) or hybrid (6, 7: uncompressed, with the compressed form's bit).
    pub(super) fn from_point(curve: Curve, point: &[u8]) -> Result<Self, KeyError> {
        let invalid = KeyError::InvalidPoint { curve };
        let len = curve.field_len();
        let uncompressed;
        let point = match point.split_first() {
            Some((2 | 3, x)) if x.len() == len => point,
            Some((4, xy)) if xy.len() == 2 * len => point,
            Some((form @ (6 | 7), xy)) if xy.len() == 2 * len && (form ^ xy[2 * len - 1]) & 1 == 0 => {
                uncompressed = [&[4], xy].concat();
                &uncompressed
            }
            _ => return Err(invalid),
        };
        let point = match curve {
            Curve::P256 => p256::ecdsa::VerifyingKey::from_sec1_bytes(point).map(Point::P256),
            Curve::P384 => p384::ecdsa::VerifyingKey::from_sec1_bytes(point).map(Point::P384),
            Curve::P521 => p521::ecdsa::VerifyingKey::from_sec1_bytes(point).map(Point::P521),
        };
        point.map(Self).map_err(|_| invalid)
    }

    /// Reads `CKA_EC_PARAMS` and `CKA_EC_POINT` (PKCS#11 v3.1, section 6.3.3): DER ECParameters, and the point in a DER
    /// OCTET STRING, or, from tokens that do not keep to that, as it is. No point has the length of another one's DER.
    #[cfg(feature = "pkcs11")]
    pub(crate) fn from_token(parameters: &[u8], point: &[u8]) -> Result<Self, KeyError> {
        let mut reader = Reader::new(parameters);
        let (tag, content) = reader.any()?;
        reader.finish()?;
        let curve = Curve::from_parameters(tag, content)?;
        let mut reader = Reader::new(point);
        match reader.value(der::OCTET_STRING) {
            Ok(inner) if reader.is_empty() => Self::from_point(curve, inner),
            _ => Self::from_point(curve, point),
        }
    }

    /// The DER form of a signature that is r and s one after another, as tokens give it; whether it is this key's is not
    /// looked at. Some tokens leave leading zeros out of both halves (PKCS#11 v3.1, section 6.3.1).
    #[cfg(feature = "pkcs11")]
    pub(crate) fn signature_of_halves(&self, halves: &[u8]) -> Option<Vec<u8>> {
        let len = self.curve().field_len();
        let (r, s) = halves.split_at_checked(halves.len() / 2).filter(|(r, s)| r.len() == s.len() && r.len() <= len)?;
        let mut whole = vec![0; 2 * len];
        whole[len - r.len()..len].copy_from_slice(r);
        whole[2 * len - s.len()..].copy_from_slice(s);
        let der = match self.0 {
            Point::P256(_) => p256::ecdsa::Signature::from_slice(&whole).ok()?.to_der().as_bytes().to_vec(),
            Point::P384(_) => p384::ecdsa::Signature::from_slice(&whole).ok()?.to_der().as_bytes().to_vec(),
            Point::P521(_) => p521::ecdsa::Signature::from_slice(&whole).ok()?.to_der().as_bytes().to_vec(),
        };
        Some(der)
    }

    pub(super) const fn of256(key: p256::ecdsa::VerifyingKey) -> Self {
        Self(Point::P256(key))
    }

    pub(super) const fn of384(key: p384::ecdsa::VerifyingKey) -> Self {
        Self(Point::P384(key))
    }

    pub(super) const fn of521(key: p521::ecdsa::VerifyingKey) -> Self {
        Self(Point::P521(key))
    }

    /// The curve that the key is on.
    #[must_use]
    pub const fn curve(&self) -> Curve {
        match self.0 {
            Point::P256(_) => Curve::P256,
            Point::P384(_) => Curve::P384,
            Point::P521(_) => Curve::P521,
        }
    }

    /// The uncompressed point: 4, x, y.
    pub(crate) fn to_point(&self) -> Vec<u8> {
        match &self.0 {
            Point::P256(key) => key.to_sec1_point(false).as_bytes().to_vec(),
            Point::P384(key) => key.to_sec1_point(false).as_bytes().to_vec(),
            Point::P521(key) => key.to_sec1_point(false).as_bytes().to_vec(),
        }
    }

    /// DER SubjectPublicKeyInfo (RFC 5480) with a named curve and an uncompressed point.
    #[must_use]
    pub fn to_spki_der(&self) -> Vec<u8> {
        let key = der::write(der::BIT_STRING, &[&[0], &self.to_point()]);
        der::write(der::SEQUENCE, &[&algorithm(self.curve()), &key]).to_vec()
    }

    /// The text that `openssl ec -pubout` writes, whatever form the key was read from.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::write("PUBLIC KEY", &self.to_spki_der()).to_string()
    }

    /// What bundles know the key by: the SHA-256 of [`to_pem`](Self::to_pem) in lower-case hexadecimal, which is
    /// `sha256sum` of the file that OpenSSL writes.
    #[must_use]
    pub fn hint(&self) -> String {
        hex(&Sha256::digest(self.to_pem()))
    }

    /// Checks an ECDSA signature over the curve's own hash of `message`. The signature must be strict DER; both values
    /// of s that fit are taken, as OpenSSL takes them and makes them.
    ///
    /// # Errors
    /// If the signature is not this key's over this message. Why is not told: there is nothing to be done about it.
    pub fn verify(&self, message: &[u8], der_signature: &[u8]) -> Result<(), BadSignature> {
        match &self.0 {
            Point::P256(key) => {
                p256::ecdsa::Signature::from_der(der_signature).and_then(|signature| key.verify(message, &signature))
            }
            Point::P384(key) => {
                p384::ecdsa::Signature::from_der(der_signature).and_then(|signature| key.verify(message, &signature))
            }
            Point::P521(key) => {
                p521::ecdsa::Signature::from_der(der_signature).and_then(|signature| key.verify(message, &signature))
            }
        }
        .map_err(|_| BadSignature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, {})", self.curve(), self.hint())
    }
}

/// DER AlgorithmIdentifier of an elliptic-curve key.
pub(super) fn algorithm(curve: Curve) -> Vec<u8> {
    let algorithm = der::write(der::OID, &[oid::EC_PUBLIC_KEY]);
    der::write(der::SEQUENCE, &[&algorithm, &der::write(der::OID, &[curve.oid()])]).to_vec()
}

/// Reads what [`algorithm`] writes, and the spelled-out form.
pub(super) fn curve_of_algorithm(mut algorithm: Reader<'_>) -> Result<Curve, KeyError> {
    let found = algorithm.value(der::OID)?;
    if found != oid::EC_PUBLIC_KEY {
        return Err(KeyError::UnsupportedAlgorithm { found: oid::name(found) });
    }
    if algorithm.is_empty() {
        return Err(KeyError::MissingCurve);
    }
    let (tag, parameters) = algorithm.any()?;
    algorithm.finish()?;
    Curve::from_parameters(tag, parameters)
}

fn not_a_public_key(blocks: &[pem::Block<'_>]) -> KeyError {
    let found = |end| blocks.iter().find(|block| block.ends_with(end)).map(pem::Block::label);
    if let Some(found) = found("PRIVATE KEY") {
        let remedy = "never hand out a private key: write its public half with `openssl pkey -in KEY.pem -pubout -out \
                      KEY.pub` and pass that";
        return KeyError::NotAPublicKey { found, remedy };
    }
    if let Some(found) = found("CERTIFICATE") {
        let remedy = "verify with the certificate method, or take the key out with `openssl x509 -in CERT.pem -noout \
                      -pubkey -out KEY.pub` and pass that";
        return KeyError::NotAPublicKey { found, remedy };
    }
    if found("RSA PUBLIC KEY").is_some() {
        return KeyError::UnsupportedAlgorithm { found: "RSA".to_owned() };
    }
    let found = blocks.first().map(pem::Block::label).unwrap_or_default();
    KeyError::NotAPublicKey { found, remedy: "pass the file that `openssl pkey -pubout` wrote" }
}
