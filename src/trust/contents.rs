//! What is in a trust root, for people who want to look at it.

use sigstore_trust_root::TrustedRoot;
use sigstore_types::TimeRange;

use super::TrustRoot;
use crate::time::UnixTime;

/// Whose word counts for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Issues certificates (Fulcio).
    CertificateAuthority,
    /// Logs certificates.
    CertificateLog,
    /// Logs signatures (Rekor).
    SignatureLog,
    /// Says when a signature existed.
    TimestampAuthority,
}

impl Role {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CertificateAuthority => "certificate-authority",
            Self::CertificateLog => "certificate-log",
            Self::SignatureLog => "signature-log",
            Self::TimestampAuthority => "timestamp-authority",
        }
    }
}

/// One that a trust root trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trusted {
    /// For what.
    pub role: Role,
    /// Its address, or its name where it has none.
    pub name: String,
    /// From when its word counts; `None` where the trust root does not say.
    pub from: Option<UnixTime>,
    /// Until when; `None` for ever.
    pub until: Option<UnixTime>,
}

impl TrustRoot {
    /// All that it trusts, by role, in its own order.
    #[must_use]
    pub fn contents(&self) -> Vec<Trusted> {
        let one = |role, name: String, valid: Option<&TimeRange>| Trusted {
            role,
            name,
            from: valid.map(|of| UnixTime(of.start.as_second())),
            until: valid.and_then(|of| of.end).map(|end| UnixTime(end.as_second())),
        };
        let TrustedRoot { certificate_authorities, ctlogs, tlogs, timestamp_authorities, .. } = self.trusted_root();
        let authorities = certificate_authorities
            .iter()
            .map(|of| one(Role::CertificateAuthority, of.uri.clone(), of.valid_for.as_ref()));
        let ctlogs =
            ctlogs.iter().map(|of| one(Role::CertificateLog, of.base_url.clone(), of.public_key.valid_for.as_ref()));
        let tlogs =
            tlogs.iter().map(|of| one(Role::SignatureLog, of.base_url.clone(), of.public_key.valid_for.as_ref()));
        let stamps = timestamp_authorities.iter().map(|of| {
            let name = of.uri.clone().or_else(|| of.subject.common_name.clone()).unwrap_or_default();
            one(Role::TimestampAuthority, name, of.valid_for.as_ref())
        });
        authorities.chain(ctlogs).chain(tlogs).chain(stamps).collect()
    }
}
