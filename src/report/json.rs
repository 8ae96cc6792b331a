//! Reports for machines: what `--json` prints, and what the bindings return. The schema is `docs/json.md`; a field may be
//! added, a change of meaning needs a new version.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::Report;
use crate::device::DeviceKind;
use crate::digest::Algorithm;
use crate::error::{Error, Failure, VerifyError};
use crate::manifest::{Difference, Differences, Method, Serialization};
use crate::outboard::{HeaderState, Located, OutboardFile, Touched, TouchedTensor};
use crate::policy::Applied;
use crate::resident::Mismatch;
use crate::seal::Finding;
use crate::sign::{Hashed, SignOptions, who_cannot_verify};
use crate::source::{FollowedLink, IgnoredFile, IgnoredKind};
use crate::tensors::{TensorRefusal, TileDifference};
use crate::verify::{Identity, LogRecord, SigningTime};

/// What every report begins with.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The verb.
    pub command: &'a str,
    /// `yes`, `no` or `none`.
    pub verdict: &'a str,
    /// What the program ends with.
    pub exit_code: u8,
    /// The model, as given.
    pub model: Option<&'a Path>,
    /// The signature, as given; the first of several.
    pub signature: Option<&'a Path>,
}

impl<'a> Head<'a> {
    /// Of a call that ended so, by whoever is not the program.
    #[must_use]
    pub fn of(command: &'a str, model: &'a Path, signature: Option<&'a Path>, error: Option<&Error>) -> Self {
        let (verdict, exit_code) = match error.map(Error::failure) {
            None => ("yes", 0),
            Some(Failure::No) => ("no", 1),
            Some(Failure::Usage) => ("none", 2),
            Some(Failure::NoAnswer) => ("none", 3),
        };
        Self { command, verdict, exit_code, model: Some(model), signature }
    }
}

impl From<Head<'_>> for Map<String, Value> {
    fn from(head: Head<'_>) -> Self {
        let mut report = Self::new();
        report.insert("schema".into(), "tensorseal/report/v1".into());
        report.insert("tool".into(), concat!("tensorseal ", env!("CARGO_PKG_VERSION")).into());
        report.insert("command".into(), head.command.into());
        report.insert("verdict".into(), head.verdict.into());
        report.insert("exit_code".into(), head.exit_code.into());
        for (field, path) in [("model", head.model), ("signature", head.signature)] {
            report.extend(path.map(|path| (field.into(), path.to_string_lossy().into())));
        }
        report
    }
}

/// The whole report of a call: its head, and what it found or why it failed.
#[must_use]
pub fn whole(head: Head<'_>, found: Result<Value, &Error>) -> Map<String, Value> {
    let mut report = head.into();
    insert(&mut report, found.unwrap_or_else(error));
    report
}

/// Adds the fields of an object to a report.
pub fn insert(report: &mut Map<String, Value>, fields: Value) {
    if let Value::Object(fields) = fields {
        report.extend(fields);
    }
}

/// What a verification checked.
#[must_use]
pub fn verified(report: &Report) -> Value {
    let mut fields = json!({
        "method": report.method,
        "identity": identity(&report.identity),
        "predicate_type": report.statement.predicate_type(),
        "serialization": serialization(&report.serialization),
        "root": report.root.to_string(),
        "checked": places(&report.checked, &report.device),
        "not_checked": report.not_checked.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>(),
        "resources": report.resources,
        "files": report.files,
        "bytes": report.bytes,
        "seconds": report.elapsed.as_secs_f64(),
        "hashed": !report.checked.is_empty(),
        "ignored": report.ignored.iter().map(ignored).collect::<Vec<_>>(),
        "not_covered": report.empty,
        "unsigned": report.unsigned,
        "followed": report.followed.iter().map(followed).collect::<Vec<_>>(),
        "notes": report.notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "tensor_manifests": report.tensor_manifests.iter().map(|of| json!({
            "name": of.name,
            "detached": of.detached,
            "files": of.files,
            "tensors": of.tensors,
            "tiles": of.tiles,
            "tiles_recomputed": of.recomputed,
        })).collect::<Vec<_>>(),
    });
    if let Some(applied) = &report.policy {
        fields["policy"] = policy(applied);
    }
    if let Some(of) = &report.unhashed {
        fields["unhashed"] = json!({
            "receipt": of.receipt.to_string_lossy(),
            "sha256": of.receipt_sha256,
            "key": of.key,
            "hashed_at": of.hashed_at.to_string(),
            "until": of.until.to_string(),
            "checked": of.checked.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>(),
            "fs_verity": of.fs_verity,
            "dm_verity": of.dm_verity,
            "erofs": of.erofs,
            "file_identity": of.file_identity,
        });
    }
    fields
}

