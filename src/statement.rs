//! The signed text: an in-toto Statement v1 with an OMS predicate, current or old, to and from a [`Manifest`].
//!
//! Only bytes whose signature was checked come here. Wire structs are private; what leaves is a [`Manifest`] that
//! cannot be wrong. Formats: OMS v1.0 sections 5 and 6, and the Python releases since 0.2 for the old forms.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::digest::{Algorithm, Digest};
use crate::error::FormatError;
use crate::json::{self, Object};
use crate::manifest::{Manifest, Method, Resource, ResourceName, Serialization, ShardNaming};

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
/// The predicate of model-signing 0.2: every file is a subject of its own.
const OLD_PREDICATE_TYPE: &str = "https://model_signing/Digests/v0.1";
/// Our key among a resource's annotations.
const ANNOTATION: &str = "tensorseal/v1";

/// Which generation of the format a statement belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementVersion {
    /// `https://model_signing/Digests/v0.1`, written by model-signing 0.2.
    Digests01,
    /// `https://model_signing/signature/v1.0`.
    Signature10,
}

impl StatementVersion {
    /// The predicate type's URI.
    #[must_use]
    pub const fn predicate_type(self) -> &'static str {
        match self {
            Self::Digests01 => OLD_PREDICATE_TYPE,
            Self::Signature10 => PREDICATE_TYPE,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireStatement<'a> {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(borrow)]
    subject: Vec<Object<WireSubject<'a>>>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    #[serde(borrow)]
    predicate: &'a RawValue,
}

#[derive(Deserialize)]
struct WireSubject<'a> {
    name: String,
    digest: BTreeMap<String, String>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePredicate<'a> {
    serialization: Object<WireSerialization>,
    #[serde(borrow)]
    resources: Vec<Object<WireResource<'a>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSerialization {
    method: String,
    hash_type: String,
    allow_symlinks: bool,
    #[serde(default, deserialize_with = "json::not_null")]
    shard_size: Option<serde_json::Number>,
    #[serde(default, deserialize_with = "json::not_null")]
    ignore_paths: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct WireResource<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    algorithm: Cow<'a, str>,
    #[serde(borrow)]
    digest: Cow<'a, str>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
}

/// The value under our annotation key. Fields that a later version adds are ignored, as OMS wants it (section 5.2.1).
#[derive(Serialize, Deserialize)]
struct WireAnnotation {
    blake3: String,
    size: u64,
    #[serde(default, deserialize_with = "json::not_null", skip_serializing_if = "Option::is_none")]
    tensors: Option<String>,
}

/// Reads a statement whose signature was checked.
///
/// # Errors
/// [`FormatError`] for everything that is not a statement in one of the known forms, read one way by everybody.
pub(crate) fn parse(payload: &[u8]) -> Result<Manifest, FormatError> {
    let Object(statement): Object<WireStatement<'_>> = json::read("statement", payload)?;
    if statement.kind != STATEMENT_TYPE {
        return Err(FormatError::StatementType(statement.kind));
    }
    match statement.predicate_type.as_str() {
        PREDICATE_TYPE => current(&statement),
        OLD_PREDICATE_TYPE => Ok(old(&statement)?.of_version(StatementVersion::Digests01)),
        _ => Err(FormatError::PredicateType(statement.predicate_type)),
    }
}

fn current(statement: &WireStatement<'_>) -> Result<Manifest, FormatError> {
    let [Object(subject)] = &statement.subject[..] else { return Err(FormatError::Subjects(statement.subject.len())) };
    let signed = subject.digest.get("sha256").and_then(|hex| Digest::from_hex(Algorithm::Sha256, hex));
    let signed = signed.ok_or(FormatError::SubjectDigest)?;
    let fault = |source| FormatError::Json { what: "statement's predicate", source };
    let Object(predicate): Object<WirePredicate<'_>> =
        serde_json::from_str(statement.predicate.get()).map_err(fault)?;
    let serialization = Serialization::try_from(predicate.serialization.0)?;
    let mut naming = None;
    let resources = predicate.resources.iter().map(|wire| resource(&wire.0, &serialization, &mut naming));
    let resources = resources.collect::<Result<Vec<_>, _>>()?;
    let serialization = Serialization { shard_naming: naming.unwrap_or_default(), ..serialization };
    let manifest = Manifest::new(subject.name.clone(), serialization, resources)?;
    if manifest.root() == signed {
        Ok(manifest)
    } else {
        Err(FormatError::RootDigest { signed, computed: manifest.root() })
    }
}

