//! What damage has cost each subscription: told by the counters of its frames, before and behind.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    entry::{
        Entry, Subscription, What,
        session_event::{Closed, Continued, Event},
    },
    error::{Kind, Lost},
};

/// Waits, after a damage, for what each subscription says next.
#[derive(Default)]
pub(super) struct Losses {
    /// By the subscription's address: the counter of its last frame before the damage, 0 for none.
    open: HashMap<usize, (Arc<Subscription>, u32)>,
    /// Those who have said all since; None before the first damage.
    settled: Option<HashSet<usize>>,
}

impl Losses {
    /// Something was left out; these were the last frames before it.
    pub(super) fn damaged(&mut self, last: impl IntoIterator<Item = (Arc<Subscription>, u32)>) {
        self.settled = Some(HashSet::new());
        for (subscription, sequence) in last {
            let key = Arc::as_ptr(&subscription) as usize;
            // Who has said nothing between two damages is asked once.
            self.open.entry(key).or_insert((subscription, sequence));
        }
    }

    /// What an entry tells of the damage before it.
    #[inline]
    pub(super) fn see(&mut self, entry: &Entry) -> Option<Kind> {
        self.settled.as_ref()?;
        self.told_by(entry)
    }

    fn told_by(&mut self, entry: &Entry) -> Option<Kind> {
        let key = Arc::as_ptr(&entry.subscription) as usize;
        let settled = self.settled.as_mut()?;
        if settled.contains(&key) {
            return None;
        }
        // None: nothing of it came before the damage.
        let known = self.open.get(&key).map(|(_, last)| *last);
        let before = known.unwrap_or(0);
        let frames = match &entry.what {
            What::Frame(frame) => match frame.sequence.checked_sub(1) {
                Some(last) => between(before, last),
                None => Some(after(before)),
            },
            What::Event(event) => match &event.event {
                Some(
                    Event::Closed(Closed { last_sequence, .. })
                    | Event::Continued(Continued { last_sequence, .. }),
                ) => between(before, u32::try_from(*last_sequence).unwrap_or(u32::MAX)),
                Some(Event::Connected(_)) => known.map(after),
                _ => return None,
            },
        };
        // What follows is whole, up to the next damage: nothing more of it is lost here.
        settled.insert(key);
        self.open.remove(&key);
        Some(lost(&entry.subscription, frames?))
    }

    /// Nothing follows: those who have said nothing since may have lost something.
    pub(super) fn end(&mut self) -> impl Iterator<Item = Kind> {
        let mut open: Vec<_> = std::mem::take(&mut self.open).into_values().collect();
        open.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        open.into_iter().map(|(subscription, last)| lost(&subscription, after(last)))
    }
}

fn lost(subscription: &Subscription, frames: String) -> Kind {
    let (subscription, topic) = (subscription.name.clone(), subscription.topic.clone());
    Kind::Lost(Lost { subscription, topic, frames })
}

/// The frames that are missing where one counter is followed by another one, in words.
fn between(before: u32, last: u32) -> Option<String> {
    if last >= before {
        return range(before, last);
    }
    let next = range(0, last).map(|next| format!(", and {next} of the next connection"));
    Some(after(before) + &next.unwrap_or_default())
}

/// The frames behind one counter and up to another, in words.
fn range(before: u32, last: u32) -> Option<String> {
    match last.checked_sub(before)? {
        0 => None,
        1 => Some(format!("frame {last}")),
        count => Some(format!("frames {} to {last} ({count})", before + 1)),
    }
}

