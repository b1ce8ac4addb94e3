//! The one thread that writes.
//!
//! Subscriptions hand it their batches and wait until the kernel has them before they read on. Batches
//! that are ready together go in one write. A second thread brings the file to the disk on a timer, so
//! that a slow disk does not hold up anybody.

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use tokio::sync::{Notify as Bell, mpsc, oneshot, watch};

use self::desk::Desk;
pub(super) use self::limit::Limit;
pub use self::sync::SyncWhen;
use super::{
    Board, Clock, Kept, Notify,
    export::Exports,
    segments::{OnFull, Segments},
};
use crate::{
    capture::Sealed,
    entry::Entry,
    error::{Error, Kind, Result},
};

mod desk;
mod limit;
mod name;
mod sync;

/// How many batches may wait. Each subscription has at most one, so it is reached only by many.
const QUEUE: usize = 64;

/// How many batches go in one write.
const TOGETHER: usize = 64;

/// How often what does not depend on frames is looked after.
const TICK: Duration = Duration::from_millis(500);

/// What the writing thread is asked for.
enum Message {
    Batch(Batch),
    /// Time has passed.
    Tick,
    /// The user wants a new segment.
    Split,
}

/// A batch on its way, and where to say that it is safe.
struct Batch {
    entries: Vec<Entry>,
    /// Frames that the limit left out.
    left_out: u64,
    safe: oneshot::Sender<u64>,
}

/// For entries that were handed in.
#[derive(Default)]
pub(super) enum Receipt {
    /// It will say how many frames were more than the user asked for.
    Awaited(oneshot::Receiver<u64>),
    /// There were none, or it was asked already.
    #[default]
    Safe,
    /// They could not be written.
    Lost,
}

impl Receipt {
    /// Nobody knows yet what becomes of them.
    pub(super) const fn is_awaited(&self) -> bool {
        matches!(self, Self::Awaited(_))
    }

    /// The same as [`keep`](Keeper::keep), as often as that is asked; the frames are counted the first
    /// time. Dropping the future loses nothing.
    pub(super) async fn safe(&mut self) -> Option<u64> {
        let left_out = match self {
            Self::Awaited(is_safe) => is_safe.await.ok(),
            Self::Safe => Some(0),
            Self::Lost => None,
        };
        *self = if left_out.is_some() { Self::Safe } else { Self::Lost };
        left_out
    }
}

/// Where subscriptions hand in what they received.
#[derive(Clone)]
pub(super) struct Keeper {
    messages: mpsc::Sender<Message>,
}

impl Keeper {
    /// Returns when the kernel has the entries, with the number of frames at their end that are more
    /// than the user asked for. None: they could not be written, and the recording is over. Dropping
    /// the future loses the entries if it still waits for room in the queue, and does not take them
    /// back later.
    pub(super) async fn keep(&self, entries: Vec<Entry>) -> Option<u64> {
        self.hand_in(entries).await?.safe().await
    }

    /// Returns as soon as there is room for the entries in the queue and they are on their way; the receipt
    /// says when the kernel has them. Dropping the future before that loses them.
    pub(super) async fn hand_in(&self, entries: Vec<Entry>) -> Option<Receipt> {
        if entries.is_empty() {
            return Some(Receipt::Safe);
        }
        let (safe, is_safe) = oneshot::channel();
        let batch = Batch { entries, left_out: 0, safe };
        self.messages.send(Message::Batch(batch)).await.ok()?;
        Some(Receipt::Awaited(is_safe))
    }

    /// Says when time has passed, and when the bell asks for a new segment, until nobody else hands
    /// anything in any more.
    pub(super) async fn tick(self, split: Arc<Bell>) {
        let messages = self.messages.downgrade();
        drop(self);
        loop {
            let message = tokio::select! {
                () = tokio::time::sleep(TICK) => Message::Tick,
                () = split.notified() => Message::Split,
            };
            let Some(messages) = messages.upgrade() else { return };
            if messages.send(message).await.is_err() {
                return;
            }
        }
    }
}

/// What a test keeps itself, instead of the thread.
#[cfg(test)]
pub(super) struct ByHand(mpsc::Receiver<Message>);

#[cfg(test)]
impl ByHand {
    /// The entries that were handed in next, and where to say that they are safe.
    pub(super) async fn next(&mut self) -> (Vec<Entry>, oneshot::Sender<u64>) {
        loop {
            let message = self.0.recv().await.expect("somebody hands in more");
            if let Message::Batch(Batch { entries, safe, .. }) = message {
                return (entries, safe);
            }
        }
    }
}

#[cfg(test)]
impl Keeper {
    /// One whose queue has so much room.
    pub(super) fn by_hand(room: usize) -> (Self, ByHand) {
        let (messages, receiver) = mpsc::channel(room);
        (Self { messages }, ByHand(receiver))
    }
}

/// What waits for the thread, for whoever watches. It does not keep the thread going.
#[derive(Debug)]
pub(super) struct Queue(mpsc::WeakSender<Message>);

impl Queue {
    pub(super) fn waiting(&self) -> usize {
        self.0.upgrade().map_or(0, |sender| sender.max_capacity() - sender.capacity())
    }
}

/// The thread, until it is joined.
pub(super) struct Writing {
    thread: JoinHandle<(Segments, Option<Error>)>,
}

impl Writing {
    /// Waits for the last batch, which is when all keepers are gone, and seals the last segment. An
    /// error of the writing, or else of the sealing, comes along with what was sealed all the same.
    pub(super) fn finish(self) -> Result<(Vec<Sealed>, Option<Error>)> {
        let Ok((segments, failed)) = self.thread.join() else {
            return Err(Kind::Internal { reason: "the writing thread panicked".to_owned() }.into());
        };
        let (sealed, not_sealed) = segments.finish();
        // The first thing that went wrong is the one to tell.
        Ok((sealed, failed.or(not_sealed)))
    }
}

/// What the writing thread shares with the rest of the recording.
pub(super) struct Shared {
    /// Counts, for whoever watches.
    pub board: Arc<Board>,
    /// Stops the recording: the limit is reached, or nothing can be written.
    pub stop: watch::Sender<bool>,
    pub limit: Limit,
    /// Whoever wants to see what was kept.
    pub kept: Option<Kept>,
    /// Whoever else gets it.
    pub exports: Exports,
    pub sync: SyncWhen,
    pub on_full: OnFull,
    pub notify: Notify,
    pub clock: Arc<dyn Clock>,
}
/// Starts the thread.
pub(super) fn start(segments: Segments, shared: Shared) -> (Keeper, Writing) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    shared.board.watch_queue(Queue(sender.downgrade()));
    shared.board.beat();
    let thread = std::thread::spawn(move || write(segments, receiver, shared));
    (Keeper { messages: sender }, Writing { thread })
}

fn write(
    segments: Segments,
    mut messages: mpsc::Receiver<Message>,
    shared: Shared,
) -> (Segments, Option<Error>) {
    let mut desk = Desk::new(segments, shared);
    let mut together = Vec::with_capacity(TOGETHER);
    let failed = loop {
        together.clear();
        if messages.blocking_recv_many(&mut together, TOGETHER) == 0 {
            break desk.close();
        }
        if let Err(error) = desk.take(&mut together) {
            // Dropping the receiver refuses whatever still comes.
            desk.shared.stop.send_replace(true);
            break Some(error);
        }
        desk.shared.board.beat();
    };
    desk.shared.board.beat_no_more();
    desk.end_exports(failed.is_none());
    if failed.is_none() {
        desk.settle();
    }
    (desk.segments, failed)
}
