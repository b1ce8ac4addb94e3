//! A few frames of each topic, spread evenly over all there are.

use std::collections::HashMap;

use crate::{entry::Entry, error::Result};

/// Which frames are taken. Made from all there are, before the first is taken.
#[derive(Clone)]
pub(super) struct Sample {
    wanted: u64,
    topics: HashMap<String, Topic>,
}

#[derive(Clone, Default)]
struct Topic {
    /// How many frames there are,
    all: u64,
    /// and have come by. A recording that goes on may have got more meanwhile.
    seen: u64,
}

impl Sample {
    /// So many frames of each topic at most. What cannot be read is told when it is read again.
    pub(super) fn of(wanted: u64, entries: impl Iterator<Item = Result<Entry>>) -> Self {
        let mut topics = HashMap::<String, Topic>::new();
        for entry in entries.flatten() {
            let Some(frame) = entry.frame() else { continue };
            match topics.get_mut(&frame.kind.label) {
                Some(topic) => topic.all += 1,
                None => drop(topics.insert(frame.kind.label.clone(), Topic { all: 1, seen: 0 })),
            }
        }
        Self { wanted, topics }
    }

    /// Whether the entry is taken: the first of a topic is, and then one in `all / wanted`. Session events
    /// always are.
    pub(super) fn takes(&mut self, entry: &Entry) -> bool {
        let Some(frame) = entry.frame() else { return true };
        let Some(topic) = self.topics.get_mut(&frame.kind.label) else { return false };
        let place = topic.seen;
        topic.seen += 1;
        let (all, wanted) = (u128::from(topic.all), u128::from(self.wanted));
        place < topic.all && u128::from(place) * wanted % all < wanted
    }
}
