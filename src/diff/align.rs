//! Which frame of one capture is which of the other.
//!
//! Within a subscription order counts. Frames of the same content are anchors, found as a text diff finds
//! equal lines. Of what is left, a frame that has the same content as another one has moved. Between two
//! anchors, frames of the same type about the same entities are taken for one that has changed, then
//! frames of the same type, in their order. What is left then is missing, or was added.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    ops::Range,
};

use imara_diff::{Algorithm, Diff, Interner};

use crate::entry::Timestamp;

/// Enough of a SHA-256 to tell contents apart.
pub(super) type Content = [u8; 16];

/// What is remembered of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) content: Content,
    /// A hash of the entities that it is about.
    pub(super) about: u64,
    pub(super) received: Timestamp,
    /// Counts all frames of the capture that are selected, from 0.
    pub(super) ordinal: u32,
    /// A hash of what it is taken for.
    pub(super) label: u32,
}

/// One difference, by the indexes of the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Missing(usize),
    Added(usize),
    Moved(usize, usize),
    Changed(usize, usize),
}

impl Step {
    /// Where it is told.
    const fn place(self) -> (usize, usize) {
        match self {
            Self::Missing(a) => (a, 0),
            Self::Changed(a, b) | Self::Moved(a, b) => (a, b),
            // Behind everything else between the same anchors.
            Self::Added(b) => (usize::MAX, b),
        }
    }
}

/// What differs between the frames of two subscriptions, in order.
pub(super) fn align(a: &[Item], b: &[Item]) -> Vec<Step> {
    let mut hunks = hunks(a, b, |item| item.content);
    let moved = take_moved(a, b, &mut hunks);
    let mut moved = moved.into_iter().peekable();
    let mut steps = Vec::new();
    for Hunk { a: of_a, b: of_b, end } in hunks {
        let begun = steps.len();
        while let Some((from, to)) = moved.next_if(|(from, _)| *from < end) {
            steps.push(Step::Moved(from, to));
        }
        pair(a, b, &of_a, &of_b, &mut steps);
        steps[begun..].sort_unstable_by_key(|step| step.place());
    }
    steps
}

/// What lies between two anchors.
struct Hunk {
    a: Vec<usize>,
    b: Vec<usize>,
    /// Where the next anchor is in A.
    end: usize,
}

fn hunks<T: Eq + Hash>(a: &[Item], b: &[Item], token: impl Fn(&Item) -> T) -> Vec<Hunk> {
    unmatched(a, b, token)
        .into_iter()
        .map(|(a, b)| Hunk { end: a.end, a: a.collect(), b: b.collect() })
        .collect()
}

/// What is not in both, as ranges between what is.
pub(super) fn unmatched<E, T: Eq + Hash>(
    a: &[E],
    b: &[E],
    token: impl Fn(&E) -> T,
) -> Vec<(Range<usize>, Range<usize>)> {
    let equal = |(a, b): &(&E, &E)| token(a) == token(b);
    let start = a.iter().zip(b).take_while(equal).count();
    let (a, b) = (&a[start..], &b[start..]);
    let end = a.iter().rev().zip(b.iter().rev()).take_while(equal).count();
    let (a, b) = (&a[..a.len() - end], &b[..b.len() - end]);
    // Most often there is nothing to look for any more.
    if a.is_empty() && b.is_empty() {
        return Vec::new();
    }
    if a.is_empty() || b.is_empty() {
        return vec![(start..start + a.len(), start..start + b.len())];
    }
    let mut interner = Interner::new(a.len() + b.len());
    let mut tokens = |side: &[E]| -> Vec<_> {
        side.iter().map(|element| interner.intern(token(element))).collect()
    };
    let (tokens_a, tokens_b) = (tokens(a), tokens(b));
    let mut diff = Diff::default();
    diff.compute_with(Algorithm::Myers, &tokens_a, &tokens_b, interner.num_tokens());
    let of = |range: Range<u32>| start + range.start as usize..start + range.end as usize;
    diff.hunks().map(|hunk| (of(hunk.before), of(hunk.after))).collect()
}

/// Takes what is on both sides out of the hunks: pairs in the order of A.
fn take_moved(a: &[Item], b: &[Item], hunks: &mut [Hunk]) -> Vec<(usize, usize)> {
    let mut left: HashMap<Content, VecDeque<usize>> = HashMap::new();
    for &index in hunks.iter().flat_map(|hunk| &hunk.b) {
        left.entry(b[index].content).or_default().push_back(index);
    }
    let mut moved = Vec::new();
    let mut is_moved = vec![false; if left.is_empty() { 0 } else { b.len() }];
    for hunk in hunks.iter_mut() {
        hunk.a.retain(|&from| {
            let to = left.get_mut(&a[from].content).and_then(VecDeque::pop_front);
            if let Some(to) = to {
                moved.push((from, to));
                is_moved[to] = true;
            }
            to.is_none()
        });
    }
    for hunk in hunks {
        hunk.b.retain(|&index| !is_moved[index]);
    }
    moved
}

