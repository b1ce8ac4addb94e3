//! Faults on purpose: addressed by message, drawn from a seed, and the same again from the same seed.
//!
//! [`Faults`] are rules from a TOML file: when, and what. A [`Door`] says what becomes of those who
//! connect, and makes a [`Spoiler`] for each that gets in, which turns every frame into the [`Step`]s
//! that are taken on the wire instead. Pure machines: they read no clock and do no I/O. A random number
//! depends on the seed, the rule, the connection and the frame only, never on what happened elsewhere,
//! so the same clients meet the same faults however they are scheduled. A rule that cannot be carried
//! out on a frame leaves it as it is, and says so in the log.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use self::file::{Rule, When};
pub use self::{
    log::{Applied, Place, Request},
    scenario::{SCENARIOS, Scenario},
    table::{FAULTS, Fault, Row, TextContent},
    validation::ValidationFails,
};
use crate::{
    codec::{json::Text, plan::Style},
    dice::Dice,
    entry::{Entry, Subscription, nanos},
    error::{Error, Result, Unjudged},
    schema::Resolver,
    sink::{Sink, ndjson::Ndjson},
};
pub(crate) use table::REASON_MAX;

mod file;
mod json;
mod log;
mod mangle;
mod scenario;
mod table;
mod validation;

/// The seed unless the user names one.
pub const SEED: u64 = 1;

/// Rules with a seed.
#[derive(Clone, Debug)]
pub struct Faults {
    rules: Arc<[Rule]>,
    seed: u64,
    /// What the rules were read from.
    texts: Arc<[String]>,
}

impl Faults {
    /// The text of a file of rules; or of the log of an earlier run, whose rules and seed are taken. A seed
    /// that is given goes before the log's. `origin` says where it is from if something is wrong with it.
    pub fn parse(text: &str, origin: &str, seed: Option<u64>) -> Result<Self> {
        let (texts, logged) = match log::head(text, origin)? {
            Some((texts, seed)) => (texts, Some(seed)),
            None => (vec![text.to_owned()], None),
        };
        let mut all = Self::none(seed.or(logged));
        for text in texts {
            let rules = file::parse(&text, origin)?.into();
            all = all.and_of(&Self { rules, seed: all.seed, texts: [text].into() });
        }
        Ok(all)
    }

    /// The same for rules in JSON: `{"rule": [{"when": {...}, "do": ...}]}`.
    pub fn parse_json(text: &str, origin: &str, seed: Option<u64>) -> Result<Self> {
        Self::parse(&json::to_toml(text, origin)?, origin, seed).map_err(json::in_json)
    }

    /// A ready-made scenario, by its name.
    pub fn scenario(name: &str, seed: Option<u64>) -> Result<Self> {
        match SCENARIOS.iter().find(|scenario| scenario.name == name) {
            Some(scenario) => Self::parse(scenario.rules, name, seed),
            None => Err(Error::usage(
                format!("a scenario ({})", scenario::names()),
                format!("{name:?}"),
                "replay --list-scenarios says what each of them does",
            )),
        }
    }

    /// The same, and then these rules. `origin` says where they are from.
    pub fn and_rules(self, rules: &str, origin: &str) -> Result<Self> {
        Ok(self.and_of(&Self::parse(rules, origin, Some(self.seed))?))
    }

    /// No rules, and what the first ones will be drawn from.
    pub fn none(seed: Option<u64>) -> Self {
        Self { rules: Arc::default(), seed: seed.unwrap_or(SEED), texts: Arc::default() }
    }

    /// These rules and more behind them, which are numbered on.
    #[must_use]
    pub fn and(&self, more: &Self) -> Self {
        self.and_numbered(more, self.rules.len())
    }

    /// The same, with numbers behind this one.
    fn and_numbered(&self, more: &Self, behind: usize) -> Self {
        let own = self.rules.len();
        let more = more.rules.iter().map(|rule| Rule {
            number: behind + rule.number,
            place: own + rule.place,
            ..rule.clone()
        });
        let rules = self.rules.iter().cloned().chain(more).collect();
        Self { rules, seed: self.seed, texts: Arc::clone(&self.texts) }
    }

