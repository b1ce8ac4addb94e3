//! What a capture remembers of the damage of those that it was made of.
//!
//! Whoever reads only what could be saved sees a file without a fault. So what was lost is written into it,
//! in the metadata record that says what came of the editing, and handed on by every later edit.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use mcap::records::{Metadata, Record, op};
use serde::Serialize;

use super::summary::summary;
use crate::error::Error;

/// The metadata record, behind the last entry, that says what came of an editing.
pub const RESULT: &str = "centralcap.edit";

/// How many words about lost frames are kept.
pub const LOST_KEPT: usize = 100;

/// How much of one of them: names of subscriptions come from anybody.
const WORDS_KEPT: usize = 300;

/// A record with all of that is far smaller.
const SIZE_LIMIT: u64 = 1024 * 1024;

/// So many records are looked at in one segment.
const RECORDS_LIMIT: usize = 10_000;

/// The metadata's names for it.
const PLACES: &str = "damaged";
const LOST: &str = "lost.";
const LOST_MORE: &str = "lost.more";

/// What the damage of its inputs has cost a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PastDamage {
    /// At so many places an input was damaged, or no capture.
    pub damaged_places: u64,
    /// Which frames that has cost whom, in words, as far as their counters told; [`LOST_KEPT`] at most.
    pub lost: Vec<String>,
    /// How many more of these there were.
    pub lost_more: u64,
}

impl PastDamage {
    /// An input was damaged at one place, and nobody has counted what that has cost.
    pub(crate) fn of_one_place() -> Self {
        Self { damaged_places: 1, ..Self::default() }
    }

    /// Takes down a damage, or what one has cost.
    pub(crate) fn take(&mut self, error: &Error) {
        if error.is_cost_of_damage() {
            self.lost(error.to_string());
        } else {
            self.damaged_places += 1;
        }
    }

    fn lost(&mut self, mut words: String) {
        if self.lost.len() == LOST_KEPT {
            self.lost_more += 1;
            return;
        }
        if let Some((end, _)) = words.char_indices().nth(WORDS_KEPT) {
            words.truncate(end);
            words.push_str("...");
        }
        self.lost.push(words);
    }

    /// The same without names.
    pub(crate) fn unnamed(&self) -> Self {
        let lost_more = self.lost_more + self.lost.len() as u64;
        Self { lost: Vec::new(), lost_more, ..*self }
    }

    /// As metadata.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (String, String)> {
        let places = [(PLACES.to_owned(), self.damaged_places.to_string())];
        let lost = self.lost.iter().enumerate();
        let lost = lost.map(|(index, words)| (format!("{LOST}{:03}", index + 1), words.clone()));
        let more = (self.lost_more > 0).then(|| (LOST_MORE.to_owned(), self.lost_more.to_string()));
        places.into_iter().chain(lost).chain(more)
    }

    /// As a record of its own.
    pub(crate) fn record(&self) -> Metadata {
        Metadata { name: RESULT.to_owned(), metadata: self.fields().collect() }
    }

    /// What a metadata record remembers; None if it is another one, or nothing was damaged.
    pub(crate) fn of(record: &Metadata) -> Option<Self> {
        if record.name != RESULT {
            return None;
        }
        let count = |name| record.metadata.get(name).and_then(|count| count.parse().ok());
        let mut past = Self { damaged_places: count(PLACES)?, ..Self::default() };
        for (_, words) in record.metadata.iter().filter(|(name, _)| {
            name.strip_prefix(LOST)
                .is_some_and(|number| number.bytes().all(|digit| digit.is_ascii_digit()))
        }) {
            past.lost(words.clone());
        }
        past.lost_more = past.lost_more.saturating_add(count(LOST_MORE).unwrap_or(0));
        (past.damaged_places > 0).then_some(past)
    }

    /// All of these as one; None if there is none. What is remembered twice, as by the parts of one output,
    /// happened once.
    pub(crate) fn together(all: &BTreeSet<Self>) -> Option<Self> {
        let mut together = Self::default();
        for past in all {
            together.damaged_places = together.damaged_places.saturating_add(past.damaged_places);
            past.lost.iter().for_each(|words| together.lost(words.clone()));
            together.lost_more = together.lost_more.saturating_add(past.lost_more);
        }
        (!all.is_empty()).then_some(together)
    }
}

/// The metadata records of a sealed segment that remember damage. Its summary says where they are: without a
/// whole one there are none.
pub(crate) fn records_of_damage(path: &Path) -> Vec<Metadata> {
    let Some(summary) = summary(path) else { return Vec::new() };
    let Ok(mut file) = File::open(path) else { return Vec::new() };
    let indexes = summary.metadata_indexes.iter().filter(|index| index.name == RESULT);
    let records = indexes.take(RECORDS_LIMIT).filter_map(|index| {
        const HEAD: u64 = 1 + 8;

        let length = index.length.checked_sub(HEAD).filter(|length| *length <= SIZE_LIMIT)?;
        file.seek(SeekFrom::Start(index.offset.checked_add(HEAD)?)).ok()?;
        let mut data = Vec::new();
        (&file).take(length).read_to_end(&mut data).ok()?;
        match mcap::parse_record(op::METADATA, &data) {
            Ok(Record::Metadata(record)) => PastDamage::of(&record).map(|_| record),
            _ => None,
        }
    });
    records.collect()
}

/// What a segment remembers.
pub(crate) fn past_damage(path: &Path) -> Vec<PastDamage> {
    records_of_damage(path).iter().filter_map(PastDamage::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, Lost};

    fn lost(number: usize) -> Error {
        let (subscription, topic) = (format!("a{number}"), "audit".to_owned());
        Kind::Lost(Lost { subscription, topic, frames: "frame 1".to_owned() }).into()
    }

    #[test]
    fn what_is_written_down_is_read_again_and_bounded() {
        let mut past = PastDamage { damaged_places: 2, ..PastDamage::default() };
        for number in 0..LOST_KEPT + 3 {
            past.take(&lost(number));
        }
        assert_eq!((past.lost.len(), past.lost_more), (LOST_KEPT, 3));
        assert_eq!(past.lost[0], "lost of a0 (audit): frame 1");
        assert_eq!(PastDamage::of(&past.record()), Some(past.clone()));
        assert_eq!(past.unnamed().lost_more, LOST_KEPT as u64 + 3);
        let twice = BTreeSet::from([past.clone(), past.clone(), past.unnamed()]);
        let together = PastDamage::together(&twice).unwrap();
        assert_eq!((together.damaged_places, together.lost.len()), (4, LOST_KEPT));
    }

    #[test]
    fn without_damage_there_is_nothing_to_remember() {
        assert_eq!(PastDamage::of(&PastDamage::default().record()), None);
        let other = Metadata { name: "other".to_owned(), ..PastDamage::default().record() };
        assert_eq!(PastDamage::of(&other), None);
        assert_eq!(PastDamage::together(&BTreeSet::new()), None);
    }
}
