//! The certificate method: the signature brings certificates, and the verifier knows a root.
//!
//! The signer's certificate must lead to a trusted root, at the time that counts, and its key must have made the
//! signature. Which certificates do, `src/x509/` decides; here it is decided at which time, and for whom.

use std::fmt;
use std::str::FromStr;

use super::{Claim, Encoding, Identity, SignatureError, SigningTime, Verifier};
use crate::bundle::VerificationMaterial;
use crate::error::quoted;
use crate::report::Note;
use crate::time::UnixTime;
#[cfg(feature = "sigstore-verify")]
use crate::timestamp::{TimestampAuthorities, TimestampError};
use crate::x509::{
    self, Certificate, CertificateFault, EkuRule, PathError, PathOptions, SignatureHash, SubjectName, validate,
};

/// The holder of a certificate, as the certificate names them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateIdentity {
    /// The subject's distinguished name (RFC 4514); may be empty.
    pub subject: String,
    /// The subject's alternative names, such as `email:a@example.com`, `dns:example.com` or `uri:https://example.com/a`.
    pub names: Vec<String>,
    /// Lower-case hexadecimal SHA-256 of the certificate in DER.
    pub fingerprint: String,
    /// The distinguished name of the root that it chains to.
    pub root: String,
    /// Lower-case hexadecimal SHA-256 of the root in DER.
    pub root_fingerprint: String,
    /// When the certificates had to be valid, and who says so.
    pub judged_at: SigningTime,
    /// What should be known of how the certificate was judged.
    pub notes: Vec<Note>,
}

/// Why a certificate, good signature or not, is not of whom the caller trusts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A certificate of the bundle cannot be read.
    #[error("certificate {number} of the bundle: {fault}")]
    Malformed {
        /// Which, the signer's being 1.
        number: usize,
        /// What is wrong with it.
        fault: CertificateFault,
    },
    /// No trusted root vouches for the signer's certificate, or not at the time that counts.
    #[error("{fault}")]
    Path {
        /// Why not.
        fault: PathError,
        /// When the certificates had to be valid, and who says so.
        judged_at: SigningTime,
        /// Timestamps in the bundle that nobody looked at, because no authority is trusted.
        timestamps: usize,
    },
    /// The certificate is good, and somebody else's.
    #[error("signed by somebody else: the certificate of {} is for {}, and not for {}", quoted(.subject), either(.found, "no name at all"), either(.expected, "anybody"))]
    OtherIdentity {
        /// The certificate's subject.
        subject: String,
        /// Its alternative names.
        found: Vec<String>,
        /// The names that were asked for.
        expected: Vec<String>,
    },
    /// Nobody who is trusted says when it was signed, and somebody had to.
    #[error("it carries no timestamp, and one of a trusted authority is asked for")]
    NoTimestamp,
    /// A timestamp of the bundle proves nothing, and none that does is beside it.
    #[cfg(feature = "sigstore-verify")]
    #[error("timestamp {number} of the bundle: {fault}")]
    Timestamp {
        /// Which, counted from 1.
        number: usize,
        /// What is wrong with it.
        fault: TimestampError,
    },
}

impl From<CertificateError> for SignatureError {
    fn from(error: CertificateError) -> Self {
        Self::Certificate(Box::new(error))
    }
}

/// Names in quotes, a few of them.
fn either(names: &[String], none: &str) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| quoted(name)).collect();
    match names.len() {
        0 => none.to_owned(),
        count if count > SHOWN => format!("{} or {} more", shown.join(", "), count - SHOWN),
        _ => shown.join(" or "),
    }
}

/// The kinds of alternative names that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameKind {
    Email,
    Dns,
    Uri,
    Ip,
}

impl NameKind {
    const ALL: [Self; 4] = [Self::Email, Self::Dns, Self::Uri, Self::Ip];

    const fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Dns => "dns",
            Self::Uri => "uri",
            Self::Ip => "ip",
        }
    }
}

/// An alternative name that a certificate must have: of one kind, letter by letter.
///
/// ```
/// use tensorseal::verify::RequiredName;
///
/// let name = |text: &str| text.parse::<RequiredName>().map(|name| name.to_string());
/// assert_eq!(name("uri:urn:uuid:1"), Ok("uri:urn:uuid:1".to_owned()));
/// // A name without its kind is of the kind that it looks like.
/// assert_eq!(name("release@example.com"), Ok("email:release@example.com".to_owned()));
/// assert_eq!(name("https://example.com/a"), Ok("uri:https://example.com/a".to_owned()));
/// assert_eq!(name("2001:db8::1"), Ok("ip:2001:db8::1".to_owned()));
/// assert_eq!(name("signer.example.com"), Ok("dns:signer.example.com".to_owned()));
/// assert!(name("email:").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredName {
    kind: NameKind,
    value: String,
}

