//! What is wrong with a bundle, or with what it carries.

use super::{quoted, tame};
use crate::digest::{Algorithm, Digest};

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
    /// Two files under one signature name two tensor manifests.
    #[error("resource {name:?} names the tensor manifest {found}, and another one {expected}: a model has one")]
    TwoTensorManifests {
        /// The resource.
        name: String,
        /// The digest that stands first.
        expected: Digest,
        /// Its own.
        found: Digest,
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