    /// The same, and they are among those that a run is repeated from.
    fn and_of(&self, more: &Self) -> Self {
        let texts = self.texts.iter().chain(&*more.texts).cloned().collect();
        Self { texts, ..self.and(more) }
    }

    /// The number of each rule and the name of its fault.
    pub fn rules(&self) -> impl Iterator<Item = (usize, &'static str)> {
        self.rules.iter().map(|rule| (rule.number, rule.name))
    }

    /// What a run is repeated from: the first line of its log. The others are [`Applied`].
    pub fn log_head(&self) -> String {
        log::head_of(&self.texts, self.seed)
    }

    /// The random numbers of one rule in one place.
    fn dice(&self, rule: usize, place: &[u8], number: u64) -> Dice {
        // FNV-1a, which never changes, over what tells one draw from another.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let numbers = [self.seed, rule as u64, number].map(u64::to_le_bytes);
        for &byte in numbers.iter().flatten().chain(place) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Dice::new(hash)
    }
}

/// The names of the faults.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.rules().map(|(_, name)| name).collect();
        f.write_str(&names.join(", "))
    }
}

/// Everything that is done on the wire of one connection, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is done.
    pub act: Act,
    /// So much later than the frame that brought it about is due.
    pub later: Duration,
    /// The faults that it carries out.
    pub applied: Vec<Applied>,
    /// Whose frame brought it about.
    pub of: Arc<Subscription>,
}

/// One thing that is done on the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// A message is sent.
    Message(Message),
    /// Nothing is read, written or answered for so long.
    Stall(Duration),
    /// From here on no ping is answered.
    MutePongs,
    /// So many pings are sent.
    Pings(u64),
    /// The connection is over.
    End(End),
    /// Nothing yet: a message is held back until others have gone.
    HoldBack,
    /// Nothing: what would have been done is left out.
    Nothing,
}

/// A message as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its bytes.
    pub data: Bytes,
    /// How.
    pub form: Form,
}

/// How a message is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Form {
    /// In so many WebSocket frames; 1 or more.
    pub fragments: u64,
    /// As text instead of binary.
    pub text: bool,
    /// A few bytes at a time, with so much time between them.
    pub slowly: Option<(usize, Duration)>,
}

impl Form {
    /// In one binary frame, at once.
    pub const WHOLE: Self = Self { fragments: 1, text: false, slowly: None };
}

/// How a connection ends.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// By a close of WebSocket's.
    Close {
        /// The code, whether RFC 6455 allows it or not; None for a close without one.
        code: Option<u16>,
        /// The reason.
        reason: String,
    },
    /// By a reset of TCP's.
    Reset {
        /// What is sent of the message before.
        cut: Cut,
    },
    /// It never does: nothing is read, written or answered any more.
    HalfOpen {
        /// What is sent of the message before.
        cut: Cut,
        /// After so long it is reset; None for as long as the client stays.
        length: Option<Duration>,
    },
    /// By bytes that are no TLS.
    BreakTls,
}

/// The part of a message's bytes on the wire that is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// The message.
    pub message: Message,
    /// From 0 for nothing to 1 for all.
    pub part: f64,
}

/// The end of a connection at a moment of the recording.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedEnd {
    /// So much of the recording is played.
    pub at: Duration,
    /// How it ends.
    pub end: End,
    /// The fault that it carries out.
    pub applied: Applied,
}

/// What is said instead of an answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A proper answer.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The body.
        body: String,
        /// More headers, by name.
        headers: Vec<(String, String)>,
    },
    /// These bytes, and the end of the connection.
    Raw(Bytes),
}

