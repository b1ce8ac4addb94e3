//! Two captures -> what is in each frame -> which is which -> a [`Report`] of what differs, by meaning.
//!
//! Meant is what is in the frames of each subscription, in their order: not when they were received, not
//! their sequence numbers and connections, not how their bytes are encoded. Both captures are read once
//! for a hash of each frame, 40 bytes that are kept, and again for the frames that differ. So memory
//! follows the number of frames, and not what is in them.
//! The JSON of a report is documented in `docs/diff-json.md`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    thread,
};

use prost_reflect::MessageDescriptor;
use serde::Serialize;
use serde_json::value::RawValue;

use self::{
    again::{Job, Seen},
    align::{Item, Step},
    content::{Contents, How},
    declared::Declared,
    paths::Ignored,
};
pub use self::{compare::Change, declared::SchemaChange, paths::FieldPath};
use crate::{
    by_address::ByAddress,
    capture::Capture,
    codec::{STACK_SIZE, plan::BytesStyle},
    entry::{Entry, Subscription, Timestamp},
    error::{Error, Result},
    plain,
    protocol::PROTOCOLS,
    schema::{FrameTypes, Resolver},
    select::Selection,
};

mod again;
mod align;
mod compare;
mod content;
mod declared;
mod paths;
mod text;

/// So many differences are shown, unless the user wants more or less.
pub const SHOWN: usize = 100;

/// A side has so many frames at most, as those who align them count with a sign.
const FRAMES: u32 = i32::MAX as u32;

/// Of one side so many losses are told.
const LOSSES_TOLD: usize = 1000;

/// Entries walk by.
pub type Entries<'s> = Box<dyn Iterator<Item = Result<Entry>> + 's>;

/// What is compared. It is read more than once.
pub trait Source: Sync {
    /// Every entry, from the first one.
    fn entries(&self) -> Result<Entries<'_>>;

    /// Whether it brings its own schema along.
    fn has_schema(&self) -> bool {
        true
    }

    /// Whether it has the fields that the schema does not know. If not, nobody's are compared.
    fn shows_unknown(&self) -> bool {
        true
    }
}

impl Source for Capture {
    fn entries(&self) -> Result<Entries<'_>> {
        Ok(Box::new(Self::entries(self)))
    }
}

/// What is compared, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is taken of both.
    pub selection: Selection,
    /// Where the schema comes from.
    pub resolver: Resolver,
    /// How bytes are shown.
    pub bytes: BytesStyle,
    /// What is not compared.
    pub ignore: Vec<FieldPath>,
    /// Compares when frames were received, too.
    pub times: bool,
    /// A frame that has moved is the same.
    pub any_order: bool,
    /// So many differences are kept at most. All are counted.
    pub shown: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            selection: Selection::default(),
            resolver: Resolver::default(),
            bytes: BytesStyle::default(),
            ignore: Vec::new(),
            times: false,
            any_order: false,
            shown: SHOWN,
        }
    }
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

/// What differs.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Nothing does.
    pub equal: bool,
    /// What was read of the first,
    pub a: Read,
    /// and of the second.
    pub b: Read,
    /// Frames that are the same.
    pub same: u64,
    /// Frames that are in both with other fields.
    pub changed: u64,
    /// Frames that are only in A,
    pub missing: u64,
    /// or only in B.
    pub added: u64,
    /// Frames that are the same, but not in the same order.
    pub moved: u64,
    /// The subscriptions that only one has frames of. These are counted as missing or added.
    pub subscriptions: Vec<OneSided>,
    /// What the schemas declare differently.
    pub schema: Vec<SchemaChange>,
    /// Which fields differ in how many of the changed frames, the most frequent first.
    pub paths: Vec<PathCount>,
    /// The first differences, by subscription.
    pub differences: Vec<Difference>,
    /// How many more there are.
    pub left_out: u64,
}

/// What was read of a side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Read {
    /// Frames that are selected.
    pub frames: u64,
    /// Of these, such that cannot be decoded: they were compared by their bytes.
    pub undecodable: u64,
    /// Such with fields that the schema does not know, which were not compared: the other side does not
    /// have them, or they are ignored.
    pub without_unknown: u64,
    /// Places at which it is damaged, and files among others that are no capture.
    pub damaged: u64,
}

/// A subscription that only one side has frames of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OneSided {
    /// Its name.
    pub name: String,
    /// Its topic.
    pub topic: String,
    /// Its frames in A,
    pub a: u64,
    /// and in B. One of the two is 0.
    pub b: u64,
}

