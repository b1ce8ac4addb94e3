//! What waits for an exporter, and what became of it.
//!
//! A frame stays in the queue until it is exported, so that whatever is in it at the end is what was
//! not. Both sides hold the lock for a few instructions only: neither ever waits for the other's work.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::ExportStatus;
use crate::entry::{Entry, Frame, Subscription};

/// How many frames may wait, however small they are.
const MOST_FRAMES: usize = 50_000;

/// Frames that are decoded together have so many bytes, at least, and are so many, at the most.
const BATCH_SIZE: usize = 256 * 1024;
const BATCH_FRAMES: usize = 1024;

/// A queue of frames between the recording and an exporter.
#[derive(Debug)]
pub(in crate::record) struct Queue {
    name: String,
    most_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What was not exported yet, in order. The exporter is at work on the first of it.
    waiting: VecDeque<Entry>,
    /// The sum of its frames' sizes.
    bytes: u64,
    exported: u64,
    dropped: u64,
    undecodable: u64,
    /// Why nothing can be exported.
    trouble: Option<String>,
    outage: Option<Outage>,
    /// What the ledger was not told yet, by the subscription's address.
    losses: HashMap<usize, Loss>,
    /// When it was told something.
    told: Option<Instant>,
    /// Nothing more comes, and what is left has until then.
    end: Option<Instant>,
    /// Nothing more is exported.
    is_over: bool,
}

/// Something the user is told once. It goes on until everything that waits was exported.
#[derive(Debug, Default)]
struct Outage {
    /// Nothing could be exported for a while.
    had_trouble: bool,
    dropped: u64,
}

/// What was dropped of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub subscription: Arc<Subscription>,
    pub frames: u64,
    /// Their size altogether.
    pub bytes: u64,
    /// Why the first of them was dropped.
    pub reason: String,
}

/// Whether frames are dropped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Dropping {
    /// They are not, or the user knows already.
    NoNews,
    /// They are, from now on.
    Begins { reason: String },
}

/// What an exporter has to do.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Export these.
    Batch(Vec<Entry>),
    /// Nothing, for now.
    Nothing,
    /// Nothing any more.
    Over,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Became {
    Exported,
    Undecodable,
}

/// An outage has come to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recovered {
    /// Frames that were dropped in it.
    pub dropped: u64,
}

impl Queue {
    pub(super) fn new(name: String, most_bytes: u64) -> Self {
        Self { name, most_bytes, state: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How it is doing.
    pub(in crate::record) fn status(&self) -> ExportStatus {
        let state = self.lock();
        ExportStatus {
            name: self.name.clone(),
            exported: state.exported,
            dropped: state.dropped,
            undecodable: state.undecodable,
            queued: state.waiting.len() as u64,
            queued_bytes: state.bytes,
        }
    }

    /// Takes the frames among the entries, as far as they fit.
    pub(super) fn hand_over(&self, entries: &[Entry]) -> Dropping {
        let mut state = self.lock();
        let was_dropping = state.is_dropping();
        for entry in entries {
            let Some(frame) = entry.frame() else { continue };
            let size = frame.data.len() as u64;
            let fits = state.waiting.is_empty()
                || (state.waiting.len() < MOST_FRAMES && state.bytes + size <= self.most_bytes);
            if fits && !state.is_over {
                state.bytes += size;
                state.waiting.push_back(entry.clone());
            } else {
                state.lose(entry, frame);
            }
        }
        self.changed.notify_all();
        if state.is_dropping() && !was_dropping {
            Dropping::Begins { reason: state.reason() }
        } else {
            Dropping::NoNews
        }
    }

    /// Waits for something to do, so long at the most.
    pub(super) fn next(&self, patience: Duration) -> Next {
        let until = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if state.is_over_at(now) || (state.waiting.is_empty() && state.end.is_some()) {
                return Next::Over;
            }
            if !state.waiting.is_empty() {
                return Next::Batch(state.batch());
            }
            if now >= until {
                return Next::Nothing;
            }
            state = self.wait(state, until - now);
        }
    }

    /// The first frame that waits is done with. Says so where that is the end of an outage.
    pub(super) fn settle(&self, became: Became) -> Option<Recovered> {
        let mut state = self.lock();
        if state.is_over {
            return None;
        }
        let entry = state.waiting.pop_front()?;
        state.bytes -= entry.frame().map_or(0, |frame| frame.data.len() as u64);
        match became {
            Became::Exported => {
                state.exported += 1;
                state.trouble = None;
            }
            Became::Undecodable => state.undecodable += 1,
        }
        if !state.waiting.is_empty() || state.trouble.is_some() {
            return None;
        }
        state.outage.take().map(|outage| Recovered { dropped: outage.dropped })
    }

    /// Nothing can be exported, for this reason. Says whether the user does not know that yet.
    pub(super) fn fail(&self, reason: String) -> bool {
        let mut state = self.lock();
        state.trouble = Some(reason);
        let outage = state.outage.get_or_insert_default();
        !std::mem::replace(&mut outage.had_trouble, true)
    }

    /// It works again, though nothing was there to be exported.
    pub(super) fn works(&self) -> Option<Recovered> {
        let mut state = self.lock();
        state.trouble = None;
        let is_empty = state.waiting.is_empty();
        state.outage.take_if(|_| is_empty).map(|outage| Recovered { dropped: outage.dropped })
    }

    /// What was dropped since the last time, in the order of names; if that is `every` ago.
    pub(super) fn take_losses(&self, every: Duration) -> Vec<Loss> {
        let mut state = self.lock();
        if state.losses.is_empty() || state.told.is_some_and(|told| told.elapsed() < every) {
            return Vec::new();
        }
        state.told = Some(Instant::now());
        let mut losses: Vec<_> = state.losses.drain().map(|(_, loss)| loss).collect();
        losses.sort_by(|a, b| a.subscription.name.cmp(&b.subscription.name));
        losses
    }

    /// Waits so long, or until nothing more comes.
    pub(super) fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.lock();
        while state.end.is_none() && !state.is_over {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.wait(state, left);
        }
    }

