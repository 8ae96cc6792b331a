//! Verification: signature first, then the signed text, then the model's bytes.

mod key;
mod model;
mod policy;

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub use key::KeyVerifier;
pub(crate) use model::ignore_more;
pub use policy::verify_with_policy;

use crate::bundle::{Bundle, DEFAULT_MAX_BUNDLE, VerificationMaterial};
use crate::device::Device;
use crate::device::cpu::Progress;
use crate::error::{Error, FormatError, VerifyError, quoted};
use crate::key::{BadSignature, Curve};
use crate::manifest::Manifest;
use crate::report::Report;
use crate::source::SymlinkPolicy;
use crate::statement::{self, StatementVersion};
use crate::time::UnixTime;

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// The holder of a private key.
    Key {
        /// The key's curve.
        curve: Curve,
        /// Lower-case hexadecimal SHA-256 of the public key's PEM text, as `sha256sum key.pub` prints it.
        fingerprint: String,
    },
    /// The holder of a certificate's private key.
    Certificate(Box<CertificateIdentity>),
    /// Whoever could log in as this identity when the signature was made.
    Sigstore(Box<SigstoreIdentity>),
}

/// The holder of a certificate, as the certificate names them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateIdentity {
    /// The subject's distinguished name (RFC 4514); may be empty.
    pub subject: String,
    /// The subject's alternative names, such as `email:a@example.com`, `dns:example.com` or `uri:https://example.com/a`.
    pub names: Vec<String>,
    /// Lower-case hexadecimal SHA-256 of the certificate in DER.
    pub fingerprint: String,
    /// The distinguished name of the root that it chains to.
    pub root: String,
    /// Lower-case hexadecimal SHA-256 of the root in DER.
    pub root_fingerprint: String,
    /// When the certificates had to be valid, and who says so.
    pub judged_at: SigningTime,
}

/// A Sigstore identity, as Fulcio put it into the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SigstoreIdentity {
    /// The one alternative name: an e-mail address or a URI.
    pub identity: String,
    /// The OpenID Connect issuer that vouched for it.
    pub issuer: String,
    /// When it was signed.
    pub signed_at: SigningTime,
}

/// A moment at which a signature existed or its certificate was judged, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SigningTime {
    /// A trusted RFC 3161 timestamp authority.
    Timestamp(UnixTime),
    /// A trusted transparency log.
    Log(UnixTime),
    /// Nobody: the certificate was judged now, by this machine's clock.
    Now(UnixTime),
    /// Nobody: the certificate was judged at its own beginning, because the caller asked for that.
    NotBefore(UnixTime),
}

impl SigningTime {
    /// The moment, if somebody trusted says that the signature existed by then.
    #[must_use]
    pub const fn trusted(self) -> Option<UnixTime> {
        match self {
            Self::Timestamp(at) | Self::Log(at) => Some(at),
            Self::Now(_) | Self::NotBefore(_) => None,
        }
    }
}

impl fmt::Display for SigningTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timestamp(at) => write!(f, "{at}, by a timestamp authority"),
            Self::Log(at) => write!(f, "{at}, by a transparency log"),
            Self::Now(at) => write!(f, "{at}, the time of this check"),
            Self::NotBefore(at) => write!(f, "{at}, the beginning of the certificate"),
        }
    }
}

impl Identity {
    /// When the signature was made at the latest, if somebody trusted says so.
    #[must_use]
    pub fn signed_at(&self) -> Option<UnixTime> {
        match self {
            Self::Key { .. } => None,
            Self::Certificate(identity) => identity.judged_at.trusted(),
            Self::Sigstore(identity) => identity.signed_at.trusted(),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { curve, fingerprint } => write!(f, "key {fingerprint} ({curve})"),
            Self::Certificate(of) => {
                write!(
                    f,
                    "{} ({}), under {} ({})",
                    quoted(&of.subject),
                    of.fingerprint,
                    quoted(&of.root),
                    of.root_fingerprint
                )
            }
            Self::Sigstore(of) => write!(f, "{} (issuer {})", quoted(&of.identity), quoted(&of.issuer)),
        }
    }
}

