//! Frames that are there twice.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::entry::{Entry, Timestamp};

/// Enough of a SHA-256 to tell frames apart.
type Content = [u8; 16];

/// Knows which frames came within the window: those of the same subscription and type, and of the same
/// bytes, are the same. Memory follows what is received within the window.
pub(super) struct Twice {
    window: Duration,
    /// When each was received that was kept.
    kept: HashMap<Content, Timestamp>,
    /// The same in the order in which they came.
    latest: VecDeque<(Timestamp, Content)>,
}

impl Twice {
    pub(super) fn new(window: Duration) -> Self {
        Self { window, kept: HashMap::new(), latest: VecDeque::new() }
    }

    /// Whether the same frame was kept not longer ago than the window. If not, this one is.
    pub(super) fn has(&mut self, entry: &Entry) -> bool {
        let Some(frame) = entry.frame() else { return false };
        let now = entry.received;
        self.forget(now);
        let mut hash = Sha256::new();
        for name in [&entry.subscription.name, &frame.kind.label] {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
        }
        hash.update(&frame.data);
        let mut content = Content::default();
        content.copy_from_slice(&hash.finalize()[..16]);
        if self.kept.get(&content).is_some_and(|kept| self.is_near(now, *kept)) {
            return true;
        }
        self.kept.insert(content, now);
        self.latest.push_back((now, content));
        false
    }

    /// Where a clock was set back, `kept` may be after `now`.
    fn is_near(&self, now: Timestamp, kept: Timestamp) -> bool {
        now.since(kept).max(kept.since(now)) <= self.window
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some(&(kept, content)) = self.latest.front()
            && !self.is_near(now, kept)
        {
            self.latest.pop_front();
            // It may have been kept again since.
            if self.kept.get(&content) == Some(&kept) {
                self.kept.remove(&content);
            }
        }
    }
}
