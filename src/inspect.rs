//! What a stranger wants to know first about a capture: a [`Profile`], folded from its entries.
//!
//! One pass over everything that is selected. Memory follows the number of subscriptions and
//! payloads, with [`gaps`] also that of gaps, never the number of entries. Damage does not end the
//! pass: it is written down where it was found, and the profile holds for what could be read. The
//! JSON of a profile is documented in `docs/inspect-json.md`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Serialize, Serializer};

pub use self::{
    coverage::{Coverage, Gap},
    follow::{Follow, follow, write_line},
    frames::{Numbered, each_frame},
    history::{ConnectionCounts, EVENTS_KEPT, Event, Happening, History, Sequence},
    html::ReportFile,
    text::{Look, WIDTH},
    timeline::BUCKETS,
    verify::{Check, Checked, FAULTS_KEPT, Fault, SegmentVerdict, Verdict, verify},
};
use self::{
    history::Ledger,
    runs::{Runs, Sources},
    timeline::Timeline,
};
use crate::{
    capture::{self, Capture, PROFILE, PastDamage, past_damage},
    entry::{Entry, FrameType, Subscription, Timestamp, What},
    error::{Error, Result},
    plain,
    select::Selection,
};

mod coverage;
pub mod drift;
mod follow;
mod frames;
mod history;
mod html;
mod index;
pub mod message;
pub mod messages;
mod runs;
pub mod schema;
mod text;
mod timeline;
pub mod top;
mod verify;

/// Profiles what is selected of a capture. It is an error if none of its files is a capture at all;
/// damaged ones are profiled as far as they can be read.
pub fn inspect(capture: &Capture, selection: Selection) -> Result<Profile> {
    let fold = Fold::new(capture, &selection);
    folded(fold, capture, selection)
}

/// The same of all of a capture without unpacking it: what its index says, and the session events. Damage
/// and missing frames are not seen. None: not all of it is sealed, or there is no index.
pub fn inspect_index(capture: &Capture) -> Result<Option<Profile>> {
    let mut fold = Fold::new(capture, &Selection::default());
    fold.whole.subscriptions = false;
    let is_indexed = index::fold(capture, &mut fold)?;
    let profile = is_indexed.then(|| fold.finish()).transpose()?;
    Ok(profile.map(|profile| Profile { from_index: true, ..profile }))
}

/// The same with the coverage of each subscription. Its memory follows the number of gaps.
pub fn gaps(capture: &Capture, selection: Selection) -> Result<Profile> {
    let mut fold = Fold::new(capture, &selection);
    fold.sources = Some(Sources::new(fold.whole.subscriptions));
    folded(fold, capture, selection)
}

/// The same for [`Profile::html`], with the frames over time in more and narrower buckets than [`BUCKETS`].
pub fn report(capture: &Capture, selection: Selection) -> Result<Profile> {
    let mut fold = Fold::new(capture, &selection);
    fold.sources = Some(Sources::new(fold.whole.subscriptions));
    fold.timeline = Timeline::of_at_most(html::BUCKETS);
    folded(fold, capture, selection)
}

fn folded(mut fold: Fold, capture: &Capture, selection: Selection) -> Result<Profile> {
    let mut entries = selection.of(capture.entries());
    while let Some(entry) = entries.next() {
        let segment = entries.inner().segment() - 1;
        fold.about(entries.inner().metadata());
        match entry {
            Ok(entry) => {
                fold.coverage(segment, entries.inner().metadata(), &entry);
                fold.entry(segment, &entry);
            }
            Err(error) if error.is_damage() || error.is_not_a_capture() => {
                fold.damage(segment, error);
            }
            Err(error) => return Err(error),
        }
    }
    // A capture without entries says something about itself, too.
    fold.about(entries.inner().metadata());
    fold.past.extend(entries.inner().metadata().iter().filter_map(PastDamage::of));
    fold.finish()
}

/// What there is to know about a capture before looking into its frames.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    /// The files, in the order in which they were read.
    pub segments: Vec<SegmentProfile>,
    /// What the capture says about itself; None if no segment got that far.
    pub about: Option<AboutProfile>,
    /// From the first entry to the last; None if there is none.
    pub span: Option<Span>,
    /// Everything together.
    pub totals: Totals,
    /// The axis that the subscriptions' `timeline` counts belong to; None without frames.
    pub timeline: Option<Axis>,
    /// What the damage of the captures that this was made of has cost it, as it remembers; None if it does
    /// not know of any.
    pub past_damage: Option<PastDamage>,
    /// Everybody who has an entry, by name.
    pub subscriptions: Vec<SubscriptionProfile>,
    /// Only the index was read: damage and missing frames were not looked for.
    #[serde(skip)]
    pub from_index: bool,
}

