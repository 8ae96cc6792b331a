//! The Sigstore method: a key for one signature, certified for whoever can log in, and logged in public.
//!
//! Everything that a server gives is checked before anybody else sees it: the new bundle is verified offline, by the same
//! code and the same trust root as any other.

mod ambient;
mod error;
mod oauth;
mod services;
mod token;

use std::cell::OnceCell;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use ambient::AmbientError;
pub use error::{Service, SigstoreSignError};
pub use oauth::{Client, LOGIN_TIMEOUT, LoginError, Prompt};
pub use services::{ConfigError, RekorVersion, Services};
use sigstore_sign::oidc::IdentityToken as Presented;
use sigstore_sign::rekor::RekorApiVersion;
use sigstore_sign::reqwest::Url;
use sigstore_sign::{SigningContext, SigningServices};
pub use token::{IdentityToken, TokenError};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use zeroize::Zeroizing;

use self::ambient::Ambient;
use self::oauth::{Issuer, Login};
use super::{SignError, Signature, Signer};
use crate::bundle::{Bundle, VerificationMaterial};
use crate::net::{Net, NetError};
use crate::time::UnixTime;
use crate::trust::{Instance, Repository, TrustRoot};
use crate::verify::{Identity, SigstoreVerifier};

/// The longest file that is read as a token, in bytes.
const LONGEST: u64 = 64 << 10;

/// Where the token comes from that says who signs.
pub enum Credentials {
    /// It is here. One that expires while the model is hashed cannot be renewed.
    Token(Box<IdentityToken>),
    /// It lies in a file, which is read again if it has expired meanwhile: Kubernetes, for one, renews it there.
    File(PathBuf),
    /// From the CI system or the cloud that this machine belongs to; asked again after hashing.
    Ambient,
    /// From the user, who logs in when the model has been hashed: such tokens live for a minute.
    Login {
        /// How to reach the user.
        prompt: Box<dyn Prompt>,
        /// Whether the user copies a code even where there is a browser.
        out_of_band: bool,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token",
            Self::File(_) => "File",
            Self::Ambient => "Ambient",
            Self::Login { .. } => "Login",
        })
    }
}

/// A Sigstore to sign with, and what its signatures are verified by.
#[derive(Debug)]
#[non_exhaustive]
pub struct Sigstore {
    /// Its servers.
    pub services: Services,
    /// Its trust root.
    pub root: TrustRoot,
}

impl Sigstore {
    /// A public instance as it is now, fetched by TUF: its logs are replaced about twice a year, and a signature in one that
    /// has ended is none. What was fetched is not kept; `tensorseal trust update` does that. Without the network this fails,
    /// as signing would.
    ///
    /// # Errors
    /// [`SigstoreSignError`] if it cannot be fetched, or not be signed with.
    pub fn fetch(instance: Instance) -> Result<Self, SigstoreSignError> {
        let update = Repository::of(instance).fetch()?;
        let config = update.signing_config.as_ref().ok_or_else(|| ConfigError::Missing { from: update.url.clone() })?;
        let services = Services::choose(config, update.at)?;
        Ok(Self { services, root: TrustRoot::parse(update.trusted_root.as_bytes())? })
    }

    /// One that a client trust configuration in a file describes. No network.
    ///
    /// # Errors
    /// [`SigstoreSignError`] if it is none, or cannot be signed with.
    pub fn read(path: &Path) -> Result<Self, SigstoreSignError> {
        let root = TrustRoot::read(path)?;
        let config = root.signing_config().ok_or_else(|| ConfigError::Missing { from: format!("{path:?}") })?;
        let services = Services::choose(config, UnixTime::now())?;
        Ok(Self { services, root })
    }
}

/// What came of a signature, verified.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Receipt {
    /// Who signed, by which log and when.
    pub identity: Identity,
    /// From when the certificate is good.
    pub not_before: UnixTime,
    /// Until when. A verifier does not mind that it is over, since the time of the signature is known.
    pub not_after: UnixTime,
}

