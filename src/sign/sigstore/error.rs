//! Why there is no Sigstore signature.

use std::fmt;
use std::io;
use std::path::PathBuf;

use sigstore_sign::reqwest::Url;

use super::{AmbientError, ConfigError, LoginError, Services, TokenError};
use crate::error::{VerifyError, quoted, tame};
use crate::net::NetError;
use crate::time::UnixTime;
use crate::trust::TrustError;

/// A server that takes part in a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Service {
    /// The certificate authority.
    Fulcio,
    /// The transparency log.
    Rekor,
    /// The timestamp authority.
    Timestamps,
}

impl Service {
    pub(super) const ALL: [Self; 3] = [Self::Fulcio, Self::Rekor, Self::Timestamps];

    /// Its address, if it is in use.
    pub(super) const fn url(self, services: &Services) -> Option<&Url> {
        match self {
            Self::Fulcio => Some(&services.fulcio),
            Self::Rekor => Some(&services.rekor),
            Self::Timestamps => services.tsa.as_ref(),
        }
    }

    /// What to do if it does not do its part.
    const fn remedy(self, fault: &NetError) -> &'static str {
        match (self, fault) {
            (Self::Fulcio, NetError::Status { status: 400..=403, .. }) => {
                ". It did not take the token: see that its issuer and audience are known to this Sigstore instance, and that it is fresh"
            }
            (Self::Rekor, NetError::Status { status: 409, .. }) => {
                ". The log says that it has this entry already, which a new signature cannot be: sign again"
            }
            (_, NetError::Status { status: 429 | 500..=599, .. }) => ". Try again later",
            (_, NetError::Status { .. } | NetError::Garbled { .. }) => {
                ". Check that the configuration names the right server, and that it is up to date"
            }
            _ => "",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fulcio => "the certificate authority (Fulcio)",
            Self::Rekor => "the transparency log (Rekor)",
            Self::Timestamps => "the timestamp authority",
        })
    }
}

/// Why there is no Sigstore signature. Each message says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigstoreSignError {
    /// This machine cannot make connections.
    #[error(transparent)]
    Net(#[from] NetError),
    /// There is no trust root to check the signature by.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The current servers and trust root could not be fetched.
    #[error(transparent)]
    Update(#[from] crate::trust::UpdateError),
    /// Nothing says which servers to use.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The machine has no token of its own.
    #[error(transparent)]
    Ambient(#[from] AmbientError),
    /// Nobody logged in.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The token's file cannot be read.
    #[error("cannot read the identity token in {path:?}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A token or a client secret cannot be had.
    #[error("{why}")]
    Secret {
        /// Why, without any of it.
        why: String,
    },
    /// The token is no good.
    #[error("the identity token cannot be used: {0}")]
    Token(TokenError),
    /// The token was good when hashing began.
    #[error(
        "the identity token expired at {at}, while the model was hashed. Use --use-ambient-credentials, a login, or an --identity-token-file that is renewed: they give a fresh one after hashing"
    )]
    Outlived {
        /// When.
        at: UnixTime,
    },
    /// A server did not do its part.
    #[error("{service}: {source}{}", .service.remedy(.source))]
    Service {
        /// Which.
        service: Service,
        /// What it did.
        source: NetError,
    },
    /// What came back does not verify.
    #[error(
        "the servers gave a signature that does not verify, so it is not kept: {0}. Check that the trust root and the servers belong together"
    )]
    Unverifiable(Box<VerifyError>),
    /// The certificate is for somebody else.
    #[error(
        "Fulcio certified {}, and the token is for {}; the signature is not kept. If that identity is right, name it with --expect-identity",
        quoted(found), quoted(&expected.join(" or "))
    )]
    Identity {
        /// Who may be certified.
        expected: Vec<String>,
        /// Who was.
        found: String,
    },
    /// The certificate names another issuer.
    #[error("Fulcio certified that {} issued the token, and it was {}; the signature is not kept", quoted(found), quoted(&expected.join(" or ")))]
    Issuer {
        /// Who may be named.
        expected: Vec<String>,
        /// Who was.
        found: String,
    },
    /// The library that speaks to the servers did what it must not.
    #[error("the Sigstore library failed: {}", tame(why))]
    Library {
        /// How.
        why: String,
    },
}
