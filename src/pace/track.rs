//! Where in a replay each frame is, whatever the speed.

use std::time::Duration;

use crate::entry::{Timestamp, nanos};

/// Frames of several connections are written in the order of their arrival, give or take a moment.
/// Going back further than this is no such moment: the recorder's clock was set back, or another
/// capture follows.
const OUT_OF_ORDER: Duration = Duration::from_secs(10);

/// A place in a replay, over all its rounds: so much of the recording has been played before it, and so
/// long were the delays between rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Nanoseconds of the recording's time.
    pub(super) recorded: u64,
    /// Nanoseconds of real time.
    pub(super) rested: u64,
    /// Where the last delay was, in the recording's time. At most `recorded`.
    pub(super) round_at: u64,
}

impl Position {
    /// The place in the first round before which so much of the recording is played.
    pub fn after(recorded: Duration) -> Self {
        Self { recorded: nanos(recorded), ..Self::default() }
    }

    /// The place on the way from here to the next frame before which so much of the recording is played.
    /// Before that frame there may be a delay between rounds.
    #[must_use]
    pub fn towards(self, next: Self, recorded: Duration) -> Self {
        let recorded = nanos(recorded);
        let behind = if recorded < next.round_at { self } else { next };
        Self { recorded, ..behind }
    }

    /// How much of the recording is played before it, over all rounds.
    pub const fn recorded(self) -> Duration {
        Duration::from_nanos(self.recorded)
    }
}

/// Gives each frame its [`Position`], from the moments at which frames were received. Keeps one sum in
/// whole nanoseconds, so that nothing drifts.
#[derive(Clone, Debug)]
pub struct Track {
    max_gap: Option<Duration>,
    loop_delay: Duration,
    /// The latest frame of this round; those that are out of order do not count.
    latest: Option<Timestamp>,
    /// Never decreases.
    reached: Position,
}

impl Track {
    /// Begins with the first frame it is asked about. A gap of the recording that is longer than
    /// `max_gap` counts as `max_gap`. Between two rounds there is a delay, in real time.
    pub fn new(max_gap: Option<Duration>, loop_delay: Duration) -> Self {
        Self { max_gap, loop_delay, latest: None, reached: Position::default() }
    }

    /// The same, but in the middle of a round: this moment of the recording is in this place.
    #[must_use]
    pub fn starting_at(self, moment: Timestamp, position: Position) -> Self {
        Self { latest: Some(moment), reached: position, ..self }
    }

    /// The place of the next frame. Never before that of the frame before: one that was received before
    /// its predecessor is in the same place.
    pub fn position(&mut self, received: Timestamp) -> Position {
        let latest = *self.latest.get_or_insert(received);
        if received >= latest {
            let gap = received.since(latest);
            let gap = self.max_gap.map_or(gap, |max_gap| gap.min(max_gap));
            self.reached.recorded = self.reached.recorded.saturating_add(nanos(gap));
            self.latest = Some(received);
        } else if latest.since(received) > OUT_OF_ORDER {
            // Go on from here: waiting until the old time is reached again would play all that
            // lies between in one burst.
            self.latest = Some(received);
        }
        self.reached
    }

    /// The next frame begins another round: it follows the last one after the delay.
    pub fn again(&mut self) {
        self.latest = None;
        let Position { recorded, rested, round_at } = &mut self.reached;
        *rested = rested.saturating_add(nanos(self.loop_delay));
        *round_at = *recorded;
    }

    /// Where it is.
    pub const fn reached(&self) -> Position {
        self.reached
    }

    /// Between two rounds: leaves out so many like the one that began in this place.
    pub fn skip(&mut self, rounds: u64, began: Position) {
        let Position { recorded, rested, round_at } = &mut self.reached;
        let of_all = |end: u64, begin: u64| (end - begin).saturating_mul(rounds);
        *recorded = recorded.saturating_add(of_all(*recorded, began.recorded));
        *rested = rested.saturating_add(of_all(*rested, began.rested));
        *round_at = *recorded;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where frames received at these seconds are, in seconds.
    fn places(track: &mut Track, seconds: &[u64]) -> Vec<u64> {
        let received = seconds.iter().map(|at| Timestamp::from_nanos(at * 1_000_000_000));
        received.map(|received| track.position(received).recorded().as_secs()).collect()
    }

    #[test]
    fn gaps_are_cut() {
        let mut track = Track::new(Some(Duration::from_secs(4)), Duration::ZERO);
        assert_eq!(places(&mut track, &[0, 3, 100, 101]), [0, 3, 7, 8]);
    }

    #[test]
    fn a_frame_out_of_order_is_beside_its_predecessor_and_moves_nobody_else() {
        let mut track = Track::new(None, Duration::ZERO);
        assert_eq!(places(&mut track, &[100, 105, 103, 104, 106]), [0, 5, 5, 5, 6]);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_end_in_a_burst() {
        let mut track = Track::new(None, Duration::ZERO);
        assert_eq!(places(&mut track, &[7200, 7205, 3600, 3601, 3603]), [0, 5, 5, 6, 8]);
    }

    #[test]
    fn another_round_follows_after_the_delay() {
        let mut track = Track::new(None, Duration::from_secs(7));
        assert_eq!(places(&mut track, &[50, 52, 55]), [0, 2, 5]);
        track.again();
        assert_eq!(places(&mut track, &[50, 52, 55]), [5, 7, 10]);
        track.again();
        let third = track.position(Timestamp::from_nanos(50));
        assert_eq!(third, Position { rested: 14_000_000_000, round_at: third.recorded, ..third });
        assert!(third > Position { rested: 7_000_000_000, ..third });
    }

    #[test]
    fn rounds_that_are_left_out_take_their_time() {
        let round = |track: &mut Track| {
            places(track, &[50, 52, 55]);
            track.again();
        };
        let mut played = Track::new(None, Duration::from_secs(7));
        for before in 0..3 {
            let mut skipped = Track::new(None, Duration::from_secs(7));
            let mut began = Position::default();
            for _ in 0..=before {
                began = skipped.reached();
                round(&mut skipped);
            }
            played.clone_from(&skipped);
            for _ in 0..4 {
                round(&mut played);
            }
            skipped.skip(4, began);
            assert_eq!(skipped.reached(), played.reached());
        }
        assert_eq!(places(&mut played, &[50, 52]), [35, 37]);
    }

    #[test]
    fn a_track_can_begin_in_the_middle() {
        let place = Position::after(Duration::from_secs(100));
        let track = Track::new(Some(Duration::from_secs(4)), Duration::ZERO);
        let mut track = track.starting_at(Timestamp::from_nanos(51_000_000_000), place);
        assert_eq!(places(&mut track, &[53, 54, 90]), [102, 103, 107]);
        track.again();
        assert_eq!(places(&mut track, &[50, 52]), [107, 109]);
    }

    #[test]
    fn absurd_times_saturate() {
        let mut track = Track::new(None, Duration::MAX);
        for _ in 0..2 {
            track.position(Timestamp::from_nanos(0));
            assert_eq!(track.position(Timestamp::from_nanos(u64::MAX)).recorded, u64::MAX);
            track.again();
        }
        assert_eq!(track.position(Timestamp::from_nanos(0)).rested, u64::MAX);
    }
}
