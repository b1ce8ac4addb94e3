//! Frames over time in a fixed number of buckets, however long the time turns out to be.
//!
//! A bucket begins one second wide. When the buckets no longer reach, their width doubles and pairs
//! become one: each count stays exact, only its place becomes coarser. Buckets begin at multiples of
//! their width since the epoch, so that pairs always match.

use std::time::Duration;

use super::Span;
use crate::entry::Timestamp;

/// At most so many buckets, by default; they fit beside a name on a line of a hundred columns.
pub const BUCKETS: usize = 64;

/// How wide a bucket is at first.
const FIRST_WIDTH: u64 = 1_000_000_000;

/// The counts of several rows over one axis.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    /// At most so many buckets.
    most: usize,
    /// Nanoseconds.
    width: u64,
    /// The number of the first bucket, counted in widths since the epoch.
    first: u64,
    /// How many buckets are in use.
    used: usize,
    /// Where the latest bucket begins that something was counted in, and which one in use it is: what follows
    /// mostly falls into it, too.
    latest: Option<(u64, usize)>,
    rows: Vec<Vec<u64>>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self::of_at_most(BUCKETS)
    }
}

impl Timeline {
    /// One with another number of buckets; two at least.
    pub(super) fn of_at_most(most: usize) -> Self {
        let most = most.max(2);
        Self { most, width: FIRST_WIDTH, first: 0, used: 0, latest: None, rows: Vec::new() }
    }

    /// A new row, and its number.
    pub(super) fn row(&mut self) -> usize {
        self.rows.push(vec![0; self.used]);
        self.rows.len() - 1
    }

    /// Counts one frame.
    pub(super) fn count(&mut self, row: usize, at: Timestamp) {
        let index = match self.latest {
            Some((from, index)) if at.as_nanos().wrapping_sub(from) < self.width => index,
            _ => self.index(at),
        };
        self.rows[row][index] += 1;
    }

    /// Counts frames of which the first and the last came then. False: they do not fall into one bucket, and
    /// none is counted.
    pub(super) fn count_all(&mut self, row: usize, span: Span, frames: u64) -> bool {
        let index = self.index(span.first);
        let is_one = self.latest.is_some_and(|(from, _)| span.last.as_nanos() - from < self.width);
        if is_one {
            self.rows[row][index] += frames;
        }
        is_one
    }

    /// Which bucket in use a time is in, after there is one.
    fn index(&mut self, at: Timestamp) -> usize {
        let mut bucket = at.as_nanos() / self.width;
        if self.used == 0 {
            self.first = bucket;
        }
        while !self.reaches(bucket) {
            self.widen();
            bucket = at.as_nanos() / self.width;
        }
        if bucket < self.first {
            let missing = (self.first - bucket) as usize;
            for counts in &mut self.rows {
                counts.splice(0..0, std::iter::repeat_n(0, missing));
            }
            self.first = bucket;
            self.used += missing;
        }
        let index = (bucket - self.first) as usize;
        if index >= self.used {
            self.used = index + 1;
            for counts in &mut self.rows {
                counts.resize(self.used, 0);
            }
        }
        self.latest = Some((bucket * self.width, index));
        index
    }

    /// Whether a bucket is on the axis, or the axis can be made longer to include it.
    fn reaches(&self, bucket: u64) -> bool {
        let end = self.first + self.used as u64;
        let (first, end) = (self.first.min(bucket), end.max(bucket + 1));
        end - first <= self.most as u64
    }

    fn widen(&mut self) {
        // With an odd first bucket, the first pair lacks its first half.
        let odd = (self.first % 2) as usize;
        for counts in &mut self.rows {
            let mut pairs = vec![0; (counts.len() + odd).div_ceil(2)];
            for (index, count) in counts.iter().enumerate() {
                pairs[usize::midpoint(index, odd)] += count;
            }
            *counts = pairs;
        }
        self.used = (self.used + odd).div_ceil(2);
        self.first /= 2;
        self.width *= 2;
    }

    /// Where the axis begins, how wide a bucket is and how many there are; None without frames.
    pub(super) fn axis(&self) -> Option<(Timestamp, Duration, usize)> {
        let start = Timestamp::from_nanos(self.first * self.width);
        (self.used > 0).then(|| (start, Duration::from_nanos(self.width), self.used))
    }

    /// The counts of one row, as many as the axis has buckets.
    pub(super) fn counts(&self, row: usize) -> &[u64] {
        &self.rows[row]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn timeline(seconds: impl IntoIterator<Item = u64>) -> Timeline {
        let mut timeline = Timeline::default();
        let row = timeline.row();
        for second in seconds {
            timeline.count(row, Timestamp::from_nanos(second * SECOND));
        }
        timeline
    }

    fn seen(timeline: &Timeline) -> (u64, u64, Vec<u64>) {
        let (start, width, _) = timeline.axis().unwrap();
        (start.as_nanos() / SECOND, width.as_secs(), timeline.counts(0).to_vec())
    }

    #[test]
    fn a_short_time_has_a_bucket_for_each_second() {
        assert_eq!(seen(&timeline([100, 101, 101, 103])), (100, 1, vec![1, 2, 0, 1]));
        assert!(Timeline::default().axis().is_none());
    }

    #[test]
    fn a_long_time_doubles_the_width_and_loses_no_frame() {
        for start in [0, 1, 2, 99, 12_345] {
            let timeline = timeline((start..start + 1000).chain(start + 500..start + 600));
            let (first, width, counts) = seen(&timeline);
            assert!(first <= start && counts.len() <= BUCKETS && width.is_power_of_two());
            assert_eq!(counts.iter().sum::<u64>(), 1100);
        }
    }

    #[test]
    fn an_earlier_frame_makes_the_axis_longer_at_its_beginning() {
        assert_eq!(seen(&timeline([10, 8, 12])), (8, 1, vec![1, 0, 1, 0, 1]));
    }

    #[test]
    fn a_clock_that_jumps_by_years_is_no_reason_to_use_more_memory() {
        let timeline = timeline([0, 1_800_000_000, 5]);
        let (_, _, counts) = seen(&timeline);
        assert!(counts.len() <= BUCKETS);
        assert_eq!(counts.iter().sum::<u64>(), 3);
    }

    #[test]
    fn frames_of_one_bucket_can_be_counted_at_once() {
        let mut timeline = timeline([10]);
        let span = |first, last| Span {
            first: Timestamp::from_nanos(first),
            last: Timestamp::from_nanos(last),
        };
        assert!(timeline.count_all(0, span(11 * SECOND, 12 * SECOND - 1), 7));
        assert!(!timeline.count_all(0, span(12 * SECOND, 13 * SECOND), 5));
        assert_eq!(timeline.counts(0), [1, 7, 0]);
    }

    #[test]
    fn a_row_that_comes_later_has_the_same_axis() {
        let mut timeline = timeline([1, 5]);
        let row = timeline.row();
        timeline.count(row, Timestamp::from_nanos(3 * SECOND));
        assert_eq!(timeline.counts(row), [0, 0, 1, 0, 0]);
    }
}
