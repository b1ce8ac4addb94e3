//! Gaps of all subscriptions, put together: when something was wrong with the feed as a whole.
//!
//! Gaps that overlap or touch are one outage, whosever they are. A time of which nothing is known counts as
//! one, too: whoever looks for a minute that is missing looks for that as well.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use crate::inspect::{Gap, Profile, Span};

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

/// A stretch of time in which at least one subscription was not covered.
#[derive(Clone, Debug)]
pub(super) struct Outage<'p> {
    pub span: Span,
    /// Subscriptions that were not covered at some time of it.
    pub subscriptions: usize,
    /// So many of them at the same time.
    pub at_once: usize,
    /// How many holes it is made of.
    pub holes: usize,
    /// Holes by their cause.
    pub causes: BTreeMap<&'p str, usize>,
    /// Frames that were received in it and lost.
    pub frames: u64,
    /// How long all of its holes are together: how bad it is.
    pub altogether: Duration,
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
        holes.extend(coverage.unknown.iter().map(|span| Hole {
            subscription,
            span: *span,
            cause: "unknown",
            gap: None,
        }));
    }
    holes.sort_by_key(|hole| (hole.span, hole.subscription));
    holes
}

/// `holes` are in the order of time.
pub(super) fn outages<'p>(holes: &[Hole<'p>]) -> Vec<Outage<'p>> {
    let mut outages = Vec::new();
    let mut begin = 0;
    while begin < holes.len() {
        let mut last = holes[begin].span.last;
        let together = holes[begin..].iter().take_while(|hole| {
            let is_one = hole.span.first <= last;
            last = last.max(hole.span.last);
            is_one
        });
        let end = begin + together.count();
        outages.push(outage(&holes[begin..end]));
        begin = end;
    }
    outages
}

fn outage<'p>(holes: &[Hole<'p>]) -> Outage<'p> {
    let first = holes[0].span.first;
    let last = holes.iter().map(|hole| hole.span.last).max().unwrap_or(first);
    let mut causes = BTreeMap::new();
    for hole in holes {
        *causes.entry(hole.cause).or_insert(0) += 1;
    }
    let subscriptions: HashSet<_> = holes.iter().map(|hole| hole.subscription).collect();
    let frames = holes.iter().filter_map(|hole| hole.gap).map(|gap| gap.frames);
    Outage {
        span: Span { first, last },
        subscriptions: subscriptions.len(),
        at_once: at_once(holes),
        holes: holes.len(),
        causes,
        frames: frames.fold(0, u64::saturating_add),
        altogether: holes.iter().map(|hole| hole.span.length()).sum(),
    }
}

/// Those of one subscription do not overlap, so at no time there are more holes than subscriptions.
fn at_once(holes: &[Hole<'_>]) -> usize {
    let begins = holes.iter().map(|hole| (hole.span.first, 1));
    let mut steps: Vec<_> = begins.chain(holes.iter().map(|hole| (hole.span.last, -1))).collect();
    // Where one ends as another begins they are not there together.
    steps.sort_unstable();
    let (mut now, mut most) = (0_i64, 1_i64);
    for (_, step) in steps {
        now += step;
        most = most.max(now);
    }
    usize::try_from(most).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Timestamp;

    fn hole(subscription: usize, first: u64, last: u64, cause: &'static str) -> Hole<'static> {
        let at = Timestamp::from_nanos;
        Hole { subscription, span: Span { first: at(first), last: at(last) }, cause, gap: None }
    }

    fn found(holes: &[Hole<'_>]) -> Vec<(u64, u64, usize, usize, usize)> {
        let shown = |outage: &Outage<'_>| {
            let Outage { span, subscriptions, at_once, holes, .. } = outage;
            (span.first.as_nanos(), span.last.as_nanos(), *subscriptions, *at_once, *holes)
        };
        outages(holes).iter().map(shown).collect()
    }

    #[test]
    fn what_overlaps_or_touches_is_one_outage() {
        assert_eq!(found(&[]), []);
        let two = [hole(0, 10, 20, "network"), hole(1, 15, 18, "server")];
        assert_eq!(found(&two), [(10, 20, 2, 2, 2)]);
        assert_eq!(outages(&two)[0].altogether, Duration::from_nanos(13));
        let causes: Vec<_> = outages(&two)[0].causes.clone().into_iter().collect();
        assert_eq!(causes, [("network", 1), ("server", 1)]);
        // One inside of another does not make it shorter.
        let three =
            [hole(0, 10, 40, "network"), hole(1, 15, 18, "network"), hole(2, 30, 35, "disk")];
        assert_eq!(found(&three), [(10, 40, 3, 2, 3)]);
        let apart = [hole(0, 10, 20, "network"), hole(0, 20, 25, "disk"), hole(0, 26, 26, "x")];
        assert_eq!(found(&apart), [(10, 25, 1, 1, 2), (26, 26, 1, 1, 1)]);
    }
}
