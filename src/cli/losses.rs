//! Warnings of one kind, of which there may be millions.

use std::fmt::Display;

use super::{Outcome, Words};

/// So many are told one by one, unless the user wants more.
const TOLD: u64 = 20;

/// Tells the first losses, and how many more there were.
pub(super) struct Losses {
    words: Words,
    count: u64,
}

impl Losses {
    pub(super) const fn new(words: Words) -> Self {
        Self { words, count: 0 }
    }

    pub(super) fn tell(&mut self, loss: impl Display) {
        self.count += 1;
        if self.count <= TOLD || self.words.verbose {
            self.words.warn(loss);
        }
    }

    /// To be called when there are no more. Returns the outcome, as far as it depends on them.
    pub(super) fn tell_rest(self) -> Outcome {
        if self.count > TOLD && !self.words.verbose {
            let rest = self.count - TOLD;
            self.words.warn(format_args!("{rest} more of these, which --verbose shows"));
        }
        if self.count == 0 { Outcome::Done } else { Outcome::Lossy }
    }
}
