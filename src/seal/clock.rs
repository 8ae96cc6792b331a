//! What time it is, twice over: for people, and for ages and budgets.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

/// A clock. Tests have one that they set.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time of day, for reports. It may be set back.
    fn wall(&self) -> SystemTime;

    /// Time since some moment, for ages and budgets. It never goes back.
    fn ticks(&self) -> Duration;
}

/// The system's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn ticks(&self) -> Duration {
        self.0.elapsed()
    }
}
