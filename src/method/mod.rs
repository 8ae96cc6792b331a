//! From what people say of signers, which is paths and names, to a [`Verifier`](crate::verify::Verifier) or a
//! [`Signer`](crate::sign::Signer): the same for the command line, for Python and for C.
//!
//! Whatever can fail fails here, before anything is hashed. Nothing is asked of the network, unless a Sigstore is to sign
//! or a timestamp is wanted.

mod files;
mod secret;
mod sign;
mod trusted;
mod verify;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};

pub use files::{read_certificates, system_roots};
pub use secret::{Lock, Secret, Secrets};
#[cfg(feature = "sigstore-sign")]
pub use sign::sigstore_signer;
pub use sign::{
    IdentityTokenFrom, SignMethod, SigningCertificateFiles, SigstoreSigning, Timestamping, TokenKey, private_key,
};
pub use trusted::Trusted;
pub use verify::{CertificateTrust, SigstoreTrust, VerifyMethod};
pub use write::{can_write, sign_to};

use crate::sign::pkcs11::TokenName;

/// Something that its user should know of a key or of certificates, and that changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A private key lies open.
    OthersCanRead(PathBuf),
    /// There was a password for a key that has none.
    PasswordNotUsed(PathBuf),
    /// There was a PIN for a token that did not ask for one.
    PinNotUsed(TokenName),
    /// Some of this machine's certificate authorities are not trusted.
    CertificatesLeftOut {
        /// The file of them.
        path: PathBuf,
        /// How many cannot be read.
        count: usize,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OthersCanRead(path) => {
                write!(f, "other users can read the private key {}; make it yours alone with `chmod 600`", shown(path))
            }
            Self::PasswordNotUsed(path) => {
                write!(f, "the key {} is not encrypted; the password was not used", shown(path))
            }
            Self::PinNotUsed(token) => {
                write!(f, "the token {token} asks this program for no PIN; the one given was not used")
            }
            Self::CertificatesLeftOut { path, count } => {
                write!(f, "{count} of the certificates in {} cannot be read and are not trusted", shown(path))
            }
        }
    }
}

/// A path on one line and without power over a terminal; `it's` stays as it is.
fn shown(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\"")
}
