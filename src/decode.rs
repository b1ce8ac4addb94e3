//! capture -> Entry -> codec -> sink -> output, on as many threads as there are sinks.
//!
//! Each thread takes the next batch of entries, decodes it with a sink of its own, and writes what
//! came of it when its turn has come. So the order is kept, a batch per thread is all that is held,
//! and no stage waits while another has work: whoever is free does what is next.
//!
//! A frame that does not decode and a segment that is damaged are told to the caller and counted;
//! the rest goes on, unless the caller is strict.

use std::{
    ops::ControlFlow,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use crate::{
    codec::notes::Drift,
    entry::Entry,
    error::{Error, Result},
    sink::{Output, Sink},
};

/// The stack of a thread that decodes, as large as the main thread's: messages may be nested a hundred
/// deep, which in a debug build is more than threads usually have room for.
const STACK_SIZE: usize = 8 * 1024 * 1024;

/// A batch is full when its frames have so many bytes.
const BATCH_SIZE: usize = 256 * 1024;

/// Or when it has so many entries.
const BATCH_ENTRIES: usize = 2048;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
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

/// Writes what becomes of each frame among `entries`, one thread for each sink. `lost` hears of
/// everything that was left out; if `strict`, nothing may be: the first is returned as the error. A
/// file that is no capture at all is an error, unless there are others that are.
///
/// After an error, what comes before it has been written, and the output is finished unless that is
/// what failed.
pub fn decode<S: Sink>(
    entries: impl Iterator<Item = Result<Entry>> + Send,
    sinks: &mut [S],
    out: &mut impl Output<S::Piece>,
    strict: bool,
    lost: impl FnMut(&Error) + Send,
) -> Result<Summary> {
    let source = Mutex::new(Source { entries, turn: 0, is_over: false });
    let writing = Writing {
        ledger: Mutex::new(Ledger {
            out,
            lost,
            turn: 0,
            is_capture: false,
            strangers: Vec::new(),
            summary: Summary::default(),
            failure: None,
        }),
        moved: Condvar::new(),
    };
    // The lock is released before the batch is decoded.
    let fill = |batch: &mut _| locked(&source).fill(batch);
    let work = |sink: &mut S| {
        let mut batch = Vec::new();
        let mut piece = S::Piece::default();
        let _guard = StopOnPanic(&writing);
        while let Some(turn) = fill(&mut batch) {
            let result = decode_batch(sink, &mut batch, &mut piece, strict);
            if writing.write(turn, &mut piece, result).is_break() {
                locked(&source).is_over = true;
                break;
            }
        }
    };
    match &mut *sinks {
        [sink] => work(sink),
        sinks => thread::scope(|scope| {
            for sink in sinks {
                let thread = thread::Builder::new().stack_size(STACK_SIZE);
                thread.spawn_scoped(scope, || work(sink)).expect("the system has another thread");
            }
        }),
    }
    let ledger = writing.ledger.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut summary = ledger.finish()?;
    for sink in sinks {
        summary.drift.merge(sink.take_drift());
    }
    Ok(summary)
}

/// Entries, taken in batches by whoever is free.
struct Source<I> {
    entries: I,
    turn: u64,
    is_over: bool,
}

impl<I: Iterator<Item = Result<Entry>>> Source<I> {
    /// Fills a batch and returns its turn, counted from 0; None when there is nothing more. After an
    /// error that ends everything there is nothing more.
    fn fill(&mut self, batch: &mut Vec<Result<Entry>>) -> Option<u64> {
        batch.clear();
        let mut size = 0;
        while !self.is_over && size < BATCH_SIZE && batch.len() < BATCH_ENTRIES {
            let Some(entry) = self.entries.next() else {
                self.is_over = true;
                break;
            };
            match &entry {
                Ok(entry) => size += entry.frame().map_or(0, |frame| frame.data.len()),
                Err(error) => self.is_over = !goes_on_after(error),
            }
            batch.push(entry);
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

fn decode_batch<S: Sink>(
    sink: &mut S,
    batch: &mut Vec<Result<Entry>>,
    piece: &mut S::Piece,
    strict: bool,
) -> Decoded {
    let mut result = Decoded::default();
    for entry in batch.drain(..) {
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

/// Where pieces are written in turn.
struct Writing<'o, O, F> {
    ledger: Mutex<Ledger<'o, O, F>>,
    /// The turn has passed on, or all is over.
    moved: Condvar,
}

struct Ledger<'o, O, F> {
    out: &'o mut O,
    lost: F,
    /// Whose turn it is.
    turn: u64,
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
    Panic,
}

impl<O, F: FnMut(&Error)> Writing<'_, O, F> {
    /// Waits for the turn, then writes. Breaks if that was the last one.
    fn write<P>(&self, turn: u64, piece: &mut P, result: Decoded) -> ControlFlow<()>
    where
        O: Output<P>,
    {
        let mut ledger = locked(&self.ledger);
        while ledger.turn != turn && ledger.failure.is_none() {
            ledger = self.moved.wait(ledger).unwrap_or_else(PoisonError::into_inner);
        }
        if ledger.failure.is_none() {
            ledger.failure = match ledger.out.write(piece) {
                Ok(()) => ledger.enter(result).map(Failure::Elsewhere),
                Err(error) => Some(Failure::OfOutput(error)),
            };
        }
        ledger.turn += 1;
        self.moved.notify_all();
        match ledger.failure {
            None => ControlFlow::Continue(()),
            Some(_) => ControlFlow::Break(()),
        }
    }
}

impl<O, F: FnMut(&Error)> Ledger<'_, O, F> {
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
            () if error.is_undecodable() => &mut self.summary.undecodable,
            () if error.is_unjudged() => &mut self.summary.unjudged,
            () => &mut self.summary.damaged,
        };
        *count += 1;
        (self.lost)(error);
    }

    fn finish<P>(self) -> Result<Summary>
    where
        O: Output<P>,
    {
        let error = match self.failure {
            Some(Failure::OfOutput(error)) => return Err(error),
            Some(Failure::Elsewhere(error)) => Some(error),
            Some(Failure::Panic) | None => self.strangers.into_iter().next(),
        };
        match error {
            // An output in which nothing is should not stay.
            Some(error) if self.summary.decoded == 0 => Err(error),
            Some(error) => self.out.finish().and(Err(error)),
            None => self.out.finish().map(|()| self.summary),
        }
    }
}

/// A panic in one thread must not leave the others waiting for its turn.
struct StopOnPanic<'w, 'o, O, F>(&'w Writing<'o, O, F>);

impl<O, F> Drop for StopOnPanic<'_, '_, O, F> {
    fn drop(&mut self) {
        if thread::panicking() {
            locked(&self.0.ledger).failure = Some(Failure::Panic);
            self.0.moved.notify_all();
        }
    }
}

/// What a thread left that panicked is not used: the panic goes on when the threads are joined.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
