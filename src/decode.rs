//! capture -> Entry -> codec -> sink -> output, on as many threads as there are sinks, up to a few.
//!
//! Each thread does all that is to be done with a batch: it reads it, which unpacks a chunk, decodes it with
//! a sink of its own, and writes what came of it if its turn has come; if not, it leaves that to whoever is
//! writing, and goes on. What one core has unpacked is still near it when it is decoded, and never has to be
//! fetched by another one. Only one thread reads at a time, and meanwhile the others decode; the order is
//! kept, and a few batches are all that is held.
//!
//! A frame that does not decode and a segment that is damaged are told to the caller and counted;
//! the rest goes on, unless the caller is strict.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{Condvar, Mutex, PoisonError},
    thread,
};

use crate::{
    capture::InChunks,
    codec::{STACK_SIZE, notes::Drift},
    entry::{Entry, What},
    error::{Error, Result},
    sink::{Output, Sink},
    threads::{OnPanic, locked},
};

/// A batch ends with a chunk when its frames have so many bytes.
const BATCH_SIZE: usize = 256 * 1024;

/// It ends anywhere when they have so many: more than a chunk of ours has.
const BATCH_LIMIT: usize = 2 * 1024 * 1024;

/// Or when it has so many entries.
const BATCH_ENTRIES: usize = 8192;

/// Whose turn it is writes what there is after so many bytes of frames: text that is soon written over again
/// takes less memory, and the first of it is seen sooner.
const PART_SIZE: usize = 128 * 1024;

/// More threads would have nothing to do, as one of them reads at a time, and would hold more in memory.
pub const THREADS: usize = 16;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Frames that there were.
    pub read: u64,
    /// Frames that were decoded and written.
    pub decoded: u64,
    /// Frames that could not be decoded.
    pub undecodable: u64,
    /// Frames on which the user's condition failed.
    pub unjudged: u64,
    /// Places at which the capture is damaged, and files among others that are no capture.
    pub damaged: u64,
    /// What the schema did not know in the frames that were decoded.
    pub drift: Drift,
}

/// Writes what becomes of each frame among `entries`, one thread for each sink, the caller's among them, and
/// no more than [`THREADS`]. `lost` hears of everything that was left out; if `strict`, nothing may be: the
/// first is returned as the error. A file that is no capture at all is an error, unless there are others that
/// are.
///
/// After an error, what comes before it has been written, and the output is finished unless that is
/// what failed. But a file or a folder is left only if it is whole.
pub fn decode<S: Sink>(
    entries: impl InChunks + Send,
    sinks: &mut [S],
    out: &mut impl Output<S::Piece>,
    strict: bool,
    lost: impl FnMut(&Error) + Send,
) -> Result<Summary> {
    let reading = Mutex::new(Source { entries, turn: 0, frames: 0, is_over: false });
    let threads = sinks.len().min(THREADS);
    let writing = Writing::new(out, lost, threads + 2);
    let work = |worker: usize, sink: &mut S| {
        let _guard = OnPanic(|| writing.stop());
        let mut batch = Vec::new();
        while let Some(turn) = next_batch(&reading, &mut batch) {
            let Some(mut piece) = writing.empty_piece(turn, worker) else { break };
            let write_on = |piece: &mut S::Piece| writing.write_on(turn, piece);
            let result = decode_batch(sink, &mut batch, &mut piece, strict, write_on);
            if writing.put(turn, Done { worker, piece, result }).is_break() {
                break;
            }
        }
    };
    thread::scope(|scope| {
        let mut sinks = sinks.iter_mut().take(threads).enumerate();
        let own = sinks.next();
        for (worker, sink) in sinks {
            let thread = thread::Builder::new().stack_size(STACK_SIZE);
            let spawned = thread.spawn_scoped(scope, move || work(worker, sink));
            spawned.expect("the system has another thread");
        }
        if let Some((worker, sink)) = own {
            work(worker, sink);
        }
    });
    let ledger = writing.ledger.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut summary = ledger.finish()?;
    summary.read = reading.into_inner().unwrap_or_else(PoisonError::into_inner).frames;
    for sink in sinks {
        summary.drift.merge(sink.take_drift());
    }
    Ok(summary)
}

