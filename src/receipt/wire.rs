//! A receipt's payload, as `docs/json.md` describes it. Closed: a field that is not known may mean anything.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::error::ReceiptFault;
use super::facts::{Facts, FileSystem};
use crate::json::{self, Object, not_null, object, objects, some_object};
use crate::time::UnixTime;

/// The generation of receipts.
pub(super) const SCHEMA: &str = "tensorseal/receipt/v1";

/// A moment as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(pub(super) UnixTime);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let moment = UnixTime::parse(&text).map(Self);
        moment.ok_or_else(|| de::Error::custom("a time is not written as 2026-01-01T00:00:00Z"))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Payload {
    pub(super) schema: String,
    pub(super) tool: String,
    /// For people.
    pub(super) verdict: String,
    /// Whether the files were hashed for this very receipt.
    pub(super) hashed: bool,
    /// When the check began.
    pub(super) time: Moment,
    pub(super) expires: Moment,
    #[serde(deserialize_with = "object")]
    pub(super) model: ModelFact,
    #[serde(deserialize_with = "objects")]
    pub(super) bundles: Vec<BundleFact>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_object")]
    pub(super) policy: Option<PolicyFact>,
    pub(super) root: String,
    pub(super) checked: Vec<String>,
    pub(super) not_checked: Vec<String>,
    pub(super) device: String,
    /// On what it rests where nothing was hashed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_object")]
    pub(super) accepted: Option<AcceptedFact>,
    #[serde(deserialize_with = "objects")]
    pub(super) file_systems: Vec<FileSystem>,
    #[serde(deserialize_with = "objects")]
    pub(super) files: Vec<FileFact>,
    /// Names of what lies in the model and was not looked at.
    pub(super) not_covered: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelFact {
    pub(super) path: String,
    pub(super) resolved: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BundleFact {
    pub(super) path: String,
    /// Of the file, in hexadecimal.
    pub(super) sha256: String,
    pub(super) identity: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyFact {
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
    pub(super) path: Option<String>,
    /// Of the file, in hexadecimal.
    pub(super) sha256: String,
    /// The numbers of the rules for this model.
    pub(super) rules: Vec<usize>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AcceptedFact {
    pub(super) path: String,
    /// Of the receipt's file, in hexadecimal.
    pub(super) sha256: String,
    pub(super) key: String,
    pub(super) time: Moment,
    pub(super) fs_verity: usize,
    pub(super) dm_verity: usize,
    pub(super) erofs: usize,
    pub(super) file_identity: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileFact {
    pub(super) name: String,
    pub(super) size: u64,
    /// Its place in `file_systems`.
    pub(super) file_system: usize,
    pub(super) inode: u64,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, i64),
    pub(super) ctime: (i64, i64),
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
    pub(super) fs_verity: Option<String>,
}

impl FileFact {
    pub(super) fn new(name: &str, facts: &Facts) -> Self {
        Self {
            name: name.to_owned(),
            size: facts.stamp.len,
            file_system: facts.file_system,
            inode: facts.stamp.inode,
            mtime: facts.stamp.modified,
            ctime: facts.stamp.changed,
            fs_verity: facts.fs_verity.clone(),
        }
    }
}

impl Payload {
    pub(super) fn to_json(&self) -> Vec<u8> {
        // Strings and numbers into memory: there is nothing that could fail.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// Reads a payload. Whoever believes it has checked its signature before.
    pub(super) fn read(text: &[u8]) -> Result<Self, ReceiptFault> {
        let read: Result<Object<Self>, _> = json::read("receipt", text);
        let Object(payload) = read.map_err(|error| ReceiptFault::Malformed(error.to_string()))?;
        if payload.schema != SCHEMA {
            return Err(ReceiptFault::Schema(payload.schema));
        }
        Ok(payload)
    }
}