/// What becomes of those who connect.
#[derive(Debug)]
pub struct Door {
    faults: Faults,
    /// The highest number that a rule has had, whether it is still there or not.
    numbered: usize,
    resolver: Resolver,
    /// How many connections there were.
    connections: u64,
    /// How many requests there were of each kind and topic.
    requests: HashMap<(Request, String), u64>,
    /// How many clients got in, by topic and subscriptions.
    entered: HashMap<Vec<u8>, u64>,
    /// For each rule and topic, how many fitted.
    fitted: HashMap<(usize, String), u64>,
}

impl Door {
    /// With nobody there yet.
    pub fn new(faults: Faults) -> Self {
        Self {
            numbered: faults.rules.len(),
            faults,
            resolver: Resolver::default(),
            connections: 0,
            requests: HashMap::new(),
            entered: HashMap::new(),
            fitted: HashMap::new(),
        }
    }

    /// More rules, behind those that there are. Returns all of them: who has got in is to be given them,
    /// too.
    pub fn inject(&mut self, more: &Faults) -> Faults {
        self.faults = self.faults.and_numbered(more, self.numbered);
        self.numbered += more.rules.len();
        self.faults.clone()
    }

    /// These rules only, and nobody was there yet. What has struck before is told from what will: numbers of
    /// rules that were added are not used again.
    pub fn renew(&mut self, faults: Faults) {
        *self = Self { numbered: self.numbered, ..Self::new(faults) };
    }

    /// The number of each rule that there is, and the name of its fault.
    pub fn rules(&self) -> impl Iterator<Item = (usize, &'static str)> {
        self.faults.rules()
    }

    /// A connection was made. What is applied if its TLS is to be broken.
    pub fn connected(&mut self) -> Option<Applied> {
        self.connections += 1;
        let (number, rules) = (self.connections, Arc::clone(&self.faults.rules));
        let breaking = rules.iter().filter(|rule| rule.fault == Fault::RefuseTls);
        // Each rule counts for itself, whether an earlier one was in the way or not.
        let drawn = breaking.filter(|rule| self.draws(rule, "", number).is_some());
        let first = drawn.collect::<Vec<_>>().into_iter().next()?;
        Some(first.applied(Place::Connection { number }, Map::new()))
    }

    /// A request came. What is said instead of an answer, if there is something. What is no topic of
    /// the feed is best called an empty one: whatever is named here is remembered.
    pub fn asked(&mut self, request: Request, topic: &str) -> Option<(Refusal, Applied)> {
        let number = self.requests.entry((request, topic.to_owned())).or_default();
        *number += 1;
        let (number, rules) = (*number, Arc::clone(&self.faults.rules));
        let mut found = None;
        // Each rule counts for itself, whether an earlier one was in the way or not.
        for rule in &*rules {
            let (refusal, detail) = match &rule.fault {
                Fault::Refuse { status, body, headers } => {
                    let (body, headers) = (body.clone(), headers.clone());
                    let refusal = Refusal::Answer { status: *status, body, headers };
                    (refusal, detail([("status", json!(status))]))
                }
                Fault::RawAnswer { text } => (
                    Refusal::Raw(Bytes::from(text.clone())),
                    detail([("bytes", json!(text.len()))]),
                ),
                _ => continue,
            };
            if rule.when.request != request || !rule.when.has_topic(topic) {
                continue;
            }
            if self.draws(rule, topic, number).is_some() && found.is_none() {
                let place = Place::Request { request, topic: topic.to_owned(), number };
                found = Some((refusal, rule.applied(place, detail)));
            }
        }
        found
    }

