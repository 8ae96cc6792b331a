//! Why a Sigstore signature was not accepted, in words that name the fault and the way out.

use sigstore_verify::{CertificateError, Error, TimestampError, TransparencyLogError};

use crate::error::{quoted, tame};
use crate::time::UnixTime;
use crate::trust::TrustSource;

/// Why a Sigstore signature was not accepted. `trust` is the trust root that it was judged by, where another one could
/// change the answer. Texts in `why` are for people, cut and tame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SigstoreError {
    /// Somebody else signed.
    #[error("wrong identity: signed by {}, and {expected} was asked for", quoted(.found))]
    Identity {
        /// Who was asked for.
        expected: String,
        /// Who signed.
        found: String,
    },
    /// Somebody else vouched for the signer.
    #[error(
        "wrong identity provider: {} vouched for {}, and {expected} was asked for",
        quoted(.found),
        quoted(.identity)
    )]
    Issuer {
        /// Who was asked for.
        expected: String,
        /// Who vouched.
        found: String,
        /// For whom.
        identity: String,
    },
    /// The certificate is no Sigstore signing certificate.
    #[error("the signing certificate does not fit Sigstore's profile: {why}. Get the signature anew")]
    Certificate {
        /// What is wrong.
        why: String,
    },
    /// The certificate does not chain to a trusted authority.
    #[error("the signing certificate is from no trusted authority: {why}. Judged by {trust}; {}", .trust.remedy())]
    Chain {
        /// What is wrong.
        why: String,
        /// The trust root.
        trust: TrustSource,
    },
    /// It was signed before or after the ten minutes or so for which the certificate was good.
    #[error(
        "the certificate was good from {not_before} to {not_after}, and the signature is of {at}: it was not made by the \
         certificate's owner while they were logged in. Have the model signed again"
    )]
    Expired {
        /// When it was signed.
        at: UnixTime,
        /// The certificate's beginning.
        not_before: UnixTime,
        /// Its end.
        not_after: UnixTime,
    },
    /// The promise of the certificate transparency log is missing or not good.
    #[error(
        "the certificate's timestamp by a certificate transparency log (SCT) is not good: {why}. Get the signature anew"
    )]
    Sct {
        /// What is wrong.
        why: String,
    },
    /// The certificate was logged by a certificate transparency log that is not trusted.
    #[error(
        "the certificate's timestamp (SCT) is by the unknown certificate transparency log {log}. Judged by {trust}; {}",
        .trust.remedy()
    )]
    UnknownCtLog {
        /// The log's id, in hexadecimal.
        log: String,
        /// The trust root.
        trust: TrustSource,
    },
    /// The bundle has no transparency log entry.
    #[error(
        "the bundle has no transparency log entry, so nothing shows that the signature was made public. Have the model signed again"
    )]
    NoLogEntry,
    /// A log entry is by a log that is not trusted.
    #[error("the log entry is by the unknown transparency log {log}. Judged by {trust}; {}", .trust.remedy())]
    UnknownLog {
        /// The log's id, in hexadecimal.
        log: String,
        /// The trust root.
        trust: TrustSource,
    },
    /// The inclusion proof is missing or does not lead to the root of the log.
    #[error("the log entry's inclusion proof is not good: {why}. Get the signature anew")]
    InclusionProof {
        /// What is wrong.
        why: String,
    },
    /// The signed root of the log is missing, or not signed by the log.
    #[error("the log's checkpoint is not good: {why}. Judged by {trust}; get the signature anew")]
    Checkpoint {
        /// What is wrong.
        why: String,
        /// The trust root.
        trust: TrustSource,
    },
    /// The log's promise (SET), which also vouches for its time, is not good.
    #[error("the log entry's promise (SET) is not good: {why}. Judged by {trust}; get the signature anew")]
    Promise {
        /// What is wrong.
        why: String,
        /// The trust root.
        trust: TrustSource,
    },
    /// The log entry is about another signature, another certificate or another statement.
    #[error("the log entry is not about this signature: {why}. Get the signature anew")]
    EntryMismatch {
        /// What differs.
        why: String,
    },
    /// The log's time is in the future, or not within the certificate's.
    #[error("the log entry's time is not good: {why}. If this machine's clock is right, get the signature anew")]
    LogTime {
        /// What is wrong.
        why: String,
    },
    /// The log entry cannot be read.
    #[error("the log entry is malformed: {why}. Get the signature anew")]
    Entry {
        /// What is wrong.
        why: String,
    },
    /// A timestamp is of another signature, or by no trusted authority.
    #[error("the RFC 3161 timestamp is not good: {why}. Judged by {trust}; {}", .trust.remedy())]
    Timestamp {
        /// What is wrong.
        why: String,
        /// The trust root.
        trust: TrustSource,
    },
    /// A timestamp is of another signature.
    #[error("the RFC 3161 timestamp is of another signature: {why}. Get the signature anew")]
    OtherTimestamp {
        /// The two hashes.
        why: String,
    },
    /// Nobody trusted says when it was signed.
    #[error("nobody trusted says when it was signed: {why}. Judged by {trust}; {}", .trust.remedy())]
    NoTime {
        /// What was looked for.
        why: String,
        /// The trust root.
        trust: TrustSource,
    },
    /// The signature is not by the certificate's key over this statement.
    #[error(
        "invalid signature: it was not made with the certificate's key over this statement, or one of the two was altered"
    )]
    Signature,
    /// The statement has no subject to check the signature for.
    #[error("the signed statement names no model: its first subject has no sha256 digest of 64 hexadecimal digits")]
    Subject,
    /// The bundle is no Sigstore bundle, or one of a kind that cannot be checked.
    #[error("the Sigstore bundle cannot be checked: {why}. Get the signature anew")]
    Malformed {
        /// What is wrong.
        why: String,
    },
    /// The trust root turned out not to be usable.
    #[error("{trust} cannot be used: {why}. Get a complete trust root")]
    Trust {
        /// What is wrong.
        why: String,
        /// The trust root.
        trust: TrustSource,
    },
    /// A check was not made. It is not known how that could be, and it must never be a yes.
    #[error("the check of {what} was not made. This is a fault of this program: report it")]
    Unchecked {
        /// Which.
        what: &'static str,
    },
}

