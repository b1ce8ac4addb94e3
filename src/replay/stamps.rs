//! Frames that look live: which descriptor moves the times of a frame, and from where to where.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::Instant;

use super::feed::Cue;
use crate::{
    entry::{FrameType, Timestamp},
    error::Result,
    pace::Speed,
    restamp::{Moved, Restamp, Shift},
    schema,
};

/// What moves the times of each type of frames. Descriptors take long to load: all clients share this.
#[derive(Default)]
pub(super) struct Stamps {
    known: Mutex<HashMap<FrameType, Arc<Restamp>>>,
}

impl Stamps {
    fn of(&self, kind: &FrameType) -> Result<Arc<Restamp>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(restamp) = known.get(kind) {
            return Ok(Arc::clone(restamp));
        }
        let pool = schema::from_descriptor_set(&kind.descriptors, "the capture")?;
        let restamp = Arc::new(Restamp::new(&schema::message(&pool, &kind.envelope)?));
        known.insert(kind.clone(), Arc::clone(&restamp));
        Ok(restamp)
    }
}

/// The same for one reader, found by address: a capture has few types, but as many frames as it likes.
#[derive(Default)]
pub(super) struct Known {
    types: Vec<(Arc<FrameType>, Option<Arc<Restamp>>)>,
}

/// Every round brings its own: those of earlier ones are forgotten.
const TYPES_KEPT: usize = 64;

impl Known {
    /// What moves the times of such frames; None if its descriptors make no sense, which is told once.
    pub(super) fn of(
        &mut self,
        kind: &Arc<FrameType>,
        stamps: &Stamps,
        tell: impl FnOnce(crate::error::Error),
    ) -> Option<Arc<Restamp>> {
        if let Some((_, known)) = self.types.iter().find(|(known, _)| Arc::ptr_eq(known, kind)) {
            return known.clone();
        }
        let restamp = stamps.of(kind).map_err(tell).ok();
        if self.types.len() >= TYPES_KEPT {
            self.types.clear();
        }
        self.types.push((Arc::clone(kind), restamp.clone()));
        restamp
    }
}

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
        let Moved { data, sent } = restamp.apply(&cue.frame.data, &shift);
        cue.frame.data = data;
        self.highest = self.highest.max(sent.unwrap_or_default());
    }
}
