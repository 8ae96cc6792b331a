//! Who signs, by one method.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::{read_certificates, read_key};
use super::{Lock, Secret, Secrets, Warning};
use crate::error::Error;
use crate::key::PrivateKey;
#[cfg(feature = "pkcs11")]
use crate::key::PublicKey;
#[cfg(feature = "pkcs11")]
use crate::sign::pkcs11::{Pkcs11CertificateSigner, Pkcs11Key, Pkcs11Signer};
use crate::sign::pkcs11::{Pkcs11Error, Pkcs11Uri};
#[cfg(feature = "sigstore-sign")]
use crate::sign::sigstore::{
    Client, Credentials, IdentityToken, Sigstore, SigstoreOptions, SigstoreSignError, SigstoreSigner,
};
use crate::sign::{CertificateSigner, KeySigner, SignError, Signer, SigningCertificate, SigningCertificateError};
use crate::time::UnixTime;
#[cfg(feature = "sigstore-sign")]
use crate::trust::Instance;
use crate::x509::EkuRule;

/// Who signs.
#[derive(Debug, Clone)]
pub enum SignMethod {
    /// The holder of a private key.
    Key {
        /// The key, in PEM.
        private_key: PathBuf,
    },
    /// The holder of a certificate.
    Certificate {
        /// Its private key, in PEM.
        private_key: PathBuf,
        /// The certificate.
        certificate: SigningCertificateFiles,
    },
    /// A token.
    Pkcs11Key {
        /// The key in it.
        key: TokenKey,
    },
    /// A token, with the certificate of its key.
    Pkcs11Certificate {
        /// The key in it.
        key: TokenKey,
        /// The certificate.
        certificate: SigningCertificateFiles,
    },
    /// Whoever a token says. (Who logs in with a browser is asked by the program alone.)
    Sigstore {
        /// Where the token comes from.
        token: IdentityTokenFrom,
        /// Which Sigstore, and how.
        sigstore: SigstoreSigning,
    },
}

/// Which certificate goes into a signature.
#[derive(Debug, Clone, Default)]
pub struct SigningCertificateFiles {
    /// The signer's, in PEM; others in the same file go along as its chain.
    pub certificate: PathBuf,
    /// Files of certificates between the signer's and the root.
    pub chain: Vec<PathBuf>,
    /// Whether it may be for other things than signing code.
    pub any_purpose: bool,
}

/// A key in a token.
#[derive(Debug, Clone)]
pub struct TokenKey {
    /// Which key of which token: an RFC 7512 URI, which may hold a PIN.
    pub uri: Secret,
    /// The PKCS#11 module, or folders to look for the URI's `module-name` in.
    pub modules: Vec<PathBuf>,
}

/// Where an identity token comes from.
#[derive(Debug, Clone)]
pub enum IdentityTokenFrom {
    /// This is it.
    Text(Secret),
    /// From a file, which is read again after hashing, since it may have been renewed.
    File(PathBuf),
    /// From the CI system or the cloud that this machine belongs to.
    Ambient,
}

/// How to sign with Sigstore.
#[derive(Debug, Clone, Default)]
pub struct SigstoreSigning {
    /// For whom tokens are made out, if that is not Sigstore's own client.
    pub client_id: Option<String>,
    /// That client's secret.
    pub client_secret: Option<Secret>,
    /// The identity that the certificate must have.
    pub identity: Option<String>,
    /// Whether to use the staging instance, and not the public one.
    pub staging: bool,
    /// The file that describes another instance, in place of both.
    pub trust_config: Option<PathBuf>,
    /// How long a server may take to answer.
    pub timeout: Option<Duration>,
}

/// A timestamp on the signature.
#[derive(Debug, Clone, Default)]
pub struct Timestamping {
    /// The RFC 3161 authority's address.
    pub url: Option<String>,
    /// Files of roots of which the stamp must be under one, if there are any.
    pub chain: Vec<PathBuf>,
}

