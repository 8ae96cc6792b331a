//! What came of comparing device memory with signed files: measured, as signed, or how it is not.

use std::fmt;
use std::time::SystemTime;

use crate::device::DeviceKind;
use crate::digest::Digest;
use crate::error::{Error, VerifyError, quoted};
use crate::manifest::{Differences, ResourceName};
use crate::time::UnixTime;
use crate::verify::Identity;

/// How what lies in device memory is not what was signed. The answer is no.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// Other bytes, in memory or in the header, or files that are not signed.
    Differs {
        /// Each of the files or shards.
        differences: Differences,
        /// When they had been read.
        at: SystemTime,
        /// In which devices' memory.
        devices: Vec<DeviceKind>,
    },
    /// A file is given twice.
    FileTwice {
        /// The file.
        file: String,
    },
    /// Tensors of the header that were not given.
    Missing {
        /// The file.
        file: String,
        /// Their names.
        tensors: Vec<String>,
    },
    /// Tensors that no header has.
    Extra {
        /// Their names.
        tensors: Vec<String>,
    },
    /// A tensor is given twice.
    TensorTwice {
        /// The tensor.
        tensor: String,
    },
    /// A tensor is in several files, and it was not said which one is meant.
    Ambiguous {
        /// The tensor.
        tensor: String,
        /// Two of the files.
        files: [String; 2],
    },
    /// A tensor has another type or shape than the header says.
    Other {
        /// The tensor.
        tensor: String,
        /// Type and shape of the header.
        expected: String,
        /// Type and shape as given.
        found: String,
    },
}

/// Names, quoted: the first few of many.
fn some(names: &[String]) -> String {
    const NAMED: usize = 5;
    let named: Vec<String> = names.iter().take(NAMED).map(|name| quoted(name)).collect();
    format!("{}{}", named.join(", "), if names.len() > NAMED { ", .." } else { "" })
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Differs { differences, at, devices } => {
                write!(f, "in the memory of {} at {}: {differences}", list(devices), UnixTime::from(*at))
            }
            Self::FileTwice { file } => write!(f, "the file {} was given twice", quoted(file)),
            Self::Missing { file, tensors } => write!(
                f,
                "{} tensors of {} were not given ({}); a file is measured only whole",
                tensors.len(),
                quoted(file),
                some(tensors)
            ),
            Self::Extra { tensors } => {
                write!(f, "{} tensors are in no header of the files given ({})", tensors.len(), some(tensors))
            }
            Self::TensorTwice { tensor } => write!(f, "the tensor {} was given twice", quoted(tensor)),
            Self::Ambiguous { tensor, files: [one, other] } => write!(
                f,
                "the tensor {} is in {} and in {}; say of which file it is",
                quoted(tensor),
                quoted(one),
                quoted(other)
            ),
            Self::Other { tensor, expected, found } => {
                write!(f, "the tensor {} is {found} in memory, and {expected} in the header", quoted(tensor))
            }
        }
    }
}

/// One file that was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeasuredFile {
    /// Its name.
    pub name: ResourceName,
    /// What was signed of it and measured: the file itself, or all of its shards, each with its BLAKE3 digest.
    pub digests: Vec<(ResourceName, Digest)>,
    /// Its tensors.
    pub tensors: usize,
    /// Bytes.
    pub len: u64,
    /// How many of these came from the host: header and padding.
    pub on_host: u64,
    /// In whose memory the others lie.
    pub devices: Vec<DeviceKind>,
}

/// At that time these bytes in the memory of these devices were the signed ones.
///
/// It is not a [`Verified`](crate::Verified): the memory is the caller's, who says which tensor lies where, on which stream what writes
/// there is done, and can write there again.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MeasuredAsSigned {
    /// When all bytes had been read.
    pub at: SystemTime,
    /// Who signed.
    pub identity: Identity,
    /// The signed root digest.
    pub root: Digest,
    /// What was measured.
    pub files: Vec<MeasuredFile>,
    /// Signed, and not measured: nothing is said of these.
    pub not_measured: Vec<ResourceName>,
}

impl MeasuredAsSigned {
    /// All devices, in order of their first file.
    #[must_use]
    pub fn devices(&self) -> Vec<DeviceKind> {
        let mut devices: Vec<DeviceKind> = Vec::new();
        for device in self.files.iter().flat_map(|file| &file.devices) {
            if !devices.contains(device) {
                devices.push(device.clone());
            }
        }
        devices
    }
}

fn list(devices: &[DeviceKind]) -> String {
    devices.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for MeasuredAsSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |of: fn(&MeasuredFile) -> u64| self.files.iter().map(of).sum::<u64>();
        write!(
            f,
            "measured in the memory of {} at {}, as signed by {}: {} files, {} tensors, {} bytes ({} of them from the host)",
            list(&self.devices()),
            UnixTime::from(self.at),
            self.identity,
            self.files.len(),
            sum(|file| file.tensors as u64),
            sum(|file| file.len),
            sum(|file| file.on_host),
        )?;
        if !self.not_measured.is_empty() {
            write!(f, "; {} signed resources were not measured", self.not_measured.len())?;
        }
        f.write_str("; which tensor lies where is the caller's word")
    }
}

impl From<Mismatch> for Error {
    fn from(mismatch: Mismatch) -> Self {
        VerifyError::Resident(Box::new(mismatch)).into()
    }
}
