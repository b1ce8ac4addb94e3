//! captures -> merge -> select -> where -> rename -> dedup -> sample -> minimise -> redact -> times -> one
//! sealed capture.
//!
//! Entries pass one by one through a chain of iterators, so memory follows the number of inputs, never
//! their length. What is not meant to change stays: frames bit for bit, session events, sequence numbers.
//! Inputs are only read, and the output gets its name when it is whole: after an error there is none.
//! Damage is told and counted, and what is whole behind it goes on.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use self::{
    merge::Merge,
    minimise::Minimal,
    names::Names,
    parts::Parts,
    redaction::{Masker, Written},
    sample::Sample,
    times::Mover,
    twice::Twice,
};
pub use self::{
    minimise::{Coverage, Covered},
    names::Rename,
    parts::SplitBy,
    redaction::{Redacted, Redaction, fresh_key, key_from, policy_from},
    times::Times,
};
pub use crate::capture::RESULT;
use crate::{
    capture::{About, Capture, Compression, Entries, PROFILE, PastDamage, records_of_damage},
    codec::plan::Style,
    entry::{Entry, Timestamp, What},
    error::{Error, Result},
    files::Identity,
    protocol::PROTOCOLS,
    schema::Resolver,
    select::{Find, Selection},
    sink::{
        filter::{Condition, Judge},
        ndjson::Ndjson,
    },
};

mod features;
mod merge;
mod minimise;
mod names;
mod parts;
mod redaction;
mod sample;
mod survivors;
mod times;
mod twice;

/// The metadata records of an edited capture that say what its inputs said about themselves: each has
/// the input's own words, and its file name as `input`.
pub const INPUT: &str = "centralcap.input";

/// What is done. The default takes everything.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What is taken of all inputs together: the start is that of the earliest, and `limit` counts the
    /// frames of all.
    pub selection: Selection,
    /// Only frames for which this holds, of those that are selected.
    pub condition: Option<Condition>,
    /// Where the schema comes from by which frames are shown to the condition, and times are found,
    pub resolver: Resolver,
    /// and how they are spelled for it.
    pub style: Style,
    /// New names of subscriptions.
    pub renames: Vec<Rename>,
    /// Leaves out frames of which the same was received so long before at most, on a subscription of the
    /// same name, and was kept.
    pub window: Option<Duration>,
    /// Takes so many frames of each topic at most, spread evenly over all that are left, for which the
    /// inputs are read twice.
    pub sample: Option<u64>,
    /// Takes the fewest and smallest frames that have every payload type, field, enum value, length of a
    /// list (none, one, more) and unknown field that all have, for which the inputs are read once more.
    pub minimise: bool,
    /// What becomes of times; None leaves them.
    pub times: Option<Times>,
    /// Replaces names, addresses and places, for which the inputs are read twice.
    pub redaction: Option<Redaction>,
    /// Makes a folder with a capture for each part; None makes one file.
    pub split: Option<SplitBy>,
    /// How the output is compressed.
    pub compression: Compression,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Frames that were written.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Session events that were written.
    pub events: u64,
    /// Frames that were left out as they could not be decoded for the condition.
    pub undecodable: u64,
    /// Frames that were left out as the condition failed on them.
    pub unjudged: u64,
    /// Places at which an input is damaged, and files among others that are no capture.
    pub damaged: u64,
    /// What was redacted; None if nothing was to be.
    pub redacted: Option<Redacted>,
    /// The output's size in bytes.
    pub size: u64,
    /// What the frames cover, if they were to be as few as can be.
    pub coverage: Option<Coverage>,
}