/// A value that was verified, with whom it is from. Only a check in this module makes one.
#[derive(Debug, Clone)]
pub struct Verified<T> {
    value: T,
    identity: Identity,
}

impl<T> Verified<T> {
    /// Who signed.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// A value that a check in this module has found to be what this one says.
    fn vouches_for<U>(&self, value: U) -> Verified<U> {
        Verified { value, identity: self.identity.clone() }
    }

    /// The value alone, for whoever no longer needs to know that it was verified.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Why a signature was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The bundle was signed by another method.
    #[error(
        "the bundle was signed with the {found} method, and the {expected} method was asked for; verify it by that method"
    )]
    OtherMethod {
        /// What this verifier verifies.
        expected: &'static str,
        /// What the bundle carries.
        found: &'static str,
    },
    /// The bundle names another key.
    #[error("signed by another key: the signature names key {}, and the given key is {given}", quoted(.named))]
    OtherKey {
        /// The bundle's hint.
        named: String,
        /// The given key's.
        given: String,
    },
    /// The signature does not belong to these bytes and this key.
    #[error("invalid signature: it was not made by the given key over this statement, or one of the two was altered")]
    Invalid,
}

impl From<BadSignature> for SignatureError {
    fn from(_: BadSignature) -> Self {
        Self::Invalid
    }
}

/// A bundle's word that somebody signed certain bytes, to be checked.
#[derive(Debug)]
pub struct Claim<'a> {
    bundle: &'a Bundle,
    encoding: Encoding,
}

/// Which bytes a signature is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// DSSE v1.
    Dsse,
    /// What model-signing 0.2 signed by mistake, with SHA-256 whatever the curve where a certificate goes with it.
    Old,
}

impl Claim<'_> {
    /// What the bundle offers to verify with.
    #[must_use]
    pub const fn material(&self) -> &VerificationMaterial {
        self.bundle.material()
    }

    /// The bundle: its payload has not been verified, and what it means is no business of a [`Verifier`].
    #[must_use]
    pub const fn bundle(&self) -> &Bundle {
        self.bundle
    }

    /// Which bytes the signature is said to be over.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Those bytes.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        match self.encoding {
            Encoding::Dsse => self.bundle.envelope().pae(),
            Encoding::Old => self.bundle.envelope().old_pae(),
        }
    }

    /// The signature over them.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.bundle.envelope().signature
    }
}

/// Whom a caller trusts. One implementation a method.
pub trait Verifier {
    /// Checks the signature, and says who made it.
    ///
    /// # Errors
    /// [`SignatureError`] if it is not from whom this verifier trusts; [`SignatureError::Invalid`] only if it is not over
    /// these bytes.
    fn verify(&self, claim: &Claim<'_>) -> Result<Identity, SignatureError>;
}

impl Bundle {
    /// Checks the signature, and only then reads what was signed.
    ///
    /// # Errors
    /// [`VerifyError::Signature`], or [`VerifyError::Format`] for a signed text that is not a statement of OMS.
    pub fn verify(&self, verifier: &dyn Verifier) -> Result<Verified<Manifest>, VerifyError> {
        let envelope = self.envelope();
        let check = |encoding| verifier.verify(&Claim { bundle: self, encoding });
        let (identity, old_encoding) = match check(Encoding::Dsse) {
            Ok(identity) => (identity, false),
            // model-signing 0.2 signed another encoding. A glance, which trusts nothing, spares other bundles the second
            // try; the encoding is then accepted for that release's statements alone.
            Err(SignatureError::Invalid) if envelope.looks_old() => (check(Encoding::Old)?, true),
            Err(error) => return Err(error.into()),
        };
        let value = statement::parse(&envelope.payload)?;
        if old_encoding && value.version() != StatementVersion::Digests01 {
            return Err(FormatError::OldEncoding.into());
        }
        Ok(Verified { value, identity })
    }

