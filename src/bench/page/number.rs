//! Numbers as people write them.

/// Between a number and its unit: no line ends there.
const SPACE: char = '\u{a0}';

/// Three significant digits, thousands set apart: `0.0102`, `9.82`, `98.2`, `3,350`. A dash for what is no number.
pub(super) fn significant(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    // Rounded first: 9.996 is 10.0, not 10.00.
    let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    let exponent = rounded.abs().log10().floor();
    if exponent >= 15.0 {
        return format!("{rounded:.2e}");
    }
    let decimals = (2.0 - exponent).clamp(0.0, 20.0) as usize;
    let text = format!("{rounded:.decimals$}");
    let (sign, digits) = text.split_at(usize::from(text.starts_with('-')));
    match digits.split_once('.') {
        Some((whole, rest)) => format!("{sign}{}.{rest}", grouped(whole)),
        None => format!("{sign}{}", grouped(digits)),
    }
}

/// Digits in groups of three, from four digits on.
fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `10` for `10.0`: on an axis, where digits say nothing of how exactly something was measured.
pub(super) fn without_zeros(number: &str) -> String {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.').to_owned() } else { number.to_owned() }
}

/// How many.
pub(super) fn count(number: usize) -> String {
    grouped(&number.to_string())
}

/// How many of something: `1 tensor`, `291 tensors`.
pub(super) fn counted(number: usize, one: &str) -> String {
    format!("{}{SPACE}{one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Bytes a second, in 10^9 of them, without the unit.
pub(super) fn gigabytes(bytes_per_second: f64) -> String {
    significant(bytes_per_second / 1e9)
}

/// Bytes a second: `9.82 GB/s`.
pub(super) fn rate(bytes_per_second: f64) -> String {
    format!("{}{SPACE}GB/s", gigabytes(bytes_per_second))
}

/// Bytes: `64 MiB`, `14.9 GiB`, `1000 B`.
pub(super) fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1024 => (1_u64, "B"),
        1024..0x10_0000 => (1 << 10, "KiB"),
        0x10_0000..0x4000_0000 => (1 << 20, "MiB"),
        0x4000_0000..0x100_0000_0000 => (1 << 30, "GiB"),
        _ => (1 << 40, "TiB"),
    };
    if bytes % unit == 0 {
        format!("{}{SPACE}{name}", bytes / unit)
    } else {
        format!("{}{SPACE}{name}", significant(bytes as f64 / unit as f64))
    }
}

/// A time: `1.23 s`, `45.6 ms`, `890 ns`.
pub(super) fn seconds(seconds: f64) -> String {
    let (unit, name) = match seconds.abs() {
        0.0 => (1.0, "s"),
        s if s < 0.999_5e-6 => (1e-9, "ns"),
        s if s < 0.999_5e-3 => (1e-6, "µs"),
        s if s < 0.999_5 => (1e-3, "ms"),
        _ => (1.0, "s"),
    };
    format!("{}{SPACE}{name}", significant(seconds / unit))
}

/// A long time: `42 s`, `3 min 5 s`.
pub(super) fn minutes(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 120.0 {
        return self::seconds(seconds);
    }
    let whole = seconds.round() as u64;
    format!("{}{SPACE}min {}{SPACE}s", grouped(&(whole / 60).to_string()), whole % 60)
}

/// A share, 1.0 for all: `87 %`, `3.1 %`, `0.05 %`.
pub(super) fn percent(share: f64) -> String {
    let hundredths = share * 100.0;
    let text = match hundredths.abs() {
        p if !p.is_finite() => "–".to_owned(),
        p if p >= 9.95 => format!("{hundredths:.0}"),
        p if p >= 0.95 => format!("{hundredths:.1}"),
        0.0 => "0".to_owned(),
        p if p < 0.005 => "under 0.01".to_owned(),
        _ => format!("{hundredths:.2}"),
    };
    format!("{text}{SPACE}%")
}

/// The first characters of a name that somebody else chose, for where there is no room for more. The table has all of it.
pub(super) fn short(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    let kept: String = name.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_write_them() {
        let plain = |text: String| text.replace(SPACE, " ");
        for (value, shown) in [
            (0.0, "0"),
            (9.816, "9.82"),
            (9.996, "10.0"),
            (99.96, "100"),
            (999.6, "1,000"),
            (3_352.0, "3,350"),
            (1_234_567.0, "1,230,000"),
            (0.010_24, "0.0102"),
            (-12.34, "-12.3"),
            (f64::NAN, "–"),
            (f64::INFINITY, "–"),
            (1e300, "1.00e300"),
            (1e-7, "0.000000100"),
        ] {
            assert_eq!(significant(value), shown, "{value}");
        }
        for (bytes, shown) in [
            (0, "0 B"),
            (1000, "1000 B"),
            (1024, "1 KiB"),
            (1_048_575, "1,020 KiB"),
            (64 << 20, "64 MiB"),
            (16_060_522_496, "15.0 GiB"),
            (1 << 40, "1 TiB"),
            (u64::MAX, "16,800,000 TiB"),
        ] {
            assert_eq!(plain(size(bytes)), shown, "{bytes}");
        }
        for (time, shown) in [
            (0.0, "0 s"),
            (1.234, "1.23 s"),
            (0.0456, "45.6 ms"),
            (89e-9, "89.0 ns"),
            (0.999_9, "1.00 s"),
            (1.5e-5, "15.0 µs"),
        ] {
            assert_eq!(plain(seconds(time)), shown, "{time}");
        }
        assert_eq!(["10.0", "0.100", "1,000", "0.0102"].map(without_zeros), ["10", "0.1", "1,000", "0.0102"]);
        assert_eq!(plain(minutes(185.4)), "3 min 5 s");
        assert_eq!(plain(minutes(42.0)), "42.0 s");
        for (share, shown) in [
            (0.0, "0 %"),
            (0.871, "87 %"),
            (0.0311, "3.1 %"),
            (0.000_5, "0.05 %"),
            (1.04, "104 %"),
            (0.099_7, "10 %"),
            (1e-9, "under 0.01 %"),
        ] {
            assert_eq!(plain(percent(share)), shown, "{share}");
        }
        assert_eq!(
            (counted(1, "tensor"), counted(10_000, "tensor")),
            ("1\u{a0}tensor".to_owned(), "10,000\u{a0}tensors".to_owned())
        );
        assert_eq!(
            (short("abc", 3), short("abcd", 3), short("模型 模型", 4)),
            ("abc".to_owned(), "ab…".to_owned(), "模型…".to_owned())
        );
    }
}
