//! Frames that are read again, as only their hashes were kept.
//!
//! Both captures are read from the start, side by side. A frame that is needed later than it comes is
//! held, up to a limit; what finds no room waits for the next round. Captures that have their frames in
//! about the same order take one round.

use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;

use super::{Entries, Options, Source, content::Contents};
use crate::{
    entry::{Entry, Frame, What},
    error::{Error, Result},
};

/// So many bytes of frames are held at most.
const HELD: usize = 64 << 20;

/// Frames to be read, by their ordinals.
pub(super) struct Job {
    /// The difference that it is for.
    pub(super) number: usize,
    pub(super) a: Option<u32>,
    pub(super) b: Option<u32>,
}

/// What was asked for.
pub(super) enum Seen {
    Both { number: usize, a: Box<RawValue>, b: Box<RawValue> },
    One { number: usize, frame: Box<RawValue> },
}

/// Does all jobs, in any order.
pub(super) fn look<'i>(
    a: &dyn Source,
    b: &dyn Source,
    options: &Options,
    contents: &impl Fn() -> Contents<'i>,
    jobs: Vec<Job>,
    done: impl FnMut(Seen),
) -> Result<()> {
    look_within(HELD, (a, b), options, contents, jobs, done)
}

fn look_within<'i>(
    limit: usize,
    (a, b): (&dyn Source, &dyn Source),
    options: &Options,
    contents: &impl Fn() -> Contents<'i>,
    mut jobs: Vec<Job>,
    mut done: impl FnMut(Seen),
) -> Result<()> {
    let (mut contents_a, mut contents_b) = (contents(), contents());
    while !jobs.is_empty() {
        // Those that need B alone come last: its frames are met on the way.
        jobs.sort_unstable_by_key(|job| (job.a.is_none(), job.a, job.b));
        let mut of_a = Frames::new(a, options)?;
        let mut of_b = Frames::new(b, options)?;
        let mut held = Held::new(limit, &jobs);
        let mut waiting = Vec::new();
        for job in jobs.drain(..) {
            let number = job.number;
            let second = match job.b.map(|ordinal| held.find(ordinal, &mut of_b)).transpose()? {
                Some(Some(entry)) => Some(content(&mut contents_b, &entry)?),
                Some(None) => {
                    waiting.push(job);
                    continue;
                }
                None => None,
            };
            let first = match job.a {
                Some(ordinal) => Some(content(&mut contents_a, &of_a.at(ordinal)?)?),
                None => None,
            };
            match (first, second) {
                (Some(a), Some(b)) => done(Seen::Both { number, a, b }),
                (Some(frame), None) | (None, Some(frame)) => done(Seen::One { number, frame }),
                (None, None) => {}
            }
        }
        jobs = waiting;
    }
    Ok(())
}

fn content(contents: &mut Contents<'_>, entry: &Entry) -> Result<Box<RawValue>> {
    let frame = entry.frame().ok_or_else(changed)?;
    contents.content(entry, frame)
}

fn changed() -> Error {
    Error::usage(
        "captures that stay as they are while they are compared",
        "fewer frames than before",
        "compare copies, or wait until they are finished",
    )
}

/// The frames of a capture by their ordinals, which have to ascend.
struct Frames<'s> {
    entries: Box<dyn Iterator<Item = Result<Entry>> + 's>,
    /// The ordinal of the next one.
    next: u32,
}

impl<'s> Frames<'s> {
    fn new(source: &'s dyn Source, options: &Options) -> Result<Self> {
        let entries: Entries<'s> = source.entries()?;
        Ok(Self { entries: Box::new(options.selection.clone().of(entries)), next: 0 })
    }

    /// The next frame.
    fn next(&mut self) -> Result<Entry> {
        for entry in &mut self.entries {
            match entry {
                Ok(entry) if entry.frame().is_some() => {
                    self.next += 1;
                    return Ok(entry);
                }
                Ok(_) => {}
                // It has been told before.
                Err(error) if error.is_damage() || error.is_not_a_capture() => {}
                Err(error) => return Err(error),
            }
        }
        Err(changed())
    }

