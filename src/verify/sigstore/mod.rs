//! The Sigstore method: a certificate for ten minutes, issued to whoever was logged in, and a public log of its use.
//!
//! The cryptography is that of the crate `sigstore-verify`, with every check on. It is given what our own parser made of
//! the bundle. What it leaves open is checked here: that each log entry has a proof, that its checkpoint is by the log that
//! it names, that the certificate has one name, and who that is. `docs/sigstore.md` lists all checks in order.

mod certificate;
mod entry;
mod error;
mod pattern;

use std::fmt;

use serde::Deserialize;
use sigstore_crypto::Keyring;
use sigstore_trust_root::TrustedRoot;
use sigstore_types::bundle::TransparencyLogEntry;
use sigstore_types::{KindVersion, Sha256Hash};
use sigstore_verify::{VerificationPolicy, VerificationResult, Verifier as Checker};

pub use error::SigstoreError;
pub use pattern::{NamePattern, NameRegex, PatternError};

use self::certificate::Leaf;
use super::{Claim, Encoding, Identity, LogRecord, SignatureError, SigningTime, SigstoreIdentity, Verifier};
use crate::bundle::{Bundle, VerificationMaterial};
use crate::digest::{Algorithm, Digest, hex};
use crate::error::tame;
use crate::time::UnixTime;
use crate::timestamp::{SKEW, Token};
use crate::trust::{TrustError, TrustRoot, TrustSource};

/// Trusts signatures of certain identities under a trust root.
pub struct SigstoreVerifier {
    checker: Checker,
    root: TrustedRoot,
    logs: Keyring,
    source: TrustSource,
    wanted: Option<(NamePattern, NamePattern)>,
}

impl fmt::Debug for SigstoreVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigstoreVerifier")
            .field("source", &self.source)
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}

impl SigstoreVerifier {
    /// Trusts whoever `identity` accepts, if an issuer that `issuer` accepts vouched for them. A name means nothing without
    /// its issuer: any other may give the same name to anybody.
    ///
    /// # Errors
    /// [`TrustError::Malformed`] if a key or certificate of the trust root cannot be used.
    pub fn new(trust: &TrustRoot, identity: NamePattern, issuer: NamePattern) -> Result<Self, TrustError> {
        Ok(Self { wanted: Some((identity, issuer)), ..Self::anybody(trust)? })
    }

    /// Accepts whoever signed, if the signature is good, and says who it was: for callers that decide afterwards, such as a
    /// policy. Anybody can get such a signature, so by itself it means nothing.
    ///
    /// # Errors
    /// As [`SigstoreVerifier::new`].
    pub fn anybody(trust: &TrustRoot) -> Result<Self, TrustError> {
        let root = trust.trusted_root().clone();
        let unusable = |why: String| TrustError::Malformed { origin: trust.source().clone(), why: tame(&why) };
        let checker = Checker::new(&root).map_err(|error| unusable(error.to_string()))?;
        let logs = root.rekor_keys().map_err(|error| unusable(error.to_string()))?;
        Ok(Self { checker, root, logs, source: trust.source().clone(), wanted: None })
    }

