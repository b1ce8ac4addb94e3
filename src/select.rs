//! Which entries of a capture are wanted. The same options mean the same wherever a capture is read.

use std::{fmt, str::FromStr, time::Duration};

use globset::{Glob, GlobMatcher};

pub use self::find::Find;
use crate::{
    by_address::ByAddress,
    capture::InChunks,
    entry::{Entry, Subscription, Timestamp, What},
    error::{Error, Result},
    protocol,
};

mod find;

/// What to take from a capture. The default takes everything.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only these topics, if there are any. A topic is the feed's or a channel's, such as
    /// `location.geofence`.
    pub topics: Vec<String>,
    /// Only subscriptions whose name matches one of these, if there are any.
    pub subscriptions: Vec<GlobMatcher>,
    /// Only frames of these customers, if there are any.
    pub customers: Vec<String>,
    /// Only frames that hold one of these, if there are any.
    pub finds: Vec<Find>,
    /// Nothing before this moment.
    pub from: Option<Moment>,
    /// Nothing from this moment on.
    pub to: Option<Moment>,
    /// Leaves out so many of the frames that would be taken.
    pub skip: u64,
    /// Takes so many frames at most.
    pub limit: Option<u64>,
}

/// A moment that the user names: absolute, or counted from the capture's first entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// RFC 3339.
    At(Timestamp),
    /// `+10m`.
    AfterStart(Duration),
}

impl FromStr for Moment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let moment = match text.strip_prefix('+') {
            Some(after) => duration(after).ok().map(Self::AfterStart),
            None => text.parse().ok().map(Self::At),
        };
        moment.ok_or_else(|| {
            Error::usage(
                "a moment",
                format!("{text:?}"),
                "2026-11-01T08:00:00Z or 2026-11-01T09:00:00+01:00, or +10m from the start",
            )
        })
    }
}

/// As it is read.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(time) => time.fmt(f),
            Self::AfterStart(after) => match jiff::SignedDuration::try_from(*after) {
                Ok(after) => write!(f, "+{after:#}"),
                Err(_) => write!(f, "+{}s", after.as_secs()),
            },
        }
    }
}

/// A moment that cannot be counted from anywhere: RFC 3339.
pub fn time(text: &str) -> Result<Timestamp> {
    text.parse().map_err(|_| {
        Error::usage(
            "a moment from 1970 to 2554",
            format!("{text:?}"),
            "2026-11-01T08:00:00Z or 2026-11-01T09:00:00+01:00",
        )
    })
}

/// A duration as people write it: `1h30m`, `250ms`, `7d`.
pub fn duration(text: &str) -> Result<Duration> {
    let wrong = || {
        Error::usage("a duration", format!("{text:?}"), "durations look like 7d, 1h30m or 250ms")
    };
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours());
    duration.ok().and_then(|duration| duration.try_into().ok()).ok_or_else(wrong)
}

/// A subscription pattern with `*`, `?` and `[...]`.
pub fn glob(text: &str) -> Result<GlobMatcher> {
    match Glob::new(text) {
        Ok(glob) => Ok(glob.compile_matcher()),
        Err(error) => {
            let found = format!("{text:?}, in which {}", error.kind());
            Err(Error::usage("a pattern of names", found, "patterns look like 'campus-*'"))
        }
    }
}

impl Selection {
    /// Passes on what is wanted. Errors pass always, and so do the session events of whoever is
    /// selected: they count neither for `skip` nor for `limit`. But nothing is read behind the last frame that
    /// `limit` allows, and nothing from there passes.
    pub fn of<I: Iterator<Item = Result<Entry>>>(self, entries: I) -> Selected<I> {
        let left = self.limit.unwrap_or(u64::MAX);
        Selected {
            to_skip: self.skip,
            left,
            selection: self,
            entries,
            start: None,
            named: ByAddress::default(),
        }
    }

    /// Every subscription is taken with all its frames, or not at all.
    pub fn takes_all_frames(&self) -> bool {
        let Self { topics, subscriptions: _, customers, finds, from, to, skip, limit } = self;
        topics.is_empty()
            && customers.is_empty()
            && finds.is_empty()
            && from.is_none()
            && to.is_none()
            && *skip == 0
            && limit.is_none()
    }

