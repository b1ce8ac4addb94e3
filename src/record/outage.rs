//! What could not be written, until it can be told.
//!
//! While nothing can be written, frames are counted and forgotten, and events are kept; text messages are kept
//! until they come to too much, and then counted and forgotten like frames. When writing
//! works again, [`Outage::ledger`] says all of it, in order: so many frames were dropped here, this
//! happened to the connection, and from then to now there was no coverage, because of the disk.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    entry::{
        Entry, SessionEvent, Subscription, Timestamp, What,
        session_event::{ClockStepped, Continued, DroppedFrames, Event, Gap, gap::Cause},
    },
    error::Error,
};

/// How long to wait before the second try, and the longest wait: what a full disk leaves behind is
/// tried again soon, and a disk that stays full is not kept busy.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// So many events are kept, at the most: a feed may come and go for days.
const EVENTS_KEPT: usize = 100_000;

/// So many bytes of text messages are kept, at the most: one alone may be as large as the limit of messages.
const TEXT_KEPT: usize = 16 * 1024 * 1024;

/// A time without a place to write to.
pub(super) struct Outage {
    /// Not after anything that was lost was received.
    since: Timestamp,
    reason: String,
    /// Room is what is missing, as far as is known.
    is_full: bool,
    /// What will be written down, in order.
    entries: Vec<Entry>,
    /// How many bytes the text messages among them have, at most [`TEXT_KEPT`].
    text: usize,
    /// Where the last entry of a subscription is, by its address.
    last: HashMap<usize, usize>,
    /// Who lost frames, by the subscription's address.
    lost: HashMap<usize, Lost>,
    tried: Instant,
    wait: Duration,
}

struct Lost {
    subscription: Arc<Subscription>,
    connection: u32,
}

/// What is known of the connections of all subscriptions, by address.
#[derive(Default)]
pub(super) struct Connections {
    known: HashMap<usize, Known>,
}

struct Known {
    subscription: Arc<Subscription>,
    connection: u32,
    /// Since when it is up, if it is.
    up: Option<Timestamp>,
    last_sequence: u32,
}

impl Connections {
    /// Learns from what one subscription has received: all events, and where its frames have come to.
    pub(super) fn see_all(&mut self, entries: &[Entry]) {
        let is_frame = |entry: &Entry| entry.frame().is_some();
        for row in entries.chunk_by(|a, b| is_frame(a) && is_frame(b)) {
            row.last().into_iter().for_each(|entry| self.see(entry));
        }
    }

    /// Learns from what was received.
    pub(super) fn see(&mut self, entry: &Entry) {
        let key = Arc::as_ptr(&entry.subscription) as usize;
        let known = self.known.entry(key).or_insert_with(|| Known {
            subscription: Arc::clone(&entry.subscription),
            connection: 0,
            up: None,
            last_sequence: 0,
        });
        match &entry.what {
            What::Frame(frame) => known.last_sequence = frame.sequence,
            What::Event(event) => {
                known.connection = event.connection;
                match &event.event {
                    Some(Event::Connected(_)) => {
                        (known.up, known.last_sequence) = (Some(entry.received), 0);
                    }
                    Some(Event::Closed(_)) => known.up = None,
                    Some(Event::ClockStepped(step)) => {
                        known.up = known.up.map(|since| step.by_new_clock(since));
                    }
                    _ => {}
                }
            }
        }
    }

    /// The connection that a subscription has, or had last.
    pub(super) fn of(&self, subscription: &Arc<Subscription>) -> u32 {
        let key = Arc::as_ptr(subscription) as usize;
        self.known.get(&key).map_or(0, |known| known.connection)
    }

    /// The subscription of that name, as it is known here: who is not known stays as it is.
    pub(super) fn known_as(&self, subscription: &Arc<Subscription>) -> Arc<Subscription> {
        let mut known = self.known.values().map(|known| &known.subscription);
        Arc::clone(known.find(|known| *known == subscription).unwrap_or(subscription))
    }

