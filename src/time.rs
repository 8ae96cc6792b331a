//! Moments, to the second, in UTC.

use std::fmt;
use std::num::NonZeroU64;
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

    /// A moment written as `Display` writes it, and in no other way.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
        let days = days_from_civil(number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let of_day = number(11, 13)?.checked_mul(3600)? + number(14, 16)?.checked_mul(60)? + number(17, 19)?;
        let at = Self(days * 86_400 + of_day);
        // Whatever was not looked at, and every day that is none, shows here.
        (at.to_string() == text).then_some(at)
    }
}

/// The days since 1970-01-01 of a date: Howard Hinnant's `days_from_civil`. Months are numbered from 1.
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// `90s`, `15m`, `24h` or `7d` in seconds: more than nothing, at most 366 days.
#[must_use]
pub fn parse_span(text: &str) -> Option<NonZeroU64> {
    const LONGEST: u64 = 366 * 86_400;
    let unit = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        b'd' => 86_400,
        _ => return None,
    };
    let number = &text[..text.len() - 1];
    // `parse` would take a sign.
    let plain = number.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = number.parse::<u64>().ok().filter(|_| plain)?.checked_mul(unit)?;
    NonZeroU64::new(seconds).filter(|seconds| seconds.get() <= LONGEST)
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
            assert_eq!(UnixTime::parse(text), Some(UnixTime(seconds)));
        }
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T08:19:44",
            "2026-11-22T08:19:44+00:00",
            "2026-11-22 08:19:44Z",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T-1:00:00Z",
            "2026-01-01T+1:00:00Z",
            "2026-01-01T00:00:00Zx",
            "２026-01-01T00:00:00Z",
            "0é26-01-01T00:00:00Z",
        ] {
            assert_eq!(UnixTime::parse(text), None, "{text}");
        }
    }

    #[test]
    fn spans_have_a_unit_and_an_end() {
        for (text, seconds) in [("1s", 1), ("90s", 90), ("15m", 900), ("24h", 86_400), ("366d", 366 * 86_400)] {
            assert_eq!(parse_span(text).map(NonZeroU64::get), Some(seconds), "{text}");
        }
        for text in ["", "s", "1", "24 h", "0s", "367d", "-1s", "+1s", "1.5h", "1w", "1é", "99999999999999999999d"] {
            assert_eq!(parse_span(text), None, "{text}");
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
