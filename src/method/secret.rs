//! Passwords, PINs and tokens: asked for when they are needed, wiped when they are not, never shown.

use std::fmt;
use std::path::Path;

use zeroize::Zeroizing;

use super::shown;
use crate::key::PasswordError;
use crate::sign::pkcs11::TokenName;

/// Text that nobody else should see: wiped when it is dropped, and absent from whatever is printed for debugging.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &Zeroizing<String> {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<Zeroizing<String>> for Secret {
    fn from(text: Zeroizing<String>) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a secret opens. Its display is what to ask for.
#[derive(Debug, Clone, Copy)]
pub enum Lock<'a> {
    /// An encrypted private key.
    Key(&'a Path),
    /// A token.
    Token(&'a TokenName),
}

impl fmt::Display for Lock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(path) => write!(f, "Password of the private key {}", shown(path)),
            Self::Token(token) => write!(f, "PIN of the token {token}"),
        }
    }
}

/// How to ask for a secret.
type Ask<'a> = &'a mut dyn FnMut(Lock<'_>) -> Result<Zeroizing<String>, PasswordError>;

/// Where passwords and PINs come from.
pub struct Secrets<'a> {
    /// Whether the caller has said where: it is then told if nothing asked for one.
    pub given: bool,
    /// Called once, and only if a key or a token is locked.
    pub ask: Ask<'a>,
}

impl fmt::Debug for Secrets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("given", &self.given).finish_non_exhaustive()
    }
}