/// Writes what becomes of each frame of a capture that is still being recorded, on the caller's thread. Where
/// `entries` have no more now, all that was there is written, and `rest` is asked: it returns when it is time to
/// ask them again, or breaks if that is the end. All else is as with [`decode`].
pub fn follow<S: Sink, I: Iterator<Item = Result<Entry>>>(
    mut entries: I,
    sink: &mut S,
    out: &mut impl Output<S::Piece>,
    strict: bool,
    lost: impl FnMut(&Error),
    mut rest: impl FnMut(&I) -> ControlFlow<()>,
) -> Result<Summary> {
    let mut ledger = Ledger::new(out, lost);
    let (mut batch, mut piece) = (Vec::new(), S::Piece::default());
    let mut read = 0;
    loop {
        let mut size = 0;
        while size < BATCH_SIZE
            && batch.len() < BATCH_ENTRIES
            && let Some(entry) = entries.next()
        {
            if let Some(frame) = entry.as_ref().ok().and_then(Entry::frame) {
                size += frame.data.len();
                read += 1;
            }
            batch.push(entry);
        }
        let on = if batch.is_empty() {
            rest(&entries)
        } else {
            let result = decode_batch(sink, &mut batch, &mut piece, strict, |_| {});
            ledger.write(&mut piece, result)
        };
        if on.is_break() {
            break;
        }
    }
    let mut summary = ledger.finish()?;
    summary.read = read;
    summary.drift = sink.take_drift();
    Ok(summary)
}

/// Entries, in the order in which they are written.
struct Source<I> {
    entries: I,
    /// That of the next batch, counted from 0.
    turn: u64,
    /// How many frames there were so far.
    frames: u64,
    is_over: bool,
}

/// Reads the next batch in place of the last one, and returns its turn; None if there is nothing more.
fn next_batch<I: InChunks>(
    reading: &Mutex<Source<I>>,
    batch: &mut Vec<Result<Entry>>,
) -> Option<u64> {
    // Who panicked while reading leaves nothing that could be read on.
    reading.lock().ok()?.next_batch(batch)
}

impl<I: InChunks> Source<I> {
    /// See [`next_batch`]. After an error that ends everything there is nothing more.
    fn next_batch(&mut self, batch: &mut Vec<Result<Entry>>) -> Option<u64> {
        batch.clear();
        let mut size = 0;
        while !self.is_over && size < BATCH_LIMIT && batch.len() < BATCH_ENTRIES {
            let Some(entry) = self.entries.next() else {
                self.is_over = true;
                break;
            };
            match &entry {
                Ok(Entry { what: What::Frame(frame), .. }) => {
                    size += frame.data.len();
                    self.frames += 1;
                }
                Ok(_) => {}
                Err(error) => self.is_over = !goes_on_after(error),
            }
            batch.push(entry);
            if size >= BATCH_SIZE && self.entries.chunk_is_over() {
                break;
            }
        }
        if batch.is_empty() {
            return None;
        }
        self.turn += 1;
        Some(self.turn - 1)
    }
}

/// Damage ends a segment at most, and a stranger is one file among many.
fn goes_on_after(error: &Error) -> bool {
    error.is_loss() || error.is_not_a_capture()
}

/// What came of a batch, besides the piece.
#[derive(Default)]
struct Decoded {
    frames: u64,
    /// In it is something that only a capture has.
    is_capture: bool,
    lost: Vec<Error>,
    /// What ended it early.
    failure: Option<Error>,
}

/// `write_on` is given the piece after each part.
fn decode_batch<S: Sink>(
    sink: &mut S,
    batch: &mut Vec<Result<Entry>>,
    piece: &mut S::Piece,
    strict: bool,
    write_on: impl Fn(&mut S::Piece),
) -> Decoded {
    let mut result = Decoded::default();
    let mut size = 0;
    for entry in batch.drain(..) {
        if size >= PART_SIZE {
            write_on(piece);
            size = 0;
        }
        size += entry.as_ref().ok().and_then(Entry::frame).map_or(0, |frame| frame.data.len());
        result.is_capture |= !matches!(&entry, Err(error) if !error.is_damage());
        match entry.and_then(|entry| sink.entry(&entry, piece)) {
            Ok(written) => result.frames += u64::from(written),
            Err(error) if goes_on_after(&error) && !strict => result.lost.push(error),
            Err(error) => {
                result.failure = Some(error);
                break;
            }
        }
    }
    result
}

/// What a thread has made of a batch.
struct Done<P> {
    worker: usize,
    piece: P,
    result: Decoded,
}

/// Where pieces are written in turn.
struct Writing<'o, O, F, P> {
    queue: Mutex<Queue<P>>,
    /// The turn has passed on, or all is over.
    moved: Condvar,
    /// How many pieces may be waiting or worked on.
    ahead: usize,
    ledger: Mutex<Ledger<'o, O, F>>,
}

/// What has been decoded and not been written.
struct Queue<P> {
    /// Whose turn it is.
    turn: u64,
    done: BTreeMap<u64, Done<P>>,
    /// Pieces whose memory is used again, and by whom it was.
    spare: Vec<(usize, P)>,
    /// Somebody is, and will write what comes next too.
    is_writing: bool,
    /// Nothing more will be written.
    is_over: bool,
}

struct Ledger<'o, O, F> {
    out: &'o mut O,
    lost: F,
    is_capture: bool,
    /// Kept back until something else is seen to be a capture.
    strangers: Vec<Error>,
    summary: Summary,
    failure: Option<Failure>,
}

/// Why nothing more is written.
enum Failure {
    /// The output still can be.
    Elsewhere(Error),
    OfOutput(Error),
}

