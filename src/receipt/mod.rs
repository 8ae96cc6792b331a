//! Receipts: what was checked of a model, when, and of which files.
//!
//! A receipt is a log. One that is signed by a key that the policy names ([`Receipt::write`] with a key) can stand in for
//! hashing later, where each file shows that it cannot have changed: `docs/run.md` says what that proves.

mod accept;
mod envelope;
mod error;
mod facts;
mod kernel;
mod recorder;
#[cfg(test)]
mod tests;
mod verity;
mod wire;

use std::io::{self, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

pub use envelope::PAYLOAD_TYPE;
pub use error::{ReceiptError, ReceiptFault};

pub(crate) use facts::{System, ThisMachine};
pub(crate) use recorder::Recorder;

pub use crate::verify::{Checked, verify_recorded, verify_with_policy_recorded};

use crate::digest::Algorithm;
use crate::error::Error;
use crate::input::read_small;
use crate::key::{PrivateKey, PublicKey};
use crate::output::{Existing, folder_of, write_whole};
use crate::time::UnixTime;
use envelope::Sealed;
use wire::Payload;

/// The longest receipt that is read, in bytes: room for 500,000 files with long names.
const LONGEST: u64 = 256 << 20;

/// What a model was checked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// To know.
    Verdict,
    /// To run a program afterwards.
    Exec,
}

/// How to record.
#[derive(Debug, Clone)]
pub struct RecordOptions {
    /// For how many seconds the receipt is good.
    pub lifetime: NonZeroU64,
    /// What for.
    pub purpose: Purpose,
    /// The receipt by which no file is hashed, if there is one.
    pub accept: Option<Acceptance>,
}

/// A receipt that is to stand in for hashing. A policy decides whether it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    /// Its file.
    pub path: PathBuf,
    /// Whether a file that nothing keeps from being changed may count as unchanged by its inode, length and times. The
    /// caller takes that upon themself.
    pub trust_file_identity: bool,
}

/// On what a verdict rests for which no file was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unhashed {
    /// The receipt's file.
    pub receipt: PathBuf,
    /// Hexadecimal SHA-256 of that file.
    pub receipt_sha256: String,
    /// Fingerprint of the key that signed it.
    pub key: String,
    /// When the check began that it tells of.
    pub hashed_at: UnixTime,
    /// When it ends to count.
    pub until: UnixTime,
    /// What was checked then.
    pub checked: Vec<Algorithm>,
    /// Bytes of all files.
    pub bytes: u64,
    /// How many files have the fs-verity digest that was recorded.
    pub fs_verity: usize,
    /// How many lie in a file system on the recorded dm-verity device.
    pub dm_verity: usize,
    /// How many lie in the recorded EROFS, on a read-only disk that was not detached since.
    pub erofs: usize,
    /// How many were not shown to be unchanged: inode, length and times are as recorded, and the caller trusts that.
    pub file_identity: usize,
}

impl Unhashed {
    /// `3 by fs-verity, 1 by inode and times`.
    #[must_use]
    pub fn basis(&self) -> String {
        let all = [
            (self.fs_verity, "by fs-verity"),
            (self.dm_verity, "by dm-verity"),
            (self.erofs, "by a read-only EROFS"),
            (self.file_identity, "by inode and times alone, as you asked (--trust-file-identity)"),
        ];
        let some = all.iter().filter(|(count, _)| *count > 0);
        some.map(|(count, how)| format!("{count} {how}")).collect::<Vec<_>>().join(", ")
    }
}

/// What was checked of a model.
#[derive(Debug, Clone)]
pub struct Receipt(Payload);

impl Receipt {
    /// What a signed receipt says, if one of `keys` signed it. Whether it holds for a model is not asked: that is what
    /// [`RecordOptions::accept`] is for.
    ///
    /// # Errors
    /// [`ReceiptFault`] for a signature of no such key, and for what is no signed receipt.
    pub fn signed_by(text: &[u8], keys: &[PublicKey]) -> Result<Self, ReceiptFault> {
        let sealed = Sealed::read(text)?;
        let (payload, _) = sealed.opened(keys)?;
        Payload::read(payload).map(Self)
    }

    /// What a log, or the payload of a signed receipt, says of itself. Anybody can have written it.
    ///
    /// # Errors
    /// [`ReceiptFault`] for what is neither.
    pub fn unverified(text: &[u8]) -> Result<Self, ReceiptFault> {
        Payload::read(text).map(Self)
    }

    /// The receipt as JSON, as it is signed.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        self.0.to_json()
    }

    /// Writes the receipt to `path`: with a key, signed by it; otherwise as a log that spares nobody the hashing.
    ///
    /// # Errors
    /// [`Error::NotAReceipt`] if another file stands there, [`Error::Key`] if the key cannot sign, [`Error::Io`].
    pub fn write(&self, path: &Path, key: Option<&PrivateKey>) -> Result<(), Error> {
        Self::check_target(path)?;
        let text = match key {
            None => self.to_json(),
            Some(key) => {
                let sealed = envelope::seal(&self.to_json(), key);
                sealed.map_err(|source| Error::Key { path: path.to_owned(), source })?
            }
        };
        write_whole(path, 0o666, Existing::Replace, |file| file.write_all(&text))
            .map_err(Error::io("write receipt", path))
    }

    /// Whether a receipt may be written to `path`: its folder is there, and what stands there, if anything, is an older
    /// receipt. To be asked before hours of hashing.
    ///
    /// # Errors
    /// [`Error::NotAReceipt`] if another file stands there, which a slip of the hand would cost; [`Error::Io`] if there is
    /// no such folder, or what stands there cannot be read.
    pub fn check_target(path: &Path) -> Result<(), Error> {
        let folder = folder_of(path);
        let there = std::fs::metadata(folder).map_err(Error::io("write receipt into", folder))?;
        if !there.is_dir() {
            return Err(Error::io("write receipt into", folder)(io::ErrorKind::NotADirectory.into()));
        }
        match read_small(path, LONGEST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Ok(text) if text.is_empty() || envelope::looks_like_one(&text) => Ok(()),
            Ok(_) => Err(Error::NotAReceipt { path: path.to_owned() }),
            Err(error) if error.raw_os_error().is_none() => Err(Error::NotAReceipt { path: path.to_owned() }),
            Err(error) => Err(Error::io("look at", path)(error)),
        }
    }
}