/// One file of a capture.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentProfile {
    /// Where it is.
    #[serde(serialize_with = "path")]
    pub path: PathBuf,
    /// Hot or sealed.
    pub state: State,
    /// A recorder is writing it right now.
    pub live: bool,
    /// Its size on the disk.
    pub bytes: u64,
    /// Entries that were read from it and selected.
    pub entries: u64,
    /// The first thing that is wrong with it.
    pub damage: Option<String>,
    /// At so many places something is wrong, and was left out.
    pub damaged_places: u64,
}

/// The two states of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Being recorded, or left behind by a recorder that was killed.
    Hot,
    /// Finished and compressed.
    Sealed,
}

/// What a capture says about itself, as it says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AboutProfile {
    /// The version of centralcap that made it.
    pub version: String,
    /// When the recording was started.
    pub started: String,
    /// The recorder's host name; empty if it was not to be told.
    pub host: String,
    /// The options of the recording.
    pub options: BTreeMap<String, String>,
}

/// A stretch of time. `first` is not after `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Span {
    /// The first moment.
    #[serde(serialize_with = "display")]
    pub first: Timestamp,
    /// The last moment.
    #[serde(serialize_with = "display")]
    pub last: Timestamp,
}

impl Span {
    /// How long it is.
    pub fn length(self) -> Duration {
        self.last.since(self.first)
    }

    /// This span, or the new one if there is none yet, made to include `at`. Entries are nearly but
    /// not always in the order of their times: clocks are set, and captures are read together.
    fn including(span: Option<Self>, at: Timestamp) -> Self {
        let Self { first, last } = span.unwrap_or(Self { first: at, last: at });
        Self { first: first.min(at), last: last.max(at) }
    }
}

/// Everything together.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Totals {
    /// Frames that were read and selected.
    pub frames: u64,
    /// Their size altogether.
    pub bytes: u64,
    /// Session events likewise.
    pub events: u64,
    /// The size of all files.
    pub stored_bytes: u64,
    /// Bytes of frames for each stored byte; None if a selection was made or nothing is stored.
    pub compression: Option<f64>,
}

/// The axis of the timelines. Bucket `n` begins `n` widths after the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Axis {
    /// Where the first bucket begins: a multiple of the width since the Unix epoch.
    #[serde(serialize_with = "display")]
    pub start: Timestamp,
    /// How wide a bucket is.
    #[serde(serialize_with = "seconds")]
    pub bucket_seconds: Duration,
    /// How many there are, [`BUCKETS`] at most but in a [`report`].
    pub buckets: usize,
}

impl Axis {
    /// Where the last bucket ends.
    pub fn end(&self) -> Timestamp {
        let buckets = u32::try_from(self.buckets).unwrap_or(u32::MAX);
        self.start.after(self.bucket_seconds.saturating_mul(buckets))
    }
}

/// One subscription.
#[derive(Clone, Debug, Serialize)]
pub struct SubscriptionProfile {
    /// Its name.
    pub name: String,
    /// The topic that was asked for.
    pub topic: String,
    /// The host that was asked.
    pub host: String,
    /// The protocol's name.
    pub protocol: String,
    /// Its frames, by what they are taken for.
    pub payloads: Vec<PayloadProfile>,
    /// What the sequence numbers say; None if a selection left frames out, so that nothing can be
    /// said about what is missing.
    pub sequence: Option<Sequence>,
    /// How often each session event happened.
    pub connections: ConnectionCounts,
    /// The session events themselves.
    pub history: History,
    /// Frames in each bucket of the profile's axis.
    pub timeline: Vec<u64>,
    /// When it was covered; None if nobody asked for gaps.
    pub coverage: Option<Coverage>,
}

/// The frames of one subscription that are taken for the same.
#[derive(Clone, Debug, Serialize)]
pub struct PayloadProfile {
    /// The last part of the channel's topic.
    pub label: String,
    /// The payload's full name, if it is known.
    pub payload: Option<String>,
    /// How many.
    pub frames: u64,
    /// Their size altogether.
    pub bytes: u64,
    /// The size of the smallest.
    pub min_bytes: u64,
    /// The mean size.
    pub mean_bytes: f64,
    /// The size of the largest.
    pub max_bytes: u64,
    /// When the first and the last were received.
    #[serde(flatten)]
    pub span: Span,
    /// Frames after the first, by the time from the first to the last; None if that is no time.
    pub frames_per_second: Option<f64>,
}