    /// Nothing more comes, and what is left has until then.
    pub(super) fn close(&self, end: Instant) {
        self.lock().end = Some(end);
        self.changed.notify_all();
    }

    /// Nothing more comes.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().end.is_some()
    }

    /// Nothing more is to be exported.
    pub(super) fn is_over(&self) -> bool {
        self.lock().is_over_at(Instant::now())
    }

    /// Drops what is left. Nothing is exported any more.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.is_over = true;
        state.bytes = 0;
        for entry in std::mem::take(&mut state.waiting) {
            if let Some(frame) = entry.frame() {
                state.lose(&entry, frame);
            }
        }
        self.changed.notify_all();
    }

    /// Waits until the exporter has ended it, until then at the latest.
    pub(super) fn wait_until_over(&self, until: Instant) {
        let mut state = self.lock();
        while !state.is_over {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.wait(state, left);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>, time: Duration) -> MutexGuard<'s, State> {
        let waited = self.changed.wait_timeout(state, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl State {
    fn is_over_at(&self, now: Instant) -> bool {
        self.is_over || self.end.is_some_and(|end| now >= end)
    }

    fn is_dropping(&self) -> bool {
        self.outage.as_ref().is_some_and(|outage| outage.dropped > 0)
    }

    fn reason(&self) -> String {
        let slow = || "it takes frames more slowly than they come".to_owned();
        self.trouble.clone().unwrap_or_else(slow)
    }

    fn batch(&self) -> Vec<Entry> {
        let mut size = 0;
        let fits = |entry: &&Entry| {
            let fits = size < BATCH_SIZE;
            size += entry.frame().map_or(0, |frame| frame.data.len());
            fits
        };
        self.waiting.iter().take(BATCH_FRAMES).take_while(fits).cloned().collect()
    }

    fn lose(&mut self, entry: &Entry, frame: &Frame) {
        self.dropped += 1;
        self.outage.get_or_insert_default().dropped += 1;
        let key = Arc::as_ptr(&entry.subscription) as usize;
        if !self.losses.contains_key(&key) {
            let (subscription, reason) = (Arc::clone(&entry.subscription), self.reason());
            self.losses.insert(key, Loss { subscription, frames: 0, bytes: 0, reason });
        }
        if let Some(loss) = self.losses.get_mut(&key) {
            loss.frames += 1;
            loss.bytes += frame.data.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        entry::{SessionEvent, Timestamp, What},
        protocol::PROTOCOLS,
        schema::FrameTypes,
    };

    fn entry(of: &Arc<Subscription>, what: What) -> Entry {
        Entry { subscription: Arc::clone(of), received: Timestamp::default(), what }
    }

    fn frame(of: &Arc<Subscription>, sequence: u32, size: usize) -> Entry {
        let data = Bytes::from(vec![0; size]);
        entry(of, What::Frame(FrameTypes::of(PROTOCOLS[0]).frame("audit", sequence, data)))
    }

    /// The sequence numbers of the frames that are next.
    fn next(queue: &Queue) -> Vec<u32> {
        let Next::Batch(entries) = queue.next(Duration::ZERO) else { return Vec::new() };
        entries.iter().filter_map(|entry| Some(entry.frame()?.sequence)).collect()
    }

    fn losses(queue: &Queue) -> Vec<(String, u64, u64)> {
        let losses = queue.take_losses(Duration::ZERO).into_iter();
        losses.map(|loss| (loss.subscription.name.clone(), loss.frames, loss.bytes)).collect()
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted_for_each_subscription() {
        let (west, east) = (Subscription::to_audit("west"), Subscription::to_audit("east"));
        let queue = Queue::new("there".to_owned(), 100);
        let event = entry(&west, What::Event(SessionEvent::default()));
        let first = [event, frame(&west, 1, 60), frame(&east, 1, 40)];
        assert_eq!(queue.hand_over(&first), Dropping::NoNews);
        let reason = "it takes frames more slowly than they come".to_owned();
        let more = [frame(&west, 2, 1), frame(&east, 2, 2), frame(&west, 3, 3)];
        assert_eq!(queue.hand_over(&more), Dropping::Begins { reason });
        // Once is enough.
        assert_eq!(queue.hand_over(&[frame(&west, 4, 4)]), Dropping::NoNews);
        assert_eq!(next(&queue), [1, 1]);
        assert_eq!(losses(&queue), [("east".to_owned(), 1, 2), ("west".to_owned(), 3, 8)]);
        assert_eq!(losses(&queue), []);

        assert_eq!(queue.settle(Became::Exported), None);
        assert_eq!(queue.hand_over(&[frame(&west, 5, 60)]), Dropping::NoNews);
        assert_eq!(queue.settle(Became::Undecodable), None);
        assert_eq!(queue.settle(Became::Exported), Some(Recovered { dropped: 4 }));
        let expected = ExportStatus {
            name: "there".to_owned(),
            exported: 2,
            dropped: 4,
            undecodable: 1,
            ..ExportStatus::default()
        };
        assert_eq!(queue.status(), expected);
    }

    #[test]
    fn a_frame_that_is_larger_than_the_queue_is_taken_when_nothing_else_waits() {
        let west = Subscription::to_audit("west");
        let queue = Queue::new(String::new(), 10);
        queue.hand_over(&[frame(&west, 1, 1000), frame(&west, 2, 1)]);
        assert_eq!((next(&queue), queue.status().dropped), (vec![1], 1));
    }

    #[test]
    fn small_frames_do_not_wait_without_number() {
        let west = Subscription::to_audit("west");
        let queue = Queue::new(String::new(), u64::MAX);
        queue.hand_over(&vec![frame(&west, 1, 0); MOST_FRAMES + 7]);
        assert_eq!((queue.status().queued, queue.status().dropped), (MOST_FRAMES as u64, 7));
        assert_eq!(next(&queue).len(), BATCH_FRAMES);
    }

    #[test]
    fn the_ledger_is_not_told_all_the_time() {
        let west = Subscription::to_audit("west");
        let queue = Queue::new(String::new(), 0);
        let hour = Duration::from_secs(3600);
        queue.hand_over(&[frame(&west, 1, 1), frame(&west, 2, 1)]);
        assert_eq!(queue.take_losses(hour).len(), 1);
        queue.hand_over(&[frame(&west, 3, 1)]);
        assert_eq!(queue.take_losses(hour), []);
        assert_eq!(losses(&queue), [("west".to_owned(), 1, 1)]);
    }

    #[test]
    fn what_is_left_at_the_end_is_dropped_for_the_reason_that_it_had() {
        let west = Subscription::to_audit("west");
        let queue = Queue::new(String::new(), 100);
        queue.hand_over(&[frame(&west, 1, 10), frame(&west, 2, 10)]);
        assert!(queue.fail("nobody listens".to_owned()) && !queue.fail("no route".to_owned()));
        queue.close(Instant::now() + Duration::from_secs(3600));
        assert_eq!(next(&queue), [1, 2]);
        queue.end();
        assert_eq!(queue.next(Duration::ZERO), Next::Over);
        // A thread that was stuck comes too late.
        assert_eq!(queue.settle(Became::Exported), None);
        let [loss] = &queue.take_losses(Duration::ZERO)[..] else { panic!("one is lost") };
        assert_eq!((loss.frames, loss.bytes, &*loss.reason), (2, 20, "no route"));
        assert_eq!((queue.status().exported, queue.status().queued), (0, 0));
    }

    #[test]
    fn trouble_is_over_when_nothing_waits_any_more() {
        let west = Subscription::to_audit("west");
        let queue = Queue::new(String::new(), 100);
        assert!(queue.fail("nobody listens".to_owned()));
        queue.hand_over(&[frame(&west, 1, 10)]);
        assert_eq!(queue.works(), None);
        assert_eq!(queue.settle(Became::Exported), Some(Recovered { dropped: 0 }));
        assert_eq!(queue.works(), None);
        assert!(queue.fail("nobody listens".to_owned()));
        assert_eq!(queue.works(), Some(Recovered { dropped: 0 }));
    }
}
