//! Verification: signature first, then the signed text, then the model's bytes.

mod admit;
mod certificate;
mod key;
mod locate;
mod model;
mod part;
mod policy;
mod recorded;
#[cfg(feature = "sigstore-verify")]
mod sigstore;
mod tensors;
mod tiles;
mod witness;

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Deref;
use std::path::{Path, PathBuf};

pub(crate) use admit::{Admission, Asked, ToRead};
pub use certificate::{
    CertificateError, CertificateIdentity, CertificateVerifier, EmptyName, JudgedAt, RequiredName, qualified_name,
};
pub use key::KeyVerifier;
pub(crate) use model::ignore_more;
pub use policy::{verify_signatures_with_policy, verify_with_policy};
pub use recorded::{Checked, verify_recorded, verify_with_policy_recorded};
#[cfg(feature = "sigstore-verify")]
pub use sigstore::{NamePattern, NameRegex, PatternError, SigstoreError, SigstoreVerifier, unverified_subject};
pub use tensors::tensor_manifest;

pub(crate) use policy::{Decided, by_policy, unsigned};
pub(crate) use tiles::Tensors;
pub(crate) use witness::{Listing, Nobody, Witness};

use crate::bundle::{Bundle, DEFAULT_MAX_BUNDLE, VerificationMaterial};
use crate::device::Device;
use crate::device::cpu::Progress;
use crate::error::{Error, FormatError, VerifyError, quoted};
use crate::key::{BadSignature, Curve};
use crate::manifest::Manifest;
use crate::report::{Note, Report};
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

/// A Sigstore identity, as Fulcio put it into the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SigstoreIdentity {
    /// The one alternative name: an e-mail address or a URI.
    pub identity: String,
    /// The OpenID Connect issuer that vouched for it.
    pub issuer: String,
    /// When it was signed at the latest: the earliest of the times that trusted authorities and logs vouch for.
    pub signed_at: SigningTime,
    /// What the issuer said of the CI job that signed, if one did.
    pub build: Option<BuildClaims>,
    /// The transparency log entries, each proven to be in its log.
    pub log_entries: Vec<LogRecord>,
    /// The trust root that it was judged by, in words.
    pub trust_root: String,
}

/// What an issuer said of a CI job. It is true if the issuer is to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BuildClaims {
    /// The repository, as a URI; `owner/name` in certificates of old.
    pub repository: Option<String>,
    /// The branch or tag.
    pub reference: Option<String>,
    /// The commit.
    pub commit: Option<String>,
    /// The workflow: its file as a URI, or its title in certificates of old.
    pub workflow: Option<String>,
    /// What set it off, such as `push`.
    pub trigger: Option<String>,
    /// On what it ran, such as `github-hosted`.
    pub runner: Option<String>,
    /// The run, as a URI.
    pub run: Option<String>,
}

/// An entry of a transparency log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogRecord {
    /// The log's address, as the trust root has it.
    pub log: String,
    /// Its id, in hexadecimal.
    pub id: String,
    /// The entry's number.
    pub index: u64,
    /// Its kind and version, such as `dsse 0.0.1`.
    pub kind: String,
    /// When the log took it in, where it vouches for that.
    pub at: Option<UnixTime>,
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
    /// The moment, whoever says so.
    #[must_use]
    pub const fn moment(self) -> UnixTime {
        match self {
            Self::Timestamp(at) | Self::Log(at) | Self::Now(at) | Self::NotBefore(at) => at,
        }
    }

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

impl Identity {
    /// What should be known of how the signer was judged.
    pub(crate) fn notes(&self) -> &[Note] {
        match self {
            Self::Certificate(identity) => &identity.notes,
            Self::Key { .. } | Self::Sigstore(_) => &[],
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

    /// What `make` makes of the value, of it and nothing else.
    pub(crate) fn derive<U, E>(self, make: impl FnOnce(T) -> Result<U, E>) -> Result<Verified<U>, E> {
        let Self { value, identity } = self;
        Ok(Verified { value: make(value)?, identity })
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
    #[error("invalid signature: it was not made with this key over this statement, or one of the two was altered")]
    Invalid,
    /// The signer's certificate does not lead to a trusted root, or is somebody else's.
    #[error(transparent)]
    Certificate(Box<CertificateError>),
    /// A Sigstore signature was not accepted.
    #[cfg(feature = "sigstore-verify")]
    #[error(transparent)]
    Sigstore(#[from] Box<SigstoreError>),
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
    /// The BLAKE3 digest if every resource has a signed one, else the one that every OMS verifier checks.
    Fastest,
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
    /// The tensor manifest that lies outside of the model, if it is to be checked.
    pub tensors: Option<PathBuf>,
    /// The longest bundle to read, in bytes.
    pub max_bundle: NonZeroU64,
    /// The file of trees that was written with the signature: with it, a no says where in each file it differs. BLAKE3
    /// is then one of the digests that are checked.
    pub outboard: Option<PathBuf>,
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
            tensors: None,
            max_bundle: NonZeroU64::new(DEFAULT_MAX_BUNDLE).unwrap_or(NonZeroU64::MIN),
            outboard: None,
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
    recorded::by_verifier(model, signature, verifier, options, device, progress, &mut Nobody)
}

#[cfg(test)]
mod tests;