    fn check(&self, bundle: &Bundle, der: &[u8]) -> Result<SigstoreIdentity, SigstoreError> {
        let subject = subject_digest(&bundle.envelope().payload).ok_or(SigstoreError::Subject)?;
        let malformed = |why: String| SigstoreError::Malformed { why: tame(&why) };
        let text = String::from_utf8(bundle.to_json()).map_err(|error| malformed(error.to_string()))?;
        let wire = sigstore_types::Bundle::from_json(&text).map_err(|error| malformed(error.to_string()))?;
        drop(text);
        let entries = &wire.verification_material.tlog_entries;
        if entries.is_empty() {
            return Err(SigstoreError::NoLogEntry);
        }
        for entry in entries {
            self.known_log(entry)?;
            if entry.inclusion_proof.is_none() {
                return Err(SigstoreError::InclusionProof { why: "there is none".to_owned() });
            }
        }
        let stamp = |why| SigstoreError::Timestamp { why, trust: self.source.clone() };
        let tokens = bundle.evidence().timestamps.iter().map(|stamp| Token::read(stamp));
        let tokens = tokens.collect::<Result<Vec<_>, _>>().map_err(|why| stamp(format!("it is malformed: {why}")))?;
        let leaf = Leaf::parse(der).map_err(|why| SigstoreError::Certificate { why })?;
        let profile = |why| SigstoreError::Certificate { why };
        leaf.may_sign().map_err(profile)?;
        let result = self
            .checker
            .verify(Sha256Hash::new(subject), &wire, &VerificationPolicy::any_identity())
            .map_err(|error| self.explain(error, &leaf))?;
        let subject = leaf.subject().map_err(profile)?;
        // The crate read the same certificate; it knows two of the three kinds of names.
        if result.identity().is_some_and(|name| name.as_str() != subject.identity)
            || result.issuer().is_some_and(|issuer| issuer != subject.issuer)
        {
            return Err(profile("its names can be read in two ways".to_owned()));
        }
        for (what, checked) in [
            ("the certificate", result.certificate_verified()),
            ("the certificate's SCT", result.sct_verified()),
            ("the log entries", result.tlog_verified()),
            ("the signing time", !result.verified_timestamps().is_empty()),
        ] {
            if !checked {
                return Err(SigstoreError::Unchecked { what });
            }
        }
        let authorities = &self.root.timestamp_authorities;
        let signers: Vec<&[u8]> = authorities
            .iter()
            .filter_map(|tsa| Some(tsa.cert_chain.certificates.first()?.raw_bytes.as_bytes()))
            .collect();
        tokens.iter().try_for_each(|token| token.check(&signers)).map_err(stamp)?;
        for (entry, text) in entries.iter().zip(&bundle.evidence().log_entries) {
            entry::check(entry, text.as_json(), &self.source)?;
        }
        let log_entries = entries.iter().map(|entry| self.record(entry)).collect::<Result<_, _>>()?;
        self.timely(&leaf, &result, entries)?;
        let identity = SigstoreIdentity {
            identity: subject.identity,
            issuer: subject.issuer,
            signed_at: signed_at(&result).ok_or(SigstoreError::Unchecked { what: "the signing time" })?,
            build: result.certificate().and_then(|of| certificate::build(&of.ci_claims)),
            log_entries,
            trust_root: self.source.to_string(),
        };
        self.authorize(&identity)?;
        Ok(identity)
    }

    /// Whether it is who was asked for: the last question, so that a wrong name in the answer is a proven one.
    fn authorize(&self, found: &SigstoreIdentity) -> Result<(), SigstoreError> {
        let Some((identity, issuer)) = &self.wanted else { return Ok(()) };
        if !identity.matches(&found.identity) {
            return Err(SigstoreError::Identity { expected: identity.to_string(), found: found.identity.clone() });
        }
        if !issuer.matches(&found.issuer) {
            let (expected, found, identity) = (issuer.to_string(), found.issuer.clone(), found.identity.clone());
            return Err(SigstoreError::Issuer { expected, found, identity });
        }
        Ok(())
    }

