//! The two ways in which a call ends without a yes: [`Error`] (there is no answer) and [`VerifyError`] (the answer is no).

mod format;

use std::io;
use std::path::PathBuf;

pub use format::FormatError;

use crate::device::DeviceError;
use crate::digest::Algorithm;
use crate::format::{HeaderFault, IndexFault};
use crate::key::KeyError;
use crate::loader::ReadMode;
use crate::manifest::Differences;
use crate::outboard::{Located, OutboardFault};
use crate::policy::{PolicyError, Refusal};
use crate::receipt::ReceiptError;
use crate::report::Report;
use crate::resident::{Mismatch, PlacementError};
use crate::seal::{Broken, SealError};
use crate::sign::pkcs11::Pkcs11Error;
use crate::sign::{SignError, TensorManifestError, WrittenDiffers, WrittenError};
use crate::source::SourceError;
use crate::tensors::{SliceError, TensorRefusal};
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
    /// An outboard would replace a file that is none.
    #[error(
        "{path:?} is there and is not an outboard, so it is not replaced. Write the outboard to another path, or remove that file first"
    )]
    NotAnOutboard {
        /// The file.
        path: PathBuf,
    },
    /// An outboard would lie in the model, where a verifier would find a file that is not signed.
    #[error(
        "the outboard {path:?} would be a file of the model; write it beside the model, or leave it out with --ignore-paths"
    )]
    OutboardInModel {
        /// The file.
        path: PathBuf,
    },
    /// An outboard would replace what is written with it, or be replaced.
    #[error("{path:?} is where the signature or the tensor manifest goes, too: give the outboard another path")]
    OutboardPath {
        /// The path.
        path: PathBuf,
    },
    /// An outboard cannot be used.
    #[error(
        "the outboard {path:?} is not used: {source}. Nothing was compared; verify without it, or get the right one"
    )]
    Outboard {
        /// The file.
        path: PathBuf,
        /// Why.
        source: OutboardFault,
    },
    /// Loading has no use for an outboard.
    #[error(
        "loading does not look at the outboard {path:?}: it says which file differs, and not where. Load without it; `verify` with it says where"
    )]
    OutboardUnused {
        /// The file.
        path: PathBuf,
    },
    /// A receipt would replace a file that is none.
    #[error(
        "{path:?} is there and is not a receipt, so it is not replaced. Write the receipt to another path, or remove that file first"
    )]
    NotAReceipt {
        /// The file.
        path: PathBuf,
    },
    /// A receipt would lie in the model, of which it is no part.
    #[error(
        "the receipt {path:?} would lie in the model, where nothing may lie that is not signed; write it elsewhere"
    )]
    ReceiptInModel {
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
    /// A receipt that was to stand in for hashing does not hold.
    #[error(transparent)]
    Receipt(Box<ReceiptError>),
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
    #[error("the index {path:?} is wrong: {source}. Get the index and its shards anew, all of one version")]
    Index {
        /// The index.
        path: PathBuf,
        /// Why.
        source: IndexFault,
    },
    /// The parts of a model in several files do not belong together.
    #[error("the parts of the model do not belong together: {0}. Get all of them anew, of one version")]
    Parts(IndexFault),
    /// There is no signature to load a file by.
    #[error("no signature for {file:?}: neither {beside:?} nor {of_folder:?} is there; say where it is")]
    NoSignature {
        /// The file.
        file: PathBuf,
        /// Where that of the file alone would be.
        beside: PathBuf,
        /// Where that of its folder would be.
        of_folder: PathBuf,
    },
    /// A part of a model was asked for, and no file of it.
    #[error("no file of {path:?} was asked for, and to check nothing is no check; name some, or ask for all of them")]
    NothingAsked {
        /// The model.
        path: PathBuf,
    },
    /// The caller ended it.
    #[error("loading {path:?} was cancelled; nothing was handed out")]
    Cancelled {
        /// The model.
        path: PathBuf,
    },
    /// The caller ended it, through what it was told of the progress.
    #[error("the caller ended it before it was done; nothing is known of the model")]
    Stopped,
    /// Several signatures, or none, where one is verified.
    #[error(
        "a key, a certificate or an identity verifies one signature, and {count} were given; a policy takes several"
    )]
    OneSignature {
        /// How many.
        count: usize,
    },
    /// The certificate authorities of the web were to be trusted, whoever it is that they vouch for.
    #[error(
        "this machine's certificate authorities vouch for anybody who has a web site: name whose certificate will do"
    )]
    NoNames,
    /// A model is not signed for the sake of its tensor manifest.
    #[error(transparent)]
    TensorManifest(Box<TensorManifestError>),
    /// A file that was written is not published, or not signed.
    #[error(transparent)]
    Written(Box<WrittenError>),
    /// A tensor manifest was signed that lies outside of the model, nobody says where.
    #[error("the tensor manifest of {path:?} was signed and is no file of the model: name the file that it is in")]
    TensorsElsewhere {
        /// The model.
        path: PathBuf,
    },
    /// A slice of a tensor could not be checked, or covered.
    #[error(transparent)]
    Slice(#[from] SliceError),
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

/// The three ways in which a call ends without a yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The answer is no.
    No,
    /// What was asked for makes no sense, whatever the files are.
    Usage,
    /// There is no answer.
    NoAnswer,
}

impl Error {
    /// Which of the three ways this is.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self {
            Self::Verify(_) => Failure::No,
            #[cfg(feature = "sigstore-verify")]
            Self::Pattern(_) => Failure::Usage,
            Self::IgnoresEverything { .. } | Self::UnknownDevice(_) => Failure::Usage,
            Self::OneSignature { .. } | Self::NoNames | Self::NothingAsked { .. } | Self::TensorsElsewhere { .. } => {
                Failure::Usage
            }
            // Whoever passes such a tensor, or slice, or budget has to pass another.
            Self::Placement(_) | Self::Seal(_) => Failure::Usage,
            Self::Slice(fault) if !matches!(fault, SliceError::Device(_)) => Failure::Usage,
            Self::TensorManifest(fault) if fault.is_usage() => Failure::Usage,
            Self::Sign(SignError::Pkcs11(Pkcs11Error::Uri(_) | Pkcs11Error::NoKeyNamed | Pkcs11Error::TwoPins)) => {
                Failure::Usage
            }
            _ => Failure::NoAnswer,
        }
    }

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

impl From<TensorManifestError> for Error {
    fn from(fault: TensorManifestError) -> Self {
        Self::TensorManifest(Box::new(fault))
    }
}

impl From<WrittenError> for Error {
    fn from(fault: WrittenError) -> Self {
        Self::Written(Box::new(fault))
    }
}

impl From<ReceiptError> for Error {
    fn from(fault: ReceiptError) -> Self {
        Self::Receipt(Box::new(fault))
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
        /// Where in each file it differs, if there was an outboard.
        located: Vec<Located>,
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
    /// A file was not written as it was meant.
    #[error("{0}")]
    Written(Box<WrittenDiffers>),
    /// The policy does not accept these signatures for this model.
    #[error("{0}")]
    Policy(Refusal),
    /// Tensors, or their manifest, are not what was signed.
    #[error(transparent)]
    Tensors(#[from] TensorRefusal),
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
