//! What a client under control is told to do.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    entry::Timestamp,
    fault::{Faults, Spoiler},
    pace::{Pace, Position, Speed},
};

/// Where a replay begins that somebody has sent elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replay) struct Origin {
    /// The first frame that was not received before this is the first that is sent.
    pub received: Timestamp,
    /// Where that moment is.
    pub position: Position,
}

/// The replay goes on somewhere else: at the beginning, if it has no origin.
#[derive(Clone, Copy, Debug)]
pub(in crate::replay) struct Leap(pub Option<Origin>);

/// What happens to a clock.
#[derive(Clone, Copy, Debug)]
pub(in crate::replay) enum Change {
    Pause,
    Resume,
    Step(u64),
    Speed(Speed),
    Leap(Leap),
}

impl Change {
    pub(in crate::replay) fn apply(self, pace: &mut Pace, now: Duration) {
        match self {
            Self::Pause => pace.pause(now),
            Self::Resume => pace.resume(now),
            Self::Step(frames) => pace.step(now, frames),
            Self::Speed(speed) => pace.set_speed(now, speed),
            Self::Leap(Leap(origin)) => {
                pace.seek(now, origin.map(|origin| origin.position).unwrap_or_default());
            }
        }
    }

    pub(in crate::replay) const fn leap(self) -> Option<Leap> {
        match self {
            Self::Leap(leap) => Some(leap),
            _ => None,
        }
    }
}

/// What a client is told.
pub(in crate::replay) enum Order {
    /// Its own clock changes at that instant.
    Change(Instant, Change),
    /// The clock of all is this one at that time by it.
    Clock(Duration, Pace, Option<Leap>),
    /// More rules for what goes wrong.
    Inject(Faults),
    /// All that was counted begins anew, and this is what goes wrong then.
    Renew(Box<Spoiler>),
}
