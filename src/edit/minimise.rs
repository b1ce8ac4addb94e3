//! The fewest and smallest frames that exercise a reader as all of them do.
//!
//! The first time entries come by, two frames are remembered for each feature: the smallest one that has
//! it, and the one that has the most features for its size. Among those a set cover is chosen greedily,
//! by features that are new for the size, and what has become needless is taken out again. The second time
//! the chosen frames are taken. So memory follows the number of features, and not of frames.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    mem::{self, Discriminant},
};

use super::features::{Feature, Features, Kind};
use crate::{
    entry::{Entry, What, session_event::Event},
    error::Result,
    schema::Resolver,
};

/// What a frame takes in a capture besides its bytes.
const OVERHEAD: u64 = 48;

/// What of all that was seen is in the frames that were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Frames that there were.
    pub frames: u64,
    /// Topics and payload types.
    pub types: Covered,
    /// Fields, by the way from the top.
    pub fields: Covered,
    /// Values of enums, by field.
    pub enum_values: Covered,
    /// Lists with no element, with one, and with more.
    pub lengths: Covered,
    /// Numbers of fields that the schema does not have.
    pub unknown: Covered,
    /// Topics of which a frame is no message of the type.
    pub broken: Covered,
    /// There was more than can be told apart.
    pub is_cut: bool,
}

/// How many of how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Covered {
    /// In the frames that were taken.
    pub covered: u64,
    /// In all.
    pub seen: u64,
}

impl Coverage {
    /// Each with its name.
    pub fn parts(&self) -> [(&'static str, Covered); 6] {
        [
            ("types", self.types),
            ("fields", self.fields),
            ("enum values", self.enum_values),
            ("list lengths", self.lengths),
            ("unknown fields", self.unknown),
            ("broken", self.broken),
        ]
    }

    fn part(&mut self, kind: Kind) -> &mut Covered {
        match kind {
            Kind::Type => &mut self.types,
            Kind::Field => &mut self.fields,
            Kind::EnumValue => &mut self.enum_values,
            Kind::Length => &mut self.lengths,
            Kind::Unknown => &mut self.unknown,
            Kind::Broken => &mut self.broken,
        }
    }
}

/// Which frames are taken. Made from all there are, before the first is taken.
pub(super) struct Minimal {
    features: Features,
    /// By their places.
    chosen: HashSet<u64>,
    /// How many features there were,
    seen: usize,
    /// and which of them were taken.
    covered: Vec<bool>,
    /// Frames that have come by.
    frames: u64,
    /// Of which topics, and of which kinds.
    events: HashSet<(String, Option<Discriminant<Event>>)>,
}

impl Minimal {
    /// What cannot be read is told when it is read again.
    pub(super) fn of(
        resolver: Resolver,
        entries: impl Iterator<Item = Result<Entry>>,
    ) -> Result<Self> {
        let mut features = Features::new(resolver);
        let mut candidates = Candidates::default();
        let mut frames = 0;
        for entry in entries.flatten() {
            let Some(frame) = entry.frame() else { continue };
            let found = features.of(&entry, frame)?;
            candidates.offer(frames, frame.data.len() as u64 + OVERHEAD, found);
            frames += 1;
        }
        let seen = features.kinds().len();
        let chosen = candidates.cover(seen);
        Ok(Self {
            features,
            chosen,
            seen,
            covered: vec![false; seen],
            frames: 0,
            events: HashSet::new(),
        })
    }

    /// From here on the entries come by again, from the first one on.
    pub(super) fn begin(&mut self) {
        self.frames = 0;
        self.covered.fill(false);
        self.events.clear();
    }

    /// Whether the entry is taken. Of the session events of a topic the first of each kind is.
    pub(super) fn takes(&mut self, entry: &Entry) -> bool {
        if let What::Event(event) = &entry.what {
            let kind = event.event.as_ref().map(mem::discriminant);
            return self.events.insert((entry.subscription.topic.clone(), kind));
        }
        let place = self.frames;
        self.frames += 1;
        self.chosen.contains(&place)
    }

    /// The entry is in the output, as it is now.
    pub(super) fn writes(&mut self, entry: &Entry) -> Result<()> {
        let Some(frame) = entry.frame() else { return Ok(()) };
        for &feature in self.features.of(entry, frame)? {
            if let Some(covered) = self.covered.get_mut(feature as usize) {
                *covered = true;
            }
        }
        Ok(())
    }

    /// What came of it.
    pub(super) fn coverage(&self) -> Coverage {
        let is_cut = self.features.are_too_many();
        let mut coverage = Coverage { frames: self.frames, is_cut, ..Coverage::default() };
        for (&kind, &covered) in self.features.kinds().iter().take(self.seen).zip(&self.covered) {
            let part = coverage.part(kind);
            part.seen += 1;
            part.covered += u64::from(covered);
        }
        coverage
    }
}

/// Frames that may be chosen, by their places.
#[derive(Default)]
struct Candidates {
    frames: HashMap<u64, Candidate>,
    /// By feature.
    best: Vec<Best>,
}

struct Candidate {
    size: u64,
    features: Box<[Feature]>,
    /// For how many features it is the best in some way.
    uses: u32,
}

/// The best frames for a feature. `None` only until the first one.
#[derive(Clone, Copy, Default)]
struct Best {
    smallest: Option<Rival>,
    densest: Option<Rival>,
}

#[derive(Clone, Copy)]
struct Rival {
    place: u64,
    size: u64,
    features: u64,
}

impl Rival {
    fn is_smaller(self, than: Self) -> bool {
        self.size < than.size
    }

