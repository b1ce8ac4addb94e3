//! A capture proven to be what was written: every checksum, every index, and what was recorded against what
//! the ledger says about it.
//!
//! Each file is read once from its first byte to its last, and what its index names is looked up. What is
//! wrong is told by its place, with what was expected and what was found, and does not end anything.
//! However large or hostile a file is, little of it is in memory: frames are never held, and of what is
//! wrong the first few of each kind. Nothing is decoded but session events.

use std::{collections::BTreeSet, fs::File, path::PathBuf, thread};

use serde::Serialize;

pub use self::findings::{Check, Checked, FAULTS_KEPT, Fault};
use self::{contents::Contents, findings::Findings, ledger::Ledgers};
use super::State;
use crate::{
    capture::{self, Capture, PastDamage, past_damage},
    error::{Error, Kind, Result},
    plain,
};

pub(super) mod chunk;
mod contents;
mod findings;
mod hot;
mod index;
mod ledger;
pub(super) mod records;
mod scan;
mod sealed;
mod workers;

/// What came of looking at all of a capture.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Nothing is wrong with the files.
    pub whole: bool,
    /// What the damage of the captures that they were made of has cost them, as they remember; None if they do
    /// not know of any.
    pub past_damage: Option<PastDamage>,
    /// The files, in the order in which they were read.
    pub segments: Vec<SegmentVerdict>,
    /// Frames that are there,
    pub frames: u64,
    /// and session events.
    pub events: u64,
    /// All checks, in a fixed order.
    pub checks: Vec<Checked>,
}

/// What there was to look at in one file.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentVerdict {
    /// Where it is.
    #[serde(serialize_with = "super::path")]
    pub path: PathBuf,
    /// Hot or sealed.
    pub state: State,
    /// A recorder is writing it right now.
    pub live: bool,
    /// How much of it there was.
    pub bytes: u64,
    /// Frames in it,
    pub frames: u64,
    /// and session events.
    pub events: u64,
    /// How many chunks a sealed one has.
    pub chunks: u64,
    /// How many checkpoints a hot one has.
    pub checkpoints: u64,
    /// Entries behind the last of them: nothing proves them yet.
    pub unproven: u64,
}

/// The part of that which only one kind of segment knows.
#[derive(Default)]
struct Segment {
    chunks: u64,
    checkpoints: u64,
    unproven: u64,
}

impl Verdict {
    /// Nothing is wrong, and nothing was when it was made.
    pub fn is_good(&self) -> bool {
        self.whole && self.past_damage.is_none()
    }

    /// How many faults there are altogether.
    pub fn faults(&self) -> u64 {
        self.checks.iter().map(|checked| checked.faults).sum()
    }

    /// One JSON document over several lines; `docs/inspect-json.md` says what is in it.
    pub fn json(&self) -> String {
        plain::document(self)
    }
}

/// Looks at all of a capture. It is an error if none of its files is a capture at all, and if one of them
/// cannot be read.
pub fn verify(capture: &Capture) -> Result<Verdict> {
    let mut findings = Findings::new();
    let mut ledgers = Ledgers::default();
    let mut segments = Vec::new();
    let mut past = BTreeSet::new();
    let mut strangers = Vec::new();
    for segment in capture.segments() {
        if let Some(error) = segment.unread() {
            strangers.push((segment, error));
            continue;
        }
        match one(segment, &mut findings, &mut ledgers, &mut past) {
            Ok(segment) => segments.push(segment),
            Err(error) if error.is_not_a_capture() || error.is_damage() => {
                strangers.push((segment, error));
            }
            Err(error) => return Err(error),
        }
    }
    if segments.is_empty()
        && let Some((_, error)) = strangers.pop()
    {
        return Err(error);
    }
    for (segment, error) in strangers {
        findings.begin(&segment.path);
        findings.fault(Check::Records, findings::Spot::at(0), || {
            let found = match error.into_kind() {
                Kind::NotACapture { found, .. } => found,
                other => Error::from(other).to_string(),
            };
            ("a capture".to_owned(), found)
        });
    }
    ledgers.finish(&mut findings);
    let checks = findings.finish();
    Ok(Verdict {
        whole: checks.iter().all(|checked| checked.faults == 0),
        past_damage: PastDamage::together(&past),
        frames: segments.iter().map(|segment| segment.frames).sum(),
        events: segments.iter().map(|segment| segment.events).sum(),
        segments,
        checks,
    })
}

fn one(
    segment: &capture::Segment,
    findings: &mut Findings,
    ledgers: &mut Ledgers,
    past: &mut BTreeSet<PastDamage>,
) -> Result<SegmentVerdict> {
    let live = segment.is_being_recorded();
    let (file, segment) = segment.open()?;
    let path = &segment.path;
    let bytes = file.metadata().map_err(Error::io("look at", path))?.len();
    findings.begin(path);
    let known = if segment.hot { Vec::new() } else { past_damage(path) };
    let mut contents = Contents::new(findings, ledgers, known.into_iter().collect());
    let again = File::open(path).map_err(Error::io("open", path));
    let again = again.map_err(|error| segment.unopened(error))?;
    let (state, own) = if segment.hot {
        (State::Hot, hot::verify(path, [file, again], bytes, live, &mut contents)?)
    } else {
        (State::Sealed, sealed::verify(path, [file, again], bytes, &mut contents)?)
    };
    contents.finish();
    past.append(&mut contents.past);
    if !contents.is_ours {
        let found = "an MCAP file that no recorder of ours has written".to_owned();
        return Err(Kind::NotACapture { path: path.clone(), found }.into());
    }
    Ok(SegmentVerdict {
        path: path.clone(),
        state,
        live: live && segment.hot,
        bytes,
        frames: contents.frames,
        events: contents.events,
        chunks: own.chunks,
        checkpoints: own.checkpoints,
        unproven: own.unproven,
    })
}

/// On how many threads chunks are unpacked.
fn threads() -> usize {
    // More would only hold more: what comes after unpacking is for one at a time.
    const AT_MOST: usize = 4;

    thread::available_parallelism().map_or(1, usize::from).min(AT_MOST)
}