impl SignMethod {
    /// Opens the key, asking for its password or PIN if it must. A Sigstore has its stamps from its own authority, so
    /// that `timestamp` is for the others.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Key`], [`Error::Certificate`], [`Error::TimestampRoots`], [`Error::Sign`] and, in a build
    /// that cannot, [`Error::NoFeature`].
    pub fn signer(
        &self,
        timestamp: &Timestamping,
        secrets: &mut Secrets<'_>,
        warn: &mut dyn FnMut(Warning),
    ) -> Result<Box<dyn Signer>, Error> {
        match self {
            Self::Key { private_key: path } => {
                timestamped(KeySigner::new(private_key(path, secrets, warn)?), timestamp)
            }
            Self::Certificate { private_key: path, certificate } => {
                let certificate = certificate.read()?;
                let key = private_key(path, secrets, warn)?;
                timestamped(CertificateSigner::new(key, certificate).map_err(refused)?, timestamp)
            }
            Self::Pkcs11Key { key } => token_signer(key, None, timestamp, secrets, warn),
            Self::Pkcs11Certificate { key, certificate } => {
                token_signer(key, Some(certificate), timestamp, secrets, warn)
            }
            Self::Sigstore { token, sigstore } => sigstore_by_token(token, sigstore),
        }
    }
}

/// Reads a private key, asking for its password if it has one.
///
/// # Errors
/// [`Error::Io`], [`Error::Key`].
pub fn private_key(path: &Path, secrets: &mut Secrets<'_>, warn: &mut dyn FnMut(Warning)) -> Result<PrivateKey, Error> {
    const OTHERS_READ: u32 = 0o044;
    let pem = read_key(path)?;
    let mut used = false;
    let key = PrivateKey::from_pem(&pem, &mut || {
        used = true;
        (secrets.ask)(Lock::Key(path))
    })
    .map_err(|source| Error::Key { path: path.to_owned(), source })?;
    if std::fs::metadata(path).is_ok_and(|meta| meta.mode() & OTHERS_READ != 0) {
        warn(Warning::OthersCanRead(path.to_owned()));
    }
    if secrets.given && !used {
        warn(Warning::PasswordNotUsed(path.to_owned()));
    }
    Ok(key)
}

impl SigningCertificateFiles {
    /// Reads them. That of the signer must be good for signing now.
    fn read(&self) -> Result<SigningCertificate, Error> {
        let own = read_certificates(std::slice::from_ref(&self.certificate))?;
        let chain = read_certificates(&self.chain)?;
        let eku = if self.any_purpose { EkuRule::Any } else { EkuRule::CodeSigningIfPresent };
        SigningCertificate::new(own.into_iter().chain(chain), UnixTime::now(), eku).map_err(refused)
    }
}

fn refused(error: SigningCertificateError) -> Error {
    SignError::from(error).into()
}

impl TokenKey {
    fn parsed(&self, secrets: &Secrets<'_>) -> Result<Pkcs11Uri, Error> {
        let uri: Pkcs11Uri = self.uri.reveal().parse().map_err(|error| SignError::from(Pkcs11Error::Uri(error)))?;
        if uri.pin.is_some() && secrets.given {
            return Err(SignError::from(Pkcs11Error::TwoPins).into());
        }
        Ok(uri)
    }

    /// Opens the key, asking for the PIN if there is no other way to it.
    #[cfg(feature = "pkcs11")]
    fn open(
        &self,
        certified: Option<&PublicKey>,
        secrets: &mut Secrets<'_>,
        warn: &mut dyn FnMut(Warning),
    ) -> Result<Pkcs11Key, Error> {
        let uri = self.parsed(secrets)?;
        let mut used = false;
        let key = Pkcs11Key::open(&uri, &self.modules, certified, &mut |token| {
            used = true;
            (secrets.ask)(Lock::Token(token))
        })
        .map_err(SignError::from)?;
        if secrets.given && !used {
            warn(Warning::PinNotUsed(key.token().clone()));
        }
        Ok(key)
    }
}

#[cfg(feature = "pkcs11")]
fn token_signer(
    key: &TokenKey,
    certificate: Option<&SigningCertificateFiles>,
    timestamp: &Timestamping,
    secrets: &mut Secrets<'_>,
    warn: &mut dyn FnMut(Warning),
) -> Result<Box<dyn Signer>, Error> {
    let Some(certificate) = certificate else {
        return timestamped(Pkcs11Signer::new(key.open(None, secrets, warn)?), timestamp);
    };
    let certificate = certificate.read()?;
    let key = key.open(Some(certificate.public_key()), secrets, warn)?;
    timestamped(Pkcs11CertificateSigner::new(key, certificate).map_err(SignError::from)?, timestamp)
}

