//! Elliptic-curve keys: reading and writing their files, signing, verifying.
//!
//! Every form that OpenSSL writes as PEM is read. One form is written: PKCS#8 for private keys, SubjectPublicKeyInfo
//! with a named curve and an uncompressed point for public ones, byte for byte what OpenSSL writes, because the hint in
//! a signature is the SHA-256 of that text.
//!
//! ```
//! use tensorseal::key::{BadSignature, Curve, PrivateKey, PublicKey};
//!
//! let key = PrivateKey::generate(Curve::P256)?;
//! let public = PublicKey::from_pem(key.public_key().to_pem().as_bytes())?;
//! let signature = key.sign(b"weights")?;
//! assert_eq!(public.verify(b"weights", &signature), Ok(()));
//! assert_eq!(public.verify(b"Weights", &signature), Err(BadSignature));
//! # Ok::<(), tensorseal::key::KeyError>(())
//! ```

mod curve;
pub(crate) mod der;
mod encrypted;
mod file;
pub(crate) mod oid;
pub(crate) mod pem;
mod private;
mod public;

#[cfg(test)]
mod tests;

pub use crate::output::Existing;
pub use curve::Curve;
pub use der::DerFault;
pub use pem::PemFault;
pub use private::PrivateKey;
pub use public::{BadSignature, PublicKey};

/// Why a key cannot be read, written or used. Each message says what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no PEM block at all.
    #[error(
        "there is no key in PEM form here; if the file is DER, convert it with \
         `openssl pkey -inform DER -in KEY.der -out KEY.pem` (add `-pubin` for a public key)"
    )]
    NotPem,
    /// A PEM block that does not hold together.
    #[error("the PEM block {label:?} is broken: {fault}; restore the file from where it was made")]
    BrokenPem {
        /// What its BEGIN line says.
        label: String,
        /// What is wrong with it.
        fault: PemFault,
    },
    /// Something else, where a public key belongs.
    #[error("expected a public key (`BEGIN PUBLIC KEY`), found {found:?}; {remedy}")]
    NotAPublicKey {
        /// What the BEGIN line says.
        found: String,
        /// How to come by a public key from it.
        remedy: &'static str,
    },
    /// Something else, where a private key belongs.
    #[error("expected a private key, found {found:?}; {remedy}")]
    NotAPrivateKey {
        /// What the BEGIN line says.
        found: String,
        /// How to come by a private key from it.
        remedy: &'static str,
    },
    /// More than one key in a file, and no way to say which.
    #[error("the file holds {count} keys; leave only the one to use in it")]
    SeveralKeys {
        /// How many.
        count: usize,
    },
    /// The bytes in the PEM block are not what its label says.
    #[error("the key is malformed: {0}; make the file anew from the original key")]
    Malformed(#[from] DerFault),
    /// Not an elliptic-curve key.
    #[error(
        "{found} keys are not supported; use an elliptic-curve key on P-256, P-384 or P-521, for example from \
         `openssl ecparam -name prime256v1 -genkey -noout -out KEY.pem`"
    )]
    UnsupportedAlgorithm {
        /// Name or object identifier of its algorithm.
        found: String,
    },
    /// An elliptic curve that OMS does not name.
    #[error("the curve {found} is not supported; use a key on P-256, P-384 or P-521")]
    UnsupportedCurve {
        /// Its name or object identifier.
        found: String,
    },
    /// Curve parameters are spelled out and are not exactly those of a known curve.
    #[error(
        "the key spells out the parameters of a curve that is not P-256, P-384 or P-521; use a key on one of these"
    )]
    UnknownParameters,
    /// No curve is named, or only "inherited from elsewhere".
    #[error("the key does not say which curve it is on; rewrite it with `openssl pkey -in OLD.pem -out NEW.pem`")]
    MissingCurve,
    /// Two places in one file name different curves.
    #[error("the file names two curves, {first} and {second}; export the key again from where it was made")]
    ContradictoryCurves {
        /// The one named first.
        first: Curve,
        /// The one named later.
        second: Curve,
    },
    /// A public point that is badly encoded, not on the curve, or the point at infinity.
    #[error("the public key is no point of the curve {curve}; export the key again from where it was made")]
    InvalidPoint {
        /// The curve that the key names.
        curve: Curve,
    },
    /// A secret scalar that is zero, too large or too long.
    #[error("the private key is out of range for the curve {curve}; export the key again from where it was made")]
    InvalidScalar {
        /// The curve that the key names.
        curve: Curve,
    },
    /// The public key in the file does not belong to the private key beside it.
    #[error(
        "the public key in this file does not belong to its private key; export the key again from where it was made"
    )]
    PublicKeyMismatch,
    /// The key is encrypted in a way that is not read here, most likely because it is no longer safe.
    #[error(
        "keys encrypted with {found} are not supported; re-encrypt it with \
         `openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD.pem -out NEW.pem` (`-provider legacy -provider default` if \
         OpenSSL refuses the old cipher)"
    )]
    UnsupportedEncryption {
        /// The scheme, cipher or function that is not known.
        found: String,
    },
    /// The file asks for more work or memory than any honest key needs.
    #[error(
        "turning the password into a key would cost more than is allowed ({what} of {found}, at most {cap}); re-encrypt \
         the key with `openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD.pem -out NEW.pem`"
    )]
    TooCostly {
        /// Which cost.
        what: &'static str,
        /// As the file asks.
        found: u64,
        /// As allowed.
        cap: u64,
    },
    /// The password does not open the key.
    #[error("wrong password for this key (or the file is damaged); try again with the password it was encrypted with")]
    WrongPassword,
    /// The key is encrypted, and its password could not be had.
    #[error("the private key is encrypted: {0}")]
    Password(#[from] PasswordError),
    /// An empty password was given to encrypt with.
    #[error("a key cannot be encrypted with an empty password; give one, or write the key without encryption")]
    EmptyPassword,
    /// The operating system gave no randomness.
    #[error("the operating system has no random numbers to give ({0}); try again, or make the key on another machine")]
    Randomness(String),
    /// The signature could not be computed.
    #[error("the signature could not be computed with this key; check the key, or use another one")]
    Signing,
}

/// Why there is no password to decrypt a key with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// Nobody was asked, or nobody answered.
    #[error("no password was given; pass one")]
    NotGiven,
    /// Asking failed, for the reason in this text.
    #[error("the password could not be read ({0}); pass it another way")]
    Unreadable(String),
}