/// What there is to be counted of some frames.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    frames: u64,
    bytes: u64,
    min: u64,
    max: u64,
    span: Span,
}

impl Sizes {
    /// One frame.
    fn of(size: u64, received: Timestamp) -> Self {
        let mut sizes = Self::none_in(Span { first: received, last: received });
        sizes.add(size);
        sizes
    }

    /// None yet of the frames in this span.
    const fn none_in(span: Span) -> Self {
        Self { frames: 0, bytes: 0, min: u64::MAX, max: 0, span }
    }

    /// Another frame in the same span.
    fn add(&mut self, size: u64) {
        self.frames += 1;
        self.bytes += size;
        self.min = self.min.min(size);
        self.max = self.max.max(size);
    }
}

impl PayloadProfile {
    fn new(kind: &FrameType, received: Timestamp) -> Self {
        Self {
            label: kind.label.clone(),
            payload: kind.payload.clone(),
            frames: 0,
            bytes: 0,
            min_bytes: u64::MAX,
            mean_bytes: 0.0,
            max_bytes: 0,
            span: Span { first: received, last: received },
            frames_per_second: None,
        }
    }

    fn add(&mut self, sizes: &Sizes) {
        self.frames += sizes.frames;
        self.bytes += sizes.bytes;
        self.min_bytes = self.min_bytes.min(sizes.min);
        self.max_bytes = self.max_bytes.max(sizes.max);
        self.mean_bytes = quotient(self.bytes, self.frames);
        let Span { first, last } = sizes.span;
        self.span = Span::including(Some(Span::including(Some(self.span), first)), last);
        let length = self.span.length();
        self.frames_per_second =
            (!length.is_zero()).then(|| quotient(self.frames - 1, 1) / length.as_secs_f64());
    }
}

/// What is wrong with a capture, as far as can be seen without decoding it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Segments of which not all could be read.
    pub damaged_segments: u64,
    /// Places at which captures were damaged that this one was made of.
    pub past_damaged_places: u64,
    /// Frames whose sequence numbers are missing, and that were not dropped with a word.
    pub missing_frames: u64,
    /// Frames that the recorder had to drop.
    pub dropped_frames: u64,
    /// Stretches of time without coverage: where runs overlap and somebody asked, those that are in all.
    pub gaps: u64,
    /// Stretches of time of which nothing is known; 0 if nobody asked.
    pub unknown: u64,
    /// Subscriptions that tried to connect and never were.
    pub never_connected: u64,
}

impl Profile {
    /// What is wrong; None if nothing is.
    pub fn losses(&self) -> Option<Losses> {
        let damaged = self.segments.iter().filter(|segment| segment.damage.is_some());
        let mut losses = Losses {
            damaged_segments: damaged.count() as u64,
            past_damaged_places: self.past_damage.as_ref().map_or(0, |past| past.damaged_places),
            ..Losses::default()
        };
        for subscription in &self.subscriptions {
            losses.missing_frames +=
                subscription.sequence.map_or(0, |sequence| sequence.unexplained);
            losses.dropped_frames =
                losses.dropped_frames.saturating_add(subscription.connections.dropped_frames);
            match &subscription.coverage {
                Some(coverage) => {
                    losses.gaps += coverage.gaps.len() as u64;
                    losses.unknown += coverage.unknown_stretches().count() as u64;
                }
                None => losses.gaps += subscription.connections.gaps,
            }
            losses.never_connected += u64::from(subscription.connections.only_tried());
        }
        (losses != Losses::default()).then_some(losses)
    }

    /// One JSON document over several lines; `docs/inspect-json.md` says what is in it.
    pub fn json(&self) -> String {
        plain::document(self)
    }
}

/// A profile under construction.
struct Fold {
    segments: Vec<SegmentProfile>,
    about: Option<AboutProfile>,
    span: Option<Span>,
    totals: Totals,
    timeline: Timeline,
    /// In the order of their rows in the timeline.
    subscriptions: Vec<Found>,
    rows: HashMap<Arc<Subscription>, usize>,
    whole: Whole,
    /// What each segment remembers.
    past: BTreeSet<PastDamage>,
    /// Who says what; None if nobody asked for gaps.
    sources: Option<Sources>,
    /// Segments that are no capture at all, and what the first of them was told.
    strangers: usize,
    stranger: Option<Error>,
}