fn after(before: u32) -> String {
    match before {
        0 => "the first frames of a connection, if there were any".to_owned(),
        before => format!("the frames after {before}, if there were any"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::entry::{
        Frame, FrameType, SessionEvent, Timestamp,
        session_event::{Closed, Connected, Continued, Rejected},
    };

    fn subscription(name: &str) -> Arc<Subscription> {
        let (protocol, topic) = ("classic".to_owned(), "audit".to_owned());
        Arc::new(Subscription { name: name.to_owned(), protocol, topic, host: String::new() })
    }

    fn entry(subscription: &Arc<Subscription>, what: What) -> Entry {
        Entry { subscription: Arc::clone(subscription), received: Timestamp::default(), what }
    }

    fn frame(of: &Arc<Subscription>, sequence: u32) -> Entry {
        let kind = Arc::new(FrameType {
            label: "audit".to_owned(),
            envelope: String::new(),
            payload: None,
            descriptors: Bytes::new(),
        });
        entry(of, What::Frame(Frame { sequence, sent: None, kind, data: Bytes::new() }))
    }

    fn event(of: &Arc<Subscription>, event: Event) -> Entry {
        entry(of, What::Event(SessionEvent { connection: 1, event: Some(event) }))
    }

    fn closed(last_sequence: u64) -> Event {
        Event::Closed(Closed { last_sequence, ..Closed::default() })
    }

    /// What is told when these follow a damage behind a frame with the counter 7.
    fn told(following: &[Entry]) -> Vec<String> {
        let mut losses = Losses::default();
        let before = &following[0].subscription;
        assert!(losses.see(&frame(before, 3)).is_none());
        losses.damaged([(Arc::clone(before), 7)]);
        let mut told: Vec<_> = following.iter().filter_map(|entry| losses.see(entry)).collect();
        told.extend(losses.end());
        let words = |kind| match kind {
            Kind::Lost(Lost { frames, .. }) => frames,
            other => format!("{other:?}"),
        };
        told.into_iter().map(words).collect()
    }

    #[test]
    fn the_counters_tell() {
        let a = subscription("a");
        let connected = || event(&a, Event::Connected(Connected::default()));
        let continued =
            |last_sequence| event(&a, Event::Continued(Continued { since_ns: 1, last_sequence }));
        let none: [&str; 0] = [];
        assert_eq!(told(&[frame(&a, 8), frame(&a, 11)]), none);
        assert_eq!(told(&[frame(&a, 9)]), ["frame 8"]);
        assert_eq!(told(&[frame(&a, 12)]), ["frames 8 to 11 (4)"]);
        let expected =
            "the frames after 7, if there were any, and frames 1 to 2 (2) of the next connection";
        assert_eq!(told(&[frame(&a, 3)]), [expected]);
        assert_eq!(told(&[event(&a, closed(9)), connected(), frame(&a, 1)]), ["frames 8 to 9 (2)"]);
        let expected =
            "the frames after 7, if there were any, and frames 1 to 3 (3) of the next connection";
        assert_eq!(told(&[event(&a, closed(3))]), [expected]);
        let expected = ["the frames after 7, if there were any"];
        assert_eq!(told(&[connected(), frame(&a, 1)]), expected);
        assert_eq!(told(&[connected()]), expected);
        assert_eq!(told(&[continued(7), frame(&a, 8)]), none);
        assert_eq!(told(&[continued(8), frame(&a, 9)]), ["frame 8"]);
    }

    #[test]
    fn who_has_said_where_the_counter_is_has_lost_nothing_behind_it() {
        let a = subscription("a");
        let none: [&str; 0] = [];
        let continued = Event::Continued(Continued { since_ns: 1, last_sequence: 7 });
        for said in [closed(7), continued] {
            assert_eq!(told(&[event(&a, said)]), none);
        }
        assert_eq!(told(&[event(&a, closed(9))]), ["frames 8 to 9 (2)"]);
        // What only says that somebody is there does not say what it had.
        let rejected = event(&a, Event::Rejected(Rejected::default()));
        assert_eq!(told(&[rejected]), ["the frames after 7, if there were any"]);
    }

    #[test]
    fn who_is_new_and_who_is_silent_is_told_of_too() {
        let (a, b) = (subscription("a"), subscription("b"));
        let mut losses = Losses::default();
        losses.damaged([(Arc::clone(&a), 7)]);
        let Some(Kind::Lost(lost)) = losses.see(&frame(&b, 4)) else { panic!("b has lost") };
        assert_eq!((&*lost.subscription, &*lost.frames), ("b", "frames 1 to 3 (3)"));
        assert!(losses.see(&frame(&b, 9)).is_none());
        // Asked again, and once more for who has not answered.
        losses.damaged([(Arc::clone(&a), 7), (Arc::clone(&b), 9)]);
        assert!(losses.see(&frame(&b, 10)).is_none());
        let rest: Vec<_> = losses.end().collect();
        let [Kind::Lost(lost)] = &rest[..] else { panic!("{rest:?}") };
        assert_eq!((&*lost.subscription, &*lost.topic), ("a", "audit"));
    }
}
