//! What a power cut may cost, and the thread that brings what was written to the disk.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use crate::capture::Unsynced;

/// What a power cut may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncWhen {
    /// Nothing: each write is on the disk before anything is answered.
    Each,
    /// What was received in so much time.
    Every(Duration),
    /// Whatever the system has not brought to the disk by itself.
    Never,
}

impl Default for SyncWhen {
    fn default() -> Self {
        Self::Every(Duration::from_secs(1))
    }
}

/// Syncs what was written in the background, in that order.
pub(super) struct Syncer {
    written: mpsc::Sender<Unsynced>,
    /// How much of it has not been begun with.
    waiting: Arc<AtomicUsize>,
    failed: Arc<AtomicBool>,
}

impl Syncer {
    pub(super) fn start() -> Self {
        let (written, receiver) = mpsc::channel::<Unsynced>();
        let (waiting, failed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (begun, told) = (Arc::clone(&waiting), Arc::clone(&failed));
        std::thread::spawn(move || {
            for unsynced in receiver {
                begun.fetch_sub(1, Ordering::Relaxed);
                if unsynced.sync().is_err() {
                    // After a failure the system may say that all is well and have forgotten what it
                    // did not write: it is never asked again about this file.
                    told.store(true, Ordering::Relaxed);
                    return;
                }
            }
        });
        Self { written, waiting, failed }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Something waits that has not been begun with.
    pub(super) fn is_behind(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    pub(super) fn sync(&self, unsynced: Unsynced) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Where the thread is gone it has told why.
        let _ = self.written.send(unsynced);
    }
}