    /// Whether the times fit that the crate does not compare: those of keys of logs, and now.
    fn timely(
        &self,
        leaf: &Leaf,
        result: &VerificationResult,
        entries: &[TransparencyLogEntry],
    ) -> Result<(), SigstoreError> {
        let (times, now) = (result.verified_timestamps(), UnixTime::now());
        let to_come = |at: &UnixTime| at.0 > now.0.saturating_add(SKEW);
        if let Some(at) = times.iter().map(|at| UnixTime(at.as_second())).find(to_come) {
            let why = format!("it is of {at}, and this machine's clock says {now}");
            return Err(SigstoreError::Timestamp { why, trust: self.source.clone() });
        }
        // The crate takes authorities of the trust root for good as long as that names them.
        let authorities = self.root.certificate_authorities.iter().flat_map(|ca| &ca.cert_chain.certificates);
        let authorities: Vec<Leaf> = authorities.filter_map(|der| Leaf::parse(der.raw_bytes.as_bytes()).ok()).collect();
        let issuers = authorities.iter().filter(|authority| leaf.names_as_issuer(authority)).map(Leaf::validity);
        let good = |(from, to): (i64, i64)| times.iter().all(|at| (from..=to).contains(&at.as_second()));
        if !issuers.into_iter().any(good) {
            let why = "the authority's own certificate was not valid when it was signed".to_owned();
            return Err(SigstoreError::Chain { why, trust: self.source.clone() });
        }
        // RFC 6962, section 5.2.
        if let Some(at) = leaf.ct_time().filter(to_come) {
            return Err(SigstoreError::Sct { why: format!("it is of {at}, and this machine's clock says {now}") });
        }
        for entry in entries {
            let id = &entry.log_id.key_id;
            let log = self.root.tlogs.iter().find(|log| log.log_id.key_id == *id);
            let valid = log.and_then(|log| log.public_key.valid_for);
            // Whoever finds the key of a log that was given up must not be able to add to it.
            if valid.is_some_and(|valid| !times.iter().any(|at| valid.contains(*at))) {
                let why = format!("the key of the log {} was not valid when it was signed", hex(id.as_bytes()));
                return Err(SigstoreError::Checkpoint { why, trust: self.source.clone() });
            }
        }
        Ok(())
    }

    /// The address of the log that an entry names.
    fn known_log(&self, entry: &TransparencyLogEntry) -> Result<&str, SigstoreError> {
        let id = entry.log_id.key_id.as_bytes();
        let named = self.root.tlogs.iter().find(|log| log.log_id.key_id.as_bytes() == id);
        let unknown = || SigstoreError::UnknownLog { log: hex(id), trust: self.source.clone() };
        named.map(|log| log.base_url.as_str()).ok_or_else(unknown)
    }

    /// What a verified entry says, after the check that its checkpoint is by the log that it names: the crate accepts that
    /// of any trusted log.
    fn record(&self, entry: &TransparencyLogEntry) -> Result<LogRecord, SigstoreError> {
        let log = self.known_log(entry)?.to_owned();
        let id = entry.log_id.key_id.as_bytes();
        let proof = entry.inclusion_proof.as_ref().ok_or(SigstoreError::Unchecked { what: "the inclusion proof" })?;
        let key = Sha256Hash::try_from(id).ok().and_then(|id| self.logs.key(&id));
        let by_it = proof.checkpoint.checkpoint().zip(key).is_some_and(|(checkpoint, key)| {
            let of_log = checkpoint.signatures().iter().filter(|signature| id.starts_with(signature.key_id.as_bytes()));
            of_log.into_iter().any(|signature| key.verify(checkpoint.signed_data(), &signature.signature).is_ok())
        });
        if !by_it {
            let why = format!("it is not signed by the log {} that the entry names", hex(id));
            return Err(SigstoreError::Checkpoint { why, trust: self.source.clone() });
        }
        // The promise vouches for number and time, the proof for the number in the tree. Rekor v2 has one number, which the
        // crate checks by the proof.
        let (index, at) = match (entry.kind_version, &entry.inclusion_promise) {
            (KindVersion::HashedRekordV002, _) => (entry.log_index.get(), None),
            (_, Some(_)) => (entry.log_index.get(), entry.integrated_time.map(|at| UnixTime(at.as_second()))),
            (_, None) => (proof.log_index.get(), None),
        };
        let kind = format!("{} {}", entry.kind_version.kind(), entry.kind_version.version());
        Ok(LogRecord { log, id: hex(id), index, kind, at })
    }