    fn at(&mut self, ordinal: u32) -> Result<Entry> {
        loop {
            let entry = self.next()?;
            if self.next > ordinal {
                return Ok(entry);
            }
        }
    }
}

/// Frames that came before they were needed.
struct Held {
    wanted: HashSet<u32>,
    frames: HashMap<u32, Entry>,
    size: usize,
    limit: usize,
}

impl Held {
    fn new(limit: usize, jobs: &[Job]) -> Self {
        let wanted = jobs.iter().filter_map(|job| job.b).collect();
        Self { wanted, frames: HashMap::new(), size: 0, limit }
    }

    /// The frame, if it is held or is still to come.
    fn find(&mut self, ordinal: u32, frames: &mut Frames<'_>) -> Result<Option<Entry>> {
        if let Some(entry) = self.frames.remove(&ordinal) {
            self.size -= size(&entry);
            return Ok(Some(entry));
        }
        while frames.next <= ordinal {
            let at = frames.next;
            let entry = frames.next()?;
            if at == ordinal {
                return Ok(Some(entry));
            }
            if self.wanted.contains(&at) {
                self.hold(at, entry);
            }
        }
        Ok(None)
    }

    fn hold(&mut self, ordinal: u32, entry: Entry) {
        let size = size(&entry);
        if self.size + size > self.limit {
            return;
        }
        let What::Frame(frame) = entry.what else { return };
        // A copy: else all of the chunk that it lies in would be held.
        let data = bytes::Bytes::copy_from_slice(&frame.data);
        let what = What::Frame(Frame { data, ..frame });
        self.size += size;
        self.frames.insert(ordinal, Entry { what, ..entry });
    }
}

/// With what it takes to hold it.
fn size(entry: &Entry) -> usize {
    entry.frame().map_or(0, |frame| frame.data.len()) + 256
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diff::paths::Ignored,
        synth::{self, Synth},
    };

    struct Made(Vec<Entry>);

    impl Source for Made {
        fn entries(&self) -> Result<Entries<'_>> {
            Ok(Box::new(self.0.iter().cloned().map(Ok)))
        }
    }

    #[test]
    fn what_finds_no_room_is_read_in_another_round() {
        let options = synth::Options { messages: 60, ..synth::Options::default() };
        let frames = Synth::new(&options).unwrap().filter(|entry| entry.frame().is_some());
        let a = Made(frames.collect());
        let b = Made(a.0.iter().rev().cloned().collect());
        let (options, ignored) = (Options::default(), Ignored::default());
        let contents = || Contents::new(&options, &ignored, true);
        let pairs = |limit| {
            let both =
                (0..60).map(|at| Job { number: at, a: Some(at as u32), b: Some(59 - at as u32) });
            let alone = (0..5).map(|at| Job { number: 60 + at, a: None, b: Some(at as u32) });
            let mut pairs = Vec::new();
            let jobs = both.chain(alone).collect();
            look_within(limit, (&a, &b), &options, &contents, jobs, |seen| match seen {
                Seen::Both { number, a, b } => {
                    assert_eq!(a.get(), b.get());
                    pairs.push((number, a.get().to_owned()));
                }
                Seen::One { number, frame } => pairs.push((number, frame.get().to_owned())),
            })
            .unwrap();
            pairs.sort();
            pairs
        };
        let all = pairs(usize::MAX);
        assert_eq!(all.len(), 65);
        assert_eq!(pairs(10_000), all);
        assert_eq!(pairs(0), all);
    }

    #[test]
    fn a_capture_that_has_become_shorter_is_an_error() {
        let made = Made(Vec::new());
        let (options, ignored) = (Options::default(), Ignored::default());
        let contents = || Contents::new(&options, &ignored, true);
        let jobs = vec![Job { number: 0, a: Some(0), b: None }];
        assert!(look(&made, &made, &options, &contents, jobs, |_| {}).is_err());
    }
}
