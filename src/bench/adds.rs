//! What checking adds to a load: from rates that were measured to models of their real size.

use super::report::{Cache, Line, OfDevice, Report, What};
use super::shapes::Family;

/// The rate of loads that is assumed where none was measured and no time was given, in bytes a second: about what one good
/// disk gives.
pub const ASSUMED: f64 = 3e9;

/// How long a model takes to load, and how that is known.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Loading {
    /// It was given.
    Given {
        /// How long.
        seconds: f64,
    },
    /// At the rate of a load without a check that was measured with this device.
    Measured {
        /// In bytes a second.
        bytes_per_second: f64,
        /// Where its bytes came from.
        cache: Option<Cache>,
    },
    /// At [`ASSUMED`]: none was measured.
    Assumed,
}

impl Loading {
    /// By what is known of a device: the time that was given, or else its fastest load without a check, from the disk
    /// rather than from the page cache.
    fn of(device: &OfDevice, given: Option<f64>) -> Self {
        let rank = |line: &Line| (line.cache == Some(Cache::Cold), line.times.rate(line.bytes));
        let loads = device.lines.iter().filter(|line| line.what == What::Load && line.bytes > 0);
        let fastest = loads.max_by(|a, b| rank(a).0.cmp(&rank(b).0).then(rank(a).1.total_cmp(&rank(b).1)));
        match (given, fastest) {
            (Some(seconds), _) => Self::Given { seconds },
            (None, Some(line)) => Self::Measured { bytes_per_second: line.times.rate(line.bytes), cache: line.cache },
            (None, None) => Self::Assumed,
        }
    }

    /// How long so many bytes take.
    #[must_use]
    pub fn seconds(self, bytes: u64) -> f64 {
        match self {
            Self::Given { seconds } => seconds,
            Self::Measured { bytes_per_second, .. } => bytes as f64 / bytes_per_second,
            Self::Assumed => bytes as f64 / ASSUMED,
        }
    }
}

/// A model, and what hashing all of it where it lies would add to a load that hashes nothing. A verified load hashes what
/// is there while the rest is being read, and adds less: this is the most.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Added {
    /// Which.
    pub family: Family,
    /// Bytes of the real one.
    pub bytes: u64,
    /// How long its tensors take to be hashed in the device's memory, at the rate that was measured.
    pub hashing: f64,
    /// How long it takes to load.
    pub loading: f64,
}

/// What one device would add.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Adds<'a> {
    /// Which.
    pub device: &'a OfDevice,
    /// What loading is taken to take.
    pub by: Loading,
    /// One a family that was measured, in the order of measuring; none where none was.
    pub models: Vec<Added>,
    /// Loads with a check beside the same without, in the order of measuring.
    pub measured: Vec<Checked<'a>>,
}

/// A load with a check, and the same without.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Checked<'a> {
    /// With.
    pub verified: &'a Line,
    /// Without.
    pub plain: &'a Line,
}

impl Checked<'_> {
    /// The time with a check by the time without, by the medians.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.verified.times.median() / self.plain.times.median().max(1e-9)
    }
}

/// What checking adds to loads of `seconds` seconds, or to loads at the rate that was measured; one a device.
#[must_use]
pub fn adds(report: &Report, seconds: Option<f64>) -> Vec<Adds<'_>> {
    let of = |device| {
        let by = Loading::of(device, seconds);
        Adds { device, by, models: models(device, by), measured: measured(device) }
    };
    report.devices.iter().map(of).collect()
}

fn models(device: &OfDevice, by: Loading) -> Vec<Added> {
    let of = |line: &Line| {
        let family = family(&line.name)?;
        let bytes = family.whole().file_bytes();
        let rate = line.times.rate(line.bytes);
        (rate > 0.0).then(|| Added { family, bytes, hashing: bytes as f64 / rate, loading: by.seconds(bytes) })
    };
    device.lines.iter().filter(|line| line.what == What::Model).filter_map(of).collect()
}

/// Which family a line is about: it begins with the name of one, which a comma follows where something was left out.
fn family(name: &str) -> Option<Family> {
    let begins =
        |family: &Family| name.strip_prefix(family.name()).is_some_and(|rest| rest.is_empty() || rest.starts_with(','));
    Family::ALL.into_iter().find(begins)
}

fn measured(device: &OfDevice) -> Vec<Checked<'_>> {
    let plain_of = |verified: &Line| {
        let same =
            |plain: &&Line| plain.what == What::Load && plain.cache == verified.cache && plain.bytes == verified.bytes;
        device.lines.iter().find(same)
    };
    let verified = device.lines.iter().filter(|line| line.what == What::VerifiedLoad);
    verified.filter_map(|verified| plain_of(verified).map(|plain| Checked { verified, plain })).collect()
}