/// Makes one sealed capture of the inputs, each of which is a file or a folder, in the order in which
/// entries were received: see [`Options`]. A file that is given twice is read once. `lost` hears of all damage. It is an error if no input is a
/// capture, or if nothing can be saved of any.
pub fn edit(
    inputs: &[PathBuf],
    output: &Path,
    options: &Options,
    mut lost: impl FnMut(&Error),
) -> Result<Summary> {
    // Of an input that is there before by another name nothing is left.
    let captures = inputs.iter().zip(Capture::open_each(inputs)?);
    let (inputs, captures): (Vec<_>, Vec<_>) =
        captures.filter(|(_, capture)| !capture.segments().is_empty()).unzip();
    let inputs = &inputs[..];
    refuse_input(output, &captures)?;
    let joins = join(&options.renames, &captures)?;
    let mut merge = Merge::new(captures.iter().map(Capture::entries).collect());
    let early = merge.begin();
    let about = about(inputs, options, joins, &merge);
    // What recorders said about themselves may name anybody.
    let records = match &options.redaction {
        None => inputs_about(inputs, merge.inputs()),
        Some(_) => Vec::new(),
    };
    let records = with_past_damage(records, &captures, options.redaction.is_some());
    let mut parts = Parts::create(output, options.split, about, records, options.compression)?;

    let mut tally = Tally::default();
    let entries = early.into_iter().map(Err).chain(merge);
    let again = || Merge::new(captures.iter().map(Capture::entries).collect());
    let sample = options.sample.map(|wanted| Sample::of(wanted, options.wanted(again())));
    let minimal = if options.minimise {
        let all = sampled(sample.clone(), options.wanted(again()));
        Some(RefCell::new(Minimal::of(options.resolver.clone(), all)?))
    } else {
        None
    };
    let mut masker = match &options.redaction {
        Some(redaction) => {
            let all = sampled(sample.clone(), options.wanted(again()));
            let all = minimised(minimal.as_ref(), all);
            let moves_times = options.times.is_some();
            Some(Masker::learnt(redaction, &options.renames, moves_times, all)?)
        }
        None => None,
    };
    if let Some(minimal) = &minimal {
        minimal.borrow_mut().begin();
    }
    let mut mover = options.mover();
    for entry in minimised(minimal.as_ref(), sampled(sample, options.wanted(entries))) {
        match entry.and_then(|entry| changed(entry, masker.as_mut(), mover.as_mut())) {
            Ok(Some(entry)) => {
                if let Some(minimal) = &minimal {
                    minimal.borrow_mut().writes(&entry)?;
                }
                tally.summary.redacted = masker.as_ref().map(Masker::redacted);
                parts.append(&entry, || tally.so_far(options))?;
                tally.entry(&entry);
            }
            Ok(None) => {}
            Err(error) => tally.loss(error, &mut lost)?,
        }
    }
    let written = masker.map(Masker::written).transpose()?;
    tally.summary.redacted = written.as_ref().map(Written::redacted);
    let segments = captures.iter().map(|capture| capture.segments().len()).sum();
    let coverage = minimal.map(|minimal| minimal.into_inner().coverage());
    let (summary, past) = tally.finish(segments, lost)?;
    let summary = Summary { coverage, ..summary };
    let told = Outcome::of(summary, &past, options);
    Ok(Summary { size: parts.finish(&told, written.as_ref())?, ..summary })
}

/// Entries on their way.
type Chain<'a> = Box<dyn Iterator<Item = Result<Entry>> + 'a>;

