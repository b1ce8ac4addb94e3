//! Where frames and schema do not agree: what the schema does not know, what it demands and does not get,
//! and which payload would fit better.
//!
//! Each kind of disagreement is a row, with the place where it was first seen. Memory follows the number
//! of kinds, which is limited, never that of frames.

use std::{cmp::Reverse, collections::BTreeMap, ops::ControlFlow, sync::Arc};

use serde::Serialize;

use super::{
    frames::{Numbered, each_frame, payload_name},
    message::{unknown_bytes, unknown_value},
};
use crate::{
    by_address::ByAddress,
    capture::Capture,
    codec::{
        Fault, json,
        json::Text,
        notes::{Note, Notes, Oddity},
        plan::{Plan, Style},
    },
    entry::{FrameType, Subscription, Timestamp},
    error::{Error, Result},
    plain,
    protocol::{self, Protocol},
    schema::{self, Resolver},
    select::Selection,
};

/// So many kinds are told apart. Random bytes could make any number of them.
const ROWS: usize = 10_000;

/// Of so many frames of each type it is tried which payload would fit better.
const TRIED: u32 = 1000;

/// Where frames and schema do not agree.
#[derive(Clone, Debug, Serialize)]
pub struct Drift {
    /// Frames that were looked at.
    pub frames: u64,
    /// Those with which something is not as the schema says.
    pub drifted: u64,
    /// Those that cannot be decoded at all.
    pub undecodable: u64,
    /// What is not as it should be, most frequent first.
    pub rows: Vec<Row>,
    /// How often there was something of further kinds, as there are too many.
    pub others: u64,
}

/// One kind of disagreement.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What the frames are taken for: the payload's full name, or the topic.
    #[serde(rename = "type")]
    pub payload: String,
    /// What it is.
    pub what: What,
    /// The fields that lead there, joined by dots.
    pub path: String,
    /// The field's number that is not known, or the enum's.
    pub number: Option<i64>,
    /// The wire type of a field that is not known.
    pub wire_type: Option<u8>,
    /// All of it in words.
    pub words: String,
    /// How often.
    pub times: u64,
    /// In how many frames.
    pub frames: u64,
    /// The number of the first frame with it, and when that was received.
    pub first_message: u64,
    /// See `first_message`.
    pub first_received: Timestamp,
    /// What stood there in the first frame.
    pub sample: Option<String>,
    /// The payload that would have fitted most of those that were tried better.
    pub fits_better: Option<Fit>,
}

/// What is not as the schema says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A field is not declared.
    UnknownField,
    /// An enum has no name for a number.
    UnknownEnumNumber,
    /// A field is required and absent.
    MissingRequired,
    /// There are bytes, and no field of them is declared.
    NothingKnown,
    /// The payload has no bytes.
    EmptyPayload,
    /// A string is not UTF-8.
    NotUtf8,
    /// An `Any` holds a type that is not declared.
    UnknownType,
    /// The frame cannot be decoded.
    Undecodable,
}

/// A payload that fits better.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fit {
    /// The payload's full name.
    pub payload: String,
    /// So many of the frames it fits better.
    pub frames: u64,
}

