//! RFC 3161 timestamps: the word of an authority that a signature existed at some moment.
//!
//! A bundle carries them in DER, each a `TimeStampResp` (as Sigstore writes them) or the `ContentInfo` inside one
//! (RFC 3161, section 2.4.2). The signed text, its signature and the authority's certificates are checked by the
//! `sigstore-tsa` crate; `token.rs` checks what that leaves open, for the certificate method as for Sigstore. Here it is
//! decided by which certificate a stamp claims to be signed, and who may have issued that.

mod token;

use sigstore_types::{DerCertificate, SignatureBytes, TimestampToken, TsaAuthority};
use x509_cert::der::Decode;

pub(crate) use token::Token;

use crate::error::{quoted, tame};
use crate::time::UnixTime;
use crate::x509::{Certificate, bounded_sets};

/// By how many seconds an authority's clock may be ahead of this machine's: a signature may be verified as soon as it is made.
pub(crate) const SKEW: i64 = 300;

/// Why a timestamp proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimestampError {
    /// Not a timestamp, or one in a form that is not read.
    #[error("it is malformed: {}", quoted(.0))]
    Malformed(String),
    /// The stamp, or the text that its signature covers, is over other bytes.
    #[error(
        "it is not over this signature: it was made for another one, or altered (it covers {expected}, and the digest is {found})"
    )]
    OtherBytes {
        /// The digest in the stamp, in hexadecimal.
        expected: String,
        /// That of the bytes.
        found: String,
    },
    /// The authority's certificate is neither in the stamp nor among those that the caller gave.
    #[error("the certificate of the authority that signed it is neither in it nor among the given ones")]
    UnknownSigner,
    /// The signature of the stamp is not that of the certificate that it names.
    #[error("its own signature is wrong: {}", quoted(.0))]
    Signature(String),
    /// The stamp is validly signed, as something else, more than once, or with another certificate than it says.
    #[error("it is not what a timestamp has to be: {}", quoted(.0))]
    Misused(String),
    /// The authority says that it was made at a time that is still to come.
    #[error("it is of {at}, and this machine's clock says {now}; set the clock, or ask the authority to set its own")]
    ToCome {
        /// The time in the stamp.
        at: UnixTime,
        /// The time of this machine.
        now: UnixTime,
    },
    /// The authority signs with a key that is not supported.
    #[error(
        "its authority signs with a key that is not on P-256 or P-384, and such stamps are not supported; use another authority"
    )]
    UnsupportedKey,
    /// The stamp is not signed by a certificate under a trusted root that may sign timestamps.
    #[error("its authority is not trusted: {}", tame(.0))]
    Untrusted(String),
}

impl TimestampError {
    /// Whether the stamp may well be a good one of an authority that this caller does not know. Every other stamp has no
    /// honest origin.
    #[must_use]
    pub const fn is_of_another_authority(&self) -> bool {
        matches!(self, Self::UnknownSigner | Self::Untrusted(_))
    }
}

/// There is no root among the certificates that were given to trust for timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no certificate here is self-signed, so none is a root to trust for timestamps; pass the root of the timestamp authority"
)]
pub struct NoTimestampRoot;

/// Whose timestamps are trusted.
#[derive(Debug, Clone)]
pub struct TimestampAuthorities {
    roots: Vec<DerCertificate>,
    others: Vec<DerCertificate>,
}

impl TimestampAuthorities {
    /// Trusts every authority whose certificate is for timestamping (RFC 3161, section 2.3) and chains to a self-issued
    /// one of `certificates`. The others among these are trusted for nothing: they are looked at where a stamp lacks a
    /// link of its chain.
    ///
    /// # Errors
    /// [`NoTimestampRoot`] if none is self-issued.
    pub fn new(certificates: &[Certificate]) -> Result<Self, NoTimestampRoot> {
        let der = |of: &Certificate| DerCertificate::new(of.der().to_vec());
        let (roots, others): (Vec<_>, Vec<_>) = certificates.iter().partition(|of| of.is_self_issued());
        if roots.is_empty() {
            return Err(NoTimestampRoot);
        }
        Ok(Self { roots: roots.into_iter().map(der).collect(), others: others.into_iter().map(der).collect() })
    }

    /// When `signature` existed, as `stamp` says. The authority's certificates had to be valid at that moment.
    ///
    /// # Errors
    /// [`TimestampError`] if it says nothing of the kind.
    pub fn verify(&self, stamp: &[u8], signature: &[u8]) -> Result<UnixTime, TimestampError> {
        let token = Token::read(stamp).map_err(TimestampError::Malformed)?;
        let (stamp, signature) = (TimestampToken::new(stamp.to_vec()), SignatureBytes::new(signature.to_vec()));
        // A root that comes with the stamp is of no use on the way to one that the caller trusts.
        let carried = token.certificates.iter().filter(|der| !is_self_issued(der));
        let carried: Vec<_> = carried.map(|der| DerCertificate::new(der.to_vec())).collect();
        let on_the_way: Vec<_> = self.others.iter().chain(&carried).cloned().collect();
        let mut why = None;
        let signers = on_the_way.iter().chain(&self.roots).filter(|certificate| token.is_by(certificate.as_bytes()));
        // Names and serial numbers are chosen by whoever makes a certificate: several may claim to be the signer's.
        for signer in signers {
            for root in &self.roots {
                let authority = TsaAuthority::new(signer.clone(), on_the_way.clone(), root.clone(), None);
                match sigstore_tsa::verify_timestamp_for_authority(&stamp, &signature, &authority) {
                    Ok(at) => {
                        token.check(&[signer.as_bytes()]).map_err(TimestampError::Misused)?;
                        let (at, now) = (UnixTime(at.as_second()), UnixTime::now());
                        let to_come = at.0 > now.0.saturating_add(SKEW);
                        return if to_come { Err(TimestampError::ToCome { at, now }) } else { Ok(at) };
                    }
                    Err(error) => why = Some(TimestampError::from(error)),
                }
            }
        }
        Err(why.unwrap_or(TimestampError::UnknownSigner))
    }
}

impl From<sigstore_tsa::Error> for TimestampError {
    fn from(error: sigstore_tsa::Error) -> Self {
        use sigstore_tsa::Error as E;
        match error {
            E::HashMismatch { expected, actual } => Self::OtherBytes { expected, found: actual },
            E::SignatureVerificationError(why) if why == "not an EC key" => Self::UnsupportedKey,
            E::SignatureVerificationError(why) => Self::Signature(why),
            E::CertificateValidationError(why) => Self::Untrusted(plain(&why)),
            other => Self::Malformed(other.to_string()),
        }
    }
}

/// The crate's reason in plain words, where it is one that people meet.
fn plain(why: &str) -> String {
    let known = [
        ("UnknownIssuer", "no way leads from its certificate to a root that was given"),
        (
            "RequiredEkuNotFound",
            "its certificate, or one above it, is not for timestamping (extendedKeyUsage timeStamping)",
        ),
        ("CertExpired", "one of its certificates had expired by the time in the stamp"),
        ("CertNotValidYet", "one of its certificates was not valid yet at the time in the stamp"),
        ("CaUsedAsEndEntity", "its certificate is one of a certificate authority"),
    ];
    known.iter().find(|(name, _)| why.contains(name)).map_or(why, |(_, plain)| *plain).to_owned()
}

fn is_self_issued(certificate: &[u8]) -> bool {
    bounded_sets(certificate).is_ok()
        && x509_cert::Certificate::from_der(certificate)
            .is_ok_and(|of| of.tbs_certificate.subject == of.tbs_certificate.issuer)
}
