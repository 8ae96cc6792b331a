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

/// At which rate a model is taken to be hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashedAs {
    /// At that of its own tensors, or of as many of them as fitted.
    Tensors,
    /// At that of the longest single string: not even one layer fitted into the memory that was used.
    OneString,
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
    /// What was measured for it.
    pub measured: HashedAs,
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
    /// One a family, the smallest first; none where nothing was hashed in memory.
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
    let rate = |line: &Line| Some(line.times.rate(line.bytes)).filter(|rate| *rate > 0.0);
    let lines = |what: What| device.lines.iter().filter(move |line| line.what == what);
    let longest = lines(What::Size).max_by_key(|line| line.bytes);
    let of = |family: Family| {
        let own = lines(What::Model).find(|line| is_of(&line.name, family));
        let measured = if own.is_some() { HashedAs::Tensors } else { HashedAs::OneString };
        let rate = rate(own.or(longest)?)?;
        let bytes = family.whole().file_bytes();
        Some(Added { family, bytes, measured, hashing: bytes as f64 / rate, loading: by.seconds(bytes) })
    };
    Family::ALL.into_iter().filter_map(of).collect()
}

/// Whether a line is about this family: it begins with its name, which a comma follows where something was left out.
fn is_of(name: &str, family: Family) -> bool {
    name.strip_prefix(family.name()).is_some_and(|rest| rest.is_empty() || rest.starts_with(','))
}

fn measured<'d>(device: &'d OfDevice) -> Vec<Checked<'d>> {
    let lines = |what: What| device.lines.iter().filter(move |line| line.what == what);
    let of = |verified: &'d Line| {
        let plain = lines(What::Load).find(|plain| plain.cache == verified.cache);
        plain.map(|plain| Checked { verified, plain })
    };
    lines(What::VerifiedLoad).filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "a literal at each call")]
    fn device(lines: serde_json::Value) -> OfDevice {
        serde_json::from_value(json!({"device": "cpu", "name": "A", "bounds": [], "lines": lines, "skipped": []}))
            .unwrap()
    }

    fn line(what: &str, name: &str, bytes: u64, seconds: f64, cache: Option<&str>) -> serde_json::Value {
        json!({
            "what": what, "name": name, "bytes": bytes, "strings": 1, "cache": cache,
            "times": {"seconds": [seconds]}, "bytes_per_second": 0.0,
        })
    }

    #[test]
    fn a_model_of_its_real_size_takes_as_long_as_what_was_measured_of_it_says() {
        let of = device(json!([
            line("size", "1 KiB", 1024, 1.0, None),
            line("size", "1 GiB", 1 << 30, 1.0, None),
            line("model", "Llama 3.1 8B, 2 of 32 layers", 4_000_000_000, 2.0, None),
        ]));
        let models = models(&of, Loading::Given { seconds: 10.0 });
        assert_eq!(models.len(), Family::ALL.len());
        let llama = models.iter().find(|of| of.family == Family::Llama31With8B).unwrap();
        // 8.03e9 parameters of two bytes, at 2 GB/s.
        assert!((llama.bytes as f64 / 1e9 - 16.06).abs() < 0.01 && (llama.hashing - 8.03).abs() < 0.01, "{llama:?}");
        assert_eq!((llama.measured, llama.loading), (HashedAs::Tensors, 10.0));
        let other = models.iter().find(|of| of.family == Family::Llama31With70B).unwrap();
        assert_eq!(other.measured, HashedAs::OneString);
        assert!((other.hashing - other.bytes as f64 / f64::from(1 << 30)).abs() < 1e-6, "the longest string");
        assert!(super::models(&device(json!([])), Loading::Assumed).is_empty());
    }

    #[test]
    fn a_load_takes_what_was_said_or_measured_cold_before_warm_and_else_what_is_assumed() {
        let (warm, cold) = (line("load", "a", 4_000, 1.0, Some("warm")), line("load", "a", 2_000, 1.0, Some("cold")));
        let both = device(json!([warm, cold]));
        let measured = Loading::Measured { bytes_per_second: 2_000.0, cache: Some(Cache::Cold) };
        assert_eq!(Loading::of(&both, None), measured);
        assert_eq!(measured.seconds(8_000), 4.0);
        let warm = device(json!([warm]));
        assert!(matches!(Loading::of(&warm, None), Loading::Measured { cache: Some(Cache::Warm), .. }));
        assert_eq!(Loading::of(&both, Some(7.0)).seconds(1), 7.0);
        assert_eq!(Loading::of(&device(json!([])), None), Loading::Assumed);
        assert_eq!(Loading::Assumed.seconds(6_000_000_000), 2.0);
    }

    #[test]
    fn a_verified_load_stands_beside_the_same_without_a_check() {
        let of = device(json!([
            line("load", "a", 10, 1.0, Some("warm")),
            line("verified-load", "b", 11, 1.5, Some("warm")),
            line("verified-load", "b", 11, 1.5, Some("cold")),
        ]));
        let found = measured(&of);
        assert_eq!((found.len(), found[0].ratio()), (1, 1.5), "there is no cold load to stand beside");
    }
}