impl<'o, P: Default, O: Output<P>, F: FnMut(&Error)> Writing<'o, O, F, P> {
    fn new(out: &'o mut O, lost: F, ahead: usize) -> Self {
        Self {
            queue: Mutex::new(Queue {
                turn: 0,
                done: BTreeMap::new(),
                spare: Vec::new(),
                is_writing: false,
                is_over: false,
            }),
            moved: Condvar::new(),
            ahead,
            ledger: Mutex::new(Ledger::new(out, lost)),
        }
    }

    /// Something to decode a batch into, as soon as not too many others are waiting; None if all is over.
    fn empty_piece(&self, turn: u64, worker: usize) -> Option<P> {
        let mut queue = locked(&self.queue);
        while turn >= queue.turn + self.ahead as u64 && !queue.is_over {
            queue = self.moved.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.is_over {
            return None;
        }
        // Its own, if possible: that is near.
        let own = queue.spare.iter().position(|(last, _)| *last == worker);
        let spare = own.map(|index| queue.spare.swap_remove(index)).or_else(|| queue.spare.pop());
        Some(spare.map(|(_, piece)| piece).unwrap_or_default())
    }

    /// Writes what there is so far of a piece, if its turn has come.
    fn write_on(&self, turn: u64, piece: &mut P) {
        let mut queue = locked(&self.queue);
        if queue.turn == turn && !queue.is_writing && !queue.is_over {
            queue.is_writing = true;
            drop(queue);
            let written = locked(&self.ledger).write(piece, Decoded::default());
            queue = locked(&self.queue);
            queue.is_writing = false;
            if written.is_break() {
                queue.is_over = true;
                self.moved.notify_all();
            }
        }
    }

    /// Writes all pieces whose turn it is, unless somebody else does. Breaks if there is to be no more.
    fn put(&self, turn: u64, done: Done<P>) -> ControlFlow<()> {
        let mut queue = locked(&self.queue);
        queue.done.insert(turn, done);
        while !queue.is_writing
            && !queue.is_over
            && let turn = queue.turn
            && let Some(Done { worker, mut piece, result }) = queue.done.remove(&turn)
        {
            queue.is_writing = true;
            drop(queue);
            let written = locked(&self.ledger).write(&mut piece, result);
            queue = locked(&self.queue);
            queue.is_writing = false;
            queue.is_over |= written.is_break();
            queue.turn += 1;
            queue.spare.push((worker, piece));
            self.moved.notify_all();
        }
        if queue.is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl<O, F, P> Writing<'_, O, F, P> {
    fn stop(&self) {
        locked(&self.queue).is_over = true;
        self.moved.notify_all();
    }
}

impl<'o, O, F: FnMut(&Error)> Ledger<'o, O, F> {
    fn new(out: &'o mut O, lost: F) -> Self {
        let (strangers, summary) = (Vec::new(), Summary::default());
        Self { out, lost, is_capture: false, strangers, summary, failure: None }
    }

    /// Writes what came of a batch. Breaks if it is the last one.
    fn write<P>(&mut self, piece: &mut P, result: Decoded) -> ControlFlow<()>
    where
        O: Output<P>,
    {
        self.failure = match self.out.write(piece) {
            Ok(()) => self.enter(result).map(Failure::Elsewhere),
            Err(error) => Some(Failure::OfOutput(error)),
        };
        if self.failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Counts what came of a batch, and returns why it is the last one.
    fn enter(&mut self, result: Decoded) -> Option<Error> {
        self.summary.decoded += result.frames;
        self.is_capture |= result.is_capture;
        for error in result.lost {
            if error.is_not_a_capture() && !self.is_capture {
                self.strangers.push(error);
                continue;
            }
            self.tell(&error);
        }
        if self.is_capture {
            for stranger in std::mem::take(&mut self.strangers) {
                self.tell(&stranger);
            }
        }
        result.failure
    }

    fn tell(&mut self, error: &Error) {
        let count = match () {
            () if error.is_undecodable() => Some(&mut self.summary.undecodable),
            () if error.is_unjudged() => Some(&mut self.summary.unjudged),
            // The place was counted.
            () if error.is_cost_of_damage() => None,
            () => Some(&mut self.summary.damaged),
        };
        if let Some(count) = count {
            *count += 1;
        }
        (self.lost)(error);
    }

    fn finish<P>(self) -> Result<Summary>
    where
        O: Output<P>,
    {
        let error = match self.failure {
            Some(Failure::OfOutput(error)) => return Err(error),
            Some(Failure::Elsewhere(error)) => Some(error),
            None => self.strangers.into_iter().next(),
        };
        match error {
            // An output in which nothing is should not stay.
            Some(error) if self.summary.decoded == 0 => Err(error),
            Some(error) => {
                self.out.forgo_name();
                self.out.finish().and(Err(error))
            }
            None => self.out.finish().map(|()| self.summary),
        }
    }
}
