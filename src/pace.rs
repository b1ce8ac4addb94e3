//! The replay clock as a pure machine: when each frame is due, counted from a client's own zero.
//!
//! [`Pace`] is handed the moments at which the frames were received and never reads a clock. It keeps
//! one sum, in whole nanoseconds of the recording's time, and divides it by the speed only for the
//! answer: nothing is rounded twice, so there is no drift however long the replay.

use std::{num::NonZeroU64, str::FromStr, time::Duration};

use crate::{
    entry::Timestamp,
    error::{Error, Result},
};

/// Frames of several connections are written in the order of their arrival, give or take a moment.
/// Going back further than this is no such moment: the recorder's clock was set back, or another
/// capture follows.
const OUT_OF_ORDER: Duration = Duration::from_secs(10);

/// How much faster than it was recorded a capture is played, exact to the billionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    /// None for as fast as the client can read.
    billionths: Option<NonZeroU64>,
}

impl Speed {
    const ONE: u64 = 1_000_000_000;

    /// As fast as the client can read: every frame is due at once.
    pub const MAX: Self = Self { billionths: None };

    /// As it was recorded.
    pub const ORIGINAL: Self = Self { billionths: NonZeroU64::new(Self::ONE) };

    fn apply(self, nanos: u64) -> Duration {
        let Some(billionths) = self.billionths else { return Duration::ZERO };
        // The product has 128 bits at most: nothing is lost before the division.
        let due = u128::from(nanos) * u128::from(Self::ONE) / u128::from(billionths.get());
        Duration::from_nanos(u64::try_from(due).unwrap_or(u64::MAX))
    }
}

/// The original speed.
impl Default for Speed {
    fn default() -> Self {
        Self::ORIGINAL
    }
}

/// `1`, `0.5`, `100` or `max`.
impl FromStr for Speed {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "max" {
            return Ok(Self::MAX);
        }
        let speed = billionths(text).and_then(NonZeroU64::new);
        speed.map(|speed| Self { billionths: Some(speed) }).ok_or_else(|| {
            Error::usage("a speed", format!("{text:?}"), "speeds look like 1, 0.5, 100 or max")
        })
    }
}

/// A decimal number, without the detour over a float that would round it.
fn billionths(text: &str) -> Option<u64> {
    const DIGITS: usize = 9;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > DIGITS {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<DIGITS$}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(Speed::ONE)?.checked_add(fraction)
}

/// How many times the capture is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounds {
    /// So many times.
    Times(NonZeroU64),
    /// Until somebody ends it.
    Forever,
}

impl Rounds {
    /// Whether another round follows when `played` are over.
    pub const fn go_on_after(self, played: u64) -> bool {
        match self {
            Self::Times(times) => played < times.get(),
            Self::Forever => true,
        }
    }
}

/// Once.
impl Default for Rounds {
    fn default() -> Self {
        Self::Times(NonZeroU64::MIN)
    }
}

/// `3` or `forever`.
impl FromStr for Rounds {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "forever" {
            return Ok(Self::Forever);
        }
        text.parse().map(Self::Times).map_err(|_| {
            Error::usage(
                "a number of rounds",
                format!("{text:?}"),
                "--loop takes 1, 2, ... or forever",
            )
        })
    }
}

/// The schedule of one client.
#[derive(Clone, Debug)]
pub struct Pace {
    speed: Speed,
    max_gap: Option<Duration>,
    /// The latest frame of this round; those that are out of order do not count.
    latest: Option<Timestamp>,
    /// Time of the recording that has been played. Never decreases.
    played: u64,
}

impl Pace {
    /// A schedule that begins with the first frame it is asked about. A gap of the recording that is
    /// longer than `max_gap` counts as `max_gap`, before the speed is applied.
    pub const fn new(speed: Speed, max_gap: Option<Duration>) -> Self {
        Self { speed, max_gap, latest: None, played: 0 }
    }