    /// Has more features for its size.
    fn is_denser(self, than: Self) -> bool {
        u128::from(self.features) * u128::from(than.size)
            > u128::from(than.features) * u128::from(self.size)
    }
}

impl Candidates {
    fn offer(&mut self, place: u64, size: u64, features: &[Feature]) {
        let rival = Rival { place, size, features: features.len() as u64 };
        let needed = features.last().map_or(0, |last| *last as usize + 1);
        if self.best.len() < needed {
            self.best.resize(needed, Best::default());
        }
        let mut uses = 0;
        for &feature in features {
            let Best { smallest, densest } = &mut self.best[feature as usize];
            let beaten = [
                (smallest.is_none_or(|best| rival.is_smaller(best)), smallest),
                (densest.is_none_or(|best| rival.is_denser(best)), densest),
            ];
            for (is_better, best) in beaten {
                if is_better {
                    uses += 1;
                    if let Some(beaten) = best.replace(rival) {
                        release(&mut self.frames, beaten.place, place);
                    }
                }
            }
        }
        if uses > 0 {
            self.frames.insert(place, Candidate { size, features: features.into(), uses });
        }
    }

    /// The places of frames that have so many features altogether.
    fn cover(self, seen: usize) -> HashSet<u64> {
        let mut covered = vec![0_u32; seen];
        let mut open: BinaryHeap<_> = self
            .frames
            .iter()
            .map(|(&place, frame)| (score(frame.features.len(), frame.size), Reverse(place)))
            .collect();
        let mut chosen = Vec::new();
        // What was new when it was looked at last may not be any more: then it waits for another turn.
        while let Some((old, Reverse(place))) = open.pop() {
            let frame = &self.frames[&place];
            let is_new = |feature: &&Feature| covered[**feature as usize] == 0;
            let now = score(frame.features.iter().filter(is_new).count(), frame.size);
            if now == 0 {
                continue;
            }
            if now < old && open.peek().is_some_and(|next| (now, Reverse(place)) < *next) {
                open.push((now, Reverse(place)));
                continue;
            }
            for &feature in &frame.features {
                covered[feature as usize] += 1;
            }
            chosen.push(place);
        }
        // The largest first.
        chosen.sort_by_key(|place| Reverse((self.frames[place].size, *place)));
        chosen.retain(|place| {
            let features = &self.frames[place].features;
            let is_needed = features.iter().any(|feature| covered[*feature as usize] < 2);
            if !is_needed {
                features.iter().for_each(|feature| covered[*feature as usize] -= 1);
            }
            is_needed
        });
        chosen.into_iter().collect()
    }
}

/// One use less of a frame, unless it is the one that takes its place.
fn release(frames: &mut HashMap<u64, Candidate>, place: u64, by: u64) {
    if place == by {
        return;
    }
    if let Some(frame) = frames.get_mut(&place) {
        frame.uses -= 1;
        if frame.uses == 0 {
            frames.remove(&place);
        }
    }
}

/// New features for the size.
fn score(features: usize, size: u64) -> u64 {
    ((features as u64) << 32) / size
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(frames: &[(u64, &[Feature])]) -> Vec<u64> {
        let mut candidates = Candidates::default();
        let mut seen = 0;
        for (place, (size, features)) in frames.iter().enumerate() {
            candidates.offer(place as u64, *size, features);
            seen =
                seen.max(features.iter().map(|feature| *feature as usize + 1).max().unwrap_or(0));
        }
        let mut chosen: Vec<_> = candidates.cover(seen).into_iter().collect();
        chosen.sort_unstable();
        chosen
    }

    #[test]
    fn small_frames_go_before_large_ones() {
        assert_eq!(chosen(&[(100, &[0]), (10, &[0]), (50, &[0])]), [1]);
        assert_eq!(chosen(&[(10, &[0]), (10, &[1]), (15, &[0, 1])]), [2]);
        assert_eq!(chosen(&[(10, &[0]), (10, &[1]), (25, &[0, 1])]), [0, 1]);
        assert_eq!(chosen(&[]), [0; 0]);
    }

    #[test]
    fn what_has_become_needless_is_taken_out() {
        // 0 is taken first, as it has the most for its size; then 1 and 2 have to come, and have it all.
        let frames: [(u64, &[Feature]); 3] = [(10, &[1, 2]), (11, &[0, 1]), (11, &[2, 3])];
        assert_eq!(chosen(&frames), [1, 2]);
    }

    #[test]
    fn of_frames_only_those_are_kept_that_are_best_for_something() {
        let mut candidates = Candidates::default();
        for place in 0..1000 {
            candidates.offer(place, 2000 - place, &[0, 1, 2]);
        }
        assert_eq!(candidates.frames.len(), 1);
        candidates.offer(1000, 5000, &[0, 3]);
        assert_eq!(candidates.frames.len(), 2);
    }
}
