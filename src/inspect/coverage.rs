//! Intervals in, coverage out: when a subscription was covered, when it was not, and when nobody knows.
//!
//! Each run says when it was connected and when it was not. What any run covered is covered; what is
//! left of a gap then is a gap; the rest between the first and the last thing that is known is unknown.
//! So each moment of the span is exactly one of the three. Memory follows the number of gaps. Nothing
//! here can fail.

use std::{cmp::Reverse, time::Duration};

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{Event, Span, seconds};
use crate::entry::{Timestamp, nanos};

/// What is shorter is not told.
const SHORTEST_UNKNOWN: Duration = Duration::from_millis(1);

/// When a subscription was covered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Coverage {
    /// From the first thing that is known of it to the last: what the percentage is of.
    pub span: Span,
    /// How long it was covered.
    #[serde(serialize_with = "seconds")]
    pub covered_seconds: Duration,
    /// How long it was not.
    #[serde(serialize_with = "seconds")]
    pub gap_seconds: Duration,
    /// How long nothing is known.
    #[serde(serialize_with = "seconds")]
    pub unknown_seconds: Duration,
    /// The part of the span that was covered; None if that is no time.
    pub covered_percent: Option<f64>,
    /// How long the longest gap is.
    #[serde(serialize_with = "seconds")]
    pub longest_gap_seconds: Duration,
    /// Frames that were received and lost, in gaps and between them.
    pub lost_frames: u64,
    /// Their size altogether, as far as it is known.
    pub lost_bytes: u64,
    /// When it was covered, in order. No two of these touch.
    pub covered: Vec<Span>,
    /// When it was not, in order. No two of these overlap.
    pub gaps: Vec<Gap>,
    /// When nothing is known, in order.
    pub unknown: Vec<Span>,
}

/// A stretch of time without coverage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gap {
    /// The last moment before it that was covered, and the first after it.
    #[serde(flatten, serialize_with = "from_to")]
    pub span: Span,
    /// How long it is.
    #[serde(serialize_with = "seconds")]
    pub gap_seconds: Duration,
    /// Why: the causes of `session.proto`, in lower case.
    pub cause: String,
    /// Frames that were received in it and lost.
    pub frames: u64,
    /// Their size altogether; 0 if it is not known.
    pub bytes: u64,
    /// Attempts to connect that came to nothing.
    pub attempts: u64,
    /// What was said about it: how the connection was closed, the last refusal, and the like.
    pub said: Vec<Event>,
}

/// What one run says about one subscription.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// From the first thing it says to the last.
    pub span: Option<Span>,
    /// While it was connected.
    pub connected: Vec<Span>,
    /// These count even where it was connected: the disk may have been full.
    pub gaps: Vec<Gap>,
    /// Frames that were lost.
    pub lost: Vec<Lost>,
}

/// Frames that were received and lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub at: Timestamp,
    pub frames: u64,
    pub bytes: u64,
}

/// What a stretch of time is, where it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cell {
    /// Before the first or after the last thing that is known.
    Outside,
    Covered,
    /// Nothing is known of some of it.
    Unknown,
    /// There is a gap in it.
    Gap,
}

impl Gap {
    pub(super) fn new(span: Span, cause: String) -> Self {
        let (gap_seconds, said) = (span.length(), Vec::new());
        Self { span, gap_seconds, cause, frames: 0, bytes: 0, attempts: 0, said }
    }

    /// The same in another place.
    fn at(&self, span: Span) -> Self {
        Self { span, gap_seconds: span.length(), ..self.clone() }
    }
}

impl Coverage {
    /// None if no run says anything.
    pub(super) fn of(runs: &[Told]) -> Option<Self> {
        let covered: Vec<_> = runs.iter().flat_map(Told::covered).collect();
        let covered = union(covered);
        let gaps = runs.iter().flat_map(|run| &run.gaps);
        let mut gaps = disjoint(gaps.flat_map(|gap| left_of(gap, &covered)).collect());
        let lost = || runs.iter().flat_map(|run| &run.lost);
        lost().for_each(|lost| assign(*lost, &mut gaps));

        let ends = runs.iter().filter_map(|run| run.span);
        let ends = ends.chain(gaps.iter().map(|gap| gap.span)).chain(covered.iter().copied());
        let span = ends.reduce(Span::hull)?;
        let known = covered.iter().copied().chain(gaps.iter().map(|gap| gap.span)).collect();
        let unknown = without(span, &union(known));
        let length = |spans: &[Span]| spans.iter().map(|span| span.length()).sum::<Duration>();
        let (whole, covered_seconds) = (span.length(), length(&covered));
        Some(Self {
            span,
            covered_seconds,
            gap_seconds: gaps.iter().map(|gap| gap.gap_seconds).sum(),
            unknown_seconds: length(&unknown),
            covered_percent: (!whole.is_zero())
                .then(|| 100.0 * covered_seconds.as_secs_f64() / whole.as_secs_f64()),
            longest_gap_seconds: gaps.iter().map(|gap| gap.gap_seconds).max().unwrap_or_default(),
            lost_frames: lost().map(|lost| lost.frames).fold(0, u64::saturating_add),
            lost_bytes: lost().map(|lost| lost.bytes).fold(0, u64::saturating_add),
            covered,
            gaps,
            unknown,
        })
    }

