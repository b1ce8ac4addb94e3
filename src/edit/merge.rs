//! Several captures as one, in the order in which entries were received.
//!
//! Every input keeps its own order, always. Of the entries that are next in each, the one that was
//! received first goes first; of those at the same moment, that of the input that was named first. So
//! the same inputs give the same output, and whoever orders the inputs decides on ties. Where a recorder's
//! clock was set back, what follows there still follows: only there does time go back in the output, too.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

use crate::{
    entry::{Entry, Timestamp},
    error::{Error, Result},
};

/// The entries of all inputs. Of each input one is held. Errors pass at once.
pub(super) struct Merge<I> {
    inputs: Vec<I>,
    /// The next entry of each input that was asked for it.
    heads: BinaryHeap<Reverse<Head>>,
    /// The inputs that are to be asked, the first one last.
    asked: Vec<usize>,
}

struct Head {
    entry: Entry,
    input: usize,
}

impl Head {
    const fn key(&self) -> (Timestamp, usize) {
        (self.entry.received, self.input)
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl<I> Merge<I> {
    pub(super) fn new(inputs: Vec<I>) -> Self {
        let asked = (0..inputs.len()).rev().collect();
        Self { inputs, heads: BinaryHeap::new(), asked }
    }

    /// The iterators below.
    pub(super) fn inputs(&self) -> &[I] {
        &self.inputs
    }

    /// When the next entry was received, if it is known already.
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.heads.peek().map(|Reverse(head)| head.entry.received)
    }
}

impl<I: Iterator<Item = Result<Entry>>> Merge<I> {
    /// Reads the first entry of each input, and returns the errors on the way there.
    pub(super) fn begin(&mut self) -> Vec<Error> {
        std::iter::from_fn(|| self.ask()).collect()
    }

    /// Asks who is to be asked, up to the first error.
    fn ask(&mut self) -> Option<Error> {
        while let Some(&input) = self.asked.last() {
            match self.inputs[input].next() {
                // There may be more behind it.
                Some(Err(error)) => return Some(error),
                Some(Ok(entry)) => self.heads.push(Reverse(Head { entry, input })),
                None => {}
            }
            self.asked.pop();
        }
        None
    }
}

impl<I: Iterator<Item = Result<Entry>>> Iterator for Merge<I> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        // Only now is whoever had the last entry done with it, and its chunk's memory can be used again.
        if let Some(error) = self.ask() {
            return Some(Err(error));
        }
        let Reverse(Head { entry, input }) = self.heads.pop()?;
        self.asked.push(input);
        Some(Ok(entry))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::entry::{SessionEvent, Subscription, What};

    /// Entries of a subscription at these moments.
    fn input(name: &str, moments: &[u64]) -> std::vec::IntoIter<Result<Entry>> {
        let subscription = Subscription::to_audit(name);
        let entry = |&nanos| {
            let received = Timestamp::from_nanos(nanos);
            let subscription = Arc::clone(&subscription);
            Ok(Entry { subscription, received, what: What::Event(SessionEvent::default()) })
        };
        moments.iter().map(entry).collect::<Vec<_>>().into_iter()
    }

    fn merged(inputs: &[&[u64]]) -> String {
        let name = |index: usize| char::from(b'a' + index as u8).to_string();
        let inputs = inputs.iter().enumerate().map(|(index, moments)| input(&name(index), moments));
        let shown = |entry: Result<Entry>| {
            let entry = entry.unwrap();
            format!("{}{}", entry.subscription.name, entry.received.as_nanos())
        };
        Merge::new(inputs.collect()).map(shown).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_earliest_goes_first() {
        assert_eq!(merged(&[&[1, 4, 9], &[2, 3, 10], &[]]), "a1 b2 b3 a4 a9 b10");
    }

    #[test]
    fn of_those_at_one_moment_the_first_input_goes_first_with_all_it_has() {
        assert_eq!(merged(&[&[5, 5, 6], &[5, 5], &[4, 5]]), "c4 a5 a5 b5 b5 c5 a6");
    }

    #[test]
    fn a_clock_that_was_set_back_changes_nobodys_order() {
        // a: at 30 the clock is set to 10.
        assert_eq!(merged(&[&[20, 30, 10, 12, 40], &[25, 35]]), "a20 b25 a30 a10 a12 b35 a40");
    }
}