/// How often a field differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathCount {
    /// Its path, without indexes.
    pub path: String,
    /// In how many frames.
    pub frames: u64,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is in both with other fields.
    Changed,
    /// It is only in A.
    Missing,
    /// It is only in B.
    Added,
    /// It has another place in the order.
    Moved,
}

/// One frame that differs.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// What became of it.
    pub kind: Kind,
    /// The subscription's name.
    pub subscription: String,
    /// The subscription's topic.
    pub topic: String,
    /// The payload's full name, if it is known.
    #[serde(rename = "type")]
    pub payload: Option<String>,
    /// Where it is in A,
    pub a: Option<Position>,
    /// and in B.
    pub b: Option<Position>,
    /// Its fields that differ, if it has changed.
    pub changes: Vec<Change>,
    /// How many more of these there are.
    pub changes_left_out: u64,
    /// What is in it, if only one has it.
    pub frame: Option<Box<RawValue>>,
}

/// Where a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The how many-th of its subscription that is selected, from 1.
    pub index: u64,
    /// When it was received.
    pub received: Timestamp,
}

impl Report {
    /// Something of a side could not be compared as it should be.
    pub const fn is_lossy(&self) -> bool {
        self.a.undecodable + self.a.damaged + self.b.undecodable + self.b.damaged > 0
    }

    /// One JSON document over several lines; `docs/diff-json.md` says what is in it.
    pub fn json(&self) -> String {
        plain::document(self)
    }
}

