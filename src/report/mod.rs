//! What a verdict rests on: what was checked by which digest on which device, and what was not.

pub mod json;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::device::DeviceKind;
use crate::digest::{Algorithm, Digest};
use crate::error::quoted;
use crate::manifest::Serialization;
use crate::policy::{Applied, PolicyWarning};
use crate::receipt::Unhashed;
use crate::source::{FollowedLink, IgnoredFile};
use crate::statement::StatementVersion;
use crate::time::UnixTime;
use crate::verify::Identity;

/// Something that the reader of a verdict should know and that does not change it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// The bundle has the key material of releases before 1.1.
    OldKeyMaterial,
    /// The bundle does not say which key signed it.
    NoKeyHint,
    /// The bundle carries log entries or timestamps, which the key method does not look at.
    LogNotChecked {
        /// Transparency log entries.
        entries: usize,
        /// RFC 3161 timestamps.
        timestamps: usize,
    },
    /// Any certificate under a trusted root would have been accepted.
    AnyCertificate {
        /// The root.
        root: String,
    },
    /// The signer's certificate is one of a certificate authority.
    CaSigned,
    /// The extended key usage of a certificate is for other things than signing, which the caller lets pass.
    OtherPurpose,
    /// The certificates were judged for the first second of the signer's, because the caller asked for that.
    JudgedAtNotBefore,
    /// The bundle carries timestamps, and the caller trusts no authority for them.
    TimestampsNotChecked {
        /// How many.
        count: usize,
    },
    /// Beside a good timestamp there are some of authorities that the caller does not know.
    UnknownTimestamps {
        /// How many.
        count: usize,
    },
    /// The bundle carries transparency log entries, which the certificate method does not look at.
    LogEntriesNotChecked {
        /// How many.
        entries: usize,
    },
    /// An ignore path of the caller lies outside of the model and has no effect.
    IgnoredOutside(PathBuf),
    /// The signer did not record which paths were ignored: only the git defaults, the signature and the caller's are.
    IgnorePathsNotRecorded,
    /// The folder holds something that kept the files beside the signed ones from being listed.
    NotListed(String),
    /// Not every resource has a signed digest by an algorithm that was checked.
    PartlySigned {
        /// The algorithm.
        algorithm: Algorithm,
        /// How many resources have none.
        without: usize,
    },
    /// The caller asked to follow links in a model that was signed without.
    LinksBeyondSignature,
    /// Files that run code of their makers when they are loaded.
    Pickled {
        /// Their names in the model.
        files: Vec<String>,
    },
    /// The signature names a tensor manifest that lies outside of the model, and the caller did not give it.
    TensorsNotGiven,
    /// The model holds a tensor manifest and was signed in shards.
    TensorsInShards,
    /// Only some of the signed files were asked for. The others are there, and as long as was signed where that is signed;
    /// no byte of them was read.
    NotAsked {
        /// Their names in the model.
        files: Vec<String>,
    },
    /// Something about the policy.
    Policy(PolicyWarning),
    /// A rule asked for a signature made after some moment, and a timestamp alone vouches for that of a long-lived
    /// certificate: whoever may ask the authority can have an old signature stamped anew.
    StampedLater,
    /// Nothing was read from disk: the bytes were those in a device's memory, which belong to their names by the
    /// caller's word.
    MeasuredInMemory {
        /// Which device.
        device: DeviceKind,
        /// When it had read them.
        at: SystemTime,
    },
}

impl Note {
    /// About those files that are pickled, if any.
    pub(crate) fn pickled(files: Vec<String>) -> Option<Self> {
        (!files.is_empty()).then_some(Self::Pickled { files })
    }