#[cfg(not(feature = "pkcs11"))]
fn token_signer(
    key: &TokenKey,
    _: Option<&SigningCertificateFiles>,
    _: &Timestamping,
    secrets: &mut Secrets<'_>,
    _: &mut dyn FnMut(Warning),
) -> Result<Box<dyn Signer>, Error> {
    key.parsed(secrets)?;
    Err(Error::NoFeature { what: "sign with keys in tokens", feature: "pkcs11" })
}

/// The signer, which has its signatures stamped if that is asked for.
#[cfg(feature = "sigstore-sign")]
fn timestamped(signer: impl Signer + 'static, timestamp: &Timestamping) -> Result<Box<dyn Signer>, Error> {
    let Some(url) = &timestamp.url else { return Ok(Box::new(signer)) };
    let authorities = super::files::authorities(&timestamp.chain)?;
    Ok(Box::new(crate::sign::Timestamped::new(signer, url.clone(), authorities)))
}

/// The signer; this build has nothing to ask for timestamps with.
#[cfg(not(feature = "sigstore-sign"))]
fn timestamped(signer: impl Signer + 'static, timestamp: &Timestamping) -> Result<Box<dyn Signer>, Error> {
    match timestamp.url {
        None => Ok(Box::new(signer)),
        Some(_) => Err(Error::NoFeature { what: "ask for timestamps", feature: "sigstore-sign" }),
    }
}

#[cfg(feature = "sigstore-sign")]
fn cannot(error: SigstoreSignError) -> Error {
    Error::Sign(SignError::from(Box::new(error)))
}

/// Makes a signer of `credentials`; it gets a token, or sees that somebody is there to log in.
///
/// # Errors
/// [`Error::Sign`] if there is no good token, or a server is out of reach.
#[cfg(feature = "sigstore-sign")]
pub fn sigstore_signer(credentials: Credentials, with: &SigstoreSigning) -> Result<SigstoreSigner, Error> {
    let mut client = Client::default();
    if let Some(id) = &with.client_id {
        client.id.clone_from(id);
    }
    if let Some(secret) = &with.client_secret {
        client.secret = secret.reveal().clone();
    }
    let mut options = SigstoreOptions::new(credentials);
    options.client = client;
    options.identity.clone_from(&with.identity);
    if let Some(timeout) = with.timeout {
        options.timeout = timeout;
    }
    options.check().map_err(cannot)?;
    let sigstore = match &with.trust_config {
        Some(path) => Sigstore::read(path),
        None if with.staging => Sigstore::fetch(Instance::Staging),
        None => Sigstore::fetch(Instance::PublicGood),
    };
    SigstoreSigner::new(sigstore.map_err(cannot)?, options).map_err(cannot)
}

#[cfg(feature = "sigstore-sign")]
impl IdentityTokenFrom {
    /// What the library takes.
    ///
    /// # Errors
    /// [`Error::Sign`] for a text that is no token.
    pub fn credentials(&self) -> Result<Credentials, Error> {
        Ok(match self {
            Self::Text(text) => Credentials::Token(Box::new(
                IdentityToken::parse(text.reveal()).map_err(|error| cannot(SigstoreSignError::Token(error)))?,
            )),
            Self::File(path) => Credentials::File(path.clone()),
            Self::Ambient => Credentials::Ambient,
        })
    }
}

#[cfg(feature = "sigstore-sign")]
fn sigstore_by_token(token: &IdentityTokenFrom, with: &SigstoreSigning) -> Result<Box<dyn Signer>, Error> {
    Ok(Box::new(sigstore_signer(token.credentials()?, with)?))
}

#[cfg(not(feature = "sigstore-sign"))]
fn sigstore_by_token(_: &IdentityTokenFrom, _: &SigstoreSigning) -> Result<Box<dyn Signer>, Error> {
    Err(Error::NoFeature { what: "sign with Sigstore", feature: "sigstore-sign" })
}
