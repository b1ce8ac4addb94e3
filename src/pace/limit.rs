//! No more than so many frames a second.

use std::{num::NonZeroU64, str::FromStr, time::Duration};

use super::decimal::billionths;
use crate::{
    entry::nanos,
    error::{Error, Result},
};

/// Frames a second, to the billionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    billionths: NonZeroU64,
}

/// `1000` or `0.5`.
impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let rate = billionths(text).and_then(NonZeroU64::new);
        rate.map(|billionths| Self { billionths }).ok_or_else(|| {
            Error::usage(
                "a number of frames a second",
                format!("{text:?}"),
                "rates look like 1000 or 0.5",
            )
        })
    }
}

/// A token bucket: it holds `burst` tokens at most, is full at first, and gets `rate` tokens a second. A
/// frame takes one, and is due when it is scheduled and there is one.
///
/// Frames take their tokens on schedule and not when somebody comes round to sending them: a late
/// frame delays no other, and the rate is exact however long it goes on. (This is the virtual scheduling
/// form of the generic cell rate algorithm, ITU-T I.371.) Only a pause is different: nothing could be sent in
/// it, so what was held back by then is not due in it either.
#[derive(Clone, Debug)]
pub struct Limit {
    rate: Rate,
    burst: u64,
    /// When the bucket will be full again, in fractions of which there are `rate.billionths` in a
    /// nanosecond: a token takes a whole number of them.
    full_at: u128,
    /// When the last pause was over: what was scheduled before that is scheduled then.
    resumed: Duration,
}

/// How long a token takes, in the fractions of `full_at`.
const TOKEN: u128 = 1_000_000_000 * 1_000_000_000;

impl Limit {
    /// A full bucket.
    pub const fn new(rate: Rate, burst: NonZeroU64) -> Self {
        Self { rate, burst: burst.get(), full_at: 0, resumed: Duration::ZERO }
    }

    /// A pause is over.
    pub fn resume(&mut self, now: Duration) {
        self.resumed = now;
    }

    /// When a frame is due that is scheduled for this time.
    pub fn due(&self, scheduled: Duration) -> Duration {
        let all_but_one = u128::from(self.burst - 1).saturating_mul(TOKEN);
        let token_at = self.full_at.saturating_sub(all_but_one).div_ceil(self.fractions());
        let token_at = Duration::from_nanos(u64::try_from(token_at).unwrap_or(u64::MAX));
        scheduled.max(self.resumed).max(token_at)
    }

    /// A frame that is scheduled for this time takes its token.
    pub fn take(&mut self, scheduled: Duration) {
        let scheduled = nanos(scheduled.max(self.resumed));
        let scheduled = u128::from(scheduled).saturating_mul(self.fractions());
        self.full_at = self.full_at.max(scheduled).saturating_add(TOKEN);
    }

    fn fractions(&self) -> u128 {
        self.rate.billionths.get().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(rate: &str, burst: u64) -> Limit {
        Limit::new(rate.parse().unwrap(), NonZeroU64::new(burst).unwrap())
    }

    /// When frames scheduled for these milliseconds are due.
    fn shaped(mut limit: Limit, scheduled: &[u64]) -> Vec<u128> {
        let due = scheduled.iter().map(|&at| {
            let at = Duration::from_millis(at);
            let due = limit.due(at).as_millis();
            limit.take(at);
            due
        });
        due.collect()
    }

    #[test]
    fn without_a_burst_frames_are_evenly_apart() {
        assert_eq!(shaped(limit("10", 1), &[0, 0, 0, 0]), [0, 100, 200, 300]);
        assert_eq!(shaped(limit("0.5", 1), &[0, 0, 0]), [0, 2000, 4000]);
    }

    #[test]
    fn a_burst_passes_at_once_and_has_to_be_saved_up_again() {
        let scheduled = [0, 0, 0, 0, 0, 350, 350, 350, 5000, 5000, 5000, 5000];
        // At 350 one token and a half are there.
        let due = [0, 0, 0, 100, 200, 350, 400, 500, 5000, 5000, 5000, 5100];
        assert_eq!(shaped(limit("10", 3), &scheduled), due);
        let due = [0, 0, 100, 200, 300, 400, 500, 600, 5000, 5000, 5100, 5200];
        assert_eq!(shaped(limit("10", 2), &scheduled), due);
    }

    #[test]
    fn what_a_pause_has_held_up_does_not_come_at_once_behind_it() {
        let mut limit = limit("10", 2);
        let at = Duration::from_millis;
        for _ in 0..4 {
            limit.take(at(0));
        }
        // Paused from 250 to 5250, so whatever was scheduled for 0 is scheduled for 5000.
        limit.resume(at(5250));
        let due = [0; 5].map(|_| {
            let due = limit.due(at(5000)).as_millis();
            limit.take(at(5000));
            due
        });
        assert_eq!(due, [5250, 5250, 5350, 5450, 5550]);
    }

    #[test]
    fn frames_that_are_rarer_are_left_alone() {
        assert_eq!(shaped(limit("10", 1), &[0, 150, 300, 450]), [0, 150, 300, 450]);
    }

    #[test]
    fn the_rate_is_exact_after_a_million_frames() {
        for (rate, billionths) in [("3", 3_000_000_000), ("0.7", 700_000_000), ("1", 1_000_000_000)]
        {
            let mut limit = limit(rate, 1);
            for _ in 0..1_000_000 {
                limit.take(Duration::ZERO);
            }
            let exact = (1_000_000 * TOKEN).div_ceil(billionths);
            assert_eq!(limit.due(Duration::ZERO).as_nanos(), exact, "{rate} a second");
        }
    }

    #[test]
    fn absurd_numbers_saturate() {
        let mut slow = limit("0.000000001", u64::MAX);
        slow.take(Duration::MAX);
        assert_eq!(slow.due(Duration::MAX), Duration::MAX);
        let mut fast = limit("18446744073.709551615", 1);
        fast.take(Duration::MAX);
        assert!(fast.due(Duration::ZERO) >= Duration::from_nanos(u64::MAX - 1));
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in ["", "0", "-1", "many", "1/s"] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.is_usage() && error.hint().is_some(), "{text}");
        }
    }
}
