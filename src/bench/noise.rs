//! Whether two sets of times differ by more than their own noise tells.
//!
//! Repeats of a measurement are few (7, not 7000), skewed (nothing runs faster than it can, anything may run slower) and now
//! and then far off (another process woke up). A t test on means breaks on the one far off, a test on ranks cannot be sure of
//! anything with so few, and a ratio of medians knows no noise. So: Yuen's t test on trimmed means (K. K. Yuen, "The
//! two-sample trimmed t for unequal population variances", Biometrika 61, 1974), of the logarithms of the times, since noise
//! is a factor. A fifth at each end is cut off, and what is left is judged with the variance of the winsorized sample.

/// Fewer repeats than this, and nothing is told: with four, none can be cut off at the ends.
pub(super) const FEWEST: usize = 5;

/// The part that is cut off at each end.
const TRIM: f64 = 0.2;

/// The difference of two trimmed means of logarithms, and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Difference {
    /// How probable one at least as large is among equals.
    pub(super) p: f64,
    /// Its standard error, as a logarithm of a factor.
    pub(super) error: f64,
    /// Degrees of freedom that the error has.
    pub(super) freedom: f64,
}

/// None for fewer than [`FEWEST`] in either.
pub(super) fn difference(before: &[f64], after: &[f64]) -> Option<Difference> {
    let (before, after) = (Trimmed::of(before)?, Trimmed::of(after)?);
    let variance = before.variance + after.variance;
    let apart = (after.mean - before.mean).abs();
    if variance <= 0.0 {
        // A clock too coarse for what was measured: all the same, twice.
        let p = if apart > 0.0 { 0.0 } else { 1.0 };
        return Some(Difference { p, error: 0.0, freedom: before.freedom.min(after.freedom) });
    }
    // As Welch has it, for variances that need not be equal.
    let freedom =
        variance * variance / (before.variance.powi(2) / before.freedom + after.variance.powi(2) / after.freedom);
    let error = variance.sqrt();
    Some(Difference { p: two_sided(apart / error, freedom), error, freedom })
}

/// What is left of a sample, in logarithms.
struct Trimmed {
    mean: f64,
    /// Of the mean.
    variance: f64,
    freedom: f64,
}

impl Trimmed {
    fn of(seconds: &[f64]) -> Option<Self> {
        if seconds.len() < FEWEST {
            return None;
        }
        // No clock tells less than a nanosecond, and zero has no logarithm.
        let mut logs: Vec<f64> = seconds.iter().map(|second| second.max(1e-9).ln()).collect();
        logs.sort_unstable_by(f64::total_cmp);
        let all = logs.len() as f64;
        let cut = (TRIM * all) as usize;
        let kept = logs.get(cut..logs.len() - cut)?;
        let (&least, &most) = (kept.first()?, kept.last()?);
        let count = kept.len() as f64;
        let mean = kept.iter().sum::<f64>() / count;
        let winsorized = || logs.iter().map(|log| log.clamp(least, most));
        let middle = winsorized().sum::<f64>() / all;
        let squares: f64 = winsorized().map(|log| (log - middle).powi(2)).sum();
        Some(Self { mean, variance: squares / (count * (count - 1.0)), freedom: count - 1.0 })
    }
}

/// Points of the integrals below. Even.
const STEPS: u32 = 512;

/// The probability that Student's t with so many degrees of freedom (2 or more) is `t` away from 0, or farther, on either side.
///
/// With t = sqrt(freedom) / tan(angle) the density is a power of the sine, so that the gamma functions cancel:
/// two integrals of the same smooth function, by Simpson's rule.
fn two_sided(t: f64, freedom: f64) -> f64 {
    // Beyond a thousand it is the normal distribution, as far as anybody can see, and the integrand a needle.
    let freedom = freedom.min(1e3);
    let edge = freedom.sqrt().atan2(t);
    let upto = |end: f64| {
        let step = end / f64::from(STEPS);
        let weighed = |i: u32| if i == 0 || i == STEPS { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
        (0..=STEPS).map(|i| weighed(i) * (f64::from(i) * step).sin().powf(freedom - 1.0)).sum::<f64>() * step
    };
    (upto(edge) / upto(std::f64::consts::FRAC_PI_2)).clamp(0.0, 1.0)
}

/// The t that is exceeded, on either side, with a probability of `p`.
pub(super) fn quantile(p: f64, freedom: f64) -> f64 {
    // Halving is slow and cannot go wrong. 26 halvings of the logarithm leave less than a millionth.
    let (mut low, mut high) = (0.01_f64, 1e6_f64);
    for _ in 0..26 {
        let middle = (low * high).sqrt();
        if two_sided(middle, freedom) > p { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_t_distribution_is_that_of_the_tables() {
        // Two-sided, from printed tables of Student's t, to their last digit.
        for (freedom, p, t) in [
            (2.0, 0.05, 4.303),
            (2.0, 0.001, 31.599),
            (4.0, 0.05, 2.776),
            (4.0, 0.001, 8.610),
            (8.0, 0.01, 3.355),
            (8.0, 0.001, 5.041),
            (30.0, 0.05, 2.042),
            (30.0, 0.001, 3.646),
            (120.0, 0.05, 1.980),
            (120.0, 0.001, 3.373),
        ] {
            assert!((quantile(p, freedom) - t).abs() < 0.0006, "{freedom} {p}: {}", quantile(p, freedom));
            assert!((two_sided(t, freedom) / p - 1.0).abs() < 0.002, "{freedom} {p}");
        }
        // With two degrees there is a formula: 1 - t / sqrt(2 + t^2).
        for t in [0.0, 0.5, 1.0, 10.0, 100.0] {
            let exact = 1.0 - t / f64::sqrt(2.0 + t * t);
            assert!((two_sided(t, 2.0) - exact).abs() < 1e-9, "{t}");
        }
        // And a great many are nearly normal.
        assert!((two_sided(1.959_964, 1e5) - 0.05).abs() < 5e-4);
    }

    #[test]
    fn yuens_statistic_is_that_of_a_calculation_by_hand() {
        // Logarithms 0, 1, 2, 3, 100 and 4, 5, 6, 7, 200: kept are 1, 2, 3 and 5, 6, 7; winsorized 1, 1, 2, 3, 3 with
        // squares of 4, so a variance of 4 / (3 * 2) each, error sqrt(4 / 3), t = 4 / 1.1547 = 3.4641, 4 degrees.
        let of = |logs: [f64; 5]| logs.map(|log| f64::exp(log - 10.0));
        let found = difference(&of([0.0, 1.0, 2.0, 3.0, 100.0]), &of([200.0, 7.0, 6.0, 5.0, 4.0])).unwrap();
        assert!((found.error - f64::sqrt(4.0 / 3.0)).abs() < 1e-9, "{found:?}");
        assert!((found.freedom - 4.0).abs() < 1e-9, "{found:?}");
        assert!((found.p - two_sided(f64::sqrt(12.0), 4.0)).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn too_few_tell_nothing_and_a_coarse_clock_tells_equal_from_unequal() {
        assert_eq!(difference(&[1.0; 4], &[2.0; 9]), None);
        assert_eq!(difference(&[1.0; 9], &[2.0; 4]), None);
        assert_eq!(difference(&[0.0; 5], &[0.0; 5]).unwrap().p, 1.0);
        assert_eq!(difference(&[1.0; 5], &[2.0; 5]).unwrap().p, 0.0);
    }
}
