//! What Fulcio wrote into a signing certificate (sigstore/fulcio, docs/certificate-specification.md and oid-info.md), read
//! more strictly than the crate does: one name, one issuer, no extension twice.

use std::ops::Range;

use sigstore_verify::crypto::x509::FulcioCiClaims;
use x509_cert::Certificate;
use x509_cert::der::asn1::{ObjectIdentifier, OctetStringRef, Utf8StringRef};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, ExtendedKeyUsage, KeyUsage, SubjectAltName, SubjectKeyIdentifier};

use crate::error::tame;
use crate::time::UnixTime;
use crate::verify::BuildClaims;
use crate::x509::bounded_sets;

const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
const ALTERNATIVE_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
/// The issuer as bare text, in certificates of old.
const ISSUER_OLD: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");
const ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");
/// A name that is neither an e-mail address nor a URI.
const OTHER_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.7");
/// RFC 6962, section 3.3.
const SCT_LIST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.4.2");

/// No e-mail address and no workflow has a longer name.
const LONGEST_NAME: usize = 8192;

/// Who a certificate was issued to, and who vouched for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) identity: String,
    pub(crate) issuer: String,
}

/// A parsed signing certificate.
pub(super) struct Leaf(Certificate);

impl Leaf {
    pub(super) fn parse(der: &[u8]) -> Result<Self, String> {
        bounded_sets(der).map_err(|fault| fault.to_string())?;
        Certificate::from_der(der).map(Self).map_err(|error| tame(&error.to_string()))
    }

    /// The value of the one extension of this kind.
    fn extension(&self, id: ObjectIdentifier) -> Result<Option<&[u8]>, String> {
        let all = self.0.tbs_certificate.extensions.as_deref().unwrap_or_default();
        let mut found = all.iter().filter(|extension| extension.extn_id == id);
        let first = found.next().map(|extension| extension.extn_value.as_bytes());
        if found.next().is_some() { Err(format!("it has the extension {id} twice")) } else { Ok(first) }
    }

    /// The one name, and its issuer.
    pub(super) fn subject(&self) -> Result<Subject, String> {
        let names = self.extension(ALTERNATIVE_NAME)?.ok_or("it has no alternative name")?;
        let SubjectAltName(names) = SubjectAltName::from_der(names).map_err(|_| "its alternative name is malformed")?;
        let [name] = &names[..] else { return Err(format!("it has {} alternative names, not one", names.len())) };
        let identity = match name {
            GeneralName::Rfc822Name(email) => email.to_string(),
            GeneralName::UniformResourceIdentifier(uri) => uri.to_string(),
            GeneralName::OtherName(other) if other.type_id == OTHER_NAME => {
                let text = other.value.to_der().map_err(|_| "its alternative name is malformed")?;
                Utf8StringRef::from_der(&text).map_err(|_| "its alternative name is no UTF-8 string")?.to_string()
            }
            _ => return Err("its alternative name is of a kind that Sigstore does not issue".to_owned()),
        };
        let utf8 = |der: &[u8]| Utf8StringRef::from_der(der).map(|text| text.to_string());
        let new = self.extension(ISSUER)?.map(utf8).transpose().map_err(|_| "its issuer is no UTF-8 string")?;
        // Bare text by the specification; wrapped by some.
        let text = |bytes: &[u8]| utf8(bytes).ok().or_else(|| String::from_utf8(bytes.to_vec()).ok());
        let old = self.extension(ISSUER_OLD)?.map(|bytes| text(bytes).ok_or("its issuer is not UTF-8")).transpose()?;
        if let (Some(new), Some(old)) = (&new, &old)
            && new != old
        {
            return Err("it names two issuers".to_owned());
        }
        let issuer = new.or(old).ok_or("it names no issuer")?;
        for text in [&identity, &issuer] {
            if text.is_empty() || text.len() > LONGEST_NAME {
                return Err(format!("its name or its issuer has {} bytes", text.len()));
            }
        }
        Ok(Subject { identity, issuer })
    }

    /// Whether its key may sign at all.
    pub(super) fn may_sign(&self) -> Result<(), String> {
        let usage = self.extension(KEY_USAGE)?.ok_or("it has no key usage")?;
        let usage = KeyUsage::from_der(usage).map_err(|_| "its key usage is malformed")?;
        if !usage.digital_signature() {
            return Err("its key usage is not digitalSignature".to_owned());
        }
        let purposes = self.extension(EXTENDED_KEY_USAGE)?.ok_or("it has no extended key usage")?;
        let ExtendedKeyUsage(purposes) =
            ExtendedKeyUsage::from_der(purposes).map_err(|_| "its extended key usage is malformed")?;
        if purposes.contains(&CODE_SIGNING) {
            Ok(())
        } else {
            Err("its extended key usage is not codeSigning".to_owned())
        }
    }

    /// Whether `authority` has the name, and the key where both say which, that this gives for its issuer's.
    pub(super) fn names_as_issuer(&self, authority: &Self) -> bool {
        let (own, of) = (&self.0.tbs_certificate, &authority.0.tbs_certificate);
        let wanted = own.get::<AuthorityKeyIdentifier>().ok().flatten().and_then(|(_, id)| id.key_identifier);
        let found = of.get::<SubjectKeyIdentifier>().ok().flatten().map(|(_, id)| id.0);
        own.issuer == of.subject && wanted.zip(found).is_none_or(|(wanted, found)| wanted == found)
    }

    /// The log that its first SCT names, in hexadecimal: a list of SCTs, each a version and the log's id to begin with
    /// (RFC 6962, sections 3.2 and 3.3).
    pub(super) fn ct_log(&self) -> Option<[u8; 32]> {
        self.first_sct(5..37)?.try_into().ok()
    }

    /// When that log signed, which its first SCT has in milliseconds after the id.
    pub(super) fn ct_time(&self) -> Option<UnixTime> {
        let milliseconds = u64::from_be_bytes(self.first_sct(37..45)?.try_into().ok()?);
        i64::try_from(milliseconds / 1000).ok().map(UnixTime)
    }

    fn first_sct(&self, part: Range<usize>) -> Option<&[u8]> {
        let list = OctetStringRef::from_der(self.extension(SCT_LIST).ok()??).ok()?;
        list.as_bytes().get(part)
    }

    /// When it is good, in seconds since 1970.
    pub(super) fn validity(&self) -> (i64, i64) {
        let validity = &self.0.tbs_certificate.validity;
        let seconds = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
        (
            seconds(validity.not_before.to_unix_duration().as_secs()),
            seconds(validity.not_after.to_unix_duration().as_secs()),
        )
    }
}

/// The claims about a CI job, under names of today.
pub(super) fn build(claims: &FulcioCiClaims) -> Option<BuildClaims> {
    let old = &claims.deprecated_github;
    let either = |new: &Option<String>, old: &Option<String>| new.clone().or_else(|| old.clone());
    (!claims.is_empty()).then(|| BuildClaims {
        repository: either(&claims.source_repository_uri, &old.workflow_repository),
        reference: either(&claims.source_repository_ref, &old.workflow_ref),
        commit: either(&claims.source_repository_digest, &old.workflow_sha),
        workflow: either(&claims.build_config_uri, &old.workflow_name),
        trigger: either(&claims.build_trigger, &old.workflow_trigger),
        runner: claims.runner_environment.clone(),
        run: claims.run_invocation_uri.clone(),
    })
}