    /// No moment is wanted, as far as can be said without a capture.
    pub fn is_over_before_it_begins(&self) -> bool {
        match (self.from, self.to) {
            (Some(Moment::At(from)), Some(Moment::At(to))) => to <= from,
            (Some(Moment::AfterStart(from)), Some(Moment::AfterStart(to))) => to <= from,
            _ => self.to == Some(Moment::AfterStart(Duration::ZERO)),
        }
    }

    /// Nothing is left out.
    pub fn takes_everything(&self) -> bool {
        self.takes_all_frames() && self.subscriptions.is_empty()
    }

    fn names(&self, subscription: &Subscription) -> bool {
        self.subscriptions.iter().any(|pattern| pattern.is_match(&subscription.name))
    }

    fn wants_topic(&self, entry: &Entry) -> bool {
        self.topics.is_empty()
            || self.topics.contains(&entry.subscription.topic)
            || entry.frame().is_some_and(|frame| self.topics.contains(&frame.kind.label))
    }

    fn wants_customer(&self, entry: &Entry) -> bool {
        match &entry.what {
            What::Frame(frame) if !self.customers.is_empty() => {
                let protocol = protocol::by_name(&entry.subscription.protocol);
                let customer = protocol.envelope(&frame.data).customer;
                self.customers.iter().any(|wanted| wanted.as_bytes() == customer)
            }
            _ => true,
        }
    }

    /// Asked last: it looks at every byte.
    fn finds_in(&self, entry: &Entry) -> bool {
        self.finds.is_empty()
            || entry.frame().is_none_or(|frame| self.position(&frame.data).is_some())
    }

    /// At which byte of a frame there is something that is to be found.
    pub fn position(&self, data: &[u8]) -> Option<usize> {
        self.finds.iter().find_map(|find| find.position(data))
    }

    fn wants_content(&self, entry: &Entry) -> bool {
        self.wants_topic(entry) && self.wants_customer(entry) && self.finds_in(entry)
    }
}

/// The entries that a [`Selection`] wants.
pub struct Selected<I> {
    selection: Selection,
    entries: I,
    start: Option<Timestamp>,
    to_skip: u64,
    left: u64,
    /// The verdict on each subscription's name.
    named: ByAddress<Subscription, bool>,
}

impl<I> Selected<I> {
    /// The iterator below.
    pub fn inner(&self) -> &I {
        &self.entries
    }

    /// The limit is reached.
    pub const fn is_over(&self) -> bool {
        self.left == 0
    }

    fn wants(&mut self, entry: &Entry) -> bool {
        let start = *self.start.get_or_insert(entry.received);
        let at = |moment: Moment| match moment {
            Moment::At(time) => time,
            Moment::AfterStart(after) => start.after(after),
        };
        let selection = &self.selection;
        if selection.from.is_some_and(|from| entry.received < at(from))
            || selection.to.is_some_and(|to| entry.received >= at(to))
        {
            return false;
        }
        if selection.subscriptions.is_empty() {
            return selection.wants_content(entry);
        }
        let of = &entry.subscription;
        *self.named.or_insert_with(of, || selection.names(of)) && selection.wants_content(entry)
    }
}

impl<I: InChunks> InChunks for Selected<I> {
    fn chunk_is_over(&self) -> bool {
        self.entries.chunk_is_over()
    }
}

impl<I: Iterator<Item = Result<Entry>>> Iterator for Selected<I> {
    type Item = Result<Entry>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            let entry = match self.entries.next()? {
                Ok(entry) if self.wants(&entry) => entry,
                Ok(_) => continue,
                Err(error) => return Some(Err(error)),
            };
            if entry.frame().is_some() {
                if self.to_skip > 0 {
                    self.to_skip -= 1;
                    continue;
                }
                self.left -= 1;
            }
            return Some(Ok(entry));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::{entry::SessionEvent, protocol::PROTOCOLS, schema::FrameTypes};

    #[test]
    fn a_day_has_24_hours_and_a_month_no_length() {
        for (text, seconds) in
            [("7d", 604_800.0), ("1w", 604_800.0), ("1h30m", 5400.0), ("1.5s", 1.5)]
        {
            assert_eq!(duration(text).unwrap(), Duration::from_secs_f64(seconds), "{text}");
        }
        for text in ["1mo", "-5s", "7", "", "later"] {
            let error = duration(text).unwrap_err();
            assert!(error.to_string().contains("a duration"), "{text}: {error}");
        }
    }

