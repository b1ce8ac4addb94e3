//! One frame, one line: the shape that README and CLI promise.

use std::io::Write;

use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::{
    codec::reflect::{self, Style},
    entry::{Entry, Frame, Timestamp},
    error::{Error, Result, Undecodable},
    protocol,
    schema::Resolver,
};

/// Turns frames into lines of JSON.
#[derive(Debug)]
pub struct Ndjson {
    resolver: Resolver,
    style: Style,
}

#[derive(Serialize)]
struct Line<'a> {
    received: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    subscription: &'a str,
    topic: &'a str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(flatten)]
    envelope: &'a Map<String, Json>,
}

impl Ndjson {
    /// Lines in this style, decoded with what `resolver` finds.
    pub const fn new(resolver: Resolver, style: Style) -> Self {
        Self { resolver, style }
    }

    /// Appends the entry's line, if it is a frame and decodes. On an error nothing is appended.
    pub fn line(&mut self, entry: &Entry, out: &mut Vec<u8>) -> Result<()> {
        let Some(frame) = entry.frame() else { return Ok(()) };
        let protocol = protocol::by_name(&entry.subscription.protocol);
        let envelope = self.resolver.envelope(protocol, &entry.subscription.topic, &frame.kind)?;
        let decoded = reflect::decode(&envelope, &frame.data)
            .map_err(|fault| undecodable(entry, frame, &fault))?;
        let Json::Object(fields) = reflect::to_json(&decoded, self.style) else {
            return Ok(());
        };
        let (_, payload_field) = protocol.envelope_message();
        let payload = envelope.get_field(payload_field).map(|field| field.kind());
        let kind = payload.as_ref().and_then(prost_reflect::Kind::as_message);
        let line = Line {
            received: entry.received.to_string(),
            time: protocol.envelope(&frame.data).time.as_ref().map(Timestamp::to_string),
            subscription: &entry.subscription.name,
            topic: &entry.subscription.topic,
            kind: kind.map(prost_reflect::MessageDescriptor::full_name),
            envelope: &fields,
        };
        serde_json::to_writer(&mut *out, &line).map_err(|error| Error::output(error.into()))?;
        out.write_all(b"\n").map_err(Error::output)
    }
}

fn undecodable(entry: &Entry, frame: &Frame, fault: &reflect::Fault) -> Error {
    Undecodable {
        subscription: entry.subscription.name.clone(),
        sequence: frame.sequence,
        received: entry.received,
        byte: fault.byte,
        reason: fault.to_string(),
    }
    .into()
}
