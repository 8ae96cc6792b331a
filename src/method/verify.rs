//! Who may have signed, by one method.

use std::path::PathBuf;

use super::files::{read_certificates, read_key, read_system, system_roots};
use super::{Trusted, Warning};
use crate::error::Error;
use crate::key::PublicKey;
#[cfg(feature = "sigstore-verify")]
use crate::trust::TrustRoot;
use crate::verify::{CertificateVerifier, JudgedAt, KeyVerifier, RequiredName, Verifier};
#[cfg(feature = "sigstore-verify")]
use crate::verify::{NamePattern, PatternError, SigstoreVerifier};
use crate::x509::{Certificate, EkuRule};

/// Who may have signed.
#[derive(Debug, Clone)]
pub enum VerifyMethod {
    /// The holder of a private key.
    Key {
        /// The public half, in PEM.
        public_key: PathBuf,
    },
    /// The holder of a certificate.
    Certificate(CertificateTrust),
    /// Whoever could log in as somebody.
    Sigstore(SigstoreTrust),
}

/// Whose certificates are trusted.
#[derive(Debug, Clone, Default)]
pub struct CertificateTrust {
    /// Files of roots, in PEM; certificates in them that are not self-signed only help to find a way.
    pub chain: Vec<PathBuf>,
    /// Whether this machine's certificate authorities are trusted, too: those of the web, so only with names.
    pub system_roots: bool,
    /// Names of which the signer's certificate must have one. With none, any certificate under a root will do.
    pub names: Vec<RequiredName>,
    /// Whether a certificate may be for other things than signing code.
    pub any_purpose: bool,
    /// Files of roots that are trusted for timestamps, in PEM.
    pub timestamp_chain: Vec<PathBuf>,
    /// Whether certificates are judged for the beginning of the signer's, and not for now or the time of a stamp.
    pub judge_at_not_before: bool,
}

/// Who is trusted to have logged in. Of each exact name and expression, one is needed; the name counts if both are given.
#[derive(Debug, Clone, Default)]
pub struct SigstoreTrust {
    /// Who: an e-mail address or a URI.
    pub identity: Option<String>,
    /// The same as a regular expression, which the whole name must match.
    pub identity_regexp: Option<String>,
    /// Who vouched for that name: the URL of an OpenID Connect issuer.
    pub issuer: Option<String>,
    /// The same as a regular expression.
    pub issuer_regexp: Option<String>,
    /// Whether Sigstore's staging instance is trusted, and not the public one.
    pub staging: bool,
    /// The file that describes another instance, in place of both.
    pub trust_config: Option<PathBuf>,
}

impl VerifyMethod {
    /// Reads what it names. Nothing of it is read again later.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Key`], [`Error::Certificate`], [`Error::TimestampRoots`], [`Error::Pattern`],
    /// [`Error::Trust`], [`Error::NoNames`] and, in a build that cannot, [`Error::NoFeature`].
    pub fn verifier(&self, warn: &mut dyn FnMut(Warning)) -> Result<Box<dyn Verifier + Send + Sync>, Error> {
        Ok(match self {
            Self::Key { public_key } => {
                let pem = read_key(public_key)?;
                let key = PublicKey::from_pem(&pem);
                Box::new(KeyVerifier::new(key.map_err(|source| Error::Key { path: public_key.clone(), source })?))
            }
            Self::Certificate(of) => Box::new(of.verifier(of.roots(warn)?)?),
            Self::Sigstore(of) => of.verifier()?,
        })
    }

    /// The same, as whom to trust.
    ///
    /// # Errors
    /// As [`Self::verifier`].
    pub fn trusted(&self, warn: &mut dyn FnMut(Warning)) -> Result<Trusted, Error> {
        self.verifier(warn).map(Trusted::Verifier)
    }
}

impl CertificateTrust {
    /// All certificates that are trusted.
    ///
    /// # Errors
    /// [`Error::NoNames`] for this machine's authorities without a name, [`Error::Io`], [`Error::Certificate`].
    pub fn roots(&self, warn: &mut dyn FnMut(Warning)) -> Result<Vec<Certificate>, Error> {
        if self.system_roots && self.names.is_empty() {
            return Err(Error::NoNames);
        }
        let mut roots = read_certificates(&self.chain)?;
        if self.system_roots {
            roots.extend(read_system(&system_roots(), warn)?);
        }
        Ok(roots)
    }

    /// Trusts these `roots`.
    ///
    /// # Errors
    /// [`Error::TimestampRoots`], or [`Error::NoFeature`] where timestamps cannot be verified.
    pub fn verifier(&self, roots: Vec<Certificate>) -> Result<CertificateVerifier, Error> {
        let verifier = CertificateVerifier::new(roots)
            .with_names(self.names.clone())
            .with_eku(if self.any_purpose { EkuRule::Any } else { EkuRule::CodeSigningIfPresent })
            .judged_at(if self.judge_at_not_before { JudgedAt::NotBefore } else { JudgedAt::Signing });
        self.with_authorities(verifier)
    }

    #[cfg(feature = "sigstore-verify")]
    fn with_authorities(&self, verifier: CertificateVerifier) -> Result<CertificateVerifier, Error> {
        Ok(match super::files::authorities(&self.timestamp_chain)? {
            Some(authorities) => verifier.with_timestamp_authorities(authorities),
            None => verifier,
        })
    }

    #[cfg(not(feature = "sigstore-verify"))]
    fn with_authorities(&self, verifier: CertificateVerifier) -> Result<CertificateVerifier, Error> {
        if self.timestamp_chain.is_empty() {
            Ok(verifier)
        } else {
            Err(Error::NoFeature { what: "verify timestamps", feature: "sigstore-verify" })
        }
    }
}

impl SigstoreTrust {
    #[cfg(feature = "sigstore-verify")]
    fn verifier(&self) -> Result<Box<dyn Verifier + Send + Sync>, Error> {
        let pattern = |exact: &Option<String>, regexp: &Option<String>| match (exact, regexp) {
            (Some(exact), _) => Ok(NamePattern::Exact(exact.clone())),
            (None, Some(regexp)) => NamePattern::regex(regexp),
            (None, None) => Err(PatternError::Empty),
        };
        let identity = pattern(&self.identity, &self.identity_regexp)?;
        let issuer = pattern(&self.issuer, &self.issuer_regexp)?;
        let trust = match (&self.trust_config, self.staging) {
            (Some(path), _) => TrustRoot::read(path)?,
            (None, true) => TrustRoot::staging()?,
            (None, false) => TrustRoot::public_good()?,
        };
        Ok(Box::new(SigstoreVerifier::new(&trust, identity, issuer)?))
    }

    #[cfg(not(feature = "sigstore-verify"))]
    fn verifier(&self) -> Result<Box<dyn Verifier + Send + Sync>, Error> {
        Err(Error::NoFeature { what: "verify Sigstore signatures", feature: "sigstore-verify" })
    }
}
