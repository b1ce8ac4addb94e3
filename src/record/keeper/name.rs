//! The file that is written to, which anybody may take away, or write to.

use std::time::{Duration, Instant};

use crate::{
    capture::HotSegment,
    error::{Kind, Result},
    record::{Notice, Notify, room::restore},
};

/// How often it is looked whether somebody has deleted or moved the file.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// And how often it is tried to write it anew, which may be a lot, where that has failed.
const AGAIN_EVERY: Duration = Duration::from_secs(5);

/// When it was last looked whether the file is as it should be, and whether it had its name.
pub(super) struct Name {
    looked: Instant,
    was_there: bool,
}

impl Name {
    /// It has.
    pub(super) fn new() -> Self {
        Self { looked: Instant::now(), was_there: true }
    }

    /// Looks after it if it is time. Where somebody has deleted the file, or moved it away, all of it is still there
    /// as long as it is open: it is written anew. Where that fails, it is tried again, and at the latest when it is
    /// sealed. The error: somebody else has written to it, or cut it off, and nothing more should be.
    pub(super) fn look_after(&mut self, segment: &mut HotSegment, notify: &Notify) -> Result<()> {
        let every = if self.was_there { LOOK_EVERY } else { AGAIN_EVERY };
        if self.looked.elapsed() < every {
            return Ok(());
        }
        if !segment.is_untouched() {
            return Err(Kind::Touched { path: segment.path().to_owned() }.into());
        }
        let mut is_there = segment.has_name();
        if !is_there {
            let path = segment.path().to_owned();
            let restored = restore(segment);
            is_there = restored.is_ok();
            if self.was_there {
                notify(Notice::Trouble { error: &Kind::Gone { path }.into() });
            }
            if let Err(error) = restored
                && self.was_there
            {
                notify(Notice::Trouble { error: &error });
            }
        }
        (self.looked, self.was_there) = (Instant::now(), is_there);
        Ok(())
    }
}
