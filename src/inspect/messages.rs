//! The frames of a capture one after the other, with what can be said of each in a line.

use std::{fmt::Write, sync::Arc};

use serde::Serialize;

use self::facts::Finder;
pub use self::facts::{Count, Fact, Facts};
use super::frames::{Numbered, payload_name};
use crate::{
    by_address::ByAddress,
    entry::{FrameType, Subscription, Timestamp},
    plain::{json_escape, unobeyed},
    protocol,
    schema::Resolver,
};

mod facts;

/// Longer values are cut in a line of text.
const VALUE_LENGTH: usize = 48;

/// What can be said of a frame in a line.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its number, counted over the whole capture from 1.
    pub number: u64,
    /// When it was received.
    pub received: Timestamp,
    /// Whose it is.
    pub subscription: Arc<Subscription>,
    /// Counts the frames of one connection.
    pub sequence: u32,
    /// What it is taken for.
    pub kind: Arc<FrameType>,
    /// The payload's full name, if it is known.
    pub payload: Option<Arc<str>>,
    /// Its size.
    pub bytes: usize,
    /// What it is about.
    pub facts: Facts,
}

/// Says of frames what they are about.
#[derive(Debug)]
pub struct Summaries {
    resolver: Resolver,
    known: ByAddress<Subscription, ByAddress<FrameType, Known>>,
}

#[derive(Debug)]
struct Known {
    payload: Option<Arc<str>>,
    /// None if there is no usable schema.
    finder: Option<Finder>,
}

impl Summaries {
    /// By the schema that `resolver` finds.
    pub fn new(resolver: Resolver) -> Self {
        Self { resolver, known: ByAddress::default() }
    }

    /// What can be said of a frame; if something was found in it at a byte, then of what is there.
    pub fn of(&mut self, numbered: Numbered<'_>, found: Option<usize>) -> Summary {
        let Numbered { number, entry, frame, .. } = numbered;
        let (subscription, kind) = (&entry.subscription, &frame.kind);
        let types = self.known.or_insert_with(subscription, ByAddress::default);
        let known = types.or_insert_with(kind, || Known::new(&self.resolver, subscription, kind));
        let facts = known.finder.as_ref().map(|finder| finder.facts(&frame.data, found));
        Summary {
            number,
            received: entry.received,
            subscription: Arc::clone(subscription),
            sequence: frame.sequence,
            kind: Arc::clone(kind),
            payload: known.payload.clone(),
            bytes: frame.data.len(),
            facts: facts.unwrap_or_default(),
        }
    }
}

impl Known {
    fn new(resolver: &Resolver, subscription: &Subscription, kind: &Arc<FrameType>) -> Self {
        let protocol = protocol::by_name(&subscription.protocol);
        let envelope = resolver.envelope(protocol, &subscription.topic, kind).ok();
        Self {
            payload: payload_name(protocol, envelope.as_ref(), kind).map(Arc::from),
            finder: envelope.map(|envelope| Finder::new(&envelope)),
        }
    }
}

impl Summary {
    /// Appends it as a line of text that is safe to show.
    pub fn write_line(&self, out: &mut String) {
        let Self { number, received, subscription, kind, payload, bytes, facts, .. } = self;
        let start = out.len();
        let _ = write!(out, "{number:>8}  {received}  {:16}  ", subscription.name);
        let _ = match payload {
            Some(payload) => write!(out, "{payload:33}"),
            None => write!(out, "{:33}", format!("{} (unknown)", kind.label)),
        };
        let _ = write!(out, "  {bytes:>7}");
        for Count { path, count } in &facts.counts {
            let _ = write!(out, "  {path} x{count}");
        }
        let mut gap = "  ";
        for Fact { path, value } in &facts.facts {
            let name = path.rsplit_once('.').map_or(&**path, |(_, name)| name);
            let _ = write!(out, "{gap}{name}={}", cut(value));
            gap = " ";
        }
        if let Some((byte, reason)) = &facts.broken {
            let _ = write!(out, "  broken at byte {byte}: {reason}");
        }
        if !out[start..].bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            let line = unobeyed(&out[start..], |character| character.escape_default().to_string());
            out.truncate(start);
            out.push_str(&line.replace('\n', "\\n"));
        }
        out.push('\n');
    }

    /// Appends it as a line of JSON; `docs/inspect-json.md` says what is in it.
    pub fn write_json(&self, out: &mut String) {
        let counts = self.facts.counts.iter();
        let facts = self.facts.facts.iter();
        let line = JsonLine {
            message: self.number,
            received: self.received,
            subscription: &self.subscription.name,
            topic: &self.subscription.topic,
            sequence: self.sequence,
            payload: self.payload.as_deref(),
            bytes: self.bytes,
            counts: counts.map(|count| (count.path.clone(), count.count.into())).collect(),
            facts: facts.map(|fact| (fact.path.clone(), fact.value.as_str().into())).collect(),
            broken: self.facts.broken.as_ref().map(|(byte, reason)| Broken { byte: *byte, reason }),
        };
        let json = serde_json::to_string(&line).expect("it has only what JSON has");
        out.push_str(&unobeyed(&json, json_escape));
        out.push('\n');
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    message: u64,
    received: Timestamp,
    subscription: &'a str,
    topic: &'a str,
    sequence: u32,
    #[serde(rename = "type")]
    payload: Option<&'a str>,
    bytes: usize,
    counts: serde_json::Map<String, serde_json::Value>,
    facts: serde_json::Map<String, serde_json::Value>,
    broken: Option<Broken<'a>>,
}

#[derive(Serialize)]
struct Broken<'a> {
    byte: usize,
    reason: &'a str,
}

fn cut(value: &str) -> String {
    match value.char_indices().nth(VALUE_LENGTH) {
        Some((at, _)) => format!("{}...", &value[..at]),
        None => value.to_owned(),
    }
}
