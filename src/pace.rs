//! The replay clock as a pure machine: when each frame is due.
//!
//! A [`Track`] says where in the replay a frame is, from the moments at which frames were received; a
//! [`Pace`] says when the replay gets there, whatever happens to it meanwhile: pauses, other speeds,
//! leaps, single steps; a [`Limit`] holds back what would be too much in a second. None of them reads a
//! clock: the time is an argument, counted from whatever zero the caller has, and never goes back. All
//! is kept exactly, and only an answer is rounded, to the nanosecond: there is no drift however long
//! the replay.

use std::{fmt, num::NonZeroU64, str::FromStr, time::Duration};

use self::decimal::{ONE, billionths};
pub use self::{
    limit::{Limit, Rate},
    track::{Position, Track},
};
use crate::{
    entry::nanos,
    error::{Error, Result},
};

mod decimal;
mod limit;
mod track;

/// How much faster than it was recorded a capture is played, to the billionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    /// None for as fast as the client can read.
    billionths: Option<NonZeroU64>,
}

impl Speed {
    /// As fast as the client can read: every frame is due at once.
    pub const MAX: Self = Self { billionths: None };

    /// As it was recorded.
    pub const ORIGINAL: Self = Self { billionths: NonZeroU64::new(ONE) };

    /// How long a stretch of the recording takes.
    pub fn apply(self, recorded: Duration) -> Duration {
        let Some(billionths) = self.billionths else { return Duration::ZERO };
        let nanos = u128::from(nanos(recorded)) * u128::from(ONE) / u128::from(billionths.get());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// The original speed.
impl Default for Speed {
    fn default() -> Self {
        Self::ORIGINAL
    }
}

/// As it is read.
impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(billionths) = self.billionths.map(NonZeroU64::get) else {
            return f.write_str("max");
        };
        let text = format!("{}.{:09}", billionths / ONE, billionths % ONE);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
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

/// A replay whose next frame is late by less than this is on schedule all the same: the frame is on its way,
/// and so are those behind it.
const LEEWAY: Duration = Duration::from_secs(1);

/// When a replay gets where.
#[derive(Clone, Debug)]
pub struct Pace {
    speed: Speed,
    /// Where it was
    from: Place,
    /// at this time, in nanoseconds. Both change with the speed and with a leap; a pause moves the time.
    since: u64,
    paused: Option<Pause>,
    /// The furthest frame that has been let go,
    gone: Position,
    /// and the furthest that was asked about. The replay is not beyond it.
    next: Option<Position>,
}

/// A [`Position`] to the fraction of a nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Billionths of nanoseconds of the recording's time: as many as a nanosecond brings at any speed are
    /// a whole number.
    recorded: u128,
    /// Nanoseconds of real time.
    rested: u64,
}

impl From<Position> for Place {
    fn from(position: Position) -> Self {
        let recorded = u128::from(position.recorded) * u128::from(ONE);
        Self { recorded, rested: position.rested }
    }
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    /// When it began, in nanoseconds.
    since: u64,
    /// So many frames may go all the same,
    steps: u64,
    /// since this time, in nanoseconds.
    stepped: u64,
}

impl Pace {
    /// At its beginning when the caller's clock is at zero.
    pub fn new(speed: Speed) -> Self {
        let gone = Position::default();
        Self { speed, from: gone.into(), since: 0, paused: None, gone, next: None }
    }

    /// When a frame is due. None while the replay is paused. Ask again whenever something has changed.
    pub fn due(&mut self, position: Position) -> Option<Duration> {
        if self.next < Some(position) {
            self.next = Some(position);
        }
        match self.paused {
            None => Some(Duration::from_nanos(self.since.saturating_add(self.way_to(position)))),
            Some(pause) => (pause.steps > 0).then(|| Duration::from_nanos(pause.stepped)),
        }
    }

