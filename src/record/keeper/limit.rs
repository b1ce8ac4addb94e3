//! How much is kept.

use crate::entry::Frame;

/// How much is kept until the recording ends by itself. Without numbers it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::record) struct Limit {
    /// So many frames,
    pub frames: Option<u64>,
    /// or so many bytes of frames: that with which they come to it is the last one.
    pub bytes: Option<u64>,
}

/// What counts for a [`Limit`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    frames: u64,
    bytes: u64,
}

impl Amount {
    pub(super) fn reaches(self, limit: Limit) -> bool {
        let reaches = |amount, limit: Option<u64>| limit.is_some_and(|limit| amount >= limit);
        reaches(self.frames, limit.frames) || reaches(self.bytes, limit.bytes)
    }

    pub(super) fn add(&mut self, frame: &Frame) {
        self.frames += 1;
        self.bytes += frame.data.len() as u64;
    }

    pub(super) fn take_back(&mut self, frame: &Frame) {
        self.frames -= 1;
        self.bytes -= frame.data.len() as u64;
    }
}