/// Compares what is selected of a capture with its schema. `lost` hears of damage.
pub fn drift(
    capture: &Capture,
    selection: Selection,
    resolver: &Resolver,
    lost: impl FnMut(&Error),
) -> Result<Drift> {
    let mut fold = Fold {
        resolver,
        types: ByAddress::default(),
        notes: Notes::default(),
        text: Text::default(),
        drift: Drift { frames: 0, drifted: 0, undecodable: 0, rows: Vec::new(), others: 0 },
        kinds: 0,
    };
    each_frame(capture, selection, lost, |frame| {
        fold.frame(frame);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(fold.finish())
}

impl Drift {
    /// One JSON document over several lines; `docs/inspect-json.md` says what is in it.
    pub fn json(&self) -> String {
        plain::document(self)
    }
}

struct Fold<'r> {
    resolver: &'r Resolver,
    types: ByAddress<FrameType, Type>,
    notes: Notes,
    text: Text,
    drift: Drift,
    /// How many rows there are.
    kinds: usize,
}

/// The frames of one type.
struct Type {
    protocol: &'static dyn Protocol,
    name: String,
    /// The path of the payload.
    payload_path: String,
    /// If there is no schema, why.
    plan: std::result::Result<Plan, String>,
    rows: BTreeMap<(What, Note), Counted>,
    /// What else a payload could be; made when it is first needed.
    others: Option<Vec<(String, Plan)>>,
    tried: u32,
}

struct Counted {
    row: Row,
    /// The last frame in which it was.
    last: u64,
    fits: BTreeMap<String, u64>,
}

impl Fold<'_> {
    fn frame(&mut self, numbered: Numbered<'_>) {
        let Numbered { entry, frame, .. } = numbered;
        self.drift.frames += 1;
        let of = self.types.or_insert_with(&frame.kind, || {
            Type::new(self.resolver, &entry.subscription, &frame.kind)
        });
        let payload = of.protocol.envelope(&frame.data).payload;
        self.text.clear();
        let decoded = match &of.plan {
            Ok(plan) => json::write_fields(plan, &frame.data, &mut self.text, &mut self.notes),
            Err(reason) => Err(Fault { byte: 0, path: String::new(), reason: reason.clone() }),
        };
        if decoded.is_ok() && self.notes.list().is_empty() && !payload.is_empty() {
            return;
        }
        let mut found: Vec<(What, Note, Option<String>)> = Vec::new();
        match decoded {
            Ok(()) => {
                let notes = self.notes.list().iter();
                found.extend(notes.map(|note| (what(&note.what), note.clone(), None)));
            }
            Err(fault) => {
                self.drift.undecodable += 1;
                let words = format!("at byte {}: {}", fault.byte, fault.reason);
                let note = Note { path: fault.path, what: Oddity::NothingKnown };
                found.push((What::Undecodable, note, Some(words)));
            }
        }
        if payload.is_empty() {
            let note = Note { path: of.payload_path.clone(), what: Oddity::NothingKnown };
            found.push((What::EmptyPayload, note, None));
        }
        self.drift.drifted += 1;
        let fits = of.fits_better(self.resolver, payload, &mut self.text, &found);
        for (what, note, mut sample) in found {
            let key = (what, Note { path: note.path.clone(), what: note.what.clone().kind() });
            if !of.rows.contains_key(&key) {
                if self.kinds >= ROWS {
                    self.drift.others += 1;
                    continue;
                }
                self.kinds += 1;
                sample = sample.or_else(|| sample_of(what, &note, payload));
            }
            let name = &of.name;
            let counted = of.rows.entry(key).or_insert_with_key(|(what, note)| Counted {
                row: row(name, *what, note, numbered, sample),
                last: 0,
                fits: BTreeMap::new(),
            });
            counted.row.times += 1;
            if counted.last != numbered.number {
                counted.last = numbered.number;
                counted.row.frames += 1;
                if let Some(better) = &fits {
                    *counted.fits.entry(better.clone()).or_default() += 1;
                }
            }
        }
    }

    fn finish(mut self) -> Drift {
        for of in self.types.into_values() {
            self.drift.rows.extend(of.rows.into_values().map(|counted| {
                let best = counted.fits.into_iter().max_by_key(|(_, frames)| *frames);
                let fits_better = best.map(|(payload, frames)| Fit { payload, frames });
                Row { fits_better, ..counted.row }
            }));
        }
        self.drift.rows.sort_by_key(|row| (Reverse(row.times), row.first_message));
        self.drift
    }
}

impl Type {
    fn new(resolver: &Resolver, subscription: &Subscription, kind: &Arc<FrameType>) -> Self {
        let protocol = protocol::by_name(&subscription.protocol);
        let envelope = resolver.envelope(protocol, &subscription.topic, kind);
        let declared = envelope.as_ref().ok();
        let field = declared.and_then(|envelope| schema::payload_field(protocol, envelope));
        let name = payload_name(protocol, declared, kind);
        Self {
            protocol,
            name: name.unwrap_or_else(|| kind.label.clone()),
            payload_path: field.map(|field| field.name().to_owned()).unwrap_or_default(),
            plan: envelope
                .map(|envelope| Plan::new(&envelope, Style::default()))
                .map_err(|error| error.to_string()),
            rows: BTreeMap::new(),
            others: None,
            tried: 0,
        }
    }

