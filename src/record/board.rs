//! What is going on, for whoever watches: counts and states that are read at any time.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::entry::{
    Entry, What,
    session_event::{Event, gap::Cause},
};

/// How a subscription is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// No connection yet, or a new one is being made.
    #[default]
    Connecting,
    /// Frames can come in.
    Connected,
    /// Waiting for the next attempt.
    Waiting,
    /// Done.
    Stopped,
}

/// One subscription's line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The subscription's name.
    pub name: String,
    /// Its state.
    pub state: State,
    /// Frames that are kept.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Connections that were made.
    pub connections: u64,
    /// Frames that were received but could not be kept, such as one over the limit.
    pub dropped: u64,
    /// Times without coverage that nobody asked for.
    pub gaps: u64,
}

/// All subscriptions. Everything is updated when it is safe, not when it is received.
#[derive(Debug, Default)]
pub struct Board {
    lines: RwLock<Lines>,
}

/// Lines are added and never taken away: an index is good for ever.
#[derive(Debug, Default)]
struct Lines {
    lines: Vec<Line>,
    by_name: HashMap<String, usize>,
}

#[derive(Debug, Default)]
struct Line {
    name: String,
    state: Mutex<State>,
    frames: AtomicU64,
    bytes: AtomicU64,
    connections: AtomicU64,
    dropped: AtomicU64,
    gaps: AtomicU64,
}

impl Board {
    /// The line of that name, which may be there already.
    pub(super) fn add(&self, name: &str) -> usize {
        let mut all = self.lines.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&index) = all.by_name.get(name) {
            return index;
        }
        all.lines.push(Line { name: name.to_owned(), ..Line::default() });
        let index = all.lines.len() - 1;
        all.by_name.insert(name.to_owned(), index);
        index
    }

    fn all(&self) -> RwLockReadGuard<'_, Lines> {
        self.lines.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How everybody is doing, in the order in which they were given.
    pub fn read(&self) -> Vec<Status> {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let status = |line: &Line| Status {
            name: line.name.clone(),
            state: *line.state.lock().unwrap_or_else(PoisonError::into_inner),
            frames: load(&line.frames),
            bytes: load(&line.bytes),
            connections: load(&line.connections),
            dropped: load(&line.dropped),
            gaps: load(&line.gaps),
        };
        self.all().lines.iter().map(status).collect()
    }

    pub(super) fn set(&self, index: usize, state: State) {
        *self.all().lines[index].state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Counts entries that were kept, of any subscriptions.
    pub(super) fn count_all(&self, entries: &[Entry]) {
        entries
            .chunk_by(|a, b| Arc::ptr_eq(&a.subscription, &b.subscription))
            .for_each(|entries| self.count(entries));
    }

    /// Counts entries that were kept, all of one subscription.
    pub(super) fn count(&self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let all = self.all();
        let Some(&index) = all.by_name.get(&first.subscription.name) else { return };
        let line = &all.lines[index];
        let add = |number: &AtomicU64, count: u64| number.fetch_add(count, Ordering::Relaxed);
        for entry in entries {
            match &entry.what {
                What::Frame(frame) => {
                    add(&line.frames, 1);
                    add(&line.bytes, frame.data.len() as u64);
                }
                What::Event(event) => match &event.event {
                    Some(Event::Connected(_)) => {
                        add(&line.connections, 1);
                    }
                    Some(Event::DroppedFrames(dropped)) => {
                        add(&line.dropped, dropped.count);
                    }
                    // Whoever stopped the last recording knows that nothing was recorded since.
                    Some(Event::Gap(gap)) if gap.cause() != Cause::Shutdown => {
                        add(&line.gaps, 1);
                    }
                    _ => {}
                },
            }
        }
    }
}