    /// About those files that nobody asked for, if any.
    pub(crate) fn not_asked(files: BTreeSet<String>) -> Option<Self> {
        (!files.is_empty()).then(|| Self::NotAsked { files: files.into_iter().collect() })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OldKeyMaterial => {
                f.write_str("the signature uses an older form of key material, which is not looked at; sign again to bind it to the key's hint")
            }
            Self::NoKeyHint => f.write_str("the signature does not say which key made it; it verifies with the given one"),
            Self::LogNotChecked { entries, timestamps } => {
                write!(f, "the bundle carries {entries} log entries and {timestamps} timestamps, which the key method does not check")
            }
            Self::AnyCertificate { root } => {
                write!(f, "whoever holds any certificate under {} could have made this signature; --identity accepts one signer alone", quoted(root))
            }
            Self::CaSigned => {
                f.write_str("the signer's certificate is one of a certificate authority, which should not sign models with the key it issues certificates with")
            }
            Self::OtherPurpose => {
                f.write_str("the extended key usage of a certificate is for other things than signing code, which you let pass (--allow-eku)")
            }
            Self::JudgedAtNotBefore => {
                f.write_str("the certificates were judged for the beginning of the signer's, as you asked: it may have expired before it signed")
            }
            Self::TimestampsNotChecked { count } => {
                write!(f, "the bundle carries timestamps ({count}), which were not looked at: the certificates were judged for now; --tsa-certificate-chain has them judged for the time of a stamp")
            }
            Self::UnknownTimestamps { count } => {
                write!(f, "timestamps of authorities that you did not name were not counted ({count})")
            }
            Self::LogEntriesNotChecked { entries } => {
                write!(f, "the bundle carries log entries ({entries}), which the certificate method does not check")
            }
            Self::IgnoredOutside(path) => write!(f, "the ignore path {path:?} lies outside the model and has no effect"),
            Self::IgnorePathsNotRecorded => {
                f.write_str("this old signature does not record ignored paths; git files and the paths given now were ignored")
            }
            Self::NotListed(why) => write!(f, "what lies beside the signed files could not be listed: {why}"),
            Self::PartlySigned { algorithm, without } => {
                write!(f, "{without} resources have no signed {algorithm} digest and were not checked by it")
            }
            Self::LinksBeyondSignature => {
                f.write_str("the model was signed without following symlinks; they were followed now because you asked for it")
            }
            Self::Pickled { files } => {
                let first = quoted(files.first().map_or("", String::as_str));
                match files.len() {
                    0 | 1 => write!(f, "{first} is pickled")?,
                    count => write!(f, "{first} and {} more files are pickled", count - 1)?,
                }
                f.write_str(": to load such a file is to run the code in it. A signature says who made it, not that it is harmless; prefer safetensors, or torch.load with weights_only")
            }
            Self::TensorsNotGiven => {
                f.write_str("the signature names a tensor manifest that lies outside of the model; it was not looked at (--tensors PATH checks it)")
            }
            Self::TensorsInShards => {
                f.write_str("the model holds a tensor manifest, which was not compared with the files, since these are signed in shards")
            }
            Self::NotAsked { files } => {
                let first = quoted(files.first().map_or("", String::as_str));
                match files.len() {
                    0 | 1 => write!(f, "{first} was not asked for, and not read")?,
                    count => write!(f, "{first} and {} more signed files were not asked for, and not read", count - 1)?,
                }
                f.write_str(": nothing is said of their bytes")
            }
            Self::Policy(warning) => warning.fmt(f),
            Self::StampedLater => {
                f.write_str("the policy's signed_after rests on a timestamp, which says when a signature was there at the latest: an old one can be stamped anew as long as its certificate is valid; pin roots to keep old versions out")
            }
            Self::MeasuredInMemory { device, at } => {
                write!(f, "the bytes were measured in the memory of {device} at {}; that they are those of the named files is the caller's word", UnixTime::from(*at))
            }
        }
    }
}

/// A signed tensor manifest, which was found to be about the model's files.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckedTensors {
    /// Its name in the model, or its path if it lies outside.
    pub name: String,
    /// Whether it lies outside of the model.
    pub detached: bool,
    /// Files that it lists.
    pub files: usize,
    /// Tensors that it lists.
    pub tensors: usize,
    /// Their tiles.
    pub tiles: usize,
    /// Whether every tile was hashed and compared. If not, the tensors were: which there are, where, of which type and
    /// shape.
    pub recomputed: bool,
}

/// What was verified, and what was not.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// Who signed.
    pub identity: Identity,
    /// The signing method: `key`, `certificate` or `sigstore`.
    pub method: &'static str,
    /// The statement's generation.
    pub statement: StatementVersion,
    /// The model's path, as given.
    pub model: PathBuf,
    /// The signed root digest.
    pub root: Digest,
    /// The signed settings.
    pub serialization: Serialization,
    /// Where the digests were computed.
    pub device: DeviceKind,
    /// By which algorithms every resource that has such a digest was checked.
    pub checked: Vec<Algorithm>,
    /// Which signed digests were not looked at.
    pub not_checked: Vec<Algorithm>,
    /// Resources signed.
    pub resources: usize,
    /// Files read.
    pub files: usize,
    /// Bytes read.
    pub bytes: u64,
    /// From the beginning of the check to its end.
    pub elapsed: Duration,
    /// Files that lie under ignored paths: nothing is known of them.
    pub ignored: Vec<IgnoredFile>,
    /// Empty files, which the `shards` method does not cover.
    pub empty: Vec<String>,
    /// Files that are not signed, where the caller asked to tolerate them.
    pub unsigned: Vec<String>,
    /// Links that were followed.
    pub followed: Vec<FollowedLink>,
    /// Tensor manifests.
    pub tensor_manifests: Vec<CheckedTensors>,
    /// How the policy was satisfied, if there was one.
    pub policy: Option<Applied>,
    /// Why this is a yes although no file was hashed, if it is one: `checked` is empty then.
    pub unhashed: Option<Box<Unhashed>>,
    /// Whatever else should be known.
    pub notes: Vec<Note>,
}

impl Report {
    /// Of two reports about one reading of one model, what either has to say.
    pub(crate) fn and(mut self, other: Self) -> Self {
        fn add<T: PartialEq>(all: &mut Vec<T>, more: Vec<T>) {
            for one in more {
                if !all.contains(&one) {
                    all.push(one);
                }
            }
        }
        add(&mut self.checked, other.checked);
        add(&mut self.not_checked, other.not_checked);
        // Each list is as long as there are files: sorted, not searched for each.
        self.ignored.extend(other.ignored);
        self.ignored.sort_by(|a, b| a.name.cmp(&b.name));
        self.ignored.dedup_by(|a, b| a.name == b.name);
        for (all, more) in [(&mut self.empty, other.empty), (&mut self.unsigned, other.unsigned)] {
            all.extend(more);
            all.sort();
            all.dedup();
        }
        self.followed.extend(other.followed);
        self.followed.sort_by(|a, b| a.name.cmp(&b.name));
        self.followed.dedup();
        add(&mut self.notes, other.notes);
        self.elapsed = self.elapsed.max(other.elapsed);
        self
    }
}
