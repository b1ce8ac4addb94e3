//! Frames that look live: from where to where their times are moved.

use tokio::time::Instant;

use super::feed::Cue;
use crate::{
    entry::Timestamp,
    pace::Speed,
    restamp::{Moved, Restamp, Shift},
};

/// The times that one client sees.
pub(super) struct Stamper {
    /// The same moment by both clocks: a wall clock that is set meanwhile changes nothing.
    zero: (Instant, Timestamp),
    /// The latest time of an envelope,
    highest: Timestamp,
    round: u64,
    /// and that of all rounds before. Later rounds stay above it.
    floor: Timestamp,
}

impl Stamper {
    pub(super) fn new() -> Self {
        Self {
            zero: (Instant::now(), Timestamp::now()),
            highest: Timestamp::default(),
            round: 0,
            floor: Timestamp::default(),
        }
    }

    /// The frames of another place follow: none becomes earlier than those before.
    pub(super) fn leap(&mut self) {
        (self.round, self.floor) = (0, self.highest);
    }

    /// Moves the times of a frame that is sent at this moment.
    pub(super) fn stamp(&mut self, cue: &mut Cue, restamp: &Restamp, at: Instant, speed: Speed) {
        if cue.round > self.round {
            (self.round, self.floor) = (cue.round, self.highest);
        }
        let (instant, wall) = self.zero;
        let sent = match at.checked_duration_since(instant) {
            Some(after) => wall.after(after),
            None => wall.before(instant - at),
        };
        let shift = Shift { received: cue.received, sent, speed, floor: self.floor };
        let Moved { data, sent, .. } = restamp.apply(&cue.frame.data, &shift);
        cue.frame.data = data;
        self.highest = self.highest.max(sent.unwrap_or_default());
    }
}
