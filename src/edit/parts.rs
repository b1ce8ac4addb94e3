//! Where entries go: one file, or a folder with a file for each part.
//!
//! The folder gets its name when all of it is whole. Until then it has another one.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use mcap::records::Metadata;

use super::{Outcome, redaction::Written};
use crate::{
    capture::{
        About, Compression, SEALED_SUFFIX, SealedFile, sha256,
        unfinished::{UnfinishedFolder, refuse_taken},
    },
    entry::{Entry, What},
    error::{Error, Result},
    files::folder_of,
};

/// What the parts of an output are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitBy {
    /// The topics that were subscribed to.
    Topic,
    /// The subscriptions' names.
    Subscription,
    /// The hours in which entries were received, in UTC.
    Hour,
}

/// The names of the parts, as they are asked for.
const SPLITS: [(&str, SplitBy); 3] =
    [("topic", SplitBy::Topic), ("subscription", SplitBy::Subscription), ("hour", SplitBy::Hour)];

impl SplitBy {
    /// As it is asked for.
    pub fn name(self) -> &'static str {
        SPLITS.iter().find(|(_, split)| *split == self).map_or("", |(name, _)| name)
    }

    /// In which part an entry is.
    fn part(self, entry: &Entry) -> String {
        match self {
            Self::Topic => file_name(&entry.subscription.topic),
            Self::Subscription => file_name(&entry.subscription.name),
            Self::Hour => entry.received.to_string().chars().take("2026-01-05T08".len()).collect(),
        }
    }

    /// So many parts are written at a time at most: each takes memory for what is not compressed yet.
    const fn open_at_most(self) -> usize {
        match self {
            Self::Topic | Self::Subscription => 64,
            // Hours follow each other; where a clock is set, there may be two.
            Self::Hour => 2,
        }
    }
}

impl FromStr for SplitBy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = SPLITS.iter().find(|(name, _)| *name == text);
        found.map(|(_, split)| *split).ok_or_else(|| {
            let names = SPLITS.map(|(name, _)| name).join(", ");
            Error::usage(
                format!("one of {names}"),
                format!("{text:?}"),
                "each of them gets a capture of its own",
            )
        })
    }
}

/// No longer name is given to a file. File systems have 255 bytes, and an ending and perhaps a number follow.
const LONGEST_NAME: usize = 200;

/// A name with nothing in it that means something to a file system. Of one that is too long it is the beginning,
/// and what tells it from all others.
fn file_name(name: &str) -> String {
    let plain = |byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let mut plain: String = name.bytes().map(plain).collect();
    if plain.len() > LONGEST_NAME {
        let sum = sha256(name.as_bytes());
        plain.truncate(LONGEST_NAME - "~".len() - sum.len());
        // No name that is short enough has this character.
        plain.push('~');
        plain.push_str(&sum);
    }
    plain
}

/// Takes entries and makes files of them.
pub(super) struct Parts {
    about: About,
    /// What every part says besides.
    records: Vec<Metadata>,
    compression: Compression,
    split: Option<SplitBy>,
    output: PathBuf,
    /// None if the output is one file.
    folder: Option<UnfinishedFolder>,
    /// In the order in which they were begun.
    open: Vec<Part>,
    /// The names of all that were ever begun.
    names: BTreeSet<String>,
    size: u64,
}

struct Part {
    /// What of the entries is in it.
    of: String,
    file: SealedFile,
    frames: u64,
    events: u64,
}

impl Parts {
    pub(super) fn create(
        output: &Path,
        split: Option<SplitBy>,
        about: About,
        records: Vec<Metadata>,
        compression: Compression,
    ) -> Result<Self> {
        let folder = split.map(|_| folder_for(output)).transpose()?;
        let mut parts = Self {
            about,
            records,
            compression,
            split,
            output: output.to_owned(),
            folder,
            open: Vec::new(),
            names: BTreeSet::new(),
            size: 0,
        };
        if split.is_none() {
            // There is one even if nothing is in it.
            parts.begin(String::new())?;
        }
        Ok(parts)
    }