impl TryFrom<WireSerialization> for Serialization {
    type Error = FormatError;

    fn try_from(wire: WireSerialization) -> Result<Self, FormatError> {
        let method = match (wire.method.as_str(), &wire.shard_size) {
            ("files", None) => Method::Files,
            ("shards", Some(size)) => {
                Method::Shards { size: whole(size).ok_or_else(|| FormatError::ShardSize(size.to_string()))? }
            }
            ("files", Some(size)) => return Err(FormatError::ShardSize(size.to_string())),
            ("shards", None) => return Err(FormatError::ShardSize("absent".to_owned())),
            _ => return Err(FormatError::Method(wire.method)),
        };
        let hash = Algorithm::from_name(&wire.hash_type).ok_or(FormatError::HashType(wire.hash_type))?;
        let mut ignore_paths = wire.ignore_paths;
        if let Some(paths) = &mut ignore_paths {
            paths.sort();
            paths.dedup();
        }
        let shard_naming = ShardNaming::default();
        Ok(Self { method, hash, shard_naming, allow_symlinks: wire.allow_symlinks, ignore_paths })
    }
}

/// A positive whole number. Python writes `1000000000.0`; a double is taken only where it is exact.
fn whole(number: &serde_json::Number) -> Option<NonZeroU64> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    let exact = |float: &f64| float.fract() == 0.0 && (1.0..=EXACT).contains(float);
    let value = number.as_u64().or_else(|| number.as_f64().filter(exact).map(|float| float as u64));
    NonZeroU64::new(value?)
}

fn resource(
    wire: &WireResource<'_>,
    serialization: &Serialization,
    naming: &mut Option<ShardNaming>,
) -> Result<Resource, FormatError> {
    let name = ResourceName::parse(&wire.name)?;
    let hash = serialization.hash;
    let this = match serialization.method.shard_size() {
        _ if wire.algorithm == hash.name() => ShardNaming::Spec,
        Some(size) if wire.algorithm == format!("{hash}-sharded-{size}") => ShardNaming::Compat,
        _ => {
            let algorithm = wire.algorithm.clone().into_owned();
            return Err(FormatError::ResourceAlgorithm { name: name.to_string(), algorithm });
        }
    };
    if *naming.get_or_insert(this) != this {
        let algorithm = wire.algorithm.clone().into_owned();
        return Err(FormatError::ResourceAlgorithm { name: name.to_string(), algorithm });
    }
    let malformed = |algorithm| FormatError::ResourceDigest { name: name.to_string(), algorithm };
    let digest = Digest::from_hex(hash, &wire.digest).ok_or_else(|| malformed(hash))?;
    let (mut blake3, mut size, mut tensors) = (None, None, None);
    if let Some(annotation) = annotation(&name, wire.annotations)? {
        let signed =
            Digest::from_hex(Algorithm::Blake3, &annotation.blake3).ok_or_else(|| malformed(Algorithm::Blake3))?;
        if hash == Algorithm::Blake3 && signed != digest {
            let why = "it has another BLAKE3 digest than the resource".to_owned();
            return Err(FormatError::Annotation { name: name.to_string(), why });
        }
        if let (Method::Shards { .. }, Some((_, range))) = (serialization.method, name.shard())
            && range.end.saturating_sub(range.start) != annotation.size
        {
            let why = "its size is not that of the shard".to_owned();
            return Err(FormatError::Annotation { name: name.to_string(), why });
        }
        (blake3, size) = (Some(signed), Some(annotation.size));
        if let Some(hex) = annotation.tensors {
            let fault = |why: &str| FormatError::Annotation { name: name.to_string(), why: why.to_owned() };
            if serialization.method != Method::Files {
                return Err(fault("it names a tensor manifest, which is about whole files, beside a shard"));
            }
            let digest = Digest::from_hex(Algorithm::Blake3, &hex);
            tensors = Some(digest.ok_or_else(|| fault("the digest of its tensor manifest is malformed"))?);
        }
    }
    Ok(Resource { name, digest, blake3, size, tensors })
}

/// Our annotation among others. Annotations that are no object, or none of ours, are somebody else's affair.
fn annotation(name: &ResourceName, annotations: Option<&RawValue>) -> Result<Option<WireAnnotation>, FormatError> {
    let Some(text) = annotations.map(RawValue::get) else { return Ok(None) };
    let Ok(mut all) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) else { return Ok(None) };
    let Some(ours) = all.remove(ANNOTATION) else { return Ok(None) };
    serde_json::from_str::<Object<WireAnnotation>>(ours.get())
        .map(|annotation| Some(annotation.0))
        .map_err(|error| FormatError::Annotation { name: name.to_string(), why: error.to_string() })
}

