//! How far earlier recordings into the same folder covered each subscription.
//!
//! The last segment knows: a connection that was up when it began is mentioned there, and so is all
//! that happened since. Where a connection has no end, the recorder had none either: it was killed, and
//! the last thing that it wrote is the last moment that is known to be covered.

use std::{collections::HashMap, path::Path};

use super::ring::sealed_in;
use crate::{
    capture::{Capture, Unsealed},
    entry::{
        Entry, Timestamp, What,
        session_event::{Event, gap::Cause},
    },
};

/// Until when each subscription was covered, and why not longer, by name.
pub(super) type Covered = HashMap<String, (Timestamp, Cause)>;

/// Reads the last segment in the folder in which there is something, sealed or not: whoever was killed had perhaps
/// just begun another one. What cannot be read says nothing.
pub(super) fn covered_in(folder: &Path, unsealed: &[Unsealed]) -> Covered {
    let covered_by = |path| {
        let capture = Capture::open(&[path]).ok();
        covered(capture.iter().flat_map(Capture::entries).map_while(Result::ok))
    };
    let unsealed = unsealed.iter().map(|unsealed| unsealed.path.clone());
    let mut segments: Vec<_> = sealed_in(folder).into_iter().chain(unsealed).collect();
    // A moment stands first in each name.
    segments.sort();
    let from_the_last = segments.into_iter().rev();
    from_the_last.map(covered_by).find(|covered| !covered.is_empty()).unwrap_or_default()
}

fn covered(entries: impl Iterator<Item = Entry>) -> Covered {
    let mut last = Timestamp::default();
    let mut subscriptions = HashMap::<String, Option<Timestamp>>::new();
    for entry in entries {
        last = last.max(entry.received);
        let What::Event(event) = &entry.what else { continue };
        if let Some(Event::ClockStepped(step)) = &event.event {
            // What was latest by the old clock is so no more.
            last = entry.received;
            if let Some(Some(ended)) = subscriptions.get_mut(&entry.subscription.name) {
                *ended = step.by_new_clock(*ended);
            }
        }
        let ended = match &event.event {
            Some(Event::Connected(_) | Event::Continued(_)) => None,
            Some(Event::Closed(_)) => Some(entry.received),
            // Stopped while it was not connected: the gap so far is told.
            Some(Event::Gap(gap)) if is_down(&subscriptions, &entry) => {
                Some(Timestamp::from_nanos(gap.to_ns))
            }
            _ => continue,
        };
        subscriptions.insert(entry.subscription.name.clone(), ended);
    }
    let was_killed = subscriptions.values().any(Option::is_none);
    let down = if was_killed { Cause::Network } else { Cause::Shutdown };
    let covered = subscriptions.into_iter().map(|(name, ended)| match ended {
        None => (name, (last, Cause::Killed)),
        Some(ended) => (name, (ended, down)),
    });
    covered.collect()
}

fn is_down(subscriptions: &HashMap<String, Option<Timestamp>>, entry: &Entry) -> bool {
    matches!(subscriptions.get(&entry.subscription.name), Some(Some(_)))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::{
        capture::{About, SealedFile},
        entry::{
            SessionEvent, Subscription,
            session_event::{ClockStepped, Closed, Connected, Continued, Gap, TextFrame},
        },
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn happened(name: &str, seconds: u64, event: Event) -> Entry {
        let subscription = Subscription {
            name: name.to_owned(),
            protocol: "classic".to_owned(),
            topic: "audit".to_owned(),
            host: "feed.example.com".to_owned(),
        };
        let what = What::Event(SessionEvent { connection: 1, event: Some(event) });
        Entry { subscription: Arc::new(subscription), received: at(seconds), what }
    }

    fn up() -> Event {
        Event::Connected(Connected::default())
    }

    fn down() -> Event {
        Event::Closed(Closed::default())
    }

    #[test]
    fn a_connection_without_an_end_was_covered_until_the_last_thing_that_was_written() {
        let told = covered(
            [
                happened("quiet", 1, Event::Continued(Continued::default())),
                happened("lost", 2, up()),
                happened("lost", 3, down()),
                happened("busy", 4, up()),
                happened("busy", 9, Event::TextFrame(TextFrame::default())),
            ]
            .into_iter(),
        );
        assert_eq!(told["quiet"], (at(9), Cause::Killed));
        assert_eq!(told["busy"], (at(9), Cause::Killed));
        assert_eq!(told["lost"], (at(3), Cause::Network));
        assert_eq!(told.len(), 3);
    }

    #[test]
    fn a_segment_that_was_only_just_begun_does_not_hide_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        for (name, entries) in [
            ("20260101T000000.000Z.mcap", vec![happened("busy", 4, up())]),
            ("20260101T000001.000Z.mcap", vec![]),
        ] {
            let about = About { started: at(0), host: String::new(), options: BTreeMap::new() };
            let mut file = SealedFile::create(&folder.path().join(name), &about, &[]).unwrap();
            for entry in &entries {
                file.append(entry).unwrap();
            }
            file.finish().unwrap();
        }
        assert_eq!(covered_in(folder.path(), &[])["busy"], (at(4), Cause::Killed));
    }

    #[test]
    fn a_recording_that_was_stopped_ends_every_connection() {
        let gap = Gap { from_ns: at(3).as_nanos(), to_ns: at(8).as_nanos(), cause: 1 };
        let told = covered(
            [
                happened("lost", 2, up()),
                happened("lost", 3, down()),
                happened("busy", 4, up()),
                happened("lost", 8, Event::Gap(gap)),
                happened("busy", 9, down()),
            ]
            .into_iter(),
        );
        assert_eq!(told["busy"], (at(9), Cause::Shutdown));
        assert_eq!(told["lost"], (at(8), Cause::Shutdown));
    }

    #[test]
    fn a_gap_that_a_new_connection_ends_is_no_end() {
        let told = covered(
            [happened("a", 1, up()), happened("a", 1, Event::Gap(Gap::default()))].into_iter(),
        );
        assert_eq!(told["a"], (at(1), Cause::Killed));
        assert!(covered(std::iter::empty()).is_empty());
    }

    #[test]
    fn a_clock_that_was_set_back_leaves_no_moment_in_the_future() {
        let (from_ns, to_ns) = (at(1010).as_nanos(), at(10).as_nanos());
        let step = || Event::ClockStepped(ClockStepped { from_ns, to_ns });
        let told = covered(
            [
                happened("lost", 1000, up()),
                happened("busy", 1000, up()),
                happened("lost", 1005, down()),
                happened("busy", 10, step()),
                happened("lost", 10, step()),
                happened("busy", 17, Event::TextFrame(TextFrame::default())),
            ]
            .into_iter(),
        );
        assert_eq!(told["busy"], (at(17), Cause::Killed));
        assert_eq!(told["lost"], (at(5), Cause::Network));
    }
}