    pub(super) fn append(&mut self, entry: &Entry, so_far: impl FnOnce() -> Outcome) -> Result<()> {
        let of = self.split.map_or_else(String::new, |split| split.part(entry));
        let index = match self.open.iter().position(|part| part.of == of) {
            Some(index) => index,
            None => {
                self.make_room(so_far)?;
                self.begin(of)?
            }
        };
        let part = &mut self.open[index];
        part.file.append(entry)?;
        match entry.what {
            What::Frame(_) => part.frames += 1,
            What::Event(_) => part.events += 1,
        }
        Ok(())
    }

    /// Finishes all files, and returns how many bytes they have. What is proven of them is so before they
    /// have their names. There is no folder without a file: it would be no capture.
    pub(super) fn finish(mut self, outcome: &Outcome, proof: Option<&Written<'_>>) -> Result<u64> {
        for part in std::mem::take(&mut self.open) {
            self.end(part, outcome, proof.filter(|_| self.folder.is_none()))?;
        }
        if let Some(folder) = self.folder.filter(|_| !self.names.is_empty()) {
            if let Some(proof) = proof {
                for name in fs::read_dir(folder.path()).map_err(Error::io("read", &self.output))? {
                    let name = name.map_err(Error::io("read", &self.output))?;
                    proof.prove(&name.path())?;
                }
            }
            folder.finish()?;
        }
        Ok(self.size)
    }

    fn begin(&mut self, of: String) -> Result<usize> {
        let path = match &self.folder {
            None => self.output.clone(),
            Some(folder) => {
                let numbered = (2_u32..).map(|number| format!("{of}-{number}"));
                let mut names = std::iter::once(of.clone()).chain(numbered);
                let name = names.find(|name| self.names.insert(name.clone())).unwrap_or_default();
                folder.path().join(name + SEALED_SUFFIX)
            }
        };
        let mut file = SealedFile::create_compressed(&path, &self.about, &[], self.compression)?;
        for record in &self.records {
            file.metadata(record)?;
        }
        self.open.push(Part { of, file, frames: 0, events: 0 });
        Ok(self.open.len() - 1)
    }

    fn make_room(&mut self, so_far: impl FnOnce() -> Outcome) -> Result<()> {
        let Some(split) = self.split.filter(|split| self.open.len() >= split.open_at_most()) else {
            return Ok(());
        };
        if split == SplitBy::Hour {
            let oldest = self.open.remove(0);
            return self.end(oldest, &so_far(), None);
        }
        Err(Error::usage(
            format!("at most {} parts to split by {}", split.open_at_most(), split.name()),
            "more",
            "select some with --subscription, and the others in another run",
        ))
    }

    fn end(
        &mut self,
        mut part: Part,
        outcome: &Outcome,
        proof: Option<&Written<'_>>,
    ) -> Result<()> {
        let mut own = outcome.clone();
        (own.summary.frames, own.summary.events) = (part.frames, part.events);
        part.file.metadata(&own.metadata())?;
        self.size += part.file.finish_if(|path| proof.map_or(Ok(()), |proof| proof.prove(path)))?;
        Ok(())
    }
}

fn folder_for(output: &Path) -> Result<UnfinishedFolder> {
    refuse_taken(output)?;
    UnfinishedFolder::create_in(folder_of(output), output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_short_enough_and_another_one() {
        let beginning = "n".repeat(LONGEST_NAME - 1);
        let long =
            ["", "n", "nn", "nm", "n\u{fc}", "n\u{fd}"].map(|end| format!("{beginning}{end}"));
        let names: BTreeSet<_> = long.iter().map(|name| file_name(name)).collect();
        assert_eq!(names.len(), long.len());
        assert!(names.iter().all(|name| name.len() <= LONGEST_NAME), "{names:?}");
        assert!(names.contains(&long[0]) && names.contains(&long[1]));
    }
}