/// How a policy was satisfied.
fn policy(applied: &Applied) -> Value {
    json!({
        "file": applied.policy.as_ref().map(|path| path.to_string_lossy()),
        "resolved": applied.resolved.to_string_lossy(),
        "rules": applied.rules.iter().map(|of| json!({
            "rule": of.rule.number,
            "line": of.rule.line,
            "path": of.rule.path,
            "signers": of.signers,
        })).collect::<Vec<_>>(),
        "signatures": applied.signatures.iter().map(|of| json!({
            "signature": of.signature.to_string_lossy(),
            "signers": of.signers,
            "identity": identity(&of.identity),
        })).collect::<Vec<_>>(),
    })
}

/// Which digest was computed where.
fn places(algorithms: &[Algorithm], device: &DeviceKind) -> Vec<Value> {
    let place = |&algorithm: &Algorithm| json!({"algorithm": algorithm.name(), "device": device.place_of(algorithm).to_string()});
    algorithms.iter().map(place).collect()
}

/// What was hashed for a signature or a digest.
#[must_use]
pub fn hashed(hashed: &Hashed) -> Value {
    json!({
        "serialization": serialization(hashed.manifest.serialization()),
        "root": hashed.manifest.root().to_string(),
        "device": hashed.device.to_string(),
        "algorithms": hashed.algorithms.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>(),
        "computed": places(&hashed.algorithms, &hashed.device),
        "resources": hashed.manifest.resources().len(),
        "files": hashed.files,
        "bytes": hashed.bytes,
        "seconds": hashed.elapsed.as_secs_f64(),
        "not_covered": hashed.empty,
        "followed": hashed.followed.iter().map(followed).collect::<Vec<_>>(),
        "notes": hashed.notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "tensor_manifest": hashed.tensors.as_ref().map(|of| json!({
            "path": of.path.to_string_lossy(),
            "detached": of.detached,
            "made": of.made,
            "files": of.manifest.files().len(),
            "tensors": of.manifest.tensors().len(),
            "tiles": of.tiles(),
            "digest": of.manifest.digest().to_string(),
        })),
    })
}

/// What was signed with these options. A single file is a model that is no folder.
#[must_use]
pub fn signing(signed: &Hashed, options: &SignOptions, single_file: bool) -> Value {
    let mut fields = hashed(signed);
    fields["cannot_be_verified_by"] = who_cannot_verify(options, single_file).into();
    if let (Some(kept), Some(asked)) = (&signed.outboard, &options.outboard) {
        fields["outboard"] = outboard(asked.path(), kept);
    }
    fields
}

/// What was hashed, with the digest of each resource.
#[must_use]
pub fn digests(found: &Hashed) -> Value {
    let mut fields = hashed(found);
    let digest = |of: &crate::manifest::Resource| json!({"name": of.name.as_str(), "digest": of.digest.to_string()});
    fields["digests"] = found.manifest.resources().iter().map(digest).collect();
    fields
}

/// Why a call did not end in a yes.
#[must_use]
pub fn error(error: &Error) -> Value {
    let mut fields = Map::new();
    insert(&mut fields, json!({"error": {"kind": kind(error), "message": error.to_string()}}));
    match error.refusal() {
        Some(VerifyError::Differs { differences: all, located, report }) => {
            insert(&mut fields, verified(report));
            fields.insert("differences".into(), differences(all));
            if !located.is_empty() {
                fields.insert("located".into(), located.iter().map(self::located).collect());
            }
        }
        Some(VerifyError::Uncovered { names, report }) => {
            insert(&mut fields, verified(report));
            fields.insert("uncovered".into(), names.as_slice().into());
        }
        Some(VerifyError::Written(of)) => {
            fields.insert(
                "differences".into(),
                json!([{
                    "name": of.name,
                    "kind": "miswritten",
                    "expected": of.expected.to_string(),
                    "found": of.found.to_string(),
                }]),
            );
            let ranges = of.tensors.iter().flat_map(|tensor| &tensor.ranges);
            let places: Vec<Value> = ranges.map(|range| json!({"start": range.start, "end": range.end})).collect();
            if !places.is_empty() {
                fields.insert("located".into(), json!([{"file": of.name, "places": places}]));
            }
        }
        Some(VerifyError::Resident(of)) => {
            if let Mismatch::Differs { differences: all, .. } = &**of {
                fields.insert("differences".into(), differences(all));
            }
        }
        Some(VerifyError::Tensors(TensorRefusal::Tiles(tiles))) => {
            fields.insert("differences".into(), tiles.first.iter().map(tile).collect());
            fields.insert("differing_tiles".into(), tiles.count.into());
        }
        Some(VerifyError::Seal(broken)) => {
            fields.insert("differences".into(), broken.findings.iter().map(finding).collect());
        }
        _ => {}
    }
    fields.into()
}

