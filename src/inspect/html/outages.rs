//! Gaps of all subscriptions, put together: when something was wrong with the feed as a whole.
//!
//! Gaps have one cause, as far as can be told from their times, if they lie together: they begin within
//! [`TOGETHER`] and one is not [`MUCH`] longer than the other, or they share most of their time. That they
//! overlap is not enough: one subscription that is refused for a week would join whatever happened in it,
//! and one that takes its time to come back would join what it was before with what comes after. Such a gap is
//! an outage of its own.
//!
//! So outages may overlap, and how many subscriptions were down is told for the stretch of an outage in which
//! most of its own were, whichever outage the others belong to. Nothing is told that was not so at each moment
//! of the times beside it.
//!
//! How bad an outage is: the time that its subscriptions lost in it, all together. A time of which nothing is
//! known counts as one, too: whoever looks for a minute that is missing looks for that as well.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use crate::{
    entry::Timestamp,
    inspect::{Gap, Profile, Span},
};

/// What begins so far apart at most may begin together: a server closes one connection after another.
const TOGETHER: Duration = Duration::from_secs(2);

/// What is so many times as long goes on for a reason of its own.
const MUCH: u32 = 10;

/// A stretch of time that one subscription was not covered, as far as is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole<'p> {
    /// The place of the subscription in the profile.
    pub subscription: usize,
    pub span: Span,
    pub cause: &'p str,
    /// None if nothing is known.
    pub gap: Option<&'p Gap>,
}

/// Holes that lie together.
#[derive(Clone, Debug)]
pub(super) struct Outage<'p> {
    /// From the first beginning to the last end.
    pub span: Span,
    /// Subscriptions that have a hole in it.
    pub subscriptions: usize,
    /// When most of them were down at once.
    pub peak: Peak,
    /// How many holes it is made of.
    pub holes: usize,
    /// Holes by their cause.
    pub causes: BTreeMap<&'p str, usize>,
    /// Frames that were received in it and lost.
    pub frames: u64,
    /// How long all of its holes are together: how bad it is.
    pub altogether: Duration,
}

/// The longest stretch in which most of some holes are there at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peak {
    pub count: usize,
    pub span: Span,
}

/// All of them, in the order of time.
pub(super) fn holes(profile: &Profile) -> Vec<Hole<'_>> {
    let mut holes = Vec::new();
    for (subscription, found) in profile.subscriptions.iter().enumerate() {
        let Some(coverage) = &found.coverage else { continue };
        holes.extend(coverage.gaps.iter().map(|gap| Hole {
            subscription,
            span: gap.span,
            cause: &gap.cause,
            gap: Some(gap),
        }));
        holes.extend(coverage.unknown_stretches().map(|span| Hole {
            subscription,
            span,
            cause: "unknown",
            gap: None,
        }));
    }
    holes.sort_by_key(|hole| (hole.span, hole.subscription));
    holes
}

/// `holes` are in the order of time, and so are the outages.
pub(super) fn outages<'p>(holes: &[Hole<'p>]) -> Vec<Outage<'p>> {
    let mut groups = Vec::<(Span, Vec<Hole<'p>>)>::new();
    // Those that something may still lie together with: each has a hole that is not over, so there are never
    // more of them than subscriptions.
    let mut open = Vec::<usize>::new();
    for hole in holes {
        open.retain(|&group| groups[group].0.last >= hole.span.first);
        match open.iter().rev().find(|&&group| lie_together(groups[group].0, hole.span)) {
            Some(&group) => {
                let (span, members) = &mut groups[group];
                *span = span.hull(hole.span);
                members.push(*hole);
            }
            None => {
                open.push(groups.len());
                groups.push((hole.span, vec![*hole]));
            }
        }
    }
    groups.into_iter().map(|(span, members)| outage(span, &members)).collect()
}

/// `before` does not begin later.
fn lie_together(before: Span, span: Span) -> bool {
    let longer = before.length().max(span.length());
    let shorter = before.length().min(span.length());
    let begin_together = span.first.since(before.first) <= TOGETHER;
    let shared = before.last.min(span.last).since(span.first);
    (begin_together && longer <= shorter * MUCH) || (!shared.is_zero() && shared * 2 >= longer)
}

fn outage<'p>(span: Span, holes: &[Hole<'p>]) -> Outage<'p> {
    let mut causes = BTreeMap::new();
    for hole in holes {
        *causes.entry(hole.cause).or_insert(0) += 1;
    }
    let subscriptions: HashSet<_> = holes.iter().map(|hole| hole.subscription).collect();
    let frames = holes.iter().filter_map(|hole| hole.gap).map(|gap| gap.frames);
    Outage {
        span,
        subscriptions: subscriptions.len(),
        peak: peak(holes).unwrap_or(Peak { count: 1, span }),
        holes: holes.len(),
        causes,
        frames: frames.fold(0, u64::saturating_add),
        altogether: holes.iter().map(|hole| hole.span.length()).sum(),
    }
}