/// Those of them that are in the sample, if there is one.
fn sampled(sample: Option<Sample>, entries: Chain<'_>) -> Chain<'_> {
    let Some(mut sample) = sample else { return entries };
    Box::new(entries.filter(move |entry| entry.as_ref().map_or(true, |entry| sample.takes(entry))))
}

/// Those of them that are to be taken where as few as can be are.
fn minimised<'a>(minimal: Option<&'a RefCell<Minimal>>, entries: Chain<'a>) -> Chain<'a> {
    let Some(minimal) = minimal else { return entries };
    Box::new(
        entries
            .filter(|entry| entry.as_ref().map_or(true, |entry| minimal.borrow_mut().takes(entry))),
    )
}

/// The entry with pseudonyms and at its new time, as far as that is wanted. None if nothing is known of
/// what is in it.
fn changed(
    entry: Entry,
    masker: Option<&mut Masker<'_>>,
    mover: Option<&mut Mover>,
) -> Result<Option<Entry>> {
    let entry = match masker {
        Some(masker) => masker.apply(entry)?,
        None => Some(entry),
    };
    match (entry, mover) {
        (Some(entry), Some(mover)) => mover.apply(entry).map(Some),
        (entry, _) => Ok(entry),
    }
}

impl Options {
    /// The sequence numbers of what is left have no holes that are of our making.
    fn takes_all_frames(&self) -> bool {
        self.selection.takes_all_frames()
            && self.condition.is_none()
            && self.window.is_none()
            && self.sample.is_none()
            && !self.minimise
            && self.split.is_none()
            && self.redaction.is_none()
    }

    /// What is wanted of these entries.
    fn wanted<'a>(&'a self, entries: impl Iterator<Item = Result<Entry>> + 'a) -> Chain<'a> {
        let mut chain: Chain<'a> = Box::new(self.selection.clone().of(entries));
        if let Some(condition) = &self.condition {
            let lines = Ndjson::new(self.resolver.clone(), self.style);
            let mut judge = Judge::new(condition.clone(), lines);
            chain = Box::new(chain.filter_map(move |entry| match entry {
                Ok(entry) if entry.frame().is_some() => match judge.wants(&entry) {
                    Ok(wanted) => wanted.then_some(Ok(entry)),
                    Err(error) => Some(Err(error)),
                },
                other => Some(other),
            }));
        }
        if !self.renames.is_empty() {
            let mut names = Names::new(&self.renames);
            chain = Box::new(chain.map(move |entry| names.apply(entry?)));
        }
        if let Some(window) = self.window {
            let mut twice = Twice::new(window);
            chain = Box::new(
                chain.filter(move |entry| !entry.as_ref().is_ok_and(|entry| twice.has(entry))),
            );
        }
        chain
    }

    /// What moves times, if any are to be moved. Redacted frames are of the bundled schema, whatever their
    /// capture says of its fields.
    fn mover(&self) -> Option<Mover> {
        let is_redacted = self.redaction.is_some();
        let resolver = if is_redacted { Resolver::default() } else { self.resolver.clone() };
        Some(Mover::new(self.times?, is_redacted, resolver))
    }
}

impl Summary {
    /// Something was lost or is wrong.
    pub fn is_lossy(&self) -> bool {
        let denied = self.redacted.map_or(0, |redacted| redacted.denied);
        self.undecodable + self.unjudged + self.damaged + denied > 0
    }
}

/// What the output says of what came of it.
#[derive(Clone)]
struct Outcome {
    summary: Summary,
    past: PastDamage,
}

impl Outcome {
    fn of(summary: Summary, past: &PastDamage, options: &Options) -> Self {
        let past = if options.redaction.is_some() { past.unnamed() } else { past.clone() };
        Self { summary, past }
    }

    fn metadata(&self) -> mcap::records::Metadata {
        let Summary { frames, events, undecodable, unjudged, redacted, coverage, .. } =
            &self.summary;
        let counts = [
            ("frames", *frames),
            ("events", *events),
            ("undecodable", *undecodable),
            ("unjudged", *unjudged),
        ];
        let redacted = redacted.map(|Redacted { denied, counts }| {
            [("denied", denied), ("dropped", counts.dropped), ("replaced", counts.originals)]
        });
        let counts = counts.into_iter().chain(redacted.into_iter().flatten());
        let mut record = self.past.record();
        record.metadata.extend(counts.map(|(name, count)| (name.to_owned(), count.to_string())));
        for (name, Covered { covered, seen }) in coverage.iter().flat_map(Coverage::parts) {
            let name = format!("minimise.{}", name.replace(' ', "_"));
            record.metadata.insert(name, format!("{covered} of {seen}"));
        }
        record
    }
}

/// What has come by.
#[derive(Default)]
struct Tally {
    summary: Summary,
    past: PastDamage,
    /// Kept back until something else is known to be a capture.
    strangers: Vec<Error>,
    damage: Option<Error>,
}

impl Tally {
    fn entry(&mut self, entry: &Entry) {
        match &entry.what {
            What::Frame(frame) => {
                self.summary.frames += 1;
                self.summary.bytes += frame.data.len() as u64;
            }
            What::Event(_) => self.summary.events += 1,
        }
    }

    /// What came of it until now.
    fn so_far(&self, options: &Options) -> Outcome {
        Outcome::of(self.summary, &self.past, options)
    }

    /// Tells a loss. Any other error is returned.
    fn loss(&mut self, error: Error, lost: &mut impl FnMut(&Error)) -> Result<()> {
        if error.is_not_a_capture() {
            self.strangers.push(error);
        } else if error.is_damage() {
            lost(&error);
            self.past.take(&error);
            self.damage.get_or_insert(error);
        } else if error.is_undecodable() {
            lost(&error);
            self.summary.undecodable += 1;
        } else if error.is_unjudged() {
            lost(&error);
            self.summary.unjudged += 1;
        } else {
            return Err(error);
        }
        Ok(())
    }

    /// What came of so many segments, if there is anything to be had from them.
    fn finish(
        self,
        segments: usize,
        mut lost: impl FnMut(&Error),
    ) -> Result<(Summary, PastDamage)> {
        let Self { mut summary, mut past, mut strangers, damage } = self;
        if strangers.len() == segments && segments > 0 {
            return Err(strangers.swap_remove(0));
        }
        match damage {
            Some(damage) if summary.frames + summary.events == 0 => return Err(damage),
            _ => {}
        }
        for stranger in &strangers {
            lost(stranger);
            past.take(stranger);
        }
        summary.damaged = past.damaged_places;
        Ok((summary, past))
    }
}

/// An input has many names; the output must be none of them. The sealed name of one that is recorded is
/// taken, too, which the writer sees to.
fn refuse_input(output: &Path, captures: &[Capture]) -> Result<()> {
    let Ok(there) = Identity::of(output) else { return Ok(()) };
    let mut segments = captures.iter().flat_map(Capture::segments);
    if !segments.any(|input| Identity::of(&input.path).is_ok_and(|input| input == there)) {
        return Ok(());
    }
    Err(Error::usage(
        "an output that is no input",
        output.display().to_string(),
        "what is read is never written over: choose a new name",
    ))
}

/// Whether two subscriptions may get the same name. A new name for nobody is a slip of the pen. Where an input
/// does not say who is in it, nobody can tell.
fn join(renames: &[Rename], captures: &[Capture]) -> Result<bool> {
    if renames.is_empty() {
        return Ok(false);
    }
    let Ok(channels) = captures.iter().map(Capture::channels).collect::<Result<Vec<_>>>() else {
        return Ok(true);
    };
    let names: BTreeSet<_> = channels.iter().flatten().map(|(of, _)| &*of.name).collect();
    if let Some(rename) = renames.iter().find(|rename| !names.contains(rename.old())) {
        return Err(Error::usage(
            format!("a subscription of the input ({})", Vec::from_iter(names).join(", ")),
            format!("{:?}", rename.old()),
            "--rename takes OLD=NEW, with the whole old name",
        ));
    }
    let new = |name: &&str| {
        let rename = renames.iter().find(|rename| rename.old() == *name);
        rename.map_or(*name, Rename::new_name).to_owned()
    };
    Ok(names.iter().map(new).collect::<BTreeSet<_>>().len() < names.len())
}

/// What the output says about itself: what was asked, and of the recordings only what all of them say.
fn about(inputs: &[&PathBuf], options: &Options, joins: bool, merge: &Merge<Entries>) -> About {
    let said = |name: &str| {
        let own = merge.inputs().iter().filter_map(own_words);
        own.filter_map(|own| own.get(name).cloned()).collect::<Vec<_>>()
    };
    let started = said("started").iter().filter_map(|time| time.parse::<Timestamp>().ok()).min();
    let hosts = said("host");
    let host = match &hosts[..] {
        [first, others @ ..] if others.iter().all(|other| other == first) => first.clone(),
        _ => String::new(),
    };
    let mut asked = asked(options);
    let names: Vec<_> = inputs.iter().map(|path| name_of(path)).collect();
    asked.insert("inputs", names.join(", "));
    if let Some(redaction) = &options.redaction {
        hide(&mut asked, inputs.len(), redaction);
    }
    let was_whole = said("option.edit.whole").iter().all(|whole| whole == "yes");
    // Who had names of their own had counters of their own.
    let is_whole = was_whole && inputs.len() == 1 && !joins && options.takes_all_frames();
    asked.insert("whole", if is_whole { "yes" } else { "no" }.to_owned());
    let started = started.or(merge.first()).unwrap_or_default();
    About {
        started: options.times.map_or(started, |times| times.start(started)),
        host: if options.redaction.is_none() { host } else { String::new() },
        options: asked.into_iter().map(|(name, what)| (format!("edit.{name}"), what)).collect(),
    }
}

/// What was asked for, by the names of the command's options.
fn asked(options: &Options) -> BTreeMap<&'static str, String> {
    let Selection { topics, subscriptions, customers, finds, from, to, skip, limit } =
        &options.selection;
    let globs: Vec<_> = subscriptions.iter().map(|glob| glob.glob().glob()).collect();
    let finds: Vec<_> = finds.iter().map(Find::to_string).collect();
    let renames: Vec<_> = options.renames.iter().map(Rename::to_string).collect();
    let all = [
        ("topic", (!topics.is_empty()).then(|| topics.join(", "))),
        ("subscription", (!globs.is_empty()).then(|| globs.join(", "))),
        ("customer", (!customers.is_empty()).then(|| customers.join(", "))),
        ("find", (!finds.is_empty()).then(|| finds.join(", "))),
        ("from", from.map(|from| from.to_string())),
        ("to", to.map(|to| to.to_string())),
        ("skip", (*skip > 0).then(|| skip.to_string())),
        ("limit", limit.map(|limit| limit.to_string())),
        ("rename", (!renames.is_empty()).then(|| renames.join(", "))),
        ("shift", options.times.and_then(Times::shift)),
        ("restamp", options.times.and_then(Times::restamp).map(|first| first.to_string())),
        ("dedup", options.window.map(|window| format!("{window:?}"))),
        ("sample", options.sample.map(|wanted| wanted.to_string())),
        ("minimise", options.minimise.then(|| "yes".to_owned())),
        ("split-by", options.split.map(|split| split.name().to_owned())),
        ("where", options.condition.as_ref().map(Condition::to_string)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Leaves of what was asked for that it was: names of files and subscriptions are somebody's, and whoever
/// knows by how much times were moved can move them back.
fn hide(asked: &mut BTreeMap<&'static str, String>, inputs: usize, redaction: &Redaction) {
    let is_ours = |name: &str| {
        let mut topics = PROTOCOLS.iter().flat_map(|protocol| protocol.topics());
        topics.any(|topic| topic.name == name)
    };
    for (name, value) in asked.iter_mut() {
        match *name {
            "skip" | "limit" | "dedup" | "sample" | "minimise" | "split-by" => {}
            "topic" => {
                let told =
                    value.split(", ").map(|name| if is_ours(name) { name } else { "redacted" });
                let told: Vec<_> = told.collect();
                *value = told.join(", ");
            }
            "inputs" => *value = inputs.to_string(),
            _ => "redacted".clone_into(value),
        }
    }
    // Whoever gets it may want to know that it hides less than others do, or something else.
    let ways = [
        ("redact", true),
        ("keep-oui", redaction.keep_oui),
        ("redact-policy", !redaction.policy.is_empty()),
    ];
    let ways = ways.into_iter().filter(|(_, is_so)| *is_so);
    asked.extend(ways.map(|(name, _)| (name, "yes".to_owned())));
}

/// What an input says about itself, as far as it was read.
fn own_words(input: &Entries) -> Option<&BTreeMap<String, String>> {
    let own = input.metadata().iter().find(|record| record.name == PROFILE);
    own.map(|record| &record.metadata)
}

/// What each input says about itself, and what its own inputs said.
fn inputs_about(paths: &[&PathBuf], inputs: &[Entries]) -> Vec<mcap::records::Metadata> {
    let records = paths.iter().zip(inputs).flat_map(|(path, input)| {
        input.metadata().iter().map(move |record| {
            let mut record = record.clone();
            if record.name == PROFILE {
                INPUT.clone_into(&mut record.name);
                record.metadata.insert("input".to_owned(), name_of(path));
            }
            record
        })
    });
    records.collect()
}

/// These records, and those in which the inputs remember damage: they stand behind the last entry, where
/// nobody has come to yet. Where names are to be hidden, only how much it was.
fn with_past_damage(
    mut records: Vec<mcap::records::Metadata>,
    captures: &[Capture],
    is_hidden: bool,
) -> Vec<mcap::records::Metadata> {
    let segments = captures.iter().flat_map(Capture::segments).filter(|segment| !segment.hot);
    for record in segments.flat_map(|segment| records_of_damage(&segment.path)) {
        let record = match PastDamage::of(&record) {
            Some(past) if is_hidden => past.unnamed().record(),
            _ => record,
        };
        if !records.contains(&record) {
            records.push(record);
        }
    }
    records
}

/// Of a path only the name: the folders above are nobody's business.
fn name_of(path: &Path) -> String {
    let name = |path: &Path| Some(path.file_name()?.to_string_lossy().into_owned());
    // `.` has none.
    name(path).or_else(|| name(&path.canonicalize().ok()?)).unwrap_or_default()
}