    /// Those unknown stretches that are more than the time between two things that were written down one after
    /// the other, such as the ends of two connections when the recorder is stopped.
    pub(super) fn unknown_stretches(&self) -> impl Iterator<Item = Span> {
        self.unknown.iter().copied().filter(|span| span.length() >= SHORTEST_UNKNOWN)
    }

    /// What each of so many stretches of that width is. The worst that is in it counts: a short gap
    /// is not to vanish.
    pub(super) fn cells(&self, start: Timestamp, width: Duration, count: usize) -> Vec<Cell> {
        let mut cells = vec![Cell::Outside; count];
        let width = nanos(width).max(1);
        let mut draw = |span: &Span, cell: Cell| {
            let at = |moment: Timestamp| moment.as_nanos().saturating_sub(start.as_nanos());
            let first = (at(span.first) / width) as usize;
            // The end is not part of it, unless it is all there is.
            let last = (at(span.last).saturating_sub(1) / width) as usize;
            let reached = cells.iter_mut().take(last.max(first) + 1).skip(first);
            reached.for_each(|drawn| *drawn = cell.max(*drawn));
        };
        self.covered.iter().for_each(|span| draw(span, Cell::Covered));
        self.unknown.iter().for_each(|span| draw(span, Cell::Unknown));
        self.gaps.iter().for_each(|gap| draw(&gap.span, Cell::Gap));
        cells
    }
}

impl Told {
    /// While it was connected and could write.
    fn covered(&self) -> Vec<Span> {
        let gaps = union(self.gaps.iter().map(|gap| gap.span).collect());
        self.connected.iter().flat_map(|span| without(*span, &gaps)).collect()
    }
}

impl Span {
    /// The shortest that holds both.
    pub(super) fn hull(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }

    fn is_empty(self) -> bool {
        self.first >= self.last
    }
}

/// As the events of session.proto call the ends of a gap.
fn from_to<S: Serializer>(span: &Span, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(2))?;
    map.serialize_entry("from", &span.first.to_string())?;
    map.serialize_entry("to", &span.last.to_string())?;
    map.end()
}

/// What the covered spans leave of a gap. One that has no length was told all the same, and stays.
fn left_of(gap: &Gap, covered: &[Span]) -> Vec<Gap> {
    if gap.span.is_empty() {
        return vec![gap.clone()];
    }
    without(gap.span, covered).into_iter().map(|span| gap.at(span)).collect()
}

/// Gaps in order, none of which overlaps another: what two of them share belongs to the earlier one, or
/// to the longer one if they begin together.
fn disjoint(mut gaps: Vec<Gap>) -> Vec<Gap> {
    gaps.sort_by_key(|gap| (gap.span.first, Reverse(gap.span.last)));
    let mut rows = Vec::<Gap>::with_capacity(gaps.len());
    for gap in gaps {
        let begins = rows.last().map_or(gap.span.first, |before| before.span.last);
        let span = Span { first: gap.span.first.max(begins), ..gap.span };
        if !span.is_empty() {
            rows.push(gap.at(span));
        } else if gap.span.is_empty() && begins <= gap.span.first {
            rows.push(gap);
        } else if let Some(before) = rows.last_mut().filter(|before| before.said.is_empty()) {
            (before.attempts, before.said) = (gap.attempts, gap.said);
        }
    }
    rows
}

/// Frames that were lost in a gap are counted there, too.
fn assign(lost: Lost, gaps: &mut [Gap]) {
    let after = gaps.partition_point(|gap| gap.span.first <= lost.at);
    if let Some(gap) = gaps[..after].last_mut().filter(|gap| lost.at <= gap.span.last) {
        gap.frames = gap.frames.saturating_add(lost.frames);
        gap.bytes = gap.bytes.saturating_add(lost.bytes);
    }
}

