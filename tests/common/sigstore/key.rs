//! Keys made from names, so that every run mints the same bytes.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use p256::ecdsa::signature::Signer as _;

use super::der::{bits, oid, sequence};
use super::sha256;

pub(crate) enum Key {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    pub(crate) fn p256(name: &str) -> Self {
        Self::P256(p256::ecdsa::SigningKey::from_slice(&sha256(name.as_bytes())).unwrap())
    }

    pub(crate) fn p384(name: &str) -> Self {
        // Any number below the order will do.
        let scalar = [&[0; 16][..], &sha256(name.as_bytes())].concat();
        Self::P384(p384::ecdsa::SigningKey::from_slice(&scalar).unwrap())
    }

    pub(crate) fn p521(name: &str) -> Self {
        let scalar = [&[0; 34][..], &sha256(name.as_bytes())].concat();
        Self::P521(p521::ecdsa::SigningKey::from_slice(&scalar).unwrap())
    }

    pub(crate) fn ed25519(name: &str) -> Self {
        Self::Ed25519(Ed25519KeyPair::from_seed_unchecked(&sha256(name.as_bytes())).unwrap())
    }

    /// What stands inside of the SubjectPublicKeyInfo.
    pub(crate) fn public(&self) -> Vec<u8> {
        match self {
            Self::P256(key) => key.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
            Self::P384(key) => key.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
            Self::P521(key) => key.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
            Self::Ed25519(key) => key.public_key().as_ref().to_vec(),
        }
    }

    /// SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> Vec<u8> {
        let elliptic = |curve| sequence(&[oid("1.2.840.10045.2.1"), oid(curve)]);
        let algorithm = match self {
            Self::P256(_) => elliptic("1.2.840.10045.3.1.7"),
            Self::P384(_) => elliptic("1.3.132.0.34"),
            Self::P521(_) => elliptic("1.3.132.0.35"),
            Self::Ed25519(_) => sequence(&[oid("1.3.101.112")]),
        };
        sequence(&[algorithm, bits(&self.public())])
    }

    /// The AlgorithmIdentifier of its signatures, which are over SHA-256, 384 and 512 as OMS has it.
    pub(crate) fn algorithm(&self) -> Vec<u8> {
        sequence(&[oid(match self {
            Self::P256(_) => "1.2.840.10045.4.3.2",
            Self::P384(_) => "1.2.840.10045.4.3.3",
            Self::P521(_) => "1.2.840.10045.4.3.4",
            Self::Ed25519(_) => "1.3.101.112",
        })])
    }

    /// Its name in Sigstore's `PublicKeyDetails`.
    pub(crate) fn details(&self) -> &'static str {
        match self {
            Self::P256(_) => "PKIX_ECDSA_P256_SHA_256",
            Self::P384(_) => "PKIX_ECDSA_P384_SHA_384",
            Self::P521(_) => "PKIX_ECDSA_P521_SHA_512",
            Self::Ed25519(_) => "PKIX_ED25519",
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Self::P521(key) => {
                let signature: p521::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}
