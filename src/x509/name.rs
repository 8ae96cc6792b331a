//! Names: distinguished ones as text, and those of subjectAltName.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use der::asn1::{Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use der::{Encode, Tag, Tagged};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use crate::digest::hex;

/// A name of the subjectAltName extension. Text is as it stands in the certificate; it holds no control character.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubjectName {
    /// An e-mail address (rfc822Name).
    Email(String),
    /// A host (dNSName).
    Dns(String),
    /// A URI, in Sigstore the workflow that signed.
    Uri(String),
    /// An address.
    Ip(IpAddr),
    /// A directoryName, as RFC 4514 writes it.
    Directory(String),
    /// Any other kind.
    Other {
        /// Which kind: `otherName` and its object identifier, `registeredID`, `ediPartyName`.
        kind: String,
        /// The value: text where it is text, otherwise hexadecimal DER.
        value: String,
    },
}

impl fmt::Display for SubjectName {
    /// The name alone, as `--identity` would be given it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Email(text) | Self::Dns(text) | Self::Uri(text) | Self::Directory(text) => f.write_str(text),
            Self::Ip(address) => address.fmt(f),
            Self::Other { value, .. } => f.write_str(value),
        }
    }
}

/// A distinguished name and its DER, by which names are compared.
#[derive(Clone)]
pub(super) struct DistinguishedName {
    pub(super) der: Vec<u8>,
    pub(super) name: Name,
}

impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text(&self.name))
    }
}

/// The whole name as RFC 4514 writes it.
pub(super) fn text(name: &Name) -> String {
    let parts = name.0.iter().rev().map(|part| part.0.iter().map(attribute).collect::<Vec<_>>().join("+"));
    parts.collect::<Vec<_>>().join(",")
}

/// `CN=value`; a type without a short name is told by its number, and its value as the hexadecimal of its DER.
fn attribute(attribute: &AttributeTypeAndValue) -> String {
    let oid = attribute.oid.to_string();
    match (short_name(&oid), string(attribute)) {
        (Some(name), Some(value)) => format!("{name}={}", escaped(value)),
        (name, _) => {
            let value = attribute.value.to_der().unwrap_or_default();
            format!("{}=#{}", name.unwrap_or(&oid), hex(&value))
        }
    }
}

/// RFC 4514, section 3, and two more that certificates have often.
fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.6" => "C",
        "2.5.4.9" => "STREET",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        "1.2.840.113549.1.9.1" => "emailAddress",
        "2.5.4.5" => "serialNumber",
        _ => return None,
    })
}

/// The value, if it is one of the string types that can be read without doubt.
pub(super) fn string(attribute: &AttributeTypeAndValue) -> Option<&str> {
    let value = &attribute.value;
    match value.tag() {
        Tag::Utf8String => Utf8StringRef::try_from(value).ok().map(|text| text.as_str()),
        Tag::PrintableString => PrintableStringRef::try_from(value).ok().map(|text| text.as_str()),
        Tag::Ia5String => Ia5StringRef::try_from(value).ok().map(|text| text.as_str()),
        Tag::TeletexString => TeletexStringRef::try_from(value).ok().map(|text| text.as_str()),
        _ => None,
    }
}

/// RFC 4514, section 2.4.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, char) in value.chars().enumerate() {
        match char {
            ' ' if at == 0 || at == last => text.push_str("\\ "),
            '#' if at == 0 => text.push_str("\\#"),
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', char]),
            _ if char.is_control() => {
                char.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| text.push_str(&format!("\\{byte:02X}")));
            }
            _ => text.push(char),
        }
    }
    text
}

/// A name of subjectAltName, unless it is one that could be mistaken for another.
pub(super) fn subject_name(name: &GeneralName) -> Result<SubjectName, &'static str> {
    let plain = |text: &str| match text {
        "" => Err("a name is empty"),
        _ if text.chars().any(char::is_control) => Err("a name has a control character in it"),
        _ => Ok(text.to_owned()),
    };
    Ok(match name {
        GeneralName::Rfc822Name(text) => SubjectName::Email(plain(text.as_str())?),
        GeneralName::DnsName(text) => SubjectName::Dns(plain(text.as_str())?),
        GeneralName::UniformResourceIdentifier(text) => SubjectName::Uri(plain(text.as_str())?),
        GeneralName::IpAddress(bytes) => match *bytes.as_bytes() {
            [a, b, c, d] => SubjectName::Ip(Ipv4Addr::new(a, b, c, d).into()),
            ref long => {
                let bytes: [u8; 16] = long.try_into().map_err(|_| "an IP address has neither 4 nor 16 bytes")?;
                SubjectName::Ip(Ipv6Addr::from(bytes).into())
            }
        },
        GeneralName::DirectoryName(name) => SubjectName::Directory(text(name)),
        GeneralName::OtherName(other) => {
            let kind = format!("otherName {}", other.type_id);
            match Utf8StringRef::try_from(&other.value) {
                Ok(text) => SubjectName::Other { kind, value: plain(text.as_str())? },
                Err(_) => SubjectName::Other { kind, value: der_hex(&other.value)? },
            }
        }
        GeneralName::EdiPartyName(party) => {
            SubjectName::Other { kind: "ediPartyName".to_owned(), value: der_hex(party)? }
        }
        GeneralName::RegisteredId(oid) => {
            SubjectName::Other { kind: "registeredID".to_owned(), value: oid.to_string() }
        }
    })
}

fn der_hex(value: &impl Encode) -> Result<String, &'static str> {
    value.to_der().map(|der| hex(&der)).map_err(|_| "a name cannot be written again")
}
