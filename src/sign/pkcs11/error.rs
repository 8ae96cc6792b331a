//! Why a token does not sign. Labels come from tokens, so they are quoted and cut.

use std::fmt;
use std::path::PathBuf;

use super::{ObjectKind, UriError};
use crate::error::quoted;
use crate::key::KeyError;
use crate::x509::CertificateFault;

/// Why there is no signature from a token. Each message says what to do about it, and none holds a PIN.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Pkcs11Error {
    /// The URI is malformed.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// A static program loads no libraries.
    #[error("the static build of tensorseal cannot load PKCS#11 modules (it has no dlopen): use another build")]
    Static,
    /// The URI names no key.
    #[error(
        "the PKCS#11 URI names no key: it has neither `id` nor `object`; list the keys with `pkcs11-tool --module \
         MODULE --list-objects` or `p11tool --list-all` and add one of them"
    )]
    NoKeyNamed,
    /// The URI names an object that cannot sign.
    #[error("the PKCS#11 URI names an object of type `{}`; only a private key signs: write type=private, or leave it out", .0.name())]
    KindOfObject(ObjectKind),
    /// Nothing says which module to load.
    #[error(
        "nothing says which PKCS#11 module to load; add `?module-path=/PATH/MODULE.so` or `?module-name=NAME` to the \
         URI, or give --module-path"
    )]
    NoModuleNamed,
    /// Several files were named and one module is loaded.
    #[error("several PKCS#11 modules were named, {first:?} and {second:?} among them; name one")]
    SeveralModulesNamed {
        /// The first one.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
    },
    /// No module of that name in any folder.
    #[error(
        "no PKCS#11 module {} was found in {}; install it, or say where it is with --module-path",
        quoted(name),
        list(searched.iter().map(|path| format!("{path:?}")))
    )]
    NoModule {
        /// The name.
        name: String,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// Two modules of that name in one folder.
    #[error(
        "the module-name {} fits two modules, {first:?} and {second:?}; write more of the name, or use module-path",
        quoted(name)
    )]
    SeveralModules {
        /// The name.
        name: String,
        /// The first one.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
    },
    /// The module's file has another name than the URI wants.
    #[error(
        "the PKCS#11 module {path:?} is not of the module-name {} that the URI asks for; correct one of them",
        quoted(name)
    )]
    OtherModuleName {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// The path of a module leads nowhere useful.
    #[error("the PKCS#11 module {path:?} cannot be loaded: {why}")]
    ModulePath {
        /// The path.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The file is no module.
    #[error(
        "{path:?} is no PKCS#11 module that can be loaded: {}; check the path, and that it is for this processor",
        quoted(why)
    )]
    NotAModule {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        why: String,
    },
    /// The module is not the one that the URI asks for.
    #[error(
        "the URI asks for a module with {attribute} {}, and the one loaded has {}; correct the URI or the module",
        quoted(wanted),
        quoted(found)
    )]
    OtherLibrary {
        /// Name of the attribute.
        attribute: &'static str,
        /// As the URI has it.
        wanted: String,
        /// As the module says.
        found: String,
    },
    /// No token fits.
    #[error(
        "no token fits {}; {}",
        quoted(wanted),
        if found.is_empty() { "the module sees no initialised token: plug it in, or initialise it".to_owned() }
        else { format!("the module sees {}: correct the URI, or plug the token in", list(found.iter().map(TokenName::to_string))) }
    )]
    NoToken {
        /// The URI.
        wanted: String,
        /// What is there.
        found: Vec<TokenName>,
    },
    /// Two tokens fit, and there is no way to say which is meant.
    #[error("two tokens fit {}: {first}, and {second}; add `serial` or `slot-id` to the URI", quoted(wanted))]
    SeveralTokens {
        /// The URI.
        wanted: String,
        /// The first one.
        first: TokenName,
        /// Another one.
        second: TokenName,
    },
    /// A PIN is needed, and nobody gave one.
    #[error(
        "the token {token} needs a PIN, and none was given; add `?pin-source=/PATH` to the URI, or pass the PIN another way"
    )]
    PinNotGiven {
        /// The token.
        token: TokenName,
    },
    /// The PIN could not be read.
    #[error("the PIN could not be read ({0}); pass it another way")]
    PinUnreadable(String),
    /// A PIN in the URI and another one beside it.
    #[error("the PKCS#11 URI says what the PIN is and an option does, too; leave one of them")]
    TwoPins,
    /// The token refused the PIN.
    #[error("wrong PIN for the token {token} (CKR_PIN_INCORRECT); {left}")]
    PinIncorrect {
        /// The token.
        token: TokenName,
        /// What the token says of further tries.
        left: PinTries,
    },
    /// The PIN is locked, after too many wrong ones.
    #[error(
        "the PIN of the token {token} is locked (CKR_PIN_LOCKED): it took too many wrong ones; unlock it with its security officer's PIN"
    )]
    PinLocked {
        /// The token.
        token: TokenName,
    },
    /// No key fits.
    #[error(
        "no private key of the token {token} fits {}; {}",
        quoted(wanted),
        if found.is_empty() { "it has no private key that this user can see".to_owned() }
        else { format!("it has {}: correct the URI", list(found.iter().map(KeyName::to_string))) }
    )]
    NoKey {
        /// The URI.
        wanted: String,
        /// The token.
        token: TokenName,
        /// What is there.
        found: Vec<KeyName>,
    },
    /// Two keys fit.
    #[error(
        "two private keys of the token {token} fit {}: {first}, and {second}; name one by `id` and `object`",
        quoted(wanted)
    )]
    SeveralKeys {
        /// The URI.
        wanted: String,
        /// The token.
        token: TokenName,
        /// The first one.
        first: KeyName,
        /// Another one.
        second: KeyName,
    },
    /// A key of another kind.
    #[error(
        "the private key {key} is of type {found}, which OMS does not sign with; use an elliptic-curve key on P-256, P-384 or P-521"
    )]
    KeyType {
        /// The key.
        key: KeyName,
        /// Its type.
        found: String,
    },
    /// A key that may not sign.
    #[error("the private key {key} may not sign: its CKA_SIGN is false; use a key that was made for signing")]
    NotForSigning {
        /// The key.
        key: KeyName,
    },
    /// The public half, or the curve, is not usable.
    #[error("the key {key} of the token: {source}")]
    Key {
        /// The key.
        key: KeyName,
        /// Why.
        source: KeyError,
    },
    /// The public half is nowhere.
    #[error(
        "the token has neither a public key nor a certificate beside the private key {key}, so nobody would know whose \
         signature it is; put one of them on the token with the same CKA_ID, or sign with a certificate"
    )]
    NoPublicKey {
        /// The key.
        key: KeyName,
    },
    /// Public keys or certificates that contradict each other.
    #[error(
        "the token holds different public keys for the private key {key}; remove those that do not belong to it, or give it a CKA_ID of its own"
    )]
    Contradiction {
        /// The key.
        key: KeyName,
    },
    /// The certificate beside the key is none.
    #[error("the certificate that the token holds for the key {key} cannot be read: {fault}; replace it on the token")]
    CertificateOfToken {
        /// The key.
        key: KeyName,
        /// What is wrong with it.
        fault: CertificateFault,
    },
    /// The token made something that is no signature of its key.
    #[error(
        "the token's signature does not verify with the public key of {key}, so it is not written; either the public \
         key or certificate is not that key's, or the token is faulty"
    )]
    BadSignature {
        /// The key.
        key: KeyName,
    },
    /// A key that wants its PIN for each signature, and a module that cannot be asked so.
    #[error(
        "the private key {key} wants its PIN again for each signature (CKA_ALWAYS_AUTHENTICATE), and this module cannot \
         sign in that way ({code}); use a key without that attribute"
    )]
    AlwaysAuthenticate {
        /// The key.
        key: KeyName,
        /// What the module said.
        code: String,
    },
    /// The module or the token failed.
    #[error("the PKCS#11 module cannot {doing}: {code}; {remedy}")]
    Call {
        /// What was tried, as a verb.
        doing: &'static str,
        /// What the module said, such as `CKR_DEVICE_REMOVED`.
        code: String,
        /// What to do.
        remedy: &'static str,
    },
}

