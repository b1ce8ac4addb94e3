//! `record --decode`: lines beside the recording.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
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
    /// Frames that wait to be printed,
    waiting: Arc<AtomicU64>,
    /// and those that found no room.
    left_out: Arc<AtomicU64>,
}

fn frames_in(entries: &[Entry]) -> u64 {
    entries.iter().filter(|entry| entry.frame().is_some()).count() as u64
}

/// How many batches may wait to be decoded.
const WAITING: usize = 1024;

/// For so long whoever reads stdout may take nothing when the recording has ended.
const PATIENCE: Duration = Duration::from_secs(5);

impl Printer {
    pub(super) fn start(mut sink: Ndjson, screen: Arc<Screen>) -> (Kept, Self) {
        let (sender, receiver) = mpsc::sync_channel::<Vec<Entry>>(WAITING);
        let (say_printed, printed) = mpsc::sync_channel(1);
        let (waiting, left_out) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (to_print, lost) = (Arc::clone(&waiting), Arc::clone(&left_out));
        let kept: Kept = Box::new(move |entries| {
            let frames = frames_in(&entries);
            to_print.fetch_add(frames, Ordering::Relaxed);
            match sender.try_send(entries) {
                Ok(()) => return,
                Err(mpsc::TrySendError::Full(_)) => lost.fetch_add(frames, Ordering::Relaxed),
                // The reader of stdout has gone away, and misses no line.
                Err(mpsc::TrySendError::Disconnected(_)) => 0,
            };
            to_print.fetch_sub(frames, Ordering::Relaxed);
        });
        let unprinted = Arc::clone(&waiting);
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
                stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush())?;
                lines.clear();
                unprinted.fetch_sub(frames_in(&entries), Ordering::Relaxed);
                // Who wants to know is told once, however much it was.
                let _ = say_printed.try_send(());
            }
            Ok(undecodable)
        };
        let thread = thread::Builder::new().stack_size(codec::STACK_SIZE).spawn(work);
        let thread = thread.expect("the system has another thread");
        (kept, Self { thread, printed, waiting, left_out })
    }

    pub(super) fn finish(self, words: Words) -> anyhow::Result<Outcome> {
        loop {
            match self.printed.recv_timeout(PATIENCE) {
                Ok(()) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let waiting = self.waiting.load(Ordering::Relaxed);
                    let frames = waiting + self.left_out.load(Ordering::Relaxed);
                    anyhow::bail!("nobody reads stdout: {frames} frames were kept but not printed");
                }
            }
        }
        let undecodable = match self.thread.join() {
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Ok(result) => result.context("cannot write the output")?,
            Err(_) => anyhow::bail!("decoding panicked; the recording is whole"),
        };
        let left_out = self.left_out.load(Ordering::Relaxed);
        if left_out > 0 {
            words.warn(format_args!(
                "{left_out} frames were kept but not printed: stdout was read too slowly"
            ));
        }
        Ok(if undecodable + left_out > 0 { Outcome::Lossy } else { Outcome::Done })
    }
}