/// An empty name, which no certificate has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name to look for in a certificate must not be empty")]
pub struct EmptyName;

impl FromStr for RequiredName {
    type Err = EmptyName;

    fn from_str(text: &str) -> Result<Self, EmptyName> {
        let named = NameKind::ALL.into_iter().find_map(|kind| {
            let value = text.strip_prefix(kind.name())?.strip_prefix(':')?;
            Some((kind, value))
        });
        let (kind, value) = named.unwrap_or_else(|| {
            let looks = if text.contains("://") {
                NameKind::Uri
            } else if text.contains('@') {
                NameKind::Email
            } else if text.parse::<std::net::IpAddr>().is_ok() {
                NameKind::Ip
            } else {
                NameKind::Dns
            };
            (looks, text)
        });
        if value.is_empty() { Err(EmptyName) } else { Ok(Self { kind, value: value.to_owned() }) }
    }
}

impl fmt::Display for RequiredName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.name(), self.value)
    }
}

impl RequiredName {
    fn is(&self, found: &SubjectName) -> bool {
        match (self.kind, found) {
            (NameKind::Email, SubjectName::Email(text))
            | (NameKind::Dns, SubjectName::Dns(text))
            | (NameKind::Uri, SubjectName::Uri(text)) => *text == self.value,
            (NameKind::Ip, SubjectName::Ip(address)) => self.value.parse() == Ok(*address),
            _ => false,
        }
    }
}

/// A name with its kind in front, as reports have it, and as [`RequiredName`] reads it.
#[must_use]
pub fn qualified_name(name: &SubjectName) -> String {
    match name {
        SubjectName::Email(_) => format!("email:{name}"),
        SubjectName::Dns(_) => format!("dns:{name}"),
        SubjectName::Uri(_) => format!("uri:{name}"),
        SubjectName::Ip(_) => format!("ip:{name}"),
        SubjectName::Directory(_) => format!("directory:{name}"),
        SubjectName::Other { kind, value } => format!("{kind}:{value}"),
    }
}

/// For which moment certificates are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JudgedAt {
    /// The moment of the earliest trusted timestamp, or now if there is none.
    #[default]
    Signing,
    /// The first second of the signer's certificate, as old releases of `model_signing` have it: whether the certificate
    /// had expired, or was valid yet, when it signed is then not known.
    NotBefore,
}

/// Trusts the certificates under some roots, or those of some names among them.
#[derive(Debug, Clone)]
pub struct CertificateVerifier {
    trusted: Vec<Certificate>,
    names: Vec<RequiredName>,
    eku: EkuRule,
    judged_at: JudgedAt,
    #[cfg(feature = "sigstore-verify")]
    authorities: Option<TimestampAuthorities>,
}

impl CertificateVerifier {
    /// Trusts the self-signed certificates in `trusted` as roots. Those that somebody else issued are trusted for nothing:
    /// they are looked at where a bundle lacks a link of its chain.
    #[must_use]
    pub const fn new(trusted: Vec<Certificate>) -> Self {
        Self {
            trusted,
            names: Vec::new(),
            eku: EkuRule::CodeSigningIfPresent,
            judged_at: JudgedAt::Signing,
            #[cfg(feature = "sigstore-verify")]
            authorities: None,
        }
    }

    /// Demands that the signer's certificate has one of these names; none of them: any certificate will do.
    #[must_use]
    pub fn with_names(mut self, names: Vec<RequiredName>) -> Self {
        self.names = names;
        self
    }

    /// What the extended key usage may be.
    #[must_use]
    pub const fn with_eku(mut self, eku: EkuRule) -> Self {
        self.eku = eku;
        self
    }

    /// For which moment the certificates are judged.
    #[must_use]
    pub const fn judged_at(mut self, judged_at: JudgedAt) -> Self {
        self.judged_at = judged_at;
        self
    }

    /// Whose timestamps are trusted. Without any, timestamps are not looked at.
    #[cfg(feature = "sigstore-verify")]
    #[must_use]
    pub fn with_timestamp_authorities(mut self, authorities: TimestampAuthorities) -> Self {
        self.authorities = Some(authorities);
        self
    }

    /// The moment that counts, and what to say of it.
    fn time(&self, claim: &Claim<'_>, leaf: &Certificate) -> Result<(SigningTime, Vec<Note>), CertificateError> {
        let count = claim.bundle().evidence().timestamps.len();
        if self.judged_at == JudgedAt::NotBefore {
            return Ok((SigningTime::NotBefore(leaf.not_before()), vec![Note::JudgedAtNotBefore]));
        }
        #[cfg(feature = "sigstore-verify")]
        if let (Some(authorities), true) = (&self.authorities, count > 0) {
            return stamped(authorities, claim);
        }
        let notes = if count > 0 { vec![Note::TimestampsNotChecked { count }] } else { vec![] };
        Ok((SigningTime::Now(UnixTime::now()), notes))
    }
}