    /// A client got in. Its connection is counted among those with the same topic and subscriptions.
    pub fn entered<'n>(
        &mut self,
        topic: &str,
        subscriptions: impl IntoIterator<Item = &'n String>,
    ) -> Spoiler {
        let mut place = topic.as_bytes().to_vec();
        let names: Vec<_> = subscriptions.into_iter().collect();
        for name in &names {
            // No name has a control character in it.
            place.push(0);
            place.extend(name.as_bytes());
        }
        let connection = self.entered.entry(place.clone()).or_default();
        *connection += 1;
        place.push(0);
        place.extend(connection.to_le_bytes());
        let (faults, resolver) = (self.faults.clone(), self.resolver.clone());
        Spoiler::new((faults, resolver), topic, &names, *connection, place)
    }

    /// One more fits; whether it is one that the rule takes.
    fn draws(&mut self, rule: &Rule, topic: &str, number: u64) -> Option<Dice> {
        let fitted = self.fitted.entry((rule.number, topic.to_owned())).or_default();
        *fitted += 1;
        rule.when.takes(*fitted, self.faults.dice(rule.place, topic.as_bytes(), number))
    }
}

/// What one connection is up against.
#[derive(Debug)]
pub struct Spoiler {
    faults: Faults,
    resolver: Resolver,
    topic: String,
    connection: u64,
    /// What its random numbers depend on, besides rule and frame.
    place: Vec<u8>,
    /// Those that this connection may meet, and how many frames fitted each.
    rules: Vec<(Rule, u64)>,
    /// How it ends, by the first of these that comes, if no frame ends it before.
    planned: Vec<PlannedEnd>,
    /// Where it has come to by a leap; earlier moments are over.
    leapt_to: Duration,
    /// So much of the recording was played before the latest frame.
    played: Duration,
    /// The subscriptions that it was given.
    names: Vec<String>,
    lines: Ndjson,
    line: Text,
    /// Rules on which the condition has failed, each told once.
    failed: Vec<usize>,
    /// Frames so far.
    frames: u64,
    /// What is held back until so many frames have been.
    held: Vec<(u64, Vec<Step>)>,
    is_over: bool,
}

impl Spoiler {
    fn new(
        (faults, resolver): (Faults, Resolver),
        topic: &str,
        names: &[&String],
        connection: u64,
        place: Vec<u8>,
    ) -> Self {
        let mut spoiler = Self {
            lines: Ndjson::new(resolver.clone(), Style::default()),
            line: Text::default(),
            topic: topic.to_owned(),
            failed: Vec::new(),
            frames: 0,
            held: Vec::new(),
            is_over: false,
            faults: Faults::none(None),
            resolver,
            connection,
            place,
            names: names.iter().map(ToString::to_string).collect(),
            rules: Vec::new(),
            planned: Vec::new(),
            leapt_to: Duration::ZERO,
            played: Duration::ZERO,
        };
        spoiler.inject(faults, Duration::ZERO);
        spoiler
    }

    /// All rules, now that there are more and so much of the recording has been played: what the new ones
    /// count begins with the next frame, and moments that are over are.
    pub fn inject(&mut self, faults: Faults, played: Duration) {
        let played = self.played.max(played);
        let known = self.faults.rules.len();
        self.faults = faults;
        let meets = |rule: &&Rule| {
            !rule.fault.is_for_requests()
                && rule.when.has_topic(&self.topic)
                && rule.when.has_connection(self.connection)
        };
        let rules = Arc::clone(&self.faults.rules);
        let new = rules.iter().skip(known).filter(meets);
        let (planned, new): (Vec<_>, Vec<_>) = new.partition(|rule| rule.when.at.is_some());
        let has_name =
            |rule: &&Rule| self.names.iter().any(|name| rule.when.has_subscription(name));
        let planned =
            planned.into_iter().filter(has_name).filter_map(|rule| self.planned_end(rule));
        let to_come: Vec<_> = planned.filter(|end| end.at >= played).collect();
        self.planned.extend(to_come);
        self.rules.extend(new.into_iter().map(|rule| (rule.clone(), 0)));
    }

