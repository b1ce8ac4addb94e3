//! `record --decode`: lines beside the recording.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::Context;
use centralcap::{
    codec::{self, json::Text},
    entry::Entry,
    record::Kept,
    sink::{Sink, ndjson::Ndjson},
};

use crate::cli::{Outcome, Words, status::Screen};

/// Decoding beside the recording. If whoever reads stdout is slow, lines are left out and counted: the
/// recording never waits for them.
pub(super) struct Printer {
    thread: thread::JoinHandle<io::Result<u64>>,
    /// Something was printed; it ends with the thread.
    printed: mpsc::Receiver<()>,
    backlog: Arc<Backlog>,
}

/// How many batches may wait to be decoded,
const WAITING: usize = 1024;
/// and about how many bytes of frames.
const BYTES_WAITING: u64 = 64 * 1024 * 1024;

/// What has not been printed.
#[derive(Default)]
struct Backlog {
    /// Frames that wait,
    frames: AtomicU64,
    /// their bytes,
    bytes: AtomicU64,
    /// and the frames that found no room.
    left_out: AtomicU64,
    /// Nothing is printed any more.
    is_over: AtomicBool,
}

impl Backlog {
    fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) < BYTES_WAITING || self.is_over.load(Ordering::Relaxed)
    }

    fn add(&self, batch: Size) {
        self.frames.fetch_add(batch.frames, Ordering::Relaxed);
        self.bytes.fetch_add(batch.bytes, Ordering::Relaxed);
    }

    fn take(&self, batch: Size) {
        self.frames.fetch_sub(batch.frames, Ordering::Relaxed);
        self.bytes.fetch_sub(batch.bytes, Ordering::Relaxed);
    }
}

/// How much a batch is.
#[derive(Clone, Copy)]
struct Size {
    frames: u64,
    bytes: u64,
}

impl Size {
    fn of(entries: &[Entry]) -> Self {
        let frames = || entries.iter().filter_map(Entry::frame);
        let bytes = frames().map(|frame| frame.data.len() as u64).sum();
        Self { frames: frames().count() as u64, bytes }
    }
}

/// For so long whoever reads stdout may take nothing when the recording has ended.
const PATIENCE: Duration = Duration::from_secs(5);

impl Printer {
    pub(super) fn start(mut sink: Ndjson, screen: Arc<Screen>) -> (Kept, Self) {
        let (sender, receiver) = mpsc::sync_channel::<Vec<Entry>>(WAITING);
        let (say_printed, printed) = mpsc::sync_channel(1);
        let backlog = Arc::<Backlog>::default();
        let to_print = Arc::clone(&backlog);
        let kept: Kept = Box::new(move |entries| {
            let size = Size::of(&entries);
            if to_print.has_room() {
                to_print.add(size);
                match sender.try_send(entries) {
                    Err(mpsc::TrySendError::Full(_)) => to_print.take(size),
                    // Or the reader of stdout has gone away, and misses no line.
                    Ok(()) | Err(mpsc::TrySendError::Disconnected(_)) => return,
                }
            }
            to_print.left_out.fetch_add(size.frames, Ordering::Relaxed);
        });
        let unprinted = Arc::clone(&backlog);
        let work = move || {
            let mut stdout = io::stdout().lock();
            let mut undecodable = 0;
            let mut lines = Text::default();
            for entries in receiver {
                for entry in &entries {
                    if let Err(error) = sink.entry(entry, &mut lines) {
                        undecodable += 1;
                        screen.say(&error.to_string());
                    }
                }
                let written = stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush());
                unprinted.is_over.store(written.is_err(), Ordering::Relaxed);
                written?;
                lines.clear();
                unprinted.take(Size::of(&entries));
                // Who wants to know is told once, however much it was.
                let _ = say_printed.try_send(());
            }
            Ok(undecodable)
        };
        let thread = thread::Builder::new().stack_size(codec::STACK_SIZE).spawn(work);
        let thread = thread.expect("the system has another thread");
        (kept, Self { thread, printed, backlog })
    }

    pub(super) fn finish(self, words: Words) -> anyhow::Result<Outcome> {
        loop {
            match self.printed.recv_timeout(PATIENCE) {
                Ok(()) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let waiting = self.backlog.frames.load(Ordering::Relaxed);
                    let frames = waiting + self.backlog.left_out.load(Ordering::Relaxed);
                    anyhow::bail!("nobody reads stdout: {frames} frames were kept but not printed");
                }
            }
        }
        let undecodable = match self.thread.join() {
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Ok(result) => result.context("cannot write the output")?,
            Err(_) => anyhow::bail!("decoding panicked; the recording is whole"),
        };
        let left_out = self.backlog.left_out.load(Ordering::Relaxed);
        if left_out > 0 {
            words.warn(format_args!(
                "{left_out} frames were kept but not printed: stdout was read too slowly"
            ));
        }
        Ok(if undecodable + left_out > 0 { Outcome::Lossy } else { Outcome::Done })
    }
}
