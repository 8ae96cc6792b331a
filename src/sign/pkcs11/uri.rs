//! PKCS#11 URIs (RFC 7512): which key, in which token, behind which module, and where its PIN is.
//!
//! Every attribute that RFC 7512 names is read. One that is not known is an error, in the path and in the query: a
//! restriction that nobody understood must not be dropped (section 2.5 says so of the path, and would let a misspelled
//! `pin-source` or `module-path` in the query pass for one that is absent).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use zeroize::{Zeroize, Zeroizing};

use super::encoding::{decode, encode_all, encode_path, encode_query};
use crate::error::quoted;

/// No URI of a token is longer; what is was given by mistake.
const LONGEST: usize = 16 << 10;

/// What a URI points at. Each attribute that is there must be matched exactly; one that is absent matches anything.
///
/// Neither `Debug` nor `Display` shows a PIN: what they show is the URI without it.
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Pkcs11Uri {
    /// Label of the token.
    pub token: Option<String>,
    /// Who made the token.
    pub manufacturer: Option<String>,
    /// Serial number of the token.
    pub serial: Option<String>,
    /// Model of the token.
    pub model: Option<String>,
    /// Who made the module.
    pub library_manufacturer: Option<String>,
    /// What the module says of itself.
    pub library_description: Option<String>,
    /// Version of the module: major and minor.
    pub library_version: Option<(u8, u8)>,
    /// Number of the slot.
    pub slot_id: Option<u64>,
    /// Who made the slot.
    pub slot_manufacturer: Option<String>,
    /// What the slot says of itself.
    pub slot_description: Option<String>,
    /// Label of the key (`CKA_LABEL`).
    pub object: Option<String>,
    /// Identifier of the key (`CKA_ID`): any bytes.
    pub id: Option<Vec<u8>>,
    /// What kind of object it is. Only a private key signs.
    pub kind: Option<ObjectKind>,
    /// The module: a file, or the folder where `module_name` is looked for. Absolute.
    pub module_path: Option<PathBuf>,
    /// Name of the module, without `lib` and `.so`.
    pub module_name: Option<String>,
    /// The PIN, or where it is.
    pub pin: Option<UriPin>,
}

/// The values of the attribute `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// `public`
    PublicKey,
    /// `private`
    PrivateKey,
    /// `cert`
    Certificate,
    /// `secret-key`
    SecretKey,
    /// `data`
    Data,
}

/// What a URI says of the PIN.
#[derive(Clone, PartialEq, Eq)]
pub enum UriPin {
    /// `pin-value`: the PIN itself.
    Value(Zeroizing<String>),
    /// `pin-source`: the file whose first line is the PIN.
    Source(PathBuf),
}

impl fmt::Debug for UriPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Value(..)"),
            Self::Source(path) => f.debug_tuple("Source").field(path).finish(),
        }
    }
}

