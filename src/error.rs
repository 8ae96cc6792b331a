//! The two ways in which a call ends without a yes: [`Error`] (there is no answer) and [`VerifyError`] (the answer is no).

use std::io;
use std::path::PathBuf;

use crate::device::DeviceError;
use crate::digest::{Algorithm, Digest};
use crate::format::{HeaderFault, IndexFault};
use crate::key::KeyError;
use crate::loader::ReadMode;
use crate::manifest::Differences;
use crate::policy::{PolicyError, Refusal};
use crate::report::Report;
use crate::resident::{Mismatch, PlacementError};
use crate::seal::{Broken, SealError};
use crate::sign::SignError;
use crate::source::SourceError;
#[cfg(feature = "sigstore-verify")]
use crate::timestamp::NoTimestampRoot;
#[cfg(feature = "sigstore-verify")]
use crate::trust::TrustError;
#[cfg(feature = "sigstore-verify")]
use crate::verify::PatternError;
use crate::verify::SignatureError;
use crate::x509::CertificateFault;

/// Why a call gave no result.
///
/// Everything but [`Error::Verify`] means that no answer could be had; `Verify` means that the answer is no.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {doing} {path:?}: {source}")]
    Io {
        /// What was tried, as a verb: `read`, `write`, ..
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file was not the same file, or not the same length, before and after it was read.
    #[error(
        "{path:?} changed while it was read: {how}. Nothing can be said of it; stop whoever writes to it and run again"
    )]
    FileChanged {
        /// The file.
        path: PathBuf,
        /// What was seen.
        how: String,
    },
    /// The model holds something that cannot be signed or hashed, or cannot be listed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The model holds no file that would be signed.
    #[error(
        "{path:?} holds no file to sign (empty files do not count under `shards`); an empty signature would cover nothing"
    )]
    EmptyModel {
        /// The model.
        path: PathBuf,
    },
    /// An ignore path of the caller is the model itself.
    #[error("the ignore path {path:?} is the model itself; ignoring it would leave nothing to sign or verify")]
    IgnoresEverything {
        /// The path.
        path: PathBuf,
    },
    /// A signature would replace a file that is none.
    #[error(
        "{path:?} is there and is not a signature, so it is not replaced. Write the signature to another path, or remove that file first"
    )]
    NotASignature {
        /// The file.
        path: PathBuf,
    },
    /// The model cannot be described by a statement that verifiers would accept.
    #[error("cannot sign: {0}")]
    Statement(FormatError),
    /// A key could not be read or used.
    #[error("key {path:?}: {source}")]
    Key {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// The signer failed.
    #[error("cannot sign: {0}")]
    Sign(#[from] SignError),
    /// A policy cannot be used.
    #[error(transparent)]
    Policy(Box<PolicyError>),
    /// A file of certificates could not be used.
    #[error("certificates {path:?}: {source}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CertificateFault,
    },
    /// What was given to trust for timestamps is nothing to trust.
    #[cfg(feature = "sigstore-verify")]
    #[error("{path:?}: {source}")]
    TimestampRoots {
        /// The first file.
        path: PathBuf,
        /// Why.
        source: NoTimestampRoot,
    },
    /// There is no trust root of Sigstore to verify by.
    #[cfg(feature = "sigstore-verify")]
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A trust root could not be fetched.
    #[cfg(feature = "sigstore-sign")]
    #[error(transparent)]
    Update(#[from] crate::trust::UpdateError),
    /// A regular expression of names cannot be used.
    #[cfg(feature = "sigstore-verify")]
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// This build has not what was asked for.
    #[error(
        "this build of tensorseal cannot {what}: it was made without the feature {feature}. Build it with `--features {feature}`"
    )]
    NoFeature {
        /// What was asked for, as a verb.
        what: &'static str,
        /// The Cargo feature that it takes.
        feature: &'static str,
    },
    /// A file cannot be read in the way that was asked for.
    #[error("{path:?} cannot be read by {mode}: {why}. There is no other way in its place: ask for ReadMode::Buffered")]
    ReadMode {
        /// The file.
        path: PathBuf,
        /// The way.
        mode: ReadMode,
        /// Why not.
        why: String,
    },
    /// This machine has not the way of reading that was asked for.
    #[error("files cannot be read by {mode}: {why}. There is no other way in its place: ask for ReadMode::Buffered")]
    NoReadMode {
        /// The way.
        mode: ReadMode,
        /// What is missing.
        why: String,
    },
    /// A file of tensors has a header that cannot be used.
    #[error(
        "the tensors of {path:?} cannot be read: {source}. Get the file anew; if it is as its maker made it, do not load it"
    )]
    Header {
        /// The file.
        path: PathBuf,
        /// Why.
        source: HeaderFault,
    },
    /// An index of sharded tensors cannot be used, or its shards are not as it says.
    #[error("the index {path:?} cannot be used: {source}. Get the index and its shards anew, all of one version")]
    Index {
        /// The index.
        path: PathBuf,
        /// Why.
        source: IndexFault,
    },
    /// The caller ended it.
    #[error("loading {path:?} was cancelled; nothing was handed out")]
    Cancelled {
        /// The model.
        path: PathBuf,
    },
    /// A device was named that does not exist.
    #[error("{0}")]
    UnknownDevice(String),
    /// A device is missing, not compiled in, or failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A tensor cannot be measured where it lies.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// Memory cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The answer is no.
    #[error(transparent)]
    Verify(#[from] Box<VerifyError>),
}

