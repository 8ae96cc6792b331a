//! The axes of a plot: logarithmic, with what they name at their sides.

/// Values by their logarithms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    base: f64,
    low: f64,
    high: f64,
}

impl Scale {
    /// From the smallest to the largest, and a little around; at least `least` from end to end, in powers of `base`. None: nothing
    /// of it has a logarithm.
    pub(super) fn over(values: impl Iterator<Item = f64>, base: f64, least: f64) -> Option<Self> {
        let (low, high) = values
            .filter(|value| value.is_finite() && *value > 0.0)
            .map(|value| value.log(base))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        let around = ((high - low) * 0.07).max((least - (high - low)) / 2.0);
        Some(Self { base, low: low - around, high: high + around })
    }

    /// Where on it a value lies, 0 for the low end and 1 for the high one. None: it has no logarithm.
    pub(super) fn place(self, value: f64) -> Option<f64> {
        let place = (value.log(self.base) - self.low) / (self.high - self.low);
        (value > 0.0 && place.is_finite()).then(|| place.clamp(0.0, 1.0))
    }

    /// Sizes to name, for base 2: powers of two at even distances, as many as a phone has room for.
    pub(super) fn sizes(self) -> Vec<u64> {
        let (low, high) = (self.low.max(0.0).ceil() as u32, self.high.min(63.0).floor() as u32);
        let at = |step: u32| (low..=high).filter(move |power| power % step == 0);
        let step = [1, 2, 5, 10, 20].into_iter().find(|step| at(*step).count() <= 5).unwrap_or(30);
        at(step).map(|power| 1_u64 << power).collect()
    }

    /// Numbers to name, for base 10.
    pub(super) fn decades(self) -> Vec<f64> {
        let steps: &[f64] = if self.high - self.low > 2.2 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let every = ((self.high - self.low) / 8.0).ceil().clamp(1.0, 100.0) as i32;
        (self.low.floor() as i32..=self.high.ceil() as i32)
            .filter(|decade| decade % every == 0)
            .flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)))
            .filter(|number| (self.low..=self.high).contains(&number.log10()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_on_the_axis_and_names_stand_where_they_belong() {
        let scale = Scale::over([1e9, 4e9].into_iter(), 10.0, 1.0).unwrap();
        assert_eq!(scale.decades(), [1e9, 2e9, 5e9]);
        assert!((scale.place(2e9).unwrap() - 0.5).abs() < 1e-9, "the middle of 1 and 4, by their logarithms, is 2");
        assert_eq!(scale.place(1e30), Some(1.0));
        for none in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(scale.place(none), None);
            assert!(Scale::over([none].into_iter(), 10.0, 1.0).is_none());
        }
        let wide = Scale::over([1e7, 3e12].into_iter(), 10.0, 1.0).unwrap();
        assert_eq!(wide.decades(), [1e7, 1e8, 1e9, 1e10, 1e11, 1e12]);
        let sizes = Scale::over([1024.0, (1_u64 << 36) as f64].into_iter(), 2.0, 4.0).unwrap().sizes();
        assert_eq!(sizes, [1 << 10, 1 << 20, 1 << 30]);
        let one = Scale::over([1024.0].into_iter(), 2.0, 4.0).unwrap();
        assert_eq!((one.sizes(), one.place(1024.0)), (vec![256, 512, 1024, 2048, 4096], Some(0.5)));
        for value in [f64::MIN_POSITIVE, f64::MAX, 1.0] {
            let scale = Scale::over([value, f64::MAX].into_iter(), 10.0, 1.0).unwrap();
            assert!(scale.decades().len() < 40 && scale.sizes().len() < 10);
        }
    }
}