/// The earliest time of which a trusted authority says that the signature existed by then.
///
/// A bundle that has timestamps, none of them good, was altered, or stamped by somebody whom the caller does not trust:
/// that is refused, not judged as if it had none. Beside a good one, stamps of unknown authorities are noted; whatever
/// else is wrong with a stamp has no honest origin.
#[cfg(feature = "sigstore-verify")]
fn stamped(
    authorities: &TimestampAuthorities,
    claim: &Claim<'_>,
) -> Result<(SigningTime, Vec<Note>), CertificateError> {
    let (mut earliest, mut unknown) = (None::<UnixTime>, Vec::new());
    for (i, stamp) in claim.bundle().evidence().timestamps.iter().enumerate() {
        match authorities.verify(stamp, claim.signature()) {
            Ok(at) => earliest = Some(earliest.map_or(at, |earliest| earliest.min(at))),
            Err(fault) => {
                let other = fault.is_of_another_authority();
                let error = CertificateError::Timestamp { number: i + 1, fault };
                if !other {
                    return Err(error);
                }
                unknown.push(error);
            }
        }
    }
    let count = unknown.len();
    match (earliest, unknown.into_iter().next()) {
        (Some(at), None) => Ok((SigningTime::Timestamp(at), vec![])),
        (Some(at), Some(_)) => Ok((SigningTime::Timestamp(at), vec![Note::UnknownTimestamps { count }])),
        (None, Some(error)) => Err(error),
        (None, None) => Ok((SigningTime::Now(UnixTime::now()), vec![])),
    }
}

impl Verifier for CertificateVerifier {
    fn verify(&self, claim: &Claim<'_>) -> Result<Identity, SignatureError> {
        let VerificationMaterial::CertificateChain(chain) = claim.material() else {
            return Err(SignatureError::OtherMethod { expected: "certificate", found: claim.material().method() });
        };
        let mut certificates = Vec::with_capacity(chain.len());
        for (i, der) in chain.iter().enumerate() {
            let malformed = |fault| CertificateError::Malformed { number: i + 1, fault };
            certificates.push(Certificate::from_der(der).map_err(malformed)?);
        }
        let Some((leaf, sent)) = certificates.split_first() else { return Err(SignatureError::Invalid) };

        let (judged_at, mut notes) = self.time(claim, leaf)?;
        let options = PathOptions { at: judged_at.moment(), eku: self.eku };
        let path = validate(leaf, sent, &self.trusted, &options).map_err(|fault| {
            let unread =
                |note: &Note| if let Note::TimestampsNotChecked { count } = note { Some(*count) } else { None };
            CertificateError::Path { fault, judged_at, timestamps: notes.iter().find_map(unread).unwrap_or(0) }
        })?;

        // model-signing 0.2 hashed with SHA-256 here, whatever the curve.
        let hash = match claim.encoding() {
            Encoding::Dsse => SignatureHash::OfCurve,
            Encoding::Old => SignatureHash::Sha256,
        };
        x509::verify_signature(leaf, &claim.signed_bytes(), claim.signature(), hash)
            .map_err(|_| SignatureError::Invalid)?;

        let names: Vec<String> = leaf.names().iter().map(qualified_name).collect();
        // A leaf that is trusted by itself is one signer alone.
        let alone = path.root == leaf && !path.leaf_is_ca;
        if self.names.is_empty() && !alone {
            notes.push(Note::AnyCertificate { root: path.root.subject() });
        } else if !self.names.is_empty()
            && !self.names.iter().any(|wanted| leaf.names().iter().any(|found| wanted.is(found)))
        {
            let expected = self.names.iter().map(ToString::to_string).collect();
            return Err(CertificateError::OtherIdentity { subject: leaf.subject(), found: names, expected }.into());
        }
        if path.leaf_is_ca {
            notes.push(Note::CaSigned);
        }
        if path.eku_waived {
            notes.push(Note::OtherPurpose);
        }
        let entries = claim.bundle().evidence().log_entries.len();
        if entries > 0 {
            notes.push(Note::LogEntriesNotChecked { entries });
        }
        Ok(Identity::Certificate(Box::new(CertificateIdentity {
            subject: leaf.subject(),
            names,
            fingerprint: leaf.fingerprint(),
            root: path.root.subject(),
            root_fingerprint: path.root.fingerprint(),
            judged_at,
            notes,
        })))
    }
}