/// Compares two captures. `lost` hears of all damage. It is an error if nothing can be read of one.
pub fn diff(
    a: &dyn Source,
    b: &dyn Source,
    options: &Options,
    mut lost: impl FnMut(Side, &Error),
) -> Result<Report> {
    let ignored = Ignored::new(&options.ignore);
    let with_unknown = a.shows_unknown() && b.shows_unknown();
    let contents = || Contents::new(options, &ignored, with_unknown);
    let survey = |source| Survey::of(source, options, contents());
    let (of_a, of_b) = thread::scope(|scope| {
        let other = thread::Builder::new().stack_size(STACK_SIZE);
        let other = other.spawn_scoped(scope, || survey(b)).expect("the system has another thread");
        (survey(a), other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let (of_a, of_b) = (of_a?, of_b?);
    of_a.losses.iter().for_each(|error| lost(Side::A, error));
    of_b.losses.iter().for_each(|error| lost(Side::B, error));
    refuse_unknown(options, [&of_a, &of_b])?;

    let mut report = Report::of(&of_a, &of_b);
    if a.has_schema() && b.has_schema() && !ignored.schema {
        report.schema = of_a.declared(&of_b).compare(&of_b.declared(&of_a));
    }
    let found = found(of_a, of_b, options, &mut report);
    let mut shown = Shown { kept: BTreeMap::new(), most: options.shown };
    let mut paths = HashMap::new();
    let jobs = found.jobs(options.shown);
    again::look(a, b, options, &contents, jobs, |seen| match seen {
        Seen::Both { number, a, b } => {
            let mut changes = compare::compare(&a, &b);
            count(&changes, &mut paths);
            let mut difference = found.difference(number);
            difference.changes_left_out =
                changes.len().saturating_sub(compare::CHANGES_KEPT) as u64;
            changes.truncate(compare::CHANGES_KEPT);
            shown.put(number, Difference { changes, ..difference });
        }
        Seen::One { number, frame } => {
            shown.put(number, Difference { frame: Some(frame), ..found.difference(number) });
        }
    })?;
    for number in found.moved(options.shown) {
        shown.put(number, found.difference(number));
    }
    report.differences = shown.kept.into_values().collect();
    report.left_out = (found.steps.len() - report.differences.len()) as u64;
    report.paths = most_frequent(paths);
    report.equal =
        report.schema.is_empty() && found.steps.is_empty() && report.subscriptions.is_empty();
    Ok(report)
}

/// Sees to it that every ignored path names a field: of the bundled types, or of one that came by.
fn refuse_unknown(options: &Options, found: [&Survey; 2]) -> Result<()> {
    if options.ignore.is_empty() {
        return Ok(());
    }
    let mut types: Vec<_> = found.iter().flat_map(|side| side.types.values().cloned()).collect();
    for protocol in PROTOCOLS {
        for kind in FrameTypes::of(protocol).all() {
            types.push(options.resolver.envelope(protocol, &kind.label, kind)?);
        }
    }
    paths::refuse_unknown(&options.ignore, &types)
}

/// Whose frames: the name and the topic of a subscription.
type FeedName = (String, String);

/// What is remembered of a side.
struct Survey {
    feeds: BTreeMap<FeedName, Vec<Item>>,
    /// By label.
    types: BTreeMap<String, MessageDescriptor>,
    payloads: HashMap<u32, Option<String>>,
    read: Read,
    losses: Vec<Error>,
}

impl Survey {
    fn of(source: &dyn Source, options: &Options, mut contents: Contents<'_>) -> Result<Self> {
        let mut feeds: Vec<(FeedName, Vec<Item>)> = Vec::new();
        let mut by_name = HashMap::new();
        let mut known: ByAddress<Subscription, usize> = ByAddress::default();
        let (mut read, mut losses) = (Read::default(), Vec::new());
        let mut entries = 0_u64;
        for entry in options.selection.clone().of(source.entries()?) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if error.is_damage() || error.is_not_a_capture() => {
                    // What it has cost was no place of its own.
                    read.damaged += u64::from(!error.is_cost_of_damage());
                    if losses.len() < LOSSES_TOLD {
                        losses.push(error);
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            entries += 1;
            let Some(frame) = entry.frame() else { continue };
            let ordinal =
                u32::try_from(read.frames).ok().filter(|at| *at < FRAMES).ok_or_else(|| {
                    let expected = format!("at most {FRAMES} frames on each side");
                    Error::usage(expected, "more", "compare parts with --from and --to")
                })?;
            let (item, how) = contents.item(&entry, frame, ordinal)?;
            let of = &entry.subscription;
            let feed = known.or_insert_with(of, || {
                let name = (of.name.clone(), of.topic.clone());
                *by_name.entry(name.clone()).or_insert_with(|| {
                    feeds.push((name, Vec::new()));
                    feeds.len() - 1
                })
            });
            feeds[*feed].1.push(item);
            read.frames += 1;
            read.undecodable += u64::from(how == How::Undecodable);
            read.without_unknown += u64::from(how == How::WithoutUnknown);
        }
        if entries == 0 && !losses.is_empty() {
            return Err(losses.swap_remove(0));
        }
        let mut types = BTreeMap::new();
        for (kind, envelope) in contents.types() {
            types.entry(kind.label.clone()).or_insert_with(|| envelope.clone());
        }
        let payloads = contents.payloads();
        let payloads = payloads.map(|(label, name)| (label, name.map(str::to_owned))).collect();
        Ok(Self { feeds: feeds.into_iter().collect(), types, payloads, read, losses })
    }

    /// What the types declare that both have.
    fn declared(&self, other: &Self) -> Declared {
        let mut declared = Declared::default();
        for (label, envelope) in &self.types {
            if other.types.contains_key(label) {
                declared.add(envelope);
            }
        }
        declared
    }
}

impl Report {
    fn of(a: &Survey, b: &Survey) -> Self {
        Self {
            equal: false,
            a: a.read,
            b: b.read,
            same: 0,
            changed: 0,
            missing: 0,
            added: 0,
            moved: 0,
            subscriptions: Vec::new(),
            schema: Vec::new(),
            paths: Vec::new(),
            differences: Vec::new(),
            left_out: 0,
        }
    }
}

/// All differences, by their numbers.
struct Found {
    feeds: Vec<Feed>,
    /// With the feed's index.
    steps: Vec<(u32, Step)>,
    payloads: HashMap<u32, Option<String>>,
}

/// A subscription of both.
struct Feed {
    name: FeedName,
    a: Vec<Item>,
    b: Vec<Item>,
}

fn found(a: Survey, b: Survey, options: &Options, report: &mut Report) -> Found {
    let names: BTreeSet<_> = a.feeds.keys().chain(b.feeds.keys()).cloned().collect();
    let (mut feeds_a, mut feeds_b) = (a.feeds, b.feeds);
    let payloads = a.payloads.into_iter().chain(b.payloads).collect();
    let mut found = Found { feeds: Vec::new(), steps: Vec::new(), payloads };
    for name in names {
        let of_a = feeds_a.remove(&name).unwrap_or_default();
        let of_b = feeds_b.remove(&name).unwrap_or_default();
        let (frames_a, frames_b) = (of_a.len() as u64, of_b.len() as u64);
        if of_a.is_empty() || of_b.is_empty() {
            report.missing += frames_a;
            report.added += frames_b;
            let (name, topic) = name;
            report.subscriptions.push(OneSided { name, topic, a: frames_a, b: frames_b });
            continue;
        }
        let mut steps = align::align(&of_a, &of_b);
        if options.any_order {
            steps.retain(|step| !matches!(step, Step::Moved(..)));
        }
        let mut differ = 0;
        for step in &steps {
            let (counter, of_a) = match step {
                Step::Missing(_) => (&mut report.missing, 1),
                Step::Added(_) => (&mut report.added, 0),
                Step::Moved(..) => (&mut report.moved, 1),
                Step::Changed(..) => (&mut report.changed, 1),
            };
            *counter += 1;
            differ += of_a;
        }
        report.same += frames_a - differ;
        if steps.is_empty() {
            continue;
        }
        let feed = found.feeds.len() as u32;
        found.steps.extend(steps.into_iter().map(|step| (feed, step)));
        found.feeds.push(Feed { name, a: of_a, b: of_b });
    }
    found
}

impl Found {
    /// Which frames have to be read again: all that have changed, as their fields are counted, and of the
    /// others those that are shown.
    fn jobs(&self, shown: usize) -> Vec<Job> {
        let steps = self.steps.iter().enumerate();
        let jobs = steps.filter_map(|(number, &(feed, step))| {
            let feed = &self.feeds[feed as usize];
            let (a, b) = match step {
                Step::Changed(a, b) => (Some(a), Some(b)),
                Step::Missing(a) if number < shown => (Some(a), None),
                Step::Added(b) if number < shown => (None, Some(b)),
                _ => return None,
            };
            let (a, b) = (a.map(|a| feed.a[a].ordinal), b.map(|b| feed.b[b].ordinal));
            Some(Job { number, a, b })
        });
        jobs.collect()
    }

    /// The numbers of those that have only moved, as far as they are shown.
    fn moved(&self, shown: usize) -> impl Iterator<Item = usize> {
        let steps = self.steps.iter().take(shown).enumerate();
        steps.filter(|(_, (_, step))| matches!(step, Step::Moved(..))).map(|(number, _)| number)
    }

    /// Without what is in it.
    fn difference(&self, number: usize) -> Difference {
        let (feed, step) = self.steps[number];
        let feed = &self.feeds[feed as usize];
        let (kind, a, b) = match step {
            Step::Changed(a, b) => (Kind::Changed, Some(a), Some(b)),
            Step::Missing(a) => (Kind::Missing, Some(a), None),
            Step::Added(b) => (Kind::Added, None, Some(b)),
            Step::Moved(a, b) => (Kind::Moved, Some(a), Some(b)),
        };
        let position = |items: &[Item], index: usize| Position {
            index: index as u64 + 1,
            received: items[index].received,
        };
        let label = a.map(|a| feed.a[a].label).or(b.map(|b| feed.b[b].label));
        let payload = label.and_then(|label| self.payloads.get(&label).cloned()).flatten();
        let (subscription, topic) = feed.name.clone();
        Difference {
            kind,
            subscription,
            topic,
            payload,
            a: a.map(|a| position(&feed.a, a)),
            b: b.map(|b| position(&feed.b, b)),
            changes: Vec::new(),
            changes_left_out: 0,
            frame: None,
        }
    }
}

/// The first of all differences, whatever the order in which they come.
struct Shown {
    kept: BTreeMap<usize, Difference>,
    most: usize,
}

impl Shown {
    fn put(&mut self, number: usize, difference: Difference) {
        self.kept.insert(number, difference);
        if self.kept.len() > self.most {
            self.kept.pop_last();
        }
    }
}

/// So many paths are told apart: those of unknown fields could be any number.
const PATHS: usize = 10_000;

fn count(changes: &[Change], paths: &mut HashMap<String, u64>) {
    let all: BTreeSet<_> = changes.iter().map(|change| compare::general(&change.path)).collect();
    for path in all {
        if paths.len() < PATHS || paths.contains_key(&path) {
            *paths.entry(path).or_default() += 1;
        }
    }
}

fn most_frequent(paths: HashMap<String, u64>) -> Vec<PathCount> {
    let paths = paths.into_iter();
    let mut paths: Vec<_> = paths.map(|(path, frames)| PathCount { path, frames }).collect();
    paths.sort_by(|a, b| b.frames.cmp(&a.frames).then_with(|| a.path.cmp(&b.path)));
    paths
}
