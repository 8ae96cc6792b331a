//! Whether a receipt stands in for hashing. Whatever is not as it says is an error, never a reason to hash after all: who
//! asked for the receipt wants to know.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::envelope::Sealed;
use super::error::{ReceiptError, ReceiptFault};
use super::facts::{Facts, FileSystem};
use super::wire::{BundleFact, FileFact, Payload, PolicyFact};
use super::{Acceptance, LONGEST, Unhashed};
use crate::device::cpu::Algorithms;
use crate::digest::{Algorithm, Digest, hex};
use crate::input::read_small;
use crate::policy::Policy;
use crate::time::UnixTime;

/// A file whose change time lies so close before the check, in seconds, might have changed again without a trace: times
/// move in steps, of two seconds on some file systems.
const FRESH: i64 = 2;

/// A receipt that a key of the policy signed, and that is of this policy and in its time.
pub(super) struct Accepted {
    path: PathBuf,
    sha256: String,
    key: String,
    until: UnixTime,
    trust_file_identity: bool,
    payload: Payload,
}

impl Accepted {
    /// Reads a receipt: its signature first, then what it says.
    pub(super) fn read(
        acceptance: &Acceptance,
        policy: &Policy,
        applied: &PolicyFact,
        now: UnixTime,
    ) -> Result<Self, ReceiptError> {
        Self::read_by(acceptance, policy, applied, now)
            .map_err(|fault| ReceiptError { path: acceptance.path.clone(), fault })
    }

    fn read_by(
        acceptance: &Acceptance,
        policy: &Policy,
        applied: &PolicyFact,
        now: UnixTime,
    ) -> Result<Self, ReceiptFault> {
        let text = read_small(&acceptance.path, LONGEST).map_err(ReceiptFault::Io)?;
        let sealed = Sealed::read(&text)?;
        let receipts = policy.receipts().ok_or(ReceiptFault::NoneAccepted)?;
        let (payload, key) = sealed.opened(&receipts.keys)?;
        let key = key.hint();
        if policy.denies_key(&key) {
            return Err(ReceiptFault::Denied(key));
        }
        let payload = Payload::read(payload)?;
        if !payload.hashed {
            return Err(ReceiptFault::NotHashed);
        }
        let (at, expires) = (payload.time.0, payload.expires.0);
        if at > now {
            return Err(ReceiptFault::Future { at, now });
        }
        if now >= expires {
            return Err(ReceiptFault::Expired { at: expires, now });
        }
        let too_old = UnixTime(at.0.saturating_add_unsigned(receipts.max_age));
        if now > too_old {
            return Err(ReceiptFault::TooOld { at, max_age: receipts.max_age, now });
        }
        let none =
            || ReceiptFault::Other { what: "policy", expected: applied.sha256.clone(), found: "none".to_owned() };
        let of = payload.policy.as_ref().ok_or_else(none)?;
        same("policy's SHA-256", &applied.sha256, &of.sha256)?;
        same("list of rules", &format!("{:?}", applied.rules), &format!("{:?}", of.rules))?;
        Ok(Self {
            path: acceptance.path.clone(),
            sha256: hex(&Sha256::digest(&text)),
            key,
            until: expires.min(too_old),
            trust_file_identity: acceptance.trust_file_identity,
            payload,
        })
    }

    /// Whether the receipt says of these files, and of each one that is there now, that it was hashed.
    pub(super) fn covers(
        &self,
        bundles: &[BundleFact],
        root: Digest,
        algorithms: Algorithms,
        files: &[(String, Facts)],
        file_systems: &[FileSystem],
    ) -> Result<Unhashed, ReceiptError> {
        self.covers_all(bundles, root, algorithms, files, file_systems)
            .map_err(|fault| ReceiptError { path: self.path.clone(), fault })
    }

    fn covers_all(
        &self,
        bundles: &[BundleFact],
        root: Digest,
        algorithms: Algorithms,
        files: &[(String, Facts)],
        file_systems: &[FileSystem],
    ) -> Result<Unhashed, ReceiptFault> {
        let digests = |bundles: &[BundleFact]| {
            let mut all: Vec<&str> = bundles.iter().map(|bundle| &*bundle.sha256).collect();
            all.sort_unstable();
            all.join(" ")
        };
        same("signatures' SHA-256", &digests(bundles), &digests(&self.payload.bundles))?;
        same("signed root", &root.to_string(), &self.payload.root)?;
        let was_checked = |algorithm: &Algorithm| self.payload.checked.iter().any(|name| name == algorithm.name());
        if let Some(algorithm) = algorithms.iter().find(|algorithm| !was_checked(algorithm)) {
            return Err(ReceiptFault::NotChecked(algorithm.name()));
        }
        let mut recorded = BTreeMap::new();
        for file in &self.payload.files {
            if recorded.insert(file.name.as_str(), file).is_some() {
                return Err(ReceiptFault::Malformed("a file stands in it twice".to_owned()));
            }
        }
        let mut unhashed = Unhashed {
            receipt: self.path.clone(),
            receipt_sha256: self.sha256.clone(),
            key: self.key.clone(),
            hashed_at: self.payload.time.0,
            until: self.until,
            checked: Algorithm::ALL.into_iter().filter(was_checked).collect(),
            bytes: 0,
            fs_verity: 0,
            dm_verity: 0,
            erofs: 0,
            file_identity: 0,
        };
        for (name, facts) in files {
            let file = recorded.remove(name.as_str()).ok_or_else(|| ReceiptFault::Added(name.clone()))?;
            *self.unchanged(file, facts, file_systems)?.count(&mut unhashed) += 1;
            unhashed.bytes = unhashed.bytes.saturating_add(facts.stamp.len);
        }
        if let Some(name) = recorded.into_keys().next() {
            return Err(ReceiptFault::Gone(name.to_owned()));
        }
        Ok(unhashed)
    }