/// A subscription that has come by.
struct Found {
    subscription: Arc<Subscription>,
    /// By their label. Whoever comes by first gives the payload its name.
    payloads: BTreeMap<String, PayloadProfile>,
    ledger: Ledger,
    runs: Runs,
}

/// Which part of the capture a selection leaves.
#[derive(Clone, Copy, Debug)]
struct Whole {
    /// All of it.
    capture: bool,
    /// All of every subscription that is selected.
    subscriptions: bool,
}

impl Whole {
    fn left_by(selection: &Selection) -> Self {
        let all_frames = selection.takes_all_frames();
        let capture = all_frames && selection.subscriptions.is_empty();
        Self { capture, subscriptions: all_frames }
    }
}

impl Fold {
    fn new(capture: &Capture, selection: &Selection) -> Self {
        let segments: Vec<_> = capture.segments().iter().map(SegmentProfile::from).collect();
        let stored_bytes = segments.iter().map(|segment| segment.bytes).sum();
        let sealed = capture.segments().iter().filter(|segment| !segment.hot);
        let past = sealed.flat_map(|segment| past_damage(&segment.path)).collect();
        Self {
            segments,
            about: None,
            span: None,
            totals: Totals { stored_bytes, ..Totals::default() },
            timeline: Timeline::default(),
            subscriptions: Vec::new(),
            rows: HashMap::new(),
            whole: Whole::left_by(selection),
            past,
            sources: None,
            strangers: 0,
            stranger: None,
        }
    }

    /// The first word about the recording stands.
    fn about(&mut self, metadata: &[mcap::records::Metadata]) {
        if self.about.is_none() {
            let own = metadata.iter().find(|record| record.name == PROFILE);
            self.about = own.map(|record| AboutProfile::from(&record.metadata));
            if self.about.as_ref().is_some_and(AboutProfile::is_part) {
                self.whole.subscriptions = false;
                self.sources = self.sources.as_ref().map(|_| Sources::new(false));
            }
        }
    }

    fn entry(&mut self, segment: usize, entry: &Entry) {
        self.segments[segment].entries += 1;
        self.span = Some(Span::including(self.span, entry.received));
        let row = self.row(&entry.subscription);
        let found = &mut self.subscriptions[row];
        match &entry.what {
            What::Frame(frame) => {
                let size = frame.data.len() as u64;
                self.totals.frames += 1;
                self.totals.bytes += size;
                self.timeline.count(row, entry.received);
                found.ledger.frame(frame.sequence);
                found.payload(&frame.kind, entry.received).add(&Sizes::of(size, entry.received));
            }
            What::Event(event) => {
                self.totals.events += 1;
                found.ledger.event(entry.received, event);
            }
        }
    }

    /// Frames of one type of which only so much is known; the timeline is for the caller to count.
    fn frames(&mut self, segment: usize, row: usize, kind: &FrameType, sizes: &Sizes) {
        self.segments[segment].entries += sizes.frames;
        let Span { first, last } = sizes.span;
        self.span = Some(Span::including(Some(Span::including(self.span, first)), last));
        self.totals.frames += sizes.frames;
        self.totals.bytes += sizes.bytes;
        self.subscriptions[row].payload(kind, first).add(sizes);
    }

    fn coverage(&mut self, segment: usize, metadata: &[mcap::records::Metadata], entry: &Entry) {
        let Some(sources) = &mut self.sources else { return };
        let source = sources.of(segment, &self.segments, metadata);
        let row = self.row(&entry.subscription);
        let runs = &mut self.subscriptions[row].runs;
        match &entry.what {
            What::Frame(frame) => runs.frame(source, entry.received, frame.sequence),
            What::Event(event) => runs.event(source, entry.received, event),
        }
    }

    /// Until when each run is known to have gone on.
    fn ends(&self) -> HashMap<usize, Timestamp> {
        let mut ends = HashMap::new();
        for (run, end) in self.subscriptions.iter().flat_map(|found| found.runs.ends()) {
            let latest = ends.entry(run).or_insert(end);
            *latest = end.max(*latest);
        }
        ends
    }

