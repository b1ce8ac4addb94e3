//! What a view has to say besides what it shows.

use centralcap::error::Error;

use crate::cli::{Outcome, Words};

/// So many losses are told one by one, unless the user wants more.
const SHOWN: u64 = 20;

/// Tells of losses, and counts them.
pub(super) struct Told {
    words: Words,
    count: u64,
}

impl Told {
    pub(super) const fn new(words: Words) -> Self {
        Self { words, count: 0 }
    }

    pub(super) fn hear(&mut self, error: &Error) {
        self.count += 1;
        if self.count <= SHOWN || self.words.verbose {
            self.words.warn(error);
        }
    }

    pub(super) fn outcome(self) -> Outcome {
        if self.count > SHOWN && !self.words.verbose {
            let more = self.count - SHOWN;
            self.words.warn(format_args!("{more} more of these, which --verbose shows"));
        }
        if self.count == 0 { Outcome::Done } else { Outcome::Lossy }
    }
}
