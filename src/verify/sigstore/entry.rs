//! What log entries say twice: the crate `sigstore-verify` takes each fact from one place and leaves the other unread, where
//! another reader may look.

use serde::Deserialize;
use serde_json::Value;
use sigstore_types::bundle::{InclusionProof, TransparencyLogEntry};
use sigstore_types::{Checkpoint, KindVersion};

use super::SigstoreError;
use crate::error::{quoted, tame};
use crate::json;
use crate::trust::TrustSource;

/// What every body begins with.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    kind: String,
    api_version: String,
}

/// Whether all that `entry`, whose text is `text`, says of itself is the same wherever it stands.
pub(super) fn check(entry: &TransparencyLogEntry, text: &str, trust: &TrustSource) -> Result<(), SigstoreError> {
    let malformed = |why: String| SigstoreError::Entry { why };
    // A reader of protocol buffers takes `log_id` for `logId`.
    let whole: Value = serde_json::from_str(text).map_err(|error| malformed(tame(&error.to_string())))?;
    if let Some(key) = underscored(&whole) {
        return Err(malformed(format!("its field {} may be read as another", quoted(key))));
    }
    let body: Body = json::read("log entry's body", entry.canonicalized_body.as_bytes())
        .map_err(|error| malformed(tame(&error.to_string())))?;
    let (kind, version) = (entry.kind_version.kind(), entry.kind_version.version());
    if (&*body.kind, &*body.api_version) != (kind, version) {
        let found = quoted(&format!("{} {}", body.kind, body.api_version));
        return Err(malformed(format!("it is said to be {kind} {version}, and its body is {found}")));
    }
    let missing = || SigstoreError::Unchecked { what: "the inclusion proof" };
    let proof = entry.inclusion_proof.as_ref().ok_or_else(missing)?;
    let checkpoint = proof.checkpoint.checkpoint().ok_or_else(missing)?;
    agree(entry, proof, checkpoint).map_err(|why| SigstoreError::InclusionProof { why })?;
    note(proof.checkpoint.envelope(), checkpoint, entry.log_id.key_id.as_bytes())
        .map_err(|why| SigstoreError::Checkpoint { why: why.to_owned(), trust: trust.clone() })
}

/// The first key that has an underscore.
fn underscored(value: &Value) -> Option<&str> {
    match value {
        Value::Object(map) => {
            map.iter().find_map(|(key, value)| if key.contains('_') { Some(&**key) } else { underscored(value) })
        }
        Value::Array(all) => all.iter().find_map(underscored),
        _ => None,
    }
}

/// Whether the proof is about the tree of its checkpoint. Rekor v2 has one number for an entry, version 1 another for its
/// shard of the log.
fn agree(entry: &TransparencyLogEntry, proof: &InclusionProof, checkpoint: &Checkpoint) -> Result<(), String> {
    if proof.tree_size != checkpoint.tree_size() {
        return Err(format!(
            "it is for a tree of {}, and the checkpoint is of {}",
            proof.tree_size,
            checkpoint.tree_size()
        ));
    }
    if proof.root_hash != *checkpoint.root_hash() {
        return Err("its root is not that of the checkpoint".to_owned());
    }
    if entry.kind_version == KindVersion::HashedRekordV002 && proof.log_index != entry.log_index {
        return Err(format!("it is for number {}, and the entry is number {}", proof.log_index, entry.log_index));
    }
    Ok(())
}

/// Whether a checkpoint has the one form of a signed note (C2SP, signed-note.md), by a log of the name in its first line.
fn note(text: &str, checkpoint: &Checkpoint, log: &[u8]) -> Result<(), &'static str> {
    let (body, signatures) = text.split_once("\n\n").ok_or("it has no empty line")?;
    let line = |line: &str| line.starts_with("\u{2014} ") && line.split(' ').count() == 3;
    if body.starts_with('\n') || !signatures.strip_suffix('\n').is_some_and(|lines| lines.split('\n').all(line)) {
        return Err("it is more than a text, an empty line and signatures");
    }
    // Rekor v1 adds the number of the tree to its name.
    let origin = checkpoint.origin();
    let of_origin =
        |name: &str| origin == name || origin.strip_prefix(name).is_some_and(|rest| rest.starts_with(" - "));
    let mut by_the_log = checkpoint.signatures().iter().filter(|one| log.starts_with(one.key_id.as_bytes()));
    if by_the_log.any(|one| of_origin(&one.name)) {
        Ok(())
    } else {
        Err("it is of another log than the one that signed it")
    }
}