    /// Which payload would fit the frame better than its own, if that does not fit well.
    fn fits_better(
        &mut self,
        resolver: &Resolver,
        payload: &[u8],
        text: &mut Text,
        found: &[(What, Note, Option<String>)],
    ) -> Option<String> {
        let own = badness(found.iter().map(|(what, ..)| *what));
        // New fields and new names are no reason to doubt it.
        let is_doubtful = found.iter().any(|(what, note, _)| match what {
            What::Undecodable | What::NothingKnown => true,
            What::UnknownField => note.path == self.payload_path,
            What::MissingRequired => {
                let parent = note.path.rsplit_once('.');
                parent.is_some_and(|(parent, _)| parent == self.payload_path)
            }
            _ => false,
        });
        if !is_doubtful || payload.is_empty() || self.tried >= TRIED {
            return None;
        }
        self.tried += 1;
        let (protocol, name) = (self.protocol, &self.name);
        let others = self.others.get_or_insert_with(|| candidates(protocol, resolver, name));
        let mut notes = Notes::default();
        let tried = others.iter().filter_map(|(name, plan)| {
            text.clear();
            json::write(plan, payload, text, &mut notes).ok()?;
            // To know nothing at all is no fit.
            if notes.list().iter().any(|note| what(&note.what) == What::NothingKnown) {
                return None;
            }
            let badness = badness(notes.list().iter().map(|note| what(&note.what)));
            (badness < own).then_some((badness, name))
        });
        let best = tried.min_by_key(|(badness, _)| *badness);
        best.map(|(_, name)| name.clone())
    }
}

/// How badly a payload fits: what weighs most is that nothing of it is known.
fn badness(found: impl Iterator<Item = What>) -> u64 {
    found
        .map(|what| match what {
            What::Undecodable => 1_000_000,
            What::NothingKnown => 10_000,
            What::MissingRequired => 100,
            _ => 1,
        })
        .sum()
}

fn candidates(
    protocol: &'static dyn Protocol,
    resolver: &Resolver,
    own: &str,
) -> Vec<(String, Plan)> {
    let others = protocol.payloads().filter(|payload| payload.message != own);
    others
        .filter_map(|payload| {
            let found = resolver.frame_type(protocol, payload.label, Some(payload.message));
            let declared = schema::payload_type(protocol, &found.ok()?.1)?;
            let plan = Plan::new(&declared, Style::default());
            Some((payload.message.to_owned(), plan))
        })
        .collect()
}

const fn what(oddity: &Oddity) -> What {
    match oddity {
        Oddity::Field { .. } => What::UnknownField,
        Oddity::EnumNumber { .. } => What::UnknownEnumNumber,
        Oddity::MissingRequired => What::MissingRequired,
        Oddity::NothingKnown => What::NothingKnown,
        Oddity::NotUtf8 => What::NotUtf8,
        Oddity::UnknownType { .. } => What::UnknownType,
    }
}

/// What stands there; of a message of which nothing is known, how the payload begins.
fn sample_of(what: What, note: &Note, payload: &[u8]) -> Option<String> {
    match (what, &note.what) {
        (What::UnknownField, Oddity::Field { wire_type, value, .. }) => {
            Some(unknown_value(*wire_type, value))
        }
        (What::UnknownEnumNumber, Oddity::EnumNumber { number }) => Some(number.to_string()),
        (What::UnknownType, Oddity::UnknownType { url }) => Some(format!("{url:?}")),
        (What::NothingKnown, _) => Some(unknown_bytes(payload)),
        _ => None,
    }
}

fn row(
    payload: &str,
    what: What,
    note: &Note,
    numbered: Numbered<'_>,
    sample: Option<String>,
) -> Row {
    let path = if note.path.is_empty() { "the message" } else { &note.path };
    let words = match what {
        What::Undecodable => format!("{path} cannot be decoded"),
        What::EmptyPayload => format!("{path} has no bytes"),
        _ => note.to_string(),
    };
    let (number, wire_type) = match note.what {
        Oddity::Field { number, wire_type, .. } => (Some(i64::from(number)), Some(wire_type)),
        Oddity::EnumNumber { number } => (Some(i64::from(number)), None),
        _ => (None, None),
    };
    Row {
        payload: payload.to_owned(),
        what,
        path: note.path.clone(),
        number,
        wire_type,
        words,
        times: 0,
        frames: 0,
        first_message: numbered.number,
        first_received: numbered.entry.received,
        sample,
        fits_better: None,
    }
}