    /// A frame that was due has been let go.
    pub fn let_go(&mut self, position: Position) {
        if self.gone < position {
            self.gone = position;
        }
        if let Some(pause) = &mut self.paused
            && pause.steps > 0
        {
            pause.steps -= 1;
            // What follows keeps its distance from this frame.
            (self.from, self.since) = (position.into(), pause.since);
        }
    }

    /// Nothing is due until the replay is resumed.
    pub fn pause(&mut self, now: Duration) {
        let since = nanos(now);
        self.paused.get_or_insert(Pause { since, steps: 0, stepped: since });
    }

    /// Goes on after a pause, from where it was.
    pub fn resume(&mut self, now: Duration) {
        if let Some(pause) = self.paused.take() {
            let lasted = nanos(now).saturating_sub(pause.since);
            self.since = self.since.saturating_add(lasted);
        }
    }

    /// Whether it is paused.
    pub const fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// In a pause, so many more frames are due at once.
    pub fn step(&mut self, now: Duration, frames: u64) {
        if let Some(pause) = &mut self.paused {
            pause.steps = pause.steps.saturating_add(frames);
            pause.stepped = nanos(now);
        }
    }

    /// Goes on with another speed from where it is. That is where the schedule is, whether the next frame
    /// is a little late or not; but one that is behind goes on from that frame.
    pub fn set_speed(&mut self, now: Duration, speed: Speed) {
        (self.from, self.since) = (self.place(now, LEEWAY), self.standing(now));
        self.speed = speed;
    }

    /// The speed.
    pub const fn speed(&self) -> Speed {
        self.speed
    }

    /// Leaps to another place, back or forth. What lies between is not the pace's to leave out: a frame
    /// before that place is due at once. Steps that are left were meant for frames before the leap.
    pub fn seek(&mut self, now: Duration, to: Position) {
        (self.from, self.since) = (to.into(), self.standing(now));
        (self.gone, self.next) = (to, None);
        if let Some(pause) = &mut self.paused {
            pause.steps = 0;
        }
    }

    /// When the replay is in a place, or was if its speed has always been this one. Pauses to come are
    /// not foreseen.
    pub fn reaches(&self, position: Position) -> Duration {
        Duration::from_nanos(u64::try_from(self.moment(position).max(0)).unwrap_or(u64::MAX))
    }

    /// How long ago that was. None if it is yet to come; in a pause, so is the place where it stands.
    pub fn passed(&self, now: Duration, position: Position) -> Option<Duration> {
        let ago = i128::from(self.standing(now)) - self.moment(position);
        let is_past = if self.is_paused() { ago > 0 } else { ago >= 0 };
        is_past.then(|| Duration::from_nanos(u64::try_from(ago).unwrap_or(u64::MAX)))
    }

    /// How long it takes from one place to another behind it.
    pub fn takes(&self, from: Position, to: Position) -> Duration {
        let takes = (self.moment(to) - self.moment(from)).max(0);
        Duration::from_nanos(u64::try_from(takes).unwrap_or(u64::MAX))
    }

    /// How much of the recording has been played, over all rounds. Never more than up to the frame that
    /// is next.
    pub fn played(&self, now: Duration) -> Duration {
        let recorded = self.place(now, Duration::ZERO).recorded / u128::from(ONE);
        Duration::from_nanos(u64::try_from(recorded).unwrap_or(u64::MAX))
    }

    /// The same when nothing follows: up to the last frame that was let go.
    pub fn played_to_its_end(&self) -> Duration {
        self.gone.recorded()
    }

    /// The time that counts: in a pause it stands still.
    fn standing(&self, now: Duration) -> u64 {
        self.paused.map_or(nanos(now), |pause| pause.since)
    }

    /// How long it takes from where it was to a position, in nanoseconds.
    fn way_to(&self, position: Position) -> u64 {
        let to = Place::from(position);
        let recorded = to.recorded.saturating_sub(self.from.recorded);
        let recorded = self.speed.billionths.map_or(0, |speed| recorded / u128::from(speed.get()));
        let rested = to.rested.saturating_sub(self.from.rested);
        u64::try_from(recorded).unwrap_or(u64::MAX).saturating_add(rested)
    }

