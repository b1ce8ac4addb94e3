//! Where each frame is and when it came: what the list is drawn from, made while it is already shown.
//!
//! It takes 24 bytes for each frame, 16 more where that is in no chunk, and 4 more where a selection leaves
//! some out. Frames themselves are read again when they are looked at.

use std::{
    collections::HashMap,
    mem,
    ops::ControlFlow,
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use centralcap::{
    capture::{Capture, Place},
    entry::{FrameType, Subscription, Timestamp},
    error,
    inspect::{Numbered, each_frame},
    select::Selection,
};

/// Stands for the place in a chunk where there is none. No chunk is that large.
const IN_NO_CHUNK: u32 = u32::MAX;

/// A frame in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub received: Timestamp,
    pub bytes: u32,
    /// Which of [`Index::channels`].
    pub channel: u32,
    /// Which of [`Index::offsets`].
    offset: u32,
    within: u32,
}

/// Whose a frame is, and what it is taken for.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub subscription: Arc<Subscription>,
    pub kind: Arc<FrameType>,
}

/// All frames that are known so far, in the order of the capture.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub rows: Vec<Row>,
    /// Of each row, where a selection was made; else a frame's number is its place.
    numbers: Vec<u32>,
    /// Segments, and where in them a chunk begins, or else a frame.
    offsets: Vec<(u32, u64)>,
    pub channels: Vec<Channel>,
    /// How many places are damaged, and what is wrong with the first.
    pub damages: u64,
    pub damage: Option<String>,
    /// How reading ended; None while there may be more.
    pub end: Option<error::Result<()>>,
}

impl Index {
    /// A frame's number, counted over the whole capture from 1.
    pub(super) fn number(&self, at: usize) -> u64 {
        self.numbers.get(at).map_or(at as u64 + 1, |&number| number.into())
    }

    pub(super) fn place(&self, row: Row) -> Place {
        let (segment, offset) = self.offsets[row.offset as usize];
        let within = (row.within != IN_NO_CHUNK).then_some(row.within);
        Place { segment, offset, within }
    }

    pub(super) fn channel(&self, row: Row) -> &Channel {
        &self.channels[row.channel as usize]
    }

    /// Takes what comes next, and says whether that is anything.
    pub(super) fn add(&mut self, next: Self) -> bool {
        let any = !next.rows.is_empty() || next.damages > 0 || next.end.is_some();
        self.rows.extend(next.rows);
        self.numbers.extend(next.numbers);
        self.offsets.extend(next.offsets);
        self.channels.extend(next.channels);
        self.damages += next.damages;
        self.damage = self.damage.take().or(next.damage);
        self.end = self.end.take().or(next.end);
        any
    }
}

/// Reads a capture on a thread of its own, which ends with it.
pub(super) struct Reading {
    /// What has been read and not been taken yet.
    next: Arc<Mutex<Index>>,
    thread: Option<JoinHandle<error::Result<()>>>,
}

impl Reading {
    pub(super) fn begin(capture: &Capture, selection: Selection) -> Self {
        let next = Arc::<Mutex<Index>>::default();
        let (capture, shared) = (capture.clone(), Arc::clone(&next));
        let thread = thread::spawn(move || read(&capture, selection, &shared));
        Self { next, thread: Some(thread) }
    }

    /// What has been read since the last time.
    pub(super) fn take(&mut self) -> Index {
        // Asked first: whatever a thread that has ended has read is there.
        let ended = self.thread.take_if(|thread| thread.is_finished());
        // A panic over there is one here. Its words have been said.
        let end = ended.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        Index { end, ..mem::take(&mut *locked(&self.next)) }
    }
}

fn locked(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(capture: &Capture, selection: Selection, next: &Mutex<Index>) -> error::Result<()> {
    let takes_everything = selection.takes_everything();
    let mut channels = Channels::default();
    let (mut last, mut offsets) = (None, 0);
    let lost = |error: &error::Error| {
        // The damage itself was told before.
        if !error.is_cost_of_damage() {
            let mut next = locked(next);
            next.damages += 1;
            next.damage.get_or_insert_with(|| error.to_string());
        }
    };
    each_frame(capture, selection, lost, |Numbered { number, entry, frame, place }| {
        let mut next = locked(next);
        let offset = (place.segment, place.offset);
        if last != Some(offset) {
            last = Some(offset);
            next.offsets.push(offset);
            offsets += 1;
        }
        let channel = channels.number(&entry.subscription, &frame.kind, &mut next.channels);
        next.rows.push(Row {
            received: entry.received,
            bytes: frame.data.len() as u32,
            channel,
            offset: offsets - 1,
            within: place.within.unwrap_or(IN_NO_CHUNK),
        });
        if !takes_everything {
            next.numbers.push(number as u32);
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// The channels by the addresses of what they are made of. A capture has each once, and they are kept.
#[derive(Default)]
struct Channels(HashMap<(usize, usize), (Channel, u32)>);

impl Channels {
    fn number(
        &mut self,
        subscription: &Arc<Subscription>,
        kind: &Arc<FrameType>,
        new: &mut Vec<Channel>,
    ) -> u32 {
        let key = (Arc::as_ptr(subscription) as usize, Arc::as_ptr(kind) as usize);
        let next = self.0.len() as u32;
        let (_, number) = self.0.entry(key).or_insert_with(|| {
            let (subscription, kind) = (Arc::clone(subscription), Arc::clone(kind));
            let channel = Channel { subscription, kind };
            new.push(channel.clone());
            (channel, next)
        });
        *number
    }
}