    /// What shows that a file is the recorded one, the strongest first.
    fn unchanged(&self, was: &FileFact, is: &Facts, file_systems: &[FileSystem]) -> Result<Basis, ReceiptFault> {
        let changed = |what, before: String, now: String| ReceiptFault::Changed {
            name: was.name.clone(),
            what,
            was: before,
            is: now,
        };
        let none = || "none".to_owned();
        if was.size != is.stamp.len {
            return Err(changed("length", was.size.to_string(), is.stamp.len.to_string()));
        }
        if was.fs_verity.is_some() || is.fs_verity.is_some() {
            if was.fs_verity == is.fs_verity {
                return Ok(Basis::FsVerity);
            }
            if was.fs_verity.is_some() {
                let (before, now) = (was.fs_verity.clone(), is.fs_verity.clone());
                return Err(changed("fs-verity digest", before.unwrap_or_else(none), now.unwrap_or_else(none)));
            }
        }
        let lost = || ReceiptFault::Malformed(format!("the file {:?} lies in no file system that it names", was.name));
        let before = self.payload.file_systems.get(was.file_system).ok_or_else(lost)?;
        let now = file_systems.get(is.file_system).ok_or_else(lost)?;
        // An image can be two file systems at once, and the number of an inode is one of its own in each.
        let same_kind = before.kind == now.kind;
        let kind = || changed("type of file system", before.kind.clone(), now.kind.clone());
        let same_inode = was.inode == is.stamp.inode;
        let inode = || changed("inode", was.inode.to_string(), is.stamp.inode.to_string());
        if let (Some(one), Some(other)) = (&before.dm_verity, &now.dm_verity) {
            if one != other {
                return Err(changed("dm-verity root", one.root.clone(), other.root.clone()));
            }
            if !same_kind {
                return Err(kind());
            }
            return if same_inode { Ok(Basis::DmVerity) } else { Err(inode()) };
        }
        if let (Some(one), Some(other)) = (&before.erofs, &now.erofs) {
            let name = |of: &super::facts::Erofs| format!("{} of boot {}", of.disk_sequence, of.boot);
            if one != other || before.device != now.device {
                return Err(changed("disk", name(one), name(other)));
            }
            return if same_inode { Ok(Basis::Erofs) } else { Err(inode()) };
        }
        if !self.trust_file_identity {
            let why = now.changeable.clone().or_else(|| before.changeable.clone());
            let why = why.unwrap_or_else(|| "it lies in another kind of file system than it did".to_owned());
            return Err(ReceiptFault::Changeable { name: was.name.clone(), why });
        }
        if before.device != now.device {
            return Err(changed("device", before.device.clone(), now.device.clone()));
        }
        if !same_kind {
            return Err(kind());
        }
        if !same_inode {
            return Err(inode());
        }
        let moment = |(seconds, nanoseconds): (i64, i64)| format!("{seconds}.{nanoseconds:09}");
        if was.mtime != is.stamp.modified {
            return Err(changed("modification time", moment(was.mtime), moment(is.stamp.modified)));
        }
        if was.ctime != is.stamp.changed {
            return Err(changed("change time", moment(was.ctime), moment(is.stamp.changed)));
        }
        if was.ctime.0.saturating_add(FRESH) > self.payload.time.0.0 {
            return Err(ReceiptFault::Fresh(was.name.clone()));
        }
        Ok(Basis::FileIdentity)
    }
}

/// What shows that a file is the recorded one.
#[derive(Clone, Copy)]
enum Basis {
    FsVerity,
    DmVerity,
    Erofs,
    FileIdentity,
}

impl Basis {
    fn count(self, unhashed: &mut Unhashed) -> &mut usize {
        match self {
            Self::FsVerity => &mut unhashed.fs_verity,
            Self::DmVerity => &mut unhashed.dm_verity,
            Self::Erofs => &mut unhashed.erofs,
            Self::FileIdentity => &mut unhashed.file_identity,
        }
    }
}

fn same(what: &'static str, expected: &str, found: &str) -> Result<(), ReceiptFault> {
    if expected == found {
        return Ok(());
    }
    Err(ReceiptFault::Other { what, expected: expected.to_owned(), found: found.to_owned() })
}
