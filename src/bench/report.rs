//! What was measured, as data: `tensorseal bench --json` prints it, `--html` draws it, `--compare` reads two of them.
//!
//! Sizes are bytes, times seconds, rates bytes a second (GB/s are 10^9 of them).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Times;
use crate::error::quoted;

/// The name of this form. A field may be added; a change of meaning needs a new version.
pub const SCHEMA: &str = "tensorseal/bench/v1";

/// Everything that was measured in one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The program and its version.
    pub tool: String,
    /// When it began, RFC 3339, UTC.
    pub date: String,
    /// From the beginning to the end.
    pub seconds: f64,
    /// On which machine.
    pub machine: Machine,
    /// How much was asked for.
    pub settings: Asked,
    /// One a device, in the order in which they were measured.
    pub devices: Vec<OfDevice>,
    /// Devices that were found and not measured, and why.
    #[serde(default)]
    pub passed_over: Vec<PassedOver>,
    /// Beside other programs, on the same file, in turns. None where that was not asked for.
    #[serde(default)]
    pub peers: Option<Peers>,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[non_exhaustive]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Logical processors that this process may use.
    pub threads: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// The system and its release.
    pub kernel: String,
    /// Processes that wanted to run in the minute before (load average). Beyond 0.5, something else was running.
    pub load: f64,
    /// Whether it is a virtual machine, where that can be told.
    #[serde(default)]
    pub virtual_machine: Option<bool>,
    /// The processor's governor of frequencies, where the system tells.
    #[serde(default)]
    pub governor: Option<String>,
    /// Where files were written and read, if any were.
    #[serde(default)]
    pub folder: Option<Folder>,
}

/// Where files were written and read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Folder {
    /// Its path.
    pub path: String,
    /// Its file system: `ext4`, `tmpfs`.
    pub file_system: String,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[non_exhaustive]
pub struct Asked {
    /// Counted repeats of each measurement.
    pub repeats: usize,
    /// Bytes of device memory to use at most; none: as much as fits.
    #[serde(default)]
    pub most: Option<u64>,
    /// Bytes of the model that was written to disk; none: no files.
    #[serde(default)]
    pub file: Option<u64>,
    /// Threads of the CPU.
    #[serde(default)]
    pub threads: Option<usize>,
}

/// All that was measured with one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[non_exhaustive]
pub struct OfDevice {
    /// As `--device` takes it: `cpu`, `cuda:0`.
    pub device: String,
    /// Its name.
    pub name: String,
    /// Bytes of its memory, where it tells.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Its driver.
    #[serde(default)]
    pub driver: Option<String>,
    /// What it can do, as `devices` says it: `sm_90`.
    #[serde(default)]
    pub capability: Option<String>,
    /// Which of its kernels was used, where it has several.
    #[serde(default)]
    pub kernel: Option<String>,
    /// Above which rates it cannot come.
    pub bounds: Vec<Bound>,
    /// Its clocks and temperature before.
    #[serde(default)]
    pub before: Option<Reading>,
    /// And after, while still warm from it.
    #[serde(default)]
    pub after: Option<Reading>,
    /// The measurements.
    pub lines: Vec<Line>,
    /// What could not be measured, and why.
    pub skipped: Vec<Skipped>,
}

/// A device that was not measured, since nobody named it and it could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PassedOver {
    /// As `--device` takes it.
    pub device: String,
    /// Its name.
    pub name: String,
    /// Why, and what would help.
    pub why: String,
    /// Whether it is there and does not work, where others are not there, or are not for use.
    #[serde(default)]
    pub broken: bool,
}

/// A rate that cannot be exceeded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Bound {
    /// By what.
    pub kind: BoundKind,
    /// How much.
    pub bytes_per_second: f64,
    /// How that number came about, in a sentence with its factors: derived from counts, or measured just now.
    pub basis: String,
}

/// What bounds a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum BoundKind {
    /// Instructions that the device can issue (docs/gpu.md).
    Instructions,
    /// Bandwidth of the device's own memory.
    Memory,
    /// The link between host and device.
    Link,
    /// The disk, read past the page cache without hashing.
    Disk,
    /// Copies out of the page cache, without hashing.
    PageCache,
}

/// What the driver says of a device at a moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[non_exhaustive]
pub struct Reading {
    /// Of what computes, in MHz.
    #[serde(default)]
    pub clock_mhz: Option<f64>,
    /// Of its memory, in MHz.
    #[serde(default)]
    pub memory_clock_mhz: Option<f64>,
    /// In degrees Celsius.
    #[serde(default)]
    pub celsius: Option<f64>,
    /// In watts.
    #[serde(default)]
    pub watts: Option<f64>,
    /// Why the clock is lower than it could be, in the driver's words.
    #[serde(default)]
    pub slowed_by: Vec<String>,
}

