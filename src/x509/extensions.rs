//! The extensions that are processed (RFC 5280, section 4.2), and those that should have been.

use std::collections::HashSet;

use der::asn1::{BitString, ObjectIdentifier, OctetString};
use der::{Decode, Encode};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, BasicConstraints, NameConstraints};

use super::constraints::Constraints;
use super::name::{self, SubjectName};
use super::{CertificateFault, parse};

const SUBJECT_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const NAME_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.30");
const AUTHORITY_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");

const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

/// What the extensions say, each `None` if it is absent.
#[derive(Clone, Default)]
pub(super) struct Extensions {
    pub(super) basic_constraints: Option<Basic>,
    pub(super) key_usage: Option<KeyUsage>,
    pub(super) purposes: Option<Purposes>,
    pub(super) names: Option<Vec<SubjectName>>,
    pub(super) general_names: Vec<GeneralName>,
    pub(super) names_critical: bool,
    pub(super) constraints: Option<Constraints>,
    pub(super) subject_key_id: Option<Vec<u8>>,
    pub(super) authority_key_id: Option<Vec<u8>>,
    /// Critical, and not processed: whoever uses the certificate must refuse it.
    pub(super) unprocessed: Option<ObjectIdentifier>,
}

#[derive(Clone, Copy)]
pub(super) struct Basic {
    pub(super) ca: bool,
    pub(super) path_len: Option<u8>,
}

#[derive(Clone, Copy)]
pub(super) struct KeyUsage {
    pub(super) digital_signature: bool,
    pub(super) key_cert_sign: bool,
}

/// extendedKeyUsage.
#[derive(Clone)]
pub(super) struct Purposes(Vec<ObjectIdentifier>);

impl Purposes {
    pub(super) fn has_code_signing(&self) -> bool {
        self.0.contains(&CODE_SIGNING)
    }

    pub(super) fn has_any(&self) -> bool {
        self.0.contains(&ANY_PURPOSE)
    }

    /// For a message: not more of them than fit on a line.
    pub(super) fn told(&self) -> Vec<String> {
        let mut told: Vec<String> = self.0.iter().take(5).map(purpose).collect();
        if self.0.len() > told.len() {
            told.push(format!("{} more", self.0.len() - told.len()));
        }
        told
    }
}

fn purpose(oid: &ObjectIdentifier) -> String {
    let oid = oid.to_string();
    match oid.as_str() {
        "1.3.6.1.5.5.7.3.1" => "serverAuth",
        "1.3.6.1.5.5.7.3.2" => "clientAuth",
        "1.3.6.1.5.5.7.3.3" => "codeSigning",
        "1.3.6.1.5.5.7.3.4" => "emailProtection",
        "1.3.6.1.5.5.7.3.8" => "timeStamping",
        "1.3.6.1.5.5.7.3.9" => "OCSPSigning",
        "2.5.29.37.0" => "anyExtendedKeyUsage",
        _ => return oid,
    }
    .to_owned()
}

/// What messages call an extension.
pub(super) fn extension_name(oid: &ObjectIdentifier) -> String {
    let oid = oid.to_string();
    let name = match oid.as_str() {
        "2.5.29.14" => "subjectKeyIdentifier",
        "2.5.29.15" => "keyUsage",
        "2.5.29.17" => "subjectAltName",
        "2.5.29.18" => "issuerAltName",
        "2.5.29.19" => "basicConstraints",
        "2.5.29.30" => "nameConstraints",
        "2.5.29.31" => "cRLDistributionPoints",
        "2.5.29.32" => "certificatePolicies",
        "2.5.29.33" => "policyMappings",
        "2.5.29.35" => "authorityKeyIdentifier",
        "2.5.29.36" => "policyConstraints",
        "2.5.29.37" => "extendedKeyUsage",
        "2.5.29.54" => "inhibitAnyPolicy",
        "1.3.6.1.5.5.7.1.1" => "authorityInfoAccess",
        "1.3.6.1.4.1.11129.2.4.3" => "poison of a precertificate (RFC 6962)",
        _ => return oid,
    };
    format!("{name} ({oid})")
}

