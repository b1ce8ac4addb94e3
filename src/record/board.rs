//! What is going on, for whoever watches: counts and states that are read at any time.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    export::{ExportStatus, queue::Queue as ExportQueue},
    keeper::Queue,
    room::free_space,
};
use crate::entry::{
    Entry, Timestamp, What,
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
    /// How long they were altogether, as far as they are over.
    pub gap_time: Duration,
    /// How long it has had no connection. None: it has one, or is done.
    pub down: Option<Duration>,
    /// When its last frame was received, and when that was sent, if it says so.
    pub last_frame: Option<(Timestamp, Option<Timestamp>)>,
}

/// What all subscriptions share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Works {
    /// What waits for the writing thread: batches, and what is asked of it.
    pub queue: usize,
    /// Segments that have ended and are not sealed yet.
    pub seal_backlog: usize,
    /// How many bytes the disk has left for us, where the system says so.
    pub disk_free: Option<u64>,
    /// How long nothing could be written, if so now.
    pub outage: Option<Duration>,
    /// How long ago the writing thread last had nothing left to do. Zero once it has ended.
    pub stalled: Duration,
}

/// All subscriptions, and what they share. Everything is updated when it is safe, not when it is
/// received.
#[derive(Debug)]
pub struct Board {
    lines: RwLock<Lines>,
    folder: PathBuf,
    sealing: Arc<AtomicUsize>,
    queue: OnceLock<Queue>,
    outage: Mutex<Option<Instant>>,
    began: Instant,
    /// When the writing thread was last done with all there was: milliseconds since it all began.
    beat: AtomicU64,
    exports: OnceLock<Vec<Arc<ExportQueue>>>,
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
    standing: Mutex<Standing>,
    frames: AtomicU64,
    bytes: AtomicU64,
    connections: AtomicU64,
    dropped: AtomicU64,
    gaps: AtomicU64,
    gap_nanos: AtomicU64,
    /// When the last frame was received and sent, in nanoseconds. 0: not known.
    received: AtomicU64,
    sent: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    state: State,
    down_since: Option<Instant>,
}

impl Default for Standing {
    fn default() -> Self {
        Self { state: State::default(), down_since: Some(Instant::now()) }
    }
}

/// The writing thread has ended, and cannot hang any more.
const NO_MORE_BEATS: u64 = u64::MAX;

impl Board {
    /// Of a recording into that folder. Whoever seals counts what is waiting.
    pub(super) fn new(folder: PathBuf, sealing: Arc<AtomicUsize>) -> Self {
        Self {
            exports: OnceLock::new(),
            lines: RwLock::default(),
            folder,
            sealing,
            queue: OnceLock::new(),
            outage: Mutex::default(),
            began: Instant::now(),
            beat: AtomicU64::new(0),
        }
    }

    /// The same, had the recording begun so much earlier.
    #[cfg(test)]
    pub(super) fn begun_earlier(self, by: Duration) -> Self {
        Self {
            began: self.began.checked_sub(by).expect("the machine has been up for longer"),
            ..self
        }
    }

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
        self.all().lines.iter().map(Line::status).collect()
    }

    /// How that is doing which all share. Asks the disk, which may take its time.
    pub fn works(&self) -> Works {
        Works {
            queue: self.queue.get().map_or(0, Queue::waiting),
            seal_backlog: self.sealing.load(Ordering::Relaxed),
            disk_free: free_space(&self.folder),
            outage: self.outage(),
            stalled: self.stalled(),
        }
    }

    /// How long nothing could be written, if so now.
    pub fn outage(&self) -> Option<Duration> {
        let since = *self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| since.elapsed())
    }

    /// How long ago the writing thread last had nothing left to do. Zero once it has ended.
    pub fn stalled(&self) -> Duration {
        match self.beat.load(Ordering::Relaxed) {
            NO_MORE_BEATS => Duration::ZERO,
            beat => self.began.elapsed().saturating_sub(Duration::from_millis(beat)),
        }
    }

    pub(super) fn watch_queue(&self, queue: Queue) {
        // There is one for each recording.
        let _ = self.queue.set(queue);
    }

    /// The writing thread is done with all there was.
    pub(super) fn beat(&self) {
        self.beat.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// The writing thread has ended.
    pub(super) fn beat_no_more(&self) {
        self.beat.store(NO_MORE_BEATS, Ordering::Relaxed);
    }

    /// Nothing can be written from now on, or it can again.
    pub(super) fn set_outage(&self, since: Option<Instant>) {
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// How all exporters are doing, in the order in which they were asked for.
    pub fn exports(&self) -> Vec<ExportStatus> {
        self.exports.get().into_iter().flatten().map(|queue| queue.status()).collect()
    }

    /// These are all there are.
    pub(super) fn show_exports(&self, exports: Vec<Arc<ExportQueue>>) {
        self.exports.get_or_init(|| exports);
    }

    pub(super) fn set(&self, index: usize, state: State) {
        let all = self.all();
        let mut standing = all.lines[index].standing();
        standing.state = state;
        standing.down_since = match state {
            State::Connected | State::Stopped => None,
            State::Connecting | State::Waiting => {
                Some(standing.down_since.unwrap_or_else(Instant::now))
            }
        };
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
        if let Some((last, frame)) = entries.iter().rev().find_map(|e| Some((e, e.frame()?))) {
            line.received.store(last.received.as_nanos(), Ordering::Relaxed);
            line.sent.store(frame.sent.unwrap_or_default().as_nanos(), Ordering::Relaxed);
        }
        let (mut frames, mut bytes) = (0, 0);
        for entry in entries {
            match &entry.what {
                What::Frame(frame) => {
                    frames += 1;
                    bytes += frame.data.len() as u64;
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
                        add(&line.gap_nanos, gap.to_ns.saturating_sub(gap.from_ns));
                    }
                    _ => {}
                },
            }
        }
        add(&line.frames, frames);
        add(&line.bytes, bytes);
    }
}

impl Line {
    fn status(&self) -> Status {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let Standing { state, down_since } = *self.standing();
        Status {
            name: self.name.clone(),
            state,
            frames: load(&self.frames),
            bytes: load(&self.bytes),
            connections: load(&self.connections),
            dropped: load(&self.dropped),
            gaps: load(&self.gaps),
            gap_time: Duration::from_nanos(load(&self.gap_nanos)),
            down: down_since.map(|since| since.elapsed()),
            last_frame: moment(&self.received).map(|received| (received, moment(&self.sent))),
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn moment(nanos: &AtomicU64) -> Option<Timestamp> {
    let nanos = nanos.load(Ordering::Relaxed);
    (nanos > 0).then(|| Timestamp::from_nanos(nanos))
}