/// model-signing 0.2: files are subjects, the digest is SHA-256, nothing else is recorded.
fn old(statement: &WireStatement<'_>) -> Result<Manifest, FormatError> {
    #[derive(Deserialize)]
    struct Annotations {
        actual_hash_algorithm: String,
    }
    let mut resources = Vec::with_capacity(statement.subject.len());
    for Object(subject) in &statement.subject {
        let name = ResourceName::parse(&subject.name)?;
        let annotations =
            subject.annotations.and_then(|raw| serde_json::from_str::<Object<Annotations>>(raw.get()).ok());
        let algorithm = annotations.map_or_else(|| "unknown".to_owned(), |a| a.0.actual_hash_algorithm);
        if algorithm != "file-sha256" {
            return Err(FormatError::ResourceAlgorithm { name: name.to_string(), algorithm });
        }
        let digest = subject.digest.get("sha256").and_then(|hex| Digest::from_hex(Algorithm::Sha256, hex));
        let malformed = || FormatError::ResourceDigest { name: name.to_string(), algorithm: Algorithm::Sha256 };
        let digest = digest.ok_or_else(malformed)?;
        resources.push(Resource { name, digest, blake3: None, size: None, tensors: None });
    }
    let serialization = Serialization {
        method: Method::Files,
        hash: Algorithm::Sha256,
        shard_naming: ShardNaming::Spec,
        allow_symlinks: false,
        ignore_paths: None,
    };
    Manifest::new(String::new(), serialization, resources)
}

#[derive(Serialize)]
struct OutStatement<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: [OutSubject<'a>; 1],
    #[serde(rename = "predicateType")]
    predicate_type: &'static str,
    predicate: OutPredicate<'a>,
}

#[derive(Serialize)]
struct OutSubject<'a> {
    name: &'a str,
    digest: OutRoot,
}

#[derive(Serialize)]
struct OutRoot {
    sha256: String,
}

#[derive(Serialize)]
struct OutPredicate<'a> {
    serialization: OutSerialization<'a>,
    resources: Vec<OutResource<'a>>,
}

#[derive(Serialize)]
struct OutSerialization<'a> {
    method: &'static str,
    hash_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard_size: Option<NonZeroU64>,
    allow_symlinks: bool,
    ignore_paths: &'a [String],
}

#[derive(Serialize)]
struct OutResource<'a> {
    name: &'a str,
    algorithm: &'a str,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<OutAnnotations>,
}

#[derive(Serialize)]
struct OutAnnotations {
    #[serde(rename = "tensorseal/v1")]
    ours: WireAnnotation,
}

/// Writes a statement: compact JSON, resources in the order of their names, whole numbers as such.
pub(crate) fn write(manifest: &Manifest) -> Vec<u8> {
    let serialization = manifest.serialization();
    let (hash, size) = (serialization.hash, serialization.method.shard_size());
    let algorithm = match (serialization.shard_naming, size) {
        (ShardNaming::Compat, Some(size)) => format!("{hash}-sharded-{size}"),
        _ => hash.name().to_owned(),
    };
    let resources = manifest.resources().iter().map(|resource| OutResource {
        name: resource.name.as_str(),
        algorithm: &algorithm,
        digest: resource.digest.to_hex(),
        annotations: resource.blake3.zip(resource.size).map(|(blake3, size)| {
            let tensors = resource.tensors.map(|digest| digest.to_hex());
            OutAnnotations { ours: WireAnnotation { blake3: blake3.to_hex(), size, tensors } }
        }),
    });
    let statement = OutStatement {
        kind: STATEMENT_TYPE,
        subject: [OutSubject { name: manifest.model(), digest: OutRoot { sha256: manifest.root().to_hex() } }],
        predicate_type: PREDICATE_TYPE,
        predicate: OutPredicate {
            serialization: OutSerialization {
                method: if size.is_some() { "shards" } else { "files" },
                hash_type: hash.name(),
                shard_size: size,
                allow_symlinks: serialization.allow_symlinks,
                ignore_paths: serialization.ignore_paths.as_deref().unwrap_or_default(),
            },
            resources: resources.collect(),
        },
    };
    // Strings and numbers into memory: there is nothing that could fail.
    serde_json::to_vec(&statement).unwrap_or_default()
}
