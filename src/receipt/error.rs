//! Why a receipt does not spare the hashing.

use std::path::PathBuf;

use crate::error::{quoted, tame};
use crate::time::UnixTime;

/// A receipt that was to stand in for hashing, and does not hold. Of the model this says nothing.
#[derive(Debug, thiserror::Error)]
#[error("receipt {path:?}: {fault}. Without --accept-receipt the model is hashed")]
#[non_exhaustive]
pub struct ReceiptError {
    /// Its file.
    pub path: PathBuf,
    /// What is wrong.
    pub fault: ReceiptFault,
}

/// What is wrong with a receipt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptFault {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(std::io::Error),
    /// Neither a receipt nor anything like one.
    #[error("{}", tame(.0))]
    Malformed(String),
    /// A receipt that nobody signed.
    #[error(
        "it is not signed: an unsigned receipt is a log, and never spares the hashing. Make one with --receipt-key, and name that key under [receipts] in the policy"
    )]
    Unsigned,
    /// A signature of a model.
    #[error("it is a signature of a model, not a receipt; pass it with --signature")]
    Bundle,
    /// An envelope around something else.
    #[error("its payloadType is {}, not that of a receipt", quoted(.0))]
    PayloadType(String),
    /// None, or several.
    #[error("it must hold exactly one signature and holds {0}")]
    Signatures(usize),
    /// The policy has no `[receipts]`.
    #[error("the policy has no [receipts], so that it accepts none: name keys and max_age there")]
    NoneAccepted,
    /// No key that the policy names made its signature.
    #[error(
        "its signature is of no key that the policy names under [receipts], or it was altered: it names key {}",
        quoted(.named)
    )]
    Signature {
        /// The key that it names itself.
        named: String,
    },
    /// The policy denies the key.
    #[error("its key {0} is denied by the policy")]
    Denied(String),
    /// Another generation.
    #[error("its schema is {}, which this version of tensorseal does not know", quoted(.0))]
    Schema(String),
    /// It rests on another receipt.
    #[error("no file was hashed for it: it rests on another receipt itself")]
    NotHashed,
    /// It was made after now.
    #[error("it is of {at}, and by this machine's clock it is {now}: set the clock right, or do not trust who made it")]
    Future {
        /// Its time.
        at: UnixTime,
        /// Now.
        now: UnixTime,
    },
    /// Its own time is over.
    #[error("it expired at {at}, and it is {now}")]
    Expired {
        /// Its expiry.
        at: UnixTime,
        /// Now.
        now: UnixTime,
    },
    /// It is older than the policy lets one be.
    #[error("it is of {at}, which is longer ago than the policy's max_age of {max_age} s allows: it is {now}")]
    TooOld {
        /// Its time.
        at: UnixTime,
        /// Seconds.
        max_age: u64,
        /// Now.
        now: UnixTime,
    },
    /// It speaks of something else.
    #[error("its {what} is {}, and that of this run is {}", quoted(.found), quoted(.expected))]
    Other {
        /// Of what.
        what: &'static str,
        /// What this run has.
        expected: String,
        /// What the receipt has.
        found: String,
    },
    /// A digest that has to be checked was not.
    #[error("the {0} digests have to be checked, and it says that they were not")]
    NotChecked(&'static str),
    /// A file of the model that it does not name.
    #[error("it says nothing of the file {}", quoted(.0))]
    Added(String),
    /// A file that it names and that is not there.
    #[error("it names the file {}, which is no file of this model", quoted(.0))]
    Gone(String),
    /// A file that is not the one that was hashed.
    #[error("the file {} is not the one that was hashed: its {what} was {was} and is {is}", quoted(.name))]
    Changed {
        /// The file.
        name: String,
        /// What is different.
        what: &'static str,
        /// As recorded.
        was: String,
        /// As it is.
        is: String,
    },
    /// A file that could have been changed unnoticed.
    #[error(
        "nothing shows that the file {} is as it was: it has no fs-verity digest, and {}. --trust-file-identity trusts its inode and times",
        quoted(.name), tame(.why)
    )]
    Changeable {
        /// The file.
        name: String,
        /// Why its file system does not show it either.
        why: String,
    },
    /// A file that changed so shortly before it was hashed that another change would not show.
    #[error(
        "the file {} was changed within two seconds before it was hashed, so that its times show no later change; make the receipt anew",
        quoted(.0)
    )]
    Fresh(String),
}