    /// The end that a rule has in store at a moment, if it is drawn.
    fn planned_end(&self, rule: &Rule) -> Option<PlannedEnd> {
        let at = rule.when.at?;
        let mut dice = rule.when.takes(1, self.faults.dice(rule.place, &self.place, 0))?;
        let mut draft = Draft::new(Bytes::new());
        let drawn = draft.take(&rule.fault, &mut dice, |_, _, _| Err(String::new())).ok()?;
        let place =
            Place::Moment { topic: self.topic.clone(), connection: self.connection, ns: nanos(at) };
        Some(PlannedEnd { at, end: draft.end?, applied: rule.applied(place, drawn) })
    }

    /// Whether nothing happens to any frame, as no rule is for this connection. There may be moments.
    pub const fn is_idle(&self) -> bool {
        self.rules.is_empty()
    }

    /// Counts a frame to which nothing happens, and before which so much of the recording is played.
    pub const fn pass(&mut self, played: Duration) {
        self.played = played;
        self.frames += 1;
    }

    /// The frames of another place follow, before which so much of the recording is played. Nothing
    /// happens at the moments before that.
    pub fn leap(&mut self, played: Duration) {
        (self.leapt_to, self.played) = (played, played);
        self.held.clear();
    }

    /// Whether nothing follows, because a fault has ended the connection.
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// What is done instead of sending a frame before which so much of the recording is played. `doubt`
    /// hears of a condition that failed on it; its rule does not apply then.
    pub fn frame(
        &mut self,
        entry: &Entry,
        played: Duration,
        mut doubt: impl FnMut(Error),
    ) -> Vec<Step> {
        let Some(frame) = entry.frame().filter(|_| !self.is_over) else { return Vec::new() };
        self.played = played;
        self.frames += 1;
        let mut draft = Draft::new(frame.data.clone());
        for (index, dice) in self.draws(entry, played, &mut doubt) {
            let rule = self.rules[index].0.clone();
            self.apply(&rule, dice, entry, &mut draft);
            if draft.is_settled() {
                break;
            }
        }
        let ends = draft.end.is_some();
        self.is_over = ends;
        let mut out = Vec::new();
        if let Some(frames) = draft.hold.filter(|_| !ends) {
            // It is held back from now on, whether it ever leaves or not.
            out.push(draft.holding(&entry.subscription));
            self.held.push((self.frames + frames, draft.steps(&entry.subscription)));
        } else {
            out.extend(draft.steps(&entry.subscription));
        }
        if !ends {
            let frames = self.frames;
            for (_, held) in self.held.extract_if(.., |(until, _)| *until <= frames) {
                out.extend(held);
            }
        }
        out
    }

    /// When the connection ends, if that is before a frame before which so much of the recording is played.
    /// Frames of the same moment go first.
    pub fn ends_before(&self, played: Duration) -> Option<Duration> {
        let at = self.next_end().map(|at| self.planned[at].at);
        at.filter(|&at| !self.is_over && at < played)
    }

    /// The next moment at which the connection would end was over before there was a client, unless a leap
    /// goes back to before it.
    pub fn pass_over_moment(&mut self) {
        if let Some(next) = self.next_end() {
            self.leapt_to = self.planned[next].at.saturating_add(Duration::from_nanos(1));
        }
    }

    /// The moment has come at which the connection ends. Nothing follows.
    pub fn end(&mut self) -> Option<PlannedEnd> {
        let at = self.next_end()?;
        self.is_over = true;
        Some(self.planned.swap_remove(at))
    }

    /// The index of the first of the earliest.
    fn next_end(&self) -> Option<usize> {
        let planned = self.planned.iter().enumerate();
        let to_come = planned.filter(|(_, end)| end.at >= self.leapt_to);
        to_come.min_by_key(|(_, end)| end.at).map(|(index, _)| index)
    }

    /// What was held back and no further frame lets go.
    pub fn rest(&mut self) -> Vec<Step> {
        if self.is_over {
            return Vec::new();
        }
        std::mem::take(&mut self.held).into_iter().flat_map(|(_, steps)| steps).collect()
    }