    /// What the crate says, in our words. Where it says less than is known, the certificate is looked at.
    fn explain(&self, error: sigstore_verify::Error, leaf: &Leaf) -> SigstoreError {
        use sigstore_verify::{CertificateError, Error};
        let (not_before, not_after) = leaf.validity();
        let expired = |at: i64| SigstoreError::Expired {
            at: UnixTime(at),
            not_before: UnixTime(not_before),
            not_after: UnixTime(not_after),
        };
        match &error {
            // An authority of the path can be out of time as well as the certificate.
            Error::Certificate(CertificateError::ChainInvalid(why)) => match out_of_time(why) {
                Some(at) if !(not_before..=not_after).contains(&at) => expired(at),
                _ => SigstoreError::of(error, &self.source),
            },
            Error::Certificate(CertificateError::NotYetValid { time, .. } | CertificateError::Expired { time, .. }) => {
                expired(time.as_second())
            }
            Error::Certificate(CertificateError::Sct(_)) => match leaf.ct_log() {
                Some(log) if !self.root.ctlogs.iter().any(|known| known.log_id.key_id.as_bytes() == log) => {
                    SigstoreError::UnknownCtLog { log: hex(&log), trust: self.source.clone() }
                }
                _ => SigstoreError::of(error, &self.source),
            },
            _ => SigstoreError::of(error, &self.source),
        }
    }
}

impl Verifier for SigstoreVerifier {
    fn verify(&self, claim: &Claim<'_>) -> Result<Identity, SignatureError> {
        let VerificationMaterial::Certificate(der) = claim.material() else {
            return Err(SignatureError::OtherMethod { expected: "sigstore", found: claim.material().method() });
        };
        // No release signed the faulty encoding by this method.
        if claim.encoding() != Encoding::Dsse {
            return Err(SignatureError::Invalid);
        }
        let identity = self.check(claim.bundle(), der).map_err(Box::new)?;
        Ok(Identity::Sigstore(Box::new(identity)))
    }
}

/// The time at which the certificate was not good, if that is the fault: the crate finds it while it follows the chain, and
/// has it in its text alone. The authorities themselves are not judged by time there.
fn out_of_time(why: &str) -> Option<i64> {
    let of_time = why.contains("CertExpired") || why.contains("CertNotValidYet");
    of_time.then(|| why.split_once("time: UnixTime(")?.1.split_once(')')?.0.parse().ok())?
}

/// The earliest time that anybody trusted vouches for: by then the signature existed. That is the most it proves, and the
/// hardest reading of a policy's `signed_after`; every other time lies within the certificate's ten minutes of it.
fn signed_at(result: &VerificationResult) -> Option<SigningTime> {
    let at = result.verified_timestamps().iter().min()?;
    let seconds = UnixTime(at.as_second());
    Some(if result.integrated_time() == Some(*at) {
        SigningTime::Log(seconds)
    } else {
        SigningTime::Timestamp(seconds)
    })
}

/// The first subject's SHA-256, which the crate wants to be told as the artifact. Nothing follows from it: the payload is
/// parsed for good after its signature held, and its root digest recomputed.
fn subject_digest(payload: &[u8]) -> Option<[u8; 32]> {
    #[derive(Deserialize)]
    struct Statement {
        subject: crate::json::Few<Subject>,
    }
    #[derive(Deserialize)]
    struct Subject {
        digest: Digests,
    }
    #[derive(Deserialize)]
    struct Digests {
        sha256: String,
    }
    let statement: Statement = serde_json::from_slice(payload).ok()?;
    let digest = &statement.subject.kept.first()?.digest.sha256;
    Digest::from_hex(Algorithm::Sha256, digest)?.as_bytes().try_into().ok()
}

/// Whom the certificate of a bundle names, and who is said to have vouched for them. Nothing of it is verified.
#[must_use]
pub fn unverified_subject(bundle: &Bundle) -> Option<(String, String)> {
    let VerificationMaterial::Certificate(der) = bundle.material() else { return None };
    let subject = Leaf::parse(der).ok()?.subject().ok()?;
    Some((subject.identity, subject.issuer))
}
