//! The one thread that writes.
//!
//! Subscriptions hand it their batches and wait until the kernel has them before they read on. Batches
//! that are ready together go in one write. A second thread brings the file to the disk on a timer, so
//! that a slow disk does not hold up anybody. After a failed write nothing more is accepted.

use std::{
    fs::File,
    sync::{Arc, mpsc as std_mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{Board, Kept};
use crate::{
    capture::{HotSegment, Sealed},
    entry::Entry,
    error::{Error, Kind, Result},
};

/// How many batches may wait. Each subscription has at most one, so it is reached only by many.
const QUEUE: usize = 64;

/// How many batches go in one write.
const TOGETHER: usize = 64;

/// What a power cut may cost.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// A batch on its way, and where to say that it is safe.
struct Batch {
    entries: Vec<Entry>,
    /// Frames that the limit left out.
    left_out: u64,
    safe: oneshot::Sender<u64>,
}

/// Where subscriptions hand in what they received.
#[derive(Clone)]
pub(super) struct Keeper {
    batches: mpsc::Sender<Batch>,
}

impl Keeper {
    /// Returns when the kernel has the entries, with the number of frames at their end that are more
    /// than the user asked for. None: they could not be written, and the recording is over. Dropping
    /// the future does not take the entries back.
    pub(super) async fn keep(&self, entries: Vec<Entry>) -> Option<u64> {
        if entries.is_empty() {
            return Some(0);
        }
        let (safe, is_safe) = oneshot::channel();
        self.batches.send(Batch { entries, left_out: 0, safe }).await.ok()?;
        is_safe.await.ok()
    }
}

/// The thread, until it is joined.
pub(super) struct Writing {
    thread: JoinHandle<(HotSegment, Option<Error>)>,
}

impl Writing {
    /// Waits for the last batch, which is when all keepers are gone, and seals the segment. An error
    /// of the writing comes along with what was sealed before it.
    pub(super) fn finish(self) -> Result<(Result<Sealed>, Option<Error>)> {
        let Ok((segment, failed)) = self.thread.join() else {
            return Err(Kind::Internal { reason: "the writing thread panicked".to_owned() }.into());
        };
        Ok((segment.seal(), failed))
    }
}

/// What the writing thread shares with the rest of the recording.
pub(super) struct Shared {
    /// Counts, for whoever watches.
    pub board: Arc<Board>,
    /// Stops the recording: the limit is reached, or a write failed.
    pub stop: watch::Sender<bool>,
    /// The recording ends with so many frames.
    pub limit: Option<u64>,
    /// Whoever wants to see what was kept.
    pub kept: Option<Kept>,
}

/// Starts the thread.
pub(super) fn start(segment: HotSegment, shared: Shared) -> (Keeper, Writing) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let thread = std::thread::spawn(move || write(segment, receiver, shared));
    (Keeper { batches: sender }, Writing { thread })
}

fn write(
    mut segment: HotSegment,
    mut batches: mpsc::Receiver<Batch>,
    mut shared: Shared,
) -> (HotSegment, Option<Error>) {
    let syncer = Syncer::start();
    let mut synced = Instant::now();
    let mut left = shared.limit.unwrap_or(u64::MAX);
    let mut together = Vec::with_capacity(TOGETHER);
    let failed = loop {
        together.clear();
        if batches.blocking_recv_many(&mut together, TOGETHER) == 0 {
            break None;
        }
        if let Err(error) = append(&mut segment, &mut together, &mut left) {
            break Some(error);
        }
        for batch in together.drain(..) {
            shared.board.count(&batch.entries);
            // Nobody may wait for it any more; it is safe all the same.
            let _ = batch.safe.send(batch.left_out);
            if let Some(kept) = &mut shared.kept {
                kept(batch.entries);
            }
        }
        if left == 0 {
            shared.stop.send_replace(true);
        }
        if synced.elapsed() >= SYNC_EVERY {
            match segment.checkpoint() {
                Ok(file) => syncer.sync(file),
                Err(error) => break Some(error),
            }
            synced = Instant::now();
        }
    };
    if failed.is_some() {
        // Dropping the receiver refuses whatever still comes.
        shared.stop.send_replace(true);
    }
    (segment, failed)
}

fn append(segment: &mut HotSegment, batches: &mut [Batch], left: &mut u64) -> Result<()> {
    for batch in batches {
        // The user asked for so many frames and gets no more.
        batch.entries.retain(|entry| {
            let wanted = entry.frame().is_none() || *left > 0;
            *left -= u64::from(entry.frame().is_some() && wanted);
            batch.left_out += u64::from(!wanted);
            wanted
        });
        for entry in &batch.entries {
            segment.append(entry)?;
        }
    }
    segment.commit()
}

/// Syncs files in the background, one at a time; a second one waiting is as good as a third.
struct Syncer {
    files: std_mpsc::SyncSender<File>,
}

impl Syncer {
    fn start() -> Self {
        let (files, receiver) = std_mpsc::sync_channel::<File>(1);
        std::thread::spawn(move || {
            for file in receiver {
                // A failure shows at the next write or when the segment is sealed, which syncs again.
                let _ = file.sync_data();
            }
        });
        Self { files }
    }

    fn sync(&self, file: File) {
        let _ = self.files.try_send(file);
    }
}
