//! Keys in tokens: smart cards, hardware security modules, whatever has a PKCS#11 module.
//!
//! A [`Pkcs11Uri`] (RFC 7512) says which key. [`Pkcs11Key::open`] loads the module, finds token and key, logs in, and
//! finds the public half, all before anything is hashed. The token then gets a hash to sign, nothing else, and what it
//! returns is verified before it is believed. The private key never leaves it.

mod encoding;
mod error;
#[cfg(feature = "pkcs11")]
mod key;
#[cfg(feature = "pkcs11")]
mod module;
#[cfg(feature = "pkcs11")]
mod pin;
#[cfg(feature = "pkcs11")]
mod search;
#[cfg(feature = "pkcs11")]
mod session;
#[cfg(feature = "pkcs11")]
mod signer;
mod uri;

#[cfg(test)]
mod tests;

pub use error::{KeyName, PinTries, Pkcs11Error, TokenName};
#[cfg(feature = "pkcs11")]
pub use key::Pkcs11Key;
#[cfg(feature = "pkcs11")]
pub use signer::{Pkcs11CertificateSigner, Pkcs11Signer};
pub use uri::{ObjectKind, Pkcs11Uri, UriError, UriPin};