/// How to sign with Sigstore.
#[derive(Debug)]
pub struct SigstoreOptions {
    /// Where the token comes from.
    pub credentials: Credentials,
    /// For whom tokens are: the audience that Fulcio expects, and the OAuth client that logs in.
    pub client: Client,
    /// The identity that the certificate must be for; otherwise whatever the token may stand for.
    pub identity: Option<String>,
    /// How long a server may take to answer.
    pub timeout: Duration,
    /// How long the user may take to log in.
    pub patience: Duration,
}

impl SigstoreOptions {
    /// The settings of everybody who has no reason for others.
    #[must_use]
    pub fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            client: Client::default(),
            identity: None,
            timeout: crate::net::DEFAULT_TIMEOUT,
            patience: LOGIN_TIMEOUT,
        }
    }

    /// Whether a token that is at hand is good now: to be asked before anything else takes time.
    ///
    /// # Errors
    /// [`SigstoreSignError`] if there is one and it is not.
    pub fn check(&self) -> Result<(), SigstoreSignError> {
        let token = match &self.credentials {
            Credentials::Token(token) => (**token).clone(),
            Credentials::File(path) => read(path)?,
            Credentials::Ambient | Credentials::Login { .. } => return Ok(()),
        };
        token.check(&self.client.id, UnixTime::now()).map_err(SigstoreSignError::Token)
    }
}

/// Signs as whoever a token says. Made before the model is hashed, so that what would fail afterwards fails at once.
#[derive(Debug)]
pub struct SigstoreSigner {
    services: Services,
    verifier: SigstoreVerifier,
    options: SigstoreOptions,
    net: Net,
    issuer: Option<Issuer>,
    expires: Option<UnixTime>,
    receipt: OnceCell<Receipt>,
}

impl SigstoreSigner {
    /// Signs with the servers of `sigstore`, for verifiers who trust its root. It gets a token, but for a login, where it asks the issuer for
    /// its addresses; and it sees whether each server can be reached.
    ///
    /// # Errors
    /// [`SigstoreSignError`] if there is no good token, or a server is out of reach.
    pub fn new(sigstore: Sigstore, options: SigstoreOptions) -> Result<Self, SigstoreSignError> {
        let Sigstore { services, root } = sigstore;
        let (net, verifier) = (Net::new(options.timeout)?, SigstoreVerifier::anybody(&root)?);
        let mut signer =
            Self { services, verifier, options, net, issuer: None, expires: None, receipt: OnceCell::new() };
        if let Credentials::Login { prompt, out_of_band } = &signer.options.credentials {
            // Somebody must be there before hours of hashing.
            prompt.ready(*out_of_band)?;
            let issuer = signer.services.oidc.as_deref().ok_or(LoginError::NoIssuer)?;
            signer.issuer = Some(Issuer::discover(issuer, &signer.net)?);
        } else {
            signer.expires = Some(signer.token()?.expires());
        }
        for service in Service::ALL {
            if let Some(url) = service.url(&signer.services) {
                signer.net.reach(url).map_err(|source| SigstoreSignError::Service { service, source })?;
            }
        }
        Ok(signer)
    }

    /// When hashing must be done, because the token cannot be had anew.
    #[must_use]
    pub const fn must_be_done_by(&self) -> Option<UnixTime> {
        match self.options.credentials {
            Credentials::Token(_) => self.expires,
            _ => None,
        }
    }

    /// What came of the signature, when it has been made.
    #[must_use]
    pub fn receipt(&self) -> Option<&Receipt> {
        self.receipt.get()
    }

    /// A token that is good now.
    fn token(&self) -> Result<IdentityToken, SigstoreSignError> {
        let client = &self.options.client;
        let token = match &self.options.credentials {
            Credentials::Token(token) => (**token).clone(),
            Credentials::File(path) => read(path)?,
            Credentials::Ambient => {
                let variable = |name: &str| std::env::var(name).ok();
                Ambient { variable: &variable, audience: &client.id, net: &self.net }.token()?
            }
            Credentials::Login { prompt, out_of_band } => {
                let login = Login {
                    issuer: self.issuer.as_ref().ok_or(LoginError::NoIssuer)?,
                    client,
                    prompt: &**prompt,
                    net: &self.net,
                    out_of_band: *out_of_band,
                    patience: self.options.patience,
                };
                login.token()?
            }
        };
        match token.check(&client.id, UnixTime::now()) {
            Ok(()) => Ok(token),
            Err(TokenError::Expired { at, .. }) if self.expires.is_some() => Err(SigstoreSignError::Outlived { at }),
            Err(source) => Err(SigstoreSignError::Token(source)),
        }
    }

