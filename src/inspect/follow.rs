//! The frames of a capture that is being recorded, as they come.

use std::{fmt::Write, path::Path};

use crate::{
    capture::Tail,
    entry::{Entry, What},
    error::Result,
    plain::unobeyed,
    select::{Selected, Selection},
};

/// The frames that are there, and those that come. Asking never waits: whoever wants more asks again.
pub struct Follow {
    entries: Selected<Counted>,
}

/// Follows a folder or a file, from its first entry.
pub fn follow(path: &Path, selection: Selection) -> Result<Follow> {
    let counted = Counted { tail: Tail::open(path)?, frames: 0 };
    Ok(Follow { entries: selection.of(counted) })
}

impl Follow {
    /// Nothing more will come: the limit is reached, or the one file is sealed and read.
    pub fn is_over(&self) -> bool {
        self.entries.is_over() || self.entries.inner().tail.is_over()
    }
}

/// Frames with their numbers, which count all frames of the capture from 1, whatever is selected. None:
/// there is no more now. Errors that are [damage](crate::error::Error::is_damage), or a file that is no
/// capture, are not the end.
impl Iterator for Follow {
    type Item = Result<(u64, Entry)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.entries.next()? {
                Ok(entry) if entry.frame().is_some() => {
                    return Some(Ok((self.entries.inner().frames, entry)));
                }
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Entries, and how many frames there were among them so far.
struct Counted {
    tail: Tail,
    frames: u64,
}

impl Iterator for Counted {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.tail.next()?;
        self.frames += u64::from(entry.as_ref().is_ok_and(|entry| entry.frame().is_some()));
        Some(entry)
    }
}

/// A frame in a line: its number, when it was received, whose it is, its type and its size.
pub fn write_line(number: u64, entry: &Entry, text: &mut String) {
    let What::Frame(frame) = &entry.what else { return };
    let line = format!(
        "{number}  {}  {}  {}  #{}  {} B",
        entry.received,
        entry.subscription.name,
        frame.kind.label,
        frame.sequence,
        frame.data.len()
    );
    let shown = unobeyed(&line, |character| character.escape_default().to_string());
    let _ = writeln!(text, "{}", shown.replace('\n', "\\n"));
}
