//! The heaviest of any number of things, in memory that is bounded.
//!
//! All are counted until there are twice as many as are to be kept; then the lighter half is forgotten.
//! Whoever was forgotten and comes back begins at zero, and lacks at most what the heaviest one had that
//! was forgotten with it: the sum of these is said. While nothing was forgotten, all counts are exact.

use std::{cmp::Reverse, collections::HashMap, hash::Hash};

/// Of twice as many devices, the heavier half is kept, or less where many are as light as each other.
pub const DEVICES: usize = 65_536;

/// How much there is of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) frames: u64,
    pub(super) bytes: u64,
    /// The last frame in which it was.
    last: u64,
}

#[derive(Debug)]
pub(super) struct Heavy<K> {
    weights: HashMap<K, Weight>,
    kept: usize,
    uncounted: u64,
}

impl<K: Eq + Hash + Ord> Heavy<K> {
    pub(super) fn new(kept: usize) -> Self {
        Self { weights: HashMap::new(), kept, uncounted: 0 }
    }

    /// So many bytes more, in the frame of that number: 1 or more.
    pub(super) fn add(&mut self, key: K, bytes: u64, frame: u64) {
        let weight = self.weights.entry(key).or_default();
        weight.bytes += bytes;
        if weight.last != frame {
            weight.last = frame;
            weight.frames += 1;
        }
        if self.weights.len() >= 2 * self.kept {
            self.forget();
        }
    }

    fn forget(&mut self) {
        let mut bytes: Vec<u64> = self.weights.values().map(|weight| weight.bytes).collect();
        let (_, &mut heaviest, _) = bytes.select_nth_unstable(self.kept);
        self.uncounted += heaviest;
        // Of those that are as heavy none can be preferred, so none stays.
        self.weights.retain(|_, weight| weight.bytes > heaviest);
    }

    pub(super) fn len(&self) -> usize {
        self.weights.len()
    }

    /// At most so many bytes of each are not counted.
    pub(super) const fn uncounted(&self) -> u64 {
        self.uncounted
    }

    /// So many of them, heaviest first.
    pub(super) fn heaviest(self, count: usize) -> Vec<(K, Weight)> {
        let mut all: Vec<_> = self.weights.into_iter().collect();
        all.sort_by(|(a, a_weight), (b, b_weight)| {
            (Reverse(a_weight.bytes), a).cmp(&(Reverse(b_weight.bytes), b))
        });
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_counted_exactly() {
        let mut heavy = Heavy::new(10);
        for (name, bytes, frame) in [("a", 5, 1), ("b", 7, 1), ("a", 5, 1), ("a", 5, 2)] {
            heavy.add(name, bytes, frame);
        }
        assert_eq!((heavy.len(), heavy.uncounted()), (2, 0));
        let heaviest = heavy.heaviest(10);
        let shown: Vec<_> =
            heaviest.iter().map(|(name, weight)| (*name, weight.bytes, weight.frames)).collect();
        assert_eq!(shown, [("a", 15, 2), ("b", 7, 1)]);
    }

    #[test]
    fn of_many_the_heaviest_stay_and_what_may_be_missing_is_said() {
        let mut heavy = Heavy::new(100);
        let mut frame = 0;
        let mut of_heaviest = 0;
        for round in 0..1000_u64 {
            for light in 0..50 {
                frame += 1;
                heavy.add(1000 + round * 50 + light, 10, frame);
            }
            for known in 0..5 {
                frame += 1;
                heavy.add(known, 100, frame);
                of_heaviest += u64::from(known == 0) * 100;
            }
            assert!(heavy.len() < 200);
        }
        let uncounted = heavy.uncounted();
        assert!(uncounted > 0);
        let heaviest = heavy.heaviest(5);
        let mut names: Vec<_> = heaviest.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert_eq!(names, [0, 1, 2, 3, 4]);
        for (_, weight) in heaviest {
            assert!(weight.bytes <= of_heaviest && weight.bytes + uncounted >= of_heaviest);
        }
    }
}