/// What has become of the frames between two anchors.
fn pair(a: &[Item], b: &[Item], of_a: &[usize], of_b: &[usize], steps: &mut Vec<Step>) {
    let (mut left_of_a, mut left_of_b) = (Vec::new(), Vec::new());
    if of_a.is_empty() || of_b.is_empty() {
        left_of_a.extend(of_a);
        left_of_b.extend(of_b);
    } else {
        // The entities are looked at as equal or not, as contents were before.
        let items_of = |items: &[Item], indexes: &[usize]| -> Vec<Item> {
            indexes.iter().map(|&index| items[index]).collect()
        };
        let (items_a, items_b) = (items_of(a, of_a), items_of(b, of_b));
        let (mut at_a, mut at_b) = (0, 0);
        let rest = unmatched(&items_a, &items_b, |item| (item.label, item.about));
        let end = (of_a.len()..of_a.len(), of_b.len()..of_b.len());
        for (gap_a, gap_b) in rest.into_iter().chain([end]) {
            let same = of_a[at_a..gap_a.start].iter().zip(&of_b[at_b..gap_b.start]);
            steps.extend(same.map(|(&a, &b)| Step::Changed(a, b)));
            pair_by_type(
                (a, &of_a[gap_a.clone()], &mut left_of_a),
                (b, &of_b[gap_b.clone()], &mut left_of_b),
                steps,
            );
            (at_a, at_b) = (gap_a.end, gap_b.end);
        }
    }
    steps.extend(left_of_a.into_iter().map(Step::Missing));
    steps.extend(left_of_b.into_iter().map(Step::Added));
}

/// Frames, some of them by their indexes, and where those go that stay alone.
type Half<'i> = (&'i [Item], &'i [usize], &'i mut Vec<usize>);

fn pair_by_type(a: Half<'_>, b: Half<'_>, steps: &mut Vec<Step>) {
    let mut waiting: HashMap<u32, VecDeque<usize>> = HashMap::new();
    for &index in b.1 {
        waiting.entry(b.0[index].label).or_default().push_back(index);
    }
    for &from in a.1 {
        match waiting.get_mut(&a.0[from].label).and_then(VecDeque::pop_front) {
            Some(to) => steps.push(Step::Changed(from, to)),
            None => a.2.push(from),
        }
    }
    b.2.extend(waiting.into_values().flatten());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames from letters: upper case is of another type, and the digit behind it is the content of what
    /// is about the same entity.
    fn items(text: &str) -> Vec<Item> {
        let item = |(ordinal, word): (usize, &str)| {
            let first = word.as_bytes()[0];
            let mut content = Content::default();
            content[..word.len()].copy_from_slice(word.as_bytes());
            Item {
                content,
                about: first.into(),
                received: Timestamp::default(),
                ordinal: ordinal as u32,
                label: first.is_ascii_uppercase().into(),
            }
        };
        text.split_whitespace().enumerate().map(item).collect()
    }

    fn aligned(a: &str, b: &str) -> String {
        let shown = |step| match step {
            Step::Missing(a) => format!("-{a}"),
            Step::Added(b) => format!("+{b}"),
            Step::Moved(a, b) => format!("{a}>{b}"),
            Step::Changed(a, b) => format!("{a}~{b}"),
        };
        align(&items(a), &items(b)).into_iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_the_same_is_no_difference() {
        assert_eq!(aligned("a b c", "a b c"), "");
        assert_eq!(aligned("", ""), "");
        assert_eq!(aligned("a a a b a", "a a a b a"), "");
    }

    #[test]
    fn one_that_was_left_out_is_one_that_is_missing() {
        assert_eq!(aligned("a b c d e", "a c d e"), "-1");
        assert_eq!(aligned("a b c", "b c"), "-0");
        assert_eq!(aligned("a b c", "a b c x y"), "+3 +4");
        assert_eq!(aligned("", "a"), "+0");
        // Also where the others have changed.
        assert_eq!(aligned("a1 b1 c1 d1 e1", "a2 c2 d2 e2"), "0~0 -1 2~1 3~2 4~3");
    }

    #[test]
    fn one_in_the_place_of_another_of_its_type_has_changed() {
        assert_eq!(aligned("a b c", "a x c"), "1~1");
        assert_eq!(aligned("a b c", "a X c"), "-1 +1");
        assert_eq!(aligned("a b1 x c", "a B y b2 c"), "1~3 -2 +1 +2");
        assert_eq!(aligned("a b B c", "a X x c"), "1~2 2~1");
    }

    #[test]
    fn what_is_somewhere_else_has_moved() {
        assert_eq!(aligned("a b c d", "b c d a"), "0>3");
        assert_eq!(aligned("a a b", "b a a"), "2>0");
        assert_eq!(aligned("a b x c", "x c a y"), "0>2 -1 +3");
    }
}
