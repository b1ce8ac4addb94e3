//! Words -> stderr. What nobody can hear is no reason to end anything.
//!
//! A command that serves others says [`never_wait`] first: a terminal that is held with Ctrl-S, or a pipe that
//! nobody reads, would stop it, and the feed with it. From then on a thread writes, and where it falls behind,
//! words are left out and counted.

use std::{
    collections::VecDeque,
    io::{self, Write},
    mem,
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use super::Words;

/// So many pieces may wait to be written.
const WAITING: usize = 1024;

/// For so long whoever reads is waited for when the command has ended.
const LAST_MOMENT: Duration = Duration::from_secs(1);

static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Writes whole lines.
pub(super) fn write(text: String) {
    match QUEUE.get() {
        Some(queue) => queue.put(text),
        None => _ = io::stderr().write_all(text.as_bytes()),
    }
}

/// Whoever writes does not wait from now on.
pub(super) fn never_wait(words: Words) -> io::Result<()> {
    let thread = thread::Builder::new().name("stderr".to_owned());
    thread.spawn(move || QUEUE.get_or_init(Queue::default).write_all(words))?;
    // Where there is no thread, nobody would ever write what waits.
    QUEUE.get_or_init(Queue::default);
    Ok(())
}

/// Something waits to be written.
pub(super) fn is_behind() -> bool {
    QUEUE.get().is_some_and(|queue| queue.lock().is_busy())
}

/// Waits a moment for what has not been written yet.
pub(super) fn finish() {
    if let Some(queue) = QUEUE.get() {
        queue.wait(LAST_MOMENT);
    }
}

#[derive(Default)]
struct Queue {
    pieces: Mutex<Pieces>,
    changed: Condvar,
}

#[derive(Default)]
struct Pieces {
    waiting: VecDeque<String>,
    /// So many found no room.
    left_out: u64,
    is_writing: bool,
}

impl Pieces {
    fn is_busy(&self) -> bool {
        self.is_writing || !self.waiting.is_empty()
    }
}

impl Queue {
    fn put(&self, text: String) {
        let mut pieces = self.lock();
        if pieces.waiting.len() < WAITING {
            pieces.waiting.push_back(text);
        } else {
            pieces.left_out += 1;
        }
        self.changed.notify_all();
    }

    fn write_all(&self, words: Words) {
        loop {
            let (waiting, left_out) = self.take();
            for text in waiting {
                let _ = io::stderr().write_all(text.as_bytes());
            }
            if left_out > 0 {
                words.warn(format_args!("{left_out} messages are not here: stderr was not read"));
            }
        }
    }

    /// Waits until there is something.
    fn take(&self) -> (VecDeque<String>, u64) {
        let mut pieces = self.lock();
        pieces.is_writing = false;
        self.changed.notify_all();
        let is_empty = |pieces: &mut Pieces| pieces.waiting.is_empty();
        let waited = self.changed.wait_while(pieces, is_empty);
        let mut pieces = waited.unwrap_or_else(PoisonError::into_inner);
        pieces.is_writing = true;
        (mem::take(&mut pieces.waiting), mem::take(&mut pieces.left_out))
    }

    fn wait(&self, time: Duration) {
        let is_busy = |pieces: &mut Pieces| pieces.is_busy();
        let _ = self.changed.wait_timeout_while(self.lock(), time, is_busy);
    }

    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