    /// What a segment that begins now has to say of those that are up.
    pub(super) fn continued(&self, now: Timestamp) -> Vec<Entry> {
        let mut up: Vec<_> =
            self.known.values().filter_map(|known| Some((known, known.up?))).collect();
        up.sort_by(|(a, _), (b, _)| a.subscription.name.cmp(&b.subscription.name));
        let entry = |(known, since): (&Known, Timestamp)| {
            let (since_ns, last_sequence) = (since.as_nanos(), known.last_sequence.into());
            let event = Some(Event::Continued(Continued { since_ns, last_sequence }));
            let what = What::Event(SessionEvent { connection: known.connection, event });
            Entry { subscription: Arc::clone(&known.subscription), received: now, what }
        };
        up.into_iter().map(entry).collect()
    }
}

impl Outage {
    /// Nothing can be written any more, for this reason.
    pub(super) fn new(since: Timestamp, reason: &Error, now: Instant) -> Self {
        Self {
            since,
            reason: reason.to_string(),
            is_full: reason.is_full(),
            entries: Vec::new(),
            text: 0,
            last: HashMap::new(),
            lost: HashMap::new(),
            tried: now,
            wait: Duration::ZERO,
        }
    }

    /// Whether it is time to try again.
    pub(super) fn is_time(&self, now: Instant) -> bool {
        now.duration_since(self.tried) >= self.wait
    }

    /// It was tried again, and failed for this reason, which may be another one by now.
    pub(super) fn failed_again(&mut self, reason: &Error, now: Instant) {
        self.is_full = reason.is_full();
        self.tried = now;
        self.wait = (2 * self.wait).clamp(FIRST_WAIT, LONGEST_WAIT);
    }

    /// The wall clock was set. The subscriptions say so among the entries.
    pub(super) fn clock_stepped(&mut self, step: ClockStepped) {
        self.since = step.by_new_clock(self.since);
    }

    /// The next try is the last one, and now.
    pub(super) fn hurry(&mut self) {
        self.wait = Duration::ZERO;
    }

    /// Whether deleting something may end it.
    pub(super) const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Why nothing can be written.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// Remembers what can be remembered of an entry that was not written.
    pub(super) fn lose(&mut self, entry: Entry, connections: &Connections) {
        let key = Arc::as_ptr(&entry.subscription) as usize;
        let bytes = match &entry.what {
            What::Frame(frame) => frame.data.len(),
            What::Event(SessionEvent { event: Some(Event::TextFrame(text)), .. }) => {
                let size = text.data.len();
                if self.entries.len() < EVENTS_KEPT && self.text + size <= TEXT_KEPT {
                    self.text += size;
                    return self.push(key, entry);
                }
                size
            }
            What::Event(_) => {
                if self.entries.len() < EVENTS_KEPT {
                    self.push(key, entry);
                }
                return;
            }
        };
        self.drop_message(key, entry, bytes as u64, connections);
    }

    /// Counts a message that is forgotten.
    fn drop_message(&mut self, key: usize, entry: Entry, bytes: u64, connections: &Connections) {
        self.since = self.since.min(entry.received);
        let subscription = Arc::clone(&entry.subscription);
        let connection = connections.of(&subscription);
        let last = self.last.get(&key).map(|&at| &mut self.entries[at].what);
        if let Some(What::Event(event)) = last
            && let Some(Event::DroppedFrames(dropped)) = &mut event.event
            && event.connection == connection
        {
            dropped.count += 1;
            dropped.bytes += bytes;
        } else {
            let dropped = DroppedFrames { count: 1, bytes, reason: self.reason.clone() };
            let event = Some(Event::DroppedFrames(dropped));
            let what = What::Event(SessionEvent { connection, event });
            self.push(key, Entry { what, ..entry });
        }
        self.lost.insert(key, Lost { subscription, connection });
    }