/// What is wrong with a PKCS#11 URI. No message quotes a value that could be a PIN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// Another scheme, or none.
    #[error("malformed PKCS#11 URI: it does not begin with `pkcs11:`; write it as in `pkcs11:token=TOKEN;object=KEY`")]
    Scheme,
    /// Longer than any URI of a token is.
    #[error("malformed PKCS#11 URI: it has {len} bytes, and at most {limit} are accepted")]
    Long {
        /// Bytes in it.
        len: usize,
        /// Bytes accepted.
        limit: usize,
    },
    /// A piece without `=`, or with nothing before it. It is not shown: it could be a PIN.
    #[error(
        "malformed PKCS#11 URI: the {part} attribute number {number} is not NAME=VALUE; attributes of the path are \
         separated by `;`, those of the query, behind `?`, by `&`, and these signs within a value are %3B and %26"
    )]
    Attribute {
        /// `path` or `query`.
        part: &'static str,
        /// Counted from 1.
        number: usize,
    },
    /// An attribute twice.
    #[error("the PKCS#11 URI has the attribute {name} twice; leave the one that is meant")]
    Twice {
        /// Its name.
        name: &'static str,
    },
    /// A name that RFC 7512 does not have.
    #[error(
        "the PKCS#11 URI has the {part} attribute {}, which is not known here, so what it asks for would be ignored; \
         correct its name or leave it out",
        name.as_ref().map_or_else(|| format!("number {number}"), |name| quoted(name))
    )]
    Unknown {
        /// `path` or `query`.
        part: &'static str,
        /// Counted from 1.
        number: usize,
        /// Its name, unless it could be a part of a PIN that holds an unescaped `&`.
        name: Option<String>,
    },
    /// An attribute on the wrong side of the question mark.
    #[error("the PKCS#11 URI has the attribute {name} in its {part}; {remedy}")]
    Misplaced {
        /// Its name.
        name: &'static str,
        /// `path` or `query`: where it is.
        part: &'static str,
        /// Where it belongs.
        remedy: &'static str,
    },
    /// A character that a URI does not hold as itself.
    #[error(
        "the PKCS#11 URI's {name} holds a character at byte {at} that must be written as a percent sign and its two \
         hexadecimal digits (a space is %20, a semicolon %3B)"
    )]
    Character {
        /// The attribute.
        name: &'static str,
        /// Where in its value.
        at: usize,
    },
    /// A percent sign without two hexadecimal digits.
    #[error("the PKCS#11 URI's {name} has a percent sign at byte {at} without two hexadecimal digits; % itself is %25")]
    Percent {
        /// The attribute.
        name: &'static str,
        /// Where in its value.
        at: usize,
    },
    /// A value that is not UTF-8.
    #[error("the PKCS#11 URI's {name} is not UTF-8 once decoded; only `id` may hold any bytes")]
    NotUtf8 {
        /// The attribute.
        name: &'static str,
    },
    /// A value that the attribute cannot have.
    #[error("the PKCS#11 URI's {name} is {}; {expected}", quoted(found))]
    Value {
        /// The attribute.
        name: &'static str,
        /// Its value.
        found: String,
        /// What it can be.
        expected: &'static str,
    },
    /// A PIN of no characters, which modules take for another way to log in.
    #[error("the PKCS#11 URI's pin-value is empty; write the PIN, or leave the attribute out")]
    EmptyPin,
    /// A PIN and a file with a PIN.
    #[error("the PKCS#11 URI has both pin-value and pin-source; leave one of them, best pin-source")]
    TwoPins,
    /// A module must be the same whatever the current folder is.
    #[error("the path {} of the PKCS#11 URI's module-path must be absolute", quoted(found))]
    RelativeModule {
        /// The path.
        found: String,
    },
    /// A `pin-source` that is no file.
    #[error(
        "the PKCS#11 URI's pin-source is a {found}, which is not supported; write the path of a file whose first line \
         is the PIN"
    )]
    PinSource {
        /// What it is.
        found: &'static str,
    },
}

/// Names in the path, in the order in which they are written.
const PATH: [&str; 13] = [
    "token",
    "manufacturer",
    "serial",
    "model",
    "library-manufacturer",
    "library-description",
    "library-version",
    "slot-id",
    "slot-manufacturer",
    "slot-description",
    "object",
    "id",
    "type",
];

/// Names in the query, in the order in which they are written.
const QUERY: [&str; 4] = ["module-path", "module-name", "pin-source", "pin-value"];

impl FromStr for Pkcs11Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        const SCHEME: &str = "pkcs11:";
        if text.len() > LONGEST {
            return Err(UriError::Long { len: text.len(), limit: LONGEST });
        }
        let rest = match text.split_at_checked(SCHEME.len()) {
            // Schemes of URIs know no case (RFC 3986, section 3.1).
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => rest,
            _ => return Err(UriError::Scheme),
        };
        let (path, query) = rest.split_once('?').map_or((rest, ""), |(path, query)| (path, query));
        let mut uri = Self::default();
        for (name, value) in attributes("path", path, ';')? {
            uri.take_path(name, value)?;
        }
        for (name, value) in attributes("query", query, '&')? {
            uri.take_query(name, value)?;
        }
        Ok(uri)
    }
}