/// In order, none empty, no two of which touch.
fn union(mut spans: Vec<Span>) -> Vec<Span> {
    spans.retain(|span| !span.is_empty());
    spans.sort_by_key(|span| span.first);
    let mut joined = Vec::<Span>::new();
    for span in spans {
        match joined.last_mut() {
            Some(before) if span.first <= before.last => *before = before.hull(span),
            _ => joined.push(span),
        }
    }
    joined
}

/// What is left of a span; `others` are as [`union`] leaves them.
fn without(span: Span, others: &[Span]) -> Vec<Span> {
    let mut left = Vec::new();
    let mut rest = span;
    let begin = others.partition_point(|other| other.last <= span.first);
    for other in others[begin..].iter().take_while(|other| other.first < span.last) {
        left.push(Span { last: other.first, ..rest });
        rest.first = other.last;
    }
    left.push(rest);
    left.retain(|span| !span.is_empty());
    left
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * SECOND)
    }

    fn span(first: u64, last: u64) -> Span {
        Span { first: at(first), last: at(last) }
    }

    fn gap(first: u64, last: u64, cause: &str) -> Gap {
        Gap::new(span(first, last), cause.to_owned())
    }

    fn run(connected: &[(u64, u64)], gaps: &[(u64, u64)]) -> Told {
        let connected: Vec<_> = connected.iter().map(|&(from, to)| span(from, to)).collect();
        let gaps: Vec<_> = gaps.iter().map(|&(from, to)| gap(from, to, "network")).collect();
        Told { connected, gaps, ..Told::default() }
    }

    fn gaps_of(coverage: &Coverage) -> Vec<Span> {
        coverage.gaps.iter().map(|gap| gap.span).collect()
    }

    #[test]
    fn of_nothing_nothing_is_known() {
        assert_eq!(Coverage::of(&[]), None);
        assert_eq!(Coverage::of(&[Told::default()]), None);
        let moment = Told { span: Some(span(5, 5)), ..Told::default() };
        let coverage = Coverage::of(&[moment]).unwrap();
        assert_eq!((coverage.span, coverage.covered_percent), (span(5, 5), None));
    }

    #[test]
    fn one_run_is_covered_but_for_its_gaps() {
        let coverage = Coverage::of(&[run(&[(0, 10), (15, 40)], &[(10, 15), (20, 30)])]).unwrap();
        assert_eq!(coverage.covered, [span(0, 10), span(15, 20), span(30, 40)]);
        assert_eq!(gaps_of(&coverage), [span(10, 15), span(20, 30)]);
        assert_eq!(coverage.covered_percent, Some(62.5));
        assert_eq!(coverage.longest_gap_seconds, Duration::from_secs(10));
        assert!(coverage.unknown.is_empty());
    }

    #[test]
    fn what_another_run_covers_is_no_gap() {
        let one = run(&[(0, 10), (20, 30)], &[(10, 20)]);
        let coverage = Coverage::of(&[one.clone(), run(&[(12, 18)], &[])]).unwrap();
        assert_eq!(gaps_of(&coverage), [span(10, 12), span(18, 20)]);
        let coverage = Coverage::of(&[one.clone(), run(&[(5, 25)], &[])]).unwrap();
        assert_eq!(coverage.covered, [span(0, 30)]);
        assert_eq!((gaps_of(&coverage), coverage.covered_percent), (vec![], Some(100.0)));
        // And what is a gap in both is one gap.
        let coverage = Coverage::of(&[one, run(&[(0, 12), (25, 30)], &[(12, 25)])]).unwrap();
        assert_eq!(gaps_of(&coverage), [span(12, 20)]);
    }

    #[test]
    fn between_runs_that_say_nothing_of_each_other_nothing_is_known() {
        let coverage = Coverage::of(&[run(&[(0, 10)], &[]), run(&[(50, 60)], &[(30, 40)])]);
        let coverage = coverage.unwrap();
        assert_eq!(coverage.unknown, [span(10, 30), span(40, 50)]);
        assert_eq!(coverage.unknown_seconds, Duration::from_secs(30));
    }

    #[test]
    fn the_time_between_two_words_is_no_unknown_stretch() {
        let until = |last| Told { span: Some(Span { first: at(0), last }), ..run(&[(0, 10)], &[]) };
        let coverage = Coverage::of(&[until(at(10).after(Duration::from_micros(30)))]).unwrap();
        assert_eq!((coverage.unknown.len(), coverage.unknown_stretches().count()), (1, 0));
        let coverage = Coverage::of(&[until(at(11))]).unwrap();
        assert_eq!(coverage.unknown_stretches().collect::<Vec<_>>(), [span(10, 11)]);
    }

    #[test]
    fn lost_frames_are_counted_in_the_gap_in_which_they_were_lost() {
        let mut told = run(&[(0, 40)], &[(10, 15), (20, 30)]);
        let lost = |seconds, frames| Lost { at: at(seconds), frames, bytes: 10 * frames };
        told.lost = vec![lost(5, 1), lost(20, 2), lost(25, 4), lost(30, 8), lost(31, 16)];
        let coverage = Coverage::of(&[told]).unwrap();
        let found: Vec<_> = coverage.gaps.iter().map(|gap| (gap.frames, gap.bytes)).collect();
        assert_eq!(found, [(0, 0), (14, 140)]);
        assert_eq!((coverage.lost_frames, coverage.lost_bytes), (31, 310));
    }

    #[test]
    fn a_gap_without_a_length_is_told_all_the_same() {
        let coverage = Coverage::of(&[run(&[(0, 10)], &[(10, 10)]), run(&[(10, 20)], &[])]);
        let coverage = coverage.unwrap();
        assert_eq!(gaps_of(&coverage), [span(10, 10)]);
        assert_eq!(coverage.covered_percent, Some(100.0));
    }

    #[test]
    fn a_short_gap_is_seen_in_a_wide_column() {
        use Cell::{Covered, Gap, Outside, Unknown};
        let runs = [run(&[(10, 34), (35, 40)], &[(34, 35)]), run(&[(50, 55)], &[])];
        let cells = Coverage::of(&runs).unwrap().cells(at(0), Duration::from_secs(10), 7);
        assert_eq!(cells, [Outside, Covered, Covered, Gap, Unknown, Covered, Outside]);
    }

    /// What a second is, as anybody would see it who looks at it alone.
    fn slow(runs: &[Told], second: u64) -> Cell {
        let has = |span: &Span| (span.first..span.last).contains(&at(second));
        let in_gap = |run: &Told| run.gaps.iter().any(|gap| has(&gap.span));
        if runs.iter().any(|run| run.connected.iter().any(has) && !in_gap(run)) {
            Cell::Covered
        } else if runs.iter().any(in_gap) {
            Cell::Gap
        } else {
            let all = || runs.iter().flat_map(|run| run.connected.iter().chain(&run.span));
            let gaps = || runs.iter().flat_map(|run| run.gaps.iter().map(|gap| &gap.span));
            let first = all().chain(gaps()).map(|span| span.first).min();
            let last = all().chain(gaps()).map(|span| span.last).max();
            let inside = first.is_some_and(|first| first <= at(second)) && last > Some(at(second));
            if inside { Cell::Unknown } else { Cell::Outside }
        }
    }

    const END: u64 = 40;

    fn spans() -> impl Strategy<Value = Vec<Span>> {
        // Those without a length are another test's.
        let one = (0..END, 1..10_u64).prop_map(|(first, length)| span(first, first + length));
        prop::collection::vec(one, 0..5)
    }

    fn any_run() -> impl Strategy<Value = Told> {
        let gaps = spans().prop_map(|spans| {
            spans.into_iter().map(|span| Gap::new(span, "network".to_owned())).collect()
        });
        (spans(), gaps).prop_map(|(connected, gaps)| Told { connected, gaps, ..Told::default() })
    }

    proptest! {
        #[test]
        fn it_is_what_is_seen_second_by_second(runs in prop::collection::vec(any_run(), 1..4)) {
            let count = END as usize + 12;
            let expected: Vec<_> = (0..count as u64).map(|second| slow(&runs, second)).collect();
            let Some(coverage) = Coverage::of(&runs) else {
                prop_assert!(expected.iter().all(|cell| *cell == Cell::Outside));
                return Ok(());
            };
            prop_assert_eq!(coverage.cells(at(0), Duration::from_secs(1), count), expected.clone());
            let time = |cell| {
                let seconds = expected.iter().filter(|found| **found == cell).count();
                Duration::from_secs(seconds as u64)
            };
            prop_assert_eq!(coverage.covered_seconds, time(Cell::Covered));
            prop_assert_eq!(coverage.gap_seconds, time(Cell::Gap));
            prop_assert_eq!(coverage.unknown_seconds, time(Cell::Unknown));
            let ends = |spans: &[Span]| spans.windows(2).all(|two| two[0].last < two[1].first);
            prop_assert!(ends(&coverage.covered) && ends(&coverage.unknown));
            prop_assert!(gaps_of(&coverage).windows(2).all(|two| two[0].last <= two[1].first));
        }
    }
}