/// None if no hole takes any time.
pub(super) fn peak(holes: &[Hole<'_>]) -> Option<Peak> {
    let levels = levels(holes);
    let stretches = levels
        .windows(2)
        .map(|pair| Peak { count: pair[0].1, span: Span { first: pair[0].0, last: pair[1].0 } });
    let peak = stretches.rev().max_by_key(|peak| (peak.count, peak.span.length()));
    peak.filter(|peak| peak.count > 0)
}

/// How many holes are there at once, each time from when on; 0 at last. Those of one subscription do not
/// overlap, so there are never more than subscriptions.
pub(super) fn levels(holes: &[Hole<'_>]) -> Vec<(Timestamp, usize)> {
    let begins = holes.iter().map(|hole| (hole.span.first, true));
    let mut steps: Vec<_> =
        begins.chain(holes.iter().map(|hole| (hole.span.last, false))).collect();
    steps.sort_unstable();
    let (mut begun, mut ended) = (0, 0);
    let mut levels = Vec::new();
    for same in steps.chunk_by(|one, other| one.0 == other.0) {
        begun += same.iter().filter(|(_, begins)| *begins).count();
        ended += same.iter().filter(|(_, begins)| !begins).count();
        levels.push((same[0].0, begun - ended));
    }
    levels
}

/// How many subscriptions have a hole that is there all the time.
pub(super) fn down_throughout(holes: &[Hole<'_>], span: Span) -> usize {
    // They are in the order of time.
    let begun = holes.partition_point(|hole| hole.span.first <= span.first);
    let throughout = holes[..begun].iter().filter(|hole| hole.span.last >= span.last);
    throughout.map(|hole| hole.subscription).collect::<HashSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    /// Times are seconds.
    fn hole(subscription: usize, first: f64, last: f64, cause: &'static str) -> Hole<'static> {
        let at = |seconds| Timestamp::from_nanos(0).after(Duration::from_secs_f64(seconds));
        Hole { subscription, span: Span { first: at(first), last: at(last) }, cause, gap: None }
    }

    fn sorted<'h>(holes: impl IntoIterator<Item = Hole<'h>>) -> Vec<Hole<'h>> {
        let mut holes: Vec<_> = holes.into_iter().collect();
        holes.sort_by_key(|hole| (hole.span, hole.subscription));
        holes
    }

    fn seconds(span: Span) -> (f64, f64) {
        let after = |at: Timestamp| at.since(Timestamp::from_nanos(0)).as_secs_f64();
        (after(span.first), after(span.last))
    }

    /// From and to, how many subscriptions are of it, how many were down at once, and from when to when.
    type Told = ((f64, f64), usize, usize, (f64, f64));

    fn told(holes: &[Hole<'_>]) -> Vec<Told> {
        let told = |outage: &Outage<'_>| {
            let Outage { span, subscriptions, peak, .. } = outage;
            let down = down_throughout(holes, peak.span);
            (seconds(*span), *subscriptions, down, seconds(peak.span))
        };
        outages(holes).iter().map(told).collect()
    }

    #[test]
    fn what_lies_together_is_one_outage() {
        assert_eq!(told(&[]), []);
        let two = [hole(0, 200.0, 260.0, "network"), hole(1, 205.0, 258.0, "server")];
        assert_eq!(told(&two), [((200.0, 260.0), 2, 2, (205.0, 258.0))]);
        assert_eq!(outages(&two)[0].altogether, Duration::from_secs(113));
        let causes: Vec<_> = outages(&two)[0].causes.clone().into_iter().collect();
        assert_eq!(causes, [("network", 1), ("server", 1)]);
        // What has no length is told all the same.
        assert_eq!(told(&[hole(0, 7.0, 7.0, "disk")]), [((7.0, 7.0), 1, 1, (7.0, 7.0))]);
        // That they overlap is not enough.
        let apart = [hole(0, 0.0, 100.0, "network"), hole(1, 90.0, 190.0, "server")];
        assert_eq!(
            told(&apart),
            [((0.0, 100.0), 1, 1, (0.0, 100.0)), ((90.0, 190.0), 1, 1, (90.0, 190.0))]
        );
    }

    #[test]
    fn one_that_is_refused_for_ever_joins_nothing() {
        // Closed early and refused from then on; three are closed at 20 seconds.
        let holes = sorted([
            hole(0, 4.0, 50.5, "server"),
            hole(1, 20.0, 22.6, "server"),
            hole(2, 20.1, 25.0, "server"),
            hole(3, 20.6, 30.1, "server"),
        ]);
        let expected = [((4.0, 50.5), 1, 1, (4.0, 50.5)), ((20.0, 30.1), 3, 4, (20.6, 22.6))];
        assert_eq!(told(&holes), expected);
        let most = peak(&holes).unwrap();
        assert_eq!((most.count, seconds(most.span)), (4, (20.6, 22.6)));
    }

    #[test]
    fn one_that_comes_back_late_does_not_join_two_outages() {
        // The server was away from 40 to 57, the recorder from 77 to 90; 5 is still in back-off then.
        let back = [59.0, 60.5, 64.0, 67.0, 69.0, 77.0];
        let server = (0..).zip(back).map(|(of, back)| hole(of, 40.0, back, "network"));
        let recorder = (0..6).map(|of| hole(of, 77.0, 90.0, "killed"));
        let expected = [((40.0, 77.0), 6, 6, (40.0, 59.0)), ((77.0, 90.0), 6, 6, (77.0, 90.0))];
        assert_eq!(told(&sorted(server.clone().chain(recorder))), expected);
        // The same where its gap is told as one: it is of what it began with.
        let mut holes: Vec<_> = server.collect();
        holes[5] = hole(5, 40.0, 90.0, "network");
        holes.extend((0..5).map(|of| hole(of, 77.0, 90.0, "killed")));
        let expected = [((40.0, 90.0), 6, 6, (40.0, 59.0)), ((77.0, 90.0), 5, 6, (77.0, 90.0))];
        assert_eq!(told(&sorted(holes)), expected);
    }

    #[test]
    fn one_that_is_dead_for_days_hides_no_outage_of_all() {
        let days = 4 * DAY;
        let hours = || (1..24).map(|hour| 3600.0 * f64::from(hour));
        let outage = |at: f64| (1..6).map(move |of| hole(of, at, at + 10.0, "server"));
        // It dies with all others, and before or after them.
        for begin in [3599.9, 3600.0, 3600.1, 1800.0] {
            let dead = hole(0, begin, days as f64, "server");
            let holes = sorted(hours().flat_map(outage).chain([dead]));
            let mut told = told(&holes);
            let alone = ((begin, days as f64), 1, 1, (begin, days as f64));
            let place = told.iter().position(|told| *told == alone).unwrap();
            told.remove(place);
            assert_eq!(told.len(), 23);
            // Of the first one it may be that it was not there from the beginning.
            for (at, told) in hours().zip(told).skip(1) {
                assert_eq!(told, ((at, at + 10.0), 5, 6, (at, at + 10.0)));
            }
            let worst = outages(&holes).into_iter().max_by_key(|outage| outage.altogether).unwrap();
            assert_eq!(worst.span, dead.span);
            let most = peak(&holes).unwrap();
            assert_eq!((most.count, most.span.length().as_secs()), (6, 10));
        }
    }

    #[test]
    fn how_many_were_down_is_weighed_by_how_long() {
        let all = (0..6).map(|of| hole(of, 100.0, 130.0, "server"));
        let one = hole(0, 1000.0, 1090.0, "network");
        let found = outages(&sorted(all.chain([one])));
        let weights: Vec<_> = found.iter().map(|outage| outage.altogether.as_secs()).collect();
        assert_eq!(weights, [180, 90]);
    }

    #[test]
    fn they_need_not_end_together() {
        let ends = [13.0, 14.0, 19.0, 28.0];
        let holes = sorted((0..).zip(ends).map(|(of, end)| hole(of, 10.0, end, "server")));
        assert_eq!(told(&holes), [((10.0, 28.0), 4, 4, (10.0, 13.0))]);
    }

    #[test]
    fn one_subscription_has_as_many_outages_as_gaps() {
        let holes: Vec<_> =
            (0..300).map(|at| f64::from(at) * 5.0).map(|at| hole(0, at, at + 4.0, "x")).collect();
        let told = told(&holes);
        assert_eq!(told.len(), 300);
        assert!(told.iter().all(|(span, of, down, at)| (*of, *down, at) == (1, 1, span)));
    }

    #[test]
    fn the_longest_of_equal_peaks_is_told() {
        let holes = sorted([
            hole(0, 0.0, 100.0, "x"),
            hole(1, 1.0, 91.0, "x"),
            hole(2, 2.0, 12.0, "x"),
            hole(2, 20.0, 60.0, "x"),
        ]);
        let most = peak(&holes).unwrap();
        assert_eq!((most.count, seconds(most.span)), (3, (20.0, 60.0)));
        let levels: Vec<_> = levels(&holes).into_iter().map(|(_, count)| count).collect();
        assert_eq!(levels, [1, 2, 3, 2, 3, 2, 1, 0]);
    }

    #[test]
    fn all_holes_are_in_outages_however_many_there_are() {
        // Half of them dead for ever, one after the other, half of them flapping.
        let dead = (0..200).map(|of| hole(of, of as f64 * 100.0, 1e6, "server"));
        let flaps = (0..20_000_u32).map(|flap| (200 + flap as usize % 200, f64::from(flap) * 40.0));
        let flaps = flaps.map(|(of, at)| hole(of, at, at + 5.0, "network"));
        let holes = sorted(dead.chain(flaps));
        let found = outages(&holes);
        assert_eq!(found.iter().map(|outage| outage.holes).sum::<usize>(), holes.len());
        let lost =
            |holes: &[Hole<'_>]| holes.iter().map(|hole| hole.span.length()).sum::<Duration>();
        assert_eq!(found.iter().map(|outage| outage.altogether).sum::<Duration>(), lost(&holes));
        assert!(found.iter().all(|outage| outage.span.length() >= outage.peak.span.length()));
        assert!(found.len() > 20_000, "{}", found.len());
    }
}
