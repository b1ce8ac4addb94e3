//! How late frames were.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::report::seconds;

/// How late frames were written, after they were due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lateness {
    /// Half of them were not later than this, to the percent.
    #[serde(serialize_with = "seconds")]
    pub p50: Duration,
    /// 99 of a hundred were not later than this, to the percent.
    #[serde(serialize_with = "seconds")]
    pub p99: Duration,
    /// None was later than this.
    #[serde(serialize_with = "seconds")]
    pub max: Duration,
}

/// Sorts delays into classes: memory does not grow with their number.
#[derive(Clone, Debug)]
pub(super) struct Delays {
    /// In microseconds.
    classes: Histogram<u64>,
    max: Duration,
}

/// So many digits of a delay are kept.
const DIGITS: u8 = 2;

impl Default for Delays {
    fn default() -> Self {
        let classes = Histogram::new(DIGITS).expect("up to five digits may be kept");
        Self { classes, max: Duration::ZERO }
    }
}

impl Delays {
    pub(super) fn add(&mut self, delay: Duration) {
        let micros = u64::try_from(delay.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
        // There is a class for every number there is.
        let _ = self.classes.record(micros);
        self.max = self.max.max(delay);
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        // All of them grow to what they have to hold.
        let _ = self.classes.add(&other.classes);
        self.max = self.max.max(other.max);
    }

    /// None if there were none.
    pub(super) fn lateness(&self) -> Option<Lateness> {
        let at = |quantile| {
            let micros = self.classes.value_at_quantile(quantile);
            Duration::from_micros(micros).min(self.max)
        };
        (!self.classes.is_empty()).then(|| Lateness { p50: at(0.5), p99: at(0.99), max: self.max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_the_percent_and_the_worst_is_exact() {
        let (mut odd, mut even) = (Delays::default(), Delays::default());
        assert_eq!(odd.lateness(), None);
        for micros in 1..=100_000 {
            let of = if micros % 2 == 0 { &mut even } else { &mut odd };
            of.add(Duration::from_micros(micros));
        }
        odd.add(Duration::from_nanos(123_456_789));
        even.add_all(&odd);
        let found = even.lateness().unwrap();
        let close =
            |found: Duration, expected: f64| (found.as_secs_f64() / expected - 1.0).abs() < 0.01;
        assert!(close(found.p50, 0.050) && close(found.p99, 0.099), "{found:?}");
        assert_eq!(found.max, Duration::from_nanos(123_456_789));
    }

    #[test]
    fn absurd_delays_are_kept() {
        let mut delays = Delays::default();
        delays.add(Duration::MAX);
        delays.add(Duration::ZERO);
        let found = delays.lateness().unwrap();
        assert_eq!((found.p50, found.max), (Duration::ZERO, Duration::MAX));
    }
}
