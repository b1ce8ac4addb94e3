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

/// Waits, after a damage, for what each subscription says next. Memory follows the number of subscriptions.
#[derive(Default)]
pub(super) struct Losses {
    /// Where the counters were before the damage.
    open: Counters,
    /// Those who have said all since; None before the first damage.
    settled: Option<HashSet<usize>>,
    /// Where the counters had come to in earlier segments, unless they are open.
    earlier: Counters,
    /// Which recording those are of: counters go on from segment to segment, and begin again with the next one.
    recording: Option<String>,
}

/// By the subscription's address: the counter of its last frame, 0 for none.
type Counters = HashMap<usize, (Arc<Subscription>, u32)>;

/// Where the counters of a segment have come to; None where it has not told so far.
pub(super) type Last = Vec<(Arc<Subscription>, Option<u32>)>;

impl Losses {
    /// Something was left out of a segment of that recording; these were the last frames in it before that.
    /// Returns what nobody will say any more.
    pub(super) fn damaged(&mut self, recording: Option<&str>, last: Last) -> Vec<Kind> {
        let over = self.enter(recording);
        self.settled = Some(HashSet::new());
        for (subscription, last) in last {
            let key = Arc::as_ptr(&subscription) as usize;
            let earlier = self.earlier.remove(&key).map(|(_, earlier)| earlier);
            // Who has said nothing between two damages is asked once.
            let last = last.or(earlier).unwrap_or(0);
            self.open.entry(key).or_insert((subscription, last));
        }
        for (key, earlier) in self.earlier.drain() {
            self.open.entry(key).or_insert(earlier);
        }
        over
    }

    /// A segment of that recording has ended; None for the counters if they do not tell how many frames there
    /// were. Returns what nobody will say any more.
    pub(super) fn ended(&mut self, recording: Option<&str>, last: Option<Last>) -> Vec<Kind> {
        let over = self.enter(recording);
        match last {
            Some(last) => {
                for (subscription, last) in last {
                    let key = Arc::as_ptr(&subscription) as usize;
                    last.and_then(|last| self.earlier.insert(key, (subscription, last)));
                }
            }
            None => self.earlier.clear(),
        }
        over
    }

    /// What is read now is of that recording. One that does not say so is taken for the one before.
    fn enter(&mut self, recording: Option<&str>) -> Vec<Kind> {
        let Some(found) = recording.filter(|found| self.recording.as_deref() != Some(found)) else {
            return Vec::new();
        };
        let is_first = self.recording.replace(found.to_owned()).is_none();
        if is_first {
            return Vec::new();
        }
        self.earlier.clear();
        self.end().collect()
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
        assert!(losses.damaged(None, vec![(Arc::clone(before), Some(7))]).is_empty());
        let mut told: Vec<_> = following.iter().filter_map(|entry| losses.see(entry)).collect();
        told.extend(losses.end());
        told.into_iter().map(words).collect()
    }

    fn words(kind: Kind) -> String {
        match kind {
            Kind::Lost(Lost { frames, .. }) => frames,
            other => format!("{other:?}"),
        }
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
        losses.damaged(None, vec![(Arc::clone(&a), Some(7))]);
        let Some(Kind::Lost(lost)) = losses.see(&frame(&b, 4)) else { panic!("b has lost") };
        assert_eq!((&*lost.subscription, &*lost.frames), ("b", "frames 1 to 3 (3)"));
        assert!(losses.see(&frame(&b, 9)).is_none());
        // Asked again, and once more for who has not answered.
        losses.damaged(None, vec![(Arc::clone(&a), Some(7)), (Arc::clone(&b), Some(9))]);
        assert!(losses.see(&frame(&b, 10)).is_none());
        let rest: Vec<_> = losses.end().collect();
        let [Kind::Lost(lost)] = &rest[..] else { panic!("{rest:?}") };
        assert_eq!((&*lost.subscription, &*lost.topic), ("a", "audit"));
    }
    #[test]
    fn counters_go_on_over_the_segments_of_a_recording() {
        let [a, b] = ["a", "b"].map(subscription);
        let at = |of: &Arc<Subscription>, last| (Arc::clone(of), last);
        // What a segment says that is damaged counts more than those before it.
        for (declared, next, expected) in [
            (vec![], 30, "frames 21 to 29 (9)"),
            (vec![at(&a, None)], 30, "frames 21 to 29 (9)"),
            (vec![at(&a, Some(25))], 30, "frames 26 to 29 (4)"),
        ] {
            let mut losses = Losses::default();
            losses.ended(Some("first"), Some(vec![at(&a, Some(10)), at(&b, Some(5))]));
            losses.ended(Some("first"), Some(vec![at(&a, Some(20)), at(&b, None)]));
            assert!(losses.damaged(Some("first"), declared).is_empty());
            assert_eq!(losses.see(&frame(&a, next)).map(words).unwrap(), expected);
            let rest: Vec<_> = losses.end().map(words).collect();
            assert_eq!(rest, ["the frames after 5, if there were any"]);
        }
    }

    #[test]
    fn counters_begin_again_with_another_recording() {
        let [a, b] = ["a", "b"].map(subscription);
        let last = || Some(vec![(Arc::clone(&a), Some(20)), (Arc::clone(&b), Some(5))]);
        let mut losses = Losses::default();
        losses.ended(Some("first"), last());
        assert!(losses.damaged(Some("second"), Vec::new()).is_empty());
        assert_eq!(losses.see(&frame(&a, 30)).map(words).unwrap(), "frames 1 to 29 (29)");
        // Nobody of the second one will say what the first one had.
        assert!(losses.damaged(Some("second"), vec![(Arc::clone(&a), Some(40))]).is_empty());
        let over: Vec<_> = losses.ended(Some("third"), last()).into_iter().map(words).collect();
        assert_eq!(over, ["the frames after 40, if there were any"]);
        assert_eq!(losses.end().count(), 0);
        // Nor does a selection tell how many frames there were.
        assert!(losses.ended(Some("third"), None).is_empty());
        assert!(losses.damaged(Some("third"), Vec::new()).is_empty());
        assert_eq!(losses.see(&frame(&a, 30)).map(words).unwrap(), "frames 1 to 29 (29)");
        assert_eq!(losses.end().count(), 0);
    }
}