    /// When it is or was in a place, in nanoseconds.
    fn moment(&self, position: Position) -> i128 {
        // 64 bits and the billionths: both fit twice.
        let apart = |to: u128, from: u128| to.cast_signed() - from.cast_signed();
        let to = Place::from(position);
        let recorded = apart(to.recorded, self.from.recorded);
        let recorded =
            self.speed.billionths.map_or(0, |speed| recorded.div_euclid(i128::from(speed.get())));
        let rested = apart(to.rested.into(), self.from.rested.into());
        i128::from(self.since) + recorded + rested
    }

    /// Where it is: beyond the frame that is next only if that is late by less than the leeway.
    fn place(&self, now: Duration, leeway: Duration) -> Place {
        let elapsed = self.standing(now).saturating_sub(self.since);
        // After so much of it, with delays up to there.
        let after = |rested: u64| {
            let moving = elapsed.saturating_sub(rested.saturating_sub(self.from.rested));
            let speed = self.speed.billionths.map_or(0, NonZeroU64::get);
            let recorded = u128::from(moving) * u128::from(speed);
            Place { recorded: self.from.recorded.saturating_add(recorded), rested }
        };
        let before = self.gone.rested.max(self.from.rested);
        let Some(next) = self.next else { return after(before) };
        // Every round has a frame for whoever asks: of the delays between rounds, only the one before the
        // next frame may not be over.
        let delay_at = Position { recorded: next.round_at, rested: before, ..next };
        let into_delay = elapsed.saturating_sub(self.way_to(delay_at));
        if let Some(late) = elapsed.checked_sub(self.way_to(next)) {
            let late = if late < nanos(leeway) { late } else { 0 };
            let speed = self.speed.billionths.map_or(0, NonZeroU64::get);
            let next = Place::from(next);
            let beyond = u128::from(late) * u128::from(speed);
            Place { recorded: next.recorded.saturating_add(beyond), ..next }
        } else if next.rested <= before || into_delay == 0 {
            after(before)
        } else if into_delay < next.rested - before {
            Place { rested: before + into_delay, ..Place::from(delay_at) }
        } else {
            after(next.rested)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Timestamp;

    const SECOND: u64 = 1_000_000_000;

    fn speed(text: &str) -> Speed {
        text.parse().unwrap()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The place before which so many seconds are played.
    fn after(seconds: u64) -> Position {
        Position::after(at(seconds))
    }

    /// When frames received at these seconds are due, in milliseconds.
    fn schedule(text: &str, mut track: Track, seconds: &[u64]) -> Vec<u128> {
        let mut pace = Pace::new(speed(text));
        let received = seconds.iter().map(|at| Timestamp::from_nanos(at * SECOND));
        received.map(|at| pace.due(track.position(at)).unwrap().as_millis()).collect()
    }

    #[test]
    fn frames_keep_their_distance_divided_by_the_speed() {
        let received = [1000, 1001, 1001, 1010, 1070];
        let at = |text| schedule(text, Track::new(None, Duration::ZERO), &received);
        assert_eq!(at("1"), [0, 1000, 1000, 10_000, 70_000]);
        assert_eq!(at("10"), [0, 100, 100, 1000, 7000]);
        assert_eq!(at("0.5"), [0, 2000, 2000, 20_000, 140_000]);
        assert_eq!(at("max"), [0; 5]);
    }

    #[test]
    fn a_gap_is_capped_before_the_speed_is_applied() {
        let track = Track::new(Some(at(4)), Duration::ZERO);
        assert_eq!(schedule("2", track, &[0, 3, 100, 101]), [0, 1500, 3500, 4000]);
    }

    #[test]
    fn the_delay_between_rounds_takes_as_long_at_any_speed() {
        let mut track = Track::new(None, at(7));
        let mut pace = Pace::new(speed("10"));
        let mut due = Vec::new();
        for _ in 0..3 {
            for second in [50, 60, 80] {
                let position = track.position(Timestamp::from_nanos(second * SECOND));
                due.push(pace.due(position).unwrap().as_secs());
                pace.let_go(position);
            }
            track.again();
        }
        assert_eq!(due, [0, 1, 3, 10, 11, 13, 20, 21, 23]);
    }

    #[test]
    fn there_is_no_drift_over_a_million_frames() {
        // Distances and speeds that no float and no nanosecond can hold exactly.
        for text in ["3", "0.7", "1.000000001", "0.333333333", "97.3"] {
            let (mut track, mut pace) = (Track::new(None, Duration::ZERO), Pace::new(speed(text)));
            let step = 3_333_337;
            let start = 1_795_000_000 * SECOND;
            let mut last = Duration::ZERO;
            for number in 0..=1_000_000 {
                let position = track.position(Timestamp::from_nanos(start + number * step));
                last = pace.due(position).unwrap();
            }
            let exact = u128::from(step) * 1_000_000 * u128::from(SECOND)
                / u128::from(billionths(text).unwrap());
            assert_eq!(last.as_nanos(), exact, "speed {text}");
        }
    }

    #[test]
    fn a_pause_moves_all_that_follows_and_nothing_else() {
        let mut pace = Pace::new(speed("2"));
        assert_eq!(pace.due(after(10)), Some(at(5)));
        pace.pause(at(4));
        pace.pause(at(5));
        assert_eq!((pace.due(after(10)), pace.is_paused()), (None, true));
        assert_eq!((pace.played(at(4)), pace.played(at(60))), (at(8), at(8)));
        pace.resume(at(104));
        pace.resume(at(110));
        assert_eq!((pace.due(after(10)), pace.is_paused()), (Some(at(105)), false));
        assert_eq!(pace.played(at(104)), at(8));
    }

    #[test]
    fn another_speed_counts_from_where_the_replay_is() {
        let mut pace = Pace::new(speed("1"));
        pace.due(after(100));
        pace.set_speed(at(10), speed("5"));
        assert_eq!(pace.due(after(100)), Some(at(28)));
        pace.set_speed(at(20), speed("0.5"));
        assert_eq!((pace.due(after(100)), pace.played(at(20))), (Some(at(100)), at(60)));
        pace.set_speed(at(30), Speed::MAX);
        assert_eq!(pace.due(after(100)), Some(at(30)));
        pace.let_go(after(100));
        assert_eq!(pace.due(after(107)), Some(at(30)));
        pace.set_speed(at(31), speed("1"));
        assert_eq!((pace.due(after(107)), pace.due(after(109))), (Some(at(31)), Some(at(33))));
    }

    #[test]
    fn another_speed_in_a_pause_counts_when_it_is_over() {
        let mut pace = Pace::new(speed("1"));
        pace.due(after(100));
        pace.pause(at(10));
        pace.set_speed(at(15), speed("9"));
        assert_eq!(pace.due(after(100)), None);
        pace.resume(at(20));
        assert_eq!(pace.due(after(100)), Some(at(30)));
    }

    #[test]
    fn another_speed_leaves_the_delay_between_rounds_as_it_is() {
        // Two seconds, a delay of ten, two more seconds.
        let next = Position { recorded: 4 * SECOND, rested: 10 * SECOND, round_at: 2 * SECOND };
        let due_after = |change: u64| {
            let mut pace = Pace::new(speed("1"));
            pace.due(next);
            pace.set_speed(at(change), speed("2"));
            pace.due(next).unwrap().as_millis()
        };
        assert_eq!(
            [0, 1, 2, 7, 12, 13].map(due_after),
            [12_000, 12_500, 13_000, 13_000, 13_000, 13_500]
        );
    }

    #[test]
    fn a_replay_that_is_behind_is_not_beyond_its_next_frame() {
        let mut pace = Pace::new(speed("1"));
        assert_eq!(pace.due(after(10)), Some(at(10)));
        assert_eq!((pace.played(at(9)), pace.played(at(50))), (at(9), at(10)));
        pace.set_speed(at(50), speed("2"));
        assert_eq!((pace.due(after(10)), pace.due(after(12))), (Some(at(50)), Some(at(51))));
    }

    #[test]
    fn a_frame_that_is_late_when_the_speed_is_changed_delays_nothing_behind_it() {
        let mut pace = Pace::new(speed("4"));
        assert_eq!(pace.due(after(40)), Some(at(10)));
        let late = at(10) + Duration::from_millis(500);
        assert_eq!(pace.played(late), at(40));
        pace.set_speed(late, speed("1"));
        assert_eq!((pace.due(after(40)), pace.due(after(42))), (Some(late), Some(late)));
        assert_eq!(pace.due(after(43)), Some(late + at(1)));
    }

    #[test]
    fn a_leap_goes_on_from_there() {
        let mut pace = Pace::new(speed("2"));
        pace.due(after(40));
        pace.seek(at(10), after(100));
        assert_eq!(pace.due(after(90)), Some(at(10)));
        assert_eq!(pace.due(after(110)), Some(at(15)));
        pace.seek(at(12), after(0));
        assert_eq!((pace.due(after(8)), pace.played(at(13))), (Some(at(16)), at(2)));
        pace.pause(at(14));
        pace.seek(at(20), after(50));
        pace.resume(at(30));
        assert_eq!(pace.due(after(60)), Some(at(35)));
    }

    #[test]
    fn what_is_past_is_told_whatever_has_happened() {
        let mut pace = Pace::new(speed("2"));
        let passed = |pace: &Pace, now, place| pace.passed(at(now), after(place));
        assert_eq!(passed(&pace, 3, 7), None);
        assert_eq!((passed(&pace, 3, 6), passed(&pace, 4, 6)), (Some(at(0)), Some(at(1))));
        // At 8 s of the recording. A frame there would wait for the end of the pause.
        pace.pause(at(4));
        assert_eq!((passed(&pace, 60, 8), passed(&pace, 60, 6)), (None, Some(at(1))));
        pace.resume(at(60));
        pace.set_speed(at(60), speed("4"));
        // As if it had come so far at this speed.
        assert_eq!((passed(&pace, 60, 8), passed(&pace, 61, 4)), (Some(at(0)), Some(at(2))));
        assert_eq!((pace.reaches(after(16)), pace.reaches(after(4))), (at(62), at(59)));
        pace.seek(at(62), after(100));
        assert_eq!(
            (passed(&pace, 62, 99), passed(&pace, 62, 101)),
            (Some(at(0) + at(1) / 4), None)
        );
        assert_eq!(pace.reaches(after(0)), at(37));
        assert_eq!(Pace::new(Speed::MAX).passed(at(0), after(100)), Some(at(0)));
    }

    #[test]
    fn a_speed_is_shown_as_it_is_read() {
        for text in ["1", "100", "0.5", "97.3", "0.000000001", "1.000000001", "max"] {
            assert_eq!(speed(text).to_string(), text);
        }
    }

    #[test]
    fn steps_let_frames_go_in_a_pause_and_the_rest_keeps_its_distance() {
        let mut pace = Pace::new(speed("1"));
        pace.step(at(0), 5);
        assert_eq!(pace.due(after(10)), Some(at(10)), "there is nothing to step out of a pause");
        pace.pause(at(4));
        pace.step(at(50), 2);
        for second in [10, 30] {
            assert_eq!(pace.due(after(second)), Some(at(50)));
            pace.let_go(after(second));
        }
        assert_eq!(pace.due(after(35)), None);
        pace.resume(at(100));
        assert_eq!(pace.due(after(35)), Some(at(105)));
    }

    #[test]
    fn steps_that_are_left_do_not_survive_a_leap() {
        let mut pace = Pace::new(speed("1"));
        pace.pause(at(4));
        pace.step(at(5), 10);
        pace.let_go(after(10));
        pace.seek(at(6), after(3));
        assert_eq!(pace.due(after(10)), None);
        pace.step(at(7), 1);
        assert_eq!(pace.due(after(10)), Some(at(7)));
        pace.let_go(after(10));
        assert_eq!(pace.due(after(11)), None);
    }

    /// A replay of ten minutes, played as a caller would: a frame every 100 ms, a delay of 3 s between
    /// rounds of 150 s, and in between whatever the script says.
    #[test]
    fn ten_minutes_with_pauses_leaps_and_other_speeds_end_where_arithmetic_says() {
        type Change = fn(&mut Pace, Duration);
        let script: [(u64, Change); 10] = [
            // 20 s played. Ten seconds of nothing.
            (20_000, |pace, now| pace.pause(now)),
            (30_000, |pace, now| pace.resume(now)),
            // 33.333 s played. Then 0.7 of 50 s more: 68.333 s.
            (43_333, |pace, now| pace.set_speed(now, speed("0.7"))),
            (93_333, |pace, now| pace.set_speed(now, speed("3"))),
            // 15 s more at three times: 113.333 s. Back by 100 s.
            (108_333, |pace, now| pace.seek(now, Position::after(Duration::from_millis(13_333)))),
            (109_333, |pace, now| pace.pause(now)),
            // 16.333 s played. Another speed in a pause, and two pauses in one.
            (110_000, |pace, now| pace.set_speed(now, speed("1.1"))),
            (111_000, |pace, now| pace.pause(now)),
            (129_333, |pace, now| pace.resume(now)),
            // 11 s in 10 s: 27.333 s played. Then at the original speed to the end.
            (139_333, |pace, now| pace.set_speed(now, Speed::ORIGINAL)),
        ];
        // 139.333 s so far, 572.667 s left of 600, and three delays.
        let expected = at(139 + 573 + 3 * 3);

        let mut track = Track::new(None, at(3));
        let mut frames = Vec::new();
        for _ in 0..4 {
            frames.extend(
                (0..=1500).map(|tenth| track.position(Timestamp::from_nanos(tenth * SECOND / 10))),
            );
            track.again();
        }
        let mut pace = Pace::new(Speed::ORIGINAL);
        let mut script = script.into_iter().peekable();
        let (mut next, mut now) = (0, Duration::ZERO);
        while next < frames.len() {
            let due = pace.due(frames[next]);
            let change = script.peek().map(|&(millis, _)| Duration::from_millis(millis));
            match (due, change) {
                (Some(due), change) if change.is_none_or(|change| due <= change) => {
                    assert!(due >= now, "frame {next} was due at {due:?}, before {now:?}");
                    now = due;
                    pace.let_go(frames[next]);
                    next += 1;
                }
                (_, Some(at)) => {
                    let (_, change) = script.next().unwrap();
                    let before = pace.played(at);
                    change(&mut pace, at);
                    // After a leap the frames from there follow.
                    if pace.played(at) < before {
                        let played = pace.played(at);
                        next = frames.iter().position(|frame| frame.recorded() >= played).unwrap();
                    }
                    now = at;
                }
                (None, None) => panic!("paused for ever"),
                (Some(_), None) => unreachable!(),
            }
        }
        assert!(script.next().is_none());
        assert!(now.abs_diff(expected) < Duration::from_millis(20), "{now:?}, not {expected:?}");
        // It is no rounding that makes the difference.
        assert!(now.abs_diff(expected) <= Duration::from_nanos(1), "{now:?}, not {expected:?}");
    }

    /// The same as a clock that is moved on from one change to the next, and remembers nothing else.
    #[test]
    fn whatever_is_changed_it_is_where_a_clock_would_be_that_adds_up() {
        let mut dice = fastrand::Rng::with_seed(5);
        for _ in 0..2000 {
            let mut pace = Pace::new(Speed::ORIGINAL);
            // In billionths of a nanosecond of the recording, and whether it moves.
            let (mut place, mut billionths, mut moves) = (0_u128, ONE, true);
            let mut now = 0_u64;
            for _ in 0..dice.usize(0..20) {
                let passes = dice.u64(0..100 * SECOND);
                now += passes;
                place += u128::from(billionths) * u128::from(passes) * u128::from(moves);
                let at = Duration::from_nanos(now);
                match dice.u8(0..4) {
                    0 => (moves, ()) = (false, pace.pause(at)),
                    1 => (moves, ()) = (true, pace.resume(at)),
                    2 => {
                        billionths = dice.u64(1..100 * ONE);
                        let speed = Speed { billionths: NonZeroU64::new(billionths) };
                        pace.set_speed(at, speed);
                    }
                    _ => {
                        let to = dice.u64(0..1000 * SECOND);
                        place = u128::from(to) * u128::from(ONE);
                        pace.seek(at, Position::after(Duration::from_nanos(to)));
                    }
                }
                let played = u128::from(nanos(pace.played(at)));
                assert_eq!(played, place / u128::from(ONE));
            }
            let to = u64::try_from(place / u128::from(ONE)).unwrap() + dice.u64(1..1000 * SECOND);
            let left = u128::from(to) * u128::from(ONE) - place;
            let due = u128::from(now) + left / u128::from(billionths);
            let found = pace.due(Position::after(Duration::from_nanos(to)));
            match found {
                None => assert!(!moves),
                // Whole nanoseconds of it are over, and parts of one are not counted twice.
                Some(found) => {
                    assert!(moves && found.as_nanos().abs_diff(due) <= 1, "{found:?} {due}");
                }
            }
        }
    }

    #[test]
    fn changing_nothing_again_and_again_costs_nothing() {
        for text in ["0.3", "1", "7.7", "0.000000003"] {
            let mut pace = Pace::new(speed(text));
            let due = pace.due(after(1_000_000)).unwrap();
            for number in 1..10_000 {
                let now = Duration::from_nanos(number * 333_333_337);
                pace.pause(now);
                pace.resume(now);
                pace.set_speed(now, speed(text));
            }
            assert_eq!(pace.due(after(1_000_000)), Some(due), "speed {text}");
        }
    }

    #[test]
    fn absurd_times_saturate() {
        let mut track = Track::new(None, Duration::MAX);
        let mut pace = Pace::new(speed("0.000000001"));
        let last = Duration::from_nanos(u64::MAX);
        for _ in 0..2 {
            pace.due(track.position(Timestamp::from_nanos(0)));
            let end = track.position(Timestamp::from_nanos(u64::MAX));
            assert_eq!(pace.due(end), Some(last));
            track.again();
        }
        pace.set_speed(Duration::MAX, speed("18446744073"));
        assert_eq!(pace.due(track.position(Timestamp::from_nanos(7))), Some(last));
        pace.played(Duration::MAX);
    }

    #[test]
    fn what_is_finer_than_a_billionth_is_rounded() {
        for (text, expected) in [
            ("0.3333333333333333", "0.333333333"),
            ("1.0000000005", "1.000000001"),
            ("2.99999999999", "3"),
            ("0.0000000005", "0.000000001"),
        ] {
            assert_eq!(speed(text).to_string(), expected);
        }
        assert!("18446744073.7095516159".parse::<Speed>().is_err(), "it does not fit");
    }

    #[test]
    fn an_exponent_moves_the_point() {
        for (text, expected) in [
            ("1e3", "1000"),
            ("1.5E+2", "150"),
            ("25e-1", "2.5"),
            ("0.00012e4", "1.2"),
            ("123456789.5e-9", "0.12345679"),
            ("5e-10", "0.000000001"),
            ("000.0001e14", "10000000000"),
        ] {
            assert_eq!(speed(text).to_string(), expected);
        }
        for text in ["4e-10", "1e-2147483648", "1e11", "1e2147483647", "1e9999999999", "0e9"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in
            ["", "0", "0.0", "-1", "1e", "e3", "1e1.5", "fast", ".5", "1.", "0.0000000004", "inf"]
        {
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