    /// What the bundle claims, for people who want to look at it. Nothing of it is verified, hence no [`Verified`].
    ///
    /// # Errors
    /// [`FormatError`] if the payload is not a statement of OMS.
    pub fn unverified_manifest(&self) -> Result<Manifest, FormatError> {
        statement::parse(&self.envelope().payload)
    }
}

/// What to do with files that the statement does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnsignedFiles {
    /// They are a difference.
    #[default]
    Refuse,
    /// They are listed in the report.
    Tolerate,
}

/// What to do with files under ignored paths, and with empty files under shards: nothing was signed of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum UncoveredFiles {
    /// They are listed in the report.
    #[default]
    List,
    /// They are refused, but for the signature itself and what lies under these paths (relative to the current folder).
    Refuse {
        /// What may stay.
        except: Vec<PathBuf>,
    },
}

/// Whether the files of git at the model's root are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GitFiles {
    /// As the statement recorded it; ignored where it recorded nothing. When signing: ignored.
    #[default]
    AsSigned,
    /// Ignored.
    Ignore,
    /// Part of the model, unless the statement records otherwise.
    Keep,
}

/// Which of the signed digests are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DigestChoice {
    /// The one that every OMS verifier checks.
    #[default]
    Oms,
    /// The BLAKE3 digest that Tensorseal signs beside it: several times faster, and the one a GPU can check.
    Blake3,
    /// All of them; a disagreement is the signer's fault and refused.
    All,
}

/// How to verify.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Links that the caller lets be followed, beyond those inside the model that the statement allows.
    pub symlinks: SymlinkPolicy,
    /// Paths to ignore beside the recorded ones, relative to the current folder.
    pub ignore_paths: Vec<PathBuf>,
    /// Files of git.
    pub git_files: GitFiles,
    /// Files that the statement does not name.
    pub unsigned: UnsignedFiles,
    /// Files of which nothing was signed.
    pub uncovered: UncoveredFiles,
    /// Which digests.
    pub digests: DigestChoice,
    /// The longest bundle to read, in bytes.
    pub max_bundle: NonZeroU64,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            symlinks: SymlinkPolicy::default(),
            ignore_paths: Vec::new(),
            git_files: GitFiles::default(),
            unsigned: UnsignedFiles::default(),
            uncovered: UncoveredFiles::default(),
            digests: DigestChoice::default(),
            max_bundle: NonZeroU64::new(DEFAULT_MAX_BUNDLE).unwrap_or(NonZeroU64::MIN),
        }
    }
}

/// Verifies the model at `model` against the bundle at `signature`.
///
/// The result says: when they were read, the model's files were those that the signer signed. See
/// `docs/threat-model.md` for what that proves and what not.
///
/// # Errors
/// [`Error::Verify`] if the answer is no; any other error if no answer could be had.
pub fn verify(
    model: &Path,
    signature: &Path,
    verifier: &dyn Verifier,
    options: &VerifyOptions,
    device: &Device,
    progress: &dyn Progress,
) -> Result<Verified<Report>, Error> {
    let begun = Instant::now();
    let bundle = Bundle::read(signature, options.max_bundle.get())?;
    let signed = bundle.verify(verifier)?;
    let check = model::Check {
        model,
        resolved: None,
        signatures: &[signature],
        bundle: &bundle,
        signed: &signed,
        options,
        device,
        progress,
        begun,
    };
    let value = model::run(&check, &[])?;
    Ok(signed.vouches_for(value))
}

#[cfg(test)]
mod tests {
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
        let bundle =
            Bundle::new(VerificationMaterial::PublicKey { hint: None, old: false }, envelope, Evidence::default());
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
        let answer =
            Bundle::new(unnamed, envelope.clone(), Evidence::default()).verify(&KeyVerifier::new(other.clone()));
        assert!(matches!(answer, Err(VerifyError::Signature(SignatureError::Invalid))));
        let answer = Bundle::new(VerificationMaterial::Certificate(vec![]), envelope, Evidence::default())
            .verify(&KeyVerifier::new(other));
        assert!(matches!(answer, Err(VerifyError::Signature(SignatureError::OtherMethod { found: "sigstore", .. }))));
    }
}