    /// When the next frame is due, counted from the client's zero. Never earlier than the frame before:
    /// one that was received before its predecessor is due together with it.
    pub fn due(&mut self, received: Timestamp) -> Duration {
        let latest = *self.latest.get_or_insert(received);
        if received >= latest {
            let gap = received.since(latest);
            let gap = self.max_gap.map_or(gap, |max_gap| gap.min(max_gap));
            let gap = u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX);
            self.played = self.played.saturating_add(gap);
            self.latest = Some(received);
        } else if latest.since(received) > OUT_OF_ORDER {
            // Go on from here: waiting until the old time is reached again would play all that
            // lies between in one burst.
            self.latest = Some(received);
        }
        self.speed.apply(self.played)
    }

    /// The next frame begins another round: it follows the last one without a gap.
    pub const fn again(&mut self) {
        self.latest = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn speed(text: &str) -> Speed {
        text.parse().unwrap()
    }

    /// When frames received at these seconds are due, in milliseconds.
    fn schedule(mut pace: Pace, seconds: &[u64]) -> Vec<u128> {
        let due = seconds.iter().map(|at| pace.due(Timestamp::from_nanos(at * SECOND)).as_millis());
        due.collect()
    }

    #[test]
    fn frames_keep_their_distance_divided_by_the_speed() {
        let received = [1000, 1001, 1001, 1010, 1070];
        let at = |text| schedule(Pace::new(speed(text), None), &received);
        assert_eq!(at("1"), [0, 1000, 1000, 10_000, 70_000]);
        assert_eq!(at("10"), [0, 100, 100, 1000, 7000]);
        assert_eq!(at("0.5"), [0, 2000, 2000, 20_000, 140_000]);
        assert_eq!(at("max"), [0; 5]);
    }

    #[test]
    fn a_gap_is_capped_before_the_speed_is_applied() {
        let pace = Pace::new(speed("2"), Some(Duration::from_secs(4)));
        assert_eq!(schedule(pace, &[0, 3, 100, 101]), [0, 1500, 3500, 4000]);
    }

    #[test]
    fn a_frame_out_of_order_is_due_with_its_predecessor_and_moves_nobody_else() {
        let pace = Pace::new(Speed::ORIGINAL, None);
        assert_eq!(schedule(pace, &[100, 105, 103, 104, 106]), [0, 5000, 5000, 5000, 6000]);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_end_in_a_burst() {
        let pace = Pace::new(Speed::ORIGINAL, None);
        assert_eq!(schedule(pace, &[7200, 7205, 3600, 3601, 3603]), [0, 5000, 5000, 6000, 8000]);
    }

    #[test]
    fn another_round_follows_without_a_gap() {
        let mut pace = Pace::new(Speed::ORIGINAL, None);
        let round = [50, 52, 55].map(|second| Timestamp::from_nanos(second * SECOND));
        let first = round.map(|received| pace.due(received).as_secs());
        pace.again();
        let second = round.map(|received| pace.due(received).as_secs());
        assert_eq!((first, second), ([0, 2, 5], [5, 7, 10]));
    }

    #[test]
    fn there_is_no_drift_over_a_million_frames() {
        // Distances and speeds that no float and no nanosecond can hold exactly.
        for text in ["3", "0.7", "1.000000001", "0.333333333", "97.3"] {
            let mut pace = Pace::new(speed(text), None);
            let step = 3_333_337;
            let start = 1_795_000_000 * SECOND;
            let mut last = Duration::ZERO;
            for number in 0..=1_000_000 {
                last = pace.due(Timestamp::from_nanos(start + number * step));
            }
            let exact = u128::from(step) * 1_000_000 * u128::from(SECOND)
                / u128::from(billionths(text).unwrap());
            assert_eq!(last.as_nanos(), exact, "speed {text}");
        }
    }

    #[test]
    fn absurd_times_saturate() {
        let mut pace = Pace::new(speed("0.000000001"), None);
        pace.due(Timestamp::from_nanos(0));
        assert_eq!(pace.due(Timestamp::from_nanos(u64::MAX)), Duration::from_nanos(u64::MAX));
        pace.again();
        pace.due(Timestamp::from_nanos(0));
        assert_eq!(pace.due(Timestamp::from_nanos(u64::MAX)), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in ["", "0", "0.0", "-1", "1e3", "fast", ".5", "1.", "1.0000000001", "inf"] {
            let error = text.parse::<Speed>().unwrap_err();
            assert!(error.is_usage() && error.hint().is_some(), "{text}");
        }
        for text in ["", "0", "-1", "ever"] {
            assert!(text.parse::<Rounds>().unwrap_err().is_usage(), "{text}");
        }
        assert_eq!("forever".parse::<Rounds>().unwrap(), Rounds::Forever);
        assert!(Rounds::default().go_on_after(0) && !Rounds::default().go_on_after(1));
    }
}