    fn row(&mut self, subscription: &Arc<Subscription>) -> usize {
        if let Some(row) = self.rows.get(subscription) {
            return *row;
        }
        let row = self.timeline.row();
        self.rows.insert(Arc::clone(subscription), row);
        self.subscriptions.push(Found {
            subscription: Arc::clone(subscription),
            payloads: BTreeMap::new(),
            ledger: Ledger::default(),
            runs: Runs::default(),
        });
        row
    }

    fn damage(&mut self, segment: usize, error: Error) {
        if error.is_cost_of_damage() {
            // What the counters tell is told of each subscription.
            return;
        }
        let segment = &mut self.segments[segment];
        segment.damaged_places += 1;
        segment.damage.get_or_insert_with(|| error.to_string());
        if error.is_not_a_capture() {
            self.strangers += 1;
            self.stranger.get_or_insert(error);
        }
    }

    fn finish(mut self) -> Result<Profile> {
        match self.stranger {
            Some(error) if self.strangers == self.segments.len() => return Err(error),
            _ => {}
        }
        if self.whole.capture && self.totals.stored_bytes > 0 {
            self.totals.compression = Some(quotient(self.totals.bytes, self.totals.stored_bytes));
        }
        let ends = self.ends();
        let timeline = &self.timeline;
        let mut subscriptions: Vec<_> = self
            .subscriptions
            .into_iter()
            .enumerate()
            .map(|(row, found)| found.finish(self.whole, timeline.counts(row), &ends))
            .collect();
        subscriptions
            .sort_by(|a, b| (&a.name, &a.topic, &a.host).cmp(&(&b.name, &b.topic, &b.host)));
        Ok(Profile {
            segments: self.segments,
            about: self.about,
            span: self.span,
            totals: self.totals,
            timeline: timeline.axis().map(|(start, bucket_seconds, buckets)| Axis {
                start,
                bucket_seconds,
                buckets,
            }),
            past_damage: PastDamage::together(&self.past),
            subscriptions,
            from_index: false,
        })
    }
}

impl Found {
    fn payload(&mut self, kind: &FrameType, received: Timestamp) -> &mut PayloadProfile {
        let label = &kind.label;
        if !self.payloads.contains_key(label) {
            self.payloads.insert(label.clone(), PayloadProfile::new(kind, received));
        }
        self.payloads.get_mut(label).expect("it is there by now")
    }

    fn finish(
        self,
        whole: Whole,
        timeline: &[u64],
        ends: &HashMap<usize, Timestamp>,
    ) -> SubscriptionProfile {
        let Subscription { name, topic, host, protocol } = (*self.subscription).clone();
        let (connections, history, sequence) = self.ledger.finish();
        SubscriptionProfile {
            name,
            topic,
            host,
            protocol,
            payloads: self.payloads.into_values().collect(),
            sequence: whole.subscriptions.then_some(sequence),
            connections,
            history,
            timeline: timeline.to_vec(),
            coverage: self
                .runs
                .finish(whole.capture, |run| ends.get(&run).copied().unwrap_or_default()),
        }
    }
}

impl From<&capture::Segment> for SegmentProfile {
    fn from(segment: &capture::Segment) -> Self {
        Self {
            path: segment.path.clone(),
            state: if segment.hot { State::Hot } else { State::Sealed },
            live: segment.is_being_recorded(),
            bytes: segment.size,
            entries: 0,
            damage: None,
            damaged_places: 0,
        }
    }
}

impl AboutProfile {
    /// Somebody has taken frames out, or put those of several recordings together: what their sequence
    /// numbers leave out is not lost.
    fn is_part(&self) -> bool {
        self.options.get("edit.whole").is_some_and(|whole| whole == "no")
    }
}

impl From<&BTreeMap<String, String>> for AboutProfile {
    fn from(metadata: &BTreeMap<String, String>) -> Self {
        let value = |name: &str| metadata.get(name).cloned().unwrap_or_default();
        let option = |(name, value): (&String, &String)| {
            Some((name.strip_prefix("option.")?.to_owned(), value.clone()))
        };
        Self {
            version: value("version"),
            started: value("started"),
            host: value("host"),
            options: metadata.iter().filter_map(option).collect(),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "fifteen digits are enough for a mean")]
fn quotient(of: u64, by: u64) -> f64 {
    of as f64 / by as f64
}

fn display<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

fn signed_seconds<S: Serializer>(
    duration: &jiff::SignedDuration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
