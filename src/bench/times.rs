//! How long the same thing took, again and again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Seconds of each counted repeat, in the order in which they were measured; never none, never negative or infinite.
///
/// The first run, which finds caches and clocks cold, is not among them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Times {
    seconds: Vec<f64>,
}

/// There is nothing to take a median of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no times, or one that is no time (negative, or not a number)")]
pub struct NoTimes;

/// As reports have it: what follows from the seconds is written for whoever reads it, and not believed when read back.
#[derive(Serialize, Deserialize)]
struct Wire {
    seconds: Vec<f64>,
    #[serde(default)]
    median: f64,
    #[serde(default)]
    fastest: f64,
    #[serde(default)]
    slowest: f64,
    #[serde(default)]
    spread: f64,
}

impl Times {
    /// # Errors
    /// [`NoTimes`].
    pub fn new(seconds: Vec<f64>) -> Result<Self, NoTimes> {
        if seconds.is_empty() || seconds.iter().any(|second| !second.is_finite() || *second < 0.0) {
            return Err(NoTimes);
        }
        Ok(Self { seconds })
    }

    /// # Errors
    /// [`NoTimes`] for none.
    pub fn of(times: &[Duration]) -> Result<Self, NoTimes> {
        Self::new(times.iter().map(Duration::as_secs_f64).collect())
    }

    /// Each of them, in the order of measuring.
    #[must_use]
    pub fn seconds(&self) -> &[f64] {
        &self.seconds
    }

    /// The middle one, or the mean of the two in the middle.
    #[must_use]
    pub fn median(&self) -> f64 {
        median(&self.seconds)
    }

    /// The shortest.
    #[must_use]
    pub fn fastest(&self) -> f64 {
        self.seconds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The longest.
    #[must_use]
    pub fn slowest(&self) -> f64 {
        self.seconds.iter().copied().fold(0.0, f64::max)
    }

    /// The median of their distances from the median (MAD), in seconds: what half of them keep within. One slow run does not move it.
    #[must_use]
    pub fn spread(&self) -> f64 {
        let middle = self.median();
        median(&self.seconds.iter().map(|second| (second - middle).abs()).collect::<Vec<_>>())
    }

    /// Bytes a second, by the median.
    #[must_use]
    pub fn rate(&self, bytes: u64) -> f64 {
        bytes as f64 / self.median().max(1e-9)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

impl TryFrom<Wire> for Times {
    type Error = NoTimes;

    fn try_from(wire: Wire) -> Result<Self, NoTimes> {
        Self::new(wire.seconds)
    }
}

impl From<Times> for Wire {
    fn from(times: Times) -> Self {
        let (median, fastest, slowest, spread) = (times.median(), times.fastest(), times.slowest(), times.spread());
        Self { seconds: times.seconds, median, fastest, slowest, spread }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spreads_are_those_of_the_numbers_and_what_is_no_time_is_refused() {
        let times = Times::new(vec![5.0, 1.0, 2.0, 100.0]).unwrap();
        assert_eq!((times.median(), times.fastest(), times.slowest()), (3.5, 1.0, 100.0));
        // Distances 1.5, 2.5, 1.5, 96.5.
        assert_eq!(times.spread(), 2.0);
        assert_eq!(Times::new(vec![3.0, 1.0, 2.0]).unwrap().median(), 2.0);
        for none in [vec![], vec![f64::NAN], vec![1.0, -1.0], vec![f64::INFINITY]] {
            assert_eq!(Times::new(none), Err(NoTimes));
        }
        let read: Times = serde_json::from_str(r#"{"seconds": [1.0, 3.0], "median": 7.0}"#).unwrap();
        assert_eq!(read.median(), 2.0, "what follows from the seconds is not believed");
        assert!(serde_json::from_str::<Times>(r#"{"seconds": []}"#).is_err());
    }
}
