//! Why memory is not sealed, or no longer is what was sealed.

use std::fmt;
use std::ops::Range;
use std::time::SystemTime;

use crate::error::quoted;
use crate::layout::LayoutError;
use crate::time::UnixTime;

/// What cannot be sealed, or measured again. There is no answer then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// No regions.
    #[error("there is no memory to seal; a seal over nothing would always hold")]
    Nothing,
    /// A region without a byte, as an engine leaves a weight that it has packed elsewhere.
    #[error(
        "{} has no bytes: what it held lies elsewhere now, and a seal would say nothing of it. Seal that memory, or leave this name out",
        quoted(.name)
    )]
    Empty {
        /// The region.
        name: String,
    },
    /// One name for two regions.
    #[error("{} is named twice", quoted(.name))]
    Twice {
        /// The name.
        name: String,
    },
    /// Bytes of the host, which is where the seal is kept.
    #[error("{} has bytes on the host; only memory of a device is sealed", quoted(.name))]
    OnHost {
        /// The region.
        name: String,
    },
    /// It is said to be on a device that was not given.
    #[error("{} is said to be on device number {index}, and {devices} devices were given", quoted(.name))]
    NoDevice {
        /// The region.
        name: String,
        /// The index given.
        index: usize,
        /// Devices given.
        devices: usize,
    },
    /// A budget with which nothing would ever be measured.
    #[error("the budget allows nothing; give some bytes, some time, or a share of it above 0 and up to 1")]
    NoBudget,
    /// A region is longer than any memory.
    #[error("{}: {source}", quoted(.name))]
    Layout {
        /// The region.
        name: String,
        /// Why.
        source: LayoutError,
    },
}

/// One way in which memory is not what was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// Other bytes.
    Changed {
        /// The region.
        name: String,
        /// Where in it, as narrow as the seal's groups: neighbours joined, in order. Only what was measured counts.
        at: Vec<Range<u64>>,
    },
    /// Sealed, and not given any more.
    Vanished {
        /// The region.
        name: String,
    },
    /// Given, and not sealed.
    Added {
        /// The region.
        name: String,
    },
    /// The name stands for other memory than was sealed.
    Moved {
        /// The region.
        name: String,
        /// What is other: `device`, `length` or `place`.
        what: &'static str,
    },
}

impl Finding {
    /// Which region.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Changed { name, .. } | Self::Vanished { name } | Self::Added { name } | Self::Moved { name, .. } => {
                name
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A message is no place for a thousand ranges.
        const SHOWN: usize = 3;
        let name = quoted(self.name());
        match self {
            Self::Changed { at, .. } => {
                let shown: Vec<String> = at.iter().take(SHOWN).map(|at| format!("{}..{}", at.start, at.end)).collect();
                let more = if at.len() > SHOWN { ", .." } else { "" };
                write!(f, "{name} has changed in bytes {}{more}", shown.join(", "))
            }
            Self::Vanished { .. } => write!(f, "{name} was sealed and is not there any more"),
            Self::Added { .. } => write!(f, "{name} is there and was not sealed"),
            Self::Moved { what, .. } => write!(f, "{name} is other memory than was sealed: another {what}"),
        }
    }
}

/// Memory is not what was sealed. It stays so, whatever is in the memory later, until it is sealed again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broken {
    /// The seal's name.
    pub seal: String,
    /// When it was sealed.
    pub since: SystemTime,
    /// When that was found.
    pub at: SystemTime,
    /// What was found, by name: at least one.
    pub findings: Vec<Finding>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        let shown: Vec<String> = self.findings.iter().take(SHOWN).map(ToString::to_string).collect();
        let more = self.findings.len().saturating_sub(SHOWN);
        write!(
            f,
            "the seal {} of {} was found broken at {}: {}",
            quoted(&self.seal),
            UnixTime::from(self.since),
            UnixTime::from(self.at),
            shown.join("; ")
        )?;
        if more > 0 {
            write!(f, "; and {more} more")?;
        }
        f.write_str(". Stop using this memory; load and verify it again, and seal that")
    }
}