    /// The rules that take this frame, each with its random numbers. Every rule counts for itself.
    fn draws(
        &mut self,
        entry: &Entry,
        played: Duration,
        doubt: &mut impl FnMut(Error),
    ) -> Vec<(usize, Dice)> {
        let mut taking = Vec::new();
        // The frame as a line of JSON, made for the first rule that asks for it.
        let mut shown = None;
        for index in 0..self.rules.len() {
            let (rule, fitted) = &mut self.rules[index];
            let When { condition, .. } = &rule.when;
            if !rule.when.has_subscription(&entry.subscription.name) || !rule.when.has_time(played)
            {
                continue;
            }
            if let Some(condition) = condition {
                let line = &mut self.line;
                let shown = shown.get_or_insert_with(|| {
                    line.clear();
                    self.lines.entry(entry, line).map(|_| ())
                });
                let holds = match shown {
                    Ok(()) => condition.holds(self.line.as_bytes()),
                    Err(error) => Err(error.to_string()),
                };
                match holds {
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(reason) => {
                        if !self.failed.contains(&rule.number) {
                            self.failed.push(rule.number);
                            doubt(unjudged(entry, reason));
                        }
                        continue;
                    }
                }
            }
            *fitted += 1;
            let dice = self.faults.dice(rule.place, &self.place, self.frames);
            taking.extend(rule.when.takes(*fitted, dice).map(|dice| (index, dice)));
        }
        taking
    }

    fn apply(&self, rule: &Rule, mut dice: Dice, entry: &Entry, draft: &mut Draft) {
        let done = draft.take(&rule.fault, &mut dice, |fault, data, dice| {
            let Some(frame) = entry.frame() else { return Err("there is no frame".to_owned()) };
            mangle::mangle(fault, data, dice, (&entry.subscription, frame), &self.resolver)
        });
        let detail = done.unwrap_or_else(|reason| detail([(log::LEFT_OUT, json!(reason))]));
        let place = Place::Frame {
            topic: self.topic.clone(),
            connection: self.connection,
            frame: self.frames,
            subscription: entry.subscription.name.clone(),
            sequence: entry.frame().map_or(0, |frame| frame.sequence),
        };
        let applied = rule.applied(place, detail);
        match rule.fault {
            Fault::Reorder { .. } => draft.holds.push(applied),
            _ => draft.applied.push(applied),
        }
    }
}

fn unjudged(entry: &Entry, reason: String) -> Error {
    let subscription = entry.subscription.name.clone();
    let sequence = entry.frame().map_or(0, |frame| frame.sequence);
    Unjudged { subscription, sequence, received: entry.received, reason }.into()
}

/// What was drawn, for the log.
type Detail = Map<String, Json>;