/// A tile in memory that is not as signed: `ranges` is where in its file it lies.
fn tile(tile: &TileDifference) -> Value {
    let elements: Vec<_> = tile.ranges.iter().map(|range| [range.start, range.end]).collect();
    json!({
        "name": tile.tensor,
        "kind": "changed",
        "expected": tile.expected.to_string(),
        "found": tile.found.to_string(),
        "file": tile.file.as_str(),
        "ranges": [[tile.bytes.start, tile.bytes.end]],
        "elements": elements,
        "tile": tile.tile.0,
        "tiles": tile.tile.1,
    })
}

/// How memory is not what was sealed: `ranges` is where in it.
fn finding(finding: &Finding) -> Value {
    let name = finding.name();
    match finding {
        Finding::Changed { at, .. } => {
            let ranges: Vec<_> = at.iter().map(|range| [range.start, range.end]).collect();
            json!({"name": name, "kind": "changed", "ranges": ranges})
        }
        Finding::Vanished { .. } => json!({"name": name, "kind": "missing"}),
        Finding::Added { .. } => json!({"name": name, "kind": "added"}),
        Finding::Moved { what, .. } => json!({"name": name, "kind": "moved", "what": what}),
    }
}

/// A stable name for each kind of failure.
#[must_use]
pub fn kind(error: &Error) -> &'static str {
    match error {
        Error::Io { .. } => "io",
        Error::FileChanged { .. } => "file-changed",
        Error::Source(_) => "model",
        Error::EmptyModel { .. } => "empty-model",
        Error::IgnoresEverything { .. } => "ignores-everything",
        Error::NotASignature { .. } => "not-a-signature",
        Error::NotAnOutboard { .. }
        | Error::OutboardInModel { .. }
        | Error::OutboardUnused { .. }
        | Error::OutboardPath { .. }
        | Error::Outboard { .. } => "outboard",
        Error::NotAReceipt { .. } => "not-a-receipt",
        Error::Receipt(_) | Error::ReceiptInModel { .. } => "receipt",
        Error::Statement(_) => "statement",
        Error::Key { .. } => "key",
        Error::Certificate { .. } => "certificate",
        #[cfg(feature = "sigstore-verify")]
        Error::TimestampRoots { .. } => "certificate",
        Error::Sign(_) => "sign",
        Error::Policy(_) => "policy",
        Error::Header { .. } => "header",
        Error::Index { .. } | Error::Parts(_) => "index",
        #[cfg(feature = "sigstore-verify")]
        Error::Trust(_) => "trust-root",
        #[cfg(feature = "sigstore-sign")]
        Error::Update(_) => "trust-root",
        #[cfg(feature = "sigstore-verify")]
        Error::Pattern(_) => "usage",
        Error::NoFeature { .. } => "feature",
        Error::Written(_) => "written",
        Error::TensorManifest(_) | Error::TensorsElsewhere { .. } => "tensor-manifest",
        Error::UnknownDevice(_) | Error::Device(_) => "device",
        Error::Cancelled { .. } | Error::Stopped => "cancelled",
        Error::ReadMode { .. } | Error::NoReadMode { .. } => "read-mode",
        Error::Slice(_) => "slice",
        Error::Placement(_) => "placement",
        Error::Seal(_) => "seal",
        Error::OneSignature { .. } | Error::NoNames | Error::NothingAsked { .. } => "usage",
        Error::NoSignature { .. } => "no-signature",
        Error::Verify(no) => match &**no {
            VerifyError::BundleTooLarge { .. } => "bundle-too-large",
            VerifyError::Format(_) => "format",
            VerifyError::Signature(_) => "signature",
            VerifyError::Model(_) => "model",
            VerifyError::Differs { .. } => "differs",
            VerifyError::SignerInconsistent { .. } => "signer-inconsistent",
            VerifyError::NoSuchDigest { .. } => "no-such-digest",
            VerifyError::Uncovered { .. } => "uncovered",
            VerifyError::Written(_) => "written-bytes-differ",
            VerifyError::Policy(_) => "policy",
            VerifyError::Tensors(_) => "tensors",
            VerifyError::Resident(_) => "resident",
            VerifyError::Seal(_) => "seal",
        },
    }
}

fn differences(differences: &Differences) -> Value {
    let one = |name: &str, difference: &Difference| match difference {
        Difference::Changed { expected, found, expected_size, found_size } => json!({
            "name": name,
            "kind": "changed",
            "expected": expected.to_string(),
            "found": found.to_string(),
            "expected_size": expected_size,
            "found_size": found_size,
        }),
        Difference::Resized { expected, found } => {
            json!({"name": name, "kind": "resized", "expected_size": expected, "found_size": found})
        }
        Difference::Missing => json!({"name": name, "kind": "missing"}),
        Difference::Unsigned => json!({"name": name, "kind": "unsigned"}),
        Difference::Miscopied { read, arrived } => json!({
            "name": name,
            "kind": "miscopied",
            "expected": read.to_string(),
            "found": arrived.to_string(),
        }),
        Difference::NotMeasured => json!({"name": name, "kind": "not-measured"}),
    };
    differences.0.iter().map(|(name, difference)| one(name.as_str(), difference)).collect()
}