pub(super) fn read(list: &[Extension]) -> Result<Extensions, CertificateFault> {
    let mut seen = HashSet::new();
    let mut read = Extensions::default();
    for extension in list {
        if !seen.insert(extension.extn_id) {
            let what = format!("it has the extension {} twice", extension_name(&extension.extn_id));
            return Err(CertificateFault::Forbidden { what, section: "4.2" });
        }
        let value = extension.extn_value.as_bytes();
        match extension.extn_id {
            BASIC_CONSTRAINTS => read.basic_constraints = Some(basic_constraints(value)?),
            KEY_USAGE => read.key_usage = Some(key_usage(value)?),
            EXTENDED_KEY_USAGE => read.purposes = Some(purposes(value)?),
            SUBJECT_ALT_NAME => {
                read.general_names = strict("subjectAltName", value)?;
                read.names = Some(names(&read.general_names)?);
                read.names_critical = extension.critical;
            }
            NAME_CONSTRAINTS => {
                let constraints: NameConstraints = strict("nameConstraints", value)?;
                read.constraints = Some(Constraints::read(constraints).map_err(malformed("nameConstraints"))?);
            }
            SUBJECT_KEY_ID => {
                let id: OctetString = strict("subjectKeyIdentifier", value)?;
                read.subject_key_id = Some(id.into_bytes());
            }
            AUTHORITY_KEY_ID => {
                let id: AuthorityKeyIdentifier = strict("authorityKeyIdentifier", value)?;
                read.authority_key_id = id.key_identifier.map(OctetString::into_bytes);
            }
            unknown if extension.critical => read.unprocessed = read.unprocessed.or(Some(unknown)),
            _ => {}
        }
    }
    Ok(read)
}

fn malformed(extension: &'static str) -> impl Fn(&str) -> CertificateFault {
    move |why| CertificateFault::Extension { extension, why: why.to_owned() }
}

/// A value in the only form that DER has for it.
fn strict<'a, T: Decode<'a> + Encode>(extension: &'static str, der: &'a [u8]) -> Result<T, CertificateFault> {
    let malformed = |why: String| CertificateFault::Extension { extension, why };
    parse::bounded_sets(der).map_err(|fault| malformed(fault.to_string()))?;
    let value = T::from_der(der).map_err(|error| malformed(error.to_string()))?;
    match value.to_der() {
        Ok(again) if again == der => Ok(value),
        _ => Err(malformed("it is not written as DER requires".to_owned())),
    }
}

/// RFC 5280, section 4.2.1.9.
fn basic_constraints(value: &[u8]) -> Result<Basic, CertificateFault> {
    let basic: BasicConstraints = strict("basicConstraints", value)?;
    if !basic.ca && basic.path_len_constraint.is_some() {
        return Err(malformed("basicConstraints")("it limits the path below a certificate that is no CA"));
    }
    Ok(Basic { ca: basic.ca, path_len: basic.path_len_constraint })
}

/// RFC 5280, section 4.2.1.3. DER has named bits end with one that is set; public roots write zeros behind it, which
/// mean nothing.
fn key_usage(value: &[u8]) -> Result<KeyUsage, CertificateFault> {
    let bits: BitString = strict("keyUsage", value)?;
    let set = |at: usize| bits.raw_bytes().get(at / 8).is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0);
    let unused = !(u8::MAX << bits.unused_bits());
    if bits.raw_bytes().last().is_some_and(|last| last & unused != 0) {
        return Err(malformed("keyUsage")("it has bits set that are none of it"));
    }
    if !(0..9).any(set) {
        return Err(malformed("keyUsage")("it allows nothing"));
    }
    Ok(KeyUsage { digital_signature: set(0), key_cert_sign: set(5) })
}

/// RFC 5280, section 4.2.1.12.
fn purposes(value: &[u8]) -> Result<Purposes, CertificateFault> {
    let purposes: Vec<ObjectIdentifier> = strict("extendedKeyUsage", value)?;
    if purposes.is_empty() {
        return Err(malformed("extendedKeyUsage")("it lists nothing"));
    }
    Ok(Purposes(purposes))
}

/// RFC 5280, section 4.2.1.6.
fn names(names: &[GeneralName]) -> Result<Vec<SubjectName>, CertificateFault> {
    if names.is_empty() {
        return Err(malformed("subjectAltName")("it lists nothing"));
    }
    names.iter().map(name::subject_name).collect::<Result<_, _>>().map_err(malformed("subjectAltName"))
}