impl SigstoreError {
    /// What the crate `sigstore-verify` says, judged by `trust`.
    pub(super) fn of(error: Error, trust: &TrustSource) -> Self {
        let trust = || trust.clone();
        let tame = |text: String| tame(&text);
        match error {
            Error::SignatureInvalid(_) => Self::Signature,
            // The statement is its own artifact here, so that only a log entry can be about another.
            Error::ArtifactMismatch(why) => Self::EntryMismatch { why: tame(why) },
            Error::Certificate(error) => Self::of_certificate(error, trust()),
            Error::TransparencyLog(error) => Self::of_log(error, trust()),
            Error::Timestamp(TimestampError::NoVerifiedTimestamp(why)) => {
                Self::NoTime { why: tame(why), trust: trust() }
            }
            // Only the advice hangs on this word: whatever it is, the answer is no.
            Error::Timestamp(TimestampError::Invalid(why)) if why.contains("message hash mismatch") => {
                Self::OtherTimestamp { why: tame(why) }
            }
            Error::Timestamp(TimestampError::Invalid(why)) => Self::Timestamp { why: tame(why), trust: trust() },
            Error::Timestamp(error) => Self::Timestamp { why: tame(error.to_string()), trust: trust() },
            Error::InvalidTrustRoot(_) | Error::TrustRoot(_) | Error::TrustedCertificate(_) => {
                Self::Trust { why: tame(error.to_string()), trust: trust() }
            }
            Error::Bundle(sigstore_verify::bundle::Error::MissingInclusionProof(_)) => {
                Self::InclusionProof { why: "there is none".to_owned() }
            }
            Error::Bundle(sigstore_verify::bundle::Error::MissingCheckpoint) => {
                Self::Checkpoint { why: "there is none".to_owned(), trust: trust() }
            }
            Error::Bundle(error @ sigstore_verify::bundle::Error::CheckpointRootMismatch) => {
                Self::Checkpoint { why: tame(error.to_string()), trust: trust() }
            }
            Error::Bundle(error @ sigstore_verify::bundle::Error::LogIndexOutOfRange { .. }) => {
                Self::InclusionProof { why: tame(error.to_string()) }
            }
            other => Self::Malformed { why: tame(other.to_string()) },
        }
    }

    fn of_certificate(error: CertificateError, trust: TrustSource) -> Self {
        match error {
            CertificateError::Malformed(why) => Self::Certificate { why: tame(&why) },
            CertificateError::Sct(why) => Self::Sct { why: tame(&why) },
            other => Self::Chain { why: tame(&other.to_string()), trust },
        }
    }

    fn of_log(error: TransparencyLogError, trust: TrustSource) -> Self {
        match error {
            TransparencyLogError::UnknownLog { log_id } => Self::UnknownLog { log: tame(&log_id), trust },
            TransparencyLogError::InclusionProof(why) => Self::InclusionProof { why: tame(&why) },
            TransparencyLogError::Checkpoint(why) => Self::Checkpoint { why: tame(&why), trust },
            TransparencyLogError::InclusionPromise(why) => Self::Promise { why: tame(&why), trust },
            TransparencyLogError::EntryMismatch(why) => Self::EntryMismatch { why: tame(&why) },
            TransparencyLogError::IntegratedTime(why) => Self::LogTime { why: tame(&why) },
            TransparencyLogError::MalformedEntry(why) => Self::Entry { why: tame(&why) },
            other => Self::Entry { why: tame(&other.to_string()) },
        }
    }
}
