//! Signatures: those of issuers over certificates, and those of leaf keys over messages.

use ::der::asn1::{AnyRef, ObjectIdentifier};
use ::der::{Decode, Encode, Tag, Tagged};
use aws_lc_rs::signature::{self as algorithms, UnparsedPublicKey, VerificationAlgorithm};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoRef};

use super::Certificate;
use crate::key::{BadSignature, Curve, KeyError, PublicKey, der, oid};

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");

/// Bits that an RSA modulus may have.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Why a certificate is not validly signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureFault {
    /// Signatures of this kind can be forged.
    #[error("{algorithm} is no longer safe; have the certificate issued anew with SHA-256 or better")]
    Weak {
        /// The algorithm.
        algorithm: String,
    },
    /// An algorithm that is not known here.
    #[error(
        "the signature algorithm {algorithm} is not supported; supported are ECDSA and RSA with SHA-256, -384 and -512"
    )]
    Unsupported {
        /// The algorithm.
        algorithm: String,
    },
    /// Parameters other than the usual ones.
    #[error("the parameters of the signature algorithm {algorithm} are not supported")]
    Parameters {
        /// The algorithm.
        algorithm: String,
    },
    /// The issuer's key is not one that can make such a signature.
    #[error("it is signed with {algorithm}, which the issuer's key ({key}) cannot make")]
    OtherKey {
        /// The signature's algorithm.
        algorithm: String,
        /// The kind of the issuer's key.
        key: String,
    },
    /// An RSA key that is too short to be safe, or longer than is needed.
    #[error("the issuer's RSA key has {bits} bits; from {} to {} are accepted", RSA_BITS.start(), RSA_BITS.end())]
    RsaLength {
        /// Bits of its modulus.
        bits: usize,
    },
    /// The issuer's key cannot be read.
    #[error("the issuer's key cannot be used: {0}")]
    Key(KeyError),
    /// The issuer's RSA key cannot be read.
    #[error("the issuer's RSA key is malformed")]
    RsaKey,
    /// The signature is not the issuer's over this certificate.
    #[error("the signature is not one of this issuer's key over this certificate")]
    Invalid,
}