    fn push(&mut self, key: usize, entry: Entry) {
        self.last.insert(key, self.entries.len());
        self.entries.push(entry);
    }

    /// Frames that were lost so far.
    pub(super) fn frames(&self) -> u64 {
        let dropped = |entry: &Entry| match &entry.what {
            What::Event(SessionEvent { event: Some(Event::DroppedFrames(dropped)), .. }) => {
                dropped.count
            }
            _ => 0,
        };
        self.entries.iter().map(dropped).sum()
    }

    /// All that has to be written down, if it ends now.
    pub(super) fn ledger(&self, now: Timestamp) -> Vec<Entry> {
        let mut lost: Vec<_> = self.lost.values().collect();
        lost.sort_by(|a, b| a.subscription.name.cmp(&b.subscription.name));
        let gaps = lost.into_iter().map(|Lost { subscription, connection }| {
            let (from_ns, to_ns) = (self.since.as_nanos(), now.as_nanos());
            let gap = Gap { from_ns, to_ns, cause: i32::from(Cause::Disk) };
            let event = SessionEvent { connection: *connection, event: Some(Event::Gap(gap)) };
            Entry {
                subscription: Arc::clone(subscription),
                received: now,
                what: What::Event(event),
            }
        });
        self.entries.iter().cloned().chain(gaps).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        entry::session_event::{Closed, Connected, TextFrame},
        protocol::PROTOCOLS,
        schema::FrameTypes,
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn failed() -> Error {
        Error::io_on("write", None)
    }

    fn frame(of: &Arc<Subscription>, seconds: u64) -> Entry {
        let frame = FrameTypes::of(PROTOCOLS[0]).frame("audit", 1, Bytes::from_static(b"12345"));
        Entry { subscription: Arc::clone(of), received: at(seconds), what: What::Frame(frame) }
    }

    fn event(of: &Arc<Subscription>, connection: u32, event: Event) -> Entry {
        let what = What::Event(SessionEvent { connection, event: Some(event) });
        Entry { subscription: Arc::clone(of), received: at(0), what }
    }

    #[test]
    fn lost_frames_are_counted_between_the_events_and_gaps_follow() {
        let (east, west) = (Subscription::to_audit("east"), Subscription::to_audit("west"));
        let mut connections = Connections::default();
        connections.see(&event(&east, 3, Event::Gap(Gap::default())));
        connections.see(&event(&west, 1, Event::Gap(Gap::default())));
        let mut outage = Outage::new(at(10), &failed(), Instant::now());
        for entry in [
            frame(&east, 11),
            frame(&west, 11),
            frame(&east, 12),
            event(&east, 3, Event::Closed(Closed::default())),
        ] {
            outage.lose(entry, &connections);
        }
        connections.see(&event(&east, 4, Event::Gap(Gap::default())));
        outage.lose(frame(&east, 13), &connections);
        assert_eq!(outage.frames(), 4);

        let shown: Vec<_> = outage
            .ledger(at(20))
            .into_iter()
            .map(|entry| {
                let What::Event(event) = entry.what else { panic!("a frame in a ledger") };
                let what = match event.event.unwrap() {
                    Event::DroppedFrames(dropped) => (dropped.count, dropped.bytes),
                    Event::Gap(gap) => (gap.from_ns, gap.to_ns),
                    _ => (0, 0),
                };
                (entry.subscription.name.clone(), event.connection, what)
            })
            .collect();
        let of = |name: &str, connection, what| (name.to_owned(), connection, what);
        let gap = (at(10).as_nanos(), at(20).as_nanos());
        assert_eq!(
            shown,
            [
                of("east", 3, (2, 10)),
                of("west", 1, (1, 5)),
                of("east", 3, (0, 0)),
                of("east", 4, (1, 5)),
                of("east", 4, gap),
                of("west", 1, gap),
            ]
        );
    }

    #[test]
    fn text_is_kept_until_it_comes_to_too_much_and_then_counted_like_frames() {
        let (of, size) = (Subscription::to_audit("east"), TEXT_KEPT / 8);
        let data = Bytes::from(vec![b'a'; size]);
        let text = || event(&of, 1, Event::TextFrame(TextFrame { data: data.clone() }));
        let mut connections = Connections::default();
        connections.see(&text());
        let mut outage = Outage::new(at(10), &failed(), Instant::now());
        for _ in 0..10 {
            outage.lose(text(), &connections);
        }
        outage.lose(event(&of, 1, Event::Closed(Closed::default())), &connections);
        let told = outage.ledger(at(20));
        let told: Vec<_> = told
            .iter()
            .map(|entry| match &entry.what {
                What::Event(SessionEvent { event: Some(event), .. }) => event,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(told[..8].iter().all(|event| matches!(event, Event::TextFrame(_))));
        let [Event::DroppedFrames(dropped), Event::Closed(_), Event::Gap(_)] = &told[8..] else {
            panic!("{:?}", &told[8..])
        };
        assert_eq!((dropped.count, dropped.bytes), (2, 2 * size as u64));
    }

    #[test]
    fn a_new_segment_mentions_the_connections_that_are_up() {
        let (east, west) = (Subscription::to_audit("east"), Subscription::to_audit("west"));
        let mut connections = Connections::default();
        let connected = || Event::Connected(Connected::default());
        for entry in [
            event(&west, 1, connected()),
            event(&west, 1, Event::Closed(Closed::default())),
            event(&east, 2, connected()),
            frame(&east, 5),
        ] {
            connections.see(&entry);
        }
        let [continued] = &connections.continued(at(7))[..] else { panic!("one is up") };
        let expected = Continued { since_ns: 0, last_sequence: 1 };
        let event = SessionEvent { connection: 2, event: Some(Event::Continued(expected)) };
        assert_eq!(continued.what, What::Event(event));
        assert_eq!((&*continued.subscription.name, continued.received), ("east", at(7)));
    }

    #[test]
    fn a_clock_that_is_set_makes_no_outage_longer_and_no_connection_older() {
        let of = Subscription::to_audit("east");
        let step = ClockStepped { from_ns: at(1012).as_nanos(), to_ns: at(12).as_nanos() };
        let mut outage = Outage::new(at(1010), &failed(), Instant::now());
        outage.lose(frame(&of, 1011), &Connections::default());
        outage.clock_stepped(step);
        let What::Event(told) = &outage.ledger(at(20))[1].what else { panic!("a frame") };
        let Some(Event::Gap(gap)) = &told.event else { panic!("{told:?}") };
        assert_eq!((gap.from_ns, gap.to_ns), (at(10).as_nanos(), at(20).as_nanos()));

        let mut connections = Connections::default();
        let connected = event(&of, 1, Event::Connected(Connected::default()));
        connections.see(&Entry { received: at(1000), ..connected });
        connections.see(&event(&of, 1, Event::ClockStepped(step)));
        let What::Event(told) = &connections.continued(at(20))[0].what else { panic!("a frame") };
        let Some(Event::Continued(continued)) = &told.event else { panic!("{told:?}") };
        assert_eq!(continued.since_ns, 0);
    }

    #[test]
    fn it_is_tried_at_once_and_then_less_often_but_always_within_five_seconds() {
        let start = Instant::now();
        let mut outage = Outage::new(at(0), &failed(), start);
        assert!(outage.is_time(start));
        let mut now = start;
        for _ in 0..20 {
            outage.failed_again(&failed(), now);
            assert!(!outage.is_time(now));
            now += LONGEST_WAIT;
            assert!(outage.is_time(now));
        }
        outage.failed_again(&failed(), now);
        assert!(!outage.is_time(now + LONGEST_WAIT.mul_f64(0.99)));
    }
}