/// Where a file differs.
fn located(located: &Located) -> Value {
    let (header, error) = match &located.header {
        HeaderState::None => ("none", None),
        HeaderState::AsSigned => ("as-signed", None),
        HeaderState::Differs => ("differs", None),
        HeaderState::Unreadable(why) => ("unreadable", Some(why)),
    };
    let part = |of: &TouchedTensor| {
        json!({
            "start": of.bytes.start,
            "end": of.bytes.end,
            "rows": of.rows.as_ref().map(|rows| [rows.start, rows.end]),
        })
    };
    let touched = |touched: &Touched| match touched {
        Touched::Header => json!({"kind": "header"}),
        Touched::Padding => json!({"kind": "padding"}),
        Touched::Tensor(of) => {
            let mut fields = part(of);
            fields["kind"] = "tensor".into();
            fields["name"] = of.tensor.name.as_str().into();
            fields
        }
    };
    json!({
        "file": located.file,
        "signed_size": located.signed_len,
        "found_size": located.found_len,
        "group_size": located.group,
        "compared": located.compared,
        "header": header,
        "header_error": error,
        "hindrance": located.hindrance,
        "places": located.places.iter().map(|place| json!({
            "start": place.range.start,
            "end": place.range.end,
            "touches": place.touches.iter().map(touched).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "tensors": located.tensors().into_iter().map(|(tensor, certain, parts)| json!({
            "name": tensor.name,
            "dtype": tensor.dtype.name(),
            "shape": tensor.shape,
            "certain": certain,
            "parts": parts.into_iter().map(part).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

/// What was kept of a signed model.
#[must_use]
pub fn outboard(path: &Path, outboard: &OutboardFile) -> Value {
    json!({"file": path.to_string_lossy(), "group_size": outboard.group().bytes()})
}

/// Who signed.
#[must_use]
pub fn identity(identity: &Identity) -> Value {
    match identity {
        Identity::Key { curve, fingerprint } => json!({"curve": curve.name(), "fingerprint": fingerprint}),
        Identity::Certificate(of) => json!({
            "subject": of.subject,
            "names": of.names,
            "fingerprint": of.fingerprint,
            "root": of.root,
            "root_fingerprint": of.root_fingerprint,
            "judged_at": time(of.judged_at),
        }),
        Identity::Sigstore(of) => json!({
            "identity": of.identity,
            "issuer": of.issuer,
            "signed_at": time(of.signed_at),
            "build": of.build.as_ref().map(|build| json!({
                "repository": build.repository,
                "ref": build.reference,
                "commit": build.commit,
                "workflow": build.workflow,
                "trigger": build.trigger,
                "runner": build.runner,
                "run": build.run,
            })),
            "log_entries": of.log_entries.iter().map(log_entry).collect::<Vec<_>>(),
            "trust_root": of.trust_root,
        }),
    }
}

fn log_entry(of: &LogRecord) -> Value {
    let at = of.at.map(|at| at.to_string());
    json!({"log": of.log, "id": of.id, "index": of.index, "kind": of.kind, "integrated": at})
}

/// A moment, and who vouches for it.
fn time(time: SigningTime) -> Value {
    let (by, at) = match time {
        SigningTime::Timestamp(at) => ("timestamp-authority", at),
        SigningTime::Log(at) => ("transparency-log", at),
        SigningTime::Now(at) => ("now", at),
        SigningTime::NotBefore(at) => ("not-before", at),
    };
    json!({"time": at.to_string(), "by": by})
}

/// The signed settings.
#[must_use]
pub fn serialization(serialization: &Serialization) -> Value {
    let method = if serialization.method == Method::Files { "files" } else { "shards" };
    json!({
        "method": method,
        "hash_type": serialization.hash.name(),
        "shard_size": serialization.method.shard_size(),
        "allow_symlinks": serialization.allow_symlinks,
        "ignore_paths": serialization.ignore_paths,
    })
}

fn ignored(file: &IgnoredFile) -> Value {
    let kind = match file.kind {
        IgnoredKind::File => "file",
        IgnoredKind::Symlink => "symlink",
        IgnoredKind::Special(_) => "special",
        IgnoredKind::Unreadable => "unreadable",
    };
    json!({"name": file.name, "under": &*file.under, "kind": kind})
}

fn followed(link: &FollowedLink) -> Value {
    json!({"name": link.name, "target": link.target.display().to_string(), "leaves_model": link.leaves_root})
}
