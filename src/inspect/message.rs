//! One frame taken apart: its bytes and what each says on the wire, the frame as it is decoded, and what
//! the schema does not know of it.

use std::ops::ControlFlow;

use bytes::Bytes;
use prost_reflect::MessageDescriptor;
use serde::Serialize;
use serde_json::value::RawValue;

pub use self::tree::{Line, Standing};
pub(super) use self::tree::{unknown_bytes, unknown_value};
use super::frames::{Numbered, each_frame, payload_name};
use crate::{
    by_address::ByAddress,
    capture::Capture,
    codec::{
        json::{self, Text},
        notes::Notes,
        plan::{Plan, Style},
    },
    entry::{FrameType, Timestamp},
    error::{Error, Result, counted},
    plain::{json_escape, unobeyed},
    protocol,
    schema::Resolver,
    select::Selection,
    sink::{Sink, ndjson::Ndjson},
};

mod tree;

/// So many fields of a frame are shown unless somebody wants more.
pub const LINES: usize = 10_000;

/// Larger frames are not decoded here, where all is held in memory more than once.
const DECODED_LIMIT: usize = 16 * 1024 * 1024;

/// A frame, taken apart.
#[derive(Clone, Debug, Serialize)]
pub struct Dissection {
    /// Its number, counted over the whole capture from 1.
    pub message: u64,
    /// When it was received.
    pub received: Timestamp,
    /// The envelope's own time, if it has one.
    pub time: Option<Timestamp>,
    /// Whose it is.
    pub subscription: String,
    /// The topic that was asked for.
    pub topic: String,
    /// Counts the frames of one connection.
    pub sequence: u32,
    /// The payload's full name, if it is known.
    #[serde(rename = "type")]
    pub payload: Option<String>,
    /// Its size.
    pub bytes: usize,
    /// The bytes themselves.
    #[serde(skip)]
    pub data: Bytes,
    /// Its fields, in the order of the bytes: together they are about all bytes but the last
    /// `left_out`.
    pub wire: Vec<Line>,
    /// So many bytes at the end have no line, as there would be too many.
    pub left_out: usize,
    /// As `decode` shows it; None if it cannot be decoded.
    pub decoded: Option<Box<RawValue>>,
    /// Why it cannot, and at which byte.
    pub fault: Option<String>,
    /// What the schema does not know of it, in words.
    pub unknown: Vec<String>,
}

/// Takes the frame of that number apart. `lost` hears of damage on the way.
pub fn message(
    capture: &Capture,
    number: u64,
    dissector: &mut Dissector,
    lost: impl FnMut(&Error),
) -> Result<Dissection> {
    let (mut found, mut frames) = (None, 0);
    each_frame(capture, Selection::default(), lost, |frame| {
        frames = frame.number;
        if frame.number < number {
            return Ok(ControlFlow::Continue(()));
        }
        found = Some(dissector.dissect(frame));
        Ok(ControlFlow::Break(()))
    })?;
    found.ok_or_else(|| {
        let expected = match frames {
            0 => "a capture with frames".to_owned(),
            frames => format!("the number of one of {}", counted(frames, "frame")),
        };
        Error::usage(expected, number.to_string(), "inspect --messages shows the numbers")
    })
}

/// Takes frames apart.
#[derive(Debug)]
pub struct Dissector {
    resolver: Resolver,
    style: Style,
    limit: usize,
    lines: Ndjson,
    plans: ByAddress<FrameType, Plan>,
}

impl Dissector {
    /// By the schema that `resolver` finds. The decoded frame is spelled in `style`, and at most `limit`
    /// fields have a line: [`LINES`] by default.
    pub fn new(resolver: Resolver, style: Style, limit: usize) -> Self {
        let lines = Ndjson::new(resolver.clone(), style);
        Self { resolver, style, limit, lines, plans: ByAddress::default() }
    }

    /// Takes a frame apart. Whatever its bytes are, something comes of it.
    pub fn dissect(&mut self, of: Numbered<'_>) -> Dissection {
        let Numbered { number, entry, frame, .. } = of;
        let subscription = &entry.subscription;
        let protocol = protocol::by_name(&subscription.protocol);
        let schema = self.resolver.envelope(protocol, &subscription.topic, &frame.kind);
        let (wire, left_out) = tree::lines(&frame.data, schema.as_ref().ok(), self.limit);
        let payload = payload_name(protocol, schema.as_ref().ok(), &frame.kind);
        let mut notes = Notes::default();
        let decoded = schema
            .map_err(|error| error.to_string())
            .and_then(|envelope| self.decoded(&envelope, of, &mut notes));
        let (decoded, fault) = match decoded {
            Ok(decoded) => (Some(decoded), None),
            Err(fault) => (None, Some(fault)),
        };
        Dissection {
            message: number,
            received: entry.received,
            time: frame.sent.or_else(|| protocol.envelope(&frame.data).time),
            subscription: subscription.name.clone(),
            topic: subscription.topic.clone(),
            sequence: frame.sequence,
            payload,
            bytes: frame.data.len(),
            data: frame.data.clone(),
            wire,
            left_out,
            unknown: notes.list().iter().map(ToString::to_string).collect(),
            decoded,
            fault,
        }
    }

    /// The frame as `decode` shows it, or why it cannot be shown.
    fn decoded(
        &mut self,
        envelope: &MessageDescriptor,
        of: Numbered<'_>,
        notes: &mut Notes,
    ) -> Result<Box<RawValue>, String> {
        let Numbered { entry, frame, .. } = of;
        if frame.data.len() > DECODED_LIMIT {
            return Err(format!("only decode takes more than {DECODED_LIMIT} bytes"));
        }
        let plan = self.plans.or_insert_with(&frame.kind, || Plan::new(envelope, self.style));
        let mut line = Text::default();
        json::write_fields(plan, &frame.data, &mut line, notes)
            .map_err(|fault| format!("at byte {}: {fault}", fault.byte))?;
        line.clear();
        self.lines.entry(entry, &mut line).map_err(|error| error.to_string())?;
        let line = String::from_utf8_lossy(line.as_bytes().trim_ascii_end()).into_owned();
        RawValue::from_string(line).map_err(|error| error.to_string())
    }
}

impl Dissection {
    /// One JSON document over several lines; `docs/inspect-json.md` says what is in it.
    pub fn json(&self) -> String {
        let json = serde_json::to_string(self).expect("it has only what JSON has");
        let mut text = Text::default();
        crate::sink::json::pretty(json.as_bytes(), 0, &mut text);
        text.extend(b"\n");
        unobeyed(&String::from_utf8_lossy(text.as_bytes()), json_escape)
    }

    /// The decoded frame over several lines, safe to show, and how many bytes of its JSON these leave out
    /// if it has more than `limit`; None if it cannot be decoded.
    pub fn decoded_lines(&self, limit: usize) -> Option<(Vec<String>, usize)> {
        let decoded = self.decoded.as_ref()?.get().as_bytes();
        let shown = &decoded[..decoded.len().min(limit)];
        let mut text = Text::default();
        crate::sink::json::pretty(shown, 0, &mut text);
        let text = unobeyed(&String::from_utf8_lossy(text.as_bytes()), json_escape);
        Some((text.lines().map(str::to_owned).collect(), decoded.len() - shown.len()))
    }

    /// What the schema does not know, in words that are safe to show.
    pub fn unknown_lines(&self) -> impl Iterator<Item = String> {
        self.unknown.iter().map(|note| tree::one_line(note))
    }
}