fn detail<const N: usize>(drawn: [(&str, Json); N]) -> Detail {
    drawn.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What becomes of a frame while one rule after the other is applied.
struct Draft {
    data: Bytes,
    form: Form,
    copies: u64,
    later: Duration,
    /// What is done before it is sent.
    before: Vec<Act>,
    /// So many frames go first,
    hold: Option<u64>,
    /// because of these faults.
    holds: Vec<Applied>,
    end: Option<End>,
    applied: Vec<Applied>,
}

impl Draft {
    const fn new(data: Bytes) -> Self {
        Self {
            data,
            form: Form::WHOLE,
            copies: 1,
            later: Duration::ZERO,
            before: Vec::new(),
            hold: None,
            holds: Vec::new(),
            end: None,
            applied: Vec::new(),
        }
    }

    /// There is nothing left that could be spoilt.
    const fn is_settled(&self) -> bool {
        self.copies == 0 || self.end.is_some()
    }

    /// Carries a fault out; `mangle` does what needs the frame's schema. Says what was drawn, or why it
    /// cannot be done.
    fn take(
        &mut self,
        fault: &Fault,
        dice: &mut Dice,
        mangle: impl FnOnce(&Fault, &Bytes, &mut Dice) -> Result<(Bytes, Detail), String>,
    ) -> Result<Detail, String> {
        Ok(match fault {
            Fault::Drop => {
                self.copies = 0;
                Detail::new()
            }
            Fault::Duplicate { times } => {
                self.copies += times;
                detail([("times", json!(times))])
            }
            Fault::Reorder { within } => {
                let by = dice.within(1, *within);
                self.hold = Some(by);
                detail([("by", json!(by))])
            }
            Fault::Delay { by, jitter } => {
                let jitter = Duration::from_nanos(dice.below(nanos(*jitter).saturating_add(1)));
                let by = by.saturating_add(jitter);
                self.later = self.later.saturating_add(by);
                detail([("ns", json!(nanos(by)))])
            }
            Fault::Stall { length } => {
                self.before.push(Act::Stall(*length));
                detail([("ns", json!(nanos(*length)))])
            }
            Fault::NoPong => {
                self.before.push(Act::MutePongs);
                Detail::new()
            }
            Fault::PingFlood { count } => {
                self.before.push(Act::Pings(*count));
                detail([("count", json!(count))])
            }
            Fault::Fragment { into } => {
                self.form.fragments = *into;
                detail([("into", json!(into))])
            }
            Fault::Slow { bytes, every } => {
                self.form.slowly = Some((*bytes, *every));
                detail([("bytes", json!(bytes)), ("ns", json!(nanos(*every)))])
            }
            Fault::Text { content } => {
                self.form.text = true;
                match content {
                    TextContent::Base64 => self.data = BASE64_STANDARD.encode(&self.data).into(),
                    TextContent::Bytes => {}
                    TextContent::Words(words) => self.data = words.clone().into(),
                }
                detail([("bytes", json!(self.data.len()))])
            }
            Fault::Close { code, reason } => {
                self.end = Some(End::Close { code: *code, reason: reason.clone() });
                detail([("code", json!(code))])
            }
            Fault::Reset { part } => {
                self.end = Some(End::Reset { cut: self.cut(*part) });
                detail([("part", json!(part))])
            }
            Fault::HalfOpen { part, length } => {
                self.end = Some(End::HalfOpen { cut: self.cut(*part), length: *length });
                detail([("part", json!(part))])
            }
            Fault::BreakTls => {
                self.end = Some(End::BreakTls);
                Detail::new()
            }
            Fault::Truncate { .. }
            | Fault::FlipBits { .. }
            | Fault::Replace { .. }
            | Fault::UnknownField
            | Fault::UnknownEnum
            | Fault::DropRequired
            | Fault::Oversize { .. } => {
                let (data, detail) = mangle(fault, &self.data, dice)?;
                self.data = data;
                detail
            }
            Fault::Refuse { .. } | Fault::RawAnswer { .. } | Fault::RefuseTls => {
                return Err("there is no request to answer".to_owned());
            }
        })
    }

    fn cut(&self, part: f64) -> Cut {
        Cut { message: Message { data: self.data.clone(), form: self.form }, part }
    }

    /// That it is held back.
    fn holding(&mut self, of: &Arc<Subscription>) -> Step {
        let applied = std::mem::take(&mut self.holds);
        Step { act: Act::HoldBack, later: Duration::ZERO, applied, of: Arc::clone(of) }
    }

    fn steps(self, of: &Arc<Subscription>) -> Vec<Step> {
        let message = Message { data: self.data, form: self.form };
        let mut acts = self.before;
        match self.end {
            Some(end) => acts.push(Act::End(end)),
            None => acts.extend((0..self.copies).map(|_| Act::Message(message.clone()))),
        }
        if acts.is_empty() {
            acts.push(Act::Nothing);
        }
        // Those that hold it back are told here only where they do not.
        let mut applied = self.applied;
        applied.extend(self.holds);
        applied.sort_by_key(|applied| applied.rule);
        let mut applied = Some(applied);
        let steps = acts.into_iter().map(|act| Step {
            act,
            later: self.later,
            applied: applied.take().unwrap_or_default(),
            of: Arc::clone(of),
        });
        steps.collect()
    }
}