    /// `count` frames a second apart, in turn of `a` (monitoring) and `b` (audit), after one event.
    fn entries(count: u32) -> Vec<Result<Entry>> {
        let mut types = FrameTypes::of(PROTOCOLS[0]);
        let of = |name: &str, topic: &str| {
            Arc::new(Subscription {
                name: name.to_owned(),
                protocol: "classic".to_owned(),
                topic: topic.to_owned(),
                host: "feed.example.com".to_owned(),
            })
        };
        let owners = [of("a", "monitoring"), of("b", "audit")];
        let event = What::Event(SessionEvent::default());
        let received = Timestamp::from_nanos(0);
        let mut all =
            vec![Ok(Entry { subscription: Arc::clone(&owners[0]), received, what: event })];
        for number in 0..count {
            let subscription = Arc::clone(&owners[number as usize % 2]);
            // Field 5, the customer: "1" or "2".
            let data = Bytes::from(vec![0x2a, 1, b'1' + (number % 4 / 2) as u8]);
            let frame = types.frame(&subscription.topic, number + 1, data);
            let received = Timestamp::from_nanos(u64::from(number) * 1_000_000_000);
            all.push(Ok(Entry { subscription, received, what: What::Frame(frame) }));
        }
        all
    }

    fn sequences(selection: Selection) -> Vec<u32> {
        let selected = selection.of(entries(8).into_iter()).map(Result::unwrap);
        selected.filter_map(|entry| entry.frame().map(|frame| frame.sequence)).collect()
    }

    #[test]
    fn each_option_takes_what_it_says() {
        let all = Selection::default();
        assert_eq!(sequences(all.clone()), [1, 2, 3, 4, 5, 6, 7, 8]);
        let topics = vec!["audit".to_owned()];
        assert_eq!(sequences(Selection { topics, ..all.clone() }), [2, 4, 6, 8]);
        let subscriptions = vec![glob("[a]*").unwrap()];
        assert_eq!(sequences(Selection { subscriptions, ..all.clone() }), [1, 3, 5, 7]);
        let customers = vec!["2".to_owned()];
        assert_eq!(sequences(Selection { customers, ..all.clone() }), [3, 4, 7, 8]);
        let finds = vec!["*\u{1}2".parse().unwrap(), "nowhere".parse().unwrap()];
        let (skip, limit) = (1, Some(2));
        assert_eq!(sequences(Selection { finds, skip, limit, ..all.clone() }), [4, 7]);
        let (from, to) =
            (Some("+2s".parse().unwrap()), Some("1970-01-01T00:00:04Z".parse().unwrap()));
        assert_eq!(sequences(Selection { from, to, ..all.clone() }), [3, 4]);
        assert_eq!(sequences(Selection { skip: 3, limit: Some(2), ..all }), [4, 5]);
    }

    #[test]
    fn events_pass_and_are_not_counted() {
        let selection = Selection { limit: Some(1), ..Selection::default() };
        assert_eq!(selection.of(entries(8).into_iter()).count(), 2);
    }

    #[test]
    fn nothing_is_read_behind_the_limit() {
        for (limit, passed) in [(0, 0), (1, 2), (2, 3)] {
            let unread = std::iter::once_with(|| -> Result<Entry> { panic!("it was read") });
            // Before them there is an event.
            let all = entries(limit).into_iter().chain(unread);
            let selection = Selection { limit: Some(limit.into()), ..Selection::default() };
            assert_eq!(selection.of(all).count(), passed, "{limit}");
        }
    }

    #[test]
    fn a_moment_is_shown_as_it_is_read() {
        for text in ["+0s", "+1h30m", "+250ms", "+1m1s1ms1ns", "2026-11-01T08:00:00Z"] {
            let moment: Moment = text.parse().unwrap();
            assert_eq!(moment.to_string().parse::<Moment>().unwrap(), moment, "{moment}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in
            ["yesterday", "+", "+soon", "+-5s", "2026-11-01T08:00:00", "2026-11-01T08:00:00+25:00"]
        {
            let error = text.parse::<Moment>().unwrap_err();
            assert!(error.is_usage() && error.hint().is_some(), "{text}");
        }
        for text in ["+10m", "2026-11-01", "1969-12-31T23:59:59Z", "2555-01-01T00:00:00Z"] {
            let error = time(text).unwrap_err();
            assert!(error.is_usage() && error.hint().is_some(), "{text}");
        }
        assert!(glob("[").unwrap_err().is_usage());
        assert_eq!(duration("1h30m").unwrap(), Duration::from_secs(5400));
    }
}