impl Error {
    /// The reason, if the answer is no; `None` if there is no answer.
    #[must_use]
    pub fn refusal(&self) -> Option<&VerifyError> {
        match self {
            Self::Verify(why) => Some(why),
            _ => None,
        }
    }

    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}

impl From<PolicyError> for Error {
    fn from(fault: PolicyError) -> Self {
        Self::Policy(Box::new(fault))
    }
}

impl From<VerifyError> for Error {
    fn from(why: VerifyError) -> Self {
        Self::Verify(Box::new(why))
    }
}

/// Why the answer is no: this model is not what that signer signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The bundle is longer than this verifier is willing to hold in memory.
    #[error(
        "the bundle has {len} bytes and the limit is {limit}. Raise it with --max-bundle-size if a model really has that many files"
    )]
    BundleTooLarge {
        /// Bytes in the file.
        len: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The bundle, or the statement that it carries, is not well-formed OMS.
    #[error("{0}")]
    Format(#[from] FormatError),
    /// The signature is not one that this verifier trusts over these bytes.
    #[error("{0}")]
    Signature(#[from] SignatureError),
    /// The model holds what no signed model may hold (a symlink, a socket, a name that is not UTF-8, ..).
    #[error("{0}")]
    Model(#[from] SourceError),
    /// The model's files are not the signed ones.
    #[error("{differences}")]
    Differs {
        /// Each of them.
        differences: Differences,
        /// What was checked on the way.
        report: Box<Report>,
    },
    /// Two signed digests of one resource disagree about the same bytes: the signer, not the model, is at fault.
    #[error(
        "signer inconsistent: {name:?} has the signed {agrees} digest, but not the signed {disagrees} digest, so the signer wrote two digests of different bytes"
    )]
    SignerInconsistent {
        /// The resource.
        name: String,
        /// The algorithm that matched.
        agrees: Algorithm,
        /// The algorithm that did not.
        disagrees: Algorithm,
    },
    /// A digest was demanded that the signer did not write.
    #[error(
        "{name:?} has no signed {algorithm} digest. Verify without asking for it, or have the model signed by tensorseal with annotations"
    )]
    NoSuchDigest {
        /// The resource.
        name: String,
        /// What was demanded.
        algorithm: Algorithm,
    },
    /// A strict verification found files that the signature does not cover.
    #[error(
        "--strict: {} of the model's files lie outside the signature, {:?} among them. Remove them, or name each one \
         that may stay with --allow-ignored",
        names.len(),
        names.first().map_or("", String::as_str)
    )]
    Uncovered {
        /// Each of them, model-relative.
        names: Vec<String>,
        /// What was checked on the way.
        report: Box<Report>,
    },
    /// What lies in device memory is not what was signed.
    #[error("{0}")]
    Resident(Box<Mismatch>),
    /// Memory is not what was sealed.
    #[error("{0}")]
    Seal(Box<Broken>),
    /// The policy does not accept these signatures for this model.
    #[error("{0}")]
    Policy(Refusal),
}