/// What a line measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum What {
    /// One string of so many bytes in the device's memory.
    Size,
    /// One string that begins at byte [`Line::at`] of its allocation.
    Alignment,
    /// Rows at a stride.
    Rows,
    /// Many strings of one length, in one submit.
    Small,
    /// One string with another of the device's kernels ([`Line::kernel`]).
    Kernel,
    /// The tensors of a model, each a string of its own, in one submit.
    Model,
    /// From memory of the host to the device, without hashing.
    Upload,
    /// Digests of a file, read from disk.
    Digest,
    /// A load without a check.
    Load,
    /// A verified load: signature, policy, bytes.
    VerifiedLoad,
    /// Signing a model on disk.
    Sign,
    /// Verifying a model on disk.
    Verify,
}

impl What {
    /// All, in the order in which they are measured.
    pub const ALL: [Self; 12] = [
        Self::Upload,
        Self::Size,
        Self::Alignment,
        Self::Rows,
        Self::Small,
        Self::Kernel,
        Self::Model,
        Self::Digest,
        Self::Load,
        Self::VerifiedLoad,
        Self::Sign,
        Self::Verify,
    ];

    /// Its name in reports, and for `--only`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Alignment => "alignment",
            Self::Rows => "rows",
            Self::Small => "small",
            Self::Kernel => "kernel",
            Self::Model => "model",
            Self::Upload => "upload",
            Self::Digest => "digest",
            Self::Load => "load",
            Self::VerifiedLoad => "verified-load",
            Self::Sign => "sign",
            Self::Verify => "verify",
        }
    }

    /// Whether it is measured with files.
    #[must_use]
    pub const fn is_of_files(self) -> bool {
        matches!(self, Self::Digest | Self::Load | Self::VerifiedLoad | Self::Sign | Self::Verify)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|what| what.name() == text)
            .ok_or_else(|| format!("{} is not measured; known are {}", quoted(text), known()))
    }
}

/// Where the bytes of a file came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cache {
    /// The page cache.
    Warm,
    /// The disk.
    Cold,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Line {
    /// What was measured.
    pub what: What,
    /// Which of that kind, unique among lines of the same `what`, `cache` and `kernel` of a device: `64 MiB`, `Llama 3.1 8B`, `sha256`.
    pub name: String,
    /// Bytes in all strings.
    pub bytes: u64,
    /// Strings.
    pub strings: usize,
    /// The first byte's place in its allocation.
    #[serde(default)]
    pub at: u64,
    /// The kernel, for [`What::Kernel`].
    #[serde(default)]
    pub kernel: Option<String>,
    /// Where a file came from.
    #[serde(default)]
    pub cache: Option<Cache>,
    /// How long it took.
    pub times: Times,
    /// By the median.
    pub bytes_per_second: f64,
    /// Which of the device's bounds is the lowest that holds for this.
    #[serde(default)]
    pub bound: Option<BoundKind>,
    /// Which part of that bound was reached, 1.0 for all of it.
    #[serde(default)]
    pub share: Option<f64>,
    /// Where the time went, in order, for [`What::VerifiedLoad`]; the seconds add up to about the median.
    #[serde(default)]
    pub stages: Vec<Stage>,
}

/// A part of the time of a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stage {
    /// What happened in it, in a few words: `reading`, `added by hashing`, `signature and listing`.
    pub name: String,
    /// As a median.
    pub seconds: f64,
}

/// What was not measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Skipped {
    /// What it would have been.
    pub what: What,
    /// Which of that kind.
    pub name: String,
    /// Why not, and what would help.
    pub why: String,
}

/// Beside other programs on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[non_exhaustive]
pub struct Peers {
    /// One a program and task.
    pub lines: Vec<Beside>,
    /// Programs that were not found, or that gave no answer.
    pub absent: Vec<Absent>,
}

/// A program and ours, whole processes from start to exit, on the same files, in turns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Beside {
    /// `b3sum`.
    pub program: String,
    /// What it says of its version.
    pub version: String,
    /// The task: `BLAKE3 of one file`, `SHA-256 of one file`, `verifying a model, SHA-256`.
    pub task: String,
    /// Bytes of it.
    pub bytes: u64,
    /// Threads that both were given; none where theirs cannot be told.
    #[serde(default)]
    pub threads: Option<usize>,
    /// Theirs.
    pub theirs: Times,
    /// Ours.
    pub ours: Times,
    /// Our median by theirs: below 1, ours is faster.
    pub ratio: f64,
}

/// A program that could not be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Absent {
    /// Which.
    pub program: String,
    /// Why not.
    pub why: String,
}