    /// Has the servers certify a key, sign with it and log that: what comes back has not been checked.
    fn ask(&self, token: &IdentityToken, payload: &[u8]) -> Result<Bundle, SigstoreSignError> {
        let library = |why: String| SigstoreSignError::Library { why };
        let base = |url: &Url| url.as_str().trim_end_matches('/').to_owned();
        let rekor = base(&self.services.rekor);
        let mut services = SigningServices::new(base(&self.services.fulcio), rekor.clone()).with_rekor(
            rekor,
            match self.services.rekor_version {
                RekorVersion::V1 => RekorApiVersion::V1,
                RekorVersion::V2 => RekorApiVersion::V2,
            },
        );
        if let Some(tsa) = &self.services.tsa {
            services = services.with_tsa_url(tsa.as_str());
        }
        let presented = Presented::from_jwt(token.reveal())
            // Its words may quote the token's claims, and ours have been read already.
            .map_err(|_| {
                SigstoreSignError::Token(TokenError::Malformed { why: "its claims are not as usual".to_owned() })
            })?;
        let context = SigningContext::new(services).with_http_client(self.net.client().clone());
        let signer = context.signer(presented);
        let begun = Instant::now();
        let made = self.net.wait(|| signer.sign_raw_statement(payload))?;
        let made = made.map_err(|fault| self.blame(&fault, begun.elapsed(), token))?;
        let text = made.to_json().map_err(|error| library(error.to_string()))?;
        Bundle::parse(text.as_bytes()).map_err(|error| library(error.to_string()))
    }

    /// Whether the bundle is the one that was asked for, and everybody with the same trust root will accept it.
    fn check(&self, token: &IdentityToken, payload: &[u8], bundle: &Bundle) -> Result<Receipt, SigstoreSignError> {
        if bundle.envelope().payload != payload {
            return Err(SigstoreSignError::Library { why: "it signed another statement".to_owned() });
        }
        let verified = bundle.verify(&self.verifier).map_err(|why| SigstoreSignError::Unverifiable(Box::new(why)))?;
        let Identity::Sigstore(of) = verified.identity() else {
            return Err(SigstoreSignError::Library { why: "it signed by another method".to_owned() });
        };
        let expected = match &self.options.identity {
            Some(identity) if *identity == of.identity => None,
            Some(identity) => Some(vec![identity.clone()]),
            None if token.may_be(&of.identity) => None,
            None => Some(token.identities()),
        };
        if let Some(expected) = expected {
            return Err(SigstoreSignError::Identity { expected, found: of.identity.clone() });
        }
        if !token.issuers().contains(&of.issuer.as_str()) {
            let expected = token.issuers().into_iter().map(str::to_owned).collect();
            return Err(SigstoreSignError::Issuer { expected, found: of.issuer.clone() });
        }
        let VerificationMaterial::Certificate(der) = bundle.material() else {
            return Err(SigstoreSignError::Library { why: "it signed by another method".to_owned() });
        };
        let certificate =
            Certificate::from_der(der).map_err(|error| SigstoreSignError::Library { why: error.to_string() })?;
        let of_time = |time: x509_cert::time::Time| {
            let at = time.to_unix_duration().as_secs();
            UnixTime(i64::try_from(at).unwrap_or(i64::MAX))
        };
        let validity = certificate.tbs_certificate.validity;
        let (not_before, not_after) = (of_time(validity.not_before), of_time(validity.not_after));
        Ok(Receipt { identity: verified.identity().clone(), not_before, not_after })
    }