/// What is wrong with a bundle or with the statement inside it. All of these are a no: the text was not written by a
/// conforming signer, or two verifiers could understand it differently.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Not JSON, not the expected JSON, a key twice in one object, or more than one value.
    #[error("the {what} is malformed: {}", tame(&.source.to_string()))]
    Json {
        /// `bundle`, `statement`, ..
        what: &'static str,
        /// What the parser said, with line and column.
        source: serde_json::Error,
    },
    /// A media type that is not a Sigstore bundle's.
    #[error("the bundle's mediaType is {}, not that of a Sigstore bundle v0.3", quoted(.0))]
    MediaType(String),
    /// None, or more than one, of publicKey, certificate and x509CertificateChain.
    #[error(
        "the bundle's verificationMaterial must hold exactly one of publicKey, certificate and x509CertificateChain, and holds {0}"
    )]
    Material(usize),
    /// More certificates than any chain has.
    #[error("the bundle's certificate chain has {found} certificates; at most {limit} are accepted")]
    LongChain {
        /// How many.
        found: usize,
        /// How many are accepted.
        limit: usize,
    },
    /// A log entry that is no JSON object.
    #[error("the bundle's tlogEntries must be objects")]
    LogEntry,
    /// More log entries or timestamps than any signer writes.
    #[error("the bundle has {count} {what}; at most {limit} are accepted")]
    MuchEvidence {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many are accepted.
        limit: usize,
    },
    /// The envelope is for another kind of payload.
    #[error("the envelope's payloadType is {}, not \"application/vnd.in-toto+json\"", quoted(.0))]
    PayloadType(String),
    /// A DSSE envelope of OMS has exactly one signature.
    #[error("the envelope must hold exactly one signature and holds {0}")]
    Signatures(usize),
    /// Not base64, or not its one canonical form.
    #[error("the bundle's {field} is not padded, canonical base64")]
    Base64 {
        /// Which field.
        field: &'static str,
    },
    /// Not an in-toto Statement v1.
    #[error("the statement's _type is {}, not \"https://in-toto.io/Statement/v1\"", quoted(.0))]
    StatementType(String),
    /// Another predicate than model signing's.
    #[error("the statement's predicateType is {}, not \"https://model_signing/signature/v1.0\"", quoted(.0))]
    PredicateType(String),
    /// The old pre-authentication encoding over a new statement.
    #[error("the signature is over the faulty encoding of model-signing 0.2, but the statement is of a later form")]
    OldEncoding,
    /// OMS statements are about exactly one model.
    #[error("the statement must have exactly one subject and has {0}")]
    Subjects(usize),
    /// The subject's digest is missing or malformed.
    #[error("the statement's subject has no well-formed sha256 digest")]
    SubjectDigest,
    /// The subject's digest is not that of the listed resources.
    #[error(
        "the manifest is inconsistent: the subject's digest is {signed}, but the listed resources hash to {computed}"
    )]
    RootDigest {
        /// As the subject has it.
        signed: Digest,
        /// As the resources give it.
        computed: Digest,
    },
    /// Unknown serialization method.
    #[error("the serialization method {} is unknown; known are \"files\" and \"shards\"", quoted(.0))]
    Method(String),
    /// Unknown hash.
    #[error("the hash_type {} is unknown; known are sha256, blake2b and blake3", quoted(.0))]
    HashType(String),
    /// A shard size that is absent, misplaced, zero or no whole number.
    #[error("the shard_size is {0}; method \"shards\" needs a positive whole number, method \"files\" none")]
    ShardSize(String),
    /// A resource whose algorithm is not the statement's.
    #[error("resource {name:?} has the algorithm {algorithm:?}, which is not what hash_type and method call for")]
    ResourceAlgorithm {
        /// The resource.
        name: String,
        /// Its algorithm.
        algorithm: String,
    },
    /// A digest that is not hexadecimal of the right length.
    #[error("resource {name:?} has a malformed {algorithm} digest")]
    ResourceDigest {
        /// The resource.
        name: String,
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// A name that could mean another file than the one that was signed.
    #[error("the resource name {name:?} is not allowed: {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two resources with one name.
    #[error("the resource {name:?} is listed twice")]
    DoubleName {
        /// The name.
        name: String,
    },
    /// A statement that covers nothing.
    #[error("the statement lists no resources: it covers nothing")]
    NoResources,
    /// Shards that do not tile their file.
    #[error("shard {name:?}: {why}")]
    Shard {
        /// The shard.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A recorded ignore path that hides everything or lies outside of the model.
    #[error("the recorded ignore path {path:?} is not allowed: {why}")]
    IgnorePath {
        /// The path.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A resource that is signed and ignored at once.
    #[error("resource {name:?} lies under the ignored path {path:?}: it is signed and not signed at once")]
    SignedAndIgnored {
        /// The resource.
        name: String,
        /// The ignore path.
        path: String,
    },
    /// A malformed annotation of ours.
    #[error("resource {name:?} has a malformed tensorseal/v1 annotation: {why}")]
    Annotation {
        /// The resource.
        name: String,
        /// What is wrong.
        why: String,
    },
}

/// Text that a bundle can make as long as it likes is shown up to here.
const SHOWN: usize = 160;

/// Text that quotes a bundle, with control characters escaped, so that the bundle cannot write lines of its own.
pub(crate) fn tame(text: &str) -> String {
    let shown = text.chars().take(SHOWN);
    let mut out: String =
        shown.map(|c| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() }).collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push_str(" ..");
    }
    out
}

/// A value of a bundle in quotes.
pub(crate) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN).collect();
    if shown.len() == text.len() { format!("{text:?}") } else { format!("{shown:?} ..") }
}

#[cfg(test)]
mod tests;
