//! What was looked at and what was found, check by check.

use std::path::{Path, PathBuf};

use serde::Serialize;

/// How many faults of each kind are kept.
pub const FAULTS_KEPT: usize = 5;

/// How much is kept of a text that may come from a file.
const TEXT_KEPT: usize = 200;

/// Something that has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Files are made of records, in the order in which they belong, from the first byte to the last.
    Records,
    /// The content of each chunk has the size and the checksum that the chunk says.
    ChunkChecksums,
    /// The checksum of all before a sealed segment's summary.
    DataChecksum,
    /// The checksum of the summary.
    SummaryChecksum,
    /// Each checkpoint of a hot segment says where it stands, how many entries came before, and their
    /// checksum.
    Checkpoints,
    /// Each chunk has an index that says where it is, what is in it, and from when to when.
    ChunkIndexes,
    /// Each message of a chunk is where the index says, with its time, and no other is.
    MessageIndexes,
    /// The rest of the summary says where things are: metadata, attachments, and its own groups.
    Summary,
    /// The summary counts what is there, and says from when to when.
    Statistics,
    /// Who has a channel, and its schema, is said before it is used, and the same everywhere.
    Channels,
    /// What a recorder wrote of one subscription is in the order of its times.
    Order,
    /// The frames of a connection are numbered without a hole but for those that the ledger says were lost.
    Sequences,
    /// The ledger says what is there: connections, how many frames they had, gaps.
    Ledger,
    /// Each segment of a recording goes on where the one before has ended.
    Segments,
}

/// All of them, in the order in which they are shown: the name, and what it is that was looked at.
pub(super) const CHECKS: [(Check, &str, &str); 14] = [
    (Check::Records, "records", "record"),
    (Check::ChunkChecksums, "chunk checksums", "chunk"),
    (Check::DataChecksum, "data checksum", "segment"),
    (Check::SummaryChecksum, "summary checksum", "segment"),
    (Check::Checkpoints, "checkpoints", "checkpoint"),
    (Check::ChunkIndexes, "chunk indexes", "index"),
    (Check::MessageIndexes, "message indexes", "message"),
    (Check::Summary, "summary", "record"),
    (Check::Statistics, "statistics", "segment"),
    (Check::Channels, "channels", "channel"),
    (Check::Order, "order", "entry"),
    (Check::Sequences, "sequences", "frame"),
    (Check::Ledger, "ledger", "session event"),
    (Check::Segments, "segments", "segment"),
];

/// A place in the file that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub offset: u64,
    /// The chunk begins at the offset; this is the place in its content.
    pub in_chunk: Option<u64>,
}

impl Spot {
    pub(super) const fn at(offset: u64) -> Self {
        Self { offset, in_chunk: None }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// In which file.
    #[serde(serialize_with = "crate::inspect::path")]
    pub path: PathBuf,
    /// Where: the record, or the chunk in which it is.
    pub offset: u64,
    /// Where in the content of the chunk, if it is in one.
    pub in_chunk: Option<u64>,
    /// What should be there.
    pub expected: String,
    /// What is.
    pub found: String,
}

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Which.
    pub check: Check,
    /// At how much there was to look.
    pub looked_at: u64,
    /// How many faults there are.
    pub faults: u64,
    /// The first of them, [`FAULTS_KEPT`] at most.
    pub first: Vec<Fault>,
}

impl Checked {
    /// As it is called where it is shown.
    pub fn name(&self) -> &'static str {
        CHECKS[self.check as usize].1
    }

    /// How much of what was looked at.
    pub(in crate::inspect) fn looked_at_in_words(&self) -> String {
        match CHECKS[self.check as usize].2 {
            _ if self.looked_at == 0 => "nothing".to_owned(),
            unit if self.looked_at == 1 => format!("1 {unit}"),
            unit => format!("{} {}", self.looked_at, plural(unit)),
        }
    }
}

fn plural(unit: &str) -> String {
    match unit {
        "entry" => "entries".to_owned(),
        "index" => "indexes".to_owned(),
        unit => format!("{unit}s"),
    }
}

/// All checks under way.
pub(super) struct Findings {
    checks: Vec<Checked>,
    path: PathBuf,
}

impl Findings {
    pub(super) fn new() -> Self {
        let checked = |&(check, ..): &(Check, &str, &str)| Checked {
            check,
            looked_at: 0,
            faults: 0,
            first: Vec::new(),
        };
        Self { checks: CHECKS.iter().map(checked).collect(), path: PathBuf::new() }
    }

    /// What follows is about this file.
    pub(super) fn begin(&mut self, path: &Path) {
        path.clone_into(&mut self.path);
    }

    #[inline]
    pub(super) fn looked_at(&mut self, check: Check, count: u64) {
        self.checks[check as usize].looked_at += count;
    }

    /// Something is wrong. The words are made only if they are kept.
    pub(super) fn fault(
        &mut self,
        check: Check,
        spot: Spot,
        words: impl FnOnce() -> (String, String),
    ) {
        let checked = &mut self.checks[check as usize];
        checked.faults += 1;
        if checked.first.len() < FAULTS_KEPT {
            checked.first.push(fault(&self.path, spot, words()));
        }
    }

    /// The same, found earlier: so many, of which some were kept.
    pub(super) fn faults(&mut self, check: Check, count: u64, kept: Vec<Fault>) {
        let checked = &mut self.checks[check as usize];
        checked.faults += count;
        let room = FAULTS_KEPT - checked.first.len();
        checked.first.extend(kept.into_iter().take(room));
    }

    /// A fault that may turn out to be none.
    pub(super) fn possible(&self, spot: Spot, words: (String, String)) -> Fault {
        fault(&self.path, spot, words)
    }

    pub(super) fn finish(self) -> Vec<Checked> {
        self.checks
    }
}

fn fault(path: &Path, spot: Spot, (expected, found): (String, String)) -> Fault {
    let Spot { offset, in_chunk } = spot;
    let [expected, found] = [expected, found].map(|text| bounded(text, TEXT_KEPT));
    Fault { path: path.to_owned(), offset, in_chunk, expected, found }
}

/// What became of reading behind a place that is no record.
pub(super) fn went_on(until: Option<u64>) -> String {
    match until {
        Some(until) => format!("reading went on at byte {until}"),
        None => "nothing behind it could be read".to_owned(),
    }
}

/// A text cut to so many bytes.
pub(super) fn bounded(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_checks() {
        for (index, (check, ..)) in CHECKS.iter().enumerate() {
            assert_eq!(*check as usize, index);
        }
    }

    #[test]
    fn of_many_faults_the_first_are_kept_and_all_counted() {
        let mut findings = Findings::new();
        findings.begin(Path::new("a.mcap"));
        for number in 0..20 {
            let words = || (number.to_string(), "é".repeat(1000));
            findings.fault(Check::Order, Spot::at(number), words);
        }
        let checks = findings.finish();
        let order = &checks[Check::Order as usize];
        assert_eq!((order.faults, order.first.len()), (20, FAULTS_KEPT));
        assert!(order.first.iter().all(|fault| fault.found.len() <= TEXT_KEPT + 3));
    }
}
