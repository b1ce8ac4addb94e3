//! The time, for a recording during which somebody may set the wall clock.
//!
//! Entries carry the wall clock's time, be it right or wrong. That it was set can be seen: it is looked
//! at together with a clock that nobody sets, and where the two did not move alike, the difference is a
//! step, which goes to the ledger. Nothing else hangs on the wall clock; what waits or times out goes by
//! the other one.

use std::{sync::Arc, time::Duration};

use crate::entry::{Timestamp, session_event::ClockStepped};

/// Clocks that differ by no more than this are just being adjusted, or a second is a leap second.
const LEAST_STEP: Duration = Duration::from_secs(1);

/// Whom a recording asks for the time.
pub trait Clock: Send + Sync {
    /// Looks at both clocks together.
    fn look(&self) -> Reading;
}

/// What both clocks say at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The wall clock: anybody may set it.
    pub wall: Timestamp,
    /// The time since whenever, by a clock that nobody sets. Never less than before.
    pub steady: Duration,
}

impl Reading {
    /// The wall clock's time of an earlier reading, by what the wall clock says by now. Exactly that, unless it was
    /// set meanwhile: there is always some time between two clocks that one looks at.
    pub(super) fn time_of(self, earlier: Self) -> Timestamp {
        step(earlier, self).map_or(earlier.wall, |step| step.by_new_clock(earlier.wall))
    }
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    #[cfg(not(target_os = "linux"))]
    started: std::time::Instant,
}

impl SystemClock {
    /// As of now.
    pub fn new() -> Self {
        Self {
            #[cfg(not(target_os = "linux"))]
            started: std::time::Instant::now(),
        }
    }

    /// This clock goes on while the machine sleeps, other than that of `Instant`: waking up is no step.
    #[cfg(target_os = "linux")]
    #[allow(clippy::unused_self, reason = "elsewhere there is something to count from")]
    fn steady(self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        time.try_into().unwrap_or_default()
    }

    #[cfg(not(target_os = "linux"))]
    fn steady(self) -> Duration {
        self.started.elapsed()
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn look(&self) -> Reading {
        Reading { wall: Timestamp::now(), steady: self.steady() }
    }
}

/// Somebody who looks at the clock again and again.
pub(super) struct Watch {
    clock: Arc<dyn Clock>,
    last: Reading,
}

impl Watch {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let last = clock.look();
        Self { clock, last }
    }

    /// Now, and by how much the wall clock was set since the last look, if it was.
    pub(super) fn look(&mut self) -> (Timestamp, Option<ClockStepped>) {
        let now = self.clock.look();
        let step = step(self.last, now);
        self.last = now;
        (now.wall, step)
    }

    /// What both clocks said at the last look.
    pub(super) const fn last(&self) -> Reading {
        self.last
    }
}

fn step(last: Reading, now: Reading) -> Option<ClockStepped> {
    let expected = last.wall.after(now.steady.saturating_sub(last.steady));
    let (from_ns, to_ns) = (expected.as_nanos(), now.wall.as_nanos());
    let size = Duration::from_nanos(from_ns.abs_diff(to_ns));
    (size > LEAST_STEP).then_some(ClockStepped { from_ns, to_ns })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn look(wall_millis: u64, steady_millis: u64) -> Reading {
        Reading {
            wall: Timestamp::from_nanos(wall_millis * SECOND / 1000),
            steady: Duration::from_millis(steady_millis),
        }
    }

    #[test]
    fn only_clocks_that_do_not_move_alike_are_a_step() {
        let last = look(1_000_000, 500);
        for now in [look(1_000_000, 500), look(1_900_000, 900_500), look(1_011_000, 10_500)] {
            assert_eq!(step(last, now), None, "{now:?}");
        }
        let seconds = |from, to| ClockStepped { from_ns: from * SECOND, to_ns: to * SECOND };
        assert_eq!(step(last, look(1_090_000, 10_500)), Some(seconds(1010, 1090)));
        assert_eq!(step(last, look(5_000, 10_500)), Some(seconds(1010, 5)));
    }

    #[test]
    fn a_time_is_what_it_was_unless_the_clock_was_set() {
        let earlier = look(1_000_000, 500);
        let times =
            [(1_010_000, 10_500), (1_009_990, 10_500), (1_010_000, 10_900), (5_000, 10_500)];
        let times = times.map(|(wall, steady)| look(wall, steady).time_of(earlier));
        let by_new_clock = Timestamp::from_nanos(5 * SECOND).before(Duration::from_secs(10));
        assert_eq!(times, [earlier.wall, earlier.wall, earlier.wall, by_new_clock]);
    }

    #[test]
    fn the_machines_own_clocks_move_alike() {
        let mut watch = Watch::new(Arc::new(SystemClock::new()));
        let before = watch.last;
        let (now, step) = watch.look();
        assert!(step.is_none() && now >= before.wall && watch.last.steady >= before.steady);
    }
}
