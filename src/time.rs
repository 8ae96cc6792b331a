//! Moments, to the second, in UTC.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z, before it where negative. Leap seconds do not count, as in POSIX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub i64);

impl UnixTime {
    /// What the system's clock says.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }
}

impl From<SystemTime> for UnixTime {
    /// Rounded down, so that a moment never seems to lie in the future.
    fn from(at: SystemTime) -> Self {
        let clamped = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        Self(match at.duration_since(UNIX_EPOCH) {
            Ok(since) => clamped(since.as_secs()),
            Err(before) => {
                let before = before.duration();
                -clamped(before.as_secs().saturating_add(u64::from(before.subsec_nanos() > 0)))
            }
        })
    }
}

impl fmt::Display for UnixTime {
    /// `2026-11-22T08:19:44Z` (RFC 3339). The calendar is Howard Hinnant's `civil_from_days`
    /// (<https://howardhinnant.github.io/date_algorithms.html>): years begin in March, so that leap days come last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        let shifted = days.saturating_add(719_468);
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_read_as_people_write_them() {
        // As `date -u -d @N +%FT%TZ` prints them.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (-62_135_596_800, "0001-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(UnixTime(seconds).to_string(), text);
        }
    }

    #[test]
    fn a_part_of_a_second_is_dropped_towards_the_past() {
        let half = Duration::from_millis(500);
        assert_eq!(UnixTime::from(UNIX_EPOCH + half), UnixTime(0));
        assert_eq!(UnixTime::from(UNIX_EPOCH - half), UnixTime(-1));
        assert_eq!(UnixTime::from(UNIX_EPOCH - 2 * half), UnixTime(-1));
    }
}