impl SignatureFault {
    /// Whether the signature was not looked at because signatures of its kind prove nothing any more.
    pub(super) const fn is_weak(&self) -> bool {
        matches!(self, Self::Weak { .. })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    const fn oid(self) -> ObjectIdentifier {
        ObjectIdentifier::new_unwrap(match self {
            Self::Sha256 => "2.16.840.1.101.3.4.2.1",
            Self::Sha384 => "2.16.840.1.101.3.4.2.2",
            Self::Sha512 => "2.16.840.1.101.3.4.2.3",
        })
    }

    const fn len(self) -> u8 {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

#[derive(Clone, Copy)]
enum Scheme {
    Ecdsa(Hash),
    Pkcs1(Hash),
    Pss(Hash),
}

/// Checks the issuer's signature over the signed part of `certificate`, the bytes as they were read.
pub(super) fn check(certificate: &Certificate, issuer: &Certificate) -> Result<(), SignatureFault> {
    let name = || algorithm_name(&certificate.algorithm.oid);
    let scheme = scheme(&certificate.algorithm)?;
    let spki = SubjectPublicKeyInfoRef::from_der(&issuer.spki).map_err(|_| SignatureFault::RsaKey)?;
    let other_key = || SignatureFault::OtherKey { algorithm: name(), key: key_name(&spki.algorithm.oid) };
    let (algorithm, key): (&dyn VerificationAlgorithm, Vec<u8>) = match scheme {
        Scheme::Ecdsa(hash) => {
            if spki.algorithm.oid != EC_PUBLIC_KEY {
                return Err(other_key());
            }
            let key = public_key(&issuer.spki).map_err(SignatureFault::Key)?;
            (ecdsa(key.curve(), hash), key.to_point())
        }
        Scheme::Pkcs1(hash) | Scheme::Pss(hash) => {
            if spki.algorithm.oid != RSA {
                return Err(other_key());
            }
            let algorithm = match (scheme, hash) {
                (Scheme::Pss(_), Hash::Sha256) => &algorithms::RSA_PSS_2048_8192_SHA256,
                (Scheme::Pss(_), Hash::Sha384) => &algorithms::RSA_PSS_2048_8192_SHA384,
                (Scheme::Pss(_), Hash::Sha512) => &algorithms::RSA_PSS_2048_8192_SHA512,
                (_, Hash::Sha256) => &algorithms::RSA_PKCS1_2048_8192_SHA256,
                (_, Hash::Sha384) => &algorithms::RSA_PKCS1_2048_8192_SHA384,
                (_, Hash::Sha512) => &algorithms::RSA_PKCS1_2048_8192_SHA512,
            };
            (algorithm, rsa_key(&spki)?)
        }
    };
    UnparsedPublicKey::new(algorithm, key)
        .verify(certificate.tbs(), &certificate.signature)
        .map_err(|_| SignatureFault::Invalid)
}

fn ecdsa(curve: Curve, hash: Hash) -> &'static dyn VerificationAlgorithm {
    match (curve, hash) {
        (Curve::P256, Hash::Sha256) => &algorithms::ECDSA_P256_SHA256_ASN1,
        (Curve::P256, Hash::Sha384) => &algorithms::ECDSA_P256_SHA384_ASN1,
        (Curve::P256, Hash::Sha512) => &algorithms::ECDSA_P256_SHA512_ASN1,
        (Curve::P384, Hash::Sha256) => &algorithms::ECDSA_P384_SHA256_ASN1,
        (Curve::P384, Hash::Sha384) => &algorithms::ECDSA_P384_SHA384_ASN1,
        (Curve::P384, Hash::Sha512) => &algorithms::ECDSA_P384_SHA512_ASN1,
        (Curve::P521, Hash::Sha256) => &algorithms::ECDSA_P521_SHA256_ASN1,
        (Curve::P521, Hash::Sha384) => &algorithms::ECDSA_P521_SHA384_ASN1,
        (Curve::P521, Hash::Sha512) => &algorithms::ECDSA_P521_SHA512_ASN1,
    }
}

/// RFC 5758 (ECDSA: no parameters), RFC 4055 (RSA: NULL, which some leave out; PSS: see below).
fn scheme(algorithm: &AlgorithmIdentifierOwned) -> Result<Scheme, SignatureFault> {
    let oid = algorithm.oid.to_string();
    let scheme = match oid.as_str() {
        "1.2.840.10045.4.3.2" => Scheme::Ecdsa(Hash::Sha256),
        "1.2.840.10045.4.3.3" => Scheme::Ecdsa(Hash::Sha384),
        "1.2.840.10045.4.3.4" => Scheme::Ecdsa(Hash::Sha512),
        "1.2.840.113549.1.1.11" => Scheme::Pkcs1(Hash::Sha256),
        "1.2.840.113549.1.1.12" => Scheme::Pkcs1(Hash::Sha384),
        "1.2.840.113549.1.1.13" => Scheme::Pkcs1(Hash::Sha512),
        "1.2.840.113549.1.1.10" => {
            let hash = algorithm.parameters.as_ref().and_then(|parameters| {
                let der = parameters.to_der().ok()?;
                Hash::ALL.into_iter().find(|hash| is_pss_of(*hash, &der))
            });
            let algorithm = "RSA-PSS".to_owned();
            return hash.map(Scheme::Pss).ok_or(SignatureFault::Parameters { algorithm });
        }
        "1.2.840.113549.1.1.2"
        | "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.3.14.3.2.29"
        | "1.2.840.10045.4.1"
        | "1.2.840.10040.4.3" => {
            return Err(SignatureFault::Weak { algorithm: algorithm_name(&algorithm.oid) });
        }
        _ => return Err(SignatureFault::Unsupported { algorithm: algorithm_name(&algorithm.oid) }),
    };
    let usual = match (&algorithm.parameters, scheme) {
        (None, _) => true,
        (Some(parameters), Scheme::Pkcs1(_)) => parameters.is_null(),
        _ => false,
    };
    if usual { Ok(scheme) } else { Err(SignatureFault::Parameters { algorithm: algorithm_name(&algorithm.oid) }) }
}

/// RFC 4055, section 3.1, with the parameters that everybody uses: this hash, MGF1 with the same hash, and a salt as
/// long as the hash. Beside a hash stands NULL, or nothing.
fn is_pss_of(hash: Hash, parameters: &[u8]) -> bool {
    [true, false].into_iter().any(|null| {
        let null = if null { der::write(der::NULL, &[]).to_vec() } else { Vec::new() };
        let hash_algorithm = der::write(der::SEQUENCE, &[&identifier(&hash.oid()), &null]);
        let mgf = der::write(der::SEQUENCE, &[&identifier(&MGF1), &hash_algorithm]);
        let salt = der::write(der::INTEGER, &[&[hash.len()]]);
        let usual = der::write(
            der::SEQUENCE,
            &[
                &der::write(der::CONTEXT_0, &[&hash_algorithm]),
                &der::write(der::CONTEXT_1, &[&mgf]),
                &der::write(der::CONTEXT_2, &[&salt]),
            ],
        );
        *usual == *parameters
    })
}

fn identifier(oid: &ObjectIdentifier) -> Vec<u8> {
    der::write(der::OID, &[oid.as_bytes()]).to_vec()
}

/// The RSAPublicKey of a key that is long enough, and not absurdly long (RFC 3279, section 2.3.1).
fn rsa_key(spki: &SubjectPublicKeyInfoRef<'_>) -> Result<Vec<u8>, SignatureFault> {
    let key = spki.subject_public_key.as_bytes().ok_or(SignatureFault::RsaKey)?;
    let malformed = |_| SignatureFault::RsaKey;
    if !spki.algorithm.parameters.is_some_and(AnyRef::is_null) {
        return Err(SignatureFault::RsaKey);
    }
    let mut numbers = der::whole_sequence(key).map_err(malformed)?;
    let modulus = numbers.unsigned().map_err(malformed)?;
    numbers.unsigned().map_err(malformed)?;
    numbers.finish().map_err(malformed)?;
    let leading = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = modulus.len().saturating_mul(8).saturating_sub(leading);
    if RSA_BITS.contains(&bits) { Ok(key.to_vec()) } else { Err(SignatureFault::RsaLength { bits }) }
}

/// An elliptic-curve key as certificates may hold it: the curve is named (RFC 5480, section 2.1.1), the point
/// compressed or uncompressed (section 2.2).
pub(super) fn public_key(spki: &[u8]) -> Result<PublicKey, KeyError> {
    let key = PublicKey::from_spki_der(spki)?;
    let malformed = || KeyError::InvalidPoint { curve: key.curve() };
    let parts = SubjectPublicKeyInfoRef::from_der(spki).map_err(|_| malformed())?;
    if parts.algorithm.parameters.is_none_or(|parameters| parameters.tag() != Tag::ObjectIdentifier) {
        return Err(KeyError::UnsupportedCurve { found: "that it spells out instead of naming it".to_owned() });
    }
    match parts.subject_public_key.as_bytes() {
        Some([2..=4, ..]) => Ok(key),
        _ => Err(malformed()),
    }
}

/// What messages call a signature algorithm.
pub(super) fn algorithm_name(oid: &ObjectIdentifier) -> String {
    let oid = oid.to_string();
    match oid.as_str() {
        "1.2.840.10045.4.1" => "ECDSA with SHA-1",
        "1.2.840.10045.4.3.1" => "ECDSA with SHA-224",
        "1.2.840.10045.4.3.2" => "ECDSA with SHA-256",
        "1.2.840.10045.4.3.3" => "ECDSA with SHA-384",
        "1.2.840.10045.4.3.4" => "ECDSA with SHA-512",
        "1.2.840.113549.1.1.2" => "RSA with MD2",
        "1.2.840.113549.1.1.4" => "RSA with MD5",
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => "RSA with SHA-1",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        "1.2.840.113549.1.1.11" => "RSA with SHA-256",
        "1.2.840.113549.1.1.12" => "RSA with SHA-384",
        "1.2.840.113549.1.1.13" => "RSA with SHA-512",
        "1.2.840.113549.1.1.14" => "RSA with SHA-224",
        "1.2.840.10040.4.3" => "DSA with SHA-1",
        "2.16.840.1.101.3.4.3.2" => "DSA with SHA-256",
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        _ => return oid,
    }
    .to_owned()
}

fn key_name(oid: &ObjectIdentifier) -> String {
    match *oid {
        EC_PUBLIC_KEY => "an elliptic-curve key".to_owned(),
        RSA => "an RSA key".to_owned(),
        _ => oid::name(oid.as_bytes()),
    }
}

/// Which hash a leaf's signature is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureHash {
    /// The one that belongs to the key's curve: SHA-256, SHA-384 or SHA-512.
    OfCurve,
    /// SHA-256 on every curve, as model-signing 0.2 signed with certificates.
    Sha256,
}

/// Why a leaf did not sign a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeafSignatureError {
    /// The leaf's key cannot have signed a model.
    #[error("the certificate's key cannot sign models: {0}")]
    Key(#[from] KeyError),
    /// It was not signed by this key.
    #[error(transparent)]
    Invalid(#[from] BadSignature),
}

/// Checks a DER ECDSA signature of the leaf's key over `message`. Whether the leaf is to be trusted is another
/// question, which [`validate`](super::validate) answers.
///
/// # Errors
/// If the key is of a kind that signs no models, or did not sign this.
pub fn verify_signature(
    leaf: &Certificate,
    message: &[u8],
    signature: &[u8],
    hash: SignatureHash,
) -> Result<(), LeafSignatureError> {
    let key = leaf.public_key()?;
    match hash {
        SignatureHash::OfCurve => key.verify(message, signature)?,
        SignatureHash::Sha256 => UnparsedPublicKey::new(ecdsa(key.curve(), Hash::Sha256), key.to_point())
            .verify(message, signature)
            .map_err(|_| BadSignature)?,
    }
    Ok(())
}