/// Names and still encoded values of one part of the URI, each name known and there once.
fn attributes<'a>(
    part: &'static str,
    text: &'a str,
    separator: char,
) -> Result<Vec<(&'static str, &'a str)>, UriError> {
    let (here, there): (&[&'static str], &[&'static str]) =
        if part == "path" { (&PATH, &QUERY) } else { (&QUERY, &PATH) };
    let mut found: Vec<(&'static str, &str)> = Vec::new();
    if text.is_empty() {
        return Ok(found);
    }
    for (index, piece) in text.split(separator).enumerate() {
        let number = index + 1;
        let (name, value) =
            piece.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or(UriError::Attribute { part, number })?;
        let among = |names: &[&'static str]| names.iter().copied().find(|known| *known == name);
        let Some(name) = among(here) else {
            if let Some(name) = among(there) {
                let remedy = if part == "path" {
                    "it belongs in the query, behind a question mark"
                } else {
                    "it belongs in the path, before the question mark"
                };
                return Err(UriError::Misplaced { name, part, remedy });
            }
            // Behind a PIN this may be the rest of it.
            let shown = !found.iter().any(|(name, _)| *name == "pin-value") && plain(name);
            return Err(UriError::Unknown { part, number, name: shown.then(|| name.to_owned()) });
        };
        if found.iter().any(|(earlier, _)| *earlier == name) {
            return Err(UriError::Twice { name });
        }
        found.push((name, value));
    }
    Ok(found)
}

/// What the name of an attribute looks like (RFC 7512, `pk11-v-attr-nm-char`).
fn plain(name: &str) -> bool {
    name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

impl Pkcs11Uri {
    fn take_path(&mut self, name: &'static str, value: &str) -> Result<(), UriError> {
        let bytes = decode(name, value, b":[]@!$'()*+,=&")?;
        if name == "id" {
            self.id = Some(bytes.to_vec());
            return Ok(());
        }
        let text = utf8(name, bytes)?.to_string();
        let wrong = |found: &str, expected| Err(UriError::Value { name, found: found.to_owned(), expected });
        match name {
            "token" => self.token = Some(text),
            "manufacturer" => self.manufacturer = Some(text),
            "serial" => self.serial = Some(text),
            "model" => self.model = Some(text),
            "library-manufacturer" => self.library_manufacturer = Some(text),
            "library-description" => self.library_description = Some(text),
            "slot-manufacturer" => self.slot_manufacturer = Some(text),
            "slot-description" => self.slot_description = Some(text),
            "object" => self.object = Some(text),
            "library-version" => {
                let (major, minor) = text.split_once('.').unwrap_or((&text, "0"));
                match (number(major), number(minor)) {
                    (Some(major), Some(minor)) => self.library_version = Some((major, minor)),
                    _ => return wrong(&text, "write it as MAJOR.MINOR, each up to 255"),
                }
            }
            "slot-id" => match number(&text) {
                Some(slot) => self.slot_id = Some(slot),
                None => return wrong(&text, "write the number of the slot in decimal digits"),
            },
            _ => match ObjectKind::ALL.into_iter().find(|kind| kind.name() == text) {
                Some(kind) => self.kind = Some(kind),
                None => return wrong(&text, "it can be private, public, cert, secret-key or data"),
            },
        }
        Ok(())
    }

    fn take_query(&mut self, name: &'static str, value: &str) -> Result<(), UriError> {
        let text = utf8(name, decode(name, value, b":[]@!$'()*+,=/?|")?)?;
        match name {
            "module-path" if text.starts_with('/') => self.module_path = Some(PathBuf::from(&*text)),
            "module-path" => return Err(UriError::RelativeModule { found: text.to_string() }),
            "module-name" if text.is_empty() || text.contains('/') => {
                let expected = "write the name of a file without its folder; that is module-path";
                return Err(UriError::Value { name, found: text.to_string(), expected });
            }
            "module-name" => self.module_name = Some(text.to_string()),
            _ if self.pin.is_some() => return Err(UriError::TwoPins),
            "pin-source" => self.pin = Some(UriPin::Source(pin_source(&text)?)),
            _ if text.is_empty() => return Err(UriError::EmptyPin),
            _ => self.pin = Some(UriPin::Value(text)),
        }
        Ok(())
    }

    /// The whole URI, with the PIN if there is one in it, in one form for each meaning.
    #[must_use]
    pub fn to_uri(&self) -> Zeroizing<String> {
        // Room for all at once: a buffer that grows leaves copies of the PIN behind.
        let pin = match &self.pin {
            Some(UriPin::Value(pin)) => 3 * pin.len() + "&pin-value=".len(),
            _ => 0,
        };
        let mut text = self.to_string();
        if pin == 0 {
            return Zeroizing::new(text);
        }
        let mut whole = Zeroizing::new(String::with_capacity(text.len() + pin));
        whole.push_str(&text);
        text.zeroize();
        if let Some(UriPin::Value(pin)) = &self.pin {
            let separator = if whole.contains('?') { '&' } else { '?' };
            whole.push(separator);
            whole.push_str("pin-value=");
            encode_query(&mut whole, pin.as_bytes());
        }
        whole
    }

    /// What the URI asks for: all of it but where the module and the PIN are.
    #[cfg(feature = "pkcs11")]
    pub(super) fn without_query(&self) -> String {
        let mut asked = self.clone();
        (asked.module_path, asked.module_name, asked.pin) = (None, None, None);
        asked.to_string()
    }

    /// The value of a path attribute as it is written, by name.
    fn path_value(&self, name: &str) -> Option<String> {
        let text = |value: &Option<String>| value.as_ref().map(|value| encode_path(value.as_bytes()));
        match name {
            "token" => text(&self.token),
            "manufacturer" => text(&self.manufacturer),
            "serial" => text(&self.serial),
            "model" => text(&self.model),
            "library-manufacturer" => text(&self.library_manufacturer),
            "library-description" => text(&self.library_description),
            "library-version" => self.library_version.map(|(major, minor)| format!("{major}.{minor}")),
            "slot-id" => self.slot_id.map(|slot| slot.to_string()),
            "slot-manufacturer" => text(&self.slot_manufacturer),
            "slot-description" => text(&self.slot_description),
            "object" => text(&self.object),
            "id" => self.id.as_ref().map(|id| encode_all(id)),
            _ => self.kind.map(|kind| kind.name().to_owned()),
        }
    }
}

/// The URI without a PIN. A `pin-source`, which only says where one is, is shown.
impl fmt::Display for Pkcs11Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = PATH.iter().filter_map(|name| self.path_value(name).map(|value| format!("{name}={value}")));
        write!(f, "pkcs11:{}", path.collect::<Vec<_>>().join(";"))?;
        let mut separator = '?';
        let source = match &self.pin {
            Some(UriPin::Source(path)) => Some(path),
            _ => None,
        };
        // Both came from a `String`, so nothing is lost here.
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let values = [self.module_path.as_ref().map(text), self.module_name.clone(), source.map(text)];
        for (name, value) in QUERY.iter().zip(values) {
            if let Some(value) = value {
                let mut encoded = String::new();
                encode_query(&mut encoded, value.as_bytes());
                write!(f, "{separator}{name}={encoded}")?;
                separator = '&';
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Pkcs11Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pin = if matches!(self.pin, Some(UriPin::Value(_))) { ", with a PIN" } else { "" };
        write!(f, "Pkcs11Uri({self}{pin})")
    }
}

impl ObjectKind {
    const ALL: [Self; 5] = [Self::PublicKey, Self::PrivateKey, Self::Certificate, Self::SecretKey, Self::Data];

    /// As the attribute `type` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PublicKey => "public",
            Self::PrivateKey => "private",
            Self::Certificate => "cert",
            Self::SecretKey => "secret-key",
            Self::Data => "data",
        }
    }
}

/// Decimal digits and nothing else, as the grammar has it; `parse` alone would take a sign.
fn number<N: FromStr>(text: &str) -> Option<N> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn utf8(name: &'static str, mut bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, UriError> {
    match String::from_utf8(std::mem::take(&mut bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            error.into_bytes().zeroize();
            Err(UriError::NotUtf8 { name })
        }
    }
}

/// The file of a `pin-source`: a path, or a `file:` URI (RFC 8089), which is encoded once more.
fn pin_source(text: &str) -> Result<PathBuf, UriError> {
    let refused = |found| Err(UriError::PinSource { found });
    if text.is_empty() {
        return refused("path of no characters");
    }
    if text.starts_with('|') {
        return refused("command");
    }
    let scheme = text.split_once(':').filter(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    });
    let Some((scheme, rest)) = scheme else { return Ok(PathBuf::from(text)) };
    if !scheme.eq_ignore_ascii_case("file") {
        return refused("URI of another scheme than file:");
    }
    let path = match rest.strip_prefix("//") {
        Some(authority) => match authority.split_once('/') {
            Some(("" | "localhost", path)) => format!("/{path}"),
            _ => return refused("file: URI of another machine"),
        },
        None => rest.to_owned(),
    };
    if !path.starts_with('/') {
        return refused("file: URI without an absolute path");
    }
    let path = utf8("pin-source", decode("pin-source", &path, b":[]@!$'()*+,=&;/")?)?;
    Ok(PathBuf::from(&*path))
}