    /// Which server is at fault, and how.
    fn blame(&self, fault: &sigstore_sign::Error, after: Duration, token: &IdentityToken) -> SigstoreSignError {
        use sigstore_sign::{Error, fulcio, rekor, tsa};
        /// What is known of a fault: nothing but that the connection failed, a status, or that the answer makes no sense.
        enum Fault {
            Connection,
            Status(u16, String),
            Answer(String),
        }
        let (service, fault) = match fault {
            Error::Fulcio(fulcio::Error::Http(_)) => (Service::Fulcio, Fault::Connection),
            Error::Fulcio(fulcio::Error::Status { status, message }) => {
                (Service::Fulcio, Fault::Status(*status, message.clone()))
            }
            Error::Fulcio(other) => (Service::Fulcio, Fault::Answer(other.to_string())),
            Error::Rekor(rekor::Error::Http(_)) => (Service::Rekor, Fault::Connection),
            Error::Rekor(rekor::Error::Status { status, message }) => {
                (Service::Rekor, Fault::Status(*status, message.clone()))
            }
            Error::Rekor(other) => (Service::Rekor, Fault::Answer(other.to_string())),
            // The library puts a status into the same text as a broken connection.
            Error::Tsa(tsa::Error::Http(why)) => {
                let status = why.strip_prefix("TSA returned status ").and_then(|rest| rest.get(..3)?.parse().ok());
                (Service::Timestamps, status.map_or(Fault::Connection, |status| Fault::Status(status, String::new())))
            }
            Error::Tsa(other) => (Service::Timestamps, Fault::Answer(other.to_string())),
            other => return SigstoreSignError::Library { why: other.to_string() },
        };
        let Some(url) = service.url(&self.services) else {
            return SigstoreSignError::Library { why: fault_text(service) };
        };
        let shown = crate::net::shown(url);
        let hidden = |text: &str| hide(text, token.reveal());
        let source = match fault {
            Fault::Status(status, text) => NetError::Status { url: shown, status, text: hidden(&text) },
            Fault::Answer(why) => NetError::Garbled { url: shown, why: hidden(&why) },
            // The library does not tell why. Waiting as long as one may tells it, and asking once more does.
            Fault::Connection if after >= self.net.timeout() => {
                NetError::TimedOut { url: shown, seconds: self.net.timeout().as_secs() }
            }
            Fault::Connection => match self.net.reach(url) {
                Err(error) => error,
                Ok(()) => NetError::Unreachable { url: shown, why: "the connection broke".to_owned() },
            },
        };
        SigstoreSignError::Service { service, source }
    }
}

impl Signer for SigstoreSigner {
    fn sign(&self, payload: &[u8]) -> Result<Signature, SignError> {
        Ok(self.made(payload).map_err(Box::new)?)
    }
}

impl SigstoreSigner {
    fn made(&self, payload: &[u8]) -> Result<Signature, SigstoreSignError> {
        let token = self.token()?;
        let bundle = self.ask(&token, payload)?;
        let receipt = self.check(&token, payload, &bundle)?;
        // Of several signatures, the first one's is kept: a signer is made for one.
        let _ = self.receipt.set(receipt);
        Ok(Signature {
            bytes: bundle.envelope().signature.clone(),
            material: bundle.material().clone(),
            evidence: bundle.evidence().clone(),
        })
    }
}

fn fault_text(service: Service) -> String {
    format!("it asked {service}, which is not in the configuration")
}

/// A text without the token that a server may have quoted.
fn hide(text: &str, jwt: &str) -> String {
    // The signature alone is what makes it a token.
    let secret = jwt.rsplit('.').next();
    crate::net::without(text, secret.unwrap_or_default())
}

/// Reads a token from a file.
fn read(path: &Path) -> Result<IdentityToken, SigstoreSignError> {
    let io = |source| SigstoreSignError::File { path: path.to_owned(), source };
    // Room for all at once: a buffer that grows leaves copies of the token behind.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST as usize + 1));
    File::open(path).map_err(io)?.take(LONGEST + 1).read_to_string(&mut text).map_err(io)?;
    IdentityToken::parse(&text).map_err(SigstoreSignError::Token)
}