/// A token, as messages call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenName {
    /// Its label.
    pub label: String,
    /// Its serial number.
    pub serial: String,
    /// The number of its slot.
    pub slot: u64,
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (serial {}, slot-id {})", quoted(&self.label), quoted(&self.serial), self.slot)
    }
}

/// A key, as messages call it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyName {
    /// Its label (`CKA_LABEL`), if it has one.
    pub label: Option<String>,
    /// Its identifier (`CKA_ID`), if it has one.
    pub id: Option<Vec<u8>>,
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Identifiers are 20 bytes where they are the hash of a key.
        const SHOWN: usize = 20;
        let id = |id: &Vec<u8>| {
            let cut = if id.len() > SHOWN { ".." } else { "" };
            let shown = &id[..id.len().min(SHOWN)];
            format!("id={}{cut}", super::encoding::encode_all(shown))
        };
        match (&self.label, &self.id) {
            (Some(label), Some(bytes)) => write!(f, "{} ({})", quoted(label), id(bytes)),
            (Some(label), None) => f.write_str(&quoted(label)),
            (None, Some(bytes)) => f.write_str(&id(bytes)),
            (None, None) => f.write_str("without a label"),
        }
    }
}

/// What a token says after a wrong PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinTries {
    /// Nothing of note.
    More,
    /// One more wrong one locks it.
    One,
    /// It is locked now.
    None,
}

impl fmt::Display for PinTries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::More => "check it before you try again: after a few wrong ones the token locks itself",
            Self::One => "one more wrong PIN locks the token: be sure of it before you try again",
            Self::None => "and the token has locked itself: unlock it with its security officer's PIN",
        })
    }
}

/// At most a handful of a list, each already quoted.
fn list(items: impl ExactSizeIterator<Item = String>) -> String {
    const SHOWN: usize = 8;
    let count = items.len();
    let mut shown = items.take(SHOWN).collect::<Vec<_>>().join(", ");
    if count > SHOWN {
        shown.push_str(&format!(" and {} more", count - SHOWN));
    }
    shown
}
